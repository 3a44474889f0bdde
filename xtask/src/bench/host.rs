//! How much of a core a run has: on a shared machine another guest may run on the core's second
//! thread and take half of its width. Code with many instructions then takes up to twice as long,
//! code that waits for memory does not, so that ratios move. Each run is pinned to the processor
//! with the most width, which is measured before and behind it; the clock does not matter.

#![expect(clippy::disallowed_types, reason = "it measures the host")]

use std::hint::black_box;
use std::time::Instant;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// The share of the greatest width seen that a core has while nobody takes part of it.
const QUIET_SHARE: f64 = 0.8;
/// Looks at one core, of which the median counts.
const LOOKS: usize = 9;
/// Rounds of the loops of one look: 30 to 60 microseconds.
const LOOP_ROUNDS: u32 = 10_000;

/// Pins this process, and so its children, to the processor with the most width; returns that.
///
/// # Errors
/// The host does not let us choose a processor.
pub(super) fn pin() -> Result<f64, String> {
    let failed = |error| format!("choosing a processor: {error}");
    let own = Pid::from_raw(0);
    let allowed = sched_getaffinity(own).map_err(failed)?;
    let mut best = (0.0, allowed);
    for number in (0..CpuSet::count()).filter(|number| allowed.is_set(*number).unwrap_or(false)) {
        let mut one = CpuSet::new();
        one.set(number).map_err(failed)?;
        sched_setaffinity(own, &one).map_err(failed)?;
        let width = width();
        if width > best.0 {
            best = (width, one);
        }
    }
    sched_setaffinity(own, &best.1).map_err(failed)?;
    Ok(best.0)
}

/// How many independent instructions this core runs in a cycle now.
pub(super) fn width() -> f64 {
    let mut looks = [0.0; LOOKS].map(|_: f64| look());
    looks.sort_by(f64::total_cmp);
    looks[LOOKS / 2]
}

/// The time of a cycle by that of a chain of multiplications, over the time of an instruction.
fn look() -> f64 {
    /// A multiplication that waits for the one before, and the `or` for its odd factor.
    const CHAIN_CYCLES: f64 = 4.0;
    /// Shifts, exclusive ors, and copies.
    const WIDE_INSTRUCTIONS: f64 = 15.0;
    let seconds = |run: fn() -> u64| {
        let start = Instant::now();
        black_box(run());
        start.elapsed().as_secs_f64()
    };
    let chain = || (0..LOOP_ROUNDS).fold(black_box(3_u64), |x, _| x.wrapping_mul(x | 1));
    let cycle = seconds(chain) / CHAIN_CYCLES;
    let instruction = seconds(|| {
        let [mut a, mut b, mut c, mut d, mut e] = black_box([1_u64, 2, 3, 4, 5]);
        for _ in 0..LOOP_ROUNDS {
            a ^= a >> 7;
            b ^= b >> 9;
            c ^= c >> 11;
            d ^= d << 13;
            e ^= e << 5;
        }
        a ^ b ^ c ^ d ^ e
    }) / WIDE_INSTRUCTIONS;
    cycle / instruction.max(f64::MIN_POSITIVE)
}

/// What widths were seen.
#[derive(Debug)]
pub(super) struct Host {
    least: f64,
    greatest: f64,
}

impl Host {
    pub(super) const fn new() -> Self {
        Self { least: f64::INFINITY, greatest: 0.0 }
    }

    /// Notes what a run had, and says whether that was all of a core, as far as is known.
    pub(super) fn is_quiet(&mut self, width: f64) -> bool {
        self.least = self.least.min(width);
        self.greatest = self.greatest.max(width);
        width >= QUIET_SHARE * self.greatest
    }

    /// A line about the host, if the width of any run is known.
    pub(super) fn line(&self) -> Option<String> {
        let Self { least, greatest } = *self;
        (greatest > 0.0).then(|| {
            format!("host: a core had room for {least:.1} to {greatest:.1} instructions a cycle")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_half_of_a_core_is_not_quiet() {
        let mut host = Host::new();
        assert_eq!(host.line(), None);
        assert!(host.is_quiet(6.0), "the first is the greatest");
        assert!(host.is_quiet(9.6));
        assert!(!host.is_quiet(6.0));
        assert!(host.is_quiet(9.0));
        let line = host.line().expect("there were runs");
        assert!(line.contains("6.0 to 9.6"), "{line}");
    }
}
