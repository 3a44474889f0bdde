//! The stack instructions. Their memory operand is implied, and rsp moves only after the access.

use super::classify::number;
use super::emit::{MASK, Mem, RBP, RSP, Reg, S0, S1};
use super::group::{pop_bytes, push_bytes};
use super::operand::want;
use super::probe::Want;
use super::translate::Emitter;
use super::words;
use iced_x86::{Instruction, OpKind};
use machine::Access;

const fn on_stack(access: Access, bytes: u16, base: Reg) -> Want {
    Want { access, bytes, is_stack: true, base: Some(base) }
}

impl Emitter {
    /// Bytes of a stack slot.
    fn slot_bytes(&self) -> u16 {
        if self.now.flavor.is_compat() { 4 } else { 8 }
    }

    /// Probes for a push of `bytes`. The place is then at `[r14+r13]`.
    fn probe_push(&mut self, bytes: u16) {
        self.lea_word(S0, Mem::at(RSP, -i32::from(bytes)));
        self.probe(on_stack(Access::Write, bytes, RSP));
    }

    fn probe_pop(&mut self, bytes: u16) {
        self.asm.copy(S0, RSP);
        self.probe(on_stack(Access::Read, bytes, RSP));
    }

    /// Moves rsp by `bytes`.
    pub(super) fn move_rsp(&mut self, bytes: i32) {
        self.lea_word(RSP, Mem::at(RSP, bytes));
    }

    /// Stores general register `register` at `[r14+r13]`.
    fn store_register(&mut self, register: Reg, bytes: u16) {
        let (place, register) = if register < MASK {
            (Mem::sum(S0, S1), register)
        } else {
            self.asm.lea(S0, Mem::sum(S0, S1));
            self.asm.load(S1, Mem::word(words::home(register)));
            (Mem::at(S0, 0), S1)
        };
        self.asm.store_sized(place, register, bytes as u8);
    }

    /// Stores what PARK holds at `[r14+r13]`.
    fn store_parked(&mut self, bytes: u16) {
        self.asm.lea(S0, Mem::sum(S0, S1));
        self.asm.load(S1, Mem::word(words::PARK));
        self.asm.store_sized(Mem::at(S0, 0), S1, bytes as u8);
    }

    pub(super) fn push(&mut self, instruction: &Instruction) {
        let bytes = push_bytes(instruction) as u16;
        self.probe_push(bytes);
        if instruction.op0_kind() == OpKind::Register {
            let register = number(instruction.op0_register()).unwrap_or(0);
            self.store_register(register, bytes);
        } else {
            let place = Mem::sum(S0, S1);
            self.asm.store_imm_sized(place, instruction.immediate(0) as i32, bytes as u8);
        }
        self.move_rsp(-i32::from(bytes));
    }

    pub(super) fn push_memory(&mut self, instruction: &Instruction) {
        let bytes = push_bytes(instruction) as u16;
        self.address(instruction, 0);
        self.probe(want(instruction, Access::Read));
        self.asm.load_sized(S0, Mem::sum(S0, S1), bytes as u8);
        self.asm.store(Mem::word(words::PARK), S0);
        self.probe_push(bytes);
        self.store_parked(bytes);
        self.move_rsp(-i32::from(bytes));
    }

    pub(super) fn pop(&mut self, instruction: &Instruction) {
        let bytes = pop_bytes(instruction) as u16;
        let is_short = bytes == 2;
        let register = number(instruction.op0_register()).unwrap_or(0);
        self.probe_pop(bytes);
        let place = Mem::sum(S0, S1);
        if register == RSP {
            // The loaded value is the new rsp.
            if is_short {
                self.move_rsp(2);
                self.asm.load16(S0, place);
                self.asm.copy16(RSP, S0);
            } else {
                self.asm.load_sized(RSP, place, bytes as u8);
            }
            return;
        }
        match (is_short, register >= MASK) {
            (false, false) => self.asm.load_sized(register, place, bytes as u8),
            (false, true) => {
                self.asm.load(S0, place);
                self.store_home(register, S0);
            }
            (true, false) => {
                self.asm.load16(S0, place);
                self.asm.copy16(register, S0);
            }
            (true, true) => {
                self.asm.load16(S0, place);
                self.store_home16(register, S0);
            }
        }
        self.move_rsp(i32::from(bytes));
    }

    pub(super) fn pop_memory(&mut self, instruction: &Instruction) {
        let bytes = pop_bytes(instruction) as u16;
        self.probe_pop(bytes);
        self.asm.load_sized(S0, Mem::sum(S0, S1), bytes as u8);
        self.asm.store(Mem::word(words::PARK), S0);
        self.address(instruction, i32::from(bytes));
        self.probe(want(instruction, Access::Write));
        self.store_parked(bytes);
        self.move_rsp(i32::from(bytes));
    }

    /// Pushes the address of the next instruction.
    pub(super) fn push_return(&mut self) {
        let value = self.now.next_rip;
        let bytes = self.slot_bytes();
        self.probe_push(bytes);
        if bytes == 4 {
            self.asm.store_imm_sized(Mem::sum(S0, S1), value as i32, 4);
        } else if let Ok(value) = i32::try_from(value as i64) {
            self.asm.store_imm(Mem::sum(S0, S1), value);
        } else {
            self.asm.lea(S0, Mem::sum(S0, S1));
            self.asm.constant(S1, value);
            self.asm.store(Mem::at(S0, 0), S1);
        }
        self.move_rsp(-i32::from(bytes));
    }

    /// Pops the return address to r14, and `drop` bytes more.
    pub(super) fn pop_return(&mut self, drop: i32) {
        let bytes = self.slot_bytes();
        self.probe_pop(bytes);
        self.asm.load_sized(S0, Mem::sum(S0, S1), bytes as u8);
        self.move_rsp(i32::from(bytes) + drop);
    }

    /// `leave`: rsp = rbp, then pop rbp.
    pub(super) fn leave_frame(&mut self) {
        let bytes = self.slot_bytes();
        self.asm.copy(S0, RBP);
        self.probe(on_stack(Access::Read, bytes, RBP));
        self.asm.load_sized(S0, Mem::sum(S0, S1), bytes as u8);
        self.lea_word(RSP, Mem::at(RBP, bytes.into()));
        self.asm.copy(RBP, S0);
    }
}
