//! Wrong options, missing programs, files that are no programs: one line, and 125, 126 or 127.

mod common;

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use common::{Build, Guest, Ran, build, fresh};

/// Runs us with these arguments.
fn faultline(arguments: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    let output = command.args(arguments).output().expect("our own program runs");
    Ran { status: output.status, stdout: output.stdout, stderr: output.stderr }
}

#[track_caller]
fn refuses(arguments: &[&str], code: i32, says: &[&str]) {
    let ran = faultline(arguments);
    let errors = ran.errors();
    assert_eq!(ran.code(), Some(code), "{arguments:?}: {errors}");
    assert_eq!(errors.lines().count(), 1, "{arguments:?}: {errors}");
    assert!(errors.starts_with("faultline: "), "{errors}");
    for word in says {
        assert!(errors.contains(word), "{arguments:?}: {errors} does not say {word}");
    }
    assert!(ran.stdout.is_empty(), "{arguments:?}");
}

/// A new file with this content and mode.
fn file(name: &str, content: &[u8], mode: u32) -> String {
    let path: PathBuf = fresh(name);
    fs::write(&path, content).expect("the target can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
    path.into_os_string().into_string().expect("our own names are text")
}

#[test]
fn wrong_options_are_125_and_say_what_is_accepted() {
    for (arguments, says) in [
        (&["run"][..], &["PROGRAM"][..]),
        (&[], &["help"]),
        (&["walk"], &["walk", "help"]),
        (&["run", "--nonsense", "true"], &["--nonsense", "help"]),
        (&["run", "--ram", "abc", "true"], &["--ram abc", "K, M, G"]),
        (&["run", "--ram", "0", "true"], &["--ram 0", "1M"]),
        (&["run", "--ram", "5000", "true"], &["--ram 5000", "4K"]),
        (&["run", "--ram", "99999999T", "true"], &["--ram"]),
        (&["run", "--tlb", "enormous", "true"], &["--tlb enormous", "off"]),
        (&["run", "--tlb", "/nonexistent.toml", "true"], &["/nonexistent.toml"]),
        (&["run", "--machine", "pdp-11", "true"], &["--machine pdp-11", "x86-64"]),
        (&["run", "--machine", "i386", "--ram", "5G", "true"], &["--machine i386", "4 GiB"]),
        (&["run", "--timeout", "soon", "true"], &["--timeout", "whole number"]),
        (&["run", "--max-procs", "few", "true"], &["--max-procs", "whole number"]),
        (&["run", "--count", "sheep", "true"], &["sheep", "instructions"]),
        (&["run", "--report", "html", "true"], &["html", "text", "none"]),
        (&["run", "--seed", "-1", "true"], &["--seed", "whole number"]),
        (&["run", "--boot-time", "soon", "true"], &["--boot-time", "whole number"]),
        (&["run", "--bind", "/a", "true"], &["--bind /a", "HOST:GUEST"]),
        (&["run", "--bind", "/a:/b:rx", "true"], &["--bind /a:/b:rx", "rw"]),
        (&["run", "--bind", "/nonexistent:/b", "true"], &["/nonexistent"]),
        (&["run", "--root", "/nonexistent", "true"], &["/nonexistent"]),
        (&["run", "--cwd", "here", "true"], &["--cwd here", "absolute"]),
        (&["run", "--cwd", "/nonexistent", "true"], &["/nonexistent"]),
        (&["run", "--env", "=x", "true"], &["NAME=VALUE"]),
        (&["run", "-o", "/nonexistent/x", "true"], &["/nonexistent/x"]),
        (&["run", "--json", "/nonexistent/x", "true"], &["/nonexistent/x"]),
        (&["run", "--trace", "/nonexistent/x", "true"], &["/nonexistent/x"]),
        (&["machine", "show", "enormous"], &["enormous", "machine list"]),
        (&["machine"], &["help"]),
    ] {
        refuses(arguments, 125, says);
    }
}

#[test]
fn one_mebibyte_is_enough_for_a_small_program() {
    let ran = faultline(&["run", "--report", "none", "--ram", "1M", "--", "/bin/true"]);
    assert_eq!((ran.code(), ran.errors()), (Some(0), String::new()));
}

#[test]
fn missing_programs_are_127() {
    refuses(&["run", "--", "/nonexistent/program"], 127, &["/nonexistent/program"]);
    refuses(&["run", "--", "no-such-program-anywhere"], 127, &["no-such-program-anywhere", "PATH"]);
    refuses(&["run", "--", ""], 127, &[]);
    // As `env` has it: only what does not exist is missing.
    refuses(&["run", "--", "/etc/passwd/x"], 126, &["/etc/passwd/x", "Not a directory"]);
}

#[test]
fn what_cannot_be_executed_is_126() {
    let text = file("text", b"just text\n", 0o755);
    let plain = file("plain", &fs::read("/bin/true").expect("coreutils are installed"), 0o644);
    let empty = file("empty", b"", 0o755);
    let script = file("script", b"#!/bin/sh\nexit 3\n", 0o755);
    refuses(&["run", "--", &text], 126, &[&text, "ELF"]);
    refuses(&["run", "--", &plain], 126, &[&plain]);
    refuses(&["run", "--", &empty], 126, &[&empty]);
    refuses(&["run", "--", "/etc"], 126, &["/etc"]);
    refuses(&["run", "--machine", "i386", "--", "/bin/sh"], 126, &["/bin/sh", "for i386 Linux"]);
    // A script runs, or is refused as a program without an ELF header would be.
    let ran = faultline(&["run", "--report", "none", "--", &script]);
    assert!(matches!(ran.code(), Some(3 | 126)), "{ran:?}");
}

/// An ELF file of this machine with one thing changed.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> Option<String> {
    let program = build("hello.c", Build::MuslStatic)?;
    let mut bytes = fs::read(program).expect("it was just built");
    change(&mut bytes);
    Some(file(name, &bytes, 0o755))
}

