//! What the headers of an ELF file say, as plain numbers of either class and byte order.
//!
//! Every number comes from a file that somebody may have made up. Program headers must be readable,
//! as for the kernel; whatever else cannot be read (sections, symbols, relocations) becomes a note.

use object::Endianness;
use object::elf::{self, DynamicTag, Machine, RelocationType};
use object::read::elf::{
    Dyn, FileHeader, ProgramHeader, Rel, Rela, RelrIterator, SectionHeader, Sym,
};

/// One program header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    pub(super) kind: elf::ProgramType,
    pub(super) offset: u64,
    pub(super) vaddr: u64,
    pub(super) file_bytes: u64,
    pub(super) memory_bytes: u64,
    pub(super) align: u64,
    pub(super) flags: u32,
}

/// One section header.
#[derive(Clone, Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) kind: elf::SectionType,
    pub(super) flags: u64,
    pub(super) addr: u64,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) align: u64,
}

/// One symbol.
#[derive(Clone, Debug)]
pub(super) struct Symbol {
    pub(super) name: String,
    pub(super) value: u64,
    pub(super) bytes: u64,
    pub(super) kind: elf::SymbolType,
    pub(super) bind: elf::SymbolBind,
    pub(super) section: u16,
}

/// Which table of relocations an entry stands in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum RelocationTable {
    /// `DT_REL`, `DT_RELA`, `DT_RELR`: done at start-up.
    Data,
    /// `DT_JMPREL`: calls, which may be bound when they are first made.
    Calls,
    /// A section of an object file: done by the linker.
    Section,
}

/// One relocation.
#[derive(Clone, Debug)]
pub(super) struct Relocation {
    pub(super) offset: u64,
    pub(super) kind: RelocationType,
    pub(super) symbol: Option<Symbol>,
    pub(super) addend: i64,
    pub(super) table: RelocationTable,
    /// Index of the section that it changes, in an object file.
    pub(super) target: u32,
}

/// All that the file says.
#[derive(Clone, Debug)]
pub(super) struct Raw {
    pub(super) bits: u32,
    pub(super) is_little: bool,
    pub(super) kind: elf::FileType,
    pub(super) machine: Machine,
    pub(super) entry: u64,
    pub(super) segments: Vec<Segment>,
    pub(super) interpreter: Option<String>,
    pub(super) sections: Vec<Section>,
    pub(super) symbols: Vec<Symbol>,
    pub(super) dynamic_symbols: Vec<Symbol>,
    pub(super) dynamic: Vec<(DynamicTag, u64)>,
    pub(super) relocations: Vec<Relocation>,
    /// What could not be read.
    pub(super) notes: Vec<String>,
}

impl Raw {
    /// The bytes of the file that stand at `vaddr` in memory, as far as one segment has them.
    pub(super) fn bytes_at<'a>(&self, file: &'a [u8], vaddr: u64, bytes: u64) -> Option<&'a [u8]> {
        let loads = self.segments.iter().filter(|segment| segment.kind == elf::PT_LOAD);
        loads.into_iter().find_map(|segment| {
            let skip = vaddr.checked_sub(segment.vaddr)?;
            if skip.checked_add(bytes)? > segment.file_bytes {
                return None;
            }
            let start = usize::try_from(segment.offset.checked_add(skip)?).ok()?;
            file.get(start..start.checked_add(usize::try_from(bytes).ok()?)?)
        })
    }

    /// The value of the first dynamic entry with `tag`.
    pub(super) fn dynamic_value(&self, tag: DynamicTag) -> Option<u64> {
        self.dynamic.iter().find(|entry| entry.0 == tag).map(|entry| entry.1)
    }

    /// The text that a dynamic entry with a string names.
    pub(super) fn dynamic_text(&self, file: &[u8], offset: u64) -> Option<String> {
        string_at(self.strings(file)?, offset)
    }

    /// The table of the dynamic entries' strings.
    fn strings<'a>(&self, file: &'a [u8]) -> Option<&'a [u8]> {
        let start = self.dynamic_value(elf::DT_STRTAB)?;
        let size = self.dynamic_value(elf::DT_STRSZ)?;
        self.bytes_at(file, start, size)
    }

    /// Bytes of an address.
    pub(super) const fn word_bytes(&self) -> u64 {
        self.bits as u64 / 8
    }
}

