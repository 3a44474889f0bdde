//! Compressed pages in RAM: zram and zswap.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use machine::{FaultLabel, PAGE_BYTES};

use super::{Failing, byte_of, packed};
use crate::error::FaultError;
use crate::swap::{LATENCIES, PackedStore, latency};
use crate::testing::{RW, World, at, pages};
use crate::{ObjectId, Readahead};

const FIRST: u64 = 0x1000;

/// Stores noise to the first `bytes` of a page, so that it becomes no smaller than that.
fn store_noise(world: &mut World, page: u64, bytes: u64) -> Result<(), FaultError> {
    let mut seed = page.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for offset in 0..bytes {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        world.poke(0, at(page).wrapping_add(offset), seed as u8)?;
    }
    world.poke(0, at(page).wrapping_add(PAGE_BYTES - 1), byte_of(page))
}

fn check_bytes(world: &mut World, page_count: u64) {
    for page in FIRST..FIRST + page_count {
        assert_eq!(world.peek(0, at(page).wrapping_add(PAGE_BYTES - 1)), Ok(byte_of(page)));
    }
}

fn zram_world(frame_count: u64) -> World {
    let mut world = World::new(frame_count);
    let zram = latency("zram").expect("it is in the list");
    world.memory.swap_on(4096, Box::new(PackedStore::in_ram()), *zram);
    world
}

#[test]
fn zram_takes_frames_for_what_it_keeps() {
    let mut world = zram_world(256);
    world.map(pages(FIRST, 300), RW);
    for page in FIRST..FIRST + 300 {
        store_noise(&mut world, page, 2000).expect("half of it fits");
    }
    let (kernel, swap) = (world.memory.usage().kernel, world.memory.swap_usage());
    // 15 pages of 2,000 bytes of noise and some more lie in eight frames.
    assert!(kernel > swap.used / 2 && kernel < swap.used * 3 / 5, "{kernel} for {swap:?}");
    check_bytes(&mut world, 300);
    world.unmap(pages(FIRST, 300));
    assert_eq!(world.memory.usage().kernel, 1, "the page of zeros");
    assert!(world.memory.pool_frames_max() > 50);
    world.finish();
}

#[test]
fn zram_is_no_way_out_for_pages_that_do_not_become_smaller() {
    let mut world = zram_world(256);
    world.map(pages(FIRST, 300), RW);
    let ends = (FIRST..FIRST + 300).find_map(|page| store_noise(&mut world, page, 4000).err());
    assert!(matches!(ends, Some(FaultError::OutOfMemory { .. })), "{ends:?}");
    world.unmap(pages(FIRST, 300));
    world.finish();
}

#[test]
fn swap_5_a_page_comes_back_from_zram_alone() {
    let mut world = zram_world(256);
    world.map(pages(FIRST, 400), RW);
    for page in FIRST..FIRST + 400 {
        world.poke(0, at(page), byte_of(page)).expect("it fits");
    }
    for page in FIRST..FIRST + 400 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    let faults = world.spaces[0].faults();
    assert!(faults.major > 100);
    assert_eq!(faults.major, faults.of(FaultLabel::SwapIn));
    assert_eq!(world.memory.events().swap_ra, 0);
    world.finish();
}

#[test]
fn zswap_keeps_its_share_of_ram_and_sends_the_oldest_pages_on() {
    let mut world = World::new(256);
    world.memory.set_zswap(20);
    world.memory.swap_on(4096, packed(), LATENCIES[0]);
    world.map(pages(FIRST, 600), RW);
    for page in FIRST..FIRST + 600 {
        store_noise(&mut world, page, 2000).expect("there is swap");
    }
    let usage = world.memory.zswap_usage();
    assert!(usage.written_back > 200 && usage.pages > 60, "{usage:?}");
    assert!((45..=51).contains(&usage.frames), "{usage:?}");
    assert_eq!(world.memory.usage().kernel, 1 + usage.frames);
    // Those that came last are still in the pool when they are wanted.
    for page in (FIRST..FIRST + 600).rev() {
        assert_eq!(world.peek(0, at(page).wrapping_add(PAGE_BYTES - 1)), Ok(byte_of(page)));
    }
    assert!(world.memory.zswap_usage().loaded > 50);
    check_bytes(&mut world, 600);
    world.unmap(pages(FIRST, 600));
    assert_eq!(world.memory.zswap_usage().pages, 0);
    assert_eq!(world.memory.swap_usage().held_bytes, 0);
    world.finish();
}

