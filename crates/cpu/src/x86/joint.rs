//! Joints: blocks that take the place of the jump to them.
//!
//! A block mostly ends with a jump to what the program does next, which mostly is what is
//! translated next. Then that is emitted over the jump, and the processor goes on from one block to
//! the other without an instruction. When the second block dies, the jump comes back.
//!
//! ```text
//! at first   source: ... jne L; jmp stub
//! joined     source: ... jne L; target: ...
//! later      source: ... jne L; jmp stub; int3, up to the end of the target
//! ```
//!
//! Invariants
//! 1. While a block lives that took the place of a jump, the link of the jump is one of its
//!    incoming ones.
//! 2. A source of whose jump a block took the place has the bytes of another jump in front: there
//!    is room for one that comes back to the source.

use super::cache::BRANCH_BYTES;
use super::emit::Place;
use super::engine::Core;
use super::records::{Block, Link, Offset};
use super::translate::{BlockId, Ways};

/// Whether `target` is where the jump of `link` would be.
pub(super) const fn is_joined(link: &Link, target: &Block) -> bool {
    link.field() == target.body() + 1
}

impl Core {
    /// By which ways the target of a link will be entered.
    pub(super) fn ways_behind(&self, link: &Link) -> Ways {
        let source = &self.pages.blocks[link.source as usize];
        if self.is_crossing(link) {
            Ways::All
        } else if source.is_alive && link.field() > source.base + BRANCH_BYTES as Offset {
            Ways::Behind(link.field())
        } else {
            Ways::Links
        }
    }

    /// Where the next block is emitted.
    pub(super) fn place_for(&mut self, ways: Ways) -> Place {
        match ways {
            Ways::Behind(field) if self.cache.ends_with_jump(self.host(field)) => {
                self.statistics.joint_count += 1;
                self.cache.take_jump_back()
            }
            _ => self.cache.next(),
        }
    }

    /// Lets a link that goes to block `id`, which is dead, go to its stub. Nothing runs the link of
    /// a dead block.
    pub(super) fn disconnect(&mut self, link: &Link, id: BlockId) {
        if !self.pages.blocks[link.source as usize].is_alive {
            return;
        }
        let block = &self.pages.blocks[id as usize];
        if !is_joined(link, block) {
            return self.patch(link.field(), link.stub);
        }
        let end = block.base + Offset::from(block.bytes);
        let end = self.pages.blocks.get(id as usize + 1).map_or(end, |next| end.min(next.base));
        self.cache.put_jump(self.host(link.field()), self.host(end), self.host(link.stub));
    }
}
