//! All frames of the machine: who has them, and the only door to get one.
//!
//! Keeps what belongs to frames or is asked for by number of an address space: the buddy allocator,
//! the frame table, the page cache, resident set sizes. It never looks into a VMA.
//!
//! Invariants
//! 1. Every frame is in exactly one state; the counts by state add up to the RAM.
//! 2. A frame that was used before is zeroed on allocation when zeros are wanted; a fresh one is
//!    zero because RAM starts so.
//! 3. Resident counts of a space change only with its leaf entries.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::sync::atomic::AtomicBool;

use machine::{Frame, Machine, PAGE_BYTES, PhysAddr, Pte};

use crate::backing::{Backing, MmId};
use crate::buddy::Mobility;
use crate::commit::Overcommit;
use crate::counters::{MemoryUsage, Rss, VmEvents};
use crate::entries::Entries;
use crate::error::MmError;
use crate::folio::{FrameState, FrameTable, Past};
use crate::highmem::Highmem;
use crate::kernel_space::{KernelSpace, SharedTables};
use crate::page_cache::PageCache;
use crate::page_table::{LOCKED, SPECIAL};
use crate::reclaim::{Reclaim, Watermarks};
use crate::slab::Slabs;
use crate::swap::{Swap, SwapPlace};
use crate::vmalloc::Vmalloc;
use crate::zones::Zones;
use reservation::Reservation;

pub(crate) mod block;
mod reservation;

/// What the bytes of a new frame shall be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    /// All zero.
    Zeroed,
    /// Anything: the caller overwrites all of it.
    Any,
}

/// What is kept about one address space by number.
#[derive(Clone, Debug)]
pub(crate) struct Space {
    /// Its number, or `None` when the slot is free.
    pub(crate) id: Option<MmId>,
    pub(crate) rss: Rss,
    pub(crate) rss_peak_pages: u64,
    pub(crate) rss_at_peak: Rss,
    pub(crate) table_frames: u64,
    pub(crate) table_frames_peak: u64,
    /// The root table.
    pub(crate) root: Frame,
    /// Entries that say that their page is in swap (`VmSwap`).
    pub(crate) swap_pages: u64,
    /// Whether entries changed while the space was not active; also in its page tables.
    pub(crate) is_stale: Arc<AtomicBool>,
    /// Its pages that shall get adjacent frames.
    reservation: Option<Reservation>,
}

impl Space {
    fn new(id: MmId) -> Self {
        Self {
            id: Some(id),
            rss: Rss::default(),
            rss_peak_pages: 0,
            rss_at_peak: Rss::default(),
            table_frames: 0,
            table_frames_peak: 0,
            root: Frame::new(0),
            swap_pages: 0,
            is_stale: Arc::default(),
            reservation: None,
        }
    }

    /// Notes the peak.
    #[inline]
    const fn note_peak(&mut self) {
        let resident = self.rss.total_pages();
        if resident > self.rss_peak_pages {
            self.rss_peak_pages = resident;
            self.rss_at_peak = self.rss;
        }
    }
}

/// All frames of one machine.
#[derive(Debug)]
pub struct Memory {
    /// How much memory may be promised.
    pub overcommit: Overcommit,
    /// `vm.overcommit_kbytes`: what mode 2 allows besides swap, instead of a share of RAM.
    pub overcommit_kib: Option<u64>,
    pub(crate) frames: FrameTable,
    /// The leaf entries that name each frame.
    pub(crate) entries: Entries,
    pub(crate) zones: Zones,
    pub(crate) cache: PageCache,
    pub(crate) spaces: Vec<Space>,
    /// The frame of zeros that reads of untouched anonymous memory see.
    pub(crate) zero: Frame,
    /// Frames taken out of page tables, to be freed after the flush; kept for its capacity.
    pub(crate) gathered: Vec<Frame>,
    /// How many allocations may still succeed before one is refused.
    refuse_after: Option<u64>,
    /// Slots named by entries that were taken out of page tables, with the space of the entry.
    pub(crate) gathered_slots: Vec<(usize, SwapPlace)>,
    /// How frames are taken back.
    pub(crate) reclaim: Reclaim,
    /// The most free frames at which an allocation has to balance.
    pub(crate) due_at: u64,
    /// Where private pages and shared memory go.
    pub(crate) swap: Swap,
    pub(crate) page_cluster: u32,
    by_state: [u64; FrameState::ALL.len()],
    pub(crate) committed_pages: u64,
    free_min: u64,
    families: NonZeroU64,
    pub(crate) events: VmEvents,
    /// Cached frames that leaf entries name.
    mapped_pages: u64,
    /// Cached pages of files that differ from what their pagers have.
    pub(crate) dirty_pages: u64,
    /// The kernel's part of all page tables, if there is a kernel.
    pub(crate) kernel: Option<SharedTables>,
    /// The kernel's own small objects.
    pub(crate) slabs: Slabs,
    /// The areas above the direct map.
    pub(crate) vmalloc: Vmalloc,
    /// The slots of `kmap`.
    pub(crate) highmem: Highmem,
}

