//! The harness of the integration tests: builds guest programs, runs them natively and inside.
//!
//! Natively a program runs under `setarch -R` (no address-space randomisation); inside and natively
//! it gets the same three variables, the same directory and the same standard input. `prlimit`
//! bounds the processor time of both, so that a hang is a failure and no test needs a clock.
#![allow(dead_code, reason = "each test file uses its part of the harness")]

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

/// Processor seconds that one run may take.
const CPU_SECONDS: &str = "--cpu=240:250";

/// The whole environment of every guest and native run.
pub(crate) const ENVIRONMENT: [(&str, &str); 3] =
    [("PATH", "/usr/bin:/bin"), ("HOME", "/root"), ("LANG", "C")];

/// How a run ended and what it printed.
#[derive(PartialEq, Eq)]
pub(crate) struct Ran {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: Vec<u8>,
}

impl fmt::Debug for Ran {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n-- stdout\n{}", self.status, excerpt(&self.stdout))?;
        write!(f, "\n-- stderr\n{}", excerpt(&self.stderr))
    }
}

/// The first and last part of a long output.
fn excerpt(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    if lines.len() <= 120 {
        return text.into_owned();
    }
    let (head, tail) = (&lines[..60], &lines[lines.len() - 60..]);
    format!("{}\n[...]\n{}", head.join("\n"), tail.join("\n"))
}

impl Ran {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    pub(crate) fn errors(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    pub(crate) fn code(&self) -> Option<i32> {
        self.status.code()
    }

    pub(crate) fn signal(&self) -> Option<i32> {
        self.status.signal()
    }
}

/// One command, to be run natively, inside, or both.
#[derive(Clone)]
pub(crate) struct Guest {
    command: Vec<OsString>,
    options: Vec<OsString>,
    stdin: Option<PathBuf>,
    is_mute: bool,
    directory: PathBuf,
    faultline: OsString,
}

/// How often a program is run natively before its output is said to differ.
const NATIVE_TRIES: usize = 12;

impl Guest {
    pub(crate) fn new<I, S>(command: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        Self {
            command: command.into_iter().map(|each| each.as_ref().to_owned()).collect(),
            options: Vec::new(),
            stdin: None,
            is_mute: false,
            directory: scratch(),
            faultline: env!("CARGO_BIN_EXE_faultline").into(),
        }
    }

    /// Runs inside another build of faultline.
    pub(crate) fn by(mut self, faultline: &OsStr) -> Self {
        faultline.clone_into(&mut self.faultline);
        self
    }

    /// Adds options of `faultline run`.
    pub(crate) fn options<I, S>(mut self, options: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        self.options.extend(options.into_iter().map(|each| each.as_ref().to_owned()));
        self
    }

    pub(crate) fn stdin(mut self, file: &Path) -> Self {
        self.stdin = Some(file.to_owned());
        self
    }

    pub(crate) fn directory(mut self, directory: &Path) -> Self {
        self.directory = directory.to_owned();
        self
    }

    /// Sends what it prints to `/dev/null`, as the native oracle does.
    pub(crate) fn mute(mut self) -> Self {
        self.is_mute = true;
        self
    }

    /// Runs it on the host.
    pub(crate) fn native(&self) -> Ran {
        let mut command = Command::new("prlimit");
        command.args([CPU_SECONDS, "setarch", "-R"]).args(&self.command);
        self.finish(command)
    }

    /// Runs it inside, without a report.
    pub(crate) fn inside(&self) -> Ran {
        self.finish(self.faultline(&["--report", "none"]))
    }

    /// Runs it inside, with the report for people.
    pub(crate) fn inside_with_text(&self) -> Ran {
        self.finish(self.faultline(&[]))
    }

    /// Runs it inside, with the report for machines; also its bytes.
    pub(crate) fn inside_with_json(&self) -> (Ran, Value, Vec<u8>) {
        let file = fresh("report.json");
        let path = file.to_str().expect("our own name is text");
        let ran = self.finish(self.faultline(&["--report", "none", "--json", path]));
        let bytes = fs::read(&file).unwrap_or_default();
        let value = serde_json::from_slice(&bytes)
            .unwrap_or_else(|error| panic!("{:?}: no report: {error}\n{ran:?}", self.command));
        // It stays behind only if the test fails.
        let _ = fs::remove_file(&file);
        (ran, value, bytes)
    }

    fn faultline(&self, options: &[&str]) -> Command {
        let mut command = Command::new("prlimit");
        command.arg(CPU_SECONDS).arg(&self.faultline).arg("run").args(options);
        command.args(&self.options).arg("--").args(&self.command);
        command
    }

