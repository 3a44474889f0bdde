//! `brk`: moves the end of the heap.

use machine::{Event, Machine, PAGE_BYTES, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use super::edit::{self, Charge};
use super::munmap;
use crate::backing::Backing;
use crate::fault::populate;
use crate::memory::Memory;
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;
use crate::vma::Vma;

/// Moves the break to `wanted` and returns where it is now: the old place if that is refused.
///
/// # Source
/// Linux 6.12 `mm/mmap.c:brk`, `do_brk_flags`; semantics BRK-1 to BRK-6.
pub fn brk(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, wanted: VirtAddr) -> VirtAddr {
    let old = mm.layout.brk;
    if wanted < mm.layout.start_brk || !is_within_data_limit(mm, wanted) {
        return old;
    }
    let pages_end = (old.align_up(PageSize::K4), wanted.align_up(PageSize::K4));
    let (Some(old_end), Some(new_end)) = pages_end else { return old };
    let is_done = if new_end < old_end {
        // If the program has unmapped all of that part itself, the break stays.
        let range = VirtRange::new(new_end, old_end);
        mm.vmas.overlapping(range).next().is_some()
            && munmap::clear(mm, memory, hw, range, Charge::Returned).is_ok()
    } else {
        grow(mm, memory, hw, VirtRange::new(old_end, new_end))
    };
    if is_done {
        mm.layout.brk = wanted;
    }
    mm.layout.brk
}

/// `RLIMIT_DATA` counts the heap and the initialised data (BRK-3).
fn is_within_data_limit(mm: &Mm, wanted: VirtAddr) -> bool {
    if wanted <= mm.layout.brk {
        return true;
    }
    let heap = wanted.offset_from(mm.layout.start_brk);
    let data = mm.layout.end_data.offset_from(mm.layout.start_data);
    heap.saturating_add(data) <= mm.limits.data_bytes
}

/// Maps `range` behind the heap; false leaves all as it was.
fn grow(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, range: VirtRange) -> bool {
    if range.is_empty() {
        return true;
    }
    if range.end > mm.layout.task_end || !has_room(mm, range) || !is_within_limits(mm, range) {
        return false;
    }
    if mm.charge_commit(memory, range.pages()).is_err() {
        return false;
    }
    let vma = Vma {
        range,
        rights: Rights::READ | Rights::WRITE,
        may: Rights::all(),
        sharing: Sharing::Private,
        flags: VmaFlags::ACCOUNT | mm.future_flags,
        backing: Backing::Anon,
        page_offset: range.start.page().number(),
        anon: None,
        fault_count: 0,
        history: crate::swap::History::default(),
    };
    let is_locked = vma.flags.contains(VmaFlags::LOCKED);
    if range.start == mm.layout.start_brk {
        // VMA-6: the heap never merges with the bss before it.
        edit::add_apart(mm, vma);
    } else {
        edit::add(mm, vma);
    }
    let (start, bytes) = (range.start.as_u64(), range.bytes());
    let rights = (Rights::READ | Rights::WRITE).bits();
    hw.log.push(hw.time(), Event::Map { mm: mm.id.0, start, bytes, rights });
    if is_locked {
        let _unpopulated = populate(mm, memory, hw, range);
    }
    true
}

/// One page stays free up to the next VMA or its guard gap (BRK-5).
fn has_room(mm: &Mm, range: VirtRange) -> bool {
    range
        .end
        .checked_add(PAGE_BYTES)
        .is_some_and(|end| mm.vmas.is_clear(VirtRange::new(range.start, end)))
}

fn is_within_limits(mm: &Mm, range: VirtRange) -> bool {
    let pages = range.pages();
    let limits = &mm.limits;
    let is_locked = mm.future_flags.contains(VmaFlags::LOCKED) && !limits.can_lock;
    mm.totals.total_pages.saturating_add(pages) <= limits.address_space_bytes >> PAGE_SHIFT
        && mm.totals.data_pages.saturating_add(pages) <= limits.data_bytes >> PAGE_SHIFT
        && mm.vmas.len() <= limits.max_map_count
        && (!is_locked
            || mm.totals.locked_pages.saturating_add(pages) <= limits.locked_bytes >> PAGE_SHIFT)
}
