//! `mremap`: grows, shrinks or moves a mapping without touching its pages.

use bitflags::bitflags;
use machine::{Event, Machine, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use super::edit::{self, Charge};
use super::munmap;
use super::place::{self, Wish};
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

/// VMAs that a move needs at most for a moment (REMAP-10).
const HEADROOM: usize = 3;

/// The arguments after the checks: whole pages.
#[derive(Clone, Copy)]
struct Plan {
    old: VirtRange,
    new_bytes: u64,
    flags: RemapFlags,
    new_addr: VirtAddr,
}

/// Beyond every VMA.
const LAST_PAGE: VirtAddr = VirtAddr::new(u64::MAX).align_down(PageSize::K4);

impl Plan {
    /// Whether the caller has a say in where the mapping goes.
    fn has_target(self) -> bool {
        self.flags.intersects(RemapFlags::FIXED | RemapFlags::DONT_UNMAP)
    }

    /// Pages that the mapping grows by.
    fn growth_pages(self) -> u64 {
        self.new_bytes.saturating_sub(self.old.bytes()) >> PAGE_SHIFT
    }

    /// Pages that the address space, and the promised memory, grow by.
    fn added_pages(self) -> u64 {
        if self.flags.contains(RemapFlags::DONT_UNMAP) {
            self.new_bytes >> PAGE_SHIFT
        } else {
            self.growth_pages()
        }
    }
}

/// Resizes or moves the mapping at `addr..addr + old_bytes` and returns where it is.
///
/// Without resizing, `FIXED` moves every mapping of the range and keeps the gaps between them.
///
/// # Errors
/// - [`MmError::InvalidArgument`]: REMAP-1; nothing changed. - [`MmError::Fault`]: nothing mapped,
///   or growth across the end of a VMA. - [`MmError::Again`]: the limit of locked memory.
/// - [`MmError::NoMemory`]: other limits, or no room. - [`MmError::NotPermitted`]: sealed, or below
///   the lowest address. A fixed target may have been unmapped already (REMAP-9).
///
/// # Source
/// Linux `mm/mremap.c`; semantics REMAP-1 to REMAP-10.
// Differs from Linux 6.12: the order of checks and the moves of several VMAs are those of 6.17.
pub fn mremap(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    (addr, old_bytes, new_bytes): (VirtAddr, u64, u64),
    flags: RemapFlags,
    new_addr: VirtAddr,
) -> Result<VirtAddr, MmError> {
    let plan = check_arguments(mm, addr, (old_bytes, new_bytes), flags, new_addr)?;
    if flags.contains(RemapFlags::FIXED) && plan.old.bytes() == plan.new_bytes {
        return move_all(mm, memory, hw, plan);
    }
    check_source(mm, plan)?;
    if plan.has_target() {
        return move_to(mm, memory, hw, plan);
    }
    if plan.new_bytes < plan.old.bytes() {
        shrink(mm, memory, hw, plan)?;
        return Ok(addr);
    }
    if plan.growth_pages() == 0 {
        return Ok(addr);
    }
    if can_grow_in_place(mm, plan) {
        return grow(mm, memory, hw, plan);
    }
    if !flags.contains(RemapFlags::MAY_MOVE) {
        return Err(MmError::NoMemory("no room to grow in place"));
    }
    let target = place::find(mm, Wish::anywhere(plan.new_bytes))?;
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
    if !addr.is_aligned(PageSize::K4) {
        return Err(invalid("address is not page aligned"));
    }
    let (old_bytes, new_bytes) = (super::wrap_to_pages(old_bytes), super::wrap_to_pages(new_bytes));
    if new_bytes == 0 || new_bytes > mm.layout.task_end.as_u64() {
        return Err(invalid("new length"));
    }
    // A range that wraps reaches beyond every VMA: the checks of the source refuse it.
    let old_end = addr.checked_add(old_bytes).unwrap_or(LAST_PAGE);
    let plan = Plan { old: VirtRange::new(addr, old_end), new_bytes, flags, new_addr };
    if plan.has_target() {
        // Linux lets the end of the old range wrap here.
        check_target(mm, plan, VirtRange::new(addr, addr.wrapping_add(old_bytes)))?;
    }
    Ok(plan)
}

fn check_target(mm: &Mm, plan: Plan, old: VirtRange) -> Result<(), MmError> {
    let invalid = MmError::InvalidArgument;
    let target = VirtRange::with_length(plan.new_addr, plan.new_bytes);
    let target = target.filter(|target| target.end <= mm.layout.task_end);
    let target = target.ok_or(invalid("target is not in the address space"))?;
    if !plan.new_addr.is_aligned(PageSize::K4) {
        return Err(invalid("target is not page aligned"));
    }
    if !plan.flags.contains(RemapFlags::MAY_MOVE) {
        return Err(invalid("the flags need MREMAP_MAYMOVE"));
    }
    if plan.flags.contains(RemapFlags::DONT_UNMAP) && plan.old.bytes() != plan.new_bytes {
        return Err(invalid("MREMAP_DONTUNMAP does not resize"));
    }
    if target.overlaps(old) {
        return Err(invalid("target overlaps the source"));
    }
    if mm.vmas.len() + 2 + HEADROOM >= mm.limits.max_map_count {
        return Err(MmError::NoMemory("too many mappings"));
    }
    Ok(())
}

/// What the source VMA and the limits allow (REMAP-2, REMAP-4, REMAP-7).
fn check_source(mm: &Mm, plan: Plan) -> Result<(), MmError> {
    let fault = MmError::Fault { addr: plan.old.start };
    let vma = mm.vmas.find(plan.old.start).ok_or(fault)?;
    if vma.flags.contains(VmaFlags::SEALED) {
        return Err(MmError::NotPermitted);
    }
    if !plan.has_target() && plan.growth_pages() == 0 {
        return Ok(());
    }
    if plan.old.is_empty() && vma.sharing == Sharing::Private {
        return Err(MmError::InvalidArgument("old length 0 of a private mapping"));
    }
    let is_fixed_size = vma.flags.intersects(VmaFlags::DONT_EXPAND | VmaFlags::PFN_MAP);
    if plan.flags.contains(RemapFlags::DONT_UNMAP) && is_fixed_size {
        return Err(MmError::InvalidArgument("the mapping cannot be moved that way"));
    }
    // What a shrinking move cuts off may reach into other VMAs.
    if plan.old.bytes().min(plan.new_bytes) > vma.range.end.offset_from(plan.old.start) {
        return Err(fault);
    }
    if plan.growth_pages() == 0 {
        return Ok(());
    }
    let pages = plan.new_bytes >> PAGE_SHIFT;
    if page_offset_at(vma, plan.old.start).checked_add(pages).is_none() {
        return Err(MmError::InvalidArgument("offset does not fit"));
    }
    if is_fixed_size {
        return Err(fault);
    }
    check_locked(mm, vma, plan)?;
    check_space(mm, vma, plan.growth_pages())
}

fn page_offset_at(vma: &Vma, addr: VirtAddr) -> u64 {
    vma.page_offset.wrapping_add(addr.offset_from(vma.range.start) >> PAGE_SHIFT)
}

fn check_locked(mm: &Mm, vma: &Vma, plan: Plan) -> Result<(), MmError> {
    let limits = &mm.limits;
    let locked = mm.totals.locked_pages.saturating_add(plan.growth_pages());
    let is_locked = vma.flags.contains(VmaFlags::LOCKED) && !limits.can_lock;
    let is_over = is_locked && locked > limits.locked_bytes >> PAGE_SHIFT;
    if is_over { Err(MmError::Again) } else { Ok(()) }
}

/// `RLIMIT_AS` and `RLIMIT_DATA` for `pages` more of a VMA like `vma`.
fn check_space(mm: &Mm, vma: &Vma, pages: u64) -> Result<(), MmError> {
    let limits = &mm.limits;
    if mm.totals.total_pages.saturating_add(pages) > limits.address_space_bytes >> PAGE_SHIFT {
        return Err(MmError::NoMemory("address space limit"));
    }
    let is_data = vma.sharing == Sharing::Private
        && vma.rights.contains(Rights::WRITE)
        && !vma.flags.contains(VmaFlags::GROWS_DOWN);
    let data = mm.totals.data_pages.saturating_add(pages);
    if is_data && data > limits.data_bytes >> PAGE_SHIFT {
        return Err(MmError::NoMemory("data limit"));
    }
    Ok(())
}

/// Unmaps what is beyond the new length; it may reach across VMAs (REMAP-3).
fn shrink(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, plan: Plan) -> Result<(), MmError> {
    let kept_end = plan.old.start.wrapping_add(plan.new_bytes);
    munmap::munmap(mm, memory, hw, kept_end, plan.old.end.offset_from(kept_end))
}

fn can_grow_in_place(mm: &Mm, plan: Plan) -> bool {
    let grown = VirtRange::with_length(plan.old.start, plan.new_bytes);
    let is_last = mm.vmas.find(plan.old.start).is_some_and(|v| v.range.end == plan.old.end);
    is_last
        && grown.is_some_and(|grown| {
            grown.end <= mm.layout.task_end
                && mm.vmas.overlapping(VirtRange::new(plan.old.end, grown.end)).next().is_none()
        })
}

/// Grows into the free range behind (REMAP-5).
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
        mm.charge_commit(memory, added.pages())?;
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

/// Moves every VMA of the range, the gaps between them kept, to a fixed target. The first page
/// must be mapped; what was moved before an error stays moved.
fn move_all(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    plan: Plan,
) -> Result<VirtAddr, MmError> {
    let mut at = plan.old.start;
    let first = mm.vmas.find(at).map(|vma| vma.range);
    let mut next = Some(first.ok_or(MmError::Fault { addr: at })?);
    while let Some(range) = next.filter(|range| range.start.max(at) < plan.old.end) {
        at = at.max(range.start);
        let old = VirtRange::new(at, range.end.min(plan.old.end));
        let new_addr = plan.new_addr.wrapping_add(at.offset_from(plan.old.start));
        let part = Plan { old, new_bytes: old.bytes(), new_addr, ..plan };
        check_source(mm, part)?;
        move_to(mm, memory, hw, part)?;
        at = old.end;
        next = mm.vmas.first_ending_above(at).map(|vma| vma.range);
    }
    Ok(plan.new_addr)
}

/// Moves to where the caller wants it: the target and the tail of a shrinking move go first
/// (REMAP-9). Without `FIXED` the address is a hint.
fn move_to(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    plan: Plan,
) -> Result<VirtAddr, MmError> {
    let addr = plan.old.start;
    let is_fixed = plan.flags.contains(RemapFlags::FIXED);
    if is_fixed {
        munmap::munmap(mm, memory, hw, plan.new_addr, plan.new_bytes)?;
        if mm.vmas.find(addr).is_none() {
            return Err(MmError::Fault { addr });
        }
    }
    let mut plan = plan;
    if plan.old.bytes() > plan.new_bytes {
        shrink(mm, memory, hw, plan)?;
        plan.old.end = addr.wrapping_add(plan.new_bytes);
    }
    let vma = mm.vmas.find(addr).ok_or(MmError::Fault { addr })?;
    if plan.flags.contains(RemapFlags::DONT_UNMAP) {
        check_space(mm, vma, plan.old.pages())?;
    }
    let target = if !is_fixed {
        let hint = plan.new_addr.as_u64();
        place::find(mm, Wish { hint, ..Wish::anywhere(plan.new_bytes) })?
    } else if plan.new_addr < mm.layout.min_address && !mm.limits.can_map_low {
        return Err(MmError::NotPermitted);
    } else {
        plan.new_addr
    };
    relocate(mm, memory, hw, plan, target)
}

/// Moves the entries to `target` and makes the VMA there (REMAP-6, REMAP-8, REMAP-10).
fn relocate(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    plan: Plan,
    target: VirtAddr,
) -> Result<VirtAddr, MmError> {
    if mm.vmas.len() + HEADROOM >= mm.limits.max_map_count {
        return Err(MmError::NoMemory("too many mappings"));
    }
    let source = mm.vmas.find(plan.old.start).expect("the caller found the VMA");
    let mut vma = source.clone();
    vma.range = VirtRange::new(target, target.wrapping_add(plan.new_bytes));
    vma.page_offset = new_page_offset(source, plan.old.start, target);
    vma.fault_count = 0;
    let charged_pages = if vma.flags.contains(VmaFlags::ACCOUNT) { plan.added_pages() } else { 0 };
    mm.charge_commit(memory, charged_pages)?;
    match page_table::move_entries(mm, memory, hw, plan.old, target) {
        Ok(stale) => stale.flush(&mut mm.tables, hw),
        Err(error) => {
            memory.uncharge_commit(charged_pages);
            edit::free_tables(mm, memory, hw, vma.range);
            return Err(error);
        }
    }
    let (is_locked, range) = (vma.flags.contains(VmaFlags::LOCKED), vma.range);
    edit::add(mm, vma);
    let (from, to) = (plan.old.start.as_u64(), target.as_u64());
    hw.log.push(hw.time(), Event::Move { mm: mm.id.0, from, to, bytes: plan.new_bytes });
    if plan.flags.contains(RemapFlags::DONT_UNMAP) {
        leave_empty(mm, plan.old, target);
        let whole = mm.vmas.find(plan.old.start).map_or(plan.old, |vma| vma.range);
        page_table::mark_locked(mm, memory, hw, whole);
    } else if !plan.old.is_empty() {
        edit::remove(mm, memory, hw, plan.old, Charge::Kept)?;
    }
    if is_locked && plan.growth_pages() > 0 {
        let added = VirtRange::new(target.wrapping_add(plan.old.bytes()), range.end);
        let _unpopulated = populate(mm, memory, hw, added);
    }
    Ok(target)
}

/// The old range of `MREMAP_DONTUNMAP`: its whole VMA is not locked any more, and forgets its
/// private pages if all of them moved.
fn leave_empty(mm: &mut Mm, old: VirtRange, target: VirtAddr) {
    edit::set(mm, old.start, |vma| {
        vma.flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
        if vma.range == old && !vma.range.contains(target) {
            vma.anon = None;
        }
    });
}

/// The page offset is kept, unless anonymous memory was never touched: then it is the new place's
/// (REMAP-6, MMAP-5).
fn new_page_offset(source: &Vma, addr: VirtAddr, target: VirtAddr) -> u64 {
    if source.backing.file().is_none() && source.anon.is_none() {
        return target.page().number();
    }
    page_offset_at(source, addr)
}
