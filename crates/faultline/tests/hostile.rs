//! Programs that try to break out, to crash or to hang us.
//!
//! Where a program is harmless natively and what it prints depends on the architecture and Linux
//! alone, output and end must be the host's. Otherwise it must end in one of the ways named here.
//! None may make us fail: exit code 125 and a panic (101, SIGABRT) are always wrong.

mod common;

use std::path::PathBuf;

use common::{Build, Guest, Ran, build};

fn program(name: &str) -> Option<PathBuf> {
    build(&format!("hostile/{name}.c"), Build::MuslStatic)
}

#[track_caller]
fn no_failure_of_ours(ran: &Ran) {
    assert!(!matches!(ran.code(), Some(101 | 125..=127)), "a failure of ours: {ran:?}");
    assert_ne!(ran.signal(), Some(6), "an abort: {ran:?}");
    assert!(!ran.errors().contains("panicked"), "a panic: {ran:?}");
}

/// Requires the host's output and end.
#[track_caller]
fn same(name: &str, arguments: &[&str]) {
    let Some(program) = program(name) else { return };
    let command = std::iter::once(program.as_os_str()).chain(arguments.iter().map(AsRef::as_ref));
    let guest = Guest::new(command);
    let inside = guest.inside();
    no_failure_of_ours(&inside);
    common::assert_equal(&[name.into()], &guest.native(), &inside);
    let (again, report, _) = guest.inside_with_json();
    assert_eq!(inside, again);
    assert_eq!(report["memory"]["frames_leaked"], 0, "{report:#}");
}

/// Runs it inside only, on a small machine; it must end by itself or of a signal of its own.
fn survive(name: &str, arguments: &[&str]) -> Option<Ran> {
    let program = program(name)?;
    let command = std::iter::once(program.as_os_str()).chain(arguments.iter().map(AsRef::as_ref));
    let (ran, report, _) = Guest::new(command).options(["--ram", "192M"]).inside_with_json();
    no_failure_of_ours(&ran);
    assert_eq!(report["memory"]["frames_leaked"], 0, "{report:#}");
    Some(ran)
}

/// One test for each program whose output and end must be the host's.
macro_rules! same {
    ($($test:ident: $name:literal $($argument:literal)*;)*) => {
        $(
            #[test]
            fn $test() {
                same($name, &[$($argument),*]);
            }
        )*
    };
}

