//! The page tables of 32-bit ARM as Linux uses them: two levels of short descriptors (ARMv7).
//!
//! ```text
//!  hardware's first level      Linux's PGD        a page of second levels
//!  4,096 entries of 1 MiB      2,048 pairs        +0x000  Linux's entries, even megabyte
//!  +----------------+          +---------+        +0x400  Linux's entries, odd megabyte
//!  | table, +0x800  | ------\  |  pair   | -----> +0x800  the hardware's, even megabyte
//!  | table, +0xc00  | ------/  |         |        +0xc00  the hardware's, odd megabyte
//!  | section: 1 MiB |          |  pair   |
//! ```
//! A second level has 256 entries, 1 KiB: four of them fill a page. The hardware's entries have no
//! accessed and no dirty bit, so that Linux keeps entries of its own beside them: a page that is
//! not young has a hardware's entry of 0, one that is not dirty a read-only one, and the faults
//! that follow set the bits.
//!
//! Deliberately not here: programs of that machine, and its TLBs.
//!
//! # Source
//! ARM Architecture Reference Manual ARMv7-A (DDI 0406C), B3.5.1 (descriptors), B3.7.1 (AP), B3.8.2
//! (TEX, C, B). Linux 6.12 `arch/arm/include/asm/pgtable-2level.h`, `pgtable-2level-hwdef.h`,
//! `arch/arm/mm/proc-v7-2level.S:cpu_v7_set_pte_ext`, `mmu.c`, `Documentation/arch/arm/memory.rst`.

use serde::Serialize;

use super::{RAM_DEFAULT, size};
use crate::args::high::parse_number;
use crate::args::low;
use crate::failure::Failure;

/// The name behind `--machine`.
pub(super) const NAME: &str = "arm";

const MIB: u64 = 1 << 20;
/// Where the hardware's entries begin in a page of second levels (`PTE_HWTABLE_OFF`).
const HARDWARE_BYTES: u64 = 2048;
/// Bytes of one second level: 256 entries of 4.
const LEVEL_BYTES: u64 = 1024;
/// First byte behind vmalloc space.
const VMALLOC_END: u64 = 0xff80_0000;
/// Where lowmem ends at the latest: 240 MiB for vmalloc, and 8 MiB that keep off stray accesses.
const LOWMEM_END: u64 = VMALLOC_END - (240 + 8) * MIB;

/// Bits of Linux's entries (`L_PTE_*`).
mod linux {
    pub(super) const PRESENT: u32 = 1;
    pub(super) const YOUNG: u32 = 1 << 1;
    /// `L_PTE_MT_WRITEALLOC`: cached, written back.
    pub(super) const CACHED: u32 = 7 << 2;
    pub(super) const DIRTY: u32 = 1 << 6;
    pub(super) const READ_ONLY: u32 = 1 << 7;
    pub(super) const USER: u32 = 1 << 8;
    pub(super) const NO_EXECUTE: u32 = 1 << 9;
    /// Shared with other CPUs; the hardware has it in the same place.
    pub(super) const SHARED: u32 = 1 << 10;
}

/// Bits of the hardware's small pages.
mod hardware {
    pub(super) const NO_EXECUTE: u32 = 1;
    pub(super) const SMALL_PAGE: u32 = 1 << 1;
    pub(super) const AP_0: u32 = 1 << 4;
    pub(super) const AP_1: u32 = 1 << 5;
    pub(super) const TEX_0: u32 = 1 << 6;
    pub(super) const AP_2: u32 = 1 << 9;
    pub(super) const NOT_GLOBAL: u32 = 1 << 11;
}

/// A section of lowmem: cached, for the kernel alone, not to be executed, shared with other CPUs.
const LOWMEM_SECTION: u32 = 0b10 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 10 | 1 << 12 | 1 << 16;
/// An entry of the first level that names a table, of the domain of users or of the kernel.
/// Linux sets bit 4 in both (`PMD_BIT4`), which ARMv7 ignores.
const USER_TABLE: u32 = KERNEL_TABLE | 1 << 5;
const KERNEL_TABLE: u32 = 0b01 | 1 << 4;

