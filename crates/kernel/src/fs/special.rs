//! Files without a name: pipes, event counters, memory files; and how files move their place.

use std::sync::{Arc, Mutex};

use super::attributes::Grant;
use super::content::{self, Content, Holes, Seek};
use super::device::Device;
use super::listing::Entry;
use super::namespace::Made;
use super::node::{Layer, Node, NodeKind, Target};
use super::open::{Opened, flag};
use super::pipe::{PIPE_BYTES_MAX, Pipe};
use super::stat::{FileType, Stat};
use super::walk::{View, Walk};
use super::{FileId, News, NodeId, Vfs};
use crate::errno::Errno;

/// The mount that memory files without a name belong to: no directory has it.
const MEMORY_MOUNT: u32 = u32::MAX;
/// Largest count of an event counter.
const EVENT_MAX: u64 = u64::MAX - 1;

/// `F_SEAL_SEAL`: no further seals.
pub(crate) const SEAL_SEAL: u32 = 1;
/// `F_SEAL_SHRINK`: never shorter.
const SEAL_SHRINK: u32 = 2;
/// `F_SEAL_GROW`: never longer.
const SEAL_GROW: u32 = 4;
/// `F_SEAL_WRITE`: no change of its bytes.
pub(crate) const SEAL_WRITE: u32 = 8;
/// `F_SEAL_FUTURE_WRITE`: no change but by mappings that exist.
const SEAL_FUTURE_WRITE: u32 = 16;
/// `F_SEAL_EXEC`: the right to execute stays as it is.
pub(crate) const SEAL_EXEC: u32 = 32;
/// Seals that refuse `write` and new writable mappings.
pub(crate) const SEALS_WRITE: u32 = SEAL_WRITE | SEAL_FUTURE_WRITE;
/// What [`SEAL_EXEC`] brings along for a file that can be executed.
pub(crate) const SEALS_OF_EXEC: u32 = SEAL_SHRINK | SEAL_GROW | SEALS_WRITE;
/// All seals that are known.
pub(crate) const SEALS_KNOWN: u32 = 0x3f;

impl Vfs {
    /// Moves the place of an open file on, if it has one.
    pub(crate) fn advance(&mut self, id: FileId, bytes: u64) {
        let file = self.file_mut(id);
        let has_place = match file.opened {
            Opened::Regular(_) | Opened::Proc { .. } => true,
            Opened::Device { device, .. } => device == Device::TestMemory,
            _ => false,
        };
        if has_place {
            file.offset = file.offset.saturating_add(bytes);
        }
    }

    /// Whether reading on never waits for somebody else.
    pub(crate) fn never_waits(&self, id: FileId) -> bool {
        match &self.file(id).opened {
            Opened::Regular(_) | Opened::Proc { .. } => true,
            Opened::Device { device, .. } => !matches!(
                device,
                Device::Tty | Device::Stream(_) | Device::Master(_) | Device::Slave(_)
            ),
            _ => false,
        }
    }

    /// Makes a pipe: the end to read from and the end to write to.
    pub(crate) fn open_pipe(&mut self, view: &View<'_>, status: u32) -> [FileId; 2] {
        let mut stat = Stat::new(FileType::Fifo, 0o600, self.now);
        stat.inode = self.take_inode();
        stat.device = (0, 0xe);
        stat.uid = view.context.credentials.uid;
        stat.gid = view.context.credentials.gid;
        let pipe = Pipe::new(&self.pool);
        let mut node = Node::new(NodeKind::Pipe(pipe), Layer::Overlay, MEMORY_MOUNT);
        node.stat = Some(Box::new(stat));
        node.is_deleted = true;
        let node = self.add_node(node);
        let reader = self.add_file(Opened::Pipe(node), status);
        let writer = self.add_file(Opened::Pipe(node), status | flag::WRONLY);
        [reader, writer]
    }

