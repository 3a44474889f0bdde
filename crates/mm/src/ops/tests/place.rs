//! Where mappings go, and which arguments are refused: AS, MMAP, UNMAP.

use super::*;

#[test]
fn as_4_the_highest_gap_that_fits_is_taken() {
    let mut calls = Calls::new();
    let first = calls.map(0, 16).unwrap();
    assert_eq!(first, MMAP_BASE - 16 * PAGE);
    let second = calls.map(0, 4).unwrap();
    let third = calls.map(0, 8).unwrap();
    assert_eq!(third, first - 12 * PAGE);
    calls.munmap(second, 4 * PAGE).unwrap();
    calls.munmap(first + 4 * PAGE, 2 * PAGE).unwrap();
    assert_eq!(calls.map(0, 2), Ok(first + 4 * PAGE), "the highest hole");
    assert_eq!(calls.map(0, 3), Ok(second + PAGE), "the end of the next one");
    assert_eq!(calls.map(0, 2), Ok(third - 2 * PAGE));
    calls.finish();
}

#[test]
fn as_4_without_room_below_the_base_the_search_goes_up() {
    let mut calls = Calls::new();
    let flags = MapFlags::FIXED | MapFlags::NO_RESERVE;
    calls.mmap(Calls::request(0x1_0000, MMAP_BASE - 0x1_0000, flags)).unwrap();
    assert_eq!(calls.map(0, 4), Ok(MMAP_BASE));
    calls.finish();
}

#[test]
fn as_5_nothing_is_placed_in_the_guard_gap_of_a_stack() {
    let mut calls = Calls::new();
    let stack = MMAP_BASE - 0x1000_0000;
    calls.mmap(Calls::request(stack, 4 * PAGE, MapFlags::FIXED | MapFlags::GROWS_DOWN)).unwrap();
    assert_ne!(calls.map(stack - 256 * PAGE, 1), Ok(stack - 256 * PAGE));
    assert_eq!(calls.map(stack - 257 * PAGE, 1), Ok(stack - 257 * PAGE));
    assert_eq!(calls.map_fixed(stack - PAGE, 1), Ok(stack - PAGE), "but a fixed mapping is");
    calls.finish();
}

#[test]
fn as_6_multiples_of_2_mib_are_aligned() {
    let mut calls = Calls::new();
    let huge = calls.map(0, 1024).unwrap();
    assert_eq!(huge, 0x7fff_f7a0_0000);
    let odd = calls.map(0, 1025).unwrap();
    assert_eq!(odd, huge - 1025 * PAGE);
    let mut shared = Calls::request(0, 2 * M2, MapFlags::empty());
    shared.sharing = Sharing::Shared;
    assert_eq!(calls.mmap(shared), Ok(odd - 2 * M2));
    calls.finish();
}

#[test]
fn as_7_hints_are_rounded_raised_and_ignored_when_taken() {
    let mut calls = Calls::new();
    assert_eq!(calls.map(0x10_0fff, 1), Ok(0x10_0000), "rounded down");
    assert_eq!(calls.map(0x5000, 1), Ok(0x1_0000), "raised to the lowest address");
    assert_eq!(calls.map(0x10_0000, 1), Ok(MMAP_BASE - PAGE), "taken");
    assert_eq!(calls.map(STACK_TOP - PAGE, 2), Ok(MMAP_BASE - 3 * PAGE), "beyond the end");
    assert_eq!(calls.map(0xfff, 1), Ok(MMAP_BASE - 4 * PAGE), "no hint");
    calls.finish();
}

#[test]
fn as_8_map_32bit_goes_up_from_1_gib() {
    let mut calls = Calls::new();
    let low = |pages| Calls::request(0, pages * PAGE, MapFlags::LOW_2G);
    assert_eq!(calls.mmap(low(4)), Ok(0x4000_0000));
    assert_eq!(calls.mmap(low(4)), Ok(0x4000_4000));
    assert!(is_no_memory(calls.mmap(low((1 << 30) / PAGE))));
    calls.finish();
}

#[test]
fn mmap_1_lengths_and_addresses() {
    let mut calls = Calls::new();
    let bytes = |bytes| Calls::request(0, bytes, MapFlags::empty());
    assert!(is_invalid(calls.mmap(bytes(0))));
    assert!(is_no_memory(calls.mmap(bytes(u64::MAX))));
    assert!(is_no_memory(calls.mmap(bytes(1 << 47))));
    assert!(is_invalid(calls.map_fixed(0x10_0001, 1)));
    assert!(is_no_memory(calls.map_fixed(STACK_TOP, 1)));
    assert_eq!(calls.map_fixed(0xf000, 1), Err(MmError::NotPermitted));
    calls.mm().limits.can_map_low = true;
    assert_eq!(calls.map_fixed(0, 1), Ok(0));
    let exclusive = |addr| Calls::request(addr, PAGE, MapFlags::FIXED_NO_REPLACE);
    assert_eq!(calls.mmap(exclusive(0)), Err(MmError::Exists));
    assert_eq!(calls.mmap(exclusive(PAGE)), Ok(PAGE));
    calls.finish();
}

