//! Slots of a swap area: which are used, and by how many entries.
//!
//! Slots are handed out along clusters, so that pages that leave together lie together and come
//! back together. It knows no content and no page tables.
//!
//! ```text
//!  | 0 | 1 ......... 255 | 256 ........ 511 | ...
//!    |   cluster 0          cluster 1
//!    the header: never used
//! ```
//!
//! Invariants
//! 1. `used_count` is the number of slots with a count above 0.
//! 2. `free_of[c]` is the number of usable slots of cluster `c` with count 0.
//!
//! # Source
//! Linux 6.12 `mm/swapfile.c:scan_swap_map_slots`, `swap_duplicate`; semantics SWAP-1, SWAP-2.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// Slots of a cluster (`SWAPFILE_CLUSTER` without large-page swap).
pub(crate) const CLUSTER_SLOTS: u32 = 256;
/// The count that a byte holds at most; more is kept aside, as Linux's continuation pages do.
const COUNT_MAX: u8 = 0x3e;
/// The slot of the header.
const HEADER_SLOT: u32 = 0;

/// A slot of the swap area: 4 KiB.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SwapSlot(pub u32);

/// The number of a swap area, as `swapon` gave it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AreaId(pub u8);

/// A slot of one of the areas: what leaf entries name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct SwapPlace {
    /// The area.
    pub(crate) area: AreaId,
    /// The slot in it.
    pub(crate) slot: SwapSlot,
}

/// The slots of one area.
#[derive(Debug)]
pub(crate) struct SwapArea {
    counts: Vec<u8>,
    /// What does not fit in the byte of a slot.
    beyond: BTreeMap<u32, u64>,
    free_of: Vec<u16>,
    /// Where the search goes on.
    next: u32,
    used_count: u32,
}

impl SwapArea {
    /// An area of `slot_count` slots, the header's included; all others are free.
    pub(crate) fn new(slot_count: u32) -> Self {
        let clusters = slot_count.div_ceil(CLUSTER_SLOTS);
        let free_in = |cluster: u32| {
            let first = cluster * CLUSTER_SLOTS;
            let count = (slot_count - first).min(CLUSTER_SLOTS);
            (count - u32::from(cluster == 0)) as u16
        };
        Self {
            counts: vec![0; slot_count as usize],
            beyond: BTreeMap::new(),
            free_of: (0..clusters).map(free_in).collect(),
            next: 1,
            used_count: 0,
        }
    }

    /// Slots that can hold a page.
    pub(crate) fn usable_count(&self) -> u32 {
        (self.counts.len() as u32).saturating_sub(1)
    }

    /// Slots that do.
    pub(crate) const fn used_count(&self) -> u32 {
        self.used_count
    }

    /// Takes a free slot, with one user: the next one of the cluster in use, else the first of a
    /// wholly free cluster, else any.
    pub(crate) fn alloc(&mut self) -> Option<SwapSlot> {
        let slot = self.free_in_cluster(self.next)?;
        self.counts[slot as usize] = 1;
        self.free_of[cluster_of(slot)] -= 1;
        self.used_count += 1;
        self.next = slot + 1;
        Some(SwapSlot(slot))
    }

    /// The free slot to be taken when the search stands at `from`.
    fn free_in_cluster(&self, from: u32) -> Option<u32> {
        if self.used_count == self.usable_count() {
            return None;
        }
        let is_inside = (from as usize) < self.counts.len() && !from.is_multiple_of(CLUSTER_SLOTS);
        if is_inside && let Some(slot) = self.first_free(from) {
            return Some(slot);
        }
        let whole = |cluster: &usize| u32::from(self.free_of[*cluster]) == CLUSTER_SLOTS;
        let partly = |cluster: &usize| self.free_of[*cluster] > 0;
        let cluster =
            (0..self.free_of.len()).find(whole).or_else(|| (0..self.free_of.len()).find(partly))?;
        self.first_free((cluster as u32 * CLUSTER_SLOTS).max(HEADER_SLOT + 1))
    }

    /// The first free slot from `from` to the end of its cluster.
    fn first_free(&self, from: u32) -> Option<u32> {
        let end = (from / CLUSTER_SLOTS + 1) * CLUSTER_SLOTS;
        let end = end.min(self.counts.len() as u32);
        (from..end).find(|&slot| self.counts[slot as usize] == 0)
    }

