//! The buddy allocator: free frames in blocks of 2^order frames, orders 0 to 10.
//!
//! ```text
//!   0                                   fresh                     frame_count
//!   |== blocks on lists, hot frames, used ==|== never used, no bookkeeping ==|
//!   | Unmovable | Unmovable | Movable | ...   page blocks of 512 frames
//! ```
//!
//! Frames above `fresh` were never touched: booting builds no lists. A block is carved from there
//! only when no list has one. Splits hand out the lower half, so that frames taken one after the
//! other from fresh memory ascend. Single frames go through a small stack of recently freed ones
//! (the per-CPU lists of Linux), which is not merged, and gets part of a block when it is empty.
//! Adjacent frames can be kept back, to be taken by number, as long as there are others
//! (`buddy/kept.rs`).
//!
//! Each page block is of a mobility, and what is taken comes from one of its own if possible
//! (`buddy/mobility.rs`). It knows numbers of frames only, neither their content nor their users.
//!
//! Invariants
//! 1. A free block starts at a multiple of its size; blocks, hot frames, kept frames and the fresh
//!    part are disjoint.
//! 2. No two free blocks on lists are buddies of one order below the highest.
//! 3. `free` is the sum of the blocks, the hot frames, the kept frames and the fresh part.
//! 4. A free block lies on the list of the mobility of its page blocks, which have the same.
//!
//! # Source
//! Linux 6.12 `mm/page_alloc.c`; semantics PHYS-2; seed 001, "buddy allocator".

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

pub(crate) use kept::{KEPT_MAX, Kept};
pub use mobility::Mobility;
use mobility::{BLOCK_ORDER, KINDS, first_mobility};

mod check;
mod kept;
mod mobility;

/// The number of orders: blocks have 1 to 1,024 frames.
pub(crate) const ORDERS: usize = 11;
/// The highest order.
pub(crate) const ORDER_MAX: u32 = 10;
/// Frames on a hot stack before the oldest are merged back.
const HOT_MAX: usize = 512;
/// How many of the oldest are merged back at once.
const HOT_BATCH: usize = 128;
/// An empty stack gets a block of up to 2^5 frames, about half of what Linux brings at once
/// (`zone_batchsize`: 63).
const REFILL_ORDER: u32 = 5;

/// What starts at a frame: no free block, nor is it used.
const TAG_NONE: u8 = 0;
/// What starts at a frame: a free block of the highest order; lower ones are below.
const TAG_ORDER_MAX: u8 = ORDER_MAX as u8 + 1;
/// What a frame is: used, for the mobility that is added.
const TAG_USED: u8 = 32;
/// What a frame is: kept, to be taken by number.
const TAG_KEPT: u8 = TAG_HOT - 1;
/// What starts at a frame: it lies on a hot stack.
const TAG_HOT: u8 = u8::MAX;

/// The free frames of the machine.
#[derive(Debug)]
pub(crate) struct Buddy {
    frame_count: u32,
    /// First frame that was never carved.
    fresh: u32,
    /// Next and previous block of the same list, as frame + 1; 0 ends it.
    next: Vec<u32>,
    previous: Vec<u32>,
    /// Order + 1 of the free block that starts here, or `TAG_NONE`, `TAG_USED`, `TAG_KEPT` or
    /// `TAG_HOT`.
    tag: Vec<u8>,
    /// The mobility of each page block.
    kinds: Vec<Mobility>,
    /// Of each mobility the first block of each order, as frame + 1.
    heads: [[u32; ORDERS]; KINDS],
    counts: [[u32; ORDERS]; KINDS],
    /// Recently freed single frames of page blocks of each mobility, the newest at the back.
    hot: [VecDeque<u32>; KINDS],
    free: u32,
    /// How many of the free frames are kept, and in which era.
    kept: u32,
    era: u64,
    /// Whether there is more than one mobility.
    is_grouped: bool,
}

