//! One address space: what only its owner touches.
//!
//! VMAs, page tables, limits and the counts that system calls change. Resident counts live in
//! [`Memory`], by the slot of the space there, because frames come and go without the owner.
//!
//! Invariants
//! 1. `totals` is the sum over the VMAs.
//! 2. A space that was not ended by [`Mm::exit`] keeps its frames.

use machine::{Frame, Machine, PAGE_SHIFT, Pte, VirtAddr, VirtRange};

use crate::backing::{AnonId, MmId};
use crate::counters::{FaultCounters, PageCounts, Rss};
use crate::descriptors::Descriptors;
use crate::error::MmError;
use crate::memory::Memory;
use crate::page_table::{self, PageTables, Zap, zap};
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::slab::{Cache, Objects};
use crate::vma::Vma;
use crate::vma_tree::VmaTree;

/// Limits of the process, in bytes; `u64::MAX` is infinity.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// `RLIMIT_STACK`.
    pub stack_bytes: u64,
    /// `RLIMIT_DATA`.
    pub data_bytes: u64,
    /// `RLIMIT_AS`.
    pub address_space_bytes: u64,
    /// `RLIMIT_MEMLOCK`.
    pub locked_bytes: u64,
    /// Whether the process may lock beyond the limit (`CAP_IPC_LOCK`).
    pub can_lock: bool,
    /// Whether the process may map below `min_address` (`CAP_SYS_RAWIO`).
    pub can_map_low: bool,
    /// `vm.max_map_count`.
    pub max_map_count: usize,
}

impl Default for Limits {
    /// The limits of a fresh Linux session without privileges (semantics, section 0).
    fn default() -> Self {
        Self {
            stack_bytes: 8 << 20,
            data_bytes: u64::MAX,
            address_space_bytes: u64::MAX,
            locked_bytes: 8 << 20,
            can_lock: false,
            can_map_low: false,
            max_map_count: 65_530,
        }
    }
}

/// Where things are in the address space; set by exec, the break also by brk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Layout {
    /// New mappings are placed below.
    pub mmap_base: VirtAddr,
    /// Where the bottom-up search starts if there is no room below `mmap_base`.
    pub mmap_legacy_base: VirtAddr,
    /// First address that can not be mapped.
    pub task_end: VirtAddr,
    /// `vm.mmap_min_addr`.
    pub min_address: VirtAddr,
    /// End of the stack VMA.
    pub stack_top: VirtAddr,
    /// First address of the break area.
    pub start_brk: VirtAddr,
    /// The break.
    pub brk: VirtAddr,
    /// First byte of code.
    pub start_code: VirtAddr,
    /// End of code.
    pub end_code: VirtAddr,
    /// First byte of initialised data.
    pub start_data: VirtAddr,
    /// End of initialised data.
    pub end_data: VirtAddr,
    /// First byte of the vDSO; 0 without one.
    pub vdso: VirtAddr,
    /// Stack pointer at the first instruction.
    pub start_stack: VirtAddr,
    /// First byte of the argument strings.
    pub arg_start: VirtAddr,
    /// End of the argument strings.
    pub arg_end: VirtAddr,
    /// First byte of the environment strings.
    pub env_start: VirtAddr,
    /// End of the environment strings.
    pub env_end: VirtAddr,
}

/// Sums over the VMAs, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Totals {
    /// All pages (`VmSize`).
    pub total_pages: u64,
    /// The most pages at one time (`VmPeak`).
    pub total_pages_peak: u64,
    /// Writable, private, not stack.
    pub data_pages: u64,
    /// Executable, not writable, not stack.
    pub exec_pages: u64,
    /// Growing down.
    pub stack_pages: u64,
    /// Locked (`VmLck`).
    pub locked_pages: u64,
}

impl Totals {
    /// Counts `pages` pages of a VMA like `vma` in.
    pub(crate) fn add(&mut self, vma: &Vma, pages: u64) {
        self.total_pages += pages;
        self.total_pages_peak = self.total_pages_peak.max(self.total_pages);
        if let Some(count) = self.count_of(vma) {
            *count += pages;
        }
        if vma.flags.contains(VmaFlags::LOCKED) {
            self.locked_pages += pages;
        }
    }

    /// Counts `pages` pages of a VMA like `vma` out.
    pub(crate) fn remove(&mut self, vma: &Vma, pages: u64) {
        self.total_pages -= pages;
        if let Some(count) = self.count_of(vma) {
            *count -= pages;
        }
        if vma.flags.contains(VmaFlags::LOCKED) {
            self.locked_pages -= pages;
        }
    }

