//! `/proc/PID/maps`, `smaps` and `smaps_rollup`: the VMAs as text.
//!
//! # Source
//! Linux 6.12 `fs/proc/task_mmu.c`; semantics PROC-1 to PROC-3, RSS-2 to RSS-4.

use std::fmt::Write;

use machine::{PAGE_BYTES, VirtAddr};
use mm::{FileKind, Mm, PageCounts, Rights, Sharing, Vma, VmaFlags};

use super::task::Shown;
use super::{PART_BYTES, Part};
use crate::abi::Abi;
use crate::exec;

/// Column at which names start on a 64-bit kernel.
const NAME_COLUMN: usize = 73;
/// Bits behind the point of a share (RSS-2).
const SHARE_BITS: u32 = 12;
const VSYSCALL: &str = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0";

/// How much is told of each VMA.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Detail {
    /// A line: `maps`.
    Lines,
    /// Its pages too: `smaps`.
    Counts,
    /// On which node its pages are: `numa_maps`.
    Nodes,
}

/// Where the part of the page that every process has comes from.
const AT_VSYSCALL: u64 = u64::MAX;

/// The part of `maps` or `smaps` that begins with the first VMA that ends above `from`: about as
/// many bytes as are wanted, at most a page unless one VMA takes more, and never half a VMA.
///
/// # Source
/// Linux 6.12 `fs/seq_file.c:seq_read_iter`.
pub(super) fn part(shown: &Shown<'_>, detail: Detail, from: u64, wanted: usize) -> Part {
    let Some(mm) = shown.mm else { return Part::whole(Vec::new()) };
    let mut text = Vec::new();
    if from != AT_VSYSCALL {
        let mut record = Vec::new();
        for vma in mm.vmas_from(VirtAddr::new(from)) {
            record.clear();
            match detail {
                Detail::Lines => line(&mut record, shown, mm, vma),
                Detail::Counts => counts(&mut record, shown, mm, vma),
                Detail::Nodes => nodes(&mut record, shown, mm, vma),
            }
            let is_full = text.len() >= wanted || text.len() + record.len() >= PART_BYTES;
            if is_full && !text.is_empty() {
                return Part { text, next: Some(vma.range.start.as_u64()) };
            }
            text.extend_from_slice(&record);
        }
    }
    let mut record = Vec::new();
    // No i386 program can see so far.
    if Abi::of(mm) == Abi::X86_64 && detail != Detail::Nodes {
        vsyscall(&mut record, detail);
    }
    let is_full = text.len() >= wanted || text.len() + record.len() >= PART_BYTES;
    if is_full && !text.is_empty() {
        return Part { text, next: Some(AT_VSYSCALL) };
    }
    text.extend_from_slice(&record);
    Part::whole(text)
}

/// A VMA of `smaps`.
fn counts(text: &mut Vec<u8>, shown: &Shown<'_>, mm: &Mm, vma: &Vma) {
    line(text, shown, mm, vma);
    let counts = mm.count_pages(&shown.kernel.hw, &shown.kernel.memory, vma.range);
    let locked = if vma.flags.contains(VmaFlags::LOCKED) { counts.pss_fixed } else { 0 };
    sizes(text, vma.range.bytes() >> 10);
    page_counts(text, &counts, locked, Split::No);
    let codes = flag_codes(vma);
    text.extend_from_slice(format!("THPeligible:           0\nVmFlags: {codes}\n").as_bytes());
}

