/* The addresses that a program gets, and what lies at their end: the argument, in hexadecimal. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "try.h"

#define PAGE 4096ul
#define ANONYMOUS (MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

static void told(int signal, siginfo_t *info, void *context)
{
	ucontext_t *frame = context;

	printf("signal %d code %d addr %lx trap %d error %d\n", signal, info->si_code,
	       (unsigned long)info->si_addr, (int)frame->uc_mcontext.gregs[REG_TRAPNO],
	       (int)frame->uc_mcontext.gregs[REG_ERR]);
	siglongjmp(back, 1);
}

#define SAY(what) printf(#what ": %s\n", (long)(what) == -1 ? strerrorname_np(errno) : "done")

/* What no VMA covers. */
static void holes(unsigned long end)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long from, to, last = 0;
	char line[512];

	while (fgets(line, sizeof line, maps) && sscanf(line, "%lx-%lx", &from, &to) == 2) {
		if (from != last)
			printf("hole of %lx bytes, %s\n", from - last, strstr(line, "[stack]") ? "below the stack" : "elsewhere");
		last = to;
	}
	printf("last byte %lx, room for %lx more\n", last - 1, end - last);
	fclose(maps);
}

/* The lines of a file whose first word is one of those. */
static void lines(const char *path, const char *words)
{
	FILE *file = fopen(path, "r");
	char line[512], word[64], label[70];

	while (fgets(line, sizeof line, file)) {
		if (sscanf(line, " %60[A-Za-z_]", word) != 1)
			continue;
		snprintf(label, sizeof label, " %s ", word);
		if (strstr(words, label))
			fputs(line, stdout);
	}
	fclose(file);
}

int main(int count, char **arguments)
{
	struct sigaction action = { .sa_sigaction = told, .sa_flags = SA_SIGINFO };
	unsigned long end = strtoul(arguments[1], 0, 16);
	char *kernel = (char *)end, *data, answer[2];
	int null = open("/dev/zero", O_RDWR);

	setvbuf(stdout, 0, _IOFBF, 1 << 16);
	sigaction(SIGSEGV, &action, 0);
	if (count > 2) {
		lines("/proc/meminfo", " MemTotal HighTotal LowTotal VmallocTotal DirectMap ");
		lines("/proc/zoneinfo", " start_pfn managed ");
		return 0;
	}
	printf("vdso %lx below the end\n", end - getauxval(AT_SYSINFO_EHDR));

	/* The last byte of all is the program's; the next is not. */
	printf("last byte %d\n", kernel[-1]);
	TRY(*(volatile char *)kernel);
	TRY(*(volatile char *)kernel = 1);
	TRY(((void (*)(void))kernel)());
	TRY(*(volatile int *)(kernel - 2));
	TRY(*(volatile char *)(kernel + 0x100000));
	TRY(*(volatile char *)0xffffffff);

	/* Whose memory a call may touch. */
	SAY(write(null, kernel - 4, 4));
	SAY(write(null, kernel - 4, 5));
	SAY(write(null, kernel, 1));
	SAY(write(null, kernel, 0));
	SAY(write(null, kernel + 1, 0));
	SAY(read(null, kernel, 1));
	SAY(mincore(kernel - PAGE, PAGE, (void *)answer));
	SAY(mincore(kernel - PAGE, 2 * PAGE, (void *)answer));
	SAY(mincore(kernel, PAGE, (void *)answer));

	/* What may be mapped. */
	SAY(mmap(kernel, PAGE, 3, ANONYMOUS | MAP_FIXED, -1, 0));
	SAY(mmap(kernel - PAGE, 2 * PAGE, 3, ANONYMOUS | MAP_FIXED, -1, 0));
	SAY(mmap(kernel - PAGE, PAGE, 3, ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	SAY(mmap(0, end, 0, ANONYMOUS, -1, 0));
	SAY(mmap(0, end + PAGE, 0, ANONYMOUS, -1, 0));
	SAY(munmap(kernel, PAGE));
	SAY(mprotect(kernel, PAGE, 1));
	SAY(madvise(kernel, PAGE, MADV_DONTNEED));
	SAY(msync(kernel, PAGE, MS_SYNC));
	data = mmap(0, PAGE, 3, ANONYMOUS, -1, 0);
	SAY(mremap(data, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, kernel));
	SAY(mremap(data, PAGE, end, MREMAP_MAYMOVE));
	SAY(brk(kernel));
	SAY(brk(kernel - PAGE));

	/* All of the rest. */
	for (unsigned long bytes = 1ul << 30; bytes >= PAGE; bytes >>= 1)
		while (mmap(0, bytes, 0, ANONYMOUS, -1, 0) != MAP_FAILED)
			;
	printf("then %s\n", strerrorname_np(errno));
	holes(end);
	return 0;
}