/// All that is said of an address.
#[derive(Debug, Serialize)]
pub(super) struct ArmView {
    schema: &'static str,
    machine: &'static str,
    ram_bytes: u64,
    address: String,
    kind: &'static str,
    physical: Option<String>,
    first_level: FirstLevel,
    /// `None` where the first level maps a section.
    second_level: Option<SecondLevel>,
}

/// An entry of the first level.
#[derive(Debug, Serialize)]
struct FirstLevel {
    /// Bits 31-20, of 4,096.
    index: u64,
    /// Bytes from the start of the table of 16 KiB.
    offset: u64,
    /// Bits 31-21, of the 2,048 pairs that Linux sees.
    pair: u64,
    /// The descriptor; that of a table without the address of the page of tables, which begins at
    /// the offset that it shows.
    descriptor: String,
    says: String,
}

/// Entries of the second level.
#[derive(Debug, Serialize)]
struct SecondLevel {
    /// Bits 19-12, of 256.
    index: u64,
    /// Bits 20-12, of the 512 that Linux sees.
    linux_index: u64,
    /// Bytes from the start of the page of tables: Linux's entry, and the hardware's.
    linux_offset: u64,
    hardware_offset: u64,
    /// What both are, without the frame, in each state of a page.
    states: Vec<State>,
}

/// A page in one state.
#[derive(Debug, Serialize)]
struct State {
    page: &'static str,
    linux: String,
    hardware: String,
    says: &'static str,
}

impl State {
    fn new(page: &'static str, entry: u32, says: &'static str) -> Self {
        let is_user = entry & linux::USER != 0;
        let hardware = format!("{:#05x}", hardware_entry(entry, is_user));
        Self { page, linux: format!("{entry:#05x}"), hardware, says }
    }
}

/// The hardware's entry that goes with one of Linux, as an ARMv7 kernel writes both.
const fn hardware_entry(entry: u32, is_user: bool) -> u32 {
    if entry & linux::PRESENT == 0 || entry & linux::YOUNG == 0 {
        return 0;
    }
    // B, C, S and the frame are in the same places.
    let mut hw = entry & !0x3f3 | hardware::SMALL_PAGE | hardware::AP_0;
    if is_user {
        hw |= hardware::NOT_GLOBAL;
    }
    if entry & 1 << 4 != 0 {
        hw |= hardware::TEX_0;
    }
    if entry & linux::READ_ONLY != 0 || entry & linux::DIRTY == 0 {
        hw |= hardware::AP_2;
    }
    if entry & linux::USER != 0 {
        hw |= hardware::AP_1;
    }
    if entry & linux::NO_EXECUTE != 0 {
        hw |= hardware::NO_EXECUTE;
    }
    hw
}

/// The parts of the kernel's map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Layout {
    page_offset: u64,
    ram_bytes: u64,
}

impl Layout {
    const fn lowmem_end(self) -> u64 {
        let wanted = self.page_offset.saturating_add(self.ram_bytes);
        if wanted < LOWMEM_END { wanted } else { LOWMEM_END }
    }

    const fn kind(self, addr: u64) -> &'static str {
        let gap = 8 * MIB;
        match addr {
            _ if addr < self.page_offset - 16 * MIB => "user virtual",
            _ if addr < self.page_offset - 2 * MIB => "kernel virtual (modules)",
            _ if addr < self.page_offset => "kernel virtual (pkmap: kmap)",
            _ if addr < self.lowmem_end() => "kernel logical (direct map)",
            _ if addr < (self.lowmem_end() + gap) & !(gap - 1) => "guard: never mapped",
            _ if addr < VMALLOC_END => "kernel virtual (vmalloc, ioremap)",
            0xffc8_0000..0xfff0_0000 => "kernel virtual (fixmap)",
            0xffff_0000..0xffff_2000 => "vectors of exceptions",
            _ => "unused hole",
        }
    }

    /// Whether a section maps the address: all of its megabyte is lowmem.
    const fn is_section(self, addr: u64) -> bool {
        let first = addr & !(MIB - 1);
        first >= self.page_offset && first + MIB <= self.lowmem_end()
    }
}

