//! Cachegrind as a TLB simulator: a cache of 64 lines of 4,096 bytes is a TLB of 64 entries. Its
//! misses stand beside ours under the same geometry.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Tools;
use super::guests::{Guest, work};

/// The geometry of `--D1=262144,4,4096 --I1=262144,4,4096`.
const TLB: &str = "\
name = \"cachegrind\"\n\
source = \"64 entries, 4 ways, nothing behind them\"\n\
[l1d]\nk4 = { entries = 64, ways = 4 }\n\
[l1i]\nk4 = { entries = 64, ways = 4 }\n";

/// The line with both counts, if cachegrind ran; `said` is what it printed.
pub(super) fn compare(guest: &Guest, tools: &Tools, said: &str) -> Result<Option<String>, String> {
    let (Some(theirs_data), Some(theirs_code)) = (misses(said, "D1"), misses(said, "I1")) else {
        return Ok(None);
    };
    let report = ours(guest, tools)?;
    let count = |level: &str| report["tlb"][level]["misses"].as_u64().unwrap_or(0);
    let (ours_data, ours_code) = (count("l1d"), count("l1i"));
    Ok(Some(format!(
        "  misses of 64 entries, 4 ways: data {ours_data}, cachegrind {theirs_data}; \
         code {ours_code}, cachegrind {theirs_code}"
    )))
}

/// The number behind `NAME  misses:`.
fn misses(said: &str, name: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains(name) && line.contains(" misses:"))?;
    let number = line.split(" misses:").nth(1)?.split('(').next()?;
    number.replace(',', "").trim().parse().ok()
}

/// Our report under the same geometry.
fn ours(guest: &Guest, tools: &Tools) -> Result<Value, String> {
    let (tlb, json) = (work()?.join("cachegrind.toml"), work()?.join("cachegrind.json"));
    fs::write(&tlb, TLB).map_err(|error| format!("{tlb:?}: {error}"))?;
    let mut command = Command::new(&tools.faultline);
    command.args(["run", "--report", "none", "--tlb"]).arg(&tlb).arg("--json").arg(&json);
    command.arg("--").args(&guest.command).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(stdin) = &guest.stdin {
        let file = fs::File::open(stdin).map_err(|error| format!("{stdin:?}: {error}"))?;
        command.stdin(file);
    }
    command.status().map_err(|error| format!("{command:?}: {error}"))?;
    let text = fs::read_to_string(&json).map_err(|error| format!("{json:?}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{json:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_of_cachegrind_are_read() {
        let said = "==7== I1  misses:          1,234\n\
                    ==7== D1  misses:          5,678  (  3,000 rd   +  2,678 wr)\n";
        assert_eq!((misses(said, "D1"), misses(said, "I1")), (Some(5678), Some(1234)));
        assert_eq!(misses("", "D1"), None);
    }
}
