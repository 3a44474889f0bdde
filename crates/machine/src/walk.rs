//! The page walk: from a root table in RAM to a leaf, level by level.
//!
//! It reads one entry per level, in the real format, and writes back accessed and dirty bits. It
//! keeps no paging-structure cache and knows no TLB.
//!
//! Rules
//! 1. Rights are the AND of RW and of US over all levels, and the OR of NX.
//! 2. An entry that is not present ends the walk before its other bits are looked at; a reserved
//!    bit in a present one ends it with [`Refusal::ReservedBit`], rights are judged at the leaf.
//! 3. Accessed is set on every level above as the walk passes, on the leaf with dirty only if the
//!    access is allowed.
//! 4. The top entries of PAE count as registers: no rights, no accessed bit, no memory read.

use crate::access::{Access, PageFault, Privilege, Refusal};
use crate::addr::{Frame, PageSize, PhysAddr, VirtAddr};
use crate::geometry::{Format, Geometry, with_format};
use crate::pte::Pte;
use crate::ram::Ram;

/// Whether CR0.WP makes supervisor writes honour read-only pages.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum WriteProtect {
    /// CR0.WP = 1: also the supervisor may not write to read-only pages.
    #[default]
    All,
    /// CR0.WP = 0: only user mode is stopped.
    UserOnly,
}

/// Whether EFER.NXE gives bit 63 its meaning.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum NoExecute {
    /// EFER.NXE = 1: bit 63 forbids fetches.
    #[default]
    Honoured,
    /// EFER.NXE = 0: bit 63 is reserved.
    Reserved,
}

/// The control-register bits that change how a walk judges.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct WalkControls {
    /// CR0.WP.
    pub write_protect: WriteProtect,
    /// EFER.NXE.
    pub no_execute: NoExecute,
}

/// What a walk found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walked {
    /// The leaf entry as it stands in RAM after the walk.
    pub pte: Pte,
    /// Where the leaf entry stands.
    pub slot: PhysAddr,
    /// The level of the leaf.
    pub level: u32,
    /// The size of the page.
    pub size: PageSize,
    /// The 4 KiB frame that holds the address.
    pub frame: Frame,
    /// Whether every level allows writing.
    pub is_writable: bool,
    /// Whether every level allows user mode.
    pub is_user: bool,
    /// Whether no level forbids fetching.
    pub is_executable: bool,
    /// Entries read from RAM.
    pub memory_reads: u32,
}

impl Walked {
    /// The physical address of `addr`, which this walk translated.
    pub const fn physical(&self, addr: VirtAddr) -> PhysAddr {
        self.frame.start().wrapping_add(addr.page_offset())
    }
}

/// A refused walk: the fault, and the entries it cost to find out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Refused {
    pub(crate) fault: PageFault,
    pub(crate) memory_reads: u32,
}

/// Translates `addr` through the tables at `root` for one access.
///
/// Sets the accessed bit of all levels used, and the dirty bit of the leaf for a write.
///
/// # Errors
/// The [`PageFault`] that the CPU raises. Accessed bits of levels above the refusal may be set,
/// nothing else has changed.
///
/// # Source
/// Intel SDM 3A, 4.3 to 4.8.
pub fn walk(
    geometry: Geometry,
    controls: WalkControls,
    ram: &mut Ram,
    root: PhysAddr,
    addr: VirtAddr,
    access: Access,
    privilege: Privilege,
) -> Result<Walked, PageFault> {
    translate(geometry, controls, ram, root, Request { addr, access, privilege })
        .map_err(|refused| refused.fault)
}

/// One access, as the walk sees it.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) addr: VirtAddr,
    pub(crate) access: Access,
    pub(crate) privilege: Privilege,
}

/// [`walk`] that also tells the cost of a refusal.
#[inline]
pub(crate) fn translate(
    geometry: Geometry,
    controls: WalkControls,
    ram: &mut Ram,
    root: PhysAddr,
    request: Request,
) -> Result<Walked, Refused> {
    with_format!(geometry, translate_in::<F>(geometry, controls, ram, root, request))
}

/// The formats that [`find_used`] knows. A fourth would make a table of jumps of its branches,
/// which the engine does not look through when it looks for vector registers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UsedFormat {
    /// 4 levels.
    Long,
    Pae,
    I386,
}

impl UsedFormat {
    pub(crate) const fn of(geometry: Geometry) -> Option<Self> {
        match geometry {
            Geometry::X86_64 => Some(Self::Long),
            Geometry::Pae => Some(Self::Pae),
            Geometry::I386 => Some(Self::I386),
            Geometry::La57 => None,
        }
    }
}

