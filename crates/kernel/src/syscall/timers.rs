//! Timers of `timer_create`: they send a signal to the process or to one thread, or nothing.
//!
//! A timer whose signal has not been taken yet does not run on; what it missed is counted as
//! overrun when the signal is taken.
//!
//! # Source
//! man 2 `timer_create`, `timer_settime`; Linux 6.12 `kernel/time/posix-timers.c`.

use machine::VirtAddr;

use super::process::int;
use super::time::{ABSOLUTE, NS_PER_SECOND, write_timespec};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::signal::number::SIGALRM;
use crate::signal::{SIGNAL_MAX, SigDetail, SigInfo};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        222 => sys_timer_create,
        223 => sys_timer_settime,
        224 => sys_timer_gettime,
        225 => sys_timer_getoverrun,
        226 => sys_timer_delete,
        _ => return None,
    })
}

/// `si_code` of a timer's signal.
const SI_TIMER: i32 = -2;
/// Nothing happens when the timer runs out.
const SIGEV_NONE: u32 = 1;
/// The signal is for one thread.
const SIGEV_THREAD_ID: u32 = 4;
/// The least time between two ends of a timer whose signal is ignored: one tick of 250 Hz.
const IGNORED_PAUSE_NS: u64 = 4_000_000;

/// What a timer counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Clock {
    /// Time since 1970.
    Real,
    /// Time since boot.
    Monotonic,
    /// CPU time of the process.
    Process,
    /// CPU time of a thread.
    Thread(u32),
}

impl Clock {
    /// Whether it stands still while the process does not run.
    pub(crate) fn counts_cpu(self) -> bool {
        matches!(self, Self::Process | Self::Thread(_))
    }
}

/// One timer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PosixTimer {
    clock: Clock,
    /// What it sends; `None` for nothing.
    signal: Option<u8>,
    /// The thread that gets it; `None` for any.
    thread: Option<u32>,
    /// `si_value`.
    value: u64,
    /// When it runs out, or ran out if it is queued, in nanoseconds of its clock.
    deadline_ns: Option<u64>,
    interval_ns: u64,
    /// Whether its signal was sent and not yet taken.
    is_queued: bool,
    /// How often it ran out between its last signal and the taking of that.
    overrun: u64,
}

impl PosixTimer {
    /// The next deadline behind `now`, and how many were missed.
    fn forward(&self, deadline: u64, now: u64) -> (Option<u64>, u64) {
        if self.interval_ns == 0 {
            return (None, 0);
        }
        let missed = now.saturating_sub(deadline) / self.interval_ns;
        let passed = self.interval_ns.saturating_mul(missed.saturating_add(1));
        (Some(deadline.saturating_add(passed)), missed)
    }

    /// Nanoseconds until it runs out, 0 if it does not run.
    fn left_ns(&self, now: u64) -> u64 {
        let Some(deadline) = self.deadline_ns else { return 0 };
        if deadline > now {
            return deadline - now;
        }
        let next = self.forward(deadline, now).0;
        match next {
            Some(next) => next.saturating_sub(now).max(1),
            None if self.signal.is_none() || self.is_queued => 0,
            None => 1,
        }
    }
}

impl Kernel {
    fn clock_of(&self, clock: Clock, pid: u32) -> u64 {
        match clock {
            Clock::Real | Clock::Monotonic => self.hw.now_ns(),
            Clock::Process if pid == self.process.pid => self.process_cpu_ns(),
            Clock::Process => self.process_of(pid).map_or(0, |process| process.usage.cpu_ns),
            Clock::Thread(tid) if tid == self.task.tid => self.cpu_ns(),
            Clock::Thread(tid) => self.task_of(tid).map_or(0, |task| task.cpu_ns),
        }
    }

    /// Starts or stops the waiting for a timer of process `pid`, as its fields say.
    fn plan_timer(&mut self, pid: u32, id: u32) {
        let Some(process) = self.process_mut(pid) else { return };
        let Some(timer) = process.timers.created.get(&id).copied() else { return };
        let runs = timer.deadline_ns.filter(|_| !timer.is_queued);
        if timer.clock.counts_cpu() {
            if runs.is_some() {
                process.timers.on_cpu.insert(id);
            } else {
                process.timers.on_cpu.remove(&id);
            }
        } else if let Some(deadline) = runs {
            self.tasks.alarms.insert((deadline, pid, Some(id)));
        }
    }

