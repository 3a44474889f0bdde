//! The buddy allocator: free frames in blocks of 2^order frames, orders 0 to 10.
//!
//! ```text
//!   0                                   fresh                     frame_count
//!   |== blocks on lists, hot frames, used ==|== never used, no bookkeeping ==|
//! ```
//!
//! Frames above `fresh` were never touched: booting builds no lists. A block is carved from there
//! only when no list has one. Splits hand out the lower half, so that frames taken one after the
//! other from fresh memory ascend. Single frames go through a small stack of recently freed ones
//! (the per-CPU lists of Linux), which is not merged.
//!
//! It knows numbers of frames only, neither their content nor their users.
//!
//! Invariants
//! 1. A free block starts at a multiple of its size; blocks, hot frames and the fresh part are
//!    disjoint.
//! 2. No two free blocks on lists are buddies of one order below the highest.
//! 3. `free` is the sum of the blocks, the hot frames and the fresh part.
//!
//! # Source
//! Linux 6.12 `mm/page_alloc.c`; semantics PHYS-2; seed 001, "buddy allocator".

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

/// The number of orders: blocks have 1 to 1,024 frames.
pub(crate) const ORDERS: usize = 11;
/// The highest order.
const ORDER_MAX: u32 = 10;
/// Frames on the hot stack before the oldest are merged back.
const HOT_MAX: usize = 512;
/// How many of the oldest are merged back at once.
const HOT_BATCH: usize = 128;

/// What starts at a frame: nothing free.
const TAG_NONE: u8 = 0;
/// What starts at a frame: it lies on the hot stack.
const TAG_HOT: u8 = u8::MAX;

/// The free frames of the machine.
#[derive(Debug)]
pub(crate) struct Buddy {
    frame_count: u32,
    /// First frame that was never carved.
    fresh: u32,
    /// Next and previous block of the same order, as frame + 1; 0 ends the list.
    next: Vec<u32>,
    previous: Vec<u32>,
    /// Order + 1 of the free block that starts here, or `TAG_NONE`, or `TAG_HOT`.
    tag: Vec<u8>,
    /// First block of each order, as frame + 1.
    heads: [u32; ORDERS],
    counts: [u32; ORDERS],
    /// Recently freed single frames, the newest at the back.
    hot: VecDeque<u32>,
    free: u32,
}

impl Buddy {
    /// All of `frame_count` frames, free.
    pub(crate) fn new(frame_count: u32) -> Self {
        let length = frame_count as usize;
        Self {
            frame_count,
            fresh: 0,
            next: vec![0; length],
            previous: vec![0; length],
            tag: vec![TAG_NONE; length],
            heads: [0; ORDERS],
            counts: [0; ORDERS],
            hot: VecDeque::with_capacity(HOT_MAX + 1),
            free: frame_count,
        }
    }

    /// How many frames are free.
    pub(crate) const fn free_count(&self) -> u32 {
        self.free
    }

    /// How many blocks of each order are on lists, as `/proc/buddyinfo` shows them once the fresh
    /// part is counted as blocks of the highest order.
    pub(crate) fn block_counts(&self) -> [u32; ORDERS] {
        let mut counts = self.counts;
        let mut first = self.fresh;
        while first < self.frame_count {
            let order = self.fresh_order(first);
            counts[order as usize] += 1;
            first += 1 << order;
        }
        counts
    }

    /// Takes one frame.
    #[inline]
    pub(crate) fn alloc_frame(&mut self) -> Option<u32> {
        let Some(frame) = self.hot.pop_back() else {
            return self.alloc(0);
        };
        self.tag[frame as usize] = TAG_NONE;
        self.free -= 1;
        Some(frame)
    }

    /// Gives one frame back.
    #[inline]
    pub(crate) fn free_frame(&mut self, frame: u32) {
        debug_assert!(self.tag[frame as usize] == TAG_NONE, "frame {frame:#x} is freed twice");
        self.tag[frame as usize] = TAG_HOT;
        self.hot.push_back(frame);
        self.free += 1;
        if self.hot.len() > HOT_MAX {
            self.cool(HOT_BATCH);
        }
    }

