//! Which guest registers live in host registers, and which in memory.
//!
//! Emitted code needs the host's r12 to r15 for itself, so four guest registers live in their
//! homes, and each time an instruction names one costs a load or a store. Which four are named
//! least is a matter of the program: an interpreter keeps its state in the callee-saved ones, a
//! compressor its inner loop in the others. So they are chosen among r8 to r15, which no
//! instruction uses without naming them, and an [`Assignment`] exchanges them in pairs: an
//! instruction is renumbered when it is read, and all else in the engine knows r12 to r15 as the
//! stolen ones. What an instruction does does not depend on the numbers.

use super::classify::number;
use super::emit::{MASK, Reg};
use super::engine::Core;
use super::operand::register_of;
use super::{InMemory, words};
use iced_x86::{Instruction, OpKind, Register};
use machine::{Machine, PAGE_BYTES};

/// The first register that can be exchanged, and how many there are.
pub(super) const FIRST: Reg = 8;
pub(super) const COUNT: usize = 8;
/// How many live in memory.
pub(super) const STOLEN: usize = 16 - MASK as usize;

/// Which host register, or home, each guest register has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Assignment {
    /// The places of r8 to r15; exchanged in pairs, so it is its own inverse.
    places: [Reg; COUNT],
}

impl Default for Assignment {
    /// The registers that compilers name least, on the average of all code.
    fn default() -> Self {
        Self::with_stolen([8, 9, 10, 11])
    }
}

impl Assignment {
    /// The assignment in which these guest registers live in memory. Others than r8 to r15, and
    /// what is named twice, make room for r15, r14 and so on.
    pub(super) fn with_stolen(wanted: [Reg; STOLEN]) -> Self {
        let mut stolen: Vec<Reg> = Vec::with_capacity(STOLEN);
        for register in wanted.into_iter().chain((FIRST..16).rev()) {
            let is_free = (FIRST..16).contains(&register) && !stolen.contains(&register);
            if is_free && stolen.len() < STOLEN {
                stolen.push(register);
            }
        }
        let mut assignment = Self { places: [8, 9, 10, 11, 12, 13, 14, 15] };
        let free = (MASK..16).filter(|register| !stolen.contains(register));
        let moved = stolen.iter().filter(|register| **register < MASK);
        for (register, place) in moved.zip(free) {
            assignment.places[usize::from(register - FIRST)] = place;
            assignment.places[usize::from(place - FIRST)] = *register;
        }
        assignment
    }

    /// The place of a guest register, or the guest register of a place.
    pub(super) fn place(&self, register: Reg) -> Reg {
        match register.checked_sub(FIRST) {
            Some(index) => self.places[usize::from(index)],
            None => register,
        }
    }

    /// The guest registers that live in memory.
    pub(super) fn stolen(&self) -> impl Iterator<Item = Reg> {
        (MASK..16).map(|place| self.place(place))
    }

    /// Replaces the guest registers that `one` names by their places.
    pub(super) fn renumber(&self, one: &mut Instruction) {
        for operand in 0..one.op_count() {
            if one.op_kind(operand) == OpKind::Register
                && let Some(register) = self.renamed(one.op_register(operand))
            {
                one.set_op_register(operand, register);
            }
        }
        if let Some(register) = self.renamed(one.memory_base()) {
            one.set_memory_base(register);
        }
        if let Some(register) = self.renamed(one.memory_index()) {
            one.set_memory_index(register);
        }
    }

    /// The place of a register, or of a part of one, if it is another.
    fn renamed(&self, register: Register) -> Option<Register> {
        let from = number(register).filter(|from| *from >= FIRST)?;
        let to = self.place(from);
        (to != from).then(|| register_of(to, register.size()))
    }
}

impl Core {
    /// Looks at the code at `rip`, which is about to run, and changes the assignment if that is
    /// worth it. All guest registers are in their homes.
    pub(super) fn look_at_code(&mut self, hw: &mut Machine, rip: u64) {
        if self.config.in_memory != InMemory::Profiled || self.pages.flavor.is_compat() {
            return;
        }
        let Some(page) = self.pages.present(rip) else { return };
        let code = hw.ram.slice(self.pages.page(page).frame.start(), PAGE_BYTES);
        self.profile.look(code, rip & !(PAGE_BYTES - 1), rip);
        let translated = self.statistics.translated_instruction_count - self.translated_before;
        if let Some(next) = self.profile.choose(&self.assignment, translated) {
            self.reassign(hw, next);
        }
    }

    /// Changes the assignment: forgets all code, and moves the registers to their new homes.
    fn reassign(&mut self, hw: &mut Machine, next: Assignment) {
        self.flush_generation(hw);
        let homes = &mut hw.fast()[words::GPR..words::GPR + 16];
        let values: [u64; 16] = core::array::from_fn(|register| {
            homes[usize::from(self.assignment.place(register as Reg))]
        });
        for (register, value) in values.into_iter().enumerate() {
            homes[usize::from(next.place(register as Reg))] = value;
        }
        self.assignment = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    /// All sets of four.
    fn all() -> impl Iterator<Item = [Reg; STOLEN]> {
        let bits = |mask: u8| (0..8).filter(move |bit| mask >> bit & 1 != 0);
        let sets = (0..=u8::MAX).filter(|mask| mask.count_ones() == STOLEN as u32);
        sets.map(move |mask| {
            let mut set = [0; STOLEN];
            set.iter_mut().zip(bits(mask)).for_each(|(place, bit)| *place = FIRST + bit);
            set
        })
    }

    #[test]
    fn every_assignment_is_its_own_inverse_and_steals_what_was_wanted() {
        for wanted in all() {
            let assignment = Assignment::with_stolen(wanted);
            let mut stolen: Vec<Reg> = assignment.stolen().collect();
            stolen.sort_unstable();
            assert_eq!(stolen, wanted);
            for register in 0..16 {
                assert_eq!(assignment.place(assignment.place(register)), register);
                assert_eq!(assignment.place(register) >= MASK, wanted.contains(&register));
            }
        }
        assert_eq!(all().count(), 70);
    }

    #[test]
    fn what_cannot_be_stolen_makes_room() {
        let stolen = |wanted| {
            let mut all: Vec<Reg> = Assignment::with_stolen(wanted).stolen().collect();
            all.sort_unstable();
            all
        };
        assert_eq!(stolen([3, 8, 8, 200]), [8, 13, 14, 15]);
        assert_eq!(stolen([0; STOLEN]), [12, 13, 14, 15]);
    }

    #[test]
    fn parts_of_registers_and_addresses_are_renumbered() {
        let assignment = Assignment::with_stolen([8, 9, 10, 11]);
        // mov byte [r9+r15*4+0], r10b
        let code = [0x47, 0x88, 0x54, 0xb9, 0x00];
        let mut one = Decoder::with_ip(64, &code, 0, DecoderOptions::NONE).decode();
        let before = one;
        assignment.renumber(&mut one);
        let place = |register| register_of(assignment.place(register), 8);
        assert_eq!((one.memory_base(), one.memory_index()), (place(9), place(15)));
        assert_eq!(one.op1_register(), register_of(assignment.place(10), 1));
        assignment.renumber(&mut one);
        assert_eq!(one, before);
    }
}
