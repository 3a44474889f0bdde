//! Logical to linear: a selector, its descriptor, base and limit.
//!
//! The flat descriptors are those that Linux puts into its GDT. What a thread put into its TLS
//! entries (`set_thread_area`) or a process into its LDT (`modify_ldt`) is the program's: it is
//! judged when it is given (`--descriptor`), by the rules of a user program's data access.
//!
//! # Source
//! Intel SDM 3A, 3.4.2 (selectors), 3.4.5 (descriptors), 5.3 to 5.6 (limit, type, privilege); Linux
//! 6.12 `arch/x86/include/asm/segment.h`, `arch/x86/kernel/cpu/common.c` (`gdt_page`).

use cpu::Segment;
use mm::kernel_space::KernelSpace;
use serde::Serialize;

use crate::failure::Failure;

/// An entry of Linux's GDT: index, name, and descriptor if it is always the same.
type Entry = (u64, &'static str, Option<u64>);

/// The entries that programs can name or ask for in an i386 kernel, and the kernel's flat ones.
const GDT_32: [Entry; 9] = [
    (6, "TLS entry 1 (set_thread_area)", None),
    (7, "TLS entry 2 (set_thread_area)", None),
    (8, "TLS entry 3 (set_thread_area)", None),
    (12, "__KERNEL_CS", Some(0x00cf_9b00_0000_ffff)),
    (13, "__KERNEL_DS", Some(0x00cf_9300_0000_ffff)),
    (14, "__USER_CS", Some(0x00cf_fb00_0000_ffff)),
    (15, "__USER_DS", Some(0x00cf_f300_0000_ffff)),
    (16, "the task state segment", None),
    (17, "the LDT's own entry", None),
];
/// The same of an x86-64 kernel.
const GDT_64: [Entry; 10] = [
    (2, "__KERNEL_CS", Some(0x00af_9b00_0000_ffff)),
    (3, "__KERNEL_DS", Some(0x00cf_9300_0000_ffff)),
    (4, "__USER32_CS", Some(0x00cf_fb00_0000_ffff)),
    (5, "__USER_DS", Some(0x00cf_f300_0000_ffff)),
    (6, "__USER_CS", Some(0x00af_fb00_0000_ffff)),
    (8, "the task state segment", None),
    (10, "the LDT's own entry", None),
    (12, "TLS entry 1 (set_thread_area)", None),
    (13, "TLS entry 2 (set_thread_area)", None),
    (14, "TLS entry 3 (set_thread_area)", None),
];

/// How a logical address became linear.
#[derive(Debug, Serialize)]
pub(super) struct Segmentation {
    /// The selector; the usual data segment if none was given.
    pub(super) selector: String,
    /// Bits 3 to 15.
    pub(super) index: u64,
    /// Bit 2: 0 for the GDT, 1 for the LDT.
    pub(super) ti: u64,
    /// The table that it names.
    pub(super) table: &'static str,
    /// Bits 0 and 1.
    pub(super) rpl: u64,
    /// Its name in Linux.
    pub(super) name: String,
    /// Where in the table: index times 8.
    pub(super) table_offset: u64,
    /// The 8 bytes.
    pub(super) descriptor: String,
    /// Descriptor privilege level.
    pub(super) dpl: u64,
    /// Its kind.
    pub(super) kind: &'static str,
    /// What else its bits say.
    pub(super) bits: Vec<&'static str>,
    /// What adds to the offset.
    pub(super) base: u64,
    /// The last offset inside; the first one outside, below, if it expands down.
    pub(super) limit: u64,
    /// The sum, or the exception, as text.
    pub(super) linear: String,
    /// The exception of a user program's access of one byte, if the segment forbids it.
    pub(super) exception: Option<String>,
    #[serde(skip)]
    pub(super) linear_address: u64,
    /// What the manual says of it.
    pub(super) rule: &'static str,
}

/// The three fields of a selector.
#[derive(Clone, Copy)]
struct Selector {
    raw: u64,
    index: u64,
    ti: u64,
    rpl: u64,
}

impl Selector {
    fn new(raw: u64) -> Result<Self, Failure> {
        if raw > 0xffff {
            return Err(wrong(raw, "a selector has 16 bits"));
        }
        Ok(Self { raw, index: raw >> 3, ti: raw >> 2 & 1, rpl: raw & 3 })
    }

    const fn table(self) -> &'static str {
        if self.ti == 1 { "LDT" } else { "GDT" }
    }
}

fn wrong(selector: u64, why: &str) -> Failure {
    Failure::own(format!("selector {selector:#x}: {why}"))
}

