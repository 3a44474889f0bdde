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

use alloc::collections::{BTreeMap, BTreeSet};

use crate::access::{Access, PageFault, Privilege, Refusal};
use crate::addr::{Frame, PageSize, PhysAddr, VirtAddr};
use crate::clock::{
    AccessTotals, CLOCK_DRAIN_BIT, CLOCK_READ, CLOCK_START, CLOCK_WRITE, is_at_end,
};
use crate::counters::{Counters, FastStatistics, HitMiss};
use crate::fast::{FastPage, FastTlb, layout};
use crate::frames::FrameSet;
use crate::geometry::Geometry;
use crate::machine::{FastPath, MachineConfig};
use crate::ram::Ram;
use crate::tlb::{
    Banks, Class, DataLevel, FetchLevel, LevelSpec, SecondLevel, Shifts, TAG_ADDRESS_BITS, TlbMode,
    Translation,
};
use crate::walk::{self, Refused, Request, WalkControls, Walked};

/// Bits of the clock that are all set once draining is overdue.
const CLOCK_OVERDUE: u64 = CLOCK_DRAIN_BIT | CLOCK_DRAIN_BIT >> 1;

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
}

impl Mmu {
    pub(crate) fn new(config: &MachineConfig, ram: &Ram) -> Self {
        let shifts = Shifts::of(config.geometry);
        let none = LevelSpec::NONE;
        let (l1d, l1i, l2, l2i) = match &config.tlb {
            TlbMode::Model(spec) => (spec.l1d, spec.l1i, spec.l2, spec.l2i),
            TlbMode::Off => (none, none, none, None),
        };
        let l1d = Banks::new(&l1d.for_first_level(), shifts);
        let l1i = Banks::new(&l1i.for_first_level(), shifts);
        let mut fast = FastTlb::new();
        fast.words[layout::CLOCK] = CLOCK_START;
        fast.words[layout::FETCH_CLOCK] = 1;
        Self {
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
            code: FrameSet::new(ram.frame_count()),
            totals: AccessTotals::new(),
            counts: Counters::default(),
        }
    }

    // ---- data accesses -------------------------------------------------------------------

    /// One data access of user code: a read, or a write.
    #[inline]
    pub(crate) fn data(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
    ) -> Result<PhysAddr, PageFault> {
        // Emitted code drains when it sees the bit, at the same access with and without a filled
        // fast path: so only a caller that never looks at it is helped here.
        if self.fast.words[layout::CLOCK] & CLOCK_OVERDUE == CLOCK_OVERDUE {
            self.drain();
        }
        if !addr.is_canonical(TAG_ADDRESS_BITS) {
            return Err(self.refuse(addr, access));
        }
        if !self.is_modelled {
            return self.data_unmodelled(ram, addr, access);
        }
        let entry = match self.l1d.banks.look(addr, self.asid) {
            Some(entry) if self.l1d.banks.translation(entry).allows(access) => entry,
            Some(entry) => self.data_rewalk(ram, addr, access, entry)?,
            None => self.data_miss(ram, addr, access)?,
        };
        Ok(self.use_data(ram, addr, access, entry))
    }

    /// Counts `reads` and `writes` that follow an access to the same page and change nothing else.
    pub(crate) fn repeat(&mut self, access: Access, count: u64) {
        match access {
            Access::Write => self.totals.add(0, count),
            Access::Read | Access::Fetch => self.totals.add(count, 0),
        }
    }

    /// Brings the page of `addr` into L1D from below.
    #[inline(always)]
    fn data_miss(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
    ) -> Result<usize, PageFault> {
        let known = self.l2.look(addr, self.asid);
        let page = match known {
            Some(entry) if self.l2.banks.translation(entry).allows(access) => {
                self.l2.touch(entry);
                self.counts.l2.hits += 1;
                self.l2.banks.translation(entry)
            }
            _ => self.below_first(ram, addr, access, known)?,
        };
        self.counts.l1d.misses += 1;
        Ok(self.insert_data(addr, page))
    }

