//! The frame of a signal handler on the program's stack: `struct rt_sigframe` of x86-64.
//!
//! ```text
//!  high   old stack (128 bytes of red zone stay untouched)
//!         xsave area, 64-aligned, with FP_XSTATE_MAGIC1/2
//!         siginfo        128
//!         ucontext       304: flags link stack sigcontext mask
//!  rsp -> return address   8: sa_restorer            (rsp + 8 is 16-aligned)
//! ```
//!
//! # Source
//! Linux 6.12 `arch/x86/kernel/signal_64.c`, `arch/x86/kernel/fpu/signal.c`; measured natively.

use cpu::{Mode, Registers, SegmentName, XCR0, XSAVE_BYTES, XsaveArea};
use machine::VirtAddr;

use super::{AltStack, FLAG_RF, FLAG_TF, SigAction, SigInfo, flag};
use crate::Kernel;
use crate::errno::Errno;

const USER_CS: u16 = 0x33;
const USER_SS: u16 = 0x2b;
const RED_ZONE_BYTES: u64 = 128;
const CONTEXT_BYTES: usize = 304;
const INFO_BYTES: usize = 128;
const FRAME_BYTES: usize = 8 + CONTEXT_BYTES + INFO_BYTES;

const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
/// The xsave area, then MAGIC2.
pub(crate) const XSTATE_BYTES: usize = XSAVE_BYTES + 4;
/// Offset of the words that the kernel puts into the unused end of the legacy area.
const SOFTWARE_OFFSET: usize = 464;

/// `uc_flags`: the frame has an xstate, and ss is saved.
const CONTEXT_FLAGS: u64 = 3;
/// `uc_flags`: ss is restored strictly. Set in frames of 64-bit code.
const STRICT_STACK: u64 = 4;
const FLAG_DF: u64 = 1 << 10;
/// Flags that a handler does not have (`handle_signal`).
pub(crate) const HANDLER_CLEARS: u64 = FLAG_DF | FLAG_RF | FLAG_TF;
/// Flags that `rt_sigreturn` takes from the frame (`FIX_EFLAGS`).
const FLAGS_RESTORED: u64 = 0x5_0dd5;

/// The least alternate stack that `AT_MINSIGSTKSZ` announces: frame, xstate, alignment, and the
/// 112 bytes that a kernel with 32-bit support adds.
pub(crate) const SIGNAL_FRAME_BYTES: u64 =
    (FRAME_BYTES as u64 + 15 + XSTATE_BYTES as u64 + 112 + 63).next_multiple_of(16);

/// Order of the general registers in `struct sigcontext`, as indexes into [`Registers::gpr`].
const CONTEXT_ORDER: [usize; 16] = [8, 9, 10, 11, 12, 13, 14, 15, 7, 6, 5, 3, 2, 0, 1, 4];

/// Offset of `struct sigcontext` in the ucontext.
const SIGCONTEXT: usize = 40;

/// The legacy area of a floating-point state on the program's stack.
struct LegacyArea {
    bytes: [u8; 512],
    /// Whether the whole state is there: the words of the kernel are intact.
    has_xstate: bool,
}

