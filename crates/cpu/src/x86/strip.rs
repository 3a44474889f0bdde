//! Strips: which loops can run many iterations on pointers that were probed once.
//!
//! A block that jumps back to its own start, and whose accesses all go through registers that stay
//! or move by a constant per iteration, touches the same few pages in the same order until one of
//! the pointers leaves its page. A strip is that many iterations: the way in probes each stream of
//! accesses and stamps its page, and the copy of the loop behind makes no probes (`strip_code.rs`).
//!
//! That is exact. Between the first and the last access of a strip no other page is touched, so of
//! its time stamps only their order at the end matters, which is the order of the last accesses of
//! an iteration; the stamps of the first iteration have it. The clock advances as without strips,
//! and the drain bit is looked at where it would be.
//!
//! Invariants
//! 1. No instruction of a strip can fault: its pages are there, vector and x87 exceptions are
//!    masked, and operands are as aligned as in the iteration before, which was made with probes.
//! 2. All registers of an address stay or move by a constant in every iteration, and those that
//!    move do not wrap, at 32 bits in 32-bit code.

use super::block::{Scan, Step};
use super::classify::{Class, number};
use super::compat::is_compat;
use super::emit::{MASK, RSP, Reg, S0, S1};
use super::group::{Anchor, written};
use super::operand::{is_short_address, operand_bytes, used_registers};
use super::probe::ticks;
use super::strip_safe::{implicit_reads, is_aligned_as_before, is_safe, is_x87, names_vector};
use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpKind, Register};
use machine::{Access, PAGE_BYTES};

/// Most streams of one strip.
pub(super) const STREAMS_MAX: usize = 8;
/// Most bytes of a stream in one iteration.
const SPAN_BYTES: i32 = 512;
/// Most bytes by which a register of an address moves per iteration.
pub(super) const STRIDE_MAX: i32 = 512;
/// Most accesses of one strip.
const ACCESSES_MAX: u64 = 1 << 15;

/// What an iteration does to a general register.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
enum Motion {
    #[default]
    Still,
    /// It moves by a constant, other than 0 in the end.
    Steady(i32),
    Wild,
}

/// Accesses through one address expression.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub anchor: Anchor,
    /// Displacement of the lowest byte, and of the one behind the highest, at the loop's start.
    pub low: i32,
    pub high: i32,
    /// The strongest right needed.
    pub access: Access,
    /// What the clock advances by from the start of an iteration to the last access.
    pub last: i32,
    /// The register that moves and log2 of its scale, if one does.
    pub mover: Option<(Reg, u8)>,
    /// The host register that makes a host address of the operand.
    pub holder: Reg,
}

impl Stream {
    /// The part of the address that does not change: a register, and another with a scale.
    pub(super) fn still(&self) -> (Option<Reg>, Option<(Reg, u8)>) {
        let moves = |register: Reg| self.mover.is_some_and(|(mover, _)| mover == register);
        let base = self.anchor.base.filter(|base| !moves(*base));
        let index = self.anchor.index.filter(|index| !moves(index.0));
        (base, index)
    }

    /// The displacement from this stream's address of one `displacement` from `anchor`, if they
    /// differ by a constant.
    pub(super) fn displacement(&self, anchor: Anchor, displacement: i32) -> Option<i32> {
        let distance = anchor.absolute.wrapping_sub(self.anchor.absolute) as i64;
        let distance = i32::try_from(distance).ok().filter(|bytes| bytes.abs() < 1 << 20)?;
        let is_same = self.anchor.base == anchor.base && self.anchor.index == anchor.index;
        is_same.then_some(displacement + distance)
    }

    /// The guest register that can hold the host address in place of the guest's.
    fn only_still(&self) -> Option<Reg> {
        match self.still() {
            (Some(register), None) | (None, Some((register, 0))) => Some(register),
            _ => None,
        }
    }
}

/// A loop that can run in strips.
#[derive(Clone, Debug)]
pub(super) struct Strip {
    /// In the order of their last accesses.
    pub streams: Vec<Stream>,
    /// The stream of the access of each step.
    pub members: Vec<Option<usize>>,
    /// The host register of each guest register.
    pub registers: [Reg; 16],
    /// Host registers that the loop borrows: of guest registers, whose values are in their homes,
    /// and of the index mask, which is in its word.
    pub lent: Vec<Reg>,
    /// Stolen registers that the loop names, and those it writes.
    pub stolen: Vec<Reg>,
    pub written: u16,
    /// Registers that streams move by, and whether upward.
    pub movers: Vec<(Reg, bool)>,
    /// What the clock advances by in an iteration.
    pub ticks: i32,
    /// More accesses than the strip makes; `None` if nothing moves, so that it has no end.
    pub accesses: Option<i32>,
    /// Whether vector exceptions must be masked.
    pub has_vectors: bool,
    /// Whether x87 exceptions must be masked.
    pub has_x87: bool,
}

