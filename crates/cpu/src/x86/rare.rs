//! Instructions that emitted code leaves to Rust.
//!
//! After a full exit [`execute`] does one instruction on the guest's registers: strings, gathers and
//! masked moves, bit strings, state saving, and the instructions whose answer is virtual. Each of
//! their accesses goes through [`Machine::access`], so the model sees them like any other.
//!
//! Invariants
//! 1. On `Ok` the instruction is done and `rip` is after it.
//! 2. On `Err` `rip` is at the instruction. Nothing was committed, except the elements of a `rep`
//!    string and the lanes of a gather that are architecturally done: registers say which.

mod bits;
mod guest;
mod state;
mod strings;
mod system;
mod vector;

use iced_x86::{Instruction, Mnemonic};
use machine::Machine;

use crate::{Exception, Exit, Registers};
use guest::Guest;

/// Executes the instruction at `rip`.
///
/// # Errors
/// The exit that the instruction causes; an instruction that is not one of this module's raises
/// [`Exception::InvalidOpcode`].
pub(super) fn execute(
    insn: &Instruction,
    regs: &mut Registers,
    hw: &mut Machine,
) -> Result<(), Exit> {
    let mut guest = Guest::new(insn, regs, hw);
    if insn.is_string_instruction() {
        strings::execute(&mut guest, insn)?;
    } else {
        by_mnemonic(&mut guest, insn)?;
    }
    regs.rip = insn.next_ip();
    Ok(())
}

/// Whether [`execute`] knows the instruction (strings excepted: it knows all of them).
pub(super) fn knows(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    vector::is_gather(mnemonic)
        || vector::is_masked_move(mnemonic)
        || state::is_state(mnemonic)
        || matches!(mnemonic, M::Bt | M::Bts | M::Btr | M::Btc | M::Xlatb | M::Enter | M::Cpuid)
        || matches!(mnemonic, M::Rdtsc | M::Rdtscp | M::Xgetbv | M::Std | M::Cld)
        || matches!(mnemonic, M::Pushf | M::Pushfq | M::Popf | M::Popfq)
}

fn by_mnemonic(guest: &mut Guest<'_>, insn: &Instruction) -> Result<(), Exit> {
    use Mnemonic as M;
    match insn.mnemonic() {
        M::Bt | M::Bts | M::Btr | M::Btc => bits::bit_string(guest, insn),
        M::Xlatb => system::xlat(guest, insn),
        M::Enter => system::enter(guest, insn),
        M::Cpuid => system::cpuid(guest),
        M::Rdtsc => system::rdtsc(guest),
        M::Rdtscp => system::rdtscp(guest),
        M::Xgetbv => system::xgetbv(guest),
        M::Std => system::set_direction(guest, system::Direction::Down),
        M::Cld => system::set_direction(guest, system::Direction::Up),
        M::Pushf | M::Pushfq => system::push_flags(guest, insn),
        M::Popf | M::Popfq => system::pop_flags(guest, insn),
        other if vector::is_gather(other) => vector::gather(guest, insn),
        other if vector::is_masked_move(other) => vector::masked_move(guest, insn),
        other if state::is_state(other) => state::execute(guest, insn),
        _ => Err(Exit::Exception(Exception::InvalidOpcode)),
    }
}
