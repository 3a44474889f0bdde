//! Semaphore sets: `semget`, `semop`, `semtimedop`, `semctl`.
//!
//! # Source
//! man 2 `semget`, `semop`, `semctl`; Linux 6.12 `ipc/sem.c`.

use std::collections::BTreeMap;

use machine::VirtAddr;

use super::{
    NO_WAIT, PERMISSION_BYTES, READ, REMOVE, SET, STAT, WRITE, find, low32, number, structure,
};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;
use crate::syscall::time::read_timespec;
use crate::wait::{Channel, Interrupted};

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        64 => sys_semget,
        65 => sys_semop,
        66 => sys_semctl,
        220 => sys_semtimedop,
        _ => return None,
    })
}

/// Most sets, most semaphores of one, most of all: `SEMMNI`, `SEMMSL`, a bound of ours.
const SETS_MAX: usize = 32_000;
const SEMAPHORES_MAX: u32 = 32_000;
const ALL_SEMAPHORES_MAX: usize = 1 << 20;
/// Most operations of one call: `SEMOPM`.
const OPERATIONS_MAX: u32 = 500;
/// Largest value: `SEMVMX`.
const VALUE_MAX: i32 = 32_767;
const UNDO: u16 = 0o10_000;

/// A set of semaphores.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) values: Vec<i32>,
    pub(super) pids: Vec<u32>,
    pub(super) used_s: u64,
    pub(super) changed_s: u64,
}

/// What belongs to processes, not to one set.
#[derive(Default, Debug)]
pub(super) struct Shared {
    /// What is added to each semaphore of a set when a process ends.
    undo: BTreeMap<(u32, u32), Vec<i32>>,
    /// For what tasks wait: set, semaphore, and whether for zero.
    waiting: BTreeMap<u32, (u32, usize, bool)>,
}

/// `struct sembuf`.
#[derive(Clone, Copy, Debug)]
struct Operation {
    index: usize,
    change: i32,
    flags: u16,
}

fn sys_semget(kernel: &mut Kernel, [key, count, flags, ..]: [u64; 6]) -> SysResult {
    let (key, count, flags) = (low32(key), low32(count), low32(flags));
    if count > SEMAPHORES_MAX {
        return Err(Errno::EINVAL);
    }
    let count = usize::try_from(count).unwrap_or(0);
    if let Some(id) = find(&kernel.ipc.sets, key, flags)? {
        let set = kernel.ipc.sets.get(id.into())?;
        let (permissions, held) = (set.permissions, set.data.values.len());
        if count > held {
            return Err(Errno::EINVAL);
        }
        kernel.check_permissions(&permissions, (flags | flags >> 3 | flags >> 6) & 7)?;
        return number(id);
    }
    if count == 0 {
        return Err(Errno::EINVAL);
    }
    let sets = &kernel.ipc.sets.entries;
    let all: usize = sets.values().map(|entry| entry.data.values.len()).sum();
    if sets.len() >= SETS_MAX || all + count > ALL_SEMAPHORES_MAX {
        return Err(Errno::ENOSPC);
    }
    let changed_s = kernel.ipc_seconds();
    let set = Set { values: vec![0; count], pids: vec![0; count], used_s: 0, changed_s };
    let permissions = kernel.new_permissions(key, flags);
    number(kernel.ipc.sets.insert(permissions, set))
}

fn sys_semop(kernel: &mut Kernel, [id, operations, count, ..]: [u64; 6]) -> SysResult {
    sys_semtimedop(kernel, [id, operations, count, 0, 0, 0])
}

