//! Locks, advice, msync, mincore: LOCK, section 9, SYNC, CORE.

use super::*;

fn mincore_of(calls: &mut Calls, addr: u64, pages: u64) -> Result<Vec<u8>, MmError> {
    let range = (VirtAddr::new(addr), pages * PAGE);
    calls.call(|mm, memory, hw| mincore(mm, memory, hw, range, Ownership::Owner))
}

#[test]
fn lock_1_and_2_limits() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 16).unwrap();
    calls.mm().limits.locked_bytes = 8 * PAGE;
    assert_eq!(calls.mlock(addr, 8, LockMode::Now), Ok(()));
    assert_eq!(calls.world.rss(), (8, 0, 0), "LOCK-4");
    assert_eq!(calls.mlock(addr, 8, LockMode::Now), Ok(()), "locked pages do not count twice");
    assert!(is_no_memory(calls.mlock(addr + 8 * PAGE, 1, LockMode::Now)));
    let locked = Calls::request(0, PAGE, MapFlags::LOCKED);
    assert_eq!(calls.mmap(locked.clone()), Err(MmError::Again));
    let grown = calls.mremap((addr, 8, 9), RemapFlags::MAY_MOVE, 0);
    assert!(matches!(grown, Err(MmError::Fault { .. } | MmError::Again)));
    assert!(is_no_memory(calls.call(|mm, m, hw| mlockall(mm, m, hw, LockFlags::CURRENT))));
    calls.mm().limits.locked_bytes = 0;
    assert_eq!(calls.mlock(addr, 0, LockMode::Now), Err(MmError::NotPermitted));
    assert_eq!(calls.mmap(locked), Err(MmError::NotPermitted));
    assert_eq!(
        calls.call(|mm, memory, hw| munlock(mm, memory, hw, VirtAddr::new(addr), 8 * PAGE)),
        Ok(())
    );
    assert_eq!(calls.mm().totals().locked_pages, 0);
    calls.finish();
}

#[test]
fn lock_3_vmas_before_a_hole_are_locked() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    calls.munmap(addr + 2 * PAGE, PAGE).unwrap();
    assert!(is_no_memory(calls.mlock(addr, 4, LockMode::Now)));
    assert_eq!(calls.mm().totals().locked_pages, 2);
    calls.finish();
}

#[test]
fn lock_5_on_fault_locks_what_is_touched() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    calls.mlock(addr, 4, LockMode::OnFault).unwrap();
    assert_eq!(calls.world.rss(), (0, 0, 0));
    calls.write(addr).unwrap();
    assert_eq!(calls.world.rss(), (1, 0, 0));
    calls.finish();
}

#[test]
fn lock_6_calls_of_mlockall_do_not_add_up() {
    let mut calls = Calls::new();
    let mut all = |flags| calls.call(|mm, memory, hw| mlockall(mm, memory, hw, flags));
    assert!(is_invalid(all(LockFlags::empty())));
    assert!(is_invalid(all(LockFlags::ON_FAULT)));
    all(LockFlags::FUTURE).unwrap();
    calls.map(0, 4).unwrap();
    assert_eq!(calls.world.rss(), (4, 0, 0));
    let heap = calls.mm().layout.start_brk.as_u64();
    calls.brk(heap + PAGE);
    assert_eq!(calls.world.rss(), (5, 0, 0), "BRK-5");
    calls.call(|mm, memory, hw| mlockall(mm, memory, hw, LockFlags::CURRENT)).unwrap();
    calls.map(0x10_0000, 4).unwrap();
    assert_eq!(calls.world.rss(), (5, 0, 0));
    calls.call(munlockall);
    assert_eq!(calls.mm().totals().locked_pages, 0);
    calls.finish();
}

#[test]
fn lock_7_locked_pages_are_not_given_away() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    calls.mlock(addr, 4, LockMode::Now).unwrap();
    for advice in [Advice::DontNeed, Advice::Free, Advice::Cold, Advice::PageOut, Advice::Remove] {
        assert!(is_invalid(calls.madvise(addr, 4, advice)), "{advice:?}");
    }
    assert_eq!(calls.madvise(addr, 4, Advice::DontNeedLocked), Ok(()));
    assert_eq!(calls.world.rss(), (0, 0, 0));
    let (range, flags) = ((VirtAddr::new(addr), PAGE), SyncFlags::INVALIDATE);
    let synced = calls.call(|mm, memory, hw| msync(mm, memory, hw, range, flags));
    assert_eq!(synced, Err(MmError::Busy));
    calls.finish();
}

#[test]
fn madvise_applies_around_holes_and_reports_them() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    calls.munmap(addr + PAGE, PAGE).unwrap();
    calls.write(addr).unwrap();
    calls.write(addr + 3 * PAGE).unwrap();
    assert!(is_no_memory(calls.madvise(addr, 4, Advice::DontNeed)));
    assert_eq!(calls.world.rss(), (0, 0, 0));
    assert!(is_invalid(calls.madvise(addr + 1, 1, Advice::Normal)));
    assert_eq!(calls.madvise(0x10_0000, 0, Advice::Normal), Ok(()));
    assert!(is_no_memory(calls.madvise(addr, 4, Advice::PopulateWrite)), "stops at the hole");
    assert_eq!(calls.world.rss(), (1, 0, 0));
    calls.finish();
}

