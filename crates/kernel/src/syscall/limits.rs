//! System calls about limits and scheduling: what the process may use and what it used.
//!
//! Does not: schedule. There is one task on one CPU; classes and priorities are only remembered.

use machine::VirtAddr;

use super::process::{int, own_pid};
use super::{Handler, time};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::process::{LIMIT_COUNT, ResourceLimit, Usage, memory_limits};

/// The function for system call `number`, if it is about limits or scheduling.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        24 => sys_sched_yield,
        97 => sys_getrlimit,
        98 => sys_getrusage,
        140 => sys_getpriority,
        141 => sys_setpriority,
        142 | 144 => sys_sched_setparam,
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

/// Changes a limit; the hard limit can only go down.
fn change_limit(kernel: &mut Kernel, index: usize, wanted: ResourceLimit) -> Result<(), Errno> {
    if wanted.soft > wanted.hard {
        return Err(Errno::EINVAL);
    }
    if wanted.hard > kernel.process.limits[index].hard {
        return Err(Errno::EPERM);
    }
    kernel.process.limits[index] = wanted;
    let uid = kernel.fs.credentials.uid;
    kernel.mm.limits = memory_limits(&kernel.process.limits, uid);
    Ok(())
}

fn sys_getrlimit(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let index = limit_index(args[0])?;
    write_limit(kernel, args[1], kernel.process.limits[index])
}

fn sys_setrlimit(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let wanted = read_limit(kernel, args[1])?;
    change_limit(kernel, limit_index(args[0])?, wanted)?;
    Ok(0)
}

fn sys_prlimit64(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, resource, new, old, ..] = args;
    let mut wanted = None;
    if new != 0 {
        wanted = Some(read_limit(kernel, new)?);
    }
    own_pid(kernel, pid)?;
    let index = limit_index(resource)?;
    let before = kernel.process.limits[index];
    if let Some(wanted) = wanted {
        change_limit(kernel, index, wanted)?;
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

fn check_priority_target(kernel: &Kernel, args: [u64; 6]) -> Result<(), Errno> {
    let uid = u64::from(kernel.fs.credentials.uid);
    match int(args[0]) {
        0 | 1 => own_pid(kernel, args[1]),
        2 if args[1] == 0 || args[1] == uid => Ok(()),
        2 => Err(Errno::ESRCH),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_getpriority(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    check_priority_target(kernel, args)?;
    // The call returns 20 - nice, so that errors can be told apart.
    Ok((20 - i64::from(kernel.process.settings.nice)).cast_unsigned())
}

fn sys_setpriority(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    check_priority_target(kernel, args)?;
    let nice = int(args[2]).clamp(-20, 19);
    if nice < kernel.process.settings.nice {
        return Err(Errno::EACCES);
    }
    kernel.process.settings.nice = nice;
    Ok(0)
}

fn sys_sched_getscheduler(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    own_pid(kernel, args[0])?;
    Ok(0)
}

/// `sched_setparam`, `sched_setscheduler`: only the ordinary class.
fn sys_sched_setparam(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let is_class = kernel.task.regs.gpr[0] & 0xffff_ffff == 144;
    own_pid(kernel, args[0])?;
    let (class, param) = if is_class { (int(args[1]), args[2]) } else { (0, args[1]) };
    let priority = kernel.read_user_u32(VirtAddr::new(param))?;
    match class & !0x4000_0000 {
        0 | 3 | 5 if priority == 0 => Ok(0),
        1 | 2 | 6 => Err(Errno::EPERM),
        _ => Err(Errno::EINVAL),
    }
}

fn sys_sched_getparam(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    own_pid(kernel, args[0])?;
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
    own_pid(kernel, args[0])?;
    time::write_timespec(kernel, args[1], 4_000_000)?;
    Ok(0)
}

/// The machine has one CPU.
fn sys_sched_getaffinity(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, bytes, mask, ..] = args;
    if bytes % 8 != 0 || bytes == 0 {
        return Err(Errno::EINVAL);
    }
    own_pid(kernel, pid)?;
    kernel.write_user_u64(VirtAddr::new(mask), 1)?;
    Ok(8)
}

fn sys_sched_setaffinity(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, bytes, mask, ..] = args;
    own_pid(kernel, pid)?;
    let mut first = [0; 1];
    if bytes != 0 {
        kernel.read_user(VirtAddr::new(mask), &mut first)?;
    }
    if first[0] & 1 == 0 { Err(Errno::EINVAL) } else { Ok(0) }
}
