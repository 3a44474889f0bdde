//! Too little memory: who is killed, what is said of it, and what the others notice.

mod common;

use common::{Build, Guest, build, installed};
use serde_json::Value;

/// `programs/pressure/oom.c` with its arguments in a machine with 32 MiB.
fn oom(arguments: &[&str]) -> Option<Guest> {
    let program = build("pressure/oom.c", Build::GlibcStatic)?;
    let command = [program.to_str().expect("our own names are text")];
    Some(Guest::new(command.iter().chain(arguments)).options(["--ram", "32M"]))
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer}"))
}

fn log(report: &Value) -> Vec<String> {
    let lines = report.pointer("/oom/kills/0/log").and_then(Value::as_array).expect("a log");
    lines.iter().map(|line| line.as_str().expect("a text").to_owned()).collect()
}

#[test]
fn oom_1_the_largest_process_is_killed_and_the_others_go_on() {
    // The child has more than the parent; or less, but the parent is spared.
    for arguments in [&["8", "40"][..], &["18", "40", "-1000"]] {
        let Some(guest) = oom(arguments) else { return };
        let (ran, report, _) = guest.inside_with_json();
        assert_eq!(ran.text(), "child: 9; parent: 0 wrong words\n", "{arguments:?}");
        assert_eq!((ran.code(), number(&report, "/oom/count")), (Some(0), 1));
        assert_eq!(number(&report, "/oom/kills/0/pid"), 1001);
        assert_eq!(number(&report, "/memory/frames_leaked"), 0);
        let killed = log(&report).pop().expect("a verdict");
        assert!(killed.starts_with("Out of memory: Killed process 1001 ("), "{killed}");
        assert!(killed.ends_with("oom_score_adj:0"), "{killed}");
    }
}

#[test]
fn oom_3_a_killed_parent_ends_the_run_as_sigkill_does() {
    let Some(guest) = oom(&["40", "1"]) else { return };
    let (ran, report, _) = guest.inside_with_json();
    assert_eq!((ran.signal(), ran.text().as_str()), (Some(9), ""));
    assert_eq!(report.pointer("/exit/reason"), Some(&Value::from("out_of_memory")));
    assert_eq!(number(&report, "/memory/frames_leaked"), 0);
    let text = guest.inside_with_text().errors();
    for words in ["OUT OF MEMORY at ", "Killed process 1000 (", "ran out of 32 MiB of RAM"] {
        assert!(text.contains(words), "{words} in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.lines().count() <= 56, "{text}");
}

#[test]
fn oom_1_when_nobody_may_be_killed_the_run_ends() {
    let Some(guest) = oom(&["40", "1", "-1000"]) else { return };
    let (ran, report, _) = guest.inside_with_json();
    assert_eq!(ran.signal(), Some(9));
    assert_eq!(number(&report, "/oom/kills/0/pid"), 0);
    assert!(log(&report).iter().any(|line| line.contains("no killable processes")));
    assert_eq!(number(&report, "/memory/frames_leaked"), 0);
}

#[test]
fn flt_13_a_system_call_that_needs_a_frame_has_another_process_killed() {
    if installed("/usr/bin/python3").is_none() {
        return;
    }
    // The parent reads into fresh memory while the child, which sleeps, holds the most.
    let script = "\
import mmap, os, time
r, w = os.pipe()
if os.fork() == 0:
    parts = [mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE) for _ in range(28)]
    for part in parts:
        for at in range(0, 1 << 20, 4096): part[at] = 1
    os.write(w, b'x')
    time.sleep(1000)
os.read(r, 1)
zero = open('/dev/zero', 'rb', buffering=0)
parts = [mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE) for _ in range(24)]
print(sum(zero.readinto(part) for part in parts))
print(os.wait()[1], open('/proc/self/oom_score').read().strip().isdigit())
print([l for l in open('/proc/vmstat') if l.startswith('oom_kill ')])";
    let guest = Guest::new(["/usr/bin/python3", "-S", "-c", script]).options(["--ram", "48M"]);
    let (ran, report, _) = guest.inside_with_json();
    assert_eq!(ran.text(), "25165824\n9 True\n['oom_kill 1\\n']\n", "{ran:?}");
    assert_eq!(number(&report, "/oom/count"), 1);
}
