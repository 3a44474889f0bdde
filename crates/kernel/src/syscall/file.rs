//! System calls about files.
//!
//! The tree and open files are in `fs`; here arguments are taken from registers and the program's
//! memory, and results put back.
//!
//! Does not: decide who may do what with a file (`fs/attributes.rs` does).

mod attributes;
mod cached_read;
mod descriptor;
mod epoll;
mod epoll_paths;
mod event;
mod ioctl;
mod lock;
mod message;
mod names;
mod open;
mod poll;
mod process_advice;
mod read_write;
mod socket;
mod socket_options;
mod stat;
mod terminal;
mod transfer;

pub(crate) use stat::getdents;

use machine::VirtAddr;

use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{FileId, NodeId, Opened, Pages, Vfs, View};
use crate::roster::Roster;
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub fn handler(number: u64) -> Option<Handler> {
    read_write::handler(number)
        .or_else(|| open::handler(number))
        .or_else(|| stat::handler(number))
        .or_else(|| descriptor::handler(number))
        .or_else(|| names::handler(number))
        .or_else(|| attributes::handler(number))
        .or_else(|| ioctl::handler(number))
        .or_else(|| poll::handler(number))
        .or_else(|| epoll::handler(number))
        .or_else(|| lock::handler(number))
        .or_else(|| event::handler(number))
        .or_else(|| process_advice::handler(number))
        .or_else(|| socket::handler(number))
        .or_else(|| message::handler(number))
        .or_else(|| socket_options::handler(number))
        .or_else(|| transfer::handler(number))
}

/// `AT_FDCWD`, as the calls without a directory argument mean it.
const AT_FDCWD: u64 = 0xffff_ff9c;
/// `AT_SYMLINK_NOFOLLOW`.
const AT_SYMLINK_NOFOLLOW: u64 = 0x100;
/// `AT_SYMLINK_FOLLOW`.
const AT_SYMLINK_FOLLOW: u64 = 0x400;
/// `AT_EMPTY_PATH`.
const AT_EMPTY_PATH: u64 = 0x1000;

/// The largest size of a file for whom does not know large ones (`MAX_NON_LFS`).
pub(crate) const SMALL_FILE_BYTES_MAX: u64 = 0x7fff_ffff;
/// Index of `RLIMIT_FSIZE`.
const LIMIT_FILE_BYTES: usize = 1;
/// Index of `RLIMIT_NOFILE`.
const LIMIT_FILES: usize = 7;

/// An argument of type `int` or `unsigned int`.
fn low32(argument: u64) -> u32 {
    u32::try_from(argument & 0xffff_ffff).unwrap_or(0)
}

/// The open file behind a descriptor that was not opened with `O_PATH`.
///
/// # Errors
/// `EBADF`: there is none.
fn real_file(kernel: &Kernel, fd: u64) -> Result<FileId, Errno> {
    let file = kernel.files.get(fd)?;
    match kernel.vfs.file(file).opened {
        Opened::Path(_) => Err(Errno::EBADF),
        _ => Ok(file),
    }
}

/// Works on the tree in the name of the task.
fn in_tree<T>(kernel: &mut Kernel, act: impl FnOnce(&mut Vfs, &View<'_>) -> T) -> T {
    let now = kernel.realtime_ns();
    kernel.vfs.set_now_ns(now);
    let (vfs, view) = kernel.tree();
    act(vfs, &view)
}

/// The directory where a path starts and the path.
fn path_argument(kernel: &mut Kernel, dirfd: u64, path: u64) -> Result<(NodeId, Vec<u8>), Errno> {
    let path = kernel.read_user_path(path)?;
    let (vfs, view) = kernel.tree();
    let start = vfs.start_of(&view, dirfd, &path)?;
    Ok((start, path))
}

impl Kernel {
    /// The tree, and how the running task sees it.
    pub(crate) fn tree(&mut self) -> (&mut Vfs, View<'_>) {
        let Self { vfs, task, process, mm, files, fs, tasks: others, .. } = self;
        (vfs, View::of(Roster { task, process, mm, files, fs, others }))
    }

    /// The tree and, apart from it, the page cache side of file operations.
    pub(crate) fn files_and_pages(&mut self) -> (&mut Vfs, Pages<'_>) {
        let now = self.realtime_ns();
        self.vfs.set_now_ns(now);
        let pages = Pages {
            memory: &mut self.memory,
            hw: &mut self.hw,
            mm: &mut self.mm,
            others: &mut self.tasks.mms,
        };
        (&mut self.vfs, pages)
    }

    /// How many descriptors the task may have.
    fn files_max(&self) -> u64 {
        self.process.limits[LIMIT_FILES].soft
    }

    /// Closes what `execve` closes.
    pub(crate) fn close_on_exec(&mut self) {
        for file in self.files.take_closing() {
            self.vfs.drop_process_locks(file, self.task.pid);
            self.vfs.release(file);
        }
        self.reap_files();
    }

    /// Closes everything, when the task ends.
    pub(crate) fn close_all_files(&mut self) {
        self.files.close_all(&mut self.vfs);
        self.vfs.drop_all_locks(self.task.pid);
        self.reap_files();
    }

    /// Lets the page cache forget files that are gone.
    pub(crate) fn reap_files(&mut self) {
        self.vfs.reap(&mut self.memory, &mut self.hw);
    }

    /// Releases an open file that the program has closed a descriptor of.
    fn close_file(&mut self, file: FileId) {
        self.vfs.drop_process_locks(file, self.task.pid);
        self.release_file(file);
    }

    /// Releases an open file that no descriptor names any more.
    fn release_file(&mut self, file: FileId) {
        self.vfs.release(file);
        self.reap_files();
    }
}

/// Copies a value of the ABI to the program, at most `room` bytes of it.
fn write_bytes(kernel: &mut Kernel, addr: u64, bytes: &[u8]) -> SysResult {
    kernel.write_user(VirtAddr::new(addr), bytes)?;
    Ok(0)
}
