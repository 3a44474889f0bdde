//! The frames of signal handlers of i386 programs.
//!
//! ```text
//!  high   old stack
//!         xsave area, 64-aligned, with FP_XSTATE_MAGIC1/2
//!         fsave area            112
//!         (padding)
//!         old frame             732: return address, signal, sigcontext, mask, code
//!      or frame with siginfo   268: return address, signal, &info, &ucontext, info, ucontext, code
//!  esp -> return address          4: sa_restorer or the vDSO    (esp + 4 is 16-aligned)
//! ```
//!
//! # Source
//! Linux 6.12 `arch/x86/kernel/signal_32.c`, `arch/x86/kernel/fpu/{signal,regset}.c`,
//! `arch/x86/include/asm/sigframe.h`; measured natively.

use cpu::{Registers, SegmentName, XSAVE_BYTES, XsaveArea};
use machine::VirtAddr;

use super::Args;
use super::signal::narrow_info;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::signal::{
    AltStack, HANDLER_CLEARS, SigAction, SigInfo, XSTATE_BYTES, flag, restored_flags, xstate_bytes,
};
use crate::vdso;

const FSAVE_BYTES: usize = 112;
const CONTEXT_BYTES: usize = 88;
const OLD_BYTES: usize = 732;
const RT_BYTES: usize = 268;
/// Offsets in the old frame.
const OLD_CONTEXT: usize = 8;
const OLD_MASK: usize = 720;
/// Offsets in the frame with siginfo.
const INFO: usize = 16;
const UCONTEXT: usize = 144;
const RT_CONTEXT: usize = UCONTEXT + 20;
const RT_MASK: usize = RT_CONTEXT + CONTEXT_BYTES;
/// Offset of the 32-bit words of `sw_reserved`, and of the extended size in them.
const EXTENDED_SIZE: usize = 464 + 4;

/// Order of the general registers in `struct sigcontext`, from offset 16 on.
const CONTEXT_ORDER: [usize; 8] = [7, 6, 5, 4, 3, 2, 1, 0];
/// Order of the segment registers at its start.
const SEGMENT_ORDER: [SegmentName; 4] =
    [SegmentName::Gs, SegmentName::Fs, SegmentName::Es, SegmentName::Ds];

impl Kernel {
    /// Builds the frame of `action`'s handler, an i386 function, and points the registers at it.
    ///
    /// # Errors
    /// `EFAULT`: the stack cannot take it.
    pub(crate) fn push_i386_frame(
        &mut self,
        info: SigInfo,
        action: SigAction,
    ) -> Result<(), Errno> {
        let has_info = action.flags & flag::SA_SIGINFO != 0;
        let frame_bytes = if has_info { RT_BYTES } else { OLD_BYTES };
        let (state, frame) = self.place_of_frame(action, frame_bytes as u64)?;
        self.write_user(VirtAddr::new(state), &self.float_state())?;
        let vdso = self.mm.layout.vdso.as_u64();
        let way_back = if has_info { vdso::i386::RT_SIGRETURN } else { vdso::i386::SIGRETURN };
        let restorer = action.flags & flag::SA_RESTORER != 0;
        let return_address = if restorer { action.restorer } else { vdso + way_back };
        let mut bytes = vec![0; frame_bytes];
        put(&mut bytes, 0, return_address);
        put(&mut bytes, 4, info.signal.into());
        let mask = self.task.signals.saved_mask.unwrap_or(self.task.signals.mask);
        if has_info {
            put(&mut bytes, 8, frame + INFO as u64);
            put(&mut bytes, 12, frame + UCONTEXT as u64);
            bytes[INFO..INFO + 128].copy_from_slice(&narrow_info(&info.bytes()));
            // The frame has an xstate.
            put(&mut bytes, UCONTEXT, 1);
            let stack = self.task.signals.alt_stack;
            for (index, word) in [stack.base, stack.flags.into(), stack.bytes].iter().enumerate() {
                put(&mut bytes, UCONTEXT + 8 + index * 4, *word);
            }
            self.fill_i386_context(&mut bytes[RT_CONTEXT..RT_MASK], state, mask);
            bytes[RT_MASK..RT_MASK + 8].copy_from_slice(&mask.to_le_bytes());
            bytes[260..267].copy_from_slice(&[0xb8, 173, 0, 0, 0, 0xcd, 0x80]);
        } else {
            let context = OLD_CONTEXT..OLD_CONTEXT + CONTEXT_BYTES;
            self.fill_i386_context(&mut bytes[context], state, mask);
            put(&mut bytes, OLD_MASK, mask >> 32);
            bytes[724..732].copy_from_slice(&[0x58, 0xb8, 119, 0, 0, 0, 0xcd, 0x80]);
        }
        self.write_user(VirtAddr::new(frame), &bytes)?;
        if self.task.signals.alt_stack.flags & flag::SS_AUTODISARM != 0 {
            self.task.signals.alt_stack = AltStack::DISARMED;
        }
        self.enter_i386_handler(info.signal, action.handler, frame, has_info);
        Ok(())
    }

