//! Instructions that are done in Rust on the full register file.
//!
//! Each either does everything and moves `rip`, or changes nothing and says why. String
//! instructions work on fewer registers, out of emitted code (`strings.rs`).

use super::classify::is_state_image;
use super::engine::Core;
use super::operand::is_stack_operand;
use super::precedence::{ERROR_SUMMARY, waits_for_x87};
use crate::{Exception, Exit, Registers};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic};
use machine::{Access, Machine, PAGE_BYTES, Privilege, VirtAddr};

pub(super) mod bits;
pub(super) mod bus;
mod decimal;
mod flags;
mod segments;
mod stack;
mod state;
pub(super) mod strings;
mod system;
mod vector;

/// An instruction that cannot be done.
pub(super) type Result<T> = core::result::Result<T, Exit>;

pub(super) const INVALID: Exit = Exit::Exception(Exception::InvalidOpcode);
pub(super) const PROTECTION: Exit = Exit::Exception(Exception::GeneralProtection);

impl Core {
    /// Does the instruction at `regs.rip`, whose linear address is `linear`.
    pub(super) fn emulate(
        &mut self,
        regs: &mut Registers,
        hw: &mut Machine,
        linear: u64,
    ) -> Result<()> {
        let instruction = self.decode(linear, regs.rip, hw)?;
        let mut bus = bus::Bus {
            hw,
            canonical_bits: self.canonical_bits,
            is_stack: is_stack_operand(&instruction),
            linear_mask: self.pages.flavor.linear_mask(),
            may_wrap: self.pages.flavor.is_checked(&instruction),
        };
        let bus = &mut bus;
        if regs.fpu.fsw() & ERROR_SUMMARY != 0 && waits_for_x87(&instruction) {
            return Err(Exit::Exception(Exception::FloatingPoint));
        }
        use Mnemonic as M;
        match instruction.mnemonic() {
            M::Bt | M::Bts | M::Btr | M::Btc => bits::run(bus, regs, &instruction)?,
            M::Cpuid | M::Rdtsc | M::Rdtscp | M::Xgetbv => {
                system::identify(regs, bus.hw, &instruction)?;
            }
            M::Pushfq | M::Pushfd | M::Pushf => system::push_flags(bus, regs, &instruction)?,
            M::Popfq | M::Popfd | M::Popf => system::pop_flags(bus, regs, &instruction)?,
            M::Enter => stack::enter(bus, regs, &instruction)?,
            M::Leave => stack::leave(bus, regs, &instruction)?,
            M::Pusha | M::Pushad | M::Popa | M::Popad => stack::all(bus, regs, &instruction)?,
            M::Push | M::Pop if !segments::names_segment(&instruction) => {
                stack::move_one(bus, regs, &instruction)?;
            }
            M::Mov | M::Push | M::Pop => segments::transfer(bus, regs, &instruction)?,
            M::Lss | M::Lfs | M::Lgs | M::Les | M::Lds => {
                segments::load_pointer(bus, regs, &instruction)?;
            }
            M::Sgdt | M::Sidt | M::Sldt | M::Str | M::Smsw => {
                system::tables(bus, regs, &instruction)?;
            }
            M::Lar | M::Lsl | M::Verr | M::Verw => segments::verify(bus, regs, &instruction)?,
            M::Arpl => segments::adjust(bus, regs, &instruction)?,
            M::Daa | M::Das | M::Aaa | M::Aas | M::Aam | M::Aad | M::Salc => {
                decimal::run(regs, &instruction)?;
            }
            M::Bound | M::Into => decimal::check(bus, regs, &instruction)?,
            M::Iretq | M::Iretd | M::Iret | M::Retf => {
                return segments::far(bus, regs, &instruction);
            }
            M::Jmp | M::Call if segments::is_far(&instruction) => {
                return segments::far(bus, regs, &instruction);
            }
            M::Jmp | M::Call | M::Ret | M::Loop | M::Loope | M::Loopne | M::Jcxz | M::Jecxz => {
                return stack::branch(bus, regs, &instruction);
            }
            _ if instruction.is_jcc_short_or_near() => {
                return stack::branch(bus, regs, &instruction);
            }
            M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => {
                vector::masked_bytes(bus, regs, &instruction)?;
            }
            M::Vmaskmovps | M::Vmaskmovpd | M::Vpmaskmovd | M::Vpmaskmovq => {
                vector::masked_move(bus, regs, &instruction)?;
            }
            name if is_gather(name) => vector::gather(bus, regs, &instruction)?,
            name if is_state_image(name) => state::run(bus, regs, &instruction)?,
            _ => return Err(INVALID),
        }
        regs.rip = instruction.next_ip();
        Ok(())
    }

    /// Decodes the instruction at linear address `rip`, whose page is being executed; its relative
    /// operands count only in code whose segment has no base.
    pub(super) fn decode_at(&self, rip: u64, hw: &mut Machine) -> Result<Instruction> {
        self.decode(rip, rip, hw)
    }

    /// Decodes the instruction at linear address `rip`, which is at `offset_in_code` of its
    /// segment.
    fn decode(&self, rip: u64, offset_in_code: u64, hw: &mut Machine) -> Result<Instruction> {
        let page = self.pages.present(rip).ok_or(INVALID)?;
        let frame = self.pages.page(page).frame;
        let offset = rip % PAGE_BYTES;
        let bytes = (PAGE_BYTES - offset).min(15);
        let mut code = [0; 15];
        hw.load(frame.start().wrapping_add(offset), &mut code[..bytes as usize]);
        if bytes < 15 {
            let next = VirtAddr::new(self.next_page(rip));
            if let Ok(place) = hw.probe(next, Access::Fetch, Privilege::User) {
                hw.load(place, &mut code[bytes as usize..]);
            }
        }
        let bitness = self.pages.flavor.bitness();
        Ok(Decoder::with_ip(bitness, &code, offset_in_code, DecoderOptions::NONE).decode())
    }
}

fn is_gather(name: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        name,
        M::Vgatherdpd
            | M::Vgatherdps
            | M::Vgatherqpd
            | M::Vgatherqps
            | M::Vpgatherdd
            | M::Vpgatherdq
            | M::Vpgatherqd
            | M::Vpgatherqq
    )
}
