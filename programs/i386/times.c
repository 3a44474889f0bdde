/* The calls about time in both forms, of 32 and of 64 bits, through the raw i386 table. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "call.h"

struct wide { int64_t seconds, nanoseconds; };
struct slim { int32_t seconds, nanoseconds; };

/* The upper half of the nanoseconds is padding to a 32-bit kernel interface. */
#define PADDING 0x1111111100000000

static int word;

static void clocks(void)
{
	struct wide wide = { -1, -1 };
	struct slim slim = { -1, -1 };

	for (int clock = 0; clock < 8; clock++) {
		long results[] = {
			QUIET(265, clock, (long)&slim), QUIET(403, clock, (long)&wide),
			QUIET(266, clock, (long)&slim), QUIET(406, clock, (long)&wide),
		};
		printf("clock %d: %ld %ld %ld %ld\n", clock, results[0], results[1], results[2], results[3]);
	}
	printf("resolution %d %d %lld %lld\n", slim.seconds, slim.nanoseconds, wide.seconds, wide.nanoseconds);
	QUIET(265, 0, (long)&slim);
	QUIET(403, 0, (long)&wide);
	printf("both agree %d\n", wide.seconds - slim.seconds < 2 && wide.nanoseconds >> 32 == 0);
	CALL("clock_gettime bad", 265, 0, 1);
	CALL("clock_gettime64 bad", 403, 0, 1);
	CALL("clock_getres null", 266, 0, 0);
}

static void sleeps(void)
{
	struct wide wide = { 0, 1000000 | PADDING };
	struct slim slim = { 0, 1000000 };

	CALL("nanosleep", 162, (long)&slim, 0);
	CALL("clock_nanosleep_time64", 407, 1, 0, (long)&wide, 0);
	wide.nanoseconds = 1000000000;
	CALL("clock_nanosleep_time64", 407, 1, 0, (long)&wide, 0);
	wide = (struct wide){ -1, 0 };
	CALL("clock_nanosleep_time64", 407, 1, 0, (long)&wide, 0);
	slim.nanoseconds = -1;
	CALL("nanosleep", 162, (long)&slim, 0);
	CALL("nanosleep bad", 162, 1, 0);
	/* A long time ago. */
	wide = (struct wide){ 1, 0 };
	CALL("clock_nanosleep_time64 absolute", 407, 0, 1, (long)&wide, 0);
	/* What is left comes back. */
	signal(SIGALRM, SIG_IGN);
}

static void polls(void)
{
	struct wide wide = { 0, 1000 | PADDING };
	struct slim slim = { 0, 1000 };
	int pipes[2];

	pipe(pipes);
	struct pollfd fd = { pipes[0], POLLIN };
	CALL("ppoll", 309, (long)&fd, 1, (long)&slim, 0, 8);
	printf("left %d %d\n", slim.seconds, slim.nanoseconds);
	CALL("ppoll_time64", 414, (long)&fd, 1, (long)&wide, 0, 8);
	printf("left %lld %lld\n", wide.seconds, wide.nanoseconds);
	write(pipes[1], "x", 1);
	wide = (struct wide){ 5000000000, 0 };
	CALL("ppoll_time64", 414, (long)&fd, 1, (long)&wide, 0, 8);
	printf("left %d\n", wide.seconds > 4999999990);
	unsigned set[32];
	memset(set, 0, sizeof set);
	set[pipes[0] / 32] |= 1u << pipes[0] % 32;
	set[1] = 0xdeadbeef;
	wide = (struct wide){ 5000000000, 0 };
	CALL("pselect6_time64", 413, 32, (long)set, 0, 0, (long)&wide, 0);
	printf("%d %x left %d\n", set[0] == 1u << pipes[0], set[1], wide.seconds > 4999999990);
	slim = (struct slim){ 5, 0 };
	long mask[2] = { (long)(uint64_t[]){ 0 }, 8 };
	CALL("pselect6", 308, 32, (long)set, 0, 0, (long)&slim, (long)mask);
	mask[1] = 4;
	CALL("pselect6 size", 308, 32, (long)set, 0, 0, (long)&slim, (long)mask);
	CALL("pselect6 bad", 308, 32, (long)set, 0, 0, (long)&slim, 1);
	CALL("_newselect negative", 142, -1, 0, 0, 0, 0);
	CALL("_newselect bad", 142, 5, 1, 0, 0, 0);
	struct slim tv = { 0, 1000 };
	CALL("_newselect", 142, 0, 0, 0, 0, (long)&tv);
	long five[5] = { 32, (long)set, 0, 0, 0 };
	CALL("select", 82, (long)five);
	CALL("select bad", 82, 1);
	int epoll = syscall(SYS_epoll_create1, 0);
	char event[12];
	wide = (struct wide){ 0, 1000 | PADDING };
	CALL("epoll_pwait2", 441, epoll, (long)event, 1, (long)&wide, 0, 0);
	wide.nanoseconds = 1000000000;
	CALL("epoll_pwait2", 441, epoll, (long)event, 1, (long)&wide, 0, 0);
}

