//! Random sequences of memory calls and accesses, the same for every run with the same seed.

use std::fmt;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;
/// First byte of the arena. Not a multiple of 2 MiB, so that no huge page fits into it.
pub(crate) const ARENA: u64 = 0x7000_0010_0000;
/// Pages of the arena.
pub(crate) const ARENA_PAGES: u64 = 640;
/// End of the arena.
pub(crate) const ARENA_END: u64 = ARENA + ARENA_PAGES * PAGE;
/// Pages in which the heap may be.
pub(crate) const HEAP_PAGES: u64 = 64;
/// Bytes of the file.
pub(crate) const FILE_BYTES: u64 = 20 * PAGE + 123;

/// `MAP_` numbers of the ABI.
pub(crate) mod map {
    pub(crate) const SHARED: u64 = 0x1;
    pub(crate) const PRIVATE: u64 = 0x2;
    pub(crate) const DROPPABLE: u64 = 0x8;
    pub(crate) const TYPE: u64 = 0xf;
    pub(crate) const FIXED: u64 = 0x10;
    pub(crate) const ANONYMOUS: u64 = 0x20;
    pub(crate) const GROWS_DOWN: u64 = 0x100;
    pub(crate) const LOCKED: u64 = 0x2000;
    pub(crate) const NO_RESERVE: u64 = 0x4000;
    pub(crate) const POPULATE: u64 = 0x8000;
    pub(crate) const FIXED_NO_REPLACE: u64 = 0x10_0000;
}

/// Advice that both sides take. Ours offers no guard pages, and what `MADV_PAGEOUT` takes away
/// depends on the host's swap and on its page cache.
const ADVICE: [u64; 26] =
    [0, 1, 2, 3, 4, 4, 4, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 22, 23, 24, 26];

/// One step. Numbers are those of the ABI.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Mmap { addr: u64, bytes: u64, rights: u64, flags: u64, file: u64, offset: u64 },
    Munmap { addr: u64, bytes: u64 },
    Mprotect { addr: u64, bytes: u64, rights: u64 },
    Mremap { addr: u64, old_bytes: u64, new_bytes: u64, flags: u64, new_addr: u64 },
    Madvise { addr: u64, bytes: u64, advice: u64 },
    Mlock { addr: u64, bytes: u64, flags: u64 },
    Munlock { addr: u64, bytes: u64 },
    MlockAll { flags: u64 },
    MunlockAll,
    Msync { addr: u64, bytes: u64, flags: u64 },
    Mincore { addr: u64, bytes: u64 },
    Brk { addr: u64 },
    Read { addr: u64 },
    Write { addr: u64, value: u64 },
}

/// The line that the native side reads.
impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Mmap { addr, bytes, rights, flags, file, offset } => {
                write!(f, "m {addr:x} {bytes:x} {rights:x} {flags:x} {file:x} {offset:x}")
            }
            Self::Munmap { addr, bytes } => write!(f, "u {addr:x} {bytes:x}"),
            Self::Mprotect { addr, bytes, rights } => write!(f, "p {addr:x} {bytes:x} {rights:x}"),
            Self::Mremap { addr, old_bytes, new_bytes, flags, new_addr } => {
                write!(f, "r {addr:x} {old_bytes:x} {new_bytes:x} {flags:x} {new_addr:x}")
            }
            Self::Madvise { addr, bytes, advice } => write!(f, "a {addr:x} {bytes:x} {advice:x}"),
            Self::Mlock { addr, bytes, flags } => write!(f, "l {addr:x} {bytes:x} {flags:x}"),
            Self::Munlock { addr, bytes } => write!(f, "k {addr:x} {bytes:x}"),
            Self::MlockAll { flags } => write!(f, "L {flags:x}"),
            Self::MunlockAll => write!(f, "K"),
            Self::Msync { addr, bytes, flags } => write!(f, "y {addr:x} {bytes:x} {flags:x}"),
            Self::Mincore { addr, bytes } => write!(f, "c {addr:x} {bytes:x}"),
            Self::Brk { addr } => write!(f, "b {addr:x}"),
            Self::Read { addr } => write!(f, "R {addr:x}"),
            Self::Write { addr, value } => write!(f, "W {addr:x} {value:x}"),
        }
    }
}

/// Makes the steps.
pub(crate) struct Sequence {
    state: u64,
    heap: u64,
    recent: [u64; 4],
}

