//! Signals: what is pending, what is blocked, what the program wants done, and the delivery.
//!
//! `signal/send.rs` makes signals pending and wakes who shall act on them, `signal/deliver.rs`
//! acts, `signal/fault.rs` turns what the hardware refuses into signals, `signal/frame.rs` builds
//! and takes down the frame on the program's stack, `signal/calls.rs` has the system calls.
//!
//! Does not: write core files.
//!
//! Invariants
//! 1. SIGKILL and SIGSTOP are never blocked, caught or ignored.
//! 2. A standard signal is pending at most once, the queue of real-time signals is bounded.

mod calls;
mod deliver;
mod fault;
mod frame;
mod send;

use std::collections::VecDeque;

use crate::abi::Abi;
use crate::errno::Errno;

pub use calls::handler;
pub(crate) use frame::{
    HANDLER_CLEARS, SIGNAL_FRAME_BYTES, XSTATE_BYTES, restored_flags, xstate_bytes,
};
pub(crate) use send::Receiver;

/// Signal numbers, `SIGHUP` to `SIGSYS`.
#[allow(missing_docs, reason = "the names are those of man 7 signal")]
pub mod number {
    pub const SIGHUP: u8 = 1;
    pub const SIGINT: u8 = 2;
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
    pub const SIGXCPU: u8 = 24;
    pub const SIGXFSZ: u8 = 25;
    pub const SIGVTALRM: u8 = 26;
    pub const SIGPROF: u8 = 27;
    pub const SIGWINCH: u8 = 28;
}
use number::{
    SIGABRT, SIGBUS, SIGCHLD, SIGCONT, SIGFPE, SIGILL, SIGKILL, SIGQUIT, SIGSEGV, SIGSTOP, SIGTRAP,
    SIGTSTP, SIGTTIN, SIGTTOU, SIGURG, SIGWINCH, SIGXFSZ,
};

/// The highest signal number.
pub const SIGNAL_MAX: u8 = 64;
/// Signals from here on queue.
const REAL_TIME_FIRST: u8 = 32;

/// `si_code` of a signal that the kernel sent.
pub const SI_KERNEL: i32 = 0x80;
/// `si_code` of a signal that `kill` sent.
pub const SI_USER: i32 = 0;
/// `si_code` of a signal that `tkill` or `tgkill` sent.
pub const SI_TKILL: i32 = -6;

/// `sa_flags`.
#[allow(missing_docs, reason = "the names are those of man 2 sigaction")]
pub mod flag {
    pub const SA_NOCLDSTOP: u64 = 1;
    pub const SA_NOCLDWAIT: u64 = 2;
    pub const SA_SIGINFO: u64 = 4;
    pub const SA_RESTORER: u64 = 0x0400_0000;
    pub const SA_ONSTACK: u64 = 0x0800_0000;
    pub const SA_RESTART: u64 = 0x1000_0000;
    pub const SA_NODEFER: u64 = 0x4000_0000;
    pub const SA_RESETHAND: u64 = 0x8000_0000;
    pub const SS_ONSTACK: u32 = 1;
    pub const SS_DISABLE: u32 = 2;
    pub const SS_AUTODISARM: u32 = 1 << 31;
}

