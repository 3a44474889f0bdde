//! `mremap`: grows, shrinks or moves a mapping without touching its pages.

use bitflags::bitflags;
use machine::{Event, Machine, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use super::place::{self, Window, Wish};
use super::{edit, munmap};
use crate::error::MmError;
use crate::fault::populate;
use crate::memory::Memory;
use crate::page_table;
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;
use crate::vma::Vma;

bitflags! {
    /// The flags of `mremap`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct RemapFlags: u8 {
        /// `MREMAP_MAYMOVE`.
        const MAY_MOVE = 1;
        /// `MREMAP_FIXED`: to `new_addr`, replacing what is there.
        const FIXED = 2;
        /// `MREMAP_DONTUNMAP`: the old range stays, empty.
        const DONT_UNMAP = 4;
    }
}

/// The arguments after the checks: whole pages.
#[derive(Clone, Copy)]
struct Plan {
    old: VirtRange,
    new_bytes: u64,
    flags: RemapFlags,
    new_addr: VirtAddr,
}

/// Resizes or moves the mapping at `addr..addr + old_bytes` and returns where it is.
///
/// # Errors
/// - [`MmError::InvalidArgument`]: REMAP-1. - [`MmError::Fault`]: nothing mapped, or growth across
///   the end of a VMA. - [`MmError::Again`]: the limit of locked memory. - [`MmError::NoMemory`]:
///   other limits, or no room. A fixed target may have been unmapped already (REMAP-9).
///
/// # Source
/// Linux 6.12 `mm/mremap.c`; semantics REMAP-1 to REMAP-10.
pub fn mremap(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    (addr, old_bytes, new_bytes): (VirtAddr, u64, u64),
    flags: RemapFlags,
    new_addr: VirtAddr,
) -> Result<VirtAddr, MmError> {
    let plan = check_arguments(mm, addr, (old_bytes, new_bytes), flags, new_addr)?;
    if flags.contains(RemapFlags::FIXED) {
        return move_to_fixed(mm, memory, hw, plan);
    }
    if plan.new_bytes < plan.old.bytes() && !flags.contains(RemapFlags::DONT_UNMAP) {
        if mm.vmas.find(addr).is_none() {
            return Err(MmError::Fault { addr });
        }
        let kept = plan.old.start.wrapping_add(plan.new_bytes);
        munmap::clear(mm, memory, hw, VirtRange::new(kept, plan.old.end))?;
        return Ok(addr);
    }
    let vma = mm.vmas.find(addr).ok_or(MmError::Fault { addr })?;
    check_source(vma, plan)?;
    if plan.new_bytes == plan.old.bytes() && !flags.contains(RemapFlags::DONT_UNMAP) {
        return Ok(addr);
    }
    check_limits(mm, vma, plan)?;
    if can_grow_in_place(mm, vma, plan) {
        return grow(mm, memory, hw, plan);
    }
    if !flags.contains(RemapFlags::MAY_MOVE) {
        return Err(MmError::NoMemory("no room to grow in place"));
    }
    let wish = Wish { hint: 0, bytes: plan.new_bytes, window: Window::Layout, align: PageSize::K4 };
    let target = place::find(mm, wish)?;
    relocate(mm, memory, hw, plan, target)
}

fn check_arguments(
    mm: &Mm,
    addr: VirtAddr,
    (old_bytes, new_bytes): (u64, u64),
    flags: RemapFlags,
    new_addr: VirtAddr,
) -> Result<Plan, MmError> {
    let invalid = MmError::InvalidArgument;
    let needs_move = RemapFlags::FIXED | RemapFlags::DONT_UNMAP;
    if flags.intersects(needs_move) && !flags.contains(RemapFlags::MAY_MOVE) {
        return Err(invalid("the flags need MREMAP_MAYMOVE"));
    }
    if flags.contains(RemapFlags::DONT_UNMAP) && old_bytes != new_bytes {
        return Err(invalid("MREMAP_DONTUNMAP does not resize"));
    }
    if !addr.is_aligned(PageSize::K4) {
        return Err(invalid("address is not page aligned"));
    }
    // Linux lets both lengths wrap to 0 when it rounds them up.
    let round =
        |bytes: u64| bytes.wrapping_add(PageSize::K4.offset_mask()) & !PageSize::K4.offset_mask();
    let (old_bytes, new_bytes) = (round(old_bytes), round(new_bytes));
    if new_bytes == 0 {
        return Err(invalid("new length 0"));
    }
    let old = VirtRange::with_length(addr, old_bytes).ok_or(MmError::Fault { addr })?;
    if flags.contains(RemapFlags::FIXED) {
        check_target(mm, old, new_bytes, new_addr)?;
    }
    if mm.vmas.len() + 3 > mm.limits.max_map_count && flags.contains(RemapFlags::MAY_MOVE) {
        return Err(MmError::NoMemory("too many mappings"));
    }
    Ok(Plan { old, new_bytes, flags, new_addr })
}

