/* A parent fills 1,000 pages and forks. The child stores to the first 300 of them, then waits until
 * the parent has stored to the last 200 and reads the rest. Prints what getrusage says. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGES = 1000, OF_CHILD = 300, OF_PARENT = 200, BYTES = 4096 };

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static void touch(volatile char *pages, int from, int count)
{
	for (int i = from; i < from + count; i++)
		pages[(long)i * BYTES] += 1;
}

int main(void)
{
	char *pages = aligned_alloc(BYTES, (long)PAGES * BYTES);
	int ends[2], status;
	long before, sum = 0;
	char byte;

	touch(pages, 0, PAGES);
	if (pipe(ends) != 0)
		return 1;
	if (fork() == 0) {
		before = faults();
		touch(pages, 0, OF_CHILD);
		printf("child %ld\n", (faults() - before) / 10 * 10);
		fflush(stdout);
		close(ends[1]);
		read(ends[0], &byte, 1);
		for (int i = 0; i < PAGES; i++)
			sum += pages[(long)i * BYTES];
		return sum == PAGES + OF_CHILD ? 7 : 1;
	}
	before = faults();
	touch(pages, PAGES - OF_PARENT, OF_PARENT);
	before = faults() - before;
	close(ends[1]);
	wait(&status);
	printf("parent %ld\nstatus %d\n", before / 10 * 10, WEXITSTATUS(status));
	return 0;
}
