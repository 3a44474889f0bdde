//! What particular instructions need to do something worth comparing: a divisor that fits, a
//! return address on the stack, a legal image to restore.

use crate::builder::{Builder, Value};
use crate::layout;
use crate::random::Random;
use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const RSP: usize = 4;
const RBP: usize = 5;
const RSI: usize = 6;
const RDI: usize = 7;

/// Whether `instruction` leaves flags alone when a count in `cl` or `rcx` is zero.
pub fn may_keep_flags(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    let is_string = instruction.is_string_instruction();
    let counts_in_cl = instruction.op_count() > 0
        && instruction.op_register(instruction.op_count() - 1) == Register::CL;
    (is_string || counts_in_cl)
        && matches!(
            instruction.mnemonic(),
            M::Shl
                | M::Shr
                | M::Sar
                | M::Sal
                | M::Rol
                | M::Ror
                | M::Rcl
                | M::Rcr
                | M::Shld
                | M::Shrd
                | M::Cmpsb
                | M::Cmpsw
                | M::Cmpsd
                | M::Cmpsq
                | M::Scasb
                | M::Scasw
                | M::Scasd
                | M::Scasq
        )
}

/// Bytes that the memory operand of `instruction` covers.
pub fn size(instruction: &Instruction) -> u64 {
    use Mnemonic as M;
    match instruction.mnemonic() {
        M::Xsave | M::Xsave64 | M::Xsavec | M::Xsavec64 | M::Xrstor | M::Xrstor64 => 832,
        _ => instruction.memory_size().size() as u64,
    }
}

