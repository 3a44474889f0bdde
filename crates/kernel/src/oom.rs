//! What happens when no frame can be had: the process that holds the most memory is killed.
//!
//! Its private pages are taken at once (Linux has a thread for that, the reaper), so that whoever
//! needed the frame can go on. Each kill leaves what the log of Linux would say of it.
//!
//! Differs from Linux: the killed process of a run that is its first ends the run, because that is
//! its root; `fork` returns `ENOMEM` instead of having somebody killed for its page tables.
//!
//! # Source
//! Linux 6.12 `mm/oom_kill.c`; semantics OOM-1 to OOM-3, FLT-13.

use mm::Mm;

use crate::Kernel;
use crate::outcome::Outcome;
use crate::process::Process;
use crate::task::{State, Task};

mod log;

/// Kills that are told in full; the others are only counted.
const TOLD_MAX: usize = 8;
/// The adjustment of a process that is never killed (`OOM_SCORE_ADJ_MIN`).
const ADJUSTMENT_NEVER: i32 = -1000;
/// `vm.oom_kill_allocating_task` and `vm.panic_on_oom`, as they are kept.
const KILL_ALLOCATING: &str = "sys/vm/oom_kill_allocating_task";
const PANIC: &str = "sys/vm/panic_on_oom";

/// All kills of a run for want of memory.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct OomKills {
    /// How many there were.
    pub count: u64,
    /// The first few.
    pub told: Vec<OomKill>,
}

/// One process that was killed for want of memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OomKill {
    /// Virtual nanoseconds since boot.
    pub time_ns: u64,
    /// Its number; 0 if there was none to kill, which ended the run.
    pub pid: u32,
    /// The name of its first thread.
    pub name: Vec<u8>,
    /// What made it the one: pages, its adjustment included.
    pub badness: i64,
    /// Its `oom_score_adj`.
    pub adjustment: i32,
    /// Its memory.
    pub memory: Held,
    /// The lines that Linux would log.
    pub log: Vec<String>,
}

/// The memory that a process holds.
///
/// # Units
/// Pages.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Held {
    /// All of its mappings.
    pub mapped: u64,
    /// Resident private pages.
    pub anon: u64,
    /// Resident pages of files.
    pub file: u64,
    /// Resident pages of shared memory.
    pub shmem: u64,
    /// Pages in swap.
    pub swap: u64,
    /// Frames of page tables.
    pub tables: u64,
}

impl Held {
    fn of(kernel: &Kernel, mm: &Mm) -> Self {
        let rss = mm.rss(&kernel.memory);
        Self {
            mapped: mm.totals().total_pages,
            anon: rss.anon_pages,
            file: rss.file_pages,
            shmem: rss.shmem_pages,
            swap: mm.swap_pages(&kernel.memory),
            tables: mm.page_table_frames(&kernel.memory),
        }
    }

    fn resident(&self) -> u64 {
        self.anon + self.file + self.shmem
    }

    /// What would come back: resident pages, swap and page tables (OOM-1).
    fn points(&self) -> u64 {
        self.resident() + self.swap + self.tables
    }
}

/// A process that may be killed.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    pid: u32,
    badness: i64,
    held: Held,
}

impl Kernel {
    /// How much would come back with a process that holds `held`: `None` if it is never killed.
    ///
    /// # Units
    /// Pages, moved by the adjustment: each point of it is a thousandth of RAM and swap.
    pub(crate) fn badness(&self, held: &Held, adjustment: i32) -> Option<i64> {
        if adjustment == ADJUSTMENT_NEVER {
            return None;
        }
        let signed = |pages: u64| i64::try_from(pages).unwrap_or(i64::MAX);
        let moved = i64::from(adjustment).saturating_mul(signed(self.oom_total_pages()) / 1000);
        Some(signed(held.points()).saturating_add(moved))
    }

    /// The pages that badness is measured against: RAM, or the limit of the programs, and swap.
    pub(crate) fn oom_total_pages(&self) -> u64 {
        let limit = self.memory.limits().max_pages;
        self.memory.usage().frames_total.min(limit) + self.memory.swap_usage().total
    }

    /// Whether the programs have all that their limit allows, so that RAM is not what is short.
    fn is_at_limit(&self) -> bool {
        self.memory.group_usage().current_pages >= self.memory.limits().max_pages
    }

    /// The badness of a process and the `oom_score` that follows from it (OOM-2).
    pub(crate) fn oom_score(&self, mm: &Mm, adjustment: i32) -> i64 {
        let total = i64::try_from(self.oom_total_pages()).unwrap_or(i64::MAX).max(1);
        match self.badness(&Held::of(self, mm), adjustment) {
            Some(points) => (1000 + points.saturating_mul(1000) / total) * 2 / 3,
            None => 0,
        }
    }

    /// Kills for want of memory, so far.
    pub(crate) fn oom_kill_count(&self) -> u64 {
        self.oom.count
    }

