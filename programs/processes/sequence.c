/* A restartable sequence that another thread or a signal interrupts begins at its abort address. */
#include "processes.h"

struct area {
	uint32_t cpu_start, cpu;
	uint64_t sequence;
	uint32_t flags, node, concurrency, unused;
} __attribute__((aligned(32)));

static struct area area;
static volatile int stop;

static void *busy(void *argument)
{
	while (!stop)
		;
	return argument;
}

static void on_signal(int number)
{
}

/* Counts down in a sequence; 1 if it was aborted. */
static int run(long rounds)
{
	int aborted;

	__asm__ volatile("lea 9f(%%rip), %%rax\n\t"
			 "mov %%rax, %[sequence]\n\t"
			 "1:\n\t"
			 "dec %[rounds]\n\t"
			 "jnz 1b\n\t"
			 "2:\n\t"
			 "xor %[aborted], %[aborted]\n\t"
			 "jmp 5f\n\t"
			 ".long 0x53053053\n\t"
			 "4:\n\t"
			 "mov $1, %[aborted]\n\t"
			 "5:\n\t"
			 ".pushsection .data\n\t"
			 ".balign 32\n\t"
			 "9: .long 0, 0\n\t"
			 ".quad 1b, 2b - 1b, 4b\n\t"
			 ".popsection\n\t"
			 : [aborted] "=&r"(aborted), [rounds] "+r"(rounds), [sequence] "+m"(area.sequence)
			 :
			 : "rax", "memory", "cc");
	return aborted;
}

static int registered(void)
{
	return syscall(334, &area, 32, 0, 0x53053053);
}

static int end_badly(uint64_t *sequence)
{
	pid_t child = fork();

	if (child == 0) {
		area.sequence = (uintptr_t)sequence;
		raise(SIGUSR1);
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

int main(void)
{
	static uint64_t wrong[8][4] __attribute__((aligned(32)));
	pthread_t thread;
	int aborts = 0;

	cpu_set_t all, one;
	sched_getaffinity(0, sizeof all, &all);
	CPU_ZERO(&one);
	for (int cpu = 0; cpu < CPU_SETSIZE && !CPU_COUNT(&one); cpu++)
		if (CPU_ISSET(cpu, &all))
			CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof one, &one);
	CALL("register", registered());
	CALL("twice", registered());
	SAY("short: %d, left behind: %d\n", run(10), area.sequence != 0);
	handle(SIGUSR1, on_signal, 0);
	raise(SIGUSR1);
	SAY("taken away: %d\n", area.sequence == 0);
	pthread_create(&thread, 0, busy, 0);
	for (int i = 0; i < 200 && aborts == 0; i++)
		aborts += run(20000000);
	stop = 1;
	pthread_join(thread, 0);
	SAY("another thread: %d\n", aborts);
	struct itimerval value = { { 0, 1000 }, { 0, 1000 } };
	handle(SIGALRM, on_signal, 0);
	setitimer(ITIMER_REAL, &value, 0);
	aborts = 0;
	for (int i = 0; i < 200 && aborts == 0; i++)
		aborts += run(20000000);
	memset(&value, 0, sizeof value);
	setitimer(ITIMER_REAL, &value, 0);
	SAY("a signal: %d\n", aborts);
	wrong[0][0] = 1;
	wrong[1][1] = 1ull << 63;
	wrong[2][3] = 1ull << 63;
	wrong[3][1] = 4096, wrong[3][2] = 100, wrong[3][3] = 4100;
	wrong[4][1] = (uintptr_t)main, wrong[4][2] = 1, wrong[4][3] = (uintptr_t)area.sequence + 64;
	for (int i = 0; i < 5; i++)
		SAY("wrong %d: %d\n", i, end_badly(wrong[i]));
	SAY("wild: %d\n", end_badly((uint64_t *)0x123456789000));
	pid_t child = fork();
	if (child == 0) {
		CALL("inherited", registered());
		_exit(0);
	}
	reap("child", child);
	CALL("wrong signature", syscall(334, &area, 32, 1, 0x1234));
	CALL("unregister", syscall(334, &area, 32, 1, 0x53053053));
	CALL("again", registered());
	return 0;
}
