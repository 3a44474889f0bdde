//! The test device: memory of its own above RAM, one page of RAM, and copies between them.
//!
//! ```text
//!  physical       |========= RAM ====[buffer]====|---- memory of the device ----|
//!  /dev/testmem   |---- memory of the device ----|[buffer]|
//! ```
//! The kernel maps the memory by `ioremap`, uncached, and `read` and `write` go through this
//! mapping. `mmap` gives a program the same frames (`remap_pfn_range`): loads and stores reach the
//! device without any call. On request ([`COPY`]) the device copies by itself, by physical address:
//! the CPU makes no access, no page table is looked at, and the device reaches nothing but its
//! memory and the buffer, the one page of RAM that is kept for it.
//!
//! Deliberately not here: interrupts, and the time that a copy takes: it is done when the call
//! returns.
//!
//! Invariants
//! 1. While there is a device, its memory is mapped at `mapped`, and its buffer is a frame of the
//!    kernel: never moved, never swapped.
//!
//! # Source
//! Linux 6.12 `Documentation/core-api/dma-api.rst` (coherent memory), `drivers/char/mem.c`.

use std::sync::Arc;

use machine::{Event, Frame, Machine, PAGE_BYTES, PhysAddr, VirtAddr};
use mm::{FileKind, MappedFile, Memory, MmError, Rights};

use crate::errno::{Errno, SysResult};
use crate::exec::FixedPager;
use crate::fs::{Device, FileId, Opened, Vfs};
use crate::{BootError, Kernel};

/// Its name in `/dev`, `/proc/iomem` and `/proc/misc`.
pub(crate) const NAME: &str = "testmem";
/// Who asks for the mapping, in `/proc/vmallocinfo`.
const CALLER: &str = "testmem_probe";
/// Bytes of the buffer.
const BUFFER_BYTES: u64 = PAGE_BYTES;

/// `_IOR('F', 0, u64[4])`: physical address and bytes of the memory, and of the buffer.
const INFO: u32 = 0x8020_4600;
/// `_IOW('F', 1, u64[3])`: the device copies from one physical address to another so many bytes.
const COPY: u32 = 0x4018_4601;

/// The device, and what the kernel keeps of it.
#[derive(Debug)]
pub(crate) struct TestMemory {
    first: PhysAddr,
    bytes: u64,
    /// Where the kernel has mapped its memory.
    mapped: VirtAddr,
    buffer: Frame,
    /// What VMAs name: opened for reading, and for writing too.
    files: [Arc<MappedFile>; 2],
}

impl TestMemory {
    /// Maps the memory of the device, `bytes` right above RAM, and gives it a name.
    ///
    /// # Errors
    /// - [`MmError::InvalidArgument`]: its memory is beyond the physical addresses of the machine.
    /// - [`MmError::NoMemory`]: no room in vmalloc space, or no frame.
    fn probe(
        vfs: &mut Vfs,
        memory: &mut Memory,
        hw: &mut Machine,
        bytes: u64,
    ) -> Result<Self, MmError> {
        let first = PhysAddr::new(hw.ram.bytes());
        let mapped = memory.ioremap(hw, first, bytes, CALLER)?;
        let no_frame = MmError::NoMemory("no frame for the buffer of the device");
        let buffer = memory.take_kernel_frame(hw).ok_or(no_frame)?;
        hw.ram.zero_frame(buffer);
        let object = memory.add_object(Box::new(FixedPager::empty()), FileKind::Device);
        let (device, inode) = vfs.plant_device(NAME.as_bytes(), Device::TestMemory, object);
        let file = |may| {
            let path = format!("/dev/{NAME}").into_bytes().into_boxed_slice();
            let kind = FileKind::Device;
            Arc::new(MappedFile { object, path, device, inode, kind, may })
        };
        let files = [file(Rights::READ | Rights::EXECUTE), file(Rights::all())];
        Ok(Self { first, bytes, mapped, buffer, files })
    }

