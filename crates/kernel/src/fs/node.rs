//! Inodes of the guest's tree and how names lead to them.
//!
//! Host directories become nodes when a path goes through them; host files only when they are
//! opened or changed, so that walking a large tree does not fill memory. A changed host file keeps
//! its inode number, and all its names on the host lead to the same node.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Weak;

use mm::{MappedFile, ObjectId};

use super::content::SharedContent;
use super::device::Device;
use super::pipe::Pipe;
use super::proc::{ProcDirectory, Scope, Subject};
use super::stat::{FileType, Stat};
use super::{NodeId, Share, Vfs, host};
use crate::errno::Errno;

/// Who keeps the changes of a node.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Layer {
    /// The memory layer: the host below stays as it is.
    Overlay,
    /// Nobody: changes fail with `EROFS`.
    ReadOnly,
    /// Nobody, and names are not for programs to change: `/proc` and `/sys`.
    Fixed,
    /// The host.
    Through,
}

/// A host inode in a layer: device, number, layer.
pub(crate) type HostKey = ((u32, u32), u64, Layer);

/// An inode.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    /// Attributes, unless the host's are still true.
    pub(crate) stat: Option<Box<Stat>>,
    /// The host's file or directory.
    pub(crate) origin: Option<PathBuf>,
    pub(crate) layer: Layer,
    /// Which mount it belongs to: 0 for the root, then binds, then those made here.
    pub(crate) mount: u32,
    /// Directory and name of one of its names; none for the root and for files without a name.
    pub(crate) place: Option<(NodeId, Box<[u8]>)>,
    /// Under which key [`Vfs::host_nodes`] finds it.
    pub(crate) host_key: Option<HostKey>,
    /// Whether its last name was removed.
    pub(crate) is_deleted: bool,
    /// Whether it was made on a walk and goes when nothing holds it; see `fs/proc/names.rs`.
    pub(crate) is_passing: bool,
    /// Names in the memory layer.
    pub(crate) added_names: u32,
    /// Open files and working directories.
    pub(crate) holds: u32,
    /// Extended attributes set by the guest.
    pub(crate) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    /// What the guest made of it.
    pub(crate) share: Option<Share>,
}

/// What an inode is, with what only that kind has.
#[derive(Debug)]
pub(crate) enum NodeKind {
    Directory(Directory),
    Regular(Regular),
    Symlink(Vec<u8>),
    /// A link of a task in `/proc` that leads to an object, not to a path.
    Magic(Subject, Magic),
    /// `/proc/self` and `/proc/thread-self`: the directory of who asks.
    SelfLink(Scope),
    Device(Device),
    /// A pipe, with or without a name.
    Pipe(Pipe),
    /// A file of `/proc`: the name that `fs/proc.rs` knows.
    Proc(ProcFile),
    /// A FIFO, socket or device node that exists but can not be opened.
    Closed(FileType),
}

/// A directory.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// Names that differ from the host's directory, or lead to nodes.
    pub(crate) children: BTreeMap<Vec<u8>, Child>,
    /// Number that the next added name gets.
    pub(crate) next_order: u64,
    /// Where names come from besides host and children.
    pub(crate) list: Listing,
}

/// Where the names of a directory come from, besides host and children.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) enum Listing {
    /// Nowhere.
    #[default]
    Plain,
    /// The tasks.
    Proc(ProcDirectory),
}

/// What a name of a directory leads to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Child {
    /// The host's entry of this name, known as this node.
    Host(NodeId),
    /// A name that the guest added, in this order.
    Added(NodeId, u64),
    /// The host's entry of this name is gone.
    Absent,
}

/// A regular file.
#[derive(Debug, Default)]
pub(crate) struct Regular {
    pub(crate) content: Option<SharedContent>,
    pub(crate) object: Option<ObjectId>,
    /// What open files gave to mappings.
    pub(crate) mappings: Vec<Weak<MappedFile>>,
    pub(crate) seals: Option<u32>,
}

/// Where a magic link leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Magic {
    Exe,
    Cwd,
    Root,
    Descriptor(u32),
    /// Index of a name in `ns`.
    Namespace(usize),
    /// The file of the mapping that begins here.
    Mapping(u64),
}

