//! Data accesses: the model's transition, and what it leaves for emitted code.

use super::{Mmu, clock_step, second_for};
use crate::access::{Access, PageFault};
use crate::addr::{PAGE_BYTES, PageSize, PhysAddr, VirtAddr};
use crate::clock::CLOCK_DRAIN_BIT;
use crate::fast::{FastPage, layout};
use crate::machine::FastPath;
use crate::ram::Ram;
use crate::tlb::{Class, TAG_ADDRESS_BITS, Translation};

/// Bits of the clock that are all set once draining is overdue.
const CLOCK_OVERDUE: u64 = CLOCK_DRAIN_BIT | CLOCK_DRAIN_BIT >> 1;

impl Mmu {
    /// One data access of user code: a read, or a write.
    #[inline]
    pub(crate) fn data(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
    ) -> Result<PhysAddr, PageFault> {
        // Emitted code drains when it sees the bit, at the same access with and without a filled
        // fast path: so only a caller that never looks at it is helped here.
        if self.fast.words[layout::CLOCK] & CLOCK_OVERDUE == CLOCK_OVERDUE {
            self.drain();
        }
        if !addr.is_canonical(TAG_ADDRESS_BITS) {
            return Err(self.refuse(addr, access));
        }
        if !self.is_modelled {
            return self.data_unmodelled(ram, addr, access);
        }
        let entry = match self.l1d.banks.look(addr, self.asid) {
            Some(entry) if self.l1d.banks.translation(entry).allows(access) => entry,
            Some(entry) => self.data_rewalk(ram, addr, access, entry)?,
            None => self.data_miss(ram, addr, access)?,
        };
        Ok(self.use_data(ram, addr, access, entry))
    }

    /// Counts `count` accesses that follow one to the same page and change nothing else. The clock
    /// counts them, as it does when emitted code makes them, if a page has as many bytes.
    pub(crate) fn repeat(&mut self, access: Access, count: u64) {
        if count <= PAGE_BYTES {
            self.fast.words[layout::CLOCK] += count * clock_step(access);
            return;
        }
        match access {
            Access::Write => self.totals.add(0, count),
            Access::Read | Access::Fetch => self.totals.add(count, 0),
        }
    }

    /// Brings the page of `addr` into L1D from below.
    #[inline(always)]
    pub(super) fn data_miss(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
    ) -> Result<usize, PageFault> {
        let known = self.l2.look(addr, self.asid);
        let page = match known {
            Some(entry) if self.l2.banks.translation(entry).allows(access) => {
                self.l2.touch(entry);
                self.counts.l2.hits += 1;
                self.l2.banks.translation(entry)
            }
            _ => self.below_first(ram, addr, access, known)?,
        };
        self.counts.l1d.misses += 1;
        Ok(self.insert_data(addr, page))
    }

    /// Walks for an access that misses the first level, and that the second level has no entry for
    /// (`known` is `None`) or one that does not allow it.
    #[inline(never)]
    pub(super) fn below_first(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
        known: Option<usize>,
    ) -> Result<Translation, PageFault> {
        let page = self.walk(ram, addr, access)?;
        let asid = self.asid;
        let second = second_for(&mut self.l2, &mut self.l2i, access);
        match known {
            Some(entry) if page.fits_entry_of(second.banks.translation(entry)) => {
                self.counts.dirty_walks += 1;
                self.counts.l2.hits += 1;
                second.banks.update(entry, page);
                second.touch(entry);
            }
            _ => {
                if second.banks.exists() {
                    self.counts.l2.misses += 1;
                }
                if known.is_some() {
                    self.drop_page(addr);
                }
                second_for(&mut self.l2, &mut self.l2i, access).insert(addr, asid, page);
            }
        }
        Ok(page)
    }

    /// Walks for an access that its L1D entry does not allow; returns the entry that does.
    #[cold]
    pub(super) fn data_rewalk(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
        entry: usize,
    ) -> Result<usize, PageFault> {
        let page = self.walk(ram, addr, access)?;
        if self.refresh(addr, access, self.l1d.banks.translation(entry), page) {
            self.l1d.banks.update(entry, page);
            return Ok(entry);
        }
        self.counts.l1d.misses += 1;
        Ok(self.insert_data(addr, page))
    }

