//! Areas above the direct map: pages from anywhere in RAM, or of a device, one behind the other.
//!
//! ```text
//!  | area: 4 pages, 4 frames |guard|  hole (alignment)  | area: ioremap of 1 page |guard| ...
//! ```
//! Takes the lowest addresses that fit, maps page by page in the kernel's tables, where every
//! address space sees it, and leaves one page unmapped behind each area.
//!
//! Nouns: [`Area`] (what is known of one), [`AreaUse`] (what it is for).
//!
//! Stacks of tasks are such areas, and the memory of the test device.
//!
//! Does not flush TLBs: programs cannot reach these pages, and the kernel is not executed, so no
//! translation of them is ever kept.
//!
//! Invariants
//! 1. Areas and gaps lie in order, touch, and fill the region.
//! 2. Frames of state `Vmalloc` are exactly the pages of areas, each once, mapped where it says.
//!
//! # Source
//! Linux 6.12 `mm/vmalloc.c`, `arch/x86/mm/ioremap.c`; semantics VMALLOC-1, I386-3, K64-1.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use machine::{Frame, Machine, PAGE_BYTES, PhysAddr, Pte, VirtAddr};

use crate::error::MmError;
use crate::folio::{FrameState, Owner};
use crate::kernel_space::{LEAF, RegionKind};
use crate::memory::Memory;
use crate::slab::{Cache, Objects};

/// What an area is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AreaUse {
    /// Frames of its own.
    Vmalloc,
    /// Registers of a device at this physical address, which is no RAM.
    Ioremap(PhysAddr),
}

/// What is known of an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Area {
    /// First byte.
    pub start: VirtAddr,
    /// Pages, without the guard.
    pub page_count: u64,
    /// What it is for.
    pub purpose: AreaUse,
    /// Who asked for it, in `/proc/vmallocinfo`.
    pub caller: &'static str,
}

impl Area {
    /// Bytes with the guard page, as `/proc/vmallocinfo` shows them.
    pub const fn bytes(&self) -> u64 {
        (self.page_count + 1) * PAGE_BYTES
    }
}

/// An area and its frames.
#[derive(Debug)]
struct Held {
    area: Area,
    frames: Vec<Frame>,
    /// Its `vmap_area`.
    record: Objects,
}

/// All areas.
#[derive(Debug, Default)]
pub(crate) struct Vmalloc {
    areas: BTreeMap<u64, Held>,
    /// Room between them: start and bytes.
    gaps: BTreeMap<u64, u64>,
    /// First and last byte of the region; 0 and 0 before there is one.
    region: (u64, u64),
}

impl Vmalloc {
    /// The empty region from `first` to `last`, both inside.
    pub(crate) fn set_region(&mut self, first: VirtAddr, last: VirtAddr) {
        debug_assert!(self.areas.is_empty(), "before the first area");
        self.region = (first.as_u64(), last.as_u64());
        self.gaps = BTreeMap::from([(first.as_u64(), last.offset_from(first) + 1)]);
    }

    /// The lowest room of `bytes` bytes at a multiple of `align`, taken out of its gap.
    fn take_room(&mut self, bytes: u64, align: u64) -> Option<u64> {
        let fits = |(&start, &length): (&u64, &u64)| {
            let aligned = start.checked_next_multiple_of(align)?;
            let needed = (aligned - start).checked_add(bytes)?;
            (needed <= length).then_some((start, length, aligned))
        };
        let (start, length, aligned) = self.gaps.iter().find_map(fits)?;
        self.gaps.remove(&start);
        if aligned > start {
            self.gaps.insert(start, aligned - start);
        }
        let left = length - (aligned - start) - bytes;
        if left > 0 {
            self.gaps.insert(aligned + bytes, left);
        }
        Some(aligned)
    }

    /// Gives room back and joins it with the gaps beside it.
    fn give_room(&mut self, mut start: u64, mut bytes: u64) {
        if let Some((&before, &length)) = self.gaps.range(..start).next_back()
            && before + length == start
        {
            self.gaps.remove(&before);
            (start, bytes) = (before, bytes + length);
        }
        if let Some(length) = self.gaps.remove(&(start.wrapping_add(bytes))) {
            bytes += length;
        }
        self.gaps.insert(start, bytes);
    }
}

