//! Page blocks and their mobility: what can be moved or taken back lies apart from what can not,
//! so that large blocks become free again.
//!
//! A request that its own page blocks cannot meet steals from those of another mobility: a whole
//! page block if it is free, else all that is free in the block with the largest free part, and the
//! block with it if at least half of it is free or of a like kind.
//!
//! # Source
//! Linux 6.12 `mm/page_alloc.c`: `__rmqueue_fallback`, `can_steal_fallback`,
//! `steal_suitable_fallback`, `build_all_zonelists`; semantics PHYS-2.

use super::{Buddy, ORDER_MAX, TAG_USED};

/// What can become of used frames.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mobility {
    /// They stay where they are: page tables and other frames of the kernel.
    Unmovable,
    /// Their content can move or leave: private pages and the page cache.
    Movable,
    /// They can be given back on request: caches of the kernel.
    Reclaimable,
}

/// How many mobilities there are.
pub(super) const KINDS: usize = 3;
/// log2 of the frames of a page block.
pub(super) const BLOCK_ORDER: u32 = 9;
/// Frames of a page block.
pub(super) const BLOCK_FRAMES: u32 = 1 << BLOCK_ORDER;
/// A machine with fewer page blocks does not group by mobility: one for each row of
/// `/proc/pagetypeinfo`.
const GROUPED_BLOCKS_MIN: u32 = 5;

impl Mobility {
    /// Every mobility, in the order of its number.
    pub const ALL: [Self; KINDS] = [Self::Unmovable, Self::Movable, Self::Reclaimable];

    /// Whose page blocks it may use, the best first.
    const fn fallbacks(self) -> [Self; 2] {
        match self {
            Self::Unmovable => [Self::Reclaimable, Self::Movable],
            Self::Movable => [Self::Reclaimable, Self::Unmovable],
            Self::Reclaimable => [Self::Unmovable, Self::Movable],
        }
    }
}

/// The mobility of all page blocks of a machine that starts.
pub(super) const fn first_mobility(machine_frames: u32) -> Mobility {
    let is_grouped = machine_frames >= GROUPED_BLOCKS_MIN * BLOCK_FRAMES;
    if is_grouped { Mobility::Movable } else { Mobility::Unmovable }
}

impl Buddy {
    /// How many page blocks are of each mobility.
    pub(crate) fn kind_counts(&self) -> [u32; KINDS] {
        let mut counts = [0; KINDS];
        for &kind in &self.kinds {
            counts[kind as usize] += 1;
        }
        counts
    }

    /// Makes page blocks from `first` on, 2^`order` frames, those of a mobility. Blocks on lists
    /// stay on theirs: the caller moves them.
    pub(super) fn set_kind(&mut self, first: u32, order: u32, kind: Mobility) {
        let start = (first >> BLOCK_ORDER) as usize;
        self.kinds[start..start + (1 << (order - BLOCK_ORDER))].fill(kind);
    }

    /// A block of at least `order`, unlinked, from page blocks of another mobility: of the largest
    /// that there is, unless frames that can move would take a page block that others use.
    pub(super) fn steal(&mut self, order: u32, mobility: Mobility) -> Option<(u32, u32)> {
        if !self.is_grouped {
            return None;
        }
        self.list_fresh_block();
        for found in (order..=ORDER_MAX).rev() {
            let Some(other) = self.fallback(found, mobility) else { continue };
            if mobility == Mobility::Movable && found < BLOCK_ORDER / 2 {
                let mut smallest = order..=ORDER_MAX;
                return smallest.find_map(|found| {
                    let other = self.fallback(found, mobility)?;
                    Some(self.take_head(found, other))
                });
            }
            return self.steal_at(order, found, mobility, other);
        }
        None
    }

    /// The mobility that has a block of `order` for another.
    fn fallback(&self, order: u32, mobility: Mobility) -> Option<Mobility> {
        let has_block = |other: &Mobility| self.heads[*other as usize][order as usize] != 0;
        mobility.fallbacks().into_iter().find(has_block)
    }

    fn take_head(&mut self, order: u32, kind: Mobility) -> (u32, u32) {
        let first = self.heads[kind as usize][order as usize] - 1;
        self.unlink(first, order);
        (first, order)
    }

    /// Lists a block of the fresh part, if there is one and no list has one of the highest order.
    fn list_fresh_block(&mut self) {
        if self.heads.iter().any(|lists| lists[ORDER_MAX as usize] != 0) {
            return;
        }
        if let Some((first, order)) = self.carve(ORDER_MAX) {
            self.push(first, order);
        }
    }

    /// A block of at least `order` out of the first free block of order `found` of `other`.
    fn steal_at(
        &mut self,
        order: u32,
        found: u32,
        mobility: Mobility,
        other: Mobility,
    ) -> Option<(u32, u32)> {
        if found >= BLOCK_ORDER {
            let block = self.take_head(found, other);
            self.set_kind(block.0, found, mobility);
            return Some(block);
        }
        let first = self.heads[other as usize][found as usize] - 1;
        if self.claim_block(first & !(BLOCK_FRAMES - 1), mobility, other) {
            return self.take_listed(order, mobility);
        }
        Some(self.take_head(found, other))
    }

    /// Makes the page block at `start` one of `mobility`, with all that is free there, if at least
    /// half of it is free or of a like kind.
    fn claim_block(&mut self, start: u32, mobility: Mobility, other: Mobility) -> bool {
        let end = (start + BLOCK_FRAMES).min(self.frame_count);
        let (mut movable, mut free) = (0, 0);
        let mut blocks = [(0, 0); BLOCK_FRAMES as usize];
        let mut block_count = 0;
        let mut frame = start;
        while frame < end {
            let tag = self.tag[frame as usize];
            if (1..=super::TAG_ORDER_MAX).contains(&tag) {
                let order = u32::from(tag) - 1;
                blocks[block_count] = (frame, order);
                block_count += 1;
                free += 1 << order;
                frame += 1 << order;
                continue;
            }
            movable += u32::from(tag == TAG_USED + Mobility::Movable as u8);
            frame += 1;
        }
        let alike = match (mobility, other) {
            (Mobility::Movable, _) => movable,
            // Frames of neither kind of the kernel are not told apart.
            (_, Mobility::Movable) => BLOCK_FRAMES - (free + movable).min(BLOCK_FRAMES),
            _ => 0,
        };
        if free + alike < BLOCK_FRAMES / 2 {
            return false;
        }
        for &(first, order) in &blocks[..block_count] {
            self.unlink(first, order);
        }
        self.set_kind(start, BLOCK_ORDER, mobility);
        for &(first, order) in &blocks[..block_count] {
            self.push(first, order);
        }
        true
    }
}
