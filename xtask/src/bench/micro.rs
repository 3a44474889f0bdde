//! What single operations cost: the examples of the crates, and the translation of an instruction.

use std::process::Command;

use super::{Place, Tools, Way, guests, measure, text};
use crate::{Done, cargo, run, top};

/// Programs that measure their crate: crate, example.
const EXAMPLES: [(&str, &str); 5] = [
    ("machine", "walk_cost"),
    ("mm", "mm_cost"),
    ("mm", "vma_cost"),
    ("mm", "fork_cost"),
    ("mm", "reclaim_cost"),
];
/// Instructions of `programs/translate.c`.
const INSTRUCTIONS: f64 = 1e6;

/// Runs the examples, which print their figures.
pub(super) fn examples() -> Done {
    for (package, example) in EXAMPLES {
        println!("\n{example}: cargo run --release --package {package} --example {example}");
        let arguments = ["run", "--quiet", "--release", "--package", package, "--example"];
        run(example, cargo().args(arguments).arg(example))?;
    }
    Ok(())
}

/// Prints what translating one guest instruction costs: the least of some runs of a program that
/// executes a million of them once, less what it costs without them.
pub(super) fn translation(tools: &Tools, rounds: usize) -> Done {
    let program = guests::work()?.join("translate");
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-static", "-o"]).arg(&program);
    super::output(compiler.arg(top().join("programs/translate.c")))?;
    let least = |arguments: &[&str]| {
        let mut least = i64::MAX;
        for _ in 0..rounds {
            let mut command = tools.ours(Way::Exact)?;
            command.push(text(&program));
            command.extend(arguments.iter().map(|each| (*each).to_owned()));
            least = least.min(measure::spawn(&command, None, Place::Widest)?.0.cpu_us);
        }
        Ok::<f64, String>(least as f64)
    };
    let cost = (least(&[])? - least(&["nothing"])?) / INSTRUCTIONS;
    println!("\ntranslating one guest instruction: {cost:.2} us (goal: 0.5 us)");
    Ok(())
}
