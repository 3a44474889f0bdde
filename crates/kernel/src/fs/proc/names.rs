//! The names below `/proc/PID`: which there are, who owns them, and what they lead to.
//!
//! Nodes of tasks are made when a path goes through them, and forgotten at the end of the system
//! call unless an open file or a working directory holds them. A node holds the directory above it.
//!
//! Does not: make the content of files; `fs/proc/task.rs` does.
//!
//! # Source
//! Linux 6.12 `fs/proc/base.c:tgid_base_stuff`, `tid_base_stuff`, `task_dump_owner`.

use mm::{FileKind, Mm, Rights, Vma};

use super::super::listing::Entry;
use super::super::node::{
    Child, Directory, Layer, Listing, Magic, Node, NodeKind, ProcFile, Target,
};
use super::super::stat::{FileType, Stat};
use super::super::walk::View;
use super::super::{Credentials, NodeId, Vfs};
use crate::errno::Errno;
use crate::roster::Roster;

/// Whose directory: of a process, or of one of its threads.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Subject {
    /// The task; the first thread for a process.
    pub(crate) tid: u32,
    /// Whether the process is meant or the thread.
    pub(crate) scope: Scope,
}

/// What a directory with the number of a task is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Scope {
    /// `/proc/PID`.
    Process,
    /// `/proc/PID/task/TID`.
    Thread,
}

/// A directory whose names come from the tasks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum ProcDirectory {
    /// `/proc`: files that were planted, and the processes.
    Root,
    /// The directory of a process or thread.
    Task(Subject),
    /// `task`: the threads of the process.
    Threads(Subject),
    /// `fd`.
    Descriptors(Subject),
    /// `map_files`.
    Mappings(Subject),
    /// `fdinfo`.
    DescriptorInfo(Subject),
    /// `ns`.
    Namespaces(Subject),
}

/// What a name leads to.
#[derive(Clone, Copy)]
enum Leads {
    File,
    Link(Magic),
    Directory(fn(Subject) -> ProcDirectory),
}

/// In which directories a name is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum In {
    Both,
    Process,
    Thread,
}

struct Name {
    name: &'static str,
    permissions: u32,
    leads: Leads,
    place: In,
}

const fn file(name: &'static str, permissions: u32) -> Name {
    Name { name, permissions, leads: Leads::File, place: In::Both }
}

const fn file_in(name: &'static str, permissions: u32, place: In) -> Name {
    Name { name, permissions, leads: Leads::File, place }
}

const fn link(name: &'static str, magic: Magic) -> Name {
    Name { name, permissions: 0o777, leads: Leads::Link(magic), place: In::Both }
}

const fn directory(
    name: &'static str,
    permissions: u32,
    of: fn(Subject) -> ProcDirectory,
    place: In,
) -> Name {
    Name { name, permissions, leads: Leads::Directory(of), place }
}

/// The names in the directory of a task, in the order of a listing.
const NAMES: [Name; 49] = [
    directory("task", 0o555, ProcDirectory::Threads, In::Process),
    directory("fd", 0o500, ProcDirectory::Descriptors, In::Both),
    directory("map_files", 0o500, ProcDirectory::Mappings, In::Process),
    directory("fdinfo", 0o555, ProcDirectory::DescriptorInfo, In::Both),
    directory("ns", 0o511, ProcDirectory::Namespaces, In::Both),
    file("environ", 0o400),
    file("auxv", 0o400),
    file("status", 0o444),
    file("personality", 0o400),
    file("limits", 0o444),
    file("sched", 0o644),
    file("comm", 0o644),
    file("syscall", 0o400),
    file("cmdline", 0o444),
    file("stat", 0o444),
    file("statm", 0o444),
    file("maps", 0o444),
    file_in("children", 0o444, In::Thread),
    file("numa_maps", 0o444),
    file("mem", 0o600),
    link("cwd", Magic::Cwd),
    link("root", Magic::Root),
    link("exe", Magic::Exe),
    file("mounts", 0o444),
    file("mountinfo", 0o444),
    file_in("mountstats", 0o400, In::Process),
    file("clear_refs", 0o200),
    file("smaps", 0o444),
    file("smaps_rollup", 0o444),
    file("pagemap", 0o400),
    file("wchan", 0o444),
    file("schedstat", 0o444),
    file("cpuset", 0o444),
    file("cgroup", 0o444),
    file("oom_score", 0o444),
    file("oom_adj", 0o644),
    file("oom_score_adj", 0o644),
    file("loginuid", 0o644),
    file("sessionid", 0o444),
    file_in("coredump_filter", 0o644, In::Process),
    file("io", 0o400),
    file("uid_map", 0o644),
    file("gid_map", 0o644),
    file("projid_map", 0o644),
    file("setgroups", 0o644),
    file_in("timers", 0o444, In::Process),
    file_in("timerslack_ns", 0o666, In::Process),
    file("ksm_merging_pages", 0o400),
    file("arch_status", 0o444),
];

