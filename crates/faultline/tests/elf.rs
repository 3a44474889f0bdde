//! `faultline elf`: against readelf, objdump and ldd, and against what a run maps and writes.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Build, Guest, Ran, build, fresh, installed};
use serde_json::Value;

fn faultline(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    let output = command.args(arguments).output().expect("our own program runs");
    Ran { status: output.status, stdout: output.stdout, stderr: output.stderr }
}

fn view(path: &Path) -> Value {
    let ran = faultline(&["elf", "--json", path.to_str().expect("it is text")]);
    assert_eq!(ran.code(), Some(0), "{ran:?}");
    serde_json::from_slice(&ran.stdout).expect("it is JSON")
}

/// The output of a tool of the host.
fn tool(name: &str, arguments: &[&str], path: &Path) -> String {
    let output = Command::new(name).env("LC_ALL", "C").args(arguments).arg(path).output();
    let output = output.expect("binutils and libc-bin are installed");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Files of the host and of ours, of both classes and all types.
fn files() -> Vec<PathBuf> {
    let hosts = ["/bin/ls", "/bin/busybox", "/usr/bin/gcc", "/lib/x86_64-linux-gnu/libc.so.6"];
    let mut files: Vec<PathBuf> =
        hosts.iter().filter_map(|path| installed(path)).map(PathBuf::from).collect();
    for kind in [Build::Dynamic, Build::NoPie, Build::GlibcStatic, Build::GlibcStaticPie] {
        files.extend(build("own_pages.c", kind));
    }
    // Where the compiler can: an object file and both 32-bit kinds.
    let source = common::programs().join("hello.c");
    for options in [
        &["-c"][..],
        &["-m32"],
        &["-m32", "-static"],
        &["-m32", "-c"],
        &["-Wl,-z,pack-relative-relocs"],
    ] {
        let target = fresh("elf-file");
        let mut command = Command::new("cc");
        command.args(options).arg("-w").arg("-o").arg(&target).arg(&source);
        if command.output().is_ok_and(|output| output.status.success()) {
            files.push(target);
        }
    }
    files
}

fn list<'a>(view: &'a Value, name: &str) -> &'a [Value] {
    view[name].as_array().expect("it is a list")
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} is a text in {value}"))
}

fn number(text: &str) -> u64 {
    u64::from_str_radix(text.trim_start_matches("0x"), 16)
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn sections_and_segments_are_those_of_readelf() {
    for path in files() {
        let view = view(&path);
        let mut theirs = Vec::new();
        for line in tool("readelf", &["-SW"], &path).lines() {
            let Some((head, rest)) = line.split_once(']') else { continue };
            let is_section =
                head.trim_start_matches([' ', '[']).parse::<u32>().is_ok_and(|at| at > 0);
            let words: Vec<&str> = rest.split_whitespace().collect();
            if is_section && words.len() >= 5 {
                // Name, kind; then address, offset and size in hexadecimal.
                theirs.push((
                    words[0].to_owned(),
                    number(words[2]),
                    number(words[3]),
                    number(words[4]),
                ));
            }
        }
        let ours: Vec<_> = list(&view, "sections")
            .iter()
            .map(|each| {
                let bytes = each["bytes"].as_u64().expect("a number");
                (
                    text(each, "name").to_owned(),
                    number(text(each, "addr")),
                    number(text(each, "offset")),
                    bytes,
                )
            })
            .collect();
        assert!(theirs.len() > 4, "{path:?}: readelf says nothing");
        assert_eq!(ours, theirs, "{path:?}");

        let headers = tool("readelf", &["-lW"], &path);
        let (table, mapping) = headers.split_once("Section to Segment").unwrap_or((&headers, ""));
        let mut theirs = Vec::new();
        for line in table.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            if words.len() >= 7 && words[1].starts_with("0x") && words[2].starts_with("0x") {
                theirs.push([1, 2, 4, 5].map(|at| number(words[at])));
            }
        }
        let ours: Vec<_> = list(&view, "segments")
            .iter()
            .map(|each| {
                let count = |name: &str| each[name].as_u64().expect("a number");
                let [offset, addr] = ["offset", "addr"].map(|name| number(text(each, name)));
                [offset, addr, count("file_bytes"), count("memory_bytes")]
            })
            .collect();
        assert_eq!(ours, theirs, "{path:?}");

        for (line, each) in mapping.lines().skip(2).zip(list(&view, "segments")) {
            let theirs: Vec<&str> =
                line.split_whitespace().skip(1).filter(|name| *name != ".tbss").collect();
            let ours: Vec<&str> = list(each, "sections").iter().filter_map(Value::as_str).collect();
            if text(each, "kind") == "LOAD" {
                assert_eq!(ours, theirs, "{path:?}: {line}");
            }
        }
    }
}

