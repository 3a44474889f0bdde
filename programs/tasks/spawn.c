/* /bin/true, a thousand times. */
#include <sys/wait.h>
#include <unistd.h>

enum { TIMES = 1000 };

int main(void)
{
	for (int i = 0; i < TIMES; i++) {
		pid_t child = fork();

		if (child == 0) {
			execl("/bin/true", "true", (char *)0);
			_exit(1);
		}
		waitpid(child, 0, 0);
	}
	return 0;
}