/// Frames of lowmem of an i386 kernel, nominal: 896 MiB (I386-2).
const LOWMEM_END: u32 = 896 << 8;

impl Memory {
    /// Takes over all frames of the machine, for no kernel: lowmem of i386 has its nominal size.
    ///
    /// # Errors
    /// - [`MmError::RamTooLarge`]: more than 2^32 - 2 frames.
    /// - [`MmError::NoMemory`]: no frame for the zero frame.
    pub fn new(hw: &mut Machine) -> Result<Self, MmError> {
        Self::with_lowmem(hw, LOWMEM_END)
    }

    /// Takes over all frames of the machine, for a kernel with this map, and builds its page
    /// tables.
    ///
    /// # Errors
    /// As [`Memory::new`]; [`MmError::NoMemory`] also where a table finds no frame.
    pub fn with_kernel(hw: &mut Machine, space: KernelSpace) -> Result<Self, MmError> {
        let low_frames = space.low_bytes() / PAGE_BYTES;
        let mut memory = Self::with_lowmem(hw, u32::try_from(low_frames).unwrap_or(u32::MAX))?;
        memory.map_kernel(hw, space)?;
        Ok(memory)
    }

    /// Takes over all frames; a kernel of 32 bits has addresses for those below `low_end`.
    fn with_lowmem(hw: &mut Machine, low_end: u32) -> Result<Self, MmError> {
        let frame_count = hw.ram.frame_count();
        let too_large = MmError::RamTooLarge { frame_count };
        let count = u32::try_from(frame_count).map_err(|_| too_large)?;
        if count == u32::MAX {
            return Err(too_large);
        }
        let mut memory = Self {
            overcommit: Overcommit::default(),
            overcommit_kib: None,
            frames: FrameTable::new(count as usize),
            entries: Entries::new(count as usize),
            zones: Zones::new(hw.geometry(), count, low_end),
            cache: PageCache::default(),
            spaces: Vec::new(),
            zero: Frame::new(0),
            gathered: Vec::new(),
            refuse_after: None,
            gathered_slots: Vec::new(),
            reclaim: Reclaim::new(count as usize),
            due_at: 0,
            swap: Swap::default(),
            page_cluster: 3,
            by_state: [0; FrameState::ALL.len()],
            committed_pages: 0,
            free_min: frame_count,
            families: NonZeroU64::MIN,
            events: VmEvents::default(),
            mapped_pages: 0,
            dirty_pages: 0,
            kernel: None,
            slabs: Slabs::default(),
            vmalloc: Vmalloc::default(),
            highmem: Highmem::default(),
        };
        memory.by_state[FrameState::Free as usize] = frame_count;
        memory.set_min_free_kib(Watermarks::default_min_free_kib(memory.zones.lowmem_frames()));
        memory.zero =
            memory.alloc_zero_frame().ok_or(MmError::NoMemory("no frame for the zero page"))?;
        debug_assert!(memory.zero.number() == 0, "frame 0 stands for none in the page cache");
        Ok(memory)
    }

