//! Calls about signals whose arguments are put together differently, and `siginfo_t`.
//!
//! # Source
//! Linux 6.12 `kernel/signal.c`, `include/linux/compat.h:compat_siginfo`.

use machine::VirtAddr;

use super::shape::{self, SIGACTION, Shape, TIME, TIME_64};
use super::{Args, word};
use crate::Kernel;
use crate::errno::{Errno, SysResult};

const RT_SIGACTION: u16 = 13;
const RT_SIGPENDING: u16 = 127;
const RT_SIGTIMEDWAIT: u16 = 128;
const RT_SIGQUEUEINFO: u16 = 129;
const RT_SIGSUSPEND: u16 = 130;
const RT_TGSIGQUEUEINFO: u16 = 297;
const SET_BYTES: u64 = 8;
/// `SA_RESETHAND` and `SA_NODEFER`.
const ONE_SHOT: u64 = 0xc000_0000;

/// Changes an action, both in the 32-bit form of `rt_sigaction`; returns the old one.
fn change(kernel: &mut Kernel, signal: u64, new: Option<Vec<u8>>) -> Result<Vec<u8>, Errno> {
    let new = new.map_or(0, |bytes| kernel.window.add(shape::widen(SIGACTION, &bytes)));
    let old = kernel.window.add(vec![0; shape::bytes_64(SIGACTION)]);
    kernel.call_native(RT_SIGACTION, [signal, new, old, SET_BYTES, 0, 0])?;
    shape::narrow(SIGACTION, &kernel.window.take_written(old).unwrap_or_default())
}

pub(super) fn rt_sigaction(kernel: &mut Kernel, args: Args) -> SysResult {
    let [signal, new, old, set_bytes, ..] = args;
    if set_bytes != SET_BYTES {
        return Err(Errno::EINVAL);
    }
    let bytes = read_block::<20>(kernel, new)?;
    let before = change(kernel, signal, bytes)?;
    if old != 0 {
        kernel.write_user(VirtAddr::new(old), &before)?;
    }
    Ok(0)
}

/// A block of the program's memory, if it names one.
fn read_block<const BYTES: usize>(
    kernel: &mut Kernel,
    addr: u64,
) -> Result<Option<Vec<u8>>, Errno> {
    if addr == 0 {
        return Ok(None);
    }
    let mut bytes = [0; BYTES];
    kernel.read_user(VirtAddr::new(addr), &mut bytes)?;
    Ok(Some(bytes.to_vec()))
}

/// The call of the first kernels: handler, mask of 32 bits, flags, restorer.
pub(super) fn sigaction(kernel: &mut Kernel, [signal, new, old, ..]: Args) -> SysResult {
    let order = |bytes: &[u8]| [&bytes[..4], &bytes[8..16], &bytes[4..8], &[0; 4]].concat();
    let bytes = read_block::<16>(kernel, new)?.map(|bytes| order(&bytes));
    let before = change(kernel, signal, bytes)?;
    if old != 0 {
        let told = [&before[..4], &before[12..16], &before[4..12]].concat();
        kernel.write_user(VirtAddr::new(old), &told)?;
    }
    Ok(0)
}

pub(super) fn signal(kernel: &mut Kernel, [signal, handler, ..]: Args) -> SysResult {
    let words = [handler as u32, ONE_SHOT as u32, 0, 0, 0];
    let before = change(kernel, signal, Some(words.map(u32::to_le_bytes).concat()))?;
    Ok(word(&before, 0))
}

pub(super) fn sgetmask(kernel: &mut Kernel, _args: Args) -> SysResult {
    Ok(kernel.task.signals.mask & 0xffff_ffff)
}

pub(super) fn ssetmask(kernel: &mut Kernel, args: Args) -> SysResult {
    let before = kernel.task.signals.mask;
    kernel.set_mask(args[0]);
    Ok(before & 0xffff_ffff)
}

/// Sets of 32 signals; the others stay as they are.
pub(super) fn sigprocmask(kernel: &mut Kernel, [how, new, old, ..]: Args) -> SysResult {
    let before = kernel.task.signals.mask;
    if new != 0 {
        let set = u64::from(kernel.read_user_u32(VirtAddr::new(new))?);
        let mask = match how {
            0 => before | set,
            1 => before & !set,
            2 => before & !0xffff_ffff | set,
            _ => return Err(Errno::EINVAL),
        };
        kernel.set_mask(mask);
    }
    if old != 0 {
        kernel.write_user_u32(VirtAddr::new(old), before as u32)?;
    }
    Ok(0)
}

