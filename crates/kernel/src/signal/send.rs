//! Making signals pending, and waking who shall act on them.
//!
//! # Source
//! Linux 6.12 `kernel/signal.c`: `prepare_signal`, `complete_signal`, `sig_ignored`,
//! `retarget_shared_pending`, `force_sig_info_to_task`.

use super::number::{
    SIGALRM, SIGCONT, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU,
};
use super::{
    DefaultAction, REAL_TIME_FIRST, SI_USER, SIGNAL_MAX, SigAction, SigDetail, SigInfo,
    UNBLOCKABLE, bit, default_of,
};
use crate::Kernel;
use crate::outcome::Outcome;
use crate::process::{Life, Told};
use crate::task::State;
use crate::wait::Channel;

/// Signals that stop a process by default.
const STOPS: u64 = bit(SIGSTOP) | bit(SIGTSTP) | bit(SIGTTIN) | bit(SIGTTOU);

/// For whom a signal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Receiver {
    /// One thread.
    Thread,
    /// Any thread of the process.
    Process,
}

impl Kernel {
    /// Signals that are pending for the running task, blocked or not.
    pub(crate) fn pending_bits(&self) -> u64 {
        self.task.signals.pending.bits() | self.process.pending.bits()
    }

    /// Whether the running task has a signal to act on. What is pending for the process counts only
    /// if the task was chosen to look.
    pub(crate) fn has_deliverable(&self) -> bool {
        self.task.signals.is_notified && self.pending_bits() & !self.task.signals.mask != 0
    }

    /// Whether the running task has a signal to act on that ends its process: what also ends a
    /// sleep that other signals do not.
    pub(crate) fn has_fatal(&self) -> bool {
        let heard = self.pending_bits() & !self.task.signals.mask;
        let ends = |signal: u8| {
            let is_default = self.process.actions.get(signal).handler == SigAction::DEFAULT;
            let ends = default_of(signal) == DefaultAction::Terminate;
            heard & bit(signal) != 0 && is_default && ends
        };
        self.has_deliverable() && (1..=SIGNAL_MAX).any(ends)
    }

    /// Changes the mask of the running task. What it no longer hears, another thread is told of.
    pub(crate) fn set_mask(&mut self, mask: u64) {
        let before = std::mem::replace(&mut self.task.signals.mask, mask & !UNBLOCKABLE);
        let is_chosen = self.task.signals.is_notified;
        let dropped = mask & !before & self.process.pending.bits();
        if is_chosen && dropped != 0 {
            self.pass_on(dropped);
        }
        self.recheck_signals();
    }

    /// Lets the running task look for signals if there are any that it hears.
    pub(crate) fn recheck_signals(&mut self) {
        let heard = self.pending_bits() & !self.task.signals.mask;
        self.task.signals.is_notified = heard != 0;
    }

    /// Chooses another thread for each of these signals of the running process.
    pub(crate) fn pass_on(&mut self, signals: u64) {
        let (own, pid) = (self.task.tid, self.process.pid);
        let others: Vec<u32> =
            self.process.threads.iter().copied().filter(|&tid| tid != own).collect();
        let mut left = signals & self.process.pending.bits();
        for tid in others {
            let Some(task) = self.task_of(tid).filter(|task| task.pid == pid) else { continue };
            let heard = left & !task.signals.mask;
            if heard != 0 {
                left &= !heard;
                self.notify(tid);
            }
        }
    }

    /// Chooses a thread to look for signals.
    fn notify(&mut self, tid: u32) {
        if let Some(task) = self.task_mut(tid) {
            task.signals.is_notified = true;
        }
        self.wake_task(tid);
    }

    /// Whether one more signal may queue for the process that `number` names (`RLIMIT_SIGPENDING`).
    pub(super) fn has_queue_room(&self, number: u32) -> bool {
        let process = self.pid_of(number).and_then(|pid| self.process_of(pid));
        let Some(process) = process else { return true };
        let threads = process.threads.iter().filter_map(|&tid| self.task_of(tid));
        let queued: usize = threads.map(|task| task.signals.pending.count()).sum();
        ((process.pending.count() + queued) as u64) < process.signals_max()
    }

