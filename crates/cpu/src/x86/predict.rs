//! Loads that feed their own address: `mov rax, [rax+8]` along a list, or `movzx edx, [r11+rdx*2]`
//! along a chain of hashes.
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
use super::emit::{CLK, Mem, S0, S1};
use super::operand::{segment_of, want};
use super::probe::ticks;
use super::records::offset;
use super::translate::{Cold, Emitter};
use super::words;
use iced_x86::{Instruction, Mnemonic, Register};
use machine::{Access, layout};

impl Emitter {
    /// Whether a step is a load that feeds its own address, all in registers of the host, where the
    /// flags are free.
    pub(super) fn is_predicted(&self, step: &Step) -> bool {
        let one = &step.instruction;
        let is_move = matches!(
            one.mnemonic(),
            Mnemonic::Mov | Mnemonic::Movzx | Mnemonic::Movsx | Mnemonic::Movsxd
        );
        let registers = [one.memory_base(), one.memory_index()].map(number);
        is_move
            && step.class == Class::Memory(Access::Read)
            && number(one.op0_register()).is_some_and(|to| registers.contains(&Some(to)))
            && registers.into_iter().flatten().all(|register| register < S1)
            && self.segment_base(segment_of(one)).is_none()
            && !self.now.is_single
            && !self.is_live()
    }

    /// Whether the operand of a predicted load has room for the distance, and its sum does not wrap
    /// before that is added.
    fn takes_distance(&self, one: &Instruction) -> bool {
        !self.now.flavor.is_compat()
            && one.memory_base().is_gpr64()
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