/// The strip of a block that jumps back to its own start, if it can have one.
pub(super) fn find(scan: &Scan, factory: &mut InstructionInfoFactory) -> Option<Strip> {
    let last = scan.steps.last()?;
    let head = scan.steps.first()?.instruction.ip();
    let is_loop = last.class == Class::Branch && last.instruction.near_branch_target() == head;
    if !is_loop || scan.is_straddling || scan.is_flags_live_before {
        return None;
    }
    let body = &scan.steps[..scan.steps.len() - 1];
    if !body.iter().all(is_safe) {
        return None;
    }
    let motions = motions(body);
    let mut streams = Streams::default();
    for step in body {
        streams.take(step, &motions)?;
    }
    if streams.all.is_empty() {
        return None;
    }
    let has_vectors = body.iter().any(|step| names_vector(&step.instruction));
    let has_x87 = body.iter().any(|step| is_x87(&step.instruction));
    let written = body.iter().fold(0, |mask, step| mask | written(step));
    let mut strip = Strip {
        members: streams.members,
        registers: core::array::from_fn(|register| register as Reg),
        lent: Vec::new(),
        stolen: Vec::new(),
        written,
        movers: Vec::new(),
        ticks: ticks(streams.reads, streams.writes),
        accesses: None,
        has_vectors,
        has_x87,
        streams: streams.all,
    };
    strip.find_movers(&motions);
    strip.limit(&motions, streams.reads + streams.writes)?;
    strip.assign(body, factory)?;
    strip.order();
    Some(strip)
}

impl Strip {
    fn find_movers(&mut self, motions: &[Motion; 16]) {
        for (register, _) in self.streams.iter().filter_map(|stream| stream.mover) {
            let is_upward = matches!(motions[usize::from(register)], Motion::Steady(1..));
            if !self.movers.contains(&(register, is_upward)) {
                self.movers.push((register, is_upward));
            }
        }
    }

    /// Finds out how many accesses there can be until a stream leaves its page; `None` if too many.
    fn limit(&mut self, motions: &[Motion; 16], accesses: u64) -> Option<()> {
        let strides = self.streams.iter().map(|stream| stride(stream.mover, motions));
        let Some(stride) = strides.map(i32::unsigned_abs).filter(|stride| *stride > 0).max() else {
            return Some(());
        };
        let iterations = PAGE_BYTES / u64::from(stride) + 2;
        let accesses = iterations * accesses;
        self.accesses = Some(accesses.next_power_of_two() as i32);
        (accesses <= ACCESSES_MAX).then_some(())
    }

    /// Chooses host registers; `None` if there are too few.
    fn assign(&mut self, body: &[Step], factory: &mut InstructionInfoFactory) -> Option<()> {
        let named = body.iter().fold(0u16, |mask, step| mask | self.named(step, factory));
        let used = body.iter().fold(0u16, |mask, step| {
            mask | used_registers(factory, &step.instruction) | written(step)
        });
        self.stolen = (MASK..16).filter(|register| named >> register & 1 != 0).collect();
        let in_place = self.streams.iter().map(|stream| {
            let only = stream.only_still().filter(|register| *register < MASK && *register != RSP);
            only.filter(|register| named >> register & 1 == 0 && self.is_only_in(*register))
        });
        let in_place: Vec<_> = in_place.collect();
        let spare = (0..MASK).filter(|register| *register != RSP && used >> register & 1 == 0);
        let mut free = [S1, S0, MASK].into_iter().chain(spare);
        for register in &self.stolen {
            self.registers[usize::from(*register)] = free.next()?;
        }
        for (stream, register) in self.streams.iter_mut().zip(&in_place) {
            stream.holder = match register {
                Some(register) => *register,
                None => free.next()?,
            };
        }
        let stolen = self.stolen.iter().map(|register| self.registers[usize::from(*register)]);
        let holders = self.streams.iter().map(|stream| stream.holder);
        self.lent = stolen.chain(holders).filter(|register| *register < S1).collect();
        Some(())
    }

