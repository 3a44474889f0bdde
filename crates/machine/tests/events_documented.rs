//! The list of events in `docs/events.md` is what `event.rs` says. `UPDATE=1` writes it anew.

use std::path::Path;
use std::{env, fs};

const HEAD: &str = "\
# Events

Everything that happens to memory is logged as a flat list of events, in order, each with a stamp:
the data accesses that the CPU had made before. A hash covers all of them, so two runs with the same
hash did the same. What is not an event (TLB hits, accesses) is counted.

`faultline run --trace FILE` writes one line for each event. This list is generated from
`crates/machine/src/event.rs` by `UPDATE=1 cargo test -p machine --test events_documented`.
";

/// One variant of an enum: its name, its text, and name, type and text of its fields.
struct Variant {
    name: String,
    meaning: String,
    fields: Vec<(String, String, String)>,
}

/// The variants of `pub enum NAME`, with the text of their doc comments.
fn variants(source: &str, name: &str) -> Vec<Variant> {
    let start = source.find(&format!("pub enum {name} {{")).expect("the enum is there");
    let mut found: Vec<Variant> = Vec::new();
    let mut meaning = String::new();
    let mut is_inside = false;
    for line in source[start..].lines().skip(1).take_while(|line| *line != "}") {
        let line = line.trim();
        if let Some(text) = line.strip_prefix("///") {
            meaning = format!("{meaning}{text}").trim().to_owned();
            continue;
        }
        let text = std::mem::take(&mut meaning);
        if line == "}," {
            is_inside = false;
        } else if is_inside {
            let (field, kind) = line.trim_end_matches(',').split_once(": ").expect("a field");
            let fields = &mut found.last_mut().expect("fields belong to a variant").fields;
            fields.push((field.to_owned(), kind.to_owned(), text));
        } else {
            let name = line.trim_end_matches([',', '{', ' ']).to_owned();
            assert!(name.chars().all(char::is_alphanumeric), "not a variant: {line}");
            found.push(Variant { name, meaning: text, fields: Vec::new() });
            is_inside = line.ends_with('{');
        }
    }
    found
}

/// The whole document.
fn document(source: &str) -> String {
    let mut text = HEAD.to_owned();
    for event in variants(source, "Event") {
        text.push_str(&format!("\n## {}\n\n{}\n", event.name, event.meaning));
        text.push_str("\n| field | type | meaning |\n|---|---|---|\n");
        for (field, kind, meaning) in event.fields {
            text.push_str(&format!("| `{field}` | `{kind}` | {meaning} |\n"));
        }
    }
    text.push_str("\n## Labels of faults\n\n| label | meaning |\n|---|---|\n");
    for label in variants(source, "FaultLabel") {
        text.push_str(&format!("| `{}` | {} |\n", label.name, label.meaning));
    }
    text
}

#[test]
fn every_event_is_documented() {
    let crate_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = fs::read_to_string(crate_directory.join("src/event.rs")).expect("it is there");
    let path = crate_directory.join("../../docs/events.md");
    let expected = document(&source);
    if env::var_os("UPDATE").is_some() {
        fs::write(&path, &expected).expect("the document can be written");
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    for event in variants(&source, "Event") {
        let is_there = found.contains(&format!("\n## {}\n", event.name));
        assert!(is_there, "docs/events.md misses {}: UPDATE=1 writes it", event.name);
        assert!(!event.meaning.is_empty(), "{} has no text", event.name);
    }
    assert_eq!(found, expected, "docs/events.md is not up to date: UPDATE=1 writes it");
}
