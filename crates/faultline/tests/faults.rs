//! Minor faults since exec: exactly the host's where memory is anonymous or the program static,
//! within 3 % for dynamic programs, whose file pages the host's page cache maps in folios.
//!
//! A host that reclaims or moves pages at that moment makes a native program fault again, and one
//! that gathers pages of a file saves it a fault. So the native count is the most frequent one of
//! several runs, and of more runs while that differs from ours.
//!
//! The virtual processor has no AVX-512. A C library on a host that has it picks other variants of
//! `memcpy` and the like, in other pages of its text; so natively it is told not to. The i386 one
//! has no such variants, and is not told: reading the tunables faults too.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::sync::OnceLock;

use common::{Build, Guest, build, fresh, installed};
use serde_json::Value;

/// Keeps the C library from what the virtual processor does not have.
const NO_AVX512: &str =
    "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-AVX512BW,-AVX512CD,-AVX512DQ,-AVX512ER,-AVX512PF";

/// What the native oracle says of a program: its minor faults since exec, in several runs.
fn native_faults(command: &[&str]) -> Vec<u64> {
    static PROBE: OnceLock<Option<std::path::PathBuf>> = OnceLock::new();
    let probe = PROBE.get_or_init(|| build("probe.c", Build::Dynamic));
    let probe = probe.as_ref().expect("the C compiler is needed anyway");
    let tunables = if is_i386(command[0]) { None } else { Some(("GLIBC_TUNABLES", NO_AVX512)) };
    let mut faults = Vec::new();
    // The first run warms the page cache.
    for _ in 0..4 {
        let mut probe = Command::new(probe);
        let output = probe.args(command).envs(tunables).output();
        let output = output.expect("the probe runs");
        let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{command:?}: {error}: {}", String::from_utf8_lossy(&output.stderr))
        });
        faults.push(value["minor"].as_u64().expect("it counts faults"));
    }
    faults.split_off(1)
}

/// Whether a program is an ELF file of class 32.
fn is_i386(program: &str) -> bool {
    let mut head = [0; 5];
    let file = fs::File::open(program).and_then(|mut file| file.read_exact(&mut head));
    file.is_ok() && head == *b"\x7fELF\x01"
}

/// Native runs before a count is said to differ.
const RUNS_MAX: usize = 30;

fn our_faults(command: &[&str]) -> (u64, Value) {
    let (_, report, _) = Guest::new(command).mute().inside_with_json();
    assert_eq!(report["memory"]["frames_leaked"], 0, "{command:?}");
    assert_eq!(report["faults"]["major"], 0, "{command:?}");
    // Those of the first process, as the oracle counts them.
    let first = &report["processes"]["list"][0]["faults"]["minor"];
    (first.as_u64().expect("it counts faults"), report)
}

/// A copy of a program that the host's page cache holds in single pages. A file that was read back
/// from disk lies there in larger folios, which fault-around maps whole (FLT-6).
fn in_single_pages(program: &str) -> String {
    let copy = fresh("single-pages");
    let copy = copy.to_str().expect("our own names are text");
    // By a process of its own: a test that forks meanwhile must not have the copy open.
    let (from, to) = (format!("if={program}"), format!("of={copy}"));
    let dd = Command::new("dd").args([&from, &to, "bs=4096", "status=none"]).status();
    assert!(dd.is_ok_and(|status| status.success()), "dd of coreutils is installed");
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(copy, mode).expect("it is our own");
    copy.to_owned()
}

#[track_caller]
fn exactly(command: &[&str]) {
    let copy = in_single_pages(command[0]);
    let command = &[&[copy.as_str()], &command[1..]].concat()[..];
    let (ours, report) = our_faults(command);
    let mut native = native_faults(command);
    while most_frequent(&native) != ours && native.len() < RUNS_MAX {
        native.extend(native_faults(command));
    }
    assert_eq!(ours, most_frequent(&native), "{command:?}: {native:?}: {}", report["faults"]);
    // It stays behind only if the test fails.
    let _ = fs::remove_file(copy);
}

