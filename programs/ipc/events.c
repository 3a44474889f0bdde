/* Descriptors for time, signals and processes, and epoll over all of them. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
}
#define T(call) tell(#call, (long)(call))

static int events_of(int fd, int timeout)
{
	struct pollfd p = { fd, POLLIN | POLLOUT, 0 };
	poll(&p, 1, timeout);
	return p.revents;
}

static void timers(void)
{
	T(timerfd_create(99, 0));
	T(timerfd_create(CLOCK_MONOTONIC, 1));
	int t = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	uint64_t n = 7;
	T(read(t, &n, 8));
	T(read(t, &n, 4));
	T(write(t, &n, 8));
	T(events_of(t, 0));
	struct itimerspec s = { { 0, 0 }, { 0, 20000000 } }, old;
	T(timerfd_settime(t, 0, &s, 0));
	T(timerfd_gettime(t, &old));
	T(old.it_value.tv_nsec > 0 && old.it_value.tv_nsec <= 20000000);
	T(events_of(t, 1000));
	T(read(t, &n, 8));
	T(n);
	T(read(t, &n, 8));
	s.it_interval.tv_nsec = 100000000;
	s.it_value.tv_nsec = 1;
	T(timerfd_settime(t, TFD_TIMER_ABSTIME, &s, &old));
	T(old.it_value.tv_nsec);
	T(events_of(t, 1000));
	T(read(t, &n, 8));
	fcntl(t, F_SETFL, 0);
	T(read(t, &n, 8));
	T(n);
	s.it_value.tv_nsec = 0;
	T(timerfd_settime(t, 0, &s, &old));
	T(old.it_interval.tv_nsec);
	s.it_value.tv_nsec = 1000000000;
	T(timerfd_settime(t, 0, &s, 0));
	T(timerfd_settime(1, 0, &s, 0));
	T(lseek(t, 0, SEEK_SET));
	close(t);
	t = timerfd_create(CLOCK_REALTIME, 0);
	clock_gettime(CLOCK_REALTIME, &s.it_value);
	s.it_value.tv_sec -= 5;
	s.it_interval.tv_nsec = 0;
	T(timerfd_settime(t, TFD_TIMER_ABSTIME, &s, 0));
	T(read(t, &n, 8));
	T(n);
	close(t);
}

static void signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1), sigaddset(&set, SIGCHLD), sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, 0);
	int s = signalfd(-1, &set, SFD_NONBLOCK);
	struct signalfd_siginfo i[4];
	T(read(s, i, sizeof i));
	T(read(s, i, 100));
	kill(getpid(), SIGUSR1);
	T(events_of(s, 0));
	union sigval v = { .sival_int = 42 };
	sigqueue(getpid(), SIGRTMIN, v);
	T(read(s, i, sizeof i) / sizeof *i);
	printf("%d %d %d\n", i[0].ssi_signo, i[0].ssi_code, i[0].ssi_pid == getpid());
	printf("%d %d %d\n", i[1].ssi_signo, i[1].ssi_code, i[1].ssi_int);
	T(events_of(s, 0));
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		usleep(20000);
		_exit(3);
	}
	T(events_of(s, 2000));
	T(read(s, i, sizeof i) / sizeof *i);
	printf("%d %d %d %d\n", i[0].ssi_signo, i[0].ssi_code, i[0].ssi_pid == child, i[0].ssi_status);
	wait(0);
	fcntl(s, F_SETFL, 0);
	fflush(stdout);
	if (fork() == 0) {
		usleep(20000);
		kill(getppid(), SIGUSR1);
		_exit(0);
	}
	T(read(s, i, sizeof *i));
	printf("%d\n", i[0].ssi_signo);
	wait(0);
	sigemptyset(&set);
	T(signalfd(s, &set, 0) == s);
	T(signalfd(0, &set, 0));
	T(signalfd(s, &set, 77));
	close(s);
	sigfillset(&set);
	sigprocmask(SIG_UNBLOCK, &set, 0);
}

static void processes(void)
{
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		usleep(20000);
		_exit(5);
	}
	int p = syscall(SYS_pidfd_open, child, 0);
	T(p >= 0);
	T(fcntl(p, F_GETFD));
	T(events_of(p, 0));
	T(events_of(p, 2000));
	siginfo_t info = { 0 };
	T(waitid(P_PIDFD, p, &info, WEXITED | WNOWAIT));
	T(info.si_status);
	T(syscall(SYS_pidfd_send_signal, p, 0, 0, 0));
	T(waitid(P_PIDFD, p, &info, WEXITED));
	T(waitid(P_PIDFD, p, &info, WEXITED));
	T(syscall(SYS_pidfd_send_signal, p, SIGTERM, 0, 0));
	T(events_of(p, 0));
	T(read(p, &info, 1));
	close(p);
	T(syscall(SYS_pidfd_open, child, 0));
	T(syscall(SYS_pidfd_open, 0, 0));
	T(syscall(SYS_pidfd_open, getpid(), 1));
	T(syscall(SYS_pidfd_send_signal, 0, SIGTERM, 0, 0));
	T(waitid(P_PIDFD, 0, &info, WEXITED));
	fflush(stdout);
	child = fork();
	if (child == 0)
		for (;;)
			pause();
	p = syscall(SYS_pidfd_open, child, 0);
	T(syscall(SYS_pidfd_send_signal, p, SIGKILL, 0, 0));
	T(waitid(P_PIDFD, p, &info, WEXITED));
	T(info.si_status);
	close(p);
}

static void epolls(void)
{
	int e = epoll_create1(0), outer = epoll_create1(0), p[2], v = eventfd(0, EFD_NONBLOCK);
	pipe(p);
	struct epoll_event ev = { EPOLLIN, { .u32 = 1 } }, got[8];
	T(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev));
	ev.data.u32 = 2, ev.events = EPOLLIN | EPOLLET;
	T(epoll_ctl(e, EPOLL_CTL_ADD, v, &ev));
	ev.data.u32 = 3, ev.events = EPOLLIN;
	T(epoll_ctl(outer, EPOLL_CTL_ADD, e, &ev));
	T(epoll_ctl(e, EPOLL_CTL_ADD, outer, &ev));
	T(epoll_ctl(e, EPOLL_CTL_ADD, e, &ev));
	T(epoll_ctl(e, EPOLL_CTL_ADD, p[0], &ev));
	ev.events = EPOLLIN | EPOLLEXCLUSIVE;
	T(epoll_ctl(e, EPOLL_CTL_ADD, p[1], &ev));
	T(epoll_ctl(e, EPOLL_CTL_MOD, p[1], &ev));
	T(epoll_ctl(e, EPOLL_CTL_DEL, p[1], 0));
	T(epoll_ctl(e, EPOLL_CTL_DEL, p[1], 0));
	int file = open("/proc/self/exe", O_RDONLY);
	T(epoll_ctl(e, EPOLL_CTL_ADD, file, &ev));
	T(epoll_wait(outer, got, 8, 0));
	fflush(stdout);
	if (fork() == 0) {
		usleep(20000);
		write(p[1], "x", 1);
		usleep(20000);
		uint64_t one = 1;
		write(v, &one, 8);
		_exit(0);
	}
	T(epoll_wait(outer, got, 8, -1));
	T(got[0].data.u32);
	T(epoll_wait(e, got, 8, -1));
	T(got[0].data.u32);
	wait(0);
	T(epoll_wait(e, got, 8, -1));
	T(epoll_wait(e, got, 8, 0));
	uint64_t one = 1;
	write(v, &one, 8);
	T(epoll_wait(e, got, 8, 0));
	char c;
	read(p[0], &c, 1);
	T(epoll_wait(e, got, 8, 0));
	T(epoll_wait(outer, got, 8, 0));
	ev.events = EPOLLIN | EPOLLONESHOT, ev.data.u32 = 9;
	T(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev));
	write(p[1], "y", 1);
	T(epoll_wait(e, got, 8, 0));
	T(epoll_wait(e, got, 8, 0));
	T(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev));
	T(epoll_wait(e, got, 8, 0));
	close(p[1]);
	T(epoll_ctl(e, EPOLL_CTL_MOD, p[0], &ev));
	T(epoll_wait(e, got, 8, 0));
	T(got[0].events);
}

int main(void)
{
	setvbuf(stdout, 0, _IOFBF, 1 << 16);
	timers();
	signals();
	processes();
	epolls();
	return 0;
}
