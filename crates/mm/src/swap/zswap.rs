//! Compressed pages in RAM in front of the devices of swap.
//!
//! A page that leaves is kept compressed, until the pool has its share of RAM; from then on pages
//! go to their device, and the oldest of the pool too, until it is down to 90 % of its share. A
//! page that does not become smaller goes to the device at once.
//!
//! Differs from Linux: a page that comes back while other entries name its slot stays in the pool;
//! there, the swap cache alone has it then.
//!
//! Invariants
//! 1. Every page of the pool is that of a used slot, whose device does not have it.
//!
//! # Source
//! Linux 6.12 `mm/zswap.c`: `zswap_store`, `zswap_check_limits`, `shrink_worker`.

use alloc::collections::BTreeMap;

use super::area::SwapPlace;
use super::packed::{Kept, Packed};

/// `accept_threshold_percent`.
const ACCEPT_PERCENT: u64 = 90;

/// What is known of the pool.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ZswapUsage {
    /// The most that the pool takes, in percent of RAM (`max_pool_percent`); 0 if there is none.
    pub percent: u64,
    /// Pages in it (`Zswapped`).
    pub pages: u64,
    /// Frames that it takes (`Zswap`).
    pub frames: u64,
    /// Pages that came to it (`zswpout`).
    pub stored: u64,
    /// Pages that were read from it (`zswpin`).
    pub loaded: u64,
    /// Pages that went on to their device (`zswpwb`).
    pub written_back: u64,
}

/// The pool.
#[derive(Default, Debug)]
pub(super) struct Zswap {
    percent: u64,
    frames_max: u64,
    pages: Packed<SwapPlace>,
    /// Pages by age, and back.
    by_age: BTreeMap<u64, SwapPlace>,
    ages: BTreeMap<SwapPlace, u64>,
    /// It had its share, and has not come down to 90 % of it since.
    is_full: bool,
    stored: u64,
    pub(super) loaded: u64,
    pub(super) written_back: u64,
}

impl Zswap {
    /// A pool that takes up to `percent` of `frame_count` frames; of 0 %, one that takes no page.
    pub(super) fn new(percent: u64, frame_count: u64) -> Self {
        let frames_max = frame_count.saturating_mul(percent) / 100;
        Self { percent, frames_max, ..Self::default() }
    }

    /// The state of the pool.
    pub(super) fn usage(&self) -> ZswapUsage {
        ZswapUsage {
            percent: self.percent,
            pages: self.pages.len(),
            frames: self.pages.frames(),
            stored: self.stored,
            loaded: self.loaded,
            written_back: self.written_back,
        }
    }

    /// Keeps a page. False if it does not: it is full, or the page does not become smaller.
    pub(super) fn keep(&mut self, place: SwapPlace, page: &[u8]) -> bool {
        if self.frames_max == 0 || self.check_full() {
            return false;
        }
        let Some(kept) = Kept::smaller(page) else { return false };
        self.pages.insert(place, kept);
        if let Some(age) = self.ages.insert(place, self.stored) {
            self.by_age.remove(&age);
        }
        self.by_age.insert(self.stored, place);
        self.stored += 1;
        true
    }

    /// Whether pages go to their devices for now.
    fn check_full(&mut self) -> bool {
        let frames = self.pages.frames();
        if frames >= self.frames_max {
            self.is_full = true;
        } else if frames <= self.accepted_frames() {
            self.is_full = false;
        }
        self.is_full
    }

    fn accepted_frames(&self) -> u64 {
        self.frames_max * ACCEPT_PERCENT / 100
    }

    /// The page that came first, if the pool is to shrink.
    pub(super) fn surplus(&self) -> Option<SwapPlace> {
        let is_due = self.is_full && self.pages.frames() > self.accepted_frames();
        self.by_age.first_key_value().filter(|_| is_due).map(|(_, &place)| place)
    }

    /// Reads the page of a slot. `None` if it is not here, else whether it is undamaged.
    pub(super) fn read(&self, place: SwapPlace, page: &mut [u8]) -> Option<bool> {
        Some(self.pages.get(place)?.unpack(page))
    }

    /// Forgets the page of a slot. False if it is not here.
    pub(super) fn remove(&mut self, place: SwapPlace) -> bool {
        if let Some(age) = self.ages.remove(&place) {
            self.by_age.remove(&age);
        }
        self.pages.remove(place)
    }

    /// Every page of the pool.
    pub(super) fn places(&self) -> impl Iterator<Item = SwapPlace> + '_ {
        self.ages.keys().copied()
    }
}
