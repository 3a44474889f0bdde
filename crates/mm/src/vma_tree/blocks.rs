//! VMAs in order of address, in blocks: a root of nodes of leaves.
//!
//! ```text
//! root      firsts            [0x40_0000        0x7f10_0000_0000 ...]
//! node      firsts, gaps      [0x40_0000 | largest gap 9 pages ...]      64 leaves
//! leaf      starts, ends      [0x40_0000..0x40_1000 ...] + VMAs          32 VMAs
//! ```
//! Finding an address is three searches in arrays of numbers without a branch, or a look around the
//! place of the last one; a free range is found by the largest gap of each block. A change moves at
//! most one block. With 65,530 VMAs (the limit of Linux) the root has about 40 nodes, so nothing
//! grows with more than the logarithm but the root, which is only searched like that or scanned for
//! gaps.
//!
//! Invariants
//! 1. VMAs ascend and do not overlap; no leaf and no node is empty.
//! 2. `firsts` of each level are the starts of the first VMAs below.
//! 3. `gaps` of each level are `gap_max` of the blocks below, the largest gap below a VMA there.
//! 4. The floor of each leaf is the end of the VMA before it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;

use super::leaf::{LEAF_MAX, Leaf, NO_START, count_up_to};
use super::node::{NODE_MAX, Node};
use crate::vma::Vma;

mod gaps;

/// Two neighbours that have no more VMAs (leaves) than this together become one leaf (node).
const LEAF_MERGED: usize = LEAF_MAX / 2;
const NODE_MERGED: usize = NODE_MAX / 2;

/// Where a VMA stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Place {
    node: usize,
    leaf: usize,
    at: usize,
}

/// The VMAs.
#[derive(Clone, Debug, Default)]
pub(super) struct Blocks {
    firsts: Vec<u64>,
    gaps: Vec<u64>,
    #[expect(clippy::vec_box, reason = "nodes stay where they are when others come and go")]
    nodes: Vec<Box<Node>>,
    count: usize,
    /// What was found last, by indexes that may name something else by now.
    hint: Cell<Place>,
}

impl Blocks {
    /// How many VMAs there are.
    pub(super) const fn count(&self) -> usize {
        self.count
    }

    fn leaf(&self, place: Place) -> &Leaf {
        &self.nodes[place.node].leaves[place.leaf]
    }

    fn leaf_mut(&mut self, place: Place) -> &mut Leaf {
        &mut self.nodes[place.node].leaves[place.leaf]
    }

    /// The VMA at a place that was just found.
    #[inline]
    pub(super) fn get(&self, place: Place) -> Option<&Vma> {
        self.leaf(place).get(place.at)
    }

    /// The same, to change anything but the range and whether it grows down.
    #[inline]
    pub(super) fn get_mut(&mut self, place: Place) -> Option<&mut Vma> {
        self.leaf_mut(place).get_mut(place.at)
    }

    /// The last VMA that starts at or below `addr`.
    #[inline]
    pub(super) fn at_or_below(&self, addr: u64) -> Option<Place> {
        let hint = self.hint.get();
        let leaf = self.nodes.get(hint.node).and_then(|node| node.leaves.get(hint.leaf));
        let at = match leaf {
            Some(leaf) if leaf.first_start() <= addr && addr < leaf.last_end() => {
                leaf.last_up_to_near(hint.at, addr).unwrap_or_else(|| leaf.count_up_to(addr) - 1)
            }
            _ => return self.search(addr),
        };
        let place = Place { at, ..hint };
        self.hint.set(place);
        Some(place)
    }

    /// The same from the root down.
    fn search(&self, addr: u64) -> Option<Place> {
        let node = self.firsts.partition_point(|&first| first <= addr).checked_sub(1)?;
        let block = &self.nodes[node];
        let leaf = count_up_to(&block.firsts, addr).min(block.leaves.len()) - 1;
        let at = block.leaves[leaf].count_up_to(addr) - 1;
        let place = Place { node, leaf, at };
        self.hint.set(place);
        Some(place)
    }

    /// The first VMA of all.
    pub(super) fn first(&self) -> Option<Place> {
        (self.count > 0).then_some(Place { node: 0, leaf: 0, at: 0 })
    }

    /// The VMA after the one at `place`.
    #[inline]
    pub(super) fn next(&self, place: Place) -> Option<Place> {
        if place.at + 1 < self.leaf(place).count() {
            return Some(Place { at: place.at + 1, ..place });
        }
        self.next_leaf(place)
    }

