//! The system calls about signals.

use machine::VirtAddr;

use super::send::Receiver;
use super::{
    AltStack, REAL_TIME_FIRST, SI_TKILL, SI_USER, SIGNAL_MAX, SigAction, SigDetail, SigInfo,
    UNBLOCKABLE, bit, flag,
};
use crate::Kernel;
use crate::abi::Abi;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;
use crate::syscall::time::read_timespec;
use crate::wait::Interrupted;

/// The function for system call `number`, if it is about signals.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        13 => sys_rt_sigaction,
        14 => sys_rt_sigprocmask,
        15 => sys_rt_sigreturn,
        34 => sys_pause,
        62 => sys_kill,
        127 => sys_rt_sigpending,
        128 => sys_rt_sigtimedwait,
        129 => sys_rt_sigqueueinfo,
        130 => sys_rt_sigsuspend,
        131 => sys_sigaltstack,
        200 => sys_tkill,
        234 => sys_tgkill,
        297 => sys_rt_tgsigqueueinfo,
        _ => return None,
    })
}

/// Size of the kernel's `sigset_t`.
const SET_BYTES: u64 = 8;
/// The least size of an alternate stack (`MINSIGSTKSZ`).
const ALT_STACK_MIN_BYTES: u64 = 2048;
/// Flags of `sigaction` that this kernel knows; Linux clears others so that programs can tell.
const ACTION_FLAGS: u64 = 0xdc00_0007;

fn signal_number(value: u64) -> Result<u8, Errno> {
    // The argument is an int: the upper half does not count.
    match u8::try_from(value & 0xffff_ffff) {
        Ok(signal @ 1..=SIGNAL_MAX) => Ok(signal),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_rt_sigaction(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [signal, new, old, set_bytes, ..] = args;
    if set_bytes != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let mut action = None;
    if new != 0 {
        let mut bytes = [0; 32];
        kernel.read_user(VirtAddr::new(new), &mut bytes)?;
        action = Some(action_from(&bytes));
    }
    let signal = signal_number(signal)?;
    if action.is_some() && UNBLOCKABLE & bit(signal) != 0 {
        return Err(Errno::EINVAL);
    }
    let before = kernel.process.actions.get(signal);
    if let Some(mut action) = action {
        action.abi = kernel.task.call_abi;
        kernel.process.actions.set(signal, action);
        kernel.share_actions();
        kernel.forget_ignored(signal);
    }
    if old != 0 {
        kernel.write_user(VirtAddr::new(old), &action_bytes(&before))?;
    }
    Ok(0)
}

fn action_from(bytes: &[u8; 32]) -> SigAction {
    let word = |index: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
        u64::from_le_bytes(word)
    };
    SigAction {
        handler: word(0),
        flags: word(1) & ACTION_FLAGS,
        restorer: word(2),
        mask: word(3) & !UNBLOCKABLE,
        abi: Abi::X86_64,
    }
}

fn action_bytes(action: &SigAction) -> Vec<u8> {
    [action.handler, action.flags, action.restorer, action.mask]
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect()
}

fn sys_rt_sigprocmask(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [how, new, old, set_bytes, ..] = args;
    if set_bytes != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let before = kernel.task.signals.mask;
    if new != 0 {
        let set = kernel.read_user_u64(VirtAddr::new(new))?;
        let mask = match how & 0xffff_ffff {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
        kernel.set_mask(mask);
    }
    if old != 0 {
        kernel.write_user_u64(VirtAddr::new(old), before)?;
    }
    Ok(0)
}

fn sys_rt_sigreturn(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    kernel.pop_signal_frame().or_else(|_| {
        kernel.force_segv();
        Ok(0)
    })
}

fn sys_rt_sigpending(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [set, set_bytes, ..] = args;
    if set_bytes > SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let pending = kernel.pending_bits() & kernel.task.signals.mask;
    let count = usize::try_from(set_bytes).unwrap_or(0);
    kernel.write_user(VirtAddr::new(set), &pending.to_le_bytes()[..count])?;
    Ok(0)
}

fn sys_rt_sigsuspend(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [set, set_bytes, ..] = args;
    if set_bytes != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let mask = kernel.read_user_u64(VirtAddr::new(set))? & !UNBLOCKABLE;
    kernel.suspend_mask(mask);
    Err(kernel.block(&[], None, Interrupted::Ends))
}

fn sys_pause(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Err(kernel.block(&[], None, Interrupted::Ends))
}

fn sys_rt_sigtimedwait(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [set, info, timeout, set_bytes, ..] = args;
    if set_bytes != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let set = kernel.read_user_u64(VirtAddr::new(set))? & !UNBLOCKABLE;
    let limit = if timeout == 0 { None } else { Some(read_timespec(kernel, timeout)?) };
    let deadline = kernel.deadline_after(limit);
    let taken = kernel.take_signal(set);
    if taken.is_none() && !kernel.has_passed(deadline) {
        // The signals waited for must wake the task although it blocks them.
        let signals = &mut kernel.task.signals;
        let mask = *signals.real_mask.get_or_insert(signals.mask);
        kernel.set_mask(mask & !set);
        let errno = kernel.block(&[], deadline, Interrupted::Ends);
        if errno == Errno::BLOCKED {
            return Err(errno);
        }
    }
    if let Some(mask) = kernel.task.signals.real_mask.take() {
        kernel.set_mask(mask);
    }
    let Some(taken) = taken else {
        return Err(if kernel.has_passed(deadline) { Errno::EAGAIN } else { Errno::EINTR });
    };
    if info != 0 {
        kernel.write_user(VirtAddr::new(info), &taken.bytes())?;
    }
    Ok(taken.signal.into())
}

fn sys_sigaltstack(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [new, old, ..] = args;
    let before = kernel.task.signals.alt_stack;
    let is_on = kernel.is_on_alt_stack();
    if new != 0 {
        let mut bytes = [0; 24];
        kernel.read_user(VirtAddr::new(new), &mut bytes)?;
        let word = |index: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
            u64::from_le_bytes(word)
        };
        let flags = u32::try_from(word(1) & 0xffff_ffff).unwrap_or(0);
        kernel.set_alt_stack(AltStack { base: word(0), flags, bytes: word(2) })?;
    }
    if old != 0 {
        let on = if is_on { flag::SS_ONSTACK } else { 0 };
        let state = if before.bytes == 0 { flag::SS_DISABLE } else { on };
        let flags = state | before.flags & flag::SS_AUTODISARM;
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&before.base.to_le_bytes());
        bytes[8..12].copy_from_slice(&flags.to_le_bytes());
        bytes[16..].copy_from_slice(&before.bytes.to_le_bytes());
        kernel.write_user(VirtAddr::new(old), &bytes)?;
    }
    Ok(0)
}