pub(super) fn sigpending(kernel: &mut Kernel, args: Args) -> SysResult {
    let place = kernel.window.add(vec![0; 8]);
    kernel.call_native(RT_SIGPENDING, [place, SET_BYTES, 0, 0, 0, 0])?;
    let bytes = kernel.window.take_written(place).unwrap_or_default();
    kernel.write_user(VirtAddr::new(args[0]), &bytes[..bytes.len().min(4)])?;
    Ok(0)
}

/// The set is the third argument itself.
pub(super) fn sigsuspend(kernel: &mut Kernel, args: Args) -> SysResult {
    let place = kernel.window.add(args[2].to_le_bytes().to_vec());
    kernel.call_native(RT_SIGSUSPEND, [place, SET_BYTES, 0, 0, 0, 0])
}

pub(super) fn rt_sigtimedwait(kernel: &mut Kernel, args: Args) -> SysResult {
    wait_for(kernel, args, TIME)
}

pub(super) fn rt_sigtimedwait_time64(kernel: &mut Kernel, args: Args) -> SysResult {
    wait_for(kernel, args, TIME_64)
}

fn wait_for(kernel: &mut Kernel, args: Args, shape: &'static Shape) -> SysResult {
    let [set, info, time, set_bytes, ..] = args;
    let time = if time == 0 { 0 } else { kernel.lend(time, shape)? };
    let place = kernel.window.add(vec![0; 128]);
    let signal = kernel.call_native(RT_SIGTIMEDWAIT, [set, place, time, set_bytes, 0, 0])?;
    let bytes = kernel.window.take_written(place).unwrap_or_default();
    if let (true, Some(bytes)) = (info != 0, bytes.first_chunk()) {
        kernel.write_user(VirtAddr::new(info), &narrow_info(bytes))?;
    }
    Ok(signal)
}

pub(super) fn rt_sigqueueinfo(kernel: &mut Kernel, args: Args) -> SysResult {
    let [pid, signal, info, ..] = args;
    let info = lend_info(kernel, info)?;
    kernel.call_native(RT_SIGQUEUEINFO, [pid, signal, info, 0, 0, 0])
}

pub(super) fn rt_tgsigqueueinfo(kernel: &mut Kernel, args: Args) -> SysResult {
    let [pid, tid, signal, info, ..] = args;
    let info = lend_info(kernel, info)?;
    kernel.call_native(RT_TGSIGQUEUEINFO, [pid, tid, signal, info, 0, 0])
}

/// The `siginfo_t` that a program made up, in its 64-bit form.
fn lend_info(kernel: &mut Kernel, addr: u64) -> SysResult {
    let mut bytes = [0; 128];
    kernel.read_user(VirtAddr::new(addr), &mut bytes)?;
    let mut wide = vec![0; 128];
    wide[..12].copy_from_slice(&bytes[..12]);
    wide[16..24].copy_from_slice(&bytes[12..20]);
    wide[24..28].copy_from_slice(&bytes[20..24]);
    Ok(kernel.window.add(wide))
}

/// `siginfo_t` with words of 32 bits.
///
/// The members behind the first three words lie without a gap; the only word that is wider in the
/// 64-bit form is the address of a fault, the value of a sender and the times of a child.
pub(super) fn narrow_info(bytes: &[u8; 128]) -> [u8; 128] {
    const SIGCHLD: u64 = 17;
    let (signal, code) = (word(bytes, 0), word(bytes, 8) as i32);
    let mut told = [0; 128];
    told[..12].copy_from_slice(&bytes[..12]);
    told[12..24].copy_from_slice(&bytes[16..28]);
    let is_fault = matches!(signal, 4 | 5 | 7 | 8 | 11) && code > 0 && code < 0x80;
    if is_fault {
        told[16..24].fill(0);
    }
    if signal == SIGCHLD && code > 0 {
        // si_utime and si_stime.
        told[24..28].copy_from_slice(&bytes[32..36]);
        told[28..32].copy_from_slice(&bytes[40..44]);
    }
    told
}
