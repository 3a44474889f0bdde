//! 32-bit code: what its instructions are in terms of those of 64-bit code.
//!
//! Most instructions mean the same in both, or have a twin with another encoding. Addresses are
//! computed on the 64-bit names of registers, whose upper halves are zero, and cut to 32 bits in
//! the end (`operand.rs`); absolute ones are written like those relative to rip. What has no twin
//! is rewritten by the emitter (the stack, branches) or done in Rust.
//!
//! A block is translated for a [`Flavor`]: the mode, and which segments need looking at. An
//! instruction that touches one of those is looked at in Rust before it is done (`checks.rs`).
//!
//! Code in a segment that is not flat, and 16-bit code, is odd: each instruction of it is looked at
//! and done by itself, and its branches are done in Rust. The engine goes by linear addresses; only
//! `Registers::rip` is an offset in the segment.
//!
//! # Source
//! Intel SDM 2; the completeness test below goes over every code of the decoder.

use crate::{Registers, Segment};
use iced_x86::{Code, CodeSize, Instruction, OpKind, Register};
use machine::PAGE_BYTES;

/// What a block of code depends on besides its bytes: bit 0 for code that is not 64-bit code, a bit
/// for each segment register through which not every access is allowed, or not at the plain
/// address, and two for what code it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) struct Flavor(u16);

const COMPAT: u16 = 1;
/// The code segment is not flat, or one of 16-bit code.
const ODD: u16 = 1 << 7;
/// 16-bit code.
const SHORT: u16 = 1 << 8;

/// The bit of a segment register.
fn bit(register: Register) -> u16 {
    match register {
        Register::ES => 1 << 1,
        Register::SS => 1 << 2,
        Register::DS => 1 << 3,
        Register::FS => 1 << 4,
        Register::GS => 1 << 5,
        _ => 1 << 6,
    }
}

const PLAIN: u16 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6;

impl Flavor {
    /// The flavor of code under `regs`.
    pub(super) fn of(regs: &Registers) -> Self {
        if regs.mode() == crate::Mode::Long {
            return Self::default();
        }
        let [es, cs, ss, ds, fs, gs] = &regs.segments;
        let is_flat = |segment: &Segment| segment.is_open() && segment.base == 0;
        let mut bits = COMPAT;
        let mut close = |register, is_open| bits |= if is_open { 0 } else { bit(register) };
        close(Register::ES, is_flat(es));
        close(Register::SS, is_flat(ss) && ss.is_big());
        close(Register::DS, is_flat(ds));
        close(Register::FS, fs.is_open());
        close(Register::GS, gs.is_open());
        let is_flat_code = cs.limit == u32::MAX && cs.base == 0;
        close(Register::CS, cs.is_readable() && is_flat_code);
        bits |= if is_flat_code && cs.is_big() { 0 } else { ODD };
        bits |= if cs.is_big() { 0 } else { SHORT };
        Self(bits)
    }

    /// Whether the code is 32-bit or 16-bit code.
    pub(super) const fn is_compat(self) -> bool {
        self.0 & COMPAT != 0
    }

    /// Whether the code has a window on its stack: 32-bit code with flat segments.
    pub(super) const fn has_window(self) -> bool {
        self.0 & (COMPAT | PLAIN | ODD) == COMPAT
    }

    /// Whether every instruction is done by itself.
    pub(super) const fn is_odd(self) -> bool {
        self.0 & ODD != 0
    }

    /// Bits of an address in the code, for the decoder.
    pub(super) const fn bitness(self) -> u32 {
        match self.0 & (COMPAT | SHORT) {
            0 => 64,
            COMPAT => 32,
            _ => 16,
        }
    }

    /// All ones of a linear address.
    pub(super) const fn linear_mask(self) -> u64 {
        if self.is_compat() { 0xffff_ffff } else { u64::MAX }
    }

    /// Whether `address` is in the last page of linear addresses.
    pub(super) const fn is_in_last_page(self, address: u64) -> bool {
        address | (PAGE_BYTES - 1) == self.linear_mask()
    }

    /// A number that is different for each flavor, below 512.
    pub(super) const fn number(self) -> u64 {
        self.0 as u64
    }

    /// Whether accesses through a segment register need looking at.
    pub(super) fn is_closed(self, register: Register) -> bool {
        self.0 & bit(register) != 0
    }

