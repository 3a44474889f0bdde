//! `stat` in its i386 forms: fields of other sizes in another order.
//!
//! # Source
//! Linux 6.12 `arch/x86/include/asm/compat.h:compat_stat`, `arch/x86/include/uapi/asm/stat.h`.

use machine::VirtAddr;

use super::shape::{self, STATFS_64};
use super::{Args, wide};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::file::SMALL_FILE_BYTES_MAX;

const STAT: u16 = 4;
const FSTAT: u16 = 5;
const LSTAT: u16 = 6;
const STATFS_NATIVE: u16 = 137;
const FSTATFS: u16 = 138;
const NEWFSTATAT: u16 = 262;

/// Bytes of `struct stat` of x86-64.
const NATIVE_BYTES: usize = 144;

type Encode = fn(&[u8]) -> Result<Vec<u8>, Errno>;

pub(super) fn stat(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, STAT, args, 1, small)
}

pub(super) fn lstat(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, LSTAT, args, 1, small)
}

pub(super) fn fstat(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, FSTAT, args, 1, small)
}

pub(super) fn oldstat(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, STAT, args, 1, oldest)
}

pub(super) fn oldlstat(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, LSTAT, args, 1, oldest)
}

pub(super) fn oldfstat(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, FSTAT, args, 1, oldest)
}

pub(super) fn stat64(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, STAT, args, 1, large)
}

pub(super) fn lstat64(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, LSTAT, args, 1, large)
}

pub(super) fn fstat64(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, FSTAT, args, 1, large)
}

pub(super) fn fstatat64(kernel: &mut Kernel, args: Args) -> SysResult {
    told(kernel, NEWFSTATAT, args, 2, large)
}

/// Calls `number` with a window as argument `index`, and writes what it says as `encode` has it.
fn told(kernel: &mut Kernel, number: u16, args: Args, index: usize, encode: Encode) -> SysResult {
    let mut native = args;
    native[index] = kernel.window.add(vec![0; NATIVE_BYTES]);
    let result = kernel.call_native(number, native)?;
    let bytes = kernel.window.take_written(native[index]).unwrap_or_default();
    kernel.write_user(VirtAddr::new(args[index]), &encode(&bytes)?)?;
    Ok(result)
}

/// `value`, if it is at most `most`.
fn fits(value: u64, most: u64) -> Result<u64, Errno> {
    if value > most { Err(Errno::EOVERFLOW) } else { Ok(value) }
}

/// `struct __old_kernel_stat`, 32 bytes.
fn oldest(bytes: &[u8]) -> Result<Vec<u8>, Errno> {
    let word = |at| wide(bytes, at);
    let inode = fits(word(8), u16::MAX.into())?;
    let links = fits(word(16), u16::MAX.into())?;
    let size = fits(word(48), SMALL_FILE_BYTES_MAX)?;
    let [uid, gid] = [28, 32].map(|at| super::process::id_16(word(at) as u32));
    let [mode, device, special] = [24, 0, 40].map(|at| word(at) as u16);
    let halves = [device, inode as u16, mode, links as u16, uid, gid, special, 0];
    let mut oldest = halves.map(u16::to_le_bytes).concat();
    let rest = [size, word(72), word(88), word(104)];
    oldest.extend(rest.map(|value| (value as u32).to_le_bytes()).concat());
    Ok(oldest)
}

/// `struct stat`, 64 bytes.
fn small(bytes: &[u8]) -> Result<Vec<u8>, Errno> {
    let word = |at| wide(bytes, at);
    let (mode, uid, gid) = (word(24) as u32, word(28) as u32, word(32) as u32);
    let inode = fits(word(8), u32::MAX.into())?;
    let links = fits(word(16), u16::MAX.into())?;
    let size = fits(word(48), SMALL_FILE_BYTES_MAX)?;
    let mut small = Vec::with_capacity(64);
    small.extend([word(0) as u32, inode as u32].map(u32::to_le_bytes).concat());
    let halves =
        [mode as u16, links as u16, super::process::id_16(uid), super::process::id_16(gid)];
    small.extend(halves.map(u16::to_le_bytes).concat());
    let rest = [word(40), size, word(56), word(64), word(72), word(80), word(88), word(96)];
    for value in rest.into_iter().chain([word(104), word(112), 0, 0]) {
        small.extend((value as u32).to_le_bytes());
    }
    Ok(small)
}

/// `struct stat64`, 96 bytes.
fn large(bytes: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut large = vec![0; 96];
    let mut put = |at: usize, value: u64, bytes: usize| {
        large[at..at + bytes].copy_from_slice(&value.to_le_bytes()[..bytes]);
    };
    let word = |at| wide(bytes, at);
    put(0, word(0), 8);
    put(12, word(8), 4);
    for (at, from) in [(16, 24), (20, 16), (24, 28), (28, 32)] {
        put(at, word(from), 4);
    }
    put(32, word(40), 8);
    put(44, word(48), 8);
    put(52, word(56), 4);
    put(56, word(64), 8);
    for (index, from) in (72..=112).step_by(8).enumerate() {
        put(64 + index * 4, word(from), 4);
    }
    put(88, word(8), 8);
    Ok(large)
}

/// The second argument is the size of the structure.
pub(super) fn statfs64(kernel: &mut Kernel, args: Args) -> SysResult {
    large_statfs(kernel, STATFS_NATIVE, args)
}

pub(super) fn fstatfs64(kernel: &mut Kernel, args: Args) -> SysResult {
    large_statfs(kernel, FSTATFS, args)
}

fn large_statfs(kernel: &mut Kernel, number: u16, [what, bytes, buffer, ..]: Args) -> SysResult {
    let size = shape::bytes_32(STATFS_64);
    // A program may also take the size rounded up to words of 64 bits.
    if bytes != size as u64 && bytes != size as u64 + 4 {
        return Err(Errno::EINVAL);
    }
    const KINDS: &[super::Arg] = &[super::Arg::Word, super::Arg::Out(STATFS_64)];
    kernel.call_with(number, [what, buffer, 0, 0, 0, 0], KINDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_or_cut_as_on_linux() {
        let mut bytes = vec![0; NATIVE_BYTES];
        bytes[8] = 7;
        bytes[24..28].copy_from_slice(&0o100_644_u32.to_le_bytes());
        bytes[28..32].copy_from_slice(&100_000_u32.to_le_bytes());
        bytes[48..56].copy_from_slice(&SMALL_FILE_BYTES_MAX.to_le_bytes());
        let told = small(&bytes).expect("it fits");
        assert_eq!((told.len(), &told[12..14]), (64, &65_534_u16.to_le_bytes()[..]));
        bytes[48..56].copy_from_slice(&(SMALL_FILE_BYTES_MAX + 1).to_le_bytes());
        assert_eq!(small(&bytes), Err(Errno::EOVERFLOW));
        let told = large(&bytes).expect("it always fits");
        assert_eq!((told.len(), told[12], told[88], &told[44..52]), (96, 7, 7, &bytes[48..56]));
    }
}
