//! The flat event log: what happened to memory, in order, with a hash over all of it.
//!
//! Faults, mapping calls, frames, system calls and signals are events; TLB hits and accesses are
//! plain counters elsewhere. The log does not interpret events: readers do (crate `observe`).
//!
//! Invariants
//! 1. The hash covers every pushed event and its stamp, whether or not events are kept.
//! 2. Stamps never decrease.

use alloc::vec::Vec;

/// How a fault was resolved, or why it was not: the label of [`Event::Fault`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum FaultLabel {
    /// Zero page or fresh zeroed frame of anonymous memory.
    Zero,
    /// Page of a file or shared object mapped from the page cache.
    File,
    /// Copied to a private frame.
    Cow,
    /// Made writable in place: the last owner.
    Reuse,
    /// Brought back from swap.
    SwapIn,
    /// Shared page made writable (dirty tracking).
    MkWrite,
    /// The stack grew by this fault.
    Stack,
    /// The entry already allowed the access.
    Spurious,
    /// Refused: a signal for the program.
    Denied,
}

impl FaultLabel {
    /// Every label, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Zero,
        Self::File,
        Self::Cow,
        Self::Reuse,
        Self::SwapIn,
        Self::MkWrite,
        Self::Stack,
        Self::Spurious,
        Self::Denied,
    ];

    /// The label as reports and traces spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Zero => "zero",
            Self::File => "file",
            Self::Cow => "cow",
            Self::Reuse => "reuse",
            Self::SwapIn => "swap_in",
            Self::MkWrite => "mk_write",
            Self::Stack => "stack",
            Self::Spurious => "spurious",
            Self::Denied => "denied",
        }
    }
}

/// A side of a fork, as a page that it shares sees it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Side {
    /// The mapping of the page did not come by fork.
    Parent,
    /// The mapping of the page came by fork.
    Child,
}

/// One thing that happened to memory.
///
/// `mm` is the number of the address space; addresses and lengths are bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Event {
    /// A page fault was handled.
    Fault {
        /// Address space.
        mm: u32,
        /// Faulting byte address.
        addr: u64,
        /// How it ended.
        label: FaultLabel,
        /// The hardware's error code.
        code: u8,
        /// Whether it had to wait for I/O.
        is_major: bool,
    },
    /// A range was mapped (mmap, brk growth, exec).
    Map {
        /// Address space.
        mm: u32,
        /// First byte.
        start: u64,
        /// Length in bytes.
        bytes: u64,
        /// Rights as PROT_ bits.
        rights: u8,
    },
    /// A range was unmapped.
    Unmap {
        /// Address space.
        mm: u32,
        /// First byte.
        start: u64,
        /// Length in bytes.
        bytes: u64,
    },
    /// Rights of a range changed.
    Protect {
        /// Address space.
        mm: u32,
        /// First byte.
        start: u64,
        /// Length in bytes.
        bytes: u64,
        /// Rights as PROT_ bits.
        rights: u8,
    },
    /// A range moved (mremap).
    Move {
        /// Address space.
        mm: u32,
        /// Old first byte.
        from: u64,
        /// New first byte.
        to: u64,
        /// Length in bytes.
        bytes: u64,
    },
    /// Advice was given.
    Advise {
        /// Address space.
        mm: u32,
        /// First byte.
        start: u64,
        /// Length in bytes.
        bytes: u64,
        /// The MADV_ number.
        advice: u8,
    },
    /// An address space was copied (fork).
    Fork {
        /// Address space of the parent.
        mm: u32,
        /// Address space of the child.
        child: u32,
        /// Leaf entries that were copied: the pages that both share now.
        entries: u64,
        /// Frames of page tables that the child got, its root excepted.
        table_frames: u64,
    },
    /// A store made a copy of a page that was shared by a fork. Follows the fault of the store.
    Unshare {
        /// Address space that made the store.
        mm: u32,
        /// Byte address of the store.
        addr: u64,
        /// On which side of the fork that is.
        side: Side,
    },
    /// Pages of a file came into the page cache.
    PageIn {
        /// Number of the file.
        object: u32,
        /// Index of the first page.
        first: u64,
        /// How many pages.
        pages: u32,
        /// How many of them had to be read from the device.
        device_pages: u32,
    },
    /// Dirty pages of a file were stored.
    WriteBack {
        /// Number of the file.
        object: u32,
        /// Index of the first page.
        first: u64,
        /// How many pages.
        pages: u32,
    },
    /// A system call returned.
    Syscall {
        /// Task number.
        task: u32,
        /// System call number of x86-64.
        number: u32,
        /// Returned value, negative errno on failure. Never a host value.
        result: i64,
    },
    /// A signal was delivered to a task, or killed it.
    Signal {
        /// Task number.
        task: u32,
        /// Signal number.
        number: u8,
        /// `si_code`.
        code: i32,
        /// `si_addr`, or 0.
        addr: u64,
    },
    /// A program was loaded.
    Exec {
        /// Task number.
        task: u32,
        /// Address space.
        mm: u32,
        /// First instruction.
        entry: u64,
    },
    /// A task was made by another.
    Clone {
        /// Task number of the maker.
        parent: u32,
        /// Task number of the new one.
        child: u32,
        /// Address space of the new one: another, or for threads the same.
        mm: u32,
    },
    /// The CPU went from one task to another.
    Switch {
        /// Task number before.
        from: u32,
        /// Task number after.
        to: u32,
        /// Address space after.
        mm: u32,
    },
    /// A device copied by itself, by physical addresses.
    Dma {
        /// First byte read.
        from: u64,
        /// First byte written.
        to: u64,
        /// Length in bytes.
        bytes: u64,
    },
    /// A task ended.
    Exit {
        /// Task number.
        task: u32,
        /// Wait status as `wait4` reports it.
        status: u32,
    },
}

