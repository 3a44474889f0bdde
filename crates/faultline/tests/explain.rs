//! `faultline explain`: each kind of address, the map for each RAM size, and traces of runs.

mod common;

use std::process::Command;

use common::{Build, Ran, build, fresh};
use serde_json::Value;

fn faultline(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    let output = command.arg("explain").args(arguments).output().expect("our own program runs");
    Ran { status: output.status, stdout: output.stdout, stderr: output.stderr }
}

#[track_caller]
fn json(arguments: &[&str]) -> Value {
    let ran = faultline(&[arguments, &["--json"]].concat());
    assert_eq!(ran.code(), Some(0), "{arguments:?}: {ran:?}");
    serde_json::from_slice(&ran.stdout).expect("it is JSON")
}

#[test]
fn the_first_address_of_lowmem_is_kernel_logical_and_physical_1() {
    let ran = faultline(&["0xc0000001", "--machine", "i386"]);
    let text = ran.text();
    for says in [
        "kernel logical (direct map)",
        "__pa(0xc0000001) = 0xc0000001 - 0xc0000000 = 0x1",
        "physical   0x1",
        "index 13, TI 0 (GDT), RPL 0 = __KERNEL_DS",
        "base 0x0, limit 0xffffffff, DPL 0",
        "PGD      31-22    768",
        "P RW A D PS G -> frame 0x0",
        "0x1 in a page of 4 MiB",
        "#PF, error code 5",
        "TLB",
    ] {
        assert!(text.contains(says), "{says} is missing in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    for (page_offset, physical) in [("0x80000000", "0x40000001"), ("0x40000000", "0x80000001")] {
        let options = ["0xc0000001", "--machine", "i386", "--page-offset", page_offset];
        assert_eq!(json(&options)["physical"], physical, "{page_offset}");
    }
}

/// Numbers by hand from DDI 0406C B3.5.1 and the layout of Linux's pages of tables.
#[test]
fn arm_has_tables_in_pairs_and_states_that_the_hardware_lacks() {
    let user = json(&["0x00112345", "--machine", "arm"]);
    assert_eq!((user["first_level"]["index"].as_u64(), user["physical"].as_str()), (Some(1), None));
    assert_eq!(user["first_level"]["descriptor"], "0xc31", "+0xc00, a table, domain 1");
    let second = &user["second_level"];
    let places = ["index", "linux_index", "linux_offset", "hardware_offset"];
    let places = places.map(|name| second[name].as_u64().expect("a number"));
    assert_eq!(places, [0x12, 0x112, 0x448, 0xc48]);
    let states = second["states"].as_array().expect("a list");
    let hardware: Vec<&str> = states.iter().flat_map(|state| state["hardware"].as_str()).collect();
    assert_eq!(hardware, ["0x000", "0x000", "0xe7f", "0xc7f", "0xe7e"]);
    let kernel = json(&["0xc0234567", "--machine", "arm", "--ram", "512M"]);
    assert_eq!(kernel["first_level"]["descriptor"], "0x21141e", "a section at 2 MiB");
    assert_eq!((&kernel["physical"], &kernel["second_level"]), (&"0x234567".into(), &Value::Null));
    // Beyond lowmem nothing is a section, and with an odd end of RAM the last megabyte neither.
    let high = json(&["0xe0000000", "--machine", "arm", "--ram", "512M"]);
    assert_eq!(high["kind"], "guard: never mapped");
    let odd = json(&["0xc0100000", "--machine", "arm", "--ram", "1100K"]);
    assert_eq!(odd["first_level"]["descriptor"], "0xc11");
    for (arguments, says) in [
        (&["0x1", "--machine", "arm", "--tlb", "small"][..], "--tlb"),
        (&["0x1", "--machine", "arm", "--page-offset", "0x1000"], "0xc0000000"),
        (&["0x100000000", "--machine", "arm"], "32 bits"),
        (&["0x1", "--machine", "arm", "--cpus", "8"], "--cpus"),
        (&["--machine", "arm", "--map"], "--map"),
        (&["--machine", "arm"], "give an address"),
        (&["0x1", "--machine", "vax"], "explain also knows arm"),
    ] {
        let ran = faultline(arguments);
        assert_eq!((ran.code(), ran.errors().lines().count()), (Some(125), 1), "{arguments:?}");
        assert!(ran.errors().contains(says), "{arguments:?}: {}", ran.errors());
    }
}

#[test]
fn every_kind_of_address_has_its_name_and_its_walk() {
    for (arguments, kind, physical, levels) in [
        (&["0x08048000", "--machine", "i386"][..], "user virtual", Value::Null, 1),
        (&["0xf8000000", "--machine", "i386"], "kernel virtual (vmalloc, ioremap)", Value::Null, 1),
        (&["0xff000000", "--machine", "i386"], "kernel virtual (pkmap: kmap)", Value::Null, 1),
        (&["0xffffe000", "--machine", "i386"], "kernel virtual (fixmap)", Value::Null, 1),
        (
            &["0xc0200000", "--machine", "i386-pae"],
            "kernel logical (direct map)",
            "0x200000".into(),
            2,
        ),
        (&["0xffff888000001000"], "kernel logical (direct map)", "0x1000".into(), 2),
        (
            &["0xffff880000001000", "--kernel", "4.4"],
            "kernel logical (direct map)",
            "0x1000".into(),
            2,
        ),
        (&["0xffff880000001000"], "kernel virtual (LDT remap)", Value::Null, 1),
        (&["0xffff888100000000"], "direct map, beyond RAM", Value::Null, 2),
        (&["0xffffffff81000000"], "kernel text", "0x1000000".into(), 1),
        (&["0xffffc90000000000"], "kernel virtual (vmalloc, ioremap)", Value::Null, 1),
        (&["0xffffea0000000040"], "kernel virtual (vmemmap)", "0x100000040".into(), 3),
        (&["0xffffea0004000000"], "kernel virtual (vmemmap)", Value::Null, 3),
        (
            &["0xffd4000000000074", "--machine", "x86-64-la57", "--ram", "5M"],
            "kernel virtual (vmemmap)",
            "0x600074".into(),
            4,
        ),
        (
            &["0xff11000000000000", "--machine", "x86-64-la57"],
            "kernel logical (direct map)",
            "0x0".into(),
            3,
        ),
        (&["0x7fffffffe000"], "user virtual", Value::Null, 1),
        (&["0x800000000000"], "not canonical", Value::Null, 0),
    ] {
        let view = json(arguments);
        assert_eq!((&view["kind"], &view["physical"]), (&kind.into(), &physical), "{arguments:?}");
        let steps = view["translation"]["steps"].as_array().expect("a list");
        assert_eq!(steps.len(), levels, "{arguments:?}: {steps:?}");
    }
}

/// Rows 94, 96 and 97 of the checklist: which bits choose which entry.
#[test]
fn indexes_use_the_bits_of_the_manual() {
    let bits = |arguments: &[&str]| -> Vec<(String, u64, u64, u64)> {
        let view = json(arguments);
        let steps = view["translation"]["steps"].as_array().expect("a list").clone();
        let number = |value: &Value| value.as_u64().expect("a number");
        let row = |step: &Value| {
            let name = step["name"].as_str().expect("a name").to_owned();
            (name, number(&step["bits"][0]), number(&step["bits"][1]), number(&step["index"]))
        };
        steps.iter().map(row).collect()
    };
    // One page past the last large one, so that every level is walked.
    let ram = ["--ram", "4194308K"];
    let walk = bits(&[&["0xffff888100000000"], &ram[..]].concat());
    let expected =
        [("PGD", 47, 39, 273), ("PUD", 38, 30, 4), ("PMD", 29, 21, 0), ("PTE", 20, 12, 0)];
    assert_eq!(walk, expected.map(|(name, high, low, index)| (name.to_owned(), high, low, index)));
    let walk = bits(&["0xc0400000", "--machine", "i386", "--ram", "4100K"]);
    let expected = [("PGD", 31, 22, 769), ("PTE", 21, 12, 0)];
    assert_eq!(walk, expected.map(|(name, high, low, index)| (name.to_owned(), high, low, index)));
    let walk = bits(&["0xc0400000", "--machine", "i386-pae", "--ram", "4100K"]);
    let expected = [("PGD", 31, 30, 3), ("PMD", 29, 21, 2), ("PTE", 20, 12, 0)];
    assert_eq!(walk, expected.map(|(name, high, low, index)| (name.to_owned(), high, low, index)));
}

/// Rows 5 to 9 of the checklist: TI, the LDT and the TLS entries, base + offset, the limits.
#[test]
fn a_descriptor_of_the_program_makes_addresses_linear_or_faults() {
    // Base 0x1234, bytes 0 to 0xfff, 32-bit data of DPL 3: as modify_ldt writes it.
    const DATA: u64 = 0x0040_f300_1234_0fff;
    const PRESENT: u64 = 1 << 47;
    const LEVEL_3: u64 = 3 << 45;
    const EXPANDS_DOWN: u64 = 1 << 42;
    const CODE: u64 = 1 << 43;
    const READABLE: u64 = 1 << 41;
    const BIG: u64 = 1 << 54;
    let gate = DATA & !(1 << 44);
    for (selector, descriptor, offset, machine, linear) in [
        ("0x7", DATA, "0x10", "i386", "0x1244"),
        ("0xffff", DATA, "0xfff", "i386", "0x2233"),
        ("0x33", DATA, "0x10", "i386", "0x1244"),
        ("0x63", DATA, "0x10", "x86-64", "0x1244"),
        ("0x7", DATA, "0x1000", "i386", "#GP(0)"),
        ("0x7", DATA & !PRESENT, "0x10", "i386", "#NP(0x4)"),
        ("0xf", DATA & !LEVEL_3, "0x10", "i386", "#GP(0xc)"),
        ("0x7", DATA & !LEVEL_3 | CODE | EXPANDS_DOWN, "0x10", "i386", "0x1244"),
        ("0x7", DATA & !READABLE | CODE, "0x10", "i386", "#GP(0x4)"),
        ("0x7", gate, "0x10", "i386", "#GP(0x4)"),
        ("0x7", DATA | EXPANDS_DOWN, "0x10", "i386", "#GP(0)"),
        ("0x7", DATA | EXPANDS_DOWN, "0xfffff000", "i386", "0x234"),
        ("0x7", (DATA | EXPANDS_DOWN) & !BIG, "0xffff", "i386", "0x11233"),
        ("0x7", (DATA | EXPANDS_DOWN) & !BIG, "0x10000", "i386", "#GP(0)"),
    ] {
        let (address, bytes) = (format!("{selector}:{offset}"), format!("{descriptor:#x}"));
        let view = json(&[&address, "--machine", machine, "--descriptor", &bytes]);
        let way = &view["segmentation"];
        let ours = way["linear"].as_str().expect("a text");
        assert!(ours.starts_with(linear), "{address} {bytes} on {machine}: {ours}");
        assert_eq!(way["exception"].is_null(), linear.starts_with("0x"), "{address} {bytes}");
        if linear.starts_with("0x") {
            assert_eq!(view["address"], linear, "{address} {bytes}: what is walked");
        }
    }
    let ti_and_index = |selector: &str| {
        let address = format!("{selector}:0x10");
        let view = json(&[&address, "--machine", "i386", "--descriptor", "0x40f30012340fff"]);
        let way = &view["segmentation"];
        (way["ti"].clone(), way["index"].clone(), way["table"].clone())
    };
    assert_eq!(ti_and_index("0xfff7"), (1.into(), 8190.into(), "LDT".into()));
    assert_eq!(ti_and_index("0x43"), (0.into(), 8.into(), "GDT".into()));
}

#[test]
fn each_level_has_its_index_even_where_no_table_is() {
    let text = faultline(&["0x7f1234567010"]).text();
    assert!(text.contains("indexes    PGD 254, PUD 72, PMD 418, PTE 359"), "{text}");
    let text = faultline(&["0x08048123", "--machine", "i386"]).text();
    assert!(text.contains("indexes    PGD 32, PTE 72"), "{text}");
    let text = faultline(&["0x08048123", "--machine", "i386-pae"]).text();
    assert!(text.contains("indexes    PGD 0, PMD 64, PTE 72"), "{text}");
}

/// Rows 42 to 47 of the checklist.
#[test]
fn the_map_has_the_limits_of_each_ram_size() {
    let rows = |machine: &str| -> Vec<(u64, u64, u64, u64)> {
        let view = json(&["--map", "--machine", machine]);
        let mib = |value: &Value| value.as_u64().expect("a number") >> 20;
        let row = |each: &Value| {
            let [ram, low, high, vmalloc] =
                ["ram_bytes", "lowmem_bytes", "highmem_bytes", "vmalloc_bytes"]
                    .map(|key| mib(&each[key]));
            (ram, low, high, vmalloc)
        };
        view["by_ram"].as_array().expect("a list").iter().map(row).collect()
    };
    assert_eq!(
        rows("i386")[..5],
        [
            (256, 256, 0, 743),
            (512, 512, 0, 487),
            (1024, 879, 144, 120),
            (2048, 879, 1168, 120),
            (4096, 879, 3216, 120)
        ]
    );
    assert_eq!(rows("i386-pae")[5], (16_384, 885, 15_498, 120));
    assert!(rows("x86-64").iter().all(|row| row.0 == row.1 && row.2 == 0));
    let text = faultline(&["--map", "--machine", "i386", "--ram", "1G", "--kernel", "4.4"]).text();
    for says in [
        "0xff800000 -         0xffbfffff      4 MiB  kernel virtual (pkmap",
        "lowmem limit 0x377fe000",
    ] {
        assert!(text.contains(says), "{says} is missing in\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

#[test]
fn a_trace_tells_what_happened_to_a_page() {
    let Some(program) = build("fork_copies.c", Build::GlibcStatic) else { return };
    let trace = fresh("trace");
    let trace = trace.to_str().expect("it is text");
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    command.args(["run", "--report", "none", "--trace", trace, "--"]).arg(program);
    let output = command.output().expect("our own program runs");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    // A page that a child copied: its fault and whose copy it is are in the trace.
    let text = std::fs::read_to_string(trace).expect("it is there");
    let copied = text.lines().find(|line| line.contains(" unshare ")).expect("there are copies");
    let addr = copied.split_whitespace().find_map(|word| word.strip_prefix("addr=")).expect("addr");
    let mm = copied.split_whitespace().find_map(|word| word.strip_prefix("mm=")).expect("mm");
    let made = text.lines().find_map(|line| line.split_once(&format!(" child={mm} ")));
    let owner = text.lines().find_map(|line| {
        let fields = line.split_once("clone ")?.1;
        let child = fields.split("child=").nth(1)?.split(' ').next()?;
        fields.ends_with(&format!("mm={mm}")).then(|| child.to_owned())
    });
    let pid = match (made, &owner) {
        (Some(_), Some(pid)) => pid.as_str(),
        _ => "1000",
    };
    let view = json(&[addr, "--trace", trace, "--pid", pid]);
    assert_eq!(view["history"]["mm"].to_string(), mm, "{copied}");
    assert!(view["history"]["faults"].as_u64() >= Some(1), "{view}");
    let events = view["history"]["events"].to_string();
    assert!(events.contains(copied), "{events}");
    assert_eq!(view["history"]["range"]["rights"], "rw-", "{view}");
}

#[test]
fn wrong_questions_are_refused_in_one_line() {
    for (arguments, says) in [
        (&[][..], "--map"),
        (&["0x1", "--map"], "not both"),
        (&["rubbish"], "not a number"),
        (&["0x10000000000000000"], "not a number"),
        (&["0x100000000", "--machine", "i386"], "32 bits"),
        (&["0x1", "--machine", "pdp-11"], "i386-pae"),
        (&["0x1", "--ram", "1Q"], "K, M, G or T"),
        (&["0x1", "--ram", "5000"], "pages"),
        (&["0x1", "--ram", "65T"], "physical"),
        (&["0x1", "--machine", "i386", "--page-offset", "0xd0000000"], "0xc0000000"),
        (&["0x1", "--machine", "i386-pae", "--page-offset", "0xb0000000"], "PAE"),
        (&["0x1", "--machine", "i386", "--vmalloc", "2G"], "lowmem"),
        (&["0x1", "--machine", "x86-64-la57", "--kernel", "4.4"], "five levels"),
        (&["0x0:0x1", "--machine", "i386"], "null selector"),
        (&["0x7:0x1", "--machine", "i386"], "entry 0 of the process's LDT"),
        (&["0x33:0x1", "--machine", "i386"], "TLS entry 1"),
        (&["0x1", "--descriptor", "0x1"], "give the selector"),
        (&["0x7:0x1", "--descriptor", "LDT"], "--descriptor LDT: not a number"),
        (&["0x7b:0x1", "--machine", "i386", "--descriptor", "0x1"], "__USER_DS is the kernel's"),
        (&["0xff8:0x1", "--machine", "i386"], "no flat segment"),
        (&["0x10000:0x1", "--machine", "i386"], "16 bits"),
        (&["0x1", "--pid", "3"], "--trace"),
        (&["0x1", "--trace", "/nonexistent"], "/nonexistent"),
        (&["0x1", "--trace", "/etc/passwd"], "line 1"),
        (&["--map", "--tlb", "classic"], "--tlb"),
        (&["0x1", "--cpus", "0"], "1 to 64"),
    ] {
        let ran = faultline(arguments);
        let errors = ran.errors();
        assert_eq!((ran.code(), errors.lines().count()), (Some(125), 1), "{arguments:?}: {errors}");
        assert!(
            errors.starts_with("faultline: ") && errors.contains(says),
            "{arguments:?}: {errors}"
        );
        assert!(ran.stdout.is_empty(), "{arguments:?}");
    }
}
