//! The lines that a kill for want of memory leaves, in the form of the log of Linux.
//!
//! # Source
//! Linux 6.12 `mm/oom_kill.c:dump_header`, `dump_tasks`, `__oom_kill_process`, `mm/show_mem.c`.

use machine::PAGE_BYTES;

use super::{Candidate, Held, Kernel};
use crate::process::Process;

/// Processes in the table of one kill, the greatest first; there can be thousands.
const TABLE_MAX: usize = 32;
const KIB_PER_PAGE: u64 = PAGE_BYTES >> 10;

/// One process in the table.
struct Row {
    pid: u32,
    uid: u32,
    held: Held,
    adjustment: i32,
    name: String,
}

impl Kernel {
    /// Everything that is said of a kill.
    pub(super) fn oom_log(&self, victim: Option<Candidate>) -> Vec<String> {
        let asking = text(&self.task.name);
        let adjustment = self.process.settings.oom_score_adj;
        let mut lines = vec![format!(
            "{asking} invoked oom-killer: gfp_mask=0x140cca(GFP_HIGHUSER_MOVABLE|__GFP_COMP), \
             order=0, oom_score_adj={adjustment}"
        )];
        if self.is_at_limit() {
            lines.push(self.limit_line());
        }
        lines.extend(self.mem_info());
        lines.extend(self.task_table());
        let Some(victim) = victim else {
            lines.push("Out of memory and no killable processes...".to_owned());
            lines.push("Kernel panic - not syncing: System is deadlocked on memory".to_owned());
            return lines;
        };
        if let Some(process) = self.process_of(victim.pid) {
            lines.extend(self.verdict(process, &victim));
        }
        lines
    }

    /// What the programs have, and may have.
    fn limit_line(&self) -> String {
        let (usage, limits) = (self.memory.group_usage(), self.memory.limits());
        format!(
            "memory: usage {}kB, limit {}kB, failcnt {}",
            usage.current_pages * KIB_PER_PAGE,
            limits.max_pages * KIB_PER_PAGE,
            usage.max_events
        )
    }

    /// Where the memory is, in pages.
    fn mem_info(&self) -> Vec<String> {
        let (memory, usage) = (&self.memory, self.memory.usage());
        let [inactive_anon, active_anon, inactive_file, active_file] = memory.lru_counts();
        let swap = memory.swap_usage();
        let marks = memory.watermarks();
        vec![
            "Mem-Info:".to_owned(),
            format!(
                "active_anon:{active_anon} inactive_anon:{inactive_anon} \
                 active_file:{active_file} inactive_file:{inactive_file}"
            ),
            format!(
                " anon:{} file:{} shmem:{} mapped:{} dirty:{} pagetables:{} free:{}",
                usage.anon,
                usage.file,
                usage.shmem,
                memory.mapped_pages(),
                memory.dirty_pages(),
                usage.page_table,
                usage.frames_free,
            ),
            format!(
                "Node 0 Normal free:{}kB min:{}kB low:{}kB high:{}kB managed:{}kB",
                usage.frames_free * KIB_PER_PAGE,
                marks.min * KIB_PER_PAGE,
                marks.low * KIB_PER_PAGE,
                marks.high * KIB_PER_PAGE,
                usage.frames_total * KIB_PER_PAGE,
            ),
            format!("{} total pagecache pages", usage.file + usage.shmem + swap.cached),
            format!("{} pages in swap cache", swap.cached),
            format!("Free swap  = {}kB", (swap.total - swap.used) * KIB_PER_PAGE),
            format!("Total swap = {}kB", swap.total * KIB_PER_PAGE),
            format!("{} pages RAM", usage.frames_total),
        ]
    }

    /// Who has how much, in pages; page tables in bytes.
    fn task_table(&self) -> Vec<String> {
        let mut rows: Vec<Row> = self
            .pids()
            .into_iter()
            .filter_map(|pid| self.process_of(pid))
            .filter_map(|process| self.row(process))
            .collect();
        rows.sort_by_key(|row| (std::cmp::Reverse(row.held.points()), row.pid));
        let more = rows.len().saturating_sub(TABLE_MAX);
        rows.truncate(TABLE_MAX);
        rows.sort_by_key(|row| row.pid);
        let mut lines = vec![
            "Tasks state (memory values in pages):".to_owned(),
            "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes \
             swapents oom_score_adj name"
                .to_owned(),
        ];
        lines.extend(rows.iter().map(line));
        if more > 0 {
            lines.push(format!("and {more} smaller ones"));
        }
        lines
    }

    fn row(&self, process: &Process) -> Option<Row> {
        if process.is_zombie() {
            return None;
        }
        let (mm, fs) = self.parts_of(process);
        Some(Row {
            pid: process.pid,
            uid: fs.map_or(0, |fs| fs.credentials.uid),
            held: Held::of(self, mm?),
            adjustment: process.settings.oom_score_adj,
            name: text(self.name_of(process)),
        })
    }

    /// Who was chosen, and what it had.
    fn verdict(&self, process: &Process, victim: &Candidate) -> [String; 2] {
        let (name, pid, held) = (text(self.name_of(process)), victim.pid, &victim.held);
        let uid = self.parts_of(process).1.map_or(0, |fs| fs.credentials.uid);
        let kib = |pages: u64| pages * KIB_PER_PAGE;
        let (constraint, scope, what) = match self.is_at_limit() {
            true => ("CONSTRAINT_MEMCG", "oom_memcg=/", "Memory cgroup out of memory"),
            false => ("CONSTRAINT_NONE", "global_oom", "Out of memory"),
        };
        [
            format!(
                "oom-kill:constraint={constraint},nodemask=(null),cpuset=/,mems_allowed=0,\
                 {scope},task_memcg=/,task={name},pid={pid},uid={uid}"
            ),
            format!(
                "{what}: Killed process {pid} ({name}) total-vm:{}kB, anon-rss:{}kB, \
                 file-rss:{}kB, shmem-rss:{}kB, UID:{uid} pgtables:{}kB oom_score_adj:{}",
                kib(held.mapped),
                kib(held.anon),
                kib(held.file),
                kib(held.shmem),
                kib(held.tables),
                process.settings.oom_score_adj,
            ),
        ]
    }
}

fn line(row: &Row) -> String {
    let held = &row.held;
    format!(
        "[{:>7}] {:>5} {:>5} {:>8} {:>8} {:>8} {:>8} {:>9} {:>8} {:>8}         {:>5} {}",
        row.pid,
        row.uid,
        row.pid,
        held.mapped,
        held.resident(),
        held.anon,
        held.file,
        held.shmem,
        held.tables * PAGE_BYTES,
        held.swap,
        row.adjustment,
        row.name
    )
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
