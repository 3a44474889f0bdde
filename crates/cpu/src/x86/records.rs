//! What the engine remembers of emitted code: blocks, sites, links and points.
//!
//! There is one of them for every few bytes of code, so they are kept small: places in the code
//! cache are numbers of bytes from its start, places in guest code from the start of the block.

use super::block::Extent;
use super::compat::Flavor;
use super::emulate::strings::Job;
use super::pages::PageId;
use super::translate::BlockId;
use machine::{Access, PAGE_BYTES};

/// Bytes from the start of the code cache.
pub(super) type Offset = u32;

/// The bytes from the start of a cache at host address `start` to `host`.
pub(super) const fn offset(host: u64, start: u64) -> Offset {
    host.wrapping_sub(start) as Offset
}

/// One block.
#[derive(Clone, Debug)]
pub(super) struct Block {
    pub rip: u64,
    pub page: PageId,
    /// The slot of the page that its only instruction reaches into, or 0.
    pub second: u32,
    /// Its first hot byte, where its code begins, and the byte behind it.
    pub base: Offset,
    pub body: Offset,
    pub end: Offset,
    /// Its first cold byte, and the one behind it.
    pub cold: Offset,
    pub cold_end: Offset,
    /// Ways in through the fetch model, from anywhere and from another page; made with the block or
    /// when first needed, 0 until then.
    pub entry: [Offset; 2],
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
    pub flavor: Flavor,
    pub is_alive: bool,
    /// Whether flags may be read before they are written.
    pub is_flags_live: bool,
}

impl Block {
    /// Start of the page in which the block ends.
    pub(super) const fn exit_page(&self) -> u64 {
        let page = self.rip & !(PAGE_BYTES - 1);
        if self.second == 0 { page } else { page.wrapping_add(PAGE_BYTES) }
    }
}

/// One place where emitted code may enter the slow path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Site {
    /// Where emitted code goes on.
    pub resume: Offset,
    pub block: BlockId,
    /// The guest instruction: bytes from the start of the block.
    pub guest: u16,
    pub kind: SiteKind,
}

/// What a site wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SiteKind {
    /// A data access.
    Access {
        access: Access,
        bytes: u16,
        /// How many probes of the same instruction come before it.
        ordinal: u8,
        /// Whether a non-canonical address is #SS and not #GP.
        is_stack: bool,
        /// Arithmetic flags that were kept before the probe, as bits of RFLAGS.
        live: u16,
    },
    /// A string instruction of so many bytes, done in Rust.
    String { job: Job, live: u16, length: u8 },
    /// A group, whose probe has not failed yet: emitted code goes on behind the group. `field` is
    /// how many bytes before that the displacement of the branch stands which is taken if it does.
    Group { field: u16, live: u16 },
    /// No access: where an indirect jump stands.
    Branch,
    /// The fetch of a page that is entered; the site stands at the address.
    Fetch { slot: u16, is_second: bool },
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
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub target: u64,
    /// The displacement of the branch.
    pub field: Offset,
    /// Where the branch goes while it has no target.
    pub stub: Offset,
    pub source: BlockId,
    /// The next link that is patched to the same block, plus 1.
    pub next: u32,
}

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

const _: () = assert!(size_of::<Block>() <= 72 && size_of::<Site>() <= 20);
const _: () = assert!(size_of::<Link>() <= 24 && size_of::<Point>() <= 12);
const _: () = assert!(machine::layout::FETCH_SLOTS <= 1 << 16, "a slot has 16 bits");
