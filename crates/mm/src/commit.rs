//! Promises of memory: what programs may be told that they can have.
//!
//! Private writable memory and shared memory are charged in full when they are mapped, whether they
//! are ever touched or not. Whether a promise is refused depends on the mode.
//!
//! # Source
//! Linux 6.12 `mm/util.c:__vm_enough_memory`, `vm_commit_limit`; semantics COMMIT-1 to COMMIT-3.

use machine::PAGE_BYTES;

use crate::error::MmError;
use crate::memory::Memory;
use crate::space::Mm;

/// How much memory may be promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Overcommit {
    /// Mode 0: refuse only a single request larger than RAM and swap together.
    #[default]
    Heuristic,
    /// Mode 1: refuse nothing.
    Always,
    /// Mode 2: refuse beyond a share of RAM and all of swap.
    Never {
        /// `vm.overcommit_ratio`.
        ratio_percent: u64,
    },
}

/// What mode 2 keeps for whoever wants to help, at most: `vm.admin_reserve_kbytes`.
const ADMIN_RESERVE_PAGES_MAX: u64 = (8 << 20) / PAGE_BYTES;
/// What mode 2 keeps from one program for others, at most: `vm.user_reserve_kbytes`.
const USER_RESERVE_PAGES_MAX: u64 = (128 << 20) / PAGE_BYTES;

/// Who asks for a promise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asker {
    /// Pages of all its mappings.
    total_pages: u64,
    /// Whether it may have what is kept for administrators.
    is_admin: bool,
}

impl Mm {
    /// Promises `pages` to this space, which mode 2 does not give the last.
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: the policy refuses; nothing was promised.
    pub(crate) fn charge_commit(&self, memory: &mut Memory, pages: u64) -> Result<(), MmError> {
        // Differs from Linux: the right to lock stands for CAP_SYS_ADMIN; root has both.
        let is_admin = self.limits.can_lock;
        let asker = Asker { total_pages: self.totals.total_pages, is_admin };
        memory.charge(pages, Some(asker))
    }
}

impl Memory {
    /// Promises `pages` to nobody in particular.
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: the policy refuses; nothing was promised.
    pub fn charge_commit(&mut self, pages: u64) -> Result<(), MmError> {
        self.charge(pages, None)
    }

    fn charge(&mut self, pages: u64, asker: Option<Asker>) -> Result<(), MmError> {
        let everything = self.frames.len() as u64 + self.swap_slots();
        let promised = self.committed_pages.saturating_add(pages);
        let is_allowed = match self.overcommit {
            Overcommit::Always => true,
            Overcommit::Heuristic => pages <= everything,
            Overcommit::Never { .. } => {
                let kept = asker.map_or(0, |asker| self.kept_from(asker));
                promised < self.commit_limit_pages().saturating_sub(kept)
            }
        };
        if !is_allowed {
            return Err(MmError::NoMemory("commit limit"));
        }
        self.committed_pages = promised;
        Ok(())
    }

    /// Pages below the limit that mode 2 keeps from a program.
    fn kept_from(&self, asker: Asker) -> u64 {
        let share = self.frames.len() as u64 / 32;
        let admin = if asker.is_admin { 0 } else { share.min(ADMIN_RESERVE_PAGES_MAX) };
        admin + (asker.total_pages / 32).min(share.min(USER_RESERVE_PAGES_MAX))
    }

    /// Takes back a promise of `pages`.
    pub fn uncharge_commit(&mut self, pages: u64) {
        debug_assert!(pages <= self.committed_pages, "more uncharged than charged");
        self.committed_pages = self.committed_pages.saturating_sub(pages);
    }

    /// `CommitLimit`, in pages.
    pub fn commit_limit_pages(&self) -> u64 {
        let ratio_percent = match self.overcommit {
            Overcommit::Never { ratio_percent } => ratio_percent,
            Overcommit::Heuristic | Overcommit::Always => 50,
        };
        let share = (self.frames.len() as u64).saturating_mul(ratio_percent) / 100;
        let allowed = self.overcommit_kib.map_or(share, |kib| kib / (PAGE_BYTES >> 10));
        allowed.saturating_add(self.swap_slots())
    }

    /// Pages that swap can hold.
    fn swap_slots(&self) -> u64 {
        self.swap.slot_count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    /// What one more promise may be, in pages, to the first space or to nobody.
    fn limit_of(world: &mut World, is_to_program: bool) -> u64 {
        let mut pages = 0;
        let World { memory, spaces, .. } = world;
        while match is_to_program {
            true => spaces[0].charge_commit(memory, 1),
            false => memory.charge_commit(1),
        }
        .is_ok()
        {
            pages += 1;
        }
        memory.uncharge_commit(pages);
        pages
    }

    #[test]
    fn commit_2_mode_2_keeps_a_reserve_from_programs() {
        let mut world = World::new(3200);
        world.memory.overcommit = Overcommit::Never { ratio_percent: 50 };
        assert_eq!(limit_of(&mut world, false), 1599, "below the limit, not at it");
        assert_eq!(limit_of(&mut world, true), 1499, "one 32nd of RAM for administrators");
        world.spaces[0].totals.total_pages = 64;
        assert_eq!(limit_of(&mut world, true), 1497, "and one 32nd of the program itself");
        world.spaces[0].limits.can_lock = true;
        assert_eq!(limit_of(&mut world, true), 1597);
        world.spaces[0].totals.total_pages = 0;
        world.memory.overcommit_kib = Some(400);
        assert_eq!(world.memory.commit_limit_pages(), 100);
        assert_eq!(limit_of(&mut world, false), 99);
        world.finish();
    }

    #[test]
    fn commit_2_modes_0_and_1_refuse_little_and_nothing() {
        let mut world = World::new(256);
        assert!(world.memory.charge_commit(257).is_err());
        assert_eq!(world.memory.charge_commit(256), Ok(()));
        assert_eq!(world.memory.charge_commit(256), Ok(()), "each request by itself");
        world.memory.overcommit = Overcommit::Always;
        assert_eq!(world.memory.charge_commit(u64::MAX / 2), Ok(()));
        world.memory.uncharge_commit(u64::MAX / 2 + 512);
        assert_eq!(world.memory.commit_limit_pages(), 128, "shown in every mode (COMMIT-3)");
        world.finish();
    }
}
