//! Which guest pages hold translated code, and where each block stands.
//!
//! A code page is a virtual page of one address space, with the frame that it was translated from
//! and a dense number for the fetch shadow. Pages stay known when their blocks die, so that numbers
//! are used again.
//!
//! Invariants
//! 1. The slot of page `i` is `i + 1`, below [`machine::layout::FETCH_SLOTS`].
//! 2. A page with living blocks is in the list of its frame, and its frame is marked as code.

use super::block::Extent;
use super::translate::BlockId;
use machine::{Frame, PAGE_BYTES, VirtRange, layout};
use std::collections::BTreeMap;

/// Index of a code page.
pub(super) type PageId = u32;

/// One block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub rip: u64,
    pub page: PageId,
    /// The page that its only instruction reaches into.
    pub second: Option<PageId>,
    pub extent: Extent,
    pub is_alive: bool,
    /// Whether flags may be read before they are written.
    pub is_flags_live: bool,
    /// Host address of the code, and the one behind it.
    pub body: u64,
    pub end: u64,
    /// Ways in through the fetch model, made when first needed.
    pub entry: Option<(u64, u64)>,
    pub first_point: u32,
    pub point_count: u32,
    pub instruction_count: u32,
    pub first_site: u32,
    pub site_count: u32,
    /// Links that are patched to this block.
    pub incoming: Vec<u32>,
}

/// One code page.
#[derive(Debug)]
pub(super) struct CodePage {
    pub space: u64,
    pub frame: Frame,
    pub blocks: Vec<BlockId>,
    /// Bytes that blocks depend on.
    pub covered: Box<[u64; 64]>,
}

/// All code pages and blocks.
#[derive(Debug, Default)]
pub(super) struct CodePages {
    pub blocks: Vec<Block>,
    pages: Vec<CodePage>,
    by_address: BTreeMap<(u64, u64), PageId>,
    by_frame: BTreeMap<u64, Vec<PageId>>,
    by_rip: BTreeMap<(u64, u64, Extent), BlockId>,
}

/// The slot of a page in the fetch shadow.
pub(super) const fn slot(page: PageId) -> u32 {
    page + 1
}

impl CodePages {
    /// Forgets all blocks but not the pages; returns the frames that held code.
    pub(super) fn clear_blocks(&mut self) -> Vec<Frame> {
        let frames = self
            .pages
            .iter()
            .filter(|page| !page.blocks.is_empty())
            .map(|page| page.frame)
            .collect();
        for page in self.pages.iter_mut().filter(|page| !page.blocks.is_empty()) {
            page.blocks.clear();
            page.covered.fill(0);
        }
        self.blocks.clear();
        self.by_rip.clear();
        frames
    }

    /// The block of `space` at `rip`.
    pub(super) fn find(&self, space: u64, rip: u64, extent: Extent) -> Option<BlockId> {
        self.by_rip.get(&(space, rip, extent)).copied()
    }

    /// The page with this index.
    pub(super) fn page(&self, page: PageId) -> &CodePage {
        &self.pages[page as usize]
    }

    /// The page of `space` that holds `rip`, if it has held code.
    pub(super) fn page_at(&self, space: u64, rip: u64) -> Option<PageId> {
        self.by_address.get(&(space, rip / PAGE_BYTES)).copied()
    }

    /// The page of `space` that holds `rip`, new if need be; `None` if all slots are taken.
    pub(super) fn page_for(&mut self, space: u64, rip: u64) -> Option<PageId> {
        if let Some(page) = self.page_at(space, rip) {
            return Some(page);
        }
        if self.pages.len() + 1 >= layout::FETCH_SLOTS {
            return None;
        }
        let page = self.pages.len() as PageId;
        let number = rip / PAGE_BYTES;
        self.pages.push(CodePage {
            space,
            frame: Frame::new(u64::MAX),
            blocks: Vec::new(),
            covered: Box::new([0; 64]),
        });
        self.by_address.insert((space, number), page);
        Some(page)
    }

