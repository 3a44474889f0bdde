/* Descriptors of threads: opened by number, made by clone, told of an end, sent signals through. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
	fflush(stdout);
}
#define T(call) tell(#call, (long)(call))
#define THREAD O_EXCL

static int stop[2], tid, told[2];

static int pidfd_open(int pid, unsigned flags)
{
	return syscall(SYS_pidfd_open, pid, flags);
}

static int pidfd_send(int fd, int signal, siginfo_t *info, unsigned flags)
{
	return syscall(SYS_pidfd_send_signal, fd, signal, info, flags);
}

/* Sends, and returns when it has been heard. */
static int pidfd_send_heard(int fd, int signal, siginfo_t *info, unsigned flags)
{
	char c;
	int result = pidfd_send(fd, signal, info, flags);

	read(told[0], &c, 1);
	return result;
}

static void heard(int number, siginfo_t *info, void *context)
{
	(void)context;
	int mine = syscall(SYS_gettid) == tid;
	dprintf(1, "signal %d code %d value %d in the thread: %d\n", number, info->si_code,
		info->si_value.sival_int, mine);
	write(told[1], "x", 1);
}

static void *wait_for_end(void *unused)
{
	char c;

	(void)unused;
	tid = syscall(SYS_gettid);
	write(told[1], "x", 1);
	while (read(stop[0], &c, 1) < 0 && errno == EINTR)
		;
	return 0;
}

static pthread_t start(void)
{
	pthread_t thread;
	char c;

	pthread_create(&thread, 0, wait_for_end, 0);
	read(told[0], &c, 1);
	return thread;
}

static int ready(int fd, int wait_ms)
{
	struct pollfd p = { fd, POLLIN, 0 };

	return poll(&p, 1, wait_ms) * 100 + p.revents;
}

static void opened(void)
{
	siginfo_t info = { .si_signo = SIGUSR2, .si_code = SI_QUEUE };
	pthread_t thread = start();
	int fd = pidfd_open(tid, THREAD);

	T(pidfd_open(tid, 0));
	T(fd > 0);
	T(fcntl(fd, F_GETFL) & ~O_RDWR);
	T(fcntl(fd, F_GETFD));
	T(fcntl(fd, F_SETFL, O_NONBLOCK));
	T(fcntl(fd, F_GETFL) & ~O_RDWR);
	T(ready(fd, 0));
	T(waitid(P_PIDFD, fd, &info, WEXITED | WNOHANG));
	T(syscall(SYS_pidfd_getfd, fd, 999, 0));
	T(pidfd_send_heard(fd, SIGUSR2, 0, 0));
	T(pidfd_send_heard(fd, SIGUSR2, 0, 1));
	T(pidfd_send(fd, SIGUSR2, 0, 3));
	T(pidfd_send(fd, SIGUSR2, 0, 8));
	T(pidfd_send(fd, 0, 0, 2));
	info = (siginfo_t){ .si_signo = SIGUSR2, .si_code = SI_QUEUE };
	info.si_value.sival_int = 7;
	T(pidfd_send_heard(fd, SIGUSR2, &info, 0));
	info.si_code = SI_TKILL;
	T(pidfd_send(fd, SIGUSR2, &info, 0));
	info.si_code = SI_USER;
	T(pidfd_send(fd, SIGUSR2, &info, 0));
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(0);
	T(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
	T(epoll_wait(epoll, &event, 1, 0));
	write(stop[1], "x", 1);
	T(epoll_wait(epoll, &event, 1, -1));
	pthread_join(thread, 0);
	T(ready(fd, 0));
	T(pidfd_send(fd, 0, 0, 0));
	T(pidfd_open(tid, THREAD));
	close(fd);
	close(epoll);
}

static int ended(void *unused)
{
	(void)unused;
	syscall(SYS_exit, 0);
	return 0;
}

/* A thread that clone makes, and its descriptor. */
static void cloned(void)
{
	static char stack[65536];
	int fd = -1;
	long flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_PIDFD;

	T(clone(ended, stack + sizeof stack - 64, flags, 0, &fd) > 0);
	T(fcntl(fd, F_GETFL) & ~O_RDWR);
	T(ready(fd, -1) / 100);
	while (ready(fd, 0) != 117)
		usleep(1000);
	close(fd);
}

static void *outlive(void *unused)
{
	(void)unused;
	char c;
	write(told[1], "x", 1);
	read(stop[0], &c, 1);
	_exit(4);
}

/* The first thread ends before the others: its descriptor says so when all have ended. */
static void first(void)
{
	int status;
	char c;
	pid_t pid = fork();

	if (pid == 0) {
		pthread_t thread;
		pthread_create(&thread, 0, outlive, 0);
		pthread_exit(0);
	}
	int of_thread = pidfd_open(pid, THREAD), of_process = pidfd_open(pid, 0);
	read(told[0], &c, 1);
	T(ready(of_thread, 0));
	T(ready(of_process, 0));
	T(pidfd_send(of_thread, 0, 0, 0));
	T(pidfd_send(of_process, 0, 0, 4));
	write(stop[1], "x", 1);
	T(ready(of_process, -1));
	T(waitpid(pid, &status, 0) == pid);
	T(WEXITSTATUS(status));
	T(ready(of_thread, 0));
	T(ready(of_process, 0));
}

/* All of a group hear it. */
static void group(void)
{
	int status;
	char c;
	int both[2];
	pipe(both);
	pid_t pid = fork();

	if (pid == 0) {
		setpgid(0, 0);
		fork();
		write(both[1], "x", 1);
		for (;;)
			pause();
	}
	close(both[1]);
	read(both[0], &c, 1), read(both[0], &c, 1);
	int fd = pidfd_open(pid, 0);
	T(pidfd_send(fd, SIGTERM, 0, 4));
	T(waitpid(pid, &status, 0) == pid);
	T(WTERMSIG(status));
	T(read(both[0], &c, 1));
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = heard, .sa_flags = SA_SIGINFO | SA_RESTART };

	pipe(stop), pipe(told);
	sigaction(SIGUSR2, &action, 0);
	opened();
	cloned();
	first();
	group();
	return 0;
}
