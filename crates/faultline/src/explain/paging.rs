//! Linear to physical: every table index and entry on the way, and where the TLBs would keep it.
//!
//! The tables are made by the memory manager in a RAM of their own: the direct map of the machine
//! and the array of pages, empty of processes. Where a region's entries come with objects (vmalloc,
//! pkmap, user pages), the walk ends at the entry that is not present.

use std::ops::ControlFlow;

use machine::{
    Array, Frame, Geometry, Large, LevelSpec, PageSize, PhysAddr, Pte, Ram, TlbSpec, VirtAddr,
};
use mm::kernel_space::{KernelSpace, map_direct};
use serde::Serialize;

use crate::failure::Failure;

/// RAM for the tables: 64 TiB by 1 GiB pages need 129 of them.
const RAM_BYTES: u64 = 64 << 20;
/// The first frame for tables; below is what firmware keeps.
const ROOT: Frame = Frame::new(0x100);

/// The way of an address through the tables.
#[derive(Debug, Serialize)]
pub(super) struct Translation {
    /// The index in the table of each level, from the root, whether there is a table or not.
    pub(super) indexes: Vec<Index>,
    /// One step for each table that is read.
    pub(super) steps: Vec<Step>,
    /// How it ends.
    pub(super) end: String,
    /// Bytes of the page, if there is one.
    pub(super) page_bytes: Option<u64>,
    /// Offset in the page.
    pub(super) page_offset: Option<String>,
    /// What the CPU does when user mode reads here.
    pub(super) user_access: String,
    /// Which sets of the TLBs would keep the page.
    pub(super) tlb: Vec<TlbPlace>,
}

/// Which entry of a level's table an address means.
#[derive(Debug, Serialize)]
pub(super) struct Index {
    /// The name of the level in Linux.
    pub(super) name: &'static str,
    /// The index.
    pub(super) index: u64,
}

/// One entry of the way.
#[derive(Debug, Serialize)]
pub(super) struct Step {
    /// Its level, from the leaf.
    pub(super) level: u32,
    /// The name of the level in Linux.
    pub(super) name: &'static str,
    /// Address bits that choose the entry, high and low.
    pub(super) bits: [u32; 2],
    /// Their value.
    pub(super) index: u64,
    /// Physical address of the entry.
    pub(super) at: String,
    /// The entry.
    pub(super) entry: String,
    /// Bits that are set, by their names.
    pub(super) flags: Vec<&'static str>,
    /// The frame that it names, if it is present.
    pub(super) frame: Option<String>,
}

/// A place in a TLB.
#[derive(Debug, Serialize)]
pub(super) struct TlbPlace {
    /// Which level.
    pub(super) level: &'static str,
    /// The set.
    pub(super) set: usize,
    /// Of how many.
    pub(super) sets: usize,
    /// How many entries a set has; any of them, the one used longest ago first.
    pub(super) ways: usize,
    /// Page size that is kept.
    pub(super) page_bytes: u64,
}

impl Translation {
    /// Walks the tables of the machine.
    ///
    /// # Errors
    /// Exit code 125: the host has no room for the tables.
    pub(super) fn new(
        space: &KernelSpace,
        addr: VirtAddr,
        tlbs: &TlbSpec,
    ) -> Result<Self, Failure> {
        let geometry = space.config().geometry;
        let no_room = || Failure::own("no room on the host for the page tables");
        let mut ram = Ram::new(RAM_BYTES).map_err(|_| no_room())?;
        let mut next = ROOT.wrapping_add(1);
        let mut take = |ram: &mut Ram| {
            let frame = next;
            next = next.wrapping_add(1);
            (frame.number() < ram.frame_count()).then_some(frame)
        };
        map_direct(space, &mut ram, ROOT, &mut take).ok_or_else(no_room)?;
        let end = PhysAddr::new(space.config().ram_bytes);
        if let Some((array, first)) = space.vmemmap_above(end) {
            array.map(&mut ram, ROOT, first, &mut take).ok_or_else(no_room)?;
        }
        let mut walk = Self {
            indexes: Vec::new(),
            steps: Vec::new(),
            end: String::new(),
            page_bytes: None,
            page_offset: None,
            user_access: "#GP: the address is not canonical, no table is read".to_owned(),
            tlb: Vec::new(),
        };
        if !geometry.is_canonical(addr) {
            walk.end = "no walk".to_owned();
            return Ok(walk);
        }
        let of_level =
            |level| Index { name: level_name(geometry, level), index: geometry.index(level, addr) };
        walk.indexes = (1..=geometry.levels()).rev().map(of_level).collect();
        let mut table = ROOT;
        for level in (1..=geometry.levels()).rev() {
            match walk.step(geometry, &ram, addr, (level, table)) {
                ControlFlow::Continue(below) => table = below,
                ControlFlow::Break(()) => break,
            }
        }
        let size = walk.page_bytes.unwrap_or(machine::PAGE_BYTES);
        walk.tlb = places(tlbs, addr, size);
        Ok(walk)
    }

