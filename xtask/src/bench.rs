//! The bench: the same unmodified binaries natively, under qemu-user, under cachegrind and inside.
//!
//! Each round runs all ways in turn; what counts is user plus system processor time of the process,
//! and the median over the rounds. A run during which another guest of the host took part of the
//! core (`bench/host.rs`) is made again, at most twice as many in all; where that did not help, the
//! line says so.

mod cachegrind;
pub(crate) mod guests;
mod host;
mod measure;
mod micro;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use serde_json::Value;

use crate::{Done, cargo, run, target};
pub(crate) use measure::{Place, measure};

use guests::{Group, Guest};
use host::Host;
use measure::Usage;
use table::Table;

/// Options of the bench.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Fewer rounds
    #[arg(long)]
    quick: bool,
    /// Rounds [default: 5, or 2 with --quick]
    #[arg(long)]
    rounds: Option<usize>,
    /// Only the guests whose group or name contains this
    #[arg(long)]
    only: Option<String>,
    /// Leave out qemu-user and cachegrind
    #[arg(long)]
    ours_only: bool,
}

/// A way to run a guest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Way {
    Native,
    /// Exact TLB model.
    Exact,
    /// `--tlb off`.
    TlbOff,
    Qemu,
    Cachegrind,
}

impl Way {
    const ALL: [Self; 5] = [Self::Native, Self::Exact, Self::TlbOff, Self::Qemu, Self::Cachegrind];
}

/// Runs the bench and prints the table.
pub(crate) fn bench(options: &Options) -> Done {
    run("build", cargo().args(["build", "--release", "--package", "faultline"]))?;
    let tools = Tools::find(options)?;
    let rounds = options.rounds.unwrap_or(if options.quick { 2 } else { 5 }).max(1);
    let mut table = Table::default();
    let mut host = Host::new();
    for group in Group::ALL {
        let guests = guests::all(group)?;
        let chosen = guests.iter().filter(|guest| guest.matches(options.only.as_deref()));
        let mut is_first = true;
        for guest in chosen {
            if std::mem::take(&mut is_first) {
                table.start(group);
            }
            let sampled = sample(guest, &tools, &mut host, rounds)?;
            table.add(guest, &sampled, tools.guest_peak_bytes());
            if let Some(line) = cachegrind::compare(guest, &tools, &sampled.said)? {
                println!("{line}");
            }
        }
        table.finish_group(group);
    }
    if let Some(line) = host.line() {
        println!("\n{line}");
    }
    if options.only.as_ref().is_none_or(|only| "micro".contains(only.as_str())) {
        micro::translation(&tools, rounds)?;
        micro::examples()?;
    }
    Ok(())
}

/// The programs that run guests.
pub(crate) struct Tools {
    faultline: PathBuf,
    qemu: Option<PathBuf>,
    valgrind: Option<PathBuf>,
    /// Where our runs put their reports.
    json: PathBuf,
}

impl Tools {
    fn find(options: &Options) -> Result<Self, String> {
        let find = |path: &str| {
            let path = PathBuf::from(path);
            (path.exists() && !options.ours_only).then_some(path)
        };
        Ok(Self {
            faultline: target().join("release/faultline"),
            qemu: find("/usr/bin/qemu-x86_64"),
            valgrind: find("/usr/bin/valgrind"),
            json: guests::work()?.join("report.json"),
        })
    }

    /// Our command line up to the program, if `way` is ours.
    fn ours(&self, way: Way) -> Result<Vec<String>, String> {
        let options: &[&str] = match way {
            Way::Exact => &["--json"],
            Way::TlbOff => &["--tlb", "off", "--json"],
            Way::Native | Way::Qemu | Way::Cachegrind => {
                return Err(format!("{way:?} is not ours"));
            }
        };
        let mut command = vec![text(&self.faultline), "run".into()];
        command.extend(["--report", "none"].iter().chain(options).map(|each| (*each).into()));
        command.extend([text(&self.json), "--".into()]);
        Ok(command)
    }

