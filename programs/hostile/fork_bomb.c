/* Makes processes that make processes, until no more are allowed. Only inside. */
#include "hostile.h"
#include <sys/wait.h>

int main(void)
{
	pid_t own = getpid();
	int made = 0;

	setpgid(0, 0);
	signal(SIGTERM, SIG_IGN);
	for (;;) {
		pid_t child = fork();
		if (child < 0)
			break;
		if (child > 0) {
			made++;
			continue;
		}
		if (fork() < 0)
			_exit(1);
		signal(SIGTERM, SIG_DFL);
		pause();
	}
	printf("%s\n", errno == EAGAIN || errno == ENOMEM ? "refused" : strerror(errno));
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		made--;
	printf("%s\n", getpid() == own && made == 0 ? "all gone" : "some left");
	return 0;
}