impl Sequence {
    /// The sequence of `seed` (not 0), for a heap that starts at `heap`.
    pub(crate) fn new(seed: u64, heap: u64) -> Self {
        Self { state: seed, heap, recent: [ARENA; 4] }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        (self.state >> 11) % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    /// The start of a page: mostly in two zones of the arena, often near an earlier one.
    fn page(&mut self) -> u64 {
        let slot = self.below(4) as usize;
        let page = match self.below(20) {
            0 => self.heap + self.below(HEAP_PAGES) * PAGE,
            1 => ARENA + self.below(ARENA_PAGES) * PAGE,
            2..8 => ARENA + self.below(48) * PAGE,
            8..14 => ARENA + (512 + self.below(48)) * PAGE,
            _ => self.recent[slot] + self.below(9) * PAGE - 4 * PAGE,
        };
        self.recent[slot] = page.clamp(ARENA + 16 * PAGE, ARENA_END - 16 * PAGE);
        page
    }

    /// A start address, now and then unaligned.
    fn start(&mut self) -> u64 {
        let page = self.page();
        if self.one_in(40) { page + 1 + self.below(PAGE - 1) } else { page }
    }

    /// A length, now and then odd, 0 or too large.
    fn bytes(&mut self) -> u64 {
        match self.below(100) {
            0 => 0,
            1 => u64::MAX - self.below(3 * PAGE),
            2 => 1 << 47,
            3..12 => 1 + self.below(12 * PAGE),
            12..20 => (1 + self.below(64)) * PAGE,
            _ => (1 + self.below(8)) * PAGE,
        }
    }

    /// A length for `addr` that does not reach what is reserved around the arena and the heap,
    /// unless it wraps or passes the end of the address space.
    fn bytes_at(&mut self, addr: u64) -> u64 {
        let end = if addr >= ARENA { ARENA_END } else { self.heap + HEAP_PAGES * PAGE };
        match self.bytes() {
            bytes if bytes > 1 << 47 => bytes,
            bytes => bytes.min(end.saturating_sub(addr)),
        }
    }

    /// Rights without execution alone, which depends on protection keys (MMAP-7).
    fn rights(&mut self) -> u64 {
        [0, 1, 1, 3, 3, 3, 3, 3, 3, 5, 7, 2][self.below(12) as usize]
    }

    fn mmap(&mut self) -> Op {
        let is_anonymous = self.below(10) < 6;
        let kind = match self.below(40) {
            0..26 => map::PRIVATE,
            26 => map::DROPPABLE,
            _ => map::SHARED,
        };
        let mut flags = kind;
        if is_anonymous {
            flags |= map::ANONYMOUS;
        }
        flags |= match self.below(20) {
            0..12 => map::FIXED,
            12..14 => map::FIXED_NO_REPLACE,
            _ => 0,
        };
        let extras =
            [(map::GROWS_DOWN, 25), (map::LOCKED, 30), (map::NO_RESERVE, 15), (map::POPULATE, 12)];
        for (flag, odds) in extras {
            if self.one_in(odds) {
                flags |= flag;
            }
        }
        let is_fixed = flags & (map::FIXED | map::FIXED_NO_REPLACE) != 0;
        let addr = if !is_fixed && self.one_in(2) { 0 } else { self.start() };
        let is_there = is_fixed || addr != 0;
        let bytes = if is_there { self.bytes_at(addr) } else { self.bytes() };
        let rights = self.rights();
        let file = [0, 0, 1, 1, 2, 2, 3][self.below(7) as usize];
        let unaligned = if self.one_in(50) { 12 } else { 0 };
        let offset = if is_anonymous { 0 } else { self.below(24) * PAGE + unaligned };
        Op::Mmap { addr, bytes, rights, flags, file, offset }
    }

    fn mremap(&mut self) -> Op {
        let (addr, new_addr) = (self.start(), self.start());
        let old_bytes = self.bytes_at(addr);
        let is_same = self.one_in(3);
        let new_bytes = if is_same { old_bytes } else { self.bytes() };
        let flags = [0, 1, 1, 1, 3, 3, 3, 5, 7, 2, 4, 8][self.below(12) as usize];
        let end = if new_addr >= ARENA { ARENA_END } else { self.heap + HEAP_PAGES * PAGE };
        let is_beyond = new_bytes < 1 << 47 && new_addr + new_bytes > end;
        let flags = if is_beyond { flags & !2 } else { flags };
        Op::Mremap { addr, old_bytes, new_bytes, flags, new_addr }
    }

    /// A range of whole or odd pages.
    fn range(&mut self) -> (u64, u64) {
        let addr = self.start();
        (addr, self.bytes_at(addr))
    }

    /// The next step.
    pub(crate) fn next(&mut self) -> Op {
        match self.below(100) {
            0..16 => self.mmap(),
            30..35 => self.mremap(),
            48 if self.one_in(6) => Op::MlockAll { flags: self.below(9) },
            48 => Op::MunlockAll,
            52..55 => {
                let far = self.below((HEAP_PAGES + 6) * PAGE);
                Op::Brk { addr: (self.heap + far) & !(if self.one_in(2) { PAGE - 1 } else { 0 }) }
            }
            55..72 => Op::Read { addr: self.page() + self.below(2) * 0xff0 },
            72.. => {
                let addr = self.page() + self.below(2) * 0xff0;
                Op::Write { addr, value: 1 + self.below(255) }
            }
            kind => self.on_range(kind),
        }
    }

    /// A call on a range.
    fn on_range(&mut self, kind: u64) -> Op {
        let (addr, bytes) = self.range();
        match kind {
            16..21 => Op::Munmap { addr, bytes },
            21..30 => Op::Mprotect { addr, bytes, rights: self.rights() },
            35..43 => {
                let advice = ADVICE[self.below(ADVICE.len() as u64) as usize];
                Op::Madvise { addr, bytes, advice }
            }
            43..45 => {
                let flags = [0, 0, 1, 2][self.below(4) as usize];
                Op::Mlock { addr, bytes, flags }
            }
            45..48 => Op::Munlock { addr, bytes },
            48..50 => Op::Msync { addr, bytes, flags: self.below(9) },
            _ => Op::Mincore { addr, bytes: bytes.min(200 * PAGE) },
        }
    }
}
