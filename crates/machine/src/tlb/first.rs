//! A first-level TLB whose stamps live partly in the shadow that emitted code writes.
//!
//! An entry owns shadow slots: none, one, or several (pieces of a large page, or several code
//! pages of one). Emitted code stamps the slot it hits; the effective stamp of an entry is the
//! largest among its own and those of its slots.
//!
//! Invariants
//! 1. `home[e]` names the one word that holds the effective stamp of `e` (its own word, or that of
//!    its only slot), or carries [`MANY`] and the first slot of a chain; then the effective stamp
//!    is the largest of the own word and the chain's.
//! 2. `owner[slot] == e` exactly if `slot` is the home of `e` or in its chain.
//! 3. A slot without owner can not be hit by emitted code: whoever takes the owner away poisons
//!    the slot. (The shadow's side of this is in `fast`.)
//! 4. The own stamp of an invalid entry is 0 or below all valid ones; that of padding is the
//!    largest number.

use alloc::vec;
use alloc::vec::Vec;

use super::banks::{Banks, Class, Set, Translation, oldest};
use crate::addr::VirtAddr;
use crate::fast::layout;

/// No entry, or the end of a chain of slots.
const NONE: u16 = u16::MAX;
/// Flag of a home that names a chain of slots.
const MANY: u16 = 1 << 15;

/// Where the stamps of a level stand among the words of the shadow: those of its slots, followed by
/// those of its entries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StampWords {
    /// First word.
    pub(crate) base: usize,
    /// Number of slots.
    pub(crate) slot_count: usize,
}

const _: () = assert!(layout::ENTRY_STAMP == layout::STAMP + layout::SLOTS);
const _: () = assert!(layout::FETCH_ENTRY_STAMP == layout::FETCH_STAMP + layout::FETCH_SLOTS);
const _: () = assert!(layout::FETCH_SLOTS + layout::ENTRIES <= MANY as usize);

/// Words of the stamps of the L1D: a power of two, so that a masked home needs no bounds check.
const DATA_WORDS: usize = layout::SLOTS + layout::ENTRIES;
const _: () = assert!(DATA_WORDS.is_power_of_two());

/// A first-level TLB.
#[derive(Debug)]
pub(crate) struct FirstLevel {
    pub(crate) banks: Banks,
    stamps: StampWords,
    home: Vec<u16>,
    owner: Vec<u16>,
    next: Vec<u16>,
    /// The class under which pages of each class are held.
    held_as: [Class; 3],
    /// Whether an entry ever had several slots.
    has_chains: bool,
}

impl FirstLevel {
    /// A level whose stamps are at `stamps` of `words`.
    pub(crate) fn new(banks: Banks, stamps: StampWords, words: &mut [u64]) -> Self {
        let own = stamps.base + stamps.slot_count;
        for entry in (0..banks.len()).filter(|entry| banks.is_padding(*entry)) {
            words[own + entry] = u64::MAX;
        }
        let m2 = if banks.holds(Class::M2) { Class::M2 } else { Class::K4 };
        let g1 = if banks.holds(Class::G1) { Class::G1 } else { m2 };
        Self {
            home: (0..banks.len()).map(|entry| (stamps.slot_count + entry) as u16).collect(),
            owner: vec![NONE; stamps.slot_count],
            next: vec![NONE; stamps.slot_count],
            banks,
            stamps,
            held_as: [Class::K4, m2, g1],
            has_chains: false,
        }
    }

    /// The home of an entry without slots.
    #[inline(always)]
    const fn own_home(&self, entry: usize) -> u16 {
        (self.stamps.slot_count + entry) as u16
    }

    /// The word of a home that is no chain.
    #[inline(always)]
    const fn word(&self, home: u16) -> usize {
        self.stamps.base + home as usize
    }

    /// When the entry was last used.
    #[inline]
    pub(crate) fn stamp(&self, words: &[u64], entry: usize) -> u64 {
        let home = self.home[entry];
        if home & MANY == 0 { words[self.word(home)] } else { self.largest_stamp(words, entry) }
    }

    #[cold]
    fn largest_stamp(&self, words: &[u64], entry: usize) -> u64 {
        let mut largest = words[self.word(self.own_home(entry))];
        let mut slot = self.home[entry] & !MANY;
        while slot != NONE {
            largest = largest.max(words[self.word(slot)]);
            slot = self.next[usize::from(slot)];
        }
        largest
    }

    /// Records a use of the entry that went through no slot.
    #[inline]
    pub(crate) fn set_stamp(&self, words: &mut [u64], entry: usize, stamp: u64) {
        let home = self.home[entry];
        let home = if home & MANY == 0 { home } else { self.own_home(entry) };
        words[self.word(home)] = stamp;
    }

    /// Whether the slot has an owner.
    #[inline(always)]
    pub(crate) fn is_owned(&self, slot: usize) -> bool {
        self.owner[slot] != NONE
    }

    /// Whether the entry owns the slot.
    #[inline(always)]
    pub(crate) fn owns(&self, entry: usize, slot: usize) -> bool {
        usize::from(self.owner[slot]) == entry
    }

    /// Gives a slot without owner to the entry. The caller stamps the slot with the present time.
    #[inline(always)]
    pub(crate) fn attach(&mut self, slot: usize, entry: usize) {
        debug_assert!(!self.is_owned(slot), "slot {slot} has an owner");
        self.owner[slot] = entry as u16;
        if self.home[entry] == self.own_home(entry) {
            self.home[entry] = slot as u16;
        } else {
            self.chain(slot, entry);
        }
    }

