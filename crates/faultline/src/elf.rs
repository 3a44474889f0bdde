//! `faultline elf FILE`: what an ELF file becomes in memory.
//!
//! Nouns: [`raw::Raw`] (what the headers say), [`View`] (what is shown). The file is only read;
//! nothing runs.
//!
//! Deliberately not here: what the loader of a run does (`kernel::elf`); a test holds the VMAs
//! shown here to those of a run.

mod hex;
mod linkage;
mod memory;
mod needed;
mod raw;
mod text;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use object::Endianness;
use object::elf::{self as abi, FileHeader32, FileHeader64};
use serde::Serialize;

use crate::args::low;
use crate::failure::{Failure, FailureKind};
use linkage::{Change, DirtyPage, Slot};
use memory::Area;
use needed::Needed;
use raw::{Raw, SHF_ALLOC};

/// Larger files are not read.
const FILE_BYTES_MAX: u64 = 4 << 30;

/// All that is shown of a file.
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    file: String,
    class_bits: u32,
    byte_order: &'static str,
    machine: String,
    kind: String,
    /// What adds to each address of the file in a run without randomness.
    #[serde(serialize_with = "hex::address")]
    bias: u64,
    #[serde(serialize_with = "hex::address")]
    entry: u64,
    interpreter: Option<String>,
    stack: String,
    segments: Vec<SegmentView>,
    /// As exec maps them.
    vmas_at_exec: Vec<Area>,
    /// As they are when the program's first instruction runs.
    vmas_at_entry: Vec<Area>,
    sections: Vec<SectionView>,
    symbols: Vec<SymbolView>,
    dynamic_symbols: Vec<SymbolView>,
    binds_now: bool,
    slots: Vec<Slot>,
    relocations: Vec<Change>,
    relocations_by_kind: BTreeMap<String, u64>,
    dirty_pages: Vec<DirtyPage>,
    needed: Vec<Needed>,
    notes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SegmentView {
    kind: String,
    #[serde(serialize_with = "hex::address")]
    offset: u64,
    #[serde(serialize_with = "hex::address")]
    addr: u64,
    file_bytes: u64,
    memory_bytes: u64,
    align: u64,
    rights: String,
    sections: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SectionView {
    name: String,
    kind: String,
    #[serde(serialize_with = "hex::address")]
    addr: u64,
    #[serde(serialize_with = "hex::address")]
    offset: u64,
    bytes: u64,
    align: u64,
    flags: String,
}

#[derive(Debug, Serialize)]
struct SymbolView {
    #[serde(serialize_with = "hex::address")]
    value: u64,
    bytes: u64,
    kind: String,
    bind: String,
    section: String,
    name: String,
}

/// Shows the file.
///
/// # Errors
/// Exit code 127: no such file; 126: it cannot be read, or is no ELF file; 125: stdout cannot be
/// written.
pub(crate) fn show(typed: &low::Elf) -> Result<(), Failure> {
    let bytes = read(&typed.file)?;
    let name = typed.file.display().to_string();
    let not_executable = |why: String| {
        let message = format!("{name}: {why}");
        Failure { kind: FailureKind::NotExecutable, message }
    };
    let raw = parse(&bytes).map_err(not_executable)?;
    let view = View::new(&name, &typed.file, &bytes, &raw);
    let text = match typed.json {
        true => serde_json::to_string_pretty(&view).expect("numbers and texts serialise") + "\n",
        false => text::render(&view, typed.all),
    };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::own(format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let failure = |kind, why: &str| Failure { kind, message: format!("{}: {why}", path.display()) };
    let of_error = |error: io::Error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => {
            failure(FailureKind::NotFound, "no such file")
        }
        _ => failure(FailureKind::NotExecutable, &error.to_string()),
    };
    // A pipe or a device might never end.
    let data = fs::metadata(path).map_err(of_error)?;
    if !data.is_file() {
        return Err(failure(FailureKind::NotExecutable, "not a regular file"));
    }
    if data.len() > FILE_BYTES_MAX {
        return Err(failure(FailureKind::NotExecutable, "larger than 4 GiB"));
    }
    fs::read(path).map_err(of_error)
}

/// What the headers say.
///
/// # Errors
/// One line: no ELF file, or its program headers cannot be read.
fn parse(bytes: &[u8]) -> Result<Raw, String> {
    if !bytes.starts_with(b"\x7fELF") {
        return Err("not an ELF file: it does not begin with 7f 45 4c 46".to_owned());
    }
    let cut = |error: String| {
        let count = bytes.len();
        format!("{error}; the file has {count} bytes: cut off or damaged")
    };
    match bytes.get(4) {
        Some(1) => raw::read::<FileHeader32<Endianness>>(bytes).map_err(cut),
        Some(2) => raw::read::<FileHeader64<Endianness>>(bytes).map_err(cut),
        Some(class) => Err(format!("class {class} is neither 1 (32 bits) nor 2 (64 bits)")),
        None => Err(cut("no class".to_owned())),
    }
}

/// The name of the section in memory that holds the address.
fn section_at(raw: &Raw, addr: u64) -> Option<String> {
    let found = raw.sections.iter().find(|section| {
        let is_here = section.flags & SHF_ALLOC != 0 && section.addr <= addr;
        is_here && addr - section.addr < section.bytes && !is_thread_zeros(section)
    });
    found.map(|section| section.name.clone())
}

/// `.tbss` takes no room: its addresses are those of the section behind it.
fn is_thread_zeros(section: &raw::Section) -> bool {
    section.kind == abi::SHT_NOBITS && section.flags & abi::SHF_TLS.0 != 0
}

impl View {
    fn new(name: &str, path: &Path, bytes: &[u8], raw: &Raw) -> Self {
        let bias = memory::bias(raw);
        let relocations = linkage::changes(raw, bias);
        let mut relocations_by_kind = BTreeMap::new();
        for change in &relocations {
            *relocations_by_kind.entry(change.kind.clone()).or_insert(0) += 1;
        }
        let has_linker = raw.interpreter.is_some() || !raw.dynamic.is_empty();
        Self {
            schema: "faultline.elf/1",
            file: name.to_owned(),
            class_bits: raw.bits,
            byte_order: if raw.is_little { "little" } else { "big" },
            machine: machine_name(raw.machine),
            kind: kind_name(raw),
            bias,
            entry: raw.entry,
            interpreter: raw.interpreter.clone(),
            stack: stack_rights(raw),
            segments: segments(raw),
            vmas_at_exec: memory::areas(raw, bias),
            vmas_at_entry: if has_linker || raw.machine == abi::EM_X86_64 {
                memory::protected(raw, bias)
            } else {
                memory::areas(raw, bias)
            },
            sections: raw.sections.iter().skip(1).map(|each| SectionView::new(raw, each)).collect(),
            symbols: raw.symbols.iter().map(|each| SymbolView::new(raw, each)).collect(),
            dynamic_symbols: raw
                .dynamic_symbols
                .iter()
                .map(|each| SymbolView::new(raw, each))
                .collect(),
            binds_now: linkage::binds_now(raw),
            slots: linkage::slots(raw, bytes, bias, &relocations),
            dirty_pages: linkage::dirty_pages(raw, bias, &relocations),
            relocations,
            relocations_by_kind,
            needed: needed::tree(raw, bytes, path),
            notes: raw.notes.clone(),
        }
    }
}

/// The name of the ABI without its prefix, else the number.
fn short(name: Option<&'static str>, prefixes: &[&str], number: u64) -> String {
    let Some(name) = name else { return format!("{number:#x}") };
    prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name).to_owned()
}

