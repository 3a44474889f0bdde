//! Open file descriptions: making, sharing and releasing them.
//!
//! # Source
//! man 2 `open`; Linux 6.12 `fs/open.c`, `fs/namei.c:do_open`.

use std::collections::BTreeSet;
use std::fs::File;
use std::sync::{Arc, Mutex};

use mm::{MappedFile, Readahead};

use super::attributes::Grant;
use super::content::{Content, Lower};
use super::device::Device;
use super::listing::Entry;
use super::namespace::Made;
use super::node::{Layer, Node, NodeKind, ProcFile, Target};
use super::pool::Share;
use super::proc::Reading;
use super::stat::{FileType, Stat};
use super::stream::Stream;
use super::timer::TimerFile;
use super::walk::{Follow, Last, View, Walk, WalkRules};
use super::{FileId, News, NodeId, SocketId, Vfs, host};
use crate::errno::Errno;

/// The flags of `open`, x86-64.
#[allow(missing_docs, reason = "the names are those of man 2 open")]
pub(crate) mod flag {
    pub(crate) const ACCESS_MODE: u32 = 3;
    pub(crate) const WRONLY: u32 = 1;
    pub(crate) const RDWR: u32 = 2;
    pub(crate) const CREAT: u32 = 0o100;
    pub(crate) const EXCL: u32 = 0o200;
    /// Of a descriptor of a process: it is one of a thread. `PIDFD_THREAD`.
    pub(crate) const THREAD: u32 = EXCL;
    pub(crate) const TRUNC: u32 = 0o1000;
    pub(crate) const APPEND: u32 = 0o2000;
    pub(crate) const NONBLOCK: u32 = 0o4000;
    pub(crate) const DSYNC: u32 = 0o10_000;
    pub(crate) const ASYNC: u32 = 0o20_000;
    pub(crate) const DIRECT: u32 = 0o40_000;
    pub(crate) const LARGEFILE: u32 = 0o100_000;
    pub(crate) const DIRECTORY: u32 = 0o200_000;
    pub(crate) const NOFOLLOW: u32 = 0o400_000;
    pub(crate) const NOATIME: u32 = 0o1_000_000;
    pub(crate) const CLOEXEC: u32 = 0o2_000_000;
    pub(crate) const PATH: u32 = 0o10_000_000;
    /// `O_TMPFILE` without `O_DIRECTORY`.
    pub(crate) const TMPFILE: u32 = 0o20_000_000;
    /// Flags that take effect at the open only.
    pub(crate) const AT_OPEN: u32 = CREAT | EXCL | TRUNC | CLOEXEC | 0o400;
    /// Flags that `F_SETFL` changes.
    pub(crate) const SETTABLE: u32 = APPEND | NONBLOCK | ASYNC | DIRECT | NOATIME;
}

/// How often bytes came to be read somewhere, and room to write: each is an edge for an epoll.
pub(crate) type Moves = [u64; 2];

/// A readiness that an epoll waits for.
#[derive(Debug)]
pub(crate) struct Interest {
    pub(crate) fd: u32,
    pub(crate) file: FileId,
    pub(crate) events: u32,
    pub(crate) data: u64,
    /// Whether a one-shot interest has been told already.
    pub(crate) is_told: bool,
    /// The moves of the file when an edge was told last; none since it was not ready.
    pub(crate) seen: Option<Moves>,
    /// What it takes of our memory.
    pub(crate) _share: Share,
}

/// What an open file is.
#[derive(Debug)]
pub(crate) enum Opened {
    Regular(NodeId),
    Directory {
        node: NodeId,
        /// The entries as of the last rewind.
        entries: Option<Vec<Entry>>,
    },
    Device {
        node: NodeId,
        device: Device,
    },
    Proc {
        node: NodeId,
        file: ProcFile,
        /// The part of its text that was made last.
        reading: Reading,
    },
    Pipe(NodeId),
    Event {
        count: u64,
        is_semaphore: bool,
    },
    Epoll(Vec<Interest>),
    Socket(SocketId),
    Timer(TimerFile),
    /// Of `signalfd`: which signals.
    Signals(u64),
    /// Of `pidfd_open`: which process.
    Process(u32),
    /// Opened with `O_PATH`.
    Path(NodeId),
}

