//! Taking frames back from programs and files when free ones run short.
//!
//! Off until [`Memory::enable_reclaim`] or [`Memory::swap_on`]. Then each allocation that finds the
//! free frames at the low mark balances them up to the high mark: pages at the back of the inactive
//! lists leave, unless they were used since they were last looked at. Private pages go to swap,
//! pages of files to their pagers if they are dirty; shared memory and locked pages stay.
//!
//! There is no thread: what kswapd does in Linux happens in the allocation that wakes it.
//!
//! Invariants
//! 1. Every frame of a private page or of a file is on one list; other frames are on none. Frames
//!    of the kernel's own pages (vdso) are taken off.
//! 2. A frame that somebody else holds than its cache is not taken.
//!
//! # Source
//! Linux 6.12 `mm/vmscan.c`, `mm/page_alloc.c`; semantics PHYS-3, PHYS-4, LRU-1 to LRU-5.

use alloc::boxed::Box;
use alloc::vec::Vec;

use machine::{Frame, Machine, PAGE_BYTES, PAGE_SHIFT, PhysAddr, Pte};

use crate::folio::{FrameState, Owner};
use crate::memory::Memory;
use crate::page_table::LOCKED;
use crate::swap::{Latency, Ownership, Swap, SwapSlot, SwapStore, encode};
use lru::{ListId, Lru};

pub(crate) mod lru;

/// Pages that are taken in one go (`SWAP_CLUSTER_MAX`).
const BATCH_PAGES: u64 = 32;
/// `DEF_PRIORITY`: at first one page in 4,096 is looked at.
const PRIORITY_MAX: u32 = 12;
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
    /// The marks of a machine with one zone of `frame_count` frames (PHYS-3, PHYS-4).
    pub fn of(frame_count: u64) -> Self {
        let kib = frame_count.saturating_mul(PAGE_BYTES >> 10);
        let min_free_kib = kib.saturating_mul(16).isqrt().clamp(128, 262_144);
        let min = min_free_kib / (PAGE_BYTES >> 10);
        let step = (min / 4).max(frame_count / 1000);
        Self { min, low: min + step, high: min + 2 * step }
    }
}

/// What is known about taking frames back.
#[derive(Debug)]
pub(crate) struct Reclaim {
    pub(crate) lru: Lru,
    pub(crate) marks: Watermarks,
    /// `vm.swappiness`.
    swappiness: u64,
    failures: u32,
    is_running: bool,
    /// Pages that may still be looked at before the running allocation goes on.
    budget: u64,
}

impl Reclaim {
    /// Whether an allocation that finds `free` frames must balance first.
    fn is_due(&self, free: u64) -> bool {
        let is_low = free <= self.marks.low && self.failures < FAILURES_MAX;
        !self.is_running && (is_low || free <= self.marks.min)
    }
}

/// What is to become of a page at the back of an inactive list (LRU-4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    /// One more round.
    Keep,
    /// To the active list.
    Activate,
    /// Out.
    Evict,
}

impl Memory {
    /// Starts to take frames back when they run short. To be called before the first address space
    /// is made.
    pub fn enable_reclaim(&mut self) {
        if self.reclaim.is_none() {
            let lru = Lru::new(self.frames.len());
            let marks = Watermarks::of(self.frames.len() as u64);
            self.reclaim = Some(Box::new(Reclaim {
                lru,
                marks,
                swappiness: 60,
                failures: 0,
                is_running: false,
                budget: 0,
            }));
        }
    }

    /// Gives private pages a place to go: `slot_count` slots of `store`, the first of which is not
    /// used, with the costs of `latency` in virtual time. Reclaim is enabled. To be called before
    /// the first address space is made.
    pub fn swap_on(&mut self, slot_count: u32, store: Box<dyn SwapStore>, latency: Latency) {
        self.enable_reclaim();
        self.swap = Some(Swap::new(slot_count, store, latency));
    }

    /// Sets `vm.swappiness`, 0 to 200.
    pub fn set_swappiness(&mut self, swappiness: u64) {
        if let Some(reclaim) = &mut self.reclaim {
            reclaim.swappiness = swappiness.min(200);
        }
    }

    /// How many frames shall be free; all 0 if nothing is ever taken back.
    pub fn watermarks(&self) -> Watermarks {
        self.reclaim.as_ref().map_or_else(Watermarks::default, |reclaim| reclaim.marks)
    }