/// The string at `offset` of a table.
fn string_at(table: &[u8], offset: u64) -> Option<String> {
    let rest = table.get(usize::try_from(offset).ok()?..)?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    Some(String::from_utf8_lossy(&rest[..end]).into_owned())
}

/// Reads a file of the class `E`.
///
/// # Errors
/// One line: the file header or the program headers cannot be read.
pub(super) fn read<E: FileHeader<Endian = Endianness>>(file: &[u8]) -> Result<Raw, String> {
    let text = |error: object::read::Error| error.to_string();
    let header = E::parse(file).map_err(text)?;
    let endian = header.endian().map_err(text)?;
    let headers = header.program_headers(endian, file).map_err(text)?;
    let mut raw = Raw {
        bits: if header.is_class_64() { 64 } else { 32 },
        is_little: header.is_little_endian(),
        kind: header.e_type(endian),
        machine: header.e_machine(endian),
        entry: header.e_entry(endian).into(),
        segments: headers.iter().map(|each| segment::<E>(each, endian)).collect(),
        interpreter: None,
        sections: Vec::new(),
        symbols: Vec::new(),
        dynamic_symbols: Vec::new(),
        dynamic: Vec::new(),
        relocations: Vec::new(),
        notes: Vec::new(),
    };
    for each in headers {
        match each.interpreter(endian, file) {
            Ok(Some(path)) if raw.interpreter.is_none() => {
                raw.interpreter = Some(String::from_utf8_lossy(path).into_owned());
            }
            Ok(_) => {}
            Err(error) => raw.notes.push(format!("interpreter: {error}")),
        }
        match each.dynamic(endian, file) {
            Ok(entries) => raw.dynamic.extend(dynamic::<E>(entries.unwrap_or(&[]), endian)),
            Err(error) => raw.notes.push(format!("dynamic entries: {error}")),
        }
    }
    if let Err(error) = sections::<E>(&mut raw, header, endian, file) {
        raw.notes.push(format!("sections: {error}"));
    }
    if raw.dynamic.is_empty() {
        section_relocations::<E>(&mut raw, header, endian, file);
    } else {
        dynamic_relocations::<E>(&mut raw, endian, file);
    }
    Ok(raw)
}

fn segment<E: FileHeader<Endian = Endianness>>(
    header: &E::ProgramHeader,
    endian: Endianness,
) -> Segment {
    Segment {
        kind: header.p_type(endian),
        offset: header.p_offset(endian).into(),
        vaddr: header.p_vaddr(endian).into(),
        file_bytes: header.p_filesz(endian).into(),
        memory_bytes: header.p_memsz(endian).into(),
        align: header.p_align(endian).into(),
        flags: header.p_flags(endian).0,
    }
}

/// The entries up to the one that ends the table.
fn dynamic<E: FileHeader<Endian = Endianness>>(
    entries: &[E::Dyn],
    endian: Endianness,
) -> Vec<(DynamicTag, u64)> {
    let plain = entries.iter().map(|entry| (entry.d_tag(endian), entry.d_val(endian).into()));
    plain.take_while(|entry| entry.0 != elf::DT_NULL).collect()
}

fn sections<E: FileHeader<Endian = Endianness>>(
    raw: &mut Raw,
    header: &E,
    endian: Endianness,
    file: &[u8],
) -> object::read::Result<()> {
    let table = header.sections(endian, file)?;
    for section in table.iter() {
        let name = table.section_name(endian, section).unwrap_or(b"?");
        raw.sections.push(Section {
            name: String::from_utf8_lossy(name).into_owned(),
            kind: section.sh_type(endian),
            flags: section.sh_flags(endian).0,
            addr: section.sh_addr(endian).into(),
            offset: section.sh_offset(endian).into(),
            bytes: section.sh_size(endian).into(),
            align: section.sh_addralign(endian).into(),
        });
    }
    for kind in [elf::SHT_SYMTAB, elf::SHT_DYNSYM] {
        let symbols = table.symbols(endian, file, kind)?;
        let plain = symbols.iter().skip(1).map(|each| Symbol {
            name: text_of(symbols.symbol_name(endian, each)),
            ..symbol::<E>(each, endian)
        });
        match kind {
            elf::SHT_SYMTAB => raw.symbols = plain.collect(),
            _ => raw.dynamic_symbols = plain.collect(),
        }
    }
    Ok(())
}

