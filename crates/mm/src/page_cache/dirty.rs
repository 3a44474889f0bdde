//! Cached pages that differ from what their pagers have, and those that do not.
//!
//! A page of a file is dirty from the first store through a shared mapping that is noticed (FLT-8),
//! or from a `write`, and clean once its pager has taken it: because a program asked for that, by
//! age, because too many pages are dirty, or because reclaim wants the frame. Clean pages that
//! nobody maps can be dropped at any time. Pages of shared memory are never stored: nobody else
//! has them.

use alloc::vec::Vec;
use core::ops::RangeInclusive;

use machine::{Event, Frame, Machine, PAGE_BYTES, PAGE_SHIFT, PhysAddr};

use super::Warmth;
use crate::backing::{FileKind, ObjectId};
use crate::error::PagerError;
use crate::folio::{FrameState, Owner};
use crate::memory::Memory;

/// Every page of an object.
pub const ALL_PAGES: RangeInclusive<u64> = 0..=u64::MAX >> PAGE_SHIFT;

impl Memory {
    /// Notes that the bytes of a page changed.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, frame: Frame) {
        if !self.frames.is_dirty(frame) {
            self.frames.set_dirty(frame);
            if self.is_file_page(frame) {
                self.count_dirty(frame);
            }
        }
    }

    fn count_dirty(&mut self, frame: Frame) {
        self.dirty_pages += 1;
        self.events.pages_dirtied += 1;
        let Some(Owner::Cached { object: id, .. }) = self.frames.owner(frame) else { return };
        let Some(object) = self.cache.object_mut(id) else { return };
        object.dirty_pages += 1;
        if object.dirty_pages == 1 {
            object.dirty_wakes = 0;
            self.cache.dirty.push(id);
        }
    }

    /// Notes that the pager has the bytes of a page, or does not want them any more.
    pub(super) fn mark_clean(&mut self, frame: Frame) {
        if !self.frames.is_dirty(frame) {
            return;
        }
        self.frames.clear_dirty(frame);
        if !self.is_file_page(frame) {
            return;
        }
        self.dirty_pages -= 1;
        let Some(Owner::Cached { object: id, .. }) = self.frames.owner(frame) else { return };
        let Some(object) = self.cache.object_mut(id) else { return };
        object.dirty_pages -= 1;
        if object.dirty_pages == 0 {
            self.cache.dirty.retain(|&dirty| dirty != id);
        }
    }

    /// Whether the frame is in the page cache for a file, not for shared memory.
    pub(crate) fn is_file_page(&self, frame: Frame) -> bool {
        self.frames.state(frame) == FrameState::File && self.frames.hold_count(frame) > 0
    }

    /// How many pages of the object its pager does not have.
    pub fn object_dirty_pages(&self, id: ObjectId) -> u64 {
        self.cache.object(id).map_or(0, |object| object.dirty_pages)
    }

    /// Makes sure that the pager will have room for a page whose bytes are to be changed.
    ///
    /// # Errors
    /// The pager's.
    pub(crate) fn reserve_page(&mut self, id: ObjectId, index: u64) -> Result<(), PagerError> {
        let object = self.cache.object_mut(id).ok_or(PagerError::NoPage { index })?;
        object.pager.reserve(index)
    }

    /// Stores every dirty page of `pages` (indexes) with the pager and write-protects it wherever
    /// it is mapped, so that the next store is noticed again (FILE-8, msync). Takes no time: see
    /// [`Memory::wait_for_writes`]. Returns how many pages were stored.
    ///
    /// # Errors
    /// The first error of the pager; that page and all later ones stay dirty.
    pub fn write_back(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        pages: RangeInclusive<u64>,
    ) -> Result<u64, PagerError> {
        let Some(object) = self.cache.object(id) else { return Ok(0) };
        if object.dirty_pages == 0 || object.kind == FileKind::Shmem {
            return Ok(0);
        }
        let dirty: Vec<(u64, Frame)> = object
            .pages
            .range(pages)
            .filter(|&(_, frame)| self.frames.is_dirty(frame))
            .take(usize::try_from(object.dirty_pages).unwrap_or(usize::MAX))
            .collect();
        let mut stored = 0;
        let mut rest = dirty.as_slice();
        let mut result = Ok(());
        while let Some(&first) = rest.first() {
            let neighbours = (0..).zip(rest).take_while(|&(i, &(index, frame))| {
                index == first.0 + i && frame == first.1.wrapping_add(i)
            });
            let count = neighbours.count();
            result = self.store_pages(hw, id, first, count as u64);
            if result.is_err() {
                break;
            }
            stored += count as u64;
            rest = &rest[count..];
        }
        if let (1.., Some(&(first, _))) = (stored, dirty.first()) {
            self.events.pages_written += stored;
            let event = Event::WriteBack { object: id.0, first, pages: stored as u32 };
            hw.log.push(hw.time(), event);
        }
        result.map(|()| stored)
    }

    /// Stores `count` dirty pages with neighbouring indexes in neighbouring frames.
    fn store_pages(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (index, frame): (u64, Frame),
        count: u64,
    ) -> Result<(), PagerError> {
        (0..count).for_each(|i| self.protect_frame(hw, frame.wrapping_add(i)));
        let object = self.cache.object_mut(id).ok_or(PagerError::NoPage { index })?;
        let size_bytes = object.pager.size_bytes();
        let inside = size_bytes.saturating_sub(index << PAGE_SHIFT).min(count << PAGE_SHIFT);
        object.pager.store_run(index, hw.ram.slice(frame.start(), inside))?;
        (0..count).for_each(|i| self.mark_clean(frame.wrapping_add(i)));
        if inside < count << PAGE_SHIFT {
            // What programs stored behind the end was never part of the file (FILE-2).
            let zeros = [0; PAGE_BYTES as usize];
            let skip = inside & (PAGE_BYTES - 1);
            hw.store(frame.start().wrapping_add(inside), &zeros[skip as usize..]);
        }
        Ok(())
    }

    /// Takes the right to write from every entry that names the frame of a file.
    fn protect_frame(&mut self, hw: &mut Machine, frame: Frame) {
        if self.frames.map_count(frame) == 0 {
            return;
        }
        let entries: Vec<PhysAddr> = self.entries.of(frame).collect();
        for at in entries {
            self.protect_entry(hw, at);
        }
    }

    /// Lets the time pass that the device of files takes to write `pages` pages.
    pub fn wait_for_writes(&mut self, hw: &mut Machine, pages: u64) {
        if pages > 0 {
            let done_ns = self.start_write(hw, pages);
            self.wait_until(hw, done_ns);
        }
    }

    /// Objects with dirty pages, in the order in which they became dirty.
    pub fn dirty_objects(&self) -> Vec<ObjectId> {
        self.cache.dirty.clone()
    }

    /// Write-back by age: it has woken `wakes` times since it was last told so. Stores the pages of
    /// objects that have been dirty for `expiry_wakes` wakes; what their pagers refuse stays dirty.
    pub fn write_back_old(&mut self, hw: &mut Machine, wakes: u32, expiry_wakes: u32) {
        for id in self.dirty_objects() {
            let Some(object) = self.cache.object_mut(id) else { continue };
            object.dirty_wakes = object.dirty_wakes.saturating_add(wakes);
            if object.dirty_wakes >= expiry_wakes {
                object.dirty_wakes = 0;
                let _refused_pages_stay_dirty = self.write_back(hw, id, ALL_PAGES);
            }
        }
    }

    /// Write-back by number: if more than `pages_max` pages are dirty, stores objects, the first
    /// that became dirty first, until that is no more so. Whoever made the pages dirty waits as
    /// long as the device writes.
    pub fn write_back_excess(&mut self, hw: &mut Machine, pages_max: u64) {
        if self.dirty_pages <= pages_max {
            return;
        }
        for id in self.dirty_objects() {
            let stored = self.write_back(hw, id, ALL_PAGES).unwrap_or(0);
            self.wait_for_writes(hw, stored);
            if self.dirty_pages <= pages_max {
                return;
            }
        }
    }

    /// Pages that are free or hold pages of files: what the limits of dirty pages are shares of.
    pub fn dirtyable_pages(&self) -> u64 {
        self.count_of(FrameState::Free) + self.count_of(FrameState::File)
    }

    /// Takes an unmapped page of a file out of RAM for reclaim; a dirty one goes to its pager
    /// first. False if the pager refuses it, or the page is not in the cache: it stays where it is.
    pub(crate) fn drop_page(&mut self, hw: &mut Machine, id: ObjectId, index: u64) -> bool {
        let Some(frame) = self.cache.get(id, index) else { return false };
        if self.frames.is_dirty(frame) && self.write_back(hw, id, index..=index).is_err() {
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

    /// Drops every clean page of a file that nobody maps (`vm.drop_caches`), and with them the
    /// warmth of the cache: what is not in RAM now is on the device. Returns how many.
    ///
    /// Shared memory stays: nobody else has it.
    pub fn drop_clean_cache(&mut self, hw: &mut Machine) -> u64 {
        self.events.cache_drops += 1;
        self.cache.warmth = Warmth::Cold;
        self.cache.ids().into_iter().map(|id| self.discard(hw, id, ALL_PAGES)).sum()
    }

    /// Drops the clean pages of a file in `pages` (indexes) that nobody maps; what is not in RAM
    /// then is on the device (`POSIX_FADV_DONTNEED`). Returns how many.
    pub fn discard(&mut self, hw: &mut Machine, id: ObjectId, pages: RangeInclusive<u64>) -> u64 {
        let dropped = self.forget_clean(hw, id, pages.clone());
        let Some(object) = self.cache.object_mut(id) else { return dropped };
        if object.kind == FileKind::Regular {
            object.cold.insert(pages.clone());
            for (index, _) in object.pages.range(pages) {
                object.cold.remove(index..=index);
            }
        }
        dropped
    }

    /// Drops the same pages, which come back as if they had never been in RAM: somebody else has
    /// changed the file. Returns how many.
    pub fn forget_clean(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        pages: RangeInclusive<u64>,
    ) -> u64 {
        let Some(object) = self.cache.object(id) else { return 0 };
        let is_clean = |&(_, frame): &(u64, Frame)| self.is_droppable(frame);
        let clean: Vec<(u64, Frame)> = object.pages.range(pages).filter(is_clean).collect();
        for &(index, frame) in &clean {
            if let Some(object) = self.cache.object_mut(id) {
                object.pages.take(index..=index);
            }
            self.uncache(hw, frame);
        }
        clean.len() as u64
    }

    fn is_droppable(&self, frame: Frame) -> bool {
        self.frames.state(frame) == FrameState::File
            && self.frames.map_count(frame) == 0
            && self.frames.hold_count(frame) == 1
            && !self.frames.is_dirty(frame)
    }
}
