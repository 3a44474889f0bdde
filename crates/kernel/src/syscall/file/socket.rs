//! Sockets: making, naming and connecting them. UNIX sockets only; there is no network.
//!
//! # Source
//! man 2 `socket`, `bind`, `listen`, `accept`, `connect`; Linux 6.12 `net/socket.c`,
//! `net/unix/af_unix.c`.

use machine::VirtAddr;

use super::open::install;
use super::{in_tree, low32};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{
    FileId, Follow, Grant, Inherit, Link, Made, NodeId, Opened, SHUT_READ, SHUT_WRITE, Sender,
    SocketId, SocketKind, Vfs, View, WalkRules, flag, permits,
};
use crate::syscall::Handler;
use crate::wait::{Channel, Interrupted};

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        41 => sys_socket,
        42 => sys_connect,
        43 => sys_accept,
        48 => sys_shutdown,
        49 => sys_bind,
        50 => sys_listen,
        51 => sys_getsockname,
        52 => sys_getpeername,
        53 => sys_socketpair,
        288 => sys_accept4,
        _ => return None,
    })
}

const AF_UNSPEC: u16 = 0;
const AF_UNIX: u32 = 1;
/// Bytes of `struct sockaddr_un`.
const ADDRESS_BYTES: u32 = 110;
/// Bytes of its family.
const FAMILY_BYTES: usize = 2;
/// Most connections that may wait: `net.core.somaxconn`.
const BACKLOG_MAX: u32 = 4096;

/// An address of the UNIX family.
pub(super) enum Address {
    /// Of another family that means none.
    Unspecified,
    /// The family alone.
    Unnamed,
    /// A path.
    Path(Vec<u8>),
    /// A name outside of the tree, its leading NUL included.
    Abstract(Vec<u8>),
}

/// The kind and the flags of a new socket.
fn kind_argument(family: u64, kind: u64, protocol: u64) -> Result<(SocketKind, u32), Errno> {
    const FAMILIES: u32 = 46;
    const KIND_MASK: u32 = 0xf;
    let (family, kind) = (low32(family), low32(kind));
    let flags = kind & !KIND_MASK;
    if flags & !(flag::CLOEXEC | flag::NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if family >= FAMILIES {
        return Err(Errno::EAFNOSUPPORT);
    }
    if kind & KIND_MASK >= 11 {
        return Err(Errno::EINVAL);
    }
    if family != AF_UNIX {
        return Err(Errno::EAFNOSUPPORT);
    }
    if low32(protocol) > AF_UNIX {
        return Err(Errno::EPROTONOSUPPORT);
    }
    let kind = SocketKind::from_number(kind & KIND_MASK).ok_or(Errno::ESOCKTNOSUPPORT)?;
    Ok((kind, flags))
}

/// Opens a file for a socket and gives it a descriptor.
fn open_socket(kernel: &mut Kernel, socket: SocketId, flags: u32) -> SysResult {
    let file = kernel.vfs.open_socket(socket, flags & flag::NONBLOCK);
    let limit = kernel.files_max();
    let inherit = if flags & flag::CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep };
    install(kernel, file, inherit, limit)
}

fn sys_socket(kernel: &mut Kernel, [family, kind, protocol, ..]: [u64; 6]) -> SysResult {
    let (kind, flags) = kind_argument(family, kind, protocol)?;
    let socket = kernel.vfs.add_socket(kind);
    open_socket(kernel, socket, flags)
}

