//! A test case and what became of it.

use iced_x86::{Formatter, Instruction};
use std::fmt;

/// Bytes of the floating-point and vector state.
pub const FPU_BYTES: usize = cpu::XSAVE_BYTES;

/// The state of the CPU before or after a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct State {
    pub gpr: [u64; 16],
    pub rip: u64,
    pub rflags: u64,
    pub fs_base: u64,
    pub gs_base: u64,
    /// Whether the code is 32-bit code.
    pub is_compat: bool,
    pub fpu: [u8; FPU_BYTES],
}

impl State {
    pub const fn new() -> Self {
        let mut fpu = [0; FPU_BYTES];
        (fpu[0], fpu[1]) = (0x7f, 0x03);
        (fpu[24], fpu[25]) = (0x80, 0x1f);
        fpu[512] = 7;
        Self { gpr: [0; 16], rip: 0, rflags: 0x202, fs_base: 0, gs_base: 0, is_compat: false, fpu }
    }

    /// Where the 32 bytes of vector register `index` are: the low and the high half.
    pub const fn vector_halves(index: usize) -> (usize, usize) {
        (160 + index * 16, 576 + index * 16)
    }
}

/// A change of memory: a byte offset into the frames of the layout, and what is put there.
pub type Patch = (u64, Vec<u8>);

/// What is compared less strictly, and why.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Flags that the manual leaves undefined at the end.
    pub undefined_flags: u64,
    /// Memory may hold part of what an instruction would have written before it faulted.
    pub partial_writes: bool,
    /// Which byte of the operand faults first is the CPU's own affair.
    pub loose_fault: bool,
    /// It is the CPU's own affair whether an instruction faults (bytes that are masked off, parts
    /// of an image that are not wanted) and how far it comes then.
    pub optional_fault: bool,
    /// Bytes of memory whose content is the CPU's own affair: offset and length.
    pub ignored: Vec<(u64, u64)>,
}

/// One program to run from one state.
#[derive(Clone, Debug)]
pub struct Case {
    /// How to get this case again.
    pub name: String,
    pub state: State,
    pub patches: Vec<Patch>,
    pub instructions: Vec<Instruction>,
    pub rules: Rules,
}

/// How a case ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// A page fault: address and error code.
    Page { address: u64, error: u64 },
    /// Another exception, by its vector.
    Exception(u64),
    /// A system call.
    Syscall,
    /// It went on and on.
    Endless,
    /// A signal that is none of these.
    Signal(u64),
}

/// What a case left behind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    pub state: State,
    pub end: End,
    /// Each 8 bytes of memory that are not what the case found: offset and new value, ascending.
    pub changes: Vec<(u64, u64)>,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "case {}", self.name)?;
        let mut formatter = iced_x86::IntelFormatter::new();
        for instruction in &self.instructions {
            let mut text = String::new();
            formatter.format(instruction, &mut text);
            writeln!(f, "  {:#x}: {text}   ({:?})", instruction.ip(), instruction.code())?;
        }
        for (offset, bytes) in &self.patches {
            writeln!(f, "  patch {offset:#x}: {bytes:02x?}")?;
        }
        let state = &self.state;
        writeln!(f, "  gpr {:x?}", state.gpr)?;
        writeln!(
            f,
            "  rip {:#x} rflags {:#x} fs {:#x} gs {:#x} mxcsr {:02x?}",
            state.rip,
            state.rflags,
            state.fs_base,
            state.gs_base,
            &state.fpu[24..28]
        )
    }
}
