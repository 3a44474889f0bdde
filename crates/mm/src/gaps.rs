//! The free ranges between VMAs, ordered by address, in blocks that know their largest one.
//!
//! ```text
//! blocks   [largest 9]        [largest 4]   [largest 7]
//! gaps     2..5 8..17 20..21  30..34        40..41 50..57 60..61
//! ```
//! A search looks at one number per block until a block has a gap that is large enough: with n gaps
//! that is about n/64 steps, and two binary searches for every change.
//!
//! Invariants
//! 1. The gaps are exactly the maximal free ranges between VMAs (see `vma_tree.rs`).
//! 2. Blocks are not empty, hold at most [`BLOCK_GAPS`] gaps, and know the length of the largest.

use alloc::vec::Vec;

/// The most gaps in one block.
const BLOCK_GAPS: usize = 128;
/// Two neighbours that have no more gaps than this together become one block.
const MERGED_GAPS: usize = 48;

/// A free range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Gap {
    start: u64,
    end: u64,
}

impl Gap {
    const fn bytes(self) -> u64 {
        self.end - self.start
    }
}

#[derive(Clone, Debug)]
struct Block {
    largest_bytes: u64,
    gaps: Vec<Gap>,
}

impl Block {
    fn new(gaps: Vec<Gap>) -> Self {
        let mut block = Self { largest_bytes: 0, gaps };
        block.measure();
        block
    }

    fn start(&self) -> u64 {
        self.gaps[0].start
    }

    fn measure(&mut self) {
        self.largest_bytes = self.gaps.iter().map(|gap| gap.bytes()).max().unwrap_or(0);
    }

    /// Index of the first gap that starts at or above `start`.
    fn position(&self, start: u64) -> usize {
        self.gaps.partition_point(|gap| gap.start < start)
    }
}

/// All free ranges of an address space.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gaps {
    blocks: Vec<Block>,
}

impl Gaps {
    /// Index of the block in which a gap that starts at `start` belongs.
    fn block_of(&self, start: u64) -> usize {
        self.blocks.partition_point(|block| block.start() <= start).saturating_sub(1)
    }

    /// Adds the gap `start..end`; an empty one is nothing.
    pub(crate) fn insert(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let gap = Gap { start, end };
        let at = self.block_of(start);
        let Some(block) = self.blocks.get_mut(at) else {
            self.blocks.push(Block::new(alloc::vec![gap]));
            return;
        };
        let position = block.position(start);
        block.gaps.insert(position, gap);
        block.largest_bytes = block.largest_bytes.max(gap.bytes());
        if block.gaps.len() > BLOCK_GAPS {
            let upper = block.gaps.split_off(BLOCK_GAPS / 2);
            block.measure();
            self.blocks.insert(at + 1, Block::new(upper));
        }
    }

    /// Removes the gap `start..end`, which is there, or is empty.
    pub(crate) fn remove(&mut self, start: u64, end: u64) {
        if start >= end {
            return;
        }
        let at = self.block_of(start);
        let block = &mut self.blocks[at];
        let position = block.position(start);
        let gap = block.gaps.remove(position);
        debug_assert!(gap == Gap { start, end }, "the index holds every gap");
        if gap.bytes() == block.largest_bytes {
            block.measure();
        }
        self.tidy(at);
    }

    /// Removes block `at` if it is empty, or takes the next one in if both are small.
    fn tidy(&mut self, at: usize) {
        let count = self.blocks[at].gaps.len();
        if count == 0 {
            self.blocks.remove(at);
        } else if count + self.blocks.get(at + 1).map_or(BLOCK_GAPS, |next| next.gaps.len())
            <= MERGED_GAPS
        {
            let next = self.blocks.remove(at + 1);
            let block = &mut self.blocks[at];
            block.gaps.extend(next.gaps);
            block.largest_bytes = block.largest_bytes.max(next.largest_bytes);
        }
    }

    /// The highest start at which `bytes` are free inside `low..high`.
    pub(crate) fn highest(&self, bytes: u64, low: u64, high: u64) -> Option<u64> {
        let blocks = &self.blocks[..self.blocks.partition_point(|block| block.start() < high)];
        for block in blocks.iter().rev().filter(|block| block.largest_bytes >= bytes) {
            for gap in block.gaps.iter().rev() {
                if gap.end <= low {
                    return None;
                }
                let at = gap.end.min(high).checked_sub(bytes);
                if let Some(at) = at.filter(|&at| at >= gap.start.max(low)) {
                    return Some(at);
                }
            }
        }
        None
    }

    /// The lowest start at which `bytes` are free inside `low..high`.
    pub(crate) fn lowest(&self, bytes: u64, low: u64, high: u64) -> Option<u64> {
        let blocks = &self.blocks[self.block_of(low).min(self.blocks.len())..];
        for block in blocks.iter().filter(|block| block.largest_bytes >= bytes) {
            for gap in &block.gaps {
                if gap.start >= high {
                    return None;
                }
                let at = gap.start.max(low);
                let end = at.checked_add(bytes);
                if end.is_some_and(|end| end <= gap.end.min(high)) {
                    return Some(at);
                }
            }
        }
        None
    }
}