/// A line of `numa_maps`: there is one node, and no task has a policy of its own.
///
/// # Source
/// Linux 6.12 `fs/proc/task_mmu.c:show_numa_map`.
fn nodes(text: &mut Vec<u8>, shown: &Shown<'_>, mm: &Mm, vma: &Vma) {
    text.extend_from_slice(format!("{:08x} default", vma.range.start.as_u64()).as_bytes());
    let name = shown.kernel.vfs.path_of_mapping(vma);
    match name.as_deref().unwrap_or(exec::vma_name(mm, vma)) {
        b"[heap]" => text.extend_from_slice(b" heap"),
        b"[stack]" => text.extend_from_slice(b" stack"),
        path if vma.backing.file().is_some_and(|file| file.kind != FileKind::Special) => {
            text.extend_from_slice(b" file=");
            for &byte in path {
                match byte {
                    b'\n' | b'\t' | b'=' | b' ' => {
                        text.extend_from_slice(format!("\\{byte:03o}").as_bytes());
                    }
                    _ => text.push(byte),
                }
            }
        }
        _ => {}
    }
    let counts = mm.count_pages(&shown.kernel.hw, &shown.kernel.memory, vma.range);
    let pages = counts.resident;
    let dirty = counts.private_dirty + counts.shared_dirty;
    let figures = [
        ("anon", counts.anonymous, counts.anonymous > 0),
        ("dirty", dirty, dirty > 0),
        ("mapped", pages, pages != counts.anonymous && pages != dirty),
        ("mapmax", counts.map_count_max, counts.map_count_max > 1),
        ("active", counts.active, counts.active < pages),
        ("N0", pages, pages > 0),
        ("kernelpagesize_kB", PAGE_BYTES >> 10, pages > 0),
    ];
    for (label, number, is_told) in figures {
        if is_told && pages > 0 {
            text.extend_from_slice(format!(" {label}={number}").as_bytes());
        }
    }
    text.push(b'\n');
}

fn sizes(text: &mut Vec<u8>, kib: u64) {
    push(text, "Size", kib);
    push(text, "KernelPageSize", PAGE_BYTES >> 10);
    push(text, "MMUPageSize", PAGE_BYTES >> 10);
}

fn vsyscall(text: &mut Vec<u8>, detail: Detail) {
    named(text, VSYSCALL, b"[vsyscall]");
    if detail == Detail::Counts {
        sizes(text, PAGE_BYTES >> 10);
        page_counts(text, &PageCounts::default(), 0, Split::No);
        text.extend_from_slice(b"THPeligible:           0\nVmFlags: ex \n");
    }
}

/// The text of `smaps_rollup`.
pub(super) fn rollup(shown: &Shown<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    let Some(mm) = shown.mm else { return text };
    let mut sum = PageCounts::default();
    let mut locked = 0;
    let (mut start, mut end) = (None, 0);
    for vma in mm.vmas() {
        let counts = mm.count_pages(&shown.kernel.hw, &shown.kernel.memory, vma.range);
        sum.add(&counts);
        if vma.flags.contains(VmaFlags::LOCKED) {
            locked += counts.pss_fixed;
        }
        start.get_or_insert(vma.range.start.as_u64());
        end = vma.range.end.as_u64();
    }
    let head = format!("{:08x}-{end:08x} ---p 00000000 00:00 0", start.unwrap_or(0));
    named(&mut text, &head, b"[rollup]");
    page_counts(&mut text, &sum, locked, Split::Kinds);
    text
}

/// Whether the share of each kind of memory follows the dirty share.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Split {
    No,
    Kinds,
}

/// One line of `maps`, newline included.
fn line(text: &mut Vec<u8>, shown: &Shown<'_>, mm: &Mm, vma: &Vma) {
    let mut head = String::new();
    let (start, end) = (vma.range.start.as_u64(), vma.range.end.as_u64());
    let perms = exec::perms(vma);
    let (device, inode, offset) = match vma.backing.file() {
        Some(file) => (file.device, file.inode, vma.page_offset.wrapping_mul(PAGE_BYTES)),
        None => ((0, 0), 0, 0),
    };
    let offset = if vma.flags.contains(VmaFlags::SPECIAL) { 0 } else { offset };
    let perms = String::from_utf8_lossy(&perms);
    let (major, minor) = device;
    write!(head, "{start:08x}-{end:08x} {perms} {offset:08x} {major:02x}:{minor:02x} {inode}")
        .expect("writing to a string does not fail");
    match shown.kernel.vfs.path_of_mapping(vma) {
        Some(path) => named(text, &head, &path),
        None => named(text, &head, exec::vma_name(mm, vma)),
    }
}

