//! Frames of a device in an address space: what `remap_pfn_range` gives.

use machine::{Frame, PhysAddr};

use super::*;
use crate::counters::PageCounts;
use crate::page_table::{SPECIAL, UNCACHED};
use crate::rights::VmaFlags;
use crate::{Force, Partial};

const RAM_PAGES: u64 = 4096;
const DEVICE_PAGES: u64 = 8;
/// The flags that Linux gives such mappings: `io pf de dd`.
const FLAGS: VmaFlags =
    VmaFlags::IO.union(VmaFlags::PFN_MAP).union(VmaFlags::DONT_EXPAND).union(VmaFlags::DONT_DUMP);

/// A machine with a device, and its open file.
fn with_device() -> (Calls, Arc<MappedFile>) {
    let mut calls = Calls::new();
    let layout = calls.mm().layout;
    calls.world = World::with_device(RAM_PAGES, DEVICE_PAGES);
    calls.mm().layout = layout;
    let file = calls.world.add_file(0, FileKind::Device);
    (calls, file)
}

impl Calls {
    /// Maps `pages` pages of the device from its page 2 on.
    fn map_device(
        &mut self,
        file: &Arc<MappedFile>,
        rights: Rights,
        sharing: Sharing,
        pages: u64,
    ) -> Result<u64, MmError> {
        let (file, first) = (Arc::clone(file), Some(Frame::new(RAM_PAGES + 2)));
        let source = MapSource::Device { file, offset: 2 * PAGE, first };
        let flags = MapFlags::empty();
        self.mmap(MapRequest { addr: 0, bytes: pages * PAGE, rights, sharing, flags, source })
    }

    /// The byte at `offset` of the device's page 2.
    fn device_byte(&self, offset: u64) -> u8 {
        self.world.hw.ram.slice(PhysAddr::new((RAM_PAGES + 2) * PAGE + offset), 1)[0]
    }

    fn entry(&self, addr: u64) -> machine::Pte {
        let mm = &self.world.spaces[0];
        mm.tables.lookup(&self.world.hw, VirtAddr::new(addr))
    }
}

#[test]
fn all_pages_are_there_at_once_uncached_and_counted_nowhere() {
    let (mut calls, file) = with_device();
    let free = calls.world.memory.usage().frames_free;
    let addr = calls.map_device(&file, RW, Sharing::Shared, 4).unwrap();
    let tables = calls.world.memory.usage().page_table;
    for page in 0..4 {
        let entry = calls.entry(addr + page * PAGE);
        assert_eq!(entry.frame(), Frame::new(RAM_PAGES + 2 + page));
        assert!(entry.contains(SPECIAL.with(UNCACHED)) && entry.is_writable());
        assert_eq!(calls.write(addr + page * PAGE), Ok(vec![]), "no fault");
    }
    calls.world.poke(0, VirtAddr::new(addr + 5), 7).unwrap();
    assert_eq!(calls.device_byte(5), 7, "the same bytes");
    let vma = calls.mm().vma_at(VirtAddr::new(addr)).unwrap().clone();
    assert_eq!((vma.flags, vma.page_offset), (FLAGS, 2));
    let World { hw, memory, spaces, .. } = &calls.world;
    assert_eq!(spaces[0].count_pages(hw, memory, vma.range), PageCounts::default());
    let mut words = [7; 4];
    spaces[0].pagemap(memory, hw, vma.range.start, &mut words);
    assert_eq!((words, calls.world.rss()), ([0; 4], (0, 0, 0)));
    let used = free - calls.world.memory.usage().frames_free;
    assert!(used <= tables, "{used} frames taken, {tables} of page tables");
    calls.munmap(addr, 4 * PAGE).unwrap();
    assert_eq!((calls.device_byte(5), calls.vmas()), (7, vec![]));
    drop((file, vma));
    calls.finish();
}

