//! `faultline run`: builds the kernel, runs the program, writes the reports, ends as it ended.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use cpu::x86::{Translator, TranslatorConfig};
use kernel::stuck::Deadlock;
use kernel::{
    BootError, Credentials, Errno, Kernel, KernelConfig, Outcome, SwapConfig, SwapKind, VfsConfig,
};
use machine::{Geometry, MachineConfig, PAGE_BYTES};
use observe::{Observer, TraceWriter};
use rustix::process::{Resource, Rlimit};

use crate::args::high::{JsonTarget, RunPlan, SwapPlan, TextTarget};
use crate::failure::{Failure, FailureKind};
use crate::keys;
use crate::output::{self, Name};
use crate::report::{Report, json, text};
use crate::swap_file::SwapFile;

/// Stack limit of the guest, bytes: Linux's default.
const STACK_BYTES: u64 = 8 << 20;
/// Exit code of a run that had no time left, as of `timeout`.
const TIMED_OUT: u8 = 124;
/// Events that wait to be written.
const EVENTS_AT_A_TIME: usize = 4096;
/// Most bytes that the guest may write into its view of the files.
const OVERLAY_BYTES_MAX: u64 = 1 << 30;

/// Runs the program of a plan to its end.
///
/// Does not return if a signal ended the program: the signal is raised again.
///
/// # Errors
/// Exit codes 127, 126 or 125, with the line that says why.
pub(crate) fn run(plan: RunPlan) -> Result<ExitCode, Failure> {
    check_host_paths(&plan)?;
    let mut outputs = Outputs::open(&plan)?;
    let mut kernel = boot(&plan)?;
    if let Some(keys) = keys::hear() {
        kernel.hear_keys(keys);
    }
    let outcome = match &mut outputs.trace {
        Some((trace, _)) => traced(&mut kernel, trace),
        None => kernel.run(),
    };
    outputs.write(&plan, &kernel)?;
    let deadlock = kernel.report().map(|report| report.deadlock.clone()).unwrap_or_default();
    // The memory of the machine goes with the process: taking it apart first would only cost time.
    std::mem::forget(kernel);
    end(outcome, &deadlock)
}

/// Runs the program to its end and writes the events as they come: a long run keeps few of them.
fn traced(kernel: &mut Kernel, trace: &mut Trace) -> Outcome {
    loop {
        let outcome = kernel.run_until_events(EVENTS_AT_A_TIME);
        for event in kernel.hw.log.drain() {
            trace.observe(&event);
        }
        if let Some(outcome) = outcome {
            return outcome;
        }
    }
}

/// The directories of the command line: named here as they were typed.
fn check_host_paths(plan: &RunPlan) -> Result<(), Failure> {
    if !plan.root.is_dir() {
        let root = plan.root.display();
        return Err(Failure::own(format!("--root {root}: no such directory; give another")));
    }
    match plan.binds.iter().find(|bind| !bind.host.exists()) {
        Some(bind) => {
            let host = bind.host.display();
            Err(Failure::own(format!("--bind {host}: no such file or directory; give another")))
        }
        None => Ok(()),
    }
}

/// Builds the machine and loads the program, or says how much RAM that needs.
fn boot(plan: &RunPlan) -> Result<Kernel, Failure> {
    let swap = plan.swap.as_ref().map(swap_config).transpose()?;
    let booted = Kernel::new(config(plan, plan.machine.ram_bytes, swap)?);
    let is_short = match &booted {
        Ok(kernel) => kernel.outcome().is_some(),
        Err(BootError::Memory(_)) => true,
        Err(BootError::Exec { errno, .. }) => *errno == Errno::ENOMEM,
        Err(_) => false,
    };
    if is_short && let Some(bytes) = smallest_ram(plan)? {
        let (has, needs) = (plan.machine.ram_bytes >> 10, bytes >> 10);
        let program = plan.args.first().map(|name| String::from_utf8_lossy(name));
        let program = program.unwrap_or_default();
        return Err(Failure::own(format!(
            "--ram {has}K: too small to start {program}; the smallest that works is {needs}K"
        )));
    }
    booted.map_err(|error| boot_failure(error, plan.machine.geometry))
}

/// The most RAM that is tried for a program that does not start, bytes.
const RAM_TRIED_MAX: u64 = 8 << 30;

