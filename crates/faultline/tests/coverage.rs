//! `docs/coverage/syscalls.toml` tells the truth: it has every system call of x86-64 once, and says
//! ENOSYS of exactly those that the kernel's table does not have.

use std::collections::BTreeMap;
use std::path::Path;

use kernel::syscall::{handler, names};
use serde_json::Value;

/// More than any number that Linux has given to a call.
const NUMBERS: u32 = 1024;

/// The lines of the file by number.
fn coverage() -> BTreeMap<u32, Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/coverage/syscalls.toml");
    let text = std::fs::read_to_string(path).expect("the file is there");
    let lines: BTreeMap<String, Value> = toml::from_str(&text).expect("it is TOML");
    let number = |key: String| key.parse().unwrap_or_else(|_| panic!("{key} is no number"));
    lines.into_iter().map(|(key, line)| (number(key), line)).collect()
}

#[test]
fn every_call_of_linux_has_its_line() {
    let coverage = coverage();
    for number in 0..NUMBERS {
        let name = names::name(number);
        let line = coverage.get(&number).map(|line| line["name"].as_str());
        let expected = (name != "?").then_some(Some(name));
        assert_eq!(line, expected, "left: the file, right: the kernel; number {number}");
    }
    assert!(coverage.keys().all(|number| *number < NUMBERS));
}

#[test]
fn what_is_implemented_is_what_the_kernel_has() {
    let mut wrong = Vec::new();
    for (number, line) in coverage() {
        let is_partial_with_reason = line["status"] == "partial"
            && line["missing"].as_str().is_some_and(|it| !it.is_empty());
        let is_right = match handler(number.into()).is_some() {
            true => line["status"] == "works" || is_partial_with_reason,
            false => line["status"] == "ENOSYS",
        };
        if !is_right {
            wrong.push(format!("{number} {line}"));
        }
    }
    assert!(wrong.is_empty(), "docs/coverage/syscalls.toml is not true:\n{}", wrong.join("\n"));
}

#[test]
fn the_kernel_has_no_call_without_a_name() {
    for number in (0..NUMBERS).filter(|number| handler((*number).into()).is_some()) {
        assert_ne!(names::name(number), "?", "{number}");
    }
}
