//! Futexes that are locks: the word names the owner, and who waits gets the lock from the kernel.
//!
//! Does not: raise the owner's priority. Tasks take turns whatever their priorities are, so that
//! there is nothing to inherit.
//!
//! # Source
//! man 2 `futex`; Linux 6.12 `kernel/futex/pi.c`, `kernel/futex/requeue.c`.

use machine::VirtAddr;

use super::{
    Call, Deadline, FUTEX_OWNER_DIED, FUTEX_TID_MASK, FUTEX_WAITERS, FutexKey, deadline, low, sleep,
};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::wait::{Channel, Interrupted};

/// What a task that waits for a lock leaves as its number: no wake of a plain futex is for it.
const FOR_LOCK: u64 = 1 << 40;
/// The same of a task that waits to be moved to a lock.
const TO_BE_MOVED: u64 = 1 << 41;

/// A lock and what it is known by.
#[derive(Clone, Copy)]
struct Lock {
    word: VirtAddr,
    key: FutexKey,
}

impl Lock {
    fn first(call: &Call) -> Self {
        Self { word: call.word, key: call.key }
    }

    /// The lock that the fifth argument names.
    fn second(kernel: &mut Kernel, call: &Call) -> Result<Self, Errno> {
        if !call.second.as_u64().is_multiple_of(4) {
            return Err(Errno::EINVAL);
        }
        let key = kernel.checked_key(call.second, call.scope)?;
        if key == call.key { Err(Errno::EINVAL) } else { Ok(Self { word: call.second, key }) }
    }

    /// Takes the lock if it is free; false if somebody else has it.
    fn take(self, kernel: &mut Kernel) -> Result<bool, Errno> {
        let value = kernel.read_user_u32(self.word)?;
        let (owner, own) = (value & FUTEX_TID_MASK, kernel.task.tid);
        if owner == own {
            // Who unlocked hands the lock over before it wakes.
            let was_given = kernel.task.wait.as_ref().is_some_and(|wait| wait.is_woken);
            return if was_given { Ok(true) } else { Err(Errno::EDEADLK) };
        }
        if owner == 0 {
            let kept = value & (FUTEX_OWNER_DIED | FUTEX_WAITERS);
            kernel.write_user_u32(self.word, own | kept)?;
            return Ok(true);
        }
        if kernel.task_of(owner).is_none() { Err(Errno::ESRCH) } else { Ok(false) }
    }

    /// Says in the word that somebody waits.
    fn announce(self, kernel: &mut Kernel) -> Result<(), Errno> {
        let value = kernel.read_user_u32(self.word)?;
        kernel.write_user_u32(self.word, value | FUTEX_WAITERS)
    }
}

pub(super) fn try_lock(kernel: &mut Kernel, call: &Call) -> SysResult {
    if Lock::first(call).take(kernel)? { Ok(0) } else { Err(Errno::EAGAIN) }
}

pub(super) fn lock(kernel: &mut Kernel, call: &Call, kind: Deadline) -> SysResult {
    let lock = Lock::first(call);
    if lock.take(kernel)? {
        return Ok(0);
    }
    let deadline = deadline(kernel, call.fourth, kind)?;
    if kernel.has_passed(deadline) {
        return Err(Errno::ETIMEDOUT);
    }
    lock.announce(kernel)?;
    Err(sleep(kernel, call.key, deadline, FOR_LOCK, Interrupted::Always))
}

pub(super) fn unlock(kernel: &mut Kernel, call: &Call) -> SysResult {
    if kernel.read_user_u32(call.word)? & FUTEX_TID_MASK != kernel.task.tid {
        return Err(Errno::EPERM);
    }
    let channel = Channel::Futex(call.key);
    let Some(next) = kernel.first_waiter(channel) else {
        kernel.write_user_u32(call.word, 0)?;
        return Ok(0);
    };
    let waiters = if kernel.waiter_count(channel) > 1 { FUTEX_WAITERS } else { 0 };
    kernel.write_user_u32(call.word, next | waiters)?;
    kernel.wake_count(channel, 1, |_| true);
    Ok(0)
}

