//! Who the CPU is, what time it is, and what is left of segments and system tables in user mode.
//!
//! The selectors are those that Linux gives a 64-bit program: cs 0x33, ss 0x2b, the others null.
//! User-mode instruction prevention is on, and what Linux answers in its place is answered here.
//!
//! # Source
//! Linux 6.12 `arch/x86/include/asm/segment.h`, `arch/x86/kernel/umip.c`; Intel SDM 2.

use super::bus::{Bus, linear, read_gpr, write_gpr};
use super::flags::{ZERO, with_flag};
use super::{INVALID, PROTECTION, Result};
use crate::{Exception, Exit, Registers, XCR0, cpuid};
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};
use machine::Machine;

/// Virtual nanoseconds that reading the time-stamp counter takes.
const RDTSC_NS: u64 = 10;
/// Flags that `popf` changes in user mode: CF PF AF ZF SF TF DF OF NT AC ID.
const POPF_FLAGS: u64 = 0x0024_4dd5;

const USER_DS: u16 = 0x2b;
const USER_CS: u16 = 0x33;
const USER_CS_32: u16 = 0x23;
/// Holds the number of the CPU in its limit.
const CPU_NODE: u16 = 0x7b;

/// Place of a segment register in [`Registers::selectors`].
fn index(register: Register) -> usize {
    match register {
        Register::ES => 0,
        Register::CS => 1,
        Register::SS => 2,
        Register::DS => 3,
        Register::FS => 4,
        _ => 5,
    }
}

/// `cpuid`, `rdtsc`, `rdtscp`, `xgetbv`.
pub(super) fn identify(
    regs: &mut Registers,
    hw: &mut Machine,
    instruction: &Instruction,
) -> Result<()> {
    match instruction.mnemonic() {
        Mnemonic::Cpuid => {
            let [a, b, c, d] = cpuid(regs.gpr[0] as u32, regs.gpr[1] as u32);
            regs.gpr[0] = a.into();
            regs.gpr[3] = b.into();
            regs.gpr[1] = c.into();
            regs.gpr[2] = d.into();
        }
        Mnemonic::Xgetbv => {
            if regs.gpr[1] as u32 != 0 {
                return Err(PROTECTION);
            }
            set_pair(regs, XCR0);
        }
        name => {
            hw.advance_ns(RDTSC_NS);
            set_pair(regs, time_stamp(hw));
            if name == Mnemonic::Rdtscp {
                regs.gpr[1] = 0;
            }
        }
    }
    Ok(())
}

/// The time-stamp counter: [`crate::TSC_KHZ`] over virtual time.
fn time_stamp(hw: &Machine) -> u64 {
    let ticks = u128::from(hw.now_ns()) * u128::from(crate::TSC_KHZ) / 1_000_000;
    ticks as u64
}

fn set_pair(regs: &mut Registers, value: u64) {
    regs.gpr[0] = value & 0xffff_ffff;
    regs.gpr[2] = value >> 32;
}

/// `pushf`.
pub(super) fn push_flags(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    let bytes = if instruction.code() == Code::Pushfw { 2 } else { 8 };
    bus.push(regs, regs.rflags, bytes)
}

/// `popf`: privileged flags stay as they are.
pub(super) fn pop_flags(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    let bytes = if instruction.code() == Code::Popfw { 2 } else { 8 };
    let value = bus.peek(regs.gpr[Registers::RSP], bytes)?;
    let mask = if bytes == 2 { POPF_FLAGS & 0xffff } else { POPF_FLAGS };
    regs.rflags = regs.rflags & !mask | value & mask;
    regs.gpr[Registers::RSP] = regs.gpr[Registers::RSP].wrapping_add(bytes as u64);
    Ok(())
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
    let bytes = if instruction.code() == Code::Enterq_imm16_imm8 { 8 } else { 2 };
    let level = u64::from(instruction.immediate8_2nd() & 31);
    let base = regs.gpr[Registers::RBP];
    bus.push(regs, base, bytes)?;
    let frame = regs.gpr[Registers::RSP];
    for number in 1..level {
        let value = bus.peek(base.wrapping_sub(bytes as u64 * number), bytes)?;
        bus.push(regs, value, bytes)?;
    }
    if level > 0 {
        bus.push(regs, frame, bytes)?;
    }
    regs.gpr[Registers::RBP] = match bytes {
        2 => base & !0xffff | frame & 0xffff,
        _ => frame,
    };
    let locals = u64::from(instruction.immediate16());
    let end = regs.gpr[Registers::RSP].wrapping_sub(locals);
    regs.gpr[Registers::RSP] = end;
    // A write to the end must be possible, though none is made.
    bus.check_write(end)
}

