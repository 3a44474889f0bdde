//! Descriptors and the state of open files: `dup`, `fcntl`, `lseek`, locks, `fsync`, pipes, events.

use machine::VirtAddr;
use mm::{Mm, Rights, Sharing};

use super::lock::lock_command;
use super::open::install;
use super::{in_tree, low32, real_file};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{
    Device, FileId, Inherit, NodeId, Opened, SEAL_EXEC, SEAL_SEAL, SEAL_WRITE, SEALS_KNOWN,
    SEALS_OF_EXEC, Seek, flag,
};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        8 => sys_lseek,
        22 => sys_pipe,
        32 => sys_dup,
        33 => sys_dup2,
        72 => sys_fcntl,
        74 | 75 => sys_fsync,
        95 => sys_umask,
        162 => sys_sync,
        284 => sys_eventfd,
        290 => sys_eventfd2,
        292 => sys_dup3,
        293 => sys_pipe2,
        306 => sys_syncfs,
        _ => return None,
    })
}

fn sys_dup(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    duplicate(kernel, fd, 0, Inherit::Keep)
}

/// A further number for an open file, from `lowest` up.
fn duplicate(kernel: &mut Kernel, fd: u64, lowest: u64, inherit: Inherit) -> SysResult {
    let file = kernel.files.get(fd)?;
    let limit = kernel.files_max();
    let number = kernel.files.insert(file, inherit, lowest, limit)?;
    kernel.vfs.retain(file);
    Ok(number)
}

fn sys_dup2(kernel: &mut Kernel, [old, new, ..]: [u64; 6]) -> SysResult {
    if low32(old) == low32(new) {
        kernel.files.get(old)?;
        return Ok(low32(new).into());
    }
    replace(kernel, old, new, Inherit::Keep)
}

fn sys_dup3(kernel: &mut Kernel, [old, new, flags, ..]: [u64; 6]) -> SysResult {
    if low32(flags) & !flag::CLOEXEC != 0 || low32(old) == low32(new) {
        return Err(Errno::EINVAL);
    }
    replace(kernel, old, new, inherit_of(low32(flags)))
}

fn replace(kernel: &mut Kernel, old: u64, new: u64, inherit: Inherit) -> SysResult {
    let new = u64::from(low32(new));
    if new >= kernel.files_max() {
        return Err(Errno::EBADF);
    }
    let file = kernel.files.get(old)?;
    kernel.vfs.retain(file);
    if let Some(replaced) = kernel.files.put(new, file, inherit) {
        kernel.close_file(replaced);
    }
    Ok(new)
}

fn inherit_of(flags: u32) -> Inherit {
    if flags & flag::CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep }
}

fn sys_fcntl(kernel: &mut Kernel, [fd, command, argument, ..]: [u64; 6]) -> SysResult {
    const FD_CLOEXEC: u64 = 1;
    let file = kernel.files.get(fd)?;
    let command = low32(command);
    // Linux fs/fcntl.c, check_fcntl_cmd: what an O_PATH descriptor may do.
    if matches!(kernel.vfs.file(file).opened, Opened::Path(_)) && !matches!(command, 0..=3 | 1030) {
        return Err(Errno::EBADF);
    }
    match command {
        0 | 1030 => {
            let lowest = u64::from(low32(argument));
            if lowest >= kernel.files_max() {
                return Err(Errno::EINVAL);
            }
            let inherit = if command == 0 { Inherit::Keep } else { Inherit::Close };
            duplicate(kernel, fd, lowest, inherit)
        }
        1 => Ok(u64::from(kernel.files.inherit(fd)? == Inherit::Close)),
        2 => {
            let closes = argument & FD_CLOEXEC != 0;
            let inherit = if closes { Inherit::Close } else { Inherit::Keep };
            kernel.files.set_inherit(fd, inherit)?;
            Ok(0)
        }
        3 => Ok(kernel.vfs.file(file).status.into()),
        4 => {
            let open = kernel.vfs.file_mut(file);
            open.status = open.status & !flag::SETTABLE | low32(argument) & flag::SETTABLE;
            Ok(0)
        }
        5..=7 | 36..=38 => lock_command(kernel, file, command, argument),
        8 => {
            kernel.vfs.file_mut(file).owner = low32(argument).cast_signed();
            Ok(0)
        }
        9 => Ok(i64::from(kernel.vfs.file(file).owner).cast_unsigned()),
        // F_SETSIG, F_GETSIG: no signal instead of SIGIO.
        // Differs from Linux: SIGIO is not sent, so no other can be asked for.
        10 if low32(argument) == 0 => Ok(0),
        11 => Ok(0),
        1024 => Err(Errno::EINVAL),
        1025 => Ok(2),
        1031 | 1032 => pipe_size(kernel, file, command, argument),
        1033 | 1034 => seals(kernel, file, command, argument),
        1036 | 1038 => {
            kernel.write_user_u64(VirtAddr::new(argument), 0)?;
            Ok(0)
        }
        1037 | 1039 => Ok(0),
        _ => Err(Errno::EINVAL),
    }
}