    /// Takes the next signal in `wanted`: those for the thread alone come first.
    pub(crate) fn take_signal(&mut self, wanted: u64) -> Option<SigInfo> {
        let own = self.task.signals.pending.take(wanted);
        let info = own.or_else(|| self.process.pending.take(wanted))?;
        if info.signal == SIGALRM {
            self.alarm_taken();
        }
        let SigDetail::Timer { id, value, .. } = info.detail else { return Some(info) };
        let overrun = self.timer_signal_taken(id);
        Some(SigInfo { detail: SigDetail::Timer { id, overrun, value }, ..info })
    }

    /// Sends the signal of a timer to a thread of process `pid`, or to any; false if it is ignored.
    pub(crate) fn send_timer_signal(
        &mut self,
        pid: u32,
        thread: Option<u32>,
        info: SigInfo,
    ) -> bool {
        match thread {
            Some(tid) => self.send_signal(tid, info, Receiver::Thread),
            None => {
                let first = self.process_of(pid).and_then(|process| process.first_thread());
                first.is_some_and(|tid| self.send_signal(tid, info, Receiver::Process))
            }
        }
    }

    /// Sends a signal to the running thread.
    pub(crate) fn send_self(&mut self, info: SigInfo) {
        self.send_signal(self.task.tid, info, Receiver::Thread);
    }

    /// `SIGPIPE`, for who writes where nobody reads.
    pub(crate) fn send_sigpipe(&mut self) {
        let detail = self.sender(0);
        self.send_self(SigInfo { signal: SIGPIPE, code: SI_USER, detail });
    }

    /// Who sends, as the receiver is told.
    pub(crate) fn sender(&self, value: u64) -> SigDetail {
        SigDetail::Sender { pid: self.task.pid, uid: self.fs.credentials.uid, value }
    }

    /// Makes a signal pending for the process of `tid`, or for that thread, unless it is ignored;
    /// wakes who shall act on it. Nothing happens if the thread or process is gone. Returns whether
    /// the signal is pending.
    pub(crate) fn send_signal(&mut self, tid: u32, info: SigInfo, receiver: Receiver) -> bool {
        let Some(task) = self.task_of(tid) else { return false };
        let (pid, mask) = (task.pid, task.signals.real_mask.unwrap_or(task.signals.mask));
        self.prepare(pid, info.signal);
        let Some(process) = self.process_mut(pid) else { return false };
        let is_blocked = mask & bit(info.signal) != 0;
        if !is_blocked && process.actions.is_ignored(info.signal) {
            return false;
        }
        // The kernel's own signals and those of `kill` that do not queue always find room.
        let is_free = info.signal < REAL_TIME_FIRST && info.code >= 0;
        let count_max = if is_free { u64::MAX } else { process.signals_max() };
        if receiver == Receiver::Process {
            process.pending.push(info, count_max);
        } else if let Some(task) = self.task_mut(tid) {
            task.signals.pending.push(info, count_max);
        }
        self.choose_thread(pid, tid, info.signal, receiver);
        self.wake(Channel::Signals(pid));
        true
    }

    /// Sends a signal to a process; false if there is none with a thread.
    pub(crate) fn send_to_process(&mut self, pid: u32, info: SigInfo) -> bool {
        let Some(process) = self.process_of(pid) else { return false };
        if let Some(tid) = process.first_thread() {
            self.send_signal(tid, info, Receiver::Process);
        }
        true
    }

    /// Chooses a thread that acts on `signal`: `tid` if it hears it, else another. If all that hear
    /// it have a signal to act on already, they will look for more behind it.
    fn choose_thread(&mut self, pid: u32, tid: u32, signal: u8, receiver: Receiver) {
        let Some(process) = self.process_of(pid) else { return };
        let others = process.threads.iter().copied().filter(|&other| other != tid);
        let candidates: Vec<u32> = match receiver {
            Receiver::Thread => vec![tid],
            Receiver::Process => std::iter::once(tid).chain(others).collect(),
        };
        if signal == SIGKILL {
            // Also a stopped process dies at once.
            self.unstop_process(pid);
        }
        let running = self.task.tid;
        let wants = |kernel: &Self, tid: u32| {
            kernel.task_of(tid).is_some_and(|task| {
                let is_free = tid == running || !task.signals.is_notified;
                let is_able = task.exit.is_none() && task.state != State::Stopped;
                task.signals.mask & bit(signal) == 0 && is_able && (is_free || signal == SIGKILL)
            })
        };
        if let Some(&chosen) = candidates.iter().find(|&&tid| wants(self, tid)) {
            self.notify(chosen);
        } else if receiver == Receiver::Thread
            && let Some(task) = self.task_mut(tid)
            && task.signals.mask & bit(signal) == 0
        {
            task.signals.is_notified = true;
        }
    }

