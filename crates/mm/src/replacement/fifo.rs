//! First in, first out.

use super::{PageSeen, Replacement, Verdict};

/// Evicts the page that came first, used or not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fifo;

impl Replacement for Fifo {
    fn name(&self) -> &'static str {
        "fifo"
    }

    fn judge(&mut self, _page: PageSeen) -> Verdict {
        Verdict::Evict
    }
}
