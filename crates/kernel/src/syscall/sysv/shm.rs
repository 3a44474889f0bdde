//! Shared memory segments: `shmget`, `shmat`, `shmdt`, `shmctl`.
//!
//! # Source
//! man 2 `shmget`, `shmop`, `shmctl`; Linux 6.12 `ipc/shm.c`.

use std::sync::Arc;

use machine::{PAGE_BYTES, VirtAddr};
use mm::ops::{self, MapFlags, MapRequest, MapSource};
use mm::{FileKind, MappedFile, Mm, ObjectId, Rights, Sharing};

use super::{PERMISSION_BYTES, READ, REMOVE, SET, STAT, WRITE, find, low32, number, structure};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        29 => sys_shmget,
        30 => sys_shmat,
        31 => sys_shmctl,
        67 => sys_shmdt,
        _ => return None,
    })
}

/// Most segments: `SHMMNI`.
const SEGMENTS_MAX: usize = 4096;
/// Longest segment that this machine could ever use.
const SEGMENT_BYTES_MAX: u64 = 1 << 43;
/// `SHM_DEST`: removed with its last mapping.
const DESTROYED: u32 = 0o1000;

/// A segment.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<MappedFile>,
    pub(super) bytes: u64,
    pub(super) attached_s: u64,
    pub(super) detached_s: u64,
    pub(super) changed_s: u64,
    pub(super) maker_pid: u32,
    pub(super) last_pid: u32,
}

fn sys_shmget(kernel: &mut Kernel, [key, bytes, flags, ..]: [u64; 6]) -> SysResult {
    const HUGE: u32 = 0o4000;
    let (key, flags) = (low32(key), low32(flags));
    if let Some(id) = find(&kernel.ipc.segments, key, flags)? {
        let segment = kernel.ipc.segments.get(id.into())?;
        let (permissions, held) = (segment.permissions, segment.data.bytes);
        if bytes > held {
            return Err(Errno::EINVAL);
        }
        kernel.check_permissions(&permissions, (flags | flags >> 3 | flags >> 6) & 7)?;
        return number(id);
    }
    if bytes == 0 || bytes > SEGMENT_BYTES_MAX {
        return Err(Errno::EINVAL);
    }
    if flags & HUGE != 0 {
        return Err(Errno::ENOMEM);
    }
    if kernel.ipc.segments.entries.len() >= SEGMENTS_MAX {
        return Err(Errno::ENOSPC);
    }
    let whole = bytes.next_multiple_of(PAGE_BYTES);
    let pager = kernel.vfs.new_memory(whole)?;
    let object = kernel.memory.add_object(pager, FileKind::Shmem);
    let file = Arc::new(MappedFile {
        object,
        path: format!("/SYSV{key:08x} (deleted)").into_bytes().into_boxed_slice(),
        device: (0, 1),
        inode: kernel.ipc.segments.next.into(),
        kind: FileKind::Shmem,
        may: Rights::all(),
    });
    let segment = Segment {
        file,
        bytes,
        attached_s: 0,
        detached_s: 0,
        changed_s: kernel.ipc_seconds(),
        maker_pid: kernel.process.pid,
        last_pid: 0,
    };
    let permissions = kernel.new_permissions(key, flags);
    number(kernel.ipc.segments.insert(permissions, segment))
}

fn sys_shmat(kernel: &mut Kernel, [id, addr, flags, ..]: [u64; 6]) -> SysResult {
    const READ_ONLY: u32 = 0o10_000;
    const ROUND: u32 = 0o20_000;
    const REMAP: u32 = 0o40_000;
    const EXECUTE: u32 = 0o100_000;
    let flags = low32(flags);
    let mut addr = addr;
    if addr % PAGE_BYTES != 0 {
        if flags & ROUND == 0 {
            return Err(Errno::EINVAL);
        }
        addr -= addr % PAGE_BYTES;
    }
    if addr == 0 && flags & REMAP != 0 {
        return Err(Errno::EINVAL);
    }
    let segment = kernel.ipc.segments.get(id)?;
    let (permissions, bytes) = (segment.permissions, segment.data.bytes);
    let file = Arc::clone(&segment.data.file);
    let mut rights = Rights::READ;
    rights.set(Rights::WRITE, flags & READ_ONLY == 0);
    rights.set(Rights::EXECUTE, flags & EXECUTE != 0);
    let wanted = if flags & READ_ONLY == 0 { READ | WRITE } else { READ };
    kernel.check_permissions(&permissions, wanted)?;
    let mut map_flags = MapFlags::empty();
    if addr != 0 {
        map_flags |= if flags & REMAP != 0 { MapFlags::FIXED } else { MapFlags::FIXED_NO_REPLACE };
    }
    let request = MapRequest {
        addr,
        bytes: bytes.next_multiple_of(PAGE_BYTES),
        rights,
        sharing: Sharing::Shared,
        flags: map_flags,
        source: MapSource::File { file, offset: 0 },
    };
    let mapped = ops::mmap(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw, request);
    let mapped = mapped.map_err(Errno::from).map_err(|errno| match errno {
        Errno::EEXIST => Errno::EINVAL,
        other => other,
    })?;
    let (now, pid) = (kernel.ipc_seconds(), kernel.process.pid);
    let segment = &mut kernel.ipc.segments.get(id)?.data;
    segment.attached_s = now;
    segment.last_pid = pid;
    Ok(mapped.as_u64())
}

