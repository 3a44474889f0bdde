use machine::{Access, Geometry, Privilege, Refusal, WalkControls, walk};

use super::*;
use crate::testing::{RW, World, at, pages};

impl World {
    /// What the hardware finds at a kernel address below each root.
    fn kernel_frames(&mut self, addr: VirtAddr) -> Vec<Result<Frame, Refusal>> {
        let (geometry, controls) = (self.hw.geometry(), WalkControls::default());
        let mut roots: Vec<Frame> = self.spaces.iter().map(crate::Mm::root).collect();
        roots.extend(self.memory.kernel_root());
        let ram = &mut self.hw.ram;
        let mut look = |root: Frame| {
            let (access, privilege) = (Access::Write, Privilege::Supervisor);
            let walked = walk(geometry, controls, ram, root.start(), addr, access, privilege);
            walked.map(|walked| walked.frame).map_err(|fault| fault.refusal)
        };
        roots.into_iter().map(&mut look).collect()
    }
}

#[test]
fn vmalloc_1_four_pages_show_as_20480_bytes_and_the_guard_is_not_mapped() {
    for geometry in Geometry::ALL {
        let mut world = World::with_kernel(4096, geometry);
        world.map(pages(0x100, 4), RW);
        world.write(at(0x101)).expect("it is mapped");
        world.fork();
        let free = world.memory.usage().frames_free;
        let start = world.memory.vmalloc(&mut world.hw, 4, 4096, "test").expect("there is RAM");
        let region =
            world.memory.kernel_space().and_then(|space| space.region(RegionKind::Vmalloc));
        assert_eq!(region.map(|region| region.first), Some(start), "{geometry:?}: the lowest");
        let frames = world.memory.area_frames(start).to_vec();
        for (number, &frame) in (0..).zip(&frames) {
            let found = world.kernel_frames(start.wrapping_add(number * PAGE_BYTES));
            assert_eq!(found, [Ok(frame); 3], "{geometry:?}: one set of tables for all roots");
        }
        let guard = start.wrapping_add(4 * PAGE_BYTES);
        assert_eq!(world.kernel_frames(guard), [Err(Refusal::NotPresent); 3], "{geometry:?}");
        assert_eq!(world.memory.areas().map(Area::bytes).collect::<Vec<_>>(), [20_480]);
        let next = world.memory.vmalloc(&mut world.hw, 1, 4096, "test").expect("there is RAM");
        assert_eq!(next.offset_from(start), 20_480);
        world.check();
        world.memory.vfree(&mut world.hw, start.wrapping_add(4097)).expect("it is inside");
        assert_eq!(world.kernel_frames(start), [Err(Refusal::NotPresent); 3], "seen by all");
        assert!(world.memory.vfree(&mut world.hw, guard).is_err(), "a guard is no area");
        let again = world.memory.vmalloc(&mut world.hw, 2, 4096, "test").expect("there is RAM");
        assert_eq!(again, start, "the gap is used");
        for addr in [again, next] {
            world.memory.vfree(&mut world.hw, addr).expect("it is there");
        }
        let tables = free - world.memory.usage().frames_free;
        assert!(tables < u64::from(geometry.levels()), "{tables} tables stay");
        world.check();
        world.finish();
    }
}

#[test]
fn a_user_cannot_reach_an_area() {
    let mut world = World::with_kernel(2048, Geometry::X86_64);
    let start = world.memory.vmalloc(&mut world.hw, 1, 4096, "test").expect("there is RAM");
    world.activate(0);
    let fault = world.hw.access(start, Access::Read).expect_err("the kernel's");
    assert_eq!(fault.error_code(), 5, "PT-3: present, user");
    let guard = start.wrapping_add(PAGE_BYTES);
    let fault = world.hw.access(guard, Access::Write).expect_err("the kernel's");
    assert_eq!(fault.error_code(), 6, "PT-3: not present, write, user");
    world.memory.vfree(&mut world.hw, start).expect("it is there");
    world.finish();
}

#[test]
fn ioremap_maps_the_pages_of_a_device_uncached_and_no_ram() {
    let mut world = World::with_kernel(2048, Geometry::Pae);
    let device = PhysAddr::new(0xfed0_0010);
    let addr = world.memory.ioremap(&mut world.hw, device, 0x1000, "test").expect("a device");
    assert_eq!(addr.page_offset(), 0x10, "the offset stays");
    let root = world.memory.kernel_root().expect("it is mapped");
    let (physical, pte) = world.hw.peek(root, addr).expect("it is mapped");
    assert!(physical == device && pte.contains(Pte::NO_CACHE) && !pte.is_user());
    let area = world.memory.area_at(addr).expect("an area");
    assert_eq!((area.page_count, area.bytes()), (2, 3 * PAGE_BYTES), "two pages and the guard");
    assert_eq!(area.purpose, AreaUse::Ioremap(PhysAddr::new(0xfed0_0000)));
    world.check();
    for (physical, bytes) in [
        (0x1000, 4096),
        (0xfed0_0000, 0),
        (0xfed0_0000, u64::MAX),
        (u64::MAX - 10, 4),
        (1 << 52, 4096),
    ] {
        let refused = world.memory.ioremap(&mut world.hw, PhysAddr::new(physical), bytes, "test");
        assert!(refused.is_err(), "{physical:#x} {bytes:#x}");
    }
    world.memory.vfree(&mut world.hw, addr).expect("it is there");
    world.check();
    world.finish();
}

/// `VMALLOC_RESERVE`: however much RAM, so much room is there, and no more.
#[test]
fn i386_2_the_room_of_vmalloc_ends_and_is_whole_again() {
    let mut world = World::with_kernel(262_144, Geometry::I386);
    let mut areas = Vec::new();
    // One page and its guard each would need too many; large ones use it up.
    while let Ok(addr) = world.memory.vmalloc(&mut world.hw, 1023, 4096, "test") {
        areas.push(addr);
    }
    assert_eq!(areas.len(), 30, "120 MiB in areas of 4 MiB");
    assert!(world.memory.usage().frames_free > 100_000, "room ends before RAM does");
    world.check();
    for addr in areas.drain(..).rev() {
        world.memory.vfree(&mut world.hw, addr).expect("it is there");
    }
    let all = world.memory.vmalloc(&mut world.hw, 30 * 1024 - 1, 4096, "test");
    world.memory.vfree(&mut world.hw, all.expect("the gaps were joined")).expect("it is there");
    world.check();
    world.finish();
}

#[test]
fn an_area_for_which_frames_end_changes_nothing() {
    let mut world = World::with_kernel(600, Geometry::X86_64);
    let warm = world.memory.vmalloc(&mut world.hw, 1, 4096, "test").expect("there is RAM");
    let free = world.memory.usage().frames_free;
    for pages in [free + 1, 1 << 40] {
        assert!(world.memory.vmalloc(&mut world.hw, pages, 4096, "test").is_err());
        assert_eq!(world.memory.usage().frames_free, free);
        world.check();
    }
    assert!(world.memory.vmalloc(&mut world.hw, 0, 4096, "test").is_err());
    // A table is missing, and the frame for it is refused.
    world.memory.refuse_allocation(1);
    let far = world.memory.vmalloc(&mut world.hw, 1, 1 << 30, "test");
    assert!(far.is_ok() || world.memory.usage().frames_free == free);
    far.into_iter().for_each(|addr| world.memory.vfree(&mut world.hw, addr).expect("there"));
    world.check();
    world.memory.vfree(&mut world.hw, warm).expect("it is there");
    world.finish();
}
