/* Timers of all kinds. What depends on the moment is only compared with bounds. */
#include "processes.h"

static volatile sig_atomic_t count;
static siginfo_t last;

static void on_signal(int number, siginfo_t *info, void *context)
{
	last = *info;
	count++;
}

static void catch(int number)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	sigaction(number, &action, 0);
}

static long now_ms(clockid_t clock)
{
	struct timespec time;

	clock_gettime(clock, &time);
	return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

static void await(int wanted)
{
	long end = now_ms(CLOCK_MONOTONIC) + 2000;

	while (count < wanted && now_ms(CLOCK_MONOTONIC) < end)
		pause_ms(1);
}

static void spin(int wanted)
{
	long end = now_ms(CLOCK_MONOTONIC) + 2000;

	while (count < wanted && now_ms(CLOCK_MONOTONIC) < end)
		for (volatile int i = 0; i < 10000; i++)
			;
}

static void intervals(void)
{
	struct itimerval value = { { 0, 10000 }, { 0, 20000 } }, old;

	catch(SIGALRM);
	count = 0;
	setitimer(ITIMER_REAL, &value, 0);
	await(3);
	SAY("real: %d, code %d\n", count >= 3, last.si_code == SI_KERNEL);
	getitimer(ITIMER_REAL, &old);
	SAY("interval %ld, left %d\n", old.it_interval.tv_usec, old.it_value.tv_usec <= 10000);
	memset(&value, 0, sizeof value);
	setitimer(ITIMER_REAL, &value, &old);
	count = 0;
	pause_ms(30);
	SAY("off: %d\n", (int)count);
	unsigned first = alarm(100);
	SAY("alarm: %u then %u\n", first, alarm(0));
	value.it_value.tv_usec = 1000000;
	CALL("a million microseconds", setitimer(ITIMER_REAL, &value, 0));
	value.it_value.tv_usec = 0;
	value.it_value.tv_sec = -1;
	CALL("negative", setitimer(ITIMER_REAL, &value, 0));
	CALL("no such timer", getitimer(7, &old));
	for (int which = ITIMER_VIRTUAL; which <= ITIMER_PROF; which++) {
		int number = which == ITIMER_VIRTUAL ? SIGVTALRM : SIGPROF;
		catch(number);
		value = (struct itimerval){ { 0, 20000 }, { 0, 20000 } };
		count = 0;
		setitimer(which, &value, 0);
		pause_ms(100);
		SAY("asleep: %d\n", (int)count);
		spin(2);
		SAY("busy: %d, signal %d\n", count >= 2, last.si_signo == number);
		memset(&value, 0, sizeof value);
		setitimer(which, &value, 0);
	}
	/* A child has none, and exec keeps those of its process. */
	alarm(50);
	if (fork() == 0) {
		SAY("child: %u\n", alarm(0));
		_exit(0);
	}
	wait(0);
	alarm(0);
}

static void posix(clockid_t clock, const char *name)
{
	timer_t timer;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1 };
	struct itimerspec value = { { 0, 10000000 }, { 0, 10000000 } }, left;

	SAY("%s\n", name);
	event.sigev_value.sival_int = 77;
	catch(SIGRTMIN + 1);
	CALL("create", timer_create(clock, &event, &timer));
	timer_gettime(timer, &left);
	SAY("not armed: %d\n", left.it_value.tv_sec == 0 && left.it_value.tv_nsec == 0);
	count = 0;
	timer_settime(timer, 0, &value, 0);
	spin(3);
	SAY("fired: %d code %d value %d\n", count >= 3, last.si_code == SI_TIMER,
	    last.si_value.sival_int);
	timer_gettime(timer, &left);
	SAY("interval %ld, left %d\n", left.it_interval.tv_nsec,
	    left.it_value.tv_nsec > 0 && left.it_value.tv_nsec <= 10000000);
	block(SIG_BLOCK, SIGRTMIN + 1);
	for (long end = now_ms(clock) + 25; now_ms(clock) < end;)
		;
	count = 0;
	block(SIG_UNBLOCK, SIGRTMIN + 1);
	SAY("one for all: %d, overrun %d, told %d\n", (int)count, timer_getoverrun(timer) >= 1,
	    last.si_overrun == timer_getoverrun(timer));
	memset(&value, 0, sizeof value);
	timer_settime(timer, 0, &value, &left);
	SAY("old: %ld\n", left.it_interval.tv_nsec);
	CALL("delete", timer_delete(timer));
	CALL("gone", timer_gettime(timer, &left));
}

