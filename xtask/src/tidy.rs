//! The house rules that no lint knows: lengths, floors, `unsafe`, module texts, leftovers.

mod seeds;

use std::fs;
use std::path::{Path, PathBuf};

use crate::{Done, top};

/// Lines that a file may have.
const FILE_LINES: usize = 1000;
/// Lines that a function may have, its signature and braces included.
const FUNCTION_LINES: usize = 72;
/// Columns of a line.
const COLUMNS: usize = 100;

/// Files that may contain `unsafe`. The list may only grow with an ADR.
const UNSAFE_FILES: [&str; 7] = [
    "crates/machine/src/ram.rs",
    "crates/cpu/src/x86/enter.rs",
    "crates/cpu/src/x86/cache.rs",
    "crates/cpu/src/x86/signals.rs",
    "crates/cpu/src/x86/slow.rs",
    "crates/cpu/src/x86/host.rs",
    "crates/mm/tests/readers/kvm.rs",
];

/// Which of our crates each crate may use.
const EDGES: [(&str, &[&str]); 7] = [
    ("machine", &[]),
    ("mm", &["machine"]),
    ("cpu", &["machine"]),
    ("observe", &["machine"]),
    ("kernel", &["machine", "mm", "cpu", "observe"]),
    ("faultline", &["machine", "mm", "cpu", "observe", "kernel"]),
    ("xtask", &[]),
];

/// Crates without the standard library.
const NO_STD: [&str; 2] = ["machine", "mm"];

/// Checks everything and lists all violations.
pub(crate) fn tidy() -> Done {
    let mut found = Vec::new();
    for path in sources()? {
        let text = fs::read_to_string(&path).map_err(|error| format!("{path:?}: {error}"))?;
        let name = path.strip_prefix(top()).unwrap_or(&path).display().to_string();
        let file = File { name: &name, path: &path, text: &text };
        file.check(&mut found);
    }
    edges(&mut found)?;
    seeds(&mut found)?;
    if found.is_empty() {
        println!("tidy: no violations");
        return Ok(());
    }
    Err(format!("tidy found {} violations\n{}", found.len(), found.join("\n")))
}

/// The evidence of `docs/coverage/seeds.toml`.
fn seeds(found: &mut Vec<String>) -> Done {
    let read = |path: &Path| fs::read_to_string(path).map_err(|error| format!("{path:?}: {error}"));
    let mut files = Vec::new();
    for path in files_below(&["crates", "xtask", "docs", "programs", "tests"])? {
        let name = path.strip_prefix(top()).unwrap_or(&path).display().to_string();
        let text = if name.ends_with(".rs") { read(&path)? } else { String::new() };
        files.push((name, text));
    }
    let table = read(&top().join("docs/coverage/seeds.toml"))?;
    seeds::Evidence::new(files).check(&table, found);
    Ok(())
}

/// All Rust files of ours.
fn sources() -> Result<Vec<PathBuf>, String> {
    let mut files = files_below(&["crates", "xtask"])?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "rs"));
    Ok(files)
}

/// All files below some directories of ours, but those that are built.
fn files_below(directories: &[&str]) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    let mut waiting: Vec<PathBuf> = directories.iter().map(|name| top().join(name)).collect();
    while let Some(directory) = waiting.pop() {
        let entries =
            fs::read_dir(&directory).map_err(|error| format!("{directory:?}: {error}"))?;
        for entry in entries {
            let path = entry.map_err(|error| format!("{directory:?}: {error}"))?.path();
            if path.is_dir() && !path.ends_with("target") {
                waiting.push(path);
            } else if !path.is_dir() {
                files.push(path);
            }
        }
    }
    files.sort();
    Ok(files)
}

struct File<'a> {
    name: &'a str,
    path: &'a Path,
    text: &'a str,
}

