//! Memory calls whose arguments are put together differently.

use machine::{PAGE_SHIFT, VirtAddr};

use super::{Args, word};
use crate::Kernel;
use crate::abi::Abi;
use crate::errno::{Errno, SysResult};

const MMAP: u16 = 9;
const MREMAP: u16 = 25;

/// The call of the first i386 kernels: one pointer to six words.
pub(super) fn mmap(kernel: &mut Kernel, args: Args) -> SysResult {
    let mut bytes = [0; 24];
    kernel.read_user(VirtAddr::new(args[0]), &mut bytes)?;
    let args = std::array::from_fn(|index| word(&bytes, index * 4));
    in_low_memory(kernel, MMAP, args)
}

/// The offset is in pages.
pub(super) fn mmap2(kernel: &mut Kernel, args: Args) -> SysResult {
    let [addr, bytes, prot, flags, fd, page] = args;
    in_low_memory(kernel, MMAP, [addr, bytes, prot, flags, fd, page << PAGE_SHIFT])
}

pub(super) fn mremap(kernel: &mut Kernel, args: Args) -> SysResult {
    in_low_memory(kernel, MREMAP, args)
}

/// Does a call that places memory below 4 GiB, also for a 64-bit program that made it by
/// `int 0x80` (`mmap_compat_base`).
pub(super) fn in_low_memory(kernel: &mut Kernel, number: u16, args: Args) -> SysResult {
    let room = kernel.kind.room(Abi::I386, kernel.task.personality);
    let low = crate::exec::layout(room, kernel.mm.limits.stack_bytes);
    let own = kernel.mm.layout;
    if own.task_end > low.task_end {
        let layout = &mut kernel.mm.layout;
        layout.mmap_base = low.mmap_base;
        layout.mmap_legacy_base = low.mmap_legacy_base;
        layout.task_end = low.task_end;
    }
    let result = kernel.call_native(number, args);
    let layout = &mut kernel.mm.layout;
    layout.mmap_base = own.mmap_base;
    layout.mmap_legacy_base = own.mmap_legacy_base;
    layout.task_end = own.task_end;
    match result {
        Ok(addr) if addr > u64::from(u32::MAX) => Err(Errno::ENOMEM),
        result => result,
    }
}
