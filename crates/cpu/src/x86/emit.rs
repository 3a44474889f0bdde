//! An assembler for the few instruction forms that the fixed templates need.
//!
//! Registers are the numbers of the encoding. Nothing here changes a flag unless its name says so.
//! Guest instructions are encoded elsewhere, by the library.

/// A general register by its number in the encoding.
pub(super) type Reg = u8;

pub(super) const RAX: Reg = 0;
pub(super) const RCX: Reg = 1;
pub(super) const RDX: Reg = 2;
pub(super) const RBX: Reg = 3;
pub(super) const RSP: Reg = 4;
pub(super) const RBP: Reg = 5;
pub(super) const RSI: Reg = 6;
pub(super) const RDI: Reg = 7;
/// What picks the bits of an address that are its index in the shadow. Guest registers from here on
/// are stolen: they live in their homes.
pub(super) const MASK: Reg = 12;
/// Second scratch register: shadow index, then host page.
pub(super) const S1: Reg = 13;
/// First scratch register: address, then offset in the page.
pub(super) const S0: Reg = 14;
/// The access clock.
pub(super) const CLK: Reg = 15;

/// A memory operand of a template: base + index * 2^scale + displacement.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Mem {
    pub base: Option<Reg>,
    pub index: Option<(Reg, u8)>,
    pub displacement: i32,
    pub is_gs: bool,
}

impl Mem {
    /// `gs:[displacement of the word]`
    pub(super) const fn word(index: usize) -> Self {
        Self { base: None, index: None, displacement: super::words::gs(index), is_gs: true }
    }

    /// `gs:[register * 8 + displacement of the word]`
    pub(super) const fn table(index: usize, register: Reg) -> Self {
        Self {
            base: None,
            index: Some((register, 3)),
            displacement: super::words::gs(index),
            is_gs: true,
        }
    }

    /// `[base + displacement]`
    pub(super) const fn at(base: Reg, displacement: i32) -> Self {
        Self { base: Some(base), index: None, displacement, is_gs: false }
    }

    /// `[base + index]`
    pub(super) const fn sum(base: Reg, index: Reg) -> Self {
        Self { base: Some(base), index: Some((index, 0)), displacement: 0, is_gs: false }
    }
}

/// A place in the code that a later jump or patch refers to: an offset in the buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Patch(usize);

/// Where code will stand: its hot part, and the cold part that is kept apart from it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Place {
    /// Host address of the first hot byte.
    pub hot: u64,
    /// Host address of the first cold byte.
    pub cold: u64,
}

/// A buffer of host code that will stand at known addresses: first all hot bytes, then the cold
/// ones.
#[derive(Debug)]
pub(super) struct Assembler {
    pub(super) buffer: Vec<u8>,
    place: Place,
    /// Hot bytes; all so far are hot if it is beyond the end.
    hot_bytes: usize,
    /// Which stolen register S1 and S0 are known to be equal to.
    held: [Option<Reg>; 2],
    /// Whether the home of that register does not have the value yet.
    is_ahead: [bool; 2],
    /// The scratch register that was given a value last.
    newest: Reg,
}

impl Default for Assembler {
    fn default() -> Self {
        Self {
            buffer: Vec::new(),
            place: Place::default(),
            hot_bytes: usize::MAX,
            held: [None; 2],
            is_ahead: [false; 2],
            newest: 0,
        }
    }
}

impl Assembler {
    /// Empties the buffer; what follows is hot code that will stand at `place`.
    pub(super) fn restart(&mut self, place: Place) {
        self.buffer.clear();
        self.place = place;
        self.hot_bytes = usize::MAX;
        self.forget();
    }

    /// What follows is cold.
    pub(super) fn turn_cold(&mut self) {
        self.forget();
        self.hot_bytes = self.buffer.len();
    }

    /// The hot bytes and the cold ones.
    pub(super) fn parts(&self) -> (&[u8], &[u8]) {
        self.buffer.split_at(self.hot_bytes.min(self.buffer.len()))
    }

    /// The host address of the byte at `offset` in the buffer.
    fn address(&self, offset: usize) -> u64 {
        match offset.checked_sub(self.hot_bytes) {
            None => self.place.hot + offset as u64,
            Some(cold) => self.place.cold + cold as u64,
        }
    }

