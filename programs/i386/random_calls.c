/* random_calls SEED CHILDREN: each child makes random i386 system calls with random arguments. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "call.h"

enum { CALLS = 60, NUMBERS = 475 };

/* Calls with structures and memory, which chance would name too seldom. */
static const int likely[] = { 3,   4,	45,  82,  89,  90,  91,	 102, 117, 119, 120, 123, 125,
			      141, 163, 173, 174, 180, 192, 219, 240, 243, 333, 370, 372 };
static char area[65536] __attribute__((aligned(4096)));
static char path[] = "/tmp/random_calls";
static uint64_t state;
static int child;

static unsigned next(void)
{
	state ^= state << 13, state ^= state >> 7, state ^= state << 17;
	return state >> 16;
}

static long argument(void)
{
	switch (next() % 12) {
	case 0: return 0;
	case 1: return -1;
	case 2: return next() % 16;
	case 3: return next() % 256;
	case 4: return 4096 << next() % 20;
	case 5: return (long)(area + sizeof area - next() % 64);
	case 6: return (long)path;
	case 7: return 0xffffe000 - next() % 8192;
	case 8: return next();
	default: return (long)area + next() % sizeof area;
	}
}

static void one_call(void)
{
	int number = next() % NUMBERS;
	long list[6];

	if (next() % 4 == 0)
		number = likely[next() % (sizeof likely / sizeof *likely)];
	for (int i = 0; i < 6; i++)
		list[i] = argument();
	switch (number) {
	case 1: case 252: /* exit, exit_group */
		return;
	case 2: case 120: case 190: case 435: /* fork, clone, vfork, clone3 */
		if (next() % 2)
			return;
		break;
	case 102: /* socketcall */
		list[0] = next() % 22;
		break;
	case 117: /* ipc */
		list[0] = next() % 26;
		break;
	case 37: case 178: case 238: case 270: case 335: case 424: /* signals: to oneself */
		list[0] = getpid();
		if (number == 270)
			list[1] = getpid();
		break;
	}
	raw_call(number, list);
}

static void late(int signal)
{
	if (child > 0)
		kill(child, SIGKILL);
	alarm(1);
}

int main(int count, char **arguments)
{
	uint64_t seed = 88172645463325252ull + strtoull(arguments[1], 0, 0) * 2654435761u;
	int children = atoi(arguments[2]);

	signal(SIGALRM, late);
	for (int i = 0; i < children; i++) {
		int status;

		child = fork();
		if (!child) {
			state = (seed + i) | 1;
			setsid();
			for (int i = 0; i < 8; i++)
				next();
			for (int i = 0; i < sizeof area; i += sizeof(long))
				if (next() % 3 == 0)
					*(long *)(area + i) = argument();
			for (int i = 0; i < CALLS; i++)
				one_call();
			_exit(0);
		}
		alarm(1);
		while (child > 0 && waitpid(child, &status, 0) < 0 && !kill(child, 0))
			;
		while (waitpid(-1, &status, WNOHANG) > 0)
			;
	}
	kill(-1, SIGKILL);
	printf("end\n");
}
