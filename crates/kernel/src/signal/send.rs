//! Making signals pending, and waking who shall act on them.
//!
//! # Source
//! Linux 6.12 `kernel/signal.c`: `prepare_signal`, `complete_signal`, `sig_ignored`.

use super::number::{SIGCONT, SIGKILL, SIGPIPE, SIGSEGV, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU};
use super::{SI_USER, SigAction, SigDetail, SigInfo, bit};
use crate::Kernel;
use crate::outcome::Outcome;
use crate::process::{Life, Told};
use crate::task::State;

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

    /// Whether the running task has a signal to act on.
    pub(crate) fn has_deliverable(&self) -> bool {
        self.pending_bits() & !self.task.signals.mask != 0
    }

    /// Takes the next signal in `wanted`: those for the thread alone come first.
    pub(crate) fn take_signal(&mut self, wanted: u64) -> Option<SigInfo> {
        let own = self.task.signals.pending.take(wanted);
        own.or_else(|| self.process.pending.take(wanted))
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
    /// wakes who shall act on it. Nothing happens if the thread or process is gone.
    pub(crate) fn send_signal(&mut self, tid: u32, info: SigInfo, receiver: Receiver) {
        let Some(task) = self.task_of(tid) else { return };
        let (pid, mask) = (task.pid, task.signals.real_mask.unwrap_or(task.signals.mask));
        self.prepare(pid, info.signal);
        let Some(process) = self.process_mut(pid) else { return };
        let is_blocked = mask & bit(info.signal) != 0;
        if !is_blocked && process.actions.is_ignored(info.signal) {
            return;
        }
        if receiver == Receiver::Process {
            process.pending.push(info);
        } else if let Some(task) = self.task_mut(tid) {
            task.signals.pending.push(info);
        }
        self.wake_for(pid, tid, info.signal, receiver);
    }

    /// Sends a signal to a process; false if there is none with a thread.
    pub(crate) fn send_to_process(&mut self, pid: u32, info: SigInfo) -> bool {
        let Some(process) = self.process_of(pid) else { return false };
        let first = process.threads.first().copied();
        if let Some(tid) = first {
            self.send_signal(tid, info, Receiver::Process);
        }
        true
    }

    /// Wakes a thread that can act on `signal`: `tid` if it does not block it, else any other.
    fn wake_for(&mut self, pid: u32, tid: u32, signal: u8, receiver: Receiver) {
        let Some(process) = self.process_of(pid) else { return };
        let others = process.threads.iter().copied().filter(|&other| other != tid);
        let candidates: Vec<u32> = match receiver {
            Receiver::Thread => vec![tid],
            Receiver::Process => std::iter::once(tid).chain(others).collect(),
        };
        let hears = |kernel: &Self, tid: u32| {
            kernel.task_of(tid).is_some_and(|task| task.signals.mask & bit(signal) == 0)
        };
        let Some(&chosen) = candidates.iter().find(|&&tid| hears(self, tid)) else { return };
        if signal == SIGKILL {
            // Also a stopped process dies at once.
            self.resume_process(pid);
        }
        self.wake_task(chosen);
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
        let Some(process) = self.process_mut(pid) else { return };
        if !matches!(process.life, Life::Stopped(..)) {
            return;
        }
        process.life = Life::Continued;
        for tid in process.threads.clone() {
            self.unstop_task(tid);
        }
        self.tell_parent_of_stop(pid, SIGCONT);
    }

    /// Stops the process of the running task.
    pub(crate) fn stop_process(&mut self, signal: u8) {
        self.process.life = Life::Stopped(signal, Told::No);
        for tid in self.process.threads.clone() {
            self.stop_task(tid);
        }
        self.tell_parent_of_stop(self.process.pid, signal);
    }

    /// Sends a signal that the running task cannot put off: if it is blocked or ignored, it kills.
    pub(crate) fn force_signal(&mut self, info: SigInfo) {
        let is_blocked = self.task.signals.mask & bit(info.signal) != 0;
        if is_blocked || self.process.actions.get(info.signal).handler == SigAction::IGNORE {
            self.process.actions.set(info.signal, SigAction::default());
            self.task.signals.mask &= !bit(info.signal);
        }
        // A synchronous signal that is already pending keeps its first information, as in Linux.
        self.task.signals.pending.push(info);
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
        let Some(task) = self.task_mut(tid) else { return };
        if task.state == State::Stopped {
            task.state = State::Ready;
            self.ready_again(tid);
        }
    }
}
