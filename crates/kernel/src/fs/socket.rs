//! UNIX sockets: streams, datagrams and packets between the tasks of a run.
//!
//! A message lies in the inbox of who shall read it and is charged to who sent it, as in Linux, so
//! that the same number of messages fits. Nothing here waits: what cannot go on is `EAGAIN`.
//!
//! Does not: know other address families, read the program's memory.
//!
//! Invariants
//! 1. A socket's `charged` is the sum of the charges of its messages in all inboxes.
//! 2. Each open file in a message is retained once; `close_socket` hands back those of lost ones.
//! 3. `peer` may name a socket that is gone; whoever follows it looks.
//!
//! # Source
//! man 7 `unix`; Linux 6.12 `net/unix/af_unix.c`, `net/core/sock.c`.

mod flight;
mod message;

use std::collections::{BTreeMap, VecDeque};

use super::open::{Opened, flag};
use super::{FileId, News, NodeId, Vfs};
use crate::errno::Errno;

use message::Message;
pub(crate) use message::{Received, Take};

/// A socket.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SocketId(u32);

/// What a socket keeps of the borders between messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SocketKind {
    /// None: a stream of bytes.
    Stream,
    /// All, without a connection.
    Datagram,
    /// All, in a connection.
    Packet,
}

impl SocketKind {
    /// `SOCK_STREAM` and its relatives.
    pub(crate) const fn from_number(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Stream),
            // `SOCK_RAW` of this family is the same as datagrams.
            2 | 3 => Some(Self::Datagram),
            5 => Some(Self::Packet),
            _ => None,
        }
    }

    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::Stream => 1,
            Self::Datagram => 2,
            Self::Packet => 5,
        }
    }
}

/// Who a process is: `struct ucred`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sender {
    pub(crate) pid: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Sender {
    /// Nobody, as `SO_PEERCRED` shows it.
    pub(crate) const NOBODY: Self = Self { pid: 0, uid: u32::MAX, gid: u32::MAX };
}

/// How far a connection has come.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Link {
    /// Nowhere.
    Closed,
    /// Others may connect.
    Listening {
        /// How many may wait to be accepted, less one.
        backlog: usize,
        /// Who waits.
        waiting: VecDeque<SocketId>,
    },
    /// To the peer.
    Connected,
}

/// Directions that are shut.
pub(crate) const SHUT_READ: u8 = 1;
/// See [`SHUT_READ`].
pub(crate) const SHUT_WRITE: u8 = 2;
/// Bytes of messages on their way that a sender may have: `net.core.wmem_default`.
const SEND_BYTES: usize = 212_992;
/// Messages that a datagram socket holds for strangers: `net.unix.max_dgram_qlen`.
const STRANGERS_MAX: usize = 10;

/// What can be done with a socket without waiting.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct SocketState {
    pub(crate) is_readable: bool,
    pub(crate) is_writable: bool,
    /// Nothing more will come.
    pub(crate) is_shut_for_reading: bool,
    /// No connection, in both directions.
    pub(crate) is_hung_up: bool,
    pub(crate) has_error: bool,
}

/// A socket.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    pub(crate) kind: SocketKind,
    pub(crate) link: Link,
    pub(crate) peer: Option<SocketId>,
    /// What `getsockname` says behind the family: a path with its NUL, or NUL and a name.
    pub(crate) name: Vec<u8>,
    pub(crate) inode: u64,
    pub(crate) shut: u8,
    pub(crate) error: Option<Errno>,
    pub(crate) peer_sender: Sender,
    /// `SO_PASSCRED`.
    pub(crate) wants_sender: bool,
    /// Most bytes on their way: `SO_SNDBUF`.
    pub(crate) send_bytes_max: usize,
    /// Nanoseconds after which reading and writing give up.
    pub(crate) timeouts_ns: [Option<u64>; 2],
    /// Options that are only kept.
    pub(crate) options: BTreeMap<u32, u32>,
    node: Option<NodeId>,
    inbox: VecDeque<Message>,
    pub(crate) charged: usize,
    /// How often something came to be read, and room to write.
    pub(crate) moves: [u64; 2],
}

impl UnixSocket {
    fn new(kind: SocketKind, inode: u64) -> Self {
        Self {
            kind,
            link: Link::Closed,
            peer: None,
            name: Vec::new(),
            inode,
            shut: 0,
            error: None,
            peer_sender: Sender::NOBODY,
            wants_sender: false,
            send_bytes_max: SEND_BYTES,
            timeouts_ns: [None; 2],
            options: BTreeMap::new(),
            node: None,
            inbox: VecDeque::new(),
            charged: 0,
            moves: [0; 2],
        }
    }

