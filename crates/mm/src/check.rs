//! Derives all bookkeeping again from scratch and compares: the invariants of this crate.
//!
//! Page tables in RAM are the truth; VMAs, the frame table, the free lists and all counts must
//! agree with them. Runs after every step in tests and fuzzing. It changes nothing.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt;

use machine::{Frame, Geometry, Machine, PhysAddr, Pte, VirtAddr, VirtRange};

use crate::backing::{FileKind, MmId, ObjectId};
use crate::counters::Rss;
use crate::folio::{FrameState, Owner};
use crate::memory::Memory;
use crate::page_table::{LOCKED, PteState, SPECIAL};
use crate::rights::{Rights, VmaFlags};
use crate::space::{Mm, Totals};
use crate::swap::{SwapPlace, SwapSlot, decode};
use crate::vma::Vma;

/// One invariant that does not hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Violation {
    /// I4: a VMA is empty, not page aligned, or not above the one before.
    VmaOrder {
        /// Address space.
        mm: MmId,
        /// Start of the VMA.
        start: VirtAddr,
    },
    /// I5: a leaf entry lies in no VMA, or allows more than its VMA.
    LeafRights {
        /// Address space.
        mm: MmId,
        /// Address of the page.
        addr: VirtAddr,
    },
    /// I1: a leaf entry names a frame that holds no page.
    LeafFrame {
        /// Address space.
        mm: MmId,
        /// Address of the page.
        addr: VirtAddr,
    },
    /// I8: a leaf entry is not where the owner of its frame says: the reverse map would miss it.
    Owner {
        /// Address space.
        mm: MmId,
        /// Address of the page.
        addr: VirtAddr,
    },
    /// I6: a writable entry names a private frame that is not exclusive.
    WritableShared {
        /// Address space.
        mm: MmId,
        /// Address of the page.
        addr: VirtAddr,
    },
    /// I12: a page table covers no VMA.
    TableWithoutVma {
        /// Address space.
        mm: MmId,
        /// First address that it covers.
        addr: VirtAddr,
    },
    /// I1: a page table is no frame of state page table, or two entries name it.
    TableFrame {
        /// The frame.
        frame: Frame,
    },
    /// I2: the entries that name a frame are not as many as noted.
    MapCount {
        /// The frame.
        frame: Frame,
        /// Entries found.
        found: u32,
        /// Entries noted.
        noted: u32,
    },
    /// I2: the other users of a frame are not as many as noted.
    HoldCount {
        /// The frame.
        frame: Frame,
    },
    /// I7: an exclusive frame is not private or not mapped exactly once.
    Exclusive {
        /// The frame.
        frame: Frame,
    },
    /// I1: a frame is in use and nothing leads to it, or it is free and not with the buddy.
    Lost {
        /// The frame.
        frame: Frame,
    },
    /// I1: a cached page and its frame do not name each other.
    Cached {
        /// The object.
        object: ObjectId,
        /// The index.
        index: u64,
    },
    /// I3: the free lists are wrong.
    Buddy(&'static str),
    /// I1: a slab is wrong, or a frame of one.
    Slab {
        /// The frame.
        frame: Frame,
    },
    /// I1: the areas of vmalloc or the slots of `kmap` are wrong.
    Area(&'static str),
    /// I3: the frames of a state are not as many as noted.
    StateCount {
        /// The state.
        state: FrameState,
    },
    /// I9: a swap slot has not as many users as entries, or its cached frame is wrong.
    Swap {
        /// The slot.
        slot: SwapSlot,
    },
    /// I9: the slots of the swap area are wrong.
    SwapArea(&'static str),
    /// I10: a page is not on the list where reclaim would find it, or a list has what is no page.
    List {
        /// The frame.
        frame: Frame,
    },
    /// I13: a page is in RAM and on the device, or the dirty pages of an object are not as many as
    /// noted.
    Object {
        /// The object.
        object: ObjectId,
    },
    /// I13: stores to a clean page of a file would not be noticed.
    Unnoticed {
        /// Address space.
        mm: MmId,
        /// Address of the page.
        addr: VirtAddr,
    },
    /// I3: the mapped or the dirty pages of the page cache are not as many as noted.
    CacheCounts,
    /// I11: resident pages or page-table frames are not as many as noted.
    Resident {
        /// Address space.
        mm: MmId,
    },
    /// I11: the sums over the VMAs are wrong.
    Totals {
        /// Address space.
        mm: MmId,
    },
    /// I11: less is promised than the VMAs were charged.
    Committed,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant violated: {self:x?}")
    }
}

impl core::error::Error for Violation {}

/// Checks every invariant. `spaces` must be all address spaces of the memory.
///
/// # Errors
/// The first violation that was found.
pub fn check(spaces: &[&Mm], memory: &Memory, hw: &Machine) -> Result<(), Violation> {
    let mut found = Found::new(memory);
    let mut committed_pages = 0;
    for mm in spaces {
        committed_pages += check_vmas(mm)?;
        check_tables(mm, memory, hw, &mut found)?;
    }
    if committed_pages > memory.usage().committed_pages {
        return Err(Violation::Committed);
    }
    check_cache(memory, &mut found)?;
    check_swap(memory, &mut found)?;
    check_free(memory, &mut found)?;
    check_kernel(memory, hw, &mut found)?;
    check_frames(memory, &found)
}

/// What leads to each frame.
struct Found {
    map_counts: Vec<u32>,
    hold_counts: Vec<u32>,
    /// Frames that are page tables or free.
    is_plain: Vec<bool>,
    /// How many entries name each swap slot.
    swap_users: BTreeMap<SwapPlace, u64>,
}

impl Found {
    fn new(memory: &Memory) -> Self {
        let length = memory.frames.len();
        Self {
            map_counts: vec![0; length],
            hold_counts: vec![0; length],
            is_plain: vec![false; length],
            swap_users: BTreeMap::new(),
        }
    }

    /// Notes a frame that only one thing may lead to.
    fn note_plain(&mut self, frame: Frame) -> Result<(), Violation> {
        match self.is_plain.get_mut(index(frame)) {
            Some(is_plain) if !*is_plain => *is_plain = true,
            _ => return Err(Violation::Lost { frame }),
        }
        Ok(())
    }
}

fn index(frame: Frame) -> usize {
    usize::try_from(frame.number()).unwrap_or(usize::MAX)
}

/// I4 and the sums of I11. Returns the pages charged as committed.
fn check_vmas(mm: &Mm) -> Result<u64, Violation> {
    let mut sums = Totals::default();
    let (mut end, mut committed_pages) = (VirtAddr::new(0), 0);
    for vma in mm.vmas.iter() {
        let range = vma.range;
        let is_aligned = range.start.page_offset() == 0 && range.end.page_offset() == 0;
        if !is_aligned || range.is_empty() || range.start < end {
            return Err(Violation::VmaOrder { mm: mm.id, start: range.start });
        }
        end = range.end;
        sums.add(vma, range.pages());
        if vma.flags.contains(VmaFlags::ACCOUNT) {
            committed_pages += range.pages();
        }
    }
    sums.total_pages_peak = mm.totals.total_pages_peak;
    let is_peak = sums.total_pages_peak >= sums.total_pages;
    if sums == mm.totals && is_peak {
        Ok(committed_pages)
    } else {
        Err(Violation::Totals { mm: mm.id })
    }
}

/// The walk over the page tables of one space.
struct Tables<'a> {
    mm: &'a Mm,
    memory: &'a Memory,
    hw: &'a Machine,
    geometry: Geometry,
    rss: Rss,
    table_count: u64,
    swap_count: u64,
}

