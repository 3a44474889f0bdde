//! What emitted code probes: the shadow of the modelled first-level TLB, in one array of words.
//!
//! The engine points a segment register at the words and reads and writes them directly; the
//! [`layout`] is the contract. The machine keeps the stamps of TLB entries that have no slot in
//! the same array, so that the effective stamp of an entry is always one word of it.
//!
//! ```text
//! slot of addr = pext(addr, words[MASK_INDEX])
//! hit          = addr + words[READ_TAG + slot] < 4096 (wrapping)   (WRITE_TAG for a store)
//! on a hit     : words[STAMP + slot] = clock;  clock += 1 or CLOCK_WRITE
//! byte         = words[HOST + slot] + (addr + tag) = words[DISTANCE + slot] + addr
//! ```
//!
//! Invariants
//! 1. A tag that is not poison is minus the base of a 4 KiB page whose index is the slot.
//! 2. No address with index `i` hits poison in slot `i`, not even one that is less than 4,096
//!    bytes below the poison's page. Poison is 0, minus a page that only addresses with index 0
//!    have, below which is one whose index is the last. In those two slots it is minus a page
//!    whose index differs from `i` in the top bit, and the page below that differs from `i` in bit
//!    12, because bit 12 is always in the mask and is not the top bit of it.
//! 3. The mask depends on the accesses made, on nothing else, and only grows.

use crate::addr::{PAGE_SHIFT, VirtAddr};
use crate::ram::{HostWords, RamError};

/// Word indexes into the shadow that emitted code probes.
pub mod layout {
    /// Words that belong to the engine alone.
    pub const ENGINE: usize = 0;
    /// How many: its own state, its indirect-jump cache of two arrays of 65,536, and 4,096
    /// distances that loads are predicted to have.
    pub const ENGINE_WORDS: usize = 1024 + 2 * 65536 + 256 + 4096;
    /// The access clock.
    pub const CLOCK: usize = ENGINE + ENGINE_WORDS;
    /// The `pext` mask that turns an address into a slot.
    pub const MASK_INDEX: usize = CLOCK + 1;
    /// The fetch clock.
    pub const FETCH_CLOCK: usize = CLOCK + 2;
    /// The code-page slot being executed, 0 for none.
    pub const FETCH_PAGE: usize = CLOCK + 3;

    /// The tag of page 0 in the active address space if emitted code may make first-level misses
    /// that hit the second level itself, else 0. See `mmu/emitted.rs` for all that follow here.
    pub const MISS_KEY: usize = CLOCK + 4;
    /// How many of them it made.
    pub const MISS_COUNT: usize = CLOCK + 5;
    /// Host addresses of the first level's arrays: tags, translations, homes (16 bits each), and
    /// owners by slot (16 bits each).
    pub const FIRST_TAGS: usize = CLOCK + 6;
    /// See [`FIRST_TAGS`].
    pub const FIRST_PAGES: usize = CLOCK + 7;
    /// See [`FIRST_TAGS`].
    pub const FIRST_HOMES: usize = CLOCK + 8;
    /// See [`FIRST_TAGS`].
    pub const FIRST_OWNERS: usize = CLOCK + 9;
    /// Sets of the first level, less one.
    pub const FIRST_SET_MASK: usize = CLOCK + 10;
    /// Ways of the first level to be compared: 4 of 4, 6 of 8, or 8 of 8 entries of a set; 0 if the
    /// levels have a shape that emitted code does not know.
    pub const FIRST_WAYS: usize = CLOCK + 11;
    /// Host addresses of the second level's arrays: tags, translations, stamps, its clock, and
    /// hints (16 bits each).
    pub const SECOND_TAGS: usize = CLOCK + 12;
    /// See [`SECOND_TAGS`].
    pub const SECOND_PAGES: usize = CLOCK + 13;
    /// See [`SECOND_TAGS`].
    pub const SECOND_STAMPS: usize = CLOCK + 14;
    /// See [`SECOND_TAGS`].
    pub const SECOND_CLOCK: usize = CLOCK + 15;
    /// See [`SECOND_TAGS`].
    pub const SECOND_HINTS: usize = CLOCK + 16;
    /// Host address of the bits that tell which frames hold translated code.
    pub const CODE_FRAMES: usize = CLOCK + 17;
    /// Host address of the first byte of RAM.
    pub const RAM_BASE: usize = CLOCK + 18;
    /// Slots of the data shadow in use, less one.
    pub const SLOT_MASK: usize = CLOCK + 19;

