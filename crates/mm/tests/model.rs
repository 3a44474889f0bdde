//! Random memory calls and accesses of up to three address spaces that fork, against a naive model:
//! pages in a map, bytes in vectors, no trees, no laziness. Every invariant is checked after each
//! step, and that the TLBs never translate to anything but what the page tables say.

use std::collections::BTreeMap;
use std::sync::Arc;

use machine::{
    Access, FastPath, Frame, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, TlbMode, VirtAddr,
    tlb_default,
};
use mm::check::check;
use mm::ops::{
    Advice, MapFlags, MapRequest, MapSource, ProtectFlags, RemapFlags, fork, madvise, mmap,
    mprotect, mremap, munmap,
};
use mm::{
    Backing, FaultError, FileKind, Force, LATENCIES, Layout, Limits, MappedFile, Memory, Mm, MmId,
    ObjectId, PackedStore, Partial, Readahead, Rights, Sharing, handle_fault,
};

use bytes::Bytes;

mod bytes;

/// The pages that are played with: across the border of two tables in every geometry.
const FIRST: u64 = 0x400 - 96;
const COUNT: u64 = 192;
const PAGE: usize = PAGE_BYTES as usize;

/// A file as the model sees it: whole pages, and where the file ends.
struct ModelFile {
    bytes: Vec<u8>,
    size: usize,
    /// The real one; `None` for shared anonymous memory.
    real: Option<(Bytes, Arc<MappedFile>)>,
}

#[derive(Clone)]
struct ModelPage {
    rights: Rights,
    sharing: Sharing,
    /// File and page in it; `None` for private zeros.
    file: Option<(usize, usize)>,
    copy: Option<Vec<u8>>,
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % bound
    }
}

/// An address space that is not the active one, and what the model says of it.
struct Other {
    mm: Mm,
    pages: BTreeMap<u64, ModelPage>,
    asid: u16,
}

/// The most address spaces at one time.
const SPACES_MAX: usize = 3;

struct World {
    hw: Machine,
    memory: Memory,
    /// The active address space.
    mm: Mm,
    files: Vec<ModelFile>,
    /// Its pages.
    pages: BTreeMap<u64, ModelPage>,
    /// Its identifier.
    asid: u16,
    others: Vec<Other>,
    random: Random,
    /// How the files are read.
    ahead: Readahead,
    refused: u64,
    /// Frames taken away from the program.
    hogged: Vec<Frame>,
    /// Whether frames run short, so that reclaim stores pages of files.
    is_short: bool,
}

/// Whether pages leave RAM when it is short.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Swap {
    Off,
    /// An area of so many slots.
    Slots(u32),
}

fn at(page: u64) -> VirtAddr {
    VirtAddr::new(page * PAGE_BYTES)
}

impl World {
    fn new(geometry: Geometry, seed: u64, swap: Swap, is_short: bool) -> Self {
        let frame_count = 1024;
        let mut hw = Machine::new(MachineConfig {
            ram_bytes: frame_count * PAGE_BYTES,
            geometry,
            tlb: TlbMode::Model(*tlb_default()),
            reference: FastPath::Filled,
            keep: Keep::HashOnly,
            boot_seconds: 0,
        })
        .unwrap();
        let mut memory = Memory::new(&mut hw).unwrap();
        if let Swap::Slots(count) = swap {
            memory.swap_on(count, Box::new(PackedStore::new()), LATENCIES[0]);
        }
        let layout = Layout {
            mmap_base: VirtAddr::new(0x4000_0000),
            mmap_legacy_base: VirtAddr::new(0x2000_0000),
            task_end: VirtAddr::new(0x8000_0000),
            min_address: VirtAddr::new(0x1000),
            ..Layout::default()
        };
        let limits = Limits { locked_bytes: u64::MAX, ..Limits::default() };
        let mm = Mm::new(MmId(1), layout, limits, &mut memory, &mut hw).unwrap();
        hw.activate(mm.root(), 1);
        let (files, pages, random) = (Vec::new(), BTreeMap::new(), Random(seed));
        let mut world = Self {
            hw,
            memory,
            mm,
            files,
            pages,
            asid: 1,
            others: Vec::new(),
            random,
            refused: 0,
            ahead: Readahead::default(),
            hogged: Vec::new(),
            is_short,
        };
        world.add_file(FileKind::Regular);
        world.add_file(FileKind::Shmem);
        world
    }

