//! Tests of the array of pages.

use machine::{
    Access, FastPath, Keep, MachineConfig, Privilege, Refusal, TlbMode, WalkControls, tlb_default,
    walk,
};

use super::*;
use crate::backing::MmId;
use crate::check::check;
use crate::kernel_space::SpaceConfig;
use crate::space::{Layout, Limits, Mm};

const FOUR: u64 = 0xffff_ea00_0000_0000;
const FIVE: u64 = 0xffd4_0000_0000_0000;

fn array(geometry: Geometry, ram_bytes: u64) -> Vmemmap {
    let space = KernelSpace::new(SpaceConfig::new(geometry, ram_bytes)).expect("such a kernel");
    space.vmemmap().expect("it has 64 bits")
}

#[test]
fn k64_1_the_array_has_64_bytes_for_each_page_of_whole_sections() {
    for (ram_bytes, bytes, tables) in [
        (4 << 20, 2 << 20, 2),
        (128 << 20, 2 << 20, 2),
        ((128 << 20) + 4096, 4 << 20, 2),
        (4 << 30, 64 << 20, 2),
        (64 << 30, 1 << 30, 2),
        ((64 << 30) + 4096, (1 << 30) + (2 << 20), 3),
    ] {
        let four = array(Geometry::X86_64, ram_bytes);
        assert_eq!((four.first.as_u64(), four.bytes(), four.table_count()), (FOUR, bytes, tables));
        let five = array(Geometry::La57, ram_bytes);
        assert_eq!((five.first.as_u64(), five.table_count()), (FIVE, tables + 1));
    }
    let small = array(Geometry::X86_64, 4 << 20);
    assert_eq!(small.addr_of(Frame::new(3)), VirtAddr::new(FOUR + 192));
    assert_eq!(small.frame_at(VirtAddr::new(FOUR + 200)), Some((Frame::new(3), 8)));
    assert_eq!(small.frame_at(VirtAddr::new(FOUR + 1024 * 64)), None, "behind RAM");
    let space = KernelSpace::new(SpaceConfig::new(Geometry::Pae, 4 << 20)).expect("right");
    assert_eq!(space.vmemmap(), None);
}

#[test]
fn a_machine_without_addresses_for_it_has_none() {
    let largest = array(Geometry::X86_64, 1 << 46);
    assert_eq!(largest.reserve_bytes(PhysAddr::new(1 << 46)), 0);
    let small = array(Geometry::X86_64, 5 << 20);
    let above = small.reserve_bytes(PhysAddr::new(5 << 20));
    assert_eq!(above, (1 << 20) + (2 << 20) + 8192, "to the next 2 MiB, a page, two tables");
}

/// A machine whose kernel has its array, with one address space made before it came.
fn world(geometry: Geometry, ram_bytes: u64) -> (Machine, Memory, Mm) {
    let config = MachineConfig {
        ram_bytes,
        geometry,
        tlb: TlbMode::Model(*tlb_default()),
        reference: FastPath::Empty,
        keep: Keep::Events,
        boot_seconds: 0,
    };
    let array = array(geometry, ram_bytes);
    let end = PhysAddr::new(ram_bytes);
    let mut hw = Machine::with_device(config, array.reserve_bytes(end)).expect("it is small");
    let mut memory = Memory::new(&mut hw).expect("there are frames");
    let space = KernelSpace::new(SpaceConfig::new(geometry, ram_bytes)).expect("right");
    memory.map_kernel(&mut hw, space).expect("there are frames");
    let mm = Mm::new(MmId(1), Layout::default(), Limits::default(), &mut memory, &mut hw);
    let mm = mm.expect("there are frames");
    let wrong = memory.map_vmemmap(&mut hw, array.place_above(end).wrapping_add(1));
    assert!(matches!(wrong, Err(MmError::InvalidArgument(_))), "not at 2 MiB");
    let wrong = memory.map_vmemmap(&mut hw, array.place_above(end).wrapping_add(512));
    assert!(matches!(wrong, Err(MmError::InvalidArgument(_))), "no memory there");
    assert!(memory.vmemmap().is_none() && mm.root() != memory.kernel_root().expect("it has one"));
    let free = memory.usage().frames_free;
    memory.map_vmemmap(&mut hw, array.place_above(end)).expect("there is room");
    assert_eq!(memory.usage().frames_free, free, "no frame of RAM");
    (hw, memory, mm)
}

