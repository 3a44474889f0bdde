//! The entries of a directory.
//!
//! The host's entries come in the host's order, those that the guest added behind them.

use std::collections::BTreeSet;

use super::node::{Child, Listing, Magic, Node, NodeKind, ProcFile, Target};
use super::stat::{FileType, Stat};
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
        let kind = self.node(id).directory()?.list;
        if kind != Listing::Plain {
            self.refresh_descriptors(view, id, kind);
        }
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
            {
                added.push((*order, name.clone(), *child));
            }
        }
        added.sort();
        for (_, name, child) in added {
            entries.extend(self.entry(name, child));
        }
        Ok(entries)
    }

    fn entry(&self, name: Vec<u8>, id: NodeId) -> Option<Entry> {
        let stat = self.stat_node(id).ok()?;
        Some(Entry { name, inode: stat.inode, kind: stat.file_type().dirent() })
    }

    /// Finds `name` in the directory, descriptors of the task included.
    pub(crate) fn lookup_in(
        &mut self,
        view: &View<'_>,
        directory: NodeId,
        name: &[u8],
    ) -> Result<Target, Errno> {
        let kind = self.node(directory).directory()?.list;
        if kind != Listing::Plain {
            self.refresh_descriptors(view, directory, kind);
        }
        self.lookup(directory, name)
    }

    /// Makes the names of `/proc/self/fd` those of the open files.
    fn refresh_descriptors(&mut self, view: &View<'_>, id: NodeId, kind: Listing) {
        let Ok(directory) = self.node(id).directory() else { return };
        let known: Vec<(Vec<u8>, NodeId)> = directory
            .children
            .iter()
            .filter_map(|(name, child)| match child {
                Child::Added(node, _) => Some((name.clone(), *node)),
                _ => None,
            })
            .collect();
        let open: BTreeSet<Vec<u8>> =
            view.files.numbers().map(|number| number.to_string().into_bytes()).collect();
        for (name, node) in &known {
            if !open.contains(name) {
                if let Ok(directory) = self.node_mut(id).directory_mut() {
                    directory.children.remove(name);
                }
                self.node_mut(*node).is_deleted = true;
                self.drop_if_unused(*node);
            }
        }
        let (layer, mount) = (self.node(id).layer, self.node(id).mount);
        for number in view.files.numbers() {
            let name = number.to_string().into_bytes();
            if known.iter().any(|(other, _)| *other == name) {
                continue;
            }
            let (kind, permissions) = match kind {
                Listing::DescriptorInfo => {
                    (NodeKind::Proc(ProcFile::DescriptorInfo(number)), 0o400)
                }
                _ => (NodeKind::Magic(Magic::Descriptor(number)), 0o700),
            };
            let mut node = Node::new(kind, layer, mount);
            let file_type =
                if permissions == 0o400 { FileType::Regular } else { FileType::Symlink };
            let mut stat = Stat::new(file_type, permissions, self.now);
            stat.size_bytes = if permissions == 0o400 { 0 } else { 64 };
            node.stat = Some(Box::new(stat));
            let node = self.graft(id, &name, node);
            // Numbers sort as numbers, whenever they were opened.
            if let Ok(directory) = self.node_mut(id).directory_mut() {
                directory.children.insert(name, Child::Added(node, number.into()));
            }
        }
    }
}