fn text_of(name: object::read::Result<&[u8]>) -> String {
    name.map_or_else(|_| "?".to_owned(), |name| String::from_utf8_lossy(name).into_owned())
}

/// The symbol without its name.
fn symbol<E: FileHeader<Endian = Endianness>>(raw: &E::Sym, endian: Endianness) -> Symbol {
    Symbol {
        name: String::new(),
        value: raw.st_value(endian).into(),
        bytes: raw.st_size(endian).into(),
        kind: raw.st_type(),
        bind: raw.st_bind(),
        section: raw.st_shndx(endian).0,
    }
}

/// The symbol `index` of the table at `start`; 0 is none.
fn dynamic_symbol<E: FileHeader<Endian = Endianness>>(
    raw: &Raw,
    endian: Endianness,
    file: &[u8],
    (start, strings, index): (u64, &[u8], u32),
) -> Option<Symbol> {
    let bytes = size_of::<E::Sym>() as u64;
    let at = start.checked_add(u64::from(index).checked_mul(bytes)?)?;
    let (found, _) = object::pod::from_bytes::<E::Sym>(raw.bytes_at(file, at, bytes)?).ok()?;
    let name = string_at(strings, found.st_name(endian).into()).unwrap_or_default();
    (index != 0).then(|| Symbol { name, ..symbol::<E>(found, endian) })
}

/// Relocations as the dynamic linker finds them: by address, not by section.
fn dynamic_relocations<E: FileHeader<Endian = Endianness>>(
    raw: &mut Raw,
    endian: Endianness,
    file: &[u8],
) {
    let has_addends = |raw: &Raw| raw.dynamic_value(elf::DT_PLTREL) == Some(elf::DT_RELA.0 as u64);
    let tables = [
        (elf::DT_RELA, elf::DT_RELASZ, RelocationTable::Data, true),
        (elf::DT_REL, elf::DT_RELSZ, RelocationTable::Data, false),
        (elf::DT_JMPREL, elf::DT_PLTRELSZ, RelocationTable::Calls, has_addends(raw)),
    ];
    let strings = raw.strings(file).unwrap_or(&[]);
    let symbols = raw.dynamic_value(elf::DT_SYMTAB).unwrap_or(0);
    relative::<E>(raw, endian, file);
    for (start, bytes, table, is_rela) in tables {
        let Some(start) = raw.dynamic_value(start) else { continue };
        let bytes = raw.dynamic_value(bytes).unwrap_or(0);
        let Some(content) = raw.bytes_at(file, start, bytes) else {
            raw.notes.push(format!("relocations at {start:#x}: not in the file"));
            continue;
        };
        let entries = entries::<E>(content, endian, is_rela);
        let Some(entries) = entries else {
            raw.notes.push(format!("relocations at {start:#x}: not aligned"));
            continue;
        };
        for (offset, kind, index, addend) in entries {
            let symbol = dynamic_symbol::<E>(raw, endian, file, (symbols, strings, index));
            let addend = addend.unwrap_or_else(|| implicit(raw, file, offset));
            raw.relocations.push(Relocation { offset, kind, symbol, addend, table, target: 0 });
        }
    }
}

