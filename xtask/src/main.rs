//! The project's own chores: `cargo xtask test | check | ci | tidy | bench | tables | model`.
//!
//! Everything that CI does is here, so that everybody can do exactly the same.
#![allow(clippy::print_stdout, reason = "what a chore says is what it is run for")]

mod bench;
mod packages;
mod tables;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::{Parser, Subcommand};

/// The chores of the project.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about)]
struct Cli {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Debug, Subcommand)]
enum Chore {
    /// What CI runs: install the packages that the tests use, where missing; check format and house
    /// rules; run every test
    Test,
    /// What a change must also pass: format, lints, tidy, no_std build, documentation
    Check,
    /// Check, then test
    Ci,
    /// The house rules that no lint knows
    Tidy,
    /// Compare with native, qemu-user and cachegrind
    Bench(bench::Options),
    /// Make the tables of the book
    #[command(subcommand)]
    Tables(tables::Tables),
    /// Play random memory operations in 64 to 1,024 frames with swap against the naive model, with
    /// every invariant checked after each
    Model {
        /// How many; a million takes some minutes
        #[arg(long, default_value_t = 1_000_000)]
        steps: u64,
    },
    /// Run one command and print its use of the processor and memory as JSON
    #[command(hide = true)]
    Measure {
        /// Standard input of the command
        #[arg(long)]
        stdin: Option<PathBuf>,
        /// Let its standard error through
        #[arg(long)]
        errors: bool,
        /// Run it on the processor that has most of its core to itself
        #[arg(long)]
        pin: bool,
        /// The command
        #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
}

fn main() -> ExitCode {
    let done = match Cli::parse().chore {
        Chore::Test => test(),
        Chore::Check => check(),
        Chore::Ci => check().and_then(|()| test()),
        Chore::Tidy => tidy::tidy(),
        Chore::Bench(options) => bench::bench(&options),
        Chore::Tables(which) => tables::tables(&which),
        Chore::Model { steps } => model(steps),
        Chore::Measure { stdin, errors, pin, command } => {
            let stderr = if errors { Stdio::inherit() } else { Stdio::null() };
            let place = if pin { bench::Place::Widest } else { bench::Place::Any };
            bench::measure(stdin.as_deref(), stderr, place, &command)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// How a chore ends: well, or with one line that says why not.
type Done = Result<(), String>;

/// The top directory of the project.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask is one level below the top")
}

/// Runs all tests whatever fails, and says at the end what did.
fn test() -> Done {
    packages::install();
    let form = format_if_possible().and_then(|()| tidy::tidy());
    if let Err(message) = &form {
        eprintln!("xtask: {message}");
    }
    run("build", cargo().args(["build", "--release", "--workspace"]))?;
    // With all assertions: a test compares what both builds report.
    run("debug build", cargo().args(["build", "--package", "faultline"]))?;
    let mut tests = cargo();
    tests.args(["test", "--release", "--workspace", "--no-fail-fast"]);
    tests.env("FAULTLINE_DEBUG_BUILD", target().join("debug/faultline"));
    form.and(run("test", &mut tests))
}

fn model(steps: u64) -> Done {
    let mut test = cargo();
    test.args(["test", "--release", "--package", "mm", "--test", "model", "random_steps"]);
    test.args(["--", "--nocapture"]).env("MODEL_STEPS", steps.to_string());
    run("model", &mut test)
}

fn format_if_possible() -> Done {
    let version = cargo().args(["fmt", "--version"]).output();
    if !version.is_ok_and(|output| output.status.success()) {
        println!("rustfmt is not installed: the format is NOT CHECKED");
        return Ok(());
    }
    format()
}

fn format() -> Done {
    run("format", cargo().args(["fmt", "--all", "--check"]))
}

fn check() -> Done {
    format()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--release", "--", "-D", "warnings"];
    run("clippy", cargo().args(clippy))?;
    tidy::tidy()?;
    no_std()?;
    let mut documentation = cargo();
    // The texts are for those who work here: they may name what is private.
    documentation.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private_intra_doc_links");
    run("documentation", documentation.args(["doc", "--workspace", "--no-deps", "--release"]))
}

/// Where cargo puts what it builds.
fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or(top().join("target"), PathBuf::from)
}

/// Builds the crates that promise `no_std`, for a target without `std` where it is installed.
fn no_std() -> Done {
    const TARGET: &str = "x86_64-unknown-none";
    let mut build = cargo();
    build.args(["build", "--release", "--package", "machine", "--package", "mm"]);
    let library =
        Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output();
    let directory = library.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    if directory.is_ok_and(|directory| Path::new(&directory).exists()) {
        build.args(["--target", TARGET]);
    }
    run("no_std build", &mut build)
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(top());
    command
}

/// Runs a command whose output everybody may see.
fn run(name: &str, command: &mut Command) -> Done {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{name} failed: {status}")),
        Err(error) => Err(format!("{name}: cannot run {:?}: {error}", command.get_program())),
    }
}
