//! Where the content of a VMA comes from.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::num::NonZeroU64;

use crate::rights::Rights;

/// The number of an address space.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MmId(pub u32);

/// The number of an object in the page cache: one per inode or shared memory segment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectId(pub u32);

/// A family of private pages (the `anon_vma` of Linux): VMAs merge only within one.
///
/// Each VMA of a child of fork has a family of its own, descended from the parent's; all
/// descendants have one root, by which every mapping of a private page is found (see `rmap.rs`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct AnonId {
    number: NonZeroU64,
    root: NonZeroU64,
}

impl AnonId {
    /// A family without ancestors.
    pub(crate) const fn new(number: NonZeroU64) -> Self {
        Self { number, root: number }
    }

    /// The family `number` of a child's VMA that had this one in the parent.
    pub(crate) const fn descendant(self, number: NonZeroU64) -> Self {
        Self { number, root: self.root }
    }

    /// The number of the first ancestor, never used for another family.
    pub const fn root(self) -> u64 {
        self.root.get()
    }

    /// Whether the family came by fork: its VMAs take no new neighbours in (FORK-6).
    pub fn is_inherited(self) -> bool {
        self.number != self.root
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
    /// Frames of a device: mapped as a whole, never by a fault; the object has no pages.
    Device,
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
