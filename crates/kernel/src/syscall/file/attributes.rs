//! Rights, owners, times, lengths and extended attributes.
//!
//! # Source
//! man 2 `chmod`, `chown`, `utimensat`, `truncate`, `fallocate`, `getxattr`.

use machine::VirtAddr;

use super::read_write::writable;
use super::stat::is_empty_path;
use super::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, SMALL_FILE_BYTES_MAX, in_tree, low32,
    path_argument,
};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{
    Change, FILE_BYTES_MAX, Follow, Grant, NodeId, Opened, SEALS_WRITE, Target, Timestamp,
    WalkRules, flag, permits,
};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        76 => sys_truncate,
        77 => sys_ftruncate,
        90 => sys_chmod,
        91 => sys_fchmod,
        92 => sys_chown,
        93 => sys_fchown,
        94 => sys_lchown,
        132 => sys_utime,
        188 | 189 => sys_setxattr,
        190 => sys_fsetxattr,
        191 => sys_getxattr,
        192 => sys_lgetxattr,
        193 => sys_fgetxattr,
        194 => sys_listxattr,
        195 => sys_llistxattr,
        196 => sys_flistxattr,
        197 | 198 => sys_removexattr,
        199 => sys_fremovexattr,
        235 => sys_utimes,
        260 => sys_fchownat,
        261 => sys_futimesat,
        268 => sys_fchmodat,
        280 => sys_utimensat,
        285 => sys_fallocate,
        452 => sys_fchmodat2,
        _ => return None,
    })
}

/// The node at the end of a path argument.
fn node_at(kernel: &mut Kernel, dirfd: u64, path: u64, follow: Follow) -> Result<NodeId, Errno> {
    let (start, path) = path_argument(kernel, dirfd, path)?;
    in_tree(kernel, |vfs, view| vfs.find(view, start, &path, follow))
}

/// The node of a path argument, or of the descriptor where `AT_EMPTY_PATH` allows an empty one.
fn node_or_file(kernel: &mut Kernel, dirfd: u64, path: u64, flags: u64) -> Result<NodeId, Errno> {
    if flags & AT_EMPTY_PATH != 0 && is_empty_path(kernel, path)? {
        if dirfd & 0xffff_ffff == AT_FDCWD {
            return Ok(kernel.fs.cwd);
        }
        return node_of_fd(kernel, dirfd, Opening::Any);
    }
    let follow = if flags & AT_SYMLINK_NOFOLLOW != 0 { Follow::No } else { Follow::Yes };
    node_at(kernel, dirfd, path, follow)
}

/// Which open files a call takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Opening {
    Any,
    /// Not those opened with `O_PATH`.
    Real,
}

fn node_of_fd(kernel: &Kernel, fd: u64, opening: Opening) -> Result<NodeId, Errno> {
    let file = kernel.vfs.file(kernel.files.get(fd)?);
    if opening == Opening::Real && matches!(file.opened, Opened::Path(_)) {
        return Err(Errno::EBADF);
    }
    file.node().ok_or(Errno::EOPNOTSUPP)
}

fn change(kernel: &mut Kernel, node: NodeId, change: Change) -> SysResult {
    in_tree(kernel, |vfs, view| {
        let result = vfs.change(view, node, change);
        vfs.drop_if_unused(node);
        result
    })?;
    Ok(0)
}

fn sys_chmod(kernel: &mut Kernel, [path, mode, ..]: [u64; 6]) -> SysResult {
    sys_fchmodat(kernel, [AT_FDCWD, path, mode, 0, 0, 0])
}

fn sys_fchmodat(kernel: &mut Kernel, [dirfd, path, mode, ..]: [u64; 6]) -> SysResult {
    let node = node_at(kernel, dirfd, path, Follow::Yes)?;
    change(kernel, node, Change::Mode(low32(mode)))
}

