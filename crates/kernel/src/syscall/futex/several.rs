//! Waiting for several futexes at once: `futex_waitv`.
//!
//! # Source
//! Linux 6.12 `Documentation/userspace-api/futex2.rst`, `kernel/futex/syscalls.c`.

use machine::VirtAddr;

use super::{ALL_BITS, Deadline, FutexKey, Scope, deadline};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::wait::{Channel, Interrupted};

/// Most futexes of one call: `FUTEX_WAITV_MAX`.
const WAITERS_MAX: u64 = 128;
/// Bytes of `struct futex_waitv`.
const WAITER_BYTES: u64 = 24;
/// `FUTEX2_SIZE_U32`, the only size there is.
const SIZE_U32: u64 = 2;
/// `FUTEX2_PRIVATE`.
const PRIVATE: u64 = 128;

/// One futex and the value that it shall have.
struct Waiter {
    addr: u64,
    value: u32,
    scope: Scope,
}

fn read_waiter(kernel: &mut Kernel, addr: u64) -> Result<Waiter, Errno> {
    let mut words = [0; 3];
    for (index, word) in (0..).zip(&mut words) {
        *word = kernel.read_user_u64(VirtAddr::new(addr.wrapping_add(index * 8)))?;
    }
    let [value, addr, flags] = words;
    // The upper half of the last word is reserved.
    if flags & !PRIVATE != SIZE_U32 {
        return Err(Errno::EINVAL);
    }
    let value = u32::try_from(value).map_err(|_| Errno::EINVAL)?;
    let scope = if flags & PRIVATE != 0 { Scope::Private } else { Scope::Shared };
    Ok(Waiter { addr, value, scope })
}

pub(super) fn sys_futex_waitv(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [waiters, count, flags, time, clock, _] = args;
    let count = count & 0xffff_ffff;
    if flags & 0xffff_ffff != 0 || count == 0 || count > WAITERS_MAX || waiters == 0 {
        return Err(Errno::EINVAL);
    }
    let kind = match clock & 0xffff_ffff {
        _ if time == 0 => Deadline::Monotonic,
        0 => Deadline::Realtime,
        1 => Deadline::Monotonic,
        _ => return Err(Errno::EINVAL),
    };
    let deadline = deadline(kernel, time, kind)?;
    let asked: Vec<Waiter> = (0..count)
        .map(|index| read_waiter(kernel, waiters.wrapping_add(index * WAITER_BYTES)))
        .collect::<Result<_, _>>()?;
    let mut keys: Vec<FutexKey> = Vec::new();
    for waiter in &asked {
        if !waiter.addr.is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        keys.push(kernel.checked_key(VirtAddr::new(waiter.addr), waiter.scope)?);
    }
    let woken_at = kernel.task.wait.as_ref().and_then(|wait| wait.woken_at);
    if let Some(Channel::Futex(key)) = woken_at {
        return Ok(keys.iter().position(|other| *other == key).unwrap_or(0) as u64);
    }
    if kernel.task.wait.is_some() && kernel.has_passed(deadline) {
        return Err(Errno::ETIMEDOUT);
    }
    for waiter in &asked {
        if kernel.read_user_u32(VirtAddr::new(waiter.addr))? != waiter.value {
            return Err(Errno::EAGAIN);
        }
    }
    if kernel.has_passed(deadline) {
        return Err(Errno::ETIMEDOUT);
    }
    let channels: Vec<Channel> = keys.into_iter().map(Channel::Futex).collect();
    let how = if deadline.is_some() { Interrupted::Ends } else { Interrupted::Restarts };
    let errno = kernel.block(&channels, deadline, how);
    kernel.set_progress(ALL_BITS.into());
    Err(errno)
}
