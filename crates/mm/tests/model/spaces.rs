//! Address spaces: they fork, end, take turns, and are stored to from outside.

use machine::Access;
use mm::ops::fork;
use mm::{FaultError, Force, MmId, Partial};

use crate::world::{FIRST, Other, World, at};

/// The most address spaces at one time.
const SPACES_MAX: usize = 3;

impl World {
    /// One more address space, a child of the active one.
    pub(crate) fn step_fork(&mut self) {
        if self.others.len() + 1 == SPACES_MAX {
            return;
        }
        let used: Vec<u16> = self.others.iter().map(|other| other.asid).collect();
        let asid = (1..).find(|asid| *asid != self.asid && !used.contains(asid)).unwrap();
        let id = MmId(u32::from(asid));
        let Ok(mm) = fork(&mut self.mm, id, &mut self.memory, &mut self.hw) else {
            self.refused += 1;
            return;
        };
        let may_be_split = self.may_be_split || self.pages.values().any(|model| model.is_locked);
        let mut pages = self.pages.clone();
        for model in pages.values_mut() {
            (model.is_locked, model.was_in_core) = (false, false);
        }
        self.others.push(Other { mm, pages, asid, may_be_split });
    }

    /// Ends an address space that is not active, whoever its parent is.
    pub(crate) fn step_exit(&mut self) {
        if self.others.is_empty() {
            return;
        }
        let which = self.random.below(self.others.len() as u64) as usize;
        let mut other = self.others.swap_remove(which);
        other.mm.exit(&mut self.memory, &mut self.hw);
        self.hw.flush_asid(other.asid);
    }

    /// Another address space becomes the active one.
    pub(crate) fn step_switch(&mut self) {
        if self.others.is_empty() {
            return;
        }
        let which = self.random.below(self.others.len() as u64) as usize;
        let other = &mut self.others[which];
        std::mem::swap(&mut self.mm, &mut other.mm);
        std::mem::swap(&mut self.pages, &mut other.pages);
        std::mem::swap(&mut self.asid, &mut other.asid);
        std::mem::swap(&mut self.may_be_split, &mut other.may_be_split);
        if self.mm.take_stale() {
            self.hw.flush_asid(self.asid);
        }
        self.hw.activate(self.mm.root(), self.asid);
    }

    /// The kernel stores into an address space that is not active.
    pub(crate) fn step_remote(&mut self) {
        if self.others.is_empty() {
            return;
        }
        let which = self.random.below(self.others.len() as u64) as usize;
        let page = FIRST + self.random.below(self.count);
        let byte = self.random.below(256) as u8;
        if self.others[which].pages.get(&page).is_some_and(|model| model.is_lazy) {
            return;
        }
        let other = &mut self.others[which];
        let (memory, hw) = (&mut self.memory, &mut self.hw);
        let stored = other.mm.write_remote(memory, hw, at(page), &[byte], Force::No);
        let is_short = matches!(stored, Err(Partial { error: FaultError::OutOfMemory { .. }, .. }));
        self.refused += u64::from(is_short);
        std::mem::swap(&mut self.pages, &mut self.others[which].pages);
        let expected = self.expected(page, Access::Write).map(<[u8]>::to_vec);
        match (stored, expected) {
            (Ok(()), Ok(bytes)) => self.store_model(page, 0, byte, bytes),
            (Err(partial), _) if is_short => assert_eq!(partial.done, 0),
            (stored, expected) => {
                assert_eq!(stored.map_err(|partial| partial.error), expected.map(|_| ()));
            }
        }
        std::mem::swap(&mut self.pages, &mut self.others[which].pages);
    }
}
