//! Same-page groups: consecutive accesses through one address expression that share a probe.
//!
//! Members have the same base, index and segment, none of which changes in between (moves of rsp by
//! constants are followed), and lie within 512 bytes; no other access comes between them. One probe
//! of the whole span with the strongest right serves them all. If it fails for whatever reason, the
//! same instructions run with probes of their own (`split.rs`).
//!
//! That is exact: the accesses are adjacent in the order of accesses and touch one page, so that
//! only the last time stamp could matter, and no other page's stamp lies between.

use super::block::{Scan, Step};
use super::classify::{Class, number};
use super::compat::is_compat;
use super::emit::{MASK, RAX, RBP, RCX, RDX, RSP, Reg};
use super::operand::{is_short_address, operand_bytes};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use machine::Access;

/// Most bytes of a group.
const SPAN_BYTES: i32 = 512;

/// What the addresses of a group have in common.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Anchor {
    pub base: Option<Reg>,
    /// Register and log2 of the scale.
    pub index: Option<(Reg, u8)>,
    /// FS, GS or none.
    pub segment: Register,
    /// The address that displacements count from, if there is neither base nor index.
    pub absolute: u64,
}

/// One group: steps `first` to `last` of a block, both included.
#[derive(Clone, Copy, Debug)]
pub(super) struct Group {
    pub first: usize,
    pub last: usize,
    pub anchor: Anchor,
    /// Displacement of the lowest byte.
    pub low: i32,
    pub bytes: u16,
    pub reads: u8,
    pub writes: u8,
}

/// One access that may be a member.
#[derive(Clone, Copy)]
struct Candidate {
    anchor: Anchor,
    displacement: i32,
    bytes: i32,
    access: Access,
}

const STACK: Anchor = Anchor { base: Some(RSP), index: None, segment: Register::None, absolute: 0 };

/// Finds the groups of a block: fills `scan.groups` and the displacements in `scan.members`.
pub(super) fn find(scan: &mut Scan) {
    scan.groups.clear();
    scan.members.clear();
    scan.members.resize(scan.steps.len(), None);
    if scan.is_straddling {
        return;
    }
    let mut start = 0;
    while start < scan.steps.len() {
        start = match grow(scan, start) {
            Some(group) => {
                scan.groups.push(group);
                group.last + 1
            }
            None => start + 1,
        };
    }
}

/// The longest group from step `first` on, if it has two members.
fn grow(scan: &mut Scan, first: usize) -> Option<Group> {
    let leader = candidate(&scan.steps[first], 0, None)?;
    let mut group = Group {
        first,
        last: first,
        anchor: leader.anchor,
        low: leader.displacement,
        bytes: leader.bytes as u16,
        reads: 0,
        writes: 0,
    };
    let mut high = leader.displacement + leader.bytes;
    let mut moved = 0;
    let mut at = first;
    while let Some(step) = scan.steps.get(at) {
        match candidate(step, moved, Some(leader.anchor)) {
            Some(next) if next.anchor == leader.anchor => {
                let low = group.low.min(next.displacement);
                let top = high.max(next.displacement + next.bytes);
                if i64::from(top) - i64::from(low) > i64::from(SPAN_BYTES)
                    || group.reads + group.writes == 60
                {
                    break;
                }
                (group.low, high, group.last) = (low, top, at);
                match next.access {
                    Access::Write => group.writes += 1,
                    Access::Read | Access::Fetch => group.reads += 1,
                }
                scan.members[at] = Some(next.displacement);
            }
            Some(_) => break,
            None if is_harmless(step) => {}
            None => break,
        }
        match moves(step, leader.anchor) {
            Some(bytes) => moved += bytes,
            None => break,
        }
        at += 1;
    }
    group.bytes = (high - group.low) as u16;
    if group.reads + group.writes < 2 {
        scan.members[first] = None;
        return None;
    }
    Some(group)
}