    /// How far left a tag has the page number.
    pub const TAG_SHIFT: u32 = 19;
    /// Bits of a translation, all of which a page has that takes stores on the fast path.
    pub const PAGE_STORABLE: u64 = 5;
    /// The owner of a slot that has none.
    pub const NO_OWNER: u16 = u16::MAX;
    /// Hints of the second level.
    pub const HINTS: usize = 4096;

    /// Slots of the data shadow.
    pub const SLOTS: usize = 16384;
    /// Words between arrays, so that no two have equal offset modulo 4,096 bytes (a store to one
    /// would falsely alias a load of the other).
    pub const PAD: usize = 136;
    /// Per slot: minus the page base if loads may take the fast path, else poison.
    pub const READ_TAG: usize = CLOCK + 32;
    /// Per slot: minus the page base if stores may take the fast path, else poison.
    pub const WRITE_TAG: usize = READ_TAG + SLOTS + PAD;
    /// Per slot: host address of the frame.
    pub const HOST: usize = WRITE_TAG + SLOTS + PAD;
    /// Per slot: what an address of the page differs by from the host address of its byte, which is
    /// the sum of [`HOST`] and [`READ_TAG`].
    pub const DISTANCE: usize = HOST + SLOTS + PAD;
    /// Per slot: clock of the last hit.
    pub const STAMP: usize = DISTANCE + SLOTS + PAD;
    /// Per entry of the L1D: clock of the last use that went through no slot. The machine's own.
    pub const ENTRY_STAMP: usize = STAMP + SLOTS;
    /// Entries of a first level, padding included, at most.
    pub const ENTRIES: usize = 3 * 4096;

    /// Slots of the fetch shadow: code pages numbered by the engine from 1.
    pub const FETCH_SLOTS: usize = 16384;
    /// Per code page: non-zero if it is in the modelled L1I with execute right.
    pub const FETCH_RESIDENT: usize = ENTRY_STAMP + ENTRIES + PAD;
    /// Per code page: fetch clock of the last hit.
    pub const FETCH_STAMP: usize = FETCH_RESIDENT + FETCH_SLOTS + PAD;
    /// Per entry of the L1I: fetch clock of the last use that went through no slot. The machine's
    /// own.
    pub const FETCH_ENTRY_STAMP: usize = FETCH_STAMP + FETCH_SLOTS;
    /// Number of words: some are never used, so that a 16-bit index from `STAMP` or `FETCH_STAMP`
    /// on needs no bounds check.
    pub const END: usize = FETCH_STAMP + (1 << 16);
}

/// The shadow's bits of the page number before any conflict: address bits 12 to 20.
const FIRST_BITS: u32 = 9;
/// Address bits that may join the mask.
const EXTRA_BITS: usize = 5;
const _: () = assert!(1 << (FIRST_BITS + EXTRA_BITS as u32) == layout::SLOTS);
/// Conflicts after which the mask grows.
const CONFLICTS_MAX: u32 = 256;

/// All words. Their number is a constant, so that masked indexes need no bounds check.
pub(crate) type Words = [u64; layout::END];

/// Where a 4 KiB page is, for [`FastTlb::fill`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct FastPage {
    /// First byte of the page.
    pub(crate) base: u64,
    /// Host address of its frame.
    pub(crate) host: u64,
    /// Whether stores may take the fast path.
    pub(crate) is_writable: bool,
}

