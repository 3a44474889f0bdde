//! The synthesised `/proc` and `/sys`: made from the state of this machine, never the host's.
//!
//! `proc/names.rs` says which names there are, the others what is behind them: `task.rs` and its
//! modules for files of tasks, `memory_map.rs` for their VMAs, `page_map.rs` for entries of page
//! tables and frames, `system.rs` and its modules for the machine.
//!
//! A text is made when it is read: whole, or VMA by VMA for the long ones, at most about a page at
//! once. What is read in pieces is not made again for each.
//!
//! # Source
//! Linux 6.12 `fs/proc/`, `fs/seq_file.c`; semantics section 24.

mod kcore;
mod memory_map;
mod names;
mod page_map;
mod system;
mod task;

pub(crate) use names::{NAMESPACES, ProcDirectory, Scope, Subject};
pub(crate) use system::{size_of, system_files};

use machine::PAGE_BYTES;

use super::{FileId, Opened, ProcFile};
use crate::Kernel;
use crate::errno::Errno;

/// A part of a file's text, and how the text goes on.
#[derive(Default, Debug)]
pub(crate) struct Reading {
    /// Offset of the part in the file.
    start: u64,
    text: Vec<u8>,
    /// Where the next part comes from; `None` at the end.
    next: Option<u64>,
    is_begun: bool,
}

impl Reading {
    /// What of the part is at `at` and behind; `None` if the part does not reach it.
    fn rest(&self, at: u64) -> Option<&[u8]> {
        let skip = usize::try_from(at.checked_sub(self.start)?).ok()?;
        self.text.get(skip..).filter(|rest| self.is_begun && !rest.is_empty())
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(self.text.len() as u64)
    }
}

/// A part of a text: its bytes, and where the next one comes from.
pub(crate) struct Part {
    text: Vec<u8>,
    next: Option<u64>,
}

impl Part {
    fn whole(text: impl Into<Vec<u8>>) -> Self {
        Self { text: text.into(), next: None }
    }
}

/// The most bytes of one part of a long text, as Linux's `seq_file` has a page for them.
const PART_BYTES: usize = PAGE_BYTES as usize;

impl Kernel {
    /// Reads from a file of `/proc` or `/sys`: at most what was made of its text at once.
    ///
    /// # Errors
    /// `ESRCH`: the task is gone. Others as the file has it.
    pub(crate) fn read_proc(
        &mut self,
        id: FileId,
        at: u64,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        let Opened::Proc { file, .. } = self.vfs.file(id).opened else {
            return Err(Errno::EINVAL);
        };
        if let Some(result) = self.read_binary(file, at, bytes) {
            return result;
        }
        let Opened::Proc { file, reading, .. } = &mut self.vfs.file_mut(id).opened else {
            return Err(Errno::EINVAL);
        };
        let (file, mut reading) = (*file, std::mem::take(reading));
        let result = self.read_text(file, &mut reading, at, bytes);
        if let Opened::Proc { reading: place, .. } = &mut self.vfs.file_mut(id).opened {
            *place = reading;
        }
        result
    }

    fn read_text(
        &self,
        file: ProcFile,
        reading: &mut Reading,
        at: u64,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        if at == 0 || !reading.is_begun || at < reading.start {
            *reading = Reading { next: Some(0), ..Reading::default() };
        }
        let mut done = 0;
        while done < bytes.len() {
            let here = at.saturating_add(done as u64);
            if let Some(rest) = reading.rest(here) {
                let count = rest.len().min(bytes.len() - done);
                bytes[done..done + count].copy_from_slice(&rest[..count]);
                done += count;
                // What was left of a part is not all that a reader gets, a new part is.
                if reading.start == here {
                    break;
                }
                continue;
            }
            let Some(from) = reading.next else { break };
            let part = self.proc_part(file, from, bytes.len() - done)?;
            let start = reading.end();
            *reading = Reading { start, text: part.text, next: part.next, is_begun: true };
        }
        Ok(done)
    }

    /// The part of a text that `from` means, 0 for the first; the reader wants `wanted` bytes.
    fn proc_part(&self, file: ProcFile, from: u64, wanted: usize) -> Result<Part, Errno> {
        match file {
            ProcFile::Task(subject, name) => task::part(self, subject, name, from, wanted),
            ProcFile::System(path) => system::text(self, path).map(Part::whole),
            ProcFile::DescriptorInfo(subject, number) => {
                task::descriptor_info(self, subject, number).map(Part::whole)
            }
        }
    }

    /// Writes to a file of `/proc` or `/sys` at `offset`, or at its place, which moves on.
    ///
    /// # Errors
    /// `EINVAL` for a value that does not fit, and for files that take none.
    pub(crate) fn write_proc(
        &mut self,
        id: FileId,
        offset: Option<u64>,
        bytes: &[u8],
    ) -> Result<usize, Errno> {
        let open = self.vfs.file(id);
        let at = offset.unwrap_or(open.offset);
        let Opened::Proc { file, .. } = open.opened else { return Err(Errno::EINVAL) };
        let count = match file {
            ProcFile::Task(subject, "mem") => self.write_memory_of(subject, at, bytes)?,
            ProcFile::Task(subject, name) => {
                task::write(self, subject, name, bytes)?;
                bytes.len()
            }
            ProcFile::System(path) => {
                system::write(self, path, bytes)?;
                bytes.len()
            }
            ProcFile::DescriptorInfo(..) => return Err(Errno::EINVAL),
        };
        if offset.is_none() {
            self.vfs.advance(id, count as u64);
        }
        Ok(count)
    }
}
