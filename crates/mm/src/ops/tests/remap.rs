//! `mremap`: REMAP.

use super::*;

const MOVE: RemapFlags = RemapFlags::MAY_MOVE;

fn fixed() -> RemapFlags {
    RemapFlags::MAY_MOVE | RemapFlags::FIXED
}

fn keep() -> RemapFlags {
    RemapFlags::MAY_MOVE | RemapFlags::DONT_UNMAP
}

#[test]
fn remap_1_arguments() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    assert!(is_invalid(calls.mremap((addr, 4, 4), RemapFlags::FIXED, 0x10_0000)));
    assert!(is_invalid(calls.mremap((addr, 4, 4), RemapFlags::DONT_UNMAP, 0)));
    assert!(is_invalid(calls.mremap((addr, 4, 5), keep(), 0)));
    assert!(is_invalid(calls.mremap((addr + 1, 4, 5), MOVE, 0)));
    assert!(is_invalid(calls.mremap((addr, 4, 0), MOVE, 0)));
    assert!(is_invalid(calls.mremap((addr, 4, 4), fixed(), 0x10_0001)));
    assert!(is_invalid(calls.mremap((addr, 4, 4), fixed(), STACK_TOP)));
    assert!(is_invalid(calls.mremap((addr, 4, 4), fixed(), addr + 3 * PAGE)));
    assert!(is_invalid(calls.mremap((addr, 0, 4), MOVE, 0)), "old length 0, private");
    assert_eq!(calls.ranges(), [(addr, 4)]);
    calls.finish();
}

#[test]
fn remap_2_and_4_the_source_must_be_mapped() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    let is_fault = |result| matches!(result, Err(MmError::Fault { .. }));
    assert!(is_fault(calls.mremap((0x10_0000, 1, 1), MOVE, 0)));
    assert!(is_fault(calls.mremap((addr, 5, 6), MOVE, 0)));
    assert_eq!(calls.mremap((addr + PAGE, 100, 100), MOVE, 0), Ok(addr + PAGE));
    calls.finish();
}

#[test]
fn remap_3_shrinking_unmaps_the_tail() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    calls.mprotect(addr + 3 * PAGE, 1, Rights::READ).unwrap();
    assert_eq!(calls.mremap((addr, 4, 2), RemapFlags::empty(), 0), Ok(addr));
    assert_eq!(calls.ranges(), [(addr, 2)]);
    calls.finish();
}

#[test]
fn remap_5_grows_in_place_or_moves() {
    let mut calls = Calls::new();
    calls.map_fixed(0x10_0000, 2).unwrap();
    calls.map_fixed(0x10_4000, 1).unwrap();
    let grown = calls.mremap((0x10_0000, 2, 4), RemapFlags::empty(), 0);
    assert_eq!(grown, Ok(0x10_0000));
    assert_eq!(calls.ranges(), [(0x10_0000, 5)], "merged with the next one");
    assert!(is_no_memory(calls.mremap((0x10_0000, 2, 4), RemapFlags::empty(), 0)));
    calls.world.poke(0, VirtAddr::new(0x10_1000), 5).unwrap();
    let moved = calls.mremap((0x10_0000, 2, 4), MOVE, 0).unwrap();
    assert_eq!(moved, MMAP_BASE - 4 * PAGE);
    assert_eq!(calls.world.peek(0, VirtAddr::new(moved + PAGE)), Ok(5));
    assert_eq!(calls.ranges(), [(0x10_2000, 3), (moved, 4)]);
    calls.finish();
}

#[test]
fn remap_6_pages_move_without_being_touched() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 600).unwrap();
    for page in [0, 300, 599] {
        calls.write(addr + page * PAGE).unwrap();
    }
    let faults = calls.mm().faults().total();
    let target = 0x4000_0000;
    assert_eq!(calls.mremap((addr, 600, 600), fixed(), target), Ok(target));
    assert_eq!(calls.mm().faults().total(), faults);
    assert_eq!(calls.world.rss(), (3, 0, 0));
    let offset = |calls: &Calls| calls.world.spaces[0].vmas().next().map(|vma| vma.page_offset);
    assert_eq!(offset(&calls), Some(addr / PAGE), "touched memory keeps its offset");
    calls.munmap(target, 600 * PAGE).unwrap();
    let addr = calls.map(0, 2).unwrap();
    calls.mremap((addr, 2, 2), fixed(), target).unwrap();
    assert_eq!(offset(&calls), Some(target / PAGE), "untouched memory gets a new one");
    calls.finish();
}

#[test]
fn remap_7_old_length_0_maps_shared_pages_again() {
    let mut calls = Calls::new();
    let mut request = Calls::request(0, 4 * PAGE, MapFlags::empty());
    request.sharing = Sharing::Shared;
    let addr = calls.mmap(request).unwrap();
    calls.world.poke(0, VirtAddr::new(addr), 5).unwrap();
    let again = calls.mremap((addr, 0, 4), MOVE, 0).unwrap();
    assert_eq!(calls.world.peek(0, VirtAddr::new(again)), Ok(5));
    calls.finish();
}

#[test]
fn remap_8_dont_unmap_leaves_the_old_range_empty() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    calls.world.poke(0, VirtAddr::new(addr), 5).unwrap();
    calls.mlock(addr, 4, LockMode::Now).unwrap();
    let target = calls.mremap((addr, 4, 4), keep(), 0).unwrap();
    assert_eq!(calls.world.peek(0, VirtAddr::new(target)), Ok(5));
    assert_eq!(calls.world.peek(0, VirtAddr::new(addr)), Ok(0));
    assert_eq!(calls.mm().totals().locked_pages, 4, "the old range is not locked");
    assert_eq!(calls.world.memory.usage().committed_pages, 8);
    calls.finish();
}

#[test]
fn remap_9_fixed_replaces_the_target_and_moves_several_vmas() {
    let mut calls = Calls::new();
    calls.map_fixed(0x10_0000, 2).unwrap();
    calls.map_fixed(0x10_3000, 2).unwrap();
    calls.mprotect(0x10_4000, 1, Rights::READ).unwrap();
    calls.map_fixed(0x20_0000, 16).unwrap();
    assert_eq!(calls.mremap((0x10_0000, 5, 5), fixed(), 0x20_4000), Ok(0x20_4000));
    // What was mapped at the gap between them stays.
    let expected = [(0x20_0000, 8, RW), (0x20_8000, 1, Rights::READ), (0x20_9000, 7, RW)];
    assert_eq!(calls.vmas(), expected);
    calls.finish();
}

#[test]
fn remap_10_needs_room_for_three_more_mappings() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    calls.mm().limits.max_map_count = 4;
    assert!(is_no_memory(calls.mremap((addr, 4, 4), fixed(), 0x10_0000)));
    assert_eq!(calls.mremap((addr, 4, 3), RemapFlags::empty(), 0), Ok(addr));
    calls.finish();
}
