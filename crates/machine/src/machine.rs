//! One computer: RAM, MMU, clock and log behind one door.

use crate::access::{Access, PageFault, Privilege};
use crate::addr::{Frame, PAGE_SHIFT, PhysAddr, VirtAddr, VirtRange};
use crate::clock::COSTS;
use crate::counters::{Counters, FastStatistics};
use crate::event::{EventLog, Keep};
use crate::geometry::Geometry;
use crate::mmu::Mmu;
use crate::pte::Pte;
use crate::ram::{Ram, RamError};
use crate::stale::StaleQueue;
use crate::tlb::{TlbMode, tlb_default};
use crate::walk;

/// Ranges of more pages than this are flushed by flushing the whole address space.
///
/// # Source
/// Linux `arch/x86/mm/tlb.c:tlb_single_page_flush_ceiling`.
pub const FLUSH_CEILING_PAGES: u64 = 33;

/// Whether the fast path is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FastPath {
    /// Emitted code hits without a call. The normal mode.
    #[default]
    Filled,
    /// Reference mode: every access goes through the model.
    Empty,
}

/// What a machine is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineConfig {
    /// Bytes of RAM: a multiple of 4,096, at least 1 MiB.
    pub ram_bytes: u64,
    /// Page-table format.
    pub geometry: Geometry,
    /// The modelled TLBs.
    pub tlb: TlbMode,
    /// Whether the fast path is used.
    pub reference: FastPath,
    /// Whether events are kept.
    pub keep: Keep,
    /// Seconds since 1970 when the machine starts.
    pub boot_seconds: u64,
}

impl Default for MachineConfig {
    fn default() -> Self {
        Self {
            ram_bytes: 1 << 30,
            geometry: Geometry::default(),
            tlb: TlbMode::Model(*tlb_default()),
            reference: FastPath::default(),
            keep: Keep::HashOnly,
            boot_seconds: 0,
        }
    }
}

/// A computer without an operating system.
#[derive(Debug)]
pub struct Machine {
    /// Physical memory.
    pub ram: Ram,
    /// What happened.
    pub log: EventLog,
    mmu: Mmu,
    stale: StaleQueue,
    advanced_ns: u64,
    config: MachineConfig,
}

impl Machine {
    /// A machine with zeroed RAM, empty TLBs and no active address space.
    ///
    /// # Errors
    /// As [`Ram::new`].
    pub fn new(config: MachineConfig) -> Result<Self, RamError> {
        Self::with_device(config, 0)
    }

    /// Likewise, with a device that has `device_bytes` of memory right above RAM.
    ///
    /// # Errors
    /// As [`Ram::with_device`].
    pub fn with_device(config: MachineConfig, device_bytes: u64) -> Result<Self, RamError> {
        let ram = Ram::with_device(config.ram_bytes, device_bytes)?;
        let mmu = Mmu::new(&config, &ram)?;
        let log = EventLog::new(config.keep);
        Ok(Self { ram, log, mmu, stale: StaleQueue::new(), advanced_ns: 0, config })
    }

    /// What the machine was made of.
    pub const fn config(&self) -> &MachineConfig {
        &self.config
    }

    /// The page-table format.
    pub const fn geometry(&self) -> Geometry {
        self.config.geometry
    }

    /// Seconds since 1970 when the machine started.
    pub const fn boot_seconds(&self) -> u64 {
        self.config.boot_seconds
    }

    /// Makes the tables at `root` the active ones, under the address-space identifier `asid` (12
    /// bits, like a PCID). TLB entries of other identifiers stay; those of `asid` go if it had
    /// another root before.
    pub fn activate(&mut self, root: Frame, asid: u16) {
        self.mmu.activate(root, asid);
    }

    /// The root of the active address space, if one was activated.
    pub fn root(&self) -> Option<Frame> {
        self.mmu.root()
    }

    /// One data access by user code to bytes within one page, a read or a write (a fetch here
    /// counts as a read). Advances the access clock, moves LRU order, fills TLBs and the fast
    /// path, walks, sets accessed and dirty bits.
    ///
    /// # Errors
    /// The fault that the CPU raises. Then neither the clock nor a hit or miss is counted, and the
    /// TLBs hold nothing for `addr`; `walks`, `walk_memory_reads` and `faults` show the attempt.
    #[inline]
    pub fn access(&mut self, addr: VirtAddr, access: Access) -> Result<PhysAddr, PageFault> {
        self.mmu.data(&mut self.ram, addr, access)
    }

