//! Errors of the memory manager, closed and with their numbers.

use core::fmt;

use machine::VirtAddr;

/// Why an operation on memory was refused. The kernel maps each variant to one errno.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MmError {
    /// EINVAL: an argument makes no sense; the text says which.
    InvalidArgument(&'static str),
    /// ENOMEM: a limit, no room, or a hole in the range; the text says which.
    NoMemory(&'static str),
    /// EEXIST: something is mapped there.
    Exists,
    /// EPERM.
    NotPermitted,
    /// EAGAIN: a limit on locked memory.
    Again,
    /// EOVERFLOW: the offset does not fit.
    Overflow,
    /// EACCES: the file does not allow it.
    AccessDenied,
    /// ENODEV: the file can not be mapped.
    NoDevice,
    /// EOPNOTSUPP.
    NotSupported,
    /// EFAULT: an address is not mapped.
    Fault {
        /// The address.
        addr: VirtAddr,
    },
    /// EBUSY: locked pages.
    Busy,
    /// ETXTBSY.
    TextBusy,
    /// EIO: the pager failed.
    Io(PagerError),
    /// The machine has more frames than 32 bits can number.
    RamTooLarge {
        /// Frames of the machine.
        frame_count: u64,
    },
}

impl fmt::Display for MmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidArgument(what) => write!(f, "invalid argument: {what}"),
            Self::NoMemory(what) => write!(f, "out of memory: {what}"),
            Self::Exists => write!(f, "range is already mapped"),
            Self::NotPermitted => write!(f, "not permitted"),
            Self::Again => write!(f, "locked memory limit reached"),
            Self::Overflow => write!(f, "offset does not fit"),
            Self::AccessDenied => write!(f, "the file does not allow this access"),
            Self::NoDevice => write!(f, "the file can not be mapped"),
            Self::NotSupported => write!(f, "not supported"),
            Self::Fault { addr } => write!(f, "address {addr} is not mapped"),
            Self::Busy => write!(f, "pages are locked"),
            Self::TextBusy => write!(f, "the file is in use"),
            Self::Io(error) => write!(f, "{error}"),
            Self::RamTooLarge { frame_count } => {
                write!(f, "{frame_count:#x} frames of RAM are more than can be managed")
            }
        }
    }
}

impl core::error::Error for MmError {}

/// Why a pager could not bring or take a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PagerError {
    /// The device failed.
    Io {
        /// Index of the page in the object.
        index: u64,
    },
    /// No space on the device.
    NoSpace {
        /// Index of the page in the object.
        index: u64,
    },
    /// The object has no such page, or was dropped.
    NoPage {
        /// Index of the page in the object.
        index: u64,
    },
}

impl fmt::Display for PagerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { index } => write!(f, "input or output error at page {index:#x}"),
            Self::NoSpace { index } => write!(f, "no space for page {index:#x}"),
            Self::NoPage { index } => write!(f, "no page {index:#x}"),
        }
    }
}

impl core::error::Error for PagerError {}

/// Why a page fault could not be resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultError {
    /// No VMA covers the address and no stack may grow there (SIGSEGV, MAPERR).
    NoVma {
        /// The byte address that faulted.
        addr: VirtAddr,
    },
    /// The VMA does not allow the access (SIGSEGV, ACCERR).
    Denied {
        /// The byte address that faulted.
        addr: VirtAddr,
    },
    /// The page is beyond the end of the file, or could not be read (SIGBUS, ADRERR).
    BusError {
        /// The byte address that faulted.
        addr: VirtAddr,
    },
    /// There is no free frame.
    OutOfMemory {
        /// The byte address that faulted.
        addr: VirtAddr,
    },
}

impl fmt::Display for FaultError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVma { addr } => write!(f, "no mapping at {addr}"),
            Self::Denied { addr } => write!(f, "access denied at {addr}"),
            Self::BusError { addr } => write!(f, "no such page of the file at {addr}"),
            Self::OutOfMemory { addr } => write!(f, "no free frame for {addr}"),
        }
    }
}

impl core::error::Error for FaultError {}
