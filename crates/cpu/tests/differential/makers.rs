//! Where the makers of CPUs differ.
//!
//! The engine does what the CPUs of AMD do. On a host of another maker its outcome is given the
//! host's way before the two are compared, in just the parts that the rules below name; everything
//! else stays as strict as it is on a host of AMD.
//!
//! # Source
//! Intel SDM 2 and AMD APM 3 to 5, where they leave the choice; the rest was seen on a Xeon of the
//! fourth generation ("Sapphire Rapids").

use crate::builder::decode;
use crate::case::{Case, End, Outcome, State};
use crate::compare::changed_itself;
use crate::layout;
use iced_x86::{Code, CpuidFeature, Instruction, Mnemonic, OpKind, Register};
use std::sync::LazyLock;

const RCX: usize = 1;
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;
/// The vector of #DB.
const STEP: u64 = 1;
/// The vectors of #BR, #SS, #GP, #AC and #XM.
const BOUND: u64 = 5;
const STACK: u64 = 12;
const PROTECTION: u64 = 13;
const ALIGNMENT: u64 = 17;
const VECTOR: u64 = 19;
/// Bit of a page fault's error code: an instruction fetch.
const FETCH: u64 = 1 << 4;
/// Longest instruction in bytes.
const LENGTH_MAX: u64 = 15;
/// Where addresses of 32-bit code start again, and the largest operand there.
const WRAP: u64 = 1 << 32;
const LARGEST_OPERAND: u64 = 32;
/// NT.
const NESTED_TASK: u64 = 1 << 14;
/// CF PF AF ZF SF OF.
const ARITHMETIC: u64 = 0x8d5;
/// Where the state has the status word of the x87, MXCSR and the x87 registers.
const FSW: usize = 2;
const MXCSR: usize = 24;
const X87: std::ops::Range<usize> = 32..160;
/// Bits of the status word: an exception that was seen, and the top of the stack.
const X87_EXCEPTIONS: u16 = 0x3f;
const TOP_SHIFT: u32 = 11;

static IS_OURS: LazyLock<bool> = LazyLock::new(|| {
    let text = std::fs::read_to_string("/proc/cpuinfo").expect("Linux has it");
    let vendor = text.lines().find_map(|line| line.strip_prefix("vendor_id")?.split(": ").nth(1));
    matches!(vendor, Some("AuthenticAMD" | "HygonGenuine"))
});

/// Whether the host's CPU is of the maker whose ways are the engine's.
pub fn is_host_ours() -> bool {
    *IS_OURS
}

/// Those of `codes` that may stand anywhere in a sequence: all makers agree on what they leave
/// behind when nothing goes wrong, flags included.
pub fn agreed(mut codes: Vec<Code>) -> Vec<Code> {
    use Mnemonic as M;
    codes.retain(|code| {
        let is_decimal =
            matches!(code.mnemonic(), M::Aaa | M::Aas | M::Aad | M::Aam | M::Daa | M::Das);
        is_host_ours() || !is_segment_push(*code) && !is_state_image(*code) && !is_decimal
    });
    codes
}

/// Whether all makers agree on which operands of `case` must be aligned while EFLAGS.AC is set.
pub fn is_alignment_agreed(case: &Case) -> bool {
    is_host_ours() || case.instructions.iter().all(is_general)
}

/// Whether `one` works on general registers only, whose operands must be aligned everywhere.
fn is_general(one: &Instruction) -> bool {
    use CpuidFeature as F;
    one.cpuid_features().iter().all(|feature| {
        matches!(
            feature,
            F::INTEL8086
                | F::INTEL8086_ONLY
                | F::INTEL186
                | F::INTEL286
                | F::INTEL386
                | F::INTEL486
                | F::X64
                | F::CMOV
                | F::CX8
        )
    })
}

