/* Holds memory of every kind while others look at it, and ends without touching more. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096 };

static void touch(volatile char *at, int pages)
{
	for (int i = 0; i < pages; i++)
		at[i * PAGE] = 1;
}

int main(int count, char **words)
{
	int kind = MAP_PRIVATE | MAP_ANONYMOUS;
	char *own = mmap(0, 1000 * PAGE, PROT_READ | PROT_WRITE, kind, -1, 0);
	char *common = mmap(0, 200 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int file = open(words[0], O_RDONLY);
	char *copy = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	volatile char sum = 0;

	if (count < 2 || own == MAP_FAILED || common == MAP_FAILED || copy == MAP_FAILED)
		return 1;
	touch(own, 700);
	touch(common, 60);
	sum += copy[5];
	long time[2] = { atol(words[1]), 0 };
	/* Both calls from one place: what runs after the sleep has run before. */
	static const long calls[3] = { SYS_close, SYS_nanosleep, SYS_exit_group };
	for (int i = 0; i < 3; i++)
		syscall(calls[i], i == 1 ? (long)time : i == 0 ? file : 0, 0);
}
