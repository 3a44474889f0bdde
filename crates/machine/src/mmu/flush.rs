//! Forgetting: pages, address spaces, and the switch between them.

use super::{ASID_MASK, Mmu, fetch_slot};
use crate::addr::{Frame, PageSize, VirtAddr};
use crate::fast::layout;
use crate::tlb::TAG_ADDRESS_BITS;

impl Mmu {
    /// INVLPG: forgets what translates `addr` in the active address space, global or not.
    pub(crate) fn flush_page(&mut self, addr: VirtAddr) {
        self.counts.page_flushes += 1;
        self.fast.words[layout::FETCH_PAGE] = 0;
        self.drop_page(addr);
    }

    /// Forgets all pages of the address space `asid`.
    pub(crate) fn flush_asid(&mut self, asid: u16) {
        self.counts.full_flushes += 1;
        self.drop_asid(asid & ASID_MASK);
    }

    /// The active address space.
    pub(crate) fn asid(&self) -> u16 {
        self.asid
    }

    /// The root of the active address space.
    pub(crate) fn root(&self) -> Option<Frame> {
        self.root
    }

    pub(super) fn drop_page(&mut self, addr: VirtAddr) {
        if !self.is_modelled {
            return self.drop_page_unmodelled(addr);
        }
        if !addr.is_canonical(TAG_ADDRESS_BITS) {
            return;
        }
        while let Some(entry) = self.l1d.banks.look_with_pieces(addr, self.asid) {
            self.drop_data(entry);
        }
        while let Some(entry) = self.l1i.banks.look_with_pieces(addr, self.asid) {
            self.drop_fetch(entry);
        }
        self.l2.drop_page(addr, self.asid);
        if let Some(l2i) = &mut self.l2i {
            l2i.drop_page(addr, self.asid);
        }
    }

    pub(super) fn drop_data(&mut self, entry: usize) {
        self.release_data(entry);
        self.l1d.invalidate(&mut self.fast.words, entry);
    }

    pub(super) fn drop_fetch(&mut self, entry: usize) {
        self.release_fetch(entry);
        self.l1i.invalidate(&mut self.fast.words, entry);
    }

    /// Without a model the size of the page is not known: forgets everything once large pages
    /// are about.
    pub(super) fn drop_page_unmodelled(&mut self, addr: VirtAddr) {
        if self.saw_large {
            return self.leave_fast_path();
        }
        let base = addr.align_down(PageSize::K4).as_u64();
        let slot = self.fast.index(addr);
        if self.fast.is_readable(slot, base) {
            self.fast.poison(slot);
        }
        let page = addr.page().number();
        while let Some(&(page, slot)) = self.fetched.range((page, 0)..=(page, u32::MAX)).next() {
            self.fetched.remove(&(page, slot));
            self.forget_fetch_slot(slot);
        }
    }

    pub(super) fn forget_fetch_slot(&mut self, slot: u32) {
        if let Some(index) = fetch_slot(slot) {
            self.fast.words[layout::FETCH_RESIDENT + index] = 0;
        }
    }

    pub(super) fn drop_asid(&mut self, asid: u16) {
        if asid == self.asid {
            self.leave_fast_path();
        }
        self.drop_first_levels(asid);
        self.l2.drop_asid(asid);
        if let Some(l2i) = &mut self.l2i {
            l2i.drop_asid(asid);
        }
    }

    pub(super) fn drop_first_levels(&mut self, asid: u16) {
        self.l1d.drop_asid(&mut self.fast.words, asid);
        self.l1i.drop_asid(&mut self.fast.words, asid);
    }

    /// Takes all shadow slots from their owners: the next access to any page goes through the
    /// model, with nothing changed in it.
    pub(super) fn leave_fast_path(&mut self) {
        if !self.is_modelled {
            self.fast.poison_all();
        }
        for entry in 0..self.l1d.banks.len() {
            while let Some(slot) = self.l1d.detach_one(&mut self.fast.words, entry) {
                self.fast.poison(slot);
            }
        }
        debug_assert!(self.fast.is_poisoned(), "with a model, a slot without owner is poisoned");
        for entry in 0..self.l1i.banks.len() {
            self.release_fetch(entry);
        }
        while let Some((_, slot)) = self.fetched.pop_first() {
            self.forget_fetch_slot(slot);
        }
        self.fast.words[layout::FETCH_PAGE] = 0;
    }

    /// Makes `root` the active tables.
    pub(crate) fn activate(&mut self, root: Frame, asid: u16) {
        let asid = asid & ASID_MASK;
        if self.root == Some(root) && self.asid == asid {
            return;
        }
        self.counts.switches += 1;
        self.leave_fast_path();
        self.asid = asid;
        self.root = Some(root);
        if self.roots.insert(asid, root).is_some_and(|old| old != root) {
            self.counts.switch_entries_lost += self.entry_count(asid);
            self.drop_asid(asid);
        }
    }

    /// How many entries of all TLBs belong to `asid`.
    fn entry_count(&self, asid: u16) -> u64 {
        let second = self.l2.entry_count(asid);
        let second_fetch = self.l2i.as_ref().map_or(0, |l2i| l2i.entry_count(asid));
        let first = self.l1d.banks.entry_count(asid) + self.l1i.banks.entry_count(asid);
        (first + second + second_fetch) as u64
    }
}
