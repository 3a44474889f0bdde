//! What kind of treatment an instruction needs: the allow-list.
//!
//! An instruction reaches emitted code only if this module says so. Whatever the virtual CPU does
//! not have is #UD, whatever a user program may not do is #GP, as on hardware.
//!
//! # Source
//! Intel SDM 2; the exceptions were compared with Linux 6.18.

use super::compat::{Flavor, is_compat};
use super::features::is_exposed;
use crate::{Exception, Gate};
use iced_x86::{
    Code, EncodingKind, Instruction, InstructionInfoFactory, InstructionInfoOptions, Mnemonic,
    OpAccess, OpKind, Register,
};
use machine::Access;

/// Most bytes of an instruction.
const LENGTH_MAX: usize = 15;

/// The treatment of one instruction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Class {
    /// Registers only: emitted as it is, but for stolen registers.
    Plain,
    /// One explicit memory operand: probe, then emitted with the operand replaced.
    Memory(Access),
    /// `lea`: an address is only computed.
    Lea,
    /// Nothing happens and nothing is accessed.
    Nop,
    /// `push` of a register or constant.
    Push,
    /// `push` of memory: a read, then a write.
    PushMemory,
    /// `pop` to a register.
    Pop,
    /// `pop` to memory: a read, then a write.
    PopMemory,
    /// `call` of a known address.
    Call,
    /// `call` through a register or memory.
    CallIndirect,
    /// Near `ret`.
    Return,
    /// `leave`.
    Leave,
    /// `xlat`.
    Translate,
    /// `jmp` to a known address.
    Jump,
    /// `jcc`.
    Branch,
    /// `loop`, `loope`, `loopne`, `jrcxz`, `jecxz`.
    Count,
    /// `jmp` through a register or memory.
    JumpIndirect,
    /// `cld` and `std`.
    Direction,
    /// `movs`, `stos`, `lods`, `cmps`, `scas`, repeated or not.
    String,
    /// `syscall`.
    Syscall,
    /// A system call of the i386 kind.
    Gate(Gate),
    /// Looked at in Rust before it is done: of a segment that not every access is allowed to.
    Checked,
    /// Done in Rust on the full register file.
    Emulate,
    /// Raises an exception.
    Trap(Exception),
}

impl Class {
    /// Whether control does not simply go on behind the instruction.
    pub(super) const fn ends_block(self) -> bool {
        matches!(
            self,
            Self::Call
                | Self::CallIndirect
                | Self::Return
                | Self::Jump
                | Self::Branch
                | Self::Count
                | Self::JumpIndirect
                | Self::Syscall
                | Self::Gate(_)
                | Self::Checked
                | Self::Emulate
                | Self::Trap(_)
        )
    }
}

impl Class {
    /// The treatment of an instruction that has been looked at: where the stack segment is not
    /// flat, what uses it is done in Rust. So are branches of odd code, and `pop` to memory.
    pub(super) fn when_checked(self, flavor: Flavor, instruction: &Instruction) -> Self {
        let is_stack = matches!(
            self,
            Self::Push
                | Self::PushMemory
                | Self::Pop
                | Self::PopMemory
                | Self::Call
                | Self::CallIndirect
                | Self::Return
                | Self::Leave
        );
        let is_branch =
            matches!(self, Self::Jump | Self::Branch | Self::Count | Self::JumpIndirect);
        let is_closed = flavor.is_closed(Register::SS) || flavor.is_odd();
        // Its operand is found when the stack has been read.
        let is_late = self == Self::PopMemory;
        let is_emulated = is_late || is_stack && is_closed || is_branch && flavor.is_odd();
        if is_emulated && is_compat(instruction) { Self::Emulate } else { self }
    }
}

/// What is known of a [`Code`] whatever the operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum ByCode {
    Unknown,
    /// Allowed; no instance with a memory operand was seen yet.
    Allowed,
    Fixed(Class),
    /// Plain without a memory operand, else a read.
    Reads,
    /// Plain without a memory operand, else a write or a read-modify-write.
    Writes,
    /// Plain without a memory operand, else emulated: the address depends on more than the operand.
    BitString,
}

/// Classifies instructions; remembers what it found per [`Code`].
#[derive(Debug)]
pub(super) struct Classifier {
    table: Vec<ByCode>,
    usage: Vec<Option<(u8, u8)>>,
    pub(super) factory: InstructionInfoFactory,
}

impl Classifier {
    pub(super) fn new() -> Self {
        let count = Code::values().len();
        Self {
            table: vec![ByCode::Unknown; count],
            usage: vec![None; count],
            factory: InstructionInfoFactory::new(),
        }
    }

