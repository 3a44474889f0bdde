//! What happens at start-up: which relocation changes which page, and the slots of PLT and GOT.
//!
//! # Source
//! System V ABI, AMD64 and i386 supplements, "Relocation"; Linux `fs/binfmt_elf.c:padzero`; glibc
//! `elf/dynamic-link.h`, `elf_machine_runtime_setup`, and `DT_DEBUG` in `elf/rtld.c`.

use std::collections::{BTreeMap, BTreeSet};

use machine::PAGE_BYTES;
use object::elf::{self, Machine, RelocationType};
use serde::Serialize;

use super::hex;
use super::raw::{Raw, Relocation, RelocationTable};

/// When a relocation is done.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum When {
    /// Before the first instruction of the program.
    StartUp,
    /// Its slot gets the address of its stub at start-up, that of the function at the first call.
    FirstCall,
    /// By the linker, when a program is made of this file.
    Linking,
}

/// One relocation and the page that it changes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Change {
    /// Address at run time; in an object file the offset in its section.
    #[serde(serialize_with = "hex::address")]
    pub(crate) addr: u64,
    /// First byte of the page.
    #[serde(serialize_with = "hex::address")]
    pub(crate) page: u64,
    /// Its kind, as the ABI names it.
    pub(crate) kind: String,
    /// The symbol, if it names one.
    pub(crate) symbol: Option<String>,
    /// What is added.
    pub(crate) addend: i64,
    /// How many bytes it changes.
    pub(crate) bytes: u64,
    /// When.
    pub(crate) when: When,
    /// The section that it changes.
    pub(crate) section: Option<String>,
}

/// A page that start-up writes, so that it becomes the program's own copy.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct DirtyPage {
    /// First byte.
    #[serde(serialize_with = "hex::address")]
    pub(crate) page: u64,
    /// Relocations that touch it.
    pub(crate) relocations: u64,
    /// What else writes to it.
    pub(crate) others: Vec<&'static str>,
    /// Sections that the writes lie in.
    pub(crate) sections: BTreeSet<String>,
}

/// A slot of the global offset table.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Slot {
    /// Address at run time.
    #[serde(serialize_with = "hex::address")]
    pub(crate) addr: u64,
    /// What fills it: a kind of relocation.
    pub(crate) kind: String,
    /// The symbol.
    pub(crate) symbol: String,
    /// Address at run time of the code in the PLT that jumps through it.
    pub(crate) stub: Option<String>,
    /// When it is filled.
    pub(crate) when: When,
}

/// Whether all symbols are bound before the program starts.
pub(super) fn binds_now(raw: &Raw) -> bool {
    let has = |tag, bit: u64| raw.dynamic_value(tag).is_some_and(|value| value & bit != 0);
    raw.dynamic_value(elf::DT_BIND_NOW).is_some()
        || has(elf::DT_FLAGS, DF_BIND_NOW)
        || has(elf::DT_FLAGS_1, DF_1_NOW)
}

/// Pages are visited so often at most: a file can name symbols of any size.
const VISITS_MAX: usize = 1 << 22;
const DF_BIND_NOW: u64 = 8;
const DF_1_NOW: u64 = 1;

/// Every relocation, in the order in which it is done.
pub(super) fn changes(raw: &Raw, bias: u64) -> Vec<Change> {
    let is_lazy = !binds_now(raw);
    raw.relocations.iter().map(|each| change(raw, bias, is_lazy, each)).collect()
}

fn change(raw: &Raw, bias: u64, is_lazy: bool, each: &Relocation) -> Change {
    let addr = each.offset.wrapping_add(bias);
    let when = match each.table {
        RelocationTable::Section => When::Linking,
        RelocationTable::Calls if is_lazy && !is_early(raw.machine, each.kind) => When::FirstCall,
        RelocationTable::Calls | RelocationTable::Data => When::StartUp,
    };
    let section = match each.table {
        RelocationTable::Section => {
            let target = usize::try_from(each.target).ok();
            target.and_then(|index| raw.sections.get(index)).map(|section| section.name.clone())
        }
        _ => super::section_at(raw, each.offset),
    };
    Change {
        addr,
        page: addr & !(PAGE_BYTES - 1),
        kind: kind_name(raw.machine, each.kind),
        symbol: each.symbol.as_ref().map(|symbol| named(raw, symbol)),
        addend: each.addend,
        bytes: changed_bytes(raw, each),
        when,
        section,
    }
}

