//! The end of tasks: what they give back, who is told, and what is left for the parent.
//!
//! # Source
//! Linux 6.12 `kernel/exit.c`; `kernel/futex/core.c:exit_robust_list`.

use machine::{Event, VirtAddr};

use crate::Kernel;
use crate::abi::Abi;
use crate::outcome::Outcome;
use crate::process::{Life, Process, Remains, Told};
use crate::signal::number::{SIGCHLD, SIGKILL};
use crate::signal::{SigDetail, SigInfo};
use crate::syscall::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use crate::task::{PID, State};
use crate::wait::Channel;

/// Nanoseconds of one tick of `si_utime`.
const NS_PER_TICK: u64 = 10_000_000;
/// Most entries of a list of robust futexes (`ROBUST_LIST_LIMIT`).
const ROBUST_MAX: usize = 2048;

/// `si_code` of SIGCHLD.
mod child_code {
    pub(super) const EXITED: i32 = 1;
    pub(super) const KILLED: i32 = 2;
    pub(super) const STOPPED: i32 = 5;
    pub(super) const CONTINUED: i32 = 6;
}

/// Whether a robust futex is on the list, or was just being put there or taken off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Listed {
    Yes,
    InBetween,
}

impl Kernel {
    /// Ends the running task, which stays loaded, dead, until another one runs.
    pub(crate) fn end_task(&mut self, outcome: Outcome) {
        self.charge_cpu();
        let event = Event::Exit { task: self.task.tid, status: outcome.wait_status() };
        self.hw.log.push(self.hw.time(), event);
        let tid = self.task.tid;
        self.process.threads.remove(&tid);
        if tid == self.process.pid {
            let (name, credentials) = (self.task.name.clone(), self.fs.credentials.clone());
            self.process.remains = Some(Remains { name, credentials });
        }
        let is_last = self.process.threads.is_empty();
        let outcome = self.process.exit.unwrap_or(outcome);
        if is_last && self.process.pid == PID {
            self.outcome = Some(outcome);
            return;
        }
        let opening = self.task.wait.take().and_then(|wait| wait.file);
        if let Some(file) = opening {
            self.vfs.release(file);
        }
        self.leave_memory_to_others();
        self.task.state = State::Dead;
        self.release_parts();
        // For those who have a descriptor of the thread.
        self.wake(Channel::Process(tid));
        self.end_memory_of_task(tid);
        if is_last {
            self.end_process(outcome);
            return;
        }
        self.leave_children_to_threads(tid);
        if self.task.signals.is_notified {
            self.pass_on(!self.task.signals.mask);
        }
    }

    /// Gives the stack of a task back that has ended. Its `task_struct` goes too, unless it is the
    /// first thread of its process, which can be asked for until it is reaped.
    fn end_memory_of_task(&mut self, tid: u32) {
        let Self { objects, memory, hw, process, .. } = self;
        if tid == process.pid {
            objects.end_stack(tid, memory, hw);
        } else {
            objects.end_task(tid, memory, hw);
        }
        self.settle_objects();
    }

    /// Lets go of locks and of a sleeping parent: what exec and exit do before the memory goes.
    pub(crate) fn leave_memory_to_others(&mut self) {
        self.leave_robust_futexes();
        self.leave_locks();
        let clear = std::mem::take(&mut self.task.clear_tid);
        let is_shared = self.tasks.mms.user_count(self.task.parts.mm) > 1;
        if clear != VirtAddr::default() && is_shared {
            // As in Linux, a pointer that cannot be written changes nothing.
            let _ = self.write_user_u32(clear, 0);
            self.wake_futex(clear, 1);
        }
        if self.task.vfork_parent.take().is_some() {
            self.wake(Channel::Vfork(self.task.tid));
        }
    }

    /// Marks the futexes of the list that the task still holds as left by the dead.
    fn leave_robust_futexes(&mut self) {
        let head = std::mem::take(&mut self.task.robust_list);
        self.leave_robust_list(head, Abi::X86_64);
        let head = std::mem::take(&mut self.task.robust_list_i386);
        self.leave_robust_list(head, Abi::I386);
    }

    /// Leaves the futexes of the list at `head`, whose words are those of `abi`.
    fn leave_robust_list(&mut self, head: u64, abi: Abi) {
        if head == 0 {
            return;
        }
        let word_bytes = abi.word_bytes();
        let word = |kernel: &mut Self, addr| kernel.read_user_word(VirtAddr::new(addr), abi).ok();
        let Some(mut entry) = word(self, head) else { return };
        let Some(mut offset) = word(self, head.wrapping_add(word_bytes)) else { return };
        let Some(pending) = word(self, head.wrapping_add(2 * word_bytes)) else { return };
        if abi == Abi::I386 {
            // A `long`.
            offset = i64::from(offset as u32 as i32).cast_unsigned();
        }
        for _ in 0..ROBUST_MAX {
            if entry & !1 == head {
                break;
            }
            let next = word(self, entry & !1);
            let held = (entry & !1).wrapping_add(offset);
            if entry != pending && self.leave_futex(held, Listed::Yes).is_none() {
                return;
            }
            let Some(following) = next else { return };
            entry = following;
        }
        if pending != 0 {
            let is_pi = pending & 1 != 0;
            let listed = if is_pi { Listed::Yes } else { Listed::InBetween };
            self.leave_futex((pending & !1).wrapping_add(offset), listed);
        }
    }