    /// Takes a block of 2^`order` frames and returns its first.
    pub(crate) fn alloc(&mut self, order: u32) -> Option<u32> {
        debug_assert!(order <= ORDER_MAX, "order {order} is above 10");
        let (first, found) = match self.take_block(order) {
            Some(block) => block,
            None => {
                self.cool(self.hot.len());
                self.take_block(order)?
            }
        };
        for half in (order..found).rev() {
            self.push(first + (1 << half), half);
        }
        self.free -= 1 << order;
        Some(first)
    }

    /// Gives a block of 2^`order` frames back.
    pub(crate) fn free(&mut self, first: u32, order: u32) {
        self.merge(first, order);
        self.free += 1 << order;
    }

    /// Every free block as (first frame, order): lists, hot frames and the fresh part.
    pub(crate) fn free_blocks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let listed = self.tag[..self.fresh as usize].iter().enumerate().filter_map(|(i, &tag)| {
            let order = match tag {
                TAG_NONE => return None,
                TAG_HOT => 0,
                _ => u32::from(tag) - 1,
            };
            u32::try_from(i).ok().map(|first| (first, order))
        });
        listed.chain((self.fresh..self.frame_count).map(|frame| (frame, 0)))
    }

    /// Whether the lists, tags and counts agree with each other and with invariants 1 to 3.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        let mut free = self.frame_count - self.fresh;
        free += self.hot.len() as u32;
        for order in 0..=ORDER_MAX {
            free += self.check_list(order)? << order;
        }
        if self.hot.iter().any(|&frame| self.tag[frame as usize] != TAG_HOT) {
            return Err("a hot frame has no hot tag");
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

    fn check_list(&self, order: u32) -> Result<u32, &'static str> {
        let (mut link, mut previous, mut count) = (self.heads[order as usize], 0, 0);
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
            count += 1;
            previous = link;
            link = self.next[first as usize];
        }
        if count == self.counts[order as usize] { Ok(count) } else { Err("a list count is wrong") }
    }

    /// The smallest block of at least `order`, unlinked: from the lists, else fresh.
    fn take_block(&mut self, order: u32) -> Option<(u32, u32)> {
        for found in order..=ORDER_MAX {
            let head = self.heads[found as usize];
            if head != 0 {
                self.unlink(head - 1, found);
                return Some((head - 1, found));
            }
        }
        self.carve(order)
    }

    /// A block of at least `order` from the fresh part.
    fn carve(&mut self, order: u32) -> Option<(u32, u32)> {
        while self.fresh < self.frame_count {
            let (first, found) = (self.fresh, self.fresh_order(self.fresh));
            self.fresh += 1 << found;
            if found >= order {
                return Some((first, found));
            }
            self.merge(first, found);
        }
        None
    }

    /// The order of the largest aligned block at `first` that ends inside RAM.
    fn fresh_order(&self, first: u32) -> u32 {
        let fits = (self.frame_count - first).ilog2();
        first.trailing_zeros().min(fits).min(ORDER_MAX)
    }

    /// Merges the `count` oldest hot frames into the lists.
    fn cool(&mut self, count: usize) {
        for _ in 0..count {
            let Some(frame) = self.hot.pop_front() else { return };
            self.tag[frame as usize] = TAG_NONE;
            self.merge(frame, 0);
        }
    }

    /// Puts a block on its list after merging it with its free buddies.
    fn merge(&mut self, mut first: u32, mut order: u32) {
        debug_assert!(self.tag[first as usize] == TAG_NONE, "block {first:#x} is freed twice");
        while order < ORDER_MAX {
            let buddy = first ^ (1 << order);
            if !self.has_block(buddy, order) {
                break;
            }
            self.unlink(buddy, order);
            first &= buddy;
            order += 1;
        }
        self.push(first, order);
    }

    fn has_block(&self, first: u32, order: u32) -> bool {
        self.tag.get(first as usize).is_some_and(|&tag| u32::from(tag) == order + 1)
    }

    #[inline]
    fn push(&mut self, first: u32, order: u32) {
        let head = self.heads[order as usize];
        self.next[first as usize] = head;
        self.previous[first as usize] = 0;
        if head != 0 {
            self.previous[head as usize - 1] = first + 1;
        }
        self.heads[order as usize] = first + 1;
        self.counts[order as usize] += 1;
        self.tag[first as usize] = order as u8 + 1;
    }

    #[inline]
    fn unlink(&mut self, first: u32, order: u32) {
        let (next, previous) = (self.next[first as usize], self.previous[first as usize]);
        if previous == 0 {
            self.heads[order as usize] = next;
        } else {
            self.next[previous as usize - 1] = next;
        }
        if next != 0 {
            self.previous[next as usize - 1] = previous;
        }
        self.counts[order as usize] -= 1;
        self.tag[first as usize] = TAG_NONE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_frames_ascend_and_come_back() {
        let mut buddy = Buddy::new(5000);
        let taken: Vec<u32> = (0..5000).filter_map(|_| buddy.alloc_frame()).collect();
        assert!(taken.iter().copied().eq(0..5000));
        assert_eq!(buddy.alloc_frame(), None);
        assert_eq!(buddy.free_count(), 0);
        for &frame in taken.iter().rev() {
            buddy.free_frame(frame);
        }
        assert_eq!(buddy.check(), Ok(()));
        assert_eq!(buddy.free_count(), 5000);
        assert!((0..100).filter_map(|_| buddy.alloc_frame()).eq(0..100));
    }

    #[test]
    fn the_last_freed_frame_is_the_next_taken() {
        let mut buddy = Buddy::new(64);
        let frames: Vec<u32> = (0..8).filter_map(|_| buddy.alloc_frame()).collect();
        buddy.free_frame(frames[3]);
        buddy.free_frame(frames[5]);
        assert_eq!(buddy.alloc_frame(), Some(5));
        assert_eq!(buddy.alloc_frame(), Some(3));
        assert_eq!(buddy.alloc_frame(), Some(8));
    }

    #[test]
    fn hot_frames_merge_when_a_block_is_wanted() {
        let mut buddy = Buddy::new(1024);
        let frames: Vec<u32> = (0..1024).filter_map(|_| buddy.alloc_frame()).collect();
        for frame in frames {
            buddy.free_frame(frame);
        }
        assert_eq!(buddy.alloc(10), Some(0));
        assert_eq!(buddy.alloc(0), None);
        buddy.free(0, 10);
        assert_eq!(buddy.block_counts()[10], 1);
        assert_eq!(buddy.check(), Ok(()));
    }

    #[test]
    fn a_ram_that_is_no_power_of_two_has_small_blocks_at_its_end() {
        let mut buddy = Buddy::new(1024 + 256 + 3);
        assert_eq!(buddy.block_counts(), [1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 1]);
        assert_eq!(buddy.alloc(10), Some(0));
        assert_eq!(buddy.alloc(9), None);
        assert_eq!(buddy.alloc(8), Some(1024));
        assert_eq!(buddy.free_count(), 3);
        assert_eq!(buddy.check(), Ok(()));
    }

    #[test]
    fn random_blocks_keep_the_invariants() {
        let mut buddy = Buddy::new(3000);
        let (mut held, mut seed) = (Vec::new(), 1u64);
        for step in 0..4000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let order = (seed >> 33) as u32 % 11;
            if seed >> 60 < 8 {
                held.extend(buddy.alloc(order).map(|first| (first, order)));
            } else if !held.is_empty() {
                let (first, order) = held.swap_remove((seed >> 40) as usize % held.len());
                buddy.free(first, order);
            }
            if step % 16 == 0 {
                assert_eq!(buddy.check(), Ok(()));
            }
        }
        for (first, order) in held {
            buddy.free(first, order);
        }
        assert_eq!(buddy.check(), Ok(()));
        assert_eq!(buddy.block_counts(), Buddy::new(3000).block_counts());
    }
}
