//! Conditions of branches and conditional moves: the low nibble of their opcodes.

use iced_x86::Instruction;

pub(super) const OVERFLOW: u8 = 0;
pub(super) const BELOW: u8 = 2;
pub(super) const NOT_BELOW: u8 = 3;
pub(super) const EQUAL: u8 = 4;
pub(super) const NOT_EQUAL: u8 = 5;
pub(super) const ABOVE: u8 = 7;
pub(super) const NEGATIVE: u8 = 8;
pub(super) const LESS: u8 = 12;
pub(super) const LESS_EQUAL: u8 = 14;
pub(super) const GREATER: u8 = 15;

/// The condition of a `jcc`.
pub(super) fn condition_of(instruction: &Instruction) -> u8 {
    // iced counts from 1 in the order of the opcodes.
    (instruction.condition_code() as u8).wrapping_sub(1) & 15
}

/// The condition that holds where `condition` does not.
pub(super) const fn opposite(condition: u8) -> u8 {
    condition ^ 1
}
