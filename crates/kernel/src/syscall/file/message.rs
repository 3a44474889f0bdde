//! Sending and receiving through sockets, with open files and credentials beside the bytes.
//!
//! # Source
//! man 2 `send`, `recv`, man 3 `cmsg`, man 7 `unix`; Linux 6.12 `net/socket.c`, `net/core/scm.c`.

use machine::VirtAddr;

use super::low32;
use super::read_write::{Buffers, PIECE_BYTES};
use super::socket::{Address, address, find_socket, socket_of, write_address};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{FileId, Inherit, Received, Sender, SocketId, SocketKind, Take};
use crate::syscall::Handler;
use crate::syscall::time::read_timespec;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        44 => sys_sendto,
        45 => sys_recvfrom,
        46 => sys_sendmsg,
        47 => sys_recvmsg,
        299 => sys_recvmmsg,
        307 => sys_sendmmsg,
        _ => return None,
    })
}

const MSG_OOB: u32 = 1;
const MSG_PEEK: u32 = 2;
const MSG_CTRUNC: u32 = 8;
const MSG_TRUNC: u32 = 0x20;
const MSG_DONTWAIT: u32 = 0x40;
const MSG_WAITALL: u32 = 0x100;
const MSG_NOSIGNAL: u32 = 0x4000;
const MSG_WAITFORONE: u32 = 0x1_0000;
const MSG_CMSG_CLOEXEC: u32 = 0x4000_0000;

const SOL_SOCKET: u32 = 1;
const SCM_RIGHTS: u32 = 1;
const SCM_CREDENTIALS: u32 = 2;
/// Bytes of `struct cmsghdr`.
const CONTROL_HEAD_BYTES: usize = 16;
/// Most bytes of control messages that are looked at: `net.core.optmem_max`.
const CONTROL_BYTES_MAX: u64 = 131_072;
/// Most open files in one message: `SCM_MAX_FD`.
const FILES_MAX: usize = 253;
/// Bytes of `struct mmsghdr`.
const MANY_HEAD_BYTES: u64 = 64;
/// Most messages of one call: `UIO_MAXIOV`.
const MANY_MAX: u32 = 1024;

/// `struct msghdr`.
struct Head {
    addr: u64,
    name: u64,
    name_bytes: u32,
    buffers: Buffers,
    control: u64,
    control_bytes: u64,
}

impl Head {
    fn read(kernel: &mut Kernel, addr: u64) -> Result<Self, Errno> {
        const VECTORS_MAX: u64 = 1024;
        let mut words = [0; 7];
        for (index, word) in (0..).zip(&mut words) {
            *word = kernel.read_user_u64(VirtAddr::new(addr.wrapping_add(index * 8)))?;
        }
        let [name, name_bytes, vector, count, control, control_bytes, _flags] = words;
        if low32(name_bytes).cast_signed() < 0 {
            return Err(Errno::EINVAL);
        }
        if count > VECTORS_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let buffers = Buffers::read(kernel, vector, count)?;
        let name_bytes = low32(name_bytes);
        Ok(Self { addr, name, name_bytes, buffers, control, control_bytes })
    }
}

/// What goes along with the bytes.
struct Extra {
    target: Option<SocketId>,
    files: Vec<FileId>,
    sender: Sender,
}

fn sys_sendto(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [fd, bytes, count, flags, name, name_bytes] = args;
    let buffers = Buffers::one(kernel, bytes, count)?;
    let (_, id) = socket_of(kernel, fd)?;
    let target = if name == 0 { None } else { target(kernel, id, name, name_bytes)? };
    let sender = kernel.own_sender();
    send(kernel, fd, &buffers, low32(flags), &Extra { target, files: Vec::new(), sender })
}

/// Whom an address of a message means.
fn target(
    kernel: &mut Kernel,
    id: SocketId,
    name: u64,
    name_bytes: u64,
) -> Result<Option<SocketId>, Errno> {
    if low32(name_bytes) == 0 {
        return Ok(None);
    }
    let socket = kernel.vfs.socket(id)?;
    let (kind, has_peer) = (socket.kind, socket.peer.is_some());
    let address = address(kernel, name, name_bytes)?;
    match kind {
        SocketKind::Stream => Err(if has_peer { Errno::EISCONN } else { Errno::EOPNOTSUPP }),
        // Linux ignores it there.
        SocketKind::Packet => Ok(None),
        SocketKind::Datagram => match address {
            Address::Unspecified | Address::Unnamed => Err(Errno::EINVAL),
            address => find_socket(kernel, &address).map(Some),
        },
    }
}