static void targets(void)
{
	timer_t timer;
	struct sigevent event = { .sigev_notify = SIGEV_NONE };
	struct itimerspec value = { { 0, 0 }, { 0, 30000000 } }, left;

	timer_create(CLOCK_MONOTONIC, &event, &timer);
	timer_settime(timer, 0, &value, 0);
	timer_gettime(timer, &left);
	SAY("silent, runs: %d\n", left.it_value.tv_nsec > 0);
	pause_ms(50);
	timer_gettime(timer, &left);
	SAY("ran out: %d\n", left.it_value.tv_nsec == 0);
	timer_delete(timer);

	memset(&event, 0, sizeof event);
	event.sigev_notify = SIGEV_THREAD_ID;
	event.sigev_signo = SIGUSR1;
	((int *)&event.sigev_notify)[1] = syscall(SYS_gettid);
	catch(SIGUSR1);
	count = 0;
	CALL("thread", timer_create(CLOCK_MONOTONIC, &event, &timer));
	clock_gettime(CLOCK_MONOTONIC, &value.it_value);
	value.it_value.tv_nsec += 10000000;
	if (value.it_value.tv_nsec >= 1000000000)
		value.it_value.tv_sec++, value.it_value.tv_nsec -= 1000000000;
	timer_settime(timer, TIMER_ABSTIME, &value, 0);
	await(1);
	SAY("absolute: %d\n", (int)count);
	value.it_value.tv_sec = 0;
	value.it_value.tv_nsec = 1;
	timer_settime(timer, TIMER_ABSTIME, &value, 0);
	await(2);
	SAY("in the past: %d\n", (int)count);
	timer_delete(timer);
	CALL("default", timer_create(CLOCK_MONOTONIC, 0, &timer));
	timer_delete(timer);
}

static void errors(void)
{
	timer_t timer;
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = 65 };
	struct itimerspec value = { { 0, 0 }, { 0, 1000000000 } };
	int id = 0;

	CALL("bad clock", syscall(SYS_timer_create, 99, 0, &id));
	CALL("bad signal", syscall(SYS_timer_create, 1, &event, &id));
	event.sigev_notify = 99;
	CALL("bad kind", syscall(SYS_timer_create, 1, &event, &id));
	event.sigev_notify = SIGEV_SIGNAL;
	event.sigev_signo = SIGUSR1;
	CALL("bad pointer", syscall(SYS_timer_create, 1, &event, 8));
	CALL("create", syscall(SYS_timer_create, 1, &event, &id));
	CALL("bad time", syscall(SYS_timer_settime, id, 0, &value, 0));
	CALL("no time", syscall(SYS_timer_settime, id, 0, 0, 0));
	CALL("no timer", syscall(SYS_timer_settime, 1234, 0, &value, 0));
	CALL("overrun of none", syscall(SYS_timer_getoverrun, 1234));
	CALL("delete none", syscall(SYS_timer_delete, 1234));
	pid_t child = fork();
	if (child == 0) {
		CALL("not inherited", syscall(SYS_timer_delete, id));
		_exit(0);
	}
	reap("child", child);
	CALL("delete", syscall(SYS_timer_delete, id));
}

static void sleeping(void)
{
	struct timespec time, left = { 5, 5 };

	clock_gettime(CLOCK_REALTIME, &time);
	time.tv_nsec += 20000000;
	if (time.tv_nsec >= 1000000000)
		time.tv_sec++, time.tv_nsec -= 1000000000;
	CALL("absolute", clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &time, &left));
	CALL("past", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &(struct timespec){ 0, 1 }, 0));
	SAY("bad time %d\n",
	    clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 0, 1000000000 }, 0));
	SAY("thread clock %d\n",
	    clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &(struct timespec){ 0, 1 }, 0));
	SAY("raw clock %d\n",
	    clock_nanosleep(CLOCK_MONOTONIC_RAW, 0, &(struct timespec){ 0, 1 }, 0));
	SAY("no clock %d\n", clock_nanosleep(99, 0, &(struct timespec){ 0, 1 }, 0));
}

static void *burn(void *argument)
{
	long end = now_ms(CLOCK_THREAD_CPUTIME_ID) + 10;

	while (now_ms(CLOCK_THREAD_CPUTIME_ID) < end)
		;
	*(long *)argument = now_ms(CLOCK_THREAD_CPUTIME_ID);
	return 0;
}

static void usage(void)
{
	pthread_t thread;
	long burnt;
	struct rusage own, children, mine;

	long before = now_ms(CLOCK_PROCESS_CPUTIME_ID);
	pthread_create(&thread, 0, burn, &burnt);
	pthread_join(thread, 0);
	SAY("counted for the process: %d\n", now_ms(CLOCK_PROCESS_CPUTIME_ID) - before >= 9);
	SAY("not for this thread: %d\n", getrusage(RUSAGE_THREAD, &mine));
	pid_t child = fork();
	if (child == 0)
		exit(burn(&burnt) != 0);
	reap("child", child);
	getrusage(RUSAGE_CHILDREN, &children);
	long ms = (children.ru_utime.tv_sec + children.ru_stime.tv_sec) * 1000 +
		  (children.ru_utime.tv_usec + children.ru_stime.tv_usec) / 1000;
	SAY("children: %d\n", ms >= 8);
	getrusage(RUSAGE_SELF, &own);
	SAY("own: %d\n", own.ru_minflt > 0 && own.ru_nvcsw > 0);
	CALL("who", getrusage(5, &own));
}

int main(void)
{
	intervals();
	posix(CLOCK_MONOTONIC, "monotonic");
	posix(CLOCK_REALTIME, "realtime");
	posix(CLOCK_PROCESS_CPUTIME_ID, "process");
	posix(CLOCK_THREAD_CPUTIME_ID, "thread");
	targets();
	errors();
	sleeping();
	usage();
	return 0;
}
