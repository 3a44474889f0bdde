//! `read`, `write` and their relatives: one or many buffers, at the file's place or at a given one.
//!
//! Bytes go through a buffer of ours in pieces, so that no length that a program names makes us
//! allocate much.
//!
//! # Source
//! man 2 `read`, `readv`; Linux 6.12 `fs/read_write.c`.

use machine::VirtAddr;
use mm::ALL_PAGES;

use super::cached_read::{cached_file, read_cached};
use super::terminal::pseudo_terminal;
use super::{LIMIT_FILE_BYTES, SMALL_FILE_BYTES_MAX, low32};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{Device, FileId, Opened, PIPE_BUF, flag, write_device};
use crate::signal::SigInfo;
use crate::signal::number::SIGXFSZ;
use crate::syscall::Handler;
use crate::wait::{Channel, Interrupted};

/// Most bytes that one call moves: Linux's `MAX_RW_COUNT`.
const CALL_BYTES_MAX: u64 = 0x7fff_f000;
/// Most buffers of a vector call.
const VECTORS_MAX: u64 = 1024;
/// Events that a task waits for at the host.
const POLL_IN: u16 = 1;
const POLL_OUT: u16 = 4;
/// Bytes moved at once.
pub(super) const PIECE_BYTES: u64 = 256 << 10;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        0 => sys_read,
        1 => sys_write,
        17 => sys_pread64,
        18 => sys_pwrite64,
        19 => sys_readv,
        20 => sys_writev,
        295 => sys_preadv,
        296 => sys_pwritev,
        327 => sys_preadv2,
        328 => sys_pwritev2,
        _ => return None,
    })
}

/// Where in the file a call works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum At {
    /// At the file's own place, which moves on.
    Place,
    /// At this offset; the file's place stays.
    Offset(u64),
}

/// The buffers of a call, one behind the other.
pub(super) struct Buffers {
    parts: Vec<(u64, u64)>,
}

impl Buffers {
    /// One buffer.
    ///
    /// # Errors
    /// `EFAULT`: not wholly in user space, however little would be used of it.
    pub(super) fn one(kernel: &Kernel, addr: u64, bytes: u64) -> Result<Self, Errno> {
        kernel.check_user_range(addr, bytes)?;
        Ok(Self { parts: vec![(addr, bytes.min(CALL_BYTES_MAX))] })
    }

    /// The buffers of an array of `struct iovec`.
    ///
    /// # Errors
    /// `EINVAL`: too many, or a negative length. `EFAULT`: not in user space.
    pub(super) fn read(kernel: &mut Kernel, vector: u64, count: u64) -> Result<Self, Errno> {
        let count = u64::from(low32(count));
        if count > VECTORS_MAX {
            return Err(Errno::EINVAL);
        }
        let mut parts = Vec::new();
        for index in 0..count {
            let slot = vector.wrapping_add(index * 16);
            let addr = kernel.read_user_u64(VirtAddr::new(slot))?;
            let bytes = kernel.read_user_u64(VirtAddr::new(slot.wrapping_add(8)))?;
            parts.push((addr, bytes));
        }
        if parts.iter().any(|(_, bytes)| bytes.cast_signed() < 0) {
            return Err(Errno::EINVAL);
        }
        let is_alone = parts.len() == 1;
        let mut left = CALL_BYTES_MAX;
        for (addr, bytes) in &mut parts {
            let checked = if is_alone { (*bytes).min(CALL_BYTES_MAX) } else { *bytes };
            kernel.check_user_range(*addr, checked)?;
            *bytes = (*bytes).min(left);
            left -= *bytes;
        }
        Ok(Self { parts })
    }

    /// Address and length of each.
    pub(super) fn parts(&self) -> &[(u64, u64)] {
        &self.parts
    }

    pub(super) fn bytes(&self) -> u64 {
        self.parts.iter().map(|(_, bytes)| bytes).sum()
    }

