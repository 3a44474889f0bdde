use super::*;
use crate::report::processes::{CopyFigures, ForkFigures, ProcessesFigures, SwitchFigures};
use crate::report::{
    AccessFigures, ExitFigures, FaultFigures, MachineFigures, MemoryFigures, OomFigures,
    ReclaimFigures, RssFigures, SeriesFigures, SwapFigures, SyscallFigures, TlbFigures,
    UnimplementedFigures, WalkFigures, json,
};

/// Every line of blocks, as long as it gets.
fn long_series() -> SeriesFigures {
    let many = vec![999_999_999_999_999; 1000];
    SeriesFigures {
        anon_bytes: many.clone(),
        file_bytes: many.clone(),
        shmem_bytes: many.clone(),
        swapped_in_pages: many.clone(),
        used_pages: Some(many),
        ..SeriesFigures::default()
    }
}

/// A report with every number as large as a run of weeks can make it, and every list long.
fn largest() -> Report {
    let most = 999_999_999_999_999;
    let rss = RssFigures { anon_bytes: 1 << 46, file_bytes: 1 << 46, shmem_bytes: 1 << 46 };
    let level = LevelFigures { hits: most, misses: most, misses_per_million: 1_000_000 };
    let vma = VmaFigures {
        start: "0x7fffffffe000".into(),
        end: "0x7ffffffff000".into(),
        size_bytes: 1 << 47,
        perms: "rwxp".into(),
        name: "/a/path\n\u{1b}[31m/that/never/ends".repeat(50),
        rss_bytes: 1 << 46,
        faults: 1 << 36,
    };
    let call = UnimplementedFigures { number: 461, name: "remap_file_pages", count: most };
    Report {
        schema: "faultline.report/1",
        program: "/x".repeat(2000),
        args: vec![],
        machine: MachineFigures {
            geometry: "x86-64",
            tlb: "off",
            policy: "lru",
            seed: 0,
            boot_seconds: None,
            page_offset: None,
            device_bytes: 0,
        },
        exit: ExitFigures { code: None, signal: Some(64), reason: ExitReason::Signal },
        deadlock: None,
        instructions: Some(most),
        accesses: AccessFigures { read: most, write: most, fetch: most },
        faults: many_faults(),
        memory: MemoryFigures {
            ram_bytes: most,
            rss_bytes: most,
            rss_peak_bytes: most,
            at_exit: rss,
            at_peak: rss,
            page_table_bytes: most,
            page_table_peak_bytes: most,
            frames_total: most,
            frames_used_peak: most,
            frames_free_at_exit: most,
            frames_leaked: 1,
            pages_lost: 12_345,
        },
        kmap: None,
        swap: SwapFigures::default(),
        reclaim: ReclaimFigures::default(),
        oom: OomFigures { count: 0, kills: vec![] },
        series: long_series(),
        tlb: Some(TlbFigures { l1d: level, l1i: level, l2: level }),
        walks: WalkFigures { count: most, memory_reads: most, dirty_only: 0 },
        vmas: vec![vma; 300],
        processes: no_processes(),
        syscalls: SyscallFigures { count: most, unimplemented: vec![call; 40] },
        virtual_ns: 0,
        log_events: 0,
        log_hash: String::new(),
    }
}

fn many_faults() -> FaultFigures {
    FaultFigures {
        minor: 999_999_999_999_999,
        major: 999_999_999_999_999,
        total: 1 << 40,
        by_kind: KindFigures {
            zero: 1 << 40,
            file: 1 << 40,
            cow: 1 << 40,
            reuse: 1 << 40,
            swap_in: 1 << 40,
            mk_write: 1 << 40,
            stack: 1 << 40,
            spurious: 1 << 40,
            denied: 1 << 40,
        },
    }
}

/// The figures of a run of one process.
fn no_processes() -> ProcessesFigures {
    ProcessesFigures {
        count: 1,
        rss_peak_bytes_max: 9_961_472,
        forks: ForkFigures::default(),
        copies: CopyFigures::default(),
        fork_cost_bytes: 0,
        switches: SwitchFigures::default(),
        list: vec![],
    }
}

/// The largest report, of very many processes.
fn largest_of_many() -> Report {
    let mut report = largest();
    let most = 999_999_999;
    let forks = ForkFigures { count: most, shared_bytes: most, table_bytes: most };
    let copies = CopyFigures { as_parent: most, as_child: most, bytes: most };
    let process = ProcessFigures {
        pid: 4_194_303,
        parent: 4_194_303,
        program: "/x\u{1b}[31m".repeat(2000),
        exit: None,
        execs: most,
        threads: most,
        faults: report.faults.clone(),
        rss_peak_bytes: most << 10,
        rss_bytes: most << 10,
        at_exit: report.memory.at_exit,
        pss_bytes: most << 10,
        shared_bytes: most << 10,
        private_bytes: most << 10,
        page_table_bytes: most,
        forks,
        copies,
        cpu_ns: most,
        switches_voluntary: most / 2,
        switches_forced: most / 2,
    };
    report.processes = ProcessesFigures {
        count: 1_000_000,
        rss_peak_bytes_max: most,
        forks,
        copies,
        fork_cost_bytes: most,
        switches: SwitchFigures { tasks: most, spaces: most, ..SwitchFigures::default() },
        list: vec![process; 1000],
    };
    report
}