    fn add_file(&mut self, kind: FileKind) {
        let size = self.size(20 * PAGE + 123);
        let bytes: Vec<u8> = (0..size).map(|i| (i * 7 + i / PAGE) as u8).collect();
        let pager = Bytes::new(bytes.clone());
        let object = self.memory.add_object(Box::new(pager.clone()), kind);
        let file = MappedFile {
            object,
            path: Box::from(*b"/f"),
            device: (0, 1),
            inode: u64::from(object.0),
            kind,
            may: Rights::all(),
        };
        let mut file = ModelFile { bytes, size, real: Some((pager, Arc::new(file))) };
        file.bytes.resize(size.next_multiple_of(PAGE), 0);
        self.files.push(file);
    }

    /// A size that a file may have. When frames run short, files end with a page: nobody can tell
    /// when reclaim writes the last one, and what was stored behind the end is gone then.
    fn size(&self, bytes: usize) -> usize {
        if self.is_short { bytes.next_multiple_of(PAGE) } else { bytes }
    }

    fn range(&mut self) -> (u64, u64) {
        let first = self.random.below(COUNT);
        let count = 1 + self.random.below(40);
        (FIRST + first, count.min(COUNT - first))
    }

    fn rights(&mut self) -> Rights {
        Rights::from_bits_truncate(self.random.below(12).min(7) as u8)
    }

    fn object(&self, file: usize) -> (Bytes, ObjectId) {
        let (pager, mapped) = self.files[file].real.as_ref().unwrap();
        (pager.clone(), mapped.object)
    }

    fn step(&mut self) {
        match self.random.below(40) {
            0..3 => self.step_mmap(),
            3 => self.step_munmap(),
            4..6 => self.step_mprotect(),
            6 => self.step_mremap(),
            7 => self.step_dont_need(),
            8 => self.step_truncate(),
            9 => self.step_write_file(),
            10 => self.step_read_file(),
            11 => self.step_write_back(),
            12 => self.step_fork(),
            13 => self.step_exit(),
            14 | 15 => self.step_switch(),
            16 => self.step_remote(),
            17 => self.step_discard(),
            _ => self.step_access(),
        }
        self.check();
        let unmerged = self.mm.vmas().zip(self.mm.vmas().skip(1)).find(|(a, b)| a.can_merge(b));
        assert!(unmerged.is_none(), "I4: {unmerged:?}");
        for page in FIRST..FIRST + COUNT {
            let is_mapped = self.mm.vma_at(at(page)).is_some();
            assert_eq!(is_mapped, self.pages.contains_key(&page), "page {page:#x}");
        }
    }

    fn check(&self) {
        let others = self.others.iter().map(|other| &other.mm);
        let spaces: Vec<&Mm> = std::iter::once(&self.mm).chain(others).collect();
        assert_eq!(check(&spaces, &self.memory, &self.hw), Ok(()));
    }

    fn unmap_model(&mut self, first: u64, count: u64) {
        for page in first..first + count {
            self.pages.remove(&page);
        }
    }

    fn step_mmap(&mut self) {
        let ((first, count), rights) = (self.range(), self.rights());
        let sharing = [Sharing::Private, Sharing::Shared][self.random.below(2) as usize];
        let which = self.random.below(3) as usize;
        let skip = self.random.below(10) as usize;
        let source = match which {
            2 => MapSource::Anonymous,
            _ => {
                let file = Arc::clone(&self.files[which].real.as_ref().unwrap().1);
                MapSource::File { file, offset: skip as u64 * PAGE_BYTES }
            }
        };
        let file = match (which, sharing) {
            (2, Sharing::Private) => None,
            (2, Sharing::Shared) => {
                let bytes = vec![0; count as usize * PAGE];
                self.files.push(ModelFile { size: bytes.len(), bytes, real: None });
                Some((self.files.len() - 1, 0))
            }
            _ => Some((which, skip)),
        };
        let request = MapRequest {
            addr: at(first).as_u64(),
            bytes: count * PAGE_BYTES,
            rights,
            sharing,
            flags: MapFlags::FIXED,
            source,
        };
        mmap(&mut self.mm, &mut self.memory, &mut self.hw, request).unwrap();
        for i in 0..count {
            let file = file.map(|(file, skip)| (file, skip + i as usize));
            self.pages.insert(first + i, ModelPage { rights, sharing, file, copy: None });
        }
    }

