//! Images of the floating-point and vector state: `fxsave`, `xsave`, `fnstenv` and their kin.
//!
//! The state is already in memory, in the format of `xsave`, so that these only copy. The pointers
//! to the last x87 instruction and operand always read as zero: the host's would be those of
//! emitted code.
//!
//! # Source
//! Intel SDM 1, 8.1.10 and 13.4 to 13.11; the parts in use are found by their content.

use super::bus::{Bus, linear};
use super::{PROTECTION, Result};
use crate::{Mode, Registers, XSAVE_BYTES, XsaveArea};
use iced_x86::{Instruction, Mnemonic};
use machine::Access;

const X87: u64 = 1;
const SSE: u64 = 2;
const AVX: u64 = 4;
const HEADER: usize = 512;
const HIGH_HALVES: usize = 576;
const MXCSR: usize = 24;
const COMPACTED: u64 = 1 << 63;

/// Does an instruction that stores or loads an image.
pub(super) fn run(bus: &mut Bus, regs: &mut Registers, instruction: &Instruction) -> Result<()> {
    use Mnemonic as M;
    let address = linear(regs, instruction, 0, 0);
    bus.check(address)?;
    match instruction.mnemonic() {
        M::Fxsave | M::Fxsave64 => fxsave(bus, regs, address),
        M::Fxrstor | M::Fxrstor64 => fxrstor(bus, regs, address),
        M::Xsave | M::Xsave64 => xsave(bus, regs, address, Form::Standard),
        M::Xsaveopt | M::Xsaveopt64 => xsave(bus, regs, address, Form::Optimized),
        M::Xsavec | M::Xsavec64 => xsave(bus, regs, address, Form::Compacted),
        M::Xrstor | M::Xrstor64 => xrstor(bus, regs, address),
        name => {
            let bytes = instruction.memory_size().size();
            match name {
                M::Fnstenv => store_environment(bus, regs, address, bytes),
                M::Fldenv => load_environment(bus, regs, address, bytes),
                M::Fnsave => store_x87(bus, regs, address, bytes),
                _ => load_x87(bus, regs, address, bytes),
            }
        }
    }
}

/// How many vector registers the code can see.
fn vector_count(regs: &Registers) -> usize {
    if regs.mode() == Mode::Long { 16 } else { 8 }
}

/// Where the part of vector registers ends in the first 512 bytes.
fn legacy_end(regs: &Registers) -> usize {
    160 + 16 * vector_count(regs)
}

/// Where their upper halves end.
fn high_end(regs: &Registers) -> usize {
    HIGH_HALVES + 16 * vector_count(regs)
}

fn fxsave(bus: &mut Bus, regs: &mut Registers, address: u64) -> Result<()> {
    if !address.is_multiple_of(16) {
        return Err(PROTECTION);
    }
    let parts = bus.access(address, 512, Access::Write)?;
    let mut image = [0; 512];
    bus.load(parts, &mut image);
    let end = legacy_end(regs);
    image[..end].copy_from_slice(&regs.fpu.bytes()[..end]);
    bus.store(parts, &image);
    Ok(())
}

fn fxrstor(bus: &mut Bus, regs: &mut Registers, address: u64) -> Result<()> {
    if !address.is_multiple_of(16) {
        return Err(PROTECTION);
    }
    let mut image = [0; 512];
    bus.read(address, &mut image)?;
    check_mxcsr(&image)?;
    let end = legacy_end(regs);
    regs.fpu.bytes_mut()[..end].copy_from_slice(&image[..end]);
    regs.fpu.clear_pointers();
    Ok(())
}

fn check_mxcsr(image: &[u8]) -> Result<()> {
    let value = u32::from_le_bytes([image[24], image[25], image[26], image[27]]);
    if value & !XsaveArea::MXCSR_BITS != 0 { Err(PROTECTION) } else { Ok(()) }
}

/// Which form of `xsave`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Standard,
    Optimized,
    Compacted,
}

