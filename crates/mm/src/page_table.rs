//! Page tables: the only place where leaf entries change.
//!
//! Tables are frames of RAM in the real format of the machine's [`Geometry`]. This module makes
//! missing tables, reads and replaces entries, and works on ranges of them
//! (`page_table/range.rs`). It decides nothing: which entry belongs where is said by faults and
//! operations.
//!
//! ```text
//!  leaf, present:      |NX|...| frame |..|special 9|G..|D|A|..|U|W|P=1|
//!  leaf, PROT_NONE:    the same with P = 0 and G = 1: the frame stays, the hardware refuses
//!  leaf, empty:        0
//! ```
//!
//! Invariants
//! 1. Every table below the root has state `PageTable` and exactly one entry names it.
//! 2. An entry marked [`SPECIAL`] names a frame without counting as a user of it.
//! 3. An entry that the hardware may have cached is not changed without a [`Stale`].

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use machine::{Frame, Geometry, Machine, PAGE_BYTES, PhysAddr, Pte, VirtAddr, VirtRange};

use crate::folio::{FrameState, Owner};
use crate::memory::{Content, Memory};
use crate::rights::Rights;
use crate::swap::decode;

mod range;
mod reverse;

pub(crate) use range::{
    Zap, clear_bits, copy_entries, count_pages, for_each_entry, free_lazily, is_written_back,
    mark_locked, move_entries, protect, take_accessed, zap, zap_object,
};

/// The mark of an entry whose frame is not counted: the zero frame, frames of the kernel.
pub(crate) const SPECIAL: Pte = Pte::SOFT_9;

/// What entries of a device's frames say besides: that the CPU shall not cache them. As Linux has
/// it for PCD set and PWT clear, UC-.
pub(crate) const UNCACHED: Pte = Pte::NO_CACHE;

/// The mark of an entry whose VMA is locked: reclaim leaves its page alone (LOCK-7).
pub(crate) const LOCKED: Pte = Pte::SOFT_10;

/// What a leaf entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PteState {
    /// Nothing: the page was never touched, or was taken away.
    Empty,
    /// The content is in swap.
    Swapped,
    /// A frame holds the content; the hardware may be told to refuse it (`PROT_NONE`).
    Present,
}

impl PteState {
    /// The state of an entry.
    #[inline]
    pub const fn of(pte: Pte) -> Self {
        if pte.is_empty() {
            Self::Empty
        } else if pte.intersects(Pte::PRESENT.with(Pte::GLOBAL)) {
            Self::Present
        } else {
            Self::Swapped
        }
    }
}

/// Addresses whose translations the TLBs must forget.
#[derive(Debug)]
#[must_use = "a changed mapping must be flushed from the TLB"]
pub(crate) struct Stale(VirtRange);

impl Stale {
    /// Nothing changed that the hardware could have cached.
    pub(crate) const NONE: Self = Self(VirtRange::new(VirtAddr::new(0), VirtAddr::new(0)));

    /// Entries of these pages changed.
    pub(crate) const fn of(range: VirtRange) -> Self {
        Self(range)
    }

    /// The page at `addr` and all between it and those already inside.
    fn add_page(&mut self, addr: VirtAddr) {
        let end = addr.wrapping_add(PAGE_BYTES);
        if self.0.is_empty() {
            self.0 = VirtRange::new(addr, end);
        } else {
            self.0 = VirtRange::new(self.0.start.min(addr), self.0.end.max(end));
        }
    }

    /// Makes the TLBs forget: at once if `tables` are the active ones, else before they are
    /// activated again (see [`PageTables::take_stale`]).
    pub(crate) fn flush(self, tables: &mut PageTables, hw: &mut Machine) {
        if self.0.is_empty() {
            return;
        }
        if hw.root() == Some(tables.root) {
            hw.flush_range(self.0);
        } else {
            tables.is_stale.store(true, Ordering::Relaxed);
        }
    }

    /// Makes the TLBs forget everything of the space, as fork does (FORK-5).
    pub(crate) fn flush_all(self, tables: &mut PageTables, hw: &mut Machine) {
        if hw.root() == Some(tables.root) {
            hw.flush_all();
        } else {
            tables.is_stale.store(true, Ordering::Relaxed);
        }
    }
}

/// Where a leaf entry stands: a table of level 1 and an index in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Slot {
    table: Frame,
    /// The index of the entry.
    pub(crate) index: u64,
}

impl Slot {
    /// The entry `index` of the same table.
    pub(crate) const fn sibling(self, index: u64) -> Self {
        Self { table: self.table, index }
    }
}

