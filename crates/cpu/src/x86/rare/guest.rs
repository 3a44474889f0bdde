//! The guest as an instruction in Rust sees it: registers by name, memory through the model.

use iced_x86::{Instruction, Register};
use machine::{Access, Machine, PAGE_BYTES, PhysAddr, VirtAddr};

use crate::{Exception, Exit, Registers};

/// Bits of a linear address that 4-level paging translates.
const ADDRESS_BITS: u32 = 48;

/// Registers and memory of the guest, for the length of one instruction.
pub(super) struct Guest<'a> {
    pub(super) regs: &'a mut Registers,
    pub(super) hw: &'a mut Machine,
    /// What a non-canonical address raises: #SS through the stack segment, else #GP.
    non_canonical: Exception,
}

/// Where the bytes of one operand are: at most two pieces, one per page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pieces {
    first: PhysAddr,
    first_bytes: usize,
    second: Option<PhysAddr>,
}

impl<'a> Guest<'a> {
    pub(super) fn new(
        insn: &Instruction,
        regs: &'a mut Registers,
        hw: &'a mut Machine,
    ) -> Self {
        let through_stack = insn.memory_segment() == Register::SS;
        let non_canonical =
            if through_stack { Exception::StackFault } else { Exception::GeneralProtection };
        Self { regs, hw, non_canonical }
    }

    /// Linear address of the instruction's explicit memory operand (without a vector index).
    pub(super) fn effective_address(&self, insn: &Instruction) -> u64 {
        self.segment_base(insn.memory_segment()).wrapping_add(self.effective_offset(insn))
    }

    /// Offset of the memory operand in its segment.
    pub(super) fn effective_offset(&self, insn: &Instruction) -> u64 {
        let base = insn.memory_base();
        let mut offset = insn.memory_displacement64();
        let is_relative = matches!(base, Register::RIP | Register::EIP);
        if base != Register::None && !is_relative {
            offset = offset.wrapping_add(self.read(base));
        }
        let index = insn.memory_index();
        if index.is_gpr() {
            let scale = u64::from(insn.memory_index_scale());
            offset = offset.wrapping_add(self.read(index).wrapping_mul(scale));
        }
        let is_narrow = base.size() == 4 || (index.is_gpr() && index.size() == 4);
        if is_narrow { offset & 0xffff_ffff } else { offset }
    }

    /// Base of a segment: only FS and GS have one in 64-bit mode.
    pub(super) fn segment_base(&self, segment: Register) -> u64 {
        match segment {
            Register::FS => self.regs.fs_base,
            Register::GS => self.regs.gs_base,
            _ => 0,
        }
    }

    /// Value of a general register, zero-extended.
    pub(super) fn read(&self, register: Register) -> u64 {
        let value = self.regs.gpr[register.full_register().number()];
        match register.size() {
            8 => value,
            4 => value & 0xffff_ffff,
            2 => value & 0xffff,
            _ if is_high_byte(register) => value >> 8 & 0xff,
            _ => value & 0xff,
        }
    }

    /// Writes a general register by the rules of its size: 32 bits clear the upper half.
    pub(super) fn write(&mut self, register: Register, value: u64) {
        let home = &mut self.regs.gpr[register.full_register().number()];
        *home = match register.size() {
            8 => value,
            4 => value & 0xffff_ffff,
            2 => *home & !0xffff | value & 0xffff,
            _ if is_high_byte(register) => *home & !0xff00 | (value & 0xff) << 8,
            _ => *home & !0xff | value & 0xff,
        };
    }

    /// Makes the model's access for `bytes` at `addr` (one per page) and says where they are.
    ///
    /// # Errors
    /// The fault of the first page that refuses; nothing is committed.
    pub(super) fn reach(&mut self, addr: u64, bytes: usize, access: Access) -> Result<Pieces, Exit> {
        let last = addr.wrapping_add(bytes as u64 - 1);
        let first = self.touch(addr, access)?;
        let room = (PAGE_BYTES - (addr & (PAGE_BYTES - 1))) as usize;
        if room >= bytes {
            return Ok(Pieces { first, first_bytes: bytes, second: None });
        }
        let second = self.touch(last & !(PAGE_BYTES - 1), access)?;
        Ok(Pieces { first, first_bytes: room, second: Some(second) })
    }

    /// One access of the model at one address.
    pub(super) fn touch(&mut self, addr: u64, access: Access) -> Result<PhysAddr, Exit> {
        self.touch_many(addr, access, 1)
    }

    /// `count` accesses of the model to one page.
    pub(super) fn touch_many(
        &mut self,
        addr: u64,
        access: Access,
        count: u64,
    ) -> Result<PhysAddr, Exit> {
        let addr = VirtAddr::new(addr);
        if !addr.is_canonical(ADDRESS_BITS) {
            return Err(Exit::Exception(self.non_canonical));
        }
        self.hw.access_repeat(addr, access, count).map_err(Exit::Fault)
    }

    /// Reads the bytes of an operand that [`Self::reach`] found.
    pub(super) fn get(&self, pieces: Pieces, bytes: &mut [u8]) {
        let (low, high) = bytes.split_at_mut(pieces.first_bytes);
        self.hw.load(pieces.first, low);
        if let Some(second) = pieces.second {
            self.hw.load(second, high);
        }
    }

    /// Writes the bytes of an operand that [`Self::reach`] found for writing.
    pub(super) fn put(&mut self, pieces: Pieces, bytes: &[u8]) {
        let (low, high) = bytes.split_at(pieces.first_bytes);
        self.hw.store(pieces.first, low);
        if let Some(second) = pieces.second {
            self.hw.store(second, high);
        }
    }

    /// Loads an operand.
    pub(super) fn load(&mut self, addr: u64, bytes: &mut [u8]) -> Result<(), Exit> {
        let pieces = self.reach(addr, bytes.len(), Access::Read)?;
        self.get(pieces, bytes);
        Ok(())
    }

    /// Stores an operand.
    pub(super) fn store(&mut self, addr: u64, bytes: &[u8]) -> Result<(), Exit> {
        let pieces = self.reach(addr, bytes.len(), Access::Write)?;
        self.put(pieces, bytes);
        Ok(())
    }

    /// Loads up to eight bytes as a little-endian number.
    pub(super) fn load_number(&mut self, addr: u64, bytes: usize) -> Result<u64, Exit> {
        let mut number = [0; 8];
        self.load(addr, &mut number[..bytes])?;
        Ok(u64::from_le_bytes(number))
    }

    /// Pushes the low `bytes` of a value; the caller commits the returned stack pointer.
    pub(super) fn push_at(&mut self, rsp: u64, value: u64, bytes: usize) -> Result<u64, Exit> {
        let rsp = rsp.wrapping_sub(bytes as u64);
        self.store(rsp, &value.to_le_bytes()[..bytes])?;
        Ok(rsp)
    }
}

fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
}
