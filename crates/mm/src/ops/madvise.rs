//! `madvise`: hints, and the few pieces of advice that do something at once.

use machine::{Access, Event, Machine, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use super::edit;
use crate::error::{FaultError, MmError};
use crate::fault::populate_with;
use crate::memory::Memory;
use crate::page_table::{Zap, zap};
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;

mod pages;

/// What is advised, with the numbers of Linux.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is the MADV_ constant of man 2 madvise")]
pub enum Advice {
    Normal = 0,
    Random = 1,
    Sequential = 2,
    WillNeed = 3,
    DontNeed = 4,
    Free = 8,
    Remove = 9,
    DontFork = 10,
    DoFork = 11,
    Mergeable = 12,
    Unmergeable = 13,
    HugePage = 14,
    NoHugePage = 15,
    DontDump = 16,
    DoDump = 17,
    WipeOnFork = 18,
    KeepOnFork = 19,
    Cold = 20,
    PageOut = 21,
    PopulateRead = 22,
    PopulateWrite = 23,
    DontNeedLocked = 24,
    Collapse = 25,
}

impl Advice {
    const ALL: [Self; 23] = [
        Self::Normal,
        Self::Random,
        Self::Sequential,
        Self::WillNeed,
        Self::DontNeed,
        Self::Free,
        Self::Remove,
        Self::DontFork,
        Self::DoFork,
        Self::Mergeable,
        Self::Unmergeable,
        Self::HugePage,
        Self::NoHugePage,
        Self::DontDump,
        Self::DoDump,
        Self::WipeOnFork,
        Self::KeepOnFork,
        Self::Cold,
        Self::PageOut,
        Self::PopulateRead,
        Self::PopulateWrite,
        Self::DontNeedLocked,
        Self::Collapse,
    ];

    /// The advice with the number of the ABI. Memory failure (100, 101) and guard pages (102, 103)
    /// are not offered, as by a kernel built without them.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|advice| u64::from(*advice as u8) == number)
    }
}

/// Takes advice about `addr..addr + bytes`.
///
/// # Errors
/// - [`MmError::InvalidArgument`]: unaligned, wrapping, or not for this kind of memory.
/// - [`MmError::NoMemory`]: a hole; what is mapped has been advised, except for populating, which
///   stops there. - [`MmError::AccessDenied`], [`MmError::Fault`], [`MmError::Again`].
///
/// # Source
/// Linux 6.12 `mm/madvise.c`; semantics section 9.
pub fn madvise(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    (addr, bytes): (VirtAddr, u64),
    advice: Advice,
) -> Result<(), MmError> {
    if !addr.is_aligned(PageSize::K4) {
        return Err(MmError::InvalidArgument("address is not page aligned"));
    }
    let wraps = MmError::InvalidArgument("range wraps");
    let bytes = VirtAddr::new(bytes).align_up(PageSize::K4).ok_or(wraps)?.as_u64();
    let range = VirtRange::with_length(addr, bytes).ok_or(wraps)?;
    if range.is_empty() {
        return Ok(());
    }
    let event = Event::Advise { mm: mm.id.0, start: addr.as_u64(), bytes, advice: advice as u8 };
    hw.log.push(hw.time(), event);
    match advice {
        Advice::PopulateRead => prefault(mm, memory, hw, range, Access::Read),
        Advice::PopulateWrite => prefault(mm, memory, hw, range, Access::Write),
        _ => each(mm, memory, hw, range, advice),
    }
}

/// Advises every mapped part, and reports a hole at the end.
fn each(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
    advice: Advice,
) -> Result<(), MmError> {
    let mut at = range.start;
    let mut result = Ok(());
    while at < range.end {
        let next = mm.vmas.first_ending_above(at).filter(|vma| vma.range.start < range.end);
        let Some(vma) = next else { return Err(MmError::NoMemory("a hole in the range")) };
        if vma.range.start > at {
            result = Err(MmError::NoMemory("a hole in the range"));
        }
        let part = vma.range.intersection(VirtRange::new(at, range.end));
        at = part.end;
        apply(mm, memory, hw, part, advice)?;
    }
    result
}

/// Advises a part that lies in one VMA.
fn apply(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    part: VirtRange,
    advice: Advice,
) -> Result<(), MmError> {
    use Advice as A;
    let vma = mm.vmas.find(part.start).expect("the caller found the VMA");
    match advice {
        A::DontNeed | A::DontNeedLocked => {
            let is_locked = vma.flags.contains(VmaFlags::LOCKED) && advice == A::DontNeed;
            if is_locked || vma.flags.contains(VmaFlags::PFN_MAP) {
                return Err(MmError::InvalidArgument("locked or device memory"));
            }
            zap(mm, memory, hw, part, Zap::All);
            Ok(())
        }
        A::Free => pages::free(mm, memory, hw, part),
        A::Remove => remove(mm, memory, hw, part),
        A::Cold | A::PageOut if vma.flags.intersects(VmaFlags::LOCKED | VmaFlags::PFN_MAP) => {
            Err(MmError::InvalidArgument("locked or device memory"))
        }
        A::Cold => {
            pages::cold(mm, memory, hw, part);
            Ok(())
        }
        A::PageOut => {
            pages::page_out(mm, memory, hw, part);
            Ok(())
        }
        A::WillNeed => {
            pages::will_need(mm, memory, hw, part);
            Ok(())
        }
        // There are no huge pages, but no harm is done by wishing for one where it would fit.
        A::Collapse if holds_huge_page(vma.range) => Ok(()),
        A::Collapse => Err(MmError::InvalidArgument("no room for a huge page")),
        _ => set_flags(mm, part, advice),
    }
}