#[test]
fn a_page_from_zswap_costs_no_time_of_the_device() {
    let mut world = World::new(256);
    world.memory.set_zswap(50);
    world.memory.set_page_cluster(0);
    world.memory.swap_on(4096, packed(), LATENCIES[0]);
    world.map(pages(FIRST, 300), RW);
    for page in FIRST..FIRST + 300 {
        world.poke(0, at(page), byte_of(page)).expect("it fits");
    }
    let before = (world.hw.now_ns(), world.spaces[0].faults().major);
    for page in FIRST..FIRST + 300 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    let after = (world.hw.now_ns(), world.spaces[0].faults().major);
    let each_ns = (after.0 - before.0) / (after.1 - before.1);
    assert!(each_ns < 10_000, "{each_ns}: unpacking, and packing another");
    assert_eq!(world.memory.zswap_usage().written_back, 0);
    world.finish();
}

#[test]
fn a_device_that_takes_nothing_leaves_pages_in_zswap_and_in_ram() {
    let mut world = World::new(256);
    world.memory.set_zswap(20);
    let store = Failing { inner: PackedStore::new(), writes_left: 0, can_read: true };
    world.memory.swap_on(4096, Box::new(store), LATENCIES[0]);
    let first = pages(0x8000, 60);
    world.map(first, RW);
    for page in first.start.page().number()..first.end.page().number() {
        store_noise(&mut world, page, 2000).expect("it fits");
    }
    world.map(pages(FIRST, 600), RW);
    let fits = (FIRST..FIRST + 600)
        .take_while(|&page| store_noise(&mut world, page, 2000).is_ok())
        .count() as u64;
    let usage = world.memory.zswap_usage();
    assert!(fits < 400 && usage.pages > 60 && usage.written_back == 0, "{fits}, {usage:?}");
    // With room for what comes back, all of it does.
    world.unmap(first);
    check_bytes(&mut world, fits);
    world.finish();
}

/// A page of noise for [`Memory::write_object`](crate::Memory::write_object).
fn noise(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..PAGE_BYTES).map(|_| next()).collect()
}

/// Shared memory of 300 pages in 256 frames, half of whose bytes are noise.
fn shared_world() -> (World, ObjectId) {
    let mut world = zram_world(256);
    let object = world.memory.add_shared_zeros(300 * PAGE_BYTES);
    for page in 0..300 {
        let bytes = &noise(page)[..2000];
        let World { memory, hw, .. } = &mut world;
        assert_eq!(memory.write_object(hw, object, page * PAGE_BYTES, bytes), Ok(2000));
    }
    assert!(world.memory.object_swap_pages(object) > 60);
    (world, object)
}

#[test]
fn shared_memory_that_is_cut_off_gives_the_frames_of_its_compressed_pages_back() {
    let (mut world, object) = shared_world();
    assert!(world.memory.usage().kernel > 30);
    world.memory.truncate_object(&mut [], &mut world.hw, object, 0);
    assert_eq!(world.memory.usage().kernel, 1, "the page of zeros");
    world.memory.drop_object(&mut world.hw, object);
    world.finish();
}

/// SWAP-6: a page that is written in its slot, and for which there is no frame then, is lost, and
/// who reads it is told; no other page is.
#[test]
fn a_page_that_no_frame_is_left_for_is_told_to_its_reader() {
    let (mut world, object) = shared_world();
    let mut taken = Vec::new();
    while let Some(frame) = world.memory.take_reserve(crate::folio::FrameState::Kernel) {
        taken.push(frame);
    }
    let World { memory, hw, .. } = &mut world;
    for page in 0..300 {
        assert_eq!(memory.write_object(hw, object, page * PAGE_BYTES, &noise(!page)), Ok(4096));
        assert_eq!(memory.swap.check(), Ok(()), "after page {page}");
    }
    for frame in taken {
        memory.give_kernel_frame(hw, frame);
    }
    let mut bytes = vec![0; PAGE_BYTES as usize];
    let mut lost = 0;
    for page in 0..300 {
        let place = (page * PAGE_BYTES, bytes.as_mut_slice());
        match memory.read_object(hw, object, place, &mut Readahead::default()) {
            Ok(_) => assert_eq!(bytes, noise(!page), "page {page}"),
            Err(_) => lost += 1,
        }
    }
    assert!(lost > 0, "some pages became larger");
    memory.drop_object(hw, object);
    world.finish();
}