/// The engine's outcome `guest` with the host's way in what its maker decides; `None` if nothing of
/// the two can be compared.
pub fn settle(case: &Case, native: &Outcome, guest: &Outcome) -> Option<Outcome> {
    let mut settled = guest.clone();
    if is_host_ours() {
        return Some(settled);
    }
    let (at_native, at_guest) = (instruction_at(case, native), instruction_at(case, guest));
    let is_elsewhere = crosses_line(case, native)
        || overwrites_itself(case, native, guest)
        || is_cut_in_between(case)
        || is_misaligned(&at_native, native)
        || is_misaligned(&at_guest, guest)
        || passes_by(&at_guest, native, guest);
    if is_elsewhere {
        return None;
    }
    if has_locked_access(case) {
        // Where the kernel lets others run meanwhile, the flag may be lost.
        settled.state.rflags &= !NESTED_TASK;
        settled.state.rflags |= native.state.rflags & NESTED_TASK;
    }
    for one in &case.instructions {
        settle_short_string(one, native, &mut settled);
        settle_segment_push(one, native, &mut settled);
    }
    if has_initial_x87(&case.state)
        && case.instructions.iter().any(|one| is_state_image(one.code()))
    {
        settled.changes.clone_from(&native.changes);
    }
    if native.state.rip == guest.state.rip {
        if case.state.is_compat && is_wrapped(native.end) {
            settled.end = native.end;
        }
        settle_stop(&at_guest, native, &mut settled);
    }
    Some(settled)
}

/// A locked access across two lines of the cache takes the host's kernel 10 ms and more: it is
/// stopped before a loop of them ends.
fn crosses_line(case: &Case, native: &Outcome) -> bool {
    native.end == End::Endless && has_locked_access(case)
}

fn has_locked_access(case: &Case) -> bool {
    case.instructions.iter().any(|one| {
        one.has_lock_prefix()
            || one.mnemonic() == Mnemonic::Xchg && one.op0_kind() == OpKind::Memory
    })
}

/// Whether a repeated store has met the code that runs: the host fetches it anew between two
/// elements, or behind the last.
fn overwrites_itself(case: &Case, native: &Outcome, guest: &Outcome) -> bool {
    case.instructions.iter().any(|one| is_repeated(one) && one.op0_kind() != OpKind::Register)
        && (changed_itself(case, native) || changed_itself(case, guest))
}

/// Whether an instruction follows on one of [`settle_short_string`], and may see the upper halves.
fn is_cut_in_between(case: &Case) -> bool {
    let last = case.instructions.len().saturating_sub(1);
    case.instructions[..last].iter().any(is_short_string)
}

/// Whether an operand of others than general registers is refused as misaligned.
fn is_misaligned(one: &Instruction, outcome: &Outcome) -> bool {
    outcome.end == End::Exception(ALIGNMENT) && !is_general(one)
}

/// Whether the host goes on where the engine faults: an exception of the x87's own comes first, or
/// nothing of the operand is wanted.
fn passes_by(one: &Instruction, native: &Outcome, guest: &Outcome) -> bool {
    if !is_fault(guest.end) {
        return false;
    }
    let goes_on = native.state.rip != guest.state.rip || !is_fault(native.end);
    is_x87_store(one) && has_new_exception(native, guest)
        || goes_on && (is_masked(one) || is_state_image(one.code()))
}

/// What an instruction that did not come to its end leaves behind.
fn settle_stop(one: &Instruction, native: &Outcome, guest: &mut Outcome) {
    let is_stop = |end| is_fault(end) || end == End::Exception(STEP);
    if !is_stop(native.end) || !is_stop(guest.end) {
        return;
    }
    if is_compare(one.code()) {
        // Whether the flags of the elements that were done are there already.
        guest.state.rflags &= !ARITHMETIC;
        guest.state.rflags |= native.state.rflags & ARITHMETIC;
    }
    let is_alignment_first =
        native.end == End::Exception(ALIGNMENT) && guest.end == End::Exception(PROTECTION);
    if is_disputed_fault(one) || is_alignment_first {
        guest.end = native.end;
    }
    if one.is_vsib() {
        settle_gather(one, &native.state, &mut guest.state);
    }
    if !is_fault(native.end) {
        return;
    }
    if one.mnemonic() == Mnemonic::Vcvtps2ph {
        // Whether it has been computed before its page was looked at.
        guest.state.fpu[MXCSR..MXCSR + 4].copy_from_slice(&native.state.fpu[MXCSR..MXCSR + 4]);
    }
    if is_x87_store(one) {
        // How much of the operand is written before the page that is missing.
        guest.changes.clone_from(&native.changes);
    }
    if is_mmx_store(one) {
        reset_top(&mut guest.state);
    }
}

