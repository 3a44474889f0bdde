/* Tables of handlers that processes share, and a limit on processor time. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char stack[65536];
static volatile int heard;

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
	fflush(stdout);
}
#define T(call) tell(#call, (long)(call))

static void first(int signal) { heard += signal; }
static void second(int signal) { heard += 1000 * signal; }

static long handler_of(int signal)
{
	struct sigaction now;
	sigaction(signal, 0, &now);
	return now.sa_handler == first ? 1 : now.sa_handler == second ? 2 : (long)now.sa_handler;
}

static int sharer(void *what)
{
	signal(SIGUSR1, second);
	signal(SIGUSR2, SIG_IGN);
	raise(SIGUSR1);
	if (what)
		execl("/bin/true", "true", (char *)0);
	_exit(0);
}

static void shared(int flags, void *what)
{
	heard = 0;
	signal(SIGUSR1, first);
	signal(SIGUSR2, first);
	pid_t pid = clone(sharer, stack + sizeof stack, flags | SIGCHLD, what);
	T(waitpid(pid, 0, 0) == pid);
	T(handler_of(SIGUSR1));
	T(handler_of(SIGUSR2));
	kill(getpid(), SIGUSR2);
	T(heard);
}

static int resetter(void *what)
{
	(void)what;
	struct sigaction once = { .sa_handler = first, .sa_flags = SA_RESETHAND };
	sigaction(SIGUSR2, &once, 0);
	raise(SIGUSR2);
	_exit(0);
}

static void spin(void)
{
	for (;;)
		;
}

static void over(int signal)
{
	struct rlimit limit;
	getrlimit(RLIMIT_CPU, &limit);
	char text[100];
	int n = snprintf(text, sizeof text, "signal %d, limit %ld %ld\n", signal,
			 (long)limit.rlim_cur, (long)limit.rlim_max);
	write(1, text, n);
}

/* How a child with a limit ends; what it says comes from its handler. */
static void limited(long soft, long hard, int with_handler)
{
	int status;
	pid_t pid = fork();
	if (pid == 0) {
		struct rlimit limit = { soft, hard };
		if (with_handler)
			signal(SIGXCPU, over);
		if (setrlimit(RLIMIT_CPU, &limit))
			_exit(9);
		spin();
	}
	waitpid(pid, &status, 0);
	T(WIFSIGNALED(status) ? WTERMSIG(status) : -WEXITSTATUS(status));
}

int main(void)
{
	shared(CLONE_VM | CLONE_SIGHAND, 0);
	shared(CLONE_VM, 0);
	shared(CLONE_VM | CLONE_SIGHAND | CLONE_VFORK, "exec");
	pid_t pid = clone(resetter, stack + sizeof stack, CLONE_VM | CLONE_SIGHAND | SIGCHLD, 0);
	waitpid(pid, 0, 0);
	T(handler_of(SIGUSR2));
	T(handler_of(SIGUSR1));
	limited(1, 2, 1);
	limited(0, 5, 0);
	return 0;
}
