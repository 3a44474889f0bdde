//! The virtual CPU that the guest sees through `cpuid` and `xgetbv`.
//!
//! It is the same on every host: an x86-64-v3 processor without the features that the engine hides
//! (AVX-512, AMX, TSX, CET, protection keys, ERMS and FSRM, RDRAND, RDSEED, FSGSBASE).
//!
//! # Source
//! Intel SDM 2A, CPUID; what it must agree with is in `x86/features.rs`.

/// CPUID.1:ECX as the guest sees it.
pub const CPUID_FEATURES_ECX: u32 = 1 // SSE3
    | 1 << 1 // PCLMULQDQ
    | 1 << 9 // SSSE3
    | 1 << 12 // FMA
    | 1 << 13 // CMPXCHG16B
    | 1 << 19 // SSE4.1
    | 1 << 20 // SSE4.2
    | 1 << 22 // MOVBE
    | 1 << 23 // POPCNT
    | 1 << 25 // AES
    | 1 << 26 // XSAVE
    | 1 << 27 // OSXSAVE
    | 1 << 28 // AVX
    | 1 << 29; // F16C

/// CPUID.1:EDX as the guest sees it: also AT_HWCAP.
pub const CPUID_FEATURES_EDX: u32 = 1 // FPU
    | 1 << 1 // VME
    | 1 << 2 // DE
    | 1 << 3 // PSE
    | 1 << 4 // TSC
    | 1 << 5 // MSR
    | 1 << 6 // PAE
    | 1 << 7 // MCE
    | 1 << 8 // CX8
    | 1 << 9 // APIC
    | 1 << 11 // SEP
    | 1 << 12 // MTRR
    | 1 << 13 // PGE
    | 1 << 14 // MCA
    | 1 << 15 // CMOV
    | 1 << 16 // PAT
    | 1 << 17 // PSE36
    | 1 << 19 // CLFSH
    | 1 << 23 // MMX
    | 1 << 24 // FXSR
    | 1 << 25 // SSE
    | 1 << 26; // SSE2

/// CPUID.7.0:EBX: BMI1, AVX2, SMEP, BMI2, SMAP, SHA.
const STRUCTURED_EBX: u32 = 1 << 3 | 1 << 5 | 1 << 7 | 1 << 8 | 1 << 20 | 1 << 29;
/// CPUID.7.0:ECX: UMIP.
const STRUCTURED_ECX: u32 = 1 << 2;
/// CPUID.80000001:ECX: LAHF in 64-bit mode, LZCNT, PREFETCHW.
const EXTENDED_ECX: u32 = 1 | 1 << 5 | 1 << 8;
/// CPUID.80000001:EDX: SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
const EXTENDED_EDX: u32 = 1 << 11 | 1 << 20 | 1 << 26 | 1 << 27 | 1 << 29;

/// The extended control register: x87, SSE and AVX state.
pub const XCR0: u64 = 7;
/// Rate of the virtual time-stamp counter.
pub const TSC_KHZ: u64 = 2_000_000;

/// Family 6, model 63, stepping 2.
const SIGNATURE: u32 = 0x0003_06f2;
const VENDOR: [u32; 3] = word3(*b"GenuineIntel");
/// Name of the virtual CPU, as in `/proc/cpuinfo`.
pub const CPU_NAME: &str = "Faultline Virtual CPU (x86-64-v3) @ 2.00GHz";

const BASIC_MAX: u32 = 0xd;
const EXTENDED_MAX: u32 = 0x8000_0008;

const fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const fn word3(name: [u8; 12]) -> [u32; 3] {
    [word(&name, 0), word(&name, 4), word(&name, 8)]
}

/// What `cpuid` returns for `leaf` and `subleaf`: eax, ebx, ecx, edx.
///
/// Leaves above the highest basic one answer zero, as leaves that are reserved do.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    match leaf {
        0 => [BASIC_MAX, VENDOR[0], VENDOR[2], VENDOR[1]],
        1 => [SIGNATURE, 0x0001_0800, CPUID_FEATURES_ECX, CPUID_FEATURES_EDX],
        2 => [0x00fe_ff01, 0, 0, 0],
        4 => cache(subleaf),
        7 if subleaf == 0 => [0, STRUCTURED_EBX, STRUCTURED_ECX, 0],
        0xb => topology(subleaf),
        0xd => state(subleaf),
        0x8000_0000 => [EXTENDED_MAX, 0, 0, 0],
        0x8000_0001 => [0, 0, EXTENDED_ECX, EXTENDED_EDX],
        0x8000_0002..=0x8000_0004 => name((leaf - 0x8000_0002) as usize),
        0x8000_0006 => [0, 0, 0x0200_6040, 0],
        0x8000_0007 => [0, 0, 0, 1 << 8],
        0x8000_0008 => [0x3030, 0, 0, 0],
        _ => [0; 4],
    }
}

/// Deterministic cache parameters: 48 KiB L1D, 32 KiB L1I, 2 MiB L2, 32 MiB L3.
fn cache(subleaf: u32) -> [u32; 4] {
    let entry = |kind: u32, level: u32, ways: u32, sets: u32| {
        [kind | level << 5 | 1 << 8, 63 | (ways - 1) << 22, sets - 1, 0]
    };
    match subleaf {
        0 => entry(1, 1, 12, 64),
        1 => entry(2, 1, 8, 64),
        2 => entry(3, 2, 16, 2048),
        3 => entry(3, 3, 16, 32768),
        _ => [0; 4],
    }
}

/// One thread, one core.
fn topology(subleaf: u32) -> [u32; 4] {
    match subleaf {
        0 => [0, 1, 1 << 8, 0],
        1 => [0, 1, 2 << 8 | 1, 0],
        _ => [0, 0, subleaf & 0xff, 0],
    }
}

/// Sizes of the extended state: 512 legacy, 64 header, 256 for AVX; XSAVEOPT and XSAVEC.
fn state(subleaf: u32) -> [u32; 4] {
    let bytes = crate::XSAVE_BYTES as u32;
    match subleaf {
        0 => [XCR0 as u32, bytes, bytes, 0],
        1 => [3, 0, 0, 0],
        2 => [256, 576, 0, 0],
        _ => [0; 4],
    }
}

fn name(part: usize) -> [u32; 4] {
    let mut bytes = [0u8; 48];
    bytes[..CPU_NAME.len()].copy_from_slice(CPU_NAME.as_bytes());
    core::array::from_fn(|i| word(&bytes, part * 16 + i * 4))
}
