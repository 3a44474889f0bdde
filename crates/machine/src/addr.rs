//! Addresses, pages, frames and page sizes.
//!
//! An address names a byte, a page or frame names a 4 KiB unit by number. Virtual and physical are
//! different types and there is no `+`: the caller says whether the sum may overflow.

use core::fmt;

/// log2 of the base page size.
pub const PAGE_SHIFT: u32 = 12;
/// Bytes in a base page.
pub const PAGE_BYTES: u64 = 1 << PAGE_SHIFT;

/// The size of a page: a power of two of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PageSize(u8);

impl PageSize {
    /// 4 KiB, the base page of x86.
    pub const K4: Self = Self(12);
    /// 16 KiB.
    pub const K16: Self = Self(14);
    /// 64 KiB.
    pub const K64: Self = Self(16);
    /// 2 MiB, one level up in 8-byte formats.
    pub const M2: Self = Self(21);
    /// 4 MiB, one level up in the i386 2-level format.
    pub const M4: Self = Self(22);
    /// 1 GiB, two levels up in 8-byte formats.
    pub const G1: Self = Self(30);

    /// log2 of the size in bytes.
    pub const fn log2(self) -> u32 {
        self.0 as u32
    }

    /// The size in bytes.
    pub const fn bytes(self) -> u64 {
        1 << self.0
    }

    /// The low address bits that select a byte inside the page.
    pub const fn offset_mask(self) -> u64 {
        self.bytes() - 1
    }

    /// How many base pages fit in one page of this size.
    pub const fn base_pages(self) -> u64 {
        self.bytes() >> PAGE_SHIFT
    }
}

macro_rules! address {
    ($(#[$doc:meta])* $name:ident, $unit:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The address with this number.
            pub const fn new(address: u64) -> Self {
                Self(address)
            }

            /// The number of the byte.
            pub const fn as_u64(self) -> u64 {
                self.0
            }

            /// The address `bytes` further up, or `None` past the end of 64 bits.
            pub const fn checked_add(self, bytes: u64) -> Option<Self> {
                match self.0.checked_add(bytes) {
                    Some(sum) => Some(Self(sum)),
                    None => None,
                }
            }

            /// The address `bytes` further down, or `None` below zero.
            pub const fn checked_sub(self, bytes: u64) -> Option<Self> {
                match self.0.checked_sub(bytes) {
                    Some(rest) => Some(Self(rest)),
                    None => None,
                }
            }

            /// The address `bytes` further up, modulo 2^64.
            pub const fn wrapping_add(self, bytes: u64) -> Self {
                Self(self.0.wrapping_add(bytes))
            }

            /// Bytes from `base` up to here, modulo 2^64.
            pub const fn offset_from(self, base: Self) -> u64 {
                self.0.wrapping_sub(base.0)
            }

            /// The start of the page of `size` that holds the byte.
            pub const fn align_down(self, size: PageSize) -> Self {
                Self(self.0 & !size.offset_mask())
            }

            /// The first page start of `size` at or above the byte, or `None` past the end.
            pub const fn align_up(self, size: PageSize) -> Option<Self> {
                match self.0.checked_add(size.offset_mask()) {
                    Some(sum) => Some(Self(sum & !size.offset_mask())),
                    None => None,
                }
            }

            /// Whether the byte is the first of a page of `size`.
            pub const fn is_aligned(self, size: PageSize) -> bool {
                self.0 & size.offset_mask() == 0
            }

            /// The offset of the byte in its base page.
            pub const fn page_offset(self) -> u64 {
                self.0 & (PAGE_BYTES - 1)
            }

            /// The base page or frame that holds the byte.
            pub const fn unit(self) -> $unit {
                $unit(self.0 >> PAGE_SHIFT)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:#x}", self.0)
            }
        }
    };
}

