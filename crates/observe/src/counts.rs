//! Counts of events by kind.

use machine::{Event, FaultLabel, Stamped};

use crate::Observer;

/// How many events of each kind there were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts {
    /// Faults by label, in the order of [`FaultLabel::ALL`].
    pub faults: [u64; FaultLabel::ALL.len()],
    /// Faults that waited for I/O.
    pub major_faults: u64,
    /// Ranges mapped.
    pub maps: u64,
    /// Ranges unmapped.
    pub unmaps: u64,
    /// Changes of rights.
    pub protects: u64,
    /// Ranges moved.
    pub moves: u64,
    /// Advice given.
    pub advices: u64,
    /// System calls returned.
    pub syscalls: u64,
    /// System calls that returned an errno.
    pub syscall_errors: u64,
    /// Signals delivered or fatal.
    pub signals: u64,
    /// Programs loaded.
    pub execs: u64,
    /// Tasks ended.
    pub exits: u64,
    /// Tasks made (fork, clone).
    pub clones: u64,
    /// Context switches.
    pub switches: u64,
    /// Address spaces copied (fork).
    pub forks: u64,
    /// Pages shared by a fork that a store of either side copied.
    pub unshared_pages: u64,
    /// Pages of files that came into the page cache.
    pub pages_in: u64,
    /// Dirty pages of files that were stored.
    pub pages_written: u64,
    /// Bytes that a device copied.
    pub dma_bytes: u64,
}

impl EventCounts {
    /// Faults with one label.
    pub fn faults_of(&self, label: FaultLabel) -> u64 {
        self.faults[label as usize]
    }

    /// Faults of all labels, denied ones included.
    pub fn faults_total(&self) -> u64 {
        self.faults.iter().sum()
    }
}

impl Observer for EventCounts {
    fn observe(&mut self, stamped: &Stamped) {
        match stamped.event {
            Event::Fault { label, is_major, .. } => {
                self.faults[label as usize] += 1;
                self.major_faults += u64::from(is_major);
            }
            Event::Map { .. } => self.maps += 1,
            Event::Unmap { .. } => self.unmaps += 1,
            Event::Protect { .. } => self.protects += 1,
            Event::Move { .. } => self.moves += 1,
            Event::Advise { .. } => self.advices += 1,
            Event::Syscall { result, .. } => {
                self.syscalls += 1;
                self.syscall_errors += u64::from((-4095..0).contains(&result));
            }
            Event::Signal { .. } => self.signals += 1,
            Event::Exec { .. } => self.execs += 1,
            Event::Clone { .. } => self.clones += 1,
            Event::Switch { .. } => self.switches += 1,
            Event::Exit { .. } => self.exits += 1,
            Event::Fork { .. } => self.forks += 1,
            Event::Unshare { .. } => self.unshared_pages += 1,
            Event::PageIn { pages, .. } => self.pages_in += u64::from(pages),
            Event::Dma { bytes, .. } => self.dma_bytes += bytes,
            Event::WriteBack { pages, .. } => self.pages_written += u64::from(pages),
        }
    }
}

#[cfg(test)]
mod tests {
    use machine::Side;

    use super::*;

    fn stamped(event: Event) -> Stamped {
        Stamped { time: 1, event }
    }

    #[test]
    fn faults_are_counted_under_their_label() {
        let mut counts = EventCounts::default();
        for label in FaultLabel::ALL {
            let fault = Event::Fault { mm: 1, addr: 4096, label, code: 6, is_major: false };
            counts.observe(&stamped(fault));
        }
        assert!(FaultLabel::ALL.iter().all(|label| counts.faults_of(*label) == 1));
        assert_eq!(counts.faults_total(), 9);
        assert_eq!(counts.major_faults, 0);
    }

    #[test]
    fn only_errno_results_are_errors() {
        let mut counts = EventCounts::default();
        for result in [0, 5, -1, -4095, -4096, i64::MIN] {
            counts.observe(&stamped(Event::Syscall { task: 1, number: 0, result }));
        }
        assert_eq!((counts.syscalls, counts.syscall_errors), (6, 2));
    }

    #[test]
    fn every_kind_of_event_has_its_counter() {
        let mut counts = EventCounts::default();
        let events = [
            Event::Map { mm: 1, start: 0, bytes: 1, rights: 3 },
            Event::Unmap { mm: 1, start: 0, bytes: 1 },
            Event::Protect { mm: 1, start: 0, bytes: 1, rights: 1 },
            Event::Move { mm: 1, from: 0, to: 4096, bytes: 1 },
            Event::Advise { mm: 1, start: 0, bytes: 1, advice: 4 },
            Event::Signal { task: 1, number: 11, code: 1, addr: 0 },
            Event::Exec { task: 1, mm: 1, entry: 0 },
            Event::Exit { task: 1, status: 0 },
            Event::Dma { from: 0, to: 4096, bytes: 7 },
            Event::Fork { mm: 1, child: 2, entries: 3, table_frames: 4 },
            Event::Unshare { mm: 2, addr: 4096, side: Side::Child },
        ];
        counts.observe_all(&events.map(stamped));
        let expected = EventCounts {
            maps: 1,
            unmaps: 1,
            protects: 1,
            moves: 1,
            advices: 1,
            signals: 1,
            execs: 1,
            exits: 1,
            forks: 1,
            unshared_pages: 1,
            dma_bytes: 7,
            ..EventCounts::default()
        };
        assert_eq!(counts, expected);
    }
}
