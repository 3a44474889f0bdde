//! First-level misses that hit the second level, made by emitted code.
//!
//! The way into the slow path tries this first: the transition that `machine/mmu/emitted.rs` tells
//! of, on the arrays that it names, without a call. Everything is looked at before anything
//! changes, so that whatever is not as usual goes on to Rust as if this were not here.
//!
//! Invariants
//! 1. It changes nothing but the registers that the slow path has saved until it knows that the
//!    access is usual; then it goes back to the block.
//! 2. An array is indexed only by what the machine keeps in its range: hints and owners name
//!    entries, homes below [`layout::SLOTS`] name slots.

use super::ask::Ask;
use super::condition::{ABOVE, BELOW, EQUAL, NEGATIVE, NOT_BELOW, NOT_EQUAL};
use super::emit::{Assembler, Mem, Patch, S0};
use super::stubs::{Keeping, load_registers};
use super::window::look_at_window;
use super::words;
use iced_x86::{Code, Encoder, Instruction, MemoryOperand, Register};
use machine::{CLOCK_DRAIN_BIT, CLOCK_READ, CLOCK_WRITE, PAGE_BYTES, layout};

/// What the saved registers hold, once it is known.
const KEY: Register = Register::RAX;
const SECOND: Register = Register::RDX;
const PAGE: Register = Register::RSI;
const SLOT: Register = Register::R8;
const OWNERS: Register = Register::R9;
/// The home of the victim: its slot.
const HOME: Register = Register::RDI;
/// The tags of a set, before that.
const TAGS: Register = Register::RDI;
/// For a while.
const A: Register = Register::RCX;
const B: Register = Register::R10;
const C: Register = Register::R11;
/// The page number of the address.
const NUMBER: Register = Register::R11;
const ASK: Register = Register::R13;
const ADDRESS: Register = Register::R14;
const CLOCK: Register = Register::R15;

/// Bits of the addresses of user space.
const USER_BITS: u32 = 47;
const PAGE_SHIFT: u32 = PAGE_BYTES.trailing_zeros();

/// Makes the miss of the access that r14 and r13 ask for, and goes on in the block; falls through
/// if there is more to it. The registers that the slow path saves are saved; code stands in a cache
/// from host address `cache_start` on.
pub(super) fn first_level(asm: &mut Assembler, keeping: Keeping, cache_start: u64) {
    let mut miss = Miss { asm, encoder: Encoder::new(64), more: Vec::new() };
    miss.look_at_access();
    miss.look_at_second();
    miss.look_at_rights();
    miss.look_at_first();
    miss.exchange();
    miss.fill();
    miss.go_on(keeping, cache_start);
    for patch in miss.more {
        asm.resolve(patch);
    }
}

/// `gs:[word]`
fn word(index: usize) -> MemoryOperand {
    let displacement = i64::from(words::gs(index));
    MemoryOperand::new(Register::None, Register::None, 1, displacement, 8, false, Register::GS)
}

/// `gs:[register * 8 + word]`
fn table(index: usize, register: Register) -> MemoryOperand {
    let displacement = i64::from(words::gs(index));
    MemoryOperand::new(Register::None, register, 8, displacement, 8, false, Register::GS)
}

/// `[base + index * bytes]`
fn element(base: Register, index: Register, bytes: u32) -> MemoryOperand {
    MemoryOperand::with_base_index_scale(base, index, bytes)
}

/// The low half of a register.
fn low(register: Register) -> Register {
    register.full_register32()
}

struct Miss<'a> {
    asm: &'a mut Assembler,
    encoder: Encoder,
    /// Branches to Rust.
    more: Vec<Patch>,
}

