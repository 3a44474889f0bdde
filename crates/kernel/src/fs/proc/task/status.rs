//! `/proc/PID/status`: a task in words (PROC-4).

use std::fmt::Write;

use machine::{PAGE_BYTES, PAGE_SHIFT};
use mm::Mm;

use super::super::names::credentials;
use super::Shown;
use crate::process::LIMIT_COUNT;

/// Index of `RLIMIT_SIGPENDING`.
const LIMIT_SIGNALS: usize = 11;
const _: () = assert!(LIMIT_SIGNALS < LIMIT_COUNT, "a number of a limit");

/// One node of at most 1,024, as 32 words of 32 bits.
const MEMS_ALLOWED_WORDS: usize = 32;

pub(super) fn text(shown: &Shown<'_>) -> String {
    let mut text = identity(shown);
    if let Some(mm) = shown.mm {
        for (label, kib) in memory_rows(shown, mm) {
            line(&mut text, format_args!("{label}:\t{kib:>8} kB"));
        }
        let can_have = 1 - shown.process.settings.thp_disable.min(1);
        line(&mut text, format_args!("CoreDumping:\t0\nTHP_enabled:\t{can_have}"));
        line(&mut text, format_args!("untag_mask:\t0xffffffffffffffff"));
    }
    signals(&mut text, shown);
    let zeros = "0000000000000000";
    for label in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        line(&mut text, format_args!("{label}:\t{zeros}"));
    }
    let (voluntary, forced) = shown.switches();
    line(
        &mut text,
        format_args!(
            "NoNewPrivs:\t{}\nSeccomp:\t0\nSeccomp_filters:\t0\n\
             Speculation_Store_Bypass:\tnot vulnerable\nSpeculationIndirectBranch:\tnot affected\n\
             Cpus_allowed:\t1\nCpus_allowed_list:\t0\nMems_allowed:\t{}00000001\n\
             Mems_allowed_list:\t0\nvoluntary_ctxt_switches:\t{voluntary}\n\
             nonvoluntary_ctxt_switches:\t{forced}",
            shown.process.settings.no_new_privileges,
            "00000000,".repeat(MEMS_ALLOWED_WORDS - 1),
        ),
    );
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    writeln!(text, "{words}").expect("a string takes it");
}

/// Name, state, numbers and owners.
fn identity(shown: &Shown<'_>) -> String {
    let process = shown.process;
    let (letter, word) = shown.state();
    let (pid, tid) = (process.pid, shown.subject.tid);
    let name = String::from_utf8_lossy(shown.name());
    let name = name.replace('\\', "\\\\").replace('\n', "\\n");
    let mut text = format!("Name:\t{name}\n");
    if let Some(fs) = shown.fs {
        line(&mut text, format_args!("Umask:\t{:04o}", fs.umask));
    }
    line(
        &mut text,
        format_args!(
            "State:\t{letter} ({word})\nTgid:\t{pid}\nNgid:\t0\nPid:\t{tid}\nPPid:\t{}\n\
             TracerPid:\t0",
            process.parent
        ),
    );
    let who = credentials(&shown.kernel.roster(), shown.subject);
    let (uid, gid) = who.map_or((0, 0), |who| (who.uid, who.gid));
    for (label, id) in [("Uid", uid), ("Gid", gid)] {
        line(&mut text, format_args!("{label}:\t{id}\t{id}\t{id}\t{id}"));
    }
    let groups: Vec<String> =
        who.map_or_else(Vec::new, |who| who.groups.iter().map(u32::to_string).collect());
    let capacity = shown.files.map_or(0, |files| files.capacity());
    line(
        &mut text,
        format_args!(
            "FDSize:\t{capacity}\nGroups:\t{} \nNStgid:\t{pid}\nNSpid:\t{tid}\nNSpgid:\t{}\n\
             NSsid:\t{}\nKthread:\t0",
            groups.join(" "),
            process.group,
            process.session,
        ),
    );
    text
}

fn signals(text: &mut String, shown: &Shown<'_>) {
    let process = shown.process;
    let own = shown.task.map(|task| &task.signals);
    let queued = process.pending.count() + own.map_or(0, |own| own.pending.count());
    let most = process.limits[LIMIT_SIGNALS].soft;
    let (ignored, caught) = process.actions.ignored_and_caught();
    let pending = own.map_or(0, |own| own.pending.bits());
    let blocked = own.map_or(0, |own| own.mask);
    line(
        text,
        format_args!(
            "Threads:\t{}\nSigQ:\t{queued}/{most}\nSigPnd:\t{pending:016x}\n\
             ShdPnd:\t{:016x}\nSigBlk:\t{blocked:016x}\nSigIgn:\t{ignored:016x}\n\
             SigCgt:\t{caught:016x}",
            shown.thread_count(),
            process.pending.bits(),
        ),
    );
}

/// Pages from the start of the code to its end (LIM-2).
pub(super) fn code_pages(mm: &Mm) -> u64 {
    let end = mm.layout.end_code.as_u64().div_ceil(PAGE_BYTES);
    let start = mm.layout.start_code.as_u64() >> PAGE_SHIFT;
    end.saturating_sub(start)
}

fn memory_rows(shown: &Shown<'_>, mm: &Mm) -> [(&'static str, u64); 16] {
    let memory = &shown.kernel.memory;
    let kib = PAGE_BYTES >> 10;
    let rss = mm.rss(memory);
    let totals = mm.totals();
    let code = code_pages(mm).min(totals.exec_pages);
    [
        ("VmPeak", totals.total_pages_peak * kib),
        ("VmSize", totals.total_pages * kib),
        ("VmLck", totals.locked_pages * kib),
        ("VmPin", 0),
        ("VmHWM", mm.rss_peak_pages(memory) * kib),
        ("VmRSS", rss.total_pages() * kib),
        ("RssAnon", rss.anon_pages * kib),
        ("RssFile", rss.file_pages * kib),
        ("RssShmem", rss.shmem_pages * kib),
        ("VmData", totals.data_pages * kib),
        ("VmStk", totals.stack_pages * kib),
        ("VmExe", code * kib),
        ("VmLib", (totals.exec_pages - code) * kib),
        ("VmPTE", mm.page_table_frames(memory) * kib),
        ("VmSwap", mm.swap_pages(memory) * kib),
        ("HugetlbPages", 0),
    ]
}
