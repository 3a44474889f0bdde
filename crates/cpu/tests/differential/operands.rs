//! One random instruction of a given code: chooses each operand from what the opcode allows.

use crate::builder::{Builder, Draft, LANDING, Value};
use crate::layout;
use crate::place::string_kind;
use iced_x86::{Code, Instruction, Mnemonic, OpCodeOperandKind, OpKind, Register};

/// How often an instruction is tried before the code is given up in this case.
const TRIES: usize = 24;

const BYTE_REGISTERS: [Register; 20] = [
    Register::AL,
    Register::CL,
    Register::DL,
    Register::BL,
    Register::AH,
    Register::CH,
    Register::DH,
    Register::BH,
    Register::SPL,
    Register::BPL,
    Register::SIL,
    Register::DIL,
    Register::R8L,
    Register::R9L,
    Register::R10L,
    Register::R11L,
    Register::R12L,
    Register::R13L,
    Register::R14L,
    Register::R15L,
];

impl Builder<'_> {
    /// Appends a random instruction of `code`. On `None` nothing has changed.
    pub fn add(&mut self, code: Code) -> Option<()> {
        for _ in 0..TRIES {
            let before: Draft = self.draft.clone();
            if self.attempt(code).is_some() {
                return Some(());
            }
            self.draft = before;
        }
        None
    }

    fn attempt(&mut self, code: Code) -> Option<()> {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        // A 67 prefix would make 16-bit addresses of 32-bit code.
        let is_short = !self.is_compat() && self.random.chance(8);
        self.prepare(code, is_short)?;
        let kinds = code.op_code().op_kinds();
        for (operand, kind) in kinds.iter().enumerate() {
            self.operand(&mut instruction, operand as u32, *kind, is_short)?;
        }
        self.add_prefixes(&mut instruction);
        self.complete(&mut instruction)?;
        self.append(&instruction)
    }

    fn add_prefixes(&mut self, instruction: &mut Instruction) {
        let op_code = instruction.op_code();
        let has_memory = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
        if op_code.can_use_lock_prefix() && has_memory && self.random.chance(40) {
            instruction.set_has_lock_prefix(true);
        }
        if op_code.can_use_rep_prefix() && self.random.chance(70) {
            let is_compare = op_code.can_use_repne_prefix();
            if is_compare && self.random.chance(50) {
                instruction.set_has_repne_prefix(true);
            } else {
                instruction.set_has_rep_prefix(true);
            }
        }
    }

    fn operand(
        &mut self,
        instruction: &mut Instruction,
        operand: u32,
        kind: OpCodeOperandKind,
        is_short: bool,
    ) -> Option<()> {
        use OpCodeOperandKind as K;
        if let Some(register) = self.choose_register(kind)
            && (!is_memory_form(kind) || self.random.chance(30))
        {
            instruction.set_op_kind(operand, OpKind::Register);
            instruction.set_op_register(operand, register);
            return Some(());
        }
        match kind {
            K::imm8
            | K::imm8_const_1
            | K::imm8sex16
            | K::imm8sex32
            | K::imm8sex64
            | K::imm16
            | K::imm32
            | K::imm32sex64
            | K::imm64 => self.immediate(instruction, operand, kind),
            K::seg_rSI | K::es_rDI | K::seg_rDI | K::seg_rBX_al => {
                implied_operand(instruction, operand, kind, is_short || self.is_compat());
            }
            K::br64_1 | K::br64_4 => {
                instruction.set_op_kind(operand, OpKind::NearBranch64);
                instruction.set_near_branch64(self.landing(kind == K::br64_1));
            }
            K::br32_1 | K::br32_4 => {
                instruction.set_op_kind(operand, OpKind::NearBranch32);
                instruction.set_near_branch32(self.landing(kind == K::br32_1) as u32);
            }
            K::mem_offs => {
                self.offset_operand(instruction, operand, is_short || self.is_compat());
            }
            K::mem_vsib32x | K::mem_vsib64x | K::mem_vsib32y | K::mem_vsib64y => {
                instruction.set_op_kind(operand, OpKind::Memory);
                self.gather_operand(instruction, kind)?;
            }
            K::mem
            | K::mem_mib
            | K::r8_or_mem
            | K::r16_or_mem
            | K::r32_or_mem
            | K::r64_or_mem
            | K::mm_or_mem
            | K::xmm_or_mem
            | K::ymm_or_mem => {
                instruction.set_op_kind(operand, OpKind::Memory);
                let size = crate::prepare::size(instruction);
                let address = self.place(size);
                self.name_memory(instruction, address)?;
            }
            _ => return None,
        }
        Some(())
    }

    /// A register that fits `kind`.
    fn choose_register(&mut self, kind: OpCodeOperandKind) -> Option<Register> {
        use OpCodeOperandKind as K;
        let count = if self.is_compat() { 8 } else { 16 };
        let any = self.random.below(count) as u32;
        Some(match kind {
            K::r8_or_mem | K::r8_reg | K::r8_opcode if self.is_compat() => {
                BYTE_REGISTERS[any as usize]
            }
            K::r8_or_mem | K::r8_reg | K::r8_opcode => self.random.pick(&BYTE_REGISTERS),
            K::r16_or_mem | K::r16_reg | K::r16_reg_mem | K::r16_rm | K::r16_opcode => {
                Register::AX + any
            }
            K::r32_or_mem
            | K::r32_reg
            | K::r32_reg_mem
            | K::r32_rm
            | K::r32_opcode
            | K::r32_vvvv => Register::EAX + any,
            K::r64_or_mem
            | K::r64_reg
            | K::r64_reg_mem
            | K::r64_rm
            | K::r64_opcode
            | K::r64_vvvv => Register::RAX + any,
            K::mm_or_mem | K::mm_reg | K::mm_rm => Register::MM0 + any % 8,
            K::xmm_or_mem | K::xmm_reg | K::xmm_rm | K::xmm_vvvv | K::xmm_is4 | K::xmm_is5 => {
                Register::XMM0 + any
            }
            K::ymm_or_mem | K::ymm_reg | K::ymm_rm | K::ymm_vvvv | K::ymm_is4 | K::ymm_is5 => {
                Register::YMM0 + any
            }
            K::zmm_or_mem | K::zmm_reg | K::zmm_rm | K::zmm_vvvv => Register::ZMM0 + any,
            K::k_or_mem | K::k_reg | K::k_rm | K::k_vvvv => Register::K0 + any % 8,
            K::st0 => Register::ST0,
            K::sti_opcode => Register::ST0 + any % 8,
            K::al => Register::AL,
            K::cl => Register::CL,
            K::ax => Register::AX,
            K::dx => Register::DX,
            K::eax => Register::EAX,
            K::rax => Register::RAX,
            K::es => Register::ES,
            K::cs => Register::CS,
            K::ss => Register::SS,
            K::ds => Register::DS,
            K::fs => Register::FS,
            K::gs => Register::GS,
            _ => return None,
        })
    }

    fn immediate(&mut self, instr: &mut Instruction, operand: u32, kind: OpCodeOperandKind) {
        use OpCodeOperandKind as K;
        let value = self.random.integer();
        let is_second = (0..operand).any(|i| instr.op_kind(i) == OpKind::Immediate16);
        let op_kind = match kind {
            K::imm8 if is_second => {
                instr.set_immediate8_2nd((value % 4) as u8);
                OpKind::Immediate8_2nd
            }
            K::imm8 | K::imm8_const_1 => {
                let value = if kind == K::imm8 { value as u8 } else { 1 };
                instr.set_immediate8(value);
                OpKind::Immediate8
            }
            K::imm8sex16 => {
                instr.set_immediate8to16(i16::from(value as i8));
                OpKind::Immediate8to16
            }
            K::imm8sex32 => {
                instr.set_immediate8to32(i32::from(value as i8));
                OpKind::Immediate8to32
            }
            K::imm8sex64 => {
                instr.set_immediate8to64(i64::from(value as i8));
                OpKind::Immediate8to64
            }
            K::imm16 => {
                let is_frame = instr.mnemonic() == Mnemonic::Enter;
                instr.set_immediate16(if is_frame { value as u16 % 256 } else { value as u16 });
                OpKind::Immediate16
            }
            K::imm32 => {
                instr.set_immediate32(value as u32);
                OpKind::Immediate32
            }
            K::imm32sex64 => {
                instr.set_immediate32to64(i64::from(value as i32));
                OpKind::Immediate32to64
            }
            _ => {
                instr.set_immediate64(value);
                OpKind::Immediate64
            }
        };
        instr.set_op_kind(operand, op_kind);
    }

    /// `mov al, [constant]`: the constant has 64 bits, or 32 with a 67 prefix.
    fn offset_operand(&mut self, instruction: &mut Instruction, operand: u32, is_short: bool) {
        let address = self.place(8);
        instruction.set_op_kind(operand, OpKind::Memory);
        instruction.set_memory_displ_size(if is_short { 4 } else { 8 });
        let mask = if is_short { 0xffff_ffff } else { u64::MAX };
        instruction.set_memory_displacement64(address & mask);
    }

    /// A base and a vector of indexes, each of which leads to a place of its own.
    fn gather_operand(
        &mut self,
        instruction: &mut Instruction,
        kind: OpCodeOperandKind,
    ) -> Option<()> {
        use OpCodeOperandKind as K;
        let index = self.random.below(16) as usize;
        if self.draft.fixed_vectors & 1 << index != 0 {
            return None;
        }
        let scale = 1 << self.random.below(4);
        let near = layout::DATA + self.random.below(0x8000);
        self.name_based_for_gather(instruction, near)?;
        let is_long = matches!(kind, K::mem_vsib64x | K::mem_vsib64y);
        let (low, high) = crate::case::State::vector_halves(index);
        let width = if is_long { 8 } else { 4 };
        for half in [low, high] {
            for at in (half..half + 16).step_by(width) {
                let away = self.place(8).wrapping_sub(near) as i64 / scale;
                self.draft.state.fpu[at..at + width].copy_from_slice(&away.to_le_bytes()[..width]);
            }
        }
        self.draft.fixed_vectors |= 1 << index;
        let is_wide = matches!(kind, K::mem_vsib32y | K::mem_vsib64y);
        let first = if is_wide { Register::YMM0 } else { Register::XMM0 };
        instruction.set_memory_index(first + index as u32);
        instruction.set_memory_index_scale(scale as u32);
        Some(())
    }

    fn name_based_for_gather(&mut self, instruction: &mut Instruction, near: u64) -> Option<()> {
        let base = self.random.below(16) as usize;
        match self.draft.values[base] {
            Value::Free => self.assign(base, near),
            Value::Known(value) if i32::try_from(near.wrapping_sub(value) as i64).is_ok() => {
                instruction.set_memory_displ_size(8);
                instruction.set_memory_displacement64(near.wrapping_sub(value));
            }
            _ => return None,
        }
        instruction.set_memory_base(self.pointer(base));
        Some(())
    }

    /// Where a branch goes: behind the body, where only `int3` is; or into a hole.
    pub fn landing(&mut self, is_short: bool) -> u64 {
        let near = self.start + LANDING + self.random.below(20);
        if is_short || self.random.chance(50) {
            return near;
        }
        match self.random.below(10) {
            0 => layout::CODE - 0x800 + self.random.below(0x400),
            1 => layout::CODE_READ_ONLY + self.random.below(0xf00),
            2 => layout::DATA + 0x1000 + self.random.below(0x1000),
            _ => {
                let at = layout::CODE + self.random.below(0x2000);
                if at.wrapping_sub(self.start) < LANDING { near } else { at }
            }
        }
    }
}

/// Whether an operand of this kind is a register or memory.
fn is_memory_form(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as K;
    matches!(
        kind,
        K::r8_or_mem
            | K::r16_or_mem
            | K::r32_or_mem
            | K::r64_or_mem
            | K::mm_or_mem
            | K::xmm_or_mem
            | K::ymm_or_mem
    )
}

/// An operand in memory whose address register is implied; `is_narrow` says that it has 32 bits.
fn implied_operand(
    instruction: &mut Instruction,
    operand: u32,
    kind: OpCodeOperandKind,
    is_narrow: bool,
) {
    use OpCodeOperandKind as K;
    let kind = match (kind, is_narrow) {
        (K::seg_rBX_al, _) => {
            instruction.set_memory_base(if is_narrow { Register::EBX } else { Register::RBX });
            instruction.set_memory_index(Register::AL);
            OpKind::Memory
        }
        (K::seg_rDI, true) => OpKind::MemorySegEDI,
        (K::seg_rDI, false) => OpKind::MemorySegRDI,
        (kind, _) => string_kind(kind == K::es_rDI, is_narrow),
    };
    instruction.set_op_kind(operand, kind);
}
