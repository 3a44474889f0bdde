//! Waiting until a file can be read or written: `poll`, `select` and their relatives.
//!
//! A task sleeps on all its files at once and looks at them again when one has news. Standard
//! streams wait on the host, when no task can run.
//!
//! # Source
//! man 2 `poll`, `select`; Linux 6.12 `fs/select.c`.

use machine::VirtAddr;
use rustix::event::{self, PollFd, PollFlags, Timespec};

use super::low32;
use super::terminal::pseudo_terminal;
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{Device, FileId, Opened, SocketState, Stream, TerminalEnd};
use crate::signal::UNBLOCKABLE;
use crate::syscall::Handler;
use crate::syscall::time::{read_timespec, read_timeval, write_timespec};
use crate::task::State;
use crate::wait::{Channel, Interrupted};

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        7 => sys_poll,
        23 => sys_select,
        270 => sys_pselect6,
        271 => sys_ppoll,
        _ => return None,
    })
}

const NS_PER_MS: u64 = 1_000_000;

pub(super) const IN: u32 = 0x1;
pub(super) const OUT: u32 = 0x4;
pub(super) const ERR: u32 = 0x8;
pub(super) const HUP: u32 = 0x10;
const NVAL: u32 = 0x20;
const PRI: u32 = 0x2;
const READ_NORMAL: u32 = 0x40;
const WRITE_NORMAL: u32 = 0x100;
const WRITE_BAND: u32 = 0x200;
pub(super) const READ_HUP: u32 = 0x2000;
const READABLE: u32 = IN | READ_NORMAL;
const WRITABLE: u32 = OUT | WRITE_NORMAL;
/// What is told whether or not it is asked for.
pub(super) const ALWAYS: u32 = ERR | HUP | NVAL;

impl Kernel {
    /// What can be done with an open file without waiting, as poll bits.
    pub(super) fn ready_events(&self, file: FileId) -> u32 {
        match &self.vfs.file(file).opened {
            Opened::Regular(_) | Opened::Directory { .. } | Opened::Proc { .. } => {
                READABLE | WRITABLE
            }
            Opened::Device { device, .. } => match (device.stream(), pseudo_terminal(*device)) {
                (Some(stream), _) => stream_events(stream),
                (None, Some(end)) => self.terminal_events(end),
                (None, None) => READABLE | WRITABLE,
            },
            Opened::Pipe(node) => {
                let Some(pipe) = self.vfs.pipe(*node) else { return 0 };
                let open = self.vfs.file(file);
                let mut events = 0;
                if open.can_read() {
                    events |= if pipe.held_bytes() > 0 { READABLE } else { 0 };
                    // A FIFO is not hung up before its first writer has come.
                    let had_writer = u64::from(pipe.open_counts[1]) != open.offset;
                    events |= if pipe.writer_count == 0 && had_writer { HUP } else { 0 };
                }
                if open.can_write() {
                    events |= if pipe.held_bytes() < pipe.capacity { WRITABLE } else { 0 };
                    events |= if pipe.reader_count == 0 { ERR } else { 0 };
                }
                events
            }
            Opened::Event { count, .. } => {
                let readable = if *count > 0 { READABLE } else { 0 };
                let writable = if *count < u64::MAX - 1 { WRITABLE } else { 0 };
                readable | writable
            }
            Opened::Epoll(interests) => {
                let is_ready = interests.iter().any(|interest| self.fires(interest) != 0);
                if is_ready { READABLE } else { 0 }
            }
            Opened::Timer(timer) => {
                if timer.has_expired(self.hw.now_ns()) {
                    READABLE
                } else {
                    0
                }
            }
            Opened::Signals(mask) => {
                if self.pending_bits() & mask != 0 {
                    READABLE
                } else {
                    0
                }
            }
            Opened::Process(tid) => {
                // A first thread has not ended as long as there are others.
                match self.process_of(*tid) {
                    Some(process) if process.is_zombie() => READABLE,
                    None if !self.is_thread_alive(*tid) => READABLE | HUP,
                    _ => 0,
                }
            }
            Opened::Socket(socket) => socket_events(self.vfs.socket_state(*socket)),
            Opened::Path(_) => NVAL,
        }
    }

    fn terminal_events(&self, (number, end): (u32, TerminalEnd)) -> u32 {
        let (is_readable, is_writable) = self.vfs.terminal_state(number, end);
        let is_hung_up = self.vfs.terminals.get(number).is_ok_and(|one| one.is_hung_up(end));
        let gone = match end {
            TerminalEnd::Master => HUP,
            TerminalEnd::Slave => HUP | ERR | READABLE | WRITABLE,
        };
        let readable = if is_readable { READABLE } else { 0 };
        let writable = if is_writable { WRITABLE } else { 0 };
        readable | writable | if is_hung_up { gone } else { 0 }
    }

    /// The stream of the host behind an open file.
    pub(super) fn stream_of(&self, file: FileId) -> Option<Stream> {
        match self.vfs.file(file).opened {
            Opened::Device { device: device @ (Device::Stream(_) | Device::Tty), .. } => {
                device.stream()
            }
            _ => None,
        }
    }

