/* Signals between tasks, thrown in every way. Only inside. */
#include "hostile.h"
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>

static volatile long handled;

static void count_it(int number)
{
	handled++;
}

/* Two processes that signal each other as fast as they can. */
static void storm(void)
{
	signal(SIGUSR1, count_it);
	signal(SIGUSR2, count_it);
	pid_t parent = getpid(), child = fork();
	for (int i = 0; i < 20000; i++)
		kill(child ? child : parent, i % 2 ? SIGUSR1 : SIGUSR2);
	if (child == 0)
		_exit(0);
	while (waitpid(child, 0, 0) < 0)
		;
	printf("handled: %d\n", handled > 0);
}

static void queue_flood(void)
{
	sigset_t set;
	union sigval value = { 1 };
	long queued = 0;

	sigfillset(&set);
	sigprocmask(SIG_BLOCK, &set, 0);
	while (queued < 1000000 && sigqueue(getpid(), SIGRTMIN + queued % 8, value) == 0)
		queued++;
	for (int i = 0; i < 100000; i++)
		kill(getpid(), SIGRTMIN + 9);
	printf("bounded: %d\n", queued < 1000000);
}

/* Stops and continues a child that sleeps, computes, waits, reads; then kills it. */
static void states(void)
{
	int ends[2];
	char byte;

	pipe(ends);
	for (int how = 0; how < 10; how++)
		for (int signal = 0; signal < 3; signal++) {
			static const int stops[] = { SIGSTOP, SIGTSTP, SIGCONT };
			pid_t child = fork();
			if (child == 0) {
				switch (how) {
				case 0: for (;;) pause();
				case 1: for (;;) ;
				case 2: for (;;) read(ends[0], &byte, 1);
				case 3: for (;;) sleep(1000);
				case 4: if (fork() == 0) for (;;) pause();
					for (;;) wait(0);
				case 5: if (vfork() == 0) for (;;) pause();
					for (;;) ;
				case 6: raise(SIGSTOP); for (;;) ;
				case 7: for (;;) sched_yield();
				case 8: for (;;) syscall(SYS_futex, &handled, 0, 0, 0, 0, 0);
				case 9: for (;;) if (fork() == 0) _exit(0); else wait(0);
				}
			}
			usleep(100);
			kill(child, stops[signal]);
			usleep(100);
			kill(child, SIGCONT);
			kill(child, stops[signal]);
			kill(child, SIGKILL);
			int status = 0;
			waitpid(child, &status, 0);
			if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
				printf("%d %d: %x\n", how, signal, status);
		}
	printf("all killed\n");
}

static void faults_again(int number)
{
	*(volatile int *)8 = number;
}

static void faulting_handler(void)
{
	signal(SIGSEGV, faults_again);
	*(volatile int *)8 = 1;
}

static void *same_stack(void *argument)
{
	stack_t stack = { .ss_sp = argument, .ss_size = 16384 };
	struct timespec time = { 0, 1000 };

	sigaltstack(&stack, 0);
	for (int i = 0; i < 300; i++) {
		pthread_kill(pthread_self(), SIGUSR1);
		nanosleep(&time, 0);
	}
	return 0;
}

/* Threads whose alternate stacks are one. */
static void overlapping(void)
{
	static char memory[20000];
	struct sigaction action = { .sa_handler = count_it, .sa_flags = SA_ONSTACK };
	pthread_t threads[4];

	sigaction(SIGUSR1, &action, 0);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], 0, same_stack, memory + 64 * i);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], 0);
	printf("handled\n");
}

static void *forged(void *argument)
{
	uint64_t frame[200];

	for (int i = 0; i < 200; i++)
		frame[i] = 0x4141414141414141ull * (i + 1);
	__asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall" ::"r"(frame) : "memory");
	return argument;
}

static void forged_in_thread(void)
{
	pthread_t thread;

	pthread_create(&thread, 0, forged, 0);
	pthread_join(thread, 0);
}

static void alarms(void)
{
	signal(SIGALRM, count_it);
	for (int i = 0; i < 200000; i++) {
		struct itimerval value = { { 0, i % 3 }, { 0, 1 + i % 7 } };
		setitimer(ITIMER_REAL, &value, 0);
		alarm(i);
	}
	alarm(0);
	printf("done\n");
}

