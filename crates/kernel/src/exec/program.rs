//! Finding the program: the file, the scripts in front of it, its interpreter.

use std::sync::Arc;

use machine::Machine;
use mm::{MappedFile, Memory, Readahead, Rights};

use crate::abi::{Abi, KernelKind};
use crate::elf::{self, HEADER_BYTES, Placement, Program, ProgramBytes, StackRights};
use crate::errno::Errno;
use crate::fs::{Vfs, View};
use crate::stack_init::Strings;

/// Bytes of a file that decide what it is.
const PROBE_BYTES: usize = 256;
/// How many scripts may interpret each other.
const SCRIPT_DEPTH_MAX: usize = 5;

/// A file to be mapped, with its headers.
pub(super) struct ElfFile {
    /// Guest path.
    pub(super) path: Vec<u8>,
    /// What mappings of it hold.
    pub(super) file: Arc<MappedFile>,
    /// Its headers.
    pub(super) program: Program,
}

/// A program whose loading cannot be refused any more.
pub(super) struct Prepared {
    /// The program.
    pub(super) main: ElfFile,
    /// Its dynamic linker.
    pub(super) interpreter: Option<ElfFile>,
    /// What it gets on its stack.
    pub(super) strings: Strings,
}

impl Prepared {
    /// What the program is written for.
    pub(super) fn abi(&self) -> Abi {
        self.main.program.header.abi
    }

    /// Rights of the stack (ELF-8).
    pub(super) fn stack_rights(&self) -> Rights {
        match self.main.program.stack {
            StackRights::Execute => Rights::all(),
            _ if self.implies_execute() => Rights::all(),
            _ => Rights::READ | Rights::WRITE,
        }
    }

    /// Whether all that can be read can be executed: i386 programs that say nothing about their
    /// stack are of a time without NX (`elf_read_implies_exec`).
    pub(super) fn implies_execute(&self) -> bool {
        self.abi() == Abi::I386 && self.main.program.stack == StackRights::Unsaid
    }
}

impl ElfFile {
    /// Address of the program headers with `bias`, 0 if they are in no segment.
    pub(super) fn table_address(&self, bias: u64) -> u64 {
        match self.program.table_vaddr() {
            0 if self.program.header.placement == Placement::Fixed => 0,
            vaddr => vaddr.wrapping_add(bias),
        }
    }

    /// First instruction with `bias`.
    pub(super) fn entry(&self, bias: u64) -> u64 {
        self.program.header.entry.wrapping_add(bias)
    }
}

/// The bytes of a mapped file, through the page cache.
struct Content<'a> {
    memory: &'a mut Memory,
    hw: &'a mut Machine,
    file: &'a MappedFile,
}

impl ProgramBytes for Content<'_> {
    fn read_at(&mut self, offset: u64, bytes: &mut [u8]) -> Result<usize, Errno> {
        let ahead = &mut Readahead::default();
        Ok(self.memory.read_object(self.hw, self.file.object, (offset, bytes), ahead)?)
    }
}

/// Finds `program`: a path as it is, a name in the directories of `PATH`.
pub(super) fn search(
    vfs: &mut Vfs,
    view: &View<'_>,
    program: &[u8],
    env: &[Vec<u8>],
) -> Option<Vec<u8>> {
    if program.contains(&b'/') {
        return Some(program.to_vec());
    }
    if program.is_empty() {
        return None;
    }
    let path = env.iter().find_map(|entry| entry.strip_prefix(b"PATH="));
    let directories = path.unwrap_or(b"/usr/local/bin:/usr/bin:/bin").split(|&byte| byte == b':');
    directories
        .map(|directory| {
            let directory = if directory.is_empty() { b".".as_slice() } else { directory };
            [directory, b"/", program].concat()
        })
        .find(|candidate| vfs.program_exists(view, candidate))
}

/// Opens and checks everything that can be refused before the point of no return.
///
/// # Errors
/// What `execve` returns (ELF-1, ELF-2, ELF-12, STK-7).
pub(super) fn prepare(
    vfs: &mut Vfs,
    (memory, hw, kind): (&mut Memory, &mut Machine, KernelKind),
    view: &View<'_>,
    mut strings: Strings,
    stack_bytes: u64,
) -> Result<Prepared, Errno> {
    strings.check(stack_bytes)?;
    let mut path = strings.path.clone();
    for _ in 0..=SCRIPT_DEPTH_MAX {
        let file = vfs.open_program((memory, hw), view, &path)?;
        let mut content = Content { memory, hw, file: &file };
        let mut probe = [0; PROBE_BYTES];
        content.read_at(0, &mut probe)?;
        if probe.starts_with(b"#!") {
            let line = script_line(&probe)?;
            strings.args = script_args(&line, &path, &strings.args);
            strings.check(stack_bytes)?;
            path = line.interpreter;
            continue;
        }
        let mut head = [0; HEADER_BYTES];
        head.copy_from_slice(&probe[..HEADER_BYTES]);
        let header = elf::header(&head)?;
        if !kind.runs(header.abi) {
            return Err(Errno::ENOEXEC);
        }
        let program = elf::program(&mut content, header)?;
        let interpreter_path = program.interpreter_path(&mut content)?;
        let interpreter = match interpreter_path {
            Some(path) => {
                let interpreter = open_interpreter(vfs, memory, hw, view, path)?;
                if interpreter.program.header.abi != program.header.abi {
                    return Err(Errno::ELIBBAD);
                }
                Some(interpreter)
            }
            None => None,
        };
        let path = vfs.full_path(view, &path);
        return Ok(Prepared { main: ElfFile { path, file, program }, interpreter, strings });
    }
    Err(Errno::ELOOP)
}

