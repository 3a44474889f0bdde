//! Mapping a program, its interpreter and the vDSO into a new address space.
//!
//! `None` means that Linux kills the program here.

use std::sync::Arc;

use machine::{PAGE_BYTES, PageSize, VirtAddr, VirtRange};
use mm::ops::{MapFlags, MapRequest, MapSource};
use mm::{Mm, Rights, Sharing, ops};

use super::program::{ElfFile, Prepared};
use super::special::{VCLOCK_BYTES, VVAR_BYTES};
use super::{Loader, is_page_aligned};
use crate::abi::Abi;
use crate::elf::{Placement, Segment};
use crate::uaccess::{self, WrittenBy};
use crate::vdso;

/// Where a whole file goes.
#[derive(Clone, Copy)]
enum Spot {
    /// Its addresses are final.
    Fixed,
    /// Address 0 of the file goes to this address, if that is free.
    At(u64),
    /// Wherever `mmap` puts it.
    Free,
}

impl Loader<'_> {
    /// Maps the program, sets the bounds and the break, and returns the bias.
    pub(super) fn map_main(&mut self, mm: &mut Mm, prepared: &Prepared) -> Option<u64> {
        let main = &prepared.main;
        let is_dynamic = prepared.interpreter.is_some();
        let spot = match main.program.header.placement {
            Placement::Fixed => Spot::Fixed,
            Placement::Anywhere if is_dynamic => {
                Spot::At(self.room.pie_base & !(main.program.align_max() - 1))
            }
            Placement::Anywhere => Spot::Free,
        };
        let bias = self.place(mm, main, spot)?;
        let bounds = main.program.bounds();
        let at = |addr: u64| VirtAddr::new(addr.wrapping_add(bias));
        let statics = VirtRange::new(at(bounds.start_data), at(bounds.brk));
        ops::reserve_statics(mm, self.memory, statics);
        self.map_segments(mm, main, spot, bias)?;
        mm.layout.start_code = at(bounds.start_code);
        mm.layout.end_code = at(bounds.end_code);
        mm.layout.start_data = at(bounds.start_data);
        mm.layout.end_data = at(bounds.end_data);
        // A program in the mmap area would have no room for its break behind it (BRK-7).
        let base = VirtAddr::new(self.room.pie_base);
        let brk = if matches!(spot, Spot::Free) { base } else { at(bounds.brk) };
        mm.layout.start_brk = brk.align_up(PageSize::K4)?;
        mm.layout.brk = mm.layout.start_brk;
        Some(bias)
    }

    /// Maps the dynamic linker and returns its bias and its first instruction.
    pub(super) fn map_interpreter(&mut self, mm: &mut Mm, file: &ElfFile) -> Option<(u64, u64)> {
        let spot = match file.program.header.placement {
            Placement::Fixed => Spot::Fixed,
            Placement::Anywhere => Spot::Free,
        };
        let bias = self.place(mm, file, spot)?;
        self.map_segments(mm, file, spot, bias)?;
        Some((bias, file.entry(bias)))
    }

    /// Finds the place of a file and returns the bias.
    fn place(&mut self, mm: &mut Mm, file: &ElfFile, spot: Spot) -> Option<u64> {
        let first = file.program.segments.first()?;
        let start = first.vaddr & !(PAGE_BYTES - 1);
        match spot {
            Spot::Fixed => Some(0),
            Spot::At(addr) => {
                let bias = addr.wrapping_sub(first.vaddr) & !(PAGE_BYTES - 1);
                self.find_room(mm, file, Some(bias.wrapping_add(start)))?;
                Some(bias)
            }
            Spot::Free => Some(self.find_room(mm, file, None)?.wrapping_sub(start)),
        }
    }

    /// Maps all segments of a file at its place.
    fn map_segments(&mut self, mm: &mut Mm, file: &ElfFile, spot: Spot, bias: u64) -> Option<()> {
        // Without a fixed place the first segment lies in what was free for all, like the others.
        let mut flags = match spot {
            Spot::Fixed => MapFlags::FIXED_NO_REPLACE,
            Spot::At(_) | Spot::Free => MapFlags::FIXED,
        };
        for segment in &file.program.segments {
            let start = segment.vaddr.wrapping_add(bias) & !(PAGE_BYTES - 1);
            self.map_segment(mm, file, segment, (start, flags))?;
            if !segment.is_sane(self.room.end) {
                return None;
            }
            flags = MapFlags::FIXED;
        }
        Some(())
    }

    /// Finds room for all segments of a file together and returns its first address. Nothing stays
    /// mapped there.
    fn find_room(&mut self, mm: &mut Mm, file: &ElfFile, wanted: Option<u64>) -> Option<u64> {
        let bytes = file.program.span_bytes();
        let align = file.program.align_max();
        let task_end = self.room.end;
        if bytes == 0 || bytes > task_end || align > task_end {
            return None;
        }
        let is_wide = wanted.is_none() && align > PAGE_BYTES;
        let total = if is_wide { bytes.checked_add(align)? } else { bytes };
        let flags = match wanted {
            Some(_) => MapFlags::FIXED_NO_REPLACE,
            None => MapFlags::empty(),
        };
        let first = file.program.segments.first()?;
        let request = MapRequest {
            addr: wanted.unwrap_or(0),
            bytes: total,
            rights: first.rights,
            sharing: Sharing::Private,
            flags: flags | MapFlags::NO_RESERVE,
            source: MapSource::File { file: Arc::clone(&file.file), offset: 0 },
        };
        let base = ops::mmap(mm, self.memory, self.hw, request).ok()?;
        ops::munmap(mm, self.memory, self.hw, base, total).ok()?;
        let base = base.as_u64();
        Some(if is_wide { base.checked_next_multiple_of(align)? } else { base })
    }

    /// Maps one segment at the page `start`: its file part, the zeros behind it in the last page,
    /// and the whole pages of zeros (ELF-4, ELF-6).
    fn map_segment(
        &mut self,
        mm: &mut Mm,
        file: &ElfFile,
        segment: &Segment,
        (start, flags): (u64, MapFlags),
    ) -> Option<()> {
        let skip = segment.page_skip();
        let file_end = start.checked_add(skip)?.checked_add(segment.file_bytes)?;
        let end = start.checked_add(skip)?.checked_add(segment.memory_bytes)?;
        let mut zero_start = start;
        if segment.file_bytes != 0 {
            let offset = segment.offset.wrapping_sub(skip);
            if !is_page_aligned(offset) {
                return None;
            }
            let request = MapRequest {
                addr: start,
                bytes: file_end.checked_sub(start)?,
                rights: self.implied(segment.rights),
                sharing: Sharing::Private,
                flags,
                source: MapSource::File { file: Arc::clone(&file.file), offset },
            };
            ops::mmap(mm, self.memory, self.hw, request).ok()?;
            zero_start = file_end.checked_next_multiple_of(PAGE_BYTES)?;
            if end > file_end {
                self.zero(mm, file_end, zero_start, segment.rights)?;
            }
        }
        let zero_end = end.checked_next_multiple_of(PAGE_BYTES)?;
        if segment.memory_bytes > segment.file_bytes && zero_start < zero_end {
            let request = MapRequest {
                addr: zero_start,
                bytes: zero_end - zero_start,
                rights: self
                    .implied(Rights::READ | Rights::WRITE | segment.rights & Rights::EXECUTE),
                sharing: Sharing::Private,
                flags: MapFlags::FIXED,
                source: MapSource::Anonymous,
            };
            ops::mmap(mm, self.memory, self.hw, request).ok()?;
        }
        Some(())
    }

    /// The rights of a mapping, where reading implies executing.
    fn implied(&self, rights: Rights) -> Rights {
        let is_implied = self.implies_execute && rights.contains(Rights::READ);
        if is_implied { rights | Rights::EXECUTE } else { rights }
    }

    /// Zeroes the end of the last page of a segment; that this fails matters only if the segment is
    /// writable.
    fn zero(&mut self, mm: &mut Mm, start: u64, end: u64, rights: Rights) -> Option<()> {
        let zeros = [0; PAGE_BYTES as usize];
        let count = usize::try_from(end.checked_sub(start)?).ok()?;
        let zeros = (VirtAddr::new(start), zeros.get(..count)?);
        let stored = uaccess::store(mm, self.memory, self.hw, zeros, WrittenBy::User);
        (stored.is_ok() || !rights.contains(Rights::WRITE)).then_some(())
    }

    /// Maps `[vvar]`, `[vvar_vclock]` and `[vdso]` side by side.
    ///
    /// Returns the address of the last.
    pub(super) fn map_vdso(&mut self, mm: &mut Mm) -> Option<u64> {
        let vdso_bytes = vdso::IMAGE_BYTES as u64;
        let (read, execute) = (Rights::READ, Rights::READ | Rights::EXECUTE);
        let vdso = match self.abi {
            Abi::X86_64 => &self.special.vdso,
            Abi::I386 => &self.special.vdso_i386,
        };
        let parts = [
            (Arc::clone(&self.special.vvar), VVAR_BYTES, read),
            (Arc::clone(&self.special.vclock), VCLOCK_BYTES, read),
            (Arc::clone(vdso), vdso_bytes, execute),
        ];
        let total = VVAR_BYTES + VCLOCK_BYTES + vdso_bytes;
        let mut addr = 0;
        let mut last = 0;
        for (index, (file, bytes, rights)) in parts.into_iter().enumerate() {
            // The first mapping takes the room of all, the others replace their part of it.
            let is_first = index == 0;
            let request = MapRequest {
                addr,
                bytes: if is_first { total } else { bytes },
                rights,
                sharing: Sharing::Private,
                flags: if is_first {
                    MapFlags::SPECIAL
                } else {
                    MapFlags::SPECIAL | MapFlags::FIXED
                },
                source: MapSource::File { file, offset: 0 },
            };
            last = ops::mmap(mm, self.memory, self.hw, request).ok()?.as_u64();
            addr = last + bytes;
        }
        Some(last)
    }
}
