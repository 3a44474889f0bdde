//! The reverse map: which leaf entries name a frame.
//!
//! Nothing is kept for it: a frame knows to what it belongs ([`Owner`]), an object or the root of a
//! family of private pages, and at which index. Every VMA that maps the object, or has the family
//! or a descendant of it, shows the page at the address that the index says, or not at all. That
//! holds through split, merge, move and fork, because all of them keep index and root.
//!
//! # Source
//! Linux 6.12 `mm/rmap.c:rmap_walk_anon`, `rmap_walk_file`.

use alloc::vec::Vec;

use machine::{Frame, Machine, PAGE_SHIFT, VirtAddr};

use crate::backing::{AnonId, MmId};
use crate::folio::{FrameState, Owner};
use crate::memory::Memory;
use crate::page_table::{PteState, SPECIAL};
use crate::space::Mm;
use crate::vma::Vma;

/// To whom a frame of `state` that `vma` maps at `addr` must belong.
pub(crate) fn owner_at(vma: &Vma, addr: VirtAddr, state: FrameState) -> Option<Owner> {
    let index = vma.page_offset_at(addr);
    if state == FrameState::Anon {
        return Some(Owner::Anon { root: vma.anon.map_or(0, AnonId::root), index });
    }
    let object = vma.backing.file()?.object;
    Some(Owner::Cached { object, index })
}

/// Where in `vma` a page of `owner` would be mapped.
fn place_in(vma: &Vma, owner: Owner) -> Option<VirtAddr> {
    let index = match owner {
        Owner::Anon { root, index } => (vma.anon?.root() == root).then_some(index)?,
        Owner::Space { .. } | Owner::Slab { .. } | Owner::Area { .. } => return None,
        Owner::Cached { object, index } => {
            (vma.backing.file()?.object == object).then_some(index)?
        }
    };
    let page = index.wrapping_sub(vma.page_offset);
    (page < vma.range.pages()).then(|| vma.range.start.wrapping_add(page << PAGE_SHIFT))
}

/// Every leaf entry in `spaces` that names the frame, by address space and address, in order. None
/// for frames that are not pages of programs, and for the zero frame.
///
/// Takes time in proportion to all VMAs.
pub fn mappings_of(
    frame: Frame,
    spaces: &[&Mm],
    memory: &Memory,
    hw: &Machine,
) -> Vec<(MmId, VirtAddr)> {
    let Some(owner) = memory.frames.owner(frame) else { return Vec::new() };
    let mut found = Vec::new();
    for mm in spaces {
        for addr in mm.vmas.iter().filter_map(|vma| place_in(vma, owner)) {
            let pte = mm.tables.lookup(hw, addr);
            let is_page = PteState::of(pte) == PteState::Present && !pte.contains(SPECIAL);
            if is_page && pte.frame() == frame {
                found.push((mm.id, addr));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use super::*;
    use crate::backing::FileKind;
    use crate::rights::Sharing;
    use crate::testing::{RW, World, at, pages};

    fn found(world: &World, frame: Frame) -> Vec<(u32, VirtAddr)> {
        let spaces: Vec<&Mm> = world.spaces.iter().collect();
        let found = mappings_of(frame, &spaces, &world.memory, &world.hw);
        assert_eq!(found.len() as u32, world.memory.map_count(frame), "every entry is found");
        found.into_iter().map(|(mm, addr)| (mm.0, addr)).collect()
    }

    #[test]
    fn fork_shares_private_pages_until_each_side_stores() {
        let mut world = World::new(512);
        world.map(pages(0x100, 4), RW);
        world.poke(0, at(0x102), 1).expect("it is mapped");
        let frame = world.frames(pages(0x102, 1))[0].expect("it was stored to");
        assert_eq!(found(&world, frame), [(1, at(0x102))]);
        world.fork();
        world.fork();
        assert_eq!(found(&world, frame), [(1, at(0x102)), (2, at(0x102)), (3, at(0x102))]);
        world.poke(1, at(0x102), 2).expect("it is mapped");
        assert_eq!(found(&world, frame), [(1, at(0x102)), (3, at(0x102))]);
        world.finish();
    }

    #[test]
    fn pages_of_objects_are_found_at_all_their_addresses() {
        let mut world = World::new(512);
        let file = world.add_file(8 * 4096, FileKind::Shmem);
        world.map_file(pages(0x100, 4), RW, Sharing::Shared, &file, 2);
        world.map_file(pages(0x200, 8), RW, Sharing::Shared, &file, 0);
        drop(file);
        world.poke(0, at(0x101), 1).expect("it is mapped");
        let frame = world.frames(pages(0x101, 1))[0].expect("it was stored to");
        assert_eq!(found(&world, frame), [(1, at(0x101))]);
        assert_eq!(world.peek(0, at(0x203)), Ok(1));
        assert_eq!(found(&world, frame), [(1, at(0x101)), (1, at(0x203))]);
        let zero = world.memory.zero;
        assert_eq!(found(&world, zero), vec![]);
        world.finish();
    }
}
