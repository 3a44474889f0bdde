//! `/proc` and `/sys` as tools read them: formats are the host's, numbers are ours and agree with
//! each other and with the report.

mod common;

use std::collections::BTreeMap;

use common::{Build, Guest, build, installed};
use serde_json::Value;

/// Shell commands, inside.
fn shell(script: &str) -> String {
    let ran = Guest::new(["/bin/sh", "-c", script]).inside();
    assert_eq!(ran.code(), Some(0), "{script}: {ran:?}");
    ran.text()
}

/// The name that each line of a file begins with.
fn keys(text: &str) -> Vec<String> {
    let name = |line: &str| line.split([':', '\t']).next().unwrap_or("").trim().to_string();
    text.lines().map(name).collect()
}

/// The lines `NAME: NUMBER` of a file, numbers as they are.
fn numbers(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (name, rest) = line.split_once([':', ' '])?;
        let number = rest.split_whitespace().next()?.parse().ok()?;
        Some((name.trim().to_string(), number))
    };
    text.lines().filter_map(pair).collect()
}

/// Requires that the names which both have are in the same order, and that ours has `needed`.
#[track_caller]
fn same_order(command: &[&str], needed: &[&str]) {
    let guest = Guest::new(command);
    let (native, inside) = (guest.native(), guest.inside());
    let first_word = |text: &str| -> Vec<String> {
        keys(text).iter().map(|key| key.split(' ').next().unwrap_or("").to_string()).collect()
    };
    let (theirs, ours) = (first_word(&native.text()), first_word(&inside.text()));
    for name in needed {
        assert!(ours.iter().any(|own| own == name), "{command:?} has no {name}: {ours:?}");
    }
    let shared_ours: Vec<&String> = ours.iter().filter(|name| theirs.contains(name)).collect();
    let shared_theirs: Vec<&String> = theirs.iter().filter(|name| ours.contains(name)).collect();
    assert_eq!(shared_ours, shared_theirs, "{command:?}: ours is left");
}

#[test]
fn other_processes_and_threads_are_shown_as_on_the_host() {
    let Some(program) = build("proc/tasks.c", Build::Dynamic) else { return };
    Guest::new([program]).same();
}

#[test]
fn lines_of_files_stand_in_the_host_s_order() {
    let status = ["Name", "State", "FDSize", "VmPeak", "VmSwap", "Threads", "SigQ", "SigCgt"];
    same_order(&["/bin/cat", "/proc/self/status"], &status);
    let meminfo = ["MemTotal", "MemAvailable", "Cached", "Dirty", "Mapped", "Committed_AS"];
    same_order(&["/bin/cat", "/proc/meminfo"], &meminfo);
    same_order(&["/bin/cat", "/proc/vmstat"], &["nr_free_pages", "pgfault", "oom_kill"]);
    let smaps = ["-n", "26", "/proc/self/smaps"];
    let counts = ["Size", "Pss_Dirty", "Private_Hugetlb", "THPeligible", "VmFlags"];
    same_order(&[&["/usr/bin/head"][..], &smaps].concat(), &counts);
    same_order(&["/bin/cat", "/proc/self/smaps_rollup"], &["Pss_Anon", "Pss_Shmem", "Locked"]);
    same_order(&["/bin/cat", "/proc/self/io"], &["rchar", "wchar", "cancelled_write_bytes"]);
    same_order(&["/bin/cat", "/proc/stat"], &["cpu", "ctxt", "btime", "processes"]);
    same_order(&["/bin/cat", "/proc/self/fdinfo/1"], &["pos", "flags", "mnt_id"]);
    same_order(&["/bin/cat", "/proc/self/limits"], &["Limit", "Max"]);
}

#[test]
fn stat_has_52_fields_and_a_name_in_parentheses() {
    let text = shell("cat /proc/self/stat /proc/thread-self/stat /proc/self/statm");
    let lines: Vec<&str> = text.lines().collect();
    for line in &lines[..2] {
        assert_eq!(line.split(' ').count(), 52, "{line}");
        assert!(line.contains(" (cat) R "), "{line}");
    }
    assert_eq!(lines[2].split(' ').count(), 7, "{text}");
}