impl Miss<'_> {
    fn emit(&mut self, made: Result<Instruction, iced_x86::IcedError>) {
        let instruction = made.expect("the operands are of the kinds that the code has");
        let encoded = self.encoder.encode(&instruction, 0);
        encoded.expect("the encoder knows all instructions of this file");
        self.asm.bytes(&self.encoder.take_buffer());
    }

    fn load(&mut self, register: Register, memory: MemoryOperand) {
        self.emit(Instruction::with2(Code::Mov_r64_rm64, register, memory));
    }

    fn load16(&mut self, register: Register, memory: MemoryOperand) {
        self.emit(Instruction::with2(Code::Movzx_r32_rm16, low(register), memory));
    }

    fn store(&mut self, memory: MemoryOperand, register: Register) {
        self.emit(Instruction::with2(Code::Mov_rm64_r64, memory, register));
    }

    fn store16(&mut self, memory: MemoryOperand, register: Register) {
        let code = Code::Mov_rm16_r16;
        let part = match register {
            Register::RCX => Register::CX,
            _ => Register::R8W,
        };
        debug_assert!(part.full_register() == register, "only these are stored");
        self.emit(Instruction::with2(code, memory, part));
    }

    fn copy(&mut self, to: Register, from: Register) {
        self.emit(Instruction::with2(Code::Mov_r64_rm64, to, from));
    }

    fn mask(&mut self, register: Register, mask: i32) {
        self.emit(Instruction::with2(Code::And_rm64_imm32, register, mask));
    }

    fn shift_left(&mut self, register: Register, bits: u32) {
        self.emit(Instruction::with2(Code::Shl_rm64_imm8, register, bits));
    }

    fn shift_right(&mut self, register: Register, bits: u32) {
        self.emit(Instruction::with2(Code::Shr_rm64_imm8, register, bits));
    }

    fn test(&mut self, register: Register, mask: u32) {
        self.emit(Instruction::with2(Code::Test_rm32_imm32, low(register), mask));
    }

    fn compare(&mut self, register: Register, value: i32) {
        self.emit(Instruction::with2(Code::Cmp_rm32_imm32, low(register), value));
    }

    /// Leaves it to Rust if the condition holds.
    fn leave_if(&mut self, condition: u8) {
        let patch = self.asm.branch(condition);
        self.more.push(patch);
    }

    /// Leaves it to Rust if `slot` is one with poison of its own.
    fn leave_if_at_edge(&mut self, slot: Register) {
        let behind = MemoryOperand::with_base_displ(slot, 1);
        self.emit(Instruction::with2(Code::Lea_r64_m, A, behind));
        self.emit(Instruction::with2(Code::And_r64_rm64, A, word(layout::SLOT_MASK)));
        self.compare(A, 2);
        self.leave_if(BELOW);
    }

    /// Leaves all but usual accesses within a page of user space, while the clock may go on.
    fn look_at_access(&mut self) {
        self.emit(Instruction::with2(Code::Test_rm32_r32, low(ASK), low(ASK)));
        self.leave_if(NEGATIVE);
        self.test(CLOCK, CLOCK_DRAIN_BIT as u32);
        self.leave_if(NOT_EQUAL);
        self.copy(A, ASK);
        self.shift_right(A, Ask::SIZE_SHIFT);
        self.mask(A, Ask::SIZE_MASK as i32);
        self.emit(Instruction::with2(Code::Mov_r32_imm32, low(B), 1u32));
        self.emit(Instruction::with2(Code::Shl_rm32_CL, low(B), Register::CL));
        self.copy(C, ADDRESS);
        self.mask(C, PAGE_BYTES as i32 - 1);
        self.emit(Instruction::with2(Code::Add_r64_rm64, B, C));
        self.compare(B, PAGE_BYTES as i32);
        self.leave_if(ABOVE);
        self.copy(A, ADDRESS);
        self.shift_right(A, USER_BITS);
        self.leave_if(NOT_EQUAL);
    }

    /// Finds the page in the second level.
    fn look_at_second(&mut self) {
        self.copy(NUMBER, ADDRESS);
        self.shift_right(NUMBER, PAGE_SHIFT);
        self.copy(SECOND, NUMBER);
        self.mask(SECOND, layout::HINTS as i32 - 1);
        self.load(A, word(layout::SECOND_HINTS));
        self.load16(SECOND, element(A, SECOND, 2));
        self.load(A, word(layout::MISS_KEY));
        self.emit(Instruction::with2(Code::Test_rm64_r64, A, A));
        self.leave_if(EQUAL);
        self.copy(KEY, NUMBER);
        self.shift_left(KEY, layout::TAG_SHIFT);
        self.emit(Instruction::with2(Code::Or_r64_rm64, KEY, A));
        self.load(A, word(layout::SECOND_TAGS));
        self.emit(Instruction::with2(Code::Cmp_r64_rm64, KEY, element(A, SECOND, 8)));
        self.leave_if(NOT_EQUAL);
        self.load(A, word(layout::SECOND_PAGES));
        self.load(PAGE, element(A, SECOND, 8));
        self.asm.index(8, S0);
        self.load(OWNERS, word(layout::FIRST_OWNERS));
        let owner = element(OWNERS, SLOT, 2);
        let none = i32::from(layout::NO_OWNER as i16);
        self.emit(Instruction::with2(Code::Cmp_rm16_imm8, owner, none));
        self.leave_if(NOT_EQUAL);
    }

    /// Leaves stores that the page does not take, and pages with code that might take them.
    fn look_at_rights(&mut self) {
        let storable = layout::PAGE_STORABLE as i32;
        self.copy(A, PAGE);
        self.mask(A, storable);
        self.compare(A, storable);
        let is_storable = self.asm.branch(EQUAL);
        self.test(ASK, Ask::WRITE);
        self.leave_if(NOT_EQUAL);
        self.leave_if_at_edge(SLOT);
        let is_read_only = self.asm.jump();
        self.asm.resolve(is_storable);
        self.copy(A, PAGE);
        self.shift_right(A, PAGE_SHIFT);
        self.copy(B, A);
        self.shift_right(B, 6);
        self.load(HOME, word(layout::CODE_FRAMES));
        self.load(B, element(HOME, B, 8));
        self.emit(Instruction::with2(Code::Bt_rm64_r64, B, A));
        self.leave_if(BELOW);
        self.asm.resolve(is_read_only);
    }

    /// Leaves pages that the first level holds without a slot; finds the entry that was used least
    /// recently and leaves its slot in `HOME`.
    fn look_at_first(&mut self) {
        self.emit(Instruction::with2(Code::And_r64_rm64, NUMBER, word(layout::FIRST_SET_MASK)));
        self.load(A, word(layout::FIRST_HOMES));
        self.load(TAGS, word(layout::FIRST_TAGS));
        let ways = Mem::word(layout::FIRST_WAYS);
        self.asm.compare_word_flags(ways, 4);
        let is_four = self.asm.branch(EQUAL);
        self.enter_set(4);
        self.leave_if_held(0, 6);
        self.asm.compare_word_flags(ways, 6);
        let is_six = self.asm.branch(EQUAL);
        self.leave_if_held(6, 8);
        self.oldest_of(0, 8);
        let is_eight = self.asm.jump();
        self.asm.resolve(is_six);
        self.oldest_of(0, 6);
        let is_found = self.asm.jump();
        self.asm.resolve(is_four);
        self.enter_set(3);
        self.leave_if_held(0, 4);
        self.oldest_of(0, 4);
        self.asm.resolve(is_found);
        self.asm.resolve(is_eight);
        self.compare(HOME, layout::SLOTS as i32);
        self.leave_if(NOT_BELOW);
        self.leave_if_at_edge(HOME);
    }

    /// Goes on to the set `NUMBER` in the homes at `A`, of which a set takes `1 << log2` bytes, and
    /// in `TAGS`, of which it takes four times as many.
    fn enter_set(&mut self, log2: u32) {
        self.shift_left(NUMBER, log2);
        self.emit(Instruction::with2(Code::Add_r64_rm64, A, NUMBER));
        self.emit(Instruction::with2(Code::Lea_r64_m, TAGS, element(TAGS, NUMBER, 4)));
    }

    /// Leaves it to Rust if one of these ways of the set at `TAGS` has the tag `KEY`.
    fn leave_if_held(&mut self, first: i64, end: i64) {
        for way in first..end {
            let tag = MemoryOperand::with_base_displ(TAGS, 8 * way);
            self.emit(Instruction::with2(Code::Cmp_r64_rm64, KEY, tag));
            self.leave_if(EQUAL);
        }
    }

    /// Compares the ways from `first` to before `end` of the set at `A` with the oldest so far,
    /// whose stamp is in `B`; the first way of all is the oldest at first.
    fn oldest_of(&mut self, first: i64, end: i64) {
        for way in first..end {
            let home = MemoryOperand::with_base_displ(A, 2 * way);
            if way == 0 {
                self.load16(HOME, home);
                self.load(B, table(layout::STAMP, HOME));
                continue;
            }
            self.load16(C, home);
            let stamp = table(layout::STAMP, C);
            self.emit(Instruction::with2(Code::Cmp_r64_rm64, B, stamp));
            self.emit(Instruction::with2(Code::Cmova_r64_rm64, B, stamp));
            self.emit(Instruction::with2(Code::Cmova_r64_rm64, HOME, C));
        }
    }

    /// Counts the miss, touches the entry of the second level, and gives that of the first level
    /// to the page.
    fn exchange(&mut self) {
        self.emit(Instruction::with1(Code::Inc_rm64, word(layout::MISS_COUNT)));
        self.load(A, word(layout::SECOND_CLOCK));
        self.load(B, MemoryOperand::with_base(A));
        self.emit(Instruction::with1(Code::Inc_rm64, B));
        self.store(MemoryOperand::with_base(A), B);
        self.load(A, word(layout::SECOND_STAMPS));
        self.store(element(A, SECOND, 8), B);
        let none = i32::from(layout::NO_OWNER);
        self.load16(A, element(OWNERS, HOME, 2));
        self.emit(Instruction::with2(Code::Mov_rm16_imm16, element(OWNERS, HOME, 2), none));
        self.store16(element(OWNERS, SLOT, 2), A);
        self.load(B, word(layout::FIRST_HOMES));
        self.store16(element(B, A, 2), SLOT);
        self.load(B, word(layout::FIRST_TAGS));
        self.store(element(B, A, 8), KEY);
        self.load(B, word(layout::FIRST_PAGES));
        self.store(element(B, A, 8), PAGE);
    }

    /// Poisons the slot of the former page, and fills that of the new one. `PAGE` is its distance
    /// then.
    fn fill(&mut self) {
        self.emit(Instruction::with2(Code::Xor_r32_rm32, low(B), low(B)));
        self.store(table(layout::READ_TAG, HOME), B);
        self.store(table(layout::WRITE_TAG, HOME), B);
        self.copy(A, ADDRESS);
        self.mask(A, -(PAGE_BYTES as i32));
        self.emit(Instruction::with1(Code::Neg_rm64, A));
        self.store(table(layout::READ_TAG, SLOT), A);
        let storable = layout::PAGE_STORABLE as i32;
        self.copy(C, PAGE);
        self.mask(C, storable);
        self.compare(C, storable);
        self.emit(Instruction::with2(Code::Cmove_r64_rm64, B, A));
        self.store(table(layout::WRITE_TAG, SLOT), B);
        self.mask(PAGE, -(PAGE_BYTES as i32));
        self.emit(Instruction::with2(Code::Add_r64_rm64, PAGE, word(layout::RAM_BASE)));
        self.store(table(layout::HOST, SLOT), PAGE);
        self.emit(Instruction::with2(Code::Add_r64_rm64, PAGE, A));
        self.store(table(layout::DISTANCE, SLOT), PAGE);
        self.store(table(layout::STAMP, SLOT), CLOCK);
    }

    /// Advances the clock, and goes on in the block with the operand at `[r14 + r13]`: the address
    /// in r13, the distance in r14.
    fn go_on(&mut self, keeping: Keeping, cache_start: u64) {
        let (read, write) = (CLOCK_READ as i64, CLOCK_WRITE as i64);
        let after = |step| MemoryOperand::with_base_displ(CLOCK, step);
        self.emit(Instruction::with2(Code::Lea_r64_m, A, after(write)));
        self.emit(Instruction::with2(Code::Lea_r64_m, CLOCK, after(read)));
        self.test(ASK, Ask::WRITE);
        self.emit(Instruction::with2(Code::Cmovne_r64_rm64, CLOCK, A));
        self.mask(ASK, Ask::CACHE_BYTES_MAX as i32 - 1);
        self.emit(Instruction::with2(Code::Mov_r64_imm64, A, cache_start));
        self.emit(Instruction::with2(Code::Add_r64_rm64, ASK, A));
        self.store(word(words::RESUME), ASK);
        self.copy(ASK, ADDRESS);
        self.copy(ADDRESS, PAGE);
        look_at_window(self.asm);
        load_registers(self.asm, keeping);
        self.asm.jump_through(Mem::word(words::RESUME));
    }
}
