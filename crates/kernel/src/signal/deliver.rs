//! Acting on signals, before the task runs on.
//!
//! # Source
//! Linux 6.12 `kernel/signal.c:get_signal`, `arch/x86/kernel/signal.c:handle_signal`.

use machine::Event;

use super::number::{SIGSEGV, SIGSTOP};
use super::{DefaultAction, SigAction, SigInfo, bit, default_of, flag};
use crate::Kernel;
use crate::abi::Abi;
use crate::errno::Errno;
use crate::outcome::Outcome;
use crate::task::State;

/// Bytes of the `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

impl Kernel {
    /// Acts on every pending signal that is not blocked, and decides how a call ends that a signal
    /// interrupted.
    pub(crate) fn deliver_signals(&mut self) {
        let is_chosen = self.task.signals.is_notified;
        while is_chosen && self.task.exit.is_none() && self.task.state == State::Ready {
            let mask = self.task.signals.mask;
            let Some(info) = self.take_signal(!mask) else { break };
            let action = self.process.actions.get(info.signal);
            let event = Event::Signal {
                task: self.task.tid,
                number: info.signal,
                code: info.code,
                addr: info.address(),
            };
            self.hw.log.push(self.hw.time(), event);
            match action.handler {
                SigAction::IGNORE => {}
                SigAction::DEFAULT => self.act_by_default(info.signal),
                _ => self.enter_handler(info, action),
            }
        }
        // Without a handler the call goes on waiting as if nothing had been: it sets its mask anew.
        self.task.signals.interrupted = None;
        match self.task.signals.saved_mask.take() {
            Some(mask) => self.set_mask(mask),
            None => self.recheck_signals(),
        }
    }

    fn act_by_default(&mut self, signal: u8) {
        match default_of(signal) {
            DefaultAction::Ignore => {}
            DefaultAction::Terminate | DefaultAction::Core => {
                self.exit_process(Outcome::Killed(signal));
            }
            // Nobody could let the processes of an orphaned group go on.
            DefaultAction::Stop if signal != SIGSTOP && self.is_orphaned(self.process.group) => {}
            DefaultAction::Stop => self.stop_process(signal),
        }
    }

    fn enter_handler(&mut self, info: SigInfo, action: SigAction) {
        self.end_interrupted_call(action);
        if action.flags & flag::SA_RESETHAND != 0 {
            self.process.actions.forget_handler(info.signal);
            self.share_actions();
        }
        self.abort_rseq();
        let pushed = match action.abi {
            Abi::X86_64 => self.push_signal_frame(info, action),
            Abi::I386 => self.push_i386_frame(info, action),
        };
        if pushed.is_err() {
            // Linux: a handler of SIGSEGV that cannot be entered is not tried a second time.
            if info.signal == SIGSEGV {
                self.process.actions.forget_handler(SIGSEGV);
                self.share_actions();
            }
            self.force_segv();
            return;
        }
        let own = if action.flags & flag::SA_NODEFER == 0 { bit(info.signal) } else { 0 };
        self.set_mask(self.task.signals.mask | action.mask | own);
        self.task.signals.saved_mask = None;
    }

    /// A handler runs: the call that its signal interrupted returns `EINTR` behind it, or is done
    /// again.
    fn end_interrupted_call(&mut self, action: SigAction) {
        let Some(how) = self.task.signals.interrupted.take() else { return };
        self.task.wait = None;
        let is_restarted = how == Errno::RESTART_ALWAYS
            || how == Errno::RESTART && action.flags & flag::SA_RESTART != 0;
        if is_restarted {
            // rax still holds the number.
            self.task.regs.rip = self.task.regs.rip.wrapping_sub(SYSCALL_BYTES);
        } else {
            self.task.regs.gpr[0] = self.result_register(Errno::EINTR.as_register());
        }
    }
}
