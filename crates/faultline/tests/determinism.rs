//! The same command gives the same figures: run again, in the reference mode, in another terminal,
//! by another build of us.

mod common;

use std::fs;
use std::process::Command;

use common::{Build, Guest, build, fresh, installed, lines};
use serde_json::Value;

/// The time of day at the start of every run, so that none sees another day than the one before.
const BOOT_TIME: [&str; 2] = ["--boot-time", "1700000000"];

/// Programs that use the machine in different ways.
fn guests() -> Vec<Guest> {
    commands().into_iter().map(|guest| guest.options(BOOT_TIME)).collect()
}

fn commands() -> Vec<Guest> {
    let text = common::input("determinism.txt", || lines(2000));
    let text = text.to_str().expect("our own names are text");
    let python = "import json, random\nrandom.seed(3)\n\
                  print(json.dumps([random.random() for _ in range(500)])[:60])";
    let mut guests = Vec::new();
    for command in [
        &["/bin/true"][..],
        &["/usr/bin/sort", text],
        &["/bin/gzip", "-n", "-c", text],
        &["/usr/bin/python3", "-S", "-c", python],
        &["/bin/sh", "-c", "for i in 1 2 3; do echo $i; done | (sleep 1 & sort -r; wait) | wc -c"],
        &["/usr/bin/lua5.4", "-e", "local t = {} for i = 1, 4999 do t[i] = {i} end print(#t)"],
    ] {
        if installed(command[0]).is_some() {
            guests.push(Guest::new(command));
        }
    }
    let script =
        "/bin/ls /usr/bin | /usr/bin/sort -r | /usr/bin/tail -n 3; (exit 3) & wait $!; echo $?";
    guests.push(Guest::new(["/bin/sh", "-c", script]));
    for (kernel, size) in [("quicksort", "40000"), ("ssecopy", "12"), ("sha256", "1")] {
        if let Some(program) = build(&format!("kernels/{kernel}.c"), Build::MuslStatic) {
            guests.push(Guest::new([program.as_os_str(), size.as_ref()]));
        }
    }
    for program in ["copies", "groups_of_threads", "pthreads", "stops"] {
        if let Some(program) = build(&format!("processes/{program}.c"), Build::GlibcStatic) {
            guests.push(Guest::new([program]));
        }
    }
    for pattern in ["anonread", "mprot", "dontneed", "mremap"] {
        if let Some(program) = build("patterns.c", Build::GlibcStatic) {
            let arguments = [program.as_os_str(), pattern.as_ref(), "0x100000".as_ref()];
            guests.push(Guest::new(arguments));
        }
    }
    guests
}

/// All TLB presets by name, and none.
fn tlbs() -> Vec<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_faultline"))
        .args(["machine", "list", "--json"])
        .output()
        .expect("our own program runs");
    let list: Value = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let presets = list["tlbs"].as_array().expect("it lists TLBs").iter();
    let names = presets.map(|tlb| tlb["name"].as_str().expect("each has a name").to_owned());
    names.chain(["off".to_owned()]).collect()
}

#[test]
fn two_runs_are_byte_identical() {
    for guest in guests() {
        let (first, report, first_bytes) = guest.inside_with_json();
        let (second, _, second_bytes) = guest.inside_with_json();
        assert_eq!(first, second);
        let differs =
            String::from_utf8_lossy(&first_bytes) != String::from_utf8_lossy(&second_bytes);
        assert!(!differs, "two reports of {first:?} differ");
        assert!(report["log_hash"].as_str().is_some_and(|hash| hash.len() == 18), "{report:#}");
    }
}

/// The host moves it when anybody reads the file: we, for one.
#[test]
fn the_time_of_the_last_access_is_no_input() {
    let file = fresh("accessed");
    fs::write(&file, "text").expect("the target can be written");
    let name = file.to_str().expect("our own names are text");
    let guest = Guest::new(["/usr/bin/stat", "-c", "%n %X %x %Y %s", name]).options(BOOT_TIME);
    let touch = |time: &str| {
        let status = Command::new("touch").args(["-a", "-d", time, name]).status();
        assert!(status.is_ok_and(|status| status.success()), "coreutils are installed");
    };
    touch("2001-02-03 04:05:06");
    let (_, _, before) = guest.inside_with_json();
    touch("2011-12-13 14:15:16.789");
    let (_, _, after) = guest.inside_with_json();
    assert_eq!(String::from_utf8_lossy(&before), String::from_utf8_lossy(&after));
}