/// Sleeps on the first word until [`requeue`] moves the task to the lock; returns when it has it.
pub(super) fn wait_to_be_moved(kernel: &mut Kernel, call: &Call, kind: Deadline) -> SysResult {
    let lock = Lock::second(kernel, call)?;
    let deadline = deadline(kernel, call.fourth, kind)?;
    let was_moved = kernel.task.wait.as_ref().is_some_and(|wait| wait.progress == FOR_LOCK);
    if was_moved && lock.take(kernel)? {
        return Ok(0);
    }
    let is_value = was_moved || kernel.read_user_u32(call.word)? == call.value;
    if !is_value {
        return Err(Errno::EAGAIN);
    }
    if kernel.has_passed(deadline) {
        return Err(Errno::ETIMEDOUT);
    }
    let (key, number) = if was_moved { (lock.key, FOR_LOCK) } else { (call.key, TO_BE_MOVED) };
    Err(sleep(kernel, key, deadline, number, Interrupted::Always))
}

/// Gives the lock to who waits on the first word the longest, if it is free, and lets others wait
/// for the lock. Returns how many tasks that are.
pub(super) fn requeue(kernel: &mut Kernel, call: &Call) -> SysResult {
    let more_max = low(call.fourth);
    if call.value != 1 || more_max.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let lock = Lock::second(kernel, call)?;
    if kernel.read_user_u32(call.word)? != call.third {
        return Err(Errno::EAGAIN);
    }
    let (from, to) = (Channel::Futex(call.key), Channel::Futex(lock.key));
    let mut count = 0;
    while count < u64::from(more_max) + 1 {
        let Some(tid) = kernel.first_waiter(from) else { break };
        let wait = kernel.task_mut(tid).and_then(|task| task.wait.as_mut());
        let Some(wait) = wait.filter(|wait| wait.progress == TO_BE_MOVED) else {
            return Err(Errno::EINVAL);
        };
        wait.progress = FOR_LOCK;
        kernel.requeue(from, to, 1);
        count += 1;
        let value = kernel.read_user_u32(lock.word)?;
        if value & FUTEX_TID_MASK == 0 {
            let waiters = if more_max > 0 { FUTEX_WAITERS } else { value & FUTEX_WAITERS };
            kernel.write_user_u32(lock.word, tid | waiters | value & FUTEX_OWNER_DIED)?;
            kernel.wake_by_name(tid, to);
        } else {
            lock.announce(kernel)?;
        }
    }
    Ok(count)
}

impl Kernel {
    /// Lets go of the locks that the running task has and that others wait for: it ends. Those of
    /// its list of robust futexes are left already.
    pub(crate) fn leave_locks(&mut self) {
        let own = self.task.tid;
        for (tid, addr, channel) in self.waiters_for_locks() {
            let held = self.word_of(tid, addr).filter(|word| word & FUTEX_TID_MASK == own);
            if held.is_some()
                && self.set_word_of(tid, addr, FUTEX_OWNER_DIED | FUTEX_WAITERS).is_some()
            {
                self.wake_count(channel, 1, |_| true);
            }
        }
    }

    /// The tasks that wait for locks, with the address of the lock in their memory.
    fn waiters_for_locks(&self) -> Vec<(u32, u64, Channel)> {
        let waits = |task: &crate::Task| {
            let wait = task.wait.as_ref().filter(|wait| wait.progress == FOR_LOCK)?;
            let channel @ Channel::Futex(_) = *wait.channels().first()? else { return None };
            // WAIT_REQUEUE_PI names the lock in its fifth argument, the others in their first.
            let was_moved = task.regs.gpr[6] & 0x7f == 11;
            let addr = task.regs.gpr[if was_moved { 8 } else { 7 }];
            Some((task.tid, addr, channel))
        };
        self.tasks.tasks.values().filter_map(waits).collect()
    }

    /// A word in the memory of a task.
    pub(crate) fn word_of(&mut self, tid: u32, addr: u64) -> Option<u32> {
        let key = self.task_of(tid)?.parts.mm;
        let is_own = self.task.parts.mm == key;
        let mm = if is_own { &mut self.mm } else { self.tasks.mms.get_mut(key)? };
        let mut bytes = [0; 4];
        let addr = VirtAddr::new(addr);
        mm.read_remote(&mut self.memory, &mut self.hw, addr, &mut bytes, mm::Force::No).ok()?;
        Some(u32::from_le_bytes(bytes))
    }

    fn set_word_of(&mut self, tid: u32, addr: u64, value: u32) -> Option<()> {
        let key = self.task_of(tid)?.parts.mm;
        let is_own = self.task.parts.mm == key;
        let mm = if is_own { &mut self.mm } else { self.tasks.mms.get_mut(key)? };
        let (addr, bytes) = (VirtAddr::new(addr), value.to_le_bytes());
        mm.write_remote(&mut self.memory, &mut self.hw, addr, &bytes, mm::Force::No).ok()
    }
}