/// What [`find_used`] found: the leaf entry, and the rights of all levels.
#[derive(Clone, Copy)]
pub(crate) struct UsedPage {
    pub(crate) pte: Pte,
    pub(crate) is_writable: bool,
    pub(crate) is_executable: bool,
}

/// A user walk that changes nothing, because accessed is set on all levels, to a 4 KiB page; `None`
/// for any other walk. Nothing in here panics.
#[inline(always)]
pub(crate) fn find_used(
    format: UsedFormat,
    ram: &Ram,
    root: PhysAddr,
    addr: VirtAddr,
) -> Option<UsedPage> {
    use crate::geometry::{I386, Pae, X86_64};
    match format {
        UsedFormat::Long => find_used_in::<X86_64>(ram, root, addr),
        UsedFormat::Pae => find_used_in::<Pae>(ram, root, addr),
        UsedFormat::I386 => find_used_in::<I386>(ram, root, addr),
    }
}

#[inline(always)]
fn find_used_in<F: Format>(ram: &Ram, root: PhysAddr, addr: VirtAddr) -> Option<UsedPage> {
    const USED: u64 = Pte::PRESENT.raw() | Pte::USER.raw() | Pte::ACCESSED.raw();
    let is_canonical = match F::ADDRESS_BITS {
        32 => addr.as_u64() >> 32 == 0,
        bits => addr.is_canonical(bits),
    };
    if !is_canonical {
        return None;
    }
    let mut rights = Pte::WRITE.raw() | Pte::NX.raw();
    let mut table = root.as_u64();
    let mut level = F::LEVELS as usize;
    while level > 1 {
        let raw = load::<F>(ram, slot_in::<F>(table, level, addr));
        let used = if F::HAS_RIGHTS[level] { USED } else { Pte::PRESENT.raw() };
        let unusual = F::RESERVED_TABLE[level] | Pte::LARGE.raw();
        if raw & (used | unusual) != used {
            return None;
        }
        if F::HAS_RIGHTS[level] {
            rights &= raw ^ F::NX;
        }
        table = raw & F::ADDRESS_MASK;
        level -= 1;
    }
    let raw = load::<F>(ram, slot_in::<F>(table, 1, addr));
    if raw & (USED | F::RESERVED_LEAF[1]) != USED {
        return None;
    }
    rights &= raw ^ F::NX;
    Some(UsedPage {
        pte: Pte::from_raw(raw),
        is_writable: rights & Pte::WRITE.raw() != 0,
        is_executable: F::NX == 0 || rights & Pte::NX.raw() != 0,
    })
}

/// Reads the leaf entry of `addr` without changing anything: its slot, level and value, present or
/// not; `None` if an entry above is not present, or the address is not canonical.
pub fn find(
    geometry: Geometry,
    ram: &Ram,
    root: PhysAddr,
    addr: VirtAddr,
) -> Option<(PhysAddr, u32, Pte)> {
    with_format!(geometry, find_in::<F>(geometry, ram, root, addr))
}

#[inline]
fn load<F: Format>(ram: &Ram, slot: PhysAddr) -> u64 {
    if F::ENTRY_BYTES == 4 { u64::from(ram.read_u32(slot)) } else { ram.read_u64(slot) }
}

#[inline]
fn store<F: Format>(ram: &mut Ram, slot: PhysAddr, raw: u64) {
    if F::ENTRY_BYTES == 4 { ram.write_u32(slot, raw as u32) } else { ram.write_u64(slot, raw) }
}

/// Where the entry for `addr` stands in the table of `level` at `table`.
#[inline(always)]
fn slot_in<F: Format>(table: u64, level: usize, addr: VirtAddr) -> PhysAddr {
    let index = addr.as_u64() >> F::SHIFT[level] & ((1 << F::INDEX_BITS[level]) - 1);
    PhysAddr::new(table.wrapping_add(index * F::ENTRY_BYTES))
}

