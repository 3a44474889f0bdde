//! Objects shared by address spaces: their life, their dirt, and what can be dropped.

use alloc::vec;

use machine::{Access, PAGE_BYTES};

use crate::backing::FileKind;
use crate::error::FaultError;
use crate::fault::FaultKind;
use crate::rights::{Rights, Sharing};
use crate::testing::{RW, World, at, file_byte, pages};

#[test]
fn one_frame_is_seen_at_different_addresses_of_two_spaces() {
    let mut world = World::new(512);
    let file = world.add_file(4 * 4096, FileKind::Shmem);
    world.map_file(pages(0x100, 4), RW, Sharing::Shared, &file, 0);
    world.fork();
    world.unmap_of(1, pages(0x100, 4));
    world.map_shared(1, pages(0x2a0, 4), &file);
    drop(file);
    world.poke(0, at(0x102), 0x5a).expect("it is mapped");
    assert_eq!(world.peek(1, at(0x2a2)), Ok(0x5a));
    let place = |world: &World, space: usize, page| {
        let addr = world.hw.peek(world.spaces[space].root(), at(page));
        addr.map(|(physical, _)| physical.frame())
    };
    assert_eq!(place(&world, 0, 0x102), place(&world, 1, 0x2a2));
    assert_eq!(world.memory.mapped_pages(), world.memory.usage().shmem);
    world.poke(1, at(0x2a2), 0x5b).expect("it is mapped");
    assert_eq!(world.peek(0, at(0x102)), Ok(0x5b));
    world.finish();
}

#[test]
fn file_3_truncation_reaches_every_space_and_growth_gives_zeros() {
    let mut world = World::new(512);
    let file = world.add_file(4 * 4096, FileKind::Shmem);
    world.map_file(pages(0x100, 8), RW, Sharing::Shared, &file, 0);
    world.map_file(pages(0x200, 8), RW, Sharing::Private, &file, 0);
    let object = file.object;
    drop(file);
    world.poke(0, at(0x203), 1).expect("it is mapped");
    world.fork();
    for space in 0..2 {
        assert_eq!(world.peek(space, at(0x103)), Ok(file_byte(3 * PAGE_BYTES)));
        assert_eq!(world.peek(space, at(0x203)), Ok(1));
        let beyond = Err(FaultError::BusError { addr: at(0x104) });
        assert_eq!(world.touch(space, at(0x104), Access::Read), beyond);
    }
    world.resize(object, 2 * 4096 + 100);
    for space in 0..2 {
        for page in [0x103, 0x203] {
            let beyond = Err(FaultError::BusError { addr: at(page) });
            assert_eq!(world.touch(space, at(page), Access::Write), beyond);
        }
        assert_eq!(world.peek(space, at(0x102)), Ok(file_byte(2 * PAGE_BYTES)));
        assert_eq!(world.peek(space, at(0x102).wrapping_add(100)), Ok(0));
    }
    world.resize(object, 8 * 4096);
    for space in 0..2 {
        assert_eq!(world.peek(space, at(0x103)), Ok(0));
        assert_eq!(world.peek(space, at(0x203)), Ok(0), "the private copy went with the page");
        assert_eq!(world.peek(space, at(0x107)), Ok(0));
    }
    world.finish();
}

#[test]
fn file_8_dirty_pages_are_counted_until_they_are_stored() {
    let mut world = World::new(512);
    let file = world.add_file(4 * 4096 - 96, FileKind::Regular);
    world.map_file(pages(0x100, 4), RW, Sharing::Shared, &file, 0);
    let object = file.object;
    world.fork();
    world.poke(0, at(0x100), 1).expect("it is mapped");
    world.poke(1, at(0x101), 2).expect("it is mapped");
    world.poke(1, at(0x104).wrapping_add(u64::MAX), 3).expect("it is mapped");
    assert_eq!(world.memory.dirty_pages(), 3);
    world.write_back(object);
    assert_eq!(world.memory.dirty_pages(), 0);
    assert_eq!(world.memory.events().pages_written, 3);
    // The byte behind the end of the file is gone (FILE-2).
    assert_eq!(world.peek(0, at(0x104).wrapping_add(u64::MAX)), Ok(0));
    assert_eq!(world.touch(0, at(0x100), Access::Write), Ok(vec![FaultKind::MkWrite]));
    assert_eq!(world.touch(1, at(0x101), Access::Read), Ok(vec![]), "it is still there");
    assert_eq!(world.memory.dirty_pages(), 1);
    world.resize(object, 0);
    assert_eq!(world.memory.dirty_pages(), 0, "nobody wants it any more");
    drop(file);
    world.finish();
}