    /// Pages on the lists: inactive and active private ones, inactive and active ones of files.
    pub fn lru_counts(&self) -> [u64; 4] {
        use ListId as L;
        let lists = [L::InactiveAnon, L::ActiveAnon, L::InactiveFile, L::ActiveFile];
        self.reclaim.as_ref().map_or([0; 4], |reclaim| lists.map(|list| reclaim.lru.count(list)))
    }

    /// Makes frames free if they are short; called before each allocation.
    #[inline]
    pub(crate) fn balance_if_due(&mut self, hw: &mut Machine) {
        let free = self.count_of(FrameState::Free);
        if self.reclaim.as_ref().is_some_and(|reclaim| reclaim.is_due(free)) {
            self.balance(hw);
        }
    }

    /// Takes frames until the high mark is reached or nothing more can be had. Above the min mark
    /// no page is looked at twice: programs shall have the time to use it in between.
    fn balance(&mut self, hw: &mut Machine) {
        let free = self.count_of(FrameState::Free);
        let pages = self.list_count(ListId::InactiveAnon) + self.list_count(ListId::InactiveFile);
        let Some(reclaim) = &mut self.reclaim else { return };
        reclaim.is_running = true;
        reclaim.budget = if free > reclaim.marks.min { pages } else { u64::MAX };
        let wanted = reclaim.marks.high.saturating_sub(free).max(BATCH_PAGES);
        let swap_outs = self.events.swap_outs;
        let mut taken = 0;
        for priority in (0..=PRIORITY_MAX).rev() {
            taken += self.shrink(hw, priority, wanted - taken);
            if taken >= wanted {
                break;
            }
        }
        let written = self.events.swap_outs - swap_outs;
        if let Some(swap) = self.swap.as_ref().filter(|_| written > 0) {
            // The slots lie together: one request.
            hw.advance_ns(swap.latency.write_time_ns(written));
        }
        let Some(reclaim) = &mut self.reclaim else { return };
        reclaim.is_running = false;
        reclaim.failures = if taken == 0 { reclaim.failures.saturating_add(1) } else { 0 };
    }

    /// One round over all lists. Returns how many frames were freed.
    fn shrink(&mut self, hw: &mut Machine, priority: u32, wanted: u64) -> u64 {
        let has_swap = self.swap.as_ref().is_some_and(Swap::has_room);
        let swappiness = self.reclaim.as_ref().map_or(0, |reclaim| reclaim.swappiness);
        let kinds = [
            (ListId::InactiveFile, ListId::ActiveFile, 200 - swappiness),
            (ListId::InactiveAnon, ListId::ActiveAnon, swappiness),
        ];
        let mut taken = 0;
        for (inactive, active, weight) in kinds {
            if inactive == ListId::InactiveAnon && !has_swap {
                continue;
            }
            self.refill(hw, (inactive, active), priority);
            let size = self.list_count(inactive) >> priority;
            let scan = if priority == 0 { size } else { (size * weight).div_ceil(200) };
            taken += self.shrink_list(hw, (inactive, active), scan, wanted.saturating_sub(taken));
        }
        taken
    }

    fn list_count(&self, list: ListId) -> u64 {
        self.reclaim.as_ref().map_or(0, |reclaim| reclaim.lru.count(list))
    }

    fn back(&self, list: ListId) -> Option<Frame> {
        let number = self.reclaim.as_ref()?.lru.back(list)?;
        Some(Frame::new(number.into()))
    }

    /// The frame at the back of a list, if there is something left of the budget.
    fn next_of(&mut self, list: ListId) -> Option<Frame> {
        let reclaim = self.reclaim.as_mut()?;
        reclaim.budget = reclaim.budget.checked_sub(1)?;
        self.back(list)
    }

    fn move_to(&mut self, frame: Frame, list: ListId) {
        if let Some(reclaim) = &mut self.reclaim {
            reclaim.lru.move_to(frame.number() as u32, list);
        }
    }

    /// Moves pages from the back of the active list to the inactive one, if that has become short
    /// (LRU-2, LRU-3).
    fn refill(&mut self, hw: &mut Machine, (inactive, active): (ListId, ListId), priority: u32) {
        let (inactive_count, active_count) = (self.list_count(inactive), self.list_count(active));
        let gib = (inactive_count + active_count) >> (30 - PAGE_SHIFT);
        let ratio = if gib == 0 { 1 } else { (10 * gib).isqrt() };
        if inactive_count * ratio >= active_count {
            return;
        }
        for _ in 0..(active_count >> priority).max(BATCH_PAGES).min(active_count) {
            let Some(frame) = self.back(active) else { return };
            let _references = self.take_references(hw, frame);
            self.events.deactivated += 1;
            self.move_to(frame, inactive);
        }
    }