    /// Notes the frame of a page without living blocks.
    pub(super) fn set_frame(&mut self, page: PageId, frame: Frame) {
        let record = &mut self.pages[page as usize];
        if record.frame == frame {
            return;
        }
        let old = core::mem::replace(&mut record.frame, frame);
        if let Some(list) = self.by_frame.get_mut(&old.number()) {
            list.retain(|other| *other != page);
            if list.is_empty() {
                self.by_frame.remove(&old.number());
            }
        }
        self.by_frame.entry(frame.number()).or_default().push(page);
    }

    /// Adds a block, and returns its index.
    pub(super) fn add(&mut self, block: Block, seen: &[(u16, u16)]) -> BlockId {
        let id = self.blocks.len() as BlockId;
        let space = self.pages[block.page as usize].space;
        self.by_rip.insert((space, block.rip, block.extent), id);
        for page in [Some(block.page), block.second].into_iter().flatten() {
            self.pages[page as usize].blocks.push(id);
        }
        let covered = &mut self.pages[block.page as usize].covered;
        for (start, end) in seen {
            cover(covered, *start, *end);
        }
        if let Some(second) = block.second {
            cover(&mut self.pages[second as usize].covered, 0, 15);
        }
        self.blocks.push(block);
        id
    }

    /// Takes the living blocks of `page` out of all maps, and returns them.
    pub(super) fn take_blocks(&mut self, page: PageId) -> Vec<BlockId> {
        let record = &mut self.pages[page as usize];
        let space = record.space;
        record.covered.fill(0);
        let mut taken = core::mem::take(&mut record.blocks);
        taken.retain(|id| self.blocks[*id as usize].is_alive);
        for id in &taken {
            let block = &mut self.blocks[*id as usize];
            block.is_alive = false;
            self.by_rip.remove(&(space, block.rip, block.extent));
        }
        taken
    }

    /// Pages that were translated from `frame`.
    pub(super) fn pages_of_frame(&self, frame: Frame) -> &[PageId] {
        self.by_frame.get(&frame.number()).map_or(&[], Vec::as_slice)
    }

    /// Whether no page of `frame` has living blocks.
    pub(super) fn is_frame_idle(&self, frame: Frame) -> bool {
        self.pages_of_frame(frame).iter().all(|page| self.pages[*page as usize].blocks.is_empty())
    }

    /// Pages of any address space inside `range`.
    pub(super) fn pages_in(&self, range: VirtRange, found: &mut Vec<PageId>) {
        let first = range.start.as_u64() / PAGE_BYTES;
        let last = range.end.as_u64().wrapping_sub(1) / PAGE_BYTES;
        let mut space = self.by_address.first_key_value().map(|(key, _)| key.0);
        while let Some(current) = space {
            found.extend(
                self.by_address.range((current, first)..=(current, last)).map(|(_, page)| *page),
            );
            let next = self.by_address.range((current + 1, 0)..).next();
            space = next.map(|(key, _)| key.0);
        }
    }

    /// Whether blocks depend on some of the `bytes` at `offset` in `frame`.
    pub(super) fn is_covered(&self, frame: Frame, offset: u64, bytes: u64) -> bool {
        let last = (offset + bytes.max(1) - 1).min(PAGE_BYTES - 1);
        self.pages_of_frame(frame).iter().any(|page| {
            let covered = &self.pages[*page as usize].covered;
            (offset..=last).any(|byte| covered[(byte / 64) as usize] >> (byte % 64) & 1 != 0)
        })
    }

    /// The block whose code holds `host`.
    pub(super) fn block_at_host(&self, host: u64) -> Option<BlockId> {
        let behind = self.blocks.partition_point(|block| block.body <= host);
        let id = behind.checked_sub(1)?;
        (host < self.blocks[id].end).then_some(id as BlockId)
    }
}

fn cover(covered: &mut [u64; 64], start: u16, end: u16) {
    for byte in start..end.min(PAGE_BYTES as u16) {
        covered[usize::from(byte / 64)] |= 1 << (byte % 64);
    }
}
