//! Splitting, merging and replacing VMAs: the rules VMA-1 to VMA-6.
//!
//! Invariants
//! 1. `mm.totals` stays the sum over the VMAs.
//! 2. Whatever is removed lets go of its backing and its commit charge.

use machine::{Machine, VirtAddr, VirtRange};

use crate::error::MmError;
use crate::memory::Memory;
use crate::page_table::{Zap, zap};
use crate::rights::VmaFlags;
use crate::space::Mm;
use crate::vma::Vma;

/// Makes `addr` a boundary: splits the VMA that has it inside.
///
/// # Errors
/// - [`MmError::NoMemory`]: one VMA more than `max_map_count` (VMA-5); nothing changed.
pub(super) fn split(mm: &mut Mm, addr: VirtAddr) -> Result<(), MmError> {
    let Some(vma) = mm.vmas.find(addr) else { return Ok(()) };
    let start = vma.range.start;
    if start == addr {
        return Ok(());
    }
    if mm.vmas.len() >= mm.limits.max_map_count {
        return Err(MmError::NoMemory("too many mappings"));
    }
    let old = mm.vmas.remove(start).expect("the VMA was just found");
    let (lower, upper) = old.cut(addr);
    mm.vmas.insert(lower);
    mm.vmas.insert(upper);
    Ok(())
}

/// Adds a VMA to free addresses, merged with its neighbours where VMA-1 allows (VMA-3).
pub(super) fn add(mm: &mut Mm, vma: Vma) {
    mm.totals.add(&vma, vma.range.pages());
    let range = vma.range;
    let before = range.start.checked_sub(1).and_then(|last| mm.vmas.find(last));
    if let Some(before) = before.filter(|before| before.can_merge(&vma)) {
        let start = before.range.start;
        let anon = before.anon.or(vma.anon);
        mm.vmas.set_end(start, range.end);
        let grown = mm.vmas.find_mut(start).expect("the neighbour is still there");
        grown.anon = anon;
        grown.fault_count += vma.fault_count;
    } else {
        mm.vmas.insert(vma);
    }
    merge_at(mm, range.end);
}

/// Adds a VMA to free addresses, merged with the neighbour above only.
pub(super) fn add_apart(mm: &mut Mm, vma: Vma) {
    mm.totals.add(&vma, vma.range.pages());
    let end = vma.range.end;
    mm.vmas.insert(vma);
    merge_at(mm, end);
}

/// Merges the two VMAs that meet at `addr`, if VMA-1 allows.
pub(super) fn merge_at(mm: &mut Mm, addr: VirtAddr) {
    let Some(next) = mm.vmas.find(addr).filter(|next| next.range.start == addr) else { return };
    let Some(last) = addr.checked_sub(1) else { return };
    let Some(before) = mm.vmas.find(last) else { return };
    if !before.can_merge(next) {
        return;
    }
    let (start, end) = (before.range.start, next.range.end);
    let next = mm.vmas.remove(addr).expect("the VMA was just found");
    mm.vmas.set_end(start, end);
    let merged = mm.vmas.find_mut(start).expect("the VMA was just found");
    merged.anon = merged.anon.or(next.anon);
    merged.fault_count += next.fault_count;
}

/// Merges at every boundary in `range`, ends included.
pub(super) fn merge_over(mm: &mut Mm, range: VirtRange) {
    let mut addr = range.start;
    loop {
        merge_at(mm, addr);
        let next = mm.vmas.first_ending_above(addr).map(|vma| vma.range);
        let Some(next) = next else { return };
        addr = if next.start > addr { next.start } else { next.end };
        if addr > range.end {
            return;
        }
    }
}

/// Changes the VMA at `addr` in everything but its range.
pub(super) fn set(mm: &mut Mm, addr: VirtAddr, change: impl FnOnce(&mut Vma)) {
    let vma = mm.vmas.find_mut(addr).expect("the caller found the VMA");
    let pages = vma.range.pages();
    mm.totals.remove(vma, pages);
    change(vma);
    mm.totals.add(vma, pages);
}