    /// Walks for an access that misses the first level, and that the second level has no entry for
    /// (`known` is `None`) or one that does not allow it.
    #[inline(never)]
    fn below_first(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
        known: Option<usize>,
    ) -> Result<Translation, PageFault> {
        let page = self.walk(ram, addr, access)?;
        let asid = self.asid;
        let second = second_for(&mut self.l2, &mut self.l2i, access);
        match known {
            Some(entry) if second.banks.translation(entry).class() == page.class() => {
                self.counts.dirty_walks += 1;
                self.counts.l2.hits += 1;
                second.banks.update(entry, page);
                second.touch(entry);
            }
            _ => {
                if second.banks.exists() {
                    self.counts.l2.misses += 1;
                }
                if known.is_some() {
                    self.drop_page(addr);
                }
                second_for(&mut self.l2, &mut self.l2i, access).insert(addr, asid, page);
            }
        }
        Ok(page)
    }

    /// Walks for an access that its L1D entry does not allow; returns the entry that does.
    #[cold]
    fn data_rewalk(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
        entry: usize,
    ) -> Result<usize, PageFault> {
        let page = self.walk(ram, addr, access)?;
        if self.refresh(addr, access, self.l1d.banks.translation(entry), page) {
            self.l1d.banks.update(entry, page);
            return Ok(entry);
        }
        self.counts.l1d.misses += 1;
        Ok(self.insert_data(addr, page))
    }

    /// Takes what a walk found for a page that a first level holds as `old`: `true` if it is still
    /// a page of the same size and the second level follows. Else forgets the old page, and counts
    /// and inserts the new one below.
    fn refresh(
        &mut self,
        addr: VirtAddr,
        access: Access,
        old: Translation,
        page: Translation,
    ) -> bool {
        self.counts.dirty_walks += 1;
        let asid = self.asid;
        let second = second_for(&mut self.l2, &mut self.l2i, access);
        if old.class() == page.class() {
            if let Some(entry) = second.look(addr, asid) {
                second.banks.update(entry, page);
            }
            return true;
        }
        if second.banks.exists() {
            self.counts.l2.misses += 1;
        }
        self.drop_page(addr);
        second_for(&mut self.l2, &mut self.l2i, access).insert(addr, asid, page);
        false
    }

    /// Puts a page, or the piece of it at `addr`, into L1D; returns its entry.
    #[inline(always)]
    fn insert_data(&mut self, addr: VirtAddr, page: Translation) -> usize {
        if page.class() == Class::K4 {
            self.insert_data_as(Class::K4, addr, page)
        } else {
            self.insert_large_data(addr, page)
        }
    }

    #[inline(never)]
    fn insert_large_data(&mut self, addr: VirtAddr, page: Translation) -> usize {
        self.insert_data_as(self.l1d.class_for(page), addr, page)
    }

    #[inline(always)]
    fn insert_data_as(&mut self, class: Class, addr: VirtAddr, page: Translation) -> usize {
        let entry = self.l1d.victim(&self.fast.words, class, addr);
        if self.l1d.has_many(entry) {
            self.release_data(entry);
        } else if let Some(slot) = self.l1d.take_only(entry) {
            self.fast.poison(slot);
        }
        self.l1d.banks.put(entry, class, addr, self.asid, page);
        entry
    }

    /// Takes all slots of an L1D entry and poisons them.
    #[inline(never)]
    fn release_data(&mut self, entry: usize) {
        while let Some(slot) = self.l1d.detach_one(&mut self.fast.words, entry) {
            self.fast.poison(slot);
        }
    }

    /// The use itself: stamp, shadow, clock.
    #[inline(always)]
    fn use_data(&mut self, ram: &Ram, addr: VirtAddr, access: Access, entry: usize) -> PhysAddr {
        let clock = self.fast.words[layout::CLOCK];
        let page = self.l1d.banks.translation(entry);
        let physical = self.l1d.banks.physical(page, addr);
        if self.fast_path == FastPath::Filled {
            let page = self.fast_page(ram, addr, physical, page.allows(Access::Write));
            let slot = self.own_slot(addr, page.base, entry);
            self.fast.fill(slot, page, clock);
        } else {
            self.l1d.set_stamp(&mut self.fast.words, entry, clock);
        }
        self.fast.words[layout::CLOCK] = clock + clock_step(access);
        physical
    }