    /// Looks at `scan` pages at the back of an inactive list. Returns how many frames were freed.
    fn shrink_list(
        &mut self,
        hw: &mut Machine,
        (inactive, active): (ListId, ListId),
        scan: u64,
        wanted: u64,
    ) -> u64 {
        let mut taken = 0;
        for _ in 0..scan {
            let Some(frame) = self.next_of(inactive).filter(|_| taken < wanted) else { break };
            self.events.scanned += 1;
            match self.judge(hw, frame) {
                Verdict::Evict if self.evict(hw, frame) => {
                    self.events.stolen += 1;
                    taken += 1;
                }
                Verdict::Activate => {
                    self.events.activated += 1;
                    self.move_to(frame, active);
                }
                Verdict::Evict | Verdict::Keep => self.move_to(frame, inactive),
            }
        }
        taken
    }

    /// LRU-4.
    fn judge(&mut self, hw: &mut Machine, frame: Frame) -> Verdict {
        let geometry = hw.geometry();
        let is_swap_cached = self.swap.as_ref().is_some_and(|swap| swap.slot_of(frame).is_some());
        let own_holds = match self.frames.state(frame) {
            FrameState::Anon => u32::from(is_swap_cached),
            _ => 1,
        };
        if self.frames.hold_count(frame) != own_holds {
            return Verdict::Keep;
        }
        let is_locked =
            self.entries.of(frame).any(|at| geometry.load(&hw.ram, at).contains(LOCKED));
        if is_locked {
            return Verdict::Keep;
        }
        let references = self.take_references(hw, frame);
        if references == 0 {
            return Verdict::Evict;
        }
        if self.frames.set_referenced(frame) || references > 1 {
            return Verdict::Activate;
        }
        Verdict::Keep
    }

    /// Takes a page out of RAM. False if that is not possible: then it is as it was, except that a
    /// page of a file may be mapped no more.
    fn evict(&mut self, hw: &mut Machine, frame: Frame) -> bool {
        match self.frames.owner(frame) {
            Some(Owner::Anon { .. }) => self.swap_out(hw, frame),
            Some(Owner::Cached { object, index }) => {
                let entries: Vec<PhysAddr> = self.entries.of(frame).collect();
                for at in entries {
                    self.unmap_entry(hw, at, Pte::EMPTY);
                }
                self.drop_page(hw, object, index)
            }
            _ => false,
        }
    }

    /// Writes a private page to swap, and lets its entries say so.
    fn swap_out(&mut self, hw: &mut Machine, frame: Frame) -> bool {
        let entries: Vec<PhysAddr> = self.entries.of(frame).collect();
        let Some(slot) = self.slot_for(hw, frame) else { return false };
        let is_exclusive = self.frames.is_exclusive(frame);
        let ownership = if is_exclusive { Ownership::Exclusive } else { Ownership::Shared };
        let entry = encode(hw.geometry(), slot, ownership);
        for at in entries {
            if let Some(swap) = &mut self.swap {
                swap.area.retain(slot);
            }
            self.unmap_entry(hw, at, entry);
        }
        // The count that kept the slot until now, or the place in the swap cache.
        let was_cached = self.swap.as_mut().and_then(|swap| swap.uncache(slot)).is_some();
        if was_cached {
            self.frames.unhold(frame);
        } else if let Some(swap) = &mut self.swap {
            swap.area.release(slot);
        }
        self.free(hw, frame);
        true
    }

    /// The slot that has the bytes of the page: the one it came from, or one that is written now.
    fn slot_for(&mut self, hw: &mut Machine, frame: Frame) -> Option<SwapSlot> {
        let swap = self.swap.as_mut()?;
        if let Some(slot) = swap.slot_of(frame) {
            return Some(slot);
        }
        let slot = swap.area.alloc()?;
        let page = hw.ram.slice(frame.start(), PAGE_BYTES);
        if swap.store.write(slot, page).is_err() {
            swap.area.release(slot);
            return None;
        }
        self.events.swap_outs += 1;
        Some(slot)
    }
}

#[cfg(test)]
mod tests;
