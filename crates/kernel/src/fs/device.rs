//! The devices of `/dev`; the standard streams that the run inherited are in `stream.rs`.
//!
//! Only these exist: a device node of the host can be looked at, not opened.

use super::stat::{FileType, Stat, Timestamp};
use super::stream::Stream;
use super::{FileId, Opened, Vfs};
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
    /// The test device: `testmem.rs`.
    TestMemory,
    /// Makes pseudo-terminals.
    Ptmx,
    /// The master of a pseudo-terminal.
    Master(u32),
    /// Its slave.
    Slave(u32),
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
            // The first of the numbers that miscellaneous devices get as they come.
            Self::TestMemory => (10, 127),
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
    /// Those of the host's stream; `EAGAIN`: it has nothing now.
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
            // Those of the kernel: `syscall/file/terminal.rs`, `testmem.rs`.
            Device::Ptmx | Device::Master(_) | Device::Slave(_) | Device::TestMemory => {
                Err(Errno::EIO)
            }
            Device::Tty | Device::Stream(_) => {
                device.stream().ok_or(Errno::EIO)?.read(offset, bytes)
            }
        }
    }
}

/// Writes to a device as much as it takes at once.
///
/// # Errors
/// `ENOSPC` from `/dev/full`; those of the host's stream, `EPIPE` among them, and `EAGAIN` while it
/// has no room.
pub(crate) fn write_device(
    device: Device,
    offset: Option<u64>,
    bytes: &[u8],
) -> Result<usize, Errno> {
    match device {
        Device::Full if bytes.is_empty() => Ok(0),
        Device::Full => Err(Errno::ENOSPC),
        Device::Null | Device::Zero | Device::Random | Device::Urandom => Ok(bytes.len()),
        Device::Ptmx | Device::Master(_) | Device::Slave(_) | Device::TestMemory => Err(Errno::EIO),
        Device::Tty | Device::Stream(_) => device.stream().ok_or(Errno::EIO)?.write(offset, bytes),
    }
}
