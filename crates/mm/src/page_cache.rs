//! The page cache: which frame holds which page of which object.
//!
//! An object is the content of one inode or shared memory segment. Reads, writes and all mappings
//! see the same frames (FILE-1). The cache is *warm*: a page that is not in RAM yet but exists in
//! the object is brought at once and counts as if it had been there, like a file that the host has
//! cached.
//!
//! It finds frames and calls pagers; page tables and rights are not its business.
//!
//! Invariants
//! 1. A frame in the cache has state `File` or `Shmem`, one hold for the cache, and the owner
//!    `Cached` with its object and index.
//! 2. Bytes of a cached page beyond the size of the object were zero when it was brought.
//!
//! # Source
//! Linux 6.12 `mm/filemap.c`, `mm/truncate.c`; semantics FILE-1 to FILE-3.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;

use machine::{Frame, Machine, PAGE_BYTES, PAGE_SHIFT};

use crate::backing::ObjectId;
use crate::error::{MmError, PagerError};
use crate::folio::{FrameState, Owner};
use crate::memory::{Content, Memory};
use crate::pager::Pager;
use crate::reclaim::Shadow;
use crate::replacement::PageKind;
use crate::swap::{LATENCIES, SwapPlace};

mod dirty;
mod resize;
mod swapped;

/// Who ends the life of an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Life {
    /// Its maker, with [`Memory::drop_object`].
    Kept {
        /// Pages charged as committed memory until then.
        charged_pages: u64,
    },
    /// The last mapping of it; with it ends the promise of this many pages.
    WithMappings {
        /// Pages charged as committed memory.
        charged_pages: u64,
    },
}

/// Why a page can not be brought into the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum PageInError {
    /// The page is beyond the end of the object, or the object is gone.
    BeyondEnd,
    /// The pager failed.
    Pager,
    /// There is no free frame.
    NoFrame,
}

/// From where a page came into the cache.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    /// It was there, or as good as there: the cache starts warm.
    Cache,
    /// Its pager, because reclaim had taken it away.
    Device,
}

/// log2 of the pages in one chunk of a [`PageMap`].
const CHUNK_SHIFT: u32 = 6;
const CHUNK_PAGES: usize = 1 << CHUNK_SHIFT;

/// Index to frame, in chunks of 64 pages; frame 0 (the zero frame) is never cached and means none.
#[derive(Debug, Default)]
struct PageMap {
    chunks: BTreeMap<u64, Box<[u32; CHUNK_PAGES]>>,
}

const fn place(index: u64) -> (u64, usize) {
    (index >> CHUNK_SHIFT, index as usize & (CHUNK_PAGES - 1))
}

impl PageMap {
    fn get(&self, index: u64) -> Option<Frame> {
        let (chunk, at) = place(index);
        let number = self.chunks.get(&chunk)?[at];
        (number != 0).then(|| Frame::new(number.into()))
    }

    fn insert(&mut self, index: u64, frame: Frame) {
        debug_assert!(frame.number() != 0, "the zero frame is not cached");
        let (chunk, at) = place(index);
        let slots = self.chunks.entry(chunk).or_insert_with(|| Box::new([0; CHUNK_PAGES]));
        slots[at] = frame.number() as u32;
    }

    /// Takes out every page whose index is in `range`.
    fn take(&mut self, range: RangeInclusive<u64>) -> Vec<(u64, Frame)> {
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

    fn iter(&self) -> impl Iterator<Item = (u64, Frame)> + '_ {
        self.chunks.iter().flat_map(|(&chunk, slots)| {
            slots.iter().enumerate().filter(|(_, number)| **number != 0).map(
                move |(at, &number)| (chunk << CHUNK_SHIFT | at as u64, Frame::new(number.into())),
            )
        })
    }
}

/// One object: its pager and the pages of it that are in RAM.
struct Object {
    pager: Box<dyn Pager>,
    pages: PageMap,
    /// Pages that reclaim took away and that did not come back.
    shadows: BTreeMap<u64, Shadow>,
    /// Pages of shared memory that are in swap.
    swapped: BTreeMap<u64, SwapPlace>,
    /// The size when the cache last heard of it: bytes beyond are zero in cached pages.
    seen_bytes: u64,
    life: Life,
}

/// All objects. Numbers are never used again.
#[derive(Default)]
pub(crate) struct PageCache {
    objects: Vec<Option<Box<Object>>>,
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache").field("objects", &self.objects.len()).finish()
    }
}

impl PageCache {
    /// Adds an object.
    pub(crate) fn add(&mut self, pager: Box<dyn Pager>, life: Life) -> ObjectId {
        let seen_bytes = pager.size_bytes();
        let id = ObjectId(self.objects.len() as u32);
        self.objects.push(Some(Box::new(Object {
            pager,
            pages: PageMap::default(),
            shadows: BTreeMap::new(),
            swapped: BTreeMap::new(),
            seen_bytes,
            life,
        })));
        id
    }

    fn object(&self, id: ObjectId) -> Option<&Object> {
        self.objects.get(id.0 as usize)?.as_deref()
    }

