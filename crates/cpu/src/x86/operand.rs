//! Guest instructions with their operands where they are now: addresses computed from homes, the
//! memory operand on scratch registers, stolen registers replaced by temporaries.
//!
//! An instruction that names r12 to r15 gets a temporary for each: a scratch register that is
//! free, else a guest register that the instruction does not use, parked in a spill word meanwhile.
//! ah, bh, ch and dh cannot be named next to r14: such an instruction gets its memory operand on a
//! low register.

use super::block::Step;
use super::classify::{is_high_byte, memory_operand, number};
use super::compat::is_compat;
use super::emit::{MASK, Mem, RAX, RBX, RCX, RDI, RDX, RSI, RSP, Reg, S0, S1};
use super::group::Anchor;
use super::probe::Want;
use super::translate::Emitter;
use super::words;
use iced_x86::{Code, CodeSize, Instruction, MemorySize, OpKind, Register};
use machine::Access;

/// A stolen register and what stands in for it.
#[derive(Clone, Copy, Debug)]
struct Lease {
    stolen: Reg,
    temporary: Reg,
    is_read: bool,
    is_written: bool,
}

/// The stand-ins of one instruction.
#[derive(Clone, Copy, Default, Debug)]
struct Leases {
    leases: [Option<Lease>; 3],
    spilled: [Option<Reg>; 2],
    /// A low register for the address, because of a high byte.
    pointer: Option<Reg>,
}