#[test]
fn the_memory_of_the_machine_adds_up() {
    let guest = Guest::new(["/bin/cat", "/proc/meminfo", "/proc/self/status"]);
    let (ran, report, _) = guest.options(["--ram", "256M"]).inside_with_json();
    let rows = numbers(&ran.text());
    let figure = |path: &str| report.pointer(path).and_then(serde_json::Value::as_u64);
    assert_eq!(figure("/memory/ram_bytes"), Some(256 << 20));
    assert_eq!(rows["MemTotal"], 256 << 10);
    let kernel = rows["Slab"] + rows["VmallocUsed"];
    let used = rows["AnonPages"] + rows["Cached"] + rows["PageTables"] + kernel;
    let rest = rows["MemTotal"] - rows["MemFree"] - used;
    // The page of zeros, and the kernel's tables: root, direct map, three for vmalloc.
    assert!(rest <= 28, "{rest} KiB are of the manager itself: {rows:?}");
    assert_eq!(rows["Slab"], rows["SReclaimable"] + rows["SUnreclaim"]);
    assert_eq!((rows["KernelStack"], rows["VmallocUsed"]), (16, 16), "one task");
    assert_eq!(rows["VmRSS"], rows["RssAnon"] + rows["RssFile"] + rows["RssShmem"]);
    let peak = figure("/memory/rss_peak_bytes").expect("it is reported") >> 10;
    assert!(rows["VmHWM"] <= peak && peak <= rows["VmHWM"] + 1024, "{peak} {rows:?}");
    let tables = figure("/memory/page_table_bytes").expect("it is reported") >> 10;
    assert!(rows["VmPTE"] <= tables && tables <= rows["VmPTE"] + 16, "{tables} {rows:?}");
}

/// Runs a script inside with a machine of its own; what it prints, and the report.
#[track_caller]
fn shell_and_report(options: &[&str], script: &str) -> (String, Value) {
    let (ran, report, _) =
        Guest::new(["/bin/sh", "-c", script]).options(options).inside_with_json();
    assert_eq!(ran.code(), Some(0), "{script}: {ran:?}");
    (ran.text(), report)
}

