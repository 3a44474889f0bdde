//! Entries whose pages need not be kept: `MADV_FREE`.

use machine::{Machine, Pte, VirtRange};

use super::Runs;
use crate::memory::Memory;
use crate::page_table::{PteState, Stale};
use crate::space::Mm;
use crate::swap::decode;

/// Lets every private page of `range` that only its entry uses leave RAM without being kept, unless
/// it is stored to again; pages in swap go at once.
///
/// # Source
/// Linux 6.12 `mm/madvise.c:madvise_free_pte_range`. Differs from Linux: pages that a fork shares
/// stay as they are; Linux marks them too, and finds at reclaim that the sibling keeps them.
pub(crate) fn free_lazily(mm: &mut Mm, memory: &mut Memory, hw: &mut Machine, range: VirtRange) {
    let mut stale = Stale::NONE;
    let tables = &mm.tables;
    let mut runs = Runs::new(range);
    while let Some(run) = runs.next(tables, hw) {
        tables.update_run(hw, &run, |addr, _, old| match PteState::of(old) {
            PteState::Empty => old,
            PteState::Swapped => {
                memory.gathered_slots.push((tables.space, decode(tables.geometry, old).0));
                Pte::EMPTY
            }
            PteState::Present => {
                if !memory.mark_lazy(old) {
                    return old;
                }
                if old.is_present() {
                    stale.add_page(addr);
                }
                old.without(Pte::ACCESSED.with(Pte::DIRTY))
            }
        });
    }
    stale.flush(&mut mm.tables, hw);
    memory.free_gathered(hw);
}
