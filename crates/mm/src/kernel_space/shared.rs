//! The kernel's page tables in guest RAM: one set, which every address space names from its root.
//!
//! ```text
//!  root of the kernel ──┐
//!  root of process 1 ───┼──► tables of the direct map ──► large pages of RAM
//!  root of process 2 ───┘    (once, never freed before the end)
//! ```
//! A new root gets a copy of the kernel's entries: a change below them is seen by all, and it costs
//! a process nothing. Users are kept out by the U/S bit alone.
//!
//! Tables for pages above the direct map are made when the first object comes ([`Memory`]'s
//! `kernel_slot`); an entry of the root that is new goes into every root there is.
//!
//! Invariants
//! 1. Above user space every root equals the kernel's.
//! 2. Frames of these tables have state `Kernel`, and no space counts them as its own.
//!
//! # Source
//! Linux 6.12 `arch/x86/mm/pgtable.c:pgd_ctor` (kernel entries are copied from `swapper_pg_dir`);
//! semantics K64-1, PT-3.

use alloc::vec::Vec;

use machine::{Frame, Machine, PAGE_BYTES, PageSize, PhysAddr, Pte, VirtAddr};

use super::tables::table_entry;
use super::{KernelSpace, RegionKind, map_direct};
use crate::buddy::Mobility;
use crate::error::MmError;
use crate::folio::FrameState;
use crate::highmem::Highmem;
use crate::memory::{Content, Memory};

/// The kernel's part of all page tables.
#[derive(Debug)]
pub(crate) struct SharedTables {
    space: KernelSpace,
    /// The kernel's own root, as `init_mm` has one.
    root: Frame,
    /// Tables below the root.
    tables: Vec<Frame>,
    /// What each root has: index and entry.
    entries: Vec<(u64, Pte)>,
    /// Where the array of `struct page` begins, if it is mapped.
    pub(super) vmemmap: Option<Frame>,
}

impl SharedTables {
    /// The map.
    pub(crate) const fn space(&self) -> &KernelSpace {
        &self.space
    }

    /// First address that is not the user's.
    pub(crate) fn user_end(&self) -> VirtAddr {
        let user = self.space.region(RegionKind::User);
        user.map_or(VirtAddr::new(0), |region| region.last.wrapping_add(1))
    }

    /// The entry `index` of every root, if it is the kernel's.
    pub(crate) fn entry(&self, index: u64) -> Option<Pte> {
        self.entries.iter().find(|entry| entry.0 == index).map(|entry| entry.1)
    }

    /// Writes the kernel's entries into a new root.
    pub(crate) fn write(&self, hw: &mut Machine, root: Frame) {
        let geometry = hw.geometry();
        for (index, pte) in &self.entries {
            geometry.store(&mut hw.ram, geometry.slot(root, *index), *pte);
        }
    }
}

impl Memory {
    /// Builds the kernel's page tables in RAM; every address space made from now on has them.
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: no frame is left for a table; nothing has changed.
    pub(crate) fn map_kernel(
        &mut self,
        hw: &mut Machine,
        space: KernelSpace,
    ) -> Result<(), MmError> {
        debug_assert!(self.kernel.is_none(), "once, before the first address space");
        let low_frames = space.low_bytes() / PAGE_BYTES;
        debug_assert!(self.zones.lowmem_frames() == low_frames, "lowmem is what the map has");
        let no_memory = MmError::NoMemory("no frame for the kernel's page tables");
        let mut take = |hw: &mut Machine| self.alloc(hw, FrameState::Kernel, Content::Zeroed);
        let root = take(hw).ok_or(no_memory)?;
        let mut tables = Vec::new();
        // With one more table each time, until they are enough: what was written is written again.
        let mut spare: Option<Frame> = None;
        while map_direct(&space, &mut hw.ram, root, &mut |_| spare.take()).is_none() {
            spare = take(hw);
            tables.extend(spare);
            if spare.is_none() {
                tables.push(root);
                tables.into_iter().for_each(|frame| self.free(hw, frame));
                return Err(no_memory);
            }
        }
        let geometry = hw.geometry();
        let all = (0..geometry.entries(geometry.levels()))
            .map(|index| (index, geometry.load(&hw.ram, geometry.slot(root, index))));
        let entries = all.filter(|(_, pte)| pte.is_present()).collect();
        self.highmem = Highmem::of(&space);
        self.kernel = Some(SharedTables { space, root, tables, entries, vmemmap: None });
        self.open_vmalloc();
        if self.open_local_slots(hw).is_none() {
            self.unmap_kernel(hw);
            return Err(no_memory);
        }
        Ok(())
    }

