//! Loops that go through memory by pointers which move by constants, up and down, over every kind
//! of page border: what the engine runs in strips.

use crate::builder::{decode_all, decode_code, put_code};
use crate::case::{Case, Rules, State};
use crate::layout;
use crate::random::Random;
use crate::states::random_state;
use iced_x86::{Code, Encoder, Instruction, MemoryOperand, OpKind, Register};

const GENERAL: [Register; 15] = [
    Register::RAX,
    Register::RCX,
    Register::RDX,
    Register::RBX,
    Register::RBP,
    Register::RSI,
    Register::RDI,
    Register::R8,
    Register::R9,
    Register::R10,
    Register::R11,
    Register::R12,
    Register::R13,
    Register::R14,
    Register::R15,
];
/// General instructions with an operand in memory and one in a register, by its bytes.
const ON_GENERAL: [(Code, u8); 20] = [
    (Code::Mov_r64_rm64, 8),
    (Code::Mov_rm64_r64, 8),
    (Code::Mov_r32_rm32, 4),
    (Code::Mov_rm32_r32, 4),
    (Code::Mov_r16_rm16, 2),
    (Code::Mov_rm16_r16, 2),
    (Code::Mov_r8_rm8, 1),
    (Code::Mov_rm8_r8, 1),
    (Code::Movzx_r32_rm8, 5),
    (Code::Add_r64_rm64, 8),
    (Code::Add_rm64_r64, 8),
    (Code::Xor_r32_rm32, 4),
    (Code::Sub_rm32_r32, 4),
    (Code::Adc_r64_rm64, 8),
    (Code::Cmp_rm8_r8, 1),
    (Code::Cmp_r64_rm64, 8),
    (Code::Cmova_r64_rm64, 8),
    (Code::Imul_r64_rm64, 8),
    (Code::Movbe_r64_m64, 8),
    (Code::Xchg_rm64_r64, 8),
];
/// Vector instructions with an operand in memory, and the size of their registers.
const ON_VECTORS: [(Code, u8); 14] = [
    (Code::Movups_xmm_xmmm128, 16),
    (Code::Movups_xmmm128_xmm, 16),
    (Code::Movaps_xmm_xmmm128, 16),
    (Code::Movaps_xmmm128_xmm, 16),
    (Code::Addps_xmm_xmmm128, 16),
    (Code::Paddd_xmm_xmmm128, 16),
    (Code::Divsd_xmm_xmmm64, 16),
    (Code::Movq_xmm_xmmm64, 16),
    (Code::Movq_xmmm64_xmm, 16),
    (Code::Cvtsi2sd_xmm_rm64, 16),
    (Code::VEX_Vmovdqu_ymm_ymmm256, 32),
    (Code::VEX_Vmovdqu_ymmm256_ymm, 32),
    (Code::VEX_Vmovdqa_ymm_ymmm256, 32),
    (Code::VEX_Vmovntdq_m256_ymm, 32),
];
/// x87 instructions with an operand in memory, and on registers.
const ON_X87: [Code; 12] = [
    Code::Fld_m32fp,
    Code::Fld_m64fp,
    Code::Fld_m80fp,
    Code::Fild_m32int,
    Code::Fadd_m32fp,
    Code::Fmul_m64fp,
    Code::Fdivr_m64fp,
    Code::Fst_m64fp,
    Code::Fstp_m32fp,
    Code::Fstp_m64fp,
    Code::Fstp_m80fp,
    Code::Fistp_m64int,
];
const ON_X87_STACK: [Code; 4] =
    [Code::Fadd_st0_sti, Code::Fmulp_sti_st0, Code::Fxch_st0_sti, Code::Fchs];
/// Bytes by which pointers move.
const STRIDES: [i32; 15] = [1, 2, 4, 8, 8, 16, 16, 32, 32, 64, 128, 200, 512, 513, 24];
/// Loops go on while this holds of the counter.
const CONDITIONS: [Code; 5] = [
    Code::Jne_rel8_64,
    Code::Jne_rel32_64,
    Code::Jg_rel32_64,
    Code::Ja_rel32_64,
    Code::Jns_rel8_64,
];

