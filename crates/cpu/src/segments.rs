//! Segments: descriptors in the tables of guest memory, and what the CPU keeps of them.
//!
//! A selector names a descriptor of 8 bytes in the GDT or the LDT. Loading it into a segment
//! register checks it and copies base, limit and rights to the hidden part of the register, which
//! is what accesses go by until the next load. All loads here are those of a user program (CPL 3).
//!
//! Nouns: [`Segment`] (a hidden part), [`DescriptorTable`] (what GDTR and LDTR say),
//! [`SegmentName`], [`Mode`] (which code the CPU executes).
//!
//! # Source
//! Intel SDM 3A, 3.4 and 5.2 to 5.8; the selectors and descriptors are those of Linux 6.12
//! `arch/x86/include/asm/segment.h`. Semantics: sections 19 and 20.

use crate::{Exception, Registers};
use machine::{Machine, PhysAddr};

/// Which instruction set the code segment selects.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Mode {
    /// 64-bit code.
    #[default]
    Long,
    /// 32-bit or 16-bit code, on a 32-bit kernel or on a 64-bit one.
    Compat,
}

/// A segment register; the numbers are those of the encoding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SegmentName {
    /// Target of string instructions.
    Es = 0,
    /// Code.
    Cs = 1,
    /// Stack.
    Ss = 2,
    /// Data.
    Ds = 3,
    /// Free for the program.
    Fs = 4,
    /// Free for the program; threads of i386 programs find themselves by it.
    Gs = 5,
}

/// The hidden part of a segment register.
///
/// # Units
/// `base` is a byte address, `limit` the last offset that is valid (the first below the valid ones
/// if the segment expands down).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Segment {
    /// Linear address of offset 0. That of FS and GS is in [`Registers::fs_base`] and
    /// [`Registers::gs_base`].
    pub base: u64,
    /// The limit in bytes.
    pub limit: u32,
    /// Bits 40 to 47 and 52 to 55 of the descriptor, in bits 0 to 7 and 12 to 15. 0: the register
    /// holds a null selector and names no segment.
    pub rights: u16,
}

/// The accessed bit in a descriptor.
const ACCESSED: u64 = (Segment::ACCESSED as u64) << 40;

/// Bits of [`Segment::rights`].
impl Segment {
    /// It has been loaded.
    pub const ACCESSED: u16 = 1;
    /// Data: can be written.
    pub const WRITABLE: u16 = 1 << 1;
    /// Code: can be read as data.
    pub const READABLE: u16 = 1 << 1;
    /// Data: the offsets above the limit are the valid ones.
    pub const EXPANDS_DOWN: u16 = 1 << 2;
    /// Code: less privileged code may call it.
    pub const CONFORMING: u16 = 1 << 2;
    /// Code, not data.
    pub const CODE: u16 = 1 << 3;
    /// Code or data, not a gate, a task state segment or a local table.
    pub const NOT_SYSTEM: u16 = 1 << 4;
    /// Can be loaded.
    pub const PRESENT: u16 = 1 << 7;
    /// Code: 64-bit.
    pub const LONG: u16 = 1 << 13;
    /// 32-bit, not 16-bit; the upper end of data that expands down is 4 GiB, not 64 KiB.
    pub const BIG: u16 = 1 << 14;
    /// The descriptor's limit counts pages of 4 KiB.
    pub const IN_PAGES: u16 = 1 << 15;
}

impl Segment {
    /// What a register with a null selector holds.
    pub const NULL: Self = Self { base: 0, limit: 0, rights: 0 };
    /// 64-bit code of user programs.
    pub const CODE_64: Self = Self { base: 0, limit: u32::MAX, rights: 0xa0fb };
    /// Flat 32-bit code of user programs.
    pub const CODE_32: Self = Self { base: 0, limit: u32::MAX, rights: 0xc0fb };
    /// Flat data of user programs.
    pub const DATA: Self = Self { base: 0, limit: u32::MAX, rights: 0xc0f3 };

