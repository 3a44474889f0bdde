//! Reading one guest block: decode, classify, and find out where flags matter.
//!
//! A block ends behind a control transfer, at the end of its page, or when it is long enough.
//!
//! Liveness of the six arithmetic flags goes backward through the block. Behind the block it looks
//! a few instructions ahead on the same page; what it cannot see counts as live. The bytes looked
//! at are part of what the block depends on.
//!
//! A block that goes to an address of another page, or to one not known, parks the flags in memory
//! behind the last instruction that touches them: probes behind need not keep them.

use super::assignment::Assignment;
use super::classify::{Class, Classifier};
use super::compat::{self, Flavor};
use super::group::{self, Group};
use super::precedence::touches_x87;
use super::predict::is_chained;
use iced_x86::{
    Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
    RflagsBits,
};
use machine::{Access, PAGE_BYTES};

/// Most instructions in one block.
pub(super) const BLOCK_INSTRUCTIONS: usize = 64;
/// Most instructions looked at behind a block.
const LOOK_AHEAD: usize = 16;
/// Most branches that wait to be looked at.
const LOOK_BRANCHES: usize = 4;
/// OF SF ZF AF CF PF in the numbering of the decoder.
const ARITHMETIC: u32 = 0x3f;

/// In place of a mask of live flags: all are parked in memory.
pub(super) const PARKED: u16 = 0x8000;
/// All flags are live.
pub(super) const ALL_LIVE: u16 = 0x7fff;

/// One instruction of a block.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub instruction: Instruction,
    pub class: Class,
    /// Arithmetic flags from before the instruction that may still be read, as bits of RFLAGS; or
    /// [`PARKED`].
    pub live: u16,
    /// Whether the flags are parked behind the instruction.
    pub parks_behind: bool,
    /// Operands that are read, and operands that may be written, as bits.
    pub reads: u8,
    pub writes: u8,
    /// Whether it is a load of a chain, which `predict.rs` is about.
    pub is_chained: bool,
}

impl Step {
    /// Whether the instruction works on general registers alone and never faults.
    pub(super) fn is_quiet(&self) -> bool {
        let one = &self.instruction;
        let is_general =
            |operand| one.op_kind(operand) != OpKind::Register || one.op_register(operand).is_gpr();
        match self.class {
            Class::Nop => true,
            Class::Plain => (0..one.op_count()).all(is_general) && never_faults(one.mnemonic()),
            _ => false,
        }
    }

    /// Whether the instruction may raise an exception on the host where it is emitted: division,
    /// vectors, floating point, a locked operand that the host refuses to split.
    pub(super) fn may_raise(&self) -> bool {
        let one = &self.instruction;
        let is_general =
            |operand| one.op_kind(operand) != OpKind::Register || one.op_register(operand).is_gpr();
        match self.class {
            Class::Plain | Class::Memory(_) => {
                one.has_lock_prefix()
                    || !never_faults(one.mnemonic())
                    || !(0..one.op_count()).all(is_general)
            }
            _ => false,
        }
    }
}

/// Whether instructions on general registers of this name never fault.
fn never_faults(name: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(
        name,
        M::Mov
            | M::Movzx
            | M::Movsx
            | M::Movsxd
            | M::Add
            | M::Adc
            | M::Sub
            | M::Sbb
            | M::And
            | M::Or
            | M::Xor
            | M::Not
            | M::Neg
            | M::Inc
            | M::Dec
            | M::Cmp
            | M::Test
            | M::Shl
            | M::Shr
            | M::Sar
            | M::Rol
            | M::Ror
            | M::Imul
            | M::Bswap
            | M::Cmove
            | M::Cmovne
            | M::Cmova
            | M::Cmovae
            | M::Cmovb
            | M::Cmovbe
            | M::Cmovg
            | M::Cmovge
            | M::Cmovl
            | M::Cmovle
            | M::Cmovs
            | M::Cmovns
    )
}