/// A loop under construction.
struct Loop<'r> {
    random: &'r mut Random,
    state: State,
    body: Vec<Instruction>,
    /// Registers that address memory, one that nothing changes, the counter, and the others.
    pointers: Vec<Register>,
    still: Register,
    counter: Register,
    others: Vec<Register>,
    general: Vec<Register>,
}

/// The loop number `index` of the run with `seed`.
pub fn case(seed: u64, index: u64) -> Case {
    loop_of(seed, index, &GENERAL, long)
}

/// Likewise in 32-bit code.
pub fn case_compat(seed: u64, index: u64) -> Case {
    loop_of(seed, index, &GENERAL[..7], compat)
}

/// What makes a case of a state, a body and where it starts.
type Finish = fn(State, Vec<Instruction>, u64, String) -> Case;

fn loop_of(seed: u64, index: u64, general: &[Register], finish: Finish) -> Case {
    let mut random = Random::new(seed.wrapping_add(index.wrapping_mul(0x1_0000_0007)));
    let start = layout::CODE + 64 + random.below(0xd00);
    let mut one = Loop::new(&mut random, general);
    for _ in 0..=one.random.below(6) {
        one.add_something();
    }
    one.add_moves();
    one.add_counting();
    let Loop { random, mut state, mut body, .. } = one;
    body.push(with(Instruction::with_branch(random.pick(&CONDITIONS), start)));
    state.rip = start;
    finish(state, body, start, format!("loop seed {seed} index {index}"))
}

fn long(state: State, body: Vec<Instruction>, start: u64, name: String) -> Case {
    let code = assemble(&body, start);
    let mut patches = Vec::new();
    put_code(&mut patches, start, &code);
    let instructions = decode_all(&code, start);
    Case { name, state, patches, instructions, rules: Rules::default() }
}

/// The same loop with words of 32 bits.
fn compat(mut state: State, body: Vec<Instruction>, start: u64, name: String) -> Case {
    let body: Vec<_> = body.into_iter().map(twin).collect();
    let mut encoder = Encoder::new(32);
    let mut rip = start;
    for one in &body {
        rip += encoder.encode(one, rip).expect("operands fit the code") as u64;
    }
    let code = encoder.take_buffer();
    state.is_compat = true;
    state.gpr = state.gpr.map(|register| register & 0xffff_ffff);
    state.gpr[8..].fill(0);
    let mut patches = Vec::new();
    put_code(&mut patches, start, &code);
    let instructions = decode_code(&code, start, true);
    Case { name: format!("32-bit {name}"), state, patches, instructions, rules: Rules::default() }
}

/// The instruction of 32-bit code that does the same with words of 32 bits.
fn twin(mut one: Instruction) -> Instruction {
    one.set_code(twin_code(one.code()));
    for operand in 0..one.op_count() {
        match one.op_kind(operand) {
            OpKind::Register => {
                one.set_op_register(operand, twin_register(one.op_register(operand)))
            }
            OpKind::Immediate8to64 => one.set_op_kind(operand, OpKind::Immediate8to32),
            OpKind::Immediate32to64 => one.set_op_kind(operand, OpKind::Immediate32),
            OpKind::NearBranch64 => {
                let target = one.near_branch_target() as u32;
                one.set_op_kind(operand, OpKind::NearBranch32);
                one.set_near_branch32(target);
            }
            _ => {}
        }
    }
    if (0..one.op_count()).any(|operand| one.op_kind(operand) == OpKind::Memory) {
        let is_global = one.memory_base() == Register::RIP;
        let base = if is_global { Register::None } else { twin_register(one.memory_base()) };
        one.set_memory_base(base);
        one.set_memory_index(twin_register(one.memory_index()));
        if is_global || one.memory_displ_size() == 8 {
            one.set_memory_displ_size(4);
        }
        one.set_memory_displacement64(one.memory_displacement64() & 0xffff_ffff);
    }
    one
}

/// The register of 32-bit code in the place of one of 64-bit code.
fn twin_register(register: Register) -> Register {
    if register.is_gpr64() {
        Register::EAX + register.number() as u32
    } else if register.is_gpr8() {
        Register::AL + register.number() as u32 % 4
    } else if register.is_xmm() {
        Register::XMM0 + register.number() as u32 % 8
    } else if register.is_ymm() {
        Register::YMM0 + register.number() as u32 % 8
    } else {
        register
    }
}

