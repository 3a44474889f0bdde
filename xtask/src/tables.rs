//! Tables of the book that take minutes: `cargo xtask tables ram`.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Subcommand;
use serde_json::Value;

use crate::bench::guests::{self, Group, Guest};
use crate::{Done, cargo, run, target, top};

/// What can be made.
#[derive(Debug, Subcommand)]
pub(crate) enum Tables {
    /// Major faults and time lost at eight sizes of RAM; put into docs/book/3-more-than-ram.md
    Ram {
        /// The replacement policy
        #[arg(long)]
        policy: Option<String>,
        /// Only print it
        #[arg(long)]
        print: bool,
    },
}

/// RAM as a share of the most that the program had resident, in percent.
const SHARES: [u64; 8] = [150, 100, 85, 70, 60, 50, 35, 25];
/// The guests of the bench that are run.
const GUESTS: [&str; 4] = ["python", "sqlite3", "sort", "cc1"];
/// Between these lines of the chapter the table stands.
const MARKS: [&str; 2] = ["<!-- cargo xtask tables ram -->\n", "<!-- end -->\n"];
const CHAPTER: &str = "docs/book/3-more-than-ram.md";

/// One run.
struct Ran {
    peak_bytes: u64,
    major_faults: u64,
    virtual_ns: u64,
    stdout: Vec<u8>,
}

/// Makes a table.
pub(crate) fn tables(which: &Tables) -> Done {
    let Tables::Ram { policy, print } = which;
    run("build", cargo().args(["build", "--release", "--package", "faultline"]))?;
    let programs = guests::all(Group::Programs)?;
    let chosen = GUESTS.map(|name| programs.iter().find(|guest| guest.name.starts_with(name)));
    let mut table = heading();
    for guest in chosen.into_iter().flatten() {
        table += &rows(guest, policy.as_deref())?;
    }
    if *print {
        println!("{table}");
        return Ok(());
    }
    let chapter = top().join(CHAPTER);
    let text = fs::read_to_string(&chapter).map_err(|error| format!("{CHAPTER}: {error}"))?;
    let (before, rest) = text.split_once(MARKS[0]).ok_or("the chapter has no mark")?;
    let (_, after) = rest.split_once(MARKS[1]).ok_or("the chapter has no end mark")?;
    let text = format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]);
    fs::write(&chapter, text).map_err(|error| format!("{CHAPTER}: {error}"))
}

fn heading() -> String {
    let sizes: String = SHARES.iter().map(|share| format!(" {share} % |")).collect();
    let columns: String = SHARES.iter().map(|_| "--:|").collect();
    format!("| program, peak RSS | |{sizes}\n|---|---|{columns}\n")
}

/// The rows of a program: major faults, and how much longer it takes than with room for all.
fn rows(guest: &Guest, policy: Option<&str>) -> Result<String, String> {
    let roomy = start(guest, 4 << 30, policy)?;
    let name = guest.name.split(' ').next().unwrap_or_default();
    let mut faults = format!("| {name}, {} MiB | major faults |", roomy.peak_bytes >> 20);
    let mut lost = String::from("| | time lost, ms |");
    for share in SHARES {
        let bytes = (roomy.peak_bytes * share / 100).max(1 << 20) & !4095;
        let ran = start(guest, bytes, policy)?;
        if ran.stdout != roomy.stdout {
            return Err(format!("{name} with {} MiB prints something else", bytes >> 20));
        }
        let more_ns = ran.virtual_ns.saturating_sub(roomy.virtual_ns);
        write!(faults, " {} |", ran.major_faults).expect("a string takes it");
        write!(lost, " {} |", more_ns / 1_000_000).expect("a string takes it");
    }
    Ok(format!("{faults}\n{lost}\n"))
}

fn start(guest: &Guest, ram_bytes: u64, policy: Option<&str>) -> Result<Ran, String> {
    let json: PathBuf = guests::work()?.join("tables.json");
    let mut command = Command::new(target().join("release/faultline"));
    command.args(["run", "--report", "none", "--swap", "1G", "--boot-time", "1700000000"]);
    command.arg(format!("--ram={ram_bytes}")).arg("--json").arg(&json);
    command.args(policy.map(|policy| format!("--policy={policy}")));
    // What the compiler writes is its result.
    let words = guest.command.iter().map(|word| if word == "/dev/null" { "-" } else { word });
    command.arg("--").args(words).stdin(match &guest.stdin {
        Some(file) => fs::File::open(file).map_err(|error| format!("{file:?}: {error}"))?.into(),
        None => Stdio::null(),
    });
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{} with {ram_bytes} bytes: {}: {said}", guest.name, output.status));
    }
    let bytes = fs::read(&json).map_err(|error| format!("{json:?}: {error}"))?;
    let report: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    let at = |path: &str| {
        report.pointer(path).and_then(Value::as_u64).ok_or_else(|| format!("no {path}"))
    };
    Ok(Ran {
        peak_bytes: at("/memory/rss_peak_bytes")?,
        major_faults: at("/faults/major")?,
        virtual_ns: at("/virtual_ns")?,
        stdout: output.stdout,
    })
}
