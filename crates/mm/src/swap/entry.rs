//! The leaf entry of a page that is in swap: where it is.
//!
//! ```text
//!  4- and 5-level, PAE: |63 type 59|58  offset, inverted  9| 8 = 0 |..| 3 exclusive |..| P = 0 |
//!  i386, 2-level:       |31        offset             9| 8 = 0 | 7 exclusive |5 type 1| P = 0 |
//! ```
//! The offset of the 64-bit formats is inverted so that no entry names a frame that exists, should
//! a processor look at it in spite of P = 0.
//!
//! # Source
//! Linux 6.12 `arch/x86/include/asm/pgtable_64.h`, `pgtable-2level.h`; semantics SWAP-3. PAE uses
//! the 64-bit form here, which differs from Linux.

use machine::{Geometry, Pte};

use super::area::{AreaId, SwapPlace, SwapSlot};

const TYPE_SHIFT: u32 = 59;
const TYPE_SHIFT_I386: u32 = 1;
const TYPE_MASK: u64 = 0x1f;
const OFFSET_SHIFT: u32 = 9;
/// Bits 9 to 58.
const OFFSET_MASK: u64 = ((1 << 59) - 1) & !((1 << OFFSET_SHIFT) - 1);
const EXCLUSIVE: u64 = 1 << 3;
const EXCLUSIVE_I386: u64 = 1 << 7;
const WORD_I386: u64 = 0xffff_ffff;

/// Whether the page belonged to one entry alone when it left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ownership {
    /// It may be written when it is back.
    Exclusive,
    /// Others may have it too.
    Shared,
}

/// The entry for a page in `place`.
pub(crate) fn encode(geometry: Geometry, place: SwapPlace, ownership: Ownership) -> Pte {
    let offset = u64::from(place.slot.0) << OFFSET_SHIFT;
    let area = u64::from(place.area.0) & TYPE_MASK;
    let is_exclusive = ownership == Ownership::Exclusive;
    let raw = if geometry == Geometry::I386 {
        let exclusive = if is_exclusive { EXCLUSIVE_I386 } else { 0 };
        offset & WORD_I386 | area << TYPE_SHIFT_I386 | exclusive
    } else {
        let exclusive = if is_exclusive { EXCLUSIVE } else { 0 };
        !offset & OFFSET_MASK | area << TYPE_SHIFT | exclusive
    };
    Pte::from_raw(raw)
}

/// What [`encode`] made `pte` from.
pub(crate) fn decode(geometry: Geometry, pte: Pte) -> (SwapPlace, Ownership) {
    let raw = pte.raw();
    let (offset, area, exclusive) = if geometry == Geometry::I386 {
        (raw >> OFFSET_SHIFT, raw >> TYPE_SHIFT_I386, raw & EXCLUSIVE_I386)
    } else {
        ((!raw & OFFSET_MASK) >> OFFSET_SHIFT, raw >> TYPE_SHIFT, raw & EXCLUSIVE)
    };
    let ownership = if exclusive != 0 { Ownership::Exclusive } else { Ownership::Shared };
    let area = AreaId((area & TYPE_MASK) as u8);
    (SwapPlace { area, slot: SwapSlot(offset as u32) }, ownership)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page_table::PteState;

    #[test]
    fn entries_come_back_and_are_neither_empty_nor_present() {
        let all = [Geometry::I386, Geometry::Pae, Geometry::X86_64, Geometry::La57];
        for geometry in all {
            let slots = [1, 2, 255, 0x007f_ffff, if geometry == Geometry::I386 { 3 } else { !0 }];
            let areas = [0, 1, 22].map(AreaId);
            let places = areas
                .iter()
                .flat_map(|&area| slots.map(move |slot| SwapPlace { area, slot: SwapSlot(slot) }));
            for place in places {
                for ownership in [Ownership::Exclusive, Ownership::Shared] {
                    let pte = encode(geometry, place, ownership);
                    assert_eq!(PteState::of(pte), PteState::Swapped, "{pte:?}");
                    assert_eq!(decode(geometry, pte), (place, ownership));
                    assert!(geometry != Geometry::I386 || pte.raw() <= WORD_I386);
                }
            }
        }
    }
}
