//! The Linux ABI on top of the memory manager.
//!
//! Loads a program, runs it on an engine, and answers what it asks for: system calls, page faults
//! and signals. It decides nothing about memory (crate `mm` does) and executes nothing (crate `cpu`
//! does); `run.rs` is the only place that sees both.
//!
//! Nouns: [`Kernel`] (one run), [`Task`] (what runs), [`Errno`] and [`SysResult`] (how a call
//! ends),
//! [`fs::Vfs`] (files), [`Outcome`] and [`RunReport`] (how the run ended).
//!
//! Invariants
//! 1. Nothing that a program does ends in a panic: it gets an error number or a signal.
//! 2. Time, randomness, process numbers and addresses do not depend on the host.
//! 3. An error number is made in `errno.rs` only.
#![forbid(unsafe_code)]

pub mod abi;
mod asid;
mod clone;
mod compat;
pub mod elf;
pub mod errno;
pub mod exec;
mod exit;
mod family;
pub mod fs;
pub mod ledger;
mod load;
mod objects;
pub mod oom;
mod outcome;
pub mod process;
pub mod random;
mod roster;
mod run;
pub mod schedule;
pub mod series;
mod shelf;
pub mod signal;
pub mod stack_init;
pub mod stuck;
pub mod syscall;
pub mod task;
mod testmem;
pub mod uaccess;
pub mod vdso;
pub mod wait;
mod write_back;

use std::fmt;

use cpu::Engine;
use machine::{Machine, MachineConfig, RamError};
use mm::kernel_space::SpaceError;
use mm::{Memory, MmError};

pub use errno::{Errno, SysResult};
pub use fs::{Credentials, FdTable, FsContext, Vfs, VfsConfig};
pub use outcome::{Outcome, RunReport, UnimplementedCall, VmaReport};
pub use process::Process;
pub use task::Task;

use asid::Asids;
pub use asid::ContextSwitch;
use mm::Mm;
use schedule::Tasks;
use syscall::SyscallTally;

/// What a run is made from.
pub struct KernelConfig {
    /// RAM, page-table format, TLBs, time of day.
    pub machine: MachineConfig,
    /// Bytes of memory of the test device, a multiple of 4,096; 0 for no device.
    pub device_bytes: u64,
    /// What executes.
    pub engine: Box<dyn Engine>,
    /// The files that the program sees.
    pub vfs: VfsConfig,
    /// The program: a path in the guest's tree, or a name to be looked up in its PATH.
    pub program: Vec<u8>,
    /// Its arguments, the zeroth included.
    pub args: Vec<Vec<u8>>,
    /// Its environment, `NAME=value`.
    pub env: Vec<Vec<u8>>,
    /// Its working directory.
    pub cwd: Vec<u8>,
    /// Who it runs as.
    pub credentials: Credentials,
    /// `RLIMIT_STACK`, bytes.
    pub stack_bytes: u64,
    /// Seed of all randomness.
    pub seed: u64,
    /// How many processes and threads may be.
    pub task_limits: TaskLimits,
    /// What a context switch does to the TLBs.
    pub context_switch: ContextSwitch,
    /// Whom to evict when RAM is short.
    pub policy: &'static mm::Policy,
    /// How much memory all programs together may have.
    pub limits: mm::GroupLimits,
    /// How much memory may be promised.
    pub overcommit: mm::Overcommit,
    /// Virtual nanoseconds after which the pages that programs used are counted, again and again;
    /// costs flushes of the TLBs. `None`: they are not counted.
    pub working_set_ns: Option<u64>,
    /// Where private pages go when RAM is short; without it nothing is ever taken back.
    pub swap: Option<SwapConfig>,
    /// What of the files is in RAM at the start.
    pub page_cache: PageCacheConfig,
    /// `CONFIG_PAGE_OFFSET` of a kernel of 32 bits: which addresses are for programs. `None` is
    /// the split of most kernels, 3 GiB and 1 GiB.
    pub page_offset: Option<u64>,
}

/// The page cache as the machine starts with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageCacheConfig {
    /// What is in it.
    pub warmth: mm::Warmth,
    /// What reading and writing files costs in virtual time, where a device has to.
    pub device: mm::Latency,
}

impl Default for PageCacheConfig {
    /// Everything is there, as on a host that has run the program before.
    fn default() -> Self {
        Self { warmth: mm::Warmth::Warm, device: mm::LATENCIES[0] }
    }
}

/// What a swap area is to the program, in `/proc/swaps`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SwapKind {
    /// A device of compressed memory.
    Memory,
    /// A file.
    File,
}