impl Memory {
    /// Maps `page_count` new frames one behind the other at a multiple of `align` bytes, a power of
    /// two; their bytes are anything. Returns where.
    ///
    /// # Errors
    /// - [`MmError::InvalidArgument`]: no pages, or the kernel has no address space.
    /// - [`MmError::NoMemory`]: no frames, no room. Page tables made so far stay, else nothing has
    ///   changed.
    pub fn vmalloc(
        &mut self,
        hw: &mut Machine,
        page_count: u64,
        align: u64,
        caller: &'static str,
    ) -> Result<VirtAddr, MmError> {
        self.check_area(page_count)?;
        if page_count > self.frames.len() as u64 {
            return Err(MmError::NoMemory("more pages than RAM has"));
        }
        let mut frames = Vec::new();
        for _ in 0..page_count {
            let Some(frame) = self.alloc(hw, FrameState::Vmalloc, crate::memory::Content::Any)
            else {
                self.free_frames(hw, frames);
                return Err(MmError::NoMemory("no frame for vmalloc"));
            };
            frames.push(frame);
        }
        let area = Area { start: VirtAddr::new(0), page_count, purpose: AreaUse::Vmalloc, caller };
        self.map_area(hw, area, align, frames)
    }

    /// Maps registers of a device: the pages that hold `bytes` bytes from `physical` on. Returns
    /// where the first of these bytes is.
    ///
    /// # Errors
    /// - [`MmError::InvalidArgument`]: no bytes, the end wraps, more physical address bits than the
    ///   machine has, RAM, or the kernel has no address space.
    /// - [`MmError::NoMemory`]: no room, or no frame for a page table.
    pub fn ioremap(
        &mut self,
        hw: &mut Machine,
        physical: PhysAddr,
        bytes: u64,
        caller: &'static str,
    ) -> Result<VirtAddr, MmError> {
        let wrong = MmError::InvalidArgument("no registers of a device there");
        let last = bytes.checked_sub(1).and_then(|more| physical.checked_add(more)).ok_or(wrong)?;
        let is_beyond = last.as_u64() >> hw.geometry().physical_bits() != 0;
        if is_beyond || physical.frame().number() < self.frames.len() as u64 {
            return Err(wrong);
        }
        let page_count = last.frame().offset_from(physical.frame()) + 1;
        self.check_area(page_count)?;
        let start = physical.frame().start();
        let purpose = AreaUse::Ioremap(start);
        let area = Area { start: VirtAddr::new(0), page_count, purpose, caller };
        let addr = self.map_area(hw, area, PAGE_BYTES, Vec::new())?;
        Ok(addr.wrapping_add(physical.page_offset()))
    }

    fn check_area(&self, page_count: u64) -> Result<(), MmError> {
        match (page_count, &self.kernel) {
            (0, _) => Err(MmError::InvalidArgument("an area without pages")),
            (_, None) => Err(MmError::InvalidArgument("the kernel has no address space")),
            _ => Ok(()),
        }
    }

    fn free_frames(&mut self, hw: &mut Machine, frames: Vec<Frame>) {
        frames.into_iter().rev().for_each(|frame| self.free(hw, frame));
    }

    /// Finds room for an area and maps its pages.
    fn map_area(
        &mut self,
        hw: &mut Machine,
        area: Area,
        align: u64,
        frames: Vec<Frame>,
    ) -> Result<VirtAddr, MmError> {
        debug_assert!(align.is_power_of_two(), "alignment {align}");
        let mut record = Objects::of(Cache::VmapArea);
        if let Err(error) = self.set_objects(hw, &mut record, 1) {
            self.free_frames(hw, frames);
            return Err(error);
        }
        let area = match self.map_pages(hw, area, align, &frames) {
            Ok(area) => area,
            Err(error) => {
                self.set_objects(hw, &mut record, 0)?;
                self.free_frames(hw, frames);
                return Err(error);
            }
        };
        for (at, &frame) in (0..).zip(&frames) {
            let page = area.start.page().number() + at;
            self.frames.set_owner(frame, Owner::Area { page });
        }
        self.vmalloc.areas.insert(area.start.as_u64(), Held { area, frames, record });
        Ok(area.start)
    }

    /// Finds room for an area and writes its entries. On errors nothing is mapped.
    fn map_pages(
        &mut self,
        hw: &mut Machine,
        area: Area,
        align: u64,
        frames: &[Frame],
    ) -> Result<Area, MmError> {
        let Some(start) = self.vmalloc.take_room(area.bytes(), align.max(PAGE_BYTES)) else {
            return Err(MmError::NoMemory("no room for the area: vmalloc space is used up"));
        };
        let area = Area { start: VirtAddr::new(start), ..area };
        let nx = if hw.geometry().has_nx() { Pte::NX } else { Pte::EMPTY };
        for at in 0..area.page_count {
            let addr = area.start.wrapping_add(at * PAGE_BYTES);
            let Some(slot) = self.kernel_slot(hw, addr) else {
                self.unmap_pages(hw, area.start, at);
                self.vmalloc.give_room(start, area.bytes());
                return Err(MmError::NoMemory("no frame for the kernel's page tables"));
            };
            let bits = LEAF.without(Pte::NX).with(nx);
            let pte = match area.purpose {
                AreaUse::Vmalloc => Pte::new(frames[at as usize], bits),
                // Registers are not cached (PAT of Linux: PWT clear, PCD set is UC-).
                AreaUse::Ioremap(first) => {
                    Pte::new(first.frame().wrapping_add(at), bits.with(Pte::NO_CACHE))
                }
            };
            hw.geometry().store(&mut hw.ram, slot, pte);
        }
        Ok(area)
    }

