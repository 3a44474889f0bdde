//! String instructions, a page at a time.
//!
//! One element is one access of each operand. Between page ends all elements are done at once; the
//! clock advances by their number. Registers move with every run, so a fault finds them at the
//! element that it stopped.

use super::super::compat::is_compat;
use super::super::operand::segment_of;
use super::Result;
use super::bus::Bus;
use super::flags::{subtract, with};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use machine::{Access, CLOCK_DRAIN_BIT, PAGE_BYTES, VirtAddr, layout};

/// What is done with each element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Kind {
    Move,
    Fill,
    Load,
    Compare,
    Scan,
}

/// By their numbers.
const KINDS: [Kind; 5] = [Kind::Move, Kind::Fill, Kind::Load, Kind::Compare, Kind::Scan];

/// When to stop before the count is used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Until {
    Never,
    Different,
    Equal,
}

/// How far one call goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) enum Pace {
    /// To the end of the instruction.
    Whole,
    /// One element: with the trap flag set, each is a step.
    Element,
}

/// One string instruction, as far as the instruction itself tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in super::super) struct Job {
    pub kind: Kind,
    pub bytes: u8,
    until: Until,
    pub is_repeated: bool,
    /// Bytes of its addresses and of the count.
    pub width: u8,
    /// The segment of the source; none is DS of 64-bit code.
    pub segment: Register,
}

/// What a job's segment may be, in eight places.
const SEGMENTS: [Register; 8] = [
    Register::None,
    Register::ES,
    Register::CS,
    Register::SS,
    Register::DS,
    Register::FS,
    Register::GS,
    Register::None,
];

/// The registers that a string instruction works on.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct StringRegisters {
    pub rax: u64,
    pub rcx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rflags: u64,
    /// Base of the segment of the source.
    pub source_base: u64,
    /// Base of ES.
    pub target_base: u64,
    /// Bits of a linear address.
    pub linear_mask: u64,
}

/// Sets an address register: 32-bit addressing clears the upper half, 16-bit addressing keeps it.
fn set_masked(register: &mut u64, value: u64, mask: u64) {
    let kept = if mask == 0xffff { *register & !mask } else { 0 };
    *register = kept | value & mask;
}

/// Bytes of an implied address; 8 for other operands.
fn address_bytes(kind: OpKind) -> u8 {
    match kind {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => 2,
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => 4,
        _ => 8,
    }
}

impl Job {
    /// All ones of the size of its addresses and of the count.
    pub(in super::super) const fn mask(self) -> u64 {
        u64::MAX >> (64 - 8 * self.width as u32)
    }

    /// Whether the instruction compares.
    pub(in super::super) fn writes_flags(self) -> bool {
        matches!(self.kind, Kind::Compare | Kind::Scan)
    }

    /// All that it says in 12 bits.
    pub(in super::super) fn pack(self) -> u16 {
        let segment = SEGMENTS.iter().position(|one| *one == self.segment).unwrap_or(0) as u16;
        let log2 = |bytes: u8| bytes.trailing_zeros() as u16;
        let until = u16::from(self.until == Until::Equal);
        let flags = until | u16::from(self.is_repeated) << 1;
        self.kind as u16 | log2(self.bytes) << 3 | log2(self.width) << 5 | flags << 7 | segment << 9
    }

    /// What [`Job::pack`] packed.
    pub(in super::super) fn unpack(word: u16) -> Self {
        let kind = KINDS[usize::from(word & 7).min(KINDS.len() - 1)];
        let until = match (kind, word >> 7 & 1) {
            (Kind::Move | Kind::Fill | Kind::Load, _) => Until::Never,
            (_, 0) => Until::Different,
            _ => Until::Equal,
        };
        Self {
            kind,
            bytes: 1 << (word >> 3 & 3),
            until,
            is_repeated: word >> 8 & 1 != 0,
            width: 1 << (word >> 5 & 3),
            segment: SEGMENTS[usize::from(word >> 9 & 7)],
        }
    }

    /// What `instruction` asks for.
    pub(in super::super) fn new(instruction: &Instruction) -> Self {
        use Mnemonic as M;
        let (kind, bytes) = match instruction.mnemonic() {
            M::Movsb => (Kind::Move, 1),
            M::Movsw => (Kind::Move, 2),
            M::Movsd => (Kind::Move, 4),
            M::Movsq => (Kind::Move, 8),
            M::Stosb => (Kind::Fill, 1),
            M::Stosw => (Kind::Fill, 2),
            M::Stosd => (Kind::Fill, 4),
            M::Stosq => (Kind::Fill, 8),
            M::Lodsb => (Kind::Load, 1),
            M::Lodsw => (Kind::Load, 2),
            M::Lodsd => (Kind::Load, 4),
            M::Lodsq => (Kind::Load, 8),
            M::Cmpsb => (Kind::Compare, 1),
            M::Cmpsw => (Kind::Compare, 2),
            M::Cmpsd => (Kind::Compare, 4),
            M::Cmpsq => (Kind::Compare, 8),
            M::Scasb => (Kind::Scan, 1),
            M::Scasw => (Kind::Scan, 2),
            M::Scasd => (Kind::Scan, 4),
            _ => (Kind::Scan, 8),
        };
        let compares = matches!(kind, Kind::Compare | Kind::Scan);
        let until = match (compares, instruction.has_repne_prefix()) {
            (false, _) => Until::Never,
            (true, true) => Until::Equal,
            (true, false) => Until::Different,
        };
        let width = (0..instruction.op_count()).map(|i| address_bytes(instruction.op_kind(i)));
        let segment = match segment_of(instruction) {
            Register::ES | Register::CS | Register::SS | Register::DS
                if !is_compat(instruction) =>
            {
                Register::None
            }
            segment => segment,
        };
        Self {
            kind,
            bytes,
            until,
            is_repeated: instruction.has_rep_prefix() || instruction.has_repne_prefix(),
            width: width.min().unwrap_or(8),
            segment,
        }
    }

