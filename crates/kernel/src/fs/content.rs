//! The bytes of a regular file: the host's file below, changed chunks above.
//!
//! This is what a disk is to a machine: the page cache brings pages from here and stores them here
//! (see `fs/regular.rs`). A `write` only promises the room that its pages will take.
//!
//! One content has two holders: the inode and the pager that the page cache calls. Hence the lock;
//! the run has one thread, so nobody ever waits.
//!
//! A host file is looked at when it is opened: if its length or its time of change is not what it
//! was, cached pages of it are old, and so it says. While it is open, nobody looks.
//!
//! Does not: know about cached pages.
//!
//! Invariants
//! 1. A held chunk has the only truth for its range but for dirty pages; bytes behind its end are
//!    zero. A promised one has its bytes in dirty pages, or still below.
//! 2. No chunk has a byte at or behind `size_bytes`.
//! 3. The host's file is written only if it is [`Lower::Through`].

use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use machine::PAGE_BYTES;
use mm::{Pager, PagerError};

use super::host;
use super::stat::{Stat, Timestamp};
use crate::errno::Errno;

/// Bytes of a chunk: what is copied when one byte changes.
const CHUNK_BYTES: u64 = 64 << 10;

/// Longest file: that of ext4 with blocks of 4 KiB.
pub(crate) const FILE_BYTES_MAX: u64 = 0x0fff_ffff_f000;

/// How many bytes all changed chunks of a run may take.
#[derive(Debug)]
pub(crate) struct Budget {
    used_bytes: AtomicU64,
    bytes_max: u64,
}

impl Budget {
    pub(crate) fn new(bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { used_bytes: AtomicU64::new(0), bytes_max })
    }

    fn take(&self, bytes: u64) -> Result<(), Errno> {
        let used = self.used_bytes.load(Ordering::Relaxed).saturating_add(bytes);
        if used > self.bytes_max {
            return Err(Errno::ENOSPC);
        }
        self.used_bytes.store(used, Ordering::Relaxed);
        Ok(())
    }

    fn give_back(&self, bytes: u64) {
        let used = self.used_bytes.load(Ordering::Relaxed);
        self.used_bytes.store(used.saturating_sub(bytes), Ordering::Relaxed);
    }

    /// Bytes taken and bytes allowed.
    pub(crate) fn usage(&self) -> (u64, u64) {
        (self.used_bytes.load(Ordering::Relaxed), self.bytes_max)
    }
}

/// A changed part of a file.
#[derive(Debug)]
enum Chunk {
    /// Room for so many bytes that are still in dirty pages.
    Promised(u64),
    /// Its bytes.
    Held(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> u64 {
        match self {
            Self::Promised(bytes) => *bytes,
            Self::Held(bytes) => bytes.len() as u64,
        }
    }

    fn truncate(&mut self, bytes: u64) {
        match self {
            Self::Promised(held) => *held = bytes.min(*held),
            Self::Held(held) => held.truncate(to_usize(bytes)),
        }
    }
}

/// What lies below the changed chunks.
#[derive(Debug)]
pub(crate) enum Lower {
    /// A file of the host that is not open, because nobody has opened it here.
    Away,
    /// Nothing: a file of the guest's own.
    Zeros,
    /// A file of the host that is only read.
    Host(File),
    /// A file of the host that is changed in place, and whether it was opened for that.
    Through(File, bool),
}

/// Who asks whether a page exists: see [`mm::Pager::has`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Holes {
    /// A disk file: reading a hole makes a page of zeros.
    Readable,
    /// A tmpfs file: a hole has no page.
    Absent,
}

/// The bytes of one regular file.
#[derive(Debug)]
pub(crate) struct Content {
    lower: Lower,
    lower_bytes: u64,
    chunks: BTreeMap<u64, Chunk>,
    size_bytes: u64,
    is_changed: bool,
    /// Length and time of change of the host's file when it was looked at last.
    seen: Option<(u64, Timestamp)>,
    /// Whether the host's file changed while pages of it may have been cached.
    is_stale: bool,
    holes: Holes,
    budget: Arc<Budget>,
}

