//! More pages than frames: what leaves, what stays, and what comes back.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use machine::{Access, FaultLabel};

use super::Watermarks;
use crate::backing::FileKind;
use crate::error::FaultError;
use crate::fault::FaultKind;
use crate::rights::{Rights, Sharing};
use crate::swap::{PackedStore, SwapError, SwapSlot, SwapStore};
use crate::testing::{RW, World, at, file_byte, pages};

fn packed() -> Box<dyn SwapStore> {
    Box::new(PackedStore::new())
}

/// A byte for each page.
fn byte_of(page: u64) -> u8 {
    (page * 7 % 251 + 1) as u8
}

fn store_all(world: &mut World, range: machine::VirtRange) {
    for page in range.start.page().number()..range.end.page().number() {
        world.poke(0, at(page), byte_of(page)).expect("there is swap");
    }
}

#[test]
fn phys_3_and_4_marks_follow_from_the_size() {
    // 1 GiB: sqrt(16 * 1,048,576 KiB) = 4,096 KiB.
    assert_eq!(Watermarks::default_min_free_kib(1 << 18), 4096);
    let mut world = World::new(256);
    assert_eq!(world.memory.watermarks(), Watermarks { min: 32, low: 40, high: 48 }, "128 KiB");
    world.memory.set_min_free_kib(400);
    assert_eq!(world.memory.watermarks(), Watermarks { min: 100, low: 125, high: 150 });
    world.finish();
}

#[test]
fn flt_10_twice_as_many_pages_as_frames_keep_their_bytes() {
    let mut world = World::with_swap(512, 4096, packed());
    let range = pages(0x1000, 1024);
    world.map(range, RW);
    store_all(&mut world, range);
    let usage = world.memory.swap_usage();
    assert!(usage.used > 512, "{usage:?}");
    assert_eq!(world.spaces[0].swap_pages(&world.memory) + world.rss().0, 1024);
    for page in 0x1000..0x1400 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    let faults = world.spaces[0].faults();
    let (major, back) = (faults.major, faults.of(FaultLabel::SwapIn));
    assert!(major > 0 && back > 3 * major, "{major} of {back}: neighbours came along");
    assert!(world.hw.now_ns() > 0, "devices take time");
    world.unmap(range);
    assert_eq!(world.memory.swap_usage().used, 0);
    assert_eq!(world.memory.swap_usage().held_bytes, 0);
    world.finish();
}

#[test]
fn a_page_that_came_back_alone_is_stored_to_without_another_fault() {
    let mut world = World::with_swap(256, 4096, packed());
    let range = pages(0x1000, 400);
    world.map(range, RW);
    store_all(&mut world, range);
    let first = at(0x1000);
    assert_eq!(world.touch(0, first, Access::Read), Ok(vec![FaultKind::SwapIn]));
    assert_eq!(world.touch(0, first, Access::Write), Ok(vec![]));
    world.finish();
}