    /// Where the leaf entry of a kernel page above the direct map stands; missing tables are made.
    /// `None` if no frame is left for one, or the kernel has no tables: tables made so far stay.
    ///
    /// # Source
    /// Linux 6.12 `arch/x86/mm/fault.c:arch_sync_kernel_mappings` (entries of roots that are new).
    pub(crate) fn kernel_slot(&mut self, hw: &mut Machine, addr: VirtAddr) -> Option<PhysAddr> {
        let (geometry, root) = (hw.geometry(), self.kernel_root()?);
        let mut table = root;
        for level in (2..=geometry.levels()).rev() {
            let index = geometry.index(level, addr);
            let slot = geometry.slot(table, index);
            let entry = geometry.load(&hw.ram, slot);
            debug_assert!(!(entry.is_present() && entry.is_large()), "above the direct map");
            if entry.is_present() {
                table = entry.frame();
                continue;
            }
            let child = self.alloc_block(hw, FrameState::Kernel, 0, Mobility::Unmovable)?;
            hw.ram.zero_frame(child);
            self.kernel.as_mut()?.tables.push(child);
            let pte = table_entry(geometry, level, child);
            geometry.store(&mut hw.ram, slot, pte);
            if table == root {
                self.add_root_entry(hw, (index, pte));
            }
            table = child;
        }
        Some(geometry.slot(table, geometry.index(1, addr)))
    }

    /// Puts the entries of the kernel's root that are new into all roots.
    pub(super) fn publish_root_entries(&mut self, hw: &mut Machine) {
        let (geometry, Some(kernel)) = (hw.geometry(), &self.kernel) else { return };
        let (root, known) = (kernel.root, |index| kernel.entry(index).is_some());
        let new: Vec<(u64, Pte)> = (0..geometry.entries(geometry.levels()))
            .map(|index| (index, geometry.load(&hw.ram, geometry.slot(root, index))))
            .filter(|(index, pte)| pte.is_present() && !known(*index))
            .collect();
        for entry in new {
            self.add_root_entry(hw, entry);
        }
    }

    /// Puts an entry of the kernel's root into all roots.
    fn add_root_entry(&mut self, hw: &mut Machine, (index, pte): (u64, Pte)) {
        let geometry = hw.geometry();
        if let Some(kernel) = &mut self.kernel {
            kernel.entries.push((index, pte));
        }
        for space in self.spaces.iter().filter(|space| space.id.is_some()) {
            geometry.store(&mut hw.ram, geometry.slot(space.root, index), pte);
        }
    }

    /// The map of the kernel whose tables all address spaces have.
    pub fn kernel_space(&self) -> Option<&KernelSpace> {
        self.kernel.as_ref().map(|kernel| &kernel.space)
    }

    /// The kernel's own root table.
    pub fn kernel_root(&self) -> Option<Frame> {
        self.kernel.as_ref().map(|kernel| kernel.root)
    }

    /// Gives the kernel's tables back, after the last address space ended.
    pub(crate) fn unmap_kernel(&mut self, hw: &mut Machine) {
        if let Some(kernel) = self.kernel.take() {
            kernel.tables.into_iter().for_each(|frame| self.free(hw, frame));
            self.free(hw, kernel.root);
        }
    }
}

impl KernelSpace {
    /// Bytes of the direct map that pages of `size` map (`DirectMap4k`, `2M`, `1G` of meminfo).
    pub fn direct_map_bytes(&self, size: PageSize) -> u64 {
        let mut bytes = 0;
        super::tables::for_each_leaf(self, |level, count| {
            let geometry = self.config().geometry;
            if geometry.leaf_size(level) == Some(size) {
                bytes += count * size.bytes();
            }
        });
        bytes
    }
}

#[cfg(test)]
mod tests {
    use machine::{Access, Geometry, Privilege, Refusal, WalkControls, walk};

    use super::*;
    use crate::check::check;
    use crate::kernel_space::SpaceConfig;
    use crate::testing::{RW, World, at, pages};

    fn world(geometry: Geometry) -> World {
        World::with_kernel(2048, geometry)
    }