/// Whether a huge page of 2 MiB lies in the range (`thp_vma_suitable_order`).
fn holds_huge_page(range: VirtRange) -> bool {
    let first = range.start.align_up(PageSize::M2);
    first
        .and_then(|first| first.checked_add(PageSize::M2.bytes()))
        .is_some_and(|end| end <= range.end)
}

/// `MADV_REMOVE`: a hole in the object behind a shared writable mapping of shared memory.
fn remove(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    part: VirtRange,
) -> Result<(), MmError> {
    let vma = mm.vmas.find(part.start).expect("the caller found the VMA");
    let Some(file) = vma.backing.file().filter(|_| !vma.flags.contains(VmaFlags::LOCKED)) else {
        return Err(MmError::InvalidArgument("locked or anonymous memory"));
    };
    if vma.sharing != Sharing::Shared || !vma.may.contains(Rights::WRITE) {
        return Err(MmError::AccessDenied);
    }
    if file.kind != crate::backing::FileKind::Shmem {
        return Err(MmError::NotSupported);
    }
    let object = file.object;
    let first = vma.page_offset + (part.start.offset_from(vma.range.start) >> PAGE_SHIFT);
    memory.punch_object(&mut [mm], hw, object, first..=first + part.pages() - 1);
    Ok(())
}

/// VMAs that `MADV_MERGEABLE` passes over.
const UNMERGEABLE: VmaFlags =
    VmaFlags::PFN_MAP.union(VmaFlags::IO).union(VmaFlags::DONT_EXPAND).union(VmaFlags::DROPPABLE);

fn set_flags(mm: &mut Mm, part: VirtRange, advice: Advice) -> Result<(), MmError> {
    use Advice as A;
    use VmaFlags as F;
    let vma = mm.vmas.find(part.start).expect("the caller found the VMA");
    let is_anon_private = vma.backing.file().is_none();
    let (clear, set) = match advice {
        A::Normal => (F::RANDOM | F::SEQUENTIAL, F::empty()),
        A::Random => (F::SEQUENTIAL, F::RANDOM),
        A::Sequential => (F::RANDOM, F::SEQUENTIAL),
        A::DontFork => (F::empty(), F::DONT_FORK),
        A::DoFork if vma.flags.contains(F::IO) => {
            return Err(MmError::InvalidArgument("device memory"));
        }
        A::DoFork => (F::DONT_FORK, F::empty()),
        // Nothing is merged: as with `/sys/kernel/mm/ksm/run` at 0, only the wish is noted.
        A::Mergeable if vma.sharing == Sharing::Shared || vma.flags.intersects(UNMERGEABLE) => {
            return Ok(());
        }
        A::Mergeable => (F::empty(), F::MERGEABLE),
        A::Unmergeable => (F::MERGEABLE, F::empty()),
        A::HugePage => (F::NO_HUGE_PAGE, F::HUGE_PAGE),
        A::NoHugePage => (F::HUGE_PAGE, F::NO_HUGE_PAGE),
        A::DontDump => (F::empty(), F::DONT_DUMP),
        A::DoDump | A::KeepOnFork if vma.flags.contains(F::DROPPABLE) => {
            return Err(MmError::InvalidArgument("droppable memory"));
        }
        A::DoDump if vma.flags.intersects(F::IO | F::DONT_EXPAND | F::PFN_MAP) => {
            return Err(MmError::InvalidArgument("device memory"));
        }
        A::DoDump => (F::DONT_DUMP, F::empty()),
        A::WipeOnFork if !is_anon_private => {
            return Err(MmError::InvalidArgument("only private anonymous memory"));
        }
        A::WipeOnFork => (F::empty(), F::WIPE_ON_FORK),
        A::KeepOnFork => (F::WIPE_ON_FORK, F::empty()),
        _ => return Ok(()),
    };
    let wanted = (vma.flags - clear) | set;
    if wanted == vma.flags {
        return Ok(());
    }
    // Linux turns ENOMEM for a new VMA into EAGAIN here.
    edit::update(mm, part, |flags| (flags - clear) | set).map_err(|_| MmError::Again)
}

/// `MADV_POPULATE_READ` and `MADV_POPULATE_WRITE` stop at the first page that cannot be brought.
fn prefault(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
    access: Access,
) -> Result<(), MmError> {
    let mut at = range.start;
    while at < range.end {
        let vma = mm.vmas.find(at).ok_or(MmError::NoMemory("a hole in the range"))?;
        let needed = if access == Access::Write { Rights::WRITE } else { Rights::READ };
        if !vma.rights.contains(needed) || vma.flags.intersects(VmaFlags::IO | VmaFlags::PFN_MAP) {
            return Err(MmError::InvalidArgument("the mapping does not allow it"));
        }
        let part = VirtRange::new(at, vma.range.end.min(range.end));
        populate_with(mm, memory, hw, part, access).map_err(|error| match error {
            FaultError::OutOfMemory { .. } => MmError::NoMemory("no frame for a page"),
            FaultError::NoVma { addr }
            | FaultError::Denied { addr }
            | FaultError::BusError { addr } => MmError::Fault { addr },
        })?;
        at = part.end;
    }
    Ok(())
}
