//! The frame table: one word of state and one owner for every frame of RAM.
//!
//! It says what a frame is, how often it is mapped, who else holds it, and to what it belongs: an
//! object or a family of private pages, and the index there. All mappings of the frame are found by
//! that (see `rmap.rs`). It allocates nothing and knows no content.
//!
//! ```text
//!  word:  |  59  | 58 |    57    |    56   |    55    | 54 |    53   | 52  |
//!         |ra mark|lazy|workingset|readahead|referenced|used|exclusive|dirty|
//!         | 51 .. 48 | 47 .. 32 | 31 .. 0  |
//!         |  state   |  holds   | mapcount |
//! ```
//!
//! Invariants
//! 1. `mapcount` is the number of leaf entries that name the frame, those marked special excepted.
//! 2. `holds` is the number of other users: 1 for the page cache, 1 for each pin.
//! 3. An exclusive frame is anonymous and has mapcount 1 (or 0 just before it is mapped).

use alloc::vec;
use alloc::vec::Vec;

use machine::Frame;

use crate::backing::ObjectId;
use crate::buddy::Mobility;
use crate::slab::Cache;

/// What a frame is used for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrameState {
    /// Nobody uses it.
    Free,
    /// A page table.
    PageTable,
    /// A private page.
    Anon,
    /// A page of a file in the page cache.
    File,
    /// A page of shared memory in the page cache.
    Shmem,
    /// The memory manager's own: the zero frame, page tables of the kernel, descriptor tables,
    /// compressed pages of swap.
    Kernel,
    /// Small objects of the kernel.
    Slab,
    /// A page of an area of vmalloc.
    Vmalloc,
}

impl FrameState {
    /// Every state, in the order of its number.
    pub(crate) const ALL: [Self; 8] = [
        Self::Free,
        Self::PageTable,
        Self::Anon,
        Self::File,
        Self::Shmem,
        Self::Kernel,
        Self::Slab,
        Self::Vmalloc,
    ];

    /// Whether the kernel itself uses it: such frames never leave RAM, and no group is charged.
    pub(crate) const fn is_kernel(self) -> bool {
        matches!(self, Self::Kernel | Self::Slab | Self::Vmalloc)
    }

    /// Whether the kernel reaches it by its logical address: it is allocated from lowmem. Other
    /// frames it maps for a while, or in an area; so it does with compressed pages of swap, which
    /// come from the reserve and may lie anywhere.
    ///
    /// # Source
    /// Linux 6.12 `include/asm-generic/pgalloc.h` (`GFP_PGTABLE_KERNEL`; x86 without
    /// `CONFIG_HIGHPTE`), `mm/slub.c`, `mm/vmalloc.c` (`__GFP_HIGHMEM`).
    pub(crate) const fn is_low(self) -> bool {
        matches!(self, Self::PageTable | Self::Kernel | Self::Slab)
    }

    /// What can become of a frame in this state.
    #[inline]
    pub(crate) const fn mobility(self) -> Mobility {
        match self {
            Self::Anon | Self::File | Self::Shmem => Mobility::Movable,
            _ => Mobility::Unmovable,
        }
    }
}

/// To whom a frame belongs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// The root of the family of a private page, and its page index in VMAs of the family.
    Anon {
        /// See [`crate::AnonId::root`].
        root: u64,
        /// As [`crate::Vma::page_offset`] counts.
        index: u64,
    },
    /// The address space of a page table of level 1, and the first page that it covers.
    Space {
        /// Slot of the space.
        slot: usize,
        /// Number of the page.
        page: u64,
    },
    /// The object and index of a page in the page cache.
    Cached {
        /// The object.
        object: ObjectId,
        /// Index of the page.
        index: u64,
    },
    /// The slab of a cache.
    Slab {
        /// Which cache.
        cache: Cache,
        /// The first frame of the slab.
        first: Frame,
    },
    /// A page of an area of vmalloc.
    Area {
        /// Number of the kernel's page.
        page: u64,
    },
}

const HOLD: u64 = 1 << 32;
const HOLDS_MASK: u64 = 0xffff << 32;
const STATE_SHIFT: u32 = 48;
const STATE_MASK: u64 = 0xf << STATE_SHIFT;
const DIRTY: u64 = 1 << 52;
const EXCLUSIVE: u64 = 1 << 53;
const USED: u64 = 1 << 54;
const REFERENCED: u64 = 1 << 55;
const READAHEAD: u64 = 1 << 56;
const WORKINGSET: u64 = 1 << 57;
const LAZY: u64 = 1 << 58;
const YOUNG: u64 = 1 << 63;
const MARK: u64 = 1 << 59;

/// Whether a frame ever held bytes since the machine started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Past {
    /// Its bytes are still zero.
    Fresh,
    /// Its bytes are anything.
    Recycled,
}

impl Past {
    #[inline]
    const fn of(word: u64) -> Self {
        if word & USED == 0 { Self::Fresh } else { Self::Recycled }
    }
}

/// The state of all frames.
#[derive(Debug)]
pub(crate) struct FrameTable {
    words: Vec<u64>,
    owners: Vec<[u64; 2]>,
}

