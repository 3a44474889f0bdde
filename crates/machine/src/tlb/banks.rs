//! Set-associative arrays of tags and translations, without any replacement policy.
//!
//! A level has one array per page-size class, or one shared by several; all arrays of a level lie
//! in the same vectors, so an entry is one index. Ways are padded to a power of two, padding never
//! matches.
//!
//! ```text
//! tag:         57-bit page number << 19 | ASID << 3 | class << 1 | valid
//! translation: frame base, bits 12..52   | class << 5 | global dirty executable writable
//! ```

use alloc::vec;
use alloc::vec::Vec;

use super::spec::{Array, Large, LevelSpec};
use crate::access::Access;
use crate::addr::{Frame, PAGE_SHIFT, PageSize, PhysAddr, VirtAddr};
use crate::fast::layout;
use crate::geometry::Geometry;
use crate::pte::Pte;
use crate::walk::Walked;

/// log2 of the bytes that the ASID, class and valid bits of a tag take.
const TAG_SHIFT: u32 = layout::TAG_SHIFT;
const ASID_SHIFT: u32 = 3;
const CLASS_SHIFT: u32 = 1;
const VALID: u64 = 1;
/// The tag of an entry that holds nothing.
pub(crate) const INVALID: u64 = 0;
/// Linear address bits that a tag keeps.
pub(crate) const TAG_ADDRESS_BITS: u32 = 57;
/// The ASID field of translations that belong to all address spaces.
pub(crate) const GLOBAL_ASID: u16 = u16::MAX;
/// Nothing was inserted.
const NO_ASID: u16 = u16::MAX - 1;
/// Pages of several address spaces were inserted.
const MANY_ASIDS: u16 = u16::MAX - 2;

/// A class of page sizes: what TLBs treat alike.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum Class {
    /// 4 KiB.
    K4 = 0,
    /// 2 MiB, or 4 MiB on i386.
    M2 = 1,
    /// 1 GiB.
    G1 = 2,
}

impl Class {
    const ALL: [Self; 3] = [Self::K4, Self::M2, Self::G1];

    const fn from_bits(bits: u64) -> Self {
        match bits & 3 {
            0 => Self::K4,
            1 => Self::M2,
            _ => Self::G1,
        }
    }

    /// The class of a page size.
    pub(crate) fn of(size: PageSize) -> Self {
        match size {
            PageSize::K4 => Self::K4,
            PageSize::G1 => Self::G1,
            _ => Self::M2,
        }
    }
}

/// log2 of the page size of each class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shifts {
    m2: u32,
}

impl Shifts {
    /// The shifts of a page-table format.
    pub(crate) fn of(geometry: Geometry) -> Self {
        Self { m2: geometry.large_size().log2() }
    }

    /// log2 of the page size of `class`.
    #[inline(always)]
    pub(crate) const fn get(self, class: Class) -> u32 {
        match class {
            Class::K4 => PageSize::K4.log2(),
            Class::M2 => self.m2,
            Class::G1 => PageSize::G1.log2(),
        }
    }

    /// The address bits inside a page of `class`.
    #[inline(always)]
    pub(crate) const fn offset_mask(self, class: Class) -> u64 {
        (1 << self.get(class)) - 1
    }
}

/// What a TLB entry says about its page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Translation(u64);

impl Translation {
    const WRITABLE: u64 = 1;
    const EXECUTABLE: u64 = 1 << 1;
    const DIRTY: u64 = 1 << 2;
    const GLOBAL: u64 = 1 << 3;
    const CLASS_SHIFT: u32 = 5;
    const FRAME: u64 = 0x000f_ffff_ffff_f000;

