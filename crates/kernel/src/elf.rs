//! ELF programs: what the headers say, and which of them are refused.
//!
//! Reads headers only; nothing is mapped here (`exec.rs` does). Every number comes from a file that
//! somebody may have made up, so all arithmetic is checked or wraps on purpose.
//!
//! Does not: look at sections, `EI_CLASS`, `EI_DATA` and `EI_VERSION` (Linux does not either).
//!
//! # Source
//! Linux 6.12 `fs/binfmt_elf.c`; semantics ELF-1 to ELF-9.

use machine::{PAGE_BYTES, PAGE_SHIFT};
use mm::Rights;
use object::LittleEndian as Little;
use object::elf::{FileHeader32, FileHeader64, ProgramHeader32, ProgramHeader64};
use object::pod;

use crate::abi::Abi;
use crate::errno::Errno;

/// Bytes of the file header.
pub const HEADER_BYTES: usize = 64;
/// The largest table of program headers.
const TABLE_BYTES_MAX: usize = 65_536;
/// The longest path of an interpreter, its NUL included.
const INTERPRETER_BYTES_MAX: u64 = 4096;

const ET_EXEC: u16 = 2;
const ET_DYN: u16 = 3;
const EM_386: u16 = 3;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PT_INTERP: u32 = 3;
const PT_GNU_STACK: u32 = 0x6474_e551;
const PF_X: u32 = 1;
const PF_W: u32 = 2;
const PF_R: u32 = 4;

/// Whether the program says where it wants to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// `ET_EXEC`: exactly there.
    Fixed,
    /// `ET_DYN`: anywhere.
    Anywhere,
}

/// The file header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// What it is written for.
    pub abi: Abi,
    /// Where it may be.
    pub placement: Placement,
    /// First instruction, before the bias.
    pub entry: u64,
    /// File offset of the program headers.
    pub table_offset: u64,
    /// Number of program headers.
    pub count: u16,
}

/// One `PT_LOAD`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Segment {
    /// Offset of its first byte in the file.
    pub offset: u64,
    /// Address of its first byte, before the bias.
    pub vaddr: u64,
    /// Bytes from the file.
    pub file_bytes: u64,
    /// Bytes in memory; the rest is zero.
    pub memory_bytes: u64,
    /// Alignment that it asks for.
    pub align: u64,
    /// Rights.
    pub rights: Rights,
}

impl Segment {
    /// Offset of the first byte in its page.
    pub const fn page_skip(&self) -> u64 {
        self.vaddr & (PAGE_BYTES - 1)
    }

    /// Whether Linux maps it: it lies below `task_end` and its sizes make sense (ELF-3).
    pub fn is_sane(&self, task_end: u64) -> bool {
        self.vaddr < task_end
            && self.file_bytes <= self.memory_bytes
            && self.memory_bytes <= task_end
            && self.vaddr <= task_end - self.memory_bytes
    }
}

/// What `PT_GNU_STACK` says about the stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StackRights {
    /// It says nothing.
    Unsaid,
    /// Not executable.
    NoExecute,
    /// Executable.
    Execute,
}

/// All that the loader wants to know of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Program {
    /// The file header.
    pub header: Header,
    /// `PT_LOAD`s in the order of the file.
    pub segments: Vec<Segment>,
    /// File range of the interpreter's path: offset, bytes.
    pub interpreter: Option<(u64, u64)>,
    /// The stack.
    pub stack: StackRights,
}

/// Where the content of a program file is.
pub trait ProgramBytes {
    /// Reads up to `bytes.len()` bytes at `offset`, and returns how many there were.
    ///
    /// # Errors
    /// `EIO`: the file cannot be read.
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno>;
}

