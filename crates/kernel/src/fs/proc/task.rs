//! The files of `/proc/PID`: one task as text.
//!
//! # Source
//! Linux 6.12 `fs/proc/array.c`, `fs/proc/base.c`; semantics PROC-4 to PROC-6.

use std::fmt::Write;

use machine::{PAGE_BYTES, PAGE_SHIFT, VirtAddr};
use mm::Mm;

use super::memory_map;
use crate::Kernel;
use crate::process::ResourceLimit;

/// Nanoseconds per tick of `/proc` times (`USER_HZ` is 100).
const NS_PER_TICK: u64 = 10_000_000;

/// Names that [`file`] knows.
pub(super) const NAMES: [&str; 16] = [
    "auxv",
    "cmdline",
    "comm",
    "environ",
    "io",
    "limits",
    "loginuid",
    "maps",
    "oom_adj",
    "oom_score",
    "oom_score_adj",
    "smaps",
    "smaps_rollup",
    "stat",
    "statm",
    "status",
];

/// The content of a file of the task's directory.
pub(super) fn file(kernel: &Kernel, name: &str) -> Option<Vec<u8>> {
    let layout = &kernel.mm.layout;
    Some(match name {
        "maps" => memory_map::maps(kernel),
        "smaps" => memory_map::smaps(kernel),
        "smaps_rollup" => memory_map::smaps_rollup(kernel),
        "status" => status(kernel).into_bytes(),
        "stat" => stat(kernel).into_bytes(),
        "statm" => statm(kernel).into_bytes(),
        "limits" => limits(&kernel.process.limits).into_bytes(),
        "cmdline" => strings(kernel, layout.arg_start, layout.arg_end),
        "environ" => strings(kernel, layout.env_start, layout.env_end),
        "auxv" => auxv(kernel),
        "comm" => [&kernel.task.name[..], b"\n"].concat(),
        "oom_score" | "oom_score_adj" | "oom_adj" => b"0\n".to_vec(),
        "loginuid" => b"4294967295".to_vec(),
        "io" => b"rchar: 0\nwchar: 0\nsyscr: 0\nsyscw: 0\nread_bytes: 0\nwrite_bytes: 0\n\
            cancelled_write_bytes: 0\n"
            .to_vec(),
        _ => return None,
    })
}

/// Bytes of the task's memory that are there, zeros where they are not.
fn strings(kernel: &Kernel, start: VirtAddr, end: VirtAddr) -> Vec<u8> {
    // The arguments and the environment are at most a quarter of the stack (STK-7).
    let bytes = end.offset_from(start).min(8 << 20);
    let mut text = Vec::new();
    while (text.len() as u64) < bytes {
        let here = start.wrapping_add(text.len() as u64);
        let run = (PAGE_BYTES - here.page_offset()).min(bytes - text.len() as u64);
        let from = text.len();
        text.resize(from + usize::try_from(run).expect("at most a page"), 0);
        if let Some((place, _)) = kernel.hw.peek(kernel.mm.root(), here) {
            kernel.hw.load(place, &mut text[from..]);
        }
    }
    text
}

