//! Sites: the places where emitted code may enter the slow path.
//!
//! There are some hundred thousand of them, so each is packed into three words:
//!
//! ```text
//! resume 26, six live flags 6 | block 27, sort 3, marks 2 | guest 13, number 17, all or parked 2
//! ```
//! The sort says what the marks and the number are.

use super::ask::Ask;
use super::block::{ALL_LIVE, PARKED};
use super::emulate::strings::Job;
use super::records::Offset;
use super::translate::BlockId;
use machine::Access;

/// One place where emitted code may enter the slow path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    words: [u32; 3],
}

/// What a site wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SiteKind {
    /// A data access.
    Access {
        access: Access,
        bytes: u16,
        /// How many probes of the same instruction come before it.
        ordinal: u8,
        /// Whether a non-canonical address is #SS and not #GP.
        is_stack: bool,
        /// Arithmetic flags that were kept before the probe, as bits of RFLAGS.
        live: u16,
    },
    /// A string instruction of so many bytes, done in Rust.
    String { job: Job, live: u16, length: u8 },
    /// A group, whose probe has not failed yet: emitted code goes on behind the group. `field` is
    /// how many bytes before that the displacement of the branch stands which is taken if it does.
    Group { field: u16, live: u16 },
    /// No access: where an indirect jump stands.
    Branch,
    /// The fetch of a page that is entered; the site stands at the address.
    Fetch { slot: u16, is_second: bool },
}

/// Bits of the fields.
const RESUME_BITS: u32 = Ask::CACHE_BYTES_MAX.trailing_zeros();
const BLOCK_BITS: u32 = 27;
const SORT_BITS: u32 = 3;
const GUEST_BITS: u32 = 13;
const NUMBER_BITS: u32 = 17;
/// Of the number: bytes of an access, below its ordinal.
const BYTES_BITS: u32 = 12;

/// The sorts.
const ACCESS: u32 = 0;
const STRING: u32 = 1;
const GROUP: u32 = 2;
const BRANCH: u32 = 3;
const FETCH: u32 = 4;

/// The marks: of an access, that it is one to the stack, and that it writes; of a fetch, that it is
/// that of the second page.
const STACK: u32 = 1;
const WRITE: u32 = 2;
const SECOND: u32 = 1;

/// What stands for flags: all are live, or all are parked.
const ALL_BIT: u32 = 1;
const PARKED_BIT: u32 = 2;
/// CF PF AF ZF SF OF in RFLAGS.
const FLAGS: [u16; 6] = [1, 4, 0x10, 0x40, 0x80, 0x800];

/// Packs flags: the six, and whether all are live or parked.
fn pack_live(live: u16) -> (u32, u32) {
    let one = |(at, flag): (usize, &u16)| u32::from(live & flag != 0) << at;
    let packed = match live {
        ALL_LIVE => (0, ALL_BIT),
        PARKED => (0, PARKED_BIT),
        _ => (FLAGS.iter().enumerate().map(one).sum(), 0),
    };
    debug_assert_eq!(unpack_live(packed), live, "a mask of arithmetic flags");
    packed
}

fn unpack_live((six, other): (u32, u32)) -> u16 {
    match other {
        ALL_BIT => ALL_LIVE,
        PARKED_BIT => PARKED,
        _ => {
            let one = |(at, flag): (usize, &u16)| if six >> at & 1 != 0 { *flag } else { 0 };
            FLAGS.iter().enumerate().map(one).sum()
        }
    }
}

/// The lowest `bits` of a word.
const fn low(word: u32, bits: u32) -> u32 {
    word & ((1 << bits) - 1)
}

impl Site {
    /// The site of the instruction `guest` bytes from the start of a block, behind which emitted
    /// code goes on at `resume`.
    pub(super) fn new(resume: Offset, block: BlockId, guest: u16, kind: SiteKind) -> Self {
        debug_assert!(resume >> RESUME_BITS == 0 && block >> BLOCK_BITS == 0, "there is room");
        debug_assert!(u32::from(guest) >> GUEST_BITS == 0, "a block is in a page");
        let mut site = Self { words: [resume, block, guest.into()] };
        site.set_kind(kind);
        site
    }

    /// Where emitted code goes on.
    pub(super) const fn resume(&self) -> Offset {
        low(self.words[0], RESUME_BITS)
    }

    pub(super) const fn block(&self) -> BlockId {
        low(self.words[1], BLOCK_BITS)
    }

    /// The guest instruction: bytes from the start of the block.
    pub(super) const fn guest(&self) -> u64 {
        low(self.words[2], GUEST_BITS) as u64
    }

