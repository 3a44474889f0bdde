//! The vDSO of i386 programs: the way into the kernel, the ends of signal handlers, the clocks.
//!
//! All of it is in the first page, as what static programs use of Linux's, so that they fault once.
//! The functions that programs do not call by name are at fixed places, which the kernel knows.
//!
//! # Source
//! ELF as in the System V ABI, i386 supplement; names and versions from man 7 vdso and a native
//! image (`objdump -T`).

use super::tables::{Names, hash_table, version_definitions, words};
use super::{IMAGE_BYTES, append};

/// Where the code begins: where Linux 6.12 has it.
const CODE_OFFSET: usize = 0x5e0;

/// Offset of `__kernel_vsyscall`: `AT_SYSINFO`.
pub const VSYSCALL: u64 = CODE_OFFSET as u64;
/// Offset of the code behind which handlers with the old frame return.
pub const SIGRETURN: u64 = VSYSCALL + SLOT_BYTES as u64;
/// Offset of the code behind which handlers with siginfo return.
pub const RT_SIGRETURN: u64 = SIGRETURN + SLOT_BYTES as u64;
/// Offset of where `sysenter` and `syscall` of 32-bit code go on.
pub const LANDING: u64 = RT_SIGRETURN + SLOT_BYTES as u64 + 2;

const SLOT_BYTES: usize = 32;
const OBJECT_NAME: &str = "linux-gate.so.1";
/// Versions 2 and 3; the base version is the object's name.
const VERSIONS: [&str; 2] = ["LINUX_2.5", "LINUX_2.6"];

/// Exported name, index of its version, number of its slot.
const SYMBOLS: [(&str, u16, usize); 9] = [
    ("__kernel_vsyscall", 2, 0),
    ("__kernel_sigreturn", 2, 1),
    ("__kernel_rt_sigreturn", 2, 2),
    ("__vdso_gettimeofday", 3, 4),
    ("__vdso_time", 3, 5),
    ("__vdso_clock_gettime", 3, 6),
    ("__vdso_clock_gettime64", 3, 7),
    ("__vdso_clock_getres", 3, 8),
    ("__vdso_getcpu", 3, 9),
];

/// The system calls behind the slots from 4 on, and how many arguments each takes.
const CALLS: [(u32, u8); 6] = [(78, 2), (13, 1), (265, 2), (403, 2), (266, 2), (318, 3)];

/// Builds the image.
pub fn image() -> Vec<u8> {
    let names = Names::new(&SYMBOLS.map(|(name, ..)| name), &VERSIONS, OBJECT_NAME);
    let mut page = Vec::with_capacity(IMAGE_BYTES);
    page.resize(52 + 3 * 32, 0);
    let hash = append(&mut page, &hash_table(SYMBOLS.len()));
    let symbols = append(&mut page, &symbol_table(&names));
    let strings = append(&mut page, &names.bytes);
    let versym = append(&mut page, &version_symbols());
    let verdef = append(&mut page, &version_definitions(&names, OBJECT_NAME, &VERSIONS));
    let entries = [
        (14, u64::from(names.object)),
        (4, hash),
        (5, strings),
        (6, symbols),
        (10, names.bytes.len() as u64),
        (11, 16),
        (0x6fff_fff0, versym),
        (0x6fff_fffc, verdef),
        (0x6fff_fffd, 3),
        (0, 0),
    ];
    let dynamic_bytes: Vec<u8> =
        entries.iter().flat_map(|&(tag, value)| words(&[tag, value as u32])).collect();
    let dynamic = append(&mut page, &dynamic_bytes);
    debug_assert!(page.len() <= CODE_OFFSET, "everything a loader reads lies before the code");
    write_headers(&mut page, dynamic as u32, dynamic_bytes.len() as u32);
    page.resize(CODE_OFFSET, 0);
    for code in slots() {
        let start = page.len();
        page.extend(code);
        page.resize(start + SLOT_BYTES, 0xcc);
    }
    page.resize(IMAGE_BYTES, 0xcc);
    page
}

/// The code, one slot after the other.
fn slots() -> Vec<Vec<u8>> {
    let mut slots = vec![
        // int 0x80; ret
        vec![0xcd, 0x80, 0xc3],
        // pop eax; mov eax, 119; int 0x80
        vec![0x58, 0xb8, 119, 0, 0, 0, 0xcd, 0x80],
        // mov eax, 173; int 0x80
        vec![0xb8, 173, 0, 0, 0, 0xcd, 0x80],
        // int 0x80, for a call that is done again; pop ebp; pop edx; pop ecx; ret
        vec![0xcd, 0x80, 0x5d, 0x5a, 0x59, 0xc3],
    ];
    slots.extend(CALLS.map(|(number, count)| function(number, count)));
    slots
}

/// A C function of `count` arguments that is the call: `push ebx`, the arguments from the stack,
/// `mov eax, number; int 0x80; pop ebx; ret`.
fn function(number: u32, count: u8) -> Vec<u8> {
    let loads = [[0x8b, 0x5c, 0x24, 8], [0x8b, 0x4c, 0x24, 12], [0x8b, 0x54, 0x24, 16]];
    let mut code = vec![0x53];
    code.extend(loads.iter().take(count.into()).flatten());
    code.push(0xb8);
    code.extend(number.to_le_bytes());
    code.extend([0xcd, 0x80, 0x5b, 0xc3]);
    code
}

fn symbol_table(names: &Names) -> Vec<u8> {
    let mut table = vec![0; 16];
    for (&(_, _, slot), &name) in SYMBOLS.iter().zip(&names.symbols) {
        let place = (CODE_OFFSET + slot * SLOT_BYTES) as u32;
        table.extend(words(&[name, place, SLOT_BYTES as u32]));
        // Global, type function, section 1.
        table.extend([1 << 4 | 2, 0, 1, 0]);
    }
    table
}

/// Symbol 0 is local.
fn version_symbols() -> Vec<u8> {
    let mut table = vec![0, 0];
    for (_, version, _) in SYMBOLS {
        table.extend(version.to_le_bytes());
    }
    table
}

fn write_headers(page: &mut [u8], dynamic: u32, dynamic_bytes: u32) {
    let mut header = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [3_u16, 3] {
        header.extend(half.to_le_bytes());
    }
    header.extend(words(&[1, CODE_OFFSET as u32, 52, 0, 0]));
    for half in [52_u16, 32, 3, 40, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    let image = IMAGE_BYTES as u32;
    // PT_LOAD r-x over everything, PT_DYNAMIC r--, PT_GNU_STACK.
    header.extend(words(&[1, 0, 0, 0, image, image, 5, 4096]));
    header.extend(words(&[2, dynamic, dynamic, dynamic, dynamic_bytes, dynamic_bytes, 4, 4]));
    header.extend(words(&[0x6474_e551, 0, 0, 0, 0, 0, 6, 16]));
    page[..header.len()].copy_from_slice(&header);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_is_where_the_kernel_expects_it() {
        let image = image();
        assert_eq!(image.len(), IMAGE_BYTES);
        let at = |offset: u64| &image[offset as usize..];
        assert!(at(VSYSCALL).starts_with(&[0xcd, 0x80, 0xc3]));
        assert!(at(SIGRETURN).starts_with(&[0x58, 0xb8, 119]));
        assert!(at(RT_SIGRETURN).starts_with(&[0xb8, 173]));
        assert!(at(LANDING - 2).starts_with(&[0xcd, 0x80, 0x5d]));
    }
}
