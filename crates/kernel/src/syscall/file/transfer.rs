//! Moving bytes from file to file, and advice about files.
//!
//! # Source
//! man 2 `sendfile`, `copy_file_range`, `splice`, `posix_fadvise`.

use std::ops::RangeInclusive;

use machine::{PAGE_BYTES, VirtAddr};
use mm::Pattern;

use super::read_write::{check_end, readable, sys_readv, sys_writev, writable};
use super::{low32, real_file};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{FileId, NodeId, Opened, flag};
use crate::syscall::Handler;
use crate::wait::Channel;

/// Bytes moved at once.
const PIECE_BYTES: u64 = 256 << 10;
/// Most bytes that one call moves: Linux's `MAX_RW_COUNT`.
const CALL_BYTES_MAX: u64 = 0x7fff_f000;

/// The function for system call `number`, if it is here.
pub(super) fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        40 => sys_sendfile,
        187 => sys_readahead,
        221 => sys_fadvise64,
        275 => sys_splice,
        276 => sys_tee,
        278 => sys_vmsplice,
        277 => sys_sync_file_range,
        326 => sys_copy_file_range,
        _ => return None,
    })
}

/// A file to read from or to write to, at its own place or at an offset in the program's memory.
#[derive(Clone, Copy)]
struct End {
    file: FileId,
    /// Where the offset is, and what it was.
    offset: Option<(u64, u64)>,
}

impl End {
    fn new(kernel: &mut Kernel, file: FileId, pointer: u64) -> Result<Self, Errno> {
        if pointer == 0 {
            return Ok(Self { file, offset: None });
        }
        let offset = kernel.read_user_u64(VirtAddr::new(pointer))?;
        if offset.cast_signed() < 0 {
            return Err(Errno::EINVAL);
        }
        Ok(Self { file, offset: Some((pointer, offset)) })
    }

    /// Whether an offset can be read from the program's memory.
    fn check(kernel: &mut Kernel, pointer: u64) -> Result<(), Errno> {
        if pointer != 0 {
            kernel.read_user_u64(VirtAddr::new(pointer))?;
        }
        Ok(())
    }

    fn place(self, done: u64) -> Option<u64> {
        self.offset.map(|(_, offset)| offset.saturating_add(done))
    }

    fn finish(self, kernel: &mut Kernel, done: u64) -> Result<(), Errno> {
        match self.offset {
            Some((pointer, offset)) => {
                kernel.write_user_u64(VirtAddr::new(pointer), offset.saturating_add(done))
            }
            None => Ok(()),
        }
    }
}

fn sys_sendfile(kernel: &mut Kernel, [out, from, offset, bytes, ..]: [u64; 6]) -> SysResult {
    End::check(kernel, offset)?;
    let from = readable(kernel, from)?;
    // The files of a task in `/proc` cannot be spliced (Linux `fs/proc/base.c`); programs read
    // them.
    let is_source = match kernel.vfs.file(from).opened {
        Opened::Regular(_) | Opened::Device { .. } => bytes.cast_signed() >= 0,
        Opened::Pipe(_) | Opened::Event { .. } | Opened::Epoll(_) if offset != 0 => {
            return Err(Errno::ESPIPE);
        }
        _ => false,
    };
    if offset != 0 {
        let start = kernel.read_user_u64(VirtAddr::new(offset))?;
        check_end(start, bytes)?;
    }
    let out = writable(kernel, out)?;
    if !is_source || kernel.vfs.file(out).status & flag::APPEND != 0 {
        return Err(Errno::EINVAL);
    }
    let from = End::new(kernel, from, offset)?;
    let out = End { file: out, offset: None };
    move_bytes(kernel, from, out, bytes)
}

