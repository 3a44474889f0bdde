//! What the running code names: which guest registers had better live in memory.
//!
//! Whenever the clock is drained, the code about to run is looked at: in the loop that begins
//! there, or on all ways from there, how many instructions name each of r8 to r15? Changing the
//! assignment means translating anew, so it waits until what the present one has cost more than the
//! best would have is about what that takes.

use super::assignment::{Assignment, COUNT, FIRST};
use super::classify::number;
use super::emit::Reg;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

/// Most instructions of one look.
const LOOK_INSTRUCTIONS: usize = 48;
/// What a look weighs: shares of instructions are counted in these units.
const LOOK_WEIGHT: u64 = 1 << 10;
/// Looks before the first choice.
const LOOKS_MIN: u64 = 16;
/// Looks after which all that was seen counts half: programs change what they do.
const LOOKS_MAX: u64 = 4_096;
/// Instructions that can be translated in the time it costs if all instructions between two looks
/// name a register in memory: those are about 1.2 million; each takes 0.6 ns more (0.1 to 0.9 by
/// program), and translating an instruction 0.3 us (measured on an Intel Xeon at 2.3 GHz).
const TRANSLATED_PER_LOOK: u64 = 2_300;
/// Instructions that could be translated in the time that emptying the cache takes besides: jumps
/// have to find their targets again.
const TRANSLATED_PER_CHANGE: u64 = 5_000;

/// How often the code that runs names r8 to r15.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Profile {
    /// Sums of shares, each in [`LOOK_WEIGHT`]ths of the instructions of a look.
    named: [u64; COUNT],
    looks: u64,
}

impl Profile {
    /// Looks at the code at `rip`, which lies in `page` with the bytes `code`.
    pub(super) fn look(&mut self, code: &[u8], page: u64, rip: u64) {
        let named = Look::new(code, page, rip).shares();
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
        if self.looks >= LOOKS_MIN && excess * TRANSLATED_PER_LOOK / LOOK_WEIGHT >= price {
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
    /// Which of r8 to r15 it names, from bit 0 on.
    named: u8,
    /// Where control may go on, as far as that is known.
    behind: [Option<u64>; 2],
}

/// One look: the likeliest instructions on all ways from where it begins, within a page, in the
/// order in which they were come upon. Each of the two ways behind a branch is half as likely.
#[derive(Debug)]
struct Look {
    seen: Vec<Seen>,
}

impl Look {
    fn new(code: &[u8], page: u64, rip: u64) -> Self {
        let mut look = Self { seen: Vec::with_capacity(LOOK_INSTRUCTIONS) };
        let mut ways = vec![(LOOK_WEIGHT, rip)];
        while let Some(likeliest) = (0..ways.len()).max_by_key(|way| ways[*way].0)
            && look.seen.len() < LOOK_INSTRUCTIONS
        {
            let (mut weight, at) = ways.swap_remove(likeliest);
            if weight == 0 || look.seen.iter().any(|seen| seen.at == at) {
                continue;
            }
            let Some(bytes) = code.get(at.wrapping_sub(page) as usize..) else { continue };
            let one = Decoder::with_ip(64, bytes, at, DecoderOptions::NONE).decode();
            let behind = if one.is_invalid() { [None; 2] } else { behind(&one) };
            look.seen.push(Seen { at, named: named_in(&one), behind });
            weight /= behind.iter().flatten().count().max(1) as u64;
            ways.extend(behind.iter().flatten().map(|at| (weight, *at)));
        }
        look
    }

    /// For each of r8 to r15, the share of instructions that name it.
    fn shares(&self) -> [u64; COUNT] {
        let weights = self.weights();
        let mut named = [0; COUNT];
        for (one, weight) in self.seen.iter().zip(&weights) {
            for (index, sum) in named.iter_mut().enumerate() {
                *sum += weight * u64::from(one.named >> index & 1);
            }
        }
        let total = weights.iter().sum::<u64>().max(1);
        named.map(|sum| sum * LOOK_WEIGHT / total)
    }

    /// How often each instruction runs for a run of the first one: in the loop that begins there
    /// no way leaves it, and of the others a branch takes each as often.
    fn weights(&self) -> Vec<u64> {
        let behind = self.behind();
        let in_loop = self.in_loop(&behind);
        let has_loop = in_loop.first() == Some(&true);
        let mut weights = vec![0; self.seen.len()];
        if let Some(first) = weights.first_mut() {
            *first = LOOK_WEIGHT;
        }
        for (one, behind) in behind.iter().enumerate() {
            let ways = || behind.iter().flatten().filter(|next| !has_loop || in_loop[**next]);
            let each = weights[one] / ways().count().max(1) as u64;
            ways().filter(|next| **next > one).for_each(|next| weights[*next] += each);
        }
        weights
    }

    /// The numbers of the instructions where control may go on behind each.
    fn behind(&self) -> Vec<[Option<usize>; 2]> {
        let number = |at: u64| self.seen.iter().position(|seen| seen.at == at);
        self.seen.iter().map(|one| one.behind.map(|at| at.and_then(number))).collect()
    }

    /// From which instructions there is a way back to the first.
    fn in_loop(&self, behind: &[[Option<usize>; 2]]) -> Vec<bool> {
        let mut returns: Vec<bool> = behind.iter().map(|ways| ways.contains(&Some(0))).collect();
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

    #[test]
    fn what_runs_seldom_weighs_little() {
        let mut code = vec![
            0x4d, 0x85, 0xdb, // head: test r11, r11
            0x75, 0xfb, // jne head
            0x48, 0x85, 0xc0, // test rax, rax
            0x74, 0xf6, // je head
            0x48, 0x85, 0xc9, // test rcx, rcx
            0x74, 0xf1, // je head
        ];
        code.extend([0x4d, 0x01, 0xf6].repeat(6)); // add r14, r14
        code.extend([0xeb, (-(code.len() as i8) - 2) as u8]); // jmp head
        let shares = Look::new(&code, 0x1000, 0x1000).shares();
        let [r11, r14] = [11, 14].map(|register: Reg| shares[usize::from(register - FIRST)]);
        assert!(r11 > r14 && r14 > 0, "{shares:?}");
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
