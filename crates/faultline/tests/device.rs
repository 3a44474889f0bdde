//! The test device: its memory in programs and in the kernel, its copies by physical address, and
//! how often instructions go to memory.

mod common;

use std::fs;

use common::{Build, Guest, build, fresh};
use serde_json::Value;

/// What `programs/device/memory.c` prints: what Linux says of mappings by `remap_pfn_range`, whose
/// driver has no `fault`, `fsync` or `access`.
const MEMORY: &str = "\
faults: 0
read: device
loaded: kernel
at the end: 3 of 8 read
behind it: 0
a write behind it: No space left on device
/dev/testmem
Rss:                   0 kB
VmFlags: rd wr sh mr mw me ms pf io de dd 
begins at 0
after fork: child
mapped anew: child
a load: 0 faults
a store: 1, Device and device
a futex of all in the copy: done
in the page behind it: Bad address
begins at the frame: 1
/dev/testmem
Rss:                   0 kB
VmFlags: rd wr mr mw me pf io de ac dd 
DONTNEED: Invalid argument
FREE: Invalid argument
COLD: Invalid argument
PAGEOUT: Invalid argument
DOFORK: Invalid argument
DODUMP: Invalid argument
POPULATE_READ: Invalid argument
WILLNEED: done
RANDOM: done
DONTFORK: done
mlock: done
msync: Invalid argument
mincore: done
in core: 0 0
growing: Bad address
as a debugger: Input/output error
a futex of all: Bad address
a private one: done
moving: moved
rights back: again
beyond the end: Invalid argument
far beyond: Invalid argument
far beyond, in a place that is taken: File exists
more than fits: Cannot allocate memory
where it is, for a reader: done
a copy by a reader: Permission denied
stores through a reader: Permission denied
stores beyond the end: Permission denied
";

/// What `programs/device/dma.c` prints.
const DMA: &str = "\
above RAM: 1
from RAM: done
code of the device: 1, then 2
to RAM: done
in RAM: by physical address
inside the device: done
in the device: by physical address
nothing: done
a foreign frame: Invalid argument
into a foreign frame: Invalid argument
beyond the buffer: Invalid argument
beyond the device: Invalid argument
around the end: Invalid argument
too much: Invalid argument
no structure: 1
no such request: 1
still: by physical address
";

/// Machines with the device, and how programs for them are built.
const MACHINES: [(&str, Build); 5] = [
    ("x86-64", Build::Dynamic),
    ("x86-64-la57", Build::GlibcStatic),
    ("x86-64", Build::I386Static),
    ("i386", Build::I386Static),
    ("i386-pae", Build::I386Static),
];

/// Runs a program on a machine with 1 GiB of RAM, of which an i386 kernel has highmem, and a device
/// of 16 pages; what it printed, and the report.
fn run(machine: &str, source: &str, kind: Build, more: &[&str]) -> Option<(String, Value)> {
    let program = build(source, kind)?;
    let options = ["--machine", machine, "--ram", "1G", "--device-memory", "64K"];
    let guest = Guest::new([program]).options(options).options(more);
    let (ran, report, _) = guest.inside_with_json();
    assert_eq!(ran.code(), Some(0), "{machine} {kind:?}: {ran:?}");
    assert_eq!(report["memory"]["frames_leaked"], 0, "{machine} {kind:?}");
    Some((ran.text(), report))
}

#[test]
fn programs_use_memory_of_a_device_like_ram_and_calls_keep_off_it() {
    for (machine, kind) in MACHINES {
        let Some((text, _)) = run(machine, "device/memory.c", kind, &[]) else { continue };
        assert_eq!(text, MEMORY, "{machine} {kind:?}");
    }
}

#[test]
fn a_device_copies_by_physical_address_and_reaches_only_what_is_its_own() {
    for (machine, kind) in MACHINES {
        let trace = fresh("dma.trace");
        let name = trace.to_str().expect("our own names are text");
        let more = ["--trace", name];
        let Some((text, report)) = run(machine, "device/dma.c", kind, &more) else { continue };
        assert_eq!(text, DMA, "{machine} {kind:?}");
        let trace = fs::read_to_string(&trace).expect("it was written");
        let copies: Vec<&str> = trace.lines().filter(|line| line.contains(" dma ")).collect();
        // Those that were refused are no events. RAM ends at 1 GiB, where the device begins.
        assert_eq!(copies.len(), 4, "{copies:#?}");
        assert!(copies[0].ends_with(" to=0x40000000 bytes=0x6"), "{copies:#?}");
        assert!(copies[2].ends_with(" dma from=0x40000064 to=0x400000c8 bytes=0x20"));
        let reference = report["log_hash"].clone();
        let again = run(machine, "device/dma.c", kind, &["--reference"]);
        let again = again.map(|(_, report)| report["log_hash"].clone());
        assert_eq!(again, Some(reference), "{machine} {kind:?}: the model alone says the same");
    }
}