fn sys_copy_file_range(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [from, from_offset, out, out_offset, bytes, flags] = args;
    let (from_fd, out_fd) = (from, out);
    let from = real_file(kernel, from_fd)?;
    let out = real_file(kernel, out_fd)?;
    End::check(kernel, from_offset)?;
    End::check(kernel, out_offset)?;
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    let (source, sink) = match (&kernel.vfs.file(from).opened, &kernel.vfs.file(out).opened) {
        (Opened::Regular(source), Opened::Regular(sink)) => (*source, *sink),
        (Opened::Directory { .. }, _) | (_, Opened::Directory { .. }) => return Err(Errno::EISDIR),
        _ => return Err(Errno::EINVAL),
    };
    readable(kernel, from_fd)?;
    writable(kernel, out_fd)?;
    if kernel.vfs.file(out).status & flag::APPEND != 0 {
        return Err(Errno::EBADF);
    }
    let from_place = kernel.vfs.file(from).offset;
    let out_place = kernel.vfs.file(out).offset;
    let from = End::new(kernel, from, from_offset)?;
    let out = End::new(kernel, out, out_offset)?;
    if source == sink {
        let start = from.place(0).unwrap_or(from_place);
        let target = out.place(0).unwrap_or(out_place);
        let bytes = bytes.min(kernel.vfs.size_of(source)?.saturating_sub(start));
        if start.abs_diff(target) < bytes {
            return Err(Errno::EINVAL);
        }
    }
    move_bytes(kernel, from, out, bytes)
}

fn move_bytes(kernel: &mut Kernel, from: End, out: End, bytes: u64) -> SysResult {
    let total = bytes.min(CALL_BYTES_MAX);
    let mut piece = vec![0; usize::try_from(total.min(PIECE_BYTES)).unwrap_or(0)];
    let mut done = 0;
    let mut result = Ok(());
    while done < total {
        let wanted = usize::try_from((total - done).min(PIECE_BYTES)).unwrap_or(0);
        let count = match kernel.read_file(from.file, from.place(done), &mut piece[..wanted]) {
            Ok(count) => count,
            Err(errno) => {
                result = Err(errno);
                break;
            }
        };
        let mut written = 0;
        while written < count {
            let place = out.place(done + written as u64);
            match kernel.write_file(out.file, place, &piece[written..count]) {
                Ok(some) => written += some,
                Err(errno) => {
                    result = Err(errno);
                    break;
                }
            }
        }
        if from.offset.is_none() {
            kernel.vfs.advance(from.file, written as u64);
        }
        done += written as u64;
        if count < wanted || result.is_err() {
            break;
        }
    }
    if done == 0 {
        result?;
    }
    if result == Err(Errno::BLOCKED) {
        // It has moved something: it does not sleep after all.
        kernel.wake_task(kernel.task.tid);
    }
    from.finish(kernel, done)?;
    out.finish(kernel, done)?;
    Ok(done)
}

/// `SPLICE_F_NONBLOCK`.
const SPLICE_NONBLOCK: u64 = 2;
/// All flags of `splice`.
const SPLICE_FLAGS: u64 = 0xf;

/// The pipe behind an open file.
fn pipe_of(kernel: &Kernel, file: FileId) -> Option<NodeId> {
    match kernel.vfs.file(file).opened {
        Opened::Pipe(node) => Some(node),
        _ => None,
    }
}

fn sys_splice(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [from_fd, from_offset, out_fd, out_offset, bytes, flags] = args;
    if bytes == 0 {
        return Ok(0);
    }
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let from = readable(kernel, from_fd)?;
    let out = writable(kernel, out_fd)?;
    let (source, sink) = (pipe_of(kernel, from), pipe_of(kernel, out));
    if source.is_some() && from_offset != 0 || sink.is_some() && out_offset != 0 {
        return Err(Errno::ESPIPE);
    }
    if source.is_none() && sink.is_none() || source.is_some() && source == sink {
        return Err(Errno::EINVAL);
    }
    if kernel.vfs.file(out).status & flag::APPEND != 0 && sink.is_none() {
        return Err(Errno::EINVAL);
    }
    let from = End::new(kernel, from, from_offset)?;
    let out = End::new(kernel, out, out_offset)?;
    let room = room_of(kernel, out.file, sink, bytes, flags)?;
    let Some(source) = source else {
        return move_bytes(kernel, from, out, room);
    };
    let piece = waiting_in(kernel, from.file, source, room, flags)?;
    let written = kernel.write_file(out.file, out.place(0), &piece)?;
    kernel.vfs.skip_pipe(source, written);
    out.finish(kernel, written as u64)?;
    Ok(written as u64)
}