/// Swap that costs the virtual time of a device.
pub struct SwapConfig {
    /// Bytes of pages that it can hold.
    pub bytes: u64,
    /// What it costs.
    pub latency: mm::Latency,
    /// Who keeps the bytes.
    pub store: Box<dyn mm::SwapStore>,
    /// How it is shown.
    pub kind: SwapKind,
    /// How much of RAM, in percent, holds pages compressed before they go to `store`.
    pub zswap_percent: u64,
}

impl SwapConfig {
    /// Slots, that of the header included; the last number that a slot can have bounds them.
    fn slot_count(&self) -> u32 {
        u32::try_from((self.bytes / machine::PAGE_BYTES).saturating_add(1)).unwrap_or(u32::MAX)
    }
}

/// Bounds on what a run may start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TaskLimits {
    /// Processes at one time, zombies included; `fork` returns `EAGAIN` beyond.
    pub processes_max: u64,
    /// Threads of all processes at one time.
    pub threads_max: u64,
    /// Virtual nanoseconds after which the run is ended; `None` for never.
    pub run_ns_max: Option<u64>,
}

impl Default for TaskLimits {
    /// Room for real programs, and an end to fork bombs.
    fn default() -> Self {
        Self { processes_max: 4096, threads_max: 16384, run_ns_max: None }
    }
}

/// One run: a machine, its memory manager, its files and its tasks.
///
/// The parts of the running task are fields; those of others are in [`Tasks`].
pub struct Kernel {
    /// The computer.
    pub hw: Machine,
    /// All its frames.
    pub memory: Memory,
    /// The running task: a thread.
    pub task: Task,
    /// Its process.
    pub process: Process,
    /// Its address space, the machine's active one.
    pub mm: Mm,
    /// Its open files.
    pub files: FdTable,
    /// Its place in the tree.
    pub fs: FsContext,
    /// All other tasks.
    pub tasks: Tasks,
    /// The tree and all open files.
    pub vfs: Vfs,
    /// What executes.
    pub engine: Box<dyn Engine>,
    /// Seeded randomness.
    pub random: random::Generator,
    /// System V IPC.
    pub(crate) ipc: syscall::sysv::Ipc,
    /// Calls made.
    pub tally: SyscallTally,
    task_limits: TaskLimits,
    asids: Asids,
    special: exec::SpecialPages,
    /// What the kernel passes to its own calls in place of memory of an i386 program.
    window: compat::Window,
    /// Which kernel this is.
    kind: abi::KernelKind,
    /// The frame of the GDT: an i386 kernel's from the start, a 64-bit one's once a program has
    /// entries of its own.
    gdt: Option<machine::Frame>,
    /// Numbers that programs wrote below `/proc/sys` and that nothing else keeps.
    settings: std::collections::BTreeMap<&'static str, i64>,
    ledger: ledger::ProcessReports,
    /// Memory over time.
    series: series::Series,
    /// The swap areas, in the order of their start.
    swap_areas: Vec<syscall::swap::NamedArea>,
    /// What swapping costs.
    swap_latency: mm::Latency,
    /// What the kernel's own objects take of RAM.
    pub(crate) objects: objects::KernelObjects,
    /// The test device, if the machine has it.
    testmem: Option<testmem::TestMemory>,
    /// Who was killed for want of memory.
    oom: oom::OomKills,
    /// The virtual time at which old dirty pages are looked for next.
    write_back_ns: u64,
    /// The virtual time at which the run is ended.
    end_ns: u64,
    /// Waits for the host, which the time limit counts too.
    patience: fs::Patience,
    /// How the run ended.
    outcome: Option<Outcome>,
    /// Who waits for what, if it is stuck.
    deadlock: stuck::Deadlock,
    report: Option<RunReport>,
}

/// Why a run could not start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BootError {
    /// The machine can not be built.
    Ram(RamError),
    /// There is no kernel for it.
    Kernel(SpaceError),
    /// The memory manager can not start on it.
    Memory(MmError),
    /// The root, a bind or the working directory can not be used.
    Files {
        /// The path.
        path: Vec<u8>,
        /// Why.
        errno: Errno,
    },
    /// There is no such program.
    NotFound {
        /// The path or name that was looked for.
        program: Vec<u8>,
    },
    /// It can not be executed.
    Exec {
        /// The path.
        program: Vec<u8>,
        /// The error that `execve` returns.
        errno: Errno,
    },
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ram(error) => write!(f, "{error}"),
            Self::Kernel(error) => write!(f, "{error}"),
            Self::Memory(error) => write!(f, "{error}"),
            Self::Files { path, errno } => {
                write!(f, "{}: {errno}", String::from_utf8_lossy(path))
            }
            Self::NotFound { program } => {
                write!(f, "{}: no such program", String::from_utf8_lossy(program))
            }
            Self::Exec { program, errno } => {
                write!(f, "{}: cannot execute: {errno}", String::from_utf8_lossy(program))
            }
        }
    }
}

impl std::error::Error for BootError {}
