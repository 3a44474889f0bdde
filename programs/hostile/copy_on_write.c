/* Copy-on-write games on a private mapping of a file that may only be read. */
#include "hostile.h"

int main(void)
{
	int fd = open("/etc/passwd", O_RDONLY);
	char *p = mmap(0, PAGE, PROT_READ, MAP_PRIVATE, fd, 0), before = p[0], after = 0;
	int mem = open("/proc/self/mem", O_RDWR);

	for (int round = 0; round < 200; round++) {
		if (mem >= 0)
			(void)!pwrite(mem, "Z", 1, (off_t)(uintptr_t)p);
		madvise(p, PAGE, MADV_DONTNEED);
	}
	(void)!pread(fd, &after, 1, 0);
	printf("file %s\n", before == after ? "unchanged" : "CHANGED");
	mprotect(p, PAGE, PROT_READ | PROT_WRITE);
	p[0] = 'Q';
	(void)!pread(fd, &after, 1, 0);
	printf("file %s\n", before == after ? "unchanged" : "CHANGED");
	madvise(p, PAGE, MADV_DONTNEED);
	printf("mapping %s\n", p[0] == before ? "restored" : "kept");
	return 0;
}