static void timers(void)
{
	struct wide wide[2] = { { 100000, 5 | PADDING }, { 5000000000, 7 | PADDING } }, old[2];
	struct slim slim[2] = { { 1, 2 }, { 3000, 4 } }, before[2];
	int timer = -1;
	struct sigevent none = { .sigev_notify = SIGEV_NONE };

	memset(old, 0xee, sizeof old);
	CALL("timer_create", 259, 1, (long)&none, (long)&timer);
	CALL("timer_settime64", 409, timer, 0, (long)wide, (long)old);
	printf("%lld %lld %lld %lld\n", old[0].seconds, old[0].nanoseconds, old[1].seconds, old[1].nanoseconds);
	CALL("timer_gettime64", 408, timer, (long)old);
	printf("%lld %lld %d\n", old[0].seconds, old[0].nanoseconds, old[1].seconds >= 4999999990);
	CALL("timer_settime", 260, timer, 0, (long)slim, (long)before);
	printf("%d %d\n", before[0].seconds, before[0].nanoseconds);
	CALL("timer_gettime", 261, timer, (long)before);
	printf("%d %d %d\n", before[0].seconds, before[0].nanoseconds, before[1].seconds >= 2990);
	wide[0].nanoseconds = 1000000000;
	CALL("timer_settime64", 409, timer, 0, (long)wide, 0);
	CALL("timer_settime64 null", 409, timer, 0, 0, 0);
	CALL("timer_delete", 263, timer);
	int fd = QUIET(322, 1, 0);
	wide[0].nanoseconds = 5;
	CALL("timerfd_settime64", 411, fd, 0, (long)wide, (long)old);
	CALL("timerfd_gettime64", 410, fd, (long)old);
	printf("%lld %lld %d\n", old[0].seconds, old[0].nanoseconds, old[1].seconds >= 4999999990);
	CALL("timerfd_gettime", 326, fd, (long)before);
	printf("%d\n", before[0].seconds);
	CALL("timerfd_settime", 325, fd, 0, (long)slim, (long)before);
	int real[4] = { 0, 0, 1000, 0 }, seen[4];
	CALL("setitimer", 104, 0, (long)real, (long)seen);
	CALL("getitimer", 105, 0, (long)seen);
	printf("%d %d\n", seen[2] >= 990, seen[0]);
	CALL("setitimer null", 104, 0, 0, (long)seen);
	CALL("alarm", 27, 0);
}

static void files(void)
{
	char name[] = "/tmp/timesXXXXXX";
	int fd = mkstemp(name);
	struct wide wide[2] = { { 5000000000, 3 | PADDING }, { -5, 4 | PADDING } };
	struct slim slim[2] = { { 0x7fffffff, 5 }, { -1, 6 } };
	unsigned char stats[96];
	struct statx extended;

	CALL("utimensat_time64", 412, AT_FDCWD, (long)name, (long)wide, 0);
	QUIET(383, fd, (long)"", AT_EMPTY_PATH, 0x7ff, (long)&extended);
	printf("%lld %u %lld %u\n", extended.stx_atime.tv_sec, extended.stx_atime.tv_nsec,
	       extended.stx_mtime.tv_sec, extended.stx_mtime.tv_nsec);
	CALL("fstat64", 197, fd, (long)stats);
	hex("times", stats + 64, 16);
	CALL("utimensat", 320, AT_FDCWD, (long)name, (long)slim, 0);
	QUIET(383, fd, (long)"", AT_EMPTY_PATH, 0x7ff, (long)&extended);
	printf("%lld %u %lld %u\n", extended.stx_atime.tv_sec, extended.stx_atime.tv_nsec,
	       extended.stx_mtime.tv_sec, extended.stx_mtime.tv_nsec);
	CALL("utime", 30, (long)name, (long)(int[]){ 77, -77 });
	CALL("fstat64", 197, fd, (long)stats);
	hex("times", stats + 64, 16);
	CALL("utimes", 271, (long)name, (long)(int[]){ 1, 999999, 2, 1000000 });
	CALL("futimesat", 299, AT_FDCWD, (long)name, (long)(int[]){ 1, 999999, 2, 3 });
	CALL("fstat64", 197, fd, (long)stats);
	hex("times", stats + 64, 16);
	slim[0].nanoseconds = 0x3ffffffe, slim[1].nanoseconds = 0x3ffffffe;
	CALL("utimensat omit", 320, AT_FDCWD, (long)name, (long)slim, 0);
	unlink(name);
}

