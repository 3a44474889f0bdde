//! Readers of the event log.
//!
//! A reader is an [`Observer`]: it is shown every event once, in order, and computes something from
//! them: counts ([`EventCounts`]), or one line of text for each ([`TraceWriter`]). What a live run
//! shows, a saved log shows too.
//!
//! Deliberately not here: anything that decides. An observer never changes a run.
//!
//! Neighbour below: `machine`, whose [`machine::Event`] is the only input.

mod counts;
mod trace;

pub use counts::EventCounts;
pub use trace::{Line, TraceWriter};

use machine::Stamped;

/// Who watches a run.
pub trait Observer {
    /// Takes note of one event. Events arrive in the order in which they happened.
    fn observe(&mut self, stamped: &Stamped);

    /// Takes note of several events in order.
    fn observe_all(&mut self, events: &[Stamped]) {
        for stamped in events {
            self.observe(stamped);
        }
    }
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Observer for Nobody {
    fn observe(&mut self, _stamped: &Stamped) {}
}
