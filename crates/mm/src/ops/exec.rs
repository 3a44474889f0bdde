//! What exec needs besides `mmap`: the stack, and frames for static variables.

use machine::{Event, Machine, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use super::edit;
use crate::backing::Backing;
use crate::error::MmError;
use crate::memory::Memory;
use crate::page_table;
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;
use crate::vma::Vma;

/// Maps the stack: `bytes` below `mm.layout.stack_top`, growing down (STK-1).
///
/// # Errors
/// - [`MmError::NoMemory`]: something is in the way, or the promise is refused; nothing changed.
pub fn map_stack(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    bytes: u64,
    rights: Rights,
) -> Result<VirtRange, MmError> {
    let end = mm.layout.stack_top;
    let start = end.checked_sub(bytes).map(|start| start.align_down(PageSize::K4));
    let start = start.ok_or(MmError::NoMemory("stack below address 0"))?;
    let range = VirtRange::new(start, end);
    if mm.vmas.overlapping(range).next().is_some() {
        return Err(MmError::NoMemory("something is mapped where the stack goes"));
    }
    mm.charge_commit(memory, range.pages())?;
    let vma = Vma {
        range,
        rights,
        may: Rights::all(),
        sharing: Sharing::Private,
        flags: VmaFlags::GROWS_DOWN | VmaFlags::STACK | VmaFlags::ACCOUNT,
        backing: Backing::Anon,
        page_offset: start.as_u64() >> PAGE_SHIFT,
        anon: None,
        fault_count: 0,
        history: crate::swap::History::default(),
    };
    edit::add(mm, vma);
    let (start, bytes) = (range.start.as_u64(), range.bytes());
    hw.log.push(hw.time(), Event::Map { mm: mm.id.0, start, bytes, rights: rights.bits() });
    Ok(range)
}

/// Has the static variables of the program, in `range`, get adjacent frames when they are touched,
/// as long as RAM is not short of them. Nothing else changes.
pub fn reserve_statics(mm: &Mm, memory: &mut Memory, range: VirtRange) {
    memory.reserve(mm.slot, range);
}

/// Gives the stack its final rights, when the program's headers are known (ELF-8).
pub fn set_rights_of_stack(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, rights: Rights) {
    let Some(addr) = mm.layout.stack_top.checked_sub(1) else { return };
    let Some(range) = mm.vmas.find(addr).map(|vma| vma.range) else { return };
    edit::set(mm, VirtAddr::new(range.start.as_u64()), |vma| vma.rights = rights);
    page_table::protect(mm, memory, hw, range).flush(&mut mm.tables, hw);
}
