//! Rights, owners, times and extended attributes of files.
//!
//! # Source
//! Linux 6.12 `fs/attr.c`, `fs/namei.c:generic_permission`; man 7 `xattr`.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs as host_fs;

use super::node::{Layer, NodeKind, Regular, Target};
use super::stat::{FileType, MODE_MASK, Stat, Timestamp};
use super::walk::View;
use super::{NodeId, Share, Vfs, content, host};
use crate::errno::Errno;

/// What is wanted of a file: the bits of `access`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Grant(pub(crate) u32);

impl Grant {
    pub(crate) const EXECUTE: Self = Self(1);
    pub(crate) const WRITE: Self = Self(2);
    pub(crate) const READ: Self = Self(4);
    pub(crate) const ENTER_AND_WRITE: Self = Self(3);
}

/// A change of attributes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// `chmod`.
    Mode(u32),
    /// `chown`: what is `None` stays.
    Owner(Option<u32>, Option<u32>),
    /// `utimensat`: what is `None` stays. `by_owner` when times of the caller's choice are set.
    Times { accessed: Option<Timestamp>, modified: Option<Timestamp>, by_owner: bool },
}

/// Whether a value of an extended attribute must be new or must exist.
pub(crate) const XATTR_CREATE: u64 = 1;
/// See [`XATTR_CREATE`].
pub(crate) const XATTR_REPLACE: u64 = 2;

impl Vfs {
    /// Whether the caller may do `grant` with the node.
    ///
    /// # Errors
    /// `EACCES`.
    pub(crate) fn permits(&self, view: &View<'_>, id: NodeId, grant: Grant) -> Result<(), Errno> {
        // The usual case asks for nothing that needs the attributes.
        if view.context.credentials.uid == 0 && self.node(id).is_directory() {
            return Ok(());
        }
        permits(view, &self.stat_node(id)?, grant)
    }

    /// Whether names may be changed in the directory.
    ///
    /// # Errors
    /// `EACCES`, `EROFS`, and `ENOENT` for a removed directory.
    pub(crate) fn permits_names(&self, view: &View<'_>, id: NodeId) -> Result<(), Errno> {
        self.permits(view, id, Grant::ENTER_AND_WRITE)?;
        let node = self.node(id);
        match node.layer {
            Layer::ReadOnly => return Err(Errno::EROFS),
            Layer::Fixed => return Err(Errno::EPERM),
            Layer::Overlay | Layer::Through => {}
        }
        if node.is_deleted {
            return Err(Errno::ENOENT);
        }
        Ok(())
    }

    /// Changes attributes of a node.
    ///
    /// # Errors
    /// `EROFS`; `EPERM` for who does not own it; those of the host below a `rw` bind.
    pub(crate) fn change(
        &mut self,
        view: &View<'_>,
        id: NodeId,
        change: Change,
    ) -> Result<(), Errno> {
        let stat = self.stat_node(id)?;
        may_change(view, &stat, change)?;
        let node = self.node(id);
        match (node.layer, &node.origin) {
            (Layer::ReadOnly, _) => Err(Errno::EROFS),
            (Layer::Fixed, _) => Err(Errno::EPERM),
            (Layer::Through, Some(origin)) => change_host(origin, &stat, change),
            _ => {
                let now = self.now;
                let is_root = view.context.credentials.uid == 0;
                change_stat(self.stat_mut(id)?, change, is_root);
                self.stat_mut(id)?.changed = now;
                Ok(())
            }
        }
    }

    /// Marks that the content was written now.
    pub(crate) fn touch(&mut self, id: NodeId) {
        let now = self.now;
        if self.node(id).layer == Layer::Through {
            return;
        }
        if let Ok(stat) = self.stat_mut(id) {
            stat.modified = now;
            stat.changed = now;
        }
    }

    /// The value of an extended attribute.
    ///
    /// # Errors
    /// `ENODATA`: not set. `EOPNOTSUPP`: this file has none at all.
    pub(crate) fn attribute(&self, target: &Target, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let path = match target {
            Target::Absent => return Err(Errno::ENOENT),
            Target::Host(path, _) => Some(path),
            Target::Node(id) => {
                let node = self.node(*id);
                if let Some(value) = node.attributes.get(name) {
                    return Ok(value.clone());
                }
                if matches!(node.kind, NodeKind::Proc(_) | NodeKind::Magic(..)) {
                    return Err(Errno::EOPNOTSUPP);
                }
                node.origin.as_ref()
            }
        };
        let Some(path) = path else { return Err(Errno::ENODATA) };
        let mut value = vec![0; 65536];
        let count = host_fs::lgetxattr(path, name, &mut value[..])?;
        value.truncate(count);
        Ok(value)
    }

