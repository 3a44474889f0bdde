//! Where operands are: which page, how aligned, across which border; and the address forms that
//! name the place.

use crate::builder::{Builder, Mood, Value};
use crate::layout;
use crate::random::Random;
use iced_x86::{Instruction, OpKind, Register};

/// Pages that may be read and written, by number from [`layout::DATA`].
const WRITABLE: [u64; 8] = [1, 2, 3, 6, 10, 11, 12, 13];
/// Borders between two pages that may be written.
const WRITABLE_BORDERS: [u64; 5] = [2, 3, 11, 12, 13];
const BASES: [u64; 6] = [0, 0x1000, layout::DATA, layout::DATA + 0x2000, layout::HIGH, 0x77];

impl Builder<'_> {
    /// An address for an operand of `size` bytes.
    pub fn place(&mut self, size: u64) -> u64 {
        let size = size.max(1);
        let address = match self.mood {
            Mood::Calm if !self.random.chance(4) => self.place_calm(size),
            _ => self.place_wild(size),
        };
        let aligned = address & !(size.next_power_of_two().min(64) - 1);
        self.draft.last = if self.random.chance(35) { aligned } else { address };
        self.draft.last
    }

    fn place_calm(&mut self, size: u64) -> u64 {
        match self.random.below(20) {
            0 => across(self.random, layout::DATA, &WRITABLE_BORDERS, size),
            1 => layout::HIGH + 0x1000 + self.random.below(0x2000 - size.min(0x1000)),
            2..=10 => near(self.random, self.draft.last, size),
            _ => {
                let page = self.random.pick(&WRITABLE);
                layout::DATA + page * 0x1000 + self.random.below(0x1001 - size.min(0x1000))
            }
        }
    }

    fn place_wild(&mut self, size: u64) -> u64 {
        let border = 1 + self.random.below(layout::DATA_PAGES - 1);
        match self.random.below(40) {
            0..=9 => across(self.random, layout::DATA, &[border], size),
            10 | 11 => layout::DATA + border * 0x1000 - size,
            12 | 13 => layout::DATA + border * 0x1000,
            14 | 15 => across(self.random, layout::HIGH, &[1, 2, 3], size),
            16 => 0x8000_0000_0000_u64.wrapping_add_signed(self.random.between(-20, 4000)),
            17 => self.random.next() | 1 << 62,
            18 => self.random.below(0x1000),
            19 => layout::CODE + self.random.below(0x2000),
            20..=24 => near(self.random, self.draft.last, size),
            25..=28 => layout::DATA + self.random.below(layout::DATA_PAGES * 0x1000),
            _ => {
                let page = self.random.pick(&WRITABLE);
                layout::DATA + page * 0x1000 + self.random.below(0x1001 - size.min(0x1000))
            }
        }
    }

    /// Makes the memory operand of `instruction` name `address`.
    pub fn name_memory(&mut self, instruction: &mut Instruction, address: u64) -> Option<()> {
        if let Some(base) = self.pinned {
            let Value::Known(value) = self.draft.values[base] else { return None };
            let displacement = self.random.between(0, 120);
            self.draft.last = value.wrapping_add_signed(displacement);
            set_address(instruction, base, None, displacement);
            return Some(());
        }
        if self.is_compat() {
            return self.name_memory_compat(instruction, address);
        }
        let mut target = address;
        if self.random.chance(8) {
            target = address.wrapping_sub(self.segment_base(instruction));
        } else if self.random.chance(4) {
            let segments = [Register::ES, Register::CS, Register::SS, Register::DS];
            instruction.set_segment_prefix(self.random.pick(&segments));
        }
        let is_low = target < 1 << 32;
        match self.random.below(20) {
            0 | 1 if target.abs_diff(self.rip()) < 0x7000_0000 => {
                instruction.set_memory_base(Register::RIP);
                instruction.set_memory_displ_size(8);
                instruction.set_memory_displacement64(target);
                Some(())
            }
            2 if target < 0x8000_0000 => {
                instruction.set_memory_displ_size(8);
                instruction.set_memory_displacement64(target);
                Some(())
            }
            3 if is_low => self.name_short(instruction, target),
            4..=8 => self.name_indexed(instruction, target),
            _ => self.name_based(instruction, target),
        }
    }

    /// Likewise in 32-bit code, where addresses are sums modulo 2^32.
    fn name_memory_compat(&mut self, instruction: &mut Instruction, target: u64) -> Option<()> {
        u32::try_from(target).ok()?;
        if self.random.chance(4) {
            let segments = [Register::ES, Register::CS, Register::SS, Register::DS];
            instruction.set_segment_prefix(self.random.pick(&segments));
        }
        let base = self.random.below(8) as usize;
        let index = self.random.below(8) as usize;
        let mut rest = target as u32;
        let form = self.random.below(10);
        if form == 0 {
            instruction.set_memory_displ_size(4);
            instruction.set_memory_displacement64(rest.into());
            return Some(());
        }
        if form < 4 && index != 4 {
            let scale = 1 << self.random.below(4);
            let value = self.settle(index, Random::integer)?;
            rest = rest.wrapping_sub((value as u32).wrapping_mul(scale));
            instruction.set_memory_index(self.pointer(index));
            instruction.set_memory_index_scale(scale);
            if form == 1 {
                instruction.set_memory_displ_size(4);
                instruction.set_memory_displacement64(rest.into());
                return Some(());
            }
        }
        let displacement = random_displacement(self.random) as u32;
        let value = self.settle(base, |_| u64::from(rest.wrapping_sub(displacement)))?;
        instruction.set_memory_base(self.pointer(base));
        let displacement = rest.wrapping_sub(value as u32) as i32;
        set_displacement(instruction, displacement.into(), 4);
        Some(())
    }

    /// Chooses FS or GS and returns its base.
    fn segment_base(&mut self, instruction: &mut Instruction) -> u64 {
        let which = self.random.below(2) as usize;
        instruction.set_segment_prefix([Register::FS, Register::GS][which]);
        let draft = &mut self.draft;
        let base = if which == 0 { &mut draft.state.fs_base } else { &mut draft.state.gs_base };
        if !draft.fixed_segments[which] {
            draft.fixed_segments[which] = true;
            *base = self.random.pick(&BASES);
        }
        *base
    }

    fn name_based(&mut self, instruction: &mut Instruction, target: u64) -> Option<()> {
        for _ in 0..12 {
            let base = self.choose_base();
            match self.draft.values[base] {
                Value::Unknown => {}
                Value::Known(value) => {
                    let displacement = target.wrapping_sub(value) as i64;
                    if i32::try_from(displacement).is_ok() {
                        set_address(instruction, base, None, displacement);
                        return Some(());
                    }
                }
                Value::Free => {
                    let displacement = random_displacement(self.random);
                    self.assign(base, target.wrapping_sub(displacement as u64));
                    set_address(instruction, base, None, displacement);
                    return Some(());
                }
            }
        }
        None
    }

    /// Any register; often one that already points somewhere.
    fn choose_base(&mut self) -> usize {
        let any = self.random.below(16) as usize;
        if !self.random.chance(60) {
            return any;
        }
        let values = self.draft.values;
        let known = (0..16).map(|i| (any + i) % 16);
        let mut pointers = known.filter(
            |i| matches!(values[*i], Value::Known(value) if layout::physical(value).is_some()),
        );
        pointers.next().unwrap_or(any)
    }

    fn name_indexed(&mut self, instruction: &mut Instruction, target: u64) -> Option<()> {
        let index = self.random.below(16) as usize;
        if index == 4 {
            return None;
        }
        let scale = 1 << self.random.below(4);
        let multiple = self
            .settle(index, |random| match random.below(3) {
                0 => random.next(),
                1 => random.below(200).wrapping_neg(),
                _ => random.below(200),
            })?
            .wrapping_mul(scale);
        let rest = target.wrapping_sub(multiple);
        if self.random.chance(10) {
            i32::try_from(rest as i64).ok()?;
            instruction.set_memory_index(register(index));
            instruction.set_memory_index_scale(scale as u32);
            instruction.set_memory_displ_size(8);
            instruction.set_memory_displacement64(rest);
            return Some(());
        }
        self.name_based(instruction, rest)?;
        instruction.set_memory_index(register(index));
        instruction.set_memory_index_scale(scale as u32);
        Some(())
    }

    /// An address of 32 bits: a 67 prefix, and registers whose upper halves do not count.
    fn name_short(&mut self, instruction: &mut Instruction, target: u64) -> Option<()> {
        let base = self.random.below(16) as usize;
        let displacement = random_displacement(self.random);
        let junk = if self.random.chance(50) { self.random.next() << 32 } else { 0 };
        let value = self.settle(base, |_| {
            u64::from((target as u32).wrapping_sub(displacement as u32)) | junk
        })?;
        let displacement = (target as u32).wrapping_sub(value as u32) as i32;
        instruction.set_memory_base(Register::EAX + base as u32);
        set_displacement(instruction, i64::from(displacement), 4);
        Some(())
    }
}

