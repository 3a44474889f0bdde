//! The middle blocks of the VMA tree: up to 64 leaves with their first starts and largest gaps.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::leaf::{Leaf, NO_START};

/// The most leaves in one node.
pub(super) const NODE_MAX: usize = 64;

/// Neighbouring leaves in order; see `blocks.rs` for the invariants.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) firsts: [u64; NODE_MAX],
    pub(super) gaps: [u64; NODE_MAX],
    pub(super) gap_max: u64,
    #[expect(clippy::vec_box, reason = "leaves stay where they are when others come and go")]
    pub(super) leaves: Vec<Box<Leaf>>,
}

impl Node {
    /// A node without leaves.
    pub(super) fn new() -> Self {
        Self {
            firsts: [NO_START; NODE_MAX],
            gaps: [0; NODE_MAX],
            gap_max: 0,
            leaves: Vec::with_capacity(NODE_MAX),
        }
    }

    /// Puts a leaf before the one at `at`; there must be room.
    pub(super) fn insert(&mut self, at: usize, leaf: Box<Leaf>) {
        let count = self.leaves.len();
        self.firsts.copy_within(at..count, at + 1);
        self.gaps.copy_within(at..count, at + 1);
        self.firsts[at] = leaf.first_start();
        self.gaps[at] = leaf.gap_max;
        self.gap_max = self.gap_max.max(leaf.gap_max);
        self.leaves.insert(at, leaf);
    }

    /// Takes the leaf at `at` out.
    pub(super) fn remove(&mut self, at: usize) -> Box<Leaf> {
        let count = self.leaves.len();
        self.firsts.copy_within(at + 1..count, at);
        self.gaps.copy_within(at + 1..count, at);
        self.firsts[count - 1] = NO_START;
        self.gaps[count - 1] = 0;
        let leaf = self.leaves.remove(at);
        self.measure();
        leaf
    }

    /// Takes over what changed in the leaf at `at`.
    pub(super) fn follow(&mut self, at: usize) {
        let leaf = &self.leaves[at];
        self.firsts[at] = leaf.first_start();
        let (new, old) = (leaf.gap_max, core::mem::replace(&mut self.gaps[at], leaf.gap_max));
        if old < self.gap_max || new >= old {
            self.gap_max = self.gap_max.max(new);
        } else {
            self.measure();
        }
    }

    fn measure(&mut self) {
        self.gap_max = self.gaps[..self.leaves.len()].iter().copied().max().unwrap_or(0);
    }

    /// Moves the leaves from `at` on to a node of their own.
    pub(super) fn split_off(&mut self, at: usize) -> Self {
        let mut upper = Self::new();
        for leaf in self.leaves.drain(at..) {
            upper.insert(upper.leaves.len(), leaf);
        }
        self.firsts[at..].fill(NO_START);
        self.gaps[at..].fill(0);
        self.measure();
        upper
    }
}
