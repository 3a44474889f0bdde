//! Ways to execute a program on the machine.
//!
//! An engine runs guest instructions until something happens that the software above has to look
//! at, and says what it was. It knows nothing of processes, VMAs or system calls.
//!
//! Nouns: [`Registers`] (the state of one guest CPU), [`Exit`] (why it stopped), [`Exception`]
//! (what the hardware raised), [`Engine`] (what executes), [`x86::Translator`] (the exact engine),
//! [`cpuid`] (the virtual CPU that the guest sees).
//!
//! Invariants
//! 1. At every exit the registers are those of an instruction boundary; nothing of the instruction
//!    that an exit names was done, unless the exit says so.
//! 2. What a guest sees does not depend on the host's clock, addresses or randomness.

mod cpuid;
mod registers;
mod segments;
pub mod x86;

use machine::{Machine, PageFault};

pub use cpuid::{CPU_NAME, CPUID_FEATURES_ECX, CPUID_FEATURES_EDX, TSC_KHZ, XCR0, cpuid};
pub use registers::{Registers, XSAVE_BYTES, XsaveArea};
pub use segments::{DescriptorTable, GDT_I386, GDT_X86_64, Mode, Segment, SegmentName, descriptor};

/// An exception of the CPU other than a page fault.
///
/// # Source
/// Intel SDM 3A, table 6-1.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Exception {
    /// #DE: integer division by zero, or the quotient does not fit. `rip` at the instruction.
    DivideError,
    /// #DB: single step or `int1`. `rip` after the instruction.
    Debug,
    /// #BP: `int3`. `rip` after the instruction.
    Breakpoint,
    /// #OF: `into`. `rip` after the instruction.
    Overflow,
    /// #BR: `bound`. `rip` at the instruction.
    Bound,
    /// #UD: no such instruction on the virtual CPU. `rip` at the instruction.
    InvalidOpcode,
    /// #GP: privileged, non-canonical or misaligned. `rip` at the instruction.
    GeneralProtection,
    /// #NP: a segment that is not present is loaded. `rip` at the instruction.
    NotPresent,
    /// #SS: a non-canonical address through the stack segment. `rip` at the instruction.
    StackFault,
    /// #MF: pending x87 exception. `rip` at the instruction that noticed.
    FloatingPoint,
    /// #XM: unmasked SIMD floating-point exception. `rip` at the instruction.
    SimdFloatingPoint,
    /// #AC: misaligned access with EFLAGS.AC set. `rip` at the instruction.
    AlignmentCheck,
}

/// By which way an i386 program calls the system.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Gate {
    /// `int 0x80`, from 64-bit code, too.
    Int80,
    /// `sysenter`.
    Sysenter,
    /// `syscall` of 32-bit code.
    Syscall,
}

/// Why an engine stopped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    /// `syscall`: `rip` is after the instruction, `rcx` and `r11` hold `rip` and `rflags`.
    Syscall,
    /// A system call of the i386 kind: `rip` is after the instruction, no register has changed.
    Syscall32(Gate),
    /// A page fault: `rip` is at the instruction (or where the fetch was wanted); the instruction
    /// may be run again. A `rep` string instruction has its registers at the element that faulted.
    Fault(PageFault),
    /// An exception; see [`Exception`] for where `rip` is.
    Exception(Exception),
    /// The slice of work is over; run again to go on.
    Budget,
}

/// What an engine did so far: plain counters, none of which influences a run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct EngineStatistics {
    /// Instructions executed, if they are counted.
    pub instruction_count: Option<u64>,
    /// Blocks translated.
    pub block_count: u64,
    /// Blocks that took the place of the jump to them.
    pub joint_count: u64,
    /// Guest instructions translated.
    pub translated_instruction_count: u64,
    /// Guest bytes translated.
    pub translated_bytes: u64,
    /// Host bytes emitted.
    pub emitted_bytes: u64,
    /// Times the emitted code was entered.
    pub entry_count: u64,
    /// Times all emitted code was thrown away because it was full.
    pub generation_count: u64,
    /// Blocks thrown away because their page changed.
    pub stale_block_count: u64,
    /// Groups of accesses that were emitted once more, with a probe for each, because the one
    /// probe of all had failed.
    pub split_count: u64,
}

/// What executes guest instructions.
pub trait Engine {
    /// Runs the guest from `regs` on `hw` until an [`Exit`], which it returns.
    ///
    /// The caller has activated the address space that the guest runs in.
    fn run(&mut self, regs: &mut Registers, hw: &mut Machine) -> Exit;

    /// What was done so far.
    fn statistics(&self) -> EngineStatistics;
}
