//! The model against itself (fast path filled and empty) and against a naive model.

use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::addr::{PAGE_BYTES, PageSize, PhysAddr, VirtRange};
use crate::clock::CLOCK_DRAIN_BIT;
use crate::event::Keep;
use crate::fast::Words;
use crate::machine::Machine;
use crate::pte::Pte;
use crate::tlb::{Array, FirstLevel, Large, TlbSpec, tlb_preset, tlb_presets};

const RAM_BYTES: u64 = 4 << 30;

/// xorshift: the tests' only randomness.
pub(super) struct Random(pub(super) u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 11) % bound
    }
}

pub(super) fn machine(geometry: Geometry, tlb: TlbMode, reference: FastPath) -> Machine {
    let config = MachineConfig {
        ram_bytes: RAM_BYTES,
        geometry,
        tlb,
        reference,
        keep: Keep::HashOnly,
        boot_seconds: 0,
    };
    Machine::new(config).expect("RAM is reserved lazily")
}

/// Makes page tables from frame 1 up: root frames first.
pub(super) struct Tables {
    pub(super) next: u64,
}

impl Tables {
    const TABLE: Pte = Pte::PRESENT.with(Pte::WRITE).with(Pte::USER);

    pub(super) fn root(&mut self) -> Frame {
        self.next += 1;
        Frame::new(self.next - 1)
    }

    /// The slot of the leaf of `level` for `addr`, with the tables above it made.
    fn slot(&mut self, hw: &mut Machine, root: Frame, addr: VirtAddr, level: u32) -> PhysAddr {
        let geometry = hw.geometry();
        let mut table = root;
        for above in (level + 1..=geometry.levels()).rev() {
            let slot = geometry.slot(table, geometry.index(above, addr));
            let mut entry = geometry.load(&hw.ram, slot);
            if !entry.is_present() {
                let is_register = geometry == Geometry::Pae && above == 3;
                let flags = if is_register { Pte::PRESENT } else { Self::TABLE };
                entry = Pte::new(self.root(), flags);
                geometry.store(&mut hw.ram, slot, entry);
            }
            table = entry.frame();
        }
        geometry.slot(table, geometry.index(level, addr))
    }

    pub(super) fn map(&mut self, hw: &mut Machine, root: Frame, page: Mapping) {
        let slot = self.slot(hw, root, page.addr, page.level);
        let large = if page.level > 1 { Pte::LARGE } else { Pte::EMPTY };
        let entry = Pte::new(page.frame, page.flags.with(Pte::PRESENT).with(large));
        hw.geometry().store(&mut hw.ram, slot, entry);
    }
}

#[derive(Clone, Copy)]
pub(super) struct Mapping {
    pub(super) addr: VirtAddr,
    pub(super) level: u32,
    pub(super) frame: Frame,
    pub(super) flags: Pte,
}

impl Mapping {
    /// Another frame for a small page, the same for a large one.
    fn neighbour(self) -> Frame {
        if self.level == 1 { Frame::new(self.frame.number() ^ 0x2000) } else { self.frame }
    }
}

/// What emitted code does for one data access.
pub(super) fn emitted_data(
    hw: &mut Machine,
    addr: VirtAddr,
    access: Access,
) -> Result<PhysAddr, PageFault> {
    let base = hw.ram.host_base();
    let slot = hw.mmu_for_tests().fast.index(addr);
    let words = hw.fast();
    let (tags, step) = match access {
        Access::Write => (layout::WRITE_TAG, CLOCK_WRITE),
        Access::Read | Access::Fetch => (layout::READ_TAG, CLOCK_READ),
    };
    let offset = addr.as_u64().wrapping_add(words[tags + slot]);
    if offset >= PAGE_BYTES {
        return match hw.access_quickly(addr, access, slot) {
            Some(host) => Ok(PhysAddr::new(host - base)),
            None => hw.access(addr, access),
        };
    }
    words[layout::STAMP + slot] = words[layout::CLOCK];
    words[layout::CLOCK] += step;
    let physical = PhysAddr::new(words[layout::HOST + slot] - base + offset);
    if words[layout::CLOCK] & CLOCK_DRAIN_BIT != 0 {
        hw.drain_clock();
    }
    Ok(physical)
}