/// Components in edx:eax that the virtual CPU has.
fn requested(regs: &Registers) -> u64 {
    ((regs.gpr[2] & 0xffff_ffff) << 32 | regs.gpr[0] & 0xffff_ffff) & crate::XCR0
}

/// Components that are not in their initial state.
fn in_use(regs: &Registers) -> u64 {
    let bytes = regs.fpu.bytes();
    let initial = XsaveArea::new();
    let differs = |start: usize, end: usize| bytes[start..end] != initial.bytes()[start..end];
    let mut used = 0;
    if differs(0, 6) || differs(32, 160) {
        used |= X87;
    }
    if differs(160, legacy_end(regs)) || differs(MXCSR, 28) {
        used |= SSE;
    }
    if differs(HIGH_HALVES, high_end(regs)) {
        used |= AVX;
    }
    used
}

fn xsave(bus: &mut Bus, regs: &mut Registers, address: u64, form: Form) -> Result<()> {
    if !address.is_multiple_of(64) {
        return Err(PROTECTION);
    }
    let wanted = requested(regs);
    let used = in_use(regs);
    let written = if form == Form::Standard { wanted } else { wanted & used };
    let bytes = if written & AVX != 0 { XSAVE_BYTES } else { HIGH_HALVES };
    require_start(bus, address, bytes, Access::Write)?;
    let parts = bus.access(address, bytes, Access::Write)?;
    let mut image = [0; XSAVE_BYTES];
    bus.load(parts, &mut image[..bytes]);
    let state = regs.fpu.bytes();
    let mut copy = |start: usize, end: usize| image[start..end].copy_from_slice(&state[start..end]);
    if written & X87 != 0 {
        copy(0, MXCSR);
        copy(32, 160);
    }
    let has_mxcsr = if form == Form::Compacted { SSE } else { SSE | AVX };
    if wanted & has_mxcsr != 0 {
        copy(MXCSR, 32);
    }
    if written & SSE != 0 {
        copy(160, legacy_end(regs));
    }
    if written & AVX != 0 {
        copy(HIGH_HALVES, high_end(regs));
    }
    let old = u64_at(&image, HEADER);
    let present = match form {
        Form::Compacted => wanted & used,
        _ => old & !wanted | wanted & used,
    };
    image[HEADER..HEADER + 8].copy_from_slice(&present.to_le_bytes());
    if form == Form::Compacted {
        image[HEADER + 8..HEADER + 16].copy_from_slice(&(wanted | COMPACTED).to_le_bytes());
    }
    bus.store(parts, &image[..bytes]);
    Ok(())
}

/// Makes the access to the start of an image that ends beyond canonical addresses: a page fault
/// there comes before the exception.
fn require_start(bus: &mut Bus, address: u64, bytes: usize, access: Access) -> Result<()> {
    if bus.check(address.wrapping_add(bytes as u64 - 1)).is_err() {
        bus.one(address, access)?;
    }
    Ok(())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}

