//! The figures of each process, and what forks and context switches cost.

use kernel::RunReport;
use kernel::ledger::{ForkCost, ProcessReport};
use machine::PAGE_BYTES;
use mm::FaultCounters;
use serde::Serialize;

use super::{ExitFigures, FaultFigures, RssFigures, text};

/// Parts of a page that PSS counts in.
const SUB_PAGES: u64 = 4096;

/// All processes of the run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct ProcessesFigures {
    /// How many there were, the first included.
    pub(crate) count: u64,
    /// The largest resident set that one of them had.
    pub(crate) rss_peak_bytes_max: u64,
    pub(crate) forks: ForkFigures,
    pub(crate) copies: CopyFigures,
    /// What the forks really cost: page tables and copies.
    pub(crate) fork_cost_bytes: u64,
    pub(crate) switches: SwitchFigures,
    /// The first thousand, by number.
    pub(crate) list: Vec<ProcessFigures>,
}

/// What forks shared and allocated.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ForkFigures {
    pub(crate) count: u64,
    /// Resident memory that parent and child then had in common.
    pub(crate) shared_bytes: u64,
    /// Page tables of the children.
    pub(crate) table_bytes: u64,
}

/// Who broke the sharing of a fork, by a store.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct CopyFigures {
    pub(crate) as_parent: u64,
    pub(crate) as_child: u64,
    pub(crate) bytes: u64,
}

/// Context switches and what they did to the TLBs.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct SwitchFigures {
    /// From task to task.
    pub(crate) tasks: u64,
    /// Because the task waited.
    pub(crate) voluntary: u64,
    /// Because its time was over.
    pub(crate) forced: u64,
    /// Those that loaded other page tables.
    pub(crate) spaces: u64,
    /// TLB entries that they dropped, which must be refilled.
    pub(crate) entries_lost: u64,
    /// Flushes of all pages of an address space.
    pub(crate) space_flushes: u64,
    /// Flushes of single pages.
    pub(crate) page_flushes: u64,
}

/// One process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ProcessFigures {
    pub(crate) pid: u32,
    pub(crate) parent: u32,
    /// The last one that it ran.
    pub(crate) program: String,
    /// Null if the run ended before it did.
    pub(crate) exit: Option<ExitFigures>,
    pub(crate) execs: u64,
    pub(crate) threads: u64,
    pub(crate) faults: FaultFigures,
    pub(crate) rss_peak_bytes: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) at_exit: RssFigures,
    pub(crate) pss_bytes: u64,
    pub(crate) shared_bytes: u64,
    pub(crate) private_bytes: u64,
    pub(crate) page_table_bytes: u64,
    pub(crate) forks: ForkFigures,
    pub(crate) copies: CopyFigures,
    pub(crate) cpu_ns: u64,
    pub(crate) switches_voluntary: u64,
    pub(crate) switches_forced: u64,
}

impl ProcessesFigures {
    pub(super) fn new(run: &RunReport) -> Self {
        let all = &run.processes;
        let (forks, copies) = (ForkFigures::new(&all.forks), CopyFigures::new(&all.faults));
        Self {
            count: all.count,
            rss_peak_bytes_max: all.rss_peak_pages_max * PAGE_BYTES,
            forks,
            copies,
            fork_cost_bytes: forks.table_bytes + copies.bytes,
            switches: SwitchFigures {
                tasks: run.task_switches,
                voluntary: all.switches_voluntary,
                forced: all.switches_forced,
                spaces: run.counters.switches,
                entries_lost: run.counters.switch_entries_lost,
                space_flushes: run.counters.full_flushes,
                page_flushes: run.counters.page_flushes,
            },
            list: all.told.iter().map(ProcessFigures::new).collect(),
        }
    }
}

impl ForkFigures {
    fn new(cost: &ForkCost) -> Self {
        Self {
            count: cost.count,
            shared_bytes: cost.shared_pages * PAGE_BYTES,
            table_bytes: cost.table_frames * PAGE_BYTES,
        }
    }
}

impl CopyFigures {
    fn new(faults: &FaultCounters) -> Self {
        let (as_parent, as_child) = (faults.unshared_as_parent, faults.unshared_as_child);
        Self { as_parent, as_child, bytes: (as_parent + as_child) * PAGE_BYTES }
    }
}

impl ProcessFigures {
    fn new(process: &ProcessReport) -> Self {
        let (account, memory) = (&process.account, &process.account.at_end);
        Self {
            pid: process.pid,
            parent: process.parent,
            program: text(&process.program),
            exit: process.outcome.map(ExitFigures::new),
            execs: account.exec_count,
            threads: account.thread_count,
            faults: FaultFigures::new(&account.faults),
            rss_peak_bytes: process.rss_peak_pages * PAGE_BYTES,
            rss_bytes: memory.rss.total_pages() * PAGE_BYTES,
            at_exit: RssFigures::new(&memory.rss),
            pss_bytes: memory.pss_sub_pages * (PAGE_BYTES / SUB_PAGES),
            shared_bytes: memory.shared_pages * PAGE_BYTES,
            private_bytes: memory.private_pages * PAGE_BYTES,
            page_table_bytes: memory.page_table_frames * PAGE_BYTES,
            forks: ForkFigures::new(&account.forks),
            copies: CopyFigures::new(&account.faults),
            cpu_ns: process.cpu_ns,
            switches_voluntary: process.switches_voluntary,
            switches_forced: process.switches_forced,
        }
    }
}
