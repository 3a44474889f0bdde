//! Stack instructions and near branches that emitted code does not do: rare ones, those with 16-bit
//! operands, and all of them where the stack segment is not flat.

use super::super::checks::name_of;
use super::super::operand::segment_of;
use super::Result;
use super::bus::{Bus, linear, read_gpr, stack_mask, write_gpr};
use super::flags::{CARRY, OVERFLOW, PARITY, SIGN, ZERO};
use crate::{Mode, Registers, SegmentName};
use iced_x86::{Code, ConditionCode, Instruction, Mnemonic, OpKind, Register};
use machine::Access;

/// `push` and `pop` of anything but segment registers.
pub(super) fn move_one(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    let bytes = instruction.stack_pointer_increment().unsigned_abs() as usize;
    if instruction.mnemonic() == Mnemonic::Push {
        let value = match instruction.op0_kind() {
            OpKind::Register => read_gpr(regs, instruction.op0_register()),
            OpKind::Memory => bus.read_number(linear(regs, instruction, 0, 0), bytes)?,
            _ => instruction.immediate(0),
        };
        return bus.push(regs, value, bytes);
    }
    let value = bus.peek_stack(regs, 0, bytes)?;
    let old = regs.gpr[Registers::RSP];
    // The operand is found with the stack pointer already moved.
    bus.drop_stack(regs, bytes as u64);
    if instruction.op0_kind() == OpKind::Register {
        write_gpr(regs, instruction.op0_register(), value);
        return Ok(());
    }
    let place = linear(regs, instruction, 0, 0);
    let segment = name_of(segment_of(instruction));
    bus.check_segment(regs, segment, place, bytes, Access::Write)
        .and_then(|()| bus.write_number(place, value, bytes))
        .inspect_err(|_| regs.gpr[Registers::RSP] = old)
}

/// `enter`.
pub(super) fn enter(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let old = regs.clone();
    let result = enter_steps(bus, regs, instruction);
    if result.is_err() {
        *regs = old;
    }
    result
}

fn enter_steps(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let bytes = match instruction.code() {
        Code::Enterq_imm16_imm8 => 8,
        Code::Enterd_imm16_imm8 => 4,
        _ => 2,
    };
    let level = u64::from(instruction.immediate8_2nd() & 31);
    let base = regs.gpr[Registers::RBP];
    bus.push(regs, base, bytes)?;
    let frame = regs.gpr[Registers::RSP];
    for number in 1..level {
        let value = bus.peek(regs, base.wrapping_sub(bytes as u64 * number), bytes)?;
        bus.push(regs, value, bytes)?;
    }
    if level > 0 {
        bus.push(regs, frame, bytes)?;
    }
    let mask = if bytes == 2 { 0xffff } else { u64::MAX };
    regs.gpr[Registers::RBP] = base & !mask | frame & mask;
    let locals = u64::from(instruction.immediate16());
    bus.drop_stack(regs, locals.wrapping_neg());
    // A write to the end must be possible, though none is made.
    let end = bus.stack_linear(regs, regs.gpr[Registers::RSP]);
    bus.check_segment(regs, SegmentName::Ss, end, bytes, Access::Write)?;
    bus.check_write(end)
}

/// `leave`: with a 16-bit operand only the low part of rbp is popped.
pub(super) fn leave(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let bytes = match instruction.code() {
        Code::Leavew => 2,
        Code::Leaved => 4,
        _ => 8,
    };
    let base = regs.gpr[Registers::RBP];
    let value = bus.peek(regs, base, bytes)?;
    let mask = stack_mask(regs);
    let rsp = &mut regs.gpr[Registers::RSP];
    *rsp = *rsp & !mask | base.wrapping_add(bytes as u64) & mask;
    let kept = if bytes == 2 { base & !0xffff } else { 0 };
    regs.gpr[Registers::RBP] = kept | value;
    Ok(())
}

/// `pusha` and `popa`: eight registers; the stack pointer is stored, and not loaded.
pub(super) fn all(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let bytes = if matches!(instruction.code(), Code::Pushaw | Code::Popaw) { 2 } else { 4 };
    let old = regs.clone();
    let is_push = matches!(instruction.mnemonic(), Mnemonic::Pusha | Mnemonic::Pushad);
    let first = if bytes == 2 { Register::AX } else { Register::EAX };
    let result = (|| {
        for number in 0..8u32 {
            if is_push {
                bus.push(regs, old.gpr[number as usize], bytes)?;
                continue;
            }
            let value = bus.peek_stack(regs, 0, bytes)?;
            bus.drop_stack(regs, bytes as u64);
            let register = 7 - number;
            if register != Registers::RSP as u32 {
                write_gpr(regs, first + register, value);
            }
        }
        Ok(())
    })();
    if result.is_err() {
        // What was loaded stays, as on the host: the instruction loads it again.
        regs.gpr[Registers::RSP] = old.gpr[Registers::RSP];
    }
    result
}

