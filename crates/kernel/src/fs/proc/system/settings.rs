//! The settings below `/proc/sys`.
//!
//! Most are only kept, for programs that set and read them; those that mean something here have a
//! place of their own.
//!
//! # Source
//! Linux 6.12 `kernel/sysctl.c`, `mm/util.c`, `fs/drop_caches.c`; semantics PROC-13.

use mm::Overcommit;

use super::Source;
use crate::Kernel;
use crate::errno::Errno;
use crate::syscall::misc::{NODE, RELEASE, VERSION};

/// Largest `int`.
const INT_MAX: i64 = 2_147_483_647;
/// `vm.overcommit_ratio` until it is set.
const RATIO: i64 = 50;
const RATIO_PATH: &str = "sys/vm/overcommit_ratio";
/// `vm.swappiness` until it is set, and the most that it can be.
const SWAPPINESS: i64 = 60;
const SWAPPINESS_MAX: i64 = 200;
const SWAPPINESS_PATH: &str = "sys/vm/swappiness";

/// Settings that are only kept: path, first value, largest value.
pub(super) const KEPT: &[(&str, i64, i64)] = &[
    ("sys/vm/admin_reserve_kbytes", 8192, INT_MAX),
    ("sys/vm/compact_unevictable_allowed", 1, 1),
    ("sys/vm/compaction_proactiveness", 20, 100),
    ("sys/vm/dirty_background_bytes", 0, INT_MAX),
    ("sys/vm/dirty_background_ratio", 10, 100),
    ("sys/vm/dirty_bytes", 0, INT_MAX),
    ("sys/vm/dirty_expire_centisecs", 3000, INT_MAX),
    ("sys/vm/dirty_ratio", 20, 100),
    ("sys/vm/dirty_writeback_centisecs", 500, INT_MAX),
    ("sys/vm/dirtytime_expire_seconds", 43_200, INT_MAX),
    ("sys/vm/extfrag_threshold", 500, 1000),
    ("sys/vm/laptop_mode", 0, INT_MAX),
    ("sys/vm/legacy_va_layout", 0, 1),
    ("sys/vm/min_slab_ratio", 5, 100),
    ("sys/vm/min_unmapped_ratio", 1, 100),
    ("sys/vm/oom_dump_tasks", 1, 1),
    ("sys/vm/oom_kill_allocating_task", 0, 1),
    ("sys/vm/panic_on_oom", 0, 2),
    ("sys/vm/stat_interval", 1, INT_MAX),
    ("sys/vm/unprivileged_userfaultfd", 0, 1),
    ("sys/vm/user_reserve_kbytes", 0, INT_MAX),
    ("sys/vm/vfs_cache_pressure", 100, INT_MAX),
    ("sys/vm/watermark_boost_factor", 15_000, INT_MAX),
    ("sys/vm/watermark_scale_factor", 10, 3000),
    ("sys/vm/zone_reclaim_mode", 0, INT_MAX),
    ("sys/vm/nr_hugepages", 0, 0),
    ("sys/vm/nr_overcommit_hugepages", 0, 0),
    ("sys/kernel/randomize_va_space", 0, 2),
    ("sys/kernel/core_uses_pid", 0, 1),
    ("sys/kernel/panic", 0, INT_MAX),
    ("sys/kernel/printk_ratelimit", 5, INT_MAX),
    ("sys/kernel/perf_event_paranoid", 2, INT_MAX),
    ("sys/kernel/kptr_restrict", 0, 2),
    ("sys/kernel/dmesg_restrict", 1, 1),
    ("sys/kernel/sched_autogroup_enabled", 0, 1),
    ("sys/kernel/shm_rmid_forced", 0, 1),
    ("sys/kernel/overflowuid", 65_534, 65_535),
    ("sys/kernel/overflowgid", 65_534, 65_535),
    ("sys/fs/aio-max-nr", 65_536, INT_MAX),
    ("sys/fs/lease-break-time", 45, INT_MAX),
    ("sys/fs/mount-max", 100_000, INT_MAX),
    ("sys/fs/protected_symlinks", 0, 1),
    ("sys/fs/protected_hardlinks", 0, 1),
    ("sys/fs/suid_dumpable", 0, 2),
    ("sys/fs/pipe-user-pages-hard", 0, INT_MAX),
    ("sys/fs/pipe-user-pages-soft", 16_384, INT_MAX),
    ("sys/fs/inotify/max_user_watches", 65_536, INT_MAX),
    ("sys/fs/inotify/max_user_instances", 128, INT_MAX),
    ("sys/fs/inotify/max_queued_events", 16_384, INT_MAX),
    ("sys/fs/epoll/max_user_watches", 65_536, INT_MAX),
    ("sys/fs/overflowuid", 65_534, 65_535),
    ("sys/fs/overflowgid", 65_534, 65_535),
];

