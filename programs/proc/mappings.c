/* What /proc says of mappings besides maps: the links of map_files, the lines of numa_maps. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, PLACES = 4 };
/* Far from all others, so that nothing merges. */
static char *const places[PLACES] = { (char *)0x10000000, (char *)0x20000000, (char *)0x30000000,
				      (char *)0x40000000 };
static char name[64];

static char *map(int place, int pages, int rights, int flags, int file)
{
	return mmap(places[place], pages * PAGE, rights, flags | MAP_FIXED_NOREPLACE, file, 0);
}

/* All links to files in the low addresses, with their rights. */
static void links(const char *when)
{
	DIR *directory = opendir("/proc/self/map_files");
	struct dirent *entry;
	struct stat stat;
	char text[256];

	printf("%s\n", when);
	while (directory && (entry = readdir(directory))) {
		unsigned long start = strtoul(entry->d_name, 0, 16);
		if (start < 0x10000000 || start > 0x50000000)
			continue;
		ssize_t length = readlinkat(dirfd(directory), entry->d_name, text, 255);
		text[length < 0 ? 0 : length] = 0;
		fstatat(dirfd(directory), entry->d_name, &stat, AT_SYMLINK_NOFOLLOW);
		printf("%s %s %o %ld\n", entry->d_name, text, stat.st_mode, (long)stat.st_size);
	}
	closedir(directory);
}

/* A file that must be there. */
static FILE *reader(const char *path)
{
	FILE *file = fopen(path, "r");

	if (!file) {
		perror(path);
		exit(2);
	}
	return file;
}

/* The lines of the low addresses, without what depends on the host: how active pages are, and which
 * nodes they lie on; how many lie on any node is told. */
static void nodes(void)
{
	FILE *file = reader("/proc/self/numa_maps");
	char line[4096];

	while (fgets(line, sizeof line, file)) {
		unsigned long start = strtoul(line, 0, 16);
		unsigned long node, count, total = 0;
		if (start < 0x10000000 || start > 0x50000000)
			continue;
		for (char *word = strtok(line, " \n"); word; word = strtok(0, " \n"))
			if (sscanf(word, "N%lu=%lu", &node, &count) == 2)
				total += count;
			else if (strncmp(word, "active=", 7))
				printf("%s ", word);
		printf("on nodes=%lu\n", total);
	}
	fclose(file);
}

/* Whether links of map_files may be followed: with CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE. */
static int is_capable(void)
{
	FILE *file = reader("/proc/self/status");
	char line[256];
	unsigned long long capabilities = 0;

	while (fgets(line, sizeof line, file))
		if (sscanf(line, "CapEff: %llx", &capabilities) == 1)
			break;
	fclose(file);
	return (capabilities >> 21 | capabilities >> 40) & 1;
}

static void tell(const char *what, long value)
{
	printf("%s: %s\n", what, value < 0 ? strerror(errno) : "done");
}

int main(void)
{
	struct stat one, other;
	char byte;
	int ends[2], status;

	snprintf(name, sizeof name, "/tmp/a mapped=file %d", 7);
	int file = open(name, O_CREAT | O_RDWR | O_TRUNC, 0600);
	ftruncate(file, 4 * PAGE);
	char *own = map(0, 9, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
	char *common = map(1, 5, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1);
	char *copy = map(2, 4, PROT_READ, MAP_PRIVATE, file);
	char *both = map(3, 4, PROT_READ | PROT_WRITE, MAP_SHARED, file);
	links("all");
	for (int i = 0; i < 5; i++)
		own[i * PAGE] = 1;
	common[0] = common[PAGE] = 1;
	volatile char sum = own[7 * PAGE];
	nodes();
	pipe(ends);
	if (fork() == 0) {
		read(ends[0], &byte, 1);
		_exit(0);
	}
	nodes();
	write(ends[1], "x", 1);
	wait(&status);
	int again = open("/proc/self/map_files/30000000-30004000", O_RDONLY);
	int is_refused = again < 0 && errno == EPERM && !is_capable();
	int is_same = again >= 0 && !fstat(file, &one) && !fstat(again, &other) &&
		      one.st_ino == other.st_ino && one.st_dev == other.st_dev;
	printf("the same file, or none for us: %d\n", is_same || is_refused);
	tell("not so", open("/proc/self/map_files/30000000-30003000", O_RDONLY));
	tell("nor so", open("/proc/self/map_files/030000000-30004000", O_RDONLY));
	tell("anonymous", open("/proc/self/map_files/10000000-10009000", O_RDONLY));
	tell("as a directory", open("/proc/self/map_files", O_RDONLY | O_DIRECTORY));
	munmap(copy + PAGE, PAGE);
	mprotect(both, PAGE, PROT_WRITE);
	unlink(name);
	links("in parts, deleted");
	FILE *mounts = reader("/proc/self/mountstats");
	char line[256];
	while (fgets(line, sizeof line, mounts))
		if (strstr(line, " /proc "))
			printf("%s", line);
	(void)sum;
	return 0;
}
