//! Who waits for what when nothing can wake any task: what is said of a run that is stuck.
//!
//! # Source
//! Linux has no such report; the words are those of man 2 of the calls.

use std::fmt;

use crate::Kernel;
use crate::abi::Abi;
use crate::outcome::Outcome;
use crate::process::Life;
use crate::syscall::futex::{FUTEX_TID_MASK, FutexKey};
use crate::syscall::names;
use crate::task::{State, Task};
use crate::wait::Channel;

/// Most tasks that are told of by name.
const TOLD_MAX: usize = 8;

/// All tasks of a run that is stuck.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Deadlock {
    /// How many wait.
    pub count: usize,
    /// The first few, by number.
    pub told: Vec<Waiter>,
}

/// One task that waits for ever.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Waiter {
    /// Its number.
    pub tid: u32,
    /// Its name, as it named itself.
    pub name: Vec<u8>,
    /// The number of the system call that it is in.
    pub number: u32,
    /// The first argument of the call.
    pub argument: u64,
    /// What it waits for.
    pub cause: Cause,
}

/// What a task waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// A word of memory, and the task that holds the lock there, if the word says so.
    Futex {
        /// Its address.
        addr: u64,
        /// Who holds it.
        owner: Option<u32>,
    },
    /// A child ends or stops.
    Child,
    /// The child of a `vfork` runs another program or ends.
    VforkChild(u32),
    /// Somebody reads, writes or closes at the other end.
    OtherEnd,
    /// A set of semaphores of this number changes.
    Semaphores(u32),
    /// Something is put into the message queue of this number, or taken out.
    Messages(u32),
    /// A signal.
    Signal,
    /// It was stopped by this signal; SIGCONT would let it go on.
    Stopped(u8),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Futex { addr, owner: None } => write!(f, "the futex at {addr:#x}"),
            Self::Futex { addr, owner: Some(owner) } => {
                write!(f, "the futex at {addr:#x} that {owner} holds")
            }
            Self::Child => write!(f, "a child"),
            Self::VforkChild(tid) => write!(f, "its child {tid}"),
            Self::OtherEnd => write!(f, "the other end"),
            Self::Semaphores(id) => write!(f, "the semaphores {id}"),
            Self::Messages(id) => write!(f, "the message queue {id}"),
            Self::Signal => write!(f, "a signal"),
            Self::Stopped(_) => write!(f, "SIGCONT"),
        }
    }
}

impl fmt::Display for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = String::from_utf8_lossy(&self.name);
        write!(f, "{} {name} ", self.tid)?;
        match self.cause {
            Cause::Stopped(signal) => write!(f, "stopped by signal {signal}")?,
            Cause::OtherEnd => {
                let descriptor = self.argument & 0xffff_ffff;
                write!(f, "in {} of descriptor {descriptor}", names::name(self.number))?;
            }
            _ => write!(f, "in {}", names::name(self.number))?,
        }
        write!(f, " waits for {}", self.cause)
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, waiter) in self.told.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{waiter}")?;
        }
        match self.count.saturating_sub(self.told.len()) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl Kernel {
    /// Ends the run because no task can run and nothing can wake one.
    pub(crate) fn end_stuck(&mut self) {
        let mut tids: Vec<u32> = self.tasks.tasks.keys().copied().collect();
        if self.task.state != State::Dead {
            tids.push(self.task.tid);
        }
        tids.sort_unstable();
        let count = tids.len();
        tids.truncate(TOLD_MAX);
        let told: Vec<Waiter> = tids.into_iter().filter_map(|tid| self.waiter(tid)).collect();
        let number = told.first().map_or(0, |waiter| waiter.number);
        self.deadlock = Deadlock { count, told };
        self.outcome.get_or_insert(Outcome::Stuck { number });
    }

    fn waiter(&mut self, tid: u32) -> Option<Waiter> {
        let task = self.task_of(tid)?;
        let (number, args) = task.call();
        let (name, argument) = (task.name.clone(), args[0]);
        let is_i386 = task.call_abi == Abi::I386;
        let mut cause = self.cause(task);
        if let Cause::Futex { addr, owner } = &mut cause {
            // LOCK_PI and LOCK_PI2 keep the owner in the word.
            let is_lock = matches!(args[1] & 0x7f, 6 | 13)
                && matches!((is_i386, number), (false, 202) | (true, 240 | 422));
            let addr = *addr;
            *owner = if is_lock { self.owner_of(tid, addr) } else { None };
        }
        let number = if is_i386 { number | names::I386 } else { number };
        Some(Waiter { tid, name, number, argument, cause })
    }

    fn cause(&self, task: &Task) -> Cause {
        let life = self.process_of(task.pid).map(|process| process.life);
        if let (State::Stopped, Some(Life::Stopped(signal, _))) = (task.state, life) {
            return Cause::Stopped(signal);
        }
        match task.wait.as_ref().and_then(|wait| wait.channels().first()) {
            Some(Channel::Semaphores(id)) => Cause::Semaphores(*id),
            Some(Channel::Messages(id)) => Cause::Messages(*id),
            Some(Channel::Futex(FutexKey::Private(_, addr) | FutexKey::Unshared(_, addr))) => {
                Cause::Futex { addr: *addr, owner: None }
            }
            Some(Channel::Futex(FutexKey::Shared(..))) => {
                Cause::Futex { addr: task.regs.gpr[7], owner: None }
            }
            Some(Channel::Children(_)) => Cause::Child,
            Some(Channel::Vfork(tid)) => Cause::VforkChild(*tid),
            Some(_) => Cause::OtherEnd,
            None => Cause::Signal,
        }
    }

    /// Who holds the lock whose word is at `addr` of a task's address space.
    fn owner_of(&mut self, tid: u32, addr: u64) -> Option<u32> {
        let word = self.word_of(tid, addr)?;
        Some(word & FUTEX_TID_MASK).filter(|owner| *owner != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::{Cause, Deadlock, Waiter};

    #[test]
    fn one_line_says_who_waits_for_what() {
        let waiter =
            |tid, number, cause| Waiter { tid, name: b"prog".to_vec(), number, argument: 5, cause };
        let told = vec![
            waiter(1000, 61, Cause::Child),
            waiter(1001, 202, Cause::Futex { addr: 0x40_4010, owner: Some(1000) }),
            waiter(1002, 0, Cause::OtherEnd),
            waiter(1003, 34, Cause::Stopped(19)),
        ];
        assert_eq!(
            Deadlock { count: 7, told }.to_string(),
            "1000 prog in wait4 waits for a child; \
             1001 prog in futex waits for the futex at 0x404010 that 1000 holds; \
             1002 prog in read of descriptor 5 waits for the other end; \
             1003 prog stopped by signal 19 waits for SIGCONT; and 3 more"
        );
    }
}
