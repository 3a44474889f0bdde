//! The free ranges between VMAs, indexed by size and address.
//!
//! Gaps are kept in one ordered map per power of two of their size, so that the highest (or lowest)
//! gap that is large enough is found without looking at the VMAs: every gap of a higher class fits,
//! only the class of the wanted size itself has to be searched.
//!
//! Invariant: the gaps are exactly the maximal free ranges between VMAs (see `vma_tree.rs`).

use alloc::collections::BTreeMap;

/// Classes: gaps of 2^c to 2^(c+1)-1 bytes.
const CLASS_COUNT: usize = 64;

/// Free ranges by class, then by start.
#[derive(Clone, Debug)]
pub(crate) struct Gaps {
    classes: [BTreeMap<u64, u64>; CLASS_COUNT],
    /// Bit c is set if class c has a gap.
    used: u64,
}

impl Default for Gaps {
    fn default() -> Self {
        Self { classes: core::array::from_fn(|_| BTreeMap::new()), used: 0 }
    }
}

/// The class of a gap of `bytes`, which is not 0.
fn class(bytes: u64) -> usize {
    bytes.ilog2() as usize
}

impl Gaps {
    /// Adds the gap `start..end`; an empty one is nothing.
    pub(crate) fn insert(&mut self, start: u64, end: u64) {
        if start < end {
            let class = class(end - start);
            self.classes[class].insert(start, end);
            self.used |= 1 << class;
        }
    }

    /// Removes the gap `start..end`, which is there, or is empty.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        if start < end {
            let class = class(end - start);
            let old = self.classes[class].remove(&start);
            debug_assert_eq!(old, Some(end), "the index holds every gap");
            if self.classes[class].is_empty() {
                self.used &= !(1 << class);
            }
        }
    }

    /// The highest start, as `fit` gives it, among gaps of at least `bytes`.
    ///
    /// `fit` gets a gap and answers where in it the range would go, if it can.
    pub(crate) fn highest(&self, bytes: u64, fit: impl Fn(u64, u64) -> Option<u64>) -> Option<u64> {
        self.best(
            bytes,
            |gaps| gaps.iter().rev().find_map(|(&start, &end)| fit(start, end)),
            u64::max,
        )
    }

    /// The lowest start, as `fit` gives it, among gaps of at least `bytes`.
    pub(crate) fn lowest(&self, bytes: u64, fit: impl Fn(u64, u64) -> Option<u64>) -> Option<u64> {
        self.best(bytes, |gaps| gaps.iter().find_map(|(&start, &end)| fit(start, end)), u64::min)
    }

    fn best(
        &self,
        bytes: u64,
        search: impl Fn(&BTreeMap<u64, u64>) -> Option<u64>,
        better: impl Fn(u64, u64) -> u64,
    ) -> Option<u64> {
        let first = class(bytes.max(1));
        (first..CLASS_COUNT)
            .filter(|class| self.used & 1 << class != 0)
            .filter_map(|class| search(&self.classes[class]))
            .reduce(better)
    }
}
