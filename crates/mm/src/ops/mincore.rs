//! `mincore`: which pages are in RAM.

use alloc::vec::Vec;

use machine::{Machine, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use crate::backing::FileKind;
use crate::error::MmError;
use crate::memory::Memory;
use crate::page_table::PteState;
use crate::space::Mm;
use crate::swap::decode;
use crate::vma::Vma;

/// Whether the caller may know which pages of a file others have brought in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ownership {
    /// Owner of the file, or may write it.
    Owner,
    /// Everybody else is told that all pages are there.
    Stranger,
}

/// One byte per page of `addr..addr + bytes`: bit 0 is set if the page is in RAM.
///
/// # Errors
/// - [`MmError::InvalidArgument`]: unaligned. - [`MmError::NoMemory`]: not all of it is mapped.
///
/// # Source
/// Linux 6.12 `mm/mincore.c`; semantics CORE-1. Pages of a file count as present before they are
/// touched, because the page cache starts warm.
pub fn mincore(
    mm: &Mm,
    memory: &Memory,
    hw: &Machine,
    (addr, bytes): (VirtAddr, u64),
    ownership: Ownership,
) -> Result<Vec<u8>, MmError> {
    if !addr.is_aligned(PageSize::K4) {
        return Err(MmError::InvalidArgument("address is not page aligned"));
    }
    let wraps = MmError::NoMemory("range wraps");
    let bytes = VirtAddr::new(bytes).align_up(PageSize::K4).ok_or(wraps)?.as_u64();
    let range = VirtRange::with_length(addr, bytes).ok_or(wraps)?;
    if super::edit::first_hole(mm, range).is_some() {
        return Err(MmError::NoMemory("a hole in the range"));
    }
    let pages = (0..range.pages()).map(|page| range.start.wrapping_add(page << PAGE_SHIFT));
    Ok(pages.map(|page| u8::from(is_in_core(mm, memory, hw, page, ownership))).collect())
}

fn is_in_core(
    mm: &Mm,
    memory: &Memory,
    hw: &Machine,
    addr: VirtAddr,
    ownership: Ownership,
) -> bool {
    let vma = mm.vmas.find(addr);
    if vma.and_then(|vma| vma.backing.file()).is_some_and(|file| file.kind == FileKind::Device) {
        // Such entries are passed over, and no page of it is cached.
        return ownership == Ownership::Stranger;
    }
    let entry = mm.tables.lookup(hw, addr);
    if PteState::of(entry) == PteState::Present {
        return true;
    }
    if PteState::of(entry) == PteState::Swapped {
        return memory.swap.cached(decode(hw.geometry(), entry).0).is_some();
    }
    let Some(vma) = vma else { return false };
    let Some(file) = vma.backing.file() else { return false };
    ownership == Ownership::Stranger || memory.cache.is_uptodate(file.object, index_of(vma, addr))
}

fn index_of(vma: &Vma, addr: VirtAddr) -> u64 {
    vma.page_offset.wrapping_add(addr.offset_from(vma.range.start) >> PAGE_SHIFT)
}
