//! Random memory calls and accesses, made by us and by the kernel of the host: every result, fault
//! count, byte, list of mappings, set of flags and count of resident pages must be equal.
//!
//! The native side (`native.c`) is compiled when the test runs. Without a C compiler, or not on
//! x86-64 Linux, there is nothing to compare with and the test passes without a word.
//!
//! `FAULTLINE_OPS` sets the number of steps (default 100,000), `FAULTLINE_SEED` the first seed.

mod ours;
mod sequence;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use ours::{Answer, Ours};
use sequence::{ARENA, ARENA_END, Op, Sequence};

/// Steps of one address space; then a new one starts with the next seed.
const STEPS_PER_RUN: u64 = 2_000;
/// Steps sent at once.
const BATCH: usize = 8;
/// How often a run must end differently to count. A loaded host now and then leaves a page out of a
/// fault-around, because that page is locked at the moment (about once in a million steps).
const ATTEMPTS: usize = 3;
/// Steps that the message of a difference tells.
const TOLD_STEPS: usize = 24;
/// Batches between two looks at `/proc/self/smaps`.
const BATCHES_PER_SMAPS: u64 = 4;

struct Native {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    heap: u64,
    /// The last batch.
    sent: String,
}

impl Native {
    fn start(program: &Path) -> Self {
        let mut child = Command::new(program)
            .args([format!("{ARENA:x}"), format!("{ARENA_END:x}")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the compiled program starts");
        let input = child.stdin.take().expect("it is piped");
        let output = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut native = Self { child, input, output, heap: 0, sent: String::new() };
        let line = native.line();
        native.heap = u64::from_str_radix(&line, 16).expect("the native side starts");
        native
    }

    fn send(&mut self, text: String) {
        self.sent = text;
        let text = &self.sent;
        self.input.write_all(text.as_bytes()).expect("the native side reads");
        self.input.flush().expect("the native side reads");
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        let length = self.output.read_line(&mut line).expect("the native side answers");
        if length == 0 {
            let status = self.child.wait();
            panic!("the native side ended: {status:?}, after\n{}", self.sent);
        }
        line.pop();
        line
    }

    fn answer(&mut self) -> Answer {
        let line = self.line();
        let mut words = line.split(' ');
        let mut number = || {
            let word = words.next().expect("a result and a count");
            i64::from_str_radix(word, 16).expect("hexadecimal")
        };
        let (result, faults) = (number(), number());
        Answer { result, faults, vector: words.next().unwrap_or_default().to_owned() }
    }

    fn lines(&mut self) -> String {
        let mut text = String::new();
        loop {
            let line = self.line();
            if line == "." {
                return text;
            }
            text += &line;
            text += "\n";
        }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _status = self.child.wait();
    }
}

fn compile() -> Option<PathBuf> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return None;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mm-differential-native");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/differential/native.c");
    let status = Command::new("cc").arg("-O1").arg("-o").arg(&program).arg(source).status();
    status.is_ok_and(|status| status.success()).then_some(program)
}

/// The steps of one run, for the message of a difference.
struct Story {
    seed: u64,
    steps: Vec<(Op, Answer)>,
}

impl Story {
    fn differs(&self, what: &str, ours: &str, native: &str, before: &str) -> String {
        let first = self.steps.len().saturating_sub(TOLD_STEPS);
        let told: Vec<String> = self.steps[first..]
            .iter()
            .map(|(op, answer)| format!("{op}  ->  {}", told(answer)))
            .collect();
        format!(
            "seed {}, step {}: {what} differs\n{}\nonly ours:\n{}only native:\n{}before:\n{before}",
            self.seed,
            self.steps.len(),
            told.join("\n"),
            only(ours, native),
            only(native, ours),
        )
    }
}

fn told(answer: &Answer) -> String {
    let Answer { result, faults, vector } = answer;
    match result {
        ..0 => format!("{result} {faults}"),
        _ => format!("{result:x} {faults} {vector}"),
    }
}

/// The lines of `text` that `other` does not have.
fn only(text: &str, other: &str) -> String {
    let is_new = |line: &&str| other.lines().all(|known| known != *line);
    text.lines().filter(is_new).map(|line| format!("{line}\n")).collect()
}

fn run(program: &Path, seed: u64, steps: u64) -> Result<(), String> {
    let mut native = Native::start(program);
    let mut ours = Ours::new(native.heap);
    let mut sequence = Sequence::new(seed, native.heap);
    let mut story = Story { seed, steps: Vec::new() };
    let mut before = String::new();
    for batch in 0..steps.div_ceil(BATCH as u64) {
        let is_smaps = batch % BATCHES_PER_SMAPS == 0;
        let ops: Vec<Op> = (0..BATCH).map(|_| sequence.next()).collect();
        let lines: String = ops.iter().map(|op| format!("{op}\n")).collect();
        native.send(lines + if is_smaps { "S\n" } else { "M\n" });
        for op in ops {
            let (answer, expected) = (ours.step(op), native.answer());
            story.steps.push((op, expected.clone()));
            if answer != expected {
                let (ours, native) = (told(&answer), told(&expected));
                return Err(story.differs("an answer", &ours, &native, &before));
            }
        }
        let expected = native.lines();
        let maps = if is_smaps { ours.smaps() } else { ours.maps() };
        if maps != expected {
            return Err(story.differs("the list of mappings", &maps, &expected, &before));
        }
        ours.check();
        before = ours.smaps();
    }
    Ok(())
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn random_calls_end_as_on_the_host() {
    let Some(program) = compile() else { return };
    let steps = number("FAULTLINE_OPS", 100_000);
    let seed = number("FAULTLINE_SEED", 1);
    for i in 0..steps.div_ceil(STEPS_PER_RUN) {
        let count = STEPS_PER_RUN.min(steps - i * STEPS_PER_RUN);
        let outcomes: Vec<_> =
            (0..ATTEMPTS).map_while(|_| run(&program, seed + i, count).err()).collect();
        assert!(outcomes.len() < ATTEMPTS, "{}", outcomes[0]);
    }
}
