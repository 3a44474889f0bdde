//! `bt`, `bts`, `btr` and `btc` on a bit string in memory: the register selects a bit anywhere in
//! 2^64 bits around the operand.

use super::super::checks::name_of;
use super::super::operand::{offset_mask, segment_of};
use super::Result;
use super::bus::{Bus, linear, read_gpr};
use super::flags::{CARRY, with_flag};
use crate::{Mode, Registers};
use iced_x86::{Instruction, Mnemonic, Register};
use machine::Access;

/// By how many bytes the element is away from the operand, and which bit of it is selected.
fn element_and_bit(regs: &Registers, instruction: &Instruction) -> (i64, u32) {
    let register = instruction.op1_register();
    let bytes = register.size();
    let shift = 64 - 8 * bytes as u32;
    let index = (read_gpr(regs, register) << shift) as i64 >> shift;
    let bits = 8 * bytes as i64;
    (index.div_euclid(bits).wrapping_mul(bytes as i64), index.rem_euclid(bits) as u32)
}

/// The linear address of the element that holds the selected bit.
pub(in super::super) fn bit_string_address(regs: &Registers, instruction: &Instruction) -> u64 {
    let (element, _) = element_and_bit(regs, instruction);
    let segment = match (segment_of(instruction), regs.mode()) {
        (Register::FS, _) => regs.fs_base,
        (Register::GS, _) => regs.gs_base,
        (_, Mode::Long) => 0,
        (register, Mode::Compat) => regs.base(name_of(register)),
    };
    let offset = linear(regs, instruction, 0, 0).wrapping_sub(segment).wrapping_add(element as u64);
    let linear = (offset & offset_mask(instruction)).wrapping_add(segment);
    if regs.mode() == Mode::Long { linear } else { linear & 0xffff_ffff }
}

/// Does a bit-string instruction.
pub(super) fn run(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let bytes = instruction.op1_register().size();
    let (_, bit) = element_and_bit(regs, instruction);
    let address = bit_string_address(regs, instruction);
    let access = match instruction.mnemonic() {
        Mnemonic::Bt => Access::Read,
        _ => Access::Write,
    };
    let parts = bus.access(address, bytes, access)?;
    let mut value = [0; 8];
    bus.load(parts, &mut value[..bytes]);
    let old = u64::from_le_bytes(value);
    let new = match instruction.mnemonic() {
        Mnemonic::Bts => old | 1 << bit,
        Mnemonic::Btr => old & !(1 << bit),
        Mnemonic::Btc => old ^ 1 << bit,
        _ => old,
    };
    if access == Access::Write {
        bus.store(parts, &new.to_le_bytes()[..bytes]);
    }
    regs.rflags = with_flag(regs.rflags, CARRY, old >> bit & 1 != 0);
    Ok(())
}