/// An event with the virtual time at which it happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stamped {
    /// Data accesses made by the CPU before the event.
    pub time: u64,
    /// What happened.
    pub event: Event,
}

/// Whether the log keeps events for a reader or only hashes them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Keep {
    /// Hash only.
    HashOnly,
    /// Hash, and keep until [`EventLog::drain`].
    Events,
}

/// The log of one machine.
#[derive(Debug)]
pub struct EventLog {
    hash: u64,
    count: u64,
    keep: Keep,
    pending: Vec<Stamped>,
}

impl Default for EventLog {
    fn default() -> Self {
        Self::new(Keep::HashOnly)
    }
}

impl EventLog {
    /// An empty log.
    pub const fn new(keep: Keep) -> Self {
        Self { hash: 0xcbf2_9ce4_8422_2325, count: 0, keep, pending: Vec::new() }
    }

    /// Appends one event that happened after `time` data accesses.
    pub fn push(&mut self, time: u64, event: Event) {
        for word in event.words() {
            self.mix(word);
        }
        self.mix(time);
        self.count += 1;
        if self.keep == Keep::Events {
            self.pending.push(Stamped { time, event });
        }
    }

    /// The hash over all events so far.
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// How many events were pushed so far.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Events kept and not yet drained.
    pub fn pending(&self) -> &[Stamped] {
        &self.pending
    }

    /// Hands out the kept events and forgets them; the hash stays.
    pub fn drain(&mut self) -> alloc::vec::Drain<'_, Stamped> {
        self.pending.drain(..)
    }

    fn mix(&mut self, word: u64) {
        self.hash = (self.hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

impl Event {
    /// The event as four words: what the hash covers.
    pub fn words(&self) -> [u64; 4] {
        let pair = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
        match *self {
            Self::Fault { mm, addr, label, code, is_major } => {
                let detail =
                    u64::from(label as u8) << 16 | u64::from(code) << 8 | u64::from(is_major);
                [1, pair(mm, 0), addr, detail]
            }
            Self::Map { mm, start, bytes, rights } => [2, pair(mm, rights.into()), start, bytes],
            Self::Unmap { mm, start, bytes } => [3, pair(mm, 0), start, bytes],
            Self::Protect { mm, start, bytes, rights } => {
                [4, pair(mm, rights.into()), start, bytes]
            }
            Self::Move { mm, from, to, bytes } => [5 | u64::from(mm) << 8, from, to, bytes],
            Self::Advise { mm, start, bytes, advice } => [6, pair(mm, advice.into()), start, bytes],
            Self::Syscall { task, number, result } => [7, pair(task, number), result as u64, 0],
            Self::Signal { task, number, code, addr } => {
                [8, pair(task, number.into()), code as u64, addr]
            }
            Self::Exec { task, mm, entry } => [9, pair(task, mm), entry, 0],
            Self::Exit { task, status } => [10, pair(task, status), 0, 0],
            Self::Clone { parent, child, mm } => [13, pair(parent, child), mm.into(), 0],
            Self::Switch { from, to, mm } => [14, pair(from, to), mm.into(), 0],
            Self::Fork { mm, child, entries, table_frames } => {
                [11, pair(mm, child), entries, table_frames]
            }
            Self::Unshare { mm, addr, side } => [12, pair(mm, side as u32), addr, 0],
            Self::PageIn { object, first, pages, device_pages } => {
                [15, pair(object, 0), first, pair(pages, device_pages)]
            }
            Self::Dma { from, to, bytes } => [17, from, to, bytes],
            Self::WriteBack { object, first, pages } => [16, pair(object, pages), first, 0],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_sees_order_and_time() {
        let event = |start| Event::Unmap { mm: 1, start, bytes: 4096 };
        let mut forward = EventLog::default();
        forward.push(1, event(0));
        forward.push(1, event(4096));
        let mut backward = EventLog::default();
        backward.push(1, event(4096));
        backward.push(1, event(0));
        let mut later = EventLog::default();
        later.push(1, event(0));
        later.push(2, event(4096));
        assert_ne!(forward.hash(), backward.hash());
        assert_ne!(forward.hash(), later.hash());
    }

    #[test]
    fn kept_events_come_out_once() {
        let mut log = EventLog::new(Keep::Events);
        log.push(7, Event::Exit { task: 1, status: 0 });
        assert_eq!(log.drain().count(), 1);
        assert_eq!(log.drain().count(), 0);
        assert_eq!(log.count(), 1);
    }
}