/// The access of a step, if it can be a member; rsp has moved by `moved` since the leader.
fn candidate(step: &Step, moved: i32, leader: Option<Anchor>) -> Option<Candidate> {
    let instruction = &step.instruction;
    let on_stack = |displacement: i32, bytes: i32, access: Access| {
        Some(Candidate { anchor: STACK, displacement: moved + displacement, bytes, access })
    };
    match step.class {
        Class::Push => {
            let bytes = push_bytes(instruction);
            on_stack(-bytes, bytes, Access::Write)
        }
        Class::Pop => on_stack(0, pop_bytes(instruction), Access::Read),
        Class::Call => {
            let bytes = word_bytes(instruction);
            on_stack(-bytes, bytes, Access::Write)
        }
        Class::Return => on_stack(0, word_bytes(instruction), Access::Read),
        Class::Leave => {
            let anchor = Anchor { base: Some(RBP), ..STACK };
            let bytes = word_bytes(instruction);
            Some(Candidate { anchor, displacement: 0, bytes, access: Access::Read })
        }
        Class::Memory(access) => explicit(instruction, moved, leader, access),
        Class::JumpIndirect if instruction.op0_kind() == OpKind::Memory => {
            explicit(instruction, moved, leader, Access::Read)
        }
        _ => None,
    }
}

/// Bytes that a `push` of a register or constant stores.
pub(super) fn push_bytes(instruction: &Instruction) -> i32 {
    match instruction.code() {
        Code::Push_r16 | Code::Push_imm16 | Code::Pushw_imm8 | Code::Push_rm16 => 2,
        _ => word_bytes(instruction),
    }
}

/// Bytes of an address, and of what stack instructions move if nothing else is said.
pub(super) fn word_bytes(instruction: &Instruction) -> i32 {
    if is_compat(instruction) { 4 } else { 8 }
}

/// Bytes that a `pop` to a register loads.
pub(super) fn pop_bytes(instruction: &Instruction) -> i32 {
    match instruction.code() {
        Code::Pop_r16 | Code::Pop_rm16 => 2,
        _ => word_bytes(instruction),
    }
}

/// The explicit memory operand as a candidate.
fn explicit(
    instruction: &Instruction,
    moved: i32,
    leader: Option<Anchor>,
    access: Access,
) -> Option<Candidate> {
    if is_short_address(instruction) {
        return None;
    }
    let bytes = i32::from(operand_bytes(instruction));
    let segment = match instruction.segment_prefix() {
        segment @ (Register::FS | Register::GS) => segment,
        _ => Register::None,
    };
    if instruction.is_ip_rel_memory_operand() {
        let address = instruction.ip_rel_memory_address();
        let absolute = leader.map_or(address, |anchor| anchor.absolute);
        let displacement = i32::try_from(address.wrapping_sub(absolute) as i64).ok()?;
        let anchor = Anchor { base: None, index: None, segment, absolute };
        let is_near = (-SPAN_BYTES..=SPAN_BYTES).contains(&displacement);
        return is_near.then_some(Candidate { anchor, displacement, bytes, access });
    }
    let base = number(instruction.memory_base());
    let index = number(instruction.memory_index());
    if base.is_none() && index.is_none() {
        return None;
    }
    let scale = instruction.memory_index_scale().trailing_zeros() as u8;
    let displacement = instruction.memory_displacement64() as i32;
    let moved = if base == Some(RSP) { moved } else { 0 };
    let anchor = Anchor { base, index: index.map(|index| (index, scale)), segment, absolute: 0 };
    let displacement = displacement.checked_add(moved)?;
    let is_plain = displacement.checked_add(bytes + SPAN_BYTES).is_some()
        && displacement.checked_sub(SPAN_BYTES).is_some();
    is_plain.then_some(Candidate { anchor, displacement, bytes, access })
}

/// Whether a step without a member's access can stand inside of a group: it makes no access and can
/// be emitted without the register that holds the group's address.
fn is_harmless(step: &Step) -> bool {
    let instruction = &step.instruction;
    match step.class {
        Class::Plain | Class::Nop | Class::Direction => true,
        Class::Lea => {
            let is_here = |register| number(register).is_none_or(|number| number < MASK);
            is_here(instruction.op0_register())
                && is_here(instruction.memory_base())
                && is_here(instruction.memory_index())
                && (!instruction.is_ip_rel_memory_operand()
                    || instruction.op0_register().size() == 8
                        && instruction.memory_base() == Register::RIP)
        }
        _ => false,
    }
}