/// A content with its holders.
pub(crate) type SharedContent = Arc<Mutex<Content>>;

/// The content, whoever else holds it.
pub(crate) fn lock(content: &SharedContent) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Content {
    pub(crate) fn empty(budget: &Arc<Budget>, holes: Holes) -> Self {
        let mut content = Self::over(Lower::Zeros, 0, budget);
        content.is_changed = true;
        content.holes = holes;
        content
    }

    pub(crate) fn over(lower: Lower, size_bytes: u64, budget: &Arc<Budget>) -> Self {
        Self {
            lower,
            lower_bytes: size_bytes,
            chunks: BTreeMap::new(),
            size_bytes,
            is_changed: false,
            seen: None,
            is_stale: false,
            holes: Holes::Readable,
            budget: Arc::clone(budget),
        }
    }

    /// Whether any byte or the length differs from the host's file.
    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Whether the length of the host's file is not the true one.
    pub(crate) fn has_own_size(&self) -> bool {
        self.is_changed || self.is_ahead()
    }

    /// Whether dirty pages will make the host's file longer.
    fn is_ahead(&self) -> bool {
        matches!(self.lower, Lower::Through(..)) && self.size_bytes > self.lower_bytes
    }

    /// Whether the host's file has changed since pages of it were cached; it is told once.
    pub(crate) fn take_stale(&mut self) -> bool {
        std::mem::take(&mut self.is_stale)
    }

    /// Closes the host's file, if it can be opened again by its name.
    pub(crate) fn put_away(&mut self) {
        if !self.has_own_size() && matches!(self.lower, Lower::Host(_) | Lower::Through(..)) {
            self.lower = Lower::Away;
        }
    }

    /// Whether the host's file is to be opened again.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self.lower, Lower::Away)
    }

    /// Takes the host's file back, opened again.
    pub(crate) fn bring_back(&mut self, lower: Lower) {
        self.lower = lower;
    }

    /// Length; that of the host's file is asked for while nothing has changed.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Space that the changed chunks take, in units of 512 bytes.
    pub(crate) fn blocks(&self) -> u64 {
        let held: u64 = self.chunks.values().map(|chunk| chunk.bytes().div_ceil(4096) * 8).sum();
        match self.lower {
            Lower::Zeros => held,
            _ => held.max(self.size_bytes.div_ceil(4096) * 8),
        }
    }

    /// Attributes of the host's file, also when its name is gone.
    pub(crate) fn stat_lower(&self) -> Option<Result<Stat, Errno>> {
        match &self.lower {
            Lower::Zeros | Lower::Away => None,
            Lower::Host(file) | Lower::Through(file, _) => Some(host::stat_fd(file.as_fd())),
        }
    }

    /// Whether changes may go to the host.
    pub(crate) fn is_host_writable(&self) -> bool {
        matches!(self.lower, Lower::Through(_, true))
    }

    /// Lets changes go to the host through `file`.
    pub(crate) fn make_host_writable(&mut self, file: File) {
        self.lower = Lower::Through(file, true);
    }

    /// Takes over a length that the host's file has got meanwhile.
    pub(crate) fn refresh(&mut self) {
        let (Lower::Host(file) | Lower::Through(file, _)) = &self.lower else { return };
        if self.has_own_size() {
            return;
        }
        if let Ok(stat) = host::stat_fd(file.as_fd()) {
            let now = (stat.size_bytes, stat.modified);
            self.is_stale |= self.seen.is_some_and(|seen| seen != now);
            self.seen = Some(now);
            self.lower_bytes = stat.size_bytes;
            self.size_bytes = stat.size_bytes;
        }
    }

    /// Takes over a larger length that the host's file has got meanwhile, if `end` is behind the
    /// known one.
    pub(crate) fn refresh_for(&mut self, end: u64) {
        if end > self.size_bytes && !matches!(self.lower, Lower::Zeros) {
            self.refresh();
        }
    }

    /// Reads from `offset` as much as there is, up to the length of `bytes`.
    pub(crate) fn read_at(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        let direct = matches!(self.lower, Lower::Through(..)) || !self.is_changed;
        if let (true, Lower::Host(file) | Lower::Through(file, _)) = (direct, &self.lower) {
            return read_full(file, offset, bytes);
        }
        let wanted = bytes.len().min(to_usize(self.size_bytes.saturating_sub(offset)));
        let mut done = 0;
        while done < wanted {
            done += self.read_piece(offset + done as u64, &mut bytes[done..wanted])?;
        }
        Ok(done)
    }

    /// Reads up to the next border between changed and unchanged bytes; never zero bytes.
    fn read_piece(&self, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        let index = offset / CHUNK_BYTES;
        if let Some(Chunk::Promised(_)) = self.chunks.get(&index) {
            let count = bytes.len().min(to_usize(CHUNK_BYTES - offset % CHUNK_BYTES));
            self.read_lower(offset, &mut bytes[..count])?;
            return Ok(count);
        }
        if let Some(Chunk::Held(chunk)) = self.chunks.get(&index) {
            let skip = offset % CHUNK_BYTES;
            let count = bytes.len().min(to_usize(CHUNK_BYTES - skip));
            let held = chunk.get(to_usize(skip)..).unwrap_or(&[]);
            let copied = held.len().min(count);
            bytes[..copied].copy_from_slice(&held[..copied]);
            bytes[copied..count].fill(0);
            return Ok(count);
        }
        let end = match self.chunks.range(index..).next() {
            Some((&next, _)) => next * CHUNK_BYTES,
            None => u64::MAX,
        };
        let count = bytes.len().min(to_usize(end - offset));
        self.read_lower(offset, &mut bytes[..count])?;
        Ok(count)
    }

    fn read_lower(&self, offset: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let inside = bytes.len().min(to_usize(self.lower_bytes.saturating_sub(offset)));
        let read = match &self.lower {
            Lower::Zeros => 0,
            Lower::Away if inside > 0 => return Err(Errno::EIO),
            Lower::Away => 0,
            Lower::Host(file) | Lower::Through(file, _) => {
                read_full(file, offset, &mut bytes[..inside])?
            }
        };
        bytes[read..].fill(0);
        Ok(())
    }

    /// Promises room for `bytes` bytes at `offset`, which dirty pages will bring, and grows the
    /// file to their end.
    ///
    /// # Errors
    /// As [`Content::write_at`]; the length is as it was.
    pub(crate) fn promise(&mut self, offset: u64, bytes: u64) -> Result<(), Errno> {
        let end = offset.checked_add(bytes).filter(|&end| end <= FILE_BYTES_MAX);
        let end = end.ok_or(Errno::EFBIG)?;
        if bytes == 0 {
            return Ok(());
        }
        if !matches!(self.lower, Lower::Through(..)) {
            for index in offset / CHUNK_BYTES..=(end - 1) / CHUNK_BYTES {
                self.promise_chunk(index, (end - index * CHUNK_BYTES).min(CHUNK_BYTES))?;
            }
            self.is_changed = true;
        }
        self.size_bytes = self.size_bytes.max(end);
        Ok(())
    }

    fn promise_chunk(&mut self, index: u64, bytes: u64) -> Result<(), Errno> {
        let lower = self.lower_bytes.saturating_sub(index * CHUNK_BYTES).min(CHUNK_BYTES);
        let chunk = self.chunks.get_mut(&index);
        let held = chunk.as_ref().map_or(0, |chunk| chunk.bytes());
        let needed = bytes.max(if chunk.is_some() { held } else { lower });
        self.budget.take(needed - held)?;
        match chunk {
            Some(Chunk::Held(chunk)) => chunk.resize(to_usize(needed), 0),
            Some(Chunk::Promised(promised)) => *promised = needed,
            None => {
                self.chunks.insert(index, Chunk::Promised(needed));
            }
        }
        Ok(())
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// - `EFBIG`: behind the longest file.
    /// - `ENOSPC`: no room for all of it; some chunks may have been copied, no byte has changed.
    pub(crate) fn write_at(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let end = offset.checked_add(bytes.len() as u64).ok_or(Errno::EFBIG)?;
        if end > FILE_BYTES_MAX {
            return Err(Errno::EFBIG);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        if let Lower::Through(file, _) = &self.lower {
            file.write_all_at(bytes, offset)?;
            self.seen = None;
            self.lower_bytes = self.lower_bytes.max(end);
            self.size_bytes = self.size_bytes.max(end);
            return Ok(());
        }
        for index in offset / CHUNK_BYTES..=(end - 1) / CHUNK_BYTES {
            let start = index * CHUNK_BYTES;
            let from = offset.saturating_sub(start);
            self.own_chunk(index, from..(end - start).min(CHUNK_BYTES))?;
        }
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let skip = to_usize(at % CHUNK_BYTES);
            let count = (bytes.len() - done).min(to_usize(CHUNK_BYTES) - skip);
            if let Some(Chunk::Held(chunk)) = self.chunks.get_mut(&(at / CHUNK_BYTES)) {
                chunk[skip..skip + count].copy_from_slice(&bytes[done..done + count]);
            }
            done += count;
        }
        self.is_changed = true;
        self.size_bytes = self.size_bytes.max(end);
        Ok(())
    }

    /// Makes chunk `index` hold its bytes, at least up to the end of `written`, the range in it
    /// that is overwritten next.
    fn own_chunk(&mut self, index: u64, written: Range<u64>) -> Result<(), Errno> {
        let start = index * CHUNK_BYTES;
        let lower = self.lower_bytes.saturating_sub(start).min(CHUNK_BYTES);
        let (promised, least) = match self.chunks.get_mut(&index) {
            Some(Chunk::Held(chunk)) => {
                let more = written.end.saturating_sub(length(chunk));
                self.budget.take(more)?;
                if more > 0 {
                    chunk.resize(to_usize(written.end), 0);
                }
                return Ok(());
            }
            Some(Chunk::Promised(bytes)) => (*bytes, *bytes),
            None => (0, lower),
        };
        let held_bytes = written.end.max(least);
        self.budget.take(held_bytes - promised)?;
        let mut chunk = vec![0; to_usize(held_bytes)];
        let keeps_lower = written.start > 0 || written.end < lower.min(held_bytes);
        if lower > 0
            && keeps_lower
            && let Err(error) = self.read_lower(start, &mut chunk)
        {
            self.budget.give_back(held_bytes - promised);
            return Err(error);
        }
        self.chunks.insert(index, Chunk::Held(chunk));
        Ok(())
    }

    /// Makes the file `size_bytes` long; new bytes are zero.
    pub(crate) fn set_size(&mut self, size_bytes: u64) -> Result<(), Errno> {
        if size_bytes > FILE_BYTES_MAX {
            return Err(Errno::EFBIG);
        }
        if let Lower::Through(file, _) = &self.lower {
            file.set_len(size_bytes)?;
            self.seen = None;
            self.lower_bytes = size_bytes;
            self.size_bytes = size_bytes;
            return Ok(());
        }
        let border = size_bytes / CHUNK_BYTES;
        let mut behind = self.chunks.split_off(&border);
        if let Some(mut chunk) = behind.remove(&border) {
            let kept = (size_bytes % CHUNK_BYTES).min(chunk.bytes());
            self.budget.give_back(chunk.bytes() - kept);
            chunk.truncate(kept);
            self.chunks.insert(border, chunk);
        }
        self.budget.give_back(behind.values().map(Chunk::bytes).sum());
        self.lower_bytes = self.lower_bytes.min(size_bytes);
        self.is_changed |= size_bytes != self.size_bytes;
        self.size_bytes = size_bytes;
        Ok(())
    }

    /// Makes `bytes` bytes from `offset` zero, inside the file.
    pub(crate) fn zero(&mut self, offset: u64, bytes: u64) -> Result<(), Errno> {
        let end = offset.saturating_add(bytes).min(self.size_bytes);
        let zeros = vec![0; to_usize(CHUNK_BYTES)];
        let mut at = offset;
        while at < end {
            let count = (CHUNK_BYTES - at % CHUNK_BYTES).min(end - at);
            let index = at / CHUNK_BYTES;
            let has_lower = at < self.lower_bytes;
            if let (Some(Chunk::Promised(_)), false) = (self.chunks.get(&index), has_lower) {
                // Its bytes are in dirty pages only, which the caller drops or zeroes.
                if count == CHUNK_BYTES {
                    self.drop_chunk(index);
                }
            } else if self.chunks.contains_key(&index) || has_lower {
                self.write_at(at, &zeros[..to_usize(count)])?;
            } else if let Some((&next, _)) = self.chunks.range(at / CHUNK_BYTES..).next() {
                at = (next * CHUNK_BYTES).max(at + count);
                continue;
            } else {
                break;
            }
            at += count;
        }
        Ok(())
    }

    fn drop_chunk(&mut self, index: u64) {
        if let Some(chunk) = self.chunks.remove(&index) {
            self.budget.give_back(chunk.bytes());
        }
    }

    /// The next byte at or behind `offset` that is data, or that is a hole.
    ///
    /// # Errors
    /// `ENXIO`: there is none before the end.
    pub(crate) fn seek(&self, offset: u64, to: Seek) -> Result<u64, Errno> {
        if offset >= self.size_bytes {
            return Err(Errno::ENXIO);
        }
        let is_data =
            |at: u64| at < self.lower_bytes || self.chunks.contains_key(&(at / CHUNK_BYTES));
        let mut at = offset;
        while is_data(at) != (to == Seek::Data) {
            let index = at / CHUNK_BYTES;
            at = match to {
                Seek::Hole => (index + 1) * CHUNK_BYTES,
                Seek::Data => match self.chunks.range(index + 1..).next() {
                    Some((&next, _)) => next * CHUNK_BYTES,
                    None => return Err(Errno::ENXIO),
                },
            };
            if at >= self.size_bytes {
                return if to == Seek::Hole { Ok(self.size_bytes) } else { Err(Errno::ENXIO) };
            }
        }
        Ok(at)
    }

    /// Asks the host to keep what was written through.
    pub(crate) fn sync(&self) -> Result<(), Errno> {
        match &self.lower {
            Lower::Through(file, _) => Ok(file.sync_all()?),
            _ => Ok(()),
        }
    }
}

