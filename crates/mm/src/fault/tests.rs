//! Every case of the table in `fault.rs`, on a small machine that is checked after each step.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use machine::{Access, Event, FaultLabel, Geometry, Refusal, VirtAddr};

use super::FaultKind;
use crate::backing::FileKind;
use crate::error::FaultError;
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::testing::{RW, World, at, file_byte, pages};

#[test]
fn flt_4_and_5_zero_page_then_copy() {
    let mut world = World::new(512);
    world.map(pages(0x100, 64), RW);
    for page in 0x100..0x140 {
        assert_eq!(world.read(at(page)), Ok(vec![FaultKind::Zero]));
    }
    assert_eq!(world.rss(), (0, 0, 0));
    for page in 0x100..0x140 {
        assert_eq!(world.write(at(page)), Ok(vec![FaultKind::Cow]));
    }
    assert_eq!(world.rss(), (64, 0, 0));
    assert_eq!(world.spaces[0].faults().minor, 128);
    world.finish();
}

#[test]
fn first_touch_gives_ascending_frames_of_zeros() {
    let mut world = World::new(512);
    world.map(pages(0x100, 64), RW);
    for page in 0x100..0x140 {
        assert_eq!(world.write(at(page)), Ok(vec![FaultKind::Zero]));
    }
    let ascends = |world: &World| {
        let frames: Vec<_> = world.frames(pages(0x100, 64)).into_iter().flatten().collect();
        frames.windows(2).all(|pair| pair[1].offset_from(pair[0]) == 1)
    };
    assert!(ascends(&world));
    world.poke(0, at(0x120), 7).expect("it is mapped");
    world.unmap(pages(0x100, 64));
    world.map(pages(0x100, 64), RW);
    for page in 0x100..0x140 {
        assert_eq!(world.peek(0, at(page)), Ok(0));
        assert_eq!(world.write(at(page)), Ok(vec![FaultKind::Cow]));
        assert_eq!(world.peek(0, at(page)), Ok(0));
    }
    assert!(ascends(&world), "frames that were freed together ascend again");
    world.finish();
}

#[test]
fn flt_1_refusals_have_their_own_errors() {
    let mut world = World::new(512);
    world.map(pages(0x100, 1), Rights::READ);
    world.map(pages(0x102, 1), Rights::empty());
    let (hole, end) = (at(0x101), VirtAddr::new(u64::MAX));
    assert_eq!(world.read(hole), Err(FaultError::NoVma { addr: hole }));
    let inside = at(0x100).wrapping_add(8);
    assert_eq!(world.write(inside), Err(FaultError::Denied { addr: inside }));
    assert_eq!(world.read(at(0x102)), Err(FaultError::Denied { addr: at(0x102) }));
    let kernel = world.fault(end, Access::Read, Refusal::NotPresent);
    assert_eq!(kernel, Err(FaultError::NoVma { addr: end }));
    assert_eq!(world.count(FaultLabel::Denied), 4);
    assert_eq!(world.spaces[0].faults().total(), 0);
    world.finish();
}

#[test]
fn flt_1_6_a_fetch_is_first_resolved_as_a_read() {
    let mut world = World::new(512);
    world.map(pages(0x100, 1), RW);
    let fetched = world.touch(0, at(0x100), Access::Fetch);
    assert_eq!(fetched, Err(FaultError::Denied { addr: at(0x100) }));
    assert_eq!(world.count(FaultLabel::Zero), 1);
    let log = &world.hw.log;
    let codes: Vec<u8> = log
        .pending()
        .iter()
        .filter_map(|stamped| match stamped.event {
            Event::Fault { code, .. } => Some(code),
            _ => None,
        })
        .collect();
    assert_eq!(codes, [0x14, 0x15]);
    world.finish();
}

#[test]
fn flt_6_a_read_maps_the_aligned_window() {
    let mut world = World::new(512);
    let file = world.add_file(64 * 4096, FileKind::Regular);
    world.map_file(pages(0x100, 64), Rights::READ, Sharing::Private, &file, 0);
    assert_eq!(world.read(at(0x115)), Ok(vec![FaultKind::File]));
    assert_eq!(world.rss(), (0, 16, 0));
    for page in 0x100..0x140 {
        let byte = world.peek(0, at(page).wrapping_add(5));
        assert_eq!(byte, Ok(file_byte((page - 0x100) * 4096 + 5)));
    }
    assert_eq!(world.count(FaultLabel::File), 4);
    let frames: Vec<_> = world.frames(pages(0x110, 16)).into_iter().flatten().collect();
    assert!(frames.windows(2).all(|pair| pair[1].offset_from(pair[0]) == 1));
    world.finish();
}

