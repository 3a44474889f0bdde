//! Which guest pages hold translated code, and where each block stands.
//!
//! A code page is a virtual page together with the frame that it was translated from, and a dense
//! number for the fetch shadow. It belongs to no address space: whoever maps the frame there runs
//! the same blocks. That the page lies in this frame is checked by the fetch access with which
//! every page is entered; so neither a change of a mapping nor one of the address space makes
//! blocks invalid. Pages stay known when their blocks die, so that numbers are used again.
//!
//! Invariants
//! 1. The slot of page `i` is `i + 1`, below [`machine::layout::FETCH_SLOTS`].
//! 2. A page with living blocks is in the list of its frame, and its frame is marked as code or
//!    queued as stale.
//! 3. `present` names, for each virtual page, the code page that a fetch access found there last.

use super::block::Extent;
use super::compat::Flavor;
use super::records::{Block, Offset, Split};
use super::translate::BlockId;
use core::ops::Range;
use machine::{Frame, PAGE_BYTES, layout};
use std::collections::BTreeMap;

/// What lies in one piece of so many bytes with code counts as code: a store there is as slow as
/// one to the code. There are thousands of pages.
const COVER_BYTES: u64 = 8;
const COVER_WORDS: usize = (PAGE_BYTES / COVER_BYTES / 64) as usize;

/// Index of a code page.
pub(super) type PageId = u32;

/// One code page.
#[derive(Debug)]
pub(super) struct CodePage {
    pub frame: Frame,
    /// Its first address.
    start: u64,
    /// What its code is translated for.
    flavor: Flavor,
    /// Whether the same virtual page was seen in another frame, too.
    has_twins: bool,
    /// Living blocks that depend on it.
    blocks: Vec<BlockId>,
    /// Pieces of [`COVER_BYTES`] in which blocks depend on some byte, as bits.
    covered: [u64; COVER_WORDS],
}

/// All code pages and blocks.
#[derive(Debug)]
pub(super) struct CodePages {
    pub blocks: Vec<Block>,
    /// Groups of blocks that were split, in the order of their code.
    pub splits: Vec<Split>,
    /// Living blocks in chains by their address: the first of each, plus 1; 0 for none.
    chains: Vec<u32>,
    pages: Vec<CodePage>,
    /// By number of the virtual page and of the frame.
    by_place: BTreeMap<(u64, u64), PageId>,
    /// By number of the virtual page.
    present: BTreeMap<u64, PageId>,
    by_frame: BTreeMap<u64, Vec<PageId>>,
    /// What present code is translated for: pages of each flavor are pages of their own.
    pub flavor: Flavor,
}

/// A block, or a split group of one: whose code it is, and its sites and points by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub block: BlockId,
    pub sites: Range<usize>,
    pub points: Range<usize>,
}

impl Piece {
    fn of_block(id: BlockId, block: &Block) -> Self {
        let sites = numbers(block.first_site, block.site_count);
        Self { block: id, sites, points: numbers(block.first_point, block.point_count) }
    }

    fn of_split(split: &Split) -> Self {
        let sites = numbers(split.first_site, split.site_count);
        Self { block: split.block, sites, points: numbers(split.first_point, split.point_count) }
    }
}

/// So many numbers from `first` on.
fn numbers(first: u32, count: u16) -> Range<usize> {
    first as usize..first as usize + usize::from(count)
}

/// Chains of blocks.
const CHAINS: usize = 1 << 16;

/// The slot of a page in the fetch shadow.
pub(super) const fn slot(page: PageId) -> u32 {
    page + 1
}

impl CodePages {
    /// No pages, of the given flavor, and room for so many blocks.
    pub(super) fn new(block_capacity: usize, flavor: Flavor) -> Self {
        Self {
            blocks: Vec::with_capacity(block_capacity),
            splits: Vec::new(),
            chains: vec![0; CHAINS],
            pages: Vec::new(),
            by_place: BTreeMap::new(),
            present: BTreeMap::new(),
            by_frame: BTreeMap::new(),
            flavor,
        }
    }

    /// Forgets all blocks but not the pages; returns the frames that held code.
    pub(super) fn clear_blocks(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        for page in self.pages.iter_mut().filter(|page| !page.blocks.is_empty()) {
            frames.push(page.frame);
            page.blocks.clear();
            page.covered.fill(0);
        }
        self.blocks.clear();
        self.splits.clear();
        self.chains = vec![0; CHAINS];
        frames
    }