/// An open file description.
#[derive(Debug)]
pub(crate) struct OpenFile {
    pub(crate) opened: Opened,
    /// Access mode and status flags, as `F_GETFL` tells.
    pub(crate) status: u32,
    /// Its place; of a FIFO, how often its other end had been opened when this one was.
    pub(crate) offset: u64,
    ref_count: u32,
    pub(crate) mapped: Option<Arc<MappedFile>>,
    /// How it is read, and what is read ahead of it.
    pub(crate) ahead: Readahead,
    /// Set by `F_SETOWN`.
    pub(crate) owner: i32,
    /// Moves that only this file knows of.
    pub(crate) moves: Moves,
    /// The epolls that wait for it.
    pub(crate) watchers: BTreeSet<FileId>,
}

impl OpenFile {
    pub(crate) fn node(&self) -> Option<NodeId> {
        match self.opened {
            Opened::Regular(node)
            | Opened::Directory { node, .. }
            | Opened::Device { node, .. }
            | Opened::Proc { node, .. }
            | Opened::Pipe(node)
            | Opened::Path(node) => Some(node),
            Opened::Event { .. }
            | Opened::Epoll(_)
            | Opened::Socket(_)
            | Opened::Timer(_)
            | Opened::Signals(_)
            | Opened::Process(_) => None,
        }
    }

    pub(crate) fn can_read(&self) -> bool {
        !matches!(self.opened, Opened::Path(_)) && self.status & flag::ACCESS_MODE != flag::WRONLY
    }

    pub(crate) fn can_write(&self) -> bool {
        let mode = self.status & flag::ACCESS_MODE;
        !matches!(self.opened, Opened::Path(_)) && (mode == flag::WRONLY || mode == flag::RDWR)
    }

    pub(crate) fn is_nonblocking(&self) -> bool {
        self.status & flag::NONBLOCK != 0
    }

    /// How many descriptors and messages refer to it.
    pub(crate) fn ref_count(&self) -> u32 {
        self.ref_count
    }
}

impl Vfs {
    pub(crate) fn file(&self, id: FileId) -> &OpenFile {
        let place = self.files.get(id.0 as usize).and_then(Option::as_ref);
        place.expect("an open file lives while a descriptor has its number")
    }

    pub(crate) fn file_mut(&mut self, id: FileId) -> &mut OpenFile {
        let place = self.files.get_mut(id.0 as usize).and_then(Option::as_mut);
        place.expect("an open file lives while a descriptor has its number")
    }

    /// A new open file, referred to once; holds its node.
    pub(crate) fn add_file(&mut self, opened: Opened, status: u32) -> FileId {
        let file = OpenFile {
            opened,
            status,
            offset: 0,
            ref_count: 1,
            mapped: None,
            ahead: Readahead::default(),
            owner: 0,
            moves: [0; 2],
            watchers: BTreeSet::new(),
        };
        if let Some(node) = file.node() {
            self.hold(node);
            let (reads, writes) = (file.can_read(), file.can_write());
            if let NodeKind::Pipe(pipe) = &mut self.node_mut(node).kind {
                pipe.open(reads, writes);
                self.news.push(News::Node(node));
            }
            if let Opened::Device { device, .. } = file.opened {
                self.note_terminal_opened(device);
            }
        }
        if let Some(free) = self.free_files.pop() {
            self.files[free.0 as usize] = Some(file);
            return free;
        }
        self.files.push(Some(file));
        let number = u32::try_from(self.files.len() - 1);
        FileId(number.expect("open files are limited to far less than 2^32"))
    }

    /// How often a file has come to be readable and writable.
    pub(crate) fn moves_of(&self, id: FileId) -> Moves {
        let file = self.file(id);
        match &file.opened {
            Opened::Pipe(node) => self.pipe(*node).map_or([0; 2], |pipe| pipe.moves),
            Opened::Socket(socket) => self.socket(*socket).map_or([0; 2], |one| one.moves),
            Opened::Device { device: Device::Master(number) | Device::Slave(number), .. } => {
                self.terminals.get(*number).map_or([0; 2], |terminal| terminal.moves)
            }
            _ => file.moves,
        }
    }