impl Kernel {
    fn is_on_alt_stack(&self) -> bool {
        self.task.signals.alt_stack.is_in_use(self.task.regs.gpr[4])
    }

    /// Changes the alternate stack.
    ///
    /// # Errors
    /// - `EPERM`: the task is on it.
    /// - `EINVAL`: unknown flags.
    /// - `ENOMEM`: too small.
    pub(crate) fn set_alt_stack(&mut self, stack: AltStack) -> Result<(), Errno> {
        if self.is_on_alt_stack() {
            return Err(Errno::EPERM);
        }
        let mode = stack.flags & !flag::SS_AUTODISARM;
        if mode != 0 && mode != flag::SS_DISABLE && mode != flag::SS_ONSTACK {
            return Err(Errno::EINVAL);
        }
        let new = if mode == flag::SS_DISABLE {
            AltStack { base: 0, flags: stack.flags, bytes: 0 }
        } else if stack.bytes < ALT_STACK_MIN_BYTES {
            return Err(Errno::ENOMEM);
        } else {
            stack
        };
        self.task.signals.alt_stack = new;
        Ok(())
    }

    /// Throws away what is pending and would now be ignored.
    fn forget_ignored(&mut self, signal: u8) {
        if !self.process.actions.is_ignored(signal) {
            return;
        }
        self.process.pending.discard(bit(signal));
        for tid in self.process.threads.clone() {
            if let Some(task) = self.task_mut(tid) {
                task.signals.pending.discard(bit(signal));
            }
        }
    }

    /// Takes `mask` until the call ends or a handler runs.
    pub(crate) fn suspend_mask(&mut self, mask: u64) {
        // A call that is done again after a wait has changed the mask already.
        if self.task.signals.saved_mask.is_none() {
            self.task.signals.saved_mask = Some(self.task.signals.mask);
            self.set_mask(mask);
        }
    }

