//! `xsave`, `xsavec`, `xsaveopt`, `xrstor`, `fxsave`, `fxrstor`.
//!
//! All three components (x87, SSE, AVX) count as in use, so a saved header is the same in every run.
//! The last x87 instruction's address is saved as zero: the host's would be an address of ours.
//!
//! # Source
//! Intel SDM 1, chapter 13.

use iced_x86::{Instruction, Mnemonic};
use machine::Access;

use super::guest::Guest;
use crate::{Exception, Exit, Registers, XSAVE_BYTES, XsaveArea};

const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;
const ALL: u64 = X87 | SSE | AVX;
const COMPACT: u64 = 1 << 63;

const MXCSR: usize = 24;
const MXCSR_END: usize = 32;
const ST: usize = 32;
const XMM: usize = 160;
const XMM_END: usize = 416;
const LEGACY: usize = 512;
const HEADER_END: usize = 576;

/// Whether the mnemonic saves or restores state.
pub(super) fn is_state(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(mnemonic, M::Xsave | M::Xsave64 | M::Xsavec | M::Xsavec64 | M::Xsaveopt)
        || matches!(mnemonic, M::Xsaveopt64 | M::Xrstor | M::Xrstor64)
        || matches!(mnemonic, M::Fxsave | M::Fxsave64 | M::Fxrstor | M::Fxrstor64)
}

/// Saves or restores.
pub(super) fn execute(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    use Mnemonic as M;
    let addr = guest.effective_address(insn);
    let is_fx = matches!(insn.mnemonic(), M::Fxsave | M::Fxsave64 | M::Fxrstor | M::Fxrstor64);
    let alignment: u64 = if is_fx { 16 } else { 64 };
    if addr % alignment != 0 {
        return Err(general_protection());
    }
    let low = guest.regs.gpr[Registers::RAX] & 0xffff_ffff;
    let high = guest.regs.gpr[Registers::RDX] << 32;
    let wanted = (high | low) & ALL;
    match insn.mnemonic() {
        M::Xsave | M::Xsave64 | M::Xsaveopt | M::Xsaveopt64 => save(guest, addr, wanted),
        M::Xsavec | M::Xsavec64 => save_compact(guest, addr, wanted),
        M::Fxsave | M::Fxsave64 => save_legacy(guest, addr),
        M::Fxrstor | M::Fxrstor64 => restore_legacy(guest, addr),
        _ => restore(guest, addr, wanted),
    }
}

fn general_protection() -> Exit {
    Exit::Exception(Exception::GeneralProtection)
}

/// Bytes of an area that holds the wanted components.
fn area_bytes(wanted: u64) -> usize {
    if wanted & AVX != 0 { XSAVE_BYTES } else { HEADER_END }
}

/// The registers with the x87 instruction and data pointers cleared.
fn clean(fpu: &XsaveArea) -> [u8; XSAVE_BYTES] {
    let mut bytes = *fpu.bytes();
    bytes[6..MXCSR].fill(0);
    bytes[MXCSR + 4..MXCSR_END].copy_from_slice(&XsaveArea::MXCSR_BITS.to_le_bytes());
    bytes
}

/// Copies the wanted components from `state` to `area`; MXCSR goes with SSE and AVX.
fn copy_components(state: &[u8], area: &mut [u8], wanted: u64) {
    let mut copy = |from: usize, to: usize| area[from..to].copy_from_slice(&state[from..to]);
    if wanted & X87 != 0 {
        copy(0, MXCSR);
        copy(ST, XMM);
    }
    if wanted & (SSE | AVX) != 0 {
        copy(MXCSR, MXCSR_END);
    }
    if wanted & SSE != 0 {
        copy(XMM, XMM_END);
    }
    if wanted & AVX != 0 {
        copy(HEADER_END, XSAVE_BYTES);
    }
}

fn save(guest: &mut Guest<'_>, addr: u64, wanted: u64) -> Result<(), Exit> {
    let bytes = area_bytes(wanted);
    let pieces = guest.reach(addr, bytes, Access::Write)?;
    let mut area = [0; XSAVE_BYTES];
    guest.get(pieces, &mut area[..bytes]);
    copy_components(&clean(&guest.regs.fpu), &mut area, wanted);
    let old = word(&area, LEGACY);
    set_word(&mut area, LEGACY, old & !wanted | wanted);
    guest.put(pieces, &area[..bytes]);
    Ok(())
}

