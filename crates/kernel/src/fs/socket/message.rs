//! What travels between sockets: sending and receiving without waiting.
//!
//! # Source
//! Linux 6.12 `net/unix/af_unix.c`: `unix_stream_sendmsg`, `unix_dgram_sendmsg`,
//! `unix_stream_read_generic`, `__unix_dgram_recvmsg`.

use super::{SHUT_READ, SHUT_WRITE, STRANGERS_MAX, Sender, SocketId, SocketKind};
use crate::errno::Errno;
use crate::fs::Share;
use crate::fs::{FileId, Vfs};

/// Most bytes of a piece of a stream in one block: `SKB_MAX_HEAD(0)`.
const STREAM_BLOCK_BYTES: usize = 3776;
/// Most bytes in one piece of a stream: a block and `UNIX_SKB_FRAGS_SZ`.
const PIECE_BYTES_MAX: usize = STREAM_BLOCK_BYTES + 32_768;
/// Most bytes of a message in one block: `SKB_MAX_ALLOC`.
const MESSAGE_BLOCK_BYTES: usize = 16_064;
/// With more open files than these in messages of all sockets, no more come: Linux's limit for a
/// user without rights is that of his descriptors.
const FLYING_MAX: usize = 1024;

/// One piece of data on its way.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) bytes: Vec<u8>,
    /// How many of them are read already: streams only.
    pub(super) read: usize,
    pub(super) files: Vec<FileId>,
    sender: Sender,
    pub(super) from: SocketId,
    /// The name of the sender.
    name: Vec<u8>,
    pub(super) charge: usize,
    _share: Share,
}

/// What was received.
#[derive(Clone, Default, Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Vec<u8>,
    /// Length of the message, cut off or not.
    pub(crate) full_bytes: usize,
    /// Open files, retained for the receiver.
    pub(crate) files: Vec<FileId>,
    pub(crate) sender: Option<Sender>,
    /// The name of who sent it.
    pub(crate) name: Vec<u8>,
}

/// How to receive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Take {
    /// The data is gone then.
    Away,
    /// It stays: `MSG_PEEK`.
    Peek,
}

