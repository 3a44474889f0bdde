//! Waiting for children: `wait4` and `waitid`.
//!
//! # Source
//! man 2 `wait4`, `waitid`; Linux 6.12 `kernel/exit.c:do_wait`.

use machine::VirtAddr;

use super::process::int;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::exit::child_info;
use crate::process::{Life, Process, Told, Usage};
use crate::signal::SigInfo;
use crate::signal::number::SIGCHLD;
use crate::syscall::Handler;
use crate::wait::{Channel, Interrupted};

/// The function for system call `number`, if it is here.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        61 => sys_wait4,
        247 => sys_waitid,
        _ => return None,
    })
}

const WNOHANG: u64 = 1;
const WUNTRACED: u64 = 2;
const WEXITED: u64 = 4;
const WCONTINUED: u64 = 8;
const WNOWAIT: u64 = 0x0100_0000;
/// Only children that this thread made.
const WNOTHREAD: u64 = 0x2000_0000;
/// Children whatever signal they end with.
const WALL: u64 = 0x4000_0000;
/// Children that end with another signal than SIGCHLD.
const WCLONE: u64 = 0x8000_0000;
const KINDS: u64 = WNOTHREAD | WALL | WCLONE;

/// Which children are waited for.
#[derive(Clone, Copy)]
enum Which {
    Any,
    Process(u32),
    Group(u32),
}

/// A child with news.
struct News {
    pid: u32,
    status: u32,
    info: SigInfo,
    usage: Usage,
}

fn sys_wait4(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [pid, status, options, usage, ..] = args;
    let options = options & 0xffff_ffff;
    if options & !(WNOHANG | WUNTRACED | WCONTINUED | KINDS) != 0 {
        return Err(Errno::EINVAL);
    }
    let which = match int(pid) {
        -1 => Which::Any,
        0 => Which::Group(kernel.process.group),
        i32::MIN => return Err(Errno::ESRCH),
        pid @ 1.. => Which::Process(pid.unsigned_abs()),
        pid => Which::Group(pid.unsigned_abs()),
    };
    let Some(news) = wait(kernel, which, options | WEXITED)? else { return Ok(0) };
    if status != 0 {
        kernel.write_user_u32(VirtAddr::new(status), news.status)?;
    }
    if usage != 0 {
        let bytes = super::limits::usage_bytes(&news.usage);
        kernel.write_user(VirtAddr::new(usage), &bytes)?;
    }
    Ok(news.pid.into())
}

fn sys_waitid(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [kind, id, info, options, usage, _] = args;
    let known = WNOHANG | WUNTRACED | WEXITED | WCONTINUED | WNOWAIT | KINDS;
    if options & !known != 0 || options & (WUNTRACED | WEXITED | WCONTINUED) == 0 {
        return Err(Errno::EINVAL);
    }
    let number = int(id);
    let mut options = options;
    let mut is_nonblocking = false;
    let which = match kind & 0xffff_ffff {
        0 => Which::Any,
        1 if number > 0 => Which::Process(number.unsigned_abs()),
        2 if number == 0 => Which::Group(kernel.process.group),
        2 if number > 0 => Which::Group(number.unsigned_abs()),
        3 => {
            let pid = kernel.pid_of_file(id)?;
            is_nonblocking = options & WNOHANG == 0
                && kernel.files.get(id).is_ok_and(|file| kernel.vfs.file(file).is_nonblocking());
            options |= if is_nonblocking { WNOHANG } else { 0 };
            Which::Process(pid)
        }
        _ => return Err(Errno::EINVAL),
    };
    let mut result = wait(kernel, which, options);
    if is_nonblocking && matches!(result, Ok(None)) {
        result = Err(Errno::EAGAIN);
    }
    if let Err(Errno::BLOCKED) = result {
        return Err(Errno::BLOCKED);
    }
    let news = result.as_ref().ok().and_then(Option::as_ref);
    if let (Some(news), true) = (news, usage != 0) {
        let bytes = super::limits::usage_bytes(&news.usage);
        kernel.write_user(VirtAddr::new(usage), &bytes)?;
    }
    if info != 0 {
        // As in Linux, these six words alone are written, zeros also when there is an error.
        let bytes = news.map_or([0; 128], |news| news.info.bytes());
        kernel.write_user(VirtAddr::new(info), &bytes[..12])?;
        kernel.write_user(VirtAddr::new(info.wrapping_add(16)), &bytes[16..28])?;
    }
    result.map(|_| 0)
}

/// Whether `wait` with these options looks at a child of the running process.
fn is_eligible(kernel: &Kernel, child: &Process, options: u64) -> bool {
    let is_clone = child.exit_signal != SIGCHLD;
    let is_kind = options & WALL != 0 || is_clone == (options & WCLONE != 0);
    let is_own = options & WNOTHREAD == 0 || child.parent_thread == kernel.task.tid;
    child.parent == kernel.process.pid && is_kind && is_own
}

/// A child with news of the wanted kind; `None` if there is none and the call shall not wait.
fn wait(kernel: &mut Kernel, which: Which, options: u64) -> Result<Option<News>, Errno> {
    let own = kernel.process.pid;
    let is_meant = |process: &Process| {
        let is_named = match which {
            Which::Any => true,
            Which::Process(pid) => process.pid == pid,
            Which::Group(group) => process.group == group,
        };
        // What has ended has no more news for who does not wait for ends.
        let is_over = process.is_zombie() && options & WEXITED == 0;
        is_named && !is_over && is_eligible(kernel, process, options)
    };
    let children: Vec<u32> =
        kernel.tasks.processes.values().filter(|one| is_meant(one)).map(|one| one.pid).collect();
    if children.is_empty() {
        return Err(Errno::ECHILD);
    }
    for pid in children {
        if let Some(news) = take_news(kernel, pid, options) {
            return Ok(Some(news));
        }
    }
    if options & WNOHANG != 0 {
        return Ok(None);
    }
    Err(kernel.block(&[Channel::Children(own)], None, Interrupted::Restarts))
}

/// What the child has to tell, if it is of a wanted kind and was not told before.
fn take_news(kernel: &mut Kernel, pid: u32, options: u64) -> Option<News> {
    let uid = kernel.fs.credentials.uid;
    let process = kernel.tasks.processes.get_mut(&pid)?;
    let keeps = options & WNOWAIT != 0;
    let (status, info) = match process.life {
        Life::Zombie(outcome) if options & WEXITED != 0 => {
            (outcome.wait_status(), child_info(process, uid))
        }
        Life::Stopped(signal, Told::No) if options & WUNTRACED != 0 => {
            (u32::from(signal) << 8 | 0x7f, child_info(process, uid))
        }
        Life::Continued if options & WCONTINUED != 0 => (0xffff, child_info(process, uid)),
        _ => return None,
    };
    let mut usage = process.usage;
    usage.add(&process.usage_of_children);
    if !keeps {
        match process.life {
            Life::Stopped(signal, _) => process.life = Life::Stopped(signal, Told::Yes),
            Life::Continued => process.life = Life::Alive,
            _ => {
                kernel.tasks.processes.remove(&pid);
                kernel.objects.end_task(pid, &mut kernel.memory, &mut kernel.hw);
                kernel.process.usage_of_children.add(&usage);
            }
        }
    }
    Some(News { pid, status, info: SigInfo { signal: SIGCHLD, ..info }, usage })
}
