//! Pages that come back: how long they were away, and whether they should have stayed.
//!
//! ```text
//!   page leaves at age a ──► shadow (a) ──► page comes back at age b: distance b - a
//! ```
//! The age counts pages that left and pages that were activated: what moved the inactive list on.
//! A page that came back after fewer moves than there are pages competing with it would not have
//! left if they had been fewer; the policy may put it on the active list at once.
//!
//! # Source
//! Linux 6.12 `mm/workingset.c:workingset_eviction`, `workingset_refault`; semantics LRU-6.

use machine::Frame;

use super::lru::ListId;
use crate::memory::Memory;
use crate::replacement::PageKind;

/// What is remembered of a page that left RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shadow {
    /// The age when it left.
    age: u64,
    /// Whether it was in use before.
    is_workingset: bool,
}

impl Memory {
    /// Notes that the page in `frame` leaves RAM now.
    pub(crate) fn note_eviction(&mut self, frame: Frame) -> Shadow {
        let age = self.reclaim.age;
        self.reclaim.age += 1;
        Shadow { age, is_workingset: self.frames.is_workingset(frame) }
    }

    /// Notes that a page of `kind` is back, in `frame`, and activates it if the policy says so.
    pub(crate) fn note_refault(&mut self, frame: Frame, kind: PageKind, shadow: Shadow) {
        let distance = self.reclaim.age.wrapping_sub(shadow.age);
        let others = self.competitors(kind);
        let is_kept = self.reclaim.policy.activates_refault(distance, others);
        let events = &mut self.events;
        let (refaults, activated, restored) = match kind {
            PageKind::Anon => (
                &mut events.refaults_anon,
                &mut events.workingset_activated_anon,
                &mut events.workingset_restored_anon,
            ),
            PageKind::File => (
                &mut events.refaults,
                &mut events.workingset_activated_file,
                &mut events.workingset_restored_file,
            ),
        };
        *refaults += 1;
        if !is_kept {
            return;
        }
        *activated += 1;
        if shadow.is_workingset {
            *restored += 1;
            self.frames.set_workingset(frame);
            self.reclaim.note_cost(kind, 1);
        }
        self.reclaim.age += 1;
        self.move_to(frame, self.lists_of(kind).1);
    }

    /// The pages that a page of `kind` competes with for frames.
    fn competitors(&self, kind: PageKind) -> u64 {
        let count = |list| self.reclaim.lru.count(list);
        let files = count(ListId::ActiveFile);
        let others = match kind {
            PageKind::File => count(ListId::InactiveAnon),
            PageKind::Anon => count(ListId::InactiveFile),
        };
        if self.can_swap() {
            files + count(ListId::ActiveAnon) + others
        } else if kind == PageKind::Anon {
            files + others
        } else {
            files
        }
    }
}