    /// Where the floating-point state and the frame go.
    ///
    /// # Errors
    /// `EFAULT`: not on the alternate stack that they should be on, or wrapped.
    fn place_of_frame(&self, action: SigAction, frame_bytes: u64) -> Result<(u64, u64), Errno> {
        let mut sp = self.task.regs.gpr[Registers::RSP] & 0xffff_ffff;
        let alt = self.task.signals.alt_stack;
        let is_nested = alt.is_in_use(sp);
        let is_entering = action.flags & flag::SA_ONSTACK != 0 && alt.bytes != 0 && !is_nested;
        if is_entering {
            sp = alt.base.wrapping_add(alt.bytes) & 0xffff_ffff;
        }
        let below = |sp: u64, bytes: usize| sp.checked_sub(bytes as u64).ok_or(Errno::EFAULT);
        let state = below(below(sp, XSTATE_BYTES)? & !63, FSAVE_BYTES)?;
        let frame = (state.checked_sub(frame_bytes).ok_or(Errno::EFAULT)? + 4) & !15;
        let frame = below(frame, 4)?;
        if (is_nested || is_entering) && !alt.holds(frame) {
            return Err(Errno::EFAULT);
        }
        Ok((state, frame))
    }

    /// The fsave area and the xsave area behind it.
    fn float_state(&self) -> Vec<u8> {
        let regs = &self.task.regs;
        let mut bytes = fsave_bytes(regs);
        let mut extended = xstate_bytes(&regs.fpu);
        let size = (XSTATE_BYTES + FSAVE_BYTES) as u32;
        extended[EXTENDED_SIZE..EXTENDED_SIZE + 4].copy_from_slice(&size.to_le_bytes());
        bytes.extend(extended);
        bytes
    }

    fn fill_i386_context(&self, context: &mut [u8], state: u64, mask: u64) {
        let regs = &self.task.regs;
        let trap = self.task.signals.trap;
        for (index, name) in SEGMENT_ORDER.into_iter().enumerate() {
            put(context, index * 4, regs.selectors[name as usize].into());
        }
        for (index, number) in CONTEXT_ORDER.into_iter().enumerate() {
            put(context, 16 + index * 4, regs.gpr[number]);
        }
        let rest = [
            trap.number,
            trap.error_code,
            regs.rip,
            regs.selectors[SegmentName::Cs as usize].into(),
            regs.rflags,
            regs.gpr[Registers::RSP],
            regs.selectors[SegmentName::Ss as usize].into(),
            state,
            mask,
            trap.cr2,
        ];
        for (index, word) in rest.into_iter().enumerate() {
            put(context, 48 + index * 4, word);
        }
    }

    fn enter_i386_handler(&mut self, signal: u8, handler: u64, frame: u64, has_info: bool) {
        let (code, data) = self.kind.selectors();
        let regs = &mut self.task.regs;
        regs.gpr[Registers::RAX] = signal.into();
        regs.gpr[Registers::RDX] = if has_info { frame + INFO as u64 } else { 0 };
        regs.gpr[Registers::RCX] = if has_info { frame + UCONTEXT as u64 } else { 0 };
        regs.gpr[Registers::RSP] = frame;
        regs.rip = handler;
        regs.rflags &= !HANDLER_CLEARS;
        regs.fpu = XsaveArea::new();
        let flat = [
            (SegmentName::Cs, code),
            (SegmentName::Ss, data),
            (SegmentName::Ds, data),
            (SegmentName::Es, data),
        ];
        for (name, selector) in flat {
            let loaded = regs.load_segment(&mut self.hw, name, selector);
            debug_assert!(loaded.is_ok(), "the kernel's own descriptors are good");
        }
    }