    pub(super) fn kind(&self) -> SiteKind {
        let [first, second, third] = self.words;
        let sort = low(second >> BLOCK_BITS, SORT_BITS);
        let marks = second >> (BLOCK_BITS + SORT_BITS);
        let number = low(third >> GUEST_BITS, NUMBER_BITS);
        let live = unpack_live((first >> RESUME_BITS, third >> (GUEST_BITS + NUMBER_BITS)));
        match sort {
            ACCESS => SiteKind::Access {
                access: if marks & WRITE != 0 { Access::Write } else { Access::Read },
                bytes: low(number, BYTES_BITS) as u16,
                ordinal: (number >> BYTES_BITS) as u8,
                is_stack: marks & STACK != 0,
                live,
            },
            STRING => {
                let length = low(number, 4) as u8;
                SiteKind::String { job: Job::unpack((number >> 4) as u16), live, length }
            }
            GROUP => SiteKind::Group { field: number as u16, live },
            BRANCH => SiteKind::Branch,
            _ => SiteKind::Fetch { slot: number as u16, is_second: marks & SECOND != 0 },
        }
    }

    /// Says where emitted code goes on.
    pub(super) fn set_resume(&mut self, resume: Offset) {
        debug_assert!(resume >> RESUME_BITS == 0, "places are in the cache");
        self.words[0] = resume | self.words[0] >> RESUME_BITS << RESUME_BITS;
    }

    /// Says what it wants.
    pub(super) fn set_kind(&mut self, kind: SiteKind) {
        let (sort, marks, number, live) = match kind {
            SiteKind::Access { access, bytes, ordinal, is_stack, live } => {
                debug_assert!(u32::from(bytes) >> BYTES_BITS == 0, "operands are short");
                let write = if access == Access::Write { WRITE } else { 0 };
                let stack = if is_stack { STACK } else { 0 };
                let number = u32::from(bytes) | u32::from(ordinal) << BYTES_BITS;
                (ACCESS, write | stack, number, live)
            }
            SiteKind::String { job, live, length } => {
                (STRING, 0, u32::from(length) | u32::from(job.pack()) << 4, live)
            }
            SiteKind::Group { field, live } => (GROUP, 0, field.into(), live),
            SiteKind::Branch => (BRANCH, 0, 0, 0),
            SiteKind::Fetch { slot, is_second } => {
                (FETCH, if is_second { SECOND } else { 0 }, slot.into(), 0)
            }
        };
        debug_assert!(number >> NUMBER_BITS == 0, "few probes, and short instructions");
        let (six, other) = pack_live(live);
        self.words = [
            self.resume() | six << RESUME_BITS,
            self.block() | sort << BLOCK_BITS | marks << (BLOCK_BITS + SORT_BITS),
            self.guest() as u32 | number << GUEST_BITS | other << (GUEST_BITS + NUMBER_BITS),
        ];
    }
}

const _: () = assert!(size_of::<Site>() <= 12);
const _: () = assert!(machine::layout::FETCH_SLOTS <= 1 << 16, "a slot has 16 bits");

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    fn check(kind: SiteKind) {
        for (resume, block, guest) in [(0, 0, 0), (0x3ff_ffff, (1 << BLOCK_BITS) - 1, 4110)] {
            let mut site = Site::new(resume, block, guest, SiteKind::Branch);
            site.set_kind(kind);
            let place = (site.resume(), site.block(), site.guest());
            assert_eq!((place, site.kind()), ((resume, block, guest.into()), kind));
            site.set_resume(0x155_5555);
            assert_eq!((site.resume(), site.kind()), (0x155_5555, kind));
        }
    }

    const LIVE: [u16; 6] = [0, 1, 0x8d5, 0x800, ALL_LIVE, PARKED];

    #[test]
    fn accesses_and_groups_come_back_as_they_were() {
        for live in LIVE {
            for (bytes, ordinal) in [(1, 0), (64, 3), (4095, 31)] {
                let is_stack = ordinal == 3;
                for access in [Access::Read, Access::Write] {
                    check(SiteKind::Access { access, bytes, ordinal, is_stack, live });
                }
            }
            check(SiteKind::Group { field: u16::MAX, live });
        }
    }

    #[test]
    fn fetches_and_branches_come_back_as_they_were() {
        check(SiteKind::Branch);
        for is_second in [false, true] {
            check(SiteKind::Fetch { slot: u16::MAX, is_second });
        }
    }

    #[test]
    fn strings_come_back_as_they_were() {
        // movs, cmps, stos, lods, scas with each prefix of a segment, a width, a count.
        for code in [0xa4u8, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf] {
            for prefixes in [&[][..], &[0xf3], &[0xf2], &[0x26, 0x67], &[0x65, 0xf3], &[0x36]] {
                for bitness in [16, 32, 64] {
                    let bytes = [prefixes, &[code]].concat();
                    let mut decoder = Decoder::new(bitness, &bytes, DecoderOptions::NONE);
                    let job = Job::new(&decoder.decode());
                    for live in LIVE {
                        check(SiteKind::String { job, live, length: 15 });
                    }
                }
            }
        }
    }
}
