//! The access clock, and virtual time.
//!
//! While emitted code runs, one register holds the clock: bits 0 to 19 count accesses, bits 20 and
//! up count writes on top of a base. One addition per access thus counts both, and because the
//! value only rises it serves as the LRU stamp too. Draining moves the counts into totals and sets
//! the clock to the next multiple of 2^20.

use crate::counters::Counters;

/// log2 of what a write adds to the clock on top of 1.
pub const CLOCK_SHIFT: u32 = 20;
/// What a read adds to the clock.
pub const CLOCK_READ: u64 = 1;
/// What a write or read-modify-write adds to the clock.
pub const CLOCK_WRITE: u64 = (1 << CLOCK_SHIFT) + 1;
/// Emitted code leaves for [`crate::Machine::drain_clock`] when this bit of the clock is set: it
/// may make at most 2^19 more accesses before.
pub const CLOCK_DRAIN_BIT: u64 = 1 << 19;

/// The first value of the clock: above the stamp of an entry never used.
pub(crate) const CLOCK_START: u64 = 1 << CLOCK_SHIFT;
/// Stamps are ranked anew when the clock passes this: some 10^10 writes. It leaves room for the
/// number of a way beside a stamp.
const CLOCK_END: u64 = 1 << 55;

/// Totals of data accesses up to the last drain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AccessTotals {
    reads: u64,
    writes: u64,
    /// The clock as the last drain set it, without the low bits.
    base: u64,
}

impl AccessTotals {
    pub(crate) const fn new() -> Self {
        Self { reads: 0, writes: 0, base: CLOCK_START >> CLOCK_SHIFT }
    }

    /// Reads and writes so far, given the present clock.
    #[inline]
    pub(crate) const fn at(&self, clock: u64) -> (u64, u64) {
        let accesses = clock & ((1 << CLOCK_SHIFT) - 1);
        let writes = (clock >> CLOCK_SHIFT) - self.base;
        (self.reads + (accesses - writes), self.writes + writes)
    }

    /// Counts accesses that did not go through the clock.
    pub(crate) const fn add(&mut self, reads: u64, writes: u64) {
        self.reads = self.reads.wrapping_add(reads);
        self.writes = self.writes.wrapping_add(writes);
    }

    /// Takes the counts out of the clock and returns its new value, which is larger.
    pub(crate) const fn drain(&mut self, clock: u64) -> u64 {
        (self.reads, self.writes) = self.at(clock);
        self.restart_above(clock)
    }

    /// Sets the clock to the first drained value above `stamp` without counting anything.
    pub(crate) const fn restart_above(&mut self, stamp: u64) -> u64 {
        self.base = (stamp >> CLOCK_SHIFT) + 1;
        self.base << CLOCK_SHIFT
    }
}

/// Whether stamps must be ranked anew before the clock goes on from here.
pub(crate) const fn is_at_end(clock: u64) -> bool {
    clock >= CLOCK_END
}

/// What things cost, in picoseconds of virtual time.
///
/// The machine is a 3 GHz core; a cycle is 333 ps. Faults and system calls are charged by whoever
/// resolves them, see [`crate::Machine::advance_ns`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CostTable {
    /// One data access with the instructions around it.
    ///
    /// # Source
    /// Our choice: one access per 3 instructions, 2.5 instructions per cycle, 1.2 cycles.
    pub access_ps: u64,
    /// A first-level miss that the second level resolves, on top of the access.
    ///
    /// # Source
    /// 7 cycles: Intel 64 and IA-32 Optimization Reference Manual, appendix B, tuning for Sandy
    /// Bridge, "% of cycles = DTLB_LOAD_MISSES.STLB_HIT * 7 / clocks".
    pub second_level_ps: u64,
    /// Starting a page walk.
    ///
    /// # Source
    /// Our choice: 5 cycles.
    pub walk_ps: u64,
    /// One entry that a walk reads.
    ///
    /// # Source
    /// 14 cycles, the latency of the second-level data cache: Intel 64 and IA-32 Optimization
    /// Reference Manual, "Cache Parameters of the Skylake Server Microarchitecture".
    pub walk_read_ps: u64,
}

/// The costs of every machine.
pub const COSTS: CostTable =
    CostTable { access_ps: 400, second_level_ps: 2_333, walk_ps: 1_667, walk_read_ps: 4_667 };

impl CostTable {
    /// Virtual nanoseconds that the counted work took. Never smaller for larger counts.
    pub fn nanoseconds(&self, counters: &Counters) -> u64 {
        let first_misses = counters.l1d.misses + counters.l1i.misses;
        let parts = [
            (counters.reads + counters.writes, self.access_ps),
            (first_misses, self.second_level_ps),
            (counters.walks, self.walk_ps),
            (counters.walk_memory_reads, self.walk_read_ps),
        ];
        let add = |sum: u64, (count, cost): (u64, u64)| sum.checked_add(count.checked_mul(cost)?);
        if let Some(picoseconds) = parts.into_iter().try_fold(0, add) {
            return picoseconds / 1_000;
        }
        let wide = |(count, cost)| u128::from(count) * u128::from(cost);
        let picoseconds = parts.into_iter().map(wide).sum::<u128>();
        u64::try_from(picoseconds / 1_000).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_counts_reads_and_writes_apart() {
        let mut totals = AccessTotals::new();
        let mut clock = CLOCK_START;
        for step in 0..300_000u64 {
            clock += if step % 3 == 0 { CLOCK_WRITE } else { CLOCK_READ };
        }
        assert_eq!(totals.at(clock), (200_000, 100_000));
        let drained = totals.drain(clock);
        assert!(drained > clock && drained.trailing_zeros() >= CLOCK_SHIFT);
        assert_eq!(totals.at(drained), (200_000, 100_000));
        assert_eq!(totals.at(drained + CLOCK_WRITE), (200_000, 100_001));
    }

    #[test]
    fn costs_add_up() {
        let mut counters = Counters { reads: 10, writes: 5, ..Counters::default() };
        assert_eq!(COSTS.nanoseconds(&counters), 6);
        counters.walks = 1;
        counters.walk_memory_reads = 4;
        counters.l1d.misses = 1;
        assert_eq!(COSTS.nanoseconds(&counters), (6_000 + 2_333 + 1_667 + 4 * 4_667) / 1_000);
        counters.reads = u64::MAX / 2;
        assert!(COSTS.nanoseconds(&counters) > 1 << 60);
    }
}
