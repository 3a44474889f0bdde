//! Pages on their way into the cache: frames are found, pagers fill them, devices take their time.
//!
//! A request for neighbouring pages is one request of the device, which serves one after the
//! other. Whoever needs a page waits for the request that brings it; pages read ahead come while
//! the program goes on.

use alloc::vec::Vec;

use machine::{Event, Frame, Machine, PAGE_SHIFT};

use super::{Object, PageInError, Source, Warmth};
use crate::backing::{FileKind, ObjectId};
use crate::folio::{FrameState, Owner};
use crate::memory::{Content, Memory};
use crate::replacement::PageKind;
use crate::swap::{LATENCIES, Latency};

/// The device of all files, as far as time goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Device {
    latency: Latency,
    /// When it has served what was asked so far.
    free_ns: u64,
}

impl Default for Device {
    fn default() -> Self {
        Self { latency: LATENCIES[0], free_ns: 0 }
    }
}

/// Pages that a request under way brings: their frames are in the cache already, but whoever uses
/// them waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flight {
    first: u64,
    end: u64,
    done_ns: u64,
}

/// What came of an attempt to bring pages.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Brought {
    /// Pages that are in the cache now and were not.
    pub(super) pages: u64,
    /// Of those, pages that the device had to read.
    pub(super) device_pages: u64,
}

impl Memory {
    /// Sets what of the files is in RAM at the start, and what their device costs in virtual time.
    /// To be called before the first object is added.
    pub fn set_page_cache(&mut self, warmth: Warmth, device: Latency) {
        self.cache.warmth = warmth;
        self.cache.device.latency = device;
    }

    /// The frame of page `index`, brought alone from the pager if it is not in RAM.
    ///
    /// # Errors
    /// On error nothing has changed.
    pub(crate) fn page_in(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        index: u64,
    ) -> Result<(Frame, Source), PageInError> {
        let object = self.cache.object(id).ok_or(PageInError::BeyondEnd)?;
        if index >= object.page_count() {
            return Err(PageInError::BeyondEnd);
        }
        if let Some(frame) = object.pages.get(index) {
            self.await_page(hw, id, index);
            return Ok((frame, Source::Cache));
        }
        if let Some(place) = self.cache.swapped(id, index) {
            return self.swap_in_object(hw, (id, index), place);
        }
        let brought = self.bring(hw, id, (index, 1))?;
        self.wait_for_device(hw, brought.device_pages);
        let frame = self.cache.get(id, index).ok_or(PageInError::NoFrame)?;
        let is_read = brought.device_pages > 0;
        Ok((frame, if is_read { Source::Device } else { Source::Cache }))
    }

    /// Brings `count` pages from `first` on, none of which is in RAM or beyond the end. Takes no
    /// time. Fewer came than asked for if frames ran short: only the first may take the place of
    /// another page.
    ///
    /// # Errors
    /// Not even one came; nothing has changed.
    pub(super) fn bring(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (first, count): (u64, u64),
    ) -> Result<Brought, PageInError> {
        let mut brought = Brought::default();
        let state = self.cache.object(id).ok_or(PageInError::BeyondEnd)?.state();
        let mut spare = None;
        while brought.pages < count
            && (brought.pages == 0 || spare.is_some() || self.may_read_ahead())
        {
            let left = count - brought.pages;
            let Some((frame, length)) = self.take_frames(hw, state, left, &mut spare) else {
                break;
            };
            let index = first + brought.pages;
            match self.fill_frames(hw, id, (index, length), frame) {
                Ok(device_pages) => brought.device_pages += device_pages,
                Err(error) => {
                    spare.into_iter().for_each(|frame| self.free(hw, frame));
                    return if brought.pages == 0 { Err(error) } else { Ok(brought) };
                }
            }
            brought.pages += length;
        }
        if brought.pages == 0 {
            return Err(PageInError::NoFrame);
        }
        if state == FrameState::File {
            let event = Event::PageIn {
                object: id.0,
                first,
                pages: brought.pages as u32,
                device_pages: brought.device_pages as u32,
            };
            hw.log.push(hw.time(), event);
        }
        Ok(brought)
    }

    /// Brings the pages of `first..end` that are at hand and not in RAM, as far as there are frames
    /// to spare.
    pub(crate) fn bring_at_hand(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (first, end): (u64, u64),
    ) {
        let Some(object) = self.cache.object(id) else { return };
        if object.kind != FileKind::Regular || first >= end || !self.may_read_ahead() {
            return;
        }
        for (first, count) in object.missing_parts(first, end) {
            let mut at = first;
            while at < first + count {
                let Some(object) = self.cache.object(id) else { return };
                let at_hand = object.missing_at_hand(at, first + count);
                if at_hand > 0 && self.bring(hw, id, (at, at_hand)).is_err() {
                    return;
                }
                at += at_hand.max(1);
            }
        }
    }

    /// Takes up to `count` neighbouring frames; one that is no neighbour is left in `spare` for the
    /// next time. Returns the first, and how many.
    fn take_frames(
        &mut self,
        hw: &mut Machine,
        state: FrameState,
        count: u64,
        spare: &mut Option<Frame>,
    ) -> Option<(Frame, u64)> {
        let first = spare.take().or_else(|| self.alloc(hw, state, Content::Any))?;
        let mut length = 1;
        while length < count && self.may_read_ahead() {
            let Some(frame) = self.alloc(hw, state, Content::Any) else { break };
            if frame != first.wrapping_add(length) {
                *spare = Some(frame);
                break;
            }
            length += 1;
        }
        Some((first, length))
    }

