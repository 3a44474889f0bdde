//! From a path to what it names, one component at a time, in the guest's view.
//!
//! `..` stops at the root; the text of a symbolic link is walked like the path that led to it, so
//! nothing outside the guest's tree can be named.
//!
//! # Source
//! Linux 6.12 `fs/namei.c`; man 7 `path_resolution`.

use machine::VirtAddr;
use mm::{Mm, Vma};

use super::attributes::Grant;
use super::descriptor::FdTable;
use super::node::{Magic, NodeKind, Target};
use super::open::Opened;
use super::proc::{NAMESPACES, Scope, Subject};
use super::stat::FileType;
use super::{FsContext, NodeId, PATH_BYTES_MAX, Vfs, host};
use crate::errno::Errno;
use crate::roster::Roster;

/// Symbolic links that one walk follows.
const LINKS_MAX: u32 = 40;
/// `AT_FDCWD`, as the register holds it.
const AT_FDCWD: i32 = -100;

/// Who walks: where he stands, and his open files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct View<'a> {
    pub(crate) context: &'a FsContext,
    pub(crate) files: &'a FdTable,
    /// All tasks, for `/proc`; `None` before the first one runs.
    pub(crate) roster: Option<Roster<'a>>,
}

impl<'a> View<'a> {
    pub(crate) const fn new(context: &'a FsContext, files: &'a FdTable) -> Self {
        Self { context, files, roster: None }
    }

    /// The view of the running task.
    pub(crate) const fn of(roster: Roster<'a>) -> Self {
        Self { context: roster.fs, files: roster.files, roster: Some(roster) }
    }
}

/// Whether a symbolic link at the end of the path is followed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Follow {
    Yes,
    /// Only if a slash stands behind it.
    No,
    /// Not even then: the calls that change names.
    Never,
}

/// What a walk may do: the `RESOLVE_` bits of `openat2`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct WalkRules(pub(crate) u32);

impl WalkRules {
    pub(crate) const NO_XDEV: u32 = 1;
    pub(crate) const NO_MAGIC_LINKS: u32 = 2;
    pub(crate) const NO_SYMLINKS: u32 = 4;
    pub(crate) const BENEATH: u32 = 8;
    pub(crate) const IN_ROOT: u32 = 16;
    pub(crate) const CACHED: u32 = 32;
    /// Not of the ABI: the last component will be made if it is missing, so no slash may follow.
    const MAKES_FILE: u32 = 1 << 31;

    /// These rules for a walk whose end is made as a file if it is missing.
    pub(crate) const fn making_file(self) -> Self {
        Self(self.0 | Self::MAKES_FILE)
    }

    const fn has(self, bit: u32) -> bool {
        self.0 & bit != 0
    }
}

/// What the last component was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Last {
    /// A name in the parent directory.
    Name,
    /// A path of slashes only.
    Root,
    /// `.`.
    Dot,
    /// `..`.
    DotDot,
    /// A magic link that led to an object.
    Jump,
}

/// The end of a walk.
#[derive(Debug)]
pub(crate) struct Walk {
    /// The directory of the last component.
    pub(crate) parent: NodeId,
    /// The last component; empty unless `last` is [`Last::Name`].
    pub(crate) name: Vec<u8>,
    pub(crate) last: Last,
    pub(crate) target: Target,
    /// Whether the path ended in a slash: only a directory will do.
    pub(crate) wants_directory: bool,
}

/// A walk under way.
struct Walker<'a> {
    view: &'a View<'a>,
    rules: WalkRules,
    start: NodeId,
    here: NodeId,
    rest: Vec<u8>,
    at: usize,
    link_count: u32,
}

