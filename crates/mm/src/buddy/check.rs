//! Derives the invariants of the free lists again.

use super::mobility::BLOCK_ORDER;
use super::{Buddy, Mobility, ORDER_MAX, TAG_HOT, TAG_KEPT};

impl Buddy {
    /// Whether the lists, tags and counts agree with each other and with invariants 1 to 4.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut free = self.frame_count - self.fresh + self.kept;
        for (hot, kind) in self.hot.iter().zip(Mobility::ALL) {
            free += hot.len() as u32;
            for order in 0..=ORDER_MAX {
                free += self.check_list(order, kind)? << order;
            }
            if hot.iter().any(|&frame| self.tag[frame as usize] != TAG_HOT) {
                return Err("a hot frame has no hot tag");
            }
        }
        if self.tag.iter().filter(|&&tag| tag == TAG_KEPT).count() != self.kept as usize {
            return Err("the kept frames are not as many as noted");
        }
        let tagged: u32 = self.free_blocks().map(|(_, order)| 1 << order).sum();
        if free != self.free || tagged != self.free {
            return Err("the free count is not the sum of the free blocks");
        }
        let mut end = 0;
        for (first, order) in self.free_blocks() {
            if first < end {
                return Err("two free blocks overlap");
            }
            end = first + (1 << order);
        }
        if end > self.frame_count { Err("a free block passes the end of RAM") } else { Ok(()) }
    }

    fn check_list(&self, order: u32, kind: Mobility) -> Result<u32, &'static str> {
        let mut link = self.heads[kind as usize][order as usize];
        let (mut previous, mut count) = (0, 0);
        while link != 0 {
            let first = link - 1;
            let buddy = first ^ (1 << order);
            if first & ((1 << order) - 1) != 0 {
                return Err("a free block is not aligned");
            }
            if u32::from(self.tag[first as usize]) != order + 1 {
                return Err("a block on a list has another tag");
            }
            if self.previous[first as usize] != previous {
                return Err("a free list is not linked both ways");
            }
            if order < ORDER_MAX && self.has_block(buddy, order) {
                return Err("two free buddies are not merged");
            }
            let last = first + (1 << order) - 1;
            let page_blocks = first >> BLOCK_ORDER..=last >> BLOCK_ORDER;
            if !page_blocks.into_iter().all(|block| self.kinds[block as usize] == kind) {
                return Err("a block is on the list of another mobility");
            }
            count += 1;
            previous = link;
            link = self.next[first as usize];
        }
        let noted = self.counts[kind as usize][order as usize];
        if count == noted { Ok(count) } else { Err("a list count is wrong") }
    }
}
