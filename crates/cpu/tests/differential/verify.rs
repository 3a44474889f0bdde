//! A verifier of emitted code: whatever a guest does, code that stands for it touches memory in a
//! few known ways only and never calls the host.

use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};

/// The scratch registers of emitted code.
const S0: Register = Register::R14;
const S1: Register = Register::R13;
/// Where emitted code has the mask of the index in the shadow: what it picks stays in the tables.
const MASK: Register = Register::R12;
/// Bytes in front of a strip in which its registers are set.
const STRIP_SETUP_BYTES: u64 = 512;
/// Bytes that one probe can stand for.
const SPAN_BYTES: u64 = 512;
/// How far a pointer that was computed for an instruction is followed.
const POINTER_STEPS: usize = 4;
/// How far the probes of a repeated string instruction are followed.
const REPEAT_STEPS: usize = 24;

/// The first thing that emitted code, in parts with their host addresses, must not contain; its
/// text says what. In `strips`, operands may be on any register: the registers were checked to stay
/// in their pages.
pub fn find_violation(parts: &[(u64, &[u8])], strips: &[(u64, u64)]) -> Option<String> {
    parts.iter().find_map(|(start, code)| find_violation_in(*start, code, parts, strips))
}

fn find_violation_in(
    start: u64,
    code: &[u8],
    parts: &[(u64, &[u8])],
    strips: &[(u64, u64)],
) -> Option<String> {
    let mut recent: Vec<Instruction> = Vec::new();
    for one in Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
        let nearest = &recent[recent.len().saturating_sub(POINTER_STEPS)..];
        let problem = if one.is_invalid() {
            Some("no instruction")
        } else if is_probed_repeat(&one, &recent) || is_filler(&one, &recent) {
            None
        } else if !is_allowed(&one) {
            Some("not allowed")
        } else if !is_memory_known(&one, nearest)
            && !is_predicted_load(&one, &recent)
            && !is_in_strip(&one, strips)
        {
            Some("unknown memory operand")
        } else if leaves(&one, parts) {
            Some("jump out of the cache")
        } else if !keeps_mask(&one, strips) {
            Some("change of the mask")
        } else {
            None
        };
        if let Some(problem) = problem {
            return Some(describe(problem, &one, nearest));
        }
        recent.push(one);
        if recent.len() > REPEAT_STEPS {
            recent.remove(0);
        }
    }
    None
}

/// Whether an instruction stands for code that died: no way leads there.
fn is_filler(one: &Instruction, recent: &[Instruction]) -> bool {
    one.mnemonic() == Mnemonic::Int3
        && recent.last().is_some_and(|before| {
            before.mnemonic() == Mnemonic::Int3
                || before.flow_control() == FlowControl::UnconditionalBranch
        })
}

/// Whether an instruction leaves the mask as it is, or brings it back; a strip may borrow its
/// register.
fn keeps_mask(one: &Instruction, strips: &[(u64, u64)]) -> bool {
    let mut factory = InstructionInfoFactory::new();
    let is_write =
        |access| !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::NoMemAccess);
    let changes = factory
        .info(one)
        .used_registers()
        .iter()
        .any(|used| used.register().full_register() == MASK && is_write(used.access()));
    let brings_back = one.code() == Code::Mov_r64_rm64
        && one.segment_prefix() == Register::GS
        && one.memory_displacement64() == (machine::layout::MASK_INDEX * 8) as u64;
    let is_borrowed = strips
        .iter()
        .any(|(start, end)| (start.saturating_sub(STRIP_SETUP_BYTES)..*end).contains(&one.ip()));
    !changes || brings_back || is_borrowed
}

/// Whether an instruction stands in a strip and names its operands.
fn is_in_strip(one: &Instruction, strips: &[(u64, u64)]) -> bool {
    strips.iter().any(|(start, end)| (*start..*end).contains(&one.ip()))
        && one.op_kinds().any(|kind| kind == OpKind::Memory)
        && one.segment_prefix() == Register::None
}

fn describe(problem: &str, one: &Instruction, recent: &[Instruction]) -> String {
    use iced_x86::Formatter;
    let mut formatter = iced_x86::IntelFormatter::new();
    let mut text = format!("{problem}:");
    for instruction in recent.iter().chain([one]) {
        text.push_str("\n  ");
        formatter.format(instruction, &mut text);
    }
    text
}