/// The page tables of one address space.
#[derive(Debug)]
pub(crate) struct PageTables {
    root: Frame,
    geometry: Geometry,
    /// Slot of the address space in [`Memory`], for its counts.
    space: usize,
    /// The table of level 1 used last and the first address it covers.
    last: Option<(VirtAddr, Frame)>,
    /// Whether entries changed while these were not the active tables; [`Memory`] holds it too.
    is_stale: Arc<AtomicBool>,
    /// First address above those that a program may use.
    user_end: VirtAddr,
}

impl PageTables {
    /// An empty root for the address space in slot `space`.
    pub(crate) fn new(memory: &mut Memory, hw: &mut Machine, space: usize) -> Option<Self> {
        let root = memory.alloc(hw, FrameState::PageTable, Content::Zeroed)?;
        memory.spaces[space].root = root;
        let is_stale = Arc::clone(&memory.spaces[space].is_stale);
        let geometry = hw.geometry();
        // The kernel's entries are the same in all roots (kernel_space/shared.rs).
        let user_end = match &memory.kernel {
            Some(kernel) => {
                kernel.write(hw, root);
                kernel.user_end()
            }
            None => VirtAddr::new(
                1 << if geometry.address_bits() == 32 { 32 } else { geometry.address_bits() - 1 },
            ),
        };
        Some(Self { root, geometry, space, last: None, is_stale, user_end })
    }

    /// The root table.
    pub(crate) const fn root(&self) -> Frame {
        self.root
    }

    /// Whether entries changed while these were not the active tables, since this was last asked.
    pub(crate) fn take_stale(&mut self) -> bool {
        self.is_stale.swap(false, Ordering::Relaxed)
    }

    /// How many entries a table of level 1 has.
    pub(crate) const fn leaf_entries(&self) -> u64 {
        self.geometry.entries(1)
    }

    /// The bits of a leaf with `rights`, writing excepted.
    #[inline]
    pub(crate) const fn leaf_bits(&self, rights: Rights) -> Pte {
        let bits = rights.leaf_bits();
        if self.geometry.has_nx() { bits } else { bits.without(Pte::NX) }
    }

    /// The leaf entry of the page at `addr`, empty where there is no table.
    pub(crate) fn lookup(&self, hw: &Machine, addr: VirtAddr) -> Pte {
        match self.leaf_table(hw, addr) {
            Ok(table) => self.read(hw, Slot { table, index: self.geometry.index(1, addr) }),
            Err(_) => Pte::EMPTY,
        }
    }

    /// The entry in `slot`.
    #[inline]
    pub(crate) fn read(&self, hw: &Machine, slot: Slot) -> Pte {
        self.geometry.load(&hw.ram, self.at(slot))
    }

    #[inline]
    fn at(&self, slot: Slot) -> PhysAddr {
        self.geometry.slot(slot.table, slot.index)
    }

    #[inline]
    fn write(&self, hw: &mut Machine, slot: Slot, pte: Pte) {
        self.geometry.store(&mut hw.ram, self.geometry.slot(slot.table, slot.index), pte);
    }

    /// The slot of the page at `addr`; missing tables are made. `None` if no frame is left for
    /// them: tables made so far stay.
    #[inline]
    pub(crate) fn slot_for(
        &mut self,
        memory: &mut Memory,
        hw: &mut Machine,
        addr: VirtAddr,
    ) -> Option<Slot> {
        let base = VirtAddr::new(addr.as_u64() & !(self.geometry.span_bytes(2) - 1));
        let index = self.geometry.index(1, addr);
        if let Some((last, table)) = self.last
            && last == base
        {
            return Some(Slot { table, index });
        }
        let table = self.make_leaf_table(memory, hw, addr)?;
        self.last = Some((base, table));
        Some(Slot { table, index })
    }

    fn make_leaf_table(
        &self,
        memory: &mut Memory,
        hw: &mut Machine,
        addr: VirtAddr,
    ) -> Option<Frame> {
        let mut table = self.root;
        for level in (2..=self.geometry.levels()).rev() {
            let at = self.geometry.slot(table, self.geometry.index(level, addr));
            let pte = self.geometry.load(&hw.ram, at);
            debug_assert!(!(pte.is_present() && pte.is_large()), "no large leaves are made");
            if pte.is_present() {
                table = pte.frame();
            } else {
                table = memory.alloc_table(hw, self.space)?;
                if level == 2 {
                    let first = addr.as_u64() & !(self.geometry.span_bytes(2) - 1);
                    let page = VirtAddr::new(first).page().number();
                    memory.frames.set_owner(table, Owner::Space { slot: self.space, page });
                }
                self.geometry.store(&mut hw.ram, at, self.table_entry(level, table));
            }
        }
        Some(table)
    }

    /// The entry of `level` that names the table in `frame`.
    fn table_entry(&self, level: u32, frame: Frame) -> Pte {
        let reserved = Pte::from_raw(self.geometry.reserved_bits(level, false));
        let flags = Pte::PRESENT.with(Pte::WRITE).with(Pte::USER).with(Pte::ACCESSED);
        Pte::new(frame, flags.without(reserved))
    }

