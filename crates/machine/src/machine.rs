//! One computer: RAM, MMU, clock and log behind one door.

use crate::access::{Access, PageFault, Privilege};
use crate::addr::{Frame, PhysAddr, VirtAddr, VirtRange};
use crate::counters::Counters;
use crate::event::{EventLog, Keep};
use crate::geometry::Geometry;
use crate::pte::Pte;
use crate::ram::{Ram, RamError};
use crate::tlb::TlbMode;

/// Whether the fast path is used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum FastPath {
    /// Emitted code hits without a call. The normal mode.
    #[default]
    Filled,
    /// Reference mode: every access goes through the model.
    Empty,
}

/// Translated code that is no longer what its page says.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum StaleCode {
    /// The mappings of these addresses changed.
    Range(VirtRange),
    /// The bytes of this frame changed.
    Frame(Frame),
}

/// What a machine is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MachineConfig {
    /// Bytes of RAM: a multiple of 4,096, at least 1 MiB.
    pub ram_bytes: u64,
    /// Page-table format.
    pub geometry: Geometry,
    /// The modelled TLBs.
    pub tlb: TlbMode,
    /// Whether the fast path is used.
    pub reference: FastPath,
    /// Whether events are kept.
    pub keep: Keep,
    /// Seconds since 1970 when the machine starts.
    pub boot_seconds: u64,
}

/// A computer without an operating system.
#[derive(Debug)]
pub struct Machine {
    /// Physical memory.
    pub ram: Ram,
    /// What happened.
    pub log: EventLog,
    config: MachineConfig,
}

#[expect(unused_variables, clippy::missing_errors_doc, clippy::todo, reason = "signatures first")]
#[expect(missing_docs, reason = "signatures first")]
impl Machine {
    pub fn new(config: MachineConfig) -> Result<Self, RamError> {
        Ok(Self { ram: Ram::new(config.ram_bytes)?, log: EventLog::new(config.keep), config })
    }
    pub fn config(&self) -> &MachineConfig {
        &self.config
    }
    pub fn geometry(&self) -> Geometry {
        self.config.geometry
    }
    pub fn boot_seconds(&self) -> u64 {
        self.config.boot_seconds
    }
    pub fn activate(&mut self, root: Frame, asid: u16) {
        todo!()
    }
    pub fn access(&mut self, addr: VirtAddr, access: Access) -> Result<PhysAddr, PageFault> {
        todo!()
    }
    pub fn access_repeat(
        &mut self,
        addr: VirtAddr,
        access: Access,
        count: u64,
    ) -> Result<PhysAddr, PageFault> {
        todo!()
    }
    pub fn fetch(&mut self, addr: VirtAddr, slot: u32) -> Result<PhysAddr, PageFault> {
        todo!()
    }
    pub fn probe(
        &mut self,
        addr: VirtAddr,
        access: Access,
        privilege: Privilege,
    ) -> Result<PhysAddr, PageFault> {
        todo!()
    }
    pub fn peek(&self, root: Frame, addr: VirtAddr) -> Option<(PhysAddr, Pte)> {
        todo!()
    }
    pub fn flush_page(&mut self, addr: VirtAddr) {
        todo!()
    }
    pub fn flush_range(&mut self, range: VirtRange) {
        todo!()
    }
    pub fn flush_all(&mut self) {
        todo!()
    }
    pub fn flush_asid(&mut self, asid: u16) {
        todo!()
    }
    pub fn has_stale_code(&self) -> bool {
        todo!()
    }
    pub fn take_stale_code(&mut self) -> Option<StaleCode> {
        todo!()
    }
    pub fn mark_code(&mut self, frame: Frame) {
        todo!()
    }
    pub fn unmark_code(&mut self, frame: Frame) {
        todo!()
    }
    pub fn is_code(&self, frame: Frame) -> bool {
        todo!()
    }
    pub fn store(&mut self, addr: PhysAddr, bytes: &[u8]) {
        todo!()
    }
    pub fn load(&self, addr: PhysAddr, bytes: &mut [u8]) {
        todo!()
    }
    pub fn drain_clock(&mut self) {
        todo!()
    }
    pub fn now_ns(&self) -> u64 {
        todo!()
    }
    pub fn time(&self) -> u64 {
        todo!()
    }
    pub fn advance_ns(&mut self, ns: u64) {
        todo!()
    }
    pub fn counters(&self) -> Counters {
        todo!()
    }
    pub fn fast(&mut self) -> &mut [u64] {
        todo!()
    }
    pub fn fast_address(&self) -> u64 {
        todo!()
    }
}
