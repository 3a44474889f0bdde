//! `mmap`: makes a promise, and no frame.

use alloc::sync::Arc;

use bitflags::bitflags;
use machine::{Event, Frame, Machine, PAGE_BYTES, PAGE_SHIFT, PageSize, VirtAddr, VirtRange};

use super::device;
use super::edit::{self, Charge};
use super::munmap;
use super::place::{self, Window, Wish};
use crate::backing::{Backing, FileKind, MappedFile};
use crate::error::MmError;
use crate::fault::populate;
use crate::memory::Memory;
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;
use crate::vma::Vma;

bitflags! {
    /// The flags of `mmap` that matter here, decoded from the ABI's numbers by the kernel.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct MapFlags: u32 {
        /// `MAP_FIXED`: exactly there, replacing what is mapped.
        const FIXED = 1 << 0;
        /// `MAP_FIXED_NOREPLACE`: exactly there, or fail.
        const FIXED_NO_REPLACE = 1 << 1;
        /// `MAP_GROWSDOWN`.
        const GROWS_DOWN = 1 << 2;
        /// `MAP_LOCKED`.
        const LOCKED = 1 << 3;
        /// `MAP_NORESERVE`.
        const NO_RESERVE = 1 << 4;
        /// `MAP_POPULATE` without `MAP_NONBLOCK`.
        const POPULATE = 1 << 5;
        /// `MAP_32BIT`.
        const LOW_2G = 1 << 6;
        /// `MAP_DROPPABLE`.
        const DROPPABLE = 1 << 7;
        /// A mapping of the kernel's own pages (vdso, vvar): never merged.
        const SPECIAL = 1 << 8;
    }
}

/// Either kind of fixed mapping.
const IS_FIXED: MapFlags = MapFlags::FIXED.union(MapFlags::FIXED_NO_REPLACE);

/// Where the content of a new mapping comes from.
#[derive(Clone, Debug)]
pub enum MapSource {
    /// Zeros.
    Anonymous,
    /// A file, from byte `offset` on.
    File {
        /// The open file.
        file: Arc<MappedFile>,
        /// Byte offset, a multiple of the page size.
        offset: u64,
    },
    /// Frames of a device, all at once: the caller knows that they are the device's.
    Device {
        /// The open device, of kind [`FileKind::Device`].
        file: Arc<MappedFile>,
        /// Byte offset in the device, a multiple of the page size.
        offset: u64,
        /// The frame of the first page; `None` if the device has not all that is asked for.
        first: Option<Frame>,
    },
}

impl MapSource {
    /// The file and the offset in it.
    const fn file(&self) -> Option<(&Arc<MappedFile>, u64)> {
        match self {
            Self::Anonymous => None,
            Self::File { file, offset } | Self::Device { file, offset, .. } => {
                Some((file, *offset))
            }
        }
    }
}

/// One call of `mmap`.
#[derive(Clone, Debug)]
pub struct MapRequest {
    /// Hint or fixed address; 0 for none.
    pub addr: u64,
    /// Length in bytes, rounded up to pages.
    pub bytes: u64,
    /// What the program may do.
    pub rights: Rights,
    /// Who sees stores.
    pub sharing: Sharing,
    /// The flags.
    pub flags: MapFlags,
    /// The content.
    pub source: MapSource,
}

