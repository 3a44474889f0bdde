//! Objects that grow, shrink, and lose pages in their middle (FILE-2, FILE-3).

use core::ops::RangeInclusive;

use machine::{Machine, PAGE_BYTES, PAGE_SHIFT};

use crate::backing::ObjectId;
use crate::memory::Memory;
use crate::page_table::{Zap, zap_object};
use crate::space::Mm;

impl Memory {
    /// Takes over the size that the pager says: zeroes what programs stored beyond the old end of
    /// an object that grew (FILE-2).
    pub fn object_grown(&mut self, hw: &mut Machine, id: ObjectId) {
        let Some(object) = self.cache.object_mut(id) else { return };
        let (old_bytes, new_bytes) = (object.seen_bytes, object.pager.size_bytes());
        object.seen_bytes = new_bytes;
        if new_bytes > old_bytes {
            self.zero_tail(hw, id, old_bytes);
        }
    }

    /// Zeroes the cached bytes from `size_bytes` to the end of its page.
    fn zero_tail(&mut self, hw: &mut Machine, id: ObjectId, size_bytes: u64) {
        let skip = size_bytes & (PAGE_BYTES - 1);
        let zeros = &[0; PAGE_BYTES as usize][skip as usize..];
        match (skip, self.cache.get(id, size_bytes >> PAGE_SHIFT)) {
            (0, _) => {}
            (_, Some(frame)) => hw.store(frame.start().wrapping_add(skip), zeros),
            (_, None) => self.write_swapped(hw, (id, size_bytes), zeros),
        }
    }

    /// Tells the cache that the object now has `size_bytes`; its pager must know it already.
    ///
    /// Pages beyond the end are unmapped from `spaces`, private copies included, and dropped; bytes
    /// behind the end in the last page become zero (FILE-3).
    pub fn truncate_object(
        &mut self,
        spaces: &mut [&mut Mm],
        hw: &mut Machine,
        id: ObjectId,
        size_bytes: u64,
    ) {
        self.object_grown(hw, id);
        let Some(object) = self.cache.object_mut(id) else { return };
        object.seen_bytes = size_bytes;
        self.zero_tail(hw, id, size_bytes);
        let beyond = size_bytes.div_ceil(PAGE_BYTES)..=u64::MAX >> PAGE_SHIFT;
        self.drop_pages(spaces, hw, id, beyond, Zap::All);
    }

    /// Punches a hole: pages wholly inside `first..=last` (indexes) are unmapped from `spaces`,
    /// private copies excepted, and dropped; the pager must have forgotten them already.
    pub fn punch_object(
        &mut self,
        spaces: &mut [&mut Mm],
        hw: &mut Machine,
        id: ObjectId,
        pages: RangeInclusive<u64>,
    ) {
        self.drop_pages(spaces, hw, id, pages, Zap::Shared);
    }

    fn drop_pages(
        &mut self,
        spaces: &mut [&mut Mm],
        hw: &mut Machine,
        id: ObjectId,
        pages: RangeInclusive<u64>,
        which: Zap,
    ) {
        for mm in spaces {
            zap_object(mm, self, hw, id, pages.clone(), which);
        }
        self.forget_swapped(hw, id, &pages);
        let Some(object) = self.cache.object_mut(id) else { return };
        object.shadows.retain(|index, _| !pages.contains(index));
        object.cold.remove(pages.clone());
        for (_, frame) in object.pages.take(pages) {
            self.uncache(hw, frame);
        }
    }
}
