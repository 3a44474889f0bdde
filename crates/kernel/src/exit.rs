//! The end of tasks: what they give back, who is told, and what is left for the parent.
//!
//! # Source
//! Linux 6.12 `kernel/exit.c`; `kernel/futex/core.c:exit_robust_list`.

use machine::{Event, VirtAddr};

use crate::Kernel;
use crate::outcome::Outcome;
use crate::process::{Life, Process, Told};
use crate::schedule::Channel;
use crate::signal::number::{SIGCHLD, SIGKILL};
use crate::signal::{SIGNAL_MAX, SigAction, SigDetail, SigInfo, flag};
use crate::syscall::futex::{FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS};
use crate::task::{PARENT_PID, PID, State};

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

impl Kernel {
    /// Ends the running task, which stays loaded, dead, until another one runs.
    pub(crate) fn end_task(&mut self, outcome: Outcome) {
        self.charge_cpu();
        let event = Event::Exit { task: self.task.tid, status: outcome.wait_status() };
        self.hw.log.push(self.hw.time(), event);
        let tid = self.task.tid;
        self.process.threads.remove(&tid);
        let is_last = self.process.threads.is_empty();
        let outcome = self.process.exit.unwrap_or(outcome);
        if is_last && self.process.pid == PID {
            self.outcome = Some(outcome);
            return;
        }
        self.task.wait = None;
        self.leave_memory_to_others();
        self.task.state = State::Dead;
        self.release_parts();
        if is_last {
            self.end_process(outcome);
        }
    }

    /// Lets go of locks and of a sleeping parent: what exec and exit do before the memory goes.
    pub(crate) fn leave_memory_to_others(&mut self) {
        self.leave_robust_futexes();
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
        if head == 0 {
            return;
        }
        let word = |kernel: &mut Self, addr: u64| kernel.read_user_u64(VirtAddr::new(addr)).ok();
        let Some(mut entry) = word(self, head) else { return };
        let Some(offset) = word(self, head.wrapping_add(8)) else { return };
        let Some(pending) = word(self, head.wrapping_add(16)) else { return };
        for _ in 0..ROBUST_MAX {
            if entry & !1 == head {
                break;
            }
            let next = word(self, entry & !1);
            if entry != pending {
                self.leave_futex((entry & !1).wrapping_add(offset));
            }
            let Some(following) = next else { return };
            entry = following;
        }
        if pending != 0 {
            self.leave_futex((pending & !1).wrapping_add(offset));
        }
    }

    fn leave_futex(&mut self, addr: u64) {
        let addr = VirtAddr::new(addr);
        let Ok(value) = self.read_user_u32(addr) else { return };
        if value & FUTEX_TID_MASK != self.task.tid {
            return;
        }
        let left = value & FUTEX_WAITERS | FUTEX_OWNER_DIED;
        if self.write_user_u32(addr, left).is_ok() && value & FUTEX_WAITERS != 0 {
            self.wake_futex(addr, 1);
        }
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
        self.orphan_children(pid);
        self.tell_parent_of_end();
    }

    fn orphan_children(&mut self, pid: u32) {
        let children: Vec<u32> = self
            .tasks
            .processes
            .values()
            .filter(|one| one.parent == pid)
            .map(|one| one.pid)
            .collect();
        for child in children {
            let Some(process) = self.tasks.processes.get_mut(&child) else { continue };
            process.parent = PARENT_PID;
            let signal = process.settings.parent_death_signal;
            if process.is_zombie() {
                self.tasks.processes.remove(&child);
            } else if let Ok(signal @ 1..) = u8::try_from(signal) {
                self.send_to_process(child, SigInfo::kernel(signal));
            }
        }
    }

    /// Tells the parent of the running process that it has ended. A parent that does not care, or
    /// is not there, never sees a zombie.
    fn tell_parent_of_end(&mut self) {
        let (parent, signal) = (self.process.parent, self.process.exit_signal);
        let info = child_info(&self.process, self.fs.credentials.uid);
        let Some(told) = self.process_of(parent).filter(|process| !process.is_zombie()) else {
            self.process.life = Life::Reaped;
            return;
        };
        let action = told.actions.get(SIGCHLD);
        let is_unwanted = signal == SIGCHLD
            && (action.handler == SigAction::IGNORE || action.flags & flag::SA_NOCLDWAIT != 0);
        if is_unwanted {
            self.process.life = Life::Reaped;
        }
        // `clone` takes any byte as the signal of the end; what is none is never sent.
        let is_silent = !(1..=SIGNAL_MAX).contains(&signal)
            || is_unwanted && action.handler == SigAction::IGNORE;
        if !is_silent {
            self.send_to_process(parent, SigInfo { signal, ..info });
        }
        self.wake(Channel::Children(parent));
    }

    /// Tells the parent that a process stopped or goes on.
    pub(crate) fn tell_parent_of_stop(&mut self, pid: u32, _signal: u8) {
        let uid = self.fs.credentials.uid;
        let Some(process) = self.process_of(pid) else { return };
        let (parent, info) = (process.parent, child_info(process, uid));
        let Some(told) = self.process_of(parent) else { return };
        if told.actions.get(SIGCHLD).flags & flag::SA_NOCLDSTOP == 0 {
            self.send_to_process(parent, info);
        }
        self.wake(Channel::Children(parent));
    }

    /// Ends another thread of the running process at once: `execve` does.
    pub(crate) fn discard_thread(&mut self, tid: u32) {
        self.kill_task(tid, Outcome::Killed(SIGKILL));
        self.unready(tid);
        let Some(task) = self.tasks.tasks.remove(&tid) else { return };
        self.process.threads.remove(&tid);
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