/// I1, I5, I6, I8, I12 and the resident counts of I11, from the root down.
fn check_tables(
    mm: &Mm,
    memory: &Memory,
    hw: &Machine,
    found: &mut Found,
) -> Result<(), Violation> {
    let geometry = hw.geometry();
    let (rss, table_count, swap_count) = (Rss::default(), 0, 0);
    let mut tables = Tables { mm, memory, hw, geometry, rss, table_count, swap_count };
    found.note_plain(mm.root())?;
    tables.check_level(geometry.levels(), mm.root(), VirtAddr::new(0), found)?;
    let noted = mm.rss(memory);
    let is_right = noted == tables.rss
        && mm.swap_pages(memory) == tables.swap_count
        && mm.page_table_frames(memory) == tables.table_count
        && mm.rss_peak_pages(memory) >= noted.total_pages();
    if is_right { Ok(()) } else { Err(Violation::Resident { mm: mm.id }) }
}

impl Tables<'_> {
    fn check_level(
        &mut self,
        level: u32,
        table: Frame,
        base: VirtAddr,
        found: &mut Found,
    ) -> Result<(), Violation> {
        if self.memory.frames.state(table) != FrameState::PageTable {
            return Err(Violation::TableFrame { frame: table });
        }
        let span = self.geometry.span_bytes(level);
        for i in 0..self.geometry.entries(level) {
            let pte = self.geometry.load(&self.hw.ram, self.geometry.slot(table, i));
            let addr = base.wrapping_add(i * span);
            let kernel = self.memory.kernel.as_ref().filter(|_| level == self.geometry.levels());
            if let Some(entry) = kernel.and_then(|kernel| kernel.entry(i)) {
                if pte != entry {
                    return Err(Violation::TableFrame { frame: table });
                }
                continue;
            }
            if pte.is_empty() {
                continue;
            }
            if level == 1 {
                let at = self.geometry.slot(table, i);
                self.check_leaf((addr, at), pte, found)?;
                self.check_table_owner(table, base)?;
                continue;
            }
            let covered = VirtRange::new(addr, addr.wrapping_add(span));
            let vma = self.mm.vmas.first_ending_above(addr);
            if vma.is_none_or(|vma| !vma.range.overlaps(covered)) {
                return Err(Violation::TableWithoutVma { mm: self.mm.id, addr });
            }
            let child = pte.frame();
            found.note_plain(child).map_err(|_| Violation::TableFrame { frame: child })?;
            self.table_count += 1;
            self.check_level(level - 1, child, addr, found)?;
        }
        Ok(())
    }

    /// I8: a table of level 1 says of which space it is, and where it begins.
    fn check_table_owner(&self, table: Frame, base: VirtAddr) -> Result<(), Violation> {
        let owner = Owner::Space { slot: self.mm.slot, page: base.page().number() };
        let is_right = self.memory.frames.owner(table) == Some(owner);
        if is_right { Ok(()) } else { Err(Violation::TableFrame { frame: table }) }
    }

    fn check_leaf(
        &mut self,
        (addr, at): (VirtAddr, PhysAddr),
        pte: Pte,
        found: &mut Found,
    ) -> Result<(), Violation> {
        let mm = self.mm.id;
        let vma = self.mm.vmas.find(addr).ok_or(Violation::LeafRights { mm, addr })?;
        if PteState::of(pte) == PteState::Swapped {
            *found.swap_users.entry(decode(self.geometry, pte).0).or_insert(0) += 1;
            self.swap_count += 1;
            return Ok(());
        }
        if pte.contains(LOCKED) != vma.flags.contains(VmaFlags::LOCKED) {
            return Err(Violation::LeafRights { mm, addr });
        }
        if !self.is_promised(vma, pte) {
            return Err(Violation::LeafRights { mm, addr });
        }
        let frame = pte.frame();
        if index(frame) >= found.map_counts.len() {
            let is_right = pte.contains(SPECIAL) && is_of_device(vma);
            return if is_right { Ok(()) } else { Err(Violation::LeafFrame { mm, addr }) };
        }
        let state = self.memory.frames.state(frame);
        if pte.contains(SPECIAL) {
            let is_page = !matches!(state, FrameState::Free | FrameState::PageTable);
            return if is_page { Ok(()) } else { Err(Violation::LeafFrame { mm, addr }) };
        }
        match state {
            FrameState::Anon => self.rss.anon_pages += 1,
            FrameState::File => self.rss.file_pages += 1,
            FrameState::Shmem => self.rss.shmem_pages += 1,
            _ => return Err(Violation::LeafFrame { mm, addr }),
        }
        if self.memory.frames.owner(frame) != crate::rmap::owner_at(vma, addr, state) {
            return Err(Violation::Owner { mm, addr });
        }
        if !self.memory.entries.of(frame).any(|entry| entry == at) {
            return Err(Violation::Owner { mm, addr });
        }
        let is_clean_file = crate::page_table::is_written_back(vma)
            && self.memory.is_file_page(frame)
            && !self.memory.frames.is_dirty(frame);
        if is_clean_file && (pte.is_writable() || pte.is_dirty()) {
            return Err(Violation::Unnoticed { mm, addr });
        }
        let is_exclusive = self.memory.frames.is_exclusive(frame);
        if state == FrameState::Anon && pte.is_writable() && !is_exclusive {
            return Err(Violation::WritableShared { mm, addr });
        }
        found.map_counts[index(frame)] += 1;
        Ok(())
    }

    /// I5: whether the VMA allows all that the entry allows.
    fn is_promised(&self, vma: &Vma, pte: Pte) -> bool {
        if !pte.is_present() {
            return !vma.rights.is_accessible() && !pte.is_writable();
        }
        let may_fetch = pte.is_executable() && self.geometry.has_nx();
        vma.rights.is_accessible()
            && pte.is_user()
            && (!pte.is_writable() || vma.rights.contains(Rights::WRITE))
            && (!may_fetch || vma.rights.contains(Rights::EXECUTE))
    }
}

