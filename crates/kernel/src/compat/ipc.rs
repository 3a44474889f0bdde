//! System V IPC: the call that is all calls, and structures with words of 32 bits.
//!
//! Does not: know the structures from before `IPC_64`.
//!
//! # Source
//! Linux 6.12 `ipc/syscall.c`, `arch/x86/include/uapi/asm/{msgbuf,sembuf,shmbuf}.h`.

use machine::VirtAddr;

use super::Arg::{self, In, Out, Word};
use super::shape::Field::{Capped, Long, Only32, Only64, Same};
use super::shape::{Shape, TIME};
use super::{Args, memory, signed, word};
use crate::Kernel;
use crate::errno::{Errno, SysResult};

const SHMGET: u16 = 29;
const SHMAT: u16 = 30;
const SHMCTL: u16 = 31;
const SEMGET: u16 = 64;
const SEMOP: u16 = 65;
const SEMCTL: u16 = 66;
const SHMDT: u16 = 67;
const MSGGET: u16 = 68;
const MSGSND: u16 = 69;
const MSGRCV: u16 = 70;
const MSGCTL: u16 = 71;
const SEMTIMEDOP: u16 = 220;

const IPC_64: u64 = 0x100;
const IPC_SET: u64 = 1;
const IPC_STAT: u64 = 2;
const IPC_INFO: u64 = 3;
/// Longest message: `MSGMAX`.
const MESSAGE_MAX: u64 = 8192;

/// The structures begin with `struct ipc64_perm`.
macro_rules! with_permissions {
    ($($rest:expr),*) => {
        &[Same(22), Only64(2), Only32(2), Same(4), Only64(20), Only32(8), $($rest),*]
    };
}

const SEMAPHORES: &Shape =
    with_permissions![Same(8), Only64(8), Same(8), Only64(8), Long, Only32(8), Only64(16)];
const QUEUE: &Shape = with_permissions![Same(24), Long, Long, Long, Same(8), Only32(8), Only64(16)];
const SEGMENT: &Shape = with_permissions![Long, Same(24), Same(8), Long, Only32(8), Only64(16)];
const SHARED_LIMITS: &Shape = &[Capped, Long, Long, Long, Capped, Long, Long, Long, Long];
const SHARED_USE: &Shape = &[Same(4), Only64(4), Long, Long, Long, Long, Long];

/// The command of a call that comes through `ipc`: only with `IPC_64`.
fn command(word: u64) -> Result<u64, Errno> {
    let is_plain = !matches!(word & !IPC_64, IPC_SET | IPC_STAT | 11 | 13 | 15 | 18 | 20);
    if is_plain || word & IPC_64 != 0 { Ok(word & !IPC_64) } else { Err(Errno::EINVAL) }
}

/// All calls in one: the number, and what the others take in another order.
pub(super) fn ipc(kernel: &mut Kernel, args: Args) -> SysResult {
    let [call, first, second, third, pointer, fifth] = args;
    let version = call >> 16;
    match call & 0xffff {
        1 => kernel.call_native(SEMOP, [first, pointer, second, 0, 0, 0]),
        2 => kernel.call_native(SEMGET, [first, second, third, 0, 0, 0]),
        3 if pointer == 0 => Err(Errno::EINVAL),
        3 => {
            let argument = kernel.read_user_u32(VirtAddr::new(pointer))?;
            semctl(kernel, [first, second, command(third)?, argument.into(), 0, 0])
        }
        4 => {
            const KINDS: &[Arg] = &[Word, Word, Word, In(TIME)];
            kernel.call_with(SEMTIMEDOP, [first, pointer, second, fifth, 0, 0], KINDS)
        }
        11 => msgsnd(kernel, [first, pointer, second, third, 0, 0]),
        12 if version == 0 => {
            let mut bytes = [0; 8];
            kernel.read_user(VirtAddr::new(pointer), &mut bytes)?;
            msgrcv(kernel, [first, word(&bytes, 0), second, word(&bytes, 4), third, 0])
        }
        12 => msgrcv(kernel, [first, pointer, second, fifth, third, 0]),
        13 => kernel.call_native(MSGGET, [first, second, 0, 0, 0, 0]),
        14 => msgctl(kernel, [first, command(second)?, pointer, 0, 0, 0]),
        21 if version == 1 => Err(Errno::EINVAL),
        21 => {
            let addr = shmat(kernel, [first, pointer, second, 0, 0, 0])?;
            kernel.write_user_u32(VirtAddr::new(third), addr as u32)?;
            Ok(0)
        }
        22 => kernel.call_native(SHMDT, [pointer, 0, 0, 0, 0, 0]),
        23 => kernel.call_native(SHMGET, [first, second, third, 0, 0, 0]),
        24 => shmctl(kernel, [first, command(second)?, pointer, 0, 0, 0]),
        _ => Err(Errno::ENOSYS),
    }
}