    /// Takes the lowest frame of RAM, which was never used, for the page of zeros.
    fn alloc_zero_frame(&mut self) -> Option<Frame> {
        let frame = Frame::new(self.zones.alloc_lowest()?.into());
        self.claim(frame, FrameState::Kernel);
        Some(frame)
    }

    /// Takes one frame for `state`: the usual source of frames. Others are `memory/block.rs`, for
    /// blocks, [`Memory::alloc_private`] and [`Memory::take_reserve`].
    #[inline]
    pub(crate) fn alloc(
        &mut self,
        hw: &mut Machine,
        state: FrameState,
        content: Content,
    ) -> Option<Frame> {
        if !self.may_take(hw, state) {
            return None;
        }
        let frame = if state.is_low() {
            self.take_low(hw, 0, state.mobility())?
        } else {
            Frame::new(self.zones.alloc_frame(state.mobility())?.into())
        };
        Some(self.enter(hw, frame, state, content))
    }

    /// Whether a frame may be taken for `state`, after taking others back where that is due.
    #[inline]
    fn may_take(&mut self, hw: &mut Machine, state: FrameState) -> bool {
        if self.by_state[FrameState::Free as usize] <= self.due_at {
            let is_worth_it = self.balance_if_due(hw);
            if !state.is_kernel() && !self.may_charge(is_worth_it) {
                return false;
            }
        }
        !self.is_refused()
    }

    /// Enters a frame that was taken from the zones as one of `state`.
    #[inline]
    fn enter(
        &mut self,
        hw: &mut Machine,
        frame: Frame,
        state: FrameState,
        content: Content,
    ) -> Frame {
        if let Some(list) = self.reclaim.first_list(state) {
            self.reclaim.lru.push(frame.number() as u32, list);
        }
        let past = self.claim(frame, state);
        if content == Content::Zeroed && past == Past::Recycled {
            self.clear_page(hw, frame);
            self.prefetch_next(hw, state.mobility());
        }
        frame
    }

    /// Has the host bring the frame that the next allocation will probably clear: clearing what
    /// left its caches is the longest part of a fault.
    #[inline]
    fn prefetch_next(&self, hw: &Machine, mobility: Mobility) {
        let Some(next) = self.zones.next_frame(mobility) else { return };
        let next = Frame::new(next.into());
        if self.frames.past(next) == Past::Recycled {
            hw.ram.prefetch_frame(next);
        }
    }

    /// Takes one frame below all marks and for no group, while others are taken back. Its bytes are
    /// anything.
    pub(crate) fn take_reserve(&mut self, state: FrameState) -> Option<Frame> {
        if self.is_refused() {
            return None;
        }
        let frame = Frame::new(self.zones.alloc_frame(Mobility::Movable)?.into());
        self.claim(frame, state);
        Some(frame)
    }

    /// Counts a free frame as one of `state`.
    #[inline]
    fn claim(&mut self, frame: Frame, state: FrameState) -> Past {
        self.events.frames_taken += 1;
        self.by_state[state as usize] += 1;
        self.by_state[FrameState::Free as usize] -= 1;
        self.free_min = self.free_min.min(self.by_state[FrameState::Free as usize]);
        self.frames.claim(frame, state)
    }

    /// Whether this allocation is the one to be refused.
    #[inline]
    fn is_refused(&mut self) -> bool {
        let Some(left) = self.refuse_after else { return false };
        self.refuse_after = left.checked_sub(1);
        left == 0
    }

    /// Refuses one allocation, after `count` more that succeed, as if no frame were free: for tests
    /// of what happens then.
    pub fn refuse_allocation(&mut self, count: u64) {
        self.refuse_after = Some(count);
    }

    /// Whether a refusal is still to come.
    pub const fn will_refuse(&self) -> bool {
        self.refuse_after.is_some()
    }

    /// Takes a frame for the kernel itself; its bytes are anything. `None` if none is free.
    pub fn take_kernel_frame(&mut self, hw: &mut Machine) -> Option<Frame> {
        self.alloc(hw, FrameState::Kernel, Content::Any)
    }

