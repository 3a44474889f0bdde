//! The VMAs of one address space, ordered by address, with an index of the gaps between them.
//!
//! Invariants
//! 1. VMAs are page aligned, not empty, and never overlap.
//! 2. `gaps` holds every maximal free range of 64-bit address space below the last VMA's end and the
//!    one above it. A VMA that grows down counts as starting [`GUARD_BYTES`] lower (AS-5).

use alloc::collections::BTreeMap;

use machine::{PAGE_SHIFT, VirtAddr, VirtRange};

use crate::fault::stack::GUARD_PAGES;
use crate::gaps::Gaps;
use crate::rights::VmaFlags;
use crate::vma::Vma;

/// How far below a VMA that grows down nothing is placed.
const GUARD_BYTES: u64 = GUARD_PAGES << PAGE_SHIFT;

/// The VMAs of one address space, ordered by address, never overlapping.
#[derive(Clone, Debug)]
pub(crate) struct VmaTree {
    by_start: BTreeMap<VirtAddr, Vma>,
    gaps: Gaps,
}

impl Default for VmaTree {
    fn default() -> Self {
        let mut gaps = Gaps::default();
        gaps.insert(0, u64::MAX);
        Self { by_start: BTreeMap::new(), gaps }
    }
}

impl VmaTree {
    /// How many VMAs there are.
    pub(crate) fn len(&self) -> usize {
        self.by_start.len()
    }

    /// The VMA that covers `addr`.
    pub(crate) fn find(&self, addr: VirtAddr) -> Option<&Vma> {
        let (_, vma) = self.by_start.range(..=addr).next_back()?;
        vma.range.contains(addr).then_some(vma)
    }

    /// The VMA that covers `addr`, to change anything but its range and whether it grows down.
    pub(crate) fn find_mut(&mut self, addr: VirtAddr) -> Option<&mut Vma> {
        let (_, vma) = self.by_start.range_mut(..=addr).next_back()?;
        vma.range.contains(addr).then_some(vma)
    }

    /// The first VMA that ends above `addr` (covers it or lies above).
    pub(crate) fn first_ending_above(&self, addr: VirtAddr) -> Option<&Vma> {
        self.find(addr).or_else(|| self.by_start.range(addr..).next().map(|(_, vma)| vma))
    }

    /// The last VMA that starts below `addr`.
    pub(crate) fn last_starting_below(&self, addr: VirtAddr) -> Option<&Vma> {
        self.by_start.range(..addr).next_back().map(|(_, vma)| vma)
    }

    /// All VMAs in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.by_start.values()
    }

    /// Changes each VMA in anything but its range and whether it grows down.
    pub(crate) fn for_each_mut(&mut self, change: impl FnMut(&mut Vma)) {
        self.by_start.values_mut().for_each(change);
    }

    /// The VMAs that overlap `range`, in order.
    pub(crate) fn overlapping(&self, range: VirtRange) -> impl Iterator<Item = &Vma> {
        let first = self.first_ending_above(range.start).map_or(range.end, |vma| vma.range.start);
        self.by_start.range(first..range.end.max(first)).map(|(_, vma)| vma)
    }

    /// Adds a VMA; its range must be free.
    pub(crate) fn insert(&mut self, vma: Vma) {
        debug_assert!(self.overlapping(vma.range).next().is_none(), "the range is free");
        let (low, high) = self.free_around(vma.range);
        self.gaps.remove(low, high);
        self.gaps.insert(low, floor(&vma));
        self.gaps.insert(vma.range.end.as_u64(), high);
        self.by_start.insert(vma.range.start, vma);
    }

    /// Takes out the VMA that starts at `start`.
    pub(crate) fn remove(&mut self, start: VirtAddr) -> Option<Vma> {
        let vma = self.by_start.remove(&start)?;
        let (low, high) = self.free_around(vma.range);
        self.gaps.remove(low, floor(&vma));
        self.gaps.remove(vma.range.end.as_u64(), high);
        self.gaps.insert(low, high);
        Some(vma)
    }

    /// Moves the end of the VMA that starts at `start`; what is added must be free.
    pub(crate) fn set_end(&mut self, start: VirtAddr, end: VirtAddr) {
        let Some(vma) = self.by_start.get_mut(&start) else { return };
        let old = core::mem::replace(&mut vma.range.end, end);
        let high =
            self.by_start.range(old.max(end)..).next().map_or(u64::MAX, |(_, next)| floor(next));
        self.gaps.remove(old.as_u64(), high);
        self.gaps.insert(end.as_u64(), high);
    }

    /// All VMAs, taken out in order.
    pub(crate) fn into_vmas(self) -> impl Iterator<Item = Vma> {
        self.by_start.into_values()
    }

    /// The index of the gaps.
    pub(crate) const fn gaps(&self) -> &Gaps {
        &self.gaps
    }

    /// Whether `range`, taken as a new mapping, keeps clear of all VMAs and guard gaps (AS-5).
    pub(crate) fn is_clear(&self, range: VirtRange) -> bool {
        let (low, high) = self.free_around(VirtRange::new(range.start, range.start));
        let is_inside = self.find(range.start).is_none();
        is_inside && low <= range.start.as_u64() && range.end.as_u64() <= high
    }

    /// The free range around `range`, if nothing were there: from the end of the VMA below to the
    /// floor of the one above.
    fn free_around(&self, range: VirtRange) -> (u64, u64) {
        let below = self.by_start.range(..range.start).next_back();
        let above = self.by_start.range(range.end..).next();
        let low = below.map_or(0, |(_, vma)| vma.range.end.as_u64());
        let high = above.map_or(u64::MAX, |(_, vma)| floor(vma));
        (low, high)
    }
}

