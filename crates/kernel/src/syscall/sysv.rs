//! System V IPC: shared memory, semaphores, message queues.
//!
//! Does not: more than one namespace; the `_STAT` and `_INFO` commands of `ipcs`.
//!
//! # Source
//! man 7 `sysvipc`; Linux 6.12 `ipc/util.c`.

mod msg;
pub(crate) mod rows;
mod sem;
mod shm;

use std::collections::BTreeMap;

use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub(crate) fn handler(number: u64) -> Option<Handler> {
    shm::handler(number).or_else(|| sem::handler(number)).or_else(|| msg::handler(number))
}

/// `IPC_PRIVATE`.
const PRIVATE: u32 = 0;
const CREATE: u32 = 0o1000;
const EXCLUSIVE: u32 = 0o2000;
const NO_WAIT: u32 = 0o4000;
/// Commands that all three kinds have.
const REMOVE: u32 = 0;
const SET: u32 = 1;
const STAT: u32 = 2;
/// Rights of an object, as in the lowest digit of its mode.
const READ: u32 = 4;
const WRITE: u32 = 2;
/// Bytes of `struct ipc64_perm`.
const PERMISSION_BYTES: usize = 48;

/// Whose an object is and who may use it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Permissions {
    key: u32,
    uid: u32,
    gid: u32,
    maker_uid: u32,
    maker_gid: u32,
    mode: u32,
}

impl Permissions {
    /// `struct ipc64_perm`.
    fn bytes(&self) -> [u8; PERMISSION_BYTES] {
        let mut bytes = [0; PERMISSION_BYTES];
        let words = [self.key, self.uid, self.gid, self.maker_uid, self.maker_gid, self.mode];
        for (place, word) in bytes.chunks_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// Takes owner and mode from what `IPC_SET` gives.
    fn set(&mut self, bytes: &[u8; PERMISSION_BYTES]) {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        self.uid = word(4);
        self.gid = word(8);
        self.mode = self.mode & !0o777 | word(20) & 0o777;
    }
}

/// An object of one kind.
#[derive(Debug)]
struct Entry<T> {
    permissions: Permissions,
    data: T,
}

/// All objects of one kind.
#[derive(Debug)]
struct Table<T> {
    entries: BTreeMap<u32, Entry<T>>,
    next: u32,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), next: 0 }
    }
}

impl<T> Table<T> {
    fn get(&mut self, id: u64) -> Result<&mut Entry<T>, Errno> {
        let id = u32::try_from(id & 0xffff_ffff).unwrap_or(u32::MAX);
        self.entries.get_mut(&id).ok_or(Errno::EINVAL)
    }

    fn by_key(&self, key: u32) -> Option<u32> {
        let found = self.entries.iter().find(|(_, entry)| entry.permissions.key == key);
        found.map(|(&id, _)| id).filter(|_| key != PRIVATE)
    }

    fn insert(&mut self, permissions: Permissions, data: T) -> u32 {
        let id = self.next;
        // Numbers stay positive as the `int` that programs see.
        self.next = (self.next + 1) & 0x7fff_ffff;
        self.entries.insert(id, Entry { permissions, data });
        id
    }
}

/// All objects of a run.
#[derive(Default, Debug)]
pub(crate) struct Ipc {
    segments: Table<shm::Segment>,
    sets: Table<sem::Set>,
    queues: Table<msg::Queue>,
    semaphores: sem::Shared,
    /// Segments that are removed but still mapped.
    dying: Vec<shm::Segment>,
}

impl Kernel {
    /// The rights of a new object of the running task.
    fn new_permissions(&self, key: u32, flags: u32) -> Permissions {
        let credentials = &self.fs.credentials;
        let (uid, gid) = (credentials.uid, credentials.gid);
        Permissions { key, uid, gid, maker_uid: uid, maker_gid: gid, mode: flags & 0o777 }
    }

    /// Whether the running task may do `wanted` with an object.
    ///
    /// # Errors
    /// `EACCES`.
    fn check_permissions(&self, permissions: &Permissions, wanted: u32) -> Result<(), Errno> {
        let credentials = &self.fs.credentials;
        let in_group = |gid: u32| gid == credentials.gid || credentials.groups.contains(&gid);
        let shift = if [permissions.uid, permissions.maker_uid].contains(&credentials.uid) {
            6
        } else if in_group(permissions.gid) || in_group(permissions.maker_gid) {
            3
        } else {
            0
        };
        let is_granted = permissions.mode >> shift & wanted == wanted;
        if is_granted || credentials.uid == 0 { Ok(()) } else { Err(Errno::EACCES) }
    }

    /// Whether the running task may remove or change an object.
    ///
    /// # Errors
    /// `EPERM`.
    fn check_owner(&self, permissions: &Permissions) -> Result<(), Errno> {
        let uid = self.fs.credentials.uid;
        let owns = uid == 0 || [permissions.uid, permissions.maker_uid].contains(&uid);
        if owns { Ok(()) } else { Err(Errno::EPERM) }
    }

    /// Seconds since 1970, as objects keep them.
    fn ipc_seconds(&self) -> u64 {
        self.realtime_ns() / 1_000_000_000
    }
}

/// What the `get` calls do with a key: the object that has it, or `None` for a new one.
///
/// # Errors
/// `EEXIST`, `ENOENT`.
fn find<T>(table: &Table<T>, key: u32, flags: u32) -> Result<Option<u32>, Errno> {
    match table.by_key(key) {
        Some(_) if flags & CREATE != 0 && flags & EXCLUSIVE != 0 => Err(Errno::EEXIST),
        Some(id) => Ok(Some(id)),
        None if key != PRIVATE && flags & CREATE == 0 => Err(Errno::ENOENT),
        None => Ok(None),
    }
}

fn low32(argument: u64) -> u32 {
    u32::try_from(argument & 0xffff_ffff).unwrap_or(0)
}

/// The words of a structure behind its permissions.
fn structure(permissions: &Permissions, words: &[u64]) -> Vec<u8> {
    let mut bytes = permissions.bytes().to_vec();
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes
}

/// The result of a call that found an object.
fn number(id: u32) -> SysResult {
    Ok(id.into())
}
