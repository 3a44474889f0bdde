//! The memory calls: from the numbers of the ABI to the typed operations of `mm::ops`.

use machine::{PAGE_BYTES, PAGE_SHIFT, VirtAddr};
use mm::ops::{
    Advice, LockFlags, LockMode, MapFlags, MapRequest, MapSource, Ownership, ProtectFlags,
    RemapFlags, SyncFlags,
};
use mm::{Rights, Sharing, ops};

use super::Handler;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs;

/// The function for system call `number`, if it is about memory.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        9 => sys_mmap,
        10 => sys_mprotect,
        11 => sys_munmap,
        12 => sys_brk,
        25 => sys_mremap,
        26 => sys_msync,
        27 => sys_mincore,
        28 => sys_madvise,
        149 => sys_mlock,
        150 => sys_munlock,
        151 => sys_mlockall,
        152 => sys_munlockall,
        325 => sys_mlock2,
        329 => sys_pkey_mprotect,
        330 => sys_pkey_alloc,
        331 => sys_pkey_free,
        _ => return None,
    })
}

// Linux include/uapi/asm-generic/mman.h, mman-common.h and arch/x86/include/uapi/asm/mman.h.
const PROT_BITS: u64 = 7;
const PROT_WRITE: u64 = 2;
const PROT_GROWSDOWN: u64 = 0x0100_0000;
const PROT_GROWSUP: u64 = 0x0200_0000;
/// `PROT_SEM` is known and means nothing.
const PROT_SEM: u64 = 8;

const MAP_TYPE: u64 = 0xf;
const MAP_SHARED: u64 = 1;
const MAP_PRIVATE: u64 = 2;
const MAP_SHARED_VALIDATE: u64 = 3;
const MAP_DROPPABLE: u64 = 8;
const MAP_ANONYMOUS: u64 = 0x20;
const MAP_POPULATE: u64 = 0x8000;
const MAP_NONBLOCK: u64 = 0x1_0000;
const MAP_HUGETLB: u64 = 0x4_0000;
/// Flags that `MAP_SHARED_VALIDATE` accepts besides the type.
const MAP_LEGACY: u64 = 0x7c07_f9f0;
/// log2 of the huge page sizes of x86-64, in bits 26 to 31 of the flags; 0 is the default size.
const HUGE_SIZES: [u64; 3] = [0, 21, 30];

const FLAGS: [(u64, MapFlags); 6] = [
    (0x10, MapFlags::FIXED),
    (0x10_0000, MapFlags::FIXED_NO_REPLACE),
    (0x100, MapFlags::GROWS_DOWN),
    (0x2000, MapFlags::LOCKED),
    (0x4000, MapFlags::NO_RESERVE),
    (0x40, MapFlags::LOW_2G),
];

/// Personality: every readable mapping is executable (MMAP-8).
pub(crate) const READ_IMPLIES_EXEC: u32 = 0x0040_0000;

fn sys_mmap(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [addr, bytes, prot, flags, fd, offset] = args;
    if offset % PAGE_BYTES != 0 {
        return Err(Errno::EINVAL);
    }
    let file = if flags & MAP_ANONYMOUS == 0 { Some(kernel.map_source_of(fd)?) } else { None };
    if flags & MAP_HUGETLB != 0 {
        let is_known = HUGE_SIZES.contains(&(flags >> 26 & 0x3f));
        let is_anonymous = file.is_none();
        // The pool of huge pages is empty.
        return Err(if is_anonymous && is_known { Errno::ENOMEM } else { Errno::EINVAL });
    }
    if bytes == 0 {
        return Err(Errno::EINVAL);
    }
    let (sharing, mut map_flags) = sharing(flags, file.is_some())?;
    if file.is_some() && sharing == Sharing::Shared && prot & PROT_WRITE != 0 {
        kernel.check_write_seals(fd)?;
    }
    for (bit, flag) in FLAGS {
        map_flags.set(flag, map_flags.contains(flag) || flags & bit != 0);
    }
    map_flags.set(MapFlags::POPULATE, flags & (MAP_POPULATE | MAP_NONBLOCK) == MAP_POPULATE);
    let source = match file {
        Some(fs::MapSource::File(file)) => MapSource::File { file, offset },
        Some(fs::MapSource::Device(file)) => {
            let first = kernel.testmem_frame(offset, bytes);
            MapSource::Device { file, offset, first }
        }
        Some(fs::MapSource::Anonymous) | None => MapSource::Anonymous,
    };
    let rights = implied(kernel, rights(prot));
    let request = MapRequest { addr, bytes, rights, sharing, flags: map_flags, source };
    let addr = ops::mmap(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw, request)?;
    Ok(addr.as_u64())
}

