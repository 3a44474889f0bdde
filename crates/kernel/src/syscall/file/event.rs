//! Descriptors for time, signals and processes: `timerfd`, `signalfd`, `pidfd`.
//!
//! # Source
//! man 2 `timerfd_create`, `signalfd`, `pidfd_open`, `pidfd_send_signal`; Linux 6.12
//! `fs/timerfd.c`, `fs/signalfd.c`, `kernel/pid.c`.

use machine::VirtAddr;

use super::low32;
use super::open::install;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{FileId, Inherit, News, Opened, flag};
use crate::signal::{Receiver, SI_TKILL, SI_USER, SIGNAL_MAX, SigDetail, SigInfo, UNBLOCKABLE};
use crate::syscall::Handler;
use crate::syscall::time::{read_timespec, write_timespec};
use crate::task::State;
use crate::wait::{Channel, Interrupted};

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        282 => sys_signalfd,
        283 => sys_timerfd_create,
        286 => sys_timerfd_settime,
        287 => sys_timerfd_gettime,
        289 => sys_signalfd4,
        424 => sys_pidfd_send_signal,
        434 => sys_pidfd_open,
        438 => sys_pidfd_getfd,
        _ => return None,
    })
}

/// Bytes of `struct signalfd_siginfo`.
const SIGNAL_BYTES: usize = 128;

fn inherit_of(flags: u32) -> Inherit {
    if flags & flag::CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep }
}

fn install_flagged(kernel: &mut Kernel, file: FileId, flags: u32) -> SysResult {
    let limit = kernel.files_max();
    install(kernel, file, inherit_of(flags), limit)
}

fn sys_timerfd_create(kernel: &mut Kernel, [clock, flags, ..]: [u64; 6]) -> SysResult {
    let (clock, flags) = (low32(clock), low32(flags));
    let is_known = matches!(clock, 0 | 1 | 7 | 8 | 9);
    if flags & !(flag::CLOEXEC | flag::NONBLOCK) != 0 || !is_known {
        return Err(Errno::EINVAL);
    }
    let file = kernel.vfs.open_timer(clock, flags & flag::NONBLOCK);
    install_flagged(kernel, file, flags)
}