/// Settings that cannot be changed.
pub(super) const READ_ONLY: &[(&str, Source)] = &[
    ("sys/vm/max_map_count", Source::Made(|kernel| line(kernel.mm.limits.max_map_count))),
    ("sys/vm/mmap_min_addr", Source::Made(|kernel| line(kernel.mm.layout.min_address.as_u64()))),
    ("sys/vm/min_free_kbytes", Source::Made(|kernel| line(kernel.memory.watermarks().min * 4))),
    ("sys/vm/lowmem_reserve_ratio", Source::Fixed("256\t256\t32\t0\t0\n")),
    ("sys/kernel/osrelease", Source::Made(|_| line(RELEASE))),
    ("sys/kernel/ostype", Source::Fixed("Linux\n")),
    ("sys/kernel/version", Source::Made(|_| line(VERSION))),
    ("sys/kernel/hostname", Source::Made(|_| line(NODE))),
    ("sys/kernel/domainname", Source::Fixed("(none)\n")),
    ("sys/kernel/pid_max", Source::Fixed("4194304\n")),
    ("sys/kernel/threads-max", Source::Made(|kernel| line(kernel.task_limits.threads_max))),
    ("sys/kernel/ns_last_pid", Source::Made(|kernel| line(kernel.tasks.last_pid()))),
    ("sys/kernel/cap_last_cap", Source::Fixed("40\n")),
    ("sys/kernel/ngroups_max", Source::Fixed("65536\n")),
    ("sys/kernel/core_pattern", Source::Fixed("core\n")),
    ("sys/kernel/printk", Source::Fixed("4\t4\t1\t7\n")),
    ("sys/kernel/tainted", Source::Fixed("0\n")),
    ("sys/kernel/sem", Source::Fixed("32000\t1024000000\t500\t32000\n")),
    ("sys/kernel/shmmax", Source::Fixed("18446744073692774399\n")),
    ("sys/kernel/shmall", Source::Fixed("18446744073692774399\n")),
    ("sys/kernel/shmmni", Source::Fixed("4096\n")),
    ("sys/kernel/msgmax", Source::Fixed("8192\n")),
    ("sys/kernel/msgmnb", Source::Fixed("16384\n")),
    ("sys/kernel/msgmni", Source::Fixed("32000\n")),
    ("sys/kernel/pty/max", Source::Fixed("4096\n")),
    ("sys/kernel/random/boot_id", Source::Fixed("6661756c-746c-496e-8500-000000000001\n")),
    ("sys/kernel/random/entropy_avail", Source::Fixed("256\n")),
    ("sys/kernel/random/poolsize", Source::Fixed("256\n")),
    ("sys/fs/file-max", Source::Fixed("1048576\n")),
    ("sys/fs/nr_open", Source::Fixed("1048576\n")),
    ("sys/fs/pipe-max-size", Source::Fixed("1048576\n")),
    ("sys/fs/aio-nr", Source::Fixed("0\n")),
];

