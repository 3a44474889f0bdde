//! The kernel's part of the address space: which address is what, on any machine.
//!
//! Nouns: [`SpaceConfig`] (machine, RAM, how the kernel was built), [`KernelSpace`] (the whole
//! map), [`Region`] (one part of it, of one [`RegionKind`]).
//!
//! ```text
//!  i386, from the top down                         x86-64
//!  fixmap, kmap_local                              fixmap, vsyscall
//!  CPU entry area, LDT remap (since 4.15)          modules
//!  pkmap: 1024 slots (512 with PAE)                kernel text
//!  2 guard pages                                   CPU entry area, espfix, EFI
//!  vmalloc and ioremap, at least the reserve       vmemmap
//!  8 MiB hole                                      vmalloc and ioremap
//!  lowmem: RAM from 0 on, one to one               direct map: all RAM, one to one
//!  PAGE_OFFSET                                     LDT remap, guard hole
//!  user                                            (no address) user
//! ```
//!
//! Does not place randomly (KASLR). The map says where things belong; [`map_direct`] writes the
//! page tables of the direct map, and `shared.rs` puts them into every address space.
//!
//! Invariants
//! 1. The regions lie in order, touch, and cover every canonical address once, holes included.
//! 2. `low_bytes + high_bytes + unused_bytes` is the RAM.

mod i386;
mod shared;
mod tables;
mod vmemmap;
mod x86_64;

use alloc::vec::Vec;
use core::fmt;

use machine::{Geometry, PhysAddr, VirtAddr};

pub(crate) use shared::SharedTables;
pub(crate) use tables::LEAF;
pub use tables::map_direct;
pub use vmemmap::Vmemmap;

/// The kernel whose map it is: maps moved over the years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum Release {
    /// Linux 4.4: the direct map of x86-64 at `0xffff880000000000`, no isolation of page tables.
    V4_4,
    /// Linux 6.12: the direct map of x86-64 at `0xffff888000000000`.
    #[default]
    V6_12,
}

/// What decides over the map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SpaceConfig {
    /// The page-table format.
    pub geometry: Geometry,
    /// RAM, which begins at physical 0.
    pub ram_bytes: u64,
    /// `CONFIG_PAGE_OFFSET` of an i386 kernel, the split; `None` is that of most, 3G/1G.
    pub page_offset: Option<u64>,
    /// `vmalloc=` of an i386 kernel; `None` is the default reserve of 128 MiB.
    pub vmalloc_bytes: Option<u64>,
    /// `CONFIG_NR_CPUS`: each CPU has slots in the fixmap and a CPU entry area.
    pub cpus: u64,
    /// Which kernel.
    pub release: Release,
}

impl SpaceConfig {
    /// The usual kernel: split 3G/1G on i386, 8 CPUs, 6.12.
    pub const fn new(geometry: Geometry, ram_bytes: u64) -> Self {
        let release = Release::V6_12;
        Self { geometry, ram_bytes, page_offset: None, vmalloc_bytes: None, cpus: 8, release }
    }
}

/// Why there is no such kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SpaceError {
    /// No RAM, or part of a page.
    Ram(u64),
    /// More RAM than physical addresses.
    RamTooLarge(u64),
    /// `CONFIG_PAGE_OFFSET` is not one of those that can be chosen.
    PageOffset(u64),
    /// A kernel of 64 bits has no such choice.
    NoSplit(u64),
    /// `vmalloc=` leaves less than 16 MiB for lowmem, or is 0.
    Vmalloc(u64),
    /// No CPU, or more than 64.
    Cpus(u64),
    /// That kernel has no tables of five levels.
    Release,
}