    #[cold]
    fn chain(&mut self, slot: usize, entry: usize) {
        let home = self.home[entry];
        if home & MANY == 0 {
            self.next[usize::from(home)] = NONE;
        }
        self.next[slot] = home & !MANY;
        self.home[entry] = slot as u16 | MANY;
        self.has_chains = true;
    }

    /// Takes a slot from its owner, if it has one, and keeps the time of its last use. The caller
    /// poisons the slot.
    #[inline]
    pub(crate) fn detach(&mut self, words: &mut [u64], slot: usize) {
        if !self.is_owned(slot) {
            return;
        }
        let entry = usize::from(self.owner[slot]);
        self.owner[slot] = NONE;
        if usize::from(self.home[entry]) == slot {
            let own = self.own_home(entry);
            words[self.word(own)] = words[self.word(slot as u16)];
            self.home[entry] = own;
        } else {
            self.unchain(words, slot, entry);
        }
    }

    #[cold]
    fn unchain(&mut self, words: &mut [u64], slot: usize, entry: usize) {
        let own = self.own_home(entry);
        let last = words[self.word(slot as u16)];
        words[self.word(own)] = words[self.word(own)].max(last);
        let rest = self.next[slot];
        let mut before = self.home[entry] & !MANY;
        if usize::from(before) == slot {
            self.home[entry] = if rest == NONE { own } else { rest | MANY };
            return;
        }
        while usize::from(self.next[usize::from(before)]) != slot {
            before = self.next[usize::from(before)];
        }
        self.next[usize::from(before)] = rest;
    }

    /// Takes one slot from the entry; `None` if it has none left. The caller poisons the slot.
    #[inline]
    pub(crate) fn detach_one(&mut self, words: &mut [u64], entry: usize) -> Option<usize> {
        let home = self.home[entry];
        if home == self.own_home(entry) {
            return None;
        }
        let slot = usize::from(home & !MANY);
        self.detach(words, slot);
        Some(slot)
    }

    /// Whether the entry has several slots, or had.
    #[inline(always)]
    pub(crate) fn has_many(&self, entry: usize) -> bool {
        self.home[entry] & MANY != 0
    }

    /// Takes the only slot of an entry that is about to hold another page, without keeping its
    /// stamp. The caller poisons the slot.
    #[inline(always)]
    pub(crate) fn take_only(&mut self, entry: usize) -> Option<usize> {
        let home = self.home[entry];
        let own = self.own_home(entry);
        if home == own {
            return None;
        }
        debug_assert!(home & MANY == 0, "entry {entry} has several slots");
        self.owner[usize::from(home)] = NONE;
        self.home[entry] = own;
        Some(usize::from(home))
    }

    /// The class under which this level holds a page: the page's own, or that of a piece.
    #[inline(always)]
    pub(crate) const fn class_for(&self, page: Translation) -> Class {
        self.held_as[page.class() as usize]
    }

    /// The entry that a page held as `class` at `addr` will replace: the least recently used.
    #[inline(always)]
    pub(crate) fn victim(&self, words: &[u64], class: Class, addr: VirtAddr) -> usize {
        let set = self.banks.set(class, addr);
        if self.has_chains {
            return self.victim_in(words, set);
        }
        let homes = self.home.get(set.first..);
        let window = words.get(self.stamps.base..).and_then(<[u64]>::first_chunk::<DATA_WORDS>);
        let (Some(homes), Some(window)) = (homes, window) else {
            return self.victim_in(words, set);
        };
        // A home of the L1D is below DATA_WORDS; the L1I, with more slots, goes the long way.
        let stamp = |home: u16| window[usize::from(home) & (DATA_WORDS - 1)];
        match (set.stride, self.stamps.slot_count) {
            (8, layout::SLOTS) => match homes.first_chunk::<8>() {
                Some(homes) => set.first + oldest::<8>(|way| stamp(homes[way])),
                None => self.victim_in(words, set),
            },
            (4, layout::SLOTS) => match homes.first_chunk::<4>() {
                Some(homes) => set.first + oldest::<4>(|way| stamp(homes[way])),
                None => self.victim_in(words, set),
            },
            _ => self.victim_in(words, set),
        }
    }

    #[inline(never)]
    fn victim_in(&self, words: &[u64], set: Set) -> usize {
        let entries = set.first..set.first + set.stride;
        let oldest = entries.map(|entry| (self.stamp(words, entry), entry)).min();
        oldest.expect("a set has at least one way").1
    }

    /// Marks an entry without slots as holding nothing.
    pub(crate) fn invalidate(&mut self, words: &mut [u64], entry: usize) {
        debug_assert!(self.home[entry] == self.own_home(entry), "entry {entry} has slots");
        self.banks.invalidate(entry);
        words[self.word(self.own_home(entry))] = 0;
    }

    /// Replaces all stamps by their ranks from 1, and returns the largest rank. No entry may have
    /// slots.
    pub(crate) fn rank_stamps(&mut self, words: &mut [u64]) -> u64 {
        let first = self.word(self.own_home(0));
        let entries = &mut words[first..first + self.banks.len()];
        let mut order: Vec<usize> =
            (0..entries.len()).filter(|entry| !self.banks.is_padding(*entry)).collect();
        order.sort_by_key(|entry| entries[*entry]);
        let mut rank = 0;
        let mut last = 0;
        for entry in order {
            if entries[entry] > last {
                rank += 1;
                last = entries[entry];
            }
            entries[entry] = if last == 0 { 0 } else { rank };
        }
        rank
    }
}
