//! From a system call number to the function that does it.
//!
//! Each file of calls has its own table, `handler`; a number that no table knows returns `ENOSYS`
//! and is remembered for the report. A call never ends the run by itself: `exit` and fatal signals
//! mark the task, and the loop in `run.rs` looks. A call that has to wait returns
//! [`Errno::BLOCKED`] and is done again from its start when the task is woken (`wait.rs`).

pub mod file;
pub mod futex;
pub(crate) mod ldt;
pub mod limits;
pub mod memory;
pub mod misc;
pub mod names;
pub mod process;
pub mod rseq;
pub(crate) mod swap;
pub(crate) mod sysv;
pub mod time;
pub mod timers;
pub mod wait;

use std::collections::BTreeMap;

use machine::Event;

use crate::errno::{Errno, SysResult};
use crate::{Kernel, compat};

/// What does a system call: its six argument registers rdi rsi rdx r10 r8 r9 to the value of rax.
pub type Handler = fn(&mut Kernel, [u64; 6]) -> SysResult;

/// How often calls were made.
#[derive(Clone, Default, Debug)]
pub struct SyscallTally {
    /// All calls, also failed ones.
    pub count: u64,
    /// Calls by number.
    pub by_number: BTreeMap<u32, u64>,
    /// Numbers that are not implemented, with how often they were tried.
    pub unimplemented: BTreeMap<u32, u64>,
}

/// The function for `number`, if there is one.
pub fn handler(number: u64) -> Option<Handler> {
    file::handler(number)
        .or_else(|| memory::handler(number))
        .or_else(|| sysv::handler(number))
        .or_else(|| process::handler(number))
        .or_else(|| rseq::handler(number))
        .or_else(|| limits::handler(number))
        .or_else(|| ldt::handler(number))
        .or_else(|| time::handler(number))
        .or_else(|| timers::handler(number))
        .or_else(|| misc::handler(number))
        .or_else(|| swap::handler(number))
        .or_else(|| futex::handler(number))
        .or_else(|| wait::handler(number))
        .or_else(|| crate::signal::handler(number))
}

impl Kernel {
    /// Does the system call that the registers of the task ask for and puts its result into rax; or
    /// leaves them, if the task has to sleep in it or a signal interrupts it.
    pub(crate) fn dispatch(&mut self) {
        // The number is the low 32 bits, as in Linux since 5.18.
        let (number, args) = self.task.call();
        let is_i386 = self.is_in_i386_call();
        let log_number = if is_i386 { number | names::I386 } else { number };
        let handler = if is_i386 { None } else { handler(number.into()) };
        if self.task.wait.is_none() {
            let is_known = if is_i386 { compat::is_known(number) } else { handler.is_some() };
            self.tally.note(log_number, is_known);
        }
        let result = match handler {
            _ if is_i386 => self.call_i386(number, args),
            Some(handler) => handler(self, args),
            None => Err(Errno::ENOSYS),
        };
        self.vfs.forget_passing();
        self.wake_for_files();
        self.settle_objects();
        match result {
            Err(Errno::BLOCKED) => return,
            Err(errno @ (Errno::RESTART | Errno::RESTART_ALWAYS | Errno::RESTART_NO_HANDLER)) => {
                // It goes on waiting unless a handler runs; see `deliver_signals`.
                self.task.wait.get_or_insert_default();
                self.task.signals.interrupted = Some(errno);
            }
            result => {
                self.task.wait = None;
                let value = result.unwrap_or_else(Errno::as_register);
                self.task.regs.gpr[0] = self.result_register(value);
            }
        }
        let value = result.unwrap_or_else(Errno::as_register).cast_signed();
        let event = Event::Syscall { task: self.task.tid, number: log_number, result: value };
        self.hw.log.push(self.hw.time(), event);
    }
}

impl SyscallTally {
    fn note(&mut self, number: u32, is_implemented: bool) {
        self.count += 1;
        *self.by_number.entry(number).or_insert(0) += 1;
        if !is_implemented {
            *self.unimplemented.entry(number).or_insert(0) += 1;
        }
    }
}
