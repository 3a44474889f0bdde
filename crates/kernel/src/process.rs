//! One process: what its threads have in common besides memory and files.
//!
//! # Source
//! Linux 6.12 `include/linux/sched/signal.h:signal_struct`, `kernel/fork.c:copy_signal`.

use std::collections::BTreeSet;

use mm::{FaultCounters, Limits};

use crate::fs::Credentials;
use crate::ledger::Account;
use crate::outcome::Outcome;
use crate::signal::{Actions, Pending};
use crate::syscall::time::Timers;

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

const RLIMIT_CPU: usize = 0;
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

/// Most open files of a process.
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

/// The limits that the memory manager looks at, of a process of user `uid`.
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

/// Where a process is between its start and its parent's `wait`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// It has threads.
    Alive,
    /// All threads are stopped by this signal; the flag tells whether the parent knows.
    Stopped(u8, Told),
    /// A stopped process goes on; the parent may ask once.
    Continued,
    /// It has ended and waits for its parent.
    Zombie(Outcome),
    /// Its parent has asked or does not care: nothing is left.
    Reaped,
}

/// Whether the parent has heard of a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Told {
    /// Not yet.
    No,
    /// By a `wait`.
    Yes,
}

/// CPU time and faults of a process, or of children that were waited for.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Usage {
    /// Virtual nanoseconds on the CPU.
    pub cpu_ns: u64,
    /// Faults that needed no I/O.
    pub minor_faults: u64,
    /// Faults that did.
    pub major_faults: u64,
    /// The most resident pages of one process.
    pub rss_peak_pages: u64,
    /// Switches because the task waited.
    pub switches_voluntary: u64,
    /// Switches because its time was over.
    pub switches_forced: u64,
}

impl Usage {
    /// Takes the use of another process in.
    pub fn add(&mut self, other: &Self) {
        self.cpu_ns = self.cpu_ns.saturating_add(other.cpu_ns);
        self.minor_faults = self.minor_faults.saturating_add(other.minor_faults);
        self.major_faults = self.major_faults.saturating_add(other.major_faults);
        self.rss_peak_pages = self.rss_peak_pages.max(other.rss_peak_pages);
        self.switches_voluntary = self.switches_voluntary.saturating_add(other.switches_voluntary);
        self.switches_forced = self.switches_forced.saturating_add(other.switches_forced);
    }

    /// Takes the faults of an address space that the process gives up in.
    pub fn add_faults(&mut self, faults: &FaultCounters, rss_peak_pages: u64) {
        self.minor_faults = self.minor_faults.saturating_add(faults.minor);
        self.major_faults = self.major_faults.saturating_add(faults.major);
        self.rss_peak_pages = self.rss_peak_pages.max(rss_peak_pages);
    }
}

/// Bytes that a process moved by system calls, and how often, as `/proc/PID/io` shows them.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct IoCounts {
    /// Bytes that reading calls returned.
    pub read_bytes: u64,
    /// Bytes that writing calls took.
    pub written_bytes: u64,
    /// Reading calls.
    pub reads: u64,
    /// Writing calls.
    pub writes: u64,
}

/// What is left of the first thread of a process once it has ended.
#[derive(Clone, Debug)]
pub struct Remains {
    /// Its name.
    pub name: Vec<u8>,
    /// Who it was.
    pub credentials: Credentials,
}

