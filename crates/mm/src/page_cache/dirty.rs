//! Cached pages that differ from what their pagers have, and those that do not.
//!
//! A page of a file is dirty from the first store through a shared mapping that is noticed (FLT-8),
//! and clean once its pager has taken it. Clean pages that nobody maps can be dropped at any time.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use machine::{Frame, Machine, PAGE_BYTES, PAGE_SHIFT};

use crate::backing::ObjectId;
use crate::error::PagerError;
use crate::folio::FrameState;
use crate::memory::Memory;
use crate::space::Mm;

impl Memory {
    /// Notes that the bytes of a page changed.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, frame: Frame) {
        if !self.frames.is_dirty(frame) {
            self.frames.set_dirty(frame);
            self.dirty_pages += u64::from(self.is_file_page(frame));
        }
    }

    /// Notes that the pager has the bytes of a page, or does not want them any more.
    pub(super) fn mark_clean(&mut self, frame: Frame) {
        if self.frames.is_dirty(frame) {
            self.frames.clear_dirty(frame);
            self.dirty_pages -= u64::from(self.is_file_page(frame));
        }
    }

    /// Whether the frame is in the page cache for a file, not for shared memory.
    pub(crate) fn is_file_page(&self, frame: Frame) -> bool {
        self.frames.state(frame) == FrameState::File && self.frames.hold_count(frame) > 0
    }

    /// Stores every dirty page of `pages` (indexes) with the pager and write-protects it in
    /// `spaces`, so that the next store is noticed again (FILE-8, msync).
    ///
    /// # Errors
    /// The first error of the pager; that page and all later ones stay dirty.
    pub fn write_back(
        &mut self,
        spaces: &mut [&mut Mm],
        hw: &mut Machine,
        id: ObjectId,
        pages: RangeInclusive<u64>,
    ) -> Result<(), PagerError> {
        for mm in spaces {
            crate::page_table::protect_object(mm, self, hw, id, pages.clone());
        }
        self.store_swapped(id, &pages)?;
        let Some(object) = self.cache.object_mut(id) else { return Ok(()) };
        let size_bytes = object.pager.size_bytes();
        for (index, frame) in object.pages.iter() {
            if !pages.contains(&index) || !self.frames.is_dirty(frame) {
                continue;
            }
            let length = size_bytes.saturating_sub(index << PAGE_SHIFT).min(PAGE_BYTES);
            object.pager.store(index, hw.ram.slice(frame.start(), length))?;
            self.frames.clear_dirty(frame);
            if self.frames.state(frame) == FrameState::File {
                self.dirty_pages -= 1;
                self.events.pages_written += 1;
                // What programs stored behind the end was never part of the file (FILE-2).
                let zeros = [0; PAGE_BYTES as usize];
                let end = frame.start().wrapping_add(length);
                hw.store(end, &zeros[length as usize..]);
            }
        }
        Ok(())
    }

    /// Takes an unmapped page of a file out of RAM for reclaim; a dirty one goes to its pager
    /// first. False if the pager refuses it, or the page is not in the cache: it stays where it is.
    pub(crate) fn drop_page(&mut self, hw: &mut Machine, id: ObjectId, index: u64) -> bool {
        let Some(frame) = self.cache.get(id, index) else { return false };
        if self.frames.is_dirty(frame) && self.write_back(&mut [], hw, id, index..=index).is_err() {
            return false;
        }
        let shadow = self.note_eviction(frame);
        let Some(object) = self.cache.object_mut(id) else { return false };
        object.shadows.insert(index, shadow);
        for (_, frame) in object.pages.take(index..=index) {
            self.uncache(hw, frame);
        }
        true
    }

    /// Drops every clean page of a file that nobody maps (`vm.drop_caches`). Returns how many.
    ///
    /// Shared memory stays: nobody else has it.
    pub fn drop_clean_cache(&mut self, hw: &mut Machine) -> u64 {
        self.events.cache_drops += 1;
        let mut dropped = 0;
        for id in self.cache.ids() {
            let Some(object) = self.cache.object(id) else { continue };
            let indexes: Vec<u64> = object
                .pages
                .iter()
                .filter(|&(_, frame)| self.is_droppable(frame))
                .map(|(index, _)| index)
                .collect();
            for index in indexes {
                let Some(object) = self.cache.object_mut(id) else { break };
                for (_, frame) in object.pages.take(index..=index) {
                    self.uncache(hw, frame);
                    dropped += 1;
                }
            }
        }
        dropped
    }

    fn is_droppable(&self, frame: Frame) -> bool {
        self.frames.state(frame) == FrameState::File
            && self.frames.map_count(frame) == 0
            && self.frames.hold_count(frame) == 1
            && !self.frames.is_dirty(frame)
    }
}