/// Whether entries of the VMA may name frames that are no RAM.
fn is_of_device(vma: &Vma) -> bool {
    vma.flags.contains(VmaFlags::PFN_MAP)
        && vma.backing.file().is_some_and(|file| file.kind == FileKind::Device)
}

/// Frames and pages of the page cache name each other, once.
fn check_cache(memory: &Memory, found: &mut Found) -> Result<(), Violation> {
    for (object, at, frame) in memory.cache.iter() {
        let owner = Owner::Cached { object, index: at };
        if memory.frames.owner(frame) != Some(owner) || found.hold_counts[index(frame)] != 0 {
            return Err(Violation::Cached { object, index: at });
        }
        found.hold_counts[index(frame)] = 1;
    }
    for (object, at, place) in memory.cache.iter_swapped() {
        let is_alone = found.swap_users.insert(place, 1).is_none();
        if !is_alone || memory.cache.get(object, at).is_some() {
            return Err(Violation::Swap { slot: place.slot });
        }
    }
    match memory.cache.odd_object(|frame| memory.frames.is_dirty(frame)) {
        Some(object) => Err(Violation::Object { object }),
        None => Ok(()),
    }
}

/// I9: slots, their users, and the swap cache agree.
fn check_swap(memory: &Memory, found: &mut Found) -> Result<(), Violation> {
    let swap = &memory.swap;
    swap.check().map_err(Violation::SwapArea)?;
    for (&place, &count) in &found.swap_users {
        if swap.use_count(place) != count {
            return Err(Violation::Swap { slot: place.slot });
        }
    }
    if swap.used_count() != found.swap_users.len() as u64 {
        return Err(Violation::SwapArea("a used slot has no entry"));
    }
    for frame in swap.pool_frames() {
        if memory.frames.state(frame) != FrameState::Kernel {
            return Err(Violation::Lost { frame });
        }
        found.note_plain(frame)?;
    }
    for (place, frame) in swap.iter_cached() {
        let is_private = memory.frames.state(frame) == FrameState::Anon;
        let is_once = swap.slot_of(frame) == Some(place) && found.swap_users.contains_key(&place);
        if !is_private || !is_once || memory.frames.is_exclusive(frame) {
            return Err(Violation::Swap { slot: place.slot });
        }
        found.hold_counts[index(frame)] += 1;
    }
    Ok(())
}

