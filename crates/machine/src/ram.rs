//! RAM: one lazily backed anonymous mapping of the host, and the only unsafe code of the crate.
//! The words that emitted code works with lie in another one.
//!
//! ```text
//!  reservation (PROT_NONE)
//!  |..slack..|guard 4 KiB|=== RAM, read-write, 2 MiB aligned ===|device|guard 64 KiB|..slack..|
//! ```
//!
//! Right above RAM a device may have memory of its own, which answers loads and stores like RAM but
//! is none: whoever manages frames never gets it. Bytes outside both behave like absent memory on a
//! bus: word reads give all ones, word writes are dropped. The slice functions panic there instead,
//! because their addresses come from a frame allocator and not from a guest.
//!
//! Invariants
//! 1. `base..base + end` is mapped readable and writable for the life of the value.
//! 2. Nothing else of this process uses that range, but code that took [`Ram::host_base`] on its
//!    own responsibility (the engine).
#![allow(
    unsafe_code,
    reason = "RAM must be lazily backed, huge-page friendly, and have guards: a host mapping"
)]

use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr;
use core::slice;

use crate::addr::{Frame, PAGE_BYTES, PageSize, PhysAddr};

/// The smallest RAM that [`Ram::new`] accepts.
const BYTES_MIN: u64 = 1 << 20;
/// The largest RAM that [`Ram::new`] accepts: what 46 physical address bits reach.
const BYTES_MAX: u64 = 1 << 46;
/// Inaccessible bytes below RAM.
const GUARD_BELOW_BYTES: u64 = PAGE_BYTES;
/// Inaccessible bytes above RAM.
const GUARD_ABOVE_BYTES: u64 = 64 << 10;
/// Bytes that the host's caches bring at once.
const LINE_BYTES: usize = 64;
/// What [`Ram::prefetch_frame`] brings of a frame.
const PREFETCHED_LINES: usize = 32;

/// Why there is no RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RamError {
    /// Not a multiple of 4 KiB, below 1 MiB or, with a device's memory, above 64 TiB.
    BadSize {
        /// What was asked for.
        bytes: u64,
    },
    /// The host refused the reservation.
    HostRefused {
        /// What was asked for.
        bytes: u64,
    },
}

impl fmt::Display for RamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadSize { bytes } => {
                write!(f, "RAM of {bytes} bytes: need a multiple of 4096 from 1 MiB to 64 TiB")
            }
            Self::HostRefused { bytes } => {
                write!(f, "the host refused to reserve {bytes} bytes for RAM")
            }
        }
    }
}

impl core::error::Error for RamError {}

/// The physical memory of one machine. All zero at start.
#[derive(Debug)]
pub struct Ram {
    base: *mut u8,
    bytes: u64,
    /// First physical address behind RAM and the device's memory.
    end: u64,
    reservation: *mut u8,
    reservation_bytes: usize,
}

// SAFETY:
// 1. The pointers name a mapping that this value alone owns (invariant 2); no thread state is
//    attached to it, so it may move between threads with its owner.
unsafe impl Send for Ram {}

impl Ram {
    /// Reserves `bytes` of zeroed memory, backed by the host on first touch.
    ///
    /// # Errors
    /// - [`RamError::BadSize`]: not a multiple of 4,096, below 1 MiB or above 64 TiB.
    /// - [`RamError::HostRefused`]: no address space, or a limit of the host.
    pub fn new(bytes: u64) -> Result<Self, RamError> {
        Self::with_device(bytes, 0)
    }

