//! Where there is room between VMAs: whole blocks without a gap that is large enough are skipped.

use super::{Blocks, Place};

impl Blocks {
    /// End of the last VMA; 0 if there is none.
    fn last_end(&self) -> u64 {
        let leaf = self.nodes.last().and_then(|node| node.leaves.last());
        leaf.map_or(0, |leaf| leaf.last_end())
    }

    /// The highest start at which `bytes` are free inside `low..high`.
    pub(in crate::vma_tree) fn highest_gap(&self, bytes: u64, low: u64, high: u64) -> Option<u64> {
        let fits = |start: u64, end: u64| {
            let at = end.min(high).checked_sub(bytes)?;
            (at >= start.max(low)).then_some(at)
        };
        // The gap that `high` cuts is above the last VMA that starts below it.
        let Some(below) = high.checked_sub(1).and_then(|last| self.at_or_below(last)) else {
            let end = self.first().map_or(u64::MAX, |first| self.leaf(first).start(0));
            return fits(0, end);
        };
        let start = self.get(below)?.range.end.as_u64();
        let above = self.next(below).map_or(u64::MAX, |next| self.leaf(next).start(next.at));
        if let Some(at) = fits(start, above) {
            return Some(at);
        }
        let mut next = Some(below);
        while let Some(place) = next {
            let leaf = self.leaf(place);
            if leaf.gap_max >= bytes
                && let Some(at) = (0..=place.at).rev().find(|&at| leaf.gap(at) >= bytes)
            {
                return fits(leaf.end_before(at), leaf.start(at));
            }
            if leaf.floor < low {
                return None;
            }
            next = self.previous_leaf(place).and_then(|place| self.leaf_below(place, bytes));
        }
        None
    }

    /// The last VMA of the first leaf at or before that of `place` with a gap of `bytes`.
    fn leaf_below(&self, place: Place, bytes: u64) -> Option<Place> {
        let found = self.nodes[place.node].gaps[..=place.leaf].iter().rposition(|&g| g >= bytes);
        let (node, leaf) = match found {
            Some(leaf) => (place.node, leaf),
            None => {
                let node = self.gaps[..place.node].iter().rposition(|&gap| gap >= bytes)?;
                (node, self.nodes[node].gaps.iter().rposition(|&gap| gap >= bytes)?)
            }
        };
        Some(Place { node, leaf, at: self.nodes[node].leaves[leaf].count() - 1 })
    }

    /// The lowest start at which `bytes` are free inside `low..high`.
    pub(in crate::vma_tree) fn lowest_gap(&self, bytes: u64, low: u64, high: u64) -> Option<u64> {
        let fits = |start: u64, end: u64| {
            let at = start.max(low);
            (at.checked_add(bytes)? <= end.min(high)).then_some(at)
        };
        let mut next = match self.at_or_below(low) {
            Some(below) => self.next(below),
            None => self.first(),
        };
        while let Some(place) = next {
            let leaf = self.leaf(place);
            if leaf.gap_max >= bytes {
                let mut gaps = (place.at..leaf.count()).filter(|&at| leaf.gap(at) >= bytes);
                let found = gaps.find_map(|at| fits(leaf.end_before(at), leaf.start(at)));
                if found.is_some() {
                    return found;
                }
            }
            if leaf.last_end() >= high {
                return None;
            }
            next = self.next_leaf(place).and_then(|place| self.leaf_above(place, bytes));
        }
        fits(self.last_end(), u64::MAX)
    }

    /// The first VMA of the first leaf at or behind that of `place` with a gap of `bytes`.
    fn leaf_above(&self, place: Place, bytes: u64) -> Option<Place> {
        let node = &self.nodes[place.node];
        let rest = node.gaps[..node.leaves.len()].get(place.leaf..)?;
        if let Some(more) = rest.iter().position(|&gap| gap >= bytes) {
            return Some(Place { leaf: place.leaf + more, at: 0, ..place });
        }
        let rest = self.gaps.get(place.node + 1..)?;
        let node = place.node + 1 + rest.iter().position(|&gap| gap >= bytes)?;
        let leaf = self.nodes[node].gaps.iter().position(|&gap| gap >= bytes)?;
        Some(Place { node, leaf, at: 0 })
    }
}
