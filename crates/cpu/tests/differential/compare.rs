//! What differs between the host's outcome and the engine's.

use crate::builder::rflags_mask;
use crate::case::{Case, End, Outcome, Rules, State};
use crate::layout;
use crate::prepare::may_keep_flags;
use iced_x86::{Code, FlowControl, Instruction, RflagsBits};
use std::fmt::Write;

const NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
/// The vector of `int3`, at which the code of a case ends.
const BREAKPOINT: u64 = 3;
/// The flags whose life the engine follows, as iced names them.
const ALL_FLAGS: u32 = RflagsBits::CF
    | RflagsBits::PF
    | RflagsBits::AF
    | RflagsBits::ZF
    | RflagsBits::SF
    | RflagsBits::OF;
/// How far the life of flags is followed.
const PATH_LENGTH: usize = 16;
/// The vector of #GP.
const PROTECTION: u64 = 13;
/// The vector of #AC.
const ALIGNMENT: u64 = 17;
/// Bit of a page fault's error code: an instruction fetch.
const FETCH: u64 = 1 << 4;
/// CF PF AF ZF SF OF.
const ARITHMETIC: u64 = 0x8d5;
/// No operand is larger.
const LARGEST_OPERAND: u64 = 1024;
/// RF: the host sets it in the frames of faults.
const RESUME_FLAG: u64 = 1 << 16;
/// Where the host maps the engine's code: no guest may ever see such an address.
const HOST_MAPPINGS: std::ops::Range<u64> = 0x5000_0000_0000..USER_END;
/// End of the addresses of user programs, as Linux has it.
const USER_END: u64 = (1 << 47) - 0x1000;

/// A text that says what differs, empty if nothing does.
pub fn differences(case: &Case, native: &Outcome, guest: &Outcome) -> String {
    let mut text = String::new();
    if native.end == End::Endless && guest.end == End::Endless {
        return text;
    }
    let is_optional = case.rules.optional_fault && native.end != End::Exception(BREAKPOINT);
    if is_optional || is_aliased_copy(case, native) {
        return text;
    }
    compare_end(&mut text, &case.rules, native.end, guest.end);
    let mut loose_flags = case.rules.undefined_flags | RESUME_FLAG;
    if native.end != End::Exception(BREAKPOINT) {
        loose_flags |= dead_flags(&case.instructions, native.state.rip);
        let is_known = case.instructions.iter().any(|one| one.ip() == native.state.rip);
        let is_fetch = matches!(native.end, End::Page { error, .. } if error & FETCH != 0);
        if !is_known && !is_fetch || changed_itself(case, native) {
            // The program has overwritten itself: what kills flags is not known.
            loose_flags |= ARITHMETIC;
        }
        loose_flags |= undefined_flags(&case.instructions);
    }
    compare_state(&mut text, loose_flags, &native.state, &guest.state);
    let is_partial = case.rules.partial_writes
        && matches!(native.end, End::Page { .. } | End::Exception(ALIGNMENT));
    // Known difference: the engine has pushed the return address when it finds that the target of
    // an indirect call is not canonical; the stack pointer is put back.
    let is_bad_call = native.end == End::Exception(PROTECTION)
        && case.instructions.iter().any(|one| {
            one.ip() == native.state.rip && one.flow_control() == FlowControl::IndirectCall
        });
    if !is_partial && !is_bad_call {
        compare_memory(&mut text, &case.rules, native, guest);
    }
    text
}

/// Whether a repeated copy reads what it has written by way of another page: there the host moves
/// several elements at once, against the manual.
fn is_aliased_copy(case: &Case, native: &Outcome) -> bool {
    const RSI: usize = 6;
    const RDI: usize = 7;
    /// The host moves no more at once.
    const CHUNK: u64 = 64;
    let copies = case.instructions.iter().any(|one| {
        (one.has_rep_prefix() || one.has_repne_prefix())
            && matches!(
                one.code(),
                Code::Movsb_m8_m8 | Code::Movsw_m16_m16 | Code::Movsd_m32_m32 | Code::Movsq_m64_m64
            )
    });
    // Both pointers move by the same, so that their distance before or after tells.
    copies
        && [&case.state, &native.state].iter().any(|state| {
            let distance = state.gpr[RDI].wrapping_sub(state.gpr[RSI]);
            layout::alias_distances().any(|alias| {
                distance.wrapping_sub(alias).wrapping_add(CHUNK) <= 2 * CHUNK
                    || distance.wrapping_add(alias).wrapping_add(CHUNK) <= 2 * CHUNK
            })
        })
}

fn compare_end(text: &mut String, rules: &Rules, native: End, guest: End) {
    let is_same = match (native, guest) {
        (End::Page { address: want, error: wants }, End::Page { address: got, error: gets }) => {
            // Linux calls every address of its own half present.
            let error_mask = if want >= USER_END { !1 } else { u64::MAX };
            if rules.loose_fault {
                want.abs_diff(got) < LARGEST_OPERAND && wants & !1 == gets & !1
            } else {
                want == got && wants & error_mask == gets & error_mask
            }
        }
        // A large operand across the end of canonical addresses: #SS and #GP are both right.
        (End::Exception(12 | 13), End::Exception(12 | 13)) if rules.loose_fault => true,
        _ => native == guest,
    };
    if !is_same {
        let _ = writeln!(text, "  end: native {native:x?}, engine {guest:x?}");
    }
}

