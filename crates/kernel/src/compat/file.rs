//! Calls about files whose arguments are put together differently.

use machine::VirtAddr;

use super::Arg::{InOut, Word};
use super::shape::{FLOCK, FLOCK_64, MASK, Shape, TIME, TIME_64};
use super::{Args, Loan, word};
use crate::Kernel;
use crate::errno::SysResult;
use crate::fs::Entry;
use crate::syscall::file::getdents;

/// Where the name begins in `struct old_linux_dirent`, and its bytes with the longest name.
const NAME_OFFSET: usize = 10;
const DIRENT_BYTES: usize = NAME_OFFSET + 256;
const LSEEK: u16 = 8;
const SELECT: u16 = 23;
const FCNTL: u16 = 72;
const UMOUNT2: u16 = 166;
const PSELECT6: u16 = 270;

/// The offset is in two words, and the result goes to memory.
pub(super) fn llseek(kernel: &mut Kernel, args: Args) -> SysResult {
    let [fd, high, low, result, whence, _] = args;
    let place = kernel.call_native(LSEEK, [fd, high << 32 | low, whence, 0, 0, 0])?;
    kernel.write_user_u64(VirtAddr::new(result), place)?;
    Ok(0)
}

pub(super) fn umount(kernel: &mut Kernel, [path, ..]: Args) -> SysResult {
    kernel.call_native(UMOUNT2, [path, 0, 0, 0, 0, 0])
}

/// One entry: inode, place, length of the name, name.
pub(super) fn readdir(kernel: &mut Kernel, [fd, buffer, ..]: Args) -> SysResult {
    let place = kernel.window.add(vec![0; DIRENT_BYTES]);
    if getdents(kernel, fd, place, DIRENT_BYTES as u64, single_entry)? == 0 {
        return Ok(0);
    }
    let bytes = kernel.window.take_written(place).unwrap_or_default();
    let length = NAME_OFFSET + usize::from(u16::from_le_bytes([bytes[8], bytes[9]])) + 1;
    kernel.write_user(VirtAddr::new(buffer), &bytes[..length])?;
    Ok(1)
}

/// An entry that takes all the room, so that no other follows.
fn single_entry(entry: &Entry, next: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(DIRENT_BYTES);
    bytes.extend((entry.inode as u32).to_le_bytes());
    bytes.extend((next.saturating_sub(1) as u32).to_le_bytes());
    bytes.extend(u16::try_from(entry.name.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(&entry.name);
    bytes.resize(DIRENT_BYTES, 0);
    bytes
}

/// The locks of large files too: on a 64-bit kernel there is one call.
pub(super) fn fcntl64(kernel: &mut Kernel, args: Args) -> SysResult {
    let [fd, command, argument, ..] = args;
    match command {
        5..=7 => kernel.call_with(FCNTL, args, &[Word, Word, InOut(FLOCK)]),
        // F_GETLK64, F_SETLK64, F_SETLKW64.
        12..=14 => {
            let args = [fd, command - 7, argument, 0, 0, 0];
            kernel.call_with(FCNTL, args, &[Word, Word, InOut(FLOCK_64)])
        }
        36..=38 => kernel.call_with(FCNTL, args, &[Word, Word, InOut(FLOCK_64)]),
        _ => kernel.call_native(FCNTL, args),
    }
}

/// The call of the first i386 kernels: one pointer to five words.
pub(super) fn select(kernel: &mut Kernel, args: Args) -> SysResult {
    let mut bytes = [0; 20];
    kernel.read_user(VirtAddr::new(args[0]), &mut bytes)?;
    let args = std::array::from_fn(|index| bytes.get(index * 4..).map_or(0, first_word));
    newselect(kernel, args)
}

fn first_word(bytes: &[u8]) -> u64 {
    if bytes.len() < 4 { 0 } else { word(bytes, 0) }
}

pub(super) fn newselect(kernel: &mut Kernel, args: Args) -> SysResult {
    select_with(kernel, SELECT, args, TIME)
}

pub(super) fn pselect6(kernel: &mut Kernel, args: Args) -> SysResult {
    select_with(kernel, PSELECT6, args, TIME)
}

pub(super) fn pselect6_time64(kernel: &mut Kernel, args: Args) -> SysResult {
    select_with(kernel, PSELECT6, args, TIME_64)
}

/// A set of descriptors is an array of words of 32 bits, and no more of them than needed.
fn select_with(kernel: &mut Kernel, number: u16, args: Args, time: &'static Shape) -> SysResult {
    /// More descriptors than a process can have.
    const COUNT_MAX: u64 = 1 << 20;
    let count = args[0].min(COUNT_MAX);
    let set_bytes = count.div_ceil(32) as usize * 4;
    let mut native = args;
    let mut sets = Vec::new();
    for (argument, &target) in native[1..4].iter_mut().zip(&args[1..4]) {
        if target != 0 && (args[0] as i32) >= 0 {
            let mut bytes = vec![0; set_bytes];
            kernel.read_user(VirtAddr::new(target), &mut bytes)?;
            bytes.resize(set_bytes.next_multiple_of(8), 0);
            *argument = kernel.window.add(bytes);
            sets.push((target, *argument));
        }
    }
    let mut loans = Vec::new();
    if args[4] != 0 {
        native[4] = kernel.lend(args[4], time)?;
        loans.push(Loan { target: args[4], shape: time, place: native[4] });
    }
    if number == PSELECT6 && args[5] != 0 {
        native[5] = kernel.lend(args[5], MASK)?;
    }
    let result = kernel.call_native(number, native);
    for (target, place) in sets {
        if let Some(bytes) = kernel.window.take_written(place) {
            kernel.write_user(VirtAddr::new(target), &bytes[..set_bytes])?;
        }
    }
    kernel.give_back(&loans)?;
    result
}