fn sys_socketpair(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [family, kind, protocol, ends, ..] = args;
    let (kind, flags) = kind_argument(family, kind, protocol)?;
    let ids = [kernel.vfs.add_socket(kind), kernel.vfs.add_socket(kind)];
    let sender = kernel.own_sender();
    kernel.vfs.pair_sockets(ids, sender);
    let first = match open_socket(kernel, ids[0], flags) {
        Ok(first) => first,
        Err(errno) => {
            kernel.vfs.close_socket(ids[1]);
            return Err(errno);
        }
    };
    let written = open_socket(kernel, ids[1], flags).and_then(|second| {
        let numbers = [low32(first).to_le_bytes(), low32(second).to_le_bytes()].concat();
        let written = kernel.write_user(VirtAddr::new(ends), &numbers);
        if written.is_err() {
            let file = kernel.files.take(second)?;
            kernel.release_file(file);
        }
        written
    });
    if let Err(errno) = written {
        let file = kernel.files.take(first)?;
        kernel.release_file(file);
        return Err(errno);
    }
    Ok(0)
}

/// The socket behind a descriptor.
pub(super) fn socket_of(kernel: &Kernel, fd: u64) -> Result<(FileId, SocketId), Errno> {
    let file = kernel.files.get(fd)?;
    match kernel.vfs.file(file).opened {
        Opened::Socket(socket) => Ok((file, socket)),
        Opened::Path(_) => Err(Errno::EBADF),
        _ => Err(Errno::ENOTSOCK),
    }
}

/// Reads an address that a program gives.
///
/// # Errors
/// `EINVAL`: not of this family, or too long. `EFAULT`.
pub(super) fn address(kernel: &mut Kernel, addr: u64, bytes: u64) -> Result<Address, Errno> {
    const ANY_BYTES_MAX: u32 = 128;
    let bytes = low32(bytes);
    if bytes > ANY_BYTES_MAX {
        return Err(Errno::EINVAL);
    }
    let mut held = vec![0; usize::try_from(bytes).unwrap_or(0)];
    kernel.read_user(VirtAddr::new(addr), &mut held)?;
    let Some((family, name)) = held.split_first_chunk::<FAMILY_BYTES>() else {
        return Err(Errno::EINVAL);
    };
    let family = u16::from_le_bytes(*family);
    if family == AF_UNSPEC {
        return Ok(Address::Unspecified);
    }
    if u32::from(family) != AF_UNIX || bytes > ADDRESS_BYTES {
        return Err(Errno::EINVAL);
    }
    Ok(match name.first() {
        None => Address::Unnamed,
        Some(0) => Address::Abstract(name.to_vec()),
        Some(_) => {
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
            Address::Path(name[..end].to_vec())
        }
    })
}

/// The socket that has an address.
///
/// # Errors
/// Those of the path; `ECONNREFUSED`: nobody has it. `EINVAL`: it is none.
pub(super) fn find_socket(kernel: &mut Kernel, address: &Address) -> Result<SocketId, Errno> {
    match address {
        Address::Unspecified | Address::Unnamed => Err(Errno::EINVAL),
        Address::Abstract(name) => kernel.vfs.socket_named(name).ok_or(Errno::ECONNREFUSED),
        Address::Path(path) => in_tree(kernel, |vfs, view| {
            let node = socket_node(vfs, view, path)?;
            vfs.socket_at(node)
        }),
    }
}

fn socket_node(vfs: &mut Vfs, view: &View<'_>, path: &[u8]) -> Result<NodeId, Errno> {
    let start = vfs.start_of(view, super::AT_FDCWD, path)?;
    let walk = vfs.walk(view, start, path, Follow::Yes, WalkRules::default())?;
    let walk = vfs.checked(walk)?;
    permits(view, &vfs.stat_target(&walk.target)?, Grant::WRITE)?;
    // Sockets of the host are not for the guest: as if nobody listened there.
    vfs.node_of(walk.parent, &walk.name, walk.target)
}

