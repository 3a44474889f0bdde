//! Signals: what is pending, what is blocked, what the program wants done, and the delivery.
//!
//! `signal/fault.rs` turns what the hardware refuses into signals, `signal/frame.rs` builds and
//! takes down the frame on the program's stack, `signal/calls.rs` has the system calls.
//!
//! Does not: stop and continue tasks (no second task could continue one), write core files.
//!
//! Invariants
//! 1. SIGKILL and SIGSTOP are never blocked, caught or ignored.
//! 2. A standard signal is pending at most once, the queue of real-time signals is bounded.

mod calls;
mod fault;
mod frame;

use std::collections::VecDeque;

use machine::Event;

use crate::Kernel;
use crate::outcome::Outcome;

pub use calls::handler;
pub(crate) use frame::SIGNAL_FRAME_BYTES;

/// Signal numbers, `SIGHUP` to `SIGSYS`.
#[allow(missing_docs, reason = "the names are those of man 7 signal")]
pub mod number {
    pub const SIGHUP: u8 = 1;
    pub const SIGQUIT: u8 = 3;
    pub const SIGILL: u8 = 4;
    pub const SIGTRAP: u8 = 5;
    pub const SIGABRT: u8 = 6;
    pub const SIGBUS: u8 = 7;
    pub const SIGFPE: u8 = 8;
    pub const SIGKILL: u8 = 9;
    pub const SIGSEGV: u8 = 11;
    pub const SIGPIPE: u8 = 13;
    pub const SIGALRM: u8 = 14;
    pub const SIGCHLD: u8 = 17;
    pub const SIGCONT: u8 = 18;
    pub const SIGSTOP: u8 = 19;
    pub const SIGTSTP: u8 = 20;
    pub const SIGTTIN: u8 = 21;
    pub const SIGTTOU: u8 = 22;
    pub const SIGURG: u8 = 23;
    pub const SIGXFSZ: u8 = 25;
    pub const SIGVTALRM: u8 = 26;
    pub const SIGPROF: u8 = 27;
    pub const SIGWINCH: u8 = 28;
}
use number::{
    SIGCHLD, SIGCONT, SIGKILL, SIGSEGV, SIGSTOP, SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH,
};

/// The highest signal number.
pub const SIGNAL_MAX: u8 = 64;
/// Signals from here on queue.
const REAL_TIME_FIRST: u8 = 32;
/// Most queued real-time signals.
const QUEUE_MAX: usize = 4096;

/// `si_code` of a signal that the kernel sent.
pub const SI_KERNEL: i32 = 0x80;
/// `si_code` of a signal that `kill` sent.
pub const SI_USER: i32 = 0;
/// `si_code` of a signal that `tkill` or `tgkill` sent.
pub const SI_TKILL: i32 = -6;

/// `sa_flags`.
#[allow(missing_docs, reason = "the names are those of man 2 sigaction")]
pub mod flag {
    pub const SA_SIGINFO: u64 = 4;
    pub const SA_RESTORER: u64 = 0x0400_0000;
    pub const SA_ONSTACK: u64 = 0x0800_0000;
    pub const SA_NODEFER: u64 = 0x4000_0000;
    pub const SA_RESETHAND: u64 = 0x8000_0000;
    pub const SS_ONSTACK: u32 = 1;
    pub const SS_DISABLE: u32 = 2;
    pub const SS_AUTODISARM: u32 = 1 << 31;
}

/// The bit of `signal` in a mask.
pub const fn bit(signal: u8) -> u64 {
    1 << (signal - 1)
}

/// Signals that no mask may block.
pub const UNBLOCKABLE: u64 = bit(SIGKILL) | bit(SIGSTOP);

/// What the program wants done on a signal: `struct sigaction` of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SigAction {
    /// `SIG_DFL` 0, `SIG_IGN` 1, or an address.
    pub handler: u64,
    /// `SA_` bits.
    pub flags: u64,
    /// Where the handler returns to.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}

impl SigAction {
    /// The default action.
    pub const DEFAULT: u64 = 0;
    /// Ignore.
    pub const IGNORE: u64 = 1;
}

/// What comes with a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SigInfo {
    /// The signal.
    pub signal: u8,
    /// `si_code`.
    pub code: i32,
    /// The union behind it.
    pub detail: SigDetail,
}

/// The union in `siginfo`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SigDetail {
    /// Nothing: zeros.
    None,
    /// `si_addr`.
    Address(u64),
    /// `si_pid` and `si_uid`, and `si_value`.
    Sender {
        /// Process number of the sender.
        pid: u32,
        /// Its user.
        uid: u32,
        /// The value of `sigqueue`.
        value: u64,
    },
    /// Bytes that `rt_sigqueueinfo` gave, from offset 16 on.
    Raw([u8; 112]),
}

impl SigInfo {
    /// A signal that the kernel sends without further words.
    pub const fn kernel(signal: u8) -> Self {
        Self { signal, code: SI_KERNEL, detail: SigDetail::None }
    }

