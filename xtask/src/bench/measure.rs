//! Processor time and peak memory of one command: a process of our own waits for it alone, so that
//! the host's figures for "children" are the command's.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use serde_json::{Value, json};

use super::host;
use crate::Done;

/// Where a command runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// On any processor.
    Any,
    /// On the one that has most of its core to itself, where the host lets us choose.
    Widest,
}

/// What a command used.
#[derive(Clone, Copy, PartialEq, PartialOrd, Debug)]
pub(crate) struct Usage {
    /// User plus system time, microseconds.
    pub(crate) cpu_us: i64,
    /// Largest resident set, KiB.
    pub(crate) peak_kib: i64,
    /// How many instructions in a cycle its processor could run, before or behind it, if it had one
    /// of its own.
    pub(crate) width: Option<f64>,
}

/// Runs the command and prints what it used.
///
/// # Errors
/// It cannot be run, or fails.
pub(crate) fn measure(
    stdin: Option<&Path>,
    stderr: Stdio,
    place: Place,
    command: &[String],
) -> Done {
    let (program, arguments) = command.split_first().ok_or("no command")?;
    let stdin = match stdin {
        Some(path) => File::open(path).map_err(|error| format!("{path:?}: {error}"))?.into(),
        None => Stdio::null(),
    };
    let before = match place {
        Place::Any => None,
        Place::Widest => host::pin().ok(),
    };
    let status = Command::new(program)
        .args(arguments)
        .stdin(stdin)
        .stdout(Stdio::null())
        .stderr(stderr)
        .status()
        .map_err(|error| format!("{program}: {error}"))?;
    let usage =
        getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| format!("getrusage: {error}"))?;
    let cpu_us = (usage.user_time() + usage.system_time()).num_microseconds();
    let used = json!({
        "cpu_us": cpu_us,
        "peak_kib": usage.max_rss(),
        "width": before.map(|before| before.min(host::width())),
        "is_ok": status.success(),
    });
    println!("{used}");
    Ok(())
}

/// Measures a command in a process of its own; also what it wrote to standard error.
pub(super) fn spawn(
    command: &[String],
    stdin: Option<&Path>,
    place: Place,
) -> Result<(Usage, String), String> {
    let own = std::env::current_exe().map_err(|error| format!("our own program: {error}"))?;
    let mut helper = Command::new(own);
    helper.args(["measure", "--errors"]);
    if place == Place::Widest {
        helper.arg("--pin");
    }
    if let Some(stdin) = stdin {
        helper.arg("--stdin").arg(stdin);
    }
    let output = helper.arg("--").args(command).output();
    let output = output.map_err(|error| format!("{command:?}: {error}"))?;
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    let value: Value = serde_json::from_slice(&output.stdout)
        .map_err(|error| format!("{command:?}: {error}: {errors}"))?;
    if value["is_ok"] != true {
        return Err(format!("failed: {}: {errors}", command.join(" ")));
    }
    let number = |key: &str| value[key].as_i64().ok_or(format!("{command:?}: no {key}"));
    let (cpu_us, peak_kib) = (number("cpu_us")?, number("peak_kib")?);
    Ok((Usage { cpu_us, peak_kib, width: value["width"].as_f64() }, errors))
}

/// The median by time.
pub(super) fn median(mut samples: Vec<Usage>) -> Option<Usage> {
    samples.sort_by_key(|usage| usage.cpu_us);
    // Of two the lower: what disturbs a run makes it longer.
    let middle = samples.len().saturating_sub(1) / 2;
    samples.get(middle).copied()
}