    /// What to wait for until an open file is ready for `events`.
    pub(super) fn channels_of(&self, file: FileId, events: u32) -> Vec<Channel> {
        match &self.vfs.file(file).opened {
            Opened::Pipe(node) => vec![Channel::Node(*node)],
            Opened::Event { .. } | Opened::Timer(_) => vec![Channel::File(file)],
            Opened::Signals(_) => {
                vec![Channel::File(file), Channel::Signals(self.task.pid)]
            }
            Opened::Process(pid) => vec![Channel::Process(*pid)],
            Opened::Device { device: Device::Master(number) | Device::Slave(number), .. } => {
                vec![Channel::Terminal(*number)]
            }
            Opened::Socket(socket) => {
                // Room at the other side makes a datagram socket writable.
                let peer = self.vfs.socket(*socket).ok().and_then(|socket| socket.peer);
                std::iter::once(*socket).chain(peer).map(Channel::Socket).collect()
            }
            Opened::Epoll(interests) => {
                let inner = interests.iter();
                let inner = inner.flat_map(|one| self.channels_of(one.file, one.events));
                std::iter::once(Channel::File(file)).chain(inner).collect()
            }
            _ => {
                let events = u16::try_from(events & (IN | PRI | OUT)).unwrap_or(0);
                let stream = self.stream_of(file);
                stream.map(|stream| Channel::Stream(stream, events)).into_iter().collect()
            }
        }
    }