fn set_address(instr: &mut Instruction, base: usize, index: Option<usize>, displacement: i64) {
    instr.set_memory_base(register(base));
    if let Some(index) = index {
        instr.set_memory_index(register(index));
    }
    set_displacement(instr, displacement, 8);
}

fn set_displacement(instruction: &mut Instruction, displacement: i64, large: u32) {
    let size = if displacement == 0 {
        0
    } else if i8::try_from(displacement).is_ok() {
        1
    } else {
        large
    };
    instruction.set_memory_displ_size(size);
    let mask = if large == 4 { 0xffff_ffff } else { u64::MAX };
    instruction.set_memory_displacement64(displacement as u64 & mask);
}

/// The 64-bit register of this number.
pub fn register(index: usize) -> Register {
    Register::RAX + index as u32
}

fn random_displacement(random: &mut Random) -> i64 {
    match random.below(4) {
        0 => 0,
        1 | 2 => random.between(-128, 127),
        _ => random.between(-0x8000_0000, 0x7fff_ffff),
    }
}

fn across(random: &mut Random, region: u64, borders: &[u64], size: u64) -> u64 {
    let border = region + random.pick(borders) * 0x1000;
    border - if size > 1 { 1 + random.below(size - 1) } else { 0 }
}

fn near(random: &mut Random, last: u64, size: u64) -> u64 {
    last.wrapping_add_signed(random.between(-8, 8) * size.min(64) as i64)
}

/// The kinds of implicit memory operands of string instructions.
pub const fn string_kind(is_destination: bool, is_short: bool) -> OpKind {
    match (is_destination, is_short) {
        (false, false) => OpKind::MemorySegRSI,
        (false, true) => OpKind::MemorySegESI,
        (true, false) => OpKind::MemoryESRDI,
        (true, true) => OpKind::MemoryESEDI,
    }
}