#[test]
fn every_address_space_has_the_array_and_users_do_not() {
    for geometry in [Geometry::X86_64, Geometry::La57] {
        let (mut hw, mut memory, mut mm) = world(geometry, 130 << 20);
        assert_eq!(check(&[&mm], &memory, &hw), Ok(()));
        let (array, first) = memory.vmemmap().expect("it is mapped");
        for frame in [0, 1, 32_767, 32_768, 33_279] {
            let addr = array.addr_of(Frame::new(frame));
            let mut look = |privilege| {
                let (controls, root) = (WalkControls::default(), mm.root().start());
                walk(geometry, controls, &mut hw.ram, root, addr, Access::Read, privilege)
            };
            let walked = look(Privilege::Supervisor).expect("the kernel may");
            assert_eq!(walked.physical(addr), first.start().wrapping_add(frame * 64));
            assert_eq!(walked.size, PageSize::M2);
            let refused = look(Privilege::User).expect_err("users may not");
            assert_eq!((refused.refusal, refused.error_code()), (Refusal::Protection, 5));
        }
        let second = array.first.wrapping_add(LARGE_BYTES);
        let slot = hw.ram.slice(first.start(), 8).to_vec();
        assert_eq!(slot, [0; 8], "nothing is written before it is asked for");
        let root = memory.kernel_root().expect("it has one");
        let (geometry, table) = (hw.geometry(), hw.ram.end().frame().number() - 1);
        let leaf = geometry.slot(Frame::new(table), geometry.index(2, second));
        let entry = geometry.load(&hw.ram, leaf);
        assert!(hw.peek(root, second).is_some() && entry.is_large());
        geometry.store(&mut hw.ram, leaf, Pte::EMPTY);
        assert!(check(&[&mm], &memory, &hw).is_err(), "a page that is not mapped is found");
        geometry.store(&mut hw.ram, leaf, entry);
        mm.exit(&mut memory, &mut hw);
        assert_eq!(memory.shutdown(&mut hw), 0);
    }
}

#[test]
fn what_is_written_is_what_proc_says_of_each_frame() {
    let (mut hw, mut memory, mut mm) = world(Geometry::X86_64, 8 << 20);
    let slab = memory.kmalloc(&mut hw, 64).expect("there are frames");
    memory.write_vmemmap(&mut hw, 0..u64::MAX);
    let (array, _) = memory.vmemmap().expect("it is mapped");
    let word = |frame: Frame, at: u64| {
        let addr = array.addr_of(frame).wrapping_add(at);
        let (place, _) = hw.peek(mm.root(), addr).expect("it is mapped");
        hw.ram.read_u64(place)
    };
    let counts = |frame| {
        let both = word(frame, MAP_COUNT_AT);
        (both as u32, (both >> 32) as u32)
    };
    assert_eq!(counts(mm.root()), (0xf200_0000, 1), "a page table");
    assert_eq!(counts(slab.frame()), (0xf500_0000, 1), "a slab");
    assert_eq!(counts(Frame::new(2047)), (0xf000_0000, 0), "free");
    assert_eq!(counts(Frame::new(0)), (u32::MAX, 1), "the page of zeros: mapped by nobody");
    assert_eq!(word(Frame::new(0), 0), 1 << 13, "PG_reserved");
    memory.kfree(&mut hw, slab);
    mm.exit(&mut memory, &mut hw);
    assert_eq!(memory.shutdown(&mut hw), 0);
}