    fn step_munmap(&mut self) {
        let (first, count) = self.range();
        let bytes = count * PAGE_BYTES;
        munmap(&mut self.mm, &mut self.memory, &mut self.hw, at(first), bytes).unwrap();
        self.unmap_model(first, count);
    }

    fn step_mprotect(&mut self) {
        let ((first, count), rights) = (self.range(), self.rights());
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let how = (rights, ProtectFlags::empty());
        let done = mprotect(&mut self.mm, memory, hw, at(first), count * PAGE_BYTES, how);
        for page in first..first + count {
            let Some(model) = self.pages.get_mut(&page) else {
                assert!(done.is_err());
                return;
            };
            model.rights = rights;
        }
        assert_eq!(done, Ok(()));
    }

    fn step_mremap(&mut self) {
        let (first, count) = self.range();
        let count = count.min(16);
        let target = FIRST + self.random.below(COUNT - count);
        let is_mapped = (first..first + count).all(|page| self.pages.contains_key(&page));
        if !is_mapped || first < target + count && target < first + count {
            return;
        }
        let bytes = count * PAGE_BYTES;
        let flags = RemapFlags::MAY_MOVE | RemapFlags::FIXED;
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let lengths = (at(first), bytes, bytes);
        let moved = mremap(&mut self.mm, memory, hw, lengths, flags, at(target));
        self.unmap_model(target, count);
        if moved.is_err() {
            return;
        }
        for i in 0..count {
            let model = self.pages.remove(&(first + i)).unwrap();
            self.pages.insert(target + i, model);
        }
    }

    fn step_dont_need(&mut self) {
        let (first, count) = self.range();
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let range = (at(first), count * PAGE_BYTES);
        let _has_holes = madvise(&mut self.mm, memory, hw, range, Advice::DontNeed);
        for page in first..first + count {
            if let Some(model) = self.pages.get_mut(&page) {
                model.copy = None;
            }
        }
    }

    fn resize_model(&mut self, file: usize, size: usize) {
        let model = &mut self.files[file];
        let (old, padded) = (model.size, size.next_multiple_of(PAGE));
        let low = old.min(size);
        let end = model.bytes.len().min(low.next_multiple_of(PAGE));
        model.bytes[low..end].fill(0);
        model.bytes.truncate(low.next_multiple_of(PAGE));
        model.bytes.resize(padded, 0);
        model.size = size;
    }

    fn step_truncate(&mut self) {
        let file = self.random.below(2) as usize;
        let size = self.random.below(30 * PAGE_BYTES) as usize;
        let size = self.size(size);
        let is_lower = size < self.files[file].size;
        let (pager, object) = self.object(file);
        pager.0.borrow_mut().resize(size, 0);
        let others = self.others.iter_mut().map(|other| &mut other.mm);
        let mut spaces: Vec<&mut Mm> = std::iter::once(&mut self.mm).chain(others).collect();
        self.memory.truncate_object(&mut spaces, &mut self.hw, object, size as u64);
        self.resize_model(file, size);
        if !is_lower {
            return;
        }
        let others = self.others.iter_mut().flat_map(|other| other.pages.values_mut());
        for model in self.pages.values_mut().chain(others) {
            if model.file.is_some_and(|(id, page)| id == file && page >= size.div_ceil(PAGE)) {
                model.copy = None;
            }
        }
    }

