//! The devices of `/dev`, and the standard streams that the run inherited.
//!
//! Only these exist: a device node of the host can be looked at, not opened.

use std::os::fd::BorrowedFd;

use rustix::event::{self, PollFd, PollFlags};
use rustix::io;

use super::stat::{FileType, Stat, Timestamp};
use super::{FileId, Opened, Vfs, host};
use crate::errno::Errno;

/// A device that can be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Device {
    /// Swallows everything.
    Null,
    /// Gives zeros.
    Zero,
    /// Gives zeros, takes nothing.
    Full,
    /// Gives seeded random bytes.
    Random,
    /// `/dev/urandom`: the same, under its own number.
    Urandom,
    /// The terminal of the run, if a standard stream is one.
    Tty,
    /// A standard stream.
    Stream(Stream),
    /// Makes pseudo-terminals.
    Ptmx,
    /// The master of a pseudo-terminal.
    Master(u32),
    /// Its slave.
    Slave(u32),
}

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

    /// Whether the host could be read now without waiting.
    pub(crate) fn is_readable(self) -> bool {
        !wait_for_streams(&[(self, PollFlags::IN.bits())], Some(0)).is_empty()
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

impl Device {
    /// Major and minor number.
    ///
    /// # Source
    /// Linux `Documentation/admin-guide/devices.txt`.
    pub(crate) const fn number(self) -> (u32, u32) {
        match self {
            Self::Null => (1, 3),
            Self::Zero => (1, 5),
            Self::Full => (1, 7),
            Self::Random => (1, 8),
            Self::Urandom => (1, 9),
            Self::Tty => (5, 0),
            Self::Stream(_) => (0, 0),
            Self::Ptmx | Self::Master(_) => (5, 2),
            Self::Slave(number) => (136, number),
        }
    }

    /// The attributes of its node.
    pub(crate) fn stat(self, now: Timestamp) -> Stat {
        let mut stat = Stat::new(FileType::CharDevice, 0o666, now);
        stat.special = self.number();
        stat
    }

    /// The standard stream that answers for the device.
    pub(crate) fn stream(self) -> Option<Stream> {
        match self {
            Self::Stream(stream) => Some(stream),
            Self::Tty => Stream::ALL.into_iter().find(|stream| stream.is_terminal()),
            _ => None,
        }
    }
}

impl Vfs {
    /// Whether bytes written to the file are thrown away: `/dev/null` and `/dev/zero`, also those
    /// of the host as a standard stream.
    pub(crate) fn is_sink(&self, id: FileId) -> bool {
        let Opened::Device { node, device } = self.file(id).opened else { return false };
        let sinks = [Device::Null.number(), Device::Zero.number()];
        let special = self.node(node).stat.as_ref().map(|stat| stat.special);
        device != Device::Tty && special.is_some_and(|special| sinks.contains(&special))
    }

    /// Reads from a device; zero bytes are the end of a stream.
    ///
    /// # Errors
    /// Those of the host's stream.
    pub(crate) fn read_device(
        &mut self,
        device: Device,
        offset: Option<u64>,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        match device {
            Device::Null => Ok(0),
            Device::Zero | Device::Full => {
                bytes.fill(0);
                Ok(bytes.len())
            }
            Device::Random | Device::Urandom => {
                self.random.fill(bytes);
                Ok(bytes.len())
            }
            // Those of the kernel: `syscall/file/terminal.rs`.
            Device::Ptmx | Device::Master(_) | Device::Slave(_) => Err(Errno::EIO),
            Device::Tty | Device::Stream(_) => {
                let fd = device.stream().ok_or(Errno::EIO)?.fd();
                let read = || match offset {
                    Some(offset) => io::pread(fd, &mut *bytes, offset),
                    None => io::read(fd, &mut *bytes),
                };
                when_ready(fd, PollFlags::IN, read)
            }
        }
    }
}

/// Writes to a device as much as it takes at once.
///
/// # Errors
/// `ENOSPC` from `/dev/full`; those of the host's stream, `EPIPE` among them.
pub(crate) fn write_device(
    device: Device,
    offset: Option<u64>,
    bytes: &[u8],
) -> Result<usize, Errno> {
    match device {
        Device::Full if bytes.is_empty() => Ok(0),
        Device::Full => Err(Errno::ENOSPC),
        Device::Null | Device::Zero | Device::Random | Device::Urandom => Ok(bytes.len()),
        Device::Ptmx | Device::Master(_) | Device::Slave(_) => Err(Errno::EIO),
        Device::Tty | Device::Stream(_) => {
            let fd = device.stream().ok_or(Errno::EIO)?.fd();
            when_ready(fd, PollFlags::OUT, || match offset {
                Some(offset) => io::pwrite(fd, bytes, offset),
                None => io::write(fd, bytes),
            })
        }
    }
}

/// Waits until the host says that one of the streams is ready for its poll events, at most
/// `pause_ns`; returns those that are.
pub(crate) fn wait_for_streams(
    streams: &[(Stream, u16)],
    pause_ns: Option<u64>,
) -> Vec<(Stream, u16)> {
    let poll_fd = |&(stream, events): &(Stream, u16)| {
        PollFd::from_borrowed_fd(stream.fd(), PollFlags::from_bits_truncate(events))
    };
    let mut fds: Vec<PollFd<'_>> = streams.iter().map(poll_fd).collect();
    let limit = pause_ns.map(|ns| event::Timespec {
        tv_sec: (ns / 1_000_000_000).cast_signed(),
        tv_nsec: (ns % 1_000_000_000).cast_signed(),
    });
    // A failure is as if nothing were ready: time passes.
    if io::retry_on_intr(|| event::poll(&mut fds, limit.as_ref())).is_err() {
        return Vec::new();
    }
    let ready = streams.iter().zip(&fds).filter(|(_, fd)| !fd.revents().is_empty());
    ready.map(|(stream, _)| *stream).collect()
}

/// Calls the host again after an interruption, and when a stream that somebody else has made
/// non-blocking is ready.
fn when_ready(
    fd: BorrowedFd<'_>,
    events: PollFlags,
    mut call: impl FnMut() -> io::Result<usize>,
) -> Result<usize, Errno> {
    loop {
        match io::retry_on_intr(&mut call) {
            Err(io::Errno::AGAIN) => {
                let mut fds = [PollFd::from_borrowed_fd(fd, events)];
                io::retry_on_intr(|| event::poll(&mut fds, None))?;
            }
            result => return Ok(result?),
        }
    }
}
