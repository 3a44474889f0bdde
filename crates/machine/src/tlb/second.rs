//! A second-level TLB: entries with stamps of their own, exact LRU.
//!
//! Invariants
//! 1. Among the ways of a set, the valid ones are ordered by stamp as they were last used; an
//!    invalidated way has stamp 0, or one below all valid ways of its set.
//! 2. Padding has the largest stamp and is never the victim.
//! 3. `hints` only save time: a page is looked for there first, and believed on an equal tag. They
//!    hold the low 16 bits of an entry's index.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::banks::{Banks, Class, Shifts, Translation, oldest};
use super::spec::LevelSpec;
use crate::addr::{PAGE_SHIFT, VirtAddr};
use crate::fast::layout;

/// Number of hints, a power of two.
const HINTS: usize = layout::HINTS;

/// A second-level TLB, possibly one without entries.
#[derive(Debug)]
pub(crate) struct SecondLevel {
    pub(crate) banks: Banks,
    stamps: Vec<u64>,
    /// In a place of its own, for emitted code.
    clock: Box<u64>,
    /// By low page-number bits: the entry where such a page was last.
    hints: Box<[u16; HINTS]>,
}

impl SecondLevel {
    pub(crate) fn new(spec: &LevelSpec, shifts: Shifts) -> Self {
        let banks = Banks::new(spec, shifts);
        let stamp = |entry| if banks.is_padding(entry) { u64::MAX } else { 0 };
        let stamps = (0..banks.len()).map(stamp).collect();
        let hints = vec![0; HINTS].into_boxed_slice().try_into();
        let hints = hints.expect("the vector has HINTS elements");
        Self { banks, stamps, clock: Box::new(0), hints }
    }

    /// Host addresses of the stamps, the clock and the hints. They never change.
    pub(crate) fn addresses(&mut self) -> [u64; 3] {
        let stamps = self.stamps.as_mut_ptr().expose_provenance();
        let clock = core::ptr::from_mut(&mut *self.clock).expose_provenance();
        [stamps as u64, clock as u64, self.hints.as_mut_ptr().expose_provenance() as u64]
    }

    #[inline(always)]
    fn hint_index(addr: VirtAddr) -> usize {
        (addr.as_u64() >> PAGE_SHIFT) as usize & (HINTS - 1)
    }

    /// The entry that translates `addr` in address space `asid`.
    #[inline(always)]
    pub(crate) fn look(&mut self, addr: VirtAddr, asid: u16) -> Option<usize> {
        let hint = self.hints[Self::hint_index(addr)] as usize;
        if self.banks.is_small_page(hint, addr, asid) {
            return Some(hint);
        }
        self.search(addr, asid)
    }

    #[inline(never)]
    fn search(&mut self, addr: VirtAddr, asid: u16) -> Option<usize> {
        let found = self.banks.look(addr, asid);
        if let Some(entry) = found {
            self.hints[Self::hint_index(addr)] = entry as u16;
        }
        found
    }

    /// The entry of the 4 KiB page of `addr`, whose tag is `key`, without anything that can panic.
    #[inline(always)]
    pub(crate) fn find_small(&mut self, addr: VirtAddr, key: u64) -> Option<usize> {
        let index = Self::hint_index(addr);
        let hint = self.hints[index] as usize;
        if self.banks.has_tag(hint, key) {
            return Some(hint);
        }
        let found = self.banks.find_small(addr, key)?;
        self.hints[index] = found as u16;
        Some(found)
    }

    /// The entry that a 4 KiB page at `addr` will replace; `None` if this level has an odd shape.
    #[inline(always)]
    pub(crate) fn victim_quickly(&self, addr: VirtAddr) -> Option<usize> {
        let set = self.banks.set(Class::K4, addr);
        let stamps = self.stamps.get(set.first..)?;
        let way = match set.stride {
            16 => stamps.first_chunk::<16>().map(|stamps| oldest(16, |way| stamps[way]))?,
            8 => stamps.first_chunk::<8>().map(|stamps| oldest(8, |way| stamps[way]))?,
            4 => stamps.first_chunk::<4>().map(|stamps| oldest(4, |way| stamps[way]))?,
            _ => return None,
        };
        Some(set.first + way)
    }

    /// Makes `entry` hold the page at `addr`, whose tag is `key`, used now; `None` if there is no
    /// such entry.
    #[inline(always)]
    pub(crate) fn put_quickly(
        &mut self,
        entry: usize,
        addr: VirtAddr,
        key: u64,
        page: Translation,
    ) -> Option<()> {
        let (tag, translation) = self.banks.get_mut(entry)?;
        let stamp = self.stamps.get_mut(entry)?;
        *tag = key;
        *translation = page;
        *self.clock += 1;
        *stamp = *self.clock;
        self.hints[Self::hint_index(addr)] = entry as u16;
        Some(())
    }

    /// As [`SecondLevel::touch`]; `None` if there is no such entry.
    #[inline(always)]
    pub(crate) fn touch_quickly(&mut self, entry: usize) -> Option<()> {
        let stamp = self.stamps.get_mut(entry)?;
        *self.clock += 1;
        *stamp = *self.clock;
        Some(())
    }

    /// Makes the entry the most recently used.
    #[inline(always)]
    pub(crate) fn touch(&mut self, entry: usize) {
        *self.clock += 1;
        self.stamps[entry] = *self.clock;
    }

    /// Inserts a page in place of the least recently used one of its set; does nothing if this
    /// level does not hold pages of that size.
    #[inline]
    pub(crate) fn insert(&mut self, addr: VirtAddr, asid: u16, page: Translation) {
        let class = page.class();
        if !self.banks.holds(class) {
            return;
        }
        let set = self.banks.set(class, addr);
        let stamps = &self.stamps[set.first..set.first + set.stride];
        let way = match stamps.first_chunk::<16>() {
            Some(stamps) if set.stride == 16 => oldest(16, |way| stamps[way]),
            _ => oldest(stamps.len(), |way| stamps[way]),
        };
        let entry = set.first + way;
        self.banks.put(entry, class, addr, asid, page);
        self.hints[Self::hint_index(addr)] = entry as u16;
        self.touch(entry);
    }

    /// Forgets what translates `addr` in `asid`, global pages included.
    pub(crate) fn drop_page(&mut self, addr: VirtAddr, asid: u16) {
        while let Some(entry) = self.look(addr, asid) {
            self.drop_entry(entry);
        }
    }

    /// Forgets all pages of `asid`.
    pub(crate) fn drop_asid(&mut self, asid: u16) {
        if self.banks.holds_only(asid) {
            // Stale stamps stay: all of them are below any that will be given, invariant 1.
            return self.clear();
        }
        for entry in 0..self.banks.len() {
            if self.banks.belongs_to(entry, asid) {
                self.drop_entry(entry);
            }
        }
    }

    /// How many entries hold a page of `asid`.
    pub(crate) fn entry_count(&self, asid: u16) -> usize {
        self.banks.entry_count(asid)
    }

    /// Forgets everything.
    fn clear(&mut self) {
        if !self.banks.is_empty() {
            self.banks.clear();
        }
    }

    fn drop_entry(&mut self, entry: usize) {
        self.banks.invalidate(entry);
        self.stamps[entry] = 0;
    }

    /// The stamp of the entry, for tests that compare states.
    #[cfg(test)]
    pub(crate) fn stamp_of(&self, entry: usize) -> u64 {
        self.stamps[entry]
    }
}
