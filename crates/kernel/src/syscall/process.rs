//! System calls about the process itself: who it is, what it is told about itself, its end.
//!
//! Does not: start processes and threads (`clone.rs`), end them (`exit.rs`), wait for them
//! (`syscall/wait.rs`).

use cpu::SegmentName;
use machine::VirtAddr;

use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::outcome::Outcome;
use crate::process::Process;
use crate::syscall::Handler;
use crate::uaccess::TASK_END;

/// The function for system call `number`, if it is about the process.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        39 => sys_getpid,
        56 => crate::clone::sys_clone,
        57 => crate::clone::sys_fork,
        58 => crate::clone::sys_vfork,
        59 => crate::exec::sys_execve,
        60 => sys_exit,
        102 => sys_getuid,
        104 => sys_getgid,
        105 => sys_setuid,
        106 => sys_setgid,
        107 => sys_getuid,
        108 => sys_getgid,
        109 => sys_setpgid,
        110 => sys_getppid,
        111 => sys_getpgrp,
        112 => sys_setsid,
        113 => sys_setreuid,
        114 => sys_setregid,
        117 => sys_setresuid,
        119 => sys_setresgid,
        115 => sys_getgroups,
        116 => sys_setgroups,
        118 => sys_getresuid,
        120 => sys_getresgid,
        121 => sys_getpgid,
        // They return the number in force, never an error.
        122 => sys_getuid,
        123 => sys_getgid,
        124 => sys_getsid,
        125 => sys_capget,
        126 => sys_capset,
        135 => sys_personality,
        157 => sys_prctl,
        158 => sys_arch_prctl,
        186 => sys_gettid,
        218 => sys_set_tid_address,
        231 => sys_exit_group,
        273 => sys_set_robust_list,
        274 => sys_get_robust_list,
        322 => crate::exec::sys_execveat,
        435 => crate::clone::sys_clone3,
        _ => return None,
    })
}

/// An argument that is an int: the upper half does not count.
pub(super) fn int(value: u64) -> i32 {
    value as i32
}

fn sys_exit(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    kernel.task.exit = Some(Outcome::Exited((args[0] & 0xff) as u8));
    Ok(0)
}

fn sys_exit_group(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    kernel.exit_process(Outcome::Exited((args[0] & 0xff) as u8));
    Ok(0)
}

fn sys_getpid(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Ok(kernel.task.pid.into())
}

fn sys_gettid(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Ok(kernel.task.tid.into())
}

fn sys_getppid(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Ok(kernel.process.parent.into())
}

fn sys_getpgrp(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Ok(kernel.process.group.into())
}

/// Whether a process number, 0 included, names the running process or thread.
pub(super) fn own_pid(kernel: &Kernel, pid: u64) -> Result<(), Errno> {
    let pid = i64::from(int(pid));
    let is_own = pid == i64::from(kernel.task.pid) || pid == i64::from(kernel.task.tid);
    if pid == 0 || is_own { Ok(()) } else { Err(Errno::ESRCH) }
}

/// The process that an argument names, 0 for the running one.
pub(super) fn process_argument(kernel: &Kernel, pid: u64) -> Result<&Process, Errno> {
    match u32::try_from(int(pid)).map_err(|_| Errno::ESRCH)? {
        0 => Ok(&kernel.process),
        number => kernel.pid_of(number).and_then(|pid| kernel.process_of(pid)).ok_or(Errno::ESRCH),
    }
}

fn sys_getpgid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    process_argument(kernel, args[0]).map(|process| process.group.into())
}

fn sys_getsid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    process_argument(kernel, args[0]).map(|process| process.session.into())
}

fn sys_setpgid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let group = u32::try_from(int(args[1])).map_err(|_| Errno::EINVAL)?;
    let own = kernel.process.pid;
    let process = process_argument(kernel, args[0])?;
    if int(args[0]) != 0 && int(args[0]).unsigned_abs() != process.pid {
        // A thread's number.
        return Err(Errno::EINVAL);
    }
    let (pid, session) = (process.pid, process.session);
    let group = if group == 0 { pid } else { group };
    if process.parent == own {
        if session != kernel.process.session {
            return Err(Errno::EPERM);
        }
        if process.has_executed {
            return Err(Errno::EACCES);
        }
    } else if pid != own {
        return Err(Errno::ESRCH);
    }
    if session == pid {
        return Err(Errno::EPERM);
    }
    let is_of_session = |other: &u32| {
        kernel.process_of(*other).is_some_and(|one| one.group == group && one.session == session)
    };
    if group != pid && !kernel.pids().iter().any(is_of_session) {
        return Err(Errno::EPERM);
    }
    if let Some(process) = kernel.process_mut(pid) {
        process.group = group;
    }
    Ok(0)
}