/// The names in `ns`, with the kind and the number of the one namespace of each kind.
pub(crate) const NAMESPACES: [(&str, &str, u32); 10] = [
    ("cgroup", "cgroup", 4_026_531_835),
    ("ipc", "ipc", 4_026_531_839),
    ("mnt", "mnt", 4_026_531_832),
    ("net", "net", 4_026_531_833),
    ("pid", "pid", 4_026_531_836),
    ("pid_for_children", "pid", 4_026_531_836),
    ("time", "time", 4_026_531_834),
    ("time_for_children", "time", 4_026_531_834),
    ("user", "user", 4_026_531_837),
    ("uts", "uts", 4_026_531_838),
];

/// What a name of a directory becomes when a path goes through it.
struct Found {
    kind: NodeKind,
    permissions: u32,
    subject: Subject,
    /// Distinguishes the names of one subject.
    number: u64,
}

impl Found {
    fn directory(of: ProcDirectory, permissions: u32, subject: Subject, number: u64) -> Self {
        let directory = Directory { list: Listing::Proc(of), ..Directory::default() };
        Self { kind: NodeKind::Directory(directory), permissions, subject, number }
    }

    /// An inode number that depends on nothing but the name, and that fits what i386 programs know.
    fn inode(&self) -> u64 {
        /// Spreads what it is multiplied with over the upper half: 2^64 over the golden ratio.
        const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
        let scope = u64::from(self.subject.scope == Scope::Thread);
        let name = u64::from(self.subject.tid) << 25 | scope << 24 | self.number;
        name.wrapping_add(1).wrapping_mul(SPREAD) >> 32
    }
}

impl Subject {
    pub(crate) const fn process(pid: u32) -> Self {
        Self { tid: pid, scope: Scope::Process }
    }

    const fn thread(tid: u32) -> Self {
        Self { tid, scope: Scope::Thread }
    }

    /// The number of the process that the task belongs to; `None` if it is gone.
    pub(crate) fn pid(self, roster: &Roster<'_>) -> Option<u32> {
        match roster.task(self.tid) {
            Some(task) => Some(task.pid),
            None => roster.process(self.tid).map(|process| process.pid),
        }
    }
}

/// Who owns the files of a task: who it is, or root if others shall not look into it.
fn owner(roster: &Roster<'_>, subject: Subject, is_open_to_all: bool) -> (u32, u32) {
    let Some(process) = subject.pid(roster).and_then(|pid| roster.process(pid)) else {
        return (0, 0);
    };
    if process.settings.dumpable != 1 && !is_open_to_all {
        return (0, 0);
    }
    match credentials(roster, subject) {
        Some(credentials) => (credentials.uid, credentials.gid),
        None => (0, 0),
    }
}

/// Who a task is, or was.
pub(crate) fn credentials<'a>(roster: &Roster<'a>, subject: Subject) -> Option<&'a Credentials> {
    let alive = roster.task(subject.tid).and_then(|task| roster.fs_of(task));
    let dead = || roster.process(subject.tid)?.remains.as_ref();
    alive.map(|fs| &fs.credentials).or_else(|| dead().map(|remains| &remains.credentials))
}

