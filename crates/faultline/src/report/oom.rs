//! Processes that were killed for want of memory, and the lines that Linux would log of it.

use std::fmt::Write;

use kernel::oom::{OomKill, OomKills};
use machine::PAGE_BYTES;
use serde::Serialize;

use super::{Report, text};
use crate::failure::visible;

/// Columns of a line of the text.
const COLUMNS: usize = 98;
/// Lines of a kill in the text: what Linux says first and last, and the table between.
const TABLE_LINES: usize = 4;

/// All kills.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct OomFigures {
    pub(crate) count: u64,
    /// The first few.
    pub(crate) kills: Vec<KillFigures>,
}

/// One killed process; its memory is what it held then.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct KillFigures {
    pub(crate) virtual_ns: u64,
    /// 0: nobody could be killed, which ended the run.
    pub(crate) pid: u32,
    pub(crate) name: String,
    pub(crate) badness_pages: i64,
    pub(crate) oom_score_adj: i32,
    pub(crate) mapped_bytes: u64,
    pub(crate) anon_bytes: u64,
    pub(crate) file_bytes: u64,
    pub(crate) shmem_bytes: u64,
    pub(crate) swap_bytes: u64,
    pub(crate) page_table_bytes: u64,
    /// What Linux would log.
    pub(crate) log: Vec<String>,
}

impl OomFigures {
    pub(super) fn new(kills: &OomKills) -> Self {
        Self { count: kills.count, kills: kills.told.iter().map(KillFigures::new).collect() }
    }
}

impl KillFigures {
    fn new(kill: &OomKill) -> Self {
        let memory = &kill.memory;
        Self {
            virtual_ns: kill.time_ns,
            pid: kill.pid,
            name: text(&kill.name),
            badness_pages: kill.badness,
            oom_score_adj: kill.adjustment,
            mapped_bytes: memory.mapped * PAGE_BYTES,
            anon_bytes: memory.anon * PAGE_BYTES,
            file_bytes: memory.file * PAGE_BYTES,
            shmem_bytes: memory.shmem * PAGE_BYTES,
            swap_bytes: memory.swap * PAGE_BYTES,
            page_table_bytes: memory.tables * PAGE_BYTES,
            log: kill.log.clone(),
        }
    }
}

/// The section of the text: the first kill, without the details that `--json` has.
pub(super) fn render(out: &mut String, report: &Report) {
    let Some(kill) = report.oom.kills.first() else { return };
    let milliseconds = kill.virtual_ns / 1_000_000;
    let (seconds, rest) = (milliseconds / 1000, milliseconds % 1000);
    let mut title = format!("OUT OF MEMORY at {seconds}.{rest:03} s");
    if report.oom.count > 1 {
        title += &format!(", the first of {}", report.oom.count);
    }
    writeln!(out, "\n{title}").expect("a string takes every write");
    for part in excerpt(&kill.log).iter().flat_map(|line| wrap(line)) {
        writeln!(out, "{part}").expect("a string takes every write");
    }
}

/// Of the log of a kill: where memory was, the first lines of the table, and the verdict.
fn excerpt(log: &[String]) -> Vec<String> {
    let starts =
        ["memory:", "active_anon:", " anon:", "Free swap", "Out of memory", "Memory cgroup out"];
    let mut row_count = 0;
    let mut lines = Vec::new();
    for line in log {
        if line.starts_with('[') {
            row_count += 1;
            if row_count <= 1 + TABLE_LINES {
                lines.extend(short_row(line));
            }
        } else if starts.iter().any(|start| line.starts_with(start)) {
            lines.push(line.trim().to_owned());
        }
    }
    lines
}

/// A row of the table with the columns that say most: number, size, resident, swap, adjustment.
fn short_row(line: &str) -> Option<String> {
    let mut cells = line.trim_start_matches('[').splitn(2, ']');
    let pid = cells.next()?.trim();
    let cells: Vec<&str> = cells.next()?.split_whitespace().collect();
    let name = cells.get(10..)?.join(" ");
    let [size, resident, swap, adjustment] = [2, 3, 8, 9].map(|column| cells[column]);
    Some(format!("[{pid:>7}] {size:>9} {resident:>9} {swap:>9} {adjustment:>14} {name}"))
}

/// The line in parts of at most [`COLUMNS`] columns, broken at spaces.
fn wrap(text: &str) -> Vec<String> {
    let mut parts = vec![String::from("  ")];
    for word in text.split_inclusive(' ') {
        let word: String = word.chars().map(visible).collect();
        let last = parts.last_mut().expect("there is one");
        if last.trim_end().chars().count() + word.trim_end().chars().count() >= COLUMNS {
            parts.push(format!("    {word}"));
        } else {
            *last += &word;
        }
    }
    parts.into_iter().map(|part| part.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::{short_row, wrap};

    #[test]
    fn long_lines_are_broken_at_spaces() {
        let text = "word ".repeat(40);
        let parts = wrap(&text);
        assert!(parts.iter().all(|part| part.chars().count() <= 100), "{parts:?}");
        assert_eq!(parts.join(" ").split_whitespace().count(), 40);
        assert_eq!(wrap("a  b"), ["  a  b"]);
    }

    #[test]
    fn rows_of_the_table_keep_the_columns_that_say_most() {
        let row = "[   1001]     0  1001     8442     8017     7983       34         0    94208 \
                   5          -17 a b";
        let short = short_row(row).expect("it is a row");
        assert_eq!(
            short.split_whitespace().collect::<Vec<_>>(),
            ["[", "1001]", "8442", "8017", "5", "-17", "a", "b"]
        );
        assert_eq!(short_row("[ x ] 1 2"), None);
    }
}