/// Whether an instruction was begun and stopped.
const fn is_fault(end: End) -> bool {
    match end {
        End::Page { error, .. } => error & FETCH == 0,
        End::Exception(BOUND | STACK | PROTECTION | ALIGNMENT | VECTOR) => true,
        _ => false,
    }
}

/// Whether an operand begins right below 4 GiB: it goes on at 0, or is beyond the segment's limit.
fn is_wrapped(end: End) -> bool {
    matches!(end, End::Page { address, .. } if (WRAP - LARGEST_OPERAND..WRAP).contains(&address))
}

/// Whether the makers raise the exceptions of `one` in another order: they read its operands, or
/// test them, one before the other, want some aligned or none, or look for the end of canonical
/// addresses at once or byte by byte.
fn is_disputed_fault(one: &Instruction) -> bool {
    use Mnemonic as M;
    is_compare(one.code())
        || one.cpuid_features().contains(&CpuidFeature::SHA)
        || matches!(one.mnemonic(), M::Bound | M::Vcvtps2ph)
        || is_masked(one)
        || is_state_image(one.code())
        || is_x87_store(one)
}

/// The instruction at which `outcome` ended, as it is in memory.
fn instruction_at(case: &Case, outcome: &Outcome) -> Instruction {
    let rip = outcome.state.rip;
    let byte = |address: u64| {
        let offset = layout::physical(address)?;
        let word = outcome.changes.iter().find(|(word, _)| *word == offset & !7);
        let changed = word.map(|(_, value)| value.to_le_bytes()[(offset & 7) as usize]);
        let patched = || {
            case.patches.iter().rev().find_map(|(start, bytes)| {
                bytes.get(usize::try_from(offset.checked_sub(*start)?).ok()?).copied()
            })
        };
        changed.or_else(patched)
    };
    let bytes: Vec<u8> =
        (rip..rip + LENGTH_MAX).map(|address| byte(address).unwrap_or(0xcc)).collect();
    decode(&bytes, rip, case.state.is_compat)
}

/// `cmps` and `scas`.
fn is_compare(code: Code) -> bool {
    matches!(
        code,
        Code::Cmpsb_m8_m8
            | Code::Cmpsw_m16_m16
            | Code::Cmpsd_m32_m32
            | Code::Cmpsq_m64_m64
            | Code::Scasb_AL_m8
            | Code::Scasw_AX_m16
            | Code::Scasd_EAX_m32
            | Code::Scasq_RAX_m64
    )
}

fn is_masked(one: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(one.mnemonic(), M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq)
}

/// A push of a segment register in 32-bit code: the upper half of its slot is cleared or kept.
fn is_segment_push(code: Code) -> bool {
    matches!(
        code,
        Code::Pushd_CS
            | Code::Pushd_DS
            | Code::Pushd_ES
            | Code::Pushd_SS
            | Code::Pushd_FS
            | Code::Pushd_GS
    )
}

fn settle_segment_push(one: &Instruction, native: &Outcome, guest: &mut Outcome) {
    if !is_segment_push(one.code()) {
        return;
    }
    // A test that follows may have read it.
    guest.state.rflags &= !ARITHMETIC;
    guest.state.rflags |= native.state.rflags & ARITHMETIC;
    for byte in 2..4 {
        let Some(offset) = layout::physical(guest.state.gpr[RSP].wrapping_add(byte)) else {
            continue;
        };
        let (word, mask) = (offset & !7, 0xff << (offset % 8 * 8));
        let wanted = native.changes.iter().find(|(at, _)| *at == word);
        match wanted {
            Some((_, want)) => {
                for (_, value) in guest.changes.iter_mut().filter(|(at, _)| *at == word) {
                    *value = *value & !mask | want & mask;
                }
            }
            None => guest.changes.retain(|(at, _)| *at != word),
        }
    }
}

