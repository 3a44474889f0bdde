//! Virtual time: clocks, sleeping, interval timers.
//!
//! A clock reads the machine's virtual nanoseconds; when all tasks sleep, they pass at once. A
//! timer sends its signal when the loop next looks, so it is late by at most one slice of the
//! engine.
//!
//! Does not: read or wait for the host's time.

use std::collections::{BTreeMap, BTreeSet};

use machine::VirtAddr;

use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::signal::number::{SIGALRM, SIGKILL, SIGPROF, SIGVTALRM, SIGXCPU};
use crate::signal::{SI_KERNEL, SigDetail, SigInfo};
use crate::syscall::Handler;
use crate::syscall::timers::PosixTimer;
use crate::wait::Interrupted;

pub(super) const NS_PER_SECOND: u64 = 1_000_000_000;
const NS_PER_MICROSECOND: u64 = 1_000;
/// Nanoseconds of one tick of `times` (`AT_CLKTCK` 100).
const NS_PER_TICK: u64 = 10_000_000;
/// `TIMER_ABSTIME`.
pub(super) const ABSOLUTE: u64 = 1;

/// The function for system call `number`, if it is about time.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        35 => sys_nanosleep,
        36 => sys_getitimer,
        37 => sys_alarm,
        38 => sys_setitimer,
        96 => sys_gettimeofday,
        100 => sys_times,
        201 => sys_time,
        228 => sys_clock_gettime,
        229 => sys_clock_getres,
        230 => sys_clock_nanosleep,
        164 | 227 => sys_set_clock,
        _ => return None,
    })
}

/// One interval timer.
#[derive(Clone, Copy, Default, Debug)]
struct Timer {
    /// When it fires, in nanoseconds of its clock; `None` while it is off.
    deadline_ns: Option<u64>,
    /// How long until it fires again, 0 for once.
    interval_ns: u64,
    /// Whether its signal was sent and not yet taken: it does not run on before.
    is_queued: bool,
}

/// The interval timers of a process.
#[derive(Clone, Default, Debug)]
pub struct Timers {
    /// `ITIMER_REAL`, `ITIMER_VIRTUAL`, `ITIMER_PROF`.
    timers: [Timer; 3],
    /// Those of `timer_create`, by number.
    pub(super) created: BTreeMap<u32, PosixTimer>,
    /// Those of them that run and count CPU time.
    pub(super) on_cpu: BTreeSet<u32>,
    /// The number of the next one.
    pub(super) next_id: u32,
}

impl Timer {
    /// The next time behind `now`, after it fired at `deadline`.
    fn next(&self, deadline: u64, now: u64) -> Option<u64> {
        let missed = now.saturating_sub(deadline).checked_div(self.interval_ns)?;
        Some(deadline.saturating_add(self.interval_ns.saturating_mul(missed.saturating_add(1))))
    }
}

impl Timers {
    /// Whether one counts the time of the process itself.
    fn counts_cpu(&self) -> bool {
        self.timers[1..].iter().any(|timer| timer.deadline_ns.is_some())
    }
}

/// The signal of each timer.
const TIMER_SIGNALS: [u8; 3] = [SIGALRM, SIGVTALRM, SIGPROF];

impl Kernel {
    /// Nanoseconds since 1970.
    pub fn realtime_ns(&self) -> u64 {
        self.hw.boot_seconds().saturating_mul(NS_PER_SECOND).saturating_add(self.hw.now_ns())
    }

    /// Virtual nanoseconds that the running task used the CPU.
    pub fn cpu_ns(&self) -> u64 {
        self.task.cpu_ns.saturating_add(self.turn_ns(self.hw.now_ns()))
    }

    /// Virtual nanoseconds that all threads of the running process used the CPU.
    pub fn process_cpu_ns(&self) -> u64 {
        self.process_cpu_ns_at(self.hw.now_ns())
    }

    /// The same when it is `now_ns`.
    fn process_cpu_ns_at(&self, now_ns: u64) -> u64 {
        self.process.usage.cpu_ns.saturating_add(self.turn_ns(now_ns))
    }

