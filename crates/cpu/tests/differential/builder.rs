//! Builds the program and the first state of a case together.
//!
//! Registers start [`Value::Free`]. Whoever first relies on one chooses its initial value, so that
//! addresses land where the case wants them; whatever an instruction writes is [`Value::Unknown`]
//! from then on, and no later operand is based on it.

use crate::case::{Case, Patch, Rules, State};
use crate::layout;
use crate::random::Random;
use iced_x86::{
    Decoder, DecoderOptions, Encoder, FlowControl, Instruction, InstructionInfoFactory, OpAccess,
    Register, RflagsBits,
};

/// Longest body of a case; landings lie behind it, within reach of a short jump.
pub const BODY_BYTES: u64 = 92;
/// First byte behind the start where a jump may land.
pub const LANDING: u64 = 96;

/// What is known of a general register at this point of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// Its initial value is not chosen yet.
    Free,
    /// It holds this.
    Known(u64),
    /// It holds a result.
    Unknown,
}

/// How adventurous the addresses of a case are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    /// Most accesses succeed, so that a sequence gets to its end.
    Calm,
    /// Every kind of page and border is as likely.
    Wild,
}

/// Everything that a failed attempt at an instruction must take back.
#[derive(Clone)]
pub struct Draft {
    pub values: [Value; 16],
    /// Vector registers whose content something relies on, as bits.
    pub fixed_vectors: u32,
    pub fixed_segments: [bool; 2],
    pub state: State,
    pub patches: Vec<Patch>,
    pub rules: Rules,
    pub undefined: u32,
    /// The last address that an operand named.
    pub last: u64,
}

pub struct Builder<'r> {
    pub random: &'r mut Random,
    pub mood: Mood,
    pub draft: Draft,
    pub start: u64,
    pub code: Vec<u8>,
    pub is_over: bool,
    /// The register that all explicit operands are based on.
    pub pinned: Option<usize>,
    factory: InstructionInfoFactory,
}

impl<'r> Builder<'r> {
    pub fn new(random: &'r mut Random, mood: Mood) -> Self {
        Self::with_state(random, mood, false)
    }

    /// A builder of 32-bit code.
    pub fn new_compat(random: &'r mut Random, mood: Mood) -> Self {
        Self::with_state(random, mood, true)
    }

    fn with_state(random: &'r mut Random, mood: Mood, is_compat: bool) -> Self {
        let mut state = crate::states::random_state(random);
        state.is_compat = is_compat;
        let start = choose_start(random);
        state.rip = start;
        let draft = Draft {
            values: [Value::Free; 16],
            fixed_vectors: 0,
            fixed_segments: [false; 2],
            state,
            patches: Vec::new(),
            rules: Rules::default(),
            undefined: 0,
            last: layout::DATA + 0x2800,
        };
        let factory = InstructionInfoFactory::new();
        Self { random, mood, draft, start, code: Vec::new(), is_over: false, pinned: None, factory }
    }

    /// Whether the code is 32-bit code.
    pub const fn is_compat(&self) -> bool {
        self.draft.state.is_compat
    }

    /// The register of addresses with this number.
    pub fn pointer(&self, index: usize) -> Register {
        let first = if self.is_compat() { Register::EAX } else { Register::RAX };
        first + index as u32
    }

    /// Where the next instruction goes.
    pub fn rip(&self) -> u64 {
        self.start + self.code.len() as u64
    }

    /// What register `index` holds; chosen by `choose` if nothing relied on it before.
    pub fn settle(&mut self, index: usize, choose: impl FnOnce(&mut Random) -> u64) -> Option<u64> {
        if self.draft.values[index] == Value::Free {
            let value = choose(self.random);
            self.assign(index, value);
        }
        match self.draft.values[index] {
            Value::Known(value) => Some(value),
            _ => None,
        }
    }

    /// Makes the initial value of the free register `index`.
    pub fn assign(&mut self, index: usize, value: u64) {
        let value = if self.is_compat() { value & 0xffff_ffff } else { value };
        self.draft.values[index] = Value::Known(value);
        self.draft.state.gpr[index] = value;
    }

    /// Puts `bytes` where `address` is mapped; bytes without memory and code are left out.
    pub fn poke(&mut self, address: u64, bytes: &[u8]) {
        for (i, byte) in bytes.iter().enumerate() {
            let at = address.wrapping_add(i as u64);
            if (layout::CODE..layout::CODE_READ_ONLY).contains(&at) {
                continue;
            }
            let Some(offset) = layout::physical(at) else { continue };
            match self.draft.patches.last_mut() {
                Some((start, run)) if *start + run.len() as u64 == offset => run.push(*byte),
                _ => self.draft.patches.push((offset, vec![*byte])),
            }
        }
    }