    fn unmap_pages(&mut self, hw: &mut Machine, start: VirtAddr, page_count: u64) {
        for at in 0..page_count {
            if let Some(slot) = self.kernel_slot(hw, start.wrapping_add(at * PAGE_BYTES)) {
                hw.geometry().store(&mut hw.ram, slot, Pte::EMPTY);
            }
        }
    }

    /// Gives an area back: `vfree` and `iounmap`. Page tables stay, as in Linux.
    ///
    /// # Errors
    /// - [`MmError::InvalidArgument`]: no area has a page at `addr`; nothing has changed.
    pub fn vfree(&mut self, hw: &mut Machine, addr: VirtAddr) -> Result<(), MmError> {
        let area = self.area_at(addr).ok_or(MmError::InvalidArgument("no area is there"))?;
        let Some(mut held) = self.vmalloc.areas.remove(&area.start.as_u64()) else { return Ok(()) };
        self.unmap_pages(hw, area.start, area.page_count);
        self.vmalloc.give_room(area.start.as_u64(), area.bytes());
        self.free_frames(hw, held.frames);
        self.set_objects(hw, &mut held.record, 0)
    }

    /// Every area, ascending.
    pub fn areas(&self) -> impl Iterator<Item = &Area> {
        self.vmalloc.areas.values().map(|held| &held.area)
    }

    /// The area with a page, not the guard, at `addr`.
    pub fn area_at(&self, addr: VirtAddr) -> Option<Area> {
        let (_, held) = self.vmalloc.areas.range(..=addr.as_u64()).next_back()?;
        let is_inside = addr.offset_from(held.area.start) < held.area.page_count * PAGE_BYTES;
        is_inside.then_some(held.area)
    }

    /// The frames of the area that begins at `start`, in the order of its pages: none of a device.
    pub fn area_frames(&self, start: VirtAddr) -> &[Frame] {
        self.vmalloc.areas.get(&start.as_u64()).map_or(&[], |held| &held.frames)
    }

    /// Invariants 1 and 2: calls `note` with every frame of every area. Returns what is wrong.
    pub(crate) fn check_areas(
        &self,
        hw: &Machine,
        mut note: impl FnMut(Frame) -> bool,
    ) -> Result<(), &'static str> {
        let areas =
            self.vmalloc.areas.values().map(|held| (held.area.start.as_u64(), held.area.bytes()));
        let gaps = self.vmalloc.gaps.iter().map(|(&start, &bytes)| (start, bytes));
        let parts: BTreeMap<u64, u64> = areas.chain(gaps).collect();
        let mut next = self.vmalloc.region.0;
        for (start, bytes) in parts {
            if start != next {
                return Err("areas and gaps overlap or leave holes");
            }
            next = start.wrapping_add(bytes);
        }
        if self.kernel.is_some() && next != self.vmalloc.region.1.wrapping_add(1) {
            return Err("areas and gaps do not fill the region");
        }
        for held in self.vmalloc.areas.values() {
            for at in 0..=held.area.page_count {
                let addr = held.area.start.wrapping_add(at * PAGE_BYTES);
                let found = self.kernel_root().and_then(|root| hw.peek(root, addr));
                let expected = match held.area.purpose {
                    _ if at == held.area.page_count => None,
                    AreaUse::Vmalloc => held.frames.get(at as usize).copied(),
                    AreaUse::Ioremap(first) => Some(first.frame().wrapping_add(at)),
                };
                if found.map(|found| found.0.frame()) != expected {
                    return Err("a page of an area is mapped elsewhere, or a guard is mapped");
                }
            }
            for (at, &frame) in (0..).zip(&held.frames) {
                let page = held.area.start.page().number() + at;
                if self.frames.owner(frame) != Some(Owner::Area { page }) || !note(frame) {
                    return Err("a frame of an area belongs elsewhere");
                }
            }
        }
        Ok(())
    }

    /// The region of the kernel's map, for areas.
    pub(crate) fn open_vmalloc(&mut self) {
        let space = self.kernel_space();
        if let Some(region) = space.and_then(|space| space.region(RegionKind::Vmalloc)).copied() {
            self.vmalloc.set_region(region.first, region.last);
        }
    }
}

#[cfg(test)]
mod tests;