/// Maps a new range and returns its first address.
///
/// # Errors
/// In the order of MMAP-1, then [`MmError::InvalidArgument`] for what a device has not; nothing has
/// changed, with three exceptions: a split of a VMA that a fixed mapping would have cut, pages that
/// could not be populated (which is not an error, MMAP-6), and what a mapping of a device has
/// replaced when no frame is left for its page tables.
///
/// # Source
/// Linux 6.12 `mm/mmap.c:do_mmap`, `__mmap_region`; semantics section 2.
pub fn mmap(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    request: MapRequest,
) -> Result<VirtAddr, MmError> {
    check_offset(&request)?;
    let bytes = whole_pages(request.bytes)?;
    if mm.vmas.len() > mm.limits.max_map_count {
        return Err(MmError::NoMemory("too many mappings"));
    }
    let addr = address(mm, &request, bytes)?;
    let range =
        VirtRange::with_length(addr, bytes).ok_or(MmError::NoMemory("address space end"))?;
    let flags = vma_flags(mm, &request);
    check_locked(mm, &request, flags, bytes >> PAGE_SHIFT)?;
    check_file(&request, bytes)?;
    let replaced = if request.flags.intersects(IS_FIXED) {
        Replaced::in_range(mm, range)
    } else {
        Replaced::default()
    };
    check_limits(mm, &request, range.pages() - replaced.pages)?;
    let vma = promise(mm, memory, &request, range, flags, replaced)?;
    let vma = if replaced.pages == 0 { vma } else { replace(mm, memory, hw, vma, replaced)? };
    if vma.flags.contains(VmaFlags::LOCKED) == flags.contains(VmaFlags::LOCKED) {
        edit::add(mm, vma);
    } else {
        // Linux looks for neighbours before it takes the lock off droppable memory again.
        edit::add_alone(mm, vma);
    }
    let event =
        Event::Map { mm: mm.id.0, start: addr.as_u64(), bytes, rights: request.rights.bits() };
    hw.log.push(hw.time(), event);
    if let MapSource::Device { first: Some(first), .. } = request.source
        && let Err(error) = device::map_frames(mm, memory, hw, range, first)
    {
        munmap::munmap(mm, memory, hw, addr, bytes)?;
        return Err(error);
    }
    if request.flags.contains(MapFlags::POPULATE) || flags.contains(VmaFlags::LOCKED) {
        // Pages that cannot be brought in are not an error of mmap (MMAP-6).
        let _unpopulated = populate(mm, memory, hw, range);
    }
    Ok(addr)
}

/// Length 0 is invalid; one that rounds up past 64 bits is too long.
fn whole_pages(bytes: u64) -> Result<u64, MmError> {
    if bytes == 0 {
        return Err(MmError::InvalidArgument("length 0"));
    }
    let rounded = VirtAddr::new(bytes).align_up(PageSize::K4);
    rounded.map(VirtAddr::as_u64).ok_or(MmError::NoMemory("length wraps"))
}

fn check_offset(request: &MapRequest) -> Result<(), MmError> {
    match request.source.file() {
        Some((_, offset)) if !offset.is_multiple_of(PAGE_BYTES) => {
            Err(MmError::InvalidArgument("offset is not page aligned"))
        }
        _ => Ok(()),
    }
}

fn address(mm: &Mm, request: &MapRequest, bytes: u64) -> Result<VirtAddr, MmError> {
    if !request.flags.intersects(IS_FIXED) {
        // Not in an address space of 32 bits, which has no room to spare (AS-6).
        let is_huge = mm.layout.task_end.as_u64() > u64::from(u32::MAX)
            && bytes.is_multiple_of(PageSize::M2.bytes())
            && matches!(request.source, MapSource::Anonymous)
            && request.sharing == Sharing::Private
            && request.addr == 0;
        let is_low = request.flags.contains(MapFlags::LOW_2G);
        let window = if is_low { Window::Low2G } else { Window::Layout };
        let wish = Wish { hint: request.addr, bytes, window };
        return if is_huge { place::find_huge(mm, wish) } else { place::find(mm, wish) };
    }
    let end = mm.layout.task_end.as_u64();
    if bytes > end || request.addr > end - bytes {
        return Err(MmError::NoMemory("beyond the address space"));
    }
    let addr = VirtAddr::new(request.addr);
    if !addr.is_aligned(PageSize::K4) {
        return Err(MmError::InvalidArgument("fixed address is not page aligned"));
    }
    if addr < mm.layout.min_address && !mm.limits.can_map_low {
        return Err(MmError::NotPermitted);
    }
    let range = VirtRange::new(addr, addr.wrapping_add(bytes));
    let is_exclusive = request.flags.contains(MapFlags::FIXED_NO_REPLACE);
    if is_exclusive && mm.vmas.overlapping(range).next().is_some() {
        return Err(MmError::Exists);
    }
    Ok(addr)
}

fn vma_flags(mm: &Mm, request: &MapRequest) -> VmaFlags {
    let mut flags = mm.future_flags;
    let mut set = |from: MapFlags, to: VmaFlags| {
        if request.flags.contains(from) {
            flags |= to;
        }
    };
    set(MapFlags::GROWS_DOWN, VmaFlags::GROWS_DOWN);
    set(MapFlags::LOCKED, VmaFlags::LOCKED);
    set(MapFlags::NO_RESERVE, VmaFlags::NO_RESERVE);
    let droppable = VmaFlags::DROPPABLE | VmaFlags::NO_RESERVE;
    set(MapFlags::DROPPABLE, droppable | VmaFlags::WIPE_ON_FORK | VmaFlags::DONT_DUMP);
    set(MapFlags::SPECIAL, VmaFlags::SPECIAL | VmaFlags::DONT_EXPAND);
    match request.source {
        MapSource::Device { .. } => flags | device::FLAGS,
        _ => flags,
    }
}

