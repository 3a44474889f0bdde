/* wait4 and waitid: which children, which news, which errors. */
#include "processes.h"

static void info_line(const char *name, int result, siginfo_t *info, pid_t child)
{
	if (result < 0)
		SAY("%s: %s\n", name, strerror(errno));
	else
		SAY("%s: signo %d code %d status %d child %d\n", name, info->si_signo, info->si_code,
		    info->si_status, info->si_pid == child);
}

static pid_t child_exit(int code)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(code);
	return pid;
}

static pid_t child_pause(void)
{
	pid_t pid = fork();

	if (pid == 0)
		for (;;)
			pause();
	return pid;
}

static void errors(void)
{
	int status;
	siginfo_t info;

	CALL("no children", wait(0));
	CALL("no children, no hang", waitpid(-1, &status, WNOHANG));
	CALL("bad options", waitpid(-1, &status, 0x100));
	CALL("INT_MIN", waitpid(0x80000000, &status, 0));
	CALL("waitid without kinds", waitid(P_ALL, 0, &info, WNOHANG));
	CALL("waitid bad type", waitid(77, 0, &info, WEXITED));
	CALL("waitid pid 0", waitid(P_PID, 0, &info, WEXITED));
	CALL("waitid negative group", waitid(P_PGID, -2, &info, WEXITED));
	CALL("own pid", waitpid(getpid(), &status, 0));
	pid_t child = child_pause();
	CALL("child runs", waitpid(child, &status, WNOHANG));
	CALL("other group", waitpid(-child, &status, WNOHANG));
	memset(&info, 0xff, sizeof info);
	int result = waitid(P_ALL, 0, &info, WEXITED | WNOHANG);
	SAY("waitid no news: %d signo %d pid %d utime kept %d\n", result, info.si_signo, info.si_pid,
	    info.si_utime == -1);
	CALL("wclone", waitpid(-1, &status, WNOHANG | __WCLONE));
	CALL("wall", waitpid(-1, &status, WNOHANG | __WALL));
	kill(child, SIGKILL);
	reap("killed", child);
	child = child_exit(1);
	pause_ms(20);
	CALL("zombie and only stops wanted", waitid(P_ALL, 0, &info, WSTOPPED | WNOHANG));
	CALL("bad status pointer", waitpid(child, (int *)8, 0));
	CALL("reaped all the same", waitpid(child, &status, 0));
}

static void kinds(void)
{
	siginfo_t info = { 0 };
	pid_t child = child_exit(7);
	int result = waitid(P_PID, child, &info, WEXITED | WNOWAIT);
	info_line("kept", result, &info, child);
	result = waitid(P_PID, child, &info, WEXITED);
	info_line("exited", result, &info, child);
	child = child_pause();
	kill(child, SIGSTOP);
	result = waitid(P_PID, child, &info, WSTOPPED);
	info_line("stopped", result, &info, child);
	result = waitid(P_PID, child, &info, WSTOPPED | WNOHANG);
	SAY("told once: %d %d\n", result, info.si_pid);
	kill(child, SIGCONT);
	result = waitid(P_PID, child, &info, WCONTINUED);
	info_line("continued", result, &info, child);
	result = waitid(P_PID, child, &info, WCONTINUED | WNOHANG);
	SAY("told once: %d %d\n", result, info.si_pid);
	kill(child, SIGSTOP);
	int status;
	waitpid(child, &status, WUNTRACED);
	status_line("stopped", status);
	kill(child, SIGCONT);
	waitpid(child, &status, WCONTINUED);
	status_line("continued", status);
	kill(child, SIGSTOP);
	waitpid(child, &status, WUNTRACED);
	kill(child, SIGKILL);
	result = waitid(P_PID, child, &info, WEXITED | WCONTINUED);
	info_line("killed while stopped", result, &info, child);
	child = fork();
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		abort();
	}
	reap("aborted", child);
	struct rusage usage;
	child = child_exit(3);
	SAY("wait4: %d\n", wait4(child, &status, 0, &usage) == child);
}

static void groups(void)
{
	int status;
	pid_t first = child_exit(1), second = fork();

	if (second == 0) {
		setpgid(0, 0);
		_exit(2);
	}
	setpgid(second, second);
	SAY("group of the second: %d\n", waitpid(-second, &status, 0) == second);
	SAY("own group: %d\n", waitpid(0, &status, 0) == first);
}

static void automatic(void)
{
	int status;

	signal(SIGCHLD, SIG_IGN);
	child_exit(1);
	child_exit(2);
	CALL("ignored children", wait(&status));
	struct sigaction action = { .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT };
	sigaction(SIGCHLD, &action, 0);
	child_exit(1);
	CALL("no zombies wanted", wait(&status));
	signal(SIGCHLD, SIG_DFL);
	pid_t child = child_exit(4);
	pause_ms(20);
	signal(SIGCHLD, SIG_IGN);
	SAY("zombie of before: %d\n", waitpid(child, &status, 0) == child);
	signal(SIGCHLD, SIG_DFL);
}

static int end_silently(void *argument)
{
	_exit(argument != 0);
}

static void clones(void)
{
	static char stack[3][16384] __attribute__((aligned(16)));
	int status;
	pid_t pid = clone(end_silently, stack[0] + 16384, 0, 0);

	CALL("clone child without wclone", waitpid(pid, &status, 0));
	SAY("with: %d\n", waitpid(pid, &status, __WCLONE) == pid);
	signal(SIGUSR1, SIG_IGN);
	pid = clone(end_silently, stack[1] + 16384, SIGUSR1, 0);
	SAY("all: %d\n", waitpid(pid, &status, __WALL) == pid);
	pid = clone(end_silently, stack[2] + 16384, SIGCHLD, "");
	SAY("ordinary: %d\n", waitpid(pid, &status, 0) == pid);
	status_line("status", status);
}

static void *wait_elsewhere(void *argument)
{
	int status;
	pid_t child = (pid_t)(intptr_t)argument;

	CALL("not of this thread", waitpid(child, &status, __WNOTHREAD));
	SAY("of the process: %d\n", waitpid(child, &status, 0) == child);
	return 0;
}

int main(void)
{
	errors();
	kinds();
	groups();
	automatic();
	clones();
	pthread_t thread;
	pthread_create(&thread, 0, wait_elsewhere, (void *)(intptr_t)child_exit(0));
	pthread_join(thread, 0);
	return 0;
}