/// The file header in the first bytes of a file.
///
/// # Errors
/// `ENOEXEC`: not an ELF program for x86-64 or i386.
pub fn header(bytes: &[u8; HEADER_BYTES]) -> Result<Header, Errno> {
    let aligned = AlignedHeader(*bytes);
    let (raw, _) =
        pod::from_bytes::<FileHeader64<Little>>(&aligned.0).map_err(|()| Errno::ENOEXEC)?;
    if raw.e_ident.magic != *b"\x7fELF" {
        return Err(Errno::ENOEXEC);
    }
    let placement = match raw.e_type.get(Little).0 {
        ET_EXEC => Placement::Fixed,
        ET_DYN => Placement::Anywhere,
        _ => return Err(Errno::ENOEXEC),
    };
    // The fields up to the machine are the same in both kinds of headers.
    let (header, entry_bytes) = match raw.e_machine.get(Little).0 {
        EM_X86_64 => {
            let header = Header {
                abi: Abi::X86_64,
                placement,
                entry: raw.e_entry.get(Little),
                table_offset: raw.e_phoff.get(Little),
                count: raw.e_phnum.get(Little),
            };
            (header, raw.e_phentsize.get(Little))
        }
        EM_386 => header_32(&aligned, placement)?,
        _ => return Err(Errno::ENOEXEC),
    };
    let wanted_bytes = header.abi.program_header_bytes();
    let table_bytes = usize::from(header.count) * wanted_bytes;
    if usize::from(entry_bytes) != wanted_bytes || table_bytes == 0 || table_bytes > TABLE_BYTES_MAX
    {
        return Err(Errno::ENOEXEC);
    }
    Ok(header)
}

/// The fields of an i386 header, and the bytes of one program header that it names.
fn header_32(
    bytes: &AlignedHeader<HEADER_BYTES>,
    placement: Placement,
) -> Result<(Header, u16), Errno> {
    let (raw, _) =
        pod::from_bytes::<FileHeader32<Little>>(&bytes.0).map_err(|()| Errno::ENOEXEC)?;
    let header = Header {
        abi: Abi::I386,
        placement,
        entry: raw.e_entry.get(Little).into(),
        table_offset: raw.e_phoff.get(Little).into(),
        count: raw.e_phnum.get(Little),
    };
    Ok((header, raw.e_phentsize.get(Little)))
}

/// The crate's types want the bytes aligned as words.
#[repr(align(8))]
struct AlignedHeader<const BYTES: usize>([u8; BYTES]);

/// Reads the program headers behind `header`.
///
/// # Errors
/// `ENOEXEC`: the table cannot be read, or the interpreter's path has no possible length.
pub fn program(file: &mut dyn ProgramBytes, header: Header) -> Result<Program, Errno> {
    let header_bytes = header.abi.program_header_bytes();
    let mut table = vec![0; usize::from(header.count) * header_bytes];
    // The file offset is signed in Linux: a negative one cannot be read.
    if i64::try_from(header.table_offset).is_err() {
        return Err(Errno::ENOEXEC);
    }
    let read = file.read_at(header.table_offset, &mut table)?;
    if read != table.len() {
        return Err(Errno::ENOEXEC);
    }
    let mut program =
        Program { header, segments: Vec::new(), interpreter: None, stack: StackRights::Unsaid };
    for bytes in table.chunks_exact(header_bytes) {
        add_header(&mut program, &raw_header(bytes, header.abi)?)?;
    }
    Ok(program)
}

/// A program header of either kind.
struct RawHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    vaddr: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
}

fn raw_header(bytes: &[u8], abi: Abi) -> Result<RawHeader, Errno> {
    let mut aligned = AlignedHeader([0; 56]);
    aligned.0[..bytes.len()].copy_from_slice(bytes);
    if abi == Abi::I386 {
        let (raw, _) =
            pod::from_bytes::<ProgramHeader32<Little>>(&aligned.0).map_err(|()| Errno::ENOEXEC)?;
        return Ok(RawHeader {
            kind: raw.p_type.get(Little).0,
            flags: raw.p_flags.get(Little).0,
            offset: raw.p_offset.get(Little).into(),
            vaddr: raw.p_vaddr.get(Little).into(),
            file_bytes: raw.p_filesz.get(Little).into(),
            memory_bytes: raw.p_memsz.get(Little).into(),
            align: raw.p_align.get(Little).into(),
        });
    }
    let (raw, _) =
        pod::from_bytes::<ProgramHeader64<Little>>(&aligned.0).map_err(|()| Errno::ENOEXEC)?;
    Ok(RawHeader {
        kind: raw.p_type.get(Little).0,
        flags: raw.p_flags.get(Little).0,
        offset: raw.p_offset.get(Little),
        vaddr: raw.p_vaddr.get(Little),
        file_bytes: raw.p_filesz.get(Little),
        memory_bytes: raw.p_memsz.get(Little),
        align: raw.p_align.get(Little),
    })
}

