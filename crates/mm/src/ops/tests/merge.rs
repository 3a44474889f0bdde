//! Splitting and merging: VMA, PROT, the heap.

use super::*;

#[test]
fn vma_1_different_rights_flags_and_files_stay_apart() {
    let mut calls = Calls::new();
    let base = calls.map(0, 8).unwrap();
    calls.munmap(base, 8 * PAGE).unwrap();
    calls.map_fixed(base, 1).unwrap();
    let mut request = Calls::request(base + PAGE, PAGE, MapFlags::FIXED);
    request.rights = Rights::READ;
    calls.mmap(request).unwrap();
    let no_reserve = MapFlags::FIXED | MapFlags::NO_RESERVE;
    calls.mmap(Calls::request(base + 2 * PAGE, PAGE, no_reserve)).unwrap();
    assert_eq!(calls.ranges().len(), 3);
    let file = calls.world.add_file(8 * 4096, FileKind::Regular);
    let again = Arc::new(MappedFile::clone(&file));
    for (page, file) in [(4, &file), (5, &file), (6, &again)] {
        let source = MapSource::File { file: Arc::clone(file), offset: (page - 4) * PAGE };
        let request = Calls::request(base + page * PAGE, PAGE, MapFlags::FIXED);
        calls.mmap(MapRequest { source, ..request }).unwrap();
    }
    let files = [(base + 4 * PAGE, 2), (base + 6 * PAGE, 1)];
    assert_eq!(calls.ranges()[3..], files, "one open file each");
    calls.finish();
}

#[test]
fn vma_2_two_families_do_not_become_one() {
    let mut calls = Calls::new();
    let (low, high) = (0x10_0000, 0x10_2000);
    calls.map_fixed(low, 1).unwrap();
    calls.map_fixed(high, 1).unwrap();
    calls.write(low).unwrap();
    calls.write(high).unwrap();
    calls.map_fixed(low + PAGE, 1).unwrap();
    assert_eq!(calls.ranges(), [(low, 2), (high, 1)], "the bridge goes to the lower island");
    // Growth next to a touched VMA takes its family and merges.
    calls.map_fixed(high + PAGE, 1).unwrap();
    calls.write(high + PAGE).unwrap();
    calls.map_fixed(high + 2 * PAGE, 1).unwrap();
    assert_eq!(calls.ranges(), [(low, 2), (high, 3)]);
    calls.finish();
}

#[test]
fn vma_2_a_neighbour_of_other_rights_lends_its_family() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 3).unwrap();
    calls.mprotect(addr + PAGE, 1, Rights::READ).unwrap();
    for page in [0, 2] {
        calls.write(addr + page * PAGE).unwrap();
    }
    calls.mprotect(addr + PAGE, 1, RW).unwrap();
    assert_eq!(calls.ranges(), [(addr, 2), (addr + 2 * PAGE, 1)], "the families differ");
    calls.munmap(addr, 3 * PAGE).unwrap();
    let addr = calls.map(0, 2).unwrap();
    calls.mprotect(addr + PAGE, 1, Rights::READ | Rights::WRITE | Rights::EXECUTE).unwrap();
    calls.write(addr).unwrap();
    calls.write(addr + PAGE).unwrap();
    calls.mprotect(addr + PAGE, 1, RW).unwrap();
    assert_eq!(calls.ranges(), [(addr, 2)], "here they do not");
    calls.finish();
}

#[test]
fn fork_6_inherited_families_take_no_new_neighbours() {
    let mut calls = Calls::new();
    calls.map_fixed(0x10_0000, 1).unwrap();
    calls.write(0x10_0000).unwrap();
    calls.world.fork();
    calls.world.spaces.swap(0, 1);
    calls.world.activate(0);
    calls.map_fixed(0x10_1000, 1).unwrap();
    assert_eq!(calls.ranges(), [(0x10_0000, 1), (0x10_1000, 1)]);
    calls.finish();
}

#[test]
fn vma_3_a_bridge_makes_three_one() {
    let mut calls = Calls::new();
    calls.map_fixed(0x10_0000, 1).unwrap();
    calls.map_fixed(0x10_2000, 1).unwrap();
    assert_eq!(calls.ranges().len(), 2);
    calls.map_fixed(0x10_1000, 1).unwrap();
    assert_eq!(calls.ranges(), [(0x10_0000, 3)]);
    calls.finish();
}

#[test]
fn vma_4_changes_split_and_changing_back_merges() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 9).unwrap();
    calls.mprotect(addr + 3 * PAGE, 3, Rights::READ).unwrap();
    assert_eq!(calls.ranges().len(), 3);
    // The boundary moves without a new VMA.
    calls.mprotect(addr + 2 * PAGE, 1, Rights::READ).unwrap();
    calls.mprotect(addr + 5 * PAGE, 1, RW).unwrap();
    let expected = [(addr, 2), (addr + 2 * PAGE, 3), (addr + 5 * PAGE, 4)];
    assert_eq!(calls.ranges(), expected);
    calls.madvise(addr, 9, Advice::DontDump).unwrap();
    assert_eq!(calls.ranges(), expected);
    calls.mprotect(addr, 9, RW).unwrap();
    assert_eq!(calls.ranges(), [(addr, 9)]);
    calls.finish();
}