/// `leave` with a 16-bit operand: only the low part of rbp is popped.
pub(super) fn leave(bus: &mut Bus, regs: &mut Registers) -> Result<()> {
    let base = regs.gpr[Registers::RBP];
    let value = bus.peek(base, 2)?;
    regs.gpr[Registers::RSP] = base.wrapping_add(2);
    regs.gpr[Registers::RBP] = base & !0xffff | value;
    Ok(())
}

/// `mov` to and from a segment register, `push` and `pop` of one.
pub(super) fn segment(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    match instruction.mnemonic() {
        Mnemonic::Push => {
            let value = regs.selectors[index(instruction.op0_register())];
            let bytes = if is_word_stack(instruction) { 2 } else { 8 };
            bus.push(regs, value.into(), bytes)
        }
        Mnemonic::Pop => {
            let bytes = if is_word_stack(instruction) { 2 } else { 8 };
            let value = bus.peek(regs.gpr[Registers::RSP], bytes)?;
            load_selector(regs, instruction.op0_register(), value as u16)?;
            regs.gpr[Registers::RSP] = regs.gpr[Registers::RSP].wrapping_add(bytes as u64);
            Ok(())
        }
        _ if instruction.op1_kind() == OpKind::Register
            && instruction.op1_register().is_segment_register() =>
        {
            let value = regs.selectors[index(instruction.op1_register())];
            store_word(bus, regs, instruction, value.into(), 2)
        }
        _ => {
            let value = if instruction.op1_kind() == OpKind::Memory {
                bus.read_number(linear(regs, instruction, 1, 0), 2)?
            } else {
                read_gpr(regs, instruction.op1_register())
            };
            load_selector(regs, instruction.op0_register(), value as u16)
        }
    }
}

fn is_word_stack(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Pushw_FS | Code::Pushw_GS | Code::Popw_FS | Code::Popw_GS)
}

fn load_selector(regs: &mut Registers, register: Register, value: u16) -> Result<()> {
    if register == Register::CS {
        return Err(INVALID);
    }
    let is_data = value == USER_DS;
    let is_readable = is_data || matches!(value, USER_CS | USER_CS_32 | CPU_NODE);
    let is_allowed = if register == Register::SS { is_data } else { value < 4 || is_readable };
    if !is_allowed {
        return Err(PROTECTION);
    }
    regs.selectors[index(register)] = value;
    match register {
        Register::FS => regs.fs_base = 0,
        Register::GS => regs.gs_base = 0,
        _ => {}
    }
    Ok(())
}

/// Stores to the first operand: a register of its size, or `bytes` of memory.
fn store_word(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
    value: u64,
    bytes: usize,
) -> Result<()> {
    if instruction.op0_kind() == OpKind::Memory {
        return bus.write_number(linear(regs, instruction, 0, 0), value, bytes);
    }
    write_gpr(regs, instruction.op0_register(), value);
    Ok(())
}

/// `sgdt`, `sidt`, `sldt`, `str`, `smsw`: what Linux answers in place of the prevented instruction.
pub(super) fn tables(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let table = |base: u64| {
        let mut image = [0; 10];
        image[2..].copy_from_slice(&base.to_le_bytes());
        image
    };
    let place = || linear(regs, instruction, 0, 0);
    match instruction.mnemonic() {
        Mnemonic::Sgdt => bus.write(place(), &table(0xffff_ffff_fffe_0000)),
        Mnemonic::Sidt => bus.write(place(), &table(0xffff_ffff_ffff_0000)),
        Mnemonic::Smsw => store_word(bus, regs, instruction, 0x8005_0033, 2),
        Mnemonic::Str => store_word(bus, regs, instruction, 0x40, 2),
        _ => store_word(bus, regs, instruction, 0, 2),
    }
}

