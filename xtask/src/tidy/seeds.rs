//! `docs/coverage/seeds.toml`: its rows are complete, and every test that they name exists.
//!
//! A row says what shows its mechanism (`shows`) and which tests would fail without it (`test`:
//! `FILE::FUNCTION`, a file whose tests a macro makes, or a scenario, by commas), or what it waits
//! for. Words of `shows` that look like files or tests must be there too. Commands are checked by
//! the book.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// The table.
#[derive(Deserialize)]
struct Table {
    #[serde(default)]
    row: Vec<Row>,
}

/// A row as it is written; keys besides these say what it is about.
#[derive(Deserialize)]
struct Row {
    n: Option<usize>,
    shows: Option<String>,
    test: Option<String>,
    waits: Option<String>,
}

/// What a row can name.
pub(super) struct Evidence {
    /// Files below the top, by path, with the names of their functions.
    files: BTreeMap<String, BTreeSet<String>>,
}

impl Evidence {
    /// Of files, each with its text; only Rust files have functions.
    pub(super) fn new(files: impl IntoIterator<Item = (String, String)>) -> Self {
        let functions = |(path, text): (String, String)| {
            let names = text.lines().filter_map(function_name);
            let names = names.filter(|_| path.ends_with(".rs")).map(str::to_owned).collect();
            (path, names)
        };
        Self { files: files.into_iter().map(functions).collect() }
    }

    fn has_file(&self, name: &str) -> bool {
        let is_end = |path: &String| {
            path.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('/'))
        };
        self.files.keys().any(is_end)
    }

    /// What is wrong with the table.
    pub(super) fn check(&self, table: &str, found: &mut Vec<String>) {
        let rows = match toml::from_str::<Table>(table) {
            Ok(table) => table.row,
            Err(error) => return found.push(format!("seeds.toml: {error}")),
        };
        for (place, row) in rows.iter().enumerate() {
            let number = place + 1;
            let mut wrong = |what: String| found.push(format!("seeds.toml: row {number}: {what}"));
            if row.n != Some(number) {
                wrong("its number n is another, or missing".to_owned());
            }
            match (&row.shows, &row.test, &row.waits) {
                (Some(shows), Some(tests), None) => {
                    let words = words(shows).filter(|word| !self.has(word));
                    words.for_each(|word| wrong(format!("there is no {word}")));
                    let tests = tests.split(", ").filter(|test| !self.has_test(test));
                    tests.for_each(|test| wrong(format!("there is no test {test}")));
                }
                (None, None, Some(waits)) if !waits.is_empty() => {}
                _ => wrong("a row has shows and test, or it waits for something".to_owned()),
            }
        }
    }

    /// Whether a test is there: a function of a file, or a whole file.
    fn has_test(&self, test: &str) -> bool {
        match test.split_once("::") {
            Some((path, name)) => {
                self.files.get(path).is_some_and(|functions| functions.contains(name))
            }
            None => self.files.contains_key(test),
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
        !is_test || self.files.values().any(|functions| functions.contains(word))
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
        let row = |n: u32, shows: &str, test: &str| {
            format!("[[row]]\nn = {n}\nshows = \"{shows}\"\ntest = \"{test}\"\n")
        };
        let (page, test) = ("crates/mm/src/page.rs", "crates/mm/src/page.rs::pages_come_and_go");
        let both = format!("{test}, {page}");
        let shows = "mm: src/page.rs, pages_come_and_go (twice); faultline run --x_y_z a.md.";
        let right = row(1, shows, &both);
        assert_eq!(check(&(right + "[[row]]\nn = 2\nwaits = \"devices\"\n")), [""; 0]);
        for (wrong, says) in [
            (row(1, "pages_go_and_come", page), "pages_go_and_come"),
            (row(1, "age.rs", page), "age.rs"),
            (row(1, "crates/mm/src/paging.rs", page), "paging.rs"),
            (row(1, "a run", "crates/mm/src/page.rs::pages_go"), "no test crates/mm/src/page.rs::"),
            (row(1, "a run", "page.rs::pages_come_and_go"), "no test page.rs"),
            (row(1, "a run", ""), "no test"),
            (row(2, "a run", test), "number"),
            ("[[row]]\nn = 1\nshows = \"a run\"\n".to_owned(), "shows and test"),
            (row(1, "a run", test) + "waits = \"devices\"\n", "shows and test"),
            ("[[row]]\nn = 1\n".to_owned(), "shows and test"),
            ("[[row]]\nn = 1\nwaits = \"\"\n".to_owned(), "shows and test"),
            ("[[row]]\nn = 1\nwaits = devices\n".to_owned(), "line 3"),
        ] {
            let found = check(&wrong);
            assert!(found.len() == 1 && found[0].contains(says), "{wrong}: {found:?}");
        }
    }
}