    fn step_write_file(&mut self) {
        let file = self.random.below(2) as usize;
        let start = self.random.below(24 * PAGE_BYTES) as usize;
        let length = 1 + self.random.below(2 * PAGE_BYTES) as usize;
        let byte = self.random.below(256) as u8;
        let (pager, object) = self.object(file);
        let end = start + length;
        let size_end = self.size(end);
        if end > self.files[file].size {
            self.resize_model(file, size_end);
        }
        self.files[file].bytes[start..end].fill(byte);
        let written = vec![byte; length];
        if self.random.below(2) == 0 {
            self.memory.object_grown(&mut self.hw, object);
            let held = pager.0.borrow().len();
            pager.0.borrow_mut().resize(if end > held { size_end } else { held }, 0);
            let done = self.memory.write_object(&mut self.hw, object, start as u64, &written);
            assert_eq!(done, Ok(length));
            return;
        }
        {
            let mut bytes = pager.0.borrow_mut();
            let size = if end > bytes.len() { size_end } else { bytes.len() };
            bytes.resize(size, 0);
            bytes[start..end].fill(byte);
        }
        self.memory.object_written(&mut self.hw, object, start as u64, &written);
    }

    fn step_read_file(&mut self) {
        let file = self.random.below(2) as usize;
        let start = self.random.below(24 * PAGE_BYTES) as usize;
        let mut bytes = vec![0; 1 + self.random.below(2 * PAGE_BYTES) as usize];
        let (_, object) = self.object(file);
        let ahead = &mut self.ahead;
        let read = self.memory.read_object(&mut self.hw, object, (start as u64, &mut bytes), ahead);
        let model = &self.files[file];
        let start = start.min(model.size);
        let expected = &model.bytes[start..(start + bytes.len()).min(model.size)];
        assert_eq!(read, Ok(expected.len()));
        assert_eq!(&bytes[..expected.len()], expected);
    }

    /// Drops clean pages, or asks for some.
    fn step_discard(&mut self) {
        let (_, object) = self.object(0);
        let first = self.random.below(24);
        match self.random.below(4) {
            0 => self.memory.drop_clean_cache(&mut self.hw),
            1 => self.memory.discard(&mut self.hw, object, first..=first + 4),
            _ => {
                self.memory.prefetch(&mut self.hw, object, first, 8);
                0
            }
        };
    }

    fn step_write_back(&mut self) {
        let file = self.random.below(2) as usize;
        let (pager, object) = self.object(file);
        self.memory.write_back(&mut self.hw, object, mm::ALL_PAGES).unwrap();
        let model = &mut self.files[file];
        if file == 0 {
            // Not shared memory, which nobody else has.
            assert!(pager.0.borrow()[..] == model.bytes[..model.size], "all is stored");
            // What was stored behind the end is gone (FILE-2).
            model.bytes[model.size..].fill(0);
        }
    }

    /// One more address space, a child of the active one.
    fn step_fork(&mut self) {
        if self.others.len() + 1 == SPACES_MAX {
            return;
        }
        let used: Vec<u16> = self.others.iter().map(|other| other.asid).collect();
        let asid = (1..).find(|asid| *asid != self.asid && !used.contains(asid)).unwrap();
        let id = MmId(u32::from(asid));
        let Ok(mm) = fork(&mut self.mm, id, &mut self.memory, &mut self.hw) else {
            self.refused += 1;
            return;
        };
        self.others.push(Other { mm, pages: self.pages.clone(), asid });
    }

    /// Ends an address space that is not active, whoever its parent is.
    fn step_exit(&mut self) {
        if self.others.is_empty() {
            return;
        }
        let which = self.random.below(self.others.len() as u64) as usize;
        let mut other = self.others.swap_remove(which);
        other.mm.exit(&mut self.memory, &mut self.hw);
        self.hw.flush_asid(other.asid);
    }

    /// Another address space becomes the active one.
    fn step_switch(&mut self) {
        if self.others.is_empty() {
            return;
        }
        let which = self.random.below(self.others.len() as u64) as usize;
        let other = &mut self.others[which];
        std::mem::swap(&mut self.mm, &mut other.mm);
        std::mem::swap(&mut self.pages, &mut other.pages);
        std::mem::swap(&mut self.asid, &mut other.asid);
        if self.mm.take_stale() {
            self.hw.flush_asid(self.asid);
        }
        self.hw.activate(self.mm.root(), self.asid);
    }