/// The images whose header says which parts are in use: the x87's is never, or if it is not as it
/// is after `fninit`.
fn is_state_image(code: Code) -> bool {
    matches!(
        code,
        Code::Xsave_mem
            | Code::Xsave64_mem
            | Code::Xsavec_mem
            | Code::Xsavec64_mem
            | Code::Xrstor_mem
            | Code::Xrstor64_mem
    )
}

fn has_initial_x87(state: &State) -> bool {
    state.fpu[..24] == State::new().fpu[..24] && state.fpu[X87].iter().all(|byte| *byte == 0)
}

/// A repeated string instruction with 32-bit addresses in 64-bit code: whether the registers are
/// cut to 32 bits before its first element.
fn settle_short_string(one: &Instruction, native: &Outcome, guest: &mut Outcome) {
    if !is_short_string(one) {
        return;
    }
    for register in [RCX, RSI, RDI] {
        let want = native.state.gpr[register];
        if want == guest.state.gpr[register] & 0xffff_ffff {
            guest.state.gpr[register] = want;
        }
    }
}

fn is_short_string(one: &Instruction) -> bool {
    let mut kinds = one.op_kinds();
    is_repeated(one) && kinds.any(|kind| matches!(kind, OpKind::MemorySegESI | OpKind::MemoryESEDI))
}

fn is_repeated(one: &Instruction) -> bool {
    one.has_rep_prefix() || one.has_repne_prefix()
}

/// Stores of the x87, whose own exceptions come before or behind the page fault of their operand.
fn is_x87_store(one: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(one.mnemonic(), M::Fst | M::Fstp | M::Fist | M::Fistp | M::Fisttp | M::Fbstp)
        && one.op0_kind() == OpKind::Memory
}

fn status_word(outcome: &Outcome) -> u16 {
    u16::from_le_bytes([outcome.state.fpu[FSW], outcome.state.fpu[FSW + 1]])
}

/// Whether the host's x87 has raised what the engine's has not.
fn has_new_exception(native: &Outcome, guest: &Outcome) -> bool {
    status_word(native) & !status_word(guest) & X87_EXCEPTIONS != 0
}

/// What a gather that is stopped leaves: elements of its mask become all ones or zero before the
/// first is read. The upper half of short vectors becomes zero, that of the mask at once and that
/// of the target with the first element.
fn settle_gather(one: &Instruction, native: &State, guest: &mut State) {
    let size = one.memory_size().size();
    let (low, high) = State::vector_halves(one.op2_register().number());
    let is_long = [one.op0_register(), one.op2_register(), one.memory_index()]
        .into_iter()
        .any(Register::is_ymm);
    let mut mask = guest.fpu;
    for start in [low, high] {
        for element in mask[start..start + 16].chunks_mut(size) {
            let sign = element[size - 1] >> 7;
            element.fill(if is_long || start == low { sign * 0xff } else { 0 });
        }
    }
    if [low, high].iter().any(|at| mask[*at..at + 16] != native.fpu[*at..at + 16]) {
        return;
    }
    guest.fpu = mask;
    let (_, target) = State::vector_halves(one.op0_register().number());
    if !is_long && native.fpu[target..target + 16] == [0; 16] {
        guest.fpu[target..target + 16].fill(0);
    }
}

fn is_mmx_store(one: &Instruction) -> bool {
    one.op0_kind() == OpKind::Memory
        && one.op1_kind() == OpKind::Register
        && one.op1_register().is_mm()
}

/// A store of MMX that faults has already reset the top of the stack.
fn reset_top(state: &mut State) {
    let status = u16::from_le_bytes([state.fpu[FSW], state.fpu[FSW + 1]]);
    let top = usize::from(status >> TOP_SHIFT & 7);
    let cleared = status & !(7 << TOP_SHIFT);
    state.fpu[FSW..FSW + 2].copy_from_slice(&cleared.to_le_bytes());
    state.fpu[X87].rotate_right(top * 16);
}
