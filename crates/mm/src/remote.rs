//! Access to the memory of any address space, active or not, as the kernel makes it for others:
//! `process_vm_readv`, `/proc/PID/mem`, a debugger, a word that is cleared when a thread ends.
//!
//! Pages are brought as a fault of the space itself would bring them, but no stack grows (STK-6).
//! The active space, the TLBs and the access clock stay as they are; if the space is not active,
//! [`Mm::take_stale`] says later what must be flushed.
//!
//! # Source
//! Linux 6.12 `mm/gup.c:check_vma_flags`, `can_follow_write_pte`, `mm/memory.c:__access_remote_vm`.

use machine::{
    Access, Frame, Machine, PAGE_BYTES, PageFault, PageSize, Privilege, Refusal, VirtAddr,
};

use crate::error::FaultError;
use crate::fault::{force_fault, handle_fault};
use crate::folio::FrameState;
use crate::memory::Memory;
use crate::page_table::{PteState, SPECIAL};
use crate::rights::{Rights, Sharing, VmaFlags};
use crate::space::Mm;

/// Whether an access may pass over the rights of a mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Force {
    /// No: what the program may not do is refused.
    No,
    /// What the mapping may ever allow is done, as for a debugger (`FOLL_FORCE`): pages without
    /// rights are read, and private pages are written in a copy that stays write-protected.
    Yes,
}

/// How far an access came, and why no further.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partial {
    /// Bytes read or written.
    pub done: usize,
    /// What the next byte met.
    pub error: FaultError,
}

/// How often one page may fault: each fault makes progress, and no access needs more than a table,
/// a copy and a write upgrade.
const FAULTS_MAX: u32 = 4;

impl Mm {
    /// Reads `bytes` at `addr` of this space.
    ///
    /// # Errors
    /// [`Partial`]: the bytes before are read.
    pub fn read_remote(
        &mut self,
        memory: &mut Memory,
        hw: &mut Machine,
        addr: VirtAddr,
        bytes: &mut [u8],
        force: Force,
    ) -> Result<(), Partial> {
        let mut done = 0;
        while done < bytes.len() {
            let here = step(addr, done)?;
            let count = in_page(here, bytes.len() - done);
            let frame = frame_for(self, memory, hw, here, Access::Read, force)
                .map_err(|error| Partial { done, error })?;
            let place = frame.start().wrapping_add(here.page_offset());
            hw.load(place, &mut bytes[done..done + count]);
            done += count;
        }
        Ok(())
    }

    /// Writes `bytes` at `addr` of this space.
    ///
    /// # Errors
    /// [`Partial`]: the bytes before are written.
    pub fn write_remote(
        &mut self,
        memory: &mut Memory,
        hw: &mut Machine,
        addr: VirtAddr,
        bytes: &[u8],
        force: Force,
    ) -> Result<(), Partial> {
        let mut done = 0;
        while done < bytes.len() {
            let here = step(addr, done)?;
            let count = in_page(here, bytes.len() - done);
            let frame = frame_for(self, memory, hw, here, Access::Write, force)
                .map_err(|error| Partial { done, error })?;
            memory.mark_dirty(frame);
            let place = frame.start().wrapping_add(here.page_offset());
            hw.store(place, &bytes[done..done + count]);
            done += count;
        }
        Ok(())
    }
}

/// The address of byte `done`.
fn step(addr: VirtAddr, done: usize) -> Result<VirtAddr, Partial> {
    let end = Partial { done, error: FaultError::NoVma { addr } };
    addr.checked_add(done as u64).ok_or(end)
}

/// How many of `wanted` bytes at `addr` lie in its page.
fn in_page(addr: VirtAddr, wanted: usize) -> usize {
    wanted.min((PAGE_BYTES - addr.page_offset()) as usize)
}

/// The frame that the access at `addr` means, brought if need be.
fn frame_for(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    addr: VirtAddr,
    access: Access,
    force: Force,
) -> Result<Frame, FaultError> {
    let is_forced = check(mm, addr, access, force)?;
    for _ in 0..FAULTS_MAX {
        let pte = mm.tables.lookup(hw, addr.align_down(PageSize::K4));
        let is_there = PteState::of(pte) == PteState::Present;
        let is_own = is_there
            && !pte.contains(SPECIAL)
            && memory.frames.state(pte.frame()) == FrameState::Anon
            && memory.frames.is_exclusive(pte.frame());
        if is_there && (access != Access::Write || pte.is_writable() || is_forced && is_own) {
            return Ok(pte.frame());
        }
        let refusal = if pte.is_present() { Refusal::Protection } else { Refusal::NotPresent };
        let fault = PageFault { addr, access, privilege: Privilege::User, refusal };
        if is_forced {
            force_fault(mm, memory, hw, fault)?;
        } else {
            handle_fault(mm, memory, hw, fault)?;
        }
    }
    Err(FaultError::OutOfMemory { addr })
}

