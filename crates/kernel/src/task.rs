//! One task: its registers, its address space, its files and its signals.
//!
//! Does not: schedule; a run has one task.

use cpu::Registers;
use machine::VirtAddr;
use mm::{Limits, Mm};

use crate::fs::{FdTable, FsContext};
use crate::outcome::Outcome;
use crate::signal::Signals;

/// The number of the first task of a run.
pub const PID: u32 = 1000;
/// Its parent, which does nothing.
pub const PARENT_PID: u32 = 1;

/// One resource limit, as `getrlimit` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ResourceLimit {
    /// The limit in force.
    pub soft: u64,
    /// How far the soft limit may be raised.
    pub hard: u64,
}

/// Number of resource limits (`RLIM_NLIMITS`).
pub const LIMIT_COUNT: usize = 16;
/// `RLIM_INFINITY`.
pub const INFINITY: u64 = u64::MAX;

const RLIMIT_FSIZE: usize = 1;
const RLIMIT_DATA: usize = 2;
const RLIMIT_STACK: usize = 3;
const RLIMIT_CORE: usize = 4;
const RLIMIT_NPROC: usize = 6;
const RLIMIT_NOFILE: usize = 7;
const RLIMIT_MEMLOCK: usize = 8;
const RLIMIT_AS: usize = 9;
const RLIMIT_SIGPENDING: usize = 11;
const RLIMIT_MSGQUEUE: usize = 12;

/// Most open files of a task.
const FILES_MAX: u64 = 1024;

/// The limits that a run starts with.
///
/// # Source
/// Linux 6.12 `include/asm-generic/resource.h`, with the sizes of semantics section 0.
pub fn initial_limits(stack_bytes: u64) -> [ResourceLimit; LIMIT_COUNT] {
    let both = |value| ResourceLimit { soft: value, hard: value };
    let mut limits = [both(INFINITY); LIMIT_COUNT];
    limits[RLIMIT_STACK] = ResourceLimit { soft: stack_bytes, hard: INFINITY };
    limits[RLIMIT_CORE] = both(0);
    limits[RLIMIT_NPROC] = both(4096);
    limits[RLIMIT_NOFILE] = both(FILES_MAX);
    limits[RLIMIT_MEMLOCK] = both(8 << 20);
    limits[RLIMIT_SIGPENDING] = both(4096);
    limits[RLIMIT_MSGQUEUE] = both(819_200);
    limits[13] = both(0);
    limits[14] = both(0);
    limits
}

/// One task.
pub struct Task {
    /// Its number: thread and process are one.
    pub pid: u32,
    /// Its address space.
    pub mm: Mm,
    /// Its CPU registers while it does not run.
    pub regs: Registers,
    /// Its open files.
    pub files: FdTable,
    /// Its working directory, file rights and umask.
    pub fs: FsContext,
    /// Its signal handlers, mask and pending signals.
    pub signals: Signals,
    /// Its name: at most 15 bytes.
    pub name: Vec<u8>,
    /// Resource limits by number.
    pub limits: [ResourceLimit; LIMIT_COUNT],
    /// Address that `set_tid_address` gave.
    pub clear_tid: VirtAddr,
    /// Head of the list of robust futexes.
    pub robust_list: u64,
    /// Registered rseq area: address, length, signature.
    pub rseq: Option<(u64, u32, u32)>,
    /// The personality bits.
    pub personality: u32,
    /// What a program may set and read back, without other effect.
    pub settings: Settings,
    /// Set when the task has ended.
    pub exit: Option<Outcome>,
}

impl Task {
    /// The limits that the memory manager looks at.
    pub fn memory_limits(&self) -> Limits {
        memory_limits(&self.limits, self.fs.credentials.uid)
    }

    /// The largest file that the task may make (`RLIMIT_FSIZE`).
    pub fn file_bytes_max(&self) -> u64 {
        self.limits[RLIMIT_FSIZE].soft
    }

    /// The first descriptor number that the task may not have (`RLIMIT_NOFILE`).
    pub fn files_max(&self) -> u64 {
        self.limits[RLIMIT_NOFILE].soft
    }
}

/// The limits that the memory manager looks at, of a task of user `uid`.
pub fn memory_limits(limits: &[ResourceLimit; LIMIT_COUNT], uid: u32) -> Limits {
    Limits {
        stack_bytes: limits[RLIMIT_STACK].soft,
        data_bytes: limits[RLIMIT_DATA].soft,
        address_space_bytes: limits[RLIMIT_AS].soft,
        locked_bytes: limits[RLIMIT_MEMLOCK].soft,
        // Root has CAP_IPC_LOCK and CAP_SYS_RAWIO.
        can_lock: uid == 0,
        can_map_low: uid == 0,
        ..Limits::default()
    }
}

/// Values that a program may set and read back, without other effect.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// `PR_SET_DUMPABLE`.
    pub dumpable: u64,
    /// `PR_SET_PDEATHSIG`.
    pub parent_death_signal: u64,
    /// `PR_SET_KEEPCAPS`.
    pub keep_capabilities: u64,
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privileges: u64,
    /// `PR_SET_TIMERSLACK`, nanoseconds.
    pub timer_slack_ns: u64,
    /// `PR_SET_THP_DISABLE`.
    pub thp_disable: u64,
    /// Nice value.
    pub nice: i32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dumpable: 1,
            parent_death_signal: 0,
            keep_capabilities: 0,
            no_new_privileges: 0,
            timer_slack_ns: 50_000,
            thp_disable: 0,
            nice: 0,
        }
    }
}
