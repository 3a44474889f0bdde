//! What a run takes of the host's memory beside that of the guest: translated code, most of all.

mod common;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{ENVIRONMENT, fresh, installed, peak_when_done};
use serde_json::Value;

/// The bound is 64 MiB; this is less, so that growth is noticed before it is met.
const OVER_KIB_MAX: u64 = 60 << 10;

/// A C program of 20 functions: for 20 as for 200, the compiler runs nearly all of its own code.
fn source() -> String {
    let mut text = String::new();
    for i in 0..20 {
        write!(
            text,
            "struct s{i} {{ long a, b; struct s{i} *next; }};\n\
             long f{i}(struct s{i} *p, long n)\n{{\n\tlong sum = {i};\n\
             \tfor (long i = 0; i < n; i++) {{\n\t\tsum += p->a * {i} + (p->b >> {i});\n\
             \t\tif (sum % {} == 3)\n\t\t\tsum ^= i;\n\t\tp = p->next;\n\t}}\n\treturn sum;\n}}\n",
            i + 7
        )
        .expect("text takes every write");
    }
    text
}

/// Runs a command of the shell inside; returns the most memory that we and that the guest ever had,
/// KiB.
fn peaks(command: &str, json: &Path) -> (u64, u64) {
    let mut ours = Command::new(env!("CARGO_BIN_EXE_faultline"))
        .args(["run", "--report", "none", "--json"])
        .arg(json)
        .args(["--", "/bin/sh", "-c", &format!("{command} && echo done; read line")])
        .env_clear()
        .envs(ENVIRONMENT)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("our own program runs");
    let peak = peak_when_done(&mut ours);
    drop(ours.stdin.take());
    ours.wait().expect("it is ours");
    let report = fs::read(json).expect("the report is written");
    let report: Value = serde_json::from_slice(&report).expect("the report is JSON");
    let frames = report["memory"]["frames_used_peak"].as_u64().expect("it counts frames");
    (peak, frames * 4)
}

#[test]
fn a_compiler_takes_less_than_60_mib_beside_its_own() {
    let Some(gcc) = installed("/usr/bin/gcc") else { return };
    let output = Command::new(gcc).arg("-print-prog-name=cc1").output().expect("gcc runs");
    let compiler = String::from_utf8(output.stdout).expect("the name is text");
    let (input, json) = (fresh("source.c"), fresh("memory.json"));
    fs::write(&input, source()).expect("the name is ours");
    let compile = format!("{} -quiet -O2 {} -o /dev/null", compiler.trim(), input.display());
    let (ours, guest) = peaks(&compile, &json);
    assert!(guest > 30 << 10, "a compiler has {guest} KiB");
    let over = ours - guest;
    assert!(over < OVER_KIB_MAX, "{ours} KiB of the host, {guest} of them the guest's: {over}");
}
