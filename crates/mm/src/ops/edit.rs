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
use crate::vma::{Vma, is_one_family};

/// Adds a VMA to free addresses, merged with its neighbours where VMA-1 allows (VMA-3).
pub(super) fn add(mm: &mut Mm, vma: Vma) {
    let merge = Merge::find(mm, &vma);
    put(mm, vma, merge);
}

/// Adds a VMA to free addresses, not merged with the VMA below.
pub(super) fn add_apart(mm: &mut Mm, vma: Vma) {
    let merge = Merge { left: None, ..Merge::find(mm, &vma) };
    put(mm, vma, merge);
}

/// Adds a VMA to free addresses, not merged with any.
pub(super) fn add_alone(mm: &mut Mm, vma: Vma) {
    put(mm, vma, Merge { left: None, right: false });
}

fn put(mm: &mut Mm, vma: Vma, merge: Merge) {
    mm.totals.add(&vma, vma.range.pages());
    let end = vma.range.end;
    if let Some(start) = merge.left {
        mm.vmas.set_end(start, end);
        let grown = mm.vmas.find_mut(start).expect("the neighbour is still there");
        grown.anon = grown.anon.or(vma.anon);
    } else {
        mm.vmas.insert(vma);
    }
    if merge.right {
        mm.vmas.join_at(end);
    }
}

/// With which neighbours a range can be one VMA.
#[derive(Clone, Copy)]
struct Merge {
    /// Start of the VMA below, if it is one of them.
    left: Option<VirtAddr>,
    /// Whether the VMA above is one of them.
    right: bool,
}

impl Merge {
    /// For a range that promises what `vma` does. Two neighbours with private pages of different
    /// families both fit an untouched range between them: then the lower one is taken (VMA-2).
    fn find(mm: &Mm, vma: &Vma) -> Self {
        let range = vma.range;
        let left = mm.vmas.last_starting_below(range.start).filter(|left| left.can_merge(vma));
        let right = mm.vmas.find(range.end).filter(|right| {
            vma.can_merge(right) && left.is_none_or(|left| is_one_family(left.anon, right.anon))
        });
        Self { left: left.map(|left| left.range.start), right: right.is_some() }
    }
}

/// Changes what `part`, which lies in one VMA, promises: merges it with the neighbours it then
/// equals, else splits the VMA around it (VMA-4). The range must not be changed.
///
/// # Errors
/// - [`MmError::NoMemory`]: one VMA more than `max_map_count` (VMA-5); nothing has changed, except
///   that the VMA may be split at the start of `part`.
///
/// # Source
/// Linux 6.12 `mm/vma.c:vma_modify`.
pub(super) fn modify(
    mm: &mut Mm,
    part: VirtRange,
    change: impl FnOnce(&mut Vma),
) -> Result<(), MmError> {
    let vma = mm.vmas.find(part.start).expect("the caller found the VMA");
    let old = vma.range;
    debug_assert!(part.end <= old.end, "the part lies in one VMA");
    let mut changed = vma.clone();
    mm.totals.remove(&changed, part.pages());
    changed.page_offset = changed.page_offset_at(part.start);
    changed.range = part;
    change(&mut changed);
    let neighbours = Merge::find(mm, &changed);
    let left = neighbours.left.filter(|_| part.start == old.start);
    let right = neighbours.right && part.end == old.end;
    if left.is_none() && !right {
        let outcome = split_around(mm, old, part);
        if outcome.is_ok() {
            mm.totals.add(&changed, part.pages());
            changed.fault_count = mm.vmas.find(part.start).map_or(0, |vma| vma.fault_count);
            mm.vmas.replace(changed);
        } else {
            let vma = mm.vmas.find(part.start).expect("the VMA is still there");
            mm.totals.add(vma, part.pages());
        }
        return outcome;
    }
    mm.totals.add(&changed, part.pages());
    match (left.is_some(), right) {
        (true, _) if part == old => mm.vmas.join_at(part.start),
        (true, _) => mm.vmas.move_boundary(part.start, part.end),
        (false, _) if part == old => {}
        (false, _) => mm.vmas.move_boundary(part.end, part.start),
    }
    if right && part == old {
        if left.is_none() {
            mm.vmas.replace(changed);
        }
        mm.vmas.join_at(part.end);
    }
    Ok(())
}

