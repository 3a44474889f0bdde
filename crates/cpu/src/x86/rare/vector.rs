//! Vector instructions that touch only part of their operand: gathers and masked moves.
//!
//! A gather makes one access per active lane, lane by lane, and clears the mask of each lane that is
//! done, so that a fault in the middle is restartable. A masked move makes one access per page that
//! has an active byte; inactive bytes are not accessed and cannot fault.

use iced_x86::{Instruction, MemorySize, Mnemonic, Register};
use machine::{Access, PAGE_BYTES, PhysAddr};

use super::guest::Guest;
use crate::{Exception, Exit, Registers, XsaveArea};

/// Where xmm0 and the upper half of ymm0 stand in the standard XSAVE format.
const XMM: usize = 160;
const YMM_HIGH: usize = 576;
/// Where mm0 stands.
const MM: usize = 32;

type Vector = [u8; 32];

/// Whether the mnemonic is an AVX2 gather.
pub(super) fn is_gather(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(mnemonic, M::Vpgatherdd | M::Vpgatherdq | M::Vpgatherqd | M::Vpgatherqq)
        || matches!(mnemonic, M::Vgatherdps | M::Vgatherdpd | M::Vgatherqps | M::Vgatherqpd)
}

/// Whether the mnemonic is a masked load or store.
pub(super) fn is_masked_move(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(mnemonic, M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq)
        || matches!(mnemonic, M::Maskmovdqu | M::Vmaskmovdqu | M::Maskmovq)
}

/// Gathers lane by lane.
pub(super) fn gather(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    let (target, index, mask) = (insn.op0_register(), insn.memory_index(), insn.op2_register());
    if target.number() == index.number()
        || target.number() == mask.number()
        || index.number() == mask.number()
    {
        return Err(Exit::Exception(Exception::InvalidOpcode));
    }
    let (index_bytes, data_bytes) = gather_sizes(insn.mnemonic());
    let lanes = (index.size() / index_bytes).min(target.size() / data_bytes);
    let base = guest.effective_offset(insn);
    let segment = guest.segment_base(insn.memory_segment());
    let indexes = vector(&guest.regs.fpu, index);
    let scale = u64::from(insn.memory_index_scale());
    for lane in 0..lanes {
        let start = lane * data_bytes;
        let mask_now = vector(&guest.regs.fpu, mask);
        if mask_now[start + data_bytes - 1] & 0x80 != 0 {
            let distance = signed_lane(&indexes, lane, index_bytes).wrapping_mul(scale);
            let mut offset = base.wrapping_add(distance);
            if insn.memory_base().size() == 4 {
                offset &= 0xffff_ffff;
            }
            let mut data = [0; 8];
            guest.load(segment.wrapping_add(offset), &mut data[..data_bytes])?;
            set_lane(&mut guest.regs.fpu, target, start, &data[..data_bytes]);
        }
        set_lane(&mut guest.regs.fpu, mask, start, &[0; 8][..data_bytes]);
    }
    let used = lanes * data_bytes;
    let mut result = vector(&guest.regs.fpu, target);
    result[used..].fill(0);
    set_vector(&mut guest.regs.fpu, target, &result);
    set_vector(&mut guest.regs.fpu, mask, &[0; 32]);
    Ok(())
}

/// Bytes of an index and of a data element.
fn gather_sizes(mnemonic: Mnemonic) -> (usize, usize) {
    use Mnemonic as M;
    match mnemonic {
        M::Vpgatherdd | M::Vgatherdps => (4, 4),
        M::Vpgatherdq | M::Vgatherdpd => (4, 8),
        M::Vpgatherqd | M::Vgatherqps => (8, 4),
        _ => (8, 8),
    }
}

fn signed_lane(indexes: &Vector, lane: usize, bytes: usize) -> u64 {
    let mut number = [0; 8];
    number[..bytes].copy_from_slice(&indexes[lane * bytes..(lane + 1) * bytes]);
    let value = u64::from_le_bytes(number);
    if bytes == 4 { i64::from(value as u32 as i32) as u64 } else { value }
}

/// Masked loads and stores.
pub(super) fn masked_move(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    use Mnemonic as M;
    if matches!(insn.mnemonic(), M::Maskmovdqu | M::Vmaskmovdqu | M::Maskmovq) {
        return masked_bytes(guest, insn);
    }
    let lane_bytes = match insn.mnemonic() {
        M::Vmaskmovps | M::Vpmaskmovd => 4,
        _ => 8,
    };
    let addr = guest.effective_address(insn);
    let is_load = insn.op0_register() != Register::None;
    let mask = vector(&guest.regs.fpu, insn.op1_register());
    let width = if insn.op1_register().is_ymm() { 32 } else { 16 };
    debug_assert!(insn.memory_size() != MemorySize::Unknown, "masked moves have a memory operand");
    let is_active = |byte: usize| {
        let last = byte / lane_bytes * lane_bytes + lane_bytes - 1;
        mask[last] & 0x80 != 0
    };
    if is_load {
        let mut result = [0; 32];
        let pages = reach_active(guest, addr, width, Access::Read, is_active)?;
        for byte in (0..width).filter(|&byte| is_active(byte)) {
            guest.hw.load(pages.locate(addr, byte), &mut result[byte..=byte]);
        }
        set_vector(&mut guest.regs.fpu, insn.op0_register(), &result);
    } else {
        let data = vector(&guest.regs.fpu, insn.op2_register());
        store_active(guest, addr, &data[..width], is_active)?;
    }
    Ok(())
}

