//! The program `faultline`: arguments in, a run, reports out.
//!
//! Nouns: [`args::low`] (what was typed), [`args::high::RunPlan`] (what it means),
//! [`report::Report`] (the figures), [`failure::Failure`] (one line and an exit code).
//!
//! Deliberately not here: anything that a run depends on and a caller of the crates below could not
//! do as well. The only clock that is read is the host's date, for the default of `--boot-time`.
#![forbid(unsafe_code)]

mod args;
mod elf;
mod explain;
mod failure;
mod keys;
mod machine;
mod output;
mod policy;
mod report;
mod run;
mod swap_file;
mod words;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use args::high::{Host, RunPlan};
use args::low::{Cli, Command, Machine, Policy};
use failure::Failure;

fn main() -> ExitCode {
    let done = match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command),
        Err(error) => help_or_line(&error),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            // Nobody is left to hear of a stderr that cannot be written.
            let _ = writeln!(io::stderr(), "{failure}");
            ExitCode::from(failure.kind.code())
        }
    }
}

fn dispatch(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Run(typed) => {
            let plan = RunPlan::new(*typed, &host())?;
            keys::away_from_handlers(|| run::run(plan))
        }
        Command::Explain(typed) => explain::explain(&typed).map(|()| ExitCode::SUCCESS),
        Command::Elf(typed) => elf::show(&typed).map(|()| ExitCode::SUCCESS),
        Command::Policy(Policy::List { names }) => policy::list(names).map(|()| ExitCode::SUCCESS),
        Command::Machine(Machine::List { json }) => machine::list(json).map(|()| ExitCode::SUCCESS),
        Command::Machine(Machine::Show { name, json }) => {
            machine::show(&name, json).map(|()| ExitCode::SUCCESS)
        }
    }
}

/// Help and version as they are; an error in one line.
fn help_or_line(error: &clap::Error) -> Result<ExitCode, Failure> {
    if !error.use_stderr() {
        // The reader may have gone, as `head` does.
        let _ = error.print();
        return Ok(ExitCode::SUCCESS);
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return Err(Failure::own("no command given; see --help"));
    }
    let text = error.render().to_string();
    let said = text.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let parts: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
    let message = parts.join(" ");
    let message = message.strip_prefix("error: ").unwrap_or(&message);
    let message = message.split(" For more information").next().unwrap_or(message);
    let message = message.replace("invalid digit found in string", "give a whole number from 0 on");
    Err(Failure::own(format!("{message}; see --help")))
}

fn host() -> Host {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Host {
        variables: std::env::vars_os().collect(),
        directory: std::env::current_dir().ok(),
        now_seconds: u64::try_from(now.tv_sec).unwrap_or(0),
    }
}
