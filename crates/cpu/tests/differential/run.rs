//! Runs cases on the host and on two engines, and says where they differ.

use crate::case::{Case, End, Outcome};
use crate::compare::differences;
use crate::guest::{Build, Guest};
use crate::layout;
use crate::makers;
use crate::oracle::Oracle;
use crate::random::Random;
use iced_x86::Instruction;
use machine::FastPath;
use std::collections::BTreeMap;
use std::fmt::Write;

/// How many failures are reported in full.
const REPORTED: usize = 40;

/// The host, and the engine with and without its fast path.
pub struct Bench {
    oracle: Oracle,
    filled: Guest,
    empty: Guest,
    random: Random,
    pub case_count: u64,
    ends: BTreeMap<&'static str, u64>,
    failures: BTreeMap<String, u64>,
    report: String,
}

impl Bench {
    pub fn new(seed: u64, build: Build) -> Self {
        let mut random = Random::new(seed);
        let base = layout::base_content(&mut random);
        Self {
            oracle: Oracle::new(&base),
            filled: Guest::new(&base, build, FastPath::Filled),
            empty: Guest::new(&base, build, FastPath::Empty),
            random,
            case_count: 0,
            ends: BTreeMap::new(),
            failures: BTreeMap::new(),
            report: String::new(),
        }
    }

    /// Runs `cases` everywhere and compares.
    pub fn run(&mut self, cases: &[Case]) {
        let outcomes = self.oracle.run(cases);
        for (case, native) in cases.iter().zip(&outcomes) {
            self.case_count += 1;
            *self.ends.entry(kind(native.end)).or_insert(0) += 1;
            if self.random.chance(10) {
                self.filled.flush();
                self.empty.flush();
            } else if self.random.chance(10) {
                let page = layout::DATA + self.random.below(layout::DATA_PAGES) * 0x1000;
                self.filled.flush_page(page);
                self.empty.flush_page(page);
            }
            let running = Running(case);
            let filled = self.filled.run(case);
            let empty = self.empty.run(case);
            drop(running);
            let settled = makers::settle(case, native, &filled);
            let mut text =
                settled.map(|settled| differences(case, native, &settled)).unwrap_or_default();
            let between = differences(case, &filled, &empty);
            if !between.is_empty() {
                text.push_str("  with the fast path empty (native: filled):\n");
                text.push_str(&between);
            }
            let (counted, expected) = (self.filled.counted(), self.empty.counted());
            if counted != expected {
                let _ = writeln!(text, "  counted {counted:?}\n  without {expected:?}");
            }
            if !text.is_empty() {
                self.fail(case, native, &text);
            }
        }
    }

    /// Keeps the first failure of each instruction.
    fn fail(&mut self, case: &Case, native: &Outcome, text: &str) {
        self.filled.flush();
        self.empty.flush();
        let at = case.instructions.iter().find(|one| one.ip() == native.state.rip);
        let code = at.or(case.instructions.first()).map(Instruction::code);
        let count = self.failures.entry(format!("{code:?}")).or_insert(0);
        *count += 1;
        if *count == 1 && self.failures.len() <= REPORTED {
            let (end, rip) = (native.end, native.state.rip);
            let _ = writeln!(self.report, "{case}  natively {end:x?} at {rip:#x}\n{text}");
        }
    }

    /// Panics with the report if anything differed.
    pub fn finish(self) {
        let (failures, cases) = (self.failures.values().sum::<u64>(), self.case_count);
        let by_code = &self.failures;
        eprintln!("{cases} cases: {:?}", self.ends);
        assert!(failures == 0, "{failures} of {cases} differ: {by_code:?}\n{}", self.report);
    }
}

const fn kind(end: End) -> &'static str {
    match end {
        End::Exception(3) => "to the end",
        End::Exception(_) => "exception",
        End::Page { .. } => "page fault",
        End::Syscall => "system call",
        End::Endless => "endless",
        End::Signal(_) => "signal",
    }
}

/// Says which case was running if the engine panics.
pub struct Running<'a>(pub &'a Case);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("while running {}", self.0);
        }
    }
}

/// How many cases the long tests run: `FAULTLINE_CASES`, or the default of the test.
pub fn case_count(default: u64) -> u64 {
    std::env::var("FAULTLINE_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The seed: `FAULTLINE_SEED`, or a constant.
pub fn seed() -> u64 {
    std::env::var("FAULTLINE_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}