/// The trap flag: an exception after each instruction.
const FLAG_TF: u64 = 1 << 8;
/// The resume flag, which faults leave in the flags that a handler sees.
pub(crate) const FLAG_RF: u64 = 1 << 16;

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
    /// Which code the handler is: that of the call which set it.
    pub abi: Abi,
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
    /// `si_pid`, `si_uid` and `si_status` of a child.
    Child {
        /// Process number.
        pid: u32,
        /// Its user.
        uid: u32,
        /// Exit code or signal.
        status: i32,
        /// Its CPU time in ticks.
        ticks: u64,
    },
    /// `si_timerid`, `si_overrun` and `si_value` of a timer of `timer_create`.
    Timer {
        /// Which timer.
        id: u32,
        /// How often it ran out unseen.
        overrun: i32,
        /// The value that it was made with.
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
            SigDetail::Child { pid, uid, status, ticks } => {
                bytes[16..20].copy_from_slice(&pid.to_le_bytes());
                bytes[20..24].copy_from_slice(&uid.to_le_bytes());
                bytes[24..28].copy_from_slice(&status.to_le_bytes());
                bytes[32..40].copy_from_slice(&ticks.to_le_bytes());
            }
            SigDetail::Timer { id, overrun, value } => {
                bytes[16..20].copy_from_slice(&id.to_le_bytes());
                bytes[20..24].copy_from_slice(&overrun.to_le_bytes());
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

    /// Whether a task whose stack pointer is `sp` is on it; one with `SS_AUTODISARM` never is.
    pub const fn is_in_use(&self, sp: u64) -> bool {
        self.flags & flag::SS_AUTODISARM == 0 && self.holds(sp)
    }

    /// Whether `sp` lies in it.
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

/// What a process wants done on each signal.
#[derive(Clone, Debug)]
pub struct Actions([SigAction; SIGNAL_MAX as usize]);

impl Default for Actions {
    fn default() -> Self {
        Self([SigAction::default(); SIGNAL_MAX as usize])
    }
}

impl Actions {
    /// What is to be done on `signal`, 1 to 64.
    pub fn get(&self, signal: u8) -> SigAction {
        self.0[usize::from(signal - 1)]
    }

    /// Changes what is to be done on `signal`, 1 to 64. The caller throws away what is pending and
    /// is now ignored.
    pub fn set(&mut self, signal: u8, action: SigAction) {
        self.0[usize::from(signal - 1)] = action;
    }

    /// Whether `signal` would be thrown away.
    pub fn is_ignored(&self, signal: u8) -> bool {
        let handler = self.get(signal).handler;
        handler == SigAction::IGNORE
            || handler == SigAction::DEFAULT && default_of(signal) == DefaultAction::Ignore
    }

    /// Bits of the signals that are ignored by wish, and of those with handlers.
    pub fn ignored_and_caught(&self) -> (u64, u64) {
        let bits = |wanted: fn(u64) -> bool| {
            (1..=SIGNAL_MAX).filter(|&signal| wanted(self.get(signal).handler)).map(bit).sum()
        };
        (bits(|handler| handler == SigAction::IGNORE), bits(|handler| handler > SigAction::IGNORE))
    }

    /// Forgets handlers, as exec does; ignored signals stay ignored.
    pub fn reset_for_exec(&mut self) {
        for action in &mut self.0 {
            let is_ignored = action.handler == SigAction::IGNORE;
            *action = SigAction::default();
            action.handler = u64::from(is_ignored);
        }
    }

    /// Forgets the handler of one signal, as `SA_RESETHAND` and signals that cannot be put off do;
    /// flags and mask stay.
    pub fn forget_handler(&mut self, signal: u8) {
        self.0[usize::from(signal - 1)].handler = SigAction::DEFAULT;
    }
}

/// Signals that have come and were not acted on.
#[derive(Clone, Default, Debug)]
pub struct Pending {
    queue: VecDeque<SigInfo>,
    bits: u64,
}

impl Pending {
    /// Which signals are there.
    pub fn bits(&self) -> u64 {
        self.bits
    }

    /// How many are there, those that queue counted each.
    pub fn count(&self) -> usize {
        self.queue.len()
    }

    /// Puts `info` behind the others, unless it is there already and does not queue. Beyond
    /// `count_max` a signal is still there, but what it says is lost.
    pub fn push(&mut self, info: SigInfo, count_max: u64) {
        let is_pending = self.bits & bit(info.signal) != 0;
        // A timer has its own place in the queue, whatever the signal.
        let is_timer = matches!(info.detail, SigDetail::Timer { .. });
        if is_pending && info.signal < REAL_TIME_FIRST && !is_timer {
            return;
        }
        self.bits |= bit(info.signal);
        if (self.queue.len() as u64) < count_max {
            self.queue.push_back(info);
        }
    }

    /// Takes the next signal in `wanted`: synchronous ones first, then the lowest number.
    pub fn take(&mut self, wanted: u64) -> Option<SigInfo> {
        let ready = self.bits & wanted;
        if ready == 0 {
            return None;
        }
        // SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV SIGSYS: Linux kernel/signal.c, SYNCHRONOUS_MASK.
        let synchronous = ready & 0x4000_04d8;
        let choice = if synchronous == 0 { ready } else { synchronous };
        let signal = u8::try_from(choice.trailing_zeros() + 1).unwrap_or(SIGNAL_MAX);
        let found = self.queue.iter().position(|info| info.signal == signal);
        let info = found.and_then(|index| self.queue.remove(index));
        // As Linux says of a signal whose information found no room.
        let info = info.unwrap_or(SigInfo { signal, code: SI_USER, detail: SigDetail::None });
        if !self.queue.iter().any(|other| other.signal == signal) {
            self.bits &= !bit(signal);
        }
        Some(info)
    }

    /// Throws `signals` away.
    pub fn discard(&mut self, signals: u64) {
        self.queue.retain(|info| bit(info.signal) & signals == 0);
        self.bits &= !signals;
    }
}

/// The signal state of one thread.
#[derive(Clone, Debug)]
pub struct Signals {
    /// Blocked signals.
    pub mask: u64,
    /// The mask to go back to after `rt_sigsuspend` and its like.
    pub saved_mask: Option<u64>,
    /// The mask in force but for the signals that `rt_sigtimedwait` waits for.
    pub real_mask: Option<u64>,
    /// Signals for this thread alone.
    pub pending: Pending,
    /// Whether the thread was chosen to look for signals (Linux: `TIF_SIGPENDING`). What is pending
    /// for the process is left to others while it is not.
    pub is_notified: bool,
    /// The alternate stack.
    pub alt_stack: AltStack,
    /// The last exception.
    pub trap: Trap,
    /// How the call ended that a signal interrupted, until that is decided.
    pub interrupted: Option<Errno>,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            mask: 0,
            saved_mask: None,
            real_mask: None,
            pending: Pending::default(),
            is_notified: false,
            alt_stack: AltStack::NONE,
            trap: Trap::default(),
            interrupted: None,
        }
    }
}