    /// The block of `page` at `rip`.
    pub(super) fn find(&self, page: PageId, rip: u64, extent: Extent) -> Option<BlockId> {
        let start = (rip % PAGE_BYTES) as u16;
        let mut at = self.chains[chain(rip)];
        while let Some(id) = at.checked_sub(1) {
            let block = &self.blocks[id as usize];
            if block.page() == page && block.start == start && block.extent == extent {
                return Some(id);
            }
            at = block.next;
        }
        None
    }

    /// The way into the block at `rip` for indirect jumps; 0 if there is none. Of a virtual page
    /// that was seen in several frames, that frame counts whose page is resident in the fetch
    /// shadow, which `is_resident` says of a slot.
    #[inline(always)]
    pub(super) fn entry_at(&self, rip: u64, is_resident: impl Fn(u32) -> bool) -> Offset {
        let start = (rip % PAGE_BYTES) as u16;
        let mut at = self.chains.get(chain(rip)).map_or(0, |first| *first);
        while let Some(block) = self.blocks.get((at as usize).wrapping_sub(1)) {
            let is_block = block.extent == Extent::Block && block.start == start;
            if is_block
                && let Some(page) = self.pages.get(usize::from(block.page))
                && page.start == rip - u64::from(start)
                && page.flavor == self.flavor
                && (!page.has_twins || is_resident(slot(block.page())))
            {
                return block.entry;
            }
            at = block.next;
        }
        0
    }

    /// The first address of a block.
    pub(super) fn rip(&self, block: &Block) -> u64 {
        self.pages[usize::from(block.page)].start + u64::from(block.start)
    }

    /// Start of the page in which a block ends.
    pub(super) fn exit_page(&self, block: &Block) -> u64 {
        let page = self.pages[usize::from(block.page)].start;
        if block.second == 0 { page } else { page.wrapping_add(PAGE_BYTES) }
    }

    /// The page with this index.
    pub(super) fn page(&self, page: PageId) -> &CodePage {
        &self.pages[page as usize]
    }

    /// The first address and the frame of a page that was seen in no other frame; `None` if it was,
    /// or if there is no such page.
    #[inline(always)]
    pub(super) fn only_place(&self, page: PageId) -> Option<(u64, Frame)> {
        let page = self.pages.get(page as usize)?;
        (!page.has_twins).then_some((page.start, page.frame))
    }

    /// The number of the virtual page of `rip`, with that of the flavor above it.
    const fn number(&self, rip: u64) -> u64 {
        (rip / PAGE_BYTES) | (self.flavor.number() << 52)
    }

    /// The code page that a fetch access found last at `rip`.
    pub(super) fn present(&self, rip: u64) -> Option<PageId> {
        self.present.get(&self.number(rip)).copied()
    }

    /// Says that a fetch access found `page` at `rip`.
    pub(super) fn set_present(&mut self, rip: u64, page: PageId) {
        self.present.insert(self.number(rip), page);
    }

    /// Likewise for a page that was found before.
    #[inline]
    pub(super) fn confirm_present(&mut self, rip: u64, page: PageId) {
        if self.pages[page as usize].has_twins {
            self.set_present(rip, page);
        }
    }

    /// The code page of `rip` in `frame`, new if need be; `None` if all slots are taken.
    pub(super) fn page_for(&mut self, rip: u64, frame: Frame) -> Option<PageId> {
        let place = (self.number(rip), frame.number());
        if let Some(page) = self.by_place.get(&place) {
            return Some(*page);
        }
        if self.is_full() {
            return None;
        }
        let page = self.pages.len() as PageId;
        let has_twins = self.mark_twins(place.0);
        self.pages.push(CodePage {
            frame,
            start: rip & !(PAGE_BYTES - 1),
            flavor: self.flavor,
            has_twins,
            blocks: Vec::new(),
            covered: [0; COVER_WORDS],
        });
        self.by_place.insert(place, page);
        self.by_frame.entry(frame.number()).or_default().push(page);
        Some(page)
    }

    /// Marks the pages with this virtual number; whether there are any.
    fn mark_twins(&mut self, number: u64) -> bool {
        let mut has_twins = false;
        for (_, twin) in self.by_place.range((number, 0)..=(number, u64::MAX)) {
            self.pages[*twin as usize].has_twins = true;
            has_twins = true;
        }
        has_twins
    }

    /// Whether all slots are taken.
    pub(super) fn is_full(&self) -> bool {
        self.pages.len() + 1 >= layout::FETCH_SLOTS
    }