fn check_target(
    mm: &Mm,
    old: VirtRange,
    new_bytes: u64,
    new_addr: VirtAddr,
) -> Result<(), MmError> {
    let end = mm.layout.task_end;
    let target = VirtRange::with_length(new_addr, new_bytes);
    let target = target.filter(|target| target.end <= end);
    let target = target.ok_or(MmError::InvalidArgument("target is not in the address space"))?;
    if !new_addr.is_aligned(PageSize::K4) || target.overlaps(old) {
        return Err(MmError::InvalidArgument("target is not aligned, or overlaps"));
    }
    Ok(())
}

/// What the source VMA allows (REMAP-2, REMAP-7).
fn check_source(vma: &Vma, plan: Plan) -> Result<(), MmError> {
    let fault = MmError::Fault { addr: plan.old.start };
    if plan.old.is_empty() && vma.sharing == Sharing::Private {
        return Err(MmError::InvalidArgument("old length 0 of a private mapping"));
    }
    if plan.flags.contains(RemapFlags::DONT_UNMAP)
        && vma.flags.intersects(VmaFlags::DONT_EXPAND | VmaFlags::PFN_MAP)
    {
        return Err(MmError::InvalidArgument("the mapping cannot be moved that way"));
    }
    if plan.old.end > vma.range.end {
        return Err(fault);
    }
    if vma.flags.contains(VmaFlags::SEALED) {
        return Err(MmError::NotPermitted);
    }
    let grows = plan.new_bytes > plan.old.bytes();
    if grows && vma.flags.intersects(VmaFlags::DONT_EXPAND | VmaFlags::PFN_MAP) {
        return Err(fault);
    }
    let pages = plan.new_bytes >> PAGE_SHIFT;
    let skipped = plan.old.start.offset_from(vma.range.start) >> PAGE_SHIFT;
    if vma.page_offset.checked_add(skipped).and_then(|first| first.checked_add(pages)).is_none() {
        return Err(MmError::InvalidArgument("offset does not fit"));
    }
    Ok(())
}

fn check_limits(mm: &Mm, vma: &Vma, plan: Plan) -> Result<(), MmError> {
    let growth = added_pages(plan);
    let limits = &mm.limits;
    let locked = mm.totals.locked_pages.saturating_add(growth);
    let is_locked = vma.flags.contains(VmaFlags::LOCKED) && !limits.can_lock;
    if is_locked && locked > limits.locked_bytes >> PAGE_SHIFT {
        return Err(MmError::Again);
    }
    if mm.totals.total_pages.saturating_add(growth) > limits.address_space_bytes >> PAGE_SHIFT {
        return Err(MmError::NoMemory("address space limit"));
    }
    let is_data = vma.sharing == Sharing::Private
        && vma.rights.contains(Rights::WRITE)
        && !vma.flags.contains(VmaFlags::GROWS_DOWN);
    let data = mm.totals.data_pages.saturating_add(growth);
    if is_data && data > limits.data_bytes >> PAGE_SHIFT {
        return Err(MmError::NoMemory("data limit"));
    }
    Ok(())
}

/// Pages that the address space has more afterwards.
fn added_pages(plan: Plan) -> u64 {
    if plan.flags.contains(RemapFlags::DONT_UNMAP) {
        plan.new_bytes >> PAGE_SHIFT
    } else {
        plan.new_bytes.saturating_sub(plan.old.bytes()) >> PAGE_SHIFT
    }
}

fn can_grow_in_place(mm: &Mm, vma: &Vma, plan: Plan) -> bool {
    let grown = VirtRange::with_length(plan.old.start, plan.new_bytes);
    plan.old.end == vma.range.end
        && !plan.old.is_empty()
        && !plan.flags.contains(RemapFlags::DONT_UNMAP)
        && grown.is_some_and(|grown| {
            grown.end <= mm.layout.task_end
                && mm.vmas.overlapping(VirtRange::new(plan.old.end, grown.end)).next().is_none()
        })
}

