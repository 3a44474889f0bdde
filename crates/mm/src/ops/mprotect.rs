//! `mprotect`: changes what a range promises.

use bitflags::bitflags;
use machine::{Event, Machine, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use super::edit;
use crate::error::MmError;
use crate::fault::populate;
use crate::memory::Memory;
use crate::page_table;
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;
use crate::vma::Vma;

bitflags! {
    /// `PROT_GROWSDOWN` and `PROT_GROWSUP`.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct ProtectFlags: u8 {
        /// Start at the start of the VMA, which must grow down.
        const GROWS_DOWN = 1;
        /// Not on x86: no VMA grows up.
        const GROWS_UP = 2;
    }
}

/// Gives `addr..addr + bytes` the rights.
///
/// # Errors
/// - [`MmError::InvalidArgument`]: unaligned, or flags that do not fit; nothing changed.
/// - [`MmError::NoMemory`]: a hole, a limit, or too many mappings. - [`MmError::AccessDenied`]:
///   the file does not allow it. What lies before the refusal has changed (PROT-2).
///
/// # Source
/// Linux 6.12 `mm/mprotect.c:do_mprotect_pkey`; semantics PROT-1 to PROT-6.
pub fn mprotect(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    addr: VirtAddr,
    bytes: u64,
    (rights, flags): (Rights, ProtectFlags),
) -> Result<(), MmError> {
    if flags == ProtectFlags::all() {
        return Err(MmError::InvalidArgument("grows both ways"));
    }
    if !addr.is_aligned(PageSize::K4) {
        return Err(MmError::InvalidArgument("address is not page aligned"));
    }
    if bytes == 0 {
        return Ok(());
    }
    let wraps = MmError::NoMemory("range wraps");
    let bytes = VirtAddr::new(bytes).align_up(PageSize::K4).ok_or(wraps)?.as_u64();
    let range = VirtRange::with_length(addr, bytes).ok_or(wraps)?;
    let range = extend_down(mm, range, flags)?;
    let mut at = range.start;
    while at < range.end {
        let vma = mm.vmas.find(at).ok_or(MmError::NoMemory("a hole in the range"))?;
        let part = VirtRange::new(at, vma.range.end.min(range.end));
        check(mm, vma, rights, part)?;
        change(mm, memory, hw, part, rights)?;
        at = part.end;
    }
    Ok(())
}

/// `PROT_GROWSDOWN` starts at the start of the VMA (PROT-3).
fn extend_down(mm: &Mm, range: VirtRange, flags: ProtectFlags) -> Result<VirtRange, MmError> {
    if flags.is_empty() {
        return Ok(range);
    }
    let vma = mm.vmas.first_ending_above(range.start);
    let vma = vma.filter(|vma| vma.range.start < range.end);
    let vma = vma.ok_or(MmError::NoMemory("a hole in the range"))?;
    if flags.contains(ProtectFlags::GROWS_UP) || !vma.flags.contains(VmaFlags::GROWS_DOWN) {
        return Err(MmError::InvalidArgument("the mapping does not grow that way"));
    }
    Ok(VirtRange::new(vma.range.start, range.end))
}

fn check(mm: &Mm, vma: &Vma, rights: Rights, part: VirtRange) -> Result<(), MmError> {
    if vma.flags.contains(VmaFlags::SEALED) {
        return Err(MmError::NotPermitted);
    }
    if !vma.may.contains(rights) {
        return Err(MmError::AccessDenied);
    }
    let is_new_data = rights.contains(Rights::WRITE)
        && !vma.rights.contains(Rights::WRITE)
        && vma.sharing == Sharing::Private
        && !vma.flags.contains(VmaFlags::GROWS_DOWN);
    let data = mm.totals.data_pages.saturating_add(part.pages());
    if is_new_data && data > mm.limits.data_bytes >> PAGE_SHIFT {
        return Err(MmError::NoMemory("data limit"));
    }
    Ok(())
}

/// Changes a part that lies in one VMA.
fn change(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    part: VirtRange,
    rights: Rights,
) -> Result<(), MmError> {
    let vma = mm.vmas.find(part.start).expect("the caller found the VMA");
    if vma.rights == rights {
        return Ok(());
    }
    let wanted = Vma { rights, ..vma.clone() };
    // Locked pages that may now be written get their private copies at once.
    let is_to_populate = vma.flags.contains(VmaFlags::LOCKED)
        && vma.sharing == Sharing::Private
        && !vma.rights.contains(Rights::WRITE)
        && rights.contains(Rights::WRITE);
    let charge = wanted.is_accountable() && !vma.flags.contains(VmaFlags::ACCOUNT);
    // Never touched anonymous memory that loses its right to be written is no promise any more.
    let refund = vma.flags.contains(VmaFlags::ACCOUNT)
        && vma.anon.is_none()
        && vma.backing.file().is_none()
        && !rights.contains(Rights::WRITE);
    if charge {
        mm.charge_commit(memory, part.pages())?;
    }
    let is_accounted = charge || vma.flags.contains(VmaFlags::ACCOUNT) && !refund;
    let modified = edit::modify(mm, part, |vma| {
        vma.rights = rights;
        vma.flags.set(VmaFlags::ACCOUNT, is_accounted);
    });
    if modified.is_err() && charge || modified.is_ok() && refund {
        memory.uncharge_commit(part.pages());
    }
    modified?;
    page_table::protect(mm, memory, hw, part).flush(&mut mm.tables, hw);
    let event = Event::Protect {
        mm: mm.id.0,
        start: part.start.as_u64(),
        bytes: part.bytes(),
        rights: rights.bits(),
    };
    hw.log.push(hw.time(), event);
    if is_to_populate {
        let _unpopulated = populate(mm, memory, hw, part);
    }
    Ok(())
}
