//! All tasks at one moment: the running one, whose parts are fields of the kernel, and the others
//! on their shelves, seen in the same way.
//!
//! Does not: change anything.

use mm::Mm;

use crate::Kernel;
use crate::fs::{FdTable, FsContext};
use crate::process::{Life, Process};
use crate::schedule::Tasks;
use crate::task::{State, Task};

/// A look at all tasks and at what they have.
#[derive(Clone, Copy)]
pub(crate) struct Roster<'a> {
    pub(crate) task: &'a Task,
    pub(crate) process: &'a Process,
    pub(crate) mm: &'a Mm,
    pub(crate) files: &'a FdTable,
    pub(crate) fs: &'a FsContext,
    pub(crate) others: &'a Tasks,
}

impl std::fmt::Debug for Roster<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Roster").field("tid", &self.task.tid).finish_non_exhaustive()
    }
}

impl<'a> Roster<'a> {
    /// A task that has not ended.
    pub(crate) fn task(&self, tid: u32) -> Option<&'a Task> {
        if self.task.tid == tid {
            return (self.task.state != State::Dead).then_some(self.task);
        }
        self.others.tasks.get(&tid)
    }

    /// A process, also a zombie.
    pub(crate) fn process(&self, pid: u32) -> Option<&'a Process> {
        if self.process.pid == pid {
            return self.is_process_there().then_some(self.process);
        }
        self.others.processes.get(&pid)
    }

    /// All process numbers, ascending, those of zombies included.
    pub(crate) fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.others.processes.keys().copied().collect();
        if let Err(place) = pids.binary_search(&self.process.pid)
            && self.is_process_there()
        {
            pids.insert(place, self.process.pid);
        }
        pids
    }

    /// Whether the process in [`Kernel::process`] is known to anybody.
    pub(crate) fn is_process_there(&self) -> bool {
        self.process.life != Life::Reaped
    }

    /// The address space of a task that has not ended.
    pub(crate) fn mm_of(&self, task: &Task) -> Option<&'a Mm> {
        let key = task.parts.mm;
        if self.task.parts.mm == key { Some(self.mm) } else { self.others.mms.get(key) }
    }

    /// The open files of a task that has not ended.
    pub(crate) fn files_of(&self, task: &Task) -> Option<&'a FdTable> {
        let key = task.parts.files;
        if self.task.parts.files == key { Some(self.files) } else { self.others.files.get(key) }
    }

    /// The place in the tree of a task that has not ended.
    pub(crate) fn fs_of(&self, task: &Task) -> Option<&'a FsContext> {
        let key = task.parts.fs;
        if self.task.parts.fs == key { Some(self.fs) } else { self.others.fs.get(key) }
    }
}

impl Kernel {
    /// All tasks as they are now.
    pub(crate) fn roster(&self) -> Roster<'_> {
        Roster {
            task: &self.task,
            process: &self.process,
            mm: &self.mm,
            files: &self.files,
            fs: &self.fs,
            others: &self.tasks,
        }
    }

    /// The running task or another.
    pub(crate) fn task_of(&self, tid: u32) -> Option<&Task> {
        self.roster().task(tid)
    }

    /// The process of the running task or another, also a zombie.
    pub(crate) fn process_of(&self, pid: u32) -> Option<&Process> {
        self.roster().process(pid)
    }

    /// All process numbers, ascending, those of zombies included.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.roster().pids()
    }
}