    /// The table of level 1 for `addr`, or the level at which the way ends.
    fn leaf_table(&self, hw: &Machine, addr: VirtAddr) -> Result<Frame, u32> {
        let mut table = self.root;
        for level in (2..=self.geometry.levels()).rev() {
            let at = self.geometry.slot(table, self.geometry.index(level, addr));
            let pte = self.geometry.load(&hw.ram, at);
            if !pte.is_present() {
                return Err(level);
            }
            table = pte.frame();
        }
        Ok(table)
    }

    /// Replaces the entry `old` of the page at `addr` by `new` and moves the counts along. A frame
    /// that loses its last user is gathered: free it after the flush.
    #[inline]
    pub(crate) fn replace(
        &mut self,
        memory: &mut Memory,
        hw: &mut Machine,
        slot: Slot,
        addr: VirtAddr,
        (old, new): (Pte, Pte),
    ) -> Stale {
        debug_assert!(
            // Reclaim may have asked meanwhile whether the page was used.
            self.read(hw, slot).without(Pte::ACCESSED) == old.without(Pte::ACCESSED),
            "the entry changed while a case was computed"
        );
        let mut stale = Stale::NONE;
        let is_same = PteState::of(old) == PteState::Present && old.with_frame(new.frame()) == old;
        if !(is_same && old.contains(SPECIAL) == new.contains(SPECIAL)) {
            if PteState::of(old) == PteState::Present {
                let unused = memory.unmap_leaf(self.space, self.at(slot), old);
                memory.gathered.extend(unused);
            }
            if PteState::of(new) == PteState::Present {
                memory.map_leaf(self.space, self.at(slot), new);
            }
            if PteState::of(old) == PteState::Swapped {
                memory.gathered_slots.push((self.space, decode(self.geometry, old).0));
            }
        }
        self.write(hw, slot, new);
        if is_lowered(old, new) {
            stale.add_page(addr);
        }
        stale
    }

    /// Frees every table that `range` touches and that covers only addresses inside `bounds`, the
    /// room between the VMA before and the VMA after. All leaves inside `bounds` must be empty.
    pub(crate) fn free_tables(
        &mut self,
        memory: &mut Memory,
        hw: &mut Machine,
        range: VirtRange,
        bounds: VirtRange,
    ) {
        debug_assert!(bounds.start <= range.start && range.end <= bounds.end, "bounds are wider");
        if range.is_empty() {
            return;
        }
        self.last = None;
        self.free_level(memory, hw, (self.geometry.levels(), self.root), range, bounds);
    }

    /// Frees tables named by the table in `frame`, which has `level`.
    fn free_level(
        &self,
        memory: &mut Memory,
        hw: &mut Machine,
        (level, frame): (u32, Frame),
        range: VirtRange,
        bounds: VirtRange,
    ) {
        let span = self.geometry.span_bytes(level);
        let mut start = VirtAddr::new(range.start.as_u64() & !(span - 1));
        while start < range.end {
            let child = VirtRange::new(start, start.checked_add(span).unwrap_or(bounds.end));
            let at = self.geometry.slot(frame, self.geometry.index(level, start));
            let pte = self.geometry.load(&hw.ram, at);
            if pte.is_present() {
                if level > 2 {
                    let part = range.intersection(child);
                    self.free_level(memory, hw, (level - 1, pte.frame()), part, bounds);
                }
                if bounds.start <= child.start && child.end <= bounds.end {
                    self.geometry.store(&mut hw.ram, at, Pte::EMPTY);
                    memory.free_table(hw, self.space, pte.frame());
                }
            }
            let Some(next) = start.checked_add(span) else { return };
            start = next;
        }
    }

    /// Every address that a program may use.
    pub(crate) const fn user_range(&self) -> VirtRange {
        VirtRange::new(VirtAddr::new(0), self.user_end)
    }

    /// Frees every table and the root: the end of the address space.
    pub(crate) fn free_all(&mut self, memory: &mut Memory, hw: &mut Machine) {
        let all = self.user_range();
        self.free_tables(memory, hw, all, all);
        memory.free(hw, self.root);
    }
}

/// Whether the TLBs may hold what is no longer true. Adding rights needs no flush: the hardware
/// walks again before it refuses (PT-4).
const fn is_lowered(old: Pte, new: Pte) -> bool {
    old.is_present()
        && (old.without(new).with(new.without(old)).intersects(Pte::NX)
            || old.frame().number() != new.frame().number()
            || old.without(new).intersects(Pte::PRESENT.with(Pte::WRITE).with(Pte::DIRTY)))
}