    /// Does the instruction, or one element of it; says whether it is over. On an error, the
    /// registers are those of the element that it stopped.
    pub(in super::super) fn run(
        &self,
        bus: &mut Bus,
        regs: &mut StringRegisters,
        pace: Pace,
    ) -> Result<bool> {
        let run = Run {
            kind: self.kind,
            bytes: u64::from(self.bytes),
            until: self.until,
            is_backward: regs.rflags & super::super::run::DIRECTION != 0,
            mask: self.mask(),
            source_base: regs.source_base,
            target_base: regs.target_base,
            linear_mask: regs.linear_mask,
        };
        if !self.is_repeated {
            return run.step(bus, regs, 1).map(|_| true);
        }
        loop {
            let left = regs.rcx & run.mask;
            if left == 0 {
                return Ok(true);
            }
            let most = if pace == Pace::Element { 1 } else { left };
            let (done, is_over) = run.step(bus, regs, most)?;
            set_masked(&mut regs.rcx, left - done, run.mask);
            if bus.hw.fast()[layout::CLOCK] & CLOCK_DRAIN_BIT != 0 {
                bus.hw.drain_clock();
            }
            if is_over || pace == Pace::Element {
                return Ok(is_over || left == done);
            }
        }
    }
}

/// A string instruction under way.
struct Run {
    kind: Kind,
    bytes: u64,
    until: Until,
    is_backward: bool,
    /// All ones of the address size.
    mask: u64,
    source_base: u64,
    target_base: u64,
    linear_mask: u64,
}

impl Run {
    /// Does up to `left` elements; returns how many, and whether the condition ended it.
    fn step(&self, bus: &mut Bus, regs: &mut StringRegisters, left: u64) -> Result<(u64, bool)> {
        let from = regs.rsi & self.mask;
        let to = regs.rdi & self.mask;
        let source = from.wrapping_add(self.source_base) & self.linear_mask;
        let target = to.wrapping_add(self.target_base) & self.linear_mask;
        let (done, is_over) = match self.kind {
            Kind::Move => (self.copy(bus, source, target, left)?, false),
            Kind::Fill => (self.fill(bus, target, regs.rax, left)?, false),
            Kind::Load => (self.load(bus, regs, source)?, false),
            Kind::Compare => self.compare(bus, regs, source, target, left)?,
            Kind::Scan => self.scan(bus, regs, target, left)?,
        };
        let distance = done.wrapping_mul(self.bytes);
        let moved = |address: u64| {
            if self.is_backward {
                address.wrapping_sub(distance)
            } else {
                address.wrapping_add(distance)
            }
        };
        if matches!(self.kind, Kind::Move | Kind::Load | Kind::Compare) {
            set_masked(&mut regs.rsi, moved(from), self.mask);
        }
        if !matches!(self.kind, Kind::Load) {
            set_masked(&mut regs.rdi, moved(to), self.mask);
        }
        Ok((done, is_over))
    }

    /// Elements from `address` on that lie in its page, in the direction of the job; 0 if the first
    /// crosses its end.
    fn in_page(&self, address: u64) -> u64 {
        let offset = address % PAGE_BYTES;
        if offset + self.bytes > PAGE_BYTES {
            0
        } else if self.is_backward {
            offset / self.bytes + 1
        } else {
            (PAGE_BYTES - offset) / self.bytes
        }
    }

    /// Elements before a 32-bit address wraps.
    fn before_wrap(&self, address: u64) -> u64 {
        if self.mask == u64::MAX || self.is_backward {
            return u64::MAX;
        }
        (self.mask - (address & self.mask)) / self.bytes + 1
    }

    /// The lowest of `count` elements of which the first is at `address`.
    fn lowest(&self, address: u64, count: u64) -> u64 {
        if self.is_backward { address.wrapping_sub((count - 1) * self.bytes) } else { address }
    }

    fn repeat(bus: &mut Bus, address: u64, access: Access, count: u64) -> Result<()> {
        if count > 0 {
            bus.hw
                .access_repeat(VirtAddr::new(address), access, count)
                .map_err(crate::Exit::Fault)?;
        }
        Ok(())
    }

