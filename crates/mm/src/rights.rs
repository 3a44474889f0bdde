//! What a range of addresses promises: rights, sharing and flags.

use bitflags::bitflags;
use machine::Pte;

bitflags! {
    /// Rights of a VMA, with the numbers of `PROT_READ`, `PROT_WRITE` and `PROT_EXEC`.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct Rights: u8 {
        /// Loads are allowed.
        const READ = 1;
        /// Stores are allowed (and, by the hardware, loads).
        const WRITE = 2;
        /// Fetches are allowed (and, by the hardware, loads).
        const EXECUTE = 4;
    }
}

impl Rights {
    /// Whether anything at all is allowed: not `PROT_NONE`.
    pub const fn is_accessible(self) -> bool {
        !self.is_empty()
    }

    /// The bits of a leaf that allow all of this except writing, which faults decide.
    ///
    /// Without any right the leaf is not present and keeps [`Pte::GLOBAL`] as the mark of an entry
    /// that would be present (the `PROTNONE` bit of Linux).
    ///
    /// # Source
    /// Linux 6.12 `arch/x86/mm/pgprot.c:protection_map`; semantics PT-2.
    pub(crate) const fn leaf_bits(self) -> Pte {
        if self.is_empty() {
            return Pte::GLOBAL;
        }
        let readable = Pte::PRESENT.with(Pte::USER);
        if self.contains(Self::EXECUTE) { readable } else { readable.with(Pte::NX) }
    }
}

/// Whether stores are seen by others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Sharing {
    /// `MAP_PRIVATE`: a store makes a private copy.
    Private,
    /// `MAP_SHARED`: a store changes the object.
    Shared,
}

bitflags! {
    /// Further properties of a VMA. Two neighbours merge only if these are equal.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
    pub struct VmaFlags: u32 {
        /// The range grows down on faults below it.
        const GROWS_DOWN = 1 << 0;
        /// `mlock`: pages are present and stay.
        const LOCKED = 1 << 1;
        /// `MLOCK_ONFAULT`: pages stay once they are touched.
        const LOCK_ON_FAULT = 1 << 2;
        /// `MAP_NORESERVE`.
        const NO_RESERVE = 1 << 3;
        /// The pages are charged as committed memory (`ac` in smaps).
        const ACCOUNT = 1 << 4;
        /// `MADV_SEQUENTIAL`.
        const SEQUENTIAL = 1 << 5;
        /// `MADV_RANDOM`.
        const RANDOM = 1 << 6;
        /// `MADV_DONTFORK`.
        const DONT_FORK = 1 << 7;
        /// `MADV_WIPEONFORK`.
        const WIPE_ON_FORK = 1 << 8;
        /// `MADV_DONTDUMP`.
        const DONT_DUMP = 1 << 9;
        /// `MADV_HUGEPAGE`.
        const HUGE_PAGE = 1 << 10;
        /// `MADV_NOHUGEPAGE`.
        const NO_HUGE_PAGE = 1 << 11;
        /// Never merged: vdso, vvar.
        const SPECIAL = 1 << 12;
        /// The stack that exec made.
        const STACK = 1 << 13;
        /// `mremap` may not grow it.
        const DONT_EXPAND = 1 << 14;
        /// `MAP_DROPPABLE`.
        const DROPPABLE = 1 << 15;
        /// Pages are frame numbers without accounting (vvar): not in RSS.
        const PFN_MAP = 1 << 16;
        /// `mseal`: the range can not be changed any more.
        const SEALED = 1 << 17;
        /// `MADV_MERGEABLE`.
        const MERGEABLE = 1 << 18;
        /// Memory of a device: `MADV_DOFORK` and locking skip it.
        const IO = 1 << 19;
    }
}
