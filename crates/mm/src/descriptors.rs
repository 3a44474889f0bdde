//! The local descriptor table of an address space: where it lies in RAM.
//!
//! What a descriptor says is the CPU's affair, what a program may write the kernel's. Here are only
//! the frames: a row of 1, 2, 4, 8 or 16, because the CPU finds descriptors by adding to the base.
//! They belong to the kernel, are never swapped, and go when the space does.
//!
//! Invariants
//! 1. The bytes behind [`Descriptors::bytes`] in the last frame are never read.
//!
//! # Source
//! Intel SDM 3A, 3.5.1; Linux 6.12 `arch/x86/kernel/ldt.c`; semantics section 19.

use machine::{Frame, Machine, PhysAddr};

use crate::memory::block::order_of;
use crate::{Memory, Mm, MmError};

/// Most bytes of a table: 8,192 descriptors of 8 bytes.
pub const DESCRIPTOR_BYTES_MAX: u64 = 1 << 16;

/// A table of descriptors in RAM.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptors {
    /// Its first frame.
    pub first: Frame,
    /// Its length in bytes, at least 8.
    pub bytes: u64,
}

impl Descriptors {
    /// Its first byte.
    pub const fn start(self) -> PhysAddr {
        self.first.start()
    }

    /// Log2 of the number of its frames.
    fn order(self) -> u32 {
        order_of(self.bytes)
    }
}

impl Mm {
    /// The local descriptor table.
    pub const fn descriptors(&self) -> Option<Descriptors> {
        self.descriptors
    }

    /// Makes the local descriptor table at least `bytes` bytes long; new bytes are zero.
    ///
    /// The table may lie elsewhere then: the caller tells the CPUs.
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: no frames in a row are free; nothing has changed.
    ///
    /// # Panics
    /// If `bytes` is above [`DESCRIPTOR_BYTES_MAX`].
    pub fn grow_descriptors(
        &mut self,
        memory: &mut Memory,
        hw: &mut Machine,
        bytes: u64,
    ) -> Result<(), MmError> {
        assert!(bytes <= DESCRIPTOR_BYTES_MAX, "a table has 8,192 descriptors at most");
        let old = self.descriptors;
        if let Some(table) = &mut self.descriptors
            && order_of(bytes) <= table.order()
        {
            table.bytes = table.bytes.max(bytes);
            return Ok(());
        }
        let first = memory
            .take_kernel_block(hw, order_of(bytes))
            .ok_or(MmError::NoMemory("no frames for the descriptor table"))?;
        if let Some(old) = old {
            copy(hw, old, first);
        }
        self.drop_descriptors(memory, hw);
        self.descriptors = Some(Descriptors { first, bytes });
        Ok(())
    }

    /// Gives `self`, which has none, a copy of the local descriptor table of `parent`.
    ///
    /// # Errors
    /// - [`MmError::NoMemory`]: no frames in a row are free; nothing has changed.
    pub fn copy_descriptors(
        &mut self,
        parent: &Self,
        memory: &mut Memory,
        hw: &mut Machine,
    ) -> Result<(), MmError> {
        let Some(table) = parent.descriptors else { return Ok(()) };
        self.grow_descriptors(memory, hw, table.bytes)?;
        if let Some(own) = self.descriptors {
            copy(hw, table, own.first);
        }
        Ok(())
    }

    pub(crate) fn drop_descriptors(&mut self, memory: &mut Memory, hw: &mut Machine) {
        let Some(table) = self.descriptors.take() else { return };
        memory.free_block(hw, table.first, table.order());
    }
}

/// Copies a table to the frames from `to` on.
fn copy(hw: &mut Machine, table: Descriptors, to: Frame) {
    for (at, address) in (0..table.bytes).step_by(8).enumerate() {
        let mut descriptor = [0; 8];
        hw.load(table.start().wrapping_add(address), &mut descriptor);
        hw.store(to.start().wrapping_add(at as u64 * 8), &descriptor);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    #[test]
    fn a_table_keeps_its_bytes_when_it_grows_and_gives_all_frames_back() {
        let mut world = World::new(256);
        let free = world.memory.usage().frames_free;
        let World { spaces, memory, hw, .. } = &mut world;
        let mm = &mut spaces[0];
        mm.grow_descriptors(memory, hw, 8).expect("a frame is free");
        let first = mm.descriptors().expect("there is one");
        assert_eq!(first.bytes, 8);
        hw.store(first.start(), &[7; 8]);
        mm.grow_descriptors(memory, hw, 4096).expect("it is there");
        assert_eq!(mm.descriptors().expect("there is one").first, first.first);
        mm.grow_descriptors(memory, hw, DESCRIPTOR_BYTES_MAX).expect("16 frames are free");
        let table = mm.descriptors().expect("there is one");
        let mut bytes = [0; 16];
        hw.load(table.start(), &mut bytes);
        assert_eq!(bytes, [7, 7, 7, 7, 7, 7, 7, 7, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(memory.usage().frames_free, free - 16);
        mm.drop_descriptors(memory, hw);
        assert_eq!(memory.usage().frames_free, free);
    }

    #[test]
    fn a_table_that_cannot_grow_stays() {
        let mut world = World::new(256);
        let World { spaces, memory, hw, .. } = &mut world;
        let mm = &mut spaces[0];
        mm.grow_descriptors(memory, hw, 64).expect("a frame is free");
        let before = mm.descriptors();
        memory.refuse_allocation(0);
        let result = mm.grow_descriptors(memory, hw, DESCRIPTOR_BYTES_MAX);
        assert!(matches!(result, Err(MmError::NoMemory(_))));
        assert_eq!(mm.descriptors(), before);
    }
}