impl ArmView {
    /// What is said of the address that was asked for.
    ///
    /// # Errors
    /// Exit code 125: what is no address of 32 bits, or an option that this machine does not have.
    pub(super) fn new(typed: &low::Explain) -> Result<Self, Failure> {
        refuse_others(typed)?;
        let address = typed.address.as_deref();
        let address =
            address.ok_or_else(|| Failure::own("explain: give an address; see --help"))?;
        let addr = parse_number("address", address)?;
        if addr > u64::from(u32::MAX) {
            return Err(Failure::own(format!("address {address}: arm has 32 bits; give fewer")));
        }
        let page_offset = match &typed.page_offset {
            Some(text) => parse_number("--page-offset", text)?,
            None => 0xc000_0000,
        };
        if ![0x4000_0000, 0x8000_0000, 0xb000_0000, 0xc000_0000].contains(&page_offset) {
            let accepted = "give 0x40000000, 0x80000000, 0xb0000000 or 0xc0000000";
            return Err(Failure::own(format!("--page-offset {page_offset:#x}: {accepted}")));
        }
        let ram_bytes = match &typed.ram {
            Some(text) => size("--ram", text)?,
            None => RAM_DEFAULT,
        };
        let layout = Layout { page_offset, ram_bytes };
        let kind = layout.kind(addr);
        let is_direct = (page_offset..layout.lowmem_end()).contains(&addr);
        let second_level = (!layout.is_section(addr)).then(|| SecondLevel::new(addr, kind));
        Ok(Self {
            schema: "faultline.explain.arm/1",
            machine: NAME,
            ram_bytes,
            address: format!("{addr:#x}"),
            kind,
            physical: is_direct.then(|| format!("{:#x}", addr - page_offset)),
            first_level: FirstLevel::new(addr, layout),
            second_level,
        })
    }
}

/// Options that say something of other machines only.
fn refuse_others(typed: &low::Explain) -> Result<(), Failure> {
    let given = [
        ("--tlb", typed.tlb.is_some()),
        ("--kernel", typed.kernel.is_some()),
        ("--cpus", typed.cpus.is_some()),
        ("--vmalloc", typed.vmalloc.is_some()),
        ("--descriptor", typed.descriptor.is_some()),
        ("--map", typed.map),
        ("--trace", typed.trace.is_some()),
        ("--pid", typed.pid.is_some()),
    ];
    match given.into_iter().find(|(_, is_given)| *is_given) {
        Some((name, _)) => Err(Failure::own(format!("{name}: not with --machine {NAME}"))),
        None => Ok(()),
    }
}

impl FirstLevel {
    fn new(addr: u64, layout: Layout) -> Self {
        let index = addr >> 20;
        let half = HARDWARE_BYTES + (index & 1) * LEVEL_BYTES;
        let is_user = addr < layout.page_offset - 16 * MIB;
        let (descriptor, says) = if layout.is_section(addr) {
            let base = (addr - layout.page_offset) & !(MIB - 1);
            (base | u64::from(LOWMEM_SECTION), format!("section: 1 MiB at {base:#x}"))
        } else {
            let bits = if is_user { USER_TABLE } else { KERNEL_TABLE };
            let domain = if is_user { "users (1)" } else { "the kernel (0)" };
            (half | u64::from(bits), format!("a second level, if any; domain of {domain}"))
        };
        let descriptor = format!("{descriptor:#x}");
        Self { index, offset: index * 4, pair: index >> 1, descriptor, says }
    }
}

impl SecondLevel {
    fn new(addr: u64, kind: &str) -> Self {
        let index = addr >> 12 & 0xff;
        let linux_offset = (addr >> 20 & 1) * LEVEL_BYTES + index * 4;
        Self {
            index,
            linux_index: addr >> 12 & 0x1ff,
            linux_offset,
            hardware_offset: HARDWARE_BYTES + linux_offset,
            states: if kind == "user virtual" { user_states() } else { kernel_states() },
        }
    }
}

