//! Descriptors that a program makes: its three entries of the GDT.
//!
//! A task's entries are kept with the task and written to the GDT, in a frame of RAM, when it gets
//! the CPU. What a descriptor means is the business of the CPU (`cpu/segments.rs`).
//!
//! Does not: keep the local table (`syscall/ldt.rs`).
//!
//! # Source
//! Linux 6.12 `arch/x86/kernel/tls.c`, `arch/x86/include/asm/desc.h:fill_ldt`.

use cpu::{DescriptorTable, Segment, SegmentName, descriptor};
use machine::{Frame, Machine, PAGE_BYTES, VirtAddr};
use mm::Memory;

use super::Args;
use crate::Kernel;
use crate::abi::KernelKind;
use crate::errno::{Errno, SysResult};
use crate::syscall::ldt::{self, UserDescriptor, flag};

/// How many entries a task has.
pub(crate) const COUNT: usize = 3;
/// The bits of a `struct user_desc` that count: not the one for 64-bit code.
const FLAGS: u32 = 0x7f;

/// The descriptor of an entry of the GDT: only 32-bit data segments that are there, or nothing.
///
/// # Errors
/// `EINVAL`: it is another.
fn pack(wanted: UserDescriptor) -> Result<u64, Errno> {
    let UserDescriptor { base, limit, flags, .. } = wanted;
    let flags = flags & FLAGS;
    // What takes an entry away: all zeros, or the form of `modify_ldt`.
    let is_plain = base == 0 && limit == 0;
    if is_plain && (flags == 0 || flags == flag::READ_ONLY | flag::ABSENT) {
        return Ok(0);
    }
    let is_data = flags & flag::CONTENTS <= 2;
    let has = |bit| flags & bit != 0;
    if !has(flag::BIG) || !is_data || has(flag::ABSENT) {
        return Err(Errno::EINVAL);
    }
    // Present, for programs, not of the system, accessed.
    let mut rights = 0xf1 | ((flags & flag::CONTENTS) << 1) as u16;
    for (bit, right) in [(flag::USEABLE, 0x1000), (flag::BIG, 0x4000), (flag::PAGES, 0x8000)] {
        rights |= if has(bit) { right } else { 0 };
    }
    rights |= if has(flag::READ_ONLY) { 0 } else { 2 };
    Ok(descriptor(base, limit, rights))
}

/// A GDT of such a kernel in RAM, as it is before any program has entries of its own, or `None`
/// without a frame.
pub(crate) fn new_gdt(
    memory: &mut Memory,
    hw: &mut Machine,
    kind: KernelKind,
) -> Option<(Frame, DescriptorTable)> {
    let frame = memory.take_kernel_frame(hw)?;
    let entries = kind.descriptors();
    let mut bytes: Vec<u8> = entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
    bytes.resize(PAGE_BYTES as usize, 0);
    hw.store(frame.start(), &bytes);
    Some((frame, table_in(frame, entries)))
}

fn table_in(frame: Frame, entries: &[u64]) -> DescriptorTable {
    DescriptorTable { base: frame.start(), limit: (entries.len() * 8 - 1) as u16 }
}

/// The place in a task's list of entry `number` of the GDT, whose first for threads is `first`.
fn slot_of(first: u64, number: u64) -> Result<usize, Errno> {
    let slot = number.checked_sub(first).and_then(|slot| usize::try_from(slot).ok());
    slot.filter(|&slot| slot < COUNT).ok_or(Errno::EINVAL)
}

pub(super) fn set_thread_area(kernel: &mut Kernel, args: Args) -> SysResult {
    let wanted = UserDescriptor::read(kernel, VirtAddr::new(args[0]))?;
    let packed = pack(wanted)?;
    let number = if wanted.entry == u32::MAX {
        let free = kernel.task.tls.iter().position(|&entry| entry == 0).ok_or(Errno::ESRCH)?;
        let number = kernel.first_thread_entry() + free as u64;
        kernel.write_user_u32(VirtAddr::new(args[0]), number as u32)?;
        number
    } else {
        wanted.entry.into()
    };
    let slot = slot_of(kernel.first_thread_entry(), number)?;
    kernel.prepare_gdt()?;
    kernel.task.tls[slot] = packed;
    kernel.load_tls();
    let selector = (number * 8 + 3) as u16;
    let names = [SegmentName::Es, SegmentName::Ds, SegmentName::Fs, SegmentName::Gs];
    for name in names {
        let regs = &mut kernel.task.regs;
        // A selector that has become bad is null from now on.
        let is_changed = regs.selectors[name as usize] == selector;
        if is_changed && regs.load_segment(&mut kernel.hw, name, selector).is_err() {
            let _ = regs.load_segment(&mut kernel.hw, name, 0);
        }
    }
    Ok(0)
}

