//! Instructions that are looked at before they are done: what is misaligned raises #AC while
//! EFLAGS.AC is set, and what a segment does not allow raises #GP or #SS.
//!
//! A program with the flag set runs one instruction at a time, and so do instructions on segments
//! that are not open to every access. Nobody else pays for it.
//!
//! # Source
//! Intel SDM 3A, 6.15 "Interrupt 17" and table 6-7. Vector operands and images of floating-point
//! state are as on the CPUs of AMD, where all cases were compared; the makers differ.

use super::classify::is_bit_string;
use super::emulate::bits::bit_string_address;
use super::emulate::bus::linear_of;
use super::emulate::strings::Job;
use super::engine::Core;
use super::precedence::{ERROR_SUMMARY, aligned_bytes, waits_for_x87};
use crate::{Exception, Mode, Registers, SegmentName};
use iced_x86::{Code, Instruction, MemorySize, Mnemonic, OpAccess, Register};
use machine::{Access, Machine, PAGE_BYTES, Privilege, VirtAddr};

/// An operand in memory.
#[derive(Clone, Copy, Debug)]
struct Operand {
    address: u64,
    bytes: u64,
    /// Its address must be a multiple of this.
    unit: u64,
    access: Access,
    segment: SegmentName,
}

impl Operand {
    /// What the segment raises: #SS through SS, #GP through the others.
    fn refused_by_segment(&self, regs: &Registers) -> Option<Exception> {
        if regs.mode() == Mode::Long {
            return None;
        }
        let segment = regs.segments[self.segment as usize];
        let offset = self.address.wrapping_sub(regs.base(self.segment)) as u32;
        let is_allowed = match self.access {
            Access::Write => segment.is_writable(),
            Access::Read | Access::Fetch => segment.is_readable(),
        };
        if is_allowed && segment.holds(offset, self.bytes as u32) {
            return None;
        }
        Some(match self.segment {
            SegmentName::Ss => Exception::StackFault,
            _ => Exception::GeneralProtection,
        })
    }
}

/// The segment register that iced names; DS for none.
pub(super) fn name_of(register: Register) -> SegmentName {
    match register {
        Register::ES => SegmentName::Es,
        Register::CS => SegmentName::Cs,
        Register::SS => SegmentName::Ss,
        Register::FS => SegmentName::Fs,
        Register::GS => SegmentName::Gs,
        _ => SegmentName::Ds,
    }
}

impl Core {
    /// What the instruction at `rip` raises because of its operands in memory: #AC if `is_aligned`
    /// says that they are to be aligned, or what a segment raises. A page fault of an operand
    /// before that one comes first, and so does a pending x87 exception.
    pub(super) fn refusal(
        &mut self,
        regs: &Registers,
        hw: &mut Machine,
        rip: u64,
        is_aligned: bool,
    ) -> Option<Exception> {
        let instruction = self.decode_at(rip, hw).ok()?;
        if regs.fpu.fsw() & ERROR_SUMMARY != 0 && waits_for_x87(&instruction) {
            return None;
        }
        let job = instruction.is_string_instruction().then(|| Job::new(&instruction));
        if job.is_some_and(|job| job.is_repeated && regs.gpr[Registers::RCX] & job.mask() == 0) {
            return None;
        }
        for operand in self.operands(regs, &instruction, job) {
            let last = operand.address.wrapping_add(operand.bytes.saturating_sub(1));
            let is_canonical = |address| VirtAddr::new(address).is_canonical(self.canonical_bits);
            if let Some(exception) = operand.refused_by_segment(regs) {
                return Some(exception);
            }
            // Images of the x87 unit are accessed word by word.
            let is_image = operand.bytes > 10 && !operand.bytes.is_power_of_two();
            if !is_canonical(operand.address) || !is_image && !is_canonical(last) {
                return None;
            }
            if is_aligned && !operand.address.is_multiple_of(operand.unit) {
                return Some(Exception::AlignmentCheck);
            }
            if !is_accessible(hw, operand.address, last, operand.access) {
                return None;
            }
        }
        None
    }

