//! The common part of the slow path, for a caller that must not touch vector registers.
//!
//! The same transitions as in `data.rs` and `unmodelled.rs`, for 4 KiB pages of one address space
//! whose walk, if one is needed, changes no entry. Everything is looked at before anything changes,
//! so that the caller can ask the full model instead.
//!
//! There is nothing in here that can panic, and no two counters are added to in a row: the engine
//! looks through the machine code of whatever contains this, and does without it if it finds a
//! vector register.

use super::{Mmu, clock_step, fetch_slot};
use crate::access::Access;
use crate::addr::{Frame, PAGE_BYTES, PageSize, VirtAddr};
use crate::clock::CLOCK_DRAIN_BIT;
use crate::fast::{FastPage, FastTlb, layout};
use crate::frames::FrameSet;
use crate::machine::{FastPath, MachineConfig};
use crate::ram::Ram;
use crate::tlb::{DataLevel, TlbMode, Translation};
use crate::walk::{UsedFormat, find_used};

/// Bits of a linear address that the quick path takes; the walk may take fewer.
const ADDRESS_BITS: u32 = 48;

/// Where a page comes from that the first level does not have.
enum Below {
    /// This entry of the second level.
    Second(usize),
    /// A walk, which this entry of the second level will keep.
    Walk(usize),
}

/// What the quick path does in a machine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum QuickMode {
    /// Nothing: tables of 5 levels, or no fast path.
    Never,
    Modelled,
    Unmodelled,
}

/// The format of the tables that it walks, if it walks.
pub(super) fn quick_format(config: &MachineConfig) -> UsedFormat {
    UsedFormat::of(config.geometry).unwrap_or(UsedFormat::Long)
}

impl QuickMode {
    pub(super) fn of(config: &MachineConfig) -> Self {
        let has_format = UsedFormat::of(config.geometry).is_some();
        if config.reference == FastPath::Empty || !has_format {
            Self::Never
        } else if config.tlb == TlbMode::Off {
            Self::Unmodelled
        } else {
            Self::Modelled
        }
    }
}

impl Mmu {
    /// A data access that is usual in the above sense; returns the host address of its first byte.
    /// `None` if there is more to it: then nothing has changed. `slot` is that of `addr`.
    #[inline(always)]
    pub(crate) fn data_quickly(
        &mut self,
        ram: &Ram,
        addr: VirtAddr,
        access: Access,
        slot: usize,
    ) -> Option<u64> {
        let clock = self.fast.words[layout::CLOCK];
        if !addr.is_canonical(ADDRESS_BITS) || clock & CLOCK_DRAIN_BIT != 0 {
            return None;
        }
        let slot = slot & (layout::SLOTS - 1);
        let page = match self.quick_mode {
            QuickMode::Modelled => self.modelled_quickly(ram, addr, access, slot)?,
            QuickMode::Unmodelled => self.unmodelled_quickly(ram, addr, access, slot)?,
            QuickMode::Never => return None,
        };
        self.fast.fill(slot, page, clock);
        self.fast.words[layout::CLOCK] = clock + clock_step(access);
        Some(page.host | addr.as_u64() & PageSize::K4.offset_mask())
    }

    /// The transition of the TLBs; returns what the shadow is to say.
    #[inline(always)]
    fn modelled_quickly(
        &mut self,
        ram: &Ram,
        addr: VirtAddr,
        access: Access,
        slot: usize,
    ) -> Option<FastPage> {
        let Self { fast, l1d, l2, counts, quick_walks, quick_format, code, asid, root, .. } = self;
        if !(l1d.is_plain(*asid) && l2.banks.is_plain_for(*asid)) {
            return None;
        }
        let key = l1d.banks.small_tag(addr, *asid);
        if let Some(entry) = l1d.find_small(addr, key, slot) {
            let place = place(ram, code, addr, access, l1d.banks.get(entry)?)?;
            let former = l1d.owner(slot);
            if l1d.seat(entry)?.slot().is_some() || former.is_some() && !fast.keeps_mask() {
                return None;
            }
            vacate(fast, l1d, slot, former)?;
            l1d.seat(entry)?.take(slot);
            return Some(place);
        }
        let (page, below) = match l2.find_small(addr, key) {
            Some(entry) => (l2.banks.get(entry)?, Below::Second(entry)),
            None => {
                let page = walk_quickly(*quick_format, ram, (*root)?, addr)?;
                (page, Below::Walk(l2.victim_quickly(addr)?))
            }
        };
        let place = place(ram, code, addr, access, page)?;
        let victim = l1d.victim_quickly(&fast.words, addr)?;
        let _ = l1d.seat(victim)?;
        let former = l1d.owner(slot).filter(|former| *former != victim);
        if former.is_some() && !fast.keeps_mask() {
            return None;
        }
        vacate(fast, l1d, slot, former)?;
        match below {
            Below::Second(entry) => {
                l2.touch_quickly(entry)?;
                counts.l2.hits += 1;
            }
            Below::Walk(entry) => {
                l2.put_quickly(entry, addr, key, page)?;
                *quick_walks += 1;
                counts.l2.misses += 1;
            }
        }
        counts.l1d.misses += 1;
        let seat = l1d.seat(victim)?;
        if let Some(old) = seat.slot() {
            fast.poison(old);
        }
        seat.take_for(slot, key, page);
        Some(place)
    }