/// What emitted code does when it enters a code page.
pub(super) fn emitted_fetch(hw: &mut Machine, addr: VirtAddr, slot: u32) -> Option<PageFault> {
    let index = slot as usize;
    let words = hw.fast();
    if words[layout::FETCH_RESIDENT + index] == 0 {
        return hw.fetch(addr, slot).err();
    }
    words[layout::FETCH_STAMP + index] = words[layout::FETCH_CLOCK];
    words[layout::FETCH_CLOCK] += 1;
    words[layout::FETCH_PAGE] = slot.into();
    None
}

/// The tags of a first level in LRU order.
fn lru_order<const STAMPS: usize, const SLOTS: usize>(
    level: &FirstLevel<STAMPS, SLOTS>,
    words: &Words,
) -> Vec<(u64, u64)> {
    let entries = (0..level.banks.len()).filter(|entry| level.banks.tag_of(*entry) != 0);
    let mut order: Vec<_> =
        entries.map(|entry| (level.stamp(words, entry), level.banks.tag_of(entry))).collect();
    order.sort_unstable();
    assert!(order.windows(2).all(|pair| pair[0].0 < pair[1].0), "stamps are distinct");
    order.iter().enumerate().map(|(rank, (_, tag))| (rank as u64, *tag)).collect()
}

/// Every entry of the TLBs with its place in the LRU order.
fn state(hw: &mut Machine) -> Vec<(u64, u64)> {
    let mmu = hw.mmu_for_tests();
    let words = &mmu.fast.words;
    let mut state = Vec::new();
    state.extend(lru_order(&mmu.l1d, words));
    state.extend(lru_order(&mmu.l1i, words));
    for level in [Some(&mmu.l2), mmu.l2i.as_ref()].into_iter().flatten() {
        state.extend((0..level.banks.len()).map(|entry| {
            let tag = level.banks.tag_of(entry);
            (if tag == 0 { 0 } else { level.stamp_of(entry) }, tag)
        }));
    }
    state
}

/// Two machines that do the same, and the pages they know.
struct Twins {
    filled: Machine,
    empty: Machine,
    tables: Tables,
    roots: Vec<Frame>,
    active: usize,
    pages: Vec<Mapping>,
    /// The page of each fetch slot.
    slots: Vec<u64>,
    random: Random,
    /// Operands over the end of a page that went the quick way.
    quick_crossings: u64,
    /// Entries into code pages that did.
    quick_fetches: u64,
}

impl Twins {
    fn new(geometry: Geometry, tlb: TlbMode, seed: u64) -> Self {
        let mut twins = Self {
            filled: machine(geometry, tlb, FastPath::Filled),
            empty: machine(geometry, tlb, FastPath::Empty),
            tables: Tables { next: 1 },
            roots: Vec::new(),
            active: 0,
            pages: Vec::new(),
            slots: vec![0; layout::FETCH_SLOTS],
            random: Random(seed),
            quick_crossings: 0,
            quick_fetches: 0,
        };
        twins.make_pages(geometry);
        twins.both(|hw, roots| hw.activate(roots[0], 1));
        twins
    }

    fn both(&mut self, mut change: impl FnMut(&mut Machine, &[Frame])) {
        change(&mut self.filled, &self.roots);
        change(&mut self.empty, &self.roots);
    }

