//! The map of an i386 kernel, computed from the top down as its headers do.
//!
//! # Source
//! Linux 6.12 `arch/x86/include/asm/pgtable_32_areas.h`, `fixmap.h`, `arch/x86/mm/init_32.c`
//! (`find_low_pfn_range`), `parse_vmalloc`; Linux 4.4 `pgtable_32_types.h`; semantics I386-1 to
//! I386-5. Checked against boot messages: 4.4 with 8 CPUs has fixmap at `0xfff15000`, pkmap at
//! `0xff800000`, 887 MB of lowmem, 891 MB with PAE.

use alloc::vec;

use machine::{Geometry, PAGE_BYTES};

use super::{KernelSpace, RegionKind, Release, SpaceConfig, SpaceError, cover, part};

/// The last page of all stays empty: the fixmap ends below it.
const FIXADDR_TOP: u64 = 0xffff_f000;
/// The hole between lowmem and vmalloc.
const VMALLOC_OFFSET: u64 = 8 << 20;
/// Kept for vmalloc however much RAM there is.
const VMALLOC_RESERVE: u64 = 128 << 20;
/// Fixed addresses besides those of `kmap_local`: APIC, 64 I/O APICs, debug port, PCI, ...
const FIXED_SLOTS: u64 = 74;
/// Those of them above `kmap_local`: a hole, debug port, console, FireWire, APIC, 64 I/O APICs.
const FIXED_SLOTS_ABOVE: u64 = 69;
/// The first slot of `kmap_local`: `FIX_KMAP_BEGIN`.
pub(super) const KMAP_LOCAL_FIRST: u64 = FIXADDR_TOP - FIXED_SLOTS_ABOVE * PAGE_BYTES;
/// Slots of `early_ioremap`, in one table of level 1.
const EARLY_SLOTS: u64 = 512;
/// Pages of one CPU's entry area.
const CPU_ENTRY_PAGES: u64 = 43;
/// The splits that a kernel can be built with (`CONFIG_VMSPLIT_*`), the usual one first.
const SPLITS: [u64; 5] = [0xc000_0000, 0xb000_0000, 0x8000_0000, 0x7800_0000, 0x4000_0000];
/// The least lowmem that a kernel starts with.
const LOW_BYTES_MIN: u64 = 16 << 20;

/// Where the areas above vmalloc begin.
struct Top {
    fixmap: u64,
    cpu_entry: Option<u64>,
    ldt: Option<u64>,
    pkmap: u64,
    vmalloc_end: u64,
}

pub(super) fn space(config: SpaceConfig) -> Result<KernelSpace, SpaceError> {
    let is_pae = config.geometry == Geometry::Pae;
    let physical_bytes = 1 << config.geometry.physical_bits();
    if is_pae && config.ram_bytes > physical_bytes {
        return Err(SpaceError::RamTooLarge(config.ram_bytes));
    }
    let page_offset = config.page_offset.unwrap_or(SPLITS[0]);
    if !SPLITS.contains(&page_offset) || is_pae && !page_offset.is_multiple_of(1 << 30) {
        return Err(SpaceError::PageOffset(page_offset));
    }
    let per_cpu = if config.release == Release::V4_4 { 20 } else { 16 };
    let kmap_local_slots = per_cpu * config.cpus;
    let pkmap_slots = if is_pae { 512 } else { 1024 };
    let top = top(config, kmap_local_slots, pkmap_slots);
    // A number of the command line has the hole added, the default includes it.
    let reserve = match config.vmalloc_bytes {
        Some(bytes) => bytes.saturating_add(VMALLOC_OFFSET),
        None => VMALLOC_RESERVE,
    };
    let limit_bytes = (top.vmalloc_end - page_offset).saturating_sub(reserve) & !(PAGE_BYTES - 1);
    if limit_bytes < LOW_BYTES_MIN || config.vmalloc_bytes == Some(0) {
        return Err(SpaceError::Vmalloc(config.vmalloc_bytes.unwrap_or(0)));
    }
    let low_bytes = config.ram_bytes.min(limit_bytes);
    // Without PAE a frame has 20 bits: RAM above 4 GiB is lost.
    let high_bytes = config.ram_bytes.min(physical_bytes) - low_bytes;
    let low_end = page_offset + low_bytes;
    let vmalloc_start = low_end + VMALLOC_OFFSET;
    let mut parts = vec![
        part(RegionKind::User, 0, page_offset - 1),
        part(RegionKind::DirectMap, page_offset, low_end - 1),
        part(RegionKind::Guard, low_end, vmalloc_start - 1),
        part(RegionKind::Vmalloc, vmalloc_start, top.vmalloc_end - 1),
        part(RegionKind::Guard, top.vmalloc_end, top.pkmap - 1),
        part(RegionKind::Pkmap, top.pkmap, top.pkmap + pkmap_slots * PAGE_BYTES - 1),
        part(RegionKind::Fixmap, top.fixmap, FIXADDR_TOP - 1),
        part(RegionKind::Guard, FIXADDR_TOP, u64::from(u32::MAX)),
    ];
    if let (Some(cpu_entry), Some(ldt)) = (top.cpu_entry, top.ldt) {
        let pages = CPU_ENTRY_PAGES * config.cpus + 1;
        let span = config.geometry.span_bytes(2);
        let entry_end = cpu_entry + pages * PAGE_BYTES;
        parts.push(part(RegionKind::CpuEntryArea, cpu_entry, entry_end - 1));
        parts.push(part(RegionKind::LdtRemap, ldt, ldt + span - 1));
    }
    Ok(KernelSpace {
        config,
        regions: cover(parts, u32::MAX.into()),
        page_offset,
        low_bytes,
        high_bytes,
        limit_bytes,
        pkmap_slots,
        kmap_local_slots,
    })
}

/// The areas between the end of vmalloc and the end of all.
fn top(config: SpaceConfig, kmap_local_slots: u64, pkmap_slots: u64) -> Top {
    let span = config.geometry.span_bytes(2);
    let down = |addr: u64| addr & !(span - 1);
    let permanent = FIXED_SLOTS + kmap_local_slots;
    let permanent_start = FIXADDR_TOP - permanent * PAGE_BYTES;
    if config.release == Release::V4_4 {
        let pkmap = down(permanent_start - PAGE_BYTES * (pkmap_slots + 1));
        let vmalloc_end = pkmap - 2 * PAGE_BYTES;
        return Top { fixmap: permanent_start, cpu_entry: None, ldt: None, pkmap, vmalloc_end };
    }
    // The early slots must lie in one table: they begin at a multiple of their number otherwise.
    let entries = config.geometry.entries(1);
    let is_split = permanent / entries != (permanent + EARLY_SLOTS - 1) / entries;
    let early = match is_split {
        true => permanent + EARLY_SLOTS - permanent % EARLY_SLOTS,
        false => permanent,
    };
    // And one slot behind them, for the test of write protection.
    let fixmap = FIXADDR_TOP - (early + EARLY_SLOTS + 1) * PAGE_BYTES;
    // And one page for the read-only IDT.
    let cpu_entry = down(fixmap - PAGE_BYTES * (CPU_ENTRY_PAGES * config.cpus + 1));
    let ldt = down(cpu_entry - PAGE_BYTES);
    let pkmap = down(ldt - PAGE_BYTES);
    let (cpu_entry, ldt) = (Some(cpu_entry), Some(ldt));
    Top { fixmap, cpu_entry, ldt, pkmap, vmalloc_end: pkmap - 2 * PAGE_BYTES }
}
