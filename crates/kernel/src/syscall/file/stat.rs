//! Looking at files: `stat` and its relatives, `access`, `readlink`, directories, `statfs`.
//!
//! # Source
//! man 2 `stat`, `statx`, `getdents`; Linux 6.12 `fs/stat.c`, `fs/readdir.c`, `fs/statfs.c`.

use machine::VirtAddr;

use super::{
    AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_NOFOLLOW, in_tree, low32, path_argument, write_bytes,
};
use crate::Kernel;
use crate::abi::Abi;
use crate::errno::{Errno, SysResult};
use crate::fs::{
    Device, Entry, FileId, Follow, Grant, NodeKind, Opened, Stat, Target, Timestamp, Vfs, View,
    Walk, WalkRules, encode_device, host_fstatfs, host_statfs, permits,
};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        4 => sys_stat,
        5 => sys_fstat,
        6 => sys_lstat,
        21 => sys_access,
        78 => sys_getdents,
        79 => sys_getcwd,
        80 => sys_chdir,
        81 => sys_fchdir,
        89 => sys_readlink,
        137 => sys_statfs,
        138 => sys_fstatfs,
        161 => sys_chroot,
        217 => sys_getdents64,
        262 => sys_newfstatat,
        267 => sys_readlinkat,
        269 => sys_faccessat,
        332 => sys_statx,
        439 => sys_faccessat2,
        _ => return None,
    })
}

fn follow_of(flags: u64) -> Follow {
    if flags & AT_SYMLINK_NOFOLLOW != 0 { Follow::No } else { Follow::Yes }
}

fn sys_stat(kernel: &mut Kernel, [path, buffer, ..]: [u64; 6]) -> SysResult {
    let stat = stat_path(kernel, AT_FDCWD, path, Follow::Yes)?;
    write_bytes(kernel, buffer, &stat_bytes(&stat))
}

fn sys_lstat(kernel: &mut Kernel, [path, buffer, ..]: [u64; 6]) -> SysResult {
    let stat = stat_path(kernel, AT_FDCWD, path, Follow::No)?;
    write_bytes(kernel, buffer, &stat_bytes(&stat))
}

fn sys_fstat(kernel: &mut Kernel, [fd, buffer, ..]: [u64; 6]) -> SysResult {
    let file = kernel.files.get(fd)?;
    let stat = kernel.vfs.stat_file(file)?;
    write_bytes(kernel, buffer, &stat_bytes(&stat))
}

fn sys_newfstatat(kernel: &mut Kernel, [dirfd, path, buffer, flags, ..]: [u64; 6]) -> SysResult {
    // Linux fs/stat.c: AT_NO_AUTOMOUNT, AT_SYMLINK_NOFOLLOW, AT_EMPTY_PATH, AT_STATX_SYNC_TYPE.
    if u64::from(low32(flags)) & !(0x800 | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | 0x6000) != 0 {
        return Err(Errno::EINVAL);
    }
    let stat = stat_at(kernel, dirfd, path, flags)?;
    write_bytes(kernel, buffer, &stat_bytes(&stat))
}

fn stat_path(kernel: &mut Kernel, dirfd: u64, path: u64, follow: Follow) -> Result<Stat, Errno> {
    let (start, path) = path_argument(kernel, dirfd, path)?;
    in_tree(kernel, |vfs, view| {
        let walk = vfs.walk(view, start, &path, follow, WalkRules::default())?;
        let walk = vfs.checked(walk)?;
        vfs.stat_target(&walk.target)
    })
}

fn stat_at(kernel: &mut Kernel, dirfd: u64, path: u64, flags: u64) -> Result<Stat, Errno> {
    if flags & AT_EMPTY_PATH != 0 && is_empty_path(kernel, path)? {
        return stat_directory_or_file(kernel, dirfd);
    }
    stat_path(kernel, dirfd, path, follow_of(flags))
}

