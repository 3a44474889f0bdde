//! A file of the host as the swap device: the form of the file, and reading and writing it.
//!
//! ```text
//!  0         4096       8192
//!  | header A | header B | record of slot 1 | record of slot 2 | ...
//!                          page, slot, generation, checksum
//! ```
//! Both headers have the same form and a checksum; the valid one with the higher generation counts.
//! Each run writes the other one with the next generation before it uses the file, so that no
//! record of an earlier run is taken for one of this run, and a kill at any moment leaves a valid
//! header. A new file is made whole under another name and gets its own by a rename.
//!
//! The checksum of every page that was written is also kept here: what comes back is the page that
//! was written last, or an error.
//!
//! Invariants
//! 1. A file that is not ours, is damaged, has another size or is in use is refused and not
//!    changed.
//! 2. `sums` has exactly the slots that hold a page.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use machine::PAGE_BYTES;
use mm::{SwapError, SwapSlot, SwapStore};
use rustix::fs::{FallocateFlags, FlockOperation, RenameFlags};

use crate::failure::Failure;
use crate::output::temporary_name;

const PAGE: usize = PAGE_BYTES as usize;
/// The first bytes of a header.
const MAGIC: [u8; 8] = *b"FLTSWAP\0";
/// The form that this module reads and writes.
const VERSION: u32 = 1;
const HEADER_BYTES: usize = PAGE;
const RECORD_BYTES: usize = PAGE + 32;
const FIRST_RECORD: u64 = 2 * HEADER_BYTES as u64;

/// What the headers say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Header {
    /// Pages that the file can hold.
    slots: u32,
    /// One more for each run.
    generation: u64,
}

