/* sbrk(+4K), touch, sbrk(-4K). */
#define _GNU_SOURCE
#include <stdlib.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 60000;
	/* The next break on a page boundary, so that each round maps and unmaps exactly one page. */
	long top = (long)sbrk(0);

	sbrk(-top & 4095);
	for (long i = 0; i < count; i++) {
		volatile char *p = sbrk(4096);
		if (p == (void *)-1)
			return 1;
		*p = 1;
		sbrk(-4096);
	}
	return 0;
}
