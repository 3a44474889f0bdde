//! The way of one page fault: promise, right, place, case, install, record.
//!
//! The spine ([`handle_fault`]) decides and changes; the cases (`fault/*.rs`) compute what the
//! entry shall be and return it as a [`Resolved`]. Cases do not write entries, except that file
//! faults map the pages around.
//!
//! | old entry | backing | access | case | kind |
//! |---|---|---|---|---|
//! | empty | anonymous | read | shared zero frame, read-only | Zero |
//! | empty | anonymous | write | fresh zeroed frame | Zero |
//! | empty | file, shared memory | read, or shared | page cache; reads map those around | File |
//! | empty | file | write, private | private copy | Cow |
//! | empty | device | any | none: SIGBUS | |
//! | present, write-protected | private | write | last owner: Reuse; else copy: Cow | |
//! | present, write-protected | device, private | write | copy: Cow | |
//! | present, write-protected | shared | write | make writable (dirty tracking) | `MkWrite` |
//! | present, allows | any | any | nothing | Spurious |
//!
//! # Source
//! Linux 6.12 `mm/memory.c:handle_pte_fault`, `arch/x86/mm/fault.c`; semantics FLT-1 to FLT-13.

use machine::{
    Access, Event, FaultLabel, Machine, PageFault, PageSize, Privilege, Pte, Refusal, Side,
    VirtAddr, VirtRange,
};

use crate::backing::{AnonId, Backing, FileKind, ObjectId};
use crate::error::FaultError;
use crate::memory::Memory;
use crate::page_table::{LOCKED, PageTables, PteState, Slot};
use crate::remote::Force;
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;
use crate::swap::{History, SwapInError};
use crate::vma::Vma;

mod anon;
mod cow;
mod file;
mod stack;
mod swap;

/// How a fault was resolved.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FaultKind {
    /// Zero page or fresh zeroed frame.
    Zero,
    /// Page of a file or shared memory.
    File,
    /// Copied to a private frame.
    Cow,
    /// Made writable in place: the last owner.
    Reuse,
    /// Brought back from swap.
    SwapIn,
    /// Shared page made writable.
    MkWrite,
    /// Fresh frame of a stack that grew by this fault.
    Stack,
    /// The entry already allowed the access.
    Spurious,
}

impl FaultKind {
    /// The label in events and counters.
    pub const fn label(self) -> FaultLabel {
        match self {
            Self::Zero => FaultLabel::Zero,
            Self::File => FaultLabel::File,
            Self::Cow => FaultLabel::Cow,
            Self::Reuse => FaultLabel::Reuse,
            Self::SwapIn => FaultLabel::SwapIn,
            Self::MkWrite => FaultLabel::MkWrite,
            Self::Stack => FaultLabel::Stack,
            Self::Spurious => FaultLabel::Spurious,
        }
    }
}

/// Whether a fault had to wait for I/O.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Cost {
    Minor,
    Major,
}

impl From<SwapInError> for Failure {
    fn from(error: SwapInError) -> Self {
        match error {
            SwapInError::NoFrame => Self::NoFrame,
            SwapInError::Device => Self::BusError,
        }
    }
}

/// What a case decided.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Resolved {
    /// The new entry.
    pte: Pte,
    kind: FaultKind,
    cost: Cost,
    /// On which side of a fork the space is, if the page was shared by one and now is not.
    unshares: Option<Side>,
}

impl Resolved {
    const fn minor(pte: Pte, kind: FaultKind) -> Self {
        Self { pte, kind, cost: Cost::Minor, unshares: None }
    }
}

/// Why a case failed; the spine adds the address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Failure {
    BusError,
    NoFrame,
}

/// What the VMA of a fault promises, as far as faults need it.
#[derive(Clone, Copy, Debug)]
struct Promise {
    range: VirtRange,
    rights: Rights,
    sharing: Sharing,
    file: Option<(ObjectId, FileKind)>,
    page_offset: u64,
    anon: Option<AnonId>,
    is_pfn_map: bool,
    is_locked: bool,
    history: History,
    flags: VmaFlags,
}

