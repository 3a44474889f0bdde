//! Whom to evict: the policies of page replacement.
//!
//! Reclaim (`reclaim.rs`) keeps the pages on two lists of each kind, active and inactive, asks how
//! many frames are wanted of which kind, and takes pages away. A policy only says which page is
//! looked at next, what becomes of it, and how long the inactive list shall be. One that leaves the
//! active list alone has a single queue: pages enter at the front, the back is the oldest.
//!
//! | name | looks at | evicts it | else |
//! |---|---|---|---|
//! | two-list | the oldest inactive page | if not used since the last look | keeps, activates |
//! | fifo | the oldest page | always | |
//! | clock | the oldest page | if not used since the last look | to the front |
//! | lru | the page whose last use is longest ago | always | |
//! | random | any page | always | |
//!
//! # Source
//! Linux 6.12 `mm/vmscan.c` for two-list; Silberschatz, Operating System Concepts, chapter
//! "Page replacement" for the others; semantics LRU-1 to LRU-4.

use alloc::boxed::Box;
use core::fmt;

use machine::Frame;

use crate::reclaim::lru::{ListId, Lru};

mod clock;
mod fifo;
mod lru;
mod random;
mod two_list;

/// What kind of page competes for a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageKind {
    /// Private pages and shared memory: they go to swap.
    Anon,
    /// Pages of files: they go to their pager, or nowhere if they are clean.
    File,
}

/// A page that is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageSeen {
    /// Its kind.
    pub kind: PageKind,
    /// Leaf entries that were used since the page was last looked at.
    pub references: u32,
    /// Whether it was kept for being used when it was last looked at.
    pub was_referenced: bool,
    /// Whether a program executes it: some entry allows fetching.
    pub is_executable: bool,
}

/// What becomes of a page that was looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// To the front of its list.
    Keep,
    /// To the front of the active list.
    Activate,
    /// Out of RAM.
    Evict,
}

/// The pages of one kind that may be evicted now.
#[derive(Clone, Copy, Debug)]
pub struct Queue<'a> {
    lru: &'a Lru,
    list: ListId,
}

impl<'a> Queue<'a> {
    /// The pages of `list`.
    pub(crate) const fn new(lru: &'a Lru, list: ListId) -> Self {
        Self { lru, list }
    }

    /// How many there are.
    pub fn count(self) -> u64 {
        self.lru.count(self.list)
    }

    /// The page that entered first.
    pub fn oldest(self) -> Option<Frame> {
        self.lru.back(self.list).map(|number| Frame::new(number.into()))
    }

    /// The page in the frame `number` (modulo the frames of RAM), or in the next frame above that
    /// holds one; the oldest if the frames nearby hold none.
    ///
    /// With uniform numbers the choice is nearly uniform: a page behind a gap is chosen more often.
    pub fn near(self, number: u64) -> Option<Frame> {
        const LOOKED_AT_MAX: u64 = 256;
        let frames = self.lru.frame_count();
        (0..LOOKED_AT_MAX.min(frames))
            .map(|i| (number.wrapping_add(i)) % frames)
            .find(|&number| self.lru.is_on(number as u32, self.list))
            .map(Frame::new)
            .or_else(|| self.oldest())
    }
}

/// Sizes of the lists of one kind, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListSizes {
    /// Pages that may be evicted.
    pub inactive: u64,
    /// Pages that are kept.
    pub active: u64,
}

/// Chooses the pages that leave RAM.
///
/// Implementations must be deterministic: they see neither time nor addresses of the host.
pub trait Replacement: fmt::Debug {
    /// The name for `--policy`.
    fn name(&self) -> &'static str;

    /// The page to look at next. `None` only if there is none.
    fn candidate(&mut self, queue: Queue<'_>) -> Option<Frame> {
        queue.oldest()
    }

    /// What becomes of the page that was looked at. A page that is not evicted although it should
    /// be, because it is locked or its device failed, goes to the front of its list.
    fn judge(&mut self, page: PageSeen) -> Verdict;

    /// How many pages shall go from the back of the active list to the inactive one before `scan`
    /// pages are looked at.
    fn deactivate(&self, sizes: ListSizes, scan: u64) -> u64 {
        let _ = (sizes, scan);
        0
    }

    /// Whether a page that comes back starts on the active list. `distance` is how many pages left
    /// or were activated since it had left, `others` how many pages compete with it.
    fn activates_refault(&self, distance: u64, others: u64) -> bool {
        let _ = (distance, others);
        false
    }

    /// Whether the queues are to be in the order of last use: then all pages are looked at every 64
    /// allocations, and before any is evicted, and those used since go to the front.
    fn wants_order_of_use(&self) -> bool {
        false
    }
}

/// A policy by name.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The name for `--policy`.
    pub name: &'static str,
    /// One line about it.
    pub about: &'static str,
    /// Makes it; policies without chance do not look at the seed.
    pub make: fn(seed: u64) -> Box<dyn Replacement>,
}

/// Every policy; the first is the default.
pub const POLICIES: [Policy; 5] = [
    Policy {
        name: "two-list",
        about: "active and inactive lists with second chance, as Linux without MGLRU",
        make: |_| Box::new(two_list::TwoList),
    },
    Policy {
        name: "clock",
        about: "one queue; a page used since the last look goes to its front",
        make: |_| Box::new(clock::Clock),
    },
    Policy {
        name: "fifo",
        about: "the page that came first leaves first, used or not",
        make: |_| Box::new(fifo::Fifo),
    },
    Policy {
        name: "lru",
        about: "the page whose last use is longest ago, as far as reference bits tell",
        make: |_| Box::new(lru::StrictLru),
    },
    Policy {
        name: "random",
        about: "any page, by the seed of the run",
        make: |seed| Box::new(random::Random::new(seed)),
    },
];

/// The policy of this name.
pub fn policy(name: &str) -> Option<&'static Policy> {
    POLICIES.iter().find(|policy| policy.name == name)
}

#[cfg(test)]
mod tests;
