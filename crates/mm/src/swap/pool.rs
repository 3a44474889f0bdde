//! Frames of the machine that compressed pages take: those of zram and of zswap.
//!
//! Their bytes lie in memory of the host; the frames are taken so that the machine has as much less
//! RAM as a kernel would.
//!
//! # Source
//! Linux 6.12 `mm/zsmalloc.c:alloc_zspage`, `drivers/block/zram/zram_drv.c:zram_write_page`: there
//! too pages are taken below all marks, and a page for which none can be had stays in RAM.

use machine::{Frame, Machine};

use super::area::SwapPlace;
use super::device::Tenant;
use super::zswap::{Zswap, ZswapUsage};
use crate::folio::FrameState;
use crate::memory::Memory;

impl Memory {
    /// Keeps pages that leave compressed in RAM, up to `percent` of it, before they go to their
    /// device; with 0, none. Call it before pages have left.
    pub fn set_zswap(&mut self, percent: u64) {
        self.swap.zswap = Zswap::new(percent.min(100), self.frames.len() as u64);
    }

    /// The state of the pool of compressed pages in front of the devices.
    pub fn zswap_usage(&self) -> ZswapUsage {
        self.swap.zswap.usage()
    }

    /// The most frames that compressed pages took: zswap's and those of swap areas in RAM.
    pub const fn pool_frames_max(&self) -> u64 {
        self.swap.pool_frames_max
    }

    /// Writes a page to a slot; see `Swap::write`. `None` also if compressed it needs a frame, and
    /// there is none.
    pub(crate) fn write_swap(
        &mut self,
        hw: &mut Machine,
        from: Frame,
        tenant: Tenant,
    ) -> Option<SwapPlace> {
        let page = hw.ram.slice(from.start(), machine::PAGE_BYTES);
        let place = self.swap.write(page, tenant)?;
        if self.settle_pool(hw) {
            self.events.swap_outs += 1;
            return Some(place);
        }
        self.swap.release(place);
        self.settle_pool(hw);
        None
    }

    /// Takes the frames that compressed pages need, and gives back those that they do not. False if
    /// there are too few.
    pub(crate) fn settle_pool(&mut self, hw: &mut Machine) -> bool {
        let wanted = self.swap.pool_frames_wanted();
        while self.swap.pool.len() as u64 > wanted {
            let Some(frame) = self.swap.pool.pop() else { break };
            self.free(hw, frame);
        }
        while (self.swap.pool.len() as u64) < wanted {
            let Some(frame) = self.take_reserve(FrameState::Kernel) else { return false };
            self.swap.pool.push(frame);
        }
        self.swap.pool_frames_max = self.swap.pool_frames_max.max(wanted);
        true
    }
}
