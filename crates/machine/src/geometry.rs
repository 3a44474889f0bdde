//! Page-table formats: how many levels, how wide, which leaves, which bits are reserved.
//!
//! Each format is one constant table ([`Format`]); [`Geometry`] names them and is matched once per
//! walk, so that the walk itself is compiled for each format.
//!
//! Levels are numbered from the leaf: 1 is the page table, 2 the page directory, 3 the directory
//! pointers, 4 PML4, 5 PML5.

use crate::addr::{Frame, PageSize, PhysAddr, VirtAddr};
use crate::pte::Pte;
use crate::ram::Ram;

/// One format as constants: everything the walk needs to know.
///
/// Arrays are indexed by level, entry 0 is unused.
pub(crate) trait Format {
    /// Number of levels.
    const LEVELS: u32;
    /// Bytes in an entry: 4 or 8.
    const ENTRY_BYTES: u64;
    /// log2 of the bytes that one entry of the level covers.
    const SHIFT: [u32; 6];
    /// log2 of the entries in a table of the level.
    const INDEX_BITS: [u32; 6];
    /// Whether an entry of the level with PS is a leaf (level 1 always is).
    const LARGE_LEAF: [bool; 6];
    /// Whether entries of the level carry rights and an accessed bit (PAE level 3 does not).
    const HAS_RIGHTS: [bool; 6];
    /// Bits that must be zero in a present entry that names a table.
    const RESERVED_TABLE: [u64; 6];
    /// Bits that must be zero in a present large leaf (for level 1: in the leaf).
    const RESERVED_LEAF: [u64; 6];
    /// The bits of an entry that hold a frame address.
    const ADDRESS_MASK: u64;
    /// Linear address bits.
    const ADDRESS_BITS: u32;
    /// Physical address bits (MAXPHYADDR).
    const PHYSICAL_BITS: u32;
    /// NX, or 0 where the format has none.
    const NX: u64;
}

/// Bits `low..high` set.
const fn bits(low: u32, high: u32) -> u64 {
    let below_high = if high >= 64 { u64::MAX } else { (1 << high) - 1 };
    below_high & !((1 << low) - 1)
}

const PS: u64 = 1 << 7;

/// The i386 2-level format with PSE.
///
/// # Source
/// Intel SDM 3A, 4.3. MAXPHYADDR is 32 here: no PSE-36, so bits 13 to 21 of a 4 MiB leaf are all
/// reserved.
pub(crate) struct I386;

impl Format for I386 {
    const LEVELS: u32 = 2;
    const ENTRY_BYTES: u64 = 4;
    const SHIFT: [u32; 6] = [0, 12, 22, 32, 32, 32];
    const INDEX_BITS: [u32; 6] = [0, 10, 10, 0, 0, 0];
    const LARGE_LEAF: [bool; 6] = [false, false, true, false, false, false];
    const HAS_RIGHTS: [bool; 6] = [false, true, true, false, false, false];
    const RESERVED_TABLE: [u64; 6] = [0; 6];
    const RESERVED_LEAF: [u64; 6] = [0, 0, bits(13, 22), 0, 0, 0];
    const ADDRESS_MASK: u64 = bits(12, 32);
    const ADDRESS_BITS: u32 = 32;
    const PHYSICAL_BITS: u32 = 32;
    const NX: u64 = 0;
}

/// The i386 3-level format.
///
/// # Source
/// Intel SDM 3A, 4.4. The four top entries live in registers of the CPU: they carry no rights and
/// no accessed bit. MAXPHYADDR is 36.
pub(crate) struct Pae;

impl Pae {
    const HIGH: u64 = bits(36, 63);
}

