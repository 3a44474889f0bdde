//! Which frame holds which page of one object.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use machine::Frame;

/// log2 of the pages in one chunk of a [`PageMap`].
const CHUNK_SHIFT: u32 = 6;
const CHUNK_PAGES: usize = 1 << CHUNK_SHIFT;

/// Index to frame, in chunks of 64 pages; frame 0 (the zero frame) is never cached and means none.
#[derive(Debug, Default)]
pub(crate) struct PageMap {
    chunks: BTreeMap<u64, Box<[u32; CHUNK_PAGES]>>,
}

const fn place(index: u64) -> (u64, usize) {
    (index >> CHUNK_SHIFT, index as usize & (CHUNK_PAGES - 1))
}

impl PageMap {
    /// The frame of page `index`.
    pub(crate) fn get(&self, index: u64) -> Option<Frame> {
        let (chunk, at) = place(index);
        let number = self.chunks.get(&chunk)?[at];
        (number != 0).then(|| Frame::new(number.into()))
    }

    /// Notes the frame of a page that had none.
    pub(crate) fn insert(&mut self, index: u64, frame: Frame) {
        debug_assert!(frame.number() != 0, "the zero frame is not cached");
        let (chunk, at) = place(index);
        let slots = self.chunks.entry(chunk).or_insert_with(|| Box::new([0; CHUNK_PAGES]));
        slots[at] = frame.number() as u32;
    }

    /// Takes out every page whose index is in `range`.
    pub(crate) fn take(&mut self, range: RangeInclusive<u64>) -> Vec<(u64, Frame)> {
        let mut taken = Vec::new();
        let chunks = (range.start() >> CHUNK_SHIFT)..=(range.end() >> CHUNK_SHIFT);
        for (&chunk, slots) in self.chunks.range_mut(chunks.clone()) {
            for (at, number) in slots.iter_mut().enumerate() {
                let index = chunk << CHUNK_SHIFT | at as u64;
                if *number != 0 && range.contains(&index) {
                    taken.push((index, Frame::new((*number).into())));
                    *number = 0;
                }
            }
        }
        let empty = |slots: &[u32; CHUNK_PAGES]| slots.iter().all(|&number| number == 0);
        let unused: Vec<u64> =
            self.chunks.range(chunks).filter(|(_, slots)| empty(slots)).map(|(&i, _)| i).collect();
        for chunk in unused {
            self.chunks.remove(&chunk);
        }
        taken
    }

    /// Every page in RAM, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, Frame)> + '_ {
        self.chunks.iter().flat_map(|(&chunk, slots)| {
            slots.iter().enumerate().filter(|(_, number)| **number != 0).map(
                move |(at, &number)| (chunk << CHUNK_SHIFT | at as u64, Frame::new(number.into())),
            )
        })
    }

    /// Pages of `range` that are in RAM, ascending.
    pub(crate) fn range(
        &self,
        range: RangeInclusive<u64>,
    ) -> impl Iterator<Item = (u64, Frame)> + '_ {
        let chunks = (range.start() >> CHUNK_SHIFT)..=(range.end() >> CHUNK_SHIFT);
        let slots = (!range.is_empty()).then(|| self.chunks.range(chunks));
        slots.into_iter().flatten().flat_map(move |(&chunk, slots)| {
            let range = range.clone();
            slots.iter().enumerate().filter(|(_, number)| **number != 0).filter_map(
                move |(at, &number)| {
                    let index = chunk << CHUNK_SHIFT | at as u64;
                    range.contains(&index).then(|| (index, Frame::new(number.into())))
                },
            )
        })
    }

    /// How many pages from `index` on are not in RAM, one after the other, at most `most`.
    pub(crate) fn missing_from(&self, index: u64, most: u64) -> u64 {
        let mut count = 0;
        while count < most {
            let (chunk, at) = place(index.saturating_add(count));
            let Some(slots) = self.chunks.get(&chunk) else {
                count += (CHUNK_PAGES - at) as u64;
                continue;
            };
            match slots[at..].iter().position(|&number| number != 0) {
                Some(free) => return (count + free as u64).min(most),
                None => count += (CHUNK_PAGES - at) as u64,
            }
        }
        most
    }
}
