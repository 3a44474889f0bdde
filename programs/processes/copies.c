/* Faults of copy-on-write, counted by getrusage: exact numbers, the same natively. */
#include "processes.h"

#define COUNT 1000

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* Faults of a write, or read, of one byte in each page. */
static long touch(volatile char *at, int writes)
{
	long before = faults();

	for (int i = 0; i < COUNT; i++)
		if (writes)
			at[i * 4096L] = i;
		else
			(void)at[i * 4096L];
	return faults() - before;
}

static char *map(int flags)
{
	return mmap(0, COUNT * 4096L, PROT_READ | PROT_WRITE, flags | MAP_ANONYMOUS, -1, 0);
}

/* Runs the statement in a child and waits for it. */
#define CHILD(...)                      \
	do {                            \
		pid_t child = fork();   \
		if (child == 0) {       \
			__VA_ARGS__;    \
			_exit(0);       \
		}                       \
		waitpid(child, 0, 0);   \
	} while (0)

int main(void)
{
	int ends[2];
	char byte;
	char *page = map(MAP_PRIVATE);

	touch(page, 1);
	faults();
	CHILD(SAY("child writes: %ld\n", touch(page, 1)); SAY("again: %ld\n", touch(page, 1));
	      SAY("reads: %ld\n", touch(page, 0)));
	SAY("parent alone again: %ld\n", touch(page, 1));
	SAY("again: %ld\n", touch(page, 1));
	CHILD(SAY("child reads: %ld\n", touch(page, 0)));
	if (pipe(ends) < 0)
		return 1;
	pid_t child = fork();
	if (child == 0) {
		if (read(ends[0], &byte, 1) != 1)
			_exit(1);
		SAY("child behind the parent: %ld\n", touch(page, 1));
		_exit(0);
	}
	SAY("parent first: %ld\n", touch(page, 1));
	if (write(ends[1], "x", 1) != 1)
		return 1;
	waitpid(child, 0, 0);
	SAY("parent is the owner: %ld\n", touch(page, 1));
	CHILD(CHILD(SAY("grandchild: %ld\n", touch(page, 1)));
	      SAY("child after it: %ld\n", touch(page, 1)));
	SAY("parent after both: %ld\n", touch(page, 1));
	char *zeros = map(MAP_PRIVATE);
	SAY("zero page: %ld\n", touch(zeros, 0));
	CHILD(SAY("child reads: %ld\n", touch(zeros, 0)); SAY("writes: %ld\n", touch(zeros, 1)));
	SAY("parent writes: %ld\n", touch(zeros, 1));
	char *both = map(MAP_SHARED);
	SAY("shared: %ld\n", touch(both, 1));
	CHILD(SAY("child maps them: %ld\n", touch(both, 1)); SAY("no copy: %ld\n", touch(both, 1)));
	SAY("parent: %ld\n", touch(both, 1));
	madvise(page, COUNT * 4096L, MADV_DONTFORK);
	madvise(zeros, COUNT * 4096L, MADV_WIPEONFORK);
	CHILD(SAY("wiped: %ld\n", touch(zeros, 0)); SAY("byte %d\n", zeros[4096]));
	SAY("kept: %ld\n", touch(page, 1));
	SAY("wiped in the child only: %ld\n", touch(zeros, 1));
	mprotect(both, COUNT * 4096L, PROT_READ);
	mprotect(both, COUNT * 4096L, PROT_READ | PROT_WRITE);
	SAY("rights back: %ld\n", touch(both, 1));
	return 0;
}