    /// What a descriptor says.
    pub const fn of(descriptor: u64) -> Self {
        let base = descriptor >> 16 & 0xff_ffff | descriptor >> 32 & 0xff00_0000;
        let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
        let rights = (descriptor >> 40) as u16 & 0xf0ff;
        let limit = if rights & Self::IN_PAGES != 0 { limit << 12 | 0xfff } else { limit };
        Self { base, limit, rights }
    }

    /// Whether it has this right, one of the bits above.
    pub const fn has(self, right: u16) -> bool {
        self.rights & right != 0
    }

    /// Its privilege level, 0 to 3.
    pub const fn dpl(self) -> u16 {
        self.rights >> 5 & 3
    }

    /// Whether it is of code, of whatever size.
    pub const fn is_code(self) -> bool {
        self.has(Self::NOT_SYSTEM) && self.has(Self::CODE)
    }

    /// Whether it is of 64-bit code.
    pub const fn is_long(self) -> bool {
        self.has(Self::LONG)
    }

    /// Whether `lar` and its kin show it to a user program: a code or data segment of its level.
    pub const fn is_visible(self) -> bool {
        self.has(Self::NOT_SYSTEM)
            && (self.dpl() == 3 || self.is_code() && self.has(Self::CONFORMING))
    }

    /// Whether data can be read through it.
    pub(crate) const fn is_readable(self) -> bool {
        self.has(Self::PRESENT) && self.is_for_reads()
    }

    /// Whether data can be written through it.
    pub(crate) const fn is_writable(self) -> bool {
        self.has(Self::PRESENT) && self.is_for_writes()
    }

    /// What `verr` says: whether its type allows reads, be it present or not.
    pub const fn is_for_reads(self) -> bool {
        self.has(Self::NOT_SYSTEM) && (!self.has(Self::CODE) || self.has(Self::READABLE))
    }

    /// What `verw` says: whether its type allows writes, be it present or not.
    pub(crate) const fn is_for_writes(self) -> bool {
        self.has(Self::NOT_SYSTEM) && !self.has(Self::CODE) && self.has(Self::WRITABLE)
    }

    /// Whether a stack in it uses esp and not sp; for code, whether it is 32-bit code.
    pub(crate) const fn is_big(self) -> bool {
        self.has(Self::BIG)
    }

    /// Whether every access of 32 bits is allowed.
    pub(crate) const fn is_open(self) -> bool {
        self.is_writable() && !self.has(Self::EXPANDS_DOWN) && self.limit == u32::MAX
    }

    /// Whether `bytes` bytes at `offset` lie in it; none count as one.
    pub const fn holds(self, offset: u32, bytes: u32) -> bool {
        let Some(last) = offset.checked_add(bytes.saturating_sub(1)) else { return false };
        if self.has(Self::CODE) || !self.has(Self::EXPANDS_DOWN) {
            return last <= self.limit;
        }
        let top = if self.is_big() { u32::MAX } else { 0xffff };
        offset > self.limit && last <= top
    }
}

/// Packs a descriptor: `limit` in bytes, or in pages of 4 KiB if `rights` has bit 15; `rights` as
/// in [`Segment::rights`].
pub const fn descriptor(base: u32, limit: u32, rights: u16) -> u64 {
    let (base, limit, rights) = (base as u64, limit as u64, rights as u64);
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (rights & 0xf0ff) << 40
        | (limit >> 16 & 0xf) << 48
        | (base >> 24) << 56
}

/// Where a table of descriptors lies.
///
/// # Units
/// `base` is the place of its first byte in RAM; the table is contiguous. `limit` is the last byte.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DescriptorTable {
    /// Its first byte.
    pub base: PhysAddr,
    /// Its length in bytes less 1. 0 stands for [`GDT_X86_64`] in GDTR, for no table in LDTR.
    pub limit: u16,
}

impl DescriptorTable {
    /// No table in memory.
    pub const NONE: Self = Self { base: PhysAddr::new(0), limit: 0 };
}