    /// Asks `check` for an answer; without one, sleeps until `channels` or the time `timeout_ns`
    /// wake the task, which then asks again.
    ///
    /// # Errors
    /// That of [`Kernel::block`].
    pub(super) fn wait_ready<T>(
        &mut self,
        timeout_ns: Option<u64>,
        channels: &[Channel],
        mut check: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<Option<T>, Errno> {
        let deadline = self.deadline_after(timeout_ns);
        if let Some(answer) = check(self) {
            return Ok(Some(answer));
        }
        if timeout_ns == Some(0) || self.has_passed(deadline) {
            return Ok(None);
        }
        Err(self.block(channels, deadline, Interrupted::Ends))
    }

    /// Takes the mask of `ppoll` and `pselect6` for the time of the call.
    pub(super) fn swap_mask(&mut self, mask: u64, bytes: u64) -> Result<(), Errno> {
        if mask == 0 {
            return Ok(());
        }
        if bytes != 8 {
            return Err(Errno::EINVAL);
        }
        let mask = self.read_user_u64(VirtAddr::new(mask))? & !UNBLOCKABLE;
        self.suspend_mask(mask);
        Ok(())
    }

    /// Puts the mask back, unless the call sleeps or a signal is to be delivered under the other
    /// mask first.
    pub(super) fn restore_mask(&mut self) {
        let is_done = self.task.state == State::Ready && !self.has_deliverable();
        let signals = &mut self.task.signals;
        if is_done && let Some(mask) = signals.saved_mask.take() {
            signals.mask = mask;
        }
    }
}

fn socket_events(state: SocketState) -> u32 {
    let when = |is_so: bool, events: u32| if is_so { events } else { 0 };
    when(state.is_readable, READABLE)
        | when(state.is_writable, WRITABLE | WRITE_BAND)
        | when(state.is_shut_for_reading, READ_HUP)
        | when(state.is_hung_up, HUP)
        | when(state.has_error, ERR)
}

fn stream_events(stream: Stream) -> u32 {
    let wanted = PollFlags::IN | PollFlags::PRI | PollFlags::OUT;
    let mut fds = [PollFd::from_borrowed_fd(stream.fd(), wanted)];
    let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
    if rustix::io::retry_on_intr(|| event::poll(&mut fds, Some(&zero))).is_err() {
        return NVAL;
    }
    let told = u32::from(fds[0].revents().bits());
    let readable = if told & IN != 0 { READABLE } else { 0 };
    let writable = if told & OUT != 0 { WRITABLE } else { 0 };
    readable | writable | told & (PRI | ERR | HUP | NVAL)
}

/// One entry of `poll`.
struct Slot {
    fd: u32,
    events: u32,
}

fn sys_poll(kernel: &mut Kernel, [fds, count, timeout, ..]: [u64; 6]) -> SysResult {
    let ms = low32(timeout).cast_signed();
    let timeout = u64::try_from(ms).ok().map(|ms| ms * NS_PER_MS);
    poll(kernel, fds, count, timeout)
}

fn sys_ppoll(kernel: &mut Kernel, [fds, count, time, mask, mask_bytes, _]: [u64; 6]) -> SysResult {
    let timeout = if time == 0 { None } else { Some(read_timespec(kernel, time)?) };
    kernel.swap_mask(mask, mask_bytes)?;
    let deadline = kernel.deadline_after(timeout);
    let result = poll(kernel, fds, count, timeout);
    kernel.restore_mask();
    if let (Some(deadline), false) = (deadline, result == Err(Errno::BLOCKED)) {
        let left = deadline.saturating_sub(kernel.hw.now_ns());
        // Linux: a time that can not be written back is not an error.
        let _ = write_timespec(kernel, time, left);
    }
    result
}

fn poll(kernel: &mut Kernel, fds: u64, count: u64, timeout: Option<u64>) -> SysResult {
    let count = low32(count);
    if u64::from(count) > kernel.files_max() {
        return Err(Errno::EINVAL);
    }
    let mut slots = Vec::new();
    for index in 0..u64::from(count) {
        let addr = VirtAddr::new(fds.wrapping_add(index * 8));
        let word = kernel.read_user_u64(addr)?;
        slots.push(Slot { fd: low32(word), events: low32(word >> 32) & 0xffff });
    }
    let mut channels = Vec::new();
    for slot in slots.iter().filter(|slot| slot.fd.cast_signed() >= 0) {
        if let Ok(file) = kernel.files.get(slot.fd.into()) {
            channels.extend(kernel.channels_of(file, slot.events));
        }
    }
    let answers = kernel.wait_ready(timeout, &channels, |kernel| {
        let told: Vec<u32> = slots.iter().map(|slot| poll_one(kernel, slot)).collect();
        told.iter().any(|&events| events != 0).then_some(told)
    })?;
    let answers = answers.unwrap_or_else(|| vec![0; slots.len()]);
    for (index, events) in (0..).zip(&answers) {
        let addr = VirtAddr::new(fds.wrapping_add(index * 8 + 6));
        let events = u16::try_from(*events & 0xffff).unwrap_or(0);
        kernel.write_user(addr, &events.to_le_bytes())?;
    }
    Ok(answers.iter().filter(|&&events| events != 0).count() as u64)
}

fn poll_one(kernel: &Kernel, slot: &Slot) -> u32 {
    if slot.fd.cast_signed() < 0 {
        return 0;
    }
    match kernel.files.get(slot.fd.into()) {
        Ok(file) => kernel.ready_events(file) & (slot.events | ALWAYS),
        Err(_) => NVAL,
    }
}

/// The three sets of `select`: where they are, and which bits each asks for.
const SETS: [u32; 3] = [READABLE | HUP | ERR, WRITABLE | ERR, PRI];

fn sys_select(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [count, sets @ .., time, _] = args;
    let timeout = if time == 0 { None } else { Some(read_timeval(kernel, time)?) };
    select(kernel, count, sets, timeout)
}

fn sys_pselect6(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [count, read, write, except, time, mask] = args;
    let timeout = if time == 0 { None } else { Some(read_timespec(kernel, time)?) };
    if mask != 0 {
        let pointer = kernel.read_user_u64(VirtAddr::new(mask))?;
        let bytes = kernel.read_user_u64(VirtAddr::new(mask.wrapping_add(8)))?;
        kernel.swap_mask(pointer, bytes)?;
    }
    let result = select(kernel, count, [read, write, except], timeout);
    kernel.restore_mask();
    result
}

fn select(kernel: &mut Kernel, count: u64, sets: [u64; 3], timeout: Option<u64>) -> SysResult {
    let count = low32(count);
    if count.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    // Linux looks only at numbers that the table has room for.
    let count = u64::from(count).min(kernel.files_max());
    let words = count.div_ceil(64);
    let mut asked = [const { Vec::new() }; 3];
    for (set, held) in sets.iter().zip(&mut asked) {
        for index in 0..words {
            let addr = VirtAddr::new(set.wrapping_add(index * 8));
            let word = if *set == 0 { 0 } else { kernel.read_user_u64(addr)? };
            held.push(word);
        }
    }
    let mut wanted = Vec::new();
    let mut channels = Vec::new();
    for fd in 0..count {
        let place = usize::try_from(fd / 64).unwrap_or(0);
        for (set, held) in asked.iter().enumerate() {
            if held[place] >> (fd % 64) & 1 == 1 {
                let file = kernel.files.get(fd)?;
                channels.extend(kernel.channels_of(file, SETS[set]));
                wanted.push((fd, set, file));
            }
        }
    }
    let answer = kernel.wait_ready(timeout, &channels, |kernel| {
        let is_ready =
            |&&(_, set, file): &&(u64, usize, FileId)| kernel.ready_events(file) & SETS[set] != 0;
        let ready: Vec<(u64, usize, FileId)> = wanted.iter().filter(is_ready).copied().collect();
        (!ready.is_empty()).then_some(ready)
    })?;
    let ready = answer.unwrap_or_default();
    for (set, addr) in sets.into_iter().enumerate().filter(|(_, addr)| *addr != 0) {
        for index in 0..words {
            let bits = ready
                .iter()
                .filter(|(fd, other, _)| *other == set && fd / 64 == index)
                .fold(0, |bits, (fd, ..)| bits | 1 << (fd % 64));
            kernel.write_user_u64(VirtAddr::new(addr.wrapping_add(index * 8)), bits)?;
        }
    }
    Ok(ready.len() as u64)
}
