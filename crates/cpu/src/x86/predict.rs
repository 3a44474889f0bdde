//! Loads that feed their own address: `mov rax, [rax+8]` along a list, or `movzx edx, [r11+rdx*2]`
//! along a chain of hashes; and `cmp [rax+rsi], bl`, by which a search along such a chain looks at
//! one byte of each place and decides whether to go on.
//!
//! Behind a probe the operand's place is known nine cycles after its address, and in such a chain
//! nothing else can begin meanwhile. Frames that follow each other mostly hold pages that follow
//! each other, so the distance from a page to its frame seldom changes: the load runs at the
//! distance that the load before it had, and the processor predicts that the comparison with the
//! true one passes. Where it does not, the load runs at the true one, which the next will try.
//!
//! ```text
//! the probe of the address                     (stamped and counted as any other)
//! r14 = words[DISTANCE]; if r14 != distance[slot]: words[DISTANCE] = r14 = distance[slot]
//! resume: mov rax, [rax + r14 + 8]             or r13 = the address again; mov eax, [r13 + r14]
//! ```
//! The slow path, too, leaves the distance in r14 and the address in r13. The comparison stands in
//! front of the load: it never reads at a distance that is not the page's own.

use super::block::Step;
use super::classify::{Class, is_high_byte, number};
use super::condition::NOT_EQUAL;
use super::emit::{CLK, MASK, Mem, S0, S1};
use super::operand::{segment_of, want};
use super::probe::ticks;
use super::records::offset;
use super::translate::{Cold, Emitter};
use super::words;
use iced_x86::{Code, Instruction, Mnemonic, Register};
use machine::{Access, layout};

/// Whether the load `one` behind `steps` is one of a chain.
pub(super) fn is_chained(steps: &[Step], one: &Instruction) -> bool {
    is_fed(steps, one) || looks_at_byte(one)
}

/// Whether it feeds its own address: what it loads into is part of it, and none of `steps` has
/// loaded it from elsewhere, as is the number of a table's entry.
fn is_fed(steps: &[Step], one: &Instruction) -> bool {
    let target = one.op0_register();
    let is_writer =
        |step: &&Step| step.writes & 1 != 0 && is_same(step.instruction.op0_register(), target);
    let is_own = is_move(one) && is_addressed_by(one, target);
    is_own
        && steps.iter().rev().find(is_writer).is_none_or(|step| {
            let before = &step.instruction;
            step.class != Class::Memory(Access::Read)
                || !is_move(before)
                || is_addressed_by(before, target)
        })
}

/// Whether it compares a byte at the sum of two registers with a third.
fn looks_at_byte(one: &Instruction) -> bool {
    matches!(one.code(), Code::Cmp_rm8_r8 | Code::Cmp_r8_rm8)
        && one.memory_base() != Register::None
        && one.memory_index() != Register::None
}

fn is_move(one: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(one.mnemonic(), M::Mov | M::Movzx | M::Movsx | M::Movsxd)
}

fn is_addressed_by(one: &Instruction, register: Register) -> bool {
    is_same(one.memory_base(), register) || is_same(one.memory_index(), register)
}

/// Whether two registers are parts of one general register.
fn is_same(one: Register, other: Register) -> bool {
    number(one).is_some_and(|one| number(other) == Some(one))
}

impl Emitter {
    /// Whether a step is a load of a chain, which one scratch register is enough for, where the
    /// flags are free.
    pub(super) fn is_predicted(&self, step: &Step) -> bool {
        let one = &step.instruction;
        let registers = [one.memory_base(), one.memory_index()].map(number);
        let stolen = registers.into_iter().flatten().filter(|register| *register >= MASK);
        step.is_chained
            && stolen.count() < 2
            && self.segment_base(segment_of(one)).is_none()
            && !self.now.is_single
            && !self.is_live()
    }

    /// Whether the operand of a predicted load has room for the distance, and its sum does not wrap
    /// before that is added.
    fn takes_distance(&self, one: &Instruction) -> bool {
        !self.now.flavor.is_compat()
            && one.memory_base().is_gpr64()
            && number(one.memory_base()).is_some_and(|base| base < MASK)
            && one.memory_index() == Register::None
            && !is_high_byte(one.op0_register())
    }

