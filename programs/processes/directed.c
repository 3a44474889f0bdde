/* Signals and threads: to whom they go, masks, stacks, sigwait, the end of the process. */
#include "processes.h"

static pthread_t threads[4];
static volatile pid_t took;
static volatile sig_atomic_t count, inside;
static volatile int ready;
static pid_t numbers[4];

static void on_signal(int number, siginfo_t *info, void *context)
{
	took = syscall(SYS_gettid);
	count++;
}

static void catch(int number, int flags)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | flags };

	sigaction(number, &action, 0);
}

static int who(void)
{
	for (int i = 0; i < 4; i++)
		if (numbers[i] == took)
			return i;
	return took == getpid() ? 9 : -1;
}

static void *sleeper(void *argument)
{
	int index = (int)(intptr_t)argument;
	sigset_t set;

	numbers[index] = syscall(SYS_gettid);
	sigfillset(&set);
	pthread_sigmask(SIG_SETMASK, &set, 0);
	/* The second alone hears SIGUSR2. */
	if (index == 1) {
		sigemptyset(&set);
		sigaddset(&set, SIGUSR2);
		pthread_sigmask(SIG_UNBLOCK, &set, 0);
	}
	__atomic_add_fetch(&ready, 1, __ATOMIC_SEQ_CST);
	for (;;) {
		struct timespec time = { 100, 0 };
		nanosleep(&time, 0);
	}
}

static void await_count(int wanted)
{
	for (int i = 0; count < wanted && i < 2000; i++)
		pause_ms(1);
}

static void *waiter(void *argument)
{
	sigset_t set;
	int number = 0;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	ready = 100;
	sigwait(&set, &number);
	SAY("sigwait took %d\n", number == SIGRTMIN);
	return 0;
}

static void *killer(void *argument)
{
	kill(getpid(), SIGUSR1);
	/* The main thread hears it, also while this one does. */
	SAY("sent\n");
	return 0;
}

static void *on_alternate(void *argument)
{
	static char memory[65536];
	stack_t stack = { .ss_sp = memory, .ss_size = sizeof memory }, old;

	sigaltstack(0, &old);
	SAY("a thread has no alternate stack: %d\n", old.ss_flags == SS_DISABLE);
	sigaltstack(&stack, 0);
	pthread_kill(pthread_self(), SIGUSR1);
	return 0;
}

static void on_stack(int number)
{
	stack_t stack;

	sigaltstack(0, &stack);
	SAY("on the alternate stack: %d\n", stack.ss_flags == SS_ONSTACK);
}

static void on_outer(int number)
{
	int first = inside++ == 0;

	SAY("outer begins\n");
	raise(SIGUSR2);
	if (first)
		raise(SIGUSR1);
	SAY("outer ends\n");
}

static void on_inner(int number)
{
	SAY("inner\n");
}

static void *exits(void *argument)
{
	pause_ms(10);
	exit(7);
}

int main(void)
{
	block(SIG_BLOCK, SIGUSR2);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], 0, sleeper, (void *)(intptr_t)i);
	while (ready < 4)
		pause_ms(1);
	catch(SIGUSR1, 0);
	catch(SIGUSR2, 0);
	kill(getpid(), SIGUSR1);
	await_count(1);
	SAY("to the process: main %d\n", who() == 9);
	kill(getpid(), SIGUSR2);
	await_count(2);
	SAY("blocked in main: thread %d\n", who());
	syscall(SYS_tgkill, getpid(), numbers[1], SIGUSR2);
	await_count(3);
	SAY("to a thread: thread %d\n", who());
	syscall(SYS_tgkill, getpid(), numbers[2], SIGUSR2);
	pause_ms(20);
	SAY("blocked there: %d\n", (int)count == 3);
	CALL("tgkill of another group", syscall(SYS_tgkill, 1, numbers[1], 0));
	CALL("tgkill of nobody", syscall(SYS_tgkill, getpid(), 4000000, 0));
	CALL("tgkill 0", syscall(SYS_tgkill, 0, numbers[1], 0));
	CALL("kill by the number of a thread", kill(numbers[2], 0));
	CALL("group of a thread", getpgid(numbers[2]) == getpgrp() ? 0 : 1);
	CALL("group for a thread", setpgid(numbers[2], 0));

	pthread_t thread;
	block(SIG_BLOCK, SIGRTMIN);
	pthread_create(&thread, 0, waiter, 0);
	while (ready < 100)
		pause_ms(1);
	pause_ms(10);
	kill(getpid(), SIGRTMIN);
	pthread_join(thread, 0);

	count = 0;
	pthread_create(&thread, 0, killer, 0);
	pthread_join(thread, 0);
	await_count(1);
	SAY("main took it: %d\n", who() == 9);

	handle(SIGUSR1, on_stack, SA_ONSTACK);
	pthread_create(&thread, 0, on_alternate, 0);
	pthread_join(thread, 0);

	handle(SIGUSR1, on_outer, 0);
	handle(SIGUSR2, on_inner, 0);
	block(SIG_UNBLOCK, SIGUSR2);
	inside = 0;
	raise(SIGUSR1);

	/* What nobody hears waits for the first to hear it. */
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	pthread_sigmask(SIG_BLOCK, &set, 0);
	kill(getpid(), SIGTERM);
	sigpending(&set);
	SAY("pending: %d\n", sigismember(&set, SIGTERM));
	signal(SIGTERM, SIG_IGN);
	sigpending(&set);
	SAY("pending: %d\n", sigismember(&set, SIGTERM));
	pthread_create(&thread, 0, exits, 0);
	for (;;)
		pause();
}
