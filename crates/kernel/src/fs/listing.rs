//! The entries of a directory.
//!
//! The host's entries come in the host's order, those that the guest added behind them.

use std::collections::BTreeSet;

use super::node::{Child, Listing, Target};
use super::walk::View;
use super::{NodeId, Vfs, host};
use crate::errno::Errno;

/// One entry of a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Entry {
    pub(crate) name: Vec<u8>,
    pub(crate) inode: u64,
    /// `d_type`.
    pub(crate) kind: u8,
}

impl Vfs {
    /// All entries of a directory, `.` and `..` included.
    ///
    /// # Errors
    /// Those of the host's directory.
    pub(crate) fn list(&mut self, view: &View<'_>, id: NodeId) -> Result<Vec<Entry>, Errno> {
        let from_tasks = match self.node(id).directory()?.list {
            Listing::Plain => Vec::new(),
            Listing::Proc(directory) => self.list_proc(view, directory)?,
        };
        let mut entries = Vec::new();
        let mut seen = BTreeSet::new();
        if let Some(origin) = self.node(id).origin.clone() {
            for entry in host::list(&origin)? {
                let is_hidden = self.hidden.contains(&super::node::join(&origin, &entry.name));
                let shown = match self.node(id).directory()?.children.get(&entry.name) {
                    _ if is_hidden => None,
                    Some(Child::Absent) => None,
                    Some(Child::Added(child, _)) => self.entry(entry.name, *child),
                    Some(Child::Host(_)) | None => {
                        Some(Entry { name: entry.name, inode: entry.inode, kind: entry.kind })
                    }
                };
                entries.extend(shown.inspect(|entry| {
                    seen.insert(entry.name.clone());
                }));
            }
        } else {
            let up = self.parent_of(id);
            entries.extend(self.entry(b".".to_vec(), id));
            entries.extend(self.entry(b"..".to_vec(), up));
        }
        let mut added: Vec<(u64, Vec<u8>, NodeId)> = Vec::new();
        for (name, child) in &self.node(id).directory()?.children {
            if let Child::Added(child, order) = child
                && !seen.contains(name)
                && !self.node(*child).is_passing
            {
                added.push((*order, name.clone(), *child));
            }
        }
        added.sort();
        for (_, name, child) in added {
            entries.extend(self.entry(name, child));
        }
        entries.extend(from_tasks);
        Ok(entries)
    }

    fn entry(&self, name: Vec<u8>, id: NodeId) -> Option<Entry> {
        let stat = self.stat_node(id).ok()?;
        Some(Entry { name, inode: stat.inode, kind: stat.file_type().dirent() })
    }

    /// Finds `name` in the directory, of whatever kind that is.
    ///
    /// # Errors
    /// Those of the host's directory; `ENAMETOOLONG`, `ENOTDIR`.
    pub(crate) fn lookup_in(
        &mut self,
        view: &View<'_>,
        directory: NodeId,
        name: &[u8],
    ) -> Result<Target, Errno> {
        match self.node(directory).directory()?.list {
            Listing::Plain => self.lookup(directory, name),
            Listing::Proc(of) => self.lookup_proc(view, directory, of, name),
        }
    }
}
