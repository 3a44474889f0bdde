//! The queue of frames whose translated code is no longer valid, from whoever changed memory to the
//! engine.

use alloc::vec::Vec;

use crate::addr::Frame;

/// Frames whose bytes changed. The caller does not push a frame twice, so there are never more than
/// there are frames with code.
#[derive(Debug, Default)]
pub(crate) struct StaleQueue {
    frames: Vec<Frame>,
}

impl StaleQueue {
    pub(crate) const fn new() -> Self {
        Self { frames: Vec::new() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes a frame.
    pub(crate) fn pop(&mut self) -> Option<Frame> {
        self.frames.pop()
    }

    /// Adds a frame.
    pub(crate) fn push(&mut self, frame: Frame) {
        self.frames.push(frame);
    }
}
