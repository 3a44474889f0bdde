//! How a run ended and what it leaves to report: plain data, taken before the address space goes.

use cpu::EngineStatistics;
use machine::Counters;
use mm::{FaultCounters, MemoryUsage, Rss};

use crate::ledger::ProcessReports;
use crate::oom::OomKills;
use crate::series::Series;
use crate::stuck::Deadlock;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The program called `exit` or `exit_group`.
    Exited(u8),
    /// A signal ended it.
    Killed(u8),
    /// It was killed because no frame could be had: see [`crate::oom`]. Linux sends SIGKILL.
    OutOfMemory,
    /// The program had used up its time ([`crate::TaskLimits::run_ns_max`]).
    TimedOut,
    /// The program waits for something that can never happen in its world.
    Stuck {
        /// The system call that it waits in.
        number: u32,
    },
}

impl Outcome {
    /// The status as `wait4` reports it.
    pub fn wait_status(self) -> u32 {
        match self {
            Self::Exited(code) => u32::from(code) << 8,
            Self::Killed(signal) => u32::from(signal),
            Self::OutOfMemory | Self::Stuck { .. } | Self::TimedOut => 9,
        }
    }
}

/// One line of the final memory map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VmaReport {
    /// First byte.
    pub start: u64,
    /// First byte behind.
    pub end: u64,
    /// `rwxp` letters as in `/proc/PID/maps`.
    pub perms: [u8; 4],
    /// Name as in `/proc/PID/maps`, empty for plain anonymous memory.
    pub name: Vec<u8>,
    /// Resident bytes.
    pub rss_bytes: u64,
    /// Faults resolved inside since the program started.
    pub faults: u64,
}

/// A system call that the program tried and that is not implemented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnimplementedCall {
    /// Its number.
    pub number: u32,
    /// Its name.
    pub name: &'static str,
    /// How often it was tried.
    pub count: u64,
}

/// Everything that a report of a run is made of.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// How it ended.
    pub outcome: Outcome,
    /// Guest path of the program of the first process.
    pub program: Vec<u8>,
    /// Bytes of guest RAM.
    pub ram_bytes: u64,
    /// Faults since the program's first instruction, in all processes.
    pub faults: FaultCounters,
    /// The processes.
    pub processes: ProcessReports,
    /// Who waits for what, if the run was stuck.
    pub deadlock: Deadlock,
    /// Memory over time.
    pub series: Series,
    /// Who was killed for want of memory.
    pub oom: OomKills,
    /// Resident pages of the first process at the end.
    pub rss: Rss,
    /// Resident pages at the moment when there were most.
    pub rss_at_peak: Rss,
    /// Bytes of page tables at the end, as `VmPTE` counts them.
    pub page_table_bytes: u64,
    /// The most bytes of page tables.
    pub page_table_peak_bytes: u64,
    /// Where the frames were at the end, before the address space went.
    pub usage: MemoryUsage,
    /// Frames that nobody used at the end, before the address space went.
    pub frames_free_at_exit: u64,
    /// Frames missing after everything was given back: not zero is a bug of ours.
    pub frames_leaked: u64,
    /// Slots of swap that nobody gave back: not zero is a bug of ours.
    pub slots_leaked: u64,
    /// Pages of files of the host that could not be stored at the end.
    pub pages_lost: u64,
    /// What the machine counted.
    pub counters: Counters,
    /// What the engine counted.
    pub engine: EngineStatistics,
    /// Changes from one task to another.
    pub task_switches: u64,
    /// The map at the end.
    pub vmas: Vec<VmaReport>,
    /// System calls made.
    pub syscall_count: u64,
    /// Calls that are not implemented.
    pub unimplemented: Vec<UnimplementedCall>,
    /// What the memory manager did.
    pub events: mm::VmEvents,
    /// Swap at the end.
    pub swap: mm::SwapUsage,
    /// Compressed pages in front of swap at the end, and how many there were.
    pub zswap: mm::ZswapUsage,
    /// Slots of `kmap` and `kmap_local`; none on 64-bit machines.
    pub kmap: mm::KmapUsage,
    /// The most frames of the machine that compressed pages took.
    pub pool_frames_max: u64,
    /// Virtual time at the end, nanoseconds since boot.
    pub virtual_ns: u64,
    /// Hash over the event log.
    pub log_hash: u64,
    /// Events in the log.
    pub log_count: u64,
}
