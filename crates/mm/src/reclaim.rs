//! Taking frames back from programs and files when free ones run short.
//!
//! Each allocation that finds the free frames at the low mark balances them up to the high mark:
//! the policy (`replacement.rs`) says which pages leave. Pages of files go to their pagers if they
//! are dirty, and come back from there; private pages and shared memory go to swap, if there is
//! some; locked pages stay.
//!
//! There is no thread: what kswapd does in Linux happens in the allocation that wakes it, but takes
//! none of its virtual time; below the min mark, and at a limit, the allocation waits for devices.
//!
//! Invariants
//! 1. Every page of a file is on a list, and with swap every private page and page of shared
//!    memory; other frames are on none. Frames of the kernel's own pages (vdso) are taken off.
//! 2. A frame that somebody else holds than its cache is not taken.
//! 3. `Memory::due_at` is the most free frames at which an allocation has to balance.
//!
//! # Source
//! Linux 6.12 `mm/vmscan.c`, `mm/page_alloc.c`; semantics PHYS-3, PHYS-4, LRU-1 to LRU-5.

use alloc::boxed::Box;
use alloc::vec::Vec;

use machine::{Frame, Machine, PAGE_BYTES};

use crate::folio::FrameState;
use crate::memory::Memory;
use crate::replacement::{POLICIES, PageKind, Replacement};
use crate::zones::{HighFrames, ZoneInfo};
use lru::{ListId, Lru};

mod evict;
mod lazy;
mod limit;
pub(crate) mod lru;
mod scan;
mod workingset;

pub use limit::{GroupLimits, GroupUsage};
pub(crate) use workingset::Shadow;

/// Pages that are taken in one go (`SWAP_CLUSTER_MAX`).
const BATCH_PAGES: u64 = 32;
/// `DEF_PRIORITY`: at first one page in 4,096 is looked at.
const PRIORITY_MAX: u32 = 12;
/// Pages that a program needs at once to go on, at most: the instruction, what it reads and writes,
/// each across the end of a page, and their page tables.
const PROGRESS_PAGES: u64 = 8;
/// Allocations after which a policy of use sees again who was used.
const SORT_ALLOCATIONS: u64 = 64;
/// Rounds without success after which only an allocation below the min mark tries again.
const FAILURES_MAX: u32 = 16;

/// How many frames shall be free.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Watermarks {
    /// Below, the allocation itself waits.
    pub min: u64,
    /// At or below, balancing starts.
    pub low: u64,
    /// There, it ends.
    pub high: u64,
}

impl Watermarks {
    /// `vm.min_free_kbytes` of a kernel that reaches `lowmem_frames` frames (PHYS-3).
    pub(crate) fn default_min_free_kib(lowmem_frames: u64) -> u64 {
        let kib = lowmem_frames.saturating_mul(PAGE_BYTES >> 10);
        kib.saturating_mul(16).isqrt().clamp(128, 262_144)
    }
}

/// What is known about taking frames back.
#[derive(Debug)]
pub(crate) struct Reclaim {
    pub(crate) lru: Lru,
    pub(crate) marks: Watermarks,
    /// `vm.min_free_kbytes`, in pages.
    min_free_pages: u64,
    /// `vm.swappiness`.
    swappiness: u64,
    policy: Box<dyn Replacement>,
    /// Whether pages that need swap to leave are on the lists.
    pub(crate) lists_anon: bool,
    /// Rounds in a row that took nothing.
    failures: u32,
    /// Frames are being taken: an allocation on the way does not start again.
    is_running: bool,
    /// The last direct reclaim did not get above the min mark.
    is_exhausted: bool,
    /// What the latest major faults brought, and the next place in it.
    latest: ([Option<Frame>; PROGRESS_PAGES as usize], usize),
    /// Only frames below this one are taken: others would not help the allocation that waits.
    below: u64,
    /// Pages that may still be looked at before the running allocation goes on.
    budget: u64,
    /// Pages that left or were activated; see `workingset.rs`.
    age: u64,
    /// What reclaim of each kind has cost lately, in pages.
    costs: [u64; 2],
    /// Whether pages of each kind came back too soon since the last reclaim.
    has_returned: [bool; 2],
    /// Pages that had come back too soon at the last reclaim.
    returned: [u64; 2],
    /// Allocations since the queues were brought into the order of use.
    unsorted: u64,
    group: limit::Group,
}