impl File<'_> {
    fn check(&self, found: &mut Vec<String>) {
        self.lengths(found);
        self.functions(found);
        self.module_text(found);
        self.unsafety(found);
        self.leftovers(found);
        self.is_a_module(found);
    }

    fn lengths(&self, found: &mut Vec<String>) {
        let count = self.text.lines().count();
        if count > FILE_LINES {
            found.push(format!("{}: {count} lines, at most {FILE_LINES}", self.name));
        }
        for (index, line) in self.text.lines().enumerate() {
            let columns = line.chars().count();
            if columns > COLUMNS {
                let number = index + 1;
                found.push(format!("{}:{number}: {columns} columns, at most {COLUMNS}", self.name));
            }
        }
    }

    /// Finds functions by their indentation, which rustfmt guarantees.
    fn functions(&self, found: &mut Vec<String>) {
        let mut open: Option<(usize, usize)> = None;
        for (index, line) in self.text.lines().enumerate() {
            let code = line.trim_start();
            let indent = line.len() - code.len();
            match open {
                None if is_function(code) && !code.ends_with(['}', ';']) => {
                    open = Some((index, indent));
                }
                Some((start, depth)) if indent == depth && (code == "}" || code.ends_with(';')) => {
                    let lines = index - start + 1;
                    if lines > FUNCTION_LINES {
                        let number = start + 1;
                        found.push(format!("{}:{number}: a function of {lines} lines", self.name));
                    }
                    open = None;
                }
                _ => {}
            }
        }
    }

    fn module_text(&self, found: &mut Vec<String>) {
        let is_tests_file = self.path.ends_with("tests.rs");
        if !self.text.starts_with("//!") && !is_tests_file {
            found.push(format!("{}: no //! text on its first line", self.name));
        }
    }

    fn unsafety(&self, found: &mut Vec<String>) {
        let word = "unsafe";
        let is_listed = UNSAFE_FILES.contains(&self.name) || self.name.ends_with("tidy.rs");
        for (index, line) in self.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let opens = [" {", " fn ", " impl ", " extern ", "(naked"].iter();
            let is_used = opens.into_iter().any(|after| code.contains(&format!("{word}{after}")));
            if is_used && !is_listed {
                found.push(format!(
                    "{}:{}: {word} in a file not on the list",
                    self.name,
                    index + 1
                ));
            }
        }
    }

    fn leftovers(&self, found: &mut Vec<String>) {
        let is_this_file = self.name.ends_with("tidy.rs");
        let words = ["TODO", "FIXME", "XXX", "dbg!(", "todo!(", "unimplemented!(", "#[ignore"];
        for (index, line) in self.text.lines().enumerate() {
            for word in words.iter().filter(|word| line.contains(**word) && !is_this_file) {
                found.push(format!("{}:{}: {word}", self.name, index + 1));
            }
        }
    }

    /// Every file below `src` is named by a `mod` line of its parent.
    fn is_a_module(&self, found: &mut Vec<String>) {
        let Some(stem) = self.path.file_stem().and_then(|stem| stem.to_str()) else { return };
        let directory = self.path.parent().unwrap_or(Path::new(""));
        let is_root = matches!(stem, "lib" | "main" | "mod" | "build");
        if is_root || !self.name.contains("/src/") {
            return;
        }
        let parents = ["lib.rs", "main.rs", "mod.rs"].map(|name| directory.join(name));
        let beside = directory.with_extension("rs");
        let declaration = format!("mod {stem};");
        let is_declared = parents
            .iter()
            .chain([&beside])
            .any(|parent| fs::read_to_string(parent).is_ok_and(|text| text.contains(&declaration)));
        if !is_declared {
            found.push(format!("{}: a dead file: no parent has `{declaration}`", self.name));
        }
    }
}

/// Whether the line starts a function.
fn is_function(code: &str) -> bool {
    let words = code.split_whitespace();
    let mut rest = words.skip_while(|word| {
        matches!(
            *word,
            "const" | "async" | "extern" | "\"C\"" | "\"sysv64\"" | "default" | "unsafe"
        ) || word.starts_with("pub")
            || *word == "crate)"
    });
    rest.next() == Some("fn")
}

/// The crates may use each other downwards only.
fn edges(found: &mut Vec<String>) -> Done {
    for (name, allowed) in EDGES {
        let directory = if name == "xtask" { top().to_owned() } else { top().join("crates") };
        let manifest = directory.join(name).join("Cargo.toml");
        let text =
            fs::read_to_string(&manifest).map_err(|error| format!("{manifest:?}: {error}"))?;
        for (other, _) in EDGES {
            let uses = text.lines().any(|line| {
                line.strip_prefix(other).is_some_and(|rest| rest.starts_with(['.', ' ', '=']))
            });
            if uses && !allowed.contains(&other) {
                found.push(format!("crates/{name}: an edge to {other} that the floors forbid"));
            }
        }
        let root = directory.join(name).join("src/lib.rs");
        let root = fs::read_to_string(root).unwrap_or_default();
        if NO_STD.contains(&name) && !root.contains("#![no_std]") {
            found.push(format!("crates/{name}: not no_std"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_recognised() {
        for yes in ["fn a() {", "pub fn a(", "pub(crate) const fn a<T>(", "pub(super) fn a() {"] {
            assert!(is_function(yes), "{yes}");
        }
        for no in ["let a = 1;", "// fn a()", "pub struct A {", "fnord()", "const A: u8 = 1;"] {
            assert!(!is_function(no), "{no}");
        }
    }

    #[test]
    fn a_long_function_and_a_long_line_are_found() {
        let body = "    let a = 1;\n".repeat(80);
        let text = format!("//! Text.\n\nfn a() {{\n{body}}}\n\n// {}\n", "x".repeat(120));
        let mut found = Vec::new();
        let path = PathBuf::from("tests.rs");
        File { name: "a/tests.rs", path: &path, text: &text }.check(&mut found);
        assert_eq!(found.len(), 2, "{found:?}");
    }
}
