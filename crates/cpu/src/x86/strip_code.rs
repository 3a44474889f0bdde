//! Emitting strips: the way in, the loop without probes, and the ways out.
//!
//! ```text
//! entry:   probe each stream, note its slot and how far its register may move; else: body
//!          stamp the pages; host addresses to the holders
//! head:    clock += accesses of an iteration; the loop's instructions
//!          not taken?           restore, go on behind the loop
//!          a register too far?  restore, entry
//!          jump head
//! ```
//! The way in is taken from the back edge of the block itself, so that an iteration with probes
//! comes before. It changes nothing of the guest until all probes have succeeded.
//!
//! The clock must be looked at where it would be without strips. So a strip begins only if it
//! cannot make as many accesses as are left until the clock wants to be drained. Where no register
//! moves there is no such number, and the loop looks at the clock.

use super::block::{Scan, Step};
use super::classify::{Class, number};
use super::condition::{
    ABOVE, EQUAL, GREATER, LESS, LESS_EQUAL, NOT_EQUAL, OVERFLOW, condition_of, opposite,
};
use super::emit::{CLK, MASK, Mem, Patch, Reg, S0, S1};
use super::operand::{register_of, without_absolute};
use super::precedence::ERROR_SUMMARY;
use super::probe::tag;
use super::strip::{STRIDE_MAX, Stream, Strip};
use super::stubs::Reason;
use super::translate::Emitter;
use super::words;
use iced_x86::{Instruction, OpKind, Register};
use machine::{CLOCK_DRAIN_BIT, PAGE_BYTES, layout};

/// Where loops begin: a line of the host's cache of decoded instructions.
const HEAD_BYTES: u64 = 64;
/// The bits of MXCSR that mask exceptions.
const MXCSR_MASKS: u32 = 0x1f80;
/// Those of the x87 control word.
const X87_MASKS: u32 = 0x3f;

impl Emitter {
    /// Emits the strip of the block of `scan`.
    pub(super) fn cold_strip(&mut self, scan: &Scan) {
        let Some(strip) = self.strip.take() else { return };
        let (steps, last) = scan.steps.split_at(scan.steps.len() - 1);
        let entry = self.asm.here();
        let mut fails = Vec::new();
        if let Some(accesses) = strip.accesses {
            self.asm.lea(S0, Mem::at(CLK, accesses));
            self.asm.test_flags(S0, CLOCK_DRAIN_BIT as u32);
            fails.push(self.asm.branch(NOT_EQUAL));
        }
        if strip.has_vectors {
            self.check_masks(&mut fails);
        }
        if strip.has_x87 {
            self.check_x87(&mut fails);
        }
        for at in 0..strip.streams.len() {
            self.probe_stream(&strip, at, &mut fails);
        }
        for (at, stream) in strip.streams.iter().enumerate() {
            self.stamp_stream(&strip, stream, at);
        }
        self.load_holders(&strip);
        self.asm.align(HEAD_BYTES);
        let head = self.asm.here();
        self.asm.lea(CLK, Mem::at(CLK, strip.ticks));
        for (step, member) in steps.iter().zip(&strip.members) {
            self.strip_step(&strip, step, member.map(|at| strip.streams[at]));
        }
        let [last] = last else { return };
        let done = self.asm.branch(opposite(condition_of(&last.instruction)));
        self.check_movers(&strip, head);
        self.strips.push((head, self.asm.here()));
        self.restore(&strip);
        if strip.movers.is_empty() {
            self.leave_with(self.now.first, Reason::Drain.alone());
        } else {
            self.asm.jump_to(entry);
        }
        self.asm.resolve(done);
        self.restore(&strip);
        (self.now.rip, self.now.next_rip) = (last.instruction.ip(), scan.next_rip);
        self.go(self.now.next_rip, self.now.is_flags_live_next);
        for branch in fails {
            self.asm.resolve_to(branch, self.now.body);
        }
    }

    /// Fails if a vector instruction could raise an exception.
    fn check_masks(&mut self, fails: &mut Vec<Patch>) {
        self.asm.store_mxcsr(Mem::word(words::PARK));
        self.asm.load32(S0, Mem::word(words::PARK));
        self.asm.complement(S0);
        self.asm.test_flags(S0, MXCSR_MASKS);
        fails.push(self.asm.branch(NOT_EQUAL));
    }

    /// Fails if an x87 instruction could raise an exception.
    fn check_x87(&mut self, fails: &mut Vec<Patch>) {
        let word = Mem::word(words::PARK);
        self.asm.store_x87_control(word);
        self.asm.load16(S0, word);
        self.asm.complement(S0);
        self.asm.test_flags(S0, X87_MASKS);
        fails.push(self.asm.branch(NOT_EQUAL));
        self.asm.store_x87_status(word);
        self.asm.load16(S0, word);
        self.asm.test_flags(S0, ERROR_SUMMARY.into());
        fails.push(self.asm.branch(NOT_EQUAL));
    }

