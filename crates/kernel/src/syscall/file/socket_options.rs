//! `setsockopt` and `getsockopt`.
//!
//! # Source
//! man 7 `socket`; Linux 6.12 `net/core/sock.c:sk_setsockopt`.

use machine::VirtAddr;

use super::low32;
use super::socket::socket_of;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;
use crate::syscall::time::read_timeval;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        54 => sys_setsockopt,
        55 => sys_getsockopt,
        _ => return None,
    })
}

const SOL_SOCKET: u32 = 1;

/// Options of `SOL_SOCKET`, x86-64.
mod option {
    pub(super) const REUSEADDR: u32 = 2;
    pub(super) const TYPE: u32 = 3;
    pub(super) const ERROR: u32 = 4;
    pub(super) const BROADCAST: u32 = 6;
    pub(super) const SNDBUF: u32 = 7;
    pub(super) const RCVBUF: u32 = 8;
    pub(super) const KEEPALIVE: u32 = 9;
    pub(super) const PRIORITY: u32 = 12;
    pub(super) const LINGER: u32 = 13;
    pub(super) const REUSEPORT: u32 = 15;
    pub(super) const PASSCRED: u32 = 16;
    pub(super) const PEERCRED: u32 = 17;
    pub(super) const RCVLOWAT: u32 = 18;
    pub(super) const RCVTIMEO: u32 = 20;
    pub(super) const SNDTIMEO: u32 = 21;
    pub(super) const TIMESTAMP: u32 = 29;
    pub(super) const ACCEPTCONN: u32 = 30;
    pub(super) const SNDBUFFORCE: u32 = 32;
    pub(super) const RCVBUFFORCE: u32 = 33;
    pub(super) const MARK: u32 = 36;
    pub(super) const PROTOCOL: u32 = 38;
    pub(super) const DOMAIN: u32 = 39;

    /// The usual number of an option that has two: `SO_RCVTIMEO_NEW`, `SO_SNDTIMEO_NEW` have times
    /// of 64 bits everywhere.
    pub(super) const fn usual(name: u32) -> u32 {
        match name {
            66 => RCVTIMEO,
            67 => SNDTIMEO,
            name => name,
        }
    }
}

/// `net.core.wmem_max` and `rmem_max`.
const BUFFER_BYTES_MAX: u32 = 212_992;
/// `SOCK_MIN_SNDBUF` and `SOCK_MIN_RCVBUF`.
const SEND_BYTES_MIN: u32 = 4608;
const RECEIVE_BYTES_MIN: u32 = 2304;

fn sys_setsockopt(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [fd, level, name, addr, bytes, _] = args;
    let (_, id) = socket_of(kernel, fd)?;
    if low32(bytes).cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    if low32(level) != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    let name = option::usual(low32(name));
    if matches!(name, option::TYPE | option::ERROR | option::DOMAIN | option::PROTOCOL) {
        return Err(Errno::ENOPROTOOPT);
    }
    if low32(bytes) < 4 {
        return Err(Errno::EINVAL);
    }
    let value = kernel.read_user_u32(VirtAddr::new(addr))?;
    if matches!(name, option::RCVTIMEO | option::SNDTIMEO) {
        if low32(bytes) < 16 {
            return Err(Errno::EINVAL);
        }
        let ns = read_timeval(kernel, addr)?;
        let timeout = (ns > 0).then_some(ns);
        let direction = usize::from(name == option::SNDTIMEO);
        kernel.vfs.socket_mut(id)?.timeouts_ns[direction] = timeout;
        return Ok(0);
    }
    let socket = kernel.vfs.socket_mut(id)?;
    let kept = match name {
        option::PASSCRED => {
            socket.wants_sender = value != 0;
            return Ok(0);
        }
        option::SNDBUF | option::SNDBUFFORCE => {
            let granted = value.min(BUFFER_BYTES_MAX).saturating_mul(2).max(SEND_BYTES_MIN);
            socket.send_bytes_max = usize::try_from(granted).unwrap_or(usize::MAX);
            return Ok(0);
        }
        option::RCVBUF | option::RCVBUFFORCE => {
            value.min(BUFFER_BYTES_MAX).saturating_mul(2).max(RECEIVE_BYTES_MIN)
        }
        option::REUSEADDR
        | option::BROADCAST
        | option::KEEPALIVE
        | option::REUSEPORT
        | option::TIMESTAMP => u32::from(value != 0),
        option::PRIORITY | option::RCVLOWAT | option::MARK | option::LINGER => value,
        _ => return Err(Errno::ENOPROTOOPT),
    };
    let name = if name == option::RCVBUFFORCE { option::RCVBUF } else { name };
    socket.options.insert(name, kept);
    Ok(0)
}

fn sys_getsockopt(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [fd, level, name, addr, bytes, _] = args;
    let (_, id) = socket_of(kernel, fd)?;
    if low32(level) != SOL_SOCKET {
        return Err(Errno::EOPNOTSUPP);
    }
    let room = kernel.read_user_u32(VirtAddr::new(bytes))?;
    if room.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let is_listening = kernel.is_listening(id);
    let socket = kernel.vfs.socket_mut(id)?;
    let name = option::usual(low32(name));
    let word = |value: u32| value.to_le_bytes().to_vec();
    let answer = match name {
        option::TYPE => word(socket.kind.number()),
        option::ERROR => word(socket.error.take().map_or(0, |errno| errno.number().into())),
        option::DOMAIN => word(1),
        option::PROTOCOL => word(0),
        option::ACCEPTCONN => word(is_listening.into()),
        option::PASSCRED => word(socket.wants_sender.into()),
        option::SNDBUF => word(u32::try_from(socket.send_bytes_max).unwrap_or(u32::MAX)),
        option::RCVBUF => word(*socket.options.get(&name).unwrap_or(&BUFFER_BYTES_MAX)),
        option::PEERCRED => {
            let sender = socket.peer_sender;
            [sender.pid, sender.uid, sender.gid].map(u32::to_le_bytes).concat()
        }
        option::RCVTIMEO | option::SNDTIMEO => {
            let direction = usize::from(name == option::SNDTIMEO);
            let ns = socket.timeouts_ns[direction].unwrap_or(0);
            [ns / 1_000_000_000, ns % 1_000_000_000 / 1000].map(u64::to_le_bytes).concat()
        }
        option::LINGER => [0, 0].map(u32::to_le_bytes).concat(),
        option::RCVLOWAT => word(*socket.options.get(&name).unwrap_or(&1)),
        option::REUSEADDR
        | option::BROADCAST
        | option::KEEPALIVE
        | option::REUSEPORT
        | option::TIMESTAMP
        | option::PRIORITY
        | option::MARK => word(*socket.options.get(&name).unwrap_or(&0)),
        _ => return Err(Errno::ENOPROTOOPT),
    };
    let count = usize::try_from(room).unwrap_or(0).min(answer.len());
    kernel.write_user(VirtAddr::new(addr), &answer[..count])?;
    kernel.write_user_u32(VirtAddr::new(bytes), u32::try_from(count).unwrap_or(0))?;
    Ok(0)
}