    /// Some 400 pages: dense ones, far ones at equal set indexes, large ones, global ones.
    fn make_pages(&mut self, geometry: Geometry) {
        let large_bytes = geometry.large_size().bytes();
        let mut mappings = Vec::new();
        for number in 0..400u64 {
            let addr = match number % 4 {
                0 | 1 => 0x4000_0000 + (number << 12),
                2 => 0x1000_0000 + (number << 20),
                _ => 0x8000_0000 + ((number / 4 % 40) << 22) + ((number / 160) << 12),
            };
            let frame = Frame::new(0x1000 + number);
            mappings.push((addr, 1, frame, number));
        }
        for number in 0..12u64 {
            let frame = PhysAddr::new((64 << 20) + number * large_bytes).frame();
            mappings.push((0xc000_0000 + number * 2 * large_bytes, 2, frame, number));
        }
        if geometry.leaf_size(3).is_some() {
            for number in 0..3u64 {
                mappings.push((
                    0x40_0000_0000 + (number << 30),
                    3,
                    Frame::new(number << 18),
                    number,
                ));
            }
            for number in 0..60u64 {
                let addr = 0x7f00_0000_0000 + ((number % 3) << 39) / 8 * number + (number << 12);
                mappings.push((addr & !0xfff, 1, Frame::new(0x3000 + number), number));
            }
        }
        for root in 0..3 {
            let frame = self.tables.root();
            self.roots.push(frame);
            for (addr, level, frame, number) in &mappings {
                let mut flags = Pte::USER;
                if number % 5 != 4 {
                    flags = flags.with(Pte::WRITE);
                }
                if geometry.has_nx() && number % 3 == 0 {
                    flags = flags.with(Pte::NX);
                }
                if number % 16 == 7 {
                    flags = flags.with(Pte::GLOBAL);
                }
                let page =
                    Mapping { addr: VirtAddr::new(*addr), level: *level, frame: *frame, flags };
                if root == 0 {
                    self.pages.push(page);
                }
                self.map(root, page);
            }
        }
    }

    fn map(&mut self, root: usize, page: Mapping) {
        let next = self.tables.next;
        let root = self.roots[root];
        self.tables.map(&mut self.filled, root, page);
        self.tables.next = next;
        self.tables.map(&mut self.empty, root, page);
    }

    fn any_page(&mut self) -> usize {
        // Mostly a small working set, so that L1 hits, with excursions.
        let bound = if self.random.below(4) == 0 { self.pages.len() as u64 } else { 24 };
        let shift = self.random.below(3) * 97;
        ((self.random.below(bound) + shift) % self.pages.len() as u64) as usize
    }

    fn any_address(&mut self) -> VirtAddr {
        let index = self.any_page();
        let page = self.pages[index];
        let bytes = self.filled.geometry().span_bytes(page.level);
        let span = if self.random.below(3) == 0 { bytes } else { bytes.min(1 << 16) };
        page.addr.wrapping_add(self.random.below(span))
    }

    fn step(&mut self) {
        match self.random.below(4000) {
            0 => self.remap(),
            1..4 => {
                let addr = self.any_address();
                self.both(|hw, _| hw.flush_page(addr));
            }
            4 => {
                let addr = self.any_address().align_down(PageSize::K4);
                let pages = 1 + self.random.below(50);
                let range = VirtRange::new(addr, addr.wrapping_add(pages * PAGE_BYTES));
                self.both(|hw, _| hw.flush_range(range));
            }
            5 if self.random.below(20) == 0 => self.both(|hw, _| hw.flush_all()),
            6 => {
                self.active = self.random.below(3) as usize;
                let other = if self.random.below(30) == 0 { self.random.below(3) } else { 0 };
                let (root, asid) = (self.active, self.active as u16 + other as u16);
                self.both(|hw, roots| hw.activate(roots[root], asid));
            }
            7 if self.random.below(20) == 0 => self.both(|hw, _| hw.flush_asid(2)),
            8..12 => self.toggle_code(),
            12 => self.both(|hw, _| hw.drain_clock()),
            13..16 => {
                let addr = self.any_address();
                let filled = self.filled.access_repeat(addr, Access::Write, 100);
                assert_eq!(filled, self.empty.access_repeat(addr, Access::Write, 100));
            }
            16 => self.refuse_non_canonical(),
            17 => {
                let addr = self.any_address();
                let filled = self.filled.probe(addr, Access::Write, Privilege::Supervisor);
                assert_eq!(filled, self.empty.probe(addr, Access::Write, Privilege::Supervisor));
            }
            18..600 => self.fetch(),
            600..700 => self.crossing(),
            _ => self.data(),
        }
    }