impl Segmentation {
    /// The way of `offset` through the segment that `selector` names: one of Linux, or the one of
    /// `descriptor`.
    ///
    /// # Errors
    /// Exit code 125: the selector is none or null, or names an entry that programs make and
    /// `descriptor` was not given; `descriptor` was given for an entry of the kernel.
    pub(super) fn new(
        space: &KernelSpace,
        selector: Option<u64>,
        offset: u64,
        descriptor: Option<u64>,
    ) -> Result<Self, Failure> {
        let is_32 = space.config().geometry.address_bits() == 32;
        let is_kernel = offset >= space.page_offset().as_u64();
        let usual = match (is_32, is_kernel) {
            (true, true) => 0x68,
            (true, false) => 0x7b,
            (false, true) => 0x18,
            (false, false) => 0x2b,
        };
        if selector.is_none() && descriptor.is_some() {
            return Err(Failure::own("--descriptor: give the selector that names it too"));
        }
        let selector = Selector::new(selector.unwrap_or(usual))?;
        let (name, descriptor) = entry(is_32, selector, descriptor)?;
        let segment = Segment::of(descriptor);
        let is_flat = !is_32 && (selector.ti == 0 && selector.index < 12 || is_long(segment));
        let linear = match is_flat {
            true => offset,
            false => segment.base.wrapping_add(offset) & 0xffff_ffff,
        };
        let exception = match is_kernel || is_flat {
            true => None,
            false => exception(selector, segment, offset),
        };
        Ok(Self {
            selector: format!("{:#x}", selector.raw),
            index: selector.index,
            ti: selector.ti,
            table: selector.table(),
            rpl: selector.rpl,
            name,
            table_offset: selector.index * 8,
            descriptor: format!("{descriptor:#018x}"),
            dpl: segment.dpl().into(),
            kind: kind(segment),
            bits: bits(segment),
            base: segment.base,
            limit: segment.limit.into(),
            linear: exception.clone().unwrap_or_else(|| format!("{linear:#x}")),
            exception,
            linear_address: linear,
            rule: match is_flat {
                false => "Intel SDM 3A, 3.4: base + offset, offset up to the limit, modulo 2^32",
                true => "Intel SDM 3A, 3.4.4: in 64-bit mode base is 0 and no limit is checked",
            },
        })
    }
}

/// What the selector names, and its descriptor.
fn entry(is_32: bool, selector: Selector, given: Option<u64>) -> Result<(String, u64), Failure> {
    let Selector { raw, index, ti, .. } = selector;
    if ti == 1 {
        let name = format!("entry {index} of the process's LDT (modify_ldt)");
        let descriptor = given.ok_or_else(|| {
            wrong(raw, &format!("{name}; give the entry's 8 bytes with --descriptor"))
        })?;
        return Ok((name, descriptor));
    }
    if index == 0 {
        return Err(wrong(raw, "the null selector: an access through it is #GP(0)"));
    }
    let gdt: &[Entry] = if is_32 { &GDT_32 } else { &GDT_64 };
    let known = gdt.iter().find(|entry| entry.0 == index);
    match (known, given) {
        (Some((_, name, Some(flat))), None) => Ok(((*name).to_owned(), *flat)),
        (Some((_, name, Some(_))), Some(_)) => {
            Err(wrong(raw, &format!("{name} is the kernel's; --descriptor is for LDT and TLS")))
        }
        (Some((_, name, None)), Some(given)) => Ok(((*name).to_owned(), given)),
        (Some((_, name, None)), None) => {
            Err(wrong(raw, &format!("{name}; give the entry's 8 bytes with --descriptor")))
        }
        (None, _) => {
            let flat = gdt.iter().filter(|entry| entry.2.is_some());
            let flat: Vec<String> = flat.map(|entry| format!("{:#x}", entry.0 << 3)).collect();
            let flat = flat.join(", ");
            Err(wrong(raw, &format!("no flat segment of Linux; there are {flat} (+ RPL)")))
        }
    }
}

const fn is_long(segment: Segment) -> bool {
    segment.has(Segment::CODE) && segment.is_long()
}

const fn kind(segment: Segment) -> &'static str {
    match (segment.has(Segment::NOT_SYSTEM), segment.has(Segment::CODE)) {
        (false, _) => "system",
        (true, false) => "data",
        (true, true) => "code",
    }
}

/// The rights of a descriptor that do not go without saying.
fn bits(segment: Segment) -> Vec<&'static str> {
    let has = |right: u16| segment.has(right);
    let mut bits = vec![if has(Segment::PRESENT) { "present" } else { "not present" }];
    if has(Segment::NOT_SYSTEM) {
        let is_code = segment.is_code();
        bits.push(match (is_code, has(Segment::READABLE), has(Segment::WRITABLE)) {
            (true, true, _) => "readable",
            (true, false, _) => "execute only",
            (false, _, true) => "writable",
            (false, _, false) => "read only",
        });
        match is_code {
            true if has(Segment::CONFORMING) => bits.push("conforming"),
            false if has(Segment::EXPANDS_DOWN) => bits.push("expands down"),
            _ => {}
        }
        bits.push(match (is_code && segment.is_long(), has(Segment::BIG)) {
            (true, _) => "64-bit",
            (false, true) => "32-bit",
            (false, false) => "16-bit",
        });
        if has(Segment::ACCESSED) {
            bits.push("accessed");
        }
    }
    bits.push(if has(Segment::IN_PAGES) { "limit in pages" } else { "limit in bytes" });
    bits
}

/// The exception of a user program that loads the selector into DS and reads a byte at `offset`.
fn exception(selector: Selector, segment: Segment, offset: u64) -> Option<String> {
    let code = selector.raw & !3;
    if !segment.is_for_reads() {
        return Some(format!("#GP({code:#x}): no segment that data can be read through"));
    }
    if !segment.is_visible() {
        return Some(format!("#GP({code:#x}): a user program may not use a DPL below 3"));
    }
    if !segment.has(Segment::PRESENT) {
        return Some(format!("#NP({code:#x}): not present (#SS if it is loaded into SS)"));
    }
    let is_inside = u32::try_from(offset).is_ok_and(|offset| segment.holds(offset, 1));
    (!is_inside).then(|| "#GP(0): the offset is beyond the limit (#SS through SS)".to_owned())
}
