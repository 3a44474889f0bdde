//! `mlock`, `mlock2`, `munlock`, `mlockall`, `munlockall`: which pages are present and stay.

use bitflags::bitflags;
use machine::{Machine, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use super::edit;
use crate::error::{FaultError, MmError};
use crate::fault::populate;
use crate::memory::Memory;
use crate::page_table;
use crate::rights::VmaFlags;
use crate::space::Mm;

/// When locked pages are brought in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// At once.
    Now,
    /// As they are touched (`MLOCK_ONFAULT`).
    OnFault,
}

bitflags! {
    /// What `mlockall` locks.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct LockFlags: u8 {
        /// What is mapped now.
        const CURRENT = 1;
        /// What will be mapped.
        const FUTURE = 2;
        /// As pages are touched.
        const ON_FAULT = 4;
    }
}

/// VMAs that are never locked (LOCK-8).
const SKIPPED: VmaFlags =
    VmaFlags::SPECIAL.union(VmaFlags::IO).union(VmaFlags::PFN_MAP).union(VmaFlags::DROPPABLE);
const LOCKS: VmaFlags = VmaFlags::LOCKED.union(VmaFlags::LOCK_ON_FAULT);

/// Locks the pages of `addr..addr + bytes`, rounded outward.
///
/// # Errors
/// - [`MmError::NotPermitted`]: no right to lock. - [`MmError::NoMemory`]: the limit, or a hole;
///   VMAs before a hole are locked (LOCK-3). - [`MmError::Again`]: no frame for a page.
///
/// # Source
/// Linux 6.12 `mm/mlock.c:do_mlock`; semantics LOCK-1 to LOCK-5.
pub fn mlock(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    (addr, bytes): (VirtAddr, u64),
    mode: LockMode,
) -> Result<(), MmError> {
    if !mm.limits.can_lock && mm.limits.locked_bytes == 0 {
        return Err(MmError::NotPermitted);
    }
    let range = outward(addr, bytes)?;
    check_limit(mm, range)?;
    let flags = match mode {
        LockMode::Now => VmaFlags::LOCKED,
        LockMode::OnFault => LOCKS,
    };
    set_locks(mm, memory, hw, range, flags)?;
    match populate(mm, memory, hw, range) {
        Ok(()) => Ok(()),
        Err(FaultError::OutOfMemory { .. }) => Err(MmError::Again),
        Err(_) => Err(MmError::NoMemory("a page cannot be brought in")),
    }
}

/// Unlocks the pages of `addr..addr + bytes`, rounded outward.
///
/// # Errors
/// - [`MmError::NoMemory`]: a hole; VMAs before it are unlocked.
pub fn munlock(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    addr: VirtAddr,
    bytes: u64,
) -> Result<(), MmError> {
    let range = outward(addr, bytes)?;
    set_locks(mm, memory, hw, range, VmaFlags::empty())
}

/// Locks everything, now or in future; calls do not add up (LOCK-6).
///
/// # Errors
/// - [`MmError::InvalidArgument`]: no flag, or `ON_FAULT` alone. - [`MmError::NotPermitted`]: no
///   right to lock. - [`MmError::NoMemory`]: the limit; nothing changed.
pub fn mlockall(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    flags: LockFlags,
) -> Result<(), MmError> {
    if flags.is_empty() || flags == LockFlags::ON_FAULT {
        return Err(MmError::InvalidArgument("what to lock"));
    }
    if !mm.limits.can_lock && mm.limits.locked_bytes == 0 {
        return Err(MmError::NotPermitted);
    }
    let is_over = mm.totals.total_pages > mm.limits.locked_bytes >> PAGE_SHIFT;
    if flags.contains(LockFlags::CURRENT) && is_over && !mm.limits.can_lock {
        return Err(MmError::NoMemory("limit of locked memory"));
    }
    let locks = if flags.contains(LockFlags::ON_FAULT) { LOCKS } else { VmaFlags::LOCKED };
    mm.future_flags = if flags.contains(LockFlags::FUTURE) { locks } else { VmaFlags::empty() };
    if flags.contains(LockFlags::CURRENT) {
        set_all(mm, memory, hw, locks);
        let ranges: alloc::vec::Vec<VirtRange> = mm.vmas.iter().map(|vma| vma.range).collect();
        for range in ranges {
            // Pages that cannot be brought in do not stop the others.
            let _unpopulated = populate(mm, memory, hw, range);
        }
    }
    Ok(())
}

/// Unlocks everything, also what will be mapped.
pub fn munlockall(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine) {
    mm.future_flags = VmaFlags::empty();
    set_all(mm, memory, hw, VmaFlags::empty());
}

/// The pages that `bytes` from `addr` on touch. A length that wraps when it is rounded up is 0, as
/// in Linux.
fn outward(addr: VirtAddr, bytes: u64) -> Result<VirtRange, MmError> {
    let start = addr.align_down(PageSize::K4);
    let rounded = super::wrap_to_pages(bytes.wrapping_add(addr.page_offset()));
    VirtRange::with_length(start, rounded).ok_or(MmError::InvalidArgument("range wraps"))
}

/// Pages that are locked already do not count twice (LOCK-2).
fn check_limit(mm: &Mm, range: VirtRange) -> Result<(), MmError> {
    let already: u64 = mm
        .vmas
        .overlapping(range)
        .filter(|vma| vma.flags.contains(VmaFlags::LOCKED))
        .map(|vma| vma.range.intersection(range).pages())
        .sum();
    let wanted = mm.totals.locked_pages.saturating_add(range.pages()).saturating_sub(already);
    if !mm.limits.can_lock && wanted > mm.limits.locked_bytes >> PAGE_SHIFT {
        return Err(MmError::NoMemory("limit of locked memory"));
    }
    Ok(())
}

/// Sets the locks of every VMA up to the first hole.
fn set_locks(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
    locks: VmaFlags,
) -> Result<(), MmError> {
    let hole = edit::first_hole(mm, range);
    let mapped = VirtRange::new(range.start, hole.unwrap_or(range.end));
    if !mapped.is_empty() {
        let updated = edit::update(mm, mapped, |flags| relocked(flags, locks));
        mark_entries(mm, memory, hw, mapped);
        updated?;
    }
    if hole.is_some() { Err(MmError::NoMemory("a hole in the range")) } else { Ok(()) }
}

/// Gives the entries of `range` the marks that their VMAs say.
fn mark_entries(mm: &Mm, memory: &mut Memory, hw: &mut Machine, range: VirtRange) {
    for vma in mm.vmas.overlapping(range) {
        page_table::mark_locked(mm, memory, hw, vma.range.intersection(range));
    }
}

fn set_all(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, locks: VmaFlags) {
    let all = VirtRange::new(VirtAddr::new(0), mm.layout.task_end);
    // Every VMA changes as a whole, so that none has to be split.
    let _unsplit = edit::update(mm, all, |flags| relocked(flags, locks));
    mark_entries(mm, memory, hw, all);
}

fn relocked(flags: VmaFlags, locks: VmaFlags) -> VmaFlags {
    if flags.intersects(SKIPPED) { flags } else { (flags - LOCKS) | locks }
}
