//! The kernel's way to the memory of the task.
//!
//! Walks the task's page tables as the task would, resolves faults as the task's would be resolved,
//! and copies whole runs of a page. A bad pointer is an error, never a signal.
//!
//! Invariants
//! 1. Nothing outside the user half is touched, whatever the address; what a call of an i386
//!    program finds above it is no memory (`compat/window.rs`).
//! 2. TLB counts and the access clock do not move: these are not accesses of the program.

use machine::{Access, Machine, PAGE_BYTES, PhysAddr, Privilege, VirtAddr};
use mm::{FaultError, Memory, Mm};

use crate::Kernel;
use crate::abi::Abi;
use crate::errno::Errno;

/// First byte that no task of any kernel may map: 2^47 - 4096.
pub const TASK_END: u64 = 0x7fff_ffff_f000;

/// How often one byte may fault before the access is given up: each fault must make progress, and
/// no access needs more than a table, a copy and a write upgrade.
const FAULTS_MAX: u32 = 4;

/// Why an address of a task can not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Refused {
    /// Nothing is mapped there, or a right is missing.
    Fault,
    /// There is no frame.
    NoFrame,
}

impl From<Refused> for Errno {
    fn from(_: Refused) -> Self {
        Self::EFAULT
    }
}

/// Where `addr` of `mm`, the machine's active address space, lies in RAM.
fn resolve(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    addr: VirtAddr,
    access: Access,
) -> Result<PhysAddr, Refused> {
    if addr >= mm.layout.task_end {
        return Err(Refused::Fault);
    }
    for _ in 0..FAULTS_MAX {
        match hw.probe(addr, access, Privilege::User) {
            Ok(place) => return Ok(place),
            Err(fault) => match mm::handle_fault(mm, memory, hw, fault) {
                Ok(_) => {}
                Err(FaultError::OutOfMemory { .. }) => return Err(Refused::NoFrame),
                Err(_) => return Err(Refused::Fault),
            },
        }
    }
    Err(Refused::Fault)
}

/// By which address the kernel writes to a page of a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WrittenBy {
    /// That of the program.
    User,
    /// One of its own, which `kmap` gives on a machine with highmem.
    Kmap,
}

/// Writes `bytes` to `mm`, the machine's active address space, whose task does not run yet.
///
/// # Errors
/// `EFAULT`: some byte cannot be written; those before it are.
pub(crate) fn store(
    mm: &mut Mm,
    memory: &mut Memory,
    hw: &mut Machine,
    (addr, bytes): (VirtAddr, &[u8]),
    by: WrittenBy,
) -> Result<(), Errno> {
    let mut done = 0;
    while done < bytes.len() {
        let here = addr.checked_add(done as u64).ok_or(Errno::EFAULT)?;
        let run = page_run(here, bytes.len() - done);
        let place = resolve(mm, memory, hw, here, Access::Write)?;
        let part = &bytes[done..done + run];
        match by {
            WrittenBy::User => hw.store(place, part),
            WrittenBy::Kmap => {
                memory.write_mapped(hw, place, part).map_err(|_| Errno::EFAULT)?;
            }
        }
        done += run;
    }
    Ok(())
}

impl Kernel {
    /// Where `addr` lies in RAM, for an access of the kernel on behalf of the task.
    ///
    /// # Errors
    /// `EFAULT`: nothing mapped there, a right is missing, or there is no memory and the task is to
    /// be killed for it (FLT-13).
    pub fn resolve_user(&mut self, addr: VirtAddr, access: Access) -> Result<PhysAddr, Errno> {
        loop {
            let found = resolve(&mut self.mm, &mut self.memory, &mut self.hw, addr, access);
            match found {
                // Each round kills a process.
                Err(Refused::NoFrame) if self.relieve_memory() => {}
                found => return Ok(found?),
            }
        }
    }

