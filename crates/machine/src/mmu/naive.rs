//! The TLB model against one of lists: every set a list in order of last use.

use alloc::vec;
use alloc::vec::Vec;

use super::tests::{Mapping, Random, Tables, emitted_data, emitted_fetch, machine};
use super::*;
use crate::addr::Page;
use crate::machine::Machine;
use crate::pte::Pte;
use crate::tlb::{Array, Class, Large, TlbSpec, tlb_presets};

/// A page or piece in a TLB: class, page number of that size, ASID (`None` if global).
type Key = (Class, u64, Option<u16>);

const CLASSES: [Class; 3] = [Class::K4, Class::M2, Class::G1];

fn number(class: Class, addr: u64) -> u64 {
    addr >> [12, 21, 30][class as usize]
}

/// Sets of keys, the most recently used first.
struct Sets {
    ways: usize,
    sets: Vec<Vec<Key>>,
}

impl Sets {
    fn of(&mut self, key: &Key) -> &mut Vec<Key> {
        let count = self.sets.len() as u64;
        &mut self.sets[(key.1 % count) as usize]
    }

    fn hit(&mut self, key: Key) -> bool {
        let set = self.of(&key);
        let Some(place) = set.iter().position(|other| *other == key) else { return false };
        set.remove(place);
        set.insert(0, key);
        true
    }

    fn insert(&mut self, key: Key) {
        let ways = self.ways;
        let set = self.of(&key);
        set.insert(0, key);
        set.truncate(ways);
    }
}

/// One level: the array of each class.
struct Level {
    arrays: Vec<Sets>,
    of_class: [Option<usize>; 3],
    counts: HitMiss,
}

impl Level {
    fn new(spec: &LevelSpec) -> Self {
        let sets = |array: Array| Sets { ways: array.ways(), sets: vec![vec![]; array.sets()] };
        let mut level = Self { arrays: vec![], of_class: [None; 3], counts: HitMiss::default() };
        if spec.k4 != Array::NONE {
            level.arrays.push(sets(spec.k4));
            level.of_class[0] = Some(0);
        }
        for (class, large) in [(1, spec.m2), (2, spec.g1)] {
            level.of_class[class] = match large {
                Large::Shared => level.of_class[0],
                Large::Absent => None,
                Large::Own(array) => {
                    level.arrays.push(sets(array));
                    Some(level.arrays.len() - 1)
                }
            };
        }
        level
    }

    /// The largest class not above `class` that has an array.
    fn held_as(&self, class: Class) -> Class {
        let smaller = CLASSES.into_iter().rev().filter(|other| *other <= class);
        smaller.clone().find(|other| self.of_class[*other as usize].is_some()).unwrap_or(Class::K4)
    }

    fn hit(&mut self, key: Key) -> bool {
        let is_hit = self.of_class[key.0 as usize].is_some_and(|array| self.arrays[array].hit(key));
        if is_hit {
            self.counts.hits += 1;
        } else {
            self.counts.misses += 1;
            if let Some(array) = self.of_class[key.0 as usize] {
                self.arrays[array].insert(key);
            }
        }
        is_hit
    }

    fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        for set in self.arrays.iter_mut().flat_map(|array| &mut array.sets) {
            set.retain(&keep);
        }
    }
}

struct Naive {
    l1d: Level,
    l1i: Level,
    l2: Level,
    l2i: Option<Level>,
    asid: u16,
}

impl Naive {
    fn new(spec: &TlbSpec) -> Self {
        Self {
            l1d: Level::new(&spec.l1d),
            l1i: Level::new(&spec.l1i),
            l2: Level::new(&spec.l2),
            l2i: spec.l2i.as_ref().map(Level::new),
            asid: 1,
        }
    }

    fn access(&mut self, addr: u64, page: &Mapping, access: Access) {
        let asid = (!page.flags.contains(Pte::GLOBAL)).then_some(self.asid);
        let class = CLASSES[page.level as usize - 1];
        let is_fetch = access == Access::Fetch;
        let first = if is_fetch { &mut self.l1i } else { &mut self.l1d };
        let piece = first.held_as(class);
        if first.hit((piece, number(piece, addr), asid)) {
            return;
        }
        let second =
            if is_fetch { self.l2i.as_mut().unwrap_or(&mut self.l2) } else { &mut self.l2 };
        second.hit((class, number(class, addr), asid));
    }

    fn retain(&mut self, keep: impl Fn(&Key) -> bool) {
        let levels = [Some(&mut self.l1d), Some(&mut self.l1i), Some(&mut self.l2)];
        for level in levels.into_iter().chain([self.l2i.as_mut()]).flatten() {
            level.retain(&keep);
        }
    }