impl Buddy {
    /// All of `frame_count` frames, free, of a machine of `machine_frames` in all zones.
    pub(crate) fn new(frame_count: u32, machine_frames: u32) -> Self {
        let length = frame_count as usize;
        let first = first_mobility(machine_frames);
        Self {
            frame_count,
            fresh: 0,
            next: vec![0; length],
            previous: vec![0; length],
            tag: vec![TAG_NONE; length],
            kinds: vec![first; length.div_ceil(1 << BLOCK_ORDER)],
            heads: [[0; ORDERS]; KINDS],
            counts: [[0; ORDERS]; KINDS],
            hot: [const { VecDeque::new() }; KINDS],
            free: frame_count,
            kept: 0,
            era: 0,
            is_grouped: first == Mobility::Movable,
        }
    }

    /// How many frames are free.
    pub(crate) const fn free_count(&self) -> u32 {
        self.free
    }

    /// How many blocks of each order are free for each mobility; the fresh part counts as blocks
    /// of the highest order.
    pub(crate) fn block_counts(&self) -> [[u32; ORDERS]; KINDS] {
        let mut counts = self.counts;
        let mut first = self.fresh;
        while first < self.frame_count {
            let order = self.fresh_order(first);
            counts[self.kind_of(first) as usize][order as usize] += 1;
            first += 1 << order;
        }
        counts
    }

    /// Takes one frame, for content of a mobility.
    #[inline]
    pub(crate) fn alloc_frame(&mut self, mobility: Mobility) -> Option<u32> {
        let mobility = self.own(mobility);
        let frame = match self.hot[mobility as usize].pop_back() {
            Some(frame) => frame,
            None => self.refill(mobility)?,
        };
        self.tag[frame as usize] = TAG_USED + mobility as u8;
        self.free -= 1;
        Some(frame)
    }

    /// The frame that [`Self::alloc_frame`] will hand out, if it is a hot one.
    #[inline]
    pub(crate) fn next_frame(&self, mobility: Mobility) -> Option<u32> {
        let mobility = self.own(mobility);
        self.hot[mobility as usize].back().copied()
    }

    /// Gives one frame back.
    #[inline]
    pub(crate) fn free_frame(&mut self, frame: u32) {
        debug_assert!(self.is_used(frame), "frame {frame:#x} is freed twice");
        self.tag[frame as usize] = TAG_HOT;
        let kind = self.kind_of(frame) as usize;
        self.hot[kind].push_back(frame);
        self.free += 1;
        if self.hot[kind].len() > HOT_MAX {
            self.cool(kind, HOT_BATCH);
        }
    }

    /// Takes a block of 2^`order` frames and returns its first.
    pub(crate) fn alloc(&mut self, order: u32, mobility: Mobility) -> Option<u32> {
        debug_assert!(order <= ORDER_MAX, "order {order} is above 10");
        let mobility = self.own(mobility);
        let (first, found) = self.take_or_cool(order, mobility)?;
        self.split(first, found, order);
        let used = TAG_USED + mobility as u8;
        match order {
            0 => self.tag[first as usize] = used,
            _ => self.tag[first as usize..first as usize + (1 << order)].fill(used),
        }
        self.free -= 1 << order;
        Some(first)
    }

    /// Gives a block of 2^`order` frames back.
    pub(crate) fn free(&mut self, first: u32, order: u32) {
        self.tag[first as usize..first as usize + (1 << order)].fill(TAG_NONE);
        self.merge(first, order);
        self.free += 1 << order;
    }