    /// The pieces of memory for `bytes` bytes from `skip` on.
    pub(super) fn pieces(&self, mut skip: u64, mut bytes: u64) -> Vec<(u64, usize)> {
        let mut pieces = Vec::new();
        for &(addr, length) in &self.parts {
            let passed = skip.min(length);
            skip -= passed;
            let count = (length - passed).min(bytes);
            bytes -= count;
            if count > 0 {
                pieces.push((addr.wrapping_add(passed), to_usize(count)));
            }
        }
        pieces
    }

    /// Copies `bytes` to the program, `skip` bytes into the buffers; returns how many arrived.
    pub(super) fn scatter(&self, kernel: &mut Kernel, skip: u64, bytes: &[u8]) -> usize {
        let mut done = 0;
        for (addr, count) in self.pieces(skip, bytes.len() as u64) {
            let copied = kernel.copy_to_user(VirtAddr::new(addr), &bytes[done..done + count]);
            done += copied;
            if copied < count {
                break;
            }
        }
        done
    }

    /// Copies from the program into `bytes`; returns how many arrived.
    pub(super) fn gather(&self, kernel: &mut Kernel, skip: u64, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        for (addr, count) in self.pieces(skip, bytes.len() as u64) {
            let copied = kernel.copy_from_user(VirtAddr::new(addr), &mut bytes[done..done + count]);
            done += copied;
            if copied < count {
                break;
            }
        }
        done
    }
}

