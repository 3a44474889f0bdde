//! Growth of a stack by a fault below it.

use machine::{PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use super::Promise;
use crate::memory::Memory;
use crate::rights::VmaFlags;
use crate::space::Mm;
use crate::vma_tree::GUARD_PAGES;

/// Grows the VMA above `addr` down to the page of `addr`, if it grows down and every condition
/// holds; `None` leaves all as it was. How far `addr` is from the stack pointer does not matter.
///
/// # Source
/// Linux 6.12 `mm/mmap.c:expand_downwards`, `acct_stack_growth`; semantics STK-2 to STK-5.
pub(super) fn grow(mm: &mut Mm, memory: &mut Memory, addr: VirtAddr) -> Option<Promise> {
    let start = addr.align_down(PageSize::K4);
    let vma = mm.vmas.first_ending_above(addr)?;
    if !vma.flags.contains(VmaFlags::GROWS_DOWN) || start < mm.layout.min_address {
        return None;
    }
    let (old_range, growth) = (vma.range, VirtRange::new(start, vma.range.start).pages());
    let is_accounted = vma.flags.contains(VmaFlags::ACCOUNT);
    if vma.page_offset < growth || is_guarded(mm, start) || !is_within_limits(mm, old_range, growth)
    {
        return None;
    }
    if is_accounted {
        mm.charge_commit(memory, growth).ok()?;
    }
    mm.prepare_anon(memory, old_range.start);
    let mut vma = mm.vmas.remove(old_range.start)?;
    mm.totals.add(&vma, growth);
    vma.range = VirtRange::new(start, old_range.end);
    vma.page_offset -= growth;
    let promise = Promise::of(&vma);
    mm.vmas.insert(vma);
    Some(promise)
}

/// Whether an accessible VMA that does not grow down itself ends within the guard gap below
/// `start`.
fn is_guarded(mm: &Mm, start: VirtAddr) -> bool {
    let Some(below) = mm.vmas.last_starting_below(start) else { return false };
    !below.flags.contains(VmaFlags::GROWS_DOWN)
        && below.rights.is_accessible()
        && VirtRange::new(below.range.end, start).pages() < GUARD_PAGES
}

/// Whether `RLIMIT_AS`, `RLIMIT_STACK` and `RLIMIT_MEMLOCK` allow `growth` more pages.
fn is_within_limits(mm: &Mm, range: VirtRange, growth: u64) -> bool {
    let limits = &mm.limits;
    let total_pages = mm.totals.total_pages.saturating_add(growth);
    let is_locked = mm.vmas.find(range.start).is_some_and(|v| v.flags.contains(VmaFlags::LOCKED));
    let locked_pages = mm.totals.locked_pages.saturating_add(growth);
    total_pages <= limits.address_space_bytes >> PAGE_SHIFT
        && range.pages().saturating_add(growth) <= limits.stack_bytes >> PAGE_SHIFT
        && (!is_locked || limits.can_lock || locked_pages <= limits.locked_bytes >> PAGE_SHIFT)
}
