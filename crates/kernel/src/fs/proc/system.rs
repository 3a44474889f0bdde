//! The files of `/proc` that describe the machine: its memory, its processor, its time.
//!
//! # Source
//! Linux 6.12 `fs/proc/*.c`; semantics PROC-8 to PROC-13.

use std::fmt::Write;

use machine::PAGE_BYTES;

use crate::Kernel;
use crate::errno::Errno;

/// Ticks of `/proc` times per second (`USER_HZ`).
const NS_PER_TICK: u64 = 10_000_000;

/// The text of a file below `/proc` that is about the whole machine; `path` has no leading slash.
///
/// # Errors
/// `EIO`: nothing is known of the file.
pub(super) fn text(kernel: &Kernel, path: &str) -> Result<Vec<u8>, Errno> {
    known(kernel, path).ok_or(Errno::EIO)
}

/// Takes what a program writes to a file.
///
/// # Errors
/// `EINVAL`: it does not fit.
pub(super) fn write(_kernel: &mut Kernel, _path: &str, _bytes: &[u8]) -> Result<(), Errno> {
    Err(Errno::EINVAL)
}

fn known(kernel: &Kernel, path: &str) -> Option<Vec<u8>> {
    let text = match path {
        "meminfo" => meminfo(kernel),
        "cpuinfo" => cpuinfo(),
        "vmstat" => vmstat(kernel),
        "buddyinfo" => buddyinfo(kernel),
        "stat" => stat(kernel),
        "uptime" => uptime(kernel),
        "loadavg" => loadavg(kernel),
        "version" => "Linux version 6.12.0-faultline (faultline) #1 SMP PREEMPT_DYNAMIC\n".into(),
        "filesystems" => "nodev\tproc\nnodev\ttmpfs\n\text4\n".to_string(),
        "swaps" => "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_string(),
        _ if path.starts_with('/') => sysfs(path)?.to_string(),
        _ => setting(kernel, path.strip_prefix("sys/")?)?,
    };
    Some(text.into_bytes())
}

/// The files below `/proc` that are not of a task, with their permissions.
pub(crate) const PROC_FILES: &[(&str, u32)] = &[
    ("buddyinfo", 0o444),
    ("cpuinfo", 0o444),
    ("filesystems", 0o444),
    ("loadavg", 0o444),
    ("meminfo", 0o444),
    ("stat", 0o444),
    ("swaps", 0o444),
    ("uptime", 0o444),
    ("version", 0o444),
    ("vmstat", 0o444),
    ("sys/vm/overcommit_memory", 0o444),
    ("sys/vm/overcommit_ratio", 0o444),
    ("sys/vm/max_map_count", 0o444),
    ("sys/vm/mmap_min_addr", 0o444),
    ("sys/vm/swappiness", 0o444),
    ("sys/vm/page-cluster", 0o444),
    ("sys/vm/min_free_kbytes", 0o444),
    ("sys/vm/legacy_va_layout", 0o444),
    ("sys/kernel/randomize_va_space", 0o444),
    ("sys/kernel/osrelease", 0o444),
    ("sys/kernel/ostype", 0o444),
    ("sys/kernel/version", 0o444),
    ("sys/kernel/hostname", 0o444),
    ("sys/kernel/pid_max", 0o444),
    ("sys/kernel/threads-max", 0o444),
    ("sys/kernel/cap_last_cap", 0o444),
    ("sys/kernel/ngroups_max", 0o444),
    ("sys/fs/pipe-max-size", 0o444),
];

/// The files below `/sys`, by their full path, with their permissions.
pub(crate) const SYS_FILES: &[(&str, u32)] = &[
    ("/sys/devices/system/cpu/online", 0o444),
    ("/sys/devices/system/cpu/possible", 0o444),
    ("/sys/devices/system/cpu/present", 0o444),
    ("/sys/devices/system/node/online", 0o444),
    ("/sys/kernel/mm/transparent_hugepage/enabled", 0o644),
    ("/sys/kernel/mm/transparent_hugepage/defrag", 0o644),
    ("/sys/kernel/mm/transparent_hugepage/shmem_enabled", 0o644),
    ("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", 0o444),
    ("/sys/kernel/mm/transparent_hugepage/use_zero_page", 0o644),
];

