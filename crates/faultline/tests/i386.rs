//! i386 programs: what they print, how they end and how often they fault is as on the host, which
//! has a 64-bit kernel; and on kernels of 32 bits, where there is no host to ask, what they must
//! print by the manuals.

mod common;

use common::{Build, Guest, build};

/// The machines with a kernel of 32 bits.
const KERNELS_OF_32_BITS: [&str; 2] = ["i386", "i386-pae"];

/// Runs a program both ways; nothing if the host cannot build it.
#[track_caller]
fn same(source: &str, how: Build) {
    if let Some(program) = build(source, how) {
        Guest::new([program]).same();
    }
}

#[test]
fn hello_in_every_form() {
    let forms = [Build::I386Dynamic, Build::I386Static, Build::I386StaticPie, Build::I386NoPie];
    for form in forms {
        same("hello.c", form);
    }
    same("i386/nolibc.c", Build::I386Nolibc);
}

/// AS-1 to AS-4 and ELF-10 for programs of 32 bits.
#[test]
fn the_address_space_is_that_of_a_64_bit_kernel() {
    same("i386/layout.c", Build::I386Dynamic);
    same("i386/layout.c", Build::I386Static);
    same("i386/layout.c", Build::I386StaticPie);
}

#[test]
fn signals_and_forged_frames() {
    same("i386/signals.c", Build::I386Dynamic);
    same("processes/handlers.c", Build::I386Static);
    same("processes/restart.c", Build::I386Dynamic);
}

#[test]
fn descriptors_of_threads_and_the_vsyscall() {
    same("i386/entries.c", Build::I386Dynamic);
}

#[test]
fn programs_of_both_kinds_start_each_other() {
    same("i386/exec.c", Build::I386Dynamic);
}

#[test]
fn int_0x80_from_64_bit_code_has_the_i386_table() {
    same("i386/int80.c", Build::Dynamic);
}

#[test]
fn threads_and_their_locks() {
    same("processes/pthreads.c", Build::I386Dynamic);
    same("processes/futexes.c", Build::I386Dynamic);
}

#[test]
fn processes_and_what_they_share() {
    for name in ["wait", "stops", "queue", "family", "timers", "pidfds", "groups_of_threads"] {
        same(&format!("processes/{name}.c"), Build::I386Dynamic);
    }
    for name in ["fork", "spawn", "ping_pong"] {
        same(&format!("tasks/{name}.c"), Build::I386Dynamic);
    }
    same("fork_copies.c", Build::I386Static);
}

#[test]
fn files_sockets_and_system_v() {
    let names = ["sockets", "sysv", "sysv_rows", "events", "locks", "shared", "fifos", "terminals"];
    for name in names {
        same(&format!("ipc/{name}.c"), Build::I386Dynamic);
    }
    same("proc/tasks.c", Build::I386Dynamic);
    same("proc_files.c", Build::I386Dynamic);
}

#[test]
fn memory_calls_and_plain_code() {
    for name in ["protect", "recycled", "pairs", "many_vmas", "brk", "first_touch"] {
        same(&format!("mm/{name}.c"), Build::I386Dynamic);
    }
    same("own_pages.c", Build::I386Dynamic);
    same("kernels/quicksort.c", Build::I386Static);
}

#[test]
fn large_files_directories_and_times() {
    same("i386/files.c", Build::I386Dynamic);
    same("i386/times.c", Build::I386Dynamic);
}

/// AS-11: with `ADDR_LIMIT_3GB` a 64-bit kernel gives an i386 program 3 GiB.
#[test]
fn the_room_depends_on_the_personality() {
    let Some(program) = build("i386/machine.c", Build::I386Dynamic) else { return };
    Guest::new([&program]).same();
    Guest::new([program.as_os_str(), "8040000".as_ref()]).same();
}

/// Runs on kernels of 32 bits what has to print what it prints natively.
#[track_caller]
fn same_on_kernels_of_32_bits(sources: &[&str], how: Build) {
    for source in sources {
        let Some(program) = build(source, how) else { return };
        for machine in KERNELS_OF_32_BITS {
            Guest::new([&program]).options(["--machine", machine]).same();
        }
    }
}

#[test]
fn programs_on_kernels_of_32_bits_print_what_they_print_natively() {
    let plain = ["hello.c", "kernels/quicksort.c", "fork_copies.c"];
    same_on_kernels_of_32_bits(&plain, Build::I386Static);
    let rest = [
        "i386/times.c",
        "tasks/fork.c",
        "processes/pthreads.c",
        "processes/wait.c",
        "ipc/sockets.c",
        "mm/protect.c",
        "mm/brk.c",
    ];
    same_on_kernels_of_32_bits(&rest, Build::I386Dynamic);
    same_on_kernels_of_32_bits(&["hello.c"], Build::I386StaticPie);
}

