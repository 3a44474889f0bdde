//! The memory manager: what an operating system does with RAM.
//!
//! It owns every frame of the machine ([`Memory`]), builds page tables in RAM, keeps address spaces
//! ([`Mm`]) as ranges with promises ([`Vma`]), and resolves page faults ([`handle_fault`]). It does
//! not execute programs, knows no system call numbers, files, tasks or signals, and reads no clock.
//!
//! Nouns: [`Memory`] (frames, page cache), [`Mm`] (one address space), [`Vma`] (a promise),
//! [`Pager`] (who has the content of a page), [`FaultKind`] and [`FaultError`] (how a fault ended).
//!
//! Invariants
//! 1. Bytes live in `machine::Ram` only; every frame has exactly one state ([`FrameState`]).
//! 2. Leaf entries change only through `page_table.rs`; whoever changes one flushes the `Stale`.
//! 3. What frames need is kept in [`Memory`], by frame or by number of the address space; what only
//!    the owner touches is kept in [`Mm`].
//! 4. [`check::check`] derives all bookkeeping again from page tables and finds no difference.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod backing;
mod buddy;
pub mod check;
mod commit;
mod counters;
mod descriptors;
mod entries;
mod error;
mod facts;
mod fault;
mod folio;
mod highmem;
pub mod kernel_space;
mod memory;
pub mod ops;
mod page_cache;
mod page_table;
mod pager;
mod reclaim;
mod remote;
mod replacement;
mod rights;
mod rmap;
mod slab;
mod space;
mod swap;
#[cfg(test)]
mod testing;
mod vma;
mod vma_tree;
mod vmalloc;
mod zones;

pub use backing::{AnonId, Backing, FileKind, MappedFile, MmId, ObjectId};
pub use buddy::Mobility;
pub use commit::Overcommit;
pub use counters::{FaultCounters, MemoryUsage, PageCounts, Rss, VmEvents};
pub use descriptors::{DESCRIPTOR_BYTES_MAX, Descriptors};
pub use error::{FaultError, MmError, PagerError};
pub use facts::FrameFacts;
pub use fault::{FaultKind, handle_fault, populate, populate_with};
pub use folio::FrameState;
pub use highmem::KmapUsage;
pub use memory::Memory;
pub use page_cache::Warmth;
pub use page_cache::dirty::ALL_PAGES;
pub use page_cache::readahead::{Pattern, Readahead};
pub use page_cache::transfer::PageBytes;
pub use page_table::PteState;
pub use pager::{Pager, ZeroPager};
pub use reclaim::{GroupLimits, GroupUsage, Watermarks};
pub use remote::{Force, Partial};
pub use replacement::{
    ListSizes, POLICIES, PageKind, PageSeen, Policy, Queue, Replacement, Verdict, policy,
};
pub use rights::{Rights, Sharing, VmaFlags};
pub use rmap::mappings_of;
pub use slab::{Cache, CacheInfo, Objects, Slab};
pub use space::{Layout, Limits, Mm, Totals};
pub use swap::{
    AreaId, AreaInfo, LATENCIES, Latency, PackedStore, SwapError, SwapSlot, SwapStore, SwapUsage,
    ZswapUsage, latency,
};
pub use vma::Vma;
pub use vmalloc::{Area, AreaUse};
pub use zones::{HighFrames, ZoneInfo, ZoneKind};
