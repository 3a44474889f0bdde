//! Order, gaps and blocks against a naive map.

use alloc::collections::BTreeMap;
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
        history: crate::swap::History::default(),
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
            let clear = |at: &VirtAddr| tree.is_clear(VirtRange::new(*at, at.wrapping_add(bytes)));
            let all: Vec<VirtAddr> =
                (low..=high - bytes).step_by(0x1000).map(VirtAddr::new).collect();
            let lowest = all.iter().copied().find(clear);
            let highest = all.iter().rev().copied().find(clear);
            assert_eq!(tree.lowest_clear(bytes, low, high), lowest);
            assert_eq!(tree.highest_clear(bytes, low, high), highest);
        }
    }
}

/// The tree and the same VMAs in a map.
struct Both {
    tree: VmaTree,
    model: BTreeMap<u64, u64>,
    state: u64,
}

const PAGES: u64 = 1 << 15;

impl Both {
    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 16) % bound
    }

    fn covering(&self, addr: u64) -> Option<(u64, u64)> {
        let (&start, &end) = self.model.range(..=addr).next_back()?;
        (addr < end).then_some((start, end))
    }

    /// One change at a random place. VMAs are added where `fills`, else taken away more often.
    fn change(&mut self, fills: bool) {
        let start = self.below(PAGES) << PAGE_SHIFT;
        let end = start + ((1 + self.below(3)) << PAGE_SHIFT);
        let addr = VirtAddr::new(start);
        let Some((first, last)) = self.covering(start) else {
            if self.model.range(start..end).next().is_none() {
                self.tree.insert(vma(start, end, VmaFlags::empty()));
                self.model.insert(start, end);
            }
            return;
        };
        let neighbour = self.model.contains_key(&last).then(|| self.model[&last]);
        match (self.below(8), neighbour) {
            (0 | 1, _) if first < start => {
                self.tree.split_at(addr);
                self.model.insert(first, start);
                self.model.insert(start, last);
            }
            (2, Some(end)) => {
                self.tree.join_at(VirtAddr::new(last));
                self.model.remove(&last);
                self.model.insert(first, end);
            }
            (3, Some(end)) if first < start => {
                self.tree.move_boundary(VirtAddr::new(last), addr);
                self.model.remove(&last);
                self.model.insert(first, start);
                self.model.insert(start, end);
            }
            (4, None) if self.model.range(last..last + 0x1000).next().is_none() => {
                self.tree.set_end(VirtAddr::new(first), VirtAddr::new(last + 0x1000));
                self.model.insert(first, last + 0x1000);
            }
            (kind, _) if !fills || kind == 5 => {
                assert!(self.tree.remove(VirtAddr::new(first)).is_some());
                self.model.remove(&first);
            }
            _ => {}
        }
    }

    fn compare(&mut self) {
        assert!(self.tree.blocks.check(), "invariants of the blocks");
        assert_eq!(self.tree.len(), self.model.len());
        let all = self.tree.iter().map(|vma| (vma.range.start.as_u64(), vma.range.end.as_u64()));
        assert!(all.eq(self.model.iter().map(|(&start, &end)| (start, end))));
        for _ in 0..64 {
            let addr = self.below(PAGES << PAGE_SHIFT);
            let found = self.tree.find(VirtAddr::new(addr));
            let found = found.map(|v| (v.range.start.as_u64(), v.range.end.as_u64()));
            assert_eq!(found, self.covering(addr));
            let above = self.model.iter().find(|&(_, &end)| end > addr);
            let found = self.tree.first_ending_above(VirtAddr::new(addr));
            assert_eq!(found.map(|v| v.range.start.as_u64()), above.map(|(&start, _)| start));
        }
    }
}

#[test]
fn blocks_hold_what_a_map_holds() {
    let mut both = Both { tree: VmaTree::default(), model: BTreeMap::new(), state: 7 };
    for phase in 0..6 {
        for step in 0..30_000 {
            both.change(phase % 2 == 0);
            if step % 3_000 == 0 {
                both.compare();
            }
        }
        both.compare();
    }
    let all = VirtRange::new(VirtAddr::new(0), VirtAddr::new(u64::MAX));
    while both.tree.remove_first(all).is_some() {}
    assert!(both.tree.blocks.check() && both.tree.len() == 0);
}

#[test]
fn vmas_added_in_order_and_in_reverse_fill_the_blocks() {
    let mut tree = VmaTree::default();
    let count = 5_000;
    for page in 0..count {
        tree.insert(vma((10_000 + 2 * page) << 12, (10_001 + 2 * page) << 12, VmaFlags::empty()));
    }
    for page in (0..count).rev() {
        tree.insert(vma((2 * page + 1) << 12, (2 * page + 2) << 12, VmaFlags::empty()));
    }
    assert!(tree.blocks.check());
    assert_eq!(tree.len(), 10_000);
    assert_eq!(tree.iter().map(|vma| vma.range.pages()).sum::<u64>(), 10_000);
    assert_eq!(tree.highest_clear(0x1000, 0, 20_000 << 12), Some(VirtAddr::new(19_999 << 12)));
    assert_eq!(tree.lowest_clear(0x2000, 0, u64::MAX), Some(VirtAddr::new(19_999 << 12)));
}

#[test]
fn addresses_at_both_ends_are_found() {
    let mut tree = VmaTree::default();
    assert!(tree.find(VirtAddr::new(u64::MAX)).is_none());
    assert_eq!(tree.highest_clear(0x1000, 0, 0x8000), Some(VirtAddr::new(0x7000)));
    assert_eq!(tree.lowest_clear(0x1000, 0x2000, u64::MAX), Some(VirtAddr::new(0x2000)));
    tree.insert(vma(0, 0x1000, VmaFlags::empty()));
    assert!(tree.find(VirtAddr::new(u64::MAX)).is_none());
    assert!(tree.find(VirtAddr::new(0)).is_some());
    assert_eq!(tree.lowest_clear(0x1000, 0, u64::MAX), Some(VirtAddr::new(0x1000)));
}
