//! The memory of the machine: `meminfo`, `buddyinfo`, `zoneinfo` and their like.
//!
//! There is one node. Without swap nothing is known of the use of private pages.
//!
//! # Source
//! Linux 6.12 `fs/proc/meminfo.c`, `mm/vmstat.c`, `drivers/base/node.c`; semantics PROC-8 to 11.

use std::fmt::Write;

use machine::{Geometry, PAGE_BYTES, PAGE_SHIFT, PageSize};
use mm::ZoneInfo;
use mm::kernel_space::{Region, RegionKind};

use super::slabs;
use super::vmstat::{NODE_NAMES, NUMA_NAMES, ZONE_NAMES, vmstat_value};
use crate::abi::KernelKind;
use crate::{Kernel, SwapKind};

pub(super) const KIB_PER_PAGE: u64 = PAGE_BYTES >> 10;

/// Pages of VMAs that are locked, of all processes.
pub(super) fn locked_pages(kernel: &Kernel) -> u64 {
    let others = kernel.tasks.mms.parts().map(|mm| mm.totals().locked_pages);
    others.sum::<u64>() + kernel.mm.totals().locked_pages
}

/// Pages on the lists of reclaim: inactive and active private ones, inactive and active ones of
/// files.
pub(super) fn lists(kernel: &Kernel) -> [u64; 4] {
    kernel.memory.lru_counts()
}

/// Pages that programs could have without swapping (PROC-8).
fn available_pages(kernel: &Kernel) -> u64 {
    let (usage, marks) = (kernel.memory.usage(), kernel.memory.watermarks());
    let cached = usage.file.saturating_sub(kernel.memory.dirty_pages());
    let kept = (cached / 2).min(marks.low);
    usage.frames_free.saturating_sub(marks.high) + cached - kept
}

