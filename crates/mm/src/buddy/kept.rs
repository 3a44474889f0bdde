//! Kept frames: adjacent frames, to be taken by number.
//!
//! They stay free, and are on no list meanwhile. Who finds no other frame ends the era: then all
//! that are kept go back to the lists, and whoever kept them has nothing any more.

use core::ops::Range;

use super::{Buddy, Mobility, ORDER_MAX, TAG_KEPT, TAG_NONE, TAG_USED};

/// The most frames that are kept together: a block of the highest order.
pub(crate) const KEPT_MAX: u32 = 1 << ORDER_MAX;
/// Words of one bit for each of them.
const WORDS: usize = KEPT_MAX as usize / 64;

/// Adjacent frames of one who keeps them.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// Its era is that of the allocator, or it has nothing.
    era: u64,
    first: u32,
    count: u32,
    /// Which of them were not taken yet.
    left: [u64; WORDS],
}

impl Kept {
    fn is_left(&self, nth: u32) -> bool {
        nth < self.count && self.left[nth as usize / 64] >> (nth % 64) & 1 != 0
    }
}

impl Buddy {
    /// Keeps `count` adjacent frames, at most [`KEPT_MAX`], for content of a mobility. `None` if no
    /// block of its own page blocks is large enough: nothing has changed.
    pub(crate) fn keep(&mut self, count: u32, mobility: Mobility) -> Option<Kept> {
        debug_assert!((1..=KEPT_MAX).contains(&count), "{count} frames are no block");
        let mobility = self.own(mobility);
        let order = count.next_power_of_two().ilog2();
        let (first, found) =
            self.take_listed(order, mobility).or_else(|| self.carve_own(order, mobility))?;
        self.split(first, found, order);
        self.merge_all(first + count..first + (1 << order));
        self.tag[first as usize..(first + count) as usize].fill(TAG_KEPT);
        self.kept += count;
        Some(Kept { era: self.era, first, count, left: [u64::MAX; WORDS] })
    }

    /// Takes frame `nth` of those that are kept, if it still is.
    pub(crate) fn take_kept(
        &mut self,
        kept: &mut Kept,
        nth: u32,
        mobility: Mobility,
    ) -> Option<u32> {
        if kept.era != self.era || !kept.is_left(nth) {
            return None;
        }
        kept.left[nth as usize / 64] ^= 1 << (nth % 64);
        let frame = kept.first + nth;
        self.tag[frame as usize] = TAG_USED + self.own(mobility) as u8;
        self.kept -= 1;
        self.free -= 1;
        Some(frame)
    }

    /// Gives back what is left of kept frames.
    pub(crate) fn let_go(&mut self, kept: &Kept) {
        if kept.era != self.era {
            return;
        }
        let mut nth = 0;
        while nth < kept.count {
            let start = nth;
            while kept.is_left(nth) {
                nth += 1;
            }
            self.put_back(kept.first + start..kept.first + nth);
            nth += 1;
        }
    }

    /// Gives all kept frames back, whosever they are.
    pub(super) fn end_era(&mut self) {
        self.era += 1;
        let mut frame = 0;
        while self.kept > 0 {
            if self.tag[frame as usize] == TAG_KEPT {
                self.put_back(frame..frame + 1);
            }
            frame += 1;
        }
    }

    /// A block of at least `order` from the fresh part, if that is of a mobility.
    fn carve_own(&mut self, order: u32, mobility: Mobility) -> Option<(u32, u32)> {
        let is_own = self.fresh < self.frame_count && self.kind_of(self.fresh) == mobility;
        is_own.then(|| self.carve(order)).flatten()
    }

    /// Brings kept frames to the lists.
    fn put_back(&mut self, frames: Range<u32>) {
        self.tag[frames.start as usize..frames.end as usize].fill(TAG_NONE);
        self.kept -= frames.end - frames.start;
        self.merge_all(frames);
    }

    /// Brings adjacent frames to the lists, in as few blocks as possible.
    fn merge_all(&mut self, frames: Range<u32>) {
        let Range { mut start, end } = frames;
        while start < end {
            let order = start.trailing_zeros().min((end - start).ilog2());
            self.merge(start, order);
            start += 1 << order;
        }
    }
}
