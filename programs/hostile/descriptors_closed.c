/* Descriptors that are closed, and absurd ones. */
#include "hostile.h"
#include <sys/resource.h>
#include <sys/stat.h>

int main(void)
{
	struct stat info;

	/* What a native run has inherited. */
	for (int fd = 3; fd < 1100; fd++)
		close(fd);
	errno = 0;
	CALL("close -1", close(-1));
	CALL("close max", close(0x7fffffff));
	CALL("read -100", read(-100, &info, 1));
	CALL("write closed", write(1000, &info, 1));
	CALL("lseek closed", lseek(1000, 0, SEEK_SET));
	CALL("dup closed", dup(1000));
	CALL("dup2 negative", dup2(1, -1));
	CALL("dup2 huge", dup2(1, 1 << 30));
	CALL("dup2 closed on itself", dup2(1000, 1000));
	CALL("dup3 same", syscall(SYS_dup3, 1, 1, 0));
	CALL("fcntl closed", fcntl(1000, F_GETFD));
	CALL("fcntl unknown", fcntl(1, 9999));
	CALL("fcntl dup huge", fcntl(1, F_DUPFD, 0x7fffffff));
	CALL("ioctl closed", syscall(SYS_ioctl, 1000, 0x5401, &info));
	CALL("ftruncate read-only", ftruncate(open("/etc/passwd", O_RDONLY), 0));
	CALL("ftruncate negative", ftruncate(1, -1));
	int zero = open("/dev/null", O_RDONLY);
	CALL("write to read-only", write(zero, "x", 1));
	CALL("getdents of a device", syscall(SYS_getdents64, zero, &info, sizeof info));
	struct rlimit limit = { 64, 64 };
	setrlimit(RLIMIT_NOFILE, &limit);
	for (int i = 0; i < 100; i++)
		if (open("/dev/null", O_RDONLY) < 0) {
			printf("refused with errno %d\n", errno);
			break;
		}
	return 0;
}
