//! The direct map as page tables: RAM one to one, for the supervisor only.
//!
//! Uses the largest pages that fit, as the kernel does; what is left at the end of RAM gets smaller
//! ones. Every entry is global, accessed and dirty from the beginning, so that no walk changes it.
//!
//! ```text
//!  root ──► tables of the kernel, one set for all roots ──► leaves: P RW A D PS G NX, no US
//! ```
//!
//! Differs from Linux: the first megabytes are not mapped by small pages, and the kernel's own code
//! is not executable through the direct map.
//!
//! # Source
//! Linux 6.12 `arch/x86/mm/init.c:init_memory_mapping`, `PAGE_KERNEL_LARGE`; semantics I386-1,
//! K64-1, PT-2.

use machine::{Frame, Geometry, PhysAddr, Pte, Ram, VirtAddr};

use super::KernelSpace;

/// The bits of every leaf of the kernel.
pub(crate) const LEAF: Pte = Pte::PRESENT
    .with(Pte::WRITE)
    .with(Pte::ACCESSED)
    .with(Pte::DIRTY)
    .with(Pte::GLOBAL)
    .with(Pte::NX);
/// The bits of every entry that names a table.
const TABLE: Pte = Pte::PRESENT.with(Pte::WRITE).with(Pte::ACCESSED);

/// Writes the entries of the direct map below `root`. `alloc` gives frames filled with zeros for
/// tables; `None` if it has none left: entries made so far stay.
pub fn map_direct(
    space: &KernelSpace,
    ram: &mut Ram,
    root: Frame,
    alloc: &mut dyn FnMut(&mut Ram) -> Option<Frame>,
) -> Option<()> {
    let geometry = space.config().geometry;
    let bits = if geometry.has_nx() { LEAF } else { LEAF.without(Pte::NX) };
    let mut physical = 0;
    let mut done = Some(());
    for_each_leaf(space, |level, count| {
        let large = if level > 1 { Pte::LARGE } else { Pte::EMPTY };
        for _ in 0..count {
            let addr = VirtAddr::new(space.page_offset().as_u64() + physical);
            let slot = done.and_then(|()| slot_of(geometry, ram, root, (addr, level), alloc));
            let Some(slot) = slot else {
                done = None;
                return;
            };
            let leaf = Pte::new(PhysAddr::new(physical).frame(), bits.with(large));
            geometry.store(ram, slot, leaf);
            physical += geometry.span_bytes(level);
        }
    });
    done
}

/// Says of each run of equal leaves, in order of addresses, its level and how many there are.
pub(super) fn for_each_leaf(space: &KernelSpace, mut each: impl FnMut(u32, u64)) {
    let geometry = space.config().geometry;
    let mut physical = 0;
    while physical < space.low_bytes() {
        let addr = VirtAddr::new(space.page_offset().as_u64() + physical);
        let left = space.low_bytes() - physical;
        let level = leaf_level(geometry, addr, physical, left);
        // As far as no larger leaf begins, and the next one still fits.
        let span = geometry.span_bytes(level);
        let larger = (level + 1..=geometry.levels()).find_map(|level| geometry.leaf_size(level));
        let until = larger.map_or(left, |size| {
            let next = addr.as_u64().wrapping_add(1).next_multiple_of(size.bytes());
            left.min(next - addr.as_u64())
        });
        let count = (until / span).max(1);
        each(level, count);
        physical += count * span;
    }
}

/// The highest level whose page begins here, on both sides, and does not reach past the end.
fn leaf_level(geometry: Geometry, addr: VirtAddr, physical: u64, left: u64) -> u32 {
    let fits = |level: &u32| {
        let Some(size) = geometry.leaf_size(*level) else { return false };
        let is_aligned = addr.is_aligned(size) && physical.is_multiple_of(size.bytes());
        is_aligned && size.bytes() <= left
    };
    (2..=geometry.levels()).rev().find(fits).unwrap_or(1)
}

