/* Stopping and going on: who is told, and what happens to calls that wait. */
#include "processes.h"

/* What SIGCHLD said, if it comes within the time. */
static void say_told(const char *name, long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	if (sigtimedwait(&set, &info, &time) == SIGCHLD)
		SAY("%s: code %d status %d\n", name, info.si_code, info.si_status);
	else
		SAY("%s: %s\n", name, strerror(errno));
}

static pid_t sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

static void await_stop(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, WUNTRACED) < 0)
		;
}

static void await_continue(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, WCONTINUED) < 0)
		;
}

static void on_signal(int number)
{
	(void)number;
}

static void notices(int flags, void (*handler)(int))
{
	handle(SIGCHLD, handler, flags);
	pid_t child = sleeper();
	kill(child, SIGTSTP);
	await_stop(child);
	say_told("stop", 20);
	kill(child, SIGCONT);
	await_continue(child);
	say_told("continue", 20);
	kill(child, SIGSTOP);
	await_stop(child);
	say_told("stop", 20);
	kill(child, SIGTERM);
	say_told("terminated while stopped", 20);
	kill(child, SIGCONT);
	if (flags & SA_NOCLDWAIT || handler == SIG_IGN) {
		int status;
		CALL("no zombie", waitpid(child, &status, 0));
	} else {
		reap("terminated when continued", child);
	}
	say_told("end", 20);
	say_told("no more", 20);
}

/* What waits in a child goes on with the time that is left. */
static void sleeps(void)
{
	signal(SIGCHLD, SIG_DFL);
	pid_t child = fork();
	if (child == 0) {
		struct timespec time = { 0, 300000000 }, before, after;
		clock_gettime(CLOCK_MONOTONIC, &before);
		int result = nanosleep(&time, 0);
		clock_gettime(CLOCK_MONOTONIC, &after);
		long ms = (after.tv_sec - before.tv_sec) * 1000 +
			  (after.tv_nsec - before.tv_nsec) / 1000000;
		SAY("nanosleep %d, about 300 ms: %d\n", result, ms >= 300 && ms < 600);
		_exit(0);
	}
	for (int i = 0; i < 3; i++) {
		pause_ms(30);
		kill(child, SIGSTOP);
		await_stop(child);
		pause_ms(10);
		kill(child, SIGCONT);
		await_continue(child);
	}
	reap("sleeper", child);
	int ends[2];
	if (pipe(ends) < 0)
		return;
	child = fork();
	if (child == 0) {
		char byte = 0;
		long count = read(ends[0], &byte, 1);
		SAY("read %ld %c\n", count, byte);
		_exit(0);
	}
	pause_ms(20);
	kill(child, SIGSTOP);
	await_stop(child);
	if (write(ends[1], "x", 1) != 1)
		return;
	kill(child, SIGCONT);
	reap("reader", child);
}

/* Continue and stop signals take each other out of the queue. */
static void chase(void)
{
	sigset_t set, pending;

	sigemptyset(&set);
	sigaddset(&set, SIGTSTP);
	sigaddset(&set, SIGCONT);
	sigprocmask(SIG_BLOCK, &set, 0);
	handle(SIGCONT, on_signal, 0);
	kill(getpid(), SIGTSTP);
	kill(getpid(), SIGCONT);
	sigpending(&pending);
	SAY("tstp %d cont %d\n", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
	kill(getpid(), SIGTSTP);
	sigpending(&pending);
	SAY("tstp %d cont %d\n", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
	signal(SIGTSTP, SIG_IGN);
	sigpending(&pending);
	SAY("tstp %d cont %d\n", sigismember(&pending, SIGTSTP), sigismember(&pending, SIGCONT));
	sigprocmask(SIG_UNBLOCK, &set, 0);
}

static void *spin(void *argument)
{
	volatile long *count = argument;

	for (;;)
		++*count;
	return 0;
}

/* All threads stop. */
static void threads(void)
{
	volatile long *count =
		mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t child = fork();
	if (child == 0) {
		pthread_t thread;
		pthread_create(&thread, 0, spin, (void *)count);
		for (;;)
			pause();
	}
	while (*count == 0)
		pause_ms(1);
	kill(child, SIGSTOP);
	await_stop(child);
	long before = *count;
	pause_ms(20);
	SAY("stands still: %d\n", *count == before);
	kill(child, SIGCONT);
	await_continue(child);
	while (*count == before)
		pause_ms(1);
	SAY("runs again\n");
	kill(child, SIGKILL);
	reap("threads", child);
}

static int all(void)
{
	block(SIG_BLOCK, SIGCHLD);
	notices(0, on_signal);
	notices(SA_NOCLDSTOP, on_signal);
	notices(SA_NOCLDWAIT, on_signal);
	notices(0, SIG_DFL);
	notices(0, SIG_IGN);
	block(SIG_UNBLOCK, SIGCHLD);
	sleeps();
	chase();
	threads();
	return 0;
}

/* SIGTSTP does nothing in a group without a parent outside of it: whoever started this program may
 * have left such a group, so all happens in a group of our own. */
int main(void)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		setpgid(0, 0);
		exit(all());
	}
	waitpid(child, &status, 0);
	return status != 0;
}
