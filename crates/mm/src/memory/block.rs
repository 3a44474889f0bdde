//! Blocks of adjacent frames for the kernel's own objects: taken in lowmem, given back whole.

use machine::{Frame, Machine, PAGE_BYTES};

use super::Memory;
use crate::buddy::{Mobility, ORDER_MAX};
use crate::folio::FrameState;

/// The order of the smallest block of at least `bytes`, or the highest one.
pub(crate) fn order_of(bytes: u64) -> u32 {
    bytes.div_ceil(PAGE_BYTES).max(1).next_power_of_two().ilog2().min(ORDER_MAX)
}

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

    /// Takes 2^`order` zeroed frames in a row for the kernel itself; `None` if there are none, as
    /// [`Memory::alloc_block`].
    pub(crate) fn take_kernel_block(&mut self, hw: &mut Machine, order: u32) -> Option<Frame> {
        let first = self.alloc_block(hw, FrameState::Kernel, order, Mobility::Unmovable)?;
        for number in 0..1 << order {
            hw.ram.zero_frame(first.wrapping_add(number));
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