    /// A fetch access to a 4 KiB page that the first level does not have and the second has, in a
    /// frame that `is_known`; nobody has `slot`. `None` if there is more to it: then nothing has
    /// changed.
    #[inline(always)]
    pub(crate) fn fetch_quickly(
        &mut self,
        addr: VirtAddr,
        slot: u32,
        is_known: impl FnOnce(Frame) -> bool,
    ) -> Option<()> {
        let Self { fast, l1i, l2, l2i, counts, asid, .. } = self;
        let number = u64::from(slot);
        let slot = fetch_slot(slot)? & (layout::FETCH_SLOTS - 1);
        let second = l2i.as_mut().unwrap_or(l2);
        let is_plain = l1i.is_plain(*asid) && second.banks.is_plain_for(*asid);
        if !is_plain || self.quick_mode != QuickMode::Modelled || !addr.is_canonical(ADDRESS_BITS) {
            return None;
        }
        let key = l1i.banks.small_tag(addr, *asid);
        if l1i.is_owned(slot) || l1i.banks.find_small(addr, key).is_some() {
            return None;
        }
        let entry = second.find_small(addr, key)?;
        let page = second.banks.get(entry)?;
        if !page.allows(Access::Fetch) || !is_known(page.frame()) {
            return None;
        }
        let victim = l1i.victim_quickly(&fast.words, addr)?;
        let seat = l1i.seat(victim)?;
        second.touch_quickly(entry)?;
        counts.l2.hits += 1;
        let clock = fast.words[layout::FETCH_CLOCK];
        if let Some(old) = seat.slot() {
            fast.words[layout::FETCH_RESIDENT + (old & (layout::FETCH_SLOTS - 1))] = 0;
        }
        seat.take_for(slot, key, page);
        fast.words[layout::FETCH_CLOCK] = clock + 1;
        fast.words[layout::FETCH_STAMP + slot] = clock;
        fast.words[layout::FETCH_PAGE] = number;
        fast.words[layout::FETCH_RESIDENT + slot] = 1;
        counts.l1i.misses += 1;
        Some(())
    }

    /// The access with the shadow as the only TLB.
    #[inline(always)]
    fn unmodelled_quickly(
        &mut self,
        ram: &Ram,
        addr: VirtAddr,
        access: Access,
        slot: usize,
    ) -> Option<FastPage> {
        let page = walk_quickly(self.quick_format, ram, self.root?, addr)?;
        let place = place(ram, &self.code, addr, access, page)?;
        if self.fast.is_taken_by_other(slot, place.base) {
            if !self.fast.keeps_mask() {
                return None;
            }
            self.fast.note_conflict();
        }
        self.quick_walks += 1;
        Some(place)
    }

