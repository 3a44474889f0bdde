//! Restartable sequences: a piece of code that begins anew at its abort address when the task loses
//! the CPU, or a signal comes, in its middle.
//!
//! Does not: tell the number of the CPU again and again; it is always 0.
//!
//! # Source
//! Linux 6.12 `kernel/rseq.c`: `rseq_ip_fixup`, `rseq_get_rseq_cs`; `include/uapi/linux/rseq.h`.

use machine::VirtAddr;

use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub fn handler(number: u64) -> Option<Handler> {
    if number == 334 { Some(sys_rseq) } else { None }
}

/// Size and alignment of the original `struct rseq`.
const RSEQ_BYTES: u32 = 32;
/// `RSEQ_FLAG_UNREGISTER`.
const RSEQ_UNREGISTER: u32 = 1;

fn sys_rseq(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let addr = args[0];
    let [bytes, flags, signature] = [args[1], args[2], args[3]].map(|word| word as u32);
    let own = kernel.task.rseq;
    if flags & RSEQ_UNREGISTER != 0 {
        let is_same = flags == RSEQ_UNREGISTER
            && own.is_some_and(|(at, length, _)| at == addr && length == bytes);
        if !is_same {
            return Err(Errno::EINVAL);
        }
        if own.is_some_and(|(_, _, own_signature)| own_signature != signature) {
            return Err(Errno::EPERM);
        }
        write_rseq(kernel, addr, u32::MAX)?;
        kernel.task.rseq = None;
        return Ok(0);
    }
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    if let Some((at, length, own_signature)) = own {
        let is_same = at == addr && length == bytes;
        return Err(match (is_same, own_signature == signature) {
            (false, _) => Errno::EINVAL,
            (true, false) => Errno::EPERM,
            (true, true) => Errno::EBUSY,
        });
    }
    if bytes < RSEQ_BYTES || !addr.is_multiple_of(u64::from(RSEQ_BYTES)) {
        return Err(Errno::EINVAL);
    }
    if addr >= kernel.kind.user_end() {
        return Err(Errno::EFAULT);
    }
    write_rseq(kernel, addr, 0)?;
    kernel.task.rseq = Some((addr, bytes, signature));
    Ok(0)
}

/// Tells the area on which CPU the task is: always 0, or not registered.
fn write_rseq(kernel: &mut Kernel, addr: u64, cpu: u32) -> Result<(), Errno> {
    let mut words = [0; 8];
    words[4..].copy_from_slice(&cpu.to_le_bytes());
    kernel.write_user(VirtAddr::new(addr), &words)?;
    // Node and concurrency number.
    kernel.write_user(VirtAddr::new(addr.wrapping_add(20)), &[0; 8])
}

/// Offset of the pointer to the sequence that runs, in the area.
const SEQUENCE_OFFSET: u64 = 8;

impl Kernel {
    /// The running task lost the CPU or gets a signal: if it is in a sequence, it goes on at the
    /// abort address. A sequence that is none is answered with SIGSEGV.
    pub(crate) fn abort_rseq(&mut self) {
        let Some((area, _, signature)) = self.task.rseq else { return };
        if self.try_abort_rseq(area, signature).is_err() {
            self.force_segv();
        }
    }

    fn try_abort_rseq(&mut self, area: u64, signature: u32) -> Result<(), Errno> {
        let pointer = VirtAddr::new(area.wrapping_add(SEQUENCE_OFFSET));
        let sequence = self.read_user_u64(pointer)?;
        if sequence == 0 {
            return Ok(());
        }
        let mut words = [0; 4];
        for (index, word) in (0_u64..).zip(&mut words) {
            *word = self.read_user_u64(VirtAddr::new(sequence.wrapping_add(index * 8)))?;
        }
        // Version (low) and flags (high), first address, length, where to go on.
        let [head, start, bytes, abort] = words;
        let room_end = self.kind.user_end();
        let end = start.checked_add(bytes).filter(|end| *end < room_end).ok_or(Errno::EINVAL)?;
        if head & 0xffff_ffff != 0 || abort >= room_end || (start..end).contains(&abort) {
            return Err(Errno::EINVAL);
        }
        if self.read_user_u32(VirtAddr::new(abort.wrapping_sub(4)))? != signature {
            return Err(Errno::EINVAL);
        }
        let is_inside = (start..end).contains(&self.task.regs.rip);
        if is_inside && head != 0 {
            return Err(Errno::EINVAL);
        }
        self.write_user_u64(pointer, 0)?;
        if is_inside {
            self.task.regs.rip = abort;
        }
        Ok(())
    }
}