pub(super) fn get_thread_area(kernel: &mut Kernel, args: Args) -> SysResult {
    let number = kernel.read_user_u32(VirtAddr::new(args[0]))?;
    let slot = slot_of(kernel.first_thread_entry(), number.into())?;
    let packed = kernel.task.tls[slot];
    let segment = Segment::of(packed);
    let rights = u32::from(segment.rights);
    let bit = |right: u32, flag: u32| if rights & right != 0 { flag } else { 0 };
    let is_read_only = if rights & 2 == 0 { flag::READ_ONLY } else { 0 };
    let is_absent = if rights & 0x80 == 0 { flag::ABSENT } else { 0 };
    let flags = bit(0x4000, flag::BIG)
        | (rights >> 1 & flag::CONTENTS)
        | is_read_only
        | bit(0x8000, flag::PAGES)
        | is_absent
        | bit(0x1000, flag::USEABLE);
    let limit = (packed & 0xffff | packed >> 32 & 0xf_0000) as u32;
    let words = [number, segment.base as u32, limit, flags];
    kernel.write_user(VirtAddr::new(args[0]), &words.map(u32::to_le_bytes).concat())?;
    Ok(0)
}

pub(super) fn modify_ldt(kernel: &mut Kernel, args: Args) -> SysResult {
    ldt::modify_ldt(kernel, args[0], VirtAddr::new(args[1]), args[2])
}

impl Kernel {
    /// The entries of a new thread whose `struct user_desc` is at `addr` (`CLONE_SETTLS`).
    ///
    /// # Errors
    /// `EFAULT`, `EINVAL`: as `set_thread_area`; `ENOMEM`: no frame for the GDT.
    pub(crate) fn tls_of_thread(&mut self, addr: u64) -> Result<[u64; COUNT], Errno> {
        let wanted = UserDescriptor::read(self, VirtAddr::new(addr))?;
        let packed = pack(wanted)?;
        let slot = slot_of(self.first_thread_entry(), wanted.entry.into())?;
        self.prepare_gdt()?;
        let mut entries = self.task.tls;
        entries[slot] = packed;
        Ok(entries)
    }

    /// Gives the running task a GDT in RAM.
    fn prepare_gdt(&mut self) -> Result<(), Errno> {
        let entries = self.kind.descriptors();
        self.task.regs.gdt = match self.gdt {
            Some(frame) => table_in(frame, entries),
            None => {
                let (frame, table) =
                    new_gdt(&mut self.memory, &mut self.hw, self.kind).ok_or(Errno::ENOMEM)?;
                self.gdt = Some(frame);
                table
            }
        };
        Ok(())
    }

    /// The GDT that every task of an i386 kernel has; those of a 64-bit one need none in RAM.
    pub(crate) fn gdt_at_boot(&self) -> DescriptorTable {
        let frame = self.gdt.filter(|_| self.kind != KernelKind::X86_64);
        frame.map_or(DescriptorTable::NONE, |frame| table_in(frame, self.kind.descriptors()))
    }

    fn first_thread_entry(&self) -> u64 {
        self.kind.first_thread_entry()
    }

    /// Writes the entries of a task that gets the CPU to the GDT, and loads what it has of them.
    pub(crate) fn switch_tls(&mut self) {
        self.load_tls();
        if self.task.regs.gdt.limit != 0 {
            self.task.regs.reload(&mut self.hw);
        }
    }

    /// Writes the entries of the running task to the GDT.
    fn load_tls(&mut self) {
        let Some(frame) = self.gdt.filter(|_| self.task.regs.gdt.limit != 0) else { return };
        let bytes = self.task.tls.map(u64::to_le_bytes);
        let place = frame.start().wrapping_add(self.first_thread_entry() * 8);
        self.hw.store(place, bytes.as_flattened());
    }

    /// Gives the frame of the GDT back.
    pub(crate) fn drop_gdt(&mut self) {
        if let Some(frame) = self.gdt.take() {
            self.memory.give_kernel_frame(&mut self.hw, frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_data_segments_are_entries() {
        let wanted =
            |flags| UserDescriptor { entry: 12, base: 0x1234_5678, limit: 0xf_ffff, flags };
        // What glibc asks for: 32-bit, limit in pages, useable.
        assert_eq!(pack(wanted(0x51)), Ok(0x12df_f334_5678_ffff));
        for flags in [0x50, 0x71, 0x55, 0x57] {
            assert_eq!(pack(wanted(flags)), Err(Errno::EINVAL), "{flags:#x}");
        }
        let empty = UserDescriptor { entry: 12, base: 0, limit: 0, flags: 0x28 };
        assert_eq!(pack(empty), Ok(0));
        let slots = [12, 14, 15].map(|number| slot_of(12, number));
        assert_eq!(slots, [Ok(0), Ok(2), Err(Errno::EINVAL)]);
        assert_eq!([6, 5].map(|number| slot_of(6, number)), [Ok(0), Err(Errno::EINVAL)]);
    }
}