fn to_usize(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

fn sys_read(kernel: &mut Kernel, [fd, addr, bytes, ..]: [u64; 6]) -> SysResult {
    let file = readable(kernel, fd)?;
    let buffers = Buffers::one(kernel, addr, bytes)?;
    read(kernel, file, &buffers, At::Place)
}

fn sys_write(kernel: &mut Kernel, [fd, addr, bytes, ..]: [u64; 6]) -> SysResult {
    let file = writable(kernel, fd)?;
    let buffers = Buffers::one(kernel, addr, bytes)?;
    write(kernel, file, &buffers, At::Place)
}

fn sys_pread64(kernel: &mut Kernel, [fd, addr, bytes, offset, ..]: [u64; 6]) -> SysResult {
    let (file, at) = file_at(kernel, fd, offset)?;
    readable(kernel, fd)?;
    let buffers = Buffers::one(kernel, addr, bytes)?;
    read(kernel, file, &buffers, at)
}

fn sys_pwrite64(kernel: &mut Kernel, [fd, addr, bytes, offset, ..]: [u64; 6]) -> SysResult {
    let (file, at) = file_at(kernel, fd, offset)?;
    writable(kernel, fd)?;
    let buffers = Buffers::one(kernel, addr, bytes)?;
    write(kernel, file, &buffers, at)
}

pub(super) fn sys_readv(kernel: &mut Kernel, [fd, vector, count, ..]: [u64; 6]) -> SysResult {
    let file = readable(kernel, fd)?;
    let buffers = Buffers::read(kernel, vector, count)?;
    read_unless_empty(kernel, file, &buffers, At::Place)
}

pub(super) fn sys_writev(kernel: &mut Kernel, [fd, vector, count, ..]: [u64; 6]) -> SysResult {
    let file = writable(kernel, fd)?;
    let buffers = Buffers::read(kernel, vector, count)?;
    write_unless_empty(kernel, file, &buffers, At::Place)
}

fn sys_preadv(kernel: &mut Kernel, [fd, vector, count, offset, ..]: [u64; 6]) -> SysResult {
    let (file, at) = file_at(kernel, fd, offset)?;
    readable(kernel, fd)?;
    let buffers = Buffers::read(kernel, vector, count)?;
    read_unless_empty(kernel, file, &buffers, at)
}

fn sys_pwritev(kernel: &mut Kernel, [fd, vector, count, offset, ..]: [u64; 6]) -> SysResult {
    let (file, at) = file_at(kernel, fd, offset)?;
    writable(kernel, fd)?;
    let buffers = Buffers::read(kernel, vector, count)?;
    write_unless_empty(kernel, file, &buffers, at)
}

fn sys_preadv2(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    check_rw_flags(args[5])?;
    match args[3] {
        u64::MAX => sys_readv(kernel, args),
        _ => sys_preadv(kernel, args),
    }
}

fn sys_pwritev2(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    check_rw_flags(args[5])?;
    let done = match args[3] {
        u64::MAX => sys_writev(kernel, args),
        _ => sys_pwritev(kernel, args),
    }?;
    if args[5] & (RWF_DSYNC | RWF_SYNC) != 0
        && let Opened::Regular(node) = kernel.vfs.file(kernel.files.get(args[0])?).opened
    {
        kernel.store_pages(node, ALL_PAGES)?;
    }
    Ok(done)
}

const RWF_DSYNC: u64 = 2;
const RWF_SYNC: u64 = 4;

/// `RWF_HIPRI`, `RWF_DSYNC` and `RWF_SYNC` are known; the others are refused.
fn check_rw_flags(flags: u64) -> Result<(), Errno> {
    if flags & !7 == 0 { Ok(()) } else { Err(Errno::EOPNOTSUPP) }
}

/// The open file of a call with an offset, and the offset.
fn file_at(kernel: &Kernel, fd: u64, offset: u64) -> Result<(FileId, At), Errno> {
    if offset.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    let file = kernel.files.get(fd)?;
    check_seekable(kernel, file)?;
    Ok((file, At::Offset(offset)))
}

/// The open file behind `fd`, if it was opened for reading.
pub(super) fn readable(kernel: &Kernel, fd: u64) -> Result<FileId, Errno> {
    let file = kernel.files.get(fd)?;
    if kernel.vfs.file(file).can_read() { Ok(file) } else { Err(Errno::EBADF) }
}

/// The open file behind `fd`, if it was opened for writing.
pub(super) fn writable(kernel: &Kernel, fd: u64) -> Result<FileId, Errno> {
    let file = kernel.files.get(fd)?;
    if kernel.vfs.file(file).can_write() { Ok(file) } else { Err(Errno::EBADF) }
}

/// Vectors without bytes do not even ask the file.
fn read_unless_empty(kernel: &mut Kernel, file: FileId, buffers: &Buffers, at: At) -> SysResult {
    if buffers.bytes() == 0 { Ok(0) } else { read(kernel, file, buffers, at) }
}

/// Vectors without bytes do not even ask the file.
fn write_unless_empty(kernel: &mut Kernel, file: FileId, buffers: &Buffers, at: At) -> SysResult {
    if buffers.bytes() == 0 { Ok(0) } else { write(kernel, file, buffers, at) }
}

/// Whether the bytes from `offset` on end where a file can end.
///
/// # Errors
/// `EINVAL`: they do not.
pub(super) fn check_end(offset: u64, bytes: u64) -> Result<(), Errno> {
    let end = offset.checked_add(bytes).filter(|end| end.cast_signed() >= 0);
    if end.is_some() { Ok(()) } else { Err(Errno::EINVAL) }
}

fn read(kernel: &mut Kernel, file: FileId, buffers: &Buffers, at: At) -> SysResult {
    if let At::Offset(offset) = at {
        check_end(offset, buffers.bytes())?;
    }
    let result = read_pieces(kernel, file, buffers, at);
    if result != Err(Errno::BLOCKED) {
        let io = &mut kernel.process.io;
        io.reads += 1;
        io.read_bytes = io.read_bytes.saturating_add(result.unwrap_or(0));
    }
    result
}

fn write(kernel: &mut Kernel, file: FileId, buffers: &Buffers, at: At) -> SysResult {
    if let At::Offset(offset) = at {
        check_end(offset, buffers.bytes())?;
    }
    let result = write_pieces(kernel, file, buffers, at);
    if result != Err(Errno::BLOCKED) {
        let io = &mut kernel.process.io;
        io.writes += 1;
        io.written_bytes = io.written_bytes.saturating_add(result.unwrap_or(0));
    }
    result
}

/// Access mode and status flags of an open file.
fn open_status(kernel: &Kernel, file: FileId) -> u32 {
    kernel.vfs.file(file).status
}

/// Whether buffers, offset and length are fit for a device, if the file goes around the page cache.
///
/// # Errors
/// `EINVAL`: they are not.
fn check_direct(kernel: &Kernel, file: FileId, buffers: &Buffers, at: At) -> Result<(), Errno> {
    /// Bytes of a block of the device.
    const BLOCK_BYTES: u64 = 512;
    let open = kernel.vfs.file(file);
    let Opened::Regular(node) = open.opened else { return Ok(()) };
    if open.status & flag::DIRECT == 0 || kernel.vfs.is_memory(node) {
        return Ok(());
    }
    let offset = match at {
        At::Place => open.offset,
        At::Offset(offset) => offset,
    };
    let all = buffers.parts.iter().fold(offset, |all, (addr, bytes)| all | addr | bytes);
    if all % BLOCK_BYTES == 0 { Ok(()) } else { Err(Errno::EINVAL) }
}

fn read_pieces(kernel: &mut Kernel, file: FileId, buffers: &Buffers, at: At) -> SysResult {
    let total = buffers.bytes();
    kernel.check_reader(file)?;
    check_direct(kernel, file, buffers, at)?;
    if let Some(node) = cached_file(kernel, file) {
        return read_cached(kernel, (file, node), buffers, at);
    }
    let mut piece = vec![0; to_usize(total.min(PIECE_BYTES))];
    let mut done = 0;
    loop {
        let wanted = to_usize((total - done).min(PIECE_BYTES));
        let offset = match at {
            At::Place => None,
            At::Offset(offset) => Some(offset.saturating_add(done)),
        };
        let result = kernel.read_file(file, offset, &mut piece[..wanted]);
        let count = match result {
            Ok(count) => count,
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno),
        };
        let mut copied = buffers.scatter(kernel, done, &piece[..count]);
        if copied < count
            && let Opened::Pipe(node) = kernel.vfs.file(file).opened
        {
            // What a pipe could not give away stays in it, by whole pages.
            copied -= copied % PIPE_BUF;
            kernel.vfs.put_back(node, &piece[copied..count]);
        }
        if at == At::Place {
            kernel.vfs.advance(file, copied as u64);
        }
        done += copied as u64;
        if copied < count {
            return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
        }
        if count < wanted || done == total || !kernel.vfs.never_waits(file) {
            return Ok(done);
        }
    }
}

