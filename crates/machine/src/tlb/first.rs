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

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use super::banks::{Banks, Class, Set, Translation, oldest};
use crate::addr::VirtAddr;
use crate::fast::{Words, layout};

/// No entry, or the end of a chain of slots.
const NONE: u16 = layout::NO_OWNER;
/// Flag of a home that names a chain of slots.
const MANY: u16 = 1 << 15;

const _: () = assert!(layout::ENTRY_STAMP == layout::STAMP + layout::SLOTS);
const _: () = assert!(layout::FETCH_ENTRY_STAMP == layout::FETCH_STAMP + layout::FETCH_SLOTS);
const _: () = assert!(layout::SLOTS + layout::ENTRIES <= MANY as usize);
const _: () = assert!(layout::FETCH_SLOTS + layout::ENTRIES <= MANY as usize);

/// The first level for data.
pub(crate) type DataLevel = FirstLevel<{ layout::STAMP }, { layout::SLOTS }>;
/// The first level for instructions.
pub(crate) type FetchLevel = FirstLevel<{ layout::FETCH_STAMP }, { layout::FETCH_SLOTS }>;

/// A first-level TLB with `SLOTS` slots, whose stamps stand from word `STAMPS` of the shadow on,
/// followed by those of its entries.
#[derive(Debug)]
pub(crate) struct FirstLevel<const STAMPS: usize, const SLOTS: usize> {
    pub(crate) banks: Banks,
    home: Vec<u16>,
    owner: Box<[u16; SLOTS]>,
    next: Box<[u16; SLOTS]>,
    /// The class under which pages of each class are held.
    held_as: [Class; 3],
    /// Whether an entry ever had several slots.
    has_chains: bool,
    /// If set, every valid entry has a slot.
    is_attached: bool,
}

impl<const STAMPS: usize, const SLOTS: usize> FirstLevel<STAMPS, SLOTS> {
    /// An empty level; sets the stamps of its padding.
    pub(crate) fn new(banks: Banks, words: &mut Words) -> Self {
        for entry in (0..banks.len()).filter(|entry| banks.is_padding(*entry)) {
            words[Self::word(Self::own_home(entry))] = u64::MAX;
        }
        let no_slots = || vec![NONE; SLOTS].into_boxed_slice().try_into();
        let m2 = if banks.holds(Class::M2) { Class::M2 } else { Class::K4 };
        let g1 = if banks.holds(Class::G1) { Class::G1 } else { m2 };
        Self {
            home: (0..banks.len()).map(Self::own_home).collect(),
            owner: no_slots().expect("the vector has SLOTS elements"),
            next: no_slots().expect("the vector has SLOTS elements"),
            banks,
            held_as: [Class::K4, m2, g1],
            has_chains: false,
            is_attached: true,
        }
    }

    /// The home of an entry without slots.
    #[inline(always)]
    const fn own_home(entry: usize) -> u16 {
        (SLOTS + entry) as u16
    }

    /// The word of a home that is no chain.
    #[inline(always)]
    const fn word(home: u16) -> usize {
        STAMPS + home as usize
    }

    /// When the entry was last used.
    #[inline]
    pub(crate) fn stamp(&self, words: &Words, entry: usize) -> u64 {
        let home = self.home[entry];
        if home & MANY == 0 { words[Self::word(home)] } else { self.largest_stamp(words, entry) }
    }

    #[cold]
    fn largest_stamp(&self, words: &Words, entry: usize) -> u64 {
        let mut largest = words[Self::word(Self::own_home(entry))];
        let mut slot = self.home[entry] & !MANY;
        while slot != NONE {
            largest = largest.max(words[Self::word(slot)]);
            slot = self.next[usize::from(slot)];
        }
        largest
    }

    /// Records a use of the entry that went through no slot.
    #[inline]
    pub(crate) fn set_stamp(&self, words: &mut Words, entry: usize, stamp: u64) {
        let home = self.home[entry];
        let home = if home & MANY == 0 { home } else { Self::own_home(entry) };
        words[Self::word(home)] = stamp;
    }

    /// Whether the slot has an owner.
    #[inline(always)]
    pub(crate) fn is_owned(&self, slot: usize) -> bool {
        self.owner[slot & (SLOTS - 1)] != NONE
    }

    /// Whether the entry owns the slot.
    #[inline(always)]
    pub(crate) fn owns(&self, entry: usize, slot: usize) -> bool {
        usize::from(self.owner[slot & (SLOTS - 1)]) == entry
    }

