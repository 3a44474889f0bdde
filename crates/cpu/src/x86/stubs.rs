//! The fixed pieces of emitted code: enter, leave, and the way to the slow path.
//!
//! They stand at the start of the code cache. While emitted code runs, rsp is the guest's stack
//! pointer, so nothing here pushes before it has switched to the host's stack.
//!
//! Invariants
//! 1. `leave` stores every guest register in its home before Rust runs.
//! 2. The slow path and the search for a target bring back every register but r13 to r15, all
//!    vector registers, and, the slow path through its second door, the arithmetic flags.
//! 3. While emitted code runs, r12 holds the word MASK_INDEX but in strips: it is loaded at each
//!    entry and behind the full slow path, which alone may change the word meanwhile.

use super::condition::{EQUAL, NOT_EQUAL};
use super::emit::{Assembler, CLK, MASK, Mem, Patch, RAX, RCX, RDI, RDX, RSI, RSP, S0, S1};
use super::miss::first_level;
use super::window::look_at_window;
use super::words;
use machine::{CLOCK_DRAIN_BIT, layout};

/// Why emitted code left. The number is the low byte of the word [`words::REASON`], with
/// [`PARKED_BIT`] if the flags are parked; what goes with it is in the bits above.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Reason {
    /// A direct jump without a target yet. With: number of the link.
    Link = 0,
    /// The clock wants to be drained.
    Drain = 1,
    /// An indirect jump to an address that the jump cache does not hold, or a drain. With: its
    /// site.
    Indirect = 2,
    /// `syscall`; `rip` is behind it. With: 1 more than the number of the gate if it is of the i386
    /// kind.
    Syscall = 3,
    /// An instruction that Rust does.
    Emulate = 4,
    /// An exception by decree. With: its number in [`super::translate::exception_number`].
    Trap = 5,
    /// A signal handler redirected the code here.
    Signal = 6,
    /// The slow path stopped the instruction.
    Stopped = 7,
    /// Too many back edges without an access.
    Spin = 8,
    /// A block of a single instruction is done. With: 1 more than its site if that was an indirect
    /// jump.
    Done = 9,
    /// An instruction that has to be looked at before it is done.
    Checked = 10,
    /// The probe of a group failed for the first time. With: its site.
    Split = 11,
}

/// In a reason word: the flags are in [`words::FLAGS_PARKED`].
pub(super) const PARKED_BIT: u8 = 0x80;

impl Reason {
    /// The reason in a word, and what goes with it.
    pub(super) fn decode(word: u64) -> (Self, u64) {
        let reason = match word as u8 & !PARKED_BIT {
            0 => Self::Link,
            1 => Self::Drain,
            2 => Self::Indirect,
            3 => Self::Syscall,
            4 => Self::Emulate,
            5 => Self::Trap,
            6 => Self::Signal,
            7 => Self::Stopped,
            8 => Self::Spin,
            9 => Self::Done,
            10 => Self::Checked,
            _ => Self::Split,
        };
        (reason, word >> 8)
    }

    /// The word for a reason with nothing to go with it.
    pub(super) const fn alone(self) -> u32 {
        self as u32
    }

    /// The word for a reason with a number.
    pub(super) const fn with(self, number: u32) -> u32 {
        self as u32 | number << 8
    }
}

/// Host addresses of the stubs.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Stubs {
    /// `extern "C" fn(target)`: loads the guest's state and jumps to `target`.
    pub enter: u64,
    /// Leaves; r14 = rip, r13 = reason.
    pub leave: u64,
    /// Slow path, flags need not survive; r14 = address, r13 = site.
    pub slow: u64,
    /// Slow path, flags survive.
    pub slow_with_flags: u64,
    /// An indirect jump missed the jump cache; r14 = address, r13 = reason to leave for.
    pub indirect: u64,
    /// Leaves because of a signal.
    pub signal: u64,
}

/// Which functions of Rust keep away from vector registers, so that they can be called in a hurry.
#[derive(Clone, Copy, Debug)]
pub(super) struct Quick {
    /// The quick slow path.
    pub is_access: bool,
    /// The search for the target of an indirect jump.
    pub is_target: bool,
}

/// The state of the upper halves of vector registers in XINUSE.
const XSTATE_AVX: u32 = 4;

/// Where the image of the state has the halves of vector registers.
const LOWER_HALVES: u32 = 160;
const UPPER_HALVES: u32 = 576;

/// Guest registers that a call of Rust may change, and that live in host registers.
const CALLER_SAVED: [u8; 9] = [0, 1, 2, 6, 7, 8, 9, 10, 11];
/// Host registers that the caller of `enter` keeps, in the order they are pushed.
const CALLEE_SAVED: [u8; 6] = [3, 5, 12, 13, 14, 15];