impl Header {
    fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(PAGE as u32).to_le_bytes());
        bytes[16..20].copy_from_slice(&self.slots.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.generation.to_le_bytes());
        let sum = checksum(0, &bytes[..HEADER_BYTES - 8]);
        bytes[HEADER_BYTES - 8..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None`: not a header of this form, or damaged.
    fn from_bytes(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let word = |at: usize| bytes[at..].first_chunk().map(|four| u32::from_le_bytes(*four));
        let generation = u64::from_le_bytes(*bytes[24..].first_chunk()?);
        let header = Self { slots: word(16)?, generation };
        (*bytes == header.to_bytes()).then_some(header)
    }

    /// Bytes of a file with this header.
    const fn file_bytes(self) -> u64 {
        FIRST_RECORD + self.slots as u64 * RECORD_BYTES as u64
    }
}

/// What a swap file needs of the file below.
trait Device {
    /// Reads at a place; fewer bytes at the end of the file.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes at a place; fewer bytes if not all fit.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
}

impl Device for File {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        FileExt::write_at(self, bytes, offset)
    }
}

fn read_all(device: &impl Device, mut bytes: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match device.read_at(bytes, offset) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(count) => {
                bytes = &mut bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn write_all(device: &impl Device, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match device.write_at(bytes, offset) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// A swap file in use; it stays locked until the process ends.
pub(crate) struct SwapFile(Records<File>);

impl SwapFile {
    /// Opens the swap file at `path` for `bytes` of pages, or for what it holds; makes it if there
    /// is none.
    ///
    /// # Errors
    /// Exit code 125: not ours, damaged, of another size, in use, or the host refuses. A file that
    /// was there has not changed.
    pub(crate) fn open(path: &Path, bytes: Option<u64>) -> Result<Self, Failure> {
        let wrong = |why: String| Failure::own(format!("--swap-file {}: {why}", path.display()));
        let slots = bytes.map(|bytes| slot_count(bytes).ok_or_else(|| wrong(SIZES.to_owned())));
        let slots = slots.transpose()?;
        let found = OpenOptions::new().read(true).write(true).custom_flags(O_NONBLOCK).open(path);
        let file = match found {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let slots = slots.ok_or_else(|| wrong("no such file; say --swap SIZE".into()))?;
                create(path, slots).map_err(|error| {
                    wrong(format!("cannot make it: {error}; give another file or size"))
                })?
            }
            Err(error) => return Err(wrong(format!("{error}; give another file"))),
        };
        let (header, place) = check(&file, slots).map_err(wrong)?;
        let next = Header { generation: header.generation.wrapping_add(1), ..header };
        write_all(&file, &next.to_bytes(), place)
            .map_err(|error| wrong(format!("cannot write: {error}; give another file")))?;
        Ok(Self(Records::new(file, next)))
    }

    /// Bytes of pages that it can hold.
    pub(crate) fn page_bytes(&self) -> u64 {
        u64::from(self.0.header.slots) * PAGE_BYTES
    }
}

const O_NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits() as i32;
const SIZES: &str = "no such size; give a multiple of 4K from 4K to 1T";

fn slot_count(bytes: u64) -> Option<u32> {
    let is_possible = bytes.is_multiple_of(PAGE_BYTES) && (PAGE_BYTES..=1 << 40).contains(&bytes);
    is_possible.then(|| u32::try_from(bytes / PAGE_BYTES).ok())?
}

/// Locks a file and looks at its headers: the one that counts, and where the next one is to be
/// written. Changes nothing.
fn check(file: &File, slots: Option<u32>) -> Result<(Header, u64), String> {
    let data = file.metadata().map_err(|error| error.to_string())?;
    if !data.is_file() {
        return Err("no regular file; give another".to_owned());
    }
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive).map_err(
        |error| match error {
            rustix::io::Errno::WOULDBLOCK => "another run uses it; give another file".to_owned(),
            error => format!("cannot be locked: {error}; give another file"),
        },
    )?;
    let (header, place) = headers(file)?;
    if data.len() != header.file_bytes() {
        let (has, wants) = (data.len(), header.file_bytes());
        return Err(format!("damaged: {has} bytes long instead of {wants}; remove it"));
    }
    if slots.is_some_and(|slots| slots != header.slots) {
        let kib = u64::from(header.slots) * (PAGE_BYTES >> 10);
        return Err(format!("it holds {kib}K of pages; say --swap {kib}K, or remove it"));
    }
    Ok((header, place))
}

/// The header that counts, and the place of the other one.
fn headers(device: &impl Device) -> Result<(Header, u64), String> {
    let mut found = [None; 2];
    let mut is_ours = false;
    for (index, header) in found.iter_mut().enumerate() {
        let mut bytes = [0; HEADER_BYTES];
        match read_all(device, &mut bytes, (index * HEADER_BYTES) as u64) {
            Ok(()) => {
                is_ours |= bytes.starts_with(&MAGIC);
                *header = Header::from_bytes(&bytes);
            }
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {}
            Err(error) => return Err(format!("cannot be read: {error}; give another file")),
        }
    }
    let [first, second] = found.map(|header| header.map(|header| header.generation));
    let place_of_next = if first >= second { HEADER_BYTES as u64 } else { 0 };
    match found.into_iter().flatten().max_by_key(|header| header.generation) {
        Some(header) => Ok((header, place_of_next)),
        None if is_ours => Err("damaged: no header is valid; remove it".to_owned()),
        None => Err("not a swap file of faultline; give another".to_owned()),
    }
}

/// Makes a whole swap file under another name, and then gives it its own.
fn create(path: &Path, slots: u32) -> io::Result<File> {
    let temporary = temporary_name(path)?;
    let made = make_at(&temporary, slots).and_then(|file| {
        let here = rustix::fs::CWD;
        // Whoever made the file in the meantime keeps it.
        match rustix::fs::renameat_with(here, &temporary, here, path, RenameFlags::NOREPLACE) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                std::fs::rename(&temporary, path)?;
            }
            renamed => renamed?,
        }
        Ok(file)
    });
    if made.is_err() {
        // It may be there or not; the error that is told is the first one.
        let _ = std::fs::remove_file(&temporary);
    }
    made
}

fn make_at(path: &Path, slots: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
    let header = Header { slots, generation: 0 };
    // All room is taken now, so that a full disk is found before the run.
    match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, header.file_bytes()) {
        Err(rustix::io::Errno::OPNOTSUPP) => file.set_len(header.file_bytes())?,
        done => done?,
    }
    write_all(&file, &header.to_bytes(), 0)?;
    file.sync_all()?;
    Ok(file)
}

impl SwapStore for SwapFile {
    fn write(&mut self, slot: SwapSlot, page: &[u8]) -> Result<(), SwapError> {
        self.0.write(slot, page)
    }

    fn read(&mut self, slot: SwapSlot, page: &mut [u8]) -> Result<(), SwapError> {
        self.0.read(slot, page)
    }

    fn discard(&mut self, slot: SwapSlot) {
        self.0.sums.remove(&slot);
    }

    fn held_bytes(&self) -> u64 {
        self.0.sums.len() as u64 * RECORD_BYTES as u64
    }
}

/// The records of a file.
struct Records<D> {
    device: D,
    header: Header,
    /// The checksums of the pages that were written, by slot.
    sums: BTreeMap<SwapSlot, u64>,
    buffer: Box<[u8; RECORD_BYTES]>,
}

impl<D: Device> Records<D> {
    fn new(device: D, header: Header) -> Self {
        Self { device, header, sums: BTreeMap::new(), buffer: Box::new([0; RECORD_BYTES]) }
    }

    /// Where the record of a slot lies; slot 0 holds no page.
    fn place(&self, slot: SwapSlot) -> Result<u64, SwapError> {
        let index = slot.0.checked_sub(1).filter(|&index| index < self.header.slots);
        let index = index.ok_or(SwapError::Io { slot })?;
        Ok(FIRST_RECORD + u64::from(index) * RECORD_BYTES as u64)
    }

    /// What stands behind the page.
    fn trailer(&self, slot: SwapSlot, sum: u64) -> [u8; RECORD_BYTES - PAGE] {
        let mut trailer = [0; RECORD_BYTES - PAGE];
        trailer[..4].copy_from_slice(&slot.0.to_le_bytes());
        trailer[8..16].copy_from_slice(&self.header.generation.to_le_bytes());
        trailer[16..24].copy_from_slice(&sum.to_le_bytes());
        trailer
    }

    fn write(&mut self, slot: SwapSlot, page: &[u8]) -> Result<(), SwapError> {
        let place = self.place(slot)?;
        if page.len() != PAGE {
            return Err(SwapError::Io { slot });
        }
        let sum = checksum(u64::from(slot.0) ^ self.header.generation, page);
        let trailer = self.trailer(slot, sum);
        self.buffer[..PAGE].copy_from_slice(page);
        self.buffer[PAGE..].copy_from_slice(&trailer);
        // After a failure nobody knows what the record holds.
        self.sums.remove(&slot);
        write_all(&self.device, &self.buffer[..], place).map_err(|_| SwapError::Io { slot })?;
        self.sums.insert(slot, sum);
        Ok(())
    }

    fn read(&mut self, slot: SwapSlot, page: &mut [u8]) -> Result<(), SwapError> {
        let (place, sum) =
            (self.place(slot)?, *self.sums.get(&slot).ok_or(SwapError::Io { slot })?);
        if page.len() != PAGE {
            return Err(SwapError::Io { slot });
        }
        read_all(&self.device, &mut self.buffer[..], place).map_err(|_| SwapError::Io { slot })?;
        let (bytes, trailer) = self.buffer.split_at(PAGE);
        let found = checksum(u64::from(slot.0) ^ self.header.generation, bytes);
        if found != sum || trailer != self.trailer(slot, sum) {
            return Err(SwapError::Corrupt { slot });
        }
        page.copy_from_slice(bytes);
        Ok(())
    }
}

/// A 64-bit checksum of whole words: every one of them changes all bits behind it.
fn checksum(seed: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    debug_assert!(rest.is_empty(), "pages and headers are whole words");
    words.iter().fold(seed ^ 0x9e37_79b9_7f4a_7c15, |sum, word| {
        let mixed = (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ mixed >> 32
    })
}

#[cfg(test)]
mod tests;