impl Kernel {
    /// Builds the frame of `action`'s handler and points the registers at it.
    ///
    /// # Errors
    /// `EFAULT`: the stack cannot take it, or the action has no restorer.
    pub(super) fn push_signal_frame(
        &mut self,
        info: SigInfo,
        action: SigAction,
    ) -> Result<(), Errno> {
        let regs = &self.task.regs;
        let old_sp = regs.gpr[Registers::RSP];
        let mut sp = old_sp.wrapping_sub(RED_ZONE_BYTES);
        let alt = self.task.signals.alt_stack;
        let is_nested = alt.is_in_use(old_sp);
        let is_entering = action.flags & flag::SA_ONSTACK != 0 && alt.bytes != 0 && !is_nested;
        if is_entering {
            sp = alt.base.wrapping_add(alt.bytes);
        }
        let xstate = sp.wrapping_sub(XSTATE_BYTES as u64) & !63;
        let frame = (xstate.wrapping_sub(FRAME_BYTES as u64) & !15).wrapping_sub(8);
        if (is_nested || is_entering) && !alt.holds(frame) {
            return Err(Errno::EFAULT);
        }
        if action.flags & flag::SA_RESTORER == 0 {
            return Err(Errno::EFAULT);
        }
        self.write_user(VirtAddr::new(xstate), &xstate_bytes(&self.task.regs.fpu))?;
        let mut bytes = [0; FRAME_BYTES];
        put(&mut bytes, 0, action.restorer);
        self.fill_context(&mut bytes[8..8 + CONTEXT_BYTES], xstate);
        bytes[8 + CONTEXT_BYTES..].copy_from_slice(&info.bytes());
        self.write_user(VirtAddr::new(frame), &bytes)?;
        if alt.flags & flag::SS_AUTODISARM != 0 {
            self.task.signals.alt_stack = AltStack::DISARMED;
        }

        let regs = &mut self.task.regs;
        regs.gpr[Registers::RDI] = info.signal.into();
        regs.gpr[Registers::RSI] = frame + 8 + CONTEXT_BYTES as u64;
        regs.gpr[Registers::RDX] = frame + 8;
        regs.gpr[Registers::RAX] = 0;
        regs.gpr[Registers::RSP] = frame;
        regs.rip = action.handler;
        regs.rflags &= !HANDLER_CLEARS;
        regs.fpu = XsaveArea::new();
        self.enter_handler_code();
        Ok(())
    }

    /// Makes the code segment that of handlers. The stack segment stays if 64-bit code may have it.
    fn enter_handler_code(&mut self) {
        let regs = &mut self.task.regs;
        let ss = regs.selectors[SegmentName::Ss as usize];
        let is_sound = ss == USER_SS || regs.has_sound_stack(&self.hw);
        let stack = regs.segments[SegmentName::Ss as usize];
        regs.enter_long();
        if is_sound {
            regs.selectors[SegmentName::Ss as usize] = ss;
            regs.segments[SegmentName::Ss as usize] = stack;
        }
    }

    fn fill_context(&self, context: &mut [u8], xstate: u64) {
        let regs = &self.task.regs;
        let signals = &self.task.signals;
        let strict = if regs.mode() == Mode::Long { STRICT_STACK } else { 0 };
        put(context, 0, CONTEXT_FLAGS | strict);
        let stack = signals.alt_stack;
        put(context, 16, stack.base);
        put(context, 24, stack.flags.into());
        put(context, 32, stack.bytes);
        for (place, index) in CONTEXT_ORDER.into_iter().enumerate() {
            put(context, SIGCONTEXT + place * 8, regs.gpr[index]);
        }
        put(context, SIGCONTEXT + 128, regs.rip);
        put(context, SIGCONTEXT + 136, regs.rflags);
        let [_, cs, ss, ..] = regs.selectors;
        put(context, SIGCONTEXT + 144, u64::from(cs) | u64::from(ss) << 48);
        let mask = signals.saved_mask.unwrap_or(signals.mask);
        put(context, SIGCONTEXT + 152, signals.trap.error_code);
        put(context, SIGCONTEXT + 160, signals.trap.number);
        put(context, SIGCONTEXT + 168, mask);
        put(context, SIGCONTEXT + 176, signals.trap.cr2);
        put(context, SIGCONTEXT + 184, xstate);
        put(context, SIGCONTEXT + 256, mask);
    }

