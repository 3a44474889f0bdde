//! The VMAs of one address space, ordered by address, with an index of the gaps between them.
//!
//! Invariants
//! 1. VMAs are page aligned, not empty, and never overlap.
//! 2. `gaps` holds every maximal free range of 64-bit address space.

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

    /// The VMAs that overlap `range`, in order; none if it is empty.
    pub(crate) fn overlapping(&self, range: VirtRange) -> impl Iterator<Item = &Vma> {
        let first = self.find(range.start).map_or(range.start, |vma| vma.range.start);
        let end = if range.is_empty() { first } else { range.end };
        self.by_start.range(first..end).map(|(_, vma)| vma)
    }

    /// Adds a VMA; its range must be free.
    pub(crate) fn insert(&mut self, vma: Vma) {
        debug_assert!(self.overlapping(vma.range).next().is_none(), "the range is free");
        let (low, high) = self.free_around(vma.range);
        self.gaps.remove(low, high);
        self.gaps.insert(low, vma.range.start.as_u64());
        self.gaps.insert(vma.range.end.as_u64(), high);
        self.by_start.insert(vma.range.start, vma);
    }

    /// Takes out the VMA that starts at `start`.
    pub(crate) fn remove(&mut self, start: VirtAddr) -> Option<Vma> {
        let vma = self.by_start.remove(&start)?;
        let (low, high) = self.free_around(vma.range);
        self.gaps.remove(low, vma.range.start.as_u64());
        self.gaps.remove(vma.range.end.as_u64(), high);
        self.gaps.insert(low, high);
        Some(vma)
    }

    /// Takes out the first VMA that overlaps `range`.
    pub(crate) fn remove_first(&mut self, range: VirtRange) -> Option<Vma> {
        let start = self.overlapping(range).next()?.range.start;
        self.remove(start)
    }

    /// Moves the end of the VMA that starts at `start`; what is added must be free.
    pub(crate) fn set_end(&mut self, start: VirtAddr, end: VirtAddr) {
        let Some(vma) = self.by_start.get_mut(&start) else { return };
        let old = core::mem::replace(&mut vma.range.end, end);
        let high = self
            .by_start
            .range(old.max(end)..)
            .next()
            .map_or(u64::MAX, |(_, next)| next.range.start.as_u64());
        self.gaps.remove(old.as_u64(), high);
        self.gaps.insert(end.as_u64(), high);
    }

    /// Puts `vma` in the place of the one with the same range.
    pub(crate) fn replace(&mut self, vma: Vma) {
        if let Some(old) = self.by_start.get_mut(&vma.range.start) {
            debug_assert!(old.range == vma.range, "the range is the same");
            *old = vma;
        }
    }

    /// Makes `addr`, inside a VMA, a boundary between two.
    pub(crate) fn split_at(&mut self, addr: VirtAddr) {
        let Some((_, lower)) = self.by_start.range_mut(..addr).next_back() else { return };
        let upper = lower.cut_off(addr);
        self.by_start.insert(addr, upper);
    }

    /// Makes the two VMAs that meet at `addr` one.
    pub(crate) fn join_at(&mut self, addr: VirtAddr) {
        let Some(upper) = self.by_start.remove(&addr) else { return };
        let Some((_, lower)) = self.by_start.range_mut(..addr).next_back() else { return };
        debug_assert!(lower.range.end == addr, "the two meet there");
        lower.range.end = upper.range.end;
        lower.anon = lower.anon.or(upper.anon);
        lower.fault_count += upper.fault_count;
    }

    /// Moves the boundary of the two VMAs that meet at `from`, both of which stay. Whichever grows
    /// takes the family of private pages of the other, if it has none.
    pub(crate) fn move_boundary(&mut self, from: VirtAddr, to: VirtAddr) {
        let Some(mut upper) = self.by_start.remove(&from) else { return };
        let Some((_, lower)) = self.by_start.range_mut(..from).next_back() else { return };
        debug_assert!(lower.range.end == from, "the two meet there");
        let grown =
            if to > from { (&mut lower.anon, upper.anon) } else { (&mut upper.anon, lower.anon) };
        *grown.0 = grown.0.or(grown.1);
        lower.range.end = to;
        upper.move_start(to);
        self.by_start.insert(to, upper);
    }

    /// All VMAs, taken out in order.
    pub(crate) fn into_vmas(self) -> impl Iterator<Item = Vma> {
        self.by_start.into_values()
    }

    /// Whether `range`, taken as a new mapping, keeps clear of all VMAs and of the guard gap of the
    /// next one (AS-5).
    pub(crate) fn is_clear(&self, range: VirtRange) -> bool {
        self.first_ending_above(range.start).is_none_or(|vma| range.end <= floor(vma))
    }

    /// The highest start below `high`, not below `low`, where a mapping of `bytes` keeps clear of
    /// all VMAs and guard gaps.
    ///
    /// # Source
    /// Linux 6.12 `mm/mmap.c:unmapped_area_topdown`: if a guard gap is in the way, the search goes
    /// on below it, even if there are VMAs inside the guard gap with room between them.
    pub(crate) fn highest_clear(&self, bytes: u64, low: u64, high: u64) -> Option<VirtAddr> {
        let mut high = high;
        loop {
            let at = self.gaps.highest(bytes, low, high)?;
            let end = VirtAddr::new(at + bytes);
            match self.first_ending_above(end).map(floor).filter(|&floor| floor < end) {
                Some(floor) => high = floor.as_u64(),
                None => return Some(VirtAddr::new(at)),
            }
        }
    }

    /// The lowest start not below `low` where a mapping of `bytes` that ends at or below `high`
    /// keeps clear of all VMAs and guard gaps.
    ///
    /// # Source
    /// Linux 6.12 `mm/mmap.c:unmapped_area`.
    pub(crate) fn lowest_clear(&self, bytes: u64, low: u64, high: u64) -> Option<VirtAddr> {
        let mut low = low;
        loop {
            let at = self.gaps.lowest(bytes, low, high)?;
            let end = VirtAddr::new(at + bytes);
            match self.first_ending_above(end).filter(|&next| floor(next) < end) {
                Some(next) => low = next.range.end.as_u64(),
                None => return Some(VirtAddr::new(at)),
            }
        }
    }

    /// The free range around `range`, if nothing were there: from the end of the VMA below to the
    /// start of the one above.
    fn free_around(&self, range: VirtRange) -> (u64, u64) {
        let below = self.by_start.range(..range.start).next_back();
        let above = self.by_start.range(range.end..).next();
        let low = below.map_or(0, |(_, vma)| vma.range.end.as_u64());
        let high = above.map_or(u64::MAX, |(start, _)| start.as_u64());
        (low, high)
    }
}

