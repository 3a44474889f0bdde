//! Going into emitted code, and telling the CPU about new code and about the base of GS.
#![allow(unsafe_code, reason = "jumps into emitted code")]

use core::arch::asm;

/// Runs emitted code from `target` until it leaves.
///
/// The caller has set the base of GS, the homes of the registers, the pointer to the `xsave` area
/// (64-byte aligned, sanitized), what of it is to be moved (`words::WHOLE` and `words::WIDE`) and
/// the context of the slow path.
pub(super) fn enter(stub: u64, target: u64) {
    // SAFETY: 1. `stub` is the `enter` stub of a live code cache; it follows the C calling
    // convention (keeps rbx rbp r12-r15 rsp and MXCSR, leaves DF clear). 2. The types have the same
    // size.
    let stub = unsafe { core::mem::transmute::<u64, extern "C" fn(u64)>(stub) };
    stub(target);
}

/// Executes a serialising instruction: code written through another address is seen afterwards.
///
/// # Source
/// Intel SDM 3A, 9.1.3 and 9.3; `iret` is the only serialising instruction of user mode that a
/// hypervisor does not intercept.
pub(super) fn serialize() {
    // SAFETY: 1. The frame is that of the 64-bit `iretq`: ss rsp rflags cs rip, with the current
    // selectors and flags, so execution goes on at label 2 with the same rsp. 2. It is pushed below
    // the stack pointer, which the block does not promise to leave alone (no `nostack`).
    unsafe {
        asm!(
            "mov {top}, rsp",
            "sub rsp, 128",
            "and rsp, -16",
            "mov {selector:e}, ss",
            "push {selector}",
            "push {top}",
            "pushfq",
            "mov {selector:e}, cs",
            "push {selector}",
            "lea {selector}, [rip + 2f]",
            "push {selector}",
            "iretq",
            "2:",
            top = out(reg) _,
            selector = out(reg) _,
        );
    }
}

/// Sets the base of GS of this thread without a system call. The host must have FSGSBASE enabled.
pub(super) fn write_gs_base(base: u64) {
    // SAFETY: 1. The caller has seen HWCAP2_FSGSBASE. 2. Neither Rust nor the C library uses GS.
    unsafe { asm!("wrgsbase {}", in(reg) base, options(nostack, preserves_flags)) };
}