fn twin_code(code: Code) -> Code {
    match code {
        Code::Mov_r64_rm64 => Code::Mov_r32_rm32,
        Code::Mov_rm64_r64 => Code::Mov_rm32_r32,
        Code::Add_r64_rm64 => Code::Add_r32_rm32,
        Code::Add_rm64_r64 => Code::Add_rm32_r32,
        Code::Adc_r64_rm64 => Code::Adc_r32_rm32,
        Code::Cmp_r64_rm64 => Code::Cmp_r32_rm32,
        Code::Cmova_r64_rm64 => Code::Cmova_r32_rm32,
        Code::Imul_r64_rm64 => Code::Imul_r32_rm32,
        Code::Movbe_r64_m64 => Code::Movbe_r32_m32,
        Code::Xchg_rm64_r64 => Code::Xchg_rm32_r32,
        Code::Cvtsi2sd_xmm_rm64 => Code::Cvtsi2sd_xmm_rm32,
        Code::Lea_r64_m => Code::Lea_r32_m,
        Code::Sub_rm64_imm32 => Code::Sub_rm32_imm32,
        Code::Add_rm64_imm32 => Code::Add_rm32_imm32,
        Code::Sub_rm64_imm8 => Code::Sub_rm32_imm8,
        Code::Inc_rm64 => Code::Inc_r32,
        Code::Dec_rm64 => Code::Dec_r32,
        Code::Jne_rel8_64 => Code::Jne_rel8_32,
        Code::Jne_rel32_64 => Code::Jne_rel32_32,
        Code::Jg_rel32_64 => Code::Jg_rel32_32,
        Code::Ja_rel32_64 => Code::Ja_rel32_32,
        Code::Jns_rel8_64 => Code::Jns_rel8_32,
        code => code,
    }
}

/// Loops whose index wraps, as a number with a sign, where a page ends.
pub fn wrapping() -> Vec<Case> {
    wrapping_of(long)
}

/// Likewise in 32-bit code, where numbers without a sign wrap.
pub fn wrapping_compat() -> Vec<Case> {
    wrapping_of(compat)
}

fn wrapping_of(finish: Finish) -> Vec<Case> {
    const SIGN: u64 = 1 << 63;
    let start = layout::CODE + 0x200;
    let (counter, index) = (Register::RDX, Register::RCX);
    let operand = MemoryOperand::with_base_index(Register::RBX, index);
    let moves = [(8, SIGN.wrapping_sub(64)), (-8, SIGN + 56)];
    let borders = (1..=7).map(|page| layout::DATA + page * 0x1000);
    let cases = borders.flat_map(|border| moves.map(|(stride, from)| (border, stride, from)));
    let case = |(border, stride, from): (u64, i32, u64)| {
        let body = [
            with(Instruction::with2(Code::Add_r64_rm64, Register::RAX, operand)),
            with(Instruction::with2(Code::Add_rm64_imm32, index, stride)),
            with(Instruction::with2(Code::Sub_rm64_imm8, counter, 1)),
            with(Instruction::with_branch(Code::Jne_rel32_64, start)),
        ];
        let mut state = State::new();
        state.rip = start;
        state.gpr[1] = from;
        state.gpr[2] = 30;
        state.gpr[3] = border.wrapping_sub(SIGN);
        finish(state, body.to_vec(), start, format!("index wraps at {border:#x} by {stride}"))
    };
    cases.map(case).collect()
}

/// A loop of `count` iterations over one page, again and again.
pub fn endless(count: u64) -> Case {
    let start = layout::CODE + 0x100;
    let (counter, pointer) = (Register::RCX, Register::RSI);
    let source = MemoryOperand::with_base(pointer);
    let target = MemoryOperand::with_base_displ(Register::RDI, 8);
    let mut body = [
        Instruction::with2(Code::Mov_r32_imm32, Register::ECX, count as u32),
        Instruction::with2(Code::Mov_r64_imm64, pointer, layout::DATA + 0x2000),
        Instruction::with2(Code::Add_r64_rm64, Register::RAX, source),
        Instruction::with2(Code::Add_rm64_r64, target, Register::RAX),
        Instruction::with2(Code::Add_rm64_imm8, pointer, 8),
        Instruction::with2(Code::Sub_rm64_imm8, counter, 1),
    ]
    .map(with)
    .to_vec();
    let inner = start + assemble(&body[..2], start).len() as u64;
    body.push(with(Instruction::with_branch(Code::Jne_rel32_64, inner)));
    body.push(with(Instruction::with_branch(Code::Jmp_rel32_64, start)));
    let code = assemble(&body, start);
    let mut state = State::new();
    state.rip = start;
    state.gpr[7] = layout::DATA + 0x6000;
    let mut patches = Vec::new();
    put_code(&mut patches, start, &code);
    let instructions = decode_all(&code, start);
    let name = format!("endless loops of {count}");
    Case { name, state, patches, instructions, rules: Rules::default() }
}

