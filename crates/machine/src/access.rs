//! What an access wants, and what the hardware says when it may not have it.

use crate::addr::VirtAddr;

/// What an access does to memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Access {
    /// A load.
    Read,
    /// A store, or a read-modify-write.
    Write,
    /// An instruction fetch.
    Fetch,
}

/// Who makes the access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Privilege {
    /// Ring 3.
    User,
    /// Rings 0 to 2, or an implicit supervisor access.
    Supervisor,
}

/// Why the walk refused an access.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Refusal {
    /// An entry on the way is not present.
    NotPresent,
    /// All entries are present, a right is missing.
    Protection,
    /// A reserved bit is set in a present entry, or the frame lies outside RAM.
    ReservedBit,
    /// The address is not canonical (or beyond 32 bits on i386): the CPU raises a general
    /// protection or stack fault with error code 0, not a page fault.
    NonCanonical,
}

/// A page fault as the hardware reports it; nothing has changed in the machine but the accessed
/// bits of the levels above the refusal.
///
/// # Source
/// Intel SDM 3A, 4.7 "Page-fault exceptions".
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PageFault {
    /// The byte address that faulted (CR2).
    pub addr: VirtAddr,
    /// What was wanted.
    pub access: Access,
    /// Who wanted it.
    pub privilege: Privilege,
    /// Why it was refused.
    pub refusal: Refusal,
}

impl PageFault {
    /// The error code that x86 pushes: bit 0 P, 1 W/R, 2 U/S, 3 RSVD, 4 I/D.
    pub const fn error_code(self) -> u64 {
        let present = match self.refusal {
            Refusal::NonCanonical => return 0,
            Refusal::NotPresent => 0,
            Refusal::Protection => 1,
            Refusal::ReservedBit => 1 | 1 << 3,
        };
        let access = match self.access {
            Access::Read => 0,
            Access::Write => 1 << 1,
            Access::Fetch => 1 << 4,
        };
        let privilege = match self.privilege {
            Privilege::User => 1 << 2,
            Privilege::Supervisor => 0,
        };
        present | access | privilege
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_code_has_the_bits_of_the_manual() {
        let fault = PageFault {
            addr: VirtAddr::new(0x1000),
            access: Access::Write,
            privilege: Privilege::User,
            refusal: Refusal::NotPresent,
        };
        assert_eq!(fault.error_code(), 6);
        let fetch = PageFault { access: Access::Fetch, refusal: Refusal::Protection, ..fault };
        assert_eq!(fetch.error_code(), 0x15);
    }
}