/// Whether the program wrote to its own code.
pub fn changed_itself(case: &Case, native: &Outcome) -> bool {
    let mut bytes = case.instructions.iter().flat_map(|one| one.ip()..one.next_ip());
    bytes.any(|at| {
        layout::physical(at)
            .is_some_and(|offset| native.changes.iter().any(|(word, _)| *word == offset & !7))
    })
}

/// Flags that are overwritten before anything reads them, if the program goes on at `rip`. The
/// engine does not keep them: a program that mends a fault and goes on cannot tell.
fn dead_flags(instructions: &[Instruction], rip: u64) -> u64 {
    rflags_mask(ALL_FLAGS & !live_flags(instructions, rip, PATH_LENGTH))
}

/// Flags that something may read if the program goes on at `rip`; all of them where the program is
/// not known, and after `length` instructions.
fn live_flags(instructions: &[Instruction], rip: u64, length: usize) -> u32 {
    let Some(here) = instructions.iter().find(|one| one.ip() == rip).filter(|_| length > 0) else {
        return ALL_FLAGS;
    };
    let behind = |at| live_flags(instructions, at, length - 1);
    let after = match here.flow_control() {
        FlowControl::Next => behind(here.next_ip()),
        FlowControl::ConditionalBranch => {
            behind(here.next_ip()) | behind(here.near_branch_target())
        }
        FlowControl::UnconditionalBranch => behind(here.near_branch_target()),
        _ => ALL_FLAGS,
    };
    let killed = if may_keep_flags(here) { 0 } else { here.rflags_modified() };
    here.rflags_read() | after & !killed
}

/// Flags that some instruction leaves undefined.
fn undefined_flags(instructions: &[Instruction]) -> u64 {
    let undefined = instructions.iter().map(Instruction::rflags_undefined);
    rflags_mask(undefined.fold(0, |all, some| all | some))
}

fn compare_state(text: &mut String, loose_flags: u64, native: &State, guest: &State) {
    for (index, name) in NAMES.iter().enumerate() {
        let (want, got) = (native.gpr[index], guest.gpr[index]);
        if want != got {
            let _ = writeln!(text, "  {name}: native {want:#x}, engine {got:#x}");
        }
    }
    if native.rip != guest.rip {
        let _ = writeln!(text, "  rip: native {:#x}, engine {:#x}", native.rip, guest.rip);
    }
    let mask = !loose_flags;
    if native.rflags & mask != guest.rflags & mask {
        let (want, got) = (native.rflags & mask, guest.rflags & mask);
        let _ = writeln!(text, "  rflags: native {want:#x}, engine {got:#x} (mask {mask:#x})");
    }
    compare_fpu(text, native, guest);
}

fn compare_fpu(text: &mut String, native: &State, guest: &State) {
    let mut compare = |name: &str, start: usize, length: usize| {
        let (want, got) = (&native.fpu[start..start + length], &guest.fpu[start..start + length]);
        if want != got {
            let _ = writeln!(text, "  {name}: native {want:02x?}, engine {got:02x?}");
        }
    };
    compare("fcw", 0, 2);
    compare("fsw", 2, 2);
    compare("ftw", 4, 1);
    compare("mxcsr", 24, 4);
    for index in 0..8 {
        compare(&format!("st{index}"), 32 + index * 16, 10);
    }
    // 32-bit code cannot see the others.
    for index in 0..if native.is_compat { 8 } else { 16 } {
        let (low, high) = State::vector_halves(index);
        compare(&format!("xmm{index}"), low, 16);
        compare(&format!("ymm{index} high"), high, 16);
    }
    let instruction = u64::from_le_bytes(guest.fpu[8..16].try_into().expect("eight bytes"));
    if HOST_MAPPINGS.contains(&instruction) {
        let _ = writeln!(text, "  x87 instruction pointer is the host's: {instruction:#x}");
    }
}

fn compare_memory(text: &mut String, rules: &Rules, native: &Outcome, guest: &Outcome) {
    let wanted = |outcome: &Outcome| -> Vec<(u64, u64)> {
        let words = outcome.changes.iter().copied();
        words.filter(|(offset, _)| !is_ignored(rules, *offset)).collect()
    };
    let (want, got) = (wanted(native), wanted(guest));
    if want == got {
        return;
    }
    for (offset, value) in want.iter().filter(|change| !got.contains(change)).take(6) {
        let _ = writeln!(text, "  memory {offset:#x}: native {value:#018x}");
    }
    for (offset, value) in got.iter().filter(|change| !want.contains(change)).take(6) {
        let _ = writeln!(text, "  memory {offset:#x}: engine {value:#018x}");
    }
}

/// Whether the word at `offset` holds a byte that is the CPU's own affair.
fn is_ignored(rules: &Rules, offset: u64) -> bool {
    let mut bytes = rules.ignored.iter().flat_map(|(start, length)| {
        (0..*length).filter_map(move |i| layout::physical(start.wrapping_add(i)))
    });
    bytes.any(|at| at & !7 == offset)
}
