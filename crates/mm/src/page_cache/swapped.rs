//! Pages of shared memory that are in swap: the object remembers the slot, no entry does.
//!
//! Invariants
//! 1. A page of an object is in the cache or in swap, never in both; its slot has one user.
//!
//! # Source
//! Linux 6.12 `mm/shmem.c:shmem_writepage`, `shmem_swapin_folio`.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use machine::{Frame, Machine, PAGE_BYTES, PAGE_SHIFT};

use super::{PageInError, Source};
use crate::backing::ObjectId;
use crate::error::MmError;
use crate::folio::{FrameState, Owner};
use crate::memory::{Content, Memory};
use crate::replacement::PageKind;
use crate::swap::{AreaId, SwapPlace, Tenant};

impl super::PageCache {
    /// The slot that has page `index`.
    pub(super) fn swapped(&self, id: ObjectId, index: u64) -> Option<SwapPlace> {
        self.object(id)?.swapped.get(&index).copied()
    }

    /// Every page in swap with its object and index.
    pub(crate) fn iter_swapped(&self) -> impl Iterator<Item = (ObjectId, u64, SwapPlace)> + '_ {
        (0..).map(ObjectId).zip(&self.objects).flat_map(|(id, object)| {
            let swapped = object.iter().flat_map(|object| &object.swapped);
            swapped.map(move |(&index, &place)| (id, index, place))
        })
    }
}

impl Memory {
    /// Whether page `index` of the object is in swap.
    pub(crate) fn is_swapped(&self, id: ObjectId, index: u64) -> bool {
        self.cache.swapped(id, index).is_some()
    }

    /// Pages of the object that are in swap.
    pub fn object_swap_pages(&self, id: ObjectId) -> u64 {
        self.cache.object(id).map_or(0, |object| object.swapped.len() as u64)
    }

    /// Takes an unmapped page of shared memory out of RAM. False if no device takes it: it stays.
    pub(crate) fn swap_out_object(
        &mut self,
        hw: &mut Machine,
        (id, index): (ObjectId, u64),
        frame: Frame,
    ) -> bool {
        let owner = Owner::Cached { object: id, index };
        let tenant = Tenant { owner, shadow: self.note_eviction(frame) };
        let Some(place) = self.write_swap(hw, frame, tenant) else { return false };
        let Some(object) = self.cache.object_mut(id) else { return false };
        object.swapped.insert(index, place);
        for (_, frame) in object.pages.take(index..=index) {
            self.uncache(hw, frame);
        }
        true
    }

    /// Brings page `index` of the object back from swap.
    ///
    /// # Errors
    /// No frame, or the device failed; the page stays in its slot.
    pub(super) fn swap_in_object(
        &mut self,
        hw: &mut Machine,
        (id, index): (ObjectId, u64),
        place: SwapPlace,
    ) -> Result<(Frame, Source), PageInError> {
        let frame = self.alloc(hw, FrameState::Shmem, Content::Any).ok_or(PageInError::NoFrame)?;
        let page = hw.ram.slice_mut(frame.start(), PAGE_BYTES);
        let tenant = self.swap.tenant(place);
        let Some(tenant) = tenant.filter(|_| self.swap.read(place, page).is_ok()) else {
            self.free(hw, frame);
            return Err(PageInError::Pager);
        };
        if let Some(object) = self.cache.object_mut(id) {
            object.swapped.remove(&index);
            object.pages.insert(index, frame);
        }
        self.swap.release(place);
        self.settle_pool(hw);
        self.frames.set_owner(frame, tenant.owner);
        self.frames.hold(frame);
        // Its pager does not have these bytes.
        self.mark_dirty(frame);
        self.events.swap_ins += 1;
        self.note_refault(frame, PageKind::Anon, tenant.shadow);
        self.wait_for_swap(hw, place.area, 1);
        Ok((frame, Source::Device))
    }

    /// Lets go of the slots of pages of the object with an index in `pages`.
    pub(super) fn forget_swapped(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        pages: &RangeInclusive<u64>,
    ) {
        let Some(object) = self.cache.object_mut(id) else { return };
        let gone: Vec<SwapPlace> = object.swapped.range(pages.clone()).map(|(_, &p)| p).collect();
        object.swapped.retain(|index, _| !pages.contains(index));
        for place in gone {
            self.swap.release(place);
        }
        self.settle_pool(hw);
    }

    /// Changes bytes of a page that is in swap, in its slot if there is no frame for it.
    pub(super) fn write_swapped(
        &mut self,
        hw: &mut Machine,
        (id, offset): (ObjectId, u64),
        bytes: &[u8],
    ) {
        let index = offset >> PAGE_SHIFT;
        let Some(place) = self.cache.swapped(id, index) else { return };
        let skip = offset & (PAGE_BYTES - 1);
        if let Ok((frame, _)) = self.swap_in_object(hw, (id, index), place) {
            hw.store(frame.start().wrapping_add(skip), bytes);
            return;
        }
        let mut page = [0; PAGE_BYTES as usize];
        if self.swap.read(place, &mut page).is_ok() {
            self.wait_for_swap(hw, place.area, 1);
            page[skip as usize..skip as usize + bytes.len()].copy_from_slice(bytes);
            // On failure the page is damaged, and its next reader hears of it (SWAP-6).
            let _reader_is_told = self.swap.rewrite(place, &page);
            if !self.settle_pool(hw) {
                // It needs one frame more than before, and nobody has one: likewise.
                self.swap.discard(place);
                self.settle_pool(hw);
            }
        }
    }

    /// Brings every page back that objects have in the area.
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: no frame, or a page can not be read; it stays where it is.
    pub(crate) fn empty_objects(&mut self, hw: &mut Machine, area: AreaId) -> Result<(), MmError> {
        let here = self.cache.iter_swapped().filter(|(_, _, place)| place.area == area);
        let here: Vec<(ObjectId, u64, SwapPlace)> = here.collect();
        for (id, index, place) in here {
            self.swap_in_object(hw, (id, index), place).map_err(|error| match error {
                PageInError::NoFrame => MmError::NoMemory("no frame for a swapped page"),
                _ => MmError::NoMemory("a swapped page can not be read"),
            })?;
        }
        Ok(())
    }
}