/// Why frames are to be taken back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cause {
    /// Free frames are at the low mark: in the background.
    Background,
    /// Free frames are at the min mark: the allocation waits.
    Short,
    /// The group is at its limit: the allocation waits.
    Limit,
}

impl Reclaim {
    /// Empty lists for the frames of a machine.
    pub(crate) fn new(frame_count: usize) -> Self {
        Self {
            lru: Lru::new(frame_count),
            marks: Watermarks::default(),
            min_free_pages: 0,
            swappiness: 60,
            policy: (POLICIES[0].make)(0),
            lists_anon: false,
            failures: 0,
            is_running: false,
            is_exhausted: false,
            latest: ([None; PROGRESS_PAGES as usize], 0),
            below: u64::MAX,
            budget: 0,
            age: 0,
            costs: [0; 2],
            has_returned: [false; 2],
            returned: [0; 2],
            unsorted: 0,
            group: limit::Group::default(),
        }
    }

    /// The list of a new page of `state`.
    #[inline]
    pub(crate) const fn first_list(&self, state: FrameState) -> Option<ListId> {
        match state {
            FrameState::File => Some(ListId::InactiveFile),
            FrameState::Anon | FrameState::Shmem if self.lists_anon => Some(ListId::InactiveAnon),
            _ => None,
        }
    }
}

impl Memory {
    /// Puts every page that needs swap to leave on its list, in the order of frames.
    pub(crate) fn list_anon(&mut self) {
        if self.reclaim.lists_anon {
            return;
        }
        self.reclaim.lists_anon = true;
        for number in 0..self.frames.len() {
            let state = self.frames.state(Frame::new(number as u64));
            let is_listed = self.reclaim.lru.contains(number as u32);
            if matches!(state, FrameState::Anon | FrameState::Shmem) && !is_listed {
                self.reclaim.lru.push(number as u32, ListId::InactiveAnon);
            }
        }
    }

    /// Chooses who decides which pages leave. Pages keep their places; those on active lists that
    /// the policy would never look at become inactive.
    pub fn set_policy(&mut self, policy: Box<dyn Replacement>) {
        self.reclaim.policy = policy;
        for kind in [PageKind::Anon, PageKind::File] {
            let (inactive, active) = self.lists_of(kind);
            while let Some(number) = self.reclaim.lru.back(active) {
                self.reclaim.lru.move_to(number, inactive);
            }
        }
        self.update_due();
    }