    /// The 128 bytes of `siginfo_t`.
    pub fn bytes(&self) -> [u8; 128] {
        let mut bytes = [0; 128];
        bytes[..4].copy_from_slice(&u32::from(self.signal).to_le_bytes());
        bytes[8..12].copy_from_slice(&self.code.to_le_bytes());
        match self.detail {
            SigDetail::None => {}
            SigDetail::Address(addr) => bytes[16..24].copy_from_slice(&addr.to_le_bytes()),
            SigDetail::Sender { pid, uid, value } => {
                bytes[16..20].copy_from_slice(&pid.to_le_bytes());
                bytes[20..24].copy_from_slice(&uid.to_le_bytes());
                bytes[24..32].copy_from_slice(&value.to_le_bytes());
            }
            SigDetail::Raw(raw) => bytes[16..].copy_from_slice(&raw),
        }
        bytes
    }

    fn address(&self) -> u64 {
        match self.detail {
            SigDetail::Address(addr) => addr,
            _ => 0,
        }
    }
}

/// The alternate stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AltStack {
    /// Lowest address.
    pub base: u64,
    /// `SS_` bits.
    pub flags: u32,
    /// Length.
    pub bytes: u64,
}

impl AltStack {
    /// No alternate stack, as exec leaves it.
    pub const NONE: Self = Self { base: 0, flags: 0, bytes: 0 };
    /// No alternate stack, after `SS_AUTODISARM`.
    pub const DISARMED: Self = Self { base: 0, flags: flag::SS_DISABLE, bytes: 0 };

    /// Whether `sp` is on it.
    pub const fn holds(&self, sp: u64) -> bool {
        sp > self.base && sp.wrapping_sub(self.base) <= self.bytes
    }
}

/// The last exception, as signal frames show it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Trap {
    /// Vector number.
    pub number: u64,
    /// Error code.
    pub error_code: u64,
    /// Address of the last page fault.
    pub cr2: u64,
}

/// The signal state of a task.
#[derive(Clone, Debug)]
pub struct Signals {
    actions: [SigAction; SIGNAL_MAX as usize],
    /// Blocked signals.
    pub mask: u64,
    /// The mask to go back to after `rt_sigsuspend`.
    pub saved_mask: Option<u64>,
    pending: VecDeque<SigInfo>,
    pending_bits: u64,
    /// The alternate stack.
    pub alt_stack: AltStack,
    /// The last exception.
    pub trap: Trap,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            actions: [SigAction::default(); SIGNAL_MAX as usize],
            mask: 0,
            saved_mask: None,
            pending: VecDeque::new(),
            pending_bits: 0,
            alt_stack: AltStack::NONE,
            trap: Trap::default(),
        }
    }
}

impl Signals {
    /// What is to be done on `signal`, 1 to 64.
    pub fn action(&self, signal: u8) -> SigAction {
        self.actions[usize::from(signal - 1)]
    }

    /// Changes what is to be done on `signal`, 1 to 64.
    pub fn set_action(&mut self, signal: u8, action: SigAction) {
        self.actions[usize::from(signal - 1)] = action;
        if self.is_ignored(signal) {
            self.discard(bit(signal));
        }
    }

    /// Whether `signal` would be thrown away.
    pub fn is_ignored(&self, signal: u8) -> bool {
        let handler = self.action(signal).handler;
        handler == SigAction::IGNORE
            || handler == SigAction::DEFAULT && default_of(signal) == DefaultAction::Ignore
    }

    /// Signals that are pending, blocked or not.
    pub fn pending_bits(&self) -> u64 {
        self.pending_bits
    }

    /// Whether some pending signal is not blocked.
    pub fn has_deliverable(&self) -> bool {
        self.pending_bits & !self.mask != 0
    }

    /// Makes `info` pending, unless it is ignored or already is.
    pub fn send(&mut self, info: SigInfo) {
        let is_blocked = self.mask & bit(info.signal) != 0;
        if !is_blocked && self.is_ignored(info.signal) {
            return;
        }
        let is_pending = self.pending_bits & bit(info.signal) != 0;
        if is_pending && (info.signal < REAL_TIME_FIRST || self.pending.len() >= QUEUE_MAX) {
            return;
        }
        self.pending_bits |= bit(info.signal);
        self.pending.push_back(info);
    }

    /// Takes the next signal in `wanted`: synchronous ones first, then the lowest number.
    pub fn take(&mut self, wanted: u64) -> Option<SigInfo> {
        let ready = self.pending_bits & wanted;
        if ready == 0 {
            return None;
        }
        // SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV SIGSYS: Linux kernel/signal.c, SYNCHRONOUS_MASK.
        let synchronous = ready & 0x4000_04d8;
        let choice = if synchronous == 0 { ready } else { synchronous };
        let signal = u8::try_from(choice.trailing_zeros() + 1).unwrap_or(SIGNAL_MAX);
        let index = self.pending.iter().position(|info| info.signal == signal)?;
        let info = self.pending.remove(index)?;
        if !self.pending.iter().any(|other| other.signal == signal) {
            self.pending_bits &= !bit(signal);
        }
        Some(info)
    }