/// Opens the dynamic linker: what is wrong with it has its own error numbers (ELF-2).
fn open_interpreter(
    vfs: &mut Vfs,
    memory: &mut Memory,
    hw: &mut Machine,
    view: &View<'_>,
    path: Vec<u8>,
) -> Result<ElfFile, Errno> {
    if path.is_empty() {
        // Linux looks the empty path up as the working directory, which is no program.
        return Err(Errno::EACCES);
    }
    let file = vfs.open_program((memory, hw), view, &path)?;
    let mut content = Content { memory, hw, file: &file };
    let mut head = [0; HEADER_BYTES];
    if content.read_at(0, &mut head)? != HEADER_BYTES {
        return Err(Errno::EIO);
    }
    let program = elf::header(&head)
        .and_then(|header| elf::program(&mut content, header))
        .map_err(|_| Errno::ELIBBAD)?;
    Ok(ElfFile { path, file, program })
}

/// The first line of a script.
#[derive(Debug, PartialEq, Eq)]
struct ScriptLine {
    interpreter: Vec<u8>,
    argument: Option<Vec<u8>>,
}

/// Takes the line apart: an interpreter and at most one argument, blanks around them removed.
///
/// # Errors
/// `ENOEXEC`: no interpreter, or its path may have been cut off.
fn script_line(probe: &[u8; PROBE_BYTES]) -> Result<ScriptLine, Errno> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let text = &probe[2..];
    let newline = text.iter().position(|&byte| byte == b'\n');
    let mut line = match newline {
        Some(end) => &text[..end],
        None => {
            // Linux keeps the last byte for a NUL, and wants to see where the path ends.
            let line = &text[..text.len() - 1];
            let start = line.iter().position(|byte| !is_blank(byte)).ok_or(Errno::ENOEXEC)?;
            let ends = line[start..].iter().any(|byte| is_blank(byte) || *byte == 0);
            if !ends {
                return Err(Errno::ENOEXEC);
            }
            line
        }
    };
    if let Some(end) = line.iter().position(|&byte| byte == 0) {
        line = &line[..end];
    }
    while let [rest @ .., last] = line {
        if !is_blank(last) {
            break;
        }
        line = rest;
    }
    let start = line.iter().position(|byte| !is_blank(byte)).ok_or(Errno::ENOEXEC)?;
    let line = &line[start..];
    let end = line.iter().position(is_blank).unwrap_or(line.len());
    let rest = &line[end..];
    let argument = rest.iter().position(|byte| !is_blank(byte)).map(|from| rest[from..].to_vec());
    Ok(ScriptLine { interpreter: line[..end].to_vec(), argument })
}

/// The interpreter, its argument, the script, and the arguments after the zeroth.
fn script_args(line: &ScriptLine, script: &[u8], args: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut all = vec![line.interpreter.clone()];
    all.extend(line.argument.clone());
    all.push(script.to_vec());
    all.extend(args.iter().skip(1).cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probe(text: &[u8]) -> [u8; PROBE_BYTES] {
        let mut bytes = [0; PROBE_BYTES];
        bytes[..text.len()].copy_from_slice(text);
        bytes
    }

    #[test]
    fn a_script_line_has_one_argument_at_most() {
        let line = |text: &[u8]| script_line(&probe(text));
        let parts = |interpreter: &[u8], argument: Option<&[u8]>| {
            Ok(ScriptLine {
                interpreter: interpreter.to_vec(),
                argument: argument.map(<[u8]>::to_vec),
            })
        };
        assert_eq!(line(b"#!/bin/sh\nx"), parts(b"/bin/sh", None));
        assert_eq!(line(b"#! /bin/sh -e -u \n"), parts(b"/bin/sh", Some(b"-e -u")));
        assert_eq!(line(b"#!/bin/sh"), parts(b"/bin/sh", None));
        assert_eq!(line(b"#!\n"), Err(Errno::ENOEXEC));
        assert_eq!(line(b"#!   \n/bin/sh"), Err(Errno::ENOEXEC));
        let mut long = b"#!/".to_vec();
        long.resize(PROBE_BYTES, b'a');
        assert_eq!(line(&long), Err(Errno::ENOEXEC));
    }

    #[test]
    fn the_script_takes_the_place_of_the_zeroth_argument() {
        let line = ScriptLine { interpreter: b"/i".to_vec(), argument: Some(b"a b".to_vec()) };
        let args = [b"zero".to_vec(), b"one".to_vec()];
        let all = script_args(&line, b"./s", &args);
        assert_eq!(all, [b"/i".to_vec(), b"a b".to_vec(), b"./s".to_vec(), b"one".to_vec()]);
    }
}