fn sys_fchmodat2(kernel: &mut Kernel, [dirfd, path, mode, flags, ..]: [u64; 6]) -> SysResult {
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let node = node_or_file(kernel, dirfd, path, flags)?;
    let is_link = kernel.vfs.node(node).file_type() == crate::fs::FileType::Symlink;
    if is_link {
        return Err(Errno::EOPNOTSUPP);
    }
    change(kernel, node, Change::Mode(low32(mode)))
}

fn sys_fchmod(kernel: &mut Kernel, [fd, mode, ..]: [u64; 6]) -> SysResult {
    let node = node_of_fd(kernel, fd, Opening::Real)?;
    change(kernel, node, Change::Mode(low32(mode)))
}

fn sys_chown(kernel: &mut Kernel, [path, uid, gid, ..]: [u64; 6]) -> SysResult {
    sys_fchownat(kernel, [AT_FDCWD, path, uid, gid, 0, 0])
}

fn sys_lchown(kernel: &mut Kernel, [path, uid, gid, ..]: [u64; 6]) -> SysResult {
    sys_fchownat(kernel, [AT_FDCWD, path, uid, gid, AT_SYMLINK_NOFOLLOW, 0])
}

fn sys_fchownat(kernel: &mut Kernel, [dirfd, path, uid, gid, flags, _]: [u64; 6]) -> SysResult {
    let flags = u64::from(low32(flags));
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let node = node_or_file(kernel, dirfd, path, flags)?;
    change(kernel, node, owner_of(uid, gid))
}

fn sys_fchown(kernel: &mut Kernel, [fd, uid, gid, ..]: [u64; 6]) -> SysResult {
    let node = node_of_fd(kernel, fd, Opening::Real)?;
    change(kernel, node, owner_of(uid, gid))
}

/// A number of -1 leaves the owner or group as it is.
fn owner_of(uid: u64, gid: u64) -> Change {
    let given = |id: u64| Some(low32(id)).filter(|&id| id != u32::MAX);
    Change::Owner(given(uid), given(gid))
}

const UTIME_NOW: u64 = 0x3fff_ffff;
const UTIME_OMIT: u64 = 0x3fff_fffe;