impl Stubs {
    /// Emits all stubs, at the start of the cache.
    pub(super) fn emit(asm: &mut Assembler, quick: Quick) -> Self {
        let cache_start = asm.here();
        let enter = enter(asm);
        let leave = asm.here();
        asm.store(Mem::word(words::RIP), S0);
        asm.store(Mem::word(words::REASON), S1);
        let leave_as_is = asm.here();
        leave_common(asm);
        let signal = asm.here();
        asm.store_imm(Mem::word(words::REASON), Reason::Signal as i32);
        asm.jump_to(leave_as_is);
        let slow = asm.here();
        slow_path(asm, leave_as_is, Keeping::Nothing, quick.is_access, cache_start);
        let slow_with_flags = asm.here();
        slow_path(asm, leave_as_is, Keeping::Flags, quick.is_access, cache_start);
        let indirect = if quick.is_target { find_target(asm, leave) } else { leave };
        Self { enter, leave, slow, slow_with_flags, indirect, signal }
    }
}

/// push or pop of a host register.
fn push(asm: &mut Assembler, opcode: u8, register: u8) {
    if register >= 8 {
        asm.bytes(&[0x41]);
    }
    asm.bytes(&[opcode | (register & 7)]);
}

/// An instruction whose only operand is a word: `prefix opcode /digit gs:[word]`.
fn on_word(asm: &mut Assembler, opcode: &[u8], digit: u8, word: usize) {
    asm.bytes(&[0x65]);
    asm.bytes(opcode);
    asm.bytes(&[digit << 3 | 4, 0x25]);
    asm.bytes(&words::gs(word).to_le_bytes());
}

fn enter(asm: &mut Assembler) -> u64 {
    let start = asm.here();
    for register in CALLEE_SAVED {
        push(asm, 0x50, register);
    }
    asm.lea(RSP, Mem::at(RSP, -8));
    asm.store(Mem::word(words::HOST_RSP), RSP);
    asm.store(Mem::word(words::ENTRY), RDI);
    on_word(asm, &[0x0f, 0xae], 3, words::HOST_MXCSR); // stmxcsr
    load_state(asm);
    on_word(asm, &[0xff], 6, words::FLAGS); // push
    asm.bytes(&[0x9d]); // popfq
    for register in (0..MASK).filter(|r| *r != RSP) {
        asm.load(register, Mem::word(words::home(register)));
    }
    asm.load(MASK, Mem::word(layout::MASK_INDEX));
    asm.load(CLK, Mem::word(layout::CLOCK));
    asm.load(RSP, Mem::word(words::home(RSP)));
    asm.jump_through(Mem::word(words::ENTRY));
    start
}

fn leave_common(asm: &mut Assembler) {
    for register in 0..MASK {
        asm.store(Mem::word(words::home(register)), register);
    }
    asm.store(Mem::word(layout::CLOCK), CLK);
    asm.load(RSP, Mem::word(words::HOST_RSP));
    asm.bytes(&[0x9c]); // pushfq
    on_word(asm, &[0x8f], 0, words::FLAGS); // pop
    store_state(asm);
    on_word(asm, &[0x0f, 0xae], 2, words::HOST_MXCSR); // ldmxcsr
    asm.bytes(&[0xc5, 0xf8, 0x77]); // vzeroupper
    asm.lea(RSP, Mem::at(RSP, 8));
    for register in CALLEE_SAVED.into_iter().rev() {
        push(asm, 0x58, register);
    }
    asm.bytes(&[0xc3]);
}

/// Loads the floating-point and vector state. Upper halves that are zero are not written: SSE code
/// would be slow ever after.
fn load_state(asm: &mut Assembler) {
    asm.load(S0, Mem::word(words::XSAVE_POINTER));
    asm.compare_byte_flags(Mem::word(words::WHOLE), 0);
    let whole = asm.branch(NOT_EQUAL);
    asm.bytes(&[0xc5, 0xf8, 0x77]); // vzeroupper
    asm.bytes(&[0x41, 0x0f, 0xae, 0x56, 24]); // ldmxcsr [r14+24]
    for register in 0..16 {
        let rex = if register < 8 { 0x41 } else { 0x45 };
        asm.bytes(&[rex, 0x0f, 0x10]); // movups xmm, [r14+..]
        on_image(asm, register, LOWER_HALVES);
    }
    asm.compare_byte_flags(Mem::word(words::WIDE), 0);
    let narrow = asm.branch(EQUAL);
    for register in 0..16 {
        let kept = !register << 3 & 0x78;
        // vinsertf128 ymm, ymm, [r14+..], 1
        asm.bytes(&[0xc4, vex_map(register, 3), kept | 5, 0x18]);
        on_image(asm, register, UPPER_HALVES);
        asm.bytes(&[1]);
    }
    let wide = asm.jump();
    asm.resolve(whole);
    asm.constant(RAX, crate::XCR0);
    asm.constant(RDX, 0);
    asm.bytes(&[0x49, 0x0f, 0xae, 0x2e]); // xrstor64 [r14]
    asm.resolve(narrow);
    asm.resolve(wide);
}