/// I386-1: 3 GiB for programs; selectors 0x73 and 0x7b, entries 6 to 8 for threads; no address of
/// the kernel tells whether something is there; no NX with two levels of tables.
#[test]
fn a_kernel_of_32_bits_has_its_own_room_and_descriptors() {
    let Some(program) = build("i386/machine.c", Build::I386Dynamic) else { return };
    for machine in KERNELS_OF_32_BITS {
        let ran = Guest::new([&program]).options(["--machine", machine]).inside();
        let data = match machine {
            "i386" => "data executes: 42\n",
            _ => "signal 11 code 2 addr b7f00000 trap 14 error 21 cs 73 ss 7b\n",
        };
        // The bit for fetches is there with NX only.
        let fetch = if machine == "i386" { 5 } else { 21 };
        let expected = format!(
            "cs 73 ds 7b ss 7b es 7b gs 33\nuname i686\nentry 6 flags 51\nentry 7 flags 28\n\
             entry 8 flags 28\nset_thread_area 0 entry 7\nfs:0 L\nstack ends near 0xc0000000\n\
             mmap near b7, program near 4\nhigh 0xffffffff\nkernel 0xffffffff\n\
             signal 11 code 1 addr c0000000 trap 14 error 5 cs 73 ss 7b\n\
             signal 11 code 1 addr c0000000 trap 14 error 7 cs 73 ss 7b\n\
             signal 11 code 1 addr fff00000 trap 14 error 5 cs 73 ss 7b\n\
             signal 11 code 1 addr c0100000 trap 14 error {fetch} cs 73 ss 7b\n\
             write from the kernel -1\n{data}"
        );
        let text = ran.text();
        let (head, selectors) = text.split_at(text.find("selector 3\n").unwrap_or(text.len()));
        assert_eq!(head, expected, "{machine}: {ran:?}");
        let good: Vec<&str> =
            selectors.lines().filter_map(|line| line.strip_prefix("selector ")).collect();
        assert_eq!(good, ["3", "33", "3b", "73", "7b", "e3"], "{machine}: {ran:?}");
    }
}

#[test]
fn a_kernel_of_32_bits_refuses_programs_of_64() {
    for machine in KERNELS_OF_32_BITS {
        let ran = Guest::new(["/bin/true"]).options(["--machine", machine]).inside();
        assert_eq!(ran.code(), Some(126), "{ran:?}");
    }
}

/// Memory above lowmem is used as any other, and comes back.
#[test]
fn programs_of_kernels_of_32_bits_use_high_memory() {
    let Some(program) = build("patterns.c", Build::I386Static) else { return };
    for machine in KERNELS_OF_32_BITS {
        let command = [program.as_os_str(), "anon".as_ref(), "0x50000000".as_ref()];
        let guest = Guest::new(command).options(["--machine", machine, "--ram", "2G"]).mute();
        let (ran, report, _) = guest.inside_with_json();
        assert_eq!(ran.code(), Some(0), "{ran:?}");
        assert_eq!(report["memory"]["frames_leaked"], 0);
        let faults = report["faults"]["minor"].as_u64();
        assert!(faults.is_some_and(|count| count > 0x50000), "{faults:?}");
    }
}

/// Row 51 of the checklist: the strings of a new program are written through slots of pkmap, which
/// come round; a machine without highmem needs none.
#[test]
fn arguments_of_programs_go_through_kmap_where_there_is_highmem() {
    let Some(program) = build("i386/long_arguments.c", Build::I386Static) else { return };
    for (machine, ram, slots, flushes) in
        [("i386-pae", "2G", 512, 3), ("i386", "2G", 1024, 1), ("i386", "256M", 1024, 0)]
    {
        let options = ["--machine", machine, "--ram", ram];
        let (ran, report, _) = Guest::new([&program]).options(options).inside_with_json();
        assert_eq!(ran.code(), Some(0), "{ran:?}");
        let lines = (0..=4).map(|round| (round, if round == 0 { 1 } else { 32 }));
        let expected: String = lines
            .map(|(round, count)| format!("{round}: 0 wrong of {count} arguments\n"))
            .collect();
        assert_eq!(ran.text(), expected);
        let kmap = &report["kmap"];
        assert_eq!((&kmap["slots"], &kmap["used"]), (&slots.into(), &0.into()), "{kmap}");
        assert_eq!(kmap["flushes"], flushes, "{machine} {ram}: {kmap}");
        let taken = kmap["taken"].as_u64().expect("a number");
        // Four times 30 strings of 64,000 bytes, and those of the environment.
        let pages = if flushes == 0 { 0..=0 } else { 4 * 469..=4 * 469 + 20 };
        assert!(pages.contains(&taken), "{machine} {ram}: {kmap}");
        assert_eq!(report["memory"]["frames_leaked"], 0);
    }
    let (_, report, _) = Guest::new([&program]).inside_with_json();
    assert!(report["kmap"].is_null(), "{}", report["kmap"]);
}

/// No panic, no hang, no frame lost, whatever the arguments are.
#[test]
fn random_calls_of_i386_programs_do_no_harm() {
    let Some(program) = build("i386/random_calls.c", Build::I386Static) else { return };
    for machine in ["x86-64", "i386", "i386-pae"] {
        for (seed, ram) in [("1", "4M"), ("2", "8M"), ("3", "24M")] {
            let command = [program.as_os_str(), seed.as_ref(), "60".as_ref()];
            let options = ["--machine", machine, "--ram", ram, "--max-procs", "60"];
            let guest = Guest::new(command).options(options).options(["--timeout", "500"]);
            let (ran, report, _) = guest.inside_with_json();
            assert!(ran.text().ends_with("end\n"), "{machine} {seed}: {ran:?}");
            assert_eq!(report["memory"]["frames_leaked"], 0, "{machine} {seed}");
        }
    }
}