    fn object_mut(&mut self, id: ObjectId) -> Option<&mut Object> {
        self.objects.get_mut(id.0 as usize)?.as_deref_mut()
    }

    /// The frame that holds page `index`.
    pub(crate) fn get(&self, id: ObjectId, index: u64) -> Option<Frame> {
        self.object(id)?.pages.get(index)
    }

    /// Every page in RAM with its object and index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ObjectId, u64, Frame)> + '_ {
        self.objects.iter().enumerate().flat_map(|(i, object)| {
            let id = ObjectId(i as u32);
            object
                .iter()
                .flat_map(move |object| object.pages.iter().map(move |(at, f)| (id, at, f)))
        })
    }

    /// How many pages the object has: one beyond its last index.
    pub(crate) fn page_count(&self, id: ObjectId) -> u64 {
        self.object(id).map_or(0, |object| object.pager.size_bytes().div_ceil(PAGE_BYTES))
    }

    /// Whether a fault near page `index` may map it: it is in RAM, or its pager has it.
    pub(crate) fn is_uptodate(&self, id: ObjectId, index: u64) -> bool {
        self.object(id).is_some_and(|object| {
            let has_left =
                object.shadows.contains_key(&index) || object.swapped.contains_key(&index);
            let is_at_hand = object.pager.has(index) && !has_left;
            object.pages.get(index).is_some() || is_at_hand
        })
    }

    /// Numbers of all objects that exist.
    fn ids(&self) -> Vec<ObjectId> {
        let objects = self.objects.iter().enumerate();
        objects.filter_map(|(i, object)| object.as_ref().map(|_| ObjectId(i as u32))).collect()
    }
}

/// The objects of the machine.
impl Memory {
    /// Adds an object whose content `pager` has; it lives until [`Memory::drop_object`].
    pub fn add_object(&mut self, pager: Box<dyn Pager>) -> ObjectId {
        self.cache.add(pager, Life::Kept { charged_pages: 0 })
    }

    /// Adds an object of zeros that lives until [`Memory::drop_object`], charged in full as
    /// committed memory until then: a System V segment (SHM-5, COMMIT-1).
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: the promise is refused; nothing was added.
    pub fn add_segment(&mut self, size_bytes: u64) -> Result<ObjectId, MmError> {
        let charged_pages = size_bytes.div_ceil(PAGE_BYTES);
        self.charge_commit(charged_pages)?;
        let pager = Box::new(crate::pager::ZeroPager::new(size_bytes));
        Ok(self.cache.add(pager, Life::Kept { charged_pages }))
    }

    /// Adds an object of zeros for `MAP_SHARED | MAP_ANONYMOUS`; it ends with its last mapping.
    pub fn add_shared_zeros(&mut self, size_bytes: u64) -> ObjectId {
        self.add_zeros(size_bytes, 0)
    }

    /// The same, charged in full as committed memory for as long as it lives (SHM-5, COMMIT-1).
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: the promise is refused; nothing was added.
    pub(crate) fn add_charged_zeros(&mut self, size_bytes: u64) -> Result<ObjectId, MmError> {
        let charged_pages = size_bytes.div_ceil(PAGE_BYTES);
        self.charge_commit(charged_pages)?;
        Ok(self.add_zeros(size_bytes, charged_pages))
    }

    fn add_zeros(&mut self, size_bytes: u64, charged_pages: u64) -> ObjectId {
        let pager = Box::new(crate::pager::ZeroPager::new(size_bytes));
        self.cache.add(pager, Life::WithMappings { charged_pages })
    }

    /// Forgets an object and its cached pages, without storing dirty ones.
    ///
    /// Pages that are still mapped stay mapped and are freed with the last entry; new faults on the
    /// object find nothing (SIGBUS).
    pub fn drop_object(&mut self, hw: &mut Machine, id: ObjectId) {
        let Some(object) = self.cache.objects.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        for (_, frame) in object.pages.iter() {
            self.uncache(hw, frame);
        }
        for &place in object.swapped.values() {
            self.swap.release(place);
        }
        let (Life::Kept { charged_pages } | Life::WithMappings { charged_pages }) = object.life;
        self.uncharge_commit(charged_pages);
    }

    /// Ends the object if it lives only as long as it is mapped.
    pub(crate) fn drop_unmapped_object(&mut self, hw: &mut Machine, id: ObjectId) {
        let ends = |object: &Object| matches!(object.life, Life::WithMappings { .. });
        if self.cache.object(id).is_some_and(ends) {
            self.drop_object(hw, id);
        }
    }

    /// Forgets every object: the end of the machine.
    pub(crate) fn drop_all_objects(&mut self, hw: &mut Machine) {
        for id in self.cache.ids() {
            self.drop_object(hw, id);
        }
    }

    /// The frame that holds page `index` of the object, if it is in RAM.
    pub fn cached_page(&self, id: ObjectId, index: u64) -> Option<Frame> {
        self.cache.get(id, index)
    }

