/* Thread groups: the first thread ends first, another runs exec, exit codes. */
#include "processes.h"

static char *self;

static void *outlives(void *argument)
{
	pause_ms(30);
	SAY("still here, leader's number %d\n", getpid() == *(pid_t *)argument);
	exit(5);
}

static void *ends_alone(void *argument)
{
	pause_ms(20);
	syscall(SYS_exit, 9);
	return 0;
}

static void *runs_exec(void *argument)
{
	char number[20];

	pause_ms(10);
	snprintf(number, sizeof number, "%d", (int)getpid());
	execl(self, self, "again", number, (char *)0);
	SAY("exec: %s\n", strerror(errno));
	return 0;
}

static void *sleeps(void *argument)
{
	for (;;)
		pause();
	return 0;
}

static void *exec_of_nothing(void *argument)
{
	execl("/nowhere", "nowhere", (char *)0);
	SAY("exec: %s\n", strerror(errno));
	return 0;
}

static void child(const char *name, void (*what)(void))
{
	pid_t pid = fork();

	if (pid == 0) {
		what();
		_exit(1);
	}
	reap(name, pid);
}

static pid_t own;

static void leader_first(void)
{
	pthread_t thread;

	own = getpid();
	pthread_create(&thread, 0, outlives, &own);
	syscall(SYS_exit, 3);
}

static void last_decides(void)
{
	pthread_t thread;

	pthread_create(&thread, 0, ends_alone, 0);
	syscall(SYS_exit, 3);
}

static void exec_from_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, 0, sleeps, 0);
	pthread_create(&thread, 0, runs_exec, 0);
	for (;;)
		pause();
}

static void exec_without_leader(void)
{
	pthread_t thread;

	pthread_create(&thread, 0, runs_exec, 0);
	syscall(SYS_exit, 3);
}

static void exec_fails(void)
{
	pthread_t thread;

	pthread_create(&thread, 0, exec_of_nothing, 0);
	pthread_join(thread, 0);
	_exit(4);
}

static void killed_without_leader(void)
{
	pthread_t thread;

	pthread_create(&thread, 0, sleeps, 0);
	syscall(SYS_exit, 3);
}

static void *forks(void *argument)
{
	pid_t pid = fork();

	if (pid == 0) {
		SAY("one thread: %d\n", syscall(SYS_gettid) == getpid());
		_exit(2);
	}
	reap("child of a thread", pid);
	return 0;
}

int main(int count, char **args)
{
	if (count > 2) {
		SAY("number kept: %d, thread %d\n", getpid() == atoi(args[2]),
		    syscall(SYS_gettid) == getpid());
		return 8;
	}
	self = args[0];
	child("leader first", leader_first);
	child("last decides", last_decides);
	child("exec from a thread", exec_from_thread);
	child("exec without leader", exec_without_leader);
	child("exec fails", exec_fails);
	pid_t pid = fork();
	if (pid == 0)
		killed_without_leader();
	pause_ms(20);
	int status;
	SAY("no zombie yet: %d\n", waitpid(pid, &status, WNOHANG));
	CALL("signal", kill(pid, 0));
	CALL("tgkill of the dead leader", syscall(SYS_tgkill, pid, pid, 0));
	kill(pid, SIGTERM);
	reap("without leader", pid);
	pthread_t thread;
	pthread_create(&thread, 0, forks, 0);
	pthread_join(thread, 0);
	return 0;
}
