//! Fetch accesses: entries of execution into code pages.

use super::{Mmu, fetch_slot, second_for};
use crate::access::{Access, PageFault};
use crate::addr::{PhysAddr, VirtAddr};
use crate::fast::layout;
use crate::machine::FastPath;
use crate::ram::Ram;
use crate::tlb::{TAG_ADDRESS_BITS, Translation};

impl Mmu {
    /// One fetch access of user code: an entry into the code page numbered `slot`.
    pub(crate) fn fetch(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        slot: u32,
    ) -> Result<PhysAddr, PageFault> {
        let fetched = if !addr.is_canonical(TAG_ADDRESS_BITS) {
            Err(self.refuse(addr, Access::Fetch))
        } else if self.is_modelled {
            self.fetch_modelled(ram, addr, slot)
        } else {
            self.fetch_unmodelled(ram, addr, slot)
        };
        if fetched.is_err() {
            self.take_fetch_slot(slot);
        }
        fetched
    }

    pub(super) fn fetch_modelled(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        slot: u32,
    ) -> Result<PhysAddr, PageFault> {
        let entry = match self.l1i.banks.look(addr, self.asid) {
            Some(entry) if self.l1i.banks.translation(entry).allows(Access::Fetch) => entry,
            Some(entry) => self.fetch_rewalk(ram, addr, entry)?,
            None => self.fetch_miss(ram, addr)?,
        };
        self.use_fetch(entry, slot);
        Ok(self.l1i.banks.physical(self.l1i.banks.translation(entry), addr))
    }

    /// Takes a slot from the page that has it: the engine gave it to another.
    pub(crate) fn take_fetch_slot(&mut self, slot: u32) {
        if let Some(index) = fetch_slot(slot) {
            self.l1i.detach(&mut self.fast.words, index);
            self.fast.words[layout::FETCH_RESIDENT + index] = 0;
        }
    }

    pub(super) fn fetch_miss(&mut self, ram: &mut Ram, addr: VirtAddr) -> Result<usize, PageFault> {
        let second = second_for(&mut self.l2, &mut self.l2i, Access::Fetch);
        let known = second.look(addr, self.asid);
        let page = match known {
            Some(entry) if second.banks.translation(entry).allows(Access::Fetch) => {
                second.touch(entry);
                self.counts.l2.hits += 1;
                second.banks.translation(entry)
            }
            _ => self.below_first(ram, addr, Access::Fetch, known)?,
        };
        self.counts.l1i.misses += 1;
        Ok(self.insert_fetch(addr, page))
    }

    #[cold]
    pub(super) fn fetch_rewalk(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        entry: usize,
    ) -> Result<usize, PageFault> {
        let page = self.walk(ram, addr, Access::Fetch)?;
        if self.refresh(addr, Access::Fetch, self.l1i.banks.translation(entry), page) {
            self.l1i.banks.update(entry, page);
            return Ok(entry);
        }
        self.counts.l1i.misses += 1;
        Ok(self.insert_fetch(addr, page))
    }

    pub(super) fn insert_fetch(&mut self, addr: VirtAddr, page: Translation) -> usize {
        let class = self.l1i.class_for(page);
        let entry = self.l1i.victim(&self.fast.words, class, addr);
        self.release_fetch(entry);
        self.l1i.banks.put(entry, class, addr, self.asid, page);
        entry
    }

    pub(super) fn release_fetch(&mut self, entry: usize) {
        while let Some(slot) = self.l1i.detach_one(&mut self.fast.words, entry) {
            self.fast.words[layout::FETCH_RESIDENT + slot] = 0;
        }
    }

    pub(super) fn use_fetch(&mut self, entry: usize, slot: u32) {
        let words = &mut self.fast.words;
        let clock = words[layout::FETCH_CLOCK];
        match fetch_slot(slot) {
            Some(slot) if self.fast_path == FastPath::Filled => {
                if !self.l1i.owns(entry, slot) {
                    self.l1i.detach(words, slot);
                    self.l1i.attach(slot, entry);
                }
                words[layout::FETCH_STAMP + slot] = clock;
                words[layout::FETCH_RESIDENT + slot] = 1;
            }
            _ => self.l1i.set_stamp(words, entry, clock),
        }
        words[layout::FETCH_CLOCK] = clock + 1;
        words[layout::FETCH_PAGE] = u64::from(slot);
    }
}
