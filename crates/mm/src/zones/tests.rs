//! Tests of zones.

use super::*;

const MOVABLE: Mobility = Mobility::Movable;

#[test]
fn phys_1_zones_of_each_machine() {
    let kinds = |geometry, frames| -> Vec<(&str, u64, u64)> {
        let zones = Zones::new(geometry, frames, 229_374);
        zones.check(frames.into()).expect("consistent");
        let infos = zones.infos(100);
        infos.iter().map(|z| (z.kind.name(), z.first_frame, z.frame_count)).collect()
    };
    let dma = ("DMA", 0, 4096);
    assert_eq!(kinds(Geometry::X86_64, 300), [("DMA", 0, 300)]);
    assert_eq!(kinds(Geometry::X86_64, 1 << 15), [dma, ("DMA32", 4096, 28_672)]);
    let large = [dma, ("DMA32", 4096, 1_044_480), ("Normal", 1 << 20, 1 << 20)];
    assert_eq!(kinds(Geometry::La57, 1 << 21), large);
    let old = [dma, ("Normal", 4096, 225_278), ("HighMem", 229_374, 32_770)];
    assert_eq!(kinds(Geometry::I386, 1 << 18), old);
}

#[test]
fn phys_1_reserves_are_a_share_of_the_zones_above() {
    let infos = Zones::new(Geometry::X86_64, 1 << 21, u32::MAX).infos(1 << 14);
    assert_eq!(infos[0].protection, [0, 4080, 8176, 8176, 8176]);
    assert_eq!(infos[1].protection, [0, 0, 4096, 4096, 4096]);
    assert_eq!(infos[2].protection, [0; 5]);
}

#[test]
fn phys_4_each_zone_has_its_part_of_the_marks() {
    let zones = Zones::new(Geometry::X86_64, 1 << 21, u32::MAX);
    let infos = zones.infos(16_384);
    assert_eq!(infos[0].marks, Watermarks { min: 32, low: 40, high: 48 });
    assert_eq!(infos[2].marks, Watermarks { min: 8192, low: 10_240, high: 12_288 });
    let sum: u64 = infos.iter().map(|zone| zone.marks.low).sum();
    assert_eq!(zones.marks(16_384).low, sum);
    let old = Zones::new(Geometry::I386, 1 << 18, 896 << 8).infos(1000);
    assert_eq!(old[2].marks.min, 32, "HighMem has little to keep");
}

#[test]
fn frames_come_from_the_highest_zone_and_go_back_where_they_came_from() {
    let mut zones = Zones::new(Geometry::X86_64, 5000, u32::MAX);
    assert_eq!(zones.alloc_lowest(), Some(0));
    let taken: Vec<u32> = (0..905).filter_map(|_| zones.alloc_frame(MOVABLE)).collect();
    assert!(taken[..904].iter().copied().eq(4096..5000), "all of DMA32 first");
    assert_eq!(taken[904], 1024, "the first two page blocks are the kernel's");
    for frame in taken {
        zones.free_frame(frame);
    }
    zones.check(5000).expect("consistent");
    assert_eq!(zones.free_count(), 4999);
    assert_eq!(zones.infos(100)[1].free, 904);
    assert!(zones.free_blocks().is_sorted());
}

#[test]
fn a_scattered_zone_has_a_high_index() {
    let mut zones = Zones::new(Geometry::X86_64, 2048, u32::MAX);
    assert_eq!(zones.infos(0)[0].fragmentation_index(9), None, "there is such a block");
    for _ in 0..2048 {
        zones.alloc_frame(MOVABLE);
    }
    assert_eq!(zones.infos(0)[0].fragmentation_index(9), Some(0), "nothing is free");
    for frame in (0..2048).step_by(2) {
        zones.free_frame(frame);
    }
    // Frames freed last are not in blocks yet.
    let free: u64 = zones.infos(0)[0].blocks_by_order().map(u64::from).iter().sum();
    assert!((512..1024).contains(&free), "{free}");
    let index = zones.infos(0)[0].fragmentation_index(9);
    assert!(index.is_some_and(|index| index > 900), "{index:?}: half of all, in ones");
    assert_eq!(zones.infos(0)[0].fragmentation_index(99), None, "no such order");
    assert_eq!(zones.infos(0)[0].unusable_index(0), 0);
    assert_eq!(zones.infos(0)[0].unusable_index(1), 1000);
}
