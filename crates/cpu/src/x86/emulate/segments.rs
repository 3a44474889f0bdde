//! Segment registers and far transfers.
//!
//! # Source
//! Intel SDM 2A: `mov`, `lds`, `lar`, `arpl`, `jmp`, `call`, `ret`, `iret`; 3A, 5.8. The kernel
//! offers no call gates and no task gates.

use super::super::checks::name_of;
use super::super::operand::segment_of;
use super::bus::{Bus, linear, read_gpr, stack_mask, write_gpr};
use super::flags::{ZERO, with_flag};
use super::system::{POPF_FLAGS, store_word};
use super::{PROTECTION, Result};
use crate::segments::Refusal;
use crate::{Exit, Mode, Registers, Segment, SegmentName};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use machine::{Access, VirtAddr};

/// The nested-task flag.
const NESTED: u64 = 0x4000;

/// Whether an operand is a segment register.
pub(super) fn names_segment(instruction: &Instruction) -> bool {
    (0..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register
            && instruction.op_register(operand).is_segment_register()
    })
}

/// The exit for a selector that is refused; notes its error code.
fn refuse(regs: &mut Registers, (exception, code): Refusal) -> Exit {
    regs.error_code = code;
    Exit::Exception(exception)
}

fn load(bus: &mut Bus, regs: &mut Registers, register: Register, selector: u16) -> Result<()> {
    let result = regs.try_segment(bus.hw, name_of(register), selector);
    result.map_err(|refusal| refuse(regs, refusal))
}

/// `mov` to and from a segment register, `push` and `pop` of one.
pub(super) fn transfer(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    match instruction.mnemonic() {
        Mnemonic::Push => {
            let selector = regs.selectors[name_of(instruction.op0_register()) as usize];
            bus.push(regs, selector.into(), slot_bytes(instruction))
        }
        Mnemonic::Pop => {
            let bytes = slot_bytes(instruction);
            let value = bus.peek_stack(regs, 0, bytes)?;
            load(bus, regs, instruction.op0_register(), value as u16)?;
            bus.drop_stack(regs, bytes as u64);
            Ok(())
        }
        _ if instruction.op1_kind() == OpKind::Register
            && instruction.op1_register().is_segment_register() =>
        {
            let selector = regs.selectors[name_of(instruction.op1_register()) as usize];
            store_word(bus, regs, instruction, selector.into(), 2)
        }
        _ => {
            if instruction.op0_register() == Register::CS {
                return Err(super::INVALID);
            }
            let value = if instruction.op1_kind() == OpKind::Memory {
                bus.read_number(linear(regs, instruction, 1, 0), 2)?
            } else {
                read_gpr(regs, instruction.op1_register())
            };
            load(bus, regs, instruction.op0_register(), value as u16)
        }
    }
}

/// Bytes of the stack slot of a segment register.
fn slot_bytes(instruction: &Instruction) -> usize {
    instruction.stack_pointer_increment().unsigned_abs() as usize
}

/// `lds`, `les`, `lfs`, `lgs`, `lss`.
pub(super) fn load_pointer(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    let bytes = instruction.op0_register().size();
    let (offset, selector) = bus.read_pointer(regs, instruction, 1, bytes)?;
    let register = match instruction.mnemonic() {
        Mnemonic::Lds => Register::DS,
        Mnemonic::Les => Register::ES,
        Mnemonic::Lfs => Register::FS,
        Mnemonic::Lgs => Register::GS,
        _ => Register::SS,
    };
    load(bus, regs, register, selector)?;
    write_gpr(regs, instruction.op0_register(), offset);
    Ok(())
}

/// `lar`, `lsl`, `verr`, `verw`.
pub(super) fn verify(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let operand = instruction.op_count() - 1;
    let selector = if instruction.op_kind(operand) == OpKind::Memory {
        bus.read_number(linear(regs, instruction, operand, 0), 2)?
    } else {
        read_gpr(regs, instruction.op_register(operand))
    };
    let found = visible(bus, regs, selector as u16);
    let is_good = found.is_some_and(|(_, segment)| match instruction.mnemonic() {
        Mnemonic::Verr => segment.is_for_reads(),
        Mnemonic::Verw => segment.is_for_writes(),
        _ => true,
    });
    if let (Some((descriptor, segment)), true) = (found, is_good) {
        match instruction.mnemonic() {
            Mnemonic::Lar => {
                write_gpr(regs, instruction.op0_register(), descriptor >> 32 & 0x00ff_ff00);
            }
            Mnemonic::Lsl => write_gpr(regs, instruction.op0_register(), segment.limit.into()),
            _ => {}
        }
    }
    regs.rflags = with_flag(regs.rflags, ZERO, is_good);
    Ok(())
}