/// Writes a little-endian number into a header.
fn put(bytes: &mut [u8], at: usize, size: usize, value: u64) {
    bytes[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
}

type Change = fn(&mut Vec<u8>);

/// Headers that Linux refuses in execve: the native errno is ENOEXEC, ENOMEM or EINVAL.
const REFUSED: [(&str, Change); 9] = [
    ("magic", |bytes| bytes[1] = b'F'),
    ("truncated-20", |bytes| bytes.truncate(20)),
    ("truncated-64", |bytes| bytes.truncate(64)),
    ("machine", |bytes| put(bytes, 18, 2, 183)),
    ("type", |bytes| put(bytes, 16, 2, 1)),
    ("header-entry-size", |bytes| put(bytes, 54, 2, 57)),
    ("no-headers", |bytes| put(bytes, 56, 2, 0)),
    ("headers-beyond", |bytes| put(bytes, 32, 8, 1 << 40)),
    ("headers-wrap", |bytes| put(bytes, 32, 8, u64::MAX - 8)),
];

/// Headers that Linux accepts or refuses late: the program may die, but not we.
const ODD: [(&str, Change); 9] = [
    ("too-many-headers", |bytes| put(bytes, 56, 2, 0xffff)),
    ("entry-zero", |bytes| put(bytes, 24, 8, 0)),
    ("entry-kernel", |bytes| put(bytes, 24, 8, 0xffff_ffff_8100_0000)),
    ("address-kernel", |bytes| put(bytes, 64 + 16, 8, 0xffff_ffff_8100_0000)),
    ("address-wraps", |bytes| put(bytes, 64 + 16, 8, u64::MAX - 4095)),
    ("memory-size-huge", |bytes| put(bytes, 64 + 40, 8, u64::MAX)),
    ("file-size-huge", |bytes| put(bytes, 64 + 32, 8, u64::MAX / 2)),
    ("offset-huge", |bytes| put(bytes, 64 + 8, 8, !4095)),
    ("cut-in-half", |bytes| bytes.truncate(bytes.len() / 2)),
];

#[test]
fn headers_that_linux_refuses_are_126() {
    for (name, change) in REFUSED {
        let Some(path) = changed(name, change) else { return };
        refuses(&["run", "--", &path], 126, &[&path]);
    }
}

#[test]
fn odd_headers_end_the_program_and_not_us() {
    for (name, change) in ODD {
        let Some(path) = changed(name, change) else { return };
        let ran = faultline(&["run", "--report", "none", "--", &path]);
        assert!(!ran.errors().contains("panicked"), "{name}: {ran:?}");
        assert!(
            ran.signal().is_some() || ran.code() == Some(126) || ran.code() == Some(0),
            "{name}: {ran:?}"
        );
    }
}

/// Every byte of the headers set to the extremes: nothing may panic.
#[test]
fn no_header_byte_makes_us_panic() {
    for at in (0..64 + 2 * 56).step_by(3) {
        let Some(path) = changed("byte", |bytes| bytes[at] = if at % 2 == 0 { 0xff } else { 0x80 })
        else {
            return;
        };
        let ran = faultline(&["run", "--report", "none", "--ram", "64M", "--", &path]);
        assert!(!ran.errors().contains("panicked"), "byte {at}: {ran:?}");
        assert!(!matches!(ran.code(), Some(101 | 125)), "byte {at}: {ran:?}");
        fs::remove_file(path).expect("it is ours");
    }
}

#[test]
fn the_missing_interpreter_is_named() {
    let Some(program) = build("hello.c", Build::Dynamic) else { return };
    let mut bytes = fs::read(program).expect("it was just built");
    let name = b"/lib64/ld-linux-x86-64.so.2";
    let at = bytes.windows(name.len()).position(|window| window == name).expect("it has one");
    bytes[at + 5] = b'X';
    let path = file("interpreter", &bytes, 0o755);
    let ran = faultline(&["run", "--", &path]);
    assert!(matches!(ran.code(), Some(126 | 127)), "{ran:?}");
    assert_eq!(ran.errors().lines().count(), 1, "{ran:?}");
}

#[test]
fn help_and_version_are_no_errors() {
    for arguments in [
        &["--help"][..],
        &["--version"],
        &["run", "--help"],
        &["machine", "--help"],
        &["machine", "list", "--help"],
        &["machine", "list"],
        &["machine", "list", "--json"],
        &["machine", "show", "x86-64"],
        &["machine", "show", "x86-64-la57", "--json"],
    ] {
        let ran = faultline(arguments);
        assert_eq!(ran.code(), Some(0), "{arguments:?}: {ran:?}");
        assert!(!ran.stdout.is_empty() && ran.stderr.is_empty(), "{arguments:?}: {ran:?}");
    }
    let help = faultline(&["run", "--help"]).text();
    for word in ["Examples:", "--ram", "--tlb", "--json", "127", "TERM"] {
        assert!(help.contains(word), "{word}: {help}");
    }
}

#[test]
fn a_file_of_ours_describes_machine_and_tlb() {
    let shown = faultline(&["machine", "show", "x86-64"]);
    assert_eq!(shown.code(), Some(0), "{shown:?}");
    let tlb = "name = \"tiny\"\n[l1d]\nk4 = { entries = 4, ways = 4 }\n\
               [l1i]\nk4 = { entries = 2, ways = 1 }\n";
    let tlb = file("tiny.toml", tlb.as_bytes(), 0o644);
    let machine = format!("geometry = \"x86-64-la57\"\nram = \"128M\"\ntlb = \"{tlb}\"\n");
    let machine = file("machine.toml", machine.as_bytes(), 0o644);
    let (ran, report, _) =
        Guest::new(["/bin/true"]).options(["--machine", &machine]).inside_with_json();
    assert_eq!(ran.code(), Some(0), "{ran:?}");
    assert_eq!(report["machine"]["tlb"], "tiny");
    assert_eq!(report["machine"]["geometry"], "x86-64-la57");
    assert_eq!(report["memory"]["ram_bytes"], 128 << 20);
    let wrong = file("wrong.toml", b"name = 1\n", 0o644);
    refuses(&["run", "--tlb", &wrong, "true"], 125, &[&wrong, "line 1"]);
}

#[test]
fn an_absurd_machine_file_is_refused_by_file_and_line() {
    for (text, says) in [
        ("geometry = \"x86-64\"\nlevels = 9\n", &["line 2", "x86-64 has 4"][..]),
        ("levels = 9\n", &["line 1", "levels 9", "2, 3, 4 or 5"]),
        ("levels = 5\n\naddress_bits = 48\n", &["line 3", "address_bits 48", "57 with 5"]),
        ("levels = 4\ngeometry = \"i386\"\n", &["line 1", "levels 4", "i386 has 2"]),
        ("levels = -1\n", &["line 1", "levels -1"]),
        ("levels = 99999999999999999999\n", &["line 1", "the keys are"]),
        ("address_bits = 32\n", &["line 1", "give levels"]),
        ("address_bits = 64\n", &["line 1", "no such addresses"]),
        ("# a machine\ngeometry = \"pdp-11\"\n", &["line 2", "pdp-11", "i386-pae"]),
        ("tlb = \"off\"\nram = \"0\"\n", &["line 2", "--ram 0", "1M to 64T"]),
        ("ram = \"5000\"\n", &["line 1", "multiple of 4K"]),
        ("ram = \"65T\"\n", &["line 1", "1M to 64T"]),
        ("ram = 4096\n", &["line 1", "the keys are"]),
        (
            "geometry = \"i386-pae\"\npage_offset = 0xb0000000\n",
            &["line 2", "page_offset", "multiples of 1 GiB only"],
        ),
        ("page_offset = 0xc0000000\n", &["line 1", "only kernels of 32 bits have a split"]),
        ("levels = 2\npage_offset = -1\n", &["line 2", "0x78000000 and 0x40000000"]),
        ("ram = \"1G\"\nram = \"2G\"\n", &["line 2", "duplicate"]),
        ("\n\ntlb = \"none\"\n", &["line 3", "no such TLBs"]),
        ("pages = 4096\n", &["line 1", "pages"]),
        ("levels = [4, 4]\n", &["line 1", "the keys are"]),
        ("[machine]\nlevels = 4\n", &["line 1", "machine"]),
        ("levels: 4\n", &["line 1", "the keys are"]),
        ("\u{0}\u{1}", &["line 1", "the keys are"]),
    ] {
        let path = file("absurd.toml", text.as_bytes(), 0o644);
        let says = [&[path.as_str()], says].concat();
        refuses(&["run", "--machine", &path, "true"], 125, &says);
        refuses(&["explain", "0x1000", "--machine", &path], 125, &says);
    }
    let right = file("right.toml", b"levels = 3\naddress_bits = 32\nram = \"16G\"\n", 0o644);
    let shown = faultline(&["explain", "0xc0000001", "--machine", &right]);
    assert!(shown.text().starts_with("0xc0000001 on i386-pae with 16 GiB of RAM"), "{shown:?}");
}

#[test]
fn reports_go_where_they_are_sent() {
    let (text, json, trace) = (fresh("o.txt"), fresh("o.json"), fresh("o.trace"));
    let names = [&text, &json, &trace].map(|path| path.to_str().expect("our own names are text"));
    let options = ["-o", names[0], "--json", names[1], "--trace", names[2]];
    let ran = Guest::new(["/bin/echo", "hi"]).options(options).inside_with_text();
    assert_eq!((ran.code(), ran.text().as_str(), ran.errors().as_str()), (Some(0), "hi\n", ""));
    let text = fs::read_to_string(text).expect("it was written");
    assert!(text.starts_with("faultline: /"), "{text}");
    assert!(text.lines().count() <= 40 && text.lines().all(|line| line.chars().count() <= 100));
    assert!(!text.contains('\u{1b}'));
    assert!(fs::read_to_string(json).expect("it was written").contains("faultline.report/1"));
    let trace = fs::read_to_string(trace).expect("it was written");
    for word in [" exec ", " fault ", " map ", " syscall ", " exit "] {
        assert!(trace.contains(word), "{word} is missing");
    }
}

#[test]
fn a_kill_leaves_no_half_written_report_under_its_name() {
    let (json, text, trace) = (fresh("k.json"), fresh("k.txt"), fresh("k.trace"));
    fs::write(&json, "from before").expect("the directory is ours");
    let names = [&text, &json, &trace].map(|path| path.to_str().expect("our own names are text"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    command.args(["run", "-o", names[0], "--json", names[1], "--trace", names[2], "--"]);
    command.args(["/bin/sh", "-c", "echo; while :; do :; done"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut first = [0];
    child.stdout.as_mut().expect("a pipe").read_exact(&mut first).expect("the program runs");
    child.kill().expect("it is ours");
    child.wait().expect("it is ours");
    assert_eq!(fs::read_to_string(&json).expect("it is still there"), "from before");
    assert!(!text.exists() && !trace.exists());
    // What there was of the new ones lies beside them.
    for path in [json, text, trace] {
        let name = path.file_name().expect("it has one").display();
        let unfinished = path.with_file_name(format!(".{name}.{}.new", child.id()));
        fs::remove_file(unfinished).expect("it was being written");
    }
}

#[test]
fn a_link_and_the_permissions_of_a_report_stay() {
    let (json, link) = (fresh("p.json"), fresh("p.link"));
    fs::write(&json, "from before").expect("the directory is ours");
    fs::set_permissions(&json, fs::Permissions::from_mode(0o640)).expect("it is ours");
    std::os::unix::fs::symlink(&json, &link).expect("the name is free");
    let name = link.to_str().expect("our own names are text");
    let ran = faultline(&["run", "--report", "none", "--json", name, "--", "/bin/true"]);
    assert_eq!(ran.code(), Some(0), "{ran:?}");
    assert!(link.is_symlink());
    assert!(fs::read_to_string(&json).expect("it was written").contains("faultline.report/1"));
    let mode = fs::metadata(&json).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

/// Beside RAM the limit leaves 56 MiB; kept in memory, the events alone would be more.
#[test]
fn a_trace_is_written_while_the_program_runs() {
    let Some(program) = build("many_calls.c", Build::MuslStatic) else { return };
    let trace = fresh("long.trace");
    let mut command = Command::new("prlimit");
    command.args(["--data=125829120", env!("CARGO_BIN_EXE_faultline"), "run", "--report", "none"]);
    command.args(["--ram", "64M", "--trace"]).arg(&trace).arg("--").arg(program);
    let output = command.output().expect("prlimit of util-linux is installed");
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(&trace).expect("it was written");
    assert!(text.lines().count() > 1_500_000);
    assert!(text.lines().last().is_some_and(|line| line.contains(" exit ")), "the end is there");
    fs::remove_file(trace).expect("it is ours");
}

#[test]
fn a_trace_that_cannot_be_written_is_a_failure_of_ours() {
    let ran = faultline(&["run", "--report", "none", "--trace", "/dev/full", "--", "/bin/true"]);
    assert_eq!(ran.code(), Some(125), "{ran:?}");
    assert!(ran.errors().contains("cannot write"), "{ran:?}");
}

#[test]
fn limits_end_what_would_not_end() {
    let endless = Guest::new(["/bin/sh", "-c", "while :; do :; done"]).options(["--timeout", "1"]);
    let (ran, report, bytes) = endless.inside_with_json();
    assert_eq!(ran.code(), Some(124), "{ran:?}");
    assert_eq!(report["exit"]["reason"], "timed_out");
    assert!(endless.inside_with_json().2 == bytes, "it is the same instruction every time");
    let sleeper = Guest::new(["/bin/sleep", "100000"]).options(["--timeout", "9"]).inside();
    assert_eq!(sleeper.code(), Some(124), "{sleeper:?}");
    let in_time = Guest::new(["/bin/sleep", "8"]).options(["--timeout", "9"]).inside();
    assert_eq!(in_time.code(), Some(0), "{in_time:?}");
    let script = "/bin/sleep 1 & /bin/sleep 1 & /bin/sleep 1 & wait; echo all";
    let shell = Guest::new(["/bin/sh", "-c", script]);
    assert_eq!(shell.clone().options(["--max-procs", "4"]).inside().text(), "all\n");
    let refused = shell.options(["--max-procs", "3"]).inside();
    assert!(refused.errors().contains("fork") && refused.text().is_empty(), "{refused:?}");
}

#[test]
fn what_can_never_go_on_is_ended_and_said() {
    let script = "/bin/sleep infinity & wait";
    let (ran, report, _) = Guest::new(["/bin/sh", "-c", script]).inside_with_json();
    assert_eq!(ran.code(), Some(125), "{ran:?}");
    assert_eq!(ran.errors().lines().count(), 1, "{ran:?}");
    let told = report["deadlock"].as_str().expect("it is told");
    assert!(told.contains("sleep") && told.contains("sh"), "{told}");
    assert!(ran.errors().contains(told), "{ran:?}");
    assert!(report["exit"]["reason"]["stuck"]["syscall"].is_u64(), "{report:#}");
    assert_eq!(report["memory"]["frames_leaked"], 0);
}

#[test]
fn json_to_stdout_follows_the_program_s_output() {
    let options = ["--report", "none", "--json", "-"];
    let ran = faultline(&[&["run"][..], &options, &["--", "/bin/echo", "hi"]].concat());
    let text = ran.text();
    let (first, rest) = text.split_once('\n').expect("there are lines");
    assert_eq!(first, "hi");
    let report: serde_json::Value = serde_json::from_str(rest).expect("the rest is the report");
    assert_eq!(report["exit"]["code"], 0);
}

#[test]
fn out_of_memory_is_the_program_s_problem() {
    let script = "try:\n b = bytearray(300 << 20)\nexcept MemoryError:\n print('no memory')\n";
    if common::installed("/usr/bin/python3").is_none() {
        return;
    }
    let guest = Guest::new(["/usr/bin/python3", "-S", "-c", script]).options(["--ram", "128M"]);
    let ran = guest.inside_with_text();
    assert!(ran.signal() == Some(9) || ran.text() == "no memory\n", "{ran:?}");
    assert!(ran.errors().contains("MEMORY (KiB)"), "the report is printed: {ran:?}");
}

#[test]
fn binds_and_roots_change_what_the_program_sees() {
    let directory = fresh("bound");
    fs::create_dir_all(&directory).expect("the target can be written");
    fs::write(directory.join("inside"), "content\n").expect("it is ours");
    let host = directory.to_str().expect("our own names are text");
    let read_only = format!("{host}:/bound");
    let writable = format!("{host}:/bound:rw");
    let ran = Guest::new(["/bin/cat", "/bound/inside"]).options(["--bind", &read_only]).inside();
    assert_eq!(ran.text(), "content\n", "{ran:?}");
    let touch = Guest::new(["/bin/touch", "/bound/new"]);
    let ran = touch.clone().options(["--bind", &read_only]).inside();
    assert_ne!(ran.code(), Some(0), "{ran:?}");
    assert!(!directory.join("new").exists());
    let ran = touch.options(["--bind", &writable]).inside();
    assert_eq!(ran.code(), Some(0), "{ran:?}");
    assert!(directory.join("new").exists(), "a writable bind reaches the host");
    if let Some(program) = build("hello.c", Build::MuslStatic) {
        fs::copy(program, directory.join("hello")).expect("it is ours");
        let ran = Guest::new(["/hello"]).options(["--root", host]).inside();
        assert_eq!(ran.text(), "hello\n", "{ran:?}");
    }
    let name = fresh("of-the-host");
    let name = name.to_str().expect("our own names are text");
    let ran = Guest::new(["/bin/touch", name]).inside();
    assert_eq!(ran.code(), Some(0), "{ran:?}");
    assert!(!PathBuf::from(name).exists(), "what a guest writes stays inside");
}

#[test]
fn the_environment_is_small_and_ours_to_set() {
    let ran = Guest::new(["/usr/bin/env"]).options(["--env", "A=b", "--env", "LANG=x"]).inside();
    assert_eq!(ran.text(), "PATH=/usr/bin:/bin\nHOME=/root\nA=b\nLANG=x\n", "{ran:?}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_faultline"));
    command.args(["run", "--report", "none", "--", "/usr/bin/env"]);
    command.env_clear().env("SECRET", "1").env("LC_ALL", "C").env("TERM", "dumb");
    let output = command.output().expect("our own program runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "TERM=dumb\nLC_ALL=C\n");
}

#[test]
fn a_machine_too_small_to_start_the_program_says_the_smallest_that_works() {
    // Two MiB of arguments do not fit into one MiB of RAM.
    let words: Vec<String> = (0..20).map(|_| "x".repeat(100_000)).collect();
    let start = |ram: &str| {
        let mut arguments = vec!["run", "--report", "none", "--ram", ram, "--", "/bin/true"];
        arguments.extend(words.iter().map(String::as_str));
        faultline(&arguments)
    };
    let refused = start("1M");
    let said = refused.errors();
    assert_eq!((refused.code(), said.lines().count()), (Some(125), 1), "{said}");
    let kib = said.trim_end().strip_suffix('K').and_then(|said| said.rsplit(' ').next());
    let kib: u64 = kib.and_then(|kib| kib.parse().ok()).unwrap_or_else(|| panic!("{said}"));
    assert!((2048..8192).contains(&kib), "{said}");
    let enough = start(&format!("{kib}K"));
    assert_ne!(enough.code(), Some(125), "{enough:?}");
    let less = start(&format!("{}K", kib - 4));
    assert_eq!(
        (less.code(), less.errors()),
        (Some(125), said.replace("1024K", &format!("{}K", kib - 4)))
    );
}

#[test]
fn intervals_are_times() {
    for time in ["10", "0ms", "ms", "1h", "-1ms", "99999999999999999999s"] {
        let option = format!("--working-set={time}");
        let ran = faultline(&["run", &option, "true"]);
        assert!(ran.code() == Some(125) && ran.errors().contains("10ms"), "{ran:?}");
    }
}