/// The smallest RAM, above that of the plan, with which the program starts; `None` if it does not
/// with much more either, so that RAM is not what is missing.
fn smallest_ram(plan: &RunPlan) -> Result<Option<u64>, Failure> {
    let starts = |pages: u64| -> Result<bool, Failure> {
        // Nothing is swapped before the start, but promises count what there is of it.
        let swap = plan.swap.as_ref().map(|swap| SwapConfig {
            bytes: swap.bytes.unwrap_or(0),
            latency: swap.latency,
            store: Box::new(mm::PackedStore::new()),
            kind: SwapKind::Memory,
            zswap_percent: 0,
        });
        let kernel = Kernel::new(config(plan, pages * PAGE_BYTES, swap)?);
        Ok(kernel.is_ok_and(|kernel| kernel.outcome().is_none()))
    };
    let mut too_small = plan.machine.ram_bytes / PAGE_BYTES;
    let mut enough = too_small.saturating_mul(2);
    while !starts(enough)? {
        (too_small, enough) = (enough, enough.saturating_mul(2));
        if enough > RAM_TRIED_MAX / PAGE_BYTES {
            return Ok(None);
        }
    }
    while enough - too_small > 1 {
        let middle = too_small.midpoint(enough);
        if starts(middle)? { enough = middle } else { too_small = middle }
    }
    Ok(Some(enough * PAGE_BYTES))
}

fn config(
    plan: &RunPlan,
    ram_bytes: u64,
    swap: Option<SwapConfig>,
) -> Result<KernelConfig, Failure> {
    let engine =
        Translator::new(TranslatorConfig { instructions: plan.instructions, ..Default::default() })
            .map_err(|error| Failure::own(error.to_string()))?;
    let program = plan.args.first().cloned().unwrap_or_default();
    Ok(KernelConfig {
        machine: MachineConfig { ram_bytes, ..plan.machine },
        device_bytes: plan.device_bytes,
        engine: Box::new(engine),
        vfs: VfsConfig {
            root: plan.root.clone(),
            binds: plan.binds.clone(),
            hidden: kernel::fs::default_hidden(home().as_deref()),
            overlay_bytes_max: OVERLAY_BYTES_MAX,
            seed: plan.seed,
            pid: kernel::task::PID,
        },
        program,
        args: plan.args.clone(),
        env: plan.env.clone(),
        cwd: plan.cwd.clone(),
        credentials: credentials(),
        stack_bytes: STACK_BYTES,
        seed: plan.seed,
        task_limits: plan.task_limits,
        context_switch: plan.context_switch,
        swap,
        working_set_ns: plan.working_set_ns,
        overcommit: plan.overcommit,
        policy: plan.policy,
        limits: plan.limits,
        page_cache: plan.page_cache,
        page_offset: plan.page_offset,
    })
}

fn swap_config(plan: &SwapPlan) -> Result<SwapConfig, Failure> {
    let (latency, zswap_percent) = (plan.latency, plan.zswap_percent);
    let Some(path) = &plan.file else {
        let (bytes, kind) = (plan.bytes.unwrap_or(0), SwapKind::Memory);
        let is_zram = plan.is_zram();
        let store = if is_zram { mm::PackedStore::in_ram() } else { mm::PackedStore::new() };
        return Ok(SwapConfig { bytes, latency, store: Box::new(store), kind, zswap_percent });
    };
    let file = SwapFile::open(path, plan.bytes)?;
    let bytes = file.page_bytes();
    let (store, kind) = (Box::new(file), SwapKind::File);
    Ok(SwapConfig { bytes, latency, store, kind, zswap_percent })
}

/// The program runs as who we are.
fn credentials() -> Credentials {
    let groups = rustix::process::getgroups().unwrap_or_default();
    Credentials {
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        groups: groups.into_iter().map(rustix::process::Gid::as_raw).collect(),
    }
}

fn boot_failure(error: BootError, geometry: Geometry) -> Failure {
    let message = error.to_string();
    let (kind, advice) = match &error {
        BootError::NotFound { program } if program.contains(&b'/') => {
            (FailureKind::NotFound, "check the path, as the guest sees it")
        }
        BootError::NotFound { .. } => (FailureKind::NotFound, "it is in no directory of PATH"),
        BootError::Exec { errno, .. } if *errno == Errno::ENOENT => {
            (FailureKind::NotFound, "the program or its interpreter is missing")
        }
        BootError::Exec { errno, .. } if *errno == Errno::ENOMEM => {
            (FailureKind::NotExecutable, "give more --ram")
        }
        BootError::Exec { errno, .. } if [Errno::ENOTDIR, Errno::EACCES].contains(errno) => {
            (FailureKind::NotExecutable, "check the path and its permissions")
        }
        BootError::Exec { .. } if matches!(geometry, Geometry::I386 | Geometry::Pae) => {
            (FailureKind::NotExecutable, "give an executable ELF file for i386 Linux")
        }
        BootError::Exec { .. } => {
            (FailureKind::NotExecutable, "give an executable ELF file for x86-64 or i386 Linux")
        }
        BootError::Ram(_) | BootError::Kernel(_) | BootError::Memory(_) => {
            (FailureKind::Own, "give another --ram")
        }
        BootError::Files { .. } => (FailureKind::Own, "check --root, --bind and --cwd"),
    };
    Failure { kind, message: format!("{message}; {advice}") }
}

