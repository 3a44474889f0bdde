//! `fork`: a second address space that shares every private page until one side writes.

use alloc::vec::Vec;

use machine::{Event, Machine};

use crate::backing::MmId;
use crate::error::MmError;
use crate::memory::Memory;
use crate::page_table::{Stale, copy_entries};
use crate::rights::VmaFlags;
use crate::space::Mm;
use crate::vma::Vma;

/// Makes the child `id` of `parent`, whose tables must be the active ones.
///
/// Only VMAs with private pages have their entries copied, write-protected on both sides; others
/// are left empty in the child and fault again (FORK-2). Locks are not inherited. All translations
/// of the parent are flushed (FORK-5).
///
/// # Errors
/// - [`MmError::NoMemory`]: the promise is refused, or no frame is left for page tables. There is
///   no child; private pages of the parent may have been write-protected, which costs it a fault.
///
/// # Source
/// Linux 6.12 `kernel/fork.c:dup_mmap`, `mm/memory.c:vma_needs_copy`; semantics FORK-1 to FORK-6.
pub fn fork(
    parent: &mut Mm,
    id: MmId,
    memory: &mut Memory,
    hw: &mut Machine,
) -> Result<Mm, MmError> {
    let mut child = Mm::new(id, parent.layout, parent.limits, memory, hw)?;
    let vmas: Vec<Vma> = parent.vmas.iter().filter_map(|vma| inherited(memory, vma)).collect();
    let copied = vmas.into_iter().try_fold(0, |copied, vma| {
        copy(parent, &mut child, memory, hw, vma).map(|more| copied + more)
    });
    Stale::NONE.flush_all(&mut parent.tables, hw);
    match copied {
        Ok(entries) => {
            child.settle(memory, hw);
            let (mm, table_frames) = (parent.id.0, child.page_table_frames(memory));
            hw.log.push(hw.time(), Event::Fork { mm, child: id.0, entries, table_frames });
            Ok(child)
        }
        Err(error) => {
            child.exit(memory, hw);
            Err(error)
        }
    }
}

/// The VMA as the child has it, if it has it (FORK-1). Each VMA with private pages gets a family of
/// its own: two of them never merge again, even if their parents do (FORK-6).
fn inherited(memory: &mut Memory, vma: &Vma) -> Option<Vma> {
    if vma.flags.contains(VmaFlags::DONT_FORK) {
        return None;
    }
    let flags = vma.flags - VmaFlags::LOCKED - VmaFlags::LOCK_ON_FAULT;
    let is_wiped = flags.contains(VmaFlags::WIPE_ON_FORK);
    let anon = vma.anon.filter(|_| !is_wiped);
    let anon = anon.map(|anon| anon.descendant(memory.new_family()));
    Some(Vma { flags, anon, fault_count: 0, ..vma.clone() })
}

/// Gives the child one VMA with copies of its entries, and returns how many.
fn copy(
    parent: &mut Mm,
    child: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    vma: Vma,
) -> Result<u64, MmError> {
    let (range, pages) = (vma.range, vma.range.pages());
    if vma.flags.contains(VmaFlags::ACCOUNT) {
        parent.charge_commit(memory, pages)?;
    }
    let has_private_pages = vma.anon.is_some() || vma.flags.contains(VmaFlags::PFN_MAP);
    child.totals.add(&vma, pages);
    child.vmas.insert(vma);
    if has_private_pages { copy_entries(parent, child, memory, hw, range) } else { Ok(0) }
}

#[cfg(test)]
mod tests;
