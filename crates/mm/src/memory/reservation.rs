//! Adjacent frames for adjacent pages: a program's static variables.
//!
//! A program fills its static arrays in any order, and several at once, so frames taken one by one
//! would lie mixed. The first of its pages that needs a frame has as many kept as there are pages;
//! then each takes its own. What is kept is free: it goes to whoever finds no other frame.
//!
//! # Source
//! Navarro, Iyer, Druschel and Cox, "Practical, transparent operating system support for
//! superpages" (OSDI 2002): reservations. Differs from Linux, which has none; a program sees frames
//! only in `/proc/self/pagemap`. See ADR 9.

use machine::{Frame, Machine, PAGE_BYTES, VirtAddr, VirtRange};

use super::{Content, Memory};
use crate::buddy::{KEPT_MAX, Kept};
use crate::folio::FrameState;

/// Pages whose frames shall be adjacent, and those frames.
#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    first_page: u64,
    count: u32,
    kept: Option<Kept>,
}

impl Memory {
    /// Has the pages that `range` touches get adjacent frames in the space in `slot`, in place of
    /// those for which this was said before; of a large range its beginning.
    pub(crate) fn reserve(&mut self, slot: usize, range: VirtRange) {
        self.end_reservation(slot);
        let first_page = range.start.page().number();
        let end_page = range.end.as_u64().div_ceil(PAGE_BYTES);
        let count = end_page.saturating_sub(first_page).min(KEPT_MAX.into()) as u32;
        self.spaces[slot].reservation =
            (count > 1).then_some(Reservation { first_page, count, kept: None });
    }

    /// Gives back the frames that are kept for the space in `slot`.
    pub(super) fn end_reservation(&mut self, slot: usize) {
        if let Some(Reservation { kept: Some(kept), .. }) = self.spaces[slot].reservation.take() {
            self.zones.let_go(&kept);
        }
    }

    /// Takes a frame for the private page at `addr` of the space in `slot`: the one that is kept
    /// for it, else as [`Memory::alloc`].
    #[inline]
    pub(crate) fn alloc_private(
        &mut self,
        hw: &mut Machine,
        (slot, addr): (usize, VirtAddr),
        content: Content,
    ) -> Option<Frame> {
        let state = FrameState::Anon;
        if !self.may_take(hw, state) {
            return None;
        }
        let reserved = self.take_reserved(slot, addr);
        let number = reserved.or_else(|| self.zones.alloc_frame(state.mobility()))?;
        Some(self.enter(hw, Frame::new(number.into()), state, content))
    }

    /// The frame that is kept for a page.
    #[inline]
    fn take_reserved(&mut self, slot: usize, addr: VirtAddr) -> Option<u32> {
        let reservation = self.spaces[slot].reservation.as_mut()?;
        let nth = addr.page().number().checked_sub(reservation.first_page)?;
        let nth = u32::try_from(nth).ok().filter(|nth| *nth < reservation.count)?;
        let mobility = FrameState::Anon.mobility();
        if reservation.kept.is_none() {
            reservation.kept = self.zones.keep(reservation.count, mobility);
        }
        self.zones.take_kept(reservation.kept.as_mut()?, nth, mobility)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec::Vec;

    use super::*;
    use crate::testing::{RW, World, at, pages};

    /// Frame of a page of the first space.
    fn frame_of(world: &World, page: u64) -> u64 {
        world.spaces[0].tables.lookup(&world.hw, at(page)).frame().number()
    }

    /// A world with two areas of 40 pages, of which the first is reserved.
    fn with_statics(frame_count: u64) -> World {
        let mut world = World::new(frame_count);
        world.map(pages(0x100, 40), RW);
        world.map(pages(0x200, 40), RW);
        let slot = world.spaces[0].slot;
        world.memory.reserve(slot, pages(0x100, 40));
        world
    }

    #[test]
    fn static_variables_lie_in_adjacent_frames_in_whatever_order_they_are_touched() {
        let mut world = with_statics(1024);
        let free = world.memory.zones.free_count();
        for nth in 0..40 {
            for page in [0x100 + nth * 7 % 40, 0x200 + nth] {
                world.write(at(page)).expect("it is mapped");
                world.check();
            }
        }
        let first = frame_of(&world, 0x100);
        assert!((0..40).all(|nth| frame_of(&world, 0x100 + nth) == first + nth));
        // What is mapped there later is no static variable, and gets any frame.
        world.unmap(pages(0x100, 40));
        world.map(pages(0x100, 40), RW);
        world.write(at(0x120)).expect("it is mapped");
        world.unmap(pages(0x100, 0x140));
        assert_eq!(world.memory.zones.free_count(), free);
    }

    #[test]
    fn what_is_kept_goes_to_who_finds_no_other_frame() {
        let mut world = with_statics(256);
        world.write(at(0x11f)).expect("it is mapped");
        let mut taken = Vec::new();
        while let Some(frame) = world.memory.take_kernel_frame(&mut world.hw) {
            taken.push(frame);
        }
        assert_eq!(world.memory.count_of(FrameState::Free), 0);
        for frame in taken {
            world.memory.give_kernel_frame(&mut world.hw, frame);
        }
        world.write(at(0x120)).expect("it is mapped");
        world.check();
    }

    #[test]
    fn a_reservation_ends_with_its_space() {
        let mut world = with_statics(1024);
        world.write(at(0x11f)).expect("it is mapped");
        let free = world.memory.zones.free_count();
        let mut mm = world.spaces.remove(0);
        mm.exit(&mut world.memory, &mut world.hw);
        world.check();
        assert!(world.memory.spaces[mm.slot].reservation.is_none());
        assert!(world.memory.zones.free_count() > free);
    }
}
