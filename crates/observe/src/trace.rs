//! The event log as text, one line for each event.
//!
//! A line starts with the virtual time (data accesses so far), then the kind, then `key=value`
//! pairs: easy to read, to `grep` and to `diff`. Addresses and lengths are hexadecimal bytes.

use core::fmt;
use std::io::{self, Write};

use machine::{Event, Side, Stamped};

use crate::Observer;

/// One event as its line of text, without the newline.
pub struct Line<'a>(pub &'a Stamped);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.0.time)?;
        match self.0.event {
            Event::Fault { mm, addr, label, code, is_major } => {
                let weight = if is_major { "major" } else { "minor" };
                let label = label.name();
                write!(f, "fault mm={mm} addr={addr:#x} kind={label} code={code:#x} {weight}")
            }
            Event::Map { mm, start, bytes, rights } => {
                write!(f, "map mm={mm} start={start:#x} bytes={bytes:#x} rights=")?;
                rights_text(f, rights)
            }
            Event::Unmap { mm, start, bytes } => {
                write!(f, "unmap mm={mm} start={start:#x} bytes={bytes:#x}")
            }
            Event::Protect { mm, start, bytes, rights } => {
                write!(f, "protect mm={mm} start={start:#x} bytes={bytes:#x} rights=")?;
                rights_text(f, rights)
            }
            Event::Move { mm, from, to, bytes } => {
                write!(f, "move mm={mm} from={from:#x} to={to:#x} bytes={bytes:#x}")
            }
            Event::Advise { mm, start, bytes, advice } => {
                write!(f, "advise mm={mm} start={start:#x} bytes={bytes:#x} advice={advice}")
            }
            Event::Syscall { task, number, result } => {
                write!(f, "syscall task={task} number={number} result=")?;
                match result {
                    -4095..=4095 => write!(f, "{result}"),
                    _ => write!(f, "{result:#x}"),
                }
            }
            Event::Signal { task, number, code, addr } => {
                write!(f, "signal task={task} number={number} code={code} addr={addr:#x}")
            }
            Event::Exec { task, mm, entry } => {
                write!(f, "exec task={task} mm={mm} entry={entry:#x}")
            }
            Event::Clone { parent, child, mm } => {
                write!(f, "clone parent={parent} child={child} mm={mm}")
            }
            Event::Switch { from, to, mm } => write!(f, "switch from={from} to={to} mm={mm}"),
            Event::Dma { from, to, bytes } => {
                write!(f, "dma from={from:#x} to={to:#x} bytes={bytes:#x}")
            }
            Event::Exit { task, status } => write!(f, "exit task={task} status={status:#x}"),
            Event::Fork { mm, child, entries, table_frames } => {
                write!(f, "fork mm={mm} child={child} entries={entries} tables={table_frames}")
            }
            Event::Unshare { mm, addr, side } => {
                let side = match side {
                    Side::Parent => "parent",
                    Side::Child => "child",
                };
                write!(f, "unshare mm={mm} addr={addr:#x} side={side}")
            }
            Event::PageIn { object, first, pages, device_pages } => {
                write!(f, "page-in object={object} first={first:#x} pages={pages}")?;
                write!(f, " device={device_pages}")
            }
            Event::WriteBack { object, first, pages } => {
                write!(f, "write-back object={object} first={first:#x} pages={pages}")
            }
        }
    }
}

/// Writes the PROT_ bits as `rwx` with dashes.
fn rights_text(f: &mut fmt::Formatter<'_>, rights: u8) -> fmt::Result {
    for (bit, letter) in [(1, 'r'), (2, 'w'), (4, 'x')] {
        let shown = if rights & bit != 0 { letter } else { '-' };
        write!(f, "{shown}")?;
    }
    Ok(())
}

/// Writes each event as a line.
///
/// The first failure to write is kept and ends the writing; [`TraceWriter::finish`] returns it.
#[derive(Debug)]
pub struct TraceWriter<W> {
    out: W,
    failure: Option<io::Error>,
}

impl<W: Write> TraceWriter<W> {
    /// A writer of lines to `out`, which should be buffered.
    pub fn new(out: W) -> Self {
        Self { out, failure: None }
    }

    /// Writes out what is buffered.
    ///
    /// # Errors
    /// The first failure of any write.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.failure.take() {
            Some(failure) => Err(failure),
            None => self.out.flush(),
        }
    }
}

impl<W: Write> Observer for TraceWriter<W> {
    fn observe(&mut self, stamped: &Stamped) {
        if self.failure.is_none() {
            self.failure = writeln!(self.out, "{}", Line(stamped)).err();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use machine::FaultLabel;

    fn line(event: Event) -> String {
        Line(&Stamped { time: 42, event }).to_string()
    }

    #[test]
    fn lines_read_as_time_kind_and_pairs() {
        let fault = Event::Fault {
            mm: 1,
            addr: 0x7fff_f7ff_7010,
            label: FaultLabel::Zero,
            code: 6,
            is_major: false,
        };
        assert_eq!(line(fault), "42 fault mm=1 addr=0x7ffff7ff7010 kind=zero code=0x6 minor");
        let map = Event::Map { mm: 1, start: 0x40_0000, bytes: 0x2000, rights: 5 };
        assert_eq!(line(map), "42 map mm=1 start=0x400000 bytes=0x2000 rights=r-x");
        let fork = Event::Fork { mm: 1, child: 2, entries: 30, table_frames: 4 };
        assert_eq!(line(fork), "42 fork mm=1 child=2 entries=30 tables=4");
        let unshare = Event::Unshare { mm: 2, addr: 0x1000, side: Side::Child };
        assert_eq!(line(unshare), "42 unshare mm=2 addr=0x1000 side=child");
        let call = Event::Syscall { task: 7, number: 9, result: -12 };
        assert_eq!(line(call), "42 syscall task=7 number=9 result=-12");
    }

    #[test]
    fn the_writer_writes_one_line_for_each_event() {
        let mut text = Vec::new();
        let mut writer = TraceWriter::new(&mut text);
        writer.observe(&Stamped { time: 1, event: Event::Exec { task: 1, mm: 1, entry: 16 } });
        writer.observe(&Stamped { time: 2, event: Event::Exit { task: 1, status: 0x700 } });
        writer.finish().expect("a vector takes every write");
        assert_eq!(text, b"1 exec task=1 mm=1 entry=0x10\n2 exit task=1 status=0x700\n");
    }

    #[test]
    fn a_failed_write_is_reported_at_the_end() {
        let mut full: &mut [u8] = &mut [0; 4];
        let mut writer = TraceWriter::new(&mut full);
        writer.observe(&Stamped { time: 1, event: Event::Exit { task: 1, status: 0 } });
        assert!(writer.finish().is_err());
        assert!(writer.finish().is_ok());
    }
}
