//! String instructions in emitted code.
//!
//! A single `movs`, `stos` or `lods` is inline, and so is a repeated `movs` or `stos` upwards whose
//! operands lie each in one page that the probe hits. All others go to Rust through the slow path,
//! without leaving the block: the stub keeps the vector registers, and the homes of rax, rcx, rsi
//! and rdi are what Rust works on.

use super::ask::Ask;
use super::block::{PARKED, Step};
use super::condition::{ABOVE, NOT_EQUAL};
use super::emit::{CLK, Mem, Patch, RAX, RCX, RDI, RSI, Reg, S0, S1};
use super::emulate::strings::{Job, Kind};
use super::probe::{Want, tag, ticks};
use super::site::SiteKind;
use super::translate::Emitter;
use super::words;
use machine::{Access, CLOCK_DRAIN_BIT, PAGE_BYTES, layout};

/// Where the address registers of a string instruction are kept while it runs on host addresses.
const SOURCE: usize = words::SPILL;
const TARGET: usize = words::SPILL + 1;

impl Emitter {
    /// A string instruction.
    pub(super) fn string(&mut self, step: &Step) {
        let job = Job::new(&step.instruction);
        let is_inline = !job.is_repeated && self.is_usual(job);
        match job.kind {
            Kind::Move if is_inline => self.move_element(job),
            Kind::Fill if is_inline => self.fill_element(job),
            Kind::Load if is_inline => self.load_element(job),
            Kind::Move | Kind::Fill if self.may_repeat(job) => self.repeat(job, step.live),
            _ => self.string_in_rust(job, step.live),
        }
    }

    /// Whether the addresses are as wide as all others, and only their pages matter.
    fn is_usual(&self, job: Job) -> bool {
        let flavor = self.now.flavor;
        let width = if flavor.is_compat() { 4 } else { 8 };
        job.width == width && !flavor.limits_strings(job.segment)
    }

    /// Whether a repeated instruction may be done by emitted code where its page allows it.
    fn may_repeat(&self, job: Job) -> bool {
        job.is_repeated
            && self.is_usual(job)
            && !self.now.is_single
            && !self.is_live()
            && self.segment_base(job.segment).is_none()
    }

    /// A repeated `movs` or `stos`: at once if all its elements lie in pages that are hit, else in
    /// Rust. Nothing of the guest changes before that is known.
    fn repeat(&mut self, job: Job, live: u16) {
        let mut others = self.refuse_unusual(job);
        if job.kind == Kind::Move {
            others.push(self.find_elements(job, RSI, Access::Read));
            self.asm.store(Mem::word(words::PARK), S1);
            self.asm.store(Mem::word(SOURCE), RSI);
        }
        others.push(self.find_elements(job, RDI, Access::Write));
        self.asm.store(Mem::word(TARGET), RDI);
        self.asm.add_flags(RDI, Mem::table(layout::DISTANCE, S1));
        self.stamp_elements(job);
        self.asm.lea(S0, Self::elements(None, job));
        if job.kind == Kind::Move {
            self.asm.repeat_move(job.bytes);
            self.pass_elements(RSI, SOURCE);
        } else {
            self.asm.repeat_fill(job.bytes);
        }
        self.pass_elements(RDI, TARGET);
        let done = self.asm.jump();
        for other in others {
            self.asm.resolve(other);
        }
        self.string_in_rust(job, live);
        self.asm.resolve(done);
    }

    /// Leaves no elements, more than a page of them, the way downwards, and a clock that will want
    /// to be drained: Rust drains it between elements.
    fn refuse_unusual(&mut self, job: Job) -> Vec<Patch> {
        let most = PAGE_BYTES as i32 / i32::from(job.bytes);
        self.asm.lea(S1, Mem::at(RCX, -1));
        self.asm.compare_flags(S1, most - 1);
        let count = self.asm.branch(ABOVE);
        self.asm.compare_word_flags(Mem::word(words::STRIDE), 1);
        let downwards = self.asm.branch(NOT_EQUAL);
        self.clock_behind(job);
        self.asm.test_flags(S0, CLOCK_DRAIN_BIT as u32);
        vec![count, downwards, self.asm.branch(NOT_EQUAL)]
    }

    /// What each element advances the clock by.
    fn ticks_of(job: Job) -> i32 {
        ticks(u64::from(job.kind == Kind::Move), 1)
    }

    /// Brings what the clock will be behind all elements to r14.
    fn clock_behind(&mut self, job: Job) {
        self.asm.multiply_flags(S0, RCX, Self::ticks_of(job));
        self.asm.lea(S0, Mem::sum(S0, CLK));
    }

    /// `[base + bytes of all elements]`
    fn elements(base: Option<Reg>, job: Job) -> Mem {
        let index = Some((RCX, job.bytes.trailing_zeros() as u8));
        Mem { base, index, displacement: 0, is_gs: false }
    }

    /// Probes for all elements from the address in `register` on; leaves their slot in r13. The
    /// branch is taken if they are not in one page that is hit.
    fn find_elements(&mut self, job: Job, register: Reg, access: Access) -> Patch {
        self.asm.index(S1, register);
        self.asm.load(S0, Mem::table(tag(access), S1));
        self.asm.add_register_flags(S0, register);
        self.asm.lea(S0, Self::elements(Some(S0), job));
        self.asm.compare_flags(S0, PAGE_BYTES as i32);
        self.asm.branch(ABOVE)
    }

    /// Advances the clock by all accesses, and stamps the pages with the last one of each: that of
    /// the target is in r13, that of the source in PARK, which may be the same. Turns rsi to its
    /// host address.
    fn stamp_elements(&mut self, job: Job) {
        self.clock_behind(job);
        self.asm.copy(CLK, S0);
        self.asm.lea(S0, Mem::at(CLK, -Self::ticks_of(job)));
        if job.kind == Kind::Move {
            self.asm.store(Mem::word(words::RCX_SAVE), S1);
            self.asm.load(S1, Mem::word(words::PARK));
            self.asm.store(Mem::table(layout::STAMP, S1), S0);
            self.asm.add_flags(RSI, Mem::table(layout::DISTANCE, S1));
            self.asm.load(S1, Mem::word(words::RCX_SAVE));
            self.asm.lea(S0, Mem::at(S0, ticks(1, 0)));
        }
        self.asm.store(Mem::table(layout::STAMP, S1), S0);
    }

    /// Sets an address register to what it was before the elements, whose bytes are in r14, and
    /// moves it behind them.
    fn pass_elements(&mut self, register: Reg, word: usize) {
        self.asm.load(register, Mem::word(word));
        self.lea_word(register, Mem::sum(register, S0));
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
        self.probe(Want::elsewhere(Access::Read, job.bytes.into()));
    }

    /// Probes for the element at rdi.
    fn probe_target(&mut self, job: Job) {
        self.asm.copy(S0, RDI);
        self.probe(Want::elsewhere(Access::Write, job.bytes.into()));
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
            self.lea_word(*register, place);
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