/// Where free space below a VMA ends.
fn floor(vma: &Vma) -> u64 {
    let start = vma.range.start.as_u64();
    if vma.flags.contains(VmaFlags::GROWS_DOWN) { start.saturating_sub(GUARD_BYTES) } else { start }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::backing::Backing;
    use crate::rights::{Rights, Sharing};

    fn vma(start: u64, end: u64, flags: VmaFlags) -> Vma {
        Vma {
            range: VirtRange::new(VirtAddr::new(start), VirtAddr::new(end)),
            rights: Rights::READ,
            may: Rights::all(),
            sharing: Sharing::Private,
            flags,
            backing: Backing::Anon,
            page_offset: start >> PAGE_SHIFT,
            anon: None,
            fault_count: 0,
        }
    }

    #[test]
    fn find_sees_the_first_byte_and_not_the_end() {
        let mut tree = VmaTree::default();
        tree.insert(vma(0x1000, 0x3000, VmaFlags::empty()));
        assert!(tree.find(VirtAddr::new(0xfff)).is_none());
        assert!(tree.find(VirtAddr::new(0x1000)).is_some());
        assert!(tree.find(VirtAddr::new(0x3000)).is_none());
        assert_eq!(
            tree.first_ending_above(VirtAddr::new(0)).map(|v| v.range.start.as_u64()),
            Some(0x1000)
        );
    }

    #[test]
    fn as_5_the_guard_gap_counts_as_used() {
        let mut tree = VmaTree::default();
        tree.insert(vma(0x1000_0000, 0x1001_0000, VmaFlags::GROWS_DOWN));
        let below = |pages: u64| {
            let end = 0x1000_0000 - (pages - 1) * 4096;
            VirtRange::new(VirtAddr::new(end - 4096), VirtAddr::new(end))
        };
        assert!(!tree.is_clear(below(256)));
        assert!(tree.is_clear(below(257)));
    }

    #[test]
    fn gaps_follow_random_changes() {
        let mut tree = VmaTree::default();
        let mut state = 1_u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let start = VirtAddr::new((state >> 20) % 64 * 0x1000);
            if tree.find(start).is_some() {
                tree.remove(start);
            } else {
                tree.insert(vma(start.as_u64(), start.as_u64() + 0x1000, VmaFlags::empty()));
            }
            let ends: Vec<u64> = tree.iter().map(|vma| vma.range.end.as_u64()).collect();
            let starts: Vec<u64> = tree.iter().map(|vma| vma.range.start.as_u64()).collect();
            let fits =
                |low: u64, high: u64| (high - low >= 0x2000 && high <= 0x40000).then_some(low);
            let expected = ends
                .iter()
                .zip(starts.iter().skip(1))
                .map(|(&low, &high)| (low, high))
                .chain(starts.first().map(|&high| (0, high)))
                .filter(|&(low, high)| high > low)
                .filter_map(|(low, high)| fits(low, high))
                .max();
            assert_eq!(tree.gaps().highest(0x2000, fits), expected);
        }
    }
}
