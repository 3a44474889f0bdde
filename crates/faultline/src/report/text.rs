//! The report for people: at most 40 lines (42 with several processes, 16 more if a process was
//! killed for want of memory) of at most 100 columns.

use std::cmp::Reverse;
use std::fmt::Write;

use super::{ExitReason, KindFigures, LevelFigures, ProcessFigures, Report, VmaFigures};
use crate::words::{grouped, short_bytes, shorten};

/// VMAs shown, of one process and if there are several.
const VMA_LINES: [usize; 2] = [7, 2];
/// Unimplemented system calls shown, with one process and with several.
const CALL_LINES: [usize; 2] = [3, 1];
/// Processes shown, if there are several.
const PROCESS_LINES: usize = 3;
/// Columns of a line.
const COLUMNS: usize = 100;
/// Columns of the program's name in the verdict.
const PROGRAM_COLUMNS: usize = 24;
/// Columns of a name in the VMA list.
const NAME_COLUMNS: usize = 42;

/// The text. Contains no character that commands a terminal.
pub(crate) fn render(report: &Report) -> String {
    let mut out = String::new();
    verdict(&mut out, report);
    super::oom::render(&mut out, report);
    faults(&mut out, report);
    memory(&mut out, report);
    vmas(&mut out, report);
    processes(&mut out, report);
    translation(&mut out, report);
    calls(&mut out, report);
    out
}

/// Appends a formatted line.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {
        writeln!($out, $($text)*).expect("a string takes every write")
    };
}

fn verdict(out: &mut String, report: &Report) {
    let memory = &report.memory;
    let program = match is_several(report) {
        true => report.program.rsplit('/').next().unwrap_or_default(),
        false => &report.program,
    };
    let program = shorten(program, PROGRAM_COLUMNS);
    let mut text = format!(
        "faultline: {program} {}; peak RSS {}, {} faults",
        ending(report),
        short_bytes(report.processes.rss_peak_bytes_max),
        grouped(report.faults.total),
    );
    if is_several(report) {
        text += &format!(" in {} processes", grouped(report.processes.count));
    }
    if let Some((kind, share)) = dominant(report) {
        let dominant = format!(", {share} % {kind}");
        if text.chars().count() + dominant.len() <= COLUMNS {
            text += &dominant;
        }
    }
    line!(out, "{text}");
    if memory.frames_leaked != 0 {
        let leaked = grouped(memory.frames_leaked);
        line!(out, "{leaked} frames leaked: a bug of faultline, please report it");
    } else if memory.pages_lost != 0 {
        let lost = grouped(memory.pages_lost);
        line!(out, "{lost} pages of files below a rw bind were lost: the host did not take them");
    }
}

/// Whether there was more than the first process.
fn is_several(report: &Report) -> bool {
    report.processes.count > 1
}

/// Which process a section is about, if there are several.
fn of_first(report: &Report) -> String {
    match report.processes.list.first() {
        Some(first) if is_several(report) => format!(" of {}", first.pid),
        _ => String::new(),
    }
}

fn ending(report: &Report) -> String {
    let exit = &report.exit;
    match (exit.reason, exit.code, exit.signal) {
        (ExitReason::OutOfMemory, ..) => {
            format!("ran out of {} of RAM", short_bytes(report.memory.ram_bytes))
        }
        (ExitReason::TimedOut, ..) => "ran out of time".to_owned(),
        (ExitReason::Stuck { syscall }, ..) => format!("waits forever in system call {syscall}"),
        (_, _, Some(signal)) => match signal_name(signal) {
            Some(name) => format!("died of {name}"),
            None => format!("died of signal {signal}"),
        },
        (_, Some(code), None) => format!("exited with {code}"),
        (_, None, None) => "ended".to_owned(),
    }
}

/// The kind of fault that was most frequent, and its share in percent.
fn dominant(report: &Report) -> Option<(&'static str, u64)> {
    let total = kind_lines(&report.faults.by_kind).iter().map(|(_, count, _)| count).sum::<u64>();
    let (_, count, words) =
        kind_lines(&report.faults.by_kind).into_iter().max_by_key(|(_, count, _)| *count)?;
    Some((words, count.saturating_mul(100).checked_div(total)?))
}