    /// What a signal does when it is sent, before it is acted on: SIGCONT lets a stopped process go
    /// on, and stop and continue signals chase each other away.
    fn prepare(&mut self, pid: u32, signal: u8) {
        let gone = match signal {
            SIGCONT => STOPS,
            _ if STOPS & bit(signal) != 0 => bit(SIGCONT),
            _ => return,
        };
        let Some(process) = self.process_mut(pid) else { return };
        process.pending.discard(gone);
        for tid in process.threads.clone() {
            if let Some(task) = self.task_mut(tid) {
                task.signals.pending.discard(gone);
            }
        }
        if signal == SIGCONT {
            self.resume_process(pid);
        }
    }

    /// Lets a stopped process go on and tells its parent.
    fn resume_process(&mut self, pid: u32) {
        if self.unstop_process(pid) {
            if let Some(process) = self.process_mut(pid) {
                process.life = Life::Continued;
            }
            self.tell_parent_of_stop(pid);
        }
    }

    /// Lets the threads of a stopped process run; false if it was not stopped.
    fn unstop_process(&mut self, pid: u32) -> bool {
        let Some(process) = self.process_mut(pid) else { return false };
        if !matches!(process.life, Life::Stopped(..)) {
            return false;
        }
        process.life = Life::Alive;
        for tid in process.threads.clone() {
            self.unstop_task(tid);
        }
        true
    }

    /// Stops the process of the running task.
    pub(crate) fn stop_process(&mut self, signal: u8) {
        self.process.life = Life::Stopped(signal, Told::No);
        for tid in self.process.threads.clone() {
            self.stop_task(tid);
        }
        self.tell_parent_of_stop(self.process.pid);
    }

    /// Sends a signal that the running task cannot put off: if it is blocked or ignored, it kills.
    pub(crate) fn force_signal(&mut self, info: SigInfo) {
        let is_blocked = self.task.signals.mask & bit(info.signal) != 0;
        if is_blocked || self.process.actions.get(info.signal).handler == SigAction::IGNORE {
            self.process.actions.forget_handler(info.signal);
            self.share_actions();
            self.task.signals.mask &= !bit(info.signal);
        }
        // A synchronous signal that is already pending keeps its first information, as in Linux.
        self.task.signals.pending.push(info, u64::MAX);
        self.task.signals.is_notified = true;
    }

    /// Gives what the running process wants done on signals to those that share its table.
    pub(crate) fn share_actions(&mut self) {
        let Some(table) = self.process.actions_shared else { return };
        for other in self.tasks.processes.values_mut() {
            if other.actions_shared == Some(table) {
                other.actions.clone_from(&self.process.actions);
            }
        }
    }

    /// Sends SIGSEGV because a frame could not be built or taken down.
    pub(crate) fn force_segv(&mut self) {
        self.force_signal(SigInfo::kernel(SIGSEGV));
    }

    /// Ends all threads of the running process.
    pub(crate) fn exit_process(&mut self, outcome: Outcome) {
        let outcome = *self.process.exit.get_or_insert(outcome);
        self.task.exit = Some(outcome);
        for tid in self.process.threads.clone() {
            self.kill_task(tid, outcome);
        }
    }

    /// Makes a task end as soon as it has the CPU.
    pub(crate) fn kill_task(&mut self, tid: u32, outcome: Outcome) {
        if let Some(task) = self.task_mut(tid) {
            task.exit.get_or_insert(outcome);
        }
        self.unstop_task(tid);
        self.wake_task(tid);
    }

    fn stop_task(&mut self, tid: u32) {
        // What waits in a call is woken first: it will look again when it goes on.
        self.wake_task(tid);
        self.unready(tid);
        if let Some(task) = self.task_mut(tid) {
            task.state = State::Stopped;
        }
    }

    fn unstop_task(&mut self, tid: u32) {
        let Some(task) = self.task_of(tid) else { return };
        // What came in the meantime.
        let shared = self.process_of(task.pid).map_or(0, |process| process.pending.bits());
        let heard = (shared | task.signals.pending.bits()) & !task.signals.mask;
        let Some(task) = self.task_mut(tid) else { return };
        if task.state == State::Stopped {
            task.state = State::Ready;
            task.signals.is_notified = heard != 0;
            self.ready_again(tid);
        }
    }
}