/// `maskmovdqu`, `maskmovq`: bytes of a register to [rdi], those whose mask byte is negative.
fn masked_bytes(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    let is_mmx = insn.mnemonic() == Mnemonic::Maskmovq;
    // Operand 0 is the implicit [rdi]; then data, then mask.
    let (data, mask) = (insn.op1_register(), insn.op2_register());
    let segment = guest.segment_base(insn.segment_prefix());
    let narrow = insn.op0_kind() == iced_x86::OpKind::MemorySegEDI;
    let rdi = guest.regs.gpr[Registers::RDI];
    let addr = segment.wrapping_add(if narrow { rdi & 0xffff_ffff } else { rdi });
    let (data, mask, width) = if is_mmx {
        (mmx(&guest.regs.fpu, data), mmx(&guest.regs.fpu, mask), 8)
    } else {
        (vector(&guest.regs.fpu, data), vector(&guest.regs.fpu, mask), 16)
    };
    store_active(guest, addr, &data[..width], |byte| mask[byte] & 0x80 != 0)
}

fn store_active(
    guest: &mut Guest<'_>,
    addr: u64,
    data: &[u8],
    is_active: impl Fn(usize) -> bool,
) -> Result<(), Exit> {
    let pages = reach_active(guest, addr, data.len(), Access::Write, &is_active)?;
    for byte in (0..data.len()).filter(|&byte| is_active(byte)) {
        guest.hw.store(pages.locate(addr, byte), &data[byte..=byte]);
    }
    Ok(())
}

/// Where the active bytes are: each page is found by its first active byte.
struct Pages {
    low: Option<(u64, PhysAddr)>,
    high: Option<(u64, PhysAddr)>,
}

impl Pages {
    fn locate(&self, addr: u64, byte: usize) -> PhysAddr {
        let here = addr.wrapping_add(byte as u64);
        let page = |found: &(u64, PhysAddr)| found.0 & !(PAGE_BYTES - 1) == here & !(PAGE_BYTES - 1);
        let (at, phys) = [self.low, self.high]
            .into_iter()
            .flatten()
            .find(page)
            .expect("the page of every active byte was reached");
        PhysAddr::new(phys.as_u64().wrapping_add(here.wrapping_sub(at)))
    }
}

fn reach_active(
    guest: &mut Guest<'_>,
    addr: u64,
    width: usize,
    access: Access,
    is_active: impl Fn(usize) -> bool,
) -> Result<Pages, Exit> {
    let room = (PAGE_BYTES - (addr & (PAGE_BYTES - 1))) as usize;
    let mut find = |from: usize, to: usize| -> Result<Option<(u64, PhysAddr)>, Exit> {
        let Some(byte) = (from..to).find(|&byte| is_active(byte)) else { return Ok(None) };
        let here = addr.wrapping_add(byte as u64);
        Ok(Some((here, guest.touch(here, access)?)))
    };
    let low = find(0, width.min(room))?;
    let high = find(width.min(room), width)?;
    Ok(Pages { low, high })
}

fn vector(fpu: &XsaveArea, register: Register) -> Vector {
    let mut value = [0; 32];
    value[..16].copy_from_slice(&fpu.xmm(register.number()));
    if register.is_ymm() {
        value[16..].copy_from_slice(&fpu.ymm_high(register.number()));
    }
    value
}

/// Writes a whole register; a 128-bit one clears the upper half, as every VEX instruction does.
fn set_vector(fpu: &mut XsaveArea, register: Register, value: &Vector) {
    let number = register.number();
    let bytes = fpu.bytes_mut();
    bytes[XMM + number * 16..][..16].copy_from_slice(&value[..16]);
    let high = &mut bytes[YMM_HIGH + number * 16..][..16];
    if register.is_ymm() {
        high.copy_from_slice(&value[16..]);
    } else {
        high.fill(0);
    }
}

fn set_lane(fpu: &mut XsaveArea, register: Register, start: usize, data: &[u8]) {
    let number = register.number();
    let place = if start < 16 {
        XMM + number * 16 + start
    } else {
        YMM_HIGH + number * 16 + start - 16
    };
    fpu.bytes_mut()[place..place + data.len()].copy_from_slice(data);
}

fn mmx(fpu: &XsaveArea, register: Register) -> Vector {
    let mut value = [0; 32];
    // The XSAVE area holds the x87 stack from its top; MMX registers are physical.
    let top = usize::from(fpu.fsw() >> 11 & 7);
    let place = (register.number() + 8 - top) % 8;
    value[..8].copy_from_slice(&fpu.bytes()[MM + place * 16..][..8]);
    value
}
