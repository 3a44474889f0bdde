//! The report for people: its order, its size, and that each of its figures is one of the JSON.

mod common;

use std::fs;

use common::{Guest, fresh, installed};
use serde_json::Value;

/// A run with both reports: text, JSON. The program must not write to its standard error.
fn reports(guest: &Guest) -> (String, Value) {
    let file = fresh("json");
    let name = file.to_str().expect("our own names are text");
    let ran = guest.clone().options(["--json", name]).inside_with_text();
    let json = fs::read(&file).expect("it was written");
    (ran.errors(), serde_json::from_slice(&json).expect("it is JSON"))
}

/// Programs whose reports have as much as possible in them.
fn guests() -> Vec<Guest> {
    let python = "import os, mmap\nm = mmap.mmap(-1, 1 << 20)\nm[5] = 1\n\
                  print(hasattr(os, 'getxattr'))";
    [
        &["/bin/true"][..],
        &["/bin/ls", "-la", "/usr/bin"],
        &["/usr/bin/python3", "-S", "-c", python],
        &["/bin/busybox", "awk", "BEGIN { for (i = 0; i < 50000; i++) a[i] = i }"],
    ]
    .into_iter()
    .filter(|command| installed(command[0]).is_some())
    .map(|command| Guest::new(command).options(["--count", "instructions"]))
    .collect()
}

/// All numbers of a JSON value.
fn numbers(value: &Value, into: &mut Vec<u64>) {
    match value {
        Value::Number(number) => into.extend(number.as_u64()),
        Value::Array(values) => values.iter().for_each(|value| numbers(value, into)),
        Value::Object(values) => values.values().for_each(|value| numbers(value, into)),
        _ => {}
    }
}

#[test]
fn it_has_its_parts_in_order_and_fits_a_terminal() {
    for guest in guests() {
        let (text, _) = reports(&guest);
        let heads = ["faultline: ", "FAULTS", "MEMORY (KiB)", "VMAS (KiB)", "TLB ", "SYSTEM CALLS"];
        let starts =
            text.lines().filter_map(|line| heads.iter().position(|head| line.starts_with(head)));
        assert_eq!(starts.collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5], "{text}");
        assert!(text.starts_with("faultline: "), "{text}");
        assert!(text.lines().count() <= 40, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}

#[test]
fn each_figure_is_one_of_the_json() {
    for guest in guests() {
        let (text, json) = reports(&guest);
        let mut known = Vec::new();
        numbers(&json, &mut known);
        let vma_count = json["vmas"].as_array().expect("it is a list").len() as u64;
        known.push(vma_count);
        // The first line rounds; the columns of numbers do not.
        for line in text.lines().skip(1) {
            for word in line.split("  ").map(str::trim) {
                let is_number = word.chars().all(|c| c.is_ascii_digit() || c == ',');
                if word.is_empty() || !is_number {
                    continue;
                }
                let figure: u64 = word.replace(',', "").parse().expect("it is a number");
                let is_known = known.iter().any(|it| *it == figure || it / 1024 == figure);
                assert!(is_known, "{word} is not in the JSON: {line}");
                let is_grouped = word.split(',').skip(1).all(|group| group.len() == 3);
                assert!(is_grouped && word.split(',').next().is_some_and(|it| it.len() <= 3));
            }
            for rate in line.split("  ").filter_map(|word| word.trim().strip_suffix(" %")) {
                let per_million = rate.replace('.', "").parse::<u64>().expect("it is a rate");
                assert!(known.contains(&per_million), "{rate} is not in the JSON: {line}");
            }
        }
    }
}

#[test]
fn the_verdict_says_what_the_json_says() {
    for guest in guests() {
        let (text, json) = reports(&guest);
        let verdict = text.lines().next().expect("there are lines");
        let code = json["exit"]["code"].as_u64().expect("it exits");
        let faults = json["faults"]["total"].as_u64().expect("it counts");
        assert!(verdict.contains(&format!(" exited with {code}; peak RSS ")), "{verdict}");
        let digits: String = verdict.chars().filter(|c| *c != ',').collect();
        assert!(digits.contains(&format!("B {faults} faults")), "{verdict}");
        assert!(verdict.ends_with("for zeroed memory") || verdict.contains(" % "), "{verdict}");
    }
}

#[test]
fn the_figures_add_up() {
    for guest in guests() {
        let (_, json) = reports(&guest);
        let at = |path: &str| json.pointer(path).and_then(Value::as_u64).expect(path);
        assert_eq!(at("/faults/total"), at("/faults/minor") + at("/faults/major"));
        for when in ["at_exit", "at_peak"] {
            let kinds = ["anon_bytes", "file_bytes", "shmem_bytes"];
            let sum: u64 = kinds.iter().map(|kind| at(&format!("/memory/{when}/{kind}"))).sum();
            let all = if when == "at_exit" { "rss_bytes" } else { "rss_peak_bytes" };
            assert_eq!(sum, at(&format!("/memory/{all}")), "{when}");
        }
        let data = at("/accesses/read") + at("/accesses/write");
        assert_eq!(at("/tlb/l1d/hits") + at("/tlb/l1d/misses"), data);
        assert_eq!(at("/tlb/l1i/hits") + at("/tlb/l1i/misses"), at("/accesses/fetch"));
        let missed = at("/tlb/l1d/misses") + at("/tlb/l1i/misses");
        assert_eq!(at("/tlb/l2/hits") + at("/tlb/l2/misses"), missed);
        let resident = json["vmas"].as_array().expect("it is a list").iter();
        let resident: u64 = resident.map(|vma| vma["rss_bytes"].as_u64().expect("a size")).sum();
        assert!(resident >= at("/memory/rss_bytes"), "{resident}");
    }
}
