//! `epoll`: a list of files and events to wait for.
//!
//! # Source
//! man 7 `epoll`; Linux 6.12 `fs/eventpoll.c`.

use machine::VirtAddr;

use super::open::install;
use super::poll::{ALWAYS, ERR, HUP, IN, OUT};
use super::{low32, real_file};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{Device, FileId, Inherit, Interest, Moves, News, Opened, Share, flag};
use crate::syscall::Handler;
use crate::syscall::time::read_timespec;
use crate::wait::Channel;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        213 => sys_epoll_create,
        232 => sys_epoll_wait,
        233 => sys_epoll_ctl,
        281 => sys_epoll_pwait,
        291 => sys_epoll_create1,
        441 => sys_epoll_pwait2,
        _ => return None,
    })
}

const ONE_SHOT: u32 = 1 << 30;
const EDGE: u32 = 1 << 31;
const EXCLUSIVE: u32 = 1 << 28;
/// What may stand beside `EPOLLEXCLUSIVE`.
const EXCLUSIVE_ALLOWED: u32 = IN | OUT | ERR | HUP | EDGE | EXCLUSIVE | 1 << 29;
/// What an interest takes of our memory, bytes.
const INTEREST_BYTES: usize = 160;
/// Bytes of `struct epoll_event`, which is packed on x86-64.
const EVENT_BYTES: u64 = 12;
/// Most events that one call may ask for.
const EVENTS_MAX: u32 = 0x7fff_ffff / 12;
/// Most files in one epoll.
const INTERESTS_MAX: usize = 1 << 16;

fn sys_epoll_create(kernel: &mut Kernel, [size, ..]: [u64; 6]) -> SysResult {
    if low32(size).cast_signed() <= 0 {
        return Err(Errno::EINVAL);
    }
    sys_epoll_create1(kernel, [0; 6])
}

fn sys_epoll_create1(kernel: &mut Kernel, [flags, ..]: [u64; 6]) -> SysResult {
    let flags = low32(flags);
    if flags & !flag::CLOEXEC != 0 {
        return Err(Errno::EINVAL);
    }
    let file = kernel.vfs.open_epoll();
    let inherit = if flags & flag::CLOEXEC != 0 { Inherit::Close } else { Inherit::Keep };
    let limit = kernel.files_max();
    install(kernel, file, inherit, limit)
}

/// Whether a file tells when it is ready.
fn can_be_waited_for(opened: &Opened) -> bool {
    match opened {
        Opened::Regular(_) | Opened::Directory { .. } => false,
        Opened::Device { device, .. } => !matches!(
            device,
            Device::Null | Device::Zero | Device::Full | Device::Urandom | Device::TestMemory
        ),
        _ => true,
    }
}

fn sys_epoll_ctl(kernel: &mut Kernel, [epoll, operation, fd, event, ..]: [u64; 6]) -> SysResult {
    const ADD: u32 = 1;
    const DELETE: u32 = 2;
    const CHANGE: u32 = 3;
    let operation = low32(operation);
    let mut bytes = [0; 12];
    if operation != DELETE {
        kernel.read_user(VirtAddr::new(event), &mut bytes)?;
    }
    let events = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let [.., a, b, c, d, e, f, g, h] = bytes;
    let data = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    let id = real_file(kernel, epoll)?;
    let file = real_file(kernel, fd)?;
    if !can_be_waited_for(&kernel.vfs.file(file).opened) {
        return Err(Errno::EPERM);
    }
    if id == file {
        return Err(Errno::EINVAL);
    }
    let is_nested = matches!(kernel.vfs.file(file).opened, Opened::Epoll(_));
    if events & EXCLUSIVE != 0 && operation != DELETE {
        let is_known = events & !EXCLUSIVE_ALLOWED == 0;
        if operation == CHANGE || is_nested || !is_known {
            return Err(Errno::EINVAL);
        }
    }
    if operation == ADD && is_nested {
        kernel.check_nesting(file, id)?;
    }
    let fd = low32(fd);
    kernel.vfs.tell(News::File(id));
    let share = Share::of(&kernel.vfs.pool, if operation == ADD { INTEREST_BYTES } else { 0 });
    let Opened::Epoll(interests) = &mut kernel.vfs.file_mut(id).opened else {
        return Err(Errno::EINVAL);
    };
    let known = interests.iter().position(|known| known.fd == fd && known.file == file);
    match (operation, known) {
        (ADD, Some(_)) => return Err(Errno::EEXIST),
        (ADD, None) if interests.len() >= INTERESTS_MAX => return Err(Errno::ENOSPC),
        (ADD, None) => {
            let share = share.map_err(|_| Errno::ENOSPC)?;
            let (is_told, seen) = (false, None);
            interests.push(Interest { fd, file, events, data, is_told, seen, _share: share });
            return kernel.watch(id, file);
        }
        (DELETE | CHANGE, None) => return Err(Errno::ENOENT),
        (DELETE, Some(index)) => {
            interests.remove(index);
            kernel.unwatch(id, file);
        }
        (CHANGE, Some(index)) if interests[index].events & EXCLUSIVE != 0 => {
            return Err(Errno::EINVAL);
        }
        (CHANGE, Some(index)) => {
            let known = &mut interests[index];
            (known.events, known.data, known.is_told, known.seen) = (events, data, false, None);
        }
        _ => return Err(Errno::EINVAL),
    }
    Ok(0)
}

