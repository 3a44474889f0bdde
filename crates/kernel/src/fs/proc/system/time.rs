//! Time and tasks of the machine: `stat`, `loadavg`, `uptime`.
//!
//! # Source
//! Linux 6.12 `fs/proc/stat.c`, `fs/proc/loadavg.c`, `fs/proc/uptime.c`.

use std::fmt::Write;

use crate::Kernel;

/// Nanoseconds per tick of `/proc` times (`USER_HZ` is 100).
const NS_PER_TICK: u64 = 10_000_000;

/// Virtual time with a task on the CPU and without one, in ticks.
fn busy_and_idle(kernel: &Kernel) -> (u64, u64) {
    let idle_ns = kernel.tasks.idle_ns;
    ((kernel.hw.now_ns().saturating_sub(idle_ns)) / NS_PER_TICK, idle_ns / NS_PER_TICK)
}

/// The text of `stat`.
pub(super) fn stat(kernel: &Kernel) -> String {
    let (busy, idle) = busy_and_idle(kernel);
    let tasks = &kernel.tasks;
    let running = tasks.runnable_count(&kernel.task);
    format!(
        "cpu  {busy} 0 0 {idle} 0 0 0 0 0 0\ncpu0 {busy} 0 0 {idle} 0 0 0 0 0 0\nintr 0\n\
         ctxt {}\nbtime {}\nprocesses {}\nprocs_running {running}\nprocs_blocked 0\n\
         softirq 0 0 0 0 0 0 0 0 0 0 0\n",
        tasks.switch_count,
        kernel.hw.boot_seconds(),
        tasks.fork_count + 1,
    )
}

/// The text of `loadavg`.
pub(super) fn loadavg(kernel: &Kernel) -> String {
    let tasks = &kernel.tasks;
    let mut text = String::new();
    for hundredths in tasks.load.hundredths() {
        write!(text, "{}.{:02} ", hundredths / 100, hundredths % 100).expect("a string takes it");
    }
    let running = tasks.runnable_count(&kernel.task);
    let all = tasks.tasks.len() + 1;
    writeln!(text, "{running}/{all} {}", tasks.last_pid()).expect("a string takes it");
    text
}

/// The text of `uptime`.
pub(super) fn uptime(kernel: &Kernel) -> String {
    let hundredths = |ns: u64| {
        let count = ns / NS_PER_TICK;
        format!("{}.{:02}", count / 100, count % 100)
    };
    format!("{} {}\n", hundredths(kernel.hw.now_ns()), hundredths(kernel.tasks.idle_ns))
}
