//! Programs made from bytes, and both ways to run them: here and on the host.

#![allow(dead_code, reason = "each test file uses a part")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cpu::x86::{Translator, TranslatorConfig};
use kernel::{BootError, Credentials, Kernel, KernelConfig, Outcome, VfsConfig};
use machine::{FastPath, Geometry, Keep, MachineConfig, TlbMode, tlb_default};

/// How a program ended, on the host or here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    /// `execve` returned this error number.
    Refused(i32),
    /// Exit code.
    Exited(i32),
    /// Signal.
    Killed(i32),
    /// Out of memory, or waiting for nothing.
    Other,
}

/// The kernel for a program, with 64 MiB of RAM.
pub(crate) fn boot(path: &Path, args: &[&str]) -> Result<Kernel, BootError> {
    boot_with(path, args, 64 << 20)
}

/// The kernel for a program.
pub(crate) fn boot_with(path: &Path, args: &[&str], ram_bytes: u64) -> Result<Kernel, BootError> {
    boot_on(path, args, ram_bytes, FastPath::Filled)
}

/// The kernel for a program, with or without the fast path of the TLB model.
pub(crate) fn boot_on(
    path: &Path,
    args: &[&str],
    ram_bytes: u64,
    reference: FastPath,
) -> Result<Kernel, BootError> {
    let program = path.to_str().expect("test paths are text").as_bytes().to_vec();
    let mut all = vec![program.clone()];
    all.extend(args.iter().map(|text| text.as_bytes().to_vec()));
    Kernel::new(KernelConfig {
        machine: MachineConfig {
            ram_bytes,
            geometry: Geometry::X86_64,
            tlb: TlbMode::Model(*tlb_default()),
            reference,
            keep: Keep::Events,
            boot_seconds: 1_700_000_000,
        },
        device_bytes: 0,
        engine: Box::new(Translator::new(TranslatorConfig::default()).expect("an AVX2 host")),
        vfs: VfsConfig {
            root: PathBuf::from("/"),
            binds: Vec::new(),
            hidden: Vec::new(),
            overlay_bytes_max: 1 << 20,
            seed: 1,
            pid: kernel::task::PID,
        },
        program,
        args: all,
        env: vec![b"PATH=/usr/bin:/bin".to_vec(), b"LANG=C".to_vec()],
        cwd: b"/".to_vec(),
        credentials: Credentials { uid: 0, gid: 0, groups: Vec::new() },
        stack_bytes: 8 << 20,
        seed: 1,
        task_limits: kernel::TaskLimits::default(),
        context_switch: kernel::ContextSwitch::default(),
        swap: None,
        working_set_ns: None,
        overcommit: mm::Overcommit::default(),
        policy: &mm::POLICIES[0],
        limits: mm::GroupLimits::default(),
        page_cache: kernel::PageCacheConfig::default(),
        page_offset: None,
    })
}

/// Runs a program here.
pub(crate) fn run_here(path: &Path) -> Ended {
    match boot(path, &[]) {
        Ok(mut kernel) => ended(kernel.run()),
        Err(BootError::Exec { errno, .. }) => Ended::Refused(errno.number().into()),
        Err(BootError::NotFound { .. }) => Ended::Refused(2),
        Err(_) => Ended::Other,
    }
}

/// The same words for how a run ended.
pub(crate) fn ended(outcome: Outcome) -> Ended {
    match outcome {
        Outcome::Exited(code) => Ended::Exited(code.into()),
        Outcome::Killed(signal) => Ended::Killed(signal.into()),
        Outcome::OutOfMemory | Outcome::Stuck { .. } | Outcome::TimedOut => Ended::Other,
    }
}

