/* The common part of the programs about processes: what they print is the same on every machine. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Prints a line and lets it out at once, so that children have nothing in their buffers. */
#define SAY(...)                     \
	do {                         \
		printf(__VA_ARGS__); \
		fflush(stdout);      \
	} while (0)

/* Prints what a call returned: 0, a value, or its error. */
#define CALL(name, ...)                                                       \
	do {                                                                  \
		errno = 0;                                                    \
		long call_result = (long)(__VA_ARGS__);                       \
		if (call_result == -1)                                        \
			SAY("%s: %s\n", name, strerror(errno));             \
		else                                                          \
			SAY("%s: %s\n", name, call_result ? "value" : "0"); \
	} while (0)

static inline void status_line(const char *name, int status)
{
	if (WIFEXITED(status))
		SAY("%s: exited %d\n", name, WEXITSTATUS(status));
	else if (WIFSIGNALED(status))
		SAY("%s: killed %d\n", name, WTERMSIG(status));
	else if (WIFSTOPPED(status))
		SAY("%s: stopped %d\n", name, WSTOPSIG(status));
	else if (WIFCONTINUED(status))
		SAY("%s: continued\n", name);
}

/* Waits for one child and says how it ended. */
static inline void reap(const char *name, pid_t pid)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid)
		SAY("%s: %s\n", name, strerror(errno));
	else
		status_line(name, status);
}

static inline void pause_ms(long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&time, &time) < 0 && errno == EINTR)
		;
}

static inline void handle(int number, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

	sigaction(number, &action, 0);
}

static inline void block(int how, int number)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, number);
	sigprocmask(how, &set, 0);
}
