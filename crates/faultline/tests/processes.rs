//! Processes, threads, signals and timers: what the programs of `programs/processes` print is what
//! they print natively, run after run.

mod common;

use std::path::PathBuf;

use common::{Build, Guest, build};
use serde_json::Value;

fn program(name: &str, how: Build) -> Option<PathBuf> {
    let suffix = match how {
        Build::Cxx => "cc",
        Build::Rust => "rs",
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
    orphans_and_groups: "family" MuslStatic;
    queued_signals: "queue" MuslStatic;
    queued_signals_by_glibc: "queue" Dynamic;
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