    /// The largest resident set of the last guest that ran inside; of several processes, all that
    /// they had in RAM together.
    fn guest_peak_bytes(&self) -> Option<u64> {
        const FRAME_BYTES: u64 = 4096;
        let report: Value = serde_json::from_slice(&std::fs::read(&self.json).ok()?).ok()?;
        let at = |path: &str| report.pointer(path)?.as_u64();
        match at("/processes/count")? {
            1 => at("/memory/rss_peak_bytes"),
            _ => Some(at("/memory/frames_used_peak")? * FRAME_BYTES),
        }
    }

    /// The command line that runs the guest this way, if that can and should be.
    fn command(&self, way: Way, guest: &Guest) -> Option<Vec<String>> {
        let mut command = match way {
            Way::Native => Vec::new(),
            Way::Exact | Way::TlbOff => self.ours(way).ok()?,
            Way::Qemu if !matches!(guest.group, Group::Memory | Group::Processes) => {
                vec![text(self.qemu.as_ref()?)]
            }
            Way::Cachegrind if guest.is_for_cachegrind => [
                &text(self.valgrind.as_ref()?),
                "--tool=cachegrind",
                "--cache-sim=yes",
                "--D1=262144,4,4096",
                "--I1=262144,4,4096",
                "--cachegrind-out-file=/dev/null",
            ]
            .map(str::to_owned)
            .into(),
            Way::Qemu | Way::Cachegrind => return None,
        };
        command.extend(guest.command.iter().cloned());
        Some(command)
    }
}

/// A run of more than this is not made again: over so long a time there is always somebody.
const REPEATED_US_MAX: i64 = 10_000_000;

/// What the runs of a guest gave.
pub(crate) struct Sampled {
    /// The median of each way, in the order of [`Way::ALL`].
    uses: [Option<Usage>; 5],
    /// Whether some way had no run with a core to itself.
    is_disturbed: bool,
    /// What cachegrind said.
    said: String,
}

/// Runs a guest in all ways in turn until each has so many quiet rounds, at most twice as often.
/// The medians are those of the quiet rounds, if there are any.
fn sample(guest: &Guest, tools: &Tools, host: &mut Host, rounds: usize) -> Result<Sampled, String> {
    // Several processes at once need all processors.
    let place = if guest.group == Group::Processes { Place::Any } else { Place::Widest };
    let mut quiet: [Vec<Usage>; 5] = Default::default();
    let mut all: [Vec<Usage>; 5] = Default::default();
    let mut said = String::new();
    for round in 0..2 * rounds {
        for (index, way) in Way::ALL.into_iter().enumerate() {
            // Cachegrind is too slow to be run more than once.
            let is_long = all[index].last().is_some_and(|last| last.cpu_us > REPEATED_US_MAX);
            let is_done = quiet[index].len() == rounds
                || round >= rounds && is_long
                || way == Way::Cachegrind && round > 0;
            let Some(command) = tools.command(way, guest).filter(|_| !is_done) else { continue };
            let (usage, errors) = measure::spawn(&command, guest.stdin.as_deref(), place)?;
            if way == Way::Cachegrind {
                said = errors;
            }
            all[index].push(usage);
            if usage.width.is_none_or(|width| host.is_quiet(width)) {
                quiet[index].push(usage);
            }
        }
    }
    let mut compared = (0..Way::ALL.len()).filter(|index| Way::ALL[*index] != Way::Cachegrind);
    let is_disturbed = compared.any(|index| quiet[index].is_empty() && !all[index].is_empty());
    let mut uses = quiet.map(measure::median);
    for (median, all) in uses.iter_mut().zip(all) {
        *median = median.or_else(|| measure::median(all));
    }
    Ok(Sampled { uses, is_disturbed, said })
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Runs a command for its output.
fn output(command: &mut Command) -> Result<Vec<u8>, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr))),
    }
}