#[test]
fn flt_6_the_window_is_clipped_to_vma_table_and_file() {
    let mut world = World::new(512);
    let file = world.add_file(40 * 4096 + 1, FileKind::Regular);
    // Starts in the middle of a window: the 16 pages begin at the start of the VMA.
    world.map_file(pages(0x105, 4), Rights::READ, Sharing::Private, &file, 3);
    assert_eq!(world.read(at(0x106)), Ok(vec![FaultKind::File]));
    assert_eq!(world.rss().1, 4);
    world.map_file(pages(0x125, 32), Rights::READ, Sharing::Private, &file, 0);
    assert_eq!(world.read(at(0x126)), Ok(vec![FaultKind::File]));
    assert_eq!(world.rss().1, 4 + 16);
    // The last page of a table of 512 entries.
    world.map_file(pages(0x3f8, 16), Rights::READ, Sharing::Private, &file, 0);
    assert_eq!(world.read(at(0x3ff)), Ok(vec![FaultKind::File]));
    assert_eq!(world.rss().1, 20 + 8);
    // The end of the file, within its 41st page.
    world.map_file(pages(0x500, 16), Rights::READ, Sharing::Private, &file, 36);
    assert_eq!(world.read(at(0x504)), Ok(vec![FaultKind::File]));
    assert_eq!(world.rss().1, 28 + 5);
    assert_eq!(world.read(at(0x505)), Err(FaultError::BusError { addr: at(0x505) }));
    assert_eq!(world.peek(0, at(0x504)), Ok(file_byte(40 * 4096)));
    assert_eq!(world.peek(0, at(0x504).wrapping_add(1)), Ok(0), "zero beyond the end");
    world.finish();
}

#[test]
fn flt_7_private_file_writes_copy_one_page_each() {
    let mut world = World::new(512);
    let file = world.add_file(32 * 4096, FileKind::Regular);
    world.map_file(pages(0x100, 32), RW, Sharing::Private, &file, 0);
    assert_eq!(world.write(at(0x100)), Ok(vec![FaultKind::Cow]));
    assert_eq!(world.rss(), (1, 0, 0));
    assert_eq!(world.peek(0, at(0x100)), Ok(file_byte(0)));
    assert_eq!(world.read(at(0x101)), Ok(vec![FaultKind::File]));
    assert_eq!(world.rss(), (1, 15, 0));
    assert_eq!(world.write(at(0x101)), Ok(vec![FaultKind::Cow]));
    assert_eq!(world.rss(), (2, 14, 0));
    world.poke(0, at(0x101), 1).expect("it is mapped");
    world.map_file(pages(0x200, 32), Rights::READ, Sharing::Private, &file, 0);
    assert_eq!(world.peek(0, at(0x201)), Ok(file_byte(4096)), "the file has not changed");
    world.finish();
}

#[test]
fn flt_8_shared_file_writes_are_noticed_per_page() {
    let mut world = World::new(512);
    let file = world.add_file(32 * 4096, FileKind::Regular);
    world.map_file(pages(0x100, 32), RW, Sharing::Shared, &file, 0);
    assert_eq!(world.write(at(0x100)), Ok(vec![FaultKind::File]));
    assert_eq!(world.read(at(0x101)), Ok(vec![FaultKind::File]));
    assert_eq!(world.rss(), (0, 16, 0));
    assert_eq!(world.write(at(0x101)), Ok(vec![FaultKind::MkWrite]));
    world.poke(0, at(0x101), 9).expect("it is mapped");
    let mut byte = [0];
    let mut ahead = crate::Readahead::default();
    let place = (4096, &mut byte[..]);
    let read = world.memory.read_object(&mut world.hw, file.object, place, &mut ahead);
    assert_eq!((read, byte), (Ok(1), [9]), "read and mappings see one page");
    let (object, all) = (file.object, 0..=u64::MAX);
    let (memory, hw) = (&mut world.memory, &mut world.hw);
    let written = memory.write_back(hw, object, all);
    assert_eq!(written, Ok(2));
    world.check();
    assert_eq!(world.write(at(0x101)), Ok(vec![FaultKind::MkWrite]), "clean again");
    world.finish();
}

#[test]
fn write_back_finds_pages_that_lost_all_rights_after_a_store() {
    let mut world = World::new(512);
    let file = world.add_file(4096, FileKind::Regular);
    world.map_file(pages(0x100, 1), RW, Sharing::Shared, &file, 0);
    world.write(at(0x100)).expect("it is mapped");
    let write_back = |world: &mut World| {
        let (memory, hw) = (&mut world.memory, &mut world.hw);
        memory.write_back(hw, file.object, 0..=0).expect("the pager works");
        world.check();
    };
    write_back(&mut world);
    world.poke(0, at(0x100), 99).expect("it is mapped");
    let frame = world.memory.cached_page(file.object, 0).expect("it is mapped");
    assert!(world.memory.frames.is_dirty(frame));
    world.set_rights(pages(0x100, 1), Rights::empty());
    write_back(&mut world);
    assert!(!world.memory.frames.is_dirty(frame));
    assert!(!world.spaces[0].entry_at(&world.hw, at(0x100)).is_dirty());
    world.finish();
}

