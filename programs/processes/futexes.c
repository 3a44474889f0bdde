/* Futexes: private, shared, by bits, moved, with an operation; robust and priority-inheriting ones. */
#include "processes.h"

#define FUTEX_WAIT 0
#define FUTEX_WAKE 1
#define FUTEX_REQUEUE 3
#define FUTEX_CMP_REQUEUE 4
#define FUTEX_WAKE_OP 5
#define FUTEX_LOCK_PI 6
#define FUTEX_UNLOCK_PI 7
#define FUTEX_TRYLOCK_PI 8
#define FUTEX_WAIT_BITSET 9
#define FUTEX_WAKE_BITSET 10
#define FUTEX_PRIVATE_FLAG 128
#define FUTEX_CLOCK_REALTIME 256
#define FUTEX_WAIT_PRIVATE (FUTEX_WAIT | FUTEX_PRIVATE_FLAG)
#define FUTEX_WAKE_PRIVATE (FUTEX_WAKE | FUTEX_PRIVATE_FLAG)
#define FUTEX_CMP_REQUEUE_PRIVATE (FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG)
#define FUTEX_WAKE_OP_PRIVATE (FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG)
#define FUTEX_WAIT_BITSET_PRIVATE (FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG)
#define FUTEX_WAKE_BITSET_PRIVATE (FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG)
#define FUTEX_WAITERS 0x80000000
#define FUTEX_TID_MASK 0x3fffffff
/* Adds the argument; wakes on the second word if its old value was the other. */
#define ADD_IF_EQUAL(argument, other) (1 << 28 | (argument) << 12 | (other))

static long futex(void *word, int operation, int value, void *time, void *second, int third)
{
	return syscall(SYS_futex, word, operation, value, time, second, third);
}

struct sleeper {
	pthread_t thread;
	int *word, operation, bits;
	long result;
	int error;
	volatile int state;
};

static void *sleep_on(void *argument)
{
	struct sleeper *own = argument;

	own->state = 1;
	errno = 0;
	own->result = futex(own->word, own->operation, 0, 0, 0, own->bits);
	own->error = errno;
	own->state = 2;
	return 0;
}

static void start(struct sleeper *sleeper, int *word, int operation, int bits)
{
	memset(sleeper, 0, sizeof *sleeper);
	sleeper->word = word;
	sleeper->operation = operation;
	sleeper->bits = bits;
	pthread_create(&sleeper->thread, 0, sleep_on, sleeper);
	while (!sleeper->state)
		sched_yield();
	pause_ms(10);
}

static void join(const char *name, struct sleeper *sleeper)
{
	pthread_join(sleeper->thread, 0);
	SAY("%s: %ld %d\n", name, sleeper->result, sleeper->error);
}

static int words[8];

