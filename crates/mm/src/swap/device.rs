//! The swap areas in use: slots, bytes, and pages that are in RAM and in a slot at once.
//!
//! ```text
//!  entry ──names──► slot ──cached──► frame
//! ```
//! The swap cache holds a page that came back while other entries still name its slot, or that was
//! read ahead. The last entry that lets go of the slot also ends its place in the cache.
//!
//! A device does one thing at a time: a read waits for writes that were handed to it before. A pool
//! of compressed pages may stand in front of all of them (`zswap.rs`).
//!
//! Invariants
//! 1. The count of a slot is the number of leaf entries that name it, or 1 for an object whose page
//!    is there.
//! 2. A cached frame is private, held once for the cache, and no entry allows storing to it.
//! 3. Every used slot has a tenant.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cmp::Reverse;
use core::fmt;

use machine::{Frame, Machine, PAGE_BYTES};

use super::area::{AreaId, SwapArea, SwapPlace, SwapSlot};
use super::cache::SwapUsage;
use super::latency::{Latency, PACKING};
use super::readahead::History;
use super::store::{SwapError, SwapStore};
use super::zswap::Zswap;
use crate::error::MmError;
use crate::folio::Owner;
use crate::reclaim::Shadow;

/// The most areas (`MAX_SWAPFILES` with all options; SWAP-1).
const AREAS_MAX: usize = 23;

/// Whose page a slot holds, and when it left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Tenant {
    /// To what the page belongs.
    pub(crate) owner: Owner,
    /// Its age when it left.
    pub(crate) shadow: Shadow,
}

/// One area with its device.
struct Area {
    slots: SwapArea,
    store: Box<dyn SwapStore>,
    latency: Latency,
    priority: i16,
    /// Number of the last page written, of all areas: equal priorities take turns.
    last_turn: u64,
    tenants: BTreeMap<SwapSlot, Tenant>,
    /// Pages written since the device was last told.
    unsent: u64,
    /// When the device is done with what it was told, in virtual time.
    busy_until_ns: u64,
    /// Whether new pages may come: not while it is emptied.
    is_open: bool,
}

/// What is known of an area.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AreaInfo {
    /// Its number.
    pub id: AreaId,
    /// How full it is.
    pub usage: SwapUsage,
    /// Areas with a higher one are filled first.
    pub priority: i16,
}

/// All areas.
#[derive(Default)]
pub(crate) struct Swap {
    areas: Vec<Option<Area>>,
    turn: u64,
    /// How many areas got a priority of their own.
    automatic_count: i16,
    /// What faults taught on pages of areas that turn.
    pub(crate) history: History,
    cached: BTreeMap<SwapPlace, Frame>,
    places: BTreeMap<Frame, SwapPlace>,
    /// Compressed pages on their way to a device, or none.
    pub(super) zswap: Zswap,
    /// Pages that were compressed, and that were brought back from there, since time last passed.
    packed: u64,
    unpacked: u64,
    /// Frames of the machine that compressed pages take.
    pub(super) pool: Vec<Frame>,
    /// The most that they took.
    pub(super) pool_frames_max: u64,
}

impl fmt::Debug for Swap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Swap").field("areas", &self.areas.iter().flatten().count()).finish()
    }
}

impl Swap {
    /// Adds an area of `slot_count` slots, the header's included. Without a priority it comes after
    /// all that were added before (SWAP-1).
    ///
    /// # Errors
    /// - [`MmError::NotPermitted`]: there are 23 already.
    pub(super) fn add(
        &mut self,
        slot_count: u32,
        store: Box<dyn SwapStore>,
        latency: Latency,
        priority: Option<i16>,
    ) -> Result<AreaId, MmError> {
        let free = self.areas.iter().position(Option::is_none);
        let at = free.unwrap_or(self.areas.len());
        if at >= AREAS_MAX {
            return Err(MmError::NotPermitted);
        }
        let automatic = (-2_i16).saturating_sub(self.automatic_count);
        if priority.is_none() {
            self.automatic_count = self.automatic_count.saturating_add(1);
        }
        let area = Area {
            slots: SwapArea::new(slot_count),
            store,
            latency,
            priority: priority.unwrap_or(automatic),
            last_turn: 0,
            tenants: BTreeMap::new(),
            unsent: 0,
            busy_until_ns: 0,
            is_open: true,
        };
        if at == self.areas.len() {
            self.areas.push(Some(area));
        } else {
            self.areas[at] = Some(area);
        }
        Ok(AreaId(at as u8))
    }

