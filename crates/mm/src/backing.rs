//! Where the content of a VMA comes from.

use alloc::boxed::Box;
use alloc::sync::Arc;

use crate::rights::Rights;

/// The number of an address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MmId(pub u32);

/// The number of an object in the page cache: one per inode or shared memory segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId(pub u32);

/// The number of a family of private pages (the `anon_vma` of Linux): VMAs merge only within one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AnonId(pub u32);

impl AnonId {
    const INHERITED: u32 = 1 << 31;

    /// The family as a child of fork has it.
    pub(crate) const fn inherited(self) -> Self {
        Self(self.0 | Self::INHERITED)
    }

    /// Whether the family came by fork: its VMAs take no new neighbours in (FORK-6).
    pub const fn is_inherited(self) -> bool {
        self.0 & Self::INHERITED != 0
    }
}

/// What kind of file is mapped.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FileKind {
    /// A file of a file system that writes back: shared pages start write-protected.
    Regular,
    /// Shared memory (tmpfs, memfd, `MAP_SHARED | MAP_ANONYMOUS`): counted as shmem.
    Shmem,
    /// Pages of the kernel (vdso, vvar): one per fault, no fault-around.
    Special,
}

/// One open file as a mapping sees it. VMAs of one open file hold the same `Arc`; two opens of one
/// file have two and do not merge.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MappedFile {
    /// The content.
    pub object: ObjectId,
    /// The name in `/proc/PID/maps`.
    pub path: Box<[u8]>,
    /// Major and minor number of the device.
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// What kind of file.
    pub kind: FileKind,
    /// The rights that a shared mapping may ever have.
    pub may: Rights,
}

/// Where the pages of a VMA come from.
#[derive(Clone, Debug)]
pub enum Backing {
    /// Zeros.
    Anon,
    /// A file or shared memory.
    File(Arc<MappedFile>),
}

impl Backing {
    /// The mapped file, if there is one.
    pub fn file(&self) -> Option<&Arc<MappedFile>> {
        match self {
            Self::Anon => None,
            Self::File(file) => Some(file),
        }
    }

    /// Whether both are anonymous or name the same open file (VMA-1).
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Anon, Self::Anon) => true,
            (Self::File(left), Self::File(right)) => Arc::ptr_eq(left, right),
            _ => false,
        }
    }
}
