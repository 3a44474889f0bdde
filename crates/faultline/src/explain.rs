//! `faultline explain ADDRESS` and `faultline explain --map`: what an address is, where it leads.
//!
//! Nouns: [`View`] (all that is said of an address), [`KernelSpace`] (the map, from `mm`). The
//! page tables that are walked are the real ones of the direct map, in a RAM of its own.
//!
//! Deliberately not here: a run. What a run mapped is read from its trace (`explain/trace.rs`).

mod arm;
mod map;
mod paging;
mod segment;
mod text;
mod trace;

use std::io::{self, Write};

use machine::{PAGE_BYTES, PhysAddr, TlbMode, TlbSpec, VirtAddr};
use mm::kernel_space::{KernelSpace, Region, RegionKind, Release, SpaceConfig};
use serde::Serialize;

use crate::args::high::{parse_number, parse_page_offset, parse_size};
use crate::args::low;
use crate::failure::Failure;
use crate::machine::{MACHINE_DEFAULT, MachineFile, RAM_DEFAULT, find_geometry, find_tlb};
use paging::Translation;
use segment::Segmentation;
use trace::History;

/// All that is said of an address.
#[derive(Debug, Serialize)]
struct View {
    schema: &'static str,
    machine: &'static str,
    ram_bytes: u64,
    address: String,
    /// How a selector made it linear.
    segmentation: Segmentation,
    kind: &'static str,
    region: Option<RegionView>,
    /// What the address is, in sentences.
    says: Vec<String>,
    /// Where that is written.
    rule: &'static str,
    physical: Option<String>,
    translation: Translation,
    history: Option<History>,
}

/// One part of the address space.
#[derive(Debug, Serialize)]
struct RegionView {
    kind: &'static str,
    first: String,
    last: String,
    bytes: u64,
}

/// Explains what was asked for.
///
/// # Errors
/// Exit code 125: a wrong option, a trace that cannot be read, or stdout cannot be written.
pub(crate) fn explain(typed: &low::Explain) -> Result<(), Failure> {
    if typed.machine == arm::NAME {
        let view = arm::ArmView::new(typed)?;
        return print(&if typed.json { json(&view) } else { arm::text(&view) });
    }
    let (machine, space) = space(typed)?;
    let text = match &typed.address {
        None if typed.map => {
            let map = map::MapView::new(machine, &space, typed)?;
            if typed.json { json(&map) } else { text::map(&map) }
        }
        None => return Err(Failure::own("explain: give an address, or --map; see --help")),
        Some(_) if typed.map => {
            return Err(Failure::own("explain: give an address or --map, not both"));
        }
        Some(address) => {
            let view = view(typed, machine, &space, address)?;
            if typed.json { json(&view) } else { text::address(&view) }
        }
    };
    print(&text)
}

fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::own(format!("stdout: {error}")))
        }
        _ => Ok(()),
    }
}

fn json<T: Serialize>(view: &T) -> String {
    serde_json::to_string_pretty(view).expect("numbers and texts serialise") + "\n"
}

/// The machine file, if one was given.
fn machine_file(typed: &low::Explain) -> Result<Option<MachineFile>, Failure> {
    let is_file = typed.machine.ends_with(".toml");
    is_file.then(|| MachineFile::read(&typed.machine)).transpose()
}

/// The machine's name and its map, as typed.
fn space(typed: &low::Explain) -> Result<(&'static str, KernelSpace), Failure> {
    let file = machine_file(typed)?;
    let asked = match &file {
        Some(file) => file.geometry.as_deref().unwrap_or(MACHINE_DEFAULT),
        None => &typed.machine,
    };
    let (name, geometry) = find_geometry(asked).map_err(|failure| Failure {
        message: format!("{}; explain also knows {}", failure.message, arm::NAME),
        ..failure
    })?;
    let file = file.unwrap_or_default();
    let ram_bytes = match &typed.ram {
        Some(text) => size("--ram", text)?,
        None => file.ram_bytes.unwrap_or(RAM_DEFAULT),
    };
    let usual = SpaceConfig::new(geometry, ram_bytes);
    let config = SpaceConfig {
        page_offset: match &typed.page_offset {
            Some(text) => Some(parse_page_offset(geometry, text)?),
            None => file.page_offset,
        },
        vmalloc_bytes: typed.vmalloc.as_deref().map(|text| size("--vmalloc", text)).transpose()?,
        cpus: typed.cpus.unwrap_or(usual.cpus),
        release: match typed.kernel {
            Some(low::KernelRelease::V4_4) => Release::V4_4,
            Some(low::KernelRelease::V6_12) => Release::V6_12,
            None => usual.release,
        },
        ..usual
    };
    let space = KernelSpace::new(config).map_err(|error| Failure::own(format!("{error}")))?;
    Ok((name, space))
}

