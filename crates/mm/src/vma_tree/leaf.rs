//! The lowest blocks of the VMA tree: up to 32 VMAs with their starts and ends side by side.

use alloc::vec::Vec;
use core::mem;

use crate::vma::Vma;

/// The most VMAs in one leaf.
pub(super) const LEAF_MAX: usize = 32;

/// The start where there is no VMA: above every address that is looked for.
pub(super) const NO_START: u64 = u64::MAX;

/// How many of `keys`, which ascend, are at or below `key`. The number of steps depends on `N`
/// only, which is a power of two, and no step is a branch.
#[inline]
pub(super) fn count_up_to<const N: usize>(keys: &[u64; N], key: u64) -> usize {
    let (mut at, mut half) = (0, N / 2);
    while half > 0 {
        at += if keys[(at + half - 1) & (N - 1)] <= key { half } else { 0 };
        half /= 2;
    }
    at + usize::from(keys[at & (N - 1)] <= key)
}

/// Neighbouring VMAs in order.
///
/// Invariants
/// 1. The first `count` places are taken, the others have [`NO_START`].
/// 2. `floor` is the end of the VMA before the first one, 0 if there is none.
/// 3. `gap_max` is the largest gap below one of the VMAs.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    vmas: Vec<Vma>,
    pub(super) floor: u64,
    pub(super) gap_max: u64,
    starts: [u64; LEAF_MAX],
    ends: [u64; LEAF_MAX],
}

impl Leaf {
    /// An empty leaf behind a VMA that ends at `floor`.
    pub(super) fn new(floor: u64) -> Self {
        Self {
            vmas: Vec::with_capacity(LEAF_MAX),
            floor,
            gap_max: 0,
            starts: [NO_START; LEAF_MAX],
            ends: [0; LEAF_MAX],
        }
    }

    /// How many VMAs there are.
    pub(super) const fn count(&self) -> usize {
        self.vmas.len()
    }

    /// Start of the first VMA.
    pub(super) const fn first_start(&self) -> u64 {
        self.starts[0]
    }

    /// End of the last VMA, or of the one before if there is none.
    pub(super) const fn last_end(&self) -> u64 {
        self.end_before(self.vmas.len())
    }

    /// Start of the VMA at `at`.
    pub(super) const fn start(&self, at: usize) -> u64 {
        self.starts[at]
    }

    /// End of the VMA before the one at `at`.
    pub(super) const fn end_before(&self, at: usize) -> u64 {
        if at == 0 { self.floor } else { self.ends[at - 1] }
    }

    /// The last VMA that starts at or below `addr`, if that is the one at `at` or next to it.
    #[inline]
    pub(super) fn last_up_to_near(&self, at: usize, addr: u64) -> Option<usize> {
        let start = |at| self.starts.get(at).copied().unwrap_or(NO_START);
        [at, at.wrapping_sub(1), at + 1]
            .into_iter()
            .find(|&at| start(at) <= addr && addr < start(at + 1))
    }

    /// How many VMAs start at or below `addr`.
    #[inline]
    pub(super) fn count_up_to(&self, addr: u64) -> usize {
        count_up_to(&self.starts, addr).min(self.vmas.len())
    }

    /// The VMA at `at`.
    #[inline]
    pub(super) fn get(&self, at: usize) -> Option<&Vma> {
        self.vmas.get(at)
    }

    /// The VMA at `at`, to change anything but its range.
    #[inline]
    pub(super) fn get_mut(&mut self, at: usize) -> Option<&mut Vma> {
        self.vmas.get_mut(at)
    }

    /// All VMAs.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Vma> {
        self.vmas.iter_mut()
    }

    /// Takes all VMAs out.
    pub(super) fn into_vmas(self) -> impl Iterator<Item = Vma> {
        self.vmas.into_iter()
    }

    /// Puts `vma` before the one at `at`; there must be room. `gap_max` is left alone.
    pub(super) fn insert(&mut self, at: usize, vma: Vma) {
        let count = self.vmas.len();
        debug_assert!(count < LEAF_MAX && at <= count, "there is room");
        self.starts.copy_within(at..count, at + 1);
        self.ends.copy_within(at..count, at + 1);
        self.starts[at] = vma.range.start.as_u64();
        self.ends[at] = vma.range.end.as_u64();
        self.vmas.insert(at, vma);
    }

    /// Takes the VMA at `at` out. `gap_max` is left alone.
    pub(super) fn remove(&mut self, at: usize) -> Option<Vma> {
        let count = self.vmas.len();
        if at >= count {
            return None;
        }
        self.starts.copy_within(at + 1..count, at);
        self.ends.copy_within(at + 1..count, at);
        self.starts[count - 1] = NO_START;
        Some(self.vmas.remove(at))
    }

    /// Takes the range of the VMA at `at` over after it changed.
    pub(super) fn follow_range(&mut self, at: usize) {
        if let Some(vma) = self.vmas.get(at) {
            self.starts[at] = vma.range.start.as_u64();
            self.ends[at] = vma.range.end.as_u64();
        }
    }

    /// Moves the VMAs from `at` on to a leaf of their own.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut upper = Self::new(self.end_before(at));
        for vma in self.vmas.drain(at..) {
            upper.insert(upper.vmas.len(), vma);
        }
        self.starts[at..].fill(NO_START);
        self.measure();
        upper.measure();
        upper
    }

    /// Takes all VMAs of the next leaf in; there must be room.
    pub(super) fn append(&mut self, next: Self) {
        for vma in next.into_vmas() {
            self.insert(self.vmas.len(), vma);
        }
        self.measure();
    }

    /// The gap below the VMA at `at`; none while a change is under way that makes the two overlap.
    pub(super) const fn gap(&self, at: usize) -> u64 {
        self.starts[at].saturating_sub(self.end_before(at))
    }

    /// Finds the largest gap anew.
    pub(super) fn measure(&mut self) {
        self.gap_max = (0..self.vmas.len()).map(|at| self.gap(at)).max().unwrap_or(0);
    }

    /// Takes note that the gap `gone` is no more and `new` is one. Returns the largest one before.
    pub(super) fn account(&mut self, gone: u64, new: u64) -> u64 {
        let before = self.gap_max;
        if gone < before || new >= gone {
            self.gap_max = before.max(new);
        } else {
            self.measure();
        }
        before
    }

    /// Puts `vma` in the place of the one at `at`, which has the same range.
    pub(super) fn replace(&mut self, at: usize, vma: Vma) {
        let old = mem::replace(&mut self.vmas[at], vma);
        debug_assert!(old.range == self.vmas[at].range, "the range is the same");
    }
}