    /// Refuses a buffer that does not lie below the end of user space, without looking at it.
    ///
    /// # Errors
    /// `EFAULT`.
    pub fn check_user_range(&self, addr: u64, bytes: u64) -> Result<(), Errno> {
        let end = addr.checked_add(bytes);
        let is_lent = addr >= TASK_END && self.window.holds(addr, bytes);
        let is_user = end.is_some_and(|end| end <= self.kind.user_end());
        if is_user || is_lent { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Copies as many bytes from the task as can be read, and returns how many: none if the buffer
    /// passes the end of user space.
    pub fn copy_from_user(&mut self, addr: VirtAddr, bytes: &mut [u8]) -> usize {
        let mut done = 0;
        if addr.as_u64() >= TASK_END {
            let Some(held) = self.window.read(addr.as_u64(), bytes.len()) else { return done };
            bytes.copy_from_slice(held);
            return bytes.len();
        }
        if self.check_user_range(addr.as_u64(), bytes.len() as u64).is_err() {
            return done;
        }
        while done < bytes.len() {
            let Some(here) = addr.checked_add(done as u64) else { break };
            let run = page_run(here, bytes.len() - done);
            let Ok(place) = self.resolve_user(here, Access::Read) else { break };
            self.hw.load(place, &mut bytes[done..done + run]);
            done += run;
        }
        done
    }

    /// Copies as many bytes to the task as can be written, and returns how many: none if the buffer
    /// passes the end of user space.
    pub fn copy_to_user(&mut self, addr: VirtAddr, bytes: &[u8]) -> usize {
        let mut done = 0;
        if addr.as_u64() >= TASK_END {
            return self.window.write(addr.as_u64(), bytes).map_or(0, |()| bytes.len());
        }
        if self.check_user_range(addr.as_u64(), bytes.len() as u64).is_err() {
            return done;
        }
        while done < bytes.len() {
            let Some(here) = addr.checked_add(done as u64) else { break };
            let run = page_run(here, bytes.len() - done);
            let Ok(place) = self.resolve_user(here, Access::Write) else { break };
            self.hw.store(place, &bytes[done..done + run]);
            done += run;
        }
        done
    }

    /// Reads all of `bytes` from the task.
    ///
    /// # Errors
    /// `EFAULT`: some byte cannot be read; `bytes` is then partly filled.
    pub fn read_user(&mut self, addr: VirtAddr, bytes: &mut [u8]) -> Result<(), Errno> {
        if self.copy_from_user(addr, bytes) == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Writes all of `bytes` to the task.
    ///
    /// # Errors
    /// `EFAULT`: some byte cannot be written; those before it are.
    pub fn write_user(&mut self, addr: VirtAddr, bytes: &[u8]) -> Result<(), Errno> {
        if self.copy_to_user(addr, bytes) == bytes.len() { Ok(()) } else { Err(Errno::EFAULT) }
    }

    /// Reads a little-endian 64-bit word.
    ///
    /// # Errors
    /// `EFAULT`, as [`Self::read_user`].
    pub fn read_user_u64(&mut self, addr: VirtAddr) -> Result<u64, Errno> {
        let mut bytes = [0; 8];
        self.read_user(addr, &mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    /// Reads a little-endian 32-bit word.
    ///
    /// # Errors
    /// `EFAULT`, as [`Self::read_user`].
    pub fn read_user_u32(&mut self, addr: VirtAddr) -> Result<u32, Errno> {
        let mut bytes = [0; 4];
        self.read_user(addr, &mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// Reads a word of a program written for `abi`.
    ///
    /// # Errors
    /// `EFAULT`, as [`Self::read_user`].
    pub(crate) fn read_user_word(&mut self, addr: VirtAddr, abi: Abi) -> Result<u64, Errno> {
        match abi {
            Abi::X86_64 => self.read_user_u64(addr),
            Abi::I386 => self.read_user_u32(addr).map(u64::from),
        }
    }

    /// Writes a little-endian 64-bit word.
    ///
    /// # Errors
    /// `EFAULT`, as [`Self::write_user`].
    pub fn write_user_u64(&mut self, addr: VirtAddr, value: u64) -> Result<(), Errno> {
        self.write_user(addr, &value.to_le_bytes())
    }

    /// Writes a little-endian 32-bit word.
    ///
    /// # Errors
    /// `EFAULT`, as [`Self::write_user`].
    pub fn write_user_u32(&mut self, addr: VirtAddr, value: u32) -> Result<(), Errno> {
        self.write_user(addr, &value.to_le_bytes())
    }

    /// Reads the bytes before the first NUL, looking at no more than `bytes_max`.
    ///
    /// # Errors
    /// - `EFAULT`: the string runs into memory that cannot be read.
    /// - `ENAMETOOLONG`: no NUL within `bytes_max`.
    pub fn read_user_string(&mut self, addr: VirtAddr, bytes_max: usize) -> Result<Vec<u8>, Errno> {
        let mut text = Vec::new();
        let mut page = [0; PAGE_BYTES as usize];
        while text.len() < bytes_max {
            let here = addr.checked_add(text.len() as u64).ok_or(Errno::EFAULT)?;
            let run = page_run(here, bytes_max - text.len());
            self.read_user(here, &mut page[..run])?;
            if let Some(end) = page[..run].iter().position(|&byte| byte == 0) {
                text.extend_from_slice(&page[..end]);
                return Ok(text);
            }
            text.extend_from_slice(&page[..run]);
        }
        Err(Errno::ENAMETOOLONG)
    }

    /// Reads a path: a string of at most 4095 bytes.
    ///
    /// # Errors
    /// As [`Self::read_user_string`].
    pub fn read_user_path(&mut self, addr: u64) -> Result<Vec<u8>, Errno> {
        self.read_user_string(VirtAddr::new(addr), 4096)
    }
}

/// How many of `wanted` bytes lie in the page of `addr`.
fn page_run(addr: VirtAddr, wanted: usize) -> usize {
    let rest = PAGE_BYTES - addr.page_offset();
    usize::try_from(rest).map_or(wanted, |rest| rest.min(wanted))
}
