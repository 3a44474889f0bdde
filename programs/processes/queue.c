/* Queued signals: order, values, limits, who may say what. */
#include "processes.h"

static void take(const char *name, sigset_t *set)
{
	siginfo_t info;
	struct timespec none = { 0, 0 };
	int number = sigtimedwait(set, &info, &none);

	if (number < 0)
		SAY("%s: %s\n", name, strerror(errno));
	else
		SAY("%s: rt %d code %d value %d mine %d\n", name, number - SIGRTMIN, info.si_code,
		    info.si_value.sival_int, info.si_pid == getpid());
}

int main(void)
{
	sigset_t set;
	union sigval value = { 1 };
	siginfo_t info;
	int count = 0;

	sigemptyset(&set);
	for (int i = SIGRTMIN; i < SIGRTMIN + 4; i++)
		sigaddset(&set, i);
	sigprocmask(SIG_BLOCK, &set, 0);
	for (int i = 3; i >= 0; i--)
		for (value.sival_int = 10 * i; value.sival_int < 10 * i + 2; value.sival_int++)
			sigqueue(getpid(), SIGRTMIN + i, value);
	kill(getpid(), SIGRTMIN + 1);
	raise(SIGRTMIN + 1);
	for (int i = 0; i < 11; i++)
		take("taken", &set);
	CALL("none", sigqueue(getpid(), 0, value));
	CALL("bad", sigqueue(getpid(), 65, value));
	CALL("nobody", sigqueue(4000000, SIGRTMIN, value));
	pid_t child = fork();
	if (child == 0) {
		struct rlimit limit = { 5, 5 };
		setrlimit(RLIMIT_SIGPENDING, &limit);
		while (count < 100 && sigqueue(getpid(), SIGRTMIN, value) == 0)
			count++;
		SAY("full at %d: %s\n", count <= 5, strerror(errno));
		CALL("kill finds room", kill(getpid(), SIGRTMIN + 1));
		for (int i = 0; i < count; i++)
			sigtimedwait(&set, 0, &(struct timespec){ 0, 0 });
		take("without its words", &set);
		_exit(0);
	}
	reap("child", child);
	memset(&info, 0, sizeof info);
	info.si_code = SI_USER;
	CALL("own lie", syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &info));
	take("lie", &set);
	child = fork();
	if (child == 0) {
		info.si_code = SI_USER;
		CALL("lie to another", syscall(SYS_rt_sigqueueinfo, getppid(), SIGRTMIN, &info));
		info.si_code = SI_TKILL;
		CALL("lie to another", syscall(SYS_rt_sigqueueinfo, getppid(), SIGRTMIN, &info));
		info.si_code = SI_KERNEL;
		CALL("lie to another", syscall(SYS_rt_sigqueueinfo, getppid(), SIGRTMIN, &info));
		info.si_code = -77;
		CALL("any negative", syscall(SYS_rt_sigqueueinfo, getppid(), SIGRTMIN, &info));
		_exit(0);
	}
	reap("child", child);
	take("negative", &set);
	CALL("thread of another", syscall(SYS_rt_tgsigqueueinfo, 1, getpid(), SIGRTMIN, &info));
	CALL("thread", syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGRTMIN, &info));
	take("thread", &set);
	CALL("bad pointer", syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, 8));
	return 0;
}