/// How many instructions to take.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(super) enum Extent {
    /// As many as a block may have.
    #[default]
    Block,
    /// Only the first.
    Single,
}

/// One guest block.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub steps: Vec<Step>,
    /// The instruction behind the block.
    pub next_rip: u64,
    /// What the block depends on: ranges of offsets in the first page.
    pub seen: Vec<(u16, u16)>,
    /// Groups of steps that share a probe.
    pub groups: Vec<Group>,
    /// For each step that is a member of a group, the displacement of its operand.
    pub members: Vec<Option<i32>>,
    /// Whether the (only) instruction reaches into the next page.
    pub is_straddling: bool,
    /// Whether flags may be read where the last instruction jumps to.
    pub is_flags_live_taken: bool,
    /// Whether flags may be read at the next instruction.
    pub is_flags_live_next: bool,
    /// Whether flags from before the block may be read.
    pub is_flags_live_before: bool,
    /// Whether the block leaves with parked flags.
    pub parks: bool,
    /// Whether it parks them before its first instruction.
    pub parks_at_start: bool,
    /// Whether it may read or change the state of the x87.
    pub has_x87: bool,
    /// What the block is for; set before [`Scan::read`].
    pub extent: Extent,
    /// Likewise: what it depends on, and where its registers are.
    pub flavor: Flavor,
    pub assignment: Assignment,
}

/// The bytes did not hold a whole instruction: more bytes of the next page are needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Truncated;

