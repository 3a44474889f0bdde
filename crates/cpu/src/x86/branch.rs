//! Control transfers: direct links, indirect jumps through the jump cache, and the tests on the way
//! that make sure that a running guest can always be stopped.
//!
//! Back edges and ways to other pages, also by an instruction that lies in two, test the drain bit
//! of the clock. A back edge out of a block without any access counts down the word SPIN instead,
//! because the clock may stand still.

use super::classify::number;
use super::condition::{EQUAL, NOT_EQUAL, condition_of, opposite};
use super::emit::{CLK, Mem, RCX, S0, S1};
use super::group::word_bytes;
use super::operand::want;
use super::records::{Link, offset};
use super::site::SiteKind;
use super::stubs::{PARKED_BIT, Reason};
use super::translate::{Cold, Emitter};
use super::words;
use iced_x86::{Code, Instruction, OpKind};
use machine::{Access, CLOCK_DRAIN_BIT, PAGE_BYTES};

impl Emitter {
    /// Transfers control to `target`.
    pub(super) fn go(&mut self, target: u64, is_flags_live: bool) {
        if self.now.is_single {
            self.leave_with(target, Reason::Done.alone());
            return;
        }
        let is_crossing = self.is_crossing(target);
        let is_backward = target <= self.now.rip;
        let is_tested = is_backward || is_crossing || self.now.is_straddling;
        if is_crossing && !self.now.parks {
            self.park();
        }
        let is_flags_live = is_flags_live && !is_crossing;
        if is_backward && !self.now.has_access {
            self.test_spin(target, is_flags_live, is_crossing);
        } else if is_tested && !is_flags_live {
            self.asm.test_flags(CLK, CLOCK_DRAIN_BIT as u32);
            let branch = self.asm.branch(EQUAL);
            if target == self.now.first && self.strip.is_some() {
                self.cold.push(Cold::Strip { branch });
            } else {
                self.link(branch, target);
            }
            let branch = self.asm.jump();
            self.leave_cold(branch, target, Reason::Drain, is_crossing);
            return;
        } else if is_tested {
            self.test_drain(target, is_crossing);
        }
        let branch = self.asm.jump();
        self.link(branch, target);
    }

    pub(super) fn is_crossing(&self, target: u64) -> bool {
        target & !(PAGE_BYTES - 1) != self.now.exit_page
    }

    fn link(&mut self, branch: super::emit::Patch, target: u64) {
        let link = self.links.len() as u32;
        let field = offset(self.asm.address_of(branch), self.cache_start);
        self.links.push(Link::new(field, self.now.block, self.now.first, target));
        self.cold.push(Cold::Link { link });
    }

    fn leave_cold(
        &mut self,
        branch: super::emit::Patch,
        rip: u64,
        reason: Reason,
        is_parked: bool,
    ) {
        let parked = if is_parked { u32::from(PARKED_BIT) } else { 0 };
        self.cold.push(Cold::Leave { branch, rip, reason: reason.alone() | parked });
    }

    /// Looks at the drain bit without changing flags.
    fn test_drain(&mut self, target: u64, is_parked: bool) {
        self.asm.store(Mem::word(words::RCX_SAVE), RCX);
        self.asm.pext(RCX, CLK, words::DRAIN_MASK);
        let go_on = self.asm.short(0xe3);
        self.asm.load(RCX, Mem::word(words::RCX_SAVE));
        let branch = self.asm.jump();
        self.leave_cold(branch, target, Reason::Drain, is_parked);
        self.asm.land(go_on);
        self.asm.load(RCX, Mem::word(words::RCX_SAVE));
    }

    fn test_spin(&mut self, target: u64, is_flags_live: bool, is_parked: bool) {
        let spin = Mem::word(words::SPIN);
        if !is_flags_live {
            self.asm.decrement_flags(spin);
            let branch = self.asm.branch(EQUAL);
            self.leave_cold(branch, target, Reason::Spin, is_parked);
            return;
        }
        self.asm.store(Mem::word(words::RCX_SAVE), RCX);
        self.asm.load32(RCX, spin);
        self.asm.lea(RCX, Mem::at(RCX, -1));
        self.asm.store(spin, RCX);
        let stop = self.asm.short(0xe3);
        self.asm.load(RCX, Mem::word(words::RCX_SAVE));
        let go_on = self.asm.short(0xeb);
        self.asm.land(stop);
        self.asm.load(RCX, Mem::word(words::RCX_SAVE));
        let branch = self.asm.jump();
        self.leave_cold(branch, target, Reason::Spin, is_parked);
        self.asm.land(go_on);
    }