impl Format for Pae {
    const LEVELS: u32 = 3;
    const ENTRY_BYTES: u64 = 8;
    const SHIFT: [u32; 6] = [0, 12, 21, 30, 32, 32];
    const INDEX_BITS: [u32; 6] = [0, 9, 9, 2, 0, 0];
    const LARGE_LEAF: [bool; 6] = [false, false, true, false, false, false];
    const HAS_RIGHTS: [bool; 6] = [false, true, true, false, false, false];
    const RESERVED_TABLE: [u64; 6] =
        [0, 0, Self::HIGH, Self::HIGH | 1 << 63 | bits(1, 3) | bits(5, 9), 0, 0];
    const RESERVED_LEAF: [u64; 6] = [0, Self::HIGH, Self::HIGH | bits(13, 21), 0, 0, 0];
    const ADDRESS_MASK: u64 = bits(12, 36);
    const ADDRESS_BITS: u32 = 32;
    const PHYSICAL_BITS: u32 = 36;
    const NX: u64 = 1 << 63;
}

/// The x86-64 4-level format.
///
/// # Source
/// Intel SDM 3A, 4.5. MAXPHYADDR is 46.
pub(crate) struct X86_64;

/// Physical address bits of the 4- and 5-level formats.
const LONG_PHYSICAL_BITS: u32 = 46;
const LONG_HIGH: u64 = bits(LONG_PHYSICAL_BITS, 52);
const LONG_RESERVED_TABLE: [u64; 6] = [0, 0, LONG_HIGH, LONG_HIGH, LONG_HIGH | PS, LONG_HIGH | PS];
const LONG_RESERVED_LEAF: [u64; 6] =
    [0, LONG_HIGH, LONG_HIGH | bits(13, 21), LONG_HIGH | bits(13, 30), 0, 0];

impl Format for X86_64 {
    const LEVELS: u32 = 4;
    const ENTRY_BYTES: u64 = 8;
    const SHIFT: [u32; 6] = [0, 12, 21, 30, 39, 48];
    const INDEX_BITS: [u32; 6] = [0, 9, 9, 9, 9, 0];
    const LARGE_LEAF: [bool; 6] = [false, false, true, true, false, false];
    const HAS_RIGHTS: [bool; 6] = [false, true, true, true, true, false];
    const RESERVED_TABLE: [u64; 6] = LONG_RESERVED_TABLE;
    const RESERVED_LEAF: [u64; 6] = LONG_RESERVED_LEAF;
    const ADDRESS_MASK: u64 = bits(12, LONG_PHYSICAL_BITS);
    const ADDRESS_BITS: u32 = 48;
    const PHYSICAL_BITS: u32 = LONG_PHYSICAL_BITS;
    const NX: u64 = 1 << 63;
}

/// The x86-64 5-level format.
///
/// # Source
/// Intel SDM 3A, 4.5. MAXPHYADDR is 46.
pub(crate) struct La57;

impl Format for La57 {
    const LEVELS: u32 = 5;
    const ENTRY_BYTES: u64 = 8;
    const SHIFT: [u32; 6] = [0, 12, 21, 30, 39, 48];
    const INDEX_BITS: [u32; 6] = [0, 9, 9, 9, 9, 9];
    const LARGE_LEAF: [bool; 6] = [false, false, true, true, false, false];
    const HAS_RIGHTS: [bool; 6] = [false, true, true, true, true, true];
    const RESERVED_TABLE: [u64; 6] = LONG_RESERVED_TABLE;
    const RESERVED_LEAF: [u64; 6] = LONG_RESERVED_LEAF;
    const ADDRESS_MASK: u64 = bits(12, LONG_PHYSICAL_BITS);
    const ADDRESS_BITS: u32 = 57;
    const PHYSICAL_BITS: u32 = LONG_PHYSICAL_BITS;
    const NX: u64 = 1 << 63;
}