static void errors(void)
{
	struct timespec time = { 0, 1000000 }, bad = { 0, 1000000000 }, past = { 0, 1 };
	char *page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	munmap(page + 4096, 4096);
	CALL("misaligned", futex((char *)words + 1, FUTEX_WAIT, 0, 0, 0, 0));
	CALL("other value", futex(words, FUTEX_WAIT, 1, 0, 0, 0));
	CALL("timeout", futex(words, FUTEX_WAIT, 0, &time, 0, 0));
	CALL("bad time", futex(words, FUTEX_WAIT, 0, &bad, 0, 0));
	CALL("bad pointer", futex(page + 4096, FUTEX_WAIT, 0, 0, 0, 0));
	CALL("bad pointer, private", futex(page + 4096, FUTEX_WAIT_PRIVATE, 0, 0, 0, 0));
	CALL("wake bad pointer", futex(page + 4096, FUTEX_WAKE, 1, 0, 0, 0));
	CALL("wake bad pointer, private", futex(page + 4096, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
	CALL("no bits", futex(words, FUTEX_WAIT_BITSET, 0, 0, 0, 0));
	CALL("wake no bits", futex(words, FUTEX_WAKE_BITSET, 1, 0, 0, 0));
	CALL("absolute, past", futex(words, FUTEX_WAIT_BITSET, 0, &past, 0, 1));
	CALL("realtime, past",
	     futex(words, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &past, 0, 1));
	CALL("wrong clock", futex(words, FUTEX_WAKE | FUTEX_CLOCK_REALTIME, 0, 0, 0, 0));
	CALL("no such operation", futex(words, 77, 0, 0, 0, 0));
	CALL("wake nobody", futex(words, FUTEX_WAKE, 1, 0, 0, 0));
	CALL("requeue negative", futex(words, FUTEX_REQUEUE, 1, (void *)-1, words + 1, 0));
	CALL("compare", futex(words, FUTEX_CMP_REQUEUE, 1, 0, words + 1, 5));
	CALL("unlock of another", futex(words, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
	words[0] = syscall(SYS_gettid);
	CALL("lock twice", futex(words, FUTEX_LOCK_PI, 0, 0, 0, 0));
	words[0] = 4000000;
	CALL("owner is gone", futex(words, FUTEX_LOCK_PI, 0, 0, 0, 0));
	words[0] = 0;
	CALL("robust list length", syscall(SYS_set_robust_list, words, 5));
}

static void waking(void)
{
	struct sleeper sleepers[4];

	for (int i = 0; i < 3; i++)
		start(&sleepers[i], words, FUTEX_WAIT_PRIVATE, 0);
	SAY("shared finds private: %ld\n", futex(words, FUTEX_WAKE, 9, 0, 0, 0));
	for (int i = 0; i < 3; i++)
		if (sleepers[i].state == 1)
			SAY("wake 0: %ld\n", futex(words, FUTEX_WAKE_PRIVATE, 0, 0, 0, 0));
	for (int i = 0; i < 3; i++)
		join("slept", &sleepers[i]);
	for (int i = 0; i < 3; i++)
		start(&sleepers[i], words, FUTEX_WAIT_BITSET_PRIVATE, 1 << i);
	SAY("by bits: %ld\n", futex(words, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 6));
	SAY("by bits: %ld\n", futex(words, FUTEX_WAKE_BITSET_PRIVATE, 9, 0, 0, 8));
	SAY("any: %ld\n", futex(words, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
	for (int i = 0; i < 3; i++)
		join("slept", &sleepers[i]);
	for (int i = 0; i < 4; i++)
		start(&sleepers[i], words, FUTEX_WAIT_PRIVATE, 0);
	SAY("moved: %ld\n", futex(words, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, words + 1, 0));
	SAY("there: %ld\n", futex(words + 1, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
	SAY("here: %ld\n", futex(words, FUTEX_WAKE_PRIVATE, 9, 0, 0, 0));
	for (int i = 0; i < 4; i++)
		join("slept", &sleepers[i]);
	start(&sleepers[0], words, FUTEX_WAIT_PRIVATE, 0);
	start(&sleepers[1], words + 1, FUTEX_WAIT_PRIVATE, 0);
	words[1] = 10;
	SAY("operation: %ld, now %d\n",
	    futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1,
		  ADD_IF_EQUAL(5, 10)),
	    words[1]);
	join("first", &sleepers[0]);
	join("second", &sleepers[1]);
	CALL("bad operation", futex(words, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, words + 1, 7 << 28));
	words[1] = 0;
}

/* One word at two addresses in two processes. */
static void shared(void)
{
	int file = memfd_create("word", 0);
	if (ftruncate(file, 8192) < 0)
		return;
	int *word = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	pid_t child = fork();
	if (child == 0) {
		munmap(word, 8192);
		mmap(0, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		int *other = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, file, 4096);
		other[5] = 1;
		long result = futex(other + 5, FUTEX_WAIT, 1, 0, 0, 0);
		_exit(result == 0 ? 0 : 1);
	}
	while (((volatile int *)word)[1024 + 5] == 0)
		pause_ms(1);
	pause_ms(20);
	SAY("private does not reach it: %ld\n", futex(word + 1024 + 5, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0));
	SAY("shared does: %ld\n", futex(word + 1024 + 5, FUTEX_WAKE, 1, 0, 0, 0));
	reap("child", child);
}

static void *locks(void *argument)
{
	long result = futex(argument, FUTEX_LOCK_PI, 0, 0, 0, 0);
	SAY("got it: %ld, mine %d\n", result,
	    (*(int *)argument & FUTEX_TID_MASK) == syscall(SYS_gettid));
	result = futex(argument, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	return (void *)result;
}

static void inheritance(void)
{
	struct timespec soon;
	pthread_t thread;
	int *lock = words + 4;

	CALL("lock", futex(lock, FUTEX_LOCK_PI, 0, 0, 0, 0));
	SAY("mine: %d\n", *lock == syscall(SYS_gettid));
	pthread_create(&thread, 0, locks, lock);
	while (!(*(volatile int *)lock & FUTEX_WAITERS))
		pause_ms(1);
	pause_ms(10);
	futex(lock, FUTEX_UNLOCK_PI, 0, 0, 0, 0);
	pthread_join(thread, 0);
	SAY("free: %d\n", *lock);
	CALL("try", futex(lock, FUTEX_TRYLOCK_PI, 0, 0, 0, 0));
	pid_t child = fork();
	if (child == 0)
		_exit(futex(lock, FUTEX_TRYLOCK_PI, 0, 0, 0, 0) < 0 ? errno : 0);
	int status;
	waitpid(child, &status, 0);
	SAY("try of a child: %d\n", WEXITSTATUS(status) != 0);
	CALL("unlock", futex(lock, FUTEX_UNLOCK_PI, 0, 0, 0, 0));
}

static void *dies_with(void *argument)
{
	pthread_mutex_lock(argument);
	return 0;
}

static void robust(void)
{
	pthread_mutexattr_t attributes;
	pthread_mutex_t *mutex =
		mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pthread_t thread;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(mutex, &attributes);
	pthread_create(&thread, 0, dies_with, mutex);
	pthread_join(thread, 0);
	SAY("owner died: %d\n", pthread_mutex_lock(mutex) == EOWNERDEAD);
	SAY("consistent: %d\n", pthread_mutex_consistent(mutex));
	pthread_mutex_unlock(mutex);
	pid_t child = fork();
	if (child == 0) {
		pthread_mutex_lock(mutex);
		pause_ms(30);
		kill(getpid(), SIGKILL);
	}
	pause_ms(15);
	SAY("owner was killed: %d\n", pthread_mutex_lock(mutex) == EOWNERDEAD);
	pthread_mutex_consistent(mutex);
	pthread_mutex_unlock(mutex);
	reap("child", child);
	child = fork();
	if (child == 0) {
		pthread_mutex_lock(mutex);
		execl("/bin/true", "true", (char *)0);
	}
	reap("child", child);
	SAY("owner ran exec: %d\n", pthread_mutex_lock(mutex) == EOWNERDEAD);
	pthread_mutex_unlock(mutex);
	SAY("not made consistent: %d\n", pthread_mutex_lock(mutex) == ENOTRECOVERABLE);
}

int main(void)
{
	errors();
	waking();
	shared();
	inheritance();
	robust();
	return 0;
}
