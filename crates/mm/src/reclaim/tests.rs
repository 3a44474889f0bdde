//! More pages than frames: what leaves, what stays, and what comes back.

use alloc::boxed::Box;
use alloc::vec;

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
    assert_eq!(Watermarks::of(1 << 18), Watermarks { min: 1024, low: 1286, high: 1548 });
    assert_eq!(Watermarks::of(256).min, 32, "at least 128 KiB");
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
    crate::ops::munlock(&mut world.spaces[0], &mut world.hw, locked.start, locked.bytes())
        .expect("it is mapped");
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
    assert_eq!(world.memory.events().refaults, 1);
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
