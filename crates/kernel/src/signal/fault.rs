//! What the hardware refuses becomes a signal here, with the codes and numbers of Linux.
//!
//! # Source
//! Linux 6.12 `arch/x86/mm/fault.c`, `arch/x86/kernel/traps.c`; semantics FLT-1, K64-4, measured.

use cpu::{Exception, Registers};
use machine::{Access, Geometry, PageFault, VirtAddr};
use mm::FaultError;

use super::number::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGTRAP};
use super::{FLAG_TF, SI_KERNEL, SigDetail, SigInfo};
use crate::Kernel;
use crate::errno::Errno;
use crate::syscall;

const SEGV_MAPERR: i32 = 1;
const SEGV_ACCERR: i32 = 2;
const BUS_ADRALN: i32 = 1;
const BUS_ADRERR: i32 = 2;
const ILL_ILLOPN: i32 = 2;
const TRAP_BRKPT: i32 = 1;
const TRAP_TRACE: i32 = 2;
const FPE_INTDIV: i32 = 1;

const VECTOR_PAGE_FAULT: u64 = 14;

/// The page of the three oldest fast calls.
pub(crate) const VSYSCALL_PAGE: u64 = 0xffff_ffff_ff60_0000;
/// Its entries, 1,024 bytes apart: gettimeofday, time, getcpu.
const VSYSCALL_NUMBERS: [u64; 3] = [96, 201, 309];

impl Kernel {
    /// The fault as the kernel hears of it: page tables of two levels have no NX, and then the
    /// error code has no bit for fetches (Intel SDM 3A, 4.7).
    fn without_fetches(&self, fault: PageFault) -> PageFault {
        let is_plain = self.hw.geometry() == Geometry::I386 && fault.access == Access::Fetch;
        if is_plain { PageFault { access: Access::Read, ..fault } } else { fault }
    }

    /// Resolves a page fault of the task, or sends the signal for it.
    pub(crate) fn page_fault(&mut self, fault: PageFault) {
        let fault = self.without_fetches(fault);
        let addr = fault.addr.as_u64();
        if addr >= self.kind.user_end() {
            if addr & !0xfff == VSYSCALL_PAGE && self.emulate_vsyscall(fault) {
                return;
            }
            // Linux always reports a protection fault there, so as not to tell what is mapped.
            self.send_page_fault(SIGSEGV, SEGV_MAPERR, addr, fault.error_code() | 1);
            return;
        }
        let result = mm::handle_fault(&mut self.mm, &mut self.memory, &mut self.hw, fault);
        let code = fault.error_code();
        match result {
            Ok(_) => self.limit_dirty(),
            Err(FaultError::NoVma { addr }) => {
                self.send_page_fault(SIGSEGV, SEGV_MAPERR, addr.as_u64(), code);
            }
            Err(FaultError::Denied { addr }) => {
                self.send_page_fault(SIGSEGV, SEGV_ACCERR, addr.as_u64(), code);
            }
            Err(FaultError::BusError { addr }) => {
                self.send_page_fault(SIGBUS, BUS_ADRERR, addr.as_u64(), code);
            }
            // The instruction is tried again, or the task ends before it is.
            Err(FaultError::OutOfMemory { .. }) => drop(self.relieve_memory()),
        }
    }

    fn send_page_fault(&mut self, signal: u8, code: i32, addr: u64, error_code: u64) {
        let trap = &mut self.task.signals.trap;
        trap.number = VECTOR_PAGE_FAULT;
        trap.error_code = error_code;
        trap.cr2 = addr;
        self.force_signal(SigInfo { signal, code, detail: SigDetail::Address(addr) });
    }

    /// Sends the signal for an exception other than a page fault.
    pub(crate) fn exception(&mut self, exception: Exception) {
        let rip = self.task.regs.rip;
        let at_rip = SigDetail::Address(rip);
        let (vector, signal, code, detail) = match exception {
            Exception::DivideError => (0, SIGFPE, FPE_INTDIV, at_rip),
            Exception::Debug => {
                let is_step = self.task.regs.rflags & FLAG_TF != 0;
                (1, SIGTRAP, if is_step { TRAP_TRACE } else { TRAP_BRKPT }, at_rip)
            }
            Exception::Breakpoint => (3, SIGTRAP, SI_KERNEL, SigDetail::None),
            Exception::Overflow => (4, SIGSEGV, SI_KERNEL, SigDetail::None),
            Exception::Bound => (5, SIGSEGV, SI_KERNEL, SigDetail::None),
            Exception::InvalidOpcode => (6, SIGILL, ILL_ILLOPN, at_rip),
            Exception::NotPresent => (11, SIGBUS, SI_KERNEL, SigDetail::None),
            Exception::StackFault => (12, SIGBUS, SI_KERNEL, SigDetail::None),
            Exception::GeneralProtection => (13, SIGSEGV, SI_KERNEL, SigDetail::None),
            Exception::FloatingPoint => (16, SIGFPE, self.x87_code(), at_rip),
            Exception::AlignmentCheck => (17, SIGBUS, BUS_ADRALN, SigDetail::None),
            Exception::SimdFloatingPoint => (19, SIGFPE, self.simd_code(), at_rip),
        };
        self.task.signals.trap.number = vector;
        self.task.signals.trap.error_code = u64::from(self.task.regs.error_code);
        self.force_signal(SigInfo { signal, code, detail });
    }

    fn x87_code(&self) -> i32 {
        let fpu = &self.task.regs.fpu;
        float_code(u32::from(fpu.fsw() & !fpu.fcw()))
    }

    fn simd_code(&self) -> i32 {
        let mxcsr = self.task.regs.fpu.mxcsr();
        float_code(!(mxcsr >> 7) & mxcsr)
    }

    /// Does the call behind a fetch from the vsyscall page; false if the fault stands.
    fn emulate_vsyscall(&mut self, fault: PageFault) -> bool {
        let addr = fault.addr.as_u64();
        if fault.access != Access::Fetch || addr != self.task.regs.rip {
            return false;
        }
        if self.call_vsyscall(addr & 0xfff).is_none() {
            self.force_segv();
        }
        true
    }

    /// Calls the entry at `offset` and returns to the caller; `None` if there is no such entry, or
    /// the stack or a pointer is bad.
    fn call_vsyscall(&mut self, offset: u64) -> Option<()> {
        let entry = usize::try_from(offset >> 10).ok().filter(|_| offset & 0x3ff == 0)?;
        let handler = syscall::handler(*VSYSCALL_NUMBERS.get(entry)?)?;
        let sp = self.task.regs.gpr[Registers::RSP];
        let caller = self.read_user_u64(VirtAddr::new(sp)).ok()?;
        let mut args = [0; 6];
        args[0] = self.task.regs.gpr[Registers::RDI];
        args[1] = self.task.regs.gpr[Registers::RSI];
        let result = handler(self, args);
        if result == Err(Errno::EFAULT) {
            return None;
        }
        let regs = &mut self.task.regs;
        regs.gpr[Registers::RAX] = result.unwrap_or_else(Errno::as_register);
        regs.rip = caller;
        regs.gpr[Registers::RSP] = sp.wrapping_add(8);
        Some(())
    }
}

/// `si_code` for unmasked floating-point flags, the gravest first.
const fn float_code(flags: u32) -> i32 {
    match flags {
        flags if flags & 0x01 != 0 => 7,
        flags if flags & 0x04 != 0 => 3,
        flags if flags & 0x08 != 0 => 4,
        flags if flags & 0x12 != 0 => 5,
        flags if flags & 0x20 != 0 => 6,
        _ => 0,
    }
}