/// The words and how their data slots are indexed.
#[derive(Debug)]
pub(crate) struct FastTlb {
    pub(crate) words: HostWords<{ layout::END }>,
    /// The poison of the last slot and of slot 0.
    edge_poison: [u64; 2],
    /// Slots in use, less one.
    slot_mask: usize,
    /// Address bits in the mask above the first nine, ascending; the rest unused.
    extra_shifts: [u32; EXTRA_BITS],
    extra_masks: [u64; EXTRA_BITS],
    extra_count: usize,
    conflicts: u32,
    conflicts_total: u64,
    fills: u64,
}

impl FastTlb {
    /// An empty shadow.
    ///
    /// # Errors
    /// As [`HostWords::new`].
    pub(crate) fn new() -> Result<Self, RamError> {
        let mut fast = Self {
            words: HostWords::new()?,
            edge_poison: [0; 2],
            slot_mask: 0,
            extra_shifts: [0; EXTRA_BITS],
            extra_masks: [0; EXTRA_BITS],
            extra_count: 0,
            conflicts: 0,
            conflicts_total: 0,
            fills: 0,
        };
        fast.install_mask();
        Ok(fast)
    }

    /// The slot of an address: `pext(addr, mask)`.
    #[inline(always)]
    pub(crate) fn index(&self, addr: VirtAddr) -> usize {
        let first = (addr.as_u64() >> PAGE_SHIFT) as usize & ((1 << FIRST_BITS) - 1);
        if self.extra_count == 0 { first } else { first | self.extra_index(addr) }
    }

    #[inline]
    fn extra_index(&self, addr: VirtAddr) -> usize {
        // From the top bit down, each step from the one before: so it needs no vector register.
        let mut index = 0;
        for position in (0..EXTRA_BITS).rev() {
            let bit = addr.as_u64() >> self.extra_shifts[position] & self.extra_masks[position];
            index = index << 1 | bit;
        }
        let index = (index as usize) << FIRST_BITS;
        index & (layout::SLOTS - 1)
    }

    /// Slots in use with the present mask.
    pub(crate) fn slot_count(&self) -> usize {
        1 << (FIRST_BITS as usize + self.extra_count)
    }

    /// Whether the slot holds a page other than the one at `base`.
    #[inline]
    pub(crate) fn is_taken_by_other(&self, slot: usize, base: u64) -> bool {
        let tag = self.words[layout::READ_TAG + slot];
        tag != base.wrapping_neg() && tag != self.poison_of(slot)
    }

    /// Whether loads of the page at `base` take the fast path.
    #[inline]
    pub(crate) fn is_readable(&self, slot: usize, base: u64) -> bool {
        self.words[layout::READ_TAG + (slot & (layout::SLOTS - 1))] == base.wrapping_neg()
    }

    /// The tag that nothing hits in `slot`.
    #[inline(always)]
    fn poison_of(&self, slot: usize) -> u64 {
        let from_last = slot.wrapping_add(1) & self.slot_mask;
        if from_last < 2 { self.edge_poison[from_last] } else { 0 }
    }

    /// Lets emitted code hit the page, last used at `stamp`.
    #[inline(always)]
    pub(crate) fn fill(&mut self, slot: usize, page: FastPage, stamp: u64) {
        let slot = slot & (layout::SLOTS - 1);
        let tag = page.base.wrapping_neg();
        let write_tag = if page.is_writable { tag } else { self.poison_of(slot) };
        let words = &mut self.words;
        words[layout::READ_TAG + slot] = tag;
        words[layout::WRITE_TAG + slot] = write_tag;
        words[layout::HOST + slot] = page.host;
        words[layout::DISTANCE + slot] = page.host.wrapping_add(tag);
        words[layout::STAMP + slot] = stamp;
        self.fills += 1;
    }

