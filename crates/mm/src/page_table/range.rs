//! Work on all leaf entries of a range: zap, protect, move, copy, count.

use core::ops::{Range, RangeInclusive};

use machine::{
    Frame, Geometry, Machine, PAGE_BYTES, PAGE_SHIFT, PhysAddr, Pte, VirtAddr, VirtRange,
};

use super::{LOCKED, PageTables, PteState, SPECIAL, Slot, Stale, UNCACHED};
use crate::backing::{FileKind, ObjectId};
use crate::counters::{PageCounts, Rss};
use crate::error::MmError;
use crate::folio::FrameState;
use crate::memory::Memory;
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;
use crate::swap::{Ownership, decode, encode};
use crate::vma::Vma;

mod lazy;

pub(crate) use lazy::free_lazily;

/// Which entries to take away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Zap {
    /// All.
    All,
    /// Those of pages of the object; private copies stay.
    Shared,
}

/// The entries of one table of level 1 inside a range.
#[derive(Clone, Debug)]
struct Run {
    table: Frame,
    indexes: Range<u64>,
    /// Address of the page of the first index.
    addr: VirtAddr,
}

/// The most entries of a part of a run.
const PART_ENTRIES: u64 = 64;

impl Run {
    /// The run in parts of at most [`PART_ENTRIES`] entries.
    fn parts(&self) -> impl Iterator<Item = Self> + use<> {
        let (table, indexes, addr) = (self.table, self.indexes.clone(), self.addr);
        indexes.clone().step_by(PART_ENTRIES as usize).map(move |first| Self {
            table,
            indexes: first..indexes.end.min(first + PART_ENTRIES),
            addr: addr.wrapping_add((first - indexes.start) << PAGE_SHIFT),
        })
    }

    /// Every slot with the address of its page.
    fn slots(&self) -> impl Iterator<Item = (Slot, VirtAddr)> + use<> {
        let (table, first, addr) = (self.table, self.indexes.start, self.addr);
        self.indexes.clone().map(move |index| {
            (Slot { table, index }, addr.wrapping_add((index - first) << PAGE_SHIFT))
        })
    }
}

impl PageTables {
    /// Replaces every entry of the run by what `change` makes of it, in place: of the address of
    /// its page, its own address, and the entry.
    fn update_run(
        &self,
        hw: &mut Machine,
        run: &Run,
        change: impl FnMut(VirtAddr, PhysAddr, Pte) -> Pte,
    ) {
        let bytes = self.geometry.entry_bytes();
        let count = run.indexes.end - run.indexes.start;
        let start = self.geometry.slot(run.table, run.indexes.start);
        let slice = hw.ram.slice_mut(start, count * bytes);
        match bytes {
            4 => update_entries::<4>(slice, (run.addr, start), change),
            _ => update_entries::<8>(slice, (run.addr, start), change),
        }
    }
}

/// Replaces little-endian entries of `BYTES` bytes each, the first of which is that of the page at
/// `first.0` and stands at `first.1`.
fn update_entries<const BYTES: usize>(
    entries: &mut [u8],
    first: (VirtAddr, PhysAddr),
    mut change: impl FnMut(VirtAddr, PhysAddr, Pte) -> Pte,
) {
    let (mut addr, mut at) = first;
    for entry in entries.as_chunks_mut::<BYTES>().0 {
        let mut raw = [0; 8];
        raw[..BYTES].copy_from_slice(entry);
        let old = Pte::from_raw(u64::from_le_bytes(raw));
        let new = change(addr, at, old);
        if new != old {
            entry.copy_from_slice(&new.raw().to_le_bytes()[..BYTES]);
        }
        addr = addr.wrapping_add(PAGE_BYTES);
        at = at.wrapping_add(BYTES as u64);
    }
}

/// Walks over the tables of level 1 that exist inside a range.
struct Runs {
    rest: VirtRange,
}

impl Runs {
    fn new(range: VirtRange) -> Self {
        debug_assert!(range.start.page_offset() == 0 && range.end.page_offset() == 0);
        Self { rest: range }
    }