    /// Every free block as (first frame, order): lists, hot and kept frames and the fresh part.
    pub(crate) fn free_blocks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let listed = self.tag[..self.fresh as usize].iter().enumerate().filter_map(|(i, &tag)| {
            let order = match tag {
                TAG_HOT | TAG_KEPT => 0,
                1..=TAG_ORDER_MAX => u32::from(tag) - 1,
                _ => return None,
            };
            u32::try_from(i).ok().map(|first| (first, order))
        });
        listed.chain((self.fresh..self.frame_count).map(|frame| (frame, 0)))
    }

    /// Of which page blocks a request is met first: without groups all are of one mobility.
    #[inline]
    const fn own(&self, mobility: Mobility) -> Mobility {
        if self.is_grouped { mobility } else { Mobility::Unmovable }
    }

    #[inline]
    fn kind_of(&self, frame: u32) -> Mobility {
        self.kinds[(frame >> BLOCK_ORDER) as usize]
    }

    fn is_used(&self, frame: u32) -> bool {
        (TAG_USED..TAG_KEPT).contains(&self.tag[frame as usize])
    }

    /// Splits off a frame to be taken, and puts those behind it on the hot stack.
    fn refill(&mut self, mobility: Mobility) -> Option<u32> {
        let (first, found) = self.take_or_cool(0, mobility)?;
        let is_own = self.kind_of(first) == mobility;
        let order = if is_own { found.min(REFILL_ORDER) } else { 0 };
        self.split(first, found, order);
        let rest = first + 1..first + (1 << order);
        self.tag[rest.start as usize..rest.end as usize].fill(TAG_HOT);
        self.hot[mobility as usize].extend(rest.rev());
        Some(first)
    }

    /// Puts the upper halves of an unlinked block on their lists, down to a block of `order`.
    fn split(&mut self, first: u32, found: u32, order: u32) {
        for half in (order..found).rev() {
            self.push(first + (1 << half), half);
        }
    }

    /// [`Self::take_block`], and again with all hot and kept frames merged if there is none.
    fn take_or_cool(&mut self, order: u32, mobility: Mobility) -> Option<(u32, u32)> {
        self.take_block(order, mobility).or_else(|| {
            for kind in 0..KINDS {
                self.cool(kind, usize::MAX);
            }
            self.end_era();
            self.take_block(order, mobility)
        })
    }

    /// The smallest block of at least `order`, unlinked: of its own mobility, from the lists, else
    /// fresh; else of another.
    fn take_block(&mut self, order: u32, mobility: Mobility) -> Option<(u32, u32)> {
        self.take_listed(order, mobility).or_else(|| {
            if self.is_grouped && mobility != Mobility::Movable {
                return self.steal(order, mobility);
            }
            self.carve(order).or_else(|| self.steal(order, mobility))
        })
    }

    /// The smallest block of at least `order` on the lists of a mobility, unlinked.
    fn take_listed(&mut self, order: u32, mobility: Mobility) -> Option<(u32, u32)> {
        for found in order..=ORDER_MAX {
            let head = self.heads[mobility as usize][found as usize];
            if head != 0 {
                self.unlink(head - 1, found);
                return Some((head - 1, found));
            }
        }
        None
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

    /// Merges the `count` oldest hot frames of page blocks of a mobility into the lists.
    fn cool(&mut self, kind: usize, count: usize) {
        for _ in 0..count {
            let Some(frame) = self.hot[kind].pop_front() else { return };
            self.tag[frame as usize] = TAG_NONE;
            self.merge(frame, 0);
        }
    }

    /// Puts a block on its list after merging it with its free buddies. What lies above a page
    /// block is of one mobility: that of the block that came last.
    fn merge(&mut self, mut first: u32, mut order: u32) {
        debug_assert!(self.tag[first as usize] == TAG_NONE, "block {first:#x} is freed twice");
        let kind = self.kind_of(first);
        while order < ORDER_MAX {
            let buddy = first ^ (1 << order);
            if !self.has_block(buddy, order) {
                break;
            }
            self.unlink(buddy, order);
            if order >= BLOCK_ORDER {
                self.set_kind(buddy, order, kind);
            }
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
        let kind = self.kind_of(first) as usize;
        let head = self.heads[kind][order as usize];
        self.next[first as usize] = head;
        self.previous[first as usize] = 0;
        if head != 0 {
            self.previous[head as usize - 1] = first + 1;
        }
        self.heads[kind][order as usize] = first + 1;
        self.counts[kind][order as usize] += 1;
        self.tag[first as usize] = order as u8 + 1;
    }

    #[inline]
    fn unlink(&mut self, first: u32, order: u32) {
        let kind = self.kind_of(first) as usize;
        let (next, previous) = (self.next[first as usize], self.previous[first as usize]);
        if previous == 0 {
            self.heads[kind][order as usize] = next;
        } else {
            self.next[previous as usize - 1] = next;
        }
        if next != 0 {
            self.previous[next as usize - 1] = previous;
        }
        self.counts[kind][order as usize] -= 1;
        self.tag[first as usize] = TAG_NONE;
    }
}

#[cfg(test)]
mod tests;