    /// The general registers whose values a step needs, as bits: not those that stay and that only
    /// its address has.
    fn named(&self, step: &Step, factory: &mut InstructionInfoFactory) -> u16 {
        let one = &step.instruction;
        if !matches!(step.class, Class::Memory(_)) {
            return used_registers(factory, one);
        }
        let mut mask = super::group::implicit(one);
        for operand in 0..one.op_count() {
            if one.op_kind(operand) == OpKind::Register {
                mask |= number(one.op_register(operand)).map_or(0, |register| 1 << register);
            }
        }
        for register in [one.memory_base(), one.memory_index()].into_iter().filter_map(number) {
            if self.movers.iter().any(|(mover, _)| *mover == register) {
                mask |= 1 << register;
            }
        }
        mask | implicit_reads(one)
    }

    /// Whether a register is a part of one stream's address only, and once.
    fn is_only_in(&self, register: Reg) -> bool {
        let parts = self.streams.iter().flat_map(|stream| {
            [stream.anchor.base, stream.anchor.index.map(|(register, _)| register)]
        });
        parts.flatten().filter(|part| *part == register).count() == 1
    }

    /// Sorts the streams by their last accesses.
    fn order(&mut self) {
        let mut order: Vec<usize> = (0..self.streams.len()).collect();
        order.sort_by_key(|at| self.streams[*at].last);
        self.streams = order.iter().map(|at| self.streams[*at]).collect();
        for member in self.members.iter_mut().flatten() {
            *member = order.iter().position(|at| at == member).unwrap_or(0);
        }
    }
}

/// What each register does in an iteration.
fn motions(body: &[Step]) -> [Motion; 16] {
    let mut motions = [Motion::Still; 16];
    for step in body {
        let moved = steady_move(&step.instruction);
        for register in (0..16u8).filter(|register| written(step) >> register & 1 != 0) {
            let motion = &mut motions[usize::from(register)];
            *motion = match (*motion, moved) {
                (Motion::Still, Some((mover, bytes))) if mover == register => Motion::Steady(bytes),
                (Motion::Steady(before), Some((mover, bytes))) if mover == register => {
                    Motion::Steady(before + bytes)
                }
                _ => Motion::Wild,
            };
        }
    }
    for motion in &mut motions {
        match motion {
            Motion::Steady(0) => *motion = Motion::Wild,
            Motion::Steady(bytes) if bytes.abs() > STRIDE_MAX => *motion = Motion::Wild,
            _ => {}
        }
    }
    motions
}

/// The register, as long as addresses are, that an instruction moves by a small constant, and by
/// how much.
fn steady_move(one: &Instruction) -> Option<(Reg, i32)> {
    let register = one.op0_register();
    let is_short = is_compat(one);
    let bytes = if is_short { 4 } else { 8 };
    if one.op_count() == 0 || one.op0_kind() != OpKind::Register || register.size() != bytes {
        return None;
    }
    let is_constant = one.op_count() == 2
        && matches!(
            one.op1_kind(),
            OpKind::Immediate8to64
                | OpKind::Immediate32to64
                | OpKind::Immediate8to32
                | OpKind::Immediate32
        );
    let signed = |value: u64| if is_short { i64::from(value as u32 as i32) } else { value as i64 };
    let is_itself = one.memory_base() == register.full_register();
    let bytes = match one.mnemonic() {
        Mnemonic::Inc => 1,
        Mnemonic::Dec => -1,
        Mnemonic::Add if is_constant => signed(one.immediate(1)),
        Mnemonic::Sub if is_constant => signed(one.immediate(1)).wrapping_neg(),
        Mnemonic::Lea if is_itself && one.memory_index() == Register::None => {
            signed(one.memory_displacement64())
        }
        _ => return None,
    };
    let is_small = |bytes: &i32| (-STRIDE_MAX..=STRIDE_MAX).contains(bytes);
    let bytes = i32::try_from(bytes).ok().filter(is_small)?;
    Some((number(register)?, bytes))
}

/// Streams as they are found along the loop.
#[derive(Default)]
struct Streams {
    all: Vec<Stream>,
    members: Vec<Option<usize>>,
    /// By how much each register has moved since the loop's start.
    moved: [i32; 16],
    reads: u64,
    writes: u64,
}

