//! The binary files: entries of page tables (`pagemap`), memory (`mem`), frames (`kpagecount`,
//! `kpageflags`). Each byte has its place, so nothing is kept between reads.
//!
//! # Source
//! Linux 6.12 `fs/proc/task_mmu.c:pagemap_read`, `fs/proc/base.c:mem_rw`, `fs/proc/page.c`;
//! semantics PROC-7.

use machine::{Frame, PAGE_BYTES, VirtAddr};
use mm::{Force, Mm, Partial};

use super::Subject;
use crate::Kernel;
use crate::errno::Errno;
use crate::fs::ProcFile;

/// Bytes of an entry of `pagemap` and of the files of frames.
const WORD_BYTES: u64 = 8;
/// The bits of an entry of `pagemap` that name a frame; only root sees them.
const FRAME_BITS: u64 = (1 << 55) - 1;

/// Which facts of frames a file has.
type OfFrame = fn(&mm::Memory, Frame) -> u64;

impl Kernel {
    /// Reads from a binary file; `None` if `file` is not one.
    pub(super) fn read_binary(
        &mut self,
        file: ProcFile,
        at: u64,
        bytes: &mut [u8],
    ) -> Option<Result<usize, Errno>> {
        match file {
            ProcFile::Task(subject, "pagemap") => Some(self.read_pagemap(subject, at, bytes)),
            ProcFile::Task(subject, "mem") => Some(self.read_memory_of(subject, at, bytes)),
            ProcFile::System("kpagecount") => {
                Some(self.read_frames(mm::Memory::kpagecount, at, bytes))
            }
            ProcFile::System("kpageflags") => {
                Some(self.read_frames(mm::Memory::kpageflags, at, bytes))
            }
            ProcFile::System("kcore") => Some(self.read_kcore(at, bytes)),
            _ => None,
        }
    }

    fn read_pagemap(&self, subject: Subject, at: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        let roster = self.roster();
        subject.pid(&roster).ok_or(Errno::ESRCH)?;
        let mm = roster.task(subject.tid).and_then(|task| roster.mm_of(task));
        let Some(mm) = mm else { return Ok(0) };
        check_words(at, bytes)?;
        let first = (at / WORD_BYTES).saturating_mul(PAGE_BYTES);
        let end = mm.layout.task_end.as_u64() / PAGE_BYTES * WORD_BYTES;
        let count = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        let mut words = vec![0; count / 8];
        mm.pagemap(&self.memory, &self.hw, VirtAddr::new(first), &mut words);
        let shown = if self.fs.credentials.uid == 0 { u64::MAX } else { !FRAME_BITS };
        for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
            place.copy_from_slice(&(word & shown).to_le_bytes());
        }
        Ok(count)
    }

    fn read_frames(&self, of_frame: OfFrame, at: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        check_words(at, bytes)?;
        let end = self.memory.usage().frames_total * WORD_BYTES;
        let count = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
        let first = at / WORD_BYTES;
        for (number, place) in (first..).zip(bytes[..count].chunks_exact_mut(8)) {
            place.copy_from_slice(&of_frame(&self.memory, Frame::new(number)).to_le_bytes());
        }
        Ok(count)
    }

    /// Works on the address space of a task; `None` if it has none any more.
    fn with_mm_of<T>(
        &mut self,
        subject: Subject,
        act: impl FnOnce(&mut Mm, &mut mm::Memory, &mut machine::Machine) -> T,
    ) -> Option<T> {
        let key = self.task_of(subject.tid)?.parts.mm;
        if key == self.task.parts.mm {
            return Some(act(&mut self.mm, &mut self.memory, &mut self.hw));
        }
        let mm = self.tasks.mms.get_mut(key)?;
        Some(act(mm, &mut self.memory, &mut self.hw))
    }

    fn read_memory_of(
        &mut self,
        subject: Subject,
        at: u64,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        let wanted = bytes.len();
        let done = self.with_mm_of(subject, |mm, memory, hw| {
            mm.read_remote(memory, hw, VirtAddr::new(at), bytes, Force::Yes)
        });
        done.map_or(Ok(0), |done| moved(done, wanted))
    }

    /// Writes to the memory of a task.
    ///
    /// # Errors
    /// `EIO`: nothing can be written there.
    pub(super) fn write_memory_of(
        &mut self,
        subject: Subject,
        at: u64,
        bytes: &[u8],
    ) -> Result<usize, Errno> {
        let done = self.with_mm_of(subject, |mm, memory, hw| {
            mm.write_remote(memory, hw, VirtAddr::new(at), bytes, Force::Yes)
        });
        done.map_or(Ok(0), |done| moved(done, bytes.len()))
    }

    /// Forgets what `clear_refs` asks for: 1 all accesses, 2 those of private memory, 3 those of
    /// files. 4 asks for marks that no entry has.
    ///
    /// # Errors
    /// `EINVAL`: none of these.
    pub(super) fn clear_references(&mut self, subject: Subject, kind: i32) -> Result<(), Errno> {
        if !(1..=4).contains(&kind) {
            return Err(Errno::EINVAL);
        }
        let cleared = self.with_mm_of(subject, |mm, memory, hw| {
            let is_meant = |vma: &mm::Vma| match kind {
                1 => true,
                2 => vma.backing.file().is_none(),
                3 => vma.backing.file().is_some(),
                _ => false,
            };
            let ranges: Vec<_> =
                mm.vmas().filter(|vma| is_meant(vma)).map(|vma| vma.range).collect();
            for range in ranges {
                mm.clear_referenced(memory, hw, range);
            }
        });
        cleared.ok_or(Errno::ESRCH)
    }
}

/// How far an access to memory came; none at all is `EIO`.
fn moved(done: Result<(), Partial>, wanted: usize) -> Result<usize, Errno> {
    match done {
        Ok(()) => Ok(wanted),
        Err(Partial { done: 0, .. }) => Err(Errno::EIO),
        Err(Partial { done, .. }) => Ok(done),
    }
}

/// Entries are read whole.
fn check_words(at: u64, bytes: &[u8]) -> Result<(), Errno> {
    let is_whole = at.is_multiple_of(WORD_BYTES) && (bytes.len() as u64).is_multiple_of(WORD_BYTES);
    if is_whole { Ok(()) } else { Err(Errno::EINVAL) }
}