fn user_states() -> Vec<State> {
    use linux::{CACHED, DIRTY, NO_EXECUTE, PRESENT, READ_ONLY, SHARED, USER, YOUNG};
    let data = PRESENT | CACHED | USER | NO_EXECUTE | SHARED;
    let text = PRESENT | CACHED | USER | READ_ONLY | SHARED;
    vec![
        State::new("never touched", 0, "a use faults: not mapped"),
        State::new("data, old", data | DIRTY, "a use faults: Linux makes it young"),
        State::new("data, clean", data | YOUNG, "read-only: a store faults, Linux makes it dirty"),
        State::new("data, dirty", data | YOUNG | DIRTY, "read and written without a fault"),
        State::new("text", text | YOUNG, "read and executed; a store is a SIGSEGV"),
    ]
}

fn kernel_states() -> Vec<State> {
    use linux::{CACHED, DIRTY, NO_EXECUTE, PRESENT, SHARED, YOUNG};
    let page = PRESENT | YOUNG | DIRTY | CACHED | NO_EXECUTE | SHARED;
    vec![
        State::new("not mapped", 0, "an access is a bug of the kernel"),
        State::new("mapped", page, "for the kernel alone; users get a permission fault"),
    ]
}

/// The view as text.
pub(super) fn text(view: &ArmView) -> String {
    let first = &view.first_level;
    let ram = view.ram_bytes >> 20;
    let mut lines = vec![
        format!("{} on arm (ARMv7, short descriptors) with {ram} MiB of RAM", view.address),
        format!("  kind       {}", view.kind),
    ];
    if let Some(physical) = &view.physical {
        lines.push(format!("  physical   {physical}"));
    }
    lines.push("  LEVEL   BITS   INDEX          ENTRY AT".to_owned());
    let (index, at, pair) = (first.index, first.offset, first.pair);
    lines.push(format!("  first   31-20  {index:>5} of 4096  +{at:#06x} of the table of 16 KiB"));
    lines.push(format!(
        "   Linux  31-21  {pair:>5} of 2048  +{:#06x}: the pair of entries {} and {}",
        pair * 8,
        pair * 2,
        pair * 2 + 1
    ));
    lines.push(format!("          {:<10} {}", first.descriptor, first.says));
    if let Some(second) = &view.second_level {
        second_text(second, &mut lines);
    }
    let rule = "ARM DDI 0406C B3.5.1; Linux arch/arm/include/asm/pgtable-2level.h";
    lines.push(format!("  rule       {rule}"));
    lines.join("\n") + "\n"
}

fn second_text(second: &SecondLevel, lines: &mut Vec<String>) {
    let SecondLevel { index, linux_index, linux_offset, hardware_offset, states } = second;
    lines.push(format!(
        "  second  19-12  {index:>5} of  256  +{hardware_offset:#06x} of the page of tables"
    ));
    lines.push(format!(
        "   Linux  20-12  {linux_index:>5} of  512  +{linux_offset:#06x} of the same page"
    ));
    lines.push("  PAGE           LINUX  HARDWARE".to_owned());
    for State { page, linux, hardware, says } in states {
        lines.push(format!("  {page:<14} {linux:<6} {hardware:<9} {says}"));
    }
}

#[cfg(test)]
mod tests {
    use super::linux::*;
    use super::*;

    /// What DDI 0406C says of a small page: B3.5.1 (format), B3.7.1 (AP), B3.8.2 (TEX, C, B).
    /// `None` is a fault; else rights of the kernel, rights of users, whether it can be executed.
    fn manual(entry: u32) -> Option<(&'static str, &'static str, bool)> {
        if entry & 0b10 == 0 {
            return None;
        }
        let (kernel, user) = match (entry >> 9 & 1) << 2 | entry >> 4 & 3 {
            0b001 => ("rw", ""),
            0b010 => ("rw", "r"),
            0b011 => ("rw", "rw"),
            0b101 => ("r", ""),
            0b110 | 0b111 => ("r", "r"),
            other => panic!("AP[2:0] {other:#b} is reserved or no access"),
        };
        // Write-back, write-allocate, inner and outer: TEX 001, C 1, B 1.
        assert_eq!((entry >> 6 & 7, entry >> 3 & 1, entry >> 2 & 1), (1, 1, 1), "{entry:#x}");
        assert_eq!(entry >> 10 & 1, 1, "S: shareable");
        Some((kernel, user, entry & 1 == 0))
    }

