//! More virtual memory than physical: programs whose memory does not fit in RAM end with the right
//! output, the same every time, and give every frame back.

mod common;

use common::{Guest, input, installed, lines};
use serde_json::Value;

/// The time of day at the start of every run.
const BOOT_TIME: [&str; 2] = ["--boot-time", "1700000000"];

/// A program that keeps 48 MiB, writes all of it three times over and checks every page.
const PYTHON: &str = "\
import hashlib
pages = [bytearray(4096) for _ in range(12000)]
for turn in range(3):
    for i, page in enumerate(pages):
        page[0:8] = (i * 3 + turn).to_bytes(8, 'little')
        page[4088:4096] = (i ^ turn).to_bytes(8, 'little')
    for i, page in enumerate(pages):
        assert int.from_bytes(page[0:8], 'little') == i * 3 + turn
        assert int.from_bytes(page[4088:4096], 'little') == i ^ turn
print(hashlib.sha256(b''.join(bytes(p[:8]) for p in pages)).hexdigest())";

fn pages(report: &Value, pointer: &str) -> u64 {
    report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("no {pointer}"))
}

#[test]
fn programs_larger_than_ram_are_right() {
    if installed("/usr/bin/python3").is_none() {
        return;
    }
    let guest = |ram: &str| {
        let machine = ["--ram", ram, "--swap", "256M"];
        Guest::new(["/usr/bin/python3", "-S", "-c", PYTHON])
            .options(machine.iter().chain(&BOOT_TIME))
    };
    let mut swapped = Vec::new();
    for ram in ["128M", "48M", "32M"] {
        let report = guest(ram).same();
        let (out, back) = (pages(&report, "/swap/out_pages"), pages(&report, "/swap/in_pages"));
        assert_eq!(out > 0, ram != "128M", "{ram}: {out} pages out");
        assert!(pages(&report, "/faults/major") <= back, "a fault brings one page or more");
        swapped.push(out);
    }
    assert!(swapped.is_sorted(), "less RAM, more swapping: {swapped:?}");
}

#[test]
fn swapping_is_the_same_every_time() {
    let text = input("swap.txt", || lines(150_000));
    let text = text.to_str().expect("our own names are text");
    let sort = |more: &[&str]| {
        let machine = ["--ram", "6M", "--swap", "128M", "--swap-device", "hdd"];
        let options = machine.iter().chain(&BOOT_TIME).chain(more);
        let guest = Guest::new(["/usr/bin/sort", "-r", "-S", "64M", text]).options(options);
        let report = guest.same();
        assert!(pages(&report, "/swap/in_pages") > 0, "nothing came back");
        report
    };
    let (first, second, reference) = (sort(&[]), sort(&[]), sort(&["--reference"]));
    assert_eq!(first, second);
    for key in ["tlb", "accesses", "faults", "swap", "reclaim", "virtual_ns", "log_hash"] {
        assert_eq!(first[key], reference[key], "{key} in reference mode");
    }
}

#[test]
fn processes_share_swapped_pages_after_a_fork() {
    if installed("/usr/bin/python3").is_none() {
        return;
    }
    let script = "\
import os
pages = [bytearray(b'%07d' % i * 500) for i in range(9000)]
children = []
for child in range(3):
    pid = os.fork()
    if pid == 0:
        ok = all(p[:7] == b'%07d' % i for i, p in enumerate(pages))
        for p in pages[child::3]: p[0] = 65 + child
        ok = ok and all(p[0] == 65 + child for p in pages[child::3])
        os._exit(0 if ok else 1)
    children.append(pid)
print([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children])
print(all(p[:7] == b'%07d' % i for i, p in enumerate(pages)))";
    let machine = ["--ram", "32M", "--swap", "512M"];
    let guest = Guest::new(["/usr/bin/python3", "-S", "-c", script]);
    let report = guest.options(machine.iter().chain(&BOOT_TIME)).same();
    assert!(pages(&report, "/swap/in_pages") > 0, "nothing came back");
}

#[test]
fn rss_4_a_page_in_swap_counts_half_for_each_of_two_processes() {
    if installed("/usr/bin/python3").is_none() {
        return;
    }
    let script = "\
import mmap, os
part = mmap.mmap(-1, 16 << 20, mmap.MAP_PRIVATE)
for at in range(0, len(part), 4096): part[at] = 1
more = mmap.mmap(-1, 24 << 20, mmap.MAP_PRIVATE)
for at in range(0, len(more), 4096): more[at] = 1
def sums():
    rows = [l.split() for l in open('/proc/self/smaps_rollup')]
    return [int(row[1]) for row in rows if row[0] in ('Swap:', 'SwapPss:')]
swap, share = sums()
print(swap > 4096, swap == share)
if os.fork() == 0:
    swap, share = sums()
    print(swap > 4096, share * 2 <= swap + 200 < share * 2 + 2000)
    os._exit(0)
os.wait()";
    let machine = ["--ram", "32M", "--swap", "64M"];
    let guest = Guest::new(["/usr/bin/python3", "-S", "-u", "-c", script]);
    let guest = guest.options(machine.iter().chain(&BOOT_TIME));
    assert_eq!(guest.inside().text(), "True True\nTrue True\n");
}
