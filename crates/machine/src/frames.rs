//! A set of frames of RAM.

use alloc::vec;
use alloc::vec::Vec;

use crate::addr::Frame;

/// A set of frames, one bit each.
#[derive(Debug)]
pub(crate) struct FrameSet {
    words: Vec<u64>,
}

impl FrameSet {
    /// The empty set over `frame_count` frames.
    pub(crate) fn new(frame_count: u64) -> Self {
        let words = usize::try_from(frame_count.div_ceil(64)).expect("RAM fits the host");
        Self { words: vec![0; words] }
    }

    /// Host address of the first of the words. It never changes.
    pub(crate) fn address(&mut self) -> u64 {
        self.words.as_mut_ptr().expose_provenance() as u64
    }

    /// Whether `frame` is in the set. Frames outside RAM never are.
    #[inline]
    pub(crate) fn contains(&self, frame: Frame) -> bool {
        let word = self.words.get((frame.number() / 64) as usize);
        word.is_some_and(|word| word >> (frame.number() % 64) & 1 == 1)
    }

    /// Adds a frame of RAM; `true` if it was not there.
    pub(crate) fn insert(&mut self, frame: Frame) -> bool {
        let Some(word) = self.words.get_mut((frame.number() / 64) as usize) else { return false };
        let bit = 1 << (frame.number() % 64);
        let is_new = *word & bit == 0;
        *word |= bit;
        is_new
    }

    /// Removes a frame.
    pub(crate) fn remove(&mut self, frame: Frame) {
        if let Some(word) = self.words.get_mut((frame.number() / 64) as usize) {
            *word &= !(1 << (frame.number() % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_and_go() {
        let mut set = FrameSet::new(100);
        assert!(set.insert(Frame::new(63)) && !set.insert(Frame::new(63)));
        assert!(set.contains(Frame::new(63)) && !set.contains(Frame::new(64)));
        set.remove(Frame::new(63));
        assert!(!set.contains(Frame::new(63)));
        assert!(!set.insert(Frame::new(1 << 40)) && !set.contains(Frame::new(1 << 40)));
    }
}
