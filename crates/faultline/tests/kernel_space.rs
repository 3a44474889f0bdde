//! The kernel's part of the address space as programs meet it.

mod common;

use std::collections::BTreeMap;

use common::{Build, Guest, build};

/// The direct map is there, in every process, and no user gets in.
#[test]
fn k64_1_a_user_who_touches_the_kernel_gets_the_code_of_the_host() {
    for kind in [Build::Dynamic, Build::GlibcStatic] {
        let Some(program) = build("kernel_addresses.c", kind) else { return };
        Guest::new([program]).same();
    }
}

/// K64-1: the direct map and the array of `struct page` are mapped where the map says, and hold
/// the bytes of pages and what is known of them.
#[test]
fn a_page_of_a_program_is_seen_by_the_kernels_addresses() {
    let Some(program) = build("kernel_memory.c", Build::Dynamic) else { return };
    let path = program.to_str().expect("a plain name");
    for (arguments, machine, firsts) in [
        (&[path][..], "x86-64", [0xffff_8880_0000_0000_u64, 0xffff_ea00_0000_0000]),
        (&[path, "57"][..], "x86-64-la57", [0xff11_0000_0000_0000, 0xffd4_0000_0000_0000]),
    ] {
        let options = ["--machine", machine, "--ram", "300M"];
        let text = Guest::new(arguments.iter().copied()).options(options).inside().text();
        let [direct, array] = firsts.map(|first| format!("{first:#x}"));
        for line in [
            "ELF type 4 machine 62 segments 3",
            &format!("{direct} + 0x12c00000 physical 0"),
            &format!("{array} + 0x600000 physical 0xffffffffffffffff"),
            "direct map: seen from the other side",
            "alone: uptodate 1 lru 1 swapbacked 1 mapped 1 (proc says 1) references 1",
            "shared: uptodate 1 lru 1 swapbacked 1 mapped 2 (proc says 2) references 2",
            "beyond the array: 0",
            "a hole: 8 bytes of 0",
            "the end: 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}

/// The array lies above RAM, of which it takes nothing.
#[test]
fn iomem_shows_the_array_of_pages_above_ram() {
    let script = "cat /proc/iomem; head -1 /proc/meminfo";
    let guest = Guest::new(["/bin/sh", "-c", script]);
    let text = guest.options(["--ram", "255M"]).inside().text();
    for line in ["00000000-0fefffff : System RAM", "10000000-103fffff : Reserved"] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    assert!(text.contains("MemTotal:         261120 kB"), "{text}");
}

#[test]
fn meminfo_tells_of_the_pages_of_the_direct_map() {
    let kib = |ram: &str, label: &str| {
        let text =
            Guest::new(["/bin/cat", "/proc/meminfo"]).options(["--ram", ram]).inside().text();
        let line = text.lines().find(|line| line.starts_with(label)).expect("the line is there");
        let number = line.split_whitespace().nth(1).expect("a number");
        number.parse::<u64>().expect("a number")
    };
    assert_eq!(kib("4G", "DirectMap1G"), 4 << 20);
    assert_eq!(kib("4G", "DirectMap4k"), 0);
    assert_eq!(kib("100M", "DirectMap2M"), 100 << 10);
    assert_eq!(kib("65M", "DirectMap4k"), 1 << 10);
}

/// The rows of `/proc/slabinfo`, by name: objects in use, objects, bytes, frames of all slabs.
fn slabs(text: &str) -> BTreeMap<String, [u64; 4]> {
    let is_row = |line: &&str| line.contains(" : slabdata ") && !line.starts_with('#');
    let rows = text.lines().filter(is_row);
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| words[at].parse::<u64>().expect("a number");
        let frames = number(5) * number(14);
        (words[0].to_owned(), [number(1), number(2), number(3), frames])
    };
    rows.map(row).collect()
}

/// PROC-12: what is counted is there: each task, map, file and process has its object, and all
/// slabs together are the frames that meminfo tells of.
#[test]
fn slabinfo_counts_the_objects_that_there_are() {
    let script = "cat /proc/slabinfo; sleep 9 & sleep 9 & exec 7</dev/null 8</dev/null; \
        echo; cat /proc/slabinfo /proc/meminfo; kill %1 %2; wait; echo; cat /proc/slabinfo";
    let text = Guest::new(["/bin/sh", "-c", script]).inside().text();
    let parts: Vec<&str> = text.split("\n\n").collect();
    let [before, during, after] = parts[..] else { panic!("{text}") };
    let (first, busy, last) = (slabs(before), slabs(during), slabs(after));
    let more = |name: &str| busy[name][0] - first[name][0];
    for name in ["task_struct", "mm_struct", "signal_cache", "sighand_cache", "pid", "fs_cache"] {
        assert_eq!(
            (first[name][0], more(name)),
            (2, 2),
            "{name}: the shell and cat, two that sleep"
        );
        assert_eq!(last[name][0], 2, "{name}: given back");
    }
    // The shell opens two files, and /dev/null for each that sleeps.
    assert_eq!((more("files_cache"), more("filp")), (2, 4), "{busy:?}");
    assert!(more("vm_area_struct") > 20, "{busy:?}");
    for (name, [used, room, bytes, frames]) in &busy {
        assert!(used <= room && room * bytes <= frames * 4096, "{name}");
    }
    let kib = |label: &str| {
        let line = during.lines().find(|line| line.starts_with(label)).expect("the line is there");
        line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok()).expect("a number")
    };
    let frames: u64 = busy.values().map(|row| row[3]).sum();
    assert_eq!(frames * 4, kib("Slab:"), "{during}");
    assert_eq!((kib("KernelStack:"), kib("VmallocUsed:")), (64, 64), "four tasks");
}

/// `pipe_inode_info` and 16 `pipe_buffer`s.
#[test]
fn a_pipe_takes_two_objects_of_kmalloc_while_it_is_there() {
    let script = "cat /proc/slabinfo; echo; cat /proc/slabinfo | cat; echo; cat /proc/slabinfo";
    let text = Guest::new(["/bin/sh", "-c", script]).inside().text();
    let used = |part: &str, name: &str| slabs(part)[name][0];
    for name in ["kmalloc-192", "kmalloc-1k"] {
        let counts: Vec<u64> = text.split("\n\n").map(|part| used(part, name)).collect();
        assert_eq!(counts, [0, 1, 0], "{name}: {text}");
    }
}

/// VMALLOC-1: each task has a stack of four pages with a guard page behind, as on the host.
#[test]
fn vmallocinfo_shows_a_stack_for_each_task() {
    let script = "sleep 9 & cat /proc/vmallocinfo; kill %1; wait; echo; cat /proc/vmallocinfo";
    let text = Guest::new(["/bin/sh", "-c", script]).inside().text();
    let (busy, last) = text.split_once("\n\n").expect("an empty line");
    let stack = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let ends: Vec<u64> = words[0]
            .split('-')
            .map(|addr| u64::from_str_radix(&addr[2..], 16).expect("hexadecimal"))
            .collect();
        assert_eq!(words[1..], ["20480", "kernel_clone", "pages=4", "vmalloc", "N0=4"]);
        assert_eq!((ends[1] - ends[0], ends[0] % 16_384), (20_480, 0), "{line}");
        ends[0]
    };
    let stacks: Vec<u64> = busy.lines().map(stack).collect();
    assert_eq!(stacks.len(), 3, "{busy}");
    assert!(stacks.is_sorted() && stacks[0] == 0xffff_c900_0000_0000, "{busy}");
    assert_eq!(last.lines().map(stack).count(), 2, "{last}");
}