/// Whether a path argument is the empty string, or NULL, which Linux takes for it since 6.11.
pub(super) fn is_empty_path(kernel: &mut Kernel, path: u64) -> Result<bool, Errno> {
    if path == 0 {
        return Ok(true);
    }
    let mut first = [0];
    kernel.read_user(VirtAddr::new(path), &mut first)?;
    Ok(first == [0])
}

fn stat_directory_or_file(kernel: &mut Kernel, dirfd: u64) -> Result<Stat, Errno> {
    if dirfd & 0xffff_ffff == AT_FDCWD {
        return kernel.vfs.stat_node(kernel.fs.cwd);
    }
    let file = kernel.files.get(dirfd)?;
    kernel.vfs.stat_file(file)
}

/// `struct stat` of x86-64.
fn stat_bytes(stat: &Stat) -> [u8; 144] {
    let mut bytes = [0; 144];
    let mut put = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    put(0, encode_device(stat.device));
    put(8, stat.inode);
    put(16, stat.link_count.into());
    put(24, u64::from(stat.mode) | u64::from(stat.uid) << 32);
    put(32, stat.gid.into());
    put(40, encode_device(stat.special));
    put(48, stat.size_bytes);
    put(56, stat.block_bytes.into());
    put(64, stat.blocks);
    for (at, time) in [(72, stat.accessed), (88, stat.modified), (104, stat.changed)] {
        put(at, time.seconds.cast_unsigned());
        put(at + 8, time.nanoseconds.into());
    }
    bytes
}

fn sys_statx(kernel: &mut Kernel, [dirfd, path, flags, mask, buffer, _]: [u64; 6]) -> SysResult {
    const RESERVED: u64 = 0x8000_0000;
    let flags = u64::from(low32(flags));
    if mask & RESERVED != 0 || flags & 0x6000 == 0x6000 {
        return Err(Errno::EINVAL);
    }
    if flags & !(0x800 | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | 0x6000) != 0 {
        return Err(Errno::EINVAL);
    }
    let stat = stat_at(kernel, dirfd, path, flags)?;
    write_bytes(kernel, buffer, &statx_bytes(&stat))
}

/// `struct statx`: the basic fields and the time of birth.
fn statx_bytes(stat: &Stat) -> [u8; 256] {
    const FILLED: u32 = 0x0fff;
    const MOUNT_ID: u32 = 0x1000;
    let has_birth = stat.created != Timestamp::default();
    let mask = if has_birth { FILLED } else { FILLED & !0x800 };
    let mut bytes = [0; 256];
    let mut put32 = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    put32(0, mask | MOUNT_ID);
    put32(4, stat.block_bytes);
    put32(16, stat.link_count);
    put32(20, stat.uid);
    put32(24, stat.gid);
    put32(28, stat.mode & 0xffff);
    put32(128, stat.special.0);
    put32(132, stat.special.1);
    put32(136, stat.device.0);
    put32(140, stat.device.1);
    for (at, time) in
        [(64, stat.accessed), (80, stat.created), (96, stat.changed), (112, stat.modified)]
    {
        put32(at + 8, time.nanoseconds);
    }
    let mut put64 = |at: usize, word: u64| bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
    put64(32, stat.inode);
    put64(40, stat.size_bytes);
    put64(48, stat.blocks);
    for (at, time) in
        [(64, stat.accessed), (80, stat.created), (96, stat.changed), (112, stat.modified)]
    {
        put64(at, time.seconds.cast_unsigned());
    }
    put64(144, 1);
    bytes
}

fn sys_access(kernel: &mut Kernel, [path, mode, ..]: [u64; 6]) -> SysResult {
    access(kernel, AT_FDCWD, path, low32(mode), 0)
}

fn sys_faccessat(kernel: &mut Kernel, [dirfd, path, mode, ..]: [u64; 6]) -> SysResult {
    access(kernel, dirfd, path, low32(mode), 0)
}

