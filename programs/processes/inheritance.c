/* Locks with inheritance whose owners end, waiters moved to them, waits for several words, barriers. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void tell(const char *what, long value)
{
	printf("%s %ld %s\n", what, value, value < 0 ? strerror(errno) : "");
	fflush(stdout);
}
#define T(call) tell(#call, (long)(call))

static volatile uint32_t lock, word, words[4];
static volatile int step;

static long futex(volatile uint32_t *at, int op, long value, void *time, volatile uint32_t *second, long third)
{
	return syscall(SYS_futex, at, op, value, time, second, third);
}

static void pause_ms(long ms)
{
	struct timespec time = { ms / 1000, ms % 1000 * 1000000 };
	nanosleep(&time, 0);
}

static long tid(void) { return syscall(SYS_gettid); }

/* Takes the lock and ends with it. */
static void *forgetful(void *unused)
{
	(void)unused;
	futex(&lock, FUTEX_LOCK_PI, 0, 0, 0, 0);
	step = 1;
	pause_ms(30);
	syscall(SYS_exit, 0);
	return 0;
}

static void *waiter(void *unused)
{
	(void)unused;
	long done = futex(&lock, FUTEX_LOCK_PI, 0, 0, 0, 0);
	T(done);
	T((lock & FUTEX_TID_MASK) == tid());
	T((lock & FUTEX_OWNER_DIED) != 0);
	T(futex(&lock, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
	return 0;
}

static void owner_ends(void)
{
	pthread_t one, two;
	pthread_create(&one, 0, forgetful, 0);
	while (!step)
		pause_ms(1);
	pthread_create(&two, 0, waiter, 0);
	pthread_join(two, 0);
	pthread_join(one, 0);
	T(lock);
	/* The same between processes, in shared memory. */
	uint32_t *shared = mmap(0, 4096, 3, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid = fork();
	if (pid == 0) {
		futex(shared, FUTEX_LOCK_PI, 0, 0, 0, 0);
		shared[1] = 1;
		pause_ms(30);
		_exit(0);
	}
	while (!*(volatile uint32_t *)&shared[1])
		pause_ms(1);
	T(futex(shared, FUTEX_LOCK_PI, 0, 0, 0, 0));
	T((*shared & FUTEX_TID_MASK) == tid());
	T((*shared & FUTEX_OWNER_DIED) != 0);
	waitpid(pid, 0, 0);
}

static void *moved(void *number)
{
	long done = futex(&word, FUTEX_WAIT_REQUEUE_PI, 7, 0, &lock, 0);
	printf("moved %ld %d\n", done, (lock & FUTEX_TID_MASK) == tid());
	fflush(stdout);
	futex(&lock, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	(void)number;
	return 0;
}

static void requeue(void)
{
	pthread_t threads[3];
	struct timespec soon = { 0, 1000 };
	lock = 0;
	word = 7;
	T(futex(&word, FUTEX_WAIT_REQUEUE_PI, 8, 0, &lock, 0));
	T(futex(&word, FUTEX_WAIT_REQUEUE_PI, 7, &soon, &lock, 0));
	T(futex(&word, FUTEX_WAIT_REQUEUE_PI, 7, 0, &word, 0));
	T(futex(&word, FUTEX_CMP_REQUEUE_PI, 2, (void *)9, &lock, 7));
	T(futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &lock, 8));
	T(futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &word, 7));
	T(futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &lock, 7));
	for (int i = 0; i < 3; i++)
		pthread_create(&threads[i], 0, moved, 0);
	pause_ms(30);
	/* The first gets the free lock, the others wait for it. */
	long count = futex(&word, FUTEX_CMP_REQUEUE_PI, 1, (void *)9, &lock, 7);
	for (int i = 0; i < 3; i++)
		pthread_join(threads[i], 0);
	T(count);
	T(lock);
	T(futex(&lock, FUTEX_LOCK_PI, 0, 0, 0, 0));
	pthread_create(&threads[0], 0, moved, 0);
	pause_ms(30);
	T(futex(&word, FUTEX_CMP_REQUEUE_PI, 1, 0, &lock, 7));
	T((lock & FUTEX_WAITERS) != 0);
	count = futex(&lock, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	pthread_join(threads[0], 0);
	T(count);
	T(lock);
}

struct waits { uint64_t value, at; uint32_t flags, reserved; };

static void *wake_third(void *unused)
{
	(void)unused;
	pause_ms(20);
	words[2] = 1;
	return (void *)futex(&words[2], FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, 0, 0, 0);
}

static void several(void)
{
	struct waits waits[4];
	struct timespec end;
	pthread_t thread;
	for (int i = 0; i < 4; i++)
		waits[i] = (struct waits){ 0, (uintptr_t)&words[i], 2 | 128, 0 };
	pthread_create(&thread, 0, wake_third, 0);
	T(syscall(449, waits, 4, 0, 0, CLOCK_MONOTONIC));
	void *woken = 0;
	pthread_join(thread, &woken);
	T(woken);
	T(syscall(449, waits, 4, 0, 0, CLOCK_MONOTONIC));
	T(syscall(449, waits, 0, 0, 0, CLOCK_MONOTONIC));
	T(syscall(449, waits, 129, 0, 0, CLOCK_MONOTONIC));
	T(syscall(449, waits, 2, 1, 0, CLOCK_MONOTONIC));
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += 1000;
	T(syscall(449, waits, 2, 0, &end, CLOCK_MONOTONIC));
	end.tv_sec = 5;
	T(syscall(449, waits, 2, 0, &end, CLOCK_REALTIME));
	T(syscall(449, waits, 2, 0, &end, 2));
	waits[1].reserved = 1;
	T(syscall(449, waits, 2, 0, &end, CLOCK_MONOTONIC));
	waits[1].reserved = 0;
	waits[1].flags = 0;
	T(syscall(449, waits, 2, 0, &end, CLOCK_MONOTONIC));
	waits[1].flags = 2;
	waits[1].at = 3;
	T(syscall(449, waits, 2, 0, &end, CLOCK_MONOTONIC));
	waits[1].at = 4096;
	T(syscall(449, waits, 2, 0, &end, CLOCK_MONOTONIC));
	waits[1].at = (uintptr_t)&words[1];
	waits[1].value = 1ull << 32;
	T(syscall(449, waits, 2, 0, &end, CLOCK_MONOTONIC));
}

static void barriers(void)
{
	if (fork() == 0) {
		T(syscall(SYS_membarrier, 64, 0, 0));
		T(syscall(SYS_membarrier, 512, 0, 0));
		T(syscall(SYS_membarrier, 8, 0, 0));
		_exit(0);
	}
	wait(0);
	T(syscall(SYS_membarrier, 0, 0, 0) & 0x3f);
	T(syscall(SYS_membarrier, 1, 0, 0));
	T(syscall(SYS_membarrier, 8, 0, 0));
	T(syscall(SYS_membarrier, 32, 0, 0));
	T(syscall(SYS_membarrier, 512, 0, 0));
	T(syscall(SYS_membarrier, 16, 0, 0));
	T(syscall(SYS_membarrier, 8, 0, 0));
	T(syscall(SYS_membarrier, 32, 0, 0));
	T(syscall(SYS_membarrier, 64, 0, 0));
	T(syscall(SYS_membarrier, 32, 0, 0));
	T(syscall(SYS_membarrier, 2, 0, 0));
	T(syscall(SYS_membarrier, 4, 0, 0));
	T(syscall(SYS_membarrier, 512, 0, 0));
	T(syscall(SYS_membarrier, 128, 0, 0));
	T(syscall(SYS_membarrier, 256, 0, 0));
	T(syscall(SYS_membarrier, 128, 1, 0));
	T(syscall(SYS_membarrier, 128, 2, 0));
	T(syscall(SYS_membarrier, 8, 1, 0));
	T(syscall(SYS_membarrier, 3, 0, 0));
	T(syscall(SYS_membarrier, -1, 0, 0));
	if (fork() == 0) {
		T(syscall(SYS_membarrier, 512, 0, 0));
		_exit(0);
	}
	wait(0);
}

int main(void)
{
	owner_ends();
	requeue();
	several();
	barriers();
	return 0;
}
