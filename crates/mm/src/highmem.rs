//! Highmem: how the kernel of i386 gets at frames that have no address of their own.
//!
//! ```text
//!  kmap        pkmap: 1024 slots (512 with PAE) for all      counted, may have to wait
//!              next slot ──► ... ──► the last one ──► flush all unused ones, then slot 0
//!  kmap_local  fixmap: 16 slots for each CPU, a stack        last in, first out
//! ```
//! A frame of lowmem needs neither: its address is its logical one. The count of a slot is that of
//! Linux: 0 free; 1 unused, but the TLBs may know it still; n + 1 with n users.
//!
//! Nouns: [`Highmem`] (slots and their counts), [`KmapUsage`] (what is shown of them).
//!
//! The caller keeps the frame in use while it is mapped. Copying and clearing pages takes slots of
//! `kmap_local`, the strings of a new program those of `kmap` ([`Memory::write_mapped`]), which are
//! given back before anybody else runs: only tests hold all of them.
//!
//! Invariants
//! 1. A slot with count 0 is not mapped, any other maps its frame; a frame has one slot at most.
//! 2. Of the slots of `kmap_local`, the first ones are mapped, in the order in which they came.
//! 3. The page tables of these slots are made with the kernel's: taking one needs no frame. Copies
//!    and clearing of pages take two at most and give them back at once.
//!
//! # Source
//! Linux 6.12 `mm/highmem.c:map_new_virtual`, `kunmap_high`, `flush_all_zero_pkmaps`,
//! `__kmap_local_pfn_prot`; semantics I386-4.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use machine::{Frame, Machine, PAGE_BYTES, PhysAddr, Pte, VirtAddr, VirtRange};

use crate::error::MmError;
use crate::kernel_space::{KernelSpace, LEAF, RegionKind};
use crate::memory::Memory;

/// The slots of `kmap` and `kmap_local`.
#[derive(Debug, Default)]
pub(crate) struct Highmem {
    /// First address of pkmap.
    base: VirtAddr,
    /// Count and frame of each slot.
    slots: Vec<(u32, Frame)>,
    /// The slot of each frame that has one.
    slot_of: BTreeMap<u64, usize>,
    /// The slot given last.
    last: usize,
    flush_count: u64,
    /// How often `kmap` gave a slot.
    taken_count: u64,
    is_waited_for: bool,
    /// Address of the first slot of `kmap_local`; the others lie below it.
    local_first: VirtAddr,
    local_max: usize,
    /// Frames in slots of `kmap_local`, the newest at the end.
    local: Vec<Frame>,
    /// Whether there is highmem, and the tables of these slots are made.
    is_open: bool,
    /// How often a slot was taken.
    local_taken_count: u64,
}

/// What is known of the slots.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KmapUsage {
    /// Slots of pkmap.
    pub slot_count: usize,
    /// Those with users.
    pub used_count: usize,
    /// Those without, that are still mapped.
    pub stale_count: usize,
    /// How often `kmap` gave one: for strings of a new program.
    pub taken_count: u64,
    /// How often all unused ones were flushed.
    pub flush_count: u64,
    /// Slots of `kmap_local` in use.
    pub local_count: usize,
    /// How often one was taken: for pages that were copied or cleared.
    pub local_taken_count: u64,
}

impl Highmem {
    /// The free slots of a kernel's map; none on 64-bit machines.
    pub(crate) fn of(space: &KernelSpace) -> Self {
        let count = usize::try_from(space.pkmap_slots()).unwrap_or(0);
        let region = space.region(RegionKind::Pkmap);
        let locals = space.kmap_local_slots() / space.config().cpus;
        Self {
            base: region.map_or(VirtAddr::new(0), |region| region.first),
            slots: vec![(0, Frame::new(0)); count],
            local_first: space.kmap_local_addr().unwrap_or(VirtAddr::new(0)),
            local_max: usize::try_from(locals).unwrap_or(0),
            ..Self::default()
        }
    }

    const fn address(&self, slot: usize) -> VirtAddr {
        self.base.wrapping_add(slot as u64 * PAGE_BYTES)
    }