/// Settings with an effect: path, permissions, source.
pub(super) const ACTIVE: &[(&str, u32, Source)] = &[
    ("sys/vm/overcommit_memory", 0o644, Source::Setting(overcommit, set_overcommit)),
    (RATIO_PATH, 0o644, Source::Setting(ratio, set_ratio)),
    ("sys/vm/overcommit_kbytes", 0o644, Source::Setting(overcommit_kib, set_overcommit_kib)),
    (SWAPPINESS_PATH, 0o644, Source::Setting(swappiness, set_swappiness)),
    ("sys/vm/page-cluster", 0o644, Source::Setting(page_cluster, set_page_cluster)),
    ("sys/vm/drop_caches", 0o200, Source::Setting(|_| 0, drop_caches)),
    ("sys/vm/compact_memory", 0o200, Source::Setting(|_| 0, |_, _| Ok(()))),
];

fn line(value: impl std::fmt::Display) -> String {
    format!("{value}\n")
}

fn overcommit(kernel: &Kernel) -> i64 {
    match kernel.memory.overcommit {
        Overcommit::Heuristic => 0,
        Overcommit::Always => 1,
        Overcommit::Never { .. } => 2,
    }
}

fn set_overcommit(kernel: &mut Kernel, value: i64) -> Result<(), Errno> {
    let ratio_percent = u64::try_from(ratio(kernel)).unwrap_or(0);
    kernel.memory.overcommit = match value {
        0 => Overcommit::Heuristic,
        1 => Overcommit::Always,
        2 => Overcommit::Never { ratio_percent },
        _ => return Err(Errno::EINVAL),
    };
    Ok(())
}

fn ratio(kernel: &Kernel) -> i64 {
    kernel.settings.get(RATIO_PATH).copied().unwrap_or(RATIO)
}

fn set_ratio(kernel: &mut Kernel, value: i64) -> Result<(), Errno> {
    let percent = u64::try_from(value).map_err(|_| Errno::EINVAL)?;
    kernel.settings.insert(RATIO_PATH, value);
    // The one that was set last counts.
    kernel.memory.overcommit_kib = None;
    if let Overcommit::Never { ratio_percent } = &mut kernel.memory.overcommit {
        *ratio_percent = percent;
    }
    Ok(())
}

fn overcommit_kib(kernel: &Kernel) -> i64 {
    kernel.memory.overcommit_kib.map_or(0, |kib| i64::try_from(kib).unwrap_or(i64::MAX))
}

fn set_overcommit_kib(kernel: &mut Kernel, value: i64) -> Result<(), Errno> {
    let kib = u64::try_from(value).map_err(|_| Errno::EINVAL)?;
    set_ratio(kernel, 0)?;
    kernel.memory.overcommit_kib = (kib > 0).then_some(kib);
    Ok(())
}

fn swappiness(kernel: &Kernel) -> i64 {
    kernel.settings.get(SWAPPINESS_PATH).copied().unwrap_or(SWAPPINESS)
}

fn set_swappiness(kernel: &mut Kernel, value: i64) -> Result<(), Errno> {
    if !(0..=SWAPPINESS_MAX).contains(&value) {
        return Err(Errno::EINVAL);
    }
    kernel.settings.insert(SWAPPINESS_PATH, value);
    kernel.memory.set_swappiness(value.unsigned_abs());
    Ok(())
}

fn page_cluster(kernel: &Kernel) -> i64 {
    kernel.memory.page_cluster().into()
}

fn set_page_cluster(kernel: &mut Kernel, value: i64) -> Result<(), Errno> {
    let value = u32::try_from(value).ok().filter(|value| *value <= 31).ok_or(Errno::EINVAL)?;
    kernel.memory.set_page_cluster(value);
    Ok(())
}

/// 1 drops the clean pages of files, 2 what else can be had again, which is nothing here, 3 both.
fn drop_caches(kernel: &mut Kernel, value: i64) -> Result<(), Errno> {
    if !(1..=4).contains(&value) {
        return Err(Errno::EINVAL);
    }
    if value & 1 != 0 {
        kernel.memory.drop_clean_cache(&mut kernel.hw);
    }
    Ok(())
}