    /// The kernel stores into an address space that is not active.
    fn step_remote(&mut self) {
        if self.others.is_empty() {
            return;
        }
        let which = self.random.below(self.others.len() as u64) as usize;
        let page = FIRST + self.random.below(COUNT);
        let byte = self.random.below(256) as u8;
        let other = &mut self.others[which];
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let stored = other.mm.write_remote(memory, hw, at(page), &[byte], Force::No);
        let is_short = matches!(stored, Err(Partial { error: FaultError::OutOfMemory { .. }, .. }));
        self.refused += u64::from(is_short);
        std::mem::swap(&mut self.pages, &mut self.others[which].pages);
        let expected = self.expected(page, Access::Write).map(<[u8]>::to_vec);
        match (stored, expected) {
            (Ok(()), Ok(bytes)) => self.store_model(page, 0, byte, bytes),
            (Err(partial), _) if is_short => assert_eq!(partial.done, 0),
            (stored, expected) => {
                assert_eq!(stored.map_err(|partial| partial.error), expected.map(|_| ()));
            }
        }
        std::mem::swap(&mut self.pages, &mut self.others[which].pages);
    }

    /// What the model says to an access, and the bytes of the page.
    fn expected(&self, page: u64, access: Access) -> Result<&[u8], FaultError> {
        static ZEROS: [u8; PAGE] = [0; PAGE];
        let addr = at(page);
        let model = self.pages.get(&page).ok_or(FaultError::NoVma { addr })?;
        let is_allowed = match access {
            Access::Write => model.rights.contains(Rights::WRITE),
            _ => !model.rights.is_empty(),
        };
        if !is_allowed {
            return Err(FaultError::Denied { addr });
        }
        match (&model.copy, model.file) {
            (Some(copy), _) => Ok(copy),
            (None, None) => Ok(&ZEROS),
            (None, Some((file, page))) => {
                let bytes = &self.files[file].bytes;
                bytes.get(page * PAGE..(page + 1) * PAGE).ok_or(FaultError::BusError { addr })
            }
        }
    }

    fn step_access(&mut self) {
        let page = FIRST + self.random.below(COUNT);
        let access = [Access::Read, Access::Write][self.random.below(2) as usize];
        let found = self.access(at(page), access);
        let expected = self.expected(page, access);
        if matches!(found, Err(FaultError::OutOfMemory { .. })) {
            assert!(matches!(expected, Ok(_) | Err(FaultError::BusError { .. })));
            self.refused += 1;
            return;
        }
        match (found, expected) {
            (Ok(()), Ok(expected)) => {
                let (physical, _) = self.hw.peek(self.mm.root(), at(page)).unwrap();
                let bytes = self.hw.ram.slice(physical, PAGE_BYTES);
                assert!(bytes == expected, "bytes of page {page:#x}");
                if access == Access::Write {
                    self.store(page);
                }
            }
            (found, expected) => assert_eq!(found, expected.map(|_| ())),
        }
    }

    fn store(&mut self, page: u64) {
        let (offset, byte) = (self.random.below(PAGE_BYTES) as usize, self.random.below(256) as u8);
        let (physical, _) = self.hw.peek(self.mm.root(), at(page)).unwrap();
        self.hw.store(physical.wrapping_add(offset as u64), &[byte]);
        let bytes = self.expected(page, Access::Write).unwrap().to_vec();
        self.store_model(page, offset, byte, bytes);
    }

    /// Notes a store to a page that had `bytes`.
    fn store_model(&mut self, page: u64, offset: usize, byte: u8, mut bytes: Vec<u8>) {
        bytes[offset] = byte;
        let model = self.pages.get_mut(&page).unwrap();
        match (model.sharing, model.file) {
            (Sharing::Shared, Some((file, page))) => {
                self.files[file].bytes[page * PAGE..(page + 1) * PAGE].copy_from_slice(&bytes);
            }
            _ => model.copy = Some(bytes),
        }
    }

