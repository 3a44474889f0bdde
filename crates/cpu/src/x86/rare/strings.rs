//! `movs`, `stos`, `lods`, `scas`, `cmps`, with and without a repeat prefix.
//!
//! A repeated instruction runs page by page: the first element of a run makes its accesses, and when
//! both pages are right the rest of the run is counted at once. An element that straddles pages is a
//! run of its own. When a fault stops it, the registers name the element that faulted.
//!
//! Every element is one access (`movs` and `cmps`: two), so the clock equals that of a loop.

use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use machine::{Access, PAGE_BYTES, PhysAddr};

use super::guest::Guest;
use crate::{Exception, Exit, Registers};

const ZERO: u64 = 1 << 6;
const DIRECTION: u64 = 1 << 10;
/// CF PF AF ZF SF OF.
const ARITHMETIC: u64 = 0x8d5;

/// When a repeated instruction ends before its count does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Repeat {
    Once,
    Count,
    WhileEqual,
    WhileUnequal,
}

/// One string instruction, decoded.
struct Plan {
    element_bytes: u64,
    step: u64,
    address_mask: u64,
    source_base: u64,
    repeat: Repeat,
}

/// Executes the instruction for as many elements as it can.
///
/// # Errors
/// The fault of the first element that could not be done; all before it are.
pub(super) fn execute(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    use Mnemonic as M;
    let plan = Plan::new(guest, insn);
    loop {
        let left = plan.left(guest);
        if left == 0 {
            return Ok(());
        }
        let done = match insn.mnemonic() {
            M::Movsb | M::Movsw | M::Movsd | M::Movsq => plan.moves(guest, left)?,
            M::Stosb | M::Stosw | M::Stosd | M::Stosq => plan.stores(guest, left)?,
            M::Lodsb | M::Lodsw | M::Lodsd | M::Lodsq => plan.loads(guest, left)?,
            M::Scasb | M::Scasw | M::Scasd | M::Scasq => plan.scans(guest, left)?,
            M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq => plan.compares(guest, left)?,
            _ => return Err(Exit::Exception(Exception::GeneralProtection)),
        };
        if plan.repeat == Repeat::Once || plan.is_over(guest, done) {
            return Ok(());
        }
    }
}

impl Plan {
    fn new(guest: &Guest<'_>, insn: &Instruction) -> Self {
        use Mnemonic as M;
        let element_bytes = match insn.mnemonic() {
            M::Movsb | M::Stosb | M::Lodsb | M::Scasb | M::Cmpsb => 1,
            M::Movsw | M::Stosw | M::Lodsw | M::Scasw | M::Cmpsw => 2,
            M::Movsd | M::Stosd | M::Lodsd | M::Scasd | M::Cmpsd => 4,
            _ => 8,
        };
        let narrow = (0..insn.op_count()).any(|operand| {
            matches!(insn.op_kind(operand), OpKind::MemorySegESI | OpKind::MemoryESEDI)
                || matches!(insn.op_kind(operand), OpKind::MemorySegEDI)
        });
        let compares = matches!(
            insn.mnemonic(),
            M::Scasb | M::Scasw | M::Scasd | M::Scasq | M::Cmpsb | M::Cmpsw | M::Cmpsd | M::Cmpsq
        );
        let repeat = match (insn.has_rep_prefix(), insn.has_repne_prefix(), compares) {
            (false, false, _) => Repeat::Once,
            (_, true, true) => Repeat::WhileUnequal,
            (true, false, true) => Repeat::WhileEqual,
            (_, _, false) => Repeat::Count,
        };
        let segment = insn.segment_prefix();
        Self {
            element_bytes,
            step: if guest.regs.rflags & DIRECTION == 0 {
                element_bytes
            } else {
                element_bytes.wrapping_neg()
            },
            address_mask: if narrow { 0xffff_ffff } else { u64::MAX },
            source_base: guest.segment_base(segment),
            repeat,
        }
    }

    /// Elements still to do.
    fn left(&self, guest: &Guest<'_>) -> u64 {
        match self.repeat {
            Repeat::Once => 1,
            _ => guest.regs.gpr[Registers::RCX] & self.address_mask,
        }
    }

