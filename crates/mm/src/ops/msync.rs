//! `msync`: stores what shared file mappings have changed.

use bitflags::bitflags;
use machine::{Machine, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use crate::backing::FileKind;
use crate::error::MmError;
use crate::memory::Memory;
use crate::rights::{Sharing, VmaFlags};
use crate::space::Mm;

bitflags! {
    /// The flags of `msync`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct SyncFlags: u8 {
        /// `MS_ASYNC`: starts nothing.
        const ASYNC = 1;
        /// `MS_INVALIDATE`: fails on locked pages.
        const INVALIDATE = 2;
        /// `MS_SYNC`: stores now.
        const SYNC = 4;
    }
}

/// Stores the dirty pages of every shared file mapping in `addr..addr + bytes`.
///
/// # Errors
/// - [`MmError::InvalidArgument`]: unaligned, both ways at once, or a device's memory.
/// - [`MmError::NoMemory`]: a hole (what is mapped has been stored), or the range wraps.
/// - [`MmError::Busy`]: locked pages.
/// - [`MmError::Io`]: the pager failed.
///
/// # Source
/// Linux 6.12 `mm/msync.c`; semantics SYNC-1.
pub fn msync(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    (addr, bytes): (VirtAddr, u64),
    flags: SyncFlags,
) -> Result<(), MmError> {
    if !addr.is_aligned(PageSize::K4) || flags.contains(SyncFlags::ASYNC | SyncFlags::SYNC) {
        return Err(MmError::InvalidArgument("address or flags"));
    }
    let wraps = MmError::NoMemory("range wraps");
    let range = VirtRange::with_length(addr, super::wrap_to_pages(bytes)).ok_or(wraps)?;
    let mut at = range.start;
    let mut result = Ok(());
    while at < range.end {
        let Some(vma) = mm.vmas.first_ending_above(at).filter(|v| v.range.start < range.end) else {
            return Err(MmError::NoMemory("a hole in the range"));
        };
        if vma.range.start > at {
            result = Err(MmError::NoMemory("a hole in the range"));
            if flags == SyncFlags::ASYNC {
                return result;
            }
        }
        if flags.contains(SyncFlags::INVALIDATE) && vma.flags.contains(VmaFlags::LOCKED) {
            return Err(MmError::Busy);
        }
        let part = vma.range.intersection(VirtRange::new(at, range.end));
        at = part.end;
        let file = vma.backing.file().filter(|_| vma.sharing == Sharing::Shared);
        if flags.contains(SyncFlags::SYNC)
            && let Some(file) = file
        {
            if file.kind == FileKind::Device {
                return Err(MmError::InvalidArgument("a device has no pages to store"));
            }
            let object = file.object;
            let skipped = part.start.offset_from(vma.range.start) >> PAGE_SHIFT;
            let first = vma.page_offset + skipped;
            let pages = first..=first + part.pages() - 1;
            let stored = memory.write_back(hw, object, pages).map_err(MmError::Io)?;
            memory.wait_for_writes(hw, stored);
        }
    }
    result
}