/// The descriptor of a code or data segment that a user program may look at.
fn visible(bus: &Bus, regs: &Registers, selector: u16) -> Option<(u64, Segment)> {
    if selector < 4 {
        return None;
    }
    let (descriptor, _) = regs.find_descriptor(bus.hw, selector)?;
    let segment = Segment::of(descriptor);
    segment.is_visible().then_some((descriptor, segment))
}

/// `arpl`: raises the privilege level of a selector to that of another one.
pub(super) fn adjust(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let level = read_gpr(regs, instruction.op1_register()) & 3;
    let is_memory = instruction.op0_kind() == OpKind::Memory;
    let place = linear(regs, instruction, 0, 0);
    let old = if is_memory {
        bus.read_number(place, 2)?
    } else {
        read_gpr(regs, instruction.op0_register()) & 0xffff
    };
    let is_raised = old & 3 < level;
    let new = old & !3 | level;
    if !is_raised {
        // Nothing is written: memory may be read-only.
    } else if is_memory {
        let segment = name_of(segment_of(instruction));
        bus.check_segment(regs, segment, place, 2, Access::Write)?;
        bus.write_number(place, new, 2)?;
    } else if let Some(number) = super::super::classify::number(instruction.op0_register()) {
        let place = &mut regs.gpr[usize::from(number)];
        *place = *place & !0xffff | new;
    }
    regs.rflags = with_flag(regs.rflags, ZERO, is_raised);
    Ok(())
}

/// Whether a `jmp` or `call` names a selector.
pub(super) fn is_far(instruction: &Instruction) -> bool {
    matches!(
        instruction.code(),
        Code::Jmp_ptr1616
            | Code::Jmp_ptr1632
            | Code::Call_ptr1616
            | Code::Call_ptr1632
            | Code::Jmp_m1616
            | Code::Jmp_m1632
            | Code::Jmp_m1664
            | Code::Call_m1616
            | Code::Call_m1632
            | Code::Call_m1664
    )
}

/// `iret`, far `ret`, far `jmp`, far `call`: goes on in the code segment that the selector names.
pub(super) fn far(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let old = regs.clone();
    let result = match instruction.mnemonic() {
        Mnemonic::Iret | Mnemonic::Iretd | Mnemonic::Iretq => {
            return_from_interrupt(bus, regs, instruction)
        }
        Mnemonic::Retf => return_far(bus, regs, instruction),
        _ => go_far(bus, regs, instruction),
    };
    if result.is_err() {
        let code = regs.error_code;
        *regs = old;
        regs.error_code = code;
    }
    result
}

/// Bytes of an offset in a far pointer or on the stack.
fn offset_bytes(code: Code) -> usize {
    match code {
        Code::Jmp_ptr1616
        | Code::Call_ptr1616
        | Code::Jmp_m1616
        | Code::Call_m1616
        | Code::Retfw
        | Code::Retfw_imm16
        | Code::Iretw => 2,
        Code::Jmp_m1664 | Code::Call_m1664 | Code::Retfq | Code::Retfq_imm16 | Code::Iretq => 8,
        _ => 4,
    }
}

/// Checks the target of a far transfer and makes it the next instruction.
fn enter_code(bus: &mut Bus, regs: &mut Registers, selector: u16, offset: u64) -> Result<()> {
    let found = regs.try_code(bus.hw, selector);
    let segment = found.map_err(|refusal| refuse(regs, refusal))?;
    let is_long = segment.is_long();
    let is_allowed = if is_long {
        VirtAddr::new(offset).is_canonical(bus.canonical_bits)
    } else {
        offset <= u64::from(segment.limit)
    };
    if !is_allowed {
        return Err(PROTECTION);
    }
    regs.set_code(selector, segment);
    regs.rip = offset;
    Ok(())
}

