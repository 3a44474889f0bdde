//! Processes, threads, signals and timers: what the programs of `programs/processes` print is what
//! they print natively, run after run.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Build, Guest, build, peak_when_done};
use serde_json::Value;

fn program(name: &str, how: Build) -> Option<PathBuf> {
    let suffix = match how {
        Build::Cxx => "cc",
        Build::Rust => "rs",
        Build::Go => "go",
        _ => "c",
    };
    build(&format!("processes/{name}.{suffix}"), how)
}

/// Requires the host's output and end, no leaked frame, and the same log again.
#[track_caller]
fn same(name: &str, how: Build) {
    let Some(program) = program(name, how) else { return };
    let guest = Guest::new([program]).options(["--boot-time", "1700000000"]);
    let first = guest.same();
    let (_, second, _) = guest.inside_with_json();
    assert_eq!(first["log_hash"], second["log_hash"], "{name} is not deterministic");
    assert_ne!(first["log_hash"], Value::Null);
}

macro_rules! same {
    ($($test:ident: $name:literal $how:ident;)*) => {
        $(
            #[test]
            fn $test() {
                same($name, Build::$how);
            }
        )*
    };
}

same! {
    calls_that_signals_interrupt: "restart" MuslStatic;
    children_and_news_of_them: "wait" MuslStatic;
    copies_on_write_fault_as_natively: "copies" MuslStatic;
    exec_and_exit_of_threads: "groups_of_threads" MuslStatic;
    futexes: "futexes" MuslStatic;
    futexes_by_glibc: "futexes" Dynamic;
    descriptors_of_processes: "pidfds" Dynamic;
    descriptors_of_threads: "pidfd_threads" Dynamic;
    advice_about_the_memory_of_others: "advice" Dynamic;
    goroutines: "goroutines" Go;
    handlers_in_common_and_limits_of_time: "handlers" Dynamic;
    locks_of_the_dead_and_waits_for_several: "inheritance" Dynamic;
    orphans_and_groups: "family" MuslStatic;
    queued_signals: "queue" MuslStatic;
    queued_signals_by_glibc: "queue" Dynamic;
    restartable_sequences: "sequence" MuslStatic;
    signals_to_threads: "directed" MuslStatic;
    signals_to_threads_by_glibc: "directed" Dynamic;
    eight_threads_by_glibc: "pthreads" Dynamic;
    eight_threads_by_musl: "pthreads" MuslStatic;
    eight_threads_without_loader: "pthreads" GlibcStatic;
    threads_of_cpp: "threads" Cxx;
    threads_of_rust: "threads" Rust;
    stopping_and_going_on: "stops" MuslStatic;
    timers: "timers" MuslStatic;
}

/// Processes that fork from each other change memory, common and their own: each step gives what it
/// gives natively and costs as many faults (rules FORK-1 to FORK-3, FORK-7).
#[test]
fn random_changes_by_processes_that_fork() {
    let Some(program) = program("random_forks", Build::MuslStatic) else { return };
    for seed in 1..=24 {
        let seed = seed.to_string();
        Guest::new([program.as_os_str(), seed.as_ref()]).same();
    }
}

/// The most memory that we ever had, KiB, when the guest has run that many programs.
fn memory_after(program: &Path, cycles: &str) -> u64 {
    let mut ours = Command::new(env!("CARGO_BIN_EXE_faultline"))
        .args(["run", "--report", "none", "--"])
        .arg(program)
        .args([cycles, "parent"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("our own program runs");
    let peak = peak_when_done(&mut ours);
    drop(ours.stdin.take());
    assert!(ours.wait().is_ok_and(|status| status.success()));
    peak
}

/// Whatever a process had is given back: our own memory does not grow with their number.
#[test]
fn ten_thousand_processes_leave_nothing() {
    let Some(program) = program("cycles", Build::MuslStatic) else { return };
    let (few, many) = (memory_after(&program, "1000"), memory_after(&program, "10000"));
    assert!(many < few + 1024, "1,000 programs: {few} KiB, 10,000: {many} KiB");
    let guest = Guest::new([program.as_os_str(), "1000".as_ref(), "parent".as_ref()]);
    let report = guest.same();
    assert_eq!(report["processes"]["count"], 1001, "{report:#}");
}