impl Vfs {
    /// Sends as much of `bytes` as fits to the peer of a stream.
    ///
    /// # Errors
    /// `ENOTCONN`; `EPIPE`: nobody will read it; `EAGAIN`: no room; `ETOOMANYREFS`; `ENOBUFS`:
    /// too much waits elsewhere.
    pub(crate) fn send_stream(
        &mut self,
        id: SocketId,
        bytes: &[u8],
        sender: Sender,
        files: &[FileId],
    ) -> Result<usize, Errno> {
        let socket = self.socket_mut(id)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let peer = match socket.peer {
            Some(peer) if socket.is_connected() => peer,
            _ => return Err(Errno::ENOTCONN),
        };
        if socket.shut & SHUT_WRITE != 0 {
            return Err(Errno::EPIPE);
        }
        let send_max = socket.send_bytes_max;
        if self.sockets.get(peer).is_none_or(|peer| peer.shut & SHUT_READ != 0) {
            return Err(Errno::EPIPE);
        }
        let mut done = 0;
        while done < bytes.len() {
            if self.socket(id)?.charged >= send_max {
                break;
            }
            let most = PIECE_BYTES_MAX.min((send_max / 2).saturating_sub(64)).max(1);
            let piece = &bytes[done..bytes.len().min(done + most)];
            let flying = if done == 0 { files } else { &[] };
            self.push_message(id, peer, piece, sender, flying)?;
            done += piece.len();
        }
        if done == 0 && !bytes.is_empty() { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    /// Sends one message to `target`, or to the peer.
    ///
    /// # Errors
    /// `ENOTCONN`, `EMSGSIZE`, `EPIPE`, `ECONNREFUSED`, `EPERM`, `EPROTOTYPE`, `ETOOMANYREFS`;
    /// `EAGAIN`: no room.
    pub(crate) fn send_message(
        &mut self,
        id: SocketId,
        target: Option<SocketId>,
        bytes: &[u8],
        sender: Sender,
        files: &[FileId],
    ) -> Result<usize, Errno> {
        let socket = self.socket_mut(id)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        let is_packet = socket.kind == SocketKind::Packet;
        if is_packet && !socket.is_connected() {
            return Err(Errno::ENOTCONN);
        }
        let peer = target.or(socket.peer).ok_or(Errno::ENOTCONN)?;
        if bytes.len() > socket.send_bytes_max.saturating_sub(32) {
            return Err(Errno::EMSGSIZE);
        }
        if socket.shut & SHUT_WRITE != 0 {
            return Err(Errno::EPIPE);
        }
        let is_full = socket.charged >= socket.send_bytes_max;
        let Some(other) = self.sockets.get(peer) else {
            if target.is_none() && !is_packet {
                self.socket_mut(id)?.peer = None;
            }
            return Err(if is_packet { Errno::EPIPE } else { Errno::ECONNREFUSED });
        };
        if other.shut & SHUT_READ != 0 {
            return Err(Errno::EPIPE);
        }
        if !is_packet {
            self.check_datagram_target(id, peer)?;
        }
        let is_stranger = peer != id && other.peer != Some(id);
        if is_full || is_stranger && other.inbox.len() > STRANGERS_MAX {
            return Err(Errno::EAGAIN);
        }
        self.push_message(id, peer, bytes, sender, files)?;
        Ok(bytes.len())
    }

    /// Puts a message into an inbox.
    fn push_message(
        &mut self,
        from: SocketId,
        to: SocketId,
        bytes: &[u8],
        sender: Sender,
        files: &[FileId],
    ) -> Result<(), Errno> {
        if !files.is_empty() && self.sockets.flying_count > FLYING_MAX {
            return Err(Errno::ETOOMANYREFS);
        }
        let kind = self.socket_mut(from)?.kind;
        let charge = charge_of(bytes.len(), kind);
        let share = Share::of(&self.pool, charge).map_err(|_| Errno::ENOBUFS)?;
        for &file in files {
            self.retain(file);
        }
        self.sockets.flying_count += files.len();
        let own = self.socket_mut(from)?;
        own.charged += charge;
        let name = own.name.clone();
        let (bytes, files) = (bytes.to_vec(), files.to_vec());
        let message = Message { bytes, read: 0, files, sender, from, name, charge, _share: share };
        if let Some(other) = self.sockets.get_mut(to) {
            other.inbox.push_back(message);
            other.moves[0] += 1;
        }
        self.tell_socket(to);
        Ok(())
    }

    /// Receives at most `room` bytes.
    ///
    /// # Errors
    /// `EINVAL`, `ENOTCONN`: there is no connection. `EAGAIN`: nothing there. The socket's own
    /// error.
    pub(crate) fn receive(
        &mut self,
        id: SocketId,
        room: usize,
        take: Take,
    ) -> Result<Received, Errno> {
        let socket = self.socket_mut(id)?;
        match socket.kind {
            SocketKind::Stream if !socket.is_connected() => return Err(Errno::EINVAL),
            SocketKind::Packet if !socket.is_connected() => return Err(Errno::ENOTCONN),
            _ => {}
        }
        if socket.inbox.is_empty() {
            if let Some(error) = socket.error.take() {
                return Err(error);
            }
            let is_over = socket.shut & SHUT_READ != 0;
            return if is_over { Ok(Received::default()) } else { Err(Errno::EAGAIN) };
        }
        let received = match socket.kind {
            SocketKind::Stream => self.receive_bytes(id, room, take),
            SocketKind::Datagram | SocketKind::Packet => self.receive_message(id, room, take),
        };
        if take == Take::Away {
            self.tell_socket(id);
        } else {
            for &file in &received.files {
                self.retain(file);
            }
        }
        Ok(received)
    }

    /// Bytes of a stream up to the next border: open files that come along, another sender.
    fn receive_bytes(&mut self, id: SocketId, room: usize, take: Take) -> Received {
        let mut received = Received::default();
        let Some(socket) = self.sockets.get_mut(id) else { return received };
        let mut inbox = std::mem::take(&mut socket.inbox);
        let wants_sender = socket.wants_sender;
        let mut index = 0;
        while let Some(message) = inbox.get_mut(index) {
            let other = received.sender.is_some_and(|sender| sender != message.sender);
            if received.bytes.len() == room || wants_sender && other {
                break;
            }
            if received.sender.is_none() {
                received.sender = Some(message.sender);
                received.name.clone_from(&message.name);
            }
            let rest = &message.bytes[message.read..];
            let count = rest.len().min(room - received.bytes.len());
            received.bytes.extend_from_slice(&rest[..count]);
            let is_last = !message.files.is_empty();
            received.files.extend(&message.files);
            if take == Take::Peek {
                index += 1;
            } else {
                self.sockets.flying_count =
                    self.sockets.flying_count.saturating_sub(message.files.len());
                message.files.clear();
                message.read += count;
                if message.read < message.bytes.len() {
                    break;
                }
                if let Some(message) = inbox.pop_front() {
                    self.sockets.uncharge(&message);
                    self.tell_socket(message.from);
                }
            }
            if is_last {
                break;
            }
        }
        if let Some(socket) = self.sockets.get_mut(id) {
            socket.inbox = inbox;
        }
        received.full_bytes = received.bytes.len();
        received
    }

    /// The first message, cut off at `room` bytes.
    fn receive_message(&mut self, id: SocketId, room: usize, take: Take) -> Received {
        let Some(socket) = self.sockets.get_mut(id) else { return Received::default() };
        let Some(message) = socket.inbox.front() else { return Received::default() };
        let received = Received {
            bytes: message.bytes[..message.bytes.len().min(room)].to_vec(),
            full_bytes: message.bytes.len(),
            files: message.files.clone(),
            sender: Some(message.sender),
            name: message.name.clone(),
        };
        if take == Take::Away
            && let Some(message) = socket.inbox.pop_front()
        {
            self.sockets.uncharge(&message);
            self.tell_socket(message.from);
        }
        received
    }
}

/// What a message of this length takes of its sender's room: Linux's `skb->truesize`.
///
/// # Source
/// Linux 6.12 `net/core/skbuff.c:__alloc_skb`: the block that `kmalloc` gives for the bytes and
/// `struct skb_shared_info`, and `struct sk_buff`; whole pages for what is longer.
fn charge_of(bytes: usize, kind: SocketKind) -> usize {
    const SHARED_INFO_BYTES: usize = 320;
    const HEAD_BYTES: usize = 256;
    let block_bytes = match kind {
        SocketKind::Stream => STREAM_BLOCK_BYTES,
        SocketKind::Datagram | SocketKind::Packet => MESSAGE_BLOCK_BYTES,
    };
    let beyond = bytes.saturating_sub(block_bytes).next_multiple_of(4096);
    let linear = bytes.saturating_sub(beyond).next_multiple_of(64);
    let block = (linear + SHARED_INFO_BYTES).next_power_of_two();
    block + HEAD_BYTES + beyond
}