/// A number as `/proc` writes it: decimal, without zeros in front.
fn number(name: &[u8]) -> Option<u32> {
    let is_plain = name.first().is_some_and(|&first| first != b'0' || name.len() == 1);
    let text = std::str::from_utf8(name).ok().filter(|_| is_plain)?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

fn find(roster: &Roster<'_>, directory: ProcDirectory, name: &[u8]) -> Option<Found> {
    match directory {
        ProcDirectory::Root => {
            let subject = Subject::process(number(name)?);
            subject.pid(roster)?;
            Some(Found::directory(ProcDirectory::Task(subject), 0o555, subject, 0))
        }
        ProcDirectory::Threads(of) => {
            let subject = Subject::thread(number(name)?);
            (subject.pid(roster)? == of.pid(roster)?).then_some(())?;
            Some(Found::directory(ProcDirectory::Task(subject), 0o555, subject, 0))
        }
        ProcDirectory::Task(subject) => {
            subject.pid(roster)?;
            let (index, entry) = names(subject).find(|(_, entry)| entry.name.as_bytes() == name)?;
            Some(named(subject, index, entry))
        }
        ProcDirectory::Descriptors(subject) => {
            let files = roster.files_of(roster.task(subject.tid)?)?;
            let fd = number(name)?;
            files.get(fd.into()).ok()?;
            let kind = NodeKind::Magic(subject, Magic::Descriptor(fd));
            Some(Found { kind, permissions: 0o700, subject, number: 1 << 20 | u64::from(fd) })
        }
        ProcDirectory::Mappings(subject) => {
            let vma = mapped_files(roster, subject).find(|vma| mapping_name(vma) == name)?;
            let start = vma.range.start;
            let kind = NodeKind::Magic(subject, Magic::Mapping(start.as_u64()));
            // Those of the open file, not of the mapping.
            let may = vma.backing.file()?.may;
            let reads = if may.contains(Rights::READ) { 0o400 } else { 0 };
            let writes = if may.contains(Rights::WRITE) { 0o200 } else { 0 };
            let number = 4 << 20 | start.page().number() & 0xf_ffff;
            Some(Found { kind, permissions: reads | writes, subject, number })
        }
        ProcDirectory::DescriptorInfo(subject) => {
            let files = roster.files_of(roster.task(subject.tid)?)?;
            let fd = number(name)?;
            files.get(fd.into()).ok()?;
            let kind = NodeKind::Proc(ProcFile::DescriptorInfo(subject, fd));
            Some(Found { kind, permissions: 0o444, subject, number: 2 << 20 | u64::from(fd) })
        }
        ProcDirectory::Namespaces(subject) => {
            subject.pid(roster)?;
            let index = NAMESPACES.iter().position(|entry| entry.0.as_bytes() == name)?;
            let kind = NodeKind::Magic(subject, Magic::Namespace(index));
            Some(Found { kind, permissions: 0o777, subject, number: 3 << 20 | index as u64 })
        }
    }
}

/// The mappings of a task that have a file.
fn mapped_files<'a>(roster: &Roster<'a>, subject: Subject) -> impl Iterator<Item = &'a Vma> {
    let mm = roster.task(subject.tid).and_then(|task| roster.mm_of(task));
    let has_file = |vma: &&Vma| vma.backing.file().is_some_and(|it| it.kind != FileKind::Special);
    mm.into_iter().flat_map(Mm::vmas).filter(has_file)
}

fn mapping_name(vma: &Vma) -> Vec<u8> {
    format!("{:x}-{:x}", vma.range.start.as_u64(), vma.range.end.as_u64()).into_bytes()
}

fn named(subject: Subject, index: usize, entry: &'static Name) -> Found {
    let number = index as u64 + 1;
    let kind = match entry.leads {
        Leads::File => NodeKind::Proc(ProcFile::Task(subject, entry.name)),
        Leads::Link(magic) => NodeKind::Magic(subject, magic),
        Leads::Directory(of) => {
            return Found::directory(of(subject), entry.permissions, subject, number);
        }
    };
    Found { kind, permissions: entry.permissions, subject, number }
}

/// The names in the directory of the subject.
fn names(subject: Subject) -> impl Iterator<Item = (usize, &'static Name)> {
    let place = if subject.scope == Scope::Process { In::Process } else { In::Thread };
    NAMES
        .iter()
        .enumerate()
        .filter(move |(_, entry)| entry.place == In::Both || entry.place == place)
}

