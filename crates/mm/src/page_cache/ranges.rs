//! A set of numbers kept as ranges: which pages of an object are on the device only.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

/// Numbers in disjoint ranges that do not touch: first to last.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Every number.
    pub(crate) fn all() -> Self {
        Self { ranges: BTreeMap::from([(0, u64::MAX)]) }
    }

    /// Whether the set has no number.
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Whether the number is in the set.
    pub(crate) fn contains(&self, number: u64) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, &last)| number <= last)
    }

    /// Adds all numbers of `range`.
    pub(crate) fn insert(&mut self, range: RangeInclusive<u64>) {
        let (mut first, mut last) = range.into_inner();
        if first > last {
            return;
        }
        let touching: Vec<(u64, u64)> = self
            .ranges
            .range(..=last.saturating_add(1))
            .rev()
            .take_while(|(_, end)| end.saturating_add(1) >= first)
            .map(|(&start, &end)| (start, end))
            .collect();
        for (start, end) in touching {
            self.ranges.remove(&start);
            (first, last) = (first.min(start), last.max(end));
        }
        self.ranges.insert(first, last);
    }

    /// Takes all numbers of `range` out.
    pub(crate) fn remove(&mut self, range: RangeInclusive<u64>) {
        let (first, last) = range.into_inner();
        if first > last || self.ranges.is_empty() {
            return;
        }
        let cut: Vec<(u64, u64)> = self
            .ranges
            .range(..=last)
            .rev()
            .take_while(|&(_, &end)| end >= first)
            .map(|(&start, &end)| (start, end))
            .collect();
        for (start, end) in cut {
            self.ranges.remove(&start);
            if start < first {
                self.ranges.insert(start, first - 1);
            }
            if end > last {
                self.ranges.insert(last + 1, end);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Ranges;
    use alloc::vec::Vec;

    #[test]
    fn a_set_of_ranges_is_a_set() {
        let mut ranges = Ranges::default();
        let mut model = [false; 64];
        let mut seed = 12345u64;
        let mut next = || {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            seed >> 33
        };
        for _ in 0..10_000 {
            let first = next() % 64;
            let last = (first + next() % 9).min(63);
            let is_added = next() & 1 == 0;
            if is_added {
                ranges.insert(first..=last)
            } else {
                ranges.remove(first..=last)
            }
            (first..=last).for_each(|i| model[i as usize] = is_added);
            let held: Vec<bool> = (0..64).map(|number| ranges.contains(number)).collect();
            assert_eq!(held, model);
            let apart = |(a, b): (&(u64, u64), &(u64, u64))| a.1 + 1 < b.0;
            let all: Vec<(u64, u64)> = ranges.ranges.iter().map(|(&a, &b)| (a, b)).collect();
            assert!(all.iter().zip(all.iter().skip(1)).all(apart), "{all:?}");
        }
        let mut all = Ranges::all();
        all.remove(0..=u64::MAX);
        assert!(!all.contains(0) && !all.contains(u64::MAX));
        all.insert(0..=u64::MAX);
        all.insert(5..=5);
        assert!(all.contains(u64::MAX) && all.ranges.len() == 1);
    }
}
