//! The tree over a small host directory: walks, the copy-on-write layer, binds, `/proc` and `/dev`.

use std::path::PathBuf;

use machine::{FastPath, Geometry, Keep, Machine, MachineConfig, TlbMode};
use mm::{Layout, Limits, Memory, Mm, MmId};

use super::attributes::{Change, Grant};
use super::walk::{Follow, View, WalkRules};
use super::*;

/// A host directory that goes when the test ends.
struct Host(PathBuf);

impl Host {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("faultline-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(path.join("d/sub")).expect("the temporary directory is writable");
        std::fs::write(path.join("f"), b"host bytes").expect("writable");
        std::fs::write(path.join("d/g"), b"g").expect("writable");
        std::fs::write(path.join("secret"), b"s").expect("writable");
        let link = |text: &str, name: &str| {
            std::os::unix::fs::symlink(text, path.join(name)).expect("writable");
        };
        link("d/g", "rel");
        link("/d/g", "abs");
        link("../../../f", "up");
        link("loop2", "loop1");
        link("loop1", "loop2");
        link("new", "dangling");
        Self(path)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A tree, and the machine side that file operations need.
struct World {
    host: Host,
    vfs: Vfs,
    context: FsContext,
    files: FdTable,
    hw: Machine,
    memory: Memory,
    mm: Mm,
}

impl World {
    fn new(name: &str) -> Self {
        Self::with(name, |_| Vec::new())
    }

    fn with(name: &str, binds: impl FnOnce(&Host) -> Vec<Bind>) -> Self {
        let host = Host::new(name);
        let config = VfsConfig {
            root: host.0.clone(),
            binds: binds(&host),
            hidden: vec![host.0.canonicalize().expect("it exists").join("secret")],
            overlay_bytes_max: 1 << 20,
            seed: 1,
            pid: 1000,
        };
        let mut vfs = Vfs::new(config).expect("the root is a directory");
        let who = Credentials { uid: 0, gid: 0, groups: Vec::new() };
        let context = vfs.context(b"/", who).expect("the root can be entered");
        let mut hw = Machine::new(MachineConfig {
            ram_bytes: 1 << 20,
            geometry: Geometry::X86_64,
            tlb: TlbMode::Off,
            reference: FastPath::Filled,
            keep: Keep::HashOnly,
            boot_seconds: 0,
        })
        .expect("a megabyte");
        let mut memory = Memory::new(&mut hw).expect("a megabyte is enough");
        let mm = Mm::new(MmId(1), Layout::default(), Limits::default(), &mut memory, &mut hw)
            .expect("one frame");
        Self { host, vfs, context, files: FdTable::default(), hw, memory, mm }
    }

    fn walk(&mut self, path: &str, follow: Follow) -> Result<Walk, Errno> {
        let view = View::new(&self.context, &self.files);
        let root = self.vfs.root;
        self.vfs.walk(&view, root, path.as_bytes(), follow, WalkRules::default())
    }

    fn stat(&mut self, path: &str) -> Result<Stat, Errno> {
        let walk = self.walk(path, Follow::Yes)?;
        let walk = self.vfs.checked(walk)?;
        self.vfs.stat_target(&walk.target)
    }

    fn open(&mut self, path: &str, flags: u32) -> Result<FileId, Errno> {
        let view = View::new(&self.context, &self.files);
        let root = self.vfs.root;
        self.vfs.open(&view, root, path.as_bytes(), (flags, 0o644), WalkRules::default())
    }

    fn node(&mut self, path: &str) -> NodeId {
        let view = View::new(&self.context, &self.files);
        let root = self.vfs.root;
        self.vfs.find(&view, root, path.as_bytes(), Follow::No).expect("it exists")
    }

    fn read(&mut self, path: &str) -> Result<Vec<u8>, Errno> {
        let file = self.open(path, 0)?;
        let Opened::Regular(node) = self.vfs.file(file).opened else { return Err(Errno::EISDIR) };
        let mut bytes = vec![0; 4096];
        let count = self.read_node(node, &mut bytes)?;
        bytes.truncate(count);
        self.vfs.release(file);
        Ok(bytes)
    }

    fn read_node(&mut self, node: NodeId, bytes: &mut [u8]) -> Result<usize, Errno> {
        let ahead = &mut mm::Readahead::default();
        self.vfs.read_regular((&mut self.memory, &mut self.hw), node, (0, bytes), ahead)
    }

    fn write(&mut self, path: &str, flags: u32, bytes: &[u8]) -> Result<(), Errno> {
        let file = self.open(path, flags | flag::RDWR)?;
        let Opened::Regular(node) = self.vfs.file(file).opened else { return Err(Errno::EISDIR) };
        let mut others = crate::shelf::Shelf::default();
        let (memory, hw, mm) = (&mut self.memory, &mut self.hw, &mut self.mm);
        let mut pages = Pages { memory, hw, mm, others: &mut others };
        let result = self.vfs.write_regular(&mut pages, node, 0, bytes);
        self.vfs.release(file);
        self.vfs.reap(&mut self.memory, &mut self.hw);
        result.map(|count| assert_eq!(count, bytes.len()))
    }

    fn names(&mut self, path: &str) -> Vec<String> {
        let id = self.node(path);
        let view = View::new(&self.context, &self.files);
        let entries = self.vfs.list(&view, id).expect("it is a directory");
        entries.into_iter().map(|entry| String::from_utf8_lossy(&entry.name).into()).collect()
    }

    fn make(&mut self, path: &str, made: &Made) -> Result<NodeId, Errno> {
        let walk = self.walk(path, Follow::No)?;
        self.vfs.make(&View::new(&self.context, &self.files), &walk, made)
    }

    fn unlink(&mut self, path: &str) -> Result<(), Errno> {
        let walk = self.walk(path, Follow::No)?;
        self.vfs.unlink(&View::new(&self.context, &self.files), walk)
    }

    fn rmdir(&mut self, path: &str) -> Result<(), Errno> {
        let walk = self.walk(path, Follow::No)?;
        self.vfs.remove_directory(&View::new(&self.context, &self.files), walk)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), Errno> {
        let old = self.walk(from, Follow::No)?;
        let new = self.walk(to, Follow::No)?;
        self.vfs.rename(&View::new(&self.context, &self.files), old, new, RenameRules(0))
    }
}

#[test]
fn no_path_leaves_the_root() {
    let mut world = World::new("root");
    assert_eq!(world.read("/../../f"), Ok(b"host bytes".to_vec()));
    assert_eq!(world.read("/up"), Ok(b"host bytes".to_vec()));
    assert_eq!(world.read("/abs"), Ok(b"g".to_vec()));
    assert_eq!(world.read("rel"), Ok(b"g".to_vec()));
    assert_eq!(world.read("d/sub/../../d/./g"), Ok(b"g".to_vec()));
    assert_eq!(world.stat("/etc/passwd"), Err(Errno::ENOENT));
}

#[test]
fn walks_fail_as_on_linux() {
    let mut world = World::new("walk");
    let long = "x".repeat(256);
    let deep = "d/../".repeat(900);
    let cases: [(&str, Errno); 9] = [
        ("", Errno::ENOENT),
        ("loop1", Errno::ELOOP),
        ("f/x", Errno::ENOTDIR),
        ("f/", Errno::ENOTDIR),
        ("f/.", Errno::ENOTDIR),
        ("none/x", Errno::ENOENT),
        ("dangling", Errno::ENOENT),
        (&long, Errno::ENAMETOOLONG),
        (&deep, Errno::ENAMETOOLONG),
    ];
    for (path, errno) in cases {
        assert_eq!(world.stat(path), Err(errno), "{path}");
    }
    assert!(world.stat("d/").is_ok());
    assert_eq!(world.stat("secret"), Err(Errno::ENOENT));
    assert!(!world.names("/").contains(&"secret".to_string()));
    let deep_links = 41;
    for number in 0..deep_links {
        let text = format!("chain{}", number + 1).into_bytes();
        world.make(&format!("chain{number}"), &Made::Symlink(text)).expect("new names");
    }
    world.write("chain41", flag::CREAT, b"end").expect("a new file");
    assert_eq!(world.stat("chain0"), Err(Errno::ELOOP));
    assert!(world.stat("chain1").is_ok());
}

#[test]
fn changes_stay_in_the_layer() {
    let mut world = World::new("layer");
    let before = world.stat("f").expect("it exists");
    world.write("f", 0, b"HOST").expect("room");
    assert_eq!(world.read("f"), Ok(b"HOST bytes".to_vec()));
    assert_eq!(world.stat("f").map(|stat| stat.inode), Ok(before.inode));
    world.write("d/new", flag::CREAT, b"new").expect("room");
    assert_eq!(world.names("d").last().map(String::as_str), Some("new"));
    assert_eq!(world.open("d/new", flag::CREAT | flag::EXCL), Err(Errno::EEXIST));
    world.unlink("d/g").expect("it exists");
    assert_eq!(world.read("d/g"), Err(Errno::ENOENT));
    assert_eq!(world.read("abs"), Err(Errno::ENOENT));
    assert_eq!(std::fs::read(world.host.0.join("f")).expect("there"), b"host bytes");
    assert_eq!(std::fs::read(world.host.0.join("d/g")).expect("there"), b"g");
    assert!(!world.host.0.join("d/new").exists());
    assert_eq!(world.write("big", flag::CREAT, &vec![1; 2 << 20]), Err(Errno::ENOSPC));
}

#[test]
fn directories_come_and_go() {
    let mut world = World::new("directories");
    assert_eq!(world.make("d", &Made::Directory(0o755)), Err(Errno::EEXIST));
    assert_eq!(world.make("none/x", &Made::Directory(0o755)).err(), Some(Errno::ENOENT));
    world.make("m/", &Made::Directory(0o755)).expect("a new name");
    assert_eq!(world.stat("m").map(|stat| stat.link_count), Ok(2));
    world.make("m/n", &Made::Directory(0o755)).expect("a new name");
    assert_eq!(world.stat("m").map(|stat| stat.link_count), Ok(3));
    assert_eq!(world.rmdir("m"), Err(Errno::ENOTEMPTY));
    assert_eq!(world.rmdir("d"), Err(Errno::ENOTEMPTY));
    assert_eq!(world.rmdir("f"), Err(Errno::ENOTDIR));
    assert_eq!(world.unlink("d"), Err(Errno::EISDIR));
    assert_eq!(world.rmdir("d/."), Err(Errno::EINVAL));
    assert_eq!(world.rmdir("/"), Err(Errno::EBUSY));
    world.rmdir("m/n").expect("it is empty");
    world.rmdir("m").expect("it is empty");
    world.rmdir("d/sub").expect("it is empty");
    assert!(!world.names("d").contains(&"sub".to_string()));
    world.make("d/sub", &Made::Directory(0o700)).expect("the name is free again");
    assert_eq!(world.names("d/sub"), [".", ".."]);
}

#[test]
fn renames_move_what_is_below() {
    let mut world = World::new("rename");
    world.rename("d", "e").expect("free name");
    assert_eq!(world.read("e/g"), Ok(b"g".to_vec()));
    assert_eq!(world.stat("d"), Err(Errno::ENOENT));
    assert_eq!(world.rename("e", "e/sub/x"), Err(Errno::EINVAL));
    assert_eq!(world.rename("f", "e"), Err(Errno::EISDIR));
    assert_eq!(world.rename("e", "f"), Err(Errno::ENOTDIR));
    world.rename("f", "e/g").expect("files replace files");
    assert_eq!(world.read("e/g"), Ok(b"host bytes".to_vec()));
    assert_eq!(world.read("f"), Err(Errno::ENOENT));
    let id = world.node("e/g");
    assert_eq!(world.vfs.path_of_node(id), b"/e/g");
    assert_eq!(world.rename("e/g", "/dev/shm/x"), Err(Errno::EXDEV));
    assert!(world.host.0.join("d/g").exists());
}

#[test]
fn links_share_an_inode_and_open_files_outlive_names() {
    let mut world = World::new("links");
    let from = world.walk("f", Follow::No).expect("it exists");
    let to = world.walk("d/f2", Follow::No).expect("its directory exists");
    let source = (from.parent, from.name, from.target);
    let view = View::new(&world.context, &world.files);
    world.vfs.link(&view, source, &to).expect("same file system");
    world.write("d/f2", 0, b"HOST").expect("room");
    assert_eq!(world.read("f"), Ok(b"HOST bytes".to_vec()));
    assert_eq!(world.stat("f").map(|stat| stat.link_count), Ok(2));
    let file = world.open("f", 0).expect("it exists");
    world.unlink("f").expect("it exists");
    world.unlink("d/f2").expect("it exists");
    let stat = world.vfs.stat_file(file).expect("it is open");
    assert_eq!((stat.link_count, stat.size_bytes), (0, 10));
    let nodes = world.vfs.nodes.iter().flatten().count();
    world.vfs.release(file);
    assert_eq!(world.vfs.nodes.iter().flatten().count(), nodes - 1);
}

#[test]
fn a_bind_writes_through_only_when_it_may() {
    let mut world = World::with("bind", |host| {
        let bind = |guest: &str, access| Bind {
            host: host.0.join("d"),
            guest: guest.as_bytes().to_vec(),
            access,
        };
        vec![bind("/mnt/rw", BindAccess::ReadWrite), bind("/mnt/ro", BindAccess::ReadOnly)]
    });
    world.write("/mnt/rw/new", flag::CREAT, b"through").expect("the host is writable");
    assert_eq!(std::fs::read(world.host.0.join("d/new")).expect("there"), b"through");
    assert_eq!(world.read("/mnt/ro/new"), Ok(b"through".to_vec()));
    assert_eq!(world.write("/mnt/ro/new", 0, b"x"), Err(Errno::EROFS));
    assert_eq!(world.unlink("/mnt/ro/new"), Err(Errno::EROFS));
    world.rename("/mnt/rw/new", "/mnt/rw/sub/moved").expect("the host is writable");
    assert!(world.host.0.join("d/sub/moved").exists());
    world.rename("/mnt/rw/sub", "/mnt/rw/sub2").expect("the host is writable");
    assert_eq!(world.read("/mnt/rw/sub2/moved"), Ok(b"through".to_vec()));
    assert_eq!(world.rename("/mnt/rw/g", "/f2"), Err(Errno::EXDEV));
    assert_eq!(world.rmdir("/mnt/rw"), Err(Errno::EBUSY));
    world.unlink("/mnt/rw/sub2/moved").expect("the host is writable");
    world.rmdir("/mnt/rw/sub2").expect("it is empty");
    assert!(!world.host.0.join("d/sub").exists());
}

#[test]
fn rights_are_those_of_the_mode() {
    let mut world = World::new("rights");
    let id = world.node("d/g");
    let view = View::new(&world.context, &world.files);
    world.vfs.change(&view, id, Change::Mode(0o640)).expect("root may");
    world.vfs.change(&view, id, Change::Owner(Some(5), Some(6))).expect("root may");
    world.context.credentials = Credentials { uid: 7, gid: 7, groups: vec![6] };
    assert!(world.open("d/g", 0).is_ok());
    assert_eq!(world.open("d/g", flag::RDWR), Err(Errno::EACCES));
    let view = View::new(&world.context, &world.files);
    assert_eq!(world.vfs.change(&view, id, Change::Mode(0o777)), Err(Errno::EPERM));
    assert_eq!(world.vfs.permits(&view, id, Grant::EXECUTE), Err(Errno::EACCES));
}

#[test]
fn the_host_does_not_show_in_proc_dev_and_sys() {
    let mut world = World::new("pseudo");
    let names = world.names("/proc");
    assert!(names.contains(&"meminfo".to_string()) && !names.contains(&"1".to_string()));
    assert_eq!(world.stat("/proc/self/fd"), Err(Errno::ENOENT), "no task, no directory of it");
    let names = world.names("/dev");
    assert!(names.contains(&"null".to_string()) && !names.contains(&"kmsg".to_string()));
    assert_eq!(world.stat("/dev/null").map(|stat| stat.special), Ok((1, 3)));
    assert_eq!(world.stat("/proc/1"), Err(Errno::ENOENT));
    assert_eq!(world.open("/proc/new", flag::CREAT | flag::WRONLY), Err(Errno::EPERM));
    assert_eq!(world.rmdir("/proc/sys"), Err(Errno::EPERM));
    assert_eq!(world.stat("/sys/devices/system/cpu/online").map(|stat| stat.size_bytes), Ok(4096));
}