    /// Likewise, and `device_bytes` of a device's memory right above.
    ///
    /// # Errors
    /// - [`RamError::BadSize`]: one of both is not a multiple of 4,096; RAM below 1 MiB; both
    ///   together above 64 TiB.
    /// - [`RamError::HostRefused`]: no address space, or a limit of the host.
    pub fn with_device(bytes: u64, device_bytes: u64) -> Result<Self, RamError> {
        let end = bytes.saturating_add(device_bytes);
        let is_whole = bytes.is_multiple_of(PAGE_BYTES) && device_bytes.is_multiple_of(PAGE_BYTES);
        if !is_whole || bytes < BYTES_MIN || end > BYTES_MAX {
            return Err(RamError::BadSize { bytes });
        }
        let align = PageSize::M2.bytes();
        let reservation_bytes = align + end + GUARD_ABOVE_BYTES + GUARD_BELOW_BYTES;
        let refused = RamError::HostRefused { bytes };
        let reservation_bytes = usize::try_from(reservation_bytes).map_err(|_| refused)?;
        let length = usize::try_from(end).map_err(|_| refused)?;
        let reservation = reserve(reservation_bytes).ok_or(refused)?;
        let low = reservation.addr() as u64 + GUARD_BELOW_BYTES;
        let offset = low.next_multiple_of(align) - reservation.addr() as u64;
        let base = reservation.wrapping_add(offset as usize);
        let ram = Self { base, bytes, end, reservation, reservation_bytes };
        if open(base, length) { Ok(ram) } else { Err(refused) }
    }

    /// Bytes of RAM.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames of RAM: frame numbers are below this.
    pub const fn frame_count(&self) -> u64 {
        self.bytes / PAGE_BYTES
    }

    /// The first physical address behind RAM and the device's memory.
    pub const fn end(&self) -> PhysAddr {
        PhysAddr::new(self.end)
    }

    /// The host address of physical address 0, for the engine only.
    pub fn host_base(&self) -> u64 {
        self.base.addr() as u64
    }

    /// Reads 8 bytes, little endian; all ones outside RAM.
    #[inline(always)]
    pub fn read_u64(&self, addr: PhysAddr) -> u64 {
        match self.word(addr, 8) {
            // SAFETY:
            // 1. `word` gave a pointer to 8 bytes inside RAM (invariant 1).
            // 2. Any bytes are a valid u64 and the read may be unaligned.
            Some(word) => u64::from_le(unsafe { ptr::read_unaligned(word.cast::<u64>()) }),
            None => u64::MAX,
        }
    }

    /// Writes 8 bytes, little endian; dropped outside RAM.
    #[inline]
    pub fn write_u64(&mut self, addr: PhysAddr, value: u64) {
        if let Some(word) = self.word(addr, 8) {
            // SAFETY:
            // 1. `word` gave a pointer to 8 writable bytes inside RAM (invariant 1).
            // 2. `&mut self`: no reference into RAM is alive.
            unsafe { ptr::write_unaligned(word.cast::<u64>(), value.to_le()) }
        }
    }

    /// Reads 4 bytes, little endian; all ones outside RAM.
    #[inline]
    pub fn read_u32(&self, addr: PhysAddr) -> u32 {
        match self.word(addr, 4) {
            // SAFETY:
            // 1. `word` gave a pointer to 4 bytes inside RAM (invariant 1).
            // 2. Any bytes are a valid u32 and the read may be unaligned.
            Some(word) => u32::from_le(unsafe { ptr::read_unaligned(word.cast::<u32>()) }),
            None => u32::MAX,
        }
    }

    /// Writes 4 bytes, little endian; dropped outside RAM.
    #[inline]
    pub fn write_u32(&mut self, addr: PhysAddr, value: u32) {
        if let Some(word) = self.word(addr, 4) {
            // SAFETY:
            // 1. `word` gave a pointer to 4 writable bytes inside RAM (invariant 1).
            // 2. `&mut self`: no reference into RAM is alive.
            unsafe { ptr::write_unaligned(word.cast::<u32>(), value.to_le()) }
        }
    }