#[test]
fn shared_memory_has_one_fault_per_new_page_and_none_for_dirt() {
    let mut world = World::new(512);
    let object = world.memory.add_shared_zeros(32 * 4096);
    let file = world.mapped(object, FileKind::Shmem);
    world.map_file(pages(0x100, 32), RW, Sharing::Shared, &file, 0);
    drop(file);
    for page in 0x100..0x110 {
        assert_eq!(world.read(at(page)), Ok(vec![FaultKind::File]));
        assert_eq!(world.write(at(page)), Ok(vec![]), "writable at once");
    }
    assert_eq!(world.rss(), (0, 0, 16));
    assert_eq!(world.memory.usage().shmem, 16);
    world.unmap(pages(0x100, 32));
    assert_eq!(world.memory.usage().shmem, 0, "the object ended with its last mapping");
    world.finish();
}

#[test]
fn shared_memory_that_exists_is_mapped_around() {
    let mut world = World::new(512);
    let file = world.add_file(64 * 4096, FileKind::Shmem);
    world.map_file(pages(0x100, 64), Rights::READ, Sharing::Shared, &file, 0);
    for page in 0x100..0x140 {
        world.read(at(page)).expect("it is mapped");
    }
    assert_eq!(world.count(FaultLabel::File), 4);
    assert_eq!(world.rss(), (0, 0, 64));
    world.finish();
}

#[test]
fn special_pages_come_one_by_one() {
    let mut world = World::new(512);
    let file = world.add_file(4 * 4096, FileKind::Special);
    let rx = Rights::READ | Rights::EXECUTE;
    world.map_file(pages(0x100, 2), rx, Sharing::Private, &file, 0);
    let flags = VmaFlags::PFN_MAP | VmaFlags::SPECIAL;
    let backing = Some((file.clone(), 2));
    world.map_vma(pages(0x102, 2), Rights::READ, Sharing::Private, flags, backing);
    assert_eq!(world.touch(0, at(0x100), Access::Fetch), Ok(vec![FaultKind::File]));
    assert_eq!(world.rss(), (0, 1, 0));
    assert_eq!(world.peek(0, at(0x102)), Ok(file_byte(2 * 4096)));
    assert_eq!(world.rss(), (0, 1, 0), "frame numbers without accounting");
    world.finish();
}

#[test]
fn flt_9_the_first_writer_copies_and_the_last_reuses() {
    let mut world = World::new(512);
    world.map(pages(0x100, 4), RW);
    for page in 0x100..0x104 {
        world.poke(0, at(page), page as u8).expect("it is mapped");
    }
    world.fork();
    assert_eq!(world.touch(1, at(0x100), Access::Write), Ok(vec![FaultKind::Cow]));
    assert_eq!(world.write(at(0x100)), Ok(vec![FaultKind::Reuse]));
    assert_eq!(world.write(at(0x101)), Ok(vec![FaultKind::Cow]));
    world.poke(0, at(0x101), 77).expect("it is mapped");
    assert_eq!(world.peek(1, at(0x101)), Ok(0x101_u64 as u8));
    world.exit();
    assert_eq!(world.write(at(0x102)), Ok(vec![FaultKind::Reuse]));
    assert_eq!(world.peek(0, at(0x102)), Ok(0x102_u64 as u8));
    world.finish();
}

#[test]
fn flt_11_a_fault_that_is_no_more_changes_nothing() {
    let mut world = World::new(512);
    world.map(pages(0x100, 1), RW);
    world.write(at(0x100)).expect("it is mapped");
    let again = world.fault(at(0x100), Access::Write, Refusal::NotPresent);
    assert_eq!(again, Ok(FaultKind::Spurious));
    assert_eq!(world.spaces[0].faults().minor, 2);
    world.finish();
}

#[test]
fn stk_2_the_stack_grows_to_the_touched_page() {
    let mut world = World::new(512);
    let flags = VmaFlags::GROWS_DOWN | VmaFlags::STACK;
    world.map_vma(pages(0x8000, 4), RW, Sharing::Private, flags, None);
    assert_eq!(world.write(at(0x7f00)), Ok(vec![FaultKind::Stack]));
    let start = world.spaces[0].vma_at(at(0x7f00)).map(|vma| vma.range.start);
    assert_eq!(start, Some(at(0x7f00)));
    assert_eq!(world.spaces[0].totals().stack_pages, 0x104);
    assert_eq!(world.write(at(0x7f01)), Ok(vec![FaultKind::Zero]));
    // RLIMIT_STACK: 8 MiB are 2048 pages.
    let last = at(0x8004 - 2048);
    assert_eq!(world.write(last), Ok(vec![FaultKind::Stack]));
    let beyond = at(0x8004 - 2049);
    assert_eq!(world.write(beyond), Err(FaultError::NoVma { addr: beyond }));
    world.finish();
}