/// Kinds of resolved and denied faults: name, count, words for the verdict.
fn kind_lines(kinds: &KindFigures) -> [(&'static str, u64, &'static str); 9] {
    [
        ("zero-filled", kinds.zero, "for zeroed memory"),
        ("file page", kinds.file, "for pages of files"),
        ("copied (COW)", kinds.cow, "for private copies"),
        ("reused", kinds.reuse, "to make pages writable again"),
        ("swapped in", kinds.swap_in, "for pages from swap"),
        ("made writable", kinds.mk_write, "to make shared pages writable"),
        ("stack growth", kinds.stack, "for stack growth"),
        ("spurious", kinds.spurious, "spurious"),
        ("denied", kinds.denied, "denied"),
    ]
}

fn faults(out: &mut String, report: &Report) {
    let faults = &report.faults;
    line!(out, "\n{:<24}{:>20}", "FAULTS", grouped(faults.total));
    pair(out, ("minor", faults.minor), Some(("major", faults.major)));
    let kinds = kind_lines(&faults.by_kind).map(|(name, count, _)| (name, count));
    let seen: Vec<_> = kinds.into_iter().filter(|(_, count)| *count != 0).collect();
    for two in seen.chunks(2) {
        pair(out, two[0], two.get(1).copied());
    }
}

fn memory(out: &mut String, report: &Report) {
    let memory = &report.memory;
    let (peak, exit) = (&memory.at_peak, &memory.at_exit);
    let rows = [
        ("  anonymous", peak.anon_bytes, exit.anon_bytes),
        ("  file", peak.file_bytes, exit.file_bytes),
        ("  shared memory", peak.shmem_bytes, exit.shmem_bytes),
        ("  all resident (RSS)", memory.rss_peak_bytes, memory.rss_bytes),
        ("  page tables", memory.page_table_peak_bytes, memory.page_table_bytes),
    ];
    let title = format!("MEMORY (KiB){}", of_first(report));
    line!(out, "\n{title:<24}{:>20}{:>20}", "at RSS peak", "at exit");
    for (name, at_peak, at_exit) in rows {
        line!(out, "{name:<24}{:>20}{:>20}", kib(at_peak), kib(at_exit));
    }
    if report.swap.total_pages != 0 {
        let swapped_in = ("pages swapped in", report.swap.in_pages);
        pair(out, ("pages swapped out", report.swap.out_pages), Some(swapped_in));
        let compressed = ("KiB for them in RAM", report.swap.ram_bytes_max / 1024);
        let is_compressed = report.swap.ram_bytes_max > 0;
        pair(out, ("ns lost waiting", report.swap.wait_ns), is_compressed.then_some(compressed));
    }
    for text in super::series::lines(report) {
        line!(out, "{text}");
    }
}

fn vmas(out: &mut String, report: &Report) {
    let mut order: Vec<&VmaFigures> = report.vmas.iter().collect();
    order.sort_by_key(|vma| Reverse((vma.rss_bytes, vma.faults)));
    // The lines of blocks take the place of some.
    let line_count = VMA_LINES[usize::from(is_several(report))];
    let line_count = line_count.saturating_sub(super::series::lines(report).len());
    let shown = order.iter().take(line_count).filter(|vma| vma.rss_bytes != 0 || vma.faults != 0);
    let count = grouped(report.vmas.len() as u64);
    let title = format!("VMAS (KiB){}, costliest of {count}", of_first(report));
    line!(out, "\n{title:<49}{:>17}{:>17}{:>17}", "size", "resident", "faults");
    for vma in shown {
        let name = if vma.name.is_empty() { "[anonymous]" } else { &vma.name };
        let name = shorten(name, NAME_COLUMNS);
        line!(
            out,
            "  {:<4} {name:<42}{:>17}{:>17}{:>17}",
            vma.perms,
            kib(vma.size_bytes),
            kib(vma.rss_bytes),
            grouped(vma.faults)
        );
    }
}

