//! Memory over time: a sample at the end of each interval of virtual time.
//!
//! Without a fixed interval there are at most [`COUNT_MAX`] samples: when they are full, each two
//! become one, and the interval doubles. The counts of pages that were used exist only with a fixed
//! interval, because they cost flushes of the TLBs: they change the counts of the run.
//!
//! Does not: look at anything between the ends; a sample is taken when the kernel next runs.

use mm::{Memory, VmEvents};

use crate::Kernel;

/// Samples that are kept; with a fixed interval [`FIXED_MAX`].
pub const COUNT_MAX: usize = 64;
/// Samples of a fixed interval; time after them is not sampled.
pub const FIXED_MAX: usize = 65_536;
/// The first interval, virtual nanoseconds.
const FIRST_NS: u64 = 10_000;

/// The memory of the machine at the end of an interval, and what happened in it.
///
/// # Units
/// Pages, but for the time.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Sample {
    /// Its end, virtual nanoseconds since boot.
    pub until_ns: u64,
    /// Private pages in RAM.
    pub anon: u64,
    /// Pages of files in RAM.
    pub file: u64,
    /// Pages of shared memory in RAM.
    pub shmem: u64,
    /// Pages in swap.
    pub swap: u64,
    /// Pages brought back from swap.
    pub swapped_in: u64,
    /// Pages written to swap.
    pub swapped_out: u64,
    /// Faults.
    pub faults: u64,
    /// Faults that waited for a device.
    pub major_faults: u64,
    /// Pages that programs used, if they are counted; a page of two address spaces counts twice.
    pub used: Option<u64>,
}

impl Sample {
    /// What is at the end of both, and what happened in both.
    fn followed_by(&self, next: &Self) -> Self {
        Self {
            swapped_in: self.swapped_in + next.swapped_in,
            swapped_out: self.swapped_out + next.swapped_out,
            faults: self.faults + next.faults,
            major_faults: self.major_faults + next.major_faults,
            ..*next
        }
    }
}

/// The samples of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Series {
    /// Virtual nanoseconds from one sample to the next; longer where the program slept.
    pub interval_ns: u64,
    /// Whether the interval was asked for, and used pages are counted.
    pub is_fixed: bool,
    /// In order.
    pub samples: Vec<Sample>,
    next_ns: u64,
    /// The counts at the end of the last sample.
    before: VmEvents,
}

impl Series {
    /// No samples; `interval_ns` for used pages in intervals of this length.
    pub(crate) fn new(interval_ns: Option<u64>) -> Self {
        let interval = interval_ns.unwrap_or(FIRST_NS).max(1);
        Self {
            interval_ns: interval,
            is_fixed: interval_ns.is_some(),
            samples: Vec::new(),
            next_ns: interval,
            before: VmEvents::default(),
        }
    }

    /// Adds a sample that ends now.
    fn push(&mut self, memory: &Memory, now_ns: u64, used: Option<u64>) {
        let (usage, events) = (memory.usage(), *memory.events());
        let before = std::mem::replace(&mut self.before, events);
        self.samples.push(Sample {
            until_ns: now_ns,
            anon: usage.anon,
            file: usage.file,
            shmem: usage.shmem,
            swap: memory.swap_usage().used,
            swapped_in: events.swap_ins - before.swap_ins,
            swapped_out: events.swap_outs - before.swap_outs,
            faults: events.faults - before.faults,
            major_faults: events.major_faults - before.major_faults,
            used,
        });
        if !self.is_fixed && self.samples.len() > COUNT_MAX {
            self.halve();
        }
        let intervals = now_ns / self.interval_ns + 1;
        self.next_ns = intervals.saturating_mul(self.interval_ns);
        if self.is_fixed && self.samples.len() >= FIXED_MAX {
            self.next_ns = u64::MAX;
        }
    }

    /// Doubles the interval until there are half as many samples or fewer.
    fn halve(&mut self) {
        while self.samples.len() > COUNT_MAX / 2 {
            self.interval_ns = self.interval_ns.saturating_mul(2);
            let mut kept: Vec<Sample> = Vec::with_capacity(COUNT_MAX);
            for sample in &self.samples {
                // Those that end in the same interval become one.
                let number = |sample: &Sample| sample.until_ns.saturating_sub(1) / self.interval_ns;
                match kept.last_mut().filter(|last| number(last) == number(sample)) {
                    Some(last) => *last = last.followed_by(sample),
                    None => kept.push(*sample),
                }
            }
            self.samples = kept;
        }
    }
}

impl Kernel {
    /// Takes a sample if an interval is over at `now_ns`.
    pub(crate) fn sample_if_due(&mut self, now_ns: u64) {
        if now_ns >= self.series.next_ns {
            self.sample();
        }
    }

    /// Takes a sample.
    pub(crate) fn sample(&mut self) {
        let used = self.series.is_fixed.then(|| self.take_used());
        self.series.push(&self.memory, self.hw.now_ns(), used);
    }

    /// How many pages all programs used since this was last asked.
    fn take_used(&mut self) -> u64 {
        let mut count = self.mm.take_accessed(&mut self.memory, &mut self.hw);
        for mm in self.tasks.mms.parts_mut() {
            count += mm.take_accessed(&mut self.memory, &mut self.hw);
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::{COUNT_MAX, Sample, Series};

    #[test]
    fn samples_never_become_many_and_nothing_that_happened_is_lost() {
        let mut series = Series::new(None);
        let mut time = 0;
        for step in 0..1_000_u64 {
            time += series.interval_ns / 2 + step % 7;
            let sample = Sample { until_ns: time, faults: 1, anon: step, ..Sample::default() };
            series.samples.push(sample);
            if series.samples.len() > COUNT_MAX {
                series.halve();
                assert!(series.samples.len() <= COUNT_MAX / 2);
            }
        }
        assert_eq!(series.samples.iter().map(|sample| sample.faults).sum::<u64>(), 1_000);
        assert!(series.samples.is_sorted_by_key(|sample| sample.until_ns));
        assert_eq!(series.samples.last().map(|last| last.anon), Some(999));
    }
}