fn check_locked(mm: &Mm, request: &MapRequest, flags: VmaFlags, pages: u64) -> Result<(), MmError> {
    if !flags.contains(VmaFlags::LOCKED) || mm.limits.can_lock {
        return Ok(());
    }
    if mm.limits.locked_bytes == 0 && request.flags.contains(MapFlags::LOCKED) {
        return Err(MmError::NotPermitted);
    }
    let locked = mm.totals.locked_pages.saturating_add(pages);
    if locked > mm.limits.locked_bytes >> PAGE_SHIFT { Err(MmError::Again) } else { Ok(()) }
}

fn check_file(request: &MapRequest, bytes: u64) -> Result<(), MmError> {
    let is_growing = request.flags.contains(MapFlags::GROWS_DOWN);
    let Some((file, offset)) = request.source.file() else {
        let is_locked = request.flags.contains(MapFlags::LOCKED);
        let is_droppable = request.flags.contains(MapFlags::DROPPABLE);
        return match request.sharing {
            Sharing::Shared if is_growing => {
                Err(MmError::InvalidArgument("a shared mapping cannot grow down"))
            }
            Sharing::Private if is_droppable && (is_growing || is_locked) => {
                Err(MmError::InvalidArgument("droppable memory is not locked and no stack"))
            }
            _ => Ok(()),
        };
    };
    // No file has bytes beyond 2^63.
    if offset.checked_add(bytes).is_none_or(|end| end > i64::MAX as u64) {
        return Err(MmError::Overflow);
    }
    if request.flags.contains(MapFlags::DROPPABLE) {
        return Err(MmError::InvalidArgument("a file mapping cannot be droppable"));
    }
    let is_writing = request.sharing == Sharing::Shared && request.rights.contains(Rights::WRITE);
    if is_writing && !file.may.contains(Rights::WRITE) {
        return Err(MmError::AccessDenied);
    }
    if !file.may.contains(Rights::READ) {
        return Err(MmError::AccessDenied);
    }
    if request.rights.contains(Rights::EXECUTE) && !file.may.contains(Rights::EXECUTE) {
        return Err(MmError::NotPermitted);
    }
    if is_growing {
        return Err(MmError::InvalidArgument("a file mapping cannot grow down"));
    }
    Ok(())
}

/// What a fixed mapping replaces.
#[derive(Clone, Copy, Debug, Default)]
struct Replaced {
    /// Mapped pages.
    pages: u64,
    /// Those of them that are charged.
    accounted_pages: u64,
}

impl Replaced {
    fn in_range(mm: &Mm, range: VirtRange) -> Self {
        let mut replaced = Self::default();
        for vma in mm.vmas.overlapping(range) {
            let pages = vma.range.intersection(range).pages();
            replaced.pages += pages;
            if vma.flags.contains(VmaFlags::ACCOUNT) {
                replaced.accounted_pages += pages;
            }
        }
        replaced
    }

    /// Pages that are to be charged for `vma` in that place.
    fn charge_pages(self, vma: &Vma) -> u64 {
        vma.range.pages() - self.accounted_pages
    }
}

/// Unmaps what is in the place of `vma`, and hands `vma` back. A charged one takes over the charge
/// of what it replaces.
fn replace(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    vma: Vma,
    replaced: Replaced,
) -> Result<Vma, MmError> {
    let is_charged = vma.flags.contains(VmaFlags::ACCOUNT);
    let charge = if is_charged { Charge::Kept } else { Charge::Returned };
    let Err(error) = munmap::clear(mm, memory, hw, vma.range, charge) else { return Ok(vma) };
    if is_charged {
        memory.uncharge_commit(replaced.charge_pages(&vma));
    }
    memory.release_backing(hw, vma.backing);
    Err(error)
}

