/* Orphans, sub-reapers, death signals, groups and sessions. */
#include "processes.h"

static int pipes[2];

static void wake(void)
{
	if (write(pipes[1], "x", 1) != 1)
		_exit(99);
}

static void await(void)
{
	char byte;

	if (read(pipes[0], &byte, 1) != 1)
		_exit(98);
}

static void orphan(void)
{
	pid_t child = fork();

	if (child == 0) {
		pid_t parent = getpid();
		if (fork() == 0) {
			while (getppid() == parent)
				pause_ms(1);
			SAY("orphan has a parent: %d\n", getppid() == 1 || getppid() != parent);
			wake();
			_exit(0);
		}
		_exit(3);
	}
	waitpid(child, 0, 0);
	await();
	int status;
	CALL("grandchild is not ours", waitpid(-1, &status, WNOHANG));
}

static void subreaper(void)
{
	int is_reaper = 0;

	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_GET_CHILD_SUBREAPER, &is_reaper);
	pid_t own = getpid(), child = fork();
	if (child == 0) {
		int inherited = 9;
		prctl(PR_GET_CHILD_SUBREAPER, &inherited);
		SAY("inherited: %d\n", inherited);
		pid_t parent = getpid();
		if (fork() == 0) {
			while (getppid() == parent)
				pause_ms(1);
			SAY("new parent: %d\n", getppid() == own);
			_exit(5);
		}
		_exit(4);
	}
	int status;
	waitpid(child, 0, 0);
	pid_t grandchild = wait(&status);
	SAY("is reaper: %d, another child: %d\n", is_reaper, grandchild != child);
	status_line("grandchild", status);
	child = fork();
	if (child == 0) {
		if (fork() == 0)
			_exit(6);
		pause_ms(20);
		_exit(0);
	}
	waitpid(child, 0, 0);
	wait(&status);
	status_line("zombie taken over", status);
	prctl(PR_SET_CHILD_SUBREAPER, 0);
}

static void on_signal(int number)
{
	SAY("signal %d\n", number);
}

static void death_signal(void)
{
	pid_t child = fork();

	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGUSR1);
		int value = 0;
		pid_t parent = getpid();
		if (fork() == 0) {
			prctl(PR_GET_PDEATHSIG, &value);
			SAY("not inherited: %d\n", value);
			handle(SIGUSR2, on_signal, 0);
			block(SIG_BLOCK, SIGUSR2);
			prctl(PR_SET_PDEATHSIG, SIGUSR2);
			wake();
			sigset_t none;
			sigemptyset(&none);
			sigsuspend(&none);
			SAY("parent gone: %d\n", getppid() != parent);
			wake();
			_exit(0);
		}
		await();
		_exit(0);
	}
	waitpid(child, 0, 0);
	await();
}

static void group_rules(void)
{
	CALL("negative group", setpgid(0, -1));
	CALL("no such process", setpgid(4000000, 0));
	CALL("parent is no child", setpgid(getppid(), 0));
	CALL("group of nobody", setpgid(0, 4000000));
	pid_t child = fork();
	if (child == 0) {
		CALL("leads no group", setsid() > 0 ? 0 : -1);
		CALL("leads a group now", setsid());
		CALL("session leader keeps its group", setpgid(0, 0));
		SAY("same: %d %d %d\n", getpgrp() == getpid(), getsid(0) == getpid(),
		    getpgid(getpid()) == getpid());
		wake();
		pause();
	}
	await();
	CALL("child of another session", setpgid(child, child));
	kill(child, SIGTERM);
	reap("child", child);
	child = fork();
	if (child == 0) {
		setpgid(0, 0);
		execlp("sleep", "sleep", "1000", (char *)0);
		_exit(1);
	}
	pause_ms(100);
	CALL("after exec", setpgid(child, getpgrp()));
	SAY("group: %d\n", getpgid(child) == child);
	CALL("signal to the group", kill(-child, SIGTERM));
	reap("group", child);
	CALL("group is gone", kill(-child, 0));
	CALL("nobody", kill(4000000, 0));
	CALL("INT_MIN", kill(0x80000000, 0));
	CALL("bad signal", kill(getpid(), 65));
	CALL("no session", getsid(4000000));
}

static void reports(int number)
{
	char text[] = "got 00\n";

	text[4] = '0' + number / 10;
	text[5] = '0' + number % 10;
	if (write(1, text, 7) != 7)
		_exit(97);
}

/* A stopped group that loses its last link to the session gets SIGHUP and SIGCONT. */
static void orphaned_group(void)
{
	pid_t leader = fork();

	if (leader == 0) {
		setsid();
		pid_t shell = fork();
		if (shell == 0) {
			setpgid(0, 0);
			if (fork() == 0) {
				setpgid(0, 0);
				handle(SIGHUP, reports, 0);
				handle(SIGCONT, reports, 0);
				block(SIG_BLOCK, SIGHUP);
				wake();
				raise(SIGTSTP);
				block(SIG_UNBLOCK, SIGHUP);
				SAY("alone: stop signals do nothing\n");
				raise(SIGTSTP);
				raise(SIGTTIN);
				raise(SIGTTOU);
				SAY("went on\n");
				wake();
				_exit(0);
			}
			await();
			pause_ms(50);
			_exit(0);
		}
		waitpid(shell, 0, 0);
		await();
		_exit(0);
	}
	reap("leader", leader);
}

int main(void)
{
	if (pipe(pipes) < 0)
		return 1;
	orphan();
	subreaper();
	death_signal();
	group_rules();
	orphaned_group();
	return 0;
}
