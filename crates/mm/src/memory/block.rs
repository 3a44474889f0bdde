//! Blocks of adjacent frames for the kernel's own objects: taken in lowmem, given back whole.

use machine::{Frame, Machine};

use super::Memory;
use crate::buddy::Mobility;
use crate::folio::FrameState;

impl Memory {
    /// Takes 2^`order` adjacent frames that the kernel reaches without more ado, for one of its own
    /// states; their bytes are anything. `None` if there is no such block: nothing has changed, but
    /// for what reclaim took back.
    pub(crate) fn alloc_block(
        &mut self,
        hw: &mut Machine,
        state: FrameState,
        order: u32,
        mobility: Mobility,
    ) -> Option<Frame> {
        debug_assert!(state.is_kernel(), "blocks are for the kernel");
        if self.count_of(FrameState::Free) <= self.due_at {
            self.balance_if_due(hw);
        }
        if self.is_refused() {
            return None;
        }
        let first = Frame::new(self.zones.alloc_low_block(order, mobility)?.into());
        for number in 0..1 << order {
            self.claim(first.wrapping_add(number), state);
        }
        Some(first)
    }

    /// Gives a block back as it was taken.
    pub(crate) fn free_block(&mut self, hw: &mut Machine, first: Frame, order: u32) {
        if order == 0 {
            return self.free(hw, first);
        }
        for number in 0..1 << order {
            self.unclaim(hw, first.wrapping_add(number));
        }
        self.zones.free_block(first.number() as u32, order);
    }
}
