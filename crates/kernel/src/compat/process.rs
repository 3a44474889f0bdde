//! Calls about processes whose arguments are put together differently, and those with user numbers
//! of 16 bits.

use machine::VirtAddr;

use super::{Args, signed, wide};
use crate::Kernel;
use crate::errno::{Errno, SysResult};

const UNAME: u16 = 63;
const SYSINFO: u16 = 99;
const GETPRIORITY: u16 = 140;
const SETPRIORITY: u16 = 141;
const ARCH_PRCTL: u16 = 158;

/// Bytes of `struct robust_list_head`.
const ROBUST_LIST_BYTES: u64 = 12;
/// What a 16-bit number says of a user that it cannot name (`overflowuid`).
const OVERFLOW_ID: u16 = 65_534;

/// A user or group number for a program that knows 16 bits.
pub(super) fn id_16(id: u32) -> u16 {
    u16::try_from(id).unwrap_or(OVERFLOW_ID)
}

/// A 16-bit number as an argument: -1 stays -1.
fn id_argument(word: u64) -> u64 {
    let id = word & 0xffff;
    if id == 0xffff { 0xffff_ffff } else { id }
}

/// The thread pointer comes before the address for the child's number.
pub(super) fn clone(kernel: &mut Kernel, args: Args) -> SysResult {
    let [flags, stack, parent_tid, tls, child_tid, _] = args;
    crate::clone::sys_clone(kernel, [flags, stack, parent_tid, child_tid, tls, 0])
}

/// Amounts that do not fit are told in pages.
pub(super) fn sysinfo(kernel: &mut Kernel, args: Args) -> SysResult {
    let place = kernel.window.add(vec![0; 112]);
    kernel.call_native(SYSINFO, [place, 0, 0, 0, 0, 0])?;
    let bytes = kernel.window.take_written(place).unwrap_or_default();
    let mut words: [u64; 14] = std::array::from_fn(|index| wide(&bytes, index * 8));
    // Linux looks at the totals of RAM and swap.
    if (words[4] | words[8]) >> 32 != 0 {
        let mut shift = 0;
        let mut unit = words[13];
        while unit < machine::PAGE_BYTES {
            unit <<= 1;
            shift += 1;
        }
        words[13] = unit;
        for index in (4..=9).chain([11, 12]) {
            words[index] >>= shift;
        }
    }
    let mut told: Vec<u8> = words.iter().flat_map(|&word| (word as u32).to_le_bytes()).collect();
    // Eight bytes of padding behind.
    told.resize(64, 0);
    kernel.write_user(VirtAddr::new(args[0]), &told)?;
    Ok(0)
}

/// Changes the nice value by an amount.
pub(super) fn nice(kernel: &mut Kernel, args: Args) -> SysResult {
    let amount = (args[0] as i32).clamp(-40, 40);
    let shown = kernel.call_native(GETPRIORITY, [0; 6])?;
    let now = 20 - (shown as i32);
    let wanted = (now + amount).clamp(-20, 19);
    let wanted = u64::from(wanted as u32);
    kernel.call_native(SETPRIORITY, [0, 0, wanted, 0, 0, 0]).map_err(|_| Errno::EPERM)
}

pub(super) fn set_robust_list(kernel: &mut Kernel, [head, bytes, ..]: Args) -> SysResult {
    if bytes != ROBUST_LIST_BYTES {
        return Err(Errno::EINVAL);
    }
    kernel.task.robust_list_i386 = head;
    Ok(0)
}

pub(super) fn get_robust_list(kernel: &mut Kernel, [tid, head, bytes, ..]: Args) -> SysResult {
    let own = match u32::try_from(tid as i32).map_err(|_| Errno::ESRCH)? {
        0 => kernel.task.robust_list_i386,
        tid => kernel.task_of(tid).ok_or(Errno::ESRCH)?.robust_list_i386,
    };
    kernel.write_user_u32(VirtAddr::new(bytes), ROBUST_LIST_BYTES as u32)?;
    kernel.write_user_u32(VirtAddr::new(head), own as u32)?;
    Ok(0)
}