    /// The first VMA of the next leaf.
    fn next_leaf(&self, place: Place) -> Option<Place> {
        if place.leaf + 1 < self.nodes[place.node].leaves.len() {
            return Some(Place { leaf: place.leaf + 1, at: 0, ..place });
        }
        let node = place.node + 1;
        (node < self.nodes.len()).then_some(Place { node, leaf: 0, at: 0 })
    }

    /// The last VMA of the leaf before.
    fn previous_leaf(&self, place: Place) -> Option<Place> {
        let (node, leaf) = match place.leaf.checked_sub(1) {
            Some(leaf) => (place.node, leaf),
            None => {
                let node = place.node.checked_sub(1)?;
                (node, self.nodes[node].leaves.len() - 1)
            }
        };
        Some(Place { node, leaf, at: self.nodes[node].leaves[leaf].count() - 1 })
    }

    /// All VMAs from `place` on.
    pub(super) fn iter_from(&self, place: Option<Place>) -> impl Iterator<Item = &Vma> {
        let mut next = place;
        core::iter::from_fn(move || {
            let place = next?;
            next = self.next(place);
            self.get(place)
        })
    }

    /// All VMAs.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Vma> {
        let leaves = self.nodes.iter_mut().flat_map(|node| node.leaves.iter_mut());
        leaves.flat_map(|leaf| leaf.iter_mut())
    }

    /// Takes all VMAs out.
    pub(super) fn into_vmas(self) -> impl Iterator<Item = Vma> {
        self.nodes.into_iter().flat_map(|node| node.leaves).flat_map(|leaf| leaf.into_vmas())
    }

    /// Adds a VMA whose range is free.
    pub(super) fn insert(&mut self, vma: Vma) {
        let (start, end) = (vma.range.start.as_u64(), vma.range.end.as_u64());
        let place = self.room_behind(self.at_or_below(start));
        self.put(place, vma);
        let next = self.next(place);
        let low = self.leaf(place).end_before(place.at);
        self.account(place, 0, start - low);
        if let Some(next) = next {
            let high = self.leaf(next).start(next.at);
            self.account(next, high - low, high - end);
        }
    }

    /// Takes the VMA at `place` out.
    pub(super) fn remove(&mut self, place: Place) -> Option<Vma> {
        let low = self.leaf(place).end_before(place.at);
        let high = self.next(place).map(|next| self.leaf(next).start(next.at));
        let vma = self.take(place)?;
        if let Some(high) = high
            && let Some(next) = self.at_or_below(high)
        {
            self.account(next, high - vma.range.end.as_u64(), high - low);
        }
        Some(vma)
    }

    /// Changes the range of the VMA at `place`, at either end, within what is free around it.
    pub(super) fn set_range(&mut self, place: Place, change: impl FnOnce(&mut Vma)) {
        let next = self.next(place);
        let Some((gone, gone_above)) = self.change_range(place, change) else { return };
        let new = self.leaf(place).gap(place.at);
        self.account(place, gone, new);
        if let Some(next) = next {
            let new = self.leaf(next).gap(next.at);
            self.account(next, gone_above, new);
        }
    }

    /// Makes `change` to the VMA at `place`, and to floors and firsts around it. Returns the gaps
    /// that were below and above it.
    fn change_range(&mut self, place: Place, change: impl FnOnce(&mut Vma)) -> Option<(u64, u64)> {
        let next = self.next(place);
        let gone_above = next.map_or(0, |next| self.leaf(next).gap(next.at));
        let leaf = self.leaf_mut(place);
        let gone = leaf.gap(place.at);
        change(leaf.get_mut(place.at)?);
        leaf.follow_range(place.at);
        self.follow_first(place);
        self.set_floor_behind(place);
        Some((gone, gone_above))
    }

    /// Puts `vma` in the place of one with the same range.
    pub(super) fn replace(&mut self, place: Place, vma: Vma) {
        self.leaf_mut(place).replace(place.at, vma);
    }

    /// Cuts the VMA at `place` in two, as `cut` does, which returns the upper part. No gap changes.
    pub(super) fn split(&mut self, place: Place, cut: impl FnOnce(&mut Vma) -> Vma) {
        let behind = self.room_behind(Some(place));
        let lower = match behind.at.checked_sub(1) {
            Some(at) => Some(Place { at, ..behind }),
            None => self.previous_leaf(behind),
        };
        let Some(lower) = lower else { return };
        let leaf = self.leaf_mut(lower);
        let Some(upper) = leaf.get_mut(lower.at).map(cut) else { return };
        leaf.follow_range(lower.at);
        self.set_floor_behind(lower);
        self.put(behind, upper);
    }

    /// Makes the VMA at `place` and the next one, which it meets, one. No gap changes. `join` gives
    /// the lower one what the upper one had, its end excepted.
    pub(super) fn join(&mut self, place: Place, join: impl FnOnce(&mut Vma, &Vma)) {
        let Some(next) = self.next(place) else { return };
        let Some(end) = self.get(next).map(|upper| upper.range.end) else { return };
        let _gaps = self.change_range(place, |lower| lower.range.end = end);
        let Some(upper) = self.take(next) else { return };
        if let Some(lower) = self.get_mut(place) {
            join(lower, &upper);
        }
    }

    /// Moves the boundary between the VMA at `place` and the next one, which it meets, as `change`
    /// says. No gap changes.
    pub(super) fn move_boundary(&mut self, place: Place, change: impl FnOnce(&mut Vma, &mut Vma)) {
        let Some(next) = self.next(place) else { return };
        let Some(mut upper) = self.get(next).cloned() else { return };
        let _gaps = self.change_range(place, |lower| change(lower, &mut upper));
        let _gaps = self.change_range(next, |vma| *vma = upper);
    }

    /// Tells the leaf behind that of `place`, if `place` is the last one in its leaf, where the VMA
    /// before it ends.
    fn set_floor_behind(&mut self, place: Place) {
        let leaf = self.leaf(place);
        if place.at + 1 < leaf.count() {
            return;
        }
        let floor = leaf.last_end();
        if let Some(next) = self.next_leaf(place) {
            self.leaf_mut(next).floor = floor;
        }
    }

    /// Tells node and root about the first start in the leaf of `place`.
    fn follow_first(&mut self, place: Place) {
        if place.at > 0 {
            return;
        }
        let node = &mut self.nodes[place.node];
        node.firsts[place.leaf] = node.leaves[place.leaf].first_start();
        self.firsts[place.node] = node.firsts[0];
    }

    /// Takes note of a changed gap below the VMA at `place`.
    fn account(&mut self, place: Place, gone: u64, new: u64) {
        let leaf = self.leaf_mut(place);
        if leaf.account(gone, new) != leaf.gap_max {
            self.nodes[place.node].follow(place.leaf);
            self.follow_node(place.node);
        }
    }

    /// Makes room behind the VMA at `before`, or before all. Returns where.
    fn room_behind(&mut self, before: Option<Place>) -> Place {
        if self.nodes.is_empty() {
            let mut node = Box::new(Node::new());
            node.insert(0, Box::new(Leaf::new(0)));
            self.nodes.push(node);
            self.firsts.push(NO_START);
            self.gaps.push(0);
        }
        match before {
            Some(before) => self.make_room(Place { at: before.at + 1, ..before }),
            None => self.make_room(Place { node: 0, leaf: 0, at: 0 }),
        }
    }

    /// Puts `vma` where there is room for it. Gaps are not accounted.
    fn put(&mut self, place: Place, vma: Vma) {
        self.count += 1;
        self.leaf_mut(place).insert(place.at, vma);
        self.follow_first(place);
        self.set_floor_behind(place);
    }

    /// Splits the leaf of `place` if it is full. Returns where to insert then.
    fn make_room(&mut self, place: Place) -> Place {
        if self.leaf(place).count() < LEAF_MAX {
            return place;
        }
        let place = self.make_room_in_node(place);
        // VMAs that are added one above or below the other leave full blocks behind.
        let is_inside = (LEAF_MAX / 4..=LEAF_MAX * 3 / 4).contains(&place.at);
        let cut = if is_inside { LEAF_MAX / 2 } else { place.at.max(1) };
        let upper = self.leaf_mut(place).split_off(cut);
        let node = &mut self.nodes[place.node];
        node.follow(place.leaf);
        node.insert(place.leaf + 1, Box::new(upper));
        self.follow_node(place.node);
        if place.at > cut || place.at == LEAF_MAX {
            Place { leaf: place.leaf + 1, at: place.at - cut, ..place }
        } else {
            place
        }
    }

    /// Splits the node of `place` if it is full. Returns where `place` is then.
    fn make_room_in_node(&mut self, place: Place) -> Place {
        let node = &mut self.nodes[place.node];
        if node.leaves.len() < NODE_MAX {
            return place;
        }
        let is_inside = (NODE_MAX / 4..=NODE_MAX * 3 / 4).contains(&place.leaf);
        let cut = if is_inside { NODE_MAX / 2 } else { place.leaf.max(1) };
        let upper = node.split_off(cut);
        self.firsts.insert(place.node + 1, upper.firsts[0]);
        self.gaps.insert(place.node + 1, upper.gap_max);
        self.nodes.insert(place.node + 1, Box::new(upper));
        self.follow_node(place.node);
        if place.leaf >= cut {
            Place { node: place.node + 1, leaf: place.leaf - cut, ..place }
        } else {
            place
        }
    }

    /// Takes the VMA at `place` out. The gap below the next one is not accounted.
    fn take(&mut self, place: Place) -> Option<Vma> {
        let leaf = self.leaf_mut(place);
        let gone = leaf.gap(place.at);
        let vma = leaf.remove(place.at)?;
        leaf.account(gone, 0);
        let (count, floor) = (leaf.count(), leaf.last_end());
        self.count -= 1;
        if place.at == count
            && let Some(next) = self.next_leaf(place)
        {
            self.leaf_mut(next).floor = floor;
        }
        let node = &mut self.nodes[place.node];
        node.follow(place.leaf);
        let behind = node.leaves.get(place.leaf + 1).map_or(LEAF_MAX, |next| next.count());
        if count == 0 {
            node.remove(place.leaf);
        } else if count + behind <= LEAF_MERGED {
            let next = node.remove(place.leaf + 1);
            node.leaves[place.leaf].append(*next);
            node.follow(place.leaf);
        }
        self.tidy_node(place.node);
        Some(vma)
    }

    /// Removes a node without leaves, or takes the leaves of the next one in if both have few.
    fn tidy_node(&mut self, at: usize) {
        let count = self.nodes[at].leaves.len();
        if count == 0 {
            self.nodes.remove(at);
            self.firsts.remove(at);
            self.gaps.remove(at);
            return;
        }
        let behind = self.nodes.get(at + 1).map_or(NODE_MAX, |next| next.leaves.len());
        if count + behind <= NODE_MERGED {
            let next = self.nodes.remove(at + 1);
            self.firsts.remove(at + 1);
            self.gaps.remove(at + 1);
            let node = &mut self.nodes[at];
            for leaf in next.leaves {
                node.insert(node.leaves.len(), leaf);
            }
        }
        self.follow_node(at);
    }

    /// Takes over what changed in a node.
    fn follow_node(&mut self, at: usize) {
        let node = &self.nodes[at];
        (self.firsts[at], self.gaps[at]) = (node.firsts[0], node.gap_max);
    }

    /// Whether invariants 1 to 4 hold.
    #[cfg(test)]
    pub(super) fn check(&self) -> bool {
        let (mut end, mut count) = (0, 0);
        for ((first, gap), node) in self.firsts.iter().zip(&self.gaps).zip(&self.nodes) {
            let mut gap_max = 0;
            for (at, leaf) in node.leaves.iter().enumerate() {
                let is_known = node.firsts[at] == leaf.first_start()
                    && node.gaps[at] == leaf.gap_max
                    && leaf.floor == end;
                let mut gaps = 0;
                for at in 0..leaf.count() {
                    let Some(range) = leaf.get(at).map(|vma| vma.range) else { return false };
                    if range.start.as_u64() < end || range.start.as_u64() != leaf.start(at) {
                        return false;
                    }
                    gaps = gaps.max(range.start.as_u64() - end);
                    end = range.end.as_u64();
                }
                if !is_known || leaf.count() == 0 || leaf.gap_max != gaps || leaf.last_end() != end
                {
                    return false;
                }
                count += leaf.count();
                gap_max = gap_max.max(gaps);
            }
            let padding = node.firsts[node.leaves.len()..].iter().all(|&first| first == NO_START);
            if node.leaves.is_empty()
                || *first != node.firsts[0]
                || node.gap_max != gap_max
                || *gap != gap_max
                || !padding
            {
                return false;
            }
        }
        self.firsts.len() == self.nodes.len() && count == self.count
    }
}
