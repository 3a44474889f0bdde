//! `bt`, `bts`, `btr`, `btc` with a bit offset in a register: the bit may be far from the operand.

use iced_x86::{Instruction, Mnemonic};
use machine::Access;

use super::guest::Guest;
use crate::Exit;

const CARRY: u64 = 1;

/// Tests, sets, clears or flips one bit of a bit string; the old bit goes to CF.
///
/// # Source
/// Intel SDM 2A, "BT", and 3.1.1.9 on bit offsets.
pub(super) fn bit_string(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    let bytes = insn.op1_register().size();
    let bits = bytes as u32 * 8;
    let shift = 64 - bits;
    let offset = ((guest.read(insn.op1_register()) << shift) as i64) >> shift;
    let distance = (offset >> bits.trailing_zeros()).wrapping_mul(bytes as i64);
    let addr = offset_address(guest, insn, distance as u64);
    let mask = 1_u64 << (offset as u64 & u64::from(bits - 1));
    let access = if insn.mnemonic() == Mnemonic::Bt { Access::Read } else { Access::Write };
    let pieces = guest.reach(addr, bytes, access)?;
    let mut number = [0; 8];
    guest.get(pieces, &mut number[..bytes]);
    let old = u64::from_le_bytes(number);
    let new = match insn.mnemonic() {
        Mnemonic::Bts => old | mask,
        Mnemonic::Btr => old & !mask,
        Mnemonic::Btc => old ^ mask,
        _ => old,
    };
    if access == Access::Write {
        guest.put(pieces, &new.to_le_bytes()[..bytes]);
    }
    let carry = if old & mask == 0 { 0 } else { CARRY };
    guest.regs.rflags = guest.regs.rflags & !CARRY | carry;
    Ok(())
}

fn offset_address(guest: &Guest<'_>, insn: &Instruction, distance: u64) -> u64 {
    let offset = guest.effective_offset(insn).wrapping_add(distance);
    let is_narrow = insn.memory_base().size() == 4 || insn.memory_index().size() == 4;
    let offset = if is_narrow { offset & 0xffff_ffff } else { offset };
    guest.segment_base(insn.memory_segment()).wrapping_add(offset)
}