    /// Bytes that wait, as `FIONREAD` counts them.
    pub(crate) fn waiting_bytes(&self) -> usize {
        let mut rests = self.inbox.iter().map(|message| message.bytes.len() - message.read);
        match self.kind {
            SocketKind::Stream | SocketKind::Packet => rests.sum(),
            SocketKind::Datagram => rests.next().unwrap_or(0),
        }
    }

    pub(crate) fn is_listening(&self) -> bool {
        matches!(self.link, Link::Listening { .. })
    }

    /// Whether a connection or a message waits.
    pub(crate) fn has_news(&self) -> bool {
        match &self.link {
            Link::Listening { waiting, .. } => !waiting.is_empty(),
            _ => !self.inbox.is_empty(),
        }
    }

    fn is_connected(&self) -> bool {
        self.link == Link::Connected
    }
}

/// All sockets of a run.
#[derive(Default, Debug)]
pub(crate) struct Sockets {
    sockets: BTreeMap<SocketId, UnixSocket>,
    next: u32,
    /// Names without a place in the tree.
    abstract_names: BTreeMap<Vec<u8>, SocketId>,
    bound: BTreeMap<NodeId, SocketId>,
    /// Open files in messages.
    flying_count: usize,
}

impl Sockets {
    fn get(&self, id: SocketId) -> Option<&UnixSocket> {
        self.sockets.get(&id)
    }

    fn get_mut(&mut self, id: SocketId) -> Option<&mut UnixSocket> {
        self.sockets.get_mut(&id)
    }

    /// Counts a message as read by its receiver; gives its sender room.
    fn uncharge(&mut self, message: &Message) {
        self.flying_count = self.flying_count.saturating_sub(message.files.len());
        if let Some(sender) = self.get_mut(message.from) {
            sender.charged = sender.charged.saturating_sub(message.charge);
            sender.moves[1] += 1;
        }
    }

    fn named(&self, name: &[u8]) -> Option<SocketId> {
        self.abstract_names.get(name).copied()
    }
}

impl Vfs {
    /// A new socket that is connected to nothing.
    pub(crate) fn add_socket(&mut self, kind: SocketKind) -> SocketId {
        let inode = self.take_inode();
        let sockets = &mut self.sockets;
        let id = SocketId(sockets.next);
        sockets.next = sockets.next.wrapping_add(1);
        sockets.sockets.insert(id, UnixSocket::new(kind, inode));
        id
    }

    /// A file for a socket.
    pub(crate) fn open_socket(&mut self, id: SocketId, status: u32) -> FileId {
        self.add_file(Opened::Socket(id), status | flag::RDWR)
    }

    /// A socket that a file or a queue has.
    pub(crate) fn socket(&self, id: SocketId) -> Result<&UnixSocket, Errno> {
        self.sockets.get(id).ok_or(Errno::ENOTCONN)
    }

    pub(crate) fn socket_mut(&mut self, id: SocketId) -> Result<&mut UnixSocket, Errno> {
        self.sockets.get_mut(id).ok_or(Errno::ENOTCONN)
    }

    fn tell_socket(&mut self, id: SocketId) {
        self.news.push(News::Socket(id));
    }

    /// Connects two new sockets with each other.
    pub(crate) fn pair_sockets(&mut self, ids: [SocketId; 2], sender: Sender) {
        for (own, other) in [(ids[0], ids[1]), (ids[1], ids[0])] {
            let Some(socket) = self.sockets.get_mut(own) else { continue };
            socket.peer = Some(other);
            socket.peer_sender = sender;
            if socket.kind != SocketKind::Datagram {
                socket.link = Link::Connected;
            }
        }
    }

    /// The socket with this abstract name.
    pub(crate) fn socket_named(&self, name: &[u8]) -> Option<SocketId> {
        self.sockets.named(name)
    }