/// What `/proc/kcore` has where the area of a line of `vmallocinfo` begins, while the device's
/// memory begins with a text.
fn kcore_at(line: &str) -> String {
    let start = line.split('-').next().and_then(|text| text.strip_prefix("0x"));
    let start = u64::from_str_radix(start.expect("an address"), 16).expect("an address");
    // A page of headers, and the bits of the address below its sign.
    let at = 4096 + (start & ((1 << 47) - 1));
    let script = format!(
        "echo hardware >/dev/testmem; \
         dd if=/proc/kcore iflag=skip_bytes skip={at} bs=8 count=1 status=none | od -An -tx1"
    );
    let guest = Guest::new(["/bin/sh", "-c", &script]);
    guest.options(["--ram", "64M", "--device-memory", "1M"]).inside().text().trim().to_owned()
}

/// The kernel's view: above RAM, mapped uncached behind the stack of the first task.
#[test]
fn the_kernel_tells_where_the_memory_of_the_device_is() {
    let script = "cat /proc/iomem /proc/vmallocinfo /proc/misc; ls -l /dev/testmem; \
        echo hardware >/dev/testmem; head -c 8 /dev/testmem; grep -c MemTotal /proc/meminfo";
    let guest = Guest::new(["/bin/sh", "-c", script]).options(["--ram", "64M"]);
    let with = guest.clone().options(["--device-memory", "1M"]).inside();
    let text = with.text();
    let is_root = text.contains("00000000-03ffffff : System RAM\n");
    let place = if is_root { "04000000-040fffff" } else { "00000000-00000000" };
    assert!(text.contains(&format!("{place} : testmem\n")), "{with:?}");
    let line = text.lines().find(|line| line.contains("testmem_probe"));
    if let Some(line) = line {
        assert_eq!(kcore_at(line), "00 00 00 00 00 00 00 00", "/proc/kcore reads no device");
        assert!(line.ends_with(" 1052672 testmem_probe phys=0x0000000004000000 ioremap"), "{line}");
    }
    assert_eq!(line.is_some(), is_root, "{with:?}");
    assert!(text.contains("127 testmem\n") && text.contains(" 10, 127 "), "{with:?}");
    assert!(text.ends_with("hardware1\n"), "{with:?}");
    let without = guest.inside();
    assert!(!without.text().contains("testmem ") && !without.text().contains(": testmem"));
}

/// A machine without the device has the log that it would have if there were none to ask for.
#[test]
fn counts_of_ram_do_not_know_the_device() {
    let total = |options: &[&str]| {
        let guest = Guest::new(["/bin/grep", "MemTotal", "/proc/meminfo"]);
        guest.options(["--ram", "64M"]).options(options).inside().text()
    };
    assert_eq!(total(&[]), total(&["--device-memory", "32M"]));
}

/// As a mount over `/dev` of Linux does.
#[test]
fn a_bind_over_dev_hides_the_device() {
    let directory = fresh("dev");
    fs::create_dir_all(&directory).expect("the target can be written");
    let file = directory.join("bound");
    fs::write(&file, "bound").expect("it is ours");
    for (host, seen) in [(&directory, "a directory"), (&file, "a file")] {
        let bind = format!("{}:/dev:rw", host.display());
        let script = "ls -d /testmem /dev/testmem; [ -f /dev/bound ] && echo a directory; \
            [ -f /dev ] && echo a file; grep testmem /proc/misc";
        let guest = Guest::new(["/bin/sh", "-c", script]);
        let ran = guest.options(["--device-memory", "64K", "--bind", &bind]).inside();
        assert_eq!(ran.text(), format!("{seen}\n127 testmem\n"), "{ran:?}");
    }
}

/// PROC-12: the node of the device is one of those that are there from the start.
#[test]
fn no_program_has_entered_the_node_of_the_device() {
    let used = |options: &[&str]| {
        let guest = Guest::new(["/bin/cat", "/proc/slabinfo"]).options(["--ram", "64M"]);
        let text = guest.options(options).inside().text();
        ["dentry", "inode_cache", "proc_dir_entry"].map(|name| {
            let row = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            let count = row.and_then(|row| row.split_whitespace().next()?.parse::<u64>().ok());
            count.unwrap_or_else(|| panic!("{name}: {text}"))
        })
    };
    let [dentry, inode, planted] = used(&[]);
    assert_eq!(used(&["--device-memory", "64K"]), [dentry, inode, planted + 1]);
}

/// Checklist 23: an operand in memory is one access, which is a store; a load and a store are two.
#[test]
fn an_operand_in_memory_is_one_access_where_load_and_store_are_two() {
    for kind in [Build::Dynamic, Build::I386Static] {
        let Some(program) = build("device/operands.c", kind) else { continue };
        let name = program.to_str().expect("our own names are text");
        let accesses = |how: &str, count: &str| {
            let (ran, report, _) = Guest::new([name, how, count]).inside_with_json();
            assert_eq!(ran.code(), Some(0), "{ran:?}");
            let number = |what: &str| report["accesses"][what].as_u64().expect("a number");
            (number("read"), number("write"))
        };
        for (how, loads) in [("cisc", 0), ("risc", 10_000)] {
            let (less, more) = (accesses(how, "10000"), accesses(how, "20000"));
            assert_eq!((more.0 - less.0, more.1 - less.1), (loads, 10_000), "{how} {kind:?}");
        }
    }
}
