/* A million and a half system calls: as many events. */
#include <sys/syscall.h>
#include <unistd.h>

int main(void)
{
	for (int i = 0; i < 1500000; i++)
		syscall(SYS_getppid);
	return 0;
}
