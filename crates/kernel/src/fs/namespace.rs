//! Making, removing, linking and renaming: what changes the names of a directory.
//!
//! In the memory layer a change is a note in the directory's node; below a `rw` bind it is the
//! host's own call.
//!
//! # Source
//! Linux 6.12 `fs/namei.c`; man 2 `rename`, `link`, `unlink`, `mkdir`.

use std::path::PathBuf;

use super::attributes::Grant;
use super::node::{Child, Directory, Layer, Node, NodeKind, Regular, Target, join};
use super::pipe::Pipe;
use super::stat::{FileType, Stat};
use super::walk::{Last, View, Walk};
use super::{NodeId, PATH_BYTES_MAX, Share, Vfs, content, host};
use crate::errno::Errno;

/// What a file of the guest's own takes of our memory, with its name and attributes.
const NODE_BYTES: usize = 640;

/// What is to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Made {
    /// An empty file with these permissions.
    File(u32),
    /// An empty directory with these permissions.
    Directory(u32),
    /// A symbolic link with this text.
    Symlink(Vec<u8>),
    /// A named pipe with these permissions.
    Fifo(u32),
    /// A name for a socket.
    Socket(u32),
}

impl Made {
    const fn file_type(&self) -> FileType {
        match self {
            Self::File(_) => FileType::Regular,
            Self::Directory(_) => FileType::Directory,
            Self::Symlink(_) => FileType::Symlink,
            Self::Fifo(_) => FileType::Fifo,
            Self::Socket(_) => FileType::Socket,
        }
    }

    const fn permissions(&self) -> u32 {
        match self {
            Self::File(mode) | Self::Directory(mode) | Self::Fifo(mode) | Self::Socket(mode) => {
                *mode
            }
            Self::Symlink(_) => 0o777,
        }
    }
}

/// The flags of `renameat2`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RenameRules(pub(crate) u32);

impl RenameRules {
    pub(crate) const NO_REPLACE: u32 = 1;
    pub(crate) const EXCHANGE: u32 = 2;
}

impl Vfs {
    /// Makes a file of a kind at the end of a walk that found nothing.
    ///
    /// # Errors
    /// `EEXIST`, `ENOENT` for a name with a slash behind it, `EACCES`, `EROFS`, the host's.
    pub(crate) fn make(
        &mut self,
        view: &View<'_>,
        walk: &Walk,
        made: &Made,
    ) -> Result<NodeId, Errno> {
        if let Made::Symlink(text) = made
            && text.len() >= PATH_BYTES_MAX
        {
            return Err(Errno::ENAMETOOLONG);
        }
        if !matches!(walk.target, Target::Absent) || walk.last != Last::Name {
            return Err(Errno::EEXIST);
        }
        if walk.wants_directory && made.file_type() != FileType::Directory {
            return Err(Errno::ENOENT);
        }
        self.permits_names(view, walk.parent)?;
        if let Some(path) = self.through_path(walk.parent, &walk.name) {
            return self.make_on_host(walk, made, &path);
        }
        let node = self.new_node(view, walk.parent, made)?;
        let id = self.add_node(node);
        self.insert_name(walk.parent, &walk.name, id);
        if made.file_type() == FileType::Directory {
            self.stat_mut(walk.parent)?.link_count += 1;
        }
        self.touch(walk.parent);
        Ok(id)
    }

    /// A node of the guest's own in the file system of `parent`, without a name.
    pub(crate) fn new_node(
        &mut self,
        view: &View<'_>,
        parent: NodeId,
        made: &Made,
    ) -> Result<Node, Errno> {
        let above = self.stat_node(parent)?;
        let credentials = &view.context.credentials;
        let kind = match made {
            Made::File(_) => {
                let mount_is_memory = self.node(parent).mount != 0;
                let holes =
                    if mount_is_memory { content::Holes::Absent } else { content::Holes::Readable };
                let content = content::Content::empty(&self.budget, holes);
                let content = Some(std::sync::Arc::new(std::sync::Mutex::new(content)));
                NodeKind::Regular(Regular { content, ..Regular::default() })
            }
            Made::Directory(_) => NodeKind::Directory(Directory::default()),
            Made::Symlink(text) => NodeKind::Symlink(text.clone()),
            Made::Fifo(_) => NodeKind::Pipe(Pipe::new(&self.pool)),
            Made::Socket(_) => NodeKind::Closed(FileType::Socket),
        };
        let text = if let Made::Symlink(text) = made { text.len() } else { 0 };
        let share = Share::of(&self.pool, NODE_BYTES + text).map_err(|_| Errno::ENOSPC)?;
        let mut stat = Stat::new(made.file_type(), made.permissions(), self.now);
        stat.inode = self.take_inode();
        stat.device = above.device;
        stat.uid = credentials.uid;
        stat.gid = credentials.gid;
        if above.mode & 0o2000 != 0 {
            stat.gid = above.gid;
            if made.file_type() == FileType::Directory {
                stat.mode |= 0o2000;
            }
        }
        if made.file_type() == FileType::Directory {
            stat.link_count = 2;
            stat.set_size(4096);
        }
        let mut node = Node::new(kind, Layer::Overlay, self.node(parent).mount);
        node.stat = Some(Box::new(stat));
        node.share = Some(share);
        Ok(node)
    }