static void absurd_timers(void)
{
	static const long values[] = { 0, 1, -1, 999999999, 1000000000, LONG_MAX, LONG_MIN, 1l << 62 };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	int id, made = 0;

	signal(SIGUSR1, SIG_IGN);
	signal(SIGALRM, SIG_IGN);
	signal(SIGVTALRM, SIG_IGN);
	signal(SIGPROF, SIG_IGN);
	for (int i = 0; i < 10000; i++) {
		if (syscall(SYS_timer_create, i % 12 - 1, &event, &id))
			continue;
		made++;
		struct itimerspec spec = { { values[i % 8], values[i / 8 % 8] },
					   { values[i / 3 % 8], values[i / 5 % 8] } };
		syscall(SYS_timer_settime, id, i % 4, &spec, &spec);
		syscall(SYS_timer_gettime, id, &spec);
		syscall(SYS_timer_getoverrun, id);
		if (i % 3 == 0)
			syscall(SYS_timer_delete, id);
		struct itimerval value = { { values[i % 8], values[i / 8 % 8] },
					   { values[i / 3 % 8], values[i / 5 % 8] } };
		setitimer(i % 3, &value, 0);
		struct timespec time = { values[i % 2], i % 100 };
		if (time.tv_sec == 0)
			clock_nanosleep(i % 12, i % 2, &time, 0);
	}
	printf("bounded: %d\n", made > 0 && made < 10000);
}

/* A timer of one nanosecond whose signal is blocked, and one that is ignored. */
static void fast_timers(void)
{
	struct itimerspec spec = { { 0, 1 }, { 0, 1 } };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
	struct timespec time = { 10, 0 };
	sigset_t set;
	int id;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, 0);
	syscall(SYS_timer_create, 1, &event, &id);
	syscall(SYS_timer_settime, id, 0, &spec, 0);
	event.sigev_signo = SIGURG;
	syscall(SYS_timer_create, 1, &event, &id);
	syscall(SYS_timer_settime, id, 0, &spec, 0);
	nanosleep(&time, 0);
	printf("slept\n");
}

static void everybody(void)
{
	signal(SIGTERM, SIG_IGN);
	for (int i = 0; i < 10; i++)
		if (fork() == 0) {
			signal(SIGTERM, i % 2 ? SIG_DFL : SIG_IGN);
			for (;;)
				pause();
		}
	kill(-1, SIGTERM);
	kill(-1, SIGSTOP);
	kill(-1, SIGCONT);
	kill(-1, SIGKILL);
	int count = 0;
	while (wait(0) > 0)
		count++;
	printf("gone: %d\n", count);
}

static void *sends(void *argument)
{
	for (int i = 0; i < 3000; i++)
		syscall(SYS_tgkill, getpid(), *(int *)argument + i % 7, SIGUSR1);
	return 0;
}

/* Threads signalled while they begin and end. */
static void dying_threads(void)
{
	pthread_t threads[6], sender;
	int first = gettid();

	signal(SIGUSR1, count_it);
	pthread_create(&sender, 0, sends, &first);
	for (int i = 0; i < 60; i++) {
		for (int j = 0; j < 6; j++)
			pthread_create(&threads[j], 0, (void *(*)(void *))getppid, 0);
		for (int j = 0; j < 6; j++)
			pthread_join(threads[j], 0);
	}
	pthread_join(sender, 0);
	printf("joined\n");
}

/* Stops and continues fly in a group whose members also stop each other. */
static void stop_storm(void)
{
	setpgid(0, 0);
	for (int i = 0; i < 6; i++)
		if (fork() == 0)
			for (int j = 0;; j++)
				kill(getppid() + 1 + j % 6, j % 3 ? SIGCONT : SIGSTOP);
	for (int i = 0; i < 500; i++) {
		kill(getpid() + 1 + i % 6, i % 2 ? SIGCONT : SIGTSTP);
		waitpid(-1, 0, WNOHANG | WUNTRACED | WCONTINUED);
	}
	for (int i = 1; i <= 6; i++)
		kill(getpid() + i, SIGKILL);
	while (wait(0) > 0)
		;
	printf("over\n");
}

int main(int count, char **args)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} modes[] = {
		{ "storm", storm },
		{ "queue-flood", queue_flood },
		{ "states", states },
		{ "faulting-handler", faulting_handler },
		{ "overlapping", overlapping },
		{ "forged", forged_in_thread },
		{ "alarms", alarms },
		{ "absurd-timers", absurd_timers },
		{ "fast-timers", fast_timers },
		{ "everybody", everybody },
		{ "dying-threads", dying_threads },
		{ "stop-storm", stop_storm },
	};

	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
		if (count > 1 && !strcmp(args[1], modes[i].name))
			modes[i].run();
	fflush(stdout);
	_exit(0);
}
