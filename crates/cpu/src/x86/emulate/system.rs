//! Who the CPU is, what time it is, the flags, and what is left of system tables in user mode.
//!
//! User-mode instruction prevention is on, and what Linux answers in its place is answered here.
//!
//! # Source
//! Linux 6.12 `arch/x86/kernel/umip.c`; Intel SDM 2.

use super::bus::{Bus, linear, write_gpr};
use super::{PROTECTION, Result};
use crate::{Registers, XCR0, cpuid};
use iced_x86::{Code, Instruction, Mnemonic, OpKind};
use machine::Machine;

/// Virtual nanoseconds that reading the time-stamp counter takes.
const RDTSC_NS: u64 = 10;
/// Flags that `popf` changes in user mode: CF PF AF ZF SF TF DF OF NT AC ID.
pub(super) const POPF_FLAGS: u64 = 0x0024_4dd5;

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
    let bytes = flags_bytes(instruction);
    bus.push(regs, regs.rflags, bytes)
}

/// `popf`: privileged flags stay as they are.
pub(super) fn pop_flags(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    let bytes = flags_bytes(instruction);
    let value = bus.peek_stack(regs, 0, bytes)?;
    let mask = if bytes == 2 { POPF_FLAGS & 0xffff } else { POPF_FLAGS };
    regs.rflags = regs.rflags & !mask | value & mask;
    bus.drop_stack(regs, bytes as u64);
    Ok(())
}

/// Bytes of the flags that `pushf` and `popf` move.
fn flags_bytes(instruction: &Instruction) -> usize {
    match instruction.code() {
        Code::Pushfw | Code::Popfw => 2,
        Code::Pushfd | Code::Popfd => 4,
        _ => 8,
    }
}

/// Stores to the first operand: a register of its size, or `bytes` of memory.
pub(super) fn store_word(
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
