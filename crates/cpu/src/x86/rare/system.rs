//! Instructions whose answer is virtual, and those that move whole flags or frames.

use iced_x86::Instruction;
use machine::VirtAddr;

use super::guest::Guest;
use crate::{Exception, Exit, Registers, cpuid as virtual_cpuid};

/// Ticks of the virtual time-stamp counter per nanosecond of virtual time: a 2 GHz counter.
const TSC_PER_NS: u64 = 2;
/// XCR0 as the guest sees it: x87, SSE and AVX state.
const XCR0: u64 = 7;

const DIRECTION: u64 = 1 << 10;
/// Flags that user code may change with `popf`: CF PF AF ZF SF TF DF OF NT AC ID.
const POPF: u64 = 0x0024_4dd5;
/// VM and RF never reach the pushed image.
const PUSHF: u64 = !(3 << 16);

/// Which way strings run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Direction {
    Up,
    Down,
}

/// `cld`, `std`.
pub(super) fn set_direction(guest: &mut Guest<'_>, direction: Direction) -> Result<(), Exit> {
    guest.regs.rflags &= !DIRECTION;
    if direction == Direction::Down {
        guest.regs.rflags |= DIRECTION;
    }
    Ok(())
}

/// `cpuid`: the virtual processor.
pub(super) fn cpuid(guest: &mut Guest<'_>) -> Result<(), Exit> {
    let leaf = low(guest.regs.gpr[Registers::RAX]);
    let subleaf = low(guest.regs.gpr[Registers::RCX]);
    let [eax, ebx, ecx, edx] = virtual_cpuid(leaf, subleaf);
    guest.regs.gpr[Registers::RAX] = eax.into();
    guest.regs.gpr[Registers::RBX] = ebx.into();
    guest.regs.gpr[Registers::RCX] = ecx.into();
    guest.regs.gpr[Registers::RDX] = edx.into();
    Ok(())
}

/// `rdtsc`: virtual time.
pub(super) fn rdtsc(guest: &mut Guest<'_>) -> Result<(), Exit> {
    let ticks = guest.hw.now_ns().wrapping_mul(TSC_PER_NS);
    guest.regs.gpr[Registers::RAX] = ticks & 0xffff_ffff;
    guest.regs.gpr[Registers::RDX] = ticks >> 32;
    Ok(())
}

/// `rdtscp`: virtual time on processor 0.
pub(super) fn rdtscp(guest: &mut Guest<'_>) -> Result<(), Exit> {
    guest.regs.gpr[Registers::RCX] = 0;
    rdtsc(guest)
}

/// `xgetbv`: XCR0, and for index 1 the same (all state counts as in use).
pub(super) fn xgetbv(guest: &mut Guest<'_>) -> Result<(), Exit> {
    if low(guest.regs.gpr[Registers::RCX]) > 1 {
        return Err(Exit::Exception(Exception::GeneralProtection));
    }
    guest.regs.gpr[Registers::RAX] = XCR0;
    guest.regs.gpr[Registers::RDX] = 0;
    Ok(())
}

/// `xlatb`: AL := [RBX + AL].
pub(super) fn xlat(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    let rax = guest.regs.gpr[Registers::RAX];
    let offset = guest.read(insn.memory_base()).wrapping_add(rax & 0xff);
    let offset = if insn.memory_base().size() == 4 { offset & 0xffff_ffff } else { offset };
    let addr = guest.segment_base(insn.memory_segment()).wrapping_add(offset);
    let byte = guest.load_number(addr, 1)?;
    guest.regs.gpr[Registers::RAX] = rax & !0xff | byte;
    Ok(())
}

/// `enter`: a stack frame with up to 31 frame pointers.
pub(super) fn enter(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    let bytes: usize = if insn.code() == iced_x86::Code::Enterw_imm16_imm8 { 2 } else { 8 };
    let level = u64::from(insn.immediate8_2nd()) % 32;
    let room = u64::from(insn.immediate16());
    let mut rbp = guest.regs.gpr[Registers::RBP];
    let mut rsp = guest.push_at(guest.regs.gpr[Registers::RSP], rbp, bytes)?;
    let frame = rsp;
    for _ in 1..level {
        rbp = rbp.wrapping_sub(bytes as u64);
        let pointer = guest.load_number(rbp, bytes)?;
        rsp = guest.push_at(rsp, pointer, bytes)?;
    }
    if level > 0 {
        rsp = guest.push_at(rsp, frame, bytes)?;
    }
    guest.regs.gpr[Registers::RSP] = rsp.wrapping_sub(room);
    let home = &mut guest.regs.gpr[Registers::RBP];
    *home = if bytes == 2 { *home & !0xffff | frame & 0xffff } else { frame };
    Ok(())
}

/// `pushf`, `pushfq`.
pub(super) fn push_flags(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    let bytes = stack_bytes(insn);
    let flags = guest.regs.rflags & PUSHF | 2;
    let rsp = guest.push_at(guest.regs.gpr[Registers::RSP], flags, bytes)?;
    guest.regs.gpr[Registers::RSP] = rsp;
    Ok(())
}

/// `popf`, `popfq`: IF, IOPL and the reserved bits stay.
pub(super) fn pop_flags(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    let bytes = stack_bytes(insn);
    let rsp = VirtAddr::new(guest.regs.gpr[Registers::RSP]);
    let value = guest.load_number(rsp.as_u64(), bytes)?;
    let mask = if bytes == 2 { POPF & 0xffff } else { POPF };
    guest.regs.rflags = guest.regs.rflags & !mask | value & mask;
    guest.regs.gpr[Registers::RSP] = rsp.wrapping_add(bytes as u64).as_u64();
    Ok(())
}

fn stack_bytes(insn: &Instruction) -> usize {
    use iced_x86::Code;
    if matches!(insn.code(), Code::Pushfw | Code::Popfw) { 2 } else { 8 }
}

fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}