    /// The translation that a walk found.
    pub(crate) fn of(walked: &Walked, shifts: Shifts) -> Self {
        let class = Class::of(walked.size);
        let base = walked.frame.start().as_u64() & !shifts.offset_mask(class) & Self::FRAME;
        let flag = |is_set: bool, bit: u64| if is_set { bit } else { 0 };
        Self(
            base | (class as u64) << Self::CLASS_SHIFT
                | flag(walked.is_writable, Self::WRITABLE)
                | flag(walked.is_executable, Self::EXECUTABLE)
                | flag(walked.pte.is_dirty(), Self::DIRTY)
                | flag(walked.pte.contains(Pte::GLOBAL), Self::GLOBAL),
        )
    }

    /// The translation of a 4 KiB page.
    #[inline(always)]
    pub(crate) const fn of_small(pte: Pte, is_writable: bool, is_executable: bool) -> Self {
        let mut raw = pte.frame().start().as_u64() & Self::FRAME;
        raw |= if is_writable { Self::WRITABLE } else { 0 };
        raw |= if is_executable { Self::EXECUTABLE } else { 0 };
        raw |= if pte.contains(Pte::DIRTY) { Self::DIRTY } else { 0 };
        raw |= if pte.contains(Pte::GLOBAL) { Self::GLOBAL } else { 0 };
        Self(raw | (Class::K4 as u64) << Self::CLASS_SHIFT)
    }

    /// Whether the access needs no walk: the right is there, and dirty is set for a write.
    #[inline(always)]
    pub(crate) const fn allows(self, access: Access) -> bool {
        let needed = match access {
            Access::Read => 0,
            Access::Write => Self::WRITABLE | Self::DIRTY,
            Access::Fetch => Self::EXECUTABLE,
        };
        self.0 & needed == needed
    }

    /// The size class of the page in the page tables.
    #[inline(always)]
    pub(crate) const fn class(self) -> Class {
        Class::from_bits(self.0 >> Self::CLASS_SHIFT)
    }

    /// Whether a page that was held as `old` may be held in the same entry as this one: it has the
    /// same size, and is global or not alike.
    pub(crate) const fn fits_entry_of(self, old: Self) -> bool {
        let kind = 3 << Self::CLASS_SHIFT | Self::GLOBAL;
        (self.0 ^ old.0) & kind == 0
    }

    pub(crate) const fn is_global(self) -> bool {
        self.0 & Self::GLOBAL != 0
    }

    /// The frame of a 4 KiB page.
    #[inline(always)]
    pub(crate) const fn frame(self) -> Frame {
        Frame::new(self.base() >> PAGE_SHIFT)
    }

    /// First byte of the page.
    pub(crate) const fn base(self) -> u64 {
        self.0 & Self::FRAME
    }
}

const _: () = assert!(Translation::WRITABLE | Translation::DIRTY == layout::PAGE_STORABLE);

/// One array: where it lies and how it is indexed.
#[derive(Clone, Copy, Debug)]
struct Bank {
    /// First entry.
    base: usize,
    set_mask: usize,
    ways: usize,
    /// log2 of the entries per set with padding.
    stride_log2: u32,
}

impl Bank {
    const NONE: Self = Self { base: 0, set_mask: 0, ways: 0, stride_log2: 2 };

    fn new(array: Array, base: usize) -> Self {
        if array.entries() == 0 {
            return Self::NONE;
        }
        let stride_log2 = array.stride().trailing_zeros();
        Self { base, set_mask: array.sets() - 1, ways: array.ways(), stride_log2 }
    }

    const fn end(self) -> usize {
        if self.ways == 0 {
            self.base
        } else {
            self.base + ((self.set_mask + 1) << self.stride_log2)
        }
    }
}

/// The ways of one set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Set {
    /// Its first entry.
    pub(crate) first: usize,
    /// Entries with padding: 4, 8, 16 or a larger power of two.
    pub(crate) stride: usize,
}

/// The arrays of one level.
#[derive(Debug)]
pub(crate) struct Banks {
    banks: [Bank; 3],
    shifts: Shifts,
    tags: Vec<u64>,
    translations: Vec<Translation>,
    /// Whether only 4 KiB pages of single address spaces were inserted since the last clear.
    is_plain: bool,
    /// Whether pieces of larger pages were inserted since the last clear.
    has_pieces: bool,
    /// The only ASID inserted since the last clear, or [`NO_ASID`] or [`MANY_ASIDS`].
    only_asid: u16,
}