fn processes(out: &mut String, report: &Report) {
    if !is_several(report) {
        return;
    }
    let all = &report.processes;
    let title = format!("PROCESSES (KiB): {}", grouped(all.count));
    let heads = ["faults", "RSS peak", "PSS", "shared", "private", "copies", "switches"];
    line!(out, "\n{title:<27}{}", columns(&heads.map(str::to_owned)));
    let mut order: Vec<&ProcessFigures> = all.list.iter().collect();
    order.sort_by_key(|process| Reverse((process.faults.total, process.rss_peak_bytes)));
    for process in order.iter().take(PROCESS_LINES) {
        let name = process.program.rsplit('/').next().unwrap_or_default();
        let name = format!("{:>7} {}", process.pid, shorten(name, 16));
        let figures = [
            process.faults.total,
            process.rss_peak_bytes / 1024,
            process.pss_bytes / 1024,
            process.shared_bytes / 1024,
            process.private_bytes / 1024,
            process.copies.as_parent + process.copies.as_child,
            process.switches_voluntary + process.switches_forced,
        ]
        .map(narrow);
        line!(out, "  {name:<25}{}", columns(&figures));
    }
    let (forks, copies) = (&all.forks, &all.copies);
    pair(out, ("forks", forks.count), Some(("KiB that they cost", all.fork_cost_bytes / 1024)));
    pair(out, ("copies by parents", copies.as_parent), Some(("by children", copies.as_child)));
    let lost = ("TLB entries lost by them", all.switches.entries_lost);
    pair(out, ("context switches", all.switches.tasks), Some(lost));
}

/// Nine columns at most: a number that is longer loses its last digits to k, M, G or T.
fn narrow(mut number: u64) -> String {
    for suffix in ["", "k", "M", "G", "T", "P"] {
        let text = grouped(number) + suffix;
        if text.len() <= 9 {
            return text;
        }
        number /= 1000;
    }
    "very many".to_owned()
}

/// Right-aligned columns.
fn columns(cells: &[String; 7]) -> String {
    cells.iter().fold(String::new(), |line, cell| line + &format!("{cell:>10}"))
}

fn translation(out: &mut String, report: &Report) {
    let accesses = &report.accesses;
    let title = format!("TLB {}", shorten(report.machine.tlb, 18));
    line!(out, "\n{title:<24}{:>20}{:>20}{:>14}", "hits", "misses", "miss rate");
    let row = |out: &mut String, name: &str, level: &LevelFigures| {
        let rate = percent(level.misses_per_million);
        let [hits, misses] = [level.hits, level.misses].map(grouped);
        line!(out, "{name:<24}{hits:>20}{misses:>20}{rate:>14}");
    };
    if let Some(tlb) = &report.tlb {
        row(out, "  L1 data", &tlb.l1d);
        row(out, "  L1 instruction", &tlb.l1i);
        row(out, "  L2", &tlb.l2);
    }
    let walks = &report.walks;
    pair(out, ("page walks", walks.count), Some(("page-table reads", walks.memory_reads)));
    pair(out, ("data reads", accesses.read), Some(("data writes", accesses.write)));
    let instructions = report.instructions.map(|count| ("instructions", count));
    pair(out, ("code-page entries", accesses.fetch), instructions);
}

/// One or two figures in a line.
fn pair(out: &mut String, first: (&str, u64), second: Option<(&str, u64)>) {
    let mut text = format!("  {:<22}{:>20}", first.0, grouped(first.1));
    if let Some((name, count)) = second {
        write!(text, "    {name:<22}{:>20}", grouped(count)).expect("a string takes every write");
    }
    line!(out, "{text}");
}

fn calls(out: &mut String, report: &Report) {
    let calls = &report.syscalls;
    let unimplemented = &calls.unimplemented;
    line!(out, "\n{:<24}{:>20}", "SYSTEM CALLS", grouped(calls.count));
    let line_count = CALL_LINES[usize::from(is_several(report))];
    for call in unimplemented.iter().take(line_count) {
        let name = format!("  not implemented: {} ({})", call.name, call.number);
        line!(out, "{name:<44}{:>16} times", grouped(call.count));
    }
    if unimplemented.len() > line_count {
        let more = unimplemented.len() - line_count;
        line!(out, "  and {more} more not implemented: see --json");
    }
}

/// Bytes as KiB, with thousands separators.
fn kib(bytes: u64) -> String {
    grouped(bytes / 1024)
}

/// Parts of a million as percent with four decimals.
fn percent(per_million: u64) -> String {
    format!("{}.{:04} %", per_million / 10_000, per_million % 10_000)
}

/// The name of a signal.
fn signal_name(number: u8) -> Option<&'static str> {
    match number {
        16 => Some("SIGSTKFLT"),
        30 => Some("SIGPWR"),
        _ => signal_hook::low_level::signal_name(number.into()),
    }
}

#[cfg(test)]
mod tests;