    /// Makes an event counter.
    pub(crate) fn open_event(&mut self, count: u64, is_semaphore: bool, status: u32) -> FileId {
        self.add_file(Opened::Event { count, is_semaphore }, status | flag::RDWR)
    }

    /// Makes a file that signals are read from.
    pub(crate) fn open_signals(&mut self, mask: u64, status: u32) -> FileId {
        self.add_file(Opened::Signals(mask), status | flag::RDWR)
    }

    /// Makes a file that is a process.
    pub(crate) fn open_process(&mut self, pid: u32, status: u32) -> FileId {
        self.add_file(Opened::Process(pid), status | flag::RDWR)
    }

    /// Makes an epoll that waits for nothing yet.
    pub(crate) fn open_epoll(&mut self) -> FileId {
        self.add_file(Opened::Epoll(Vec::new()), flag::RDWR)
    }

    /// Makes a file in memory, as `memfd_create` does.
    ///
    /// # Errors
    /// `ENOSPC`: there are too many files.
    pub(crate) fn open_memory_file(
        &mut self,
        view: &View<'_>,
        name: &[u8],
        can_seal: bool,
    ) -> Result<FileId, Errno> {
        let root = self.root;
        let mut node = self.new_node(view, root, &Made::File(0o777))?;
        let content = Content::empty(&self.budget, Holes::Absent);
        node.mount = MEMORY_MOUNT;
        node.place = Some((root, [b"memfd:", name].concat().into_boxed_slice()));
        node.is_deleted = true;
        if let Some(regular) = node.regular_mut() {
            regular.content = Some(Arc::new(Mutex::new(content)));
            regular.seals = Some(if can_seal { 0 } else { SEAL_SEAL });
        }
        if let Some(stat) = &mut node.stat {
            stat.device = (0, 1);
            stat.link_count = 0;
        }
        let id = self.add_node(node);
        Ok(self.add_file(Opened::Regular(id), flag::RDWR | flag::LARGEFILE))
    }

    /// The seals of a memory file; `None` for files that can have none.
    pub(crate) fn seals_mut(&mut self, id: NodeId) -> Option<&mut u32> {
        self.node_mut(id).regular_mut()?.seals.as_mut()
    }

    pub(crate) fn seals(&self, id: NodeId) -> u32 {
        match &self.node(id).kind {
            NodeKind::Regular(regular) => regular.seals.unwrap_or(0),
            _ => 0,
        }
    }