/// Changes every VMA of `range`, which is split at its ends first and merged afterwards (VMA-4).
///
/// `change` gets each VMA whose range lies in `range`; it does not change the range itself.
///
/// # Errors
/// - [`MmError::NoMemory`]: no room for a split; nothing changed.
pub(super) fn update(
    mm: &mut Mm,
    range: VirtRange,
    mut change: impl FnMut(&mut Vma),
) -> Result<(), MmError> {
    split(mm, range.start)?;
    split(mm, range.end)?;
    let mut addr = range.start;
    while let Some(start) = first_start(mm, VirtRange::new(addr, range.end)) {
        set(mm, start, &mut change);
        addr = mm.vmas.find(start).map_or(range.end, |vma| vma.range.end);
    }
    merge_over(mm, range);
    Ok(())
}

/// Where the first VMA that overlaps `range` starts.
fn first_start(mm: &Mm, range: VirtRange) -> Option<VirtAddr> {
    mm.vmas.overlapping(range).next().map(|vma| vma.range.start)
}

/// Removes whatever is mapped in `range`: VMAs, entries, frames, empty tables (UNMAP-2, UNMAP-3).
///
/// # Errors
/// - [`MmError::NotPermitted`]: a sealed VMA. - [`MmError::NoMemory`]: no room for a split.
///   Nothing changed, except that a VMA may have been split.
pub(super) fn remove(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
) -> Result<(), MmError> {
    if mm.vmas.overlapping(range).any(|vma| vma.flags.contains(VmaFlags::SEALED)) {
        return Err(MmError::NotPermitted);
    }
    check_split_room(mm, range)?;
    split_free(mm, range.start);
    split_free(mm, range.end);
    let mut low = range.end;
    let mut high = range.start;
    while let Some(start) = first_start(mm, range) {
        let vma = mm.vmas.remove(start).expect("the VMA was just found");
        low = low.min(vma.range.start);
        high = high.max(vma.range.end);
        zap(mm, memory, hw, vma.range, Zap::All);
        mm.totals.remove(&vma, vma.range.pages());
        if vma.flags.contains(VmaFlags::ACCOUNT) {
            memory.uncharge_commit(vma.range.pages());
        }
        memory.release_backing(hw, vma.backing);
    }
    if low < high {
        free_tables(mm, memory, hw, VirtRange::new(low, high));
    }
    Ok(())
}

/// Frees the tables that only served `range`, which is not mapped any more.
pub(super) fn free_tables(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, range: VirtRange) {
    let floor = mm.vmas.last_starting_below(range.start).map(|vma| vma.range.end);
    let ceiling = mm.vmas.first_ending_above(range.end).map(|vma| vma.range.start);
    let user = mm.tables.user_range();
    let bounds = VirtRange::new(floor.unwrap_or(user.start), ceiling.unwrap_or(user.end));
    mm.tables.free_tables(memory, hw, range, bounds);
}

/// Unmapping the middle of a VMA needs one VMA more (VMA-5); whole VMAs can always go.
fn check_split_room(mm: &Mm, range: VirtRange) -> Result<(), MmError> {
    let is_middle = mm
        .vmas
        .find(range.start)
        .is_some_and(|vma| vma.range.start < range.start && range.end < vma.range.end);
    if is_middle && mm.vmas.len() >= mm.limits.max_map_count {
        return Err(MmError::NoMemory("too many mappings"));
    }
    Ok(())
}

/// Splits without looking at the limit: one of the parts is about to go.
fn split_free(mm: &mut Mm, addr: VirtAddr) {
    let limit = core::mem::replace(&mut mm.limits.max_map_count, usize::MAX);
    split(mm, addr).expect("without a limit a split cannot fail");
    mm.limits.max_map_count = limit;
}

/// Whether all of `range` is mapped.
pub(super) fn first_hole(mm: &Mm, range: VirtRange) -> Option<VirtAddr> {
    let mut addr = range.start;
    while addr < range.end {
        let Some(vma) = mm.vmas.find(addr) else { return Some(addr) };
        addr = vma.range.end;
    }
    None
}
