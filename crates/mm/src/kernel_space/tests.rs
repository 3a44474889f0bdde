use super::*;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

fn space(geometry: Geometry, ram_bytes: u64) -> KernelSpace {
    KernelSpace::new(SpaceConfig::new(geometry, ram_bytes)).expect("the configuration is right")
}

fn range(space: &KernelSpace, kind: RegionKind) -> (u64, u64) {
    let region = space.region(kind).expect("there is one");
    (region.first.as_u64(), region.last.as_u64())
}

/// Invariants 1 and 2, and `__pa` and `__va` as each other's inverse.
fn check(space: &KernelSpace) {
    let regions = space.regions();
    assert_eq!(regions[0].first.as_u64(), 0);
    for pair in regions.windows(2) {
        assert!(pair[0].first <= pair[0].last, "{:?}", pair[0]);
        assert_eq!(pair[0].last.checked_add(1), Some(pair[1].first), "{pair:?}");
    }
    let end =
        if space.config.geometry.address_bits() == 32 { u64::from(u32::MAX) } else { u64::MAX };
    assert_eq!(regions.last().map(|region| region.last.as_u64()), Some(end));
    let sum = space.low_bytes() + space.high_bytes() + space.unused_bytes();
    assert_eq!(sum, space.config.ram_bytes);
    assert!(space.low_bytes() <= space.low_limit_bytes());
    for offset in [0, 1, space.low_bytes() / 2, space.low_bytes() - 1] {
        let physical = PhysAddr::new(offset);
        let logical = space.va(physical).expect("it is low");
        assert_eq!(space.pa(logical), Some(physical));
        assert_eq!(space.region_of(logical).map(|region| region.kind), Some(RegionKind::DirectMap));
    }
    assert_eq!(space.va(PhysAddr::new(space.low_bytes())), None);
    assert_eq!(space.pa(VirtAddr::new(space.page_offset - 1)), None);
}

#[test]
fn i386_1_an_address_of_lowmem_is_its_offset() {
    for geometry in [Geometry::I386, Geometry::Pae] {
        let space = space(geometry, GIB);
        assert_eq!(space.pa(VirtAddr::new(0xc000_0001)), Some(PhysAddr::new(1)));
        assert_eq!(space.pa(VirtAddr::new(0xc000_0000)), Some(PhysAddr::new(0)));
        assert_eq!(space.va(PhysAddr::new(1)), Some(VirtAddr::new(0xc000_0001)));
        assert_eq!(space.pa(VirtAddr::new(0xbfff_ffff)), None);
    }
}

/// What kernels of that time wrote when they started ("virtual kernel memory layout").
#[test]
fn i386_3_the_map_of_4_4_is_the_one_of_its_boot_messages() {
    let config = SpaceConfig::new(Geometry::I386, 2 * GIB);
    let old = KernelSpace::new(SpaceConfig { release: Release::V4_4, ..config }).expect("right");
    assert_eq!(range(&old, RegionKind::Fixmap), (0xfff1_5000, 0xffff_efff));
    assert_eq!(range(&old, RegionKind::Pkmap), (0xff80_0000, 0xffbf_ffff));
    assert_eq!(range(&old, RegionKind::Vmalloc), (0xf7ff_e000, 0xff7f_dfff));
    assert_eq!(range(&old, RegionKind::DirectMap), (0xc000_0000, 0xf77f_dfff));
    assert_eq!(old.low_bytes() / MIB, 887);
    let config = SpaceConfig { geometry: Geometry::Pae, release: Release::V4_4, ..config };
    let pae = KernelSpace::new(config).expect("right");
    assert_eq!((pae.low_bytes() / MIB, pae.pkmap_slots()), (891, 512));
    check(&old);
    check(&pae);
}

#[test]
fn i386_2_lowmem_ends_where_the_reserve_begins() {
    let kinds = |geometry| {
        [256 * MIB, 512 * MIB, GIB, 2 * GIB, 4 * GIB].map(|ram_bytes| {
            let space = space(geometry, ram_bytes);
            check(&space);
            let vmalloc = space.region(RegionKind::Vmalloc).map_or(0, Region::bytes);
            (space.low_bytes() / MIB, space.high_bytes() / MIB, vmalloc / MIB)
        })
    };
    assert_eq!(
        kinds(Geometry::I386),
        [(256, 0, 743), (512, 0, 487), (879, 144, 120), (879, 1168, 120), (879, 3216, 120)]
    );
    assert_eq!(
        kinds(Geometry::Pae),
        [(256, 0, 749), (512, 0, 493), (885, 138, 120), (885, 1162, 120), (885, 3210, 120)]
    );
    let large = space(Geometry::Pae, 16 * GIB);
    assert_eq!((large.low_bytes() / MIB, large.high_bytes() / MIB), (885, 15498));
    // Without PAE what lies above 4 GiB has no frame number.
    let lost = space(Geometry::I386, 16 * GIB);
    assert_eq!(lost.unused_bytes(), 12 * GIB);
    check(&lost);
}