impl Builder<'_> {
    /// Settles registers that `code` uses without naming them.
    pub fn prepare(&mut self, code: Code, is_short: bool) -> Option<()> {
        use Mnemonic as M;
        if code.is_stack_instruction() {
            self.prepare_stack()?;
        }
        match code.mnemonic() {
            M::Div | M::Idiv if self.random.chance(75) => {
                self.settle(RDX, |random| if random.chance(50) { 0 } else { random.below(9) });
                self.settle(RAX, |random| random.integer() >> 1);
            }
            M::Shl
            | M::Shr
            | M::Sar
            | M::Sal
            | M::Rol
            | M::Ror
            | M::Rcl
            | M::Rcr
            | M::Shld
            | M::Shrd => {
                self.settle(RCX, |random| random.integer() & !0xff | random.below(70));
            }
            M::Loop | M::Loope | M::Loopne | M::Jrcxz | M::Jecxz => {
                self.settle(RCX, |random| random.pick(&[0, 1, 2, 1 << 32, 1 << 32 | 1, 7]));
            }
            M::Leave => self.point(RBP, 8, 0, false)?,
            M::Enter => self.point(RBP, 32, 0, false)?,
            M::Xlatb => {
                let al = self.settle(RAX, Random::integer)? & 0xff;
                self.point(RBX, 1, al, is_short)?;
            }
            M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => self.point(RDI, 16, 0, is_short)?,
            M::Xsave | M::Xsave64 | M::Xsavec | M::Xsavec64 | M::Xrstor | M::Xrstor64 => {
                // More components than seven the host may have and the guest has not.
                let low = self.settle(RAX, |random| random.next() & 7)?;
                let high = self.settle(RDX, |_| 0)?;
                if low as u32 > 7 || high as u32 != 0 {
                    return None;
                }
            }
            _ => self.prepare_string(code, is_short)?,
        }
        Some(())
    }

    /// `rsp` must point to memory; mostly aligned.
    fn prepare_stack(&mut self) -> Option<()> {
        let mut place = self.place(8);
        if (layout::CODE..layout::CODE_END).contains(&place) {
            // Nothing can be poked there, and what `int3`s read as is no address to return to.
            place = layout::DATA + 0x2800;
        }
        let place = if self.random.chance(80) { place & !7 } else { place };
        self.settle(RSP, |_| place).map(|_| ())
    }

    /// Makes register `index` such that it plus `more` is a place.
    fn point(&mut self, index: usize, size: u64, more: u64, is_short: bool) -> Option<()> {
        let place = self.place(size).wrapping_sub(more);
        let junk = if is_short && self.random.chance(50) { self.random.next() << 32 } else { 0 };
        self.settle(index, |_| place ^ junk).map(|_| ())
    }

    fn prepare_string(&mut self, code: Code, is_short: bool) -> Option<()> {
        let kinds = code.op_code().op_kinds();
        use iced_x86::OpCodeOperandKind as K;
        let uses_source = kinds.contains(&K::seg_rSI);
        let uses_destination = kinds.contains(&K::es_rDI);
        if uses_source {
            self.point(RSI, 8, 0, is_short)?;
        }
        if uses_destination {
            self.point(RDI, 8, 0, is_short)?;
        }
        if (uses_source || uses_destination) && code.op_code().can_use_rep_prefix() {
            let junk = if is_short { self.random.next() << 32 } else { 0 };
            self.settle(RCX, |random| {
                junk ^ match random.below(8) {
                    0 => 0,
                    1 => 1,
                    2 => random.below(3000),
                    _ => random.below(60),
                }
            })?;
        }
        Some(())
    }

    /// Last touches, when all operands are chosen.
    pub fn complete(&mut self, instruction: &mut Instruction) -> Option<()> {
        use Mnemonic as M;
        match instruction.mnemonic() {
            M::Ret => {
                let target = self.landing(false);
                let rsp = self.known(RSP)?;
                self.poke(rsp, &target.to_le_bytes());
            }
            M::Jmp | M::Call
                if !matches!(
                    instruction.op0_kind(),
                    OpKind::NearBranch64 | OpKind::NearBranch32
                ) =>
            {
                self.complete_indirect(instruction)?;
            }
            M::Popf | M::Popfq => {
                let flags = self.random.next() & !0x40100;
                let rsp = self.known(RSP)?;
                self.poke(rsp, &flags.to_le_bytes());
            }
            M::Ldmxcsr | M::Vldmxcsr if self.random.chance(80) => {
                let value = crate::states::random_mxcsr(self.random);
                let address = self.draft.last;
                self.poke(address, &value.to_le_bytes());
            }
            M::Fxrstor | M::Fxrstor64 | M::Xrstor | M::Xrstor64 => self.complete_restore(),
            M::Bt | M::Bts | M::Btr | M::Btc => self.complete_bits(instruction),
            M::Cmpxchg | M::Cmpxchg8b | M::Cmpxchg16b if self.random.chance(50) => {
                self.complete_compare();
            }
            _ => {}
        }
        self.relax(instruction);
        Some(())
    }

    fn known(&self, index: usize) -> Option<u64> {
        match self.draft.values[index] {
            Value::Known(value) => Some(value),
            _ => None,
        }
    }

    fn complete_indirect(&mut self, instruction: &Instruction) -> Option<()> {
        let target = self.landing(false);
        if instruction.op0_kind() == OpKind::Memory {
            let address = self.draft.last;
            if (layout::CODE..layout::CODE_END).contains(&address) {
                return None;
            }
            self.poke(address, &target.to_le_bytes());
            return Some(());
        }
        let register = instruction.op0_register().full_register();
        let index = register as usize - Register::RAX as usize;
        if self.draft.values[index] != Value::Free {
            return None;
        }
        self.assign(index, target);
        Some(())
    }

    /// An image to restore, aligned as it must be most of the time.
    fn complete_restore(&mut self) {
        let mut image = [0; 832];
        image[..512].copy_from_slice(&crate::states::random_image(self.random));
        for half in image[576..].chunks_exact_mut(16) {
            half.copy_from_slice(&self.random.vector());
        }
        image[512] = self.random.below(8) as u8;
        if self.random.chance(5) {
            image[512 + self.random.below(64) as usize] = self.random.next() as u8;
        }
        image[464..512].fill(0);
        let address = self.draft.last;
        self.poke(address, &image);
    }

    /// A bit offset that stays within the region.
    fn complete_bits(&mut self, instruction: &Instruction) {
        if instruction.op1_kind() != OpKind::Register || instruction.op0_kind() != OpKind::Memory {
            return;
        }
        let index = instruction.op1_register().full_register() as usize - Register::RAX as usize;
        let bits = self.random.between(-30_000, 30_000) as u64;
        if self.draft.values[index] == Value::Free {
            self.assign(index, bits);
        }
    }

    /// Makes the comparison of a `cmpxchg` succeed.
    fn complete_compare(&mut self) {
        let address = self.draft.last;
        for (at, index) in [(address, RAX), (address.wrapping_add(8), RDX)] {
            if let Some(value) = self.settle(index, Random::integer) {
                self.poke(at, &value.to_le_bytes());
            }
        }
    }

    /// Notes what the CPU is free to do in its own way.
    fn relax(&mut self, instruction: &Instruction) {
        use Mnemonic as M;
        if !is_relaxed(instruction.mnemonic()) {
            return;
        }
        let rules = &mut self.draft.rules;
        let address = self.draft.last;
        rules.partial_writes = true;
        rules.loose_fault = true;
        match instruction.mnemonic() {
            M::Fnstenv | M::Fnsave | M::Fstenv | M::Fsave => {
                let is_small = matches!(instruction.memory_size().size(), 14 | 94);
                rules.ignored.push(if is_small { (address + 6, 8) } else { (address + 12, 16) });
            }
            M::Xrstor | M::Xrstor64 => rules.optional_fault = true,
            M::Fxsave | M::Fxsave64 | M::Xsave | M::Xsave64 | M::Xsavec | M::Xsavec64 => {
                rules.ignored.push((address + 6, 18));
                rules.ignored.push((address + 28, 4));
            }
            M::Maskmovq | M::Maskmovdqu | M::Vmaskmovdqu => rules.optional_fault = true,
            _ => {}
        }
    }
}

/// Whether an instruction stores an image of the floating-point state.
pub fn is_image(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        mnemonic,
        M::Fnstenv
            | M::Fnsave
            | M::Fstenv
            | M::Fsave
            | M::Fxsave
            | M::Fxsave64
            | M::Xsave
            | M::Xsave64
            | M::Xsavec
            | M::Xsavec64
    )
}

/// Whether CPUs differ in how an instruction faults or what it stores.
pub fn is_relaxed(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    is_image(mnemonic)
        || matches!(
            mnemonic,
            M::Maskmovq
                | M::Maskmovdqu
                | M::Vmaskmovdqu
                | M::Fxrstor
                | M::Fxrstor64
                | M::Xrstor
                | M::Xrstor64
                | M::Frstor
                | M::Fldenv
                | M::Enter
                | M::Vmaskmovps
                | M::Vmaskmovpd
                | M::Vpmaskmovd
                | M::Vpmaskmovq
        )
}
