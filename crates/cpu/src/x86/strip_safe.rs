//! Which instructions may stand in a strip: those that cannot fault once their pages are there.

use super::block::Step;
use super::classify::{Class, is_high_byte};
use super::operand::{is_short_address, operand_bytes};
use iced_x86::{EncodingKind, Instruction, Mnemonic, OpKind};

/// Whether an operand that an iteration found aligned is so in the next.
pub(super) fn is_aligned_as_before(one: &Instruction, stride: i32) -> bool {
    use Mnemonic as M;
    let bytes = i32::from(operand_bytes(one));
    let is_free = match one.code().encoding() {
        EncodingKind::VEX => !matches!(
            one.mnemonic(),
            M::Vmovaps
                | M::Vmovapd
                | M::Vmovdqa
                | M::Vmovntps
                | M::Vmovntpd
                | M::Vmovntdq
                | M::Vmovntdqa
        ),
        _ => matches!(one.mnemonic(), M::Movups | M::Movupd | M::Movdqu | M::Lddqu),
    };
    bytes < 16 || is_free || stride % bytes == 0
}

/// Whether an instruction names a vector register.
pub(super) fn names_vector(one: &Instruction) -> bool {
    (0..one.op_count()).any(|operand| {
        one.op_kind(operand) == OpKind::Register && one.op_register(operand).is_vector_register()
    })
}

/// Whether an instruction computes on the x87 stack, loads or stores: it raises nothing but for its
/// page while all exceptions are masked and none is pending.
pub(super) fn is_x87(one: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(
        one.mnemonic(),
        M::Fld
            | M::Fst
            | M::Fstp
            | M::Fild
            | M::Fist
            | M::Fistp
            | M::Fadd
            | M::Faddp
            | M::Fsub
            | M::Fsubp
            | M::Fsubr
            | M::Fsubrp
            | M::Fmul
            | M::Fmulp
            | M::Fdiv
            | M::Fdivp
            | M::Fdivr
            | M::Fdivrp
            | M::Fxch
            | M::Fchs
            | M::Fabs
            | M::Fldz
            | M::Fld1
    )
}

/// Whether a step can stand in a strip: it cannot fault once its page is there.
pub(super) fn is_safe(step: &Step) -> bool {
    let one = &step.instruction;
    let are_known = (0..one.op_count()).all(|operand| {
        one.op_kind(operand) != OpKind::Register || {
            let register = one.op_register(operand);
            register.is_gpr() || register.is_vector_register() || register.is_st()
        }
    });
    let names_high = (0..one.op_count()).any(|operand| {
        one.op_kind(operand) == OpKind::Register && is_high_byte(one.op_register(operand))
    });
    if step.parks_behind || one.has_lock_prefix() || !are_known {
        return false;
    }
    let is_general = never_faults(one.mnemonic());
    match step.class {
        Class::Nop => true,
        Class::Lea => one.op0_register().size() >= 4 && !is_short_address(one),
        Class::Plain => is_general || names_vector(one) || is_x87(one),
        Class::Memory(_) => (is_general || names_vector(one) || is_x87(one)) && !names_high,
        _ => false,
    }
}

/// Whether instructions on general registers of this name cannot fault but for their page.
fn never_faults(name: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        name,
        M::Mov
            | M::Movzx
            | M::Movsx
            | M::Movsxd
            | M::Movbe
            | M::Bswap
            | M::Add
            | M::Adc
            | M::Sub
            | M::Sbb
            | M::And
            | M::Or
            | M::Xor
            | M::Andn
            | M::Not
            | M::Neg
            | M::Inc
            | M::Dec
            | M::Cmp
            | M::Test
            | M::Shl
            | M::Shr
            | M::Sar
            | M::Rol
            | M::Ror
            | M::Shld
            | M::Shrd
            | M::Shlx
            | M::Shrx
            | M::Sarx
            | M::Rorx
            | M::Imul
            | M::Mul
            | M::Cdq
            | M::Cdqe
            | M::Cqo
            | M::Cwde
            | M::Popcnt
            | M::Lzcnt
            | M::Tzcnt
            | M::Bsf
            | M::Bsr
            | M::Blsi
            | M::Blsmsk
            | M::Blsr
    ) || is_conditional(name)
}

/// Conditional moves and bytes of conditions.
fn is_conditional(name: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        name,
        M::Cmova
            | M::Cmovae
            | M::Cmovb
            | M::Cmovbe
            | M::Cmove
            | M::Cmovne
            | M::Cmovg
            | M::Cmovge
            | M::Cmovl
            | M::Cmovle
            | M::Cmovs
            | M::Cmovns
            | M::Seta
            | M::Setae
            | M::Setb
            | M::Setbe
            | M::Sete
            | M::Setne
            | M::Setg
            | M::Setge
            | M::Setl
            | M::Setle
            | M::Sets
            | M::Setns
    )
}

/// Registers that an instruction of [`never_faults`], or one on vectors, reads without naming them.
pub(super) fn implicit_reads(one: &Instruction) -> u16 {
    use super::emit::{RAX, RDX};
    use Mnemonic as M;
    match one.mnemonic() {
        M::Mul | M::Imul | M::Cdq | M::Cdqe | M::Cqo | M::Cwde => 1 << RAX,
        M::Pcmpestri | M::Pcmpestrm | M::Vpcmpestri | M::Vpcmpestrm => 1 << RAX | 1 << RDX,
        _ => 0,
    }
}
