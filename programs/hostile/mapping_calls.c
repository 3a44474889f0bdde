/* The mapping calls with arguments that Linux refuses: the errors must be Linux's. */
#include "hostile.h"

#define RW (PROT_READ | PROT_WRITE)
#define ANON (MAP_PRIVATE | MAP_ANONYMOUS)
#define MAP(name, ...) CALL(name, failed(mmap(__VA_ARGS__)))

static long failed(void *p) { return p == MAP_FAILED ? -1 : 0; }

static void mmaps(void)
{
	int file = open("/proc/self/exe", O_RDONLY), directory = open("/", O_RDONLY);
	int null = open("/dev/null", O_RDWR);
	char *p = pages(4, PROT_READ);

	MAP("mmap length 0", 0, 0, RW, ANON, -1, 0);
	MAP("mmap length max", 0, -1ul, RW, ANON, -1, 0);
	MAP("mmap 128 TB", 0, 1ul << 47, RW, ANON, -1, 0);
	MAP("mmap 2^63", 0, 1ul << 63, RW, ANON, -1, 0);
	MAP("mmap no type", 0, PAGE, RW, MAP_ANONYMOUS, -1, 0);
	MAP("mmap both types", 0, PAGE, RW, MAP_ANONYMOUS | 3, -1, 0);
	MAP("mmap offset odd", 0, PAGE, PROT_READ, MAP_PRIVATE, file, 1);
	MAP("mmap offset max", 0, PAGE, PROT_READ, MAP_PRIVATE, file, -PAGE);
	MAP("mmap fd -1", 0, PAGE, PROT_READ, MAP_PRIVATE, -1, 0);
	MAP("mmap fd closed", 0, PAGE, PROT_READ, MAP_PRIVATE, 999, 0);
	MAP("mmap directory", 0, PAGE, PROT_READ, MAP_PRIVATE, directory, 0);
	MAP("mmap null device", 0, PAGE, PROT_READ, MAP_PRIVATE, null, 0);
	MAP("mmap shared write of read-only file", 0, PAGE, RW, MAP_SHARED, file, 0);
	MAP("mmap private write of read-only file", 0, PAGE, RW, MAP_PRIVATE, file, 0);
	MAP("mmap fixed odd", (void *)12345, PAGE, RW, ANON | MAP_FIXED, -1, 0);
	MAP("mmap fixed 0", 0, PAGE, PROT_NONE, ANON | MAP_FIXED, -1, 0);
	MAP("mmap fixed top", (void *)0x7ffffffff000, PAGE, RW, ANON | MAP_FIXED, -1, 0);
	MAP("mmap fixed beyond", (void *)0x7fffffffe000, 1 << 20, RW, ANON | MAP_FIXED, -1, 0);
	MAP("mmap fixed kernel", (void *)0xffffffff81000000, PAGE, RW, ANON | MAP_FIXED, -1, 0);
	MAP("mmap no-replace taken", p, PAGE, RW, ANON | MAP_FIXED_NOREPLACE, -1, 0);
	MAP("mmap prot bits", 0, PAGE, 0x70, ANON, -1, 0);
	MAP("mmap growsdown", 0, PAGE, RW, ANON | MAP_GROWSDOWN, -1, 0);
	MAP("mmap validate unknown flag", 0, PAGE, PROT_READ, 0x10000003, file, 0);
	MAP("mmap validate old flag", 0, PAGE, PROT_READ, 0x4000003, file, 0);
	MAP("mmap hint kernel", (void *)0xffffffff81000000, PAGE, RW, ANON, -1, 0);
}

