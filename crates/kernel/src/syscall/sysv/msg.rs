//! Message queues: `msgget`, `msgsnd`, `msgrcv`, `msgctl`.
//!
//! # Source
//! man 2 `msgget`, `msgop`, `msgctl`; Linux 6.12 `ipc/msg.c`.

use std::collections::VecDeque;

use machine::VirtAddr;

use super::{
    NO_WAIT, PERMISSION_BYTES, READ, REMOVE, SET, STAT, WRITE, find, low32, number, structure,
};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::Share;
use crate::syscall::Handler;
use crate::wait::{Channel, Interrupted};

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        68 => sys_msgget,
        69 => sys_msgsnd,
        70 => sys_msgrcv,
        71 => sys_msgctl,
        _ => return None,
    })
}

/// Most queues; Linux has 32,000, this bounds what they hold together to 64 MiB.
const QUEUES_MAX: usize = 4096;
/// Longest message: `MSGMAX`.
const MESSAGE_BYTES_MAX: u64 = 8192;
/// Most bytes in a queue: `MSGMNB`.
const QUEUE_BYTES_MAX: u64 = 16_384;

/// A message.
#[derive(Debug)]
pub(super) struct Message {
    kind: i64,
    bytes: Vec<u8>,
    _share: Share,
}

/// A queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) messages: VecDeque<Message>,
    pub(super) bytes_max: u64,
    pub(super) sent_s: u64,
    pub(super) received_s: u64,
    pub(super) changed_s: u64,
    pub(super) last_sender: u32,
    pub(super) last_receiver: u32,
}

impl Queue {
    pub(super) fn bytes(&self) -> u64 {
        self.messages.iter().map(|message| message.bytes.len() as u64).sum()
    }

    /// The place of the message that a receiver of `kind` gets.
    fn place(&self, kind: i64, flags: u32) -> Option<usize> {
        const EXCEPT: u32 = 0o20_000;
        match kind {
            0 => (!self.messages.is_empty()).then_some(0),
            1.. if flags & EXCEPT != 0 => self.messages.iter().position(|one| one.kind != kind),
            1.. => self.messages.iter().position(|one| one.kind == kind),
            _ => {
                let most = kind.checked_neg().unwrap_or(i64::MAX);
                let meant = self.messages.iter().map(|one| one.kind).filter(|&one| one <= most);
                let least = meant.min()?;
                self.messages.iter().position(|one| one.kind == least)
            }
        }
    }
}

fn sys_msgget(kernel: &mut Kernel, [key, flags, ..]: [u64; 6]) -> SysResult {
    let (key, flags) = (low32(key), low32(flags));
    if let Some(id) = find(&kernel.ipc.queues, key, flags)? {
        let permissions = kernel.ipc.queues.get(id.into())?.permissions;
        kernel.check_permissions(&permissions, (flags | flags >> 3 | flags >> 6) & 7)?;
        return number(id);
    }
    if kernel.ipc.queues.entries.len() >= QUEUES_MAX {
        return Err(Errno::ENOSPC);
    }
    let queue = Queue {
        messages: VecDeque::new(),
        bytes_max: QUEUE_BYTES_MAX,
        sent_s: 0,
        received_s: 0,
        changed_s: kernel.ipc_seconds(),
        last_sender: 0,
        last_receiver: 0,
    };
    let permissions = kernel.new_permissions(key, flags);
    number(kernel.ipc.queues.insert(permissions, queue))
}

/// The error for a queue that is not there, or was removed while the task waited.
fn missing(kernel: &Kernel) -> Errno {
    if kernel.task.wait.is_some() { Errno::EIDRM } else { Errno::EINVAL }
}

