//! How many neighbours come with a page from swap.
//!
//! # Source
//! Linux 6.12 `mm/swap_state.c:__swapin_nr_pages`; semantics SWAP-4.

use core::cmp::Ordering;

/// What earlier swap-ins of a range taught.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct History {
    /// Page index of the last fault.
    last_index: u64,
    /// Pages brought ahead and used since.
    hits: u32,
    window: u32,
}

impl History {
    /// Whether the fault before was on the page before (greater), on the page behind (less), or
    /// elsewhere.
    pub(crate) fn direction(&self, index: u64) -> Ordering {
        match index.wrapping_sub(self.last_index) {
            1 => Ordering::Greater,
            u64::MAX => Ordering::Less,
            _ => Ordering::Equal,
        }
    }

    /// Notes that a page that was brought ahead is used.
    pub(crate) fn note_hit(&mut self) {
        self.hits = self.hits.saturating_add(1);
    }

    /// How many pages to bring for a fault on page `index`, itself included: 1 to
    /// `1 << page_cluster`. Hits count from here anew.
    pub(crate) fn next_window(&mut self, index: u64, page_cluster: u32) -> u32 {
        let max = 1_u32 << page_cluster.min(5);
        let hits = core::mem::take(&mut self.hits);
        let is_adjacent = index.abs_diff(self.last_index) == 1;
        let wanted = match hits {
            0 if !is_adjacent => 1,
            hits => (hits + 2).next_power_of_two().max(4),
        };
        self.last_index = index;
        // Not less than half of the last window: one bad guess does not undo many good ones.
        self.window = wanted.max(self.window / 2).min(max).max(1);
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::History;

    #[test]
    fn windows_grow_with_hits_and_shrink_by_halves() {
        let mut history = History { last_index: 50, ..History::default() };
        assert_eq!(history.next_window(1000, 3), 1, "nothing known");
        assert_eq!(history.next_window(1001, 3), 4, "the next page");
        for _ in 0..3 {
            history.note_hit();
        }
        assert_eq!(history.next_window(1005, 3), 8);
        assert_eq!(history.next_window(9, 3), 4, "half of it at first");
        assert_eq!(history.next_window(700, 3), 2);
        assert_eq!(history.next_window(30, 3), 1);
        assert_eq!(history.next_window(31, 0), 1, "page-cluster 0 reads one page");
    }
}