    /// Takes the frame below the stack pointer down: `rt_sigreturn`.
    ///
    /// Returns the value of rax that the frame holds.
    ///
    /// # Errors
    /// `EFAULT`: the frame cannot be read, or holds what no processor would load. The registers may
    /// then be partly restored: the caller sends SIGSEGV.
    pub(super) fn pop_signal_frame(&mut self) -> Result<u64, Errno> {
        let frame = self.task.regs.gpr[Registers::RSP].wrapping_sub(8);
        let mut context = [0; CONTEXT_BYTES];
        self.read_user(VirtAddr::new(frame.wrapping_add(8)), &mut context)?;
        self.set_mask(get(&context, SIGCONTEXT + 256));
        let regs = &mut self.task.regs;
        for (place, index) in CONTEXT_ORDER.into_iter().enumerate() {
            regs.gpr[index] = get(&context, SIGCONTEXT + place * 8);
        }
        regs.rip = get(&context, SIGCONTEXT + 128);
        let flags = get(&context, SIGCONTEXT + 136);
        regs.rflags = restored_flags(regs.rflags, flags);
        let segments = get(&context, SIGCONTEXT + 144).to_le_bytes();
        let cs = u16::from_le_bytes([segments[0], segments[1]]) | 3;
        let ss = u16::from_le_bytes([segments[6], segments[7]]) | 3;
        let is_strict = get(&context, 0) & STRICT_STACK != 0;
        self.restore_xstate(get(&context, SIGCONTEXT + 184))?;
        self.restore_alt_stack(&context);
        self.restore_code(cs, ss, is_strict);
        Ok(self.task.regs.gpr[Registers::RAX])
    }

    /// Loads code and stack segment; raises what the return to the program would raise.
    fn restore_code(&mut self, cs: u16, ss: u16, is_strict: bool) {
        if cs == USER_CS && (ss == USER_SS || !is_strict && !self.is_sound_stack(ss)) {
            return self.task.regs.enter_long();
        }
        let result = self.task.regs.return_to(&mut self.hw, cs, ss);
        if let Err(exception) = result {
            self.exception(exception);
        }
    }

    fn is_sound_stack(&mut self, ss: u16) -> bool {
        self.task.regs.selectors[SegmentName::Ss as usize] = ss;
        self.task.regs.has_sound_stack(&self.hw)
    }

    /// Loads the floating-point state at `addr`, as `fpu__restore_sig` does.
    fn restore_xstate(&mut self, addr: u64) -> Result<(), Errno> {
        if addr == 0 {
            self.task.regs.fpu = XsaveArea::new();
            return Ok(());
        }
        let legacy = self.read_legacy(addr)?;
        // What `xrstor` and `fxrstor` ask for.
        if !addr.is_multiple_of(if legacy.has_xstate { 64 } else { 16 }) {
            return Err(Errno::EFAULT);
        }
        self.load_state(addr, &legacy)
    }

    /// Loads the floating-point state at `addr` from wherever it is, as for i386 frames.
    ///
    /// # Errors
    /// `EFAULT`: it cannot be read, or no processor would load it; nothing has changed.
    pub(crate) fn restore_xstate_copied(&mut self, addr: u64) -> Result<(), Errno> {
        let legacy = self.read_legacy(addr)?;
        self.load_state(addr, &legacy)
    }

    /// Reads the legacy area at `addr`, and looks at what is behind it.
    fn read_legacy(&mut self, addr: u64) -> Result<LegacyArea, Errno> {
        let mut bytes = [0; 512];
        self.read_user(VirtAddr::new(addr), &mut bytes)?;
        let has_xstate = self.frame_has_xstate(addr, &bytes)?;
        Ok(LegacyArea { bytes, has_xstate })
    }

    /// Loads the state at `addr`, of which `legacy` has been read.
    fn load_state(&mut self, addr: u64, legacy: &LegacyArea) -> Result<(), Errno> {
        let mut fpu = XsaveArea::new();
        if legacy.has_xstate {
            let mut bytes = [0; XSAVE_BYTES];
            self.read_user(VirtAddr::new(addr), &mut bytes)?;
            load_xstate(&mut fpu, &bytes)?;
        } else {
            // Only the legacy part counts; the rest starts afresh.
            fpu.bytes_mut()[..464].copy_from_slice(&legacy.bytes[..464]);
            fpu.bytes_mut()[512] = 3;
        }
        if fpu.mxcsr() & !XsaveArea::MXCSR_BITS != 0 {
            return Err(Errno::EFAULT);
        }
        fpu.sanitize();
        self.task.regs.fpu = fpu;
        Ok(())
    }