    /// Adds a block, and returns its index.
    pub(super) fn add(&mut self, mut block: Block, seen: &[(u16, u16)]) -> BlockId {
        let id = self.blocks.len() as BlockId;
        for page in [Some(block.page()), block.second_page()].into_iter().flatten() {
            self.pages[page as usize].blocks.push(id);
        }
        let rip = self.rip(&block);
        let first = &mut self.pages[usize::from(block.page)];
        for (start, end) in seen {
            cover(&mut first.covered, *start, *end);
        }
        if let Some(second) = block.second_page() {
            cover(&mut self.pages[second as usize].covered, 0, 15);
        }
        let head = &mut self.chains[chain(rip)];
        block.next = core::mem::replace(head, id + 1);
        self.blocks.push(block);
        id
    }

    /// Takes the living blocks of `page` out of all lists, and returns them.
    pub(super) fn take_blocks(&mut self, page: PageId) -> Vec<BlockId> {
        let record = &mut self.pages[page as usize];
        record.covered.fill(0);
        let mut taken = core::mem::take(&mut record.blocks);
        taken.retain(|id| self.take_block(*id));
        taken
    }

    /// Takes a block out of its chain; `false` if it was dead. The lists of living blocks
    /// keep it until they are taken.
    pub(super) fn take_block(&mut self, id: BlockId) -> bool {
        let block = &mut self.blocks[id as usize];
        if !core::mem::take(&mut block.is_alive) {
            return false;
        }
        let next = block.next;
        let head = chain(self.rip(&self.blocks[id as usize]));
        let mut at = self.chains[head];
        if at == id + 1 {
            self.chains[head] = next;
            return true;
        }
        while let Some(before) = at.checked_sub(1) {
            let link = &mut self.blocks[before as usize].next;
            if *link == id + 1 {
                *link = next;
                break;
            }
            at = *link;
        }
        true
    }

    /// Pages that were translated from `frame`.
    pub(super) fn pages_of_frame(&self, frame: Frame) -> &[PageId] {
        self.by_frame.get(&frame.number()).map_or(&[], Vec::as_slice)
    }

    /// Whether no page of `frame` has living blocks.
    pub(super) fn is_frame_idle(&self, frame: Frame) -> bool {
        self.pages_of_frame(frame).iter().all(|page| self.pages[*page as usize].blocks.is_empty())
    }

    /// Whether blocks depend on some of the `bytes` at `offset` in `frame`, or on what lies in one
    /// piece with them.
    pub(super) fn is_covered(&self, frame: Frame, offset: u64, bytes: u64) -> bool {
        let last = (offset + bytes.max(1) - 1).min(PAGE_BYTES - 1);
        self.pages_of_frame(frame).iter().any(|page| {
            let covered = &self.pages[*page as usize].covered;
            pieces(offset, last).any(|piece| covered[piece / 64] >> (piece % 64) & 1 != 0)
        })
    }

    /// The piece of code that holds the byte at `host` in the cache, which is cold code if
    /// `is_cold`; and how many bytes of the piece come before that byte.
    pub(super) fn piece_at_host(&self, host: Offset, is_cold: bool) -> Option<(Piece, u32)> {
        let part = |block: &Block| match is_cold {
            false => (block.base, block.bytes, 0),
            true => (block.cold, block.cold_bytes, block.bytes),
        };
        let behind = self.blocks.partition_point(|block| part(block).0 <= host);
        if let Some(id) = behind.checked_sub(1) {
            let block = &self.blocks[id];
            let (start, bytes, before) = part(block);
            if host - start < bytes.into() {
                let offset = u32::from(before) + (host - start);
                return Some((Piece::of_block(id as BlockId, block), offset));
            }
        }
        let behind = self.splits.partition_point(|split| split.cold <= host);
        let split =
            self.splits[..behind].last().filter(|split| is_cold && host < split.cold_end)?;
        Some((Piece::of_split(split), host - split.cold))
    }
}

/// The chain that blocks at `rip` are in.
const fn chain(rip: u64) -> usize {
    ((rip as u32).wrapping_mul(0x9e37_79b1) >> 16) as usize % CHAINS
}

/// The pieces that hold the bytes `first` to `last` of a page, both included.
fn pieces(first: u64, last: u64) -> core::ops::RangeInclusive<usize> {
    (first / COVER_BYTES) as usize..=(last / COVER_BYTES) as usize
}

fn cover(covered: &mut [u64; COVER_WORDS], start: u16, end: u16) {
    let Some(last) = end.min(PAGE_BYTES as u16).checked_sub(1) else { return };
    for piece in pieces(start.into(), last.into()) {
        covered[piece / 64] |= 1 << (piece % 64);
    }
}