    const fn local_address(&self, slot: usize) -> VirtAddr {
        VirtAddr::new(self.local_first.as_u64().wrapping_sub(slot as u64 * PAGE_BYTES))
    }
}

impl Memory {
    /// The address of a frame for the kernel, for everybody and as long as it likes: its logical
    /// one, or a slot that counts its users.
    ///
    /// # Errors
    /// - [`MmError::Again`]: all slots are in use. The caller sleeps until [`Memory::kunmap`] says
    ///   that it is worth another try.
    /// - [`MmError::NoMemory`]: no frame for a page table.
    /// - [`MmError::InvalidArgument`]: no such frame, or the kernel has no address space.
    pub fn kmap(&mut self, hw: &mut Machine, frame: Frame) -> Result<VirtAddr, MmError> {
        if let Some(addr) = self.low_address(frame)? {
            return Ok(addr);
        }
        if let Some(&slot) = self.highmem.slot_of.get(&frame.number()) {
            self.highmem.slots[slot].0 += 1;
            self.highmem.taken_count += 1;
            return Ok(self.highmem.address(slot));
        }
        let slot = self.free_slot(hw)?;
        let addr = self.highmem.address(slot);
        self.write_kernel_page(hw, addr, Some(frame))?;
        self.highmem.last = slot;
        self.highmem.slots[slot] = (2, frame);
        self.highmem.taken_count += 1;
        self.highmem.slot_of.insert(frame.number(), slot);
        Ok(addr)
    }

    /// One user of a [`Memory::kmap`] less. The slot keeps the frame: the next `kmap` of it finds
    /// it there, unless the slots came round meanwhile. Returns whether who waits for a slot may
    /// try again.
    ///
    /// # Errors
    /// - [`MmError::InvalidArgument`]: the frame has no slot with users; nothing has changed.
    pub fn kunmap(&mut self, frame: Frame) -> Result<bool, MmError> {
        if self.low_address(frame)?.is_some() {
            return Ok(false);
        }
        let unused = MmError::InvalidArgument("kunmap of a frame that has no slot");
        let slot = *self.highmem.slot_of.get(&frame.number()).ok_or(unused)?;
        let count = &mut self.highmem.slots[slot].0;
        if *count < 2 {
            return Err(unused);
        }
        *count -= 1;
        let is_last = *count == 1;
        Ok(is_last && core::mem::take(&mut self.highmem.is_waited_for))
    }

    /// The address of a frame for the running task only, until [`Memory::kunmap_local`]; it never
    /// sleeps.
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: all slots of the CPU are in use, or no frame for a page table.
    /// - [`MmError::InvalidArgument`]: no such frame, or the kernel has no address space.
    pub fn kmap_local(&mut self, hw: &mut Machine, frame: Frame) -> Result<VirtAddr, MmError> {
        if let Some(addr) = self.low_address(frame)? {
            return Ok(addr);
        }
        let slot = self.highmem.local.len();
        if slot == self.highmem.local_max {
            return Err(MmError::NoMemory("all slots of kmap_local are in use"));
        }
        let addr = self.highmem.local_address(slot);
        self.write_kernel_page(hw, addr, Some(frame))?;
        self.highmem.local.push(frame);
        self.highmem.local_taken_count += 1;
        Ok(addr)
    }

    /// Gives the newest slot of [`Memory::kmap_local`] back.
    ///
    /// # Errors
    /// - [`MmError::InvalidArgument`]: `addr` is neither lowmem nor the newest slot; nothing has
    ///   changed.
    pub fn kunmap_local(&mut self, hw: &mut Machine, addr: VirtAddr) -> Result<(), MmError> {
        let newest = self.highmem.local.len().checked_sub(1);
        let newest = newest.map(|slot| self.highmem.local_address(slot));
        let page = VirtAddr::new(addr.as_u64() & !(PAGE_BYTES - 1));
        if newest == Some(page) {
            self.write_kernel_page(hw, page, None)?;
            self.highmem.local.pop();
            hw.flush_page(page);
            return Ok(());
        }
        match self.kernel_space().and_then(|space| space.pa(addr)) {
            Some(_) => Ok(()),
            None => Err(MmError::InvalidArgument("not the newest slot of kmap_local")),
        }
    }