/// How much of `bytes` a call may move now: what a pipe that is written to has room for.
fn room_of(
    kernel: &mut Kernel,
    out: FileId,
    sink: Option<NodeId>,
    bytes: u64,
    flags: u64,
) -> SysResult {
    let bytes = bytes.min(PIECE_BYTES);
    let Some(pipe) = sink.and_then(|sink| kernel.vfs.pipe(sink)) else { return Ok(bytes) };
    if pipe.reader_count == 0 {
        kernel.send_sigpipe();
        return Err(Errno::EPIPE);
    }
    match pipe.room() as u64 {
        0 if flags & SPLICE_NONBLOCK != 0 || kernel.vfs.file(out).is_nonblocking() => {
            Err(Errno::EAGAIN)
        }
        0 => Err(kernel.wait_on(sink.map(Channel::Node))),
        room => Ok(bytes.min(room)),
    }
}

/// Bytes that wait in a pipe, at most `room`; none at its end.
fn waiting_in(
    kernel: &mut Kernel,
    from: FileId,
    source: NodeId,
    room: u64,
    flags: u64,
) -> Result<Vec<u8>, Errno> {
    let Some(pipe) = kernel.vfs.pipe(source) else { return Err(Errno::EINVAL) };
    if pipe.held_bytes() == 0 && pipe.writer_count > 0 {
        if flags & SPLICE_NONBLOCK != 0 || kernel.vfs.file(from).is_nonblocking() {
            return Err(Errno::EAGAIN);
        }
        return Err(kernel.wait_on(Some(Channel::Node(source))));
    }
    Ok(pipe.peek(usize::try_from(room).unwrap_or(usize::MAX)))
}

/// `tee`: the bytes also stay where they were.
fn sys_tee(kernel: &mut Kernel, [from, out, bytes, flags, ..]: [u64; 6]) -> SysResult {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    if bytes == 0 {
        return Ok(0);
    }
    let from = readable(kernel, from)?;
    let out = writable(kernel, out)?;
    let (Some(source), Some(sink)) = (pipe_of(kernel, from), pipe_of(kernel, out)) else {
        return Err(Errno::EINVAL);
    };
    if source == sink {
        return Err(Errno::EINVAL);
    }
    let room = room_of(kernel, out, Some(sink), bytes, flags)?;
    let piece = waiting_in(kernel, from, source, room, flags)?;
    kernel.write_file(out, None, &piece).map(|count| count as u64)
}

/// `vmsplice`: the bytes are copied, which a program can not tell from the pages being given.
fn sys_vmsplice(kernel: &mut Kernel, [fd, vector, count, flags, ..]: [u64; 6]) -> SysResult {
    if flags & !SPLICE_FLAGS != 0 {
        return Err(Errno::EINVAL);
    }
    let file = kernel.files.get(fd)?;
    if pipe_of(kernel, file).is_none() {
        return Err(Errno::EBADF);
    }
    if kernel.vfs.file(file).can_write() {
        sys_writev(kernel, [fd, vector, count, 0, 0, 0])
    } else {
        sys_readv(kernel, [fd, vector, count, 0, 0, 0])
    }
}