/// Access rights (as `lar` shows them) and limit of a descriptor that a program may look at.
fn descriptor(selector: u16) -> Option<(u64, u64)> {
    match selector {
        USER_DS => Some((0x00cf_f300, 0xffff_ffff)),
        USER_CS => Some((0x00af_fb00, 0xffff_ffff)),
        USER_CS_32 => Some((0x00cf_fb00, 0xffff_ffff)),
        CPU_NODE => Some((0x0040_f500, 0)),
        _ => None,
    }
}

/// `lar`, `lsl`, `verr`, `verw`.
pub(super) fn verify(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let operand = instruction.op_count() - 1;
    let selector = if instruction.op_kind(operand) == OpKind::Memory {
        bus.read_number(linear(regs, instruction, operand, 0), 2)?
    } else {
        read_gpr(regs, instruction.op_register(operand))
    };
    let selector = selector as u16;
    let found = descriptor(selector);
    let is_good = match instruction.mnemonic() {
        Mnemonic::Verw => selector == USER_DS,
        _ => found.is_some(),
    };
    if let (Some((rights, limit)), true) = (found, is_good) {
        match instruction.mnemonic() {
            Mnemonic::Lar => write_gpr(regs, instruction.op0_register(), rights),
            Mnemonic::Lsl => write_gpr(regs, instruction.op0_register(), limit),
            _ => {}
        }
    }
    regs.rflags = with_flag(regs.rflags, ZERO, is_good);
    Ok(())
}

/// `iretq`, far `ret`, far `jmp`, far `call`: only to the one code segment of a 64-bit program.
pub(super) fn far(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<u64> {
    let rsp = regs.gpr[Registers::RSP];
    match instruction.code() {
        Code::Iretq => {
            let mut frame = [0; 5];
            for (slot, value) in frame.iter_mut().enumerate() {
                *value = bus.peek(rsp.wrapping_add(8 * slot as u64), 8)?;
            }
            let [rip, code, flags, stack, data] = frame;
            require(code as u16 == USER_CS && data as u16 == USER_DS)?;
            regs.rflags = regs.rflags & !POPF_FLAGS | flags & POPF_FLAGS;
            regs.gpr[Registers::RSP] = stack;
            Ok(rip)
        }
        Code::Retfq | Code::Retfq_imm16 => {
            let rip = bus.peek(rsp, 8)?;
            let code = bus.peek(rsp.wrapping_add(8), 8)?;
            require(code as u16 == USER_CS)?;
            let drop = match instruction.code() {
                Code::Retfq_imm16 => u64::from(instruction.immediate16()),
                _ => 0,
            };
            regs.gpr[Registers::RSP] = rsp.wrapping_add(16 + drop);
            Ok(rip)
        }
        Code::Jmp_m1664 | Code::Call_m1664 => {
            let place = linear(regs, instruction, 0, 0);
            let mut pointer = [0; 10];
            bus.read(place, &mut pointer)?;
            let (rip, code) = pointer.split_at(8);
            require(code == USER_CS.to_le_bytes())?;
            if instruction.code() == Code::Call_m1664 {
                let mut frame = [0; 16];
                frame[..8].copy_from_slice(&instruction.next_ip().to_le_bytes());
                frame[8..10].copy_from_slice(&USER_CS.to_le_bytes());
                bus.write(rsp.wrapping_sub(16), &frame)?;
                regs.gpr[Registers::RSP] = rsp.wrapping_sub(16);
            }
            Ok(rip.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
        }
        _ => Err(PROTECTION),
    }
}

fn require(is_true: bool) -> Result<()> {
    if is_true { Ok(()) } else { Err(Exit::Exception(Exception::GeneralProtection)) }
}