    /// Which operands the instruction reads, and which it may write, as bits. Remembered by code.
    pub(super) fn usage(&mut self, instruction: &Instruction) -> (u8, u8) {
        let index = instruction.code() as usize;
        if let Some(usage) = self.usage[index] {
            return usage;
        }
        let options =
            InstructionInfoOptions::NO_MEMORY_USAGE | InstructionInfoOptions::NO_REGISTER_USAGE;
        let info = self.factory.info_options(instruction, options);
        let (mut reads, mut writes) = (0, 0);
        for operand in 0..instruction.op_count() {
            let (is_read, is_written) = match info.op_access(operand) {
                OpAccess::Read | OpAccess::CondRead => (1, 0),
                OpAccess::Write => (0, 1),
                OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => (1, 1),
                OpAccess::None | OpAccess::NoMemAccess => (0, 0),
            };
            reads |= is_read << operand;
            writes |= is_written << operand;
        }
        if names_one_twice(instruction) {
            // `xor eax, eax` counts as a write only: nothing to remember.
            return (u8::MAX, writes);
        }
        self.usage[index] = Some((reads, writes));
        (reads, writes)
    }

    /// The treatment of `instruction`.
    pub(super) fn classify(&mut self, instruction: &Instruction) -> Class {
        let index = instruction.code() as usize;
        let mut by_code = self.table[index];
        if by_code == ByCode::Unknown {
            by_code = examine(instruction.code());
            self.table[index] = by_code;
        }
        if by_code == ByCode::Allowed {
            by_code = self.examine_access(instruction);
            self.table[index] = by_code;
        }
        match by_code {
            ByCode::Fixed(class) => by_operands(class, instruction),
            _ if memory_operand(instruction).is_none() => Class::Plain,
            ByCode::Writes => Class::Memory(Access::Write),
            ByCode::BitString => Class::Emulate,
            ByCode::Reads | ByCode::Allowed | ByCode::Unknown => Class::Memory(Access::Read),
        }
    }

    /// Reads or writes of the memory operand. Without one, the code is looked at again when an
    /// instruction has one.
    fn examine_access(&mut self, instruction: &Instruction) -> ByCode {
        let Some(operand) = memory_operand(instruction) else {
            return match instruction.op_count() {
                0 => ByCode::Fixed(Class::Plain),
                _ => ByCode::Allowed,
            };
        };
        let options = InstructionInfoOptions::NO_MEMORY_USAGE;
        match self.factory.info_options(instruction, options).op_access(operand) {
            OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess | OpAccess::None => {
                ByCode::Reads
            }
            _ => ByCode::Writes,
        }
    }
}

/// Whether neighbouring operands are the same register.
fn names_one_twice(instruction: &Instruction) -> bool {
    (1..instruction.op_count()).any(|operand| {
        instruction.op_kind(operand) == OpKind::Register
            && instruction.op_register(operand) == instruction.op_register(operand - 1)
    })
}

/// What `code` is if it is not ordinary.
fn examine(code: Code) -> ByCode {
    if let Some(class) = control(code).or_else(|| special(code)) {
        return ByCode::Fixed(class);
    }
    if code.is_privileged() {
        return ByCode::Fixed(Class::Trap(Exception::GeneralProtection));
    }
    let is_known = matches!(code.encoding(), EncodingKind::Legacy | EncodingKind::VEX);
    if !is_known || !code.cpuid_features().iter().all(|feature| is_exposed(*feature)) {
        return ByCode::Fixed(Class::Trap(Exception::InvalidOpcode));
    }
    if is_bit_string(code) { ByCode::BitString } else { ByCode::Allowed }
}

/// The number of the operand that is in memory, if there is one.
pub(super) fn memory_operand(instruction: &Instruction) -> Option<u32> {
    (0..instruction.op_count()).find(|i| instruction.op_kind(*i) == OpKind::Memory)
}

