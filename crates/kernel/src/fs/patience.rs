//! How long the run waits for the host's streams.
//!
//! Where the run has a time limit, a timer of the host runs while we wait and stands still
//! otherwise: no clock is read, and what a run without limit does depends on no time.
//!
//! Invariants
//! 1. `waited_ns` only grows, and only by waits that the machine's own time does not count.

use std::os::fd::{AsFd, OwnedFd};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::Stream;
use super::keys::Keys;
use super::stream::{poll_streams, timespec};

/// How long the machine waits for a reader of its output before other tasks get their turns,
/// nanoseconds of the host.
const SLOW_READER_NS: u64 = 500_000_000;
/// Poll event: it can be written.
const POLL_OUT: u16 = 4;

/// The waits for the host.
#[derive(Debug)]
pub(crate) struct Patience {
    /// Measures waits, if there is a limit.
    timer: Option<OwnedFd>,
    waited_ns: u64,
    /// The keys that end waits, if there is a terminal.
    keys: Option<Keys>,
    /// Whether a key ended a wait.
    is_woken: bool,
}

impl Patience {
    /// No wait yet. Only if the run has a time limit, waits are measured.
    pub(crate) fn new(is_limited: bool) -> Self {
        let create = || timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC);
        let timer = is_limited.then(create).and_then(Result::ok);
        Self { timer, waited_ns: 0, keys: None, is_woken: false }
    }

    /// From now on these keys end waits.
    pub(crate) fn hear(&mut self, keys: Keys) {
        self.keys = Some(keys);
    }

    /// The signals of the keys that were pressed since this was last asked.
    pub(crate) fn take_pressed(&self) -> Vec<u8> {
        self.keys.as_ref().map_or_else(Vec::new, Keys::take)
    }

    /// Whether a key ended a wait since this was last asked.
    pub(crate) fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.is_woken)
    }

    /// Nanoseconds of the host for which the run waited while the machine's time stood still.
    pub(crate) fn waited_ns(&self) -> u64 {
        self.waited_ns
    }

    /// Waits until the host says that one of the streams is ready for its poll events, or a key is
    /// pressed, at most `pause_ns`; returns the streams that are ready. A wait that ends by its
    /// length is not counted: the machine's time passes by it.
    pub(crate) fn wait(
        &mut self,
        streams: &[(Stream, u16)],
        pause_ns: Option<u64>,
    ) -> Vec<(Stream, u16)> {
        let ready = self.wait_measured(streams, pause_ns);
        self.is_woken |= self.keys.as_ref().is_some_and(Keys::drain);
        ready
    }

    fn wait_measured(
        &mut self,
        streams: &[(Stream, u16)],
        pause_ns: Option<u64>,
    ) -> Vec<(Stream, u16)> {
        let wake = self.keys.as_ref().map(Keys::wake);
        let (Some(timer), Some(pause_ns)) = (&self.timer, pause_ns) else {
            return poll_streams(streams, wake.as_slice(), pause_ns);
        };
        let start = set_timer(timer, pause_ns);
        if pause_ns == 0 || start.is_none() {
            return poll_streams(streams, wake.as_slice(), Some(pause_ns));
        }
        let alarms: Vec<_> = wake.into_iter().chain([timer.as_fd()]).collect();
        let ready = poll_streams(streams, &alarms, None);
        let left_ns = set_timer(timer, 0).unwrap_or(0);
        if !ready.is_empty() || left_ns > 0 {
            let waited_ns = pause_ns.saturating_sub(left_ns);
            self.waited_ns = self.waited_ns.saturating_add(waited_ns);
        }
        ready
    }

    /// Waits a little for a slow reader, so that whose turn it is does not depend on the load of
    /// the host; false if it is too slow.
    pub(crate) fn is_writable_soon(&mut self, stream: Stream) -> bool {
        let is_ready = !self.wait(&[(stream, POLL_OUT)], Some(SLOW_READER_NS)).is_empty();
        if !is_ready && self.timer.is_some() {
            self.waited_ns = self.waited_ns.saturating_add(SLOW_READER_NS);
        }
        is_ready
    }
}

/// Lets the timer ring in so many nanoseconds, or never if they are zero; returns how many were
/// left before. `None`: the host refuses.
fn set_timer(timer: &OwnedFd, ns: u64) -> Option<u64> {
    let never = Timespec { tv_sec: 0, tv_nsec: 0 };
    let new = Itimerspec { it_interval: never, it_value: timespec(ns) };
    let old = timerfd_settime(timer, TimerfdTimerFlags::empty(), &new).ok()?.it_value;
    let seconds = u64::try_from(old.tv_sec).unwrap_or(0);
    Some(seconds.saturating_mul(1_000_000_000).saturating_add(old.tv_nsec.cast_unsigned()))
}
