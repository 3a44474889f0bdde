//! Which instructions are compared with the host, and which cannot be.

use iced_x86::{Code, CpuidFeature, EncodingKind, Mnemonic, OpCodeOperandKind};

/// Extensions of the virtual CPU: x86-64-v3 and AES, PCLMUL, SHA, CX16, XSAVE.
const FEATURES: [CpuidFeature; 45] = {
    use CpuidFeature as F;
    [
        F::INTEL8086,
        F::INTEL186,
        F::INTEL286,
        F::INTEL386,
        F::INTEL486,
        F::X64,
        F::AES,
        F::AVX,
        F::AVX2,
        F::BMI1,
        F::BMI2,
        F::CLFSH,
        F::CMOV,
        F::CMPXCHG16B,
        F::CPUID,
        F::CX8,
        F::F16C,
        F::FMA,
        F::FPU,
        F::FPU287,
        F::FPU387,
        F::FXSR,
        F::LZCNT,
        F::MMX,
        F::MOVBE,
        F::MULTIBYTENOP,
        F::PAUSE,
        F::PCLMULQDQ,
        F::POPCNT,
        F::PREFETCHW,
        F::RDTSCP,
        F::SHA,
        F::SSE,
        F::SSE2,
        F::SSE3,
        F::SSE4_1,
        F::SSE4_2,
        F::SSSE3,
        F::SYSCALL,
        F::TSC,
        F::XSAVE,
        F::XSAVEC,
        F::XSAVEOPT,
        F::INTEL8086_ONLY,
        F::INTEL286_ONLY,
    ]
};

/// Whether the virtual CPU has all that `code` needs.
pub fn is_exposed(code: Code) -> bool {
    matches!(code.op_code().encoding(), EncodingKind::Legacy | EncodingKind::VEX)
        && code.cpuid_features().iter().all(|feature| FEATURES.contains(feature))
}

/// Whether the result is the machine's own (a clock, an identity, a kernel address), or Linux
/// rather than the CPU decides it.
fn is_private(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Cpuid
            | M::Rdtsc
            | M::Rdtscp
            | M::Rdpmc
            | M::Xgetbv
            | M::Ud0
            | M::Ud1
            | M::Reservednop
            | M::Xsaveopt
            | M::Xsaveopt64
            | M::Sgdt
            | M::Sidt
            | M::Sldt
            | M::Str
            | M::Smsw
            | M::Lar
            | M::Lsl
            | M::Verr
            | M::Verw
    )
}

/// Control leaves to another mode or by way of descriptors; see `exceptions.rs`.
fn is_far(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Syscall
            | M::Sysenter
            | M::Sysexit
            | M::Sysexitq
            | M::Sysret
            | M::Sysretq
            | M::Int
            | M::Int1
            | M::Int3
            | M::Iret
            | M::Iretd
            | M::Iretq
            | M::Retf
            | M::Lss
            | M::Lfs
            | M::Lgs
    )
}

/// Whether some operand is of a kind that user programs on this CPU never have.
fn has_foreign_operand(code: Code) -> bool {
    use OpCodeOperandKind as K;
    code.op_code().op_kinds().iter().any(|kind| {
        matches!(
            kind,
            K::cr_reg
                | K::dr_reg
                | K::tr_reg
                | K::bnd_reg
                | K::seg_reg
                | K::farbr2_2
                | K::farbr4_2
                | K::sibmem
        )
    })
}

/// `movsxd` to 16 bits: AMD's CPUs read 32 bits, Intel's 16.
const DISPUTED: Code = Code::Movsxd_r16_rm16;

/// Branches with a 16-bit operand size, on which the makers of CPUs disagree, and far ones; segment
/// registers, whose content would stay for the next case.
fn is_short_branch(code: Code) -> bool {
    use OpCodeOperandKind as K;
    let kinds = code.op_code().op_kinds();
    kinds.iter().any(|kind| matches!(kind, K::br16_1 | K::br16_2 | K::br32_1 | K::br32_4))
        || matches!(
            code,
            Code::Jmp_rm16 | Code::Call_rm16 | Code::Retnw | Code::Retnw_imm16 | Code::Jmpe_disp16
        )
        || matches!(code, Code::Call_m1616 | Code::Call_m1632 | Code::Call_m1664)
        || matches!(code, Code::Popw_FS | Code::Popq_FS | Code::Popw_GS | Code::Popq_GS)
        || matches!(code, Code::Jmp_m1616 | Code::Jmp_m1632 | Code::Jmp_m1664)
}

/// Whether the host and the guest must agree on `code` in every state.
pub fn is_comparable(code: Code) -> bool {
    let op_code = code.op_code();
    op_code.is_instruction()
        && op_code.mode64()
        && is_exposed(code)
        && code != DISPUTED
        && !is_private(code.mnemonic())
        && !is_far(code.mnemonic())
        && !has_foreign_operand(code)
        && !is_short_branch(code)
        && !op_code.is_privileged()
}