/// The count that most runs have, the least of them if several are as frequent.
fn most_frequent(counts: &[u64]) -> u64 {
    let runs = |count: &u64| counts.iter().filter(|other| *other == count).count();
    let most = counts.iter().map(runs).max();
    let frequent = counts.iter().filter(|count| Some(runs(count)) == most);
    *frequent.min().expect("there was a run")
}

#[track_caller]
fn nearly(command: &[&str]) {
    if installed(command[0]).is_none() {
        return;
    }
    let native = native_faults(command);
    let (ours, report) = our_faults(command);
    let is_near = |native: &u64| ours.abs_diff(*native) <= native * 3 / 100;
    let faults = &report["faults"];
    assert!(native.iter().any(is_near), "{command:?}: {ours}, native {native:?}: {faults}");
}

fn patterns(kind: Build) {
    let Some(program) = build("patterns.c", kind) else { return };
    let program = program.to_str().expect("our own names are text");
    for (pattern, amount) in [
        ("nothing", "0"),
        ("anon", "0x4000000"),
        ("anonread", "0x1000000"),
        ("populate", "0x1000000"),
        ("brk", "0x1000000"),
        ("malloc", "100000"),
        ("stack", "1000"),
        ("mprot", "0x400000"),
        ("dontneed", "0x1000000"),
        ("mremap", "0x1000000"),
        ("mlock", "0x400000"),
        ("hole", "0x400000"),
        ("shared", "0x400000"),
        ("toggle", "0x400000"),
        // The fork patterns of the ABI's fidelity baselines.
        ("fork", "0x1000000"),
        ("forks", "0x400000"),
    ] {
        exactly(&[program, pattern, amount]);
    }
}

#[test]
fn static_programs_fault_exactly_as_natively() {
    for (source, kind) in [
        ("hello_nolibc.c", Build::Nolibc),
        ("hello.c", Build::MuslStatic),
        ("hello.c", Build::GlibcStatic),
        ("hello.c", Build::GlibcStaticPie),
        ("i386/nolibc.c", Build::I386Nolibc),
        ("hello.c", Build::I386Static),
    ] {
        if let Some(program) = build(source, kind) {
            exactly(&[program.to_str().expect("our own names are text")]);
        }
    }
}

#[test]
fn patterns_with_glibc_fault_exactly_as_natively() {
    patterns(Build::GlibcStatic);
}

#[test]
fn patterns_with_musl_fault_exactly_as_natively() {
    patterns(Build::MuslStatic);
}

#[test]
fn patterns_of_i386_programs_fault_exactly_as_natively() {
    patterns(Build::I386Static);
}

#[test]
fn dynamic_programs_fault_nearly_as_natively() {
    for (source, kind) in [
        ("hello.c", Build::Dynamic),
        ("hello.c", Build::NoPie),
        ("hello.cc", Build::Cxx),
        ("hello.c", Build::I386Dynamic),
    ] {
        if let Some(program) = build(source, kind) {
            nearly(&[program.to_str().expect("our own names are text")]);
        }
    }
    nearly(&["/bin/true"]);
    nearly(&["/bin/cat", "/etc/passwd"]);
    nearly(&["/usr/bin/python3", "-S", "-c", "print(1)"]);
    nearly(&["/usr/bin/perl", "-e", "my %h; $h{$_} = $_ for 1..10000; print scalar keys %h"]);
    nearly(&["/usr/bin/lua5.4", "-e", "local t = {} for i = 1, 100000 do t[i] = 'x' .. i end"]);
    nearly(&["/usr/bin/sqlite3", ":memory:", "select sum(1) from (select 1 union select 2)"]);
    nearly(&["/bin/gzip", "-n", "-c", "/usr/bin/perl"]);
}