    /// Reads the entry of one level; goes on with the table that it names.
    fn step(
        &mut self,
        geometry: Geometry,
        ram: &Ram,
        addr: VirtAddr,
        (level, table): (u32, Frame),
    ) -> ControlFlow<(), Frame> {
        let index = geometry.index(level, addr);
        let at = geometry.slot(table, index);
        let entry = geometry.load(ram, at);
        let low = geometry.span_bytes(level).ilog2();
        let high = low + geometry.entries(level).ilog2() - 1;
        let name = level_name(geometry, level);
        let is_leaf = level == 1 || entry.is_large() && geometry.leaf_size(level).is_some();
        let frame = match is_leaf {
            true => geometry.leaf_frame(level, entry),
            false => entry.frame(),
        };
        self.steps.push(Step {
            level,
            name,
            bits: [high, low],
            index,
            at: format!("{:#x}", at.as_u64()),
            entry: format!("{:#x}", entry.raw()),
            flags: flags(entry, is_leaf),
            frame: entry.is_present().then(|| format!("{:#x}", frame.number())),
        });
        if !entry.is_present() {
            self.end =
                format!("{name} entry not present: nothing is mapped here before an object is");
            self.user_access =
                "#PF, error code 4 (user read, not present); Linux says 5 above user space"
                    .to_owned();
            return ControlFlow::Break(());
        }
        if !is_leaf {
            return ControlFlow::Continue(frame);
        }
        let offset = addr.as_u64() & (geometry.span_bytes(level) - 1);
        let physical = frame.start().as_u64() + offset;
        self.end = format!("physical {physical:#x}");
        self.page_bytes = Some(geometry.span_bytes(level));
        self.page_offset = Some(format!("{offset:#x}"));
        self.user_access = "#PF, error code 5 (user read, present): U/S is clear".to_owned();
        ControlFlow::Break(())
    }
}

/// The names of set bits, from the lowest.
fn flags(entry: Pte, is_leaf: bool) -> Vec<&'static str> {
    let bits = [
        (1 << 0, "P"),
        (1 << 1, "RW"),
        (1 << 2, "US"),
        (1 << 3, "PWT"),
        (1 << 4, "PCD"),
        (1 << 5, "A"),
        (1 << 6, "D"),
        (1 << 7, "PS"),
        (1 << 8, "G"),
        (1 << 63, "NX"),
    ];
    let is_named = |name: &str| is_leaf || !matches!(name, "D" | "G");
    let set = bits.iter().filter(|(bit, name)| entry.raw() & bit != 0 && is_named(name));
    set.map(|(_, name)| *name).collect()
}

/// Linux's name of a level.
const fn level_name(geometry: Geometry, level: u32) -> &'static str {
    match (level, geometry.levels()) {
        (1, _) => "PTE",
        (2, 2) | (3, 3) | (4, 4) | (5, _) => "PGD",
        (2, _) => "PMD",
        (3, _) => "PUD",
        _ => "P4D",
    }
}

/// Where each level would keep a page of `page_bytes` at `addr`.
fn places(tlbs: &TlbSpec, addr: VirtAddr, page_bytes: u64) -> Vec<TlbPlace> {
    let levels = [("L1 data", tlbs.l1d), ("L1 instruction", tlbs.l1i), ("L2", tlbs.l2)];
    let place = |(level, spec): (&'static str, LevelSpec)| {
        let (array, kept) = array_of(&spec, page_bytes, level != "L2")?;
        let number = addr.as_u64() / kept;
        let set = usize::try_from(number & (array.sets() as u64).checked_sub(1)?).ok()?;
        let (sets, ways) = (array.sets(), array.ways());
        Some(TlbPlace { level, set, sets, ways, page_bytes: kept })
    };
    levels.into_iter().filter_map(place).collect()
}

/// The array of a level that keeps such a page, and the size of the piece that it keeps: a first
/// level without such entries keeps a piece of the next smaller size, a second level nothing.
fn array_of(spec: &LevelSpec, page_bytes: u64, is_first: bool) -> Option<(Array, u64)> {
    let (large, smaller) = match page_bytes {
        PAGE_4K => return Some((spec.k4, PAGE_4K)),
        PAGE_1G => (spec.g1, PageSize::M2.bytes()),
        _ => (spec.m2, PAGE_4K),
    };
    match large {
        Large::Own(array) => Some((array, page_bytes)),
        Large::Shared => Some((spec.k4, page_bytes)),
        Large::Absent if is_first => array_of(spec, smaller, is_first),
        Large::Absent => None,
    }
}

const PAGE_4K: u64 = PageSize::K4.bytes();
const PAGE_1G: u64 = PageSize::G1.bytes();
