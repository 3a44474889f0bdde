//! Address-space identifiers: which spaces the TLBs may remember across context switches.
//!
//! Like Linux, a CPU uses a few identifiers in turn; a space that lost its own starts with an empty
//! TLB.
//!
//! # Source
//! Linux 6.12 `arch/x86/mm/tlb.c:choose_new_asid`, `TLB_NR_DYN_ASIDS`.

use machine::Machine;
use mm::MmId;

/// Identifiers in use: 1 to this.
const ASID_COUNT: u16 = 6;

/// What a context switch does to the TLBs.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum ContextSwitch {
    /// Entries are tagged with the space that they belong to (PCID) and stay.
    #[default]
    Tagged,
    /// All entries go, as without PCID.
    Flushed,
}

/// Who has which identifier.
#[derive(Default, Debug)]
pub(crate) struct Asids {
    mode: ContextSwitch,
    owners: [Option<MmId>; ASID_COUNT as usize],
    next: u16,
}

impl Asids {
    /// Identifiers that nobody has.
    pub(crate) fn new(mode: ContextSwitch) -> Self {
        Self { mode, ..Self::default() }
    }

    /// The identifier of the space `id`. If it takes one over, the machine forgets what it knows
    /// under it when the new root is activated.
    pub(crate) fn of(&mut self, id: MmId) -> u16 {
        if self.mode == ContextSwitch::Flushed {
            // All have the same one: whoever comes takes it over.
            self.owners[0] = Some(id);
            return 1;
        }
        let known = (1..).zip(&self.owners).find(|(_, owner)| **owner == Some(id));
        if let Some((asid, _)) = known {
            return asid;
        }
        let asid = self.next % ASID_COUNT + 1;
        self.next = asid % ASID_COUNT;
        self.owners[usize::from(asid) - 1] = Some(id);
        asid
    }

    /// Takes the identifier of a space that has ended back.
    pub(crate) fn forget(&mut self, id: MmId, hw: &mut Machine) {
        for (asid, owner) in (1..).zip(&mut self.owners) {
            if *owner == Some(id) {
                *owner = None;
                hw.flush_asid(asid);
            }
        }
    }
}
