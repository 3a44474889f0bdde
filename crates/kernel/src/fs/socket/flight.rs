//! Open files in messages that nobody can ever read.
//!
//! A socket sent through itself, or two through each other, keep each other alive when their last
//! descriptor is closed. Whenever a file is closed while files are in messages, those that no
//! descriptor leads to are looked for.
//!
//! # Source
//! Linux 6.12 `net/unix/garbage.c`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Link, SocketId};
use crate::fs::open::Opened;
use crate::fs::{FileId, Vfs};

impl Vfs {
    /// Takes the messages away that keep sockets alive which no descriptor leads to; returns their
    /// files, for the caller to release.
    pub(crate) fn take_lost_files(&mut self) -> Vec<FileId> {
        if self.sockets.flying_count == 0 {
            return Vec::new();
        }
        let mut lost: BTreeSet<SocketId> = self.sockets.sockets.keys().copied().collect();
        let mut reached: Vec<SocketId> = self.held_sockets();
        while let Some(id) = reached.pop() {
            if lost.remove(&id) {
                reached.extend(self.sockets_in_messages(id));
            }
        }
        let mut files = Vec::new();
        for id in lost {
            let Some(socket) = self.sockets.get_mut(id) else { continue };
            let flying: Vec<FileId> =
                socket.inbox.iter_mut().flat_map(|message| message.files.drain(..)).collect();
            self.sockets.flying_count = self.sockets.flying_count.saturating_sub(flying.len());
            files.extend(flying);
        }
        files
    }

    /// Sockets that something else than a message refers to.
    fn held_sockets(&self) -> Vec<SocketId> {
        let mut flying: BTreeMap<FileId, u32> = BTreeMap::new();
        for socket in self.sockets.sockets.values() {
            for file in socket.inbox.iter().flat_map(|message| &message.files) {
                *flying.entry(*file).or_insert(0) += 1;
            }
        }
        let files = self.all_files();
        let held =
            files.filter(|(id, file)| file.ref_count() > flying.get(id).copied().unwrap_or(0));
        held.filter_map(|(_, file)| match file.opened {
            Opened::Socket(id) => Some(id),
            _ => None,
        })
        .collect()
    }

    /// Sockets that whoever reads `id` can get: those in its messages, and who waits there.
    fn sockets_in_messages(&self, id: SocketId) -> Vec<SocketId> {
        let Some(socket) = self.sockets.get(id) else { return Vec::new() };
        let files = socket.inbox.iter().flat_map(|message| &message.files);
        let in_files = files.filter_map(|&file| match self.file(file).opened {
            Opened::Socket(id) => Some(id),
            _ => None,
        });
        let mut found: Vec<SocketId> = in_files.collect();
        if let Link::Listening { waiting, .. } = &socket.link {
            found.extend(waiting);
        }
        found
    }
}