fn sys_semtimedop(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [id, addr, count, time, ..] = args;
    let count = low32(count);
    if count == 0 || low32(id).cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    if count > OPERATIONS_MAX {
        return Err(Errno::E2BIG);
    }
    let was_waiting = kernel.task.wait.is_some();
    kernel.ipc.semaphores.waiting.remove(&kernel.task.tid);
    let mut operations = Vec::new();
    for index in 0..u64::from(count) {
        let mut bytes = [0; 6];
        kernel.read_user(VirtAddr::new(addr.wrapping_add(index * 6)), &mut bytes)?;
        let [a, b, c, d, e, f] = bytes;
        operations.push(Operation {
            index: u16::from_le_bytes([a, b]).into(),
            change: i16::from_le_bytes([c, d]).into(),
            flags: u16::from_le_bytes([e, f]),
        });
    }
    let timeout = if time == 0 { None } else { Some(read_timespec(kernel, time)?) };
    let Ok(entry) = kernel.ipc.sets.get(id) else {
        return Err(if was_waiting { Errno::EIDRM } else { Errno::EINVAL });
    };
    let permissions = entry.permissions;
    let held = entry.data.values.len();
    if operations.iter().any(|operation| operation.index >= held) {
        return Err(Errno::EFBIG);
    }
    let changes = operations.iter().any(|operation| operation.change != 0);
    kernel.check_permissions(&permissions, if changes { WRITE } else { READ })?;
    let Some(stuck) = kernel.try_operations(low32(id), &operations)? else { return Ok(0) };
    if u32::from(stuck.flags) & NO_WAIT != 0 {
        return Err(Errno::EAGAIN);
    }
    let deadline = kernel.deadline_after(timeout);
    if kernel.has_passed(deadline) {
        return Err(Errno::EAGAIN);
    }
    let waits_for = (low32(id), stuck.index, stuck.change == 0);
    let errno = kernel.block(&[Channel::Semaphores(low32(id))], deadline, Interrupted::Ends);
    if errno == Errno::BLOCKED {
        kernel.ipc.semaphores.waiting.insert(kernel.task.tid, waits_for);
        return Err(errno);
    }
    // Linux: never done again, whatever the handler says.
    Err(errno)
}

impl Kernel {
    /// Does all operations, or none and returns the one that would have to wait.
    fn try_operations(
        &mut self,
        id: u32,
        operations: &[Operation],
    ) -> Result<Option<Operation>, Errno> {
        let (pid, now) = (self.process.pid, self.ipc_seconds());
        let set = &mut self.ipc.sets.get(id.into())?.data;
        let mut values = set.values.clone();
        for operation in operations {
            let value = &mut values[operation.index];
            let new = *value + operation.change;
            if operation.change == 0 && *value != 0 || new < 0 {
                return Ok(Some(*operation));
            }
            if new > VALUE_MAX {
                return Err(Errno::ERANGE);
            }
            *value = new;
        }
        for operation in operations {
            set.pids[operation.index] = pid;
        }
        let count = values.len();
        set.values = values;
        set.used_s = now;
        for operation in operations.iter().filter(|operation| operation.flags & UNDO != 0) {
            let undo = self.ipc.semaphores.undo.entry((pid, id));
            let undo = undo.or_insert_with(|| vec![0; count]);
            undo[operation.index] = undo[operation.index].saturating_sub(operation.change);
        }
        self.wake(Channel::Semaphores(id));
        Ok(None)
    }

    /// Takes back what a process that ends has done with `SEM_UNDO`.
    pub(crate) fn undo_semaphores(&mut self, pid: u32) {
        let mine: Vec<(u32, u32)> = self
            .ipc
            .semaphores
            .undo
            .range((pid, 0)..=(pid, u32::MAX))
            .map(|(&key, _)| key)
            .collect();
        for key in mine {
            let undo = self.ipc.semaphores.undo.remove(&key).unwrap_or_default();
            if let Ok(entry) = self.ipc.sets.get(key.1.into()) {
                for (value, change) in entry.data.values.iter_mut().zip(undo) {
                    *value = value.saturating_add(change).clamp(0, VALUE_MAX);
                }
            }
            self.wake(Channel::Semaphores(key.1));
        }
    }

    /// Forgets all that processes would undo in a set, or in one semaphore of it.
    fn forget_undo(&mut self, id: u32, index: Option<usize>) {
        for ((_, set), undo) in &mut self.ipc.semaphores.undo {
            if *set == id {
                match index {
                    Some(index) => undo[index] = 0,
                    None => undo.fill(0),
                }
            }
        }
    }
}

