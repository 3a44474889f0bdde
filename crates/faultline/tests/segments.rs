//! Segments: `modify_ldt`, loads of selectors, and 16-bit and 32-bit code entered from a 64-bit
//! program, against the host CPU and its kernel (semantics section 19).
//!
//! The program makes its own cases from a seed, natively and inside; each line of its output is
//! what one case has come to. Natively it runs as nobody, with little time.
//!
//! Where the makers of CPUs disagree, ours is AMD's: the random cases need such a host.
//!
//! The long form, 100,000 cases: `FAULTLINE_CASES=100000 cargo test --test segments`;
//! `FAULTLINE_SEED` chooses others.

mod common;

use std::fs::File;
use std::path::Path;
use std::process::Command;

use common::{Build, Guest, build};

/// Cases without `FAULTLINE_CASES`.
const CASES: u64 = 12_800;
/// Cases of one run of the program; a multiple of 64, after which it makes its table anew.
const BATCH: u64 = 12_800;

fn number(name: &str, usual: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(usual, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// What a program prints on the host: as nobody if we are root, and for a minute of CPU time at
/// most.
fn natively(program: &Path, arguments: &[&str]) -> String {
    // Nobody need not be allowed to find the file.
    let script = "ulimit -t 60; ulimit -v 1000000; exec /proc/self/fd/0 \"$@\"";
    let mut command = Command::new(if is_root() { "setpriv" } else { "env" });
    if is_root() {
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--no-new-privs"]);
    }
    command.args(["sh", "-c", script, "sh"]).args(arguments);
    command.stdin(File::open(program).expect("it has been built"));
    let output = command.output().expect("the shell runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "natively: {:?}: {error}", output.status);
    String::from_utf8(output.stdout).expect("it prints text")
}

/// Whether we may become nobody.
fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    status.lines().any(|line| line.starts_with("Uid:\t0\t0"))
}

/// Whether the host's CPU is one of AMD's.
fn is_amd() -> bool {
    let text = std::fs::read_to_string("/proc/cpuinfo").expect("Linux has it");
    let vendor = text.lines().find_map(|line| line.strip_prefix("vendor_id")?.split(": ").nth(1));
    vendor == Some("AuthenticAMD")
}

/// Runs cases `first` to `first + count` both ways.
fn compare(program: &Path, seed: u64, first: u64, count: u64) {
    let arguments = [seed, first, count].map(|value| value.to_string());
    let arguments = arguments.each_ref().map(String::as_str);
    let native = natively(program, &arguments);
    let name = program.to_str().expect("our own names are text");
    let command: Vec<&str> = [name].into_iter().chain(arguments).collect();
    let inside = Guest::new(&command).inside();
    let text = inside.text();
    let pairs = native.lines().zip(text.lines());
    let different: Vec<_> = pairs.filter(|(one, other)| one != other).collect();
    for (one, other) in different.iter().take(5) {
        eprintln!("natively{one}\ninside  {other}\n");
    }
    let total = native.lines().count();
    assert!(different.is_empty(), "{} of {total} cases differ, seed {seed}", different.len());
    assert_eq!(inside.code(), Some(0), "inside: {}", inside.errors());
    assert_eq!(total, text.lines().count());
    assert!(total as u64 >= count, "{total} cases");
}

#[test]
fn random_selectors_and_descriptors_do_what_they_do_on_the_host() {
    if !is_amd() {
        eprintln!("skipped: the host's CPU is not AMD's, and does some cases otherwise");
        return;
    }
    let Some(program) = build("segments/random.c", Build::NolibcHigh) else { return };
    let (seed, count) = (number("FAULTLINE_SEED", 1), number("FAULTLINE_CASES", CASES));
    for first in (0..count).step_by(BATCH as usize) {
        compare(&program, seed, first, BATCH.min(count - first));
    }
}

#[test]
fn tables_and_far_jumps_are_as_on_the_host() {
    let Some(program) = build("segments/table.c", Build::NoPie) else { return };
    Guest::new([program]).same();
}
