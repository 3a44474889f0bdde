//! Two lists with second chance: what Linux does without MGLRU.
//!
//! ```text
//!   new ─► inactive ──used twice──► active
//!             │ ▲                     │
//!   evicted ◄─┘ └──── inactive short ─┘
//! ```
//!
//! # Source
//! Linux 6.12 `mm/vmscan.c:folio_check_references`, `inactive_is_low`, `mm/workingset.c`;
//! semantics LRU-2, LRU-4, LRU-6.

use machine::PAGE_SHIFT;

use super::{ListSizes, PageKind, PageSeen, Replacement, Verdict};

/// Keeps pages that were used twice on a list of their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct TwoList;

impl Replacement for TwoList {
    fn name(&self) -> &'static str {
        "two-list"
    }

    /// LRU-4.
    fn judge(&mut self, page: PageSeen) -> Verdict {
        let is_code = page.kind == PageKind::File && page.is_executable;
        match page.references {
            0 => Verdict::Evict,
            1 if !page.was_referenced && !is_code => Verdict::Keep,
            _ => Verdict::Activate,
        }
    }

    /// LRU-2: the active list may be as many times longer as the square root of ten times their
    /// size in GiB, and as long below 1 GiB.
    fn deactivate(&self, sizes: ListSizes, scan: u64) -> u64 {
        let gib = (sizes.inactive + sizes.active) >> (30 - PAGE_SHIFT);
        let ratio = if gib == 0 { 1 } else { (10 * gib).isqrt() };
        if sizes.inactive.saturating_mul(ratio) < sizes.active { scan } else { 0 }
    }

    /// LRU-6: with as many frames more as compete with it the page would not have left.
    fn activates_refault(&self, distance: u64, others: u64) -> bool {
        distance <= others
    }
}
