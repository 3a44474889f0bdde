//! Regular files where bytes and the page cache meet.
//!
//! A file that was read, written or mapped has an object in the page cache. All three go through
//! its cached pages, and changes of length are told to it, so that all ways to the bytes agree
//! (FILE-1). They stay when the file is closed; the host's file is then closed too, until the next
//! open.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

use machine::{Machine, PAGE_BYTES};
use mm::{FileKind, MappedFile, Memory, Mm, ObjectId, Pager, Readahead, Rights};

use super::attributes::{self, Grant};
use super::content::{self, Content, ContentPager, Holes, SharedContent, to_usize};
use super::device::Device;
use super::node::{Layer, NodeKind, Regular, Target};
use super::open::Opened;
use super::special::SEALS_WRITE;
use super::stat::FileType;
use super::walk::{Follow, View, WalkRules};
use super::{FdTable, FileId, MapSource, NodeId, Vfs};
use crate::errno::Errno;
use crate::shelf::Shelf;

/// `AT_FDCWD` as a register holds it.
const AT_FDCWD: u64 = 0xffff_ff9c;

/// The machine side of a file operation.
#[derive(Debug)]
pub(crate) struct Pages<'a> {
    pub(crate) memory: &'a mut Memory,
    pub(crate) hw: &'a mut Machine,
    pub(crate) mm: &'a mut Mm,
    /// The address spaces of tasks that do not run.
    pub(crate) others: &'a mut Shelf<Mm>,
}

impl Vfs {
    /// Memory of zeros without a name, for pages that processes share.
    ///
    /// # Errors
    /// `EFBIG`.
    pub(crate) fn new_memory(&self, bytes: u64) -> Result<Box<dyn Pager>, Errno> {
        let mut content = Content::empty(&self.budget, Holes::Absent);
        content.set_size(bytes)?;
        Ok(Box::new(ContentPager::new(&Arc::new(Mutex::new(content)))))
    }

    /// The descriptors of a program that starts: the standard streams.
    pub fn standard_files(&mut self) -> FdTable {
        FdTable::with(&self.open_stdio())
    }

    /// Whether `path` is a program that the caller may execute.
    pub(crate) fn program_exists(&mut self, view: &View<'_>, path: &[u8]) -> bool {
        self.find_program(view, path).is_ok()
    }

    /// Opens a program or dynamic linker to be mapped.
    ///
    /// # Errors
    /// Those of the walk; `EACCES` for what is no regular file or has no execute right.
    pub(crate) fn open_program(
        &mut self,
        (memory, hw): (&mut Memory, &mut Machine),
        view: &View<'_>,
        path: &[u8],
    ) -> Result<Arc<MappedFile>, Errno> {
        let id = self.find_program(view, path)?;
        self.open_content(id, Grant::READ)?;
        self.mapping_of((memory, hw), id, Rights::READ | Rights::EXECUTE)
    }

    fn find_program(&mut self, view: &View<'_>, path: &[u8]) -> Result<NodeId, Errno> {
        let start = self.start_of(view, AT_FDCWD, path)?;
        let walk = self.walk(view, start, path, Follow::Yes, WalkRules::default())?;
        let walk = self.checked(walk)?;
        let stat = self.stat_target(&walk.target)?;
        if stat.file_type() != FileType::Regular {
            return Err(Errno::EACCES);
        }
        attributes::permits(view, &stat, Grant::EXECUTE)?;
        let id = self.node_of(walk.parent, &walk.name, walk.target)?;
        match self.node(id).kind {
            NodeKind::Regular(_) => Ok(id),
            _ => Err(Errno::EACCES),
        }
    }

