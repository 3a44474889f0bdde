//! Advice that is about pages, not about VMAs: cold, out, wanted soon, not needed any more.

use alloc::vec::Vec;

use machine::{Machine, PAGE_SHIFT, Pte, VirtAddr, VirtRange};

use crate::backing::FileKind;
use crate::error::MmError;
use crate::memory::Memory;
use crate::page_table::{PteState, Stale, for_each_entry, free_lazily};
use crate::rights::{Sharing, VmaFlags};
use crate::space::Mm;
use crate::swap::decode;

/// `MADV_FREE`: the content may be gone when the page is next read, until it is stored to.
pub(super) fn free(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    part: VirtRange,
) -> Result<(), MmError> {
    let vma = mm.vmas.find(part.start).expect("the caller found the VMA");
    if vma.backing.file().is_some() || vma.flags.contains(VmaFlags::LOCKED) {
        return Err(MmError::InvalidArgument("only unlocked private anonymous memory"));
    }
    free_lazily(mm, memory, hw, part);
    Ok(())
}

/// The entries of `part` that are in `state`.
fn entries(mm: &Mm, hw: &Machine, part: VirtRange, state: PteState) -> Vec<(VirtAddr, Pte)> {
    let mut found = Vec::new();
    for_each_entry(mm, hw, part, |addr, pte| {
        if PteState::of(pte) == state {
            found.push((addr, pte));
        }
    });
    found
}

/// `MADV_COLD`: the pages are the next to be looked at by reclaim.
pub(super) fn cold(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, part: VirtRange) {
    for (_, pte) in entries(mm, hw, part, PteState::Present) {
        memory.make_cold(hw, pte);
    }
    Stale::of(part).flush(&mut mm.tables, hw);
}

/// `MADV_PAGEOUT`: the pages leave RAM now, as far as they can.
pub(super) fn page_out(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, part: VirtRange) {
    for (addr, _) in entries(mm, hw, part, PteState::Present) {
        // A page before may have taken this one with it.
        let pte = mm.tables.lookup(hw, addr);
        if PteState::of(pte) == PteState::Present {
            memory.page_out(hw, pte);
        }
    }
    memory.finish_page_out(hw);
}

/// Whether a file of this kind has pages that could come ahead.
fn has_pages(kind: FileKind) -> bool {
    !matches!(kind, FileKind::Special | FileKind::Device)
}

/// `MADV_WILLNEED`: pages in swap, and pages of files that had left, come to RAM without being
/// mapped, for as long as frames are not short. Nobody is told of errors.
pub(super) fn will_need(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, part: VirtRange) {
    let geometry = hw.geometry();
    for (_, pte) in entries(mm, hw, part, PteState::Swapped) {
        let place = decode(geometry, pte).0;
        let is_wanted = memory.swap.cached(place).is_none();
        if is_wanted && (memory.is_short() || !memory.bring_ahead(hw, place)) {
            return;
        }
    }
    let vma = mm.vmas.find(part.start).expect("the caller found the VMA");
    let Some(file) = vma.backing.file().filter(|file| has_pages(file.kind)) else {
        return;
    };
    let first = vma.page_offset + (part.start.offset_from(vma.range.start) >> PAGE_SHIFT);
    let is_shared = vma.sharing == Sharing::Shared || file.kind == FileKind::Regular;
    let end = first.saturating_add(part.pages()).min(memory.cache.page_count(file.object));
    for index in (first..end).filter(|_| is_shared) {
        let has_left = !memory.cache.is_uptodate(file.object, index);
        let is_hole = file.kind == FileKind::Shmem && !memory.is_swapped(file.object, index);
        if !has_left || is_hole {
            continue;
        }
        if memory.is_short() || memory.page_in(hw, file.object, index).is_err() {
            return;
        }
    }
}