    /// Takes registers and floating-point state from a frame.
    fn restore_i386_context(&mut self, context: &[u8]) -> Result<(), Errno> {
        let word = |offset: usize| super::word(context, offset);
        let regs = &mut self.task.regs;
        for (index, number) in CONTEXT_ORDER.into_iter().enumerate() {
            regs.gpr[number] = word(16 + index * 4);
        }
        regs.gpr[8..].fill(0);
        regs.rip = word(56);
        regs.rflags = restored_flags(regs.rflags, word(64));
        for (index, name) in SEGMENT_ORDER.into_iter().enumerate() {
            let selector = word(index * 4) as u16;
            let selector = if selector == 0 { 0 } else { selector | 3 };
            // As the kernel's own loads: what is no good is null.
            if regs.load_segment(&mut self.hw, name, selector).is_err() {
                let _ = regs.load_segment(&mut self.hw, name, 0);
            }
        }
        for (name, offset) in [(SegmentName::Cs, 60), (SegmentName::Ss, 72)] {
            let selector = word(offset) as u16 | 3;
            regs.load_segment(&mut self.hw, name, selector).map_err(|_| Errno::EFAULT)?;
        }
        self.restore_float_state(word(76))
    }

    fn restore_float_state(&mut self, addr: u64) -> Result<(), Errno> {
        if addr == 0 {
            self.task.regs.fpu = XsaveArea::new();
            return Ok(());
        }
        let mut legacy = [0; FSAVE_BYTES];
        self.read_user(VirtAddr::new(addr), &mut legacy)?;
        self.restore_xstate_copied(addr + FSAVE_BYTES as u64)?;
        let fpu = &mut self.task.regs.fpu;
        load_fsave(fpu, &legacy);
        fpu.sanitize();
        Ok(())
    }

    /// Gives the registers that the frame at `frame` holds back; the mask is at `mask`.
    fn leave_handler(
        &mut self,
        frame: u64,
        bytes: usize,
        context: usize,
    ) -> Result<Vec<u8>, Errno> {
        let mut held = vec![0; bytes];
        self.read_user(VirtAddr::new(frame), &mut held)?;
        let mask = if bytes == RT_BYTES {
            super::word(&held, RT_MASK) | super::word(&held, RT_MASK + 4) << 32
        } else {
            super::word(&held, OLD_CONTEXT + 80) | super::word(&held, OLD_MASK) << 32
        };
        self.set_mask(mask);
        self.restore_i386_context(&held[context..context + CONTEXT_BYTES])?;
        Ok(held)
    }
}

/// Ends a handler with the old frame.
pub(super) fn sigreturn(kernel: &mut Kernel, _args: Args) -> SysResult {
    // The return address and the signal are off the stack.
    let frame = (kernel.task.regs.gpr[Registers::RSP] as u32).wrapping_sub(8);
    let left = kernel.leave_handler(frame.into(), OLD_BYTES - 8, OLD_CONTEXT);
    finish(kernel, left.map(|_| ()))
}

/// Ends a handler with siginfo.
pub(super) fn rt_sigreturn(kernel: &mut Kernel, _args: Args) -> SysResult {
    let frame = (kernel.task.regs.gpr[Registers::RSP] as u32).wrapping_sub(4);
    let left = kernel.leave_handler(frame.into(), RT_BYTES, RT_CONTEXT);
    let result = left.map(|held| {
        let word = |index: usize| super::word(&held, UCONTEXT + 8 + index * 4);
        let stack = AltStack { base: word(0), flags: word(1) as u32, bytes: word(2) };
        // Linux ignores a stack that sigaltstack would refuse.
        let _ = kernel.set_alt_stack(stack);
    });
    finish(kernel, result)
}

fn finish(kernel: &mut Kernel, result: Result<(), Errno>) -> SysResult {
    if result.is_err() {
        kernel.force_segv();
        return Ok(0);
    }
    Ok(kernel.task.regs.gpr[Registers::RAX])
}