/// Entries of `DT_RELR`: a bitmap of words to which the bias is added.
fn relative<E: FileHeader<Endian = Endianness>>(raw: &mut Raw, endian: Endianness, file: &[u8]) {
    let Some(start) = raw.dynamic_value(elf::DT_RELR) else { return };
    let bytes = raw.dynamic_value(elf::DT_RELRSZ).unwrap_or(0);
    let content = raw.bytes_at(file, start, bytes).unwrap_or(&[]);
    let count = content.len() / size_of::<E::Relr>();
    let Ok((entries, _)) = object::pod::slice_from_bytes::<E::Relr>(content, count) else {
        raw.notes.push(format!("relocations at {start:#x}: not aligned"));
        return;
    };
    let kind = match raw.machine {
        elf::EM_386 => elf::R_386_RELATIVE,
        elf::EM_AARCH64 => elf::R_AARCH64_RELATIVE,
        _ => elf::R_X86_64_RELATIVE,
    };
    for offset in RelrIterator::<E>::new(endian, entries) {
        let offset = offset.into();
        let addend = implicit(raw, file, offset);
        let table = RelocationTable::Data;
        raw.relocations.push(Relocation { offset, kind, symbol: None, addend, table, target: 0 });
    }
}

/// The addend that stands in the place to be changed.
fn implicit(raw: &Raw, file: &[u8], offset: u64) -> i64 {
    let word = raw.bytes_at(file, offset, raw.word_bytes()).map(<[u8]>::to_vec);
    let mut word = word.unwrap_or_default();
    if !raw.is_little {
        word.reverse();
    }
    let bytes = word.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    bytes.cast_signed()
}

/// Offset, kind, symbol and addend of each entry; `None` if the table is not aligned.
type Entry = (u64, RelocationType, u32, Option<i64>);

fn entries<E: FileHeader<Endian = Endianness>>(
    content: &[u8],
    endian: Endianness,
    is_rela: bool,
) -> Option<Vec<Entry>> {
    if is_rela {
        let count = content.len() / size_of::<E::Rela>();
        let (entries, _) = object::pod::slice_from_bytes::<E::Rela>(content, count).ok()?;
        let plain = entries.iter().map(|each| {
            let addend: i64 = each.r_addend(endian).into();
            let symbol = each.r_sym(endian, false);
            (each.r_offset(endian).into(), each.r_type(endian, false), symbol, Some(addend))
        });
        return Some(plain.collect());
    }
    let count = content.len() / size_of::<E::Rel>();
    let (entries, _) = object::pod::slice_from_bytes::<E::Rel>(content, count).ok()?;
    let plain = entries
        .iter()
        .map(|each| (each.r_offset(endian).into(), each.r_type(endian), each.r_sym(endian), None));
    Some(plain.collect())
}

/// Relocations of a file without dynamic entries: all of an object file, those that stand in memory
/// of a program.
fn section_relocations<E: FileHeader<Endian = Endianness>>(
    raw: &mut Raw,
    header: &E,
    endian: Endianness,
    file: &[u8],
) {
    let Ok(table) = header.sections(endian, file) else { return };
    let is_object = raw.kind == elf::ET_REL;
    let symbols = raw.symbols.clone();
    for section in table.iter() {
        let is_rela = section.sh_type(endian) == elf::SHT_RELA;
        let is_wanted = is_rela || section.sh_type(endian) == elf::SHT_REL;
        let is_in_memory = section.sh_flags(endian).0 & SHF_ALLOC != 0;
        if !is_wanted || !(is_object || is_in_memory) {
            continue;
        }
        let content = section.data(endian, file).ok();
        let Some(entries) = content.and_then(|content| entries::<E>(content, endian, is_rela))
        else {
            raw.notes.push("a section of relocations cannot be read".to_owned());
            continue;
        };
        let table = if is_object { RelocationTable::Section } else { RelocationTable::Data };
        for (offset, kind, index, addend) in entries {
            let named = usize::try_from(index).ok().and_then(|index| index.checked_sub(1));
            let symbol = named.filter(|_| is_object).and_then(|index| symbols.get(index)).cloned();
            let addend = addend.unwrap_or(0);
            let target = section.sh_info(endian);
            raw.relocations.push(Relocation { offset, kind, symbol, addend, table, target });
        }
    }
}

/// The section is in memory while the program runs.
pub(super) const SHF_ALLOC: u64 = 2;
