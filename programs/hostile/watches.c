/*
 * Epolls in epolls: circles, towers, lattices with ways without number ("shapes", the same
 * natively), and as many interests as can be had ("flood").
 */
#include "hostile.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

static int add(int epoll, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

static int is_ready(int fd)
{
	struct pollfd one = { fd, POLLIN, 0 };

	return poll(&one, 1, 0);
}

static void tower(int downwards)
{
	int last = epoll_create1(0), bottom = last, top = last, height = 0, error = 0;

	while (height < 100) {
		int next = epoll_create1(0);
		error = downwards ? add(last, next) : add(next, last);
		if (error)
			break;
		last = next;
		height++;
	}
	*(downwards ? &bottom : &top) = last;
	printf("tower: %d, then %s\n", height, strerror(error));
	printf("a circle: %s\n", strerror(add(bottom, top)));
	int event = eventfd(1, 0);
	printf("at the bottom: %d", add(bottom, event));
	printf(", ready %d\n", is_ready(bottom));
}

/* Levels of epolls, each of which watches all of the level below; files at the bottom. */
static void lattice(int width, int upwards)
{
	enum { LEVELS = 5 };
	int level[LEVELS][64], count[LEVELS] = { 0 };

	for (int l = 0; l < LEVELS; l++)
		for (int i = 0; i < width; i++)
			level[l][i] = l == 0 ? eventfd(0, 0) : epoll_create1(0);
	for (int n = 1; n < LEVELS; n++) {
		int l = upwards ? n : LEVELS - n;
		for (int i = 0; i < width; i++)
			for (int j = 0; j < width; j++)
				count[l] += add(level[l][i], level[l - 1][j]) == 0;
	}
	printf("lattice of %d:", width);
	for (int l = 1; l < LEVELS; l++)
		printf(" %d", count[l]);
	printf(", ready %d", is_ready(level[LEVELS - 1][0]));
	eventfd_write(level[0][width - 1], 1);
	printf(" %d\n", is_ready(level[1][0]));
	for (int l = 0; l < LEVELS; l++)
		for (int i = 0; i < width; i++)
			close(level[l][i]);
}

static const char *end(int error)
{
	return error ? strerror(error) : "done";
}

enum { FILES = 500, EPOLLS = 500 };
static int files[FILES], epolls[EPOLLS];

/* As many interests as one process can have, if no error comes before. */
static int fill(void)
{
	int error = 0;

	for (int i = 0; i < EPOLLS && !error; i++) {
		epolls[i] = epoll_create1(0);
		for (int j = 0; j < FILES && !error; j++)
			error = add(epolls[i], files[j]);
	}
	return error;
}

static void flood(void)
{
	for (int i = 0; i < FILES; i++)
		files[i] = eventfd(0, 0);
	printf("one process: %s\n", end(fill()));
	fflush(stdout);
	if (fork() == 0) {
		for (int i = 0; i < EPOLLS; i++)
			close(epolls[i]);
		printf("another: %s\n", end(fill()));
		fflush(stdout);
		_exit(0);
	}
	wait(0);
	printf("afterwards: ");
	for (int i = 0; i < EPOLLS; i++)
		close(epolls[i]);
	printf("%s\n", end(fill()));
	for (int j = 0; j < FILES; j++)
		close(files[j]);
	int event = eventfd(1, 0);
	printf("all gone: %s", end(add(epolls[0], event)));
	printf(", ready %d\n", is_ready(epolls[0]));
}

int main(int count, char **words)
{
	if (count > 1 && strcmp(words[1], "flood") == 0) {
		flood();
		return 0;
	}
	tower(0);
	tower(1);
	lattice(3, 1);
	lattice(3, 0);
	lattice(12, 1);
	return 0;
}