/// By how many bytes the step moves rsp, for a group on the stack; `None` if the step changes a
/// register of the anchor in another way.
fn moves(step: &Step, anchor: Anchor) -> Option<i32> {
    let mut mask = anchor.base.map_or(0, |base| 1 << base);
    mask |= anchor.index.map_or(0, |(index, _)| 1 << index);
    let written = written(step);
    if mask & (1 << RSP) == 0 {
        return (written & mask == 0).then_some(0);
    }
    let constant = constant_move(step);
    let others = written & !(1 << RSP);
    match constant {
        Some(bytes) if others & mask == 0 => Some(bytes),
        Some(_) => None,
        None => (written & mask == 0).then_some(0),
    }
}

/// By how many bytes a step moves rsp if that is known.
fn constant_move(step: &Step) -> Option<i32> {
    let instruction = &step.instruction;
    match step.class {
        Class::Push => return Some(-push_bytes(instruction)),
        Class::Pop if instruction.op0_register().full_register() != Register::RSP => {
            return Some(pop_bytes(instruction));
        }
        _ => {}
    }
    let stack = if is_compat(instruction) { Register::ESP } else { Register::RSP };
    if instruction.op_count() != 2 || instruction.op0_register() != stack {
        return None;
    }
    let is_constant = matches!(
        instruction.op1_kind(),
        OpKind::Immediate8to64
            | OpKind::Immediate32to64
            | OpKind::Immediate8to32
            | OpKind::Immediate32
    );
    // 32-bit immediates and displacements are signed all the same.
    let value =
        |value: u64| if is_compat(instruction) { i64::from(value as i32) } else { value as i64 };
    let bytes = match instruction.mnemonic() {
        Mnemonic::Add if is_constant => value(instruction.immediate(1)),
        Mnemonic::Sub if is_constant => value(instruction.immediate(1)).wrapping_neg(),
        Mnemonic::Lea
            if instruction.memory_base() == Register::RSP
                && instruction.memory_index() == Register::None =>
        {
            value(instruction.memory_displacement64())
        }
        _ => return None,
    };
    i32::try_from(bytes).ok().filter(|bytes| (-1 << 20..=1 << 20).contains(bytes))
}

/// The general registers that a step may change, as bits.
pub(super) fn written(step: &Step) -> u16 {
    let instruction = &step.instruction;
    let explicit = (0..instruction.op_count())
        .filter(|operand| step.writes >> operand & 1 != 0)
        .filter(|operand| instruction.op_kind(*operand) == OpKind::Register)
        .filter_map(|operand| number(instruction.op_register(operand)))
        .fold(0, |mask, register| mask | 1 << register);
    let class = match step.class {
        Class::Push | Class::Pop | Class::Call | Class::Return => 1 << RSP,
        Class::Leave => 1 << RSP | 1 << RBP,
        _ => 0,
    };
    explicit | class | implicit(instruction)
}

/// The general registers that an instruction changes without naming them, as bits. Stack
/// instructions and those done in Rust are not asked for.
pub(super) fn implicit(instruction: &Instruction) -> u16 {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Mul | M::Div | M::Idiv | M::Cmpxchg8b | M::Cmpxchg16b => 1 << RAX | 1 << RDX,
        M::Imul if instruction.op_count() == 1 => 1 << RAX | 1 << RDX,
        M::Cbw | M::Cwde | M::Cdqe | M::Cmpxchg | M::Lahf | M::Xlatb => 1 << RAX,
        M::Cwd | M::Cdq | M::Cqo => 1 << RDX,
        M::Pcmpestri
        | M::Pcmpestri64
        | M::Pcmpistri
        | M::Vpcmpestri
        | M::Vpcmpestri64
        | M::Vpcmpistri => 1 << RCX,
        _ => 0,
    }
}