/// `cargo xtask test` builds the other one and says where it is.
#[test]
fn a_build_with_all_checks_gives_the_same_report() {
    let Some(other) = std::env::var_os("FAULTLINE_DEBUG_BUILD") else {
        return common::skip("FAULTLINE_DEBUG_BUILD does not name a debug build of faultline");
    };
    for guest in guests() {
        let (ran, _, bytes) = guest.inside_with_json();
        let (other_ran, _, other_bytes) = guest.by(&other).inside_with_json();
        assert_eq!(ran, other_ran);
        let (report, other) =
            (String::from_utf8_lossy(&bytes), String::from_utf8_lossy(&other_bytes));
        assert!(report == other, "the reports of {ran:?} differ:\n{report}\n{other}");
    }
}

/// In terminals of two sizes, and without a controlling terminal.
#[test]
fn the_terminal_changes_no_figure() {
    for command in ["/bin/true", "/bin/date -u -d @0", "/bin/gzip -n -c /etc/passwd"] {
        let report = |size: &str| {
            let json = fresh("json");
            let name = json.to_str().expect("our own names are text");
            let inside = format!(
                "stty {size}; {} run --report none --json {name} {} -- {command}",
                env!("CARGO_BIN_EXE_faultline"),
                BOOT_TIME.join(" ")
            );
            let mut script = Command::new("script");
            script.args(["-qec", &inside, "/dev/null"]).stdin(std::process::Stdio::null());
            let output = script.output().expect("script of bsdutils is installed");
            assert!(output.status.success(), "{output:?}");
            fs::read_to_string(json).expect("it was written")
        };
        assert_eq!(report("rows 24 cols 80"), report("rows 61 cols 233"), "{command}");
        let guest = Guest::new(command.split(' ')).options(BOOT_TIME);
        let (_, _, plain) = guest.inside_with_json();
        let mut alone = Command::new("setsid");
        let json = fresh("json");
        alone.arg("--wait").arg(env!("CARGO_BIN_EXE_faultline"));
        alone.args(["run", "--report", "none", "--json"]).arg(&json).args(BOOT_TIME).arg("--");
        let output = alone.args(command.split(' ')).env_clear().envs(common::ENVIRONMENT).output();
        assert!(output.is_ok_and(|output| output.status.success()), "{command}");
        let bytes = fs::read(json).expect("it was written");
        assert_eq!(String::from_utf8_lossy(&plain), String::from_utf8_lossy(&bytes), "{command}");
    }
}

#[test]
fn what_the_program_sees_of_the_machine_is_the_same_again() {
    let Some(program) = build("hostile/hidden_state.c", Build::MuslStatic) else { return };
    let guest = Guest::new([program]).options(BOOT_TIME);
    assert_eq!(guest.inside(), guest.inside());
    let other = guest.clone().options(["--seed", "1"]);
    assert_ne!(guest.inside().stdout, other.inside().stdout, "the seed decides what is random");
}

#[test]
fn counting_instructions_changes_no_other_figure() {
    for guest in guests() {
        let (_, mut plain, _) = guest.inside_with_json();
        let (_, counted, _) = guest.clone().options(["--count", "instructions"]).inside_with_json();
        assert_eq!(plain["instructions"], Value::Null);
        let count = counted["instructions"].as_u64().expect("they are counted");
        assert!(count > 1000, "{count} instructions");
        plain["instructions"] = counted["instructions"].clone();
        assert_eq!(plain, counted);
    }
}

/// Every counter of every program under every TLB equals that of the reference mode.
#[test]
fn the_fast_path_counts_like_the_model() {
    for (index, guest) in guests().into_iter().enumerate() {
        for (number, tlb) in tlbs().iter().enumerate() {
            // Every program under the first preset, and each preset under some programs.
            if number > 0 && index % 3 != number % 3 {
                continue;
            }
            let guest = guest.clone().options(["--tlb", tlb]);
            let (_, fast, _) = guest.inside_with_json();
            let (_, reference, _) = guest.options(["--reference"]).inside_with_json();
            if tlb == "off" {
                // Without TLBs a walk is a miss of the engine's own cache.
                assert_eq!(fast["faults"], reference["faults"]);
                assert_eq!(fast["log_hash"], reference["log_hash"]);
            } else {
                assert_eq!(fast, reference, "{tlb}");
            }
        }
    }
}

#[test]
fn five_levels_change_the_walks_alone() {
    for guest in guests() {
        let (four, four_report, _) = guest.inside_with_json();
        let five = guest.clone().options(["--machine", "x86-64-la57"]);
        let (five, five_report, _) = five.inside_with_json();
        assert_eq!(four, five);
        for key in ["faults", "accesses", "tlb", "syscalls"] {
            assert_eq!(four_report[key], five_report[key], "{key}");
        }
        assert!(
            five_report["walks"]["memory_reads"].as_u64()
                > four_report["walks"]["memory_reads"].as_u64()
        );
    }
}
