/* Files of 2^62 bytes: file systems differ in what they allow, so this is not compared. */
#include "hostile.h"

int main(void)
{
	char name[] = "/tmp/sparse-XXXXXX";
	int fd = mkstemp(name);

	unlink(name);
	CALL("ftruncate 2^62", ftruncate(fd, 1l << 62));
	CALL("pwrite at 2^62", pwrite(fd, "x", 1, 1l << 62));
	CALL("pwrite at the end", pwrite(fd, "xyz", 3, 0x7ffffffffffffffe));
	CALL("mmap at 2^62", mmap(0, PAGE, PROT_READ, MAP_SHARED, fd, 1l << 62) == MAP_FAILED ? -1 : 0);
	CALL("mmap page number overflow", mmap(0, 1 << 20, PROT_READ, MAP_SHARED, fd, 0x7ffffffffffff000) == MAP_FAILED ? -1 : 0);
	CALL("ftruncate 2^50", ftruncate(fd, 1l << 50));
	CALL("read", read(fd, name, 5));
	CALL("sendfile", syscall(SYS_sendfile, fd, fd, 0, 1l << 50));
	CALL("copy_file_range", syscall(SYS_copy_file_range, fd, 0, fd, 0, 1l << 50, 0));
	return 0;
}
