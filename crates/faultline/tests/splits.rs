//! Kernels of 32 bits with each split: what programs get, what the kernel keeps, and that
//! `explain` says the same of the same machine.

mod common;

use std::fs;
use std::process::Command;

use common::{Build, Guest, Ran, build, fresh};
use serde_json::Value;

/// Machine and `CONFIG_PAGE_OFFSET`: with PAE the split is at a multiple of 1 GiB.
const SPLITS: [(&str, u64); 8] = [
    ("i386", 0xc000_0000),
    ("i386", 0xb000_0000),
    ("i386", 0x8000_0000),
    ("i386", 0x7800_0000),
    ("i386", 0x4000_0000),
    ("i386-pae", 0xc000_0000),
    ("i386-pae", 0x8000_0000),
    ("i386-pae", 0x4000_0000),
];

/// The options of a machine.
fn machine(name: &str, page_offset: u64) -> [String; 4] {
    ["--machine", name, "--page-offset", &format!("{page_offset:#x}")].map(str::to_owned)
}

fn explain(arguments: &[String]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    let output = command.arg("explain").args(arguments).output().expect("our own program runs");
    Ran { status: output.status, stdout: output.stdout, stderr: output.stderr }
}

/// What a program prints of the end of its addresses.
fn expected(machine: &str, end: u64) -> String {
    let fetch = if machine == "i386" { 5 } else { 21 };
    let faults =
        [(end, 5), (end, 7), (end, fetch), (end, 5), (end + 0x10_0000, 5), (0xffff_ffff, 5)]
            .map(|(addr, code)| format!("signal 11 code 1 addr {addr:x} trap 14 error {code}\n"))
            .concat();
    let last = end - 1;
    format!(
        "vdso 8002000 below the end\nlast byte 0\n{faults}\
         write(null, kernel - 4, 4): done\nwrite(null, kernel - 4, 5): EFAULT\n\
         write(null, kernel, 1): EFAULT\nwrite(null, kernel, 0): done\n\
         write(null, kernel + 1, 0): EFAULT\nread(null, kernel, 1): EFAULT\n\
         mincore(kernel - PAGE, PAGE, (void *)answer): done\n\
         mincore(kernel - PAGE, 2 * PAGE, (void *)answer): ENOMEM\n\
         mincore(kernel, PAGE, (void *)answer): ENOMEM\n\
         mmap(kernel, PAGE, 3, ANONYMOUS | MAP_FIXED, -1, 0): ENOMEM\n\
         mmap(kernel - PAGE, 2 * PAGE, 3, ANONYMOUS | MAP_FIXED, -1, 0): ENOMEM\n\
         mmap(kernel - PAGE, PAGE, 3, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0): EEXIST\n\
         mmap(0, end, 0, ANONYMOUS, -1, 0): ENOMEM\n\
         mmap(0, end + PAGE, 0, ANONYMOUS, -1, 0): ENOMEM\n\
         munmap(kernel, PAGE): EINVAL\nmprotect(kernel, PAGE, 1): ENOMEM\n\
         madvise(kernel, PAGE, MADV_DONTNEED): ENOMEM\nmsync(kernel, PAGE, MS_SYNC): ENOMEM\n\
         mremap(data, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, kernel): EINVAL\n\
         mremap(data, PAGE, end, MREMAP_MAYMOVE): ENOMEM\n\
         brk(kernel): ENOMEM\nbrk(kernel - PAGE): ENOMEM\nthen ENOMEM\n\
         hole of 10000 bytes, elsewhere\nhole of 100000 bytes, below the stack\n\
         last byte {last:x}, room for 0 more\n"
    )
}

/// I386-1, AS-1, AS-3: the stack ends where the kernel begins, the mmap area 128 MiB below; every
/// page up to there can be had, none behind; the U/S bit keeps users out of all that is there.
/// The same program tells natively of the end that a 64-bit kernel gives it.
#[test]
fn i386_1_the_addresses_of_programs_end_at_page_offset() {
    let Some(program) = build("i386/split.c", Build::I386Static) else { return };
    Guest::new([program.as_os_str(), "ffffe000".as_ref()]).same();
    for (name, end) in SPLITS {
        let command = [program.as_os_str().to_owned(), format!("{end:x}").into()];
        let ran = Guest::new(command).options(machine(name, end)).inside();
        assert_eq!(ran.text(), expected(name, end), "{name} {end:#x}: {ran:?}");
    }
}

#[test]
fn programs_of_every_split_print_what_they_print_natively() {
    for (sources, how) in [
        (["hello.c", "i386/malloc.c", "fork_copies.c"].as_slice(), Build::I386Static),
        (&["processes/pthreads.c", "tasks/fork.c", "mm/brk.c", "mm/protect.c"], Build::I386Dynamic),
    ] {
        for source in sources {
            let Some(program) = build(source, how) else { return };
            for (name, end) in SPLITS {
                Guest::new([&program]).options(machine(name, end)).same();
            }
        }
    }
}