    fn make_on_host(
        &mut self,
        walk: &Walk,
        made: &Made,
        path: &std::path::Path,
    ) -> Result<NodeId, Errno> {
        match made {
            Made::File(mode) => {
                host::create_file(path, *mode)?;
            }
            Made::Directory(mode) => host::make_directory(path, *mode)?,
            Made::Symlink(text) => host::make_symlink(text, path)?,
            Made::Fifo(_) | Made::Socket(_) => return Err(Errno::EPERM),
        }
        let target = self.lookup(walk.parent, &walk.name)?;
        self.node_of(walk.parent, &walk.name, target)
    }

    /// The host path of a name, if the host is to be changed.
    fn through_path(&self, parent: NodeId, name: &[u8]) -> Option<PathBuf> {
        let node = self.node(parent);
        match (&node.origin, node.layer) {
            (Some(origin), Layer::Through) => Some(join(origin, name)),
            _ => None,
        }
    }

    fn insert_name(&mut self, parent: NodeId, name: &[u8], id: NodeId) {
        if let Ok(directory) = self.node_mut(parent).directory_mut() {
            directory.next_order += 1;
            let order = directory.next_order;
            directory.children.insert(name.to_vec(), Child::Added(id, order));
        }
        let node = self.node_mut(id);
        node.added_names += 1;
        node.place = Some((parent, name.into()));
    }

    fn remove_name(&mut self, parent: NodeId, name: &[u8]) {
        let on_host = self
            .node(parent)
            .origin
            .as_ref()
            .is_some_and(|origin| host::stat(&join(origin, name)).is_ok());
        let Ok(directory) = self.node_mut(parent).directory_mut() else { return };
        let old = if on_host {
            directory.children.insert(name.to_vec(), Child::Absent)
        } else {
            directory.children.remove(name)
        };
        if let Some(Child::Added(id, _)) = old {
            let node = self.node_mut(id);
            node.added_names = node.added_names.saturating_sub(1);
        }
    }