/// Runs a program on the host.
pub(crate) fn run_native(path: &Path) -> Ended {
    const TEXT_FILE_BUSY: i32 = 26;
    let start = || {
        Command::new(path)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LANG", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    };
    // Another test that forks has our program open for writing until it executes its own.
    let mut status = start();
    while status.as_ref().is_err_and(|error| error.raw_os_error() == Some(TEXT_FILE_BUSY)) {
        status = start();
    }
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Exited(code),
            (None, Some(signal)) => Ended::Killed(signal),
            (None, None) => Ended::Other,
        },
        Err(error) => Ended::Refused(error.raw_os_error().unwrap_or(0)),
    }
}

/// Writes an executable file for a test.
pub(crate) fn write_program(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    // A new inode each time: the old one may still be executing.
    let _ = fs::remove_file(&path);
    fs::write(&path, bytes).expect("the test directory is writable");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    path
}

/// Compiles a static C program, or `None` if the host has no compiler.
pub(crate) fn compile(name: &str, source: &str, flags: &[&str]) -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let (input, output) = (directory.join(format!("{name}.c")), directory.join(name));
    fs::write(&input, source).expect("the test directory is writable");
    let status =
        Command::new("cc").args(flags).arg("-w").arg("-o").arg(&output).arg(&input).status();
    status.is_ok_and(|status| status.success()).then_some(output)
}

/// One program header, as numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// `p_type`.
    pub(crate) kind: u32,
    /// `p_flags`.
    pub(crate) flags: u32,
    /// `p_offset`.
    pub(crate) offset: u64,
    /// `p_vaddr`.
    pub(crate) vaddr: u64,
    /// `p_filesz`.
    pub(crate) file_bytes: u64,
    /// `p_memsz`.
    pub(crate) memory_bytes: u64,
    /// `p_align`.
    pub(crate) align: u64,
}

/// A program made from bytes: code at file offset 0x1000.
#[derive(Clone, Debug)]
pub(crate) struct Elf {
    /// `e_type`.
    pub(crate) kind: u16,
    /// `e_machine`.
    pub(crate) machine: u16,
    /// `e_entry`.
    pub(crate) entry: u64,
    /// `e_phentsize`.
    pub(crate) entry_bytes: u16,
    /// `e_phnum`, if it shall lie.
    pub(crate) count: Option<u16>,
    /// `e_phoff`.
    pub(crate) table_offset: u64,
    /// Program headers.
    pub(crate) headers: Vec<Header>,
    /// Code.
    pub(crate) code: Vec<u8>,
}

/// Address of the code of [`exit_program`].
pub(crate) const CODE: u64 = 0x40_1000;

/// `exit(42)`.
pub(crate) fn exit_code() -> Vec<u8> {
    vec![0xbf, 42, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]
}

/// A fixed program that calls `exit(42)`.
pub(crate) fn exit_program() -> Elf {
    let code = exit_code();
    Elf {
        kind: 2,
        machine: 62,
        entry: CODE,
        entry_bytes: 56,
        count: None,
        table_offset: 64,
        headers: vec![Header {
            kind: 1,
            flags: 5,
            offset: 0x1000,
            vaddr: CODE,
            file_bytes: code.len() as u64,
            memory_bytes: code.len() as u64,
            align: 0x1000,
        }],
        code,
    }
}

impl Elf {
    /// The file.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend(self.kind.to_le_bytes());
        bytes.extend(self.machine.to_le_bytes());
        bytes.extend(1_u32.to_le_bytes());
        for word in [self.entry, self.table_offset, 0] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(0_u32.to_le_bytes());
        let count = self.count.unwrap_or(self.headers.len() as u16);
        for half in [64, self.entry_bytes, count, 64, 0, 0] {
            bytes.extend(half.to_le_bytes());
        }
        for header in &self.headers {
            bytes.extend(header.kind.to_le_bytes());
            bytes.extend(header.flags.to_le_bytes());
            let words = [
                header.offset,
                header.vaddr,
                header.vaddr,
                header.file_bytes,
                header.memory_bytes,
                header.align,
            ];
            for word in words {
                bytes.extend(word.to_le_bytes());
            }
        }
        bytes.resize(bytes.len().max(0x1000), 0);
        bytes.extend(&self.code);
        bytes
    }
}