    fn turn_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.tasks.on_cpu_since_ns)
    }

    fn clock_of_timer(&self, index: usize) -> u64 {
        if index == 0 { self.hw.now_ns() } else { self.process_cpu_ns() }
    }

    /// Sends the signals of timers that have run out at `now_ns`.
    pub(crate) fn expire_timers(&mut self, now_ns: u64) {
        while let Some(&(deadline, pid, created)) = self.tasks.alarms.first() {
            if deadline > now_ns {
                break;
            }
            self.tasks.alarms.remove(&(deadline, pid, created));
            match created {
                None => self.expire_timer(pid, 0, now_ns),
                Some(id) => self.expire_created_timer(pid, id),
            }
        }
        if !self.process.timers.on_cpu.is_empty() {
            for id in self.process.timers.on_cpu.clone() {
                self.expire_created_timer(self.process.pid, id);
            }
        }
        if self.process.timers.counts_cpu() {
            let used_ns = self.process_cpu_ns_at(now_ns);
            for index in [1, 2] {
                self.expire_timer(self.process.pid, index, used_ns);
            }
        }
        self.enforce_cpu_limit(now_ns);
    }

    /// Tells the running process that its CPU time is over, once a second, and kills it at the hard
    /// limit.
    fn enforce_cpu_limit(&mut self, now_ns: u64) {
        let used_ns = self.process_cpu_ns_at(now_ns);
        let limit = self.process.cpu_seconds();
        if used_ns < limit.soft.saturating_mul(NS_PER_SECOND) {
            return;
        }
        let used_s = used_ns / NS_PER_SECOND;
        let signal = if used_s >= limit.hard { SIGKILL } else { SIGXCPU };
        // The next time is a second later, and `getrlimit` shows it.
        limit.soft = limit.soft.saturating_add(u64::from(signal == SIGXCPU));
        self.send_to_process(self.process.pid, SigInfo::kernel(signal));
    }

    /// Sends the signal of one timer if it has run out, and sets it again if it repeats.
    fn expire_timer(&mut self, pid: u32, index: usize, now: u64) {
        let Some(process) = self.process_mut(pid) else { return };
        let timer = &mut process.timers.timers[index];
        let Some(deadline) = timer.deadline_ns.filter(|deadline| *deadline <= now) else { return };
        if index == 0 {
            timer.is_queued = true;
        } else {
            timer.deadline_ns = timer.next(deadline, now);
        }
        let signal = TIMER_SIGNALS[index];
        self.send_to_process(pid, SigInfo { signal, code: SI_KERNEL, detail: SigDetail::None });
    }

    /// SIGALRM of the running process was taken: its timer runs on.
    pub(crate) fn alarm_taken(&mut self) {
        let (pid, now) = (self.process.pid, self.hw.now_ns());
        let timer = &mut self.process.timers.timers[0];
        let Some(deadline) = timer.deadline_ns.filter(|_| timer.is_queued) else { return };
        timer.is_queued = false;
        timer.deadline_ns = timer.next(deadline, now);
        if let Some(next) = timer.deadline_ns {
            self.tasks.alarms.insert((next, pid, None));
        }
    }

    /// Forgets the timers of the running process.
    pub(crate) fn drop_alarms(&mut self) {
        if let Some(deadline) = self.process.timers.timers[0].deadline_ns {
            self.tasks.alarms.remove(&(deadline, self.process.pid, None));
        }
        self.drop_created_timers();
        self.process.timers = Timers::default();
    }

    /// Sets a timer and returns what was left of it and its interval.
    fn set_timer(&mut self, index: usize, after_ns: u64, interval_ns: u64) -> (u64, u64) {
        let before = self.timer_left(index);
        let now = self.clock_of_timer(index);
        let deadline_ns = (after_ns != 0).then(|| now.saturating_add(after_ns));
        let timer = &mut self.process.timers.timers[index];
        let old = std::mem::replace(timer, Timer { deadline_ns, interval_ns, is_queued: false });
        if index == 0 {
            let pid = self.process.pid;
            old.deadline_ns.map(|deadline| self.tasks.alarms.remove(&(deadline, pid, None)));
            deadline_ns.map(|deadline| self.tasks.alarms.insert((deadline, pid, None)));
        }
        before
    }

    fn timer_left(&self, index: usize) -> (u64, u64) {
        let timer = self.process.timers.timers[index];
        let now = self.clock_of_timer(index);
        let runs = timer.deadline_ns.filter(|_| !timer.is_queued);
        let left = runs.map_or(0, |deadline| deadline.saturating_sub(now).max(1));
        (left, timer.interval_ns)
    }

    fn clock_ns(&self, clock: u64) -> Result<u64, Errno> {
        match clock & 0xffff_ffff {
            // REALTIME, REALTIME_COARSE, REALTIME_ALARM, TAI.
            0 | 5 | 8 | 11 => Ok(self.realtime_ns()),
            // MONOTONIC, MONOTONIC_RAW, MONOTONIC_COARSE, BOOTTIME, BOOTTIME_ALARM.
            1 | 4 | 6 | 7 | 9 => Ok(self.hw.now_ns()),
            // PROCESS_CPUTIME_ID, THREAD_CPUTIME_ID.
            2 => Ok(self.process_cpu_ns()),
            3 => Ok(self.cpu_ns()),
            number if number & 0x8000_0000 != 0 => self.cpu_clock(number as u32),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The CPU clock of a process or thread: `~pid << 3 | 4 for a thread | kind`.
    fn cpu_clock(&self, clock: u32) -> Result<u64, Errno> {
        let number = (!(clock.cast_signed() >> 3)).cast_unsigned();
        let is_thread = clock & 4 != 0;
        if is_thread {
            let tid = if number == 0 { self.task.tid } else { number };
            let task = self.task_of(tid).ok_or(Errno::EINVAL)?;
            return Ok(if tid == self.task.tid { self.cpu_ns() } else { task.cpu_ns });
        }
        let pid = if number == 0 { self.process.pid } else { number };
        let process = self.process_of(pid).ok_or(Errno::EINVAL)?;
        let is_own = pid == self.process.pid;
        Ok(if is_own { self.process_cpu_ns() } else { process.usage.cpu_ns })
    }
}

/// Reads a `struct timespec` as nanoseconds.
///
/// # Errors
/// `EFAULT`: it cannot be read. `EINVAL`: negative, or a second or more of nanoseconds.
pub fn read_timespec(kernel: &mut Kernel, addr: u64) -> Result<u64, Errno> {
    read_pair(kernel, addr, 1)
}

/// Reads a `struct timeval` as nanoseconds.
///
/// # Errors
/// As [`read_timespec`].
pub fn read_timeval(kernel: &mut Kernel, addr: u64) -> Result<u64, Errno> {
    read_pair(kernel, addr, NS_PER_MICROSECOND)
}

/// Writes nanoseconds as a `struct timespec`.
///
/// # Errors
/// `EFAULT`: it cannot be written.
pub fn write_timespec(kernel: &mut Kernel, addr: u64, ns: u64) -> Result<(), Errno> {
    write_pair(kernel, addr, ns, 1)
}

fn read_pair(kernel: &mut Kernel, addr: u64, unit_ns: u64) -> Result<u64, Errno> {
    let addr = VirtAddr::new(addr);
    let mut bytes = [0; 16];
    kernel.read_user(addr, &mut bytes)?;
    let word = |start: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[start..start + 8]);
        u64::from_le_bytes(word)
    };
    let (seconds, rest) = (word(0), word(8));
    if i64::try_from(seconds).is_err() || rest >= NS_PER_SECOND / unit_ns {
        return Err(Errno::EINVAL);
    }
    Ok(seconds.saturating_mul(NS_PER_SECOND).saturating_add(rest * unit_ns))
}