    fn next(&mut self, tables: &PageTables, hw: &Machine) -> Option<Run> {
        while !self.rest.is_empty() {
            let addr = self.rest.start;
            let found = tables.leaf_table(hw, addr);
            let level = found.err().unwrap_or(2);
            let span = tables.geometry.span_bytes(level);
            let next = (addr.as_u64() & !(span - 1)).checked_add(span);
            let end = next.map_or(self.rest.end, VirtAddr::new).min(self.rest.end);
            self.rest.start = end;
            if let Ok(table) = found {
                let first = tables.geometry.index(1, addr);
                let count = VirtRange::new(addr, end).pages();
                return Some(Run { table, indexes: first..first + count, addr });
            }
        }
        None
    }
}

/// Takes away the entries of `range`, flushes, and frees the frames that lost their last user, in
/// this order (UNMAP-3). Tables stay.
pub(crate) fn zap(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, range: VirtRange, how: Zap) {
    let mut stale = Stale::NONE;
    let tables = &mm.tables;
    let mut runs = Runs::new(range);
    while let Some(run) = runs.next(tables, hw) {
        tables.update_run(hw, &run, |addr, at, old| {
            match PteState::of(old) {
                PteState::Empty => return old,
                PteState::Swapped if how == Zap::Shared => return old,
                PteState::Swapped => {
                    memory.gathered_slots.push((tables.space, decode(tables.geometry, old).0));
                }
                PteState::Present if how == Zap::Shared && is_private(memory, old) => return old,
                PteState::Present => {
                    let unused = memory.unmap_leaf(tables.space, at, old);
                    memory.gathered.extend(unused);
                }
            }
            if old.is_present() {
                stale.add_page(addr);
            }
            Pte::EMPTY
        });
    }
    stale.flush(&mut mm.tables, hw);
    memory.free_gathered(hw);
}

/// Whether the entry names a page that does not belong to an object.
fn is_private(memory: &Memory, pte: Pte) -> bool {
    pte.contains(SPECIAL) || is_anon(memory, pte)
}

/// Whether the entry names a frame of a private page.
fn is_anon(memory: &Memory, pte: Pte) -> bool {
    !pte.contains(SPECIAL) && memory.frames.state(pte.frame()) == FrameState::Anon
}

/// Zaps every mapping in `mm` of the pages of an object with an index in `pages`.
pub(crate) fn zap_object(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    id: ObjectId,
    pages: RangeInclusive<u64>,
    how: Zap,
) {
    let mut from = VirtAddr::new(0);
    while let Some((range, next)) = next_mapping(mm, id, &pages, from) {
        zap(mm, memory, hw, range, how);
        from = next;
    }
}

/// Whether stores to the VMA are to be noticed: a shared mapping of a file that is written back.
pub(crate) fn is_written_back(vma: &Vma) -> bool {
    vma.sharing == Sharing::Shared
        && vma.backing.file().is_some_and(|file| file.kind == FileKind::Regular)
}

/// The addresses of the first VMA at or above `from` that maps some page of `pages`, and where to
/// look for the next.
fn next_mapping(
    mm: &Mm,
    id: ObjectId,
    pages: &RangeInclusive<u64>,
    from: VirtAddr,
) -> Option<(VirtRange, VirtAddr)> {
    let mut from = from;
    loop {
        let vma = mm.vmas.first_ending_above(from)?;
        from = vma.range.end;
        if vma.backing.file().is_none_or(|file| file.object != id) {
            continue;
        }
        let first = vma.page_offset.max(*pages.start());
        let end_offset = vma.page_offset.saturating_add(vma.range.pages());
        let end = end_offset.min(pages.end().saturating_add(1));
        if first < end {
            let address =
                |index| vma.range.start.wrapping_add((index - vma.page_offset) << PAGE_SHIFT);
            return Some((VirtRange::new(address(first), address(end)), vma.range.end));
        }
    }
}

/// Clears `bits` in every entry of `range` that names a frame. A cleared dirty bit goes to the
/// frame.
pub(crate) fn clear_bits(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
    bits: Pte,
) -> Stale {
    let mut stale = Stale::NONE;
    let mut runs = Runs::new(range);
    while let Some(run) = runs.next(&mm.tables, hw) {
        mm.tables.update_run(hw, &run, |addr, _, old| {
            if PteState::of(old) != PteState::Present || !old.intersects(bits) {
                return old;
            }
            if old.is_dirty() && bits.is_dirty() && !is_private(memory, old) {
                memory.mark_dirty(old.frame());
            }
            if old.is_present() {
                stale.add_page(addr);
            }
            old.without(bits)
        });
    }
    stale
}