impl fmt::Display for SpaceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ram(bytes) => write!(f, "RAM of {bytes} bytes is not made of pages"),
            Self::RamTooLarge(bytes) => {
                write!(f, "RAM of {bytes} bytes has more bytes than physical addresses")
            }
            Self::PageOffset(addr) => write!(
                f,
                "no kernel has PAGE_OFFSET {addr:#x}; there are 0xc0000000, 0xb0000000, \
                 0x80000000, 0x78000000 and 0x40000000, with PAE multiples of 1 GiB only"
            ),
            Self::NoSplit(addr) => {
                write!(f, "only kernels of 32 bits have a split, so no PAGE_OFFSET {addr:#x}")
            }
            Self::Vmalloc(bytes) => {
                write!(f, "a reserve of {bytes} bytes for vmalloc leaves no room for lowmem")
            }
            Self::Cpus(count) => write!(f, "{count} CPUs; give 1 to 64"),
            Self::Release => write!(f, "tables of five levels came with Linux 4.14"),
        }
    }
}

/// What a part of the address space is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum RegionKind {
    /// Each process has its own.
    User,
    /// No address of the machine.
    NonCanonical,
    /// Kernel logical addresses: RAM one to one; on i386 lowmem.
    DirectMap,
    /// Room of the direct map for which there is no RAM.
    DirectMapSpare,
    /// Kernel virtual addresses: `vmalloc`, `ioremap`, kernel stacks.
    Vmalloc,
    /// `kmap`: one page of highmem for each slot.
    Pkmap,
    /// Addresses fixed when the kernel was built; holds the slots of `kmap_local`.
    Fixmap,
    /// The array of `struct page`.
    Vmemmap,
    /// The kernel's code and data.
    KernelText,
    /// Loaded modules.
    Modules,
    /// What must stay mapped while a user runs: entry stacks, GDT, TSS.
    CpuEntryArea,
    /// The LDT of the running process.
    LdtRemap,
    /// `gettimeofday` of old programs.
    Vsyscall,
    /// Shadow of the address sanitizer.
    Kasan,
    /// Stacks for returns to 16-bit code.
    Espfix,
    /// Services of the firmware.
    Efi,
    /// Left empty on purpose: an access past the end of a neighbour faults.
    Guard,
    /// Nothing.
    Hole,
}

/// One part of the address space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// What it is for.
    pub kind: RegionKind,
    /// First byte.
    pub first: VirtAddr,
    /// Last byte: the end of 64 bits has no byte behind it.
    pub last: VirtAddr,
}

impl Region {
    /// Bytes; the largest number for all of 64 bits.
    pub const fn bytes(&self) -> u64 {
        self.last.offset_from(self.first).saturating_add(1)
    }
}

/// The map of one kernel on one machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelSpace {
    config: SpaceConfig,
    regions: Vec<Region>,
    page_offset: u64,
    low_bytes: u64,
    high_bytes: u64,
    limit_bytes: u64,
    pkmap_slots: u64,
    kmap_local_slots: u64,
}

impl KernelSpace {
    /// The map of this configuration.
    ///
    /// # Errors
    /// The configuration is none that a kernel can have; see [`SpaceError`].
    pub fn new(config: SpaceConfig) -> Result<Self, SpaceError> {
        let ram_bytes = config.ram_bytes;
        if ram_bytes == 0 || !ram_bytes.is_multiple_of(machine::PAGE_BYTES) {
            return Err(SpaceError::Ram(ram_bytes));
        }
        if !(1..=64).contains(&config.cpus) {
            return Err(SpaceError::Cpus(config.cpus));
        }
        match config.geometry {
            Geometry::I386 | Geometry::Pae => i386::space(config),
            Geometry::X86_64 | Geometry::La57 => x86_64::space(config),
        }
    }

    /// What it was made from.
    pub const fn config(&self) -> &SpaceConfig {
        &self.config
    }

    /// All parts, in order of addresses.
    pub fn regions(&self) -> &[Region] {
        &self.regions
    }

    /// The part that holds an address; `None` above 2^32 on i386.
    pub fn region_of(&self, addr: VirtAddr) -> Option<&Region> {
        self.regions.iter().find(|region| region.first <= addr && addr <= region.last)
    }

