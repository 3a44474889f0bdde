/* Tasks that pull the memory, the stack and the words of the kernel from under each other. */
#include "hostile.h"
#include <pthread.h>
#include <sched.h>
#include <sys/wait.h>

static volatile int ready;
static char *area;

static void *sleeps(void *argument)
{
	char here;

	*(char **)argument = &here;
	ready = 1;
	usleep(2000);
	return 0;
}

static void unmap_a_stack(void)
{
	pthread_t thread;
	char *there;

	pthread_create(&thread, 0, sleeps, &there);
	while (!ready)
		sched_yield();
	munmap((char *)((uintptr_t)there & ~4095ul) - 4096, 3 * 4096);
	pthread_join(thread, 0);
	printf("joined\n");
}

static void *unmaps_itself(void *argument)
{
	char here;

	munmap((char *)((uintptr_t)&here & ~4095ul), 4096);
	return argument;
}

static void unmap_own_stack(void)
{
	pthread_t thread;

	pthread_create(&thread, 0, unmaps_itself, 0);
	pthread_join(thread, 0);
}

static __attribute__((noinline)) int returns_twice(void)
{
	return syscall(SYS_vfork);
}

static void vfork_returns(void)
{
	if (returns_twice() == 0) {
		char waste[4000];
		memset(waste, 0x55, sizeof waste);
		__asm__ volatile("" ::"r"(waste) : "memory");
		_exit(3);
	}
	wait(0);
	printf("parent\n");
}

static void vfork_writes(void)
{
	volatile char bytes[8192];

	if (vfork() == 0) {
		for (char *p = (char *)bytes - 256; p < (char *)bytes + 16384; p++)
			*p = 0x41;
		_exit(0);
	}
}

/* All flags of clone, one after the other and in pairs, with wild pointers. */
static void wild_clones(void)
{
	static const unsigned long wild[] = { 0, 8, ~0ul, 1ul << 47, 0xffff800000000000, 1ul << 63 };
	long made = 0;

	for (int i = 1; i <= 64; i++)
		signal(i, SIG_IGN);
	signal(SIGCHLD, SIG_DFL);
	for (int i = 0; i < 34; i++)
		for (int j = i; j < 34; j++) {
			unsigned long flags = 1ul << i | 1ul << j;
			int end = flags & 0xff;
			/* What cannot be ignored, and what the library keeps, would end us. */
			if (end == SIGKILL || end == SIGSTOP || end / 4 == 8)
				continue;
			if (flags & (CLONE_VM | CLONE_THREAD | CLONE_UNTRACED))
				continue;
			unsigned long bad = wild[(i + j) % 6];
			long child = syscall(SYS_clone, flags, 0, bad, bad, bad);
			if (child == 0)
				_exit(0);
			made += child > 0;
		}
	while (waitpid(-1, 0, __WALL) > 0)
		made--;
	printf("over\n");
}

static void wild_stacks(void)
{
	static const unsigned long wild[] = { 8, ~0ul, 1ul << 47, 0xffff800000000000, 4096 };

	for (int i = 0; i < 5; i++) {
		long child = syscall(SYS_clone, SIGCHLD | (i % 2 ? CLONE_SETTLS : 0), wild[i], 0, 0,
				     wild[(i + 1) % 5]);
		if (child == 0) {
			__asm__ volatile("push %rax");
			_exit(0);
		}
		int status = 0;
		waitpid(child, &status, 0);
		printf("%d", WIFSIGNALED(status));
	}
	printf("\n");
}

static int ends(void *argument)
{
	syscall(SYS_set_tid_address, argument);
	_exit(0);
}

static void wild_clear_tid(void)
{
	static char stacks[8][4096];
	static const unsigned long wild[] = { 1, 8, ~0ul, 1ul << 47, 0xffff800000000000, 4095 };

	for (int i = 0; i < 6; i++)
		clone(ends, stacks[i] + 4096, CLONE_VM | SIGCHLD, (void *)wild[i]);
	clone(ends, stacks[6] + 4096, CLONE_VM | SIGCHLD, (void *)ends);
	while (wait(0) > 0)
		;
	printf("ended\n");
}

/* Lists of robust futexes that loop, that are wild, that hold what no futex can be. */
static void robust_lists(void)
{
	struct head {
		void *next;
		long offset;
		void *pending;
	};
	static const unsigned long wild[] = { 0, 8, ~0ul, 1ul << 47, 0xffff800000000000, 3 };

	for (int i = 0; i < 48; i++) {
		pid_t child = fork();
		if (child == 0) {
			static struct head head, other;
			static unsigned words[64];
			head.next = i % 8 == 0 ? (void *)&head : i % 8 == 1 ? (void *)&other :
					       (void *)wild[i % 6];
			other.next = i % 2 ? (void *)&other : (void *)&head;
			head.offset = i % 3 == 0 ? wild[i / 3 % 6] : (char *)words - (char *)&other;
			head.pending = (void *)wild[i / 2 % 6];
			words[0] = getpid() | 0x80000000;
			syscall(SYS_set_robust_list, i == 47 ? (void *)wild[1] : &head, 24);
			if (i % 5 == 4)
				kill(getpid(), SIGKILL);
			_exit(0);
		}
		waitpid(child, 0, 0);
	}
	printf("ended\n");
}

