//! The short files of a task.

use std::fmt::Write;

use machine::{PAGE_BYTES, VirtAddr};
use mm::Mm;

use super::Shown;
use crate::Kernel;
use crate::abi::Abi;
use crate::fs::proc::system;
use crate::process::ResourceLimit;
use crate::task::State;

/// The text of a file; `None` if it has none.
pub(super) fn text(shown: &Shown<'_>, name: &str) -> Option<Vec<u8>> {
    Some(match name {
        "cmdline" => of_mm(shown, |mm| (mm.layout.arg_start, mm.layout.arg_end)),
        "environ" => of_mm(shown, |mm| (mm.layout.env_start, mm.layout.env_end)),
        "auxv" => shown.mm.map_or_else(Vec::new, |mm| auxv(shown.kernel, mm)),
        "comm" => [shown.name(), b"\n"].concat(),
        "limits" => limits(&shown.process.limits).into_bytes(),
        "oom_score" => format!("{}\n", oom_score(shown)).into_bytes(),
        "oom_score_adj" => format!("{}\n", shown.process.settings.oom_score_adj).into_bytes(),
        "oom_adj" => format!("{}\n", oom_adj(shown.process.settings.oom_score_adj)).into_bytes(),
        "loginuid" | "sessionid" => b"4294967295".to_vec(),
        "personality" => {
            format!("{:08x}\n", shown.task.map_or(0, |task| task.personality)).into_bytes()
        }
        "io" => io(shown).into_bytes(),
        "wchan" => wchan(shown),
        "syscall" => syscall(shown).into_bytes(),
        "sched" => sched(shown).into_bytes(),
        "schedstat" => schedstat(shown).into_bytes(),
        "timerslack_ns" => format!("{}\n", shown.process.settings.timer_slack_ns).into_bytes(),
        "timers" | "clear_refs" => Vec::new(),
        "children" => children(shown).into_bytes(),
        "mounts" => system::mounts(shown.kernel).into_bytes(),
        "mountstats" => system::mountstats().into_bytes(),
        "mountinfo" => system::mountinfo(shown.kernel).into_bytes(),
        "cgroup" => b"0::/\n".to_vec(),
        "cpuset" => b"/\n".to_vec(),
        "coredump_filter" => b"00000033\n".to_vec(),
        "uid_map" | "gid_map" | "projid_map" => b"         0          0 4294967295\n".to_vec(),
        "setgroups" => b"allow\n".to_vec(),
        _ => return None,
    })
}

fn of_mm(shown: &Shown<'_>, range: fn(&Mm) -> (VirtAddr, VirtAddr)) -> Vec<u8> {
    shown.mm.map_or_else(Vec::new, |mm| {
        let (start, end) = range(mm);
        strings(shown.kernel, mm, start, end)
    })
}

/// Bytes of the task's memory that are there, zeros where they are not.
fn strings(kernel: &Kernel, mm: &Mm, start: VirtAddr, end: VirtAddr) -> Vec<u8> {
    // The arguments and the environment are at most a quarter of the stack (STK-7).
    let bytes = end.as_u64().saturating_sub(start.as_u64()).min(8 << 20);
    let mut text = Vec::new();
    while (text.len() as u64) < bytes {
        let here = start.wrapping_add(text.len() as u64);
        let run = (PAGE_BYTES - here.page_offset()).min(bytes - text.len() as u64);
        let from = text.len();
        text.resize(from + usize::try_from(run).expect("at most a page"), 0);
        if let Some((place, _)) = kernel.hw.peek(mm.root(), here) {
            kernel.hw.load(place, &mut text[from..]);
        }
    }
    text
}

/// The auxiliary vector: it stands behind the environment pointers of the first stack.
fn auxv(kernel: &Kernel, mm: &Mm) -> Vec<u8> {
    let words = strings(kernel, mm, mm.layout.start_stack, mm.layout.arg_start);
    let abi = Abi::of(mm);
    let word_bytes = usize::from(abi.word_bytes() as u8);
    let value = |word: &[u8]| word.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
    let words: Vec<u64> = words.chunks_exact(word_bytes).map(value).collect();
    let argc = words.first().copied().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let env = argc.saturating_add(2);
    let Some(env_count) = words.get(env..).and_then(|rest| rest.iter().position(|&w| w == 0))
    else {
        return Vec::new();
    };
    let vector = &words[env + env_count + 1..];
    let pairs = vector.chunks_exact(2).position(|pair| pair[0] == 0).map_or(0, |last| last + 1);
    vector[..pairs * 2].iter().flat_map(|&word| abi.word(word)).collect()
}

/// How ready the kernel is to end the process when memory is short (OOM-2).
fn oom_score(shown: &Shown<'_>) -> i64 {
    let adjustment = shown.process.settings.oom_score_adj;
    shown.mm.map_or(0, |mm| shown.kernel.oom_score(mm, adjustment))
}

