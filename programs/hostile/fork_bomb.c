/* Asks for processes, threads and programs a thousand times. Only inside. */
#include "hostile.h"
#include <sched.h>

int main(void)
{
	int refused = 0;

	for (int i = 0; i < 1000; i++) {
		long child = syscall(SYS_fork);
		if (child == 0)
			_exit(0);
		refused += child < 0;
		refused += syscall(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD, 0, 0, 0, 0) < 0;
	}
	printf("%s\n", refused > 0 ? "refused" : "allowed");
	return 0;
}
