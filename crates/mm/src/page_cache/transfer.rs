//! `read` and `write` through the page cache.
//!
//! Bytes are copied between the frames and a buffer; pages that are missing are brought in as many
//! as the call wants, in one go. Where there is no frame, the pager is asked directly: a call does
//! not fail because memory is short.

use machine::{Frame, Machine, PAGE_BYTES, PAGE_SHIFT};

use super::readahead::Readahead;
use super::{Object, PageInError, Source};
use crate::backing::{FileKind, ObjectId};
use crate::error::PagerError;
use crate::memory::{Content, Memory};
use crate::swap::SwapPlace;

/// Bytes of one page that a call works on.
#[derive(Clone, Copy, Debug)]
struct Part {
    index: u64,
    skip: u64,
    length: usize,
}

impl Part {
    /// The part at `offset` of a call that has `left` bytes to go.
    fn at(offset: u64, left: usize) -> Self {
        let skip = offset & (PAGE_BYTES - 1);
        let length = left.min((PAGE_BYTES - skip) as usize);
        Self { index: offset >> PAGE_SHIFT, skip, length }
    }
}

/// Where the bytes of a page are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    Frame(Frame),
    /// A hole in shared memory, which reading does not fill.
    Hole,
    /// With the pager: there is no frame for it.
    Pager,
    /// In swap: there is no frame for it.
    Swap(SwapPlace),
}

/// Where the bytes of a page are for a call that copies them itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageBytes {
    /// In this frame, until anything else is done with memory.
    Frame(Frame),
    /// Nowhere in RAM, and they cannot be brought there: [`Memory::read_object`] has them.
    Elsewhere,
}

impl Memory {
    /// Brings page `index` of the object for a call that reads up to page `end`, as
    /// [`Memory::read_object`] does (FILE-1, FILE-7), and leaves the copying to the caller.
    ///
    /// # Errors
    /// The pager's error.
    pub fn page_to_read(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (index, end): (u64, u64),
        ahead: &mut Readahead,
    ) -> Result<PageBytes, PagerError> {
        let Place::Frame(frame) = self.place_for_read(hw, id, (index, end), ahead)? else {
            return Ok(PageBytes::Elsewhere);
        };
        if !ahead.note(index) && !ahead.reads_once {
            self.mark_accessed(frame);
        }
        Ok(PageBytes::Frame(frame))
    }

    /// Reads from the object as `read` does, and brings its pages into the cache (FILE-1, FILE-7).
    /// Returns how many bytes were read, less than asked for at the end of the object.
    ///
    /// # Errors
    /// The pager's error if not even one byte was read.
    pub fn read_object(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (offset, bytes): (u64, &mut [u8]),
        ahead: &mut Readahead,
    ) -> Result<usize, PagerError> {
        let rest = self.object_bytes(id).saturating_sub(offset);
        let wanted = bytes.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let end = offset.saturating_add(wanted as u64).div_ceil(PAGE_BYTES);
        let mut done = 0;
        while done < wanted {
            let part = Part::at(offset + done as u64, wanted - done);
            let bytes = &mut bytes[done..done + part.length];
            if let Err(error) = self.read_part(hw, id, (part, end), bytes, ahead) {
                return if done == 0 { Err(error) } else { Ok(done) };
            }
            done += part.length;
        }
        Ok(done)
    }

    fn read_part(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (part, end): (Part, u64),
        bytes: &mut [u8],
        ahead: &mut Readahead,
    ) -> Result<(), PagerError> {
        let index = part.index;
        let place = self.place_for_read(hw, id, (index, end), ahead)?;
        let is_same = ahead.note(index);
        match place {
            Place::Frame(frame) => {
                if !is_same && !ahead.reads_once {
                    self.mark_accessed(frame);
                }
                hw.load(frame.start().wrapping_add(part.skip), bytes);
            }
            Place::Hole => bytes.fill(0),
            Place::Swap(place) => {
                let mut page = [0; PAGE_BYTES as usize];
                self.swap.read(place, &mut page).map_err(|_| PagerError::Io { index })?;
                let skip = part.skip as usize;
                bytes.copy_from_slice(&page[skip..skip + bytes.len()]);
                self.wait_for_swap(hw, place.area, 1);
            }
            Place::Pager => {
                let object = self.cache.object_mut(id).ok_or(PagerError::NoPage { index })?;
                let is_on_device = object.is_on_device(index);
                let mut page = [0; PAGE_BYTES as usize];
                object.pager.fill(index, &mut page)?;
                let skip = part.skip as usize;
                bytes.copy_from_slice(&page[skip..skip + bytes.len()]);
                self.wait_for_device(hw, is_on_device.into());
            }
        }
        Ok(())
    }

    /// Where page `index` is, for a call that reads up to page `end`.
    fn place_for_read(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (index, end): (u64, u64),
        ahead: &mut Readahead,
    ) -> Result<Place, PagerError> {
        if let Some(frame) = self.cache.get(id, index) {
            self.read_on(hw, id, (index, end), frame, ahead);
            self.await_page(hw, id, index);
            // Unless what is read ahead needed its frame.
            if self.cache.get(id, index) == Some(frame) {
                return Ok(Place::Frame(frame));
            }
        }
        let object = self.cache.object(id).ok_or(PagerError::NoPage { index })?;
        if let Some(place) = self.cache.swapped(id, index) {
            let brought = self.swap_in_object(hw, (id, index), place);
            return match brought {
                Ok((frame, _)) => Ok(Place::Frame(frame)),
                Err(PageInError::NoFrame) => Ok(Place::Swap(place)),
                Err(_) => Err(PagerError::Io { index }),
            };
        }
        if object.is_hole(index) {
            return Ok(Place::Hole);
        }
        if object.is_on_device(index) {
            self.read_ahead(hw, id, (index, end), ahead);
        } else {
            match self.bring(hw, id, (index, object.missing_at_hand(index, end))) {
                Err(PageInError::Pager) => return Err(PagerError::Io { index }),
                Ok(_) | Err(PageInError::BeyondEnd | PageInError::NoFrame) => {}
            }
        }
        Ok(self.cache.get(id, index).map_or(Place::Pager, Place::Frame))
    }