/// Where free space below a VMA ends for new mappings.
fn floor(vma: &Vma) -> VirtAddr {
    let start = vma.range.start;
    if vma.flags.contains(VmaFlags::GROWS_DOWN) {
        start.checked_sub(GUARD_BYTES).unwrap_or_default()
    } else {
        start
    }
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
    fn as_4_and_as_5_placement_follows_random_changes() {
        const PAGE_COUNT: u64 = 2_048;
        let mut tree = VmaTree::default();
        let mut state = 1_u64;
        for step in 0..40_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let start = VirtAddr::new((state >> 20) % PAGE_COUNT * 0x1000);
            let fill = if step % 10_000 < 5_000 { 3 } else { 1 };
            if tree.find(start).is_some() {
                if (state >> 50).is_multiple_of(fill) {
                    tree.remove(start);
                }
            } else if (state >> 50).is_multiple_of(4 - fill) {
                tree.insert(vma(start.as_u64(), start.as_u64() + 0x1000, VmaFlags::empty()));
            }
            if step % 32 != 0 {
                continue;
            }
            for bytes in [0x1000, 0x3000, 0x9000] {
                let low = ((state >> 40) % 0x10_0000) & !0xfff;
                let high = 0x10_0000 + (state >> 44 & 0xf_f000);
                let clear =
                    |at: &VirtAddr| tree.is_clear(VirtRange::new(*at, at.wrapping_add(bytes)));
                let all: Vec<VirtAddr> =
                    (low..=high - bytes).step_by(0x1000).map(VirtAddr::new).collect();
                let lowest = all.iter().copied().find(clear);
                let highest = all.iter().rev().copied().find(clear);
                assert_eq!(tree.lowest_clear(bytes, low, high), lowest);
                assert_eq!(tree.highest_clear(bytes, low, high), highest);
            }
        }
    }
}