fn sys_msgsnd(kernel: &mut Kernel, [id, addr, bytes, flags, ..]: [u64; 6]) -> SysResult {
    if bytes > MESSAGE_BYTES_MAX || low32(id).cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let kind = kernel.read_user_u64(VirtAddr::new(addr))?.cast_signed();
    if kind < 1 {
        return Err(Errno::EINVAL);
    }
    let mut held = vec![0; usize::try_from(bytes).unwrap_or(0)];
    kernel.read_user(VirtAddr::new(addr.wrapping_add(8)), &mut held)?;
    let missing = missing(kernel);
    let entry = kernel.ipc.queues.get(id).map_err(|_| missing)?;
    let permissions = entry.permissions;
    let queue = &entry.data;
    let has_room =
        queue.bytes() + bytes <= queue.bytes_max && (queue.messages.len() as u64) < queue.bytes_max;
    kernel.check_permissions(&permissions, WRITE)?;
    if !has_room {
        if low32(flags) & NO_WAIT != 0 {
            return Err(Errno::EAGAIN);
        }
        return Err(kernel.block(&[Channel::Messages(low32(id))], None, Interrupted::Ends));
    }
    let share = Share::of(&kernel.vfs.pool, size_of::<Message>() + held.len())?;
    let (now, pid) = (kernel.ipc_seconds(), kernel.process.pid);
    let queue = &mut kernel.ipc.queues.get(id)?.data;
    queue.messages.push_back(Message { kind, bytes: held, _share: share });
    queue.sent_s = now;
    queue.last_sender = pid;
    kernel.wake(Channel::Messages(low32(id)));
    Ok(0)
}

fn sys_msgrcv(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    const NO_ERROR: u32 = 0o10_000;
    const COPY: u32 = 0o40_000;
    let [id, addr, bytes, kind, flags, _] = args;
    let flags = low32(flags);
    if low32(id).cast_signed() < 0 || bytes.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    if flags & COPY != 0 {
        return Err(Errno::EINVAL);
    }
    let missing = missing(kernel);
    let permissions = kernel.ipc.queues.get(id).map_err(|_| missing)?.permissions;
    kernel.check_permissions(&permissions, READ)?;
    let queue = &mut kernel.ipc.queues.get(id)?.data;
    let Some(place) = queue.place(kind.cast_signed(), flags) else {
        if flags & NO_WAIT != 0 {
            return Err(Errno::ENOMSG);
        }
        return Err(kernel.block(&[Channel::Messages(low32(id))], None, Interrupted::Ends));
    };
    let length = queue.messages[place].bytes.len() as u64;
    if length > bytes && flags & NO_ERROR == 0 {
        return Err(Errno::E2BIG);
    }
    let Some(message) = queue.messages.remove(place) else { return Err(Errno::ENOMSG) };
    let (now, pid) = (kernel.ipc_seconds(), kernel.process.pid);
    let queue = &mut kernel.ipc.queues.get(id)?.data;
    queue.received_s = now;
    queue.last_receiver = pid;
    kernel.wake(Channel::Messages(low32(id)));
    let count = usize::try_from(length.min(bytes)).unwrap_or(0);
    kernel.write_user_u64(VirtAddr::new(addr), message.kind.cast_unsigned())?;
    kernel.write_user(VirtAddr::new(addr.wrapping_add(8)), &message.bytes[..count])?;
    Ok(count as u64)
}

fn sys_msgctl(kernel: &mut Kernel, [id, command, addr, ..]: [u64; 6]) -> SysResult {
    let permissions = kernel.ipc.queues.get(id)?.permissions;
    let addr = VirtAddr::new(addr);
    match low32(command) {
        REMOVE => {
            kernel.check_owner(&permissions)?;
            kernel.ipc.queues.entries.remove(&low32(id));
        }
        STAT => {
            kernel.check_permissions(&permissions, READ)?;
            let queue = &kernel.ipc.queues.get(id)?.data;
            let pids = u64::from(queue.last_sender) | u64::from(queue.last_receiver) << 32;
            let words = [
                queue.sent_s,
                queue.received_s,
                queue.changed_s,
                queue.bytes(),
                queue.messages.len() as u64,
                queue.bytes_max,
                pids,
                0,
                0,
            ];
            kernel.write_user(addr, &structure(&permissions, &words))?;
        }
        SET => {
            kernel.check_owner(&permissions)?;
            let mut bytes = [0; PERMISSION_BYTES];
            kernel.read_user(addr, &mut bytes)?;
            let most = kernel.read_user_u64(addr.wrapping_add(88))?;
            if most > QUEUE_BYTES_MAX {
                return Err(Errno::EPERM);
            }
            let now = kernel.ipc_seconds();
            let entry = kernel.ipc.queues.get(id)?;
            entry.permissions.set(&bytes);
            entry.data.bytes_max = most;
            entry.data.changed_s = now;
        }
        _ => return Err(Errno::EINVAL),
    }
    kernel.wake(Channel::Messages(low32(id)));
    Ok(0)
}
