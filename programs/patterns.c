/*
 * One access pattern for each first argument; the second is a size in bytes (or a count).
 * Minor faults of each since exec are compared with the host kernel's, exactly.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096

static volatile unsigned long sink;

static char *map(size_t bytes, int extra)
{
	char *p = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | extra, -1, 0);

	if (p == MAP_FAILED) {
		perror("mmap");
		exit(9);
	}
	return p;
}

static void touch(volatile char *p, size_t bytes, size_t step)
{
	for (size_t i = 0; i < bytes; i += step)
		p[i] = 1;
}

static void look(volatile char *p, size_t bytes, size_t step)
{
	for (size_t i = 0; i < bytes; i += step)
		sink += p[i];
}

static void anon(size_t n) { touch(map(n, 0), n, PAGE); }

static void anonread(size_t n)
{
	char *p = map(n, 0);

	look(p, n, PAGE);
	touch(p, n, 2 * PAGE);
}

static void populate(size_t n) { touch(map(n, MAP_POPULATE), n, PAGE); }

static void grow_brk(size_t n) { touch(sbrk(n), n, PAGE); }

static void use_malloc(size_t count)
{
	for (size_t i = 0; i < count; i++) {
		char *volatile p = malloc(64);
		*p = 1;
	}
	char *volatile large = malloc(200000);
	large[0] = 1;
	char *volatile medium = malloc(100000);
	medium[0] = 1;
}

__attribute__((noinline)) static int nest(int depth)
{
	volatile char frame[PAGE];

	frame[0] = depth;
	return depth == 0 ? frame[0] : nest(depth - 1) + frame[0];
}

static void stack(size_t depth) { sink = nest(depth); }

static void mprot(size_t n)
{
	char *p = map(n, 0);

	touch(p, n, PAGE);
	for (size_t i = 0; i < n; i += 2 * PAGE)
		mprotect(p + i, PAGE, PROT_READ);
	look(p, n, PAGE);
}

static void dontneed(size_t n)
{
	char *p = map(n, 0);

	for (int round = 0; round < 3; round++) {
		touch(p, n, PAGE);
		madvise(p, n, MADV_DONTNEED);
	}
}

static void move(size_t n)
{
	char *p = map(n, 0);

	touch(p, n, PAGE);
	p = mremap(p, n, 2 * n, MREMAP_MAYMOVE);
	touch(p, 2 * n, PAGE);
}

static void lock(size_t n)
{
	char *p = map(n, 0);

	mlock(p, n);
	touch(p, n, PAGE);
}

/* The hole in the middle, then its refill: split, unmap and merge. */
static void hole(size_t n)
{
	char *p = map(n, 0);

	touch(p, n, PAGE);
	munmap(p + n / 4, n / 2);
	mmap(p + n / 4, n / 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	touch(p, n, PAGE);
}

static void shared(size_t n)
{
	char *p = mmap(0, n, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	touch(p, n, PAGE);
	look(p, n, PAGE);
}

/* A child writes every other page, the parent all of them when the child is gone. */
static void fork_once(size_t n)
{
	char *p = map(n, 0);

	touch(p, n, PAGE);
	if (fork() == 0) {
		touch(p, n, 2 * PAGE);
		_exit(0);
	}
	wait(0);
	touch(p, n, PAGE);
}

/* Four children at once write every page. */
static void fork_four(size_t n)
{
	char *p = map(n, 0);

	touch(p, n, PAGE);
	for (int i = 0; i < 4; i++)
		if (fork() == 0) {
			touch(p, n, PAGE);
			_exit(0);
		}
	while (wait(0) > 0)
		;
	touch(p, n, PAGE);
}

/* Rights taken away and given back: the second write finds a page that is already its own. */
static void toggle(size_t n)
{
	char *p = map(n, 0);

	touch(p, n, PAGE);
	mprotect(p, n, PROT_NONE);
	mprotect(p, n, PROT_READ | PROT_WRITE);
	touch(p, n, PAGE);
}

static void nothing(size_t n) { sink = n; }

static const struct {
	const char *name;
	void (*run)(size_t);
} PATTERNS[] = {
	{ "anon", anon },	  { "anonread", anonread }, { "populate", populate },
	{ "brk", grow_brk },	  { "malloc", use_malloc }, { "stack", stack },
	{ "mprot", mprot },	  { "dontneed", dontneed }, { "mremap", move },
	{ "mlock", lock },	  { "hole", hole },	    { "shared", shared },
	{ "toggle", toggle },	  { "nothing", nothing },
};

int main(int argc, char **argv)
{
	size_t amount = argc > 2 ? strtoul(argv[2], 0, 0) : 0;

	for (size_t i = 0; argc > 1 && i < sizeof PATTERNS / sizeof *PATTERNS; i++) {
		if (!strcmp(argv[1], PATTERNS[i].name)) {
			PATTERNS[i].run(amount);
			return 0;
		}
	}
	return 2;
}
