//! A small machine with one or two address spaces, checked after every step.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::RefCell;

use machine::{
    Access, FastPath, FaultLabel, Frame, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES,
    PageFault, Privilege, TlbMode, VirtAddr, VirtRange, tlb_default,
};

use crate::backing::{Backing, FileKind, MappedFile, MmId, ObjectId};
use crate::check::check;
use crate::error::{FaultError, PagerError};
use crate::fault::{FaultKind, handle_fault};
use crate::kernel_space::{KernelSpace, SpaceConfig};
use crate::memory::Memory;
use crate::page_table::{Zap, protect, zap};
use crate::pager::Pager;
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::{Layout, Limits, Mm};
use crate::swap::{LATENCIES, PackedStore, SwapStore};
use crate::vma::Vma;

/// Reading and writing.
pub(crate) const RW: Rights = Rights::READ.union(Rights::WRITE);

/// An object of bytes in host memory. Byte `i` of page `p` of a new one is `p + i`, never 0.
#[derive(Clone, Debug)]
pub(crate) struct BytePager(Rc<RefCell<Vec<u8>>>);

impl BytePager {
    pub(crate) fn new(size_bytes: usize) -> Self {
        let bytes = (0..size_bytes).map(|i| file_byte(i as u64)).collect();
        Self(Rc::new(RefCell::new(bytes)))
    }
}

/// The byte of a new [`BytePager`] at `offset`.
pub(crate) fn file_byte(offset: u64) -> u8 {
    ((offset / PAGE_BYTES + offset) % 255 + 1) as u8
}

impl Pager for BytePager {
    fn fill(&mut self, index: u64, page: &mut [u8]) -> Result<(), PagerError> {
        let start = (index * PAGE_BYTES) as usize;
        let bytes = self.0.borrow();
        let rest = bytes.get(start..).ok_or(PagerError::NoPage { index })?;
        let count = rest.len().min(page.len());
        page[..count].copy_from_slice(&rest[..count]);
        page[count..].fill(0xee);
        Ok(())
    }

    fn store(&mut self, index: u64, page: &[u8]) -> Result<(), PagerError> {
        let start = (index * PAGE_BYTES) as usize;
        self.0.borrow_mut()[start..start + page.len()].copy_from_slice(page);
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        self.0.borrow().len() as u64
    }
}

/// A machine, its memory and its address spaces.
pub(crate) struct World {
    pub(crate) hw: Machine,
    pub(crate) memory: Memory,
    pub(crate) spaces: Vec<Mm>,
    /// Bytes of the files.
    files: BTreeMap<ObjectId, BytePager>,
}

/// An address by number of its page.
pub(crate) fn at(page: u64) -> VirtAddr {
    VirtAddr::new(page * PAGE_BYTES)
}

/// A range by number of its first page and its length.
pub(crate) fn pages(first: u64, count: u64) -> VirtRange {
    VirtRange::new(at(first), at(first + count))
}

impl World {
    pub(crate) fn new(frame_count: u64) -> Self {
        Self::with_geometry(frame_count, Geometry::X86_64)
    }

    /// A machine whose private pages go to `store` when frames run short.
    pub(crate) fn with_swap(frame_count: u64, slots: u32, store: Box<dyn SwapStore>) -> Self {
        Self::make(frame_count, Geometry::X86_64, Some((slots, store)))
    }

    pub(crate) fn with_geometry(frame_count: u64, geometry: Geometry) -> Self {
        Self::make(frame_count, geometry, None)
    }

    /// The same with one of the policies.
    pub(crate) fn with_policy(frame_count: u64, slots: u32, name: &str) -> Self {
        let mut world = Self::with_swap(frame_count, slots, Box::new(PackedStore::new()));
        let policy = crate::replacement::policy(name).expect("it is in the list");
        world.memory.set_policy((policy.make)(1));
        world
    }

    /// A machine whose address spaces have the kernel's page tables.
    pub(crate) fn with_kernel(frame_count: u64, geometry: Geometry) -> Self {
        let config = SpaceConfig::new(geometry, frame_count * PAGE_BYTES);
        let space = KernelSpace::new(config).expect("such a kernel can be");
        let mut hw = Self::machine((frame_count, 0), geometry);
        let memory = Memory::with_kernel(&mut hw, space).expect("there are frames");
        Self::first_space(hw, memory)
    }