    /// Opens a file that shall be a swap area: its content, its size, its full path.
    ///
    /// # Errors
    /// Those of the walk; `EACCES` without the right to write; `EINVAL` for what is no file.
    pub(crate) fn open_swap(
        &mut self,
        (memory, hw): (&mut Memory, &mut Machine),
        view: &View<'_>,
        path: &[u8],
    ) -> Result<(Arc<MappedFile>, u64, Vec<u8>), Errno> {
        let start = self.start_of(view, AT_FDCWD, path)?;
        let walk = self.walk(view, start, path, Follow::Yes, WalkRules::default())?;
        let walk = self.checked(walk)?;
        let stat = self.stat_target(&walk.target)?;
        if stat.file_type() != FileType::Regular {
            return Err(Errno::EINVAL);
        }
        attributes::permits(view, &stat, Grant::WRITE)?;
        let id = self.node_of(walk.parent, &walk.name, walk.target)?;
        if !matches!(self.node(id).kind, NodeKind::Regular(_)) {
            return Err(Errno::EINVAL);
        }
        self.open_content(id, Grant::READ)?;
        let file = self.mapping_of((memory, hw), id, Rights::READ)?;
        Ok((file, stat.size_bytes, self.path_of_node(id)))
    }

    /// The path from the root, without symbolic links, of what is there.
    ///
    /// # Errors
    /// Those of the walk.
    pub(crate) fn existing_path(&mut self, view: &View<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let start = self.start_of(view, AT_FDCWD, path)?;
        let id = self.find(view, start, path, Follow::Yes)?;
        Ok(self.path_of_node(id))
    }

    /// The path from the root, without symbolic links, that `path` leads to; `path` itself if it
    /// leads nowhere.
    pub(crate) fn full_path(&mut self, view: &View<'_>, path: &[u8]) -> Vec<u8> {
        let found = self
            .start_of(view, AT_FDCWD, path)
            .and_then(|start| self.find(view, start, path, Follow::Yes));
        found.map_or_else(|_| path.to_vec(), |id| self.path_of_node(id))
    }

    /// What `mmap` finds behind an open file.
    ///
    /// # Errors
    /// `EACCES`: not opened for reading. `ENODEV`: nothing to map. `EBADF`: opened with `O_PATH`.
    pub fn map_source(
        &mut self,
        memory: &mut Memory,
        hw: &mut Machine,
        id: FileId,
    ) -> Result<MapSource, Errno> {
        let file = self.file(id);
        let may_write = file.can_write();
        if matches!(file.opened, Opened::Path(_)) {
            return Err(Errno::EBADF);
        }
        if !file.can_read() {
            return Err(Errno::EACCES);
        }
        let node = match file.opened {
            Opened::Regular(node) => node,
            Opened::Device { device: Device::Zero, .. } => return Ok(MapSource::Anonymous),
            _ => return Err(Errno::ENODEV),
        };
        let is_sealed = self.seals(node) & SEALS_WRITE != 0;
        if let (Some(mapped), false) = (&file.mapped, is_sealed) {
            return Ok(MapSource::File(Arc::clone(mapped)));
        }
        let mut may = Rights::READ | Rights::EXECUTE;
        may.set(Rights::WRITE, may_write && !is_sealed);
        let mapped = self.mapping_of((memory, hw), node, may)?;
        self.file_mut(id).mapped = Some(Arc::clone(&mapped));
        Ok(MapSource::File(mapped))
    }

    /// The present name of the file that a VMA maps; `None` for what is no file of the tree.
    pub(crate) fn path_of_mapping(&self, vma: &mm::Vma) -> Option<Vec<u8>> {
        let object = vma.backing.file()?.object;
        let node = *self.object_nodes.get(&object)?;
        self.node(node).place.as_ref()?;
        Some(self.shown_path(node))
    }

    /// A new mapping identity of a regular file whose content is open.
    fn mapping_of(
        &mut self,
        (memory, hw): (&mut Memory, &mut Machine),
        id: NodeId,
        may: Rights,
    ) -> Result<Arc<MappedFile>, Errno> {
        let stat = self.stat_node(id)?;
        let path = match self.node(id).place {
            Some(_) => self.shown_path(id),
            None => format!("/#{} (deleted)", stat.inode).into_bytes(),
        };
        let kind = self.file_kind(id);
        let content = self.content_of(id)?;
        content::lock(&content).refresh();
        let object = self.object_for(memory, hw, id)?;
        let mapped = Arc::new(MappedFile {
            object,
            path: path.into_boxed_slice(),
            device: stat.device,
            inode: stat.inode,
            kind,
            may,
        });
        let regular = self.node_mut(id).regular_mut().ok_or(Errno::ENODEV)?;
        regular.mappings.retain(|mapping| mapping.strong_count() > 0);
        regular.mappings.push(Arc::downgrade(&mapped));
        Ok(mapped)
    }