    /// The processes that the first argument of `kill` names.
    ///
    /// # Errors
    /// `ESRCH`: none.
    fn receivers(&self, pid: i32) -> Result<Vec<u32>, Errno> {
        let group = match pid {
            1.. => {
                let pid = self.pid_of(pid.unsigned_abs()).ok_or(Errno::ESRCH)?;
                return Ok(vec![pid]);
            }
            0 => Some(self.process.group),
            -1 => None,
            _ => Some(pid.unsigned_abs()),
        };
        let is_meant = |pid: &u32| match group {
            Some(group) => self.process_of(*pid).is_some_and(|process| process.group == group),
            None => *pid != self.process.pid,
        };
        let pids: Vec<u32> = self.pids().into_iter().filter(is_meant).collect();
        if pids.is_empty() { Err(Errno::ESRCH) } else { Ok(pids) }
    }
}

/// The signal argument of `kill`: 0 only asks whether there is somebody.
fn signal_or_none(value: u64) -> Result<Option<u8>, Errno> {
    if value & 0xffff_ffff == 0 { Ok(None) } else { signal_number(value).map(Some) }
}

fn sys_kill(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let signal = signal_or_none(args[1])?;
    // The argument is an int: the upper half does not count.
    let pids = kernel.receivers(args[0] as i32)?;
    let Some(signal) = signal else { return Ok(0) };
    let detail = kernel.sender(0);
    for pid in pids {
        kernel.send_to_process(pid, SigInfo { signal, code: SI_USER, detail });
    }
    Ok(0)
}

fn sys_tkill(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    kill_thread(kernel, None, args[0], args[1])
}

fn sys_tgkill(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if i64::from(args[0] as i32) <= 0 {
        return Err(Errno::EINVAL);
    }
    kill_thread(kernel, Some((args[0] & 0xffff_ffff) as u32), args[1], args[2])
}

fn kill_thread(kernel: &mut Kernel, pid: Option<u32>, tid: u64, signal: u64) -> SysResult {
    if i64::from(tid as i32) <= 0 {
        return Err(Errno::EINVAL);
    }
    let signal = signal_or_none(signal)?;
    let tid = (tid & 0xffff_ffff) as u32;
    // A process whose first thread has ended still answers to its number, without effect.
    let owner = kernel.pid_of(tid).ok_or(Errno::ESRCH)?;
    if pid.is_some_and(|pid| pid != owner) {
        return Err(Errno::ESRCH);
    }
    if let Some(signal) = signal {
        let detail = kernel.sender(0);
        kernel.send_signal(tid, SigInfo { signal, code: SI_TKILL, detail }, Receiver::Thread);
    }
    Ok(0)
}

/// The `siginfo` of a sender to the process or thread `number`; nobody but itself may be told that
/// the kernel sent it.
fn queued_info(
    kernel: &mut Kernel,
    number: u32,
    signal: u64,
    info: u64,
) -> Result<Option<SigInfo>, Errno> {
    let mut bytes = [0; 128];
    kernel.read_user(VirtAddr::new(info), &mut bytes)?;
    let code = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    if (code >= 0 || code == SI_TKILL) && number != kernel.task.tid {
        return Err(Errno::EPERM);
    }
    let Some(signal) = signal_or_none(signal)? else { return Ok(None) };
    let mut raw = [0; 112];
    raw.copy_from_slice(&bytes[16..]);
    if signal >= REAL_TIME_FIRST && code != SI_USER && !kernel.has_queue_room(number) {
        return Err(Errno::EAGAIN);
    }
    Ok(Some(SigInfo { signal, code, detail: SigDetail::Raw(raw) }))
}

fn sys_rt_sigqueueinfo(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, signal, info, ..] = args;
    let pid = (pid & 0xffff_ffff) as u32;
    let info = queued_info(kernel, pid, signal, info)?;
    let pid = kernel.pid_of(pid).ok_or(Errno::ESRCH)?;
    if let Some(info) = info {
        kernel.send_to_process(pid, info);
    }
    Ok(0)
}

fn sys_rt_tgsigqueueinfo(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, tid, signal, info, ..] = args;
    let pid = (pid & 0xffff_ffff) as u32;
    let tid = (tid & 0xffff_ffff) as u32;
    if pid.cast_signed() <= 0 || tid.cast_signed() <= 0 {
        return Err(Errno::EINVAL);
    }
    let info = queued_info(kernel, tid, signal, info)?;
    if kernel.pid_of(tid) != Some(pid) {
        return Err(Errno::ESRCH);
    }
    if let Some(info) = info {
        kernel.send_signal(tid, info, Receiver::Thread);
    }
    Ok(0)
}
