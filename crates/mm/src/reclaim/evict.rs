//! Taking one page out of RAM: to swap, to its pager, or to nowhere.
//!
//! # Source
//! Linux 6.12 `mm/vmscan.c:shrink_folio_list`; semantics LRU-5, SWAP-3, SWAP-6.

use alloc::vec::Vec;

use machine::{Frame, Machine, PhysAddr, Pte};

use crate::folio::{FrameState, Owner};
use crate::memory::Memory;
use crate::swap::{Ownership, SwapPlace, Tenant, encode};

impl Memory {
    /// Takes a page out of RAM. False if that is not possible: then it is as it was, except that a
    /// page of a file may be mapped no more.
    pub(super) fn evict(&mut self, hw: &mut Machine, frame: Frame) -> bool {
        match self.frames.owner(frame) {
            Some(Owner::Anon { .. }) if self.frames.is_lazy(frame) => self.drop_lazy(hw, frame),
            Some(Owner::Anon { .. }) => self.swap_out(hw, frame),
            Some(Owner::Cached { object, index }) => {
                let entries: Vec<PhysAddr> = self.entries.of(frame).collect();
                for at in entries {
                    self.unmap_entry(hw, at, Pte::EMPTY);
                }
                match self.frames.state(frame) {
                    FrameState::Shmem => self.swap_out_object(hw, (object, index), frame),
                    _ => self.drop_page(hw, object, index),
                }
            }
            _ => false,
        }
    }

    /// Writes a private page to swap, and lets its entries say so.
    fn swap_out(&mut self, hw: &mut Machine, frame: Frame) -> bool {
        let entries: Vec<PhysAddr> = self.entries.of(frame).collect();
        let Some(place) = self.place_for(hw, frame) else { return false };
        let is_exclusive = self.frames.is_exclusive(frame);
        let ownership = if is_exclusive { Ownership::Exclusive } else { Ownership::Shared };
        let entry = encode(hw.geometry(), place, ownership);
        for at in entries {
            self.swap.retain(place);
            self.unmap_entry(hw, at, entry);
        }
        // The count that kept the slot until now, or the place in the swap cache.
        if self.swap.uncache(place).is_some() {
            self.frames.unhold(frame);
        } else {
            self.swap.release(place);
        }
        self.free(hw, frame);
        true
    }

    /// The slot that has the bytes of the page: the one it came from, or one that is written now.
    fn place_for(&mut self, hw: &mut Machine, frame: Frame) -> Option<SwapPlace> {
        if let Some(place) = self.swap.slot_of(frame) {
            let shadow = self.note_eviction(frame);
            self.swap.set_shadow(place, shadow);
            return Some(place);
        }
        let tenant = Tenant { owner: self.frames.owner(frame)?, shadow: self.note_eviction(frame) };
        self.write_swap(hw, frame, tenant)
    }
}
