//! Limits and promises: LIM, COMMIT, MMAP-9, PROT-4, BRK-3.

use super::*;
use crate::commit::Overcommit;

fn committed(calls: &Calls) -> u64 {
    calls.world.memory.usage().committed_pages
}

#[test]
fn lim_1_rlimit_as_counts_every_page() {
    let mut calls = Calls::new();
    calls.mm().limits.address_space_bytes = 16 * PAGE;
    let mut none = Calls::request(0, 10 * PAGE, MapFlags::empty());
    none.rights = Rights::empty();
    let addr = calls.mmap(none).unwrap();
    assert!(is_no_memory(calls.map(0, 7)));
    calls.map(0, 6).unwrap();
    assert!(is_no_memory(calls.map(0, 1)));
    // MMAP-4: what is replaced does not count twice, and a refusal leaves it.
    assert_eq!(calls.map_fixed(addr, 10), Ok(addr));
    assert!(is_no_memory(calls.map_fixed(addr - 8 * PAGE, 9)));
    assert_eq!(calls.mm().totals().total_pages, 16);
    let moved = calls.mremap((addr, 1, 2), RemapFlags::MAY_MOVE, 0);
    assert!(is_no_memory(moved), "REMAP-2");
    let heap = calls.mm().layout.start_brk.as_u64();
    assert_eq!(calls.brk(heap + PAGE), heap, "BRK-5");
    calls.finish();
}

#[test]
fn lim_1_rlimit_data_counts_private_writable_pages() {
    let mut calls = Calls::new();
    calls.mm().limits.data_bytes = 8 * PAGE;
    let mut request = Calls::request(0, 16 * PAGE, MapFlags::empty());
    request.rights = Rights::READ;
    let addr = calls.mmap(request.clone()).unwrap();
    assert!(is_no_memory(calls.mprotect(addr, 9, RW)), "PROT-4");
    calls.mprotect(addr, 8, RW).unwrap();
    assert!(is_no_memory(calls.map(0, 1)));
    request.rights = RW;
    request.sharing = Sharing::Shared;
    assert!(calls.mmap(request).is_ok(), "shared mappings are exempt");
    let heap = calls.mm().layout.start_brk.as_u64();
    assert_eq!(calls.brk(heap + PAGE), heap);
    calls.finish();
}

#[test]
fn brk_3_rlimit_data_counts_heap_and_initialised_data() {
    let mut calls = Calls::new();
    calls.mm().layout.end_data = VirtAddr::new(3 * PAGE);
    calls.mm().limits.data_bytes = 8 * PAGE;
    let heap = calls.mm().layout.start_brk.as_u64();
    assert_eq!(calls.brk(heap + 6 * PAGE), heap);
    assert_eq!(calls.brk(heap + 5 * PAGE), heap + 5 * PAGE);
    calls.mm().limits.data_bytes = 0;
    assert_eq!(calls.brk(heap + PAGE), heap + PAGE, "BRK-4: shrinking is always allowed");
    calls.finish();
}

#[test]
fn mmap_9_and_commit_2_one_request_larger_than_ram_is_refused() {
    let mut calls = Calls::new();
    let huge = Calls::request(0, 64 << 40, MapFlags::empty());
    assert!(is_no_memory(calls.mmap(huge.clone())));
    let flags = MapFlags::NO_RESERVE;
    assert!(calls.mmap(MapRequest { flags, ..huge.clone() }).is_ok());
    let rights = Rights::READ;
    assert!(calls.mmap(MapRequest { rights, bytes: 32 << 40, ..huge }).is_ok());
    assert!(calls.map(0, 4000).is_ok());
    assert!(calls.map(0, 4000).is_ok(), "each request for itself");
    calls.finish();
}

#[test]
fn commit_1_who_is_charged() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 8).unwrap();
    assert_eq!(committed(&calls), 8);
    let request = Calls::request(0, 4 * PAGE, MapFlags::empty());
    calls.mmap(MapRequest { rights: Rights::READ, ..request.clone() }).unwrap();
    calls.mmap(MapRequest { flags: MapFlags::NO_RESERVE, ..request.clone() }).unwrap();
    let file = calls.world.add_file(4 * 4096, FileKind::Regular);
    calls.map_file(&file, RW, Sharing::Shared).unwrap();
    assert_eq!(committed(&calls), 8);
    let private = calls.map_file(&file, RW, Sharing::Private).unwrap();
    let shared = calls.mmap(MapRequest { sharing: Sharing::Shared, ..request }).unwrap();
    assert_eq!(committed(&calls), 16);
    calls.munmap(shared, PAGE).unwrap();
    assert_eq!(committed(&calls), 16, "shared memory is charged while it lives");
    calls.munmap(shared, 4 * PAGE).unwrap();
    assert_eq!(committed(&calls), 12);
    calls.munmap(private, 2 * PAGE).unwrap();
    assert_eq!(committed(&calls), 10);
    // PROT-4: untouched anonymous memory is no promise any more, touched or file memory stays one.
    calls.write(addr).unwrap();
    calls.mprotect(addr, 8, Rights::READ).unwrap();
    calls.mprotect(private + 2 * PAGE, 2, Rights::READ).unwrap();
    assert_eq!(committed(&calls), 10);
    let fresh = calls.map(0x10_0000, 5).unwrap();
    assert_eq!(committed(&calls), 15);
    calls.mprotect(fresh, 5, Rights::READ).unwrap();
    assert_eq!(committed(&calls), 10);
    calls.mprotect(fresh, 2, RW).unwrap();
    assert_eq!(committed(&calls), 12);
    calls.finish();
}

#[test]
fn commit_2_mode_2_refuses_beyond_the_limit_and_counts_replacing_once() {
    let mut calls = Calls::new();
    calls.world.memory.overcommit = Overcommit::Never { ratio_percent: 50 };
    let addr = calls.map(0, 1800).unwrap();
    assert!(is_no_memory(calls.map(0, 100)));
    assert_eq!(calls.map_fixed(addr, 1800), Ok(addr));
    assert_eq!(committed(&calls), 1800);
    assert!(calls.mremap((addr, 1800, 1810), RemapFlags::MAY_MOVE, 0).is_ok());
    assert_eq!(committed(&calls), 1810);
    assert!(is_no_memory(calls.map(0, 100)));
    calls.finish();
}
