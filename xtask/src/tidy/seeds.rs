//! `docs/coverage/seeds.toml`: what its rows name as evidence is there.
//!
//! A row that works says what shows it: files must be files of ours, by the end of their path, and
//! words like `a_name_of_a_test` functions in our sources. Commands are checked by the book.

use std::collections::BTreeSet;

/// What a row can name.
pub(super) struct Evidence {
    /// Files below the top, by path.
    files: Vec<String>,
    /// Names of functions.
    functions: BTreeSet<String>,
}

impl Evidence {
    /// Of files, each with its text; only Rust files have functions.
    pub(super) fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut evidence = Self { files: Vec::new(), functions: BTreeSet::new() };
        for (path, text) in files {
            if path.ends_with(".rs") {
                let names = text.lines().filter_map(function_name);
                evidence.functions.extend(names.map(str::to_owned));
            }
            evidence.files.push(path);
        }
        evidence
    }

    fn has_file(&self, name: &str) -> bool {
        let is_end = |path: &String| {
            path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        };
        self.files.iter().any(is_end)
    }

    /// What is wrong with the table.
    pub(super) fn check(&self, table: &str, found: &mut Vec<String>) {
        for (place, row) in table.split("[[row]]").skip(1).enumerate() {
            let value = |key: &str| {
                let line = row.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "));
                line.map(|text| text.trim_matches('"'))
            };
            let number = place + 1;
            let mut wrong = |what: String| found.push(format!("seeds.toml: row {number}: {what}"));
            if value("number") != Some(&number.to_string()) {
                wrong("its number is another, or missing".to_owned());
            }
            match (value("status"), value("shown_by")) {
                (Some("works"), Some(shown_by)) => {
                    let missing = words(shown_by).filter(|word| !self.has(word));
                    missing.for_each(|word| wrong(format!("there is no {word}")));
                }
                (Some("later"), None) => {}
                _ => wrong("a row works and is shown by something, or comes later".to_owned()),
            }
        }
    }

    /// Whether a word names something that is there, or nothing that could be.
    fn has(&self, word: &str) -> bool {
        let extensions = [".rs", ".md", ".toml", ".scn", ".c"];
        if extensions.into_iter().any(|extension| word.ends_with(extension)) {
            return self.has_file(word);
        }
        let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let is_test = word.bytes().all(is_name) && word.matches('_').count() >= 2;
        !is_test || self.functions.contains(word)
    }
}

/// The words of a text, without the signs around them.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |sign: char| sign.is_ascii_alphanumeric() || "_./-".contains(sign);
    text.split(move |sign| !is_part(sign)).map(|word| word.trim_end_matches('.'))
}

/// The name of the function that begins on a line.
fn function_name(line: &str) -> Option<&str> {
    let (before, after) = line.split_once("fn ")?;
    let is_start = before.is_empty() || before.ends_with([' ', '\t']);
    let end = after.find(['(', '<'])?;
    is_start.then(|| &after[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_tests_files_and_numbers_are_found() {
        let text = "#[test]\n    fn pages_come_and_go() {}\n".to_owned();
        let files = [("crates/mm/src/page.rs".to_owned(), text), ("docs/a.md".into(), "".into())];
        let evidence = Evidence::new(files);
        let check = |rows: &str| {
            let mut found = Vec::new();
            evidence.check(rows, &mut found);
            found
        };
        let row = |number: u32, shown_by: &str| {
            format!("[[row]]\nnumber = {number}\nstatus = \"works\"\nshown_by = \"{shown_by}\"\n")
        };
        let right =
            row(1, "mm: src/page.rs, pages_come_and_go (twice); faultline run --x_y_z a.md.");
        assert_eq!(check(&(right + "[[row]]\nnumber = 2\nstatus = \"later\"\n")), [""; 0]);
        for (wrong, says) in [
            (row(1, "pages_go_and_come"), "pages_go_and_come"),
            (row(1, "age.rs"), "age.rs"),
            (row(1, "crates/mm/src/paging.rs"), "paging.rs"),
            (row(2, "page.rs"), "number"),
            ("[[row]]\nnumber = 1\nstatus = \"works\"\n".to_owned(), "shown by"),
        ] {
            let found = check(&wrong);
            assert!(found.len() == 1 && found[0].contains(says), "{wrong}: {found:?}");
        }
    }
}