impl Promise {
    fn of(vma: &Vma) -> Self {
        let file = match &vma.backing {
            Backing::Anon => None,
            Backing::File(file) => Some((file.object, file.kind)),
        };
        Self {
            range: vma.range,
            rights: vma.rights,
            sharing: vma.sharing,
            file,
            page_offset: vma.page_offset,
            anon: vma.anon,
            is_pfn_map: vma.flags.contains(VmaFlags::PFN_MAP),
            is_locked: vma.flags.contains(VmaFlags::LOCKED),
            history: vma.history,
            flags: vma.flags,
        }
    }

    /// Whether the access may be resolved at all.
    ///
    /// Not a question of rights alone: a fetch from an absent page is first resolved like a read
    /// and refused when it comes again (FLT-1.6), and x86 can read whatever it can write.
    fn permits(&self, fault: PageFault) -> bool {
        match (fault.access, fault.refusal) {
            (Access::Write, _) => self.rights.contains(Rights::WRITE),
            (_, Refusal::NotPresent) => self.rights.is_accessible(),
            (Access::Fetch, _) => self.rights.contains(Rights::EXECUTE),
            (Access::Read, _) => false,
        }
    }
}

/// One fault on its way: what the cases see.
struct Fault<'a> {
    memory: &'a mut Memory,
    hw: &'a mut Machine,
    /// Slot of the address space in [`Memory`].
    space: usize,
    promise: Promise,
    /// First byte of the page.
    addr: VirtAddr,
    access: Access,
    slot: Slot,
    old: Pte,
    /// Leaf bits of the rights, accessed bit and mark of locking included.
    bits: Pte,
    /// Whether a page of a file had to be brought.
    cost: Cost,
}

/// Resolves one page fault of `mm`.
///
/// On success the leaf entry of the faulting page allows the access and the CPU may retry; or, for
/// a fetch from an absent page that may not be executed, the next attempt is refused.
///
/// # Errors
/// - [`FaultError::NoVma`]: no VMA covers the address and no stack may grow there.
/// - [`FaultError::Denied`]: the VMA does not allow the access.
/// - [`FaultError::BusError`]: the page is beyond the end of its object or can not be read.
/// - [`FaultError::OutOfMemory`]: no frame is free; the entry is as it was, page tables on the way
///   to it may have been made.
///
/// # Source
/// Linux 6.12 `arch/x86/mm/fault.c:do_user_addr_fault`; semantics FLT-1, FLT-12.
pub fn handle_fault(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    fault: PageFault,
) -> Result<FaultKind, FaultError> {
    let outcome = resolve(mm, memory, hw, fault, Force::No);
    record(mm, memory, hw, fault, outcome)
}

/// The same for an access that passes over the rights of the VMA, as far as this may ever allow it;
/// no stack grows. The entry gets the rights of the VMA, so the program itself gains nothing.
///
/// # Errors
/// As [`handle_fault`].
pub(crate) fn force_fault(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    fault: PageFault,
) -> Result<FaultKind, FaultError> {
    let outcome = resolve(mm, memory, hw, fault, Force::Yes);
    record(mm, memory, hw, fault, outcome)
}