    #[test]
    fn every_root_has_the_kernels_entries_and_a_change_is_seen_by_all() {
        let mut world = world(Geometry::X86_64);
        world.map(pages(0x100, 4), RW);
        world.write(at(0x101)).expect("it is mapped");
        world.fork();
        world.check();
        let space = world.memory.kernel_space().expect("it is mapped").clone();
        let addr = space.va(PhysAddr::new(0x12_3456)).expect("it is RAM");
        let roots = [world.spaces[0].root(), world.spaces[1].root()];
        let look = |world: &mut World, root: Frame, privilege| {
            let (geometry, controls) = (world.hw.geometry(), WalkControls::default());
            let ram = &mut world.hw.ram;
            walk(geometry, controls, ram, root.start(), addr, Access::Read, privilege)
        };
        let mut slots = Vec::new();
        for root in roots {
            let walked = look(&mut world, root, Privilege::Supervisor).expect("the kernel may");
            assert_eq!(walked.physical(addr), PhysAddr::new(0x12_3456));
            let fault = look(&mut world, root, Privilege::User).expect_err("users may not");
            assert_eq!((fault.refusal, fault.error_code()), (Refusal::Protection, 5));
            slots.push(walked.slot);
        }
        assert_eq!(slots[0], slots[1], "one set of tables");
        world.hw.geometry().store(&mut world.hw.ram, slots[0], Pte::EMPTY);
        for root in roots {
            let fault = look(&mut world, root, Privilege::Supervisor).expect_err("taken away");
            assert_eq!(fault.refusal, Refusal::NotPresent);
        }
        world.finish();
    }

    #[test]
    fn a_process_pays_nothing_for_the_kernels_tables() {
        let counts = |mut world: World| {
            world.map(pages(0x100, 4), RW);
            world.write(at(0x101)).expect("it is mapped");
            let tables = world.spaces[0].page_table_frames(&world.memory);
            let frames = world.memory.usage().page_table;
            world.check();
            world.finish();
            (tables, frames)
        };
        for geometry in [Geometry::X86_64, Geometry::La57] {
            let plain = World::with_geometry(2048, geometry);
            assert_eq!(counts(plain), counts(world(geometry)), "{geometry:?}");
        }
    }

    #[test]
    fn a_root_without_the_kernels_entry_is_found() {
        let mut world = world(Geometry::X86_64);
        let (root, geometry) = (world.spaces[0].root(), world.hw.geometry());
        let index = geometry.index(4, world.memory.kernel_space().expect("mapped").page_offset());
        let slot = geometry.slot(root, index);
        let entry = geometry.load(&world.hw.ram, slot);
        for wrong in [Pte::EMPTY, entry.with(Pte::USER)] {
            geometry.store(&mut world.hw.ram, slot, wrong);
            let spaces = [&world.spaces[0]];
            assert!(check(&spaces, &world.memory, &world.hw).is_err(), "{wrong:?}");
        }
        geometry.store(&mut world.hw.ram, slot, entry);
        world.check();
        world.finish();
    }

    #[test]
    fn a_machine_too_small_for_the_tables_gives_all_frames_back() {
        let mut world = World::with_geometry(256, Geometry::X86_64);
        world.exit();
        let free = world.memory.usage().frames_free;
        world.memory.refuse_allocation(2);
        let space = KernelSpace::new(SpaceConfig::new(Geometry::X86_64, 256 * 4096)).expect("ok");
        assert!(world.memory.map_kernel(&mut world.hw, space).is_err());
        assert_eq!(world.memory.usage().frames_free, free);
        world.finish();
    }

    #[test]
    fn the_direct_map_is_counted_by_page_size() {
        let of = |geometry, ram_bytes| {
            let space = KernelSpace::new(SpaceConfig::new(geometry, ram_bytes)).expect("right");
            [PageSize::K4, PageSize::M2, PageSize::M4, PageSize::G1]
                .map(|size| space.direct_map_bytes(size))
        };
        let (k4, m2, g1) = (4096, 2 << 20, 1 << 30);
        assert_eq!(of(Geometry::X86_64, g1 * 4 + m2 * 3 + k4), [k4, m2 * 3, 0, g1 * 4]);
        assert_eq!(of(Geometry::X86_64, 64 * m2), [0, 64 * m2, 0, 0]);
        assert_eq!(of(Geometry::I386, 256 << 20), [0, 0, 256 << 20, 0]);
    }
}
