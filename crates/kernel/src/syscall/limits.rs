//! System calls about limits and scheduling: what the process may use and what it used.
//!
//! Does not: schedule. Tasks take turns on one CPU; classes and priorities are only remembered.

use machine::VirtAddr;
use mm::Mm;

use super::process::{int, process_argument};
use super::{Handler, time};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::process::{LIMIT_COUNT, Process, ResourceLimit, Usage, memory_limits};

/// The function for system call `number`, if it is about limits or scheduling.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        24 => sys_sched_yield,
        97 => sys_getrlimit,
        98 => sys_getrusage,
        140 => sys_getpriority,
        141 => sys_setpriority,
        142 => sys_sched_setparam,
        144 => sys_sched_setscheduler,
        143 => sys_sched_getparam,
        145 => sys_sched_getscheduler,
        146 => sys_priority_max,
        147 => sys_priority_min,
        148 => sys_sched_rr_get_interval,
        160 => sys_setrlimit,
        203 => sys_sched_setaffinity,
        204 => sys_sched_getaffinity,
        302 => sys_prlimit64,
        _ => return None,
    })
}

fn sys_sched_yield(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    kernel.yield_turn();
    Ok(0)
}

fn limit_index(resource: u64) -> Result<usize, Errno> {
    usize::try_from(resource & 0xffff_ffff)
        .ok()
        .filter(|&index| index < LIMIT_COUNT)
        .ok_or(Errno::EINVAL)
}

fn read_limit(kernel: &mut Kernel, addr: u64) -> Result<ResourceLimit, Errno> {
    let soft = kernel.read_user_u64(VirtAddr::new(addr))?;
    let hard = kernel.read_user_u64(VirtAddr::new(addr.wrapping_add(8)))?;
    Ok(ResourceLimit { soft, hard })
}

fn write_limit(kernel: &mut Kernel, addr: u64, limit: ResourceLimit) -> SysResult {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&limit.soft.to_le_bytes());
    bytes[8..].copy_from_slice(&limit.hard.to_le_bytes());
    kernel.write_user(VirtAddr::new(addr), &bytes)?;
    Ok(0)
}

/// Changes a limit of process `pid`; the hard limit can only go down.
fn change_limit(
    kernel: &mut Kernel,
    pid: u32,
    index: usize,
    wanted: ResourceLimit,
) -> Result<(), Errno> {
    if wanted.soft > wanted.hard {
        return Err(Errno::EINVAL);
    }
    let uid = kernel.fs.credentials.uid;
    let process = kernel.process_mut(pid).ok_or(Errno::ESRCH)?;
    if wanted.hard > process.limits[index].hard {
        return Err(Errno::EPERM);
    }
    process.limits[index] = wanted;
    let limits = memory_limits(&process.limits, uid);
    if let Some(mm) = kernel.mm_of_process(pid) {
        mm.limits = limits;
    }
    Ok(())
}

fn sys_getrlimit(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let index = limit_index(args[0])?;
    write_limit(kernel, args[1], kernel.process.limits[index])
}

fn sys_setrlimit(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let wanted = read_limit(kernel, args[1])?;
    change_limit(kernel, kernel.process.pid, limit_index(args[0])?, wanted)?;
    Ok(0)
}

fn sys_prlimit64(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, resource, new, old, ..] = args;
    let mut wanted = None;
    if new != 0 {
        wanted = Some(read_limit(kernel, new)?);
    }
    let process = process_argument(kernel, pid)?;
    let index = limit_index(resource)?;
    let (pid, before) = (process.pid, process.limits[index]);
    if let Some(wanted) = wanted {
        change_limit(kernel, pid, index, wanted)?;
    }
    if old != 0 {
        write_limit(kernel, old, before)?;
    }
    Ok(0)
}

fn sys_getrusage(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let usage = match int(args[0]) {
        // SELF, THREAD
        who @ (0 | 1) => {
            let mut usage = kernel.process_usage();
            usage.cpu_ns = if who == 0 { kernel.process_cpu_ns() } else { kernel.cpu_ns() };
            usage
        }
        // CHILDREN
        -1 => kernel.process.usage_of_children,
        _ => return Err(Errno::EINVAL),
    };
    kernel.write_user(VirtAddr::new(args[1]), &usage_bytes(&usage))?;
    Ok(0)
}

impl Kernel {
    /// The address space of process `pid`, if it has one.
    fn mm_of_process(&mut self, pid: u32) -> Option<&mut Mm> {
        let tid = *self.process_of(pid)?.threads.first()?;
        let key = self.task_of(tid)?.parts.mm;
        if self.task.parts.mm == key { Some(&mut self.mm) } else { self.tasks.mms.get_mut(key) }
    }

    /// What the running process used so far, the faults of its present address space included.
    pub(crate) fn process_usage(&self) -> Usage {
        let mut usage = self.process.usage;
        usage.add_faults(self.mm.faults(), self.mm.rss_peak_pages(&self.memory));
        usage
    }
}

