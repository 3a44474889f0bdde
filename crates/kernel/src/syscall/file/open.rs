//! `open` and its relatives, and `close`.

use machine::VirtAddr;

use super::{AT_FDCWD, SMALL_FILE_BYTES_MAX, in_tree, low32, path_argument};
use crate::Kernel;
use crate::abi::KernelKind;
use crate::errno::{Errno, SysResult};
use crate::fs::{FileId, Inherit, Opened, WalkRules, check_flags, flag};
use crate::syscall::Handler;
use crate::wait::{Channel, Interrupted};

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        2 => sys_open,
        3 => sys_close,
        85 => sys_creat,
        257 => sys_openat,
        319 => sys_memfd_create,
        436 => sys_close_range,
        437 => sys_openat2,
        _ => return None,
    })
}

fn sys_open(kernel: &mut Kernel, [path, flags, mode, ..]: [u64; 6]) -> SysResult {
    open(kernel, AT_FDCWD, path, (low32(flags), low32(mode)))
}

fn sys_creat(kernel: &mut Kernel, [path, mode, ..]: [u64; 6]) -> SysResult {
    let flags = flag::CREAT | flag::WRONLY | flag::TRUNC | implied_flags(kernel.kind);
    open(kernel, AT_FDCWD, path, (flags, low32(mode)))
}

fn sys_openat(kernel: &mut Kernel, [dirfd, path, flags, mode, ..]: [u64; 6]) -> SysResult {
    open(kernel, dirfd, path, (low32(flags), low32(mode)))
}

/// What a kernel adds to the flags of calls that i386 programs share (`force_o_largefile`).
const fn implied_flags(kind: KernelKind) -> u32 {
    match kind {
        KernelKind::X86_64 => flag::LARGEFILE,
        KernelKind::I386 { .. } => 0,
    }
}

/// Whether a program that does not know large files has opened one (`generic_file_open`).
fn is_too_large(kernel: &Kernel, file: FileId, flags: u32) -> bool {
    let Opened::Regular(node) = kernel.vfs.file(file).opened else { return false };
    let bytes = kernel.vfs.size_of(node);
    flags & flag::LARGEFILE == 0 && bytes.is_ok_and(|bytes| bytes > SMALL_FILE_BYTES_MAX)
}

fn open(kernel: &mut Kernel, dirfd: u64, path: u64, (flags, mode): (u32, u32)) -> SysResult {
    // Linux fs/open.c, build_open_flags: bits without a meaning are ignored. i386 programs say
    // themselves whether they know large files.
    let implied = if kernel.is_in_i386_call() { 0 } else { flag::LARGEFILE };
    let flags = flags & 0o37_777_777 | implied;
    open_with(kernel, dirfd, path, (flags, mode), WalkRules::default())
}

fn open_with(
    kernel: &mut Kernel,
    dirfd: u64,
    path: u64,
    (flags, mode): (u32, u32),
    rules: WalkRules,
) -> SysResult {
    if let Some(file) = kernel.task.wait.as_mut().and_then(|wait| wait.file.take()) {
        return wait_for_other_end(kernel, file, flags);
    }
    check_flags(flags)?;
    let (start, path) = path_argument(kernel, dirfd, path)?;
    let limit = kernel.files_max();
    let file = in_tree(kernel, |vfs, view| vfs.open(view, start, &path, (flags, mode), rules))?;
    let file = kernel.finish_terminal(file, flags)?;
    if is_too_large(kernel, file, flags) {
        kernel.release_file(file);
        return Err(Errno::EOVERFLOW);
    }
    if flags & flag::TRUNC != 0
        && flags & flag::PATH == 0
        && let Err(errno) = truncate(kernel, file)
    {
        kernel.release_file(file);
        return Err(errno);
    }
    if let Opened::Pipe(node) = kernel.vfs.file(file).opened
        && kernel.vfs.is_fifo(node)
    {
        kernel.vfs.note_other_end(file, node);
        return wait_for_other_end(kernel, file, flags);
    }
    let inherit = if flags & flag::CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep };
    install(kernel, file, inherit, limit)
}

/// Gives the end of a FIFO a number, once somebody has opened the other one.
fn wait_for_other_end(kernel: &mut Kernel, file: FileId, flags: u32) -> SysResult {
    let Opened::Pipe(node) = kernel.vfs.file(file).opened else { return Err(Errno::EIO) };
    if kernel.vfs.has_other_end(file, node) {
        let limit = kernel.files_max();
        let inherit = if flags & flag::CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep };
        return install(kernel, file, inherit, limit);
    }
    let errno = kernel.block(&[Channel::Node(node)], None, Interrupted::Restarts);
    match kernel.task.wait.as_mut() {
        Some(wait) if errno == Errno::BLOCKED => wait.file = Some(file),
        _ => kernel.release_file(file),
    }
    Err(errno)
}

