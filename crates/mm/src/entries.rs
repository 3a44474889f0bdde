//! The leaf entries that name each frame: the part of the reverse map that reclaim needs, which
//! has frames in hand and no address spaces.
//!
//! ```text
//!  first[frame]   address of one entry, 0 if there is none
//!  heads[frame]   the others: a chain of links, newest first; 0 ends it
//! ```
//! A page with one mapping, which most have, costs one word. The arrays are backed by the host only
//! where frames were mapped.
//!
//! Invariants
//! 1. The entries of a frame are as many as its map count says, and each names the frame.

use alloc::vec;
use alloc::vec::Vec;

use machine::{Frame, PhysAddr};

#[derive(Clone, Copy, Debug)]
struct Link {
    entry: u64,
    next: u32,
}

/// The leaf entries of all frames, by physical address.
#[derive(Debug)]
pub(crate) struct Entries {
    first: Vec<u64>,
    heads: Vec<u32>,
    /// Place 0 is not used.
    links: Vec<Link>,
    /// A chain of links that are free.
    free: u32,
}

impl Entries {
    /// No entries for any of `frame_count` frames.
    pub(crate) fn new(frame_count: usize) -> Self {
        Self {
            first: vec![0; frame_count],
            heads: vec![0; frame_count],
            links: vec![Link { entry: 0, next: 0 }],
            free: 0,
        }
    }

    /// Adds the entry at `at`.
    #[inline]
    pub(crate) fn add(&mut self, frame: Frame, at: PhysAddr) {
        let index = frame.number() as usize;
        if self.first[index] == 0 {
            self.first[index] = at.as_u64();
        } else {
            self.push(index, at.as_u64());
        }
    }

    fn push(&mut self, index: usize, entry: u64) {
        let link = Link { entry, next: self.heads[index] };
        if self.free == 0 {
            self.heads[index] = self.links.len() as u32;
            self.links.push(link);
        } else {
            let place = self.free;
            self.free = self.links[place as usize].next;
            self.links[place as usize] = link;
            self.heads[index] = place;
        }
    }

    /// Removes the entry at `at`, which is there.
    #[inline]
    pub(crate) fn remove(&mut self, frame: Frame, at: PhysAddr) {
        let index = frame.number() as usize;
        let head = self.heads[index];
        if self.first[index] == at.as_u64() {
            self.first[index] = 0;
            if head != 0 {
                self.first[index] = self.unlink(index, 0, head);
            }
            return;
        }
        let (mut before, mut place) = (0, head);
        while place != 0 && self.links[place as usize].entry != at.as_u64() {
            (before, place) = (place, self.links[place as usize].next);
        }
        debug_assert!(place != 0, "frame {:#x} has no entry at {at}", frame.number());
        if place != 0 {
            self.unlink(index, before, place);
        }
    }

    /// Takes the link at `place`, which follows the one at `before` (0 for none), out of the chain
    /// and returns its entry.
    fn unlink(&mut self, index: usize, before: u32, place: u32) -> u64 {
        let Link { entry, next } = self.links[place as usize];
        if before == 0 {
            self.heads[index] = next;
        } else {
            self.links[before as usize].next = next;
        }
        self.links[place as usize].next = self.free;
        self.free = place;
        entry
    }

    /// Notes that the entry at `from` is now at `to`.
    pub(crate) fn relocate(&mut self, frame: Frame, from: PhysAddr, to: PhysAddr) {
        self.remove(frame, from);
        self.add(frame, to);
    }

    /// Every entry of the frame.
    pub(crate) fn of(&self, frame: Frame) -> impl Iterator<Item = PhysAddr> + '_ {
        let index = frame.number() as usize;
        let mut place = self.heads[index];
        let rest = core::iter::from_fn(move || {
            let link = *self.links.get(place as usize).filter(|_| place != 0)?;
            place = link.next;
            Some(link.entry)
        });
        let first = Some(self.first[index]).filter(|&entry| entry != 0);
        first.into_iter().chain(rest).map(PhysAddr::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_and_go_in_any_order() {
        let mut entries = Entries::new(4);
        let (frame, other) = (Frame::new(2), Frame::new(3));
        let at = |n: u64| PhysAddr::new(0x1000 + n * 8);
        for n in 0..5 {
            entries.add(frame, at(n));
            entries.add(other, at(100 + n));
        }
        for n in [2, 0, 4] {
            entries.remove(frame, at(n));
        }
        entries.relocate(frame, at(3), at(50));
        let mut left: Vec<u64> = entries.of(frame).map(PhysAddr::as_u64).collect();
        left.sort_unstable();
        assert_eq!(left, [at(1).as_u64(), at(50).as_u64()]);
        entries.remove(frame, at(50));
        entries.remove(frame, at(1));
        assert_eq!(entries.of(frame).count(), 0);
        assert_eq!(entries.of(other).count(), 5);
        let links = entries.links.len();
        entries.add(frame, at(1));
        entries.add(frame, at(2));
        assert_eq!(entries.links.len(), links, "links are used again");
    }
}