    /// Gives a socket the name of a file in the tree.
    pub(crate) fn bind_to_node(&mut self, id: SocketId, node: NodeId, name: Vec<u8>) {
        self.hold(node);
        self.sockets.bound.insert(node, id);
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.name = name;
            socket.node = Some(node);
        }
    }

    /// Gives a socket a name outside of the tree.
    ///
    /// # Errors
    /// `EADDRINUSE`.
    pub(crate) fn bind_abstract(&mut self, id: SocketId, name: Vec<u8>) -> Result<(), Errno> {
        if self.sockets.abstract_names.contains_key(&name) {
            return Err(Errno::EADDRINUSE);
        }
        self.sockets.abstract_names.insert(name.clone(), id);
        self.socket_mut(id)?.name = name;
        Ok(())
    }

    /// The socket that has the name of a file.
    pub(crate) fn socket_at(&self, node: NodeId) -> Result<SocketId, Errno> {
        self.sockets.bound.get(&node).copied().ok_or(Errno::ECONNREFUSED)
    }

    /// Lets others connect.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: datagrams. `EINVAL`: without a name, or connected.
    pub(crate) fn listen(
        &mut self,
        id: SocketId,
        backlog: usize,
        sender: Sender,
    ) -> Result<(), Errno> {
        let socket = self.socket_mut(id)?;
        if socket.kind == SocketKind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        if socket.name.is_empty() || socket.is_connected() {
            return Err(Errno::EINVAL);
        }
        let waiting = match &mut socket.link {
            Link::Listening { waiting, .. } => std::mem::take(waiting),
            _ => VecDeque::new(),
        };
        socket.link = Link::Listening { backlog, waiting };
        socket.peer_sender = sender;
        // Who waits to connect may find room now.
        self.tell_socket(id);
        Ok(())
    }

    /// Connects a stream or packet socket to one that listens.
    ///
    /// # Errors
    /// `ECONNREFUSED`, `EPROTOTYPE`, `EISCONN`, `EINVAL`; `EAGAIN`: too many wait there.
    pub(crate) fn connect_stream(
        &mut self,
        id: SocketId,
        target: SocketId,
        sender: Sender,
    ) -> Result<(), Errno> {
        let kind = self.socket(id)?.kind;
        let listener = self.sockets.get(target).ok_or(Errno::ECONNREFUSED)?;
        if listener.kind != kind {
            return Err(Errno::EPROTOTYPE);
        }
        let Link::Listening { backlog, waiting } = &listener.link else {
            return Err(Errno::ECONNREFUSED);
        };
        if listener.shut & SHUT_READ != 0 {
            return Err(Errno::ECONNREFUSED);
        }
        if waiting.len() > *backlog {
            return Err(Errno::EAGAIN);
        }
        match self.socket(id)?.link {
            Link::Connected => return Err(Errno::EISCONN),
            Link::Listening { .. } => return Err(Errno::EINVAL),
            Link::Closed => {}
        }
        let (name, listener_sender) = (listener.name.clone(), listener.peer_sender);
        let wants_sender = listener.wants_sender;
        let accepted = self.add_socket(kind);
        let new = self.socket_mut(accepted)?;
        new.link = Link::Connected;
        new.peer = Some(id);
        new.name = name;
        new.peer_sender = sender;
        new.wants_sender = wants_sender;
        let own = self.socket_mut(id)?;
        own.link = Link::Connected;
        own.peer = Some(accepted);
        own.peer_sender = listener_sender;
        if let Link::Listening { waiting, .. } = &mut self.socket_mut(target)?.link {
            waiting.push_back(accepted);
        }
        self.socket_mut(target)?.moves[0] += 1;
        self.tell_socket(target);
        self.tell_socket(id);
        Ok(())
    }

    /// Fixes to whom a datagram socket sends, or to nobody.
    ///
    /// # Errors
    /// `EPROTOTYPE`, `ECONNREFUSED`, `EPERM`: it listens to somebody else only.
    pub(crate) fn connect_datagram(
        &mut self,
        id: SocketId,
        target: Option<SocketId>,
    ) -> Result<(), Errno> {
        if let Some(target) = target {
            self.check_datagram_target(id, target)?;
        }
        self.socket_mut(id)?.peer = target;
        self.tell_socket(id);
        Ok(())
    }

    fn check_datagram_target(&self, id: SocketId, target: SocketId) -> Result<(), Errno> {
        let other = self.sockets.get(target).ok_or(Errno::ECONNREFUSED)?;
        if other.kind != self.socket(id)?.kind {
            return Err(Errno::EPROTOTYPE);
        }
        if other.peer.is_some_and(|peer| peer != id) {
            return Err(Errno::EPERM);
        }
        Ok(())
    }

    /// Takes the first connection that waits.
    ///
    /// # Errors
    /// `EOPNOTSUPP`: datagrams. `EINVAL`: it does not listen. `EAGAIN`: none waits.
    pub(crate) fn accept(&mut self, id: SocketId) -> Result<SocketId, Errno> {
        let socket = self.socket_mut(id)?;
        if socket.kind == SocketKind::Datagram {
            return Err(Errno::EOPNOTSUPP);
        }
        let is_shut = socket.shut & SHUT_READ != 0;
        let Link::Listening { waiting, .. } = &mut socket.link else { return Err(Errno::EINVAL) };
        let accepted = match waiting.pop_front() {
            Some(accepted) => accepted,
            None if is_shut => return Err(Errno::EINVAL),
            None => return Err(Errno::EAGAIN),
        };
        self.tell_socket(id);
        Ok(accepted)
    }

    /// Shuts directions of a connection on both sides.
    ///
    /// # Errors
    /// `ENOTCONN`: the socket is gone.
    pub(crate) fn shut_socket(&mut self, id: SocketId, directions: u8) -> Result<(), Errno> {
        let socket = self.socket_mut(id)?;
        socket.shut |= directions;
        let peer = socket.peer.filter(|_| socket.kind != SocketKind::Datagram);
        self.tell_socket(id);
        if let Some(peer) = peer {
            self.shut_peer(peer, directions);
        }
        Ok(())
    }

    fn shut_peer(&mut self, peer: SocketId, directions: u8) {
        let Some(other) = self.sockets.get_mut(peer) else { return };
        if directions & SHUT_READ != 0 {
            other.shut |= SHUT_WRITE;
        }
        if directions & SHUT_WRITE != 0 {
            other.shut |= SHUT_READ;
        }
        other.moves = other.moves.map(|count| count + 1);
        self.tell_socket(peer);
    }

    /// What can be done with a socket: see [`SocketState`].
    pub(crate) fn socket_state(&self, id: SocketId) -> SocketState {
        let Some(socket) = self.sockets.get(id) else { return SocketState::default() };
        let is_stream = socket.kind != SocketKind::Datagram;
        // Linux `unix_writable`: while at least three quarters are free.
        let has_room = !socket.is_listening() && socket.charged * 4 <= socket.send_bytes_max;
        let peer_is_full = !is_stream
            && socket
                .peer
                .and_then(|peer| self.sockets.get(peer))
                .is_some_and(|peer| peer.peer != Some(id) && peer.inbox.len() > STRANGERS_MAX);
        SocketState {
            is_readable: socket.has_news() || socket.shut & SHUT_READ != 0,
            is_writable: has_room && !peer_is_full,
            is_shut_for_reading: socket.shut & SHUT_READ != 0,
            is_hung_up: socket.shut == SHUT_READ | SHUT_WRITE
                || is_stream && socket.link == Link::Closed,
            has_error: socket.error.is_some(),
        }
    }

    /// Ends a socket whose last file is closed; returns the open files that its messages had, for
    /// the caller to release.
    pub(crate) fn close_socket(&mut self, id: SocketId) -> Vec<FileId> {
        let mut files = Vec::new();
        let mut ending = vec![(id, Accepted::Yes)];
        while let Some((id, accepted)) = ending.pop() {
            let Some(socket) = self.sockets.sockets.remove(&id) else { continue };
            if let Some(node) = socket.node {
                self.sockets.bound.remove(&node);
                self.unhold(node);
            }
            if self.sockets.named(&socket.name) == Some(id) {
                self.sockets.abstract_names.remove(&socket.name);
            }
            let is_reset = !socket.inbox.is_empty() || accepted == Accepted::No;
            for message in socket.inbox {
                self.sockets.uncharge(&message);
                self.tell_socket(message.from);
                files.extend(message.files);
            }
            if let Link::Listening { waiting, .. } = socket.link {
                ending.extend(waiting.into_iter().map(|id| (id, Accepted::No)));
            }
            if let Some(peer) = socket.peer {
                if socket.kind != SocketKind::Datagram {
                    self.end_peer(peer, is_reset);
                }
                self.tell_socket(peer);
            }
            self.tell_socket(id);
        }
        files
    }

    /// Tells the other side of a connection that this one is gone.
    fn end_peer(&mut self, peer: SocketId, is_reset: bool) {
        if is_reset && let Some(other) = self.sockets.get_mut(peer) {
            other.error = Some(Errno::ECONNRESET);
        }
        self.shut_peer(peer, SHUT_READ | SHUT_WRITE);
    }
}

/// Whether a socket that ends has ever had a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accepted {
    Yes,
    No,
}
