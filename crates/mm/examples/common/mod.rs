//! What the examples share: a machine, its memory, and an address space with room.
#![allow(dead_code, reason = "each example uses its part")]

use machine::{
    Access, FastPath, Geometry, Keep, Machine, MachineConfig, PAGE_BYTES, PageFault, Privilege,
    Refusal, TlbMode, VirtAddr,
};
use mm::ops::{MapFlags, MapRequest, MapSource, mmap};
use mm::{Layout, Limits, Memory, Mm, MmId, Rights, Sharing, handle_fault};

/// Where the mappings of an example begin.
pub(crate) const BASE: u64 = 0x7f00_0000_0000;

/// A machine with this much RAM, and no TLB that would cost time.
pub(crate) const fn config(ram_bytes: u64) -> MachineConfig {
    MachineConfig {
        ram_bytes,
        geometry: Geometry::X86_64,
        tlb: TlbMode::Off,
        reference: FastPath::Filled,
        keep: Keep::HashOnly,
        boot_seconds: 0,
    }
}

/// A machine that has booted.
pub(crate) fn boot(config: MachineConfig) -> (Machine, Memory) {
    let mut hw = Machine::new(config).expect("the host has address space");
    let memory = Memory::new(&mut hw).expect("there are frames");
    (hw, memory)
}

/// An address space of 47 bits whose mappings go below [`BASE`].
pub(crate) fn layout() -> Layout {
    let task_end = VirtAddr::new(0x7fff_ffff_f000);
    Layout { mmap_base: VirtAddr::new(BASE), task_end, ..Layout::default() }
}

/// The address of a page counted from [`BASE`].
pub(crate) const fn page_addr(page: u64) -> VirtAddr {
    VirtAddr::new(BASE + page * PAGE_BYTES)
}

/// Resolves a fault of a user program.
pub(crate) fn fault(
    (mm, memory, hw): (&mut Mm, &mut Memory, &mut Machine),
    addr: VirtAddr,
    access: Access,
    refusal: Refusal,
) {
    let fault = PageFault { addr, access, privilege: Privilege::User, refusal };
    handle_fault(mm, memory, hw, fault).expect("it is mapped");
}

/// A machine with one address space.
pub(crate) struct Bench {
    pub(crate) hw: Machine,
    pub(crate) memory: Memory,
    pub(crate) mm: Mm,
}

impl Bench {
    /// With this much RAM.
    pub(crate) fn new(ram_bytes: u64) -> Self {
        Self::of(boot(config(ram_bytes)), layout(), Limits::default())
    }

    /// Of a machine that has booted.
    pub(crate) fn of(
        (mut hw, mut memory): (Machine, Memory),
        layout: Layout,
        limits: Limits,
    ) -> Self {
        let mm = Mm::new(MmId(1), layout, limits, &mut memory, &mut hw);
        let mm = mm.expect("there are frames");
        hw.activate(mm.root(), 1);
        Self { hw, memory, mm }
    }

    /// Maps pages that the program alone may read and write; `addr` is a hint without `FIXED`.
    pub(crate) fn map(
        &mut self,
        addr: u64,
        pages: u64,
        flags: MapFlags,
        source: MapSource,
    ) -> VirtAddr {
        let request = MapRequest {
            addr,
            bytes: pages * PAGE_BYTES,
            rights: Rights::READ | Rights::WRITE,
            sharing: Sharing::Private,
            flags,
            source,
        };
        mmap(&mut self.mm, &mut self.memory, &mut self.hw, request).expect("there is room")
    }

    /// An access as the program makes it, with all its faults.
    pub(crate) fn touch(&mut self, addr: VirtAddr, access: Access) {
        while let Err(fault) = self.hw.access(addr, access) {
            handle_fault(&mut self.mm, &mut self.memory, &mut self.hw, fault)
                .expect("it is mapped, and pages can leave");
        }
    }

    /// Ends the address space and the machine; how many frames were lost.
    pub(crate) fn stop(mut self) -> u64 {
        self.mm.exit(&mut self.memory, &mut self.hw);
        self.memory.shutdown(&mut self.hw)
    }
}
