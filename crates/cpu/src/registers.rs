//! The state of one guest CPU between two instructions.

use crate::segments::{DescriptorTable, Segment};

/// Bytes of the floating-point and vector state: legacy 512, header 64, upper halves of ymm 256.
pub const XSAVE_BYTES: usize = 832;

/// x87, SSE and AVX state in the standard (not compacted) format of `xsave`, XCR0 = 7.
///
/// # Source
/// Intel SDM 1, 13.4.
#[derive(Clone, PartialEq, Eq, Debug)]
#[repr(C, align(64))]
pub struct XsaveArea {
    bytes: [u8; XSAVE_BYTES],
}

const FCW: usize = 0;
const MXCSR: usize = 24;
const MXCSR_MASK: usize = 28;
const XSTATE_BV: usize = 512;
const HEADER_END: usize = 576;

impl Default for XsaveArea {
    fn default() -> Self {
        Self::new()
    }
}

impl XsaveArea {
    /// Bits that MXCSR has on the virtual CPU.
    pub const MXCSR_BITS: u32 = 0xffff;

    /// The state that Linux gives a new program: FCW 0x37f, MXCSR 0x1f80, the rest zero.
    pub const fn new() -> Self {
        let mut bytes = [0; XSAVE_BYTES];
        bytes[FCW] = 0x7f;
        bytes[FCW + 1] = 0x03;
        bytes[MXCSR] = 0x80;
        bytes[MXCSR + 1] = 0x1f;
        bytes[MXCSR_MASK] = 0xff;
        bytes[MXCSR_MASK + 1] = 0xff;
        bytes[XSTATE_BV] = 3;
        Self { bytes }
    }

    /// All bytes, for a signal frame.
    pub const fn bytes(&self) -> &[u8; XSAVE_BYTES] {
        &self.bytes
    }

    /// All bytes, to be filled from a signal frame; call [`Self::sanitize`] afterwards.
    pub const fn bytes_mut(&mut self) -> &mut [u8; XSAVE_BYTES] {
        &mut self.bytes
    }

    /// The control and status word of SSE.
    pub const fn mxcsr(&self) -> u32 {
        self.u32_at(MXCSR)
    }

    /// The control word of the x87 unit.
    pub const fn fcw(&self) -> u16 {
        self.bytes[FCW] as u16 | (self.bytes[FCW + 1] as u16) << 8
    }

    /// The status word of the x87 unit.
    pub const fn fsw(&self) -> u16 {
        self.bytes[2] as u16 | (self.bytes[3] as u16) << 8
    }

    /// The low half of vector register `index`.
    ///
    /// # Panics
    /// If there is no such register.
    pub fn xmm(&self, index: usize) -> [u8; 16] {
        assert!(index < 16, "there are 16 vector registers");
        let start = 160 + index * 16;
        let mut value = [0; 16];
        value.copy_from_slice(&self.bytes[start..start + 16]);
        value
    }

    /// The high half of vector register `index`.
    ///
    /// # Panics
    /// If there is no such register.
    pub fn ymm_high(&self, index: usize) -> [u8; 16] {
        assert!(index < 16, "there are 16 vector registers");
        let start = HEADER_END + index * 16;
        let mut value = [0; 16];
        value.copy_from_slice(&self.bytes[start..start + 16]);
        value
    }

    /// Makes the area loadable whatever a program wrote to it: reserved bits become zero, and parts
    /// that the header calls initial are written out as such.
    pub fn sanitize(&mut self) {
        let mxcsr = self.mxcsr() & Self::MXCSR_BITS;
        self.bytes[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr.to_le_bytes());
        self.bytes[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&Self::MXCSR_BITS.to_le_bytes());
        self.bytes[XSTATE_BV] &= 7;
        self.bytes[XSTATE_BV + 1..HEADER_END].fill(0);
    }