#[test]
fn vma_5_splits_stop_at_the_limit_of_mappings() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 9).unwrap();
    calls.map(0x10_0000, 1).unwrap();
    calls.mm().limits.max_map_count = 2;
    assert!(is_no_memory(calls.munmap(addr + PAGE, PAGE)), "a part from the middle");
    assert_eq!(calls.ranges().len(), 2);
    assert!(is_no_memory(calls.mprotect(addr + PAGE, 1, Rights::READ)));
    assert_eq!(calls.madvise(addr, 1, Advice::DontFork), Err(MmError::Again));
    assert_eq!(calls.munmap(addr, PAGE), Ok(()), "an end needs none");
    assert_eq!(calls.map(0x20_0000, 1), Ok(0x20_0000), "the limit is a limit to be passed by one");
    assert!(is_no_memory(calls.map(0x30_0000, 1)));
    assert_eq!(calls.munmap(0x20_0000, PAGE), Ok(()), "whole VMAs can always go");
    calls.finish();
}

#[test]
fn vma_5_moving_a_boundary_needs_no_room() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 9).unwrap();
    calls.mprotect(addr, 3, Rights::READ).unwrap();
    calls.mm().limits.max_map_count = 2;
    assert_eq!(calls.mprotect(addr + 3 * PAGE, 3, Rights::READ), Ok(()));
    assert_eq!(calls.ranges(), [(addr, 6), (addr + 6 * PAGE, 3)]);
    calls.finish();
}

#[test]
fn vma_6_and_brk_the_heap_does_not_merge_with_bss() {
    let mut calls = Calls::new();
    let heap = calls.mm().layout.start_brk.as_u64();
    calls.map_fixed(heap - 2 * PAGE, 2).unwrap();
    assert_eq!(calls.brk(0), heap, "BRK-1: below the start it only answers");
    assert_eq!(calls.brk(heap + 0x2_1000), heap + 0x2_1000);
    assert_eq!(calls.ranges(), [(heap - 2 * PAGE, 2), (heap, 0x21)]);
    assert_eq!(calls.brk(heap + 0x2_1001), heap + 0x2_1001);
    assert_eq!(calls.ranges()[1], (heap, 0x22), "growth merges with the heap");
    calls.write(heap + 0x2_1000).unwrap();
    assert_eq!(calls.brk(heap + 0x1_0fff), heap + 0x1_0fff, "BRK-4: whole pages go");
    assert_eq!(calls.ranges()[1], (heap, 0x11));
    assert_eq!(calls.world.rss(), (0, 0, 0));
    calls.finish();
}

#[test]
fn brk_5_one_page_stays_free_up_to_the_next_mapping() {
    let mut calls = Calls::new();
    let heap = calls.mm().layout.start_brk.as_u64();
    calls.map_fixed(heap + 4 * PAGE, 1).unwrap();
    assert_eq!(calls.brk(heap + 4 * PAGE), heap);
    assert_eq!(calls.brk(heap + 3 * PAGE), heap + 3 * PAGE);
    calls.finish();
}

#[test]
fn prot_1_arguments() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    assert!(is_invalid(calls.mprotect(addr + 1, 1, RW)));
    assert_eq!(calls.mprotect(addr, 0, RW), Ok(()));
    assert!(is_no_memory(calls.mprotect(addr, u64::MAX / PAGE, RW)));
    let both = (RW, ProtectFlags::all());
    let at = VirtAddr::new(addr);
    assert!(is_invalid(calls.call(|mm, memory, hw| mprotect(mm, memory, hw, at, PAGE, both))));
    calls.finish();
}

#[test]
fn prot_2_what_lies_before_a_hole_changes() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    calls.munmap(addr + 2 * PAGE, PAGE).unwrap();
    assert!(is_no_memory(calls.mprotect(addr, 4, Rights::READ)));
    assert_eq!(calls.vmas(), [(addr, 2, Rights::READ), (addr + 3 * PAGE, 1, RW)]);
    calls.finish();
}

#[test]
fn prot_3_grows_down_starts_at_the_vma() {
    let mut calls = Calls::new();
    let flags = MapFlags::FIXED | MapFlags::GROWS_DOWN;
    calls.mmap(Calls::request(0x100_0000, 8 * PAGE, flags)).unwrap();
    let mut protect = |addr: u64| {
        let how = (Rights::READ, ProtectFlags::GROWS_DOWN);
        calls.call(|mm, memory, hw| mprotect(mm, memory, hw, VirtAddr::new(addr), PAGE, how))
    };
    assert_eq!(protect(0x100_5000), Ok(()));
    let rights = [(0x100_0000, 6, Rights::READ), (0x100_6000, 2, RW)];
    assert_eq!(calls.vmas(), rights);
    calls.map_fixed(0x10_0000, 1).unwrap();
    let how = (Rights::READ, ProtectFlags::GROWS_DOWN);
    let plain = VirtAddr::new(0x10_0000);
    assert!(is_invalid(calls.call(|mm, memory, hw| mprotect(mm, memory, hw, plain, PAGE, how))));
    calls.finish();
}

#[test]
fn prot_5_content_survives_having_no_rights() {
    let mut calls = Calls::new();
    let addr = VirtAddr::new(calls.map(0, 1).unwrap());
    calls.world.poke(0, addr, 77).unwrap();
    calls.mprotect(addr.as_u64(), 1, Rights::empty()).unwrap();
    assert_eq!(calls.world.rss(), (1, 0, 0));
    assert_eq!(calls.world.read(addr), Err(FaultError::Denied { addr }));
    calls.mprotect(addr.as_u64(), 1, Rights::READ).unwrap();
    assert_eq!(calls.world.peek(0, addr), Ok(77));
    assert_eq!(calls.world.write(addr), Err(FaultError::Denied { addr }));
    calls.finish();
}