    /// The names of all extended attributes, each followed by a zero byte.
    ///
    /// # Errors
    /// Those of the host.
    pub(crate) fn attribute_names(&self, target: &Target) -> Result<Vec<u8>, Errno> {
        let (path, own) = match target {
            Target::Absent => return Err(Errno::ENOENT),
            Target::Host(path, _) => (Some(path), None),
            Target::Node(id) => (self.node(*id).origin.as_ref(), Some(&self.node(*id).attributes)),
        };
        let mut names = vec![0; 65536];
        let count = match path {
            Some(path) => host_fs::llistxattr(path, &mut names[..])?,
            None => 0,
        };
        names.truncate(count);
        for name in own.into_iter().flat_map(|own| own.keys()) {
            let is_known = names.split(|&byte| byte == 0).any(|known| known == &name[..]);
            if !is_known {
                names.extend_from_slice(name);
                names.push(0);
            }
        }
        Ok(names)
    }

    /// Sets an extended attribute in the memory layer.
    ///
    /// # Errors
    /// `EEXIST`, `ENODATA` as the flags demand; `EROFS`; `EOPNOTSUPP` below a `rw` bind and for
    /// names outside `user.`.
    pub(crate) fn set_attribute(
        &mut self,
        id: NodeId,
        name: Vec<u8>,
        value: Vec<u8>,
        flags: u64,
    ) -> Result<(), Errno> {
        match self.node(id).layer {
            Layer::ReadOnly => return Err(Errno::EROFS),
            Layer::Through | Layer::Fixed => return Err(Errno::EOPNOTSUPP),
            Layer::Overlay => {}
        }
        let is_user = name.starts_with(b"user.") || name.starts_with(b"trusted.");
        let is_security = name.starts_with(b"security.");
        if !is_user && !is_security {
            return Err(Errno::EOPNOTSUPP);
        }
        let exists = self.attribute(&Target::Node(id), &name).is_ok();
        if flags & XATTR_CREATE != 0 && exists {
            return Err(Errno::EEXIST);
        }
        if flags & XATTR_REPLACE != 0 && !exists {
            return Err(Errno::ENODATA);
        }
        let others = self.node(id).attributes.iter().filter(|(other, _)| **other != name);
        let held: usize = others.map(|(_, value)| value.len()).sum();
        if held + value.len() > 65536 {
            return Err(Errno::ENOSPC);
        }
        let name_bytes = name.len();
        let length = name_bytes + value.len();
        let mut share = Share::of(&self.pool, length).map_err(|_| Errno::ENOSPC)?;
        let node = self.node_mut(id);
        if let Some(held) = &mut node.share {
            held.absorb(&mut share);
        } else {
            node.share = Some(share);
        }
        if let Some(old) = node.attributes.insert(name, value)
            && let Some(held) = &mut node.share
        {
            held.shrink(name_bytes + old.len());
        }
        Ok(())
    }

    /// Removes an extended attribute that the guest has set.
    ///
    /// # Errors
    /// `ENODATA`; `EROFS`.
    pub(crate) fn remove_attribute(&mut self, id: NodeId, name: &[u8]) -> Result<(), Errno> {
        if self.node(id).layer == Layer::ReadOnly {
            return Err(Errno::EROFS);
        }
        let node = self.node_mut(id);
        let old = node.attributes.remove(name).ok_or(Errno::ENODATA)?;
        if let Some(held) = &mut node.share {
            held.shrink(name.len() + old.len());
        }
        Ok(())
    }

    /// The host path of a target, for questions about its file system.
    pub(crate) fn origin_of(&self, target: &Target) -> Option<PathBuf> {
        match target {
            Target::Host(path, _) => Some(path.clone()),
            Target::Node(id) => {
                let mut here = *id;
                loop {
                    if let Some(origin) = &self.node(here).origin {
                        return Some(origin.clone());
                    }
                    let (parent, _) = self.node(here).place.as_ref()?;
                    if self.node(*parent).mount != self.node(here).mount {
                        return None;
                    }
                    here = *parent;
                }
            }
            Target::Absent => None,
        }
    }

