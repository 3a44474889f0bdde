//! Programs that write to their own code: every byte of the block that is running, with stores of
//! every width, before, at and behind the store itself.

use crate::builder::{decode_all, decode_code, put_code};
use crate::case::{Case, Rules, State};
use crate::catalog;
use crate::layout;
use crate::prepare::is_relaxed;
use crate::random::Random;
use iced_x86::{
    Code, Encoder, FlowControl, Instruction, InstructionInfoFactory, MemoryOperand, OpAccess,
    OpKind, Register, RflagsBits,
};

/// What the store is made with.
const STORES: [Code; 9] = [
    Code::Mov_rm8_r8,
    Code::Mov_rm16_r16,
    Code::Mov_rm32_r32,
    Code::Mov_rm64_r64,
    Code::Mov_rm8_imm8,
    Code::Movups_xmmm128_xmm,
    Code::VEX_Vmovdqu_ymmm256_ymm,
    Code::Xchg_rm32_r32,
    Code::Push_r64,
];
/// Instructions of one byte that are safe to find anywhere: nop, int3, cdq, cld, clc, stc, cmc.
const BYTES: [u8; 7] = [0x90, 0xcc, 0x99, 0xfc, 0xf8, 0xf9, 0xf5];
/// Longest program.
const PROGRAM_BYTES: u64 = 64;

/// 32-bit programs that call code on the page of their stack, change it by a store through esp, and
/// call it again.
pub fn on_the_stack() -> Vec<Case> {
    const PAGE: u64 = layout::DATA + 0xd000;
    let case = |index: u64| {
        let (start, target) = (layout::CODE + 0x200, PAGE + 0x900 + index);
        let mut state = State::new();
        state.is_compat = true;
        state.rip = start;
        state.gpr[4] = PAGE + 0x800;
        let far = |from: u64| (target.wrapping_sub(from) as u32).to_le_bytes();
        let mut code = vec![0x50, 0x58, 0xe8]; // push eax; pop eax; call
        code.extend(far(start + 7));
        code.extend([0x89, 0xc3, 0xc6, 0x84, 0x24]); // mov ebx, eax; mov byte [esp+..], 2
        code.extend((0x101 + index as u32).to_le_bytes());
        code.extend([2, 0xe8]);
        code.extend(far(start + code.len() as u64 + 4));
        let mut patches = Vec::new();
        put_code(&mut patches, start, &code);
        put_code(&mut patches, target, &[0xb8, 1, 0, 0, 0, 0xc3]); // mov eax, 1; ret
        let name = format!("code on the stack, {index} bytes on");
        let instructions = decode_code(&code, start, true);
        Case { name, state, patches, instructions, rules: Rules::default() }
    };
    (0..20).map(case).collect()
}

/// One program, its store aimed at every byte around.
pub fn sweep(seed: u64, index: u64) -> Vec<Case> {
    let mut random = Random::new(seed.wrapping_add(index.wrapping_mul(0x3_0000_0009)));
    let start = match random.below(4) {
        0 => layout::CODE + 0x1000 - random.below(PROGRAM_BYTES),
        _ => layout::CODE + 64 + random.below(0x1e00),
    };
    let store = random.pick(&STORES);
    let code = program(&mut random, store, start);
    let mut state = crate::states::random_state(&mut random);
    for register in &mut state.gpr {
        *register = random.integer();
    }
    state.rip = start;
    // Every byte of what is stored is an instruction.
    let filler = match store {
        Code::Mov_rm8_imm8 => 0x90,
        // A store whose flags were dead because of code that the same store takes away finds them
        // lost: the one thing that the engine does not do as the host does.
        _ if code.control.is_some() => random.pick(&BYTES[..4]),
        _ => random.pick(&BYTES),
    };
    state.gpr[0] = u64::from_le_bytes([filler; 8]);
    let (low, high) = State::vector_halves(0);
    state.fpu[low..low + 16].fill(filler);
    state.fpu[high..high + 16].fill(filler);
    let instructions = decode_all(&code.bytes, start);
    let counter = layout::SCRATCH + random.below(0x1000);
    let mut cases = Vec::new();
    for target in start - 8..start + code.bytes.len() as u64 + 4 {
        if !is_tame(&code, start, target, filler) {
            continue;
        }
        let mut state = state.clone();
        state.gpr[3] = target;
        state.gpr[4] = if store == Code::Push_r64 { target + 8 } else { layout::DATA + 0x2800 };
        state.gpr[5] = counter;
        let mut patches = vec![(layout::physical(counter).unwrap_or_default(), vec![2])];
        put_code(&mut patches, start, &code.bytes);
        let name = format!("smc seed {seed} index {index} target {target:#x}");
        let instructions = instructions.clone();
        cases.push(Case { name, state, patches, instructions, rules: Rules::default() });
    }
    cases
}

/// A program and where its store is.
struct Program {
    bytes: Vec<u8>,
    /// First byte of the store.
    store: usize,
    /// First byte behind it.
    behind_store: usize,
    stored_bytes: usize,
    is_exchange: bool,
    /// First byte of the loop's end, if it is one.
    control: Option<usize>,
}

