//! vmemmap: the array of `struct page`, one for each frame, that a 64-bit kernel has mapped.
//!
//! ```text
//!  kernel addresses   VMEMMAP_START: |page 0|page 1| ... 64 bytes each
//!                        │ pages of 2 MiB, one for each section of 128 MiB of RAM
//!  physical           | RAM | a device's memory |..| the array | its page tables |
//! ```
//! Linux takes the array out of RAM before the buddy allocator starts, and shows as `MemTotal` what
//! is left. Here the array lies above RAM, and `MemTotal` is RAM.
//!
//! Differs from Linux: what is known of frames is kept elsewhere (`folio.rs`). The words of the
//! array that are known from there (flags, map count or type, reference count) are written when
//! somebody wants to read them; the others, and the fields of node and zone in the flags, are 0.
//! On i386 there is no array: `mem_map` would take lowmem, 32 bytes for each page.
//!
//! Nouns: [`Vmemmap`] (where the array is).
//!
//! # Source
//! Linux 6.12 `mm/sparse.c:sparse_init_nid` (whole sections), `mm/sparse-vmemmap.c:
//! vmemmap_populate_hugepages`, `arch/x86/mm/init_64.c`, `include/linux/mm_types.h:struct page`,
//! `include/linux/page-flags.h`; semantics K64-1.

use core::ops::Range;

use machine::{Frame, Geometry, Machine, PageSize, PhysAddr, Pte, Ram, VirtAddr};

use super::tables::{LEAF, slot_of};
use super::{KernelSpace, RegionKind};
use crate::error::MmError;
use crate::folio::FrameState;
use crate::memory::Memory;

/// Bytes of one `struct page`.
const PAGE_STRUCT_BYTES: u64 = 64;
/// RAM whose pages fill one page of the array: `SECTION_SIZE_BITS` is 27.
const SECTION_BYTES: u64 = 128 << 20;
const LARGE_BYTES: u64 = PageSize::M2.bytes();
/// The end of physical memory that a machine can have.
const PHYSICAL_END: u64 = 1 << 46;

/// Places of the known words in a `struct page`.
const MAP_COUNT_AT: u64 = 48;
const REFERENCE_COUNT_AT: u64 = 52;

/// Bits of `/proc/kpageflags` and of the flags of a `struct page` that mean the same: uptodate,
/// dirty, lru, head, swapbacked, reserved, anon_exclusive.
const FLAGS: [(u32, u32); 7] = [(3, 3), (4, 4), (5, 5), (15, 6), (14, 17), (32, 13), (34, 11)];

/// The array of a kernel's map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vmemmap {
    geometry: Geometry,
    ram_bytes: u64,
    /// The first byte.
    pub first: VirtAddr,
}

impl KernelSpace {
    /// The array of `struct page`; `None` on i386.
    pub fn vmemmap(&self) -> Option<Vmemmap> {
        let first = self.region(RegionKind::Vmemmap)?.first;
        Some(Vmemmap { geometry: self.config.geometry, ram_bytes: self.config.ram_bytes, first })
    }

    /// The array, and the frame where it begins in a machine whose memory ends at `end`; `None`
    /// also where there are not so many physical addresses.
    pub fn vmemmap_above(&self, end: PhysAddr) -> Option<(Vmemmap, Frame)> {
        let array = self.vmemmap().filter(|array| array.reserve_bytes(end) > 0)?;
        Some((array, array.place_above(end)))
    }
}

impl Vmemmap {
    /// Its bytes: whole pages of 2 MiB.
    pub const fn bytes(&self) -> u64 {
        self.ram_bytes.div_ceil(SECTION_BYTES) * LARGE_BYTES
    }

    /// The `struct page` of a frame.
    pub const fn addr_of(&self, frame: Frame) -> VirtAddr {
        self.first.wrapping_add(frame.number().wrapping_mul(PAGE_STRUCT_BYTES))
    }

    /// The frame whose `struct page` holds an address, and the byte in it; `None` outside the part
    /// of the array that is for RAM.
    pub fn frame_at(&self, addr: VirtAddr) -> Option<(Frame, u64)> {
        let offset = addr.as_u64().checked_sub(self.first.as_u64())?;
        let frame = Frame::new(offset / PAGE_STRUCT_BYTES);
        let is_ram = frame.start().as_u64() < self.ram_bytes;
        (is_ram && offset < self.bytes()).then_some((frame, offset % PAGE_STRUCT_BYTES))
    }

    /// Page tables that it needs below the root.
    fn table_count(&self) -> u64 {
        (2..self.geometry.levels())
            .map(|level| {
                let span = self.geometry.span_bytes(level + 1);
                let last = self.first.as_u64() + (self.bytes() - 1);
                last / span - self.first.as_u64() / span + 1
            })
            .sum()
    }

    /// The frame where the array begins in a machine whose memory ends at `end`.
    pub const fn place_above(&self, end: PhysAddr) -> Frame {
        PhysAddr::new(end.as_u64().next_multiple_of(LARGE_BYTES)).frame()
    }

    /// Bytes that such a machine must have above `end` for the array and its page tables; 0 if
    /// there are not so many physical addresses.
    pub fn reserve_bytes(&self, end: PhysAddr) -> u64 {
        let start = self.place_above(end).start().as_u64();
        let room_end = start + self.bytes() + self.table_count() * machine::PAGE_BYTES;
        if room_end > PHYSICAL_END { 0 } else { room_end - end.as_u64() }
    }

