//! One range of addresses with one promise.

use machine::{VirtAddr, VirtRange};

use crate::backing::{AnonId, Backing};
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::swap::History;

/// A range of addresses with one promise: what may be done, who sees it, where content comes from.
#[derive(Clone, Debug)]
pub struct Vma {
    /// The addresses, page aligned and not empty.
    pub range: VirtRange,
    /// What may be done.
    pub rights: Rights,
    /// What `mprotect` may ever allow.
    pub may: Rights,
    /// Who sees stores.
    pub sharing: Sharing,
    /// Further properties.
    pub flags: VmaFlags,
    /// Where content comes from.
    pub backing: Backing,
    /// Page index of the first page in the backing; `start / 4096` for private anonymous memory.
    pub page_offset: u64,
    /// The family of private pages, from the first one on.
    pub anon: Option<AnonId>,
    /// Faults resolved inside.
    pub fault_count: u64,
    /// What faults on its pages in swap taught.
    pub(crate) history: History,
}

impl Vma {
    /// Whether `next` starts where this ends and both can be one VMA.
    ///
    /// # Source
    /// Linux 6.12 `mm/vma.c:is_mergeable_vma`; semantics VMA-1, VMA-2.
    pub fn can_merge(&self, next: &Self) -> bool {
        self.range.end == next.range.start
            && self.rights == next.rights
            && self.may == next.may
            && self.sharing == next.sharing
            && self.flags == next.flags
            && !self.flags.intersects(VmaFlags::SPECIAL | VmaFlags::IO | VmaFlags::PFN_MAP)
            && !self.flags.contains(VmaFlags::DONT_EXPAND)
            && self.backing.is_same(&next.backing)
            && next.page_offset == self.page_offset.wrapping_add(self.range.pages())
            && is_one_family(self.anon, next.anon)
    }

    /// Ends the VMA at `addr`, which is inside, and returns what came after it.
    pub(crate) fn cut_off(&mut self, addr: VirtAddr) -> Self {
        debug_assert!(self.range.start < addr && addr < self.range.end, "the cut is inside");
        let mut upper = self.clone();
        upper.move_start(addr);
        upper.fault_count = 0;
        self.range.end = addr;
        upper
    }

    /// Moves the start, and the page offset with it.
    pub(crate) fn move_start(&mut self, start: VirtAddr) {
        self.page_offset = self.page_offset_at(start);
        self.range.start = start;
    }

    /// The page index of `addr` in the backing, modulo 2^64.
    pub(crate) fn page_offset_at(&self, addr: VirtAddr) -> u64 {
        self.page_offset.wrapping_add(addr.page().offset_from(self.range.start.page()))
    }

    /// Whether private writable memory that is charged as a promise (MMAP-3).
    pub(crate) fn is_accountable(&self) -> bool {
        self.sharing == Sharing::Private
            && self.rights.contains(Rights::WRITE)
            && !self.flags.contains(VmaFlags::NO_RESERVE)
    }
}

/// Whether VMAs with these families of private pages may merge: the same, or one has none yet and
/// the other did not come by fork (VMA-2, FORK-6).
pub(crate) fn is_one_family(left: Option<AnonId>, right: Option<AnonId>) -> bool {
    left == right || left.xor(right).is_some_and(|only| !only.is_inherited())
}