/// Whether an instruction is `rep movs` or `rep stos` on addresses that were turned to those of the
/// host by the distances of their slots, behind as many probes for at most a page.
fn is_probed_repeat(one: &Instruction, recent: &[Instruction]) -> bool {
    use Mnemonic as M;
    let registers: &[Register] = match one.mnemonic() {
        M::Movsb | M::Movsw | M::Movsd | M::Movsq => &[Register::RDI, Register::RSI],
        M::Stosb | M::Stosw | M::Stosd | M::Stosq => &[Register::RDI],
        _ => return false,
    };
    let distance = (machine::layout::DISTANCE * 8) as u64;
    let is_turned = |register| {
        recent.iter().any(|one| {
            one.code() == Code::Add_r64_rm64
                && one.op0_register() == register
                && one.segment_prefix() == Register::GS
                && one.memory_index() == S1
                && one.memory_displacement64() == distance
        })
    };
    let probes = recent.windows(2).filter(|pair| {
        pair[0].code() == Code::Cmp_rm64_imm32
            && pair[0].op0_register() == S0
            && pair[0].immediate32to64() == machine::PAGE_BYTES as i64
            && pair[1].code() == Code::Ja_rel32_64
    });
    one.has_rep_prefix()
        && registers.iter().all(|register| is_turned(*register))
        && probes.count() >= registers.len()
}

/// Whether an instruction is a load at a distance that was compared with the true one, of the
/// address that the probe in front of it was for.
fn is_predicted_load(one: &Instruction, recent: &[Instruction]) -> bool {
    let [.., address, slot, tag, room, fail, _stamp, _clock, word, compare, other] = recent else {
        return false;
    };
    let distance = (machine::layout::DISTANCE * 8) as u64;
    let (base, displacement) = match address.code() {
        Code::Lea_r64_m if address.memory_index() == Register::None => {
            (address.memory_base(), address.memory_displacement64())
        }
        Code::Mov_r64_rm64 | Code::Mov_rm64_r64 => (address.op1_register(), 0),
        _ => return false,
    };
    address.op0_register() == S0
        && slot.code() == Code::VEX_Pext_r64_r64_rm64
        && [slot.op0_register(), slot.op1_register(), slot.op2_register()] == [S1, S0, MASK]
        && tag.code() == Code::Add_r64_rm64
        && (tag.op0_register(), tag.memory_index()) == (S0, S1)
        && room.code() == Code::Cmp_rm64_imm32
        && room.op0_register() == S0
        && fail.code() == Code::Ja_rel32_64
        && word.code() == Code::Mov_r64_rm64
        && word.op0_register() == S0
        && compare.code() == Code::Cmp_r64_rm64
        && compare.op0_register() == S0
        && (compare.memory_index(), compare.memory_displacement64()) == (S1, distance)
        && other.code() == Code::Jne_rel32_64
        && one.segment_prefix() == Register::None
        && (one.memory_base(), one.memory_index()) == (base, S0)
        && one.memory_index_scale() == 1
        && one.memory_displacement64() == displacement
        && one.op0_kind() == OpKind::Register
}

/// Nothing that enters the host's kernel, changes segments or uses the stack.
fn is_allowed(one: &Instruction) -> bool {
    use Mnemonic as M;
    let is_forbidden = matches!(
        one.mnemonic(),
        M::Syscall
            | M::Sysenter
            | M::Int
            | M::Int1
            | M::Int3
            | M::Iret
            | M::Iretd
            | M::Iretq
            | M::Wrfsbase
            | M::Wrgsbase
            | M::Rdfsbase
            | M::Rdgsbase
            | M::Swapgs
            | M::Wrpkru
            | M::Rdpkru
            | M::Cpuid
            | M::Rdtsc
            | M::Rdtscp
            | M::Rdpmc
            | M::Rdrand
            | M::Rdseed
            | M::Rdpid
            | M::Xgetbv
            | M::Sgdt
            | M::Sidt
            | M::Sldt
            | M::Str
            | M::Smsw
            | M::Ud2
    );
    let names_segment = (0..one.op_count())
        .any(|i| one.op_kind(i) == OpKind::Register && one.op_register(i).is_segment_register());
    let is_flow_known = matches!(
        one.flow_control(),
        FlowControl::Next
            | FlowControl::UnconditionalBranch
            | FlowControl::ConditionalBranch
            | FlowControl::IndirectBranch
    );
    let is_string = one.is_string_instruction();
    let is_stack = one.is_stack_instruction();
    let is_far = matches!(one.code(), Code::Jmp_m1616 | Code::Jmp_m1632 | Code::Jmp_m1664);
    let is_plain_jump = one.flow_control() != FlowControl::IndirectBranch
        || one.op0_kind() == OpKind::Memory && one.memory_segment() == Register::GS;
    !is_forbidden
        && !names_segment
        && is_flow_known
        && !is_string
        && !is_stack
        && !is_far
        && is_plain_jump
        && !one.is_privileged()
}