/// The columns of the line that begins with `name`, as numbers.
#[track_caller]
fn columns(text: &str, name: &str) -> Vec<u64> {
    let line = text.lines().find(|line| line.trim_start().starts_with(name));
    let line = line.unwrap_or_else(|| panic!("no {name}: {text}"));
    line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// `pmap -x`, `ps`, `top` and `/proc` about a process that holds memory, and the report about it.
#[test]
fn what_tools_say_of_a_process_is_what_the_report_says() {
    let Some(program) = build("proc/holder.c", Build::MuslStatic) else { return };
    if ["pmap", "ps", "top"].iter().any(|it| installed(&format!("/usr/bin/{it}")).is_none()) {
        return;
    }
    let script = format!(
        "{} 9 & sleep 1; pmap -x $! | tail -1; ps -o rss=PS,vsz=,min_flt=,maj_flt= -p $! | tail -1
         ps aux | grep '^[^ ]* *1001 '; top -b -n1 -p $! | tail -1
         cat /proc/$!/smaps_rollup; wait",
        program.display()
    );
    let (text, report) = shell_and_report(&[], &script);
    let list = report["processes"]["list"].as_array().expect("it is a list");
    let held = list.iter().find(|process| process["pid"] == 1001).expect("it was the first child");
    let at = |path: &str| held.pointer(path).and_then(Value::as_u64).expect(path);
    let kib = |path: &str| at(path) >> 10;
    let mut lines = text.lines();
    // total kB SIZE RSS DIRTY
    let [size, rss, dirty] = columns(lines.next().expect("pmap"), "total")[..] else {
        panic!("{text}")
    };
    assert_eq!(rss, kib("/rss_bytes"), "{text}");
    // The shared pages are dirty too: nobody else has them in his tables.
    assert_eq!(dirty, kib("/at_exit/anon_bytes") + kib("/at_exit/shmem_bytes"), "{text}");
    let [ps_rss, ps_size, minor, major] = columns(lines.next().expect("ps"), "")[..] else {
        panic!("{text}")
    };
    // [vsyscall] is no part of an address space for `ps`.
    assert_eq!((ps_rss, ps_size), (rss, size - 4), "{text}");
    assert_eq!((minor, major), (at("/faults/minor"), at("/faults/major")), "{text}");
    let aux: Vec<&str> = lines.next().expect("ps aux").split_whitespace().collect();
    assert_eq!((aux[1], aux[4], aux[5]), ("1001", &*ps_size.to_string(), &*rss.to_string()));
    // PID USER PR NI VIRT RES SHR ...
    let top: Vec<&str> = lines.next().expect("top").split_whitespace().collect();
    let shared = kib("/at_exit/file_bytes") + kib("/at_exit/shmem_bytes");
    assert_eq!((top[4], top[5]), (aux[4], aux[5]), "{text}");
    assert_eq!(top[6], shared.to_string(), "{text}");
    let sum = numbers(&text);
    assert_eq!((sum["Rss"], sum["Pss"]), (rss, kib("/pss_bytes")), "{text}");
    assert_eq!(sum["Private_Clean"] + sum["Private_Dirty"], kib("/private_bytes"), "{text}");
}

/// `free` and `vmstat` about the machine, and the report about it.
#[test]
fn what_tools_say_of_the_machine_is_what_the_report_says() {
    if ["free", "vmstat"].iter().any(|it| installed(&format!("/usr/bin/{it}")).is_none()) {
        return;
    }
    let Some(program) = build("proc/holder.c", Build::MuslStatic) else { return };
    let script = format!(
        "{} 9 & sleep 1; free -k; free -m; vmstat -s; vmstat | tail -1; wait",
        program.display()
    );
    let (text, report) = shell_and_report(&["--ram", "96M", "--swap", "32M"], &script);
    let at = |path: &str| report.pointer(path).and_then(Value::as_u64).expect(path);
    let [total, used, free, shared, cache, available] = columns(&text, "Mem:")[..] else {
        panic!("{text}")
    };
    assert_eq!(total, at("/memory/ram_bytes") >> 10);
    assert_eq!(total, at("/memory/frames_total") * 4);
    assert_eq!(columns(&text, "Swap:"), [32 << 10, 0, 32 << 10], "{text}");
    assert_eq!(at("/swap/total_pages") * 4, 32 << 10);
    // Two processes of a shell, the holder and the tool: less than the peak, but near it.
    let peak = at("/memory/frames_used_peak") * 4;
    assert!(total - free <= peak && peak < total - free + 2048, "{peak} {text}");
    assert!(shared == 60 * 4 && used == total - available, "{text}");
    let in_mib = text.lines().filter(|line| line.starts_with("Mem:")).nth(1).expect("free -m");
    assert_eq!(columns(in_mib, "Mem:")[0], 96, "{text}");
    let count = |name: &str| {
        let line = text.lines().find(|line| line.ends_with(name));
        let word = line.and_then(|line| line.split_whitespace().next());
        word.and_then(|word| word.parse::<u64>().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
    };
    assert_eq!((count("K total memory"), count("K total swap")), (total, 32 << 10));
    assert_eq!(count("pages swapped out"), at("/swap/out_pages"));
    assert_eq!(count("pages swapped in"), at("/swap/in_pages"));
    // The shell, the holder, sleep, twice free and vmstat; vmstat and tail come later.
    assert_eq!((count("forks"), at("/processes/count")), (6, 8), "{text}");
    let [.., swapped, idle, buffers, cached] =
        columns(text.lines().last().expect("vmstat"), "")[..6]
    else {
        panic!("{text}")
    };
    assert_eq!((swapped, buffers), (0, 0), "{text}");
    assert!(idle.abs_diff(free) < 1024 && cached.abs_diff(cache) < 1024, "{text}");
}

/// `map_files` and `numa_maps`.
#[test]
fn mappings_have_links_and_nodes() {
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        eprintln!("skipped: the host's kernel has no numa_maps");
        return;
    }
    if let Some(program) = build("proc/mappings.c", Build::MuslStatic) {
        Guest::new([program]).same();
    }
}

#[test]
fn calls_and_files_count_the_same() {
    let Some(python) = installed("/usr/bin/python3") else { return };
    let script = "import resource\n\
        usage = resource.getrusage(resource.RUSAGE_SELF)\n\
        stat = open('/proc/self/stat').read().rsplit(')')[-1].split()\n\
        status = open('/proc/self/status').read()\n\
        peak = int(status.split('VmHWM:')[1].split()[0])\n\
        print(0 <= int(stat[7]) - usage.ru_minflt < 64, 0 <= peak - usage.ru_maxrss < 4096)\n";
    let ran = Guest::new([python, "-S", "-c", script]).inside();
    assert_eq!(ran.text(), "True True\n", "{ran:?}");
}

/// Checklist 123: what a program without a library has in memory while it sleeps, and why.
#[test]
fn the_whole_address_space_of_a_program_that_only_sleeps() {
    let Some(program) = build("sleep_minimal.c", Build::Nolibc) else { return };
    let Some(pmap) = installed("/usr/bin/pmap") else { return };
    let program = program.to_str().expect("our own path is text");
    let text = shell(&format!(
        "{program} & {pmap} -x $!; cat /proc/$!/status /proc/$!/smaps_rollup; wait"
    ));
    let mut rows = Vec::new();
    for line in text.lines().skip(2).take_while(|line| !line.starts_with('-')) {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, kib, rss, dirty, rights, ..] = fields[..] else { panic!("{line}") };
        rows.push(format!("{} {kib} {rss} {dirty} {rights}", fields[5..].join(" ")));
    }
    let name = program.rsplit('/').next().expect("it has a name");
    let expected = [
        // The first page of the file has its headers: nobody reads it.
        format!("{name} 4 0 0 r----"),
        // Code: one page, brought by the first instruction.
        format!("{name} 4 4 0 r-x--"),
        // Constants: the time to sleep, which the kernel reads.
        format!("{name} 4 4 0 r----"),
        // Pages of the kernel that the program never touches.
        "[ anon ] 16 0 0 r----".to_string(),
        "[ anon ] 8 0 0 r----".to_string(),
        "[ anon ] 8 0 0 r-x--".to_string(),
        // 33 pages may grow; arguments, environment and vector lie on the last.
        "[ stack ] 132 4 4 rw---".to_string(),
        "[ anon ] 4 0 0 --x--".to_string(),
    ];
    assert_eq!(rows, expected, "{text}");
    let sum = numbers(&text);
    assert_eq!((sum["VmRSS"], sum["RssAnon"], sum["RssFile"]), (12, 4, 8), "{text}");
    assert_eq!(sum["Rss"], 12, "the roll-up agrees: {text}");
    assert_eq!(sum["VmData"], 0, "{text}");
}

