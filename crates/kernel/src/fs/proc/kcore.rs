//! `/proc/kcore`: the kernel's memory as a core file, by its own addresses.
//!
//! ```text
//!  | ELF header | program headers |..| direct map | ... | vmalloc | ... | vmemmap |
//!  0            64                4096 + the low bits of each address
//! ```
//! What is read goes through the kernel's page tables; where nothing is mapped, and from devices,
//! it is 0, as between the segments. Words of the array of pages are written just before they are
//! read.
//!
//! Differs from Linux: there are no notes and no kernel text, and on machines of 32 bits it
//! cannot be read (`EIO`).
//!
//! # Source
//! Linux 6.12 `fs/proc/kcore.c` (`kc_vaddr_to_offset`: `arch/x86/include/asm/pgtable_64.h`).

use machine::{Geometry, PAGE_BYTES, VirtAddr};
use mm::AreaUse;
use mm::kernel_space::{KernelSpace, RegionKind};

use crate::Kernel;
use crate::errno::Errno;

/// Bytes of the headers in the file: the first page.
const HEADER_BYTES: u64 = PAGE_BYTES;
const EHDR_BYTES: u16 = 64;
const PHDR_BYTES: u16 = 56;
const ET_CORE: u16 = 4;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
/// `PF_R`, `PF_W` and `PF_X`, as Linux says of all.
const FLAGS: u32 = 7;

/// A part of the kernel's addresses in the file.
#[derive(Clone, Copy, Debug)]
struct Segment {
    first: VirtAddr,
    bytes: u64,
    /// `p_paddr`: all ones if it is not one to one.
    physical: u64,
}

/// The bits of an address that are its place in the file.
const fn place_mask(geometry: Geometry) -> u64 {
    (1 << (geometry.address_bits() - 1)) - 1
}

impl Segment {
    /// What a kernel of 64 bits shows, in order of addresses.
    fn all(kernel: &Kernel, space: &KernelSpace) -> Vec<Self> {
        let of = |kind, physical| {
            let region = space.region(kind)?;
            Some(Self { first: region.first, bytes: region.bytes(), physical })
        };
        let array = kernel.memory.vmemmap().map(|(array, _)| Self {
            first: array.first,
            bytes: array.bytes(),
            physical: u64::MAX,
        });
        let direct = of(RegionKind::DirectMap, 0);
        [direct, of(RegionKind::Vmalloc, u64::MAX), array].into_iter().flatten().collect()
    }

    fn place(&self, geometry: Geometry) -> u64 {
        HEADER_BYTES + (self.first.as_u64() & place_mask(geometry))
    }
}

/// The headers, filled up with zeros to a page.
fn headers(segments: &[Segment], geometry: Geometry) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    bytes.resize(16, 0);
    let mut put = |word: &[u8]| bytes.extend_from_slice(word);
    put(&ET_CORE.to_le_bytes());
    put(&EM_X86_64.to_le_bytes());
    put(&1_u32.to_le_bytes());
    put(&0_u64.to_le_bytes());
    put(&u64::from(EHDR_BYTES).to_le_bytes());
    put(&0_u64.to_le_bytes());
    put(&0_u32.to_le_bytes());
    for half in [EHDR_BYTES, PHDR_BYTES, segments.len() as u16, 0, 0, 0] {
        put(&half.to_le_bytes());
    }
    for segment in segments {
        put(&PT_LOAD.to_le_bytes());
        put(&FLAGS.to_le_bytes());
        let (at, first) = (segment.place(geometry), segment.first.as_u64());
        for word in [at, first, segment.physical, segment.bytes, segment.bytes, PAGE_BYTES] {
            put(&word.to_le_bytes());
        }
    }
    bytes.resize(HEADER_BYTES as usize, 0);
    bytes
}

impl Kernel {
    /// Reads from the file.
    ///
    /// # Errors
    /// `EIO`: the machine has 32 bits.
    pub(super) fn read_kcore(&mut self, at: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        let geometry = self.hw.geometry();
        let space = self.memory.kernel_space().filter(|_| geometry.address_bits() > 32);
        let segments = Segment::all(self, space.ok_or(Errno::EIO)?);
        let ends = segments.iter().map(|segment| segment.place(geometry) + segment.bytes);
        let end_of_file = ends.max().unwrap_or(HEADER_BYTES);
        let mut done = 0;
        while done < bytes.len() {
            let from = at.saturating_add(done as u64);
            let room = (PAGE_BYTES - from % PAGE_BYTES) as usize;
            let end = bytes.len().min(done + room);
            let part = &mut bytes[done..end];
            if from < HEADER_BYTES {
                let skip = from as usize;
                part.copy_from_slice(&headers(&segments, geometry)[skip..skip + part.len()]);
            } else {
                let is_inside = |segment: &&Segment| {
                    from.checked_sub(segment.place(geometry)).is_some_and(|at| at < segment.bytes)
                };
                match segments.iter().find(is_inside) {
                    Some(segment) => {
                        let addr = segment.first.wrapping_add(from - segment.place(geometry));
                        self.read_kernel_page(addr, part);
                    }
                    None if from >= end_of_file => break,
                    None => part.fill(0),
                }
            }
            done = end;
        }
        Ok(done)
    }

    /// Reads bytes of one page of the kernel.
    fn read_kernel_page(&mut self, addr: VirtAddr, bytes: &mut [u8]) {
        let array = self.memory.vmemmap().map(|(array, _)| array);
        if let Some((first, _)) = array.and_then(|array| array.frame_at(addr)) {
            let frames = bytes.len().div_ceil(64) as u64 + 1;
            let end = first.number() + frames;
            self.memory.write_vmemmap(&mut self.hw, first.number()..end);
        }
        let area = self.memory.area_at(addr);
        let is_device = area.is_some_and(|area| matches!(area.purpose, AreaUse::Ioremap(_)));
        let root = self.memory.kernel_root().filter(|_| !is_device);
        let found = root.and_then(|root| self.hw.peek(root, addr));
        match found {
            Some((place, _))
                if place.as_u64() + bytes.len() as u64 <= self.hw.ram.end().as_u64() =>
            {
                self.hw.load(place, bytes);
            }
            _ => bytes.fill(0),
        }
    }
}