/// The name of a symbol; that of its section if it is one.
fn named(raw: &Raw, symbol: &super::raw::Symbol) -> String {
    if symbol.kind == elf::STT_SECTION && symbol.name.is_empty() {
        let section = raw.sections.get(usize::from(symbol.section));
        return section.map(|section| section.name.clone()).unwrap_or_default();
    }
    symbol.name.clone()
}

/// Whether a call slot is filled at start-up even if others wait: indirect functions.
fn is_early(machine: Machine, kind: RelocationType) -> bool {
    match machine {
        elf::EM_X86_64 => kind == elf::R_X86_64_IRELATIVE,
        elf::EM_386 => kind == elf::R_386_IRELATIVE,
        _ => false,
    }
}

/// The name of the ABI, without the machine's prefix; the number if there is none.
fn kind_name(machine: Machine, kind: RelocationType) -> String {
    let name = elf::machine_names(machine).r.name(kind);
    let short = name.map(|name| {
        let prefixes = ["R_X86_64_", "R_386_"];
        prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name)
    });
    short.map_or_else(|| format!("{}", kind.0), str::to_owned)
}

/// How many bytes the relocation changes; a word unless its kind says otherwise.
fn changed_bytes(raw: &Raw, each: &Relocation) -> u64 {
    let word = raw.word_bytes();
    let symbol_bytes = each.symbol.as_ref().map_or(0, |symbol| symbol.bytes);
    match raw.machine {
        elf::EM_X86_64 => match each.kind {
            elf::R_X86_64_NONE => 0,
            elf::R_X86_64_COPY => symbol_bytes,
            elf::R_X86_64_TLSDESC => 2 * word,
            elf::R_X86_64_32
            | elf::R_X86_64_32S
            | elf::R_X86_64_PC32
            | elf::R_X86_64_PLT32
            | elf::R_X86_64_SIZE32 => 4,
            _ => word,
        },
        elf::EM_386 => match each.kind {
            elf::R_386_NONE => 0,
            elf::R_386_COPY => symbol_bytes,
            elf::R_386_TLS_DESC => 2 * word,
            _ => word,
        },
        _ => word,
    }
}

/// The pages that become the program's own before its first instruction, in order of addresses.
pub(super) fn dirty_pages(raw: &Raw, bias: u64, changes: &[Change]) -> Vec<DirtyPage> {
    let mut pages = BTreeMap::new();
    let room = super::memory::areas(raw, bias);
    let mut budget = VISITS_MAX;
    for change in changes.iter().filter(|change| change.when != When::Linking && change.bytes > 0) {
        // A symbol may be as large as the file says; what no segment has is not written.
        let area = room.iter().find(|area| (area.start..area.end).contains(&change.addr));
        let last = change.addr.saturating_add(change.bytes - 1);
        let last = last.min(area.map_or(change.addr, |area| area.end - 1));
        for page in (change.page..=last).step_by(PAGE_BYTES as usize).take(budget) {
            budget -= 1;
            let entry = pages.entry(page).or_insert_with(|| DirtyPage::new(page));
            entry.relocations += 1;
            entry.sections.extend(change.section.clone());
        }
    }
    for (offset, what) in exec_writes(raw).chain(linker_writes(raw)) {
        let page = offset.wrapping_add(bias) & !(PAGE_BYTES - 1);
        let entry = pages.entry(page).or_insert_with(|| DirtyPage::new(page));
        entry.others.push(what);
        entry.sections.extend(super::section_at(raw, offset));
    }
    pages.into_values().collect()
}

impl DirtyPage {
    fn new(page: u64) -> Self {
        Self { page, relocations: 0, others: Vec::new(), sections: BTreeSet::new() }
    }
}

/// What exec writes: zeros from the end of a segment's file part to the end of its page (ELF-4).
fn exec_writes(raw: &Raw) -> impl Iterator<Item = (u64, &'static str)> {
    let loads = raw.segments.iter().filter(|segment| segment.kind == elf::PT_LOAD);
    let ends = loads.filter_map(|segment| {
        let is_zeroed = segment.memory_bytes > segment.file_bytes && segment.file_bytes != 0;
        let end = segment.vaddr.wrapping_add(segment.file_bytes);
        let is_inside = !end.is_multiple_of(PAGE_BYTES) && segment.flags & elf::PF_W.0 != 0;
        (is_zeroed && is_inside).then_some((end, "zeros of exec behind the file's bytes"))
    });
    ends.collect::<Vec<_>>().into_iter()
}