/// One process.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its number: that of its first thread.
    pub pid: u32,
    /// The process that is told when it ends.
    pub parent: u32,
    /// The thread of the parent that made it.
    pub parent_thread: u32,
    /// Its process group.
    pub group: u32,
    /// Its session.
    pub session: u32,
    /// Its threads, by number.
    pub threads: BTreeSet<u32>,
    /// What is done on signals.
    pub actions: Actions,
    /// The name of the table of actions, if other processes may have the same (`CLONE_SIGHAND`).
    pub actions_shared: Option<u32>,
    /// Signals for any of its threads.
    pub pending: Pending,
    /// Resource limits by number.
    pub limits: [ResourceLimit; LIMIT_COUNT],
    /// What a program may set and read back, without other effect.
    pub settings: Settings,
    /// Interval timers.
    pub timers: Timers,
    /// The signal for the parent when it ends; 0 for none.
    pub exit_signal: u8,
    /// How all its threads end, once that is decided.
    pub exit: Option<Outcome>,
    /// Where it is in its life.
    pub life: Life,
    /// Virtual time of its start.
    pub start_ns: u64,
    /// Its own use of time and memory, of address spaces that it has left.
    pub usage: Usage,
    /// The use of children that were waited for.
    pub usage_of_children: Usage,
    /// What it did with memory, for the report.
    pub account: Account,
    /// Whether it has run `execve` since its fork.
    pub has_executed: bool,
    /// What it read and wrote.
    pub io: IoCounts,
    /// Its first thread, if that has ended.
    pub remains: Option<Remains>,
}

impl Process {
    /// The first process of a run.
    pub(crate) fn first(limits: [ResourceLimit; LIMIT_COUNT]) -> Self {
        use crate::task::{PARENT_PID, PID};
        Self {
            pid: PID,
            parent: PARENT_PID,
            parent_thread: PARENT_PID,
            group: PID,
            session: PID,
            threads: BTreeSet::from([PID]),
            actions: Actions::default(),
            actions_shared: None,
            pending: Pending::default(),
            limits,
            settings: Settings::default(),
            timers: Timers::default(),
            exit_signal: crate::signal::number::SIGCHLD,
            exit: None,
            life: Life::Alive,
            start_ns: 0,
            usage: Usage::default(),
            usage_of_children: Usage::default(),
            account: Account { thread_count: 1, ..Account::default() },
            has_executed: true,
            io: IoCounts::default(),
            remains: None,
        }
    }

    /// Seconds of CPU time after which the process is told so, and after which it is killed
    /// (`RLIMIT_CPU`).
    pub fn cpu_seconds(&mut self) -> &mut ResourceLimit {
        &mut self.limits[RLIMIT_CPU]
    }

    /// The largest file that the process may make (`RLIMIT_FSIZE`).
    pub fn file_bytes_max(&self) -> u64 {
        self.limits[RLIMIT_FSIZE].soft
    }

    /// The first descriptor number that the process may not have (`RLIMIT_NOFILE`).
    pub fn files_max(&self) -> u64 {
        self.limits[RLIMIT_NOFILE].soft
    }

    /// How many processes its user may have (`RLIMIT_NPROC`).
    pub fn processes_max(&self) -> u64 {
        self.limits[RLIMIT_NPROC].soft
    }

    /// Its first thread, or the oldest that is left.
    pub fn first_thread(&self) -> Option<u32> {
        self.threads.get(&self.pid).or_else(|| self.threads.first()).copied()
    }

    /// How many signals may queue for it (`RLIMIT_SIGPENDING`).
    pub fn signals_max(&self) -> u64 {
        self.limits[RLIMIT_SIGPENDING].soft
    }

    /// Whether it has ended and waits for its parent.
    pub fn is_zombie(&self) -> bool {
        matches!(self.life, Life::Zombie(_))
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
    /// `PR_SET_CHILD_SUBREAPER`.
    pub subreaper: u64,
    /// `PR_SET_TIMERSLACK`, nanoseconds.
    pub timer_slack_ns: u64,
    /// `PR_SET_THP_DISABLE`.
    pub thp_disable: u64,
    /// Nice value.
    pub nice: i32,
    /// Scheduling class: `SCHED_OTHER`, `SCHED_BATCH` or `SCHED_IDLE`.
    pub policy: u32,
    /// `/proc/PID/oom_score_adj`.
    pub oom_score_adj: i32,
    /// The commands by which it registered for `membarrier`.
    pub barriers: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dumpable: 1,
            parent_death_signal: 0,
            keep_capabilities: 0,
            no_new_privileges: 0,
            subreaper: 0,
            timer_slack_ns: 50_000,
            thp_disable: 0,
            nice: 0,
            policy: 0,
            oom_score_adj: 0,
            barriers: 0,
        }
    }
}
