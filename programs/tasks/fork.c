/* 20 forks of a process with 256 MB of its own; each child ends at once. */
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { FORKS = 20 };

int main(void)
{
	long bytes = 256l << 20;
	char *memory = malloc(bytes);

	for (long i = 0; i < bytes; i += 4096)
		memory[i] = 1;
	for (int i = 0; i < FORKS; i++) {
		pid_t child = fork();

		if (child == 0)
			_exit(0);
		waitpid(child, 0, 0);
	}
	return 0;
}