/// The timer behind a descriptor.
fn timer_of(kernel: &Kernel, fd: u64) -> Result<FileId, Errno> {
    let file = kernel.files.get(fd)?;
    match kernel.vfs.file(file).opened {
        Opened::Timer(_) => Ok(file),
        Opened::Path(_) => Err(Errno::EBADF),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_timerfd_settime(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    const ABSTIME: u32 = 1;
    const CANCEL_ON_SET: u32 = 2;
    let [fd, flags, new, old, ..] = args;
    let flags = low32(flags);
    let interval = read_timespec(kernel, new)?;
    let value = read_timespec(kernel, new.wrapping_add(16))?;
    if flags & !(ABSTIME | CANCEL_ON_SET) != 0 {
        return Err(Errno::EINVAL);
    }
    let file = timer_of(kernel, fd)?;
    let Opened::Timer(timer) = kernel.vfs.file(file).opened else { return Err(Errno::EINVAL) };
    let now = kernel.hw.now_ns();
    let is_real = matches!(timer.clock, 0 | 8);
    let next = match value {
        0 => None,
        value if flags & ABSTIME == 0 => Some(now.saturating_add(value)),
        value if is_real => Some(now.saturating_add(value.saturating_sub(kernel.realtime_ns()))),
        value => Some(value),
    };
    let before = kernel.vfs.set_timer(file, next, interval)?;
    if old != 0 {
        write_timespec(kernel, old, before.interval_ns)?;
        write_timespec(kernel, old.wrapping_add(16), before.rest_ns(now))?;
    }
    Ok(0)
}

fn sys_timerfd_gettime(kernel: &mut Kernel, [fd, addr, ..]: [u64; 6]) -> SysResult {
    let file = timer_of(kernel, fd)?;
    let Opened::Timer(timer) = kernel.vfs.file(file).opened else { return Err(Errno::EINVAL) };
    let rest = timer.rest_ns(kernel.hw.now_ns());
    write_timespec(kernel, addr, timer.interval_ns)?;
    write_timespec(kernel, addr.wrapping_add(16), rest)?;
    Ok(0)
}

fn sys_signalfd(kernel: &mut Kernel, [fd, mask, bytes, ..]: [u64; 6]) -> SysResult {
    sys_signalfd4(kernel, [fd, mask, bytes, 0, 0, 0])
}

fn sys_signalfd4(kernel: &mut Kernel, [fd, mask, bytes, flags, ..]: [u64; 6]) -> SysResult {
    const NEW: u32 = u32::MAX;
    let flags = low32(flags);
    if bytes != 8 {
        return Err(Errno::EINVAL);
    }
    let mask = kernel.read_user_u64(VirtAddr::new(mask))? & !UNBLOCKABLE;
    if flags & !(flag::CLOEXEC | flag::NONBLOCK) != 0 {
        return Err(Errno::EINVAL);
    }
    if low32(fd) == NEW {
        let file = kernel.vfs.open_signals(mask, flags & flag::NONBLOCK);
        return install_flagged(kernel, file, flags);
    }
    let file = kernel.files.get(fd)?;
    let Opened::Signals(held) = &mut kernel.vfs.file_mut(file).opened else {
        return Err(Errno::EINVAL);
    };
    *held = mask;
    kernel.vfs.tell(News::File(file));
    Ok(low32(fd).into())
}

/// `struct signalfd_siginfo`.
fn signal_bytes(info: &SigInfo) -> [u8; SIGNAL_BYTES] {
    let mut bytes = [0; SIGNAL_BYTES];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &u32::from(info.signal).to_le_bytes());
    put(8, &info.code.to_le_bytes());
    match info.detail {
        SigDetail::Sender { pid, uid, value } => {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
            if info.code < 0 {
                put(44, &low32(value).to_le_bytes());
                put(48, &value.to_le_bytes());
            }
        }
        SigDetail::Child { pid, uid, status, ticks } => {
            put(12, &pid.to_le_bytes());
            put(16, &uid.to_le_bytes());
            put(40, &status.to_le_bytes());
            put(56, &ticks.to_le_bytes());
        }
        SigDetail::Timer { id, overrun, value } => {
            put(24, &id.to_le_bytes());
            put(32, &overrun.to_le_bytes());
            put(44, &low32(value).to_le_bytes());
            put(48, &value.to_le_bytes());
        }
        SigDetail::Raw(given) => {
            put(12, &given[..8]);
            put(44, &given[8..12]);
            put(48, &given[8..16]);
        }
        SigDetail::Address(addr) => put(72, &addr.to_le_bytes()),
        _ => {}
    }
    bytes
}

fn sys_pidfd_open(kernel: &mut Kernel, [pid, flags, ..]: [u64; 6]) -> SysResult {
    let (pid, flags) = (low32(pid), low32(flags));
    if flags & !(flag::NONBLOCK | flag::THREAD) != 0 || pid.cast_signed() <= 0 {
        return Err(Errno::EINVAL);
    }
    match kernel.process_of(pid) {
        Some(_) => {}
        None if !kernel.is_thread_alive(pid) => return Err(Errno::ESRCH),
        None if flags & flag::THREAD == 0 => return Err(Errno::ENOENT),
        None => {}
    }
    kernel.open_pidfd(pid, flags)
}

/// Takes a file of another process: a descriptor of it for the running one.
fn sys_pidfd_getfd(kernel: &mut Kernel, [fd, wanted, flags, ..]: [u64; 6]) -> SysResult {
    if low32(flags) != 0 {
        return Err(Errno::EINVAL);
    }
    let pid = kernel.pid_of_file(fd)?;
    let roster = kernel.roster();
    let first = roster.process(pid).map_or(Some(pid), crate::Process::first_thread);
    let task = first.and_then(|tid| roster.task(tid)).ok_or(Errno::ESRCH)?;
    let file = roster.files_of(task).ok_or(Errno::ESRCH)?.get(low32(wanted).into())?;
    kernel.vfs.retain(file);
    install_flagged(kernel, file, flag::CLOEXEC)
}

/// To whom `pidfd_send_signal` sends: to whom the descriptor says, if the flags do not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Scope {
    Thread,
    Process,
    Group,
}

