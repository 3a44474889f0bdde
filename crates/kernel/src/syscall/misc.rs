//! System calls that belong nowhere else: the machine's name and load, randomness, memory policies.

use machine::VirtAddr;

use crate::Kernel;
use crate::errno::{Errno, SysResult};
use crate::syscall::Handler;

/// The function for system call `number`, if it is here.
pub fn handler(number: u64) -> Option<Handler> {
    Some(match number {
        63 => sys_uname,
        99 => sys_sysinfo,
        103 => sys_syslog,
        170 | 171 => sys_set_name,
        237 => sys_mbind,
        238 => sys_set_mempolicy,
        239 => sys_get_mempolicy,
        309 => sys_getcpu,
        318 => sys_getrandom,
        324 => sys_membarrier,
        _ => return None,
    })
}

/// What `uname` says: the baseline kernel whose rules are followed.
pub const RELEASE: &str = "6.12.0";
/// The version line of `uname`.
pub const VERSION: &str = "#1 SMP Faultline";
/// The name of the machine.
pub const NODE: &str = "faultline";

fn sys_uname(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let mut bytes = [0; 6 * 65];
    let machine = kernel.kind.machine(kernel.task.personality);
    let fields = ["Linux", NODE, RELEASE, VERSION, machine, "(none)"];
    for (index, field) in fields.iter().enumerate() {
        bytes[index * 65..index * 65 + field.len()].copy_from_slice(field.as_bytes());
    }
    kernel.write_user(VirtAddr::new(args[0]), &bytes)?;
    Ok(0)
}

fn sys_set_name(_kernel: &mut Kernel, _args: [u64; 6]) -> SysResult {
    Err(Errno::EPERM)
}

fn sys_syslog(_kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    // An empty log: sizes are zero, everything else is not for programs.
    match args[0] {
        2..=4 | 9 | 10 => Ok(0),
        _ => Err(Errno::EPERM),
    }
}

fn sys_sysinfo(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let swap = kernel.memory.swap_usage();
    let usage = kernel.memory.usage();
    let high = kernel.memory.highmem_frames();
    let [one, five, fifteen] = kernel.tasks.load.of_sysinfo();
    let words = [
        kernel.hw.now_ns() / 1_000_000_000,
        one,
        five,
        fifteen,
        usage.frames_total * machine::PAGE_BYTES,
        usage.frames_free * machine::PAGE_BYTES,
        usage.shmem * machine::PAGE_BYTES,
        0,
        swap.total * machine::PAGE_BYTES,
        (swap.total - swap.used) * machine::PAGE_BYTES,
        kernel.pids().len() as u64,
        high.total * machine::PAGE_BYTES,
        high.free * machine::PAGE_BYTES,
        1,
    ];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    kernel.write_user(VirtAddr::new(args[0]), &bytes)?;
    Ok(0)
}

fn sys_getcpu(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    for addr in [args[0], args[1]] {
        if addr != 0 {
            kernel.write_user_u32(VirtAddr::new(addr), 0)?;
        }
    }
    Ok(0)
}

fn sys_getrandom(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [addr, bytes, flags, ..] = args;
    // GRND_NONBLOCK 1, GRND_RANDOM 2, GRND_INSECURE 4; the last two exclude each other.
    if flags & !7 != 0 || flags & 6 == 6 {
        return Err(Errno::EINVAL);
    }
    let wanted = bytes.min(0x7fff_f000);
    kernel.check_user_range(addr, wanted)?;
    let mut done = 0;
    let mut chunk = [0; 256];
    while done < wanted {
        let count = usize::try_from((wanted - done).min(256)).unwrap_or(256);
        kernel.random.fill(&mut chunk[..count]);
        let copied = kernel.copy_to_user(VirtAddr::new(addr.wrapping_add(done)), &chunk[..count]);
        done += copied as u64;
        if copied < count {
            return if done == 0 { Err(Errno::EFAULT) } else { Ok(done) };
        }
    }
    Ok(done)
}

/// Commands of `membarrier`, the registration of each being twice its number: one processor needs
/// none of them, but who has not registered is told.
mod barrier {
    pub(super) const GLOBAL: u64 = 1;
    pub(super) const GLOBAL_EXPEDITED: u64 = 2;
    pub(super) const PRIVATE: u64 = 8;
    pub(super) const SYNC_CORE: u64 = 32;
    pub(super) const RSEQ: u64 = 128;
    pub(super) const GET_REGISTRATIONS: u64 = 512;
    pub(super) const ALL: u64 = 1023;
}

fn sys_membarrier(kernel: &mut Kernel, [command, flags, ..]: [u64; 6]) -> SysResult {
    /// `MEMBARRIER_CMD_FLAG_CPU`.
    const ONE_CPU: u64 = 1;
    let (command, flags) = (command & 0xffff_ffff, flags & 0xffff_ffff);
    let takes = if command == barrier::RSEQ { ONE_CPU } else { 0 };
    if flags & !takes != 0 {
        return Err(Errno::EINVAL);
    }
    let registered = &mut kernel.process.settings.barriers;
    match command {
        0 => Ok(barrier::ALL),
        barrier::GLOBAL | barrier::GLOBAL_EXPEDITED => Ok(0),
        barrier::PRIVATE | barrier::SYNC_CORE | barrier::RSEQ => {
            if *registered & command << 1 == 0 { Err(Errno::EPERM) } else { Ok(0) }
        }
        4 | 16 | 64 | 256 => {
            *registered |= command;
            Ok(0)
        }
        // Each kind of private barrier shows the plain one with it.
        barrier::GET_REGISTRATIONS if *registered & (64 | 256) != 0 => Ok(*registered | 16),
        barrier::GET_REGISTRATIONS => Ok(*registered),
        _ => Err(Errno::EINVAL),
    }
}

/// One node of memory, so that every policy is the default one.
fn sys_get_mempolicy(kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    let [mode, mask, max_node, _addr, flags, _] = args;
    if flags & !7 != 0 {
        return Err(Errno::EINVAL);
    }
    if mode != 0 {
        kernel.write_user_u32(VirtAddr::new(mode), 0)?;
    }
    if mask != 0 {
        // MPOL_F_MEMS_ALLOWED (4) asks for the nodes there are: node 0.
        let nodes = u64::from(flags & 4 != 0);
        for word in 0..max_node.min(1024).div_ceil(64) {
            let value = if word == 0 { nodes } else { 0 };
            kernel.write_user_u64(VirtAddr::new(mask.wrapping_add(word * 8)), value)?;
        }
    }
    Ok(0)
}

fn sys_set_mempolicy(_kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if args[0] & 0x7fff <= 6 { Ok(0) } else { Err(Errno::EINVAL) }
}

fn sys_mbind(_kernel: &mut Kernel, args: [u64; 6]) -> SysResult {
    if args[2] & 0x7fff <= 6 { Ok(0) } else { Err(Errno::EINVAL) }
}
