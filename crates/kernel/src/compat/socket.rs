//! Calls about sockets: `socketcall`, and messages, whose heads and control data are made of words.
//!
//! # Source
//! Linux 6.12 `net/compat.c`.

use machine::VirtAddr;

use super::Arg::{self, In, Word};
use super::shape::{self, Shape, TIME, TIME_64};
use super::{Args, word};
use crate::Kernel;
use crate::errno::{Errno, SysResult};

const SENDTO: u16 = 44;
const RECVFROM: u16 = 45;
const SENDMSG: u16 = 46;
const RECVMSG: u16 = 47;
const SETSOCKOPT: u16 = 54;
const GETSOCKOPT: u16 = 55;
const RECVMMSG: u16 = 299;
const SENDMMSG: u16 = 307;

const SOL_SOCKET: u64 = 1;
const SO_PASSCRED: u64 = 16;
/// `SO_RCVTIMEO_OLD` and `SO_SNDTIMEO_OLD`.
const SO_TIMEOUTS: std::ops::RangeInclusive<u64> = 20..=21;

/// Bytes of `struct msghdr` in both forms.
const HEAD_BYTES: usize = 28;
const NATIVE_HEAD_BYTES: usize = 56;
/// Bytes of `struct mmsghdr`.
const MANY_BYTES: u64 = 32;
const NATIVE_MANY_BYTES: u64 = 64;
const MANY_MAX: u64 = 1024;
/// Bytes of `struct cmsghdr`.
const CONTROL_BYTES: usize = 12;
const NATIVE_CONTROL_BYTES: usize = 16;
/// Longer control data is refused anyway.
const CONTROL_MAX: u64 = 1 << 16;

/// Calls of `socketcall` that are those of 64-bit programs, by number, and how many words each
/// takes; the others are done by name.
const CALLS: [(u16, usize); 21] = [
    (0, 0),
    (41, 3),
    (49, 3),
    (42, 3),
    (50, 2),
    (43, 3),
    (51, 3),
    (52, 3),
    (53, 4),
    (SENDTO, 4),
    (RECVFROM, 4),
    (SENDTO, 6),
    (RECVFROM, 6),
    (48, 2),
    (SETSOCKOPT, 5),
    (GETSOCKOPT, 5),
    (SENDMSG, 3),
    (RECVMSG, 3),
    (288, 4),
    (RECVMMSG, 5),
    (SENDMMSG, 4),
];

pub(super) fn socketcall(kernel: &mut Kernel, [call, list, ..]: Args) -> SysResult {
    let place = usize::try_from(call).ok().filter(|&place| place != 0);
    let &(number, count) = place.and_then(|place| CALLS.get(place)).ok_or(Errno::EINVAL)?;
    let mut bytes = [0; 24];
    kernel.read_user(VirtAddr::new(list), &mut bytes[..count * 4])?;
    let args = std::array::from_fn(|index| word(&bytes, index * 4));
    match number {
        SETSOCKOPT => setsockopt(kernel, args),
        GETSOCKOPT => getsockopt(kernel, args),
        SENDMSG => sendmsg(kernel, args),
        RECVMSG => recvmsg(kernel, args),
        RECVMMSG => recvmmsg(kernel, args),
        SENDMMSG => sendmmsg(kernel, args),
        _ => kernel.call_native(number, args),
    }
}

/// A message head of the program, and its form in the window.
struct Head {
    addr: u64,
    control: u64,
    control_bytes: u64,
    native: Vec<u8>,
    native_control: u64,
}

/// Which way the control data goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Out,
    In,
}

impl Head {
    fn read(kernel: &mut Kernel, fd: u64, addr: u64, way: Way) -> Result<Self, Errno> {
        let mut bytes = [0; HEAD_BYTES];
        kernel.read_user(VirtAddr::new(addr), &mut bytes)?;
        let words: [u64; 7] = std::array::from_fn(|index| word(&bytes, index * 4));
        let [name, name_bytes, vector, count, control, control_bytes, flags] = words;
        if count > MANY_MAX {
            return Err(Errno::EMSGSIZE);
        }
        let vector = kernel.lend_vectors(vector, count)?;
        let wide = match way {
            Way::Out if control != 0 => widen_control(kernel, control, control_bytes)?,
            Way::In if control != 0 => vec![0; room_for(kernel, fd, control_bytes)],
            _ => Vec::new(),
        };
        let native_bytes = wide.len() as u64;
        let native_control = if control == 0 { 0 } else { kernel.window.add(wide) };
        let native = [name, name_bytes, vector, count, native_control, native_bytes, flags];
        let native = native.iter().flat_map(|word| word.to_le_bytes()).collect();
        Ok(Self { addr, control, control_bytes, native, native_control })
    }

