//! What emitted code tells the slow path about an access, in one constant.

use super::records::Offset;
use super::site::{Site, SiteKind};
use machine::Access;

/// What emitted code hands to the slow path: the number of a site, or, for a usual data access,
/// where to go on and what is accessed, so that the record of the site need not be looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ask {
    /// By number.
    Site(u32),
    /// A data access behind which emitted code goes on `resume` bytes into the cache.
    Access { resume: u32, access: Access, bytes: u64 },
}

impl Ask {
    /// Most bytes of a cache.
    pub(super) const CACHE_BYTES_MAX: u64 = 1 << 26;
    const NUMBER: u32 = 1 << 31;
    /// The bit of a store.
    pub(super) const WRITE: u32 = 1 << 30;
    /// Where log2 of the size stands, and its bits.
    pub(super) const SIZE_SHIFT: u32 = 26;
    pub(super) const SIZE_MASK: u32 = 15;

    /// The word for site `number`, which is `site`.
    pub(super) fn word(number: u32, site: &Site) -> u32 {
        match site.kind() {
            SiteKind::Access { access, bytes, .. } if bytes.is_power_of_two() && bytes <= 64 => {
                let write = if access == Access::Write { Self::WRITE } else { 0 };
                let resume = site.resume();
                debug_assert!(
                    u64::from(resume) < Self::CACHE_BYTES_MAX,
                    "the site is in the cache"
                );
                resume | bytes.trailing_zeros() << Self::SIZE_SHIFT | write
            }
            _ => Self::numbered(number),
        }
    }

    /// The word for site `number` of another kind.
    pub(super) const fn numbered(number: u32) -> u32 {
        Self::NUMBER | number
    }

    /// The long word for site `number`, an entry into the code page of the word FETCH_SLOT, behind
    /// which code goes on at `resume`.
    pub(super) const fn fetch(number: u32, resume: Offset) -> u64 {
        Self::numbered(number) as u64 | (resume as u64) << 32
    }

    /// Where code goes on behind an entry into a code page; `None` if this is something else.
    #[inline(always)]
    pub(super) const fn fetch_resume(long: u64) -> Option<u64> {
        if long >> 32 == 0 { None } else { Some(long >> 32) }
    }

    /// What a word says.
    #[inline(always)]
    pub(super) fn decode(word: u32) -> Self {
        if word & Self::NUMBER != 0 {
            return Self::Site(word & !Self::NUMBER);
        }
        let access = if word & Self::WRITE != 0 { Access::Write } else { Access::Read };
        let bytes = 1 << (word >> Self::SIZE_SHIFT & Self::SIZE_MASK);
        Self::Access { resume: word & (Self::CACHE_BYTES_MAX as u32 - 1), access, bytes }
    }
}

/// How many sites are remembered that were asked for.
const ASKED_SLOTS: usize = 256;

/// The sites that the slow path was asked for last, by where code goes on behind them: finding one
/// from scratch takes a search among all blocks.
#[derive(Debug)]
pub(super) struct Asked {
    /// Where code goes on, and the number of the site; offset 0 is none.
    slots: [(Offset, u32); ASKED_SLOTS],
}

impl Asked {
    pub(super) const fn new() -> Self {
        Self { slots: [(0, 0); ASKED_SLOTS] }
    }

    /// The number of the site behind which code goes on at `resume`.
    pub(super) fn find(&self, resume: Offset) -> Option<u32> {
        let (place, number) = self.slots[resume as usize % ASKED_SLOTS];
        (place == resume && place != 0).then_some(number)
    }

    /// Remembers a site.
    pub(super) fn note(&mut self, resume: Offset, number: u32) {
        self.slots[resume as usize % ASKED_SLOTS] = (resume, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(access: Access, bytes: u16) -> Site {
        let kind = SiteKind::Access { access, bytes, ordinal: 0, is_stack: false, live: 0 };
        Site::new(0x3ff_fff1, 0, 0, kind)
    }

    #[test]
    fn a_usual_access_needs_no_record() {
        for access in [Access::Read, Access::Write] {
            for shift in 0..7 {
                let bytes = 1 << shift;
                let word = Ask::word(5, &site(access, bytes));
                let bytes = u64::from(bytes);
                assert_eq!(Ask::decode(word), Ask::Access { resume: 0x3ff_fff1, access, bytes });
            }
        }
    }

    #[test]
    fn an_entry_into_a_page_says_where_code_goes_on() {
        let long = Ask::fetch(5, 0x3ff_fff1);
        assert_eq!(Ask::decode(long as u32), Ask::Site(5));
        assert_eq!(Ask::fetch_resume(long), Some(0x3ff_fff1));
        assert_eq!(Ask::fetch_resume(u64::from(Ask::numbered(5))), None);
    }

    #[test]
    fn an_operand_of_ten_bytes_is_asked_for_by_number() {
        let word = Ask::word(5, &site(Access::Write, 10));
        assert_eq!(Ask::decode(word), Ask::Site(5));
    }
}
