//! `munmap`: takes a promise back, with all its frames.

use machine::{Event, Machine, PageSize, VirtAddr, VirtRange};

use super::edit::{self, Charge};
use crate::error::MmError;
use crate::memory::Memory;
use crate::space::Mm;

/// Unmaps every page of `addr..addr + bytes`; holes are fine.
///
/// # Errors
/// - [`MmError::InvalidArgument`]: unaligned, empty, or outside the address space.
/// - [`MmError::NotPermitted`]: a sealed mapping. - [`MmError::NoMemory`]: too many mappings.
///   Nothing is unmapped.
///
/// # Source
/// Linux 6.12 `mm/vma.c:do_vmi_munmap`; semantics UNMAP-1 to UNMAP-3.
pub fn munmap(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    addr: VirtAddr,
    bytes: u64,
) -> Result<(), MmError> {
    let end = mm.layout.task_end;
    if !addr.is_aligned(PageSize::K4) || addr > end || bytes > end.offset_from(addr) {
        return Err(MmError::InvalidArgument("range is not in the address space"));
    }
    let range = VirtAddr::new(bytes)
        .align_up(PageSize::K4)
        .and_then(|bytes| VirtRange::with_length(addr, bytes.as_u64()))
        .ok_or(MmError::InvalidArgument("length"))?;
    if range.is_empty() {
        return Err(MmError::InvalidArgument("length 0"));
    }
    clear(mm, memory, hw, range, Charge::Returned)
}

/// Unmaps an aligned range and logs it, if anything was mapped there.
///
/// # Errors
/// As [`munmap`].
pub(super) fn clear(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
    charge: Charge,
) -> Result<(), MmError> {
    if !edit::remove(mm, memory, hw, range, charge)? {
        return Ok(());
    }
    let event = Event::Unmap { mm: mm.id.0, start: range.start.as_u64(), bytes: range.bytes() };
    hw.log.push(hw.time(), event);
    Ok(())
}
