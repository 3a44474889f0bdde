//! TLB descriptions.

mod presets;
mod spec;

pub use presets::{tlb_default, tlb_preset, tlb_presets};
pub use spec::{Array, Large, LevelSpec, TlbMode, TlbSpec};