/// Takes the accessed bits of `range`, and lets reclaim know of them. Returns how many pages were
/// used, and what is to be flushed so that the next use is seen.
///
/// # Source
/// Linux 6.12 `mm/page_idle.c:page_idle_clear_pte_refs_one`, which does not flush.
pub(crate) fn take_accessed(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
) -> (u64, Stale) {
    let (mut count, mut stale) = (0, Stale::NONE);
    let mut runs = Runs::new(range);
    while let Some(run) = runs.next(&mm.tables, hw) {
        mm.tables.update_run(hw, &run, |addr, _, old| {
            let is_page = PteState::of(old) == PteState::Present && !old.contains(SPECIAL);
            if !is_page || !old.is_accessed() {
                return old;
            }
            count += 1;
            memory.frames.set_young(old.frame());
            if old.is_present() {
                stale.add_page(addr);
            }
            old.without(Pte::ACCESSED)
        });
    }
    (count, stale)
}

/// Marks the entries of `range`, which lies inside one VMA, as locked or not, as the VMA says. The
/// hardware does not look at the mark, so nothing is flushed. Pages that are locked no more may
/// leave RAM again.
pub(crate) fn mark_locked(mm: &Mm, memory: &mut Memory, hw: &mut Machine, range: VirtRange) {
    let Some(vma) = mm.vmas.find(range.start) else { return };
    let is_locked = vma.flags.contains(VmaFlags::LOCKED);
    let mut runs = Runs::new(range);
    while let Some(run) = runs.next(&mm.tables, hw) {
        mm.tables.update_run(hw, &run, |_, _, old| match PteState::of(old) {
            PteState::Present if is_locked => old.with(LOCKED),
            PteState::Present if old.contains(LOCKED) => {
                memory.rescue(old.frame());
                old.without(LOCKED)
            }
            _ => old,
        });
    }
}

/// Gives the entries of `range`, which lies inside one VMA, the rights that this VMA has now.
///
/// # Source
/// Linux 6.12 `mm/mprotect.c:change_pte_range`, `can_change_pte_writable`; semantics PROT-5, 6.
pub(crate) fn protect(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
) -> Stale {
    let mut stale = Stale::NONE;
    let Some(vma) = mm.vmas.find(range.start) else { return stale };
    debug_assert!(range.end <= vma.range.end, "the range lies inside one VMA");
    let tables = &mm.tables;
    let bits = tables.leaf_bits(vma.rights);
    let kept = Pte::ACCESSED.with(Pte::DIRTY).with(SPECIAL).with(LOCKED).with(UNCACHED);
    let mut runs = Runs::new(range);
    while let Some(run) = runs.next(tables, hw) {
        tables.update_run(hw, &run, |addr, _, old| {
            if PteState::of(old) != PteState::Present {
                return old;
            }
            let keep = Pte::from_raw(old.raw() & kept.raw());
            let mut new = Pte::new(old.frame(), bits.with(keep));
            if vma.rights.contains(Rights::WRITE) && may_write_at_once(memory, vma, old) {
                new = new.with(Pte::WRITE);
            }
            if new != old && old.is_present() {
                stale.add_page(addr);
            }
            new
        });
    }
    stale
}

/// Whether a writable VMA may have the entry writable without a fault that asks first.
fn may_write_at_once(memory: &Memory, vma: &Vma, pte: Pte) -> bool {
    if pte.contains(SPECIAL) {
        return vma.sharing == Sharing::Shared && vma.flags.contains(VmaFlags::PFN_MAP);
    }
    match vma.sharing {
        Sharing::Private => is_anon(memory, pte) && memory.frames.is_exclusive(pte.frame()),
        Sharing::Shared => pte.is_dirty() || !is_written_back(vma),
    }
}