    /// The `len` bytes from `addr`.
    ///
    /// # Panics
    /// If a byte is outside RAM: frame numbers come from the allocator.
    #[inline]
    pub fn slice(&self, addr: PhysAddr, len: u64) -> &[u8] {
        let (start, len) = self.bounds(addr, len);
        // SAFETY:
        // 1. `bounds` gave a start and length inside RAM (invariant 1), at most isize::MAX bytes.
        // 2. The borrow of `self` keeps writers through this type away.
        unsafe { slice::from_raw_parts(start, len) }
    }

    /// The `len` bytes from `addr`, writable.
    ///
    /// # Panics
    /// If a byte is outside RAM: frame numbers come from the allocator.
    #[inline]
    pub fn slice_mut(&mut self, addr: PhysAddr, len: u64) -> &mut [u8] {
        let (start, len) = self.bounds(addr, len);
        // SAFETY:
        // 1. `bounds` gave a start and length inside RAM (invariant 1), at most isize::MAX bytes.
        // 2. The exclusive borrow of `self` keeps all other references away.
        unsafe { slice::from_raw_parts_mut(start, len) }
    }

    /// Fills `frame` with zeros.
    ///
    /// # Panics
    /// If the frame is outside RAM.
    pub fn zero_frame(&mut self, frame: Frame) {
        self.slice_mut(frame.start(), PAGE_BYTES).fill(0);
    }

    /// Begins to bring half of `frame` into the host's caches, for a caller that will write the
    /// whole of it a little later. No byte changes; a frame outside RAM is left alone.
    ///
    /// Half, since the lines on their way take the room of other loads: of 16, 24, 32, 48 and 64
    /// lines, 24 to 48 gave the shortest faults on recycled frames (Xeon of the fourth generation).
    #[inline]
    pub fn prefetch_frame(&self, frame: Frame) {
        let Some(start) = self.word(frame.start(), PAGE_BYTES) else { return };
        for line in 0..PREFETCHED_LINES {
            prefetch_line(start.wrapping_add(line * LINE_BYTES));
        }
    }

    /// Copies the bytes of frame `from` to frame `to`.
    ///
    /// # Panics
    /// If a frame is outside RAM.
    pub fn copy_frame(&mut self, from: Frame, to: Frame) {
        self.copy(from.start(), to.start(), PAGE_BYTES);
    }

    /// Copies `len` bytes from `from` to `to`; the two may overlap.
    ///
    /// # Panics
    /// If a byte is outside RAM.
    pub fn copy(&mut self, from: PhysAddr, to: PhysAddr, len: u64) {
        let (from, _) = self.bounds(from, len);
        let (to, len) = self.bounds(to, len);
        // SAFETY:
        // 1. Both ranges are inside RAM (invariant 1) and `&mut self` excludes references.
        // 2. `ptr::copy` allows the ranges to overlap.
        unsafe { ptr::copy(from, to, len) }
    }

    /// Gives the host the memory of `count` frames from `first` back; they read as zero after.
    ///
    /// # Panics
    /// If a frame is outside RAM.
    pub fn discard(&mut self, first: Frame, count: u64) {
        let bytes = count.checked_mul(PAGE_BYTES).expect("frame counts are below 2^52");
        let (start, len) = self.bounds(first.start(), bytes);
        // SAFETY:
        // 1. The range is inside RAM, page aligned, private and anonymous: MADV_DONTNEED makes it
        //    read as zero and changes nothing else.
        let status = unsafe { libc::madvise(start.cast(), len, libc::MADV_DONTNEED) };
        if status != 0 {
            self.slice_mut(first.start(), bytes).fill(0);
        }
    }

    /// A pointer to `len` bytes at `addr`, if all are inside.
    #[inline(always)]
    fn word(&self, addr: PhysAddr, len: u64) -> Option<*mut u8> {
        (addr.as_u64() <= self.end - len).then(|| self.base.wrapping_add(addr.as_u64() as usize))
    }