    fn finish(&self, mut command: Command) -> Ran {
        let stdin = match &self.stdin {
            Some(file) => Stdio::from(File::open(file).expect("the input is there")),
            None => Stdio::null(),
        };
        command.env_clear().envs(ENVIRONMENT).current_dir(&self.directory).stdin(stdin);
        if self.is_mute {
            command.stdout(Stdio::null()).stderr(Stdio::null());
        }
        let output = command.output().expect("prlimit of util-linux is installed");
        Ran { status: output.status, stdout: output.stdout, stderr: output.stderr }
    }

    /// Requires equal output, errors and end, and no leaked frame; returns the report.
    ///
    /// Where several processes take turns, the host's own output can depend on its load: ours,
    /// which never does, must be one of those that the host gives.
    #[track_caller]
    pub(crate) fn same(&self) -> Value {
        let (inside, report, _) = self.inside_with_json();
        let mut native = self.native();
        for _ in 1..NATIVE_TRIES {
            if native == inside {
                break;
            }
            native = self.native();
        }
        assert_equal(&self.command, &native, &inside);
        assert_eq!(report.pointer("/memory/frames_leaked"), Some(&Value::from(0)), "frames leaked");
        report
    }
}

/// Requires equal output, errors and end; shows the first lines that differ.
#[track_caller]
pub(crate) fn assert_equal(command: &[OsString], native: &Ran, inside: &Ran) {
    if native == inside {
        return;
    }
    let mut text = String::new();
    if native.status != inside.status {
        text += &format!("native {}\ninside {}\n", native.status, inside.status);
    }
    text += &differences("stdout", &native.stdout, &inside.stdout);
    text += &differences("stderr", &native.stderr, &inside.stderr);
    panic!("{command:?} differs\n{text}");
}

/// The first lines that differ.
fn differences(name: &str, native: &[u8], inside: &[u8]) -> String {
    if native == inside {
        return String::new();
    }
    let (theirs, ours) = (String::from_utf8_lossy(native), String::from_utf8_lossy(inside));
    let mut text = format!("{name}: {} bytes, native {}\n", inside.len(), native.len());
    let (mut theirs, mut ours) = (theirs.lines(), ours.lines());
    let mut shown = 0;
    for number in 1.. {
        let (native, inside) = (theirs.next(), ours.next());
        if (native.is_none() && inside.is_none()) || shown == 12 {
            break;
        }
        if native != inside {
            shown += 1;
            let [native, inside] = [native, inside].map(|line| line.unwrap_or("(end)"));
            text += &format!("line {number}\n  native {native:.150}\n  inside {inside:.150}\n");
        }
    }
    text
}

/// How a program of `programs/` is built.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Build {
    /// With the host's C library.
    Dynamic,
    /// With glibc inside.
    GlibcStatic,
    /// With glibc inside, position-independent.
    GlibcStaticPie,
    /// With the host's C library, at a fixed address.
    NoPie,
    /// As [`Build::Dynamic`], for i386.
    I386Dynamic,
    /// As [`Build::GlibcStatic`], for i386.
    I386Static,
    /// As [`Build::GlibcStaticPie`], for i386.
    I386StaticPie,
    /// As [`Build::NoPie`], for i386.
    I386NoPie,
    /// Without a C library, for i386.
    I386Nolibc,
    /// With musl inside.
    MuslStatic,
    /// With musl's loader.
    MuslDynamic,
    /// Without any library.
    Nolibc,
    /// Without any library, above 4 GiB.
    NolibcHigh,
    /// C++.
    Cxx,
    /// Rust.
    Rust,
    /// Go, without C.
    Go,
}

/// For a program without any library above 4 GiB.
const HIGH: [&str; 6] =
    ["-O1", "-w", "-static", "-nostdlib", "-fPIE", "-Wl,-Ttext-segment=0x500000000"];