#[test]
fn the_largest_report_of_many_processes_fits_42_lines_of_100_columns() {
    let text = render(&largest_of_many());
    assert!(text.lines().count() <= 42, "{} lines\n{text}", text.lines().count());
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn the_largest_report_fits_40_lines_of_100_columns() {
    let text = render(&largest());
    assert!(text.lines().count() <= 40, "{} lines\n{text}", text.lines().count());
    for line in text.lines() {
        assert!(line.chars().count() <= 100, "{} columns: {line}", line.chars().count());
        assert!(!line.chars().any(char::is_control), "{line:?}");
    }
}

#[test]
fn the_first_line_is_the_verdict() {
    let mut report = largest();
    report.program = "/usr/bin/true".into();
    report.exit = ExitFigures { code: Some(3), signal: None, reason: ExitReason::Exited };
    report.faults.total = 1042;
    report.faults.by_kind = KindFigures { zero: 750, file: 250, ..zero_kinds() };
    let text = render(&report);
    assert_eq!(
        text.lines().next(),
        Some(
            "faultline: /usr/bin/true exited with 3; peak RSS 9.5 MiB, 1,042 faults, \
             75 % for zeroed memory"
        )
    );
}

fn zero_kinds() -> KindFigures {
    KindFigures {
        zero: 0,
        file: 0,
        cow: 0,
        reuse: 0,
        swap_in: 0,
        mk_write: 0,
        stack: 0,
        spurious: 0,
        denied: 0,
    }
}

#[test]
fn endings_have_names() {
    let mut report = largest();
    let mut ending_of = |code, signal, reason| {
        report.exit = ExitFigures { code, signal, reason };
        ending(&report)
    };
    assert_eq!(ending_of(None, Some(11), ExitReason::Signal), "died of SIGSEGV");
    assert_eq!(ending_of(None, Some(64), ExitReason::Signal), "died of signal 64");
    assert_eq!(ending_of(Some(0), None, ExitReason::Exited), "exited with 0");
    let stuck = ExitReason::Stuck { syscall: 34 };
    assert_eq!(ending_of(None, None, stuck), "waits forever in system call 34");
}

#[test]
fn numbers_are_grouped_by_three() {
    assert_eq!(grouped(0), "0");
    assert_eq!(grouped(999), "999");
    assert_eq!(grouped(1000), "1,000");
    assert_eq!(grouped(u64::MAX), "18,446,744,073,709,551,615");
    assert_eq!(narrow(9_999_999), "9,999,999");
    assert_eq!(narrow(12_345_678), "12,345k");
    assert_eq!(narrow(u64::MAX), "18,446P");
}

#[test]
fn sizes_and_shares_have_few_figures() {
    assert_eq!(short_bytes(0), "0 bytes");
    assert_eq!(short_bytes(4096), "4 KiB");
    assert_eq!(short_bytes(1536 * 1024), "1.5 MiB");
    assert_eq!(short_bytes(4 << 30), "4 GiB");
    assert_eq!(percent(0), "0.0000 %");
    assert_eq!(percent(12_345), "1.2345 %");
    assert_eq!(percent(1_000_000), "100.0000 %");
}

#[test]
fn long_names_keep_their_end() {
    assert_eq!(shorten("/usr/lib/x86_64-linux-gnu/libc.so.6", 20), "/usr/l...u/libc.so.6");
    assert_eq!(shorten("short", 20), "short");
    assert_eq!(shorten("a\u{202e}b", 20), "a?b");
}

#[test]
fn the_json_has_the_keys_that_users_rely_on() {
    let value: serde_json::Value =
        serde_json::from_str(&json::render(&largest())).expect("it is JSON");
    for path in [
        "/schema",
        "/exit/code",
        "/exit/signal",
        "/instructions",
        "/accesses/read",
        "/accesses/write",
        "/accesses/fetch",
        "/faults/minor",
        "/faults/major",
        "/faults/total",
        "/faults/by_kind/zero",
        "/faults/by_kind/file",
        "/faults/by_kind/cow",
        "/faults/by_kind/reuse",
        "/faults/by_kind/swap_in",
        "/faults/by_kind/mk_write",
        "/faults/by_kind/stack",
        "/faults/by_kind/spurious",
        "/faults/by_kind/denied",
        "/memory/ram_bytes",
        "/memory/rss_bytes",
        "/memory/rss_peak_bytes",
        "/memory/page_table_bytes",
        "/memory/page_table_peak_bytes",
        "/memory/frames_total",
        "/memory/frames_free_at_exit",
        "/memory/frames_leaked",
        "/swap/in_pages",
        "/swap/out_pages",
        "/reclaim/scanned",
        "/reclaim/reclaimed",
        "/tlb/l1d/hits",
        "/tlb/l1d/misses",
        "/tlb/l1i/hits",
        "/tlb/l1i/misses",
        "/tlb/l2/hits",
        "/tlb/l2/misses",
        "/walks/count",
        "/walks/memory_reads",
        "/vmas/0/start",
        "/vmas/0/end",
        "/vmas/0/perms",
        "/vmas/0/name",
        "/vmas/0/rss_bytes",
        "/vmas/0/faults",
        "/syscalls/count",
        "/syscalls/unimplemented/0/name",
        "/log_hash",
    ] {
        assert!(value.pointer(path).is_some(), "{path}");
    }
}