    /// The count besides the total that the VMA belongs to (semantics LIM-2).
    fn count_of(&mut self, vma: &Vma) -> Option<&mut u64> {
        let is_stack = vma.flags.contains(VmaFlags::GROWS_DOWN);
        let is_writable = vma.rights.contains(Rights::WRITE);
        if vma.rights.contains(Rights::EXECUTE) && !is_writable && !is_stack {
            Some(&mut self.exec_pages)
        } else if is_stack {
            Some(&mut self.stack_pages)
        } else if is_writable && vma.sharing == Sharing::Private {
            Some(&mut self.data_pages)
        } else {
            None
        }
    }
}

/// One address space.
#[derive(Debug)]
pub struct Mm {
    /// Its number, in events.
    pub id: MmId,
    /// Limits of its process.
    pub limits: Limits,
    /// Where things are.
    pub layout: Layout,
    pub(crate) vmas: VmaTree,
    pub(crate) totals: Totals,
    /// Flags that new VMAs get (`mlockall(MCL_FUTURE)`).
    pub(crate) future_flags: VmaFlags,
    pub(crate) tables: PageTables,
    pub(crate) faults: FaultCounters,
    /// Slot in [`Memory`].
    pub(crate) slot: usize,
    /// Its `mm_struct` in the kernel's memory.
    own_object: Objects,
    /// Objects for its VMAs.
    vma_objects: Objects,
    /// Its local descriptor table, if it ever had one.
    pub(crate) descriptors: Option<Descriptors>,
}

impl Mm {
    /// An empty address space.
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: no frame for the root table or for the `mm_struct`.
    pub fn new(
        id: MmId,
        layout: Layout,
        limits: Limits,
        memory: &mut Memory,
        hw: &mut Machine,
    ) -> Result<Self, MmError> {
        let slot = memory.add_space(id);
        let Some(mut tables) = PageTables::new(memory, hw, slot) else {
            memory.remove_space(slot);
            return Err(MmError::NoMemory("no frame for the root table"));
        };
        let mut own_object = Objects::of(Cache::MmStruct);
        if let Err(error) = memory.set_objects(hw, &mut own_object, 1) {
            tables.free_all(memory, hw);
            memory.remove_space(slot);
            return Err(error);
        }
        Ok(Self {
            id,
            limits,
            layout,
            vmas: VmaTree::default(),
            totals: Totals::default(),
            future_flags: VmaFlags::empty(),
            tables,
            faults: FaultCounters::default(),
            slot,
            own_object,
            vma_objects: Objects::of(Cache::VmAreaStruct),
            descriptors: None,
        })
    }

    /// Takes an object of the kernel's memory for each VMA that has none yet, and gives those of
    /// VMAs that are gone back. Whoever changed the map calls it before the program runs on.
    ///
    /// Differs from Linux: a VMA for which no frame is left has no object until one is free, and
    /// the call that made it succeeds; there the allocator would have a process killed first.
    pub fn settle(&mut self, memory: &mut Memory, hw: &mut Machine) {
        if self.vma_objects.count() != self.vmas.len() {
            // What is missing is taken the next time.
            let _ = memory.set_objects(hw, &mut self.vma_objects, self.vmas.len());
        }
    }

    /// Objects of the kernel's memory that the space has: its own and those of its VMAs.
    pub fn objects(&self) -> [&Objects; 2] {
        [&self.own_object, &self.vma_objects]
    }

    /// Gives everything back: mappings, page tables, promises. Counters and the log stay.
    ///
    /// The space must not be used any more, and the machine must flush its address-space
    /// identifier (`Machine::flush_asid`) before another space gets it: the root may come again.
    pub fn exit(&mut self, memory: &mut Memory, hw: &mut Machine) {
        let all = self.tables.user_range();
        zap(self, memory, hw, all, Zap::All);
        for vma in core::mem::take(&mut self.vmas).into_vmas() {
            self.totals.remove(&vma, vma.range.pages());
            if vma.flags.contains(VmaFlags::ACCOUNT) {
                memory.uncharge_commit(vma.range.pages());
            }
            memory.release_backing(hw, vma.backing);
        }
        self.drop_descriptors(memory, hw);
        self.tables.free_all(memory, hw);
        for objects in [&mut self.vma_objects, &mut self.own_object] {
            // Fewer objects need no frame.
            let _ = memory.set_objects(hw, objects, 0);
        }
        memory.remove_space(self.slot);
    }

    /// The frame of the root table, for `Machine::activate`.
    pub fn root(&self) -> Frame {
        self.tables.root()
    }

    /// All VMAs, ascending.
    pub fn vmas(&self) -> impl Iterator<Item = &Vma> {
        self.vmas.iter()
    }

    /// The VMAs that end above `addr`, ascending.
    pub fn vmas_from(&self, addr: VirtAddr) -> impl Iterator<Item = &Vma> {
        self.vmas.iter_from(addr)
    }

    /// How many VMAs there are.
    pub fn vma_count(&self) -> usize {
        self.vmas.len()
    }

    /// The VMA that covers `addr`.
    pub fn vma_at(&self, addr: VirtAddr) -> Option<&Vma> {
        self.vmas.find(addr)
    }