/// What to look for in a sparse file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seek {
    /// `SEEK_DATA`.
    Data,
    /// `SEEK_HOLE`.
    Hole,
}

impl Drop for Content {
    fn drop(&mut self) {
        self.budget.give_back(self.chunks.values().map(Chunk::bytes).sum());
    }
}

fn length(chunk: &[u8]) -> u64 {
    chunk.len() as u64
}

/// A count that is known to be small, or as large as memory can be.
pub(crate) fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn read_full(file: &File, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], offset.saturating_add(done as u64)) {
            Ok(0) => break,
            Ok(count) => done += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) if done == 0 => return Err(error.into()),
            Err(_) => break,
        }
    }
    Ok(done)
}

/// The page cache's way to a content.
#[derive(Debug)]
pub(crate) struct ContentPager {
    content: SharedContent,
}

impl ContentPager {
    pub(crate) fn new(content: &SharedContent) -> Self {
        Self { content: Arc::clone(content) }
    }
}

impl Pager for ContentPager {
    fn fill(&mut self, index: u64, page: &mut [u8]) -> Result<(), PagerError> {
        let offset = index.checked_mul(PAGE_BYTES).ok_or(PagerError::NoPage { index })?;
        let read =
            lock(&self.content).read_at(offset, page).map_err(|_| PagerError::Io { index })?;
        page[read..].fill(0);
        Ok(())
    }