/// Appends a line with its name at the name column; without one, a space ends it.
fn named(text: &mut Vec<u8>, head: &str, name: &[u8]) {
    text.extend_from_slice(head.as_bytes());
    text.push(b' ');
    if !name.is_empty() {
        let pad = NAME_COLUMN.saturating_sub(head.len() + 1);
        text.resize(text.len() + pad, b' ');
        for &byte in name {
            if byte == b'\n' { text.extend_from_slice(b"\\012") } else { text.push(byte) }
        }
    }
    text.push(b'\n');
}

fn push(text: &mut Vec<u8>, label: &str, kib: u64) {
    let label = format!("{label}:");
    text.extend_from_slice(format!("{label:<16}{kib:>8} kB\n").as_bytes());
}

/// A share of pages in KiB.
fn kib_of_share(fixed: u64) -> u64 {
    fixed >> (SHARE_BITS + 10)
}

fn page_counts(text: &mut Vec<u8>, counts: &PageCounts, locked_fixed: u64, split: Split) {
    let kib = PAGE_BYTES >> 10;
    push(text, "Rss", counts.resident * kib);
    push(text, "Pss", kib_of_share(counts.pss_fixed));
    push(text, "Pss_Dirty", kib_of_share(counts.pss_dirty_fixed));
    if split == Split::Kinds {
        push(text, "Pss_Anon", kib_of_share(counts.pss_anon_fixed));
        push(text, "Pss_File", kib_of_share(counts.pss_file_fixed));
        push(text, "Pss_Shmem", kib_of_share(counts.pss_shmem_fixed));
    }
    push(text, "Shared_Clean", counts.shared_clean * kib);
    push(text, "Shared_Dirty", counts.shared_dirty * kib);
    push(text, "Private_Clean", counts.private_clean * kib);
    push(text, "Private_Dirty", counts.private_dirty * kib);
    push(text, "Referenced", counts.referenced * kib);
    push(text, "Anonymous", counts.anonymous * kib);
    push(text, "KSM", 0);
    push(text, "LazyFree", counts.lazy_free * kib);
    for label in ["AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"] {
        push(text, label, 0);
    }
    push(text, "Shared_Hugetlb", 0);
    text.extend_from_slice(b"Private_Hugetlb:       0 kB\n");
    push(text, "Swap", counts.swap * kib);
    push(text, "SwapPss", kib_of_share(counts.swap_pss_fixed));
    push(text, "Locked", kib_of_share(locked_fixed));
}

/// The two-letter codes of `VmFlags`, in the order of the bits.
fn flag_codes(vma: &Vma) -> String {
    let flag = |flag| vma.flags.contains(flag);
    let is_shared = vma.sharing == Sharing::Shared;
    let may_write = vma.may.contains(Rights::WRITE);
    let codes = [
        (vma.rights.contains(Rights::READ), "rd"),
        (vma.rights.contains(Rights::WRITE), "wr"),
        (vma.rights.contains(Rights::EXECUTE), "ex"),
        (is_shared && may_write, "sh"),
        (vma.may.contains(Rights::READ), "mr"),
        (may_write, "mw"),
        (vma.may.contains(Rights::EXECUTE), "me"),
        (is_shared, "ms"),
        (flag(VmaFlags::GROWS_DOWN), "gd"),
        (flag(VmaFlags::PFN_MAP), "pf"),
        (flag(VmaFlags::LOCKED), "lo"),
        (flag(VmaFlags::IO), "io"),
        (flag(VmaFlags::SEQUENTIAL), "sr"),
        (flag(VmaFlags::RANDOM), "rr"),
        (flag(VmaFlags::DONT_FORK), "dc"),
        (flag(VmaFlags::DONT_EXPAND), "de"),
        (flag(VmaFlags::LOCK_ON_FAULT), "lf"),
        (flag(VmaFlags::ACCOUNT), "ac"),
        (flag(VmaFlags::NO_RESERVE), "nr"),
        (flag(VmaFlags::WIPE_ON_FORK), "wf"),
        (flag(VmaFlags::DONT_DUMP), "dd"),
        (flag(VmaFlags::HUGE_PAGE), "hg"),
        (flag(VmaFlags::NO_HUGE_PAGE), "nh"),
        (flag(VmaFlags::MERGEABLE), "mg"),
    ];
    codes.iter().filter(|code| code.0).map(|code| format!("{} ", code.1)).collect()
}