/// The size that `stat` shows of a file: a page for those of `/sys`.
pub(crate) fn size_of(path: &str) -> u64 {
    if path.starts_with("/sys/") { PAGE_BYTES } else { 0 }
}

fn sysfs(path: &str) -> Option<&'static str> {
    Some(match path {
        "/sys/devices/system/cpu/online"
        | "/sys/devices/system/cpu/possible"
        | "/sys/devices/system/cpu/present"
        | "/sys/devices/system/node/online" => "0\n",
        "/sys/kernel/mm/transparent_hugepage/enabled" => "always [madvise] never\n",
        "/sys/kernel/mm/transparent_hugepage/defrag" => {
            "always defer defer+madvise [madvise] never\n"
        }
        "/sys/kernel/mm/transparent_hugepage/shmem_enabled" => {
            "always within_size advise [never] deny force\n"
        }
        "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size" => "2097152\n",
        "/sys/kernel/mm/transparent_hugepage/use_zero_page" => "1\n",
        _ => return None,
    })
}

/// What is mounted where: source, place, type.
const MOUNTS: [(&str, &str, &str); 5] = [
    ("/dev/root", "/", "ext4"),
    ("devtmpfs", "/dev", "devtmpfs"),
    ("tmpfs", "/dev/shm", "tmpfs"),
    ("proc", "/proc", "proc"),
    ("sysfs", "/sys", "sysfs"),
];

