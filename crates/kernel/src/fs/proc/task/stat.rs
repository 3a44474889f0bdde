//! `/proc/PID/stat` and `statm`: a task in numbers (PROC-5, PROC-6).

use machine::PAGE_BYTES;

use super::status::code_pages;
use super::{NS_PER_TICK, Shown};
use crate::process::Life;
use crate::task::State;

/// Index of `RLIMIT_RSS`.
const LIMIT_RSS: usize = 5;
/// `PF_FORKNOEXEC`: it has not run `execve` since its fork.
const FLAG_NOT_EXECUTED: u64 = 0x40;
/// `PF_RANDOMIZE`.
const FLAG_RANDOMIZE: u64 = 0x40_0000;
/// `PF_EXITING`.
const FLAG_EXITING: u64 = 4;
/// Priority of a task with nice value 0.
const PRIORITY: i64 = 20;
/// Bits of a signal mask that are shown here.
const SIGNAL_BITS: u64 = 0x7fff_ffff;

pub(super) fn statm(shown: &Shown<'_>) -> String {
    let Some(mm) = shown.mm else { return "0 0 0 0 0 0 0\n".to_string() };
    let rss = mm.rss(&shown.kernel.memory);
    let totals = mm.totals();
    let shared = rss.file_pages + rss.shmem_pages;
    let data = totals.data_pages + totals.stack_pages;
    let text = code_pages(mm);
    format!("{} {} {shared} {text} 0 {data} 0\n", totals.total_pages, rss.total_pages())
}

/// The 52 fields, the name as it is.
pub(super) fn text(shown: &Shown<'_>) -> Vec<u8> {
    let mut text = format!("{} (", shown.subject.tid).into_bytes();
    text.extend_from_slice(shown.name());
    text.extend_from_slice(b") ");
    text.push(u8::try_from(shown.state().0).unwrap_or(b'?'));
    let fields: Vec<String> = [identity(shown), times(shown), memory(shown), rest(shown)].concat();
    for field in fields {
        text.push(b' ');
        text.extend_from_slice(field.as_bytes());
    }
    text.push(b'\n');
    text
}

fn all<const COUNT: usize>(values: [u64; COUNT]) -> Vec<String> {
    values.iter().map(u64::to_string).collect()
}

/// Fields 4 to 9: parent, group, session, terminal, its foreground group, flags.
fn identity(shown: &Shown<'_>) -> Vec<String> {
    let process = shown.process;
    let terminal = shown.kernel.terminal_of(process.session);
    let (number, foreground) = match terminal {
        Some((number, group)) => (number.to_string(), group.to_string()),
        None => ("0".to_string(), "-1".to_string()),
    };
    let mut flags = FLAG_RANDOMIZE;
    if !process.has_executed {
        flags |= FLAG_NOT_EXECUTED;
    }
    if shown.task.is_none() {
        flags |= FLAG_EXITING;
    }
    let mut fields = all([process.parent, process.group, process.session].map(u64::from));
    fields.extend([number, foreground, flags.to_string()]);
    fields
}

/// Fields 10 to 22: faults, times, priority, threads, start.
fn times(shown: &Shown<'_>) -> Vec<String> {
    let children = &shown.process.usage_of_children;
    let (minor, major) = shown.faults();
    let nice = i64::from(shown.process.settings.nice);
    let start_ns = match shown.task {
        Some(task) if task.tid != shown.process.pid => task.start_ns,
        _ => shown.process.start_ns,
    };
    let mut fields = all([
        minor,
        children.minor_faults,
        major,
        children.major_faults,
        shown.cpu_ns() / NS_PER_TICK,
        0,
        children.cpu_ns / NS_PER_TICK,
        0,
    ]);
    fields.extend([(PRIORITY + nice).to_string(), nice.to_string()]);
    fields.extend(all([shown.thread_count() as u64, 0, start_ns / NS_PER_TICK]));
    fields
}

/// Fields 23 to 30: sizes and places in memory.
fn memory(shown: &Shown<'_>) -> Vec<String> {
    let limit = shown.process.limits[LIMIT_RSS].soft;
    let Some(mm) = shown.mm else { return all([0, 0, limit, 0, 0, 0, 0, 0]) };
    let layout = &mm.layout;
    all([
        mm.totals().total_pages * PAGE_BYTES,
        mm.rss(&shown.kernel.memory).total_pages(),
        limit,
        layout.start_code.as_u64(),
        layout.end_code.as_u64(),
        layout.start_stack.as_u64(),
        0,
        0,
    ])
}

/// Fields 31 to 52: signals, and places in memory again.
fn rest(shown: &Shown<'_>) -> Vec<String> {
    let process = shown.process;
    let own = shown.task.map(|task| &task.signals);
    let (ignored, caught) = process.actions.ignored_and_caught();
    let pending = own.map_or(0, |own| own.pending.bits());
    let sleeps = shown.task.is_some_and(|task| task.state == State::Blocked);
    let mut fields = all([
        pending & SIGNAL_BITS,
        own.map_or(0, |own| own.mask) & SIGNAL_BITS,
        ignored & SIGNAL_BITS,
        caught & SIGNAL_BITS,
        u64::from(sleeps),
        0,
        0,
        process.exit_signal.into(),
        // Processor, real-time priority, policy, delays, time of virtual machines.
        0,
        0,
        0,
        0,
        0,
        0,
    ]);
    fields.extend(match shown.mm {
        Some(mm) => {
            let layout = &mm.layout;
            all([
                layout.start_data,
                layout.end_data,
                layout.start_brk,
                layout.arg_start,
                layout.arg_end,
                layout.env_start,
                layout.env_end,
            ]
            .map(machine::VirtAddr::as_u64))
        }
        None => all([0; 7]),
    });
    let status = match process.life {
        Life::Zombie(outcome) => outcome.wait_status(),
        _ => 0,
    };
    fields.push(status.to_string());
    fields
}
