//! The files of the guest: one tree, its open files, and their content.
//!
//! The tree is the host's (or `--root DIR`), seen through a copy-on-write layer that lives in
//! memory and is gone at exit; `--bind` adds host directories, written through when `rw`. `/proc`,
//! `/dev` and `/sys` are made here: nothing of the host's ever shows through. Paths are walked
//! component by component in the guest's view, so no `..` and no symbolic link leaves it.
//!
//! Nouns: [`Vfs`] (the tree and all open files), [`NodeId`] (an inode), [`FileId`] (an open file
//! description), [`FdTable`] (the numbers of one task), [`FsContext`] (its place and rights).
//!
//! Bytes of regular files are in the page cache of crate `mm`: what a program writes reaches the
//! layer, or the host's file below a `rw` bind, when it is written back (`write_back.rs`).
//!
//! Does not: enforce quotas other than the layer's size, follow changes other host programs make
//! to directories during the run, pass device nodes, FIFOs or sockets of the host through.
//!
//! Invariants
//! 1. No host path is opened that was not found by [`Vfs::walk`] from the guest's root.
//! 2. The host is written only below a `rw` bind and through inherited standard streams.
//! 3. A node lives while a name, an open file or a mapping object refers to it.

mod attributes;
mod content;
mod descriptor;
mod device;
mod host;
mod keys;
mod listing;
mod lock;
mod namespace;
mod node;
mod open;
mod patience;
mod pipe;
mod pool;
pub(crate) mod proc;
mod regular;
mod socket;
mod special;
mod stat;
mod stream;
mod terminal;
#[cfg(test)]
mod tests;
mod timer;
mod tree;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use machine::Machine;
use mm::{MappedFile, Memory, ObjectId};

use crate::errno::Errno;
use crate::random::Generator;
use content::Budget;
use lock::Locks;
use node::{HostKey, Node};
use open::OpenFile;
use socket::Sockets;
use terminal::Terminals;

pub(crate) use attributes::{Change, Grant, host_fstatfs, host_statfs, permits};
pub(crate) use content::{FILE_BYTES_MAX, Seek};
pub use descriptor::FdTable;
pub(crate) use descriptor::Inherit;
pub(crate) use device::{Device, write_device};
pub use keys::Keys;
pub(crate) use listing::Entry;
pub(crate) use lock::{Lock, LockKind, LockOwner};
pub(crate) use namespace::{Made, RenameRules};
pub(crate) use node::{NodeKind, ProcFile, Target};
pub(crate) use open::{Interest, Moves, Opened, check_flags, flag};
pub(crate) use patience::Patience;
pub(crate) use pipe::PIPE_BUF;
pub(crate) use pool::{Pool, Share};
pub(crate) use regular::Pages;
pub use socket::SocketId;
pub(crate) use socket::{
    Link, Received, SHUT_READ, SHUT_WRITE, Sender, SocketKind, SocketState, Take,
};
pub(crate) use special::{
    SEAL_EXEC, SEAL_SEAL, SEAL_WRITE, SEALS_KNOWN, SEALS_OF_EXEC, SEALS_WRITE,
};
pub(crate) use stat::encode_device;
pub use stat::{FileType, Stat, Timestamp};
pub use stream::Stream;
pub(crate) use terminal::{Control, End as TerminalEnd, Settings, TerminalId, TerminalSignal};
pub(crate) use walk::{Follow, View, Walk, WalkRules};

/// Longest name of a file.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Longest path, its final zero byte included.
pub(crate) const PATH_BYTES_MAX: usize = 4096;

/// An inode of the guest's tree.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct NodeId(u32);

/// An open file description.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId(u32);

/// What became ready, or no longer is: whoever waits for it has to look again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum News {
    /// Of a pipe or FIFO.
    Node(NodeId),
    /// Of an open file without an inode.
    File(FileId),
    /// Of a socket.
    Socket(SocketId),
    /// Of a pseudo-terminal.
    Terminal(u32),
    /// The terminal of this session is gone.
    HungUp(u32),
}

/// A host directory or file shown at a place of its own.
#[derive(Clone, Debug)]
pub struct Bind {
    /// What is shown.
    pub host: PathBuf,
    /// Where, an absolute guest path.
    pub guest: Vec<u8>,
    /// Whether the guest's writes reach the host.
    pub access: BindAccess,
}

/// Whether a bind may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BindAccess {
    /// Writes fail with `EROFS`.
    ReadOnly,
    /// Writes go to the host.
    ReadWrite,
}

/// What a file system is made from.
#[derive(Clone, Debug)]
pub struct VfsConfig {
    /// The host directory that is the guest's root.
    pub root: PathBuf,
    /// Further host directories.
    pub binds: Vec<Bind>,
    /// Host paths that do not exist for the guest; see [`default_hidden`].
    pub hidden: Vec<PathBuf>,
    /// Most bytes the copy-on-write layer may hold.
    pub overlay_bytes_max: u64,
    /// Seed of `/dev/urandom`.
    pub seed: u64,
    /// Process number of the first task, for `/proc/self`.
    pub pid: u32,
}

/// Who the guest is towards files.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// Where a task stands in the tree and what it may do there.
#[derive(Clone, Debug)]
pub struct FsContext {
    /// Working directory.
    pub cwd: NodeId,
    /// Mode bits taken from new files.
    pub umask: u32,
    /// Who asks.
    pub credentials: Credentials,
    /// Guest path of the program, for `/proc/self/exe`.
    pub exe: Vec<u8>,
}