    /// Writes what a receiving call has put into the native head `told`.
    fn give_back(&self, kernel: &mut Kernel, told: &[u8]) -> Result<(), Errno> {
        let bytes = word(told, 40) as usize;
        let held = kernel.window.take_written(self.native_control).unwrap_or_default();
        let room = usize::try_from(self.control_bytes).unwrap_or(0);
        let slim = narrow_control(&held[..bytes.min(held.len())], room);
        kernel.write_user(VirtAddr::new(self.control), &slim)?;
        kernel.write_user(VirtAddr::new(self.addr + 4), &told[8..12])?;
        kernel.write_user_u32(VirtAddr::new(self.addr + 20), slim.len() as u32)?;
        kernel.write_user(VirtAddr::new(self.addr + 24), &told[48..52])
    }
}

/// Room for as many control messages as fit the program's own room, whose heads are smaller.
fn room_for(kernel: &mut Kernel, fd: u64, bytes: u64) -> usize {
    let bytes = usize::try_from(bytes.min(CONTROL_MAX)).unwrap_or(0);
    let wants_sender = kernel.window.add(vec![0; 4]);
    let length = kernel.window.add(4_u32.to_le_bytes().to_vec());
    let args = [fd, SOL_SOCKET, SO_PASSCRED, wants_sender, length, 0];
    let asked = kernel.call_native(GETSOCKOPT, args);
    let told = kernel.window.take_written(wants_sender).unwrap_or_default();
    let has_sender = asked.is_ok() && told.iter().any(|&byte| byte != 0);
    match bytes {
        0 => 0,
        // Credentials take 32 bytes and not 24, of which the last four of 32 mean nothing.
        bytes if has_sender && bytes >= 24 => bytes + 8 + 4,
        bytes => bytes + 4,
    }
}

