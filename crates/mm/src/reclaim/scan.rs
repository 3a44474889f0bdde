//! Looking at pages: how many of which kind, in which order, and what becomes of each.
//!
//! # Source
//! Linux 6.12 `mm/vmscan.c:get_scan_count`, `shrink_lruvec`, `shrink_folio_list`; semantics LRU-2
//! to LRU-5.

use alloc::vec::Vec;

use machine::{Frame, Machine};

use super::lru::ListId;
use super::{BATCH_PAGES, Reclaim};
use crate::folio::FrameState;
use crate::memory::Memory;
use crate::page_table::LOCKED;
use crate::replacement::{ListSizes, PageKind, PageSeen, Queue, Verdict};

/// What became of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Verdict(Verdict),
    /// A locked VMA maps it.
    Locked,
    /// It was freed lazily and stored to again.
    Stored,
}

impl Reclaim {
    /// Notes that reclaiming pages of a kind costs: they came back or had to be kept. Old costs
    /// count half once they are more than a quarter of the pages.
    ///
    /// # Source
    /// Linux 6.12 `mm/swap.c:lru_note_cost`.
    pub(super) fn note_cost(&mut self, kind: PageKind, pages: u64) {
        let lru = &self.lru;
        let lists = [ListId::InactiveAnon, ListId::ActiveAnon, ListId::InactiveFile];
        let all =
            lists.iter().fold(lru.count(ListId::ActiveFile), |sum, &list| sum + lru.count(list));
        self.costs[kind as usize] += pages;
        if self.costs[0] + self.costs[1] > all / 4 {
            self.costs = self.costs.map(|cost| cost / 2);
        }
    }

    /// Parts of the pages to look at that are of each kind, private ones first: by swappiness, and
    /// the less the more their reclaim has cost lately.
    fn weights(&self) -> [u64; 2] {
        let [anon, file] = self.costs;
        let total = anon + file;
        let (anon, file) = (total + anon, total + file);
        let scale = anon + file + 1;
        let of = |preference: u64, cost: u64| preference.saturating_mul(scale) / (cost + 1);
        [of(self.swappiness, anon), of(200 - self.swappiness, file)]
    }
}

impl Memory {
    /// The inactive and the active list of a kind.
    pub(super) const fn lists_of(&self, kind: PageKind) -> (ListId, ListId) {
        match kind {
            PageKind::Anon => (ListId::InactiveAnon, ListId::ActiveAnon),
            PageKind::File => (ListId::InactiveFile, ListId::ActiveFile),
        }
    }

    fn sizes(&self, kind: PageKind) -> ListSizes {
        let (inactive, active) = self.lists_of(kind);
        let lru = &self.reclaim.lru;
        ListSizes { inactive: lru.count(inactive), active: lru.count(active) }
    }

    /// How many pages of each kind to look at in this round, private ones first (LRU-3).
    fn scan_counts(&self, priority: u32) -> [u64; 2] {
        let (anon, file) = (self.sizes(PageKind::Anon), self.sizes(PageKind::File));
        let [anon_scan, file_scan] = [anon.inactive >> priority, file.inactive >> priority];
        if !self.can_swap() {
            return [0, file_scan];
        }
        if priority == 0 {
            return [anon_scan, file_scan];
        }
        let marks = self.reclaim.marks;
        let free = self.count_of(FrameState::Free);
        let is_file_tiny = file.inactive + file.active + free <= marks.high;
        if is_file_tiny && anon_scan > 0 {
            return [anon_scan, 0];
        }
        if file_scan > 0 && self.deactivations(PageKind::File, 1) == 0 {
            return [0, file_scan];
        }
        let [anon_weight, file_weight] = self.reclaim.weights();
        let all = anon_weight + file_weight;
        let part = |scan: u64, weight: u64| scan.saturating_mul(weight).div_ceil(all.max(1));
        [part(anon_scan, anon_weight), part(file_scan, file_weight)]
    }

    /// One round over all lists. Returns how many frames were freed.
    pub(super) fn shrink(&mut self, hw: &mut Machine, priority: u32, wanted: u64) -> u64 {
        let kinds = [PageKind::Anon, PageKind::File];
        let mut left = self.scan_counts(priority);
        for kind in kinds {
            if kind == PageKind::File || self.can_swap() {
                self.refill(hw, kind, priority);
            }
        }
        let mut taken = 0;
        while left != [0, 0] && taken < wanted {
            for kind in kinds {
                let scan = left[kind as usize].min(BATCH_PAGES);
                left[kind as usize] -= scan;
                taken += self.shrink_list(hw, kind, scan, wanted.saturating_sub(taken));
            }
        }
        taken
    }

    /// How many of `scan` active pages shall become inactive: what the policy says, or all of them
    /// if pages of the kind came back too soon since the last reclaim.
    fn deactivations(&self, kind: PageKind, scan: u64) -> u64 {
        let has_returned = self.reclaim.has_returned[kind as usize];
        if has_returned { scan } else { self.reclaim.policy.deactivate(self.sizes(kind), scan) }
    }