    /// The first part of a kind.
    pub fn region(&self, kind: RegionKind) -> Option<&Region> {
        self.regions.iter().find(|region| region.kind == kind)
    }

    /// Where the kernel's logical addresses begin: `PAGE_OFFSET`.
    pub const fn page_offset(&self) -> VirtAddr {
        VirtAddr::new(self.page_offset)
    }

    /// RAM that has a logical address: lowmem.
    pub const fn low_bytes(&self) -> u64 {
        self.low_bytes
    }

    /// RAM that has none: highmem. 0 on 64-bit machines.
    pub const fn high_bytes(&self) -> u64 {
        self.high_bytes
    }

    /// RAM that the kernel cannot use.
    pub const fn unused_bytes(&self) -> u64 {
        self.config.ram_bytes - self.low_bytes - self.high_bytes
    }

    /// The most lowmem that the map has room for: `MAXMEM`.
    pub const fn low_limit_bytes(&self) -> u64 {
        self.limit_bytes
    }

    /// Slots of `kmap`: 1,024, 512 with PAE, 0 where all RAM is mapped.
    pub const fn pkmap_slots(&self) -> u64 {
        self.pkmap_slots
    }

    /// Slots of `kmap_local` of all CPUs together.
    pub const fn kmap_local_slots(&self) -> u64 {
        self.kmap_local_slots
    }

    /// The first slot of `kmap_local` of the first CPU; each further one lies a page lower. `None`
    /// where all RAM is mapped.
    pub fn kmap_local_addr(&self) -> Option<VirtAddr> {
        (self.kmap_local_slots > 0).then(|| VirtAddr::new(i386::KMAP_LOCAL_FIRST))
    }

    /// `__pa`: the physical address of a logical one, and on 64-bit machines of kernel text.
    ///
    /// `None` for every address that is not mapped one to one (there Linux gives nonsense).
    ///
    /// # Source
    /// Semantics I386-1; Linux 6.12 `arch/x86/mm/physaddr.c`.
    pub fn pa(&self, addr: VirtAddr) -> Option<PhysAddr> {
        let region = self.region_of(addr)?;
        match region.kind {
            RegionKind::DirectMap => Some(PhysAddr::new(addr.as_u64() - self.page_offset)),
            RegionKind::KernelText => {
                let offset = addr.offset_from(region.first);
                (offset < self.low_bytes).then_some(PhysAddr::new(offset))
            }
            _ => None,
        }
    }

    /// `__va`: the logical address of a physical one; `None` for highmem and beyond RAM.
    pub fn va(&self, addr: PhysAddr) -> Option<VirtAddr> {
        let is_low = addr.as_u64() < self.low_bytes;
        is_low.then(|| VirtAddr::new(self.page_offset + addr.as_u64()))
    }
}

/// Puts the parts in order and names what lies between them.
fn cover(mut parts: Vec<Region>, last: u64) -> Vec<Region> {
    parts.retain(|region| region.first <= region.last);
    parts.sort_by_key(|region| region.first);
    let mut regions: Vec<Region> = Vec::new();
    let mut next = Some(0);
    for part in parts {
        if let Some(next) = next
            && next < part.first.as_u64()
        {
            regions.push(hole(next, part.first.as_u64() - 1));
        }
        next = part.last.as_u64().checked_add(1);
        regions.push(part);
    }
    if let Some(next) = next
        && next <= last
    {
        regions.push(hole(next, last));
    }
    regions
}

const fn hole(first: u64, last: u64) -> Region {
    part(RegionKind::Hole, first, last)
}

/// The region from `first` to `last`, both inside.
const fn part(kind: RegionKind, first: u64, last: u64) -> Region {
    Region { kind, first: VirtAddr::new(first), last: VirtAddr::new(last) }
}

#[cfg(test)]
mod tests;
