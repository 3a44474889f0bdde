//! From a system call number to the function that does it.
//!
//! Each file of calls has its own table, `handler`; a number that no table knows returns `ENOSYS`
//! and is remembered for the report. A call never ends the run by itself: `exit` and fatal signals
//! mark the task, and the loop in `run.rs` looks.

pub mod file;
pub mod limits;
pub mod memory;
pub mod misc;
pub mod names;
pub mod process;
pub mod time;

use std::collections::BTreeMap;

use machine::Event;

use crate::Kernel;
use crate::errno::{Errno, SysResult};

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
        .or_else(|| process::handler(number))
        .or_else(|| limits::handler(number))
        .or_else(|| time::handler(number))
        .or_else(|| misc::handler(number))
        .or_else(|| crate::signal::handler(number))
}

impl Kernel {
    /// Does the system call that the registers of the task ask for and puts its result into rax.
    pub(crate) fn dispatch(&mut self) {
        let regs = &self.task.regs;
        let number = regs.gpr[0];
        let args = [regs.gpr[7], regs.gpr[6], regs.gpr[2], regs.gpr[10], regs.gpr[8], regs.gpr[9]];
        // The number is the low 32 bits, as in Linux since 5.18.
        let number = number & 0xffff_ffff;
        let log_number = u32::try_from(number).unwrap_or(u32::MAX);
        self.tally.count += 1;
        *self.tally.by_number.entry(log_number).or_insert(0) += 1;
        let result = match handler(number) {
            Some(handler) => handler(self, args),
            None => {
                *self.tally.unimplemented.entry(log_number).or_insert(0) += 1;
                Err(Errno::ENOSYS)
            }
        };
        let value = result.unwrap_or_else(Errno::as_register);
        self.task.regs.gpr[0] = value;
        let event =
            Event::Syscall { task: self.task.pid, number: log_number, result: value.cast_signed() };
        self.hw.log.push(self.hw.time(), event);
    }
}