/// The parts of a line that are not numbers.
fn words(line: &str) -> String {
    let words = line.split_whitespace().filter(|word| !word.starts_with(|c: char| c.is_numeric()));
    words.collect::<Vec<_>>().join(" ")
}

/// Requires that the lines `from..to` of what a tool prints have the words of the host's.
#[track_caller]
fn same_words(command: &[&str], lines: std::ops::Range<usize>) {
    if installed(command[0]).is_none() {
        return;
    }
    let guest = Guest::new(command);
    let (native, inside) = (guest.native(), guest.inside());
    assert_eq!(inside.code(), Some(0), "{inside:?}");
    let of = |text: &str| -> Vec<String> {
        text.lines().skip(lines.start).take(lines.len()).map(words).collect()
    };
    assert_eq!(of(&inside.text()), of(&native.text()), "{command:?}: ours is left\n{inside:?}");
}

#[test]
fn tools_print_what_they_print_on_the_host() {
    same_words(&["/usr/bin/free", "-m"], 0..3);
    same_words(&["/usr/bin/vmstat"], 0..2);
    same_words(&["/usr/bin/vmstat", "1", "2"], 0..2);
    same_words(&["/usr/bin/ps", "-o", "pid,ppid,stat,comm", "-C", "ps"], 0..1);
    same_words(&["/bin/sh", "-c", "pmap -x $$; true"], 1..2);
    same_words(&["/usr/bin/getconf", "PAGESIZE"], 0..1);
    same_words(&["/bin/busybox", "free"], 0..3);
}

#[test]
fn tools_see_the_processes_of_the_machine_and_no_others() {
    for tool in ["ps", "top", "pgrep", "pidof", "uptime", "w", "nproc", "lscpu"] {
        if installed(&format!("/usr/bin/{tool}")).is_none() {
            return;
        }
    }
    let text = shell("sleep 9 & ps -ef --forest; pgrep sleep; pidof sleep; kill $!");
    let processes = text.lines().filter(|line| line.contains(" 1000 ") || line.contains("  1 "));
    assert_eq!(processes.count(), 3, "{text}");
    assert!(text.contains("\\_ sleep 9") && text.ends_with("1001\n1001\n"), "{text}");
    let text = shell("top -b -n1; uptime; w; nproc; lscpu");
    assert!(text.contains("Tasks:   2 total,   1 running,   1 sleeping"), "{text}");
    assert!(text.contains("load average: 0.00, 0.00, 0.00"), "{text}");
    assert!(text.contains("\n1\nArchitecture:") && text.contains("L3 cache:"), "{text}");
}

#[test]
fn settings_are_kept_and_those_with_an_effect_have_it() {
    let text = shell(
        "echo 10 > /proc/sys/vm/swappiness; cat /proc/sys/vm/swappiness
         echo 2 > /proc/sys/vm/overcommit_memory; cat /proc/sys/vm/overcommit_memory
         echo 300 > /proc/sys/vm/swappiness 2>/dev/null || echo refused
         cat /usr/bin/od > /dev/null; before=$(grep ^Cached: /proc/meminfo | tr -cd 0-9)
         echo 3 > /proc/sys/vm/drop_caches
         after=$(grep ^Cached: /proc/meminfo | tr -cd 0-9)
         test $after -lt $before && echo less; grep drop_pagecache /proc/vmstat",
    );
    assert_eq!(text, "10\n2\nrefused\nless\ndrop_pagecache 1\n");
}

#[test]
fn nothing_of_the_host_shows() {
    let text = shell("cat /proc/version /proc/sys/kernel/hostname /proc/cmdline; ls /proc /sys");
    assert!(text.contains("faultline"), "{text}");
    for name in ["keys", "kmsg", "irq", "acpi", "scsi"] {
        assert!(!text.lines().any(|line| line == name), "{name}: {text}");
    }
}
