/* Sparse files of absurd size, and mappings beyond their end. */
#include "hostile.h"

int main(void)
{
	char name[] = "/tmp/sparse-XXXXXX";
	int fd = mkstemp(name);

	catch_signals();
	unlink(name);
	CALL("lseek negative", lseek(fd, -1, SEEK_SET));
	CALL("lseek whence", lseek(fd, 0, 77));
	CALL("pwrite negative", pwrite(fd, "x", 1, -1));
	CALL("pread negative", pread(fd, name, 1, -5));
	CALL("pwrite 1 MB", pwrite(fd, "x", 1, 1 << 20));
	CALL("ftruncate 5000", ftruncate(fd, 5000));
	char *p = mmap(0, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	try_base = (uintptr_t)p;
	TRY("inside", p[0] = 1);
	TRY("last page", p[PAGE + 4000] = 1);
	TRY("beyond", p[2 * PAGE] = 1);
	TRY("beyond, read", (void)*(volatile char *)(p + 7 * PAGE));
	CALL("ftruncate 0", ftruncate(fd, 0));
	TRY("truncated away", (void)*(volatile char *)p);
	CALL("read into it", syscall(SYS_getcwd, p, 100) < 0 ? -1 : 0);
	CALL("ftruncate grows", ftruncate(fd, 3 * PAGE));
	TRY("there again", p[2 * PAGE] = 1);
	printf("zeros: %d\n", p[0]);
	return 0;
}