#[test]
fn a_store_to_a_private_page_of_a_device_makes_a_copy() {
    let (mut calls, file) = with_device();
    calls.world.hw.store(PhysAddr::new((RAM_PAGES + 2) * PAGE), &[9; 16]);
    let addr = calls.map_device(&file, RW, Sharing::Private, 4).unwrap();
    drop(file);
    let vma = calls.mm().vma_at(VirtAddr::new(addr)).unwrap();
    assert_eq!(vma.page_offset, RAM_PAGES + 2, "where the frames are");
    let first = VirtAddr::new(addr);
    assert_eq!(calls.world.peek(0, first), Ok(9));
    assert_eq!(calls.world.rss(), (0, 0, 0));
    assert_eq!(calls.write(addr), Ok(vec![FaultKind::Cow]));
    calls.world.poke(0, first, 1).unwrap();
    assert_eq!((calls.device_byte(0), calls.world.peek(0, first)), (9, Ok(1)));
    assert_eq!(calls.world.peek(0, VirtAddr::new(addr + 1)), Ok(9), "the rest is copied");
    assert_eq!(calls.world.rss(), (1, 0, 0));
    let World { hw, memory, spaces, .. } = &calls.world;
    let mut words = [7; 4];
    spaces[0].pagemap(memory, hw, first, &mut words);
    assert_eq!(words, [0; 4], "Linux shows nothing of such a range");
    calls.world.fork();
    assert_eq!(calls.world.peek(1, first), Ok(1));
    calls.world.poke(1, first, 2).unwrap();
    assert_eq!(calls.world.peek(0, first), Ok(1), "the parent's own");
    let second = VirtAddr::new(addr + PAGE);
    assert_eq!(calls.world.touch(1, second, Access::Read), Ok(vec![]), "entries are inherited");
    assert_eq!(calls.world.touch(1, second, Access::Write), Ok(vec![FaultKind::Cow]));
    calls.finish();
}

#[test]
fn a_child_has_the_shared_pages_of_a_device_without_a_fault() {
    let (mut calls, file) = with_device();
    let addr = calls.map_device(&file, RW, Sharing::Shared, 2).unwrap();
    drop(file);
    calls.world.fork();
    assert_eq!(calls.world.touch(1, VirtAddr::new(addr), Access::Write), Ok(vec![]));
    calls.world.poke(1, VirtAddr::new(addr + 3), 5).unwrap();
    assert_eq!(calls.world.peek(0, VirtAddr::new(addr + 3)), Ok(5));
    assert_eq!(calls.device_byte(3), 5);
    calls.finish();
}

#[test]
fn advice_locks_and_growth_are_not_for_a_device() {
    let (mut calls, file) = with_device();
    let addr = calls.map_device(&file, RW, Sharing::Shared, 2).unwrap();
    drop(file);
    for advice in [
        Advice::DontNeed,
        Advice::DontNeedLocked,
        Advice::Free,
        Advice::Cold,
        Advice::PageOut,
        Advice::DoFork,
        Advice::DoDump,
        Advice::PopulateRead,
        Advice::PopulateWrite,
    ] {
        assert!(is_invalid(calls.madvise(addr, 2, advice)), "{advice:?}");
    }
    for advice in [Advice::WillNeed, Advice::Random, Advice::DontFork, Advice::Mergeable] {
        assert_eq!(calls.madvise(addr, 2, advice), Ok(()), "{advice:?}");
    }
    assert_eq!(calls.mlock(addr, 2, LockMode::Now), Ok(()));
    let flags = calls.mm().vma_at(VirtAddr::new(addr)).unwrap().flags;
    assert!(!flags.contains(VmaFlags::LOCKED), "LOCK-8: passed over");
    let range = (VirtAddr::new(addr), 2 * PAGE);
    let stored = calls.call(|mm, memory, hw| msync(mm, memory, hw, range, SyncFlags::SYNC));
    assert!(is_invalid(stored), "there is nothing to store");
    let seen =
        calls.call(|mm, memory, hw| mincore(mm, memory, hw, range, Ownership::Owner)).unwrap();
    assert_eq!(seen, [0, 0], "no page of it is cached");
    let grown = calls.mremap((addr, 2, 3), RemapFlags::MAY_MOVE, 0);
    assert!(matches!(grown, Err(MmError::Fault { .. })), "{grown:?}");
    calls.world.poke(0, VirtAddr::new(addr), 4).unwrap();
    let flags = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
    assert_eq!(calls.mremap((addr, 2, 2), flags, 0x10_0000), Ok(0x10_0000));
    assert_eq!(calls.world.read(VirtAddr::new(0x10_0000)), Ok(vec![]), "entries move along");
    assert_eq!(calls.world.peek(0, VirtAddr::new(0x10_0000)), Ok(4));
    let denied = FaultError::Denied { addr: VirtAddr::new(0x10_0000) };
    let remote = calls.call(|mm, memory, hw| {
        mm.read_remote(memory, hw, VirtAddr::new(0x10_0000), &mut [0], Force::Yes)
    });
    assert_eq!(remote, Err(Partial { done: 0, error: denied }), "not for others");
    calls.finish();
}