    /// Whether a name may be taken out of a directory: the sticky bit.
    fn permits_removal(&self, view: &View<'_>, parent: NodeId, stat: &Stat) -> Result<(), Errno> {
        self.permits_names(view, parent)?;
        let above = self.stat_node(parent)?;
        let uid = view.context.credentials.uid;
        if above.mode & 0o1000 != 0 && uid != 0 && uid != stat.uid && uid != above.uid {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Removes the name of a file.
    ///
    /// # Errors
    /// `EISDIR` for a directory, `ENOENT`, `EACCES`, `EPERM`, `EROFS`, `EBUSY` for a mount.
    pub(crate) fn unlink(&mut self, view: &View<'_>, walk: Walk) -> Result<(), Errno> {
        if walk.last != Last::Name {
            return Err(Errno::EISDIR);
        }
        let stat = self.stat_target(&walk.target)?;
        let is_directory = stat.file_type() == FileType::Directory;
        if walk.wants_directory {
            return Err(if is_directory { Errno::EISDIR } else { Errno::ENOTDIR });
        }
        self.permits_removal(view, walk.parent, &stat)?;
        if is_directory {
            return Err(Errno::EISDIR);
        }
        if let Target::Node(id) = walk.target
            && self.node(id).mount != self.node(walk.parent).mount
        {
            return Err(Errno::EBUSY);
        }
        if let Some(path) = self.through_path(walk.parent, &walk.name) {
            host::unlink(&path)?;
            if let Target::Node(id) = walk.target {
                self.forget_host_node(id);
            }
            return Ok(());
        }
        let id = self.node_of(walk.parent, &walk.name, walk.target)?;
        self.remove_name(walk.parent, &walk.name);
        self.drop_link(id)?;
        self.touch(walk.parent);
        Ok(())
    }

    /// A name of the node is gone; with the last one it goes when nobody holds it.
    fn drop_link(&mut self, id: NodeId) -> Result<(), Errno> {
        let now = self.now;
        let stat = self.stat_mut(id)?;
        stat.link_count = stat.link_count.saturating_sub(1);
        stat.changed = now;
        if stat.link_count == 0 {
            // The host keeps the inode number: nothing may find the node by it any more.
            let node = self.node_mut(id);
            node.is_deleted = true;
            if let Some(key) = node.host_key.take() {
                self.host_nodes.remove(&key);
            }
            self.drop_if_unused(id);
        }
        Ok(())
    }

    /// The host's file behind the node has lost its name.
    fn forget_host_node(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        node.is_deleted = true;
        if let Some(key) = node.host_key.take() {
            self.host_nodes.remove(&key);
        }
        self.drop_if_unused(id);
    }

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `ENOTDIR`, `ENOTEMPTY`, `EINVAL` for `.`, `EBUSY` for a mount or the root, and those of
    /// [`Vfs::unlink`].
    pub(crate) fn remove_directory(&mut self, view: &View<'_>, walk: Walk) -> Result<(), Errno> {
        match walk.last {
            Last::Root => return Err(Errno::EBUSY),
            Last::Dot => return Err(Errno::EINVAL),
            Last::DotDot => return Err(Errno::ENOTEMPTY),
            Last::Jump | Last::Name => {}
        }
        let stat = self.stat_target(&walk.target)?;
        self.permits_removal(view, walk.parent, &stat)?;
        let Target::Node(id) = walk.target else { return Err(Errno::ENOTDIR) };
        if !self.node(id).is_directory() {
            return Err(Errno::ENOTDIR);
        }
        if self.node(id).mount != self.node(walk.parent).mount || walk.last == Last::Jump {
            return Err(Errno::EBUSY);
        }
        self.check_empty(view, id)?;
        if let Some(path) = self.through_path(walk.parent, &walk.name) {
            host::remove_directory(&path)?;
            self.forget_child(walk.parent, &walk.name);
        } else {
            self.remove_name(walk.parent, &walk.name);
            let above = self.stat_mut(walk.parent)?;
            above.link_count = above.link_count.saturating_sub(1);
            self.touch(walk.parent);
            self.stat_mut(id)?.link_count = 0;
        }
        self.node_mut(id).is_deleted = true;
        self.drop_if_unused(id);
        Ok(())
    }

    fn forget_child(&mut self, parent: NodeId, name: &[u8]) {
        if let Ok(directory) = self.node_mut(parent).directory_mut() {
            directory.children.remove(name);
        }
    }

    fn check_empty(&mut self, view: &View<'_>, id: NodeId) -> Result<(), Errno> {
        let entries = self.list(view, id)?;
        let is_empty = entries.iter().all(|entry| entry.name == b"." || entry.name == b"..");
        if is_empty { Ok(()) } else { Err(Errno::ENOTEMPTY) }
    }

    /// Gives a file a further name.
    ///
    /// # Errors
    /// `EEXIST`, `EPERM` for a directory, `EXDEV` across mounts, `ENOENT` for a removed file.
    pub(crate) fn link(
        &mut self,
        view: &View<'_>,
        from: (NodeId, Vec<u8>, Target),
        to: &Walk,
    ) -> Result<(), Errno> {
        if !matches!(to.target, Target::Absent) || to.last != Last::Name {
            return Err(Errno::EEXIST);
        }
        if to.wants_directory {
            return Err(Errno::ENOENT);
        }
        let (parent, name, target) = from;
        let stat = self.stat_target(&target)?;
        let mount = match &target {
            Target::Node(id) => self.node(*id).mount,
            _ => self.node(parent).mount,
        };
        if mount != self.node(to.parent).mount || stat.device != self.stat_node(to.parent)?.device {
            return Err(Errno::EXDEV);
        }
        self.permits_names(view, to.parent)?;
        if stat.file_type() == FileType::Directory {
            return Err(Errno::EPERM);
        }
        if let Some(path) = self.through_path(to.parent, &to.name) {
            let origin = self.origin_of(&target).ok_or(Errno::EXDEV)?;
            return host::link(&origin, &path);
        }
        let id = self.node_of(parent, &name, target)?;
        let now = self.now;
        if self.node(id).is_deleted && !self.is_nameless_file(id) {
            return Err(Errno::ENOENT);
        }
        let stat = self.stat_mut(id)?;
        stat.link_count += 1;
        stat.changed = now;
        self.node_mut(id).is_deleted = false;
        self.insert_name(to.parent, &to.name, id);
        self.touch(to.parent);
        Ok(())
    }

    /// Whether the file was opened with `O_TMPFILE` and never had a name.
    fn is_nameless_file(&self, id: NodeId) -> bool {
        self.node(id).place.is_none()
    }

    /// Gives a file another name, replacing what has it.
    ///
    /// # Errors
    /// Those of man 2 `rename`.
    pub(crate) fn rename(
        &mut self,
        view: &View<'_>,
        from: Walk,
        to: Walk,
        rules: RenameRules,
    ) -> Result<(), Errno> {
        let is_exchange = rules.0 & RenameRules::EXCHANGE != 0;
        if self.node(from.parent).mount != self.node(to.parent).mount {
            return Err(Errno::EXDEV);
        }
        if from.last != Last::Name {
            return Err(Errno::EBUSY);
        }
        if to.last != Last::Name {
            let is_refused = rules.0 & RenameRules::NO_REPLACE != 0;
            return Err(if is_refused { Errno::EEXIST } else { Errno::EBUSY });
        }
        let old = self.stat_target(&from.target)?;
        let new = match &to.target {
            Target::Absent if is_exchange => return Err(Errno::ENOENT),
            Target::Absent => None,
            target => Some(self.stat_target(target)?),
        };
        if new.is_some() && rules.0 & RenameRules::NO_REPLACE != 0 {
            return Err(Errno::EEXIST);
        }
        let is_directory = old.file_type() == FileType::Directory;
        let replaces_directory =
            new.as_ref().is_some_and(|new| new.file_type() == FileType::Directory);
        if is_exchange && to.wants_directory && !replaces_directory {
            return Err(Errno::ENOTDIR);
        }
        if !is_directory && (from.wants_directory || to.wants_directory && !is_exchange) {
            return Err(Errno::ENOTDIR);
        }
        if let Target::Node(id) = from.target {
            self.check_not_inside(id, to.parent, Errno::EINVAL)?;
        }
        if let Target::Node(id) = to.target {
            let errno = if is_exchange { Errno::EINVAL } else { Errno::ENOTEMPTY };
            self.check_not_inside(id, from.parent, errno)?;
        }
        if let Some(new) = &new
            && (new.device, new.inode) == (old.device, old.inode)
        {
            return Ok(());
        }
        self.permits_rename(view, &from, &to, (&old, new.as_ref()), rules)?;
        if let (Some(old_path), Some(new_path)) =
            (self.through_path(from.parent, &from.name), self.through_path(to.parent, &to.name))
        {
            host::rename(&old_path, &new_path, rules.0)?;
            self.forget_renamed(&from, &to, &new_path);
            return Ok(());
        }
        if is_exchange {
            return self.exchange(from, to);
        }
        self.move_name(from, to, is_directory)
    }

    /// Whether the directories and what is in them let `old` take the place of `new`.
    fn permits_rename(
        &mut self,
        view: &View<'_>,
        from: &Walk,
        to: &Walk,
        (old, new): (&Stat, Option<&Stat>),
        rules: RenameRules,
    ) -> Result<(), Errno> {
        let is_exchange = rules.0 & RenameRules::EXCHANGE != 0;
        let is_directory = old.file_type() == FileType::Directory;
        self.permits_removal(view, from.parent, old)?;
        match new {
            Some(new) => self.permits_removal(view, to.parent, new)?,
            None => self.permits_names(view, to.parent)?,
        }
        if let (true, Target::Node(id)) = (is_directory, &from.target)
            && from.parent != to.parent
        {
            self.permits(view, *id, Grant::WRITE)?;
        }
        self.check_movable(from)?;
        self.check_movable(to)?;
        if old.device != self.stat_node(to.parent)?.device {
            return Err(Errno::EXDEV);
        }
        if let (Some(new), false) = (new, is_exchange) {
            self.check_replaceable(view, is_directory, &to.target, new)?;
        }
        Ok(())
    }

    /// Whether `parent` is neither `id` nor below it.
    fn check_not_inside(&self, id: NodeId, parent: NodeId, errno: Errno) -> Result<(), Errno> {
        let mut here = parent;
        while here != self.root {
            if here == id {
                return Err(errno);
            }
            here = self.parent_of(here);
        }
        Ok(())
    }

    /// A mount stays where it is.
    fn check_movable(&self, walk: &Walk) -> Result<(), Errno> {
        match walk.target {
            Target::Node(id) if self.node(id).mount != self.node(walk.parent).mount => {
                Err(Errno::EBUSY)
            }
            _ => Ok(()),
        }
    }

    fn check_replaceable(
        &mut self,
        view: &View<'_>,
        is_directory: bool,
        target: &Target,
        new: &Stat,
    ) -> Result<(), Errno> {
        match (is_directory, new.file_type() == FileType::Directory, target) {
            (true, false, _) => Err(Errno::ENOTDIR),
            (false, true, _) => Err(Errno::EISDIR),
            (true, true, Target::Node(id)) => self.check_empty(view, *id),
            _ => Ok(()),
        }
    }

    fn move_name(&mut self, from: Walk, to: Walk, is_directory: bool) -> Result<(), Errno> {
        let id = self.node_of(from.parent, &from.name, from.target)?;
        self.hold(id);
        if !matches!(to.target, Target::Absent) {
            let replaced = self.node_of(to.parent, &to.name, to.target)?;
            self.remove_name(to.parent, &to.name);
            if is_directory {
                let above = self.stat_mut(to.parent)?;
                above.link_count = above.link_count.saturating_sub(1);
                self.stat_mut(replaced)?.link_count = 0;
                self.node_mut(replaced).is_deleted = true;
                self.drop_if_unused(replaced);
            } else {
                self.drop_link(replaced)?;
            }
        }
        self.remove_name(from.parent, &from.name);
        self.insert_name(to.parent, &to.name, id);
        if from.parent != to.parent {
            self.move_links(is_directory, from.parent, to.parent)?;
        }
        let now = self.now;
        self.stat_mut(id)?.changed = now;
        self.touch(from.parent);
        self.touch(to.parent);
        self.unhold(id);
        Ok(())
    }

    /// A directory that moves takes the link of its `..` along.
    fn move_links(&mut self, is_directory: bool, from: NodeId, to: NodeId) -> Result<(), Errno> {
        if is_directory {
            let above = self.stat_mut(from)?;
            above.link_count = above.link_count.saturating_sub(1);
            self.stat_mut(to)?.link_count += 1;
        }
        Ok(())
    }

    fn exchange(&mut self, from: Walk, to: Walk) -> Result<(), Errno> {
        let left = self.node_of(from.parent, &from.name, from.target)?;
        self.hold(left);
        let right = self.node_of(to.parent, &to.name, to.target);
        if let Ok(right) = right {
            self.remove_name(from.parent, &from.name);
            self.remove_name(to.parent, &to.name);
            self.insert_name(from.parent, &from.name, right);
            self.insert_name(to.parent, &to.name, left);
            if from.parent != to.parent {
                let (left, right) =
                    (self.node(left).is_directory(), self.node(right).is_directory());
                self.move_links(left, from.parent, to.parent)?;
                self.move_links(right, to.parent, from.parent)?;
            }
            self.touch(from.parent);
            self.touch(to.parent);
        }
        self.unhold(left);
        right.map(|_| ())
    }

    /// Brings nodes below a `rw` bind in line with what the host has just renamed.
    fn forget_renamed(&mut self, from: &Walk, to: &Walk, path: &std::path::Path) {
        if let Target::Node(replaced) = to.target {
            self.forget_child(to.parent, &to.name);
            self.forget_host_node(replaced);
        }
        let Target::Node(id) = from.target else { return };
        let is_directory = self.node(id).is_directory();
        self.forget_child(from.parent, &from.name);
        let old = self.node(id).origin.clone();
        self.node_mut(id).place = Some((to.parent, to.name.as_slice().into()));
        if is_directory && let Ok(directory) = self.node_mut(to.parent).directory_mut() {
            directory.children.insert(to.name.clone(), Child::Host(id));
        }
        let Some(old) = old else { return };
        for node in self.nodes.iter_mut().flatten().filter(|node| node.layer == Layer::Through) {
            let below = node.origin.as_ref().and_then(|origin| origin.strip_prefix(&old).ok());
            let moved = below.map(|below| {
                if below.as_os_str().is_empty() { path.to_path_buf() } else { path.join(below) }
            });
            if let Some(moved) = moved {
                node.origin = Some(moved);
            }
        }
    }
}
