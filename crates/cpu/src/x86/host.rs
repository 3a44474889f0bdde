//! Questions to the host, and the base of GS.
#![allow(unsafe_code, reason = "system calls of the host")]

use super::{EngineError, enter};

const ARCH_SET_GS: libc::c_ulong = 0x1001;
const HWCAP2_FSGSBASE: libc::c_ulong = 2;

/// Whether the base of GS can be written by an instruction.
pub(super) fn has_fsgsbase() -> bool {
    // SAFETY: 1. `getauxval` has no preconditions.
    let bits = unsafe { libc::getauxval(libc::AT_HWCAP2) };
    bits & HWCAP2_FSGSBASE != 0
}

/// Lets GS point to `base` on this thread.
///
/// # Panics
/// If the kernel refuses, which it does for non-canonical addresses only.
pub(super) fn set_gs_base(base: u64, is_fast: bool) {
    if is_fast {
        enter::write_gs_base(base);
        return;
    }
    // SAFETY: 1. Neither Rust nor the C library uses GS. 2. The address is an argument by value.
    let result = unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_SET_GS, base) };
    assert!(result == 0, "the kernel accepts a canonical base of GS");
}

/// Looks for the features that the virtual CPU promises and that emitted code needs.
///
/// # Errors
/// [`EngineError::MissingFeature`] with the first that is missing.
pub(super) fn check_features() -> Result<(), EngineError> {
    macro_rules! need {
        ($($name:tt)*) => {
            $(if !std::arch::is_x86_feature_detected!($name) {
                return Err(EngineError::MissingFeature($name));
            })*
        };
    }
    need!("sse3" "ssse3" "sse4.1" "sse4.2" "popcnt" "aes" "pclmulqdq" "avx" "avx2" "fma" "f16c");
    need!("bmi1" "bmi2" "lzcnt" "movbe" "sha" "xsave" "cmpxchg16b" "fxsr");
    Ok(())
}
