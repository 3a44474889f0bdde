//! The instruction-set extensions of the virtual CPU.

use iced_x86::CpuidFeature;

/// Whether the virtual CPU has `feature`. What it has not is #UD and absent from `cpuid`.
pub(super) fn is_exposed(feature: CpuidFeature) -> bool {
    use CpuidFeature as F;
    matches!(
        feature,
        F::INTEL8086
            | F::INTEL8086_ONLY
            | F::INTEL186
            | F::INTEL286
            | F::INTEL286_ONLY
            | F::INTEL386
            | F::INTEL486
            | F::X64
            | F::AES
            | F::AVX
            | F::AVX2
            | F::BMI1
            | F::BMI2
            | F::CLFSH
            | F::CMOV
            | F::CMPXCHG16B
            | F::CPUID
            | F::CX8
            | F::F16C
            | F::FMA
            | F::FPU
            | F::FPU287
            | F::FPU387
            | F::FXSR
            | F::LZCNT
            | F::MMX
            | F::MOVBE
            | F::MULTIBYTENOP
            | F::PAUSE
            | F::PCLMULQDQ
            | F::POPCNT
            | F::PREFETCHW
            | F::RDTSCP
            | F::SHA
            | F::SSE
            | F::SSE2
            | F::SSE3
            | F::SSE4_1
            | F::SSE4_2
            | F::SSSE3
            | F::SYSCALL
            | F::TSC
            | F::XSAVE
            | F::XSAVEC
            | F::XSAVEOPT
    )
}