/// Control data with heads of 64-bit words.
fn widen_control(kernel: &mut Kernel, addr: u64, bytes: u64) -> Result<Vec<u8>, Errno> {
    if bytes > CONTROL_MAX {
        return Err(Errno::ENOBUFS);
    }
    let mut held = vec![0; bytes as usize];
    kernel.read_user(VirtAddr::new(addr), &mut held)?;
    let mut wide = Vec::new();
    let mut rest = &held[..];
    while rest.len() >= CONTROL_BYTES {
        let length = word(rest, 0) as usize;
        if length < CONTROL_BYTES || length > rest.len() {
            return Err(Errno::EINVAL);
        }
        let data = &rest[CONTROL_BYTES..length];
        wide.extend(((NATIVE_CONTROL_BYTES + data.len()) as u64).to_le_bytes());
        wide.extend(&rest[4..length]);
        wide.resize(wide.len().next_multiple_of(8), 0);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    Ok(wide)
}

/// Control data with heads of 32-bit words, at most `room` bytes.
fn narrow_control(bytes: &[u8], room: usize) -> Vec<u8> {
    let mut slim = Vec::new();
    let mut rest = bytes;
    while rest.len() >= NATIVE_CONTROL_BYTES {
        let length = (word(rest, 0) as usize).clamp(NATIVE_CONTROL_BYTES, rest.len());
        let data = &rest[NATIVE_CONTROL_BYTES..length];
        slim.extend(((CONTROL_BYTES + data.len()) as u32).to_le_bytes());
        slim.extend(&rest[8..length]);
        slim.resize(slim.len().next_multiple_of(4), 0);
        rest = rest.get(length.next_multiple_of(8)..).unwrap_or(&[]);
    }
    slim.truncate(room);
    slim
}

pub(super) fn sendmsg(kernel: &mut Kernel, [fd, head, flags, ..]: Args) -> SysResult {
    let head = Head::read(kernel, fd, head, Way::Out)?;
    let place = kernel.window.add(head.native);
    kernel.call_native(SENDMSG, [fd, place, flags, 0, 0, 0])
}

pub(super) fn recvmsg(kernel: &mut Kernel, [fd, head, flags, ..]: Args) -> SysResult {
    let mut head = Head::read(kernel, fd, head, Way::In)?;
    let place = kernel.window.add(std::mem::take(&mut head.native));
    let count = kernel.call_native(RECVMSG, [fd, place, flags, 0, 0, 0])?;
    let told = kernel.window.take_written(place).unwrap_or(vec![0; NATIVE_HEAD_BYTES]);
    head.give_back(kernel, &told)?;
    Ok(count)
}

pub(super) fn sendmmsg(kernel: &mut Kernel, [fd, heads, count, flags, ..]: Args) -> SysResult {
    many(kernel, SENDMMSG, [fd, heads, count, flags, 0, 0], Way::Out)
}

pub(super) fn recvmmsg(kernel: &mut Kernel, args: Args) -> SysResult {
    timed_recvmmsg(kernel, args, TIME)
}

pub(super) fn recvmmsg_time64(kernel: &mut Kernel, args: Args) -> SysResult {
    timed_recvmmsg(kernel, args, TIME_64)
}

fn timed_recvmmsg(kernel: &mut Kernel, args: Args, shape: &'static Shape) -> SysResult {
    let mut args = args;
    if args[4] != 0 {
        args[4] = kernel.lend(args[4], shape)?;
    }
    many(kernel, RECVMMSG, args, Way::In)
}

/// Several messages at once.
fn many(kernel: &mut Kernel, number: u16, args: Args, way: Way) -> SysResult {
    let [fd, addr, count, flags, time, _] = args;
    let mut heads = Vec::new();
    let mut native = Vec::new();
    for index in 0..count.min(MANY_MAX) {
        let head = match Head::read(kernel, fd, addr.wrapping_add(index * MANY_BYTES), way) {
            Ok(head) => head,
            // Those before it are sent.
            Err(_) if index > 0 => break,
            Err(errno) => return Err(errno),
        };
        native.extend(&head.native);
        native.extend([0; 8]);
        heads.push(head);
    }
    let place = kernel.window.add(native);
    let length = heads.len() as u64;
    let done = kernel.call_native(number, [fd, place, length, flags, time, 0])?;
    let told = kernel.window.take_written(place).unwrap_or_default();
    let blocks = told.chunks_exact(NATIVE_MANY_BYTES as usize);
    for (head, block) in heads.iter().zip(blocks).take(usize::try_from(done).unwrap_or(0)) {
        if way == Way::In {
            head.give_back(kernel, block)?;
        }
        kernel.write_user(VirtAddr::new(head.addr + HEAD_BYTES as u64), &block[56..60])?;
    }
    Ok(done)
}

/// Whether an option is a time in words of the program's size.
fn is_timeout(level: u64, option: u64) -> bool {
    level == SOL_SOCKET && SO_TIMEOUTS.contains(&option)
}

pub(super) fn setsockopt(kernel: &mut Kernel, args: Args) -> SysResult {
    let [fd, level, option, value, length, _] = args;
    if !is_timeout(level, option) {
        return kernel.call_native(SETSOCKOPT, args);
    }
    if (length as usize) < shape::bytes_32(TIME) {
        return Err(Errno::EINVAL);
    }
    const KINDS: &[Arg] = &[Word, Word, Word, In(TIME)];
    let bytes = shape::bytes_64(TIME) as u64;
    kernel.call_with(SETSOCKOPT, [fd, level, option, value, bytes, 0], KINDS)
}

pub(super) fn getsockopt(kernel: &mut Kernel, args: Args) -> SysResult {
    let [fd, level, option, value, length, _] = args;
    if !is_timeout(level, option) {
        return kernel.call_native(GETSOCKOPT, args);
    }
    let room = kernel.read_user_u32(VirtAddr::new(length))?;
    let place = kernel.window.add(vec![0; shape::bytes_64(TIME)]);
    let native_length = kernel.window.add(16_u32.to_le_bytes().to_vec());
    kernel.call_native(GETSOCKOPT, [fd, level, option, place, native_length, 0])?;
    let told = kernel.window.take_written(place).unwrap_or_default();
    let mut slim = shape::narrow(TIME, &told)?;
    slim.truncate(usize::try_from(room).unwrap_or(usize::MAX));
    kernel.write_user(VirtAddr::new(value), &slim)?;
    kernel.write_user_u32(VirtAddr::new(length), slim.len() as u32)?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_data_keeps_its_messages() {
        let mut wide = 20_u64.to_le_bytes().to_vec();
        wide.extend([1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0]);
        let slim = narrow_control(&wide, 100);
        assert_eq!(slim, [16, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0]);
        assert_eq!(narrow_control(&wide, 14).len(), 14);
        assert_eq!(narrow_control(&wide[..15], 100), []);
    }
}
