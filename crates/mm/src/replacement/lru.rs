//! Least recently used, as exactly as reference bits can say it.
//!
//! The bits of all pages are read again and again, every 64 allocations and at each reclaim, and
//! the TLBs forget them, so that the next use is seen. Pages used in the same interval count as
//! used in the order in which they were queued: no hardware says more.

use super::{PageSeen, Replacement, Verdict};

/// Evicts the page whose last use is longest ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct StrictLru;

impl Replacement for StrictLru {
    fn name(&self) -> &'static str {
        "lru"
    }

    fn judge(&mut self, _page: PageSeen) -> Verdict {
        Verdict::Evict
    }

    fn wants_order_of_use(&self) -> bool {
        true
    }
}