/// Moves the entries of `from` to the range of the same length at `to`, whose entries must be
/// empty. No page is touched; counts do not change (REMAP-6).
///
/// # Errors
/// - [`MmError::NoMemory`]: no frame for a page table; no entry was moved, tables made so far stay.
pub(crate) fn move_entries(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    from: VirtRange,
    to: VirtAddr,
) -> Result<Stale, MmError> {
    let target = |addr: VirtAddr| to.wrapping_add(addr.offset_from(from.start));
    let is_in_use = |tables: &PageTables, hw: &Machine, slot| !tables.read(hw, slot).is_empty();
    let mut runs = Runs::new(from);
    while let Some(run) = runs.next(&mm.tables, hw) {
        for (slot, addr) in run.slots() {
            if is_in_use(&mm.tables, hw, slot) {
                let made = mm.tables.slot_for(memory, hw, target(addr));
                made.ok_or(MmError::NoMemory("no frame for a page table"))?;
            }
        }
    }
    let mut stale = Stale::NONE;
    let mut runs = Runs::new(from);
    while let Some(run) = runs.next(&mm.tables, hw) {
        for (slot, addr) in run.slots() {
            let old = mm.tables.read(hw, slot);
            if old.is_empty() {
                continue;
            }
            let Some(new_slot) = mm.tables.slot_for(memory, hw, target(addr)) else {
                unreachable!("the tables were made above");
            };
            mm.tables.write(hw, slot, Pte::EMPTY);
            mm.tables.write(hw, new_slot, old);
            if PteState::of(old) == PteState::Present && !old.contains(SPECIAL) {
                let (from, to) = (mm.tables.at(slot), mm.tables.at(new_slot));
                memory.entries.relocate(old.frame(), from, to);
            }
            if old.is_present() {
                stale.add_page(addr);
            }
        }
    }
    Ok(stale)
}

/// Copies the entries of `range`, which lies inside one VMA of `parent`, to `child`, as fork does:
/// private pages become shared and write-protected in both (FORK-3). Returns how many entries were
/// copied. The child gets a table for each one that the parent has, even if that is empty.
///
/// The TLBs must forget the parent afterwards.
///
/// # Errors
/// - [`MmError::NoMemory`]: no frame for a page table of the child; what was copied stays.
///
/// # Source
/// Linux 6.12 `mm/memory.c:copy_pte_range`, `copy_present_ptes`.
pub(crate) fn copy_entries(
    parent: &mut Mm,
    child: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
) -> Result<u64, MmError> {
    let Some(vma) = parent.vmas.find(range.start) else { return Ok(0) };
    let (sharing, mut copied) = (vma.sharing, 0);
    let (geometry, space) = (parent.tables.geometry, child.tables.space);
    let entry_bytes = geometry.entry_bytes();
    let mut runs = Runs::new(range);
    while let Some(run) = runs.next(&parent.tables, hw) {
        let target = child.tables.slot_for(memory, hw, run.addr);
        let target = target.ok_or(MmError::NoMemory("no frame for a page table"))?;
        for part in run.parts() {
            let mut copies = [Pte::EMPTY; PART_ENTRIES as usize];
            let mut rest = copies.iter_mut();
            let mut rss = Rss::default();
            let place = Run { table: target.table, ..part.clone() };
            let mut at = child.tables.at(Slot { table: place.table, index: place.indexes.start });
            parent.tables.update_run(hw, &part, |_, _, old| {
                let (kept, copy) =
                    share_entry(memory, (geometry, space), sharing, (at, old), &mut rss);
                at = at.wrapping_add(entry_bytes);
                if let Some(slot) = rest.next() {
                    *slot = copy;
                }
                kept
            });
            if rss == Rss::default() && copies.iter().all(|copy| copy.is_empty()) {
                continue;
            }
            copied += copies.iter().filter(|copy| !copy.is_empty()).count() as u64;
            let mut rest = copies.iter();
            child.tables.update_run(hw, &place, |_, _, old| rest.next().copied().unwrap_or(old));
            memory.add_resident(child.tables.space, rss);
        }
    }
    Ok(copied)
}

