/* mprotect of one page in the middle and back: each round splits a VMA in three and merges it. */
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 60000;
	char *p = mmap(0, 16 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	for (long i = 0; i < count; i++)
		if (mprotect(p + 7 * 4096, 4096, PROT_READ) ||
		    mprotect(p + 7 * 4096, 4096, PROT_READ | PROT_WRITE))
			return 1;
	return 0;
}