    /// Lets nothing hit the slot any more.
    #[inline]
    pub(crate) fn poison(&mut self, slot: usize) {
        let slot = slot & (layout::SLOTS - 1);
        let poison = self.poison_of(slot);
        self.words[layout::READ_TAG + slot] = poison;
        self.words[layout::WRITE_TAG + slot] = poison;
    }

    /// Lets nothing hit any slot any more.
    pub(crate) fn poison_all(&mut self) {
        let count = self.slot_count();
        self.words[layout::READ_TAG..][..count].fill(0);
        self.words[layout::WRITE_TAG..][..count].fill(0);
        self.poison(0);
        self.poison(count - 1);
    }

    /// Whether nothing hits any slot.
    pub(crate) fn is_poisoned(&self) -> bool {
        (0..self.slot_count()).all(|slot| {
            let tags = [layout::READ_TAG, layout::WRITE_TAG].map(|array| self.words[array + slot]);
            tags == [self.poison_of(slot); 2]
        })
    }

    /// Lets no store hit the frame at host address `host`.
    pub(crate) fn poison_stores_to(&mut self, host: u64) {
        for slot in 0..self.slot_count() {
            if self.words[layout::HOST + slot] == host {
                self.words[layout::WRITE_TAG + slot] = self.poison_of(slot);
            }
        }
    }

    /// Counts that the page at `base` found its slot taken; `true` if the mask should grow.
    pub(crate) fn count_conflict(&mut self) -> bool {
        self.note_conflict();
        self.conflicts >= CONFLICTS_MAX && self.extra_count < EXTRA_BITS
    }

    /// Whether [`FastTlb::count_conflict`] would leave the mask as it is.
    #[inline(always)]
    pub(crate) fn keeps_mask(&self) -> bool {
        self.extra_count == EXTRA_BITS || self.conflicts + 1 < CONFLICTS_MAX
    }

    /// Counts a conflict after which the mask stays.
    #[inline(always)]
    pub(crate) fn note_conflict(&mut self) {
        self.conflicts = self.conflicts.saturating_add(1);
        self.conflicts_total += 1;
    }

    /// Adds to the mask the lowest address bit in which the page of `slot` and the one at `base`
    /// differ, and poisons all slots. The caller has taken them from their owners.
    pub(crate) fn grow_mask(&mut self, slot: usize, base: u64) {
        let other = self.words[layout::READ_TAG + slot].wrapping_neg();
        let bit = (other ^ base).trailing_zeros();
        debug_assert!(bit >= PAGE_SHIFT + FIRST_BITS, "pages share an index");
        self.conflicts = 0;
        self.extra_shifts[self.extra_count] = bit;
        self.extra_masks[self.extra_count] = 1;
        self.extra_count += 1;
        self.extra_shifts[..self.extra_count].sort_unstable();
        self.install_mask();
    }

    /// Derives the mask word and the poison from the extra bits, and poisons all slots.
    fn install_mask(&mut self) {
        let first = ((1 << FIRST_BITS) - 1) << PAGE_SHIFT;
        let extra = &self.extra_shifts[..self.extra_count];
        self.words[layout::MASK_INDEX] = extra.iter().fold(first, |mask, bit| mask | 1 << bit);
        let count = self.slot_count();
        let top = count as u64 / 2;
        self.slot_mask = count - 1;
        self.words[layout::SLOT_MASK] = count as u64 - 1;
        self.edge_poison = [count as u64 - 1, 0].map(|slot| {
            let other = slot ^ top;
            let page = (other & ((1 << FIRST_BITS) - 1)) << PAGE_SHIFT;
            let extra = extra.iter().enumerate();
            extra
                .fold(page, |page, (position, bit)| {
                    page | (other >> (FIRST_BITS as usize + position) & 1) << bit
                })
                .wrapping_neg()
        });
        self.poison_all();
    }

    /// Conflicts so far, changes of the mask, and fills of slots.
    pub(crate) fn statistics(&self) -> (u64, usize, u64) {
        (self.conflicts_total, self.extra_count, self.fills)
    }
}