impl Scan {
    /// Reads the block at `rip`, at most `limit` instructions. `code` holds the bytes of its page,
    /// and some bytes of the next one if the first instruction reaches over the end.
    ///
    /// # Errors
    /// [`Truncated`] if the first instruction does not end in `code`.
    pub(super) fn read(
        &mut self,
        classifier: &mut Classifier,
        code: &[u8],
        rip: u64,
        limit: usize,
    ) -> Result<(), Truncated> {
        let offset = rip % PAGE_BYTES;
        let page_rest = PAGE_BYTES - offset;
        self.steps.clear();
        self.is_straddling = false;
        self.has_x87 = false;
        self.seen.clear();
        let bytes = &code[offset as usize..];
        let bitness = self.flavor.bitness();
        let mut decoder = Decoder::with_ip(bitness, bytes, rip, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut next_rip = rip;
        while self.steps.len() < limit {
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes {
                if self.steps.is_empty() {
                    return Err(Truncated);
                }
                break;
            }
            let end = instruction.next_ip().wrapping_sub(rip);
            self.is_straddling = end > page_rest;
            if self.is_straddling && !self.steps.is_empty() {
                self.is_straddling = false;
                break;
            }
            next_rip = instruction.next_ip();
            if self.flavor.is_compat() {
                compat::normalize(&mut instruction);
            } else {
                self.assignment.renumber(&mut instruction);
            }
            let class = self.class(classifier, &instruction);
            self.has_x87 |= touches_x87(&instruction);
            let (reads, writes) = classifier.usage(&instruction);
            let is_chained =
                class == Class::Memory(Access::Read) && is_chained(&self.steps, &instruction);
            self.steps.push(Step {
                instruction,
                class,
                live: ALL_LIVE,
                parks_behind: false,
                reads,
                writes,
                is_chained,
            });
            if class.ends_block() || end >= page_rest {
                break;
            }
        }
        self.next_rip = next_rip & self.flavor.linear_mask();
        self.note_seen(offset, offset + next_rip.wrapping_sub(rip));
        self.find_live_flags(code, rip - offset);
        group::find(self);
        Ok(())
    }

    /// The treatment of `instruction` in this block.
    fn class(&self, classifier: &mut Classifier, instruction: &Instruction) -> Class {
        let class = classifier.classify(instruction);
        let is_checked = self.flavor.is_checked(instruction)
            && !matches!(class, Class::Lea | Class::Nop | Class::Trap(_) | Class::Gate(_));
        match self.extent {
            Extent::Block if is_checked => Class::Checked,
            Extent::Single if is_checked => class.when_checked(self.flavor, instruction),
            _ => class,
        }
    }

    fn note_seen(&mut self, start: u64, end: u64) {
        self.seen.push((start as u16, end.min(PAGE_BYTES) as u16));
    }

    fn find_live_flags(&mut self, code: &[u8], page: u64) {
        self.parks = self.extent == Extent::Block && self.leaves_parked(page);
        let (taken, next) =
            if self.parks { (ARITHMETIC, ARITHMETIC) } else { self.live_behind(code, page) };
        self.is_flags_live_taken = taken != 0;
        self.is_flags_live_next = next != 0;
        let mut live = taken | next;
        for step in self.steps.iter_mut().rev() {
            live = flags_before(&step.instruction, step.class, live);
            step.live = in_rflags(live);
        }
        self.is_flags_live_before = live != 0;
        self.parks_at_start = false;
        if self.parks {
            self.place_parking();
        }
    }

    /// Whether the block goes to an address that is not known or on another page than its end.
    fn leaves_parked(&self, page: u64) -> bool {
        let page = if self.is_straddling { page.wrapping_add(PAGE_BYTES) } else { page };
        let is_far = |target: u64| target.wrapping_sub(page) >= PAGE_BYTES;
        let last = self.steps.last().expect("a block has an instruction");
        match last.class {
            Class::Return | Class::JumpIndirect | Class::CallIndirect => true,
            Class::Jump | Class::Call => is_far(last.instruction.near_branch_target()),
            class => !class.ends_block() && is_far(self.next_rip),
        }
    }

    /// Chooses where the flags are parked: behind the last step that touches them.
    fn place_parking(&mut self) {
        let touching = self.steps.iter().rposition(|step| {
            let instruction = &step.instruction;
            let flags = instruction.rflags_read() | instruction.rflags_modified();
            let touches = flags & ARITHMETIC != 0 || is_rotate_through_carry(instruction);
            !matches!(step.class, Class::Nop | Class::Lea) && touches
        });
        for step in &mut self.steps[touching.map_or(0, |at| at + 1)..] {
            step.live = PARKED;
        }
        match touching {
            Some(at) => self.steps[at].parks_behind = true,
            None => self.parks_at_start = true,
        }
    }

    /// Flags that may be read behind the last instruction: where it jumps to, and behind it.
    fn live_behind(&mut self, code: &[u8], page: u64) -> (u32, u32) {
        let last = self.steps.last().expect("a block has an instruction");
        let next = self.next_rip;
        let target = last.instruction.near_branch_target();
        match last.class {
            _ if self.is_straddling => (ARITHMETIC, ARITHMETIC),
            Class::Branch | Class::Count => {
                (self.look(code, page, target), self.look(code, page, next))
            }
            Class::Jump | Class::Call => (self.look(code, page, target), 0),
            class if class.ends_block() => (ARITHMETIC, ARITHMETIC),
            _ => (0, self.look(code, page, next)),
        }
    }

    /// Flags that the code at `target` may read before it writes them.
    fn look(&mut self, code: &[u8], page: u64, target: u64) -> u32 {
        let mut live = 0;
        let mut left = LOOK_AHEAD;
        let mut waiting = [(target, ARITHMETIC); LOOK_BRANCHES];
        let mut count = 1;
        while count > 0 && live != ARITHMETIC {
            count -= 1;
            let (at, open) = waiting[count];
            let (read, open, behind) = self.look_along(code, page, at, open, &mut left);
            live |= read;
            let behind = behind.filter(|_| count + 2 <= LOOK_BRANCHES);
            for at in behind.into_iter().flatten().flatten() {
                waiting[count] = (at, open);
                count += 1;
            }
            if behind.is_none() {
                live |= open;
            }
        }
        live
    }

    /// Looks along the code at `at` up to where it branches: flags of `open` that it reads, those
    /// still open then, and where it goes on. `None` if that is not known.
    fn look_along(
        &mut self,
        code: &[u8],
        page: u64,
        at: u64,
        mut open: u32,
        left: &mut usize,
    ) -> (u32, u32, Option<[Option<u64>; 2]>) {
        let start = at.wrapping_sub(page);
        if start >= PAGE_BYTES {
            return (0, open, None);
        }
        let bytes = &code[start as usize..PAGE_BYTES as usize];
        let bitness = self.flavor.bitness();
        let mut decoder = Decoder::with_ip(bitness, bytes, at, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let (mut live, mut behind) = (0, None);
        while *left > 0 {
            *left -= 1;
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() || is_conservative(&instruction) {
                break;
            }
            live |= open & instruction.rflags_read();
            open &= !live & !kills(&instruction);
            behind = match instruction.flow_control() {
                FlowControl::Next if open == 0 => Some([None; 2]),
                FlowControl::Next => continue,
                FlowControl::UnconditionalBranch => {
                    Some([Some(instruction.near_branch_target()), None])
                }
                FlowControl::ConditionalBranch => {
                    Some([Some(instruction.near_branch_target()), Some(instruction.next_ip())])
                }
                _ => None,
            };
            break;
        }
        self.note_seen(start, decoder.ip().wrapping_sub(page));
        (live, open, behind)
    }
}

/// Flags alive before an instruction, given those alive behind it.
fn flags_before(instruction: &Instruction, class: Class, behind: u32) -> u32 {
    match class {
        Class::Emulate | Class::Trap(_) | Class::Syscall | Class::Gate(_) | Class::Checked => {
            ARITHMETIC
        }
        Class::Nop | Class::Lea => behind,
        _ => instruction.rflags_read() & ARITHMETIC | behind & !kills(instruction),
    }
}

/// Flags in the numbering of the decoder as bits of RFLAGS.
fn in_rflags(flags: u32) -> u16 {
    let pairs = [
        (RflagsBits::OF, 0x800),
        (RflagsBits::SF, 0x80),
        (RflagsBits::ZF, 0x40),
        (RflagsBits::AF, 0x10),
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 4),
    ];
    pairs.iter().filter(|(bit, _)| flags & bit != 0).fold(0, |all, (_, mask)| all | mask)
}

/// Flags that the instruction always overwrites.
fn kills(instruction: &Instruction) -> u32 {
    if is_conditional(instruction) {
        return 0;
    }
    let undefined = if is_computed(instruction) { 0 } else { instruction.rflags_undefined() };
    instruction.rflags_modified() & !undefined & ARITHMETIC
}

/// Instructions whose undefined flags come from their operands on every CPU. Others may leave what
/// was there, so that it counts as alive: what a probe left must never be seen.
fn is_computed(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    matches!(instruction.mnemonic(), M::And | M::Or | M::Xor | M::Test | M::Andn)
}

/// Shifts, rotates and string instructions with a count that may be zero do not write flags then;
/// nor do string instructions that fault.
fn is_conditional(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    if instruction.is_string_instruction() {
        return true;
    }
    let is_shift = matches!(
        instruction.mnemonic(),
        M::Shl | M::Sal | M::Shr | M::Sar | M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd
    );
    if !is_shift {
        return false;
    }
    let last = instruction.op_count() - 1;
    match instruction.op_kind(last) {
        OpKind::Immediate8 => instruction.immediate8() & 0x1f == 0,
        OpKind::Register => instruction.op_register(last) == Register::CL,
        _ => true,
    }
}

/// A count that is a multiple of 9 or 17 leaves carry as it is; what it leaves of overflow is the
/// CPU's own affair.
fn is_rotate_through_carry(instruction: &Instruction) -> bool {
    matches!(instruction.mnemonic(), Mnemonic::Rcl | Mnemonic::Rcr)
}

/// Instructions that are looked at by Rust, with all flags.
fn is_conservative(instruction: &Instruction) -> bool {
    instruction.has_rep_prefix()
        || instruction.has_repne_prefix()
        || instruction.is_string_instruction()
        || instruction.is_privileged()
}