    fn data(&mut self) {
        let addr = self.any_address();
        let access = if self.random.below(3) == 0 { Access::Write } else { Access::Read };
        let filled = emitted_data(&mut self.filled, addr, access);
        assert_eq!(filled, self.empty.access(addr, access), "{addr:?} {access:?}");
        if filled.is_ok() && self.random.below(8) == 0 {
            // A group: more accesses to the same page at once.
            let more = self.random.below(5);
            for _ in 0..more {
                let filled = emitted_data(&mut self.filled, addr, access);
                assert_eq!(filled, self.empty.access(addr, access));
            }
        }
    }

    /// An operand that reaches over the end of a page.
    fn crossing(&mut self) {
        let next = VirtAddr::new((self.any_address().as_u64() | (PAGE_BYTES - 1)).wrapping_add(1));
        let addr = VirtAddr::new(next.as_u64().wrapping_sub(4));
        let access = if self.random.below(3) == 0 { Access::Write } else { Access::Read };
        let quick = self.filled.access_crossing_quickly(addr, access);
        let filled = match quick {
            Some(host) => {
                let first = PhysAddr::new(host - self.filled.ram.host_base());
                [Ok(first), Ok(first.wrapping_add(4))]
            }
            None => [addr, next].map(|addr| emitted_data(&mut self.filled, addr, access)),
        };
        assert_eq!(filled, [addr, next].map(|addr| self.empty.access(addr, access)));
        self.quick_crossings += u64::from(quick.is_some());
    }

    fn fetch(&mut self) {
        let addr = self.any_address();
        // Slots are per address space and page, as an engine numbers them; some are reused.
        let slot = 1 + (addr.page().number() as u32).wrapping_mul(3) % 301;
        let page = addr.page().number();
        let refused = if self.slots[slot as usize] == page {
            let is_out = self.filled.fast()[layout::FETCH_RESIDENT + slot as usize] == 0;
            let is_quick = is_out && self.filled.fetch_quickly(addr, slot, |_| true).is_some();
            self.quick_fetches += u64::from(is_quick);
            if is_quick { None } else { emitted_fetch(&mut self.filled, addr, slot) }
        } else {
            self.filled.fetch(addr, slot).err()
        };
        self.slots[slot as usize] = page;
        assert_eq!(refused, self.empty.fetch(addr, slot).err());
    }

    fn remap(&mut self) {
        let index = self.any_page();
        let choice = self.random.below(4);
        let page = &mut self.pages[index];
        match choice {
            0 => page.flags = page.flags.without(Pte::WRITE),
            1 => page.flags = page.flags.with(Pte::WRITE),
            2 => page.flags = page.flags.without(Pte::NX),
            _ => page.frame = page.neighbour(),
        }
        let page = *page;
        let root = self.roots[self.active].start();
        let found = crate::walk::find(self.filled.geometry(), &self.filled.ram, root, page.addr);
        let is_moved = found.is_some_and(|(_, _, pte)| pte.frame() != page.frame);
        self.map(self.active, page);
        // Raising rights needs no flush. What is not flushed where a page has moved only a model
        // of TLBs shows.
        let is_seen = is_moved && !self.filled.mmu_for_tests().is_modelled;
        if choice == 0 || choice == 3 || self.random.below(2) == 0 || is_seen {
            self.both(|hw, _| hw.flush_page(page.addr));
        }
    }