    /// [`Machine::access`] without a panic or a vector register, for the usual access:
    /// its page is known to a TLB or found by a walk that changes no entry. Returns the host
    /// address of the byte. `None` if there is more to the access, or if it changes code: then
    /// nothing has happened. `slot` is the slot of `addr`, see [`crate::layout::MASK_INDEX`].
    #[inline(always)]
    pub fn access_quickly(&mut self, addr: VirtAddr, access: Access, slot: usize) -> Option<u64> {
        self.mmu.data_quickly(&self.ram, addr, access, slot)
    }

    /// Likewise both accesses of an operand at `addr` that reaches into the next page, whose frame
    /// lies behind that of the first.
    #[inline(always)]
    pub fn access_crossing_quickly(&mut self, addr: VirtAddr, access: Access) -> Option<u64> {
        self.mmu.crossing_quickly(&self.ram, addr, access)
    }

    /// `count` (at least 1) accesses like [`Machine::access`] to the page of `addr`, with no other
    /// in between: what a string instruction does.
    ///
    /// # Errors
    /// As [`Machine::access`]; then none of the accesses is counted.
    #[inline]
    pub fn access_repeat(
        &mut self,
        addr: VirtAddr,
        access: Access,
        count: u64,
    ) -> Result<PhysAddr, PageFault> {
        let physical = self.mmu.data(&mut self.ram, addr, access)?;
        self.mmu.repeat(access, count.saturating_sub(1));
        Ok(physical)
    }

    /// One fetch access by user code: execution enters the page of `addr`, which is the engine's
    /// code page `slot` (1 to 16,383; 0 and larger numbers have no fast path). Sets
    /// `FETCH_RESIDENT` of the slot, which goes back to 0 when the page leaves the L1I.
    ///
    /// # Errors
    /// As [`Machine::access`].
    pub fn fetch(&mut self, addr: VirtAddr, slot: u32) -> Result<PhysAddr, PageFault> {
        self.mmu.fetch(&mut self.ram, addr, slot)
    }

    /// [`Machine::fetch`] without a panic or a vector register, for what is usual when a page is
    /// entered that has left the L1I: the second level knows it, in a frame of which `is_known`
    /// holds, and no other page has `slot`. `None` if there is more to it: then nothing has
    /// happened.
    #[inline(always)]
    pub fn fetch_quickly(
        &mut self,
        addr: VirtAddr,
        slot: u32,
        is_known: impl FnOnce(Frame) -> bool,
    ) -> Option<()> {
        self.mmu.fetch_quickly(addr, slot, is_known)
    }