fn sys_sendmsg(kernel: &mut Kernel, [fd, head, flags, ..]: [u64; 6]) -> SysResult {
    let (_, id) = socket_of(kernel, fd)?;
    let head = Head::read(kernel, head)?;
    send_head(kernel, fd, id, &head, low32(flags))
}

fn send_head(kernel: &mut Kernel, fd: u64, id: SocketId, head: &Head, flags: u32) -> SysResult {
    let target = match head.name {
        0 => None,
        name => target(kernel, id, name, head.name_bytes.into())?,
    };
    let mut extra = Extra { target, files: Vec::new(), sender: kernel.own_sender() };
    read_control(kernel, head, &mut extra)?;
    send(kernel, fd, &head.buffers, flags, &extra)
}

/// Takes open files and credentials from control messages.
///
/// # Errors
/// `EINVAL`: malformed. `ENOBUFS`: too long. `EBADF`: no such file. `EPERM`: not his to claim.
fn read_control(kernel: &mut Kernel, head: &Head, extra: &mut Extra) -> Result<(), Errno> {
    if head.control == 0 || head.control_bytes == 0 {
        return Ok(());
    }
    if head.control_bytes > CONTROL_BYTES_MAX {
        return Err(Errno::ENOBUFS);
    }
    let mut bytes = vec![0; usize::try_from(head.control_bytes).unwrap_or(0)];
    kernel.read_user(VirtAddr::new(head.control), &mut bytes)?;
    let mut rest = &bytes[..];
    while rest.len() >= CONTROL_HEAD_BYTES {
        let length = usize::try_from(word64(rest, 0)).map_err(|_| Errno::EINVAL)?;
        if length < CONTROL_HEAD_BYTES || length > rest.len() {
            return Err(Errno::EINVAL);
        }
        let data = &rest[CONTROL_HEAD_BYTES..length];
        if word(rest, 8) == SOL_SOCKET {
            match word(rest, 12) {
                SCM_RIGHTS => take_files(kernel, data, &mut extra.files)?,
                SCM_CREDENTIALS => extra.sender = claimed_sender(kernel, data)?,
                _ => return Err(Errno::EINVAL),
            }
        }
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or(&[]);
    }
    Ok(())
}

/// The 32-bit word at a place of a block.
fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u32::from_le_bytes(*word))
}

fn word64(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |word| u64::from_le_bytes(*word))
}

fn take_files(kernel: &Kernel, data: &[u8], files: &mut Vec<FileId>) -> Result<(), Errno> {
    for number in data.chunks_exact(4) {
        if files.len() >= FILES_MAX {
            return Err(Errno::EINVAL);
        }
        files.push(kernel.files.get(word(number, 0).into())?);
    }
    Ok(())
}

fn claimed_sender(kernel: &Kernel, data: &[u8]) -> Result<Sender, Errno> {
    if data.len() != 12 {
        return Err(Errno::EINVAL);
    }
    let claimed = Sender { pid: word(data, 0), uid: word(data, 4), gid: word(data, 8) };
    let own = kernel.own_sender();
    if own.uid != 0 && claimed != own {
        return Err(Errno::EPERM);
    }
    if kernel.process_of(claimed.pid).is_none() {
        return Err(Errno::ESRCH);
    }
    Ok(claimed)
}

fn send(kernel: &mut Kernel, fd: u64, buffers: &Buffers, flags: u32, extra: &Extra) -> SysResult {
    let (file, id) = socket_of(kernel, fd)?;
    if flags & MSG_OOB != 0 {
        return Err(Errno::EOPNOTSUPP);
    }
    let is_nonblocking = flags & MSG_DONTWAIT != 0 || kernel.vfs.file(file).is_nonblocking();
    let result = match kernel.vfs.socket(id)?.kind {
        SocketKind::Stream => send_stream(kernel, id, buffers, is_nonblocking, extra),
        SocketKind::Datagram | SocketKind::Packet => {
            send_message(kernel, id, buffers, is_nonblocking, extra)
        }
    };
    if result == Err(Errno::EPIPE) && flags & MSG_NOSIGNAL == 0 && is_loud(kernel, id) {
        kernel.send_sigpipe();
    }
    result
}