/// The text of `mounts`.
pub(super) fn mounts(_kernel: &Kernel) -> String {
    MOUNTS
        .iter()
        .map(|(source, place, kind)| format!("{source} {place} {kind} rw,relatime 0 0\n"))
        .collect()
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

fn setting(kernel: &Kernel, name: &str) -> Option<String> {
    let limits = &kernel.mm.limits;
    Some(match name {
        "vm/overcommit_memory" => "0\n".to_string(),
        "vm/overcommit_ratio" => "50\n".to_string(),
        "vm/max_map_count" => format!("{}\n", limits.max_map_count),
        "vm/mmap_min_addr" => format!("{}\n", kernel.mm.layout.min_address.as_u64()),
        "vm/swappiness" => "60\n".to_string(),
        "vm/page-cluster" => "3\n".to_string(),
        "vm/min_free_kbytes" | "vm/legacy_va_layout" | "kernel/randomize_va_space" => "0\n".into(),
        "kernel/osrelease" => "6.12.0-faultline\n".to_string(),
        "kernel/ostype" => "Linux\n".to_string(),
        "kernel/version" => "#1 SMP PREEMPT_DYNAMIC\n".to_string(),
        "kernel/hostname" => "faultline\n".to_string(),
        "kernel/pid_max" => "32768\n".to_string(),
        "kernel/threads-max" => "256\n".to_string(),
        "kernel/cap_last_cap" => "40\n".to_string(),
        "kernel/ngroups_max" => "65536\n".to_string(),
        "fs/pipe-max-size" => "1048576\n".to_string(),
        _ => return None,
    })
}

fn meminfo(kernel: &Kernel) -> String {
    let mut text = String::new();
    for (label, kib) in meminfo_rows(kernel) {
        if label == "Hugepagesize" {
            for label in ["Total", "Free", "Rsvd", "Surp"] {
                writeln!(text, "HugePages_{label}:{:>8}", 0).expect("a string takes it");
            }
        }
        row(&mut text, label, kib);
    }
    text
}

/// Label and value in KiB of every line but those of the pool of huge pages, which is empty.
fn meminfo_rows(kernel: &Kernel) -> [(&'static str, u64); 49] {
    let usage = kernel.memory.usage();
    let kib = |pages: u64| pages * (PAGE_BYTES >> 10);
    let cached = kib(usage.file + usage.shmem);
    let free = kib(usage.frames_free);
    let locked = kib(kernel.mm.totals().locked_pages);
    [
        ("MemTotal", kib(usage.frames_total)),
        ("MemFree", free),
        ("MemAvailable", free + kib(usage.file)),
        ("Buffers", 0),
        ("Cached", cached),
        ("SwapCached", 0),
        ("Active", 0),
        ("Inactive", kib(usage.anon) + cached),
        ("Active(anon)", 0),
        ("Inactive(anon)", kib(usage.anon + usage.shmem)),
        ("Active(file)", 0),
        ("Inactive(file)", kib(usage.file)),
        ("Unevictable", locked),
        ("Mlocked", locked),
        ("SwapTotal", 0),
        ("SwapFree", 0),
        ("Zswap", 0),
        ("Zswapped", 0),
        ("Dirty", 0),
        ("Writeback", 0),
        ("AnonPages", kib(usage.anon)),
        ("Mapped", kib(mapped(kernel))),
        ("Shmem", kib(usage.shmem)),
        ("KReclaimable", 0),
        ("Slab", 0),
        ("SReclaimable", 0),
        ("SUnreclaim", 0),
        ("KernelStack", 0),
        ("PageTables", kib(usage.page_table)),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", kib(kernel.memory.commit_limit_pages())),
        ("Committed_AS", kib(usage.committed_pages)),
        ("VmallocTotal", 34_359_738_367),
        ("VmallocUsed", 0),
        ("VmallocChunk", 0),
        ("Percpu", 0),
        ("AnonHugePages", 0),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FileHugePages", 0),
        ("FilePmdMapped", 0),
        ("Hugepagesize", 2048),
        ("Hugetlb", 0),
        ("DirectMap4k", kib(usage.frames_total)),
        ("DirectMap2M", 0),
        ("DirectMap1G", 0),
    ]
}

fn row(text: &mut String, label: &str, kib: u64) {
    let label = format!("{label}:");
    writeln!(text, "{label:<16}{kib:>8} kB").expect("a string takes it");
}

fn mapped(kernel: &Kernel) -> u64 {
    let rss = kernel.mm.rss(&kernel.memory);
    rss.file_pages + rss.shmem_pages
}

fn cpuinfo() -> String {
    let [signature, _, ecx, edx] = cpu::cpuid(1, 0);
    let [highest, ebx, vendor_ecx, vendor_edx] = cpu::cpuid(0, 0);
    let vendor: Vec<u8> =
        [ebx, vendor_edx, vendor_ecx].iter().flat_map(|word| word.to_le_bytes()).collect();
    let base_family = signature >> 8 & 0xf;
    let family = if base_family == 15 { 15 + (signature >> 20 & 0xff) } else { base_family };
    let model = (signature >> 4 & 0xf) | (signature >> 12 & 0xf0);
    format!(
        "processor\t: 0\nvendor_id\t: {}\ncpu family\t: {family}\nmodel\t\t: {model}\n\
         model name\t: {}\nstepping\t: {}\ncpu MHz\t\t: 2000.000\ncache size\t: 1024 KB\n\
         physical id\t: 0\nsiblings\t: 1\ncore id\t\t: 0\ncpu cores\t: 1\napicid\t\t: 0\n\
         initial apicid\t: 0\nfpu\t\t: yes\nfpu_exception\t: yes\ncpuid level\t: {highest}\n\
         wp\t\t: yes\nflags\t\t:{}\nbugs\t\t:\nbogomips\t: 4000.00\nclflush size\t: 64\n\
         cache_alignment\t: 64\naddress sizes\t: 46 bits physical, 48 bits virtual\n\
         power management:\n\n",
        String::from_utf8_lossy(&vendor),
        brand(),
        signature & 0xf,
        flags(ecx, edx),
    )
}

fn brand() -> String {
    let mut text = Vec::new();
    for leaf in 0x8000_0002..=0x8000_0004 {
        text.extend(cpu::cpuid(leaf, 0).iter().flat_map(|word| word.to_le_bytes()));
    }
    let text = String::from_utf8_lossy(&text).into_owned();
    text.trim_matches(|letter: char| letter == '\0' || letter.is_whitespace()).to_string()
}

const EDX_NAMES: [(u32, &str); 20] = [
    (0, "fpu"),
    (3, "pse"),
    (4, "tsc"),
    (5, "msr"),
    (6, "pae"),
    (8, "cx8"),
    (9, "apic"),
    (11, "sep"),
    (13, "pge"),
    (15, "cmov"),
    (16, "pat"),
    (17, "pse36"),
    (19, "clflush"),
    (23, "mmx"),
    (24, "fxsr"),
    (25, "sse"),
    (26, "sse2"),
    (28, "ht"),
    (7, "mce"),
    (14, "mca"),
];
const ECX_NAMES: [(u32, &str); 15] = [
    (0, "pni"),
    (1, "pclmulqdq"),
    (9, "ssse3"),
    (12, "fma"),
    (13, "cx16"),
    (17, "pcid"),
    (19, "sse4_1"),
    (20, "sse4_2"),
    (22, "movbe"),
    (23, "popcnt"),
    (25, "aes"),
    (26, "xsave"),
    (28, "avx"),
    (29, "f16c"),
    (31, "hypervisor"),
];
const LEAF7_NAMES: [(u32, &str); 4] = [(3, "bmi1"), (5, "avx2"), (8, "bmi2"), (29, "sha_ni")];

/// The features of the virtual processor that have a name here.
fn flags(ecx: u32, edx: u32) -> String {
    let [_, leaf7, ..] = cpu::cpuid(7, 0);
    let sets: [(u32, &[(u32, &str)]); 3] =
        [(edx, &EDX_NAMES), (ecx, &ECX_NAMES), (leaf7, &LEAF7_NAMES)];
    let mut text = String::new();
    for (bits, names) in sets {
        for (bit, name) in names.iter().filter(|(bit, _)| bits >> bit & 1 == 1) {
            debug_assert!(*bit < 32, "a register has 32 bits");
            text.push(' ');
            text.push_str(name);
        }
    }
    text
}

fn vmstat(kernel: &Kernel) -> String {
    let usage = kernel.memory.usage();
    let faults = kernel.mm.faults();
    let rows: [(&str, u64); 24] = [
        ("nr_free_pages", usage.frames_free),
        ("nr_inactive_anon", usage.anon + usage.shmem),
        ("nr_active_anon", 0),
        ("nr_inactive_file", usage.file),
        ("nr_active_file", 0),
        ("nr_unevictable", 0),
        ("nr_mlock", kernel.mm.totals().locked_pages),
        ("nr_anon_pages", usage.anon),
        ("nr_mapped", mapped(kernel)),
        ("nr_file_pages", usage.file + usage.shmem),
        ("nr_dirty", 0),
        ("nr_writeback", 0),
        ("nr_shmem", usage.shmem),
        ("nr_page_table_pages", usage.page_table),
        ("pgpgin", 0),
        ("pgpgout", 0),
        ("pswpin", 0),
        ("pswpout", 0),
        ("pgfault", faults.minor + faults.major),
        ("pgmajfault", faults.major),
        ("pgscan_kswapd", 0),
        ("pgscan_direct", 0),
        ("oom_kill", 0),
        ("thp_fault_alloc", 0),
    ];
    rows.iter().map(|(name, value)| format!("{name} {value}\n")).collect()
}

fn buddyinfo(kernel: &Kernel) -> String {
    let mut text = String::from("Node 0, zone   Normal ");
    for count in kernel.memory.free_blocks_by_order() {
        write!(text, "{count:>6} ").expect("a string takes it");
    }
    text.push('\n');
    text
}

/// Virtual time with a task on the CPU and without one, in ticks.
fn busy_and_idle(kernel: &Kernel) -> (u64, u64) {
    let idle_ns = kernel.tasks.idle_ns;
    ((kernel.hw.now_ns().saturating_sub(idle_ns)) / NS_PER_TICK, idle_ns / NS_PER_TICK)
}

fn stat(kernel: &Kernel) -> String {
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

fn loadavg(kernel: &Kernel) -> String {
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

fn uptime(kernel: &Kernel) -> String {
    let hundredths = |ns: u64| {
        let count = ns / NS_PER_TICK;
        format!("{}.{:02}", count / 100, count % 100)
    };
    format!("{} {}\n", hundredths(kernel.hw.now_ns()), hundredths(kernel.tasks.idle_ns))
}
