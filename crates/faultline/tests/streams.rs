//! The standard streams of the host: who waits for them, waits alone, and not for ever.
//!
//! Here the host's side of a stream is a pipe that the test leaves empty or full on purpose.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use common::{ENVIRONMENT, installed, scratch};

/// Seconds after which something hangs: then the streams end and a comparison fails.
const HANGS_AFTER: &str = "120";

/// A command with a pipe at each of its standard streams.
fn piped(command: &[&str]) -> Child {
    Command::new("timeout")
        .arg(HANGS_AFTER)
        .args(command)
        .env_clear()
        .envs(ENVIRONMENT)
        .current_dir(scratch())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("timeout of coreutils is installed")
}

fn inside(options: &[&str], command: &[&str]) -> Child {
    let ours = env!("CARGO_BIN_EXE_faultline");
    piped(&[&[ours, "run", "--report", "none"], options, &["--"], command].concat())
}

/// What a command prints and how it ends while its input stays open and silent.
fn with_silent_input(mut child: Child) -> (String, String, ExitStatus) {
    let input = child.stdin.take();
    let (mut said, mut errors) = (String::new(), String::new());
    let (stdout, stderr) = (child.stdout.as_mut(), child.stderr.as_mut());
    stdout.expect("it is a pipe").read_to_string(&mut said).expect("it is text");
    stderr.expect("it is a pipe").read_to_string(&mut errors).expect("it is text");
    let status = child.wait().expect("it ends");
    drop(input);
    (said, errors, status)
}

/// Requires the same of a program natively and inside.
#[track_caller]
fn same_with_silent_input(command: &[&str]) {
    let native = with_silent_input(piped(command));
    assert_eq!(with_silent_input(inside(&[], command)), native, "{command:?}");
}

