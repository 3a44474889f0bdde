//! Slabs: the kernel's own small objects, many to a block of frames.
//!
//! ```text
//!  cache "task_struct"          slab: 8 frames of lowmem from the buddy allocator
//!    slabs ──► first frame ──►  | object | object | object | object | object | rest |
//!    partial: slabs with room      used     free     used     used     free
//! ```
//! Nouns: [`Cache`] (one kind of object), [`Objects`] (those that somebody has), [`Slab`] (what is
//! known of one), [`CacheInfo`] (a row of `/proc/slabinfo`).
//!
//! An object is a place in RAM with a kernel logical address; what Linux keeps in it is kept by us
//! elsewhere, and its bytes are not used. Objects are taken only on a machine whose kernel has an
//! address space ([`Memory::with_kernel`]). A slab without objects goes back at once.
//!
//! Differs from Linux: there are no per-CPU slabs, so that every free object is counted as such,
//! and nothing is kept for the next allocation.
//!
//! Invariants
//! 1. Frames of state `Slab` are exactly those of the slabs and of the large blocks.
//! 2. A slab has between one and all of its objects in use; with fewer than all it is in `partial`.
//!
//! # Source
//! Linux 6.12 `mm/slub.c`, `mm/slab_common.c`; semantics SLAB-1.

mod cache;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use machine::{Frame, Machine, PAGE_BYTES, PhysAddr};

pub use cache::Cache;

use crate::buddy::Mobility;
use crate::error::MmError;
use crate::folio::{FrameState, Owner};
use crate::memory::Memory;
use crate::memory::block::order_of;

/// The most bytes of one `kmalloc` (SLAB-1).
const KMALLOC_BYTES_MAX: u64 = 4 << 20;
/// Bits of a word of the bitmap.
const WORD_BITS: u32 = 64;

/// Objects of one cache that somebody has.
#[derive(Debug)]
pub struct Objects {
    cache: Cache,
    /// The object taken last at the end.
    places: Vec<PhysAddr>,
}

impl Objects {
    /// None yet.
    pub const fn of(cache: Cache) -> Self {
        Self { cache, places: Vec::new() }
    }

    /// How many there are.
    pub const fn count(&self) -> usize {
        self.places.len()
    }

    /// Where each is, the oldest first.
    pub fn places(&self) -> &[PhysAddr] {
        &self.places
    }
}

/// One slab, as [`Memory::slab_of`] finds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slab {
    /// The cache, or `None` for a block of `kmalloc` above 8 KiB.
    pub cache: Option<Cache>,
    /// Its first frame.
    pub first: Frame,
    /// Its frames.
    pub frame_count: u64,
    /// Objects in use.
    pub used_count: u64,
    /// Objects that fit.
    pub object_count: u64,
}

/// A row of `/proc/slabinfo`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CacheInfo {
    /// Which cache.
    pub cache: Cache,
    /// Objects in use.
    pub used_count: u64,
    /// Objects for which there is room.
    pub object_count: u64,
    /// Objects of a slab of the usual order.
    pub objects_per_slab: u64,
    /// Frames of a slab of the usual order.
    pub frames_per_slab: u64,
    /// Slabs.
    pub slab_count: u64,
    /// Frames of all slabs.
    pub frame_count: u64,
}

/// Which objects of a slab are in use.
#[derive(Debug)]
struct Places {
    order: u32,
    object_count: u32,
    used_count: u32,
    /// One bit for each object; set: in use.
    words: Vec<u64>,
}

impl Places {
    fn new(cache: Cache, order: u32) -> Self {
        let object_count = ((PAGE_BYTES << order) / cache.object_bytes()) as u32;
        let words = vec![0; object_count.div_ceil(WORD_BITS) as usize];
        Self { order, object_count, used_count: 0, words }
    }

    /// Takes the first free place of a slab with room.
    fn take(&mut self) -> u32 {
        let at = self.words.iter().position(|&word| word != u64::MAX);
        let at = at.expect("a slab of the list `partial` has room");
        let bit = self.words[at].trailing_ones();
        self.words[at] |= 1 << bit;
        self.used_count += 1;
        at as u32 * WORD_BITS + bit
    }

    /// Whether the place was in use; it is not any more.
    fn give(&mut self, place: u32) -> bool {
        let bit = 1 << (place % WORD_BITS);
        let Some(word) = self.words.get_mut((place / WORD_BITS) as usize) else { return false };
        let was_used = *word & bit != 0;
        *word &= !bit;
        self.used_count -= u32::from(was_used);
        was_used
    }

    const fn is_full(&self) -> bool {
        self.used_count == self.object_count
    }
}

