//! What programs say of their pages: free, cold, out, wanted.

use machine::VirtRange;

use super::{byte_of, packed, store_all};
use crate::backing::FileKind;
use crate::ops::{Advice, madvise};
use crate::rights::Sharing;
use crate::testing::{RW, World, at, file_byte, pages};

fn advise(world: &mut World, range: VirtRange, advice: Advice) {
    world.activate(0);
    let World { spaces, memory, hw, .. } = world;
    let done = madvise(&mut spaces[0], memory, hw, (range.start, range.bytes()), advice);
    done.expect("it is mapped");
    world.check();
}

fn resident(world: &World, range: VirtRange) -> usize {
    world.frames(range).into_iter().flatten().count()
}

/// Stores to so many pages elsewhere that all others that can leave have left.
fn press(world: &mut World) {
    world.map(pages(0x9000, 170), RW);
    for page in 0x9000..0x90aa {
        world.poke(0, at(page), 1).expect("there are frames");
    }
}

#[test]
fn free_pages_leave_without_swap_unless_they_are_stored_to_again() {
    let mut world = World::new(256);
    world.map(pages(0x1000, 60), RW);
    store_all(&mut world, pages(0x1000, 60));
    advise(&mut world, pages(0x1000, 60), Advice::Free);
    let counts = world.spaces[0].count_pages(&world.hw, &world.memory, pages(0x1000, 60));
    assert_eq!((counts.lazy_free, counts.anonymous), (60, 60), "Rss is as it was");
    for page in 0x1000..0x1010 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)), "nothing was short");
    }
    for page in 0x1010..0x1020 {
        world.poke(0, at(page), 99).expect("it is mapped");
    }
    let counts = world.spaces[0].count_pages(&world.hw, &world.memory, pages(0x1000, 60));
    assert_eq!(counts.lazy_free, 44, "a store cancels it");
    press(&mut world);
    assert!(world.memory.events().lazily_dropped >= 20, "{:?}", world.memory.events());
    assert_eq!(world.memory.events().lazily_freed, 60);
    for page in 0x1010..0x1020 {
        assert_eq!(world.peek(0, at(page)), Ok(99), "stored to after the advice");
    }
    for page in 0x1020..0x103c {
        let byte = world.peek(0, at(page));
        assert!(byte == Ok(0) || byte == Ok(byte_of(page)), "all of it or nothing: {byte:?}");
    }
    world.finish();
}

#[test]
fn free_lets_go_of_swap_and_leaves_what_a_fork_shares() {
    let mut world = World::with_swap(256, 1000, packed());
    world.map(pages(0x1000, 300), RW);
    store_all(&mut world, pages(0x1000, 300));
    assert!(world.memory.swap_usage().used > 50);
    world.fork();
    world.exit();
    advise(&mut world, pages(0x1000, 300), Advice::Free);
    assert_eq!(world.memory.swap_usage().used, 0);
    store_all(&mut world, pages(0x1000, 100));
    world.fork();
    advise(&mut world, pages(0x1000, 100), Advice::Free);
    press(&mut world);
    for page in 0x1000..0x1064 {
        assert_eq!(world.peek(1, at(page)), Ok(byte_of(page)), "the child has it still");
    }
    world.finish();
}

#[test]
fn pages_go_out_and_come_back_when_they_are_told() {
    let mut world = World::with_swap(512, 1000, packed());
    world.map(pages(0x1000, 40), RW);
    store_all(&mut world, pages(0x1000, 40));
    advise(&mut world, pages(0x1000, 30), Advice::PageOut);
    assert_eq!(resident(&world, pages(0x1000, 40)), 10);
    assert_eq!(world.memory.swap_usage().used, 30);
    assert!(world.memory.events().wait_ns > 0, "the program waited for the device");
    let major = world.spaces[0].faults().major;
    advise(&mut world, pages(0x1000, 40), Advice::WillNeed);
    assert_eq!(world.memory.swap_usage().cached, 30);
    for page in 0x1000..0x1028 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    assert_eq!(world.spaces[0].faults().major, major, "they were read ahead");
    world.finish();
}

#[test]
fn pages_of_files_and_of_shared_memory_go_out_too() {
    let mut world = World::with_swap(512, 1000, packed());
    let file = world.add_file(20 * 4096, FileKind::Regular);
    let shared = world.memory.add_shared_zeros(20 * 4096);
    let shared = world.mapped(shared, FileKind::Shmem);
    world.map_file(pages(0x1000, 20), RW, Sharing::Shared, &file, 0);
    world.map_file(pages(0x2000, 20), RW, Sharing::Shared, &shared, 0);
    let object = shared.object;
    drop((file, shared));
    world.poke(0, at(0x1003), 0xaa).expect("it is mapped");
    for page in 0x1000..0x1014 {
        world.peek(0, at(page)).expect("it is mapped");
    }
    store_all(&mut world, pages(0x2000, 20));
    for first in [0x1000, 0x2000] {
        advise(&mut world, pages(first, 20), Advice::PageOut);
        assert_eq!(resident(&world, pages(first, 20)), 0);
    }
    assert_eq!(world.memory.object_swap_pages(object), 20);
    assert_eq!(world.memory.events().pages_written, 1, "the dirty page of the file");
    let major = world.spaces[0].faults().major;
    for first in [0x1000, 0x2000] {
        advise(&mut world, pages(first, 20), Advice::WillNeed);
    }
    for page in 0..20 {
        let byte = if page == 3 { 0xaa } else { file_byte(page * 4096) };
        assert_eq!(world.peek(0, at(0x1000 + page)), Ok(byte));
        assert_eq!(world.peek(0, at(0x2000 + page)), Ok(byte_of(0x2000 + page)));
    }
    assert_eq!(world.spaces[0].faults().major, major, "all were at hand");
    world.finish();
}

#[test]
fn cold_pages_leave_first() {
    let mut world = World::with_swap(256, 1000, packed());
    world.map(pages(0x1000, 150), RW);
    store_all(&mut world, pages(0x1000, 150));
    let cold = pages(0x1060, 16);
    advise(&mut world, cold, Advice::Cold);
    assert_eq!(resident(&world, cold), 16, "they stay until memory is short");
    world.map(pages(0x9000, 100), RW);
    let mut page = 0x9000;
    while world.memory.events().stolen == 0 {
        world.poke(0, at(page), 1).expect("there is swap");
        page += 1;
    }
    assert_eq!(resident(&world, cold), 0);
    assert!(resident(&world, pages(0x1000, 96)) > 70, "older ones are there");
    world.finish();
}