    /// Fills neighbouring frames with neighbouring pages and puts them into the cache. Returns how
    /// many of them were on the device.
    ///
    /// # Errors
    /// The pager failed: the frames are free again.
    fn fill_frames(
        &mut self,
        hw: &mut Machine,
        id: ObjectId,
        (index, length): (u64, u64),
        first: Frame,
    ) -> Result<u64, PageInError> {
        let bytes = hw.ram.slice_mut(first.start(), length << PAGE_SHIFT);
        let filled = self.cache.object_mut(id).map(|object| {
            let inside = object.pager.size_bytes().saturating_sub(index << PAGE_SHIFT);
            let filled = object.pager.fill_run(index, bytes);
            if let Some(beyond) = bytes.get_mut(usize::try_from(inside).unwrap_or(usize::MAX)..) {
                beyond.fill(0);
            }
            filled
        });
        if !matches!(filled, Some(Ok(()))) {
            (0..length).rev().for_each(|i| self.free(hw, first.wrapping_add(i)));
            return Err(PageInError::Pager);
        }
        let mut device_pages = 0;
        for i in 0..length {
            let source = self.insert_page(id, index + i, first.wrapping_add(i));
            device_pages += u64::from(source == Source::Device);
        }
        let is_file = self.frames.state(first) == FrameState::File;
        self.events.pages_read += if is_file { length } else { 0 };
        self.events.device_pages_read += device_pages;
        Ok(device_pages)
    }

    /// Puts a frame with the bytes of page `index` into the cache. Returns where the page was.
    pub(super) fn insert_page(&mut self, id: ObjectId, index: u64, frame: Frame) -> Source {
        let Some(object) = self.cache.object_mut(id) else { return Source::Cache };
        let is_read = object.is_on_device(index);
        let shadow = object.shadows.remove(&index);
        object.cold.remove(index..=index);
        object.pages.insert(index, frame);
        self.frames.set_owner(frame, Owner::Cached { object: id, index });
        self.frames.hold(frame);
        if let Some(shadow) = shadow {
            self.note_refault(frame, PageKind::File, shadow);
        }
        if is_read { Source::Device } else { Source::Cache }
    }

    /// Lets the device read `pages` pages, and the time pass until it has.
    pub(super) fn wait_for_device(&mut self, hw: &mut Machine, pages: u64) {
        if pages > 0 {
            let done_ns = self.start_request(hw, pages);
            self.wait_until(hw, done_ns);
        }
    }

    /// Lets the time pass that somebody waits for the device of files.
    pub(super) fn wait_until(&mut self, hw: &mut Machine, done_ns: u64) {
        let wait_ns = done_ns.saturating_sub(hw.now_ns());
        hw.advance_ns(wait_ns);
        self.events.wait_ns += wait_ns;
    }

    /// Lets the time pass that the device of files takes to read `pages` pages around the cache.
    pub fn wait_for_reads(&mut self, hw: &mut Machine, pages: u64) {
        self.wait_for_device(hw, pages);
    }

    /// Lets the device read pages that nobody waits for yet.
    pub(super) fn start_flight(
        &mut self,
        hw: &Machine,
        id: ObjectId,
        (first, end): (u64, u64),
        device_pages: u64,
    ) {
        if device_pages > 0 {
            let done_ns = self.start_request(hw, device_pages);
            if let Some(object) = self.cache.object_mut(id) {
                object.flights.push(Flight { first, end, done_ns });
            }
        }
    }

    /// When a request for `pages` neighbouring pages that starts now will be done.
    fn start_request(&mut self, hw: &Machine, pages: u64) -> u64 {
        let device = &mut self.cache.device;
        let start_ns = device.free_ns.max(hw.now_ns());
        device.free_ns = start_ns.saturating_add(device.latency.read_time_ns(pages));
        device.free_ns
    }

    /// The same of writing.
    pub(super) fn start_write(&mut self, hw: &Machine, pages: u64) -> u64 {
        let device = &mut self.cache.device;
        let start_ns = device.free_ns.max(hw.now_ns());
        device.free_ns = start_ns.saturating_add(device.latency.write_time_ns(pages));
        device.free_ns
    }

    /// Lets the time pass until page `index`, which is in the cache, has been read.
    #[inline]
    pub(super) fn await_page(&mut self, hw: &mut Machine, id: ObjectId, index: u64) {
        let Some(object) = self.cache.object_mut(id) else { return };
        if let Some(done_ns) = object.take_flight(hw.now_ns(), index) {
            self.wait_until(hw, done_ns);
        }
    }
}

impl Object {
    /// When the request under way that brings page `index` is done, if there is one. Those that
    /// are done then are forgotten.
    fn take_flight(&mut self, now_ns: u64, index: u64) -> Option<u64> {
        if self.flights.is_empty() {
            return None;
        }
        let brings = |flight: &&Flight| (flight.first..flight.end).contains(&index);
        let done_ns = self.flights.iter().find(brings).map(|flight| flight.done_ns);
        let until_ns = done_ns.unwrap_or(0).max(now_ns);
        self.flights.retain(|flight| flight.done_ns > until_ns);
        done_ns
    }

    /// The parts of `first..end` that are neither in RAM nor beyond the end, as first and count.
    pub(super) fn missing_parts(&self, first: u64, end: u64) -> Vec<(u64, u64)> {
        let end = end.min(self.page_count());
        let mut parts = Vec::new();
        let mut at = first;
        while at < end {
            let missing = self.pages.missing_from(at, end - at);
            if missing > 0 {
                parts.push((at, missing));
            }
            at += missing;
            while at < end && self.pages.get(at).is_some() {
                at += 1;
            }
        }
        parts
    }
}