/// Counts and logs a fault.
fn record(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    fault: PageFault,
    outcome: Result<Resolved, FaultError>,
) -> Result<FaultKind, FaultError> {
    let (label, is_major) = match outcome {
        Ok(resolved) => (resolved.kind.label(), resolved.cost != Cost::Minor),
        Err(_) => (FaultLabel::Denied, false),
    };
    mm.faults.count(label);
    match outcome {
        Ok(_) if is_major => mm.faults.major += 1,
        Ok(_) => mm.faults.minor += 1,
        Err(_) => {}
    }
    // What no VMA allows is not counted by the machine (FLT-12).
    if !matches!(outcome, Err(FaultError::NoVma { .. } | FaultError::Denied { .. })) {
        memory.events.faults += 1;
        memory.events.major_faults += u64::from(is_major);
    }
    let (addr, code) = (fault.addr.as_u64(), fault.error_code() as u8);
    hw.log.push(hw.time(), Event::Fault { mm: mm.id.0, addr, label, code, is_major });
    if let Ok(Resolved { unshares: Some(side), .. }) = outcome {
        mm.faults.count_unshared(side);
        hw.log.push(hw.time(), Event::Unshare { mm: mm.id.0, addr, side });
    }
    outcome.map(|resolved| resolved.kind)
}

/// The steps of [`handle_fault`] up to the record.
fn resolve(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    fault: PageFault,
    force: Force,
) -> Result<Resolved, FaultError> {
    let addr = fault.addr;
    let mut has_grown = false;
    let mut promise = match mm.vmas.find(addr) {
        Some(vma) => Promise::of(vma),
        None => {
            has_grown = true;
            stack::grow(mm, memory, addr).ok_or(FaultError::NoVma { addr })?
        }
    };
    if force == Force::No && !promise.permits(fault) {
        return Err(FaultError::Denied { addr });
    }
    if fault.access == Access::Write && promise.sharing == Sharing::Private {
        promise.anon = promise.anon.or_else(|| mm.prepare_anon(memory, addr));
    }
    let page = addr.align_down(PageSize::K4);
    let slot = mm.tables.slot_for(memory, hw, page).ok_or(FaultError::OutOfMemory { addr })?;
    let old = mm.tables.read(hw, slot);
    let bits = mm.tables.leaf_bits(promise.rights).with(Pte::ACCESSED);
    let bits = if promise.is_locked { bits.with(LOCKED) } else { bits };
    let access = fault.access;
    let cost = Cost::Minor;
    let space = mm.slot;
    let mut on_way =
        Fault { memory, hw, space, promise, addr: page, access, slot, old, bits, cost };
    let mut resolved = on_way.case(&mut mm.tables).map_err(|failure| match failure {
        Failure::BusError => FaultError::BusError { addr },
        Failure::NoFrame => FaultError::OutOfMemory { addr },
    })?;
    if on_way.cost == Cost::Major {
        resolved.cost = Cost::Major;
        on_way.memory.note_brought(resolved.pte.frame());
    }
    let history = on_way.promise.history;
    if resolved.pte != old {
        let stale = mm.tables.replace(memory, hw, slot, page, (old, resolved.pte));
        stale.flush(&mut mm.tables, hw);
        memory.free_gathered(hw);
    }
    if let Some(vma) = mm.vmas.find_mut(addr) {
        vma.fault_count += 1;
        vma.history = history;
    }
    match resolved.kind {
        FaultKind::Zero if has_grown => Ok(Resolved { kind: FaultKind::Stack, ..resolved }),
        _ => Ok(resolved),
    }
}

