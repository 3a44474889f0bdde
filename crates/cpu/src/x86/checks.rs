//! Instructions that are looked at before they are done: what is misaligned raises #AC while
//! EFLAGS.AC is set, and what a segment does not allow raises #GP or #SS.
//!
//! A program with the flag set runs one instruction at a time, and so do instructions on segments
//! that are not open to every access. Nobody else pays for it.
//!
//! # Source
//! Intel SDM 3A, 6.15 "Interrupt 17" and table 6-7. Vector operands and images of floating-point
//! state are as on the CPUs of AMD, where all cases were compared; the makers differ.

use super::classify::{is_bit_string, memory_operand};
use super::emulate::bits::bit_string_address;
use super::emulate::bus::linear_of;
use super::emulate::strings::Job;
use super::engine::Core;
use super::precedence::{ERROR_SUMMARY, aligned_bytes, waits_for_x87};
use crate::{Exception, Exit, Mode, Registers, SegmentName};
use iced_x86::{Code, Instruction, MemorySize, Mnemonic, OpAccess, Register, UsedMemory};
use machine::{Access, Machine, PAGE_BYTES, Privilege, VirtAddr};

/// Most bytes of an instruction, less 1.
const LENGTH_MAX: u32 = 14;

/// An operand in memory.
#[derive(Clone, Copy, Debug)]
struct Operand {
    address: u64,
    bytes: u64,
    /// Its address must be a multiple of this.
    unit: u64,
    access: Access,
    segment: SegmentName,
    /// Whether it is on the stack by the nature of the instruction; who does it looks at the limit.
    is_implied: bool,
}

/// What the segment `name` raises when `bytes` bytes at linear address `address` are accessed
/// through it: #SS through SS, #GP through the others.
pub(super) fn refused_by_segment(
    regs: &Registers,
    name: SegmentName,
    address: u64,
    bytes: u64,
    access: Access,
) -> Option<Exception> {
    if regs.mode() == Mode::Long {
        return None;
    }
    let segment = regs.segments[name as usize];
    let offset = address.wrapping_sub(regs.base(name)) as u32;
    let is_allowed = match access {
        Access::Write => segment.is_writable(),
        Access::Read | Access::Fetch => segment.is_readable(),
    };
    if is_allowed && segment.holds(offset, bytes as u32) {
        return None;
    }
    Some(match name {
        SegmentName::Ss => Exception::StackFault,
        _ => Exception::GeneralProtection,
    })
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
    /// Raises what the code segment raises at linear address `rip`: the whole instruction has to
    /// lie within its limit. A page fault of bytes within the limit comes first.
    pub(super) fn check_code(
        &mut self,
        regs: &Registers,
        hw: &mut Machine,
        rip: u64,
    ) -> Result<(), Exit> {
        const PROTECTION: Exit = Exit::Exception(Exception::GeneralProtection);
        let code = regs.segments[SegmentName::Cs as usize];
        let offset = rip.wrapping_sub(code.base) as u32;
        let Some(rest) = code.limit.checked_sub(offset) else { return Err(PROTECTION) };
        if rest >= LENGTH_MAX {
            return Ok(());
        }
        self.enter_page(hw, rip)?;
        let bytes = u64::from(rest) + 1;
        let last = rip.wrapping_add(bytes - 1);
        let is_known = is_accessible(hw, rip, last, Access::Fetch);
        let length = self.decode_at(rip, hw).map_or(0, |instruction| instruction.len() as u64);
        if is_known && length > bytes { Err(PROTECTION) } else { Ok(()) }
    }

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
        // Where the stack is flat its addresses are known here, and #AC needs the answer.
        let is_left_out = !is_aligned || self.pages.flavor.is_closed(Register::SS);
        for operand in self.operands(regs, &instruction, job) {
            let last = operand.address.wrapping_add(operand.bytes.saturating_sub(1));
            let last = last & self.pages.flavor.linear_mask();
            let is_canonical = |address| VirtAddr::new(address).is_canonical(self.canonical_bits);
            let Operand { address, bytes, access, segment, .. } = operand;
            let required = aligned_bytes(&instruction);
            if regs.mode() == Mode::Compat && required > 1 && !address.is_multiple_of(required) {
                return Some(Exception::GeneralProtection);
            }
            if !(operand.is_implied && is_left_out)
                && let Some(exception) = refused_by_segment(regs, segment, address, bytes, access)
            {
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
                    // It looks first whether there is anything to write.
                    _ if instruction.mnemonic() == Mnemonic::Arpl => Access::Read,
                    OpAccess::None | OpAccess::NoMemAccess => return None,
                    OpAccess::Read | OpAccess::CondRead => Access::Read,
                    _ => Access::Write,
                };
                let size = used.memory_size();
                let bytes = match (job, size) {
                    (Some(job), _) => job.bytes.into(),
                    // The selector is looked at when it is read.
                    (_, MemorySize::SegPtr16 | MemorySize::SegPtr32) => size.size() as u64 - 2,
                    _ => size.size() as u64,
                };
                let address = match is_bit_string(instruction.code()) {
                    true => bit_string_address(regs, instruction),
                    false => linear_of(regs, |value| used.virtual_address(0, value)),
                };
                let unit = if job.is_some() { bytes } else { unit(instruction, size) };
                let segment = name_of(used.segment());
                let is_implied = is_implied(instruction, used);
                Some(Operand { address, bytes, unit, access, segment, is_implied })
            })
            .collect();
        operands.sort_by_key(|operand| operand.access == Access::Write);
        operands
    }
}

/// Whether an operand is on the stack by the nature of the instruction, or found only when that has
/// been read.
fn is_implied(instruction: &Instruction, used: &UsedMemory) -> bool {
    if !instruction.is_stack_instruction() {
        return false;
    }
    let is_named = memory_operand(instruction).is_some()
        && used.base() == instruction.memory_base()
        && used.index() == instruction.memory_index()
        && used.displacement() == instruction.memory_displacement64();
    !is_named || instruction.mnemonic() == Mnemonic::Pop
}

/// Whether an access would succeed. Not an access itself.
pub(super) fn is_accessible(hw: &mut Machine, first: u64, last: u64, access: Access) -> bool {
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
        operands.push(Operand {
            address: stack,
            bytes,
            unit: bytes,
            access,
            segment,
            is_implied: true,
        });
    };
    push(&mut operands, bytes);
    for number in 1..level {
        let address = regs.gpr[Registers::RBP].wrapping_sub(bytes * number);
        let access = Access::Read;
        operands.push(Operand { address, bytes, unit: bytes, access, segment, is_implied: true });
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