same! {
    alias_rights: "alias_rights";
    alignment_flag: "alignment_flag";
    bad_pointers: "bad_pointers";
    break_calls: "break_calls";
    call_flood: "call_flood";
    copy_on_write: "copy_on_write";
    descriptors_closed: "descriptors_closed";
    divide: "divide";
    exit_by_exit: "exit_codes" "exit" "300";
    exit_by_group: "exit_codes" "group" "-1";
    exit_of_abort: "exit_codes" "raise" "3";
    exit_of_kill: "exit_codes" "raise" "9";
    exit_of_real_time_signal: "exit_codes" "raise" "40";
    exit_of_segv: "exit_codes" "raise" "11";
    exit_of_term: "exit_codes" "raise" "15";
    exit_of_urg: "exit_codes" "raise" "23";
    exit_with_wide_code: "exit_codes" "wrong-exit";
    flags: "flags";
    float_traps: "float_traps";
    fsgsbase: "fsgsbase";
    huge_maps: "huge_maps";
    interrupts: "interrupts";
    locks_split_and_join: "locks" "shapes";
    many_maps: "many_maps";
    mapping_calls: "mapping_calls";
    masked: "masked";
    middle: "middle";
    misaligned: "misaligned";
    new_code: "new_code";
    odd_instructions: "odd_instructions";
    output_flood: "output_flood";
    paths: "paths";
    privileged: "privileged";
    rep_fault: "rep_fault";
    rseq_attack: "rseq_attack";
    segments: "segments";
    signal_calls: "signal_calls";
    signal_setup_altstack_readonly: "signal_setup" "altstack-readonly";
    signal_setup_altstack_unmapped: "signal_setup" "altstack-unmapped";
    signal_setup_blocked: "signal_setup" "blocked";
    signal_setup_handler_kernel: "signal_setup" "handler-kernel";
    signal_setup_handler_noncanonical: "signal_setup" "handler-noncanonical";
    signal_setup_handler_null_page: "signal_setup" "handler-null-page";
    signal_setup_ignored: "signal_setup" "ignored";
    signal_setup_nested_forever: "signal_setup" "nested-forever";
    signal_setup_nested_masked: "signal_setup" "nested-masked";
    signal_setup_nested_nodefer: "signal_setup" "nested-nodefer";
    signal_setup_restorer_wild: "signal_setup" "restorer-wild";
    signal_setup_rsp_noncanonical: "signal_setup" "rsp-noncanonical";
    signal_setup_rsp_wild: "signal_setup" "rsp-wild";
    signal_storm: "signal_storm";
    sigreturn_bare_edge: "sigreturn_bare" "edge";
    sigreturn_bare_kernel: "sigreturn_bare" "kernel";
    sigreturn_bare_noncanonical: "sigreturn_bare" "noncanonical";
    sigreturn_bare_null: "sigreturn_bare" "null";
    sigreturn_bare_ones: "sigreturn_bare" "ones";
    sigreturn_bare_stack: "sigreturn_bare" "stack";
    sigreturn_bare_zeros: "sigreturn_bare" "zeros";
    sigreturn_cs_data: "sigreturn_forged" "cs-data";
    sigreturn_cs_kernel: "sigreturn_forged" "cs-kernel";
    sigreturn_cs_zero: "sigreturn_forged" "cs-zero";
    sigreturn_flags_all: "sigreturn_forged" "flags-all";
    sigreturn_flags_trap: "sigreturn_forged" "flags-trap";
    sigreturn_fp_features: "sigreturn_forged" "fp-features";
    sigreturn_fp_misaligned: "sigreturn_forged" "fp-misaligned";
    sigreturn_fp_null: "sigreturn_forged" "fp-null";
    sigreturn_fp_size: "sigreturn_forged" "fp-size";
    sigreturn_fp_wild: "sigreturn_forged" "fp-wild";
    sigreturn_mask: "sigreturn_forged" "mask";
    sigreturn_mxcsr: "sigreturn_forged" "mxcsr";
    sigreturn_rip_kernel: "sigreturn_forged" "rip-kernel";
    sigreturn_rip_noncanonical: "sigreturn_forged" "rip-noncanonical";
    sigreturn_rip_null: "sigreturn_forged" "rip-null";
    sigreturn_rsp_wild: "sigreturn_forged" "rsp-wild";
    sigreturn_ss_wild: "sigreturn_forged" "ss-wild";
    sigreturn_stack: "sigreturn_forged" "stack";
    single_step: "single_step";
    smc: "smc";
    smc_alias: "smc_alias";
    smc_straddle: "smc_straddle";
    sparse: "sparse";
    stack_attack_die: "stack_attack" "die";
    stack_attack_gap: "stack_attack" "gap";
    stack_attack_jump: "stack_attack" "jump";
    stack_attack_limit: "stack_attack" "limit";
    stack_attack_recurse: "stack_attack" "recurse";
    stale_translation: "stale_translation";
    step_strings: "step_strings";
    long_code: "long_code";
    straddle: "straddle";
    truncated_code: "truncated_code";
    undefined: "undefined";
    vanishing_code: "vanishing_code";
    vectors: "vectors";
    watches_in_every_shape: "watches" "shapes";
    wild_access: "wild_access";
    wild_jump: "wild_jump";
    wrong_arguments: "wrong_arguments";
    xsave: "xsave";
}

#[test]
fn programs_that_depend_on_the_processor_or_the_kernel_end_by_themselves() {
    for name in [
        "alignment_check",
        "descriptors",
        "far_jump",
        "fsgsbase_instructions",
        "hidden_state",
        "other_entries",
        "sparse_huge",
        "vdso_attack",
    ] {
        let Some(ran) = survive(name, &[]) else { continue };
        assert_eq!(ran.code(), Some(0), "{name}: {ran:?}");
    }
}

#[test]
fn every_system_call_takes_garbage() {
    let Some(ran) = survive("syscall_garbage", &[]) else { return };
    assert_eq!(ran.text(), "survived\n", "{ran:?}");
}

#[test]
fn nothing_of_the_host_is_reached_through_proc_and_dev() {
    let Some(ran) = survive("proc_attack", &[]) else { return };
    assert_eq!(ran.code(), Some(0), "{ran:?}");
    let text = ran.text();
    // `/proc/kcore` is the kernel of the machine, which root may read: tests/kernel_space.rs.
    for path in [
        "/proc/1/mem",
        "/proc/1/environ",
        "/proc/1/root/etc/shadow",
        "/proc/self/root/proc/1/environ",
        "/proc/self/fd/5",
        "/proc/sysrq-trigger",
        "/sys/kernel/uevent_helper",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/kvm",
        "/dev/vda",
        "/dev/sda",
    ] {
        assert!(text.contains(&format!("{path}: refused\n")), "{path}\n{text}");
    }
}

