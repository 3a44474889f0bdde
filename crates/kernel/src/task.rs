//! One task: a thread, with what it shares with nobody.
//!
//! What it may share (address space, open files, place in the tree) it names by keys of the
//! shelves; what its process has in common is in [`crate::process`].
//!
//! Does not: schedule; `schedule.rs` does.

use cpu::Registers;
use machine::VirtAddr;

use crate::abi::Abi;
use crate::compat::segments;
use crate::outcome::Outcome;
use crate::shelf::PartKey;
use crate::signal::Signals;
use crate::wait::Wait;

/// The number of the first process of a run, and of its first thread.
pub const PID: u32 = 1000;
/// Its parent, which does nothing; it also inherits orphans.
pub const PARENT_PID: u32 = 1;

/// The parts that a task may share with others.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    /// Its address space.
    pub mm: PartKey,
    /// Its open files.
    pub files: PartKey,
    /// Its place in the tree.
    pub fs: PartKey,
}

/// Whether a task can run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It runs or waits for its turn.
    Ready,
    /// It waits in a system call; see [`Task::wait`].
    Blocked,
    /// Its process is stopped by a signal; it goes back to what it was.
    Stopped,
    /// It has ended.
    Dead,
}

/// One task.
pub struct Task {
    /// Its own number.
    pub tid: u32,
    /// The number of its process.
    pub pid: u32,
    /// Whether it can run.
    pub state: State,
    /// The system call that it is in the middle of.
    pub wait: Option<Wait>,
    /// Its CPU registers while it does not run.
    pub regs: Registers,
    /// What it may share.
    pub parts: Parts,
    /// Its signal mask and the signals for it alone.
    pub signals: Signals,
    /// Its name: at most 15 bytes.
    pub name: Vec<u8>,
    /// Where the kernel writes the task's number before it first runs.
    pub set_tid: VirtAddr,
    /// Where the kernel writes 0 when the task ends.
    pub clear_tid: VirtAddr,
    /// Head of the list of robust futexes.
    pub robust_list: u64,
    /// Likewise, of an i386 program.
    pub robust_list_i386: u64,
    /// Its own entries of the GDT.
    pub tls: [u64; segments::COUNT],
    /// Whose rules the system call follows that it is in or made last.
    pub call_abi: Abi,
    /// Registered rseq area: address, length, signature.
    pub rseq: Option<(u64, u32, u32)>,
    /// The personality bits.
    pub personality: u32,
    /// The parent that sleeps until this task has its own address space or is gone (`vfork`).
    pub vfork_parent: Option<u32>,
    /// Virtual nanoseconds on the CPU.
    pub cpu_ns: u64,
    /// Virtual time of its start.
    pub start_ns: u64,
    /// Switches away from it because it waited.
    pub switches_voluntary: u64,
    /// Switches away from it because its time was over.
    pub switches_forced: u64,
    /// How the task ends, once that is decided.
    pub exit: Option<Outcome>,
}

impl Task {
    /// The first task of a run.
    pub(crate) fn first(regs: Registers, parts: Parts, name: Vec<u8>) -> Self {
        Self {
            tid: PID,
            pid: PID,
            state: State::Ready,
            wait: None,
            regs,
            parts,
            signals: Signals::default(),
            name,
            set_tid: VirtAddr::default(),
            clear_tid: VirtAddr::default(),
            robust_list: 0,
            robust_list_i386: 0,
            tls: [0; segments::COUNT],
            call_abi: Abi::X86_64,
            rseq: None,
            personality: 0,
            vfork_parent: None,
            cpu_ns: 0,
            start_ns: 0,
            switches_voluntary: 0,
            switches_forced: 0,
            exit: None,
        }
    }

    /// The call that it is in or made last: its number, and its arguments.
    pub(crate) fn call(&self) -> (u32, [u64; 6]) {
        let gpr = &self.regs.gpr;
        let number = (gpr[Registers::RAX] & 0xffff_ffff) as u32;
        match self.call_abi {
            Abi::X86_64 => (number, [gpr[7], gpr[6], gpr[2], gpr[10], gpr[8], gpr[9]]),
            Abi::I386 => {
                let words = [gpr[3], gpr[1], gpr[2], gpr[6], gpr[7], gpr[5]];
                (number, words.map(|word| word & 0xffff_ffff))
            }
        }
    }
}

/// The last component of a path, at most 15 bytes: the name of a task.
pub(crate) fn task_name(path: &[u8]) -> Vec<u8> {
    let last = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    last[..last.len().min(15)].to_vec()
}

#[cfg(test)]
mod tests {
    use super::task_name;

    #[test]
    fn names_of_tasks_are_short() {
        assert_eq!(task_name(b"/usr/bin/a-very-long-program"), b"a-very-long-pro");
        assert_eq!(task_name(b"sh"), b"sh");
    }
}