/// Whether a broken connection is told by a signal.
fn is_loud(kernel: &Kernel, id: SocketId) -> bool {
    kernel.vfs.socket(id).is_ok_and(|socket| socket.kind != SocketKind::Datagram)
}

fn send_stream(
    kernel: &mut Kernel,
    id: SocketId,
    buffers: &Buffers,
    is_nonblocking: bool,
    extra: &Extra,
) -> SysResult {
    let total = buffers.bytes();
    // What was sent before the task slept in the middle.
    let mut done = kernel.task.wait.as_ref().map_or(0, |wait| wait.progress);
    let mut piece = vec![0; usize::try_from(total.min(PIECE_BYTES)).unwrap_or(0)];
    loop {
        let wanted = usize::try_from((total - done).min(PIECE_BYTES)).unwrap_or(0);
        let count = buffers.gather(kernel, done, &mut piece[..wanted]);
        if count == 0 && wanted > 0 {
            return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
        }
        let files = if done == 0 { &extra.files[..] } else { &[] };
        match kernel.vfs.send_stream(id, &piece[..count], extra.sender, files) {
            Ok(count) => done += count as u64,
            Err(Errno::EAGAIN) if !is_nonblocking => {
                let errno = kernel.wait_for_socket(id, id, 1);
                if errno != Errno::BLOCKED && done > 0 {
                    return Ok(done);
                }
                kernel.set_progress(done);
                return Err(errno);
            }
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno),
        }
        if done == total {
            return Ok(done);
        }
    }
}

fn send_message(
    kernel: &mut Kernel,
    id: SocketId,
    buffers: &Buffers,
    is_nonblocking: bool,
    extra: &Extra,
) -> SysResult {
    let socket = kernel.vfs.socket(id)?;
    let peer = extra.target.or(socket.peer);
    if buffers.bytes() > socket.send_bytes_max as u64 {
        return Err(if peer.is_none() { Errno::ENOTCONN } else { Errno::EMSGSIZE });
    }
    let mut bytes = vec![0; usize::try_from(buffers.bytes()).unwrap_or(0)];
    if buffers.gather(kernel, 0, &mut bytes) < bytes.len() {
        return Err(Errno::EFAULT);
    }
    let vfs = &mut kernel.vfs;
    match vfs.send_message(id, extra.target, &bytes, extra.sender, &extra.files) {
        Err(Errno::EAGAIN) if !is_nonblocking => {
            Err(kernel.wait_for_socket(peer.unwrap_or(id), id, 1))
        }
        result => result.map(|count| count as u64),
    }
}

fn sys_recvfrom(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [fd, bytes, count, flags, name, name_bytes] = args;
    let buffers = Buffers::one(kernel, bytes, count)?;
    let (count, mut received) = receive(kernel, fd, &buffers, low32(flags))?;
    drop_files(kernel, std::mem::take(&mut received.files));
    if name != 0 {
        write_sender(kernel, name, name_bytes, &received)?;
    }
    Ok(count)
}

/// Writes who sent a message; one without a name has no address at all.
fn write_sender(
    kernel: &mut Kernel,
    name: u64,
    name_bytes: u64,
    received: &Received,
) -> Result<(), Errno> {
    if received.name.is_empty() {
        return kernel.write_user_u32(VirtAddr::new(name_bytes), 0);
    }
    write_address(kernel, name, name_bytes, &received.name)
}

fn drop_files(kernel: &mut Kernel, files: Vec<FileId>) {
    for file in files {
        kernel.release_file(file);
    }
}

fn sys_recvmsg(kernel: &mut Kernel, [fd, head, flags, ..]: [u64; 6]) -> SysResult {
    socket_of(kernel, fd)?;
    let head = Head::read(kernel, head)?;
    receive_head(kernel, fd, &head, low32(flags))
}

fn receive_head(kernel: &mut Kernel, fd: u64, head: &Head, flags: u32) -> SysResult {
    let (count, mut received) = receive(kernel, fd, &head.buffers, flags)?;
    let mut told = flags & MSG_CMSG_CLOEXEC;
    if received.full_bytes > received.bytes.len() {
        told |= MSG_TRUNC;
    }
    let files = std::mem::take(&mut received.files);
    let (control_bytes, is_cut) = write_control(kernel, fd, head, flags, &received, files)?;
    if is_cut {
        told |= MSG_CTRUNC;
    }
    if head.name != 0 {
        write_sender(kernel, head.name, head.addr.wrapping_add(8), &received)?;
    }
    kernel.write_user_u32(VirtAddr::new(head.addr.wrapping_add(48)), told)?;
    kernel.write_user_u64(VirtAddr::new(head.addr.wrapping_add(40)), control_bytes)?;
    Ok(count)
}

