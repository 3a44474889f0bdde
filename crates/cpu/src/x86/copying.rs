//! String instructions in emitted code.
//!
//! A single `movs`, `stos` or `lods` is inline. All others go to Rust through the slow path,
//! without leaving the block: the stub keeps the vector registers, and the homes of rax, rcx, rsi
//! and rdi are what Rust works on.

use super::ask::Ask;
use super::block::{PARKED, Step};
use super::emit::{Mem, RAX, RDI, RSI, Reg, S0, S1};
use super::emulate::strings::{Job, Kind};
use super::probe::Want;
use super::records::SiteKind;
use super::translate::Emitter;
use super::words;
use machine::Access;

impl Emitter {
    /// A string instruction.
    pub(super) fn string(&mut self, step: &Step) {
        let job = Job::new(&step.instruction);
        let is_inline = !job.is_repeated && job.width == 8;
        match job.kind {
            Kind::Move if is_inline => self.move_element(job),
            Kind::Fill if is_inline => self.fill_element(job),
            Kind::Load if is_inline => self.load_element(job),
            _ => self.string_in_rust(job, step.live),
        }
    }

    fn string_in_rust(&mut self, job: Job, live: u16) {
        let ask = Ask::numbered(self.sites.len() as u32);
        self.asm.constant(S1, u64::from(ask));
        let is_kept = job.writes_flags() || live != 0 && live != PARKED;
        self.asm.jump_to(if is_kept { self.stubs.slow_with_flags } else { self.stubs.slow });
        self.asm.forget();
        let length = self.now.next_rip.wrapping_sub(self.now.rip) as u8;
        self.site(SiteKind::String { job, live, length });
    }

    /// Probes for the element at rsi.
    fn probe_source(&mut self, job: Job) {
        self.asm.copy(S0, RSI);
        self.add_segment(job.segment);
        self.probe(Want { access: Access::Read, bytes: job.bytes.into(), is_stack: false });
    }

    /// Probes for the element at rdi.
    fn probe_target(&mut self, job: Job) {
        self.asm.copy(S0, RDI);
        self.probe(Want { access: Access::Write, bytes: job.bytes.into(), is_stack: false });
    }

    /// Moves address registers by one element in the direction of the flag.
    fn advance(&mut self, job: Job, registers: &[Reg]) {
        let scale = job.bytes.trailing_zeros() as u8;
        self.asm.load(S1, Mem::word(words::STRIDE));
        for register in registers {
            let place = Mem {
                base: Some(*register),
                index: Some((S1, scale)),
                displacement: 0,
                is_gs: false,
            };
            self.asm.lea(*register, place);
        }
    }

    fn move_element(&mut self, job: Job) {
        self.probe_source(job);
        self.asm.load_sized(S0, Mem::sum(S0, S1), job.bytes);
        self.asm.store(Mem::word(words::PARK), S0);
        self.probe_target(job);
        self.asm.lea(S0, Mem::sum(S0, S1));
        self.asm.load(S1, Mem::word(words::PARK));
        self.asm.store_sized(Mem::at(S0, 0), S1, job.bytes);
        self.advance(job, &[RSI, RDI]);
    }

    fn fill_element(&mut self, job: Job) {
        self.probe_target(job);
        self.asm.store_sized(Mem::sum(S0, S1), RAX, job.bytes);
        self.advance(job, &[RDI]);
    }

    fn load_element(&mut self, job: Job) {
        self.probe_source(job);
        self.asm.load_part(RAX, Mem::sum(S0, S1), job.bytes);
        self.advance(job, &[RSI]);
    }
}