/// Control transfers and the stack.
fn control(code: Code) -> Option<Class> {
    Some(match code {
        Code::Push_r64
        | Code::Push_r16
        | Code::Pushq_imm8
        | Code::Pushq_imm32
        | Code::Push_imm16
        | Code::Pushw_imm8
        | Code::Push_r32
        | Code::Pushd_imm8
        | Code::Pushd_imm32 => Class::Push,
        Code::Push_rm64 | Code::Push_rm32 | Code::Push_rm16 => Class::PushMemory,
        Code::Pop_r64 | Code::Pop_r32 | Code::Pop_r16 => Class::Pop,
        Code::Pop_rm64 | Code::Pop_rm32 | Code::Pop_rm16 => Class::PopMemory,
        Code::Call_rel32_64 | Code::Call_rel32_32 => Class::Call,
        Code::Call_rm64 | Code::Call_rm32 => Class::CallIndirect,
        Code::Retnq | Code::Retnq_imm16 | Code::Retnd | Code::Retnd_imm16 => Class::Return,
        Code::Leaveq | Code::Leaved => Class::Leave,
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Jmp_rel8_32 | Code::Jmp_rel32_32 => {
            Class::Jump
        }
        Code::Jmp_rm64 | Code::Jmp_rm32 => Class::JumpIndirect,
        Code::Loop_rel8_16_CX
        | Code::Loop_rel8_16_ECX
        | Code::Loop_rel8_32_CX
        | Code::Loope_rel8_16_CX
        | Code::Loope_rel8_16_ECX
        | Code::Loope_rel8_32_CX
        | Code::Loopne_rel8_16_CX
        | Code::Loopne_rel8_16_ECX
        | Code::Loopne_rel8_32_CX
        | Code::Jcxz_rel8_16
        | Code::Jcxz_rel8_32
        | Code::Jecxz_rel8_16 => Class::Emulate,
        Code::Syscall => Class::Syscall,
        Code::Cld | Code::Std => Class::Direction,
        Code::Xlat_m8 => Class::Translate,
        _ if code.is_jcc_short_or_near() => Class::Branch,
        _ => match code.mnemonic() {
            Mnemonic::Loop
            | Mnemonic::Loope
            | Mnemonic::Loopne
            | Mnemonic::Jrcxz
            | Mnemonic::Jecxz => Class::Count,
            _ => return None,
        },
    })
}

/// Instructions that are decided by name before their features are looked at.
fn special(code: Code) -> Option<Class> {
    use Mnemonic as M;
    Some(match code.mnemonic() {
        M::INVALID | M::Ud0 | M::Ud1 | M::Ud2 => Class::Trap(Exception::InvalidOpcode),
        M::Int3 => Class::Trap(Exception::Breakpoint),
        M::Int1 => Class::Trap(Exception::Debug),
        M::Int | M::Sysenter | M::Rdpmc => Class::Trap(Exception::GeneralProtection),
        M::Lea => Class::Lea,
        M::Nop
        | M::Reservednop
        | M::Pause
        | M::Endbr64
        | M::Endbr32
        | M::Rdsspd
        | M::Rdsspq
        | M::Prefetch
        | M::Prefetchw
        | M::Prefetchnta
        | M::Prefetcht0
        | M::Prefetcht1
        | M::Prefetcht2
        | M::Prefetchwt1
        | M::Prefetchit0
        | M::Prefetchit1
        | M::Cldemote => Class::Nop,
        M::Mov if moves_segment(code) => Class::Emulate,
        M::Mov if code.is_privileged() => Class::Trap(Exception::GeneralProtection),
        M::Movsd if code != Code::Movsd_m32_m32 => return None,
        M::Cmpsd if code != Code::Cmpsd_m32_m32 => return None,
        name if is_string(name) => Class::String,
        name if is_emulated(name) => Class::Emulate,
        name if is_kernel_only(name) => Class::Trap(Exception::InvalidOpcode),
        _ => return None,
    })
}

fn moves_segment(code: Code) -> bool {
    matches!(
        code,
        Code::Mov_rm16_Sreg
            | Code::Mov_r32m16_Sreg
            | Code::Mov_r64m16_Sreg
            | Code::Mov_Sreg_rm16
            | Code::Mov_Sreg_r32m16
            | Code::Mov_Sreg_r64m16
    )
}

/// Done in Rust: rare, or dependent on state that is virtual.
fn is_emulated(name: Mnemonic) -> bool {
    use Mnemonic as M;
    is_state_image(name)
        || is_masked(name)
        || matches!(
            name,
            M::Cpuid
                | M::Rdtsc
                | M::Rdtscp
                | M::Xgetbv
                | M::Pushfq
                | M::Pushf
                | M::Popfq
                | M::Popf
                | M::Enter
                | M::Leave
                | M::Push
                | M::Pop
                | M::Call
                | M::Jmp
                | M::Ret
                | M::Retf
                | M::Iretq
                | M::Iretd
                | M::Iret
                | M::Lar
                | M::Lsl
                | M::Verr
                | M::Verw
                | M::Lss
                | M::Lfs
                | M::Lgs
                | M::Sgdt
                | M::Sidt
                | M::Sldt
                | M::Str
                | M::Smsw
        )
        || matches!(
            name,
            M::Daa
                | M::Das
                | M::Aaa
                | M::Aas
                | M::Aam
                | M::Aad
                | M::Salc
                | M::Pusha
                | M::Pushad
                | M::Popa
                | M::Popad
                | M::Pushfd
                | M::Popfd
                | M::Bound
                | M::Into
                | M::Arpl
                | M::Les
                | M::Lds
        )
}

