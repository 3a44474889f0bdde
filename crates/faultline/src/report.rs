//! The report of a run: every figure once, as plain data. [`mod@text`], [`json`] only lay it out.
//!
//! Invariants
//! 1. No figure depends on the host's time, paths, terminal or load.
//! 2. Each figure of the text is one of the JSON, or computed from figures of the JSON.

pub(crate) mod json;
mod oom;
mod processes;
mod series;
pub(crate) mod text;

use kernel::{Outcome, RunReport, VmaReport};
use machine::{Counters, Geometry, HitMiss, PAGE_BYTES, TlbMode};
use mm::{FaultCounters, KmapUsage, Rss};
use serde::Serialize;

use crate::args::high::RunPlan;
pub(crate) use oom::OomFigures;
pub(crate) use processes::{ProcessFigures, ProcessesFigures};
pub(crate) use series::SeriesFigures;

/// Name and version of the JSON form.
const SCHEMA: &str = "faultline.report/1";

/// Everything that a report says, in the order of the JSON.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) schema: &'static str,
    pub(crate) program: String,
    pub(crate) args: Vec<String>,
    pub(crate) machine: MachineFigures,
    pub(crate) exit: ExitFigures,
    /// Who waits for what, if the run ended because nothing could wake any task.
    pub(crate) deadlock: Option<String>,
    /// Executed, if they were counted.
    pub(crate) instructions: Option<u64>,
    pub(crate) accesses: AccessFigures,
    pub(crate) faults: FaultFigures,
    pub(crate) memory: MemoryFigures,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kmap: Option<KmapFigures>,
    pub(crate) swap: SwapFigures,
    pub(crate) reclaim: ReclaimFigures,
    /// Processes killed for want of memory.
    pub(crate) oom: OomFigures,
    /// Memory over time.
    pub(crate) series: SeriesFigures,
    pub(crate) tlb: Option<TlbFigures>,
    pub(crate) walks: WalkFigures,
    pub(crate) vmas: Vec<VmaFigures>,
    pub(crate) processes: ProcessesFigures,
    pub(crate) syscalls: SyscallFigures,
    pub(crate) virtual_ns: u64,
    pub(crate) log_events: u64,
    pub(crate) log_hash: String,
}

/// What the run was asked to be.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct MachineFigures {
    pub(crate) geometry: &'static str,
    /// `CONFIG_PAGE_OFFSET`, only if it was asked for.
    pub(crate) page_offset: Option<u64>,
    /// Memory of the test device; 0 for none.
    pub(crate) device_bytes: u64,
    pub(crate) tlb: &'static str,
    /// Whom to evict.
    pub(crate) policy: &'static str,
    pub(crate) seed: u64,
    /// Only if it was asked for.
    pub(crate) boot_seconds: Option<u64>,
}

/// How the program ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ExitFigures {
    pub(crate) code: Option<u8>,
    pub(crate) signal: Option<u8>,
    pub(crate) reason: ExitReason,
}

/// Why it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExitReason {
    Exited,
    Signal,
    OutOfMemory,
    TimedOut,
    Stuck { syscall: u32 },
}

/// Accesses made by the program's own instructions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct AccessFigures {
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) fetch: u64,
}

/// Page faults since the first instruction, of one process or of all; denied ones do not count.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct FaultFigures {
    pub(crate) minor: u64,
    pub(crate) major: u64,
    pub(crate) total: u64,
    pub(crate) by_kind: KindFigures,
}

/// Page faults by how they were resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct KindFigures {
    pub(crate) zero: u64,
    pub(crate) file: u64,
    pub(crate) cow: u64,
    pub(crate) reuse: u64,
    pub(crate) swap_in: u64,
    pub(crate) mk_write: u64,
    pub(crate) stack: u64,
    pub(crate) spurious: u64,
    pub(crate) denied: u64,
}

/// Memory, in bytes and frames: RAM of the machine, the rest of the first process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct MemoryFigures {
    pub(crate) ram_bytes: u64,
    pub(crate) rss_bytes: u64,
    pub(crate) rss_peak_bytes: u64,
    pub(crate) at_exit: RssFigures,
    pub(crate) at_peak: RssFigures,
    pub(crate) page_table_bytes: u64,
    pub(crate) page_table_peak_bytes: u64,
    pub(crate) frames_total: u64,
    pub(crate) frames_used_peak: u64,
    pub(crate) frames_free_at_exit: u64,
    pub(crate) frames_leaked: u64,
    /// Dirty pages of the host's own files that it did not take.
    pub(crate) pages_lost: u64,
}

/// How the kernel of a 32-bit machine reached pages of highmem.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct KmapFigures {
    /// Slots of pkmap.
    pub(crate) slots: usize,
    /// Those with users at the end.
    pub(crate) used: usize,
    /// How often `kmap` gave one, and how often all unused ones were flushed.
    pub(crate) taken: u64,
    pub(crate) flushes: u64,
    /// How often a slot of `kmap_local` was taken.
    pub(crate) local_taken: u64,
}