/// Writes credentials and open files as control messages; returns how many bytes, and whether
/// something did not fit.
fn write_control(
    kernel: &mut Kernel,
    fd: u64,
    head: &Head,
    flags: u32,
    received: &Received,
    files: Vec<FileId>,
) -> Result<(u64, bool), Errno> {
    let (_, id) = socket_of(kernel, fd)?;
    let wants_sender = kernel.vfs.socket(id)?.wants_sender;
    let mut room = if head.control == 0 { 0 } else { head.control_bytes };
    let mut done = 0;
    let mut is_cut = false;
    if wants_sender {
        let sender = received.sender.unwrap_or(Sender { pid: 0, uid: 65_534, gid: 65_534 });
        let words = [sender.pid, sender.uid, sender.gid].map(u32::to_le_bytes).concat();
        let length = CONTROL_HEAD_BYTES as u64 + 12;
        is_cut |= room < length;
        if room >= CONTROL_HEAD_BYTES as u64 {
            let kept = usize::try_from(room.min(length)).unwrap_or(0) - CONTROL_HEAD_BYTES;
            put_control(kernel, head.control, SCM_CREDENTIALS, &words[..kept])?;
            done = length.next_multiple_of(8).min(room);
            room -= done;
        }
    }
    if files.is_empty() {
        return Ok((done, is_cut));
    }
    let fits = room.saturating_sub(CONTROL_HEAD_BYTES as u64) / 4;
    let fits = usize::try_from(fits).unwrap_or(usize::MAX);
    let inherit = if flags & MSG_CMSG_CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep };
    let mut numbers = Vec::new();
    let limit = kernel.files_max();
    for file in files {
        let is_full = is_cut || numbers.len() / 4 >= fits;
        match kernel.files.insert(file, inherit, 0, limit) {
            Ok(number) if !is_full => numbers.extend(low32(number).to_le_bytes()),
            result => {
                is_cut = true;
                if let Ok(number) = result {
                    kernel.files.take(number)?;
                }
                kernel.release_file(file);
            }
        }
    }
    if !numbers.is_empty() {
        put_control(kernel, head.control.wrapping_add(done), SCM_RIGHTS, &numbers)?;
        done += ((CONTROL_HEAD_BYTES + numbers.len()) as u64).next_multiple_of(8).min(room);
    }
    Ok((done, is_cut))
}

fn put_control(kernel: &mut Kernel, addr: u64, kind: u32, data: &[u8]) -> Result<(), Errno> {
    let length = (CONTROL_HEAD_BYTES + data.len()) as u64;
    let bytes =
        [&length.to_le_bytes()[..], &SOL_SOCKET.to_le_bytes(), &kind.to_le_bytes(), data].concat();
    kernel.write_user(VirtAddr::new(addr), &bytes)
}

/// Receives into the program's buffers: how many bytes the call returns, and what came.
fn receive(
    kernel: &mut Kernel,
    fd: u64,
    buffers: &Buffers,
    flags: u32,
) -> Result<(u64, Received), Errno> {
    let (file, id) = socket_of(kernel, fd)?;
    if flags & MSG_OOB != 0 {
        let is_stream = kernel.vfs.socket(id)?.kind == SocketKind::Stream;
        return Err(if is_stream { Errno::EINVAL } else { Errno::EOPNOTSUPP });
    }
    let is_nonblocking = flags & MSG_DONTWAIT != 0 || kernel.vfs.file(file).is_nonblocking();
    let take = if flags & MSG_PEEK != 0 { Take::Peek } else { Take::Away };
    let is_stream = kernel.vfs.socket(id)?.kind == SocketKind::Stream;
    let wants_all = is_stream && flags & MSG_WAITALL != 0 && take == Take::Away;
    let total = buffers.bytes();
    let mut done = kernel.task.wait.as_ref().map_or(0, |wait| wait.progress);
    loop {
        let room = usize::try_from((total - done).min(PIECE_BYTES)).unwrap_or(0);
        let received = match kernel.vfs.receive(id, room, take) {
            Ok(received) => received,
            Err(Errno::EAGAIN) if !is_nonblocking => {
                let errno = kernel.wait_for_socket(id, id, 0);
                if errno != Errno::BLOCKED && done > 0 {
                    return Ok((done, Received::default()));
                }
                kernel.set_progress(done);
                return Err(errno);
            }
            Err(_) if done > 0 => return Ok((done, Received::default())),
            Err(errno) => return Err(errno),
        };
        let count = received.bytes.len();
        let copied = buffers.scatter(kernel, done, &received.bytes);
        if copied < count {
            drop_files(kernel, received.files);
            return Err(Errno::EFAULT);
        }
        done += count as u64;
        let is_cut_here = is_stream && count == room && take == Take::Away;
        let has_more = is_cut_here && kernel.vfs.socket(id)?.has_news();
        let may_go_on = count > 0 && done < total && received.files.is_empty();
        if may_go_on && (wants_all || has_more) {
            continue;
        }
        let is_long = !is_stream && flags & MSG_TRUNC != 0;
        let told = if is_long { received.full_bytes as u64 } else { done };
        return Ok((told, received));
    }
}

