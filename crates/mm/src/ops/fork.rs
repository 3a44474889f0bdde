//! `fork`: a second address space that shares every private page until one side writes.

use alloc::vec::Vec;

use machine::Machine;

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
/// are left empty in the child and fault again (FORK-2). Locks are not inherited.
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
    child.inherit_anon(parent);
    let vmas: Vec<Vma> = parent.vmas.iter().filter_map(inherited).collect();
    let mut stale = Stale::NONE;
    let mut outcome = Ok(());
    for vma in vmas {
        outcome = copy(parent, &mut child, memory, hw, vma).map(|changed| stale.join(changed));
        if outcome.is_err() {
            break;
        }
    }
    stale.flush(hw);
    match outcome {
        Ok(()) => Ok(child),
        Err(error) => {
            child.exit(memory, hw);
            Err(error)
        }
    }
}

/// The VMA as the child has it, if it has it (FORK-1).
fn inherited(vma: &Vma) -> Option<Vma> {
    if vma.flags.contains(VmaFlags::DONT_FORK) {
        return None;
    }
    let flags = vma.flags - VmaFlags::LOCKED - VmaFlags::LOCK_ON_FAULT;
    let is_wiped = flags.contains(VmaFlags::WIPE_ON_FORK);
    let anon = vma.anon.filter(|_| !is_wiped).map(|anon| anon.inherited());
    Some(Vma { flags, anon, fault_count: 0, ..vma.clone() })
}

/// Gives the child one VMA with copies of its entries. What was changed in the parent is flushed
/// on failure.
fn copy(
    parent: &mut Mm,
    child: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    vma: Vma,
) -> Result<Stale, MmError> {
    let (range, pages) = (vma.range, vma.range.pages());
    if vma.flags.contains(VmaFlags::ACCOUNT) {
        memory.charge_commit(pages)?;
    }
    let has_private_pages = vma.anon.is_some() || vma.flags.contains(VmaFlags::PFN_MAP);
    child.totals.add(&vma, pages);
    child.vmas.insert(vma);
    if has_private_pages { copy_entries(parent, child, memory, hw, range) } else { Ok(Stale::NONE) }
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use machine::Access;

    use crate::error::FaultError;
    use crate::fault::FaultKind;
    use crate::rights::{Sharing, VmaFlags};
    use crate::testing::{RW, World, at, pages};

    #[test]
    fn fork_1_the_child_has_what_it_shall_have() {
        let mut world = World::new(512);
        let private = Sharing::Private;
        world.map_vma(pages(0x100, 2), RW, private, VmaFlags::LOCKED, None);
        world.map_vma(pages(0x200, 2), RW, private, VmaFlags::DONT_FORK, None);
        world.map_vma(pages(0x300, 2), RW, private, VmaFlags::WIPE_ON_FORK, None);
        for page in [0x100, 0x200, 0x300] {
            world.poke(0, at(page), 5).expect("it is mapped");
        }
        world.fork();
        assert_eq!(world.spaces[0].totals().locked_pages, 2);
        assert_eq!(world.spaces[1].totals().locked_pages, 0);
        assert_eq!(world.peek(1, at(0x100)), Ok(5));
        assert_eq!(world.peek(1, at(0x200)), Err(FaultError::NoVma { addr: at(0x200) }));
        assert_eq!(world.peek(1, at(0x300)), Ok(0));
        let rss = world.spaces[1].rss(&world.memory);
        assert_eq!(rss.anon_pages, 1);
        world.finish();
    }

    #[test]
    fn fork_2_shared_memory_is_left_empty_and_faults_again() {
        let mut world = World::new(512);
        let object = world.memory.add_shared_zeros(4 * 4096);
        let file = world.mapped(object, crate::backing::FileKind::Shmem);
        world.map_file(pages(0x100, 4), RW, Sharing::Shared, &file, 0);
        drop(file);
        world.poke(0, at(0x101), 9).expect("it is mapped");
        world.fork();
        assert_eq!(world.spaces[1].rss(&world.memory).total_pages(), 0);
        assert_eq!(world.touch(1, at(0x101), Access::Read), Ok(vec![FaultKind::File]));
        assert_eq!(world.peek(1, at(0x101)), Ok(9));
        world.unmap(pages(0x100, 4));
        assert_eq!(world.peek(1, at(0x101)), Ok(9), "the child still maps it");
        world.finish();
    }

    #[test]
    fn fork_6_inherited_families_take_no_new_neighbour_in() {
        let mut world = World::new(512);
        world.map(pages(0x100, 1), RW);
        world.poke(0, at(0x100), 1).expect("it is mapped");
        world.fork();
        let mut own = world.spaces[0].vma_at(at(0x100)).expect("it is mapped").clone();
        let child = world.spaces[1].vma_at(at(0x100)).expect("it is mapped").clone();
        let family = own.anon.take();
        own.range = pages(0x101, 1);
        own.page_offset = 0x101;
        assert!(!child.can_merge(&own));
        assert!(crate::vma::Vma { anon: family, ..child }.can_merge(&own));
        world.finish();
    }
}