fn size(option: &str, text: &str) -> Result<u64, Failure> {
    parse_size(text).ok_or_else(|| {
        let accepted = "give a number with an optional suffix K, M, G or T";
        Failure::own(format!("{option} {text}: not a size; {accepted}"))
    })
}

fn view(
    typed: &low::Explain,
    machine: &'static str,
    space: &KernelSpace,
    address: &str,
) -> Result<View, Failure> {
    let (selector, offset) = match address.split_once(':') {
        Some((selector, offset)) => (Some(selector), offset),
        None => (None, address),
    };
    let offset = parse_number("address", offset)?;
    let is_32 = space.config().geometry.address_bits() == 32;
    if is_32 && offset > u64::from(u32::MAX) {
        return Err(Failure::own(format!("address {address}: {machine} has 32 bits; give fewer")));
    }
    let selector = selector.map(|text| parse_number("selector", text)).transpose()?;
    let descriptor = typed.descriptor.as_deref();
    let descriptor = descriptor.map(|text| parse_number("--descriptor", text)).transpose()?;
    let segmentation = Segmentation::new(space, selector, offset, descriptor)?;
    let addr = VirtAddr::new(segmentation.linear_address);
    let region = space.region_of(addr).copied();
    let kind = region.map_or(RegionKind::NonCanonical, |region| region.kind);
    let history = match (&typed.trace, typed.pid) {
        (Some(file), pid) => Some(History::read(file, pid, addr)?),
        (None, Some(_)) => return Err(Failure::own("--pid: give --trace FILE too")),
        (None, None) => None,
    };
    Ok(View {
        schema: "faultline.explain/1",
        machine,
        ram_bytes: space.config().ram_bytes,
        address: format!("{:#x}", addr.as_u64()),
        kind: kind_name(kind),
        region: region.map(|region| RegionView::new(&region)),
        says: says(space, addr, region),
        rule: rule(space, kind),
        physical: physical(space, addr).map(|physical| format!("{:#x}", physical.as_u64())),
        translation: Translation::new(space, addr, &tlbs(typed)?)?,
        segmentation,
        history,
    })
}

/// Where an address of the direct map, of kernel text or of the array of pages leads.
fn physical(space: &KernelSpace, addr: VirtAddr) -> Option<PhysAddr> {
    space.pa(addr).or_else(|| {
        let (array, first) = space.vmemmap_above(PhysAddr::new(space.config().ram_bytes))?;
        let offset = addr.as_u64().checked_sub(array.first.as_u64())?;
        (offset < array.bytes()).then(|| first.start().wrapping_add(offset))
    })
}

/// The TLBs that were asked for.
fn tlbs(typed: &low::Explain) -> Result<TlbSpec, Failure> {
    let tlb = match &typed.tlb {
        Some(name) => Some(find_tlb(name)?),
        None => machine_file(typed)?.and_then(|file| file.tlb),
    };
    match tlb.unwrap_or(TlbMode::Model(*machine::tlb_default())) {
        TlbMode::Model(spec) => Ok(spec),
        TlbMode::Off => Err(Failure::own("--tlb off: there would be no set to name")),
    }
}

impl RegionView {
    fn new(region: &Region) -> Self {
        Self {
            kind: kind_name(region.kind),
            first: format!("{:#x}", region.first.as_u64()),
            last: format!("{:#x}", region.last.as_u64()),
            bytes: region.bytes(),
        }
    }
}

/// The kinds of address in the words of the kernel's documents.
const fn kind_name(kind: RegionKind) -> &'static str {
    match kind {
        RegionKind::User => "user virtual",
        RegionKind::NonCanonical => "not canonical",
        RegionKind::DirectMap => "kernel logical (direct map)",
        RegionKind::DirectMapSpare => "direct map, beyond RAM",
        RegionKind::Vmalloc => "kernel virtual (vmalloc, ioremap)",
        RegionKind::Pkmap => "kernel virtual (pkmap: kmap)",
        RegionKind::Fixmap => "kernel virtual (fixmap)",
        RegionKind::Vmemmap => "kernel virtual (vmemmap)",
        RegionKind::KernelText => "kernel text",
        RegionKind::Modules => "kernel virtual (modules)",
        RegionKind::CpuEntryArea => "kernel virtual (CPU entry area)",
        RegionKind::LdtRemap => "kernel virtual (LDT remap)",
        RegionKind::Vsyscall => "vsyscall page",
        RegionKind::Kasan => "KASAN shadow",
        RegionKind::Espfix => "kernel virtual (espfix stacks)",
        RegionKind::Efi => "EFI services",
        RegionKind::Guard => "guard: never mapped",
        RegionKind::Hole => "unused hole",
    }
}