#[test]
fn fork_3_pages_in_swap_are_shared_by_parent_and_child() {
    let mut world = World::with_swap(256, 4096, packed());
    let range = pages(0x1000, 300);
    world.map(range, RW);
    store_all(&mut world, range);
    world.fork();
    let swapped = world.spaces[0].swap_pages(&world.memory);
    assert!(swapped > 60, "{swapped}");
    assert_eq!(world.spaces[1].swap_pages(&world.memory), swapped);
    assert_eq!(world.memory.swap_usage().used, swapped, "no page is written twice");
    let page = 0x1000;
    assert_eq!(world.touch(1, at(page), Access::Write), Ok(vec![FaultKind::SwapIn]));
    world.poke(1, at(page), 99).expect("it is mapped");
    assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    assert_eq!(world.peek(1, at(page)), Ok(99));
    world.exit_at(0);
    for page in 0x1001..0x112c {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    world.finish();
}

#[test]
fn lock_7_locked_pages_stay_until_they_are_unlocked() {
    let mut world = World::with_swap(256, 4096, packed());
    let locked = pages(0x800, 32);
    world.map(locked, RW);
    store_all(&mut world, locked);
    let (memory, hw) = (&mut world.memory, &mut world.hw);
    let mode = crate::ops::LockMode::Now;
    let range = (locked.start, locked.bytes());
    crate::ops::mlock(&mut world.spaces[0], memory, hw, range, mode).expect("within the limit");
    world.map(pages(0x1000, 600), RW);
    store_all(&mut world, pages(0x1000, 600));
    let resident = |world: &World| world.frames(locked).into_iter().flatten().count();
    assert_eq!(resident(&world), 32);
    let (memory, hw) = (&mut world.memory, &mut world.hw);
    assert_eq!(memory.unevictable_pages(), 32, "reclaim put them aside");
    crate::ops::munlock(&mut world.spaces[0], memory, hw, locked.start, locked.bytes())
        .expect("it is mapped");
    assert_eq!(world.memory.unevictable_pages(), 0);
    store_all(&mut world, pages(0x1000, 600));
    assert_eq!(resident(&world), 0);
    assert_eq!(world.peek(0, at(0x800)), Ok(byte_of(0x800)));
    world.finish();
}

#[test]
fn pages_in_use_stay_and_others_leave() {
    let mut world = World::with_swap(512, 4096, packed());
    let used = pages(0x800, 16);
    world.map(used, RW);
    world.map(pages(0x1000, 1000), RW);
    store_all(&mut world, used);
    world.activate(0);
    let mut back = 0;
    for page in 0x1000..0x13e8 {
        world.poke(0, at(page), 1).expect("there is swap");
        for other in 0x800..0x810 {
            // A walk marks the entry anew, as one does that the TLB has no room for.
            world.hw.flush_page(at(other));
            back += world.touch(0, at(other), Access::Read).expect("it is mapped").len();
        }
    }
    assert_eq!(back, 0, "faults on pages that are used all the time");
    assert_eq!(world.memory.lru_counts()[1], 16, "they are on the active list");
    world.finish();
}

#[test]
fn lru_5_pages_of_files_are_dropped_or_written_and_come_back_by_a_major_fault() {
    let mut world = World::with_swap(256, 64, packed());
    let file = world.add_file(300 * 4096, FileKind::Regular);
    world.map_file(pages(0x1000, 300), RW, Sharing::Shared, &file, 0);
    drop(file);
    world.poke(0, at(0x1000), 0xaa).expect("it is mapped");
    for page in 0x1001..0x112c {
        assert_eq!(world.peek(0, at(page)), Ok(file_byte((page - 0x1000) * 4096)));
    }
    let events = *world.memory.events();
    assert!(events.stolen > 80 && events.pages_written == 1, "{events:?}");
    assert_eq!(world.spaces[0].faults().major, 0, "the cache started warm");
    assert_eq!(world.peek(0, at(0x1000)), Ok(0xaa));
    assert_eq!(world.spaces[0].faults().major, 1);
    // With it came those around (FILE-6).
    assert_eq!(world.memory.events().refaults, 32);
    world.finish();
}

#[test]
fn a_full_swap_area_ends_as_out_of_memory() {
    let mut world = World::with_swap(256, 17, packed());
    world.map(pages(0x1000, 400), RW);
    let mut refused = 0;
    for page in 0x1000..0x1190 {
        match world.poke(0, at(page), byte_of(page)) {
            Ok(()) => {}
            Err(FaultError::OutOfMemory { .. }) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 100);
    assert_eq!(world.memory.swap_usage().used, 16);
    world.finish();
}

/// A device that fails from some time on.
struct Failing {
    inner: PackedStore,
    writes_left: u32,
    can_read: bool,
}

impl SwapStore for Failing {
    fn write(&mut self, slot: SwapSlot, page: &[u8]) -> Result<(), SwapError> {
        self.writes_left = self.writes_left.checked_sub(1).ok_or(SwapError::Io { slot })?;
        self.inner.write(slot, page)
    }

    fn read(&mut self, slot: SwapSlot, page: &mut [u8]) -> Result<(), SwapError> {
        page.fill(0x11);
        if self.can_read { self.inner.read(slot, page) } else { Err(SwapError::Corrupt { slot }) }
    }

    fn discard(&mut self, slot: SwapSlot) {
        self.inner.discard(slot);
    }

    fn held_bytes(&self) -> u64 {
        self.inner.held_bytes()
    }
}

#[test]
fn swap_6_a_failed_read_is_a_bus_error_and_a_failed_write_keeps_the_page() {
    let store = Failing { inner: PackedStore::new(), writes_left: 20, can_read: false };
    let mut world = World::with_swap(256, 4096, Box::new(store));
    world.map(pages(0x1000, 220), RW);
    for page in 0x1000..0x10dc {
        world.poke(0, at(page), byte_of(page)).expect("the low mark keeps frames free");
    }
    let swapped = world.spaces[0].swap_pages(&world.memory);
    assert_eq!(swapped, 20);
    let (mut lost, mut kept) = (0, 0);
    for page in 0x1000..0x10dc {
        match world.peek(0, at(page)) {
            Ok(byte) => {
                assert_eq!(byte, byte_of(page));
                kept += 1;
            }
            Err(error) => {
                assert_eq!(error, FaultError::BusError { addr: at(page) });
                lost += 1;
            }
        }
    }
    assert_eq!((lost, kept), (20, 200));
    world.finish();
}

#[test]
fn swap_of_pages_without_rights_survives_mprotect() {
    let mut world = World::with_swap(256, 4096, packed());
    world.map(pages(0x1000, 400), RW);
    store_all(&mut world, pages(0x1000, 400));
    world.mprotect(0, pages(0x1000, 200), Rights::empty());
    let denied = FaultError::Denied { addr: at(0x1000) };
    assert_eq!(world.peek(0, at(0x1000)), Err(denied));
    world.mprotect(0, pages(0x1000, 200), RW);
    for page in 0x1000..0x1190 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    world.finish();
}

#[test]
fn commit_2_swap_counts_as_memory_that_can_be_promised() {
    let mut world = World::with_swap(256, 1025, packed());
    assert_eq!(world.memory.charge_commit(256 + 1024), Ok(()));
    assert!(world.memory.charge_commit(256 + 1024 + 1).is_err());
    world.memory.uncharge_commit(256 + 1024);
    world.memory.overcommit = crate::Overcommit::Never { ratio_percent: 50 };
    assert_eq!(world.memory.commit_limit_pages(), 128 + 1024);
    world.finish();
}

/// The memory that programs have, page by page, under a limit.
fn limited(max_pages: u64) -> World {
    let mut world = World::with_swap(4096, 8192, packed());
    let limits = crate::GroupLimits { max_pages, high_pages: u64::MAX };
    world.memory.set_limits(limits);
    world
}

#[test]
fn a_group_never_has_more_than_its_limit() {
    let mut world = limited(200);
    world.map(pages(0x1000, 600), RW);
    for page in 0x1000..0x1258 {
        world.poke(0, at(page), byte_of(page)).expect("there is swap");
        assert!(world.memory.group_usage().current_pages <= 200);
    }
    let usage = world.memory.group_usage();
    assert!(usage.max_events > 10 && usage.oom_events == 0, "{usage:?}");
    for page in 0x1000..0x1258 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    assert!(world.memory.usage().frames_free > 3800, "RAM was never short");
    world.finish();
}

#[test]
fn a_group_at_its_limit_without_swap_fails_to_allocate() {
    let mut world = World::new(4096);
    world.memory.set_limits(crate::GroupLimits { max_pages: 200, high_pages: u64::MAX });
    world.map(pages(0x1000, 600), RW);
    let done = (0x1000..0x1258).find_map(|page| world.poke(0, at(page), 1).err());
    assert!(matches!(done, Some(FaultError::OutOfMemory { .. })), "{done:?}");
    let usage = world.memory.group_usage();
    assert_eq!((usage.current_pages, usage.oom_events), (200, 1));
    world.memory.set_limits(crate::GroupLimits::default());
    world.poke(0, at(0x1250), 1).expect("no limit any more");
    world.finish();
}

#[test]
fn a_group_above_its_high_mark_waits() {
    let mut world = World::new(4096);
    world.memory.set_limits(crate::GroupLimits { max_pages: u64::MAX, high_pages: 100 });
    world.map(pages(0x1000, 300), RW);
    let mut waits = Vec::new();
    for page in 0x1000..0x112c {
        let before = world.memory.events().wait_ns;
        world.poke(0, at(page), 1).expect("slowly");
        waits.push(world.memory.events().wait_ns - before);
    }
    assert!(waits[..90].iter().all(|&wait| wait == 0));
    assert!(waits[200] > 0 && waits[299] > waits[200], "{} {}", waits[200], waits[299]);
    assert!(world.memory.group_usage().high_events > 100);
    world.finish();
}

#[test]
fn clean_pages_of_files_leave_without_swap() {
    let mut world = World::new(256);
    let file = world.add_file(400 * 4096, FileKind::Regular);
    world.map_file(pages(0x1000, 400), RW, Sharing::Private, &file, 0);
    drop(file);
    for _ in 0..2 {
        for page in 0x1000..0x1190 {
            assert_eq!(world.peek(0, at(page)), Ok(file_byte((page - 0x1000) * 4096)));
        }
    }
    let events = *world.memory.events();
    assert!(events.stolen > 150 && events.swap_outs == 0, "{events:?}");
    assert!(events.stolen_kswapd > 0, "{events:?}");
    assert!(events.refaults > 100 && events.wait_ns > 0, "{events:?}");
    world.finish();
}

#[test]
fn lru_6_a_page_that_comes_back_soon_is_activated() {
    let mut world = World::new(256);
    let file = world.add_file(1000 * 4096, FileKind::Regular);
    world.map_file(pages(0x1000, 1000), RW, Sharing::Private, &file, 0);
    drop(file);
    let mut activated = Vec::new();
    // A little more than fits: each round brings back what left just before.
    for count in [230, 230, 230, 1000, 1000] {
        for page in 0x1000..0x1000 + count {
            world.peek(0, at(page)).expect("it is mapped");
        }
        activated.push(world.memory.events().workingset_activated_file);
    }
    let events = *world.memory.events();
    assert!(events.refaults > 500, "{events:?}");
    assert!(activated[4] - activated[3] < events.refaults / 4, "far away: {activated:?}");
    world.finish();
}

/// Stores to all of a range, ascending, and again; returns the major faults of all but the first
/// time.
fn stream(world: &mut World, count: u64, times: u64) -> u64 {
    world.map(pages(0x1000, count), RW);
    for time in 0..times {
        for page in 0x1000..0x1000 + count {
            world.activate(0);
            let fault = world.hw.access(at(page), Access::Write).err();
            if let Some(fault) = fault {
                let mm = &mut world.spaces[0];
                crate::handle_fault(mm, &mut world.memory, &mut world.hw, fault)
                    .expect("there is swap");
            }
            assert!(time > 0 || world.spaces[0].faults().major == 0);
        }
    }
    world.check();
    world.spaces[0].faults().major
}

#[test]
fn swap_4_a_stream_reads_eight_pages_with_each_major_fault() {
    // 40 MiB four times under a limit of 16 MiB: a kernel with page-cluster 3 has 3,850.
    let mut world = World::with_swap(8192, 16_384, packed());
    world.memory.set_limits(crate::GroupLimits { max_pages: 4096, high_pages: u64::MAX });
    let major = stream(&mut world, 10_240, 4);
    // 3 * 10,240 / 8 = 3,840, and a few at the borders of tables and where a round begins.
    assert!((3840..=3870).contains(&major), "{major}");
    let events = world.memory.events();
    assert!(events.swap_ra - events.swap_ra_hits < 32, "nearly all were used: {events:?}");
    world.finish();
}

#[test]
fn swap_1_areas_are_filled_by_priority_and_in_turn() {
    let mut world = World::with_swap(256, 1000, packed());
    let latency = crate::LATENCIES[0];
    let add = |world: &mut World, slots, priority| {
        world.memory.swap_add(slots, packed(), latency, priority).expect("there are few")
    };
    let (high, low) = (add(&mut world, 65, Some(5)), add(&mut world, 1000, None));
    let also_high = add(&mut world, 65, Some(5));
    let used = |world: &World, id| {
        let areas = world.memory.swap_areas();
        areas.iter().find(|area| area.id == id).map(|area| (area.usage.used, area.priority))
    };
    world.map(pages(0x1000, 500), RW);
    let mut page = 0x1000;
    while world.memory.swap_usage().used < 40 {
        world.poke(0, at(page), byte_of(page)).expect("there is swap");
        page += 1;
    }
    let (first, second) = (used(&world, high), used(&world, also_high));
    assert!(first.zip(second).is_some_and(|(a, b)| a.0.abs_diff(b.0) <= 1), "{first:?} {second:?}");
    while page < 0x11f4 {
        world.poke(0, at(page), byte_of(page)).expect("there is swap");
        page += 1;
    }
    assert_eq!(used(&world, high), Some((64, 5)));
    assert_eq!(used(&world, crate::AreaId(0)).map(|area| area.1), Some(-2));
    assert_eq!(used(&world, low), Some((0, -3)), "the last in line");
    for page in 0x1000..0x11f4 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    world.finish();
}

/// Ends an area as swapoff does.
fn swap_off(world: &mut World, id: crate::AreaId) -> Result<(), crate::MmError> {
    let mut spaces: Vec<&mut crate::Mm> = world.spaces.iter_mut().collect();
    let done = world.memory.swap_off(&mut spaces, &mut world.hw, id);
    world.check();
    done.map(drop)
}

#[test]
fn swap_6_swapoff_brings_every_page_back_or_fails() {
    let mut world = World::with_swap(512, 4096, packed());
    world.map(pages(0x1000, 400), RW);
    world.map(pages(0x2000, 200), RW);
    store_all(&mut world, pages(0x1000, 400));
    world.fork();
    store_all(&mut world, pages(0x2000, 200));
    assert!(world.memory.swap_usage().used > 100);
    let area = crate::AreaId(0);
    let refused = swap_off(&mut world, area);
    assert!(matches!(refused, Err(crate::MmError::NoMemory(_))), "{refused:?}");
    for page in 0x1000..0x1190 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    world.unmap(pages(0x2000, 200));
    assert_eq!(swap_off(&mut world, area), Ok(()));
    assert_eq!(world.memory.swap_usage(), crate::SwapUsage::default());
    assert!(matches!(swap_off(&mut world, area), Err(crate::MmError::InvalidArgument(_))));
    for space in [0, 1] {
        for page in 0x1000..0x1190 {
            assert_eq!(world.peek(space, at(page)), Ok(byte_of(page)));
        }
    }
    world.finish();
}

#[test]
fn swapoff_moves_pages_to_another_area() {
    let mut world = World::with_swap(256, 4096, packed());
    world.map(pages(0x1000, 500), RW);
    store_all(&mut world, pages(0x1000, 500));
    let other = world.memory.swap_add(4096, packed(), crate::LATENCIES[0], None);
    assert_eq!(swap_off(&mut world, crate::AreaId(0)), Ok(()));
    assert!(world.memory.swap_usage().used > 250);
    assert_eq!(other.map(|id| id.0), Ok(1));
    for page in 0x1000..0x11f4 {
        assert_eq!(world.peek(0, at(page)), Ok(byte_of(page)));
    }
    world.finish();
}

#[test]
fn shared_memory_goes_to_swap_and_comes_back() {
    let mut world = World::with_swap(256, 4096, packed());
    let object = world.memory.add_shared_zeros(300 * 4096);
    let file = world.mapped(object, FileKind::Shmem);
    world.map_file(pages(0x1000, 300), RW, Sharing::Shared, &file, 0);
    world.fork();
    world.map_shared(1, pages(0x5000, 300), &file);
    drop(file);
    store_all(&mut world, pages(0x1000, 300));
    assert!(world.memory.object_swap_pages(object) > 60);
    assert_eq!(world.spaces[0].swap_pages(&world.memory), 0, "no entry names a slot");
    for page in 0..300 {
        assert_eq!(world.peek(1, at(0x5000 + page)), Ok(byte_of(0x1000 + page)));
    }
    assert!(world.spaces[1].faults().major > 0);
    store_all(&mut world, pages(0x1000, 300));
    let swapped = world.memory.object_swap_pages(object);
    let refused = swap_off(&mut world, crate::AreaId(0));
    assert!(matches!(refused, Err(crate::MmError::NoMemory(_))), "{refused:?} of {swapped}");
    for page in 0..300 {
        assert_eq!(world.peek(0, at(0x1000 + page)), Ok(byte_of(0x1000 + page)));
    }
    world.unmap_of(1, pages(0x1000, 300));
    world.unmap_of(1, pages(0x5000, 300));
    world.unmap(pages(0x1000, 300));
    assert_eq!(world.memory.swap_usage().used, 0, "the object ended with its last mapping");
    world.finish();
}

mod advice;
mod compressed;