fn sys_fadvise64(kernel: &mut Kernel, [fd, offset, bytes, advice, ..]: [u64; 6]) -> SysResult {
    const ADVICE_MAX: u32 = 5;
    let file = kernel.files.get(fd)?;
    match kernel.vfs.file(file).opened {
        Opened::Path(_) => return Err(Errno::EBADF),
        Opened::Pipe(_) => return Err(Errno::ESPIPE),
        _ => {}
    }
    let advice = low32(advice);
    if bytes.cast_signed() < 0 || advice > ADVICE_MAX {
        return Err(Errno::EINVAL);
    }
    let Opened::Regular(node) = kernel.vfs.file(file).opened else { return Ok(0) };
    if kernel.vfs.is_memory(node) {
        return Ok(0);
    }
    // A length of 0, and one that wraps, is all up to the end.
    let end = if bytes == 0 { u64::MAX } else { offset.saturating_add(bytes) };
    let ahead = &mut kernel.vfs.file_mut(file).ahead;
    match advice {
        0 => (ahead.pattern, ahead.reads_once) = (Pattern::Normal, false),
        1 => ahead.pattern = Pattern::Random,
        2 => ahead.pattern = Pattern::Sequential,
        3 => kernel.prefetch(node, offset, end),
        4 => kernel.give_up(node, offset, end)?,
        _ => ahead.reads_once = true,
    }
    Ok(0)
}

fn sys_readahead(kernel: &mut Kernel, [fd, offset, bytes, ..]: [u64; 6]) -> SysResult {
    let file = readable(kernel, fd)?;
    let Opened::Regular(node) = kernel.vfs.file(file).opened else { return Err(Errno::EINVAL) };
    if bytes.cast_signed() < 0 {
        return Err(Errno::EINVAL);
    }
    if offset.cast_signed() >= 0 && bytes > 0 {
        kernel.prefetch(node, offset, offset.saturating_add(bytes));
    }
    Ok(0)
}

fn sys_sync_file_range(kernel: &mut Kernel, [fd, offset, bytes, flags, ..]: [u64; 6]) -> SysResult {
    /// `SYNC_FILE_RANGE_WRITE`.
    const WRITE: u64 = 2;
    let file = kernel.files.get(fd)?;
    let end = offset.checked_add(bytes).filter(|end| end.cast_signed() >= 0);
    let (true, Some(end)) = (flags & !7 == 0 && offset.cast_signed() >= 0, end) else {
        return Err(Errno::EINVAL);
    };
    match kernel.vfs.file(file).opened {
        Opened::Regular(node) if flags & WRITE != 0 => {
            let end = if bytes == 0 { u64::MAX } else { end };
            kernel.store_pages(node, pages_from(offset, end))?;
            Ok(0)
        }
        Opened::Regular(_) | Opened::Directory { .. } => Ok(0),
        _ => Err(Errno::ESPIPE),
    }
}

/// The pages that have bytes from `offset` to `end`.
fn pages_from(offset: u64, end: u64) -> RangeInclusive<u64> {
    offset / PAGE_BYTES..=end.saturating_sub(1) / PAGE_BYTES
}

impl Kernel {
    /// Lets the device read pages of a file that are not in RAM; nobody waits.
    fn prefetch(&mut self, node: NodeId, offset: u64, end: u64) {
        let Ok(object) = self.vfs.object_to_read((&mut self.memory, &mut self.hw), node) else {
            return;
        };
        let first = offset / PAGE_BYTES;
        let count = (end.div_ceil(PAGE_BYTES)).saturating_sub(first);
        self.memory.prefetch(&mut self.hw, object, first, count);
    }

    /// Stores and drops the whole pages of a range (`POSIX_FADV_DONTNEED`).
    fn give_up(&mut self, node: NodeId, offset: u64, end: u64) -> Result<(), Errno> {
        let Some(object) = self.vfs.object_of(node) else { return Ok(()) };
        let size = self.vfs.size_of(node)?;
        let first = offset.div_ceil(PAGE_BYTES);
        let end = if end >= size { end.div_ceil(PAGE_BYTES) } else { end / PAGE_BYTES };
        if first < end {
            let (memory, hw) = (&mut self.memory, &mut self.hw);
            // Started, not waited for; what can not be stored stays.
            let _refused_pages_stay_dirty = memory.write_back(hw, object, first..=end - 1);
            memory.discard(hw, object, first..=end - 1);
        }
        Ok(())
    }
}