static void *busy(void *argument)
{
	for (volatile long i = 0;; i++)
		area[i * 64 % 65536] = i;
	return argument;
}

static char *const again[] = { "/proc/self/exe", "nothing", 0 };

static void *runs_exec(void *argument)
{
	usleep(500);
	execv(again[0], again);
	return argument;
}

/* Several threads run exec at once, while others compute. */
static void exec_race(void)
{
	pthread_t thread;

	area = pages(16, PROT_READ | PROT_WRITE);
	for (int i = 0; i < 8; i++)
		pthread_create(&thread, 0, i % 2 ? busy : runs_exec, 0);
	for (;;)
		pause();
}

static void *bad_exec(void *argument)
{
	static const char *const what[] = { "/etc/passwd", "/", "/dev/null", "", "/proc/self/maps" };

	for (int i = 0; i < 200; i++) {
		execl(what[i % 5], "", (char *)0);
		execv((char *)(i * 0x123456789abcul), (char **)8);
		execve(what[i % 5], (char **)~0ul, (char **)(1ul << 47));
	}
	return argument;
}

static void exec_garbage(void)
{
	pthread_t threads[4];

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], 0, bad_exec, 0);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], 0);
	printf("joined\n");
}

static void *changes(void *argument)
{
	for (int i = 0; i < 300; i++) {
		mprotect(area, 16 * PAGE, i % 3 ? PROT_READ | PROT_WRITE : PROT_NONE);
		madvise(area, 16 * PAGE, MADV_DONTNEED);
		if (i % 10 == 0)
			mmap(area, 16 * PAGE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		if (i % 50 == 0 && fork() == 0)
			_exit(0);
	}
	return argument;
}

static void survives(int number)
{
	mprotect(area, 16 * PAGE, PROT_READ | PROT_WRITE);
}

/* One thread writes what others take away and give back. */
static void race_for_rights(void)
{
	pthread_t threads[3], writer;

	signal(SIGSEGV, survives);
	area = pages(16, PROT_READ | PROT_WRITE);
	pthread_create(&writer, 0, busy, 0);
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], 0, changes, 0);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], 0);
	while (wait(0) > 0)
		;
	printf("over\n");
}

static void clone3_garbage(void)
{
	unsigned long words[16];
	unsigned seed = 1;
	long made = 0;

	for (int i = 0; i < 3000; i++) {
		for (int j = 0; j < 16; j++) {
			seed = seed * 1664525 + 1013904223;
			words[j] = seed % 5 ? 0 : (unsigned long)seed << seed % 33;
		}
		words[0] &= ~0x10100ul;
		words[5] = words[6] = 0;
		long child = syscall(SYS_clone3, i % 7 ? words : (void *)(long)(seed & ~1ul), i % 130);
		if (child == 0)
			_exit(0);
		made += child > 0;
	}
	while (waitpid(-1, 0, __WALL) > 0)
		;
	printf("over\n");
}

/* Processes that share all memory, and end in any order. */
static int sharer(void *argument)
{
	for (int i = 0; i < 100; i++)
		area[i * 64] = i;
	if ((long)argument % 3 == 0)
		kill(getpid(), SIGKILL);
	_exit(0);
}

static void shared_memory(void)
{
	static char stacks[12][8192];

	area = pages(2, PROT_READ | PROT_WRITE);
	for (long i = 0; i < 12; i++)
		clone(sharer, stacks[i] + 8192,
		      CLONE_VM | (i % 2 ? CLONE_FILES : 0) | (i % 4 ? CLONE_FS : 0) | SIGCHLD,
		      (void *)i);
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
		{ "unmap-a-stack", unmap_a_stack },
		{ "unmap-own-stack", unmap_own_stack },
		{ "vfork-returns", vfork_returns },
		{ "vfork-writes", vfork_writes },
		{ "wild-clones", wild_clones },
		{ "wild-stacks", wild_stacks },
		{ "wild-clear-tid", wild_clear_tid },
		{ "robust-lists", robust_lists },
		{ "exec-race", exec_race },
		{ "exec-garbage", exec_garbage },
		{ "race-for-rights", race_for_rights },
		{ "clone3-garbage", clone3_garbage },
		{ "shared-memory", shared_memory },
	};

	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++)
		if (count > 1 && !strcmp(args[1], modes[i].name))
			modes[i].run();
	fflush(stdout);
	_exit(0);
}