/// Likewise in 32-bit code.
pub fn is_comparable_compat(code: Code) -> bool {
    use OpCodeOperandKind as K;
    let op_code = code.op_code();
    let is_odd_branch = op_code.op_kinds().iter().any(|kind| matches!(kind, K::br16_1 | K::br16_2))
        || matches!(code, Code::Jmp_rm16 | Code::Call_rm16 | Code::Retnw | Code::Retnw_imm16)
        || matches!(code, Code::Jmpe_disp16 | Code::Jmpe_disp32)
        || matches!(code, Code::Call_m1616 | Code::Call_m1632)
        || matches!(code, Code::Jmp_m1616 | Code::Jmp_m1632);
    // Segment registers would keep what they get for the next case.
    let loads_segment = matches!(code.mnemonic(), Mnemonic::Les | Mnemonic::Lds)
        || code.mnemonic() == Mnemonic::Pop
            && op_code
                .op_kinds()
                .iter()
                .any(|kind| matches!(kind, K::es | K::cs | K::ss | K::ds | K::fs | K::gs));
    op_code.is_instruction()
        && op_code.mode32()
        && is_exposed(code)
        && !matches!(code, Code::Cmpxchg486_rm8_r8 | Code::Storeall | Code::Loadall286)
        && !is_private(code.mnemonic())
        && !is_far(code.mnemonic())
        && !has_foreign_operand(code)
        && !is_odd_branch
        && !loads_segment
        && !op_code.is_privileged()
}

/// Every instruction of 32-bit code that is compared with the host.
pub fn comparable_compat() -> Vec<Code> {
    Code::values().filter(|code| is_comparable_compat(*code)).collect()
}

/// What compilers emit in 32-bit code: [`COMMON`] as far as it is valid, and what is special.
pub fn common_compat() -> Vec<Code> {
    let special = [
        Code::Inc_r32,
        Code::Dec_r32,
        Code::Push_r32,
        Code::Push_r32,
        Code::Pop_r32,
        Code::Push_rm32,
        Code::Pop_rm32,
        Code::Pushd_imm8,
        Code::Leaved,
        Code::Call_rel32_32,
        Code::Call_rm32,
        Code::Jne_rel8_32,
        Code::Jb_rel32_32,
        Code::Mov_EAX_moffs32,
        Code::Mov_moffs32_EAX,
        Code::Pushad,
        Code::Lea_r32_m,
        Code::Add_rm32_imm8,
        Code::Sub_rm32_imm8,
        Code::Mov_r8_rm8,
    ];
    let shared = COMMON.into_iter().filter(|code| is_comparable_compat(*code));
    shared.chain(special).collect()
}

/// Every instruction that is compared with the host, in iced's order.
pub fn comparable() -> Vec<Code> {
    Code::values().filter(|code| is_comparable(*code)).collect()
}

/// Instructions that compilers emit all the time: what sequences are mostly made of.
pub const COMMON: [Code; 64] = [
    Code::Mov_r64_rm64,
    Code::Mov_rm64_r64,
    Code::Mov_r32_rm32,
    Code::Mov_rm32_r32,
    Code::Mov_rm8_r8,
    Code::Mov_r8_rm8,
    Code::Mov_rm16_r16,
    Code::Mov_rm64_imm32,
    Code::Mov_r32_imm32,
    Code::Lea_r64_m,
    Code::Lea_r32_m,
    Code::Add_rm64_r64,
    Code::Add_r64_rm64,
    Code::Add_rm64_imm8,
    Code::Add_rm32_imm32,
    Code::Sub_rm64_imm8,
    Code::Sub_r32_rm32,
    Code::Adc_r64_rm64,
    Code::Sbb_rm32_r32,
    Code::And_rm32_imm8,
    Code::Or_rm8_imm8,
    Code::Xor_r32_rm32,
    Code::Cmp_r64_rm64,
    Code::Cmp_rm32_imm8,
    Code::Cmp_rm8_imm8,
    Code::Test_rm64_r64,
    Code::Test_rm8_imm8,
    Code::Inc_rm32,
    Code::Dec_rm64,
    Code::Neg_rm64,
    Code::Not_rm32,
    Code::Push_r64,
    Code::Pop_r64,
    Code::Push_rm64,
    Code::Pushq_imm8,
    Code::Movzx_r32_rm8,
    Code::Movzx_r32_rm16,
    Code::Movsx_r64_rm8,
    Code::Movsxd_r64_rm32,
    Code::Cmove_r64_rm64,
    Code::Cmovb_r32_rm32,
    Code::Cmovg_r64_rm64,
    Code::Sete_rm8,
    Code::Setl_rm8,
    Code::Setbe_rm8,
    Code::Shl_rm64_imm8,
    Code::Shr_rm32_CL,
    Code::Sar_rm64_1,
    Code::Imul_r64_rm64,
    Code::Xchg_rm64_r64,
    Code::Jne_rel8_64,
    Code::Jb_rel32_64,
    Code::Jle_rel8_64,
    Code::Jmp_rel8_64,
    Code::Movaps_xmm_xmmm128,
    Code::Movups_xmmm128_xmm,
    Code::Movdqu_xmm_xmmm128,
    Code::Movq_xmm_xmmm64,
    Code::Movsd_xmm_xmmm64,
    Code::Addsd_xmm_xmmm64,
    Code::Pxor_xmm_xmmm128,
    Code::VEX_Vmovdqu_ymm_ymmm256,
    Code::VEX_Vpxor_ymm_ymm_ymmm256,
    Code::Cdqe,
];