    /// The path of a mapped file as it is now: renamed or removed since it was mapped.
    pub fn mapped_path(&self, file: &MappedFile) -> Vec<u8> {
        match self.object_nodes.get(&file.object) {
            Some(&id) if self.node(id).place.is_some() => self.shown_path(id),
            _ => file.path.to_vec(),
        }
    }

    /// The object of a regular file of which `bytes` bytes from `offset` on are to be read, and the
    /// file's length; `None` if there is nothing to read.
    ///
    /// # Errors
    /// `EINVAL`: no regular file.
    pub(crate) fn cached_for_read(
        &mut self,
        (memory, hw): (&mut Memory, &mut Machine),
        id: NodeId,
        (offset, bytes): (u64, u64),
    ) -> Result<Option<(ObjectId, u64)>, Errno> {
        let content = self.content_of(id)?;
        let size_bytes = {
            let mut content = content::lock(&content);
            content.refresh_for(offset.saturating_add(bytes));
            content.size_bytes()
        };
        if offset >= size_bytes || bytes == 0 {
            return Ok(None);
        }
        Ok(Some((self.object_for(memory, hw, id)?, size_bytes)))
    }

    /// Reads from a regular file, through the page cache.
    ///
    /// # Errors
    /// Those of the host.
    pub(crate) fn read_regular(
        &mut self,
        (memory, hw): (&mut Memory, &mut Machine),
        id: NodeId,
        (offset, bytes): (u64, &mut [u8]),
        ahead: &mut Readahead,
    ) -> Result<usize, Errno> {
        let wanted = (offset, bytes.len() as u64);
        let found = self.cached_for_read((&mut *memory, &mut *hw), id, wanted)?;
        let Some((object, _)) = found else { return Ok(0) };
        Ok(memory.read_object(hw, object, (offset, bytes), ahead)?)
    }

