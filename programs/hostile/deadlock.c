/* Tasks that wait for each other for ever, each in its way. Only inside. */
#include "hostile.h"
#include <pthread.h>
#include <sys/wait.h>

static pthread_mutex_t first = PTHREAD_MUTEX_INITIALIZER, second = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t both;
static int words[2];

static void *crosswise(void *argument)
{
	pthread_mutex_lock(&second);
	pthread_barrier_wait(&both);
	pthread_mutex_lock(&first);
	return argument;
}

static void mutexes(void)
{
	pthread_t thread;

	pthread_barrier_init(&both, 0, 2);
	pthread_create(&thread, 0, crosswise, 0);
	pthread_mutex_lock(&first);
	pthread_barrier_wait(&both);
	pthread_mutex_lock(&second);
}

static void *lock_other(void *argument)
{
	syscall(SYS_futex, &words[1], 6, 0, 0, 0, 0);
	pthread_barrier_wait(&both);
	syscall(SYS_futex, &words[0], 6, 0, 0, 0, 0);
	return argument;
}

static void owners(void)
{
	pthread_t thread;

	pthread_barrier_init(&both, 0, 2);
	pthread_create(&thread, 0, lock_other, 0);
	syscall(SYS_futex, &words[0], 6, 0, 0, 0, 0);
	pthread_barrier_wait(&both);
	syscall(SYS_futex, &words[1], 6, 0, 0, 0, 0);
}

static void pipes(void)
{
	int ends[2];
	char byte;

	pipe(ends);
	if (fork() == 0)
		read(ends[0], &byte, 1);
	wait(0);
}

static void itself(void)
{
	pthread_t thread = pthread_self();

	words[0] = gettid();
	syscall(SYS_futex, &words[0], 0, words[0], 0, 0, 0);
}

static void parents(void)
{
	if (fork() == 0) {
		signal(SIGTERM, SIG_IGN);
		pause();
	}
	waitpid(-1, 0, 0);
}

static void vforked(void)
{
	if (vfork() == 0)
		syscall(SYS_pause);
}

static void masked(void)
{
	sigset_t all;

	sigfillset(&all);
	alarm(1);
	sigsuspend(&all);
}

int main(int count, char **args)
{
	const char *what = count > 1 ? args[1] : "";

	if (!strcmp(what, "mutexes"))
		mutexes();
	else if (!strcmp(what, "owners"))
		owners();
	else if (!strcmp(what, "pipes"))
		pipes();
	else if (!strcmp(what, "itself"))
		itself();
	else if (!strcmp(what, "parents"))
		parents();
	else if (!strcmp(what, "vfork"))
		vforked();
	else if (!strcmp(what, "masked"))
		masked();
	else if (!strcmp(what, "stopped"))
		raise(SIGSTOP);
	else if (!strcmp(what, "many"))
		while (fork() >= 0)
			if (getppid() != 1 && getpid() % 40 == 0)
				pause();
	pause();
	return 0;
}