    fn access(&mut self, addr: VirtAddr, access: Access) -> Result<(), FaultError> {
        for _ in 0..3 {
            match self.hw.access(addr, access) {
                Ok(place) => {
                    let walked = self.hw.peek(self.mm.root(), addr).map(|(place, _)| place);
                    assert_eq!(walked, Some(place), "a stale translation of {addr}");
                    return Ok(());
                }
                Err(fault) => {
                    handle_fault(&mut self.mm, &mut self.memory, &mut self.hw, fault)?;
                }
            }
        }
        panic!("the same fault again and again at {addr}");
    }

    fn finish(mut self) {
        self.files.clear();
        for frame in self.hogged {
            self.memory.give_kernel_frame(&mut self.hw, frame);
        }
        for mut other in self.others {
            other.mm.exit(&mut self.memory, &mut self.hw);
        }
        self.mm.exit(&mut self.memory, &mut self.hw);
        assert_eq!(check(&[], &self.memory, &self.hw), Ok(()));
        assert_eq!(self.memory.usage().anon, 0);
        assert_eq!(self.memory.shutdown(&mut self.hw), 0);
    }
}

/// Plays 800 steps for each seed (3,000 with swap), with `free_count` frames. Returns how many
/// accesses found none.
fn run(geometry: Geometry, free_count: u64, seeds: std::ops::Range<u64>) -> u64 {
    play(geometry, free_count, seeds, Swap::Off).0
}

/// The same with or without swap. Returns also how many pages left and came back.
fn play(
    geometry: Geometry,
    free_count: u64,
    seeds: std::ops::Range<u64>,
    swap: Swap,
) -> (u64, u64, u64) {
    let (mut refused, mut outs, mut ins) = (0, 0, 0);
    for seed in seeds {
        let mut world = World::new(geometry, seed * 0x9e37_79b9 + 1, swap, free_count < 500);
        while world.memory.usage().frames_free > free_count {
            world.hogged.extend(world.memory.take_kernel_frame(&mut world.hw));
        }
        let step_count = if swap == Swap::Off { 800 } else { 3000 };
        for _ in 0..step_count {
            world.step();
        }
        refused += world.refused;
        outs += world.memory.events().swap_outs;
        ins += world.memory.events().swap_ins;
        world.finish();
    }
    (refused, outs, ins)
}

#[test]
fn memory_calls_agree_with_the_model_in_every_geometry() {
    for geometry in Geometry::ALL {
        assert_eq!(run(geometry, 1000, 0..8), 0);
    }
}

#[test]
fn memory_calls_agree_with_the_model_when_frames_run_out() {
    assert!(run(Geometry::X86_64, 45, 100..116) > 0, "some access found no frame");
}

#[test]
fn pages_that_leave_ram_come_back_as_they_were() {
    for geometry in Geometry::ALL {
        let (_, outs, ins) = play(geometry, 66, 0..6, Swap::Slots(4096));
        assert!(outs > 300 && ins > 50, "{outs} pages left and {ins} came back");
    }
}

#[test]
fn a_full_swap_area_refuses_and_loses_nothing() {
    let (refused, outs, _) = play(Geometry::X86_64, 60, 0..12, Swap::Slots(8));
    assert!(refused > 0 && outs > 0, "{refused} refused, {outs} left");
}

#[test]
fn an_object_outlives_its_file_while_it_is_mapped() {
    let mut world = World::new(Geometry::X86_64, 1, Swap::Off, false);
    let (file, rights) = (world.files[0].real.take().unwrap().1, Rights::READ);
    let object = file.object;
    let request = MapRequest {
        addr: at(FIRST).as_u64(),
        bytes: PAGE_BYTES,
        rights,
        sharing: Sharing::Shared,
        flags: MapFlags::FIXED,
        source: MapSource::File { file, offset: 0 },
    };
    mmap(&mut world.mm, &mut world.memory, &mut world.hw, request).unwrap();
    assert_eq!(world.access(at(FIRST), Access::Read), Ok(()));
    world.memory.drop_object(&mut world.hw, object);
    assert_eq!(check(&[&world.mm], &world.memory, &world.hw), Ok(()));
    assert_eq!(world.access(at(FIRST), Access::Read), Ok(()));
    let backing = world.mm.vma_at(at(FIRST)).map(|vma| matches!(vma.backing, Backing::File(_)));
    assert_eq!(backing, Some(true));
    world.finish();
}