impl Banks {
    pub(crate) fn new(spec: &LevelSpec, shifts: Shifts) -> Self {
        let k4 = Bank::new(spec.k4, 0);
        let large = |large: Large, base: usize| match large {
            Large::Shared => k4,
            Large::Own(array) => Bank::new(array, base),
            Large::Absent => Bank::NONE,
        };
        let m2 = large(spec.m2, k4.end());
        let g1 = large(spec.g1, k4.end().max(m2.end()));
        let entries = k4.end().max(m2.end()).max(g1.end());
        Self {
            banks: [k4, m2, g1],
            shifts,
            tags: vec![INVALID; entries],
            translations: vec![Translation::default(); entries],
            is_plain: true,
            has_pieces: false,
            only_asid: NO_ASID,
        }
    }

    /// Entries with padding.
    pub(crate) fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether the level exists.
    #[inline]
    pub(crate) fn exists(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Whether `class` has an array.
    #[inline]
    pub(crate) const fn holds(&self, class: Class) -> bool {
        self.banks[class as usize].ways != 0
    }

    /// Whether the entry is padding.
    pub(crate) fn is_padding(&self, entry: usize) -> bool {
        self.banks.iter().any(|bank| {
            (bank.base..bank.end()).contains(&entry)
                && (entry - bank.base) & ((1 << bank.stride_log2) - 1) >= bank.ways
        })
    }

    #[inline(always)]
    fn number(&self, class: Class, addr: VirtAddr) -> u64 {
        (addr.as_u64() & ((1 << TAG_ADDRESS_BITS) - 1)) >> self.shifts.get(class)
    }

    #[inline(always)]
    fn tag(&self, class: Class, addr: VirtAddr, asid: u16) -> u64 {
        self.number(class, addr) << TAG_SHIFT
            | u64::from(asid) << ASID_SHIFT
            | (class as u64) << CLASS_SHIFT
            | VALID
    }

    /// The set in which a page of `class` at `addr` belongs.
    #[inline(always)]
    pub(crate) fn set(&self, class: Class, addr: VirtAddr) -> Set {
        let bank = &self.banks[class as usize];
        let set = self.number(class, addr) as usize & bank.set_mask;
        Set { first: bank.base + (set << bank.stride_log2), stride: 1 << bank.stride_log2 }
    }

    /// The entry of `class` for `addr` in this address space alone.
    #[inline(always)]
    fn find(&self, class: Class, addr: VirtAddr, asid: u16) -> Option<usize> {
        self.find_key(self.set(class, addr), self.tag(class, addr, asid))
    }

    /// The entry of the set whose tag is `key`.
    #[inline(always)]
    fn find_key(&self, set: Set, key: u64) -> Option<usize> {
        let tags = self.tags.get(set.first..)?;
        let way = match set.stride {
            8 => find_way::<8>(tags.first_chunk()?, key),
            4 => find_way::<4>(tags.first_chunk()?, key),
            16 => find_way::<16>(tags.first_chunk()?, key),
            stride => tags.get(..stride)?.iter().position(|tag| *tag == key),
        };
        Some(set.first + way?)
    }

    /// Whether nothing but 4 KiB pages of single address spaces was inserted since the last clear,
    /// no pieces of larger ones, and inserting one of `asid` would be nothing new.
    #[inline(always)]
    pub(crate) const fn is_plain_for(&self, asid: u16) -> bool {
        self.is_plain
            && !self.has_pieces
            && (self.only_asid == asid || self.only_asid == MANY_ASIDS)
    }

    /// Host addresses of the tags and the translations. They never change.
    pub(crate) fn addresses(&mut self) -> [u64; 2] {
        let tags = self.tags.as_mut_ptr().expose_provenance();
        [tags as u64, self.translations.as_mut_ptr().expose_provenance() as u64]
    }

    /// Sets of 4 KiB pages less one, and the ways and the entries with padding of one.
    pub(crate) fn small_shape(&self) -> (usize, usize, usize) {
        let bank = &self.banks[Class::K4 as usize];
        (bank.set_mask, bank.ways, 1 << bank.stride_log2)
    }

    /// The tag of the 4 KiB page of `addr`.
    #[inline(always)]
    pub(crate) fn small_tag(&self, addr: VirtAddr, asid: u16) -> u64 {
        self.tag(Class::K4, addr, asid)
    }

    /// The entry of the 4 KiB page of `addr`, whose tag is `key`.
    #[inline(always)]
    pub(crate) fn find_small(&self, addr: VirtAddr, key: u64) -> Option<usize> {
        self.find_key(self.set(Class::K4, addr), key)
    }

    /// What the entry says, if there is such an entry.
    #[inline(always)]
    pub(crate) fn get(&self, entry: usize) -> Option<Translation> {
        self.translations.get(entry).copied()
    }

    /// The tag of the entry and what it says.
    #[inline(always)]
    pub(crate) fn get_mut(&mut self, entry: usize) -> Option<(&mut u64, &mut Translation)> {
        Some((self.tags.get_mut(entry)?, self.translations.get_mut(entry)?))
    }

    /// Whether the tag of `entry` is `key`.
    #[inline(always)]
    pub(crate) fn has_tag(&self, entry: usize, key: u64) -> bool {
        self.tags.get(entry) == Some(&key)
    }

    /// Whether `entry` is the 4 KiB page of `addr` in address space `asid`.
    #[inline(always)]
    pub(crate) fn is_small_page(&self, entry: usize, addr: VirtAddr, asid: u16) -> bool {
        self.has_tag(entry, self.tag(Class::K4, addr, asid))
    }

    /// The entry that translates `addr` in address space `asid`.
    #[inline(always)]
    pub(crate) fn look(&self, addr: VirtAddr, asid: u16) -> Option<usize> {
        let found = self.find(Class::K4, addr, asid);
        if found.is_some() || self.is_plain { found } else { self.look_everywhere(addr, asid) }
    }

    #[cold]
    fn look_everywhere(&self, addr: VirtAddr, asid: u16) -> Option<usize> {
        let classes = Class::ALL.into_iter().filter(|class| self.holds(*class));
        classes
            .flat_map(|class| [(class, asid), (class, GLOBAL_ASID)])
            .find_map(|(class, asid)| self.find(class, addr, asid))
    }

    /// What the entry says.
    #[inline(always)]
    pub(crate) fn translation(&self, entry: usize) -> Translation {
        self.translations[entry]
    }

    /// Changes what the entry says; it stays the entry of the same page.
    pub(crate) fn update(&mut self, entry: usize, translation: Translation) {
        self.translations[entry] = translation;
    }

    /// Makes `entry` hold the page, or the piece of it of size `class`, that holds `addr`.
    #[inline(always)]
    pub(crate) fn put(
        &mut self,
        entry: usize,
        class: Class,
        addr: VirtAddr,
        asid: u16,
        page: Translation,
    ) {
        let asid = if page.is_global() { GLOBAL_ASID } else { asid };
        if page.class() != Class::K4 || self.only_asid != asid {
            self.note_uncommon(class, asid, page);
        }
        self.tags[entry] = self.tag(class, addr, asid);
        self.translations[entry] = page;
    }

    #[cold]
    fn note_uncommon(&mut self, class: Class, asid: u16, page: Translation) {
        if class != Class::K4 || asid == GLOBAL_ASID {
            self.is_plain = false;
        }
        if class != page.class() {
            self.has_pieces = true;
        }
        if self.only_asid == NO_ASID {
            self.only_asid = asid;
        } else if self.only_asid != asid {
            self.only_asid = MANY_ASIDS;
        }
    }

    /// The physical address of `addr`, which `page` translates.
    #[inline(always)]
    pub(crate) fn physical(&self, page: Translation, addr: VirtAddr) -> PhysAddr {
        let offset_mask = if page.class() == Class::K4 {
            self.shifts.offset_mask(Class::K4)
        } else {
            self.shifts.offset_mask(page.class())
        };
        PhysAddr::new(page.base() | addr.as_u64() & offset_mask)
    }

    /// Whether the entry holds something.
    pub(crate) fn is_valid(&self, entry: usize) -> bool {
        self.tags[entry] != INVALID
    }

    /// Marks the entry as holding nothing.
    pub(crate) fn invalidate(&mut self, entry: usize) {
        self.tags[entry] = INVALID;
    }

    /// Marks all entries as holding nothing.
    pub(crate) fn clear(&mut self) {
        self.tags.fill(INVALID);
        self.is_plain = true;
        self.has_pieces = false;
        self.only_asid = NO_ASID;
    }

    /// Whether nothing was inserted since the last clear.
    pub(crate) fn is_empty(&self) -> bool {
        self.only_asid == NO_ASID
    }

    /// Whether nothing but `asid` was inserted since the last clear.
    pub(crate) fn holds_only(&self, asid: u16) -> bool {
        self.is_empty() || self.only_asid == asid
    }

    /// Whether the entry holds a page of `asid`.
    pub(crate) fn belongs_to(&self, entry: usize, asid: u16) -> bool {
        let tag = self.tags[entry];
        tag != INVALID && (tag >> ASID_SHIFT) as u16 == asid
    }

    /// How many entries hold a page of `asid`.
    pub(crate) fn entry_count(&self, asid: u16) -> usize {
        (0..self.tags.len()).filter(|&entry| self.belongs_to(entry, asid)).count()
    }

    /// An entry that translates `addr` in `asid` by way of a page or a piece of a page, the next
    /// one after those already invalidated.
    pub(crate) fn look_with_pieces(&self, addr: VirtAddr, asid: u16) -> Option<usize> {
        let found = self.look(addr, asid);
        if found.is_some() || !self.has_pieces {
            return found;
        }
        (0..self.len()).find(|entry| self.is_piece_around(*entry, addr, asid))
    }

    /// Whether the entry holds a piece of the large page that holds `addr`.
    fn is_piece_around(&self, entry: usize, addr: VirtAddr, asid: u16) -> bool {
        let tag = self.tags[entry];
        if tag == INVALID || !(self.belongs_to(entry, asid) || self.belongs_to(entry, GLOBAL_ASID))
        {
            return false;
        }
        let piece = Class::from_bits(tag >> CLASS_SHIFT);
        let whole = self.translations[entry].class();
        let inside = self.shifts.get(whole) - self.shifts.get(piece).min(self.shifts.get(whole));
        piece != whole && tag >> TAG_SHIFT >> inside == self.number(whole, addr)
    }

    /// The tag of the entry, for tests that compare states.
    #[cfg(test)]
    pub(crate) fn tag_of(&self, entry: usize) -> u64 {
        self.tags[entry]
    }
}

/// The way whose tag is `key`. Whoever comes here mostly misses, so the branches are foreseen.
#[inline(always)]
fn find_way<const N: usize>(tags: &[u64; N], key: u64) -> Option<usize> {
    for (way, tag) in tags.iter().enumerate() {
        if *tag == key {
            return Some(way);
        }
    }
    None
}

/// The way with the smallest of `count` stamps, which are below 2^56 or the largest number;
/// `count` is even and at most 256. Branch-free, in two chains of comparisons.
#[inline(always)]
pub(crate) fn oldest(count: usize, stamp: impl Fn(usize) -> u64) -> usize {
    // The way in the low bits makes one comparison decide both.
    let packed = |way: usize| stamp(way) << 8 | way as u64;
    let mut even = packed(0);
    let mut odd = packed(1);
    for pair in 1..count / 2 {
        even = even.min(packed(2 * pair));
        odd = odd.min(packed(2 * pair + 1));
    }
    (even.min(odd) & 0xff) as usize
}