/// Makes the ends of `part` boundaries in the VMA at `old`.
fn split_around(mm: &mut Mm, old: VirtRange, part: VirtRange) -> Result<(), MmError> {
    for (addr, is_inside) in [(part.start, old.start < part.start), (part.end, part.end < old.end)]
    {
        if !is_inside {
            continue;
        }
        if mm.vmas.len() >= mm.limits.max_map_count {
            return Err(MmError::NoMemory("too many mappings"));
        }
        mm.vmas.split_at(addr);
    }
    Ok(())
}

/// Changes every VMA of `range` that `change` makes different, each as [`modify`] does.
///
/// # Errors
/// - [`MmError::NoMemory`]: no room for a split; VMAs before it have changed.
pub(super) fn update(
    mm: &mut Mm,
    range: VirtRange,
    change: impl Fn(VmaFlags) -> VmaFlags,
) -> Result<(), MmError> {
    let mut addr = range.start;
    while let Some((part, old)) = first_part(mm, VirtRange::new(addr, range.end)) {
        let flags = change(old);
        if flags != old {
            modify(mm, part, |vma| vma.flags = flags)?;
        }
        addr = part.end;
    }
    Ok(())
}

/// Changes the whole VMA at `addr` in place, without splitting and merging.
pub(super) fn set(mm: &mut Mm, addr: VirtAddr, change: impl FnOnce(&mut Vma)) {
    let vma = mm.vmas.find_mut(addr).expect("the caller found the VMA");
    let pages = vma.range.pages();
    mm.totals.remove(vma, pages);
    change(vma);
    mm.totals.add(vma, pages);
}

/// The first mapped part of `range` that lies in one VMA, and the flags there.
fn first_part(mm: &Mm, range: VirtRange) -> Option<(VirtRange, VmaFlags)> {
    let vma = mm.vmas.overlapping(range).next()?;
    Some((vma.range.intersection(range), vma.flags))
}

/// What happens to the commit charge of VMAs that go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Charge {
    /// It is given back.
    Returned,
    /// It belongs to another VMA now.
    Kept,
}

/// Removes whatever is mapped in `range`: VMAs, entries, frames, empty tables (UNMAP-2, UNMAP-3).
/// Returns whether anything was mapped.
///
/// # Errors
/// - [`MmError::NotPermitted`]: a sealed VMA. - [`MmError::NoMemory`]: no room for a split.
///   Nothing changed.
pub(super) fn remove(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
    charge: Charge,
) -> Result<bool, MmError> {
    if mm.vmas.overlapping(range).any(|vma| vma.flags.contains(VmaFlags::SEALED)) {
        return Err(MmError::NotPermitted);
    }
    check_split_room(mm, range)?;
    split_free(mm, range.start);
    split_free(mm, range.end);
    let mut low = range.end;
    let mut high = range.start;
    while let Some(vma) = mm.vmas.remove_first(range) {
        low = low.min(vma.range.start);
        high = vma.range.end;
        zap(mm, memory, hw, vma.range, Zap::All);
        mm.totals.remove(&vma, vma.range.pages());
        if vma.flags.contains(VmaFlags::ACCOUNT) && charge == Charge::Returned {
            memory.uncharge_commit(vma.range.pages());
        }
        memory.release_backing(hw, vma.backing);
    }
    let is_mapped = low < high;
    if is_mapped {
        free_tables(mm, memory, hw, VirtRange::new(low, high));
    }
    Ok(is_mapped)
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

/// Makes `addr` a boundary, whatever the limit: one of the parts is about to go.
fn split_free(mm: &mut Mm, addr: VirtAddr) {
    if mm.vmas.find(addr).is_some_and(|vma| vma.range.start < addr) {
        mm.vmas.split_at(addr);
    }
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
