//! What `stat` tells about a file.

/// A point in time as files carry it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct Timestamp {
    /// Seconds since 1970.
    pub seconds: i64,
    /// The rest, below 10^9.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// The time `ns` nanoseconds after 1970.
    pub fn from_ns(ns: u64) -> Self {
        let nanoseconds = u32::try_from(ns % 1_000_000_000).unwrap_or(0);
        Self { seconds: (ns / 1_000_000_000).cast_signed(), nanoseconds }
    }
}

/// What kind of file an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileType {
    /// Bytes.
    Regular,
    /// Names.
    Directory,
    /// A path.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// None of these: eventfd, epoll.
    Anonymous,
}

/// The bits of `st_mode` that hold the type.
pub(crate) const TYPE_MASK: u32 = 0o170_000;
/// The bits of `st_mode` that `chmod` sets.
pub(crate) const MODE_MASK: u32 = 0o7777;

impl FileType {
    /// The type bits of `st_mode`.
    pub const fn mode_bits(self) -> u32 {
        match self {
            Self::Regular => 0o100_000,
            Self::Directory => 0o040_000,
            Self::Symlink => 0o120_000,
            Self::CharDevice => 0o020_000,
            Self::BlockDevice => 0o060_000,
            Self::Fifo => 0o010_000,
            Self::Socket => 0o140_000,
            Self::Anonymous => 0,
        }
    }

    /// The type in `mode`.
    pub const fn from_mode(mode: u32) -> Self {
        match mode & TYPE_MASK {
            0o100_000 => Self::Regular,
            0o040_000 => Self::Directory,
            0o120_000 => Self::Symlink,
            0o020_000 => Self::CharDevice,
            0o060_000 => Self::BlockDevice,
            0o010_000 => Self::Fifo,
            0o140_000 => Self::Socket,
            _ => Self::Anonymous,
        }
    }

    /// `d_type` of a directory entry.
    pub fn dirent(self) -> u8 {
        u8::try_from(self.mode_bits() >> 12).unwrap_or(0)
    }
}

/// Everything that `stat` and `statx` tell.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Major and minor number of the file system.
    pub device: (u32, u32),
    /// Number of the inode in it.
    pub inode: u64,
    /// Type and permissions.
    pub mode: u32,
    /// Names.
    pub link_count: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Major and minor number of a device node.
    pub special: (u32, u32),
    /// Length.
    pub size_bytes: u64,
    /// Preferred unit of reading and writing.
    pub block_bytes: u32,
    /// Space taken, in units of 512 bytes.
    pub blocks: u64,
    /// Last read.
    pub accessed: Timestamp,
    /// Last write.
    pub modified: Timestamp,
    /// Last change of the inode.
    pub changed: Timestamp,
    /// Birth.
    pub created: Timestamp,
}

impl Stat {
    /// An inode of the guest's own: no content, one name.
    pub fn new(kind: FileType, permissions: u32, now: Timestamp) -> Self {
        Self {
            device: (0, 0),
            inode: 0,
            mode: kind.mode_bits() | permissions & MODE_MASK,
            link_count: 1,
            uid: 0,
            gid: 0,
            special: (0, 0),
            size_bytes: 0,
            block_bytes: 4096,
            blocks: 0,
            accessed: now,
            modified: now,
            changed: now,
            created: now,
        }
    }

    /// What kind of file it is.
    pub const fn file_type(&self) -> FileType {
        FileType::from_mode(self.mode)
    }

    /// Sets the length and the space that it takes when fully written.
    pub fn set_size(&mut self, size_bytes: u64) {
        self.size_bytes = size_bytes;
        self.blocks = size_bytes.div_ceil(4096).saturating_mul(8);
    }
}

/// A device number as one word of `struct stat`.
///
/// # Source
/// Linux 6.12 `include/linux/kdev_t.h:new_encode_dev`.
pub(crate) fn encode_device((major, minor): (u32, u32)) -> u64 {
    u64::from(minor & 0xff) | u64::from(major & 0xfff) << 8 | u64::from(minor & !0xff) << 12
}
