//! The system calls about signals.

use machine::VirtAddr;

use super::{
    AltStack, SI_KERNEL, SI_TKILL, SI_USER, SIGNAL_MAX, SigAction, SigDetail, SigInfo, UNBLOCKABLE,
    bit, flag, number,
};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;
use crate::syscall::time::{Wait, read_timespec};

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
    let before = kernel.task.signals.action(signal);
    if let Some(action) = action {
        kernel.task.signals.set_action(signal, action);
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
        let set = kernel.read_user_u64(VirtAddr::new(new))? & !UNBLOCKABLE;
        kernel.task.signals.mask = match how & 0xffff_ffff {
            0 => before | set,
            1 => before & !set,
            2 => set,
            _ => return Err(Errno::EINVAL),
        };
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
    let pending = kernel.task.signals.pending_bits() & kernel.task.signals.mask;
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
    let before = kernel.task.signals.mask;
    kernel.task.signals.mask = mask;
    kernel.task.signals.saved_mask = Some(before);
    kernel.wait_until(None);
    Err(Errno::EINTR)
}

fn sys_pause(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    kernel.wait_until(None);
    Err(Errno::EINTR)
}

fn sys_rt_sigtimedwait(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [set, info, timeout, set_bytes, ..] = args;
    if set_bytes != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let set = kernel.read_user_u64(VirtAddr::new(set))? & !UNBLOCKABLE;
    let mut deadline = None;
    if timeout != 0 {
        let ns = read_timespec(kernel, timeout)?;
        deadline = Some(kernel.hw.now_ns().saturating_add(ns));
    }
    let mut taken = kernel.task.signals.take(set);
    if taken.is_none() {
        // The signals waited for must wake the task although it blocks them.
        let before = kernel.task.signals.mask;
        kernel.task.signals.mask = before & !set;
        let wait = kernel.wait_until(deadline);
        kernel.task.signals.mask = before;
        taken = kernel.task.signals.take(set);
        if taken.is_none() {
            return Err(if wait == Wait::TimedOut { Errno::EAGAIN } else { Errno::EINTR });
        }
    }
    let Some(taken) = taken else { return Err(Errno::EAGAIN) };
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
        let stack = self.task.signals.alt_stack;
        stack.flags & flag::SS_AUTODISARM == 0 && stack.holds(self.task.regs.gpr[4])
    }

    /// Changes the alternate stack.
    ///
    /// # Errors
    /// - `EPERM`: the task is on it.
    /// - `EINVAL`: unknown flags.
    /// - `ENOMEM`: too small.
    pub(super) fn set_alt_stack(&mut self, stack: AltStack) -> Result<(), Errno> {
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

    /// Sends a signal from the task to itself.
    fn send_self(&mut self, signal: u64, code: i32) -> SysResult {
        if signal & 0xffff_ffff == 0 {
            return Ok(0);
        }
        let signal = signal_number(signal)?;
        let pid = self.task.pid;
        let uid = self.task.fs.credentials.uid;
        let detail = SigDetail::Sender { pid, uid, value: 0 };
        self.task.signals.send(SigInfo { signal, code, detail });
        Ok(0)
    }

    /// Whether a process number names the task or a group that it is in.
    fn is_own(&self, pid: u64) -> bool {
        let own = i64::from(self.task.pid);
        // The argument is an int: the upper half does not count.
        let pid = i64::from(pid as i32);
        pid == own || pid == 0 || pid == -own
    }
}

fn sys_kill(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if args[1] & 0xffff_ffff != 0 {
        signal_number(args[1])?;
    }
    if kernel.is_own(args[0]) { kernel.send_self(args[1], SI_USER) } else { Err(Errno::ESRCH) }
}

fn sys_tkill(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    kill_thread(kernel, args[0], args[1])
}

fn sys_tgkill(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if i64::from(args[0] as i32) <= 0 {
        return Err(Errno::EINVAL);
    }
    if args[0] & 0xffff_ffff != u64::from(kernel.task.pid) {
        return Err(Errno::ESRCH);
    }
    kill_thread(kernel, args[1], args[2])
}

fn kill_thread(kernel: &mut Kernel, thread: u64, signal: u64) -> SysResult {
    if i64::from(thread as i32) <= 0 {
        return Err(Errno::EINVAL);
    }
    if signal & 0xffff_ffff != 0 {
        signal_number(signal)?;
    }
    if thread & 0xffff_ffff != u64::from(kernel.task.pid) {
        return Err(Errno::ESRCH);
    }
    kernel.send_self(signal, SI_TKILL)
}

fn sys_rt_sigqueueinfo(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, signal, info, ..] = args;
    let mut bytes = [0; 128];
    kernel.read_user(VirtAddr::new(info), &mut bytes)?;
    let signal = signal_number(signal)?;
    if pid & 0xffff_ffff != u64::from(kernel.task.pid) {
        return Err(Errno::ESRCH);
    }
    let code = i32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
    let mut raw = [0; 112];
    raw.copy_from_slice(&bytes[16..]);
    kernel.task.signals.send(SigInfo { signal, code, detail: SigDetail::Raw(raw) });
    Ok(0)
}

impl Kernel {
    /// Sends a signal that a write to a closed pipe, a timer or a limit causes.
    pub fn send_kernel_signal(&mut self, signal: u8) {
        let code = if signal == number::SIGPIPE { SI_USER } else { SI_KERNEL };
        self.task.signals.send(SigInfo { signal, code, detail: SigDetail::None });
    }
}
