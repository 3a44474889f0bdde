//! The files of `/proc/PID` and `/proc/PID/task/TID`.
//!
//! What a zombie has no more (its memory, files, place in the tree) is shown as Linux shows it:
//! left out or empty. A task that is gone gives `ESRCH`.
//!
//! # Source
//! Linux 6.12 `fs/proc/base.c`, `fs/proc/array.c`, `kernel/sched/debug.c`; semantics PROC-4 to 6.

mod small;
mod stat;
mod status;
mod write;

pub(super) use write::write;

use mm::Mm;

use super::names::{Scope, Subject};
use super::{Part, memory_map};
use crate::Kernel;
use crate::errno::Errno;
use crate::fs::{Device, FdTable, FsContext, TerminalId, encode_device};
use crate::process::Process;
use crate::task::{State, Task};

/// Nanoseconds per tick of `/proc` times (`USER_HZ` is 100).
const NS_PER_TICK: u64 = 10_000_000;

/// A task, and what it has, at the moment when it is shown.
pub(super) struct Shown<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) subject: Subject,
    pub(super) process: &'a Process,
    /// `None`: it has ended.
    pub(super) task: Option<&'a Task>,
    pub(super) mm: Option<&'a Mm>,
    fs: Option<&'a FsContext>,
    files: Option<&'a FdTable>,
}

impl<'a> Shown<'a> {
    /// The task as it is now.
    ///
    /// # Errors
    /// `ESRCH`: it is gone.
    pub(super) fn new(kernel: &'a Kernel, subject: Subject) -> Result<Self, Errno> {
        let roster = kernel.roster();
        let pid = subject.pid(&roster).ok_or(Errno::ESRCH)?;
        let process = roster.process(pid).ok_or(Errno::ESRCH)?;
        let task = roster.task(subject.tid);
        let mm = task.and_then(|task| roster.mm_of(task));
        let fs = task.and_then(|task| roster.fs_of(task));
        let files = task.and_then(|task| roster.files_of(task));
        Ok(Self { kernel, subject, process, task, mm, fs, files })
    }

    /// The task's name.
    fn name(&self) -> &[u8] {
        let remains = self.process.remains.as_ref().map(|remains| &remains.name);
        self.task.map(|task| &task.name).or(remains).map_or(b"", |name| name)
    }

    /// The letter and the word of the task's state.
    fn state(&self) -> (char, &'static str) {
        match self.task {
            None => ('Z', "zombie"),
            Some(task) => match task.state {
                State::Ready => ('R', "running"),
                State::Blocked if task.wait.as_ref().is_some_and(|wait| wait.is_for_vfork()) => {
                    ('D', "disk sleep")
                }
                State::Blocked => ('S', "sleeping"),
                State::Stopped => ('T', "stopped"),
                State::Dead => ('X', "dead"),
            },
        }
    }

    /// Threads that have not ended; a zombie counts as one.
    fn thread_count(&self) -> usize {
        self.process.threads.len().max(1)
    }

    /// Virtual nanoseconds on the CPU: of the process, or of the one thread.
    fn cpu_ns(&self) -> u64 {
        let kernel = self.kernel;
        let since = kernel.hw.now_ns().saturating_sub(kernel.tasks.on_cpu_since_ns);
        let (counted, is_running) = match (self.subject.scope, self.task) {
            (Scope::Thread, Some(task)) => (task.cpu_ns, task.tid == kernel.task.tid),
            _ => (self.process.usage.cpu_ns, self.process.pid == kernel.process.pid),
        };
        counted.saturating_add(if is_running { since } else { 0 })
    }

    /// Faults without and with I/O.
    fn faults(&self) -> (u64, u64) {
        let usage = &self.process.usage;
        let (minor, major) = self.mm.map_or((0, 0), |mm| (mm.faults().minor, mm.faults().major));
        (usage.minor_faults + minor, usage.major_faults + major)
    }

    /// Switches because it waited, and because its time was over.
    fn switches(&self) -> (u64, u64) {
        match self.task {
            Some(task) => (task.switches_voluntary, task.switches_forced),
            None => (self.process.usage.switches_voluntary, self.process.usage.switches_forced),
        }
    }
}

impl Kernel {
    /// Device number and foreground group of the terminal of a session; `None` if it has none.
    fn terminal_of(&self, session: u32) -> Option<(u64, u32)> {
        let terminal = self.vfs.terminals.of_session(session)?;
        let special = match terminal {
            TerminalId::Host => Device::Tty.stream()?.stat().ok()?.special,
            TerminalId::Pseudo(number) => Device::Slave(number).number(),
        };
        Some((encode_device(special), self.vfs.terminals.control(terminal).group))
    }
}

/// The part of the text of a task's file that `from` means; the reader wants `wanted` bytes.
///
/// # Errors
/// `ESRCH`: the task is gone. `EINVAL`: the file is only written.
pub(super) fn part(
    kernel: &Kernel,
    subject: Subject,
    name: &str,
    from: u64,
    wanted: usize,
) -> Result<Part, Errno> {
    let shown = Shown::new(kernel, subject)?;
    Ok(match name {
        "maps" => memory_map::part(&shown, memory_map::Detail::Lines, from, wanted),
        "smaps" => memory_map::part(&shown, memory_map::Detail::Counts, from, wanted),
        "numa_maps" => memory_map::part(&shown, memory_map::Detail::Nodes, from, wanted),
        "smaps_rollup" => Part::whole(memory_map::rollup(&shown)),
        "status" => Part::whole(status::text(&shown)),
        "stat" => Part::whole(stat::text(&shown)),
        "statm" => Part::whole(stat::statm(&shown)),
        _ => Part::whole(small::text(&shown, name).ok_or(Errno::EINVAL)?),
    })
}

/// The text of `fdinfo`.
///
/// # Errors
/// `ENOENT`: there is no such descriptor any more.
pub(super) fn descriptor_info(
    kernel: &Kernel,
    subject: Subject,
    number: u32,
) -> Result<Vec<u8>, Errno> {
    let shown = Shown::new(kernel, subject).map_err(|_| Errno::ENOENT)?;
    let files = shown.files.ok_or(Errno::ENOENT)?;
    let id = files.get(number.into()).map_err(|_| Errno::ENOENT)?;
    let file = kernel.vfs.file(id);
    let inode = kernel.vfs.stat_file(id).map_or(0, |stat| stat.inode);
    let mut status = file.status;
    if files.inherit(number.into()) == Ok(crate::fs::Inherit::Close) {
        status |= crate::fs::flag::CLOEXEC;
    }
    let offset = file.offset;
    Ok(format!("pos:\t{offset}\nflags:\t0{status:o}\nmnt_id:\t1\nino:\t{inode}\n").into())
}
