//! i386 programs: what they print, how they end and how often they fault is as on the host.

mod common;

use common::{Build, Guest, build};

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