#[test]
fn madvise_knows_the_numbers_of_linux() {
    let known: Vec<u64> = (0..110).filter(|&n| Advice::from_number(n).is_some()).collect();
    let expected: Vec<u64> = (0..=4).chain(8..=25).collect();
    assert_eq!(known, expected);
}

#[test]
fn madvise_dont_need_and_free_of_each_kind_of_memory() {
    let mut calls = Calls::new();
    let file = calls.world.add_file(4 * 4096, FileKind::Regular);
    let anon = VirtAddr::new(calls.map(0, 1).unwrap());
    let private = VirtAddr::new(calls.map_file(&file, RW, Sharing::Private).unwrap());
    let shared = VirtAddr::new(calls.map_file(&file, RW, Sharing::Shared).unwrap());
    let before = calls.world.peek(0, private).unwrap();
    for addr in [anon, private, shared] {
        calls.world.poke(0, addr.wrapping_add(100), 9).unwrap();
        calls.madvise(addr.as_u64(), 1, Advice::DontNeed).unwrap();
    }
    let seen = |calls: &mut Calls, addr: VirtAddr| calls.world.peek(0, addr.wrapping_add(100));
    assert_eq!(seen(&mut calls, anon), Ok(0));
    assert_eq!(seen(&mut calls, private), Ok(9), "the copy is lost, the file was written shared");
    assert_eq!(calls.world.peek(0, private), Ok(before));
    assert_eq!(seen(&mut calls, shared), Ok(9));
    assert!(is_invalid(calls.madvise(private.as_u64(), 1, Advice::Free)));
    assert_eq!(calls.madvise(anon.as_u64(), 1, Advice::Free), Ok(()));
    calls.finish();
}

#[test]
fn madvise_remove_punches_shared_memory() {
    let mut calls = Calls::new();
    let mut request = Calls::request(0, 4 * PAGE, MapFlags::empty());
    request.sharing = Sharing::Shared;
    let addr = calls.mmap(request).unwrap();
    calls.write(addr).unwrap();
    assert_eq!(calls.world.memory.usage().shmem, 1);
    calls.madvise(addr, 1, Advice::Remove).unwrap();
    assert_eq!(calls.world.memory.usage().shmem, 0);
    let anon = calls.map(0, 1).unwrap();
    assert!(is_invalid(calls.madvise(anon, 1, Advice::Remove)));
    let file = calls.world.add_file(4 * 4096, FileKind::Shmem);
    let private = calls.map_file(&file, RW, Sharing::Private).unwrap();
    assert_eq!(calls.madvise(private, 1, Advice::Remove), Err(MmError::AccessDenied));
    calls.finish();
}

#[test]
fn sync_1_arguments_holes_and_stores() {
    let mut calls = Calls::new();
    let file = calls.world.add_file(4 * 4096, FileKind::Regular);
    let addr = calls.map_file(&file, RW, Sharing::Shared).unwrap();
    let mut sync = |addr: u64, pages: u64, flags: SyncFlags| {
        let range = (VirtAddr::new(addr), pages * PAGE);
        calls.call(|mm, memory, hw| msync(mm, memory, hw, range, flags))
    };
    assert!(is_invalid(sync(addr + 1, 1, SyncFlags::SYNC)));
    assert!(is_invalid(sync(addr, 1, SyncFlags::SYNC | SyncFlags::ASYNC)));
    assert_eq!(sync(addr, 0, SyncFlags::SYNC), Ok(()));
    assert!(is_no_memory(sync(addr - PAGE, 2, SyncFlags::SYNC)));
    assert_eq!(calls.write(addr), Ok(vec![FaultKind::File]));
    let range = (VirtAddr::new(addr), PAGE);
    calls.call(|mm, memory, hw| msync(mm, memory, hw, range, SyncFlags::SYNC)).unwrap();
    assert_eq!(calls.write(addr), Ok(vec![FaultKind::MkWrite]), "FILE-8");
    calls.finish();
}

#[test]
fn core_1_what_is_in_ram() {
    let mut calls = Calls::new();
    let addr = calls.map(0, 4).unwrap();
    calls.write(addr).unwrap();
    calls.world.read(VirtAddr::new(addr + PAGE)).unwrap();
    assert_eq!(mincore_of(&mut calls, addr, 4), Ok(vec![1, 1, 0, 0]), "the zero page counts");
    calls.mprotect(addr, 1, Rights::empty()).unwrap();
    assert_eq!(mincore_of(&mut calls, addr, 1), Ok(vec![1]));
    assert!(is_no_memory(mincore_of(&mut calls, addr - PAGE, 2)));
    assert!(is_invalid(mincore_of(&mut calls, addr + 1, 1)));
    let file = calls.world.add_file(4 * 4096, FileKind::Regular);
    let mapped = calls.map_file(&file, RW, Sharing::Private).unwrap();
    assert_eq!(mincore_of(&mut calls, mapped, 2), Ok(vec![1, 1]), "the cache is warm");
    calls.finish();
}
