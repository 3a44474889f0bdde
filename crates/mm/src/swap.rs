//! Swap: where private pages go when RAM is short.
//!
//! `swap/area.rs` has the slots, `swap/store.rs` the bytes, `swap/entry.rs` the leaf entries,
//! `swap/device.rs` all areas, `swap/readahead.rs` says how many pages come back at once,
//! `swap/latency.rs` what it costs in virtual time, `swap/off.rs` empties an area. `swap/packed.rs`
//! has compressed pages, `swap/zswap.rs` those in front of the devices, `swap/pool.rs` their
//! frames.
//!
//! # Source
//! Linux 6.12 `mm/swapfile.c`, `mm/swap_state.c`, `mm/page_io.c`; semantics SWAP-1 to SWAP-6.

mod area;
mod cache;
mod device;
mod entry;
mod latency;
mod off;
mod packed;
mod pool;
mod readahead;
mod store;
mod zswap;

pub use area::{AreaId, SwapSlot};
pub use cache::SwapUsage;
pub use device::AreaInfo;
pub use latency::{LATENCIES, Latency, latency};
pub use store::{PackedStore, SwapError, SwapStore};
pub use zswap::ZswapUsage;

pub(crate) use area::SwapPlace;
pub(crate) use cache::SwapInError;
pub(crate) use device::{Swap, Tenant};
pub(crate) use entry::{Ownership, decode, encode};
pub(crate) use readahead::History;