/// Whether what the store leaves still ends, and does nothing undefined.
fn is_tame(program: &Program, start: u64, target: u64, filler: u8) -> bool {
    let mut bytes = program.bytes.clone();
    bytes.extend_from_slice(&[0xcc; 16]);
    for offset in 0..program.stored_bytes as u64 {
        let index = (target + offset).wrapping_sub(start) as usize;
        if let Some(byte) = bytes.get_mut(index) {
            *byte = filler;
        }
        // A loop must end, and its second round must make the same store.
        let is_kept = |control| {
            (control..program.bytes.len()).contains(&index)
                || (program.store..program.behind_store).contains(&index)
        };
        if program.control.is_some_and(is_kept) {
            return false;
        }
    }
    // An exchange in a loop takes away again what it has put there: no code that ends the life of
    // the carry flag, which is alive all through the loop otherwise.
    let is_exchanged = program.is_exchange && program.control.is_some();
    let mut factory = InstructionInfoFactory::new();
    let from_start = if program.control.is_some() { 0 } else { program.behind_store };
    [from_start, program.behind_store].into_iter().all(|from| {
        let end = program.control.unwrap_or(program.bytes.len());
        decode_all(&bytes[from..end.max(from)], start + from as u64).iter().all(|one| {
            let is_store = one.ip() == start + program.store as u64;
            let has_memory = one.op_kinds().any(|kind| kind == OpKind::Memory);
            (catalog::is_comparable(one.code()) || one.code() == Code::Int3)
                && !is_relaxed(one.mnemonic())
                && one.rflags_undefined() == 0
                && (is_store || !has_memory)
                && (is_store || !one.is_stack_instruction())
                && (one.flow_control() == FlowControl::Next || one.code() == Code::Int3)
                && (is_store || !writes_operands(&mut factory, one))
                && !(is_exchanged && one.rflags_modified() & RflagsBits::CF != 0)
        })
    })
}

/// Whether `instruction` changes what the store stores, or where to.
fn writes_operands(factory: &mut InstructionInfoFactory, instruction: &Instruction) -> bool {
    factory.info(instruction).used_registers().iter().any(|used| {
        let is_read = matches!(used.access(), OpAccess::Read | OpAccess::CondRead);
        let operands = [Register::RAX, Register::RBX, Register::RBP, Register::RSP];
        !is_read && operands.contains(&used.register().full_register())
    })
}

/// Some instructions, the store through `rbx` (or a push), and some more; a third of all programs
/// run twice.
fn program(random: &mut Random, store: Code, start: u64) -> Program {
    let mut program = Program {
        bytes: Vec::new(),
        store: 0,
        behind_store: 0,
        stored_bytes: 0,
        is_exchange: store == Code::Xchg_rm32_r32,
        control: None,
    };
    for _ in 0..random.below(4) {
        add(&mut program, &filler(random), start);
    }
    program.store = program.bytes.len();
    add(&mut program, &store_instruction(store), start);
    program.behind_store = program.bytes.len();
    program.stored_bytes = stored_bytes(store);
    for _ in 0..1 + random.below(7) {
        add(&mut program, &filler(random), start);
    }
    if random.chance(30) && store != Code::Push_r64 {
        program.control = Some(program.bytes.len());
        let counter = MemoryOperand::with_base(Register::RBP);
        add(&mut program, &Instruction::with1(Code::Dec_rm8, counter).expect("dec [rbp]"), start);
        let back = Instruction::with_branch(Code::Jne_rel8_64, start).expect("a branch");
        add(&mut program, &back, start);
    }
    program
}

fn add(program: &mut Program, instruction: &Instruction, start: u64) {
    let mut encoder = Encoder::new(64);
    let at = start + program.bytes.len() as u64;
    encoder.encode(instruction, at).expect("these can be encoded");
    program.bytes.extend_from_slice(&encoder.take_buffer());
}

const fn stored_bytes(store: Code) -> usize {
    match store {
        Code::Mov_rm8_r8 | Code::Mov_rm8_imm8 => 1,
        Code::Mov_rm16_r16 => 2,
        Code::Mov_rm32_r32 | Code::Xchg_rm32_r32 => 4,
        Code::Mov_rm64_r64 | Code::Push_r64 => 8,
        Code::Movups_xmmm128_xmm => 16,
        _ => 32,
    }
}

fn store_instruction(store: Code) -> Instruction {
    let memory = MemoryOperand::with_base(Register::RBX);
    let register = match store {
        Code::Mov_rm8_r8 => Register::AL,
        Code::Mov_rm16_r16 => Register::AX,
        Code::Mov_rm32_r32 | Code::Xchg_rm32_r32 => Register::EAX,
        Code::Mov_rm64_r64 => Register::RAX,
        Code::Movups_xmmm128_xmm => Register::XMM0,
        Code::VEX_Vmovdqu_ymmm256_ymm => Register::YMM0,
        Code::Push_r64 => {
            return Instruction::with1(store, Register::RAX).expect("push rax");
        }
        _ => return Instruction::with2(store, memory, 0x90).expect("mov byte [rbx], 0x90"),
    };
    Instruction::with2(store, memory, register).expect("a store of a register")
}

/// An instruction that names neither memory nor the registers of the store, and keeps carry.
fn filler(random: &mut Random) -> Instruction {
    let registers = [Register::RCX, Register::RDX, Register::R13, Register::R15, Register::R9];
    let register = random.pick(&registers);
    match random.below(5) {
        0 => Instruction::with2(Code::Mov_r64_imm64, register, random.next()),
        1 => Instruction::with2(Code::Mov_r64_rm64, register, Register::RSI),
        2 => Instruction::with1(Code::Inc_rm64, register),
        3 => Instruction::with1(Code::Not_rm64, register),
        _ => Instruction::with2(Code::Xchg_rm64_r64, register, Register::R8),
    }
    .expect("plain instructions")
}
