//! The whole address space of a machine, and what more RAM does to it.

use mm::kernel_space::{KernelSpace, Region, RegionKind, Release, SpaceConfig};
use serde::Serialize;

use super::RegionView;
use crate::args::low;
use crate::failure::Failure;

/// RAM sizes that are compared, MiB; the last one with PAE and 64 bits only.
const SIZES_MIB: [u64; 6] = [256, 512, 1024, 2048, 4096, 16_384];

/// The map of a machine.
#[derive(Debug, Serialize)]
pub(super) struct MapView {
    schema: &'static str,
    pub(super) machine: &'static str,
    pub(super) kernel: &'static str,
    pub(super) ram_bytes: u64,
    pub(super) page_offset: String,
    pub(super) cpus: u64,
    pub(super) regions: Vec<RegionView>,
    pub(super) memory: MemoryView,
    /// The same machine with other amounts of RAM.
    pub(super) by_ram: Vec<MemoryView>,
}

/// How RAM and kernel space fit.
#[derive(Debug, Serialize)]
pub(super) struct MemoryView {
    pub(super) ram_bytes: u64,
    /// RAM with a logical address.
    pub(super) lowmem_bytes: u64,
    /// RAM without one.
    pub(super) highmem_bytes: u64,
    /// RAM that the kernel cannot use.
    pub(super) unused_bytes: u64,
    /// The most lowmem that fits: `MAXMEM`.
    pub(super) lowmem_limit_bytes: u64,
    /// Room for vmalloc and ioremap.
    pub(super) vmalloc_bytes: u64,
    /// Slots of `kmap`.
    pub(super) pkmap_slots: u64,
    /// Slots of `kmap_local`, of all CPUs.
    pub(super) kmap_local_slots: u64,
}

impl MapView {
    /// The map of this space.
    ///
    /// # Errors
    /// Exit code 125: `--pid`, `--trace` or `--tlb` was given, which say nothing of a map.
    pub(super) fn new(
        machine: &'static str,
        space: &KernelSpace,
        typed: &low::Explain,
    ) -> Result<Self, Failure> {
        if typed.pid.is_some() || typed.trace.is_some() || typed.tlb.is_some() {
            return Err(Failure::own("--map: takes neither --pid, --trace nor --tlb"));
        }
        let config = *space.config();
        let with_ram = |mib: u64| KernelSpace::new(SpaceConfig { ram_bytes: mib << 20, ..config });
        let by_ram = SIZES_MIB.into_iter().filter_map(|mib| with_ram(mib).ok());
        Ok(Self {
            schema: "faultline.map/1",
            machine,
            kernel: match config.release {
                Release::V4_4 => "4.4",
                Release::V6_12 => "6.12",
            },
            ram_bytes: config.ram_bytes,
            page_offset: format!("{:#x}", space.page_offset().as_u64()),
            cpus: config.cpus,
            regions: space.regions().iter().map(RegionView::new).collect(),
            memory: MemoryView::new(space),
            by_ram: by_ram.map(|space| MemoryView::new(&space)).collect(),
        })
    }
}

impl MemoryView {
    fn new(space: &KernelSpace) -> Self {
        Self {
            ram_bytes: space.config().ram_bytes,
            lowmem_bytes: space.low_bytes(),
            highmem_bytes: space.high_bytes(),
            unused_bytes: space.unused_bytes(),
            lowmem_limit_bytes: space.low_limit_bytes(),
            vmalloc_bytes: space.region(RegionKind::Vmalloc).map_or(0, Region::bytes),
            pkmap_slots: space.pkmap_slots(),
            kmap_local_slots: space.kmap_local_slots(),
        }
    }
}
