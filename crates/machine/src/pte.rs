//! The page-table entry: one raw value in the real x86 format.
//!
//! It says nothing of what an entry that is not present means: that is the operating system's.

use core::fmt;

use crate::addr::{Frame, PAGE_SHIFT};

/// A page-table entry of any level, as it stands in RAM. The i386 2-level format uses the low 32
/// bits only.
///
/// The same type serves as a set of bits: [`Pte::PRESENT`]`.with(`[`Pte::WRITE`]`)`.
///
/// # Source
/// Intel SDM 3A, 4.5 tables 4-15 to 4-20; seed-independent bits of Linux `pgtable_types.h`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct Pte(u64);

impl Pte {
    /// No bit set.
    pub const EMPTY: Self = Self(0);
    /// The entry is used by the walk.
    pub const PRESENT: Self = Self(1);
    /// Writing is allowed below this entry.
    pub const WRITE: Self = Self(1 << 1);
    /// User mode is allowed below this entry.
    pub const USER: Self = Self(1 << 2);
    /// PCD: what this entry leads to is not cached.
    pub const NO_CACHE: Self = Self(1 << 4);
    /// The walk used this entry.
    pub const ACCESSED: Self = Self(1 << 5);
    /// A write went through this leaf.
    pub const DIRTY: Self = Self(1 << 6);
    /// PS: this entry above level 1 is a leaf.
    pub const LARGE: Self = Self(1 << 7);
    /// The translation belongs to every address space.
    pub const GLOBAL: Self = Self(1 << 8);
    /// First bit free for software, in every format.
    pub const SOFT_9: Self = Self(1 << 9);
    /// Second bit free for software, in every format.
    pub const SOFT_10: Self = Self(1 << 10);
    /// Third bit free for software, in every format.
    pub const SOFT_11: Self = Self(1 << 11);
    /// Bits 52 to 58, free for software in the 4- and 5-level formats (reserved in PAE).
    pub const SOFT_HIGH: Self = Self(0x7f << 52);
    /// Fetching is forbidden below this entry.
    pub const NX: Self = Self(1 << 63);

    const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

    /// The entry with this raw value.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// The raw value.
    pub const fn raw(self) -> u64 {
        self.0
    }

    /// An entry that names `frame` and has the bits of `flags`.
    pub const fn new(frame: Frame, flags: Self) -> Self {
        Self((frame.number() << PAGE_SHIFT) & Self::FRAME_MASK | flags.0 & !Self::FRAME_MASK)
    }

    /// The frame that the entry names (bits 12 to 51). For a large leaf the low bits of the number
    /// belong to the format (PAT) or are reserved; see [`crate::Geometry::leaf_frame`].
    pub const fn frame(self) -> Frame {
        Frame::new((self.0 & Self::FRAME_MASK) >> PAGE_SHIFT)
    }

    /// The same entry naming `frame`.
    pub const fn with_frame(self, frame: Frame) -> Self {
        Self::new(frame, self)
    }

    /// The entry with all bits of `bits` set.
    pub const fn with(self, bits: Self) -> Self {
        Self(self.0 | bits.0)
    }

    /// The entry with all bits of `bits` clear.
    pub const fn without(self, bits: Self) -> Self {
        Self(self.0 & !bits.0)
    }

    /// Whether all bits of `bits` are set.
    pub const fn contains(self, bits: Self) -> bool {
        self.0 & bits.0 == bits.0
    }

    /// Whether any bit of `bits` is set.
    pub const fn intersects(self, bits: Self) -> bool {
        self.0 & bits.0 != 0
    }

    /// Whether no bit at all is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether the walk may use the entry.
    pub const fn is_present(self) -> bool {
        self.contains(Self::PRESENT)
    }

    /// Whether this entry allows writing.
    pub const fn is_writable(self) -> bool {
        self.contains(Self::WRITE)
    }

    /// Whether this entry allows user mode.
    pub const fn is_user(self) -> bool {
        self.contains(Self::USER)
    }

    /// Whether the accessed bit is set.
    pub const fn is_accessed(self) -> bool {
        self.contains(Self::ACCESSED)
    }

    /// Whether the dirty bit is set.
    pub const fn is_dirty(self) -> bool {
        self.contains(Self::DIRTY)
    }

    /// Whether PS is set.
    pub const fn is_large(self) -> bool {
        self.contains(Self::LARGE)
    }

    /// Whether this entry allows fetching.
    pub const fn is_executable(self) -> bool {
        !self.contains(Self::NX)
    }
}

impl fmt::Debug for Pte {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}[", self.0)?;
        let names = [
            (Self::PRESENT, 'p'),
            (Self::WRITE, 'w'),
            (Self::USER, 'u'),
            (Self::ACCESSED, 'a'),
            (Self::DIRTY, 'd'),
            (Self::LARGE, 'l'),
            (Self::GLOBAL, 'g'),
            (Self::NX, 'n'),
        ];
        for (bit, name) in names {
            write!(f, "{}", if self.contains(bit) { name } else { '-' })?;
        }
        write!(f, "]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frame_and_flags_do_not_touch_each_other() {
        let pte = Pte::new(Frame::new(0x12345), Pte::PRESENT.with(Pte::NX).with(Pte::SOFT_HIGH));
        assert_eq!(pte.raw(), 0x87f0_0000_1234_5001);
        assert_eq!(pte.frame(), Frame::new(0x12345));
        let moved = pte.with_frame(Frame::new(7)).without(Pte::SOFT_HIGH);
        assert_eq!(moved.raw(), 0x8000_0000_0000_7001);
        assert!(moved.is_present() && !moved.is_executable() && !moved.is_dirty());
    }
}
