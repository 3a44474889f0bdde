//! The command line, in two stages: [`low`] is what was typed, [`high`] is what it means.

pub(crate) mod high;
pub(crate) mod low;