fn is_string(name: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        name,
        M::Movsb
            | M::Movsw
            | M::Movsd
            | M::Movsq
            | M::Stosb
            | M::Stosw
            | M::Stosd
            | M::Stosq
            | M::Lodsb
            | M::Lodsw
            | M::Lodsd
            | M::Lodsq
            | M::Scasb
            | M::Scasw
            | M::Scasd
            | M::Scasq
            | M::Cmpsb
            | M::Cmpsw
            | M::Cmpsd
            | M::Cmpsq
    )
}

/// Images of the floating-point state: they hold host addresses, and their size varies.
pub(super) fn is_state_image(name: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        name,
        M::Xsave
            | M::Xsave64
            | M::Xsavec
            | M::Xsavec64
            | M::Xsaveopt
            | M::Xsaveopt64
            | M::Xrstor
            | M::Xrstor64
            | M::Fxsave
            | M::Fxsave64
            | M::Fxrstor
            | M::Fxrstor64
            | M::Fnstenv
            | M::Fnsave
            | M::Fldenv
            | M::Frstor
    )
}

/// Several accesses, or accesses that depend on a mask.
fn is_masked(name: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        name,
        M::Maskmovq
            | M::Maskmovdqu
            | M::Vmaskmovdqu
            | M::Vmaskmovps
            | M::Vmaskmovpd
            | M::Vpmaskmovd
            | M::Vpmaskmovq
            | M::Vgatherdpd
            | M::Vgatherdps
            | M::Vgatherqpd
            | M::Vgatherqps
            | M::Vpgatherdd
            | M::Vpgatherdq
            | M::Vpgatherqd
            | M::Vpgatherqq
    )
}

/// #UD for a user program although iced knows the instruction and may call it privileged.
fn is_kernel_only(name: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        name,
        M::Clac
            | M::Stac
            | M::Rsm
            | M::Monitor
            | M::Mwait
            | M::Getsec
            | M::Vmcall
            | M::Vmmcall
            | M::Vmlaunch
            | M::Vmresume
            | M::Vmxoff
            | M::Vmxon
            | M::Vmptrld
            | M::Vmptrst
            | M::Vmclear
            | M::Vmread
            | M::Vmwrite
            | M::Vmfunc
            | M::Vmrun
            | M::Vmload
            | M::Vmsave
            | M::Invlpga
            | M::Invept
            | M::Invvpid
            | M::Invpcid
            | M::Skinit
            | M::Stgi
            | M::Clgi
            | M::Xsaves
            | M::Xsaves64
            | M::Xrstors
            | M::Xrstors64
    )
}

/// Bit strings: the register selects a bit anywhere around the operand, if that is in memory.
pub(super) fn is_bit_string(code: Code) -> bool {
    matches!(
        code,
        Code::Bt_rm16_r16
            | Code::Bt_rm32_r32
            | Code::Bt_rm64_r64
            | Code::Bts_rm16_r16
            | Code::Bts_rm32_r32
            | Code::Bts_rm64_r64
            | Code::Btr_rm16_r16
            | Code::Btr_rm32_r32
            | Code::Btr_rm64_r64
            | Code::Btc_rm16_r16
            | Code::Btc_rm32_r32
            | Code::Btc_rm64_r64
    )
}

/// The class where it depends on the operands too.
fn by_operands(class: Class, instruction: &Instruction) -> Class {
    match class {
        // More than 15 bytes are #GP, not #UD.
        Class::Trap(_) if instruction.is_invalid() && instruction.len() == LENGTH_MAX => {
            Class::Trap(Exception::GeneralProtection)
        }
        // Linux opens these gates to user programs.
        Class::Trap(_) if instruction.code() == Code::Int_imm8 => match instruction.immediate8() {
            3 => Class::Trap(Exception::Breakpoint),
            4 => Class::Trap(Exception::Overflow),
            0x80 => Class::Gate(Gate::Int80),
            _ => class,
        },
        Class::Trap(_) if instruction.code() == Code::Sysenter && is_compat(instruction) => {
            Class::Gate(Gate::Sysenter)
        }
        Class::Syscall if is_compat(instruction) => Class::Gate(Gate::Syscall),
        Class::PushMemory if instruction.op0_kind() == OpKind::Register => Class::Push,
        Class::PopMemory if instruction.op0_kind() == OpKind::Register => Class::Pop,
        _ => class,
    }
}

/// Whether `register` is a general register; its number in the encoding if so. High bytes count as
/// the register they are part of.
pub(super) fn number(register: Register) -> Option<u8> {
    if !register.is_gpr() {
        return None;
    }
    Some((register.full_register() as u32 - Register::RAX as u32) as u8)
}

/// Whether `register` is ah, ch, dh or bh.
pub(super) fn is_high_byte(register: Register) -> bool {
    matches!(register, Register::AH | Register::CH | Register::DH | Register::BH)
}