    /// Probes a stream for one iteration; notes its slot, and how far its register may move.
    fn probe_stream(&mut self, strip: &Strip, at: usize, fails: &mut Vec<Patch>) {
        let stream = &strip.streams[at];
        let bytes = (stream.high - stream.low) as u16;
        let room = PAGE_BYTES as i32 - i32::from(bytes);
        self.anchor_address(stream.anchor, stream.low);
        self.asm.index(S1, S0);
        self.asm.add_flags(S0, Mem::table(tag(stream.access), S1));
        self.asm.compare_flags(S0, room);
        fails.push(self.asm.branch(ABOVE));
        self.asm.store(Mem::word(words::STRIP_STREAM + at), S1);
        let Some((register, scale)) = stream.mover else { return };
        let mover = strip.movers.iter().position(|(mover, _)| *mover == register).unwrap_or(0);
        let is_upward = strip.movers[mover].1;
        if is_upward {
            self.asm.complement(S0);
            self.asm.lea(S0, Mem::at(S0, room + 1));
        }
        if scale > 0 {
            self.asm.shift_right_flags(S0, scale);
        }
        let register = self.current(register, S1);
        if is_upward {
            self.asm.lea(S0, Mem::sum(S0, register));
        } else {
            self.asm.complement(S0);
            self.asm.lea(S0, Mem { displacement: 1, ..Mem::sum(S0, register) });
        }
        let limit = Mem::word(words::STRIP_LIMIT + mover);
        let is_first = !strip.streams[..at]
            .iter()
            .any(|other| other.mover.is_some_and(|(other, _)| other == strip.movers[mover].0));
        if !is_first {
            self.asm.compare_with_flags(S0, limit);
            self.asm.load_if(if is_upward { GREATER } else { LESS }, S0, limit);
        }
        self.asm.store(limit, S0);
        if self.now.flavor.is_compat() {
            // The same for registers of 32 bits.
            let beyond = if is_upward { STRIDE_MAX } else { -STRIDE_MAX };
            self.asm.lea(S0, Mem::at(S0, beyond));
            self.asm.shift_right_flags(S0, 32);
            fails.push(self.asm.branch(NOT_EQUAL));
            return;
        }
        // A register far from where numbers wrap does not wrap in this page.
        self.asm.copy(S0, register);
        self.asm.add_register_flags(S0, S0);
        fails.push(self.asm.branch(OVERFLOW));
    }

    /// Stamps the page of a stream, and computes what its holder will hold.
    fn stamp_stream(&mut self, strip: &Strip, stream: &Stream, at: usize) {
        let word = Mem::word(words::STRIP_STREAM + at);
        self.asm.load(S1, word);
        self.asm.lea(S0, Mem::at(CLK, stream.last));
        self.asm.store(Mem::table(layout::STAMP, S1), S0);
        match self.now.flavor.is_compat() {
            true => self.wrapped_base(stream, word),
            false => self.plain_base(stream),
        }
        match stream.holder {
            S1 | S0 => self.asm.store(word, S0),
            MASK => self.asm.copy(MASK, S0),
            guest => {
                self.asm.store(Mem::word(words::home(guest)), guest);
                self.asm.copy(guest, S0);
            }
        }
        debug_assert!(strip.streams.len() <= super::strip::STREAMS_MAX, "a word for each stream");
    }

    /// What the holder of a stream will hold: the host address of its operand less what moves; the
    /// slot of its page is in r15.
    fn plain_base(&mut self, stream: &Stream) {
        self.asm.load(S0, Mem::table(layout::HOST, S1));
        self.asm.add_flags(S0, Mem::table(tag(stream.access), S1));
        let (base, index) = stream.still();
        if let Some(base) = base {
            let base = self.current(base, S1);
            self.asm.lea(S0, Mem::sum(base, S0));
        }
        if let Some((index, scale)) = index {
            let index = Some((self.current(index, S1), scale));
            self.asm.lea(S0, Mem { base: Some(S0), index, displacement: 0, is_gs: false });
        }
        if stream.anchor.absolute != 0 {
            self.asm.constant(S1, stream.anchor.absolute);
            self.asm.lea(S0, Mem::sum(S0, S1));
        }
    }

    /// Likewise in 32-bit code, where the sum of an address may wrap: the host address of the
    /// lowest byte now, less the register that moves and the displacement. The slot is in `word`.
    fn wrapped_base(&mut self, stream: &Stream, word: Mem) {
        let Stream { anchor, low, .. } = *stream;
        self.anchor_address(anchor, low);
        self.asm.load(S1, word);
        self.asm.add_flags(S0, Mem::table(layout::HOST, S1));
        self.asm.add_flags(S0, Mem::table(tag(stream.access), S1));
        let Some((mover, scale)) = stream.mover else {
            return self.asm.lea(S0, Mem::at(S0, -low));
        };
        let register = self.current(mover, S1);
        if register != S1 {
            self.asm.copy(S1, register);
        }
        self.asm.complement(S1);
        let displacement = (1 << scale) - low;
        let index = Some((S1, scale));
        self.asm.lea(S0, Mem { base: Some(S0), index, displacement, is_gs: false });
    }