    fn is_over(&self, guest: &Guest<'_>, _done: u64) -> bool {
        let is_equal = guest.regs.rflags & ZERO != 0;
        match self.repeat {
            Repeat::WhileEqual => !is_equal,
            Repeat::WhileUnequal => is_equal,
            Repeat::Once | Repeat::Count => false,
        }
    }

    fn source(&self, guest: &Guest<'_>) -> u64 {
        self.source_base.wrapping_add(guest.regs.gpr[Registers::RSI] & self.address_mask)
    }

    fn target(&self, guest: &Guest<'_>) -> u64 {
        guest.regs.gpr[Registers::RDI] & self.address_mask
    }

    /// Elements from `addr` on that lie wholly in its page; 0 if the first straddles.
    fn run(&self, addr: u64) -> u64 {
        let offset = addr & (PAGE_BYTES - 1);
        if offset + self.element_bytes > PAGE_BYTES {
            return 0;
        }
        if self.step == self.element_bytes {
            (PAGE_BYTES - offset) / self.element_bytes
        } else {
            offset / self.element_bytes + 1
        }
    }

    fn advance(&self, guest: &mut Guest<'_>, register: usize, count: u64) {
        let old = guest.regs.gpr[register];
        let new = old.wrapping_add(self.step.wrapping_mul(count));
        guest.regs.gpr[register] =
            if self.address_mask == u64::MAX { new } else { new & self.address_mask };
    }

    fn count_down(&self, guest: &mut Guest<'_>, count: u64) {
        if self.repeat != Repeat::Once {
            let rcx = guest.regs.gpr[Registers::RCX];
            guest.regs.gpr[Registers::RCX] = rcx.wrapping_sub(count) & self.address_mask;
        }
    }

    fn moves(&self, guest: &mut Guest<'_>, left: u64) -> Result<u64, Exit> {
        let (source, target) = (self.source(guest), self.target(guest));
        let count = left.min(self.run(source)).min(self.run(target));
        if count == 0 {
            self.move_straddling(guest, source, target)?;
        } else {
            let from = guest.touch(source, Access::Read)?;
            let to = guest.touch(target, Access::Write)?;
            if count > 1 {
                guest.touch_many(source, Access::Read, count - 1)?;
                guest.touch_many(target, Access::Write, count - 1)?;
            }
            self.copy(guest, from, to, count);
        }
        let count = count.max(1);
        self.advance(guest, Registers::RSI, count);
        self.advance(guest, Registers::RDI, count);
        self.count_down(guest, count);
        Ok(count)
    }

    fn move_straddling(&self, guest: &mut Guest<'_>, source: u64, target: u64) -> Result<(), Exit> {
        let bytes = self.element_bytes as usize;
        let value = guest.load_number(source, bytes)?;
        guest.store(target, &value.to_le_bytes()[..bytes])
    }

    /// Copies `count` elements inside one frame each, in the order of the direction.
    fn copy(&self, guest: &mut Guest<'_>, from: PhysAddr, to: PhysAddr, count: u64) {
        let bytes = count * self.element_bytes;
        let back = if self.step == self.element_bytes { 0 } else { bytes - self.element_bytes };
        let low = |addr: PhysAddr| PhysAddr::new(addr.as_u64() - back);
        let distance = low(to).as_u64().abs_diff(low(from).as_u64());
        let mut buffer = [0; PAGE_BYTES as usize];
        if distance >= bytes || distance == 0 {
            let run = &mut buffer[..bytes as usize];
            guest.hw.load(low(from), run);
            guest.hw.store(low(to), run);
            return;
        }
        let element = &mut buffer[..self.element_bytes as usize];
        for index in 0..count {
            let moved = self.step.wrapping_mul(index);
            guest.hw.load(from.wrapping_add(moved), element);
            guest.hw.store(to.wrapping_add(moved), element);
        }
    }