    /// Writes to the object as `write` does: the pages are dirty then (FILE-8). To be called after
    /// the pager's size has grown to hold all bytes, if they reach behind the end. Returns how many
    /// were written.
    ///
    /// # Errors
    /// The pager's error if not even one byte was written.
    pub fn write_object(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize, PagerError> {
        let old_bytes = self.cache.object(id).map_or(0, |object| object.seen_bytes);
        self.object_grown(hw, id);
        let mut done = 0;
        while done < bytes.len() {
            let part = Part::at(offset.saturating_add(done as u64), bytes.len() - done);
            let bytes = &bytes[done..done + part.length];
            if let Err(error) = self.write_part(hw, id, (part, old_bytes), bytes) {
                return if done == 0 { Err(error) } else { Ok(done) };
            }
            done += part.length;
        }
        Ok(done)
    }

    fn write_part(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (part, old_bytes): (Part, u64),
        bytes: &[u8],
    ) -> Result<(), PagerError> {
        let index = part.index;
        let object = self.cache.object(id).ok_or(PagerError::NoPage { index })?;
        let is_covered = part.skip == 0
            && ((part.length as u64) == PAGE_BYTES
                || (index << PAGE_SHIFT) + part.length as u64 >= old_bytes);
        let is_new = index >= old_bytes.div_ceil(PAGE_BYTES) || is_covered || object.is_hole(index);
        let is_nowhere = object.pages.get(index).is_none() && !object.swapped.contains_key(&index);
        let frame = if is_nowhere && is_new {
            self.new_page(hw, id, index)
        } else {
            match self.page_in(hw, id, index) {
                Ok((frame, _)) => Some(frame),
                Err(PageInError::NoFrame) => None,
                Err(_) => return Err(PagerError::Io { index }),
            }
        };
        let Some(frame) = frame else { return self.write_to_pager(hw, id, part, bytes) };
        hw.store(frame.start().wrapping_add(part.skip), bytes);
        self.mark_accessed(frame);
        self.mark_dirty(frame);
        Ok(())
    }

    /// Puts a page of zeros into the cache, whatever the pager has there.
    fn new_page(&mut self, hw: &mut Machine, id: ObjectId, index: u64) -> Option<Frame> {
        let state = self.cache.object(id)?.state();
        let frame = self.alloc(hw, state, Content::Zeroed)?;
        let _source: Source = self.insert_page(id, index, frame);
        Some(frame)
    }

    /// Writes part of a page that is not in RAM.
    fn write_to_pager(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        part: Part,
        bytes: &[u8],
    ) -> Result<(), PagerError> {
        let index = part.index;
        if self.cache.swapped(id, index).is_some() {
            self.write_swapped(hw, (id, (index << PAGE_SHIFT) + part.skip), bytes);
            return Ok(());
        }
        let object = self.cache.object_mut(id).ok_or(PagerError::NoPage { index })?;
        let inside = object.pager.size_bytes().saturating_sub(index << PAGE_SHIFT);
        let mut page = [0; PAGE_BYTES as usize];
        object.pager.fill(index, &mut page)?;
        let skip = part.skip as usize;
        page[skip..skip + bytes.len()].copy_from_slice(bytes);
        object.pager.store(index, &page[..inside.min(PAGE_BYTES) as usize])?;
        self.wait_for_device(hw, 1);
        Ok(())
    }

    /// Tells the cache that `bytes` were written at `offset` of the object without it: pages in RAM
    /// take them over. To be called after the pager's own content and size changed.
    pub fn object_written(&mut self, hw: &mut Machine, id: ObjectId, offset: u64, bytes: &[u8]) {
        self.object_grown(hw, id);
        let mut done = 0;
        while done < bytes.len() {
            let part = Part::at(offset.wrapping_add(done as u64), bytes.len() - done);
            if let Some(frame) = self.cache.get(id, part.index) {
                let to = frame.start().wrapping_add(part.skip);
                hw.store(to, &bytes[done..done + part.length]);
            } else {
                let at = offset.wrapping_add(done as u64);
                self.write_swapped(hw, (id, at), &bytes[done..done + part.length]);
            }
            done += part.length;
        }
    }
}

impl Object {
    /// Whether the page has no content: a hole in shared memory.
    fn is_hole(&self, index: u64) -> bool {
        self.kind == FileKind::Shmem && !self.pager.has(index)
    }

    /// How many pages from `index` to `end` are at hand, but not in RAM, one after the other.
    pub(super) fn missing_at_hand(&self, index: u64, end: u64) -> u64 {
        let missing = self.pages.missing_from(index, end - index);
        if self.shadows.is_empty() && self.cold.is_empty() && self.swapped.is_empty() {
            return missing;
        }
        let is_at_hand = |at: u64| !self.is_on_device(at) && !self.swapped.contains_key(&at);
        let at_hand = (0..missing).take_while(|&i| is_at_hand(index + i));
        at_hand.count() as u64
    }
}
