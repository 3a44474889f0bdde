//! Host signals that guest instructions raise inside emitted code.
//!
//! The handler only writes down what happened and lets the thread go on at the stub `signal`, which
//! leaves emitted code in the ordinary way. A fault anywhere else is a bug of ours: the former
//! action is put back and the fault happens again.
//!
//! Emitted code keeps the guest's stack pointer in rsp. So every handler that the process installs
//! for an asynchronous signal must use SA_ONSTACK; those here do.
#![allow(unsafe_code, reason = "signal handlers")]

use super::{EngineError, words};
use core::sync::atomic::{AtomicU64, Ordering};
use std::sync::OnceLock;

const SIGNALS: [libc::c_int; 5] =
    [libc::SIGSEGV, libc::SIGFPE, libc::SIGILL, libc::SIGBUS, libc::SIGTRAP];
const STACK_BYTES: usize = 64 << 10;
const CACHES_MAX: usize = 256;

/// One code cache that handlers know: its addresses and its `signal` stub.
struct Known {
    start: AtomicU64,
    end: AtomicU64,
    stub: AtomicU64,
}

static KNOWN: [Known; CACHES_MAX] =
    [const { Known { start: AtomicU64::new(0), end: AtomicU64::new(0), stub: AtomicU64::new(0) } };
        CACHES_MAX];

static FORMER: OnceLock<[libc::sigaction; SIGNALS.len()]> = OnceLock::new();

/// Keeps a code cache known to the handlers while it lives.
#[derive(Debug)]
pub(super) struct Registration {
    slot: usize,
}

impl Registration {
    /// Makes the cache known and installs the handlers if they are not.
    ///
    /// # Errors
    /// The host refused a handler, or too many engines live.
    pub(super) fn new(range: (u64, u64), stub: u64) -> Result<Self, EngineError> {
        install()?;
        for (slot, known) in KNOWN.iter().enumerate() {
            let taken = known.stub.compare_exchange(0, stub, Ordering::SeqCst, Ordering::SeqCst);
            if taken.is_ok() {
                known.end.store(range.1, Ordering::SeqCst);
                known.start.store(range.0, Ordering::SeqCst);
                return Ok(Self { slot });
            }
        }
        Err(EngineError::Host { call: "another engine", errno: libc::EAGAIN })
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let known = &KNOWN[self.slot];
        known.start.store(0, Ordering::SeqCst);
        known.end.store(0, Ordering::SeqCst);
        known.stub.store(0, Ordering::SeqCst);
    }
}

fn install() -> Result<(), EngineError> {
    if FORMER.get().is_some() {
        return Ok(());
    }
    // SAFETY: 1. All-zero bytes are a valid `sigaction`: default action, empty mask.
    let blank: libc::sigaction = unsafe { core::mem::zeroed() };
    let mut former = [blank; SIGNALS.len()];
    for (signal, slot) in SIGNALS.iter().zip(former.iter_mut()) {
        // SAFETY: 1. A null new action only asks. 2. `slot` is a valid place for the answer.
        let result = unsafe { libc::sigaction(*signal, core::ptr::null(), slot) };
        if result != 0 {
            return Err(EngineError::Host { call: "sigaction", errno: libc::EINVAL });
        }
    }
    FORMER.get_or_init(|| former);
    let mut action = blank;
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    for signal in SIGNALS {
        // SAFETY: 1. `handler` has the signature that SA_SIGINFO asks for, and does only what a
        // handler may do: atomic loads, writes to GS words and to its context, `sigaction`.
        let result = unsafe { libc::sigaction(signal, &raw const action, core::ptr::null_mut()) };
        if result != 0 {
            return Err(EngineError::Host { call: "sigaction", errno: libc::EINVAL });
        }
    }
    Ok(())
}

/// The handler of all five signals.
extern "C" fn handler(
    signal: libc::c_int,
    _info: *mut libc::siginfo_t,
    context: *mut libc::c_void,
) {
    // SAFETY: 1. The kernel passes a valid `ucontext_t` with SA_SIGINFO. 2. It lives on this stack
    // until the handler returns, and nothing else refers to it.
    let context = unsafe { &mut *context.cast::<libc::ucontext_t>() };
    let registers = &mut context.uc_mcontext.gregs;
    let rip = registers[libc::REG_RIP as usize] as u64;
    let trap = registers[libc::REG_TRAPNO as usize] as u64;
    let known = KNOWN.iter().find(|known| {
        (known.start.load(Ordering::SeqCst)..known.end.load(Ordering::SeqCst)).contains(&rip)
    });
    let Some(known) = known else {
        restore(signal);
        return;
    };
    write_word(words::SIGNAL_RIP, rip);
    write_word(words::SIGNAL_TRAP, trap);
    registers[libc::REG_RIP as usize] = known.stub.load(Ordering::SeqCst) as i64;
}

/// Puts the former action back, so that the fault happens again under it.
fn restore(signal: libc::c_int) {
    let former = FORMER.get().zip(SIGNALS.iter().position(|other| *other == signal));
    if let Some((former, index)) = former {
        // SAFETY: 1. The action was given to us by the same call for the same signal.
        unsafe { libc::sigaction(signal, &raw const former[index], core::ptr::null_mut()) };
    }
}

fn write_word(word: usize, value: u64) {
    // SAFETY: 1. The interrupted instruction was in a code cache, so GS points to the words of the
    // machine that runs. 2. `word` is one of the engine's own.
    unsafe {
        core::arch::asm!(
            "mov gs:[{word}], {value}",
            word = in(reg) i64::from(words::gs(word)),
            value = in(reg) value,
            options(nostack, preserves_flags)
        );
    }
}

/// The alternate signal stack of one thread.
struct Stack {
    memory: Vec<u8>,
}

impl Stack {
    fn new() -> Self {
        let mut memory = vec![0u8; STACK_BYTES];
        let stack =
            libc::stack_t { ss_sp: memory.as_mut_ptr().cast(), ss_flags: 0, ss_size: memory.len() };
        // SAFETY: 1. The memory lives until `drop`, which takes the stack out of use first.
        let result = unsafe { libc::sigaltstack(&raw const stack, core::ptr::null_mut()) };
        assert!(result == 0, "a stack of {STACK_BYTES} bytes is large enough for the kernel");
        Self { memory }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let stack = libc::stack_t {
            ss_sp: core::ptr::null_mut(),
            ss_flags: libc::SS_DISABLE,
            ss_size: self.memory.len(),
        };
        // SAFETY: 1. Taking the stack out of use has no preconditions outside of a handler.
        unsafe { libc::sigaltstack(&raw const stack, core::ptr::null_mut()) };
    }
}

thread_local! {
    static STACK: Stack = Stack::new();
}

/// Gives this thread a stack for signal handlers, once.
pub(super) fn prepare_thread() {
    STACK.with(|stack| debug_assert!(!stack.memory.is_empty(), "the stack has memory"));
}
