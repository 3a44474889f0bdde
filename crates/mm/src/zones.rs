//! Zones: parts of RAM that some devices or the kernel reach and others do not, each with its own
//! buddy allocator, marks and reserve.
//!
//! ```text
//!  x86-64:  | DMA | DMA32                 | Normal ...
//!           0     16 MiB                  4 GiB
//!  i386:    | DMA | Normal        | HighMem ...
//!           0     16 MiB          what the kernel's map has room for (`KernelSpace`)
//! ```
//! Frames are taken from the highest zone that has one, so that what only the lower zones can do
//! stays possible for long. Every border but that of `HighMem` is a multiple of the largest block.
//!
//! Differs from Linux: the reserve of a lower zone is used up before a program is ended, because
//! nothing else here needs it.
//!
//! Invariants
//! 1. Every frame of RAM is in exactly one zone; zones ascend.
//!
//! # Source
//! Linux 6.12 `mm/page_alloc.c:setup_per_zone_wmarks`, `setup_per_zone_lowmem_reserve`,
//! `mm/vmstat.c:__fragmentation_index`; semantics PHYS-1, PHYS-3, PHYS-4.

use alloc::vec::Vec;

use machine::Geometry;

use crate::buddy::{Buddy, Kept, Mobility, ORDERS};
use crate::reclaim::Watermarks;

/// What a zone is for; the number is the place in `lowmem_reserve`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ZoneKind {
    /// Below 16 MiB: devices of the ISA bus reach it.
    Dma,
    /// Below 4 GiB: devices with addresses of 32 bits reach it.
    Dma32,
    /// All that the kernel has mapped for ever.
    Normal,
    /// What the kernel of i386 must map before it can touch it.
    HighMem,
}

impl ZoneKind {
    /// The name in `/proc/zoneinfo`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Dma => "DMA",
            Self::Dma32 => "DMA32",
            Self::Normal => "Normal",
            Self::HighMem => "HighMem",
        }
    }
}

/// Frames below 16 MiB and 4 GiB.
const DMA_END: u32 = 1 << 12;
const DMA32_END: u32 = 1 << 20;

/// Zones with their ends, and by which part of what lies above they keep frames back
/// (`vm.lowmem_reserve_ratio`).
type Borders = [(ZoneKind, u32, u64); 3];
const X86_64: Borders = [
    (ZoneKind::Dma, DMA_END, 256),
    (ZoneKind::Dma32, DMA32_END, 256),
    (ZoneKind::Normal, u32::MAX, 32),
];
/// Likewise of i386, whose lowmem ends at this frame.
const fn i386(low_end: u32) -> Borders {
    [
        (ZoneKind::Dma, DMA_END, 256),
        (ZoneKind::Normal, low_end, 32),
        (ZoneKind::HighMem, u32::MAX, 0),
    ]
}

/// One zone.
#[derive(Debug)]
struct Zone {
    kind: ZoneKind,
    /// Number of its first frame.
    first: u32,
    frame_count: u32,
    reserve_ratio: u64,
    buddy: Buddy,
}

/// All zones of a machine that have frames, ascending.
#[derive(Debug)]
pub(crate) struct Zones {
    zones: Vec<Zone>,
}

/// What is known of a zone, in pages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ZoneInfo {
    /// What it is for.
    pub kind: ZoneKind,
    /// Number of its first frame.
    pub first_frame: u64,
    /// Its frames.
    pub frame_count: u64,
    /// Those that are free.
    pub free: u64,
    /// How many of them shall be free.
    pub marks: Watermarks,
    /// How many frames it keeps back from requests that could be met by each zone of Linux on
    /// x86-64, in order: DMA, DMA32, Normal, Movable, Device.
    pub protection: [u64; 5],
    /// Free blocks of each order, of each [`Mobility`].
    pub blocks: [[u32; ORDERS]; Mobility::ALL.len()],
    /// Page blocks of 512 frames of each [`Mobility`].
    pub page_blocks: [u32; Mobility::ALL.len()],
}

/// Frames that a kernel of 32 bits has no address for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct HighFrames {
    /// All of them.
    pub total: u64,
    /// Those that are free.
    pub free: u64,
}

/// What the free blocks of a zone are good for.
struct Contiguity {
    /// Free frames, in blocks.
    free: u64,
    /// Free blocks.
    blocks: u64,
    /// Blocks of some order that the free blocks hold.
    suitable: u64,
}

impl ZoneInfo {
    /// Free blocks of each order, of all mobilities (`/proc/buddyinfo`).
    pub fn blocks_by_order(&self) -> [u32; ORDERS] {
        core::array::from_fn(|order| self.blocks.iter().map(|of_kind| of_kind[order]).sum())
    }