impl Streams {
    /// Takes in one step; `None` if there can be no strip.
    fn take(&mut self, step: &Step, motions: &[Motion; 16]) -> Option<()> {
        let one = &step.instruction;
        let mut member = None;
        if let Class::Memory(access) = step.class {
            member = Some(self.access(one, access, motions)?);
            match access {
                Access::Write => self.writes += 1,
                Access::Read | Access::Fetch => self.reads += 1,
            }
        }
        self.members.push(member);
        if let Some((register, bytes)) = steady_move(one) {
            let moved = &mut self.moved[usize::from(register)];
            *moved = moved.checked_add(bytes)?;
            // What wraps is looked for that far from where the register is (`strip_code.rs`).
            let is_steady = matches!(motions[usize::from(register)], Motion::Steady(_));
            if is_compat(one) && is_steady && moved.abs() > STRIDE_MAX {
                return None;
            }
        }
        Some(())
    }

    /// The stream of an access, new if need be.
    fn access(
        &mut self,
        one: &Instruction,
        access: Access,
        motions: &[Motion; 16],
    ) -> Option<usize> {
        let (anchor, displacement) = self.anchor(one)?;
        let mover = mover(anchor, motions)?;
        let bytes = i32::from(operand_bytes(one));
        if !is_aligned_as_before(one, stride(mover, motions)) {
            return None;
        }
        let last = ticks(self.reads, self.writes);
        for (at, stream) in self.all.iter_mut().enumerate() {
            let Some(low) = stream.displacement(anchor, displacement) else { continue };
            let high = low + bytes;
            let (bottom, top) = (stream.low.min(low), stream.high.max(high));
            let is_near = i64::from(top) - i64::from(bottom) <= i64::from(SPAN_BYTES);
            if is_near {
                (stream.low, stream.high, stream.last) = (bottom, top, last);
                stream.access = stream.access.max(access);
                return Some(at);
            }
        }
        if self.all.len() == STREAMS_MAX {
            return None;
        }
        let (low, high) = (displacement, displacement + bytes);
        self.all.push(Stream { anchor, low, high, access, last, mover, holder: 0 });
        Some(self.all.len() - 1)
    }

    /// The address of an operand at the start of the loop: its registers, and its displacement.
    fn anchor(&self, one: &Instruction) -> Option<(Anchor, i32)> {
        let has_segment = matches!(one.segment_prefix(), Register::FS | Register::GS);
        if has_segment || is_short_address(one) {
            return None;
        }
        if one.is_ip_rel_memory_operand() {
            let absolute = one.ip_rel_memory_address();
            let anchor = Anchor { base: None, index: None, segment: Register::None, absolute };
            return Some((anchor, 0));
        }
        let base = number(one.memory_base());
        let index = number(one.memory_index());
        if base.is_none() && index.is_none() {
            return None;
        }
        let scale = one.memory_index_scale().trailing_zeros() as u8;
        let anchor = Anchor {
            base,
            index: index.map(|index| (index, scale)),
            segment: Register::None,
            absolute: 0,
        };
        let moved = |register: Option<Reg>, scale: u8| {
            register.map_or(0, |register| self.moved[usize::from(register)] << scale)
        };
        let displacement = i32::try_from(one.memory_displacement64() as i64).ok()?;
        let displacement = displacement.checked_add(moved(base, 0))?;
        let displacement = displacement.checked_add(moved(index, scale))?;
        let is_plain = displacement.unsigned_abs() < 1 << 30;
        is_plain.then_some((anchor, displacement))
    }
}

/// The register of an address that moves, with its scale. `None` if there can be no strip.
fn mover(anchor: Anchor, motions: &[Motion; 16]) -> Option<Option<(Reg, u8)>> {
    let mut mover = None;
    for (register, scale) in [anchor.base.map(|base| (base, 0)), anchor.index].into_iter().flatten()
    {
        match motions[usize::from(register)] {
            Motion::Still => {}
            Motion::Steady(_) if mover.is_none() && register != RSP => {
                mover = Some((register, scale));
            }
            _ => return None,
        }
    }
    Some(mover)
}

fn stride(mover: Option<(Reg, u8)>, motions: &[Motion; 16]) -> i32 {
    match mover.map(|(register, scale)| (motions[usize::from(register)], scale)) {
        Some((Motion::Steady(bytes), scale)) => bytes << scale,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::Code;

    #[test]
    fn a_move_by_the_least_number_of_32_bits_is_not_small() {
        let moved = |by| {
            let one = Instruction::with2(Code::Add_rm64_imm32, Register::RCX, by);
            steady_move(&one.expect("it can be encoded"))
        };
        assert_eq!(moved(i32::MIN), None);
        assert_eq!(moved(-STRIDE_MAX), Some((1, -STRIDE_MAX)));
        assert_eq!(moved(STRIDE_MAX + 1), None);
    }
}
