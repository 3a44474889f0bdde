//! Where a new mapping goes: the rules AS-4 to AS-8.

use machine::{PageSize, VirtAddr, VirtRange};

use crate::error::MmError;
use crate::space::Mm;

/// `MAP_32BIT` maps between 1 and 2 GiB (AS-8).
const LOW_2G: (u64, u64) = (0x4000_0000, 0x8000_0000);

/// What a placement is for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// The hint, or 0.
    pub hint: u64,
    /// Length in bytes, whole pages.
    pub bytes: u64,
    /// Where to look.
    pub window: Window,
    /// The start is a multiple of this.
    pub align: PageSize,
}

/// Where to look for room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Window {
    /// Top down from the base of the layout.
    Layout,
    /// `MAP_32BIT`.
    Low2G,
}

/// Finds room for a mapping: at the hint if that is free, else the highest gap below the base of
/// the layout, else the lowest gap above its bottom-up base.
///
/// # Errors
/// - [`MmError::NoMemory`]: longer than the address space, or no gap is large enough.
///
/// # Source
/// Linux 6.12 `arch/x86/kernel/sys_x86_64.c`, `mm/mmap.c`; semantics AS-4 to AS-8.
pub(super) fn find(mm: &Mm, wish: Wish) -> Result<VirtAddr, MmError> {
    let end = mm.layout.task_end.as_u64();
    if wish.bytes > end {
        return Err(MmError::NoMemory("longer than the address space"));
    }
    if let Some(addr) = at_hint(mm, wish) {
        return Ok(addr);
    }
    let low = mm.layout.min_address.as_u64().max(PageSize::K4.bytes());
    let base = mm.layout.mmap_base.as_u64();
    let found = match wish.window {
        Window::Low2G => lowest(mm, wish, LOW_2G.0, LOW_2G.1.min(end)),
        Window::Layout => highest(mm, wish, low, base)
            .or_else(|| lowest(mm, wish, mm.layout.mmap_legacy_base.as_u64().max(low), end)),
    };
    found.map(VirtAddr::new).ok_or(MmError::NoMemory("no free range is large enough"))
}

/// The hint, rounded down to a page and raised to the lowest address, if the range is free (AS-7).
fn at_hint(mm: &Mm, wish: Wish) -> Option<VirtAddr> {
    if wish.hint == 0 {
        return None;
    }
    let hint = VirtAddr::new(wish.hint).align_down(PageSize::K4);
    let hint = if hint.as_u64() == 0 { return None } else { hint.max(mm.layout.min_address) };
    let range = VirtRange::with_length(hint, wish.bytes)?;
    let is_low = wish.window == Window::Low2G && range.end.as_u64() > LOW_2G.1;
    (range.end <= mm.layout.task_end && !is_low && mm.vmas.is_clear(range)).then_some(hint)
}

fn highest(mm: &Mm, wish: Wish, low: u64, high: u64) -> Option<u64> {
    let mask = wish.align.offset_mask();
    mm.vmas.gaps().highest(wish.bytes, |start, end| {
        let start = start.max(low);
        let at = end.min(high).checked_sub(wish.bytes)? & !mask;
        (at >= start).then_some(at)
    })
}

fn lowest(mm: &Mm, wish: Wish, low: u64, high: u64) -> Option<u64> {
    let mask = wish.align.offset_mask();
    mm.vmas.gaps().lowest(wish.bytes, |start, end| {
        let at = start.max(low).checked_add(mask)? & !mask;
        (at.checked_add(wish.bytes)? <= end.min(high)).then_some(at)
    })
}