    fn copy(&self, bus: &mut Bus, source: u64, target: u64, left: u64) -> Result<u64> {
        let mut count = left.min(self.in_page(source)).min(self.in_page(target));
        count = count.min(self.before_wrap(source)).min(self.before_wrap(target));
        if count == 0 {
            let value = bus.read_number(source, self.bytes as usize)?;
            bus.write_number(target, value, self.bytes as usize)?;
            return Ok(1);
        }
        let from = bus.one(source, Access::Read)?;
        let to = bus.one(target, Access::Write)?;
        // Elements written must not be read later in the same run.
        let distance = if self.is_backward {
            from.as_u64().wrapping_sub(to.as_u64())
        } else {
            to.as_u64().wrapping_sub(from.as_u64())
        };
        if distance != 0 {
            count = count.min((distance / self.bytes).max(1));
        }
        Self::repeat(bus, source, Access::Read, count - 1)?;
        Self::repeat(bus, target, Access::Write, count - 1)?;
        let back = source.wrapping_sub(self.lowest(source, count));
        let (from, to) =
            (from.checked_sub(back).unwrap_or(from), to.checked_sub(back).unwrap_or(to));
        bus.hw.copy(from, to, count * self.bytes);
        Ok(count)
    }

    fn fill(&self, bus: &mut Bus, target: u64, value: u64, left: u64) -> Result<u64> {
        let count = left.min(self.in_page(target)).min(self.before_wrap(target));
        if count == 0 {
            bus.write_number(target, value, self.bytes as usize)?;
            return Ok(1);
        }
        let to = bus.one(target, Access::Write)?;
        Self::repeat(bus, target, Access::Write, count - 1)?;
        let back = target.wrapping_sub(self.lowest(target, count));
        let element = value << (64 - 8 * self.bytes);
        let pattern = (1..8 / self.bytes).fold(element, |all, _| all >> (8 * self.bytes) | element);
        bus.hw.fill(to.checked_sub(back).unwrap_or(to), count * self.bytes, pattern);
        Ok(count)
    }

    fn load(&self, bus: &mut Bus, regs: &mut StringRegisters, source: u64) -> Result<u64> {
        let value = bus.read_number(source, self.bytes as usize)?;
        regs.rax = match self.bytes {
            1 => regs.rax & !0xff | value,
            2 => regs.rax & !0xffff | value,
            _ => value,
        };
        Ok(1)
    }

    fn compare(
        &self,
        bus: &mut Bus,
        regs: &mut StringRegisters,
        source: u64,
        target: u64,
        left: u64,
    ) -> Result<(u64, bool)> {
        let mut count = left.min(self.in_page(source)).min(self.in_page(target));
        count = count.min(self.before_wrap(source)).min(self.before_wrap(target));
        if count == 0 {
            let a = bus.read_number(source, self.bytes as usize)?;
            let b = bus.read_number(target, self.bytes as usize)?;
            return Ok((1, self.judge(regs, a, b)));
        }
        let first = bus.one(source, Access::Read)?;
        let second = bus.one(target, Access::Read)?;
        let (mut done, mut is_over) = (0, false);
        while done < count && !is_over {
            let a = self.element(bus, first, done);
            let b = self.element(bus, second, done);
            is_over = self.judge(regs, a, b);
            done += 1;
        }
        Self::repeat(bus, source, Access::Read, done - 1)?;
        Self::repeat(bus, target, Access::Read, done - 1)?;
        Ok((done, is_over))
    }

    fn scan(
        &self,
        bus: &mut Bus,
        regs: &mut StringRegisters,
        target: u64,
        left: u64,
    ) -> Result<(u64, bool)> {
        let accumulator = regs.rax & u64::MAX >> (64 - 8 * self.bytes);
        let count = left.min(self.in_page(target)).min(self.before_wrap(target));
        if count == 0 {
            let value = bus.read_number(target, self.bytes as usize)?;
            return Ok((1, self.judge(regs, accumulator, value)));
        }
        let place = bus.one(target, Access::Read)?;
        let (mut done, mut is_over) = (0, false);
        while done < count && !is_over {
            let value = self.element(bus, place, done);
            is_over = self.judge(regs, accumulator, value);
            done += 1;
        }
        Self::repeat(bus, target, Access::Read, done - 1)?;
        Ok((done, is_over))
    }

    /// Element number `index` of a run whose first is at `place`.
    fn element(&self, bus: &Bus, place: machine::PhysAddr, index: u64) -> u64 {
        let distance = index * self.bytes;
        let place = if self.is_backward {
            place.checked_sub(distance).unwrap_or(place)
        } else {
            place.wrapping_add(distance)
        };
        let mut value = [0; 8];
        bus.hw.load(place, &mut value[..self.bytes as usize]);
        u64::from_le_bytes(value)
    }

    /// Sets the flags of `a - b`; whether a repeated instruction stops.
    fn judge(&self, regs: &mut StringRegisters, a: u64, b: u64) -> bool {
        regs.rflags = with(regs.rflags, subtract(a, b, self.bytes as u32));
        match self.until {
            Until::Never => false,
            Until::Different => a != b,
            Until::Equal => a == b,
        }
    }
}