    /// The name of the policy.
    pub fn policy_name(&self) -> &'static str {
        self.reclaim.policy.name()
    }

    /// Sets `vm.swappiness`, 0 to 200.
    pub fn set_swappiness(&mut self, swappiness: u64) {
        self.reclaim.swappiness = swappiness.min(200);
    }

    /// Sets `vm.min_free_kbytes`, from which the marks of all zones follow (PHYS-4).
    pub fn set_min_free_kib(&mut self, kib: u64) {
        let pages = (kib / (PAGE_BYTES >> 10)).min(self.frames.len() as u64);
        self.reclaim.min_free_pages = pages;
        self.reclaim.marks = self.zones.marks(pages);
        self.update_due();
    }

    /// Every zone that has frames, ascending (`/proc/zoneinfo`).
    pub fn zones(&self) -> Vec<ZoneInfo> {
        self.zones.infos(self.reclaim.min_free_pages)
    }

    /// The frames that a kernel of 32 bits has no address for; none with 64.
    pub fn highmem_frames(&self) -> HighFrames {
        self.zones.highmem_frames()
    }

    /// Pages of a zone on the lists: inactive and active private ones and those of shared memory,
    /// inactive and active ones of files, and unevictable ones. Takes time in proportion to the
    /// frames of the zone.
    pub fn zone_lists(&self, zone: &ZoneInfo) -> [u64; 5] {
        use ListId as L;
        let lists =
            [L::InactiveAnon, L::ActiveAnon, L::InactiveFile, L::ActiveFile, L::Unevictable];
        let mut counts = [0; 5];
        for number in zone.first_frame..zone.first_frame + zone.frame_count {
            let state = self.frames.state(Frame::new(number));
            let list = lists.iter().position(|&list| self.reclaim.lru.is_on(number as u32, list));
            let is_unlisted = matches!(state, FrameState::Anon | FrameState::Shmem);
            if let Some(at) = list.or(is_unlisted.then_some(0)) {
                counts[at] += 1;
            }
        }
        counts
    }

    /// How many frames shall be free, in all zones together.
    pub fn watermarks(&self) -> Watermarks {
        self.reclaim.marks
    }

    /// Pages that could leave: inactive and active private ones and those of shared memory,
    /// inactive and active ones of files. Without swap nothing is known of the use of the former.
    pub fn lru_counts(&self) -> [u64; 4] {
        use ListId as L;
        let lists = [L::InactiveAnon, L::ActiveAnon, L::InactiveFile, L::ActiveFile];
        let mut counts = lists.map(|list| self.reclaim.lru.count(list));
        if !self.reclaim.lists_anon {
            counts[0] = self.count_of(FrameState::Anon) + self.count_of(FrameState::Shmem);
        }
        counts
    }

    /// Pages that reclaim found locked and put aside (`nr_unevictable`).
    pub fn unevictable_pages(&self) -> u64 {
        self.reclaim.lru.count(ListId::Unevictable)
    }

    /// Whether a page can go to swap.
    fn can_swap(&self) -> bool {
        self.reclaim.lists_anon && self.swap.has_room()
    }

    /// Whether free frames are so few that nothing should be brought that nobody asked for yet.
    pub(crate) fn is_short(&self) -> bool {
        self.count_of(FrameState::Free) <= self.due_at
    }

    /// Whether frames are to be taken back before the next allocation, and how many.
    fn shortage(&self) -> Option<(Cause, u64)> {
        if self.reclaim.is_running {
            return None;
        }
        let (free, marks) = (self.count_of(FrameState::Free), self.reclaim.marks);
        let wanted = marks.high.saturating_sub(free).max(BATCH_PAGES);
        if free <= marks.min {
            // What a reclaim that took all it could get has left is used up first: else each page
            // that a program needs would cost it the one before.
            let is_due = free == 0 || !self.reclaim.is_exhausted;
            return is_due.then_some((Cause::Short, wanted));
        }
        if self.is_at_limit() {
            return Some((Cause::Limit, BATCH_PAGES));
        }
        let is_low = free <= marks.low && self.reclaim.failures < FAILURES_MAX;
        is_low.then_some((Cause::Background, wanted))
    }

    /// Makes frames free if they are short; called before an allocation that finds no more free
    /// than `due_at`. False if the allocation must fail: so few pages can be taken back that a
    /// program would need them again at once, and never get on.
    ///
    /// # Source
    /// Linux 6.12 `mm/page_alloc.c:should_reclaim_retry`, for the same reason; PHYS-6.
    #[cold]
    pub(crate) fn balance_if_due(&mut self, hw: &mut Machine) -> bool {
        self.sort_if_due(hw);
        let mut is_worth_it = true;
        if let Some((cause, wanted)) = self.shortage() {
            if cause == Cause::Limit {
                self.note_limit();
            }
            let is_last = cause == Cause::Short && self.count_of(FrameState::Free) == 0;
            let taken = self.balance(hw, cause, wanted);
            is_worth_it = !is_last || taken > PROGRESS_PAGES;
        }
        self.throttle(hw);
        is_worth_it
    }

    /// Takes frames of lowmem back for an allocation that finds none there, though there may be
    /// free ones in `HighMem`. False if there are none to be had, or the machine has no `HighMem`:
    /// then all frames were balanced before.
    ///
    /// # Source
    /// Linux 6.12 `mm/vmscan.c:isolate_lru_folios` (`reclaim_idx`: others are skipped).
    #[cold]
    pub(crate) fn take_back_low(&mut self, hw: &mut Machine) -> bool {
        let low = self.zones.lowmem_frames();
        if low == self.frames.len() as u64 || self.reclaim.is_running {
            return false;
        }
        // What lowmem has says nothing of the machine as a whole.
        let (is_exhausted, failures) = (self.reclaim.is_exhausted, self.reclaim.failures);
        self.reclaim.below = low;
        let taken = self.balance(hw, Cause::Short, BATCH_PAGES);
        self.reclaim.below = u64::MAX;
        (self.reclaim.is_exhausted, self.reclaim.failures) = (is_exhausted, failures);
        taken > 0
    }

    /// Notes a page that a major fault brought: reclaim leaves the latest eight of them where they
    /// are, so that the program has all at once that an instruction needs, and gets on. Linux has
    /// no such rule: there, time breaks the tie.
    pub(crate) fn note_brought(&mut self, frame: Frame) {
        let (frames, next) = &mut self.reclaim.latest;
        frames[*next] = Some(frame);
        *next = (*next + 1) % frames.len();
    }

    /// Whether there are frames for pages that nobody needs yet.
    pub(crate) fn may_read_ahead(&self) -> bool {
        self.count_of(FrameState::Free) > self.reclaim.marks.min
    }

    /// Sees who was used lately, every 64 allocations, if the policy wants to know.
    fn sort_if_due(&mut self, hw: &mut Machine) {
        let reclaim = &mut self.reclaim;
        if reclaim.is_running || !reclaim.policy.wants_order_of_use() {
            return;
        }
        reclaim.unsorted += 1;
        if reclaim.unsorted >= SORT_ALLOCATIONS {
            reclaim.unsorted = 0;
            self.sort_by_use(hw);
        }
    }

    /// Takes frames until there are as many as wanted or nothing more can be had. In the background
    /// no page is looked at twice: programs shall have the time to use it in between.
    /// Returns how many were taken.
    fn balance(&mut self, hw: &mut Machine, cause: Cause, wanted: u64) -> u64 {
        let before = self.events;
        let pages = self.reclaim.lru.count(ListId::InactiveAnon)
            + self.reclaim.lru.count(ListId::InactiveFile);
        let returned = [before.workingset_activated_anon, before.workingset_activated_file];
        let reclaim = &mut self.reclaim;
        reclaim.is_running = true;
        reclaim.budget = if cause == Cause::Background { pages } else { u64::MAX };
        reclaim.has_returned = [0, 1].map(|kind| reclaim.returned[kind] != returned[kind]);
        reclaim.returned = returned;
        if reclaim.policy.wants_order_of_use() {
            self.sort_by_use(hw);
        }
        let mut taken = 0;
        for priority in (0..=PRIORITY_MAX).rev() {
            taken += self.shrink(hw, priority, wanted - taken);
            if taken >= wanted {
                break;
            }
        }
        self.finish_writes(hw, cause);
        let events = &mut self.events;
        if cause == Cause::Background {
            events.kswapd_runs += 1;
            events.scanned_kswapd += events.scanned - before.scanned;
            events.stolen_kswapd += events.stolen - before.stolen;
        } else {
            events.direct_stalls += 1;
        }
        self.reclaim.is_running = false;
        let failures = self.reclaim.failures.saturating_add(1);
        self.reclaim.failures = if taken == 0 { failures } else { 0 };
        if cause == Cause::Short {
            self.reclaim.is_exhausted = self.count_of(FrameState::Free) <= self.reclaim.marks.min;
        }
        taken
    }

    /// Hands what reclaim wrote to the device, in one request: the slots lie together. Who needs
    /// the frames at once waits for it.
    fn finish_writes(&mut self, hw: &mut Machine, cause: Cause) {
        let start = hw.now_ns();
        self.swap.finish_writes(hw, cause != Cause::Background);
        self.events.wait_ns += hw.now_ns() - start;
    }

    /// Whether a frame is on a list of active ones, or of those that may not be taken.
    pub(crate) fn is_active(&self, frame: Frame) -> bool {
        let lists = [ListId::ActiveAnon, ListId::ActiveFile, ListId::Unevictable];
        lists.iter().any(|list| self.reclaim.lru.is_on(frame.number() as u32, *list))
    }

    /// Moves a page that is on a list to the front of another.
    fn move_to(&mut self, frame: Frame, list: ListId) {
        self.reclaim.lru.move_to(frame.number() as u32, list);
    }

    /// Lets a page leave again that was put aside because a locked VMA mapped it.
    pub(crate) fn rescue(&mut self, frame: Frame) {
        let number = frame.number() as u32;
        if self.reclaim.lru.is_on(number, ListId::Unevictable) {
            self.events.rescued += 1;
            let list = self.reclaim.first_list(self.frames.state(frame));
            self.reclaim.lru.move_to(number, list.unwrap_or(ListId::InactiveAnon));
        }
    }

    /// Notes that a page of a file was used by a call, not by an entry: the second time it becomes
    /// active.
    ///
    /// # Source
    /// Linux 6.12 `mm/swap.c:folio_mark_accessed`.
    pub(crate) fn mark_accessed(&mut self, frame: Frame) {
        let was_referenced = self.frames.note_referenced(frame, true);
        let number = frame.number() as u32;
        if was_referenced && self.reclaim.lru.is_on(number, ListId::InactiveFile) {
            self.frames.note_referenced(frame, false);
            self.events.activated += 1;
            self.reclaim.age += 1;
            self.move_to(frame, ListId::ActiveFile);
        }
    }
}

#[cfg(test)]
mod tests;