#[test]
fn no_descriptor_of_ours_is_inherited() {
    let Some(ran) = survive("descriptors_inherited", &[]) else { return };
    assert_eq!(ran.text(), "open beyond 2: 0\n", "{ran:?}");
}

/// What the guest lets wait in our memory is bounded, and comes back.
#[test]
fn full_buffers_are_bounded() {
    let Some(ran) = survive("buffers", &[]) else { return };
    assert_eq!(
        ran.text(),
        "pipes: bounded, Out of memory\n\
         a pipe again: 65536\n\
         sockets 1: bounded, No buffer space available\n\
         sockets 2: bounded, No buffer space available\n\
         sockets 5: bounded, No buffer space available\n\
         messages: bounded, Out of memory\n\
         names: bounded, No space left on device\n\
         a file in memory: No space left on device\n\
         a file again: 1\n\
         one attribute set often\n"
    );
}

/// Interests of epolls take of the same memory.
#[test]
fn interests_of_epolls_are_bounded() {
    let Some(ran) = survive("watches", &["flood"]) else { return };
    let said = "one process: done\nanother: No space left on device\nafterwards: done\n\
                all gone: done, ready 1\n";
    assert_eq!(ran.text(), said, "{ran:?}");
}

/// And locks of files.
#[test]
fn locks_of_files_are_bounded() {
    let Some(ran) = survive("locks", &["flood"]) else { return };
    let said = "ranges: No locks available, bounded\na part off: done\nagain: done\n\
                joined: done\nsplit: done\nwhole: done\nas many again: 1\n\
                none for others: No locks available\n";
    assert_eq!(ran.text(), said, "{ran:?}");
}

/// Sockets in messages that nobody can read any more are given back, and floods have an end.
#[test]
fn passed_descriptors_leave_nothing_behind() {
    let Some(ran) = survive("passed", &[]) else { return };
    let text = ran.text();
    for round in 0..3 {
        let ends = text.matches(&format!("round {round}: 0\n")).count();
        assert_eq!(ends, 3, "{text}");
    }
    for said in ["circles: over\n", "tower: ", "flood: bounded\n"] {
        assert_eq!(text.matches(said).count(), 3, "{said}: {text}");
    }
    assert!(text.ends_with("sockets again: 400\n"), "{text}");
}

#[test]
fn a_fork_bomb_meets_its_limit() {
    let Some(ran) = survive("fork_bomb", &[]) else { return };
    assert_eq!(ran.text(), "refused\nall gone\n", "{ran:?}");
}

