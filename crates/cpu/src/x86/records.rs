//! What the engine remembers of emitted code: blocks, links and points (for sites see `site.rs`).
//!
//! There is one of them for every few bytes of code, so they are kept small: places in the code
//! cache are numbers of bytes from its start, places in guest code from the start of the block.

use super::ask::Ask;
use super::block::Extent;
use super::pages::PageId;
use super::translate::BlockId;

/// Bytes from the start of the code cache.
pub(super) type Offset = u32;

/// The bytes from the start of a cache at host address `start` to `host`.
pub(super) const fn offset(host: u64, start: u64) -> Offset {
    host.wrapping_sub(start) as Offset
}

/// One block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    /// Where it begins: its page, and the bytes of it that come before.
    pub page: u16,
    pub start: u16,
    /// The slot of the page that its only instruction reaches into, or 0.
    pub second: u16,
    /// Its first hot byte, how many there are, and how many come before its code.
    pub base: Offset,
    pub bytes: u16,
    pub body: u8,
    /// Its first cold byte, and how many there are.
    pub cold: Offset,
    pub cold_bytes: u16,
    /// The way in through the fetch model from anywhere, and how many bytes behind it is that from
    /// another page; made with the block or when first needed, 0 until then.
    pub entry: Offset,
    pub page_entry: u8,
    pub first_point: u32,
    pub first_site: u32,
    pub point_count: u16,
    pub site_count: u16,
    /// The next block of the same chain, plus 1.
    pub next: u32,
    /// The first link that is patched to this block, plus 1.
    pub incoming: u32,
    pub instruction_count: u8,
    pub extent: Extent,
    pub is_alive: bool,
    /// Whether flags may be read before they are written.
    pub is_flags_live: bool,
}

impl Block {
    /// Where its code begins.
    pub(super) const fn body(&self) -> Offset {
        self.base + self.body as Offset
    }

    /// The index of its page.
    pub(super) const fn page(&self) -> PageId {
        self.page as PageId
    }

    /// The index of the page that its only instruction reaches into.
    pub(super) const fn second_page(&self) -> Option<PageId> {
        (self.second as PageId).checked_sub(1)
    }

    /// The way in from another page, or 0.
    pub(super) const fn page_entry(&self) -> Offset {
        if self.entry == 0 { 0 } else { self.entry + self.page_entry as Offset }
    }

    /// Sets the ways in.
    pub(super) fn set_entry(&mut self, [any, other_page]: [Offset; 2]) {
        self.entry = any;
        self.page_entry = few(other_page - any);
    }
}

/// A number of bytes of a way into a block.
pub(super) fn few(bytes: Offset) -> u8 {
    u8::try_from(bytes).expect("ways in are shorter than 256 bytes")
}

/// A number of bytes of a block.
pub(super) fn many(bytes: u64) -> u16 {
    u16::try_from(bytes).expect("blocks are shorter than 64 KiB")
}

/// The steps of a group with probes of their own, emitted when the probe of the group had failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Split {
    pub block: BlockId,
    /// Its first byte, which is cold, and the one behind it.
    pub cold: Offset,
    pub cold_end: Offset,
    pub first_point: u32,
    pub first_site: u32,
    pub point_count: u16,
    pub site_count: u16,
}

/// One direct jump from emitted code to a guest address.
///
/// It knows its target while it is not patched, and while it is patched, the next link that is
/// patched to the same block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// The displacement of the branch, and above it the upper bits of the distance.
    field: Offset,
    /// Where the branch goes while it has no target.
    pub stub: Offset,
    pub source: BlockId,
    /// Bytes from the start of the source to the target; or the next link, plus 1.
    distance_or_next: u32,
}

impl Link {
    /// A link whose displacement is at `field`, from `source`, which begins at `rip`, to `target`.
    pub(super) fn new(field: Offset, source: BlockId, rip: u64, target: u64) -> Self {
        let mut link = Self { field, stub: 0, source, distance_or_next: 0 };
        link.set_target(rip, target);
        link
    }

    /// The displacement of the branch.
    pub(super) const fn field(&self) -> Offset {
        self.field & FIELD_MASK
    }

    /// Where it goes, if its source begins at `rip` and it is not patched.
    pub(super) const fn target(&self, rip: u64) -> u64 {
        let upper = (self.field & !FIELD_MASK) as i32 >> FIELD_BITS;
        rip.wrapping_add((upper as i64 as u64) << 32 | self.distance_or_next as u64)
    }

    /// Says that it is not patched, and where it goes.
    fn set_target(&mut self, rip: u64, target: u64) {
        let distance = target.wrapping_sub(rip);
        let upper = (distance >> 32) as u32;
        self.field = self.field() | upper << FIELD_BITS;
        self.distance_or_next = distance as u32;
        debug_assert_eq!(self.target(rip), target, "displacements have 32 bits");
    }

    /// Says that it is patched, and which link is patched to the same block: 0, or its number plus
    /// 1.
    pub(super) fn patched(&mut self, next: u32) {
        self.distance_or_next = next;
    }

    /// Says that it is not patched any more to the block at `target`; returns the next link.
    pub(super) fn unpatched(&mut self, rip: u64, target: u64) -> u32 {
        let next = self.distance_or_next;
        self.set_target(rip, target);
        next
    }
}

/// Bits of a place in the cache.
const FIELD_BITS: u32 = Ask::CACHE_BYTES_MAX.trailing_zeros();
const FIELD_MASK: u32 = (1 << FIELD_BITS) - 1;

/// The start of one instruction in emitted code. Points of instructions that raise nothing on the
/// host are kept only while instructions are counted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    /// Bytes of the block before it, the cold ones being behind the hot ones.
    pub host: u16,
    /// Bytes from the first instruction of the block.
    pub guest: u16,
    /// Registers lent as temporaries, restored from the spill words; 0xff for none.
    pub spilled: [u8; 2],
    /// Accesses that the clock holds although they were not made yet.
    pub pending: u8,
    /// Writes among them.
    pub pending_writes: u8,
    /// Arithmetic flags that are kept, as bits of RFLAGS.
    pub live: u16,
    /// Whether the instruction may raise an exception on the host.
    pub may_raise: bool,
}

const _: () = assert!(size_of::<Block>() <= 48);
const _: () = assert!(size_of::<Link>() <= 16 && size_of::<Point>() <= 12);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_knows_where_it_goes() {
        let rips = [0, 0x40_1000, 0xffff_ff00, 0x7fff_ffff_f800, u64::MAX - 0x7f];
        let distances = [0, 1, -1, 0x1_0000, 0x8000_0fff, -0x8000_0000, 0xffff_ffff, -0xffff_ffff];
        for (rip, distance) in rips.into_iter().flat_map(|rip| distances.map(|way| (rip, way))) {
            let target = rip.wrapping_add(i64::cast_unsigned(distance));
            let mut link = Link::new(FIELD_MASK, 7, rip, target);
            assert_eq!((link.target(rip), link.field()), (target, FIELD_MASK));
            link.patched(0x1234_5678);
            assert_eq!(link.unpatched(rip, target), 0x1234_5678);
            assert_eq!((link.target(rip), link.field()), (target, FIELD_MASK));
        }
    }
}
