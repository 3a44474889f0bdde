//! The swap area in use: slots, bytes, and pages that are in RAM and in a slot at once.
//!
//! ```text
//!  entry ──names──► slot ──cached──► frame
//! ```
//! The swap cache holds a page that came back while other entries still name its slot, or that was
//! read ahead. The last entry that lets go of the slot also ends its place in the cache.
//!
//! Invariants
//! 1. The count of a slot is the number of leaf entries that name it.
//! 2. A cached frame is private, held once for the cache, and no entry allows storing to it.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use core::fmt;

use machine::Frame;

use super::area::{SwapArea, SwapSlot};
use super::latency::Latency;
use super::store::SwapStore;

/// One swap area.
pub(crate) struct Swap {
    pub(crate) area: SwapArea,
    pub(crate) store: Box<dyn SwapStore>,
    pub(crate) latency: Latency,
    /// log2 of the most pages that are read at once (`vm.page-cluster`).
    pub(crate) page_cluster: u32,
    cached: BTreeMap<SwapSlot, Frame>,
    slots: BTreeMap<Frame, SwapSlot>,
}

impl fmt::Debug for Swap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swap").field("area", &self.area.used_count()).finish()
    }
}

impl Swap {
    /// An area of `slot_count` slots, the header's included.
    pub(crate) fn new(slot_count: u32, store: Box<dyn SwapStore>, latency: Latency) -> Self {
        Self {
            area: SwapArea::new(slot_count),
            store,
            latency,
            page_cluster: 3,
            cached: BTreeMap::new(),
            slots: BTreeMap::new(),
        }
    }

    /// The frame that holds the page of a slot, if it is in RAM.
    pub(crate) fn cached(&self, slot: SwapSlot) -> Option<Frame> {
        self.cached.get(&slot).copied()
    }

    /// The slot of a page in the swap cache.
    pub(crate) fn slot_of(&self, frame: Frame) -> Option<SwapSlot> {
        self.slots.get(&frame).copied()
    }

    /// Notes that `frame` holds the page of `slot`.
    pub(crate) fn cache(&mut self, slot: SwapSlot, frame: Frame) {
        self.cached.insert(slot, frame);
        self.slots.insert(frame, slot);
    }

    /// Forgets what frame holds the page of `slot`, and returns it.
    pub(crate) fn uncache(&mut self, slot: SwapSlot) -> Option<Frame> {
        let frame = self.cached.remove(&slot)?;
        self.slots.remove(&frame);
        Some(frame)
    }

    /// Every page of the swap cache.
    pub(crate) fn iter_cached(&self) -> impl Iterator<Item = (SwapSlot, Frame)> + '_ {
        self.cached.iter().map(|(&slot, &frame)| (slot, frame))
    }

    /// Whether another page can leave.
    pub(crate) fn has_room(&self) -> bool {
        self.area.used_count() < self.area.usable_count()
    }
}
