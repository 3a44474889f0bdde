//! The host's CPU: `native/oracle.c`, compiled when the tests run.

use crate::case::{Case, End, FPU_BYTES, Outcome, State};
use crate::layout;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

/// Linux's selector of 32-bit code.
const USER_CS_32: u64 = 0x23;
const LAYOUT: u64 = 1;
const BATCH: u64 = 2;
const WORDS_BEFORE_FPU: usize = 24;
const REPORT_BYTES: usize = WORDS_BEFORE_FPU * 8 + FPU_BYTES;

/// A process that runs cases natively.
pub struct Oracle {
    child: Child,
    input: Option<ChildStdin>,
    output: ChildStdout,
}

/// Compiles the oracle once per test process.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/native/oracle.c");
        let name = format!("oracle-{}", std::process::id());
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let status = Command::new("cc")
            .args(["-O2", "-Wall", "-static-pie", "-fno-stack-protector", "-o"])
            .args([&target, &source])
            .status()
            .expect("a C compiler named cc is installed");
        assert!(status.success(), "the oracle compiles");
        target
    })
}

impl Oracle {
    /// Starts the oracle on frames that hold `base`.
    pub fn new(base: &[u8]) -> Self {
        let mut child = Command::new(program())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the oracle starts");
        let input = child.stdin.take();
        let output = child.stdout.take().expect("its output is a pipe");
        let mut oracle = Self { child, input, output };
        let mut message = Vec::new();
        put(&mut message, &[LAYOUT, layout::FRAME_COUNT, layout::MAPPINGS.len() as u64]);
        for mapping in layout::MAPPINGS {
            put(&mut message, &[mapping.page, mapping.frame, mapping.protection]);
        }
        message.extend_from_slice(base);
        oracle.send(&message);
        oracle
    }

    fn send(&mut self, message: &[u8]) {
        let input = self.input.as_mut().expect("the pipe is open until drop");
        input.write_all(message).expect("the oracle reads");
        input.flush().expect("the oracle reads");
    }

    /// Runs all `cases`, each from the base content.
    pub fn run(&mut self, cases: &[Case]) -> Vec<Outcome> {
        let mut payload = Vec::new();
        for case in cases {
            put_case(&mut payload, case);
        }
        let mut message = Vec::new();
        put(&mut message, &[BATCH, cases.len() as u64, payload.len() as u64]);
        message.extend_from_slice(&payload);
        self.send(&message);
        let mut length = [0; 8];
        self.output.read_exact(&mut length).expect("the oracle answers");
        let mut answer = vec![0; u64::from_le_bytes(length) as usize];
        self.output.read_exact(&mut answer).expect("the oracle answers");
        let mut rest = answer.as_slice();
        cases.iter().map(|case| take_outcome(&mut rest, case)).collect()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.input = None;
        let _ = self.child.wait();
    }
}

fn put(to: &mut Vec<u8>, words: &[u64]) {
    for word in words {
        to.extend_from_slice(&word.to_le_bytes());
    }
}

fn put_case(to: &mut Vec<u8>, case: &Case) {
    let state = &case.state;
    put(to, &state.gpr);
    put(to, &[state.rip, state.rflags, state.fs_base, state.gs_base]);
    put(to, &[case.patches.len() as u64, if state.is_compat { USER_CS_32 } else { 0 }, 0, 0]);
    to.extend_from_slice(&state.fpu);
    for (offset, bytes) in &case.patches {
        put(to, &[*offset, bytes.len() as u64]);
        to.extend_from_slice(bytes);
        to.resize(to.len().next_multiple_of(8), 0);
    }
}

fn word(bytes: &[u8], index: usize) -> u64 {
    u64::from_le_bytes(bytes[index * 8..index * 8 + 8].try_into().expect("eight bytes"))
}

fn take_outcome(rest: &mut &[u8], case: &Case) -> Outcome {
    let (report, tail) = rest.split_at(REPORT_BYTES);
    let change_count = word(report, 23) as usize;
    let (changes, tail) = tail.split_at(change_count * 16);
    *rest = tail;
    let mut state = State { ..case.state.clone() };
    for (index, register) in state.gpr.iter_mut().enumerate() {
        *register = word(report, index);
    }
    (state.rip, state.rflags) = (word(report, 16), word(report, 17));
    state.fpu.copy_from_slice(&report[WORDS_BEFORE_FPU * 8..]);
    let changes = (0..change_count).map(|i| (word(changes, i * 2), word(changes, i * 2 + 1)));
    Outcome { state, end: end(report), changes: changes.collect() }
}

/// The end of a case from its signal: Linux leaves the exception vector in the frame.
fn end(report: &[u8]) -> End {
    const PAGE_FAULT: u64 = 14;
    let (signal, trap) = (word(report, 18), word(report, 20));
    match signal {
        26 => End::Endless,
        31 => End::Syscall,
        4 | 5 | 7 | 8 | 11 if trap == PAGE_FAULT => {
            End::Page { address: word(report, 22), error: word(report, 21) }
        }
        4 | 5 | 7 | 8 | 11 => End::Exception(trap),
        other => End::Signal(other),
    }
}
