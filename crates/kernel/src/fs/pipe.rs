//! A pipe inside the guest's world.
//!
//! # Source
//! man 7 `pipe`; Linux 6.12 `fs/pipe.c`.

use std::collections::VecDeque;
use std::sync::Arc;

use super::pool::PipeMark;
use super::{Pool, Share};
use crate::errno::Errno;

/// Bytes that a pipe holds.
pub(crate) const PIPE_BYTES: usize = 65536;
/// Writes up to this length are not split.
pub(crate) const PIPE_BUF: usize = 4096;
/// Most bytes that `F_SETPIPE_SZ` grants.
pub(crate) const PIPE_BYTES_MAX: usize = 1 << 20;

/// Bytes of memory that an empty pipe may keep.
const KEPT_BYTES: usize = PIPE_BUF;

/// A pipe: bytes on their way, and how many ends are open.
#[derive(Debug)]
pub(crate) struct Pipe {
    bytes: VecDeque<u8>,
    pub(crate) capacity: usize,
    pub(crate) reader_count: u32,
    pub(crate) writer_count: u32,
    /// How often it was opened for reading, and for writing.
    pub(crate) open_counts: [u32; 2],
    /// How often bytes came, and room.
    pub(crate) moves: [u64; 2],
    share: Share,
    _mark: PipeMark,
}

impl Pipe {
    /// An empty pipe without ends.
    pub(crate) fn new(pool: &Arc<Pool>) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity: PIPE_BYTES,
            reader_count: 0,
            writer_count: 0,
            open_counts: [0; 2],
            moves: [0; 2],
            share: Share::empty(pool),
            _mark: PipeMark::new(pool),
        }
    }

    /// Bytes that wait to be read.
    pub(crate) fn held_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Reads what is there; nothing when all writers are gone.
    ///
    /// # Errors
    /// `EAGAIN`: it is empty and somebody could still write.
    pub(crate) fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Errno> {
        if self.bytes.is_empty() {
            return if self.writer_count == 0 || bytes.is_empty() {
                Ok(0)
            } else {
                Err(Errno::EAGAIN)
            };
        }
        let count = bytes.len().min(self.bytes.len());
        self.moves[1] += 1;
        for (place, byte) in bytes.iter_mut().zip(self.bytes.drain(..count)) {
            *place = byte;
        }
        self.settle(count);
        Ok(count)
    }

    /// The first bytes, at most `count_max`, which stay.
    pub(crate) fn peek(&self, count_max: usize) -> Vec<u8> {
        self.bytes.iter().take(count_max).copied().collect()
    }

    /// Throws the first bytes away.
    pub(crate) fn skip(&mut self, count: usize) {
        self.moves[1] += 1;
        let count = count.min(self.bytes.len());
        self.bytes.drain(..count);
        self.settle(count);
    }

    /// Puts bytes that were just read back to the front.
    pub(crate) fn put_back(&mut self, bytes: &[u8]) {
        // They had their share a moment ago, and nobody else ran since.
        if self.share.grow(bytes.len()).is_ok() {
            bytes.iter().rev().for_each(|&byte| self.bytes.push_front(byte));
        }
    }

    /// Gives the memory of bytes that are gone back.
    fn settle(&mut self, count: usize) {
        self.share.shrink(count);
        if self.bytes.is_empty() && self.bytes.capacity() > KEPT_BYTES {
            self.bytes = VecDeque::new();
        }
    }

    /// Room for bytes.
    pub(crate) fn room(&self) -> usize {
        self.capacity.saturating_sub(self.bytes.len())
    }

    /// One end more is open.
    pub(crate) fn open(&mut self, reads: bool, writes: bool) {
        self.reader_count += u32::from(reads);
        self.writer_count += u32::from(writes);
        for (count, is_opened) in self.open_counts.iter_mut().zip([reads, writes]) {
            *count = count.wrapping_add(u32::from(is_opened));
        }
    }

    /// Writes what fits; all or nothing up to [`PIPE_BUF`].
    ///
    /// # Errors
    /// `EPIPE`: nobody will ever read. `EAGAIN`: it does not fit now. `ENOMEM`: too much waits
    /// elsewhere.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<usize, Errno> {
        if self.reader_count == 0 {
            return Err(Errno::EPIPE);
        }
        let room = self.capacity.saturating_sub(self.bytes.len());
        let count = bytes.len().min(room);
        let is_split = count < bytes.len() && bytes.len() <= PIPE_BUF;
        if !bytes.is_empty() && (count == 0 || is_split) {
            return Err(Errno::EAGAIN);
        }
        self.share.grow(count)?;
        self.bytes.extend(&bytes[..count]);
        self.moves[0] += 1;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::{PIPE_BYTES, Pipe, Pool};
    use crate::errno::Errno;

    #[test]
    fn a_pipe_keeps_order_and_knows_its_ends() {
        let mut pipe = Pipe::new(&Pool::new(u64::MAX));
        (pipe.reader_count, pipe.writer_count) = (1, 1);
        assert_eq!(pipe.write(b"abc"), Ok(3));
        let mut bytes = [0; 2];
        assert_eq!(pipe.read(&mut bytes), Ok(2));
        assert_eq!(&bytes, b"ab");
        assert_eq!(pipe.write(&[0; PIPE_BYTES + 10]), Ok(PIPE_BYTES - 1));
        assert_eq!(pipe.write(b"x"), Err(Errno::EAGAIN));
        pipe.reader_count = 0;
        assert_eq!(pipe.write(b"x"), Err(Errno::EPIPE));
        let mut rest = vec![0; PIPE_BYTES];
        assert_eq!(pipe.read(&mut rest), Ok(PIPE_BYTES));
        assert_eq!(pipe.read(&mut rest), Err(Errno::EAGAIN));
        pipe.writer_count = 0;
        assert_eq!(pipe.read(&mut rest), Ok(0));
    }
}