/// How a program about tasks may end: by itself with these words, or of a signal of its own.
enum End {
    Says(&'static str),
    Dies(i32),
    Exits(i32),
}

/// Runs a program about tasks twice, with few tasks allowed.
#[track_caller]
fn tasks_end(name: &str, modes: &[(&str, End)]) {
    let Some(program) = program(name) else { return };
    for (mode, end) in modes {
        let guest = Guest::new([program.as_os_str(), mode.as_ref()]).options([
            "--ram",
            "192M",
            "--max-procs",
            "100",
            "--max-threads",
            "100",
            "--boot-time",
            "1700000000",
        ]);
        let (ran, report, bytes) = guest.inside_with_json();
        no_failure_of_ours(&ran);
        match end {
            End::Says(words) => assert_eq!(ran.text(), format!("{words}\n"), "{mode}: {ran:?}"),
            End::Dies(signal) => assert_eq!(ran.signal(), Some(*signal), "{mode}: {ran:?}"),
            End::Exits(code) => assert_eq!(ran.code(), Some(*code), "{mode}: {ran:?}"),
        }
        assert_eq!(report["memory"]["frames_leaked"], 0, "{mode}: {report:#}");
        let (_, _, again) = guest.inside_with_json();
        assert!(bytes == again, "{mode} is not deterministic");
    }
}

#[test]
fn bombs_of_tasks_meet_their_limits() {
    tasks_end(
        "task_bombs",
        &[
            ("threads", End::Says("refused: 1")),
            ("chain", End::Exits(1)),
            ("zombies", End::Says("all reaped: 1")),
            ("silent", End::Says("left: 0")),
            ("orphans", End::Says("none left: 1")),
            ("vforks", End::Says("some: 1")),
            ("nested-vforks", End::Says("back")),
            ("execs", End::Says("all back")),
            ("forks-of-threads", End::Says("joined")),
            ("descriptors", End::Says("full: 1 0")),
        ],
    );
}

#[test]
fn signals_between_tasks_break_nothing() {
    tasks_end(
        "task_signals",
        &[
            ("storm", End::Says("handled: 1")),
            ("queue-flood", End::Says("bounded: 1")),
            ("states", End::Says("all killed")),
            ("faulting-handler", End::Dies(11)),
            ("overlapping", End::Says("handled")),
            ("forged", End::Dies(11)),
            ("alarms", End::Says("done")),
            ("absurd-timers", End::Says("bounded: 1")),
            ("fast-timers", End::Says("slept")),
            ("everybody", End::Says("gone: 10")),
            ("dying-threads", End::Says("joined")),
            ("stop-storm", End::Says("over")),
        ],
    );
}

#[test]
fn tasks_that_share_memory_break_only_themselves() {
    tasks_end(
        "task_memory",
        &[
            ("unmap-a-stack", End::Dies(11)),
            ("unmap-own-stack", End::Dies(11)),
            ("vfork-returns", End::Dies(11)),
            ("vfork-writes", End::Dies(11)),
            ("wild-clones", End::Says("over")),
            ("wild-stacks", End::Says("11111")),
            ("wild-clear-tid", End::Says("ended")),
            ("robust-lists", End::Says("ended")),
            ("exec-race", End::Exits(0)),
            ("exec-garbage", End::Says("joined")),
            ("race-for-rights", End::Says("over")),
            ("clone3-garbage", End::Says("over")),
            ("shared-memory", End::Says("over")),
        ],
    );
}

/// Nothing can wake anybody: the run ends by itself, and one line says who waits for what.
#[test]
fn a_deadlock_ends_with_a_statement() {
    let Some(program) = program("deadlock") else { return };
    for (how, told) in [
        ("mutexes", &["1000 ", " in futex waits for the futex at 0x", "; 1001 "][..]),
        ("owners", &[" that 1001 holds; 1001 ", " that 1000 holds"]),
        ("pipes", &["in wait4 waits for a child; 1001 ", "in read of descriptor 3 waits for"]),
        ("itself", &["in futex waits for the futex at 0x"]),
        ("parents", &["in wait4 waits for a child; 1001 ", "in pause waits for a signal"]),
        ("vfork", &["in vfork waits for its child 1001; 1001 "]),
        ("masked", &["in rt_sigsuspend waits for a signal"]),
        ("stopped", &["stopped by signal 19 waits for SIGCONT"]),
    ] {
        let guest = Guest::new([program.as_os_str(), how.as_ref()]);
        let (ran, report, _) = guest.inside_with_json();
        assert_eq!(ran.code(), Some(125), "{how}: {ran:?}");
        let line = ran.errors();
        assert!(
            line.starts_with("faultline: deadlock: nothing can wake any task: 1000 "),
            "{line}"
        );
        assert_eq!(line.lines().count(), 1, "{line}");
        assert!(told.iter().all(|told| line.contains(told)), "{how}: {line}");
        assert_eq!(report["memory"]["frames_leaked"], 0, "{report:#}");
    }
}

/// Out of RAM is the end of the program, by SIGKILL as Linux does it, not of us.
#[test]
fn memory_ends_with_a_report() {
    for name in ["memory_bomb", "table_bomb", "populate_bomb"] {
        let Some(program) = program(name) else { return };
        let guest = Guest::new([program]).options(["--ram", "64M"]);
        let (ran, report, _) = guest.inside_with_json();
        no_failure_of_ours(&ran);
        assert!(ran.signal() == Some(9) || ran.code().is_some_and(|code| code < 100), "{ran:?}");
        assert_eq!(report["memory"]["frames_leaked"], 0, "{report:#}");
        let text = guest.inside_with_text();
        assert!(text.errors().contains("MEMORY (KiB)"), "{text:?}");
    }
}

#[test]
fn names_cannot_command_the_terminal() {
    let Some(program) = program("exit_codes") else { return };
    let copy = common::fresh("odd \u{1b}[31m\nname\u{202e}");
    std::fs::copy(program, &copy).expect("the target can be written");
    let ran = Guest::new([copy]).inside_with_text();
    assert_eq!(ran.code(), Some(77), "{ran:?}");
    let text = ran.errors();
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text}");
    assert!(text.lines().count() <= 40, "{text}");
}