/// What a user program can see of the GDT of x86-64 Linux without entries for threads.
pub const GDT_X86_64: [u64; 16] = {
    let mut table = [0; 16];
    table[4] = descriptor(0, 0xf_ffff, 0xc0fb);
    table[5] = descriptor(0, 0xf_ffff, 0xc0f3);
    table[6] = descriptor(0, 0xf_ffff, 0xa0fb);
    // Its limit holds the number of the CPU.
    table[15] = descriptor(0, 0, 0x40f5);
    table
};

/// Likewise of i386 Linux.
pub const GDT_I386: [u64; 32] = {
    let mut table = [0; 32];
    table[14] = descriptor(0, 0xf_ffff, 0xc0fb);
    table[15] = descriptor(0, 0xf_ffff, 0xc0f3);
    table[28] = descriptor(0, 0, 0x40f5);
    table
};

/// Why a selector cannot be loaded: the exception, and its error code.
pub(crate) type Refusal = (Exception, u32);

/// A selector without its privilege level, as error codes have it.
const fn code_of(selector: u16) -> u32 {
    selector as u32 & !3
}

impl Registers {
    /// Which code the CPU executes.
    pub const fn mode(&self) -> Mode {
        if self.segments[1].is_long() { Mode::Long } else { Mode::Compat }
    }

    /// Makes the code and stack segments those of 64-bit programs, as a kernel does for a handler.
    pub const fn enter_long(&mut self) {
        self.selectors[SegmentName::Cs as usize] = 0x33;
        self.selectors[SegmentName::Ss as usize] = 0x2b;
        self.segments[SegmentName::Cs as usize] = Segment::CODE_64;
        self.segments[SegmentName::Ss as usize] = Segment::DATA;
    }

    /// Linear address of offset 0 of a segment.
    pub const fn base(&self, name: SegmentName) -> u64 {
        match name {
            SegmentName::Fs => self.fs_base,
            SegmentName::Gs => self.gs_base,
            _ => self.segments[name as usize].base,
        }
    }

    /// The linear address of the next instruction.
    pub(crate) fn linear_rip(&self) -> u64 {
        match self.mode() {
            Mode::Long => self.rip,
            Mode::Compat => self.rip.wrapping_add(self.base(SegmentName::Cs)) & 0xffff_ffff,
        }
    }

    /// Makes the instruction at a linear address the next one.
    pub(crate) fn set_linear_rip(&mut self, linear: u64) {
        self.rip = match self.mode() {
            Mode::Long => linear,
            Mode::Compat => linear.wrapping_sub(self.base(SegmentName::Cs)) & 0xffff_ffff,
        };
    }

    /// The descriptor that a selector names, and where it lies if that is in RAM.
    pub(crate) fn find_descriptor(
        &self,
        hw: &Machine,
        selector: u16,
    ) -> Option<(u64, Option<PhysAddr>)> {
        let is_local = selector & 4 != 0;
        let table = if is_local { self.ldt } else { self.gdt };
        let offset = selector & !7;
        if table.limit == 0 {
            let found = GDT_X86_64.get(usize::from(offset / 8)).filter(|_| !is_local);
            return found.map(|descriptor| (*descriptor, None));
        }
        if offset.checked_add(7).is_none_or(|last| last > table.limit) {
            return None;
        }
        let place = table.base.wrapping_add(offset.into());
        let mut bytes = [0; 8];
        hw.load(place, &mut bytes);
        Some((u64::from_le_bytes(bytes), Some(place)))
    }

    /// Loads a segment register as `mov` does, with all checks; on success the descriptor is marked
    /// as accessed.
    ///
    /// # Errors
    /// #GP, #NP or #SS; [`Registers::error_code`] holds the error code, nothing else has changed.
    pub fn load_segment(
        &mut self,
        hw: &mut Machine,
        name: SegmentName,
        selector: u16,
    ) -> Result<(), Exception> {
        self.try_segment(hw, name, selector).map_err(|(exception, code)| {
            self.error_code = code;
            exception
        })
    }