    /// Makes the page tables of the slots of `kmap_local` and, if there is highmem, of `kmap`.
    /// `None`: no frame for one.
    ///
    /// # Source
    /// Linux 6.12 `arch/x86/mm/init_32.c:permanent_kmaps_init`.
    pub(crate) fn open_local_slots(&mut self, hw: &mut Machine) -> Option<()> {
        for slot in 0..self.highmem.local_max {
            self.kernel_slot(hw, self.highmem.local_address(slot))?;
        }
        let space = self.kernel_space();
        self.highmem.is_open = space.is_some_and(|space| space.high_bytes() > 0);
        if self.highmem.is_open {
            for slot in 0..self.highmem.slots.len() {
                self.kernel_slot(hw, self.highmem.address(slot))?;
            }
        }
        Some(())
    }

    /// Writes bytes to one page of a program that does not run yet, by the address that `kmap` has
    /// for its frame.
    ///
    /// # Errors
    /// - [`MmError::Again`]: all slots are in use; nothing is written.
    /// - Others of [`Memory::kmap`], likewise.
    ///
    /// # Panics
    /// If `kmap` says that it has mapped what it has not.
    ///
    /// # Source
    /// Linux until 6.0 `fs/exec.c:copy_strings` (`kmap`; later `kmap_local_page`): the kernels
    /// whose map this is had `kmap` there.
    pub fn write_mapped(
        &mut self,
        hw: &mut Machine,
        place: PhysAddr,
        bytes: &[u8],
    ) -> Result<(), MmError> {
        debug_assert!(place.page_offset() + bytes.len() as u64 <= PAGE_BYTES, "one page");
        if !self.has_highmem() {
            hw.store(place, bytes);
            return Ok(());
        }
        let addr = self.kmap(hw, place.frame())?;
        let found = self.kernel_root().and_then(|root| hw.peek(root, addr));
        let (page, _) = found.expect("kmap has mapped it");
        hw.store(page.wrapping_add(place.page_offset()), bytes);
        self.kunmap(place.frame())?;
        Ok(())
    }

    /// Copies a page of a program: each side by the address that the kernel has for it, a slot of
    /// `kmap_local` for a frame of highmem.
    ///
    /// # Source
    /// Linux 6.12 `include/linux/highmem.h:copy_user_highpage`.
    pub(crate) fn copy_page(&mut self, hw: &mut Machine, from: Frame, to: Frame) {
        if !self.has_highmem() {
            return hw.ram.copy_frame(from, to);
        }
        let (source, from) = self.open_page(hw, from);
        let (target, to) = self.open_page(hw, to);
        hw.ram.copy_frame(from, to);
        self.close_page(hw, target);
        self.close_page(hw, source);
    }

    /// Fills a page with zeros, likewise.
    ///
    /// # Source
    /// Linux 6.12 `include/linux/highmem.h:clear_highpage`.
    #[inline]
    pub(crate) fn clear_page(&mut self, hw: &mut Machine, frame: Frame) {
        if !self.has_highmem() {
            return hw.ram.zero_frame(frame);
        }
        let (addr, frame) = self.open_page(hw, frame);
        hw.ram.zero_frame(frame);
        self.close_page(hw, addr);
    }

    /// Whether some frames have no address of their own.
    #[inline]
    fn has_highmem(&self) -> bool {
        self.highmem.is_open
    }

    /// An address of the kernel for a frame, and the frame that the page tables have there.
    fn open_page(&mut self, hw: &mut Machine, frame: Frame) -> (VirtAddr, Frame) {
        let addr = self.kmap_local(hw, frame).expect("invariant 3: two slots are free");
        let root = self.kernel_root().expect("a kernel with highmem has tables");
        let (place, _) = hw.peek(root, addr).expect("invariant 2: it is mapped");
        (addr, place.frame())
    }

    fn close_page(&mut self, hw: &mut Machine, addr: VirtAddr) {
        self.kunmap_local(hw, addr).expect("invariant 3: the newest is given back first");
    }

