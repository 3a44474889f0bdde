//! Sockets of a system without a network: they can be made, and connect to nothing.
//!
//! Name services of the C library open a UNIX socket and go on when nobody listens there.
//!
//! # Source
//! man 2 `socket`, `connect`; man 7 `unix`.

use machine::VirtAddr;

use super::open::install;
use super::{in_tree, low32};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{FileId, Follow, Grant, Inherit, Opened, Socket, WalkRules, flag, permits};
use crate::syscall::Handler;

const AF_UNIX: u32 = 1;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        41 => sys_socket,
        42 => sys_connect,
        43 | 50 | 288 => sys_listen_or_accept,
        44..=47 | 299 | 307 => sys_transfer,
        48 | 52 => sys_not_connected,
        49 => sys_bind,
        51 => sys_getsockname,
        53 => sys_socketpair,
        54 => sys_setsockopt,
        55 => sys_getsockopt,
        _ => return None,
    })
}

fn sys_socket(kernel: &mut Kernel, [family, kind, protocol, ..]: [u64; 6]) -> SysResult {
    const STREAM: u32 = 1;
    const DATAGRAM: u32 = 2;
    const PACKET: u32 = 5;
    let (family, kind) = (low32(family), low32(kind));
    let bare = kind & !(flag::CLOEXEC | flag::NONBLOCK);
    if family != AF_UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if !matches!(bare, STREAM | DATAGRAM | PACKET) {
        return Err(Errno::ESOCKTNOSUPPORT);
    }
    if low32(protocol) > AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let status = flag::RDWR | kind & flag::NONBLOCK;
    let file = kernel.vfs.open_socket(Socket { family, kind: bare }, status);
    let limit = kernel.files_max();
    let inherit = if kind & flag::CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep };
    install(kernel, file, inherit, limit)
}

fn socket_of(kernel: &Kernel, fd: u64) -> Result<(FileId, Socket), Errno> {
    let file = kernel.files.get(fd)?;
    match kernel.vfs.file(file).opened {
        Opened::Socket(socket) => Ok((file, socket)),
        Opened::Path(_) => Err(Errno::EBADF),
        _ => Err(Errno::ENOTSOCK),
    }
}

/// The path of a UNIX address.
fn unix_path(kernel: &mut Kernel, addr: u64, bytes: u64) -> Result<Vec<u8>, Errno> {
    const BYTES_MAX: u32 = 110;
    let bytes = low32(bytes);
    if !(3..=BYTES_MAX).contains(&bytes) {
        return Err(Errno::EINVAL);
    }
    let mut address = vec![0; usize::try_from(bytes).unwrap_or(0)];
    kernel.read_user(VirtAddr::new(addr), &mut address)?;
    if address[..2] != [1, 0] {
        return Err(Errno::EINVAL);
    }
    let path = &address[2..];
    if path[0] == 0 {
        // The abstract names: nobody listens there.
        return Err(Errno::ECONNREFUSED);
    }
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
    Ok(path[..end].to_vec())
}

fn sys_connect(kernel: &mut Kernel, [fd, addr, bytes, ..]: [u64; 6]) -> SysResult {
    kernel.files.get(fd)?;
    let path = unix_path(kernel, addr, bytes)?;
    socket_of(kernel, fd)?;
    in_tree(kernel, |vfs, view| {
        let start = vfs.start_of(view, super::AT_FDCWD, &path)?;
        let walk = vfs.walk(view, start, &path, Follow::Yes, WalkRules::default())?;
        let walk = vfs.checked(walk)?;
        permits(view, &vfs.stat_target(&walk.target)?, Grant::WRITE)?;
        // Sockets of the host are not for the guest: as if nobody listened.
        Err(Errno::ECONNREFUSED)
    })
}

fn sys_bind(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    socket_of(kernel, fd)?;
    Err(Errno::EACCES)
}

fn sys_listen_or_accept(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    socket_of(kernel, fd)?;
    Err(Errno::EINVAL)
}

fn sys_transfer(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    socket_of(kernel, fd)?;
    Err(Errno::ENOTCONN)
}

fn sys_not_connected(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    socket_of(kernel, fd)?;
    Err(Errno::ENOTCONN)
}

fn sys_getsockname(kernel: &mut Kernel, [fd, addr, bytes, ..]: [u64; 6]) -> SysResult {
    let (_, socket) = socket_of(kernel, fd)?;
    let room = kernel.read_user_u32(VirtAddr::new(bytes))?;
    let family = socket.family.to_le_bytes();
    let count = usize::try_from(room.min(2)).unwrap_or(0);
    kernel.write_user(VirtAddr::new(addr), &family[..count])?;
    kernel.write_user_u32(VirtAddr::new(bytes), 2)?;
    Ok(0)
}

/// Both ends would be in the one task; a pair of pipes is what programs use it for.
fn sys_socketpair(_kernel: &mut Kernel, [family, ..]: [u64; 6]) -> SysResult {
    Err(if low32(family) == AF_UNIX { Errno::EOPNOTSUPP } else { Errno::EAFNOSUPPORT })
}

fn sys_setsockopt(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    socket_of(kernel, fd)?;
    Ok(0)
}

fn sys_getsockopt(kernel: &mut Kernel, [fd, level, name, value, bytes, _]: [u64; 6]) -> SysResult {
    const SOL_SOCKET: u32 = 1;
    const SO_TYPE: u32 = 3;
    const SO_ERROR: u32 = 4;
    const SO_DOMAIN: u32 = 39;
    let (_, socket) = socket_of(kernel, fd)?;
    let answer = match (low32(level), low32(name)) {
        (SOL_SOCKET, SO_TYPE) => socket.kind,
        (SOL_SOCKET, SO_ERROR) => 0,
        (SOL_SOCKET, SO_DOMAIN) => socket.family,
        _ => return Err(Errno::ENOPROTOOPT),
    };
    kernel.write_user_u32(VirtAddr::new(value), answer)?;
    kernel.write_user_u32(VirtAddr::new(bytes), 4)?;
    Ok(0)
}