/// The slabs of one cache, by first frame.
#[derive(Debug, Default)]
struct Group {
    slabs: BTreeMap<u64, Places>,
    partial: BTreeSet<u64>,
}

/// The slabs of all caches.
#[derive(Debug)]
pub(crate) struct Slabs {
    groups: Vec<Group>,
    /// Blocks of `kmalloc` above 8 KiB: first frame and order.
    large: BTreeMap<u64, u32>,
}

impl Default for Slabs {
    fn default() -> Self {
        let groups = Cache::ALL.iter().map(|_| Group::default()).collect();
        Self { groups, large: BTreeMap::new() }
    }
}

impl Memory {
    /// Takes or gives objects back until there are `count`, the newest first. Without an address
    /// space of the kernel there are none, and that is right.
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: no frame for one more slab; there are as many as could be had.
    pub fn set_objects(
        &mut self,
        hw: &mut Machine,
        objects: &mut Objects,
        count: usize,
    ) -> Result<(), MmError> {
        if self.kernel.is_none() {
            return Ok(());
        }
        while objects.places.len() > count {
            let Some(place) = objects.places.pop() else { break };
            self.give_object(hw, objects.cache, place);
        }
        while objects.places.len() < count {
            let place = self.take_object(hw, objects.cache);
            objects.places.push(place.ok_or(MmError::NoMemory("no frame for a slab"))?);
        }
        Ok(())
    }

    /// Takes `bytes` bytes that are adjacent in RAM, in lowmem: from the smallest class that has
    /// them, above 8 KiB a block of their own (SLAB-1). `None`: no frame, more than 4 MiB, or the
    /// kernel has no address space.
    pub fn kmalloc(&mut self, hw: &mut Machine, bytes: u64) -> Option<PhysAddr> {
        if bytes > KMALLOC_BYTES_MAX || self.kernel.is_none() {
            return None;
        }
        if let Some(cache) = Cache::of_bytes(bytes) {
            return self.take_object(hw, cache);
        }
        let order = order_of(bytes);
        let first = self.alloc_block(hw, FrameState::Slab, order, Mobility::Unmovable)?;
        for number in 0..1 << order {
            let owner = Owner::Slab { cache: Cache::Kmalloc8k, first };
            self.frames.set_owner(first.wrapping_add(number), owner);
        }
        self.slabs.large.insert(first.number(), order);
        Some(first.start())
    }

    /// Gives bytes of [`Memory::kmalloc`] back.
    ///
    /// # Panics
    /// If nothing was taken at `place`.
    pub fn kfree(&mut self, hw: &mut Machine, place: PhysAddr) {
        if let Some(order) = self.slabs.large.remove(&place.frame().number()) {
            return self.free_block(hw, place.frame(), order);
        }
        match self.frames.owner(place.frame()) {
            Some(Owner::Slab { cache, .. }) => self.give_object(hw, cache, place),
            _ => panic!("{place} is no place of kmalloc"),
        }
    }

    fn take_object(&mut self, hw: &mut Machine, cache: Cache) -> Option<PhysAddr> {
        let partial = &self.slabs.groups[cache as usize].partial;
        let first = match partial.first() {
            Some(&first) => first,
            None => self.grow(hw, cache)?,
        };
        let group = &mut self.slabs.groups[cache as usize];
        let places = group.slabs.get_mut(&first).expect("`partial` names slabs");
        let place = places.take();
        if places.is_full() {
            group.partial.remove(&first);
        }
        Some(Frame::new(first).start().wrapping_add(u64::from(place) * cache.object_bytes()))
    }

    /// One more slab, of the usual order or else the smallest; returns its first frame.
    fn grow(&mut self, hw: &mut Machine, cache: Cache) -> Option<u64> {
        let cpus = self.kernel.as_ref().map_or(1, |kernel| kernel.space().config().cpus);
        let (usual, least) = (cache.order(cpus), cache.least_order());
        let mut take = |order| {
            let first = self.alloc_block(hw, FrameState::Slab, order, cache.mobility());
            first.map(|first| (first, order))
        };
        let (first, order) = match take(usual) {
            None if least < usual => take(least)?,
            taken => taken?,
        };
        for number in 0..1 << order {
            self.frames.set_owner(first.wrapping_add(number), Owner::Slab { cache, first });
        }
        let group = &mut self.slabs.groups[cache as usize];
        group.slabs.insert(first.number(), Places::new(cache, order));
        group.partial.insert(first.number());
        Some(first.number())
    }

