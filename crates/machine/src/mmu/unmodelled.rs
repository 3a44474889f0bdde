//! Accesses without a TLB model: the shadow is the only TLB, and a miss of it walks.

use super::{Mmu, clock_step, fetch_slot};
use crate::access::{Access, PageFault};
use crate::addr::{PageSize, PhysAddr, VirtAddr};
use crate::fast::layout;
use crate::machine::FastPath;
use crate::ram::Ram;

impl Mmu {
    /// A data access with the shadow as the only TLB.
    #[inline(never)]
    pub(super) fn data_unmodelled(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        access: Access,
    ) -> Result<PhysAddr, PageFault> {
        let walked = self.walk_counted(ram, addr, access)?;
        self.saw_large |= walked.size != PageSize::K4;
        let physical = walked.physical(addr);
        let clock = self.fast.words[layout::CLOCK];
        if self.fast_path == FastPath::Filled {
            let is_writable = walked.is_writable && walked.pte.is_dirty();
            let page = self.fast_page(ram, addr, physical, is_writable);
            let mut slot = self.fast.index(addr);
            if self.fast.is_taken_by_other(slot, page.base) {
                slot = self.resolve_conflict(addr, page.base, slot);
            }
            self.fast.fill(slot, page, clock);
        }
        self.fast.words[layout::CLOCK] = clock + clock_step(access);
        Ok(physical)
    }

    /// A fetch with the engine's code pages as the only TLB.
    pub(super) fn fetch_unmodelled(
        &mut self,
        ram: &mut Ram,
        addr: VirtAddr,
        slot: u32,
    ) -> Result<PhysAddr, PageFault> {
        let walked = self.walk_counted(ram, addr, Access::Fetch)?;
        self.saw_large |= walked.size != PageSize::K4;
        if let (Some(index), FastPath::Filled) = (fetch_slot(slot), self.fast_path) {
            self.fetched.insert((addr.page().number(), slot));
            self.fast.words[layout::FETCH_RESIDENT + index] = 1;
        }
        self.fast.words[layout::FETCH_CLOCK] += 1;
        self.fast.words[layout::FETCH_PAGE] = u64::from(slot);
        Ok(walked.physical(addr))
    }
}