    fn stores(&self, guest: &mut Guest<'_>, left: u64) -> Result<u64, Exit> {
        let target = self.target(guest);
        let value = guest.regs.gpr[Registers::RAX].to_le_bytes();
        let element = &value[..self.element_bytes as usize];
        let count = left.min(self.run(target));
        if count == 0 {
            guest.store(target, element)?;
        } else {
            let to = guest.touch(target, Access::Write)?;
            if count > 1 {
                guest.touch_many(target, Access::Write, count - 1)?;
            }
            let bytes = count * self.element_bytes;
            let back = if self.step == self.element_bytes { 0 } else { bytes - self.element_bytes };
            let mut buffer = [0; PAGE_BYTES as usize];
            let run = &mut buffer[..bytes as usize];
            for chunk in run.chunks_exact_mut(element.len()) {
                chunk.copy_from_slice(element);
            }
            guest.hw.store(PhysAddr::new(to.as_u64() - back), run);
        }
        let count = count.max(1);
        self.advance(guest, Registers::RDI, count);
        self.count_down(guest, count);
        Ok(count)
    }

    fn loads(&self, guest: &mut Guest<'_>, left: u64) -> Result<u64, Exit> {
        let source = self.source(guest);
        let count = left.min(self.run(source)).max(1);
        let bytes = self.element_bytes as usize;
        let mut value = guest.load_number(source, bytes)?;
        if count > 1 {
            let last = source.wrapping_add(self.step.wrapping_mul(count - 1));
            let at = guest.touch_many(last, Access::Read, count - 1)?;
            let mut number = [0; 8];
            guest.hw.load(at, &mut number[..bytes]);
            value = u64::from_le_bytes(number);
        }
        guest.write(accumulator(self.element_bytes), value);
        self.advance(guest, Registers::RSI, count);
        self.count_down(guest, count);
        Ok(count)
    }

    fn scans(&self, guest: &mut Guest<'_>, left: u64) -> Result<u64, Exit> {
        let target = self.target(guest);
        let wanted = guest.read(accumulator(self.element_bytes));
        let bytes = self.element_bytes as usize;
        let limit = left.min(self.run(target)).max(1);
        let pieces = guest.reach(target, bytes, Access::Read)?;
        let mut number = [0; 8];
        guest.get(pieces, &mut number[..bytes]);
        self.subtract(guest, wanted, u64::from_le_bytes(number));
        let mut count = 1;
        if count < limit && !self.is_over(guest, count) {
            // The rest of the run lies in the same page, so in the same frame.
            let at = guest.touch(target.wrapping_add(self.step), Access::Read)?;
            while count < limit && !self.is_over(guest, count) {
                let here = at.wrapping_add(self.step.wrapping_mul(count - 1));
                guest.hw.load(here, &mut number[..bytes]);
                self.subtract(guest, wanted, u64::from_le_bytes(number));
                count += 1;
            }
            if count > 2 {
                guest.touch_many(target, Access::Read, count - 2)?;
            }
        }
        self.advance(guest, Registers::RDI, count);
        self.count_down(guest, count);
        Ok(count)
    }

    fn compares(&self, guest: &mut Guest<'_>, _left: u64) -> Result<u64, Exit> {
        let bytes = self.element_bytes as usize;
        let first = guest.load_number(self.source(guest), bytes)?;
        let second = guest.load_number(self.target(guest), bytes)?;
        self.subtract(guest, first, second);
        self.advance(guest, Registers::RSI, 1);
        self.advance(guest, Registers::RDI, 1);
        self.count_down(guest, 1);
        Ok(1)
    }

    /// Sets the arithmetic flags of `first - second`.
    fn subtract(&self, guest: &mut Guest<'_>, first: u64, second: u64) {
        let bits = self.element_bytes * 8;
        let mask = u64::MAX >> (64 - bits);
        let sign = 1 << (bits - 1);
        let (first, second) = (first & mask, second & mask);
        let result = first.wrapping_sub(second) & mask;
        let mut flags = 0;
        let mut set = |bit: u32, holds: bool| flags |= u64::from(holds) << bit;
        set(0, first < second);
        set(2, (result & 0xff).count_ones() % 2 == 0);
        set(4, first & 0xf < second & 0xf);
        set(6, result == 0);
        set(7, result & sign != 0);
        set(11, (first ^ second) & (first ^ result) & sign != 0);
        guest.regs.rflags = guest.regs.rflags & !ARITHMETIC | flags;
    }
}

fn accumulator(bytes: u64) -> Register {
    match bytes {
        1 => Register::AL,
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    }
}