#[test]
fn symbols_and_relocations_are_those_of_readelf() {
    for path in files() {
        let view = view(&path);
        let mut theirs = 0;
        let mut names = BTreeSet::new();
        for line in tool("readelf", &["-sW"], &path).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let index = words.first().and_then(|word| word.strip_suffix(':')?.parse::<u64>().ok());
            if index.is_some_and(|index| index > 0) {
                theirs += 1;
                let name = words.get(7).unwrap_or(&"").split('@').next().unwrap_or_default();
                names.insert((number(words[1]), name.to_owned()));
            }
        }
        let [symbols, dynamic] = ["symbols", "dynamic_symbols"].map(|name| list(&view, name));
        assert_eq!(symbols.len() + dynamic.len(), theirs, "{path:?}");
        for each in symbols.iter().chain(dynamic) {
            let name = text(each, "name").split('@').next().unwrap_or_default().to_owned();
            let is_section = text(each, "kind") == "SECTION";
            let is_there = names.contains(&(number(text(each, "value")), name));
            assert!(is_there || is_section, "{path:?}: {each}");
        }

        let bias = number(text(&view, "bias"));
        let mut theirs = BTreeMap::new();
        for line in tool("readelf", &["-rW"], &path).lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            let kind = words.get(2).and_then(|kind| {
                kind.strip_prefix("R_X86_64_").or_else(|| kind.strip_prefix("R_386_"))
            });
            if let Some(kind) = kind {
                *theirs.entry((number(words[0]), short_kind(kind))).or_insert(0) += 1;
            }
        }
        let mut ours = BTreeMap::new();
        let is_packed = tool("readelf", &["-dW"], &path).contains("RELRSZ");
        for each in list(&view, "relocations") {
            let at = number(text(each, "addr")).wrapping_sub(bias);
            *ours.entry((at, short_kind(text(each, "kind")))).or_insert(0) += 1;
        }
        if is_packed {
            // readelf lists packed ones in another form; each of ours is a word of the image.
            ours.retain(|key, _| theirs.contains_key(key));
        }
        assert_eq!(ours, theirs, "{path:?}");
    }
}

/// readelf cuts long names; i386 has two names for one kind.
fn short_kind(kind: &str) -> String {
    kind.replace("JMP_SLOT", "JUMP_SLO").chars().take(8).collect()
}

#[test]
fn stubs_of_the_plt_are_those_of_objdump() {
    let mut checked = 0;
    for path in files() {
        let view = view(&path);
        let bias = number(text(&view, "bias"));
        let mut theirs = BTreeMap::new();
        for line in
            tool("objdump", &["-d", "-j", ".plt", "-j", ".plt.sec", "-j", ".plt.got"], &path)
                .lines()
        {
            let named = line.strip_suffix("@plt>:").and_then(|line| line.split_once(" <"));
            if let Some((addr, name)) = named.filter(|(_, name)| !name.starts_with('*')) {
                theirs.insert(name.to_owned(), number(addr));
            }
        }
        for slot in list(&view, "slots") {
            let (name, stub) = (text(slot, "symbol"), slot["stub"].as_str());
            if let (Some(theirs), Some(stub)) = (theirs.get(name), stub) {
                assert_eq!(number(stub) - bias, *theirs, "{path:?}: {name}");
                checked += 1;
            }
        }
    }
    assert!(checked > 100, "{checked} stubs");
}

/// The lines of `maps` that are of this file or the zeros behind it.
fn maps_of(maps: &str, path: &Path) -> Vec<(u64, u64, String)> {
    let path = path.to_str().expect("it is text");
    let mut areas: Vec<(u64, u64, String)> = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (start, end) = words[0].split_once('-').expect("a range");
        let (start, end) = (number(start), number(end));
        let is_behind = areas.last().is_some_and(|area| area.1 == start) && words.len() == 5;
        if words.last() == Some(&path) || is_behind {
            areas.push((start, end, words[1].to_owned()));
        }
    }
    areas
}