pub(super) fn semctl(kernel: &mut Kernel, args: Args) -> SysResult {
    match args[2] {
        IPC_SET => kernel.call_with(SEMCTL, args, &[Word, Word, Word, In(SEMAPHORES)]),
        IPC_STAT | 18 | 20 => kernel.call_with(SEMCTL, args, &[Word, Word, Word, Out(SEMAPHORES)]),
        _ => kernel.call_native(SEMCTL, args),
    }
}

pub(super) fn msgctl(kernel: &mut Kernel, args: Args) -> SysResult {
    match args[1] {
        IPC_SET => kernel.call_with(MSGCTL, args, &[Word, Word, In(QUEUE)]),
        IPC_STAT | 11 | 13 => kernel.call_with(MSGCTL, args, &[Word, Word, Out(QUEUE)]),
        _ => kernel.call_native(MSGCTL, args),
    }
}

pub(super) fn shmctl(kernel: &mut Kernel, args: Args) -> SysResult {
    match args[1] {
        IPC_SET => kernel.call_with(SHMCTL, args, &[Word, Word, In(SEGMENT)]),
        IPC_STAT | 13 | 15 => kernel.call_with(SHMCTL, args, &[Word, Word, Out(SEGMENT)]),
        IPC_INFO => kernel.call_with(SHMCTL, args, &[Word, Word, Out(SHARED_LIMITS)]),
        14 => kernel.call_with(SHMCTL, args, &[Word, Word, Out(SHARED_USE)]),
        _ => kernel.call_native(SHMCTL, args),
    }
}

pub(super) fn shmat(kernel: &mut Kernel, args: Args) -> SysResult {
    memory::in_low_memory(kernel, SHMAT, args)
}

/// A message begins with its type, a `long`.
pub(super) fn msgsnd(kernel: &mut Kernel, [id, message, bytes, flags, ..]: Args) -> SysResult {
    let kind = kernel.read_user_u32(VirtAddr::new(message))?;
    // What is too long is refused before it is read.
    let held = if bytes > MESSAGE_MAX { 0 } else { bytes };
    let mut text = vec![0; usize::try_from(held).unwrap_or(0)];
    kernel.read_user(VirtAddr::new(message + 4), &mut text)?;
    let wide = [&signed(kind.into()).to_le_bytes()[..], &text].concat();
    let place = kernel.window.add(wide);
    kernel.call_native(MSGSND, [id, place, signed(bytes), flags, 0, 0])
}

pub(super) fn msgrcv(kernel: &mut Kernel, args: Args) -> SysResult {
    let [id, message, bytes, kind, flags, _] = args;
    let room = usize::try_from(bytes.min(MESSAGE_MAX)).unwrap_or(0);
    let place = kernel.window.add(vec![0; room + 8]);
    let length =
        if bytes > MESSAGE_MAX && (bytes as i32) >= 0 { MESSAGE_MAX } else { signed(bytes) };
    let count = kernel.call_native(MSGRCV, [id, place, length, signed(kind), flags, 0])?;
    let told = kernel.window.take_written(place).unwrap_or_default();
    let end = usize::try_from(count).map_or(8, |count| count + 8).min(told.len());
    if let (Some(kind), Some(text)) = (told.get(..4), told.get(8..end)) {
        kernel.write_user(VirtAddr::new(message), &[kind, text].concat())?;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::super::shape::{bytes_32, bytes_64};
    use super::*;

    #[test]
    fn the_sizes_are_those_of_linux() {
        for (shape, slim, wide) in
            [(SEMAPHORES, 64, 104), (QUEUE, 88, 120), (SEGMENT, 84, 112), (SHARED_USE, 24, 48)]
        {
            assert_eq!((bytes_32(shape), bytes_64(shape)), (slim, wide), "{shape:?}");
        }
    }
}
