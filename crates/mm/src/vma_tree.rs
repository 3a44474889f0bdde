//! The VMAs of one address space, ordered by address, and the room between them.
//!
//! The order is kept in blocks (`vma_tree/blocks.rs`); here stands what VMAs mean for it: where one
//! ends, guard gaps, splitting and joining.
//!
//! Invariants
//! 1. VMAs are page aligned, not empty, and never overlap.

use machine::{PAGE_SHIFT, VirtAddr, VirtRange};

use crate::rights::VmaFlags;
use crate::vma::Vma;
use blocks::{Blocks, Place};

mod blocks;
mod leaf;
mod node;

/// How far below a VMA that grows down nothing is placed, in pages: `stack_guard_gap` (STK-4).
pub(crate) const GUARD_PAGES: u64 = 256;

const GUARD_BYTES: u64 = GUARD_PAGES << PAGE_SHIFT;

/// The VMAs of one address space, ordered by address, never overlapping.
#[derive(Clone, Debug, Default)]
pub(crate) struct VmaTree {
    blocks: Blocks,
}

impl VmaTree {
    /// How many VMAs there are.
    pub(crate) fn len(&self) -> usize {
        self.blocks.count()
    }

    /// Where the VMA is that covers `addr`.
    #[inline]
    fn place_of(&self, addr: VirtAddr) -> Option<Place> {
        let place = self.blocks.at_or_below(addr.as_u64())?;
        self.blocks.get(place).is_some_and(|vma| vma.range.contains(addr)).then_some(place)
    }

    /// Where the first VMA is that ends above `addr`.
    fn place_above(&self, addr: VirtAddr) -> Option<Place> {
        match self.blocks.at_or_below(addr.as_u64()) {
            None => self.blocks.first(),
            Some(place) if self.blocks.get(place)?.range.end > addr => Some(place),
            Some(place) => self.blocks.next(place),
        }
    }

    /// Where the VMA is that starts at `start`.
    fn place_at(&self, start: VirtAddr) -> Option<Place> {
        let place = self.blocks.at_or_below(start.as_u64())?;
        (self.blocks.get(place)?.range.start == start).then_some(place)
    }

    /// Where the last VMA is that starts below `addr`.
    fn place_below(&self, addr: VirtAddr) -> Option<Place> {
        self.blocks.at_or_below(addr.as_u64().checked_sub(1)?)
    }

    /// The VMA that covers `addr`.
    #[inline]
    pub(crate) fn find(&self, addr: VirtAddr) -> Option<&Vma> {
        let vma = self.blocks.get(self.blocks.at_or_below(addr.as_u64())?)?;
        vma.range.contains(addr).then_some(vma)
    }

    /// The VMA that covers `addr`, to change anything but its range and whether it grows down.
    pub(crate) fn find_mut(&mut self, addr: VirtAddr) -> Option<&mut Vma> {
        let place = self.place_of(addr)?;
        self.blocks.get_mut(place)
    }

    /// The first VMA that ends above `addr` (covers it or lies above).
    pub(crate) fn first_ending_above(&self, addr: VirtAddr) -> Option<&Vma> {
        self.blocks.get(self.place_above(addr)?)
    }

    /// The last VMA that starts below `addr`.
    pub(crate) fn last_starting_below(&self, addr: VirtAddr) -> Option<&Vma> {
        self.blocks.get(self.place_below(addr)?)
    }

    /// All VMAs in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.blocks.iter_from(self.blocks.first())
    }

    /// The VMAs that end above `addr`, in order.
    pub(crate) fn iter_from(&self, addr: VirtAddr) -> impl Iterator<Item = &Vma> {
        self.blocks.iter_from(self.place_above(addr))
    }

    /// Changes each VMA in anything but its range and whether it grows down.
    pub(crate) fn for_each_mut(&mut self, change: impl FnMut(&mut Vma)) {
        self.blocks.iter_mut().for_each(change);
    }

    /// The VMAs that overlap `range`, in order; none if it is empty.
    pub(crate) fn overlapping(&self, range: VirtRange) -> impl Iterator<Item = &Vma> {
        let first = if range.is_empty() { None } else { self.place_above(range.start) };
        self.blocks.iter_from(first).take_while(move |vma| vma.range.start < range.end)
    }

    /// Adds a VMA; its range must be free.
    pub(crate) fn insert(&mut self, vma: Vma) {
        debug_assert!(self.overlapping(vma.range).next().is_none(), "the range is free");
        self.blocks.insert(vma);
    }

    /// Takes out the VMA that starts at `start`.
    pub(crate) fn remove(&mut self, start: VirtAddr) -> Option<Vma> {
        let place = self.place_at(start)?;
        self.blocks.remove(place)
    }

    /// Takes out the first VMA that overlaps `range`.
    pub(crate) fn remove_first(&mut self, range: VirtRange) -> Option<Vma> {
        let place = self.place_above(range.start)?;
        let is_inside = self.blocks.get(place)?.range.start < range.end;
        if is_inside { self.blocks.remove(place) } else { None }
    }

    /// Moves the end of the VMA that starts at `start`; what is added must be free.
    pub(crate) fn set_end(&mut self, start: VirtAddr, end: VirtAddr) {
        if let Some(place) = self.place_at(start) {
            self.blocks.set_range(place, |vma| vma.range.end = end);
        }
    }

    /// Puts `vma` in the place of the one with the same range.
    pub(crate) fn replace(&mut self, vma: Vma) {
        if let Some(place) = self.place_at(vma.range.start) {
            self.blocks.replace(place, vma);
        }
    }

    /// Makes `addr`, inside a VMA, a boundary between two.
    pub(crate) fn split_at(&mut self, addr: VirtAddr) {
        if let Some(place) = self.place_below(addr) {
            self.blocks.split(place, |lower| lower.cut_off(addr));
        }
    }

    /// Makes the two VMAs that meet at `addr` one.
    pub(crate) fn join_at(&mut self, addr: VirtAddr) {
        let Some(place) = self.place_below(addr) else { return };
        debug_assert!(self.blocks.get(place).is_some_and(|vma| vma.range.end == addr), "they meet");
        self.blocks.join(place, |lower, upper| {
            lower.anon = lower.anon.or(upper.anon);
            lower.fault_count += upper.fault_count;
        });
    }

    /// Moves the boundary of the two VMAs that meet at `from`, both of which stay. Whichever grows
    /// takes the family of private pages of the other, if it has none.
    pub(crate) fn move_boundary(&mut self, from: VirtAddr, to: VirtAddr) {
        let Some(place) = self.place_below(from) else { return };
        debug_assert!(self.blocks.get(place).is_some_and(|vma| vma.range.end == from), "they meet");
        self.blocks.move_boundary(place, |lower, upper| {
            if to > from {
                lower.anon = lower.anon.or(upper.anon);
            } else {
                upper.anon = upper.anon.or(lower.anon);
            }
            lower.range.end = to;
            upper.move_start(to);
        });
    }

    /// All VMAs, taken out in order.
    pub(crate) fn into_vmas(self) -> impl Iterator<Item = Vma> {
        self.blocks.into_vmas()
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
            let at = self.blocks.highest_gap(bytes, low, high)?;
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
            let at = self.blocks.lowest_gap(bytes, low, high)?;
            let end = VirtAddr::new(at + bytes);
            match self.first_ending_above(end).filter(|&next| floor(next) < end) {
                Some(next) => low = next.range.end.as_u64(),
                None => return Some(VirtAddr::new(at)),
            }
        }
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
mod tests;
