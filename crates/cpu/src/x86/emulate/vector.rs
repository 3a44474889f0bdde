//! Gathers and masked moves: an access for each active element, none for the others.
//!
//! A gather that faults keeps the elements it has, as hardware does: their mask bits are clear when
//! it is run again.

use super::super::run::TRAP;
use super::bus::{Bus, linear, set_vector, vector};
use super::{INVALID, Result};
use crate::{Exception, Exit, Registers};
use iced_x86::{Instruction, Mnemonic, OpKind, Register};
use machine::{Access, PAGE_BYTES};

/// Bytes of one element, and bytes of the index, of a gather.
fn gather_shape(name: Mnemonic) -> (usize, usize) {
    match name {
        Mnemonic::Vgatherdps | Mnemonic::Vpgatherdd => (4, 4),
        Mnemonic::Vgatherdpd | Mnemonic::Vpgatherdq => (8, 4),
        Mnemonic::Vgatherqps | Mnemonic::Vpgatherqd => (4, 8),
        _ => (8, 8),
    }
}

/// `vgather*` and `vpgather*` with a vector mask.
pub(super) fn gather(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    let (target, mask) = (instruction.op0_register(), instruction.op2_register());
    let index = instruction.memory_index();
    let numbers = [target.number(), mask.number(), index.number()];
    if numbers[0] == numbers[1] || numbers[0] == numbers[2] || numbers[1] == numbers[2] {
        return Err(INVALID);
    }
    let (bytes, index_bytes) = gather_shape(instruction.mnemonic());
    let lanes = (target.size() / bytes).min(index.size() / index_bytes);
    let mut result = vector(regs, target);
    let mut enabled = vector(regs, mask);
    let mut has_gathered = false;
    for lane in 0..lanes {
        let range = lane * bytes..(lane + 1) * bytes;
        if enabled[range.end - 1] & 0x80 == 0 {
            enabled[range].fill(0);
            continue;
        }
        let address = linear(regs, instruction, 1, lane);
        let mut value = [0; 8];
        if let Err(exit) = bus.read(address, &mut value[..bytes]) {
            set_vector(regs, target, &result);
            set_vector(regs, mask, &enabled);
            // A trap that elements before this one have left pending comes first.
            let is_trapped = has_gathered && regs.rflags & TRAP != 0;
            return Err(if is_trapped { Exit::Exception(Exception::Debug) } else { exit });
        }
        has_gathered = true;
        result[range.clone()].copy_from_slice(&value[..bytes]);
        enabled[range].fill(0);
    }
    result[lanes * bytes..].fill(0);
    set_vector(regs, target, &result);
    set_vector(regs, mask, &[0; 32]);
    Ok(())
}

/// The accesses of an operand whose elements of `bytes` bytes are masked: one for each page with an
/// active byte. An element that is not canonical to its end is refused as a whole.
fn touch(bus: &mut Bus, address: u64, active: &[bool], bytes: usize, access: Access) -> Result<()> {
    let low = ((PAGE_BYTES - address % PAGE_BYTES) as usize).min(active.len());
    for (start, end) in [(0, low), (low, active.len())] {
        if let Some(first) = active[start..end].iter().position(|byte| *byte) {
            let last = (start + first) / bytes * bytes + bytes - 1;
            bus.check(address.wrapping_add(last as u64))?;
            bus.one(address.wrapping_add((start + first) as u64), access)?;
        }
    }
    Ok(())
}

/// The place of one byte that [`touch`] has found.
fn place(bus: &mut Bus, address: u64, access: Access) -> Result<machine::PhysAddr> {
    let address = machine::VirtAddr::new(address);
    bus.hw.probe(address, access, machine::Privilege::User).map_err(crate::Exit::Fault)
}

fn load_bytes(
    bus: &mut Bus,
    address: u64,
    active: &[bool],
    bytes: usize,
    value: &mut [u8],
) -> Result<()> {
    touch(bus, address, active, bytes, Access::Read)?;
    for (offset, byte) in value.iter_mut().enumerate().filter(|(offset, _)| active[*offset]) {
        let place = place(bus, address.wrapping_add(offset as u64), Access::Read)?;
        bus.hw.load(place, core::slice::from_mut(byte));
    }
    Ok(())
}

fn store_bytes(
    bus: &mut Bus,
    address: u64,
    active: &[bool],
    bytes: usize,
    value: &[u8],
) -> Result<()> {
    touch(bus, address, active, bytes, Access::Write)?;
    for (offset, byte) in value.iter().enumerate().filter(|(offset, _)| active[*offset]) {
        let place = place(bus, address.wrapping_add(offset as u64), Access::Write)?;
        bus.hw.store(place, core::slice::from_ref(byte));
    }
    Ok(())
}

/// `vmaskmovps`, `vmaskmovpd`, `vpmaskmovd`, `vpmaskmovq`.
pub(super) fn masked_move(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    let bytes = match instruction.mnemonic() {
        Mnemonic::Vmaskmovps | Mnemonic::Vpmaskmovd => 4,
        _ => 8,
    };
    let mask = vector(regs, instruction.op1_register());
    let length = instruction.op1_register().size();
    let active: Vec<bool> =
        (0..length).map(|byte| mask[byte / bytes * bytes + bytes - 1] & 0x80 != 0).collect();
    if instruction.op0_kind() == OpKind::Memory {
        let value = vector(regs, instruction.op2_register());
        let address = linear(regs, instruction, 0, 0);
        return store_bytes(bus, address, &active, bytes, &value[..length]);
    }
    let mut value = [0; 32];
    let address = linear(regs, instruction, 2, 0);
    load_bytes(bus, address, &active, bytes, &mut value[..length])?;
    set_vector(regs, instruction.op0_register(), &value);
    Ok(())
}

/// `maskmovq`, `maskmovdqu`, `vmaskmovdqu`: bytes to `[rdi]`.
pub(super) fn masked_bytes(
    bus: &mut Bus,
    regs: &mut Registers,
    instruction: &Instruction,
) -> Result<()> {
    let is_mmx = instruction.mnemonic() == Mnemonic::Maskmovq;
    let read = |register: Register| {
        if is_mmx {
            let mut value = [0; 32];
            let start = 32 + 16 * mmx_slot(regs, register);
            value[..8].copy_from_slice(&regs.fpu.bytes()[start..start + 8]);
            value
        } else {
            vector(regs, register)
        }
    };
    let (value, mask) = (read(instruction.op1_register()), read(instruction.op2_register()));
    let length = if is_mmx { 8 } else { 16 };
    let active: Vec<bool> = mask[..length].iter().map(|byte| byte & 0x80 != 0).collect();
    let address = linear(regs, instruction, 0, 0);
    // The whole operand is checked, whatever the mask.
    let parts = bus.access(address, length, Access::Write)?;
    let mut image = [0; 16];
    bus.load(parts, &mut image[..length]);
    for (byte, _) in active.iter().enumerate().filter(|(_, is_active)| **is_active) {
        image[byte] = value[byte];
    }
    bus.store(parts, &image[..length]);
    if is_mmx {
        super::state::enter_mmx(regs);
    }
    Ok(())
}

/// Which ST register of the image holds an MMX register: the image is relative to TOP.
fn mmx_slot(regs: &Registers, register: Register) -> usize {
    let top = usize::from(regs.fpu.fsw() >> 11 & 7);
    (register.number() + 8 - top) & 7
}