#[test]
fn a_full_pipe_stops_only_the_task_that_writes() {
    const BYTES: usize = 300_000;
    let script = format!(
        "(head -c {BYTES} /dev/zero; echo written >&2) & sleep 0.05; echo others go on >&2; wait"
    );
    let mut child = inside(&[], &["/bin/sh", "-c", &script]);
    let mut errors = BufReader::new(child.stderr.take().expect("it is a pipe"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("it is text");
    assert_eq!(line, "others go on\n");
    let mut bytes = Vec::new();
    child.stdout.take().expect("it is a pipe").read_to_end(&mut bytes).expect("it can be read");
    assert_eq!(bytes.len(), BYTES);
    line.clear();
    errors.read_to_string(&mut line).expect("it is text");
    assert_eq!(line, "written\n");
    assert!(child.wait().is_ok_and(|status| status.success()));
}

#[test]
fn an_empty_pipe_stops_only_the_task_that_reads() {
    let script = "exec 3<&0; (read -r word <&3) & sleep 0.05; echo others go on; wait";
    let mut child = inside(&[], &["/bin/sh", "-c", script]);
    let mut output = BufReader::new(child.stdout.take().expect("it is a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("it is text");
    assert_eq!(line, "others go on\n");
    assert!(child.wait().is_ok_and(|status| status.success()));
}

#[test]
fn every_byte_arrives_in_order_whatever_the_reader_takes() {
    let mut child = inside(&[], &["/usr/bin/seq", "200000"]);
    drop(child.stdin.take());
    let mut output = child.stdout.take().expect("it is a pipe");
    let (mut text, mut piece) = (Vec::new(), [0; 7001]);
    loop {
        let count = output.read(&mut piece).expect("it can be read");
        if count == 0 {
            break;
        }
        text.extend_from_slice(&piece[..count]);
    }
    let wanted: String = (1..=200_000).map(|number| format!("{number}\n")).collect();
    assert!(text == wanted.as_bytes(), "{} bytes of {}", text.len(), wanted.len());
    assert!(child.wait().is_ok_and(|status| status.success()));
}

#[test]
fn input_that_comes_late_is_read() {
    let mut child = inside(&[], &["/bin/cat"]);
    let mut input = child.stdin.take().expect("it is a pipe");
    let mut output = child.stdout.take().expect("it is a pipe");
    for text in ["first", "later", "ended"] {
        input.write_all(text.as_bytes()).expect("it is read");
        let mut back = [0; 5];
        output.read_exact(&mut back).expect("it comes back");
        assert_eq!(back, text.as_bytes());
    }
    drop(input);
    assert!(child.wait().is_ok_and(|status| status.success()));
}

#[test]
fn the_time_limit_ends_a_wait_for_the_host() {
    let (said, _, status) = with_silent_input(inside(&["--timeout", "1"], &["/bin/cat"]));
    assert_eq!((said.as_str(), status.code()), ("", Some(124)));
    let mut writer = inside(&["--timeout", "1"], &["/usr/bin/head", "-c", "1000000", "/dev/zero"]);
    // Nobody reads until it has ended.
    let status = writer.wait().expect("it ends");
    assert_eq!(status.code(), Some(124));
}

/// Each wait is short, and the machine's own time hardly passes.
#[test]
fn the_time_limit_counts_all_waits_for_the_host() {
    let ours = env!("CARGO_BIN_EXE_faultline");
    let script = format!(
        "i=0; while [ $i -lt 300 ] && echo $i; do sleep 0.1; i=$((i + 1)); done 2> /dev/null |
         {{ {ours} run --report none --timeout 1 -- /bin/cat > /dev/null; echo $?; }}"
    );
    let (said, _, _) = with_silent_input(piped(&["/bin/sh", "-c", &script]));
    assert_eq!(said, "124\n");
}

#[test]
fn a_timer_ends_a_read_of_a_silent_stream() {
    let Some(perl) = installed("/usr/bin/perl") else { return };
    let script = "use Time::HiRes; $SIG{ALRM} = sub { print qq(late\\n); exit 5 };
        Time::HiRes::ualarm(20000); my $line = <STDIN>; print qq(never\\n);";
    same_with_silent_input(&[perl, "-e", script]);
}

#[test]
fn a_stream_that_shall_not_wait_says_so() {
    let Some(python) = installed("/usr/bin/python3") else { return };
    let script = "
import os, select
os.set_blocking(0, False)
try:
    print(os.read(0, 1))
except BlockingIOError as error:
    print(error)
print(select.select([0], [1], [], 0.01))
os.set_blocking(1, False)
sent = 0
try:
    while sent < 1 << 20:
        sent += os.write(1, b'x' * 4096)
except BlockingIOError as error:
    os.write(2, str(error).encode())
os.write(2, str(sent).encode())
";
    // Its output is full while nobody reads: what it says then comes through the other stream.
    let run = |mut child: Child| {
        let input = child.stdin.take();
        let mut errors = String::new();
        child.stderr.as_mut().expect("a pipe").read_to_string(&mut errors).expect("text");
        let mut said = Vec::new();
        child.stdout.as_mut().expect("a pipe").read_to_end(&mut said).expect("it can be read");
        drop(input);
        (errors, said.len(), child.wait().expect("it ends"))
    };
    let command = [python, "-uc", script];
    assert_eq!(run(inside(&[], &command)), run(piped(&command)));
}

/// Starts a command of `sh` at a terminal of its own, presses a key as soon as it says that it is
/// ready; everything that the terminal shows, and the exit code. The command begins with `exec`:
/// the shell would die of the key, too.
fn key_pressed(command: &str, key: u8) -> (String, Option<i32>) {
    let mut child = piped(&["/usr/bin/script", "-qec", command, "/dev/null"]);
    let mut output = child.stdout.take().expect("it is a pipe");
    let mut input = child.stdin.take().expect("it is a pipe");
    let (mut said, mut byte) = (Vec::new(), [0]);
    while !said.ends_with(b"ready\r\n") && output.read(&mut byte).is_ok_and(|count| count > 0) {
        said.push(byte[0]);
    }
    input.write_all(&[key]).expect("it is read");
    output.read_to_end(&mut said).expect("it can be read");
    let status = child.wait().expect("it ends");
    (String::from_utf8_lossy(&said).into_owned(), status.code())
}

/// A program may be anywhere when the key is pressed: each of these ends the same then.
#[test]
fn keys_of_the_terminal_are_for_the_program_inside() {
    const CTRL_C: u8 = 3;
    const CTRL_BACKSLASH: u8 = 28;
    const CTRL_Z: u8 = 26;
    if installed("/usr/bin/script").is_none() {
        return;
    }
    for (script, key, code) in [
        ("echo ready; exec cat", CTRL_C, 130),
        ("trap \"echo caught; exit 7\" INT; echo ready; while :; do read x; done", CTRL_C, 7),
        ("trap \"echo caught; exit 8\" INT; echo ready; while :; do :; done", CTRL_C, 8),
        (
            "trap \"echo quit; exit 9\" QUIT; echo ready; while :; do read x; done",
            CTRL_BACKSLASH,
            9,
        ),
        // Only the job in the foreground, which has a group of its own.
        (
            "set -m; (trap \"echo inner; exit 4\" INT; echo ready; while :; do read x; done)
             echo code $?; exit 10",
            CTRL_C,
            10,
        ),
        ("set -m; (echo ready; exec cat); echo code $?", CTRL_Z, 0),
    ] {
        let native = key_pressed(&format!("exec /bin/sh -c '{script}'"), key);
        assert_eq!(native.1, Some(code), "{native:?}");
        let ours = env!("CARGO_BIN_EXE_faultline");
        let inside = format!("exec {ours} run --report none -- /bin/sh -c '{script}'");
        assert_eq!(key_pressed(&inside, key), native, "{script}");
    }
}

/// The shell of the host sees a stopped job, whatever is inside: by SIGTSTP, which is 20, or, since
/// we hear that one, by SIGSTOP, which is 19.
#[test]
fn a_first_program_that_stops_stops_the_run() {
    const CTRL_Z: u8 = 26;
    if installed("/usr/bin/script").is_none() {
        return;
    }
    let ours = env!("CARGO_BIN_EXE_faultline");
    for (runner, code) in [(String::new(), 148), (format!("{ours} run --report none -- "), 147)] {
        let job = format!("{runner}/bin/sh -c \"echo ready; exec cat\"; echo code $?");
        let (said, _) = key_pressed(&format!("exec /bin/sh -mc '{job}'"), CTRL_Z);
        assert!(said.ends_with(&format!("code {code}\r\n")), "{said}");
    }
}