fn add_header(program: &mut Program, raw: &RawHeader) -> Result<(), Errno> {
    match raw.kind {
        PT_LOAD => program.segments.push(Segment {
            offset: raw.offset,
            vaddr: raw.vaddr,
            file_bytes: raw.file_bytes,
            memory_bytes: raw.memory_bytes,
            align: raw.align,
            rights: segment_rights(raw.flags),
        }),
        // The first one only (ELF-2).
        PT_INTERP if program.interpreter.is_none() => {
            if !(2..=INTERPRETER_BYTES_MAX).contains(&raw.file_bytes) {
                return Err(Errno::ENOEXEC);
            }
            program.interpreter = Some((raw.offset, raw.file_bytes));
        }
        PT_GNU_STACK if raw.flags & PF_X != 0 => program.stack = StackRights::Execute,
        PT_GNU_STACK => program.stack = StackRights::NoExecute,
        _ => {}
    }
    Ok(())
}

fn segment_rights(flags: u32) -> Rights {
    let mut rights = Rights::empty();
    rights.set(Rights::READ, flags & PF_R != 0);
    rights.set(Rights::WRITE, flags & PF_W != 0);
    rights.set(Rights::EXECUTE, flags & PF_X != 0);
    rights
}

impl Program {
    /// Path of the interpreter, if the program names one.
    ///
    /// # Errors
    /// - `EIO`: the path lies past the end of the file.
    /// - `ENOEXEC`: it does not end with NUL.
    pub fn interpreter_path(&self, file: &mut dyn ProgramBytes) -> Result<Option<Vec<u8>>, Errno> {
        let Some((offset, bytes)) = self.interpreter else { return Ok(None) };
        let mut path = vec![0; usize::try_from(bytes).map_err(|_| Errno::ENOEXEC)?];
        if i64::try_from(offset).is_err() {
            return Err(Errno::EINVAL);
        }
        if file.read_at(offset, &mut path)? != path.len() {
            return Err(Errno::EIO);
        }
        if path.last() != Some(&0) {
            return Err(Errno::ENOEXEC);
        }
        let end = path.iter().position(|&byte| byte == 0).unwrap_or(0);
        path.truncate(end);
        Ok(Some(path))
    }

    /// Bytes from the first page of all segments to the last byte; 0 without segments.
    pub fn span_bytes(&self) -> u64 {
        let start = self.segments.iter().map(|segment| segment.vaddr >> PAGE_SHIFT << PAGE_SHIFT);
        let end =
            self.segments.iter().map(|segment| segment.vaddr.wrapping_add(segment.memory_bytes));
        match (start.min(), end.max()) {
            (Some(start), Some(end)) => end.wrapping_sub(start),
            _ => 0,
        }
    }

    /// The largest alignment that a segment asks for and that is a power of two; 1 if none.
    pub fn align_max(&self) -> u64 {
        let wanted = self.segments.iter().map(|segment| segment.align);
        wanted.filter(|align| align.is_power_of_two()).max().unwrap_or(1)
    }

    /// Address of the program headers in memory before the bias, 0 if no segment has them.
    pub fn table_vaddr(&self) -> u64 {
        let offset = self.header.table_offset;
        self.segments
            .iter()
            .find(|segment| {
                segment.offset <= offset
                    && offset < segment.offset.saturating_add(segment.file_bytes)
            })
            .map_or(0, |segment| (offset - segment.offset).wrapping_add(segment.vaddr))
    }

