/* Eight threads and everything that POSIX gives them. */
#include "processes.h"
#include <semaphore.h>

#define THREADS 8
#define ROUNDS 2000

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t filled = PTHREAD_COND_INITIALIZER, emptied = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t shared = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_spinlock_t spin;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_key_t key;
static sem_t tokens;
static __thread long own;
static long counter, spun, initialised, destroyed, queue[4], queued, sum, serial, table[2];

static void initialise(void)
{
	initialised++;
}

static void destroy(void *value)
{
	__atomic_add_fetch(&destroyed, (long)value, __ATOMIC_RELAXED);
}

static void produce(long value)
{
	pthread_mutex_lock(&mutex);
	while (queued == 4)
		pthread_cond_wait(&emptied, &mutex);
	queue[queued++] = value;
	pthread_cond_signal(&filled);
	pthread_mutex_unlock(&mutex);
}

static long consume(void)
{
	pthread_mutex_lock(&mutex);
	while (queued == 0)
		pthread_cond_wait(&filled, &mutex);
	long value = queue[--queued];
	pthread_cond_signal(&emptied);
	pthread_mutex_unlock(&mutex);
	return value;
}

static void *work(void *argument)
{
	long index = (long)argument;

	pthread_once(&once, initialise);
	pthread_setspecific(key, (void *)(index + 1));
	for (int i = 0; i < ROUNDS; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
		pthread_spin_lock(&spin);
		spun++;
		pthread_spin_unlock(&spin);
		own++;
	}
	for (int i = 0; i < 5; i++)
		if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD)
			__atomic_add_fetch(&serial, 1, __ATOMIC_RELAXED);
	for (int i = 0; i < ROUNDS / 10; i++)
		if (index % 2)
			produce(i);
		else
			__atomic_add_fetch(&sum, consume(), __ATOMIC_RELAXED);
	for (int i = 0; i < ROUNDS / 10; i++) {
		if (index == 0) {
			pthread_rwlock_wrlock(&shared);
			table[0]++;
			sched_yield();
			table[1]++;
			pthread_rwlock_unlock(&shared);
		} else {
			pthread_rwlock_rdlock(&shared);
			if (table[0] != table[1])
				abort();
			pthread_rwlock_unlock(&shared);
		}
	}
	sem_wait(&tokens);
	sched_yield();
	sem_post(&tokens);
	return (void *)(own + index);
}

static void undo(void *argument)
{
	SAY("cleaned up: %s\n", (char *)argument);
}

static void *cancelled(void *argument)
{
	pthread_cleanup_push(undo, argument);
	for (;;)
		pause_ms(1000);
	pthread_cleanup_pop(0);
	return 0;
}

static void *asynchronous(void *argument)
{
	int old;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	__atomic_store_n((int *)argument, 1, __ATOMIC_SEQ_CST);
	for (;;)
		;
	return 0;
}

static void *detached(void *argument)
{
	sem_post(argument);
	return 0;
}

static void cancels(void)
{
	pthread_t thread;
	void *result;
	int runs = 0;

	pthread_create(&thread, 0, cancelled, "sleeper");
	pause_ms(5);
	pthread_cancel(thread);
	pthread_join(thread, &result);
	SAY("cancelled: %d\n", result == PTHREAD_CANCELED);
	pthread_create(&thread, 0, asynchronous, &runs);
	while (!__atomic_load_n(&runs, __ATOMIC_SEQ_CST))
		sched_yield();
	pthread_cancel(thread);
	pthread_join(thread, &result);
	SAY("cancelled: %d\n", result == PTHREAD_CANCELED);
}

static void waits(void)
{
	struct timespec until;
	pthread_mutexattr_t attributes;
	pthread_mutex_t checked;
	pthread_attr_t detach;
	pthread_t thread;
	sem_t done;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec = (until.tv_nsec + 5000000) % 1000000000;
	pthread_mutex_lock(&mutex);
	SAY("condition: %d\n", pthread_cond_timedwait(&filled, &mutex, &until) == ETIMEDOUT);
	SAY("mutex: %d\n", pthread_mutex_timedlock(&mutex, &until) == ETIMEDOUT);
	SAY("try: %d\n", pthread_mutex_trylock(&mutex) == EBUSY);
	pthread_mutex_unlock(&mutex);
	sem_init(&done, 0, 0);
	SAY("semaphore: %d\n", sem_timedwait(&done, &until) < 0 && errno == ETIMEDOUT);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(&checked, &attributes);
	pthread_mutex_lock(&checked);
	SAY("checked: %d\n", pthread_mutex_lock(&checked) == EDEADLK);
	pthread_mutex_unlock(&checked);
	SAY("not mine: %d\n", pthread_mutex_unlock(&checked) == EPERM);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&checked, &attributes);
	pthread_mutex_lock(&checked);
	SAY("again: %d\n", pthread_mutex_lock(&checked));
	pthread_attr_init(&detach);
	pthread_attr_setdetachstate(&detach, PTHREAD_CREATE_DETACHED);
	for (int i = 0; i < 200; i++) {
		pthread_create(&thread, &detach, detached, &done);
		sem_wait(&done);
	}
	SAY("200 detached\n");
}

int main(void)
{
	pthread_t threads[THREADS];
	long total = 0;

	pthread_barrier_init(&barrier, 0, THREADS);
	pthread_spin_init(&spin, 0);
	pthread_key_create(&key, destroy);
	sem_init(&tokens, 0, 2);
	for (long i = 0; i < THREADS; i++)
		pthread_create(&threads[i], 0, work, (void *)i);
	for (int i = 0; i < THREADS; i++) {
		void *result;
		pthread_join(threads[i], &result);
		total += (long)result;
	}
	SAY("counter %ld spun %ld own %ld once %ld destroyed %ld\n", counter, spun, total,
	    initialised, destroyed);
	SAY("serial %ld sum %ld table %ld left %ld main's own %ld\n", serial, sum, table[0], queued,
	    own);
	cancels();
	waits();
	return 0;
}