fn write_pieces(kernel: &mut Kernel, file: FileId, buffers: &Buffers, at: At) -> SysResult {
    let total = buffers.bytes();
    if kernel.vfs.is_sink(file) {
        // Like Linux, `/dev/null` does not look at the bytes: a page never read never faults.
        return Ok(total);
    }
    if total == 0 && matches!(kernel.vfs.file(file).opened, Opened::Regular(_)) {
        return Ok(0);
    }
    check_direct(kernel, file, buffers, at)?;
    let mut piece = vec![0; to_usize(total.min(PIECE_BYTES))];
    // What was written before the task slept in the middle of a long write.
    let mut done = kernel.task.wait.as_ref().map_or(0, |wait| wait.progress);
    loop {
        let wanted = to_usize((total - done).min(PIECE_BYTES));
        let gathered = buffers.gather(kernel, done, &mut piece[..wanted]);
        if gathered == 0 && wanted > 0 {
            return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
        }
        let offset = match at {
            At::Place => None,
            At::Offset(offset) => Some(offset.saturating_add(done)),
        };
        let count = match kernel.write_file(file, offset, &piece[..gathered]) {
            Ok(count) => count,
            Err(Errno::BLOCKED) => {
                kernel.set_progress(done);
                return Err(Errno::BLOCKED);
            }
            Err(_) if done > 0 => return Ok(done),
            Err(errno) => return Err(errno),
        };
        done += count as u64;
        if done == total || count < gathered && !kernel.waits_for_room(file) {
            return Ok(done);
        }
    }
}

/// Calls with an offset need a file that has places.
fn check_seekable(kernel: &Kernel, file: FileId) -> Result<(), Errno> {
    let has_no_places = matches!(
        kernel.vfs.file(file).opened,
        Opened::Pipe(_)
            | Opened::Event { .. }
            | Opened::Epoll(_)
            | Opened::Socket(_)
            | Opened::Timer(_)
            | Opened::Signals(_)
            | Opened::Process(_)
    );
    if has_no_places { Err(Errno::ESPIPE) } else { Ok(()) }
}

