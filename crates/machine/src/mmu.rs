//! The MMU: from one access of the CPU to a physical address, through the modelled TLBs.
//!
//! ```text
//! access -> L1 -> L2 -> walk        a hit in L2 fills L1, a walk fills both
//! ```
//!
//! A TLB entry that does not allow the access (no right, or a store to a clean page) is walked
//! anew; if the walk allows it, the entry takes what the walk found and the access counts as a
//! hit. If the walk refuses, the entry goes, as hardware drops what translates a faulting address
//! (Intel SDM 3A, 4.10.4.1), and nothing but `walks`, `walk_memory_reads` and `faults` counts.
//!
//! All TLB entries are of user pages: only user code goes through here. Supervisor accesses
//! ([`crate::Machine::probe`]) walk and leave TLBs and clock alone.
//!
//! Invariants (`t(e)` is the time of the last access to entry `e`)
//! 1. A READ_TAG that is not poison names a page that is in L1D in the active address space, with
//!    accessed set. A WRITE_TAG that is not poison names one that is also writable, dirty, and not
//!    in a frame with translated code.
//! 2. The effective stamp of `e` is `t(e)`, see `tlb/first.rs`.
//! 3. The clocks rise strictly: a data access adds 1 or [`CLOCK_WRITE`], a fetch adds 1.
//!
//! Hence what emitted code does on a hit (stamp the slot, advance the clock) is the model's whole
//! transition for a hit, and all counts equal those of [`FastPath::Empty`].

mod data;
mod emitted;
mod fetch;
mod flush;
#[cfg(test)]
mod naive;
mod quick;
#[cfg(test)]
mod tests;
mod unmodelled;

use alloc::collections::{BTreeMap, BTreeSet};

use crate::access::{Access, PageFault, Privilege, Refusal};
use crate::addr::{Frame, VirtAddr};
use crate::clock::{AccessTotals, CLOCK_READ, CLOCK_START, CLOCK_WRITE, is_at_end};
use crate::counters::{Counters, FastStatistics, HitMiss};
use crate::fast::{FastTlb, layout};
use crate::frames::FrameSet;
use crate::geometry::Geometry;
use crate::machine::{FastPath, MachineConfig};
use crate::ram::{Ram, RamError};
use crate::tlb::{
    Banks, DataLevel, FetchLevel, LevelSpec, SecondLevel, Shifts, TlbMode, Translation,
};
use quick::{QuickMode, quick_format};

use crate::walk::{self, Refused, Request, UsedFormat, WalkControls, Walked};

/// Address-space identifiers have 12 bits, like PCIDs.
const ASID_MASK: u16 = 0xfff;

/// The translation half of a machine.
#[derive(Debug)]
pub(crate) struct Mmu {
    pub(crate) fast: FastTlb,
    geometry: Geometry,
    shifts: Shifts,
    root: Option<Frame>,
    asid: u16,
    /// The root that each ASID had last.
    roots: BTreeMap<u16, Frame>,
    fast_path: FastPath,
    is_modelled: bool,
    l1d: DataLevel,
    l1i: FetchLevel,
    l2: SecondLevel,
    /// A separate second level for instructions.
    l2i: Option<SecondLevel>,
    /// Without a model: `(page, slot)` of code pages that emitted code may enter.
    fetched: BTreeSet<(u64, u32)>,
    /// Without a model: whether a large page was ever used.
    saw_large: bool,
    code: FrameSet,
    totals: AccessTotals,
    counts: Counters,
    /// Walks of the quick path, to pages of 4 KiB, that are not in `counts`.
    quick_walks: u64,
    quick_mode: QuickMode,
    quick_format: UsedFormat,
}

impl Mmu {
    /// Without any translation.
    ///
    /// # Errors
    /// As [`FastTlb::new`].
    pub(crate) fn new(config: &MachineConfig, ram: &Ram) -> Result<Self, RamError> {
        let shifts = Shifts::of(config.geometry);
        let none = LevelSpec::NONE;
        let (l1d, l1i, l2, l2i) = match &config.tlb {
            TlbMode::Model(spec) => (spec.l1d, spec.l1i, spec.l2, spec.l2i),
            TlbMode::Off => (none, none, none, None),
        };
        let l1d = Banks::new(&l1d.for_first_level(), shifts);
        let l1i = Banks::new(&l1i.for_first_level(), shifts);
        let mut fast = FastTlb::new()?;
        fast.words[layout::CLOCK] = CLOCK_START;
        fast.words[layout::FETCH_CLOCK] = 1;
        let mut mmu = Self {
            l1d: DataLevel::new(l1d, &mut fast.words),
            l1i: FetchLevel::new(l1i, &mut fast.words),
            l2: SecondLevel::new(&l2, shifts),
            l2i: l2i.map(|spec| SecondLevel::new(&spec, shifts)),
            fast,
            geometry: config.geometry,
            shifts,
            root: None,
            asid: 0,
            roots: BTreeMap::new(),
            fast_path: config.reference,
            is_modelled: config.tlb != TlbMode::Off,
            fetched: BTreeSet::new(),
            saw_large: false,
            code: FrameSet::new(ram.end().frame().number()),
            totals: AccessTotals::new(),
            counts: Counters::default(),
            quick_walks: 0,
            quick_mode: QuickMode::of(config),
            quick_format: quick_format(config),
        };
        mmu.publish(ram);
        Ok(mmu)
    }

    /// Walks for a user access, counts it, and returns what a TLB keeps of it.
    fn walk(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
    ) -> Result<Translation, PageFault> {
        let walked = self.walk_counted(ram, addr, access)?;
        Ok(Translation::of(&walked, self.shifts))
    }

