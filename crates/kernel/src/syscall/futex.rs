//! Futexes: sleeping on a word of memory until somebody wakes.
//!
//! A private futex is an address of one address space, a shared one a place in a mapped object: so
//! two processes that map the object at different addresses meet.
//!
//! # Source
//! man 2 `futex`; Linux 6.12 `kernel/futex`.

mod pi;
mod several;

use machine::VirtAddr;
use mm::{Backing, MmId, ObjectId, Sharing};

use super::time::read_timespec;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;
use crate::wait::{Channel, Interrupted};

/// Somebody sleeps on the lock.
pub(crate) const FUTEX_WAITERS: u32 = 0x8000_0000;
/// The owner ended while it had the lock.
pub(crate) const FUTEX_OWNER_DIED: u32 = 0x4000_0000;
/// The owner of the lock.
pub(crate) const FUTEX_TID_MASK: u32 = 0x3fff_ffff;

const PRIVATE: u64 = 128;
const CLOCK_REALTIME: u64 = 256;
const ALL_BITS: u32 = u32::MAX;

/// What a futex is known by.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FutexKey {
    /// An address of one address space, used by operations that say it is private.
    Private(MmId, u64),
    /// An address of one address space, used by others: the two do not meet.
    Unshared(MmId, u64),
    /// A byte of an object that several may map.
    Shared(ObjectId, u64),
}

/// The function for system call `number`, if it is here.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        202 => sys_futex,
        449 => several::sys_futex_waitv,
        _ => return None,
    })
}

/// The arguments of a call.
#[derive(Clone, Copy)]
struct Call {
    word: VirtAddr,
    key: FutexKey,
    value: u32,
    /// The fourth argument: a time limit, or a second number.
    fourth: u64,
    second: VirtAddr,
    third: u32,
    scope: Scope,
}

/// Who can meet at a futex.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    Private,
    Shared,
}

/// What the time limit of a futex counts from.
#[derive(Clone, Copy)]
enum Deadline {
    Relative,
    Monotonic,
    Realtime,
}

fn sys_futex(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [addr, operation, value, fourth, second, third] = args;
    // Of the operations only WAIT_BITSET, WAIT_REQUEUE_PI and LOCK_PI2 may choose the clock.
    let is_realtime = operation & CLOCK_REALTIME != 0;
    let command = operation & 0xffff_ffff & !(PRIVATE | CLOCK_REALTIME);
    if is_realtime && !matches!(command, 9 | 11 | 13) {
        return Err(Errno::ENOSYS);
    }
    if !addr.is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let scope = if operation & PRIVATE != 0 { Scope::Private } else { Scope::Shared };
    let word = VirtAddr::new(addr);
    let key = kernel.checked_key(word, scope)?;
    let call = Call {
        word,
        key,
        value: low(value),
        fourth,
        second: VirtAddr::new(second),
        third: low(third),
        scope,
    };
    let absolute = if is_realtime { Deadline::Realtime } else { Deadline::Monotonic };
    match command {
        // WAIT, WAIT_BITSET
        0 => wait(kernel, &call, ALL_BITS, Deadline::Relative),
        9 if call.third == 0 => Err(Errno::EINVAL),
        9 => wait(kernel, &call, call.third, absolute),
        // WAKE, WAKE_BITSET
        1 => wake(kernel, &call, ALL_BITS),
        10 if call.third == 0 => Err(Errno::EINVAL),
        10 => wake(kernel, &call, call.third),
        // REQUEUE, CMP_REQUEUE
        3 => requeue(kernel, &call),
        4 if kernel.read_user_u32(word)? != call.third => Err(Errno::EAGAIN),
        4 => requeue(kernel, &call),
        5 => wake_and_change(kernel, &call),
        // LOCK_PI, LOCK_PI2, TRYLOCK_PI, UNLOCK_PI
        6 => pi::lock(kernel, &call, Deadline::Realtime),
        13 => pi::lock(kernel, &call, absolute),
        8 => pi::try_lock(kernel, &call),
        7 => pi::unlock(kernel, &call),
        // WAIT_REQUEUE_PI, CMP_REQUEUE_PI
        11 => pi::wait_to_be_moved(kernel, &call, absolute),
        12 => pi::requeue(kernel, &call),
        _ => Err(Errno::ENOSYS),
    }
}

impl Kernel {
    /// What the futex at `addr` is known by, if there is memory that can hold it.
    ///
    /// # Errors
    /// `EFAULT`: nothing that can be read, or for a shared futex memory of a device.
    fn checked_key(&mut self, addr: VirtAddr, scope: Scope) -> Result<FutexKey, Errno> {
        self.check_user_range(addr.as_u64(), 4)?;
        if scope == Scope::Shared {
            // Linux looks the page up to know whose it is; a device's memory has none.
            self.read_user_u32(addr)?;
            if self.is_in_testmem(addr) {
                return Err(Errno::EFAULT);
            }
        }
        Ok(self.futex_key(addr, scope))
    }

    /// What the futex at `addr` of the running task is known by.
    fn futex_key(&self, addr: VirtAddr, scope: Scope) -> FutexKey {
        if scope == Scope::Private {
            return FutexKey::Private(self.mm.id, addr.as_u64());
        }
        let unshared = FutexKey::Unshared(self.mm.id, addr.as_u64());
        match self.mm.vma_at(addr) {
            Some(vma) if vma.sharing == Sharing::Shared => match &vma.backing {
                Backing::File(file) => {
                    let start = vma.page_offset.wrapping_mul(machine::PAGE_BYTES);
                    let inside = addr.offset_from(vma.range.start);
                    FutexKey::Shared(file.object, start.wrapping_add(inside))
                }
                _ => unshared,
            },
            _ => unshared,
        }
    }

