/* Every way to end. */
#include "hostile.h"

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	int number = argc > 2 ? atoi(argv[2]) : 0;

	if (!strcmp(how, "exit"))
		syscall(SYS_exit, number);
	if (!strcmp(how, "group"))
		syscall(SYS_exit_group, number);
	if (!strcmp(how, "raise")) {
		signal(number, SIG_DFL);
		kill(getpid(), number);
	}
	if (!strcmp(how, "abort"))
		abort();
	if (!strcmp(how, "wrong-exit"))
		syscall(SYS_exit_group, 0x12345678);
	return 77;
}