fn sys_bind(kernel: &mut Kernel, [fd, addr, bytes, ..]: [u64; 6]) -> SysResult {
    let (_, id) = socket_of(kernel, fd)?;
    let address = address(kernel, addr, bytes)?;
    let is_bound = !kernel.vfs.socket(id)?.name.is_empty();
    match address {
        Address::Unspecified => Err(Errno::EINVAL),
        Address::Unnamed if is_bound => Ok(0),
        Address::Unnamed => {
            kernel.bind_somewhere(id)?;
            Ok(0)
        }
        Address::Path(path) if is_bound => {
            // Linux makes the file first.
            let found = in_tree(kernel, |vfs, view| socket_node(vfs, view, &path));
            Err(if found.is_ok() { Errno::EADDRINUSE } else { Errno::EINVAL })
        }
        Address::Abstract(_) if is_bound => Err(Errno::EINVAL),
        Address::Abstract(name) => kernel.vfs.bind_abstract(id, name).map(|()| 0),
        Address::Path(path) => {
            let mode = 0o777 & !kernel.fs.umask;
            let made = in_tree(kernel, |vfs, view| {
                let start = vfs.start_of(view, super::AT_FDCWD, &path)?;
                let walk = vfs.walk(view, start, &path, Follow::Never, WalkRules::default())?;
                vfs.make(view, &walk, &Made::Socket(mode))
            });
            let node = made.map_err(|errno| match errno {
                Errno::EEXIST => Errno::EADDRINUSE,
                other => other,
            })?;
            let name = [&path[..], b"\0"].concat();
            kernel.vfs.bind_to_node(id, node, name);
            Ok(0)
        }
    }
}

fn sys_listen(kernel: &mut Kernel, [fd, backlog, ..]: [u64; 6]) -> SysResult {
    let (_, id) = socket_of(kernel, fd)?;
    let backlog = usize::try_from(low32(backlog).min(BACKLOG_MAX)).unwrap_or(0);
    let sender = kernel.own_sender();
    kernel.vfs.listen(id, backlog, sender)?;
    Ok(0)
}

fn sys_connect(kernel: &mut Kernel, [fd, addr, bytes, ..]: [u64; 6]) -> SysResult {
    let (file, id) = socket_of(kernel, fd)?;
    let address = address(kernel, addr, bytes)?;
    let kind = kernel.vfs.socket(id)?.kind;
    if kind == SocketKind::Datagram {
        let target = match address {
            Address::Unspecified => None,
            address => Some(find_socket(kernel, &address)?),
        };
        return kernel.vfs.connect_datagram(id, target).map(|()| 0);
    }
    let target = find_socket(kernel, &address)?;
    let sender = kernel.own_sender();
    match kernel.vfs.connect_stream(id, target, sender) {
        Err(Errno::EAGAIN) if !kernel.vfs.file(file).is_nonblocking() => {
            Err(kernel.wait_for_socket(target, id, 1))
        }
        result => result.map(|()| 0),
    }
}

fn sys_accept(kernel: &mut Kernel, [fd, addr, bytes, ..]: [u64; 6]) -> SysResult {
    sys_accept4(kernel, [fd, addr, bytes, 0, 0, 0])
}