fn sys_semctl(kernel: &mut Kernel, [id, index, command, argument, ..]: [u64; 6]) -> SysResult {
    let permissions = kernel.ipc.sets.get(id)?.permissions;
    let addr = VirtAddr::new(argument);
    let now = kernel.ipc_seconds();
    match low32(command) {
        REMOVE => {
            kernel.check_owner(&permissions)?;
            kernel.ipc.sets.entries.remove(&low32(id));
            kernel.ipc.semaphores.undo.retain(|(_, set), _| *set != low32(id));
            kernel.wake(Channel::Semaphores(low32(id)));
            Ok(0)
        }
        SET => {
            kernel.check_owner(&permissions)?;
            let mut bytes = [0; PERMISSION_BYTES];
            kernel.read_user(addr, &mut bytes)?;
            let entry = kernel.ipc.sets.get(id)?;
            entry.permissions.set(&bytes);
            entry.data.changed_s = now;
            Ok(0)
        }
        STAT => {
            kernel.check_permissions(&permissions, READ)?;
            let set = &kernel.ipc.sets.get(id)?.data;
            let count = set.values.len() as u64;
            let words = [set.used_s, 0, set.changed_s, 0, count, 0, 0];
            kernel.write_user(addr, &structure(&permissions, &words))?;
            Ok(0)
        }
        13 | 17 => all_values(kernel, id, low32(command), argument),
        command => one_value(kernel, id, low32(index), command, argument),
    }
}

/// `GETALL` and `SETALL`.
fn all_values(kernel: &mut Kernel, id: u64, command: u32, addr: u64) -> SysResult {
    const SET_ALL: u32 = 17;
    let permissions = kernel.ipc.sets.get(id)?.permissions;
    let now = kernel.ipc_seconds();
    if command != SET_ALL {
        kernel.check_permissions(&permissions, READ)?;
        let values = &kernel.ipc.sets.get(id)?.data.values;
        let halves = values.iter().map(|&value| u16::try_from(value).unwrap_or(0));
        let bytes: Vec<u8> = halves.flat_map(u16::to_le_bytes).collect();
        kernel.write_user(VirtAddr::new(addr), &bytes)?;
        return Ok(0);
    }
    kernel.check_permissions(&permissions, WRITE)?;
    let mut bytes = vec![0; kernel.ipc.sets.get(id)?.data.values.len() * 2];
    kernel.read_user(VirtAddr::new(addr), &mut bytes)?;
    let halves = bytes.chunks_exact(2).map(|half| u16::from_le_bytes([half[0], half[1]]));
    let values: Vec<i32> = halves.map(i32::from).collect();
    if values.iter().any(|&value| value > VALUE_MAX) {
        return Err(Errno::ERANGE);
    }
    let set = &mut kernel.ipc.sets.get(id)?.data;
    set.values = values;
    set.changed_s = now;
    kernel.forget_undo(low32(id), None);
    kernel.wake(Channel::Semaphores(low32(id)));
    Ok(0)
}

/// Commands about one semaphore.
fn one_value(kernel: &mut Kernel, id: u64, index: u32, command: u32, value: u64) -> SysResult {
    const GET_PID: u32 = 11;
    const GET_VALUE: u32 = 12;
    const GET_WAITING: u32 = 14;
    const GET_WAITING_FOR_ZERO: u32 = 15;
    const SET_VALUE: u32 = 16;
    if !matches!(command, GET_PID | GET_VALUE | GET_WAITING | GET_WAITING_FOR_ZERO | SET_VALUE) {
        return Err(Errno::EINVAL);
    }
    let (now, pid) = (kernel.ipc_seconds(), kernel.process.pid);
    let entry = kernel.ipc.sets.get(id)?;
    let permissions = entry.permissions;
    let place = usize::try_from(index).unwrap_or(usize::MAX);
    if place >= entry.data.values.len() {
        return Err(Errno::EINVAL);
    }
    if command == SET_VALUE {
        let value = low32(value).cast_signed();
        if !(0..=VALUE_MAX).contains(&value) {
            return Err(Errno::ERANGE);
        }
        kernel.check_permissions(&permissions, WRITE)?;
        let set = &mut kernel.ipc.sets.get(id)?.data;
        set.values[place] = value;
        set.pids[place] = pid;
        set.changed_s = now;
        kernel.forget_undo(low32(id), Some(place));
        kernel.wake(Channel::Semaphores(low32(id)));
        return Ok(0);
    }
    kernel.check_permissions(&permissions, READ)?;
    let waits = |is_zero: bool| {
        let meant = (low32(id), place, is_zero);
        kernel.ipc.semaphores.waiting.values().filter(|&&waits| waits == meant).count() as u64
    };
    match command {
        GET_WAITING => Ok(waits(false)),
        GET_WAITING_FOR_ZERO => Ok(waits(true)),
        GET_PID => Ok(kernel.ipc.sets.get(id)?.data.pids[place].into()),
        _ => Ok(u64::try_from(kernel.ipc.sets.get(id)?.data.values[place]).unwrap_or(0)),
    }
}