    /// A pointer to `len` bytes at `addr` and the length for the host.
    #[inline]
    fn bounds(&self, addr: PhysAddr, len: u64) -> (*mut u8, usize) {
        let is_inside = addr.checked_add(len).is_some_and(|end| end.as_u64() <= self.end);
        assert!(is_inside, "frames come from the allocator: {addr} + {len} is outside RAM");
        (self.base.wrapping_add(addr.as_u64() as usize), len as usize)
    }
}

impl Drop for Ram {
    fn drop(&mut self) {
        // SAFETY:
        // 1. The reservation came from `reserve` with this length and is unmapped once, here.
        // 2. No reference into it outlives `self`.
        unsafe {
            libc::munmap(self.reservation.cast(), self.reservation_bytes);
        }
    }
}

/// Words for emitted code, all zero at start, on huge pages like RAM: their first 2 MiB cost the
/// host one fault and one entry of its TLB.
#[derive(Debug)]
pub(crate) struct HostWords<const N: usize>(Ram);

impl<const N: usize> HostWords<N> {
    /// Reserves the words.
    ///
    /// # Errors
    /// - [`RamError::HostRefused`]: no address space, or a limit of the host.
    pub(crate) fn new() -> Result<Self, RamError> {
        let bytes = (N * size_of::<u64>()) as u64;
        Ram::new(bytes.next_multiple_of(PAGE_BYTES).max(BYTES_MIN)).map(Self)
    }
}

impl<const N: usize> Deref for HostWords<N> {
    type Target = [u64; N];

    #[inline(always)]
    fn deref(&self) -> &[u64; N] {
        // SAFETY:
        // 1. So many bytes at `base`, which is aligned, are mapped as long as `self` lives
        //    (invariant 1 of RAM); all bits are valid words.
        // 2. `&self`: no `&mut` to them is alive, and emitted code does not run meanwhile.
        unsafe { &*self.0.base.cast() }
    }
}

impl<const N: usize> DerefMut for HostWords<N> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut [u64; N] {
        // SAFETY:
        // 1. As above.
        // 2. `&mut self`: no other reference to them is alive, and emitted code does not run
        //    meanwhile.
        unsafe { &mut *self.0.base.cast() }
    }
}

/// Begins to bring one line into the host's caches, where the host's CPU has a way to ask for it.
#[inline(always)]
fn prefetch_line(line: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY:
    // 1. A prefetch reads and writes nothing and cannot fault, whatever the address.
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(line.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = line;
}

/// Reserves inaccessible address space.
fn reserve(bytes: usize) -> Option<*mut u8> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY:
    // 1. A new private mapping at an address of the host's choice touches nothing that exists.
    let start = unsafe { libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0) };
    (start != libc::MAP_FAILED).then_some(start.cast())
}

