//! Guest memory for instructions that are done in Rust: through the model, one access for each page
//! that an operand touches.

use super::super::checks::{name_of, refused_by_segment};
use super::super::operand::{offset_mask, segment_of};
use super::Result;
use crate::{Exception, Exit, Mode, Registers, SegmentName};
use iced_x86::{Instruction, Register};
use machine::{Access, Machine, PAGE_BYTES, PhysAddr, Privilege, VirtAddr};

/// The way to guest memory.
pub(in super::super) struct Bus<'a> {
    pub hw: &'a mut Machine,
    pub canonical_bits: u32,
    /// Whether a non-canonical address is #SS.
    pub is_stack: bool,
    /// All ones of a linear address.
    pub linear_mask: u64,
    /// Whether an operand may reach over the end of linear addresses to 0. Segments have been
    /// looked at then.
    pub may_wrap: bool,
}

/// Most bytes of one operand.
const OPERAND_BYTES_MAX: usize = 1024;

/// The parts of an operand: places in RAM and their lengths; the second may be empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts([(PhysAddr, usize); 2]);

impl Bus<'_> {
    /// Makes the accesses for `bytes` bytes at `address`.
    ///
    /// # Errors
    /// The page fault of the first part that faults, or the exception for a non-canonical address.
    pub(super) fn access(&mut self, address: u64, bytes: usize, access: Access) -> Result<Parts> {
        debug_assert!(bytes <= OPERAND_BYTES_MAX, "operands touch two pages at most");
        let low = ((PAGE_BYTES - address % PAGE_BYTES) as usize).min(bytes);
        // Comes before the page fault of the first part.
        let wrap = if self.may_wrap { self.linear_mask } else { u64::MAX };
        self.check(address.wrapping_add(bytes.saturating_sub(1) as u64) & wrap)?;
        let first = self.one(address, access)?;
        let high = bytes - low;
        let second = match high {
            0 => first,
            _ => self.one(address.wrapping_add(low as u64) & wrap, access)?,
        };
        Ok(Parts([(first, low), (second, high)]))
    }

    /// Raises the exception for a non-canonical address.
    pub(super) fn check(&self, address: u64) -> Result<()> {
        // What reaches over the end of 32-bit addresses is beyond the limit of its segment.
        let is_within = address & !self.linear_mask == 0;
        if is_within && VirtAddr::new(address).is_canonical(self.canonical_bits) {
            return Ok(());
        }
        Err(Exit::Exception(match self.is_stack {
            true => Exception::StackFault,
            false => Exception::GeneralProtection,
        }))
    }

    /// One access within a page.
    pub(super) fn one(&mut self, address: u64, access: Access) -> Result<PhysAddr> {
        self.check(address)?;
        let address = VirtAddr::new(address);
        self.hw.access(address, access).map_err(Exit::Fault)
    }

    /// Reads what [`Self::access`] has found.
    pub(super) fn load(&self, parts: Parts, bytes: &mut [u8]) {
        let [(low, count), (high, _)] = parts.0;
        let (first, second) = bytes.split_at_mut(count);
        self.hw.load(low, first);
        if !second.is_empty() {
            self.hw.load(high, second);
        }
    }

    /// Writes to what [`Self::access`] has found.
    pub(super) fn store(&mut self, parts: Parts, bytes: &[u8]) {
        let [(low, count), (high, _)] = parts.0;
        let (first, second) = bytes.split_at(count);
        self.hw.store(low, first);
        if !second.is_empty() {
            self.hw.store(high, second);
        }
    }

    pub(super) fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<()> {
        let parts = self.access(address, bytes.len(), Access::Read)?;
        self.load(parts, bytes);
        Ok(())
    }

    pub(super) fn write(&mut self, address: u64, bytes: &[u8]) -> Result<()> {
        let parts = self.access(address, bytes.len(), Access::Write)?;
        self.store(parts, bytes);
        Ok(())
    }

    /// Reads a far pointer: an offset of `bytes` bytes, and the selector behind it.
    ///
    /// Outside of 64-bit code they are two operands: each has to lie in the segment, and the
    /// selector may lie at its start.
    pub(super) fn read_pointer(
        &mut self,
        regs: &Registers,
        instruction: &Instruction,
        operand: u32,
        bytes: usize,
    ) -> Result<(u64, u16)> {
        let place = linear(regs, instruction, operand, 0);
        if regs.mode() == Mode::Long {
            let mut pointer = [0; 10];
            self.read(place, &mut pointer[..bytes + 2])?;
            let mut offset = [0; 8];
            offset[..bytes].copy_from_slice(&pointer[..bytes]);
            let selector = u16::from_le_bytes([pointer[bytes], pointer[bytes + 1]]);
            return Ok((u64::from_le_bytes(offset), selector));
        }
        let segment = name_of(segment_of(instruction));
        let base = regs.base(segment);
        let behind = place.wrapping_sub(base).wrapping_add(bytes as u64) & offset_mask(instruction);
        let behind = behind.wrapping_add(base) & self.linear_mask;
        self.check_segment(regs, segment, place, bytes, Access::Read)?;
        let offset = self.read_number(place, bytes)?;
        self.check_segment(regs, segment, behind, 2, Access::Read)?;
        Ok((offset, self.read_number(behind, 2)? as u16))
    }

    /// Reads an unsigned number of 1 to 8 bytes.
    pub(super) fn read_number(&mut self, address: u64, bytes: usize) -> Result<u64> {
        let mut value = [0; 8];
        self.read(address, &mut value[..bytes])?;
        Ok(u64::from_le_bytes(value))
    }

    /// Writes the low 1 to 8 bytes of a number.
    pub(super) fn write_number(&mut self, address: u64, value: u64, bytes: usize) -> Result<()> {
        self.write(address, &value.to_le_bytes()[..bytes])
    }

    /// Pushes the low `bytes` of a number; rsp moves if the write succeeds.
    pub(super) fn push(&mut self, regs: &mut Registers, value: u64, bytes: usize) -> Result<()> {
        self.push_if(regs, value, bytes, |_| Ok(()))
    }

    /// Pushes the low `bytes` of a number if `check`, made when the stack could be written, has no
    /// objection.
    pub(super) fn push_if(
        &mut self,
        regs: &mut Registers,
        value: u64,
        bytes: usize,
        check: impl FnOnce(&Registers) -> Result<()>,
    ) -> Result<()> {
        let place = self.stack_linear(regs, regs.gpr[Registers::RSP].wrapping_sub(bytes as u64));
        self.check_segment(regs, SegmentName::Ss, place, bytes, Access::Write)?;
        let parts = self.access(place, bytes, Access::Write).map_err(on_stack)?;
        check(regs)?;
        self.store(parts, &value.to_le_bytes()[..bytes]);
        self.drop_stack(regs, (bytes as u64).wrapping_neg());
        Ok(())
    }

    /// The linear address of an offset in the stack segment.
    pub(super) fn stack_linear(&self, regs: &Registers, offset: u64) -> u64 {
        match stack_mask(regs) {
            u64::MAX => offset,
            mask => (offset & mask).wrapping_add(regs.base(SegmentName::Ss)) & self.linear_mask,
        }
    }

    /// Reads `bytes` bytes `offset` bytes above the top of the stack; rsp does not move.
    pub(super) fn peek_stack(
        &mut self,
        regs: &Registers,
        offset: u64,
        bytes: usize,
    ) -> Result<u64> {
        self.peek(regs, regs.gpr[Registers::RSP].wrapping_add(offset), bytes)
    }

    /// Moves rsp up by `bytes`, in the width that the stack segment has.
    pub(super) fn drop_stack(&self, regs: &mut Registers, bytes: u64) {
        let mask = stack_mask(regs);
        let rsp = &mut regs.gpr[Registers::RSP];
        *rsp = *rsp & !mask | rsp.wrapping_add(bytes) & mask;
    }

    /// Whether the stack could be written at `address`. Not an access.
    pub(super) fn check_write(&mut self, address: u64) -> Result<()> {
        let address = VirtAddr::new(address);
        if !address.is_canonical(self.canonical_bits) {
            return Err(Exit::Exception(Exception::StackFault));
        }
        let result = self.hw.probe(address, Access::Write, Privilege::User);
        result.map(|_| ()).map_err(Exit::Fault)
    }

    /// Raises what a write of `bytes` bytes at `address` would raise. Else it is not an access.
    pub(super) fn check_write_of(&mut self, address: u64, bytes: usize) -> Result<()> {
        for address in [address, address.wrapping_add(bytes as u64 - 1)] {
            self.check(address)?;
            let page = VirtAddr::new(address);
            if self.hw.probe(page, Access::Write, Privilege::User).is_err() {
                self.one(address, Access::Write)?;
            }
        }
        Ok(())
    }

    /// Reads the stack at `offset` of its segment; rsp does not move.
    pub(super) fn peek(&mut self, regs: &Registers, offset: u64, bytes: usize) -> Result<u64> {
        let place = self.stack_linear(regs, offset);
        self.check_segment(regs, SegmentName::Ss, place, bytes, Access::Read)?;
        self.read_number(place, bytes).map_err(on_stack)
    }

    /// Raises what a segment raises when `bytes` bytes at linear address `place` are accessed
    /// through it.
    pub(super) fn check_segment(
        &self,
        regs: &Registers,
        name: SegmentName,
        place: u64,
        bytes: usize,
        access: Access,
    ) -> Result<()> {
        match refused_by_segment(regs, name, place, bytes as u64, access) {
            Some(exception) => Err(Exit::Exception(exception)),
            None => Ok(()),
        }
    }
}