/// All names of a directory besides planted ones; `None` if what it is about is gone.
fn list(roster: &Roster<'_>, directory: ProcDirectory) -> Option<Vec<Vec<u8>>> {
    let decimal = |number: u32| number.to_string().into_bytes();
    let fds = |subject: Subject| -> Option<Vec<Vec<u8>>> {
        subject.pid(roster)?;
        let files = roster.task(subject.tid).and_then(|task| roster.files_of(task));
        Some(files.map_or_else(Vec::new, |files| files.numbers().map(decimal).collect()))
    };
    match directory {
        ProcDirectory::Root => Some(roster.pids().into_iter().map(decimal).collect()),
        ProcDirectory::Task(subject) => {
            subject.pid(roster)?;
            Some(names(subject).map(|(_, entry)| entry.name.as_bytes().to_vec()).collect())
        }
        ProcDirectory::Threads(subject) => {
            let process = roster.process(subject.pid(roster)?)?;
            let mut tids = process.threads.clone();
            tids.insert(process.pid);
            Some(tids.into_iter().map(decimal).collect())
        }
        ProcDirectory::Descriptors(subject) | ProcDirectory::DescriptorInfo(subject) => {
            fds(subject)
        }
        ProcDirectory::Mappings(subject) => {
            subject.pid(roster)?;
            Some(mapped_files(roster, subject).map(mapping_name).collect())
        }
        ProcDirectory::Namespaces(subject) => {
            subject.pid(roster)?;
            Some(NAMESPACES.iter().map(|entry| entry.0.as_bytes().to_vec()).collect())
        }
    }
}

/// How many names the directory has besides files, for `st_nlink`.
fn link_count(roster: &Roster<'_>, directory: ProcDirectory) -> u32 {
    let subdirectories = match directory {
        ProcDirectory::Threads(_) => list(roster, directory).map_or(0, |names| names.len()),
        ProcDirectory::Task(subject) => {
            names(subject).filter(|(_, entry)| matches!(entry.leads, Leads::Directory(_))).count()
        }
        _ => 0,
    };
    u32::try_from(subdirectories).unwrap_or(u32::MAX).saturating_add(2)
}

impl Vfs {
    /// Finds `name` in a directory of `/proc`, and makes its node.
    ///
    /// # Errors
    /// `ESRCH`: the directory of a process that is gone.
    pub(crate) fn lookup_proc(
        &mut self,
        view: &View<'_>,
        parent: NodeId,
        directory: ProcDirectory,
        name: &[u8],
    ) -> Result<Target, Errno> {
        let found = view.roster.and_then(|roster| Some((roster, find(&roster, directory, name)?)));
        let Some((roster, found)) = found else {
            let is_gone =
                |subject: Subject| view.roster.is_some_and(|roster| subject.pid(&roster).is_none());
            return match (directory, self.lookup(parent, name)?) {
                // A directory that somebody holds stays after its process is gone.
                (ProcDirectory::Root, Target::Node(id)) if !self.node(id).is_passing => {
                    Ok(Target::Node(id))
                }
                // `proc_pid_permission`, which threads' directories do not have.
                (ProcDirectory::Task(subject), _)
                    if subject.scope == Scope::Process && is_gone(subject) =>
                {
                    Err(Errno::ESRCH)
                }
                _ => Ok(Target::Absent),
            };
        };
        let stat = self.proc_stat(&roster, parent, &found);
        let known = match self.node(parent).directory()?.children.get(name) {
            Some(Child::Added(id, _)) => Some(*id),
            _ => None,
        };
        if let Some(id) = known {
            self.node_mut(id).stat = Some(Box::new(stat));
            return Ok(Target::Node(id));
        }
        let mut node = Node::new(found.kind, Layer::Fixed, self.node(parent).mount);
        node.stat = Some(Box::new(stat));
        node.is_passing = true;
        let id = self.graft(parent, name, node);
        // Grafting gives numbers of its own.
        self.node_mut(id).stat = Some(Box::new(stat));
        self.hold(parent);
        self.passing.push(id);
        Ok(Target::Node(id))
    }