/// The auxiliary vector: it stands behind the environment pointers of the first stack.
fn auxv(kernel: &Kernel) -> Vec<u8> {
    let layout = &kernel.mm.layout;
    let start = layout.start_stack;
    let words = strings(kernel, start, layout.arg_start);
    let words: Vec<u64> = words
        .chunks_exact(8)
        .map(|word| u64::from_le_bytes(word.try_into().expect("eight bytes")))
        .collect();
    let argc = words.first().copied().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let env = argc.saturating_add(2);
    let Some(env_count) = words.get(env..).and_then(|rest| rest.iter().position(|&w| w == 0))
    else {
        return Vec::new();
    };
    let vector = &words[env + env_count + 1..];
    let pairs = vector.chunks_exact(2).position(|pair| pair[0] == 0).map_or(0, |last| last + 1);
    vector[..pairs * 2].iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn statm(kernel: &Kernel) -> String {
    let mm = &kernel.mm;
    let rss = mm.rss(&kernel.memory);
    let totals = mm.totals();
    let shared = rss.file_pages + rss.shmem_pages;
    let data = totals.data_pages + totals.stack_pages;
    let text = code_pages(mm);
    format!("{} {} {shared} {text} 0 {data} 0\n", totals.total_pages, rss.total_pages())
}

/// Pages from the start of the code to its end (LIM-2).
fn code_pages(mm: &Mm) -> u64 {
    let end = mm.layout.end_code.as_u64().div_ceil(PAGE_BYTES);
    let start = mm.layout.start_code.as_u64() >> PAGE_SHIFT;
    end.saturating_sub(start)
}

fn status(kernel: &Kernel) -> String {
    let (task, mm, fs) = (&kernel.task, &kernel.mm, &kernel.fs);
    let (pid, parent) = (task.pid, kernel.process.parent);
    let credentials = &fs.credentials;
    let name = String::from_utf8_lossy(&task.name);
    let mut text = format!(
        "Name:\t{name}\nUmask:\t{:04o}\nState:\tR (running)\nTgid:\t{pid}\nNgid:\t0\n\
         Pid:\t{pid}\nPPid:\t{parent}\nTracerPid:\t0\n",
        fs.umask
    );
    let mut ids = |label: &str, id: u32| {
        writeln!(text, "{label}:\t{id}\t{id}\t{id}\t{id}").expect("a string takes it");
    };
    ids("Uid", credentials.uid);
    ids("Gid", credentials.gid);
    let groups: String = credentials.groups.iter().map(|group| format!("{group} ")).collect();
    write!(
        text,
        "FDSize:\t256\nGroups:\t{groups}\nNStgid:\t{pid}\nNSpid:\t{pid}\nNSpgid:\t{pid}\n\
         NSsid:\t{pid}\nKthread:\t0\n"
    )
    .expect("a string takes it");
    for (label, kib) in memory_rows(kernel, mm) {
        writeln!(text, "{label}:\t{kib:>8} kB").expect("a string takes it");
    }
    text.push_str(
        "CoreDumping:\t0\nTHP_enabled:\t0\nuntag_mask:\t0xffffffffffffffff\nThreads:\t1\n\
         SigQ:\t0/96365\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n\
         SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n\
         CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n\
         CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t0\n\
         Seccomp_filters:\t0\nCpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t1\n\
         Mems_allowed_list:\t0\nvoluntary_ctxt_switches:\t0\nnonvoluntary_ctxt_switches:\t0\n",
    );
    text
}

fn memory_rows(kernel: &Kernel, mm: &Mm) -> [(&'static str, u64); 16] {
    let kib = PAGE_BYTES >> 10;
    let rss = mm.rss(&kernel.memory);
    let totals = mm.totals();
    let code = code_pages(mm).min(totals.exec_pages);
    [
        ("VmPeak", totals.total_pages_peak * kib),
        ("VmSize", totals.total_pages * kib),
        ("VmLck", totals.locked_pages * kib),
        ("VmPin", 0),
        ("VmHWM", mm.rss_peak_pages(&kernel.memory) * kib),
        ("VmRSS", rss.total_pages() * kib),
        ("RssAnon", rss.anon_pages * kib),
        ("RssFile", rss.file_pages * kib),
        ("RssShmem", rss.shmem_pages * kib),
        ("VmData", totals.data_pages * kib),
        ("VmStk", totals.stack_pages * kib),
        ("VmExe", code * kib),
        ("VmLib", (totals.exec_pages - code) * kib),
        ("VmPTE", mm.page_table_frames(&kernel.memory) * kib),
        ("VmSwap", 0),
        ("HugetlbPages", 0),
    ]
}

fn stat(kernel: &Kernel) -> String {
    let (task, mm) = (&kernel.task, &kernel.mm);
    let parent = kernel.process.parent;
    let layout = &mm.layout;
    let (pid, faults) = (task.pid, mm.faults());
    let ticks = kernel.hw.now_ns() / NS_PER_TICK;
    let rss = mm.rss(&kernel.memory).total_pages();
    let vsize = mm.totals().total_pages * PAGE_BYTES;
    let name = String::from_utf8_lossy(&task.name);
    let (start_code, end_code) = (layout.start_code.as_u64(), layout.end_code.as_u64());
    format!(
        "{pid} ({name}) R {parent} {pid} {pid} 0 -1 4194304 {} 0 {} 0 {ticks} 0 0 0 20 0 1 0 \
         0 {vsize} {rss} {} {start_code} {end_code} {} 0 0 0 0 0 0 0 0 0 17 0 0 0 0 0 0 {} {} {} \
         {} {} {} {} 0\n",
        faults.minor,
        faults.major,
        u64::MAX,
        layout.start_stack.as_u64(),
        layout.start_data.as_u64(),
        layout.end_data.as_u64(),
        layout.start_brk.as_u64(),
        layout.arg_start.as_u64(),
        layout.arg_end.as_u64(),
        layout.env_start.as_u64(),
        layout.env_end.as_u64(),
    )
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