fn write_pair(kernel: &mut Kernel, addr: u64, ns: u64, unit_ns: u64) -> Result<(), Errno> {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&(ns / NS_PER_SECOND).to_le_bytes());
    bytes[8..].copy_from_slice(&(ns % NS_PER_SECOND / unit_ns).to_le_bytes());
    kernel.write_user(VirtAddr::new(addr), &bytes)
}

fn sys_clock_gettime(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let now = kernel.clock_ns(args[0])?;
    write_timespec(kernel, args[1], now)?;
    Ok(0)
}

fn sys_clock_getres(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    kernel.clock_ns(args[0])?;
    if args[1] != 0 {
        // The coarse clocks tick with the timer of Linux, 250 Hz.
        let is_coarse = matches!(args[0] & 0xffff_ffff, 5 | 6);
        write_timespec(kernel, args[1], if is_coarse { 4_000_000 } else { 1 })?;
    }
    Ok(0)
}

fn sys_set_clock(_kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Err(Errno::EPERM)
}

fn sys_gettimeofday(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if args[0] != 0 {
        let now = kernel.realtime_ns();
        write_pair(kernel, args[0], now, NS_PER_MICROSECOND)?;
    }
    if args[1] != 0 {
        kernel.write_user(VirtAddr::new(args[1]), &[0; 8])?;
    }
    Ok(0)
}

