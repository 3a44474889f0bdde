//! Arithmetic flags computed in Rust.

use super::super::run::ARITHMETIC;

pub(super) const CARRY: u64 = 1;
pub(super) const PARITY: u64 = 4;
pub(super) const ADJUST: u64 = 0x10;
pub(super) const ZERO: u64 = 0x40;
pub(super) const SIGN: u64 = 0x80;
pub(super) const OVERFLOW: u64 = 0x800;

/// The flags of `a - b` on operands of `bytes`.
pub(super) fn subtract(a: u64, b: u64, bytes: u32) -> u64 {
    let mask = u64::MAX >> (64 - 8 * bytes);
    let top = 1 << (8 * bytes - 1);
    let result = a.wrapping_sub(b) & mask;
    let mut flags = 0;
    let mut set = |flag: u64, is_set: bool| flags |= if is_set { flag } else { 0 };
    set(CARRY, a & mask < b & mask);
    set(PARITY, (result as u8).count_ones().is_multiple_of(2));
    set(ADJUST, (a ^ b ^ result) & ADJUST != 0);
    set(ZERO, result == 0);
    set(SIGN, result & top != 0);
    set(OVERFLOW, (a ^ b) & (a ^ result) & top != 0);
    flags
}

/// `rflags` with the arithmetic flags replaced.
pub(super) const fn with(rflags: u64, arithmetic: u64) -> u64 {
    rflags & !ARITHMETIC | arithmetic
}

/// `rflags` with one flag set or cleared.
pub(super) const fn with_flag(rflags: u64, flag: u64, is_set: bool) -> u64 {
    if is_set { rflags | flag } else { rflags & !flag }
}
