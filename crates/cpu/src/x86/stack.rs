//! The stack instructions. Their memory operand is implied, and rsp moves only after the access.

use super::classify::number;
use super::emit::{Mem, RBP, RSP, Reg, S0, S1};
use super::operand::want;
use super::probe::Want;
use super::translate::Emitter;
use super::words;
use iced_x86::{Code, Instruction, OpKind};
use machine::Access;

const fn on_stack(access: Access, bytes: u16) -> Want {
    Want { access, bytes, is_stack: true }
}

impl Emitter {
    /// Probes for a push of `bytes`. The place is then at `[r14+r13]`.
    fn probe_push(&mut self, bytes: u16) {
        self.asm.lea(S0, Mem::at(RSP, -i32::from(bytes)));
        self.probe(on_stack(Access::Write, bytes));
    }

    fn probe_pop(&mut self, bytes: u16) {
        self.asm.copy(S0, RSP);
        self.probe(on_stack(Access::Read, bytes));
    }

    fn move_rsp(&mut self, bytes: i32) {
        self.asm.lea(RSP, Mem::at(RSP, bytes));
    }

    /// Stores general register `register` at `[r14+r13]`.
    fn store_register(&mut self, register: Reg, bytes: u16) {
        let (place, register) = if register < S1 {
            (Mem::sum(S0, S1), register)
        } else {
            self.asm.lea(S0, Mem::sum(S0, S1));
            self.asm.load(S1, Mem::word(words::home(register)));
            (Mem::at(S0, 0), S1)
        };
        if bytes == 2 {
            self.asm.store16(place, register);
        } else {
            self.asm.store(place, register);
        }
    }

    pub(super) fn push(&mut self, instruction: &Instruction) {
        let is_short = matches!(
            instruction.code(),
            Code::Push_r16 | Code::Push_imm16 | Code::Pushw_imm8 | Code::Push_rm16
        );
        let bytes = if is_short { 2 } else { 8 };
        self.probe_push(bytes);
        if instruction.op0_kind() == OpKind::Register {
            let register = number(instruction.op0_register()).unwrap_or(0);
            self.store_register(register, bytes);
        } else if is_short {
            self.asm.store_imm16(Mem::sum(S0, S1), instruction.immediate(0) as i16);
        } else {
            self.asm.store_imm(Mem::sum(S0, S1), instruction.immediate(0) as i32);
        }
        self.move_rsp(-i32::from(bytes));
    }

    pub(super) fn push_memory(&mut self, instruction: &Instruction) {
        let bytes = if instruction.code() == Code::Push_rm16 { 2 } else { 8 };
        self.address(instruction, 0);
        self.probe(want(instruction, Access::Read));
        if bytes == 2 {
            self.asm.load16(S0, Mem::sum(S0, S1));
        } else {
            self.asm.load(S0, Mem::sum(S0, S1));
        }
        self.asm.store(Mem::word(words::PARK), S0);
        self.probe_push(bytes);
        self.asm.lea(S0, Mem::sum(S0, S1));
        self.asm.load(S1, Mem::word(words::PARK));
        if bytes == 2 {
            self.asm.store16(Mem::at(S0, 0), S1);
        } else {
            self.asm.store(Mem::at(S0, 0), S1);
        }
        self.move_rsp(-i32::from(bytes));
    }

    pub(super) fn pop(&mut self, instruction: &Instruction) {
        let is_short = matches!(instruction.code(), Code::Pop_r16 | Code::Pop_rm16);
        let bytes = if is_short { 2 } else { 8 };
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
                self.asm.load(RSP, place);
            }
            return;
        }
        match (is_short, register >= S1) {
            (false, false) => self.asm.load(register, place),
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
        let bytes = if instruction.code() == Code::Pop_rm16 { 2 } else { 8 };
        self.probe_pop(bytes);
        if bytes == 2 {
            self.asm.load16(S0, Mem::sum(S0, S1));
        } else {
            self.asm.load(S0, Mem::sum(S0, S1));
        }
        self.asm.store(Mem::word(words::PARK), S0);
        self.address(instruction, i32::from(bytes));
        self.probe(want(instruction, Access::Write));
        self.asm.lea(S0, Mem::sum(S0, S1));
        self.asm.load(S1, Mem::word(words::PARK));
        if bytes == 2 {
            self.asm.store16(Mem::at(S0, 0), S1);
        } else {
            self.asm.store(Mem::at(S0, 0), S1);
        }
        self.move_rsp(i32::from(bytes));
    }

    /// Pushes the address of the next instruction.
    pub(super) fn push_return(&mut self) {
        let value = self.now.next_rip;
        self.probe_push(8);
        if let Ok(value) = i32::try_from(value as i64) {
            self.asm.store_imm(Mem::sum(S0, S1), value);
        } else {
            self.asm.lea(S0, Mem::sum(S0, S1));
            self.asm.constant(S1, value);
            self.asm.store(Mem::at(S0, 0), S1);
        }
        self.move_rsp(-8);
    }

    /// Pops the return address to r14, and `drop` bytes more.
    pub(super) fn pop_return(&mut self, drop: i32) {
        self.probe_pop(8);
        self.asm.load(S0, Mem::sum(S0, S1));
        self.move_rsp(8 + drop);
    }

    /// `leave`: rsp = rbp, then pop rbp.
    pub(super) fn leave_frame(&mut self) {
        self.asm.copy(S0, RBP);
        self.probe(on_stack(Access::Read, 8));
        self.asm.load(S0, Mem::sum(S0, S1));
        self.asm.lea(RSP, Mem::at(RBP, 8));
        self.asm.copy(RBP, S0);
    }
}
