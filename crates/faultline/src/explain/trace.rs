//! What a run did to a page, read from its trace (`faultline run --trace FILE`).
//!
//! Follows the address spaces of one process: the one it got by clone or fork, and the one of each
//! exec. Ranges are kept as the events say; a range not mapped when the process ended is said to
//! be unmapped. Does not know frames: they are no part of the trace.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;

use machine::{PAGE_BYTES, PageSize, VirtAddr};
use serde::Serialize;

use crate::failure::Failure;

/// Events of the page that are kept; there can be any number.
const EVENTS_MAX: usize = 200;

/// What happened to the page.
#[derive(Debug, Serialize)]
pub(super) struct History {
    /// The process.
    pub(super) pid: u64,
    /// Its last address space in the trace.
    pub(super) mm: u64,
    /// The range that holds the page at the end: first byte, length, rights.
    pub(super) range: Option<RangeView>,
    /// Page faults at the page.
    pub(super) faults: u64,
    /// The events that touched the page, in order.
    pub(super) events: Vec<String>,
    /// Events that are not listed.
    pub(super) events_left_out: u64,
}

/// A mapped range.
#[derive(Clone, Debug, Serialize)]
pub(super) struct RangeView {
    pub(super) first: String,
    pub(super) last: String,
    pub(super) rights: String,
}

/// Ranges of one address space: first byte, byte behind, rights.
type Ranges = Vec<(u64, u64, String)>;

/// What has been read so far.
struct Reader {
    page: u64,
    pid: Option<u64>,
    mm: Option<u64>,
    spaces: BTreeMap<u64, Ranges>,
    history: History,
}

impl History {
    /// What the trace says of the page at `addr` in process `pid`, or in the first one.
    ///
    /// # Errors
    /// Exit code 125: the file cannot be read, is no trace, or has no such process.
    pub(super) fn read(path: &Path, pid: Option<u64>, addr: VirtAddr) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::own(format!("{}: {why}", path.display()));
        let file = File::open(path).map_err(|error| wrong(error.to_string()))?;
        let empty = Self {
            pid: pid.unwrap_or(0),
            mm: 0,
            range: None,
            faults: 0,
            events: Vec::new(),
            events_left_out: 0,
        };
        let page = addr.align_down(PageSize::K4).as_u64();
        let mut reader = Reader { page, pid, mm: None, spaces: BTreeMap::new(), history: empty };
        for (number, line) in BufReader::new(file).lines().enumerate() {
            let line = line.map_err(|error| wrong(error.to_string()))?;
            reader
                .line(&line)
                .ok_or_else(|| wrong(format!("line {}: not a line of a trace", number + 1)))?;
        }
        let Some(mm) = reader.mm else {
            let who = pid.map_or("a process".to_owned(), |pid| format!("process {pid}"));
            return Err(wrong(format!("{who} starts nowhere in this trace")));
        };
        let ranges = reader.spaces.remove(&mm).unwrap_or_default();
        let holder = ranges.iter().find(|range| (range.0..range.1).contains(&page));
        reader.history.range = holder.map(|(start, end, rights)| RangeView {
            first: format!("{start:#x}"),
            last: format!("{:#x}", end - 1),
            rights: rights.clone(),
        });
        reader.history.mm = mm;
        Ok(reader.history)
    }
}

impl Reader {
    /// Takes one line in; `None` if it has another form.
    fn line(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_whitespace();
        words.next()?.parse::<u64>().ok()?;
        let kind = words.next()?;
        let fields: BTreeMap<&str, &str> = words.filter_map(|word| word.split_once('=')).collect();
        let field = |name: &str| number(fields.get(name)?);
        match kind {
            "exec" => self.owner(field("task")?, field("mm")?, line),
            "clone" => self.owner(field("child")?, field("mm")?, line),
            "fork" => {
                let ranges = self.spaces.get(&field("mm")?).cloned().unwrap_or_default();
                self.spaces.insert(field("child")?, ranges);
            }
            "map" | "protect" => {
                let rights = (*fields.get("rights")?).to_owned();
                let range = (field("start")?, field("bytes")?);
                self.change(field("mm")?, range, Some((rights, kind == "protect")), line);
            }
            "unmap" => self.change(field("mm")?, (field("start")?, field("bytes")?), None, line),
            "move" => {
                let (mm, from, to) = (field("mm")?, field("from")?, field("to")?);
                let bytes = field("bytes")?;
                let holder = self.spaces.get(&mm).and_then(|ranges| {
                    ranges.iter().find(|range| (range.0..range.1).contains(&from)).cloned()
                });
                self.change(mm, (from, bytes), None, line);
                let rights = holder.map_or_else(String::new, |range| range.2);
                self.change(mm, (to, bytes), Some((rights, false)), line);
            }
            "advise" => {
                let (start, bytes) = (field("start")?, field("bytes")?);
                self.note(field("mm")?, (start, start.saturating_add(bytes)), line);
            }
            "fault" | "unshare" => {
                let (mm, addr) = (field("mm")?, field("addr")?);
                let page = addr & !(PAGE_BYTES - 1);
                self.history.faults +=
                    u64::from(kind == "fault" && page == self.page && self.mm == Some(mm));
                self.note(mm, (page, page.saturating_add(PAGE_BYTES)), line);
            }
            _ => {}
        }
        Some(())
    }

