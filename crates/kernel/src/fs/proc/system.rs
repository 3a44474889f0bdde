//! The files of `/proc` that describe the machine: its memory, its processor, its time.
//!
//! # Source
//! Linux 6.12 `fs/proc/*.c`; semantics PROC-8 to PROC-13.

use std::fmt::Write;

use machine::PAGE_BYTES;

use crate::Kernel;

/// Ticks of `/proc` times per second (`USER_HZ`).
const NS_PER_TICK: u64 = 10_000_000;

/// The text of a file below `/proc` that is about the whole machine; `path` has no leading slash.
pub(super) fn file(kernel: &Kernel, path: &str) -> Option<Vec<u8>> {
    let text = match path {
        "meminfo" => meminfo(kernel),
        "cpuinfo" => cpuinfo(),
        "vmstat" => vmstat(kernel),
        "buddyinfo" => buddyinfo(kernel),
        "stat" => stat(kernel),
        "uptime" => uptime(kernel),
        "loadavg" => "0.00 0.00 0.00 1/1 1000\n".to_string(),
        "version" => "Linux version 6.12.0-faultline (faultline) #1 SMP PREEMPT_DYNAMIC\n".into(),
        "filesystems" => "nodev\tproc\nnodev\ttmpfs\n\text4\n".to_string(),
        "mounts" => MOUNTS.to_string(),
        "swaps" => "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_string(),
        _ => setting(kernel, path.strip_prefix("sys/")?)?,
    };
    Some(text.into_bytes())
}

/// The names that [`file`] knows.
pub(super) const NAMES: [&str; 11] = [
    "buddyinfo",
    "cpuinfo",
    "filesystems",
    "loadavg",
    "meminfo",
    "mounts",
    "stat",
    "swaps",
    "uptime",
    "version",
    "vmstat",
];

/// The names below `/proc/sys` that [`file`] knows.
pub(super) const SETTINGS: [&str; 18] = [
    "vm/overcommit_memory",
    "vm/overcommit_ratio",
    "vm/max_map_count",
    "vm/mmap_min_addr",
    "vm/swappiness",
    "vm/page-cluster",
    "vm/min_free_kbytes",
    "vm/legacy_va_layout",
    "kernel/randomize_va_space",
    "kernel/osrelease",
    "kernel/ostype",
    "kernel/version",
    "kernel/hostname",
    "kernel/pid_max",
    "kernel/threads-max",
    "kernel/cap_last_cap",
    "kernel/ngroups_max",
    "fs/pipe-max-size",
];

const MOUNTS: &str = "/dev/root / ext4 rw,relatime 0 0\n\
    proc /proc proc rw,relatime 0 0\n\
    tmpfs /dev tmpfs rw,relatime 0 0\n";

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

fn stat(kernel: &Kernel) -> String {
    let ticks = kernel.hw.now_ns() / NS_PER_TICK;
    let boot = kernel.hw.boot_seconds();
    format!(
        "cpu  {ticks} 0 0 0 0 0 0 0 0 0\ncpu0 {ticks} 0 0 0 0 0 0 0 0 0\nintr 0\nctxt 0\n\
         btime {boot}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n"
    )
}

fn uptime(kernel: &Kernel) -> String {
    let centiseconds = kernel.hw.now_ns() / NS_PER_TICK;
    format!("{}.{:02} 0.00\n", centiseconds / 100, centiseconds % 100)
}