fn pipe_size(kernel: &mut Kernel, file: FileId, command: u32, bytes: u64) -> SysResult {
    const F_SETPIPE_SZ: u32 = 1031;
    let Opened::Pipe(node) = kernel.vfs.file(file).opened else { return Err(Errno::EBADF) };
    if command == F_SETPIPE_SZ {
        return kernel.vfs.resize_pipe(node, u64::from(low32(bytes)));
    }
    Ok(kernel.vfs.pipe(node).map_or(0, |pipe| pipe.capacity as u64))
}

fn seals(kernel: &mut Kernel, file: FileId, command: u32, added: u64) -> SysResult {
    const F_ADD_SEALS: u32 = 1033;
    let can_write = kernel.vfs.file(file).can_write();
    let Opened::Regular(node) = kernel.vfs.file(file).opened else { return Err(Errno::EINVAL) };
    let held = kernel.vfs.seals_mut(node).ok_or(Errno::EINVAL)?;
    if command != F_ADD_SEALS {
        return Ok((*held).into());
    }
    let added = low32(added);
    if added & !SEALS_KNOWN != 0 {
        return Err(Errno::EINVAL);
    }
    if !can_write || *held & SEAL_SEAL != 0 {
        return Err(Errno::EPERM);
    }
    if added & SEAL_WRITE & !*held != 0 && kernel.is_mapped_for_writing(node) {
        return Err(Errno::EBUSY);
    }
    let is_executable = kernel.vfs.stat_node(node)?.mode & 0o111 != 0;
    let implied = if added & SEAL_EXEC != 0 && is_executable { SEALS_OF_EXEC } else { 0 };
    if let Some(held) = kernel.vfs.seals_mut(node) {
        *held |= added | implied;
    }
    Ok(0)
}