    /// Bytes of its file: the memory and the buffer.
    const fn file_bytes(&self) -> u64 {
        self.bytes + BUFFER_BYTES
    }

    /// Whether the device may reach these bytes: all in its memory, or all in its buffer.
    fn can_reach(&self, physical: u64, bytes: u64) -> bool {
        let is_in = |first: PhysAddr, length: u64| {
            let offset = physical.checked_sub(first.as_u64());
            let end = offset.and_then(|offset| offset.checked_add(bytes));
            end.is_some_and(|end| end <= length)
        };
        is_in(self.first, self.bytes) || is_in(self.buffer.start(), BUFFER_BYTES)
    }

    /// The frame at `offset` of its file, of `bytes` that are mapped from there on.
    fn frame_at(&self, offset: u64, bytes: u64) -> Option<Frame> {
        let end = offset.checked_add(bytes)?;
        if end <= self.bytes {
            return Some(self.first.wrapping_add(offset).frame());
        }
        (offset == self.bytes && end <= self.file_bytes()).then_some(self.buffer)
    }
}

impl Kernel {
    /// The kernel with the device, if the machine has one of so many bytes.
    ///
    /// # Errors
    /// [`BootError::Memory`]: no place for its memory, or no frame.
    pub(crate) fn with_testmem(mut self, bytes: u64) -> Result<Self, BootError> {
        if bytes > 0 {
            let (vfs, memory, hw) = (&mut self.vfs, &mut self.memory, &mut self.hw);
            let found = TestMemory::probe(vfs, memory, hw, bytes).map_err(BootError::Memory)?;
            self.testmem = Some(found);
            self.objects.count_planted();
        }
        Ok(self)
    }

    /// Whether the file is the device.
    pub(crate) fn is_testmem(&self, file: FileId) -> bool {
        matches!(self.vfs.file(file).opened, Opened::Device { device: Device::TestMemory, .. })
    }

    /// What `mmap` finds behind the open device.
    ///
    /// # Errors
    /// `EACCES`: not opened for reading. `ENODEV`: there is none.
    pub(crate) fn testmem_file(&self, file: FileId) -> Result<Arc<MappedFile>, Errno> {
        let open = self.vfs.file(file);
        if !open.can_read() {
            return Err(Errno::EACCES);
        }
        let device = self.testmem.as_ref().ok_or(Errno::ENODEV)?;
        Ok(Arc::clone(&device.files[usize::from(open.can_write())]))
    }

    /// Whether the byte at `addr` of the running task is one of the device's memory or its buffer.
    /// One of a private copy is not.
    pub(crate) fn is_in_testmem(&self, addr: VirtAddr) -> bool {
        let Some(device) = &self.testmem else { return false };
        let place = self.hw.peek(self.mm.root(), addr);
        place.is_some_and(|(place, _)| device.can_reach(place.as_u64(), 1))
    }

    /// The first frame of a mapping of `bytes` bytes from `offset` on. `None` if it does not lie in
    /// the device's memory, nor in its buffer.
    pub(crate) fn testmem_frame(&self, offset: u64, bytes: u64) -> Option<Frame> {
        let whole = bytes.checked_next_multiple_of(PAGE_BYTES)?;
        self.testmem.as_ref()?.frame_at(offset, whole)
    }

    /// Bytes of the device's file.
    pub(crate) fn testmem_bytes(&self) -> u64 {
        self.testmem.as_ref().map_or(0, TestMemory::file_bytes)
    }

    /// Where the byte at `offset` of the device's file is, as the kernel's page tables have it, and
    /// how many bytes follow it in its page. `None` behind the end.
    fn testmem_place(&self, offset: u64) -> Option<(PhysAddr, usize)> {
        let device = self.testmem.as_ref().filter(|device| offset < device.file_bytes())?;
        let place = match offset.checked_sub(device.bytes) {
            Some(beyond) => device.buffer.start().wrapping_add(beyond),
            None => {
                let addr = device.mapped.wrapping_add(offset);
                self.hw.peek(self.mm.root(), addr).expect("invariant 1: it is mapped").0
            }
        };
        Some((place, (PAGE_BYTES - offset % PAGE_BYTES) as usize))
    }