    /// Loads the segment registers other than CS and SS again: tables have changed. One whose
    /// descriptor is no longer good becomes null, as Linux makes it.
    pub fn reload(&mut self, hw: &mut Machine) {
        self.reload_those(hw, |selector| selector > 3);
    }

    /// Loads the data segments out of the local table again: it has changed. One whose descriptor
    /// is no longer good becomes null, as Linux makes it.
    pub fn reload_local(&mut self, hw: &mut Machine) {
        self.reload_those(hw, |selector| selector & 4 != 0);
    }

    fn reload_those(&mut self, hw: &mut Machine, is_concerned: impl Fn(u16) -> bool) {
        for name in [SegmentName::Es, SegmentName::Ds, SegmentName::Fs, SegmentName::Gs] {
            let selector = self.selectors[name as usize];
            if is_concerned(selector) && self.try_segment(hw, name, selector).is_err() {
                self.set_segment(name, 0, Segment::NULL);
            }
        }
    }

    /// Makes data selectors that name no segment 0, whatever their privilege level, as the CPU does
    /// when it returns from a kernel by `iret`. Bases stay.
    pub fn clear_null_selectors(&mut self) {
        for name in [SegmentName::Es, SegmentName::Ds, SegmentName::Fs, SegmentName::Gs] {
            let selector = &mut self.selectors[name as usize];
            *selector = if *selector < 4 { 0 } else { *selector };
        }
    }

    /// Gives FS or GS a base and a null selector, as `arch_prctl` does.
    pub fn set_base(&mut self, name: SegmentName, base: u64) {
        self.set_segment(name, 0, Segment { base, ..Segment::NULL });
    }

    /// Whether `lar` shows the stack selector to be one that 64-bit code may have: present data of
    /// level 3 that can be written.
    pub fn has_sound_stack(&self, hw: &Machine) -> bool {
        let selector = self.selectors[SegmentName::Ss as usize];
        let found = self.find_descriptor(hw, selector).filter(|_| selector > 3);
        found.is_some_and(|(descriptor, _)| {
            let segment = Segment::of(descriptor);
            segment.is_writable() && segment.dpl() == 3
        })
    }

    /// Returns to code at `cs` with the stack segment `ss` as `iret` does in a kernel.
    ///
    /// # Errors
    /// The exception of `iret`, with its error code in [`Registers::error_code`]. The selectors are
    /// the new ones, the hidden parts those of 64-bit code: the kernel raises the exception for the
    /// program.
    pub fn return_to(&mut self, hw: &mut Machine, cs: u16, ss: u16) -> Result<(), Exception> {
        self.enter_long();
        let loaded = self.try_return(hw, cs, ss);
        loaded.map_err(|(exception, code)| {
            self.enter_long();
            self.selectors[SegmentName::Cs as usize] = cs;
            self.selectors[SegmentName::Ss as usize] = ss;
            self.error_code = code;
            exception
        })
    }

    fn try_return(&mut self, hw: &mut Machine, cs: u16, ss: u16) -> Result<(), Refusal> {
        let code = self.try_code(hw, cs)?;
        if !code.is_long() && self.rip > u64::from(code.limit) {
            return Err((Exception::GeneralProtection, 0));
        }
        // A null stack segment is good for 64-bit code of the kernel alone.
        self.try_segment(hw, SegmentName::Ss, ss)?;
        self.set_code(cs, code);
        Ok(())
    }