#[test]
fn more_ram_means_less_room_for_vmalloc_until_the_reserve() {
    let room = |ram_mib: u64| {
        let space = space(Geometry::I386, ram_mib * MIB);
        space.region(RegionKind::Vmalloc).map_or(0, Region::bytes)
    };
    assert!(room(256) > room(512) && room(512) > room(800));
    assert_eq!(room(900), room(4096));
}

#[test]
fn a_split_and_a_reserve_move_the_limit() {
    let config = SpaceConfig::new(Geometry::I386, 2 * GIB);
    let low = |config| KernelSpace::new(config).map(|space| space.low_bytes() / MIB);
    assert_eq!(low(SpaceConfig { page_offset: Some(0x8000_0000), ..config }), Ok(1903));
    assert_eq!(low(SpaceConfig { page_offset: Some(0x4000_0000), ..config }), Ok(2048));
    assert_eq!(low(SpaceConfig { vmalloc_bytes: Some(256 * MIB), ..config }), Ok(743));
    let pae = SpaceConfig { geometry: Geometry::Pae, ..config };
    let long = SpaceConfig { geometry: Geometry::X86_64, ..config };
    assert_eq!(low(SpaceConfig { page_offset: Some(0x4000_0000), ..pae }), Ok(2048));
    for (wrong, error) in [
        (
            SpaceConfig { page_offset: Some(0xd000_0000), ..config },
            SpaceError::PageOffset(0xd000_0000),
        ),
        (
            SpaceConfig { page_offset: Some(0xb000_0000), ..pae },
            SpaceError::PageOffset(0xb000_0000),
        ),
        (SpaceConfig { page_offset: Some(0xc000_0000), ..long }, SpaceError::NoSplit(0xc000_0000)),
        (SpaceConfig { vmalloc_bytes: Some(GIB), ..config }, SpaceError::Vmalloc(GIB)),
        (SpaceConfig { vmalloc_bytes: Some(u64::MAX), ..config }, SpaceError::Vmalloc(u64::MAX)),
        (SpaceConfig { ram_bytes: 0, ..config }, SpaceError::Ram(0)),
        (SpaceConfig { ram_bytes: 4097, ..config }, SpaceError::Ram(4097)),
        (SpaceConfig { ram_bytes: 1 << 40, ..pae }, SpaceError::RamTooLarge(1 << 40)),
        (SpaceConfig { cpus: 0, ..config }, SpaceError::Cpus(0)),
    ] {
        assert_eq!(KernelSpace::new(wrong).map(|_| ()), Err(error));
    }
}

#[test]
fn k64_2_the_direct_map_moved_with_the_release() {
    let config = SpaceConfig::new(Geometry::X86_64, 4 * GIB);
    let new = KernelSpace::new(config).expect("right");
    let old = KernelSpace::new(SpaceConfig { release: Release::V4_4, ..config }).expect("right");
    let five = space(Geometry::La57, 4 * GIB);
    assert_eq!(new.page_offset().as_u64(), 0xffff_8880_0000_0000);
    assert_eq!(old.page_offset().as_u64(), 0xffff_8800_0000_0000);
    assert_eq!(five.page_offset().as_u64(), 0xff11_0000_0000_0000);
    for space in [&new, &old, &five] {
        check(space);
        assert_eq!((space.high_bytes(), space.pkmap_slots()), (0, 0));
        let text = VirtAddr::new(0xffff_ffff_8100_0000);
        assert_eq!(space.pa(text), Some(PhysAddr::new(16 << 20)));
    }
    let four = SpaceConfig { geometry: Geometry::La57, release: Release::V4_4, ..config };
    assert_eq!(KernelSpace::new(four).map(|_| ()), Err(SpaceError::Release));
}

#[test]
fn every_configuration_covers_every_address_once() {
    let mut random = 88_172_645_463_325_252u64;
    let mut next = |bound: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % bound
    };
    let offsets = [0xc000_0000, 0xb000_0000, 0x8000_0000, 0x7800_0000, 0x4000_0000];
    let mut made = 0;
    for _ in 0..20_000 {
        let config = SpaceConfig {
            geometry: Geometry::ALL[next(4) as usize],
            ram_bytes: (1 + next(1 << 24)) << (12 + next(6)),
            page_offset: (next(2) == 0).then(|| offsets[next(5) as usize]),
            vmalloc_bytes: (next(3) == 0).then(|| next(1200) * MIB),
            cpus: 1 + next(64),
            release: if next(2) == 0 { Release::V4_4 } else { Release::V6_12 },
        };
        if let Ok(space) = KernelSpace::new(config) {
            check(&space);
            made += 1;
        }
    }
    assert!(made > 5_000, "{made}");
}
