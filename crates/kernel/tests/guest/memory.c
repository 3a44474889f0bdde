/* Calls that need memory. Exit code: 0 if all went well, 1 if a call said that memory is short,
 * 2 if it said something else, or if data is wrong. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096L

static void failed(void)
{
	_exit(errno == ENOMEM || errno == EAGAIN || errno == ENOBUFS || errno == ENFILE ? 1 : 2);
}

static long check(long result)
{
	if (result < 0)
		failed();
	return result;
}

static char *map(long pages, int flags, int file)
{
	char *at = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, flags, file, 0);
	if (at == MAP_FAILED)
		failed();
	return at;
}

static void anonymous(void)
{
	char *at = map(40, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	for (long i = 0; i < 40; i += 3)
		at[i * PAGE] = i;
	at = mremap(at, 40 * PAGE, 80 * PAGE, MREMAP_MAYMOVE);
	if (at == MAP_FAILED)
		failed();
	check(mprotect(at + 10 * PAGE, 3 * PAGE, PROT_READ));
	check(mlock(at, 4 * PAGE));
	check(madvise(at + 40 * PAGE, 4 * PAGE, MADV_POPULATE_WRITE));
	for (long i = 0; i < 40; i += 3)
		if (at[i * PAGE] != i)
			_exit(2);
	if (sbrk(9 * PAGE) == (void *)-1)
		failed();
	memset((char *)sbrk(0) - 9 * PAGE, 1, 9 * PAGE);
}

static void forks(void)
{
	char *own = map(8, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char *common = map(8, MAP_SHARED | MAP_ANONYMOUS, -1);
	memset(own, 1, 8 * PAGE);
	memset(common, 1, 8 * PAGE);
	int status;
	pid_t child = check(fork());
	if (child == 0) {
		memset(own, 2, 4 * PAGE);
		memset(common, 2, 4 * PAGE);
		_exit(0);
	}
	check(waitpid(child, &status, 0));
	if (WIFSIGNALED(status))
		_exit(WTERMSIG(status) == SIGKILL ? 1 : 2);
	if (WEXITSTATUS(status) != 0)
		_exit(WEXITSTATUS(status));
	for (long i = 0; i < 8 * PAGE; i++)
		if (own[i] != 1 || common[i] != (i < 4 * PAGE ? 2 : 1))
			_exit(2);
}

static void files(void)
{
	char page[PAGE];
	int file = check(memfd_create("f", 0));
	memset(page, 7, PAGE);
	for (int i = 0; i < 12; i++)
		if (check(write(file, page, PAGE)) != PAGE)
			_exit(1);
	char *common = map(12, MAP_SHARED, file), *own = map(12, MAP_PRIVATE, file);
	own[5 * PAGE] = 8;
	common[6 * PAGE] = 9;
	if (own[5 * PAGE] != 8 || common[5 * PAGE] != 7 || own[6 * PAGE] != 9)
		_exit(2);
	if (check(pread(file, page, PAGE, 6 * PAGE)) != PAGE || page[0] != 9)
		_exit(2);
	int self = check(open("/proc/self/exe", O_RDONLY));
	if (check(read(self, page, PAGE)) != PAGE || memcmp(page, "\177ELF", 4) != 0)
		_exit(2);
}

static void pipes(void)
{
	int ends[2];
	char bytes[3 * PAGE], back[3 * PAGE];
	check(pipe(ends));
	memset(bytes, 5, sizeof bytes);
	if (check(write(ends[1], bytes, sizeof bytes)) != sizeof bytes)
		_exit(1);
	if (check(read(ends[0], back, sizeof back)) != sizeof back || memcmp(bytes, back, sizeof back))
		_exit(2);
	execl("/proc/self/exe", "memory", "end", (char *)0);
	failed();
}

int main(int count, char **args)
{
	const char *what = count > 1 ? args[1] : "";
	if (!strcmp(what, "anonymous"))
		anonymous();
	else if (!strcmp(what, "forks"))
		forks();
	else if (!strcmp(what, "files"))
		files();
	else if (!strcmp(what, "pipes"))
		pipes();
	return 0;
}