    /// The size of the object in bytes, as its pager says; 0 if it was dropped.
    pub fn object_bytes(&self, id: ObjectId) -> u64 {
        self.cache.object(id).map_or(0, |object| object.pager.size_bytes())
    }

    /// The frame of page `index`, brought from the pager if it is not in RAM.
    ///
    /// # Errors
    /// On error nothing has changed.
    pub(crate) fn page_in(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        index: u64,
        state: FrameState,
    ) -> Result<(Frame, Source), PageInError> {
        let object = self.cache.object(id).ok_or(PageInError::BeyondEnd)?;
        let size_bytes = object.pager.size_bytes();
        if index >= size_bytes.div_ceil(PAGE_BYTES) {
            return Err(PageInError::BeyondEnd);
        }
        if let Some(frame) = object.pages.get(index) {
            return Ok((frame, Source::Cache));
        }
        if let Some(place) = self.cache.swapped(id, index) {
            return self.swap_in_object(hw, (id, index), place);
        }
        let frame = self.alloc(hw, state, Content::Zeroed).ok_or(PageInError::NoFrame)?;
        let object = self.cache.object_mut(id).ok_or(PageInError::BeyondEnd)?;
        let page = hw.ram.slice_mut(frame.start(), PAGE_BYTES);
        if object.pager.fill(index, page).is_err() {
            self.free(hw, frame);
            return Err(PageInError::Pager);
        }
        let inside = size_bytes - (index << PAGE_SHIFT);
        if inside < PAGE_BYTES {
            page[inside as usize..].fill(0);
        }
        object.pages.insert(index, frame);
        self.events.pages_read += u64::from(state == FrameState::File);
        let shadow = object.shadows.remove(&index);
        self.frames.set_owner(frame, Owner::Cached { object: id, index });
        self.frames.hold(frame);
        let Some(shadow) = shadow else { return Ok((frame, Source::Cache)) };
        self.note_refault(frame, PageKind::File, shadow);
        let wait_ns = LATENCIES[0].read_time_ns(1);
        hw.advance_ns(wait_ns);
        self.events.wait_ns += wait_ns;
        Ok((frame, Source::Device))
    }

    /// Reads from the object as `read` does: pages in RAM first, else the pager, which leaves no
    /// page behind. Returns how many bytes were read, less than asked for at the end of the object.
    ///
    /// # Errors
    /// The pager's error if not even one byte was read.
    pub fn read_cached(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<usize, PagerError> {
        let rest = self.object_bytes(id).saturating_sub(offset);
        let wanted = bytes.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let mut done = 0;
        while done < wanted {
            let at = offset + done as u64;
            let skip = (at & (PAGE_BYTES - 1)) as usize;
            let count = (PAGE_BYTES as usize - skip).min(wanted - done);
            let part = &mut bytes[done..done + count];
            if let Err(error) = self.read_page(hw, id, at, part) {
                return if done == 0 { Err(error) } else { Ok(done) };
            }
            done += count;
        }
        Ok(done)
    }

    /// Reads `bytes` from one page.
    fn read_page(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<(), PagerError> {
        let index = offset >> PAGE_SHIFT;
        let skip = offset & (PAGE_BYTES - 1);
        if let Some(place) = self.cache.swapped(id, index) {
            let brought = self.swap_in_object(hw, (id, index), place);
            brought.map_err(|_| PagerError::NoPage { index })?;
        }
        let object = self.cache.object_mut(id).ok_or(PagerError::NoPage { index })?;
        if let Some(frame) = object.pages.get(index) {
            hw.load(frame.start().wrapping_add(skip), bytes);
            return Ok(());
        }
        let mut page = [0; PAGE_BYTES as usize];
        object.pager.fill(index, &mut page)?;
        bytes.copy_from_slice(&page[skip as usize..skip as usize + bytes.len()]);
        Ok(())
    }

    /// Tells the cache that `bytes` were written at `offset` of the object, so that mappings see
    /// them. To be called after the pager's own content and size changed.
    pub fn object_written(&mut self, hw: &mut Machine, id: ObjectId, offset: u64, bytes: &[u8]) {
        self.object_grown(hw, id);
        let mut done = 0;
        while done < bytes.len() {
            let at = offset.wrapping_add(done as u64);
            let skip = at & (PAGE_BYTES - 1);
            let count = ((PAGE_BYTES - skip) as usize).min(bytes.len() - done);
            if let Some(frame) = self.cache.get(id, at >> PAGE_SHIFT) {
                hw.store(frame.start().wrapping_add(skip), &bytes[done..done + count]);
            } else {
                self.write_swapped(hw, (id, at), &bytes[done..done + count]);
            }
            done += count;
        }
    }

    /// Takes a frame out of the cache; frees it unless it is still mapped.
    fn uncache(&mut self, hw: &mut Machine, frame: Frame) {
        self.mark_clean(frame);
        self.frames.unhold(frame);
        if self.frames.is_unused(frame) {
            self.free(hw, frame);
        }
    }
}

#[cfg(test)]
mod tests;
