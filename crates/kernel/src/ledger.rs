//! What is kept of each process for the report of the run: taken when its address space goes, so
//! that a run of many processes keeps little.
//!
//! Neighbours: `exit.rs` and `exec.rs` say when, `run.rs` asks at the end.

use mm::{FaultCounters, Mm, Rss};

use crate::Kernel;
use crate::fs::FsContext;
use crate::outcome::Outcome;
use crate::process::Process;

/// Processes that are told one by one; the others only in the sums.
const TOLD_MAX: usize = 1000;

/// What forks of a process cost, so far.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct ForkCost {
    /// Children that got an address space of their own.
    pub count: u64,
    /// Resident pages that parent and child then shared.
    pub shared_pages: u64,
    /// Frames of page tables that the children got.
    pub table_frames: u64,
}

impl ForkCost {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.shared_pages += other.shared_pages;
        self.table_frames += other.table_frames;
    }
}

/// The memory of a process at its end.
///
/// # Units
/// Pages, but for `pss_sub_pages`: 1/4096 of a page.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MemoryAtEnd {
    /// Resident pages.
    pub rss: Rss,
    /// Each page divided by how often it is mapped.
    pub pss_sub_pages: u64,
    /// Pages that others map too.
    pub shared_pages: u64,
    /// Pages that nobody else maps.
    pub private_pages: u64,
    /// Frames of page tables.
    pub page_table_frames: u64,
}

/// What a process has done with memory, over all programs that it ran.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Account {
    /// Faults in address spaces that it has left.
    pub faults: FaultCounters,
    /// What its forks cost.
    pub forks: ForkCost,
    /// Programs that it ran by `execve`.
    pub exec_count: u64,
    /// Threads that it has had.
    pub thread_count: u64,
    /// The memory that it had when it left its last address space.
    pub at_end: MemoryAtEnd,
}

/// One process of a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcessReport {
    /// Its number.
    pub pid: u32,
    /// The number of its parent at the end.
    pub parent: u32,
    /// Guest path of the program that it ran last.
    pub program: Vec<u8>,
    /// How it ended; `None` if the run ended before.
    pub outcome: Option<Outcome>,
    /// Faults, forks, memory.
    pub account: Account,
    /// The most resident pages.
    pub rss_peak_pages: u64,
    /// Virtual nanoseconds on the CPU.
    pub cpu_ns: u64,
    /// Context switches because it waited.
    pub switches_voluntary: u64,
    /// Context switches because its time was over.
    pub switches_forced: u64,
}

/// All processes of a run.
#[derive(Clone, Default, Debug)]
pub struct ProcessReports {
    /// How many there were.
    pub count: u64,
    /// The first thousand that ended and were left at the end, by number.
    pub told: Vec<ProcessReport>,
    /// Faults of all.
    pub faults: FaultCounters,
    /// Forks of all.
    pub forks: ForkCost,
    /// The largest resident set of any, pages.
    pub rss_peak_pages_max: u64,
    /// Context switches because a task waited.
    pub switches_voluntary: u64,
    /// Context switches because a task's time was over.
    pub switches_forced: u64,
}

impl ProcessReports {
    fn push(&mut self, report: ProcessReport) {
        self.count += 1;
        self.faults.add(&report.account.faults);
        self.forks.add(&report.account.forks);
        self.rss_peak_pages_max = self.rss_peak_pages_max.max(report.rss_peak_pages);
        self.switches_voluntary += report.switches_voluntary;
        self.switches_forced += report.switches_forced;
        if self.told.len() < TOLD_MAX {
            self.told.push(report);
        }
    }
}

impl Kernel {
    /// Takes what the running process did in its address space, which nobody uses after it.
    pub(crate) fn account_for_mm(&mut self) {
        let peak = self.mm.rss_peak_pages(&self.memory);
        self.process.usage.add_faults(self.mm.faults(), peak);
        self.process.account.faults.add(self.mm.faults());
        self.process.account.at_end = self.memory_of(&self.mm);
    }

    /// Counts the address space `child`, which the running process has just forked.
    pub(crate) fn account_for_fork(&mut self, child: &Mm) {
        self.process.account.forks.add(&ForkCost {
            count: 1,
            shared_pages: child.rss(&self.memory).total_pages(),
            table_frames: child.page_table_frames(&self.memory),
        });
    }

    /// Takes the report of the running process, which has ended.
    pub(crate) fn account_for_process(&mut self, outcome: Outcome) {
        let report = process_report(&self.process, &self.fs.exe, Some(outcome));
        self.ledger.push(report);
    }

    fn memory_of(&self, mm: &Mm) -> MemoryAtEnd {
        let mut memory = MemoryAtEnd {
            rss: mm.rss(&self.memory),
            page_table_frames: mm.page_table_frames(&self.memory),
            ..MemoryAtEnd::default()
        };
        for vma in mm.vmas() {
            let counts = mm.count_pages(&self.hw, &self.memory, vma.range);
            memory.pss_sub_pages += counts.pss_sub_pages;
            memory.shared_pages += counts.shared_clean + counts.shared_dirty;
            memory.private_pages += counts.private_clean + counts.private_dirty;
        }
        memory
    }

    /// The address space and the place in the tree of a process that has not ended.
    pub(crate) fn parts_of(&self, process: &Process) -> (Option<&Mm>, Option<&FsContext>) {
        if self.process.pid == process.pid {
            return (Some(&self.mm), Some(&self.fs));
        }
        let task = process.threads.first().and_then(|tid| self.task_of(*tid));
        let Some(parts) = task.map(|task| task.parts) else { return (None, None) };
        let own = self.task.parts;
        let mm = if own.mm == parts.mm { Some(&self.mm) } else { self.tasks.mms.get(parts.mm) };
        let fs = if own.fs == parts.fs { Some(&self.fs) } else { self.tasks.fs.get(parts.fs) };
        (mm, fs)
    }

    /// All processes, when the run ends: those that have ended, and those that end with it.
    pub(crate) fn process_reports(&self, outcome: Outcome) -> ProcessReports {
        let mut reports = self.ledger.clone();
        for pid in self.pids() {
            let Some(process) = self.process_of(pid) else { continue };
            if process.is_zombie() {
                continue;
            }
            let is_first = pid == crate::task::PID;
            let end = is_first.then_some(outcome);
            let (mm, fs) = self.parts_of(process);
            let exe = fs.map_or(&[][..], |fs| &fs.exe);
            let mut report = process_report(process, exe, end);
            if let Some(mm) = mm {
                report.account.faults.add(mm.faults());
                report.account.at_end = self.memory_of(mm);
                report.rss_peak_pages = report.rss_peak_pages.max(mm.rss_peak_pages(&self.memory));
            }
            reports.push(report);
        }
        reports.told.sort_by_key(|report| report.pid);
        reports
    }
}

fn process_report(process: &Process, exe: &[u8], outcome: Option<Outcome>) -> ProcessReport {
    ProcessReport {
        pid: process.pid,
        parent: process.parent,
        program: exe.to_vec(),
        outcome,
        account: process.account,
        rss_peak_pages: process.usage.rss_peak_pages,
        cpu_ns: process.usage.cpu_ns,
        switches_voluntary: process.usage.switches_voluntary,
        switches_forced: process.usage.switches_forced,
    }
}
