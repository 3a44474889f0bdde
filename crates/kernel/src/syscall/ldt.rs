//! `modify_ldt`: segments that a program makes for itself.
//!
//! The table belongs to the address space: threads share it, `fork` copies it, `execve` starts
//! without one. Its bytes lie in RAM, where the CPU reads them; a program can make data and code
//! segments of its own level only.
//!
//! # Source
//! Linux 6.12 `arch/x86/kernel/ldt.c`, `arch/x86/include/asm/desc.h`; man 2 modify_ldt; semantics
//! section 19.

use cpu::{DescriptorTable, descriptor};
use machine::VirtAddr;
use mm::DESCRIPTOR_BYTES_MAX;

use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(crate) fn handler(number: u64) -> Option<Handler> {
    match number {
        154 => Some(sys_modify_ldt),
        _ => None,
    }
}

/// Bytes of the default table, which is all zeros.
const DEFAULT_BYTES: u64 = 128;

/// A descriptor as a program names it (`struct user_desc`).
#[derive(Clone, Copy)]
pub(crate) struct UserDescriptor {
    /// Its number in the table.
    pub(crate) entry: u32,
    /// Where the segment begins.
    pub(crate) base: u32,
    /// Its last byte, or page.
    pub(crate) limit: u32,
    /// The bits of [`flag`].
    pub(crate) flags: u32,
}

/// What a program says of a segment, bit by bit.
pub(crate) mod flag {
    /// `seg_32bit`.
    pub(crate) const BIG: u32 = 1;
    /// `contents`: expands down or conforms; is code.
    pub(crate) const CONTENTS: u32 = 3 << 1;
    /// `contents` of code that conforms.
    pub(crate) const CONFORMING_CODE: u32 = 3 << 1;
    /// `read_exec_only`.
    pub(crate) const READ_ONLY: u32 = 1 << 3;
    /// `limit_in_pages`.
    pub(crate) const PAGES: u32 = 1 << 4;
    /// `seg_not_present`.
    pub(crate) const ABSENT: u32 = 1 << 5;
    /// `useable`.
    pub(crate) const USEABLE: u32 = 1 << 6;
    /// All of them; the last, for 64-bit code, counts nowhere else.
    pub(crate) const ALL: u32 = 0xff;
}

impl UserDescriptor {
    /// Bytes of one.
    pub(crate) const BYTES: usize = 16;

    /// Reads the one at `addr`.
    ///
    /// # Errors
    /// `EFAULT`: it cannot be read.
    pub(crate) fn read(kernel: &mut Kernel, addr: VirtAddr) -> Result<Self, Errno> {
        let mut raw = [0; Self::BYTES];
        kernel.read_user(addr, &mut raw)?;
        let word = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        Ok(Self { entry: word(0), base: word(4), limit: word(8), flags: word(12) })
    }
}

/// Whether the bit for the program's own use is kept.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Old,
    New,
}

fn sys_modify_ldt(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [function, pointer, bytes, ..] = args;
    let result = modify_ldt(kernel, function, VirtAddr::new(pointer), bytes);
    // The call returns an int, which the kernel does not extend by its sign.
    Ok(result.unwrap_or_else(Errno::as_register) & 0xffff_ffff)
}

/// Reads or changes the local descriptor table of the running task's address space.
///
/// # Errors
/// `ENOSYS`: no such function. `EFAULT`, `EINVAL`: a bad pointer or descriptor. `ENOMEM`: no frames
/// for the table. Nothing has changed then, except that part of a table may have been read.
pub(crate) fn modify_ldt(
    kernel: &mut Kernel,
    function: u64,
    pointer: VirtAddr,
    bytes: u64,
) -> SysResult {
    match function & 0xffff_ffff {
        0 => read_table(kernel, pointer, bytes),
        1 => write_entry(kernel, pointer, bytes, Form::Old),
        2 => {
            let bytes = bytes.min(DEFAULT_BYTES);
            kernel.write_user(pointer, &[0; DEFAULT_BYTES as usize][..bytes as usize])?;
            Ok(bytes)
        }
        0x11 => write_entry(kernel, pointer, bytes, Form::New),
        _ => Err(Errno::ENOSYS),
    }
}