fn sys_setsid(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    let pid = kernel.process.pid;
    let leads = |other: &u32| kernel.process_of(*other).is_some_and(|one| one.group == pid);
    if kernel.pids().iter().any(leads) {
        return Err(Errno::EPERM);
    }
    kernel.process.session = pid;
    kernel.process.group = pid;
    Ok(pid.into())
}

fn sys_getuid(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Ok(kernel.fs.credentials.uid.into())
}

fn sys_getgid(kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Ok(kernel.fs.credentials.gid.into())
}

fn sys_getresuid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let id = kernel.fs.credentials.uid;
    tell_three(kernel, args, id)
}

fn sys_getresgid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let id = kernel.fs.credentials.gid;
    tell_three(kernel, args, id)
}

/// All three numbers are the same.
fn tell_three(kernel: &mut Kernel, args: [u64; 6], id: u32) -> SysResult {
    for addr in &args[..3] {
        kernel.write_user_u32(VirtAddr::new(*addr), id)?;
    }
    Ok(0)
}

fn sys_setuid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    change_ids(kernel.fs.credentials.uid, &args[..1])
}

fn sys_setgid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    change_ids(kernel.fs.credentials.gid, &args[..1])
}

fn sys_setreuid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    change_ids(kernel.fs.credentials.uid, &args[..2])
}

fn sys_setregid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    change_ids(kernel.fs.credentials.gid, &args[..2])
}

fn sys_setresuid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    change_ids(kernel.fs.credentials.uid, &args[..3])
}

fn sys_setresgid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    change_ids(kernel.fs.credentials.gid, &args[..3])
}

/// Differs from Linux: nobody may become someone else, not even root.
fn change_ids(own: u32, ids: &[u64]) -> SysResult {
    let is_same = |id: &u64| {
        let id = (id & 0xffff_ffff) as u32;
        id == own || id == u32::MAX
    };
    if ids.iter().all(is_same) { Ok(0) } else { Err(Errno::EPERM) }
}

fn sys_getgroups(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let groups = kernel.fs.credentials.groups.clone();
    let room = usize::try_from(int(args[0])).map_err(|_| Errno::EINVAL)?;
    if room != 0 {
        if room < groups.len() {
            return Err(Errno::EINVAL);
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|group| group.to_le_bytes()).collect();
        kernel.write_user(VirtAddr::new(args[1]), &bytes)?;
    }
    Ok(groups.len() as u64)
}

fn sys_setgroups(_kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Err(Errno::EPERM)
}

/// Versions of `struct __user_cap_header_struct`, and how many words of data each has.
const CAPABILITY_VERSIONS: [(u32, u64); 3] = [(0x1998_0330, 1), (0x2007_1026, 2), (0x2008_0522, 2)];

fn sys_capget(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [header, data, ..] = args;
    let version = kernel.read_user_u32(VirtAddr::new(header))?;
    let found = CAPABILITY_VERSIONS.iter().find(|entry| entry.0 == version);
    let Some(&(_, words)) = found else {
        kernel.write_user_u32(VirtAddr::new(header), CAPABILITY_VERSIONS[2].0)?;
        return if data == 0 { Ok(0) } else { Err(Errno::EINVAL) };
    };
    let pid = kernel.read_user_u32(VirtAddr::new(header.wrapping_add(4)))?;
    own_pid(kernel, pid.into())?;
    if data != 0 {
        // No capabilities, whoever it is.
        let zeros = [0; 24];
        let bytes = usize::try_from(words * 12).unwrap_or(24);
        kernel.write_user(VirtAddr::new(data), &zeros[..bytes])?;
    }
    Ok(0)
}

fn sys_capset(_kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Err(Errno::EPERM)
}

fn sys_personality(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let before = kernel.task.personality;
    let wanted = (args[0] & 0xffff_ffff) as u32;
    if wanted != u32::MAX {
        kernel.task.personality = wanted;
    }
    Ok(before.into())
}

fn sys_set_tid_address(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    kernel.task.clear_tid = VirtAddr::new(args[0]);
    Ok(kernel.task.tid.into())
}

/// Size of `struct robust_list_head`.
const ROBUST_LIST_BYTES: u64 = 24;

fn sys_set_robust_list(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if args[1] != ROBUST_LIST_BYTES {
        return Err(Errno::EINVAL);
    }
    kernel.task.robust_list = args[0];
    Ok(0)
}

