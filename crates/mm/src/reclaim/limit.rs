//! The limit on the memory of a group of programs, as a control group of version 2 has it.
//!
//! There is one group: all programs of the machine. What counts is every frame but the free ones
//! and those of the kernel itself: private pages, the page cache, shared memory and page tables.
//! Above `high` the programs are slowed down; at `max` an allocation takes frames back first, and
//! fails if it finds none: the kernel then ends a program.
//!
//! # Source
//! Linux 6.12 `mm/memcontrol.c:try_charge_memcg`, `calculate_high_delay`; `Documentation/
//! admin-guide/cgroup-v2.rst`, "Memory".

use machine::Machine;

use super::{BATCH_PAGES, Cause};
use crate::folio::FrameState;
use crate::memory::Memory;

/// How much memory the programs may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupLimits {
    /// `memory.max`, in pages: never more.
    pub max_pages: u64,
    /// `memory.high`, in pages: more only slowly.
    pub high_pages: u64,
}

impl Default for GroupLimits {
    /// No limits.
    fn default() -> Self {
        Self { max_pages: u64::MAX, high_pages: u64::MAX }
    }
}

/// What the group has, and what happened to it (`memory.current`, `memory.peak`, `memory.events`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupUsage {
    /// Pages it has.
    pub current_pages: u64,
    /// The most pages it had at one time since it has limits.
    pub peak_pages: u64,
    /// Times that it was above `high` and had to give pages back.
    pub high_events: u64,
    /// Times that it was at `max` and had to give pages back.
    pub max_events: u64,
    /// Allocations that failed at `max`.
    pub oom_events: u64,
    /// Programs that were ended for it.
    pub oom_kills: u64,
}

/// Limits and events.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Group {
    limits: GroupLimits,
    usage: GroupUsage,
}

/// The longest delay of one allocation (`MEMCG_MAX_HIGH_DELAY_JIFFIES`).
const DELAY_NS_MAX: u64 = 2_000_000_000;

/// How long an allocation of one page waits in a group that has `pages` above a `high` mark.
///
/// # Source
/// Linux 6.12 `mm/memcontrol.c:calculate_high_delay`: the overage in 2^20ths of the mark, squared,
/// over 2^34 is the seconds for a batch of 64 pages.
fn delay_ns(pages: u64, high_pages: u64) -> u64 {
    let Some(over) = pages.checked_sub(high_pages).filter(|&over| over > 0) else { return 0 };
    let overage = (u128::from(over) << 20) / u128::from(high_pages.max(1));
    let delay = overage.saturating_mul(overage).saturating_mul(1_000_000_000) >> 34;
    u64::try_from(delay / 64).unwrap_or(DELAY_NS_MAX).min(DELAY_NS_MAX)
}

impl Memory {
    /// Limits the memory of all programs together; what they have beyond goes with the next
    /// allocations.
    pub fn set_limits(&mut self, limits: GroupLimits) {
        self.reclaim.group.limits = limits;
        self.update_due();
    }

    /// What the programs have, and what happened at their limits.
    pub fn group_usage(&self) -> GroupUsage {
        let current_pages = self.group_pages();
        let usage = self.reclaim.group.usage;
        let used_peak = self.usage().frames_used_peak - self.kernel_frames();
        GroupUsage { current_pages, peak_pages: used_peak.max(current_pages), ..usage }
    }

    /// The limits.
    pub const fn limits(&self) -> GroupLimits {
        self.reclaim.group.limits
    }

    /// Notes that a program was ended because the group was at its limit.
    pub fn note_oom_kill(&mut self) {
        self.reclaim.group.usage.oom_kills += 1;
    }

    fn group_pages(&self) -> u64 {
        self.frames.len() as u64 - self.count_of(FrameState::Free) - self.kernel_frames()
    }

    /// Frames of the kernel itself, which no group is charged for.
    fn kernel_frames(&self) -> u64 {
        let of_kernel = FrameState::ALL.into_iter().filter(|state| state.is_kernel());
        of_kernel.map(|state| self.count_of(state)).sum()
    }

    /// Whether the group has all that it may have.
    pub(super) fn is_at_limit(&self) -> bool {
        self.group_pages() >= self.reclaim.group.limits.max_pages
    }

    /// Derives invariant 3 of `reclaim.rs` again. A group at a limit leaves so many frames free, or
    /// fewer if the kernel has some.
    pub(crate) fn update_due(&mut self) {
        let limits = self.reclaim.group.limits;
        let limit = limits.max_pages.min(limits.high_pages);
        let unused = (self.frames.len() as u64).saturating_sub(limit);
        let is_sorted = self.reclaim.policy.wants_order_of_use();
        self.due_at = if is_sorted { u64::MAX } else { self.reclaim.marks.low.max(unused) };
    }

    /// Gives pages of a group above its `high` mark back, and lets the allocation wait the longer
    /// the more it is still above.
    pub(super) fn throttle(&mut self, hw: &mut Machine) {
        let high_pages = self.reclaim.group.limits.high_pages;
        if self.reclaim.is_running || self.group_pages() <= high_pages {
            return;
        }
        self.reclaim.group.usage.high_events += 1;
        self.balance(hw, Cause::Limit, BATCH_PAGES);
        let delay_ns = delay_ns(self.group_pages(), high_pages);
        hw.advance_ns(delay_ns);
        self.events.wait_ns += delay_ns;
    }

    /// Whether a page may be charged to the group; if not, the allocation fails. It does too if
    /// what was given back for it is not worth it.
    pub(crate) fn may_charge(&mut self, is_worth_it: bool) -> bool {
        let is_limited = self.reclaim.group.limits.max_pages != u64::MAX;
        let is_refused = self.is_at_limit() || !is_worth_it;
        self.reclaim.group.usage.oom_events += u64::from(is_limited && is_refused);
        !is_refused
    }

    /// Notes that an allocation finds the group at its limit.
    pub(super) const fn note_limit(&mut self) {
        self.reclaim.group.usage.max_events += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_grows_with_the_square_of_what_is_too_much() {
        assert_eq!(delay_ns(1000, 1000), 0);
        let (little, more) = (delay_ns(1010, 1000), delay_ns(1020, 1000));
        assert!(little > 0 && more / little == 4, "{little} {more}");
        assert_eq!(delay_ns(u64::MAX, 1), DELAY_NS_MAX);
        assert_eq!(delay_ns(u64::MAX, 0), DELAY_NS_MAX);
    }
}