/// I386-2: lowmem ends where the map has no more room, in `/proc` as `explain` has it for one CPU;
/// the next frame is the first of highmem.
#[test]
fn i386_2_proc_tells_the_lowmem_that_explain_computes() {
    let Some(program) = build("i386/split.c", Build::I386Static) else { return };
    for (name, end) in SPLITS {
        for ram in ["512M", "1G", "2G", "4G"] {
            let options = [machine(name, end).as_slice(), &["--ram".into(), ram.into()]].concat();
            let command = [program.as_os_str(), "0".as_ref(), "tell".as_ref()];
            let text = Guest::new(command).options(&options).inside().text();
            let numbers = |label: &str| -> Vec<u64> {
                let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(label));
                let number = |rest: &str| rest.split_whitespace().next().map(str::parse);
                lines.filter_map(number).collect::<Result<_, _>>().expect("numbers")
            };
            let map = ["--map", "--json", "--cpus", "1"].map(str::to_owned);
            let shown = explain(&[map.as_slice(), &options].concat());
            let map: Value = serde_json::from_slice(&shown.stdout).expect("it is JSON");
            let memory = |key: &str| map["memory"][key].as_u64().expect("a number");
            let (low, high) = (memory("lowmem_bytes"), memory("highmem_bytes"));
            let told = |label: &str| numbers(label).first().map(|kib| kib << 10);
            assert_eq!(told("LowTotal:"), Some(low), "{options:?}: {text}");
            assert_eq!(told("HighTotal:"), Some(high), "{options:?}: {text}");
            assert_eq!(told("VmallocTotal:"), Some(memory("vmalloc_bytes")), "{options:?}");
            let zones: Vec<u64> = [4096, low >> 12, high >> 12].into();
            let normal = zones[1] - 4096;
            let managed: &[u64] = &[4096, normal, zones[2]];
            let starts: &[u64] = &[0, 4096, zones[1]];
            let count = if high > 0 { 3 } else { 2 };
            assert_eq!(numbers("managed"), managed[..count], "{options:?}: {text}");
            assert_eq!(numbers("start_pfn:"), starts[..count], "{options:?}: {text}");
        }
    }
}

/// One file describes the machine to both commands, and the trace of the run is read with it.
#[test]
fn explain_finds_the_stack_of_a_run_below_the_split() {
    let Some(program) = build("hello.c", Build::I386Static) else { return };
    let (file, trace) = (fresh("split.toml"), fresh("split.trace"));
    let text = "geometry = \"i386\"\npage_offset = 0x78000000\nram = \"1G\"\n";
    fs::write(&file, text).expect("the directory is ours");
    let file = file.to_str().expect("our own names are text").to_owned();
    let trace = trace.to_str().expect("our own names are text").to_owned();
    let options = ["--machine", &file, "--trace", &trace];
    assert_eq!(Guest::new([program]).options(options).inside().code(), Some(0));
    let look = |addr: &str| {
        let asked = [addr, "--machine", &file, "--trace", &trace, "--json"].map(str::to_owned);
        let ran = explain(&asked);
        let view: Value = serde_json::from_slice(&ran.stdout).unwrap_or_else(|_| panic!("{ran:?}"));
        view
    };
    let stack = look("0x77ffffff");
    assert_eq!(stack["kind"], "user virtual", "{stack}");
    assert_eq!(stack["history"]["range"]["last"], "0x77ffffff", "{stack}");
    let kernel = look("0x78000001");
    assert_eq!(kernel["kind"], "kernel logical (direct map)", "{kernel}");
    assert_eq!((&kernel["physical"], &kernel["history"]["range"]), (&"0x1".into(), &Value::Null));
}

/// Memory above lowmem is used as any other, and comes back, wherever it begins.
#[test]
fn i386_4_highmem_of_other_splits_is_used_and_comes_back() {
    let Some(program) = build("patterns.c", Build::I386Static) else { return };
    for (name, end, ram, bytes) in [
        ("i386", 0x8000_0000, "2G", 0x5000_0000_u64),
        ("i386-pae", 0x8000_0000, "4G", 0x4000_0000),
        ("i386", 0x4000_0000, "3200M", 0x2c00_0000),
    ] {
        let size = format!("{bytes:#x}");
        let command = [program.as_os_str(), "anon".as_ref(), size.as_ref()];
        let options = [machine(name, end).as_slice(), &["--ram".into(), ram.into()]].concat();
        let (ran, report, _) = Guest::new(command).options(options).mute().inside_with_json();
        assert_eq!(ran.code(), Some(0), "{name} {end:#x}: {ran:?}");
        assert_eq!(report["memory"]["frames_leaked"], 0, "{name} {end:#x}");
        let faults = report["faults"]["minor"].as_u64();
        assert!(faults.is_some_and(|count| count > bytes >> 12), "{faults:?}");
    }
}