    /// A machine with a device that has memory of its own.
    pub(crate) fn with_device(frame_count: u64, device_pages: u64) -> Self {
        Self::on(Self::machine((frame_count, device_pages), Geometry::X86_64), None)
    }

    fn make(frame_count: u64, geometry: Geometry, swap: Option<(u32, Box<dyn SwapStore>)>) -> Self {
        Self::on(Self::machine((frame_count, 0), geometry), swap)
    }

    fn machine((frame_count, device_pages): (u64, u64), geometry: Geometry) -> Machine {
        let config = MachineConfig {
            ram_bytes: frame_count * PAGE_BYTES,
            geometry,
            tlb: TlbMode::Model(*tlb_default()),
            reference: FastPath::Empty,
            keep: Keep::Events,
            boot_seconds: 0,
        };
        let hw = Machine::with_device(config, device_pages * PAGE_BYTES);
        hw.expect("the test machine is small")
    }

    fn on(mut hw: Machine, swap: Option<(u32, Box<dyn SwapStore>)>) -> Self {
        let mut memory = Memory::new(&mut hw).expect("there are frames");
        if let Some((slots, store)) = swap {
            memory.swap_on(slots, store, LATENCIES[0]);
        }
        Self::first_space(hw, memory)
    }

    fn first_space(hw: Machine, memory: Memory) -> Self {
        let mut world = Self { hw, memory, spaces: Vec::new(), files: BTreeMap::new() };
        world.add_space();
        world.activate(0);
        world
    }

    fn add_space(&mut self) {
        let layout = Layout {
            min_address: VirtAddr::new(0x1_0000),
            task_end: VirtAddr::new(1 << 31),
            ..Layout::default()
        };
        let id = MmId(self.spaces.len() as u32 + 1);
        let mm = Mm::new(id, layout, Limits::default(), &mut self.memory, &mut self.hw);
        self.spaces.push(mm.expect("there are frames"));
    }

    pub(crate) fn activate(&mut self, space: usize) {
        if self.spaces[space].take_stale() {
            self.hw.flush_asid(space as u16);
        }
        self.hw.activate(self.spaces[space].root(), space as u16);
    }

    pub(crate) fn check(&self) {
        let spaces: Vec<&Mm> = self.spaces.iter().collect();
        assert_eq!(check(&spaces, &self.memory, &self.hw), Ok(()));
    }

    pub(crate) fn map(&mut self, range: VirtRange, rights: Rights) {
        self.map_vma(range, rights, Sharing::Private, VmaFlags::empty(), None);
    }

    pub(crate) fn map_file(
        &mut self,
        range: VirtRange,
        rights: Rights,
        sharing: Sharing,
        file: &Arc<MappedFile>,
        page_offset: u64,
    ) {
        let file = Some((Arc::clone(file), page_offset));
        self.map_vma(range, rights, sharing, VmaFlags::empty(), file);
    }

    /// Maps a shared file from its start in any space.
    pub(crate) fn map_shared(&mut self, space: usize, range: VirtRange, file: &Arc<MappedFile>) {
        let file = Some((Arc::clone(file), 0));
        self.map_vma_of(space, range, RW, Sharing::Shared, VmaFlags::empty(), file);
    }

    pub(crate) fn map_vma(
        &mut self,
        range: VirtRange,
        rights: Rights,
        sharing: Sharing,
        flags: VmaFlags,
        file: Option<(Arc<MappedFile>, u64)>,
    ) {
        self.map_vma_of(0, range, rights, sharing, flags, file);
    }

    fn map_vma_of(
        &mut self,
        space: usize,
        range: VirtRange,
        rights: Rights,
        sharing: Sharing,
        flags: VmaFlags,
        file: Option<(Arc<MappedFile>, u64)>,
    ) {
        let (backing, page_offset) = match file {
            None => (Backing::Anon, range.start.page().number()),
            Some((file, page_offset)) => (Backing::File(file), page_offset),
        };
        let may = Rights::all();
        let vma = Vma {
            range,
            rights,
            may,
            sharing,
            flags,
            backing,
            page_offset,
            anon: None,
            fault_count: 0,
            history: crate::swap::History::default(),
        };
        let mm = &mut self.spaces[space];
        mm.totals.add(&vma, range.pages());
        mm.vmas.insert(vma);
        self.check();
    }

