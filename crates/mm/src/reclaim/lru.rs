//! The lists of pages: active and inactive, private and of files, and those that may not leave.
//!
//! Intrusive lists over frame numbers; a frame is on at most one. New pages start at the front of
//! an inactive list, the back is looked at first (LRU-1).

use alloc::vec;
use alloc::vec::Vec;

/// A list.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub(crate) enum ListId {
    /// Private pages on their way out.
    InactiveAnon,
    /// Private pages in use.
    ActiveAnon,
    /// Pages of files on their way out.
    InactiveFile,
    /// Pages of files in use.
    ActiveFile,
    /// Pages that may not leave: a locked VMA maps them (LOCK-7).
    Unevictable,
}

const LISTS: usize = 5;

/// Frames in order of their use. Links are frame + 1; 0 ends a list.
#[derive(Debug)]
pub(crate) struct Lru {
    next: Vec<u32>,
    previous: Vec<u32>,
    /// List + 1 of each frame, 0 for none.
    on: Vec<u8>,
    heads: [u32; LISTS],
    tails: [u32; LISTS],
    counts: [u64; LISTS],
}

impl Lru {
    /// Empty lists for `frame_count` frames.
    pub(crate) fn new(frame_count: usize) -> Self {
        Self {
            next: vec![0; frame_count],
            previous: vec![0; frame_count],
            on: vec![0; frame_count],
            heads: [0; LISTS],
            tails: [0; LISTS],
            counts: [0; LISTS],
        }
    }

    /// How many frames are on a list.
    pub(crate) const fn count(&self, list: ListId) -> u64 {
        self.counts[list as usize]
    }

    /// How many frames RAM has.
    pub(crate) fn frame_count(&self) -> u64 {
        self.on.len() as u64
    }

    /// Whether the frame is on this list.
    pub(crate) fn is_on(&self, frame: u32, list: ListId) -> bool {
        self.on[frame as usize] == list as u8 + 1
    }

    /// The frame that is on a list and came just before `frame`, which is on it too.
    pub(crate) fn newer(&self, frame: u32) -> Option<u32> {
        self.previous[frame as usize].checked_sub(1)
    }

    /// Whether the frame is on a list.
    pub(crate) fn contains(&self, frame: u32) -> bool {
        self.on[frame as usize] != 0
    }

    /// Puts a frame that is on no list to the front of one.
    pub(crate) fn push(&mut self, frame: u32, list: ListId) {
        debug_assert!(!self.contains(frame), "frame {frame:#x} is on a list");
        let (at, link) = (list as usize, frame + 1);
        let head = self.heads[at];
        self.next[frame as usize] = head;
        self.previous[frame as usize] = 0;
        if head == 0 {
            self.tails[at] = link;
        } else {
            self.previous[head as usize - 1] = link;
        }
        self.heads[at] = link;
        self.on[frame as usize] = list as u8 + 1;
        self.counts[at] += 1;
    }

    /// Takes a frame off its list, if it is on one.
    pub(crate) fn remove(&mut self, frame: u32) {
        let Some(at) = usize::from(self.on[frame as usize]).checked_sub(1) else { return };
        let (next, previous) = (self.next[frame as usize], self.previous[frame as usize]);
        match previous {
            0 => self.heads[at] = next,
            _ => self.next[previous as usize - 1] = next,
        }
        match next {
            0 => self.tails[at] = previous,
            _ => self.previous[next as usize - 1] = previous,
        }
        self.on[frame as usize] = 0;
        self.counts[at] -= 1;
    }

    /// Moves a frame to the back of a list.
    pub(crate) fn move_to_back(&mut self, frame: u32, list: ListId) {
        self.remove(frame);
        let (at, link) = (list as usize, frame + 1);
        let tail = self.tails[at];
        self.previous[frame as usize] = tail;
        self.next[frame as usize] = 0;
        if tail == 0 {
            self.heads[at] = link;
        } else {
            self.next[tail as usize - 1] = link;
        }
        self.tails[at] = link;
        self.on[frame as usize] = list as u8 + 1;
        self.counts[at] += 1;
    }

    /// The frame at the back of a list.
    pub(crate) const fn back(&self, list: ListId) -> Option<u32> {
        self.tails[list as usize].checked_sub(1)
    }

    /// Moves a frame to the front of a list.
    pub(crate) fn move_to(&mut self, frame: u32, list: ListId) {
        self.remove(frame);
        self.push(frame, list);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_in_is_the_first_at_the_back() {
        let mut lru = Lru::new(8);
        for frame in 0..4 {
            lru.push(frame, ListId::InactiveAnon);
        }
        lru.remove(1);
        lru.move_to(0, ListId::ActiveAnon);
        assert_eq!(lru.back(ListId::InactiveAnon), Some(2));
        lru.move_to(2, ListId::InactiveAnon);
        assert_eq!(lru.back(ListId::InactiveAnon), Some(3));
        assert_eq!((lru.count(ListId::InactiveAnon), lru.count(ListId::ActiveAnon)), (2, 1));
        assert!(!lru.contains(1) && lru.contains(0));
        lru.move_to_back(0, ListId::InactiveAnon);
        assert_eq!(lru.back(ListId::InactiveAnon), Some(0));
        assert_eq!(lru.back(ListId::ActiveAnon), None);
        lru.move_to_back(1, ListId::ActiveAnon);
        assert_eq!(lru.back(ListId::ActiveAnon), Some(1));
        for frame in 0..8 {
            lru.remove(frame);
        }
        assert_eq!(lru.back(ListId::InactiveAnon), None);
        assert_eq!(lru.back(ListId::ActiveAnon), None);
    }
}