    /// Whether what an element of a string may touch depends on more than its page, if the source
    /// is in the segment `source`.
    pub(super) fn limits_strings(self, source: Register) -> bool {
        self.0 & (PLAIN | ODD) != 0 || self.is_closed(source)
    }

    /// Whether `instruction` has to be looked at before it is done.
    pub(super) fn is_checked(self, instruction: &Instruction) -> bool {
        // Nothing can be written through CS.
        let prefix = instruction.segment_prefix();
        self.is_compat()
            && (self.0 & (PLAIN | ODD) != 0
                || prefix == Register::CS
                || prefix != Register::None && self.is_closed(prefix))
    }
}

/// Whether `instruction` is of 32-bit or 16-bit code.
pub(super) fn is_compat(instruction: &Instruction) -> bool {
    matches!(instruction.code_size(), CodeSize::Code16 | CodeSize::Code32)
}

/// Writes an instruction of 32-bit or 16-bit code as the emitter wants it.
pub(super) fn normalize(instruction: &mut Instruction) {
    instruction.set_code(twin(instruction.code()));
    let has_memory = (0..instruction.op_count()).any(|i| instruction.op_kind(i) == OpKind::Memory);
    if !has_memory || instruction.code() == Code::Xlat_m8 {
        return;
    }
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    if base == Register::None && index == Register::None {
        let mask = if instruction.memory_displ_size() == 2 { 0xffff } else { 0xffff_ffff };
        let address = instruction.memory_displacement64() & mask;
        instruction.set_memory_base(Register::RIP);
        instruction.set_memory_displ_size(8);
        instruction.set_memory_displacement64(address);
        return;
    }
    if base.is_gpr16() || index.is_gpr16() {
        return;
    }
    let displacement = instruction.memory_displacement64() as i32;
    instruction.set_memory_displacement64(i64::from(displacement) as u64);
    if instruction.memory_displ_size() == 4 {
        // The encoder's word for a displacement of 32 bits in 64-bit code.
        instruction.set_memory_displ_size(8);
    }
    if base.is_gpr32() {
        instruction.set_memory_base(base.full_register());
    }
    if index.is_gpr32() {
        instruction.set_memory_index(index.full_register());
    }
}

/// The code of 64-bit mode that means the same, or the same code.
fn twin(code: Code) -> Code {
    match code {
        Code::Inc_r16 => Code::Inc_rm16,
        Code::Inc_r32 => Code::Inc_rm32,
        Code::Dec_r16 => Code::Dec_rm16,
        Code::Dec_r32 => Code::Dec_rm32,
        Code::Add_rm8_imm8_82 => Code::Add_rm8_imm8,
        Code::Or_rm8_imm8_82 => Code::Or_rm8_imm8,
        Code::Adc_rm8_imm8_82 => Code::Adc_rm8_imm8,
        Code::Sbb_rm8_imm8_82 => Code::Sbb_rm8_imm8,
        Code::And_rm8_imm8_82 => Code::And_rm8_imm8,
        Code::Sub_rm8_imm8_82 => Code::Sub_rm8_imm8,
        Code::Xor_rm8_imm8_82 => Code::Xor_rm8_imm8,
        Code::Cmp_rm8_imm8_82 => Code::Cmp_rm8_imm8,
        _ => code,
    }
}

#[cfg(test)]
mod tests {
    use super::super::classify::{Class, Classifier};
    use super::*;
    use iced_x86::EncodingKind;

    /// Codes of 32-bit and 16-bit mode are done by a way of their own, refused, or have a twin that
    /// can be encoded in 64-bit mode.
    #[test]
    fn every_code_of_32_bit_mode_has_a_way() {
        let mut classifier = Classifier::new();
        let (mut count, mut lost) = (0, Vec::new());
        for code in Code::values() {
            let op_code = code.op_code();
            let is_known = matches!(op_code.encoding(), EncodingKind::Legacy | EncodingKind::VEX);
            let is_old = op_code.mode32() || op_code.mode16();
            if !op_code.is_instruction() || !is_old || !is_known {
                continue;
            }
            count += 1;
            let mut instruction = Instruction::default();
            instruction.set_code(twin(code));
            let class = classifier.classify(&instruction);
            let is_reencoded = matches!(class, Class::Plain | Class::Memory(_) | Class::Lea);
            if is_reencoded && !twin(code).op_code().mode64() {
                lost.push(code);
            }
        }
        assert!(lost.is_empty(), "no way for {lost:?}");
        assert!(count > 1500, "only {count} codes");
    }
}
