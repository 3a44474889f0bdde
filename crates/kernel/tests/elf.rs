//! Programs that are not quite right end here as they end on the host: the same error number or
//! the same signal.

mod common;

use common::{CODE, Elf, Ended, Header, exit_program, run_here, run_native, write_program};

/// A change of the program that calls `exit(42)`.
type Change = fn(&mut Elf);

const DATA: Header = Header {
    kind: 1,
    flags: 6,
    offset: 0x1000,
    vaddr: 0x40_4000,
    file_bytes: 8,
    memory_bytes: 0x3000,
    align: 0x1000,
};

const CHANGES: &[(&str, Change)] = &[
    ("right", |_| {}),
    ("type_rel", |elf| elf.kind = 1),
    ("type_core", |elf| elf.kind = 4),
    ("type_dyn", |elf| elf.kind = 3),
    ("machine_arm", |elf| elf.machine = 183),
    ("entry_size_55", |elf| elf.entry_bytes = 55),
    ("entry_size_64", |elf| elf.entry_bytes = 64),
    ("no_headers", |elf| elf.count = Some(0)),
    ("count_73", |elf| elf.count = Some(73)),
    ("count_too_large", |elf| elf.count = Some(1171)),
    ("count_huge", |elf| elf.count = Some(0xffff)),
    ("table_behind_end", |elf| elf.table_offset = 0x10_0000),
    ("table_negative", |elf| elf.table_offset = u64::MAX),
    ("entry_kernel_half", |elf| elf.entry = 0xffff_8000_0000_0000),
    ("entry_unmapped", |elf| elf.entry = 0x50_0000),
    ("entry_null", |elf| elf.entry = 0),
    ("file_larger_than_memory", |elf| elf.headers[0].file_bytes = 0x2000),
    ("offset_not_congruent", |elf| elf.headers[0].offset = 0x1010),
    ("vaddr_not_congruent", |elf| elf.headers[0].vaddr = CODE + 0x10),
    ("vaddr_kernel_half", |elf| elf.headers[0].vaddr = 0xffff_8000_0040_1000),
    ("vaddr_beyond_user", |elf| elf.headers[0].vaddr = 0x7fff_ffff_f000),
    ("vaddr_last_page", |elf| elf.headers[0].vaddr = 0x7fff_ffff_e000),
    ("memory_wraps", |elf| elf.headers[0].memory_bytes = u64::MAX - 0x1000),
    ("memory_huge", |elf| elf.headers[0].memory_bytes = 1 << 46),
    ("no_load", |elf| elf.headers[0].kind = 4),
    ("not_executable_code", |elf| elf.headers[0].flags = 4),
    ("write_only_code", |elf| elf.headers[0].flags = 2),
    ("execute_only_code", |elf| elf.headers[0].flags = 1),
    ("segment_behind_end", |elf| {
        elf.headers[0].offset = 0x8000;
        elf.headers[0].file_bytes = 0x1000;
        elf.headers[0].memory_bytes = 0x1000;
    }),
    ("empty_file_part", |elf| elf.headers[0].file_bytes = 0),
    ("align_odd", |elf| elf.headers[0].align = 3),
    ("align_zero", |elf| elf.headers[0].align = 0),
    ("align_huge", |elf| elf.headers[0].align = 1 << 40),
    ("with_bss", |elf| elf.headers.push(DATA)),
    ("bss_of_read_only", |elf| elf.headers.push(Header { flags: 4, ..DATA })),
    ("overlapping_segments", |elf| {
        let first = elf.headers[0];
        elf.headers.push(Header { flags: 6, memory_bytes: 0x1000, ..first });
    }),
    ("dyn_huge_align", |elf| {
        elf.kind = 3;
        elf.headers[0].align = 1 << 30;
    }),
    ("dyn_total_overflow", |elf| {
        elf.kind = 3;
        elf.headers.push(Header { vaddr: u64::MAX - 0x1fff, ..DATA });
    }),
    ("interpreter_too_short", |elf| interpreter(elf, b"\0")),
    ("interpreter_without_end", |elf| interpreter(elf, b"/lib64/ld")),
    ("interpreter_missing", |elf| interpreter(elf, b"/no/such/interpreter\0")),
    ("interpreter_directory", |elf| interpreter(elf, b"/tmp\0")),
    ("interpreter_not_executable", |elf| interpreter(elf, b"/etc/passwd\0")),
    ("interpreter_empty", |elf| interpreter(elf, b"\0\0")),
    ("interpreter_text", |elf| interpreter(elf, b"/usr/bin/ldd\0")),
    ("stack_executable", |elf| elf.headers.push(Header { kind: 0x6474_e551, flags: 7, ..DATA })),
];

/// Puts the path of an interpreter behind the code.
fn interpreter(elf: &mut Elf, path: &[u8]) {
    let offset = 0x1000 + elf.code.len() as u64;
    elf.code.extend(path);
    let bytes = path.len() as u64;
    let header =
        Header { kind: 3, flags: 4, offset, file_bytes: bytes, memory_bytes: bytes, ..DATA };
    elf.headers.insert(0, header);
}

#[test]
fn changed_programs_end_as_on_the_host() {
    let mut differences = Vec::new();
    for (name, change) in CHANGES {
        let mut elf = exit_program();
        change(&mut elf);
        let path = write_program(&format!("elf_{name}"), &elf.bytes());
        let (native, here) = (run_native(&path), run_here(&path));
        if native != here {
            differences.push(format!("{name}: host {native:?}, here {here:?}"));
        }
    }
    assert!(differences.is_empty(), "{differences:#?}");
}

#[test]
fn what_linux_does_not_check_does_not_matter() {
    for (offset, value) in [(4, 1), (5, 2), (6, 0), (7, 9), (20, 5), (40, 0xff), (52, 1), (58, 1)] {
        let mut bytes = exit_program().bytes();
        bytes[offset] = value;
        let path = write_program(&format!("elf_unchecked_{offset}"), &bytes);
        assert_eq!(run_here(&path), Ended::Exited(42), "byte {offset}");
        assert_eq!(run_native(&path), Ended::Exited(42), "byte {offset} on the host");
    }
}

#[test]
fn files_that_are_no_programs_are_refused_as_on_the_host() {
    let truncated = exit_program().bytes();
    let long_line = [b"#!/".as_slice(), &[b'a'; 300], b"\n"].concat();
    let files: &[(&str, &[u8])] = &[
        ("empty", b""),
        ("text", b"hello\n"),
        ("half_header", &truncated[..40]),
        ("half_table", &truncated[..80]),
        ("script_without_interpreter", b"#!\n"),
        ("script_of_blanks", b"#!  \t \n"),
        ("script_missing_interpreter", b"#!/no/such/file\n"),
        ("script_directory", b"#!/tmp\n"),
        ("script_long_line", &long_line),
        ("script_true", b"#! /bin/true  x y \n"),
    ];
    for (name, bytes) in files {
        let path = write_program(&format!("file_{name}"), bytes);
        assert_eq!(run_here(&path), run_native(&path), "{name}");
    }
}

#[test]
fn scripts_that_interpret_each_other_end() {
    let path = write_program("script_loop", b"");
    let line = format!("#!{}\n", path.display());
    let path = write_program("script_loop", line.as_bytes());
    assert_eq!(run_here(&path), run_native(&path));
}
