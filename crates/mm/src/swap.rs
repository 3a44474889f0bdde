//! Swap: where private pages go when RAM is short.
//!
//! `swap/area.rs` has the slots, `swap/store.rs` the bytes, `swap/entry.rs` the leaf entries,
//! `swap/device.rs` all areas, `swap/readahead.rs` says how many pages come back at once,
//! `swap/latency.rs` what it costs in virtual time, `swap/off.rs` empties an area.
//!
//! # Source
//! Linux 6.12 `mm/swapfile.c`, `mm/swap_state.c`, `mm/page_io.c`; semantics SWAP-1 to SWAP-6.

mod area;
mod cache;
mod device;
mod entry;
mod latency;
mod off;
mod readahead;
mod store;

pub use area::{AreaId, SwapSlot};
pub use cache::SwapUsage;
pub use device::AreaInfo;
pub use latency::{LATENCIES, Latency, latency};
pub use store::{PackedStore, SwapError, SwapStore};

pub(crate) use area::SwapPlace;
pub(crate) use cache::SwapInError;
pub(crate) use device::{Swap, Tenant};
pub(crate) use entry::{Ownership, decode, encode};
pub(crate) use readahead::History;