/// The files that reports go to: opened before the run, so that a wrong name costs no run.
struct Outputs {
    text: Option<Target>,
    json: Option<Target>,
    trace: Option<(Trace, Name)>,
}

/// Where events go.
type Trace = TraceWriter<BufWriter<File>>;

/// Where a report goes.
enum Target {
    Stdout,
    Stderr,
    File(File, Name),
}

impl Outputs {
    fn open(plan: &RunPlan) -> Result<Self, Failure> {
        Ok(Self {
            text: match &plan.text {
                None => None,
                Some(TextTarget::Stderr) => Some(Target::Stderr),
                Some(TextTarget::File(path)) => Some(Target::create(path)?),
            },
            json: match &plan.json {
                None => None,
                Some(JsonTarget::Stdout) => Some(Target::Stdout),
                Some(JsonTarget::File(path)) => Some(Target::create(path)?),
            },
            trace: plan
                .trace
                .as_deref()
                .map(create)
                .transpose()?
                .map(|(file, name)| (TraceWriter::new(BufWriter::new(file)), name)),
        })
    }

    fn write(self, plan: &RunPlan, kernel: &Kernel) -> Result<(), Failure> {
        let cannot = |error: io::Error| Failure::own(format!("cannot write the report: {error}"));
        if let Some((mut trace, name)) = self.trace {
            trace.finish().and_then(|()| name.give()).map_err(cannot)?;
        }
        if self.text.is_none() && self.json.is_none() {
            return Ok(());
        }
        let run = kernel.report().expect("a run that has ended has a report");
        let report = Report::new(plan, run);
        if let Some(target) = self.json {
            target.write(&json::render(&report)).map_err(cannot)?;
        }
        match self.text {
            // The program may have closed its stderr, which is ours: that is no failure.
            Some(Target::Stderr) => drop(Target::Stderr.write(&text::render(&report))),
            Some(target) => target.write(&text::render(&report)).map_err(cannot)?,
            None => {}
        }
        Ok(())
    }
}

impl Target {
    fn write(self, text: &str) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().write_all(text.as_bytes()),
            Self::Stderr => io::stderr().write_all(text.as_bytes()),
            Self::File(mut file, name) => {
                file.write_all(text.as_bytes())?;
                name.give()
            }
        }
    }

    fn create(path: &Path) -> Result<Self, Failure> {
        create(path).map(|(file, name)| Self::File(file, name))
    }
}

fn create(path: &Path) -> Result<(File, Name), Failure> {
    output::create(path).map_err(|error| {
        Failure::own(format!("{}: cannot create: {error}; give another file", path.display()))
    })
}

/// Ends as the program ended.
fn end(outcome: Outcome, deadlock: &Deadlock) -> Result<ExitCode, Failure> {
    match outcome {
        Outcome::Exited(code) => Ok(ExitCode::from(code)),
        Outcome::Killed(signal) => raise(signal),
        Outcome::OutOfMemory => raise(9),
        Outcome::TimedOut => Ok(ExitCode::from(TIMED_OUT)),
        Outcome::Stuck { .. } => {
            Err(Failure::own(format!("deadlock: nothing can wake any task: {deadlock}")))
        }
    }
}

/// Dies of the signal, as the program did.
fn raise(signal: u8) -> Result<ExitCode, Failure> {
    // A core file would be ours, not the program's.
    let _ = rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: None });
    let _ = io::stdout().flush();
    if signal_hook::low_level::emulate_default_handler(signal.into()).is_err() {
        // A real-time signal: no crate of ours raises it safely. The shell of the host does, and
        // keeps our process.
        let script = format!("kill -{signal} $$");
        let _ = Command::new("/bin/sh").args(["-c", &script]).exec();
    }
    // What shells report for a death by a signal.
    Ok(ExitCode::from(signal.saturating_add(128)))
}

/// The home of the user who runs us: what is private there stays hidden.
fn home() -> Option<std::path::PathBuf> {
    std::env::var_os("HOME").map(Into::into)
}