/// Gives a newly opened file the lowest number; it is closed again if there is none.
pub(super) fn install(
    kernel: &mut Kernel,
    file: FileId,
    inherit: Inherit,
    limit: u64,
) -> SysResult {
    if kernel.vfs.has_all_files() {
        kernel.release_file(file);
        return Err(Errno::ENFILE);
    }
    let installed = kernel.files.insert(file, inherit, 0, limit);
    if installed.is_err() {
        kernel.release_file(file);
    }
    installed
}

/// `O_TRUNC`.
fn truncate(kernel: &mut Kernel, file: FileId) -> Result<(), Errno> {
    let Opened::Regular(node) = kernel.vfs.file(file).opened else { return Ok(()) };
    let (vfs, mut pages) = kernel.files_and_pages();
    vfs.resize_regular(&mut pages, node, 0)
}

fn sys_openat2(kernel: &mut Kernel, [dirfd, path, how, bytes, ..]: [u64; 6]) -> SysResult {
    const RESOLVE_KNOWN: u64 = 0x3f;
    if bytes < 24 {
        return Err(Errno::EINVAL);
    }
    if bytes > 4096 {
        return Err(Errno::E2BIG);
    }
    let mut fields = [0; 3];
    for (index, field) in (0..).zip(&mut fields) {
        *field = kernel.read_user_u64(VirtAddr::new(how.wrapping_add(index * 8)))?;
    }
    for extra in 24..bytes {
        let mut byte = [0];
        kernel.read_user(VirtAddr::new(how.wrapping_add(extra)), &mut byte)?;
        if byte != [0] {
            return Err(Errno::E2BIG);
        }
    }
    let [flags, mode, resolve] = fields;
    let flags = u32::try_from(flags).map_err(|_| Errno::EINVAL)?;
    let makes = flags & (flag::CREAT | flag::TMPFILE) != 0;
    if flags & !0o37_777_777 != 0 || resolve & !RESOLVE_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if mode & !0o7777 != 0 || mode != 0 && !makes {
        return Err(Errno::EINVAL);
    }
    let rules = WalkRules(low32(resolve));
    if rules.0 & (WalkRules::BENEATH | WalkRules::IN_ROOT)
        == WalkRules::BENEATH | WalkRules::IN_ROOT
    {
        return Err(Errno::EINVAL);
    }
    if rules.0 & WalkRules::CACHED != 0 {
        return Err(Errno::EAGAIN);
    }
    let flags = flags | implied_flags(kernel.kind);
    open_with(kernel, dirfd, path, (flags, low32(mode)), rules)
}

fn sys_close(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    let file = kernel.files.take(fd)?;
    kernel.close_file(file);
    Ok(0)
}

fn sys_close_range(kernel: &mut Kernel, [first, last, flags, ..]: [u64; 6]) -> SysResult {
    const UNSHARE: u64 = 2;
    const CLOEXEC: u64 = 4;
    let (first, last) = (low32(first), low32(last));
    if flags & !(UNSHARE | CLOEXEC) != 0 || first > last {
        return Err(Errno::EINVAL);
    }
    if flags & UNSHARE != 0 {
        kernel.unshare_files();
    }
    let numbers: Vec<u32> =
        kernel.files.numbers().filter(|number| (first..=last).contains(number)).collect();
    for number in numbers {
        if flags & CLOEXEC != 0 {
            kernel.files.set_inherit(number.into(), Inherit::Close)?;
        } else {
            let file = kernel.files.take(number.into())?;
            kernel.close_file(file);
        }
    }
    Ok(0)
}

fn sys_memfd_create(kernel: &mut Kernel, [name, flags, ..]: [u64; 6]) -> SysResult {
    const CLOEXEC: u64 = 1;
    const ALLOW_SEALING: u64 = 2;
    const NOEXEC_SEAL: u64 = 8;
    const EXEC: u64 = 16;
    const NAME_MAX: usize = 249;
    if flags & !(CLOEXEC | ALLOW_SEALING | NOEXEC_SEAL | EXEC) != 0 {
        return Err(Errno::EINVAL);
    }
    let name = kernel.read_user_string(VirtAddr::new(name), NAME_MAX + 1);
    let name = name.map_err(|errno| match errno {
        Errno::ENAMETOOLONG => Errno::EINVAL,
        other => other,
    })?;
    let limit = kernel.files_max();
    let can_seal = flags & (ALLOW_SEALING | NOEXEC_SEAL) != 0;
    let file = in_tree(kernel, |vfs, view| vfs.open_memory_file(view, &name, can_seal))?;
    let inherit = if flags & CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep };
    install(kernel, file, inherit, limit)
}