impl Fault<'_> {
    /// Whether the fault is a store.
    fn is_write(&self) -> bool {
        self.access == Access::Write
    }

    /// The page index of the fault in its object.
    fn index(&self) -> u64 {
        let pages = self.addr.page().offset_from(self.promise.range.start.page());
        self.promise.page_offset.wrapping_add(pages)
    }

    /// Picks the case for the state of the entry, the backing and the access.
    fn case(&mut self, tables: &mut PageTables) -> Result<Resolved, Failure> {
        match (PteState::of(self.old), self.promise.file, self.promise.sharing) {
            // All of a device's frames are mapped at once: here is none.
            (PteState::Empty, Some((_, FileKind::Device)), _) => Err(Failure::BusError),
            (PteState::Empty, None, _) if self.is_write() => anon::fresh(self),
            (PteState::Empty, None, _) => Ok(anon::zero(self)),
            (PteState::Empty, Some(file), Sharing::Private) if self.is_write() => {
                file::private_copy(self, file)
            }
            (PteState::Empty, Some(file), _) if self.is_write() => file::shared_write(self, file),
            (PteState::Empty, Some(file), _) => file::read(self, tables, file),
            (PteState::Swapped, ..) => swap::bring(self, tables),
            (PteState::Present, ..) if self.is_allowed() => {
                Ok(Resolved::minor(self.old, FaultKind::Spurious))
            }
            (PteState::Present, _, Sharing::Private) if self.is_write() => cow::write(self),
            (PteState::Present, _, Sharing::Shared) if self.is_write() => file::mk_write(self),
            (PteState::Present, ..) => Ok(self.restored()),
        }
    }

    /// Whether the entry already allows the access (or could not allow more).
    fn is_allowed(&self) -> bool {
        let old = self.old;
        let is_executable = old.is_executable() || !self.promise.rights.contains(Rights::EXECUTE);
        old.is_present()
            && old.is_user()
            && (!self.is_write() || old.is_writable())
            && (self.access != Access::Fetch || is_executable)
    }

    /// The entry with the rights of the VMA; nothing leaves entries behind that need it.
    fn restored(&self) -> Resolved {
        debug_assert!(false, "{:?} at {} has less rights than its VMA", self.old, self.addr);
        Resolved::minor(Pte::new(self.old.frame(), self.bits), FaultKind::Spurious)
    }

    /// A leaf that names `frame`, as a store makes it: dirty, and allowing stores unless the VMA
    /// does not and the store was forced.
    fn written(&self, frame: machine::Frame) -> Pte {
        let leaf = Pte::new(frame, self.bits.with(Pte::DIRTY));
        if self.promise.rights.contains(Rights::WRITE) { leaf.with(Pte::WRITE) } else { leaf }
    }
}

/// Brings the pages of `range` in as `MAP_POPULATE` and `mlock` do: by a store where the VMA is
/// private and writable, else by a load. Each page that needs it is a fault (MMAP-6).
///
/// VMAs that lock on fault, and memory of devices, are left out.
///
/// # Errors
/// Of the first page that can not be brought; those before it are present.
pub fn populate(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
) -> Result<(), FaultError> {
    let skipped = VmaFlags::LOCK_ON_FAULT | VmaFlags::IO | VmaFlags::PFN_MAP;
    let mut addr = range.start;
    while addr < range.end {
        let vma = mm.vmas.find(addr).ok_or(FaultError::NoVma { addr })?;
        let part = VirtRange::new(addr, vma.range.end.min(range.end));
        let is_cow = vma.rights.contains(Rights::WRITE) && vma.sharing == Sharing::Private;
        let access = if is_cow { Access::Write } else { Access::Read };
        if !vma.flags.intersects(skipped) {
            // Without any right nothing is tried, so there is no fault to count.
            if !vma.rights.is_accessible() {
                return Err(FaultError::Denied { addr });
            }
            populate_with(mm, memory, hw, part, access)?;
        }
        addr = part.end;
    }
    Ok(())
}

/// Brings the pages of `range` in with one kind of access, as `MADV_POPULATE_READ` and
/// `MADV_POPULATE_WRITE` do.
///
/// # Errors
/// Of the first page that can not be brought; those before it are present.
pub fn populate_with(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    range: VirtRange,
    access: Access,
) -> Result<(), FaultError> {
    let mut addr = range.start;
    while addr < range.end {
        let old = mm.tables.lookup(hw, addr);
        let is_there = old.is_present() && (access != Access::Write || old.is_writable());
        if !is_there {
            let refusal = if old.is_present() { Refusal::Protection } else { Refusal::NotPresent };
            let privilege = Privilege::User;
            handle_fault(mm, memory, hw, PageFault { addr, access, privilege, refusal })?;
        }
        let Some(next) = addr.checked_add(PageSize::K4.bytes()) else { return Ok(()) };
        addr = next;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