    /// Moves pages from the back of the active list to the inactive one, if the policy finds it
    /// short. Code that is in use stays active.
    fn refill(&mut self, hw: &mut Machine, kind: PageKind, priority: u32) {
        let (sizes, (inactive, active)) = (self.sizes(kind), self.lists_of(kind));
        let scan = (sizes.active >> priority).max(BATCH_PAGES).min(sizes.active);
        for _ in 0..self.deactivations(kind, scan).min(sizes.active) {
            let Some(number) = self.reclaim.lru.back(active) else { return };
            let frame = Frame::new(number.into());
            let (references, is_executable) = self.take_references(hw, frame);
            self.events.refilled += 1;
            if references > 0 && is_executable && kind == PageKind::File {
                self.move_to(frame, active);
                continue;
            }
            self.events.deactivated += 1;
            self.frames.set_workingset(frame);
            self.move_to(frame, inactive);
        }
    }

    /// Looks at `scan` pages of a kind. Returns how many frames were freed.
    fn shrink_list(&mut self, hw: &mut Machine, kind: PageKind, scan: u64, wanted: u64) -> u64 {
        let (inactive, active) = self.lists_of(kind);
        let mut taken = 0;
        for _ in 0..scan {
            let Some(frame) = self.candidate(inactive).filter(|_| taken < wanted) else { break };
            self.events.scanned += 1;
            self.events.scanned_anon += u64::from(kind == PageKind::Anon);
            match self.judge(hw, frame, kind) {
                Fate::Verdict(Verdict::Evict) if self.evict(hw, frame) => {
                    self.events.stolen += 1;
                    self.events.stolen_anon += u64::from(kind == PageKind::Anon);
                    taken += 1;
                }
                Fate::Verdict(Verdict::Activate) => {
                    self.events.activated += 1;
                    self.reclaim.age += 1;
                    self.reclaim.note_cost(kind, 1);
                    self.move_to(frame, active);
                }
                Fate::Verdict(Verdict::Evict | Verdict::Keep) => self.move_to(frame, inactive),
                Fate::Stored => self.keep_lazy(frame),
                Fate::Locked => {
                    self.events.culled += 1;
                    self.move_to(frame, ListId::Unevictable);
                }
            }
        }
        taken
    }

    /// The page that the policy wants to look at, if there is something left of the budget.
    fn candidate(&mut self, list: ListId) -> Option<Frame> {
        let Reclaim { lru, policy, budget, .. } = &mut self.reclaim;
        *budget = budget.checked_sub(1)?;
        policy.candidate(Queue::new(lru, list)).filter(|frame| {
            let is_there = lru.is_on(frame.number() as u32, list);
            debug_assert!(is_there, "{} chose a page that is not queued", policy.name());
            is_there
        })
    }

    /// LRU-4.
    fn judge(&mut self, hw: &mut Machine, frame: Frame, kind: PageKind) -> Fate {
        let geometry = hw.geometry();
        let is_swap_cached = self.swap.slot_of(frame).is_some();
        let own_holds = match self.frames.state(frame) {
            FrameState::Anon => u32::from(is_swap_cached),
            _ => 1,
        };
        let is_needed = self.reclaim.latest.0.contains(&Some(frame));
        let is_of_no_use = frame.number() >= self.reclaim.below;
        if is_of_no_use || is_needed || self.frames.hold_count(frame) != own_holds {
            return Fate::Verdict(Verdict::Keep);
        }
        let is_locked =
            self.entries.of(frame).any(|at| geometry.load(&hw.ram, at).contains(LOCKED));
        if is_locked {
            return Fate::Locked;
        }
        let is_lazy = self.frames.is_lazy(frame);
        if is_lazy && self.is_stored_to(hw, frame) {
            return Fate::Stored;
        }
        let (references, is_executable) = self.take_references(hw, frame);
        if is_lazy {
            let verdict = if references > 0 { Verdict::Keep } else { Verdict::Evict };
            return Fate::Verdict(verdict);
        }
        let was_referenced = self.frames.note_referenced(frame, references > 0);
        let seen = PageSeen { kind, references, was_referenced, is_executable };
        Fate::Verdict(self.reclaim.policy.judge(seen))
    }

    /// Brings the inactive lists into the order of last use: pages used since the last time go to
    /// the front, and the TLBs forget them so that their next use is seen.
    pub(super) fn sort_by_use(&mut self, hw: &mut Machine) {
        for kind in [PageKind::Anon, PageKind::File] {
            let (list, _) = self.lists_of(kind);
            let mut used = Vec::new();
            let mut next = self.reclaim.lru.back(list);
            while let Some(number) = next {
                next = self.reclaim.lru.newer(number);
                let frame = Frame::new(number.into());
                if self.take_references(hw, frame).0 > 0 {
                    used.push(frame);
                }
            }
            for frame in used {
                self.move_to(frame, list);
            }
        }
        hw.flush_all();
        for space in &self.spaces {
            space.is_stale.store(true, core::sync::atomic::Ordering::Relaxed);
        }
    }
}
