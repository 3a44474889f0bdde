//! Emitting a same-page group: one probe, then every member without one.

use super::block::{Scan, Step};
use super::branch::return_drop;
use super::classify::{Class, is_high_byte, number};
use super::emit::{MASK, Mem, RBP, RSP, S0, S1};
use super::group::{Group, pop_bytes, push_bytes, word_bytes};
use super::records::offset;
use super::site::SiteKind;
use super::translate::Emitter;
use iced_x86::{Instruction, OpKind};
use machine::Access;

impl Emitter {
    /// Emits the steps of a group.
    pub(super) fn group(&mut self, scan: &Scan, group: &Group) {
        let steps = &scan.steps[group.first..=group.last];
        self.begin(&steps[0]);
        self.points.pop();
        self.anchor_address(group.anchor, group.low);
        let (site, branch) = self.probe_group(group);
        self.now.is_indexed = !needs_scratch(steps);
        if !self.now.is_indexed {
            self.asm.lea(S0, Mem::sum(S0, S1));
        }
        let (mut reads, mut writes) = (group.reads, group.writes);
        self.now.is_grouped = true;
        for (step, member) in steps.iter().zip(&scan.members[group.first..]) {
            self.begin(step);
            match (*member).map(|_| access_of(step)) {
                Some(Access::Write) => writes -= 1,
                Some(Access::Read | Access::Fetch) => reads -= 1,
                None => {}
            }
            if let Some(point) = self.points.last_mut() {
                point.pending = reads + writes;
                point.pending_writes = writes;
            }
            match *member {
                Some(displacement) => self.member(step, displacement - group.low),
                None => self.other(step),
            }
            if step.parks_behind {
                self.asm.settle_all();
                self.park();
            }
        }
        self.move_stack();
        self.now.is_grouped = false;
        self.now.is_indexed = false;
        self.asm.settle_all();
        self.asm.forget();
        let resume = self.asm.here();
        let field = (resume - self.asm.address_of(branch)) as u16;
        let site = &mut self.sites[site as usize];
        site.set_resume(offset(resume, self.cache_start));
        site.set_kind(SiteKind::Group { field, live: steps[0].live });
    }

    /// A step between members.
    fn other(&mut self, step: &Step) {
        match step.class {
            Class::Plain => self.plain(step),
            Class::Lea => self.lea(&step.instruction),
            Class::Direction => self.direction(&step.instruction),
            _ => {}
        }
    }

    /// Makes the moves of rsp that members have put off.
    pub(super) fn move_stack(&mut self) {
        let bytes = core::mem::take(&mut self.now.stack_bytes);
        if bytes != 0 {
            self.move_rsp(bytes);
        }
    }

    /// Where the operand at `offset` of the group is.
    pub(super) fn group_place(&self, offset: i32) -> Mem {
        let index = self.now.is_indexed.then_some((S1, 0));
        Mem { base: Some(S0), index, displacement: offset, is_gs: false }
    }

    /// A member with its operand at `offset`.
    fn member(&mut self, step: &Step, offset: i32) {
        let instruction = &step.instruction;
        let place = self.group_place(offset);
        match step.class {
            Class::Memory(_) => self.on_pointer(step, Some(offset)),
            Class::Push => self.member_push(instruction, place),
            Class::Pop => self.member_pop(instruction, place),
            Class::Leave => {
                let bytes = word_bytes(instruction);
                self.asm.load_sized(S1, place, bytes as u8);
                self.lea_word(RSP, Mem::at(RBP, bytes));
                self.asm.copy(RBP, S1);
            }
            Class::Call => {
                let bytes = word_bytes(instruction);
                if bytes == 4 {
                    self.asm.store_imm_sized(place, self.now.next_rip as i32, 4);
                } else if let Ok(value) = i32::try_from(self.now.next_rip as i64) {
                    self.asm.store_imm(place, value);
                } else {
                    self.asm.constant(S1, self.now.next_rip);
                    self.asm.store(place, S1);
                }
                self.now.stack_bytes -= bytes;
                self.move_stack();
                self.go(instruction.near_branch_target(), self.now.is_flags_live_taken);
            }
            Class::Return => {
                let bytes = word_bytes(instruction);
                self.asm.load_sized(S0, place, bytes as u8);
                self.now.stack_bytes += bytes + return_drop(instruction);
                self.move_stack();
                self.indirect();
            }
            _ => {
                self.asm.load_sized(S0, place, word_bytes(instruction) as u8);
                self.indirect();
            }
        }
    }

    fn member_push(&mut self, instruction: &Instruction, place: Mem) {
        let bytes = push_bytes(instruction);
        if instruction.op0_kind() == OpKind::Register {
            let register = number(instruction.op0_register()).unwrap_or(0);
            let register = self.current(register, S1);
            self.asm.store_sized(place, register, bytes as u8);
        } else {
            self.asm.store_imm_sized(place, instruction.immediate(0) as i32, bytes as u8);
        }
        self.now.stack_bytes -= bytes;
    }

    fn member_pop(&mut self, instruction: &Instruction, place: Mem) {
        let bytes = pop_bytes(instruction);
        let register = number(instruction.op0_register()).unwrap_or(0);
        if register == RSP {
            if bytes == 2 {
                self.move_rsp(2);
                self.asm.load16(S1, place);
                self.asm.copy16(RSP, S1);
            } else {
                self.asm.load_sized(RSP, place, bytes as u8);
            }
            return;
        }
        match (bytes, register >= MASK) {
            (2, false) => {
                self.asm.load16(S1, place);
                self.asm.copy16(register, S1);
            }
            (2, true) => {
                self.asm.load16(S1, place);
                self.store_home16(register, S1);
            }
            (_, false) => self.asm.load_sized(register, place, bytes as u8),
            (_, true) => {
                self.asm.load(S1, place);
                self.store_home(register, S1);
            }
        }
        self.now.stack_bytes += bytes;
    }
}

/// Whether a step of a group needs the scratch register that may hold the address of the frame.
fn needs_scratch(steps: &[Step]) -> bool {
    steps.iter().any(|step| {
        let one = &step.instruction;
        let is_named = (0..one.op_count()).any(|operand| {
            one.op_kind(operand) == OpKind::Register && {
                let register = one.op_register(operand);
                number(register).is_some_and(|number| number >= MASK) || is_high_byte(register)
            }
        });
        let is_short_pop = step.class == Class::Pop && pop_bytes(one) == 2;
        let is_far_call = step.class == Class::Call
            && word_bytes(one) == 8
            && i32::try_from(one.next_ip()).is_err();
        is_named || is_short_pop || is_far_call || step.class == Class::Leave || step.parks_behind
    })
}

/// Whether a step neither needs rsp nor can fault.
pub(super) fn puts_stack_off(step: &Step) -> bool {
    let one = &step.instruction;
    let names_stack = (0..one.op_count()).any(|operand| {
        one.op_kind(operand) == OpKind::Register && number(one.op_register(operand)) == Some(RSP)
    });
    let is_known = matches!(step.class, Class::Push | Class::Pop | Class::Return | Class::Call);
    !names_stack && (is_known || step.is_quiet())
}

/// What the access of a member does.
fn access_of(step: &Step) -> Access {
    match step.class {
        Class::Memory(access) => access,
        Class::Push | Class::Call => Access::Write,
        _ => Access::Read,
    }
}