    fn toggle_code(&mut self) {
        let index = self.any_page();
        let page = self.pages[index];
        let offset = self.random.below(8);
        let frame = page.frame.wrapping_add(if page.level > 1 { offset } else { 0 });
        if self.filled.is_code(frame) {
            self.both(|hw, _| hw.unmark_code(frame));
        } else {
            self.both(|hw, _| hw.mark_code(frame));
        }
    }

    fn refuse_non_canonical(&mut self) {
        let index = self.any_page();
        let page = self.pages[index];
        let addr = VirtAddr::new(page.addr.as_u64() ^ 1 << (57 + self.random.below(7)));
        let filled = emitted_data(&mut self.filled, addr, Access::Read);
        assert_eq!(filled, self.empty.access(addr, Access::Read));
        assert_eq!(filled.map_err(|fault| fault.refusal), Err(Refusal::NonCanonical));
    }

    fn compare(&mut self) {
        assert_eq!(self.filled.counters(), self.empty.counters());
        assert_eq!(self.filled.time(), self.empty.time());
        assert_eq!(self.filled.now_ns(), self.empty.now_ns());
        assert_eq!(state(&mut self.filled), state(&mut self.empty));
    }
}

fn run_twins(geometry: Geometry, tlb: TlbMode, steps: u32, seed: u64) -> (Counters, u64) {
    let mut twins = Twins::new(geometry, tlb, seed);
    for step in 0..steps {
        twins.step();
        if step % 20_000 == 0 {
            twins.compare();
        }
    }
    twins.compare();
    let statistics = twins.filled.fast_statistics();
    assert!(statistics.fills < u64::from(steps), "the fast path was used");
    assert_eq!(twins.empty.fast_statistics().fills, 0);
    (twins.filled.counters(), statistics.mask_changes)
}

#[test]
fn filled_and_empty_fast_path_count_alike_for_every_preset() {
    for (number, spec) in tlb_presets().iter().enumerate() {
        let (counters, mask_changes) =
            run_twins(Geometry::X86_64, TlbMode::Model(*spec), 300_000, 77 + number as u64);
        assert!(counters.l1d.hits > 10_000 && counters.l1d.misses > 10_000, "{counters:?}");
        assert!(counters.faults > 100 && counters.dirty_walks > 20, "{counters:?}");
        assert!(mask_changes > 0, "the index of the shadow grew");
    }
}

#[test]
fn filled_and_empty_fast_path_count_alike_for_every_geometry() {
    for (number, geometry) in Geometry::ALL.into_iter().enumerate() {
        for name in ["golden-cove", "classic"] {
            let spec = tlb_preset(name).expect("a preset");
            run_twins(geometry, TlbMode::Model(*spec), 150_000, 991 + number as u64);
        }
    }
}

#[test]
fn the_quick_slow_path_counts_like_the_full_one() {
    let modes = tlb_presets().iter().map(|spec| TlbMode::Model(*spec)).chain([TlbMode::Off]);
    let usual = modes.map(|tlb| (Geometry::X86_64, tlb));
    let other = [Geometry::I386, Geometry::Pae].into_iter();
    let other = other.flat_map(|geometry| [(geometry, model()), (geometry, TlbMode::Off)]);
    for (number, (geometry, tlb)) in usual.chain(other).enumerate() {
        let mut twins = Twins::new(geometry, tlb, 4000 + number as u64);
        twins.pages.retain(|page| page.level == 1 && !page.flags.contains(Pte::GLOBAL));
        for _ in 0..300_000 {
            twins.step();
        }
        if tlb == TlbMode::Off {
            // Every access of the empty twin walks.
            assert_eq!(twins.filled.time(), twins.empty.time());
        } else {
            twins.compare();
        }
        let mmu = twins.filled.mmu_for_tests();
        let quick_walks = mmu.quick_walks;
        let has_second_for_code =
            mmu.is_modelled && second_for(&mut mmu.l2, &mut mmu.l2i, Access::Fetch).banks.exists();
        if mmu.is_modelled && !mmu.l2.banks.exists() {
            // One level alone is not usual.
            continue;
        }
        assert!(quick_walks > 1000, "{quick_walks} quick walks, preset {number}");
        assert!(twins.quick_crossings > 50, "{} crossings, {number}", twins.quick_crossings);
        let are_fetches_quick = twins.quick_fetches > 50;
        assert_eq!(are_fetches_quick, has_second_for_code, "{number}");
    }
}