    #[inline(always)]
    fn fast_page(
        &self,
        ram: &Ram,
        addr: VirtAddr,
        physical: PhysAddr,
        is_writable: bool,
    ) -> FastPage {
        let frame = physical.frame();
        FastPage {
            base: addr.align_down(PageSize::K4).as_u64(),
            host: ram.host_base().wrapping_add(frame.start().as_u64()),
            is_writable: is_writable && !self.code.contains(frame),
        }
    }

    /// The shadow slot of the page at `base`, owned by `entry`.
    #[inline(always)]
    fn own_slot(&mut self, addr: VirtAddr, base: u64, entry: usize) -> usize {
        let slot = self.fast.index(addr);
        if !self.l1d.is_owned(slot) {
            self.l1d.attach(slot, entry);
            return slot;
        }
        if self.l1d.owns(entry, slot) && self.fast.is_readable(slot, base) {
            return slot;
        }
        let slot = self.resolve_conflict(addr, base, slot);
        if !self.l1d.owns(entry, slot) {
            self.l1d.detach(&mut self.fast.words, slot);
            self.l1d.attach(slot, entry);
        }
        slot
    }

    /// Counts a conflict, perhaps grows the mask, and returns the slot of `addr` after that.
    #[cold]
    fn resolve_conflict(&mut self, addr: VirtAddr, base: u64, slot: usize) -> usize {
        if !self.fast.count_conflict() {
            return slot;
        }
        for other in 0..self.fast.slot_count() {
            self.l1d.detach(&mut self.fast.words, other);
        }
        self.fast.grow_mask(slot, base);
        self.fast.index(addr)
    }

    // ---- fetches -------------------------------------------------------------------------

    /// One fetch access of user code: an entry into the code page numbered `slot`.
    pub(crate) fn fetch(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        slot: u32,
    ) -> Result<PhysAddr, PageFault> {
        let fetched = if !addr.is_canonical(TAG_ADDRESS_BITS) {
            Err(self.refuse(addr, Access::Fetch))
        } else if self.is_modelled {
            self.fetch_modelled(ram, addr, slot)
        } else {
            self.fetch_unmodelled(ram, addr, slot)
        };
        if fetched.is_err() {
            self.take_fetch_slot(slot);
        }
        fetched
    }

    fn fetch_modelled(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        slot: u32,
    ) -> Result<PhysAddr, PageFault> {
        let entry = match self.l1i.banks.look(addr, self.asid) {
            Some(entry) if self.l1i.banks.translation(entry).allows(Access::Fetch) => entry,
            Some(entry) => self.fetch_rewalk(ram, addr, entry)?,
            None => self.fetch_miss(ram, addr)?,
        };
        self.use_fetch(entry, slot);
        Ok(self.l1i.banks.physical(self.l1i.banks.translation(entry), addr))
    }

    /// Takes a slot from the page that has it: the engine gave it to another.
    fn take_fetch_slot(&mut self, slot: u32) {
        if let Some(index) = fetch_slot(slot) {
            self.l1i.detach(&mut self.fast.words, index);
            self.fast.words[layout::FETCH_RESIDENT + index] = 0;
        }
    }

    fn fetch_miss(&mut self, ram: &mut Ram, addr: VirtAddr) -> Result<usize, PageFault> {
        let second = second_for(&mut self.l2, &mut self.l2i, Access::Fetch);
        let known = second.look(addr, self.asid);
        let page = match known {
            Some(entry) if second.banks.translation(entry).allows(Access::Fetch) => {
                second.touch(entry);
                self.counts.l2.hits += 1;
                second.banks.translation(entry)
            }
            _ => self.below_first(ram, addr, Access::Fetch, known)?,
        };
        self.counts.l1i.misses += 1;
        Ok(self.insert_fetch(addr, page))
    }

    #[cold]
    fn fetch_rewalk(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        entry: usize,
    ) -> Result<usize, PageFault> {
        let page = self.walk(ram, addr, Access::Fetch)?;
        if self.refresh(addr, Access::Fetch, self.l1i.banks.translation(entry), page) {
            self.l1i.banks.update(entry, page);
            return Ok(entry);
        }
        self.counts.l1i.misses += 1;
        Ok(self.insert_fetch(addr, page))
    }