    /// Reads from the device's memory at `at`; fewer bytes at its end.
    pub(crate) fn read_testmem(&mut self, at: u64, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        while done < bytes.len()
            && let Some((place, room)) = self.testmem_place(at.saturating_add(done as u64))
        {
            let count = room.min(bytes.len() - done);
            self.hw.load(place, &mut bytes[done..done + count]);
            done += count;
        }
        done
    }

    /// Writes to the device's memory at `at`, as much as there is room.
    ///
    /// # Errors
    /// `ENOSPC`: none.
    pub(crate) fn write_testmem(&mut self, at: u64, bytes: &[u8]) -> Result<usize, Errno> {
        let mut done = 0;
        while done < bytes.len()
            && let Some((place, room)) = self.testmem_place(at.saturating_add(done as u64))
        {
            let count = room.min(bytes.len() - done);
            self.hw.store(place, &bytes[done..done + count]);
            done += count;
        }
        if done == 0 && !bytes.is_empty() { Err(Errno::ENOSPC) } else { Ok(done) }
    }

    /// Requests to the device, opened as `file`: [`INFO`] and [`COPY`].
    ///
    /// # Errors
    /// `ENOTTY`: any other. `EFAULT`. `EACCES`: a copy, and the file is not opened for writing.
    /// `EINVAL`: a copy from or to where the device may not reach. Nothing is copied then.
    pub(crate) fn testmem_request(
        &mut self,
        file: FileId,
        request: u32,
        argument: u64,
    ) -> SysResult {
        let device = self.testmem.as_ref().ok_or(Errno::ENODEV)?;
        let argument = VirtAddr::new(argument);
        match request {
            INFO => {
                let (first, buffer) = (device.first.as_u64(), device.buffer.start().as_u64());
                let words = [first, device.bytes, buffer, BUFFER_BYTES].map(u64::to_le_bytes);
                self.write_user(argument, words.as_flattened())?;
                Ok(0)
            }
            COPY if !self.vfs.file(file).can_write() => Err(Errno::EACCES),
            COPY => {
                let mut words = [[0; 8]; 3];
                self.read_user(argument, words.as_flattened_mut())?;
                let [from, to, bytes] = words.map(u64::from_le_bytes);
                self.copy_by_device(from, to, bytes)
            }
            _ => Err(Errno::ENOTTY),
        }
    }

    fn copy_by_device(&mut self, from: u64, to: u64, bytes: u64) -> SysResult {
        let device = self.testmem.as_ref().ok_or(Errno::ENODEV)?;
        if !device.can_reach(from, bytes) || !device.can_reach(to, bytes) {
            return Err(Errno::EINVAL);
        }
        self.hw.copy(PhysAddr::new(from), PhysAddr::new(to), bytes);
        self.hw.log.push(self.hw.time(), Event::Dma { from, to, bytes });
        Ok(0)
    }

    /// Where the device's memory is, and how many bytes.
    pub(crate) fn testmem_range(&self) -> Option<(PhysAddr, u64)> {
        self.testmem.as_ref().map(|device| (device.first, device.bytes))
    }

    /// The text of `/proc/misc`.
    pub(crate) fn misc_devices(&self) -> String {
        let minor = Device::TestMemory.number().1;
        self.testmem.as_ref().map_or_else(String::new, |_| format!("{minor:3} {NAME}\n"))
    }

    /// Gives what the kernel keeps of the device back.
    pub(crate) fn drop_testmem(&mut self) {
        if let Some(device) = self.testmem.take() {
            self.memory.give_kernel_frame(&mut self.hw, device.buffer);
            self.memory.vfree(&mut self.hw, device.mapped).expect("invariant 1: it is mapped");
        }
    }
}