    #[test]
    fn entries_of_the_hardware_mean_what_the_manual_says() {
        let data = PRESENT | CACHED | USER | NO_EXECUTE | SHARED;
        let text = PRESENT | CACHED | USER | READ_ONLY | SHARED | YOUNG;
        for (entry, is_user, value, meaning) in [
            (0, true, 0, None),
            (data | DIRTY, true, 0, None),
            (data | YOUNG, true, 0xe7f, Some(("r", "r", false))),
            (data | YOUNG | DIRTY, true, 0xc7f, Some(("rw", "rw", false))),
            (data | YOUNG | DIRTY | READ_ONLY, true, 0xe7f, Some(("r", "r", false))),
            (text, true, 0xe7e, Some(("r", "r", true))),
            (data & !USER | YOUNG | DIRTY, false, 0x45f, Some(("rw", "", false))),
        ] {
            let hw = hardware_entry(entry, is_user);
            assert_eq!((hw, manual(hw)), (value, meaning), "{entry:#x}");
        }
        // nG: of one address space only. The frame stays where it is.
        assert_eq!(hardware_entry(0x1234_5000 | data | YOUNG, true), 0x1234_5e7f);
    }

    #[test]
    fn sections_and_tables_mean_what_the_manual_says() {
        let layout = Layout { page_offset: 0xc000_0000, ram_bytes: 512 * MIB };
        let section = FirstLevel::new(0xc123_4567, layout);
        assert_eq!(section.descriptor, "0x121141e", "0x012 in bits 31 to 20");
        let bits = 0x121_141e_u32;
        assert_eq!((bits & 3, bits >> 4 & 1, bits >> 5 & 15), (0b10, 1, 0), "section, XN, domain");
        let (ap, tex) = ((bits >> 15 & 1) << 2 | bits >> 10 & 3, bits >> 12 & 7);
        assert_eq!((ap, tex, bits >> 2 & 3, bits >> 16 & 1), (0b001, 1, 3, 1), "AP, TEX, CB, S");
        assert_eq!((section.index, section.pair), (0xc12, 0x609));
        // Two neighbours share a page of tables: the even one begins at +0x800, the odd at +0xc00.
        assert_eq!(FirstLevel::new(0x0000_8000, layout).descriptor, "0x831");
        assert_eq!(FirstLevel::new(0x0010_8000, layout).descriptor, "0xc31");
        assert_eq!(FirstLevel::new(0xf100_0000, layout).descriptor, "0x811");
    }

    #[test]
    fn lowmem_ends_where_vmalloc_wants_room() {
        for (ram_mib, page_offset, end) in [
            (256, 0xc000_0000, 0xd000_0000),
            (768, 0xc000_0000, 0xf000_0000),
            (4096, 0xc000_0000, 0xf000_0000),
            (4096, 0x8000_0000, 0xf000_0000),
        ] {
            let layout = Layout { page_offset, ram_bytes: ram_mib * MIB };
            assert_eq!(layout.lowmem_end(), end, "{ram_mib} MiB, {page_offset:#x}");
            assert_eq!(layout.kind(end - 1), "kernel logical (direct map)");
            assert_eq!(layout.kind(end), "guard: never mapped");
            assert_eq!(layout.kind(end + 8 * MIB), "kernel virtual (vmalloc, ioremap)");
        }
    }

    #[test]
    fn four_second_levels_fill_a_page() {
        for (addr, index, linux_index, linux_offset) in [
            (0x0000_0000, 0, 0, 0),
            (0x0001_2345, 0x12, 0x12, 0x48),
            (0x000f_f000, 0xff, 0xff, 0x3fc),
            (0x0010_0000, 0, 0x100, 0x400),
            (0xbeff_ffff, 0xff, 0x1ff, 0x7fc),
            (0xffff_0000, 0xf0, 0x1f0, 0x7c0),
        ] {
            let second = SecondLevel::new(addr, "user virtual");
            let found = (second.index, second.linux_index, second.linux_offset);
            assert_eq!(found, (index, linux_index, linux_offset), "{addr:#x}");
            assert_eq!(second.hardware_offset, linux_offset + 0x800, "{addr:#x}");
        }
    }
}
