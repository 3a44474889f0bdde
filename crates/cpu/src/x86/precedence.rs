//! Which of two exceptions an instruction raises when it could raise both.
//!
//! The slow path meets a page fault before the host has seen the instruction. On hardware a pending
//! x87 exception and a misaligned operand come first.
//!
//! # Source
//! Intel SDM 3A, table 6-2 "Priority among concurrent events"; compared with the host.

use super::access::Trap;
use super::engine::Core;
use crate::{Exception, Exit, Registers};
use iced_x86::{CpuidFeature, EncodingKind, Instruction, Mnemonic, OpKind};
use machine::{Access, Machine};

/// FSW.ES: an unmasked exception is pending.
pub(super) const ERROR_SUMMARY: u16 = 0x80;
/// No instruction demands that a shorter operand is aligned.
const ALIGNED_BYTES_MIN: u64 = 16;

impl Core {
    /// What the instruction at `rip` raises, given that its operand at `address` raises `exit`.
    pub(super) fn first_exit(
        &self,
        regs: &Registers,
        hw: &mut Machine,
        rip: u64,
        exit: Exit,
    ) -> Exit {
        if matches!(exit, Exit::Fault(fault) if fault.access == Access::Fetch) {
            return exit;
        }
        let has_x87_error = regs.fpu.fsw() & ERROR_SUMMARY != 0;
        let Trap { address, bytes, .. } = self.trap;
        if !has_x87_error && (bytes < ALIGNED_BYTES_MIN || address.is_multiple_of(bytes)) {
            return exit;
        }
        let Ok(instruction) = self.decode_at(rip, hw) else { return exit };
        if has_x87_error && waits_for_x87(&instruction) {
            return Exit::Exception(Exception::FloatingPoint);
        }
        if !address.is_multiple_of(aligned_bytes(&instruction)) {
            return Exit::Exception(Exception::GeneralProtection);
        }
        exit
    }
}

/// Whether a pending x87 exception stops `instruction`.
pub(super) fn waits_for_x87(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    let is_silent = matches!(
        instruction.mnemonic(),
        M::Fnstcw | M::Fnstsw | M::Fnstenv | M::Fnsave | M::Fninit | M::Fnclex
    );
    names_mmx(instruction) || is_x87(instruction) && !is_silent
}

fn names_mmx(instruction: &Instruction) -> bool {
    (0..instruction.op_count())
        .any(|i| instruction.op_kind(i) == OpKind::Register && instruction.op_register(i).is_mm())
}

fn is_x87(instruction: &Instruction) -> bool {
    use CpuidFeature as F;
    instruction.cpuid_features().iter().any(|feature| {
        matches!(feature, F::FPU | F::FPU287 | F::FPU387 | F::FPU287XL_ONLY | F::FPU387SL_ONLY)
    })
}

/// Whether `instruction` may read or change the state of the x87, of which MMX is a part.
pub(super) fn touches_x87(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    names_mmx(instruction)
        || is_x87(instruction)
        || matches!(instruction.mnemonic(), M::Emms | M::Fisttp | M::Cvtpi2ps | M::Cvtpi2pd)
}

/// The alignment that `instruction` demands of its operand, in bytes.
pub(super) fn aligned_bytes(instruction: &Instruction) -> u64 {
    use Mnemonic as M;
    let bytes = instruction.memory_size().size() as u64;
    match instruction.mnemonic() {
        M::Vmovaps
        | M::Vmovapd
        | M::Vmovdqa
        | M::Vmovntps
        | M::Vmovntpd
        | M::Vmovntdq
        | M::Vmovntdqa => bytes,
        M::Movups
        | M::Movupd
        | M::Movdqu
        | M::Lddqu
        | M::Pcmpestri
        | M::Pcmpestri64
        | M::Pcmpestrm
        | M::Pcmpestrm64
        | M::Pcmpistri
        | M::Pcmpistrm => 1,
        // The makers of CPUs disagree on these.
        M::Sha1nexte
        | M::Sha1msg1
        | M::Sha1msg2
        | M::Sha1rnds4
        | M::Sha256msg1
        | M::Sha256msg2
        | M::Sha256rnds2 => 1,
        _ if instruction.code().encoding() == EncodingKind::Legacy && bytes == 16 => 16,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Code, OpCodeOperandKind as K, Register};

    #[test]
    fn whatever_may_have_an_mmx_operand_touches_the_x87_also_with_one_in_memory() {
        let mut count = 0;
        for code in Code::values() {
            let kinds = code.op_code().op_kinds();
            let has_mmx =
                kinds.iter().any(|kind| matches!(kind, K::mm_reg | K::mm_rm | K::mm_or_mem));
            let is_mmx = code.cpuid_features().contains(&CpuidFeature::MMX);
            let mut instruction = Instruction::default();
            instruction.set_code(code);
            for (operand, kind) in (0..).zip(kinds) {
                match kind {
                    K::mm_reg | K::mm_rm => instruction.set_op_register(operand, Register::MM0),
                    _ => instruction.set_op_kind(operand, OpKind::Memory),
                }
            }
            let is_x87 = is_x87(&instruction) || instruction.mnemonic() == Mnemonic::Fisttp;
            count += u32::from(has_mmx);
            assert_eq!(touches_x87(&instruction), has_mmx || is_mmx || is_x87, "{code:?}");
        }
        assert!(count > 100, "only {count} codes");
    }
}