/// Where the parts of the attachment at `addr` are mapped, and of which object.
fn attachment(mm: &Mm, addr: u64) -> Option<(ObjectId, Vec<(VirtAddr, u64)>)> {
    let is_segment = |file: &MappedFile| file.path.starts_with(b"/SYSV") && file.device == (0, 1);
    let object = mm.vmas().find_map(|vma| {
        let file = vma.backing.file().filter(|file| is_segment(file))?;
        let begin = vma.range.start.as_u64().checked_sub(vma.page_offset * PAGE_BYTES)?;
        (begin == addr).then_some(file.object)
    })?;
    let parts = mm.vmas().filter(|vma| {
        let begin = vma.range.start.as_u64().checked_sub(vma.page_offset * PAGE_BYTES);
        begin == Some(addr) && vma.backing.file().is_some_and(|file| file.object == object)
    });
    Some((object, parts.map(|vma| (vma.range.start, vma.range.pages() * PAGE_BYTES)).collect()))
}

fn sys_shmdt(kernel: &mut Kernel, [addr, ..]: [u64; 6]) -> SysResult {
    if addr % PAGE_BYTES != 0 {
        return Err(Errno::EINVAL);
    }
    let (object, parts) = attachment(&kernel.mm, addr).ok_or(Errno::EINVAL)?;
    for (start, bytes) in parts {
        ops::munmap(&mut kernel.mm, &mut kernel.memory, &mut kernel.hw, start, bytes)?;
    }
    let (now, pid) = (kernel.ipc_seconds(), kernel.process.pid);
    let mut segments = kernel.ipc.segments.entries.values_mut();
    if let Some(entry) = segments.find(|entry| entry.data.file.object == object) {
        entry.data.detached_s = now;
        entry.data.last_pid = pid;
    }
    kernel.reap_segments();
    Ok(0)
}

fn sys_shmctl(kernel: &mut Kernel, [id, command, addr, ..]: [u64; 6]) -> SysResult {
    const LOCK: u32 = 11;
    const UNLOCK: u32 = 12;
    let now = kernel.ipc_seconds();
    let permissions = kernel.ipc.segments.get(id)?.permissions;
    match low32(command) {
        STAT => {
            kernel.check_permissions(&permissions, READ)?;
            let object = kernel.ipc.segments.get(id)?.data.file.object;
            let attached = kernel.attach_count(object);
            let segment = &kernel.ipc.segments.get(id)?.data;
            let pids = u64::from(segment.maker_pid) | u64::from(segment.last_pid) << 32;
            let words = [
                segment.bytes,
                segment.attached_s,
                segment.detached_s,
                segment.changed_s,
                pids,
                attached,
                0,
                0,
            ];
            kernel.write_user(VirtAddr::new(addr), &structure(&permissions, &words))?;
        }
        SET => {
            kernel.check_owner(&permissions)?;
            let mut bytes = [0; PERMISSION_BYTES];
            kernel.read_user(VirtAddr::new(addr), &mut bytes)?;
            let entry = kernel.ipc.segments.get(id)?;
            entry.permissions.set(&bytes);
            entry.data.changed_s = now;
        }
        REMOVE => {
            kernel.check_owner(&permissions)?;
            let entry = kernel.ipc.segments.get(id)?;
            // Nobody finds it by its key any more.
            entry.permissions.key = super::PRIVATE;
            entry.permissions.mode |= DESTROYED;
            let object = entry.data.file.object;
            if kernel.attach_count(object) == 0
                && let Some(entry) = kernel.ipc.segments.entries.remove(&low32(id))
            {
                kernel.ipc.dying.push(entry.data);
            }
            kernel.reap_segments();
        }
        LOCK | UNLOCK => kernel.check_owner(&permissions)?,
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

impl Kernel {
    /// How often a segment is attached, in all address spaces.
    pub(super) fn attach_count(&self, object: ObjectId) -> u64 {
        let count = |mm: &Mm| {
            let is_first = |vma: &&mm::Vma| {
                vma.page_offset == 0 && vma.backing.file().is_some_and(|file| file.object == object)
            };
            mm.vmas().filter(is_first).count() as u64
        };
        count(&self.mm) + self.tasks.mms.parts().map(count).sum::<u64>()
    }

    /// Ends segments that are removed and that nothing maps any more.
    pub(crate) fn reap_segments(&mut self) {
        let is_dead = |segment: &Segment| Arc::strong_count(&segment.file) == 1;
        let segments = &mut self.ipc.segments.entries;
        let gone: Vec<u32> = segments
            .iter()
            .filter(|(_, entry)| entry.permissions.mode & DESTROYED != 0 && is_dead(&entry.data))
            .map(|(&id, _)| id)
            .collect();
        for id in gone {
            self.ipc.dying.extend(self.ipc.segments.entries.remove(&id).map(|entry| entry.data));
        }
        for segment in std::mem::take(&mut self.ipc.dying) {
            self.memory.drop_object(&mut self.hw, segment.file.object);
        }
    }
}