impl<'r> Loop<'r> {
    fn new(random: &'r mut Random, general: &[Register]) -> Self {
        let mut state = random_state(random);
        // Strings are not in here.
        state.rflags &= !(1 << 10);
        let mut free = general.to_vec();
        let mut take =
            |random: &mut Random| free.swap_remove(random.below(free.len() as u64) as usize);
        let counter = take(random);
        let still = take(random);
        let pointers: Vec<_> = (0..=random.below(3)).map(|_| take(random)).collect();
        for register in &mut state.gpr {
            *register = random.integer();
        }
        let mut one = Self {
            random,
            state,
            body: Vec::new(),
            pointers,
            still,
            counter,
            others: free,
            general: general.to_vec(),
        };
        let most = if one.random.chance(70) { 40 } else { 1200 };
        let count = 1 + one.random.below(most);
        one.set(counter, count);
        for pointer in one.pointers.clone() {
            let address = one.address();
            one.set(pointer, address);
        }
        let stack = layout::DATA + 0x2000 + one.random.below(0x800) * 8;
        one.set(Register::RSP, stack);
        one
    }

    fn set(&mut self, register: Register, value: u64) {
        self.state.gpr[register as usize - Register::RAX as usize] = value;
    }

    /// An address in the data, often near a border, sometimes aligned.
    fn address(&mut self) -> u64 {
        let page = layout::DATA + (1 + self.random.below(6)) * 0x1000;
        let offset = match self.random.below(4) {
            0 => self.random.below(0x1000),
            1 => 0x1000 - self.random.below(200),
            _ => self.random.below(0x40) * 64,
        };
        page + offset
    }

    /// The memory operand of one instruction; now and then a global or one on the stack.
    fn operand(&mut self) -> MemoryOperand {
        let pointer = self.random.pick(&self.pointers.clone());
        let near = self.random.between(-3, 12) * 8;
        let displacement = if self.random.chance(5) { near + 0x1000 } else { near };
        match self.random.below(20) {
            0 => {
                let global = layout::DATA + 0x1000 + self.random.below(0x1000);
                MemoryOperand::with_base_displ(Register::RIP, global as i64)
            }
            1 => MemoryOperand::with_base_displ(Register::RSP, near),
            2..=4 => {
                // An index that stays, or moves with the pointer.
                let index = self.random.pick(&self.pointers.clone());
                let scale = self.random.pick(&[1, 1, 2, 4, 8u64]);
                if index == pointer {
                    let (other, small) = (self.still, self.random.below(64));
                    self.set(other, small);
                    return MemoryOperand::with_base_index_scale_displ_size(
                        pointer,
                        other,
                        scale as u32,
                        displacement,
                        8,
                    );
                }
                // The index is a pointer's distance instead of an address, perhaps a number near
                // where numbers wrap.
                let small = self.random.below(0x800);
                let distance = match self.random.below(4) {
                    0 => (1 << 63) - small,
                    1 => 0u64.wrapping_sub(small),
                    _ => small,
                };
                let address = self.address();
                self.set(index, distance);
                self.set(pointer, address.wrapping_sub(distance.wrapping_mul(scale)));
                MemoryOperand::with_base_index_scale_displ_size(
                    pointer,
                    index,
                    scale as u32,
                    displacement,
                    8,
                )
            }
            _ => MemoryOperand::with_base_displ(pointer, displacement),
        }
    }