impl Vfs {
    /// The directory where a walk of `path` from `dirfd` starts.
    ///
    /// # Errors
    /// `ENOENT`: the path is empty. `EBADF`, `ENOTDIR`: `dirfd` is no directory; it is not looked
    /// at for an absolute path.
    pub(crate) fn start_of(
        &self,
        view: &View<'_>,
        dirfd: u64,
        path: &[u8],
    ) -> Result<NodeId, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.first() == Some(&b'/') {
            return Ok(self.root);
        }
        if dirfd_number(dirfd) == AT_FDCWD {
            return Ok(view.context.cwd);
        }
        let file = view.files.get(dirfd)?;
        match self.file(file).opened {
            Opened::Directory { node, .. } => Ok(node),
            Opened::Path(node) if self.node(node).is_directory() => Ok(node),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// Walks `path` from the directory `start`.
    ///
    /// # Errors
    /// `ENOENT` for an empty path or a missing directory on the way, `ENOTDIR`, `EACCES`, `ELOOP`,
    /// `ENAMETOOLONG`. A missing last component is no error: see [`Target::Absent`].
    pub(crate) fn walk(
        &mut self,
        view: &View<'_>,
        start: NodeId,
        path: &[u8],
        follow: Follow,
        rules: WalkRules,
    ) -> Result<Walk, Errno> {
        if path.is_empty() {
            return Err(Errno::ENOENT);
        }
        if path.len() >= PATH_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let here =
            if path[0] == b'/' && !rules.has(WalkRules::IN_ROOT) { self.root } else { start };
        if path[0] == b'/' && rules.has(WalkRules::BENEATH) {
            return Err(Errno::EXDEV);
        }
        let rest = path.to_vec();
        let walker = Walker { view, rules, start, here, rest, at: 0, link_count: 0 };
        walker.run(self, follow)
    }

    /// The node at the end of `path`, a symbolic link followed or not.
    pub(crate) fn find(
        &mut self,
        view: &View<'_>,
        start: NodeId,
        path: &[u8],
        follow: Follow,
    ) -> Result<NodeId, Errno> {
        let walk = self.walk(view, start, path, follow, WalkRules::default())?;
        let walk = self.checked(walk)?;
        self.node_of(walk.parent, &walk.name, walk.target)
    }

    /// The directory at the end of an absolute path or of one from the working directory, with the
    /// right to enter it.
    pub(crate) fn find_directory(&mut self, view: &View<'_>, path: &[u8]) -> Result<NodeId, Errno> {
        let start = self.start_of(view, AT_FDCWD.cast_unsigned().into(), path)?;
        let id = self.find(view, start, path, Follow::Yes)?;
        if !self.node(id).is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.permits(view, id, Grant::EXECUTE)?;
        Ok(id)
    }

    /// The walk, if its end exists and is a directory where only a directory will do.
    pub(crate) fn checked(&self, walk: Walk) -> Result<Walk, Errno> {
        let is_directory = match &walk.target {
            Target::Absent => return Err(Errno::ENOENT),
            Target::Node(id) => self.node(*id).is_directory(),
            Target::Host(..) => false,
        };
        if walk.wants_directory && !is_directory {
            return Err(Errno::ENOTDIR);
        }
        Ok(walk)
    }

    /// The directory above, or the root itself.
    pub(crate) fn parent_of(&self, id: NodeId) -> NodeId {
        match &self.node(id).place {
            Some((parent, _)) if id != self.root => *parent,
            _ => self.root,
        }
    }

    /// The guest's path of a node, as `getcwd` and `/proc/PID/maps` show it.
    pub(crate) fn path_of_node(&self, id: NodeId) -> Vec<u8> {
        let mut names: Vec<&[u8]> = Vec::new();
        let mut here = id;
        while here != self.root {
            let Some((parent, name)) = &self.node(here).place else { break };
            names.push(name);
            here = *parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            if here == self.root || !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    /// What a magic link shows as its text.
    ///
    /// # Errors
    /// `ENOENT`: the task has ended, or has no such thing.
    pub(crate) fn magic_text(
        &self,
        view: &View<'_>,
        subject: Subject,
        magic: Magic,
    ) -> Result<Vec<u8>, Errno> {
        let roster = view.roster.ok_or(Errno::ENOENT)?;
        if let Magic::Namespace(index) = magic {
            subject.pid(&roster).ok_or(Errno::ENOENT)?;
            let (_, kind, number) = NAMESPACES.get(index).ok_or(Errno::ENOENT)?;
            return Ok(format!("{kind}:[{number}]").into_bytes());
        }
        let task = roster.task(subject.tid).ok_or(Errno::ENOENT)?;
        match magic {
            Magic::Exe => match self.exe_node(&roster, subject) {
                Some(node) => Ok(self.shown_path(node)),
                None => Ok(roster.fs_of(task).ok_or(Errno::ENOENT)?.exe.clone()),
            },
            Magic::Root => Ok(b"/".to_vec()),
            Magic::Cwd => Ok(self.shown_path(roster.fs_of(task).ok_or(Errno::ENOENT)?.cwd)),
            Magic::Descriptor(number) => {
                let files = roster.files_of(task).ok_or(Errno::ENOENT)?;
                Ok(self.path_of(files.get(number.into()).map_err(|_| Errno::ENOENT)?))
            }
            Magic::Mapping(start) => {
                let mm = roster.mm_of(task).ok_or(Errno::ENOENT)?;
                let vma = mapping_at(mm, start)?;
                let file = vma.backing.file().ok_or(Errno::ENOENT)?;
                Ok(self.path_of_mapping(vma).unwrap_or_else(|| file.path.to_vec()))
            }
            Magic::Namespace(_) => Err(Errno::ENOENT),
        }
    }

    /// The node of the program that a task runs, by its mapping.
    fn exe_node(&self, roster: &Roster<'_>, subject: Subject) -> Option<NodeId> {
        let mm = roster.mm_of(roster.task(subject.tid)?)?;
        let vma = mm.vma_at(mm.layout.start_code)?;
        self.object_nodes.get(&vma.backing.file()?.object).copied()
    }

    /// The object that a magic link leads to.
    fn magic_node(
        &mut self,
        view: &View<'_>,
        subject: Subject,
        magic: Magic,
    ) -> Result<NodeId, Errno> {
        let roster = view.roster.ok_or(Errno::ENOENT)?;
        let task = roster.task(subject.tid).ok_or(Errno::ENOENT)?;
        let context = roster.fs_of(task).ok_or(Errno::ENOENT)?;
        match magic {
            Magic::Root => Ok(self.root),
            Magic::Cwd => Ok(context.cwd),
            Magic::Exe => match self.exe_node(&roster, subject) {
                Some(node) => Ok(node),
                None => self.find(view, self.root, &context.exe, Follow::No),
            },
            Magic::Descriptor(number) => {
                let files = roster.files_of(task).ok_or(Errno::ENOENT)?;
                let file = files.get(number.into()).map_err(|_| Errno::ENOENT)?;
                self.file(file).node().ok_or(Errno::ENXIO)
            }
            // Differs from Linux: no capability is asked for.
            Magic::Mapping(start) => {
                let mm = roster.mm_of(task).ok_or(Errno::ENOENT)?;
                let vma = mapping_at(mm, start)?;
                let object = vma.backing.file().ok_or(Errno::ENOENT)?.object;
                self.object_nodes.get(&object).copied().ok_or(Errno::ENOENT)
            }
            // Differs from Linux: there is one namespace of each kind, and nothing to enter.
            Magic::Namespace(_) => Err(Errno::EACCES),
        }
    }

    /// The path of a node, with ` (deleted)` where it has no name any more.
    pub(crate) fn shown_path(&self, id: NodeId) -> Vec<u8> {
        let mut path = self.path_of_node(id);
        if self.node(id).is_deleted {
            path.extend_from_slice(b" (deleted)");
        }
        path
    }
}

/// A `dirfd` argument: the low 32 bits of a register.
pub(crate) fn dirfd_number(dirfd: u64) -> i32 {
    u32::try_from(dirfd & 0xffff_ffff).unwrap_or(0).cast_signed()
}

impl Walker<'_> {
    fn run(mut self, vfs: &mut Vfs, follow: Follow) -> Result<Walk, Errno> {
        loop {
            let (name, is_last, has_slash) = self.next_component();
            let wants_directory = is_last && has_slash;
            let end = |parent, last, target| Walk {
                parent,
                name: Vec::new(),
                last,
                target,
                wants_directory,
            };
            if name.is_empty() || name == b"." {
                if !vfs.node(self.here).is_directory() {
                    return Err(Errno::ENOTDIR);
                }
                if is_last {
                    let last = if name.is_empty() { Last::Root } else { Last::Dot };
                    return Ok(end(self.here, last, Target::Node(self.here)));
                }
                continue;
            }
            if !vfs.node(self.here).is_directory() {
                return Err(Errno::ENOTDIR);
            }
            vfs.permits(self.view, self.here, Grant::EXECUTE)?;
            if name == b".." {
                self.step_up(vfs)?;
                if is_last {
                    return Ok(end(self.here, Last::DotDot, Target::Node(self.here)));
                }
                continue;
            }
            if wants_directory && self.rules.has(WalkRules::MAKES_FILE) {
                return Err(Errno::EISDIR);
            }
            let target = vfs.lookup_in(self.view, self.here, &name)?;
            self.check_mount(vfs, &target)?;
            let is_followed = match follow {
                Follow::Yes => true,
                Follow::No => !is_last || has_slash,
                Follow::Never => !is_last,
            };
            if is_followed {
                if let Some((subject, magic)) = magic_of(vfs, &target) {
                    self.jump(vfs, subject, magic)?;
                    if is_last {
                        return Ok(end(self.here, Last::Jump, Target::Node(self.here)));
                    }
                    continue;
                }
                if let Some(text) = link_text(vfs, self.view, &target)? {
                    self.follow_link(vfs, &text)?;
                    continue;
                }
            }
            if is_last {
                let (parent, last) = (self.here, Last::Name);
                return Ok(Walk { parent, name, last, target, wants_directory });
            }
            match target {
                Target::Node(id) => self.here = id,
                Target::Host(..) => return Err(Errno::ENOTDIR),
                Target::Absent => return Err(Errno::ENOENT),
            }
        }
    }

    /// Takes the next component off the path: its name, whether it is the last, whether a slash
    /// follows it.
    fn next_component(&mut self) -> (Vec<u8>, bool, bool) {
        let slashes = |rest: &[u8]| rest.iter().take_while(|&&byte| byte == b'/').count();
        self.at += slashes(&self.rest[self.at..]);
        let rest = &self.rest[self.at..];
        let bytes = rest.iter().position(|&byte| byte == b'/').unwrap_or(rest.len());
        let name = rest[..bytes].to_vec();
        self.at += bytes;
        let behind = slashes(&self.rest[self.at..]);
        self.at += behind;
        (name, self.at == self.rest.len(), behind > 0)
    }

    fn step_up(&mut self, vfs: &Vfs) -> Result<(), Errno> {
        if self.here == self.start && self.rules.has(WalkRules::BENEATH) {
            return Err(Errno::EXDEV);
        }
        if self.here == self.start && self.rules.has(WalkRules::IN_ROOT) {
            return Ok(());
        }
        let up = vfs.parent_of(self.here);
        if self.rules.has(WalkRules::NO_XDEV) && vfs.node(up).mount != vfs.node(self.here).mount {
            return Err(Errno::EXDEV);
        }
        self.here = up;
        Ok(())
    }

    fn check_mount(&self, vfs: &Vfs, target: &Target) -> Result<(), Errno> {
        match target {
            Target::Node(id)
                if self.rules.has(WalkRules::NO_XDEV)
                    && vfs.node(*id).mount != vfs.node(self.here).mount =>
            {
                Err(Errno::EXDEV)
            }
            _ => Ok(()),
        }
    }

    fn count_link(&mut self) -> Result<(), Errno> {
        self.link_count += 1;
        if self.link_count > LINKS_MAX || self.rules.has(WalkRules::NO_SYMLINKS) {
            return Err(Errno::ELOOP);
        }
        Ok(())
    }

    /// Puts the text of a link in front of what remains to be walked.
    fn follow_link(&mut self, vfs: &Vfs, text: &[u8]) -> Result<(), Errno> {
        self.count_link()?;
        if text.is_empty() {
            return Err(Errno::ENOENT);
        }
        // A slash behind the link stays: only a directory will do.
        let has_slash = self.at > 0 && self.rest[self.at - 1] == b'/';
        let mut rest = text.to_vec();
        if has_slash {
            rest.push(b'/');
        }
        rest.extend_from_slice(&self.rest[self.at..]);
        if text[0] == b'/' {
            if self.rules.has(WalkRules::BENEATH) {
                return Err(Errno::EXDEV);
            }
            self.here = if self.rules.has(WalkRules::IN_ROOT) { self.start } else { vfs.root };
        }
        self.rest = rest;
        self.at = 0;
        Ok(())
    }

    fn jump(&mut self, vfs: &mut Vfs, subject: Subject, magic: Magic) -> Result<(), Errno> {
        self.count_link()?;
        if self.rules.has(WalkRules::NO_MAGIC_LINKS) {
            return Err(Errno::ELOOP);
        }
        if self.rules.has(WalkRules::BENEATH) || self.rules.has(WalkRules::IN_ROOT) {
            return Err(Errno::EXDEV);
        }
        self.here = vfs.magic_node(self.view, subject, magic)?;
        Ok(())
    }
}

fn magic_of(vfs: &Vfs, target: &Target) -> Option<(Subject, Magic)> {
    match target {
        Target::Node(id) => match vfs.node(*id).kind {
            NodeKind::Magic(subject, magic) => Some((subject, magic)),
            _ => None,
        },
        _ => None,
    }
}

/// The text of the target, if it is a symbolic link.
pub(super) fn link_text(
    vfs: &Vfs,
    view: &View<'_>,
    target: &Target,
) -> Result<Option<Vec<u8>>, Errno> {
    match target {
        Target::Node(id) => match &vfs.node(*id).kind {
            NodeKind::Symlink(text) => Ok(Some(text.clone())),
            NodeKind::SelfLink(scope) => {
                let task = view.roster.ok_or(Errno::ENOENT)?.task;
                Ok(Some(match scope {
                    Scope::Process => task.pid.to_string().into_bytes(),
                    Scope::Thread => format!("{}/task/{}", task.pid, task.tid).into_bytes(),
                }))
            }
            _ => Ok(None),
        },
        Target::Host(path, stat) if stat.file_type() == FileType::Symlink => {
            Ok(Some(host::read_link(path)?))
        }
        _ => Ok(None),
    }
}

/// The mapping that begins at an address.
///
/// # Errors
/// `ENOENT`: it is gone.
fn mapping_at(mm: &Mm, start: u64) -> Result<&Vma, Errno> {
    let start = VirtAddr::new(start);
    mm.vma_at(start).filter(|vma| vma.range.start == start).ok_or(Errno::ENOENT)
}