fn sys_sendmmsg(kernel: &mut Kernel, [fd, heads, count, flags, ..]: [u64; 6]) -> SysResult {
    let (_, id) = socket_of(kernel, fd)?;
    let mut done = 0;
    while done < u64::from(low32(count).min(MANY_MAX)) {
        let addr = heads.wrapping_add(done * MANY_HEAD_BYTES);
        // Only the first message is waited for, so that the call need not remember where it was.
        let flags = if done > 0 { low32(flags) | MSG_DONTWAIT } else { low32(flags) };
        let sent = Head::read(kernel, addr)
            .and_then(|head| send_head(kernel, fd, id, &head, flags))
            .and_then(|sent| {
                kernel.write_user_u32(VirtAddr::new(addr.wrapping_add(56)), low32(sent))
            });
        match sent {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

fn sys_recvmmsg(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [fd, heads, count, flags, time, _] = args;
    socket_of(kernel, fd)?;
    if time != 0 {
        read_timespec(kernel, time)?;
    }
    let mut done = 0;
    while done < u64::from(low32(count).min(MANY_MAX)) {
        let addr = heads.wrapping_add(done * MANY_HEAD_BYTES);
        // Differs from Linux: only the first message is waited for, as with `MSG_WAITFORONE`.
        let flags = low32(flags) & !MSG_WAITFORONE;
        let flags = if done > 0 { flags | MSG_DONTWAIT } else { flags };
        let received = Head::read(kernel, addr)
            .and_then(|head| receive_head(kernel, fd, &head, flags))
            .and_then(|count| {
                kernel.write_user_u32(VirtAddr::new(addr.wrapping_add(56)), low32(count))
            });
        match received {
            Ok(()) => done += 1,
            Err(_) if done > 0 => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(done)
}

impl Kernel {
    /// `read` from a socket.
    ///
    /// # Errors
    /// Those of `recv`.
    pub(super) fn read_socket(
        &mut self,
        id: SocketId,
        bytes: &mut [u8],
        is_nonblocking: bool,
    ) -> Result<usize, Errno> {
        match self.vfs.receive(id, bytes.len(), Take::Away) {
            Ok(received) => {
                bytes[..received.bytes.len()].copy_from_slice(&received.bytes);
                drop_files(self, received.files);
                Ok(received.bytes.len())
            }
            Err(Errno::EAGAIN) if !is_nonblocking => Err(self.wait_for_socket(id, id, 0)),
            Err(errno) => Err(errno),
        }
    }

    /// `write` to a socket, as much as there is room for.
    ///
    /// # Errors
    /// Those of `send`.
    pub(super) fn write_socket(
        &mut self,
        id: SocketId,
        bytes: &[u8],
        is_nonblocking: bool,
    ) -> Result<usize, Errno> {
        let sender = self.own_sender();
        let socket = self.vfs.socket(id)?;
        let (kind, peer) = (socket.kind, socket.peer);
        let result = match kind {
            SocketKind::Stream => self.vfs.send_stream(id, bytes, sender, &[]),
            _ => self.vfs.send_message(id, None, bytes, sender, &[]),
        };
        match result {
            Err(Errno::EAGAIN) if !is_nonblocking => {
                Err(self.wait_for_socket(peer.unwrap_or(id), id, 1))
            }
            Err(Errno::EPIPE) if is_loud(self, id) => {
                self.send_sigpipe();
                Err(Errno::EPIPE)
            }
            result => result,
        }
    }
}