    fn fill_run(&mut self, first: u64, bytes: &mut [u8]) -> Result<(), PagerError> {
        self.fill(first, bytes)
    }

    fn store(&mut self, index: u64, page: &[u8]) -> Result<(), PagerError> {
        let mut content = lock(&self.content);
        let offset = index.checked_mul(PAGE_BYTES).ok_or(PagerError::NoPage { index })?;
        let inside = to_usize(content.size_bytes().saturating_sub(offset)).min(page.len());
        content.write_at(offset, &page[..inside]).map_err(|errno| at_page(errno, index))
    }

    fn store_run(&mut self, first: u64, bytes: &[u8]) -> Result<(), PagerError> {
        self.store(first, bytes)
    }

    fn reserve(&mut self, index: u64) -> Result<(), PagerError> {
        let mut content = lock(&self.content);
        let offset = index.checked_mul(PAGE_BYTES).ok_or(PagerError::NoPage { index })?;
        let inside = content.size_bytes().saturating_sub(offset).min(PAGE_BYTES);
        let promised = content.promise(offset, inside).map_err(|errno| at_page(errno, index));
        // Shared memory is never stored: its frames are all the room that it needs.
        if content.holes == Holes::Absent { Ok(()) } else { promised }
    }

    fn size_bytes(&self) -> u64 {
        lock(&self.content).size_bytes()
    }