impl Kernel {
    /// Refuses a shared writable mapping of a file that is sealed against it.
    fn check_write_seals(&self, fd: u64) -> Result<(), Errno> {
        let file = self.vfs.file(self.files.get(fd)?);
        let sealed = |node| self.vfs.seals(node) & fs::SEALS_WRITE != 0;
        let is_refused = file.can_write() && file.node().is_some_and(sealed);
        if is_refused { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// What `mmap` finds behind a descriptor.
    fn map_source_of(&mut self, fd: u64) -> Result<fs::MapSource, Errno> {
        let file = self.files.get(fd)?;
        if self.is_testmem(file) {
            return self.testmem_file(file).map(fs::MapSource::Device);
        }
        self.vfs.map_source(&mut self.memory, &mut self.hw, file)
    }
}

/// `MAP_TYPE` (MMAP-1, step 12).
fn sharing(flags: u64, is_file: bool) -> Result<(Sharing, MapFlags), Errno> {
    match flags & MAP_TYPE {
        MAP_SHARED => Ok((Sharing::Shared, MapFlags::empty())),
        MAP_PRIVATE => Ok((Sharing::Private, MapFlags::empty())),
        MAP_SHARED_VALIDATE if !is_file => Err(Errno::EINVAL),
        MAP_SHARED_VALIDATE if flags & !(MAP_LEGACY | MAP_TYPE) != 0 => Err(Errno::EOPNOTSUPP),
        MAP_SHARED_VALIDATE => Ok((Sharing::Shared, MapFlags::empty())),
        MAP_DROPPABLE if !is_file => Ok((Sharing::Private, MapFlags::DROPPABLE)),
        _ => Err(Errno::EINVAL),
    }
}

/// `PROT_` bits; others are ignored by `mmap` (MMAP-2).
fn rights(prot: u64) -> Rights {
    Rights::from_bits_truncate((prot & PROT_BITS) as u8)
}

fn implied(kernel: &Kernel, rights: Rights) -> Rights {
    let is_implied = kernel.task.personality & READ_IMPLIES_EXEC != 0;
    if is_implied && rights.contains(Rights::READ) { rights | Rights::EXECUTE } else { rights }
}

fn sys_mprotect(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [addr, bytes, prot, ..] = args;
    let mut flags = ProtectFlags::empty();
    flags.set(ProtectFlags::GROWS_DOWN, prot & PROT_GROWSDOWN != 0);
    flags.set(ProtectFlags::GROWS_UP, prot & PROT_GROWSUP != 0);
    if flags == ProtectFlags::all() || addr % PAGE_BYTES != 0 {
        return Err(Errno::EINVAL);
    }
    if bytes == 0 {
        return Ok(0);
    }
    if addr.checked_add(bytes).is_none_or(|end| end > u64::MAX - (PAGE_BYTES - 1)) {
        return Err(Errno::ENOMEM);
    }
    if prot & !(PROT_BITS | PROT_SEM | PROT_GROWSDOWN | PROT_GROWSUP) != 0 {
        return Err(Errno::EINVAL);
    }
    let rights = implied(kernel, rights(prot));
    let addr = VirtAddr::new(addr);
    let (memory, hw) = (&mut kernel.memory, &mut kernel.hw);
    ops::mprotect(&mut kernel.mm, memory, hw, addr, bytes, (rights, flags))?;
    Ok(0)
}

fn sys_munmap(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let addr = VirtAddr::new(args[0]);
    ops::munmap(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw, addr, args[1])?;
    Ok(0)
}

fn sys_brk(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let wanted = VirtAddr::new(args[0]);
    let brk = ops::brk(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw, wanted);
    Ok(brk.as_u64())
}

fn sys_mremap(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [addr, old_bytes, new_bytes, flags, new_addr, _] = args;
    let flags = u8::try_from(flags).ok().and_then(RemapFlags::from_bits).ok_or(Errno::EINVAL)?;
    let addr = ops::mremap(
        &mut kernel.mm,
        &mut kernel.memory,
        &mut kernel.hw,
        (VirtAddr::new(addr), old_bytes, new_bytes),
        flags,
        VirtAddr::new(new_addr),
    )?;
    Ok(addr.as_u64())
}

fn sys_msync(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [addr, bytes, flags, ..] = args;
    let flags = u8::try_from(flags).ok().and_then(SyncFlags::from_bits).ok_or(Errno::EINVAL)?;
    let range = (VirtAddr::new(addr), bytes);
    ops::msync(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw, range, flags)?;
    Ok(0)
}

/// Pages asked about at a time: one page of answers.
const MINCORE_PAGES: u64 = PAGE_BYTES;

fn sys_mincore(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [addr, bytes, answers, ..] = args;
    if addr % PAGE_BYTES != 0 {
        return Err(Errno::EINVAL);
    }
    let pages = bytes.div_ceil(PAGE_BYTES);
    kernel.check_user_range(addr, bytes).map_err(|_| Errno::ENOMEM)?;
    let mut done = 0;
    while done < pages {
        let count = MINCORE_PAGES.min(pages - done);
        let start = VirtAddr::new(addr + (done << PAGE_SHIFT));
        let range = (start, count << PAGE_SHIFT);
        let mm = &kernel.mm;
        let bits = ops::mincore(mm, &kernel.memory, &kernel.hw, range, Ownership::Owner)?;
        let target = answers.checked_add(done).ok_or(Errno::EFAULT)?;
        kernel.write_user(VirtAddr::new(target), &bits)?;
        done += count;
    }
    Ok(0)
}

fn sys_madvise(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [addr, bytes, advice, ..] = args;
    let advice = Advice::from_number(advice & 0xffff_ffff).ok_or(Errno::EINVAL)?;
    let range = (VirtAddr::new(addr), bytes);
    ops::madvise(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw, range, advice)?;
    Ok(0)
}

fn sys_mlock(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    lock(kernel, args[0], args[1], LockMode::Now)
}

const MLOCK_ONFAULT: u64 = 1;

fn sys_mlock2(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    match args[2] {
        0 => lock(kernel, args[0], args[1], LockMode::Now),
        MLOCK_ONFAULT => lock(kernel, args[0], args[1], LockMode::OnFault),
        _ => Err(Errno::EINVAL),
    }
}

fn lock(kernel: &mut Kernel, addr: u64, bytes: u64, mode: LockMode) -> SysResult {
    let range = (VirtAddr::new(addr), bytes);
    ops::mlock(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw, range, mode)?;
    Ok(0)
}

fn sys_munlock(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let (memory, hw) = (&mut kernel.memory, &mut kernel.hw);
    ops::munlock(&mut kernel.mm, memory, hw, VirtAddr::new(args[0]), args[1])?;
    Ok(0)
}

fn sys_mlockall(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let flags = u8::try_from(args[0]).ok().and_then(LockFlags::from_bits).ok_or(Errno::EINVAL)?;
    ops::mlockall(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw, flags)?;
    Ok(0)
}

fn sys_munlockall(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    ops::munlockall(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw);
    Ok(0)
}

/// Only without a key: the virtual processor has no protection keys.
fn sys_pkey_mprotect(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if args[3] as u32 != u32::MAX {
        return Err(Errno::EINVAL);
    }
    sys_mprotect(kernel, args)
}

fn sys_pkey_alloc(_kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if args[0] != 0 || args[1] > 3 { Err(Errno::EINVAL) } else { Err(Errno::ENOSPC) }
}

fn sys_pkey_free(_kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Err(Errno::EINVAL)
}