    fn proc_stat(&self, roster: &Roster<'_>, parent: NodeId, found: &Found) -> Stat {
        let kind = match &found.kind {
            NodeKind::Directory(_) => FileType::Directory,
            NodeKind::Magic(..) => FileType::Symlink,
            _ => FileType::Regular,
        };
        let mut permissions = found.permissions;
        if let NodeKind::Magic(subject, Magic::Descriptor(fd)) = found.kind {
            permissions = self.descriptor_permissions(roster, subject, fd);
        }
        let mut stat = Stat::new(kind, permissions, self.now);
        let is_open_to_all = kind == FileType::Directory && permissions == 0o555;
        (stat.uid, stat.gid) = owner(roster, found.subject, is_open_to_all);
        stat.inode = found.inode();
        stat.device = self.node(parent).stat.as_ref().map_or((0, 0), |stat| stat.device);
        stat.block_bytes = 1024;
        match &found.kind {
            NodeKind::Directory(Directory { list: Listing::Proc(of), .. }) => {
                stat.link_count = link_count(roster, *of);
            }
            NodeKind::Magic(_, Magic::Descriptor(_) | Magic::Mapping(_)) => stat.size_bytes = 64,
            _ => {}
        }
        stat
    }

    /// The rights of a link in `fd` tell how the file was opened.
    fn descriptor_permissions(&self, roster: &Roster<'_>, subject: Subject, fd: u32) -> u32 {
        let files = roster.task(subject.tid).and_then(|task| roster.files_of(task));
        let Some(file) = files.and_then(|files| files.get(fd.into()).ok()) else { return 0 };
        let file = self.file(file);
        let reads = if file.can_read() { 0o500 } else { 0 };
        let writes = if file.can_write() { 0o300 } else { 0 };
        reads | writes
    }

    /// The entries of a directory of `/proc` that come from the tasks.
    ///
    /// # Errors
    /// `ENOENT`: the task is gone.
    pub(crate) fn list_proc(
        &mut self,
        view: &View<'_>,
        directory: ProcDirectory,
    ) -> Result<Vec<Entry>, Errno> {
        let Some(roster) = view.roster else { return Ok(Vec::new()) };
        let names = list(&roster, directory).ok_or(Errno::ENOENT)?;
        let entry = |name: Vec<u8>| {
            let found = find(&roster, directory, &name)?;
            let kind = match found.kind {
                NodeKind::Directory(_) => FileType::Directory,
                NodeKind::Magic(..) => FileType::Symlink,
                _ => FileType::Regular,
            };
            Some(Entry { name, inode: found.inode(), kind: kind.dirent() })
        };
        Ok(names.into_iter().filter_map(entry).collect())
    }

    /// Forgets the nodes of tasks that nothing holds: at the end of each system call.
    pub(crate) fn forget_passing(&mut self) {
        // The last made first: a node holds the one above it.
        while let Some(id) = self.passing.pop() {
            let node = self.nodes.get(id.0 as usize).and_then(Option::as_ref);
            if node.is_some_and(|node| node.is_passing) {
                self.drop_if_unused(id);
            }
        }
    }

    /// Takes a node of a task that goes out of the directory above it.
    pub(crate) fn detach_passing(&mut self, node: &Node) {
        let Some((parent, name)) = &node.place else { return };
        if let Ok(directory) = self.node_mut(*parent).directory_mut() {
            directory.children.remove(&name[..]);
        }
        self.unhold(*parent);
    }
}

#[cfg(test)]
mod tests {
    use super::{NAMES, number};

    #[test]
    fn only_plain_numbers_name_processes() {
        assert_eq!(number(b"17"), Some(17));
        assert_eq!(number(b"0"), Some(0));
        for text in [&b"017"[..], b"", b"+1", b"1a", b"99999999999", b"-1"] {
            assert_eq!(number(text), None);
        }
    }

    #[test]
    fn names_are_different() {
        let mut names: Vec<&str> = NAMES.iter().map(|entry| entry.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), NAMES.len());
    }
}
