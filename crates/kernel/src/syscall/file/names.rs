//! Changing the names of a directory: `mkdir`, `unlink`, `rename`, `link`, `symlink`, `mknod`.

use super::stat::is_empty_path;
use super::{AT_EMPTY_PATH, AT_FDCWD, AT_SYMLINK_FOLLOW, in_tree, low32, path_argument};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{Follow, Made, RenameRules, Target, WalkRules};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        82 => sys_rename,
        83 => sys_mkdir,
        84 => sys_rmdir,
        86 => sys_link,
        87 => sys_unlink,
        88 => sys_symlink,
        133 => sys_mknod,
        258 => sys_mkdirat,
        259 => sys_mknodat,
        263 => sys_unlinkat,
        264 => sys_renameat,
        265 => sys_linkat,
        266 => sys_symlinkat,
        316 => sys_renameat2,
        _ => return None,
    })
}

fn sys_mkdir(kernel: &mut Kernel, [path, mode, ..]: [u64; 6]) -> SysResult {
    sys_mkdirat(kernel, [AT_FDCWD, path, mode, 0, 0, 0])
}

fn sys_mkdirat(kernel: &mut Kernel, [dirfd, path, mode, ..]: [u64; 6]) -> SysResult {
    let mode = low32(mode) & 0o1777 & !kernel.fs.umask;
    make(kernel, dirfd, path, &Made::Directory(mode))
}

fn make(kernel: &mut Kernel, dirfd: u64, path: u64, made: &Made) -> SysResult {
    let (start, path) = path_argument(kernel, dirfd, path)?;
    in_tree(kernel, |vfs, view| {
        let walk = vfs.walk(view, start, &path, Follow::Never, WalkRules::default())?;
        vfs.make(view, &walk, made)
    })?;
    Ok(0)
}

fn sys_mknod(kernel: &mut Kernel, [path, mode, device, ..]: [u64; 6]) -> SysResult {
    sys_mknodat(kernel, [AT_FDCWD, path, mode, device, 0, 0])
}

fn sys_mknodat(kernel: &mut Kernel, [dirfd, path, mode, ..]: [u64; 6]) -> SysResult {
    let mode = low32(mode);
    let permissions = mode & 0o7777 & !kernel.fs.umask;
    let made = match mode & 0o170_000 {
        0 | 0o100_000 => Made::File(permissions),
        0o010_000 => Made::Fifo(permissions),
        0o140_000 => Made::Socket(permissions),
        // Devices of its own are not for a guest, even if it is root there.
        0o020_000 | 0o060_000 => return Err(Errno::EPERM),
        0o040_000 => return Err(Errno::EPERM),
        _ => return Err(Errno::EINVAL),
    };
    make(kernel, dirfd, path, &made)
}

fn sys_symlink(kernel: &mut Kernel, [text, path, ..]: [u64; 6]) -> SysResult {
    sys_symlinkat(kernel, [text, AT_FDCWD, path, 0, 0, 0])
}

fn sys_symlinkat(kernel: &mut Kernel, [text, dirfd, path, ..]: [u64; 6]) -> SysResult {
    let text = kernel.read_user_path(text)?;
    if text.is_empty() {
        return Err(Errno::ENOENT);
    }
    make(kernel, dirfd, path, &Made::Symlink(text))
}

fn sys_unlink(kernel: &mut Kernel, [path, ..]: [u64; 6]) -> SysResult {
    sys_unlinkat(kernel, [AT_FDCWD, path, 0, 0, 0, 0])
}

fn sys_rmdir(kernel: &mut Kernel, [path, ..]: [u64; 6]) -> SysResult {
    sys_unlinkat(kernel, [AT_FDCWD, path, AT_REMOVEDIR, 0, 0, 0])
}

const AT_REMOVEDIR: u64 = 0x200;

fn sys_unlinkat(kernel: &mut Kernel, [dirfd, path, flags, ..]: [u64; 6]) -> SysResult {
    let flags = u64::from(low32(flags));
    if flags & !AT_REMOVEDIR != 0 {
        return Err(Errno::EINVAL);
    }
    let (start, path) = path_argument(kernel, dirfd, path)?;
    in_tree(kernel, |vfs, view| {
        let walk = vfs.walk(view, start, &path, Follow::Never, WalkRules::default())?;
        if flags & AT_REMOVEDIR != 0 {
            vfs.remove_directory(view, walk)
        } else {
            vfs.unlink(view, walk)
        }
    })?;
    kernel.reap_files();
    Ok(0)
}

fn sys_link(kernel: &mut Kernel, [from, to, ..]: [u64; 6]) -> SysResult {
    sys_linkat(kernel, [AT_FDCWD, from, AT_FDCWD, to, 0, 0])
}

fn sys_linkat(kernel: &mut Kernel, [old_fd, from, new_fd, to, flags, _]: [u64; 6]) -> SysResult {
    let flags = u64::from(low32(flags));
    if flags & !(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH) != 0 {
        return Err(Errno::EINVAL);
    }
    let follow = if flags & AT_SYMLINK_FOLLOW != 0 { Follow::Yes } else { Follow::No };
    let is_empty = flags & AT_EMPTY_PATH != 0 && is_empty_path(kernel, from)?;
    let source = if is_empty {
        let file = kernel.files.get(old_fd)?;
        let node = kernel.vfs.file(file).node().ok_or(Errno::EXDEV)?;
        (node, Vec::new(), Target::Node(node))
    } else {
        let (start, path) = path_argument(kernel, old_fd, from)?;
        in_tree(kernel, |vfs, view| {
            let walk = vfs.walk(view, start, &path, follow, WalkRules::default())?;
            let walk = vfs.checked(walk)?;
            Ok::<_, Errno>((walk.parent, walk.name, walk.target))
        })?
    };
    // Linux looks at the second path when it has found the first.
    let path = kernel.read_user_path(to)?;
    in_tree(kernel, |vfs, view| {
        let start = vfs.start_of(view, new_fd, &path)?;
        let walk = vfs.walk(view, start, &path, Follow::Never, WalkRules::default())?;
        vfs.link(view, source, &walk)
    })?;
    Ok(0)
}

fn sys_rename(kernel: &mut Kernel, [from, to, ..]: [u64; 6]) -> SysResult {
    sys_renameat2(kernel, [AT_FDCWD, from, AT_FDCWD, to, 0, 0])
}

fn sys_renameat(kernel: &mut Kernel, [old_fd, from, new_fd, to, ..]: [u64; 6]) -> SysResult {
    sys_renameat2(kernel, [old_fd, from, new_fd, to, 0, 0])
}

fn sys_renameat2(kernel: &mut Kernel, [old_fd, from, new_fd, to, flags, _]: [u64; 6]) -> SysResult {
    let rules = RenameRules(low32(flags));
    let both = RenameRules::NO_REPLACE | RenameRules::EXCHANGE;
    if rules.0 & !both != 0 || rules.0 == both {
        return Err(Errno::EINVAL);
    }
    let (old_path, new_path) = (kernel.read_user_path(from)?, kernel.read_user_path(to)?);
    in_tree(kernel, |vfs, view| {
        let start = vfs.start_of(view, old_fd, &old_path)?;
        let old = vfs.walk(view, start, &old_path, Follow::Never, WalkRules::default())?;
        let start = vfs.start_of(view, new_fd, &new_path)?;
        let new = vfs.walk(view, start, &new_path, Follow::Never, WalkRules::default())?;
        vfs.rename(view, old, new, rules)
    })?;
    kernel.reap_files();
    Ok(0)
}