    /// All open files.
    pub(crate) fn all_files(&self) -> impl Iterator<Item = (FileId, &OpenFile)> + '_ {
        let files = (0..).map(FileId).zip(&self.files);
        files.filter_map(|(id, file)| file.as_ref().map(|file| (id, file)))
    }

    /// Whether as many files are open as may be at all: Linux's `fs.file-max`.
    pub(crate) fn has_all_files(&self) -> bool {
        const OPEN_FILES_MAX: usize = 131_072;
        self.files.len() - self.free_files.len() > OPEN_FILES_MAX
    }

    /// One more descriptor for an open file.
    pub(crate) fn retain(&mut self, id: FileId) {
        self.file_mut(id).ref_count += 1;
    }

    /// One descriptor less; the last one closes the file.
    pub fn release(&mut self, id: FileId) {
        let mut ending = vec![id];
        while let Some(id) = ending.pop() {
            let file = self.file_mut(id);
            file.ref_count -= 1;
            let is_socket = matches!(file.opened, Opened::Socket(_));
            if file.ref_count == 0 {
                ending.extend(self.close(id));
            } else if is_socket {
                // Perhaps only messages refer to it now, and its own among them.
                ending.extend(self.take_lost_files());
            }
        }
    }

    /// Closes a file; returns those that it kept, each to be released.
    fn close(&mut self, id: FileId) -> Vec<FileId> {
        let Some(file) = self.files.get_mut(id.0 as usize).and_then(Option::take) else {
            return Vec::new();
        };
        self.free_files.push(id);
        for &epoll in &file.watchers {
            if let Opened::Epoll(interests) = &mut self.file_mut(epoll).opened {
                interests.retain(|interest| interest.file != id);
            }
        }
        match &file.opened {
            Opened::Socket(socket) => return self.close_socket(*socket),
            Opened::Timer(timer) => self.unplan(id, timer),
            Opened::Epoll(interests) => {
                for interest in interests {
                    self.file_mut(interest.file).watchers.remove(&id);
                }
            }
            _ => {}
        }
        let Some(node) = file.node() else { return Vec::new() };
        self.drop_file_locks(node, id);
        if let Opened::Device { device, .. } = file.opened {
            self.note_terminal_closed(device);
        }
        let (reads, writes) = (file.can_read(), file.can_write());
        if let NodeKind::Pipe(pipe) = &mut self.node_mut(node).kind {
            pipe.reader_count = pipe.reader_count.saturating_sub(u32::from(reads));
            pipe.writer_count = pipe.writer_count.saturating_sub(u32::from(writes));
            self.news.push(News::Node(node));
        }
        drop(file);
        self.unhold(node);
        Vec::new()
    }

    /// The standard streams that the run inherited.
    pub(crate) fn open_stdio(&mut self) -> [FileId; 3] {
        Stream::ALL.map(|stream| {
            let device = Device::Stream(stream);
            let mut node = Node::new(NodeKind::Device(device), Layer::Overlay, 0);
            let stat = stream.stat().unwrap_or_else(|_| device.stat(self.now));
            node.stat = Some(Box::new(stat));
            node.is_deleted = true;
            let node = self.add_node(node);
            let status = rustix::fs::fcntl_getfl(stream.fd()).map_or(flag::RDWR, |f| f.bits());
            self.add_file(Opened::Device { node, device }, status & !flag::NONBLOCK)
        })
    }

    /// Opens `path` from the directory `start`.
    ///
    /// A file that `O_TRUNC` makes empty is left as it is: the caller resizes it, because mappings
    /// and the page cache must hear of it.
    ///
    /// # Errors
    /// Those of man 2 `open`; `ENXIO` for FIFOs, sockets and devices of the host.
    pub(crate) fn open(
        &mut self,
        view: &View<'_>,
        start: NodeId,
        path: &[u8],
        (flags, mode): (u32, u32),
        rules: WalkRules,
    ) -> Result<FileId, Errno> {
        let is_path = flags & flag::PATH != 0;
        let flags = if is_path {
            flags & (flag::PATH | flag::DIRECTORY | flag::NOFOLLOW | flag::CLOEXEC)
        } else {
            flags
        };
        if flags & flag::TMPFILE != 0 {
            return self.open_nameless(view, start, path, (flags, mode), rules);
        }
        let is_exclusive = flags & flag::CREAT != 0 && flags & flag::EXCL != 0;
        let follow =
            if flags & flag::NOFOLLOW != 0 || is_exclusive { Follow::No } else { Follow::Yes };
        let rules = if flags & flag::CREAT != 0 { rules.making_file() } else { rules };
        let walk = self.walk(view, start, path, follow, rules)?;
        if flags & flag::CREAT != 0 {
            if matches!(walk.target, Target::Absent) && walk.last == Last::Name {
                return self.open_new(view, &walk, flags, mode);
            }
            if is_exclusive {
                return Err(Errno::EEXIST);
            }
        }
        let walk = self.checked(walk)?;
        let stat = self.stat_target(&walk.target)?;
        check_kind(&stat, flags)?;
        let id = self.node_of(walk.parent, &walk.name, walk.target)?;
        self.hold(id);
        let opened = self.open_node(view, id, &stat, flags);
        self.unhold(id);
        opened
    }

    fn open_new(
        &mut self,
        view: &View<'_>,
        walk: &Walk,
        flags: u32,
        mode: u32,
    ) -> Result<FileId, Errno> {
        let id = self.make(view, walk, &Made::File(mode & 0o7777 & !view.context.umask))?;
        self.open_content(id, Grant::WRITE)?;
        Ok(self.add_file(Opened::Regular(id), flags & !flag::AT_OPEN))
    }

    /// `O_TMPFILE`: a file without a name.
    fn open_nameless(
        &mut self,
        view: &View<'_>,
        start: NodeId,
        path: &[u8],
        (flags, mode): (u32, u32),
        rules: WalkRules,
    ) -> Result<FileId, Errno> {
        let follow = if flags & flag::NOFOLLOW != 0 { Follow::No } else { Follow::Yes };
        let walk = self.walk(view, start, path, follow, rules)?;
        let walk = self.checked(walk)?;
        let Target::Node(parent) = walk.target else { return Err(Errno::ENOTDIR) };
        if !self.node(parent).is_directory() {
            return Err(Errno::ENOTDIR);
        }
        self.permits_names(view, parent)?;
        if self.node(parent).layer == Layer::Through {
            return Err(Errno::EOPNOTSUPP);
        }
        let made = Made::File(mode & 0o7777 & !view.context.umask);
        let mut node = self.new_node(view, parent, &made)?;
        node.is_deleted = true;
        if let Some(stat) = &mut node.stat {
            stat.link_count = 0;
        }
        let id = self.add_node(node);
        Ok(self.add_file(Opened::Regular(id), flags & !flag::AT_OPEN))
    }

    /// Opens a node that a walk has found.
    fn open_node(
        &mut self,
        view: &View<'_>,
        id: NodeId,
        stat: &Stat,
        flags: u32,
    ) -> Result<FileId, Errno> {
        let status = flags & !flag::AT_OPEN;
        if flags & flag::PATH != 0 {
            return Ok(self.add_file(Opened::Path(id), status));
        }
        let grant = grant_of(flags);
        let is_file = matches!(stat.file_type(), FileType::Regular | FileType::Directory);
        let writes = grant.0 & Grant::WRITE.0 != 0;
        super::attributes::permits(view, stat, grant)?;
        if self.node(id).layer == Layer::ReadOnly && is_file && writes {
            return Err(Errno::EROFS);
        }
        let opened = match &self.node(id).kind {
            NodeKind::Directory(_) => Opened::Directory { node: id, entries: None },
            NodeKind::Regular(_) => {
                self.open_content(id, grant)?;
                Opened::Regular(id)
            }
            NodeKind::Device(Device::Ptmx) => {
                return self.open_master(id, status, view.context.credentials.uid);
            }
            NodeKind::Device(Device::Slave(number)) => {
                let number = *number;
                return self.open_slave(number, status);
            }
            NodeKind::Device(device) => Opened::Device { node: id, device: *device },
            NodeKind::Proc(file) => {
                Opened::Proc { node: id, file: *file, reading: Reading::default() }
            }
            NodeKind::Pipe(pipe) => {
                let is_alone = writes && grant.0 & Grant::READ.0 == 0 && pipe.reader_count == 0;
                if is_alone && flags & flag::NONBLOCK != 0 {
                    return Err(Errno::ENXIO);
                }
                Opened::Pipe(id)
            }
            NodeKind::Symlink(_) | NodeKind::Magic(..) | NodeKind::SelfLink(_) => {
                return Err(Errno::ELOOP);
            }
            NodeKind::Closed(_) => return Err(Errno::ENXIO),
        };
        Ok(self.add_file(opened, status))
    }

    /// Makes the bytes of a regular file reachable, writable on the host where that is asked for.
    pub(crate) fn open_content(&mut self, id: NodeId, grant: Grant) -> Result<(), Errno> {
        let budget = Arc::clone(&self.budget);
        let node = self.node_mut(id);
        let wants_host_write = node.layer == Layer::Through && grant.0 & Grant::WRITE.0 != 0;
        let (origin, layer) = (node.origin.clone(), node.layer);
        let Some(regular) = node.regular_mut() else { return Ok(()) };
        let Some(origin) = origin else { return Ok(()) };
        if let Some(content) = &regular.content {
            let mut content = super::content::lock(content);
            if content.is_away() {
                let file = host::open_file(&origin, wants_host_write)?;
                content.bring_back(lower_of(layer, file, wants_host_write));
            }
            content.refresh();
            if wants_host_write && !content.is_host_writable() {
                content.make_host_writable(host::open_file(&origin, true)?);
            }
            return Ok(());
        }
        let file = host::open_file(&origin, wants_host_write)?;
        let mut content = Content::over(lower_of(layer, file, wants_host_write), 0, &budget);
        content.refresh();
        regular.content = Some(Arc::new(Mutex::new(content)));
        Ok(())
    }

    /// The guest's path of an open file, as `/proc/self/fd` shows it.
    pub fn path_of(&self, id: FileId) -> Vec<u8> {
        let file = self.file(id);
        match &file.opened {
            Opened::Event { .. } => b"anon_inode:[eventfd]".to_vec(),
            Opened::Epoll(_) => b"anon_inode:[eventpoll]".to_vec(),
            Opened::Timer(_) => b"anon_inode:[timerfd]".to_vec(),
            Opened::Signals(_) => b"anon_inode:[signalfd]".to_vec(),
            Opened::Process(_) => b"anon_inode:[pidfd]".to_vec(),
            Opened::Socket(socket) => {
                let inode = self.socket(*socket).map_or(0, |socket| socket.inode);
                format!("socket:[{inode}]").into_bytes()
            }
            Opened::Device { device: Device::Stream(stream), .. } => stream.path(),
            Opened::Pipe(node) if self.node(*node).place.is_none() => {
                let inode = self.stat_node(*node).map_or(0, |stat| stat.inode);
                format!("pipe:[{inode}]").into_bytes()
            }
            Opened::Regular(node) if self.node(*node).place.is_none() => {
                let inode = self.stat_node(*node).map_or(0, |stat| stat.inode);
                format!("/#{inode} (deleted)").into_bytes()
            }
            _ => file.node().map_or_else(Vec::new, |node| self.shown_path(node)),
        }
    }

    /// Attributes of an open file.
    ///
    /// # Errors
    /// Those of the host's stream.
    pub(crate) fn stat_file(&self, id: FileId) -> Result<Stat, Errno> {
        let file = self.file(id);
        if let Opened::Device { device: Device::Stream(stream), .. } = file.opened {
            return stream.stat();
        }
        if let Some(node) = file.node() {
            return self.stat_node(node);
        }
        let mut stat = Stat::new(FileType::Anonymous, 0o600, self.now);
        stat.device = (0, 0xf);
        stat.inode = 0x1000 + u64::from(id.0);
        if let Opened::Socket(socket) = file.opened {
            stat = Stat::new(FileType::Socket, 0o777, self.now);
            stat.device = (0, 8);
            stat.inode = self.socket(socket)?.inode;
        }
        Ok(stat)
    }
}

