//! A machine with a memory manager, and spaces of random pages.

use machine::{
    Access, FastPath, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, TlbMode, VirtAddr,
    tlb_default,
};
use mm::kernel_space::{KernelSpace, SpaceConfig};
use mm::ops::{self, MapFlags, MapRequest, MapSource};
use mm::{Layout, Limits, Memory, Mm, MmId, Rights, Sharing, handle_fault};

/// The end of user space with four levels.
pub(crate) const TASK_END: u64 = 0x7fff_ffff_f000;
/// Bytes of RAM.
pub(crate) const RAM_BYTES: u64 = 32 << 20;

/// A machine whose kernel has an address space.
pub(crate) struct World {
    pub(crate) hw: Machine,
    pub(crate) memory: Memory,
    random: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut hw = Machine::new(MachineConfig {
            ram_bytes: RAM_BYTES,
            geometry: Geometry::X86_64,
            tlb: TlbMode::Model(*tlb_default()),
            reference: FastPath::Filled,
            keep: Keep::HashOnly,
            boot_seconds: 0,
        })
        .expect("the test machine is small");
        let config = SpaceConfig::new(Geometry::X86_64, RAM_BYTES);
        let space = KernelSpace::new(config).expect("such a kernel can be");
        let memory = Memory::with_kernel(&mut hw, space).expect("there are frames");
        Self { hw, memory, random: 88_172_645_463_325_252 }
    }

    pub(crate) fn next(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    pub(crate) fn space(&mut self, id: u32) -> Mm {
        let layout = Layout {
            mmap_base: VirtAddr::new(TASK_END),
            task_end: VirtAddr::new(TASK_END),
            min_address: VirtAddr::new(0x1_0000),
            ..Layout::default()
        };
        let limits = Limits::default();
        let mm = Mm::new(MmId(id), layout, limits, &mut self.memory, &mut self.hw);
        let mm = mm.expect("there are frames");
        self.hw.flush_asid(1);
        self.hw.activate(mm.root(), 1);
        mm
    }

    /// Maps one page and accesses it as its rights allow. Returns its address and rights.
    pub(crate) fn map_page(&mut self, mm: &mut Mm) -> (u64, Rights) {
        // Near each other or far: tables are shared, or each page has its own.
        let spread = [1 << 9, 1 << 20, TASK_END / PAGE_BYTES - 64][self.next(3) as usize];
        let addr = (32 + self.next(spread)) * PAGE_BYTES;
        let write = if self.next(2) == 0 { Rights::WRITE } else { Rights::empty() };
        let execute = if self.next(2) == 0 { Rights::EXECUTE } else { Rights::empty() };
        let rights = Rights::READ | write | execute;
        let request = MapRequest {
            addr,
            bytes: PAGE_BYTES,
            rights,
            sharing: Sharing::Private,
            flags: MapFlags::FIXED,
            source: MapSource::Anonymous,
        };
        ops::mmap(mm, &mut self.memory, &mut self.hw, request).expect("it is free or replaced");
        let access = if rights.contains(Rights::WRITE) { Access::Write } else { Access::Read };
        while let Err(fault) = self.hw.access(VirtAddr::new(addr), access) {
            let handled = handle_fault(mm, &mut self.memory, &mut self.hw, fault);
            handled.expect("the page is mapped");
        }
        (addr, rights)
    }
}
