//! Stack instructions and near branches that emitted code does not do: rare ones, those with 16-bit
//! operands, and all of them where the stack segment is not flat.

use super::Result;
use super::bus::{Bus, linear, read_gpr, stack_mask, write_gpr};
use super::flags::ZERO;
use crate::{Mode, Registers};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

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
    bus.write_number(place, value, bytes).inspect_err(|_| regs.gpr[Registers::RSP] = old)
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
        let place = bus.stack_linear(regs, base.wrapping_sub(bytes as u64 * number));
        let value = bus.peek(place, bytes)?;
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
    bus.check_write(bus.stack_linear(regs, regs.gpr[Registers::RSP]))
}

/// `leave`: with a 16-bit operand only the low part of rbp is popped.
pub(super) fn leave(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let bytes = match instruction.code() {
        Code::Leavew => 2,
        Code::Leaved => 4,
        _ => 8,
    };
    let base = regs.gpr[Registers::RBP];
    let value = bus.peek(bus.stack_linear(regs, base), bytes)?;
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

/// Near `jmp`, `call` and `ret` with 16-bit operands or on a stack that is not flat, and branches
/// that count in cx.
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
            bus.drop_stack(regs, bytes as u64 + u64::from(drop));
            target
        }
        Mnemonic::Jmp => target_of(bus, regs, instruction)?.0,
        Mnemonic::Call => {
            let (target, bytes) = target_of(bus, regs, instruction)?;
            bus.push(regs, instruction.next_ip(), bytes)?;
            target
        }
        _ if counts(regs, instruction) => instruction.near_branch_target(),
        _ => instruction.next_ip(),
    };
    regs.rip = target;
    Ok(())
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

/// Counts down cx if the branch does, and says whether it is taken.
fn counts(regs: &mut Registers, instruction: &Instruction) -> bool {
    let rcx = &mut regs.gpr[Registers::RCX];
    if instruction.mnemonic() == Mnemonic::Jcxz {
        return *rcx & 0xffff == 0;
    }
    *rcx = *rcx & !0xffff | rcx.wrapping_sub(1) & 0xffff;
    let is_zero = regs.rflags & ZERO != 0;
    *rcx & 0xffff != 0
        && match instruction.mnemonic() {
            Mnemonic::Loope => is_zero,
            Mnemonic::Loopne => !is_zero,
            _ => true,
        }
}
