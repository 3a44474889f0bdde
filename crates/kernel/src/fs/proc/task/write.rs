//! What programs write to files of a task.
//!
//! # Source
//! Linux 6.12 `fs/proc/base.c:comm_write`, `oom_score_adj_write`, `__set_oom_adj`,
//! `fs/proc/task_mmu.c:clear_refs_write`.

use super::super::names::Subject;
use crate::Kernel;
use crate::errno::Errno;

/// Longest name of a task.
const NAME_BYTES_MAX: usize = 15;
/// Most bytes of a number.
const NUMBER_BYTES_MAX: usize = 12;

/// Takes what a program writes to the file `name` of a task.
///
/// # Errors
/// `ESRCH`: it is gone. `EINVAL`: it does not fit, or the file takes nothing. `EACCES`: the value
/// is not for this caller.
pub(in super::super) fn write(
    kernel: &mut Kernel,
    subject: Subject,
    name: &str,
    bytes: &[u8],
) -> Result<(), Errno> {
    let pid = subject.pid(&kernel.roster()).ok_or(Errno::ESRCH)?;
    match name {
        "comm" => {
            let end = bytes.iter().position(|&b| b == 0 || b == b'\n').unwrap_or(bytes.len());
            let shares = kernel.process.pid == pid;
            if !shares {
                return Err(Errno::EINVAL);
            }
            let task = kernel.task_mut(subject.tid).ok_or(Errno::ESRCH)?;
            task.name = bytes[..end.min(NAME_BYTES_MAX)].to_vec();
            Ok(())
        }
        "oom_score_adj" => set_oom(kernel, pid, number(bytes)?, -1000..=1000, |value| value),
        "oom_adj" => {
            let scaled = |value| if value == 15 { 1000 } else { value * 1000 / 17 };
            set_oom(kernel, pid, number(bytes)?, -17..=15, scaled)
        }
        "clear_refs" => kernel.clear_references(subject, number(bytes)?),
        "loginuid" | "coredump_filter" | "timerslack_ns" | "sched" => number(bytes).map(|_| ()),
        _ => Err(Errno::EINVAL),
    }
}

/// A decimal number with blanks around it.
fn number(bytes: &[u8]) -> Result<i32, Errno> {
    let text = std::str::from_utf8(bytes.get(..bytes.len().min(NUMBER_BYTES_MAX)).unwrap_or(b""));
    let text = text.map_err(|_| Errno::EINVAL)?.trim_matches(|c: char| c.is_ascii_whitespace());
    text.trim_end_matches('\0').parse().map_err(|_| Errno::EINVAL)
}

fn set_oom(
    kernel: &mut Kernel,
    pid: u32,
    value: i32,
    allowed: std::ops::RangeInclusive<i32>,
    scaled: impl Fn(i32) -> i32,
) -> Result<(), Errno> {
    if !allowed.contains(&value) {
        return Err(Errno::EINVAL);
    }
    let value = scaled(value);
    let is_root = kernel.fs.credentials.uid == 0;
    let process = kernel.process_mut(pid).ok_or(Errno::ESRCH)?;
    // Less than it was at its start only root may give.
    if value < process.settings.oom_score_adj && !is_root {
        return Err(Errno::EACCES);
    }
    process.settings.oom_score_adj = value;
    Ok(())
}