    pub(crate) fn try_segment(
        &mut self,
        hw: &mut Machine,
        name: SegmentName,
        selector: u16,
    ) -> Result<(), Refusal> {
        if name == SegmentName::Cs {
            return self.try_code(hw, selector).map(|segment| self.set_code(selector, segment));
        }
        if selector < 4 {
            if name == SegmentName::Ss {
                return Err((Exception::GeneralProtection, 0));
            }
            self.set_segment(name, selector, Segment::NULL);
            return Ok(());
        }
        let code = code_of(selector);
        let protection = (Exception::GeneralProtection, code);
        let (descriptor, place) = self.find_descriptor(hw, selector).ok_or(protection)?;
        let segment = Segment::of(descriptor);
        let is_allowed = if name == SegmentName::Ss {
            segment.has(Segment::NOT_SYSTEM)
                && !segment.has(Segment::CODE)
                && segment.has(Segment::WRITABLE)
                && selector & 3 == 3
                && segment.dpl() == 3
        } else {
            segment.has(Segment::NOT_SYSTEM)
                && (!segment.has(Segment::CODE) || segment.has(Segment::READABLE))
                && (segment.dpl() == 3 || segment.is_code() && segment.has(Segment::CONFORMING))
        };
        if !is_allowed {
            return Err(protection);
        }
        if !segment.has(Segment::PRESENT) {
            return Err(match name {
                SegmentName::Ss => (Exception::StackFault, code),
                _ => (Exception::NotPresent, code),
            });
        }
        mark_accessed(hw, descriptor, place);
        self.set_segment(name, selector, segment);
        Ok(())
    }

    /// The code segment that a far transfer of a user program may go to.
    pub(crate) fn try_code(&self, hw: &mut Machine, selector: u16) -> Result<Segment, Refusal> {
        if selector < 4 {
            return Err((Exception::GeneralProtection, 0));
        }
        let code = code_of(selector);
        let protection = (Exception::GeneralProtection, code);
        let (descriptor, place) = self.find_descriptor(hw, selector).ok_or(protection)?;
        let segment = Segment::of(descriptor);
        let is_level = segment.has(Segment::CONFORMING) || segment.dpl() == 3;
        if !segment.is_code()
            || !is_level
            || segment.has(Segment::LONG) && segment.has(Segment::BIG)
        {
            return Err(protection);
        }
        if !segment.has(Segment::PRESENT) {
            return Err((Exception::NotPresent, code));
        }
        mark_accessed(hw, descriptor, place);
        Ok(segment)
    }

    /// Makes `segment` the code segment.
    pub(crate) fn set_code(&mut self, selector: u16, segment: Segment) {
        self.selectors[SegmentName::Cs as usize] = selector | 3;
        self.segments[SegmentName::Cs as usize] = segment;
    }

    fn set_segment(&mut self, name: SegmentName, selector: u16, segment: Segment) {
        self.selectors[name as usize] = selector;
        self.segments[name as usize] = segment;
        match name {
            SegmentName::Fs => self.fs_base = segment.base,
            SegmentName::Gs => self.gs_base = segment.base,
            _ => {}
        }
    }
}

/// Sets the accessed bit of a descriptor in RAM.
fn mark_accessed(hw: &mut Machine, descriptor: u64, place: Option<PhysAddr>) {
    if let Some(place) = place.filter(|_| descriptor & ACCESSED == 0) {
        hw.store(place, &(descriptor | ACCESSED).to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_what_their_descriptors_say() {
        assert_eq!(Segment::of(GDT_X86_64[4]), Segment::CODE_32);
        assert_eq!(Segment::of(GDT_X86_64[5]), Segment::DATA);
        assert_eq!(Segment::of(GDT_X86_64[6]), Segment::CODE_64);
        assert_eq!(GDT_X86_64[4], 0x00cf_fb00_0000_ffff);
        assert_eq!(GDT_I386[15], 0x00cf_f300_0000_ffff);
        assert_eq!(Registers::new().mode(), Mode::Long);
        assert_eq!(Registers::new_compat().mode(), Mode::Compat);
    }

    #[test]
    fn limits_hold_what_lies_below_or_above_them() {
        let up = Segment::of(descriptor(0x1000, 0x0fff, 0x40f3));
        assert!(up.holds(0xffc, 4) && !up.holds(0xffd, 4) && !up.holds(u32::MAX, 2));
        let down = Segment::of(descriptor(0, 0x0fff, 0x40f7));
        assert!(!down.holds(0xfff, 1) && down.holds(0x1000, 4) && down.holds(0xffff_fffc, 4));
        let small = Segment::of(descriptor(0, 0x0fff, 0x00f7));
        assert!(small.holds(0xfffc, 4) && !small.holds(0xfffd, 4));
    }
}