const GPR8: [Register; 16] = [
    Register::AL,
    Register::CL,
    Register::DL,
    Register::BL,
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

pub(super) fn register_of(number: Reg, bytes: usize) -> Register {
    let index = u32::from(number);
    match bytes {
        1 => GPR8[number as usize],
        2 => Register::AX + index,
        4 => Register::EAX + index,
        _ => Register::RAX + index,
    }
}

/// Bytes of the memory operand, at least 1.
pub(super) fn operand_bytes(instruction: &Instruction) -> u16 {
    if instruction.code() == Code::Movsxd_r16_rm16 {
        // Some CPUs read four bytes.
        return 4;
    }
    let size = instruction.memory_size();
    if size == MemorySize::Unknown { 1 } else { (size.size() as u16).clamp(1, 64) }
}

/// Whether a non-canonical address of the operand is #SS: it is relative to rsp or rbp. Prefixes
/// other than FS and GS do not count.
pub(super) fn is_stack_operand(instruction: &Instruction) -> bool {
    if is_compat(instruction) {
        return segment_of(instruction) == Register::SS;
    }
    let base = instruction.memory_base().full_register();
    matches!(base, Register::RSP | Register::RBP)
        && !matches!(instruction.segment_prefix(), Register::FS | Register::GS)
}

/// What the memory operand of `instruction` asks for.
pub(super) fn want(instruction: &Instruction, access: Access) -> Want {
    Want {
        access,
        bytes: operand_bytes(instruction),
        is_stack: is_stack_operand(instruction),
        base: number(instruction.memory_base()),
    }
}

impl Emitter {
    /// An instruction without a memory operand.
    pub(super) fn plain(&mut self, step: &Step) {
        let instruction = &step.instruction;
        let mut leases = Leases::default();
        find_stolen(step, &mut leases);
        if leases.leases[0].is_none() {
            self.encode(instruction);
            return;
        }
        // Inside of a group r14 is taken.
        let free: &[Reg] = if self.now.is_grouped { &[S1] } else { &[S1, S0] };
        self.assign(instruction, &mut leases, free);
        let mut copy = *instruction;
        self.emit_leased(&mut copy, &leases);
    }

    /// An instruction with one memory operand.
    pub(super) fn memory(&mut self, step: &Step, access: Access) {
        let instruction = &step.instruction;
        self.address(instruction, 0);
        if self.is_predicted(step) {
            self.load_predicted(step);
        } else {
            self.probe(want(instruction, access));
            self.on_pointer(step, None);
        }
    }

    /// Emits an instruction whose operand is at `[r14+r13]`, or at `[r14+offset]`.
    pub(super) fn on_pointer(&mut self, step: &Step, offset: Option<i32>) {
        let mut copy = step.instruction;
        without_absolute(&mut copy);
        let mut leases = Leases::default();
        find_stolen(step, &mut leases);
        let has_high = (0..copy.op_count())
            .any(|i| copy.op_kind(i) == OpKind::Register && is_high_byte(copy.op_register(i)));
        if has_high {
            self.assign_pointer(&copy, &mut leases);
        } else if leases.leases[0].is_some() {
            if offset.is_none() {
                self.asm.lea(S0, Mem::sum(S0, S1));
            }
            self.assign(&copy, &mut leases, &[S1]);
        }
        let is_folded = offset.is_some() && !self.now.is_indexed || leases.leases[0].is_some();
        let displacement = offset.unwrap_or(0);
        set_operand(&mut copy, &leases, is_folded, displacement);
        if let Some(pointer) = leases.pointer {
            let place = offset.map_or(Mem::sum(S0, S1), |offset| self.group_place(offset));
            self.asm.store(Mem::word(words::SPILL), pointer);
            self.asm.lea(pointer, place);
        }
        self.emit_leased(&mut copy, &leases);
        if let Some(pointer) = leases.pointer {
            self.asm.load(pointer, Mem::word(words::SPILL));
        }
    }

    /// Emits `copy` with its stolen registers replaced, between the loads and stores that this
    /// needs.
    fn emit_leased(&mut self, copy: &mut Instruction, leases: &Leases) {
        for (slot, register) in leases.spilled.iter().enumerate() {
            if let Some(register) = register {
                self.asm.store(Mem::word(words::SPILL + slot), *register);
            }
        }
        for lease in leases.leases.iter().flatten() {
            let is_held = self.asm.holder(lease.stolen) == Some(lease.temporary);
            if lease.is_read && !is_held {
                self.asm.load(lease.temporary, Mem::word(words::home(lease.stolen)));
            }
        }
        rename(copy, leases);
        self.note_spills(leases);
        self.encode(copy);
        for lease in leases.leases.iter().flatten() {
            if lease.is_written {
                self.set_home(lease.stolen, lease.temporary);
            } else if lease.temporary >= S1 && self.asm.holder(lease.stolen).is_none() {
                self.asm.touch(lease.temporary);
                self.asm.hold(lease.temporary, lease.stolen);
            }
        }
        for (slot, register) in leases.spilled.iter().enumerate() {
            if let Some(register) = register {
                self.asm.load(*register, Mem::word(words::SPILL + slot));
            }
        }
    }

    /// Stores `from` to the home of a stolen register.
    pub(super) fn store_home(&mut self, register: Reg, from: Reg) {
        self.asm.store(Mem::word(words::home(register)), from);
        self.leave_home(register);
        if from >= S1 {
            self.asm.hold(from, register);
        }
    }

    /// Gives a stolen register the value of `from`, now or when the next instruction can fault.
    fn set_home(&mut self, register: Reg, from: Reg) {
        if !self.now.is_quiet || from < S1 {
            self.asm.touch(from);
            self.store_home(register, from);
            return;
        }
        if let Some(holder) = self.asm.holder(register) {
            self.asm.supersede(holder);
        }
        self.asm.touch(from);
        self.asm.hold_ahead(from, register);
    }

    /// Stores the low two bytes of `from` to the home of a stolen register.
    pub(super) fn store_home16(&mut self, register: Reg, from: Reg) {
        self.asm.store16(Mem::word(words::home(register)), from);
        self.leave_home(register);
    }

    /// The home of a register changes: no scratch register is equal to it any more.
    fn leave_home(&mut self, register: Reg) {
        if let Some(holder) = self.asm.holder(register) {
            self.asm.supersede(holder);
        }
    }

    fn note_spills(&mut self, leases: &Leases) {
        let Some(point) = self.points.last_mut() else { return };
        point.spilled = leases.spilled.map(|register| register.unwrap_or(0xff));
        if let Some(pointer) = leases.pointer {
            point.spilled[0] = pointer;
        }
    }

    /// Chooses temporaries: a scratch register that holds the value, another scratch register, and
    /// at last registers that the instruction does not use.
    fn assign(&mut self, instruction: &Instruction, leases: &mut Leases, free: &[Reg]) {
        let mut taken = 0u16;
        for lease in leases.leases.iter_mut().flatten() {
            let holder = self.asm.holder(lease.stolen).filter(|holder| free.contains(holder));
            lease.temporary = holder.unwrap_or(0);
            taken |= holder.map_or(0, |holder| 1 << holder);
        }
        for scratch in free.iter().filter(|scratch| taken & 1 << **scratch == 0) {
            if leases.leases.iter().flatten().any(|lease| lease.temporary == 0) {
                self.asm.settle(*scratch);
            }
        }
        let mut used = None;
        let mut spills = 0;
        for lease in leases.leases.iter_mut().flatten().filter(|lease| lease.temporary == 0) {
            let scratch = free
                .iter()
                .filter(|scratch| taken & 1 << **scratch == 0)
                .min_by_key(|scratch| self.asm.worth(**scratch));
            if let Some(scratch) = scratch {
                lease.temporary = *scratch;
                taken |= 1 << *scratch;
                continue;
            }
            let mask = *used.get_or_insert_with(|| used_registers(&mut self.factory, instruction));
            let chosen = (0..MASK)
                .find(|r| *r != RSP && mask & 1 << r == 0)
                .expect("no instruction uses eleven registers and three stolen ones");
            used = Some(mask | 1 << chosen);
            lease.temporary = chosen;
            leases.spilled[spills] = Some(chosen);
            spills += 1;
        }
    }

    fn assign_pointer(&mut self, instruction: &Instruction, leases: &mut Leases) {
        let mask = used_registers(&mut self.factory, instruction);
        let low = [RAX, RCX, RDX, RBX, RSI, RDI];
        leases.pointer = low.into_iter().find(|r| mask & 1 << r == 0);
    }

    /// Computes the address of the memory operand into r14; rsp counts as `rsp_add` more.
    pub(super) fn address(&mut self, instruction: &Instruction, rsp_add: i32) {
        self.effective(instruction, rsp_add, S0);
        self.add_segment(segment_of(instruction));
    }

    /// Computes the offset part of the address of the memory operand into `to`; changes r13 and
    /// r14, of which only `to` if at most one of the registers lives in memory.
    pub(super) fn effective(&mut self, instruction: &Instruction, rsp_add: i32, to: Reg) {
        let base = instruction.memory_base();
        let index = instruction.memory_index();
        let displacement = instruction.memory_displacement64();
        if matches!(base, Register::RIP | Register::EIP) {
            self.asm.constant(to, instruction.ip_rel_memory_address());
            return;
        }
        let is_short = base.is_gpr32() || index.is_gpr32() || self.now.flavor.is_compat();
        if base == Register::None && index == Register::None {
            let is_short = instruction.memory_displ_size() == 4;
            self.asm.constant(to, if is_short { displacement & 0xffff_ffff } else { displacement });
            return;
        }
        let add = if number(base) == Some(RSP) { rsp_add } else { 0 };
        let scale = instruction.memory_index_scale().trailing_zeros() as u8;
        let (base, index) = self.current_pair(number(base), number(index), to);
        let index = index.map(|register| (register, scale));
        let displacement = (displacement as i32).wrapping_add(add);
        let place = Mem { base, index, displacement, is_gs: false };
        let is_plain = !is_short || self.now.flavor.is_compat();
        if let (Some(base), None, 0, true) = (base, index, displacement, is_plain) {
            if base != to {
                self.asm.copy(to, base);
            }
        } else if is_short {
            self.asm.lea32(to, place);
        } else {
            self.asm.lea(to, place);
        }
        if instruction.memory_base().is_gpr16() || instruction.memory_index().is_gpr16() {
            self.asm.zero_extend16(to, to);
        }
    }

    /// Computes the address at `low` from an anchor into r14.
    pub(super) fn anchor_address(&mut self, anchor: Anchor, low: i32) {
        if anchor.base.is_none() && anchor.index.is_none() {
            let address = anchor.absolute.wrapping_add(i64::from(low) as u64);
            let is_compat = self.now.flavor.is_compat();
            self.asm.constant(S0, if is_compat { address & 0xffff_ffff } else { address });
        } else {
            let base = anchor.base.map(|register| self.current(register, S0));
            let index = anchor.index.map(|(register, scale)| (self.current(register, S1), scale));
            self.lea_word(S0, Mem { base, index, displacement: low, is_gs: false });
        }
        self.add_segment(anchor.segment);
    }

    /// Adds the base of a segment to the address in r14; changes r13.
    pub(super) fn add_segment(&mut self, segment: Register) {
        if let Some(base) = self.segment_base(segment) {
            self.asm.load(S1, Mem::word(base));
            self.lea_word(S0, Mem::sum(S0, S1));
        }
    }

    /// The word that holds the base of a segment, if it may be anything but 0.
    pub(super) fn segment_base(&self, segment: Register) -> Option<usize> {
        match segment {
            Register::FS => Some(words::FS_BASE),
            Register::GS => Some(words::GS_BASE),
            _ if !self.now.flavor.is_closed(segment) => None,
            Register::ES => Some(words::ES_BASE),
            Register::SS => Some(words::SS_BASE),
            Register::DS => Some(words::DS_BASE),
            Register::CS => Some(words::CS_BASE),
            _ => None,
        }
    }

    /// `lea to, place`; in 32-bit code the sum is modulo 2^32.
    pub(super) fn lea_word(&mut self, to: Reg, place: Mem) {
        if self.now.flavor.is_compat() {
            self.asm.lea32(to, place);
        } else {
            self.asm.lea(to, place);
        }
    }

    /// The register that holds guest register `register` now: itself, a scratch register that is
    /// equal to it, or `scratch` after a load.
    pub(super) fn current(&mut self, register: Reg, scratch: Reg) -> Reg {
        if register < MASK {
            return register;
        }
        if let Some(holder) = self.asm.holder(register) {
            return holder;
        }
        self.asm.load(scratch, Mem::word(words::home(register)));
        self.asm.hold(scratch, register);
        scratch
    }

    /// Likewise for the two registers of an address, of which one is loaded to `to` if that is a
    /// scratch register, and the other one only if it has to be.
    fn current_pair(
        &mut self,
        base: Option<Reg>,
        index: Option<Reg>,
        to: Reg,
    ) -> (Option<Reg>, Option<Reg>) {
        let (first, second) = if to == S1 { (S1, S0) } else { (S0, S1) };
        let held = |asm: &super::emit::Assembler, register: Option<Reg>| {
            register.and_then(|register| asm.holder(register))
        };
        // A scratch register that the other one is in must not be loaded.
        let base_scratch = if held(&self.asm, index) == Some(first) { second } else { first };
        let base = base.map(|register| self.current(register, base_scratch));
        let index_scratch = if base == Some(first) { second } else { first };
        let index = index.map(|register| self.current(register, index_scratch));
        (base, index)
    }

    /// `lea`: the segment is ignored, nothing is accessed.
    pub(super) fn lea(&mut self, instruction: &Instruction) {
        let target = instruction.op0_register();
        let Some(number) = number(target) else { return };
        let bytes = target.size();
        let is_here = |register| super::classify::number(register).is_none_or(|n| n < MASK);
        let is_direct = number < MASK
            && !instruction.is_ip_rel_memory_operand()
            && !instruction.memory_base().is_gpr16()
            && !instruction.memory_index().is_gpr16()
            && is_here(instruction.memory_base())
            && is_here(instruction.memory_index());
        if is_direct {
            let mut copy = *instruction;
            copy.set_segment_prefix(Register::None);
            self.encode(&copy);
            return;
        }
        if number < MASK && bytes == 8 && !is_short_address(instruction) {
            self.effective(instruction, 0, number);
            return;
        }
        self.effective(instruction, 0, S0);
        match (bytes, number >= MASK) {
            (8, false) => self.asm.copy(number, S0),
            (4, false) => self.asm.copy32(number, S0),
            (8, true) => self.store_home(number, S0),
            (4, true) => {
                self.asm.copy32(S0, S0);
                self.store_home(number, S0);
            }
            (_, true) => self.store_home16(number, S0),
            (_, false) => self.asm.copy16(number, S0),
        }
    }

    /// `xlat`: al = [rbx + al].
    pub(super) fn translate(&mut self, instruction: &Instruction) {
        self.asm.zero_extend8(S0, RAX);
        self.asm.lea(S0, Mem::sum(RBX, S0));
        match instruction.memory_base() {
            Register::EBX => self.asm.copy32(S0, S0),
            Register::BX => self.asm.zero_extend16(S0, S0),
            _ => {}
        }
        self.add_segment(segment_of(instruction));
        self.probe(Want::elsewhere(Access::Read, 1));
        self.asm.bytes(&[0x43, 0x8a, 0x04, 0x2e]); // mov al, [r14+r13]
    }
}

/// The segment of the memory operand. In 64-bit code only prefixes of FS and GS count.
pub(super) fn segment_of(instruction: &Instruction) -> Register {
    match instruction.code_size() {
        CodeSize::Code16 | CodeSize::Code32 => match instruction.segment_prefix() {
            // Also that of the implied source of string instructions.
            Register::None if instruction.is_string_instruction() => Register::DS,
            Register::None => instruction.memory_segment(),
            prefix => prefix,
        },
        _ => instruction.segment_prefix(),
    }
}

/// Whether the address of the memory operand is taken modulo 2^32, or 2^16.
pub(super) fn is_short_address(instruction: &Instruction) -> bool {
    let is_narrow = |register: Register| register.is_gpr32() || register.is_gpr16();
    is_narrow(instruction.memory_base())
        || is_narrow(instruction.memory_index())
        || instruction.memory_base() == Register::EIP
        || instruction.memory_displ_size() == 4
            && instruction.memory_base() == Register::None
            && instruction.memory_index() == Register::None
}

/// All ones of the offset of the memory operand.
pub(super) fn offset_mask(instruction: &Instruction) -> u64 {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let is_absolute = base == Register::None && index == Register::None;
    if base.is_gpr16() || index.is_gpr16() || is_absolute && instruction.memory_displ_size() == 2 {
        0xffff
    } else if is_short_address(instruction) || is_compat(instruction) {
        0xffff_ffff
    } else {
        u64::MAX
    }
}

/// Finds which stolen registers the register operands name, and how they are used.
fn find_stolen(step: &Step, leases: &mut Leases) {
    let instruction = &step.instruction;
    for operand in 0..instruction.op_count() {
        if instruction.op_kind(operand) != OpKind::Register {
            continue;
        }
        let register = instruction.op_register(operand);
        let Some(stolen) = number(register).filter(|number| *number >= MASK) else { continue };
        let is_written = step.writes >> operand & 1 != 0;
        // A write of one or two bytes keeps the others.
        let is_read = step.reads >> operand & 1 != 0 || register.size() < 4;
        merge(leases, Lease { stolen, temporary: 0, is_read, is_written });
    }
}

fn merge(leases: &mut Leases, new: Lease) {
    for slot in &mut leases.leases {
        match slot {
            Some(lease) if lease.stolen == new.stolen => {
                lease.is_read |= new.is_read;
                lease.is_written |= new.is_written;
                return;
            }
            Some(_) => {}
            None => {
                *slot = Some(new);
                return;
            }
        }
    }
}

/// All general registers that an instruction names or uses, as bits.
pub(super) fn used_registers(
    factory: &mut iced_x86::InstructionInfoFactory,
    instruction: &Instruction,
) -> u16 {
    let info = factory.info(instruction);
    info.used_registers()
        .iter()
        .filter_map(|used| number(used.register()))
        .fold(0, |mask, register| mask | 1 << register)
}

fn rename(copy: &mut Instruction, leases: &Leases) {
    for operand in 0..copy.op_count() {
        if copy.op_kind(operand) != OpKind::Register {
            continue;
        }
        let register = copy.op_register(operand);
        let Some(stolen) = number(register) else { continue };
        let lease = leases.leases.iter().flatten().find(|lease| lease.stolen == stolen);
        if let Some(lease) = lease {
            copy.set_op_register(operand, register_of(lease.temporary, register.size()));
        }
    }
}

/// Puts the memory operand where the probe left it.
fn set_operand(copy: &mut Instruction, leases: &Leases, is_folded: bool, displacement: i32) {
    debug_assert!(memory_operand(copy).is_some(), "the instruction has a memory operand");
    copy.set_segment_prefix(Register::None);
    copy.set_memory_index_scale(1);
    let (base, index, displacement) = match leases.pointer {
        Some(pointer) => (register_of(pointer, 8), Register::None, 0),
        None if is_folded => (Register::R14, Register::None, displacement),
        None => (Register::R14, Register::R13, displacement),
    };
    copy.set_memory_base(base);
    copy.set_memory_index(index);
    copy.set_memory_displacement64(i64::from(displacement) as u64);
    let size = match displacement {
        0 => 0,
        -128..=127 => 1,
        _ => 8,
    };
    copy.set_memory_displ_size(size);
}

/// Turns a `mov` with an absolute 64-bit address into the form with ModRM.
pub(super) fn without_absolute(copy: &mut Instruction) {
    let code = match copy.code() {
        Code::Mov_AL_moffs8 => Code::Mov_r8_rm8,
        Code::Mov_AX_moffs16 => Code::Mov_r16_rm16,
        Code::Mov_EAX_moffs32 => Code::Mov_r32_rm32,
        Code::Mov_RAX_moffs64 => Code::Mov_r64_rm64,
        Code::Mov_moffs8_AL => Code::Mov_rm8_r8,
        Code::Mov_moffs16_AX => Code::Mov_rm16_r16,
        Code::Mov_moffs32_EAX => Code::Mov_rm32_r32,
        Code::Mov_moffs64_RAX => Code::Mov_rm64_r64,
        _ => return,
    };
    copy.set_code(code);
}
