//! Plays the scenarios in `tests/scenarios` at the top of the repository.
//!
//! A scenario is a text: commands (see `world.rs`), a line `---`, and what each command caused. An
//! indented line is an event, or the refusal of the command. `UPDATE=1` writes that half anew; what
//! `expect` demands is checked in either case. After each command the invariants are checked, at
//! the end everything is freed and no frame may be missing.

#[path = "../bytes/mod.rs"]
mod bytes;
mod names;
mod world;

use std::path::{Path, PathBuf};
use std::{env, fs};

use world::World;

#[test]
fn scenarios_cause_what_they_say() {
    let failures: Vec<String> = scenarios().iter().filter_map(|path| check(path).err()).collect();
    assert!(failures.is_empty(), "\n{}", failures.join("\n"));
}

/// Each scenario again and again, with another allocation refused each time: until then each
/// command answers as without, the command that is refused says that memory is short and nothing
/// else, every invariant holds after each, and no frame is lost at the end.
#[test]
fn scenarios_survive_the_loss_of_any_allocation() {
    let (mut refused, mut told) = (0, 0);
    let paths = scenarios();
    assert!(paths.len() >= 30, "{} scenarios", paths.len());
    for path in &paths {
        let text = fs::read_to_string(path).expect("the scenario can be read");
        let commands = text.split_once("---\n").unwrap_or((&text, "")).0;
        let commands: Vec<&str> = commands
            .lines()
            .map(|line| line.split('#').next().unwrap_or_default().trim())
            .filter(|command| !command.is_empty())
            .collect();
        // Shown if the scenario panics.
        eprintln!("{}", path.display());
        let unrefused = lose(&commands, u64::MAX).expect("it works").answers;
        for count in 0.. {
            let lost = lose(&commands, count);
            let lost = lost.unwrap_or_else(|why| panic!("{}, {count}: {why}", path.display()));
            let Some(at) = lost.refused_at else { break };
            let name = format!("{}, allocation {count}: {}", path.display(), commands[at]);
            assert_eq!(lost.answers[..at], unrefused[..at], "{name}");
            let answer = &lost.answers[at];
            if *answer != unrefused[at] {
                let is_short = answer.as_deref().is_some_and(says_memory_is_short);
                assert!(is_short, "{name}: {answer:?}");
                told += 1;
            }
            refused += 1;
        }
    }
    assert!(refused > 300 && told > 200, "{refused} allocations were refused, {told} told");
}

/// What became of a scenario of which an allocation was refused.
struct Lost {
    /// What each command answered.
    answers: Vec<Option<String>>,
    /// The command that was refused a frame.
    refused_at: Option<usize>,
}

/// Plays commands with the allocation after `count` others refused.
fn lose(commands: &[&str], count: u64) -> Result<Lost, String> {
    let mut world = World::new();
    world.refuse_allocation(count);
    let mut lost = Lost { answers: Vec::new(), refused_at: None };
    for (at, command) in commands.iter().enumerate() {
        let answer = world.play_on(command).map_err(|why| format!("{command}: {why}"))?;
        lost.answers.push(answer);
        if world.has_refused() {
            lost.refused_at.get_or_insert(at);
        }
    }
    world.finish().map_err(|why| format!("at the end: {why}"))?;
    Ok(lost)
}

/// ENOMEM, EAGAIN of calls that lock or mark memory, the break that stays, and faults for which
/// somebody is killed.
fn says_memory_is_short(answer: &str) -> bool {
    ["= ENOMEM", "= EAGAIN", "= the old break"].contains(&answer)
        || answer.starts_with("= out of memory at ")
}

/// Every scenario, in order of its name.
fn scenarios() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/scenarios");
    let entries = fs::read_dir(&directory).expect("the scenarios are in the repository");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("the directory can be read").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "scn"));
    paths.sort();
    assert!(!paths.is_empty(), "no scenario in {}", directory.display());
    paths
}

/// Plays one scenario and compares, or writes anew with `UPDATE=1`.
fn check(path: &Path) -> Result<(), String> {
    let name = path.file_name().unwrap_or_default().display().to_string();
    let text = fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    let (commands, expected) = text.split_once("---\n").unwrap_or((&text, ""));
    // Shown if the scenario panics.
    eprintln!("{name}");
    let mut world = World::new();
    let mut found = String::new();
    for (number, line) in (1..).zip(commands.lines()) {
        let command = line.split('#').next().unwrap_or_default().trim();
        if command.is_empty() {
            continue;
        }
        let caused = world.play(command);
        let caused = caused.map_err(|error| format!("{name}:{number}: {command}: {error}"))?;
        if !caused.is_empty() {
            found.push_str(&format!("{command}\n"));
        }
        for line in caused {
            found.push_str(&format!("  {line}\n"));
        }
    }
    world.finish().map_err(|error| format!("{name}: at the end: {error}"))?;
    if found == expected {
        return Ok(());
    }
    if env::var_os("UPDATE").is_some() {
        let text = format!("{commands}---\n{found}");
        return fs::write(path, text).map_err(|error| format!("{name}: {error}"));
    }
    Err(format!("{name}: {}", first_difference(expected, &found)))
}

/// The first line that differs, with the line before it.
fn first_difference(expected: &str, found: &str) -> String {
    let same = expected.lines().zip(found.lines()).take_while(|(left, right)| left == right);
    let same_count = same.count();
    let line = |text: &str| text.lines().nth(same_count).unwrap_or("the end").to_owned();
    let before = same_count.checked_sub(1).and_then(|last| found.lines().nth(last));
    format!(
        "after {:?} expected {:?}, found {:?} (UPDATE=1 accepts it)",
        before.unwrap_or("the start"),
        line(expected),
        line(found)
    )
}