#[test]
fn stk_4_growth_keeps_the_guard_gap_to_accessible_neighbours() {
    let mut world = World::new(512);
    let flags = VmaFlags::GROWS_DOWN;
    world.map_vma(pages(0x8000, 1), RW, Sharing::Private, flags, None);
    world.map(pages(0x8000 - 401, 1), Rights::READ);
    let refused = at(0x8000 - 400 + 255);
    assert_eq!(world.write(refused), Err(FaultError::NoVma { addr: refused }));
    assert_eq!(world.write(at(0x8000 - 400 + 256)), Ok(vec![FaultKind::Stack]));
    world.map_vma(pages(0x4000, 1), RW, Sharing::Private, flags, None);
    world.map(pages(0x3f00, 1), Rights::empty());
    assert_eq!(world.write(at(0x3f01)), Ok(vec![FaultKind::Stack]), "no guard for PROT_NONE");
    world.finish();
}

#[test]
fn out_of_memory_changes_nothing() {
    let mut world = World::new(256);
    world.map(pages(0x100, 400), RW);
    let page = (0x100..0x290).find(|&page| world.write(at(page)).is_err());
    let addr = at(page.expect("there are fewer frames than pages"));
    assert_eq!(world.memory.usage().frames_free, 0);
    assert_eq!(world.write(addr), Err(FaultError::OutOfMemory { addr }));
    assert_eq!(world.read(addr), Ok(vec![FaultKind::Zero]), "the zero frame needs none");
    assert_eq!(world.write(addr), Err(FaultError::OutOfMemory { addr }));
    world.unmap(pages(0x100, 400));
    world.map(pages(0x100, 400), RW);
    assert_eq!(world.write(addr), Ok(vec![FaultKind::Zero]));
    world.finish();
}

#[test]
fn prot_5_no_rights_keep_the_frame() {
    let mut world = World::new(512);
    world.map(pages(0x100, 2), RW);
    world.poke(0, at(0x100), 5).expect("it is mapped");
    world.set_rights(pages(0x100, 2), Rights::empty());
    assert_eq!(world.rss().0, 1);
    assert_eq!(world.read(at(0x100)), Err(FaultError::Denied { addr: at(0x100) }));
    world.set_rights(pages(0x100, 2), RW);
    assert_eq!(world.write(at(0x100)), Ok(vec![]), "exclusive pages are writable at once");
    assert_eq!(world.peek(0, at(0x100)), Ok(5));
    world.set_rights(pages(0x100, 2), Rights::READ);
    assert_eq!(world.write(at(0x100)), Err(FaultError::Denied { addr: at(0x100) }));
    assert_eq!(world.read(at(0x100)), Ok(vec![]));
    world.finish();
}

#[test]
fn file_3_truncation_takes_private_copies_and_zeroes_the_tail() {
    let mut world = World::new(512);
    let object =
        world.memory.add_object(Box::new(crate::ZeroPager::new(8 * 4096)), FileKind::Regular);
    let file = world.mapped(object, FileKind::Regular);
    world.map_file(pages(0x100, 8), RW, Sharing::Private, &file, 0);
    world.map_file(pages(0x200, 8), RW, Sharing::Shared, &file, 0);
    for page in 0..8 {
        world.poke(0, at(0x200 + page), 3).expect("it is mapped");
        world.poke(0, at(0x100 + page).wrapping_add(4000), 4).expect("it is mapped");
    }
    assert_eq!(world.rss(), (8, 8, 0));
    let (memory, hw) = (&mut world.memory, &mut world.hw);
    memory.truncate_object(&mut [&mut world.spaces[0]], hw, object, 2 * 4096 + 100);
    world.check();
    assert_eq!(world.rss(), (3, 3, 0));
    world.finish();
}

#[test]
fn every_geometry_has_the_same_faults() {
    for geometry in Geometry::ALL {
        let mut world = World::with_geometry(512, geometry);
        world.map(pages(0x3f0, 32), RW | Rights::EXECUTE);
        for page in 0x3f0..0x410 {
            assert_eq!(world.read(at(page)), Ok(vec![FaultKind::Zero]));
            assert_eq!(world.write(at(page)), Ok(vec![FaultKind::Cow]));
            assert_eq!(world.touch(0, at(page), Access::Fetch), Ok(vec![]));
        }
        world.unmap(pages(0x3f0, 32));
        assert_eq!(world.spaces[0].page_table_frames(&world.memory), 0);
        world.finish();
    }
}
