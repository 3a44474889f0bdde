//! Any page.

use machine::Frame;

use super::{PageSeen, Queue, Replacement, Verdict};

/// Evicts a page by a sequence of numbers that the seed begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    /// A sequence for `seed`.
    pub(super) const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    ///
    /// # Source
    /// Steele, Lea, Flood, "Fast splittable pseudorandom number generators" (2014): `SplitMix64`.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl Replacement for Random {
    fn name(&self) -> &'static str {
        "random"
    }

    fn candidate(&mut self, queue: Queue<'_>) -> Option<Frame> {
        queue.near(self.next())
    }

    fn judge(&mut self, _page: PageSeen) -> Verdict {
        Verdict::Evict
    }
}