fn sys_utimensat(kernel: &mut Kernel, [dirfd, path, times, flags, ..]: [u64; 6]) -> SysResult {
    let flags = u64::from(low32(flags));
    let pair = read_times(kernel, times, 1)?;
    if times != 0 && pair.iter().all(|time| time.1 == UTIME_OMIT) {
        return Ok(0);
    }
    let is_of_fd = path == 0 && dirfd & 0xffff_ffff != AT_FDCWD;
    if flags & !(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 || is_of_fd && flags != 0 {
        return Err(Errno::EINVAL);
    }
    let node = if is_of_fd {
        node_of_fd(kernel, dirfd, Opening::Real)?
    } else if path == 0 && flags & AT_EMPTY_PATH == 0 {
        return Err(Errno::EFAULT);
    } else {
        node_or_file(kernel, dirfd, path, flags)?
    };
    set_times(kernel, node, times == 0, pair)
}

fn sys_futimesat(kernel: &mut Kernel, [dirfd, path, times, ..]: [u64; 6]) -> SysResult {
    let pair = read_times(kernel, times, 1000)?;
    let node = if path == 0 {
        node_of_fd(kernel, dirfd, Opening::Real)?
    } else {
        node_at(kernel, dirfd, path, Follow::Yes)?
    };
    set_times(kernel, node, times == 0, pair)
}

fn sys_utimes(kernel: &mut Kernel, [path, times, ..]: [u64; 6]) -> SysResult {
    let pair = read_times(kernel, times, 1000)?;
    let node = node_at(kernel, AT_FDCWD, path, Follow::Yes)?;
    set_times(kernel, node, times == 0, pair)
}

fn sys_utime(kernel: &mut Kernel, [path, times, ..]: [u64; 6]) -> SysResult {
    let mut pair = [(0, 0); 2];
    if times != 0 {
        for (index, time) in (0..).zip(&mut pair) {
            let addr = VirtAddr::new(times.wrapping_add(index * 8));
            time.0 = kernel.read_user_u64(addr)?.cast_signed();
        }
    }
    let node = node_at(kernel, AT_FDCWD, path, Follow::Yes)?;
    set_times(kernel, node, times == 0, pair)
}

/// Two times in seconds and units of `unit_ns` nanoseconds; zeros for a null pointer.
fn read_times(kernel: &mut Kernel, times: u64, unit_ns: u64) -> Result<[(i64, u64); 2], Errno> {
    let mut pair = [(0, 0); 2];
    if times == 0 {
        return Ok(pair);
    }
    for (index, time) in (0..).zip(&mut pair) {
        let addr = times.wrapping_add(index * 16);
        let seconds = kernel.read_user_u64(VirtAddr::new(addr))?;
        let fraction = kernel.read_user_u64(VirtAddr::new(addr.wrapping_add(8)))?;
        let is_order = unit_ns == 1 && (fraction == UTIME_NOW || fraction == UTIME_OMIT);
        // The fractions of timeval are checked at once, those of timespec when the file is found.
        if unit_ns != 1 && fraction >= 1_000_000_000 / unit_ns {
            return Err(Errno::EINVAL);
        }
        *time = (
            seconds.cast_signed(),
            if is_order { fraction } else { fraction.saturating_mul(unit_ns) },
        );
    }
    Ok(pair)
}

fn set_times(kernel: &mut Kernel, node: NodeId, is_now: bool, pair: [(i64, u64); 2]) -> SysResult {
    let is_valid = |(_, fraction): &(i64, u64)| {
        *fraction < 1_000_000_000 || *fraction == UTIME_NOW || *fraction == UTIME_OMIT
    };
    if !pair.iter().all(is_valid) {
        return Err(Errno::EINVAL);
    }
    let now = Timestamp::from_ns(kernel.realtime_ns());
    let time = |(seconds, fraction): (i64, u64)| match fraction {
        _ if is_now => Some(now),
        UTIME_NOW => Some(now),
        UTIME_OMIT => None,
        fraction => Some(Timestamp { seconds, nanoseconds: low32(fraction) }),
    };
    let all_now = is_now || pair.iter().all(|time| time.1 == UTIME_NOW);
    let times =
        Change::Times { accessed: time(pair[0]), modified: time(pair[1]), by_owner: !all_now };
    change(kernel, node, times)
}

fn sys_truncate(kernel: &mut Kernel, [path, bytes, ..]: [u64; 6]) -> SysResult {
    if bytes.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let (start, path) = path_argument(kernel, AT_FDCWD, path)?;
    let node = in_tree(kernel, |vfs, view| {
        let walk = vfs.walk(view, start, &path, Follow::Yes, WalkRules::default())?;
        let walk = vfs.checked(walk)?;
        let stat = vfs.stat_target(&walk.target)?;
        let id = vfs.regular_of(walk.parent, &walk.name, walk.target)?;
        permits(view, &stat, Grant::WRITE)?;
        vfs.check_writable(id)?;
        Ok::<_, Errno>(id)
    })?;
    resize(kernel, node, bytes)
}

fn sys_ftruncate(kernel: &mut Kernel, [fd, bytes, ..]: [u64; 6]) -> SysResult {
    if bytes.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let file = kernel.vfs.file(kernel.files.get(fd)?);
    let Opened::Regular(node) = file.opened else {
        let is_path = matches!(file.opened, Opened::Path(_));
        return Err(if is_path { Errno::EBADF } else { Errno::EINVAL });
    };
    let is_small = file.status & flag::LARGEFILE == 0;
    if !file.can_write() || is_small && bytes > SMALL_FILE_BYTES_MAX {
        return Err(Errno::EINVAL);
    }
    resize(kernel, node, bytes)
}

fn resize(kernel: &mut Kernel, node: NodeId, bytes: u64) -> SysResult {
    let (vfs, mut pages) = kernel.files_and_pages();
    vfs.resize_regular(&mut pages, node, bytes)?;
    Ok(0)
}

fn sys_fallocate(kernel: &mut Kernel, [fd, mode, offset, bytes, ..]: [u64; 6]) -> SysResult {
    const KEEP_SIZE: u64 = 1;
    const PUNCH_HOLE: u64 = 2;
    const ZERO_RANGE: u64 = 16;
    let file = kernel.files.get(fd)?;
    if matches!(kernel.vfs.file(file).opened, Opened::Path(_)) {
        return Err(Errno::EBADF);
    }
    if offset.cast_signed() < 0 || bytes.cast_signed() <= 0 {
        return Err(Errno::EINVAL);
    }
    let mode = u64::from(low32(mode));
    if !matches!(mode & !KEEP_SIZE, 0 | PUNCH_HOLE | ZERO_RANGE) || mode == PUNCH_HOLE {
        return Err(Errno::EOPNOTSUPP);
    }
    writable(kernel, fd)?;
    let node = match kernel.vfs.file(file).opened {
        Opened::Regular(node) => node,
        Opened::Pipe(_) => return Err(Errno::ESPIPE),
        _ => return Err(Errno::ENODEV),
    };
    let end = offset.checked_add(bytes).filter(|&end| end <= FILE_BYTES_MAX).ok_or(Errno::EFBIG)?;
    let size = kernel.vfs.size_of(node)?;
    if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 && kernel.vfs.seals(node) & SEALS_WRITE != 0 {
        return Err(Errno::EPERM);
    }
    kernel.vfs.check_size_seals(node, size.max(end))?;
    let (vfs, mut pages) = kernel.files_and_pages();
    if mode & (PUNCH_HOLE | ZERO_RANGE) != 0 {
        vfs.punch_regular(&mut pages, node, offset, bytes)?;
    }
    if mode & KEEP_SIZE == 0 && end > size {
        vfs.resize_regular(&mut pages, node, end)?;
    }
    Ok(0)
}

/// The longest name of an extended attribute, its final zero byte included.
const NAME_BYTES_MAX: usize = 256;
/// The longest value.
const VALUE_BYTES_MAX: u64 = 65536;

fn attribute_name(kernel: &mut Kernel, name: u64) -> Result<Vec<u8>, Errno> {
    let name = kernel.read_user_string(VirtAddr::new(name), NAME_BYTES_MAX);
    match name {
        Ok(name) if name.is_empty() => Err(Errno::ERANGE),
        Err(Errno::ENAMETOOLONG) => Err(Errno::ERANGE),
        other => other,
    }
}

/// Whether a file system has attributes of this kind.
///
/// # Errors
/// `EOPNOTSUPP`: it has not. `EINVAL`: there is no name behind the kind.
fn check_attribute_name(name: &[u8]) -> Result<(), Errno> {
    const KINDS: [&[u8]; 4] = [b"user.", b"trusted.", b"security.", b"system."];
    match KINDS.iter().find(|kind| name.starts_with(kind)) {
        Some(kind) if name.len() == kind.len() => Err(Errno::EINVAL),
        Some(_) => Ok(()),
        None => Err(Errno::EOPNOTSUPP),
    }
}

/// Writes `value` where there is room, or tells its length where none is offered.
fn put_value(kernel: &mut Kernel, value: &[u8], buffer: u64, bytes: u64) -> SysResult {
    if bytes != 0 {
        if value.len() as u64 > bytes {
            return Err(Errno::ERANGE);
        }
        kernel.write_user(VirtAddr::new(buffer), value)?;
    }
    Ok(value.len() as u64)
}

/// The end of a path argument, as it is.
fn target_at(kernel: &mut Kernel, path: u64, follow: Follow) -> Result<Target, Errno> {
    let (start, path) = path_argument(kernel, AT_FDCWD, path)?;
    in_tree(kernel, |vfs, view| {
        let walk = vfs.walk(view, start, &path, follow, WalkRules::default())?;
        Ok(vfs.checked(walk)?.target)
    })
}

fn sys_getxattr(kernel: &mut Kernel, [path, name, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    let name = attribute_name(kernel, name)?;
    let target = target_at(kernel, path, Follow::Yes)?;
    get_attribute(kernel, &target, &name, buffer, bytes)
}

fn sys_lgetxattr(kernel: &mut Kernel, [path, name, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    let name = attribute_name(kernel, name)?;
    let target = target_at(kernel, path, Follow::No)?;
    get_attribute(kernel, &target, &name, buffer, bytes)
}

fn sys_fgetxattr(kernel: &mut Kernel, [fd, name, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    let name = attribute_name(kernel, name)?;
    let node = node_of_fd(kernel, fd, Opening::Real)?;
    get_attribute(kernel, &Target::Node(node), &name, buffer, bytes)
}

fn get_attribute(
    kernel: &mut Kernel,
    target: &Target,
    name: &[u8],
    buffer: u64,
    bytes: u64,
) -> SysResult {
    check_attribute_name(name)?;
    let value = kernel.vfs.attribute(target, name)?;
    put_value(kernel, &value, buffer, bytes)
}

fn sys_listxattr(kernel: &mut Kernel, [path, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    let target = target_at(kernel, path, Follow::Yes)?;
    let names = kernel.vfs.attribute_names(&target)?;
    put_value(kernel, &names, buffer, bytes)
}

fn sys_llistxattr(kernel: &mut Kernel, [path, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    let target = target_at(kernel, path, Follow::No)?;
    let names = kernel.vfs.attribute_names(&target)?;
    put_value(kernel, &names, buffer, bytes)
}

fn sys_flistxattr(kernel: &mut Kernel, [fd, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    let node = node_of_fd(kernel, fd, Opening::Real)?;
    let names = kernel.vfs.attribute_names(&Target::Node(node))?;
    put_value(kernel, &names, buffer, bytes)
}

fn sys_setxattr(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let given = given_attribute(kernel, args)?;
    let node = node_at(kernel, AT_FDCWD, args[0], Follow::Yes)?;
    set_attribute(kernel, node, given)
}

fn sys_fsetxattr(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let given = given_attribute(kernel, args)?;
    let node = node_of_fd(kernel, args[0], Opening::Real)?;
    set_attribute(kernel, node, given)
}

/// An attribute to be set, as the program gives it.
struct Given {
    name: Vec<u8>,
    value: Vec<u8>,
    flags: u64,
}

fn given_attribute(
    kernel: &mut Kernel,
    [_, name, value, bytes, flags, _]: [u64; 6],
) -> Result<Given, Errno> {
    if flags & !3 != 0 {
        return Err(Errno::EINVAL);
    }
    let name = attribute_name(kernel, name)?;
    if bytes > VALUE_BYTES_MAX {
        return Err(Errno::E2BIG);
    }
    let mut held = vec![0; usize::try_from(bytes).unwrap_or(0)];
    kernel.read_user(VirtAddr::new(value), &mut held)?;
    Ok(Given { name, value: held, flags })
}

fn set_attribute(kernel: &mut Kernel, node: NodeId, given: Given) -> SysResult {
    check_attribute_name(&given.name)?;
    kernel.vfs.set_attribute(node, given.name, given.value, given.flags)?;
    Ok(0)
}

fn sys_removexattr(kernel: &mut Kernel, [path, name, ..]: [u64; 6]) -> SysResult {
    let name = attribute_name(kernel, name)?;
    let node = node_at(kernel, AT_FDCWD, path, Follow::Yes)?;
    remove_attribute(kernel, node, &name)
}

fn sys_fremovexattr(kernel: &mut Kernel, [fd, name, ..]: [u64; 6]) -> SysResult {
    let name = attribute_name(kernel, name)?;
    let node = node_of_fd(kernel, fd, Opening::Real)?;
    remove_attribute(kernel, node, &name)
}

fn remove_attribute(kernel: &mut Kernel, node: NodeId, name: &[u8]) -> SysResult {
    check_attribute_name(name)?;
    kernel.vfs.remove_attribute(node, name)?;
    Ok(0)
}