    /// Takes what a walk found for a page that a first level holds as `old`: `true` if it is still
    /// a page of the same kind and the second level follows. Else forgets the old page, and counts
    /// and inserts the new one below.
    pub(super) fn refresh(
        &mut self,
        addr: VirtAddr,
        access: Access,
        old: Translation,
        page: Translation,
    ) -> bool {
        self.counts.dirty_walks += 1;
        let asid = self.asid;
        let second = second_for(&mut self.l2, &mut self.l2i, access);
        if page.fits_entry_of(old) {
            if let Some(entry) = second.look(addr, asid) {
                second.banks.update(entry, page);
            }
            return true;
        }
        if second.banks.exists() {
            self.counts.l2.misses += 1;
        }
        self.drop_page(addr);
        second_for(&mut self.l2, &mut self.l2i, access).insert(addr, asid, page);
        false
    }

    /// Puts a page, or the piece of it at `addr`, into L1D; returns its entry.
    #[inline(always)]
    pub(super) fn insert_data(&mut self, addr: VirtAddr, page: Translation) -> usize {
        if page.class() == Class::K4 {
            self.insert_data_as(Class::K4, addr, page)
        } else {
            self.insert_large_data(addr, page)
        }
    }

    #[inline(never)]
    pub(super) fn insert_large_data(&mut self, addr: VirtAddr, page: Translation) -> usize {
        self.insert_data_as(self.l1d.class_for(page), addr, page)
    }

    #[inline(always)]
    pub(super) fn insert_data_as(
        &mut self,
        class: Class,
        addr: VirtAddr,
        page: Translation,
    ) -> usize {
        let entry = self.l1d.victim(&self.fast.words, class, addr);
        if self.l1d.has_many(entry) {
            self.release_data(entry);
        } else if let Some(slot) = self.l1d.take_only(entry) {
            self.fast.poison(slot);
        }
        self.l1d.banks.put(entry, class, addr, self.asid, page);
        entry
    }

    /// Takes all slots of an L1D entry and poisons them.
    #[inline(never)]
    pub(super) fn release_data(&mut self, entry: usize) {
        while let Some(slot) = self.l1d.detach_one(&mut self.fast.words, entry) {
            self.fast.poison(slot);
        }
    }

    /// The use itself: stamp, shadow, clock.
    #[inline(always)]
    pub(super) fn use_data(
        &mut self,
        ram: &Ram,
        addr: VirtAddr,
        access: Access,
        entry: usize,
    ) -> PhysAddr {
        let clock = self.fast.words[layout::CLOCK];
        let page = self.l1d.banks.translation(entry);
        let physical = self.l1d.banks.physical(page, addr);
        if self.fast_path == FastPath::Filled {
            let page = self.fast_page(ram, addr, physical, page.allows(Access::Write));
            let slot = self.own_slot(addr, page.base, entry);
            self.fast.fill(slot, page, clock);
        } else {
            self.l1d.set_stamp(&mut self.fast.words, entry, clock);
        }
        self.fast.words[layout::CLOCK] = clock + clock_step(access);
        physical
    }

    #[inline(always)]
    pub(super) fn fast_page(
        &self,
        ram: &Ram,
        addr: VirtAddr,
        physical: PhysAddr,
        is_writable: bool,
    ) -> FastPage {
        let frame = physical.frame();
        FastPage {
            base: addr.align_down(PageSize::K4).as_u64(),
            host: ram.host_base().wrapping_add(frame.start().as_u64()),
            is_writable: is_writable && !self.code.contains(frame),
        }
    }

    /// The shadow slot of the page at `base`, owned by `entry`.
    #[inline(always)]
    pub(super) fn own_slot(&mut self, addr: VirtAddr, base: u64, entry: usize) -> usize {
        let slot = self.fast.index(addr);
        if !self.l1d.is_owned(slot) {
            self.l1d.attach(slot, entry);
            return slot;
        }
        if self.l1d.owns(entry, slot) && self.fast.is_readable(slot, base) {
            return slot;
        }
        let slot = self.resolve_conflict(addr, base, slot);
        if !self.l1d.owns(entry, slot) {
            self.l1d.detach(&mut self.fast.words, slot);
            self.l1d.attach(slot, entry);
        }
        slot
    }

    /// Counts a conflict, perhaps grows the mask, and returns the slot of `addr` after that.
    #[cold]
    pub(super) fn resolve_conflict(&mut self, addr: VirtAddr, base: u64, slot: usize) -> usize {
        if !self.fast.count_conflict() {
            return slot;
        }
        for other in 0..self.fast.slot_count() {
            self.l1d.detach(&mut self.fast.words, other);
        }
        self.fast.grow_mask(slot, base);
        self.fast.index(addr)
    }
}