fn machine_name(machine: abi::Machine) -> String {
    match machine {
        abi::EM_X86_64 => "x86-64".to_owned(),
        abi::EM_386 => "i386".to_owned(),
        other => format!("machine {}", other.0),
    }
}

fn kind_name(raw: &Raw) -> String {
    let has_interpreter = raw.interpreter.is_some();
    let is_program = raw.dynamic_value(abi::DT_FLAGS_1).is_some_and(|value| value & DF_1_PIE != 0);
    match raw.kind {
        abi::ET_EXEC if has_interpreter => "program at fixed addresses, dynamic",
        abi::ET_EXEC => "program at fixed addresses, static",
        abi::ET_DYN if has_interpreter => "position-independent program, dynamic",
        abi::ET_DYN if is_program => "position-independent program, static",
        abi::ET_DYN => "shared library",
        abi::ET_REL => "object file",
        abi::ET_CORE => "core file",
        other => return format!("type {:#x}", other.0),
    }
    .to_owned()
}

const DF_1_PIE: u64 = 0x0800_0000;

/// What `PT_GNU_STACK` asks for; without it the stack is executable on i386 only (ELF-5).
fn stack_rights(raw: &Raw) -> String {
    let header = raw.segments.iter().find(|segment| segment.kind == abi::PT_GNU_STACK);
    match header {
        Some(header) if header.flags & abi::PF_X.0 == 0 => "rw-",
        None if raw.machine == abi::EM_X86_64 => "rw-",
        Some(_) | None => "rwx",
    }
    .to_owned()
}

