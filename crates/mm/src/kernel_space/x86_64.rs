//! The map of an x86-64 kernel with tables of four or five levels, without randomness.
//!
//! # Source
//! Linux 6.12 `Documentation/arch/x86/x86_64/mm.rst`; Linux 4.4
//! `Documentation/x86/x86_64/mm.txt`; semantics K64-1 to K64-3.

use alloc::vec;
use alloc::vec::Vec;

use machine::Geometry;

use super::{KernelSpace, Region, RegionKind, Release, SpaceConfig, SpaceError, cover, part};

/// Bases that depend on release and levels, each with its last byte.
struct Bases {
    user_last: u64,
    kernel_first: u64,
    ldt: Option<(u64, u64)>,
    direct: (u64, u64),
    vmalloc: (u64, u64),
    vmemmap: (u64, u64),
    kasan: (u64, u64),
}

const OLD: Bases = Bases {
    user_last: 0x0000_7fff_ffff_ffff,
    kernel_first: 0xffff_8000_0000_0000,
    ldt: None,
    direct: (0xffff_8800_0000_0000, 0xffff_c7ff_ffff_ffff),
    vmalloc: (0xffff_c900_0000_0000, 0xffff_e8ff_ffff_ffff),
    vmemmap: (0xffff_ea00_0000_0000, 0xffff_eaff_ffff_ffff),
    kasan: (0xffff_ec00_0000_0000, 0xffff_fbff_ffff_ffff),
};

const FOUR: Bases = Bases {
    ldt: Some((0xffff_8800_0000_0000, 0xffff_887f_ffff_ffff)),
    direct: (0xffff_8880_0000_0000, 0xffff_c87f_ffff_ffff),
    ..OLD
};

const FIVE: Bases = Bases {
    user_last: 0x00ff_ffff_ffff_ffff,
    kernel_first: 0xff00_0000_0000_0000,
    ldt: Some((0xff10_0000_0000_0000, 0xff10_ffff_ffff_ffff)),
    direct: (0xff11_0000_0000_0000, 0xff90_ffff_ffff_ffff),
    vmalloc: (0xffa0_0000_0000_0000, 0xffd1_ffff_ffff_ffff),
    vmemmap: (0xffd4_0000_0000_0000, 0xffd5_ffff_ffff_ffff),
    kasan: (0xffdf_0000_0000_0000, 0xffff_fbff_ffff_ffff),
};

/// The parts above, the same with four and five levels.
const TOP: [Region; 6] = [
    part(RegionKind::CpuEntryArea, 0xffff_fe00_0000_0000, 0xffff_fe7f_ffff_ffff),
    part(RegionKind::Espfix, 0xffff_ff00_0000_0000, 0xffff_ff7f_ffff_ffff),
    part(RegionKind::Efi, 0xffff_ffef_0000_0000, 0xffff_fffe_ffff_ffff),
    part(RegionKind::KernelText, 0xffff_ffff_8000_0000, 0xffff_ffff_9fff_ffff),
    part(RegionKind::Modules, 0xffff_ffff_a000_0000, 0xffff_ffff_feff_ffff),
    part(RegionKind::Fixmap, 0xffff_ffff_ff00_0000, 0xffff_ffff_ff5f_ffff),
];

pub(super) fn space(config: SpaceConfig) -> Result<KernelSpace, SpaceError> {
    let ram_bytes = config.ram_bytes;
    if let Some(page_offset) = config.page_offset {
        return Err(SpaceError::NoSplit(page_offset));
    }
    let bases = match (config.geometry, config.release) {
        (Geometry::La57, Release::V4_4) => return Err(SpaceError::Release),
        (Geometry::La57, Release::V6_12) => FIVE,
        (_, Release::V4_4) => OLD,
        (_, Release::V6_12) => FOUR,
    };
    if ram_bytes > 1 << config.geometry.physical_bits() {
        return Err(SpaceError::RamTooLarge(ram_bytes));
    }
    let (page_offset, direct_last) = bases.direct;
    let guard_last = bases.ldt.map_or(page_offset, |ldt| ldt.0) - 1;
    let direct_end = page_offset + (ram_bytes - 1);
    let mut parts: Vec<Region> = vec![
        part(RegionKind::User, 0, bases.user_last),
        part(RegionKind::NonCanonical, bases.user_last + 1, bases.kernel_first - 1),
        part(RegionKind::Guard, bases.kernel_first, guard_last),
        part(RegionKind::DirectMap, page_offset, direct_end),
        part(RegionKind::DirectMapSpare, direct_end + 1, direct_last),
        part(RegionKind::Vmalloc, bases.vmalloc.0, bases.vmalloc.1),
        part(RegionKind::Vmemmap, bases.vmemmap.0, bases.vmemmap.1),
        part(RegionKind::Kasan, bases.kasan.0, bases.kasan.1),
    ];
    parts.extend(bases.ldt.map(|(first, last)| part(RegionKind::LdtRemap, first, last)));
    parts.extend(TOP);
    match config.release {
        // One page since the entries are emulated; the whole room before.
        Release::V6_12 => {
            parts.push(part(RegionKind::Vsyscall, 0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_0fff));
        }
        Release::V4_4 => {
            parts.retain(|region| region.kind != RegionKind::CpuEntryArea);
            parts.push(part(RegionKind::Vsyscall, 0xffff_ffff_ff60_0000, 0xffff_ffff_ffdf_ffff));
        }
    }
    Ok(KernelSpace {
        config,
        regions: cover(parts, u64::MAX),
        page_offset,
        low_bytes: ram_bytes,
        high_bytes: 0,
        limit_bytes: direct_last - page_offset + 1,
        pkmap_slots: 0,
        kmap_local_slots: 0,
    })
}