/// Stores what [`load_state`] loads.
fn store_state(asm: &mut Assembler) {
    asm.load(S0, Mem::word(words::XSAVE_POINTER));
    asm.compare_byte_flags(Mem::word(words::WHOLE), 0);
    let whole = asm.branch(NOT_EQUAL);
    asm.bytes(&[0x41, 0x0f, 0xae, 0x5e, 24]); // stmxcsr [r14+24]
    for register in 0..16 {
        asm.bytes(&[0xc4, vex_map(register, 1), 0x78, 0x11]); // vmovups [r14+..], xmm
        on_image(asm, register, LOWER_HALVES);
        asm.bytes(&[0xc4, vex_map(register, 3), 0x7d, 0x19]); // vextractf128 [r14+..], ymm, 1
        on_image(asm, register, UPPER_HALVES);
        asm.bytes(&[1]);
    }
    let done = asm.jump();
    asm.resolve(whole);
    asm.constant(RAX, crate::XCR0);
    asm.constant(RDX, 0);
    asm.bytes(&[0x49, 0x0f, 0xae, 0x26]); // xsave64 [r14]
    asm.resolve(done);
}

/// The second byte of a VEX prefix, for an operand at r14 and opcode map `map`.
const fn vex_map(register: u8, map: u8) -> u8 {
    (if register < 8 { 0xc0 } else { 0x40 }) | map
}

/// The operand `[r14 + start + 16 * register]` of an instruction on vector register `register`.
fn on_image(asm: &mut Assembler, register: u8, start: u32) {
    asm.bytes(&[0x86 | (register & 7) << 3]);
    asm.bytes(&(start + 16 * u32::from(register)).to_le_bytes());
}

/// Whether the slow path keeps the arithmetic flags.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeping {
    Nothing,
    Flags,
}

/// Tries a miss in emitted code, then the quick slow path, and then the full one. r14 and r13
/// survive calls.
fn slow_path(
    asm: &mut Assembler,
    leave_as_is: u64,
    keeping: Keeping,
    is_quick: bool,
    cache_start: u64,
) {
    save_registers(asm, keeping);
    begin_load(asm);
    first_level(asm, keeping, cache_start);
    turn_to_host(asm);
    if is_quick {
        asm.index(RCX, S0);
        let more = call_slow(asm, words::QUICK_ACCESS);
        go_on(asm, keeping);
        asm.resolve(more);
    }
    // Upper halves that are not in use must not be written: SSE code would be slow ever after.
    asm.constant(RCX, 1);
    asm.bytes(&[0x0f, 0x01, 0xd0]); // xgetbv
    asm.test_flags(RAX, XSTATE_AVX);
    let is_wide = asm.branch(NOT_EQUAL);
    full_slow_path(asm, leave_as_is, keeping, narrow_vectors);
    asm.resolve(is_wide);
    full_slow_path(asm, leave_as_is, keeping, wide_vectors);
}

/// Lets the processor bring what the address in r14 leads to while the miss is made. Nothing says
/// that the distance is that of its page, but it mostly is: a slot keeps it when its page leaves
/// the modelled TLB. A prefetch changes nothing and never faults.
fn begin_load(asm: &mut Assembler) {
    asm.index(RCX, S0);
    asm.load(RCX, Mem::table(layout::DISTANCE, RCX));
    asm.prefetch(Mem::sum(S0, RCX));
}

fn full_slow_path(
    asm: &mut Assembler,
    leave_as_is: u64,
    keeping: Keeping,
    move_vectors: impl Fn(&mut Assembler, u8),
) {
    move_vectors(asm, 0x11);
    let stopped = call_slow(asm, words::SLOW_ACCESS);
    move_vectors(asm, 0x10);
    asm.load(MASK, Mem::word(layout::MASK_INDEX));
    go_on(asm, keeping);
    asm.resolve(stopped);
    move_vectors(asm, 0x10);
    load_guest(asm, keeping);
    asm.jump_to(leave_as_is);
}

/// Calls a function of the slow path; the branch is taken if it returns 0.
fn call_slow(asm: &mut Assembler, function: usize) -> Patch {
    asm.load(RDI, Mem::word(words::CONTEXT));
    asm.copy(RSI, S0);
    asm.copy(RDX, S1);
    asm.call_through(Mem::word(function));
    asm.bytes(&[0x48, 0x85, 0xc0]); // test rax, rax
    asm.branch(EQUAL)
}