    /// Wakes up to `count_max` tasks that sleep on the word at `addr`, as the kernel does itself.
    pub(crate) fn wake_futex(&mut self, addr: VirtAddr, count_max: u32) {
        let key = self.futex_key(addr, Scope::Shared);
        self.wake_count(Channel::Futex(key), count_max, |_| true);
    }
}

/// The end of a wait, from the pointer to its time limit.
fn deadline(kernel: &mut Kernel, addr: u64, kind: Deadline) -> Result<Option<u64>, Errno> {
    if addr == 0 {
        return Ok(None);
    }
    let ns = read_timespec(kernel, addr)?;
    let clock = match kind {
        Deadline::Relative => 0,
        Deadline::Monotonic => kernel.hw.now_ns(),
        Deadline::Realtime => kernel.realtime_ns(),
    };
    Ok(kernel.deadline_after(Some(ns.saturating_sub(clock))))
}

fn wait(kernel: &mut Kernel, call: &Call, bits: u32, kind: Deadline) -> SysResult {
    if kernel.task.wait.as_ref().is_some_and(|wait| wait.is_woken) {
        return Ok(0);
    }
    let deadline = deadline(kernel, call.fourth, kind)?;
    if kernel.task.wait.is_some() && kernel.has_passed(deadline) {
        return Err(Errno::ETIMEDOUT);
    }
    if kernel.read_user_u32(call.word)? != call.value {
        return Err(Errno::EAGAIN);
    }
    if kernel.has_passed(deadline) {
        return Err(Errno::ETIMEDOUT);
    }
    let how = if deadline.is_some() { Interrupted::Ends } else { Interrupted::Restarts };
    Err(sleep(kernel, call.key, deadline, bits.into(), how))
}

/// Sleeps on a futex, with a number that the waker looks at.
fn sleep(
    kernel: &mut Kernel,
    key: FutexKey,
    deadline: Option<u64>,
    number: u64,
    how: Interrupted,
) -> Errno {
    let errno = kernel.block(&[Channel::Futex(key)], deadline, how);
    if let Some(wait) = kernel.task.wait.as_mut() {
        wait.progress = number;
    }
    errno
}

/// How many an int argument asks to wake: Linux wakes one for a count of 0, or below.
fn count_of(value: u32) -> u32 {
    value.cast_signed().max(1).cast_unsigned()
}

/// Whether a task waits for a plain futex, and not for a lock.
fn is_plain(wait: &crate::wait::Wait) -> bool {
    wait.progress & u64::from(ALL_BITS) != 0
}

fn wake(kernel: &mut Kernel, call: &Call, bits: u32) -> SysResult {
    let admits = |wait: &crate::wait::Wait| wait.progress & u64::from(bits) != 0;
    Ok(kernel.wake_count(Channel::Futex(call.key), count_of(call.value), admits).into())
}

fn requeue(kernel: &mut Kernel, call: &Call) -> SysResult {
    let moved_max = low(call.fourth);
    if call.value.cast_signed() < 0 || moved_max.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    if !call.second.as_u64().is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let to = kernel.checked_key(call.second, call.scope)?;
    let woken = kernel.wake_count(Channel::Futex(call.key), call.value, is_plain);
    let moved = kernel.requeue(Channel::Futex(call.key), Channel::Futex(to), moved_max);
    Ok(u64::from(woken) + u64::from(moved))
}

/// Changes the second word as asked, wakes on the first, and on the second if its old value passes.
fn wake_and_change(kernel: &mut Kernel, call: &Call) -> SysResult {
    let encoded = call.third;
    if !call.second.as_u64().is_multiple_of(4) {
        return Err(Errno::EINVAL);
    }
    let second = kernel.checked_key(call.second, call.scope)?;
    // Bits 28-30 operation, 31 shift, 24-27 comparison, 12-23 and 0-11 signed arguments.
    let signed = |field: u32| (field << 20).cast_signed() >> 20;
    let mut argument = signed(encoded >> 12).cast_unsigned();
    if encoded & 1 << 31 != 0 {
        argument = 1_u32.wrapping_shl(argument);
    }
    let old = kernel.read_user_u32(call.second)?;
    let new = match encoded >> 28 & 7 {
        0 => argument,
        1 => old.wrapping_add(argument),
        2 => old | argument,
        3 => old & !argument,
        4 => old ^ argument,
        _ => return Err(Errno::ENOSYS),
    };
    kernel.write_user_u32(call.second, new)?;
    let (value, wanted) = (old.cast_signed(), signed(encoded));
    let passes = match encoded >> 24 & 0xf {
        0 => value == wanted,
        1 => value != wanted,
        2 => value < wanted,
        3 => value <= wanted,
        4 => value > wanted,
        5 => value >= wanted,
        _ => return Err(Errno::ENOSYS),
    };
    let mut count = kernel.wake_count(Channel::Futex(call.key), count_of(call.value), is_plain);
    if passes {
        let count_max = count_of(low(call.fourth));
        count += kernel.wake_count(Channel::Futex(second), count_max, is_plain);
    }
    Ok(count.into())
}

/// An argument that is an int: the upper half does not count.
fn low(value: u64) -> u32 {
    (value & 0xffff_ffff) as u32
}
