//! Work on the leaf entries of a frame, whichever spaces they are in.

use core::sync::atomic::Ordering;

use machine::{Frame, Machine, PAGE_SHIFT, PhysAddr, Pte, VirtAddr};

use super::PteState;
use crate::folio::Owner;
use crate::memory::Memory;

impl Memory {
    /// How many entries of the frame were used since this was last asked, and whether any of them
    /// allows fetching. The TLBs are not flushed, as in Linux: a translation that stays there keeps
    /// the entry from being marked again.
    pub(crate) fn take_references(&mut self, hw: &mut Machine, frame: Frame) -> (u32, bool) {
        let geometry = hw.geometry();
        let (mut references, mut is_executable) = (0, false);
        for at in self.entries.of(frame) {
            let pte = geometry.load(&hw.ram, at);
            is_executable |= pte.is_executable() && geometry.has_nx();
            if pte.is_accessed() {
                references += 1;
                geometry.store(&mut hw.ram, at, pte.without(Pte::ACCESSED));
            }
        }
        references += u32::from(self.frames.take_young(frame));
        (references, is_executable)
    }

    /// Replaces a leaf entry of whatever space by one that names no frame.
    pub(crate) fn unmap_entry(&mut self, hw: &mut Machine, at: PhysAddr, new: Pte) {
        let geometry = hw.geometry();
        let Some(Owner::Space { slot, page }) = self.frames.owner(at.frame()) else { return };
        let old = geometry.load(&hw.ram, at);
        debug_assert!(PteState::of(old) == PteState::Present, "the reverse map says so");
        let index = at.page_offset() / geometry.entry_bytes();
        let addr = VirtAddr::new((page + index) << PAGE_SHIFT);
        geometry.store(&mut hw.ram, at, new);
        let _frame_is_freed_by_the_caller = self.unmap_leaf(slot, at, old);
        if !new.is_empty() {
            self.spaces[slot].swap_pages += 1;
        }
        self.flush_entry(hw, slot, addr);
    }

    /// Takes the right to write and the dirty bit from a leaf entry of whatever space.
    pub(crate) fn protect_entry(&mut self, hw: &mut Machine, at: PhysAddr) {
        let geometry = hw.geometry();
        let Some(Owner::Space { slot, page }) = self.frames.owner(at.frame()) else { return };
        let old = geometry.load(&hw.ram, at);
        debug_assert!(PteState::of(old) == PteState::Present, "the reverse map says so");
        let bits = Pte::WRITE.with(Pte::DIRTY);
        if old.intersects(bits) {
            geometry.store(&mut hw.ram, at, old.without(bits));
            let index = at.page_offset() / geometry.entry_bytes();
            self.flush_entry(hw, slot, VirtAddr::new((page + index) << PAGE_SHIFT));
        }
    }

    /// Lets the TLBs forget a page of whatever space.
    fn flush_entry(&mut self, hw: &mut Machine, slot: usize, addr: VirtAddr) {
        if hw.root() == Some(self.spaces[slot].root) {
            hw.flush_page(addr);
        } else {
            self.spaces[slot].is_stale.store(true, Ordering::Relaxed);
        }
    }
}
