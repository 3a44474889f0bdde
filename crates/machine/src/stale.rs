//! The queue of translated code that is no longer valid, from whoever changed memory to the
//! engine.

use alloc::collections::VecDeque;

use crate::addr::{Frame, VirtAddr, VirtRange};

/// Translated code that is no longer what its page says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StaleCode {
    /// The mappings of these addresses changed.
    Range(VirtRange),
    /// The bytes of this frame changed.
    Frame(Frame),
}

/// Entries after which the queue says "everything" instead.
const ENTRIES_MAX: usize = 1024;

/// Every address.
const EVERYTHING: VirtRange = VirtRange::new(VirtAddr::new(0), VirtAddr::new(u64::MAX));

/// A bounded queue: when it would grow too long, it forgets details and says "everything".
#[derive(Debug)]
pub(crate) struct StaleQueue {
    entries: VecDeque<StaleCode>,
}

impl StaleQueue {
    pub(crate) const fn new() -> Self {
        Self { entries: VecDeque::new() }
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn pop(&mut self) -> Option<StaleCode> {
        self.entries.pop_front()
    }

    /// Adds a range; merges it with the last entry where they meet.
    pub(crate) fn push_range(&mut self, range: VirtRange) {
        if let Some(StaleCode::Range(last)) = self.entries.back_mut()
            && range.start <= last.end
            && last.start <= range.end
        {
            last.start = last.start.min(range.start);
            last.end = last.end.max(range.end);
            return;
        }
        self.push(StaleCode::Range(range));
    }

    /// Adds a frame.
    pub(crate) fn push_frame(&mut self, frame: Frame) {
        let is_covered = match self.entries.back() {
            Some(StaleCode::Range(last)) => *last == EVERYTHING,
            last => last == Some(&StaleCode::Frame(frame)),
        };
        if !is_covered {
            self.push(StaleCode::Frame(frame));
        }
    }

    /// Replaces all entries by one that covers them.
    pub(crate) fn push_everything(&mut self) {
        self.entries.clear();
        self.entries.push_back(StaleCode::Range(EVERYTHING));
    }

    fn push(&mut self, entry: StaleCode) {
        if self.entries.len() >= ENTRIES_MAX {
            self.push_everything();
        } else {
            self.entries.push_back(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u64, end: u64) -> VirtRange {
        VirtRange::new(VirtAddr::new(start), VirtAddr::new(end))
    }

    #[test]
    fn neighbours_merge_and_frames_do_not_repeat() {
        let mut queue = StaleQueue::new();
        queue.push_range(range(0x1000, 0x2000));
        queue.push_range(range(0x2000, 0x3000));
        queue.push_range(range(0x0, 0x1000));
        queue.push_frame(Frame::new(1));
        queue.push_frame(Frame::new(1));
        queue.push_range(range(0x9000, 0xa000));
        assert_eq!(queue.pop(), Some(StaleCode::Range(range(0, 0x3000))));
        assert_eq!(queue.pop(), Some(StaleCode::Frame(Frame::new(1))));
        assert_eq!(queue.pop(), Some(StaleCode::Range(range(0x9000, 0xa000))));
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn a_long_queue_becomes_everything() {
        let mut queue = StaleQueue::new();
        for page in 0..3000 {
            queue.push_range(range(page << 14, (page << 14) + 0x1000));
            queue.push_frame(Frame::new(page));
        }
        assert_eq!(queue.pop(), Some(StaleCode::Range(EVERYTHING)));
        assert_eq!(queue.pop(), None);
        assert!(queue.is_empty());
    }
}
