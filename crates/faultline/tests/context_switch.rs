//! What context switches do to the TLBs: with tags entries stay, without they are lost.

mod common;

use std::path::Path;

use common::Guest;
use serde_json::Value;

/// Two processes that hand a byte to and fro, 500 times.
const SCRIPT: &str = "import os\n\
    there, back = os.pipe(), os.pipe()\n\
    child = os.fork() == 0\n\
    for i in range(500):\n\
    \x20   if child: os.write(back[1], os.read(there[0], 1))\n\
    \x20   else:\n\
    \x20       os.write(there[1], b'x')\n\
    \x20       os.read(back[0], 1)\n\
    if not child: os.wait()\n";

fn figures(pcid: &str, more: &[&str]) -> Value {
    let guest = Guest::new(["/usr/bin/python3", "-S", "-c", SCRIPT]);
    let options = ["--boot-time", "1700000000", "--pcid", pcid];
    let (ran, report, _) = guest.options(options.iter().chain(more)).inside_with_json();
    assert_eq!(ran.code(), Some(0), "{ran:?}");
    report
}

#[test]
fn tags_save_the_refills_after_a_switch() {
    if !Path::new("/usr/bin/python3").exists() {
        return common::skip("python3 is not installed");
    }
    let (tagged, flushed) = (figures("on", &[]), figures("off", &[]));
    let switches = |report: &Value| report["processes"]["switches"]["spaces"].as_u64();
    let lost = |report: &Value| report["processes"]["switches"]["entries_lost"].as_u64();
    let walks = |report: &Value| report["tlb"]["l2"]["misses"].as_u64().unwrap_or(0);
    assert!(switches(&tagged) >= Some(1000), "{tagged:#}");
    assert_eq!(switches(&tagged), switches(&flushed));
    assert_eq!(lost(&tagged), Some(0), "two spaces have tags enough");
    // A page that is used on both sides of a switch is lost and refilled every time.
    assert!(lost(&flushed) > Some(10_000), "{flushed:#}");
    assert!(walks(&flushed) > walks(&tagged) + 10_000, "{flushed:#}");
    assert_eq!(tagged["accesses"], flushed["accesses"], "the programs do the same");
}

#[test]
fn switches_count_the_same_in_reference_mode() {
    if !Path::new("/usr/bin/python3").exists() {
        return common::skip("python3 is not installed");
    }
    for pcid in ["on", "off"] {
        let (fast, reference) = (figures(pcid, &[]), figures(pcid, &["--reference"]));
        for key in ["tlb", "accesses", "processes", "log_hash"] {
            assert_eq!(fast[key], reference[key], "{key} with pcid {pcid}");
        }
    }
}