fn xrstor(bus: &mut Bus, regs: &mut Registers, address: u64) -> Result<()> {
    if !address.is_multiple_of(64) {
        return Err(PROTECTION);
    }
    let wanted = requested(regs);
    let mut image = [0; XSAVE_BYTES];
    require_start(bus, address, HIGH_HALVES, Access::Read)?;
    bus.read(address, &mut image[..HIGH_HALVES])?;
    let (present, format) = (u64_at(&image, HEADER), u64_at(&image, HEADER + 8));
    let is_compacted = format & COMPACTED != 0;
    let known = if is_compacted { format & !COMPACTED } else { crate::XCR0 };
    // The standard form looks at less of the header.
    let reserved_end = if is_compacted { HIGH_HALVES } else { HEADER + 24 };
    let is_sound = present & !known == 0
        && known & !crate::XCR0 == 0
        && (is_compacted || format == 0)
        && image[HEADER + 16..reserved_end].iter().all(|byte| *byte == 0);
    if !is_sound {
        return Err(PROTECTION);
    }
    let loaded = wanted & present;
    if loaded & AVX != 0 {
        bus.read(address.wrapping_add(HIGH_HALVES as u64), &mut image[HIGH_HALVES..])?;
    }
    let has_mxcsr = if is_compacted { wanted & SSE } else { wanted & (SSE | AVX) };
    let keeps_mxcsr = !is_compacted || present & SSE != 0;
    if has_mxcsr != 0 && keeps_mxcsr {
        check_mxcsr(&image)?;
    }
    let initial = XsaveArea::new();
    let (legacy_end, high_end) = (legacy_end(regs), high_end(regs));
    let state = regs.fpu.bytes_mut();
    let mut copy = |component: u64, start: usize, end: usize| {
        if wanted & component != 0 {
            let from = if loaded & component != 0 { &image } else { initial.bytes() };
            state[start..end].copy_from_slice(&from[start..end]);
        }
    };
    copy(X87, 0, MXCSR);
    copy(X87, 32, 160);
    copy(SSE, 160, legacy_end);
    copy(AVX, HIGH_HALVES, high_end);
    if has_mxcsr != 0 {
        let from = if keeps_mxcsr { &image } else { initial.bytes() };
        state[MXCSR..28].copy_from_slice(&from[MXCSR..28]);
    }
    regs.fpu.clear_pointers();
    Ok(())
}

/// The full tag word: two bits for each physical register.
fn tags(regs: &Registers) -> u16 {
    let bytes = regs.fpu.bytes();
    let top = usize::from(regs.fpu.fsw() >> 11 & 7);
    (0..8).fold(0, |word, physical| {
        let tag = if bytes[4] >> physical & 1 == 0 {
            3
        } else {
            let start = 32 + 16 * ((physical + 8 - top) & 7);
            tag_of(&bytes[start..start + 10])
        };
        word | tag << (2 * physical)
    })
}

/// 0 valid, 1 zero, 2 special.
fn tag_of(value: &[u8]) -> u16 {
    let exponent = u16::from_le_bytes([value[8], value[9]]) & 0x7fff;
    let fraction = u64_at(value, 0);
    match exponent {
        0 if fraction == 0 => 1,
        0 | 0x7fff => 2,
        _ if fraction >> 63 == 0 => 2,
        _ => 0,
    }
}

/// The environment in its 28-byte or 14-byte form.
fn environment(regs: &Registers, bytes: usize) -> [u8; 28] {
    let words = [regs.fpu.fcw(), regs.fpu.fsw(), tags(regs)];
    let mut image = [0; 28];
    for (index, word) in words.into_iter().enumerate() {
        if bytes == 14 {
            image[2 * index..2 * index + 2].copy_from_slice(&word.to_le_bytes());
        } else {
            let wide = 0xffff_0000 | u32::from(word);
            image[4 * index..4 * index + 4].copy_from_slice(&wide.to_le_bytes());
        }
    }
    if bytes != 14 {
        // The reserved half of the last word reads as ones, too.
        image[26..28].fill(0xff);
    }
    image
}

fn set_environment(regs: &mut Registers, image: &[u8], bytes: usize) {
    let step = if bytes == 14 { 2 } else { 4 };
    let word = |index: usize| u16::from_le_bytes([image[index * step], image[index * step + 1]]);
    let (control, mut status, tags) = (word(0), word(1), word(2));
    let pending = status & !control & 0x3f != 0;
    status = if pending { status | 0x8080 } else { status & !0x8080 };
    let present = (0..8)
        .fold(0u8, |bits, physical| bits | u8::from(tags >> (2 * physical) & 3 != 3) << physical);
    let (old_top, new_top) = (regs.fpu.fsw() >> 11 & 7, status >> 11 & 7);
    rotate(regs, usize::from(old_top.wrapping_sub(new_top) & 7));
    let state = regs.fpu.bytes_mut();
    state[..2].copy_from_slice(&(control & 0x1f7f | 0x40).to_le_bytes());
    state[2..4].copy_from_slice(&status.to_le_bytes());
    state[4] = present;
}