/// All ones of the stack pointer: 16 bits of it count in a stack segment that is not big.
pub(super) fn stack_mask(regs: &Registers) -> u64 {
    match regs.mode() {
        Mode::Long => u64::MAX,
        Mode::Compat if regs.segments[SegmentName::Ss as usize].is_big() => 0xffff_ffff,
        Mode::Compat => 0xffff,
    }
}

/// The exit for an access to the stack: a non-canonical address is #SS.
fn on_stack(exit: Exit) -> Exit {
    match exit {
        Exit::Exception(Exception::GeneralProtection) => Exit::Exception(Exception::StackFault),
        exit => exit,
    }
}

/// The linear address of memory operand `operand`; `element` is the lane of a gather.
pub(super) fn linear(
    regs: &Registers,
    instruction: &Instruction,
    operand: u32,
    element: usize,
) -> u64 {
    linear_of(regs, |value| instruction.virtual_address(operand, element, value))
}

/// What `find` makes of the values of registers: a linear address, or 0.
pub(in super::super) fn linear_of(
    regs: &Registers,
    find: impl FnOnce(&mut dyn FnMut(Register, usize, usize) -> Option<u64>) -> Option<u64>,
) -> u64 {
    let mut value = |register: Register, lane: usize, size: usize| {
        Some(match register {
            Register::FS => regs.fs_base,
            Register::GS => regs.gs_base,
            Register::CS | Register::DS | Register::ES | Register::SS => match regs.mode() {
                Mode::Long => 0,
                Mode::Compat => regs.base(name_of(register)),
            },
            _ if register.is_vector_register() => vector_lane(regs, register, lane, size),
            _ => read_gpr(regs, register),
        })
    };
    let mask = if regs.mode() == Mode::Long { u64::MAX } else { 0xffff_ffff };
    find(&mut value).unwrap_or(0) & mask
}