#[test]
fn filled_and_empty_fast_path_count_alike_for_odd_sizes() {
    let level = |entries, ways, m2, g1| LevelSpec { k4: Array::of(entries, ways), m2, g1 };
    let odd = [
        (level(1, 1, Large::Absent, Large::Absent), level(3, 3, Large::Absent, Large::Shared)),
        (level(96, 3, Large::Shared, Large::Absent), level(160, 5, Large::Shared, Large::Shared)),
        (level(40, 40, Large::Absent, Large::Shared), LevelSpec::NONE),
        (
            level(512, 1, Large::Own(Array::of(1, 1)), Large::Absent),
            level(1, 1, Large::Absent, Large::Absent),
        ),
    ];
    for (number, (first, second)) in odd.into_iter().enumerate() {
        for l2i in [None, Some(LevelSpec::NONE), Some(first)] {
            let spec = TlbSpec { name: "odd", source: "", l1d: first, l1i: first, l2: second, l2i };
            run_twins(Geometry::X86_64, TlbMode::Model(spec), 60_000, 5 + number as u64);
        }
    }
}

/// A machine with `count` small pages from `base`, mapped with `flags` to frames from 0x1000 on.
fn with_pages(tlb: TlbMode, reference: FastPath, count: u64, flags: Pte) -> Machine {
    let mut hw = machine(Geometry::X86_64, tlb, reference);
    let mut tables = Tables { next: 1 };
    let root = tables.root();
    for number in 0..count {
        let addr = VirtAddr::new(BASE + number * PAGE_BYTES);
        let frame = Frame::new(0x1000 + number);
        tables.map(&mut hw, root, Mapping { addr, level: 1, frame, flags });
    }
    hw.activate(root, 1);
    hw
}

const BASE: u64 = 0x40_0000;
const ALL: Pte = Pte::WRITE.with(Pte::USER);

fn page(number: u64) -> VirtAddr {
    VirtAddr::new(BASE + number * PAGE_BYTES)
}

fn model() -> TlbMode {
    TlbMode::Model(*tlb_preset("classic").expect("a preset"))
}

#[test]
fn stamps_ranked_anew_at_the_end_of_the_clock_keep_the_order() {
    let mut filled = with_pages(model(), FastPath::Filled, 600, ALL);
    let mut empty = with_pages(model(), FastPath::Empty, 600, ALL);
    let mut random = Random(3);
    for round in 0..6u64 {
        for hw in [&mut filled, &mut empty] {
            // As if the program had run for long: far enough to pass the end at the next drain.
            let clock = hw.fast()[layout::CLOCK];
            let far = (1 << 55) - (3 << 20) + (round << 20);
            hw.mmu_for_tests().fast.words[layout::CLOCK] = clock.max(far);
            hw.mmu_for_tests().totals.restart_above(far - (1 << 20));
        }
        for _ in 0..20_000 {
            let addr = page(random.below(600));
            let access = if random.below(2) == 0 { Access::Read } else { Access::Write };
            let result = emitted_data(&mut filled, addr, access);
            assert_eq!(result, empty.access(addr, access));
        }
        filled.drain_clock();
        empty.drain_clock();
        assert!(filled.fast()[layout::CLOCK] < 1 << 55, "the clock started anew");
        assert_eq!(state(&mut filled), state(&mut empty));
        assert_eq!(filled.counters().l1d.misses, empty.counters().l1d.misses);
    }
}

