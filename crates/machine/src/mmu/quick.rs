//! The common half of the slow path, for a caller that must not touch vector registers.
//!
//! A page that is in the first level but has no slot, or that only the second level has: the same
//! transition as in `data.rs`, for 4 KiB pages of one address space. Everything is looked at before
//! anything changes, so that the caller can ask the full model instead.
//!
//! There is no call in here and nothing that can panic: the engine looks through the machine code
//! of whatever contains this, and does without it if it finds a call or a vector register.

use super::{Mmu, clock_step};
use crate::access::Access;
use crate::addr::{PageSize, VirtAddr};
use crate::clock::CLOCK_DRAIN_BIT;
use crate::fast::{FastPage, layout};
use crate::frames::FrameSet;
use crate::machine::FastPath;
use crate::tlb::{TAG_ADDRESS_BITS, Translation};

/// How many bits of an address a tag leaves out.
const SIGN_SHIFT: u32 = 64 - TAG_ADDRESS_BITS;

impl Mmu {
    /// A data access that needs no walk; returns the host address of its first byte. `None` if
    /// there is more to it: then nothing has changed.
    #[inline(always)]
    pub(crate) fn data_quickly(
        &mut self,
        host_base: u64,
        addr: VirtAddr,
        access: Access,
    ) -> Option<u64> {
        let Self { fast, l1d, l2, counts, code, asid, .. } = self;
        let clock = fast.words[layout::CLOCK];
        let signed = addr.as_u64().cast_signed();
        let is_canonical = signed << SIGN_SHIFT >> SIGN_SHIFT == signed;
        let is_usual = self.is_modelled && self.fast_path == FastPath::Filled;
        let is_plain = l1d.is_plain(*asid) && l2.banks.is_plain_for(*asid);
        let slot = fast.index(addr);
        if !(is_canonical && is_usual && is_plain)
            || clock & CLOCK_DRAIN_BIT != 0
            || l1d.is_owned(slot)
        {
            return None;
        }
        let key = l1d.banks.small_tag(addr, *asid);
        let page = if let Some(entry) = l1d.banks.find_small(addr, key) {
            let page = l1d.banks.get(entry)?;
            let place = place(code, host_base, addr, access, page)?;
            let seat = l1d.seat(entry)?;
            if seat.slot().is_some() {
                return None;
            }
            seat.take(slot);
            place
        } else {
            let second = l2.find_small(addr, key)?;
            let page = l2.banks.get(second)?;
            let place = place(code, host_base, addr, access, page)?;
            let victim = l1d.victim_quickly(&fast.words, addr)?;
            let seat = l1d.seat(victim)?;
            l2.touch_quickly(second)?;
            if let Some(old) = seat.slot() {
                fast.poison(old);
            }
            seat.take_for(slot, key, page);
            counts.l2.hits += 1;
            counts.l1d.misses += 1;
            place
        };
        fast.fill(slot, page, clock);
        fast.words[layout::CLOCK] = clock + clock_step(access);
        Some(page.host | addr.as_u64() & PageSize::K4.offset_mask())
    }
}

/// What the shadow says of the page at `addr`; `None` if `page` does not allow the access, or holds
/// code that it would change.
#[inline(always)]
fn place(
    code: &FrameSet,
    host_base: u64,
    addr: VirtAddr,
    access: Access,
    page: Translation,
) -> Option<FastPage> {
    let frame = page.frame();
    let is_code = code.contains(frame);
    if !page.allows(access) || is_code && access == Access::Write {
        return None;
    }
    Some(FastPage {
        base: addr.align_down(PageSize::K4).as_u64(),
        host: host_base.wrapping_add(frame.start().as_u64()),
        is_writable: page.allows(Access::Write) && !is_code,
    })
}