/// Bytes from the start of the page at `base` up to `addr`, as a tag makes emitted code see it.
#[cfg(test)]
pub(crate) const fn probe(addr: u64, tag: u64) -> bool {
    addr.wrapping_add(tag) < 4096
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `pext` as the manual defines it.
    fn pext(value: u64, mask: u64) -> usize {
        let mut result = 0;
        let mut position = 0;
        for bit in 0..64 {
            if mask >> bit & 1 == 1 {
                result |= (value >> bit & 1) << position;
                position += 1;
            }
        }
        result as usize
    }

    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    /// Every mask that can grow by these bits.
    fn grown(bits: &[u32]) -> FastTlb {
        let mut fast = FastTlb::new().expect("2 MiB");
        for bit in bits {
            let page = FastPage { base: 1 << bit, host: 0, is_writable: true };
            let slot = fast.index(VirtAddr::new(1 << bit));
            fast.fill(slot, page, 1);
            assert!(fast.is_taken_by_other(slot, 0));
            fast.grow_mask(slot, 0);
        }
        fast
    }

    #[test]
    fn index_is_pext_of_the_mask() {
        let mut state = 7;
        for bits in [&[][..], &[21], &[40, 21], &[56, 47, 22], &[21, 22, 23], &[24, 46, 21, 30, 47]]
        {
            let fast = grown(bits);
            assert_eq!(fast.slot_count(), 512 << bits.len());
            for _ in 0..10_000 {
                let addr = random(&mut state);
                let index = fast.index(VirtAddr::new(addr));
                assert_eq!(index, pext(addr, fast.words[layout::MASK_INDEX]));
            }
        }
    }

    #[test]
    fn poison_is_never_hit() {
        let mut state = 9;
        for bits in [&[][..], &[21], &[40, 21], &[56, 47, 22], &[24, 46, 21, 30, 47]] {
            let fast = grown(bits);
            for slot in 0..fast.slot_count() {
                let tag = fast.words[layout::READ_TAG + slot];
                assert_eq!(tag, fast.words[layout::WRITE_TAG + slot]);
                let poison_page = tag.wrapping_neg();
                let check = |addr: u64| {
                    if fast.index(VirtAddr::new(addr)) == slot {
                        assert!(!probe(addr, tag), "{addr:#x} hits poison of {slot}");
                        assert!(!probe(addr.wrapping_add(63), tag), "{addr:#x} + 63, {slot}");
                    }
                };
                for near in -70i64..4100 {
                    check(poison_page.wrapping_add_signed(near));
                }
                for _ in 0..50 {
                    check(random(&mut state));
                }
            }
        }
    }

    #[test]
    fn a_filled_slot_is_hit_by_its_page_alone() {
        let mut fast = FastTlb::new().expect("2 MiB");
        let base = 0x7fff_f000;
        let slot = fast.index(VirtAddr::new(base));
        fast.fill(slot, FastPage { base, host: 0x1000, is_writable: false }, 5);
        let tag = fast.words[layout::READ_TAG + slot];
        assert!(probe(base, tag) && probe(base + 4095, tag));
        assert!(!probe(base - 1, tag) && !probe(base + 4096, tag));
        assert!(!probe(base, fast.words[layout::WRITE_TAG + slot]));
        fast.poison(slot);
        assert!(!fast.is_readable(slot, base));
    }

    #[test]
    fn no_two_arrays_have_equal_offset_in_a_page() {
        let starts = [
            layout::READ_TAG,
            layout::WRITE_TAG,
            layout::HOST,
            layout::DISTANCE,
            layout::STAMP,
            layout::FETCH_RESIDENT,
            layout::FETCH_STAMP,
        ];
        for (position, start) in starts.iter().enumerate() {
            for other in &starts[..position] {
                assert_ne!(start % 512, other % 512);
            }
        }
    }
}
