//! Our page tables read back by the types of crate `x86_64`: its indexes, its names of the bits,
//! its addresses. What they find in the tables of random spaces is what was asked for.

use machine::{Machine, PAGE_BYTES, PhysAddr, VirtAddr};
use mm::Rights;
use x86_64::structures::paging::PageTableFlags as Flags;

use crate::world::{RAM_BYTES, TASK_END, World};

/// Random spaces, and pages in each.
const SPACES: usize = 200;
const PAGES: usize = 60;

/// What a walk in the words of the other crate ends with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Found {
    /// The entry of this level is not present.
    Nothing(u8),
    /// The leaf: physical address, its bits, and the bits that all levels have.
    Page(u64, Flags, Flags),
}

/// Walks four levels by the types of `x86_64` alone; entries are 8 bytes at a physical address.
fn walk(hw: &Machine, root: u64, addr: u64) -> Found {
    let addr = x86_64::VirtAddr::new(addr);
    let indexes = [addr.p4_index(), addr.p3_index(), addr.p2_index(), addr.p1_index()];
    let (mut table, mut all) = (x86_64::PhysAddr::new(root), Flags::all());
    for (level, index) in (1..=4).rev().zip(indexes) {
        let slot = table + u64::from(index) * 8;
        let raw = hw.ram.read_u64(PhysAddr::new(slot.as_u64()));
        let flags = Flags::from_bits_truncate(raw);
        if !flags.contains(Flags::PRESENT) {
            return Found::Nothing(level);
        }
        let frame = x86_64::PhysAddr::new_truncate(raw & 0x000f_ffff_ffff_f000);
        all &= flags;
        if level == 1 {
            let physical = frame + u64::from(addr.page_offset());
            return Found::Page(physical.as_u64(), flags, all);
        }
        if flags.contains(Flags::HUGE_PAGE) {
            let span = 1_u64 << (12 + 9 * (u32::from(level) - 1));
            let physical = frame.as_u64() + (addr.as_u64() & (span - 1));
            return Found::Page(physical, flags, all);
        }
        table = frame;
    }
    unreachable!("level 1 ends the walk")
}

#[test]
fn pt_2_user_pages_read_back_by_the_types_of_another_crate() {
    let mut world = World::new();
    let mut seen = [0; 2];
    for id in 0..SPACES {
        let mut mm = world.space(id as u32 + 1);
        let mut pages: Vec<(u64, Rights)> = Vec::new();
        for _ in 0..PAGES {
            let page = world.map_page(&mut mm);
            pages.retain(|old| old.0 != page.0);
            pages.push(page);
        }
        let root = mm.root().start().as_u64();
        for &(addr, rights) in &pages {
            let inside = addr + world.next(PAGE_BYTES);
            let Found::Page(physical, leaf, all) = walk(&world.hw, root, inside) else {
                panic!("{inside:#x} was just accessed")
            };
            let own = world.hw.peek(mm.root(), VirtAddr::new(inside)).expect("it is mapped");
            assert_eq!(physical, own.0.as_u64(), "{inside:#x}");
            assert!(all.contains(Flags::USER_ACCESSIBLE | Flags::ACCESSED), "{inside:#x}: {all:?}");
            let is_writable = rights.contains(Rights::WRITE);
            assert_eq!(all.contains(Flags::WRITABLE), is_writable, "{inside:#x}: {all:?}");
            assert_eq!(leaf.contains(Flags::DIRTY), is_writable, "{inside:#x}: {leaf:?}");
            let is_executable = rights.contains(Rights::EXECUTE);
            assert_eq!(!leaf.contains(Flags::NO_EXECUTE), is_executable, "{inside:#x}: {leaf:?}");
            assert!(!leaf.contains(Flags::GLOBAL), "{inside:#x}: {leaf:?}");
            seen[usize::from(is_writable)] += 1;
        }
        for _ in 0..PAGES {
            let addr = world.next(TASK_END);
            let is_mapped = pages.iter().any(|page| page.0 == addr & !(PAGE_BYTES - 1));
            let found = walk(&world.hw, root, addr);
            assert_eq!(matches!(found, Found::Page(..)), is_mapped, "{addr:#x}: {found:?}");
        }
        mm.exit(&mut world.memory, &mut world.hw);
    }
    assert!(seen.into_iter().all(|count| count > SPACES * PAGES / 4), "{seen:?}");
    assert_eq!(world.memory.shutdown(&mut world.hw), 0);
}

#[test]
fn k64_1_the_kernels_pages_read_back_by_the_types_of_another_crate() {
    let mut world = World::new();
    let mut mm = world.space(1);
    let root = mm.root().start().as_u64();
    let kernel = Flags::PRESENT | Flags::WRITABLE | Flags::ACCESSED | Flags::DIRTY;
    let kernel = kernel | Flags::GLOBAL | Flags::NO_EXECUTE;
    for _ in 0..2000 {
        let physical = world.next(RAM_BYTES);
        let found = walk(&world.hw, root, 0xffff_8880_0000_0000 + physical);
        let Found::Page(reached, leaf, all) = found else { panic!("{physical:#x}: {found:?}") };
        assert_eq!((reached, leaf), (physical, kernel | Flags::HUGE_PAGE), "the direct map");
        assert!(!all.contains(Flags::USER_ACCESSIBLE), "{all:?}");
    }
    let (memory, hw) = (&mut world.memory, &mut world.hw);
    let area = memory.vmalloc(hw, 4, PAGE_BYTES, "test").expect("there is RAM");
    for (at, frame) in (0..).zip(memory.area_frames(area)) {
        let found = walk(hw, root, area.as_u64() + at * PAGE_BYTES + 7);
        let Found::Page(reached, leaf, all) = found else { panic!("page {at}: {found:?}") };
        assert_eq!((reached, leaf), (frame.start().as_u64() + 7, kernel), "page {at}");
        assert!(!all.contains(Flags::USER_ACCESSIBLE), "{all:?}");
    }
    let guard = walk(hw, root, area.as_u64() + 4 * PAGE_BYTES);
    assert_eq!(guard, Found::Nothing(1), "the guard page");
    memory.vfree(hw, area).expect("it is there");
    mm.exit(memory, hw);
    assert_eq!(memory.shutdown(hw), 0);
}