/// The bases of FS and GS are no business of i386 programs.
pub(super) fn arch_prctl(kernel: &mut Kernel, args: Args) -> SysResult {
    match args[0] {
        0x1001..=0x1004 => Err(Errno::EINVAL),
        _ => kernel.call_native(ARCH_PRCTL, args),
    }
}

/// Without the domain name.
pub(super) fn olduname(kernel: &mut Kernel, args: Args) -> SysResult {
    const NAME_BYTES: usize = 65;
    let place = kernel.window.add(vec![0; 6 * NAME_BYTES]);
    kernel.call_native(UNAME, [place, 0, 0, 0, 0, 0])?;
    let bytes = kernel.window.take_written(place).unwrap_or_default();
    kernel.write_user(VirtAddr::new(args[0]), &bytes[..bytes.len().min(5 * NAME_BYTES)])?;
    Ok(0)
}

/// The call `number` with its first `count` arguments taken as 16-bit numbers, from `first` on.
fn with_ids(kernel: &mut Kernel, number: u16, args: Args, first: usize) -> SysResult {
    let mut args = args;
    for argument in &mut args[first..] {
        *argument = id_argument(*argument);
    }
    kernel.call_native(number, args)
}

macro_rules! calls_with_ids {
    ($($name:ident $number:literal $first:literal)*) => {$(
        pub(super) fn $name(kernel: &mut Kernel, args: Args) -> SysResult {
            with_ids(kernel, $number, args, $first)
        }
    )*};
}

calls_with_ids! {
    chown16 92 1
    fchown16 93 1
    lchown16 94 1
    setuid16 105 0
    setgid16 106 0
    setreuid16 113 0
    setregid16 114 0
    setresuid16 117 0
    setresgid16 119 0
}

macro_rules! calls_that_tell_an_id {
    ($($name:ident $number:literal)*) => {$(
        pub(super) fn $name(kernel: &mut Kernel, args: Args) -> SysResult {
            let id = kernel.call_native($number, args.map(id_argument))?;
            Ok(id_16(id as u32).into())
        }
    )*};
}

calls_that_tell_an_id! {
    getuid16 102
    getgid16 104
    geteuid16 107
    getegid16 108
    setfsuid16 122
    setfsgid16 123
}

/// Three numbers go to three addresses.
fn tell_three(kernel: &mut Kernel, args: Args, id: u32) -> SysResult {
    for addr in &args[..3] {
        kernel.write_user(VirtAddr::new(*addr), &id_16(id).to_le_bytes())?;
    }
    Ok(0)
}

pub(super) fn getresuid16(kernel: &mut Kernel, args: Args) -> SysResult {
    let id = kernel.fs.credentials.uid;
    tell_three(kernel, args, id)
}

pub(super) fn getresgid16(kernel: &mut Kernel, args: Args) -> SysResult {
    let id = kernel.fs.credentials.gid;
    tell_three(kernel, args, id)
}

pub(super) fn getgroups16(kernel: &mut Kernel, [room, list, ..]: Args) -> SysResult {
    let groups = kernel.fs.credentials.groups.clone();
    let room = usize::try_from(signed(room)).map_err(|_| Errno::EINVAL)?;
    if room != 0 {
        if room < groups.len() {
            return Err(Errno::EINVAL);
        }
        let bytes: Vec<u8> = groups.iter().flat_map(|&id| id_16(id).to_le_bytes()).collect();
        kernel.write_user(VirtAddr::new(list), &bytes)?;
    }
    Ok(groups.len() as u64)
}

pub(super) fn setgroups16(_kernel: &mut Kernel, _args: Args) -> SysResult {
    Err(Errno::EPERM)
}
