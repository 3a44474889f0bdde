//! One queue with second chance: the hand of a clock that clears reference bits.

use super::{PageSeen, Replacement, Verdict};

/// Evicts the oldest page that was not used since it was last looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock;

impl Replacement for Clock {
    fn name(&self) -> &'static str {
        "clock"
    }

    fn judge(&mut self, page: PageSeen) -> Verdict {
        if page.references > 0 { Verdict::Keep } else { Verdict::Evict }
    }
}