fn sys_epoll_wait(kernel: &mut Kernel, [epoll, events, count, timeout, ..]: [u64; 6]) -> SysResult {
    wait(kernel, epoll, events, count, milliseconds(timeout))
}

fn sys_epoll_pwait(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [epoll, events, count, timeout, mask, mask_bytes] = args;
    kernel.swap_mask(mask, mask_bytes)?;
    let result = wait(kernel, epoll, events, count, milliseconds(timeout));
    kernel.restore_mask();
    result
}

fn sys_epoll_pwait2(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [epoll, events, count, time, mask, mask_bytes] = args;
    let timeout = if time == 0 { None } else { Some(read_timespec(kernel, time)?) };
    kernel.swap_mask(mask, mask_bytes)?;
    let result = wait(kernel, epoll, events, count, timeout);
    kernel.restore_mask();
    result
}

fn milliseconds(timeout: u64) -> Option<u64> {
    u64::try_from(low32(timeout).cast_signed()).ok().map(|ms| ms * 1_000_000)
}

fn wait(kernel: &mut Kernel, epoll: u64, addr: u64, count: u64, timeout: Option<u64>) -> SysResult {
    let id = real_file(kernel, epoll)?;
    let count = low32(count);
    if count.cast_signed() <= 0 || count > EVENTS_MAX {
        return Err(Errno::EINVAL);
    }
    let Opened::Epoll(interests) = &kernel.vfs.file(id).opened else {
        return Err(Errno::EINVAL);
    };
    // Also the epoll itself: another task may add what is ready.
    let mut channels = vec![Channel::File(id)];
    for interest in interests {
        channels.extend(kernel.channels_of(interest.file, interest.events));
    }
    let answer = kernel.wait_ready(timeout, &channels, |kernel| {
        let ready = take_ready(kernel, id, count);
        (!ready.is_empty()).then_some(ready)
    })?;
    let ready = answer.unwrap_or_default();
    for (index, (events, data)) in (0..).zip(&ready) {
        let mut bytes = [0; 12];
        bytes[..4].copy_from_slice(&events.to_le_bytes());
        bytes[4..].copy_from_slice(&data.to_le_bytes());
        kernel.write_user(VirtAddr::new(addr.wrapping_add(index * EVENT_BYTES)), &bytes)?;
    }
    Ok(ready.len() as u64)
}

/// Up to `count` events that have come; one-shot and edge interests are told once.
fn take_ready(kernel: &mut Kernel, id: FileId, count: u32) -> Vec<(u32, u64)> {
    let Opened::Epoll(interests) = &mut kernel.vfs.file_mut(id).opened else { return Vec::new() };
    let mut interests = std::mem::take(interests);
    let mut ready = Vec::new();
    let room = usize::try_from(count).unwrap_or(0);
    for interest in &mut interests {
        let told = kernel.fires(interest);
        if told == 0 {
            if kernel.ready_events(interest.file) & (interest.events | ALWAYS) == 0 {
                // An edge: what is not ready now will be news when it is.
                interest.seen = None;
            }
            continue;
        }
        if ready.len() >= room {
            continue;
        }
        ready.push((told & (interest.events | ERR | HUP), interest.data));
        interest.is_told = interest.events & ONE_SHOT != 0;
        interest.seen = Some(kernel.vfs.moves_of(interest.file));
    }
    if let Opened::Epoll(held) = &mut kernel.vfs.file_mut(id).opened {
        *held = interests;
    }
    ready
}

impl Kernel {
    /// Notes that the epoll has a first or further interest in the file, which it holds already.
    ///
    /// # Errors
    /// `EINVAL`: events would have to go too many ways; the interest is gone again.
    fn watch(&mut self, epoll: FileId, file: FileId) -> SysResult {
        self.vfs.file_mut(file).watchers.insert(epoll);
        let is_flat = self.vfs.file(epoll).watchers.is_empty()
            && !matches!(self.vfs.file(file).opened, Opened::Epoll(_));
        let checked = if is_flat { Ok(()) } else { self.check_paths(file) };
        if checked.is_err()
            && let Opened::Epoll(interests) = &mut self.vfs.file_mut(epoll).opened
        {
            interests.pop();
            self.unwatch(epoll, file);
        }
        checked.map(|()| 0)
    }

    /// Notes that the epoll has one interest in the file less.
    fn unwatch(&mut self, epoll: FileId, file: FileId) {
        let Opened::Epoll(interests) = &self.vfs.file(epoll).opened else { return };
        if interests.iter().all(|other| other.file != file) {
            self.vfs.file_mut(file).watchers.remove(&epoll);
        }
    }

    /// The events that an interest has to tell now.
    pub(super) fn fires(&self, interest: &Interest) -> u32 {
        if interest.is_told {
            return 0;
        }
        let told = self.ready_events(interest.file) & (interest.events | ALWAYS);
        let Some(seen) = interest.seen.filter(|_| interest.events & EDGE != 0) else {
            return told;
        };
        let now: Moves = self.vfs.moves_of(interest.file);
        let came = seen[0] != now[0] && told & !OUT != 0;
        let has_room = seen[1] != now[1] && told & OUT != 0;
        if came || has_room { told } else { 0 }
    }
}