/// Whether the memory operand, if there is one, is a word of the engine or what a probe found.
fn is_memory_known(one: &Instruction, recent: &[Instruction]) -> bool {
    let implicit = one.op_kinds().any(|kind| {
        !matches!(
            kind,
            OpKind::Register
                | OpKind::Memory
                | OpKind::NearBranch64
                | OpKind::Immediate8
                | OpKind::Immediate8_2nd
                | OpKind::Immediate16
                | OpKind::Immediate32
                | OpKind::Immediate64
                | OpKind::Immediate8to16
                | OpKind::Immediate8to32
                | OpKind::Immediate8to64
                | OpKind::Immediate32to64
        )
    });
    let has_memory = one.op_kinds().any(|kind| kind == OpKind::Memory);
    let is_computed = matches!(one.mnemonic(), Mnemonic::Lea | Mnemonic::Nop);
    if implicit || is_computed || !has_memory {
        return !implicit;
    }
    let (base, index) = (one.memory_base(), one.memory_index());
    match one.segment_prefix() {
        Register::GS if is_window_stamp(one, recent) => true,
        Register::GS => base == Register::None && matches!(index, Register::None | S1),
        Register::None => match (base, index) {
            (S0, S1) => one.memory_displacement64() < SPAN_BYTES && one.memory_index_scale() == 1,
            // The counter of a block.
            (S1, Register::None) if is_counter(recent) => true,
            (S0, Register::None) => one.memory_displacement64() < SPAN_BYTES,
            (_, Register::None) => {
                one.memory_displacement64() < SPAN_BYTES && is_copy_of_pointer(base, recent)
            }
            _ => false,
        },
        _ => false,
    }
}

/// Whether an instruction stamps the window of 32-bit code behind a probe of it.
fn is_window_stamp(one: &Instruction, recent: &[Instruction]) -> bool {
    let [.., add, compare, branch] = recent else { return false };
    one.code() == Code::Mov_rm64_r64
        && one.memory_base() == Register::None
        && one.memory_index() == Register::R10
        && one.memory_displacement64() == (machine::layout::STAMP * 8) as u64
        && add.code() == Code::Add_rm64_r64
        && (add.op0_register(), add.op1_register()) == (S0, Register::R8)
        && compare.code() == Code::Cmp_rm64_imm32
        && compare.op0_register() == S0
        && branch.code() == Code::Ja_rel32_64
}

/// Whether r13 holds an address of the engine's own, put there as a constant.
fn is_counter(recent: &[Instruction]) -> bool {
    recent
        .iter()
        .rev()
        .take(3)
        .any(|one| one.code() == Code::Mov_r64_imm64 && one.op0_register() == S1)
}

/// Whether `base` was computed just before from what a probe found: `lea base, [r14+r13]`.
fn is_copy_of_pointer(base: Register, recent: &[Instruction]) -> bool {
    recent.iter().rev().any(|one| {
        one.mnemonic() == Mnemonic::Lea
            && one.op0_register() == base
            && one.memory_base() == S0
            && matches!(one.memory_index(), S1 | Register::None)
    })
}

/// Whether a direct jump leaves the code and does not go to the stubs right in front of it.
fn leaves(one: &Instruction, parts: &[(u64, &[u8])]) -> bool {
    const STUBS_AT_MOST: u64 = 8192;
    let is_direct = matches!(
        one.flow_control(),
        FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch
    );
    is_direct && {
        let target = one.near_branch_target();
        let is_stub = parts[0].0.wrapping_sub(target) <= STUBS_AT_MOST;
        let mut inside =
            parts.iter().map(|(start, code)| target.wrapping_sub(*start) < code.len() as u64);
        !is_stub && !inside.any(|is_inside| is_inside)
    }
}
