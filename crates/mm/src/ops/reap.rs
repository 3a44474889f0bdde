//! Reaping: the private pages of a program that is to die come back before it does.

use alloc::vec::Vec;

use machine::{Machine, VirtRange};

use crate::memory::Memory;
use crate::page_table::{Zap, zap};
use crate::rights::{Sharing, VmaFlags};
use crate::space::Mm;

/// Takes the pages of all private mappings of `mm`, and lets go of their slots in swap; pages of
/// shared mappings, page tables and promises stay. The program must not run any more: it would see
/// zeros. Returns how many frames became free.
///
/// # Source
/// Linux 6.12 `mm/oom_kill.c:__oom_reap_task_mm`; semantics OOM-3.
pub fn reap(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine) -> u64 {
    let before = memory.usage().frames_free;
    let kept = VmaFlags::PFN_MAP | VmaFlags::IO;
    let private =
        mm.vmas.iter().filter(|vma| vma.sharing == Sharing::Private && !vma.flags.intersects(kept));
    let ranges: Vec<VirtRange> = private.map(|vma| vma.range).collect();
    for range in ranges {
        zap(mm, memory, hw, range, Zap::All);
    }
    memory.usage().frames_free.saturating_sub(before)
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use machine::VirtAddr;

    use super::reap;
    use crate::backing::FileKind;
    use crate::testing::{RW, World, at, pages};

    #[test]
    fn private_pages_come_back_and_shared_ones_stay() {
        let mut world = World::new(512);
        let file = world.add_file(4 * 4096, FileKind::Shmem);
        world.map(pages(32, 8), RW);
        world.map_shared(0, pages(64, 4), &file);
        let touched: Vec<VirtAddr> = (32..40).chain(64..68).map(at).collect();
        for addr in touched {
            world.write(addr).expect("it is mapped");
        }
        assert_eq!(world.rss(), (8, 0, 4));
        let freed = reap(&mut world.spaces[0], &mut world.memory, &mut world.hw);
        assert_eq!(freed, 8, "OOM-3");
        assert_eq!(world.rss(), (0, 0, 4));
        world.check();
        world.finish();
    }
}