    /// Loads the holders that are scratch registers, and the stolen registers.
    fn load_holders(&mut self, strip: &Strip) {
        self.asm.forget();
        for (at, stream) in strip.streams.iter().enumerate().filter(|(_, s)| s.holder >= S1) {
            self.asm.load(stream.holder, Mem::word(words::STRIP_STREAM + at));
        }
        for stolen in &strip.stolen {
            let register = strip.registers[usize::from(*stolen)];
            if register < MASK {
                self.asm.store(Mem::word(words::home(register)), register);
            }
            self.asm.load(register, Mem::word(words::home(*stolen)));
        }
    }

    /// Goes back to the head unless a register has moved too far; without such a register, unless
    /// the clock is to be drained.
    fn check_movers(&mut self, strip: &Strip, head: u64) {
        let Some((last, others)) = strip.movers.split_last() else {
            self.asm.test_flags(CLK, CLOCK_DRAIN_BIT as u32);
            let again = self.asm.branch(EQUAL);
            return self.asm.resolve_to(again, head);
        };
        let mut restarts = Vec::new();
        for (at, (register, is_upward)) in others.iter().enumerate() {
            let register = strip.registers[usize::from(*register)];
            self.asm.compare_with_flags(register, Mem::word(words::STRIP_LIMIT + at));
            restarts.push(self.asm.branch(if *is_upward { GREATER } else { LESS }));
        }
        let register = strip.registers[usize::from(last.0)];
        self.asm.compare_with_flags(register, Mem::word(words::STRIP_LIMIT + others.len()));
        let again = self.asm.branch(if last.1 { LESS_EQUAL } else { opposite(LESS) });
        self.asm.resolve_to(again, head);
        for branch in restarts {
            self.asm.resolve(branch);
        }
    }

    /// Brings all guest registers to where they are outside of strips; changes no flag.
    fn restore(&mut self, strip: &Strip) {
        for stolen in strip.stolen.iter().filter(|stolen| strip.written >> **stolen & 1 != 0) {
            let register = strip.registers[usize::from(*stolen)];
            self.asm.store(Mem::word(words::home(*stolen)), register);
        }
        for register in &strip.lent {
            let word = match *register {
                MASK => layout::MASK_INDEX,
                guest => words::home(guest),
            };
            self.asm.load(*register, Mem::word(word));
        }
        self.asm.touch(S0);
        self.asm.touch(S1);
    }

    /// One instruction of the loop; its operand is in `stream`.
    fn strip_step(&mut self, strip: &Strip, step: &Step, stream: Option<Stream>) {
        let mut copy = step.instruction;
        for operand in 0..copy.op_count() {
            if copy.op_kind(operand) == OpKind::Register {
                let register = renamed(strip, copy.op_register(operand));
                copy.set_op_register(operand, register);
            }
        }
        match (step.class, stream) {
            (Class::Nop, _) => return,
            (Class::Lea, _) if copy.is_ip_rel_memory_operand() => {
                let Some(target) = number(copy.op0_register()) else { return };
                let value = copy.ip_rel_memory_address();
                let is_short = copy.op0_register().size() == 4;
                return self
                    .asm
                    .constant(target, if is_short { value & 0xffff_ffff } else { value });
            }
            (Class::Lea, _) => {
                copy.set_segment_prefix(Register::None);
                copy.set_memory_base(renamed(strip, copy.memory_base()));
                copy.set_memory_index(renamed(strip, copy.memory_index()));
                with_displacement(&mut copy);
            }
            (_, Some(stream)) => set_stream_operand(strip, &mut copy, &stream),
            _ => {}
        }
        self.encode(&copy);
    }
}

/// The register that stands for `register` in the loop.
fn renamed(strip: &Strip, register: Register) -> Register {
    match number(register) {
        Some(stolen) if stolen >= MASK => {
            register_of(strip.registers[usize::from(stolen)], register.size())
        }
        _ => register,
    }
}

/// Makes the holder of the stream a part of the memory operand.
fn set_stream_operand(strip: &Strip, copy: &mut Instruction, stream: &Stream) {
    let wide = |register: Reg| register_of(register, 8);
    let displacement = if copy.is_ip_rel_memory_operand() {
        copy.ip_rel_memory_address().wrapping_sub(stream.anchor.absolute)
    } else {
        copy.memory_displacement64()
    };
    without_absolute(copy);
    copy.set_segment_prefix(Register::None);
    copy.set_memory_base(wide(stream.holder));
    copy.set_memory_index(Register::None);
    copy.set_memory_index_scale(1);
    if let Some((mover, scale)) = stream.mover {
        copy.set_memory_index(wide(strip.registers[usize::from(mover)]));
        copy.set_memory_index_scale(1 << scale);
    }
    copy.set_memory_displacement64(displacement);
    with_displacement(copy);
}

/// Gives the operand the bytes of displacement that it needs.
fn with_displacement(copy: &mut Instruction) {
    let needs_one = matches!(copy.memory_base(), Register::RBP | Register::R13);
    let size = match copy.memory_displacement64() as i64 {
        0 if !needs_one && copy.memory_base() != Register::None => 0,
        -128..=127 if copy.memory_base() != Register::None => 1,
        _ => 8,
    };
    copy.set_memory_displ_size(size);
}