/// The page-table format of a machine.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Geometry {
    /// 2 levels of 1,024 4-byte entries, 4 KiB and 4 MiB pages.
    I386,
    /// 3 levels (4, 512, 512) of 8-byte entries, 4 KiB and 2 MiB pages.
    Pae,
    /// 4 levels of 512 8-byte entries, 4 KiB, 2 MiB and 1 GiB pages.
    #[default]
    X86_64,
    /// 5 levels of 512 8-byte entries, 4 KiB, 2 MiB and 1 GiB pages.
    La57,
}

/// Evaluates an expression with `F` naming the constant table of `$geometry`.
macro_rules! with_format {
    ($geometry:expr, $expression:expr) => {
        match $geometry {
            $crate::geometry::Geometry::I386 => {
                type F = $crate::geometry::I386;
                $expression
            }
            $crate::geometry::Geometry::Pae => {
                type F = $crate::geometry::Pae;
                $expression
            }
            $crate::geometry::Geometry::X86_64 => {
                type F = $crate::geometry::X86_64;
                $expression
            }
            $crate::geometry::Geometry::La57 => {
                type F = $crate::geometry::La57;
                $expression
            }
        }
    };
}
pub(crate) use with_format;

impl Geometry {
    /// Every geometry.
    pub const ALL: [Self; 4] = [Self::I386, Self::Pae, Self::X86_64, Self::La57];

    /// The number of levels; the root table has this level.
    pub const fn levels(self) -> u32 {
        with_format!(self, F::LEVELS)
    }

    /// Bytes in an entry.
    pub const fn entry_bytes(self) -> u64 {
        with_format!(self, F::ENTRY_BYTES)
    }

    /// Entries in a table of `level`.
    pub const fn entries(self, level: u32) -> u64 {
        with_format!(self, 1 << F::INDEX_BITS[level as usize])
    }

    /// The index of the entry for `addr` in a table of `level`.
    pub const fn index(self, level: u32, addr: VirtAddr) -> u64 {
        with_format!(
            self,
            addr.as_u64() >> F::SHIFT[level as usize] & ((1 << F::INDEX_BITS[level as usize]) - 1)
        )
    }

    /// Bytes of address space that one entry of `level` covers.
    pub const fn span_bytes(self, level: u32) -> u64 {
        with_format!(self, 1 << F::SHIFT[level as usize])
    }

    /// The size of a leaf of `level`, or `None` where the format has no leaf there.
    pub const fn leaf_size(self, level: u32) -> Option<PageSize> {
        let is_leaf = level == 1 || with_format!(self, F::LARGE_LEAF[level as usize]);
        if !is_leaf {
            return None;
        }
        match with_format!(self, F::SHIFT[level as usize]) {
            12 => Some(PageSize::K4),
            21 => Some(PageSize::M2),
            22 => Some(PageSize::M4),
            _ => Some(PageSize::G1),
        }
    }

    /// The size of a level-2 leaf: 2 MiB, or 4 MiB on i386.
    pub const fn large_size(self) -> PageSize {
        match self {
            Self::I386 => PageSize::M4,
            Self::Pae | Self::X86_64 | Self::La57 => PageSize::M2,
        }
    }

    /// Entries that a walk to a 4 KiB page reads from RAM.
    pub(crate) fn walk_reads(self) -> u64 {
        with_format!(self, F::HAS_RIGHTS.iter().filter(|is_read| **is_read).count() as u64)
    }

    /// Linear address bits: 32, 48 or 57.
    pub const fn address_bits(self) -> u32 {
        with_format!(self, F::ADDRESS_BITS)
    }

    /// Physical address bits (MAXPHYADDR): frame bits above are reserved.
    pub const fn physical_bits(self) -> u32 {
        with_format!(self, F::PHYSICAL_BITS)
    }

    /// Whether the CPU may use `addr` at all: canonical, or below 2^32 on i386.
    pub const fn is_canonical(self, addr: VirtAddr) -> bool {
        match self.address_bits() {
            32 => addr.as_u64() >> 32 == 0,
            bits => addr.is_canonical(bits),
        }
    }