    /// Translates for the operating system: walks the active tables without TLB, clock or
    /// counters, and sets accessed and dirty bits.
    ///
    /// # Errors
    /// The fault that the access would raise.
    pub fn probe(
        &mut self,
        addr: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<PhysAddr, PageFault> {
        self.mmu
            .walk_uncounted(&mut self.ram, addr, access, privilege)
            .map(|walked| walked.physical(addr))
            .map_err(|refused| refused.fault)
    }

    /// Where the tables at `root` map `addr`, and the leaf entry; `None` if it is not mapped.
    /// Changes nothing.
    pub fn peek(&self, root: Frame, addr: VirtAddr) -> Option<(PhysAddr, Pte)> {
        let geometry = self.config.geometry;
        let (_, level, pte) = walk::find(geometry, &self.ram, root.start(), addr)?;
        let offset = addr.as_u64() & (geometry.span_bytes(level) - 1);
        let physical = geometry.leaf_frame(level, pte).start().wrapping_add(offset);
        pte.is_present().then_some((physical, pte))
    }

    /// INVLPG: forgets what TLBs and fast path know of the page (of any size) at `addr` in the
    /// active address space. The engine sees at its next fetch access where the page is then.
    pub fn flush_page(&mut self, addr: VirtAddr) {
        self.mmu.flush_page(addr);
    }

    /// Forgets the pages of a range: one by one up to [`FLUSH_CEILING_PAGES`], else the whole
    /// active address space.
    pub fn flush_range(&mut self, range: VirtRange) {
        if range.is_empty() {
            return;
        }
        let first = range.start.page().number();
        let last = (range.end.as_u64() - 1) >> PAGE_SHIFT;
        let count = last - first + 1;
        if count > FLUSH_CEILING_PAGES {
            self.mmu.flush_asid(self.mmu.asid());
        } else {
            for page in 0..count {
                self.mmu.flush_page(VirtAddr::new((first + page) << PAGE_SHIFT));
            }
        }
    }

    /// Forgets all pages of the active address space, but global ones, as loading CR3 does.
    pub fn flush_all(&mut self) {
        self.flush_asid(self.mmu.asid());
    }

    /// Forgets all pages of the address space `asid`, but global ones.
    pub fn flush_asid(&mut self, asid: u16) {
        self.mmu.flush_asid(asid);
    }

    /// Whether [`Machine::take_stale_code`] has something.
    #[inline]
    pub fn has_stale_code(&self) -> bool {
        !self.stale.is_empty()
    }

    /// Takes the next frame whose bytes are no longer those that code was translated from. The
    /// engine empties this before it executes.
    pub fn take_stale_code(&mut self) -> Option<Frame> {
        self.stale.pop()
    }

    /// Takes the number `slot` from the code page that has it: entries of it go through
    /// [`Machine::fetch`] again. The model does not change.
    pub fn release_fetch_slot(&mut self, slot: u32) {
        self.mmu.take_fetch_slot(slot);
    }

    /// Says that code was translated from `frame`: stores of the CPU to it never take the fast
    /// path, and the first [`Machine::store`] to it makes it stale.
    pub fn mark_code(&mut self, frame: Frame) {
        self.mmu.mark_code(&self.ram, frame);
    }

    /// Says that no translated code of `frame` is left.
    pub fn unmark_code(&mut self, frame: Frame) {
        self.mmu.unmark_code(frame);
    }

    /// Whether `frame` is marked by [`Machine::mark_code`].
    #[inline]
    pub fn is_code(&self, frame: Frame) -> bool {
        self.mmu.is_code(frame)
    }

    /// Writes bytes for the operating system. Marked frames become stale code and lose their mark.
    ///
    /// # Panics
    /// If a byte is outside RAM: addresses come from a translation.
    pub fn store(&mut self, addr: PhysAddr, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let length = bytes.len() as u64;
        self.ram.slice_mut(addr, length).copy_from_slice(bytes);
        self.bytes_changed(addr, length);
    }

    /// Reads bytes for the operating system.
    ///
    /// # Panics
    /// If a byte is outside RAM: addresses come from a translation.
    pub fn load(&self, addr: PhysAddr, bytes: &mut [u8]) {
        bytes.copy_from_slice(self.ram.slice(addr, bytes.len() as u64));
    }

    /// Copies `bytes` bytes inside RAM for the operating system. Marked frames that they go to
    /// become stale code and lose their mark.
    ///
    /// # Panics
    /// If a byte is outside RAM: addresses come from a translation.
    pub fn copy(&mut self, from: PhysAddr, to: PhysAddr, bytes: u64) {
        if bytes == 0 {
            return;
        }
        self.ram.copy(from, to, bytes);
        self.bytes_changed(to, bytes);
    }

    /// Stores the bytes of `pattern`, again and again from the lowest on, in `bytes` bytes. Marked
    /// frames that they go to become stale code and lose their mark.
    ///
    /// # Panics
    /// If a byte is outside RAM: addresses come from a translation.
    pub fn fill(&mut self, addr: PhysAddr, bytes: u64, pattern: u64) {
        if bytes == 0 {
            return;
        }
        let pattern = pattern.to_le_bytes();
        let mut words = self.ram.slice_mut(addr, bytes).chunks_exact_mut(pattern.len());
        for word in &mut words {
            word.copy_from_slice(&pattern);
        }
        let rest = words.into_remainder();
        rest.copy_from_slice(&pattern[..rest.len()]);
        self.bytes_changed(addr, bytes);
    }

    /// Says that the `bytes` bytes from `addr` changed, at least one.
    fn bytes_changed(&mut self, addr: PhysAddr, bytes: u64) {
        let last = addr.wrapping_add(bytes - 1).frame();
        for offset in 0..=last.offset_from(addr.frame()) {
            self.frame_changed(addr.frame().wrapping_add(offset));
        }
    }

    /// Says that the bytes of `frame` changed behind the CPU's back (zeroed, copied to, freed):
    /// code translated from it is stale, and its mark is gone.
    #[inline]
    pub fn frame_changed(&mut self, frame: Frame) {
        if self.mmu.is_code(frame) {
            self.mmu.unmark_code(frame);
            self.stale.push(frame);
        }
    }

    /// Moves the counts in the access clock into the totals: due when [`crate::CLOCK_DRAIN_BIT`]
    /// is set.
    pub fn drain_clock(&mut self) {
        self.mmu.drain();
    }

    /// Virtual nanoseconds since the machine started, from counters and [`COSTS`]. Never
    /// decreases. Without modelled TLBs walks take no time: how many there are is then a matter of
    /// the fast path.
    pub fn now_ns(&self) -> u64 {
        let mut counters = self.mmu.counters();
        if !self.mmu.is_modelled() {
            (counters.walks, counters.walk_memory_reads) = (0, 0);
        }
        COSTS.nanoseconds(&counters).saturating_add(self.advanced_ns)
    }

    /// Data accesses so far: the time stamp of events.
    #[inline]
    pub fn time(&self) -> u64 {
        self.mmu.time()
    }

    /// Lets `ns` of virtual time pass: costs that are not of the machine's making.
    pub fn advance_ns(&mut self, ns: u64) {
        self.advanced_ns = self.advanced_ns.saturating_add(ns);
    }

    /// Everything counted so far.
    pub fn counters(&self) -> Counters {
        self.mmu.counters()
    }

    /// How the fast path fared: tells about this program, not about the modelled machine.
    pub fn fast_statistics(&self) -> FastStatistics {
        self.mmu.fast_statistics()
    }

    /// The words that emitted code shares with the machine, see [`crate::layout`].
    #[inline]
    pub fn fast(&mut self) -> &mut [u64] {
        self.mmu.fast.words.as_mut_slice()
    }

    /// Says in the words whether emitted code may make first-level misses itself. Due whenever it
    /// goes on after anything but [`Machine::access_quickly`].
    #[inline]
    pub fn allow_misses(&mut self) {
        self.mmu.allow_misses();
    }

    /// The MMU, for tests that compare states.
    #[cfg(test)]
    pub(crate) fn mmu_for_tests(&mut self) -> &mut Mmu {
        &mut self.mmu
    }

    /// The host address of the first of those words. It never changes.
    pub fn fast_address(&self) -> u64 {
        self.mmu.fast.words.as_ptr().addr() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::PAGE_BYTES;

    fn machine() -> Machine {
        Machine::new(MachineConfig { ram_bytes: 4 << 20, ..MachineConfig::default() })
            .expect("4 MiB")
    }

    fn range(start: u64, end: u64) -> VirtRange {
        VirtRange::new(VirtAddr::new(start), VirtAddr::new(end))
    }

    #[test]
    fn short_ranges_are_flushed_page_by_page() {
        let mut hw = machine();
        hw.flush_page(VirtAddr::new(0x1234));
        hw.flush_range(range(0x8000, 0x8000 + 33 * PAGE_BYTES));
        hw.flush_range(range(0x8000, 0x8000));
        assert_eq!(hw.counters().page_flushes, 34);
        hw.flush_range(range(0x4_0000, 0x4_0000 + 34 * PAGE_BYTES));
        assert_eq!((hw.counters().page_flushes, hw.counters().full_flushes), (34, 1));
        hw.flush_page(VirtAddr::new(u64::MAX));
        hw.flush_range(range(u64::MAX - 1, u64::MAX));
    }

    #[test]
    fn kernel_stores_to_code_are_reported_once() {
        let mut hw = machine();
        hw.mark_code(Frame::new(3));
        hw.store(PhysAddr::new(0x1000), &[1; 0x1000]);
        hw.store(PhysAddr::new(0x3000), &[]);
        assert!(!hw.has_stale_code());
        hw.store(PhysAddr::new(0x2ffe), &[7; 4]);
        hw.store(PhysAddr::new(0x3000), &[7; 4]);
        assert!(!hw.is_code(Frame::new(3)));
        assert_eq!(hw.take_stale_code(), Some(Frame::new(3)));
        assert_eq!(hw.take_stale_code(), None);
        let mut bytes = [0; 6];
        hw.load(PhysAddr::new(0x2ffd), &mut bytes);
        assert_eq!(bytes, [0, 7, 7, 7, 7, 7]);
        hw.frame_changed(Frame::new(3));
        assert!(!hw.has_stale_code());
        hw.mark_code(Frame::new(3));
        hw.frame_changed(Frame::new(3));
        assert!(hw.has_stale_code());
    }

    #[test]
    fn time_passes_with_work_and_with_what_others_charge() {
        let mut hw = machine();
        assert_eq!((hw.now_ns(), hw.time()), (0, 0));
        hw.advance_ns(5);
        assert_eq!(hw.now_ns(), 5);
        hw.advance_ns(u64::MAX);
        assert_eq!(hw.now_ns(), u64::MAX);
    }
}
