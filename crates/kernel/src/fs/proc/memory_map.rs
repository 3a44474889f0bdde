//! `/proc/PID/maps`, `smaps` and `smaps_rollup`: the VMAs as text.
//!
//! # Source
//! Linux 6.12 `fs/proc/task_mmu.c`; semantics PROC-1 to PROC-3, RSS-2 to RSS-4.

use std::fmt::Write;

use machine::PAGE_BYTES;
use mm::{Mm, PageCounts, Rights, Sharing, Vma, VmaFlags};

use crate::Kernel;
use crate::exec;

/// Column at which names start on a 64-bit kernel.
const NAME_COLUMN: usize = 73;
const VSYSCALL: &str = "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0";

/// The text of `maps`.
pub(super) fn maps(kernel: &Kernel) -> Vec<u8> {
    let mut text = Vec::new();
    let mm = &kernel.mm;
    for vma in mm.vmas() {
        line(&mut text, mm, vma);
    }
    named(&mut text, VSYSCALL, b"[vsyscall]");
    text
}

/// The text of `smaps`.
pub(super) fn smaps(kernel: &Kernel) -> Vec<u8> {
    let mut text = Vec::new();
    let mm = &kernel.mm;
    for vma in mm.vmas() {
        line(&mut text, mm, vma);
        let counts = mm.count_pages(&kernel.hw, &kernel.memory, vma.range);
        let locked = if vma.flags.contains(VmaFlags::LOCKED) { pss(&counts) } else { 0 };
        push(&mut text, "Size", vma.range.bytes() >> 10);
        push(&mut text, "KernelPageSize", PAGE_BYTES >> 10);
        push(&mut text, "MMUPageSize", PAGE_BYTES >> 10);
        page_counts(&mut text, &counts, locked, Split::None);
        let codes = flag_codes(vma);
        text.extend_from_slice(format!("THPeligible:           0\nVmFlags: {codes}\n").as_bytes());
    }
    named(&mut text, VSYSCALL, b"[vsyscall]");
    let empty = PageCounts::default();
    push(&mut text, "Size", PAGE_BYTES >> 10);
    push(&mut text, "KernelPageSize", PAGE_BYTES >> 10);
    push(&mut text, "MMUPageSize", PAGE_BYTES >> 10);
    page_counts(&mut text, &empty, 0, Split::None);
    text.extend_from_slice(b"THPeligible:           0\nVmFlags: ex \n");
    text
}

/// The text of `smaps_rollup`.
pub(super) fn smaps_rollup(kernel: &Kernel) -> Vec<u8> {
    let mm = &kernel.mm;
    let mut sum = PageCounts::default();
    let (mut locked, mut anon, mut shmem) = (0, 0, 0);
    let (mut start, mut end) = (None, 0);
    for vma in mm.vmas() {
        let counts = mm.count_pages(&kernel.hw, &kernel.memory, vma.range);
        add(&mut sum, &counts);
        if vma.flags.contains(VmaFlags::LOCKED) {
            locked += pss(&counts);
        }
        anon += counts.anonymous;
        shmem += counts.shmem;
        start.get_or_insert(vma.range.start.as_u64());
        end = vma.range.end.as_u64();
    }
    let mut text = Vec::new();
    let head = format!("{:08x}-{end:08x} ---p 00000000 00:00 0", start.unwrap_or(0));
    named(&mut text, &head, b"[rollup]");
    let page_kib = PAGE_BYTES >> 10;
    let (anon, shmem) = (anon * page_kib, shmem * page_kib);
    let file = pss(&sum).saturating_sub(anon + shmem);
    page_counts(&mut text, &sum, locked, Split::Kinds { anon, file, shmem });
    text
}

/// Whether the share of each kind of memory follows the dirty share.
#[derive(Clone, Copy)]
enum Split {
    None,
    Kinds { anon: u64, file: u64, shmem: u64 },
}

/// One line of `maps`, newline included.
fn line(text: &mut Vec<u8>, mm: &Mm, vma: &Vma) {
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
    named(text, &head, exec::vma_name(mm, vma));
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

fn pss(counts: &PageCounts) -> u64 {
    counts.pss_sub_pages >> 10
}

fn page_counts(text: &mut Vec<u8>, counts: &PageCounts, locked: u64, split: Split) {
    let kib = PAGE_BYTES >> 10;
    push(text, "Rss", counts.resident * kib);
    push(text, "Pss", pss(counts));
    push(text, "Pss_Dirty", counts.pss_dirty_sub_pages >> 10);
    if let Split::Kinds { anon, file, shmem } = split {
        push(text, "Pss_Anon", anon);
        push(text, "Pss_File", file);
        push(text, "Pss_Shmem", shmem);
    }
    push(text, "Shared_Clean", counts.shared_clean * kib);
    push(text, "Shared_Dirty", counts.shared_dirty * kib);
    push(text, "Private_Clean", counts.private_clean * kib);
    push(text, "Private_Dirty", counts.private_dirty * kib);
    push(text, "Referenced", counts.referenced * kib);
    push(text, "Anonymous", counts.anonymous * kib);
    for label in ["KSM", "LazyFree", "AnonHugePages", "ShmemPmdMapped", "FilePmdMapped"] {
        push(text, label, 0);
    }
    push(text, "Shared_Hugetlb", 0);
    text.extend_from_slice(b"Private_Hugetlb:       0 kB\n");
    push(text, "Swap", counts.swap * kib);
    push(text, "SwapPss", counts.swap * kib);
    push(text, "Locked", locked);
}

fn add(sum: &mut PageCounts, counts: &PageCounts) {
    sum.resident += counts.resident;
    sum.pss_sub_pages += counts.pss_sub_pages;
    sum.pss_dirty_sub_pages += counts.pss_dirty_sub_pages;
    sum.shared_clean += counts.shared_clean;
    sum.shared_dirty += counts.shared_dirty;
    sum.private_clean += counts.private_clean;
    sum.private_dirty += counts.private_dirty;
    sum.referenced += counts.referenced;
    sum.anonymous += counts.anonymous;
    sum.swap += counts.swap;
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
    ];
    codes.iter().filter(|code| code.0).map(|code| format!("{} ", code.1)).collect()
}