/// What the address is good for.
fn says(space: &KernelSpace, addr: VirtAddr, region: Option<Region>) -> Vec<String> {
    let Some(region) = region else { return vec!["outside the address space".to_owned()] };
    let offset = addr.offset_from(region.first);
    let page = offset / PAGE_BYTES;
    let is_32 = space.config().geometry.address_bits() == 32;
    let mut says = Vec::new();
    match region.kind {
        RegionKind::User => {
            says.push(
                "below PAGE_OFFSET: each process has its own mapping, threads share one".to_owned(),
            );
            says.push(
                "mapped page by page when touched; may be moved or swapped out; no DMA".to_owned(),
            );
        }
        RegionKind::DirectMap => {
            let base = space.page_offset().as_u64();
            let physical = addr.as_u64() - base;
            says.push(format!(
                "__pa({:#x}) = {:#x} - {base:#x} = {physical:#x}",
                addr.as_u64(),
                addr.as_u64()
            ));
            says.push(
                "one to one with RAM, so contiguous there; kmalloc; never swapped; fit for DMA"
                    .to_owned(),
            );
        }
        RegionKind::Vmalloc => {
            says.push(
                "contiguous here only: page by page from any frame; a guard page behind each area"
                    .to_owned(),
            );
            says.push(
                "vmalloc, kernel stacks, ioremap of devices; never swapped; not for DMA".to_owned(),
            );
        }
        RegionKind::Pkmap => {
            let slots = space.pkmap_slots();
            says.push(format!(
                "slot {page} of {slots}: kmap gives it to one page of highmem, with a count"
            ));
            let low = "kmap of a lowmem page gives its logical address";
            says.push(format!("{low}; it sleeps while all slots are used"));
        }
        RegionKind::Fixmap if is_32 => {
            let top = 0xffff_f000 - addr.align_down(machine::PageSize::K4).as_u64();
            says.push(format!(
                "fixed address {} from the top; {} of them serve kmap_local",
                top / PAGE_BYTES,
                space.kmap_local_slots()
            ));
        }
        RegionKind::KernelText => {
            says.push(format!("code and data of the kernel, mapped to physical {offset:#x}"));
        }
        RegionKind::Vmemmap => {
            says.extend(says_of_vmemmap(space, addr));
        }
        RegionKind::NonCanonical => {
            says.push(
                "bits above the highest one that is translated are not all equal to it: #GP"
                    .to_owned(),
            );
        }
        _ => says.push(format!("{} bytes behind {:#x}", offset, region.first.as_u64())),
    }
    says
}

/// Which `struct page` an address of vmemmap is in, and where the array lies.
fn says_of_vmemmap(space: &KernelSpace, addr: VirtAddr) -> Vec<String> {
    let end = PhysAddr::new(space.config().ram_bytes);
    let Some((array, first)) = space.vmemmap_above(end) else { return Vec::new() };
    let place = match array.frame_at(addr) {
        Some((frame, byte)) => format!(
            "byte {byte} of the struct page of frame {:#x}, physical {:#x} (64 bytes for each)",
            frame.number(),
            frame.start().as_u64()
        ),
        None => "behind the struct pages of this RAM".to_owned(),
    };
    let first = first.start().as_u64();
    let bytes = array.bytes();
    vec![place, format!("the array: {bytes} bytes at physical {first:#x}, by pages of 2 MiB")]
}

/// Where it is written.
const fn rule(space: &KernelSpace, kind: RegionKind) -> &'static str {
    let is_32 = space.config().geometry.address_bits() == 32;
    match kind {
        RegionKind::NonCanonical => "Intel SDM 1, 3.3.7.1 (canonical addressing)",
        RegionKind::User => "Linux: addresses below TASK_SIZE; Intel SDM 3A, 4.6 (U/S)",
        RegionKind::DirectMap if is_32 => {
            "Linux arch/x86/include/asm/page_32.h (__pa), arch/x86/mm/init_32.c (lowmem)"
        }
        RegionKind::Pkmap => "Linux mm/highmem.c; arch/x86/include/asm/pgtable_32_areas.h",
        RegionKind::Vmalloc if is_32 => {
            "Linux mm/vmalloc.c; arch/x86/include/asm/pgtable_32_areas.h"
        }
        RegionKind::Vmalloc => "Linux mm/vmalloc.c; Documentation/arch/x86/x86_64/mm.rst",
        _ if is_32 => "Linux arch/x86/include/asm/pgtable_32_areas.h, fixmap.h",
        _ => "Linux Documentation/arch/x86/x86_64/mm.rst",
    }
}
