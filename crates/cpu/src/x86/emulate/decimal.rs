//! Decimal arithmetic of 32-bit code, and its two instructions that check a value.
//!
//! # Source
//! Intel SDM 2A; flags that the manual leaves undefined are those of the host's makers where they
//! agree.

use super::Result;
use super::bus::{Bus, linear, read_gpr};
use super::flags::{ADJUST, CARRY, OVERFLOW, PARITY, SIGN, ZERO, with};
use crate::{Exception, Exit, Registers};
use iced_x86::{Instruction, Mnemonic};

/// SF, ZF and PF of a byte.
fn of_byte(value: u8) -> u64 {
    let parity = if value.count_ones().is_multiple_of(2) { PARITY } else { 0 };
    let zero = if value == 0 { ZERO } else { 0 };
    u64::from(value) & SIGN | zero | parity
}

fn set_al(regs: &mut Registers, value: u8) {
    let rax = &mut regs.gpr[Registers::RAX];
    *rax = *rax & !0xff | u64::from(value);
}

fn set_ax(regs: &mut Registers, value: u16) {
    let rax = &mut regs.gpr[Registers::RAX];
    *rax = *rax & !0xffff | u64::from(value);
}

/// `daa`, `das`, `aaa`, `aas`, `aam`, `aad`, `salc`.
pub(super) fn run(regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    use Mnemonic as M;
    let ax = regs.gpr[Registers::RAX] as u16;
    let [al, ah] = ax.to_le_bytes();
    match instruction.mnemonic() {
        M::Daa | M::Das => adjust_packed(regs, al, instruction.mnemonic() == M::Das),
        M::Aaa | M::Aas => adjust_unpacked(regs, ax, instruction.mnemonic() == M::Aas),
        M::Aam => {
            let base = instruction.immediate8();
            let quotient = al.checked_div(base);
            let quotient = quotient.ok_or(Exit::Exception(Exception::DivideError))?;
            let rest = al % base;
            set_ax(regs, u16::from_le_bytes([rest, quotient]));
            regs.rflags = with(regs.rflags, of_byte(rest));
        }
        M::Aad => {
            let sum = al.wrapping_add(ah.wrapping_mul(instruction.immediate8()));
            set_ax(regs, sum.into());
            regs.rflags = with(regs.rflags, of_byte(sum));
        }
        _ => set_al(regs, if regs.rflags & CARRY != 0 { 0xff } else { 0 }),
    }
    Ok(())
}

/// `daa` and `das`.
fn adjust_packed(regs: &mut Registers, old: u8, is_subtraction: bool) {
    let (had_carry, had_adjust) = (regs.rflags & CARRY != 0, regs.rflags & ADJUST != 0);
    let step = |value: u8, by: u8| {
        if is_subtraction { value.wrapping_sub(by) } else { value.wrapping_add(by) }
    };
    let (mut value, mut flags) = (old, 0);
    if old & 0xf > 9 || had_adjust {
        value = step(value, 6);
        let is_carried = if is_subtraction { old < 6 } else { old > 0xff - 6 };
        flags |= ADJUST | if had_carry || is_carried { CARRY } else { 0 };
    }
    if old > 0x99 || had_carry {
        value = step(value, 0x60);
        flags |= CARRY;
    }
    set_al(regs, value);
    // As on the CPUs of AMD: OF is that of the whole step.
    let by = if is_subtraction { old.wrapping_sub(value) } else { !value.wrapping_sub(old) };
    let is_over = (old ^ by) & (old ^ value) & 0x80 != 0;
    let overflow = if is_over { OVERFLOW } else { 0 };
    regs.rflags = with(regs.rflags, flags | overflow | of_byte(value));
}

/// `aaa` and `aas`.
fn adjust_unpacked(regs: &mut Registers, old: u16, is_subtraction: bool) {
    let is_adjusted = old & 0xf > 9 || regs.rflags & ADJUST != 0;
    let value = match (is_adjusted, is_subtraction) {
        (false, _) => old,
        (true, false) => old.wrapping_add(0x106),
        (true, true) => old.wrapping_sub(6).wrapping_sub(0x100),
    };
    set_ax(regs, value & 0xff0f);
    // As on the CPUs of AMD: SF, ZF and PF are those of ax before its digit is cut out.
    let [low, high] = value.to_le_bytes();
    let zero = if value == 0 { ZERO } else { 0 };
    let flags = if is_adjusted { CARRY | ADJUST } else { 0 };
    let parity = of_byte(low) & PARITY;
    regs.rflags = with(regs.rflags, flags | u64::from(high) & SIGN | zero | parity);
}

/// `bound` and `into`.
pub(super) fn check(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    if instruction.mnemonic() == Mnemonic::Into {
        if regs.rflags & OVERFLOW == 0 {
            return Ok(());
        }
        // A trap: it comes behind the instruction.
        regs.rip = instruction.next_ip();
        return Err(Exit::Exception(Exception::Overflow));
    }
    let bytes = instruction.op0_register().size();
    let place = linear(regs, instruction, 1, 0);
    let signed = |value: u64| if bytes == 2 { (value as i16).into() } else { value as i32 };
    let low = signed(bus.read_number(place, bytes)?);
    let high = signed(bus.read_number(place.wrapping_add(bytes as u64) & bus.linear_mask, bytes)?);
    let index = signed(read_gpr(regs, instruction.op0_register()));
    if (low..=high).contains(&index) {
        return Ok(());
    }
    Err(Exit::Exception(Exception::Bound))
}
