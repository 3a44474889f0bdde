//! When dirty pages of files are stored, besides when a program asks for it.
//!
//! By age: every `vm.dirty_writeback_centisecs` of virtual time, files are stored that have been
//! dirty for `vm.dirty_expire_centisecs`; the device works beside the programs, so that takes none
//! of their time. By number: beyond `vm.dirty_background_ratio` of the memory that files could
//! have, whoever writes waits for the device. And at the end of the run, what belongs to the host.
//!
//! Differs from Linux: storing is not spread over time, so a page is never under write-back, and a
//! writer waits from the lower of the two limits on.
//!
//! # Source
//! Linux 6.12 `mm/page-writeback.c`, `fs/fs-writeback.c`; semantics FILE-8.

use std::ops::RangeInclusive;

use machine::PAGE_BYTES;

use crate::Kernel;
use crate::errno::Errno;
use crate::fs::NodeId;

/// Nanoseconds of a hundredth of a second.
const CENTISECOND_NS: u64 = 10_000_000;

/// The limits of dirty pages, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct DirtyLimits {
    /// From here on pages are stored (`nr_dirty_background_threshold`).
    pub(crate) background: u64,
    /// Linux lets nobody write beyond (`nr_dirty_threshold`).
    pub(crate) most: u64,
}

impl Kernel {
    /// Stores what is dirty in `pages` (indexes) of a file, and waits for the device.
    ///
    /// # Errors
    /// `EIO`, `ENOSPC`: what was not stored stays dirty.
    pub(crate) fn store_pages(
        &mut self,
        node: NodeId,
        pages: RangeInclusive<u64>,
    ) -> Result<(), Errno> {
        let Some(object) = self.vfs.object_of(node) else { return Ok(()) };
        let stored = self.memory.write_back(&mut self.hw, object, pages)?;
        self.memory.wait_for_writes(&mut self.hw, stored);
        Ok(())
    }

    /// Stores all files, and asks the host to keep those that are its own.
    ///
    /// # Errors
    /// The first of any file; the others are stored all the same.
    pub(crate) fn store_all(&mut self) -> Result<(), Errno> {
        let mut result = Ok(());
        for object in self.memory.dirty_objects() {
            let Some(node) = self.vfs.node_of_object(object) else { continue };
            let stored = self.store_pages(node, mm::ALL_PAGES).and_then(|()| self.vfs.sync(node));
            result = result.and(stored);
        }
        result
    }

    /// Stores what programs left dirty of the host's own files, when they have ended. Returns how
    /// many pages could not be stored.
    pub(crate) fn store_for_host(&mut self) -> u64 {
        let mut lost_pages = 0;
        for object in self.memory.dirty_objects() {
            if self.vfs.is_stored_on_host(object) {
                let _lost_pages_are_counted =
                    self.memory.write_back(&mut self.hw, object, mm::ALL_PAGES);
                lost_pages += self.memory.object_dirty_pages(object);
            }
        }
        lost_pages
    }

    /// Stores files that have been dirty for long: at `now_ns` it is time to look for some.
    pub(crate) fn store_old(&mut self, now_ns: u64) {
        let interval_ns =
            self.dirty_setting("sys/vm/dirty_writeback_centisecs", 500) * CENTISECOND_NS;
        if interval_ns == 0 {
            self.write_back_ns = now_ns.saturating_add(CENTISECOND_NS);
            return;
        }
        let late_ns = now_ns - self.write_back_ns;
        let wakes = 1 + u32::try_from(late_ns / interval_ns).unwrap_or(u32::MAX - 1);
        self.write_back_ns = now_ns.saturating_add(interval_ns);
        let expiry_ns = self.dirty_setting("sys/vm/dirty_expire_centisecs", 3000) * CENTISECOND_NS;
        let expiry_wakes = u32::try_from(expiry_ns / interval_ns).unwrap_or(u32::MAX);
        self.memory.write_back_old(&mut self.hw, wakes, expiry_wakes);
    }

    /// Stores pages if too many are dirty.
    pub(crate) fn limit_dirty(&mut self) {
        if self.memory.dirty_pages() > 0 {
            let limit = self.dirty_limits().background;
            self.memory.write_back_excess(&mut self.hw, limit);
        }
    }

    /// The limits of dirty pages now.
    pub(crate) fn dirty_limits(&self) -> DirtyLimits {
        let all = self.memory.dirtyable_pages();
        let limit = |bytes: &'static str, ratio: &'static str, percent: u64| match self
            .dirty_setting(bytes, 0)
        {
            0 => all.saturating_mul(self.dirty_setting(ratio, percent)) / 100,
            bytes => bytes.div_ceil(PAGE_BYTES),
        };
        let most = limit("sys/vm/dirty_bytes", "sys/vm/dirty_ratio", 20);
        let background =
            limit("sys/vm/dirty_background_bytes", "sys/vm/dirty_background_ratio", 10);
        DirtyLimits { background: background.min(most), most }
    }

    fn dirty_setting(&self, path: &'static str, first: u64) -> u64 {
        self.settings.get(path).map_or(first, |value| value.unsigned_abs())
    }
}