fn environment_bytes(bytes: usize) -> usize {
    if bytes == 14 || bytes == 94 { 14 } else { 28 }
}

/// Raises what the first word or register of an image of the x87 unit raises. They are stored one
/// after the other, so that a page fault comes before a non-canonical address behind it.
fn check_parts(bus: &mut Bus, address: u64, length: usize, registers: usize) -> Result<()> {
    let word = length / 7;
    let words = (0..7).map(|index| (index * word, word));
    let stored = (0..registers).map(|index| (length + index * 10, 10));
    for (offset, bytes) in words.chain(stored) {
        bus.check_write_of(address.wrapping_add(offset as u64), bytes)?;
    }
    Ok(())
}

fn store_environment(
    bus: &mut Bus,
    regs: &mut Registers,
    address: u64,
    bytes: usize,
) -> Result<()> {
    let length = environment_bytes(bytes);
    check_parts(bus, address, length, 0)?;
    bus.write(address, &environment(regs, length)[..length])?;
    // All exceptions are masked afterwards.
    regs.fpu.bytes_mut()[0] |= 0x3f;
    settle(regs);
    Ok(())
}

/// Sets ES and B from the exceptions that are not masked.
fn settle(regs: &mut Registers) {
    let pending = regs.fpu.fsw() & !regs.fpu.fcw() & 0x3f != 0;
    let state = regs.fpu.bytes_mut();
    for byte in &mut state[2..4] {
        *byte = if pending { *byte | 0x80 } else { *byte & 0x7f };
    }
}

fn load_environment(bus: &mut Bus, regs: &mut Registers, address: u64, bytes: usize) -> Result<()> {
    let length = environment_bytes(bytes);
    let mut image = [0; 28];
    bus.read(address, &mut image[..length])?;
    set_environment(regs, &image, length);
    Ok(())
}

fn store_x87(bus: &mut Bus, regs: &mut Registers, address: u64, bytes: usize) -> Result<()> {
    let length = environment_bytes(bytes);
    check_parts(bus, address, length, 8)?;
    let mut image = [0; 108];
    image[..length].copy_from_slice(&environment(regs, length)[..length]);
    for slot in 0..8 {
        let value = &regs.fpu.bytes()[32 + 16 * slot..][..10];
        image[length + 10 * slot..][..10].copy_from_slice(value);
    }
    bus.write(address, &image[..length + 80])?;
    // As `fninit`: the registers keep their bits and are tagged empty.
    let top = usize::from(regs.fpu.fsw() >> 11 & 7);
    rotate(regs, top);
    let state = regs.fpu.bytes_mut();
    state[..6].copy_from_slice(&[0x7f, 3, 0, 0, 0, 0]);
    Ok(())
}

/// Renumbers the registers of the image for a TOP that is lower by `top`.
fn rotate(regs: &mut Registers, top: usize) {
    let state = regs.fpu.bytes_mut();
    let mut old = [0; 128];
    old.copy_from_slice(&state[32..160]);
    for physical in 0..8 {
        let from = 16 * ((physical + 8 - top) & 7);
        state[32 + 16 * physical..][..16].copy_from_slice(&old[from..from + 16]);
    }
}

fn load_x87(bus: &mut Bus, regs: &mut Registers, address: u64, bytes: usize) -> Result<()> {
    let length = environment_bytes(bytes);
    let mut image = [0; 108];
    bus.read(address, &mut image[..length + 80])?;
    set_environment(regs, &image[..length], length);
    for slot in 0..8 {
        let value = &image[length + 10 * slot..][..10];
        regs.fpu.bytes_mut()[32 + 16 * slot..][..10].copy_from_slice(value);
    }
    Ok(())
}

/// An MMX instruction was done: TOP is 0 and all registers are valid.
pub(super) fn enter_mmx(regs: &mut Registers) {
    let top = usize::from(regs.fpu.fsw() >> 11 & 7);
    rotate(regs, top);
    let state = regs.fpu.bytes_mut();
    state[3] &= !0x38;
    state[4] = 0xff;
}
