//! The files of `/proc` and `/sys` that describe the machine, in one table.
//!
//! # Source
//! Linux 6.12 `fs/proc/*.c`; semantics PROC-8 to PROC-13.

mod blocks;
mod cgroup;
mod memory;
mod processor;
mod settings;
mod slabs;
mod time;
mod vmstat;

use std::fmt::Write;

use machine::PAGE_BYTES;

use crate::Kernel;
use crate::errno::Errno;
use crate::syscall::sysv;

/// Where the text of a file comes from.
#[derive(Clone, Copy)]
pub(super) enum Source {
    /// It is always the same.
    Fixed(&'static str),
    /// It is made.
    Made(fn(&Kernel) -> String),
    /// It is made for this path.
    OfPath(fn(&Kernel, &str) -> String),
    /// A number that is kept for programs that set it: first and largest value.
    Kept(i64, i64),
    /// A number with a place of its own: how it is read and set.
    Setting(fn(&Kernel) -> i64, fn(&mut Kernel, i64) -> Result<(), Errno>),
    /// A text with a place of its own: how it is made and set.
    Text(fn(&Kernel) -> String, fn(&mut Kernel, &[u8]) -> Result<(), Errno>),
    /// Bytes by place; `page_map.rs` has them.
    Binary,
}

/// A file: its path below `/proc`, or its full path below `/sys`; permissions; text.
type File = (&'static str, u32, Source);

/// The files of `/proc` but settings.
const OF_PROC: &[File] = &[
    ("buddyinfo", 0o444, Source::Made(blocks::buddyinfo)),
    ("cgroups", 0o444, Source::Fixed("#subsys_name\thierarchy\tnum_cgroups\tenabled\n")),
    ("cmdline", 0o444, Source::Fixed("faultline\n")),
    ("cpuinfo", 0o444, Source::Made(processor::cpuinfo)),
    ("devices", 0o444, Source::Fixed(DEVICES)),
    ("diskstats", 0o444, Source::Fixed("")),
    ("filesystems", 0o444, Source::Fixed(FILE_SYSTEMS)),
    ("interrupts", 0o444, Source::Fixed("           CPU0       \n")),
    ("iomem", 0o444, Source::Made(memory::iomem)),
    ("kallsyms", 0o444, Source::Fixed("")),
    ("kcore", 0o400, Source::Binary),
    ("kpagecount", 0o400, Source::Binary),
    ("kpageflags", 0o400, Source::Binary),
    ("loadavg", 0o444, Source::Made(time::loadavg)),
    ("locks", 0o444, Source::Fixed("")),
    ("meminfo", 0o444, Source::Made(memory::meminfo)),
    ("misc", 0o444, Source::Made(Kernel::misc_devices)),
    ("modules", 0o444, Source::Fixed("")),
    ("pagetypeinfo", 0o400, Source::Made(blocks::pagetypeinfo)),
    ("partitions", 0o444, Source::Fixed("major minor  #blocks  name\n\n")),
    ("slabinfo", 0o400, Source::Made(slabs::slabinfo)),
    ("softirqs", 0o444, Source::Fixed(SOFT_INTERRUPTS)),
    ("stat", 0o444, Source::Made(time::stat)),
    ("swaps", 0o444, Source::Made(memory::swaps)),
    ("sysvipc/msg", 0o444, Source::Made(sysv::rows::queues)),
    ("sysvipc/sem", 0o444, Source::Made(sysv::rows::semaphores)),
    ("sysvipc/shm", 0o444, Source::Made(sysv::rows::segments)),
    ("tty/drivers", 0o444, Source::Fixed(TERMINALS)),
    ("uptime", 0o444, Source::Made(time::uptime)),
    ("version", 0o444, Source::Made(version)),
    ("vmallocinfo", 0o400, Source::Made(slabs::vmallocinfo)),
    ("vmstat", 0o444, Source::Made(vmstat::vmstat)),
    ("zoneinfo", 0o444, Source::Made(memory::zoneinfo)),
];

/// The files of `/sys` but those of the processor.
const OF_SYS: &[File] = &[
    ("/sys/devices/system/node/has_cpu", 0o444, Source::Fixed("0\n")),
    ("/sys/devices/system/node/has_memory", 0o444, Source::Fixed("0\n")),
    ("/sys/devices/system/node/has_normal_memory", 0o444, Source::Fixed("0\n")),
    ("/sys/devices/system/node/online", 0o444, Source::Fixed("0\n")),
    ("/sys/devices/system/node/possible", 0o444, Source::Fixed("0\n")),
    ("/sys/devices/system/node/node0/cpulist", 0o444, Source::Fixed("0\n")),
    ("/sys/devices/system/node/node0/cpumap", 0o444, Source::Fixed("1\n")),
    ("/sys/devices/system/node/node0/distance", 0o444, Source::Fixed("10\n")),
    ("/sys/devices/system/node/node0/meminfo", 0o444, Source::Made(memory::node_meminfo)),
    ("/sys/devices/system/node/node0/numastat", 0o444, Source::Made(memory::node_numastat)),
    (
        "/sys/kernel/mm/transparent_hugepage/enabled",
        0o644,
        Source::Fixed("always [madvise] never\n"),
    ),
    (
        "/sys/kernel/mm/transparent_hugepage/defrag",
        0o644,
        Source::Fixed("always defer defer+madvise [madvise] never\n"),
    ),
    (
        "/sys/kernel/mm/transparent_hugepage/shmem_enabled",
        0o644,
        Source::Fixed("always within_size advise [never] deny force\n"),
    ),
    ("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", 0o444, Source::Fixed("2097152\n")),
    ("/sys/kernel/mm/transparent_hugepage/use_zero_page", 0o644, Source::Fixed("1\n")),
    ("/sys/kernel/debug/extfrag/extfrag_index", 0o444, Source::Made(blocks::extfrag_index)),
    ("/sys/kernel/debug/extfrag/unusable_index", 0o444, Source::Made(blocks::unusable_index)),
    ("/sys/module/zswap/parameters/enabled", 0o444, Source::Made(memory::zswap_enabled)),
    ("/sys/module/zswap/parameters/max_pool_percent", 0o444, Source::Made(memory::zswap_percent)),
    ("/sys/module/zswap/parameters/accept_threshold_percent", 0o444, Source::Fixed("90\n")),
    ("/sys/module/zswap/parameters/compressor", 0o444, Source::Fixed("lz4\n")),
    ("/sys/kernel/address_bits", 0o444, Source::Fixed("64\n")),
    ("/sys/kernel/cpu_byteorder", 0o444, Source::Fixed("little\n")),
];

const DEVICES: &str =
    "Character devices:\n  1 mem\n  5 /dev/tty\n 10 misc\n136 pts\n\nBlock devices:\n";
const FILE_SYSTEMS: &str = "nodev\tsysfs\nnodev\ttmpfs\nnodev\tproc\nnodev\tcgroup2\n\
    nodev\tdevtmpfs\nnodev\tsockfs\nnodev\tpipefs\nnodev\tdevpts\n\text4\n";
const SOFT_INTERRUPTS: &str = "                    CPU0       \n\
    \x20         HI:          0\n       TIMER:          0\n      NET_TX:          0\n\
    \x20     NET_RX:          0\n       BLOCK:          0\n    IRQ_POLL:          0\n\
    \x20    TASKLET:          0\n       SCHED:          0\n     HRTIMER:          0\n\
    \x20        RCU:          0\n";
const TERMINALS: &str = "/dev/tty             /dev/tty        5       0 system:/dev/tty\n\
    pty_slave            /dev/pts      136 0-1048575 pty:slave\n";

/// All files with their sources.
fn files() -> impl Iterator<Item = File> {
    let kept =
        settings::KEPT.iter().map(|&(path, first, most)| (path, 0o644, Source::Kept(first, most)));
    let read_only = settings::READ_ONLY.iter().map(|&(path, source)| (path, 0o444, source));
    let active = settings::ACTIVE.iter().copied();
    let caches = processor::CACHE_FILES.iter().map(|&path| (path, 0o444, processor::CACHE_SOURCE));
    let fixed = processor::FIXED.iter().map(|&(path, text)| (path, 0o444, Source::Fixed(text)));
    let plain = OF_PROC.iter().chain(OF_SYS).chain(&cgroup::FILES).copied();
    plain.chain(kept).chain(read_only).chain(active).chain(fixed).chain(caches)
}

/// Path and permissions of all files: those with a slash in front are below `/sys`.
pub(crate) fn system_files() -> impl Iterator<Item = (&'static str, u32)> {
    files().map(|(path, permissions, _)| (path, permissions))
}

/// The size that `stat` shows of a file: a page for those of `/sys`.
pub(crate) fn size_of(path: &str) -> u64 {
    if path.starts_with('/') { PAGE_BYTES } else { 0 }
}

fn source_of(path: &str) -> Option<Source> {
    files().find(|file| file.0 == path).map(|file| file.2)
}

/// The text of a file.
///
/// # Errors
/// `EIO`: it has none.
pub(super) fn text(kernel: &Kernel, path: &'static str) -> Result<Vec<u8>, Errno> {
    let text = match source_of(path).ok_or(Errno::EIO)? {
        Source::Fixed(text) => text.to_string(),
        Source::Made(make) | Source::Text(make, _) => make(kernel),
        Source::OfPath(make) => make(kernel, path),
        Source::Kept(first, _) => {
            format!("{}\n", kernel.settings.get(path).copied().unwrap_or(first))
        }
        Source::Setting(get, _) => format!("{}\n", get(kernel)),
        Source::Binary => return Err(Errno::EIO),
    };
    Ok(text.into_bytes())
}

/// Takes what a program writes to a file: a number.
///
/// # Errors
/// `EINVAL`: it is none, or one that does not fit. `EPERM`: the file takes nothing.
pub(super) fn write(kernel: &mut Kernel, path: &'static str, bytes: &[u8]) -> Result<(), Errno> {
    let number = || -> Result<i64, Errno> {
        let text = std::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
        let text = text.trim_matches(|letter: char| letter.is_ascii_whitespace());
        text.parse().map_err(|_| Errno::EINVAL)
    };
    match source_of(path).ok_or(Errno::EIO)? {
        Source::Setting(_, set) => set(kernel, number()?),
        Source::Text(_, set) => set(kernel, bytes),
        Source::Kept(_, most) => {
            let value = number()?;
            if !(0..=most).contains(&value) {
                return Err(Errno::EINVAL);
            }
            kernel.settings.insert(path, value);
            Ok(())
        }
        _ => Err(Errno::EPERM),
    }
}

fn version(_kernel: &Kernel) -> String {
    use crate::syscall::misc::{RELEASE, VERSION};
    format!("Linux version {RELEASE} (faultline@faultline) {VERSION}\n")
}

/// What is mounted where: source, place, type.
const MOUNTS: [(&str, &str, &str); 6] = [
    ("/dev/root", "/", "ext4"),
    ("devtmpfs", "/dev", "devtmpfs"),
    ("tmpfs", "/dev/shm", "tmpfs"),
    ("proc", "/proc", "proc"),
    ("sysfs", "/sys", "sysfs"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
];

/// The text of `mounts`.
pub(super) fn mounts(_kernel: &Kernel) -> String {
    MOUNTS
        .iter()
        .map(|(source, place, kind)| format!("{source} {place} {kind} rw,relatime 0 0\n"))
        .collect()
}

/// The text of `mountstats`.
pub(super) fn mountstats() -> String {
    let line = |(source, place, kind): &(&str, &str, &str)| {
        format!("device {source} mounted on {place} with fstype {kind}\n")
    };
    MOUNTS.iter().map(line).collect()
}

/// The text of `mountinfo`.
pub(super) fn mountinfo(_kernel: &Kernel) -> String {
    let mut text = String::new();
    for (index, (source, place, kind)) in MOUNTS.iter().enumerate() {
        let (id, parent) = (index + 1, usize::from(index > 0));
        writeln!(
            text,
            "{id} {parent} 0:{} / {place} rw,relatime - {kind} {source} rw",
            0x1000 + index
        )
        .expect("a string takes it");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::files;

    #[test]
    fn each_file_is_in_the_table_once() {
        let paths: Vec<&str> = files().map(|file| file.0).collect();
        let different: BTreeSet<&str> = paths.iter().copied().collect();
        assert_eq!(paths.len(), different.len());
    }
}
