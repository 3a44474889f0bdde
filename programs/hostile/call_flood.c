/* A quarter of a million system calls of every cheap kind. */
#include "hostile.h"

int main(void)
{
	long sum = 0;

	for (int i = 0; i < 250000; i++)
		sum += syscall(i % 5 == 0 ? SYS_getppid : i % 5 == 1 ? 999 : i % 5 == 2 ? SYS_getuid : i % 5 == 3 ? SYS_sched_yield : SYS_close, -1l) != 0;
	printf("%ld\n", sum > 0 ? 1l : 0l);
	return 0;
}