    /// As [`Mmu::data_quickly`] for an access to the end of one page and the start of the next.
    /// The first must be in the shadow, and the frames must be neighbours.
    #[inline(always)]
    pub(crate) fn crossing_quickly(
        &mut self,
        ram: &Ram,
        addr: VirtAddr,
        access: Access,
    ) -> Option<u64> {
        let next = VirtAddr::new(addr.align_down(PageSize::K4).as_u64().wrapping_add(PAGE_BYTES));
        let (slot, host) = self.shadow_of(addr, access)?;
        let (clock, stamp) = (self.fast.words[layout::CLOCK], self.fast.words[slot.stamp()]);
        let end = host.wrapping_add(PAGE_BYTES);
        let second = self.shadow_of(next, access);
        let place = match second {
            Some((_, place)) => place,
            None => self.host_quickly(ram, next)?,
        };
        if place != end || clock & CLOCK_DRAIN_BIT != 0 {
            return None;
        }
        self.fast.words[slot.stamp()] = clock;
        let clock_between = clock + clock_step(access);
        self.fast.words[layout::CLOCK] = clock_between;
        if let Some((slot, _)) = second {
            self.fast.words[slot.stamp()] = clock_between;
            self.fast.words[layout::CLOCK] = clock_between + clock_step(access);
        } else if self.data_quickly(ram, next, access, self.fast.index(next)).is_none() {
            self.fast.words[slot.stamp()] = stamp;
            self.fast.words[layout::CLOCK] = clock;
            return None;
        }
        Some(host | addr.as_u64() & PageSize::K4.offset_mask())
    }

    /// The slot of a page that emitted code may access, and the host address of its frame.
    #[inline(always)]
    fn shadow_of(&self, addr: VirtAddr, access: Access) -> Option<(Slot, u64)> {
        let tags = if access == Access::Write { layout::WRITE_TAG } else { layout::READ_TAG };
        let slot = Slot(self.fast.index(addr) & (layout::SLOTS - 1));
        let base = addr.align_down(PageSize::K4).as_u64();
        let is_here = self.fast.words[tags + slot.0] == base.wrapping_neg();
        is_here.then(|| (slot, self.fast.words[layout::HOST + slot.0]))
    }

    /// The host address of the frame that an access to `addr` finds.
    #[inline(always)]
    fn host_quickly(&mut self, ram: &Ram, addr: VirtAddr) -> Option<u64> {
        let Self { quick_format, l1d, l2, asid, root, .. } = self;
        let key = l1d.banks.small_tag(addr, *asid);
        let first = l1d.banks.find_small(addr, key);
        let page = match (first, first.is_none().then(|| l2.find_small(addr, key))) {
            (Some(entry), _) => l1d.banks.get(entry)?,
            (_, Some(Some(entry))) => l2.banks.get(entry)?,
            _ => walk_quickly(*quick_format, ram, (*root)?, addr)?,
        };
        Some(ram.host_base().wrapping_add(page.base()))
    }
}

/// A slot of the data shadow.
#[derive(Clone, Copy)]
struct Slot(usize);

impl Slot {
    /// The word of its stamp.
    #[inline(always)]
    const fn stamp(self) -> usize {
        layout::STAMP + self.0
    }
}

/// Takes the slot from the entry `former`, which keeps the time of its last use. The caller fills
/// the slot.
#[inline(always)]
fn vacate(
    fast: &mut FastTlb,
    l1d: &mut DataLevel,
    slot: usize,
    former: Option<usize>,
) -> Option<()> {
    if let Some(former) = former {
        fast.note_conflict();
        l1d.detach_quickly(&mut fast.words, slot, former)?;
    }
    Some(())
}

/// What a walk finds that changes nothing.
#[inline(always)]
fn walk_quickly(format: UsedFormat, ram: &Ram, root: Frame, addr: VirtAddr) -> Option<Translation> {
    let used = find_used(format, ram, root.start(), addr)?;
    let page = Translation::of_small(used.pte, used.is_writable, used.is_executable);
    (!page.is_global() && page.base() < ram.end().as_u64()).then_some(page)
}

/// What the shadow says of the page at `addr`; `None` if `page` does not allow the access, or holds
/// code that it would change.
#[inline(always)]
fn place(
    ram: &Ram,
    code: &FrameSet,
    addr: VirtAddr,
    access: Access,
    page: Translation,
) -> Option<FastPage> {
    let is_code = code.contains(page.frame());
    if !page.allows(access) || is_code && access == Access::Write {
        return None;
    }
    Some(FastPage {
        base: addr.align_down(PageSize::K4).as_u64(),
        host: ram.host_base().wrapping_add(page.base()),
        is_writable: page.allows(Access::Write) && !is_code,
    })
}
