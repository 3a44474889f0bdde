//! Logical to linear: a selector, its descriptor, base and limit.
//!
//! The descriptors are those that Linux puts into its GDT: flat ones. Does not know the LDT of a
//! process nor its thread-local segments: their base is the program's.
//!
//! # Source
//! Intel SDM 3A, 3.4.2 (selectors), 3.4.5 (descriptors), 5.5 (privilege); Linux 6.12
//! `arch/x86/include/asm/segment.h`, `arch/x86/kernel/cpu/common.c` (`gdt_page`).

use mm::kernel_space::KernelSpace;
use serde::Serialize;

use crate::failure::Failure;

/// Index, name and descriptor of the flat segments of an i386 kernel.
const GDT_32: [(u64, &str, u64); 4] = [
    (12, "__KERNEL_CS", 0x00cf_9b00_0000_ffff),
    (13, "__KERNEL_DS", 0x00cf_9300_0000_ffff),
    (14, "__USER_CS", 0x00cf_fb00_0000_ffff),
    (15, "__USER_DS", 0x00cf_f300_0000_ffff),
];
/// The same of an x86-64 kernel.
const GDT_64: [(u64, &str, u64); 5] = [
    (2, "__KERNEL_CS", 0x00af_9b00_0000_ffff),
    (3, "__KERNEL_DS", 0x00cf_9300_0000_ffff),
    (4, "__USER32_CS", 0x00cf_fb00_0000_ffff),
    (5, "__USER_DS", 0x00cf_f300_0000_ffff),
    (6, "__USER_CS", 0x00af_fb00_0000_ffff),
];

/// How a logical address became linear.
#[derive(Debug, Serialize)]
pub(super) struct Segmentation {
    /// The selector; the usual data segment if none was given.
    pub(super) selector: String,
    /// Bits 3 to 15.
    pub(super) index: u64,
    /// Bit 2: GDT or LDT.
    pub(super) table: &'static str,
    /// Bits 0 and 1.
    pub(super) rpl: u64,
    /// Its name in Linux.
    pub(super) name: &'static str,
    /// Where in the table: index times 8.
    pub(super) table_offset: u64,
    /// The 8 bytes.
    pub(super) descriptor: String,
    /// Descriptor privilege level.
    pub(super) dpl: u64,
    /// Its kind.
    pub(super) kind: &'static str,
    /// What adds to the offset.
    pub(super) base: u64,
    /// The last offset inside.
    pub(super) limit: u64,
    /// The sum, as text.
    pub(super) linear: String,
    #[serde(skip)]
    pub(super) linear_address: u64,
    /// What the manual says of it.
    pub(super) rule: &'static str,
}

impl Segmentation {
    /// The way of `offset` through the segment that `selector` names.
    ///
    /// # Errors
    /// Exit code 125: the selector is none, names an empty descriptor or an LDT, which the map of a
    /// machine does not have.
    pub(super) fn new(
        space: &KernelSpace,
        selector: Option<u64>,
        offset: u64,
    ) -> Result<Self, Failure> {
        let is_32 = space.config().geometry.address_bits() == 32;
        let gdt: &[(u64, &'static str, u64)] = if is_32 { &GDT_32 } else { &GDT_64 };
        let is_kernel = offset >= space.page_offset().as_u64();
        let usual = match (is_32, is_kernel) {
            (true, true) => 0x68,
            (true, false) => 0x7b,
            (false, true) => 0x18,
            (false, false) => 0x2b,
        };
        let selector = selector.unwrap_or(usual);
        let wrong = |why: &str| Failure::own(format!("selector {selector:#x}: {why}"));
        if selector > 0xffff {
            return Err(wrong("a selector has 16 bits"));
        }
        let (index, rpl) = (selector >> 3, selector & 3);
        if selector & 4 != 0 {
            let why = format!("entry {index} of the LDT, which a process makes with modify_ldt");
            return Err(wrong(&why));
        }
        if index == 0 {
            return Err(wrong("the null selector: an access through it is #GP(0)"));
        }
        let Some((_, name, descriptor)) = gdt.iter().find(|entry| entry.0 == index) else {
            let known: Vec<String> =
                gdt.iter().map(|entry| format!("{:#x}", entry.0 << 3)).collect();
            let known = known.join(", ");
            return Err(wrong(&format!("no flat segment of Linux; there are {known} (+ RPL)")));
        };
        let descriptor = *descriptor;
        let base = descriptor >> 16 & 0xff_ffff | descriptor >> 56 << 24;
        let units = descriptor & 0xffff | (descriptor >> 48 & 0xf) << 16;
        let limit = if descriptor >> 55 & 1 != 0 { units << 12 | 0xfff } else { units };
        let linear = if is_32 { base.wrapping_add(offset) & 0xffff_ffff } else { offset };
        Ok(Self {
            selector: format!("{selector:#x}"),
            index,
            table: "GDT",
            rpl,
            name,
            table_offset: index * 8,
            descriptor: format!("{descriptor:#018x}"),
            dpl: descriptor >> 45 & 3,
            kind: if descriptor >> 43 & 1 != 0 { "code" } else { "data" },
            base,
            limit,
            linear: format!("{linear:#x}"),
            linear_address: linear,
            rule: match is_32 {
                true => "Intel SDM 3A, 3.4: base + offset, offset up to the limit, modulo 2^32",
                false => "Intel SDM 3A, 3.4.4: in 64-bit mode base is 0 and no limit is checked",
            },
        })
    }
}
