//! The standard streams that the run inherited.
//!
//! Nothing here waits for the host for long: what cannot be done now returns `EAGAIN`, and the task
//! sleeps like one that waits for another task; the loop waits for the host when no task can run.
//!
//! Does not: change the streams' open file descriptions (`O_NONBLOCK`), which other programs share.

use std::os::fd::BorrowedFd;

use rustix::event::{self, PollFd, PollFlags};
use rustix::io;

use super::host;
use super::stat::{FileType, Stat};
use crate::errno::Errno;

/// Linux `PIPE_BUF`: a pipe that has room takes so many bytes without waiting.
const PIPE_BYTES: usize = 4096;
/// What a terminal that has room is given.
const TERMINAL_BYTES: usize = 256;

/// A standard stream of the run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Stream {
    /// Standard input.
    In,
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

impl Stream {
    pub(crate) const ALL: [Self; 3] = [Self::In, Self::Out, Self::Err];

    /// The host's descriptor.
    pub(crate) fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::In => rustix::stdio::stdin(),
            Self::Out => rustix::stdio::stdout(),
            Self::Err => rustix::stdio::stderr(),
        }
    }

    /// What the host says about it.
    pub(crate) fn stat(self) -> Result<Stat, Errno> {
        host::stat_fd(self.fd())
    }

    /// Reads what the host has now; zero bytes are the end.
    ///
    /// # Errors
    /// `EAGAIN`: nothing yet. Those of the host.
    pub(super) fn read(self, offset: Option<u64>, bytes: &mut [u8]) -> Result<usize, Errno> {
        if !self.is_ready(PollFlags::IN) && !self.reads_by_time() {
            return Err(Errno::EAGAIN);
        }
        Ok(io::retry_on_intr(|| match offset {
            Some(offset) => io::pread(self.fd(), &mut *bytes, offset),
            None => io::read(self.fd(), &mut *bytes),
        })?)
    }

    /// Writes as much as the host takes now.
    ///
    /// # Errors
    /// `EAGAIN`: it takes nothing. Those of the host.
    pub(super) fn write(self, offset: Option<u64>, bytes: &[u8]) -> Result<usize, Errno> {
        if !self.is_ready(PollFlags::OUT) {
            return Err(Errno::EAGAIN);
        }
        let fd = self.fd();
        if let Some(offset) = offset {
            return Ok(io::retry_on_intr(|| io::pwrite(fd, bytes, offset))?);
        }
        let piece = if bytes.len() > TERMINAL_BYTES {
            &bytes[..bytes.len().min(self.piece_bytes()?)]
        } else {
            bytes
        };
        if piece.len() < bytes.len() {
            let all = [io::IoSlice::new(bytes)];
            let place = u64::MAX;
            let how = io::ReadWriteFlags::NOWAIT;
            match io::retry_on_intr(|| io::pwritev2(fd, &all, place, how)) {
                Err(io::Errno::OPNOTSUPP | io::Errno::INVAL | io::Errno::NOSYS) => {}
                result => return Ok(result?),
            }
        }
        Ok(io::retry_on_intr(|| io::write(fd, piece))?)
    }

    /// How many bytes a stream with room takes without waiting, whatever its kernel.
    fn piece_bytes(self) -> Result<usize, Errno> {
        Ok(match self.stat()?.file_type() {
            FileType::Fifo | FileType::Socket => PIPE_BYTES,
            FileType::CharDevice if self.is_terminal() => TERMINAL_BYTES,
            _ => usize::MAX,
        })
    }

    /// Whether a terminal reads without waiting for a byte (`VMIN` 0): it is never not ready.
    fn reads_by_time(self) -> bool {
        use rustix::termios::{LocalModes, SpecialCodeIndex, tcgetattr};
        tcgetattr(self.fd()).is_ok_and(|settings| {
            let is_raw = !settings.local_modes.contains(LocalModes::ICANON);
            is_raw && settings.special_codes[SpecialCodeIndex::VMIN] == 0
        })
    }

    /// Whether the host could do this now.
    fn is_ready(self, events: PollFlags) -> bool {
        !poll_streams(&[(self, events.bits())], &[], Some(0)).is_empty()
    }

    /// Whether it is a terminal.
    pub(crate) fn is_terminal(self) -> bool {
        rustix::termios::isatty(self.fd())
    }

    /// Moves the place of the host's open file.
    pub(crate) fn seek(self, offset: i64, whence: u32) -> Result<u64, Errno> {
        use rustix::fs::{SeekFrom, seek};
        let to = match whence {
            0 => SeekFrom::Start(u64::try_from(offset).map_err(|_| Errno::EINVAL)?),
            1 => SeekFrom::Current(offset),
            2 => SeekFrom::End(offset),
            _ => return Err(Errno::EINVAL),
        };
        Ok(seek(self.fd(), to)?)
    }

    /// Its name as `/proc/self/fd` shows it.
    pub(crate) fn path(self) -> Vec<u8> {
        if let (true, Ok(name)) = (self.is_terminal(), rustix::termios::ttyname(self.fd(), vec![]))
        {
            return name.into_bytes();
        }
        match self.stat() {
            Ok(stat) if stat.file_type() == FileType::Fifo => {
                format!("pipe:[{}]", stat.inode).into_bytes()
            }
            Ok(stat) if stat.file_type() == FileType::Socket => {
                format!("socket:[{}]", stat.inode).into_bytes()
            }
            Ok(stat) if stat.special == (1, 3) => b"/dev/null".to_vec(),
            // Differs from Linux: where the host keeps a redirected stream is not shown.
            _ => match self {
                Self::In => b"/dev/stdin (redirected)".to_vec(),
                Self::Out => b"/dev/stdout (redirected)".to_vec(),
                Self::Err => b"/dev/stderr (redirected)".to_vec(),
            },
        }
    }
}

/// Asks the host until one of the streams is ready for its poll events, one of the alarms can be
/// read, or `pause_ns` are over; returns the streams that are ready.
pub(super) fn poll_streams(
    streams: &[(Stream, u16)],
    alarms: &[BorrowedFd<'_>],
    pause_ns: Option<u64>,
) -> Vec<(Stream, u16)> {
    let poll_fd = |&(stream, events): &(Stream, u16)| {
        PollFd::from_borrowed_fd(stream.fd(), PollFlags::from_bits_truncate(events))
    };
    let alarms = alarms.iter().map(|&alarm| PollFd::from_borrowed_fd(alarm, PollFlags::IN));
    let mut fds: Vec<PollFd<'_>> = streams.iter().map(poll_fd).chain(alarms).collect();
    let limit = pause_ns.map(timespec);
    // A failure is as if nothing were ready: time passes.
    if io::retry_on_intr(|| event::poll(&mut fds, limit.as_ref())).is_err() {
        return Vec::new();
    }
    let ready = streams.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
    ready.map(|(stream, _)| *stream).collect()
}

/// Nanoseconds as the host takes them.
pub(super) fn timespec(ns: u64) -> event::Timespec {
    event::Timespec {
        tv_sec: (ns / 1_000_000_000).cast_signed(),
        tv_nsec: (ns % 1_000_000_000).cast_signed(),
    }
}