    /// Writes to a regular file, into the page cache. Returns how many bytes were written.
    ///
    /// # Errors
    /// `EFBIG`, `ENOSPC`, those of the host.
    pub(crate) fn write_regular(
        &mut self,
        pages: &mut Pages<'_>,
        id: NodeId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize, Errno> {
        let content = self.content_of(id)?;
        content::lock(&content).refresh_for(offset.saturating_add(bytes.len() as u64));
        let object = self.object_for(pages.memory, pages.hw, id)?;
        pages.memory.object_grown(pages.hw, object);
        content::lock(&content).promise(offset, bytes.len() as u64)?;
        let count = pages.memory.write_object(pages.hw, object, offset, bytes)?;
        self.touch(id);
        Ok(count)
    }

    /// Reads around the page cache (`O_DIRECT`), after what is dirty there has been stored.
    ///
    /// # Errors
    /// Those of the host.
    pub(crate) fn read_direct(
        &mut self,
        (memory, hw): (&mut Memory, &mut Machine),
        id: NodeId,
        (offset, bytes): (u64, &mut [u8]),
    ) -> Result<usize, Errno> {
        let content = self.content_of(id)?;
        content::lock(&content).refresh_for(offset.saturating_add(bytes.len() as u64));
        if let Some(object) = self.object_of(id) {
            let stored = memory.write_back(hw, object, pages_of(offset, bytes.len()))?;
            memory.wait_for_writes(hw, stored);
        }
        let count = content::lock(&content).read_at(offset, bytes)?;
        memory.wait_for_reads(hw, (count as u64).div_ceil(PAGE_BYTES));
        Ok(count)
    }

    /// Writes around the page cache (`O_DIRECT`), whose pages there are given up or, where they are
    /// mapped, take the bytes over.
    ///
    /// # Errors
    /// As [`Vfs::write_regular`].
    pub(crate) fn write_direct(
        &mut self,
        pages: &mut Pages<'_>,
        id: NodeId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize, Errno> {
        let content = self.content_of(id)?;
        let object = self.object_for(pages.memory, pages.hw, id)?;
        let (memory, hw) = (&mut *pages.memory, &mut *pages.hw);
        let range = pages_of(offset, bytes.len());
        memory.object_grown(hw, object);
        memory.write_back(hw, object, range.clone())?;
        memory.discard(hw, object, range);
        content::lock(&content).write_at(offset, bytes)?;
        memory.object_written(hw, object, offset, bytes);
        memory.wait_for_writes(hw, (bytes.len() as u64).div_ceil(PAGE_BYTES));
        self.touch(id);
        Ok(bytes.len())
    }

    fn content_of(&self, id: NodeId) -> Result<SharedContent, Errno> {
        match &self.node(id).kind {
            NodeKind::Regular(Regular { content: Some(content), .. }) => Ok(Arc::clone(content)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Whether the file is shared memory: pages of it are nowhere but in RAM.
    pub(crate) fn is_memory(&self, id: NodeId) -> bool {
        self.node(id).mount != 0 && self.node(id).origin.is_none()
    }

    /// What kind of pages the file has.
    fn file_kind(&self, id: NodeId) -> FileKind {
        if self.is_memory(id) { FileKind::Shmem } else { FileKind::Regular }
    }

    /// The object of a file whose pages are to be read.
    ///
    /// # Errors
    /// `EINVAL`: no regular file.
    pub(crate) fn object_to_read(
        &mut self,
        (memory, hw): (&mut Memory, &mut Machine),
        id: NodeId,
    ) -> Result<ObjectId, Errno> {
        self.content_of(id)?;
        self.object_for(memory, hw, id)
    }

    /// The object of a file in the page cache, made if it has none. Clean pages from before the
    /// host's file changed are dropped.
    fn object_for(
        &mut self,
        memory: &mut Memory,
        hw: &mut Machine,
        id: NodeId,
    ) -> Result<ObjectId, Errno> {
        let kind = self.file_kind(id);
        let regular = self.node_mut(id).regular_mut().ok_or(Errno::ENODEV)?;
        let shared = regular.content.as_ref().ok_or(Errno::EIO)?;
        if let Some(object) = regular.object {
            if content::lock(shared).take_stale() {
                memory.forget_clean(hw, object, mm::ALL_PAGES);
            }
            return Ok(object);
        }
        let object = memory.add_object(Box::new(ContentPager::new(shared)), kind);
        regular.object = Some(object);
        self.object_nodes.insert(object, id);
        Ok(object)
    }

    /// Closes the host's files that nobody has open or mapped. What is dirty of those below a `rw`
    /// bind is stored first: the host sees a file when it is closed.
    pub(super) fn put_away(&mut self, memory: &mut Memory, hw: &mut Machine) {
        for id in std::mem::take(&mut self.resting) {
            let node = self.nodes.get(id.0 as usize).and_then(Option::as_ref);
            if !node.is_some_and(|node| node.holds == 0 && !node.is_mapped()) {
                continue;
            }
            let Some(object) = self.object_of(id) else { continue };
            let is_through = self.node(id).layer == Layer::Through;
            if is_through && memory.write_back(hw, object, mm::ALL_PAGES).is_err() {
                // Tried again by age, and at the end of the run.
                continue;
            }
            if let Ok(content) = self.content_of(id) {
                content::lock(&content).put_away();
            }
        }
    }

    /// Whether changes of the object's file are stored on the host.
    pub(crate) fn is_stored_on_host(&self, object: ObjectId) -> bool {
        let node = self.object_nodes.get(&object);
        node.is_some_and(|&id| self.node(id).layer == Layer::Through)
    }

    /// The file that an object is the content of.
    pub(crate) fn node_of_object(&self, object: ObjectId) -> Option<NodeId> {
        self.object_nodes.get(&object).copied()
    }

    /// Makes a regular file `size_bytes` long; mappings lose what is behind it (FILE-3).
    ///
    /// # Errors
    /// `EFBIG`, `EINVAL` for what is no regular file, those of the host.
    pub(crate) fn resize_regular(
        &mut self,
        pages: &mut Pages<'_>,
        id: NodeId,
        size_bytes: u64,
    ) -> Result<(), Errno> {
        self.check_size_seals(id, size_bytes)?;
        self.open_content(id, Grant::WRITE)?;
        self.resize(id, size_bytes)?;
        if let Some(object) = self.object_of(id) {
            let mut spaces = pages.others.parts_mut();
            spaces.push(pages.mm);
            pages.memory.truncate_object(&mut spaces, pages.hw, object, size_bytes);
        }
        Ok(())
    }

    /// Makes a range of a regular file zero; whole pages become holes.
    ///
    /// # Errors
    /// `ENOSPC`, `EINVAL` for what is no regular file, those of the host.
    pub(crate) fn punch_regular(
        &mut self,
        pages: &mut Pages<'_>,
        id: NodeId,
        offset: u64,
        bytes: u64,
    ) -> Result<(), Errno> {
        let NodeKind::Regular(Regular { content: Some(shared), object, .. }) = &self.node(id).kind
        else {
            return Err(Errno::EINVAL);
        };
        let object = *object;
        content::lock(shared).zero(offset, bytes)?;
        let end = offset.saturating_add(bytes);
        let whole = offset.div_ceil(PAGE_BYTES)..end / PAGE_BYTES;
        if let Some(object) = object {
            self.zero_edges(pages, object, (offset, end));
            if !whole.is_empty() {
                let range = whole.start..=whole.end - 1;
                let mut spaces = pages.others.parts_mut();
                spaces.push(pages.mm);
                pages.memory.punch_object(&mut spaces, pages.hw, object, range);
            }
        }
        self.touch(id);
        Ok(())
    }

    /// Zeros the bytes of a range that share a page with bytes outside of it.
    fn zero_edges(&self, pages: &mut Pages<'_>, object: ObjectId, (start, end): (u64, u64)) {
        let size = pages.memory.object_bytes(object);
        let end = end.min(size);
        let zeros = [0; PAGE_BYTES as usize];
        let head_end = start.next_multiple_of(PAGE_BYTES).min(end);
        let tail_start = (end - end % PAGE_BYTES).max(head_end);
        for (from, to) in [(start, head_end), (tail_start, end)] {
            if from < to {
                let count = to_usize(to - from);
                pages.memory.object_written(pages.hw, object, from, &zeros[..count]);
            }
        }
    }

    pub(crate) fn object_of(&self, id: NodeId) -> Option<ObjectId> {
        match &self.node(id).kind {
            NodeKind::Regular(regular) => regular.object,
            _ => None,
        }
    }

    /// Length of a regular file.
    pub(crate) fn size_of(&self, id: NodeId) -> Result<u64, Errno> {
        Ok(self.stat_node(id)?.size_bytes)
    }

    /// Whether the walk's end is a regular file, as a node with its content open.
    pub(crate) fn regular_of(
        &mut self,
        parent: NodeId,
        name: &[u8],
        target: Target,
    ) -> Result<NodeId, Errno> {
        let id = self.node_of(parent, name, target)?;
        match self.node(id).kind {
            NodeKind::Regular(_) => Ok(id),
            NodeKind::Directory(_) => Err(Errno::EISDIR),
            _ => Err(Errno::EINVAL),
        }
    }
}

/// The pages that `bytes` bytes from `offset` on are in.
fn pages_of(offset: u64, bytes: usize) -> RangeInclusive<u64> {
    let end = offset.saturating_add(bytes as u64);
    offset / PAGE_BYTES..=end.saturating_sub(1).max(offset) / PAGE_BYTES
}
