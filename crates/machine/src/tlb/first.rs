//! A first-level TLB whose stamps live partly in the shadow that emitted code writes.
//!
//! An entry owns shadow slots: none, one, or several (pieces of a large page, or several code
//! pages of one). Emitted code stamps the slot it hits; the effective stamp of an entry is the
//! largest among its own and those of its slots.
//!
//! Invariants
//! 1. `home[e]` names the one word that holds the effective stamp of `e`, or carries [`MANY`] and
//!    the first slot of a chain; then the effective stamp is the largest of the own word and the
//!    chain's.
//! 2. `owner[slot] == e` exactly if `slot` is the home of `e` or in its chain.
//! 3. A slot without owner can not be hit by emitted code: whoever takes the owner away poisons
//!    the slot. (The shadow's side of this is in `fast`.)
//! 4. The own stamp of an invalid entry is 0 or below all valid ones; that of padding is the
//!    largest number.

use alloc::vec;
use alloc::vec::Vec;

use super::banks::{Banks, Class, Set, Translation, smallest};
use crate::addr::VirtAddr;

/// No slot, no entry.
const NONE: u32 = u32::MAX;
/// Flag of a home that names a chain of slots.
const MANY: u32 = 1 << 31;

/// Where the stamps of a level stand among the words of the shadow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StampWords {
    /// First word of the stamps of slots.
    pub(crate) slots: usize,
    /// Number of slots.
    pub(crate) slot_count: usize,
    /// First word of the stamps of entries.
    pub(crate) entries: usize,
}

/// A first-level TLB.
#[derive(Debug)]
pub(crate) struct FirstLevel {
    pub(crate) banks: Banks,
    words: StampWords,
    home: Vec<u32>,
    owner: Vec<u32>,
    next: Vec<u32>,
    /// The class under which pages of each class are held.
    held_as: [Class; 3],
}

impl FirstLevel {
    /// A level whose stamps are at `stamps` of `words`.
    pub(crate) fn new(banks: Banks, stamps: StampWords, words: &mut [u64]) -> Self {
        for entry in (0..banks.len()).filter(|entry| banks.is_padding(*entry)) {
            words[stamps.entries + entry] = u64::MAX;
        }
        let m2 = if banks.holds(Class::M2) { Class::M2 } else { Class::K4 };
        let g1 = if banks.holds(Class::G1) { Class::G1 } else { m2 };
        Self {
            home: (0..banks.len()).map(|entry| (stamps.entries + entry) as u32).collect(),
            owner: vec![NONE; stamps.slot_count],
            next: vec![NONE; stamps.slot_count],
            banks,
            words: stamps,
            held_as: [Class::K4, m2, g1],
        }
    }

    /// When the entry was last used.
    #[inline]
    pub(crate) fn stamp(&self, words: &[u64], entry: usize) -> u64 {
        let home = self.home[entry];
        if home & MANY == 0 { words[home as usize] } else { self.largest_stamp(words, entry) }
    }

    #[cold]
    fn largest_stamp(&self, words: &[u64], entry: usize) -> u64 {
        let mut largest = words[self.words.entries + entry];
        let mut slot = self.home[entry] & !MANY;
        while slot != NONE {
            largest = largest.max(words[self.words.slots + slot as usize]);
            slot = self.next[slot as usize];
        }
        largest
    }

    /// Records a use of the entry that went through no slot.
    #[inline]
    pub(crate) fn set_stamp(&self, words: &mut [u64], entry: usize, stamp: u64) {
        let home = self.home[entry];
        let word = if home & MANY == 0 { home as usize } else { self.words.entries + entry };
        words[word] = stamp;
    }

    /// The entry that owns the slot.
    #[inline]
    pub(crate) fn owner(&self, slot: usize) -> Option<usize> {
        let owner = self.owner[slot];
        (owner != NONE).then_some(owner as usize)
    }

    /// Gives a slot without owner to the entry. The caller stamps the slot with the present time.
    #[inline]
    pub(crate) fn attach(&mut self, slot: usize, entry: usize) {
        debug_assert!(self.owner[slot] == NONE, "slot {slot} has an owner");
        self.owner[slot] = entry as u32;
        self.next[slot] = NONE;
        let home = self.home[entry];
        if home as usize == self.words.entries + entry {
            self.home[entry] = (self.words.slots + slot) as u32;
        } else {
            self.chain(slot, entry);
        }
    }