fn sys_accept4(kernel: &mut Kernel, [fd, addr, bytes, flags, ..]: [u64; 6]) -> SysResult {
    let flags = low32(flags);
    if flags & !(flag::CLOEXEC | flag::NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let (file, id) = socket_of(kernel, fd)?;
    let accepted = match kernel.vfs.accept(id) {
        Err(Errno::EAGAIN) if !kernel.vfs.file(file).is_nonblocking() => {
            return Err(kernel.wait_for_socket(id, id, 0));
        }
        result => result?,
    };
    let peer = kernel.vfs.socket(accepted)?.peer;
    let new = open_socket(kernel, accepted, flags)?;
    if addr != 0 {
        let name = kernel.socket_name(peer);
        if let Err(errno) = write_address(kernel, addr, bytes, &name) {
            let file = kernel.files.take(new)?;
            kernel.release_file(file);
            return Err(errno);
        }
    }
    Ok(new)
}

fn sys_shutdown(kernel: &mut Kernel, [fd, how, ..]: [u64; 6]) -> SysResult {
    let (_, id) = socket_of(kernel, fd)?;
    let directions = match low32(how) {
        0 => SHUT_READ,
        1 => SHUT_WRITE,
        2 => SHUT_READ | SHUT_WRITE,
        _ => return Err(Errno::EINVAL),
    };
    kernel.vfs.shut_socket(id, directions)?;
    Ok(0)
}

/// Writes an address and its full length, as much as there is room for.
///
/// # Errors
/// `EINVAL`: negative room. `EFAULT`.
pub(super) fn write_address(
    kernel: &mut Kernel,
    addr: u64,
    bytes: u64,
    name: &[u8],
) -> Result<(), Errno> {
    let room = kernel.read_user_u32(VirtAddr::new(bytes))?;
    if room.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let address = [&1_u16.to_le_bytes()[..], name].concat();
    let count = usize::try_from(room).unwrap_or(0).min(address.len());
    kernel.write_user(VirtAddr::new(addr), &address[..count])?;
    let full = u32::try_from(address.len()).unwrap_or(u32::MAX);
    kernel.write_user_u32(VirtAddr::new(bytes), full)
}

fn sys_getsockname(kernel: &mut Kernel, [fd, addr, bytes, ..]: [u64; 6]) -> SysResult {
    let (_, id) = socket_of(kernel, fd)?;
    let name = kernel.vfs.socket(id)?.name.clone();
    write_address(kernel, addr, bytes, &name).map(|()| 0)
}

fn sys_getpeername(kernel: &mut Kernel, [fd, addr, bytes, ..]: [u64; 6]) -> SysResult {
    let (_, id) = socket_of(kernel, fd)?;
    let socket = kernel.vfs.socket(id)?;
    let peer = socket.peer.ok_or(Errno::ENOTCONN)?;
    let name = kernel.socket_name(Some(peer));
    write_address(kernel, addr, bytes, &name).map(|()| 0)
}

impl Kernel {
    /// The task as the other side of a socket sees it.
    pub(super) fn own_sender(&self) -> Sender {
        let credentials = &self.fs.credentials;
        Sender { pid: self.task.pid, uid: credentials.uid, gid: credentials.gid }
    }

    /// The name of a socket; empty if it has none or is gone.
    pub(super) fn socket_name(&self, id: Option<SocketId>) -> Vec<u8> {
        let socket = id.and_then(|id| self.vfs.socket(id).ok());
        socket.map_or_else(Vec::new, |socket| socket.name.clone())
    }

    /// Gives a socket a free abstract name.
    pub(super) fn bind_somewhere(&mut self, id: SocketId) -> Result<(), Errno> {
        const NAMES: u32 = 1 << 20;
        for number in 0..NAMES {
            let name = format!("\0{number:05x}").into_bytes();
            if self.vfs.socket_named(&name).is_none() {
                return self.vfs.bind_abstract(id, name);
            }
        }
        Err(Errno::ENOSPC)
    }

    /// Sleeps until `other` changes, at most as long as socket `id` waits in `direction`: 0 to
    /// read, 1 to write.
    pub(super) fn wait_for_socket(
        &mut self,
        other: SocketId,
        id: SocketId,
        direction: usize,
    ) -> Errno {
        let limit = self.vfs.socket(id).ok().and_then(|socket| socket.timeouts_ns[direction]);
        let deadline = self.deadline_after(limit);
        if self.has_passed(deadline) {
            return Errno::EAGAIN;
        }
        let interrupted = if limit.is_some() { Interrupted::Ends } else { Interrupted::Restarts };
        let mut channels = vec![Channel::Socket(other)];
        if other != id {
            channels.push(Channel::Socket(id));
        }
        self.block(&channels, deadline, interrupted)
    }

    /// Whether a socket listens: `SO_ACCEPTCONN`.
    pub(super) fn is_listening(&self, id: SocketId) -> bool {
        let socket = self.vfs.socket(id);
        socket.is_ok_and(|socket| matches!(socket.link, Link::Listening { .. }))
    }
}
