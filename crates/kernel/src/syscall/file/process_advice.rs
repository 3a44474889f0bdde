//! `process_madvise`: advice about the memory of the process behind a descriptor.
//!
//! # Source
//! man 2 `process_madvise`; Linux 6.18 `mm/madvise.c`: of itself a process may say everything, of
//! others only what changes no content.

use machine::VirtAddr;
use mm::ops::{self, Advice};

use super::low32;
use super::read_write::Buffers;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    (number == 440).then_some(sys_process_madvise)
}

fn sys_process_madvise(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [fd, vector, count, advice, flags, ..] = args;
    if low32(flags) != 0 {
        return Err(Errno::EINVAL);
    }
    let ranges = Buffers::read(kernel, vector, count)?;
    let pid = kernel.pid_of_file(fd)?;
    let tid = kernel.process_of(pid).and_then(crate::Process::first_thread).ok_or(Errno::ESRCH)?;
    let key = kernel.task_of(tid).ok_or(Errno::ESRCH)?.parts.mm;
    let is_own = kernel.task.parts.mm == key;
    let advice = Advice::from_number(low32(advice).into());
    let is_harmless = |advice: &Advice| {
        is_own
            || matches!(
                advice,
                Advice::Cold | Advice::PageOut | Advice::WillNeed | Advice::Collapse
            )
    };
    let advice = advice.filter(is_harmless).ok_or(Errno::EINVAL)?;
    if !is_own && kernel.fs.credentials.uid != 0 {
        return Err(Errno::EPERM);
    }
    let Kernel { memory, hw, mm, tasks, .. } = kernel;
    let mm = if is_own { mm } else { tasks.mms.get_mut(key).ok_or(Errno::ESRCH)? };
    let mut done = 0;
    for &(addr, bytes) in ranges.parts() {
        if let Err(error) = ops::madvise(mm, memory, hw, (VirtAddr::new(addr), bytes), advice) {
            // What was advised before counts.
            return if done > 0 { Ok(done) } else { Err(error.into()) };
        }
        done += bytes;
    }
    Ok(done)
}