/// The old scale of -17 to 15.
fn oom_adj(adjustment: i32) -> i32 {
    if adjustment == 1000 { 15 } else { adjustment * 17 / 1000 }
}

fn io(shown: &Shown<'_>) -> String {
    let io = &shown.process.io;
    format!(
        "rchar: {}\nwchar: {}\nsyscr: {}\nsyscw: {}\nread_bytes: 0\nwrite_bytes: 0\n\
         cancelled_write_bytes: 0\n",
        io.read_bytes, io.written_bytes, io.reads, io.writes
    )
}

/// In which function a sleeping task is: `0` for one that runs.
fn wchan(shown: &Shown<'_>) -> Vec<u8> {
    let waits = shown.task.and_then(|task| task.wait.as_ref());
    match waits.and_then(|wait| wait.place()) {
        Some(place) => place.as_bytes().to_vec(),
        None => b"0".to_vec(),
    }
}

/// The call that the task sleeps in, its arguments, stack pointer and program counter.
fn syscall(shown: &Shown<'_>) -> String {
    let Some(task) = shown.task.filter(|task| task.state == State::Blocked) else {
        let reads_itself = shown.subject.tid == shown.kernel.task.tid;
        if reads_itself && let Some(task) = shown.task {
            return call_line(task);
        }
        return "running\n".to_string();
    };
    call_line(task)
}

fn call_line(task: &crate::Task) -> String {
    let (number, args) = task.call();
    let args: String = args.iter().map(|value| format!("{value:#x} ")).collect();
    format!("{number} {args}{:#x} {:#x}\n", task.regs.gpr[4], task.regs.rip)
}

fn sched(shown: &Shown<'_>) -> String {
    let name = String::from_utf8_lossy(shown.name()).into_owned();
    let (voluntary, forced) = shown.switches();
    let ms = |ns: u64| format!("{}.{:06}", ns / 1_000_000, ns % 1_000_000);
    let rows = [
        ("se.exec_start", ms(shown.kernel.hw.now_ns())),
        ("se.vruntime", ms(shown.cpu_ns())),
        ("se.sum_exec_runtime", ms(shown.cpu_ns())),
        ("se.nr_migrations", "0".to_string()),
        ("nr_switches", (voluntary + forced).to_string()),
        ("nr_voluntary_switches", voluntary.to_string()),
        ("nr_involuntary_switches", forced.to_string()),
        ("se.load.weight", "1048576".to_string()),
        ("policy", "0".to_string()),
        ("prio", (120 + shown.process.settings.nice).to_string()),
    ];
    let threads = shown.thread_count();
    let mut text = format!("{name} ({}, #threads: {threads})\n", shown.subject.tid);
    text.push_str(&"-".repeat(67));
    text.push('\n');
    for (label, value) in rows {
        writeln!(text, "{label:<45}:{value:>21}").expect("a string takes it");
    }
    text
}

/// Nanoseconds on the CPU, nanoseconds in the queue, turns.
fn schedstat(shown: &Shown<'_>) -> String {
    let (voluntary, forced) = shown.switches();
    format!("{} 0 {}\n", shown.cpu_ns(), voluntary + forced)
}

fn children(shown: &Shown<'_>) -> String {
    let roster = shown.kernel.roster();
    let is_first = shown.subject.tid == shown.process.pid;
    let children = roster.pids().into_iter().filter(|&pid| {
        roster.process(pid).is_some_and(|one| is_first && one.parent == shown.process.pid)
    });
    children.map(|pid| format!("{pid} ")).collect()
}

/// Name, unit, and index of the limit, in the order of the file.
const LIMIT_ROWS: [(&str, &str); 16] = [
    ("Max cpu time", "seconds"),
    ("Max file size", "bytes"),
    ("Max data size", "bytes"),
    ("Max stack size", "bytes"),
    ("Max core file size", "bytes"),
    ("Max resident set", "bytes"),
    ("Max processes", "processes"),
    ("Max open files", "files"),
    ("Max locked memory", "bytes"),
    ("Max address space", "bytes"),
    ("Max file locks", "locks"),
    ("Max pending signals", "signals"),
    ("Max msgqueue size", "bytes"),
    ("Max nice priority", ""),
    ("Max realtime priority", ""),
    ("Max realtime timeout", "us"),
];

fn limits(limits: &[ResourceLimit]) -> String {
    let shown = |value: u64| match value {
        u64::MAX => "unlimited".to_string(),
        value => value.to_string(),
    };
    let mut text = String::from(
        "Limit                     Soft Limit           Hard Limit           Units     \n",
    );
    for ((name, unit), limit) in LIMIT_ROWS.iter().zip(limits) {
        let (soft, hard) = (shown(limit.soft), shown(limit.hard));
        writeln!(text, "{name:<25} {soft:<20} {hard:<20} {unit:<10}").expect("a string takes it");
    }
    text
}