    fn insert_fetch(&mut self, addr: VirtAddr, page: Translation) -> usize {
        let class = self.l1i.class_for(page);
        let entry = self.l1i.victim(&self.fast.words, class, addr);
        self.release_fetch(entry);
        self.l1i.banks.put(entry, class, addr, self.asid, page);
        entry
    }

    fn release_fetch(&mut self, entry: usize) {
        while let Some(slot) = self.l1i.detach_one(&mut self.fast.words, entry) {
            self.fast.words[layout::FETCH_RESIDENT + slot] = 0;
        }
    }

    fn use_fetch(&mut self, entry: usize, slot: u32) {
        let words = &mut self.fast.words;
        let clock = words[layout::FETCH_CLOCK];
        match fetch_slot(slot) {
            Some(slot) if self.fast_path == FastPath::Filled => {
                if !self.l1i.owns(entry, slot) {
                    self.l1i.detach(words, slot);
                    self.l1i.attach(slot, entry);
                }
                words[layout::FETCH_STAMP + slot] = clock;
                words[layout::FETCH_RESIDENT + slot] = 1;
            }
            _ => self.l1i.set_stamp(words, entry, clock),
        }
        words[layout::FETCH_CLOCK] = clock + 1;
        words[layout::FETCH_PAGE] = u64::from(slot);
    }

    // ---- without a model -----------------------------------------------------------------

    /// A data access with the shadow as the only TLB.
    #[inline(never)]
    fn data_unmodelled(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
    ) -> Result<PhysAddr, PageFault> {
        let walked = self.walk_counted(ram, addr, access)?;
        self.saw_large |= walked.size != PageSize::K4;
        let physical = walked.physical(addr);
        let clock = self.fast.words[layout::CLOCK];
        if self.fast_path == FastPath::Filled {
            let is_writable = walked.is_writable && walked.pte.is_dirty();
            let page = self.fast_page(ram, addr, physical, is_writable);
            let mut slot = self.fast.index(addr);
            if self.fast.is_taken_by_other(slot, page.base) {
                slot = self.resolve_conflict(addr, page.base, slot);
            }
            self.fast.fill(slot, page, clock);
        }
        self.fast.words[layout::CLOCK] = clock + clock_step(access);
        Ok(physical)
    }

    /// A fetch with the engine's code pages as the only TLB.
    fn fetch_unmodelled(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        slot: u32,
    ) -> Result<PhysAddr, PageFault> {
        let walked = self.walk_counted(ram, addr, Access::Fetch)?;
        self.saw_large |= walked.size != PageSize::K4;
        if let (Some(index), FastPath::Filled) = (fetch_slot(slot), self.fast_path) {
            self.fetched.insert((addr.page().number(), slot));
            self.fast.words[layout::FETCH_RESIDENT + index] = 1;
        }
        self.fast.words[layout::FETCH_CLOCK] += 1;
        self.fast.words[layout::FETCH_PAGE] = u64::from(slot);
        Ok(walked.physical(addr))
    }

    // ---- walks ---------------------------------------------------------------------------

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

