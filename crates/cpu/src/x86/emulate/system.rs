//! Who the CPU is, and what time it is.

use super::{PROTECTION, Result};
use crate::{Registers, XCR0, cpuid};
use iced_x86::{Instruction, Mnemonic};
use machine::Machine;

/// Virtual nanoseconds that reading the time-stamp counter takes.
const RDTSC_NS: u64 = 10;

/// `cpuid`, `rdtsc`, `rdtscp`, `xgetbv`.
pub(super) fn identify(
    regs: &mut Registers,
    hw: &mut Machine,
    instruction: &Instruction,
) -> Result<()> {
    match instruction.mnemonic() {
        Mnemonic::Cpuid => {
            let [a, b, c, d] = cpuid(regs.gpr[0] as u32, regs.gpr[1] as u32);
            regs.gpr[0] = a.into();
            regs.gpr[3] = b.into();
            regs.gpr[1] = c.into();
            regs.gpr[2] = d.into();
        }
        Mnemonic::Xgetbv => {
            if regs.gpr[1] as u32 != 0 {
                return Err(PROTECTION);
            }
            set_pair(regs, XCR0);
        }
        name => {
            hw.advance_ns(RDTSC_NS);
            set_pair(regs, time_stamp(hw));
            if name == Mnemonic::Rdtscp {
                regs.gpr[1] = 0;
            }
        }
    }
    Ok(())
}

/// The time-stamp counter: [`crate::TSC_KHZ`] over virtual time.
fn time_stamp(hw: &Machine) -> u64 {
    let ticks = u128::from(hw.now_ns()) * u128::from(crate::TSC_KHZ) / 1_000_000;
    ticks as u64
}

fn set_pair(regs: &mut Registers, value: u64) {
    regs.gpr[0] = value & 0xffff_ffff;
    regs.gpr[2] = value >> 32;
}
