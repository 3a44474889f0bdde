//! Faults on pages of files and shared memory.

use machine::{Frame, PAGE_BYTES, Pte, VirtAddr, VirtRange};

use super::cow;
use super::{Cost, Failure, Fault, FaultKind, Resolved};
use crate::backing::{FileKind, ObjectId};
use crate::page_cache::{PageInError, Source};
use crate::page_table::{PageTables, SPECIAL};
use crate::rights::{Rights, Sharing};

/// `fault_around_bytes` in pages.
const FAULT_AROUND_PAGES: u64 = 16;

/// A read, or a fetch: the cached page, and the pages around it that are in reach (FLT-6).
pub(super) fn read(
    fault: &mut Fault<'_>,
    tables: &mut PageTables,
    file: (ObjectId, FileKind),
) -> Result<Resolved, Failure> {
    let held = match file.1 {
        FileKind::Special => None,
        _ => map_around(fault, tables, file),
    };
    let frame = page_in(fault, file, fault.index());
    if let Some(held) = held {
        fault.memory.frames.unhold(held);
    }
    let frame = frame?;
    Ok(Resolved::minor(read_leaf(fault, file.1, frame), FaultKind::File))
}

/// A store to a private page that is not there yet: a copy of the cached page (FLT-7).
pub(super) fn private_copy(
    fault: &mut Fault<'_>,
    file: (ObjectId, FileKind),
) -> Result<Resolved, Failure> {
    let frame = page_in(fault, file, fault.index())?;
    let copy = cow::copy(fault, frame)?;
    Ok(Resolved::minor(fault.written(copy), FaultKind::Cow))
}

/// A store to a shared page that is not there yet: the cached page, writable and dirty (FLT-8).
pub(super) fn shared_write(
    fault: &mut Fault<'_>,
    file: (ObjectId, FileKind),
) -> Result<Resolved, Failure> {
    let frame = page_in(fault, file, fault.index())?;
    make_dirty(fault, frame)?;
    Ok(Resolved::minor(fault.written(frame), FaultKind::File))
}

/// A store to a present, write-protected shared page: now it is dirty (FLT-8, FILE-8).
pub(super) fn mk_write(fault: &mut Fault<'_>) -> Result<Resolved, Failure> {
    let frame = fault.old.frame();
    if !fault.old.contains(SPECIAL) {
        make_dirty(fault, frame)?;
    }
    let special = Pte::from_raw(fault.old.raw() & SPECIAL.raw());
    Ok(Resolved::minor(fault.written(frame).with(special), FaultKind::MkWrite))
}

/// Marks a page as changed, if its pager will have room for it.
fn make_dirty(fault: &mut Fault<'_>, frame: Frame) -> Result<(), Failure> {
    let Some((object, _)) = fault.promise.file else { return Ok(()) };
    let index = fault.index();
    fault.memory.reserve_page(object, index).map_err(|_| Failure::BusError)?;
    fault.memory.mark_dirty(frame);
    Ok(())
}

/// The leaf with which a read maps `frame`. Shared memory is not written back, so its pages are
/// writable at once where the VMA is.
fn read_leaf(fault: &Fault<'_>, kind: FileKind, frame: Frame) -> Pte {
    let promise = &fault.promise;
    let is_writable = kind != FileKind::Regular
        && promise.sharing == Sharing::Shared
        && promise.rights.contains(Rights::WRITE);
    let leaf = Pte::new(frame, fault.bits);
    let leaf = if is_writable { leaf.with(Pte::WRITE) } else { leaf };
    if promise.is_pfn_map { leaf.with(SPECIAL) } else { leaf }
}

fn page_in(
    fault: &mut Fault<'_>,
    (object, kind): (ObjectId, FileKind),
    index: u64,
) -> Result<Frame, Failure> {
    let is_own = index == fault.index();
    let is_read = is_own && fault.memory.read_around(fault.hw, object, index, fault.promise.flags);
    let brought = fault.memory.page_in(fault.hw, object, index);
    let (frame, source) = brought.map_err(|error| match error {
        PageInError::BeyondEnd | PageInError::Pager => Failure::BusError,
        PageInError::NoFrame => Failure::NoFrame,
    })?;
    if is_read || source == Source::Device {
        fault.cost = Cost::Major;
    }
    if kind == FileKind::Special {
        fault.memory.keep_page(frame);
    }
    Ok(frame)
}

/// Maps every page of the window around the fault that is up to date and has an empty entry. The
/// faulting page itself is only brought, so that frames of neighbours ascend, and held, so that it
/// does not leave while they find frames.
///
/// # Source
/// Linux 6.12 `mm/memory.c:do_fault_around`, `mm/filemap.c:filemap_map_pages`.
fn map_around(
    fault: &mut Fault<'_>,
    tables: &mut PageTables,
    file: (ObjectId, FileKind),
) -> Option<Frame> {
    let mut held = None;
    let (first, end) = window(fault.slot.index, fault.addr, fault.promise.range, tables);
    let at_fault = fault.index();
    let page_count = fault.memory.cache.page_count(file.0);
    let own_entry = fault.slot.index;
    let index_of = |entry: u64| at_fault.wrapping_add(entry).wrapping_sub(own_entry);
    let indexes = (index_of(first), index_of(end).min(page_count));
    fault.memory.bring_at_hand(fault.hw, file.0, indexes);
    let mut hits = 0;
    for entry in first..end {
        let index = index_of(entry);
        let slot = fault.slot.sibling(entry);
        let old = tables.read(fault.hw, slot);
        let is_mappable =
            index < page_count && old.is_empty() && fault.memory.is_around(file.0, index);
        if !is_mappable {
            continue;
        }
        let Ok(frame) = page_in(fault, file, index) else { break };
        if entry == fault.slot.index {
            fault.memory.frames.hold(frame);
            held = Some(frame);
        } else {
            let leaf = read_leaf(fault, file.1, frame);
            let addr = fault
                .addr
                .wrapping_add(entry.wrapping_sub(fault.slot.index).wrapping_mul(PAGE_BYTES));
            let (memory, hw) = (&mut *fault.memory, &mut *fault.hw);
            tables.replace(memory, hw, slot, addr, (old, leaf)).flush(tables, hw);
            hits += 1;
        }
    }
    fault.memory.note_around_hits(file.0, hits);
    held
}

/// The entries of the table from the first to beyond the last that a fault on entry `index` may
/// map: 16 aligned pages, clipped to the VMA and to the table.
fn window(index: u64, addr: VirtAddr, range: VirtRange, tables: &PageTables) -> (u64, u64) {
    let before = VirtRange::new(range.start, addr).pages();
    let behind = VirtRange::new(addr, range.end).pages();
    let aligned = index & !(FAULT_AROUND_PAGES - 1);
    let first = aligned.max(index - index.min(before));
    let end = (first + FAULT_AROUND_PAGES).min(tables.leaf_entries()).min(index + behind);
    (first, end)
}
