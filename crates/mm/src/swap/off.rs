//! Emptying a swap area: every page comes back to RAM, or stays where it is.
//!
//! # Source
//! Linux 6.12 `mm/swapfile.c:try_to_unuse`, `unuse_pte`; semantics SWAP-6.

use alloc::boxed::Box;
use alloc::vec::Vec;

use machine::{Machine, Pte, VirtAddr};

use super::area::{AreaId, SwapPlace};
use super::cache::SwapInError;
use super::entry::decode;
use super::store::SwapStore;
use crate::error::MmError;
use crate::memory::Memory;
use crate::page_table::{LOCKED, PteState, for_each_entry};
use crate::rights::VmaFlags;
use crate::space::Mm;

/// How often all spaces are gone over.
const ROUNDS_MAX: u32 = 8;

impl Memory {
    /// Brings every page of an area back to RAM and ends the area. `spaces` must be all address
    /// spaces. Pages of other areas may move on the way.
    ///
    /// # Errors
    /// - [`MmError::InvalidArgument`]: there is no such area.
    /// - [`MmError::NoMemory`]: there are not enough frames, or a page can not be read. The area is
    ///   in use as before, with the pages that did not come back; none is lost.
    pub fn swap_off(
        &mut self,
        spaces: &mut [&mut Mm],
        hw: &mut Machine,
        id: AreaId,
    ) -> Result<Box<dyn SwapStore>, MmError> {
        let none = MmError::InvalidArgument("no such swap area");
        if !self.swap.set_open(id, false) {
            return Err(none);
        }
        let emptied = self.empty(spaces, hw, id);
        if let Err(error) = emptied {
            self.swap.set_open(id, true);
            return Err(error);
        }
        self.swap.remove(id).ok_or(none)
    }

    /// Goes over all spaces until no entry names the area: a page that several share may leave for
    /// its slot again before the last entry has let go of it.
    fn empty(
        &mut self,
        spaces: &mut [&mut Mm],
        hw: &mut Machine,
        id: AreaId,
    ) -> Result<(), MmError> {
        for _ in 0..ROUNDS_MAX {
            for mm in spaces.iter_mut() {
                self.empty_space(mm, hw, id)?;
            }
            self.empty_objects(hw, id)?;
            if self.swap.used_places(id).is_empty() {
                return Ok(());
            }
        }
        Err(MmError::NoMemory("pages go to the swap area as fast as they come back"))
    }

    /// Brings every page back that entries of `mm` name in the area.
    fn empty_space(&mut self, mm: &mut Mm, hw: &mut Machine, id: AreaId) -> Result<(), MmError> {
        let mut found: Vec<VirtAddr> = Vec::new();
        let geometry = hw.geometry();
        for_each_entry(mm, hw, mm.tables.user_range(), |addr, pte| {
            let is_swapped = PteState::of(pte) == PteState::Swapped;
            if is_swapped && decode(geometry, pte).0.area == id {
                found.push(addr);
            }
        });
        for addr in found {
            let old = mm.tables.lookup(hw, addr);
            debug_assert!(PteState::of(old) == PteState::Swapped, "nothing brings it but this");
            self.bring_back(mm, hw, (addr, old), decode(geometry, old).0)?;
        }
        Ok(())
    }

    /// Lets one entry name a frame with the page of the slot that it names.
    fn bring_back(
        &mut self,
        mm: &mut Mm,
        hw: &mut Machine,
        (addr, old): (VirtAddr, Pte),
        place: SwapPlace,
    ) -> Result<(), MmError> {
        let frame = match self.swap.cached(place) {
            Some(frame) => frame,
            None => {
                let brought = self.swap_in(hw, place);
                self.wait_for_swap(hw, place.area, 1);
                brought.map_err(|error| match error {
                    SwapInError::NoFrame => MmError::NoMemory("no frame for a swapped page"),
                    SwapInError::Device => MmError::NoMemory("a swapped page can not be read"),
                })?
            }
        };
        let Some(vma) = mm.vmas.find(addr) else { return Ok(()) };
        let bits = mm.tables.leaf_bits(vma.rights);
        let is_locked = vma.flags.contains(VmaFlags::LOCKED);
        let new = Pte::new(frame, if is_locked { bits.with(LOCKED) } else { bits });
        if self.frames.map_count(frame) == 0 && self.swap.use_count(place) == 1 {
            self.frames.set_exclusive(frame);
        }
        let no_table = MmError::NoMemory("no frame for a page table");
        let slot = mm.tables.slot_for(self, hw, addr).ok_or(no_table)?;
        let stale = mm.tables.replace(self, hw, slot, addr, (old, new));
        stale.flush(&mut mm.tables, hw);
        self.free_gathered(hw);
        Ok(())
    }
}