    /// Probes for the load at the address in r14, and loads.
    pub(super) fn load_predicted(&mut self, step: &Step) {
        let instruction = &step.instruction;
        let want = want(instruction, Access::Read);
        let site = self.access_site(want);
        let branch = self.probe_dead(want);
        self.asm.store(Mem::table(layout::STAMP, S1), CLK);
        self.asm.lea(CLK, Mem::at(CLK, ticks(1, 0)));
        let word = words::DISTANCE + self.predictions % words::DISTANCES;
        self.predictions += 1;
        self.asm.load(S0, Mem::word(word));
        self.asm.compare_with_flags(S0, Mem::table(layout::DISTANCE, S1));
        let other = self.asm.branch(NOT_EQUAL);
        let resume = self.asm.here();
        self.sites[site as usize].set_resume(offset(resume, self.cache_start));
        self.cold.push(Cold::Probe { branch, site, access: Access::Read, is_flags_live: false });
        self.cold.push(Cold::Distance { branch: other, word, resume });
        self.now.has_access = true;
        if self.takes_distance(instruction) {
            let mut copy = *instruction;
            copy.set_segment_prefix(Register::None);
            copy.set_memory_index(Register::R14);
            copy.set_memory_index_scale(1);
            self.encode(&copy);
        } else {
            self.effective(instruction, 0, S1);
            self.on_pointer(step, None);
        }
    }

    /// Brings the true distance of the slot in r13 to r14, and keeps it for the next load.
    pub(super) fn cold_distance(&mut self, word: usize, resume: u64) {
        self.asm.load(S0, Mem::table(layout::DISTANCE, S1));
        self.asm.store(Mem::word(word), S0);
        self.asm.jump_to(resume);
    }
}

#[cfg(test)]
mod tests {
    use super::super::block::Scan;
    use super::super::classify::Classifier;
    use machine::PAGE_BYTES;

    /// For each instruction of `code`, whether it is a load of a chain.
    fn chained(code: &[u8]) -> Vec<bool> {
        let mut page = code.to_vec();
        page.resize(PAGE_BYTES as usize, 0x90);
        let mut scan = Scan::default();
        let read = scan.read(&mut Classifier::new(), &page, 0x1000, 64);
        assert!(read.is_ok(), "the code lies in one page");
        let end = 0x1000 + code.len() as u64;
        let steps = scan.steps.iter().filter(|step| step.instruction.ip() < end);
        steps.map(|step| step.is_chained).collect()
    }

    #[test]
    fn a_chain_feeds_itself_and_a_table_behind_a_number_does_not() {
        let list = [0x48, 0x8b, 0x40, 0x08]; // mov rax, [rax+8]
        assert_eq!(chained(&[list, list].concat()), [true, true]);
        // and edx, 127; movzx edx, [r11+rdx*2]
        let hashes = [0x83, 0xe2, 0x7f, 0x41, 0x0f, 0xb7, 0x14, 0x53];
        assert_eq!(chained(&hashes), [false, true]);
        let number = [0x0f, 0xb6, 0x10]; // movzx edx, byte [rax]
        let entry = [0x48, 0x8b, 0x14, 0xd1]; // mov rdx, [rcx+rdx*8]
        assert_eq!(chained(&[&number[..], &entry].concat()), [false, false]);
        assert_eq!(chained(&entry), [true]);
    }

    #[test]
    fn a_byte_that_a_search_looks_at_is_in_its_chain() {
        assert_eq!(chained(&[0x38, 0x1c, 0x30]), [true]); // cmp [rax+rsi], bl
        assert_eq!(chained(&[0x3a, 0x1c, 0x30]), [true]); // cmp bl, [rax+rsi]
        assert_eq!(chained(&[0x38, 0x58, 0x08]), [false]); // cmp [rax+8], bl
        assert_eq!(chained(&[0x39, 0x1c, 0x30]), [false]); // cmp [rax+rsi], ebx
    }
}