    /// Gives a frame of the kernel back.
    ///
    /// # Panics
    /// If the frame was not taken with [`Memory::take_kernel_frame`].
    pub fn give_kernel_frame(&mut self, hw: &mut Machine, frame: Frame) {
        assert!(self.frames.state(frame) == FrameState::Kernel, "not a frame of the kernel");
        self.free(hw, frame);
    }

    /// Gives one unused frame back: the only place where frames go.
    #[inline]
    pub(crate) fn free(&mut self, hw: &mut Machine, frame: Frame) {
        debug_assert!(self.frames.is_unused(frame), "frame {:#x} is used", frame.number());
        let is_listed = self.reclaim.first_list(self.frames.state(frame)).is_some();
        if is_listed || self.frames.is_lazy(frame) {
            self.reclaim.lru.remove(frame.number() as u32);
        }
        self.unclaim(hw, frame);
        self.zones.free_frame(frame.number() as u32);
    }

    /// Counts a frame as free that no list knows.
    #[inline]
    fn unclaim(&mut self, hw: &mut Machine, frame: Frame) {
        hw.frame_changed(frame);
        if cfg!(debug_assertions) {
            hw.ram.slice_mut(frame.start(), PAGE_BYTES).fill(0xa5);
        }
        self.events.frames_given += 1;
        self.by_state[self.frames.state(frame) as usize] -= 1;
        self.by_state[FrameState::Free as usize] += 1;
        self.frames.release(frame);
    }

    /// Takes a page off the lists of reclaim: it stays in RAM.
    pub(crate) fn keep_page(&mut self, frame: Frame) {
        self.reclaim.lru.remove(frame.number() as u32);
    }

    /// Frees the gathered frames and lets go of the gathered slots; the last frame goes first, so
    /// that taking them again ascends.
    pub(crate) fn free_gathered(&mut self, hw: &mut Machine) {
        let mut gathered = core::mem::take(&mut self.gathered);
        while let Some(frame) = gathered.pop() {
            self.free(hw, frame);
        }
        self.gathered = gathered;
        if self.gathered_slots.is_empty() {
            return;
        }
        for (space, place) in core::mem::take(&mut self.gathered_slots) {
            self.release_swap(hw, space, place);
        }
    }

    /// Counts the leaf `pte` at `at` as an entry of the space in `slot`.
    #[inline]
    pub(crate) fn map_leaf(&mut self, slot: usize, at: PhysAddr, pte: Pte) {
        if pte.contains(SPECIAL) {
            return;
        }
        let frame = pte.frame();
        let state = self.frames.state(frame);
        self.frames.map(frame);
        self.entries.add(frame, at);
        if state != FrameState::Anon && self.frames.map_count(frame) == 1 {
            self.mapped_pages += 1;
        }
        let space = &mut self.spaces[slot];
        *space.rss.count_mut(state) += 1;
        space.note_peak();
    }

    /// Counts pages whose entries are counted in the frame table already.
    pub(crate) fn add_resident(&mut self, slot: usize, more: Rss) {
        let space = &mut self.spaces[slot];
        space.rss.anon_pages += more.anon_pages;
        space.rss.file_pages += more.file_pages;
        space.rss.shmem_pages += more.shmem_pages;
        space.note_peak();
    }

    /// Counts the leaf `pte` at `at` as gone from the space in `slot`, and takes its dirty bit to
    /// the frame. Returns the frame if nobody uses it any more: free it after the flush.
    #[inline]
    #[must_use = "an unused frame must be freed"]
    pub(crate) fn unmap_leaf(&mut self, slot: usize, at: PhysAddr, pte: Pte) -> Option<Frame> {
        if pte.contains(SPECIAL) {
            return None;
        }
        let frame = pte.frame();
        let state = self.frames.state(frame);
        *self.spaces[slot].rss.count_mut(state) -= 1;
        if pte.is_dirty() && state != FrameState::Anon {
            self.mark_dirty(frame);
        }
        self.frames.unmap(frame);
        if pte.contains(LOCKED) {
            self.rescue(frame);
        }
        self.entries.remove(frame, at);
        if state != FrameState::Anon && self.frames.map_count(frame) == 0 {
            self.mapped_pages -= 1;
        }
        self.frames.is_unused(frame).then_some(frame)
    }

