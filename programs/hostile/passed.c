/*
 * Open files in messages: sockets that keep each other alive in every shape, and floods of them.
 * After each, descriptors and memory must be there again.
 */
#include "hostile.h"
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>

/* Sends descriptors; 0 or the error. */
static int pass(int through, const int *fds, int count)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(253 * sizeof(int))];
	} control = { 0 };
	char byte = 'x';
	struct iovec data = { &byte, 1 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1, .msg_control = &control };

	message.msg_controllen = CMSG_SPACE(count * sizeof(int));
	control.header.cmsg_level = SOL_SOCKET;
	control.header.cmsg_type = SCM_RIGHTS;
	control.header.cmsg_len = CMSG_LEN(count * sizeof(int));
	memcpy(CMSG_DATA(&control.header), fds, count * sizeof(int));
	return sendmsg(through, &message, MSG_DONTWAIT) < 0 ? errno : 0;
}

static void pair(int *ends)
{
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) != 0) {
		printf("no sockets: %s\n", strerror(errno));
		exit(1);
	}
}

static void circles(void)
{
	int a[2], b[2], c[2];

	for (int i = 0; i < 5000; i++) {
		pair(a);
		switch (i % 4) {
		case 0: /* Itself, by its other end. */
			pass(a[0], &a[1], 1);
			break;
		case 1: /* Two through each other. */
			pair(b);
			pass(a[0], b, 2);
			pass(b[0], a, 2);
			close(b[0]), close(b[1]);
			break;
		case 2: /* Three in a ring. */
			pair(b), pair(c);
			pass(a[0], &b[1], 1), pass(b[0], &c[1], 1), pass(c[0], &a[1], 1);
			close(b[0]), close(b[1]), close(c[0]), close(c[1]);
			break;
		case 3: { /* With an epoll that watches its own carrier. */
			struct epoll_event event = { .events = EPOLLIN };
			int epoll = epoll_create1(0);
			epoll_ctl(epoll, EPOLL_CTL_ADD, a[1], &event);
			pass(a[0], &epoll, 1);
			close(epoll);
		}
		}
		close(a[0]), close(a[1]);
	}
	printf("circles: over\n");
}

/* Each socket lies in the message of the next one: freeing the last frees all. */
static void tower(void)
{
	int last[2], next[2], height = 0, error = 0;

	pair(last);
	for (; height < 20000 && !error; height++) {
		pair(next);
		error = pass(next[0], &last[1], 1);
		close(last[0]), close(last[1]);
		memcpy(last, next, sizeof last);
	}
	printf("tower: %s\n", height > 2 ? "built" : "refused");
	close(last[0]), close(last[1]);
}

static void flood(void)
{
	int ends[2], fds[253], error = 0, wide = 0;

	for (int i = 0; i < 253; i++)
		fds[i] = dup(0);
	printf("too many at once: %s\n", strerror(pass(1, fds, 0)));
	for (int round = 0; round < 200 && wide < 100; round++) {
		pair(ends);
		for (wide = 0; (error = pass(ends[0], fds, 253)) == 0 && wide < 5000;)
			wide++;
		if (wide == 0)
			break;
	}
	printf("flood: %s\n", error ? "bounded" : "without end");
}

/* What children do leaves nothing behind: the last of them is as well off as the first. */
static void rounds(void (*act)(void))
{
	for (int round = 0; round < 3; round++) {
		fflush(stdout);
		int status = 0;
		if (fork() == 0) {
			act();
			fflush(stdout);
			_exit(0);
		}
		wait(&status);
		printf("round %d: %d\n", round, status);
	}
}

int main(void)
{
	rounds(circles);
	rounds(tower);
	rounds(flood);
	int ends[2], got = 0;
	for (; got < 400 && socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0; got++)
		;
	printf("sockets again: %d\n", got);
	return 0;
}
