//! The load average: how many tasks wanted to run, over one, five and fifteen minutes.
//!
//! # Source
//! Linux 6.12 `kernel/sched/loadavg.c`, `include/linux/sched/loadavg.h`.

/// Virtual nanoseconds between two samples: `LOAD_FREQ`, five seconds and one tick of 250 Hz.
const PERIOD_NS: u64 = 5_004_000_000;
/// Bits behind the point of an average.
const FRACTION_BITS: u32 = 11;
/// One, as a fixed-point number.
const ONE: u64 = 1 << FRACTION_BITS;
/// What is kept of an average in one period: `EXP_1`, `EXP_5`, `EXP_15`.
const KEPT: [u64; 3] = [1884, 2014, 2037];
/// Periods after which nothing is left of the longest average.
const PERIODS_MAX: u64 = 4096;

/// The three averages.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct LoadAverage {
    next_ns: u64,
    averages: [u64; 3],
}

impl LoadAverage {
    /// Takes the samples that are due at virtual time `now_ns`; in all of them `count` tasks wanted
    /// to run.
    pub(crate) fn advance(&mut self, now_ns: u64, count: u64) {
        if now_ns < self.next_ns {
            return;
        }
        if self.next_ns == 0 {
            self.next_ns = PERIOD_NS;
            return self.advance(now_ns, count);
        }
        let periods = (now_ns - self.next_ns) / PERIOD_NS + 1;
        for _ in 0..periods.min(PERIODS_MAX) {
            self.sample(count);
        }
        self.next_ns = self.next_ns.saturating_add(periods.saturating_mul(PERIOD_NS));
    }

    fn sample(&mut self, count: u64) {
        let active = count.min(1 << 32) * ONE;
        for (average, kept) in self.averages.iter_mut().zip(KEPT) {
            let sum = *average * kept + active * (ONE - kept);
            let round_up = if active >= *average { ONE - 1 } else { 0 };
            *average = (sum + round_up) / ONE;
        }
    }

    /// The averages in hundredths, as `/proc/loadavg` shows them.
    pub(crate) fn hundredths(&self) -> [u64; 3] {
        self.averages.map(|average| {
            let rounded = average + ONE / 200;
            (rounded >> FRACTION_BITS) * 100 + (((rounded & (ONE - 1)) * 100) >> FRACTION_BITS)
        })
    }

    /// The averages as `sysinfo` shows them: 16 bits behind the point.
    pub(crate) fn of_sysinfo(&self) -> [u64; 3] {
        self.averages.map(|average| average << (16 - FRACTION_BITS))
    }
}

#[cfg(test)]
mod tests {
    use super::{LoadAverage, PERIOD_NS};

    #[test]
    fn one_busy_task_brings_the_load_to_one_and_rest_brings_it_down() {
        let mut load = LoadAverage::default();
        load.advance(PERIOD_NS - 1, 1);
        assert_eq!(load.hundredths(), [0, 0, 0]);
        load.advance(12 * PERIOD_NS, 1);
        assert_eq!(load.hundredths(), [63, 18, 6]);
        load.advance(4000 * PERIOD_NS, 1);
        assert_eq!(load.hundredths(), [100, 100, 100]);
        assert_eq!(load.of_sysinfo(), [65536; 3]);
        load.advance(4012 * PERIOD_NS, 0);
        assert_eq!(load.hundredths()[0], 37);
        load.advance(u64::MAX / 2, 0);
        assert_eq!(load.hundredths(), [0, 0, 0]);
    }
}