#[test]
fn without_a_model_translations_bits_and_clock_are_the_same() {
    let mut filled = with_pages(TlbMode::Off, FastPath::Filled, 900, ALL);
    let mut empty = with_pages(TlbMode::Off, FastPath::Empty, 900, ALL);
    let mut random = Random(11);
    for _ in 0..200_000 {
        let addr = page(random.below(900)).wrapping_add(random.below(4096));
        match random.below(100) {
            0 => {
                for hw in [&mut filled, &mut empty] {
                    hw.flush_page(addr);
                }
            }
            1 => assert_eq!(filled.fetch(addr, 7), empty.fetch(addr, 7)),
            choice => {
                let access = if choice % 3 == 0 { Access::Write } else { Access::Read };
                let result = emitted_data(&mut filled, addr, access);
                assert_eq!(result, empty.access(addr, access));
            }
        }
    }
    let (filled_counters, empty_counters) = (filled.counters(), empty.counters());
    assert_eq!(filled_counters.reads, empty_counters.reads);
    assert_eq!(filled_counters.writes, empty_counters.writes);
    assert_eq!(filled_counters.fetches, empty_counters.fetches);
    assert!(filled_counters.walks < empty_counters.walks / 2);
    assert_eq!(filled_counters.l1d, HitMiss::default());
    for number in 0..900 {
        let root = Frame::new(1);
        assert_eq!(filled.peek(root, page(number)), empty.peek(root, page(number)));
    }
}

#[test]
fn without_a_model_a_flush_is_seen_by_data_and_fetch() {
    let mut hw = with_pages(TlbMode::Off, FastPath::Filled, 2, ALL);
    assert!(hw.access(page(0), Access::Write).is_ok() && hw.fetch(page(0), 5).is_ok());
    assert_eq!(hw.fast()[layout::FETCH_RESIDENT + 5], 1);
    let walks = hw.counters().walks;
    assert!(emitted_data(&mut hw, page(0), Access::Write).is_ok());
    assert_eq!(hw.counters().walks, walks);
    hw.flush_page(page(0));
    assert_eq!(hw.fast()[layout::FETCH_RESIDENT + 5], 0);
    assert!(emitted_data(&mut hw, page(0), Access::Read).is_ok());
    assert_eq!(hw.counters().walks, walks + 1);
}

#[test]
fn a_store_to_a_clean_page_walks_once_and_counts_as_a_hit() {
    let mut hw = with_pages(model(), FastPath::Filled, 1, ALL);
    assert!(emitted_data(&mut hw, page(0), Access::Read).is_ok());
    let (_, pte) = hw.peek(Frame::new(1), page(0)).expect("mapped");
    assert!(pte.is_accessed() && !pte.is_dirty());
    for _ in 0..3 {
        assert!(emitted_data(&mut hw, page(0), Access::Write).is_ok());
    }
    let (_, pte) = hw.peek(Frame::new(1), page(0)).expect("mapped");
    assert!(pte.is_dirty());
    let counters = hw.counters();
    assert_eq!((counters.l1d.hits, counters.l1d.misses), (3, 1));
    assert_eq!((counters.walks, counters.dirty_walks), (2, 1));
    assert_eq!((counters.reads, counters.writes), (1, 3));
}

#[test]
fn a_fault_counts_nothing_but_the_walk() {
    let mut hw = with_pages(model(), FastPath::Filled, 2, Pte::USER);
    assert!(hw.access(page(0), Access::Read).is_ok());
    let before = hw.counters();
    let fault = hw.access(page(0), Access::Write).expect_err("read-only");
    assert_eq!(fault.refusal, Refusal::Protection);
    assert_eq!(fault.addr, page(0));
    let fault = hw.access_repeat(page(5), Access::Read, 9).expect_err("not mapped");
    assert_eq!(fault.refusal, Refusal::NotPresent);
    let after = hw.counters();
    let expected = Counters {
        walks: before.walks + 2,
        walk_memory_reads: before.walk_memory_reads + 8,
        faults: 2,
        ..before
    };
    assert_eq!(after, expected);
    // The refused page left the TLBs, as on hardware.
    assert!(hw.access(page(0), Access::Read).is_ok());
    assert_eq!(hw.counters().l1d.misses, after.l1d.misses + 1);
}