/// Near `jmp`, `call` and `ret` with 16-bit operands or on a stack that is not flat, branches that
/// count in cx, and all branches of odd code.
pub(super) fn branch(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    if regs.mode() == Mode::Long {
        return Err(super::PROTECTION);
    }
    let target = match instruction.mnemonic() {
        Mnemonic::Ret => {
            let bytes =
                if instruction.code() == Code::Retnw || instruction.code() == Code::Retnw_imm16 {
                    2
                } else {
                    4
                };
            let target = bus.peek_stack(regs, 0, bytes)?;
            let drop = if instruction.op_count() > 0 { instruction.immediate16() } else { 0 };
            require_code(regs, target)?;
            bus.drop_stack(regs, bytes as u64 + u64::from(drop));
            target
        }
        Mnemonic::Jmp => {
            let (target, _) = target_of(bus, regs, instruction)?;
            require_code(regs, target)?;
            target
        }
        Mnemonic::Call => {
            let (target, bytes) = target_of(bus, regs, instruction)?;
            let next = instruction.next_ip();
            bus.push_if(regs, next, bytes, |regs| require_code(regs, target))?;
            target
        }
        _ => branch_if(regs, instruction)?,
    };
    regs.rip = target;
    Ok(())
}

/// Where a conditional branch goes on. What lies behind it is looked at when it is fetched.
fn branch_if(regs: &mut Registers, instruction: &Instruction) -> Result<u64> {
    let (is_taken, count) = is_taken(regs, instruction);
    let target = match is_taken {
        true => instruction.near_branch_target(),
        false => instruction.next_ip(),
    };
    if is_taken {
        require_code(regs, target)?;
    }
    regs.gpr[Registers::RCX] = count;
    Ok(target)
}

/// The target of a near `jmp` or `call`, and its bytes.
fn target_of(bus: &mut Bus, regs: &Registers, instruction: &Instruction) -> Result<(u64, usize)> {
    Ok(match instruction.op0_kind() {
        OpKind::Register => {
            let register = instruction.op0_register();
            (read_gpr(regs, register), register.size())
        }
        OpKind::Memory => {
            let bytes = instruction.memory_size().size();
            (bus.read_number(linear(regs, instruction, 0, 0), bytes)?, bytes)
        }
        OpKind::NearBranch16 => (instruction.near_branch_target(), 2),
        _ => (instruction.near_branch_target(), 4),
    })
}

/// A branch does not leave its code segment.
fn require_code(regs: &Registers, target: u64) -> Result<()> {
    let limit = regs.segments[SegmentName::Cs as usize].limit;
    if target > u64::from(limit) { Err(super::PROTECTION) } else { Ok(()) }
}

/// Whether a conditional branch is taken, and the value of rcx behind it.
fn is_taken(regs: &Registers, instruction: &Instruction) -> (bool, u64) {
    let rcx = regs.gpr[Registers::RCX];
    if instruction.is_jcc_short_or_near() {
        return (holds(regs.rflags, instruction.condition_code()), rcx);
    }
    let mask = if counts_in_cx(instruction.code()) { 0xffff } else { 0xffff_ffff };
    if matches!(instruction.mnemonic(), Mnemonic::Jcxz | Mnemonic::Jecxz) {
        return (rcx & mask == 0, rcx);
    }
    let left = rcx.wrapping_sub(1) & mask;
    let kept = if mask == 0xffff { rcx & !mask } else { 0 };
    let is_zero = regs.rflags & ZERO != 0;
    let is_taken = left != 0
        && match instruction.mnemonic() {
            Mnemonic::Loope => is_zero,
            Mnemonic::Loopne => !is_zero,
            _ => true,
        };
    (is_taken, kept | left)
}

/// Whether the count is in cx and not in ecx.
fn counts_in_cx(code: Code) -> bool {
    matches!(
        code,
        Code::Loop_rel8_16_CX
            | Code::Loop_rel8_32_CX
            | Code::Loope_rel8_16_CX
            | Code::Loope_rel8_32_CX
            | Code::Loopne_rel8_16_CX
            | Code::Loopne_rel8_32_CX
            | Code::Jcxz_rel8_16
            | Code::Jcxz_rel8_32
    )
}

/// Whether the flags meet a condition.
fn holds(rflags: u64, condition: ConditionCode) -> bool {
    let has = |flag: u64| rflags & flag != 0;
    let is_less = has(SIGN) != has(OVERFLOW);
    match condition {
        ConditionCode::o => has(OVERFLOW),
        ConditionCode::no => !has(OVERFLOW),
        ConditionCode::b => has(CARRY),
        ConditionCode::ae => !has(CARRY),
        ConditionCode::e => has(ZERO),
        ConditionCode::ne => !has(ZERO),
        ConditionCode::be => has(CARRY | ZERO),
        ConditionCode::a => !has(CARRY | ZERO),
        ConditionCode::s => has(SIGN),
        ConditionCode::ns => !has(SIGN),
        ConditionCode::p => has(PARITY),
        ConditionCode::np => !has(PARITY),
        ConditionCode::l => is_less,
        ConditionCode::ge => !is_less,
        ConditionCode::le => is_less || has(ZERO),
        ConditionCode::g => !is_less && !has(ZERO),
        ConditionCode::None => true,
    }
}
