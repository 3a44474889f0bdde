/* What /proc says of other processes and of threads, reduced to what does not depend on the host. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char text[1 << 20];

/* The content of a file below /proc/PID, or "" with errno. */
static const char *slurp(pid_t pid, const char *name)
{
	char path[128];
	ssize_t done = 0, count = 0;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	errno = 0;
	fd = open(path, O_RDONLY);
	if (fd >= 0) {
		while ((count = read(fd, text + done, sizeof text - 1 - done)) > 0)
			done += count;
		int error = errno;
		close(fd);
		errno = error;
	}
	text[done] = 0;
	return text;
}

static char state(pid_t pid)
{
	const char *end = strrchr(slurp(pid, "stat"), ')');

	return end ? end[2] : '?';
}

static void wait_for_state(pid_t pid, char wanted)
{
	while (state(pid) != wanted)
		usleep(1000);
}

static int has(const char *line, const char *word)
{
	return strstr(line, word) != 0;
}

/* A result and its error, the error of this very call. */
static void say(const char *what, long result)
{
	int error = errno;

	printf("%s: %ld %s\n", what, result, result < 0 ? strerror(error) : "");
}

static void show_link(pid_t pid, const char *name)
{
	char path[128], to[256];
	ssize_t bytes;

	snprintf(path, sizeof path, "/proc/%d/%s", pid, name);
	bytes = readlink(path, to, sizeof to - 1);
	if (bytes < 0) {
		printf("%s: %s\n", name, strerror(errno));
		return;
	}
	to[bytes] = 0;
	printf("%s: %s\n", name, to);
}

static void life_of_a_child(void)
{
	int ready[2];
	char byte;
	pid_t pid;

	pipe(ready);
	pid = fork();
	if (!pid) {
		int fd = open("/tmp", O_TMPFILE | O_RDWR, 0600);

		dup2(fd, 40);
		chdir("/usr");
		write(ready[1], "x", 1);
		for (;;)
			pause();
	}
	read(ready[0], &byte, 1);
	wait_for_state(pid, 'S');
	slurp(pid, "status");
	printf("sleeps: threads %d, parent %d, memory %d\n", has(text, "Threads:\t1\n"),
	       atoi(strstr(text, "PPid:\t") + 6) == getpid(), has(text, "VmRSS:"));
	show_link(pid, "cwd");
	show_link(pid, "root");
	snprintf(text, sizeof text, "/proc/%d/exe", pid);
	printf("same program: %d\n", !strcmp(realpath("/proc/self/exe", 0), realpath(text, 0)));
	kill(pid, SIGSTOP);
	wait_for_state(pid, 'T');
	printf("stopped: %d\n", has(slurp(pid, "status"), "State:\tT (stopped)\n"));
	kill(pid, SIGCONT);
	wait_for_state(pid, 'S');
	kill(pid, SIGKILL);
	wait_for_state(pid, 'Z');
	slurp(pid, "status");
	printf("zombie: %d memory %d name %d\n", has(text, "State:\tZ (zombie)\n"), has(text, "VmRSS:"),
	       has(text, "Name:\t"));
	printf("zombie: maps %zu\n", strlen(slurp(pid, "maps")));
	printf("zombie: cmdline %zu\n", strlen(slurp(pid, "cmdline")));
	printf("zombie: statm %s", slurp(pid, "statm"));
	show_link(pid, "cwd");
	show_link(pid, "exe");

	char path[64];
	snprintf(path, sizeof path, "/proc/%d/stat", pid);
	int held = open(path, O_RDONLY);
	snprintf(path, sizeof path, "/proc/%d", pid);
	int directory = open(path, O_RDONLY | O_DIRECTORY);
	waitpid(pid, 0, 0);
	say("gone: read", read(held, text, 100));
	say("gone: openat", openat(directory, "stat", O_RDONLY));
	say("gone: open", open(path, O_RDONLY));
	close(held);
	close(directory);
}

static void *rest(void *stop)
{

	while (!*(volatile int *)stop)
		usleep(1000);
	return 0;
}

static void threads(void)
{
	volatile int stop = 0;
	pthread_t thread[3];
	DIR *tasks;
	struct stat facts;
	int count = 0;

	for (int i = 0; i < 3; i++)
		pthread_create(&thread[i], 0, rest, (void *)&stop);
	tasks = opendir("/proc/self/task");
	for (struct dirent *entry; (entry = readdir(tasks));)
		count += entry->d_name[0] != '.';
	closedir(tasks);
	stat("/proc/self/task", &facts);
	printf("threads: %d listed, %d in status, %d links\n", count,
	       atoi(strstr(slurp(getpid(), "status"), "Threads:\t") + 9), (int)facts.st_nlink);
	stop = 1;
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], 0);
}