static void changes(void)
{
	char *p = pages(8, RW), *hole = pages(4, RW);

	munmap(hole + PAGE, PAGE);
	CALL("mprotect odd", mprotect(p + 1, PAGE, PROT_READ));
	CALL("mprotect length 0", mprotect(p, 0, PROT_READ));
	CALL("mprotect unmapped", mprotect((void *)0x10000, PAGE, PROT_READ));
	CALL("mprotect hole", mprotect(hole, 4 * PAGE, PROT_READ));
	CALL("mprotect wraps", mprotect(p, -PAGE, PROT_READ));
	CALL("mprotect bits", mprotect(p, PAGE, 0x70));
	CALL("mprotect growsdown and up", mprotect(p, PAGE, 0x03000000));
	CALL("mprotect kernel", mprotect((void *)0xffffffff81000000, PAGE, PROT_READ));
	CALL("munmap odd", munmap(p + 1, PAGE));
	CALL("munmap length 0", munmap(p, 0));
	CALL("munmap wraps", munmap(p, -PAGE));
	CALL("munmap kernel", munmap((void *)0xffffffff81000000, PAGE));
	CALL("munmap nothing", munmap((void *)0x10000, PAGE));
	CALL("mremap odd", failed(mremap(p + 1, PAGE, PAGE, 0)));
	CALL("mremap new length 0", failed(mremap(p, PAGE, 0, 0)));
	CALL("mremap old length 0", failed(mremap(p, 0, PAGE, MREMAP_MAYMOVE)));
	CALL("mremap flags", failed(mremap(p, PAGE, PAGE, 0x40)));
	CALL("mremap fixed alone", failed(mremap(p, PAGE, PAGE, MREMAP_FIXED, hole)));
	CALL("mremap overlap", failed(mremap(p, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, p + PAGE)));
	CALL("mremap unmapped", failed(mremap((void *)0x10000, PAGE, 2 * PAGE, MREMAP_MAYMOVE)));
	CALL("mremap across", failed(mremap(hole, 4 * PAGE, 8 * PAGE, MREMAP_MAYMOVE)));
	CALL("mremap in place", failed(mremap(hole, PAGE, 3 * PAGE, 0)));
	CALL("mremap huge", failed(mremap(p, PAGE, 1ul << 47, MREMAP_MAYMOVE)));
	CALL("mremap fixed kernel", failed(mremap(p, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, 0xffffffff81000000)));
}

static void advice(void)
{
	char *p = pages(4, RW);
	unsigned char vector[8];

	CALL("madvise odd", madvise(p + 1, PAGE, MADV_DONTNEED));
	CALL("madvise unknown", madvise(p, PAGE, 9999));
	CALL("madvise length 0", madvise(p, 0, MADV_DONTNEED));
	CALL("madvise length 0 unknown", madvise(p, 0, 9999));
	CALL("madvise wraps", madvise(p, -PAGE, MADV_DONTNEED));
	CALL("madvise unmapped", madvise((void *)0x10000, PAGE, MADV_DONTNEED));
	CALL("madvise free", madvise(p, PAGE, MADV_FREE));
	CALL("madvise populate", madvise(p, 2 * PAGE, 23));
	CALL("madvise populate unmapped", madvise((void *)0x10000, PAGE, 23));
	CALL("madvise remove private", madvise(p, PAGE, MADV_REMOVE));
	CALL("mincore odd", mincore(p + 1, PAGE, vector));
	CALL("mincore unmapped", mincore((void *)0x10000, PAGE, vector));
	CALL("mincore vector", mincore(p, PAGE, (void *)8));
	CALL("mincore wraps", mincore(p, -PAGE, vector));
	CALL("msync flags", msync(p, PAGE, MS_ASYNC | MS_SYNC));
	CALL("msync unknown", msync(p, PAGE, 0x80));
	CALL("msync odd", msync(p + 1, PAGE, MS_SYNC));
	CALL("msync unmapped", msync((void *)0x10000, PAGE, MS_SYNC));
	CALL("msync", msync(p, PAGE, MS_SYNC));
	CALL("mlock unmapped", mlock((void *)0x10000, PAGE));
	CALL("mlock wraps", mlock(p, -1ul));
	CALL("mlock odd", mlock(p + 5, 10));
	CALL("mlock2 flags", syscall(SYS_mlock2, p, PAGE, 8));
	CALL("mlockall 0", mlockall(0));
	CALL("mlockall flags", mlockall(64));
	CALL("mlockall on fault alone", mlockall(4));
	CALL("munlock", munlock(p, PAGE));
	CALL("munlockall", munlockall());
}

int main(void)
{
	mmaps();
	changes();
	advice();
	return 0;
}