    fn flush_page(&mut self, page: &Mapping) {
        let class = CLASSES[page.level as usize - 1];
        let shift = [12, 21, 30][class as usize];
        let (asid, start) = (self.asid, page.addr.as_u64() >> shift);
        self.retain(|(other, number, owner)| {
            let inside = number << [12, 21, 30][*other as usize] >> shift == start;
            !(inside && *other <= class && owner.is_none_or(|owner| owner == asid))
        });
    }
}

fn pages() -> Vec<Mapping> {
    let flags = Pte::WRITE.with(Pte::USER).with(Pte::DIRTY);
    let mut pages = Vec::new();
    for number in 0..2_600u64 {
        let addr = match number % 3 {
            0 => 0x10_0000_0000 + (number << 12),
            1 => 0x20_0000_0000 + (number << 16),
            _ => 0x7f00_0000_0000 + (number << 12),
        };
        let flags = if number % 10 == 7 { flags.with(Pte::GLOBAL) } else { flags };
        let frame = Frame::new(0x10000 + number);
        pages.push(Mapping { addr: VirtAddr::new(addr), level: 1, frame, flags });
    }
    for number in 0..40u64 {
        let addr = VirtAddr::new(0x30_0000_0000 + (number << 21));
        pages.push(Mapping { addr, level: 2, frame: Frame::new(number << 9), flags });
    }
    for number in 0..3u64 {
        let addr = VirtAddr::new(0x50_0000_0000 + (number << 30));
        pages.push(Mapping { addr, level: 3, frame: Frame::new(number << 18), flags });
    }
    pages
}

fn compare(hw: &Machine, naive: &Naive) {
    let counters = hw.counters();
    assert_eq!(counters.l1d, naive.l1d.counts);
    assert_eq!(counters.l1i, naive.l1i.counts);
    let mut second = HitMiss::default();
    for level in [Some(&naive.l2), naive.l2i.as_ref()].into_iter().flatten() {
        if !level.arrays.is_empty() {
            second.hits += level.counts.hits;
            second.misses += level.counts.misses;
        }
    }
    assert_eq!(counters.l2, second);
}

fn run(spec: &TlbSpec, seed: u64) {
    let mut hw = machine(Geometry::X86_64, TlbMode::Model(*spec), FastPath::Filled);
    let mut tables = Tables { next: 0x20000 };
    let roots = [tables.root(), tables.root()];
    let pages = pages();
    for (root, page) in roots.iter().flat_map(|root| pages.iter().map(move |page| (*root, *page))) {
        tables.map(&mut hw, root, page);
    }
    hw.activate(roots[0], 1);
    let mut naive = Naive::new(spec);
    let mut random = Random(seed);
    let mut slots = vec![Page::default(); layout::FETCH_SLOTS];
    for step in 0..150_000u32 {
        let bound = [12, 150, 1500, pages.len() as u64][random.below(4) as usize];
        let page =
            pages[((random.below(bound) + random.below(2) * 2_590) % pages.len() as u64) as usize];
        let span = hw.geometry().span_bytes(page.level).min(6 << 20);
        let addr = page.addr.wrapping_add(random.below(span));
        match random.below(3_000) {
            0..20 => {
                hw.flush_page(addr);
                naive.flush_page(&page);
            }
            20 => {
                hw.flush_all();
                let asid = naive.asid;
                naive.retain(|key| key.2 != Some(asid));
            }
            21..24 => {
                naive.asid = 1 + random.below(2) as u16;
                hw.activate(roots[usize::from(naive.asid) - 1], naive.asid);
            }
            24..600 => {
                let slot = 1 + (addr.page().number() % 16_000) as u32;
                let refused = if slots[slot as usize] == addr.page() {
                    emitted_fetch(&mut hw, addr, slot)
                } else {
                    hw.fetch(addr, slot).err()
                };
                assert_eq!(refused, None);
                slots[slot as usize] = addr.page();
                naive.access(addr.as_u64(), &page, Access::Fetch);
            }
            choice => {
                let access = if choice % 2 == 0 { Access::Read } else { Access::Write };
                assert!(emitted_data(&mut hw, addr, access).is_ok());
                naive.access(addr.as_u64(), &page, access);
            }
        }
        if step % 10_000 == 0 {
            compare(&hw, &naive);
        }
    }
    compare(&hw, &naive);
}

#[test]
fn every_preset_hits_and_misses_like_lists_in_order_of_use() {
    for (number, spec) in tlb_presets().iter().enumerate() {
        run(spec, 17 + number as u64);
    }
}
