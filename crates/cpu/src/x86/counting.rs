//! Execution counters of blocks, kept only when instructions are counted.

use super::records::Block;
use super::translate::BlockId;
use core::sync::atomic::{AtomicU64, Ordering};

/// Blocks in one generation when instructions are counted.
const COUNTERS: usize = 1 << 20;

/// One counter for each block of the present generation, and the sum of former ones.
#[derive(Debug)]
pub(super) struct Counting {
    counters: Box<[AtomicU64]>,
    total: u64,
}

impl Counting {
    pub(super) fn new() -> Self {
        Self { counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect(), total: 0 }
    }

    /// The host address of the counter of block `id`.
    pub(super) fn add(&mut self, id: BlockId) -> u64 {
        let counter = &self.counters[id as usize % COUNTERS];
        core::ptr::from_ref(counter) as u64
    }

    /// Instructions of a block that were counted but not executed.
    pub(super) fn take_back(&mut self, count: u64) {
        self.total = self.total.wrapping_sub(count);
    }

    /// Adds the counters to the total and clears them: the blocks are being forgotten.
    pub(super) fn fold(&mut self, blocks: &[Block]) {
        self.total = self.sum(blocks);
        for counter in self.counters.iter().take(blocks.len()) {
            counter.store(0, Ordering::Relaxed);
        }
    }

    /// Instructions executed so far.
    pub(super) fn sum(&self, blocks: &[Block]) -> u64 {
        blocks.iter().zip(&self.counters).fold(self.total, |total, (block, counter)| {
            let executions = counter.load(Ordering::Relaxed);
            total.wrapping_add(executions.wrapping_mul(u64::from(block.instruction_count)))
        })
    }
}