impl Kernel {
    /// Reads from an open file at `offset`, or at its place; does not move the place.
    ///
    /// # Errors
    /// Those of `read`.
    pub(super) fn read_file(
        &mut self,
        file: FileId,
        offset: Option<u64>,
        bytes: &mut [u8],
    ) -> Result<usize, Errno> {
        let open = self.vfs.file(file);
        let at = offset.unwrap_or(open.offset);
        let is_nonblocking = open.is_nonblocking();
        match &open.opened {
            Opened::Regular(node) => {
                let (node, mut ahead) = (*node, open.ahead);
                let is_direct = open.status & flag::DIRECT != 0 && !self.vfs.is_memory(node);
                let pages = (&mut self.memory, &mut self.hw);
                if is_direct {
                    return self.vfs.read_direct(pages, node, (at, bytes));
                }
                let result = self.vfs.read_regular(pages, node, (at, bytes), &mut ahead);
                self.vfs.file_mut(file).ahead = ahead;
                result
            }
            Opened::Directory { .. } => Err(Errno::EISDIR),
            Opened::Device { device, .. } => {
                let device = *device;
                if device == Device::TestMemory {
                    return Ok(self.read_testmem(at, bytes));
                }
                if let Some(terminal) = pseudo_terminal(device) {
                    return self.read_terminal(terminal, bytes, is_nonblocking);
                }
                // What comes after this read is an edge for an epoll.
                self.vfs.file_mut(file).moves[0] += 1;
                match self.vfs.read_device(device, offset, bytes) {
                    Err(Errno::EAGAIN) if !is_nonblocking => {
                        Err(self.wait_for_host(device, POLL_IN))
                    }
                    result => result,
                }
            }
            Opened::Proc { .. } => self.read_proc(file, at, bytes),
            Opened::Pipe(node) => {
                let node = *node;
                match self.vfs.read_pipe(node, bytes) {
                    Err(Errno::EAGAIN) if !is_nonblocking => Err(self.wait_on(Channel::Node(node))),
                    result => result,
                }
            }
            Opened::Event { .. } => match self.vfs.read_event(file, bytes) {
                Err(Errno::EAGAIN) if !is_nonblocking => Err(self.wait_on(Channel::File(file))),
                result => result,
            },
            Opened::Epoll(_) => Err(Errno::EINVAL),
            Opened::Timer(_) => self.read_timer(file, bytes, is_nonblocking),
            Opened::Signals(mask) => {
                let mask = *mask;
                self.read_signals((file, mask), bytes, is_nonblocking)
            }
            Opened::Process(_) => Err(Errno::EINVAL),
            Opened::Socket(socket) => {
                let socket = *socket;
                self.read_socket(socket, bytes, is_nonblocking)
            }
            Opened::Path(_) => Err(Errno::EBADF),
        }
    }