/// The state of the x87 as `fsave` has it, and the word behind it that says that the xsave area
/// follows.
fn fsave_bytes(regs: &Registers) -> Vec<u8> {
    let legacy = &regs.fpu.bytes()[..512];
    let half = |offset: usize| u64::from(u16::from_le_bytes([legacy[offset], legacy[offset + 1]]));
    let high = 0xffff_0000;
    let [_, cs, _, ds, ..] = regs.selectors;
    let words = [
        half(0) | high,
        half(2) | high,
        u64::from(full_tags(legacy)) | high,
        super::word(legacy, 8),
        u64::from(cs) | half(6) << 16,
        super::word(legacy, 16),
        u64::from(ds) | high,
    ];
    let mut bytes: Vec<u8> = words.iter().flat_map(|&word| (word as u32).to_le_bytes()).collect();
    for register in legacy[32..160].chunks_exact(16) {
        bytes.extend(&register[..10]);
    }
    bytes.extend(&legacy[2..4]);
    // X86_FXSR_MAGIC.
    bytes.extend([0, 0]);
    bytes
}

/// The tag word of `fsave`, two bits for each register: valid 0, zero 1, special 2, empty 3.
fn full_tags(legacy: &[u8]) -> u16 {
    let top = usize::from(legacy[3] >> 3 & 7);
    let mut tags = 0;
    for register in 0..8 {
        let is_full = legacy[4] >> register & 1 != 0;
        let place = 32 + (8 + register - top) % 8 * 16;
        let tag = if is_full { tag_of(&legacy[place..place + 10]) } else { 3 };
        tags |= tag << (register * 2);
    }
    tags
}

fn tag_of(register: &[u8]) -> u16 {
    let exponent = u16::from_le_bytes([register[8], register[9]]) & 0x7fff;
    let is_zero = register[..8].iter().all(|&byte| byte == 0);
    match exponent {
        0x7fff => 2,
        0 if is_zero => 1,
        0 => 2,
        _ if register[7] & 0x80 != 0 => 0,
        _ => 2,
    }
}

/// Puts what `fsave` says about the x87 into the state.
fn load_fsave(fpu: &mut XsaveArea, legacy: &[u8; FSAVE_BYTES]) {
    let tags = u16::from_le_bytes([legacy[8], legacy[9]]);
    let full = (0..8).filter(|register| tags >> (register * 2) & 3 != 3);
    let short = full.fold(0, |short, register| short | 1_u8 << register);
    let target = fpu.bytes_mut();
    target[0..2].copy_from_slice(&legacy[0..2]);
    target[2..4].copy_from_slice(&legacy[4..6]);
    target[4] = short;
    target[5] = 0;
    target[6..8].copy_from_slice(&legacy[18..20]);
    target[8..24].fill(0);
    target[8..12].copy_from_slice(&legacy[12..16]);
    target[16..20].copy_from_slice(&legacy[20..24]);
    for (index, register) in legacy[28..108].chunks_exact(10).enumerate() {
        target[32 + index * 16..42 + index * 16].copy_from_slice(register);
    }
    target[512] |= 1;
}

fn put(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 4].copy_from_slice(&(value as u32).to_le_bytes());
}

const _: () = assert!(XSAVE_BYTES >= 576, "the legacy area and the header are there");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_x87_state_survives_both_forms() {
        let mut regs = Registers::new_compat();
        let bytes = regs.fpu.bytes_mut();
        bytes[..6].copy_from_slice(&[0x7f, 0x03, 0x00, 0x30, 0xc0, 0]);
        bytes[39] = 0x80;
        bytes[40..42].copy_from_slice(&0x3fff_u16.to_le_bytes());
        bytes[8] = 0x44;
        let saved = fsave_bytes(&regs);
        assert_eq!(saved.len(), FSAVE_BYTES);
        // Top is 6: register 6 holds a number, register 7 is zero, the others are empty.
        assert_eq!(u16::from_le_bytes([saved[8], saved[9]]), 0x4fff);
        let mut fpu = XsaveArea::new();
        load_fsave(&mut fpu, saved.first_chunk().expect("as long"));
        assert_eq!(fpu.bytes()[..24], regs.fpu.bytes()[..24]);
        assert_eq!(fpu.bytes()[32..160], regs.fpu.bytes()[32..160]);
    }
}