    /// One instruction, mostly one with an access.
    fn add_something(&mut self) {
        let register = self.random.pick(&self.others.clone());
        let one = match self.random.below(11) {
            10 if self.random.chance(70) => {
                let (code, operand) = (self.random.pick(&ON_X87), self.operand());
                Instruction::with1(code, operand)
            }
            10 => match self.random.pick(&ON_X87_STACK) {
                Code::Fchs => Ok(Instruction::with(Code::Fchs)),
                code @ Code::Fmulp_sti_st0 => {
                    Instruction::with2(code, Register::ST1, Register::ST0)
                }
                code => Instruction::with2(code, Register::ST0, Register::ST2),
            },
            0 => {
                let from = self.random.pick(&self.general.clone());
                Instruction::with2(
                    Code::Lea_r64_m,
                    register,
                    MemoryOperand::with_base_displ(from, 8),
                )
            }
            1 => {
                let from = self.random.pick(&self.general.clone());
                Instruction::with2(Code::Add_r64_rm64, register, from)
            }
            2..=4 => {
                let (code, bytes) = self.random.pick(&ON_VECTORS);
                let first = if bytes == 32 { Register::YMM0 } else { Register::XMM0 };
                let vector = first + self.random.below(16) as u32;
                self.with_memory(code, vector)
            }
            _ => {
                let (code, bytes) = self.random.pick(&ON_GENERAL);
                let part = match bytes {
                    1 => register_part(register, Register::AL),
                    2 => register_part(register, Register::AX),
                    4 | 5 => register_part(register, Register::EAX),
                    _ => register,
                };
                self.with_memory(code, part)
            }
        };
        self.body.push(with(one));
    }

    fn with_memory(
        &mut self,
        code: Code,
        register: Register,
    ) -> Result<Instruction, iced_x86::IcedError> {
        let operand = self.operand();
        let in_memory = with(Instruction::with2(code, operand, register));
        // Which operand is in memory shows in what can be encoded.
        match Encoder::new(64).encode(&in_memory, 0) {
            Ok(_) => Ok(in_memory),
            Err(_) => Instruction::with2(code, register, operand),
        }
    }

    /// Most pointers move, up or down, somewhere in the loop.
    fn add_moves(&mut self) {
        for pointer in self.pointers.clone() {
            if self.random.chance(20) {
                continue;
            }
            let stride = self.random.pick(&STRIDES);
            let stride = if self.random.chance(30) { -stride } else { stride };
            let one = match self.random.below(4) {
                0 => Instruction::with2(Code::Sub_rm64_imm32, pointer, -stride),
                1 => {
                    let place = MemoryOperand::with_base_displ(pointer, i64::from(stride));
                    Instruction::with2(Code::Lea_r64_m, pointer, place)
                }
                2 if stride.abs() == 1 && stride > 0 => Instruction::with1(Code::Inc_rm64, pointer),
                _ => Instruction::with2(Code::Add_rm64_imm32, pointer, stride),
            };
            let at = self.random.below(self.body.len() as u64 + 1) as usize;
            self.body.insert(at, with(one));
        }
    }

    /// Counts down; a few loops find that flags are alive at their start.
    fn add_counting(&mut self) {
        let count = match self.random.below(5) {
            0 => Instruction::with1(Code::Dec_rm64, self.counter),
            1 => Instruction::with2(Code::Sub_rm64_imm8, self.counter, 1),
            _ => Instruction::with2(Code::Sub_rm32_imm8, self.counter32(), 1),
        };
        self.body.push(with(count));
    }

    fn counter32(&self) -> Register {
        register_part(self.counter, Register::EAX)
    }
}

fn with(instruction: Result<Instruction, iced_x86::IcedError>) -> Instruction {
    instruction.expect("operands fit the code")
}

/// The part of a general register whose size is that of `first`.
fn register_part(register: Register, first: Register) -> Register {
    let number = register as u32 - Register::RAX as u32;
    // ah, ch, dh and bh stand between bl and spl.
    let number = if first == Register::AL && number >= 4 { number + 4 } else { number };
    first + number
}

fn assemble(body: &[Instruction], start: u64) -> Vec<u8> {
    let mut encoder = Encoder::new(64);
    let mut rip = start;
    for one in body {
        rip += encoder.encode(one, rip).expect("operands fit the code") as u64;
    }
    encoder.take_buffer()
}