#[test]
fn clean_unmapped_pages_of_files_can_be_dropped() {
    let mut world = World::new(512);
    let file = world.add_file(8 * 4096, FileKind::Regular);
    let shmem = world.add_file(4 * 4096, FileKind::Shmem);
    world.map_file(pages(0x100, 8), RW, Sharing::Shared, &file, 0);
    world.map_file(pages(0x200, 4), RW, Sharing::Shared, &shmem, 0);
    world.poke(0, at(0x101), 7).expect("it is mapped");
    world.touch(0, at(0x100), Access::Read).expect("it is mapped");
    world.poke(0, at(0x200), 7).expect("it is mapped");
    assert_eq!(world.memory.drop_clean_cache(&mut world.hw), 0, "all are mapped");
    world.unmap(pages(0x100, 8));
    world.unmap(pages(0x200, 4));
    assert_eq!(world.memory.usage().file, 8);
    assert_eq!(world.memory.drop_clean_cache(&mut world.hw), 7, "all but the dirty one");
    world.check();
    assert_eq!((world.memory.usage().file, world.memory.usage().shmem), (1, 1));
    world.write_back(file.object);
    assert_eq!(world.memory.drop_clean_cache(&mut world.hw), 1);
    world.map_file(pages(0x100, 8), RW, Sharing::Shared, &file, 0);
    world.map_file(pages(0x200, 4), RW, Sharing::Shared, &shmem, 0);
    assert_eq!(world.peek(0, at(0x101)), Ok(7));
    assert_eq!(world.peek(0, at(0x200)), Ok(7));
    assert_eq!(world.memory.events().cache_drops, 3);
    drop((file, shmem));
    world.finish();
}

#[test]
fn shm_5_a_segment_is_charged_until_it_is_dropped() {
    let mut world = World::new(512);
    let charged = |world: &World| world.memory.usage().committed_pages;
    let before = charged(&world);
    let segment = world.memory.add_segment(3 * 4096 + 1).expect("it is promised");
    assert_eq!(charged(&world), before + 4);
    let file = world.mapped(segment, FileKind::Shmem);
    world.map_file(pages(0x100, 4), RW, Sharing::Shared, &file, 0);
    world.poke(0, at(0x100), 1).expect("it is mapped");
    drop(file);
    world.unmap(pages(0x100, 4));
    assert_eq!(charged(&world), before + 4, "it lives without mappings");
    assert_eq!(world.memory.usage().shmem, 1);
    world.memory.drop_object(&mut world.hw, segment);
    assert_eq!(charged(&world), before);
    assert_eq!(world.memory.usage().shmem, 0);
    world.finish();
}

#[test]
fn rss_2_shares_are_added_up_before_they_are_rounded() {
    let mut world = World::new(512);
    world.map(pages(0x100, 3), RW);
    for page in 0x100..0x103 {
        world.poke(0, at(page), 1).expect("it is mapped");
    }
    world.fork();
    world.fork();
    let counts = world.spaces[0].count_pages(&world.hw, &world.memory, pages(0x100, 3));
    assert_eq!((counts.resident, counts.shared_dirty, counts.private_dirty), (3, 3, 0));
    assert_eq!(counts.pss_fixed, 3 * ((4096 << 12) / 3));
    assert_eq!(counts.pss_anon_fixed, counts.pss_fixed);
    assert_eq!(counts.pss_sub_pages, 4095);
    let range = pages(0x100, 3);
    world.activate(0);
    world.spaces[0].clear_referenced(&mut world.memory, &mut world.hw, range);
    let counts = world.spaces[0].count_pages(&world.hw, &world.memory, range);
    assert_eq!((counts.referenced, counts.resident), (0, 3));
    world.read(at(0x101)).expect("it is mapped");
    let counts = world.spaces[0].count_pages(&world.hw, &world.memory, range);
    assert_eq!(counts.referenced, 1);
    world.finish();
}

#[test]
fn flt_12_events_count_what_a_vma_allows() {
    let mut world = World::new(512);
    let file = world.add_file(4096, FileKind::Regular);
    world.map_file(pages(0x100, 2), Rights::READ, Sharing::Shared, &file, 0);
    drop(file);
    world.touch(0, at(0x100), Access::Read).expect("it is mapped");
    world.touch(0, at(0x101), Access::Read).expect_err("beyond the end");
    world.touch(0, at(0x100), Access::Write).expect_err("read-only");
    world.touch(0, at(0x900), Access::Read).expect_err("nothing there");
    let events = *world.memory.events();
    assert_eq!((events.faults, events.major_faults, events.pages_read), (2, 0, 1));
    assert_eq!(world.spaces[0].faults().minor, 1);
    let used = world.memory.usage().frames_total - world.memory.usage().frames_free;
    assert_eq!(events.frames_taken - events.frames_given, used);
    assert_eq!(world.spaces[0].vmas_from(at(0x101)).count(), 1);
    assert_eq!(world.spaces[0].vmas_from(at(0x102)).count(), 0);
    world.finish();
}

#[test]
fn file_7_reading_ahead_in_little_memory_gives_the_bytes_of_the_file() {
    let mut world = World::new(256);
    let file = world.add_file(300 * 4096, FileKind::Regular);
    world.map(pages(0x100, 180), RW);
    for page in 0x100..0x1b4 {
        world.poke(0, at(page), 1).expect("there is a frame");
    }
    world.memory.drop_clean_cache(&mut world.hw);
    let mut ahead = crate::Readahead::default();
    ahead.pattern = crate::Pattern::Sequential;
    let mut page = [0; 4096];
    for index in 0..300 {
        let place = (index * PAGE_BYTES, &mut page[..]);
        let read = world.memory.read_object(&mut world.hw, file.object, place, &mut ahead);
        assert_eq!(read, Ok(4096));
        let is_right = (0..).zip(&page).all(|(i, &b)| b == file_byte(index * PAGE_BYTES + i));
        assert!(is_right, "page {index}");
        world.check();
    }
    assert!(world.memory.events().stolen > 0, "memory was short");
    drop(file);
    world.finish();
}