    /// Writes the entries of the array below `root`, which begins at `first`. `alloc` is as for
    /// [`map_direct`](super::map_direct).
    pub fn map(
        &self,
        ram: &mut Ram,
        root: Frame,
        first: Frame,
        alloc: &mut dyn FnMut(&mut Ram) -> Option<Frame>,
    ) -> Option<()> {
        debug_assert!(first.start().as_u64().is_multiple_of(LARGE_BYTES), "a page of 2 MiB");
        for offset in (0..self.bytes()).step_by(LARGE_BYTES as usize) {
            let addr = self.first.wrapping_add(offset);
            let slot = slot_of(self.geometry, ram, root, (addr, 2), alloc)?;
            let frame = first.start().wrapping_add(offset).frame();
            self.geometry.store(ram, slot, Pte::new(frame, LEAF.with(Pte::LARGE)));
        }
        Some(())
    }
}

impl Memory {
    /// Maps the array of `struct page` into every address space there is and will be. It begins at
    /// `first`, above RAM, where the machine has [`Vmemmap::reserve_bytes`] of memory that nobody
    /// uses and that are 0.
    ///
    /// # Errors
    /// - [`MmError::InvalidArgument`]: the kernel has no tables or no such array, or it would not
    ///   lie in memory above RAM at a multiple of 2 MiB; nothing has changed.
    pub fn map_vmemmap(&mut self, hw: &mut Machine, first: Frame) -> Result<(), MmError> {
        let wrong = MmError::InvalidArgument("no place for the array of pages");
        let root = self.kernel_root().ok_or(wrong)?;
        let array = self.kernel_space().and_then(KernelSpace::vmemmap).ok_or(wrong)?;
        let mut next = first.start().wrapping_add(array.bytes()).frame();
        let end = next.number() + array.table_count();
        let is_aligned = first.start().as_u64().is_multiple_of(LARGE_BYTES);
        let is_above = first.number() >= self.frames.len() as u64;
        if !is_aligned || !is_above || end > hw.ram.end().frame().number() {
            return Err(wrong);
        }
        let mut take = |_: &mut Ram| {
            let table = next;
            next = next.wrapping_add(1);
            Some(table)
        };
        array.map(&mut hw.ram, root, first, &mut take).ok_or(wrong)?;
        self.publish_root_entries(hw);
        if let Some(kernel) = &mut self.kernel {
            kernel.vmemmap = Some(first);
        }
        Ok(())
    }

    /// The array of `struct page` and the frame where it begins, if it is mapped.
    pub fn vmemmap(&self) -> Option<(Vmemmap, Frame)> {
        let kernel = self.kernel.as_ref()?;
        Some((kernel.space().vmemmap()?, kernel.vmemmap?))
    }

    /// Writes what is known of frames into the array, from where it can be read through the
    /// kernel's addresses: what `/proc/kpageflags` and `/proc/kpagecount` say, in the places and
    /// bits of `struct page`. Nothing happens where there is no array or no RAM.
    pub fn write_vmemmap(&self, hw: &mut Machine, frames: Range<u64>) {
        let Some((array, first)) = self.vmemmap() else { return };
        for number in frames.start..frames.end.min(self.frames.len() as u64) {
            let frame = Frame::new(number);
            let offset = array.addr_of(frame).offset_from(array.first);
            let place = first.start().wrapping_add(offset);
            let (map_word, reference_count) = self.page_counts(frame);
            hw.store(place, &self.page_flags(frame).to_le_bytes());
            hw.store(place.wrapping_add(MAP_COUNT_AT), &map_word.to_le_bytes());
            hw.store(place.wrapping_add(REFERENCE_COUNT_AT), &reference_count.to_le_bytes());
        }
    }

    /// The flags of a `struct page`, without node and zone.
    fn page_flags(&self, frame: Frame) -> u64 {
        let shown = self.kpageflags(frame);
        let set = FLAGS.iter().filter(|(of_proc, _)| shown >> of_proc & 1 != 0);
        set.fold(0, |flags, (_, of_page)| flags | 1 << of_page)
    }

    /// `_mapcount`, which is one less than the entries that name the frame, or the type of page
    /// that is in its place (`enum pagetype`); and `_refcount`.
    fn page_counts(&self, frame: Frame) -> (u32, u32) {
        let map_count = self.frames.map_count(frame);
        match self.frames.state(frame) {
            FrameState::Free => (0xf0 << 24, 0),
            FrameState::PageTable => (0xf2 << 24, 1),
            FrameState::Slab => (0xf5 << 24, 1),
            FrameState::Kernel | FrameState::Vmalloc => (map_count.wrapping_sub(1), 1),
            FrameState::Anon | FrameState::File | FrameState::Shmem => {
                let references = map_count.saturating_add(self.frames.hold_count(frame));
                (map_count.wrapping_sub(1), references)
            }
        }
    }

    /// Whether the array is mapped where it says. Returns what is wrong.
    pub(crate) fn check_vmemmap(&self, hw: &Machine) -> Result<(), &'static str> {
        let (Some((array, first)), Some(root)) = (self.vmemmap(), self.kernel_root()) else {
            return Ok(());
        };
        for offset in (0..array.bytes()).step_by(LARGE_BYTES as usize) {
            let found = hw.peek(root, array.first.wrapping_add(offset));
            let place = first.start().wrapping_add(offset);
            if found.is_none_or(|(at, pte)| at != place || !pte.is_large()) {
                return Err("a page of vmemmap is mapped wrongly");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