macro_rules! unit {
    ($(#[$doc:meta])* $name:ident, $address:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
        #[repr(transparent)]
        pub struct $name(u64);

        impl $name {
            /// The unit with this number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number of the unit: its address divided by 4096.
            pub const fn number(self) -> u64 {
                self.0
            }

            /// The address of its first byte.
            pub const fn start(self) -> $address {
                $address(self.0 << PAGE_SHIFT)
            }

            /// The unit `count` further up, modulo 2^64.
            pub const fn wrapping_add(self, count: u64) -> Self {
                Self(self.0.wrapping_add(count))
            }

            /// Units from `base` up to here, modulo 2^64.
            pub const fn offset_from(self, base: Self) -> u64 {
                self.0.wrapping_sub(base.0)
            }
        }
    };
}

address!(
    /// A linear (virtual) byte address.
    VirtAddr,
    Page
);
address!(
    /// A physical byte address: an offset into RAM.
    PhysAddr,
    Frame
);
unit!(
    /// A 4 KiB unit of virtual address space.
    Page,
    VirtAddr
);
unit!(
    /// A 4 KiB unit of RAM.
    Frame,
    PhysAddr
);

impl VirtAddr {
    /// The page that holds the byte.
    pub const fn page(self) -> Page {
        self.unit()
    }

    /// Whether bits 63 down to `bits - 1` are all equal, as x86 demands of an address.
    pub const fn is_canonical(self, bits: u32) -> bool {
        let shift = 64 - bits;
        (((self.0 << shift) as i64) >> shift) as u64 == self.0
    }
}

impl PhysAddr {
    /// The frame that holds the byte.
    pub const fn frame(self) -> Frame {
        self.unit()
    }
}

/// A half-open range of virtual addresses: `start <= address < end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtRange {
    /// First byte inside.
    pub start: VirtAddr,
    /// First byte outside.
    pub end: VirtAddr,
}

impl VirtRange {
    /// The range from `start` to `end`, empty if `end <= start`.
    pub const fn new(start: VirtAddr, end: VirtAddr) -> Self {
        Self { start, end }
    }

    /// The range of `bytes` from `start`, or `None` if it would pass 2^64.
    pub const fn with_length(start: VirtAddr, bytes: u64) -> Option<Self> {
        match start.checked_add(bytes) {
            Some(end) => Some(Self { start, end }),
            None => None,
        }
    }

    /// Length in bytes.
    pub const fn bytes(self) -> u64 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Length in base pages, for page-aligned ranges.
    pub const fn pages(self) -> u64 {
        self.bytes() >> PAGE_SHIFT
    }

    /// Whether no address is inside.
    pub const fn is_empty(self) -> bool {
        self.end.0 <= self.start.0
    }

    /// Whether `address` is inside.
    pub const fn contains(self, address: VirtAddr) -> bool {
        self.start.0 <= address.0 && address.0 < self.end.0
    }

    /// Whether some address is inside both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 < other.end.0 && other.start.0 < self.end.0
    }

    /// The addresses inside both (possibly empty).
    pub fn intersection(self, other: Self) -> Self {
        Self { start: self.start.max(other.start), end: self.end.min(other.end) }
    }
}

impl fmt::Debug for VirtRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alignment_rounds_both_ways_and_stops_at_the_end() {
        let address = VirtAddr::new(0x1fff);
        assert_eq!(address.align_down(PageSize::K4), VirtAddr::new(0x1000));
        assert_eq!(address.align_up(PageSize::K4), Some(VirtAddr::new(0x2000)));
        assert_eq!(VirtAddr::new(u64::MAX).align_up(PageSize::K4), None);
    }

    #[test]
    fn canonical_means_sign_extended() {
        assert!(VirtAddr::new(0x7fff_ffff_ffff).is_canonical(48));
        assert!(!VirtAddr::new(0x8000_0000_0000).is_canonical(48));
        assert!(VirtAddr::new(0xffff_8000_0000_0000).is_canonical(48));
    }

    #[test]
    fn ranges_meet_only_where_they_share_a_byte() {
        let low = VirtRange::new(VirtAddr::new(0x1000), VirtAddr::new(0x2000));
        let high = VirtRange::new(VirtAddr::new(0x2000), VirtAddr::new(0x3000));
        assert!(!low.overlaps(high));
        assert!(low.intersection(high).is_empty());
        assert!(low.contains(VirtAddr::new(0x1fff)));
        assert!(!low.contains(VirtAddr::new(0x2000)));
    }
}
