//! `read` of a regular file: from the frames of the page cache straight into the program's memory.
//!
//! The page of the buffer is made writable first, then the page of the file is brought. Bringing it
//! may take the frame of the buffer away again: then both are asked for once more, and at last the
//! bytes go through a buffer of ours.
//!
//! Does not: read around the page cache (`O_DIRECT`), and nothing but regular files.
//!
//! # Source
//! Linux 6.12 `mm/filemap.c:filemap_read`; semantics FILE-1, FILE-7.

use machine::{Access, PAGE_BYTES, PAGE_SHIFT, Privilege, VirtAddr};
use mm::{ObjectId, PageBytes, Readahead};

use super::read_write::{At, Buffers};
use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::fs::{FileId, NodeId, Opened, flag};

/// How often both pages are asked for.
const ROUNDS_MAX: u32 = 2;

/// Bytes of one page of a file.
#[derive(Clone, Copy, Debug)]
struct Part {
    object: ObjectId,
    /// Where it is in the file.
    offset: u64,
    bytes: u64,
    /// The page at which the call ends.
    end: u64,
}

/// The file that a call reads through the page cache, if it is one.
pub(super) fn cached_file(kernel: &Kernel, file: FileId) -> Option<NodeId> {
    let open = kernel.vfs.file(file);
    let Opened::Regular(node) = open.opened else { return None };
    let is_direct = open.status & flag::DIRECT != 0 && !kernel.vfs.is_memory(node);
    (!is_direct).then_some(node)
}

/// Reads from a regular file into the program's buffers, and moves the file's place on if it is
/// read there. Returns how many bytes were read.
///
/// # Errors
/// `EFAULT`: not even the first byte of the buffers can be written. Those of the host.
pub(super) fn read_cached(
    kernel: &mut Kernel,
    (file, node): (FileId, NodeId),
    buffers: &Buffers,
    at: At,
) -> SysResult {
    let offset = match at {
        At::Place => kernel.vfs.file(file).offset,
        At::Offset(offset) => offset,
    };
    let total = buffers.bytes();
    let pages = (&mut kernel.memory, &mut kernel.hw);
    let Some((object, size_bytes)) = kernel.vfs.cached_for_read(pages, node, (offset, total))?
    else {
        return Ok(0);
    };
    let wanted = total.min(size_bytes - offset);
    let end = offset.saturating_add(wanted).div_ceil(PAGE_BYTES);
    let mut ahead = kernel.vfs.file(file).ahead;
    let mut done = 0;
    let mut result = Ok(());
    'call: for (addr, length) in buffers.pieces(0, wanted) {
        let piece_end = done + length as u64;
        let mut addr = VirtAddr::new(addr);
        while done < piece_end {
            let offset = offset + done;
            let here = PAGE_BYTES - addr.page_offset();
            let there = PAGE_BYTES - offset % PAGE_BYTES;
            let part = Part { object, offset, bytes: (piece_end - done).min(here).min(there), end };
            result = kernel.read_part(part, addr, &mut ahead);
            if result.is_err() {
                break 'call;
            }
            done += part.bytes;
            addr = addr.wrapping_add(part.bytes);
        }
    }
    kernel.vfs.file_mut(file).ahead = ahead;
    if at == At::Place {
        kernel.vfs.advance(file, done);
    }
    match result {
        Err(errno) if done == 0 => Err(errno),
        _ => Ok(done),
    }
}

impl Kernel {
    /// Copies a part of a page of a file into one page of the program.
    ///
    /// # Errors
    /// `EFAULT`: it cannot be written there. Those of the host. Nothing is copied.
    fn read_part(
        &mut self,
        part: Part,
        addr: VirtAddr,
        ahead: &mut Readahead,
    ) -> Result<(), Errno> {
        let index = part.offset >> PAGE_SHIFT;
        for _ in 0..ROUNDS_MAX {
            let to = self.resolve_user(addr, Access::Write)?;
            let pages = (index, part.end);
            let place = self.memory.page_to_read(&mut self.hw, part.object, pages, ahead)?;
            let PageBytes::Frame(frame) = place else { break };
            // Unless the file's page took the frame of the buffer.
            if self.hw.probe(addr, Access::Write, Privilege::User) == Ok(to) {
                let from = frame.start().wrapping_add(part.offset % PAGE_BYTES);
                self.hw.copy(from, to, part.bytes);
                return Ok(());
            }
        }
        self.read_part_by_buffer(part, addr, ahead)
    }

    fn read_part_by_buffer(
        &mut self,
        part: Part,
        addr: VirtAddr,
        ahead: &mut Readahead,
    ) -> Result<(), Errno> {
        let mut page = [0; PAGE_BYTES as usize];
        let bytes = &mut page[..usize::try_from(part.bytes).unwrap_or(0)];
        let place = (part.offset, &mut *bytes);
        let count = self.memory.read_object(&mut self.hw, part.object, place, ahead)?;
        bytes[count..].fill(0);
        self.write_user(addr, bytes)
    }
}