    /// The number of a new family of private pages.
    pub(crate) fn new_family(&mut self) -> NonZeroU64 {
        let number = self.families;
        self.families = number.saturating_add(1);
        number
    }

    /// Takes a slot for a new address space.
    pub(crate) fn add_space(&mut self, id: MmId) -> usize {
        let space = Space::new(id);
        if let Some(slot) = self.spaces.iter().position(|space| space.id.is_none()) {
            self.spaces[slot] = space;
            return slot;
        }
        self.spaces.push(space);
        self.spaces.len() - 1
    }

    /// Gives the slot of an ended address space back.
    pub(crate) fn remove_space(&mut self, slot: usize) {
        self.end_reservation(slot);
        self.spaces[slot].id = None;
    }

    /// Takes a frame for a page table and counts it for the space in `slot`.
    pub(crate) fn alloc_table(&mut self, hw: &mut Machine, slot: usize) -> Option<Frame> {
        let frame = self.alloc(hw, FrameState::PageTable, Content::Zeroed)?;
        let space = &mut self.spaces[slot];
        space.table_frames += 1;
        space.table_frames_peak = space.table_frames_peak.max(space.table_frames);
        Some(frame)
    }

    /// Gives the frame of a page table of the space in `slot` back.
    pub(crate) fn free_table(&mut self, hw: &mut Machine, slot: usize, frame: Frame) {
        self.spaces[slot].table_frames -= 1;
        self.free(hw, frame);
    }

    /// Lets go of the backing of a VMA that is no more. Whoever removes a VMA calls it.
    pub(crate) fn release_backing(&mut self, hw: &mut Machine, backing: Backing) {
        let Backing::File(file) = backing else { return };
        if let Some(file) = alloc::sync::Arc::into_inner(file) {
            self.drop_unmapped_object(hw, file.object);
        }
    }

    /// How many frames have a state.
    pub(crate) const fn count_of(&self, state: FrameState) -> u64 {
        self.by_state[state as usize]
    }

    /// Where the frames are.
    pub fn usage(&self) -> MemoryUsage {
        let of = |state| self.count_of(state);
        MemoryUsage {
            frames_total: self.frames.len() as u64,
            frames_free: of(FrameState::Free),
            anon: of(FrameState::Anon),
            file: of(FrameState::File),
            shmem: of(FrameState::Shmem),
            page_table: of(FrameState::PageTable),
            kernel: of(FrameState::Kernel),
            slab: of(FrameState::Slab),
            vmalloc: of(FrameState::Vmalloc),
            committed_pages: self.committed_pages,
            frames_used_peak: self.frames.len() as u64 - self.free_min,
        }
    }

    /// What happened since the machine started (`/proc/vmstat`).
    pub const fn events(&self) -> &VmEvents {
        &self.events
    }

    /// Cached pages, of files and shared memory, that some address space maps (`nr_mapped`).
    pub const fn mapped_pages(&self) -> u64 {
        self.mapped_pages
    }

    /// Cached pages of files that their pagers do not have yet (`nr_dirty`).
    pub const fn dirty_pages(&self) -> u64 {
        self.dirty_pages
    }

    /// What a frame is used for.
    ///
    /// # Panics
    /// If the frame is outside RAM.
    pub fn frame_state(&self, frame: Frame) -> FrameState {
        self.frames.state(frame)
    }

    /// How many leaf entries name a frame.
    ///
    /// # Panics
    /// If the frame is outside RAM.
    pub fn map_count(&self, frame: Frame) -> u32 {
        self.frames.map_count(frame)
    }

    /// Drops the page cache and the zero frame, after the last address space ended. Returns how
    /// many frames nobody gave back: 0 unless there is a bug.
    pub fn shutdown(&mut self, hw: &mut Machine) -> u64 {
        self.drop_all_objects(hw);
        self.unmap_kernel(hw);
        self.settle_pool(hw);
        if self.frames.state(self.zero) == FrameState::Kernel {
            self.free(hw, self.zero);
        }
        self.frames.len() as u64 - self.zones.free_count()
    }
}
