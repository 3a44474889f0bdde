//! The tree as it is before the program starts: host root, binds, `/dev`, `/proc`, `/sys`.

use std::collections::{BTreeMap, BTreeSet};

use mm::ObjectId;

use super::content::Budget;
use super::device::Device;
use super::node::{Child, Directory, Layer, Listing, Node, NodeKind, ProcFile, Regular};
use super::proc::{ProcDirectory, Scope};
use super::socket::Sockets;
use super::stat::{FileType, Stat, Timestamp};
use super::stream::Stream;
use super::{Bind, BindAccess, NodeId, Vfs, VfsConfig, VfsError, host, proc};
use crate::errno::Errno;
use crate::random::Generator;

/// The first inode number that the guest gives itself: above those of most host file systems, and
/// one that i386 programs can be told.
const FIRST_INODE: u64 = 3 << 30;
/// The first minor device number of file systems made here.
const FIRST_MINOR: u32 = 0x1000;

/// Makes the tree.
pub(super) fn plant(config: VfsConfig) -> Result<Vfs, VfsError> {
    let root_path = config.root.as_os_str().as_encoded_bytes().to_vec();
    let fail = |errno| VfsError { path: root_path.clone(), errno };
    let origin = config.root.canonicalize().map_err(|error| fail(error.into()))?;
    let stat = host::stat(&origin).map_err(fail)?;
    if stat.file_type() != FileType::Directory {
        return Err(fail(Errno::ENOTDIR));
    }
    let mut root = Node::new(NodeKind::Directory(Directory::default()), Layer::Overlay, 0);
    root.origin = Some(origin);
    let pool = super::Pool::new(u64::MAX);
    let mut vfs = Vfs {
        nodes: vec![Some(root)],
        free_nodes: Vec::new(),
        root: NodeId(0),
        // Until it is planted.
        dev: NodeId(0),
        host_nodes: BTreeMap::new(),
        hidden: config.hidden.into_iter().collect(),
        files: Vec::new(),
        free_files: Vec::new(),
        sockets: Sockets::default(),
        locks: super::lock::Locks::new(&pool),
        terminals: super::terminal::Terminals::new(config.pid),
        timers: BTreeSet::new(),
        object_nodes: BTreeMap::new(),
        dead_objects: Vec::new(),
        news: Vec::new(),
        lingering: Vec::new(),
        resting: Vec::new(),
        budget: Budget::new(config.overlay_bytes_max),
        pool,
        random: Generator::new(config.seed ^ 0x7261_6e64_6f6d),
        now: Timestamp::default(),
        next_inode: FIRST_INODE,
        mount_count: 1,
        passing: Vec::new(),
    };
    vfs.dev = vfs.plant_dev();
    vfs.plant_proc();
    vfs.plant_sys();
    for bind in &config.binds {
        vfs.plant_bind(bind).map_err(|errno| VfsError { path: bind.guest.clone(), errno })?;
    }
    Ok(vfs)
}

impl Vfs {
    /// An inode number that nothing else has.
    pub(crate) fn take_inode(&mut self) -> u64 {
        self.next_inode += 1;
        self.next_inode
    }

    /// Puts a node of the guest's own into a directory, without asking for rights.
    pub(crate) fn graft(&mut self, parent: NodeId, name: &[u8], mut node: Node) -> NodeId {
        let kind = node.file_type();
        let inode = self.take_inode();
        let now = self.now;
        let mount = node.mount;
        let permissions = if kind == FileType::Directory { 0o755 } else { 0o444 };
        let stat = node.stat.get_or_insert_with(|| Box::new(Stat::new(kind, permissions, now)));
        stat.inode = inode;
        stat.device = (0, FIRST_MINOR + mount);
        stat.link_count = if kind == FileType::Directory { 2 } else { 1 };
        node.place = Some((parent, name.into()));
        node.added_names = 1;
        let id = self.add_node(node);
        if let Ok(directory) = self.node_mut(parent).directory_mut() {
            directory.next_order += 1;
            let order = directory.next_order;
            // A mount covers the host's directory and keeps its place in the listing.
            directory.children.insert(name.to_vec(), Child::Added(id, order));
        }
        id
    }

    fn new_directory(&self, mount: u32) -> Node {
        Node::new(NodeKind::Directory(Directory::default()), Layer::Overlay, mount)
    }