    /// Whether seals let a file have another length.
    ///
    /// # Errors
    /// `EPERM`.
    pub(crate) fn check_size_seals(&self, id: NodeId, size_bytes: u64) -> Result<(), Errno> {
        let seals = self.seals(id);
        if seals & (SEAL_SHRINK | SEAL_GROW) == 0 {
            return Ok(());
        }
        let size = self.size_of(id)?;
        let is_refused = size_bytes < size && seals & SEAL_SHRINK != 0
            || size_bytes > size && seals & SEAL_GROW != 0;
        if is_refused { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// How many of `bytes` bytes seals let a program write at `offset`: whole pages, as Linux
    /// writes them.
    ///
    /// # Errors
    /// `EPERM`: none.
    pub(crate) fn writable_bytes(
        &self,
        id: NodeId,
        offset: u64,
        bytes: usize,
    ) -> Result<usize, Errno> {
        let seals = self.seals(id);
        if seals & SEALS_WRITE != 0 {
            return Err(Errno::EPERM);
        }
        let size = if seals & SEAL_GROW != 0 { self.size_of(id)? } else { u64::MAX };
        if offset.saturating_add(bytes as u64) <= size {
            return Ok(bytes);
        }
        match (size - size % machine::PAGE_BYTES).saturating_sub(offset) {
            0 => Err(Errno::EPERM),
            granted => Ok(content::to_usize(granted)),
        }
    }

    pub(crate) fn pipe(&self, id: NodeId) -> Option<&Pipe> {
        match &self.node(id).kind {
            NodeKind::Pipe(pipe) => Some(pipe),
            _ => None,
        }
    }

    pub(crate) fn pipe_mut(&mut self, id: NodeId) -> Option<&mut Pipe> {
        match &mut self.node_mut(id).kind {
            NodeKind::Pipe(pipe) => Some(pipe),
            _ => None,
        }
    }

    /// Whether a pipe has, or had, a name.
    pub(crate) fn is_fifo(&self, id: NodeId) -> bool {
        self.node(id).mount != MEMORY_MOUNT
    }

    /// Notes how often the other end of a FIFO was opened before this one.
    pub(crate) fn note_other_end(&mut self, id: FileId, node: NodeId) {
        let file = self.file(id);
        let reads = file.can_read();
        let is_waiting = file.can_write() != reads;
        let Some(pipe) = self.pipe(node) else { return };
        let others = if reads { pipe.writer_count } else { pipe.reader_count };
        let count = pipe.open_counts[usize::from(reads)];
        if is_waiting && others == 0 {
            self.file_mut(id).offset = count.into();
        }
    }

    /// Whether a FIFO that was opened needs not wait for its other end.
    pub(crate) fn has_other_end(&self, id: FileId, node: NodeId) -> bool {
        let file = self.file(id);
        let Some(pipe) = self.pipe(node) else { return true };
        let reads = file.can_read();
        if file.is_nonblocking() || reads == file.can_write() {
            return true;
        }
        let others = if reads { pipe.writer_count } else { pipe.reader_count };
        others > 0 || u64::from(pipe.open_counts[usize::from(reads)]) != file.offset
    }

    /// Throws the first bytes of a pipe away.
    pub(crate) fn skip_pipe(&mut self, id: NodeId, count: usize) {
        if let Some(pipe) = self.pipe_mut(id) {
            pipe.skip(count);
        }
        self.news.push(News::Node(id));
    }

    pub(crate) fn read_pipe(&mut self, id: NodeId, bytes: &mut [u8]) -> Result<usize, Errno> {
        let count = self.pipe_mut(id).ok_or(Errno::EINVAL)?.read(bytes)?;
        self.news.push(News::Node(id));
        Ok(count)
    }

    /// Puts bytes that were just read back, because they did not arrive.
    pub(crate) fn put_back(&mut self, id: NodeId, bytes: &[u8]) {
        if let Some(pipe) = self.pipe_mut(id) {
            pipe.put_back(bytes);
        }
        self.news.push(News::Node(id));
    }

    pub(crate) fn write_pipe(&mut self, id: NodeId, bytes: &[u8]) -> Result<usize, Errno> {
        let count = self.pipe_mut(id).ok_or(Errno::EINVAL)?.write(bytes)?;
        self.news.push(News::Node(id));
        Ok(count)
    }

    /// `SEEK_DATA` and `SEEK_HOLE`.
    ///
    /// # Errors
    /// `ENXIO`: nothing there before the end.
    pub(crate) fn seek_content(&self, id: NodeId, offset: i64, to: Seek) -> Result<u64, Errno> {
        let NodeKind::Regular(regular) = &self.node(id).kind else { return Err(Errno::EINVAL) };
        let content = regular.content.as_ref().ok_or(Errno::EINVAL)?;
        let offset = u64::try_from(offset).map_err(|_| Errno::ENXIO)?;
        content::lock(content).seek(offset, to)
    }

    /// Asks the host to keep what was written through.
    ///
    /// # Errors
    /// Those of the host's `fsync`.
    pub(crate) fn sync(&self, id: NodeId) -> Result<(), Errno> {
        let NodeKind::Regular(regular) = &self.node(id).kind else { return Ok(()) };
        regular.content.as_ref().map_or(Ok(()), |content| content::lock(content).sync())
    }

    /// The entries of an open directory as of its last rewind.
    pub(crate) fn take_entries(&mut self, id: FileId) -> Vec<Entry> {
        match &mut self.file_mut(id).opened {
            Opened::Directory { entries, .. } => entries.take().unwrap_or_default(),
            _ => Vec::new(),
        }
    }

    /// The text of a target, if it is a symbolic link.
    ///
    /// # Errors
    /// Those of the host's `readlink`.
    pub(crate) fn link_text(
        &self,
        view: &View<'_>,
        target: &Target,
    ) -> Result<Option<Vec<u8>>, Errno> {
        super::walk::link_text(self, view, target)
    }

    /// What `access` for writing says of a read-only mount.
    ///
    /// # Errors
    /// `EROFS`.
    pub(crate) fn check_read_only(&self, walk: &Walk, stat: &Stat, mode: u32) -> Result<(), Errno> {
        let node = match walk.target {
            Target::Node(id) => id,
            _ => walk.parent,
        };
        let node = self.node(node);
        let is_file = matches!(stat.file_type(), FileType::Regular | FileType::Directory);
        let wants_write = Grant(mode).0 & Grant::WRITE.0 != 0;
        if wants_write && node.layer == Layer::ReadOnly && is_file {
            return Err(Errno::EROFS);
        }
        Ok(())
    }

    /// Whether a file's bytes may be changed.
    ///
    /// # Errors
    /// `EROFS`.
    pub(crate) fn check_writable(&self, id: NodeId) -> Result<(), Errno> {
        match self.node(id).layer {
            Layer::ReadOnly => Err(Errno::EROFS),
            Layer::Fixed => Err(Errno::EACCES),
            Layer::Overlay | Layer::Through => Ok(()),
        }
    }

    /// `F_SETPIPE_SZ`.
    ///
    /// # Errors
    /// `EPERM`: more than allowed. `EBUSY`: less than it holds.
    pub(crate) fn resize_pipe(&mut self, id: NodeId, bytes: u64) -> Result<u64, Errno> {
        let bytes = usize::try_from(bytes.max(4096)).map_err(|_| Errno::EINVAL)?;
        let capacity = bytes.checked_next_power_of_two().ok_or(Errno::EINVAL)?;
        if capacity > PIPE_BYTES_MAX {
            return Err(Errno::EPERM);
        }
        let pipe = self.pipe_mut(id).ok_or(Errno::EBADF)?;
        if capacity < pipe.held_bytes() {
            return Err(Errno::EBUSY);
        }
        pipe.capacity = capacity;
        Ok(capacity as u64)
    }

    /// Reads an event counter.
    ///
    /// # Errors
    /// `EINVAL`: less than eight bytes. `EAGAIN`: the count is zero.
    pub(crate) fn read_event(&mut self, id: FileId, bytes: &mut [u8]) -> Result<usize, Errno> {
        let place = bytes.first_chunk_mut::<8>().ok_or(Errno::EINVAL)?;
        let Opened::Event { count, is_semaphore } = &mut self.file_mut(id).opened else {
            return Err(Errno::EINVAL);
        };
        if *count == 0 {
            return Err(Errno::EAGAIN);
        }
        let taken = if *is_semaphore { 1 } else { *count };
        *count -= taken;
        *place = taken.to_le_bytes();
        self.file_mut(id).moves[1] += 1;
        self.news.push(News::File(id));
        Ok(8)
    }

    /// Adds to an event counter.
    ///
    /// # Errors
    /// `EINVAL`: not eight bytes, or the largest number. `EAGAIN`: it would overflow.
    pub(crate) fn write_event(&mut self, id: FileId, bytes: &[u8]) -> Result<usize, Errno> {
        let added = u64::from_le_bytes(bytes.try_into().map_err(|_| Errno::EINVAL)?);
        let Opened::Event { count, .. } = &mut self.file_mut(id).opened else {
            return Err(Errno::EINVAL);
        };
        if added > EVENT_MAX {
            return Err(Errno::EINVAL);
        }
        if added > EVENT_MAX - *count {
            return Err(Errno::EAGAIN);
        }
        *count += added;
        self.file_mut(id).moves[0] += 1;
        self.news.push(News::File(id));
        Ok(8)
    }
}