fn grow(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    plan: Plan,
) -> Result<VirtAddr, MmError> {
    let vma = mm.vmas.find(plan.old.start).expect("the caller found the VMA");
    let added = VirtRange::new(plan.old.end, plan.old.start.wrapping_add(plan.new_bytes));
    let is_locked = vma.flags.contains(VmaFlags::LOCKED);
    if vma.flags.contains(VmaFlags::ACCOUNT) {
        memory.charge_commit(added.pages())?;
    }
    let mut tail = vma.clone();
    tail.page_offset = vma.page_offset.wrapping_add(vma.range.pages());
    tail.range = added;
    tail.fault_count = 0;
    let rights = tail.rights.bits();
    edit::add(mm, tail);
    let (start, bytes) = (added.start.as_u64(), added.bytes());
    hw.log.push(hw.time(), Event::Map { mm: mm.id.0, start, bytes, rights });
    if is_locked {
        let _unpopulated = populate(mm, memory, hw, added);
    }
    Ok(plan.old.start)
}

/// `MREMAP_FIXED`: the target and the tail of a shrinking move go first (REMAP-9).
fn move_to_fixed(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    plan: Plan,
) -> Result<VirtAddr, MmError> {
    let addr = plan.old.start;
    let target = VirtRange::new(plan.new_addr, plan.new_addr.wrapping_add(plan.new_bytes));
    munmap::clear(mm, memory, hw, target)?;
    let mut plan = plan;
    if plan.old.bytes() > plan.new_bytes {
        let kept = addr.wrapping_add(plan.new_bytes);
        munmap::clear(mm, memory, hw, VirtRange::new(kept, plan.old.end))?;
        plan.old.end = kept;
    }
    let vma = mm.vmas.find(addr).ok_or(MmError::Fault { addr })?;
    check_source(vma, plan)?;
    check_limits(mm, vma, plan)?;
    relocate(mm, memory, hw, plan, plan.new_addr)
}

/// Moves the entries to `target` and makes the VMA there (REMAP-6, REMAP-8).
fn relocate(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    plan: Plan,
    target: VirtAddr,
) -> Result<VirtAddr, MmError> {
    let source = mm.vmas.find(plan.old.start).expect("the caller found the VMA").clone();
    let pages = plan.new_bytes >> PAGE_SHIFT;
    let is_charged = source.flags.contains(VmaFlags::ACCOUNT);
    if is_charged {
        memory.charge_commit(pages)?;
    }
    let moved = VirtRange::new(
        plan.old.start,
        plan.old.start.wrapping_add(plan.old.bytes().min(plan.new_bytes)),
    );
    let mut vma = source.clone();
    vma.range = VirtRange::new(target, target.wrapping_add(plan.new_bytes));
    vma.page_offset = new_page_offset(&source, plan, target);
    vma.fault_count = 0;
    match page_table::move_entries(mm, memory, hw, moved, target) {
        Ok(stale) => stale.flush(hw),
        Err(error) => {
            if is_charged {
                memory.uncharge_commit(pages);
            }
            edit::free_tables(mm, memory, hw, vma.range);
            return Err(error);
        }
    }
    let is_locked = vma.flags.contains(VmaFlags::LOCKED);
    let range = vma.range;
    drop(source);
    edit::add(mm, vma);
    let (from, to) = (plan.old.start.as_u64(), target.as_u64());
    hw.log.push(hw.time(), Event::Move { mm: mm.id.0, from, to, bytes: plan.new_bytes });
    if plan.flags.contains(RemapFlags::DONT_UNMAP) {
        edit::update(mm, plan.old, |vma| {
            vma.flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
            vma.anon = None;
        })?;
    } else if !plan.old.is_empty() {
        munmap::clear(mm, memory, hw, plan.old)?;
    }
    if is_locked {
        let _unpopulated = populate(mm, memory, hw, range);
    }
    Ok(target)
}

/// The page offset is kept, unless anonymous memory was never touched: then it is the new place's
/// (REMAP-6, MMAP-5).
fn new_page_offset(source: &Vma, plan: Plan, target: VirtAddr) -> u64 {
    if source.backing.file().is_none() && source.anon.is_none() {
        return target.page().number();
    }
    let skipped = plan.old.start.offset_from(source.range.start) >> PAGE_SHIFT;
    source.page_offset.wrapping_add(skipped)
}