    /// Says that scratch register `scratch` is equal to the home of `register` from here on.
    pub(super) fn hold(&mut self, scratch: Reg, register: Reg) {
        self.held[usize::from(scratch - S1)] = Some(register);
        self.newest = scratch;
    }

    /// How much is lost if `scratch` is given another value: an order for choosing one.
    pub(super) fn worth(&self, scratch: Reg) -> u8 {
        let is_held = self.held[usize::from(scratch - S1)].is_some();
        u8::from(is_held) + u8::from(is_held && self.newest == scratch)
    }

    /// The scratch register that is equal to the home of `register`, if one is.
    pub(super) fn holder(&self, register: Reg) -> Option<Reg> {
        self.held.iter().position(|held| *held == Some(register)).map(|index| S1 + index as Reg)
    }

    /// Says that scratch register `scratch` has a new value of `register`, whose home is behind.
    pub(super) fn hold_ahead(&mut self, scratch: Reg, register: Reg) {
        self.hold(scratch, register);
        self.is_ahead[usize::from(scratch - S1)] = true;
    }

    /// Brings the home of the register that `scratch` holds up to date.
    pub(super) fn settle(&mut self, scratch: Reg) {
        let index = usize::from(scratch - S1);
        if let Some(register) = self.held[index].filter(|_| self.is_ahead[index]) {
            self.store(Mem::word(super::words::home(register)), scratch);
            self.is_ahead[index] = false;
        }
    }

    /// Brings all homes up to date.
    pub(super) fn settle_all(&mut self) {
        self.settle(S1);
        self.settle(S0);
    }

    /// Nothing is known of the scratch registers: control comes here from elsewhere, too.
    pub(super) fn forget(&mut self) {
        debug_assert!(self.is_ahead == [false; 2], "a home is behind");
        self.held = [None; 2];
    }

    /// A register changes.
    pub(super) fn touch(&mut self, register: Reg) {
        if (S1..CLK).contains(&register) {
            let index = usize::from(register - S1);
            debug_assert!(!self.is_ahead[index], "a home is behind");
            self.held[index] = None;
        }
    }

    /// Another value takes the place of the one that `scratch` holds: its home will not get it.
    pub(super) fn supersede(&mut self, scratch: Reg) {
        let index = usize::from(scratch - S1);
        self.is_ahead[index] = false;
        self.held[index] = None;
    }

    /// The host address of the next byte.
    pub(super) fn here(&self) -> u64 {
        self.address(self.buffer.len())
    }

