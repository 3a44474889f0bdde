//! Programs that print what they see: the same lines here and on the host.

mod common;

use std::process::{Command, Stdio};

use kernel::Outcome;

/// Set in the child that runs a guest program: its path.
const GUEST: &str = "FAULTLINE_TEST_GUEST";

/// Not a test of its own: the child of the others, in which a guest has the standard streams.
#[test]
fn guest_child() {
    let Ok(path) = std::env::var(GUEST) else { return };
    let mut kernel = common::boot(path.as_ref(), &[]).expect("the program can be loaded");
    let code = match kernel.run() {
        Outcome::Exited(code) => code.into(),
        Outcome::Killed(signal) => 128 + i32::from(signal),
        Outcome::OutOfMemory | Outcome::Stuck { .. } | Outcome::TimedOut => 125,
    };
    std::process::exit(code);
}

/// The lines of `output` from their `> ` on.
fn lines(output: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(output).into_owned();
    text.lines().filter_map(|line| line.find("> ").map(|at| line[at..].to_owned())).collect()
}

fn compare(name: &str, source: &str) {
    let Some(path) = common::compile(name, source, &["-O1", "-static"]) else { return };
    let native = Command::new(&path)
        .env_clear()
        .envs([("PATH", "/usr/bin:/bin"), ("LANG", "C")])
        .stdin(Stdio::null())
        .output()
        .expect("it can be run");
    let here = Command::new(std::env::current_exe().expect("this test has a file"))
        .args(["--exact", "guest_child", "--nocapture", "--test-threads=1"])
        .env(GUEST, &path)
        .stdin(Stdio::null())
        .output()
        .expect("this test can be run again");
    let (native_lines, here_lines) = (lines(&native.stdout), lines(&here.stdout));
    for (native, here) in native_lines.iter().zip(&here_lines) {
        assert_eq!(here, native, "{name}: here is left, the host right");
    }
    assert_eq!(here_lines.len(), native_lines.len(), "{name}: {here:?}");
    assert_eq!(here.status.code(), native.status.code(), "{name}");
}

#[test]
fn calls_fail_as_on_the_host() {
    compare("calls", include_str!("guest/calls.c"));
}

#[test]
fn a_program_that_executes_another_is_gone() {
    compare("exec", include_str!("guest/exec.c"));
}

#[test]
fn faults_are_told_as_on_the_host() {
    compare("signals", include_str!("guest/signals.c"));
}

#[test]
fn handlers_are_entered_and_left_as_on_the_host() {
    compare("handlers", include_str!("guest/handlers.c"));
}