    /// `jcc`.
    pub(super) fn branch(&mut self, instruction: &Instruction) {
        let target = instruction.near_branch_target();
        let condition = condition_of(instruction);
        let (live, live_next) = (self.now.is_flags_live_taken, self.now.is_flags_live_next);
        let is_forward = !self.now.is_single && target > self.now.rip;
        if !self.now.is_single && self.is_crossing(target) {
            // Rarely taken: what leads far is mostly what has gone wrong.
            let branch = self.asm.branch(condition);
            self.cold.push(Cold::Go { branch, target, is_flags_live: live });
        } else if is_forward {
            let branch = self.asm.branch(condition);
            self.link(branch, target);
        } else {
            let skip = self.asm.short(0x70 | opposite(condition));
            self.go(target, live);
            self.asm.land(skip);
        }
        self.go(self.now.next_rip, live_next);
    }

    /// `loop`, `loope`, `loopne`, `jrcxz`, `jecxz`.
    pub(super) fn count_branch(&mut self, instruction: &Instruction) {
        let (opcode, is_short) = match instruction.code() {
            Code::Loopne_rel8_64_ECX | Code::Loopne_rel8_32_ECX => (0xe0, true),
            Code::Loopne_rel8_64_RCX => (0xe0, false),
            Code::Loope_rel8_64_ECX | Code::Loope_rel8_32_ECX => (0xe1, true),
            Code::Loope_rel8_64_RCX => (0xe1, false),
            Code::Loop_rel8_64_ECX | Code::Loop_rel8_32_ECX => (0xe2, true),
            Code::Loop_rel8_64_RCX => (0xe2, false),
            Code::Jecxz_rel8_64 | Code::Jecxz_rel8_32 => (0xe3, true),
            _ => (0xe3, false),
        };
        let (live, live_next) = (self.now.is_flags_live_taken, self.now.is_flags_live_next);
        if is_short {
            self.asm.bytes(&[0x67]);
        }
        let taken = self.asm.short(opcode);
        let not_taken = self.asm.short(0xeb);
        self.asm.land(taken);
        self.go(instruction.near_branch_target(), live);
        self.asm.land(not_taken);
        self.go(self.now.next_rip, live_next);
    }

    pub(super) fn call(&mut self, instruction: &Instruction) {
        self.push_return();
        self.go(instruction.near_branch_target(), self.now.is_flags_live_taken);
    }

    /// Brings the target of an indirect transfer to r14.
    fn load_target(&mut self, instruction: &Instruction) {
        if instruction.op0_kind() == OpKind::Register {
            let register = number(instruction.op0_register()).unwrap_or(0);
            let register = self.current(register, S0);
            if register != S0 {
                self.asm.copy(S0, register);
            }
            return;
        }
        self.address(instruction, 0);
        self.probe(want(instruction, Access::Read));
        self.asm.load_sized(S0, Mem::sum(S0, S1), word_bytes(instruction) as u8);
    }

    pub(super) fn call_indirect(&mut self, instruction: &Instruction) {
        self.load_target(instruction);
        self.asm.store(Mem::word(words::PARK), S0);
        self.push_return();
        self.asm.load(S0, Mem::word(words::PARK));
        self.indirect();
    }

    pub(super) fn jump_indirect(&mut self, instruction: &Instruction) {
        self.load_target(instruction);
        if !self.now.has_access && !self.now.is_single {
            self.test_spin_indirect();
        }
        self.indirect();
    }

    /// The spin test in front of an indirect jump; the target is in r14, the flags are parked.
    fn test_spin_indirect(&mut self) {
        self.asm.decrement_flags(Mem::word(words::SPIN));
        let go_on = self.asm.short(0x70 | NOT_EQUAL);
        let reason = Reason::Spin.alone() | u32::from(PARKED_BIT);
        self.asm.constant(S1, u64::from(reason));
        self.asm.jump_to(self.stubs.leave);
        self.asm.land(go_on);
    }

    pub(super) fn ret(&mut self, instruction: &Instruction) {
        self.pop_return(return_drop(instruction));
        self.indirect();
    }

    /// Jumps to the guest address in r14 through the jump cache; leaves on a miss or a drain. The
    /// flags are parked.
    pub(super) fn indirect(&mut self) {
        let site = self.site(SiteKind::Branch);
        if self.now.is_single {
            self.asm.constant(S1, u64::from(Reason::Done.with(site + 1)));
            self.asm.jump_to(self.stubs.leave);
            return;
        }
        self.asm.zero_extend16(S1, S0);
        self.asm.add_flags(S0, Mem::table(words::JUMP_TAG, S1));
        let miss = self.asm.branch(NOT_EQUAL);
        self.asm.test_flags(CLK, CLOCK_DRAIN_BIT as u32);
        let drain = self.asm.branch(NOT_EQUAL);
        self.asm.jump_through(Mem::table(words::JUMP_HOST, S1));
        self.cold.push(Cold::Indirect { branches: [miss, drain], site });
    }
}

/// Bytes that a `ret` takes off the stack behind the return address.
pub(super) fn return_drop(instruction: &Instruction) -> i32 {
    match instruction.code() {
        Code::Retnq_imm16 | Code::Retnd_imm16 => i32::from(instruction.immediate16()),
        _ => 0,
    }
}
