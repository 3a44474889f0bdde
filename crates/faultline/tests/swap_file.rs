//! `--swap-file`: programs larger than RAM are right, files that are not ours stay as they are, and
//! a kill at any moment leaves no half-written file.

mod common;

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::{Build, Guest, build, fresh};
use serde_json::Value;

const FAULTLINE: &str = env!("CARGO_BIN_EXE_faultline");
/// Bytes of the two headers, and of one page with what stands behind it.
const HEADERS: u64 = 8192;
const RECORD: u64 = 4128;

/// A directory of this test alone.
fn directory() -> PathBuf {
    let directory = fresh("swap");
    fs::create_dir_all(&directory).expect("the target can be written");
    directory
}

/// A run of `true` with a swap file.
fn start(file: &Path, swap: Option<&str>) -> (Option<i32>, String) {
    let mut command = Command::new(FAULTLINE);
    command.args(["run", "--report", "none", "--swap-file"]).arg(file);
    if let Some(size) = swap {
        command.args(["--swap", size]);
    }
    let output = command.args(["--", "/bin/true"]).output().expect("it starts");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Fills 24 MiB in a machine of 16 MiB and looks at every page.
fn larger_than_ram(file: &Path) -> Option<Guest> {
    let program = build("pressure/oom.c", Build::GlibcStatic)?;
    let file = file.to_str().expect("our own names are text");
    let command = [program.to_str().expect("our own names are text"), "24", "1"];
    let options = ["--ram", "16M", "--swap", "64M", "--swap-file", file];
    Some(Guest::new(command).options(options))
}

#[test]
fn programs_larger_than_ram_are_right_with_a_file_as_with_memory() {
    let directory = directory();
    let file = directory.join("swap");
    let Some(guest) = larger_than_ram(&file) else { return };
    let (ran, report, _) = guest.inside_with_json();
    assert_eq!(ran.text(), "the child has 0 wrong words\nchild: 300; parent: 0 wrong words\n");
    let of = |pointer: &str| report.pointer(pointer).and_then(Value::as_u64);
    assert!(of("/swap/in_pages") > Some(0), "nothing came back");
    assert_eq!(of("/memory/frames_leaked"), Some(0));
    assert_eq!(fs::metadata(&file).expect("it stays").len(), HEADERS + 16384 * RECORD);
    // The second run uses the same file; the third has memory instead: all counts are the same.
    let (_, second, _) = guest.inside_with_json();
    let program = build("pressure/oom.c", Build::GlibcStatic).expect("it was built");
    let memory = Guest::new([program.to_str().expect("text"), "24", "1"])
        .options(["--ram", "16M", "--swap", "64M"]);
    let (_, third, _) = memory.inside_with_json();
    for other in [second, third] {
        for key in ["faults", "swap", "reclaim", "virtual_ns", "log_hash"] {
            assert_eq!(report[key], other[key], "{key}");
        }
    }
    fs::remove_dir_all(directory).expect("it is ours");
}

#[test]
fn files_that_cannot_be_used_are_refused_and_stay_as_they_are() {
    let directory = directory();
    let good = directory.join("good");
    assert_eq!(start(&good, Some("1M")), (Some(0), String::new()));
    let image = fs::read(&good).expect("it is there");
    let cut = |bytes: u64| image[..usize::try_from(bytes).expect("small")].to_vec();
    let mut flipped = image.clone();
    flipped[20] ^= 1;
    flipped[4096 + 20] ^= 1;
    let mut newer = image.clone();
    newer[8] = 2;
    newer[4096 + 8] = 2;
    let linux = [vec![0; 4086], b"SWAPSPACE2".to_vec(), vec![0; 60 << 10]].concat();
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("empty", vec![], "not a swap file of faultline"),
        ("text", b"my diary\n".repeat(3000), "not a swap file of faultline"),
        ("linux", linux, "not a swap file of faultline"),
        ("header-cut", cut(100), "not a swap file of faultline"),
        ("cut", cut(HEADERS + 17 * RECORD + 5), "damaged"),
        ("longer", [image.clone(), vec![0]].concat(), "damaged"),
        ("flipped", flipped, "damaged"),
        ("newer", newer, "damaged"),
    ];
    for (name, bytes, why) in cases {
        let path = directory.join(name);
        fs::write(&path, &bytes).expect("it can be written");
        let (code, said) = start(&path, Some("1M"));
        assert_eq!(code, Some(125), "{name}: {said}");
        assert!(said.contains(why) && said.contains("--swap-file "), "{name}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(fs::read(&path).expect("it is there"), bytes, "{name} was changed");
    }
    let (code, said) = start(&good, Some("2M"));
    assert!(code == Some(125) && said.contains("holds 1024K"), "{said}");
    assert_eq!(fs::read(&good).expect("it is there"), image, "another size");
    assert_eq!(start(&good, None), (Some(0), String::new()), "its own size");
    for (path, why) in [
        (directory.clone(), "give another"),
        ("/dev/null".into(), "no regular file"),
        (directory.join("no/such"), "cannot make it"),
    ] {
        let (code, said) = start(&path, Some("1M"));
        assert!(code == Some(125) && said.contains(why), "{}: {said}", path.display());
    }
    let (code, said) = start(&directory.join("new"), None);
    assert!(code == Some(125) && said.contains("--swap SIZE"), "{said}");
    assert!(!directory.join("new").exists());
    fs::remove_dir_all(directory).expect("it is ours");
}

#[test]
fn a_file_in_use_is_refused() {
    let directory = directory();
    let file = directory.join("swap");
    let mut first = Command::new(FAULTLINE);
    first.args(["run", "--report", "none", "--swap", "1M", "--swap-file"]).arg(&file);
    first.args(["--", "/bin/cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut first = first.spawn().expect("it starts");
    // What comes back through `cat` says that the run has begun.
    let mut stdin = first.stdin.take().expect("it is piped");
    stdin.write_all(b"x").expect("it reads");
    let mut stdout = first.stdout.take().expect("it is piped");
    std::io::Read::read_exact(&mut stdout, &mut [0]).expect("it writes");
    let (code, said) = start(&file, Some("1M"));
    assert!(code == Some(125) && said.contains("another run uses it"), "{said}");
    drop(stdin);
    assert!(first.wait().expect("it ends").success());
    assert_eq!(start(&file, Some("1M")), (Some(0), String::new()), "free again");
    fs::remove_dir_all(directory).expect("it is ours");
}

#[test]
fn a_full_disk_is_said_before_the_run_and_leaves_nothing() {
    let directory = directory();
    let file = directory.join("swap");
    // A limit on the size of files is a full disk that every host has.
    let mut command = Command::new("prlimit");
    command.args(["--fsize=1000000", FAULTLINE, "run", "--report", "none", "--swap", "64M"]);
    command.arg("--swap-file").arg(&file).args(["--", "/bin/echo", "ran"]);
    let output = command.output().expect("prlimit of util-linux is installed");
    let said = String::from_utf8_lossy(&output.stderr);
    let is_told = output.status.code() == Some(125) && said.contains("cannot make it");
    assert!(is_told || output.status.signal() == Some(25), "{:?}: {said}", output.status);
    assert!(output.stdout.is_empty(), "the program ran");
    assert!(!file.exists());
    if is_told {
        assert_eq!(fs::read_dir(&directory).expect("it is ours").count(), 0, "something is left");
    }
    fs::remove_dir_all(directory).expect("it is ours");
}

#[test]
fn killed_at_any_moment_no_file_is_half_written_under_its_name() {
    let directory = directory();
    let file = directory.join("swap");
    for step in 0..40_u64 {
        // Each is killed by its own limit of processor time or by us, a little later each time.
        let mut command = Command::new(FAULTLINE);
        command.args(["run", "--report", "none", "--swap", "64M", "--swap-file"]).arg(&file);
        command.args(["--", "/bin/cat"]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("it starts");
        for _ in 0..step * step * 200 {
            std::hint::spin_loop();
        }
        child.kill().expect("it is ours");
        child.wait().expect("it ends");
        if file.exists() {
            let (code, said) = start(&file, Some("64M"));
            assert_eq!((code, said.as_str()), (Some(0), ""), "step {step}");
            if step % 2 == 0 {
                fs::remove_file(&file).expect("it is ours");
            }
        }
    }
    fs::remove_dir_all(directory).expect("it is ours");
}

#[test]
fn swap_6_pages_that_were_damaged_on_the_way_end_the_program_with_sigbus() {
    let directory = directory();
    let file = directory.join("swap");
    // The guest says when its memory is out, waits, and then reads all of it again.
    let Some(program) = build("pressure/damage.c", Build::GlibcStatic) else { return };
    let mut command = Command::new(FAULTLINE);
    command.args(["run", "--report", "none", "--ram", "16M", "--swap", "64M", "--swap-file"]);
    command.arg(&file).arg("--").arg(program).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut run = command.spawn().expect("it starts");
    let mut stdout = run.stdout.take().expect("it is piped");
    std::io::Read::read_exact(&mut stdout, &mut [0]).expect("it writes");
    let mut swap = OpenOptions::new().write(true).open(&file).expect("it is there");
    for slot in 0..16384 {
        swap.seek(SeekFrom::Start(HEADERS + slot * RECORD + 1000)).expect("a file");
        swap.write_all(&[0xa5; 8]).expect("it can be written");
    }
    drop(run.stdin.take());
    let mut told = String::new();
    std::io::Read::read_to_string(&mut stdout, &mut told).expect("it writes");
    let status = run.wait().expect("it ends");
    assert_eq!((status.code(), told.as_str()), (Some(0), "SIGBUS, code 2, 0 wrong words\n"));
    fs::remove_dir_all(directory).expect("it is ours");
}