    /// What is known of the slots.
    pub fn kmap_usage(&self) -> KmapUsage {
        let slots = &self.highmem.slots;
        KmapUsage {
            slot_count: slots.len(),
            used_count: slots.iter().filter(|slot| slot.0 > 1).count(),
            stale_count: slots.iter().filter(|slot| slot.0 == 1).count(),
            taken_count: self.highmem.taken_count,
            flush_count: self.highmem.flush_count,
            local_count: self.highmem.local.len(),
            local_taken_count: self.highmem.local_taken_count,
        }
    }

    /// The logical address of a frame, if it has one.
    fn low_address(&self, frame: Frame) -> Result<Option<VirtAddr>, MmError> {
        if frame.number() >= self.frames.len() as u64 {
            return Err(MmError::InvalidArgument("no such frame"));
        }
        let space = self.kernel_space();
        let space = space.ok_or(MmError::InvalidArgument("the kernel has no address space"))?;
        Ok(space.va(frame.start()))
    }

    /// The next slot with count 0; when the slots come round, all unused ones are flushed first.
    fn free_slot(&mut self, hw: &mut Machine) -> Result<usize, MmError> {
        let count = self.highmem.slots.len();
        let mut slot = self.highmem.last;
        for _ in 0..count {
            slot = (slot + 1) % count;
            if slot == 0 {
                self.flush_slots(hw)?;
            }
            if self.highmem.slots[slot].0 == 0 {
                return Ok(slot);
            }
        }
        self.highmem.is_waited_for = true;
        Err(MmError::Again)
    }

    /// Unmaps the slots without users, and makes the TLBs forget them.
    fn flush_slots(&mut self, hw: &mut Machine) -> Result<(), MmError> {
        for slot in 0..self.highmem.slots.len() {
            let (count, frame) = self.highmem.slots[slot];
            if count == 1 {
                self.write_kernel_page(hw, self.highmem.address(slot), None)?;
                self.highmem.slot_of.remove(&frame.number());
                self.highmem.slots[slot].0 = 0;
            }
        }
        let end = self.highmem.address(self.highmem.slots.len());
        hw.flush_range(VirtRange::new(self.highmem.base, end));
        self.highmem.flush_count += 1;
        Ok(())
    }

    /// Maps one page of the kernel to a frame, or to nothing.
    fn write_kernel_page(
        &mut self,
        hw: &mut Machine,
        addr: VirtAddr,
        frame: Option<Frame>,
    ) -> Result<(), MmError> {
        let no_table = MmError::NoMemory("no frame for the kernel's page tables");
        let slot = self.kernel_slot(hw, addr).ok_or(no_table)?;
        let bits = if hw.geometry().has_nx() { LEAF } else { LEAF.without(Pte::NX) };
        let pte = frame.map_or(Pte::EMPTY, |frame| Pte::new(frame, bits));
        hw.geometry().store(&mut hw.ram, slot, pte);
        Ok(())
    }

