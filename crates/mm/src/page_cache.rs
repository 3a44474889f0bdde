//! The page cache: which frame holds which page of which object.
//!
//! An object is the content of one inode or shared memory segment. Reads, writes and all mappings
//! see the same frames (FILE-1); they belong to the machine, not to a process, and stay when it
//! ends. A page that is not in RAM is *at hand* or *on the device*. The cache starts [`Warm`]: all
//! pages of files are at hand, brought when first used as if they had been there, like those of a
//! file that the host has cached. What reclaim or a program took away is on the device: it comes
//! back by a request that takes the device's time, and with its neighbours (`readahead.rs`).
//!
//! It finds frames and calls pagers; page tables and rights are not its business. Pages come by
//! `bring.rs`, calls use them by `transfer.rs`, and leave by `dirty.rs` and `resize.rs`.
//!
//! [`Warm`]: Warmth::Warm
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

use machine::{Frame, Machine, PAGE_BYTES};

use crate::backing::{FileKind, ObjectId};
use crate::error::MmError;
use crate::folio::FrameState;
use crate::memory::Memory;
use crate::pager::Pager;
use crate::reclaim::Shadow;
use crate::swap::SwapPlace;
use bring::Device;
use page_map::PageMap;
use ranges::Ranges;
use readahead::AroundFaults;

mod bring;
pub(crate) mod dirty;
mod page_map;
mod ranges;
pub(crate) mod readahead;
mod resize;
mod swapped;
pub(crate) mod transfer;

/// What of the files is in RAM when the machine starts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Warmth {
    /// Everything, as far as time and faults go: a page takes its frame when it is first used.
    #[default]
    Warm,
    /// Nothing.
    Cold,
}

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
    /// It was there, or as good as there: at hand.
    Cache,
    /// The device.
    Device,
}

/// One object: its pager and the pages of it that are in RAM.
struct Object {
    pager: Box<dyn Pager>,
    kind: FileKind,
    pages: PageMap,
    /// Pages that reclaim took away and that did not come back.
    shadows: BTreeMap<u64, Shadow>,
    /// Pages of shared memory that are in swap.
    swapped: BTreeMap<u64, SwapPlace>,
    /// Pages that were never in RAM, or that a program had dropped: on the device.
    cold: Ranges,
    /// The size when the cache last heard of it: bytes beyond are zero in cached pages.
    seen_bytes: u64,
    /// Cached pages of a file that its pager does not have.
    dirty_pages: u64,
    /// For how many wakes of write-back it has had dirty pages.
    dirty_wakes: u32,
    /// Requests under way.
    flights: Vec<bring::Flight>,
    around: AroundFaults,
    life: Life,
}

impl Object {
    /// Whether page `index` is not in RAM and has to be read from the device.
    fn is_on_device(&self, index: u64) -> bool {
        self.shadows.contains_key(&index) || self.cold.contains(index)
    }

    /// The state of frames that hold its pages.
    const fn state(&self) -> FrameState {
        match self.kind {
            FileKind::Regular | FileKind::Special | FileKind::Device => FrameState::File,
            FileKind::Shmem => FrameState::Shmem,
        }
    }

    fn page_count(&self) -> u64 {
        self.pager.size_bytes().div_ceil(PAGE_BYTES)
    }
}

/// All objects. Numbers are never used again.
#[derive(Default)]
pub(crate) struct PageCache {
    objects: Vec<Option<Box<Object>>>,
    warmth: Warmth,
    device: Device,
    /// Objects with dirty pages, in the order in which they became dirty.
    dirty: Vec<ObjectId>,
}

impl fmt::Debug for PageCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageCache").field("objects", &self.objects.len()).finish()
    }
}

impl PageCache {
    /// Adds an object.
    pub(crate) fn add(&mut self, pager: Box<dyn Pager>, kind: FileKind, life: Life) -> ObjectId {
        let seen_bytes = pager.size_bytes();
        let id = ObjectId(self.objects.len() as u32);
        let is_cold = self.warmth == Warmth::Cold && kind == FileKind::Regular;
        self.objects.push(Some(Box::new(Object {
            pager,
            kind,
            pages: PageMap::default(),
            shadows: BTreeMap::new(),
            swapped: BTreeMap::new(),
            cold: if is_cold { Ranges::all() } else { Ranges::default() },
            seen_bytes,
            dirty_pages: 0,
            dirty_wakes: 0,
            flights: Vec::new(),
            around: AroundFaults::default(),
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
        self.object(id).map_or(0, Object::page_count)
    }

    /// Whether a fault near page `index` may map it: it is in RAM, or its pager has it.
    pub(crate) fn is_uptodate(&self, id: ObjectId, index: u64) -> bool {
        self.object(id).is_some_and(|object| {
            let has_left = || object.is_on_device(index) || object.swapped.contains_key(&index);
            let is_at_hand = || object.pager.has(index) && !has_left();
            object.pages.get(index).is_some() || is_at_hand()
        })
    }

    /// An object of which a page is in RAM and on the device, or that has another number of dirty
    /// pages than it says, or that is not where write-back looks for it: for the checks.
    pub(crate) fn odd_object(&self, is_dirty: impl Fn(Frame) -> bool) -> Option<ObjectId> {
        self.ids().into_iter().find(|&id| {
            self.object(id).is_some_and(|object| {
                let is_file = object.state() == FrameState::File;
                let dirty = object.pages.iter().filter(|&(_, frame)| is_file && is_dirty(frame));
                object.pages.iter().any(|(index, _)| object.is_on_device(index))
                    || dirty.count() as u64 != object.dirty_pages
                    || self.dirty.contains(&id) != (object.dirty_pages > 0)
            })
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
    pub fn add_object(&mut self, pager: Box<dyn Pager>, kind: FileKind) -> ObjectId {
        self.cache.add(pager, kind, Life::Kept { charged_pages: 0 })
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
        Ok(self.cache.add(pager, FileKind::Shmem, Life::Kept { charged_pages }))
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
        self.cache.add(pager, FileKind::Shmem, Life::WithMappings { charged_pages })
    }

    /// Forgets an object and its cached pages, without storing dirty ones.
    ///
    /// Pages that are still mapped stay mapped and are freed with the last entry; new faults on the
    /// object find nothing (SIGBUS).
    pub fn drop_object(&mut self, hw: &mut Machine, id: ObjectId) {
        let Some(object) = self.cache.objects.get_mut(id.0 as usize).and_then(Option::take) else {
            return;
        };
        self.cache.dirty.retain(|&dirty| dirty != id);
        for (_, frame) in object.pages.iter() {
            self.uncache(hw, frame);
        }
        for &place in object.swapped.values() {
            self.swap.release(place);
        }
        self.settle_pool(hw);
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
