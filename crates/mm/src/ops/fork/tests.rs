//! Fork as Linux does it: what the child has, who copies, who reuses, and what is left.

use alloc::vec;
use alloc::vec::Vec;

use machine::{Access, Event, FaultLabel, Geometry, Side};

use crate::backing::FileKind;
use crate::error::FaultError;
use crate::fault::FaultKind;
use crate::rights::{Sharing, VmaFlags};
use crate::rmap::mappings_of;
use crate::space::Mm;
use crate::testing::{RW, World, at, file_byte, pages};

#[test]
fn fork_1_the_child_has_what_it_shall_have() {
    let mut world = World::new(512);
    let private = Sharing::Private;
    world.map_vma(pages(0x100, 2), RW, private, VmaFlags::LOCKED, None);
    world.map_vma(pages(0x200, 2), RW, private, VmaFlags::DONT_FORK, None);
    world.map_vma(pages(0x300, 2), RW, private, VmaFlags::WIPE_ON_FORK, None);
    for page in [0x100, 0x200, 0x300] {
        world.poke(0, at(page), 5).expect("it is mapped");
    }
    world.fork();
    assert_eq!(world.spaces[0].totals().locked_pages, 2);
    assert_eq!(world.spaces[1].totals().locked_pages, 0);
    assert_eq!(world.peek(1, at(0x100)), Ok(5));
    assert_eq!(world.peek(1, at(0x200)), Err(FaultError::NoVma { addr: at(0x200) }));
    assert_eq!(world.peek(1, at(0x300)), Ok(0));
    let rss = world.spaces[1].rss(&world.memory);
    assert_eq!(rss.anon_pages, 1);
    world.finish();
}

#[test]
fn fork_2_shared_memory_is_left_empty_and_faults_again() {
    let mut world = World::new(512);
    let object = world.memory.add_shared_zeros(4 * 4096);
    let file = world.mapped(object, FileKind::Shmem);
    world.map_file(pages(0x100, 4), RW, Sharing::Shared, &file, 0);
    drop(file);
    world.poke(0, at(0x101), 9).expect("it is mapped");
    world.fork();
    assert_eq!(world.spaces[1].rss(&world.memory).total_pages(), 0);
    assert_eq!(world.touch(1, at(0x101), Access::Read), Ok(vec![FaultKind::File]));
    assert_eq!(world.peek(1, at(0x101)), Ok(9));
    world.unmap(pages(0x100, 4));
    assert_eq!(world.peek(1, at(0x101)), Ok(9), "the child still maps it");
    world.finish();
}

#[test]
fn fork_6_inherited_families_take_no_new_neighbour_in() {
    let mut world = World::new(512);
    world.map(pages(0x100, 1), RW);
    world.poke(0, at(0x100), 1).expect("it is mapped");
    world.fork();
    let mut own = world.spaces[0].vma_at(at(0x100)).expect("it is mapped").clone();
    let child = world.spaces[1].vma_at(at(0x100)).expect("it is mapped").clone();
    let family = own.anon.take();
    own.range = pages(0x101, 1);
    own.page_offset = 0x101;
    assert!(!child.can_merge(&own));
    assert!(crate::vma::Vma { anon: family, ..child }.can_merge(&own));
    world.finish();
}

/// The kinds of faults that a store to each page causes, all the same.
fn store_all(world: &mut World, space: usize, range: machine::VirtRange) -> Vec<FaultKind> {
    let mut kinds = Vec::new();
    for page in range.start.page().number()..range.end.page().number() {
        kinds.extend(world.touch(space, at(page), Access::Write).expect("it may be written"));
    }
    kinds
}

#[test]
fn flt_9_child_writes_copy_and_the_parent_reuses_after_its_exit() {
    let mut world = World::new(3000);
    let range = pages(0x100, 1000);
    world.map(range, RW);
    assert_eq!(store_all(&mut world, 0, range), vec![FaultKind::Zero; 1000]);
    world.fork();
    assert_eq!(world.memory.usage().anon, 1000);
    assert_eq!(store_all(&mut world, 1, range), vec![FaultKind::Cow; 1000]);
    assert_eq!(store_all(&mut world, 1, range), vec![]);
    assert_eq!(world.memory.usage().anon, 2000);
    assert_eq!(world.spaces[1].faults().unshared_as_child, 1000);
    world.exit();
    assert_eq!(store_all(&mut world, 0, range), vec![FaultKind::Reuse; 1000]);
    assert_eq!(store_all(&mut world, 0, range), vec![]);
    assert_eq!(world.spaces[0].faults().unshared_as_parent, 0);
    assert_eq!(world.memory.usage().anon, 1000);
    world.finish();
}