/// What `mmap` finds behind a file.
#[derive(Clone, Debug)]
pub enum MapSource {
    /// `/dev/zero`: the mapping is anonymous.
    Anonymous,
    /// A file of the page cache.
    File(Arc<MappedFile>),
    /// Frames of the test device.
    Device(Arc<MappedFile>),
}

/// Why the tree could not be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VfsError {
    /// The root or bind that can not be used.
    pub path: Vec<u8>,
    /// Why.
    pub errno: Errno,
}

/// The tree and all open files.
#[derive(Debug)]
pub struct Vfs {
    nodes: Vec<Option<Node>>,
    free_nodes: Vec<NodeId>,
    root: NodeId,
    /// The directory of devices: `/dev`, if no bind covers it.
    dev: NodeId,
    host_nodes: BTreeMap<HostKey, NodeId>,
    hidden: BTreeSet<PathBuf>,
    files: Vec<Option<OpenFile>>,
    free_files: Vec<FileId>,
    sockets: Sockets,
    pub(crate) locks: Locks,
    pub(crate) terminals: Terminals,
    /// When timers of files run out.
    timers: BTreeSet<(u64, FileId)>,
    object_nodes: BTreeMap<ObjectId, NodeId>,
    /// Objects whose nodes are gone and that the page cache must forget.
    dead_objects: Vec<ObjectId>,
    /// Nodes of tasks in `/proc` made by the system call under way.
    passing: Vec<NodeId>,
    /// Nodes without a name that only mappings need.
    lingering: Vec<NodeId>,
    /// Nodes of host files that nobody has open any more and that have cached pages.
    resting: Vec<NodeId>,
    /// Changes since the last [`Vfs::take_news`].
    news: Vec<News>,
    budget: Arc<Budget>,
    /// Our memory that messages and names of the guest take.
    pub(crate) pool: Arc<Pool>,
    random: Generator,
    now: Timestamp,
    next_inode: u64,
    mount_count: u32,
}

impl Vfs {
    /// The tree of `config`, with nothing opened.
    ///
    /// # Errors
    /// The root or a bind that is not there or is no directory.
    pub fn new(config: VfsConfig) -> Result<Self, VfsError> {
        tree::plant(config)
    }

    /// A place to stand at: the working directory `cwd`, by its path from the root.
    ///
    /// # Errors
    /// Those of `chdir`.
    pub fn context(&mut self, cwd: &[u8], credentials: Credentials) -> Result<FsContext, Errno> {
        let context = FsContext { cwd: self.root, umask: 0o022, credentials, exe: Vec::new() };
        let files = FdTable::default();
        let cwd = self.find_directory(&View::new(&context, &files), cwd)?;
        self.hold(cwd);
        Ok(FsContext { cwd, ..context })
    }

    /// Sets the time that changed files get, nanoseconds since 1970.
    pub fn set_now_ns(&mut self, ns: u64) {
        self.now = Timestamp::from_ns(ns);
    }

    /// How many open files and how many nodes there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let files = self.files.len() - self.free_files.len();
        (files, self.nodes.len() - self.free_nodes.len())
    }

    /// How many pipes there are.
    pub(crate) fn pipe_count(&self) -> usize {
        self.pool.pipe_count()
    }

    /// Notes news for those who wait.
    pub(crate) fn tell(&mut self, news: News) {
        self.news.push(news);
    }

    /// What changed since the last time, for those who wait for it.
    pub(crate) fn take_news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.news)
    }

    /// Lets the page cache forget files that nothing refers to any more.
    pub fn reap(&mut self, memory: &mut Memory, hw: &mut Machine) {
        for id in std::mem::take(&mut self.lingering) {
            self.drop_if_unused(id);
        }
        self.put_away(memory, hw);
        for object in std::mem::take(&mut self.dead_objects) {
            memory.drop_object(hw, object);
        }
    }

    /// Bytes that changed files take and may take.
    pub fn overlay_usage(&self) -> (u64, u64) {
        self.budget.usage()
    }
}

/// Host paths that a guest does not see unless told otherwise: keys, tokens and passwords of the
/// user whose home is `home`, and the password files of the system.
pub fn default_hidden(home: Option<&std::path::Path>) -> Vec<PathBuf> {
    const IN_HOME: [&str; 13] = [
        ".ssh",
        ".gnupg",
        ".aws",
        ".azure",
        ".config/gcloud",
        ".netrc",
        ".docker",
        ".kube",
        ".git-credentials",
        ".mozilla",
        ".config/google-chrome",
        ".config/chromium",
        ".password-store",
    ];
    const OF_SYSTEM: [&str; 4] = ["/etc/shadow", "/etc/shadow-", "/etc/gshadow", "/etc/gshadow-"];
    let mut hidden: Vec<PathBuf> = OF_SYSTEM.iter().map(PathBuf::from).collect();
    let root_home = std::path::Path::new("/root");
    if home.is_some_and(|home| home != root_home) {
        hidden.push(root_home.to_path_buf());
    }
    if let Some(home) = home {
        hidden.extend(IN_HOME.iter().map(|name| home.join(name)));
    }
    hidden
}
