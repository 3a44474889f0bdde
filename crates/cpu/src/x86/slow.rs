//! The door from emitted code to Rust for accesses that the fast path does not decide.
#![allow(unsafe_code, reason = "called from emitted code")]

use super::engine::Core;
use machine::Machine;

/// What the slow path works on; emitted code carries its address.
pub(super) struct SlowContext {
    core: *mut Core,
    hw: *mut Machine,
}

impl SlowContext {
    /// The context for one stay in emitted code.
    pub(super) fn new(core: &mut Core, hw: &mut Machine) -> Self {
        Self { core, hw }
    }

    /// Its address, for the word [`super::words::CONTEXT`].
    pub(super) fn address(&mut self) -> u64 {
        core::ptr::from_mut(self) as u64
    }

    /// Sets one of the engine's own words.
    pub(super) fn set_word(&mut self, word: usize, value: u64) {
        // SAFETY: 1. The pointer was made from a reference that is not used while this value lives.
        let hw = unsafe { &mut *self.hw };
        hw.fast()[word] = value;
    }

    /// Runs emitted code at `target` with this context.
    pub(super) fn enter(&mut self, target: u64) {
        // SAFETY: 1. The pointer was made from a reference that is not used during the stay in
        // emitted code. 2. The borrow ends before `enter`.
        let stub = unsafe { (*self.core).prepare_entry() };
        super::enter::enter(stub, target);
    }
}

/// Host address of [`quick_access`].
pub(super) fn quick_access_address() -> u64 {
    quick_access as *const () as u64
}

/// The bytes of a function of ours from `address` on, at most 15 and none of the next page but one.
pub(super) fn code_at(address: u64) -> [u8; 15] {
    let mut code = [0x90; 15];
    let source = address as *const u8;
    // SAFETY: 1. The caller follows machine code of this program from the start of a function, so
    // that an instruction starts at `address`. 2. The text of a program is followed by its unwind
    // tables, so that 15 bytes are readable. 3. Nothing writes to it.
    unsafe { core::ptr::copy_nonoverlapping(source, code.as_mut_ptr(), code.len()) };
    code
}

/// [`slow_access`] for what is usual: touches no vector register, which `plain.rs` checks. Returns
/// 0 if there is more to it; then nothing has changed. `slot` is the shadow's slot of `address`.
extern "C" fn quick_access(context: *mut SlowContext, address: u64, site: u64, slot: usize) -> u64 {
    // SAFETY: as in `slow_access`.
    let context = unsafe { &mut *context };
    // SAFETY: as in `slow_access`.
    let core = unsafe { &mut *context.core };
    // SAFETY: as in `slow_access`.
    let hw = unsafe { &mut *context.hw };
    core.quick_access(hw, address, site, slot)
}

/// Host address of [`quick_target`].
pub(super) fn quick_target_address() -> u64 {
    quick_target as *const () as u64
}

/// Where to go on for an indirect jump to `rip`, or 0 if that takes more than a look. Touches no
/// vector register, which `plain.rs` checks.
extern "C" fn quick_target(context: *mut SlowContext, rip: u64) -> u64 {
    // SAFETY: as in `slow_access`.
    let context = unsafe { &mut *context };
    // SAFETY: as in `slow_access`.
    let core = unsafe { &mut *context.core };
    // SAFETY: as in `slow_access`.
    let hw = unsafe { &mut *context.hw };
    core.quick_target(hw, rip)
}

/// Host address of [`slow_access`].
pub(super) fn slow_access_address() -> u64 {
    slow_access as *const () as u64
}

/// One access at `address` for site number `site`: returns where the operand is in host memory, or
/// 0 to leave emitted code.
extern "C" fn slow_access(context: *mut SlowContext, address: u64, site: u64) -> u64 {
    // SAFETY: 1. Emitted code passes the word CONTEXT, which holds the address of the context of
    // the current stay.
    let context = unsafe { &mut *context };
    // SAFETY: 1. `core` outlives the stay in emitted code, during which nothing else uses it.
    let core = unsafe { &mut *context.core };
    // SAFETY: 1. As above for the machine; its words are shared with emitted code, which waits.
    let hw = unsafe { &mut *context.hw };
    core.slow_access(hw, address, site as u32)
}