    fn give_object(&mut self, hw: &mut Machine, cache: Cache, place: PhysAddr) {
        let Some(Owner::Slab { first, .. }) = self.frames.owner(place.frame()) else {
            panic!("{place} is in no slab")
        };
        let group = &mut self.slabs.groups[cache as usize];
        let places = group.slabs.get_mut(&first.number()).expect("the frame says so");
        let index = place.offset_from(first.start()) / cache.object_bytes();
        let was_used = places.give(index as u32);
        assert!(was_used, "an object of {} is given back twice", cache.name());
        group.partial.insert(first.number());
        if places.used_count == 0 {
            let order = places.order;
            group.slabs.remove(&first.number());
            group.partial.remove(&first.number());
            self.free_block(hw, first, order);
        }
    }

    /// The slab that a frame belongs to; `None` if it belongs to none.
    pub fn slab_of(&self, frame: Frame) -> Option<Slab> {
        if frame.number() >= self.frames.len() as u64 {
            return None;
        }
        let Some(Owner::Slab { cache, first }) = self.frames.owner(frame) else { return None };
        if let Some(&order) = self.slabs.large.get(&first.number()) {
            let frame_count = 1 << order;
            return Some(Slab { cache: None, first, frame_count, used_count: 1, object_count: 1 });
        }
        let places = self.slabs.groups[cache as usize].slabs.get(&first.number())?;
        Some(Slab {
            cache: Some(cache),
            first,
            frame_count: 1 << places.order,
            used_count: places.used_count.into(),
            object_count: places.object_count.into(),
        })
    }

    /// Whether an object of a cache is in use at a place.
    #[cfg(test)]
    pub(crate) fn is_object(&self, place: PhysAddr) -> bool {
        let Some(slab) = self.slab_of(place.frame()) else { return false };
        let Some(cache) = slab.cache else { return true };
        let places = &self.slabs.groups[cache as usize].slabs[&slab.first.number()];
        let index = place.offset_from(slab.first.start()) / cache.object_bytes();
        let word = places.words.get((index / u64::from(WORD_BITS)) as usize);
        word.is_some_and(|word| word >> (index % u64::from(WORD_BITS)) & 1 == 1)
    }

    /// Every cache, in the order of [`Cache::ALL`].
    pub fn cache_infos(&self) -> Vec<CacheInfo> {
        let cpus = self.kernel.as_ref().map_or(1, |kernel| kernel.space().config().cpus);
        let info = |cache: Cache| {
            let slabs = &self.slabs.groups[cache as usize].slabs;
            let sum = |of: fn(&Places) -> u64| slabs.values().map(of).sum::<u64>();
            let frames_per_slab = 1 << cache.order(cpus);
            CacheInfo {
                cache,
                used_count: sum(|places| places.used_count.into()),
                object_count: sum(|places| places.object_count.into()),
                objects_per_slab: frames_per_slab * PAGE_BYTES / cache.object_bytes(),
                frames_per_slab,
                slab_count: slabs.len() as u64,
                frame_count: sum(|places| 1 << places.order),
            }
        };
        Cache::ALL.into_iter().map(info).collect()
    }
}

impl Slabs {
    /// Every slab and large block: first frame, frames, and its cache.
    fn all(&self) -> impl Iterator<Item = (Frame, u64, Option<Cache>)> + '_ {
        let slabs = Cache::ALL.into_iter().flat_map(|cache| {
            let slabs = &self.groups[cache as usize].slabs;
            slabs
                .iter()
                .map(move |(&first, places)| (Frame::new(first), 1 << places.order, Some(cache)))
        });
        let large = self.large.iter().map(|(&first, &order)| (Frame::new(first), 1 << order, None));
        slabs.chain(large)
    }

    /// Invariants 1 and 2: calls `note` with every frame of every slab that says that it is one.
    /// Returns a frame that is wrong.
    pub(crate) fn check(
        &self,
        memory: &Memory,
        mut note: impl FnMut(Frame) -> bool,
    ) -> Result<(), Frame> {
        for (first, frame_count, cache) in self.all() {
            for number in 0..frame_count {
                let frame = first.wrapping_add(number);
                let owner = Owner::Slab { cache: cache.unwrap_or(Cache::Kmalloc8k), first };
                if memory.frames.owner(frame) != Some(owner) || !note(frame) {
                    return Err(frame);
                }
            }
        }
        for group in &self.groups {
            for (&first, places) in &group.slabs {
                let used: u32 = places.words.iter().map(|word| word.count_ones()).sum();
                let has_room = group.partial.contains(&first);
                if used != places.used_count || used == 0 || has_room == places.is_full() {
                    return Err(Frame::new(first));
                }
            }
            if let Some(&odd) = group.partial.iter().find(|first| !group.slabs.contains_key(first))
            {
                return Err(Frame::new(odd));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
