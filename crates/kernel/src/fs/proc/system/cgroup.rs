//! The control group of all programs, as `/sys/fs/cgroup` of version 2 shows it.
//!
//! # Source
//! Linux 6.12 `Documentation/admin-guide/cgroup-v2.rst`, "Memory Interface Files";
//! `mm/memcontrol.c`.

use machine::PAGE_BYTES;
use mm::GroupLimits;

use super::Source;
use crate::Kernel;
use crate::errno::Errno;

/// Path, permissions and source of each file.
pub(super) const FILES: [(&str, u32, Source); 13] = [
    ("/sys/fs/cgroup/cgroup.controllers", 0o444, Source::Fixed("memory\n")),
    ("/sys/fs/cgroup/cgroup.subtree_control", 0o444, Source::Fixed("memory\n")),
    ("/sys/fs/cgroup/cgroup.procs", 0o444, Source::Made(procs)),
    ("/sys/fs/cgroup/cgroup.type", 0o444, Source::Fixed("domain\n")),
    ("/sys/fs/cgroup/memory.current", 0o444, Source::Made(current)),
    ("/sys/fs/cgroup/memory.peak", 0o444, Source::Made(peak)),
    ("/sys/fs/cgroup/memory.max", 0o644, Source::Text(max, set_max)),
    ("/sys/fs/cgroup/memory.high", 0o644, Source::Text(high, set_high)),
    ("/sys/fs/cgroup/memory.low", 0o444, Source::Fixed("0\n")),
    ("/sys/fs/cgroup/memory.min", 0o444, Source::Fixed("0\n")),
    ("/sys/fs/cgroup/memory.events", 0o444, Source::Made(events)),
    ("/sys/fs/cgroup/memory.stat", 0o444, Source::Made(stat)),
    ("/sys/fs/cgroup/memory.swap.current", 0o444, Source::Made(swap_current)),
];

fn procs(kernel: &Kernel) -> String {
    kernel.pids().iter().map(|pid| format!("{pid}\n")).collect()
}

fn bytes(pages: u64) -> String {
    format!("{}\n", pages.saturating_mul(PAGE_BYTES))
}

fn current(kernel: &Kernel) -> String {
    bytes(kernel.memory.group_usage().current_pages)
}

fn peak(kernel: &Kernel) -> String {
    bytes(kernel.memory.group_usage().peak_pages)
}

fn swap_current(kernel: &Kernel) -> String {
    bytes(kernel.memory.swap_usage().used)
}

fn limit(pages: u64) -> String {
    if pages == u64::MAX { "max\n".to_owned() } else { bytes(pages) }
}

fn max(kernel: &Kernel) -> String {
    limit(kernel.memory.limits().max_pages)
}

fn high(kernel: &Kernel) -> String {
    limit(kernel.memory.limits().high_pages)
}

/// Pages of a limit as it is written: `max`, or bytes with an optional suffix.
///
/// # Errors
/// `EINVAL`: neither.
fn parse(text: &[u8]) -> Result<u64, Errno> {
    let text = std::str::from_utf8(text).map_err(|_| Errno::EINVAL)?.trim();
    if text == "max" {
        return Ok(u64::MAX);
    }
    let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, suffix) = text.split_at(split);
    let shift = match suffix {
        "" => 0,
        "k" | "K" => 10,
        "m" | "M" => 20,
        "g" | "G" => 30,
        "t" | "T" => 40,
        _ => return Err(Errno::EINVAL),
    };
    let count: u64 = digits.parse().map_err(|_| Errno::EINVAL)?;
    Ok(count.checked_mul(1 << shift).map_or(u64::MAX, |bytes| bytes / PAGE_BYTES))
}

fn set_max(kernel: &mut Kernel, text: &[u8]) -> Result<(), Errno> {
    let max_pages = parse(text)?;
    kernel.memory.set_limits(GroupLimits { max_pages, ..kernel.memory.limits() });
    Ok(())
}

fn set_high(kernel: &mut Kernel, text: &[u8]) -> Result<(), Errno> {
    let high_pages = parse(text)?;
    kernel.memory.set_limits(GroupLimits { high_pages, ..kernel.memory.limits() });
    Ok(())
}

fn events(kernel: &Kernel) -> String {
    let usage = kernel.memory.group_usage();
    format!(
        "low 0\nhigh {}\nmax {}\noom {}\noom_kill {}\noom_group_kill 0\n",
        usage.high_events, usage.max_events, usage.oom_events, usage.oom_kills
    )
}

fn stat(kernel: &Kernel) -> String {
    let (usage, events) = (kernel.memory.usage(), kernel.memory.events());
    let [inactive_anon, active_anon, inactive_file, active_file] = kernel.memory.lru_counts();
    let swap_cached = kernel.memory.swap_usage().cached;
    let zswap = kernel.memory.zswap_usage();
    let in_bytes = [
        ("anon", usage.anon),
        ("file", usage.file + usage.shmem),
        ("kernel", usage.page_table),
        ("pagetables", usage.page_table),
        ("shmem", usage.shmem),
        ("zswap", zswap.frames),
        ("zswapped", zswap.pages),
        ("file_mapped", kernel.memory.mapped_pages()),
        ("file_dirty", kernel.memory.dirty_pages()),
        ("swapcached", swap_cached),
        ("inactive_anon", inactive_anon),
        ("active_anon", active_anon),
        ("inactive_file", inactive_file),
        ("active_file", active_file),
        ("unevictable", kernel.memory.unevictable_pages()),
    ];
    let counts = [
        ("workingset_refault_anon", events.refaults_anon),
        ("workingset_refault_file", events.refaults),
        ("workingset_activate_anon", events.workingset_activated_anon),
        ("workingset_activate_file", events.workingset_activated_file),
        ("workingset_restore_anon", events.workingset_restored_anon),
        ("workingset_restore_file", events.workingset_restored_file),
        ("pgscan", events.scanned),
        ("pgsteal", events.stolen),
        ("pgfault", events.faults),
        ("pgmajfault", events.major_faults),
        ("pgrefill", events.refilled),
        ("pgactivate", events.activated),
        ("pgdeactivate", events.deactivated),
        ("zswpin", zswap.loaded),
        ("zswpout", zswap.stored),
        ("zswpwb", zswap.written_back),
    ];
    let bytes = in_bytes.map(|(name, pages)| (name, pages * PAGE_BYTES));
    bytes.iter().chain(&counts).map(|(name, value)| format!("{name} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::errno::Errno;

    #[test]
    fn limits_are_bytes_or_max() {
        assert_eq!(parse(b"max\n"), Ok(u64::MAX));
        assert_eq!((parse(b"16M\n"), parse(b"8191")), (Ok(4096), Ok(1)));
        for wrong in [&b""[..], b"-1", b"1.5M", b"Max", b"1Q", b"\xff"] {
            assert_eq!(parse(wrong), Err(Errno::EINVAL));
        }
    }
}