    /// Stops the waiting for a timer of process `pid`.
    fn unplan_timer(&mut self, pid: u32, id: u32) {
        let Some(process) = self.process_mut(pid) else { return };
        process.timers.on_cpu.remove(&id);
        let timer = process.timers.created.get(&id);
        if let Some(deadline) = timer.and_then(|timer| timer.deadline_ns) {
            self.tasks.alarms.remove(&(deadline, pid, Some(id)));
        }
    }

    /// Sends the signal of a timer if it has run out.
    pub(crate) fn expire_created_timer(&mut self, pid: u32, id: u32) {
        let Some(process) = self.process_of(pid) else { return };
        let Some(timer) = process.timers.created.get(&id).copied() else { return };
        let now = self.clock_of(timer.clock, pid);
        let Some(deadline) = timer.deadline_ns.filter(|deadline| *deadline <= now) else {
            return self.plan_timer(pid, id);
        };
        self.unplan_timer(pid, id);
        let is_sent = timer.signal.is_some_and(|signal| {
            let detail = SigDetail::Timer { id, overrun: 0, value: timer.value };
            let info = SigInfo { signal, code: SI_TIMER, detail };
            self.send_timer_signal(pid, timer.thread, info)
        });
        let mut after = timer;
        if is_sent {
            after.is_queued = true;
        } else {
            let pause = if timer.signal.is_some() { IGNORED_PAUSE_NS } else { 0 };
            after.deadline_ns = timer.forward(deadline, now.saturating_add(pause)).0;
        }
        if let Some(process) = self.process_mut(pid) {
            process.timers.created.insert(id, after);
        }
        self.plan_timer(pid, id);
    }

    /// The signal of a timer of the running process was taken: the timer runs on. Returns how often
    /// it ran out meanwhile.
    pub(crate) fn timer_signal_taken(&mut self, id: u32) -> i32 {
        let pid = self.process.pid;
        let Some(timer) = self.process.timers.created.get(&id).copied() else { return 0 };
        let Some(deadline) = timer.deadline_ns.filter(|_| timer.is_queued) else { return 0 };
        let (next, missed) = timer.forward(deadline, self.clock_of(timer.clock, pid));
        let after = PosixTimer { deadline_ns: next, is_queued: false, overrun: missed, ..timer };
        self.process.timers.created.insert(id, after);
        self.plan_timer(pid, id);
        i32::try_from(missed).unwrap_or(i32::MAX)
    }

    /// Forgets the timers of `timer_create` of the running process: exec and exit do.
    pub(crate) fn drop_created_timers(&mut self) {
        let pid = self.process.pid;
        for id in self.process.timers.created.keys().copied().collect::<Vec<_>>() {
            self.unplan_timer(pid, id);
        }
        self.process.timers.created.clear();
    }
}

/// The clock of `timer_create`.
fn clock_of_argument(kernel: &Kernel, clock: u64) -> Result<Clock, Errno> {
    let clock = int(clock);
    Ok(match clock {
        0 | 11 => Clock::Real,
        1 | 7 => Clock::Monotonic,
        2 => Clock::Process,
        3 => Clock::Thread(kernel.task.tid),
        // Raw and coarse clocks have no timers, and no alarm wakes this machine.
        4..=6 | 8 | 9 => return Err(Errno::EOPNOTSUPP),
        _ if clock < 0 => {
            let number = !(clock >> 3);
            let is_thread = clock & 4 != 0;
            let own = if is_thread { kernel.task.tid } else { kernel.process.pid };
            let number = if number == 0 { own } else { number.unsigned_abs() };
            match kernel.pid_of(number) {
                Some(pid) if pid == kernel.process.pid && is_thread => Clock::Thread(number),
                Some(pid) if pid == kernel.process.pid => Clock::Process,
                _ => return Err(Errno::EINVAL),
            }
        }
        _ => return Err(Errno::EINVAL),
    })
}