/// What the dynamic linker writes besides relocations: offsets before the bias.
fn linker_writes(raw: &Raw) -> Vec<(u64, &'static str)> {
    let mut writes = Vec::new();
    let dynamic = raw.segments.iter().find(|segment| segment.kind == elf::PT_DYNAMIC);
    if raw.interpreter.is_some()
        && let Some(dynamic) = dynamic
        && dynamic.flags & elf::PF_W.0 != 0
        && raw.dynamic_value(elf::DT_DEBUG).is_some()
    {
        let index = raw.dynamic.iter().position(|entry| entry.0 == elf::DT_DEBUG).unwrap_or(0);
        let entry = 2 * raw.word_bytes() * index as u64;
        writes.push((dynamic.vaddr.wrapping_add(entry), "DT_DEBUG"));
    }
    let has_calls = raw.dynamic_value(elf::DT_JMPREL).is_some();
    if has_calls
        && !binds_now(raw)
        && raw.interpreter.is_some()
        && let Some(got) = raw.dynamic_value(elf::DT_PLTGOT)
    {
        writes.push((got.wrapping_add(raw.word_bytes()), "the resolver in GOT[1], GOT[2]"));
    }
    writes
}

/// The slots that name a symbol, in order of addresses, each with its stub.
pub(super) fn slots(raw: &Raw, file: &[u8], bias: u64, changes: &[Change]) -> Vec<Slot> {
    let stubs = stubs(raw, file);
    let mut slots: Vec<Slot> = Vec::new();
    for change in changes {
        let is_slot = matches!(change.kind.as_str(), "GLOB_DAT" | "JUMP_SLOT" | "JMP_SLOT");
        let is_function = change.kind == "IRELATIVE";
        if !is_slot && !is_function {
            continue;
        }
        let stub = stubs.get(&change.addr.wrapping_sub(bias));
        let symbol = change.symbol.clone().filter(|name| !name.is_empty());
        slots.push(Slot {
            addr: change.addr,
            kind: change.kind.clone(),
            symbol: symbol
                .unwrap_or_else(|| format!("resolver {:#x}", change.addend.cast_unsigned())),
            stub: stub.map(|stub| format!("{:#x}", stub.wrapping_add(bias))),
            when: change.when,
        });
    }
    slots.sort_by_key(|slot| slot.addr);
    slots
}

/// The stubs: for each slot of the GOT the code in a PLT section that jumps through it.
fn stubs(raw: &Raw, file: &[u8]) -> BTreeMap<u64, u64> {
    let mut stubs = BTreeMap::new();
    let is_x86 = matches!(raw.machine, elf::EM_X86_64 | elf::EM_386);
    let plts = raw.sections.iter().filter(|section| section.name.starts_with(".plt"));
    for section in plts.filter(|_| is_x86) {
        let content = raw.bytes_at(file, section.addr, section.bytes).unwrap_or(&[]);
        for (at, code) in content.windows(6).enumerate().filter(|(_, code)| is_jump(code)) {
            // Stubs of all forms begin at multiples of 8 and jump in their first 8 bytes. The one
            // that pushes GOT[1] before it jumps is nobody's.
            let begin = at & !7;
            if content.get(begin..).is_some_and(is_resolver) {
                continue;
            }
            let target = jump_target(raw, section.addr.wrapping_add(at as u64), code);
            stubs.entry(target).or_insert(section.addr.wrapping_add(begin as u64));
        }
    }
    stubs
}

/// `push disp32(%rip)`, `push disp32`, `push disp32(%ebx)`.
fn is_resolver(code: &[u8]) -> bool {
    code.starts_with(&[0xff, 0x35]) || code.starts_with(&[0xff, 0xb3])
}

/// `jmp *disp32(%rip)`, `jmp *disp32`, `jmp *disp32(%ebx)`.
fn is_jump(code: &[u8]) -> bool {
    code[0] == 0xff && matches!(code[1], 0x25 | 0xa3)
}

/// The slot that the jump at `at` goes through.
fn jump_target(raw: &Raw, at: u64, code: &[u8]) -> u64 {
    let displacement = i32::from_le_bytes([code[2], code[3], code[4], code[5]]);
    let displacement = i64::from(displacement).cast_unsigned();
    let base = match (raw.machine, code[1]) {
        (elf::EM_X86_64, _) => at.wrapping_add(6),
        (_, 0xa3) => raw.dynamic_value(elf::DT_PLTGOT).unwrap_or(0),
        _ => return displacement & 0xffff_ffff,
    };
    base.wrapping_add(displacement)
}
