/* Which calls begin again behind a signal handler, with SA_RESTART and without. */
#include "processes.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/select.h>

static int ends[2];
static volatile sig_atomic_t handled;

static void on_signal(int number)
{
	handled++;
}

/* Sends SIGUSR1 to the parent after a while, and later ends what it waits for. */
static pid_t disturber(int writes)
{
	pid_t parent = getpid(), pid = fork();

	if (pid == 0) {
		pause_ms(30);
		kill(parent, SIGUSR1);
		pause_ms(30);
		if (writes && write(ends[1], "x", 1) != 1)
			_exit(1);
		_exit(0);
	}
	return pid;
}

static void result(const char *name, long value)
{
	if (value < 0)
		SAY("  %s: %s, handled %d\n", name, strerror(errno), (int)handled);
	else
		SAY("  %s: %ld, handled %d\n", name, value, (int)handled);
	handled = 0;
}

static void drain(void)
{
	char byte;

	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	while (read(ends[0], &byte, 1) == 1)
		;
	fcntl(ends[0], F_SETFL, 0);
}

#define DISTURB(name, writes, ...)                  \
	do {                                        \
		pid_t child = disturber(writes);    \
		errno = 0;                          \
		result(name, (long)(__VA_ARGS__));  \
		while (waitpid(child, 0, 0) < 0 && errno == EINTR) \
			;                           \
		drain();                            \
	} while (0)

static void calls(int flags)
{
	char byte;
	int status, word = 5;
	struct timespec time = { 0, 80000000 }, left = { 9, 9 };
	struct timeval value = { 0, 80000 };
	struct pollfd poll_for = { ends[0], POLLIN, 0 };
	struct epoll_event event = { EPOLLIN, { 0 } };
	fd_set set;
	sigset_t none, other;

	sigemptyset(&none);
	sigemptyset(&other);
	sigaddset(&other, SIGUSR2);
	handle(SIGUSR1, on_signal, flags);
	SAY("%s\n", flags ? "SA_RESTART" : "plain");
	DISTURB("read", 1, read(ends[0], &byte, 1));
	DISTURB("wait", 0, wait(&status) > 0);
	DISTURB("waitid", 0, waitid(P_ALL, 0, 0, WEXITED));
	DISTURB("nanosleep", 0, nanosleep(&time, &left));
	SAY("  left: %d\n", left.tv_sec == 0 && left.tv_nsec > 0 && left.tv_nsec < 80000000);
	DISTURB("clock_nanosleep", 0, -clock_nanosleep(CLOCK_MONOTONIC, 0, &time, &left) < 0);
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += 1;
	DISTURB("absolute", 0, clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0) == EINTR);
	DISTURB("poll", 1, poll(&poll_for, 1, -1));
	DISTURB("poll with time", 1, poll(&poll_for, 1, 1000));
	FD_ZERO(&set);
	FD_SET(ends[0], &set);
	DISTURB("select", 1, select(ends[0] + 1, &set, 0, 0, 0));
	FD_SET(ends[0], &set);
	DISTURB("select with time", 1, select(ends[0] + 1, &set, 0, 0, &value));
	DISTURB("ppoll", 1, ppoll(&poll_for, 1, 0, &none));
	int epoll = epoll_create1(0);
	epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event);
	DISTURB("epoll_wait", 1, epoll_wait(epoll, &event, 1, -1));
	close(epoll);
	DISTURB("pause", 0, pause());
	DISTURB("sigsuspend", 0, sigsuspend(&none));
	DISTURB("sigtimedwait", 0, syscall(SYS_rt_sigtimedwait, &other, 0, &(struct timespec){ 1, 0 }, 8));
	DISTURB("sigwaitinfo", 0, syscall(SYS_rt_sigtimedwait, &other, 0, 0, 8));
	struct timespec second = { 1, 0 };
	DISTURB("futex with time", 0, syscall(SYS_futex, &word, 128, 5, &second, 0, 0));
}

/* A futex without a time limit begins again. */
static void futex(int flags)
{
	int *word = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t parent = getpid(), child = fork();

	handle(SIGUSR1, on_signal, flags);
	if (child == 0) {
		pause_ms(30);
		kill(parent, SIGUSR1);
		pause_ms(30);
		*word = 1;
		syscall(SYS_futex, word, 1, 1, 0, 0, 0);
		_exit(0);
	}
	errno = 0;
	result("futex", syscall(SYS_futex, word, 0, 0, 0, 0, 0));
	while (waitpid(child, 0, 0) < 0 && errno == EINTR)
		;
	handle(SIGUSR1, SIG_IGN, 0);
}

/* A full pipe. */
static void writing(int flags)
{
	static char bytes[100000];
	int pipes[2];

	if (pipe(pipes) < 0)
		return;
	handle(SIGUSR1, on_signal, flags);
	pid_t parent = getpid(), child = fork();
	if (child == 0) {
		pause_ms(30);
		kill(parent, SIGUSR1);
		pause_ms(30);
		close(pipes[1]);
		long sum = 0, count;
		while ((count = read(pipes[0], bytes, sizeof bytes)) > 0)
			sum += count;
		_exit(0);
	}
	result("write", write(pipes[1], bytes, sizeof bytes));
	close(pipes[1]);
	close(pipes[0]);
	while (waitpid(child, 0, 0) < 0 && errno == EINTR)
		;
}

int main(void)
{
	if (pipe(ends) < 0)
		return 1;
	calls(0);
	calls(SA_RESTART);
	futex(0);
	futex(SA_RESTART);
	writing(0);
	writing(SA_RESTART);
	return 0;
}