    /// Gives a slot without owner to the entry. The caller stamps the slot with the present time.
    #[inline(always)]
    pub(crate) fn attach(&mut self, slot: usize, entry: usize) {
        debug_assert!(!self.is_owned(slot), "slot {slot} has an owner");
        self.owner[slot & (SLOTS - 1)] = entry as u16;
        if self.home[entry] == Self::own_home(entry) {
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
    pub(crate) fn detach(&mut self, words: &mut Words, slot: usize) {
        if !self.is_owned(slot) {
            return;
        }
        let entry = usize::from(self.owner[slot]);
        self.is_attached = false;
        self.owner[slot] = NONE;
        if usize::from(self.home[entry]) == slot {
            let own = Self::own_home(entry);
            words[Self::word(own)] = words[Self::word(slot as u16)];
            self.home[entry] = own;
        } else {
            self.unchain(words, slot, entry);
        }
    }

    #[cold]
    fn unchain(&mut self, words: &mut Words, slot: usize, entry: usize) {
        let own = Self::own_home(entry);
        let last = words[Self::word(slot as u16)];
        words[Self::word(own)] = words[Self::word(own)].max(last);
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
    pub(crate) fn detach_one(&mut self, words: &mut Words, entry: usize) -> Option<usize> {
        let home = self.home[entry];
        if home == Self::own_home(entry) {
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
        let own = Self::own_home(entry);
        if home == own {
            return None;
        }
        debug_assert!(home & MANY == 0, "entry {entry} has several slots");
        self.owner[usize::from(home) & (SLOTS - 1)] = NONE;
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
    pub(crate) fn victim(&self, words: &Words, class: Class, addr: VirtAddr) -> usize {
        let set = self.banks.set(class, addr);
        if self.has_chains {
            return self.victim_in(words, set);
        }
        let homes = self.home.get(set.first..).unwrap_or_default();
        match set.stride {
            8 => match homes.first_chunk::<8>() {
                Some(homes) => set.first + oldest(8, |way| words[Self::word(homes[way])]),
                None => self.victim_in(words, set),
            },
            4 => match homes.first_chunk::<4>() {
                Some(homes) => set.first + oldest(4, |way| words[Self::word(homes[way])]),
                None => self.victim_in(words, set),
            },
            stride => match homes.get(..stride) {
                Some(homes) => set.first + oldest(stride, |way| words[Self::word(homes[way])]),
                None => self.victim_in(words, set),
            },
        }
    }

    /// Whether nothing in here is out of the ordinary: no entry has several slots, and
    /// [`Banks::is_plain_for`] `asid`.
    #[inline(always)]
    pub(crate) fn is_plain(&self, asid: u16) -> bool {
        !self.has_chains && self.banks.is_plain_for(asid)
    }

    /// As [`FirstLevel::victim`] for a 4 KiB page in a plain level, without anything that can
    /// panic.
    #[inline(always)]
    pub(crate) fn victim_quickly(&self, words: &Words, addr: VirtAddr) -> Option<usize> {
        let set = self.banks.set(Class::K4, addr);
        let homes = self.home.get(set.first..)?;
        let stamp = |home: u16| words[Self::word(home)];
        let way = match set.stride {
            8 => homes.first_chunk::<8>().map(|homes| oldest(8, |way| stamp(homes[way])))?,
            4 => homes.first_chunk::<4>().map(|homes| oldest(4, |way| stamp(homes[way])))?,
            stride => {
                let (mut found, mut first) = (0, u64::MAX);
                for (way, home) in homes.get(..stride)?.iter().enumerate() {
                    if stamp(*home) < first {
                        (found, first) = (way, stamp(*home));
                    }
                }
                found
            }
        };
        Some(set.first + way)
    }

    /// Host addresses of the homes and the owners. They never change.
    pub(crate) fn addresses(&mut self) -> [u64; 2] {
        let homes = self.home.as_mut_ptr().expose_provenance();
        [homes as u64, self.owner.as_mut_ptr().expose_provenance() as u64]
    }

    /// Finds out whether every valid entry has a slot.
    pub(crate) fn look_for_unattached(&mut self) {
        let is_bare = |entry| self.home[entry] == Self::own_home(entry);
        self.is_attached = !(0..self.banks.len()).any(|e| self.banks.is_valid(e) && is_bare(e));
    }

    /// The entry of the 4 KiB page of `addr`, whose tag is `key` and whose slot is `slot`, in a
    /// plain level.
    #[inline(always)]
    pub(crate) fn find_small(&self, addr: VirtAddr, key: u64, slot: usize) -> Option<usize> {
        if self.is_attached {
            self.owner(slot).filter(|owner| self.banks.has_tag(*owner, key))
        } else {
            self.banks.find_small(addr, key)
        }
    }

    /// The owner of a slot, in a plain level.
    #[inline(always)]
    pub(crate) fn owner(&self, slot: usize) -> Option<usize> {
        let owner = self.owner[slot & (SLOTS - 1)];
        (owner != NONE).then_some(usize::from(owner))
    }

    /// As [`FirstLevel::detach`] for the only slot of its owner `entry`, in a plain level; `None`
    /// if there is no such entry.
    #[inline(always)]
    pub(crate) fn detach_quickly(
        &mut self,
        words: &mut Words,
        slot: usize,
        entry: usize,
    ) -> Option<()> {
        let home = self.home.get_mut(entry)?;
        self.is_attached = false;
        let own = Self::own_home(entry);
        words[Self::word(own)] = words[Self::word((slot & (SLOTS - 1)) as u16)];
        *home = own;
        self.owner[slot & (SLOTS - 1)] = NONE;
        Some(())
    }

    /// The entry with all that belongs to it, in a plain level.
    #[inline(always)]
    pub(crate) fn seat(&mut self, entry: usize) -> Option<Seat<'_, SLOTS>> {
        let (tag, translation) = self.banks.get_mut(entry)?;
        let home = self.home.get_mut(entry)?;
        Some(Seat { entry: entry as u16, tag, translation, home, owner: &mut self.owner })
    }

    #[inline(never)]
    fn victim_in(&self, words: &Words, set: Set) -> usize {
        let entries = set.first..set.first + set.stride;
        let oldest = entries.map(|entry| (self.stamp(words, entry), entry)).min();
        oldest.expect("a set has at least one way").1
    }

    /// Marks an entry without slots as holding nothing.
    pub(crate) fn invalidate(&mut self, words: &mut Words, entry: usize) {
        debug_assert!(self.home[entry] == Self::own_home(entry), "entry {entry} has slots");
        self.banks.invalidate(entry);
        words[Self::word(Self::own_home(entry))] = 0;
    }

    /// Forgets all pages of `asid`, none of which may have slots.
    pub(crate) fn drop_asid(&mut self, words: &mut Words, asid: u16) {
        if self.banks.is_empty() {
            return;
        }
        if self.banks.holds_only(asid) {
            // Stale stamps stay: all of them are below any that will be given, invariant 4.
            return self.banks.clear();
        }
        for entry in 0..self.banks.len() {
            if self.banks.belongs_to(entry, asid) {
                self.invalidate(words, entry);
            }
        }
    }

    /// Replaces all stamps by their ranks from 1, and returns the largest rank. No entry may have
    /// slots.
    pub(crate) fn rank_stamps(&mut self, words: &mut Words) -> u64 {
        let first = Self::word(Self::own_home(0));
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

/// One entry of a plain level with its slot.
pub(crate) struct Seat<'a, const SLOTS: usize> {
    entry: u16,
    tag: &'a mut u64,
    translation: &'a mut Translation,
    home: &'a mut u16,
    owner: &'a mut [u16; SLOTS],
}

impl<const SLOTS: usize> Seat<'_, SLOTS> {
    /// The slot of the entry.
    #[inline(always)]
    pub(crate) fn slot(&self) -> Option<usize> {
        let home = usize::from(*self.home);
        (home < SLOTS).then_some(home)
    }

    /// Gives a slot without owner to the entry, which has none. The caller stamps the slot.
    #[inline(always)]
    pub(crate) fn take(self, slot: usize) {
        debug_assert!(self.slot().is_none(), "entry {} has a slot", self.entry);
        self.owner[slot & (SLOTS - 1)] = self.entry;
        *self.home = slot as u16;
    }

    /// Gives the entry to another page, whose slot is `slot`. The caller has seen to it that
    /// emitted code does not hit the slot of the former page.
    #[inline(always)]
    pub(crate) fn take_for(self, slot: usize, tag: u64, page: Translation) {
        if let Some(old) = self.slot() {
            self.owner[old] = NONE;
        }
        *self.tag = tag;
        *self.translation = page;
        self.owner[slot & (SLOTS - 1)] = self.entry;
        *self.home = slot as u16;
    }
}