    /// Bytes emitted so far.
    pub(super) fn len(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    fn int32(&mut self, value: i32) {
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    /// Emits prefixes, REX, opcode, ModRM, SIB and displacement of a one-operand-in-memory form.
    fn memory_form(&mut self, wide: bool, opcode: &[u8], reg: Reg, mem: Mem) {
        if mem.is_gs {
            self.buffer.push(0x65);
        }
        let base = mem.base.unwrap_or(0);
        let index = mem.index.map_or(0, |(register, _)| register);
        let rex = 0x40 | u8::from(wide) << 3 | (reg >> 3) << 2 | (index >> 3) << 1 | (base >> 3);
        if rex != 0x40 {
            self.buffer.push(rex);
        }
        self.buffer.extend_from_slice(opcode);
        self.modrm_memory(reg, mem);
    }

    fn modrm_memory(&mut self, reg: Reg, mem: Mem) {
        let reg = (reg & 7) << 3;
        let Some(base) = mem.base else {
            let (index, scale) = mem.index.unwrap_or((RSP, 0));
            self.bytes(&[reg | 4, scale << 6 | (index & 7) << 3 | 5]);
            self.int32(mem.displacement);
            return;
        };
        let small = i8::try_from(mem.displacement);
        let mode = match small {
            Ok(0) if base & 7 != RBP => 0x00,
            Ok(_) => 0x40,
            Err(_) => 0x80,
        };
        match mem.index {
            Some((index, scale)) => {
                self.bytes(&[mode | reg | 4, scale << 6 | (index & 7) << 3 | (base & 7)]);
            }
            None if base & 7 == RSP => self.bytes(&[mode | reg | 4, 0x24]),
            None => self.bytes(&[mode | reg | (base & 7)]),
        }
        match (mode, small) {
            (0x40, Ok(displacement)) => self.buffer.push(displacement as u8),
            (0x80, _) => self.int32(mem.displacement),
            _ => {}
        }
    }

    /// `mov reg, qword mem`
    pub(super) fn load(&mut self, reg: Reg, mem: Mem) {
        self.touch(reg);
        self.memory_form(true, &[0x8b], reg, mem);
    }

    /// `mov reg32, dword mem`
    pub(super) fn load32(&mut self, reg: Reg, mem: Mem) {
        self.touch(reg);
        self.memory_form(false, &[0x8b], reg, mem);
    }

    /// `movzx reg32, word mem`
    pub(super) fn load16(&mut self, reg: Reg, mem: Mem) {
        self.touch(reg);
        self.memory_form(false, &[0x0f, 0xb7], reg, mem);
    }

    /// `mov qword mem, reg`
    pub(super) fn store(&mut self, mem: Mem, reg: Reg) {
        self.memory_form(true, &[0x89], reg, mem);
    }

    /// `mov word mem, reg`
    pub(super) fn store16(&mut self, mem: Mem, reg: Reg) {
        self.buffer.push(0x66);
        self.memory_form(false, &[0x89], reg, mem);
    }

    /// `mov qword mem, imm32 sign-extended`
    pub(super) fn store_imm(&mut self, mem: Mem, value: i32) {
        self.memory_form(true, &[0xc7], 0, mem);
        self.int32(value);
    }

    /// `mov word mem, imm16`
    pub(super) fn store_imm16(&mut self, mem: Mem, value: i16) {
        self.buffer.push(0x66);
        self.memory_form(false, &[0xc7], 0, mem);
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    /// `mov mem, imm` of 2, 4 or 8 bytes; 8 are sign-extended from 4.
    pub(super) fn store_imm_sized(&mut self, mem: Mem, value: i32, bytes: u8) {
        match bytes {
            2 => self.store_imm16(mem, value as i16),
            4 => {
                self.memory_form(false, &[0xc7], 0, mem);
                self.int32(value);
            }
            _ => self.store_imm(mem, value),
        }
    }

    /// Loads 1, 2, 4 or 8 bytes, zero-extended.
    pub(super) fn load_sized(&mut self, reg: Reg, mem: Mem, bytes: u8) {
        self.touch(reg);
        match bytes {
            1 => self.memory_form(false, &[0x0f, 0xb6], reg, mem),
            2 => self.load16(reg, mem),
            4 => self.load32(reg, mem),
            _ => self.load(reg, mem),
        }
    }

    /// Loads 1, 2, 4 or 8 bytes into the low part of a register, as `mov` does. A low byte is that
    /// of rax, rcx, rdx or rbx.
    pub(super) fn load_part(&mut self, reg: Reg, mem: Mem, bytes: u8) {
        match bytes {
            1 => self.memory_form(false, &[0x8a], reg, mem),
            2 => {
                self.buffer.push(0x66);
                self.memory_form(false, &[0x8b], reg, mem);
            }
            4 => self.load32(reg, mem),
            _ => self.load(reg, mem),
        }
    }

    /// Stores the low 1, 2, 4 or 8 bytes of rax, rcx, rdx, rbx or r8 to r15.
    pub(super) fn store_sized(&mut self, mem: Mem, reg: Reg, bytes: u8) {
        match bytes {
            1 => self.memory_form(false, &[0x88], reg, mem),
            2 => self.store16(mem, reg),
            4 => self.memory_form(false, &[0x89], reg, mem),
            _ => self.store(mem, reg),
        }
    }

    /// `lea reg, mem` (the segment does not matter)
    pub(super) fn lea(&mut self, reg: Reg, mem: Mem) {
        self.touch(reg);
        self.memory_form(true, &[0x8d], reg, mem);
    }

    /// `lea reg32, mem`: the sum modulo 2^32
    pub(super) fn lea32(&mut self, reg: Reg, mem: Mem) {
        self.touch(reg);
        self.memory_form(false, &[0x8d], reg, mem);
    }

    /// `mov to, from`
    pub(super) fn copy(&mut self, to: Reg, from: Reg) {
        self.register_form(0x89, to, from);
    }

    /// `mov to32, from32`
    pub(super) fn copy32(&mut self, to: Reg, from: Reg) {
        self.touch(to);
        self.bytes(&[0x40 | (from >> 3) << 2 | (to >> 3), 0x89, 0xc0 | (from & 7) << 3 | (to & 7)]);
    }

    /// `mov to16, from16`
    pub(super) fn copy16(&mut self, to: Reg, from: Reg) {
        self.buffer.push(0x66);
        self.copy32(to, from);
    }

    /// `movzx to32, from16`
    pub(super) fn zero_extend16(&mut self, to: Reg, from: Reg) {
        self.touch(to);
        self.bytes(&[
            0x40 | (to >> 3) << 2 | (from >> 3),
            0x0f,
            0xb7,
            0xc0 | (to & 7) << 3 | (from & 7),
        ]);
    }

    /// `movzx to32, from8` (low byte)
    pub(super) fn zero_extend8(&mut self, to: Reg, from: Reg) {
        self.touch(to);
        self.bytes(&[
            0x40 | (to >> 3) << 2 | (from >> 3),
            0x0f,
            0xb6,
            0xc0 | (to & 7) << 3 | (from & 7),
        ]);
    }

    /// `mov reg, value` in its shortest form without flags.
    pub(super) fn constant(&mut self, reg: Reg, value: u64) {
        self.touch(reg);
        if let Ok(low) = u32::try_from(value) {
            if reg >= 8 {
                self.buffer.push(0x41);
            }
            self.buffer.push(0xb8 | (reg & 7));
            self.buffer.extend_from_slice(&low.to_le_bytes());
        } else if let Ok(low) = i32::try_from(value as i64) {
            self.bytes(&[0x48 | (reg >> 3), 0xc7, 0xc0 | (reg & 7)]);
            self.int32(low);
        } else {
            self.bytes(&[0x48 | (reg >> 3), 0xb8 | (reg & 7)]);
            self.buffer.extend_from_slice(&value.to_le_bytes());
        }
    }

    /// `pext to, from, gs:[word]`
    pub(super) fn pext(&mut self, to: Reg, from: Reg, word: usize) {
        self.touch(to);
        let r = u8::from(to < 8) << 7;
        self.bytes(&[0x65, 0xc4, r | 0x60 | 0x02, 0x80 | (!from & 15) << 3 | 0x02, 0xf5]);
        self.modrm_memory(to, Mem::word(word));
    }

    /// `pext to, from, r12`: the index in the shadow.
    pub(super) fn index(&mut self, to: Reg, from: Reg) {
        self.touch(to);
        let r = u8::from(to < 8) << 7;
        self.bytes(&[0xc4, r | 0x40 | 0x02, 0x80 | (!from & 15) << 3 | 0x02, 0xf5]);
        self.bytes(&[0xc0 | (to & 7) << 3 | (MASK & 7)]);
    }

    /// `add reg, qword mem`: changes flags.
    pub(super) fn add_flags(&mut self, reg: Reg, mem: Mem) {
        self.touch(reg);
        self.memory_form(true, &[0x03], reg, mem);
    }

    /// `sub reg, qword mem`: changes flags.
    pub(super) fn sub_flags(&mut self, reg: Reg, mem: Mem) {
        self.touch(reg);
        self.memory_form(true, &[0x2b], reg, mem);
    }

    /// `cmp reg, qword mem`: changes flags.
    pub(super) fn compare_with_flags(&mut self, reg: Reg, mem: Mem) {
        self.memory_form(true, &[0x3b], reg, mem);
    }

    /// `cmovcc reg, qword mem`; `condition` is the low nibble of the opcode.
    pub(super) fn load_if(&mut self, condition: u8, reg: Reg, mem: Mem) {
        self.touch(reg);
        self.memory_form(true, &[0x0f, 0x40 | condition], reg, mem);
    }

    /// `add to, from`: changes flags.
    pub(super) fn add_register_flags(&mut self, to: Reg, from: Reg) {
        self.register_form(0x01, to, from);
    }

    /// `sub to, from`: changes flags.
    pub(super) fn sub_register_flags(&mut self, to: Reg, from: Reg) {
        self.register_form(0x29, to, from);
    }

    /// `xor to, from`: changes flags.
    pub(super) fn xor_register_flags(&mut self, to: Reg, from: Reg) {
        self.register_form(0x31, to, from);
    }

    /// An instruction of 64 bits whose operand in ModRM is the register it changes.
    fn register_form(&mut self, opcode: u8, to: Reg, from: Reg) {
        self.touch(to);
        let registers = 0xc0 | (from & 7) << 3 | (to & 7);
        self.bytes(&[0x48 | (from >> 3) << 2 | (to >> 3), opcode, registers]);
    }

    /// `imul to, from, imm32`: changes flags.
    pub(super) fn multiply_flags(&mut self, to: Reg, from: Reg, value: i32) {
        self.touch(to);
        self.bytes(&[0x48 | (to >> 3) << 2 | (from >> 3), 0x69, 0xc0 | (to & 7) << 3 | (from & 7)]);
        self.int32(value);
    }

    /// `rep movs` of elements of 1, 2, 4 or 8 bytes.
    pub(super) fn repeat_move(&mut self, bytes: u8) {
        self.repeat(0xa4, bytes);
    }

    /// `rep stos` of elements of 1, 2, 4 or 8 bytes.
    pub(super) fn repeat_fill(&mut self, bytes: u8) {
        self.repeat(0xaa, bytes);
    }

    fn repeat(&mut self, opcode: u8, bytes: u8) {
        match bytes {
            1 => self.bytes(&[0xf3, opcode]),
            2 => self.bytes(&[0x66, 0xf3, opcode | 1]),
            4 => self.bytes(&[0xf3, opcode | 1]),
            _ => self.bytes(&[0xf3, 0x48, opcode | 1]),
        }
    }

    /// `shr reg, bits`: changes flags.
    pub(super) fn shift_right_flags(&mut self, reg: Reg, bits: u8) {
        self.touch(reg);
        self.bytes(&[0x48 | (reg >> 3), 0xc1, 0xe8 | (reg & 7), bits]);
    }

    /// `cmp reg, imm32`: changes flags.
    pub(super) fn compare_flags(&mut self, reg: Reg, value: i32) {
        self.bytes(&[0x48 | (reg >> 3), 0x81, 0xf8 | (reg & 7)]);
        self.int32(value);
    }

    /// `cmp dword mem, imm32`: changes flags.
    pub(super) fn compare_word_flags(&mut self, mem: Mem, value: i32) {
        self.memory_form(false, &[0x81], 7, mem);
        self.int32(value);
    }

    /// `cmp qword mem, imm8`: changes flags.
    pub(super) fn compare_byte_flags(&mut self, mem: Mem, value: i8) {
        self.memory_form(true, &[0x83], 7, mem);
        self.buffer.push(value as u8);
    }

    /// `sub dword mem, 1`: changes flags.
    pub(super) fn decrement_flags(&mut self, mem: Mem) {
        self.memory_form(false, &[0x83], 5, mem);
        self.buffer.push(1);
    }

    /// `test reg32, imm32`: changes flags.
    pub(super) fn test_flags(&mut self, reg: Reg, value: u32) {
        self.bytes(&[0x40 | (reg >> 3), 0xf7, 0xc0 | (reg & 7)]);
        self.buffer.extend_from_slice(&value.to_le_bytes());
    }

    /// `not reg`
    pub(super) fn complement(&mut self, reg: Reg) {
        self.touch(reg);
        self.bytes(&[0x48 | (reg >> 3), 0xf7, 0xd0 | (reg & 7)]);
    }

    /// `stmxcsr dword mem`
    pub(super) fn store_mxcsr(&mut self, mem: Mem) {
        self.memory_form(false, &[0x0f, 0xae], 3, mem);
    }

    /// `fnstcw word mem`
    pub(super) fn store_x87_control(&mut self, mem: Mem) {
        self.memory_form(false, &[0xd9], 7, mem);
    }

    /// `fnstsw word mem`
    pub(super) fn store_x87_status(&mut self, mem: Mem) {
        self.memory_form(false, &[0xdd], 7, mem);
    }

    /// Fills up with instructions that do nothing to a multiple of `bytes`, a power of two.
    pub(super) fn align(&mut self, bytes: u64) {
        const NOTHING: [&[u8]; 4] =
            [&[0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], &[0x0f, 0x1f, 0x40, 0], &[0x66, 0x90], &[0x90]];
        let mut left = (self.here().wrapping_neg() & (bytes - 1)) as usize;
        for filler in NOTHING {
            while left >= filler.len() {
                self.bytes(filler);
                left -= filler.len();
            }
        }
    }

    /// `jmp qword mem`
    pub(super) fn jump_through(&mut self, mem: Mem) {
        self.memory_form(false, &[0xff], 4, mem);
    }

    /// `call qword mem`: only on the host's stack.
    pub(super) fn call_through(&mut self, mem: Mem) {
        self.memory_form(false, &[0xff], 2, mem);
    }

    /// `prefetcht0 mem`
    pub(super) fn prefetch(&mut self, mem: Mem) {
        self.memory_form(false, &[0x0f, 0x18], 1, mem);
    }

    /// `jcc rel32` to a place not yet known; `condition` is the low nibble of the opcode.
    pub(super) fn branch(&mut self, condition: u8) -> Patch {
        self.bytes(&[0x0f, 0x80 | condition, 0, 0, 0, 0]);
        Patch(self.buffer.len() - 4)
    }

    /// `jmp rel32` to a place not yet known.
    pub(super) fn jump(&mut self) -> Patch {
        self.bytes(&[0xe9, 0, 0, 0, 0]);
        Patch(self.buffer.len() - 4)
    }

    /// `jmp rel32` to a host address.
    pub(super) fn jump_to(&mut self, host: u64) {
        let patch = self.jump();
        self.resolve_to(patch, host);
    }

    /// A short branch over what follows; `opcode` is 0xe3 for `jrcxz`, 0xeb for `jmp`, 0x70 up for
    /// `jcc`.
    pub(super) fn short(&mut self, opcode: u8) -> Patch {
        self.bytes(&[opcode, 0]);
        Patch(self.buffer.len() - 1)
    }

    /// Lets a short branch go here.
    ///
    /// # Panics
    /// If the distance is more than 127 bytes: a template is wrong.
    pub(super) fn land(&mut self, patch: Patch) {
        self.forget();
        let distance = self.buffer.len() - patch.0 - 1;
        self.buffer[patch.0] = u8::try_from(distance)
            .ok()
            .filter(|d| *d < 128)
            .expect("templates between a short branch and its target are below 128 bytes");
    }

    /// Lets a near branch go here.
    pub(super) fn resolve(&mut self, patch: Patch) {
        self.forget();
        let host = self.here();
        self.resolve_to(patch, host);
    }

    /// Lets a near branch go to a host address.
    pub(super) fn resolve_to(&mut self, patch: Patch, host: u64) {
        let distance = relative(self.address_of(patch), host);
        self.buffer[patch.0..patch.0 + 4].copy_from_slice(&distance);
    }

    /// Lets the near branch whose displacement stands at host address `field` go here.
    pub(super) fn resolve_at(&mut self, field: u64) {
        let hot = field.wrapping_sub(self.place.hot) as usize;
        let cold = field.wrapping_sub(self.place.cold) as usize;
        let is_hot = hot < self.hot_bytes.min(self.buffer.len());
        self.resolve(Patch(if is_hot { hot } else { self.hot_bytes + cold }));
    }

    /// The host address of the displacement of a near branch.
    pub(super) fn address_of(&self, patch: Patch) -> u64 {
        self.address(patch.0)
    }
}

/// The displacement bytes at host address `field` of a near branch to `target`.
pub(super) fn relative(field: u64, target: u64) -> [u8; 4] {
    (target.wrapping_sub(field + 4) as u32).to_le_bytes()
}