/// Where the entry of `level` for `addr` stands; missing tables above it are made.
pub(super) fn slot_of(
    geometry: Geometry,
    ram: &mut Ram,
    root: Frame,
    (addr, level): (VirtAddr, u32),
    alloc: &mut dyn FnMut(&mut Ram) -> Option<Frame>,
) -> Option<PhysAddr> {
    let mut table = root;
    for above in (level + 1..=geometry.levels()).rev() {
        let slot = geometry.slot(table, geometry.index(above, addr));
        let entry = geometry.load(ram, slot);
        if entry.is_present() {
            table = entry.frame();
        } else {
            table = alloc(ram)?;
            geometry.store(ram, slot, table_entry(geometry, above, table));
        }
    }
    Some(geometry.slot(table, geometry.index(level, addr)))
}

/// The entry of `level` that names a table of the kernel.
pub(super) const fn table_entry(geometry: Geometry, level: u32, table: Frame) -> Pte {
    let reserved = Pte::from_raw(geometry.reserved_bits(level, false));
    Pte::new(table, TABLE.without(reserved))
}

#[cfg(test)]
mod tests {
    use machine::{Access, Privilege, Refusal, WalkControls, walk};

    use super::*;
    use crate::kernel_space::{RegionKind, SpaceConfig};

    /// The direct map of a machine in a RAM of its own, with the frames that its tables took.
    fn mapped(geometry: Geometry, ram_bytes: u64) -> (KernelSpace, Ram, Frame, u64) {
        let space = KernelSpace::new(SpaceConfig::new(geometry, ram_bytes)).expect("right");
        let mut ram = Ram::new(64 << 20).expect("the host has room");
        let (root, mut next) = (Frame::new(16), 17);
        map_direct(&space, &mut ram, root, &mut |_| {
            next += 1;
            Some(Frame::new(next - 1))
        })
        .expect("frames never end");
        (space, ram, root, next - 17)
    }

    #[test]
    fn the_walk_finds_what_pa_says_and_users_nothing() {
        for geometry in Geometry::ALL {
            for ram_bytes in [4 << 20, 300 << 20, (900 << 20) + 4096, 5 << 30] {
                let (space, mut ram, root, _) = mapped(geometry, ram_bytes);
                let mut physical = 0;
                while physical < space.low_bytes() {
                    let addr = space.va(PhysAddr::new(physical)).expect("it is low");
                    let mut walk = |access, privilege| {
                        let controls = WalkControls::default();
                        walk(geometry, controls, &mut ram, root.start(), addr, access, privilege)
                    };
                    let walked = walk(Access::Write, Privilege::Supervisor).expect("mapped");
                    assert_eq!(Some(walked.physical(addr)), space.pa(addr), "{addr}");
                    assert!(walked.pte.contains(Pte::GLOBAL) && !walked.is_user);
                    assert_eq!(walked.is_executable, !geometry.has_nx());
                    let refused = walk(Access::Read, Privilege::User).expect_err("supervisor's");
                    assert_eq!(refused.refusal, Refusal::Protection);
                    assert_eq!(refused.error_code(), 5, "PT-3: present, user");
                    physical += 4096 * 1021;
                }
                let end = space.region(RegionKind::DirectMap).expect("there is one").last;
                let behind = end.wrapping_add(1);
                let (access, privilege) = (Access::Read, Privilege::Supervisor);
                let controls = WalkControls::default();
                let past =
                    walk(geometry, controls, &mut ram, root.start(), behind, access, privilege);
                assert_eq!(past.map_err(|fault| fault.refusal), Err(Refusal::NotPresent));
            }
        }
    }

    #[test]
    fn large_pages_keep_the_tables_few() {
        let tables = |geometry, ram_bytes| mapped(geometry, ram_bytes).3;
        assert_eq!(tables(Geometry::X86_64, 4 << 30), 1, "one table of 1 GiB pages");
        assert_eq!(tables(Geometry::X86_64, (4 << 30) + (6 << 20) + 4096), 3);
        assert_eq!(tables(Geometry::La57, 4 << 30), 2);
        assert_eq!(tables(Geometry::I386, 256 << 20), 0, "4 MiB pages stand in the root");
        assert_eq!(tables(Geometry::Pae, 256 << 20), 1);
    }
}