fn vector_lane(regs: &Registers, register: Register, lane: usize, size: usize) -> u64 {
    let bytes = vector(regs, register);
    let start = lane * size;
    let mut value = [0; 8];
    value[..size].copy_from_slice(&bytes[start..start + size]);
    u64::from_le_bytes(value)
}

/// All 32 bytes of a vector register.
pub(super) fn vector(regs: &Registers, register: Register) -> [u8; 32] {
    let index = register.number() & 15;
    let mut value = [0; 32];
    value[..16].copy_from_slice(&regs.fpu.xmm(index));
    value[16..].copy_from_slice(&regs.fpu.ymm_high(index));
    value
}

/// Sets all 32 bytes of a vector register.
pub(super) fn set_vector(regs: &mut Registers, register: Register, value: &[u8; 32]) {
    let index = register.number() & 15;
    let bytes = regs.fpu.bytes_mut();
    bytes[160 + index * 16..][..16].copy_from_slice(&value[..16]);
    bytes[576 + index * 16..][..16].copy_from_slice(&value[16..]);
}

/// The value of a general register of any size.
pub(super) fn read_gpr(regs: &Registers, register: Register) -> u64 {
    let Some(number) = super::super::classify::number(register) else { return 0 };
    let value = regs.gpr[usize::from(number)];
    match register.size() {
        1 if super::super::classify::is_high_byte(register) => value >> 8 & 0xff,
        1 => value & 0xff,
        2 => value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    }
}

/// Sets a general register of 2, 4 or 8 bytes as an instruction does.
pub(super) fn write_gpr(regs: &mut Registers, register: Register, value: u64) {
    let Some(number) = super::super::classify::number(register) else { return };
    let place = &mut regs.gpr[usize::from(number)];
    *place = match register.size() {
        2 => *place & !0xffff | value & 0xffff,
        4 => value & 0xffff_ffff,
        _ => value,
    };
}
