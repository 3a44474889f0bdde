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
}

impl Wish {
    /// Room for `bytes`, in whole pages, without further wishes.
    pub(super) const fn anywhere(bytes: u64) -> Self {
        Self { hint: 0, bytes, window: Window::Layout }
    }
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
    let (vmas, bytes) = (&mm.vmas, wish.bytes);
    let found = match wish.window {
        Window::Low2G => vmas.lowest_clear(bytes, LOW_2G.0, LOW_2G.1.min(end)),
        Window::Layout => {
            vmas.highest_clear(bytes, low, mm.layout.mmap_base.as_u64()).or_else(|| {
                let bottom = mm.layout.mmap_legacy_base.as_u64().max(low);
                vmas.lowest_clear(bytes, bottom, end)
            })
        }
    };
    found.ok_or(MmError::NoMemory("no free range is large enough"))
}

/// The same at a multiple of 2 MiB, if there is a gap with 2 MiB to spare; else anywhere (AS-6).
///
/// # Errors
/// As [`find`].
///
/// # Source
/// Linux 6.12 `mm/huge_memory.c:__thp_get_unmapped_area`.
pub(super) fn find_huge(mm: &Mm, wish: Wish) -> Result<VirtAddr, MmError> {
    let huge = PageSize::M2;
    let bytes = wish.bytes.saturating_add(huge.bytes());
    match find(mm, Wish { bytes, ..wish }) {
        Ok(addr) => Ok(addr.wrapping_add(huge.bytes()).align_down(huge)),
        Err(_) => find(mm, wish),
    }
}

/// The hint, rounded down to a page and raised to the lowest address, if the range is free (AS-7).
fn at_hint(mm: &Mm, wish: Wish) -> Option<VirtAddr> {
    let hint = VirtAddr::new(wish.hint).align_down(PageSize::K4);
    if hint.as_u64() == 0 {
        return None;
    }
    let hint = hint.max(mm.layout.min_address);
    let range = VirtRange::with_length(hint, wish.bytes)?;
    let is_outside = wish.window == Window::Low2G && range.end.as_u64() > LOW_2G.1;
    (range.end <= mm.layout.task_end && !is_outside && mm.vmas.is_clear(range)).then_some(hint)
}