    #[inline]
    fn walk_counted(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
    ) -> Result<Walked, PageFault> {
        match self.walk_uncounted(ram, addr, access, Privilege::User) {
            Ok(walked) => {
                self.counts.walks += 1;
                self.counts.walk_memory_reads += u64::from(walked.memory_reads);
                Ok(walked)
            }
            Err(refused) if refused.fault.refusal == Refusal::NonCanonical => {
                Err(self.refuse(addr, access))
            }
            Err(refused) => {
                self.counts.walks += 1;
                self.counts.walk_memory_reads += u64::from(refused.memory_reads);
                self.counts.faults += 1;
                self.drop_page(addr);
                Err(refused.fault)
            }
        }
    }

    /// Walks the active tables. RAM and a device's memory are all there is: a page that reaches
    /// beyond them is refused like one with a reserved address bit.
    #[inline]
    pub(crate) fn walk_uncounted(
        &self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<Walked, Refused> {
        let request = Request { addr, access, privilege };
        let refuse = |refusal, memory_reads| Refused {
            fault: PageFault { addr, access, privilege, refusal },
            memory_reads,
        };
        let root = self.root.ok_or_else(|| refuse(Refusal::NotPresent, 0))?;
        let controls = WalkControls::default();
        let walked = walk::translate(self.geometry, controls, ram, root.start(), request)?;
        let page = walked.frame.start().as_u64() & !walked.size.offset_mask();
        if page + walked.size.bytes() > ram.end().as_u64() {
            return Err(refuse(Refusal::ReservedBit, walked.memory_reads));
        }
        Ok(walked)
    }

    /// The refusal of an address that no format has. No walk is made.
    #[cold]
    fn refuse(&mut self, addr: VirtAddr, access: Access) -> PageFault {
        self.counts.faults += 1;
        PageFault { addr, access, privilege: Privilege::User, refusal: Refusal::NonCanonical }
    }

    /// Keeps stores to `frame` off the fast path.
    pub(crate) fn mark_code(&mut self, ram: &Ram, frame: Frame) {
        if self.code.insert(frame) {
            let host = ram.host_base().wrapping_add(frame.start().as_u64());
            self.fast.poison_stores_to(host);
        }
    }

    /// Lets stores to `frame` take the fast path again.
    pub(crate) fn unmark_code(&mut self, frame: Frame) {
        self.code.remove(frame);
    }

    /// Whether `frame` holds translated code.
    #[inline]
    pub(crate) fn is_code(&self, frame: Frame) -> bool {
        self.code.contains(frame)
    }

    /// Moves the counts of the clock into the totals.
    #[cold]
    pub(crate) fn drain(&mut self) {
        let clock = self.totals.drain(self.fast.words[layout::CLOCK]);
        self.fast.words[layout::CLOCK] = clock;
        self.l1d.look_for_unattached();
        if is_at_end(clock) {
            self.rank_stamps();
        }
    }

    /// Replaces the stamps of L1D by their ranks and starts the clock above them.
    fn rank_stamps(&mut self) {
        for slot in 0..self.fast.slot_count() {
            self.l1d.detach(&mut self.fast.words, slot);
        }
        self.fast.poison_all();
        let rank = self.l1d.rank_stamps(&mut self.fast.words);
        self.fast.words[layout::CLOCK] = self.totals.restart_above(rank);
    }

    /// Data accesses so far.
    #[inline]
    pub(crate) fn time(&self) -> u64 {
        let (reads, writes) = self.totals.at(self.fast.words[layout::CLOCK]);
        reads.wrapping_add(writes)
    }

    /// Whether there are TLBs.
    pub(crate) const fn is_modelled(&self) -> bool {
        self.is_modelled
    }

    /// Everything counted so far.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.counts;
        let emitted = self.fast.words[layout::MISS_COUNT];
        counters.l1d.misses += emitted;
        counters.l2.hits += emitted;
        (counters.reads, counters.writes) = self.totals.at(self.fast.words[layout::CLOCK]);
        counters.walks += self.quick_walks;
        counters.walk_memory_reads += self.geometry.walk_reads() * self.quick_walks;
        counters.fetches = self.fast.words[layout::FETCH_CLOCK] - 1;
        if self.is_modelled {
            let hits = |accesses: u64, level: HitMiss| accesses - level.misses;
            counters.l1d.hits = hits(counters.reads + counters.writes, counters.l1d);
            counters.l1i.hits = hits(counters.fetches, counters.l1i);
        }
        counters
    }

    /// How the fast path fared. Not part of the model.
    pub(crate) fn fast_statistics(&self) -> FastStatistics {
        let (conflicts, mask_changes, fills) = self.fast.statistics();
        let emitted = self.fast.words[layout::MISS_COUNT];
        FastStatistics {
            conflicts,
            mask_changes: mask_changes as u64,
            fills: fills + emitted,
            emitted_misses: emitted,
        }
    }
}

/// The second level that serves an access.
#[inline]
fn second_for<'a>(
    data: &'a mut SecondLevel,
    fetch: &'a mut Option<SecondLevel>,
    access: Access,
) -> &'a mut SecondLevel {
    match (access, fetch) {
        (Access::Fetch, Some(fetch)) => fetch,
        _ => data,
    }
}

/// What an access adds to the clock.
#[inline]
const fn clock_step(access: Access) -> u64 {
    match access {
        Access::Write => CLOCK_WRITE,
        Access::Read | Access::Fetch => CLOCK_READ,
    }
}

/// The index of a code-page slot of the engine, if emitted code may use it.
fn fetch_slot(slot: u32) -> Option<usize> {
    let index = slot as usize;
    (index != 0 && index < layout::FETCH_SLOTS).then_some(index)
}