    /// Ends an area that no entry names, and returns its store.
    pub(super) fn remove(&mut self, id: AreaId) -> Option<Box<dyn SwapStore>> {
        let area = self.areas.get_mut(usize::from(id.0))?.take()?;
        debug_assert!(area.slots.used_count() == 0, "entries name slots of the area");
        Some(area.store)
    }

    /// Lets new pages come to an area, or not. False if there is no such area.
    pub(super) fn set_open(&mut self, id: AreaId, is_open: bool) -> bool {
        self.area_mut(id).map(|area| area.is_open = is_open).is_some()
    }

    fn area(&self, id: AreaId) -> Option<&Area> {
        self.areas.get(usize::from(id.0))?.as_ref()
    }

    fn area_mut(&mut self, id: AreaId) -> Option<&mut Area> {
        self.areas.get_mut(usize::from(id.0))?.as_mut()
    }

    /// Every area, by number.
    pub(super) fn infos(&self) -> impl Iterator<Item = AreaInfo> + '_ {
        (0..).zip(&self.areas).filter_map(|(number, area)| {
            let (id, area) = (AreaId(number), area.as_ref()?);
            let usage = SwapUsage {
                total: area.slots.usable_count().into(),
                used: area.slots.used_count().into(),
                cached: self.cached.keys().filter(|place| place.area == id).count() as u64,
                held_bytes: area.store.held_bytes(),
            };
            Some(AreaInfo { id, usage, priority: area.priority })
        })
    }

    /// Every slot of an area that is used.
    pub(super) fn used_places(&self, id: AreaId) -> Vec<SwapPlace> {
        let slots = self.area(id).into_iter().flat_map(|area| area.slots.used());
        slots.map(|slot| SwapPlace { area: id, slot }).collect()
    }

    /// Slots of all areas.
    pub(crate) fn slot_count(&self) -> u64 {
        self.areas.iter().flatten().map(|area| u64::from(area.slots.usable_count())).sum()
    }

    /// Whether another page can leave.
    pub(crate) fn has_room(&self) -> bool {
        self.areas.iter().flatten().any(Area::has_room)
    }

    /// The frame that holds the page of a slot, if it is in RAM.
    pub(crate) fn cached(&self, place: SwapPlace) -> Option<Frame> {
        self.cached.get(&place).copied()
    }

    /// The slot of a page in the swap cache.
    pub(crate) fn slot_of(&self, frame: Frame) -> Option<SwapPlace> {
        self.places.get(&frame).copied()
    }

    /// Notes that `frame` holds the page of a slot.
    pub(crate) fn cache(&mut self, place: SwapPlace, frame: Frame) {
        self.cached.insert(place, frame);
        self.places.insert(frame, place);
    }

    /// Forgets what frame holds the page of a slot, and returns it.
    pub(crate) fn uncache(&mut self, place: SwapPlace) -> Option<Frame> {
        let frame = self.cached.remove(&place)?;
        self.places.remove(&frame);
        Some(frame)
    }

    /// Every page of the swap cache.
    pub(crate) fn iter_cached(&self) -> impl Iterator<Item = (SwapPlace, Frame)> + '_ {
        self.cached.iter().map(|(&place, &frame)| (place, frame))
    }

    /// Writes a page to a slot of its own, with one user: of the area of the highest priority that
    /// has room and whose device takes it. `None` if there is none (SWAP-6).
    pub(crate) fn write(&mut self, page: &[u8], tenant: Tenant) -> Option<SwapPlace> {
        let mut order: Vec<usize> = (0..self.areas.len()).collect();
        order.sort_by_key(|&at| {
            self.areas[at].as_ref().map(|area| (Reverse(area.priority), area.last_turn))
        });
        self.turn += 1;
        for at in order {
            let Some(area) = self.areas[at].as_mut().filter(|area| area.has_room()) else {
                continue;
            };
            let Some(slot) = area.slots.alloc() else { continue };
            let place = SwapPlace { area: AreaId(at as u8), slot };
            if self.zswap.keep(place, page) {
                self.packed += 1;
            } else if area.store.write(slot, page).is_ok() {
                area.unsent += 1;
            } else {
                area.slots.release(slot);
                continue;
            }
            area.last_turn = self.turn;
            area.tenants.insert(slot, tenant);
            self.write_back();
            return Some(place);
        }
        None
    }

    /// Sends the oldest pages of the pool to their devices until it has room again. A page that its
    /// device does not take stays.
    fn write_back(&mut self) {
        let mut page = [0; PAGE_BYTES as usize];
        while let Some(place) = self.zswap.surplus() {
            let is_whole = self.zswap.read(place, &mut page) == Some(true);
            let area = self.areas.get_mut(usize::from(place.area.0)).and_then(Option::as_mut);
            let Some(area) = area.filter(|_| is_whole) else { return };
            if area.store.write(place.slot, &page).is_err() {
                return;
            }
            area.unsent += 1;
            self.zswap.remove(place);
            self.zswap.written_back += 1;
        }
    }

    /// Frames of the machine that compressed pages need.
    pub(super) fn pool_frames_wanted(&self) -> u64 {
        let stores = self.areas.iter().flatten().map(|area| area.store.ram_frames());
        stores.sum::<u64>() + self.zswap.usage().frames
    }

    /// Frames of the machine that compressed pages take.
    pub(crate) fn pool_frames(&self) -> impl Iterator<Item = Frame> + '_ {
        self.pool.iter().copied()
    }

    /// Writes other bytes to a slot that is used.
    ///
    /// # Errors
    /// The device failed; the page is anything then.
    pub(crate) fn rewrite(&mut self, place: SwapPlace, page: &[u8]) -> Result<(), SwapError> {
        let error = SwapError::Io { slot: place.slot };
        self.zswap.remove(place);
        let area = self.area_mut(place.area).ok_or(error)?;
        area.unsent += 1;
        area.store.write(place.slot, page)
    }

    /// Tells the devices of what was written, in one request each. Who needs the frames at once
    /// waits until they are done.
    pub(crate) fn finish_writes(&mut self, hw: &mut Machine, is_waited_for: bool) {
        hw.advance_ns(PACKING.write_time_ns(core::mem::take(&mut self.packed)));
        for area in self.areas.iter_mut().flatten().filter(|area| area.unsent > 0) {
            let time_ns = area.latency.write_time_ns(core::mem::take(&mut area.unsent));
            let start_ns = area.busy_until_ns.max(hw.now_ns());
            area.busy_until_ns = start_ns.saturating_add(time_ns);
            if is_waited_for || area.latency.is_work() {
                hw.advance_ns(area.busy_until_ns.saturating_sub(hw.now_ns()));
            }
        }
    }

    /// Lets the time pass that one request for `pages` pages takes.
    pub(super) fn wait_for_read(&mut self, hw: &mut Machine, id: AreaId, pages: u64) {
        let unpacked = core::mem::take(&mut self.unpacked);
        hw.advance_ns(PACKING.read_time_ns(unpacked));
        let pages = pages.saturating_sub(unpacked);
        let Some(area) = self.area_mut(id).filter(|_| pages > 0) else { return };
        let start_ns = area.busy_until_ns.max(hw.now_ns());
        area.busy_until_ns = start_ns.saturating_add(area.latency.read_time_ns(pages));
        hw.advance_ns(area.busy_until_ns.saturating_sub(hw.now_ns()));
    }

    /// Reads the page of a slot.
    ///
    /// # Errors
    /// Those of the store; also if there is no such area.
    pub(crate) fn read(&mut self, place: SwapPlace, page: &mut [u8]) -> Result<(), SwapError> {
        let error = SwapError::Io { slot: place.slot };
        if let Some(is_whole) = self.zswap.read(place, page) {
            self.zswap.loaded += 1;
            self.unpacked += 1;
            return if is_whole { Ok(()) } else { Err(SwapError::Corrupt { slot: place.slot }) };
        }
        self.area_mut(place.area).ok_or(error)?.store.read(place.slot, page)
    }

    /// Whether pages of an area come back alone (SWAP-5).
    pub(crate) fn is_synchronous(&self, id: AreaId) -> bool {
        self.area(id).is_some_and(|area| area.latency.is_work())
    }

    /// Whether neighbours on the device are read ahead, not those in the address space.
    pub(crate) fn is_rotating(&self, id: AreaId) -> bool {
        self.area(id).is_some_and(|area| area.latency.is_rotating)
    }

    /// Whose page a slot holds.
    pub(crate) fn tenant(&self, place: SwapPlace) -> Option<Tenant> {
        self.area(place.area)?.tenants.get(&place.slot).copied()
    }

    /// Notes anew when the page of a slot left.
    pub(crate) fn set_shadow(&mut self, place: SwapPlace, shadow: Shadow) {
        let tenants = self.area_mut(place.area).map(|area| &mut area.tenants);
        if let Some(tenant) = tenants.and_then(|tenants| tenants.get_mut(&place.slot)) {
            tenant.shadow = shadow;
        }
    }

    /// How many entries name a slot.
    pub(crate) fn use_count(&self, place: SwapPlace) -> u64 {
        self.area(place.area).map_or(0, |area| area.slots.use_count(place.slot))
    }

    /// One entry more names a slot.
    pub(crate) fn retain(&mut self, place: SwapPlace) {
        if let Some(area) = self.area_mut(place.area) {
            area.slots.retain(place.slot);
        }
    }

    /// One entry less names a slot. Returns true if none is left: the slot is free, its bytes are
    /// gone.
    pub(crate) fn release(&mut self, place: SwapPlace) -> bool {
        let Some(area) = self.area_mut(place.area) else { return false };
        let is_last = area.slots.release(place.slot);
        if is_last {
            area.tenants.remove(&place.slot);
            if !self.zswap.remove(place) {
                self.discard(place);
            }
        }
        is_last
    }

    /// Forgets the bytes of a slot: who reads it before it is written again gets an error.
    pub(crate) fn discard(&mut self, place: SwapPlace) {
        if let Some(area) = self.area_mut(place.area) {
            area.store.discard(place.slot);
        }
    }

    /// Whether slots and tenants agree with each other and with invariant 3.
    pub(crate) fn check(&self) -> Result<(), &'static str> {
        for area in self.areas.iter().flatten() {
            area.slots.check()?;
            if !area.slots.used().eq(area.tenants.keys().copied()) {
                return Err("a used swap slot has no tenant, or a free one has");
            }
        }
        if self.zswap.places().any(|place| self.tenant(place).is_none()) {
            return Err("a compressed page is that of a free swap slot");
        }
        let has_frames = self.pool.len() as u64 >= self.pool_frames_wanted();
        if has_frames { Ok(()) } else { Err("compressed pages take more than their frames") }
    }

    /// Slots of all areas that entries name.
    pub(crate) fn used_count(&self) -> u64 {
        self.areas.iter().flatten().map(|area| u64::from(area.slots.used_count())).sum()
    }
}

impl Area {
    fn has_room(&self) -> bool {
        self.is_open && self.slots.used_count() < self.slots.usable_count()
    }
}
