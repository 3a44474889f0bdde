//! A computer without an operating system.
//!
//! RAM, an MMU that walks page tables in that RAM, TLBs, a virtual clock and an event log. It knows
//! nothing of processes, VMAs or system calls, and never calls software: whatever it refuses it
//! returns as a value.
//!
//! Nouns: [`Ram`] (bytes), [`Geometry`] (the page-table format), [`Pte`] and [`walk()`],
//! [`TlbSpec`]
//! (how big the TLBs are), [`layout`] (what emitted code probes), [`Counters`], [`EventLog`], and
//! [`Machine`], the door to all of them.
//!
//! Invariants
//! 1. Bytes live in [`Ram`] only; page tables are bytes in it, in the real entry format.
//! 2. Hardware never calls software: no callback, no reference to a memory manager.
//! 3. No clock, randomness, thread or address of the host influences any result.
#![no_std]

extern crate alloc;

mod access;
mod addr;
mod clock;
mod counters;
mod event;
mod fast;
mod frames;
mod geometry;
mod machine;
mod mmu;
mod pte;
mod ram;
mod stale;
mod tlb;
mod walk;

pub use access::{Access, PageFault, Privilege, Refusal};
pub use addr::{Frame, PAGE_BYTES, PAGE_SHIFT, Page, PageSize, PhysAddr, VirtAddr, VirtRange};
pub use clock::{CLOCK_DRAIN_BIT, CLOCK_READ, CLOCK_SHIFT, CLOCK_WRITE, COSTS, CostTable};
pub use counters::{Counters, FastStatistics, HitMiss};
pub use event::{Event, EventLog, FaultLabel, Keep, Side, Stamped};
pub use fast::layout;
pub use geometry::Geometry;
pub use machine::{FLUSH_CEILING_PAGES, FastPath, Machine, MachineConfig};
pub use pte::Pte;
pub use ram::{Ram, RamError};
pub use tlb::{
    Array, FIRST_LEVEL_ENTRIES_MAX, Large, LevelSpec, TlbMode, TlbSpec, tlb_default, tlb_preset,
    tlb_presets,
};
pub use walk::{NoExecute, WalkControls, Walked, WriteProtect, find, walk};