    /// How many entries name the slot.
    pub(crate) fn use_count(&self, slot: SwapSlot) -> u64 {
        let count = self.counts.get(slot.0 as usize).copied().unwrap_or(0);
        u64::from(count) + self.beyond.get(&slot.0).copied().unwrap_or(0)
    }

    /// One more entry names the slot: fork copied one.
    pub(crate) fn retain(&mut self, slot: SwapSlot) {
        debug_assert!(self.use_count(slot) > 0, "slot {} is free", slot.0);
        let Some(count) = self.counts.get_mut(slot.0 as usize) else { return };
        if *count < COUNT_MAX {
            *count += 1;
        } else {
            *self.beyond.entry(slot.0).or_insert(0) += 1;
        }
    }

    /// One entry less names the slot. Returns true if none is left: the slot is free.
    pub(crate) fn release(&mut self, slot: SwapSlot) -> bool {
        debug_assert!(self.use_count(slot) > 0, "slot {} is free", slot.0);
        if let Some(more) = self.beyond.get_mut(&slot.0) {
            *more -= 1;
            if *more == 0 {
                self.beyond.remove(&slot.0);
            }
            return false;
        }
        let Some(count) = self.counts.get_mut(slot.0 as usize).filter(|count| **count > 0) else {
            return false;
        };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        self.free_of[cluster_of(slot.0)] += 1;
        self.used_count -= 1;
        true
    }

    /// Every slot that an entry names.
    pub(crate) fn used(&self) -> impl Iterator<Item = SwapSlot> + '_ {
        let numbers = (0..).zip(&self.counts).filter(|(_, count)| **count > 0);
        numbers.map(|(number, _)| SwapSlot(number))
    }

    /// Whether the counts agree with invariants 1 and 2.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let used = self.counts.iter().filter(|count| **count > 0).count();
        if used != self.used_count as usize {
            return Err("the count of used swap slots is wrong");
        }
        for (cluster, free) in self.free_of.iter().enumerate() {
            let first = cluster * CLUSTER_SLOTS as usize;
            let end = (first + CLUSTER_SLOTS as usize).min(self.counts.len());
            let range = first.max(HEADER_SLOT as usize + 1)..end;
            let counted = self.counts[range].iter().filter(|count| **count == 0).count();
            if counted != usize::from(*free) {
                return Err("the free count of a swap cluster is wrong");
            }
        }
        Ok(())
    }
}

const fn cluster_of(slot: u32) -> usize {
    (slot / CLUSTER_SLOTS) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_in_order_and_whole_clusters_first() {
        let mut area = SwapArea::new(3 * CLUSTER_SLOTS);
        let first = area.alloc().expect("room");
        assert_eq!(first, SwapSlot(1));
        for expected in 2..CLUSTER_SLOTS {
            assert_eq!(area.alloc(), Some(SwapSlot(expected)));
        }
        assert!(area.release(SwapSlot(9)));
        assert_eq!(area.alloc(), Some(SwapSlot(256)), "not the hole in the first cluster");
        area.check().expect("consistent");
        for _ in 257..3 * CLUSTER_SLOTS {
            area.alloc().expect("room");
        }
        assert_eq!(area.alloc(), Some(SwapSlot(9)), "the last free slot");
        assert_eq!((area.alloc(), area.used_count()), (None, area.usable_count()));
        area.check().expect("consistent");
    }

    #[test]
    fn a_slot_has_as_many_users_as_entries() {
        let mut area = SwapArea::new(4);
        let slot = area.alloc().expect("room");
        for _ in 0..1000 {
            area.retain(slot);
        }
        assert_eq!(area.use_count(slot), 1001);
        for _ in 0..1000 {
            assert!(!area.release(slot));
        }
        assert!(area.release(slot));
        assert_eq!((area.use_count(slot), area.used_count()), (0, 0));
        area.check().expect("consistent");
    }

    #[test]
    fn tiny_areas_have_no_room() {
        assert_eq!(SwapArea::new(0).alloc(), None);
        assert_eq!(SwapArea::new(1).alloc(), None);
    }
}