#[test]
fn prot_5_rights_come_and_go_and_the_entries_stay_those_of_a_device() {
    let (mut calls, file) = with_device();
    let addr = calls.map_device(&file, Rights::READ, Sharing::Shared, 2).unwrap();
    drop(file);
    assert!(calls.write(addr).is_err());
    for rights in [Rights::empty(), RW] {
        calls.mprotect(addr, 2, rights).unwrap();
        let entry = calls.entry(addr);
        assert!(entry.contains(SPECIAL.with(UNCACHED)), "{entry:?}");
        assert_eq!(entry.frame(), Frame::new(RAM_PAGES + 2));
    }
    assert_eq!(calls.write(addr), Ok(vec![]), "writable at once: nobody looks for stores");
    calls.finish();
}

#[test]
fn a_mapping_of_a_device_without_a_frame_for_its_tables_leaves_nothing() {
    let (mut calls, file) = with_device();
    calls.world.memory.refuse_allocation(0);
    assert!(is_no_memory(calls.map_device(&file, RW, Sharing::Shared, 2)));
    assert_eq!(calls.vmas(), []);
    let addr = calls.map_device(&file, RW, Sharing::Private, 2).unwrap();
    assert_eq!(calls.world.read(VirtAddr::new(addr)), Ok(vec![]));
    drop(file);
    calls.finish();
}

#[test]
fn mmap_1_what_a_device_has_not_is_refused_last_and_leaves_what_is_mapped() {
    let (mut calls, file) = with_device();
    let reader = Arc::new(MappedFile { may: Rights::READ, ..(*file).clone() });
    let addr = calls.map(0, 2).unwrap();
    calls.write(addr).unwrap();
    let (before, free) = (calls.vmas(), calls.world.memory.usage().frames_free);
    let mut ask = |file: &Arc<MappedFile>, (addr, bytes), sharing, flags| {
        let source = MapSource::Device { file: Arc::clone(file), offset: 64 * PAGE, first: None };
        calls.mmap(MapRequest { addr, bytes, rights: RW, sharing, flags, source })
    };
    let (none, fixed) = (MapFlags::empty(), MapFlags::FIXED);
    for sharing in [Sharing::Shared, Sharing::Private] {
        assert!(is_invalid(ask(&file, (0, PAGE), sharing, none)));
        assert!(is_invalid(ask(&file, (addr, PAGE), sharing, fixed)));
        assert!(is_no_memory(ask(&file, (0, 1 << 60), sharing, none)));
        let refused = ask(&file, (addr, PAGE), sharing, MapFlags::FIXED_NO_REPLACE);
        assert_eq!(refused, Err(MmError::Exists));
    }
    assert_eq!(ask(&reader, (0, PAGE), Sharing::Shared, none), Err(MmError::AccessDenied));
    assert_eq!(calls.vmas(), before);
    assert_eq!(calls.world.memory.usage().frames_free, free);
    assert_eq!(calls.write(addr), Ok(vec![]), "still there");
    drop((file, reader));
    calls.finish();
}