    /// Leaves one futex of the list; `None` if it cannot be one, which ends the list.
    fn leave_futex(&mut self, addr: u64, listed: Listed) -> Option<()> {
        if !addr.is_multiple_of(4) {
            return None;
        }
        let addr = VirtAddr::new(addr);
        let value = self.read_user_u32(addr).ok()?;
        if value == 0 && listed == Listed::InBetween {
            // It was unlocked, and perhaps the task did not come to wake who waits.
            self.wake_futex(addr, 1);
            return Some(());
        }
        if value & FUTEX_TID_MASK != self.task.tid {
            return Some(());
        }
        let left = value & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        self.write_user_u32(addr, left).ok()?;
        if value & FUTEX_WAITERS != 0 {
            self.wake_futex(addr, 1);
        }
        Some(())
    }

    /// Gives up what the running task shares, and ends what nobody else uses.
    fn release_parts(&mut self) {
        let parts = self.task.parts;
        if self.tasks.files.release(parts.files) {
            self.close_all_files();
        }
        if self.tasks.fs.release(parts.fs) {
            self.vfs.unhold(self.fs.cwd);
            self.reap_files();
        }
        if self.tasks.mms.release(parts.mm) {
            self.account_for_mm();
            self.end_mm();
        }
        self.wake_for_files();
    }

    /// Ends the address space of the running task.
    pub(crate) fn end_mm(&mut self) {
        self.mm.exit(&mut self.memory, &mut self.hw);
        self.asids.forget(self.mm.id, &mut self.hw);
        self.reap_files();
    }

    /// The last thread of the running process is gone: its children get another parent, its own
    /// parent is told.
    fn end_process(&mut self, outcome: Outcome) {
        let pid = self.process.pid;
        self.account_for_process(outcome);
        self.process.life = Life::Zombie(outcome);
        self.drop_alarms();
        self.leave_terminal();
        self.wake(Channel::Process(pid));
        self.undo_semaphores(pid);
        self.reap_segments();
        self.orphan_children(pid);
        let (group, session, parent) =
            (self.process.group, self.process.session, self.process.parent);
        self.hang_up_if_alone(group, session, parent, Some(pid));
        self.tell_parent_of_end(pid);
    }

    /// Ends another thread of the running process at once: `execve` does. The address space of the
    /// process is the machine's active one.
    pub(crate) fn discard_thread(&mut self, tid: u32) {
        self.kill_task(tid, Outcome::Killed(SIGKILL));
        self.unready(tid);
        let Some(task) = self.tasks.tasks.remove(&tid) else { return };
        self.process.threads.remove(&tid);
        self.objects.end_task(tid, &mut self.memory, &mut self.hw);
        // Its locks lie in the memory that it shares with the running task.
        let own = std::mem::replace(&mut self.task, task);
        self.leave_memory_to_others();
        let task = std::mem::replace(&mut self.task, own);
        self.leave_children_to_threads(tid);
        self.tasks.mms.release(task.parts.mm);
        if self.tasks.fs.user_count(task.parts.fs) == 1
            && let Some(fs) = self.tasks.fs.take(task.parts.fs)
        {
            self.vfs.unhold(fs.cwd);
        }
        self.tasks.fs.release(task.parts.fs);
        if self.tasks.files.user_count(task.parts.files) == 1
            && let Some(mut files) = self.tasks.files.take(task.parts.files)
        {
            files.close_all(&mut self.vfs);
        }
        self.tasks.files.release(task.parts.files);
        let event = Event::Exit { task: tid, status: u32::from(SIGKILL) };
        self.hw.log.push(self.hw.time(), event);
    }

    /// The running task, the only one left of its process, becomes its first thread.
    pub(crate) fn take_over_leader(&mut self) {
        let pid = self.process.pid;
        self.objects.rename((self.task.tid, pid), &mut self.memory, &mut self.hw);
        self.task.tid = pid;
        self.process.threads = [pid].into();
        self.process.remains = None;
        self.process.exit_signal = SIGCHLD;
        let children = self.tasks.processes.values_mut().filter(|one| one.parent == pid);
        children.for_each(|child| child.parent_thread = pid);
        self.recheck_signals();
    }

    /// Gives everything of all tasks back, when the run ends.
    pub(crate) fn end_all(&mut self) {
        self.close_all_files();
        for mut files in self.tasks.files.drain() {
            files.close_all(&mut self.vfs);
        }
        self.mm.exit(&mut self.memory, &mut self.hw);
        for mut mm in self.tasks.mms.drain() {
            mm.exit(&mut self.memory, &mut self.hw);
        }
        self.reap_files();
        self.objects.end_all(&mut self.memory, &mut self.hw);
    }
}

/// What SIGCHLD says of a process in its present state.
pub(crate) fn child_info(process: &Process, uid: u32) -> SigInfo {
    let (code, status) = match process.life {
        Life::Zombie(Outcome::Exited(code)) => (child_code::EXITED, i32::from(code)),
        Life::Zombie(outcome) => (child_code::KILLED, (outcome.wait_status() & 0x7f) as i32),
        Life::Stopped(signal, Told::No | Told::Yes) => (child_code::STOPPED, i32::from(signal)),
        Life::Alive | Life::Continued | Life::Reaped => {
            (child_code::CONTINUED, i32::from(crate::signal::number::SIGCONT))
        }
    };
    let ticks = process.usage.cpu_ns / NS_PER_TICK;
    let detail = SigDetail::Child { pid: process.pid, uid, status, ticks };
    SigInfo { signal: SIGCHLD, code, detail }
}
