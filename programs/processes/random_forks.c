/*
 * Random changes to memory by up to six processes that fork from each other, one step at a time:
 * what each step gives, and how many faults it costs. The argument is the seed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096ul
#define PAGES 64
#define PROCESSES 6
#define STEPS 400

enum { WRITE, READ, DROP, PROTECT, REPLACE, MOVE, COPY, FORK, REAP, END, KINDS };

struct order { int kind, page, count, what; };
struct answer { long result, faults; };

static char *const private = (char *)0x100000000000;
static char *const shared = (char *)0x200000000000;
static int orders[PROCESSES][2], answers[2], through[2];
static sigjmp_buf back;

static void caught(int signal)
{
	siglongjmp(back, signal);
}

static long faults(void)
{
	struct rusage usage;
	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* Half of the pages of each area, by their number. */
static char *at(int page)
{
	return (page & 1 ? shared : private) + (page >> 1) * PAGE;
}

static long touch(const struct order *order)
{
	volatile long *word = (volatile long *)at(order->page);
	int signal = sigsetjmp(back, 1);
	if (signal)
		return -signal;
	if (order->kind == WRITE)
		return *word = order->what;
	return *word;
}

/* Lets the kernel read from one page and write to another. */
static long copy(const struct order *order)
{
	long done = write(through[1], at(order->page), 100);
	if (done < 0)
		return -errno;
	done = read(through[0], at(order->what), 100);
	if (done < 0) {
		char rest[100];
		int error = errno;
		read(through[0], rest, 100);
		return -error;
	}
	return *(long *)at(order->page) + done;
}

static long range(const struct order *order)
{
	char *start = at(order->page & ~1);
	size_t bytes = order->count * PAGE;
	static const int rights[] = { PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE };
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
	switch (order->kind) {
	case DROP:
		return madvise(start, bytes, MADV_DONTNEED);
	case PROTECT:
		return mprotect(start, bytes, rights[order->what % 3]) ? -errno : 0;
	case REPLACE:
		if (order->what & 1)
			flags |= MAP_POPULATE;
		return mmap(start, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == start;
	default:
		return mremap(start, bytes, bytes, MREMAP_MAYMOVE | MREMAP_FIXED,
			      private + (order->what % PAGES + 2 * PAGES) * PAGE) == MAP_FAILED
			       ? -errno
			       : mmap(start, bytes, PROT_READ | PROT_WRITE, flags, -1, 0) == start;
	}
}

static void serve(int self)
{
	struct order order;
	while (read(orders[self][0], &order, sizeof order) == sizeof order) {
		struct answer answer;
		long before = faults();
		switch (order.kind) {
		case WRITE:
		case READ:
			answer.result = touch(&order);
			break;
		case COPY:
			answer.result = copy(&order);
			break;
		case FORK:
			answer.result = fork();
			if (answer.result == 0) {
				self = order.what;
				continue;
			}
			break;
		case REAP:
			answer.result = waitpid(order.what, 0, 0) == order.what;
			break;
		case END:
			_exit(0);
		default:
			answer.result = range(&order);
		}
		answer.faults = faults() - before;
		write(answers[1], &answer, sizeof answer);
	}
}

static uint64_t state;

static unsigned any(unsigned count)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state % count;
}

static struct answer give(int process, const struct order *order)
{
	struct answer answer = { 0, 0 };
	write(orders[process][1], order, sizeof *order);
	if (order->kind != END)
		read(answers[0], &answer, sizeof answer);
	return answer;
}

static int pids[PROCESSES], parents[PROCESSES];

/* Ends a process; when this returns its memory is gone. */
static void end(int process)
{
	struct order order = { END };
	int parent = parents[process], pid = pids[process];
	give(process, &order);
	if (parent >= 0 && pids[parent]) {
		order = (struct order){ REAP, 0, 0, pid };
		give(parent, &order);
	} else {
		waitpid(pid, 0, 0);
	}
	pids[process] = 0;
	for (int i = 0; i < PROCESSES; i++)
		if (parents[i] == process)
			parents[i] = -1;
}

static void step(int number)
{
	static const int weights[KINDS] = { 10, 8, 1, 1, 1, 1, 3, 3, 0, 2 };
	int process, kind, sum = any(30), free_one = -1, count = 0;
	do
		process = any(PROCESSES);
	while (!pids[process]);
	for (kind = 0; sum >= weights[kind]; kind++)
		sum -= weights[kind];
	for (int i = 0; i < PROCESSES; i++) {
		count += pids[i] != 0;
		free_one = pids[i] ? free_one : i;
	}
	struct order order = { kind, any(2 * PAGES - 20), 1 + any(9), 1 + any(100) };
	if (kind == FORK && free_one < 0 || kind == END && count == 1)
		return;
	if (kind == END) {
		end(process);
		printf("%d: %d ends\n", number, process);
		return;
	}
	if (kind == FORK)
		order.what = free_one;
	if (kind == WRITE)
		order.what = number;
	struct answer answer = give(process, &order);
	if (kind == FORK) {
		pids[free_one] = answer.result;
		parents[free_one] = process;
		answer.result = answer.result > 0;
	}
	/* The frame of a signal is as long as the processor's state: what it costs is no question. */
	if (answer.result == -SIGSEGV)
		answer.faults = 0;
	printf("%d: %d does %d at %d: %ld, %ld faults\n", number, process, kind, order.page,
	       answer.result, answer.faults);
}

int main(int argc, char **argv)
{
	state = 88172645463325252ull + (argc > 1 ? atoi(argv[1]) : 0) * 7919;
	int flags = MAP_ANONYMOUS | MAP_FIXED;
	mmap(private, PAGES * PAGE, PROT_READ | PROT_WRITE, flags | MAP_PRIVATE, -1, 0);
	mmap(shared, PAGES * PAGE, PROT_READ | PROT_WRITE, flags | MAP_SHARED, -1, 0);
	signal(SIGSEGV, caught);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	for (int i = 0; i < PROCESSES; i++) {
		pipe(orders[i]);
		parents[i] = -1;
	}
	pipe(answers);
	pipe(through);
	pids[0] = fork();
	if (pids[0] == 0) {
		serve(0);
		_exit(1);
	}
	for (int i = 0; i < STEPS; i++)
		step(i);
	for (int i = 0; i < PROCESSES; i++)
		if (pids[i])
			end(i);
	return 0;
}