    /// A task starts to use an address space.
    fn owner(&mut self, task: u64, mm: u64, line: &str) {
        let pid = *self.pid.get_or_insert(task);
        if task == pid {
            let is_new = self.mm != Some(mm);
            self.history.pid = pid;
            self.mm = Some(mm);
            // What exec mapped comes before its event.
            if is_new && line.contains(" exec ") {
                self.keep(line);
            }
        }
    }

    /// Rights of a range change, or it goes away (`None`). A change of rights leaves gaps gaps.
    fn change(
        &mut self,
        mm: u64,
        (start, bytes): (u64, u64),
        rights: Option<(String, bool)>,
        line: &str,
    ) {
        let end = start.saturating_add(bytes);
        let ranges = self.spaces.entry(mm).or_default();
        let mut rest: Ranges = Vec::with_capacity(ranges.len() + 2);
        let mut inside: Ranges = Vec::new();
        for (from, to, had) in ranges.drain(..) {
            let parts =
                [(from, to.min(start)), (from.max(start), to.min(end)), (from.max(end), to)];
            for (index, (from, to)) in parts.into_iter().enumerate() {
                if from < to {
                    let list = if index == 1 { &mut inside } else { &mut rest };
                    list.push((from, to, had.clone()));
                }
            }
        }
        match rights {
            Some((rights, true)) => {
                rest.extend(inside.into_iter().map(|(from, to, _)| (from, to, rights.clone())));
            }
            Some((rights, false)) if start < end => rest.push((start, end, rights)),
            _ => {}
        }
        *ranges = rest;
        self.note(mm, (start, end), line);
    }

    /// Keeps the line if it is about the page in an address space of the process, or in one that
    /// has no owner yet: exec maps before it says whose the space is.
    fn note(&mut self, mm: u64, (start, end): (u64, u64), line: &str) {
        let is_ours = self.mm.is_none_or(|own| own == mm);
        if is_ours && start <= self.page && self.page < end {
            self.keep(line);
        }
    }

    fn keep(&mut self, line: &str) {
        if self.history.events.len() < EVENTS_MAX {
            self.history.events.push(line.to_owned());
        } else {
            self.history.events_left_out += 1;
        }
    }
}

/// A number, hexadecimal with `0x`.
fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(lines: &str, pid: Option<u64>, addr: u64) -> Result<History, Failure> {
        let path = std::env::temp_dir().join(format!("trace-{}-{addr:x}", std::process::id()));
        std::fs::write(&path, lines).expect("it can be written");
        let history = History::read(&path, pid, VirtAddr::new(addr));
        let _ = std::fs::remove_file(&path);
        history
    }

    const RUN: &str = "\
0 map mm=1 start=0x1000 bytes=0x4000 rights=rw-
0 exec task=7 mm=1 entry=0x1000
5 fault mm=1 addr=0x2345 kind=zero code=0x6 minor
6 protect mm=1 start=0x2000 bytes=0x1000 rights=r--
7 fork mm=1 child=2 entries=1 table_frames=3
7 clone parent=7 child=8 mm=2
8 unmap mm=1 start=0x2000 bytes=0x1000
9 fault mm=2 addr=0x2001 kind=cow code=0x7 minor
9 unshare mm=2 addr=0x2001 side=child
";

    #[test]
    fn each_process_has_its_own_ranges_and_faults() {
        let first = history(RUN, None, 0x2fff).expect("it is a trace");
        assert_eq!((first.pid, first.mm, first.faults), (7, 1, 1));
        assert!(first.range.is_none(), "{first:?}");
        assert_eq!(first.events.len(), 4 + 1, "{first:?}");
        let child = history(RUN, Some(8), 0x2000).expect("it is a trace");
        let range = child.range.as_ref().expect("it is mapped");
        assert_eq!((range.first.as_str(), range.rights.as_str()), ("0x2000", "r--"));
        assert_eq!((child.mm, child.faults), (2, 1));
        let other = history(RUN, None, 0x3000).expect("it is a trace");
        assert_eq!(other.range.map(|range| range.rights), Some("rw-".to_owned()));
    }

    #[test]
    fn what_is_no_trace_is_refused_with_its_line() {
        let error = history("0 exec task=1 mm=1 entry=0x1\nhello\n", None, 1).expect_err("not one");
        assert!(error.message.contains("line 2"), "{error}");
        let error = history(RUN, Some(99), 2).expect_err("nobody");
        assert!(error.message.contains("process 99"), "{error}");
    }
}