/// A `struct rusage`.
pub(super) fn usage_bytes(usage: &Usage) -> Vec<u8> {
    let mut words = [0_u64; 18];
    words[0] = usage.cpu_ns / 1_000_000_000;
    words[1] = usage.cpu_ns % 1_000_000_000 / 1_000;
    words[4] = usage.rss_peak_pages * (machine::PAGE_BYTES / 1024);
    words[8] = usage.minor_faults;
    words[9] = usage.major_faults;
    words[16] = usage.switches_voluntary;
    words[17] = usage.switches_forced;
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The processes that the first two arguments of `getpriority` name: one, a group, a user's.
fn priority_targets(kernel: &Kernel, args: [u64; 6]) -> Result<Vec<u32>, Errno> {
    let uid = u64::from(kernel.fs.credentials.uid);
    let who = args[1] & 0xffff_ffff;
    let pids = match int(args[0]) {
        0 => vec![process_argument(kernel, who)?.pid],
        1 => {
            let group = u32::try_from(who).unwrap_or(0);
            kernel.group_members(if group == 0 { kernel.process.group } else { group })
        }
        2 if who == 0 || who == uid => kernel.pids(),
        2 => Vec::new(),
        _ => return Err(Errno::EINVAL),
    };
    if pids.is_empty() { Err(Errno::ESRCH) } else { Ok(pids) }
}

fn sys_getpriority(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let targets = priority_targets(kernel, args)?;
    let nices = targets.iter().filter_map(|&pid| kernel.process_of(pid));
    let nice = nices.map(|process| process.settings.nice).min().ok_or(Errno::ESRCH)?;
    // The call returns 20 - nice, so that errors can be told apart.
    Ok((20 - i64::from(nice)).cast_unsigned())
}

fn sys_setpriority(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let nice = int(args[2]).clamp(-20, 19);
    let mut result = Ok(0);
    for pid in priority_targets(kernel, args)? {
        let Some(process) = kernel.process_mut(pid) else { continue };
        if nice < process.settings.nice {
            result = Err(Errno::EACCES);
        } else {
            process.settings.nice = nice;
        }
    }
    result
}

fn sys_sched_getscheduler(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    Ok(scheduled(kernel, args[0])?.settings.policy.into())
}

/// The process that a scheduling call names; a negative number is no process.
fn scheduled(kernel: &Kernel, pid: u64) -> Result<&Process, Errno> {
    if int(pid) < 0 {
        return Err(Errno::EINVAL);
    }
    process_argument(kernel, pid)
}

fn sys_sched_setparam(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    set_class(kernel, args[0], None, args[1])
}

fn sys_sched_setscheduler(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    set_class(kernel, args[0], Some(args[1] as u32), args[2])
}

/// Only the classes of ordinary programs; without one the class stays.
fn set_class(kernel: &mut Kernel, pid: u64, class: Option<u32>, param: u64) -> SysResult {
    const RESET_ON_FORK: u32 = 0x4000_0000;
    let process = scheduled(kernel, pid)?;
    let (pid, old) = (process.pid, process.settings.policy);
    let class = class.unwrap_or(old);
    if param == 0 {
        return Err(Errno::EINVAL);
    }
    let priority = kernel.read_user_u32(VirtAddr::new(param))?;
    match class & !RESET_ON_FORK {
        policy @ (0 | 3 | 5) if priority == 0 => {
            if let Some(process) = kernel.process_mut(pid) {
                process.settings.policy = policy;
            }
            Ok(0)
        }
        // Differs from Linux: the classes of real time are refused, also to root.
        1 | 2 if (1..=99).contains(&priority) => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_sched_getparam(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    scheduled(kernel, args[0])?;
    if args[1] == 0 {
        return Err(Errno::EINVAL);
    }
    kernel.write_user_u32(VirtAddr::new(args[1]), 0)?;
    Ok(0)
}

fn sys_priority_max(_kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    match int(args[0]) {
        0 | 3 | 5 | 6 => Ok(0),
        1 | 2 => Ok(99),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_priority_min(_kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    match int(args[0]) {
        0 | 3 | 5 | 6 => Ok(0),
        1 | 2 => Ok(1),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_sched_rr_get_interval(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    scheduled(kernel, args[0])?;
    time::write_timespec(kernel, args[1], 4_000_000)?;
    Ok(0)
}

/// The machine has one CPU.
fn sys_sched_getaffinity(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, bytes, mask, ..] = args;
    if bytes % 8 != 0 || bytes == 0 {
        return Err(Errno::EINVAL);
    }
    scheduled(kernel, pid)?;
    kernel.write_user_u64(VirtAddr::new(mask), 1)?;
    Ok(8)
}

fn sys_sched_setaffinity(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, bytes, mask, ..] = args;
    scheduled(kernel, pid)?;
    let mut first = [0; 1];
    if bytes != 0 {
        kernel.read_user(VirtAddr::new(mask), &mut first)?;
    }
    if first[0] & 1 == 0 { Err(Errno::EINVAL) } else { Ok(0) }
}
