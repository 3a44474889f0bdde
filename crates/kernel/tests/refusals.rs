//! A program whose machine refuses one frame, whichever: calls say ENOMEM or the like, or somebody
//! is killed for want of memory; nothing is wrong and nothing is lost.

mod common;

use std::path::Path;

use common::{boot, compile};
use kernel::{Outcome, RunReport};

/// Runs the program with the allocation after `count` others refused; whether one was.
fn lose(path: &Path, scenario: &str, count: u64) -> (RunReport, bool) {
    let mut kernel = boot(path, &[scenario]).expect("it can be loaded");
    kernel.memory.refuse_allocation(count);
    kernel.run();
    let was_refused = !kernel.memory.will_refuse();
    (kernel.report().expect("a finished run has a report").clone(), was_refused)
}

fn each_allocation_fails_once(scenario: &str) {
    let name = format!("refusals_{scenario}");
    let source = include_str!("guest/memory.c");
    let Some(path) = compile(&name, source, &["-O1", "-static"]) else { return };
    let (whole, was_refused) = lose(&path, scenario, u64::MAX);
    assert_eq!((whole.outcome, was_refused), (Outcome::Exited(0), false));
    let (mut told, mut killed, mut borne) = (0, 0, 0);
    for count in 0.. {
        let (report, was_refused) = lose(&path, scenario, count);
        assert_eq!(report.frames_leaked, 0, "{scenario}, allocation {count}");
        if !was_refused {
            break;
        }
        match report.outcome {
            Outcome::Exited(0) => borne += 1,
            Outcome::Exited(1) => told += 1,
            Outcome::OutOfMemory | Outcome::Killed(9) => killed += 1,
            // The old program is gone and the new one cannot be mapped (EXEC-1).
            Outcome::Killed(11) if scenario == "pipes" => killed += 1,
            other => panic!("{scenario}, allocation {count}: {other:?}"),
        }
    }
    eprintln!("{scenario}: {told} told, {killed} killed, {borne} borne");
    assert!(
        killed > 0 && told + killed > 10,
        "{scenario}: {told} told, {killed} killed, {borne} borne"
    );
}

#[test]
fn maps_and_locks() {
    each_allocation_fails_once("anonymous");
}

#[test]
fn copies_of_processes() {
    each_allocation_fails_once("forks");
}

#[test]
fn files_and_their_pages() {
    each_allocation_fails_once("files");
}

#[test]
fn pipes_and_new_programs() {
    each_allocation_fails_once("pipes");
}