    /// Forgets handlers and the alternate stack, as exec does; ignored signals stay ignored.
    pub fn reset_for_exec(&mut self) {
        for action in &mut self.actions {
            let is_ignored = action.handler == SigAction::IGNORE;
            *action = SigAction::default();
            action.handler = u64::from(is_ignored);
        }
        self.alt_stack = AltStack::NONE;
    }

    fn discard(&mut self, signals: u64) {
        self.pending.retain(|info| bit(info.signal) & signals == 0);
        self.pending_bits &= !signals;
    }
}

/// What happens on a signal when the program did not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DefaultAction {
    Terminate,
    Ignore,
    Stop,
}

const fn default_of(signal: u8) -> DefaultAction {
    match signal {
        SIGCHLD | SIGCONT | SIGURG | SIGWINCH => DefaultAction::Ignore,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => DefaultAction::Stop,
        _ => DefaultAction::Terminate,
    }
}

impl Kernel {
    /// Sends a signal that the task cannot put off: if it is blocked or ignored, it kills.
    pub fn force_signal(&mut self, info: SigInfo) {
        let signals = &mut self.task.signals;
        let is_blocked = signals.mask & bit(info.signal) != 0;
        if is_blocked || signals.action(info.signal).handler == SigAction::IGNORE {
            signals.set_action(info.signal, SigAction::default());
            signals.mask &= !bit(info.signal);
        }
        // A synchronous signal that is already pending keeps its first information, as in Linux.
        signals.send(info);
    }

    /// Sends SIGSEGV because a frame could not be built or taken down.
    pub(crate) fn force_segv(&mut self) {
        self.force_signal(SigInfo::kernel(SIGSEGV));
    }

    /// Acts on every pending signal that is not blocked; called before the task runs on.
    pub(crate) fn deliver_signals(&mut self) {
        while self.task.exit.is_none() {
            let mask = self.task.signals.mask;
            let Some(info) = self.task.signals.take(!mask) else { break };
            let action = self.task.signals.action(info.signal);
            let event = Event::Signal {
                task: self.task.pid,
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
        if let Some(mask) = self.task.signals.saved_mask.take() {
            self.task.signals.mask = mask;
        }
    }

    fn act_by_default(&mut self, signal: u8) {
        match default_of(signal) {
            DefaultAction::Ignore => {}
            DefaultAction::Terminate => self.task.exit = Some(Outcome::Killed(signal)),
            // Differs from Linux: nobody could continue the only task, so the run ends here.
            DefaultAction::Stop => self.task.exit = Some(Outcome::Killed(signal)),
        }
    }

    fn enter_handler(&mut self, info: SigInfo, action: SigAction) {
        if action.flags & flag::SA_RESETHAND != 0 {
            self.task.signals.set_action(info.signal, SigAction::default());
        }
        if self.push_signal_frame(info, action).is_err() {
            // Linux: a handler of SIGSEGV that cannot be entered is not tried a second time.
            if info.signal == SIGSEGV {
                self.task.signals.set_action(SIGSEGV, SigAction::default());
            }
            self.force_segv();
            return;
        }
        let signals = &mut self.task.signals;
        let own = if action.flags & flag::SA_NODEFER == 0 { bit(info.signal) } else { 0 };
        signals.mask = (signals.mask | action.mask | own) & !UNBLOCKABLE;
        signals.saved_mask = None;
    }
}

#[cfg(test)]
mod tests {
    use super::number::{SIGCHLD, SIGSEGV};
    use super::{SigAction, SigInfo, Signals, bit};

    #[test]
    fn a_standard_signal_is_pending_once_and_real_time_signals_queue() {
        let mut signals = Signals { mask: !0, ..Signals::default() };
        for _ in 0..3 {
            signals.send(SigInfo::kernel(10));
            signals.send(SigInfo::kernel(40));
        }
        assert_eq!(signals.take(!0).map(|info| info.signal), Some(10));
        for _ in 0..3 {
            assert_eq!(signals.take(!0).map(|info| info.signal), Some(40));
        }
        assert_eq!(signals.take(!0), None);
        assert_eq!(signals.pending_bits(), 0);
    }

    #[test]
    fn synchronous_signals_come_first_and_ignored_ones_vanish() {
        let mut signals = Signals::default();
        signals.send(SigInfo::kernel(1));
        signals.send(SigInfo::kernel(SIGSEGV));
        signals.send(SigInfo::kernel(SIGCHLD));
        assert_eq!(signals.take(!0).map(|info| info.signal), Some(SIGSEGV));
        assert_eq!(signals.pending_bits(), bit(1));
        signals.set_action(1, SigAction { handler: SigAction::IGNORE, ..SigAction::default() });
        assert!(!signals.has_deliverable());
    }
}
