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

/// Eight sizes of RAM, from room for all to a quarter of it.
const RAM_SIZES: [&str; 8] = ["40M", "32M", "28M", "24M", "20M", "16M", "12M", "10M"];

/// What a program that fills 24 MiB and forks prints when nothing was lost.
const NOTHING_LOST: &str = "the child has 0 wrong words\nchild: 300; parent: 0 wrong words\n";

/// `programs/pressure/oom.c`, 24 MiB and one more in a child, with options.
fn filled(options: &[&str]) -> Option<Guest> {
    let program = build("pressure/oom.c", Build::GlibcStatic)?;
    let command = [program.to_str().expect("our own names are text"), "24", "1"];
    Some(Guest::new(command).options(options))
}

#[test]
fn swap_twice_as_much_memory_as_ram_is_right_at_every_size_and_all_is_given_back() {
    let mut swapped = Vec::new();
    for ram in RAM_SIZES {
        let Some(guest) = filled(&["--ram", ram, "--swap", "64M"]) else { return };
        let (ran, report, _) = guest.inside_with_json();
        assert_eq!((ran.text().as_str(), ran.code()), (NOTHING_LOST, Some(0)), "{ram}");
        for leaked in ["/memory/frames_leaked", "/swap/slots_leaked"] {
            assert_eq!(number(&report, leaked), 0, "{ram}: {leaked}");
        }
        swapped.push(number(&report, "/swap/out_pages"));
    }
    assert!(swapped.is_sorted() && swapped[0] == 0 && swapped[7] > 4000, "{swapped:?}");
}

#[test]
fn oom_without_swap_what_does_not_fit_is_killed_cleanly() {
    for ram in RAM_SIZES {
        let Some(guest) = filled(&["--ram", ram]) else { return };
        let (ran, report, _) = guest.inside_with_json();
        let has_room = ["40M", "32M", "28M"].contains(&ram);
        assert_eq!(ran.text(), if has_room { NOTHING_LOST } else { "" }, "{ram}");
        assert_eq!(ran.signal(), if has_room { None } else { Some(9) }, "{ram}");
        assert_eq!(number(&report, "/oom/count"), u64::from(!has_room), "{ram}");
        assert_eq!(number(&report, "/memory/frames_leaked"), 0, "{ram}");
    }
}

#[test]
fn swap_that_is_full_is_as_no_swap() {
    let Some(guest) = filled(&["--ram", "16M", "--swap", "4M"]) else { return };
    let (ran, report, _) = guest.inside_with_json();
    assert_eq!((ran.signal(), number(&report, "/oom/count")), (Some(9), 1));
    assert!(number(&report, "/oom/kills/0/swap_bytes") > 3 << 20, "{report:#}");
    for leaked in ["/memory/frames_leaked", "/swap/slots_leaked"] {
        assert_eq!(number(&report, leaked), 0, "{leaked}");
    }
}

#[test]
fn commit_2_never_promises_more_than_the_limit() {
    if installed("/usr/bin/python3").is_none() {
        return;
    }
    let script = "\
import mmap
def meminfo():
    return {l.split(':')[0]: int(l.split()[1]) for l in open('/proc/meminfo')}
def can(mib):
    try: return mmap.mmap(-1, mib << 20, mmap.MAP_PRIVATE) is not None
    except OSError as error: return error.strerror
before = meminfo()
print(before['CommitLimit'] // 1024, open('/proc/sys/vm/overcommit_memory').read().strip())
kept = mmap.mmap(-1, 20 << 20, mmap.MAP_PRIVATE)
print((meminfo()['Committed_AS'] - before['Committed_AS']) // 1024)
print(can(20), can(110), can(400))
open('/proc/sys/vm/overcommit_kbytes', 'w').write('40960')
print(meminfo()['CommitLimit'] // 1024, open('/proc/sys/vm/overcommit_ratio').read().strip())
open('/proc/sys/vm/overcommit_ratio', 'w').write('25')
if open('/proc/sys/vm/overcommit_memory').read().strip() == '2':
    print(meminfo()['CommitLimit'] // 1024, open('/proc/sys/vm/overcommit_kbytes').read().strip())";
    for (mode, says) in [
        ("never", "96 2\n20\nTrue Cannot allocate memory Cannot allocate memory\n72 0\n64 0\n"),
        ("heuristic", "96 0\n20\nTrue True Cannot allocate memory\n72 0\n"),
        ("always", "96 1\n20\nTrue True True\n72 0\n"),
    ] {
        let machine = ["--ram", "128M", "--swap", "32M", "--overcommit", mode];
        let guest = Guest::new(["/usr/bin/python3", "-S", "-c", script]).options(machine);
        assert_eq!(guest.inside().text(), says, "{mode}");
    }
}

#[test]
fn a_working_set_is_what_is_used_in_an_interval() {
    let Some(program) = build("pressure/stream.c", Build::GlibcStatic) else { return };
    let command = [program.to_str().expect("our own names are text"), "8", "4000", "r"];
    let run = |options: &[&str]| Guest::new(command).options(options).inside_with_json().1;
    let report = run(&["--working-set", "200us"]);
    let column = |report: &Value, name: &str| -> Vec<u64> {
        let column = report.pointer(&format!("/series/{name}")).and_then(Value::as_array);
        let column = column.unwrap_or_else(|| panic!("no {name}"));
        column.iter().map(|value| value.as_u64().expect("a number")).collect()
    };
    let used = column(&report, "used_pages");
    assert!(used.len() > 1, "{used:?}");
    // 8 MiB are 2,048 pages, and the program has a few of its own.
    assert!(used.iter().any(|count| (2048..2148).contains(count)), "{used:?}");
    // The start of the program is in one of them too.
    assert!(used.iter().all(|count| *count < 2400), "{used:?}");
    assert_eq!(report, run(&["--working-set", "200us"]), "the same every time");
    let plain = run(&[]);
    assert_eq!(plain.pointer("/series/used_pages"), Some(&Value::Null));
    let ram = column(&plain, "anon_bytes");
    assert!(ram.len() > 1 && ram.len() <= 65 && ram.last() >= Some(&(8 << 20)), "{ram:?}");
    for key in ["faults", "memory"] {
        assert_eq!(report[key], plain[key], "{key}");
    }
    let total = number(&plain, "/faults/total");
    assert!(column(&plain, "faults").iter().sum::<u64>() >= total, "{plain:#}");
}