#[test]
fn the_log_says_who_broke_the_sharing() {
    let mut world = World::new(512);
    world.map(pages(0x100, 3), RW);
    store_all(&mut world, 0, pages(0x100, 3));
    world.hw.log.drain();
    world.fork();
    store_all(&mut world, 0, pages(0x100, 1));
    store_all(&mut world, 1, pages(0x100, 2));
    let events: Vec<Event> = world.hw.log.drain().map(|stamped| stamped.event).collect();
    let forks = events.iter().filter(|event| matches!(event, Event::Fork { .. }));
    let expected = Event::Fork { mm: 1, child: 2, entries: 3, table_frames: 3 };
    assert_eq!(forks.copied().collect::<Vec<_>>(), [expected]);
    let unshared = events.iter().filter(|event| matches!(event, Event::Unshare { .. }));
    let unshared: Vec<Event> = unshared.copied().collect();
    let event = |mm, page, side| Event::Unshare { mm, addr: at(page).as_u64(), side };
    // The child's store to the first page finds nobody else there: it reuses the frame.
    assert_eq!(unshared, [event(1, 0x100, Side::Parent), event(2, 0x101, Side::Child)]);
    assert_eq!(world.spaces[1].faults().of(FaultLabel::Reuse), 1);
    world.finish();
}

#[test]
fn three_generations_end_in_any_order_and_leave_nothing() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = World::new(1024);
        let range = pages(0x100, 64);
        world.map(range, RW);
        store_all(&mut world, 0, range);
        world.fork();
        store_all(&mut world, 1, pages(0x100, 16));
        world.fork_of(1);
        store_all(&mut world, 2, pages(0x108, 16));
        assert_eq!(world.peek(2, at(0x110)), Ok(0));
        for page in 0x100..0x140 {
            let frame = world.frames(pages(page, 1))[0].expect("it is mapped");
            let spaces: Vec<&Mm> = world.spaces.iter().collect();
            let found = mappings_of(frame, &spaces, &world.memory, &world.hw).len();
            assert_eq!(found as u32, world.memory.map_count(frame));
        }
        let mut alive = vec![0, 1, 2];
        for space in order {
            let place = alive.iter().position(|&each| each == space).expect("it is alive");
            alive.remove(place);
            world.exit_at(place);
            for at_index in 0..alive.len() {
                let kinds = store_all(&mut world, at_index, pages(0x13f, 1));
                assert!(kinds.iter().all(|kind| matches!(kind, FaultKind::Cow | FaultKind::Reuse)));
            }
        }
        assert_eq!(world.memory.usage().anon, 0);
        world.finish();
    }
}

#[test]
fn fork_2_private_files_are_copied_once_they_have_private_pages() {
    let mut world = World::new(512);
    let file = world.add_file(8 * 4096, FileKind::Regular);
    let private = Sharing::Private;
    world.map_file(pages(0x100, 4), RW, private, &file, 0);
    world.map_file(pages(0x200, 4), RW, private, &file, 4);
    drop(file);
    world.touch(0, at(0x100), Access::Read).expect("it is mapped");
    world.touch(0, at(0x200), Access::Read).expect("it is mapped");
    world.poke(0, at(0x201), 9).expect("it is mapped");
    world.fork();
    let rss = world.spaces[1].rss(&world.memory);
    assert_eq!((rss.anon_pages, rss.file_pages), (1, 3), "nothing of the first VMA");
    assert_eq!(world.peek(1, at(0x201)), Ok(9));
    assert_eq!(world.peek(1, at(0x200)), Ok(file_byte(4 * 4096)));
    assert_eq!(world.touch(1, at(0x100), Access::Read), Ok(vec![FaultKind::File]));
    world.finish();
}

#[test]
fn fork_3_entries_of_the_child_are_old() {
    let mut world = World::new(512);
    world.map(pages(0x100, 1), RW);
    world.poke(0, at(0x100), 1).expect("it is mapped");
    world.fork();
    let parent = world.spaces[0].entry_at(&world.hw, at(0x100));
    let child = world.spaces[1].entry_at(&world.hw, at(0x100));
    assert!(parent.is_accessed() && parent.is_dirty() && !parent.is_writable());
    assert!(!child.is_accessed() && child.is_dirty() && !child.is_writable());
    world.finish();
}

#[test]
fn fork_6_two_vmas_of_one_family_stay_apart_in_the_child() {
    let mut world = World::new(512);
    world.map_vma(pages(0x100, 4), RW, Sharing::Private, VmaFlags::NO_RESERVE, None);
    store_all(&mut world, 0, pages(0x100, 4));
    world.mprotect(0, pages(0x101, 1), crate::Rights::READ);
    world.fork();
    world.mprotect(0, pages(0x101, 1), RW);
    world.mprotect(1, pages(0x101, 1), RW);
    assert_eq!((world.spaces[0].vma_count(), world.spaces[1].vma_count()), (1, 3));
    world.mprotect(1, pages(0x103, 1), crate::Rights::READ);
    world.mprotect(1, pages(0x103, 1), RW);
    assert_eq!(world.spaces[1].vma_count(), 3, "what was one VMA there can be one again");
    world.finish();
}