    fn new_mount(&mut self, name: &[u8], permissions: u32) -> (NodeId, u32) {
        let mount = self.mount_count;
        self.mount_count += 1;
        let mut node = self.new_directory(mount);
        let stat = Stat::new(FileType::Directory, permissions, self.now);
        node.stat = Some(Box::new(stat));
        (self.graft(self.root, name, node), mount)
    }

    /// Plants `/dev` and returns it.
    fn plant_dev(&mut self) -> NodeId {
        let (dev, mount) = self.new_mount(b"dev", 0o755);
        let devices: [(&[u8], Device); 7] = [
            (b"null", Device::Null),
            (b"zero", Device::Zero),
            (b"full", Device::Full),
            (b"random", Device::Random),
            (b"urandom", Device::Urandom),
            (b"tty", Device::Tty),
            (b"ptmx", Device::Ptmx),
        ];
        for (name, device) in devices {
            let mut node = Node::new(NodeKind::Device(device), Layer::Overlay, mount);
            node.stat = Some(Box::new(device.stat(self.now)));
            self.graft(dev, name, node);
        }
        let links: [(&[u8], &[u8]); 4] = [
            (b"fd", b"/proc/self/fd"),
            (b"stdin", b"/proc/self/fd/0"),
            (b"stdout", b"/proc/self/fd/1"),
            (b"stderr", b"/proc/self/fd/2"),
        ];
        for (name, text) in links {
            self.graft_link(dev, name, text, mount);
        }
        let mut shm = self.new_directory(self.mount_count);
        self.mount_count += 1;
        shm.stat = Some(Box::new(Stat::new(FileType::Directory, 0o1777, self.now)));
        self.graft(dev, b"shm", shm);
        let pts = self.new_directory(mount);
        let pts = self.graft(dev, b"pts", pts);
        for stream in Stream::ALL {
            self.plant_terminal(pts, stream, mount);
        }
        dev
    }

    /// Puts a device that the machine has into `/dev`, where mappings of `object` have its name. A
    /// bind that covers `/dev` hides it. Returns device and number of its node.
    pub(crate) fn plant_device(
        &mut self,
        name: &[u8],
        device: Device,
        object: ObjectId,
    ) -> ((u32, u32), u64) {
        let mount = self.node(self.dev).mount;
        let mut node = Node::new(NodeKind::Device(device), Layer::Overlay, mount);
        node.stat = Some(Box::new(device.stat(self.now)));
        let id = self.graft(self.dev, name, node);
        self.object_nodes.insert(object, id);
        self.node(id).stat.as_ref().map_or(((0, 0), 0), |stat| (stat.device, stat.inode))
    }

    /// Shows the terminal of a standard stream under its name, so that `ttyname` finds it.
    fn plant_terminal(&mut self, pts: NodeId, stream: Stream, mount: u32) {
        let path = stream.path();
        let Some(name) = path.strip_prefix(b"/dev/pts/") else { return };
        let is_known =
            self.node(pts).directory().is_ok_and(|directory| directory.children.contains_key(name));
        let Ok(stat) = stream.stat() else { return };
        if is_known || name.contains(&b'/') || !stream.is_terminal() {
            return;
        }
        let mut node = Node::new(NodeKind::Device(Device::Stream(stream)), Layer::Overlay, mount);
        node.stat = Some(Box::new(stat));
        let id = self.graft(pts, name, node);
        self.node_mut(id).stat = Some(Box::new(stat));
    }

    fn graft_link(&mut self, parent: NodeId, name: &[u8], text: &[u8], mount: u32) {
        let mut node = Node::new(NodeKind::Symlink(text.to_vec()), Layer::Overlay, mount);
        node.stat = Some(Box::new(Stat::new(FileType::Symlink, 0o777, self.now)));
        self.graft(parent, name, node);
    }

    fn plant_proc(&mut self) {
        let (root, mount) = self.new_mount(b"proc", 0o555);
        if let Ok(directory) = self.node_mut(root).directory_mut() {
            directory.list = Listing::Proc(ProcDirectory::Root);
        }
        for (path, permissions) in proc::system_files().filter(|file| !file.0.starts_with('/')) {
            self.plant_made(root, path, path, permissions, mount);
        }
        self.graft_link(root, b"mounts", b"self/mounts", mount);
        for (name, scope) in [("self", Scope::Process), ("thread-self", Scope::Thread)] {
            let mut node = Node::new(NodeKind::SelfLink(scope), Layer::Fixed, mount);
            node.stat = Some(Box::new(Stat::new(FileType::Symlink, 0o777, self.now)));
            self.graft(root, name.as_bytes(), node);
        }
        self.fix_mount(mount);
    }