#[inline]
fn translate_in<F: Format>(
    geometry: Geometry,
    controls: WalkControls,
    ram: &mut Ram,
    root: PhysAddr,
    request: Request,
) -> Result<Walked, Refused> {
    let addr = request.addr;
    let mut memory_reads = 0;
    if !geometry.is_canonical(addr) {
        return Err(refuse(request, Refusal::NonCanonical, memory_reads));
    }
    let nx_reserved = if controls.no_execute == NoExecute::Reserved { F::NX } else { 0 };
    // Bits RW, US of all levels by AND; NX by AND of its complement.
    let mut rights = Pte::WRITE.raw() | Pte::USER.raw() | Pte::NX.raw();
    let mut table = root.as_u64();
    let mut level = F::LEVELS as usize;
    loop {
        let slot = slot_in::<F>(table, level, addr);
        let raw = load::<F>(ram, slot);
        memory_reads += u32::from(F::HAS_RIGHTS[level]);
        if raw & Pte::PRESENT.raw() == 0 {
            return Err(refuse(request, Refusal::NotPresent, memory_reads));
        }
        let is_leaf = level == 1 || F::LARGE_LEAF[level] && raw & Pte::LARGE.raw() != 0;
        let reserved = if is_leaf { F::RESERVED_LEAF[level] } else { F::RESERVED_TABLE[level] };
        if raw & (reserved | nx_reserved) != 0 {
            return Err(refuse(request, Refusal::ReservedBit, memory_reads));
        }
        if F::HAS_RIGHTS[level] {
            rights &= raw ^ F::NX;
        }
        if is_leaf {
            let found = Leaf { raw, slot, level, rights, memory_reads };
            return finish::<F>(controls, ram, request, &found);
        }
        if F::HAS_RIGHTS[level] && raw & Pte::ACCESSED.raw() == 0 {
            store::<F>(ram, slot, raw | Pte::ACCESSED.raw());
        }
        table = raw & F::ADDRESS_MASK;
        level -= 1;
    }
}

/// The leaf of a walk, before it is judged.
struct Leaf {
    raw: u64,
    slot: PhysAddr,
    level: usize,
    rights: u64,
    memory_reads: u32,
}

/// Judges the access at the leaf, sets accessed and dirty, and computes the frame.
#[inline]
fn finish<F: Format>(
    controls: WalkControls,
    ram: &mut Ram,
    request: Request,
    leaf: &Leaf,
) -> Result<Walked, Refused> {
    let is_writable = leaf.rights & Pte::WRITE.raw() != 0;
    let is_user = leaf.rights & Pte::USER.raw() != 0;
    let is_executable = F::NX == 0 || leaf.rights & Pte::NX.raw() != 0;
    let privilege_ok = is_user || request.privilege == Privilege::Supervisor;
    let access_ok = match request.access {
        Access::Read => true,
        Access::Fetch => is_executable,
        Access::Write => {
            let is_exempt = request.privilege == Privilege::Supervisor
                && controls.write_protect == WriteProtect::UserOnly;
            is_writable || is_exempt
        }
    };
    if !(privilege_ok && access_ok) {
        return Err(refuse(request, Refusal::Protection, leaf.memory_reads));
    }
    let dirty = if request.access == Access::Write { Pte::DIRTY.raw() } else { 0 };
    let marked = leaf.raw | Pte::ACCESSED.raw() | dirty;
    if marked != leaf.raw {
        store::<F>(ram, leaf.slot, marked);
    }
    let offset_mask = (1 << F::SHIFT[leaf.level]) - 1;
    let base = leaf.raw & F::ADDRESS_MASK & !offset_mask;
    let physical = PhysAddr::new(base | request.addr.as_u64() & offset_mask);
    Ok(Walked {
        pte: Pte::from_raw(marked),
        slot: leaf.slot,
        level: leaf.level as u32,
        size: leaf_size::<F>(leaf.level),
        frame: physical.frame(),
        is_writable,
        is_user,
        is_executable,
        memory_reads: leaf.memory_reads,
    })
}

const fn leaf_size<F: Format>(level: usize) -> PageSize {
    match F::SHIFT[level] {
        12 => PageSize::K4,
        21 => PageSize::M2,
        22 => PageSize::M4,
        _ => PageSize::G1,
    }
}

#[cold]
fn refuse(request: Request, refusal: Refusal, memory_reads: u32) -> Refused {
    let Request { addr, access, privilege } = request;
    Refused { fault: PageFault { addr, access, privilege, refusal }, memory_reads }
}

fn find_in<F: Format>(
    geometry: Geometry,
    ram: &Ram,
    root: PhysAddr,
    addr: VirtAddr,
) -> Option<(PhysAddr, u32, Pte)> {
    if !geometry.is_canonical(addr) {
        return None;
    }
    let mut table = root.as_u64();
    let mut level = F::LEVELS as usize;
    loop {
        let slot = slot_in::<F>(table, level, addr);
        let raw = load::<F>(ram, slot);
        let is_large = F::LARGE_LEAF[level] && raw & Pte::LARGE.raw() != 0;
        if level == 1 || raw & Pte::PRESENT.raw() != 0 && is_large {
            return Some((slot, level as u32, Pte::from_raw(raw)));
        }
        if raw & Pte::PRESENT.raw() == 0 {
            return None;
        }
        table = raw & F::ADDRESS_MASK;
        level -= 1;
    }
}

#[cfg(test)]
mod tests;