/// All objects and stacks come back: from a thousand forks, from fifty processes that `exec`, and
/// from those of threads.
#[test]
fn the_kernels_memory_comes_back() {
    let mut scripts = vec![
        "i=0; while [ $i -lt 1000 ]; do (:); i=$((i+1)); done; \
         i=0; while [ $i -lt 50 ]; do /bin/true; i=$((i+1)); done; cat /proc/slabinfo"
            .to_owned(),
    ];
    if let Some(program) = build("proc/tasks.c", Build::Dynamic) {
        scripts.push(format!("{} >/dev/null && cat /proc/slabinfo", program.display()));
    }
    for script in scripts {
        let guest = Guest::new(["/bin/sh", "-c", &script]).options(["--ram", "64M"]);
        let (ran, report, _) = guest.inside_with_json();
        assert_eq!(ran.code(), Some(0), "{script}: {ran:?}");
        assert_eq!(report["memory"]["frames_leaked"], 0, "{script}");
        let rows = slabs(&ran.text());
        for name in ["task_struct", "mm_struct", "signal_cache", "sighand_cache", "pid"] {
            assert_eq!(rows[name][0], 2, "{name}: the shell and cat are left of {script}");
        }
    }
}

/// Slabs and stacks never leave RAM: where they take all of it somebody is killed, and then they
/// come back too.
#[test]
fn the_kernels_memory_comes_back_where_there_was_too_little() {
    let script = "i=0; while [ $i -lt 300 ]; do sleep 100 & i=$((i+1)); done 2>/dev/null";
    let guest = Guest::new(["/bin/sh", "-c", script]).options(["--ram", "3M"]);
    let (ran, report, _) = guest.inside_with_json();
    assert_eq!(ran.signal(), Some(9), "the shell is killed at last: {ran:?}");
    assert!(report["oom"]["count"].as_u64() > Some(0), "{}", report["oom"]);
    assert_eq!(report["memory"]["frames_leaked"], 0, "{ran:?}");
}
