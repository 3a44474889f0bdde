/* Descriptors of processes: made by clone, waited for, files taken through them; ranges of descriptors. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
	fflush(stdout);
}
#define T(call) tell(#call, (long)(call))
#define PIDFD 0x1000

static long child(long flags, int *fd)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0, fd, 0, 0);
	if (pid == 0) {
		pause();
		_exit(3);
	}
	return pid;
}

static int ready(int fd)
{
	struct pollfd p = { fd, POLLIN, 0 };
	return poll(&p, 1, 0) * 100 + p.revents;
}

static void by_clone(void)
{
	int fd = -1;
	siginfo_t info;
	long pid = child(PIDFD, &fd);
	T(pid > 0);
	T(fcntl(fd, F_GETFD));
	T(fcntl(fd, F_GETFL) & ~O_RDWR);
	T(ready(fd));
	T(fcntl(fd, F_SETFL, O_NONBLOCK));
	memset(&info, 0, sizeof info);
	T(waitid(3, fd, &info, WEXITED));
	T(info.si_pid);
	T(waitid(3, fd, &info, WEXITED | WNOHANG));
	T(syscall(SYS_pidfd_send_signal, fd, SIGKILL, 0, 0));
	fcntl(fd, F_SETFL, 0);
	T(waitid(3, fd, &info, WEXITED | WNOWAIT));
	T(info.si_pid == pid && info.si_status == SIGKILL);
	T(ready(fd));
	T(waitid(3, fd, &info, WEXITED));
	T(ready(fd));
	T(waitid(3, fd, &info, WEXITED));
	T(syscall(SYS_pidfd_send_signal, fd, 0, 0, 0));
	close(fd);
	/* The number goes where the thread's would. */
	T(child(PIDFD | CLONE_PARENT_SETTID, &fd));
	T(child(PIDFD | 0x400000, &fd));
	struct {
		uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, rest[3];
	} args = { 0 };
	args.flags = PIDFD;
	args.exit_signal = SIGCHLD;
	args.pidfd = (uintptr_t)&fd;
	pid = syscall(SYS_clone3, &args, sizeof args);
	if (pid == 0)
		_exit(9);
	T(waitid(3, fd, &info, WEXITED));
	T(info.si_status);
	close(fd);
	args.pidfd = 8;
	T(syscall(SYS_clone3, &args, sizeof args));
	args.flags |= CLONE_PARENT_SETTID;
	args.pidfd = args.parent_tid = (uintptr_t)&fd;
	T(syscall(SYS_clone3, &args, sizeof args));
	T(waitid(P_ALL, 0, &info, WEXITED | WNOHANG));
}

static void files(void)
{
	int fd = -1, p[2];
	char c = 0;
	T(pipe(p));
	T(write(p[1], "x", 1));
	long pid = child(PIDFD, &fd);
	int copy = syscall(SYS_pidfd_getfd, fd, p[0], 0);
	T(copy > p[1]);
	T(fcntl(copy, F_GETFD));
	T(read(copy, &c, 1));
	T(c);
	T(syscall(SYS_pidfd_getfd, fd, p[0], 1));
	T(syscall(SYS_pidfd_getfd, fd, 999, 0));
	T(syscall(SYS_pidfd_getfd, p[0], 0, 0));
	kill(pid, SIGKILL);
	waitpid(pid, 0, 0);
	T(syscall(SYS_pidfd_getfd, fd, p[0], 0));
}

static int sharer(void *fds)
{
	(void)fds;
	/* Its own table from here on: the other keeps its descriptors. */
	long done = syscall(SYS_close_range, 100, ~0u, 2);
	_exit(done == 0 && fcntl(100, F_GETFD) < 0 ? 5 : 6);
}

static void ranges(void)
{
	static char stack[16384];
	int status;
	for (int i = 100; i < 110; i++)
		dup2(1, i);
	T(syscall(SYS_close_range, 105, 107, 4));
	T(fcntl(104, F_GETFD));
	T(fcntl(105, F_GETFD));
	T(fcntl(108, F_GETFD));
	T(syscall(SYS_close_range, 108, 120, 0));
	T(fcntl(108, F_GETFD));
	T(syscall(SYS_close_range, 9, 8, 0));
	T(syscall(SYS_close_range, 8, 9, 8));
	pid_t pid = clone(sharer, stack + sizeof stack, CLONE_FILES | CLONE_VM | SIGCHLD, 0);
	T(waitpid(pid, &status, 0) == pid);
	T(WEXITSTATUS(status));
	T(fcntl(100, F_GETFD));
}

int main(void)
{
	by_clone();
	files();
	ranges();
	return 0;
}