fn scope(kernel: &Kernel, fd: u64, flags: u32) -> Result<Scope, Errno> {
    match flags {
        0 => {
            let status = kernel.vfs.file(kernel.files.get(fd)?).status;
            Ok(if status & flag::THREAD != 0 { Scope::Thread } else { Scope::Process })
        }
        1 => Ok(Scope::Thread),
        2 => Ok(Scope::Process),
        4 => Ok(Scope::Group),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_pidfd_send_signal(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    const KNOWN: u32 = 7;
    let [fd, signal, info, flags, ..] = args;
    let flags = low32(flags);
    if flags & !KNOWN != 0 || flags.count_ones() > 1 {
        return Err(Errno::EINVAL);
    }
    let tid = kernel.pid_of_file(fd)?;
    let scope = scope(kernel, fd, flags)?;
    let signal = low32(signal);
    if signal > u32::from(SIGNAL_MAX) {
        return Err(Errno::EINVAL);
    }
    let mut code = if scope == Scope::Thread { SI_TKILL } else { SI_USER };
    let mut value = 0;
    if info != 0 {
        let given = kernel.read_user_u32(VirtAddr::new(info))?;
        code = kernel.read_user_u32(VirtAddr::new(info.wrapping_add(8)))?.cast_signed();
        value = kernel.read_user_u64(VirtAddr::new(info.wrapping_add(24)))?;
        if given != signal {
            return Err(Errno::EINVAL);
        }
        let is_own = tid == kernel.task.tid && scope != Scope::Group;
        if (code >= 0 || code == SI_TKILL) && !is_own {
            return Err(Errno::EPERM);
        }
    }
    let pids = match scope {
        Scope::Thread | Scope::Process => kernel.pid_of(tid).into_iter().collect(),
        Scope::Group => kernel.group_members(tid),
    };
    if pids.is_empty() {
        return Err(Errno::ESRCH);
    }
    let Ok(signal @ 1..) = u8::try_from(signal) else { return Ok(0) };
    let info = SigInfo { signal, code, detail: kernel.sender(value) };
    if scope == Scope::Thread {
        kernel.send_signal(tid, info, Receiver::Thread);
        return Ok(0);
    }
    for pid in pids {
        kernel.send_to_process(pid, info);
    }
    Ok(0)
}

impl Kernel {
    /// The process behind a descriptor of `pidfd_open`.
    ///
    /// # Errors
    /// `EBADF`: there is none.
    pub(crate) fn pid_of_file(&self, fd: u64) -> Result<u32, Errno> {
        match self.vfs.file(self.files.get(fd)?).opened {
            Opened::Process(pid) => Ok(pid),
            _ => Err(Errno::EBADF),
        }
    }

    /// A new descriptor of process `pid`, closed by exec.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub(crate) fn open_pidfd(&mut self, pid: u32, status: u32) -> SysResult {
        let file = self.vfs.open_process(pid, status);
        install_flagged(self, file, flag::CLOEXEC)
    }

    /// Whether a thread has not ended yet.
    pub(crate) fn is_thread_alive(&self, tid: u32) -> bool {
        self.task_of(tid).is_some_and(|task| task.state != State::Dead)
    }

    /// Reads a timer.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn read_timer(
        &mut self,
        file: FileId,
        bytes: &mut [u8],
        is_nonblocking: bool,
    ) -> Result<usize, Errno> {
        let now = self.hw.now_ns();
        match self.vfs.read_timer(file, now, bytes) {
            Err(Errno::EAGAIN) if !is_nonblocking => {
                Err(self.block(&[Channel::File(file)], None, Interrupted::Restarts))
            }
            result => result,
        }
    }

    /// Takes pending signals of the task as records, as many as there is room for.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn read_signals(
        &mut self,
        (file, mask): (FileId, u64),
        bytes: &mut [u8],
        is_nonblocking: bool,
    ) -> Result<usize, Errno> {
        if bytes.len() < SIGNAL_BYTES {
            return Err(Errno::EINVAL);
        }
        let mut done = 0;
        for place in bytes.chunks_exact_mut(SIGNAL_BYTES) {
            let Some(info) = self.take_signal(mask) else { break };
            place.copy_from_slice(&signal_bytes(&info));
            done += SIGNAL_BYTES;
        }
        match done {
            0 if is_nonblocking => Err(Errno::EAGAIN),
            0 => {
                let channels = [Channel::Signals(self.task.pid), Channel::File(file)];
                Err(self.block(&channels, None, Interrupted::Restarts))
            }
            done => Ok(done),
        }
    }
}
