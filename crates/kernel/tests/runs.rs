//! Whole runs: how they end, what they report, and that they can be repeated.

mod common;

use common::{boot, boot_on, boot_with, compile, exit_program, write_program};
use kernel::{BootError, Errno, Kernel, Outcome, RunReport};
use machine::{Event, FastPath};

const WORK: &str = "
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
int main(int count, char **args)
{
	long size = count > 1 ? atol(args[1]) : 1 << 20;
	unsigned seed, sum = 0;
	char *block = malloc(size);
	getentropy(&seed, sizeof seed);
	for (long i = 0; i < size; i += 1000)
		block[i] = i * seed;
	for (long i = 0; i < size; i += 997)
		sum += block[i];
	sum += time(0);
	return sum & 63;
}";

fn finish(mut kernel: Kernel) -> RunReport {
    kernel.run();
    kernel.report().expect("a finished run has a report").clone()
}

#[test]
fn the_smallest_program_leaves_nothing_behind() {
    let path = write_program("runs_exit", &exit_program().bytes());
    let mut kernel = boot(&path, &[]).expect("it can be loaded");
    assert_eq!(kernel.run(), Outcome::Exited(42));
    assert_eq!(kernel.run(), Outcome::Exited(42), "a finished run stays finished");
    let report = kernel.report().expect("there is one");
    assert_eq!(report.frames_leaked, 0);
    assert_eq!(report.syscall_count, 1);
    assert_eq!(report.faults.minor, 1, "only the code page is touched");
    assert_eq!(report.vmas.len(), 5, "code, two vvar, vdso, stack");
    assert!(report.vmas.iter().any(|vma| vma.name == b"[vdso]" && vma.perms == *b"r-xp"));
    let events: Vec<Event> = kernel.hw.log.pending().iter().map(|stamped| stamped.event).collect();
    let exit = Event::Syscall { task: 1000, number: 60, result: 0 };
    assert!(events.contains(&exit));
    assert_eq!(events.last(), Some(&Event::Exit { task: 1000, status: 42 << 8 }));
}

#[test]
fn runs_with_the_same_seed_have_the_same_log() {
    let Some(path) = compile("runs_work", WORK, &["-O1", "-static"]) else { return };
    let first = finish(boot(&path, &[]).expect("loads"));
    let second = finish(boot(&path, &[]).expect("loads"));
    assert_eq!(first.log_hash, second.log_hash);
    assert_eq!(first.counters, second.counters);
    assert_eq!(first.virtual_ns, second.virtual_ns);
    let slow = finish(boot_on(&path, &[], 64 << 20, FastPath::Empty).expect("loads"));
    assert_eq!(first.outcome, slow.outcome);
    assert_eq!(first.log_hash, slow.log_hash, "the fast path changes no event");
    assert_eq!(first.counters, slow.counters, "and no count");
}

/// Fills three areas in turn; two are static. Exit code: how many of their pages do not have the
/// frame behind that of the page before.
const STATICS: &str = "
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>
static char data[32 << 12] = { 1 }, zeros[64 << 12];
static uint64_t words[97];
int main(void)
{
	int fd = open(\"/proc/self/pagemap\", O_RDONLY), apart = 0;
	char *heap = malloc(64 << 12);
	for (int i = 0; i < 64; i++) {
		zeros[(i * 7 & 63) << 12] = data[(i * 5 & 31) << 12] = 2;
		heap[i << 12] = 1;
	}
	if (pread(fd, words, 64 * 8, (uintptr_t)zeros / 4096 * 8) != 64 * 8)
		return 200;
	if (pread(fd, words + 64, 32 * 8, (uintptr_t)data / 4096 * 8) != 32 * 8)
		return 201;
	for (int i = 1; i < 96; i++)
		apart += i != 64 && words[i] != words[i - 1] + 1;
	return apart;
}";

#[test]
fn static_variables_have_adjacent_frames() {
    let flags: [&[&str]; 2] = [&["-O1"], &["-O1", "-static"]];
    for (flags, name) in flags.into_iter().zip(["runs_statics", "runs_statics_static"]) {
        let Some(path) = compile(name, STATICS, flags) else { continue };
        let report = finish(boot(&path, &[]).expect("loads"));
        assert_eq!(report.outcome, Outcome::Exited(0), "{flags:?}");
        assert_eq!(report.frames_leaked, 0);
    }
}

#[test]
fn too_little_memory_ends_the_run_with_a_report() {
    let Some(path) = compile("runs_oom", WORK, &["-O1", "-static"]) else { return };
    let report = finish(boot_with(&path, &["100000000"], 128 << 20).expect("loads"));
    assert!(matches!(report.outcome, Outcome::Exited(_)), "{:?}", report.outcome);
    let report = finish(boot_with(&path, &["60000000"], 32 << 20).expect("loads"));
    assert!(
        matches!(report.outcome, Outcome::OutOfMemory | Outcome::Killed(11)),
        "{:?}",
        report.outcome
    );
    assert_eq!(report.frames_leaked, 0);
    let (mut fits, mut is_over_once) = (false, false);
    for pages in 256..512 {
        let kernel =
            boot_with(&path, &["1300000"], pages * 4096).expect("there is room for tables");
        let report = finish(kernel);
        fits |= matches!(report.outcome, Outcome::Exited(_));
        // More than all of RAM is not even promised (COMMIT-1): the program's own pointer is null.
        let is_refused = report.outcome == Outcome::Killed(11);
        let is_over = is_refused || report.outcome == Outcome::OutOfMemory;
        is_over_once |= is_over && !is_refused;
        assert!(is_over != fits, "{pages} frames of RAM: {:?}", report.outcome);
        assert_eq!(report.frames_leaked, 0, "{pages} frames of RAM");
    }
    assert!(is_over_once, "1 MiB is not enough for 1.3 MB");
    assert!(fits, "2 MiB are enough for the program and its 1.3 MB");
}

#[test]
fn what_can_never_happen_is_not_waited_for() {
    const WAIT: &str = "#include <unistd.h>\nint main(void) { return pause(); }";
    let Some(path) = compile("runs_wait", WAIT, &["-O1", "-static"]) else { return };
    let mut kernel = boot(&path, &[]).expect("loads");
    assert_eq!(kernel.run(), Outcome::Stuck { number: 34 });
}

#[test]
fn calls_that_are_not_there_are_counted() {
    const CALLS: &str = "#include <unistd.h>\n#include <errno.h>\n#include <sys/syscall.h>\n\
        int main(void) { int bad = 0; for (int i = 0; i < 3; i++) \
        bad += syscall(SYS_io_uring_setup, 1, 0) == -1 && errno == ENOSYS; \
        return bad + (syscall(5000) == -1 && errno == ENOSYS); }";
    let Some(path) = compile("runs_missing", CALLS, &["-O1", "-static"]) else { return };
    let report = finish(boot(&path, &[]).expect("loads"));
    assert_eq!(report.outcome, Outcome::Exited(4));
    let missing: Vec<_> =
        report.unimplemented.iter().map(|call| (call.number, call.name, call.count)).collect();
    assert_eq!(missing, [(425, "io_uring_setup", 3), (5000, "?", 1)]);
}

#[test]
fn programs_that_cannot_be_started_say_why() {
    let missing = boot("/no/such/program".as_ref(), &[]).err();
    assert!(matches!(missing, Some(BootError::NotFound { .. })), "{missing:?}");
    let text = boot("/etc/passwd".as_ref(), &[]).err();
    let refused = |errno| Some(BootError::Exec { program: b"/etc/passwd".to_vec(), errno });
    assert_eq!(text, refused(Errno::EACCES));
}