    /// The operands in memory in the order in which they are accessed: what is read, then what is
    /// written.
    fn operands(
        &mut self,
        regs: &Registers,
        instruction: &Instruction,
        job: Option<Job>,
    ) -> Vec<Operand> {
        if instruction.mnemonic() == Mnemonic::Enter {
            return frame_operands(regs, instruction);
        }
        let used = self.emitter.factory.info(instruction).used_memory();
        let mut operands: Vec<_> = used
            .iter()
            .filter_map(|used| {
                let access = match used.access() {
                    OpAccess::None | OpAccess::NoMemAccess => return None,
                    OpAccess::Read | OpAccess::CondRead => Access::Read,
                    _ => Access::Write,
                };
                let size = used.memory_size();
                let bytes = job.map_or(size.size() as u64, |job| job.bytes.into());
                let address = match is_bit_string(instruction.code()) {
                    true => bit_string_address(regs, instruction),
                    false => linear_of(regs, |value| used.virtual_address(0, value)),
                };
                let unit = if job.is_some() { bytes } else { unit(instruction, size) };
                let segment = name_of(used.segment());
                Some(Operand { address, bytes, unit, access, segment })
            })
            .collect();
        operands.sort_by_key(|operand| operand.access == Access::Write);
        operands
    }
}

/// Whether an access would succeed. Not an access itself.
fn is_accessible(hw: &mut Machine, first: u64, last: u64, access: Access) -> bool {
    let is_crossing = first / PAGE_BYTES != last / PAGE_BYTES;
    [Some(first), is_crossing.then_some(last)]
        .into_iter()
        .flatten()
        .all(|address| hw.probe(VirtAddr::new(address), access, Privilege::User).is_ok())
}

/// The accesses of `enter`: pushes, reads of outer frames in between, and a look at the place to
/// which rsp will point.
fn frame_operands(regs: &Registers, instruction: &Instruction) -> Vec<Operand> {
    let segment = SegmentName::Ss;
    let bytes = match instruction.code() {
        Code::Enterq_imm16_imm8 => 8,
        Code::Enterd_imm16_imm8 => 4,
        _ => 2,
    };
    let level = u64::from(instruction.immediate8_2nd() & 31);
    let mut stack = regs.gpr[Registers::RSP];
    let mut operands = Vec::new();
    let mut push = |operands: &mut Vec<Operand>, count: u64| {
        stack = stack.wrapping_sub(count);
        let access = Access::Write;
        operands.push(Operand { address: stack, bytes, unit: bytes, access, segment });
    };
    push(&mut operands, bytes);
    for number in 1..level {
        let address = regs.gpr[Registers::RBP].wrapping_sub(bytes * number);
        operands.push(Operand { address, bytes, unit: bytes, access: Access::Read, segment });
        push(&mut operands, bytes);
    }
    if level > 0 {
        push(&mut operands, bytes);
    }
    push(&mut operands, instruction.immediate16().into());
    operands
}

/// The alignment in bytes below which an operand of this size raises #AC.
fn unit(instruction: &Instruction, size: MemorySize) -> u64 {
    use Mnemonic as M;
    match instruction.mnemonic() {
        // Each active element is an access of its own, which is not checked.
        M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq => return 1,
        _ if instruction.is_vsib() => return 1,
        M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => return 8,
        M::Fxsave | M::Fxsave64 | M::Fxrstor | M::Fxrstor64 => return 4,
        // These are #GP.
        _ if aligned_bytes(instruction) > 1 => return 1,
        _ => {}
    }
    match size {
        MemorySize::FpuEnv14 | MemorySize::FpuState94 | MemorySize::SegPtr16 => 2,
        MemorySize::FpuEnv28 | MemorySize::FpuState108 | MemorySize::SegPtr32 => 4,
        MemorySize::Float80 | MemorySize::Bcd | MemorySize::SegPtr64 => 8,
        _ => match size.size() as u64 {
            bytes @ (2 | 4 | 8) => bytes,
            16 | 32 => 16,
            _ => 1,
        },
    }
}
