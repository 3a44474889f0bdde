//! Advice and locks: what may be gone, and what has to stay in RAM.

use machine::{Access, PAGE_BYTES};
use mm::ops::{Advice, LockMode, madvise, mlock, munlock};
use mm::{FrameState, MmError};

use crate::world::{FIRST, PAGE, World, at};

/// Advice that changes no content.
const HARMLESS: [Advice; 3] = [Advice::Cold, Advice::PageOut, Advice::WillNeed];

impl World {
    pub(crate) fn step_advise(&mut self) {
        let (first, count) = self.range();
        let advice = HARMLESS[self.random.below(3) as usize];
        let range = (at(first), count * PAGE_BYTES);
        let done = madvise(&mut self.mm, &mut self.memory, &mut self.hw, range, advice);
        let mapped = |page: &u64| self.pages.get(page);
        let has_hole = (first..first + count).any(|page| mapped(&page).is_none());
        let is_locked = (first..first + count).any(|page| {
            advice != Advice::WillNeed && mapped(&page).is_some_and(|model| model.is_locked)
        });
        match done {
            Ok(()) => assert!(!has_hole && !is_locked),
            Err(MmError::NoMemory(_)) => assert!(has_hole && !is_locked),
            Err(MmError::InvalidArgument(_)) => assert!(is_locked),
            other => panic!("{advice:?}: {other:?}"),
        }
    }

    /// `MADV_FREE` of pages that have content, if there are some.
    pub(crate) fn step_free(&mut self) {
        let from = FIRST + self.random.below(self.count);
        let mut own = self.pages.range(from..).filter(|(_, model)| {
            model.copy.is_some() && model.file.is_none() && !model.is_locked && !model.is_lazy
        });
        let Some((&first, _)) = own.next() else { return };
        let count = (1 + self.random.below(12)).min(FIRST + self.count - first);
        let range = (at(first), count * PAGE_BYTES);
        let done = madvise(&mut self.mm, &mut self.memory, &mut self.hw, range, Advice::Free);
        for page in first..first + count {
            let Some(model) = self.pages.get_mut(&page) else {
                assert!(done.is_err(), "there is a hole");
                continue;
            };
            let is_anon = model.file.is_none();
            if !is_anon || model.is_locked {
                assert!(matches!(done, Err(MmError::InvalidArgument(_))), "{done:?}");
                return;
            }
            model.is_lazy = model.copy.is_some();
        }
        if self.random.below(2) == 0 {
            self.use_freed(first, count);
        }
    }

    /// Stores to some pages that were freed lazily, and lets those go that may.
    fn use_freed(&mut self, first: u64, count: u64) {
        for page in (first..first + count).step_by(3) {
            self.access_page(page, Access::Write);
        }
        let range = (at(first), count * PAGE_BYTES);
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let _locked_or_with_holes = madvise(&mut self.mm, memory, hw, range, Advice::PageOut);
        for page in (first..first + count).step_by(2) {
            self.access_page(page, Access::Read);
        }
    }

    pub(crate) fn step_lock(&mut self) {
        let (first, count) = self.range();
        let count = count.min(4);
        if (first..first + count).any(|page| !self.pages.contains_key(&page)) {
            return;
        }
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let bytes = count * PAGE_BYTES;
        let what = self.random.below(4);
        match what {
            0 => {
                let mode = LockMode::Now;
                // The pages are locked even if they cannot be brought (LOCK-2).
                let _what_was_brought = mlock(&mut self.mm, memory, hw, (at(first), bytes), mode);
            }
            1 => mlock(&mut self.mm, memory, hw, (at(first), bytes), LockMode::OnFault).unwrap(),
            _ => munlock(&mut self.mm, memory, hw, at(first), bytes).unwrap(),
        }
        for page in first..first + count {
            let model = self.pages.get_mut(&page).unwrap();
            model.is_locked = what < 2;
            model.was_in_core = false;
            self.note_copy(page);
        }
    }

    /// Locking a private writable page brings it as a store would, with a copy of its own, and so
    /// does making a locked one writable (LOCK-2).
    pub(crate) fn note_copy(&mut self, page: u64) {
        let model = &self.pages[&page];
        let found = self.hw.peek(self.mm.root(), at(page));
        let is_own = found.is_some_and(|(physical, _)| {
            self.memory.frame_state(physical.frame()) == FrameState::Anon
        });
        if let (true, Some((file, page_there)), None) = (is_own, model.file, &model.copy) {
            let bytes = &self.files[file].bytes[page_there * PAGE..(page_there + 1) * PAGE];
            let copy = Some(bytes.to_vec());
            self.pages.get_mut(&page).unwrap().copy = copy;
        }
    }

    /// A locked private page that was mapped is mapped still.
    pub(crate) fn check_locked(&mut self) {
        for (&page, model) in &mut self.pages {
            if !model.is_locked || model.file.is_some() || model.rights.is_empty() {
                model.was_in_core = false;
                continue;
            }
            let is_in_core = self.hw.peek(self.mm.root(), at(page)).is_some();
            assert!(is_in_core || !model.was_in_core, "page {page:#x} is locked and has left");
            model.was_in_core = is_in_core;
        }
    }
}