    /// Whether entries have an NX bit.
    pub const fn has_nx(self) -> bool {
        with_format!(self, F::NX != 0)
    }

    /// The bits of a present entry of `level` that must be zero (NX counts when EFER.NXE is off).
    pub const fn reserved_bits(self, level: u32, is_leaf: bool) -> u64 {
        if is_leaf {
            with_format!(self, F::RESERVED_LEAF[level as usize])
        } else {
            with_format!(self, F::RESERVED_TABLE[level as usize])
        }
    }

    /// Where the entry `index` of the table in `table` stands.
    pub const fn slot(self, table: Frame, index: u64) -> PhysAddr {
        table.start().wrapping_add(index.wrapping_mul(self.entry_bytes()))
    }

    /// Reads the entry at `slot`.
    pub fn load(self, ram: &Ram, slot: PhysAddr) -> Pte {
        match self.entry_bytes() {
            4 => Pte::from_raw(u64::from(ram.read_u32(slot))),
            _ => Pte::from_raw(ram.read_u64(slot)),
        }
    }

    /// Writes the entry at `slot`; the i386 format keeps the low 32 bits.
    pub fn store(self, ram: &mut Ram, slot: PhysAddr, pte: Pte) {
        match self.entry_bytes() {
            4 => ram.write_u32(slot, pte.raw() as u32),
            _ => ram.write_u64(slot, pte.raw()),
        }
    }

    /// The first 4 KiB frame of the page that the leaf `pte` of `level` maps.
    pub const fn leaf_frame(self, level: u32, pte: Pte) -> Frame {
        let offset_mask = self.span_bytes(level) - 1;
        PhysAddr::new(with_format!(self, pte.raw() & F::ADDRESS_MASK) & !offset_mask).frame()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_follow_the_manual() {
        let addr = VirtAddr::new(0x7f12_3456_7010);
        assert_eq!(Geometry::X86_64.index(4, addr), 0xfe);
        assert_eq!(Geometry::X86_64.index(3, addr), 0x48);
        assert_eq!(Geometry::X86_64.index(2, addr), 0x1a2);
        assert_eq!(Geometry::X86_64.index(1, addr), 0x167);
        let low = VirtAddr::new(0xc012_3456);
        assert_eq!(Geometry::I386.index(2, low), 0x300);
        assert_eq!(Geometry::I386.index(1, low), 0x123);
        assert_eq!(Geometry::Pae.index(3, low), 3);
        assert_eq!(Geometry::Pae.index(2, low), 0);
        assert_eq!(Geometry::La57.index(5, VirtAddr::new(1 << 56)), 256);
    }

    #[test]
    fn leaves_exist_where_the_manual_has_them() {
        assert_eq!(Geometry::I386.leaf_size(2), Some(PageSize::M4));
        assert_eq!(Geometry::Pae.leaf_size(2), Some(PageSize::M2));
        assert_eq!(Geometry::Pae.leaf_size(3), None);
        assert_eq!(Geometry::X86_64.leaf_size(3), Some(PageSize::G1));
        assert_eq!(Geometry::X86_64.leaf_size(4), None);
        for geometry in Geometry::ALL {
            assert_eq!(geometry.leaf_size(1), Some(PageSize::K4));
            assert_eq!(geometry.leaf_size(2), Some(geometry.large_size()));
            assert_eq!(geometry.leaf_size(geometry.levels()).is_some(), geometry == Geometry::I386);
        }
    }

    #[test]
    fn canonical_depends_on_the_format() {
        assert!(!Geometry::I386.is_canonical(VirtAddr::new(1 << 32)));
        assert!(!Geometry::X86_64.is_canonical(VirtAddr::new(1 << 47)));
        assert!(Geometry::La57.is_canonical(VirtAddr::new(1 << 47)));
        assert!(Geometry::La57.is_canonical(VirtAddr::new(u64::MAX)));
    }
}