/// `RLIMIT_AS` and `RLIMIT_DATA` for `growth_pages` more than now.
fn check_limits(mm: &Mm, request: &MapRequest, growth_pages: u64) -> Result<(), MmError> {
    if mm.totals.total_pages + growth_pages > mm.limits.address_space_bytes >> PAGE_SHIFT {
        return Err(MmError::NoMemory("address space limit"));
    }
    let is_data = request.sharing == Sharing::Private
        && request.rights.contains(Rights::WRITE)
        && !request.flags.contains(MapFlags::GROWS_DOWN);
    if is_data && mm.totals.data_pages + growth_pages > mm.limits.data_bytes >> PAGE_SHIFT {
        return Err(MmError::NoMemory("data limit"));
    }
    Ok(())
}

/// Which page of its content the first one of a mapping is.
///
/// # Errors
/// - [`MmError::InvalidArgument`]: a device has not all that is asked for.
fn page_offset(request: &MapRequest, range: VirtRange) -> Result<u64, MmError> {
    match (&request.source, request.sharing) {
        (MapSource::Anonymous, Sharing::Shared) => Ok(0),
        (MapSource::Anonymous, Sharing::Private) => Ok(range.start.page().number()),
        // Differs from Linux: its driver is asked last, when a fixed mapping has already unmapped
        // what was in its place and the promise was charged.
        (MapSource::Device { first: None, .. }, _) => {
            Err(MmError::InvalidArgument("the device has no such memory"))
        }
        // Where copies may come to lie between, Linux keeps the frame in place of the offset.
        (MapSource::Device { first: Some(first), .. }, Sharing::Private) => Ok(first.number()),
        (MapSource::File { offset, .. } | MapSource::Device { offset, .. }, _) => {
            Ok(offset >> PAGE_SHIFT)
        }
    }
}

/// The VMA, charged as a promise where it has to be.
fn promise(
    mm: &Mm,
    memory: &mut Memory,
    request: &MapRequest,
    range: VirtRange,
    flags: VmaFlags,
    replaced: Replaced,
) -> Result<Vma, MmError> {
    let is_shared_anon =
        request.sharing == Sharing::Shared && matches!(request.source, MapSource::Anonymous);
    let mut vma = Vma {
        range,
        rights: request.rights,
        may: may_ever(request),
        sharing: request.sharing,
        flags,
        backing: Backing::Anon,
        page_offset: page_offset(request, range)?,
        anon: None,
        fault_count: 0,
        history: crate::swap::History::default(),
    };
    if flags.intersects(VmaFlags::SPECIAL | VmaFlags::IO | VmaFlags::DROPPABLE) {
        vma.flags -= VmaFlags::LOCKED | VmaFlags::LOCK_ON_FAULT;
    }
    if vma.is_accountable() {
        mm.charge_commit(memory, replaced.charge_pages(&vma))?;
        vma.flags |= VmaFlags::ACCOUNT;
    }
    match &request.source {
        MapSource::File { file, .. } | MapSource::Device { file, .. } => {
            vma.backing = Backing::File(Arc::clone(file));
        }
        MapSource::Anonymous if is_shared_anon => {
            // Not the VMA is charged, but the shared memory behind it, as long as it lives.
            let object = if flags.contains(VmaFlags::NO_RESERVE) {
                memory.add_shared_zeros(range.bytes())
            } else {
                memory.add_charged_zeros(range.bytes())?
            };
            vma.backing = Backing::File(Arc::new(shared_zeros(object)));
        }
        MapSource::Anonymous => {}
    }
    Ok(vma)
}

/// What `mprotect` may ever allow: a shared mapping no more than its file (PROT-2).
fn may_ever(request: &MapRequest) -> Rights {
    match request.source.file() {
        Some((file, _)) if request.sharing == Sharing::Shared => file.may,
        Some((file, _)) => Rights::READ | Rights::WRITE | file.may & Rights::EXECUTE,
        None => Rights::all(),
    }
}

/// The unlinked file behind `MAP_SHARED | MAP_ANONYMOUS` (SHM-1).
fn shared_zeros(object: crate::backing::ObjectId) -> MappedFile {
    MappedFile {
        object,
        path: b"/dev/zero (deleted)".as_slice().into(),
        device: (0, 1),
        // Linux numbers the inodes of its internal tmpfs from 1 on.
        inode: u64::from(object.0) + 1,
        kind: FileKind::Shmem,
        may: Rights::all(),
    }
}