#[test]
fn vmas_are_those_of_a_run_and_of_the_host() {
    let cat = Path::new("/bin/cat").canonicalize().expect("coreutils are installed");
    let Some(busybox) = installed("/bin/busybox") else { return };
    let busybox = Path::new(busybox).canonicalize().expect("it is there");
    for (path, command) in [
        (&cat, vec![cat.to_str().expect("text"), "/proc/self/maps"]),
        (&busybox, vec![busybox.to_str().expect("text"), "cat", "/proc/self/maps"]),
    ] {
        let view = view(path);
        let ours: Vec<_> = list(&view, "vmas_at_entry")
            .iter()
            .map(|area| {
                let [start, end] = ["start", "end"].map(|name| number(text(area, name)));
                (start, end, text(area, "perms").to_owned())
            })
            .collect();
        let guest = Guest::new(command);
        for maps in [guest.inside().text(), guest.native().text()] {
            assert_eq!(maps_of(&maps, path), ours, "{maps}");
        }
    }
}

#[test]
fn start_up_dirties_the_pages_that_are_listed() {
    for kind in [Build::Dynamic, Build::NoPie] {
        let Some(path) = build("own_pages.c", kind) else { return };
        let view = view(&path);
        let ours: String = list(&view, "dirty_pages")
            .iter()
            .map(|page| text(page, "page").trim_start_matches("0x").to_owned() + "\n")
            .collect();
        let guest = Guest::new([&path]);
        assert_eq!(guest.inside().text(), ours, "{kind:?}: inside");
        assert_eq!(guest.native().text(), ours, "{kind:?}: native");
    }
}

#[test]
fn libraries_are_found_where_the_dynamic_linker_finds_them() {
    for path in ["/bin/ls", "/usr/bin/git", "/usr/bin/python3"] {
        let Some(path) = installed(path) else { continue };
        let path = Path::new(path);
        let view = view(path);
        let mut ours = BTreeSet::new();
        let mut waiting: Vec<&Value> = list(&view, "needed").iter().collect();
        while let Some(each) = waiting.pop() {
            waiting.extend(list(each, "needs"));
            ours.insert((text(each, "name").to_owned(), text(each, "path").to_owned()));
        }
        let mut theirs = BTreeSet::new();
        for line in tool("ldd", &[], path).lines() {
            if let Some((name, found)) = line.split_once(" => ") {
                let found = found.split(" (").next().unwrap_or_default();
                theirs.insert((name.trim().to_owned(), found.to_owned()));
            }
        }
        // ldd names the dynamic linker by the path in the program.
        ours.retain(|(name, _)| !name.starts_with("ld-linux"));
        assert_eq!(ours, theirs, "{path:?}");
    }
}

#[test]
fn what_is_no_elf_file_is_refused_in_one_line() {
    let write = |name: &str, bytes: &[u8]| {
        let path = fresh(name);
        fs::write(&path, bytes).expect("the target can be written");
        path.to_str().expect("it is text").to_owned()
    };
    let program = fs::read("/bin/ls").expect("coreutils are installed");
    for (path, code, says) in [
        ("/nonexistent/file".to_owned(), 127, "no such file"),
        ("/etc/passwd/x".to_owned(), 127, "no such file"),
        ("/usr".to_owned(), 126, "not a regular file"),
        ("/dev/zero".to_owned(), 126, "not a regular file"),
        (write("text", b"#!/bin/sh\n"), 126, "not an ELF file"),
        (write("empty", b""), 126, "not an ELF file"),
        (write("four", b"\x7fELF"), 126, "cut off"),
        (write("class", b"\x7fELF\x09more"), 126, "class 9"),
        (write("header", &program[..40]), 126, "cut off"),
        (write("table", &program[..100]), 126, "cut off"),
    ] {
        let ran = faultline(&["elf", &path]);
        let errors = ran.errors();
        assert_eq!((ran.code(), errors.lines().count()), (Some(code), 1), "{path}: {errors}");
        assert!(errors.starts_with("faultline: ") && errors.contains(says), "{path}: {errors}");
        assert!(ran.stdout.is_empty(), "{path}");
    }
    assert_eq!(faultline(&["elf"]).code(), Some(125));
    // Without its end a program still shows what it maps, and says what is missing.
    let ran = faultline(&["elf", &write("head", &program[..5000])]);
    assert_eq!(ran.code(), Some(0), "{ran:?}");
    assert!(ran.text().contains("VMAs") && ran.text().contains("not readable: "), "{ran:?}");
}
