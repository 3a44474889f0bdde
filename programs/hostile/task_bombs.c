/* More tasks than there may be, of every kind. Only inside. */
#include "hostile.h"
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

static void *idle(void *argument)
{
	for (;;)
		pause();
	return argument;
}

static void threads(void)
{
	pthread_t thread;
	int made = 0;

	while (made < 100000 && pthread_create(&thread, 0, idle, 0) == 0)
		made++;
	printf("refused: %d\n", made > 10 && made < 100000);
}

static void chain(void)
{
	int status = 0;
	pid_t child = fork();

	if (child < 0)
		_exit(1);
	if (child == 0)
		chain();
	waitpid(child, &status, 0);
	_exit(WEXITSTATUS(status));
}

static void zombies(void)
{
	int made = 0;

	for (;;) {
		pid_t child = fork();
		if (child < 0)
			break;
		if (child == 0)
			_exit(0);
		made++;
	}
	int reaped = 0;
	while (wait(0) > 0)
		reaped++;
	printf("all reaped: %d\n", made == reaped && made > 10);
}

/* Children that nobody can wait for by chance, and that tell nobody. */
static void silent(void)
{
	int made = 0;

	for (int i = 1; i <= 64; i++)
		signal(i, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	for (int i = 0; i < 5000; i++) {
		/* What cannot be ignored, and what the library keeps, would end us. */
		int end = i % 256, deadly = end == SIGKILL || end == SIGSTOP || end / 4 == 8;
		long child = syscall(SYS_clone, 0x80000000l | (deadly ? 0 : end), 0, 0, 0, 0);
		if (child == 0)
			_exit(0);
		if (child < 0)
			break;
		made++;
	}
	while (waitpid(-1, 0, __WALL) > 0)
		made--;
	printf("left: %d\n", made);
}

static void orphans(void)
{
	for (int i = 0; i < 2000; i++) {
		pid_t child = fork();
		if (child == 0) {
			if (fork() == 0)
				_exit(0);
			_exit(0);
		}
		waitpid(child, 0, 0);
	}
	printf("none left: %d\n", wait(0) < 0);
}

static void vforks(void)
{
	int made = 0;

	for (int i = 0; i < 3000; i++)
		if (vfork() == 0)
			_exit(0);
	while (wait(0) > 0)
		made++;
	printf("some: %d\n", made > 10);
}

static int deeper(void *argument)
{
	static char stacks[64][4096];
	static int depth;

	if (depth < 60 && clone(deeper, stacks[++depth] + 4096,
				CLONE_VM | CLONE_VFORK | SIGCHLD, 0) < 0)
		_exit(1);
	_exit(0);
}

static void nested_vforks(void)
{
	static char stack[4096];

	clone(deeper, stack + 4096, CLONE_VM | CLONE_VFORK | SIGCHLD, 0);
	while (waitpid(-1, 0, __WALL) > 0)
		;
	printf("back\n");
}

static void execs(char *self)
{
	char *const args[] = { self, "bang", 0 };

	for (int i = 0; i < 100; i++) {
		pid_t child = fork();
		if (child == 0) {
			execv(self, args);
			_exit(1);
		}
		if (child < 0)
			wait(0);
	}
	while (wait(0) > 0)
		;
	printf("all back\n");
}

static void *forks(void *argument)
{
	for (int i = 0; i < 20; i++) {
		pid_t child = fork();
		if (child == 0)
			_exit(0);
		waitpid(child, 0, 0);
	}
	return argument;
}

static void forks_of_threads(void)
{
	pthread_t threads[10];
	int count = 0;

	for (; count < 10; count++)
		if (pthread_create(&threads[count], 0, forks, 0))
			break;
	for (int i = 0; i < count; i++)
		pthread_join(threads[i], 0);
	printf("joined\n");
}

static void descriptors(void)
{
	int count = 0;

	while (dup(0) >= 0)
		count++;
	pid_t child = fork();
	if (child == 0)
		_exit(open("/dev/null", 0) < 0 ? 0 : 1);
	int status;
	waitpid(child, &status, 0);
	printf("full: %d %d\n", count > 100, WEXITSTATUS(status));
}

int main(int count, char **args)
{
	const char *what = count > 1 ? args[1] : "";

	if (!strcmp(what, "threads"))
		threads();
	else if (!strcmp(what, "chain"))
		chain();
	else if (!strcmp(what, "zombies"))
		zombies();
	else if (!strcmp(what, "silent"))
		silent();
	else if (!strcmp(what, "orphans"))
		orphans();
	else if (!strcmp(what, "vforks"))
		vforks();
	else if (!strcmp(what, "nested-vforks"))
		nested_vforks();
	else if (!strcmp(what, "execs"))
		execs(args[0]);
	else if (!strcmp(what, "forks-of-threads"))
		forks_of_threads();
	else if (!strcmp(what, "descriptors"))
		descriptors();
	fflush(stdout);
	_exit(0);
}