#[test]
fn rss_5_page_tables_of_the_child_are_those_of_the_parent() {
    let mut world = World::new(512);
    let range = pages(0x200 - 1, 2);
    world.map(range, RW);
    store_all(&mut world, 0, range);
    let (memory, hw) = (&mut world.memory, &mut world.hw);
    crate::page_table::zap(&mut world.spaces[0], memory, hw, range, crate::page_table::Zap::All);
    world.fork();
    let frames = |world: &World, space: usize| world.spaces[space].page_table_frames(&world.memory);
    assert_eq!((frames(&world, 0), frames(&world, 1)), (4, 4), "empty ones too");
    world.finish();
}

#[test]
fn zero_pages_and_pages_without_rights_are_inherited() {
    let mut world = World::new(512);
    world.map(pages(0x100, 3), RW);
    world.read(at(0x100)).expect("it is mapped");
    store_all(&mut world, 0, pages(0x101, 2));
    world.poke(0, at(0x102), 8).expect("it is mapped");
    world.mprotect(0, pages(0x102, 1), crate::Rights::empty());
    world.fork();
    assert_eq!(world.touch(1, at(0x100), Access::Read), Ok(vec![]), "the zero page is there");
    assert_eq!(world.touch(1, at(0x100), Access::Write), Ok(vec![FaultKind::Cow]));
    assert_eq!(world.spaces[1].faults().unshared_as_child, 0, "nobody's page");
    world.mprotect(1, pages(0x102, 1), RW);
    assert_eq!(world.peek(1, at(0x102)), Ok(8));
    assert_eq!(world.touch(1, at(0x102), Access::Write), Ok(vec![FaultKind::Cow]));
    world.finish();
}

#[test]
fn a_fork_without_frames_leaves_the_parent_as_it_was() {
    let mut world = World::new(256);
    let range = pages(0x100, 150);
    world.map(range, RW);
    store_all(&mut world, 0, range);
    let (memory, hw) = (&mut world.memory, &mut world.hw);
    let hogged: Vec<_> = core::iter::from_fn(|| memory.take_kernel_frame(hw)).collect();
    memory.give_kernel_frame(hw, hogged[0]);
    memory.give_kernel_frame(hw, hogged[1]);
    let (free, committed) = (memory.usage().frames_free, memory.usage().committed_pages);
    let refused = crate::ops::fork(&mut world.spaces[0], crate::MmId(2), memory, hw);
    assert!(matches!(refused, Err(crate::MmError::NoMemory(_))));
    assert_eq!(world.memory.usage().frames_free, free);
    assert_eq!(world.memory.usage().committed_pages, committed);
    world.check();
    for frame in &hogged[2..] {
        world.memory.give_kernel_frame(&mut world.hw, *frame);
    }
    let kinds = store_all(&mut world, 0, range);
    assert!(kinds.iter().all(|&kind| kind == FaultKind::Reuse), "nobody shares them");
    world.finish();
}

#[test]
fn every_geometry_forks() {
    for geometry in Geometry::ALL {
        let mut world = World::with_geometry(512, geometry);
        world.map(pages(0x3f0, 0x20), RW);
        store_all(&mut world, 0, pages(0x3f0, 0x20));
        world.fork();
        assert_eq!(store_all(&mut world, 1, pages(0x3f0, 0x20)), vec![FaultKind::Cow; 0x20]);
        world.finish();
    }
}

#[test]
fn pt_4_a_space_that_was_not_active_says_that_it_is_stale() {
    let mut world = World::new(512);
    let file = world.add_file(8 * 4096, FileKind::Shmem);
    world.map_file(pages(0x100, 4), RW, Sharing::Shared, &file, 0);
    let object = file.object;
    drop(file);
    world.fork();
    world.poke(0, at(0x100), 1).expect("it is mapped");
    world.poke(1, at(0x100), 1).expect("it is mapped");
    let [parent, child] = &mut world.spaces[..] else { unreachable!("there are two") };
    assert!(!parent.take_stale() && !child.take_stale());
    // The child is active.
    world.memory.truncate_object(&mut [parent, child], &mut world.hw, object, 0);
    assert!(parent.take_stale() && !child.take_stale());
    assert!(!parent.take_stale(), "it says so once");
    world.check();
    world.finish();
}