/// Resident bytes by kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct RssFigures {
    pub(crate) anon_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) shmem_bytes: u64,
}

/// Pages moved to and from swap, and what is there at the end.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct SwapFigures {
    pub(crate) in_pages: u64,
    pub(crate) out_pages: u64,
    pub(crate) total_pages: u64,
    pub(crate) used_pages: u64,
    /// Virtual time lost waiting for devices and at limits.
    pub(crate) wait_ns: u64,
    /// The most RAM that compressed pages took, of zswap and zram.
    pub(crate) ram_bytes_max: u64,
    /// Pages that zswap kept, gave back to faults, and sent on to the device.
    pub(crate) zswap_out_pages: u64,
    pub(crate) zswap_in_pages: u64,
    pub(crate) zswap_written_back_pages: u64,
    /// Not given back after the last process ended: a bug of ours.
    pub(crate) slots_leaked: u64,
}

/// Pages looked at and taken by reclaim.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct ReclaimFigures {
    pub(crate) scanned: u64,
    pub(crate) reclaimed: u64,
}

/// The TLB levels.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct TlbFigures {
    pub(crate) l1d: LevelFigures,
    pub(crate) l1i: LevelFigures,
    pub(crate) l2: LevelFigures,
}

/// One TLB level.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(crate) struct LevelFigures {
    pub(crate) hits: u64,
    pub(crate) misses: u64,
    /// Misses in a million look-ups, rounded down.
    pub(crate) misses_per_million: u64,
}

/// Page walks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct WalkFigures {
    pub(crate) count: u64,
    pub(crate) memory_reads: u64,
    pub(crate) dirty_only: u64,
}

/// One VMA at exit.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct VmaFigures {
    pub(crate) start: String,
    pub(crate) end: String,
    pub(crate) size_bytes: u64,
    pub(crate) perms: String,
    pub(crate) name: String,
    pub(crate) rss_bytes: u64,
    pub(crate) faults: u64,
}

/// System calls.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct SyscallFigures {
    pub(crate) count: u64,
    pub(crate) unimplemented: Vec<UnimplementedFigures>,
}

/// A system call that returned ENOSYS for want of an implementation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct UnimplementedFigures {
    pub(crate) number: u32,
    pub(crate) name: &'static str,
    pub(crate) count: u64,
}

impl Report {
    /// The figures of a run that has ended.
    pub(crate) fn new(plan: &RunPlan, run: &RunReport) -> Self {
        let counters = &run.counters;
        Self {
            schema: SCHEMA,
            program: text(&run.program),
            args: plan.args.iter().map(|arg| text(arg)).collect(),
            machine: MachineFigures::new(plan),
            exit: ExitFigures::new(run.outcome),
            deadlock: matches!(run.outcome, Outcome::Stuck { .. })
                .then(|| run.deadlock.to_string()),
            instructions: run.engine.instruction_count,
            accesses: AccessFigures {
                read: counters.reads,
                write: counters.writes,
                fetch: counters.fetches,
            },
            faults: FaultFigures::new(&run.faults),
            memory: MemoryFigures::new(run),
            kmap: KmapFigures::new(run),
            swap: SwapFigures {
                in_pages: run.events.swap_ins,
                out_pages: run.events.swap_outs,
                total_pages: run.swap.total,
                used_pages: run.swap.used,
                wait_ns: run.events.wait_ns,
                ram_bytes_max: run.pool_frames_max * PAGE_BYTES,
                zswap_out_pages: run.zswap.stored,
                zswap_in_pages: run.zswap.loaded,
                zswap_written_back_pages: run.zswap.written_back,
                slots_leaked: run.slots_leaked,
            },
            reclaim: ReclaimFigures { scanned: run.events.scanned, reclaimed: run.events.stolen },
            oom: OomFigures::new(&run.oom),
            series: SeriesFigures::new(&run.series),
            tlb: TlbFigures::new(plan, counters),
            walks: WalkFigures {
                count: counters.walks,
                memory_reads: counters.walk_memory_reads,
                dirty_only: counters.dirty_walks,
            },
            vmas: run.vmas.iter().map(VmaFigures::new).collect(),
            processes: ProcessesFigures::new(run),
            syscalls: SyscallFigures::new(run),
            virtual_ns: run.virtual_ns,
            log_events: run.log_count,
            log_hash: format!("{:#018x}", run.log_hash),
        }
    }
}

