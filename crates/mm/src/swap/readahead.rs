//! How many neighbours come with a page from swap.
//!
//! # Source
//! Linux 6.12 `mm/swap_state.c:__swapin_nr_pages`, `swap_cache_get_folio`; semantics SWAP-4.

use core::cmp::Ordering;

/// What earlier swap-ins of a VMA, or of a rotating device, taught.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct History {
    /// Page index of the last fault on a page that was or had been in swap.
    last_index: u64,
    /// Pages brought ahead and used since.
    hits: u32,
    window: u32,
}

impl Default for History {
    /// Nothing happened yet: the first window is a large one (`GET_SWAP_RA_VAL`).
    fn default() -> Self {
        Self { last_index: 0, hits: 4, window: 0 }
    }
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

    /// Notes that page `index` was found in the swap cache. With it a program that walks on through
    /// what was read ahead is still seen to ascend, or to descend, at the next page to be read.
    pub(crate) fn note_found(&mut self, index: u64) {
        self.last_index = index;
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
        let is_adjacent = self.direction(index) != Ordering::Equal;
        let wanted = match hits {
            0 if is_adjacent => 2,
            0 => 1,
            hits => hits.saturating_add(2).min(max).next_power_of_two().max(4),
        };
        self.last_index = index;
        // Not less than half of the last window: one bad guess does not undo many good ones.
        self.window = wanted.min(max).max(self.window / 2).max(1);
        self.window
    }
}

#[cfg(test)]
mod tests {
    use super::History;

    #[test]
    fn swap_4_windows_grow_with_hits_and_shrink_by_halves() {
        let mut history = History { last_index: 50, hits: 0, window: 0 };
        assert_eq!(history.next_window(1000, 3), 1, "nothing known");
        assert_eq!(history.next_window(1001, 3), 2, "the next page");
        history.note_hit();
        assert_eq!(history.next_window(1003, 3), 4);
        for _ in 0..3 {
            history.note_hit();
        }
        assert_eq!(history.next_window(1007, 3), 8);
        assert_eq!(history.next_window(9, 3), 4, "half of it at first");
        assert_eq!(history.next_window(700, 3), 2);
        assert_eq!(history.next_window(30, 3), 1);
        assert_eq!(history.next_window(31, 0), 1, "page-cluster 0 reads one page");
        assert_eq!(History::default().next_window(77, 3), 8, "the first of a VMA");
    }
}