/// Whether the access needs force; an error if it is refused even so.
fn check(mm: &Mm, addr: VirtAddr, access: Access, force: Force) -> Result<bool, FaultError> {
    let vma = mm.vma_at(addr).ok_or(FaultError::NoVma { addr })?;
    let needed = if access == Access::Write { Rights::WRITE } else { Rights::READ };
    if vma.flags.intersects(VmaFlags::IO | VmaFlags::PFN_MAP) {
        return Err(FaultError::Denied { addr });
    }
    if vma.rights.contains(needed) {
        return Ok(false);
    }
    let is_cow = access != Access::Write || vma.sharing == Sharing::Private;
    let is_allowed = force == Force::Yes && vma.may.contains(needed) && is_cow;
    if is_allowed { Ok(true) } else { Err(FaultError::Denied { addr }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backing::FileKind;
    use crate::testing::{RW, World, at, file_byte, pages};

    impl World {
        fn remote_read(
            &mut self,
            space: usize,
            addr: VirtAddr,
            force: Force,
        ) -> Result<u8, Partial> {
            let mut byte = [0];
            let (memory, hw) = (&mut self.memory, &mut self.hw);
            let done = self.spaces[space].read_remote(memory, hw, addr, &mut byte, force);
            self.check();
            done.map(|()| byte[0])
        }

        fn remote_write(
            &mut self,
            space: usize,
            addr: VirtAddr,
            bytes: &[u8],
            force: Force,
        ) -> Result<(), Partial> {
            let (memory, hw) = (&mut self.memory, &mut self.hw);
            let done = self.spaces[space].write_remote(memory, hw, addr, bytes, force);
            self.check();
            done
        }
    }

    #[test]
    fn a_space_that_is_not_active_is_read_and_written_across_pages() {
        let mut world = World::new(512);
        world.map(pages(0x100, 2), RW);
        world.poke(0, at(0x100), 1).expect("it is mapped");
        world.fork();
        world.activate(0);
        let addr = at(0x101).wrapping_add(u64::MAX - 1);
        assert_eq!(world.remote_write(1, addr, &[7; 4], Force::No), Ok(()));
        assert!(world.spaces[1].take_stale(), "an entry was replaced");
        world.hw.flush_asid(1);
        assert_eq!(world.hw.root(), Some(world.spaces[0].root()));
        assert_eq!(world.remote_read(1, addr, Force::No), Ok(7));
        assert_eq!(world.remote_read(1, at(0x101).wrapping_add(1), Force::No), Ok(7));
        assert_eq!(world.remote_read(1, at(0x100), Force::No), Ok(1));
        assert_eq!(world.peek(0, addr), Ok(0), "the parent has its own page");
        assert_eq!(world.spaces[1].faults().unshared_as_child, 1);
        world.finish();
    }

    #[test]
    fn an_access_stops_at_the_first_byte_that_cannot_be_reached() {
        let mut world = World::new(512);
        world.map(pages(0x100, 1), RW);
        let addr = at(0x101).wrapping_add(u64::MAX - 2);
        let error = FaultError::NoVma { addr: at(0x101) };
        let refused = world.remote_write(0, addr, &[1; 8], Force::Yes);
        assert_eq!(refused, Err(Partial { done: 3, error }));
        assert_eq!(world.remote_read(0, addr, Force::No), Ok(1));
        world.finish();
    }

    #[test]
    fn stk_6_no_stack_grows_by_an_access_of_others() {
        let mut world = World::new(512);
        let flags = VmaFlags::GROWS_DOWN;
        world.map_vma(pages(0x1000, 4), RW, Sharing::Private, flags, None);
        let error = FaultError::NoVma { addr: at(0xfff) };
        let refused = world.remote_read(0, at(0xfff), Force::Yes);
        assert_eq!(refused, Err(Partial { done: 0, error }));
        world.finish();
    }

    #[test]
    fn force_reads_what_has_no_rights_and_writes_private_copies() {
        let mut world = World::new(512);
        let file = world.add_file(4 * 4096, FileKind::Regular);
        world.map_file(pages(0x100, 4), Rights::READ, Sharing::Private, &file, 0);
        world.map_file(pages(0x200, 4), Rights::READ, Sharing::Shared, &file, 0);
        world.map(pages(0x300, 1), Rights::empty());
        drop(file);
        let denied = |page| Partial { done: 0, error: FaultError::Denied { addr: at(page) } };
        for page in [0x100, 0x200, 0x300] {
            assert_eq!(world.remote_write(0, at(page), &[9], Force::No), Err(denied(page)));
        }
        assert_eq!(world.remote_read(0, at(0x300), Force::No), Err(denied(0x300)));
        assert_eq!(world.remote_read(0, at(0x300), Force::Yes), Ok(0));
        assert_eq!(world.remote_write(0, at(0x300), &[5], Force::Yes), Ok(()));
        assert_eq!(world.remote_read(0, at(0x300), Force::Yes), Ok(5));
        assert_eq!(world.remote_write(0, at(0x200), &[9], Force::Yes), Err(denied(0x200)));
        assert_eq!(world.remote_write(0, at(0x100), &[9], Force::Yes), Ok(()));
        assert_eq!(world.peek(0, at(0x100)), Ok(9));
        assert_eq!(world.peek(0, at(0x200)), Ok(file_byte(0)), "the file has its byte");
        assert_eq!(world.write(at(0x100)), Err(FaultError::Denied { addr: at(0x100) }));
        assert_eq!(world.rss(), (2, 4, 0));
        world.finish();
    }

    #[test]
    fn a_forced_write_breaks_the_sharing_of_fork() {
        let mut world = World::new(512);
        world.map(pages(0x100, 1), RW);
        world.poke(0, at(0x100), 3).expect("it is mapped");
        world.mprotect(0, pages(0x100, 1), Rights::READ);
        world.fork();
        world.activate(0);
        assert_eq!(world.remote_write(1, at(0x100), &[4], Force::Yes), Ok(()));
        assert!(world.spaces[1].take_stale());
        world.hw.flush_asid(1);
        assert_eq!((world.peek(0, at(0x100)), world.peek(1, at(0x100))), (Ok(3), Ok(4)));
        world.finish();
    }
}