fn sys_get_robust_list(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let head = match u32::try_from(int(args[0])).map_err(|_| Errno::ESRCH)? {
        0 => kernel.task.robust_list,
        tid => kernel.task_of(tid).ok_or(Errno::ESRCH)?.robust_list,
    };
    kernel.write_user_u64(VirtAddr::new(args[2]), ROBUST_LIST_BYTES)?;
    kernel.write_user_u64(VirtAddr::new(args[1]), head)?;
    Ok(0)
}

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
const ARCH_GET_FS: u64 = 0x1003;
const ARCH_GET_GS: u64 = 0x1004;
const ARCH_GET_CPUID: u64 = 0x1011;
const ARCH_SET_CPUID: u64 = 0x1012;
const ARCH_GET_XCOMP_SUPP: u64 = 0x1021;
const ARCH_GET_XCOMP_PERM: u64 = 0x1022;

fn sys_arch_prctl(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [code, addr, ..] = args;
    match code {
        ARCH_SET_GS | ARCH_SET_FS if addr >= TASK_END => Err(Errno::EPERM),
        ARCH_SET_FS => {
            kernel.task.regs.set_base(SegmentName::Fs, addr);
            Ok(0)
        }
        ARCH_SET_GS => {
            kernel.task.regs.set_base(SegmentName::Gs, addr);
            Ok(0)
        }
        ARCH_GET_FS => put_word(kernel, addr, kernel.task.regs.fs_base),
        ARCH_GET_GS => put_word(kernel, addr, kernel.task.regs.gs_base),
        ARCH_GET_CPUID => Ok(1),
        ARCH_SET_CPUID => Err(Errno::ENODEV),
        ARCH_GET_XCOMP_SUPP | ARCH_GET_XCOMP_PERM => put_word(kernel, addr, cpu::XCR0),
        _ => Err(Errno::EINVAL),
    }
}

fn put_word(kernel: &mut Kernel, addr: u64, value: u64) -> SysResult {
    kernel.write_user_u64(VirtAddr::new(addr), value)?;
    Ok(0)
}

fn sys_prctl(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [option, value, third, ..] = args;
    let settings = &mut kernel.process.settings;
    match option & 0xffff_ffff {
        // PDEATHSIG
        1 if value <= 64 => settings.parent_death_signal = value,
        2 => {
            let signal = settings.parent_death_signal as u32;
            kernel.write_user_u32(VirtAddr::new(value), signal)?;
        }
        // DUMPABLE
        3 => return Ok(settings.dumpable),
        4 if value <= 1 => settings.dumpable = value,
        // KEEPCAPS
        7 => return Ok(settings.keep_capabilities),
        8 if value <= 1 => settings.keep_capabilities = value,
        // NAME
        15 => {
            let mut name = [0; 16];
            let count = kernel.copy_from_user(VirtAddr::new(value), &mut name[..15]);
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(15);
            if end >= count && count < 15 {
                return Err(Errno::EFAULT);
            }
            kernel.task.name = name[..end].to_vec();
        }
        16 => {
            let mut name = [0; 16];
            name[..kernel.task.name.len()].copy_from_slice(&kernel.task.name);
            kernel.write_user(VirtAddr::new(value), &name)?;
        }
        // CAPBSET_READ: no capabilities; SECCOMP: off
        23 if value <= 40 => return Ok(0),
        21 => return Ok(0),
        // TSC: readable
        25 => kernel.write_user_u32(VirtAddr::new(value), 1)?,
        26 if value == 1 => {}
        // TIMERSLACK
        29 => settings.timer_slack_ns = if value == 0 { 50_000 } else { value },
        30 => return Ok(settings.timer_slack_ns),
        // CHILD_SUBREAPER
        36 => settings.subreaper = u64::from(value != 0),
        37 => {
            let subreaper = settings.subreaper as u32;
            kernel.write_user_u32(VirtAddr::new(value), subreaper)?;
        }
        // NO_NEW_PRIVS
        38 if value == 1 => settings.no_new_privileges = 1,
        39 => return Ok(settings.no_new_privileges),
        // GET_TID_ADDRESS
        40 => {
            let addr = kernel.task.clear_tid.as_u64();
            kernel.write_user_u64(VirtAddr::new(value), addr)?;
        }
        // THP_DISABLE
        41 => settings.thp_disable = u64::from(value != 0),
        42 => return Ok(settings.thp_disable),
        // CAP_AMBIENT: IS_SET none, CLEAR_ALL
        47 if value == 1 && third <= 40 || value == 4 => {}
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}