    fn plant_sys(&mut self) {
        let (root, mount) = self.new_mount(b"sys", 0o555);
        for (full, permissions) in proc::system_files() {
            if let Some(path) = full.strip_prefix("/sys/") {
                self.plant_made(root, path, full, permissions, mount);
            }
        }
        for name in ["block", "bus", "class", "dev", "firmware", "fs", "module", "power"] {
            self.directory_named(root, name.as_bytes(), mount);
        }
        self.fix_mount(mount);
    }

    /// Names of the mount are not for programs to change.
    fn fix_mount(&mut self, mount: u32) {
        for node in self.nodes.iter_mut().flatten().filter(|node| node.mount == mount) {
            node.layer = Layer::Fixed;
        }
    }

    /// Plants a file that is made when it is read, and the directories on the way to it.
    fn plant_made(
        &mut self,
        root: NodeId,
        path: &str,
        key: &'static str,
        permissions: u32,
        mount: u32,
    ) {
        let mut here = root;
        let mut names = path.split('/').peekable();
        while let Some(name) = names.next() {
            if names.peek().is_some() {
                here = self.directory_named(here, name.as_bytes(), mount);
                continue;
            }
            let kind = NodeKind::Proc(ProcFile::System(key));
            let mut node = Node::new(kind, Layer::Fixed, mount);
            let mut stat = Stat::new(FileType::Regular, permissions, self.now);
            stat.size_bytes = proc::size_of(key);
            node.stat = Some(Box::new(stat));
            self.graft(here, name.as_bytes(), node);
        }
    }

    /// The child directory of this name, made if it is missing.
    fn directory_named(&mut self, parent: NodeId, name: &[u8], mount: u32) -> NodeId {
        let found = match self.node(parent).directory() {
            Ok(directory) => directory.children.get(name).copied(),
            Err(_) => None,
        };
        match found {
            Some(Child::Host(id) | Child::Added(id, _)) => id,
            _ => {
                let mut node = self.new_directory(mount);
                let stat = Stat::new(FileType::Directory, 0o555, self.now);
                node.stat = Some(Box::new(stat));
                self.graft(parent, name, node)
            }
        }
    }

    /// Shows a host directory or file at a place of its own.
    fn plant_bind(&mut self, bind: &Bind) -> Result<(), Errno> {
        let origin = bind.host.canonicalize()?;
        let stat = host::stat(&origin)?;
        let kind = match stat.file_type() {
            FileType::Directory => NodeKind::Directory(Directory::default()),
            FileType::Regular => NodeKind::Regular(Regular::default()),
            _ => return Err(Errno::EINVAL),
        };
        let layer = match bind.access {
            BindAccess::ReadOnly => Layer::ReadOnly,
            BindAccess::ReadWrite => Layer::Through,
        };
        let names: Vec<&[u8]> =
            bind.guest.split(|&byte| byte == b'/').filter(|name| !name.is_empty()).collect();
        let is_absolute = bind.guest.first() == Some(&b'/');
        let is_clean = names.iter().all(|&name| name != b"." && name != b"..");
        let Some((last, above)) = names.split_last() else { return Err(Errno::EINVAL) };
        if !is_absolute || !is_clean {
            return Err(Errno::EINVAL);
        }
        let mut here = self.root;
        for name in above {
            here = match self.lookup(here, name)? {
                super::node::Target::Node(id) if self.node(id).is_directory() => id,
                super::node::Target::Absent => {
                    let node = self.new_directory(0);
                    self.graft(here, name, node)
                }
                _ => return Err(Errno::ENOTDIR),
            };
        }
        let mount = self.mount_count;
        self.mount_count += 1;
        let mut node = Node::new(kind, layer, mount);
        node.origin = Some(origin);
        let id = self.graft(here, last, node);
        // Attributes are the host's.
        self.node_mut(id).stat = None;
        Ok(())
    }
}