fn sys_fsync(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    let file = kernel.files.get(fd)?;
    match kernel.vfs.file(file).opened {
        Opened::Regular(node) => {
            kernel.store_pages(node, mm::ALL_PAGES)?;
            kernel.vfs.sync(node)?;
            Ok(0)
        }
        Opened::Directory { .. } => Ok(0),
        Opened::Path(_) => Err(Errno::EBADF),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_syncfs(kernel: &mut Kernel, [fd, ..]: [u64; 6]) -> SysResult {
    let file = kernel.files.get(fd)?;
    if matches!(kernel.vfs.file(file).opened, Opened::Path(_)) {
        return Err(Errno::EBADF);
    }
    kernel.store_all()?;
    Ok(0)
}

/// `sync` tells nobody of errors.
fn sys_sync(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    let _refused_pages_stay_dirty = kernel.store_all();
    Ok(0)
}

impl Kernel {
    /// Whether a shared mapping of the file is writable, or can be made so.
    fn is_mapped_for_writing(&self, node: NodeId) -> bool {
        let Some(object) = self.vfs.object_of(node) else { return false };
        let writes = |mm: &Mm| {
            mm.vmas().any(|vma| {
                vma.sharing == Sharing::Shared
                    && vma.may.contains(Rights::WRITE)
                    && vma.backing.file().is_some_and(|file| file.object == object)
            })
        };
        writes(&self.mm) || self.tasks.mms.parts().any(writes)
    }
}

fn sys_umask(kernel: &mut Kernel, [mask, ..]: [u64; 6]) -> SysResult {
    let old = kernel.fs.umask;
    kernel.fs.umask = low32(mask) & 0o777;
    Ok(old.into())
}

fn sys_lseek(kernel: &mut Kernel, [fd, offset, whence, ..]: [u64; 6]) -> SysResult {
    /// `SEEK_HOLE`, the last of them.
    const WHENCE_MAX: u32 = 4;
    let file = real_file(kernel, fd)?;
    let (offset, whence) = (offset.cast_signed(), low32(whence));
    if whence > WHENCE_MAX {
        return Err(Errno::EINVAL);
    }
    let open = kernel.vfs.file(file);
    let here = open.offset;
    let place = match &open.opened {
        Opened::Regular(node) => {
            let node = *node;
            let size = kernel.vfs.size_of(node)?;
            match whence {
                3 => kernel.vfs.seek_content(node, offset, Seek::Data)?,
                4 => kernel.vfs.seek_content(node, offset, Seek::Hole)?,
                _ => moved(here, size, offset, whence)?,
            }
        }
        Opened::Directory { entries, .. } => {
            let end = entries.as_ref().map_or(0, |entries| entries.len() as u64);
            moved(here, end, offset, whence)?
        }
        // Files of /proc have no end to seek from.
        Opened::Proc { .. } if whence == 2 => return Err(Errno::EINVAL),
        Opened::Proc { .. } => moved(here, 0, offset, whence)?,
        Opened::Device { device: Device::Stream(stream), .. } => {
            return stream.seek(offset, whence);
        }
        Opened::Device { device: Device::Tty | Device::Master(_) | Device::Slave(_), .. } => {
            return Err(Errno::ESPIPE);
        }
        Opened::Device { device: Device::TestMemory, .. } => {
            moved(here, kernel.testmem_bytes(), offset, whence)?
        }
        Opened::Device { .. } => 0,
        Opened::Event { .. } | Opened::Epoll(_) | Opened::Timer(_) | Opened::Signals(_) => {
            return Ok(0);
        }
        Opened::Pipe(_) | Opened::Socket(_) | Opened::Process(_) => {
            return Err(Errno::ESPIPE);
        }
        Opened::Path(_) => return Err(Errno::EBADF),
    };
    kernel.vfs.file_mut(file).offset = place;
    Ok(place)
}

/// `SEEK_SET`, `SEEK_CUR`, `SEEK_END`.
fn moved(here: u64, end: u64, offset: i64, whence: u32) -> Result<u64, Errno> {
    let base = match whence {
        0 => 0,
        1 => here,
        2 => end,
        _ => return Err(Errno::EINVAL),
    };
    let place = base.cast_signed().checked_add(offset).ok_or(Errno::EOVERFLOW)?;
    u64::try_from(place).map_err(|_| Errno::EINVAL)
}

fn sys_pipe(kernel: &mut Kernel, [ends, ..]: [u64; 6]) -> SysResult {
    pipe(kernel, ends, 0)
}

fn sys_pipe2(kernel: &mut Kernel, [ends, flags, ..]: [u64; 6]) -> SysResult {
    let flags = low32(flags);
    if flags & !(flag::CLOEXEC | flag::NONBLOCK | flag::DIRECT) != 0 {
        return Err(Errno::EINVAL);
    }
    pipe(kernel, ends, flags)
}

fn pipe(kernel: &mut Kernel, ends: u64, flags: u32) -> SysResult {
    let limit = kernel.files_max();
    let status = flags & (flag::NONBLOCK | flag::DIRECT);
    let [reader, writer] = in_tree(kernel, |vfs, view| vfs.open_pipe(view, status));
    let read_fd = match install(kernel, reader, inherit_of(flags), limit) {
        Ok(fd) => fd,
        Err(errno) => {
            kernel.release_file(writer);
            return Err(errno);
        }
    };
    let written = install(kernel, writer, inherit_of(flags), limit).and_then(|write_fd| {
        let numbers = [low32(read_fd).to_le_bytes(), low32(write_fd).to_le_bytes()].concat();
        kernel.write_user(VirtAddr::new(ends), &numbers).map_err(|errno| (errno, write_fd)).or_else(
            |(errno, write_fd)| {
                let file = kernel.files.take(write_fd)?;
                kernel.release_file(file);
                Err(errno)
            },
        )
    });
    if let Err(errno) = written {
        let file = kernel.files.take(read_fd)?;
        kernel.release_file(file);
        return Err(errno);
    }
    Ok(0)
}

fn sys_eventfd(kernel: &mut Kernel, [count, ..]: [u64; 6]) -> SysResult {
    sys_eventfd2(kernel, [count, 0, 0, 0, 0, 0])
}

fn sys_eventfd2(kernel: &mut Kernel, [count, flags, ..]: [u64; 6]) -> SysResult {
    const SEMAPHORE: u32 = 1;
    let flags = low32(flags);
    if flags & !(SEMAPHORE | flag::CLOEXEC | flag::NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    let limit = kernel.files_max();
    let is_semaphore = flags & SEMAPHORE != 0;
    let status = flags & flag::NONBLOCK;
    let file = kernel.vfs.open_event(low32(count).into(), is_semaphore, status);
    install(kernel, file, inherit_of(flags), limit)
}