/// The signal, who gets it, and the value of a `struct sigevent`.
fn read_event(kernel: &mut Kernel, addr: u64) -> Result<(Option<u8>, Option<u32>, u64), Errno> {
    let mut bytes = [0; 64];
    kernel.read_user(VirtAddr::new(addr), &mut bytes)?;
    let word =
        |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let value = u64::from(word(0)) | u64::from(word(4)) << 32;
    let signal = u8::try_from(word(8)).ok().filter(|signal| (1..=SIGNAL_MAX).contains(signal));
    let thread = match word(12) {
        SIGEV_NONE => return Ok((None, None, value)),
        // SIGEV_SIGNAL and SIGEV_THREAD, which is up to the C library.
        0 | 2 => None,
        SIGEV_THREAD_ID => {
            let tid = word(16);
            let is_own = kernel.task_of(tid).is_some_and(|task| task.pid == kernel.process.pid);
            if !is_own {
                return Err(Errno::EINVAL);
            }
            Some(tid)
        }
        _ => return Err(Errno::EINVAL),
    };
    if signal.is_none() { Err(Errno::EINVAL) } else { Ok((signal, thread, value)) }
}

fn sys_timer_create(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [clock, event, id_addr, ..] = args;
    let clock = clock_of_argument(kernel, clock)?;
    if kernel.process.timers.created.len() as u64 >= kernel.process.signals_max() {
        return Err(Errno::EAGAIN);
    }
    let id = kernel.process.timers.next_id;
    let default = (Some(SIGALRM), None, u64::from(id));
    let (signal, thread, value) = if event == 0 { default } else { read_event(kernel, event)? };
    kernel.write_user_u32(VirtAddr::new(id_addr), id)?;
    let timer = PosixTimer {
        clock,
        signal,
        thread,
        value,
        deadline_ns: None,
        interval_ns: 0,
        is_queued: false,
        overrun: 0,
    };
    kernel.process.timers.next_id = id.wrapping_add(1) & (u32::MAX >> 1);
    kernel.process.timers.created.insert(id, timer);
    Ok(0)
}

/// The timer that an argument names.
fn timer_argument(kernel: &Kernel, id: u64) -> Result<(u32, PosixTimer), Errno> {
    let id = (id & 0xffff_ffff) as u32;
    let timer = kernel.process.timers.created.get(&id).ok_or(Errno::EINVAL)?;
    Ok((id, *timer))
}

/// A `struct itimerspec`: the time until the end, then the interval.
fn read_spec(kernel: &mut Kernel, addr: u64) -> Result<(u64, u64), Errno> {
    let interval = super::time::read_timespec(kernel, addr)?;
    let value = super::time::read_timespec(kernel, addr.wrapping_add(16))?;
    Ok((value, interval))
}

fn write_spec(kernel: &mut Kernel, addr: u64, value: u64, interval: u64) -> Result<(), Errno> {
    write_timespec(kernel, addr, interval)?;
    write_timespec(kernel, addr.wrapping_add(16), value)
}

fn sys_timer_settime(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [id, flags, new, old, ..] = args;
    if new == 0 {
        return Err(Errno::EINVAL);
    }
    let (value, interval_ns) = read_spec(kernel, new)?;
    let (id, timer) = timer_argument(kernel, id)?;
    let pid = kernel.process.pid;
    let now = kernel.clock_of(timer.clock, pid);
    let left = timer.left_ns(now);
    kernel.unplan_timer(pid, id);
    let deadline = match (flags & ABSOLUTE != 0, timer.clock) {
        (false, _) => now.saturating_add(value),
        (true, Clock::Real) => {
            value.saturating_sub(kernel.hw.boot_seconds().saturating_mul(NS_PER_SECOND))
        }
        (true, _) => value,
    };
    let deadline_ns = (value != 0).then_some(deadline);
    let after = PosixTimer { deadline_ns, interval_ns, is_queued: false, overrun: 0, ..timer };
    kernel.process.timers.created.insert(id, after);
    kernel.plan_timer(pid, id);
    if old != 0 {
        write_spec(kernel, old, left, timer.interval_ns)?;
    }
    Ok(0)
}

fn sys_timer_gettime(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let (_, timer) = timer_argument(kernel, args[0])?;
    let left = timer.left_ns(kernel.clock_of(timer.clock, kernel.process.pid));
    write_spec(kernel, args[1], left, timer.interval_ns)?;
    Ok(0)
}

fn sys_timer_getoverrun(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let (_, timer) = timer_argument(kernel, args[0])?;
    Ok(timer.overrun.min(0x7fff_ffff))
}

fn sys_timer_delete(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let (id, _) = timer_argument(kernel, args[0])?;
    kernel.unplan_timer(kernel.process.pid, id);
    kernel.process.timers.created.remove(&id);
    Ok(0)
}