    /// Whether the words of the kernel in the legacy area and behind the state are intact.
    fn frame_has_xstate(&mut self, addr: u64, legacy: &[u8]) -> Result<bool, Errno> {
        let word = |offset: usize| get(legacy, offset) & 0xffff_ffff;
        let magic1 = word(SOFTWARE_OFFSET);
        let extended_bytes = word(SOFTWARE_OFFSET + 4);
        let xstate_bytes = word(SOFTWARE_OFFSET + 16);
        if magic1 != u64::from(MAGIC1)
            || xstate_bytes < 576
            || xstate_bytes > XSAVE_BYTES as u64
            || xstate_bytes > extended_bytes
        {
            return Ok(false);
        }
        let magic2 = self.read_user_u32(VirtAddr::new(addr.wrapping_add(xstate_bytes)))?;
        Ok(magic2 == MAGIC2)
    }

    fn restore_alt_stack(&mut self, context: &[u8]) {
        let stack = AltStack {
            base: get(context, 16),
            flags: u32::try_from(get(context, 24) & 0xffff_ffff).unwrap_or(0),
            bytes: get(context, 32),
        };
        // Linux ignores a stack that sigaltstack would refuse.
        let _ = self.set_alt_stack(stack);
    }
}

/// The floating-point state with the words that tell `rt_sigreturn` what is there.
pub(crate) fn xstate_bytes(fpu: &XsaveArea) -> [u8; XSTATE_BYTES] {
    let mut bytes = [0; XSTATE_BYTES];
    bytes[..XSAVE_BYTES].copy_from_slice(fpu.bytes());
    let software = &mut bytes[SOFTWARE_OFFSET..512];
    software.fill(0);
    software[..4].copy_from_slice(&MAGIC1.to_le_bytes());
    software[4..8].copy_from_slice(&(XSTATE_BYTES as u32).to_le_bytes());
    software[8..16].copy_from_slice(&XCR0.to_le_bytes());
    software[16..20].copy_from_slice(&(XSAVE_BYTES as u32).to_le_bytes());
    // Linux marks x87 and SSE as present, so that a handler may change them.
    bytes[512] |= 3;
    bytes[XSAVE_BYTES..].copy_from_slice(&MAGIC2.to_le_bytes());
    bytes
}

/// The flags of a task that was at `now` when its frame says `held` (`FIX_EFLAGS`).
pub(crate) const fn restored_flags(now: u64, held: u64) -> u64 {
    now & !FLAGS_RESTORED | held & FLAGS_RESTORED
}

/// What `xrstor` would load from `bytes`: parts that the header leaves out are initial.
fn load_xstate(fpu: &mut XsaveArea, bytes: &[u8; XSAVE_BYTES]) -> Result<(), Errno> {
    let present = get(bytes, 512);
    let is_loadable = present & !XCR0 == 0 && bytes[520..536].iter().all(|&byte| byte == 0);
    if !is_loadable {
        return Err(Errno::EFAULT);
    }
    let target = fpu.bytes_mut();
    if present & 1 != 0 {
        target[..24].copy_from_slice(&bytes[..24]);
        target[32..160].copy_from_slice(&bytes[32..160]);
    }
    // MXCSR is loaded whatever the header says (Intel SDM 1, 13.8.1).
    target[24..28].copy_from_slice(&bytes[24..28]);
    if present & 2 != 0 {
        target[160..416].copy_from_slice(&bytes[160..416]);
    }
    if present & 4 != 0 {
        target[576..].copy_from_slice(&bytes[576..]);
    }
    target[512] = 3 | (bytes[512] & 4);
    Ok(())
}

fn put(bytes: &mut [u8], offset: usize, value: u64) {
    bytes[offset..offset + 8].copy_from_slice(&value.to_le_bytes());
}

fn get(bytes: &[u8], offset: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[offset..offset + 8]);
    u64::from_le_bytes(word)
}

const _: () = assert!(FRAME_BYTES == 440, "the size that Linux has");