/// A file of `/proc`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProcFile {
    /// Of the directory of a process or thread.
    Task(Subject, &'static str),
    /// Of the whole machine, by its path below `/proc`, or its full path below `/sys`.
    System(&'static str),
    /// `fdinfo` of a descriptor.
    DescriptorInfo(Subject, u32),
}

/// What the end of a walk is.
#[derive(Debug)]
pub(crate) enum Target {
    /// A node.
    Node(NodeId),
    /// A host file or symbolic link without a node.
    Host(PathBuf, Box<Stat>),
    /// Nothing has this name.
    Absent,
}

impl Node {
    pub(crate) fn new(kind: NodeKind, layer: Layer, mount: u32) -> Self {
        Self {
            kind,
            stat: None,
            origin: None,
            layer,
            mount,
            place: None,
            host_key: None,
            is_deleted: false,
            is_passing: false,
            added_names: 0,
            holds: 0,
            attributes: BTreeMap::new(),
            share: None,
        }
    }

    pub(crate) fn directory(&self) -> Result<&Directory, Errno> {
        match &self.kind {
            NodeKind::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn directory_mut(&mut self) -> Result<&mut Directory, Errno> {
        match &mut self.kind {
            NodeKind::Directory(directory) => Ok(directory),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) fn regular_mut(&mut self) -> Option<&mut Regular> {
        match &mut self.kind {
            NodeKind::Regular(regular) => Some(regular),
            _ => None,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.kind, NodeKind::Directory(_))
    }

    pub(crate) fn file_type(&self) -> FileType {
        match &self.kind {
            NodeKind::Directory(_) => FileType::Directory,
            NodeKind::Regular(_) | NodeKind::Proc(_) => FileType::Regular,
            NodeKind::Symlink(_) | NodeKind::Magic(..) | NodeKind::SelfLink(_) => FileType::Symlink,
            NodeKind::Device(_) => FileType::CharDevice,
            NodeKind::Pipe(_) => FileType::Fifo,
            NodeKind::Closed(kind) => *kind,
        }
    }

    /// Whether mappings of the file exist.
    pub(crate) fn is_mapped(&self) -> bool {
        match &self.kind {
            NodeKind::Regular(regular) => {
                regular.mappings.iter().any(|mapping| mapping.strong_count() > 0)
            }
            _ => false,
        }
    }
}

impl Vfs {
    pub(crate) fn node(&self, id: NodeId) -> &Node {
        let place = self.nodes.get(id.0 as usize).and_then(Option::as_ref);
        place.expect("a node lives while somebody has its number")
    }

    pub(crate) fn node_mut(&mut self, id: NodeId) -> &mut Node {
        let place = self.nodes.get_mut(id.0 as usize).and_then(Option::as_mut);
        place.expect("a node lives while somebody has its number")
    }

    pub(crate) fn add_node(&mut self, node: Node) -> NodeId {
        if let Some(id) = self.free_nodes.pop() {
            self.nodes[id.0 as usize] = Some(node);
            return id;
        }
        let number = u32::try_from(self.nodes.len()).expect("nodes take memory: fewer than 2^32");
        self.nodes.push(Some(node));
        NodeId(number)
    }

    pub(crate) fn hold(&mut self, id: NodeId) {
        self.node_mut(id).holds += 1;
    }

    /// Gives a hold back; a node that nothing refers to any more goes.
    pub(crate) fn unhold(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        node.holds = node.holds.saturating_sub(1);
        self.drop_if_unused(id);
    }

    /// Forgets the node if no name, open file or mapping needs it.
    pub(crate) fn drop_if_unused(&mut self, id: NodeId) {
        let node = self.node(id);
        if node.holds > 0 || id == self.root {
            return;
        }
        let is_unused = node.is_deleted || node.is_passing || self.is_pristine(id);
        if !is_unused {
            let has_pages = matches!(&node.kind, NodeKind::Regular(one) if one.object.is_some());
            if has_pages && node.origin.is_some() {
                self.resting.push(id);
            }
            return;
        }
        if node.is_mapped() {
            self.lingering.push(id);
            return;
        }
        self.locks.forget_node(id);
        let node = self.nodes[id.0 as usize].take();
        self.free_nodes.push(id);
        let Some(node) = node else { return };
        if let Some(key) = node.host_key {
            self.host_nodes.remove(&key);
        }
        if node.is_passing {
            self.detach_passing(&node);
        }
        if let NodeKind::Regular(Regular { object: Some(object), .. }) = node.kind {
            self.object_nodes.remove(&object);
            self.dead_objects.push(object);
        }
    }

    /// Whether all that the node knows is also on the host.
    fn is_pristine(&self, id: NodeId) -> bool {
        let node = self.node(id);
        let NodeKind::Regular(regular) = &node.kind else { return false };
        // A file with cached pages keeps them for the next one who reads or maps it.
        let is_through = node.layer == Layer::Through;
        node.origin.is_some()
            && node.added_names == 0
            && node.stat.is_none()
            && regular.object.is_none()
            && node.attributes.is_empty()
            && regular
                .content
                .as_ref()
                .is_none_or(|content| is_through || !super::content::lock(content).is_changed())
    }

    /// Finds `name` in the directory.
    pub(crate) fn lookup(&mut self, directory: NodeId, name: &[u8]) -> Result<Target, Errno> {
        if name.len() > super::NAME_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let node = self.node(directory);
        let listed = node.directory()?;
        match listed.children.get(name) {
            Some(Child::Host(id) | Child::Added(id, _)) => return Ok(Target::Node(*id)),
            Some(Child::Absent) => return Ok(Target::Absent),
            None => {}
        }
        let Some(origin) = &node.origin else { return Ok(Target::Absent) };
        let path = join(origin, name);
        if self.hidden.contains(&path) {
            return Ok(Target::Absent);
        }
        let stat = match host::stat(&path) {
            Ok(stat) => stat,
            Err(Errno::ENOENT) => return Ok(Target::Absent),
            Err(errno) => return Err(errno),
        };
        if stat.file_type() == FileType::Directory {
            return Ok(Target::Node(self.enter_host_directory(directory, name, path, &stat)));
        }
        let key = (stat.device, stat.inode, self.node(directory).layer);
        match self.host_nodes.get(&key) {
            Some(&id) => {
                self.note_origin(id, path);
                Ok(Target::Node(id))
            }
            None => Ok(Target::Host(path, Box::new(stat))),
        }
    }

    /// Notes a name by which the host's file can be opened again: the host may have moved it.
    fn note_origin(&mut self, id: NodeId, path: PathBuf) {
        let NodeKind::Regular(Regular { content: Some(content), .. }) = &self.node(id).kind else {
            return;
        };
        if super::content::lock(content).is_away() {
            self.node_mut(id).origin = Some(path);
        }
    }

    /// Makes the node of a host directory that a path goes through for the first time.
    fn enter_host_directory(
        &mut self,
        parent: NodeId,
        name: &[u8],
        path: PathBuf,
        stat: &Stat,
    ) -> NodeId {
        let (layer, mount) = (self.node(parent).layer, self.node(parent).mount);
        let parent_device = self.node(parent).origin.as_deref().map(host::stat);
        let is_mount = parent_device.is_none_or(|p| p.is_ok_and(|p| p.device != stat.device));
        let mut node = Node::new(NodeKind::Directory(Directory::default()), layer, mount);
        node.place = Some((parent, name.into()));
        if is_mount && host::is_virtual(&path) {
            // Differs from Linux: the host's own pseudo file systems are empty directories.
            node.stat = Some(Box::new(*stat));
        } else {
            node.origin = Some(path);
        }
        let id = self.add_node(node);
        if let Ok(listed) = self.node_mut(parent).directory_mut() {
            listed.children.insert(name.to_vec(), Child::Host(id));
        }
        id
    }

    /// The node of a walk's end, made now if the host's file had none.
    ///
    /// # Errors
    /// `ENOENT`: there is nothing.
    pub(crate) fn node_of(
        &mut self,
        parent: NodeId,
        name: &[u8],
        target: Target,
    ) -> Result<NodeId, Errno> {
        let (path, stat) = match target {
            Target::Node(id) => return Ok(id),
            Target::Absent => return Err(Errno::ENOENT),
            Target::Host(path, stat) => (path, stat),
        };
        let kind = match stat.file_type() {
            FileType::Regular => NodeKind::Regular(Regular::default()),
            FileType::Symlink => NodeKind::Symlink(host::read_link(&path)?),
            other => NodeKind::Closed(other),
        };
        let (layer, mount) = (self.node(parent).layer, self.node(parent).mount);
        let mut node = Node::new(kind, layer, mount);
        node.origin = Some(path);
        node.place = Some((parent, name.into()));
        let key = (stat.device, stat.inode, layer);
        node.host_key = Some(key);
        let id = self.add_node(node);
        self.host_nodes.insert(key, id);
        Ok(id)
    }

    /// Attributes of a node.
    pub(crate) fn stat_node(&self, id: NodeId) -> Result<Stat, Errno> {
        let node = self.node(id);
        let mut stat = match (&node.stat, &node.origin) {
            (Some(stat), _) => **stat,
            (None, Some(origin)) => self.stat_origin(id, origin)?,
            (None, None) => return Err(Errno::ENOENT),
        };
        match &node.kind {
            NodeKind::Regular(Regular { content: Some(content), .. }) => {
                let content = super::content::lock(content);
                if content.has_own_size() {
                    stat.size_bytes = content.size_bytes();
                    stat.blocks = content.blocks();
                }
            }
            NodeKind::Symlink(text) => stat.size_bytes = text.len() as u64,
            _ => {}
        }
        Ok(stat)
    }

    /// Attributes that the host has; those of the open file when its name is gone.
    fn stat_origin(&self, id: NodeId, origin: &Path) -> Result<Stat, Errno> {
        let NodeKind::Regular(Regular { content: Some(content), .. }) = &self.node(id).kind else {
            return host::stat(origin);
        };
        match super::content::lock(content).stat_lower() {
            Some(stat) => stat,
            None => host::stat(origin),
        }
    }

    /// Attributes of a walk's end.
    pub(crate) fn stat_target(&self, target: &Target) -> Result<Stat, Errno> {
        match target {
            Target::Node(id) => self.stat_node(*id),
            Target::Host(_, stat) => Ok(**stat),
            Target::Absent => Err(Errno::ENOENT),
        }
    }

    /// The attributes of the node, the guest's own from now on.
    pub(crate) fn stat_mut(&mut self, id: NodeId) -> Result<&mut Stat, Errno> {
        if self.node(id).stat.is_none() {
            let stat = self.stat_node(id)?;
            self.node_mut(id).stat = Some(Box::new(stat));
        }
        self.node_mut(id).stat.as_deref_mut().ok_or(Errno::EIO)
    }
}

/// `path/name`.
pub(crate) fn join(path: &Path, name: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    path.join(std::ffi::OsStr::from_bytes(name))
}