    /// Makes a regular file `size_bytes` long.
    ///
    /// The page cache must be told by the caller: see `fs/regular.rs`.
    pub(crate) fn resize(&mut self, id: NodeId, size_bytes: u64) -> Result<(), Errno> {
        let NodeKind::Regular(Regular { content: Some(shared), .. }) = &self.node(id).kind else {
            return Err(Errno::EINVAL);
        };
        content::lock(shared).set_size(size_bytes)?;
        self.touch(id);
        Ok(())
    }
}

/// Whether somebody with the caller's credentials may do `grant` with a file of these attributes.
pub(crate) fn permits(view: &View<'_>, stat: &Stat, grant: Grant) -> Result<(), Errno> {
    let who = &view.context.credentials;
    let permissions = if who.uid == 0 {
        let can_execute = stat.mode & 0o111 != 0 || stat.file_type() == FileType::Directory;
        if can_execute { 7 } else { 6 }
    } else if who.uid == stat.uid {
        stat.mode >> 6 & 7
    } else if who.gid == stat.gid || who.groups.contains(&stat.gid) {
        stat.mode >> 3 & 7
    } else {
        stat.mode & 7
    };
    if grant.0 & !permissions == 0 { Ok(()) } else { Err(Errno::EACCES) }
}

fn may_change(view: &View<'_>, stat: &Stat, change: Change) -> Result<(), Errno> {
    let who = &view.context.credentials;
    let is_owner = who.uid == 0 || who.uid == stat.uid;
    let is_allowed = match change {
        Change::Mode(_) => is_owner,
        Change::Owner(uid, gid) => {
            let keeps_uid = uid.is_none_or(|uid| uid == stat.uid);
            let has_gid = gid.is_none_or(|gid| gid == who.gid || who.groups.contains(&gid));
            who.uid == 0 || is_owner && keeps_uid && has_gid
        }
        Change::Times { by_owner: true, .. } => is_owner,
        Change::Times { by_owner: false, .. } => {
            if !is_owner {
                permits(view, stat, Grant::WRITE)?;
            }
            true
        }
    };
    if is_allowed { Ok(()) } else { Err(Errno::EPERM) }
}

fn change_stat(stat: &mut Stat, change: Change, is_root: bool) {
    match change {
        Change::Mode(mode) => stat.mode = stat.mode & !MODE_MASK | mode & MODE_MASK,
        Change::Owner(uid, gid) => {
            stat.uid = uid.unwrap_or(stat.uid);
            stat.gid = gid.unwrap_or(stat.gid);
            // Linux fs/attr.c: a change of owner takes set-user and set-group of programs away.
            let is_program = stat.file_type() == FileType::Regular && stat.mode & 0o111 != 0;
            if is_program || !is_root {
                stat.mode &= !0o4000;
                if stat.mode & 0o010 != 0 {
                    stat.mode &= !0o2000;
                }
            }
        }
        Change::Times { accessed, modified, .. } => {
            stat.accessed = accessed.unwrap_or(stat.accessed);
            stat.modified = modified.unwrap_or(stat.modified);
        }
    }
}

fn change_host(origin: &Path, stat: &Stat, change: Change) -> Result<(), Errno> {
    match change {
        Change::Mode(_) if stat.file_type() == FileType::Symlink => Err(Errno::EOPNOTSUPP),
        Change::Mode(mode) => host::set_mode(origin, mode & MODE_MASK),
        Change::Owner(uid, gid) => host::set_owner(origin, uid, gid),
        Change::Times { accessed, modified, .. } => host::set_times(
            origin,
            accessed.unwrap_or(stat.accessed),
            modified.unwrap_or(stat.modified),
        ),
    }
}

/// What `statfs` tells about the file system of a host path.
pub(crate) fn host_statfs(path: &Path) -> Result<host_fs::StatFs, Errno> {
    Ok(host_fs::statfs(path)?)
}

/// What `fstatfs` tells about an inherited stream.
pub(crate) fn host_fstatfs(fd: impl AsFd) -> Result<host_fs::StatFs, Errno> {
    Ok(host_fs::fstatfs(fd)?)
}