fn sys_time(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let seconds = kernel.realtime_ns() / NS_PER_SECOND;
    if args[0] != 0 {
        kernel.write_user_u64(VirtAddr::new(args[0]), seconds)?;
    }
    Ok(seconds)
}

fn sys_times(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if args[0] != 0 {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(kernel.process_cpu_ns() / NS_PER_TICK).to_le_bytes());
        let children = kernel.process.usage_of_children.cpu_ns / NS_PER_TICK;
        bytes[16..24].copy_from_slice(&children.to_le_bytes());
        kernel.write_user(VirtAddr::new(args[0]), &bytes)?;
    }
    Ok(kernel.hw.now_ns() / NS_PER_TICK)
}

fn sys_nanosleep(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let ns = read_timespec(kernel, args[0])?;
    sleep(kernel, ns, args[1])
}

fn sys_clock_nanosleep(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [clock, flags, request, left, ..] = args;
    match clock & 0xffff_ffff {
        3 => return Err(Errno::EINVAL),
        4..=6 => return Err(Errno::EOPNOTSUPP),
        _ => {}
    }
    let clock_now = kernel.clock_ns(clock)?;
    let ns = read_timespec(kernel, request)?;
    if flags & ABSOLUTE == 0 {
        return sleep(kernel, ns, left);
    }
    sleep(kernel, ns.saturating_sub(clock_now), 0)
}

/// Sleeps `ns` from the first time that the call was made.
fn sleep(kernel: &mut Kernel, ns: u64, left: u64) -> SysResult {
    let deadline = kernel.deadline_after(Some(ns));
    if kernel.has_passed(deadline) {
        return Ok(0);
    }
    let errno = kernel.block(&[], deadline, Interrupted::Ends);
    if errno != Errno::BLOCKED && left != 0 {
        let rest = deadline.unwrap_or(0).saturating_sub(kernel.hw.now_ns());
        write_timespec(kernel, left, rest)?;
    }
    Err(errno)
}

fn sys_alarm(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let seconds = args[0] & 0xffff_ffff;
    let (left, _) = kernel.set_timer(0, seconds * NS_PER_SECOND, 0);
    // Linux rounds to the nearest second, but never down to none.
    let rounded = left.saturating_add(NS_PER_SECOND / 2) / NS_PER_SECOND;
    Ok(if left == 0 { 0 } else { rounded.max(1) })
}

fn timer_index(which: u64) -> Result<usize, Errno> {
    match which & 0xffff_ffff {
        0 => Ok(0),
        1 => Ok(1),
        2 => Ok(2),
        _ => Err(Errno::EINVAL),
    }
}

fn write_timer(kernel: &mut Kernel, addr: u64, (left, interval): (u64, u64)) -> SysResult {
    write_pair(kernel, addr, interval, NS_PER_MICROSECOND)?;
    write_pair(kernel, addr.wrapping_add(16), left, NS_PER_MICROSECOND)?;
    Ok(0)
}

fn sys_getitimer(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let index = timer_index(args[0])?;
    let left = kernel.timer_left(index);
    write_timer(kernel, args[1], left)
}

fn sys_setitimer(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let index = timer_index(args[0])?;
    let (mut interval, mut after) = (0, 0);
    if args[1] != 0 {
        interval = read_timeval(kernel, args[1])?;
        after = read_timeval(kernel, args[1].wrapping_add(16))?;
    }
    let before = kernel.set_timer(index, after, interval);
    if args[2] != 0 { write_timer(kernel, args[2], before) } else { Ok(0) }
}
