//! Pages between RAM and swap, as faults and page tables need them.

use machine::{Frame, Machine, PAGE_BYTES};

use super::area::SwapSlot;
use crate::folio::{FrameState, Owner};
use crate::memory::{Content, Memory};

/// Why a page does not come back from swap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SwapInError {
    /// There is no free frame.
    NoFrame,
    /// The device failed, or what it gave is damaged.
    Device,
}

/// The state of swap, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SwapUsage {
    /// Slots that can hold a page.
    pub total: u64,
    /// Slots that hold one.
    pub used: u64,
    /// Pages that are in RAM too (`SwapCached`).
    pub cached: u64,
    /// Bytes of the host that the kept pages take.
    pub held_bytes: u64,
}

impl Memory {
    /// The state of swap; all 0 without.
    pub fn swap_usage(&self) -> SwapUsage {
        let Some(swap) = &self.swap else { return SwapUsage::default() };
        SwapUsage {
            total: swap.area.usable_count().into(),
            used: swap.area.used_count().into(),
            cached: swap.iter_cached().count() as u64,
            held_bytes: swap.store.held_bytes(),
        }
    }

    /// log2 of the most pages that swap brings at once.
    pub(crate) fn page_cluster(&self) -> u32 {
        self.swap.as_ref().map_or(0, |swap| swap.page_cluster)
    }

    /// The frame that holds the page of a slot, if it is in RAM.
    pub(crate) fn swap_cached(&self, slot: SwapSlot) -> Option<Frame> {
        self.swap.as_ref()?.cached(slot)
    }

    /// How many entries name a slot.
    pub(crate) fn swap_users(&self, slot: SwapSlot) -> u64 {
        self.swap.as_ref().map_or(0, |swap| swap.area.use_count(slot))
    }

    /// Lets the time pass that one request for `pages` pages takes.
    pub(crate) fn wait_for_swap(&self, hw: &mut Machine, pages: u64) {
        if let Some(swap) = &self.swap {
            hw.advance_ns(swap.latency.read_time_ns(pages));
        }
    }

    /// Reads the page of a slot into a frame of the swap cache; see [`Memory::wait_for_swap`].
    ///
    /// # Errors
    /// On error nothing has changed, except that other pages may have left RAM.
    pub(crate) fn swap_in(
        &mut self,
        hw: &mut Machine,
        slot: SwapSlot,
        owner: Owner,
    ) -> Result<Frame, SwapInError> {
        let frame = self.alloc(hw, FrameState::Anon, Content::Any).ok_or(SwapInError::NoFrame)?;
        let page = hw.ram.slice_mut(frame.start(), PAGE_BYTES);
        let swap = self.swap.as_mut();
        let is_read = swap.is_some_and(|swap| swap.store.read(slot, page).is_ok());
        let Some(swap) = self.swap.as_mut().filter(|_| is_read) else {
            self.free(hw, frame);
            return Err(SwapInError::Device);
        };
        swap.cache(slot, frame);
        self.frames.set_owner(frame, owner);
        self.frames.hold(frame);
        self.events.swap_ins += 1;
        Ok(frame)
    }

    /// One entry more names a slot: fork copied one for the space in `space`.
    pub(crate) fn retain_swap(&mut self, space: usize, slot: SwapSlot) {
        self.spaces[space].swap_pages += 1;
        if let Some(swap) = &mut self.swap {
            swap.area.retain(slot);
        }
    }

    /// One entry of the space in `space` names a slot no more. The slot, and its place in the swap
    /// cache, end with the last one.
    pub(crate) fn release_swap(&mut self, hw: &mut Machine, space: usize, slot: SwapSlot) {
        self.spaces[space].swap_pages -= 1;
        let Some(swap) = &mut self.swap else { return };
        if !swap.area.release(slot) {
            return;
        }
        swap.store.discard(slot);
        if let Some(frame) = swap.uncache(slot) {
            self.frames.unhold(frame);
            if self.frames.is_unused(frame) {
                self.free(hw, frame);
            }
        }
    }
}