impl FrameTable {
    /// A table of `frame_count` free frames.
    pub(crate) fn new(frame_count: usize) -> Self {
        Self { words: vec![0; frame_count], owners: vec![[0; 2]; frame_count] }
    }

    /// How many frames there are.
    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    #[inline]
    fn word(&self, frame: Frame) -> u64 {
        self.words[frame.number() as usize]
    }

    #[inline]
    fn word_mut(&mut self, frame: Frame) -> &mut u64 {
        &mut self.words[frame.number() as usize]
    }

    /// What the frame is.
    #[inline]
    pub(crate) fn state(&self, frame: Frame) -> FrameState {
        FrameState::ALL[((self.word(frame) & STATE_MASK) >> STATE_SHIFT) as usize]
    }

    /// Whether a frame ever held bytes.
    #[inline]
    pub(crate) fn past(&self, frame: Frame) -> Past {
        Past::of(self.word(frame))
    }

    /// Marks a free frame as used for `state`, not mapped and not held.
    #[inline]
    pub(crate) fn claim(&mut self, frame: Frame, state: FrameState) -> Past {
        let word = self.word_mut(frame);
        debug_assert!(*word & !USED == 0, "frame {:#x} is in use", frame.number());
        let past = Past::of(*word);
        *word = USED | (state as u64) << STATE_SHIFT;
        past
    }

    /// Marks a frame as free.
    #[inline]
    pub(crate) fn release(&mut self, frame: Frame) {
        *self.word_mut(frame) = USED;
    }

    /// How many leaf entries name the frame.
    #[inline]
    pub(crate) fn map_count(&self, frame: Frame) -> u32 {
        self.word(frame) as u32
    }

    /// How many users besides leaf entries the frame has.
    pub(crate) fn hold_count(&self, frame: Frame) -> u32 {
        ((self.word(frame) & HOLDS_MASK) >> 32) as u32
    }

    /// Whether nothing uses the frame any more.
    #[inline]
    pub(crate) fn is_unused(&self, frame: Frame) -> bool {
        self.word(frame) & (HOLDS_MASK | 0xffff_ffff) == 0
    }

    /// Whether one leaf entry and nothing else uses the frame.
    #[inline]
    pub(crate) fn has_one_user(&self, frame: Frame) -> bool {
        self.word(frame) & (HOLDS_MASK | 0xffff_ffff) == 1
    }

    /// Counts one more leaf entry.
    #[inline]
    pub(crate) fn map(&mut self, frame: Frame) {
        debug_assert!(self.map_count(frame) != u32::MAX, "more entries than RAM can hold");
        *self.word_mut(frame) += 1;
    }

    /// Counts one more leaf entry, made by fork: a private page is not exclusive any more. Returns
    /// what the frame is.
    #[inline]
    pub(crate) fn share(&mut self, frame: Frame) -> FrameState {
        let word = self.word_mut(frame);
        debug_assert!(*word as u32 != u32::MAX, "more entries than RAM can hold");
        *word = (*word + 1) & !EXCLUSIVE;
        FrameState::ALL[((*word & STATE_MASK) >> STATE_SHIFT) as usize]
    }

    /// Counts one leaf entry less.
    #[inline]
    pub(crate) fn unmap(&mut self, frame: Frame) {
        debug_assert!(self.map_count(frame) != 0, "frame {:#x} is not mapped", frame.number());
        *self.word_mut(frame) -= 1;
    }

    /// Counts one more other user.
    #[inline]
    pub(crate) fn hold(&mut self, frame: Frame) {
        debug_assert!(self.hold_count(frame) != 0xffff, "too many users of one frame");
        *self.word_mut(frame) += HOLD;
    }

    /// Counts one other user less.
    #[inline]
    pub(crate) fn unhold(&mut self, frame: Frame) {
        debug_assert!(self.hold_count(frame) != 0, "frame {:#x} is not held", frame.number());
        *self.word_mut(frame) -= HOLD;
    }

    /// Whether a private page may be written in place by its only user.
    #[inline]
    pub(crate) fn is_exclusive(&self, frame: Frame) -> bool {
        self.word(frame) & EXCLUSIVE != 0
    }

    /// Marks a private page as belonging to one entry alone.
    #[inline]
    pub(crate) fn set_exclusive(&mut self, frame: Frame) {
        *self.word_mut(frame) |= EXCLUSIVE;
    }

    /// Notes whether the page was found used by reclaim. Returns whether it was so before.
    pub(crate) fn note_referenced(&mut self, frame: Frame, is_referenced: bool) -> bool {
        let word = self.word_mut(frame);
        let was_set = *word & REFERENCED != 0;
        *word = if is_referenced { *word | REFERENCED } else { *word & !REFERENCED };
        was_set
    }

    /// Marks a page that was read ahead of its first use.
    pub(crate) fn set_readahead(&mut self, frame: Frame) {
        *self.word_mut(frame) |= READAHEAD;
    }

