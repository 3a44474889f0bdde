//! Limits on memory and swap areas that programs start: policies, groups, `swapon`.

mod common;

use common::{Build, Guest, build, installed};
use serde_json::Value;

/// What `programs/pressure/oom.c` prints when nothing was lost.
const NOTHING_LOST: &str = "the child has 0 wrong words\nchild: 300; parent: 0 wrong words\n";

/// Fills `mib` MiB, forks, and fills one more.
fn filled(mib: &str, options: &[&str]) -> Option<Guest> {
    let program = build("pressure/oom.c", Build::GlibcStatic)?;
    let command = [program.to_str().expect("our own names are text"), mib, "1"];
    Some(Guest::new(command).options(options))
}

fn number(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer}"))
}

fn policies() -> Vec<String> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_faultline"));
    let output = command.args(["policy", "list", "--names"]).output().expect("it starts");
    let names = String::from_utf8(output.stdout).expect("names are text");
    names.lines().map(str::to_owned).collect()
}

#[test]
fn every_policy_is_right_at_every_size_of_ram() {
    let names = policies();
    assert!(names.len() >= 5 && names[0] == "two-list", "{names:?}");
    let sizes = ["24M", "20M", "16M", "13M", "11M", "9M", "7M", "6M"];
    for policy in &names {
        for ram in sizes {
            let options = ["--policy", policy, "--ram", ram, "--swap", "48M"];
            let Some(guest) = filled("14", &options) else { return };
            let (ran, report, _) = guest.inside_with_json();
            assert_eq!((ran.text().as_str(), ran.code()), (NOTHING_LOST, Some(0)), "{options:?}");
            for leaked in ["/memory/frames_leaked", "/swap/slots_leaked"] {
                assert_eq!(number(&report, leaked), 0, "{options:?}: {leaked}");
            }
            assert_eq!(report.pointer("/machine/policy"), Some(&Value::from(policy.as_str())));
        }
    }
}

#[test]
fn an_unknown_policy_is_told_what_there_is() {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_faultline"));
    let output = command.args(["run", "--policy", "best", "true"]).output().expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.lines().count()), (Some(125), 1), "{said}");
    for name in policies() {
        assert!(said.contains(&name), "{name} in {said}");
    }
}

#[test]
fn a_limit_is_kept_with_swap_and_kills_without() {
    let Some(guest) = filled("24", &["--ram", "64M", "--limit", "12M", "--swap", "64M"]) else {
        return;
    };
    let (ran, report, _) = guest.inside_with_json();
    assert_eq!((ran.text().as_str(), ran.code()), (NOTHING_LOST, Some(0)));
    // The zero page, the kernel's tables, its slabs and the stack of the task are nobody's.
    let peak = number(&report, "/memory/frames_used_peak");
    assert!(peak <= (12 << 8) + 80, "{peak} frames: {report:#}");
    assert!(number(&report, "/swap/out_pages") > 3000);
    let killed = filled("24", &["--ram", "64M", "--limit", "12M"]).expect("it was built");
    let (ran, report, _) = killed.inside_with_json();
    assert_eq!(ran.signal(), Some(9));
    let log = report.pointer("/oom/kills/0/log").and_then(Value::as_array).expect("a log");
    let last = log.last().and_then(Value::as_str).expect("a verdict");
    assert!(last.starts_with("Memory cgroup out of memory: Killed process 1000"), "{last}");
    let lines = log.iter().filter_map(Value::as_str);
    assert!(lines.into_iter().any(|line| line.contains("limit 12288kB")), "{log:?}");
    assert_eq!(number(&report, "/memory/frames_leaked"), 0);
}

#[test]
fn above_the_high_mark_programs_are_slowed_down() {
    let run = |more: &[&str]| {
        let options = ["--ram", "64M", "--swap", "64M"].iter().chain(more).copied();
        let guest = filled("24", &options.collect::<Vec<_>>())?;
        let (ran, report, _) = guest.inside_with_json();
        assert_eq!(ran.text(), NOTHING_LOST, "{more:?}");
        Some(report)
    };
    let (Some(free), Some(slow)) = (run(&[]), run(&["--limit-high", "12M"])) else { return };
    assert_eq!(number(&free, "/swap/out_pages"), 0);
    assert!(number(&slow, "/swap/out_pages") > 0, "{slow:#}");
    assert!(number(&slow, "/virtual_ns") > 2 * number(&free, "/virtual_ns"));
}