    /// Encodes `instruction` here and takes note of what it does to registers and flags.
    /// `None` if it cannot be encoded or would read an undefined flag.
    pub fn append(&mut self, instruction: &Instruction) -> Option<()> {
        let mut encoder = Encoder::new(bitness(self.is_compat()));
        encoder.set_vex_wig(self.random.below(2) as u32);
        encoder.set_vex_lig(self.random.below(2) as u32);
        encoder.encode(instruction, self.rip()).ok()?;
        let bytes = encoder.take_buffer();
        let decoded = decode(&bytes, self.rip(), self.is_compat());
        if decoded.is_invalid() || self.code.len() + bytes.len() > BODY_BYTES as usize {
            return None;
        }
        self.note_flags(&decoded)?;
        self.note_registers(&decoded);
        self.code.extend_from_slice(&bytes);
        if decoded.flow_control() != FlowControl::Next {
            // The program may end at the target.
            self.draft.rules.undefined_flags |= rflags_mask(self.draft.undefined);
        }
        // What an image holds of the last x87 instruction is not for others to read.
        self.is_over |= crate::prepare::is_image(instruction.mnemonic());
        self.is_over |= matches!(
            decoded.flow_control(),
            FlowControl::UnconditionalBranch
                | FlowControl::IndirectBranch
                | FlowControl::Return
                | FlowControl::IndirectCall
        );
        Some(())
    }

    fn note_flags(&mut self, decoded: &Instruction) -> Option<()> {
        if decoded.rflags_read() & self.draft.undefined != 0 {
            return None;
        }
        let settled = decoded.rflags_modified() & !decoded.rflags_undefined();
        if !crate::prepare::may_keep_flags(decoded) {
            self.draft.undefined &= !settled;
        }
        self.draft.undefined |= decoded.rflags_undefined();
        Some(())
    }

    fn note_registers(&mut self, decoded: &Instruction) {
        let used = self.factory.info(decoded).used_registers().to_vec();
        for usage in used {
            let register = usage.register();
            let is_written = !matches!(usage.access(), OpAccess::Read | OpAccess::CondRead);
            if register.is_vector_register() {
                self.draft.fixed_vectors |= 1 << register.number();
            }
            if !register.is_gpr() {
                continue;
            }
            let index = register.full_register() as usize - Register::RAX as usize;
            let is_stack = index == 4 && decoded.is_stack_instruction();
            self.settle(index, Random::integer);
            if is_written && !is_stack {
                self.draft.values[index] = Value::Unknown;
            }
        }
        let delta = i64::from(decoded.stack_pointer_increment());
        if let Value::Known(rsp) = self.draft.values[4]
            && delta != 0
        {
            let moved = rsp.wrapping_add_signed(delta);
            let moved = if self.is_compat() { moved & 0xffff_ffff } else { moved };
            self.draft.values[4] = Value::Known(moved);
        }
    }

    /// The finished case.
    pub fn finish(mut self, name: String) -> Case {
        for index in 0..16 {
            self.settle(index, Random::integer);
        }
        let mut draft = self.draft;
        draft.rules.undefined_flags |= rflags_mask(draft.undefined);
        let instructions = decode_code(&self.code, self.start, draft.state.is_compat);
        put_code(&mut draft.patches, self.start, &self.code);
        Case { name, state: draft.state, patches: draft.patches, instructions, rules: draft.rules }
    }
}

/// Adds patches that put `code` at `address`, as far as there is memory.
pub fn put_code(patches: &mut Vec<Patch>, address: u64, code: &[u8]) {
    let split = (address.next_multiple_of(0x1000) - address).min(code.len() as u64) as usize;
    let split = if address.is_multiple_of(0x1000) { code.len() } else { split };
    for (at, part) in [(address, &code[..split]), (address + split as u64, &code[split..])] {
        if let Some(offset) = layout::physical(at)
            && !part.is_empty()
        {
            patches.push((offset, part.to_vec()));
        }
    }
}

/// The bitness of code for the decoder.
pub const fn bitness(is_compat: bool) -> u32 {
    if is_compat { 32 } else { 64 }
}

/// Decodes one instruction.
pub fn decode(bytes: &[u8], rip: u64, is_compat: bool) -> Instruction {
    Decoder::with_ip(bitness(is_compat), bytes, rip, DecoderOptions::NONE).decode()
}

/// Decodes all of 64-bit `code`, behind which is `int3`.
pub fn decode_all(code: &[u8], rip: u64) -> Vec<Instruction> {
    decode_code(code, rip, false)
}

/// Decodes all of `code`, behind which is `int3`.
pub fn decode_code(code: &[u8], rip: u64, is_compat: bool) -> Vec<Instruction> {
    let mut padded = code.to_vec();
    padded.extend_from_slice(&[0xcc; 16]);
    let all = Decoder::with_ip(bitness(is_compat), &padded, rip, DecoderOptions::NONE);
    all.into_iter().take_while(|one| one.ip() < rip + code.len() as u64).collect()
}

/// Mostly somewhere in the first page of code, sometimes across the border to the next page (whose
/// frame is elsewhere), sometimes so that the code runs into the hole.
fn choose_start(random: &mut Random) -> u64 {
    match random.below(20) {
        0 | 1 => layout::CODE + 0x1000 - random.below(40),
        2 => layout::CODE_END - random.below(40) - 1,
        3 => layout::CODE_READ_ONLY + random.below(0xf00),
        _ => layout::CODE + random.below(0x1e00),
    }
}

/// The RFLAGS bits of iced's set of flags.
pub const fn rflags_mask(bits: u32) -> u64 {
    const PAIRS: [(u32, u64); 7] = [
        (RflagsBits::CF, 1),
        (RflagsBits::PF, 1 << 2),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::DF, 1 << 10),
        (RflagsBits::OF, 1 << 11),
    ];
    let mut mask = 0;
    let mut i = 0;
    while i < PAIRS.len() {
        if bits & PAIRS[i].0 != 0 {
            mask |= PAIRS[i].1;
        }
        i += 1;
    }
    mask
}