fn sys_faccessat2(kernel: &mut Kernel, [dirfd, path, mode, flags, ..]: [u64; 6]) -> SysResult {
    const AT_EACCESS: u64 = 0x200;
    if flags & !(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    access(kernel, dirfd, path, low32(mode), flags)
}

fn access(kernel: &mut Kernel, dirfd: u64, path: u64, mode: u32, flags: u64) -> SysResult {
    if mode & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & AT_EMPTY_PATH != 0 && is_empty_path(kernel, path)? {
        let stat = stat_directory_or_file(kernel, dirfd)?;
        in_tree(kernel, |_, view| permits(view, &stat, Grant(mode)))?;
        return Ok(0);
    }
    let (start, path) = path_argument(kernel, dirfd, path)?;
    in_tree(kernel, |vfs, view| {
        let walk = vfs.walk(view, start, &path, follow_of(flags), WalkRules::default())?;
        let walk = vfs.checked(walk)?;
        let stat = vfs.stat_target(&walk.target)?;
        vfs.check_read_only(&walk, &stat, mode)?;
        permits(view, &stat, Grant(mode))
    })?;
    Ok(0)
}

fn sys_readlink(kernel: &mut Kernel, [path, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    readlink(kernel, AT_FDCWD, path, buffer, bytes)
}

fn sys_readlinkat(kernel: &mut Kernel, [dirfd, path, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    readlink(kernel, dirfd, path, buffer, bytes)
}

fn readlink(kernel: &mut Kernel, dirfd: u64, path: u64, buffer: u64, bytes: u64) -> SysResult {
    let room = usize::try_from(low32(bytes)).unwrap_or(0);
    if low32(bytes).cast_signed() <= 0 {
        return Err(Errno::EINVAL);
    }
    if path == 0 {
        return Err(Errno::EFAULT);
    }
    let text = if is_empty_path(kernel, path)? {
        if dirfd & 0xffff_ffff == AT_FDCWD {
            return Err(Errno::ENOENT);
        }
        let file = kernel.files.get(dirfd)?;
        let Opened::Path(node) = kernel.vfs.file(file).opened else { return Err(Errno::ENOENT) };
        in_tree(kernel, |vfs, view| text_of(vfs, view, &Target::Node(node)))?
            .ok_or(Errno::ENOENT)?
    } else {
        let (start, path) = path_argument(kernel, dirfd, path)?;
        in_tree(kernel, |vfs, view| {
            let walk = vfs.walk(view, start, &path, Follow::No, WalkRules::default())?;
            let walk = vfs.checked(walk)?;
            text_of(vfs, view, &walk.target)?.ok_or(Errno::EINVAL)
        })?
    };
    let count = text.len().min(room);
    kernel.write_user(VirtAddr::new(buffer), &text[..count])?;
    Ok(count as u64)
}

fn text_of(vfs: &Vfs, view: &View<'_>, target: &Target) -> Result<Option<Vec<u8>>, Errno> {
    if let Target::Node(id) = target
        && let NodeKind::Magic(subject, magic) = vfs.node(*id).kind
    {
        return vfs.magic_text(view, subject, magic).map(Some);
    }
    vfs.link_text(view, target)
}

fn sys_getcwd(kernel: &mut Kernel, [buffer, bytes, ..]: [u64; 6]) -> SysResult {
    let cwd = kernel.fs.cwd;
    if kernel.vfs.node(cwd).is_deleted {
        return Err(Errno::ENOENT);
    }
    let mut path = kernel.vfs.path_of_node(cwd);
    path.push(0);
    if path.len() as u64 > bytes {
        return Err(Errno::ERANGE);
    }
    kernel.write_user(VirtAddr::new(buffer), &path)?;
    Ok(path.len() as u64)
}

fn sys_chdir(kernel: &mut Kernel, [path, ..]: [u64; 6]) -> SysResult {
    let path = kernel.read_user_path(path)?;
    let node = in_tree(kernel, |vfs, view| vfs.find_directory(view, &path))?;
    change_directory(kernel, node)
}

fn sys_fchdir(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    let file = kernel.files.get(fd)?;
    let node = match kernel.vfs.file(file).opened {
        Opened::Directory { node, .. } => node,
        Opened::Path(node) if kernel.vfs.node(node).is_directory() => node,
        _ => return Err(Errno::ENOTDIR),
    };
    in_tree(kernel, |vfs, view| vfs.permits(view, node, Grant::EXECUTE))?;
    change_directory(kernel, node)
}

fn change_directory(kernel: &mut Kernel, node: crate::fs::NodeId) -> SysResult {
    let old = kernel.fs.cwd;
    kernel.vfs.hold(node);
    kernel.fs.cwd = node;
    kernel.vfs.unhold(old);
    Ok(0)
}

fn sys_chroot(_kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Err(Errno::EPERM)
}

fn sys_getdents64(kernel: &mut Kernel, [fd, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    getdents(kernel, fd, buffer, bytes, entry_bytes_64)
}

fn sys_getdents(kernel: &mut Kernel, [fd, buffer, bytes, ..]: [u64; 6]) -> SysResult {
    let abi = kernel.task.call_abi;
    getdents(kernel, fd, buffer, bytes, |entry, next| entry_bytes_old(abi, entry, next))
}

/// Writes directory entries as `encode` has them; returns how many bytes.
///
/// # Errors
/// Those of `getdents`.
pub(crate) fn getdents(
    kernel: &mut Kernel,
    fd: u64,
    buffer: u64,
    bytes: u64,
    encode: impl Fn(&Entry, u64) -> Vec<u8>,
) -> SysResult {
    let file = kernel.files.get(fd)?;
    let Opened::Directory { node, entries } = &kernel.vfs.file(file).opened else {
        let is_path = matches!(kernel.vfs.file(file).opened, Opened::Path(_));
        return Err(if is_path { Errno::EBADF } else { Errno::ENOTDIR });
    };
    let node = *node;
    if kernel.vfs.node(node).is_deleted {
        return Err(Errno::ENOENT);
    }
    let place = kernel.vfs.file(file).offset;
    let entries = if entries.is_none() || place == 0 {
        in_tree(kernel, |vfs, view| vfs.list(view, node))?
    } else {
        kernel.vfs.take_entries(file)
    };
    let result = put_entries(kernel, &entries, place, (buffer, bytes), encode);
    let open = kernel.vfs.file_mut(file);
    if let Ok((_, next)) = result {
        open.offset = next;
    }
    if let Opened::Directory { entries: kept, .. } = &mut open.opened {
        *kept = Some(entries);
    }
    result.map(|(written, _)| written)
}

/// Writes entries from number `place` on; returns the bytes written and the next number.
fn put_entries(
    kernel: &mut Kernel,
    entries: &[Entry],
    place: u64,
    (buffer, bytes): (u64, u64),
    encode: impl Fn(&Entry, u64) -> Vec<u8>,
) -> Result<(u64, u64), Errno> {
    let room = usize::try_from(low32(bytes)).unwrap_or(0);
    let mut written = Vec::new();
    let mut next = place;
    let rest = usize::try_from(place).ok().and_then(|place| entries.get(place..)).unwrap_or(&[]);
    for entry in rest {
        let record = encode(entry, next + 1);
        if written.len() + record.len() > room {
            if written.is_empty() {
                return Err(Errno::EINVAL);
            }
            break;
        }
        written.extend_from_slice(&record);
        next += 1;
    }
    kernel.write_user(VirtAddr::new(buffer), &written)?;
    Ok((written.len() as u64, next))
}

/// `struct linux_dirent64`.
fn entry_bytes_64(entry: &Entry, next: u64) -> Vec<u8> {
    let length = (19 + entry.name.len() + 1).next_multiple_of(8);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend_from_slice(&entry.inode.to_le_bytes());
    bytes.extend_from_slice(&next.to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    bytes.push(entry.kind);
    bytes.extend_from_slice(&entry.name);
    bytes.resize(length, 0);
    bytes
}

/// `struct linux_dirent` with the words of `abi`: the type is in the last byte.
fn entry_bytes_old(abi: Abi, entry: &Entry, next: u64) -> Vec<u8> {
    let word_bytes = usize::from(abi.word_bytes() as u8);
    let length = (2 * word_bytes + 2 + entry.name.len() + 2).next_multiple_of(word_bytes);
    let mut bytes = Vec::with_capacity(length);
    bytes.extend(abi.word(entry.inode));
    bytes.extend(abi.word(next));
    bytes.extend_from_slice(&u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend_from_slice(&entry.name);
    bytes.resize(length, 0);
    bytes[length - 1] = entry.kind;
    bytes
}

fn sys_statfs(kernel: &mut Kernel, [path, buffer, ..]: [u64; 6]) -> SysResult {
    let (start, path) = path_argument(kernel, AT_FDCWD, path)?;
    let bytes = in_tree(kernel, |vfs, view| {
        let walk: Walk = vfs.walk(view, start, &path, Follow::Yes, WalkRules::default())?;
        let walk = vfs.checked(walk)?;
        statfs_of(vfs, &walk.target)
    })?;
    write_bytes(kernel, buffer, &bytes)
}

fn sys_fstatfs(kernel: &mut Kernel, [fd, buffer, ..]: [u64; 6]) -> SysResult {
    let file = kernel.files.get(fd)?;
    let bytes = fstatfs_of(&kernel.vfs, file)?;
    write_bytes(kernel, buffer, &bytes)
}

fn fstatfs_of(vfs: &Vfs, file: FileId) -> Result<[u8; 120], Errno> {
    if let Opened::Device { device: Device::Stream(stream), .. } = vfs.file(file).opened {
        return Ok(host_statfs_bytes(&host_fstatfs(stream.fd())?));
    }
    match vfs.file(file).node() {
        Some(node) => statfs_of(vfs, &Target::Node(node)),
        None => Ok(statfs_bytes(0x0904_1934, 0, 0)),
    }
}

/// `struct statfs` of a target: the host's for its files, small ones of ours otherwise.
fn statfs_of(vfs: &Vfs, target: &Target) -> Result<[u8; 120], Errno> {
    const TMPFS: u64 = 0x0102_1994;
    const PROC: u64 = 0x9fa0;
    const SYSFS: u64 = 0x6265_6572;
    if let Some(origin) = vfs.origin_of(target) {
        return Ok(host_statfs_bytes(&host_statfs(&origin)?));
    }
    let Target::Node(id) = target else { return Err(Errno::ENOENT) };
    let path = vfs.path_of_node(*id);
    let kind = if path.starts_with(b"/proc") {
        PROC
    } else if path.starts_with(b"/sys") {
        SYSFS
    } else {
        TMPFS
    };
    let (used, max) = vfs.overlay_usage();
    Ok(match kind {
        TMPFS => statfs_bytes(kind, max / 4096, max.saturating_sub(used) / 4096),
        _ => statfs_bytes(kind, 0, 0),
    })
}

fn statfs_bytes(kind: u64, blocks: u64, free: u64) -> [u8; 120] {
    encode_statfs([kind, 4096, blocks, free, free, 0, 0, 0, 255, 4096, 0x1020])
}

fn host_statfs_bytes(host: &rustix::fs::StatFs) -> [u8; 120] {
    let word = |value: i64| value.cast_unsigned();
    encode_statfs([
        word(host.f_type),
        word(host.f_bsize),
        host.f_blocks,
        host.f_bfree,
        host.f_bavail,
        host.f_files,
        host.f_ffree,
        0,
        word(host.f_namelen),
        word(host.f_frsize),
        word(host.f_flags),
    ])
}

fn encode_statfs(words: [u64; 11]) -> [u8; 120] {
    let mut bytes = [0; 120];
    for (place, word) in bytes.chunks_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}