impl KmapFigures {
    /// `None` on machines that need no slots.
    fn new(run: &RunReport) -> Option<Self> {
        let KmapUsage { slot_count, used_count, taken_count, flush_count, .. } = run.kmap;
        (slot_count > 0).then_some(Self {
            slots: slot_count,
            used: used_count,
            taken: taken_count,
            flushes: flush_count,
            local_taken: run.kmap.local_taken_count,
        })
    }
}

impl MachineFigures {
    fn new(plan: &RunPlan) -> Self {
        Self {
            geometry: match plan.machine.geometry {
                Geometry::I386 => "i386",
                Geometry::Pae => "i386-pae",
                Geometry::X86_64 => "x86-64",
                Geometry::La57 => "x86-64-la57",
            },
            page_offset: plan.page_offset,
            device_bytes: plan.device_bytes,
            tlb: match plan.machine.tlb {
                TlbMode::Model(spec) => spec.name,
                TlbMode::Off => "off",
            },
            policy: plan.policy.name,
            seed: plan.seed,
            boot_seconds: plan.boot_seconds_asked,
        }
    }
}

impl ExitFigures {
    fn new(outcome: Outcome) -> Self {
        let (code, signal, reason) = match outcome {
            Outcome::Exited(code) => (Some(code), None, ExitReason::Exited),
            Outcome::Killed(signal) => (None, Some(signal), ExitReason::Signal),
            Outcome::OutOfMemory => (None, Some(9), ExitReason::OutOfMemory),
            Outcome::TimedOut => (None, None, ExitReason::TimedOut),
            Outcome::Stuck { number } => (None, None, ExitReason::Stuck { syscall: number }),
        };
        Self { code, signal, reason }
    }
}

impl FaultFigures {
    fn new(faults: &FaultCounters) -> Self {
        use machine::FaultLabel as Label;
        let of = |label| faults.of(label);
        Self {
            minor: faults.minor,
            major: faults.major,
            total: faults.total(),
            by_kind: KindFigures {
                zero: of(Label::Zero),
                file: of(Label::File),
                cow: of(Label::Cow),
                reuse: of(Label::Reuse),
                swap_in: of(Label::SwapIn),
                mk_write: of(Label::MkWrite),
                stack: of(Label::Stack),
                spurious: of(Label::Spurious),
                denied: of(Label::Denied),
            },
        }
    }
}

impl MemoryFigures {
    fn new(run: &RunReport) -> Self {
        Self {
            ram_bytes: run.ram_bytes,
            rss_bytes: run.rss.total_pages() * PAGE_BYTES,
            rss_peak_bytes: run.rss_at_peak.total_pages() * PAGE_BYTES,
            at_exit: RssFigures::new(&run.rss),
            at_peak: RssFigures::new(&run.rss_at_peak),
            page_table_bytes: run.page_table_bytes,
            page_table_peak_bytes: run.page_table_peak_bytes,
            frames_total: run.usage.frames_total,
            frames_used_peak: run.usage.frames_used_peak,
            frames_free_at_exit: run.frames_free_at_exit,
            frames_leaked: run.frames_leaked,
            pages_lost: run.pages_lost,
        }
    }
}

impl RssFigures {
    fn new(rss: &Rss) -> Self {
        Self {
            anon_bytes: rss.anon_pages * PAGE_BYTES,
            file_bytes: rss.file_pages * PAGE_BYTES,
            shmem_bytes: rss.shmem_pages * PAGE_BYTES,
        }
    }
}

impl TlbFigures {
    fn new(plan: &RunPlan, counters: &Counters) -> Option<Self> {
        let TlbMode::Model(_) = plan.machine.tlb else { return None };
        Some(Self {
            l1d: LevelFigures::new(counters.l1d),
            l1i: LevelFigures::new(counters.l1i),
            l2: LevelFigures::new(counters.l2),
        })
    }
}

impl LevelFigures {
    fn new(level: HitMiss) -> Self {
        let total = u128::from(level.hits) + u128::from(level.misses);
        let rate = (u128::from(level.misses) * 1_000_000).checked_div(total).unwrap_or(0);
        let misses_per_million = u64::try_from(rate).expect("a part is at most the whole");
        Self { hits: level.hits, misses: level.misses, misses_per_million }
    }
}

impl VmaFigures {
    fn new(vma: &VmaReport) -> Self {
        Self {
            start: format!("{:#x}", vma.start),
            end: format!("{:#x}", vma.end),
            size_bytes: vma.end.saturating_sub(vma.start),
            perms: text(&vma.perms),
            name: text(&vma.name),
            rss_bytes: vma.rss_bytes,
            faults: vma.faults,
        }
    }
}

impl SyscallFigures {
    fn new(run: &RunReport) -> Self {
        let unimplemented = run.unimplemented.iter().map(|call| UnimplementedFigures {
            number: call.number,
            name: call.name,
            count: call.count,
        });
        Self { count: run.syscall_count, unimplemented: unimplemented.collect() }
    }
}

/// Bytes of a name as text; what is not UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