    #[cold]
    fn chain(&mut self, slot: usize, entry: usize) {
        let home = self.home[entry];
        let first = if home & MANY == 0 { home - self.words.slots as u32 } else { home & !MANY };
        self.next[slot] = first;
        self.home[entry] = slot as u32 | MANY;
    }

    /// Takes a slot from its owner, if it has one, and keeps the time of its last use.
    #[inline]
    pub(crate) fn detach(&mut self, words: &mut [u64], slot: usize) {
        let Some(entry) = self.owner(slot) else { return };
        self.owner[slot] = NONE;
        let own = self.words.entries + entry;
        if self.home[entry] as usize == self.words.slots + slot {
            words[own] = words[self.words.slots + slot];
            self.home[entry] = own as u32;
        } else {
            self.unchain(words, slot, entry);
        }
    }

    #[cold]
    fn unchain(&mut self, words: &mut [u64], slot: usize, entry: usize) {
        let own = self.words.entries + entry;
        words[own] = words[own].max(words[self.words.slots + slot]);
        let mut before = self.home[entry] & !MANY;
        if before as usize == slot {
            let rest = self.next[slot];
            self.home[entry] = if rest == NONE { own as u32 } else { rest | MANY };
            return;
        }
        while self.next[before as usize] as usize != slot {
            before = self.next[before as usize];
        }
        self.next[before as usize] = self.next[slot];
    }

    /// Takes one slot from the entry; `None` if it has none left. The caller poisons the slot.
    #[inline]
    pub(crate) fn detach_one(&mut self, words: &mut [u64], entry: usize) -> Option<usize> {
        let home = self.home[entry];
        if home as usize == self.words.entries + entry {
            return None;
        }
        let slot = if home & MANY == 0 {
            home as usize - self.words.slots
        } else {
            (home & !MANY) as usize
        };
        self.detach(words, slot);
        Some(slot)
    }

    /// The class under which this level holds a page: the page's own, or that of a piece.
    #[inline]
    pub(crate) const fn class_for(&self, page: Translation) -> Class {
        self.held_as[page.class() as usize]
    }

    /// The entry that a page held as `class` at `addr` will replace: the least recently used.
    #[inline]
    pub(crate) fn victim(&self, words: &[u64], class: Class, addr: VirtAddr) -> usize {
        let set = self.banks.set(class, addr);
        let way = match set.stride {
            4 => smallest(self.stamps_of::<4>(words, set)),
            8 => smallest(self.stamps_of::<8>(words, set)),
            16 => smallest(self.stamps_of::<16>(words, set)),
            stride => self.oldest_of_many(words, set.first, stride),
        };
        set.first + way
    }

    #[inline]
    fn stamps_of<const N: usize>(&self, words: &[u64], set: Set) -> [u64; N] {
        let mut stamps = [0; N];
        let homes = &self.home[set.first..set.first + N];
        for (way, (stamp, home)) in stamps.iter_mut().zip(homes).enumerate() {
            *stamp = if home & MANY == 0 {
                words[*home as usize]
            } else {
                self.largest_stamp(words, set.first + way)
            };
        }
        stamps
    }

    fn oldest_of_many(&self, words: &[u64], first: usize, stride: usize) -> usize {
        let mut oldest = (u64::MAX, 0);
        for way in 0..stride {
            oldest = oldest.min((self.stamp(words, first + way), way));
        }
        oldest.1
    }

    /// Marks an entry without slots as holding nothing.
    pub(crate) fn invalidate(&mut self, words: &mut [u64], entry: usize) {
        debug_assert!(self.home[entry] as usize == self.words.entries + entry, "entry has slots");
        self.banks.invalidate(entry);
        words[self.words.entries + entry] = 0;
    }

    /// Replaces all stamps by their ranks from 1, and returns the largest rank. No entry may have
    /// slots.
    pub(crate) fn rank_stamps(&mut self, words: &mut [u64]) -> u64 {
        let entries = &mut words[self.words.entries..self.words.entries + self.banks.len()];
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