    /// Code, data and break, before the bias (ELF-7).
    pub fn bounds(&self) -> Bounds {
        let mut bounds = Bounds { start_code: u64::MAX, ..Bounds::default() };
        for segment in &self.segments {
            let file_end = segment.vaddr.wrapping_add(segment.file_bytes);
            if segment.rights.contains(Rights::EXECUTE) {
                bounds.start_code = bounds.start_code.min(segment.vaddr);
                bounds.end_code = bounds.end_code.max(file_end);
            }
            bounds.start_data = bounds.start_data.max(segment.vaddr);
            bounds.end_data = bounds.end_data.max(file_end);
            let end = segment.vaddr.wrapping_add(segment.memory_bytes);
            bounds.brk = bounds.brk.max(end);
        }
        if bounds.start_code == u64::MAX {
            bounds.start_code = 0;
        }
        bounds
    }
}

/// Where code, data and the break of a program are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Bounds {
    /// First byte of code.
    pub start_code: u64,
    /// End of code.
    pub end_code: u64,
    /// First byte of the last data segment.
    pub start_data: u64,
    /// End of initialised data.
    pub end_data: u64,
    /// End of everything.
    pub brk: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minimal() -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[16] = 2;
        bytes[18] = 62;
        bytes[32] = 64;
        bytes[54] = 56;
        bytes[56] = 1;
        bytes
    }

    #[test]
    fn only_what_linux_checks_is_checked() {
        assert!(header(&minimal()).is_ok());
        let refuse = |offset: usize, value: u8| {
            let mut bytes = minimal();
            bytes[offset] = value;
            header(&bytes)
        };
        for (offset, value) in [(0, 0), (16, 1), (16, 4), (18, 3), (54, 55), (56, 0)] {
            assert_eq!(refuse(offset, value), Err(Errno::ENOEXEC), "byte {offset} = {value}");
        }
        for (offset, value) in [(4, 1), (5, 2), (6, 9), (20, 7), (7, 255)] {
            assert!(refuse(offset, value).is_ok(), "byte {offset} = {value}");
        }
    }

    #[test]
    fn a_32_bit_header_has_its_own_places() {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..4].copy_from_slice(b"\x7fELF");
        bytes[16] = 3;
        bytes[18] = 3;
        bytes[24..28].copy_from_slice(&0x1234_u32.to_le_bytes());
        bytes[28] = 52;
        bytes[42] = 32;
        bytes[44] = 2;
        let header = header(&bytes).expect("a header of i386");
        assert_eq!((header.abi, header.entry), (Abi::I386, 0x1234));
        assert_eq!((header.table_offset, header.count), (52, 2));
        bytes[42] = 56;
        assert_eq!(super::header(&bytes), Err(Errno::ENOEXEC));
    }

    struct Bytes(Vec<u8>);

    impl ProgramBytes for Bytes {
        fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
            let count = bytes.len().min(self.0.len() - start);
            bytes[..count].copy_from_slice(&self.0[start..start + count]);
            Ok(count)
        }
    }

    #[test]
    fn a_table_past_the_end_of_the_file_is_refused() {
        let mut bytes = minimal();
        bytes[32] = 200;
        let header = header(&bytes).expect("the header alone is right");
        assert_eq!(program(&mut Bytes(bytes.to_vec()), header), Err(Errno::ENOEXEC));
    }

    #[test]
    fn wrapping_segments_do_not_panic() {
        let segment = Segment {
            offset: u64::MAX,
            vaddr: u64::MAX - 5,
            file_bytes: u64::MAX,
            memory_bytes: u64::MAX,
            align: 3,
            rights: Rights::all(),
        };
        let header = header(&minimal()).expect("right");
        let stack = StackRights::NoExecute;
        let program = Program { header, segments: vec![segment; 2], interpreter: None, stack };
        assert!(!segment.is_sane(crate::uaccess::TASK_END));
        let _ = (program.span_bytes(), program.bounds(), program.table_vaddr());
        assert_eq!(program.align_max(), 1);
    }
}