    /// Walks the active tables. RAM is all there is of physical memory: a page that reaches beyond
    /// it is refused like one with a reserved address bit.
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
        if page + walked.size.bytes() > ram.bytes() {
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

    // ---- flushes -------------------------------------------------------------------------

    /// INVLPG: forgets what translates `addr` in the active address space, global or not.
    pub(crate) fn flush_page(&mut self, addr: VirtAddr) {
        self.counts.page_flushes += 1;
        self.fast.words[layout::FETCH_PAGE] = 0;
        self.drop_page(addr);
    }

    /// Forgets all pages of the address space `asid`.
    pub(crate) fn flush_asid(&mut self, asid: u16) {
        self.counts.full_flushes += 1;
        self.drop_asid(asid & ASID_MASK);
    }

    /// The active address space.
    pub(crate) fn asid(&self) -> u16 {
        self.asid
    }

    /// The root of the active address space.
    pub(crate) fn root(&self) -> Option<Frame> {
        self.root
    }

    fn drop_page(&mut self, addr: VirtAddr) {
        if !self.is_modelled {
            return self.drop_page_unmodelled(addr);
        }
        if !addr.is_canonical(TAG_ADDRESS_BITS) {
            return;
        }
        while let Some(entry) = self.l1d.banks.look_with_pieces(addr, self.asid) {
            self.drop_data(entry);
        }
        while let Some(entry) = self.l1i.banks.look_with_pieces(addr, self.asid) {
            self.drop_fetch(entry);
        }
        self.l2.drop_page(addr, self.asid);
        if let Some(l2i) = &mut self.l2i {
            l2i.drop_page(addr, self.asid);
        }
    }

    fn drop_data(&mut self, entry: usize) {
        self.release_data(entry);
        self.l1d.invalidate(&mut self.fast.words, entry);
    }

    fn drop_fetch(&mut self, entry: usize) {
        self.release_fetch(entry);
        self.l1i.invalidate(&mut self.fast.words, entry);
    }

    /// Without a model the size of the page is not known: forgets everything once large pages
    /// are about.
    fn drop_page_unmodelled(&mut self, addr: VirtAddr) {
        if self.saw_large {
            return self.leave_fast_path();
        }
        let base = addr.align_down(PageSize::K4).as_u64();
        let slot = self.fast.index(addr);
        if self.fast.is_readable(slot, base) {
            self.fast.poison(slot);
        }
        let page = addr.page().number();
        while let Some(&(page, slot)) = self.fetched.range((page, 0)..=(page, u32::MAX)).next() {
            self.fetched.remove(&(page, slot));
            self.forget_fetch_slot(slot);
        }
    }

    fn forget_fetch_slot(&mut self, slot: u32) {
        if let Some(index) = fetch_slot(slot) {
            self.fast.words[layout::FETCH_RESIDENT + index] = 0;
        }
    }

    fn drop_asid(&mut self, asid: u16) {
        if asid == self.asid {
            self.leave_fast_path();
        }
        self.drop_first_levels(asid);
        self.l2.drop_asid(asid);
        if let Some(l2i) = &mut self.l2i {
            l2i.drop_asid(asid);
        }
    }

    fn drop_first_levels(&mut self, asid: u16) {
        self.l1d.drop_asid(&mut self.fast.words, asid);
        self.l1i.drop_asid(&mut self.fast.words, asid);
    }

    /// Takes all shadow slots from their owners: the next access to any page goes through the
    /// model, with nothing changed in it.
    fn leave_fast_path(&mut self) {
        self.fast.poison_all();
        for entry in 0..self.l1d.banks.len() {
            while self.l1d.detach_one(&mut self.fast.words, entry).is_some() {}
        }
        for entry in 0..self.l1i.banks.len() {
            self.release_fetch(entry);
        }
        while let Some((_, slot)) = self.fetched.pop_first() {
            self.forget_fetch_slot(slot);
        }
        self.fast.words[layout::FETCH_PAGE] = 0;
    }

    /// Makes `root` the active tables.
    pub(crate) fn activate(&mut self, root: Frame, asid: u16) {
        let asid = asid & ASID_MASK;
        if self.root == Some(root) && self.asid == asid {
            return;
        }
        self.counts.switches += 1;
        self.leave_fast_path();
        self.asid = asid;
        self.root = Some(root);
        if self.roots.insert(asid, root).is_some_and(|old| old != root) {
            self.drop_asid(asid);
        }
    }

    // ---- code frames ---------------------------------------------------------------------

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

    // ---- clock and counters --------------------------------------------------------------

    /// Moves the counts of the clock into the totals.
    #[cold]
    pub(crate) fn drain(&mut self) {
        let clock = self.totals.drain(self.fast.words[layout::CLOCK]);
        self.fast.words[layout::CLOCK] = clock;
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

    /// Everything counted so far.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.counts;
        (counters.reads, counters.writes) = self.totals.at(self.fast.words[layout::CLOCK]);
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
        FastStatistics { conflicts, mask_changes: mask_changes as u64, fills }
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

#[cfg(test)]
mod naive;
#[cfg(test)]
mod tests;