    /// Writes to an open file at `offset`, or at its place, which moves on.
    ///
    /// # Errors
    /// Those of `write`.
    pub(super) fn write_file(
        &mut self,
        file: FileId,
        offset: Option<u64>,
        bytes: &[u8],
    ) -> Result<usize, Errno> {
        let open = self.vfs.file(file);
        let is_nonblocking = open.is_nonblocking();
        match &open.opened {
            Opened::Regular(_) => self.write_place(file, offset, bytes),
            Opened::Directory { .. } | Opened::Path(_) => Err(Errno::EBADF),
            Opened::Device { device: Device::TestMemory, .. } => {
                let at = offset.unwrap_or(open.offset);
                let count = self.write_testmem(at, bytes)?;
                if offset.is_none() {
                    self.vfs.advance(file, count as u64);
                }
                Ok(count)
            }
            Opened::Device { device, .. } => {
                if let Some(terminal) = pseudo_terminal(*device) {
                    return self.write_terminal(terminal, bytes, is_nonblocking);
                }
                let device = *device;
                let mut result = write_device(device, offset, bytes);
                let stream = device.stream().filter(|_| !is_nonblocking);
                if let (Err(Errno::EAGAIN), Some(stream)) = (&result, stream) {
                    if self.patience.is_writable_soon(stream) {
                        result = write_device(device, offset, bytes);
                    }
                    if let Err(Errno::EAGAIN) = result {
                        return Err(self.wait_for_host(device, POLL_OUT));
                    }
                }
                if let (Err(Errno::EPIPE), Device::Stream(_)) = (&result, device) {
                    self.send_sigpipe();
                }
                result
            }
            Opened::Proc { .. } => self.write_proc(file, offset, bytes),
            Opened::Pipe(node) => {
                let node = *node;
                match self.vfs.write_pipe(node, bytes) {
                    Err(Errno::EPIPE) => {
                        self.send_sigpipe();
                        Err(Errno::EPIPE)
                    }
                    Err(Errno::EAGAIN) if !is_nonblocking => Err(self.wait_on(Channel::Node(node))),
                    result => result,
                }
            }
            Opened::Event { .. } => match self.vfs.write_event(file, bytes) {
                Err(Errno::EAGAIN) if !is_nonblocking => Err(self.wait_on(Channel::File(file))),
                result => result,
            },
            Opened::Epoll(_) | Opened::Timer(_) | Opened::Signals(_) | Opened::Process(_) => {
                Err(Errno::EINVAL)
            }
            Opened::Socket(socket) => {
                let socket = *socket;
                self.write_socket(socket, bytes, is_nonblocking)
            }
        }
    }

    /// Writes to a regular file, within `RLIMIT_FSIZE`.
    fn write_place(
        &mut self,
        file: FileId,
        offset: Option<u64>,
        bytes: &[u8],
    ) -> Result<usize, Errno> {
        let open = self.vfs.file(file);
        let Opened::Regular(node) = open.opened else { return Err(Errno::EBADF) };
        let is_append = open.status & flag::APPEND != 0;
        let at = match offset {
            _ if is_append => self.vfs.size_of(node)?,
            Some(offset) => offset,
            None => open.offset,
        };
        let limit = self.process.limits[LIMIT_FILE_BYTES].soft;
        if at >= limit && !bytes.is_empty() {
            self.send_self(SigInfo::kernel(SIGXFSZ));
            return Err(Errno::EFBIG);
        }
        let is_small = open.status & flag::LARGEFILE == 0;
        let limit = if is_small { limit.min(SMALL_FILE_BYTES_MAX) } else { limit };
        if at >= limit && !bytes.is_empty() {
            return Err(Errno::EFBIG);
        }
        let count = bytes.len().min(to_usize(limit - at.min(limit)));
        let count = self.vfs.writable_bytes(node, at, count)?;
        let status = open_status(self, file);
        let (vfs, mut pages) = self.files_and_pages();
        let count = if status & flag::DIRECT != 0 && !vfs.is_memory(node) {
            vfs.write_direct(&mut pages, node, at, &bytes[..count])?
        } else {
            vfs.write_regular(&mut pages, node, at, &bytes[..count])?
        };
        if offset.is_none() {
            vfs.file_mut(file).offset = at + count as u64;
        }
        if status & flag::DSYNC != 0 {
            self.store_pages(node, ALL_PAGES)?;
        }
        self.limit_dirty();
        Ok(count)
    }

    /// Whether a write that was cut short goes on when there is room: a pipe's does.
    fn waits_for_room(&self, file: FileId) -> bool {
        let file = self.vfs.file(file);
        let waits = matches!(
            file.opened,
            Opened::Pipe(_)
                | Opened::Socket(_)
                | Opened::Device {
                    device: Device::Master(_) | Device::Slave(_) | Device::Stream(_) | Device::Tty,
                    ..
                }
        );
        waits && !file.is_nonblocking()
    }

    /// Sleeps until something changes there.
    pub(super) fn wait_on(&mut self, channel: impl Into<Option<Channel>>) -> Errno {
        let channels: Vec<Channel> = channel.into().into_iter().collect();
        self.block(&channels, None, Interrupted::Restarts)
    }

    /// Sleeps until the host's stream behind a device is ready.
    fn wait_for_host(&mut self, device: Device, events: u16) -> Errno {
        self.wait_on(device.stream().map(|stream| Channel::Stream(stream, events)))
    }
}
