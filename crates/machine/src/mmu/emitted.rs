//! What emitted code needs to make the most frequent miss itself: one of the first level for data
//! that hits the second.
//!
//! ```text
//! slot    = pext(addr, words[MASK_INDEX]);   owner[slot] is NO_OWNER
//! key     = addr >> 12 << TAG_SHIFT | words[MISS_KEY]
//! entry   = hints[addr >> 12 & (HINTS - 1)]; second tags[entry] is key
//! set     = addr >> 12 & words[FIRST_SET_MASK], of 4 or 8 entries; no first tag in it is key
//! victim  = the home with the smallest stamp in the set, the first of equals; it is a slot
//! ```
//! It then does to these arrays what `quick.rs` does, and adds 1 to MISS_COUNT, which stands for a
//! first-level miss, a second-level hit and a filled slot. Slots 0 and SLOT_MASK have poison of
//! their own and are left to Rust, as is all that is not as above.
//!
//! Invariants
//! 1. MISS_KEY is 0 unless the levels are plain in the sense of `quick.rs` for the active address
//!    space, and have a shape that emitted code knows: FIRST_WAYS is not 0.
//! 2. The arrays stay where they are as long as the machine lives.

use super::{Mmu, QuickMode};
use crate::addr::VirtAddr;
use crate::fast::layout;
use crate::ram::Ram;

/// Most entries of a second level that hints can name.
const HINTED_MAX: usize = 1 << 16;

impl Mmu {
    /// Writes into the words where the arrays are and which shape they have.
    pub(super) fn publish(&mut self, ram: &Ram) {
        let [first_tags, first_pages] = self.l1d.banks.addresses();
        let [homes, owners] = self.l1d.addresses();
        let [second_tags, second_pages] = self.l2.banks.addresses();
        let [stamps, clock, hints] = self.l2.addresses();
        let (set_mask, ways, _) = self.l1d.banks.small_shape();
        let compared = [4, 6, 8].into_iter().find(|most| ways <= *most);
        let compared = compared.filter(|_| self.has_usual_shape()).unwrap_or(0);
        let table = [
            (layout::FIRST_TAGS, first_tags),
            (layout::FIRST_PAGES, first_pages),
            (layout::FIRST_HOMES, homes),
            (layout::FIRST_OWNERS, owners),
            (layout::FIRST_SET_MASK, set_mask as u64),
            (layout::FIRST_WAYS, compared as u64),
            (layout::SECOND_TAGS, second_tags),
            (layout::SECOND_PAGES, second_pages),
            (layout::SECOND_STAMPS, stamps),
            (layout::SECOND_CLOCK, clock),
            (layout::SECOND_HINTS, hints),
            (layout::CODE_FRAMES, self.code.address()),
            (layout::RAM_BASE, ram.host_base()),
        ];
        for (word, value) in table {
            self.fast.words[word] = value;
        }
    }

    /// Lets emitted code make misses, or keeps it from it, as the state of the levels demands.
    #[inline]
    pub(crate) fn allow_misses(&mut self) {
        let asid = self.asid;
        let may = self.quick_mode == QuickMode::Modelled
            && self.l1d.is_plain(asid)
            && self.l2.banks.is_plain_for(asid)
            && self.fast.words[layout::FIRST_WAYS] != 0;
        let key = if may { self.l1d.banks.small_tag(VirtAddr::new(0), asid) } else { 0 };
        self.fast.words[layout::MISS_KEY] = key;
    }

    /// Whether the levels have a shape that emitted code knows.
    fn has_usual_shape(&self) -> bool {
        let (_, ways, stride) = self.l1d.banks.small_shape();
        let entries = self.l2.banks.len();
        ways > 0 && stride <= 8 && entries > 0 && entries <= HINTED_MAX
    }
}
