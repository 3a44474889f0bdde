//! The packed access clock.

/// log2 of what a write adds to the clock on top of 1.
pub const CLOCK_SHIFT: u32 = 20;
/// What a read adds to the clock.
pub const CLOCK_READ: u64 = 1;
/// What a write or read-modify-write adds to the clock.
pub const CLOCK_WRITE: u64 = (1 << CLOCK_SHIFT) + 1;
/// Emitted code leaves for [`crate::Machine::drain_clock`] when this bit of the clock is set.
pub const CLOCK_DRAIN_BIT: u64 = 1 << 19;