    /// Makes frames free by killing a process. True if whoever needed the frame may try again;
    /// false if the running process is to end itself, or the whole run.
    pub(crate) fn relieve_memory(&mut self) -> bool {
        if self.task.exit.is_some() || self.outcome.is_some() {
            return false;
        }
        if self.reap_ending() {
            return true;
        }
        let victim = self.victim();
        self.note_kill(victim);
        let Some(victim) = victim else {
            // Linux would panic.
            self.outcome = Some(Outcome::OutOfMemory);
            return false;
        };
        if self.is_at_limit() {
            self.memory.note_oom_kill();
        }
        self.kill_for_memory(victim.pid)
    }

    /// Takes the memory of a process that is ending anyway. False if that frees nothing.
    fn reap_ending(&mut self) -> bool {
        let own = self.process.pid;
        let ending = self.pids().into_iter().filter(|&pid| pid != own);
        let ending: Vec<u32> = ending
            .filter(|&pid| self.process_of(pid).is_some_and(|process| process.exit.is_some()))
            .collect();
        ending.into_iter().any(|pid| self.reap(pid) > 0)
    }

    /// Whom to kill: who asks, if that is so set, else the one with the highest badness; among
    /// equals the last (OOM-1). `None`: nobody may be killed.
    fn victim(&self) -> Option<Candidate> {
        let is_set = |path| self.settings.get(path).is_some_and(|&value| value != 0);
        if is_set(PANIC) {
            return None;
        }
        if is_set(KILL_ALLOCATING)
            && let Some(own) = self.candidate(&self.process)
        {
            return Some(own);
        }
        let pids = self.pids().into_iter();
        let candidates =
            pids.filter_map(|pid| self.process_of(pid).and_then(|one| self.candidate(one)));
        // Of equal ones `max_by_key` returns the last.
        candidates.max_by_key(|one| one.badness)
    }

    /// The process, if it may be killed and has memory.
    fn candidate(&self, process: &Process) -> Option<Candidate> {
        if process.exit.is_some() || process.is_zombie() || self.is_in_vfork(process) {
            return None;
        }
        let held = Held::of(self, self.parts_of(process).0?);
        let badness = self.badness(&held, process.settings.oom_score_adj)?;
        Some(Candidate { pid: process.pid, badness, held })
    }

    /// Whether the process still uses the address space of the parent that made it by `vfork`.
    fn is_in_vfork(&self, process: &Process) -> bool {
        let task = process.first_thread().and_then(|tid| self.task_of(tid));
        task.is_some_and(|task| {
            task.vfork_parent.is_some() && self.tasks.mms.user_count(task.parts.mm) > 1
        })
    }

    /// Kills a process and all that share its address space, and takes its memory (OOM-3). False if
    /// the running process is among them.
    fn kill_for_memory(&mut self, pid: u32) -> bool {
        let key = self.key_of_memory(pid);
        for other in self.pids() {
            if other == pid || (key.is_some() && self.key_of_memory(other) == key) {
                self.end_process_of(other);
            }
        }
        if self.task.exit.is_some() {
            return false;
        }
        self.reap(pid);
        true
    }

    /// The name of the address space of a process.
    fn key_of_memory(&self, pid: u32) -> Option<crate::shelf::PartKey> {
        let process = self.process_of(pid).filter(|process| !process.is_zombie())?;
        let task: &Task = process.first_thread().and_then(|tid| self.task_of(tid))?;
        (task.state != State::Dead).then_some(task.parts.mm)
    }

    /// Lets all threads of a process end, as soon as they have the CPU.
    fn end_process_of(&mut self, pid: u32) {
        let outcome = Outcome::OutOfMemory;
        if pid == self.process.pid {
            return self.exit_process(outcome);
        }
        let Some(process) = self.process_mut(pid) else { return };
        let outcome = *process.exit.get_or_insert(outcome);
        for tid in process.threads.clone() {
            self.kill_task(tid, outcome);
        }
    }

    /// Takes the private pages of a process other than the running one. Returns how many frames
    /// that freed.
    fn reap(&mut self, pid: u32) -> u64 {
        let Some(key) = self.key_of_memory(pid) else { return 0 };
        let Some(mm) = self.tasks.mms.get_mut(key) else { return 0 };
        mm::ops::reap(mm, &mut self.memory, &mut self.hw)
    }

    fn note_kill(&mut self, victim: Option<Candidate>) {
        self.oom.count += 1;
        if self.oom.told.len() >= TOLD_MAX {
            return;
        }
        let log = self.oom_log(victim);
        let process = victim.and_then(|victim| self.process_of(victim.pid));
        let kill = OomKill {
            time_ns: self.hw.now_ns(),
            pid: victim.map_or(0, |victim| victim.pid),
            name: process.map_or_else(Vec::new, |process| self.name_of(process).to_vec()),
            badness: victim.map_or(0, |victim| victim.badness),
            adjustment: process.map_or(0, |process| process.settings.oom_score_adj),
            memory: victim.map_or_else(Held::default, |victim| victim.held),
            log,
        };
        self.oom.told.push(kill);
    }

    /// The name of the first thread of a process.
    fn name_of<'a>(&'a self, process: &'a Process) -> &'a [u8] {
        let task = process.first_thread().and_then(|tid| self.task_of(tid));
        let remains = process.remains.as_ref().map(|remains| &remains.name);
        remains.or(task.map(|task| &task.name)).map_or(b"", |name| name)
    }
}
