//! The vDSO: a small shared object of our own that the kernel maps into every program.
//!
//! Its functions are the five that C libraries look for; each is the plain system call, so that
//! time is the machine's virtual time. The image is built here, byte by byte, and is the same in
//! every run.
//!
//! Layout: page 0 holds the ELF header, program headers, symbol hash, symbols, names, versions and
//! the dynamic section (what a loader reads); page 1 holds the code.
//!
//! # Source
//! ELF and symbol versioning as in the System V ABI and the GNU extensions; the names and the
//! version `LINUX_2.6` from man 7 vdso.

pub mod i386;
mod tables;

use tables::{Names, hash_table, version_definitions, words};

/// Bytes in the image: two pages, as on the host (semantics K64-5).
pub const IMAGE_BYTES: usize = 8192;

const CODE_OFFSET: usize = 4096;
const FUNCTION_BYTES: usize = 16;
const VERSION_NAME: &str = "LINUX_2.6";
const OBJECT_NAME: &str = "linux-vdso.so.1";

/// Exported name and the system call behind it.
const FUNCTIONS: [(&str, u32); 10] = [
    ("__vdso_clock_gettime", 228),
    ("__vdso_gettimeofday", 96),
    ("__vdso_time", 201),
    ("__vdso_getcpu", 309),
    ("__vdso_clock_getres", 229),
    ("clock_gettime", 228),
    ("gettimeofday", 96),
    ("time", 201),
    ("getcpu", 309),
    ("clock_getres", 229),
];

/// Builds the image.
pub fn image() -> Vec<u8> {
    let names = Names::new(&FUNCTIONS.map(|(name, _)| name), &[VERSION_NAME], OBJECT_NAME);
    let mut page = Vec::with_capacity(IMAGE_BYTES);
    page.resize(64 + 3 * 56, 0);
    let hash = append(&mut page, &hash_table(FUNCTIONS.len()));
    let symbols = append(&mut page, &symbol_table(&names));
    let strings = append(&mut page, &names.bytes);
    let versym = append(&mut page, &version_symbols());
    let verdef = append(&mut page, &version_definitions(&names, OBJECT_NAME, &[VERSION_NAME]));
    let entries = [
        (14, u64::from(names.object)),
        (4, hash),
        (5, strings),
        (6, symbols),
        (10, names.bytes.len() as u64),
        (11, 24),
        (0x6fff_fff0, versym),
        (0x6fff_fffc, verdef),
        (0x6fff_fffd, 2),
        (0, 0),
    ];
    let dynamic_bytes: Vec<u8> =
        entries.iter().flat_map(|&(tag, value)| pair(tag, value)).collect();
    let dynamic = append(&mut page, &dynamic_bytes);
    debug_assert!(page.len() <= CODE_OFFSET, "everything a loader reads fits in page 0");
    write_headers(&mut page, dynamic, dynamic_bytes.len() as u64);
    page.resize(CODE_OFFSET, 0);
    for (_, number) in FUNCTIONS {
        page.extend(function(number));
    }
    page.resize(IMAGE_BYTES, 0xcc);
    page
}

/// `mov eax, number; syscall; ret`, padded with `int3`.
fn function(number: u32) -> [u8; FUNCTION_BYTES] {
    let mut code = [0xcc; FUNCTION_BYTES];
    code[0] = 0xb8;
    code[1..5].copy_from_slice(&number.to_le_bytes());
    code[5..8].copy_from_slice(&[0x0f, 0x05, 0xc3]);
    code
}

fn append(page: &mut Vec<u8>, section: &[u8]) -> u64 {
    page.resize(page.len().next_multiple_of(16), 0);
    let start = page.len() as u64;
    page.extend_from_slice(section);
    start
}

fn pair(tag: u64, value: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&tag.to_le_bytes());
    bytes[8..].copy_from_slice(&value.to_le_bytes());
    bytes
}

fn symbol_table(names: &Names) -> Vec<u8> {
    let mut table = vec![0; 24];
    for (index, &name) in names.symbols.iter().enumerate() {
        // Global for the `__vdso_` names, weak for the plain ones; type function; section 1.
        let binding = if FUNCTIONS[index].0.starts_with("__vdso") { 1 } else { 2 };
        table.extend(name.to_le_bytes());
        table.extend([binding << 4 | 2, 0, 1, 0]);
        table.extend(((CODE_OFFSET + index * FUNCTION_BYTES) as u64).to_le_bytes());
        table.extend((FUNCTION_BYTES as u64).to_le_bytes());
    }
    table
}

/// Symbol 0 is local, the others belong to version 2.
fn version_symbols() -> Vec<u8> {
    let mut table = vec![0, 0];
    for _ in FUNCTIONS {
        table.extend([2, 0]);
    }
    table
}

fn write_headers(page: &mut [u8], dynamic: u64, dynamic_bytes: u64) {
    let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    for half in [3_u16, 62] {
        header.extend(half.to_le_bytes());
    }
    header.extend(1_u32.to_le_bytes());
    for word in [CODE_OFFSET as u64, 64, 0] {
        header.extend(word.to_le_bytes());
    }
    header.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 3, 64, 0, 0] {
        header.extend(half.to_le_bytes());
    }
    let image = IMAGE_BYTES as u64;
    // PT_LOAD r-x over everything, PT_DYNAMIC r--, PT_GNU_EH_FRAME absent.
    header.extend(program_header(1, 5, 0, image, 4096));
    header.extend(program_header(2, 4, dynamic, dynamic_bytes, 8));
    header.extend(program_header(0x6474_e551, 6, 0, 0, 16));
    page[..header.len()].copy_from_slice(&header);
}

fn program_header(kind: u32, flags: u32, offset: u64, bytes: u64, align: u64) -> Vec<u8> {
    let mut header = words(&[kind, flags]);
    for word in [offset, offset, offset, bytes, bytes, align] {
        header.extend(word.to_le_bytes());
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_image_is_a_shared_object_with_the_expected_symbols() {
        let image = image();
        assert_eq!(image.len(), IMAGE_BYTES);
        assert_eq!(&image[..4], b"\x7fELF");
        let text = String::from_utf8_lossy(&image[..CODE_OFFSET]).into_owned();
        assert!(text.contains("__vdso_clock_gettime") && text.contains(VERSION_NAME));
    }

    #[test]
    fn each_function_is_its_system_call() {
        let image = image();
        let code = &image[CODE_OFFSET..CODE_OFFSET + 8];
        assert_eq!(code, [0xb8, 228, 0, 0, 0, 0x0f, 0x05, 0xc3]);
    }
}