static void waits(void)
{
	struct wide wide = { 0, 1000 | PADDING };
	struct slim slim = { 0, 1000 };
	uint64_t set = 1 << (SIGUSR1 - 1);
	unsigned char info[128];

	CALL("futex_time64", 422, (long)&word, 0, 0, (long)&wide);
	CALL("futex", 240, (long)&word, 0, 0, (long)&slim);
	CALL("futex_time64 bad", 422, (long)&word, 0, 0, 1);
	wide.nanoseconds = 1000000000;
	CALL("futex_time64 range", 422, (long)&word, 0, 0, (long)&wide);
	wide = (struct wide){ 1, 0 };
	CALL("futex_time64 bitset", 422, (long)&word, 9 | 256, 0, (long)&wide, 0, -1);
	CALL("futex wake", 240, (long)&word, 1, 5, 12345);
	CALL("futex requeue", 240, (long)&word, 4, 5, 12345, (long)&word, 0);
	wide = (struct wide){ 0, 1000 | PADDING };
	CALL("rt_sigtimedwait_time64", 421, (long)&set, (long)info, (long)&wide, 8);
	CALL("rt_sigtimedwait", 177, (long)&set, (long)info, (long)&slim, 8);
	sigprocmask(SIG_BLOCK, (sigset_t *)&set, 0);
	sigqueue(getpid(), SIGUSR1, (union sigval){ .sival_int = 0x12345678 });
	memset(info, 0xee, sizeof info);
	CALL("rt_sigtimedwait_time64", 421, (long)&set, (long)info, (long)&wide, 8);
	hex("info", info, 12);
	hex("value", info + 16, 8);
	CALL("sched_rr_get_interval", 161, 0, (long)&slim);
	CALL("sched_rr_get_interval_time64", 423, 0, (long)&wide);
	printf("%d %d\n", wide.seconds == slim.seconds, wide.nanoseconds == slim.nanoseconds);
	int semaphore = syscall(SYS_semget, 0, 1, 0600);
	struct { unsigned short number; short change, flags; } operation = { 0, -1, 0 };
	wide = (struct wide){ 0, 1000 | PADDING };
	CALL("semtimedop_time64", 420, semaphore, (long)&operation, 1, (long)&wide);
	slim = (struct slim){ 0, 1000 };
	CALL("ipc semtimedop", 117, 4, semaphore, 1, 0, (long)&operation, (long)&slim);
	CALL("semctl", 394, semaphore, 0, 0, 0);
	int sockets[2];
	socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets);
	char buffer[4];
	struct iovec piece = { buffer, 4 };
	struct mmsghdr heads[2] = { { .msg_hdr = { .msg_iov = &piece, .msg_iovlen = 1 } },
				    { .msg_hdr = { .msg_iov = &piece, .msg_iovlen = 1 } } };
	write(sockets[0], "abc", 3);
	wide = (struct wide){ 0, 1000 | PADDING };
	CALL("recvmmsg_time64", 417, sockets[1], (long)heads, 1, 0, (long)&wide);
	printf("%u %.3s\n", heads[0].msg_len, buffer);
	CALL("recvmmsg none", 337, sockets[1], (long)heads, 2, 0x40, 0);
	CALL("SO_RCVTIMEO_NEW", 366, sockets[1], SOL_SOCKET, 66, (long)(int64_t[]){ 5000000000, 8000 }, 16);
	int64_t timeout[2] = { 0 };
	int length = 16;
	CALL("SO_RCVTIMEO_NEW", 365, sockets[1], SOL_SOCKET, 66, (long)timeout, (long)&length);
	printf("%lld %lld %d\n", timeout[0], timeout[1], length);
	int old[4] = { 5, 4000, 9, 9 };
	CALL("SO_RCVTIMEO_OLD", 366, sockets[1], SOL_SOCKET, 20, (long)old, 8);
	length = 16;
	CALL("SO_RCVTIMEO_OLD", 365, sockets[1], SOL_SOCKET, 20, (long)old, (long)&length);
	printf("%d %d %d %d\n", old[0], old[1], old[2], length);
	length = 16;
	CALL("SO_RCVTIMEO_NEW", 365, sockets[1], SOL_SOCKET, 66, (long)timeout, (long)&length);
	printf("%lld %lld %d\n", timeout[0], timeout[1], length);
}

int main(void)
{
	clocks();
	sleeps();
	polls();
	timers();
	files();
	waits();
}