/// The text of `meminfo`.
pub(super) fn meminfo(kernel: &Kernel) -> String {
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

/// KiB of the direct map that pages of this size map.
fn direct_map_kib(kernel: &Kernel, size: PageSize) -> u64 {
    kernel.memory.kernel_space().map_or(0, |space| space.direct_map_bytes(size)) >> 10
}

/// KiB of address space for `vmalloc` (`VMALLOC_TOTAL`).
fn vmalloc_kib(kernel: &Kernel) -> u64 {
    let region = kernel.memory.kernel_space().and_then(|space| space.region(RegionKind::Vmalloc));
    let bytes = region.map_or(0, Region::bytes);
    // The end that kernels of 64 bits count with is the last byte.
    let end_bytes = u64::from(kernel.kind == KernelKind::X86_64);
    bytes.saturating_sub(end_bytes) >> 10
}

/// How much of RAM a kernel of 32 bits has addresses for, and how much it has not.
fn high_rows(kernel: &Kernel) -> Vec<(&'static str, u64)> {
    if kernel.kind == KernelKind::X86_64 {
        return Vec::new();
    }
    let (usage, high) = (kernel.memory.usage(), kernel.memory.highmem_frames());
    let kib = |frames: u64| frames * KIB_PER_PAGE;
    vec![
        ("HighTotal", kib(high.total)),
        ("HighFree", kib(high.free)),
        ("LowTotal", kib(usage.frames_total - high.total)),
        ("LowFree", kib(usage.frames_free - high.free)),
    ]
}

/// Label and value in KiB of every line but those of the pool of huge pages, which is empty.
fn meminfo_rows(kernel: &Kernel) -> Vec<(&'static str, u64)> {
    let mut rows = common_rows(kernel).to_vec();
    let swap = rows.iter().position(|row| row.0 == "SwapTotal").unwrap_or(rows.len());
    rows.splice(swap..swap, high_rows(kernel));
    let sizes = match kernel.hw.geometry() {
        Geometry::I386 => [("DirectMap4k", PageSize::K4), ("DirectMap4M", PageSize::M4)].as_slice(),
        Geometry::Pae => &[("DirectMap4k", PageSize::K4), ("DirectMap2M", PageSize::M2)],
        Geometry::X86_64 | Geometry::La57 => &[
            ("DirectMap4k", PageSize::K4),
            ("DirectMap2M", PageSize::M2),
            ("DirectMap1G", PageSize::G1),
        ],
    };
    rows.extend(sizes.iter().map(|&(label, size)| (label, direct_map_kib(kernel, size))));
    rows
}

/// The rows that all kernels have, before those of the direct map.
fn common_rows(kernel: &Kernel) -> [(&'static str, u64); 46] {
    let usage = kernel.memory.usage();
    let kib = |pages: u64| pages * (PAGE_BYTES >> 10);
    let cached = kib(usage.file + usage.shmem);
    let free = kib(usage.frames_free);
    let locked = kib(locked_pages(kernel));
    let [inactive_anon, active_anon, inactive_file, active_file] = lists(kernel).map(kib);
    let swap = kernel.memory.swap_usage();
    let slab_reclaimable = slabs::reclaimable_pages(kernel);
    [
        ("MemTotal", kib(usage.frames_total)),
        ("MemFree", free),
        ("MemAvailable", kib(available_pages(kernel))),
        ("Buffers", 0),
        ("Cached", cached),
        ("SwapCached", kib(swap.cached)),
        ("Active", active_anon + active_file),
        ("Inactive", inactive_anon + inactive_file),
        ("Active(anon)", active_anon),
        ("Inactive(anon)", inactive_anon),
        ("Active(file)", active_file),
        ("Inactive(file)", inactive_file),
        ("Unevictable", locked),
        ("Mlocked", locked),
        ("SwapTotal", kib(swap.total)),
        ("SwapFree", kib(swap.total - swap.used)),
        ("Zswap", kib(kernel.memory.zswap_usage().frames)),
        ("Zswapped", kib(kernel.memory.zswap_usage().pages)),
        ("Dirty", kib(kernel.memory.dirty_pages())),
        ("Writeback", 0),
        ("AnonPages", kib(usage.anon)),
        ("Mapped", kib(kernel.memory.mapped_pages())),
        ("Shmem", kib(usage.shmem)),
        ("KReclaimable", kib(slab_reclaimable)),
        ("Slab", kib(usage.slab)),
        ("SReclaimable", kib(slab_reclaimable)),
        ("SUnreclaim", kib(usage.slab - slab_reclaimable)),
        ("KernelStack", kernel.objects.stack_kib()),
        ("PageTables", kib(usage.page_table)),
        ("SecPageTables", 0),
        ("NFS_Unstable", 0),
        ("Bounce", 0),
        ("WritebackTmp", 0),
        ("CommitLimit", kib(kernel.memory.commit_limit_pages())),
        ("Committed_AS", kib(usage.committed_pages)),
        ("VmallocTotal", vmalloc_kib(kernel)),
        ("VmallocUsed", kib(usage.vmalloc)),
        ("VmallocChunk", 0),
        ("Percpu", 0),
        ("AnonHugePages", 0),
        ("ShmemHugePages", 0),
        ("ShmemPmdMapped", 0),
        ("FileHugePages", 0),
        ("FilePmdMapped", 0),
        ("Hugepagesize", 2048),
        ("Hugetlb", 0),
    ]
}

fn row(text: &mut String, label: &str, kib: u64) {
    let label = format!("{label}:");
    writeln!(text, "{label:<16}{kib:>8} kB").expect("a string takes it");
}

/// The labels of a node's `meminfo`, in order; `MemUsed` and `FilePages` are its own.
const NODE_ROWS: [&str; 27] = [
    "SwapCached",
    "Active",
    "Inactive",
    "Active(anon)",
    "Inactive(anon)",
    "Active(file)",
    "Inactive(file)",
    "Unevictable",
    "Mlocked",
    "Dirty",
    "Writeback",
    "FilePages",
    "Mapped",
    "AnonPages",
    "Shmem",
    "KernelStack",
    "PageTables",
    "SecPageTables",
    "NFS_Unstable",
    "Bounce",
    "WritebackTmp",
    "KReclaimable",
    "Slab",
    "SReclaimable",
    "SUnreclaim",
    "AnonHugePages",
    "ShmemHugePages",
];

/// The text of `meminfo` of node 0.
pub(super) fn node_meminfo(kernel: &Kernel) -> String {
    let rows = meminfo_rows(kernel);
    let value = |label: &str| {
        let label = if label == "FilePages" { "Cached" } else { label };
        rows.iter().find(|row| row.0 == label).map_or(0, |row| row.1)
    };
    let (total, free) = (value("MemTotal"), value("MemFree"));
    let mut text = String::new();
    let mut line = |label: &str, kib: u64| {
        let label = format!("{label}:");
        writeln!(text, "Node 0 {label:<15} {kib:>8} kB").expect("a string takes it");
    };
    line("MemTotal", total);
    line("MemFree", free);
    line("MemUsed", total - free);
    for label in NODE_ROWS {
        line(label, value(label));
    }
    for label in ["ShmemPmdMapped", "FileHugePages", "FilePmdMapped"] {
        line(label, 0);
    }
    for label in ["Total", "Free", "Surp"] {
        writeln!(text, "Node 0 HugePages_{label}: {:>5}", 0).expect("a string takes it");
    }
    text
}

/// The text of `numastat` of node 0.
pub(super) fn node_numastat(kernel: &Kernel) -> String {
    let taken = kernel.memory.events().frames_taken;
    format!(
        "numa_hit {taken}\nnuma_miss 0\nnuma_foreign 0\ninterleave_hit 0\nlocal_node {taken}\n\
         other_node 0\n"
    )
}

/// Whether pages that leave are compressed in RAM first.
pub(super) fn zswap_enabled(kernel: &Kernel) -> String {
    if kernel.memory.zswap_usage().percent > 0 { "Y\n" } else { "N\n" }.to_owned()
}

/// How much of RAM they may take.
pub(super) fn zswap_percent(kernel: &Kernel) -> String {
    format!("{}\n", kernel.memory.zswap_usage().percent)
}

/// The text of `zoneinfo`: the figures of the node stand with its first zone.
pub(super) fn zoneinfo(kernel: &Kernel) -> String {
    let zones = kernel.memory.zones();
    let mut text = String::new();
    for (at, zone) in zones.iter().enumerate() {
        writeln!(text, "Node 0, zone {:>8}", zone.kind.name()).expect("a string takes it");
        if at == 0 {
            text.push_str("  per-node stats\n");
            for name in NODE_NAMES {
                stat(&mut text, name, vmstat_value(kernel, name));
            }
        }
        zone_marks(&mut text, zone);
        let lists = kernel.memory.zone_lists(zone);
        for name in ZONE_NAMES.iter().chain(&NUMA_NAMES) {
            let value = match *name {
                "nr_free_pages" => zone.free,
                "nr_zone_inactive_anon" => lists[0],
                "nr_zone_active_anon" => lists[1],
                "nr_zone_inactive_file" => lists[2],
                "nr_zone_active_file" => lists[3],
                "nr_zone_unevictable" => lists[4],
                // Not counted by zone: all of it stands with the one that is used first.
                name if at + 1 == zones.len() => vmstat_value(kernel, name),
                _ => 0,
            };
            stat(&mut text, name, value);
        }
        text.push_str(
            "  pagesets\n    cpu: 0\n              count:    0\n              high:     0\n\
             \x20             batch:    1\n              high_min: 0\n              high_max: 0\n\
             \x20 vm stats threshold: 0\n",
        );
        writeln!(text, "  node_unreclaimable:  0\n  start_pfn:           {}", zone.first_frame)
            .expect("a string takes it");
    }
    text
}

fn stat(text: &mut String, name: &str, value: u64) {
    writeln!(text, "      {name:<12} {value}").expect("a string takes it");
}

/// The lines of a zone from its free pages to its reserve.
fn zone_marks(text: &mut String, zone: &ZoneInfo) {
    let (marks, frames) = (zone.marks, zone.frame_count);
    let promo = marks.high + (marks.high - marks.low);
    let protection = zone.protection.map(|pages| pages.to_string()).join(", ");
    write!(
        text,
        "  pages free     {}\n        boost    0\n        min      {}\n        low      {}\n\
         \x20       high     {}\n        promo    {promo}\n        spanned  {frames}\n\
         \x20       present  {frames}\n        managed  {frames}\n        cma      0\n\
         \x20       protection: ({protection})\n",
        zone.free, marks.min, marks.low, marks.high,
    )
    .expect("a string takes it");
}

/// The text of `swaps`.
pub(super) fn swaps(kernel: &Kernel) -> String {
    let mut text = String::from("Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n");
    for area in kernel.memory.swap_areas() {
        let Some(named) = kernel.swap_areas.iter().find(|named| named.id == area.id) else {
            continue;
        };
        let swap = area.usage;
        // A number that fills its column needs one tab less.
        let column = |kib: u64| if kib < 10_000_000 { format!("{kib}\t") } else { kib.to_string() };
        let (total, used) = (column(swap.total * KIB_PER_PAGE), column(swap.used * KIB_PER_PAGE));
        let name = String::from_utf8_lossy(&named.path);
        let kind = if named.kind == SwapKind::File { "file\t" } else { "partition" };
        writeln!(text, "{name:<39} {kind}\t{total}\t{used}\t{}", area.priority)
            .expect("a string takes it");
    }
    text
}

/// The text of `iomem`: only root sees where things are.
pub(super) fn iomem(kernel: &Kernel) -> String {
    let is_shown = kernel.fs.credentials.uid == 0;
    let line = |first: u64, bytes: u64, name| {
        let (first, last) = if is_shown { (first, first + bytes - 1) } else { (0, 0) };
        format!("{first:08x}-{last:08x} : {name}\n")
    };
    let mut text = line(0, kernel.memory.usage().frames_total << PAGE_SHIFT, "System RAM");
    if let Some((first, bytes)) = kernel.testmem_range() {
        text += &line(first.as_u64(), bytes, crate::testmem::NAME);
    }
    if let Some((array, first)) = kernel.memory.vmemmap() {
        text += &line(first.start().as_u64(), array.bytes(), "Reserved");
    }
    text
}