    /// Sums over the VMAs.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// Faults so far.
    pub fn faults(&self) -> &FaultCounters {
        &self.faults
    }

    /// Starts the fault counts afresh: exec does, so that they are those of the program.
    pub fn forget_faults(&mut self) {
        self.faults = FaultCounters::default();
        self.vmas.for_each_mut(|vma| vma.fault_count = 0);
    }

    /// Resident pages now.
    pub fn rss(&self, memory: &Memory) -> Rss {
        memory.spaces[self.slot].rss
    }

    /// Entries that say that their page is in swap (`VmSwap`).
    pub fn swap_pages(&self, memory: &Memory) -> u64 {
        memory.spaces[self.slot].swap_pages
    }

    /// The most resident pages at one time (`VmHWM`).
    pub fn rss_peak_pages(&self, memory: &Memory) -> u64 {
        memory.spaces[self.slot].rss_peak_pages
    }

    /// Resident pages, by kind, at the first moment when there were most.
    pub fn rss_at_peak(&self, memory: &Memory) -> Rss {
        memory.spaces[self.slot].rss_at_peak
    }

    /// Frames of page tables below the root (`VmPTE`).
    pub fn page_table_frames(&self, memory: &Memory) -> u64 {
        memory.spaces[self.slot].table_frames
    }

    /// The most frames of page tables below the root at one time.
    pub fn page_table_frames_peak(&self, memory: &Memory) -> u64 {
        memory.spaces[self.slot].table_frames_peak
    }

    /// Counts the pages of `range` as smaps does; the range must be page aligned.
    pub fn count_pages(&self, hw: &Machine, memory: &Memory, range: VirtRange) -> PageCounts {
        page_table::count_pages(self, hw, memory, range)
    }

    /// Whether entries changed while the space was not active, since this was last asked. Then the
    /// TLBs may hold what is no longer true: flush its identifier (`Machine::flush_asid`) before it
    /// is activated again.
    ///
    /// # Source
    /// Linux 6.12 `arch/x86/mm/tlb.c:switch_mm_irqs_off` compares `tlb_gen` for this.
    pub fn take_stale(&mut self) -> bool {
        self.tables.take_stale()
    }

    /// Forgets which pages of `range`, page aligned, were accessed (`/proc/PID/clear_refs`).
    pub fn clear_referenced(&mut self, memory: &mut Memory, hw: &mut Machine, range: VirtRange) {
        page_table::clear_bits(self, memory, hw, range, Pte::ACCESSED).flush(&mut self.tables, hw);
    }

    /// How many pages were used since this was last asked: private ones, and those of files and
    /// shared memory. What reclaim knows of them stays; the TLBs lose them, so that the next use is
    /// seen.
    pub fn take_accessed(&mut self, memory: &mut Memory, hw: &mut Machine) -> u64 {
        let all = self.tables.user_range();
        let (count, stale) = page_table::take_accessed(self, memory, hw, all);
        stale.flush(&mut self.tables, hw);
        count
    }

    /// The leaf entry of the page at `addr`; empty where there is none. See [`crate::PteState`].
    pub fn entry_at(&self, hw: &Machine, addr: VirtAddr) -> Pte {
        self.tables.lookup(hw, addr)
    }

    /// Gives the VMA that covers `addr` a family of private pages, if it has none: the one of a
    /// neighbour it could merge with, else a new one (VMA-2). Returns it.
    ///
    /// # Source
    /// Linux 6.12 `mm/mmap.c:find_mergeable_anon_vma`.
    pub(crate) fn prepare_anon(&mut self, memory: &mut Memory, addr: VirtAddr) -> Option<AnonId> {
        let vma = self.vmas.find(addr)?;
        if vma.anon.is_some() {
            return vma.anon;
        }
        let next = self.vmas.find(vma.range.end);
        let previous = vma.range.start.checked_sub(1).and_then(|last| self.vmas.find(last));
        let own = |anon: &AnonId| !anon.is_inherited();
        let of_next =
            next.filter(|next| could_follow(vma, next)).and_then(|next| next.anon).filter(own);
        let of_previous =
            || previous.filter(|before| could_follow(before, vma)).and_then(|before| before.anon);
        let anon = of_next.or_else(|| of_previous().filter(own));
        let anon = anon.unwrap_or_else(|| AnonId::new(memory.new_family()));
        self.vmas.find_mut(addr)?.anon = Some(anon);
        Some(anon)
    }
}

/// Whether `next`, which starts where `vma` ends, differs at most in rights, so that both may have
/// one family of private pages.
fn could_follow(vma: &Vma, next: &Vma) -> bool {
    vma.flags == next.flags
        && vma.sharing == next.sharing
        && vma.backing.is_same(&next.backing)
        && next.page_offset == vma.page_offset.wrapping_add(vma.range.bytes() >> PAGE_SHIFT)
}
