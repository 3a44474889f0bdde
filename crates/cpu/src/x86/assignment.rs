//! Which guest registers live in host registers, and which in memory.
//!
//! Emitted code needs the host's r12 to r15 for itself, so four guest registers live in their
//! homes, and each time an instruction names one costs a load or a store. Which four are named
//! least is a matter of the program: an interpreter keeps its state in the callee-saved ones, a
//! compressor its inner loop in the others. So they are chosen among r8 to r15, which no
//! instruction uses without naming them, and an [`Assignment`] exchanges them in pairs: an
//! instruction is renumbered when it is read, and all else in the engine knows r12 to r15 as the
//! stolen ones. What an instruction does does not depend on the numbers.
//!
//! The choice follows a [`Profile`]: whenever the clock is drained, the code about to run is looked
//! at. Changing the assignment means translating anew, so it waits until what the present one has
//! cost more than the best would have is about what that takes.

use super::classify::number;
use super::emit::{MASK, Reg};
use super::operand::register_of;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

/// The first register that can be exchanged, and how many there are.
const FIRST: Reg = 8;
const COUNT: usize = 8;
/// How many live in memory.
pub(super) const STOLEN: usize = 16 - MASK as usize;
/// Most instructions of one look.
const LOOK_INSTRUCTIONS: usize = 48;
/// How much all looks weigh that found anything: shares of instructions are counted in these units.
const LOOK_WEIGHT: u64 = 64;
/// Looks before the first choice.
const LOOKS_MIN: u64 = 16;
/// Looks after which all that was seen counts half: programs change what they do.
const LOOKS_MAX: u64 = 4_096;
/// Instructions that can be translated in the time that a unit of cost takes: between two looks are
/// about 1.2 million instructions; naming a register in memory takes 0.2 ns more, and translating
/// an instruction 0.3 us (measured on an Intel Xeon at 2.3 GHz).
const TRANSLATED_PER_UNIT: u64 = 12;
/// Instructions that could be translated in the time that emptying the cache takes besides: jumps
/// have to find their targets again.
const TRANSLATED_PER_CHANGE: u64 = 5_000;

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
        let all = FIRST..FIRST + COUNT as Reg;
        let mut stolen: Vec<Reg> = Vec::with_capacity(STOLEN);
        for register in wanted.into_iter().chain(all.rev()) {
            let is_known = register >= FIRST && usize::from(register) < usize::from(FIRST) + COUNT;
            if is_known && stolen.len() < STOLEN && !stolen.contains(&register) {
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
    fn stolen(&self) -> impl Iterator<Item = Reg> {
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

/// How often the code that runs names r8 to r15.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Profile {
    /// In [`LOOK_WEIGHT`]ths of all instructions, for each look.
    named: [u64; COUNT],
    looks: u64,
}

impl Profile {
    /// Looks at the code at `rip`, which lies in `page` with the bytes `code`.
    pub(super) fn look(&mut self, code: &[u8], page: u64, rip: u64) {
        let named = Look::new(code, page, rip).shares(rip);
        for (sum, share) in self.named.iter_mut().zip(named) {
            *sum += share;
        }
        self.looks += 1;
    }

    /// The assignment to change to from `present`, if that is worth `translated` instructions
    /// translated anew. The profile begins anew then.
    pub(super) fn choose(&mut self, present: &Assignment, translated: u64) -> Option<Assignment> {
        let mut order: [Reg; COUNT] = core::array::from_fn(|index| FIRST + index as Reg);
        order.sort_by_key(|register| self.cost(*register));
        let best = [order[0], order[1], order[2], order[3]];
        let least: u64 = best.iter().map(|register| self.cost(*register)).sum();
        let excess = present.stolen().map(|register| self.cost(register)).sum::<u64>() - least;
        let price = translated + TRANSLATED_PER_CHANGE;
        if self.looks >= LOOKS_MIN && excess * TRANSLATED_PER_UNIT >= price {
            *self = Self::default();
            return Some(Assignment::with_stolen(best));
        }
        if self.looks >= LOOKS_MAX {
            self.named = self.named.map(|sum| sum / 2);
            self.looks /= 2;
        }
        None
    }

    fn cost(&self, register: Reg) -> u64 {
        self.named[usize::from(register - FIRST)]
    }
}

/// One instruction of a look.
#[derive(Debug)]
struct Seen {
    at: u64,
    weight: u64,
    /// Which of r8 to r15 it names, from bit 0 on.
    named: u8,
    /// Where control may go on, as far as that is known.
    behind: [Option<u64>; 2],
}

/// One look: the instructions on all ways from where it begins, within a page. Each of the two ways
/// behind a branch has half the weight.
#[derive(Debug)]
struct Look {
    seen: Vec<Seen>,
}

impl Look {
    fn new(code: &[u8], page: u64, rip: u64) -> Self {
        let mut look = Self { seen: Vec::with_capacity(LOOK_INSTRUCTIONS) };
        let mut ways = vec![(rip, LOOK_WEIGHT)];
        while let Some((mut at, mut weight)) = ways.pop() {
            while weight > 0
                && look.seen.len() < LOOK_INSTRUCTIONS
                && look.seen.iter().all(|seen| seen.at != at)
            {
                let Some(bytes) = code.get(at.wrapping_sub(page) as usize..) else { break };
                let one = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
                let behind = if one.is_invalid() { [None; 2] } else { behind(&one) };
                look.seen.push(Seen { at, weight, named: named_in(&one), behind });
                if let Some(branch) = behind[1] {
                    weight /= 2;
                    ways.push((branch, weight));
                }
                let Some(next) = behind[0] else { break };
                at = next;
            }
        }
        look
    }

    /// For each of r8 to r15, the share of instructions that name it: of those in the loop that
    /// begins at `rip`, each counted once, or of all if there is none.
    fn shares(&self, rip: u64) -> [u64; COUNT] {
        let in_loop = self.in_loop(rip);
        let has_loop = in_loop.contains(&true);
        let mut named = [0; COUNT];
        let mut total = 0;
        for (one, is_in_loop) in self.seen.iter().zip(in_loop) {
            let weight = if has_loop { u64::from(is_in_loop) } else { one.weight };
            total += weight;
            for (index, sum) in named.iter_mut().enumerate() {
                *sum += weight * u64::from(one.named >> index & 1);
            }
        }
        named.map(|sum| sum * LOOK_WEIGHT / total.max(1))
    }

    /// From which instructions there is a way back to `rip`.
    fn in_loop(&self, rip: u64) -> Vec<bool> {
        let number = |at: u64| self.seen.iter().position(|seen| seen.at == at);
        let behind: Vec<_> =
            self.seen.iter().map(|one| one.behind.map(|at| at.and_then(number))).collect();
        let mut returns: Vec<bool> =
            self.seen.iter().map(|one| one.behind.contains(&Some(rip))).collect();
        let mut changes = true;
        while core::mem::take(&mut changes) {
            for one in (0..behind.len()).rev().filter(|one| !returns[*one]).collect::<Vec<_>>() {
                returns[one] = behind[one].iter().flatten().any(|next| returns[*next]);
                changes |= returns[one];
            }
        }
        returns
    }
}

/// Where control may go behind an instruction, as far as that is known; calls return.
fn behind(one: &Instruction) -> [Option<u64>; 2] {
    match one.flow_control() {
        FlowControl::ConditionalBranch => [Some(one.next_ip()), Some(one.near_branch_target())],
        FlowControl::UnconditionalBranch => [Some(one.near_branch_target()), None],
        FlowControl::IndirectBranch | FlowControl::Return | FlowControl::Exception => [None; 2],
        _ => [Some(one.next_ip()), None],
    }
}

/// Which of r8 to r15 an instruction names, from bit 0 on.
fn named_in(one: &Instruction) -> u8 {
    let operands = (0..one.op_count())
        .filter(|operand| one.op_kind(*operand) == OpKind::Register)
        .map(|operand| one.op_register(operand));
    let address = [one.memory_base(), one.memory_index()];
    let named = operands.chain(address).filter_map(number);
    named
        .filter_map(|register| register.checked_sub(FIRST))
        .fold(0, |mask, index| mask | 1 << index)
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn a_loop_that_names_what_is_stolen_gets_another_assignment() {
        let present = Assignment::default();
        let mut profile = Profile::default();
        // add r8, r9; add r10, r11; jmp
        let code = [0x4d, 0x01, 0xc8, 0x4d, 0x01, 0xda, 0xeb, 0xf8];
        let changed = (0..1_000).find_map(|_| {
            profile.look(&code, 0x1000, 0x1000);
            profile.choose(&present, 1_000)
        });
        let changed = changed.expect("two registers in each instruction are worth it");
        assert!(changed.stolen().all(|register| register >= 12));
        let stays = (0..10_000).any(|_| {
            profile.look(&code, 0x1000, 0x1000);
            profile.choose(&changed, 1_000).is_some()
        });
        assert!(!stays, "nothing is better");
    }
}