#[test]
fn mmap_1_files_allow_what_they_were_opened_for() {
    let mut calls = Calls::new();
    let file = calls.world.add_file(4 * 4096, FileKind::Regular);
    let opened = |may| Arc::new(MappedFile { may, ..MappedFile::clone(&file) });
    let (reader, writer) = (opened(Rights::READ), opened(Rights::WRITE));
    let (private, shared) = (Sharing::Private, Sharing::Shared);
    assert_eq!(calls.map_file(&reader, RW, shared), Err(MmError::AccessDenied));
    assert_eq!(calls.map_file(&writer, Rights::WRITE, private), Err(MmError::AccessDenied));
    let all = Rights::all();
    assert_eq!(calls.map_file(&reader, all, private), Err(MmError::NotPermitted), "noexec");
    let addr = calls.map_file(&reader, Rights::READ, shared).unwrap();
    assert_eq!(calls.mprotect(addr, 1, RW), Err(MmError::AccessDenied), "PROT-2");
    let addr = calls.map_file(&reader, RW, private).unwrap();
    assert_eq!(calls.write(addr), Ok(vec![FaultKind::Cow]));
    let past_the_end = MapSource::File { file: Arc::clone(&file), offset: i64::MAX as u64 - 0xfff };
    let mut request = Calls::request(0, PAGE, MapFlags::empty());
    request.source = past_the_end;
    assert_eq!(calls.mmap(request.clone()), Err(MmError::Overflow));
    request.source = MapSource::File { file: Arc::clone(&file), offset: 1 };
    assert!(is_invalid(calls.mmap(request)));
    calls.finish();
}

#[test]
fn mmap_5_and_vma_7_the_offset_of_anonymous_memory_is_its_address() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    let offset = |calls: &Calls| calls.world.spaces[0].vmas().next().map(|vma| vma.page_offset);
    assert_eq!(offset(&calls), Some(addr / PAGE));
    calls.munmap(addr, PAGE).unwrap();
    assert_eq!(offset(&calls), Some(addr / PAGE + 1));
    calls.finish();
}

#[test]
fn mmap_6_populate_stores_where_stores_are_private() {
    let mut calls = Calls::new();
    let mut request = Calls::request(0, 16 * PAGE, MapFlags::POPULATE);
    calls.mmap(request.clone()).unwrap();
    assert_eq!(calls.world.rss(), (16, 0, 0));
    request.rights = Rights::READ;
    calls.mmap(request.clone()).unwrap();
    assert_eq!(calls.world.rss(), (16, 0, 0), "zero pages");
    request.rights = Rights::empty();
    assert!(calls.mmap(request.clone()).is_ok(), "PROT_NONE populates nothing");
    request.rights = RW;
    request.sharing = Sharing::Shared;
    calls.mmap(request).unwrap();
    assert_eq!(calls.world.rss(), (16, 0, 16));
    calls.finish();
}

#[test]
fn unmap_1_arguments_and_unmap_3_tables_go() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 600).unwrap();
    assert!(is_invalid(calls.munmap(addr + 1, PAGE)));
    assert!(is_invalid(calls.munmap(addr, 0)));
    assert!(is_invalid(calls.munmap(STACK_TOP - PAGE, 2 * PAGE)));
    assert!(is_invalid(calls.munmap(addr, u64::MAX)));
    assert_eq!(calls.munmap(0x20_0000, PAGE), Ok(()), "nothing there is fine");
    for page in [0, 599] {
        calls.write(addr + page * PAGE).unwrap();
    }
    let tables = |calls: &Calls| calls.world.spaces[0].page_table_frames(&calls.world.memory);
    assert!(tables(&calls) > 3);
    calls.munmap(addr, 600 * PAGE).unwrap();
    assert_eq!(tables(&calls), 0);
    assert_eq!(calls.world.rss(), (0, 0, 0));
    calls.finish();
}

#[test]
fn exec_maps_the_stack_and_sets_its_rights() {
    let mut calls = Calls::new();
    let range = calls.call(|mm, memory, hw| map_stack(mm, memory, hw, 33 * PAGE, RW)).unwrap();
    assert_eq!((range.start.as_u64(), range.pages()), (STACK_TOP - 33 * PAGE, 33));
    calls.write(STACK_TOP - 8).unwrap();
    let all = Rights::all();
    calls.call(|mm, memory, hw| set_rights_of_stack(mm, memory, hw, all));
    assert_eq!(calls.vmas(), [(STACK_TOP - 33 * PAGE, 33, all)]);
    assert_eq!(calls.world.touch(0, VirtAddr::new(STACK_TOP - 8), Access::Fetch), Ok(vec![]));
    // STK-2: grows to the touched page, and no further than the limit.
    assert_eq!(calls.write(STACK_TOP - 300 * PAGE), Ok(vec![FaultKind::Stack]));
    assert_eq!(calls.ranges(), [(STACK_TOP - 300 * PAGE, 300)]);
    assert!(calls.write(STACK_TOP - 2049 * PAGE).is_err());
    calls.finish();
}

#[test]
fn special_mappings_never_merge_and_never_grow() {
    let mut calls = Calls::new();
    let file = calls.world.add_file(8 * 4096, FileKind::Special);
    for page in 0..2 {
        let source = MapSource::File { file: Arc::clone(&file), offset: page * PAGE };
        let flags = MapFlags::FIXED | MapFlags::SPECIAL;
        let request = Calls::request(0x10_0000 + page * PAGE, PAGE, flags);
        calls.mmap(MapRequest { source, rights: Rights::READ, ..request }).unwrap();
    }
    assert_eq!(calls.ranges().len(), 2);
    let grown = calls.mremap((0x10_1000, 1, 2), RemapFlags::MAY_MOVE, 0);
    assert!(matches!(grown, Err(MmError::Fault { .. })), "REMAP-2");
    assert_eq!(calls.mlock(0x10_0000, 2, LockMode::Now), Ok(()), "LOCK-8");
    assert_eq!(calls.mm().totals().locked_pages, 0);
    calls.finish();
}