#[test]
fn the_group_is_shown_and_set_below_sys() {
    if installed("/usr/bin/python3").is_none() {
        return;
    }
    let script = "\
import mmap
def read(name): return open('/sys/fs/cgroup/memory.' + name).read().strip()
print(read('max'), read('high'))
current = int(read('current'))
kept = mmap.mmap(-1, 4 << 20, mmap.MAP_PRIVATE)
for at in range(0, 4 << 20, 4096): kept[at] = 1
grown = int(read('current')) - current
print(4 << 20 <= grown < 5 << 20, int(read('peak')) >= current + grown)
anon = dict(l.split() for l in open('/sys/fs/cgroup/memory.stat'))['anon']
print(int(anon) >= 4 << 20, 'oom_kill 0' in read('events'))
with open('/sys/fs/cgroup/memory.max', 'w') as file: file.write('48M')
with open('/sys/fs/cgroup/memory.high', 'w') as file: file.write('max')
print(read('max'), read('high'), open('/proc/self/cgroup').read().strip())
try:
    with open('/sys/fs/cgroup/memory.max', 'w') as file: file.write('much')
except OSError as error: print(error.strerror)";
    let options = ["--ram", "64M", "--limit", "40M", "--limit-high", "32M"];
    let guest = Guest::new(["/usr/bin/python3", "-S", "-c", script]).options(options);
    let expected = "41943040 33554432\nTrue True\nTrue True\n50331648 max 0::/\nInvalid argument\n";
    assert_eq!(guest.inside().text(), expected);
}

#[test]
fn programs_start_and_end_swap_areas() {
    if installed("/usr/bin/python3").is_none() {
        return;
    }
    let script = "\
import ctypes, mmap, os, struct
libc = ctypes.CDLL(None, use_errno=True)
def call(number, *args):
    return 0 if libc.syscall(number, *args) == 0 else os.strerror(ctypes.get_errno())
path = b'/tmp/swap-area'
with open(path, 'wb') as file:
    for _ in range(8192): file.write(bytes(4096))
print(call(167, path, 0))
with open(path, 'r+b') as file:
    file.seek(1024); file.write(struct.pack('<III', 1, 8191, 0))
    file.seek(4086); file.write(b'SWAPSPACE2')
print(call(167, path, 0x8000 | 5), call(167, path, 0))
print(call(167, b'/tmp/none', 0), call(167, path, 1 << 20))
print([l.split() for l in open('/proc/swaps')][1:])
parts = [mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE) for _ in range(30)]
for number, part in enumerate(parts):
    for at in range(0, 1 << 20, 4096): part[at] = (number + at // 4096) % 251
info = lambda: {l.split(':')[0]: int(l.split()[1]) for l in open('/proc/meminfo')}
used = info()['SwapTotal'] - info()['SwapFree']
print(info()['SwapTotal'], used > 0)
print([l for l in open('/proc/self/status') if l.startswith('VmSwap')][0].split()[1] != '0')
print(call(168, b'/tmp'), call(168, path))
del parts[8:]
print(call(168, path), info()['SwapTotal'], call(168, path))
print(sum(part[at] != (number + at // 4096) % 251
    for number, part in enumerate(parts) for at in range(0, 1 << 20, 4096)))";
    let guest = Guest::new(["/usr/bin/python3", "-S", "-c", script]).options(["--ram", "32M"]);
    let text = guest.inside().text();
    if text.starts_with("Operation not permitted\n") {
        // Only root starts swap areas.
        return;
    }
    let expected = "\
Invalid argument
0 Device or resource busy
No such file or directory Invalid argument
[['/tmp/swap-area', 'file', '32764', '0', '5']]
32764 True
True
Invalid argument Cannot allocate memory
0 0 Invalid argument
0
";
    assert_eq!(text, expected);
}

#[test]
fn free_and_vmstat_show_the_cache_given_up_and_coming_back() {
    for tool in ["/usr/bin/free", "/usr/bin/vmstat", "/usr/bin/python3"] {
        if installed(tool).is_none() {
            return;
        }
    }
    // Reads a file into the cache, fills memory until it is given up, reads it again.
    let script = "\
import mmap, subprocess
def cached():
    rows = subprocess.run(['/usr/bin/free', '-k', '-w'], capture_output=True, text=True).stdout
    return int(rows.splitlines()[1].split()[6])
def vmstat(name):
    return {l.split()[0]: int(l.split()[1]) for l in open('/proc/vmstat')}[name]
def touch():
    file = open('/usr/bin/python3', 'rb')
    mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ)
    return sum(mapped[at] for at in range(0, 4 << 20, 4096)) >= 0
touch()
before = cached()
parts = []
while vmstat('pgsteal_file') < 500:
    parts.append(mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE))
    for at in range(0, 1 << 20, 4096): parts[-1][at] = 1
during = cached()
del parts
touch()
after = cached()
print(during < before, after > during, vmstat('workingset_refault_file') > 0)
rows = subprocess.run(['/usr/bin/vmstat', '1', '2'], capture_output=True, text=True).stdout
print(len(rows.splitlines()), vmstat('pgscan_kswapd') + vmstat('pgscan_direct') > 0)";
    let guest = Guest::new(["/usr/bin/python3", "-S", "-c", script]).options(["--ram", "48M"]);
    assert_eq!(guest.inside().text(), "True True True\n4 True\n");
}