impl SegmentView {
    fn new(raw: &Raw, segment: &raw::Segment) -> Self {
        let right = |bit: abi::ProgramFlags, name| match segment.flags & bit.0 {
            0 => '-',
            _ => name,
        };
        let rights = [right(abi::PF_R, 'r'), right(abi::PF_W, 'w'), right(abi::PF_X, 'x')];
        Self {
            kind: short(
                abi::machine_names(raw.machine).pt.name(segment.kind),
                &["PT_GNU_", "PT_"],
                segment.kind.0.into(),
            ),
            offset: segment.offset,
            addr: segment.vaddr,
            file_bytes: segment.file_bytes,
            memory_bytes: segment.memory_bytes,
            align: segment.align,
            rights: rights.iter().collect(),
            sections: Vec::new(),
        }
    }
}

/// The program headers, each section in the first one that loads it.
fn segments(raw: &Raw) -> Vec<SegmentView> {
    let mut views: Vec<SegmentView> =
        raw.segments.iter().map(|each| SegmentView::new(raw, each)).collect();
    for section in raw.sections.iter().filter(|section| section.flags & SHF_ALLOC != 0) {
        let end = section.addr.saturating_add(section.bytes.max(1));
        let holder = raw.segments.iter().position(|segment| {
            segment.kind == abi::PT_LOAD
                && section.addr >= segment.vaddr
                && end <= segment.vaddr.saturating_add(segment.memory_bytes)
        });
        if let Some(view) = holder.filter(|_| !is_thread_zeros(section)) {
            views[view].sections.push(section.name.clone());
        }
    }
    views
}

impl SectionView {
    fn new(raw: &Raw, section: &raw::Section) -> Self {
        let names = [(1, 'W'), (2, 'A'), (4, 'X'), (0x10, 'M'), (0x20, 'S'), (0x400, 'T')];
        let flags = names.iter().filter(|(bit, _)| section.flags & bit != 0);
        Self {
            name: section.name.clone(),
            kind: short(
                abi::machine_names(raw.machine).sht.name(section.kind),
                &["SHT_GNU_", "SHT_"],
                section.kind.0.into(),
            ),
            addr: section.addr,
            offset: section.offset,
            bytes: section.bytes,
            align: section.align,
            flags: flags.map(|(_, name)| *name).collect(),
        }
    }
}

impl SymbolView {
    fn new(raw: &Raw, symbol: &raw::Symbol) -> Self {
        let names = abi::machine_names(raw.machine);
        let number = symbol.section;
        let section = match number {
            0 => "UND".to_owned(),
            0xfff1 => "ABS".to_owned(),
            0xfff2 => "COMMON".to_owned(),
            _ => {
                let section = raw.sections.get(usize::from(number));
                section.map_or_else(|| format!("{number:#x}"), |section| section.name.clone())
            }
        };
        Self {
            value: symbol.value,
            bytes: symbol.bytes,
            kind: short(names.stt.name(symbol.kind), &["STT_GNU_", "STT_"], symbol.kind.0.into()),
            bind: short(names.stb.name(symbol.bind), &["STB_GNU_", "STB_"], symbol.bind.0.into()),
            section,
            name: symbol.name.clone(),
        }
    }
}

/// Where a library was found, as text.
fn found(path: Option<&PathBuf>) -> String {
    path.map_or_else(|| "not found".to_owned(), |path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that is shown, for any bytes; only that it ends matters.
    fn show_all(bytes: &[u8]) -> Option<usize> {
        let raw = parse(bytes).ok()?;
        let view = View::new("x", Path::new("x"), bytes, &raw);
        let text = text::render(&view, true);
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{line}");
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        Some(serde_json::to_string(&view).expect("it serialises").len())
    }

    #[test]
    fn cut_and_damaged_files_neither_panic_nor_hang() {
        let own = std::env::current_exe().expect("the test runs from a file");
        let mut bytes = fs::read(own).expect("it is there");
        // Names of libraries are looked up on the host: one file is enough for that.
        bytes.truncate(200_000);
        let mut random = 88_172_645_463_325_252u64;
        let mut next = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let mut shown = 0;
        for round in 0..600 {
            let mut copy = bytes.clone();
            if round % 3 == 0 {
                copy.truncate(usize::try_from(next() % 4096).expect("it is small"));
            }
            for _ in 0..next() % 8 {
                let at = usize::try_from(next() % 2048).expect("it is small");
                if let Some(byte) = copy.get_mut(at) {
                    *byte = next().to_le_bytes()[0];
                }
            }
            shown += usize::from(show_all(&copy).is_some());
        }
        assert!((100..600).contains(&shown), "{shown} of 600 files could be shown");
    }
}