/// What becomes of one entry of the parent, and what the child gets at the address given. The new
/// entry is counted in the frame table and in `rss`.
#[inline]
fn share_entry(
    memory: &mut Memory,
    (geometry, child): (Geometry, usize),
    sharing: Sharing,
    (at, old): (PhysAddr, Pte),
    rss: &mut Rss,
) -> (Pte, Pte) {
    match PteState::of(old) {
        PteState::Empty => return (old, Pte::EMPTY),
        PteState::Swapped => {
            let (slot, _) = decode(geometry, old);
            memory.retain_swap(child, slot);
            let entry = encode(geometry, slot, Ownership::Shared);
            return (entry, entry);
        }
        PteState::Present => {}
    }
    if !old.contains(SPECIAL) {
        *rss.count_mut(memory.frames.share(old.frame())) += 1;
        memory.entries.add(old.frame(), at);
    }
    match sharing {
        Sharing::Private => {
            let kept = old.without(Pte::WRITE);
            (kept, kept.without(Pte::ACCESSED.with(LOCKED)))
        }
        Sharing::Shared => (old, old.without(Pte::ACCESSED.with(Pte::DIRTY).with(LOCKED))),
    }
}

/// Calls `see` with every page of `range` that has an entry which is not empty, ascending.
pub(crate) fn for_each_entry(
    mm: &Mm,
    hw: &Machine,
    range: VirtRange,
    mut see: impl FnMut(VirtAddr, Pte),
) {
    let mut runs = Runs::new(range);
    while let Some(run) = runs.next(&mm.tables, hw) {
        for (slot, addr) in run.slots() {
            let pte = mm.tables.read(hw, slot);
            if !pte.is_empty() {
                see(addr, pte);
            }
        }
    }
}

/// Counts the pages of `range` for smaps (semantics RSS-2, 3).
pub(crate) fn count_pages(mm: &Mm, hw: &Machine, memory: &Memory, range: VirtRange) -> PageCounts {
    let mut counts = PageCounts::default();
    // Linux does not look into such a VMA either, at private copies neither.
    if mm.vmas.find(range.start).is_some_and(|vma| vma.flags.contains(VmaFlags::PFN_MAP)) {
        return counts;
    }
    for_each_entry(mm, hw, range, |_, pte| match PteState::of(pte) {
        PteState::Empty => {}
        PteState::Swapped => {
            let users = memory.swap.use_count(decode(hw.geometry(), pte).0).max(1);
            counts.swap += 1;
            counts.swap_pss_fixed += (PAGE_BYTES << PSS_SHIFT) / users;
        }
        PteState::Present if pte.contains(SPECIAL) => counts.zero += 1,
        PteState::Present => count_page(&mut counts, memory, pte),
    });
    counts.pss_sub_pages = counts.pss_fixed >> PSS_SHIFT;
    counts.pss_dirty_sub_pages = counts.pss_dirty_fixed >> PSS_SHIFT;
    counts
}

/// Fractional bits of a share (RSS-2).
const PSS_SHIFT: u32 = 12;

fn count_page(counts: &mut PageCounts, memory: &Memory, pte: Pte) {
    let frame = pte.frame();
    let map_count = memory.frames.map_count(frame);
    let is_dirty = pte.is_dirty() || memory.frames.is_dirty(frame);
    let share = (PAGE_BYTES << PSS_SHIFT) / u64::from(map_count.max(1));
    counts.resident += 1;
    counts.pss_fixed += share;
    if is_dirty {
        counts.pss_dirty_fixed += share;
    }
    match (map_count > 1, is_dirty) {
        (false, false) => counts.private_clean += 1,
        (false, true) => counts.private_dirty += 1,
        (true, false) => counts.shared_clean += 1,
        (true, true) => counts.shared_dirty += 1,
    }
    counts.referenced += u64::from(pte.is_accessed());
    counts.active += u64::from(memory.is_active(frame));
    counts.map_count_max = counts.map_count_max.max(map_count.into());
    match memory.frames.state(frame) {
        FrameState::Anon => {
            counts.lazy_free += u64::from(memory.frames.is_lazy(frame) && !is_dirty);
            counts.anonymous += 1;
            counts.pss_anon_fixed += share;
        }
        FrameState::Shmem => {
            counts.shmem += 1;
            counts.pss_shmem_fixed += share;
        }
        _ => counts.pss_file_fixed += share,
    }
}
