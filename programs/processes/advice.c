/* What process_madvise answers, of the process itself and of another. */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static void say(const char *what, long result)
{
	printf("%s: %ld %d\n", what, result, result < 0 ? errno : 0);
}

static long advise(int fd, void *at, size_t bytes, int advice)
{
	struct iovec range = { at, bytes };
	return syscall(SYS_process_madvise, fd, &range, 1, advice, 0);
}

int main(void)
{
	char *at = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char name[40];
	memset(at, 1, 65536);
	int ends[2], status;
	pipe(ends);
	pid_t child = fork();
	if (child == 0) {
		char c;
		close(ends[1]);
		read(ends[0], &c, 1);
		_exit(at[0] + at[32768]);
	}
	int self = syscall(SYS_pidfd_open, getpid(), 0), other = syscall(SYS_pidfd_open, child, 0);
	for (int advice = -1; advice < 25; advice++) {
		/* Before Linux 6.13 no other advice was taken of the process itself either. */
		if (advice == 3 || advice == 20 || advice == 21) {
			sprintf(name, "self %d", advice);
			say(name, advise(self, at, 65536, advice));
		}
		sprintf(name, "other %d", advice);
		say(name, advise(other, at, 65536, advice));
	}
	struct iovec two[3] = { { at, 8192 }, { at + 16384, 4096 }, { at + 1, 4096 } };
	say("two ranges", syscall(SYS_process_madvise, other, two, 2, 20, 0));
	say("the third is not aligned", syscall(SYS_process_madvise, other, two, 3, 20, 0));
	say("none", syscall(SYS_process_madvise, other, two, 0, 20, 0));
	say("not aligned", advise(other, at + 1, 4096, 20));
	munmap(at + 8192, 4096);
	say("a hole of ours", advise(self, at, 65536, 20));
	say("no hole of the other", advise(other, at, 65536, 20));
	say("flags", syscall(SYS_process_madvise, other, two, 1, 20, 1));
	say("many ranges", syscall(SYS_process_madvise, other, two, 1025, 20, 0));
	say("no ranges", syscall(SYS_process_madvise, other, 8, 1, 20, 0));
	say("no process", advise(ends[0], at, 4096, 20));
	say("no file", advise(99, at, 4096, 20));
	say("paged out", advise(other, at, 65536, 21));
	say("wanted", advise(other, at, 65536, 3));
	close(ends[1]);
	waitpid(child, &status, 0);
	printf("the other ended with %d\n", WEXITSTATUS(status));
	say("ended", advise(other, at, 4096, 20));
	return 0;
}