    /// Invariants 1 and 2. Returns what is wrong.
    pub(crate) fn check_highmem(&self, hw: &Machine) -> Result<(), &'static str> {
        let mapped = |addr| {
            let found = self.kernel_root().and_then(|root| hw.peek(root, addr));
            found.map(|found| found.0.frame())
        };
        let highmem = &self.highmem;
        for (slot, &(count, frame)) in highmem.slots.iter().enumerate() {
            let expected = (count > 0).then_some(frame);
            let known = highmem.slot_of.get(&frame.number()) == Some(&slot);
            if mapped(highmem.address(slot)) != expected || known != expected.is_some() {
                return Err("a slot of pkmap is mapped wrongly");
            }
        }
        for slot in 0..highmem.local_max {
            if mapped(highmem.local_address(slot)) != highmem.local.get(slot).copied() {
                return Err("a slot of kmap_local is mapped wrongly");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use machine::{Geometry, PhysAddr};

    use super::*;
    use crate::testing::{RW, World, at, pages};

    /// A machine of 2 GiB, and its first frames of highmem.
    fn world(geometry: Geometry) -> (World, u64) {
        let world = World::with_kernel(1 << 19, geometry);
        let space = world.memory.kernel_space().expect("it is mapped");
        let first = space.low_bytes() / PAGE_BYTES;
        assert!(space.high_bytes() > 1 << 30);
        (world, first)
    }

    #[test]
    fn i386_4_lowmem_has_its_logical_address_and_highmem_a_counted_slot() {
        let (mut world, first) = world(Geometry::I386);
        let low = world.memory.kmap(&mut world.hw, Frame::new(5)).expect("lowmem");
        assert_eq!(low.as_u64(), 0xc000_5000);
        let high = Frame::new(first + 7);
        let addr = world.memory.kmap(&mut world.hw, high).expect("there is room");
        let pkmap = world.memory.kernel_space().and_then(|space| space.region(RegionKind::Pkmap));
        let pkmap = pkmap.expect("i386 has one").first;
        assert_eq!(addr.offset_from(pkmap), PAGE_BYTES, "slot 1 is the first");
        assert_eq!(world.memory.kmap(&mut world.hw, high), Ok(addr), "one slot for a frame");
        let root = world.spaces[0].root();
        assert_eq!(world.hw.peek(root, addr).map(|found| found.0.frame()), Some(high));
        world.check();
        assert_eq!(world.memory.kunmap(high), Ok(false));
        assert_eq!(world.memory.kunmap(high), Ok(false));
        assert!(world.memory.kunmap(high).is_err(), "no user is left");
        let usage = world.memory.kmap_usage();
        assert_eq!((usage.used_count, usage.stale_count), (0, 1), "mapped until the flush");
        assert_eq!(world.memory.kmap(&mut world.hw, high), Ok(addr), "and found again");
        assert!(world.memory.kmap(&mut world.hw, Frame::new(1 << 30)).is_err());
        world.check();
        world.finish();
    }

    #[test]
    fn i386_4_slots_come_round_with_a_flush_and_who_finds_none_waits() {
        for (geometry, slots) in [(Geometry::I386, 1024), (Geometry::Pae, 512)] {
            let (mut world, first) = world(geometry);
            let frame = |number: u64| Frame::new(first + number);
            // One slot is used throughout, the others once each: they are flushed together.
            world.memory.kmap(&mut world.hw, frame(0)).expect("there is room");
            for number in 1..slots - 1 {
                world.memory.kmap(&mut world.hw, frame(number)).expect("there is room");
                world.memory.kunmap(frame(number)).expect("it has a slot");
            }
            let usage = world.memory.kmap_usage();
            assert_eq!((usage.slot_count as u64, usage.flush_count), (slots, 0));
            assert_eq!(usage.stale_count as u64, slots - 2);
            world.check();
            let addr = world.memory.kmap(&mut world.hw, frame(slots)).expect("there is room");
            let usage = world.memory.kmap_usage();
            assert_eq!((usage.used_count, usage.stale_count, usage.flush_count), (2, 0, 1));
            assert_eq!(addr.as_u64() & 0x1f_ffff, 0, "slot 0, after the flush");
            world.check();
            // All slots in use: the next one waits until one is given back.
            let mut next = slots + 1;
            while world.memory.kmap_usage().used_count < usage.slot_count {
                world.memory.kmap(&mut world.hw, frame(next)).expect("there is room");
                next += 1;
            }
            assert_eq!(world.memory.kmap(&mut world.hw, frame(next)), Err(MmError::Again));
            world.check();
            assert_eq!(world.memory.kunmap(frame(0)), Ok(true), "who waits may try again");
            world.memory.kmap(&mut world.hw, frame(next)).expect("there is room");
            assert_eq!(world.memory.kunmap(frame(next)), Ok(false), "nobody waits");
            world.check();
            world.finish();
        }
    }

    /// Pages that programs copy and clear lie in highmem first: each goes through a slot.
    #[test]
    fn i386_4_pages_of_highmem_are_copied_and_cleared_by_kmap_local() {
        for geometry in [Geometry::I386, Geometry::Pae] {
            let (mut world, first) = world(geometry);
            world.map(pages(0x100, 4), RW);
            world.map(pages(0x180, 4), RW);
            let frame = |world: &mut World, space: usize, page: u64| {
                let root = world.spaces[space].root();
                world.hw.peek(root, at(page)).expect("it is mapped").0.frame()
            };
            world.write(at(0x180)).expect("it is mapped");
            world.write(at(0x101)).expect("it is mapped");
            let old = frame(&mut world, 0, 0x101);
            assert!(old.number() >= first, "{geometry:?}: highmem is taken first");
            world.hw.store(old.start(), b"highmem");
            world.fork();
            let before = world.memory.kmap_usage();
            world.write(at(0x101)).expect("it is mapped");
            let new = frame(&mut world, 0, 0x101);
            let mut bytes = [0; 7];
            world.hw.load(new.start(), &mut bytes);
            assert!(new != old && &bytes == b"highmem", "{geometry:?}: {bytes:?}");
            let after = world.memory.kmap_usage();
            assert_eq!(after.local_taken_count - before.local_taken_count, 2, "{geometry:?}");
            assert_eq!(after.local_count, 0);
            // A frame that was somebody's is cleared for the next one.
            world.hw.store(new.start(), b"secrets");
            world.unmap(pages(0x100, 4));
            world.write(at(0x181)).expect("it is mapped");
            let again = frame(&mut world, 0, 0x181);
            world.hw.load(again.start(), &mut bytes);
            assert!(again == new && bytes == [0; 7], "{geometry:?}: {bytes:?}");
            assert_eq!(world.memory.kmap_usage().local_taken_count, after.local_taken_count + 1);
            world.check();
            world.finish();
        }
    }

    #[test]
    fn bytes_are_written_through_a_slot_that_is_given_back() {
        let (mut world, first) = world(Geometry::Pae);
        let place = |number: u64| Frame::new(first + number).start().wrapping_add(100);
        let World { memory, hw, .. } = &mut world;
        memory.write_mapped(hw, place(3), b"strings").expect("a slot is free");
        memory.write_mapped(hw, place(3), b"S").expect("it has one still");
        memory.write_mapped(hw, PhysAddr::new(0x9000), b"low").expect("lowmem needs none");
        let mut bytes = [0; 7];
        hw.load(place(3), &mut bytes);
        assert_eq!(&bytes, b"Strings");
        let usage = memory.kmap_usage();
        assert_eq!((usage.taken_count, usage.used_count, usage.stale_count), (2, 0, 1));
        for number in 0..512 {
            memory.kmap(hw, Frame::new(first + 10 + number)).expect("a slot is free");
        }
        assert_eq!(memory.write_mapped(hw, place(3), b"x"), Err(MmError::Again), "all in use");
        hw.load(place(3), &mut bytes);
        assert_eq!(&bytes, b"Strings");
        for number in 0..512 {
            memory.kunmap(Frame::new(first + 10 + number)).expect("it was mapped");
        }
        world.check();
        world.finish();
    }

    #[test]
    fn i386_4_kmap_local_is_a_stack_of_16_for_each_cpu() {
        let (mut world, first) = world(Geometry::Pae);
        let frame = |number: u64| Frame::new(first + number);
        let mut addrs = Vec::new();
        for number in 0..16 {
            addrs.push(world.memory.kmap_local(&mut world.hw, frame(number)).expect("room"));
        }
        let space = world.memory.kernel_space().expect("it is mapped");
        let kinds = addrs.iter().map(|&addr| space.region_of(addr).map(|region| region.kind));
        assert!(kinds.into_iter().all(|kind| kind == Some(RegionKind::Fixmap)));
        assert_eq!(addrs[0].offset_from(addrs[1]), PAGE_BYTES, "downwards");
        let full = world.memory.kmap_local(&mut world.hw, frame(16));
        assert!(matches!(full, Err(MmError::NoMemory(_))), "it never sleeps");
        world.check();
        assert!(world.memory.kunmap_local(&mut world.hw, addrs[3]).is_err(), "not the newest");
        for addr in addrs.into_iter().rev() {
            let inside = addr.wrapping_add(123);
            world.memory.kunmap_local(&mut world.hw, inside).expect("the newest");
        }
        let low = world.memory.kmap_local(&mut world.hw, Frame::new(9)).expect("lowmem");
        let space = world.memory.kernel_space().expect("it is mapped");
        assert_eq!(space.pa(low), Some(PhysAddr::new(0x9000)));
        world.memory.kunmap_local(&mut world.hw, low).expect("lowmem needs no slot");
        world.check();
        world.finish();
    }
}
