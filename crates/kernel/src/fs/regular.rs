//! Regular files where bytes and the page cache meet.
//!
//! A file that was mapped has an object in the page cache. Reads see its cached pages, writes and
//! changes of length are told to it, so that all ways to the bytes agree (FILE-1).

use std::sync::{Arc, Mutex};

use machine::{Machine, PAGE_BYTES};
use mm::{FileKind, MappedFile, Memory, Mm, ObjectId, Pager, Rights};

use super::attributes::{self, Grant};
use super::content::{self, Content, ContentPager, Holes, to_usize};
use super::device::Device;
use super::node::{NodeKind, Regular, Target};
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
        memory: &mut Memory,
        view: &View<'_>,
        path: &[u8],
    ) -> Result<Arc<MappedFile>, Errno> {
        let id = self.find_program(view, path)?;
        self.open_content(id, Grant::READ)?;
        self.mapping_of(memory, id, Rights::READ | Rights::EXECUTE)
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
        memory: &mut Memory,
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
        let file = self.mapping_of(memory, id, Rights::READ)?;
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
        _hw: &mut Machine,
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
        let mapped = self.mapping_of(memory, node, may)?;
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
        memory: &mut Memory,
        id: NodeId,
        may: Rights,
    ) -> Result<Arc<MappedFile>, Errno> {
        let stat = self.stat_node(id)?;
        let path = match self.node(id).place {
            Some(_) => self.shown_path(id),
            None => format!("/#{} (deleted)", stat.inode).into_bytes(),
        };
        let is_memory = self.node(id).mount != 0 && self.node(id).origin.is_none();
        let regular = self.node_mut(id).regular_mut().ok_or(Errno::ENODEV)?;
        let shared = regular.content.as_ref().ok_or(Errno::EIO)?;
        content::lock(shared).refresh();
        let object = match regular.object {
            Some(object) => object,
            None => memory.add_object(Box::new(ContentPager::new(shared))),
        };
        regular.object = Some(object);
        let mapped = Arc::new(MappedFile {
            object,
            path: path.into_boxed_slice(),
            device: stat.device,
            inode: stat.inode,
            kind: if is_memory { FileKind::Shmem } else { FileKind::Regular },
            may,
        });
        regular.mappings.retain(|mapping| mapping.strong_count() > 0);
        regular.mappings.push(Arc::downgrade(&mapped));
        self.object_nodes.insert(object, id);
        Ok(mapped)
    }

    /// The path of a mapped file as it is now: renamed or removed since it was mapped.
    pub fn mapped_path(&self, file: &MappedFile) -> Vec<u8> {
        match self.object_nodes.get(&file.object) {
            Some(&id) if self.node(id).place.is_some() => self.shown_path(id),
            _ => file.path.to_vec(),
        }
    }

    /// Reads from a regular file, cached pages first.
    ///
    /// # Errors
    /// Those of the host.
    pub(crate) fn read_regular(
        &self,
        memory: &Memory,
        hw: &Machine,
        id: NodeId,
        offset: u64,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        let NodeKind::Regular(Regular { content: Some(shared), object, .. }) = &self.node(id).kind
        else {
            return Err(Errno::EINVAL);
        };
        let count = content::lock(shared).read_at(offset, bytes)?;
        if let Some(object) = object {
            overlay_cached(memory, hw, *object, offset, &mut bytes[..count]);
        }
        Ok(count)
    }

    /// Writes all of `bytes` to a regular file.
    ///
    /// # Errors
    /// `EFBIG`, `ENOSPC`, those of the host.
    pub(crate) fn write_regular(
        &mut self,
        pages: &mut Pages<'_>,
        id: NodeId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), Errno> {
        let NodeKind::Regular(Regular { content: Some(shared), object, .. }) = &self.node(id).kind
        else {
            return Err(Errno::EINVAL);
        };
        content::lock(shared).write_at(offset, bytes)?;
        if let Some(object) = object {
            pages.memory.object_written(pages.hw, *object, offset, bytes);
        }
        self.touch(id);
        Ok(())
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

/// Puts the bytes of cached pages over what the file below has.
fn overlay_cached(memory: &Memory, hw: &Machine, object: ObjectId, offset: u64, bytes: &mut [u8]) {
    let mut done = 0;
    while done < bytes.len() {
        let at = offset.saturating_add(done as u64);
        let skip = at % PAGE_BYTES;
        let count = to_usize(PAGE_BYTES - skip).min(bytes.len() - done);
        if let Some(frame) = memory.cached_page(object, at / PAGE_BYTES) {
            hw.load(frame.start().wrapping_add(skip), &mut bytes[done..done + count]);
        }
        done += count;
    }
}
