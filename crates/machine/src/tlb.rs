//! TLBs: how big they are ([`TlbSpec`]) and what they hold.
//!
//! Replacement is exact LRU in every array, sets are indexed by the low bits of the page number,
//! and the levels are neither inclusive nor exclusive: a miss in both fills both.

mod banks;
mod first;
mod presets;
mod second;
mod spec;

pub(crate) use banks::{Banks, Class, Shifts, TAG_ADDRESS_BITS, Translation};
#[cfg(test)]
pub(crate) use first::FirstLevel;
pub(crate) use first::{DataLevel, FetchLevel};
pub use presets::{tlb_default, tlb_preset, tlb_presets};
pub(crate) use second::SecondLevel;
pub use spec::{Array, FIRST_LEVEL_ENTRIES_MAX, Large, LevelSpec, TlbMode, TlbSpec};