/// Far `jmp` and `call`.
fn go_far(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let bytes = offset_bytes(instruction.code());
    let (offset, selector) = match instruction.op0_kind() {
        OpKind::FarBranch16 => {
            (instruction.far_branch16().into(), instruction.far_branch_selector())
        }
        OpKind::FarBranch32 => {
            (instruction.far_branch32().into(), instruction.far_branch_selector())
        }
        _ => bus.read_pointer(regs, instruction, 0, bytes)?,
    };
    if instruction.mnemonic() == Mnemonic::Call {
        // The stack comes before the limit of the segment, and stays written.
        let code = regs.selectors[SegmentName::Cs as usize];
        let found = regs.try_code(bus.hw, selector);
        found.map_err(|refusal| refuse(regs, refusal))?;
        bus.push(regs, code.into(), bytes)?;
        bus.push(regs, instruction.next_ip(), bytes)?;
    }
    enter_code(bus, regs, selector, offset)
}

/// Far `ret`: to the same level only.
fn return_far(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let bytes = offset_bytes(instruction.code());
    // In this order: which of two pages faults first shows.
    let selector = bus.peek_stack(regs, bytes as u64, bytes)? as u16;
    let offset = bus.peek_stack(regs, 0, bytes)?;
    let drop = if instruction.op_count() > 0 { u64::from(instruction.immediate16()) } else { 0 };
    read_outer_stack(bus, regs, selector, 2 * bytes as u64 + drop, bytes)?;
    require_level(regs, selector)?;
    let mask = stack_mask(regs);
    enter_code(bus, regs, selector, offset)?;
    drop_frame(regs, mask, 2 * bytes as u64 + drop);
    Ok(())
}

/// Moves rsp up by `bytes`, in the wider of the old code's way, which `mask` tells, and the new
/// one's.
fn drop_frame(regs: &mut Registers, mask: u64, bytes: u64) {
    let mask = mask | stack_mask(regs);
    let rsp = &mut regs.gpr[Registers::RSP];
    *rsp = *rsp & !mask | rsp.wrapping_add(bytes) & mask;
}

/// Reads the stack segment and pointer that a return to another level takes from `place` behind the
/// stack pointer. On the CPUs of AMD they come before all checks of the selector.
fn read_outer_stack(
    bus: &mut Bus,
    regs: &Registers,
    selector: u16,
    place: u64,
    bytes: usize,
) -> Result<()> {
    if selector & 3 != 3 {
        bus.peek_stack(regs, place + bytes as u64, bytes)?;
        bus.peek_stack(regs, place, bytes)?;
    }
    Ok(())
}

/// A return does not go to a more privileged level.
fn require_level(regs: &mut Registers, selector: u16) -> Result<()> {
    if selector & 3 == 3 || selector < 4 {
        return Ok(());
    }
    regs.error_code = u32::from(selector & !3);
    Err(PROTECTION)
}

/// `iret`: 64-bit code always pops the stack pointer too.
fn return_from_interrupt(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    if regs.rflags & NESTED != 0 {
        return Err(PROTECTION);
    }
    let bytes = offset_bytes(instruction.code());
    let is_long = regs.mode() == Mode::Long;
    let mut frame = [0; 5];
    let count = if is_long { 5 } else { 3 };
    // In this order: which page faults first shows.
    for slot in [2, 1, 0, 4, 3].into_iter().filter(|slot| *slot < count) {
        frame[slot] = bus.peek_stack(regs, (bytes * slot) as u64, bytes)?;
    }
    let [offset, code, flags, stack, data] = frame;
    if !is_long {
        read_outer_stack(bus, regs, code as u16, 3 * bytes as u64, bytes)?;
    }
    require_level(regs, code as u16)?;
    let mask = stack_mask(regs);
    enter_code(bus, regs, code as u16, offset)?;
    drop_frame(regs, mask, (bytes * count) as u64);
    let mask = if bytes == 2 { POPF_FLAGS & 0xffff } else { POPF_FLAGS };
    regs.rflags = regs.rflags & !mask | flags & mask;
    if is_long {
        load(bus, regs, Register::SS, data as u16)?;
        // A 16-bit stack pointer leaves the rest of the register as it was.
        let mask = match stack_mask(regs) {
            0xffff => 0xffff,
            _ => u64::MAX,
        };
        let rsp = &mut regs.gpr[Registers::RSP];
        *rsp = *rsp & !mask | stack & mask;
    }
    Ok(())
}