fn save_compact(guest: &mut Guest<'_>, addr: u64, wanted: u64) -> Result<(), Exit> {
    let bytes = area_bytes(wanted);
    let pieces = guest.reach(addr, bytes, Access::Write)?;
    let mut area = [0; XSAVE_BYTES];
    guest.get(pieces, &mut area[..bytes]);
    copy_components(&clean(&guest.regs.fpu), &mut area, wanted);
    area[LEGACY..HEADER_END].fill(0);
    set_word(&mut area, LEGACY, wanted);
    set_word(&mut area, LEGACY + 8, wanted | COMPACT);
    guest.put(pieces, &area[..bytes]);
    Ok(())
}

fn save_legacy(guest: &mut Guest<'_>, addr: u64) -> Result<(), Exit> {
    let pieces = guest.reach(addr, LEGACY, Access::Write)?;
    let mut area = [0; LEGACY];
    guest.get(pieces, &mut area);
    area[..XMM_END].copy_from_slice(&clean(&guest.regs.fpu)[..XMM_END]);
    guest.put(pieces, &area);
    Ok(())
}

fn restore_legacy(guest: &mut Guest<'_>, addr: u64) -> Result<(), Exit> {
    let mut area = [0; LEGACY];
    guest.load(addr, &mut area)?;
    check_mxcsr(&area)?;
    let state = guest.regs.fpu.bytes_mut();
    state[..XMM_END].copy_from_slice(&area[..XMM_END]);
    state[LEGACY] |= (X87 | SSE) as u8;
    guest.regs.fpu.sanitize();
    Ok(())
}

fn restore(guest: &mut Guest<'_>, addr: u64, wanted: u64) -> Result<(), Exit> {
    let bytes = area_bytes(wanted);
    let mut area = [0; XSAVE_BYTES];
    guest.load(addr, &mut area[..bytes])?;
    let (present, layout) = (word(&area, LEGACY), word(&area, LEGACY + 8));
    check_header(&area, present, layout)?;
    let is_compact = layout & COMPACT != 0;
    let loads_mxcsr =
        if is_compact { wanted & present & SSE != 0 } else { wanted & (SSE | AVX) != 0 };
    if loads_mxcsr {
        check_mxcsr(&area)?;
    }
    let mut state = *XsaveArea::new().bytes();
    if loads_mxcsr {
        state[MXCSR..MXCSR + 4].copy_from_slice(&area[MXCSR..MXCSR + 4]);
    }
    let mxcsr: [u8; 8] = state[MXCSR..MXCSR_END].try_into().expect("eight bytes");
    copy_components(&area, &mut state, wanted & present);
    state[MXCSR..MXCSR_END].copy_from_slice(&mxcsr);
    let keeps_mxcsr = !loads_mxcsr && (!is_compact || wanted & SSE == 0);
    let old = guest.regs.fpu.bytes();
    if keeps_mxcsr {
        state[MXCSR..MXCSR_END].copy_from_slice(&old[MXCSR..MXCSR_END]);
    }
    let mut result = *old;
    let saved: [u8; 8] = state[MXCSR..MXCSR_END].try_into().expect("eight bytes");
    copy_components(&state, &mut result, wanted);
    result[MXCSR..MXCSR_END].copy_from_slice(&saved);
    result[LEGACY] = ALL as u8;
    *guest.regs.fpu.bytes_mut() = result;
    guest.regs.fpu.sanitize();
    Ok(())
}

/// # Source
/// Intel SDM 1, 13.8.1 and 13.8.2.
fn check_header(area: &[u8], present: u64, layout: u64) -> Result<(), Exit> {
    let is_bad = if layout & COMPACT != 0 {
        layout & !COMPACT & !ALL != 0
            || present & !layout != 0
            || area[LEGACY + 16..HEADER_END].iter().any(|&byte| byte != 0)
    } else {
        present & !ALL != 0 || area[LEGACY + 8..LEGACY + 24].iter().any(|&byte| byte != 0)
    };
    if is_bad { Err(general_protection()) } else { Ok(()) }
}

fn check_mxcsr(area: &[u8]) -> Result<(), Exit> {
    let mxcsr = u32::from_le_bytes(area[MXCSR..MXCSR + 4].try_into().expect("four bytes"));
    if mxcsr & !XsaveArea::MXCSR_BITS != 0 { Err(general_protection()) } else { Ok(()) }
}

fn word(area: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(area[offset..offset + 8].try_into().expect("eight bytes"))
}

fn set_word(area: &mut [u8], offset: usize, value: u64) {
    area[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}
