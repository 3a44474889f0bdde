/*
 * Locks of files: as many as can be had, one in every other byte, shared and exclusive ones; then
 * they must be there again. "shapes" splits and joins locks of ranges, the same natively.
 */
#include "hostile.h"
#include <sys/file.h>
#include <sys/wait.h>

static int set(int fd, int command, int kind, long start, long length)
{
	struct flock lock = { .l_type = kind, .l_start = start, .l_len = length };

	return fcntl(fd, command, &lock) == 0 ? 0 : errno;
}

/* What others may not have, as a child sees it. */
static void tell(int fd)
{
	fflush(stdout);
	if (fork() == 0) {
		for (long at = 0; at < 400;) {
			struct flock lock = { .l_type = F_WRLCK, .l_start = at, .l_len = 400 - at };
			fcntl(fd, F_GETLK, &lock);
			if (lock.l_type == F_UNLCK)
				break;
			printf(" %s %ld+%ld", lock.l_type == F_RDLCK ? "r" : "w", lock.l_start, lock.l_len);
			at = lock.l_len ? lock.l_start + lock.l_len : 400;
		}
		printf("\n");
		fflush(stdout);
		_exit(0);
	}
	wait(0);
}

static void shapes(int fd)
{
	static const struct { int kind, start, length; } steps[] = {
		{ F_RDLCK, 100, 50 }, { F_RDLCK, 150, 50 }, { F_WRLCK, 120, 10 }, { F_RDLCK, 200, 1 },
		{ F_UNLCK, 110, 5 },  { F_WRLCK, 111, 1 },  { F_RDLCK, 120, 10 }, { F_RDLCK, 0, 0 },
		{ F_WRLCK, 50, 200 }, { F_UNLCK, 49, 2 },   { F_WRLCK, 49, 2 },   { F_UNLCK, 300, 0 },
		{ F_WRLCK, 300, 1 },  { F_UNLCK, 0, 0 },
	};

	for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
		printf("%d:", set(fd, F_SETLK, steps[i].kind, steps[i].start, steps[i].length));
		tell(fd);
	}
	printf("last byte: %d", set(fd, F_SETLK, F_WRLCK, 0x7fffffffffffffff, 1));
	printf(" %d\n", set(fd, F_SETLK, F_WRLCK, 0x7ffffffffffffffe, 0));
	srand(7);
	for (int i = 0; i < 300; i++) {
		static const int kinds[] = { F_RDLCK, F_WRLCK, F_UNLCK };
		set(fd, F_SETLK, kinds[rand() % 3], rand() % 380, 1 + rand() % 20);
		if (i % 20 == 0)
			tell(fd);
	}
}

static const char *end(int error)
{
	return error ? strerror(error) : "done";
}

static int fill(int fd)
{
	int count = 0;

	while (count < 1000000 && set(fd, F_OFD_SETLK, F_WRLCK, count * 2L, 1) == 0)
		count++;
	return count;
}

static void flood(void)
{
	int fds[3];

	for (int i = 0; i < 3; i++)
		fds[i] = memfd_create("locks", 0);
	int first = fill(fds[0]);
	printf("ranges: %s, %s\n", strerror(errno), first < 500000 ? "bounded" : "without end");
	printf("a part off: %s\n", end(set(fds[0], F_OFD_SETLK, F_UNLCK, 0, 1)));
	printf("again: %s\n", end(set(fds[0], F_OFD_SETLK, F_RDLCK, 0, 1)));
	printf("joined: %s\n", end(set(fds[0], F_OFD_SETLK, F_RDLCK, 0, 0)));
	printf("split: %s\n", end(set(fds[0], F_OFD_SETLK, F_UNLCK, 10, 10)));
	printf("whole: %s\n", end(flock(fds[0], LOCK_EX) ? errno : 0));
	close(fds[0]);
	printf("as many again: %d\n", fill(fds[1]) >= first);
	printf("none for others: %s\n", end(set(fds[2], F_OFD_SETLK, F_WRLCK, 0, 1)));
}

int main(int count, char **words)
{
	if (count > 1 && strcmp(words[1], "flood") == 0)
		flood();
	else
		shapes(memfd_create("locks", 0));
	return 0;
}