/// Builds a program of `programs/`, once as long as its source does not change.
///
/// `None`, said loudly, if its compiler is missing.
pub(crate) fn build(source: &str, build: Build) -> Option<PathBuf> {
    let path = programs().join(source);
    let name = format!("{}-{build:?}", source.replace(['/', '.'], "-"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("programs").join(&name);
    if is_newer(&target, &path) && headers(&path).iter().all(|each| is_newer(&target, each)) {
        return Some(target);
    }
    fs::create_dir_all(target.parent().expect("it has one")).expect("the target can be written");
    let fresh = fresh(&name);
    let (compiler, arguments): (&str, &[&str]) = match build {
        Build::Dynamic => ("cc", &["-O1", "-w"]),
        Build::NoPie => ("cc", &["-O1", "-w", "-no-pie"]),
        Build::GlibcStatic => ("cc", &["-O1", "-w", "-static"]),
        Build::GlibcStaticPie => ("cc", &["-O1", "-w", "-static-pie"]),
        Build::I386Dynamic => ("cc", &["-m32", "-O1", "-w"]),
        Build::I386Static => ("cc", &["-m32", "-O1", "-w", "-static"]),
        Build::I386StaticPie => ("cc", &["-m32", "-O1", "-w", "-static-pie"]),
        Build::I386NoPie => ("cc", &["-m32", "-O1", "-w", "-no-pie"]),
        Build::I386Nolibc => ("cc", &["-m32", "-O1", "-w", "-static", "-nostdlib"]),
        Build::MuslStatic => ("musl-gcc", &["-O1", "-w", "-static"]),
        Build::MuslDynamic => ("musl-gcc", &["-O1", "-w"]),
        Build::Nolibc => ("cc", &["-O1", "-w", "-static", "-nostdlib"]),
        Build::NolibcHigh => ("cc", &HIGH),
        Build::Cxx => ("c++", &["-O1", "-w"]),
        Build::Rust => ("rustc", &["-O", "--edition", "2021"]),
        Build::Go => ("go", &["build"]),
    };
    let library_i386 = Path::new("/usr/lib32/libc.so");
    if arguments.contains(&"-m32") && !library_i386.exists() {
        skip(&format!("{source}: no {}: gcc-multilib is missing", library_i386.display()));
        return None;
    }
    let mut command = Command::new(compiler);
    if build == Build::Go {
        command.envs([("GO111MODULE", "off"), ("CGO_ENABLED", "0")]);
        command.env("GOCACHE", target.with_file_name("go-cache"));
    }
    let output = command.args(arguments).arg("-o").arg(&fresh).arg(&path).output();
    let output = match output {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("{source}: {compiler}: {error}"));
            return None;
        }
    };
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&fresh, &target).expect("both are in one directory tree");
    Some(target)
}

/// The headers beside a source.
fn headers(source: &Path) -> Vec<PathBuf> {
    let directory = source.parent().expect("it has one");
    let files = fs::read_dir(directory).expect("it can be read").flatten().map(|one| one.path());
    files.filter(|path| path.extension().is_some_and(|end| end == "h")).collect()
}

fn is_newer(target: &Path, source: &Path) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
    match (changed(target), changed(source)) {
        (Ok(target), Ok(source)) => target > source,
        _ => false,
    }
}

/// The directory of the guest programs.
pub(crate) fn programs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../programs")
        .canonicalize()
        .expect("it is there")
}

/// The program, or `None`, said loudly, if the host does not have it.
pub(crate) fn installed(path: &str) -> Option<&str> {
    if Path::new(path).exists() {
        return Some(path);
    }
    skip(&format!("{path} is not installed"));
    None
}

/// Says past the test runner's capture that something is not tested.
pub(crate) fn skip(why: &str) {
    let _ =
        writeln!(std::io::stderr(), "SKIPPED: {why} (cargo xtask test installs what is needed)");
}

/// A directory that all runs of all tests share and none writes to.
pub(crate) fn scratch() -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("empty");
    fs::create_dir_all(&directory).expect("the target can be written");
    directory
}

/// A file name that nobody else uses.
pub(crate) fn fresh(name: &str) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("fresh");
    fs::create_dir_all(&directory).expect("the target can be written");
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    directory.join(format!("{}-{count}-{name}", std::process::id()))
}

/// An input file with the content that `write` gives, made once.
pub(crate) fn input(name: &str, content: impl FnOnce() -> Vec<u8>) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("inputs");
    let path = directory.join(name);
    if !path.exists() {
        fs::create_dir_all(&directory).expect("the target can be written");
        let fresh = fresh(name);
        fs::write(&fresh, content()).expect("the target can be written");
        fs::rename(&fresh, &path).expect("both are in one directory tree");
    }
    path
}

/// A small generator of pseudo-random numbers.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// Lines of words, as text to sort, count and compress.
pub(crate) fn lines(count: usize) -> Vec<u8> {
    let mut random = Random(88_172_645_463_325_252);
    let mut text = Vec::new();
    for _ in 0..count {
        for _ in 0..=random.next() % 5 {
            let word = random.next() % 5000;
            write!(text, "w{word:04} ").expect("a vector takes every write");
        }
        writeln!(text, "{}", random.next() % 1_000_000).expect("a vector takes every write");
    }
    text
}

/// Bytes without any pattern.
pub(crate) fn noise(bytes: usize) -> Vec<u8> {
    let mut random = Random(362_436_069);
    (0..bytes.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).take(bytes).collect()
}

/// Waits until a running Faultline, whose guest goes on to wait, says `done`; returns the most
/// memory of the host that it ever had, KiB.
pub(crate) fn peak_when_done(ours: &mut Child) -> u64 {
    let mut said = [0; 5];
    let stdout = ours.stdout.as_mut().expect("it is a pipe");
    stdout.read_exact(&mut said).expect("it says when it is done");
    assert_eq!(&said, b"done\n");
    let status = fs::read_to_string(format!("/proc/{}/status", ours.id())).expect("it waits");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("it has memory");
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
}
