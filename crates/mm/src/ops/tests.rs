//! The rules of the semantics by their numbers, on a small machine that is checked after each call.
//! What the differential test (`tests/differential`) compares with a kernel is not repeated here,
//! except where a number or a limit is the point.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use machine::{Access, VirtAddr};

use super::*;
use crate::backing::{FileKind, MappedFile};
use crate::error::{FaultError, MmError};
use crate::fault::FaultKind;
use crate::rights::{Rights, Sharing};
use crate::space::{Layout, Mm};
use crate::testing::{RW, World};

mod device;
mod limits;
mod locks;
mod merge;
mod place;
mod remap;

/// `mmap_base` with a stack limit of 8 MiB and without randomisation (AS-2).
const MMAP_BASE: u64 = 0x7fff_f7ff_f000;
const STACK_TOP: u64 = 0x7fff_ffff_f000;
const PAGE: u64 = 4096;
const M2: u64 = 2 << 20;

/// A machine with the layout of an x86-64 process.
struct Calls {
    world: World,
}

impl Calls {
    fn new() -> Self {
        let mut world = World::new(4096);
        world.spaces[0].layout = Layout {
            mmap_base: VirtAddr::new(MMAP_BASE),
            mmap_legacy_base: VirtAddr::new(0x2aaa_aaaa_a000),
            task_end: VirtAddr::new(STACK_TOP),
            stack_top: VirtAddr::new(STACK_TOP),
            min_address: VirtAddr::new(0x1_0000),
            start_brk: VirtAddr::new(0x5555_5556_0000),
            brk: VirtAddr::new(0x5555_5556_0000),
            ..Layout::default()
        };
        Self { world }
    }

    fn mm(&mut self) -> &mut Mm {
        &mut self.world.spaces[0]
    }

    /// Makes a call and checks all invariants.
    fn call<T>(
        &mut self,
        what: impl FnOnce(&mut Mm, &mut crate::Memory, &mut machine::Machine) -> T,
    ) -> T {
        let World { hw, memory, spaces, .. } = &mut self.world;
        let result = what(&mut spaces[0], memory, hw);
        self.world.check();
        result
    }

    fn request(addr: u64, bytes: u64, flags: MapFlags) -> MapRequest {
        let (rights, sharing) = (RW, Sharing::Private);
        MapRequest { addr, bytes, rights, sharing, flags, source: MapSource::Anonymous }
    }

    fn mmap(&mut self, request: MapRequest) -> Result<u64, MmError> {
        self.call(|mm, memory, hw| mmap(mm, memory, hw, request)).map(VirtAddr::as_u64)
    }

    /// Private writable memory without flags.
    fn map(&mut self, addr: u64, pages: u64) -> Result<u64, MmError> {
        self.mmap(Self::request(addr, pages * PAGE, MapFlags::empty()))
    }

    fn map_fixed(&mut self, addr: u64, pages: u64) -> Result<u64, MmError> {
        self.mmap(Self::request(addr, pages * PAGE, MapFlags::FIXED))
    }

    fn map_file(
        &mut self,
        file: &Arc<MappedFile>,
        rights: Rights,
        sharing: Sharing,
    ) -> Result<u64, MmError> {
        let source = MapSource::File { file: Arc::clone(file), offset: 0 };
        let flags = MapFlags::empty();
        self.mmap(MapRequest { addr: 0, bytes: 4 * PAGE, rights, sharing, flags, source })
    }

    fn munmap(&mut self, addr: u64, bytes: u64) -> Result<(), MmError> {
        self.call(|mm, memory, hw| munmap(mm, memory, hw, VirtAddr::new(addr), bytes))
    }

    fn mprotect(&mut self, addr: u64, pages: u64, rights: Rights) -> Result<(), MmError> {
        let how = (rights, ProtectFlags::empty());
        self.call(|mm, memory, hw| mprotect(mm, memory, hw, VirtAddr::new(addr), pages * PAGE, how))
    }

    fn mremap(
        &mut self,
        what: (u64, u64, u64),
        flags: RemapFlags,
        new_addr: u64,
    ) -> Result<u64, MmError> {
        let what = (VirtAddr::new(what.0), what.1 * PAGE, what.2 * PAGE);
        let new_addr = VirtAddr::new(new_addr);
        self.call(|mm, memory, hw| mremap(mm, memory, hw, what, flags, new_addr))
            .map(VirtAddr::as_u64)
    }

    fn madvise(&mut self, addr: u64, pages: u64, advice: Advice) -> Result<(), MmError> {
        let range = (VirtAddr::new(addr), pages * PAGE);
        self.call(|mm, memory, hw| madvise(mm, memory, hw, range, advice))
    }

    fn mlock(&mut self, addr: u64, pages: u64, mode: LockMode) -> Result<(), MmError> {
        let range = (VirtAddr::new(addr), pages * PAGE);
        self.call(|mm, memory, hw| mlock(mm, memory, hw, range, mode))
    }

    fn brk(&mut self, addr: u64) -> u64 {
        self.call(|mm, memory, hw| brk(mm, memory, hw, VirtAddr::new(addr))).as_u64()
    }

    fn write(&mut self, addr: u64) -> Result<Vec<FaultKind>, FaultError> {
        self.world.write(VirtAddr::new(addr))
    }

    /// Start, pages and rights of every VMA.
    fn vmas(&self) -> Vec<(u64, u64, Rights)> {
        let vmas = self.world.spaces[0].vmas();
        vmas.map(|vma| (vma.range.start.as_u64(), vma.range.pages(), vma.rights)).collect()
    }

    fn ranges(&self) -> Vec<(u64, u64)> {
        self.vmas().into_iter().map(|(start, pages, _)| (start, pages)).collect()
    }

    fn finish(self) {
        self.world.finish();
    }
}

/// The message in an error is for people.
fn is_invalid<T>(result: Result<T, MmError>) -> bool {
    matches!(result, Err(MmError::InvalidArgument(_)))
}

fn is_no_memory<T>(result: Result<T, MmError>) -> bool {
    matches!(result, Err(MmError::NoMemory(_)))
}