/// Makes part of a reservation readable and writable, with huge pages where the host has them.
fn open(base: *mut u8, bytes: usize) -> bool {
    // SAFETY:
    // 1. The range lies inside a reservation that the caller owns and nothing uses yet.
    let status = unsafe { libc::mprotect(base.cast(), bytes, libc::PROT_READ | libc::PROT_WRITE) };
    // SAFETY:
    // 1. As above; the advice changes no content, and its failure is harmless.
    let _ = unsafe { libc::madvise(base.cast(), bytes, libc::MADV_HUGEPAGE) };
    status == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_checked() {
        for bytes in [0, 4096, (1 << 20) + 1, (1 << 46) + 4096] {
            assert_eq!(Ram::new(bytes).err(), Some(RamError::BadSize { bytes }));
        }
        assert_eq!(Ram::new(1 << 20).map(|ram| ram.frame_count()), Ok(256));
    }

    #[test]
    fn ram_is_zero_at_start_and_keeps_what_is_written() {
        let mut ram = Ram::new(1 << 20).expect("1 MiB");
        assert!(ram.slice(PhysAddr::new(0), 1 << 20).iter().all(|byte| *byte == 0));
        ram.write_u64(PhysAddr::new(0xfff), 0x1122_3344_5566_7788);
        assert_eq!(ram.slice(PhysAddr::new(0xfff), 2), [0x88, 0x77]);
        assert_eq!(ram.read_u32(PhysAddr::new(0x1000)), 0x4455_6677);
        ram.write_u32(PhysAddr::new(0x2000), 7);
        assert_eq!(ram.read_u64(PhysAddr::new(0x2000)), 7);
    }

    #[test]
    fn a_prefetch_changes_no_byte_and_may_name_any_frame() {
        let mut ram = Ram::new(1 << 20).expect("1 MiB");
        ram.write_u64(PhysAddr::new(0x1000), 7);
        for number in [1, 255, 256, u64::MAX >> 12] {
            ram.prefetch_frame(Frame::new(number));
        }
        assert_eq!(ram.read_u64(PhysAddr::new(0x1000)), 7);
    }

    #[test]
    fn outside_ram_reads_are_ones_and_writes_are_lost() {
        let mut ram = Ram::new(1 << 20).expect("1 MiB");
        for addr in [(1 << 20) - 7, 1 << 20, u64::MAX - 3, u64::MAX] {
            assert_eq!(ram.read_u64(PhysAddr::new(addr)), u64::MAX);
            ram.write_u64(PhysAddr::new(addr), 1);
        }
        assert_eq!(ram.read_u32(PhysAddr::new((1 << 20) - 3)), u32::MAX);
        assert_eq!(ram.read_u64(PhysAddr::new((1 << 20) - 8)), 0);
    }

    #[test]
    fn memory_of_a_device_answers_like_ram_and_is_none() {
        let mut ram = Ram::with_device(1 << 20, 8192).expect("1 MiB and two pages");
        assert_eq!((ram.bytes(), ram.frame_count(), ram.end().as_u64()), (1 << 20, 256, 0x10_2000));
        ram.write_u64(PhysAddr::new(0x10_1ff8), 7);
        assert_eq!(ram.slice(PhysAddr::new(0x10_1ff8), 8)[0], 7);
        assert_eq!(ram.read_u64(PhysAddr::new(0x10_1ff9)), u64::MAX, "beyond its end");
        for (bytes, device_bytes) in [(1 << 20, 4095), (1 << 46, 4096), (1 << 20, u64::MAX - 4095)]
        {
            let refused = Ram::with_device(bytes, device_bytes).err();
            assert_eq!(refused, Some(RamError::BadSize { bytes }), "{device_bytes:#x}");
        }
    }

    #[test]
    fn frames_are_zeroed_copied_and_discarded() {
        let mut ram = Ram::new(4 << 20).expect("4 MiB");
        ram.slice_mut(PhysAddr::new(0x3000), 4096).fill(9);
        ram.copy_frame(Frame::new(3), Frame::new(5));
        ram.copy_frame(Frame::new(5), Frame::new(5));
        assert!(ram.slice(PhysAddr::new(0x5000), 4096).iter().all(|byte| *byte == 9));
        ram.zero_frame(Frame::new(3));
        assert_eq!(ram.read_u64(PhysAddr::new(0x3000)), 0);
        ram.discard(Frame::new(5), 1);
        assert_eq!(ram.read_u64(PhysAddr::new(0x5ff8)), 0);
        ram.discard(Frame::new(0), 0);
    }

    #[test]
    #[should_panic(expected = "outside RAM")]
    fn a_slice_outside_panics() {
        let ram = Ram::new(1 << 20).expect("1 MiB");
        let _ = ram.slice(PhysAddr::new((1 << 20) - 1), 2);
    }

    #[test]
    fn large_ram_costs_nothing_until_touched() {
        let mut ram = Ram::new(1 << 40).expect("1 TiB, not reserved");
        ram.write_u64(PhysAddr::new((1 << 40) - 8), 5);
        assert_eq!(ram.read_u64(PhysAddr::new((1 << 40) - 8)), 5);
        assert_eq!(ram.host_base() % PageSize::M2.bytes(), 0);
    }
}
