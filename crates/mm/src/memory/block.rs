//! Blocks of adjacent frames for the kernel's own objects: taken in lowmem, given back whole.

use machine::{Frame, Machine, PAGE_BYTES};

use super::Memory;
use crate::buddy::{Mobility, ORDER_MAX};
use crate::folio::FrameState;

/// The highest order for which frames are taken back until a block lies together
/// (`PAGE_ALLOC_COSTLY_ORDER`).
const COSTLY_ORDER: u32 = 3;

/// The order of the smallest block of at least `bytes`, or the highest one.
pub(crate) fn order_of(bytes: u64) -> u32 {
    bytes.div_ceil(PAGE_BYTES).max(1).next_power_of_two().ilog2().min(ORDER_MAX)
}

impl Memory {
    /// Takes 2^`order` adjacent frames that the kernel reaches without more ado, for one of its own
    /// states; their bytes are anything. `None` if there is no such block: nothing has changed, but
    /// for what reclaim took back.
    pub(crate) fn alloc_block(
        &mut self,
        hw: &mut Machine,
        state: FrameState,
        order: u32,
        mobility: Mobility,
    ) -> Option<Frame> {
        debug_assert!(state.is_kernel(), "blocks are for the kernel");
        if self.count_of(FrameState::Free) <= self.due_at {
            self.balance_if_due(hw);
        }
        if self.is_refused() {
            return None;
        }
        let first = self.take_low(hw, order, mobility)?;
        for number in 0..1 << order {
            self.claim(first.wrapping_add(number), state);
        }
        Some(first)
    }

    /// 2^`order` adjacent frames of lowmem, taken back from others if there are none; for an order
    /// above 0 that may be all that can leave lowmem.
    #[inline]
    pub(super) fn take_low(
        &mut self,
        hw: &mut Machine,
        order: u32,
        mobility: Mobility,
    ) -> Option<Frame> {
        loop {
            if let Some(first) = self.zones.alloc_low_block(order, mobility) {
                return Some(Frame::new(first.into()));
            }
            if order > COSTLY_ORDER || !self.take_back_low(hw) {
                return None;
            }
        }
    }

    /// Takes 2^`order` zeroed frames in a row for the kernel itself; `None` if there are none, as
    /// [`Memory::alloc_block`].
    pub(crate) fn take_kernel_block(&mut self, hw: &mut Machine, order: u32) -> Option<Frame> {
        let first = self.alloc_block(hw, FrameState::Kernel, order, Mobility::Unmovable)?;
        for number in 0..1 << order {
            hw.ram.zero_frame(first.wrapping_add(number));
        }
        Some(first)
    }

    /// Gives a block back as it was taken.
    pub(crate) fn free_block(&mut self, hw: &mut Machine, first: Frame, order: u32) {
        if order == 0 {
            return self.free(hw, first);
        }
        for number in 0..1 << order {
            self.unclaim(hw, first.wrapping_add(number));
        }
        self.zones.free_block(first.number() as u32, order);
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use alloc::vec::Vec;

    use machine::{Geometry, PhysAddr};

    use super::*;
    use crate::Readahead;
    use crate::backing::{FileKind, ObjectId};
    use crate::memory::Content;
    use crate::testing::{RW, World, at, pages};

    /// First frame of `HighMem`.
    fn high(world: &World) -> u64 {
        world.memory.zones.lowmem_frames()
    }

    /// Page tables of a space, from the root down.
    fn tables_of(world: &World, table: Frame, level: u32) -> Vec<Frame> {
        let (geometry, ram) = (world.hw.geometry(), &world.hw.ram);
        let mut all = vec![table];
        for index in 0..if level > 1 { geometry.entries(level) } else { 0 } {
            let entry = geometry.load(ram, geometry.slot(table, index));
            if entry.is_present() && !entry.is_large() {
                all.extend(tables_of(world, entry.frame(), level - 1));
            }
        }
        all
    }

    #[test]
    fn page_tables_lie_in_lowmem_and_pages_of_programs_above() {
        for geometry in [Geometry::Pae, Geometry::I386] {
            let mut world = World::with_kernel(1 << 19, geometry);
            for first in [0x100, 0x1_0000, 0x4_0000] {
                world.map(pages(first, 4), RW);
                world.write(at(first)).expect("it is mapped");
                let frame = world.frames(pages(first, 1))[0].expect("it was written");
                assert!(frame.number() >= high(&world), "{geometry:?}: highmem is for programs");
            }
            let tables = tables_of(&world, world.spaces[0].root(), geometry.levels());
            assert!(tables.len() > 4, "{geometry:?}: the kernel's are among them");
            let space = world.memory.kernel_space().expect("it is mapped");
            for table in tables {
                assert!(table.number() < high(&world), "{geometry:?}: {:#x}", table.number());
                let place = PhysAddr::new(table.start().as_u64());
                assert!(space.va(place).is_some(), "{geometry:?}: the kernel can write it");
            }
            world.finish();
        }
    }

    /// Brings `count` pages of a new file into the page cache.
    fn cached(world: &mut World, count: u64) -> ObjectId {
        let bytes = (count * PAGE_BYTES) as usize;
        let id = world.add_file(bytes, FileKind::Regular).object;
        let mut read = vec![0; bytes];
        let World { memory, hw, .. } = world;
        let done = memory.read_object(hw, id, (0, &mut read), &mut Readahead::default());
        assert_eq!(done, Ok(bytes));
        id
    }

    /// How many frames of the page cache lie in lowmem, and how many above.
    fn cached_frames(world: &World) -> (usize, usize) {
        let last = world.memory.usage().frames_total;
        let is_file =
            |&number: &u64| world.memory.frame_state(Frame::new(number)) == FrameState::File;
        let first = high(world);
        ((0..first).filter(is_file).count(), (first..last).filter(is_file).count())
    }

    #[test]
    fn a_page_table_takes_lowmem_from_a_file_though_highmem_is_free() {
        let mut world = World::with_kernel((896 << 8) + 4096, Geometry::Pae);
        let first = high(&world);
        world.map(pages(0x100, 4), RW);
        let above = cached(&mut world, 500);
        let World { memory, hw, .. } = &mut world;
        let mut taken = Vec::new();
        let end = loop {
            let frame = memory.alloc(hw, FrameState::Vmalloc, Content::Any).expect("one is free");
            if frame.number() < first {
                break frame;
            }
            taken.push(frame);
        };
        memory.free(hw, end);
        let below = cached(&mut world, 500);
        let World { memory, hw, .. } = &mut world;
        taken.into_iter().for_each(|frame| memory.free(hw, frame));
        let mut hogged = Vec::new();
        while memory.zones().iter().any(|zone| zone.first_frame < first && zone.free > 0) {
            hogged.extend(memory.take_kernel_frame(hw));
        }
        assert_eq!(cached_frames(&world), (500, 500));
        assert!(world.memory.usage().frames_free > 3000);
        world.write(at(0x100)).expect("lowmem is taken back for its tables");
        let (low, high) = cached_frames(&world);
        assert!(low < 500, "{low}");
        assert_eq!(high, 500, "pages of highmem would not help");
        let World { memory, hw, .. } = &mut world;
        hogged.into_iter().for_each(|frame| memory.give_kernel_frame(hw, frame));
        memory.drop_object(hw, above);
        memory.drop_object(hw, below);
        world.finish();
    }
}
