//! Frames of a device in an address space: entries without pages behind them.
//!
//! All entries are written when the mapping is made (`remap_pfn_range`), none by a fault. They are
//! marked special: nobody counts, frees, swaps or reverse-maps what they name. They say that the
//! memory is not cached, which the modelled CPU notes and does not need.
//!
//! # Source
//! Linux 6.12 `mm/memory.c:remap_pfn_range`, `drivers/char/mem.c:mmap_mem`,
//! `arch/x86/mm/pat/memtype.c` (no RAM: uncached).

use machine::{Frame, Machine, PAGE_BYTES, Pte, VirtRange};

use crate::error::MmError;
use crate::memory::Memory;
use crate::page_table::{SPECIAL, UNCACHED};
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;

/// What a VMA of a device's frames is marked as.
pub(super) const FLAGS: VmaFlags =
    VmaFlags::IO.union(VmaFlags::PFN_MAP).union(VmaFlags::DONT_EXPAND).union(VmaFlags::DONT_DUMP);

/// Writes the entries of `range`, one VMA whose entries are all empty: the frames from `first` on.
///
/// # Errors
/// - [`MmError::NoMemory`]: no frame for a page table; entries written so far stay.
pub(super) fn map_frames(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
    first: Frame,
) -> Result<(), MmError> {
    let Some(vma) = mm.vmas.find(range.start) else { return Ok(()) };
    let is_writable = vma.sharing == Sharing::Shared && vma.rights.contains(Rights::WRITE);
    let bits = mm.tables.leaf_bits(vma.rights).with(Pte::ACCESSED).with(SPECIAL).with(UNCACHED);
    let bits = if is_writable { bits.with(Pte::WRITE) } else { bits };
    for at in 0..range.pages() {
        let addr = range.start.wrapping_add(at * PAGE_BYTES);
        let slot = mm.tables.slot_for(memory, hw, addr);
        let slot = slot.ok_or(MmError::NoMemory("no frame for a page table"))?;
        let new = Pte::new(first.wrapping_add(at), bits);
        let old = mm.tables.read(hw, slot);
        debug_assert!(old.is_empty(), "what was there is unmapped");
        mm.tables.replace(memory, hw, slot, addr, (old, new)).flush(&mut mm.tables, hw);
    }
    Ok(())
}