/// The table, and zeros behind its end.
fn read_table(kernel: &mut Kernel, pointer: VirtAddr, bytes: u64) -> SysResult {
    let Some(table) = kernel.mm.descriptors() else { return Ok(0) };
    let bytes = bytes.min(DESCRIPTOR_BYTES_MAX);
    let mut content = vec![0; bytes as usize];
    let known = table.bytes.min(bytes);
    for at in (0..known).step_by(8) {
        let end = (at + 8).min(known);
        let place = table.start().wrapping_add(at);
        kernel.hw.load(place, &mut content[at as usize..end as usize]);
    }
    kernel.write_user(pointer, &content)?;
    Ok(bytes)
}

fn write_entry(kernel: &mut Kernel, pointer: VirtAddr, bytes: u64, form: Form) -> SysResult {
    if bytes != UserDescriptor::BYTES as u64 {
        return Err(Errno::EINVAL);
    }
    let request = UserDescriptor::read(kernel, pointer)?;
    let value = check(request, form)?;
    let end = u64::from(request.entry) * 8 + 8;
    kernel.mm.grow_descriptors(&mut kernel.memory, &mut kernel.hw, end)?;
    if let Some(table) = kernel.mm.descriptors() {
        kernel.hw.store(table.start().wrapping_add(end - 8), &value.to_le_bytes());
    }
    kernel.table_has_changed();
    Ok(0)
}

/// The descriptor that a program asks for; 0 if it empties the entry.
fn check(request: UserDescriptor, form: Form) -> Result<u64, Errno> {
    let UserDescriptor { entry, base, limit, flags } = request;
    if u64::from(entry) >= DESCRIPTOR_BYTES_MAX / 8 {
        return Err(Errno::EINVAL);
    }
    let is_absent = flags & flag::ABSENT != 0;
    if flags & flag::CONTENTS == flag::CONFORMING_CODE && (form == Form::Old || !is_absent) {
        return Err(Errno::EINVAL);
    }
    let is_nowhere = base == 0 && limit == 0;
    let is_empty = flags & flag::ALL == flag::READ_ONLY | flag::ABSENT;
    if is_nowhere && (form == Form::Old || is_empty) {
        return Ok(0);
    }
    // Accessed from the start, of level 3.
    let mut rights = 0x71;
    let mut set = |flag: u32, right: u16| rights |= if flags & flag != 0 { right } else { 0 };
    set(flag::CONTENTS & 2, 1 << 2);
    set(flag::CONTENTS & 4, 1 << 3);
    set(flag::PAGES, 1 << 15);
    set(flag::BIG, 1 << 14);
    if form == Form::New {
        set(flag::USEABLE, 1 << 12);
    }
    rights |= if flags & flag::READ_ONLY == 0 { 1 << 1 } else { 0 };
    rights |= if is_absent { 0 } else { 1 << 7 };
    Ok(descriptor(base, limit & 0xf_ffff, rights))
}

impl Kernel {
    /// The table of the running task's address space as the CPU finds it.
    pub(crate) fn local_table(&self) -> DescriptorTable {
        table_of(&self.mm)
    }

    /// Tells all threads of the running task's address space that its table has changed: segments
    /// out of it are loaded again.
    fn table_has_changed(&mut self) {
        let table = self.local_table();
        let mm = self.task.parts.mm;
        let others = self.tasks.tasks.values_mut().filter(|task| task.parts.mm == mm);
        for task in others.chain([&mut self.task]) {
            task.regs.ldt = table;
            task.regs.reload_local(&mut self.hw);
        }
    }
}

/// The table of `mm` as the CPU finds it.
pub(crate) fn table_of(mm: &mm::Mm) -> DescriptorTable {
    mm.descriptors().map_or(DescriptorTable::NONE, |table| {
        let last = table.bytes.min(DESCRIPTOR_BYTES_MAX).saturating_sub(1);
        DescriptorTable { base: table.start(), limit: u16::try_from(last).unwrap_or(u16::MAX) }
    })
}