/// What happens on a signal when the program did not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum DefaultAction {
    Terminate,
    /// Terminate, and write a core file, which does not exist here.
    Core,
    Ignore,
    Stop,
}

const fn default_of(signal: u8) -> DefaultAction {
    match signal {
        SIGCHLD | SIGCONT | SIGURG | SIGWINCH => DefaultAction::Ignore,
        SIGSTOP | SIGTSTP | SIGTTIN | SIGTTOU => DefaultAction::Stop,
        // SIGXCPU and SIGSYS are 24 and 31.
        SIGQUIT | SIGILL | SIGTRAP | SIGABRT | SIGBUS | SIGFPE | SIGSEGV | 24 | SIGXFSZ | 31 => {
            DefaultAction::Core
        }
        _ => DefaultAction::Terminate,
    }
}

#[cfg(test)]
mod tests {
    use super::number::{SIGCHLD, SIGSEGV};
    use super::{Actions, Pending, SigAction, SigInfo, bit};

    #[test]
    fn a_standard_signal_is_pending_once_and_real_time_signals_queue() {
        let mut pending = Pending::default();
        for _ in 0..3 {
            pending.push(SigInfo::kernel(10), 9);
            pending.push(SigInfo::kernel(40), 9);
        }
        assert_eq!(pending.take(!0).map(|info| info.signal), Some(10));
        for _ in 0..3 {
            assert_eq!(pending.take(!0).map(|info| info.signal), Some(40));
        }
        assert_eq!(pending.take(!0), None);
        assert_eq!((pending.bits(), pending.count()), (0, 0));
    }

    #[test]
    fn synchronous_signals_come_first_and_some_are_ignored() {
        let mut pending = Pending::default();
        pending.push(SigInfo::kernel(1), 9);
        pending.push(SigInfo::kernel(SIGSEGV), 9);
        assert_eq!(pending.take(!0).map(|info| info.signal), Some(SIGSEGV));
        assert_eq!(pending.bits(), bit(1));
        pending.discard(bit(1));
        assert_eq!(pending.take(!0), None);
        let mut actions = Actions::default();
        assert!(actions.is_ignored(SIGCHLD) && !actions.is_ignored(1));
        actions.set(1, SigAction { handler: SigAction::IGNORE, ..SigAction::default() });
        assert!(actions.is_ignored(1));
        assert_eq!(actions.ignored_and_caught(), (bit(1), 0));
    }
}