/// I10: pages are on a list of reclaim, other frames on none. The kernel's own pages may be off.
fn check_list(memory: &Memory, frame: Frame) -> Result<(), Violation> {
    let reclaim = &memory.reclaim;
    let is_listed = reclaim.lru.contains(index(frame) as u32);
    let is_right = match memory.frames.state(frame) {
        FrameState::File => true,
        FrameState::Anon if memory.frames.is_lazy(frame) => is_listed,
        state => is_listed == reclaim.first_list(state).is_some(),
    };
    if is_right { Ok(()) } else { Err(Violation::List { frame }) }
}

/// I3: the buddy allocator holds the free frames and nothing else.
fn check_free(memory: &Memory, found: &mut Found) -> Result<(), Violation> {
    memory.zones.check(memory.frames.len() as u64).map_err(Violation::Buddy)?;
    for (first, order) in memory.zones.free_blocks() {
        for number in first..first + (1 << order) {
            let frame = Frame::new(number.into());
            if memory.frames.state(frame) != FrameState::Free {
                return Err(Violation::Lost { frame });
            }
            found.note_plain(frame)?;
        }
    }
    Ok(())
}

/// I1 for the kernel's own objects: slabs and areas of vmalloc.
fn check_kernel(memory: &Memory, hw: &Machine, found: &mut Found) -> Result<(), Violation> {
    let slabs = memory.slabs.check(memory, |frame| found.note_plain(frame).is_ok());
    slabs.map_err(|frame| Violation::Slab { frame })?;
    memory.check_areas(hw, |frame| found.note_plain(frame).is_ok()).map_err(Violation::Area)?;
    memory.check_highmem(hw).map_err(Violation::Area)?;
    memory.check_vmemmap(hw).map_err(Violation::Area)
}