    pub(crate) fn add_file(&mut self, size_bytes: usize, kind: FileKind) -> Arc<MappedFile> {
        let pager = BytePager::new(size_bytes);
        let object = self.memory.add_object(Box::new(pager.clone()), kind);
        self.files.insert(object, pager);
        self.mapped(object, kind)
    }

    pub(crate) fn mapped(&self, object: ObjectId, kind: FileKind) -> Arc<MappedFile> {
        let (path, may) = (Box::from(*b"/f"), Rights::all());
        Arc::new(MappedFile { object, path, device: (0, 1), inode: 2, kind, may })
    }

    /// Removes the whole VMAs inside `range` from the first space.
    pub(crate) fn unmap(&mut self, range: VirtRange) {
        self.unmap_of(0, range);
    }

    /// The same of any space.
    pub(crate) fn unmap_of(&mut self, space: usize, range: VirtRange) {
        self.activate(space);
        let mm = &mut self.spaces[space];
        let starts: Vec<VirtAddr> =
            mm.vmas().map(|v| v.range.start).filter(|&start| range.contains(start)).collect();
        let mut backings = Vec::new();
        for start in starts {
            let vma = mm.vmas.remove(start).expect("it was just seen");
            mm.totals.remove(&vma, vma.range.pages());
            backings.push(vma.backing);
        }
        zap(mm, &mut self.memory, &mut self.hw, range, Zap::All);
        let below = mm.vmas.last_starting_below(range.start).map(|vma| vma.range.end);
        let above = mm.vmas.first_ending_above(range.end).map(|vma| vma.range.start);
        let all = mm.tables.user_range();
        let bounds = VirtRange::new(below.unwrap_or(all.start), above.unwrap_or(all.end));
        mm.tables.free_tables(&mut self.memory, &mut self.hw, range, bounds);
        for backing in backings {
            self.memory.release_backing(&mut self.hw, backing);
        }
        self.check();
    }

    /// Tells the page cache that a file of bytes has another size now, and every space.
    pub(crate) fn resize(&mut self, object: ObjectId, size_bytes: u64) {
        self.files[&object].0.borrow_mut().resize(size_bytes as usize, 0);
        let mut spaces: Vec<&mut Mm> = self.spaces.iter_mut().collect();
        self.memory.truncate_object(&mut spaces, &mut self.hw, object, size_bytes);
        self.flush_stale();
        self.check();
    }

    /// Stores all dirty pages of an object.
    pub(crate) fn write_back(&mut self, object: ObjectId) {
        let stored = self.memory.write_back(&mut self.hw, object, crate::ALL_PAGES);
        assert!(stored.is_ok(), "{stored:?}");
        self.flush_stale();
        self.check();
    }

    /// Flushes every space that says that it is stale.
    fn flush_stale(&mut self) {
        for (asid, mm) in self.spaces.iter_mut().enumerate() {
            if mm.take_stale() {
                self.hw.flush_asid(asid as u16);
            }
        }
    }

    /// Changes the rights of the VMA at `range`, which is all of it.
    pub(crate) fn set_rights(&mut self, range: VirtRange, rights: Rights) {
        let mm = &mut self.spaces[0];
        let mut vma = mm.vmas.remove(range.start).expect("it is there");
        mm.totals.remove(&vma, range.pages());
        vma.rights = rights;
        mm.totals.add(&vma, range.pages());
        mm.vmas.insert(vma);
        protect(mm, &mut self.memory, &mut self.hw, range).flush(&mut mm.tables, &mut self.hw);
        self.check();
    }

    /// A second space with copies of the private pages of the first, as fork makes it.
    pub(crate) fn fork(&mut self) {
        self.fork_of(0);
    }

    /// One more space, as fork makes it of `parent`.
    pub(crate) fn fork_of(&mut self, parent: usize) {
        self.activate(parent);
        let id = MmId(self.spaces.len() as u32 + 1);
        let child = crate::ops::fork(&mut self.spaces[parent], id, &mut self.memory, &mut self.hw);
        self.spaces.push(child.expect("there are frames"));
        self.check();
    }

    /// Ends the last space.
    pub(crate) fn exit(&mut self) {
        self.exit_at(self.spaces.len() - 1);
    }