    fn contiguity(&self, order: u32) -> Contiguity {
        let mut sums = Contiguity { free: 0, blocks: 0, suitable: 0 };
        for (at, count) in (0..).zip(self.blocks_by_order().map(u64::from)) {
            sums.blocks += count;
            sums.free += count << at;
            sums.suitable += if at >= order { count << (at - order) } else { 0 };
        }
        sums
    }

    /// Why a block of `order` could not be had, in thousandths: near 0 for want of free frames,
    /// near 1,000 because they are scattered. `None` if there is such a block.
    ///
    /// # Source
    /// Linux 6.12 `mm/vmstat.c:__fragmentation_index`, where none is -1,000.
    pub fn fragmentation_index(&self, order: u32) -> Option<u64> {
        let requested = 1_u64.checked_shl(order)?;
        let sums = self.contiguity(order);
        if sums.suitable > 0 {
            return None;
        }
        let share = (1000 + sums.free * 1000 / requested).checked_div(sums.blocks);
        Some(share.map_or(0, |share| 1000_u64.saturating_sub(share)))
    }

    /// How much of what is free is of no use for blocks of `order`, in thousandths.
    ///
    /// # Source
    /// Linux 6.12 `mm/vmstat.c:unusable_free_index`.
    pub fn unusable_index(&self, order: u32) -> u64 {
        let sums = self.contiguity(order);
        let usable = sums.suitable.checked_shl(order).unwrap_or(0);
        let unusable = sums.free.saturating_sub(usable) * 1000;
        unusable.checked_div(sums.free).unwrap_or(1000)
    }
}

impl Zones {
    /// The zones of a machine of `frame_count` frames, all free; a kernel of 32 bits has addresses
    /// for those below `low_end`.
    pub(crate) fn new(geometry: Geometry, frame_count: u32, low_end: u32) -> Self {
        let is_i386 = matches!(geometry, Geometry::I386 | Geometry::Pae);
        let mut first = 0;
        let mut zones = Vec::new();
        for (kind, end, reserve_ratio) in if is_i386 { i386(low_end) } else { X86_64 } {
            let end = end.min(frame_count);
            if first < end || zones.is_empty() {
                let buddy = Buddy::new(end - first, frame_count);
                zones.push(Zone { kind, first, frame_count: end - first, reserve_ratio, buddy });
                first = end;
            }
        }
        Self { zones }
    }

    /// Takes one frame for content of a mobility, from the highest zone that has one.
    #[inline]
    pub(crate) fn alloc_frame(&mut self, mobility: Mobility) -> Option<u32> {
        self.zones.iter_mut().rev().find_map(|zone| zone.alloc_frame(mobility))
    }

    /// The frame that [`Self::alloc_frame`] will hand out, if that needs but a look.
    #[inline]
    pub(crate) fn next_frame(&self, mobility: Mobility) -> Option<u32> {
        let zone = self.zones.last()?;
        zone.buddy.next_frame(mobility).map(|frame| zone.first + frame)
    }

    /// Keeps adjacent frames of the highest zone: [`Buddy::keep`].
    pub(crate) fn keep(&mut self, count: u32, mobility: Mobility) -> Option<Kept> {
        self.zones.last_mut()?.buddy.keep(count, mobility)
    }

    /// Takes frame `nth` of those that are kept, if it still is.
    #[inline]
    pub(crate) fn take_kept(
        &mut self,
        kept: &mut Kept,
        nth: u32,
        mobility: Mobility,
    ) -> Option<u32> {
        let zone = self.zones.last_mut()?;
        zone.buddy.take_kept(kept, nth, mobility).map(|frame| zone.first + frame)
    }

    /// Gives back what is left of kept frames.
    pub(crate) fn let_go(&mut self, kept: &Kept) {
        if let Some(zone) = self.zones.last_mut() {
            zone.buddy.let_go(kept);
        }
    }

    /// Takes one frame of the kernel from the lowest zone that has one: the first is frame 0.
    pub(crate) fn alloc_lowest(&mut self) -> Option<u32> {
        self.zones.iter_mut().find_map(|zone| zone.alloc_frame(Mobility::Unmovable))
    }

    /// Takes 2^`order` adjacent frames, from the highest zone but `HighMem` that has them.
    pub(crate) fn alloc_low_block(&mut self, order: u32, mobility: Mobility) -> Option<u32> {
        let mut low = self.zones.iter_mut().rev().filter(|zone| zone.kind != ZoneKind::HighMem);
        low.find_map(|zone| match order {
            0 => zone.alloc_frame(mobility),
            _ => zone.buddy.alloc(order, mobility).map(|first| zone.first + first),
        })
    }