    fn has(&self, index: u64) -> bool {
        let content = lock(&self.content);
        let offset = index.saturating_mul(PAGE_BYTES);
        let is_held =
            || matches!(content.chunks.get(&(offset / CHUNK_BYTES)), Some(Chunk::Held(_)));
        content.holes == Holes::Readable || is_held()
    }
}

/// The error of a page that could not be stored.
fn at_page(errno: Errno, index: u64) -> PagerError {
    match errno {
        Errno::ENOSPC => PagerError::NoSpace { index },
        _ => PagerError::Io { index },
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, CHUNK_BYTES, Content, Holes, Lower, Seek};
    use crate::errno::Errno;

    /// A content over a host file of its own: tests run side by side, so each gives a `name`.
    fn over_host(name: &str, bytes: &[u8]) -> Content {
        let name = format!("faultline-content-{name}-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).expect("the temporary directory can be written");
        let file = std::fs::File::open(&path).expect("it was just written");
        std::fs::remove_file(&path).expect("it was just written");
        Content::over(Lower::Host(file), bytes.len() as u64, &Budget::new(1 << 20))
    }

    #[test]
    fn writes_cover_the_host_file_and_the_rest_shows_through() {
        let mut content = over_host("cover", b"hello, world");
        content.write_at(7, b"WORLD and more").expect("room");
        let mut bytes = [0; 32];
        let count = content.read_at(0, &mut bytes).expect("readable");
        assert_eq!(&bytes[..count], b"hello, WORLD and more");
        assert!(content.is_changed());
    }

    #[test]
    fn bytes_cut_off_come_back_as_zeros() {
        let mut content = over_host("cut", &[7; 100]);
        content.set_size(10).expect("shorter");
        content.set_size(20).expect("longer");
        let mut bytes = [1; 20];
        assert_eq!(content.read_at(0, &mut bytes), Ok(20));
        assert_eq!(bytes[..10], [7; 10]);
        assert_eq!(bytes[10..], [0; 10]);
    }

    #[test]
    fn a_far_write_is_sparse_and_the_budget_holds() {
        let mut content = Content::empty(&Budget::new(CHUNK_BYTES), Holes::Readable);
        content.write_at(1 << 40, b"x").expect("one chunk");
        assert_eq!(content.seek(0, Seek::Data), Ok(1 << 40));
        assert_eq!(content.seek(0, Seek::Hole), Ok(0));
        assert_eq!(content.write_at(0, &[1; 100_000]), Err(Errno::ENOSPC));
        assert_eq!(content.write_at(1 << 62, b"x"), Err(Errno::EFBIG));
        content.set_size(0).expect("empty");
        content.write_at(0, &[1; 1000]).expect("room again");
        assert_eq!(content.zero(10, 20), Ok(()));
        let mut bytes = [9; 12];
        assert_eq!(content.read_at(8, &mut bytes), Ok(12));
        assert_eq!(bytes, [1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
