//! The book tells the truth: every command of `docs/book/*.md` is run, and prints what stands
//! there.
//!
//! A block marked `console` holds commands behind `$ ` (a line that ends with a backslash goes on
//! behind `> `) and what they print, both streams together. There, `...` alone in a line stands for
//! any number of lines, and inside a line for any text. Words behind the mark that begin with a
//! slash are programs that the block needs. A block whose mark is a language and the name of a file
//! is that file. The blocks of a chapter share a directory, which is empty at first.

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{ENVIRONMENT, fresh, installed, programs};

/// What a chapter has for the test.
#[derive(PartialEq, Eq, Debug)]
enum Block {
    /// A file: its name and text.
    File(String, String),
    /// Commands with their output, and the programs that they need.
    Console(Vec<Step>, Vec<String>),
}

/// One command.
#[derive(PartialEq, Eq, Debug)]
struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
}

/// The blocks of a chapter, in order.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line));
    while let Some((_, line)) = lines.next() {
        let Some(mark) = line.strip_prefix("```") else { continue };
        let inside: Vec<(usize, &str)> =
            lines.by_ref().take_while(|(_, line)| !line.starts_with("```")).collect();
        let words: Vec<&str> = mark.split_whitespace().collect();
        match words.as_slice() {
            ["console", needs @ ..] => {
                let needs = needs.iter().map(|need| (*need).to_owned()).collect();
                blocks.push(Block::Console(steps(&inside), needs));
            }
            [_, name] => {
                let text: String = inside.iter().map(|(_, line)| format!("{line}\n")).collect();
                blocks.push(Block::File((*name).to_owned(), text));
            }
            _ => {}
        }
    }
    blocks
}

fn steps(lines: &[(usize, &str)]) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for &(number, line) in lines {
        if let Some(command) = line.strip_prefix("$ ") {
            steps.push(Step { line: number, command: command.to_owned(), expected: Vec::new() });
            continue;
        }
        let step = steps.last_mut().unwrap_or_else(|| panic!("line {number}: no command before"));
        match line.strip_prefix("> ") {
            Some(more) if step.command.ends_with('\\') && step.expected.is_empty() => {
                step.command.push('\n');
                step.command.push_str(more);
            }
            _ => step.expected.push(line.trim_end().to_owned()),
        }
    }
    steps
}

/// Whether lines are as expected, with `...` for anything.
fn matches(expected: &[String], lines: &[&str]) -> bool {
    match (expected.split_first(), lines.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "..." => {
            (0..=lines.len()).any(|skipped| matches(rest, &lines[skipped..]))
        }
        (Some((first, rest)), Some((line, more))) => {
            matches_line(first, line.trim_end()) && matches(rest, more)
        }
        _ => false,
    }
}

fn matches_line(expected: &str, line: &str) -> bool {
    let mut parts = expected.split("...");
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// Runs a command in the chapter's directory, and returns what it prints.
fn shell(command: &str, directory: &Path, bin: &Path) -> String {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("exec 2>&1\n{command}")]);
    shell.env_clear().envs(ENVIRONMENT).current_dir(directory).stdin(Stdio::null());
    shell.env("PATH", format!("{}:/usr/bin:/bin", bin.display()));
    let output = shell.output().expect("every host has a shell");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Runs the commands of a chapter and returns what was wrong.
fn check(chapter: &Path) -> Vec<String> {
    let text = fs::read_to_string(chapter).expect("the chapter is readable");
    let name = chapter.file_name().unwrap_or_default().to_string_lossy();
    let (directory, bin) = (fresh("chapter"), fresh("bin"));
    for made in [&directory, &bin] {
        fs::create_dir_all(made).expect("the target can be written");
    }
    symlink(env!("CARGO_BIN_EXE_faultline"), bin.join("faultline")).expect("it is new");
    let mut wrong = Vec::new();
    for block in blocks(&text) {
        let (steps, needs) = match block {
            Block::File(file, text) => {
                fs::write(directory.join(file), text).expect("the target can be written");
                continue;
            }
            Block::Console(steps, needs) => (steps, needs),
        };
        if needs.iter().any(|need| installed(need).is_none()) {
            continue;
        }
        for step in steps {
            let printed = shell(&step.command, &directory, &bin);
            let lines: Vec<&str> = printed.lines().collect();
            if !matches(&step.expected, &lines) {
                let expected = step.expected.join("\n");
                wrong.push(format!(
                    "{name}, line {}: $ {}\n-- expected\n{expected}\n-- printed\n{printed}",
                    step.line, step.command
                ));
            }
        }
    }
    fs::remove_dir_all(directory).expect("it is ours");
    fs::remove_dir_all(bin).expect("it is ours");
    wrong
}

#[test]
fn every_command_of_the_book_prints_what_the_book_says() {
    let book = programs().join("../docs/book");
    let files = fs::read_dir(book).expect("the book is there");
    let mut chapters: Vec<PathBuf> = files.filter_map(|file| Some(file.ok()?.path())).collect();
    chapters.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    chapters.sort();
    assert!(chapters.len() >= 4, "{chapters:?}");
    let wrong: Vec<String> = chapters.iter().flat_map(|chapter| check(chapter)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn three_dots_stand_for_lines_and_for_parts_of_lines() {
    let all = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let is =
        |expected: &str, text: &str| matches(&all(expected), &text.lines().collect::<Vec<_>>());
    assert!(is("a\n...\nd", "a\nb\nc\nd") && is("a\n...\nd", "a\nd") && is("...", ""));
    assert!(!is("a\n...\nd", "a\nb\nc") && !is("a", "a\nb") && !is("a\nb", "a") && !is("", "a"));
    assert!(is("x ... y", "x 12 y") && is("...y", "y") && is("a...b...c", "a1b2bc"));
    assert!(!is("x ... y", "x 12 z") && !is("a...b...c", "a1c") && !is("x", "xy"));
}

#[test]
fn chapters_have_commands_outputs_and_files() {
    let text =
        "words\n```c a.c\nint x;\n```\n```console /bin/sh\n$ one \\\n> two\nout\n$ three\n```\n";
    let step = |line, command: &str, expected: &[&str]| Step {
        line,
        command: command.to_owned(),
        expected: expected.iter().map(|line| (*line).to_owned()).collect(),
    };
    let expected = [
        Block::File("a.c".into(), "int x;\n".into()),
        Block::Console(
            vec![step(6, "one \\\ntwo", &["out"]), step(9, "three", &[])],
            vec!["/bin/sh".into()],
        ),
    ];
    assert_eq!(blocks(text), expected);
}