static void names_of_files(void)
{
	char path[] = "/tmp/faultline-proc-XXXXXX", moved[64];
	int fd = mkstemp(path);

	write(fd, "some text", 9);
	char *map = mmap(0, 4096, PROT_READ, MAP_SHARED, fd, 0);
	snprintf(moved, sizeof moved, "%s-moved", path);
	rename(path, moved);
	slurp(getpid(), "maps");
	printf("moved: in maps %d, old name %d\n", has(text, "-moved\n"), strstr(text, path) && !has(text, "-moved"));
	unlink(moved);
	printf("deleted: in maps %d\n", has(slurp(getpid(), "maps"), "-moved (deleted)\n"));
	char link[64], to[128];
	snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
	to[readlink(link, to, sizeof to - 1)] = 0;
	int again = open(link, O_RDONLY);
	printf("deleted: in fd %d, opened again %d\n", has(to, "-moved (deleted)"), again >= 0);
	say("deleted: read", read(again, to, sizeof to));
	close(again);
	munmap(map, 4096);
	close(fd);
}

static void writes(void)
{
	static const char *const values[] = { "500", "-1001", "1001", "x", "0" };
	int fd = open("/proc/self/comm", O_WRONLY);

	write(fd, "a name that is too long", 23);
	close(fd);
	printf("comm: %s", slurp(getpid(), "comm"));
	for (int i = 0; i < 5; i++) {
		fd = open("/proc/self/oom_score_adj", O_RDWR);
		errno = 0;
		ssize_t done = write(fd, values[i], strlen(values[i]));
		int error = errno;
		close(fd);
		printf("oom_score_adj %s: %zd %s, is %s", values[i], done, strerror(error),
		       slurp(getpid(), "oom_score_adj"));
	}
}

static void memory_of_a_child(void)
{
	volatile char *page = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned long words[4];
	char path[64], bytes[4] = "?";
	pid_t pid;

	page[0] = 'a';
	page[4096] = 'b';
	(void)page[8192];
	pid = fork();
	if (!pid) {
		for (;;)
			pause();
	}
	wait_for_state(pid, 'S');
	snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
	int fd = open(path, O_RDONLY);
	pread(fd, words, sizeof words, (long)page / 4096 * 8);
	printf("pagemap of the child: %lx %lx %lx %lx\n", words[0] >> 61, words[1] >> 61, words[2] >> 61,
	       words[3] >> 61);
	say("pagemap: seven bytes", pread(fd, words, 7, 0));
	close(fd);
	snprintf(path, sizeof path, "/proc/%d/mem", pid);
	fd = open(path, O_RDWR);
	say("mem: read", pread(fd, bytes, 1, (long)page));
	printf("mem: %c\n", bytes[0]);
	say("mem: write", pwrite(fd, "z", 1, (long)page));
	pread(fd, bytes, 1, (long)page);
	printf("mem: %c, own %c\n", bytes[0], page[0]);
	say("mem: nothing there", pread(fd, bytes, 1, 4096));
	close(fd);
	kill(pid, SIGKILL);
	waitpid(pid, 0, 0);
}

/* The mappings read in small pieces are those read at once, without one twice. */
static void many_mappings(void)
{
	static char small[1 << 20];
	const int count = 2000;
	char *area = mmap(0, count * 8192L, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ssize_t done = 0, got;
	int lines = 0;

	for (int i = 0; i < count; i++)
		mprotect(area + i * 8192L, 4096, PROT_READ);
	slurp(getpid(), "maps");
	int fd = open("/proc/self/maps", O_RDONLY);
	while ((got = read(fd, small + done, 100)) > 0)
		done += got;
	for (char *at = small; (at = strstr(at, "\n")); at++)
		lines++;
	printf("maps: %d lines at least %d, pieces the same %d\n", lines > count, count,
	       !strcmp(small, text));
	lseek(fd, 1000, SEEK_SET);
	got = read(fd, small, 50);
	printf("maps: at 1000 the same %d\n", got == 50 && !memcmp(small, text + 1000, 50));
	close(fd);
	munmap(area, count * 8192L);
}

static void permissions(void)
{
	static const char *const names[] = { "auxv",  "clear_refs", "comm",  "cwd",	  "environ", "exe",
					     "fd",    "fdinfo",	    "io",    "maps",	  "mem",     "ns",
					     "oom_score", "oom_score_adj", "pagemap", "smaps", "stat",
					     "status", "syscall",   "task",  "wchan",	  "personality" };
	struct stat facts;
	char path[64];

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "/proc/self/%s", names[i]);
		int result = lstat(path, &facts);
		printf("%s: %d %o %d\n", names[i], result, facts.st_mode, facts.st_uid == getuid());
	}
}

int main(void)
{
	setvbuf(stdout, 0, _IOLBF, 0);
	life_of_a_child();
	threads();
	names_of_files();
	writes();
	memory_of_a_child();
	many_mappings();
	permissions();
	return 0;
}
