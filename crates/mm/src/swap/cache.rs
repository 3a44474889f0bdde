//! Pages between RAM and swap, as faults and page tables need them.

use alloc::boxed::Box;
use alloc::vec::Vec;

use machine::{Frame, Machine, PAGE_BYTES};

use super::area::{AreaId, SwapPlace};
use super::device::AreaInfo;
use super::latency::Latency;
use super::store::SwapStore;
use crate::error::MmError;
use crate::folio::FrameState;
use crate::memory::{Content, Memory};
use crate::replacement::PageKind;

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
    /// Gives private pages and shared memory a place to go, behind those that they have: see
    /// [`Memory::swap_add`]. Nothing happens if there are 23 areas already.
    pub fn swap_on(&mut self, slot_count: u32, store: Box<dyn SwapStore>, latency: Latency) {
        let _none_if_there_are_too_many = self.swap_add(slot_count, store, latency, None);
    }

    /// Gives private pages and shared memory a place to go: `slot_count` slots of `store`, the
    /// first of which is not used, with the costs of `latency` in virtual time. Areas with a higher
    /// priority are filled first, those with the same in turn; without one, the area comes after
    /// all that were added before (SWAP-1).
    ///
    /// # Errors
    /// - [`MmError::NotPermitted`]: there are 23 areas already; nothing has changed.
    pub fn swap_add(
        &mut self,
        slot_count: u32,
        store: Box<dyn SwapStore>,
        latency: Latency,
        priority: Option<i16>,
    ) -> Result<AreaId, MmError> {
        let id = self.swap.add(slot_count, store, latency, priority)?;
        self.list_anon();
        Ok(id)
    }

    /// Every area, by number.
    pub fn swap_areas(&self) -> Vec<AreaInfo> {
        self.swap.infos().collect()
    }

    /// The state of all areas together; all 0 without.
    pub fn swap_usage(&self) -> SwapUsage {
        self.swap.infos().fold(SwapUsage::default(), |sum, AreaInfo { usage, .. }| SwapUsage {
            total: sum.total + usage.total,
            used: sum.used + usage.used,
            cached: sum.cached + usage.cached,
            held_bytes: sum.held_bytes + usage.held_bytes,
        })
    }

    /// Sets log2 of the most pages that swap brings at once (`vm.page-cluster`), at most 5.
    pub fn set_page_cluster(&mut self, page_cluster: u32) {
        self.page_cluster = page_cluster.min(5);
    }

    /// log2 of the most pages that swap brings at once.
    pub const fn page_cluster(&self) -> u32 {
        self.page_cluster
    }

    /// Lets the time pass that one request for `pages` pages of an area takes.
    pub(crate) fn wait_for_swap(&mut self, hw: &mut Machine, area: AreaId, pages: u64) {
        let start_ns = hw.now_ns();
        self.swap.wait_for_read(hw, area, pages);
        self.events.wait_ns += hw.now_ns() - start_ns;
    }

    /// Reads the page of a slot into a frame of the swap cache; see [`Memory::wait_for_swap`].
    ///
    /// # Errors
    /// On error nothing has changed, except that other pages may have left RAM.
    pub(crate) fn swap_in(
        &mut self,
        hw: &mut Machine,
        place: SwapPlace,
    ) -> Result<Frame, SwapInError> {
        let frame = self.alloc(hw, FrameState::Anon, Content::Any).ok_or(SwapInError::NoFrame)?;
        let page = hw.ram.slice_mut(frame.start(), PAGE_BYTES);
        let tenant = self.swap.tenant(place);
        let Some(tenant) = tenant.filter(|_| self.swap.read(place, page).is_ok()) else {
            self.free(hw, frame);
            return Err(SwapInError::Device);
        };
        self.swap.cache(place, frame);
        self.frames.set_owner(frame, tenant.owner);
        self.frames.hold(frame);
        self.events.swap_ins += 1;
        self.note_refault(frame, PageKind::Anon, tenant.shadow);
        Ok(frame)
    }

    /// Reads the page of a slot ahead of its use. False if that is not possible.
    pub(crate) fn bring_ahead(&mut self, hw: &mut Machine, place: SwapPlace) -> bool {
        let Ok(frame) = self.swap_in(hw, place) else { return false };
        self.frames.set_readahead(frame);
        self.events.swap_ra += 1;
        true
    }

    /// One entry more names a slot: fork copied one for the space in `space`.
    pub(crate) fn retain_swap(&mut self, space: usize, place: SwapPlace) {
        self.spaces[space].swap_pages += 1;
        self.swap.retain(place);
    }

    /// One entry of the space in `space` names a slot no more. The slot, and its place in the swap
    /// cache, end with the last one.
    pub(crate) fn release_swap(&mut self, hw: &mut Machine, space: usize, place: SwapPlace) {
        self.spaces[space].swap_pages -= 1;
        if !self.swap.release(place) {
            return;
        }
        self.settle_pool(hw);
        if let Some(frame) = self.swap.uncache(place) {
            self.frames.unhold(frame);
            if self.frames.is_unused(frame) {
                self.free(hw, frame);
            }
        }
    }
}