    /// Gives a block of 2^`order` frames back.
    pub(crate) fn free_block(&mut self, first: u32, order: u32) {
        let zone = self.zones.iter_mut().rev().find(|zone| zone.first <= first);
        if let Some(zone) = zone {
            zone.buddy.free(first - zone.first, order);
        }
    }

    /// Gives one frame back.
    #[inline]
    pub(crate) fn free_frame(&mut self, frame: u32) {
        let zone = self.zones.iter_mut().rev().find(|zone| zone.first <= frame);
        if let Some(zone) = zone {
            zone.buddy.free_frame(frame - zone.first);
        }
    }

    /// How many frames are free.
    pub(crate) fn free_count(&self) -> u64 {
        self.zones.iter().map(|zone| u64::from(zone.buddy.free_count())).sum()
    }

    /// Every free block as (first frame, order), ascending.
    pub(crate) fn free_blocks(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        self.zones.iter().flat_map(|zone| {
            zone.buddy.free_blocks().map(|(first, order)| (zone.first + first, order))
        })
    }

    /// Whether each allocator agrees with itself, and the zones with invariant 1.
    pub(crate) fn check(&self, frame_count: u64) -> Result<(), &'static str> {
        let mut end = 0;
        for zone in &self.zones {
            zone.buddy.check()?;
            if zone.first != end {
                return Err("zones overlap, or a frame is in none");
            }
            end += zone.frame_count;
        }
        if u64::from(end) == frame_count { Ok(()) } else { Err("zones do not end with RAM") }
    }

    /// The sum of the marks of all zones, if `min_free_pages` frames shall be free at least.
    pub(crate) fn marks(&self, min_free_pages: u64) -> Watermarks {
        self.zones.iter().fold(Watermarks::default(), |sum, zone| {
            let marks = self.marks_of(zone, min_free_pages);
            Watermarks {
                min: sum.min + marks.min,
                low: sum.low + marks.low,
                high: sum.high + marks.high,
            }
        })
    }

    /// Frames that the kernel reaches without more ado: all but those of `HighMem`.
    pub(crate) fn lowmem_frames(&self) -> u64 {
        let low = self.zones.iter().filter(|zone| zone.kind != ZoneKind::HighMem);
        low.map(|zone| u64::from(zone.frame_count)).sum()
    }

    /// The frames of `HighMem`.
    pub(crate) fn highmem_frames(&self) -> HighFrames {
        let high = self.zones.iter().find(|zone| zone.kind == ZoneKind::HighMem);
        high.map_or(HighFrames::default(), |zone| HighFrames {
            total: zone.frame_count.into(),
            free: zone.buddy.free_count().into(),
        })
    }

    /// The marks of a zone: its part of the frames that shall be free (PHYS-4).
    fn marks_of(&self, zone: &Zone, min_free_pages: u64) -> Watermarks {
        let frames = u64::from(zone.frame_count);
        let share = min_free_pages.saturating_mul(frames) / self.lowmem_frames().max(1);
        let min = match zone.kind {
            ZoneKind::HighMem => (frames / 1024).clamp(32, 128),
            _ => share,
        };
        let step = (share / 4).max(frames / 1000);
        Watermarks { min, low: min + step, high: min + 2 * step }
    }

    /// Every zone, ascending, if `min_free_pages` frames shall be free at least.
    pub(crate) fn infos(&self, min_free_pages: u64) -> Vec<ZoneInfo> {
        let info = |zone: &Zone| ZoneInfo {
            kind: zone.kind,
            first_frame: zone.first.into(),
            frame_count: zone.frame_count.into(),
            free: zone.buddy.free_count().into(),
            marks: self.marks_of(zone, min_free_pages),
            protection: self.protection_of(zone),
            blocks: zone.buddy.block_counts(),
            page_blocks: zone.buddy.kind_counts(),
        };
        self.zones.iter().map(info).collect()
    }

    /// PHYS-1: against requests that a zone above could meet, a share of all frames up to there.
    fn protection_of(&self, zone: &Zone) -> [u64; 5] {
        let mut protection = [0; 5];
        for (place, kept) in protection.iter_mut().enumerate() {
            let between = |other: &&Zone| other.kind > zone.kind && other.kind as usize <= place;
            let frames: u64 =
                self.zones.iter().filter(between).map(|other| u64::from(other.frame_count)).sum();
            *kept = frames.checked_div(zone.reserve_ratio).unwrap_or(0);
        }
        protection
    }
}

impl Zone {
    #[inline]
    fn alloc_frame(&mut self, mobility: Mobility) -> Option<u32> {
        let first = self.first;
        self.buddy.alloc_frame(mobility).map(|frame| first + frame)
    }
}

#[cfg(test)]
mod tests;