/// Goes on in the block, where the operand is at rax: its address in r13, the distance in r14.
fn go_on(asm: &mut Assembler, keeping: Keeping) {
    asm.copy(S1, S0);
    asm.copy(S0, RAX);
    asm.sub_register_flags(S0, S1);
    look_at_window(asm);
    load_guest(asm, keeping);
    asm.jump_through(Mem::word(words::RESUME));
}

/// Looks for the target of an indirect jump in the other slot that may have it.
fn look_elsewhere(asm: &mut Assembler) {
    asm.store(Mem::word(words::RCX_SAVE), RCX);
    asm.zero_extend16(RCX, S0);
    asm.bytes(&[0x81, 0xf1]); // xor ecx, imm32
    asm.bytes(&(words::JUMP_OTHER as u32).to_le_bytes());
    asm.add_flags(S0, Mem::table(words::JUMP_TAG, RCX));
    let miss = asm.branch(NOT_EQUAL);
    asm.test_flags(CLK, CLOCK_DRAIN_BIT as u32);
    let drain = asm.branch(NOT_EQUAL);
    asm.load(RCX, Mem::table(words::JUMP_HOST, RCX));
    asm.store(Mem::word(words::RESUME), RCX);
    asm.load(RCX, Mem::word(words::RCX_SAVE));
    asm.jump_through(Mem::word(words::RESUME));
    asm.resolve(miss);
    asm.resolve(drain);
    asm.sub_flags(S0, Mem::table(words::JUMP_TAG, RCX));
    asm.load(RCX, Mem::word(words::RCX_SAVE));
}

/// Asks Rust for the target of an indirect jump, and goes there; leaves if it does not know.
fn find_target(asm: &mut Assembler, leave: u64) -> u64 {
    let start = asm.here();
    look_elsewhere(asm);
    save_guest(asm, Keeping::Nothing);
    let unknown = call_slow(asm, words::QUICK_TARGET);
    asm.store(Mem::word(words::RESUME), RAX);
    load_guest(asm, Keeping::Nothing);
    asm.jump_through(Mem::word(words::RESUME));
    asm.resolve(unknown);
    load_guest(asm, Keeping::Nothing);
    asm.jump_to(leave);
    start
}

/// Saves what a call of Rust may change but for vector registers, and turns to the host's stack.
fn save_guest(asm: &mut Assembler, keeping: Keeping) {
    save_registers(asm, keeping);
    turn_to_host(asm);
}

/// Saves the general registers that a call of Rust may change, and the flags.
fn save_registers(asm: &mut Assembler, keeping: Keeping) {
    for register in CALLER_SAVED {
        asm.store(Mem::word(words::home(register)), register);
    }
    if keeping == Keeping::Flags {
        asm.bytes(&[0x9f, 0x0f, 0x90, 0xc0]); // lahf; seto al
        asm.store(Mem::word(words::FLAGS_SAVE), RAX);
    }
}

/// Turns to the host's stack.
fn turn_to_host(asm: &mut Assembler) {
    asm.store(Mem::word(words::home(RSP)), RSP);
    asm.store(Mem::word(layout::CLOCK), CLK);
    asm.load(RSP, Mem::word(words::HOST_RSP));
}

/// Loads what [`save_guest`] has saved.
fn load_guest(asm: &mut Assembler, keeping: Keeping) {
    asm.load(CLK, Mem::word(layout::CLOCK));
    asm.load(RSP, Mem::word(words::home(RSP)));
    load_registers(asm, keeping);
}

/// Loads what [`save_registers`] has saved.
pub(super) fn load_registers(asm: &mut Assembler, keeping: Keeping) {
    if keeping == Keeping::Flags {
        asm.load(RAX, Mem::word(words::FLAGS_SAVE));
        asm.bytes(&[0x04, 0x7f, 0x9e]); // add al, 127; sahf
    }
    for register in CALLER_SAVED {
        asm.load(register, Mem::word(words::home(register)));
    }
}

/// Stores (0x11) or loads (0x10) all vector registers.
fn wide_vectors(asm: &mut Assembler, opcode: u8) {
    for register in 0..16u8 {
        let vex = if register < 8 { 0xfc } else { 0x7c };
        let word = words::VECTORS + 4 * usize::from(register);
        on_word(asm, &[0xc5, vex, opcode], register & 7, word);
    }
}

/// Likewise for their lower halves.
fn narrow_vectors(asm: &mut Assembler, opcode: u8) {
    for register in 0..16u8 {
        let word = words::VECTORS + 4 * usize::from(register);
        let rex: &[u8] = if register < 8 { &[] } else { &[0x44] };
        on_word(asm, &[rex, &[0x0f, opcode]].concat(), register & 7, word);
    }
}
