//! The VMAs that a program file becomes: as exec maps its segments, and after the dynamic linker
//! took the right to write from what it has relocated.
//!
//! # Source
//! Linux 6.12 `fs/binfmt_elf.c:elf_load`; glibc `_dl_protect_relro`; semantics ELF-3 to ELF-6.

use machine::PAGE_BYTES;
use object::elf;
use serde::Serialize;

use super::hex;
use super::raw::Raw;

/// Where exec puts a position-independent program without randomness.
///
/// # Source
/// abi.md, section 6: measured on Linux 6.18 with `setarch -R`.
const BIAS: [(elf::Machine, u64); 2] =
    [(elf::EM_X86_64, 0x5555_5555_4000), (elf::EM_386, 0x5655_5000)];

/// One VMA.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(crate) struct Area {
    /// First byte.
    #[serde(serialize_with = "hex::address")]
    pub(crate) start: u64,
    /// First byte behind it.
    #[serde(serialize_with = "hex::address")]
    pub(crate) end: u64,
    /// As `/proc/PID/maps` writes them.
    pub(crate) perms: String,
    /// Offset in the file; `None` for zeros.
    pub(crate) file_offset: Option<u64>,
    /// Which program header it comes from.
    pub(crate) segment: usize,
    /// Whether the dynamic linker took the right to write away, after relocation.
    pub(crate) is_relro: bool,
}

/// What is added to each address of the file in a run without randomness.
pub(super) fn bias(raw: &Raw) -> u64 {
    if raw.kind != elf::ET_DYN {
        return 0;
    }
    let known = BIAS.iter().find(|(machine, _)| *machine == raw.machine);
    let aligns = raw.segments.iter().filter(|segment| segment.kind == elf::PT_LOAD);
    let align = aligns.map(|segment| segment.align).filter(|align| align.is_power_of_two()).max();
    known.map_or(0, |(_, base)| base & !(align.unwrap_or(1) - 1))
}

/// The VMAs with this bias, in order of addresses. Segments that wrap or overlap are left as they
/// are: exec refuses or overwrites.
pub(super) fn areas(raw: &Raw, bias: u64) -> Vec<Area> {
    let mut areas = Vec::new();
    for (index, segment) in raw.segments.iter().enumerate() {
        if segment.kind != elf::PT_LOAD {
            continue;
        }
        let begin = segment.vaddr.wrapping_add(bias);
        let start = begin & !(PAGE_BYTES - 1);
        let file_end = page_up(begin.saturating_add(segment.file_bytes));
        let end = page_up(begin.saturating_add(segment.memory_bytes));
        let perms = perms(segment.flags);
        let mut area = Area {
            start,
            end: file_end,
            perms: perms.clone(),
            file_offset: Some(segment.offset & !(PAGE_BYTES - 1)),
            segment: index,
            is_relro: false,
        };
        if segment.file_bytes != 0 {
            areas.push(area.clone());
            area.start = file_end;
        }
        if area.start < end {
            let execute = if segment.flags & elf::PF_X.0 != 0 { 'x' } else { '-' };
            area.end = end;
            area.perms = format!("rw{execute}p");
            area.file_offset = None;
            areas.push(area);
        }
    }
    areas.sort_by_key(|area| area.start);
    areas
}

/// The VMAs after `mprotect` of `PT_GNU_RELRO`: whole pages of it are read-only.
pub(super) fn protected(raw: &Raw, bias: u64) -> Vec<Area> {
    let relro = raw.segments.iter().find(|segment| segment.kind == elf::PT_GNU_RELRO);
    let areas = areas(raw, bias);
    let Some(relro) = relro else { return areas };
    let start = relro.vaddr.wrapping_add(bias) & !(PAGE_BYTES - 1);
    let end = relro.vaddr.wrapping_add(bias).saturating_add(relro.memory_bytes);
    let end = end & !(PAGE_BYTES - 1);
    if start >= end {
        return areas;
    }
    areas.into_iter().flat_map(|area| split(area, start, end)).collect()
}

/// The parts of an area below, inside and above `start..end`; the inner one is read-only.
fn split(area: Area, start: u64, end: u64) -> Vec<Area> {
    let cuts = [(area.start, start), (start, end), (end, area.end)];
    let mut parts = Vec::new();
    for (index, (from, to)) in cuts.into_iter().enumerate() {
        let (from, to) = (from.max(area.start), to.min(area.end));
        if from >= to {
            continue;
        }
        let mut part = Area { start: from, end: to, ..area.clone() };
        part.file_offset = area.file_offset.map(|offset| offset.wrapping_add(from - area.start));
        if index == 1 && area.perms.contains('w') {
            part.perms = part.perms.replace('w', "-");
            part.is_relro = true;
        }
        parts.push(part);
    }
    parts
}

/// The rights of a private mapping as `/proc/PID/maps` writes them.
fn perms(flags: u32) -> String {
    let right = |bit: elf::ProgramFlags, name| if flags & bit.0 != 0 { name } else { '-' };
    let rights = [right(elf::PF_R, 'r'), right(elf::PF_W, 'w'), right(elf::PF_X, 'x'), 'p'];
    rights.iter().collect()
}

/// The first page start at or above; the last one of all if there is none.
const fn page_up(addr: u64) -> u64 {
    addr.saturating_add(PAGE_BYTES - 1) & !(PAGE_BYTES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(start: u64, end: u64) -> Area {
        let perms = "rw-p".to_owned();
        Area { start, end, perms, file_offset: Some(0x1000), segment: 3, is_relro: false }
    }

    #[test]
    fn relro_cuts_an_area_in_up_to_three() {
        let of = |start, end| {
            let parts = split(area(0x2000, 0x6000), start, end);
            parts.into_iter().map(|part| (part.start, part.end, part.is_relro)).collect::<Vec<_>>()
        };
        assert_eq!(of(0x2000, 0x4000), [(0x2000, 0x4000, true), (0x4000, 0x6000, false)]);
        assert_eq!(
            of(0x3000, 0x4000),
            [(0x2000, 0x3000, false), (0x3000, 0x4000, true), (0x4000, 0x6000, false)]
        );
        assert_eq!(of(0x8000, 0x9000), [(0x2000, 0x6000, false)]);
        assert_eq!(split(area(0x2000, 0x6000), 0x3000, 0x4000)[1].file_offset, Some(0x2000));
    }
}
