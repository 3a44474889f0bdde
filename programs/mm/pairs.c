/* 60,000 pairs of mmap and munmap of 64 KB, untouched. */
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 60000;

	for (long i = 0; i < count; i++) {
		void *p = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p == MAP_FAILED || munmap(p, 65536))
			return 1;
	}
	return 0;
}