    /// Clears what tells where an instruction stood on the host: FOP, FIP, FDP; and marks all parts
    /// of the state as present.
    pub(crate) fn clear_pointers(&mut self) {
        self.bytes[6..24].fill(0);
        self.bytes[MXCSR_MASK..MXCSR_MASK + 4].copy_from_slice(&Self::MXCSR_BITS.to_le_bytes());
        self.bytes[XSTATE_BV] = 7;
    }

    /// Whether the header calls no part of the state initial: all bytes are what they say.
    pub(crate) const fn is_complete(&self) -> bool {
        self.bytes[XSTATE_BV] == 7
    }

    /// Whether the upper half of some vector register is not zero.
    pub(crate) fn has_upper_halves(&self) -> bool {
        self.bytes[HEADER_END..] != [0; XSAVE_BYTES - HEADER_END]
    }

    const fn u32_at(&self, offset: usize) -> u32 {
        u32::from_le_bytes([
            self.bytes[offset],
            self.bytes[offset + 1],
            self.bytes[offset + 2],
            self.bytes[offset + 3],
        ])
    }
}

/// The registers of one guest CPU.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registers {
    /// rax rcx rdx rbx rsp rbp rsi rdi r8 to r15: the numbers of the instruction encoding.
    pub gpr: [u64; 16],
    /// The next instruction.
    pub rip: u64,
    /// The flags.
    pub rflags: u64,
    /// Base of the FS segment.
    pub fs_base: u64,
    /// Base of the GS segment.
    pub gs_base: u64,
    /// Segment selectors es cs ss ds fs gs.
    pub selectors: [u16; 6],
    /// The hidden parts of the segment registers, in the same order.
    pub segments: [Segment; 6],
    /// The global descriptor table.
    pub gdt: DescriptorTable,
    /// The local descriptor table.
    pub ldt: DescriptorTable,
    /// The error code of the last #GP, #SS or #NP that had one; 0 if it named no selector.
    pub error_code: u32,
    /// x87, SSE and AVX.
    pub fpu: XsaveArea,
}

impl Default for Registers {
    fn default() -> Self {
        Self::new()
    }
}

impl Registers {
    /// Index of rax in [`Self::gpr`].
    pub const RAX: usize = 0;
    /// Index of rcx.
    pub const RCX: usize = 1;
    /// Index of rdx.
    pub const RDX: usize = 2;
    /// Index of rbx.
    pub const RBX: usize = 3;
    /// Index of rsp.
    pub const RSP: usize = 4;
    /// Index of rbp.
    pub const RBP: usize = 5;
    /// Index of rsi.
    pub const RSI: usize = 6;
    /// Index of rdi.
    pub const RDI: usize = 7;

    /// The state of a new program: all zero, interrupts on, floating point as Linux sets it.
    pub const fn new() -> Self {
        Self {
            gpr: [0; 16],
            rip: 0,
            rflags: 0x202,
            fs_base: 0,
            gs_base: 0,
            selectors: [0, 0x33, 0x2b, 0, 0, 0],
            segments: [
                Segment::NULL,
                Segment::CODE_64,
                Segment::DATA,
                Segment::NULL,
                Segment::NULL,
                Segment::NULL,
            ],
            gdt: DescriptorTable::NONE,
            ldt: DescriptorTable::NONE,
            error_code: 0,
            fpu: XsaveArea::new(),
        }
    }

    /// The state of a new i386 program on x86-64 Linux.
    pub const fn new_compat() -> Self {
        let mut registers = Self::new();
        registers.selectors = [0x2b, 0x23, 0x2b, 0x2b, 0, 0];
        registers.segments[0] = Segment::DATA;
        registers.segments[1] = Segment::CODE_32;
        registers.segments[3] = Segment::DATA;
        registers
    }

    /// The state of a new program on i386 Linux, whose GDT ([`crate::GDT_I386`] and the entries of
    /// threads) is `gdt`.
    pub const fn new_i386(gdt: DescriptorTable) -> Self {
        let mut registers = Self::new_compat();
        registers.selectors = [0x7b, 0x73, 0x7b, 0x7b, 0, 0];
        registers.gdt = gdt;
        registers
    }
}