/// I1, I2, I7 for every frame, and the counts by state.
fn check_frames(memory: &Memory, found: &Found) -> Result<(), Violation> {
    let mut by_state = [0u64; FrameState::ALL.len()];
    let (mut mapped_pages, mut dirty_pages) = (0, 0);
    for number in 0..memory.frames.len() {
        let frame = Frame::new(number as u64);
        let (frames, state) = (&memory.frames, memory.frames.state(frame));
        by_state[state as usize] += 1;
        let (found_maps, noted) = (found.map_counts[number], frames.map_count(frame));
        if found_maps != noted || memory.entries.of(frame).count() as u32 != noted {
            return Err(Violation::MapCount { frame, found: found_maps, noted });
        }
        if frames.hold_count(frame) != found.hold_counts[number] {
            return Err(Violation::HoldCount { frame });
        }
        let is_used = found_maps + found.hold_counts[number] != 0;
        let is_plain = found.is_plain[number] || state == FrameState::Kernel;
        if is_used == is_plain {
            return Err(Violation::Lost { frame });
        }
        check_list(memory, frame)?;
        let is_page = matches!(state, FrameState::File | FrameState::Shmem);
        mapped_pages += u64::from(is_page && noted > 0);
        dirty_pages += u64::from(memory.is_file_page(frame) && frames.is_dirty(frame));
        if frames.is_exclusive(frame) && (state != FrameState::Anon || noted != 1) {
            return Err(Violation::Exclusive { frame });
        }
    }
    if (mapped_pages, dirty_pages) != (memory.mapped_pages(), memory.dirty_pages()) {
        return Err(Violation::CacheCounts);
    }
    for state in FrameState::ALL {
        if memory.count_of(state) != by_state[state as usize] {
            return Err(Violation::StateCount { state });
        }
    }
    Ok(())
}
