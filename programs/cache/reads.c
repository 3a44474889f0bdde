/* read, pread and readv of a file into buffers of every shape: not aligned, in two pages, in pages
 * never touched, with a page that cannot be written, mapped from the same file, larger than RAM
 * likes ("large"). Prints results, places and sums; same natively. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 64 };

static unsigned long sum(const unsigned char *at, long bytes)
{
	unsigned long total = 5381;
	while (bytes-- > 0)
		total = total * 33 + *at++;
	return total;
}

static void say(const char *what, long result, int fd, const void *at)
{
	printf("%s: %ld %s, place %ld, sum %lx\n", what, result, result < 0 ? strerror(errno) : "-",
	       (long)lseek(fd, 0, SEEK_CUR), result > 0 ? sum(at, result) : 0);
}

static unsigned char *pages(int count)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS;
	void *at = mmap(NULL, (size_t)count * PAGE, PROT_READ | PROT_WRITE, flags, -1, 0);
	if (at == MAP_FAILED)
		exit(3);
	return at;
}

static void shapes(int fd)
{
	unsigned char *at = pages(PAGES + 8);
	for (int shift = 0; shift < PAGE; shift += 1365) {
		lseek(fd, 3 * PAGE + 17, SEEK_SET);
		say("shifted", read(fd, at + shift, 20 * PAGE + 5), fd, at + shift);
	}
	madvise(at, PAGES * PAGE, MADV_DONTNEED);
	say("untouched", pread(fd, at, PAGES * PAGE, 0), fd, at);
	say("over the end", pread(fd, at, PAGES * PAGE, 60 * PAGE + 1), fd, at);
	say("behind the end", pread(fd, at, 10, 1L << 40), fd, at);
	mprotect(at + 2 * PAGE, PAGE, PROT_READ);
	lseek(fd, 100, SEEK_SET);
	say("into a page that is read only", read(fd, at + 7, 5 * PAGE), fd, at + 7);
	say("at once", read(fd, at + 2 * PAGE + 7, 50), fd, at);
	munmap(at + 2 * PAGE, PAGE);
	struct iovec parts[4] = {
		{ at, 100 }, { at + 200, 0 }, { at + PAGE, PAGE - 9 }, { at + 2 * PAGE - 9, 100 },
	};
	say("parts, the last with a hole", readv(fd, parts, 4), fd, at);
	say("before a hole", pread(fd, at + 2 * PAGE - 9, 100, 5), fd, at + 2 * PAGE - 9);
}

static void itself(int fd)
{
	unsigned char *at = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	say("into itself", pread(fd, at + 10, 100, 2000), fd, at);
	say("a page into another", pread(fd, at + 5 * PAGE, PAGE, PAGE), fd, at + 5 * PAGE);
	say("the same page", pread(fd, at + 7 * PAGE, PAGE, 7 * PAGE), fd, at + 7 * PAGE);
	unsigned char *copy = mmap(NULL, PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	say("into a private mapping", pread(fd, copy, 3 * PAGE, PAGE), fd, copy);
	printf("the file has %lx\n", sum(at, PAGES * PAGE));
}

static void code(int fd)
{
	/* mov $N, %eax; ret: read over code that has run. */
	unsigned char text[2][6] = { { 0xb8, 1, 0, 0, 0, 0xc3 }, { 0xb8, 2, 0, 0, 0, 0xc3 } };
	unsigned char *at = mmap(NULL, PAGE, 7, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	for (int round = 0; round < 4; round++) {
		pwrite(fd, text[round % 2], 6, 9 * PAGE);
		if (pread(fd, at, 6, 9 * PAGE) != 6)
			exit(4);
		printf("code says %d\n", ((int (*)(void))at)());
	}
}

/* Buffer and file do not fit in RAM together. */
static void large(const char *name, long bytes)
{
	int fd = open(name, O_RDONLY);
	unsigned char *at = pages((int)(bytes / PAGE));
	memset(at, 1, (size_t)bytes);
	for (int round = 0; round < 2; round++)
		say("large", pread(fd, at, (size_t)bytes, 0), fd, at);
}

int main(int count, char **words)
{
	if (count > 2) {
		large(words[1], atol(words[2]));
		return 0;
	}
	char name[] = "/tmp/reads.XXXXXX";
	int fd = mkstemp(name);
	unlink(name);
	unsigned char *at = pages(PAGES);
	for (int i = 0; i < PAGES * PAGE; i++)
		at[i] = (unsigned char)(i * 7 + i / 251);
	if (write(fd, at, PAGES * PAGE - 5) != PAGES * PAGE - 5 || ftruncate(fd, PAGES * PAGE) != 0)
		return 2;
	pwrite(fd, "x", 1, PAGES * PAGE + 3L * PAGE);
	say("a hole", pread(fd, at, 4 * PAGE, (PAGES - 1) * PAGE), fd, at);
	shapes(fd);
	itself(fd);
	code(fd);
	return 0;
}