    /// Ends a space; those behind it move up.
    pub(crate) fn exit_at(&mut self, space: usize) {
        let mut mm = self.spaces.remove(space);
        mm.exit(&mut self.memory, &mut self.hw);
        for asid in space..=self.spaces.len() {
            self.hw.flush_asid(asid as u16);
        }
        self.check();
    }

    /// Changes the rights of a range as `mprotect` does.
    pub(crate) fn mprotect(&mut self, space: usize, range: VirtRange, rights: Rights) {
        self.activate(space);
        let how = (rights, crate::ops::ProtectFlags::empty());
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let done = crate::ops::mprotect(
            &mut self.spaces[space],
            memory,
            hw,
            range.start,
            range.bytes(),
            how,
        );
        done.expect("the range is mapped");
        self.check();
    }

    /// Makes an access in `space` and handles its faults; the kinds in order.
    pub(crate) fn touch(
        &mut self,
        space: usize,
        addr: VirtAddr,
        access: Access,
    ) -> Result<Vec<FaultKind>, FaultError> {
        self.activate(space);
        let mut kinds = Vec::new();
        loop {
            let tried = match access {
                Access::Fetch => self.hw.fetch(addr, 0),
                _ => self.hw.access(addr, access),
            };
            match tried {
                Ok(_) => return Ok(kinds),
                Err(fault) => {
                    let mm = &mut self.spaces[space];
                    let kind = handle_fault(mm, &mut self.memory, &mut self.hw, fault);
                    self.check();
                    kinds.push(kind?);
                }
            }
            assert!(kinds.len() < 4, "the same fault again and again: {kinds:?}");
        }
    }

    pub(crate) fn read(&mut self, addr: VirtAddr) -> Result<Vec<FaultKind>, FaultError> {
        self.touch(0, addr, Access::Read)
    }

    pub(crate) fn write(&mut self, addr: VirtAddr) -> Result<Vec<FaultKind>, FaultError> {
        self.touch(0, addr, Access::Write)
    }

    /// The byte that `space` sees at `addr`.
    pub(crate) fn peek(&mut self, space: usize, addr: VirtAddr) -> Result<u8, FaultError> {
        self.touch(space, addr, Access::Read)?;
        let mut byte = [0];
        let (physical, _) =
            self.hw.peek(self.spaces[space].root(), addr).expect("it was just read");
        self.hw.load(physical, &mut byte);
        Ok(byte[0])
    }

    /// Stores a byte of `space`.
    pub(crate) fn poke(
        &mut self,
        space: usize,
        addr: VirtAddr,
        byte: u8,
    ) -> Result<(), FaultError> {
        self.touch(space, addr, Access::Write)?;
        let (physical, _) =
            self.hw.peek(self.spaces[space].root(), addr).expect("it was just written");
        self.hw.store(physical, &[byte]);
        Ok(())
    }

    /// What the pages of `range` in the first space name.
    pub(crate) fn frames(&self, range: VirtRange) -> Vec<Option<Frame>> {
        let frame = |page| {
            let (physical, _) = self.hw.peek(self.spaces[0].root(), at(page))?;
            Some(physical.frame())
        };
        (range.start.page().number()..range.end.page().number()).map(frame).collect()
    }

    /// Anonymous, file and shmem pages of the first space.
    pub(crate) fn rss(&self) -> (u64, u64, u64) {
        let rss = self.spaces[0].rss(&self.memory);
        (rss.anon_pages, rss.file_pages, rss.shmem_pages)
    }

    pub(crate) fn count(&self, label: FaultLabel) -> u64 {
        self.spaces[0].faults().of(label)
    }

    /// Ends all spaces and the memory; no frame may be missing.
    pub(crate) fn finish(mut self) {
        while !self.spaces.is_empty() {
            self.exit();
        }
        assert_eq!(self.memory.usage().page_table, 0);
        assert_eq!(self.memory.usage().anon, 0);
        assert_eq!(self.memory.shutdown(&mut self.hw), 0);
    }

    /// A fault as the hardware would report it, for what no test program does.
    pub(crate) fn fault(
        &mut self,
        addr: VirtAddr,
        access: Access,
        refusal: machine::Refusal,
    ) -> Result<FaultKind, FaultError> {
        let fault = PageFault { addr, access, privilege: Privilege::User, refusal };
        let kind = handle_fault(&mut self.spaces[0], &mut self.memory, &mut self.hw, fault);
        self.check();
        kind
    }
}