    /// Whether the page was read ahead and is used for the first time now.
    pub(crate) fn take_readahead(&mut self, frame: Frame) -> bool {
        let word = self.word_mut(frame);
        let was_set = *word & READAHEAD != 0;
        *word &= !READAHEAD;
        was_set
    }

    /// Marks a page that was in use before it left RAM.
    pub(crate) fn set_workingset(&mut self, frame: Frame) {
        *self.word_mut(frame) |= WORKINGSET;
    }

    /// Whether the page was activated since it came, or before it left.
    pub(crate) fn is_workingset(&self, frame: Frame) -> bool {
        self.word(frame) & WORKINGSET != 0
    }

    /// Marks a private page that need not be kept.
    pub(crate) fn set_lazy(&mut self, frame: Frame) {
        *self.word_mut(frame) |= LAZY;
    }

    /// Marks a private page as one that is kept.
    pub(crate) fn clear_lazy(&mut self, frame: Frame) {
        *self.word_mut(frame) &= !LAZY;
    }

    /// Whether a private page need not be kept, unless it was stored to since.
    #[inline]
    pub(crate) fn is_lazy(&self, frame: Frame) -> bool {
        self.word(frame) & LAZY != 0
    }

    /// Notes that somebody else than reclaim took the accessed bit of an entry of the page.
    pub(crate) fn set_young(&mut self, frame: Frame) {
        *self.word_mut(frame) |= YOUNG;
    }

    /// Whether that was noted since this was last asked.
    pub(crate) fn take_young(&mut self, frame: Frame) -> bool {
        let word = self.word_mut(frame);
        let was_young = *word & YOUNG != 0;
        *word &= !YOUNG;
        was_young
    }

    /// Marks a cached page as the one at which the next pages are to be read ahead.
    pub(crate) fn set_mark(&mut self, frame: Frame) {
        *self.word_mut(frame) |= MARK;
    }

    /// Whether the page was marked; it is not any more.
    #[inline]
    pub(crate) fn take_mark(&mut self, frame: Frame) -> bool {
        let is_marked = self.has_mark(frame);
        if is_marked {
            *self.word_mut(frame) &= !MARK;
        }
        is_marked
    }

    /// Whether the page is marked.
    #[inline]
    pub(crate) fn has_mark(&self, frame: Frame) -> bool {
        self.word(frame) & MARK != 0
    }

    /// Whether a cached page differs from what its pager has.
    pub(crate) fn is_dirty(&self, frame: Frame) -> bool {
        self.word(frame) & DIRTY != 0
    }

    /// Marks a cached page as changed.
    pub(crate) fn set_dirty(&mut self, frame: Frame) {
        *self.word_mut(frame) |= DIRTY;
    }

    /// Marks a cached page as stored.
    pub(crate) fn clear_dirty(&mut self, frame: Frame) {
        *self.word_mut(frame) &= !DIRTY;
    }

    /// Notes to whom the frame belongs.
    #[inline]
    pub(crate) fn set_owner(&mut self, frame: Frame, owner: Owner) {
        self.owners[frame.number() as usize] = match owner {
            Owner::Anon { root, index } => [root, index],
            Owner::Space { slot, page } => [slot as u64, page],
            Owner::Cached { object, index } => [u64::from(object.0), index],
            Owner::Slab { cache, first } => [cache as u64, first.number()],
            Owner::Area { page } => [page, 0],
        };
    }

    /// To what the frame belongs: `None` for free frames and those of the kernel. Of page tables,
    /// only those of level 1 belong to a space.
    pub(crate) fn owner(&self, frame: Frame) -> Option<Owner> {
        let [number, index] = self.owners[frame.number() as usize];
        match self.state(frame) {
            FrameState::Anon => Some(Owner::Anon { root: number, index }),
            FrameState::File | FrameState::Shmem => {
                Some(Owner::Cached { object: ObjectId(number as u32), index })
            }
            FrameState::PageTable => Some(Owner::Space { slot: number as usize, page: index }),
            FrameState::Slab => {
                let cache = Cache::ALL[number as usize];
                Some(Owner::Slab { cache, first: Frame::new(index) })
            }
            FrameState::Vmalloc => Some(Owner::Area { page: number }),
            FrameState::Free | FrameState::Kernel => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_flags_do_not_touch_each_other() {
        let mut table = FrameTable::new(4);
        let frame = Frame::new(2);
        assert_eq!(table.claim(frame, FrameState::Anon), Past::Fresh);
        table.map(frame);
        table.hold(frame);
        table.set_exclusive(frame);
        table.set_owner(frame, Owner::Anon { root: 3, index: 1 << 40 });
        assert_eq!((table.map_count(frame), table.hold_count(frame)), (1, 1));
        assert_eq!(table.state(frame), FrameState::Anon);
        assert_eq!(table.owner(frame), Some(Owner::Anon { root: 3, index: 1 << 40 }));
        table.unhold(frame);
        assert!(table.has_one_user(frame) && table.is_exclusive(frame));
        table.unmap(frame);
        assert!(table.is_unused(frame));
        table.release(frame);
        assert_eq!(table.claim(frame, FrameState::PageTable), Past::Recycled);
        assert!(!table.is_exclusive(frame));
    }
}
