/* One-page VMAs (neighbours differ in rights): created, faulted in random order, protected, unmapped. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : 50000;
	char *base = mmap(0, count * 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	uint64_t x = 88172645463325252ull;

	if (base == MAP_FAILED)
		return 1;
	for (long i = 0; i < count; i++) {
		int rights = i & 1 ? PROT_READ : PROT_READ | PROT_WRITE;
		if (mmap(base + i * 4096, 4096, rights, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
		    MAP_FAILED)
			return 2;
	}
	for (long i = 0; i < 2 * count; i++) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		*(volatile char *)(base + x % count * 4096);
	}
	for (long i = 0; i < count; i++)
		if (mprotect(base + i * 4096, 4096, i & 1 ? PROT_READ | PROT_WRITE : PROT_READ))
			return 3;
	for (long i = 0; i < count; i++)
		if (munmap(base + (i * 7919 % count) * 4096, 4096))
			return 4;
	return 0;
}
