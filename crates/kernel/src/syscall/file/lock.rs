//! Locks of files: `flock`, and the `F_SETLK` family of `fcntl`.
//!
//! # Source
//! man 2 `flock`, `fcntl`; Linux 6.12 `fs/locks.c`.

use machine::VirtAddr;

use super::low32;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{FileId, Lock, LockKind, LockOwner, NodeId, Opened};
use crate::syscall::Handler;
use crate::wait::{Channel, Interrupted};

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    (number == 73).then_some(sys_flock as Handler)
}

/// Last byte of the largest file: `OFFSET_MAX`.
const OFFSET_MAX: i64 = i64::MAX;
const F_UNLCK: u16 = 2;
/// Bytes of `struct flock`.
const FLOCK_BYTES: usize = 32;

/// What to do with a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verb {
    Ask,
    Set,
    SetAndWait,
}

/// Does `F_GETLK`, `F_SETLK`, `F_SETLKW` and their `F_OFD_` relatives.
pub(super) fn lock_command(
    kernel: &mut Kernel,
    file: FileId,
    command: u32,
    addr: u64,
) -> SysResult {
    const OFD_FIRST: u32 = 36;
    let is_ofd = command >= OFD_FIRST;
    let verb = match command {
        5 | 36 => Verb::Ask,
        6 | 37 => Verb::Set,
        _ => Verb::SetAndWait,
    };
    let mut bytes = [0; FLOCK_BYTES];
    kernel.read_user(VirtAddr::new(addr), &mut bytes)?;
    let owner = if is_ofd { LockOwner::File(file) } else { LockOwner::Process(kernel.task.pid) };
    let kind = match u16::from_le_bytes([bytes[0], bytes[1]]) {
        0 => Some(LockKind::Shared),
        1 => Some(LockKind::Exclusive),
        F_UNLCK if verb != Verb::Ask => None,
        _ => return Err(Errno::EINVAL),
    };
    let (start, last) = range(kernel, file, &bytes)?;
    let names_process = bytes[24..28] != [0; 4];
    if is_ofd && names_process {
        return Err(Errno::EINVAL);
    }
    let lock = Lock { owner, kind: kind.unwrap_or(LockKind::Shared), start, last };
    let Some(node) = kernel.vfs.file(file).node() else { return Ok(0) };
    if verb == Verb::Ask {
        return tell_conflict(kernel, node, &lock, addr);
    }
    let open = kernel.vfs.file(file);
    match kind {
        Some(LockKind::Shared) if !open.can_read() => return Err(Errno::EBADF),
        Some(LockKind::Exclusive) if !open.can_write() => return Err(Errno::EBADF),
        _ => {}
    }
    set(kernel, node, lock, kind, verb)
}

/// The bytes that a `struct flock` means.
fn range(kernel: &Kernel, file: FileId, bytes: &[u8; FLOCK_BYTES]) -> Result<(u64, u64), Errno> {
    let word = |at: usize| {
        let word = bytes[at..].first_chunk().copied().unwrap_or_default();
        i64::from_le_bytes(word)
    };
    let open = kernel.vfs.file(file);
    let base = match u16::from_le_bytes([bytes[2], bytes[3]]) {
        0 => 0,
        1 => open.offset,
        2 => match open.opened {
            Opened::Regular(node) => kernel.vfs.size_of(node)?,
            _ => 0,
        },
        _ => return Err(Errno::EINVAL),
    };
    let base = i64::try_from(base).map_err(|_| Errno::EOVERFLOW)?;
    let start = base.checked_add(word(8)).ok_or(Errno::EOVERFLOW)?;
    let length = word(16);
    if start < 0 {
        return Err(Errno::EINVAL);
    }
    let (start, last) = match length {
        0 => (start, OFFSET_MAX),
        1.. => (start, start.checked_add(length - 1).ok_or(Errno::EOVERFLOW)?),
        _ => (start.checked_add(length).ok_or(Errno::EINVAL)?, start - 1),
    };
    match (u64::try_from(start), u64::try_from(last)) {
        (Ok(start), Ok(last)) => Ok((start, last)),
        _ => Err(Errno::EINVAL),
    }
}

/// `F_GETLK`: who would keep the lock from being set.
fn tell_conflict(kernel: &mut Kernel, node: NodeId, lock: &Lock, addr: u64) -> SysResult {
    let Some(held) = kernel.vfs.lock_conflict(node, lock) else {
        kernel.write_user(VirtAddr::new(addr), &F_UNLCK.to_le_bytes())?;
        return Ok(0);
    };
    let kind: u64 = if held.kind == LockKind::Shared { 0 } else { 1 };
    let is_to_end = held.last >= OFFSET_MAX.cast_unsigned();
    let length = if is_to_end { 0 } else { held.last - held.start + 1 };
    let pid = match held.owner {
        LockOwner::Process(pid) => u64::from(pid),
        LockOwner::File(_) => u64::from(u32::MAX),
    };
    let words = [kind, held.start, length, pid].map(u64::to_le_bytes).concat();
    kernel.write_user(VirtAddr::new(addr), &words[..28])?;
    Ok(0)
}

fn set(
    kernel: &mut Kernel,
    node: NodeId,
    lock: Lock,
    kind: Option<LockKind>,
    verb: Verb,
) -> SysResult {
    let tid = kernel.task.tid;
    kernel.vfs.locks.waiting.remove(&tid);
    match kernel.vfs.set_lock(node, lock, kind) {
        Err(Errno::EAGAIN) if verb == Verb::SetAndWait => {}
        result => return result.map(|()| 0),
    }
    let conflict = kernel.vfs.lock_conflict(node, &lock);
    let owners = (lock.owner, conflict.map(|held| held.owner));
    if let (LockOwner::Process(pid), Some(LockOwner::Process(blocker))) = owners {
        if kernel.vfs.waits_in_circle(pid, blocker) {
            return Err(Errno::EDEADLK);
        }
        kernel.vfs.locks.waiting.insert(tid, (pid, blocker));
    }
    let errno = kernel.block(&[Channel::Node(node)], None, Interrupted::Restarts);
    if errno != Errno::BLOCKED {
        kernel.vfs.locks.waiting.remove(&tid);
    }
    Err(errno)
}

fn sys_flock(kernel: &mut Kernel, [fd, operation, ..]: [u64; 6]) -> SysResult {
    const LOCK_NB: u32 = 4;
    /// A kind of lock that Linux no longer has: it does nothing.
    const LOCK_MAND: u32 = 32;
    let operation = low32(operation);
    if operation & LOCK_MAND != 0 {
        return Ok(0);
    }
    let kind = match operation & !LOCK_NB {
        1 => Some(LockKind::Shared),
        2 => Some(LockKind::Exclusive),
        8 => None,
        _ => return Err(Errno::EINVAL),
    };
    let file = kernel.files.get(fd)?;
    if matches!(kernel.vfs.file(file).opened, Opened::Path(_)) {
        return Err(Errno::EBADF);
    }
    let Some(node) = kernel.vfs.file(file).node() else { return Ok(0) };
    match kernel.vfs.lock_whole(node, file, kind) {
        Err(Errno::EAGAIN) if operation & LOCK_NB == 0 => {
            Err(kernel.block(&[Channel::Node(node)], None, Interrupted::Restarts))
        }
        result => result.map(|()| 0),
    }
}
