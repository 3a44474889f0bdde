/* After mprotect, munmap, mremap and madvise no old translation may be used. */
#include "hostile.h"

static long faults;

static void handler(int number)
{
	(void)number;
	faults++;
	siglongjmp(try_back, 1);
}

#define COUNT(...) \
	do { if (!sigsetjmp(try_back, 1)) { __VA_ARGS__; } } while (0)

int main(void)
{
	volatile char *p = pages(64, PROT_READ | PROT_WRITE);
	long zeros = 0;

	signal(SIGSEGV, handler);
	for (int i = 0; i < 64; i++)
		p[i * PAGE] = 1;
	for (int i = 0; i < 64; i++) {
		volatile char *page = p + i * PAGE;
		(void)*page;
		mprotect((void *)page, PAGE, PROT_READ);
		COUNT(*page = 2);
		mprotect((void *)page, PAGE, PROT_NONE);
		COUNT((void)*page);
		mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
		*page = 3;
		madvise((void *)page, PAGE, MADV_DONTNEED);
		zeros += *page == 0;
		*page = 4;
		munmap((void *)page, PAGE);
		COUNT((void)*page);
		COUNT(*page = 5);
		mmap((void *)page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		zeros += *page == 0;
	}
	printf("%ld faults, %ld zeros\n", faults, zeros);
	return 0;
}