#[test]
fn pages_beyond_ram_and_inactive_machines_are_refused() {
    let mut hw = machine(Geometry::X86_64, model(), FastPath::Filled);
    let fault = hw.access(page(0), Access::Read).expect_err("no root");
    assert_eq!(fault.refusal, Refusal::NotPresent);
    let mut tables = Tables { next: 1 };
    let root = tables.root();
    let beyond = PhysAddr::new(RAM_BYTES).frame();
    let small = Mapping { addr: page(0), level: 1, frame: beyond, flags: ALL };
    tables.map(&mut hw, root, small);
    let large = VirtAddr::new(1 << 30);
    tables.map(&mut hw, root, Mapping { addr: large, level: 3, frame: beyond, flags: ALL });
    hw.activate(root, 1);
    for addr in [page(0), large] {
        let fault = hw.access(addr, Access::Read).expect_err("no such RAM");
        assert_eq!(fault.refusal, Refusal::ReservedBit);
        assert!(hw.probe(addr, Access::Read, Privilege::User).is_err());
    }
}

#[test]
fn global_pages_survive_a_flush_of_all_but_not_of_the_page() {
    let mut hw = with_pages(model(), FastPath::Filled, 1, ALL.with(Pte::GLOBAL));
    assert!(hw.access(page(0), Access::Read).is_ok());
    hw.flush_all();
    assert!(hw.access(page(0), Access::Read).is_ok());
    assert_eq!(hw.counters().l1d.misses, 1);
    // Another address space sees the global translation too.
    hw.activate(Frame::new(0x800), 2);
    assert!(hw.access(page(0), Access::Read).is_ok());
    hw.flush_page(page(0));
    assert!(hw.access(page(0), Access::Read).is_err());
}

#[test]
fn an_address_space_keeps_its_entries_across_a_switch_unless_its_root_changes() {
    let mut hw = with_pages(model(), FastPath::Filled, 1, ALL);
    assert!(hw.access(page(0), Access::Read).is_ok());
    let empty_root = Frame::new(0x800);
    hw.activate(empty_root, 2);
    assert!(hw.access(page(0), Access::Read).is_err(), "the other space maps nothing");
    hw.activate(Frame::new(1), 1);
    let misses = hw.counters().l1d.misses;
    assert!(hw.access(page(0), Access::Read).is_ok());
    assert_eq!(hw.counters().l1d.misses, misses);
    hw.activate(empty_root, 1);
    assert!(hw.access(page(0), Access::Read).is_err(), "a new root forgets the old entries");
    assert_eq!(hw.counters().switches, 4);
}

#[test]
fn stores_to_code_take_the_slow_path_until_unmarked() {
    let mut hw = with_pages(model(), FastPath::Filled, 1, ALL);
    let slot = hw.mmu_for_tests().fast.index(page(0));
    let is_fast = |hw: &mut Machine| {
        hw.fast()[layout::WRITE_TAG + slot].wrapping_add(page(0).as_u64()) < PAGE_BYTES
    };
    assert!(hw.access(page(0), Access::Write).is_ok() && is_fast(&mut hw));
    hw.mark_code(Frame::new(0x1000));
    assert!(!is_fast(&mut hw));
    assert!(hw.access(page(0), Access::Write).is_ok() && !is_fast(&mut hw));
    hw.unmark_code(Frame::new(0x1000));
    assert!(hw.access(page(0), Access::Write).is_ok() && is_fast(&mut hw));
}