/// Whether flags go together, before any path is looked at.
///
/// # Errors
/// `EINVAL`.
///
/// # Source
/// Linux 6.12 `fs/open.c:build_open_flags`.
pub(crate) fn check_flags(flags: u32) -> Result<(), Errno> {
    if flags & flag::PATH != 0 {
        return Ok(());
    }
    let makes_directory = flags & flag::CREAT != 0 && flags & flag::DIRECTORY != 0;
    let is_nameless = flags & flag::TMPFILE != 0;
    let needs_directory = is_nameless && flags & flag::DIRECTORY == 0;
    let needs_writing = is_nameless && flags & flag::ACCESS_MODE == 0;
    if makes_directory || needs_directory || needs_writing {
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// The host's file as what lies below the changes of a layer.
fn lower_of(layer: Layer, file: File, is_writable: bool) -> Lower {
    match layer {
        Layer::Through => Lower::Through(file, is_writable),
        Layer::Overlay | Layer::ReadOnly | Layer::Fixed => Lower::Host(file),
    }
}

fn grant_of(flags: u32) -> Grant {
    let by_mode = match flags & flag::ACCESS_MODE {
        0 => Grant::READ.0,
        flag::WRONLY => Grant::WRITE.0,
        _ => Grant::READ.0 | Grant::WRITE.0,
    };
    let by_truncation = if flags & flag::TRUNC != 0 { Grant::WRITE.0 } else { 0 };
    Grant(by_mode | by_truncation)
}

/// Whether a file of this kind can be opened with these flags.
fn check_kind(stat: &Stat, flags: u32) -> Result<(), Errno> {
    let kind = stat.file_type();
    if kind == FileType::Symlink && flags & flag::PATH == 0 {
        return Err(if flags & flag::DIRECTORY != 0 { Errno::ENOTDIR } else { Errno::ELOOP });
    }
    if kind != FileType::Directory && flags & flag::DIRECTORY != 0 {
        return Err(Errno::ENOTDIR);
    }
    let changes = grant_of(flags).0 & Grant::WRITE.0 != 0 || flags & flag::CREAT != 0;
    if kind == FileType::Directory && changes && flags & flag::PATH == 0 {
        return Err(Errno::EISDIR);
    }
    Ok(())
}
