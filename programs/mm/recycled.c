/* Touches 64 MB, gives it back, touches it again: after the first round the frames are recycled. */
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	long rounds = argc > 1 ? atol(argv[1]) : 16;
	size_t bytes = 64 << 20;
	volatile char *p =
		mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return 1;
	madvise((void *)p, bytes, MADV_NOHUGEPAGE);
	for (long round = 0; round < rounds; round++) {
		for (size_t i = 0; i < bytes; i += 4096)
			p[i] = 1;
		madvise((void *)p, bytes, MADV_DONTNEED);
	}
	return 0;
}
