//! The report for people: its order, its size, and that each of its figures is one of the JSON.

mod common;

use std::fs;

use common::{Build, Guest, build, fresh, installed};
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

/// A shell with five children, one of them a grandchild.
fn shell() -> Guest {
    let script = "/bin/ls /usr/bin | /usr/bin/sort | /usr/bin/wc -l; (/bin/true; exit 0); exit 3";
    Guest::new(["/bin/sh", "-c", script])
}

#[test]
fn several_processes_are_told_one_by_one() {
    let (text, json) = reports(&shell());
    let verdict = text.lines().next().expect("there are lines");
    assert!(verdict.contains("exited with 3; ") && verdict.contains(" in 6 processes"), "{text}");
    assert!(text.contains("\nPROCESSES (KiB): 6 "), "{text}");
    assert!(text.lines().count() <= 42, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let list = json["processes"]["list"].as_array().expect("it is a list");
    assert_eq!((list.len(), &json["processes"]["count"]), (6, &Value::from(6)));
    let sum = |path: &str| list.iter().filter_map(|one| one.pointer(path)?.as_u64()).sum::<u64>();
    for (path, whole) in [
        ("/faults/total", "/faults/total"),
        ("/faults/by_kind/cow", "/faults/by_kind/cow"),
        ("/forks/count", "/processes/forks/count"),
        ("/forks/table_bytes", "/processes/forks/table_bytes"),
        ("/copies/as_parent", "/processes/copies/as_parent"),
        ("/copies/as_child", "/processes/copies/as_child"),
        ("/switches_voluntary", "/processes/switches/voluntary"),
    ] {
        assert_eq!(Some(sum(path)), json.pointer(whole).and_then(Value::as_u64), "{path}");
    }
    for one in list {
        let at = |key: &str| one[key].as_u64().expect(key);
        assert_eq!(at("shared_bytes") + at("private_bytes"), at("rss_bytes"), "{one:#}");
        assert!(at("private_bytes") <= at("pss_bytes") && at("pss_bytes") <= at("rss_bytes"));
        assert!(at("rss_bytes") <= at("rss_peak_bytes"), "{one:#}");
        assert!(one["exit"]["reason"] == "exited", "{one:#}");
    }
    assert_eq!(json["memory"]["frames_leaked"], 0);
}

#[test]
fn a_fork_tells_who_broke_the_sharing_and_what_it_cost() {
    let Some(program) = build("fork_copies.c", Build::GlibcStatic) else { return };
    let guest = Guest::new([program]);
    let json = guest.same();
    let at = |path: &str| json.pointer(path).and_then(Value::as_u64).expect(path);
    // Some pages of the stack and of the C library besides.
    assert!((200..210).contains(&at("/processes/copies/as_parent")), "{:#}", json["processes"]);
    assert!((300..315).contains(&at("/processes/copies/as_child")), "{:#}", json["processes"]);
    assert_eq!(at("/processes/list/0/copies/as_child"), 0);
    assert_eq!(at("/processes/list/1/copies/as_parent"), 0);
    let copies = at("/processes/copies/as_parent") + at("/processes/copies/as_child");
    assert_eq!(at("/processes/copies/bytes"), copies * 4096);
    let cost = at("/processes/forks/table_bytes") + copies * 4096;
    assert_eq!(at("/processes/fork_cost_bytes"), cost);
    assert!(at("/processes/forks/shared_bytes") >= 1000 * 4096);
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
