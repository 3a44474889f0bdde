//! Pages that need not be kept (`MADV_FREE`), and pages that programs say are cold.
//!
//! A lazily freed page lies with the pages of files, wherever it came from: it leaves as a clean
//! one does, without I/O. A store makes its entry dirty again: then it is a private page as before.
//!
//! # Source
//! Linux 6.12 `mm/swap.c:lru_lazyfree`, `mm/rmap.c:try_to_unmap_one`, `mm/madvise.c`; semantics
//! LRU-5, section 9.

use alloc::vec::Vec;

use machine::{Frame, Machine, PhysAddr, Pte};

use super::Cause;
use super::lru::ListId;
use crate::folio::FrameState;
use crate::memory::Memory;
use crate::page_table::{LOCKED, SPECIAL};

impl Memory {
    /// Marks the private page that `pte` names as one that need not be kept, if no other entry and
    /// nothing else uses it. Its entry must lose its dirty bit then.
    pub(crate) fn mark_lazy(&mut self, pte: Pte) -> bool {
        let frame = pte.frame();
        let is_own = !pte.contains(SPECIAL)
            && self.frames.state(frame) == FrameState::Anon
            && self.frames.has_one_user(frame);
        if !is_own {
            return false;
        }
        if !self.frames.is_lazy(frame) {
            self.events.lazily_freed += 1;
        }
        self.frames.set_lazy(frame);
        self.frames.clear_dirty(frame);
        self.frames.note_referenced(frame, false);
        self.move_to(frame, ListId::InactiveFile);
        true
    }

    /// Whether the lazily freed page was stored to after all.
    pub(super) fn is_stored_to(&self, hw: &Machine, frame: Frame) -> bool {
        let geometry = hw.geometry();
        let mut entries = self.entries.of(frame);
        self.frames.is_dirty(frame) || entries.any(|at| geometry.load(&hw.ram, at).is_dirty())
    }

    /// Makes a lazily freed page one that is kept.
    pub(super) fn keep_lazy(&mut self, frame: Frame) {
        self.frames.clear_lazy(frame);
        self.reclaim.lru.remove(frame.number() as u32);
        if self.reclaim.lists_anon {
            self.reclaim.lru.push(frame.number() as u32, ListId::ActiveAnon);
        }
    }

    /// Gives a lazily freed page up: its entries are as if it had never been touched.
    pub(super) fn drop_lazy(&mut self, hw: &mut Machine, frame: Frame) -> bool {
        let entries: Vec<PhysAddr> = self.entries.of(frame).collect();
        for at in entries {
            self.unmap_entry(hw, at, Pte::EMPTY);
        }
        self.events.lazily_dropped += 1;
        self.free(hw, frame);
        true
    }

    /// Moves a page that only one entry names to the end of its inactive list, as if it had not
    /// been used for long (`MADV_COLD`).
    pub(crate) fn make_cold(&mut self, hw: &mut Machine, pte: Pte) {
        let Some(frame) = self.advisable(pte) else { return };
        let _use_is_forgotten = self.take_references(hw, frame);
        self.frames.note_referenced(frame, false);
        if self.reclaim.lru.contains(frame.number() as u32) {
            let list = self.reclaim.first_list(self.frames.state(frame));
            self.events.deactivated += 1;
            self.reclaim
                .lru
                .move_to_back(frame.number() as u32, list.unwrap_or(ListId::InactiveFile));
        }
    }

    /// Takes a page that only one entry names out of RAM, if that is possible (`MADV_PAGEOUT`).
    pub(crate) fn page_out(&mut self, hw: &mut Machine, pte: Pte) {
        let Some(frame) = self.advisable(pte) else { return };
        let holds = u32::from(self.frames.state(frame) != FrameState::Anon);
        let is_listed = self.reclaim.lru.contains(frame.number() as u32);
        if !is_listed || self.frames.hold_count(frame) != holds {
            return;
        }
        let is_dropped = if self.frames.is_lazy(frame) {
            !self.is_stored_to(hw, frame) && self.drop_lazy(hw, frame)
        } else {
            self.evict(hw, frame)
        };
        self.events.stolen += u64::from(is_dropped);
    }

    /// Lets the program wait for the writes of its [`Memory::page_out`].
    pub(crate) fn finish_page_out(&mut self, hw: &mut Machine) {
        self.finish_writes(hw, Cause::Short);
    }

    /// The frame of a page that advice may touch: one entry names it, and not from a locked VMA.
    fn advisable(&self, pte: Pte) -> Option<Frame> {
        let is_plain = !pte.contains(SPECIAL) && !pte.contains(LOCKED);
        Some(pte.frame()).filter(|&frame| is_plain && self.frames.map_count(frame) == 1)
    }
}
