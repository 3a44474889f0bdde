/* Memory of a device in a program: the same loads and stores as for RAM, and what the calls about
 * memory say of it. Each line says what Linux says of a mapping by remap_pfn_range. */
#define _GNU_SOURCE
#include "testmem.h"
#include <errno.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void tell(const char *what, long value)
{
	printf("%s: %s\n", what, value < 0 ? strerror(errno) : "done");
}

/* Nobody sleeps there. */
static long wake(const char *addr, int scope)
{
	return syscall(SYS_futex, addr, FUTEX_WAKE | scope, 1, 0, 0, 0);
}

static long faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* Where the line of a mapping says it begins in its file, and a line of its smaps. */
static unsigned long long offset_of(const char *addr)
{
	char line[256];
	unsigned long start;
	unsigned long long offset = 0;
	FILE *file = fopen("/proc/self/maps", "r");

	while (fgets(line, sizeof line, file))
		if (sscanf(line, "%lx-%*x %*s %llx", &start, &offset) == 2 && start == (unsigned long)addr)
			break;
	fclose(file);
	return offset;
}

static void smaps(const char *addr)
{
	char line[256];
	unsigned long start, end;
	int is_here = 0;
	FILE *file = fopen("/proc/self/smaps", "r");

	while (fgets(line, sizeof line, file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			is_here = start == (unsigned long)addr;
		if (is_here && (strstr(line, "/dev") || !strncmp(line, "Rss", 3) ||
				!strncmp(line, "VmFlags", 7)))
			printf("%s", strstr(line, "/dev") ? strstr(line, "/dev") : line);
	}
	fclose(file);
}

static void bytes(void)
{
	char *memory = map(PROT_READ | PROT_WRITE, MAP_SHARED, 4 * PAGE, 0);
	char text[8] = "";
	long before;

	memory[1] = memory[1];
	before = faults();
	for (int page = 0; page < 4; page++)
		strcpy(memory + page * PAGE, "device");
	printf("faults: %ld\n", faults() - before);
	pread(device, text, 7, 2 * PAGE);
	printf("read: %s\n", text);
	pwrite(device, "kernel", 7, 3 * PAGE);
	printf("loaded: %s\n", memory + 3 * PAGE);
	lseek(device, -3, SEEK_END);
	printf("at the end: %zd of 8 read\n", read(device, text, 8));
	printf("behind it: %zd\n", read(device, text, 8));
	tell("a write behind it", write(device, text, 1));
	smaps(memory);
	printf("begins at %llx\n", offset_of(memory + 0));
	if (fork() == 0) {
		strcpy(memory, "child");
		_exit(0);
	}
	wait(0);
	printf("after fork: %s\n", memory);
	munmap(memory, 4 * PAGE);
	memory = map(PROT_READ, MAP_SHARED, PAGE, 0);
	printf("mapped anew: %s\n", memory);
	munmap(memory, PAGE);
}

static void copies(void)
{
	char *own = map(PROT_READ | PROT_WRITE, MAP_PRIVATE, 2 * PAGE, PAGE);
	char *common = map(PROT_READ, MAP_SHARED, 2 * PAGE, PAGE);
	long before = faults();
	char seen = own[0];

	printf("a load: %ld faults\n", faults() - before);
	own[0] = 'D';
	printf("a store: %ld, %s and %s\n", faults() - before, own, common);
	tell("a futex of all in the copy", wake(own, 0));
	tell("in the page behind it", wake(own + PAGE, 0));
	printf("begins at the frame: %d\n", offset_of(own) == info.memory + PAGE);
	smaps(own);
	(void)seen;
	munmap(own, 2 * PAGE);
	munmap(common, 2 * PAGE);
}

static void calls(void)
{
	static const struct {
		int number;
		const char *name;
	} advice[] = {
		{ MADV_DONTNEED, "DONTNEED" }, { MADV_FREE, "FREE" },	  { MADV_COLD, "COLD" },
		{ MADV_PAGEOUT, "PAGEOUT" },   { MADV_DOFORK, "DOFORK" }, { MADV_DODUMP, "DODUMP" },
		{ MADV_POPULATE_READ, "POPULATE_READ" },
		{ MADV_WILLNEED, "WILLNEED" }, { MADV_RANDOM, "RANDOM" }, { MADV_DONTFORK, "DONTFORK" },
	};
	char *memory = map(PROT_READ | PROT_WRITE, MAP_SHARED, 2 * PAGE, 0), seen[2] = { 9, 9 };
	int own = open("/proc/self/mem", O_RDONLY);
	struct testmem_copy copy = { info.memory, info.buffer, 16 };

	for (unsigned i = 0; i < sizeof advice / sizeof *advice; i++)
		tell(advice[i].name, madvise(memory, 2 * PAGE, advice[i].number));
	tell("mlock", mlock(memory, 2 * PAGE));
	tell("msync", msync(memory, 2 * PAGE, MS_SYNC));
	tell("mincore", mincore(memory, 2 * PAGE, (void *)seen));
	printf("in core: %d %d\n", seen[0], seen[1]);
	tell("growing", mremap(memory, 2 * PAGE, 3 * PAGE, MREMAP_MAYMOVE) == MAP_FAILED ? -1 : 0);
	tell("as a debugger", pread64(own, seen, 1, (unsigned long)memory));
	tell("a futex of all", wake(memory, 0));
	tell("a private one", wake(memory, FUTEX_PRIVATE_FLAG));
	strcpy(memory, "moved");
	char *room = mmap(0, 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memory = mremap(memory, 2 * PAGE, 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, room);
	printf("moving: %s\n", memory);
	mprotect(memory, 2 * PAGE, PROT_NONE);
	mprotect(memory, 2 * PAGE, PROT_READ | PROT_WRITE);
	strcpy(memory, "again");
	printf("rights back: %s\n", memory);
	munmap(memory, 2 * PAGE);
	tell("beyond the end", map(PROT_READ, MAP_SHARED, info.memory_bytes + 2 * PAGE, 0) ==
				       MAP_FAILED ? -1 : 0);
	tell("far beyond", map(PROT_READ, MAP_SHARED, PAGE, 1 << 30) == MAP_FAILED ? -1 : 0);
	room = mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	tell("far beyond, in a place that is taken",
	     mmap(room, PAGE, PROT_READ, MAP_SHARED | MAP_FIXED_NOREPLACE, device, 1 << 30) ==
			     MAP_FAILED ? -1 : 0);
	tell("more than fits", map(PROT_READ, MAP_SHARED, -PAGE, 0) == MAP_FAILED ? -1 : 0);
	close(device);
	device = open("/dev/testmem", O_RDONLY);
	tell("where it is, for a reader", ioctl(device, TESTMEM_INFO, &info));
	tell("a copy by a reader", ioctl(device, TESTMEM_COPY, &copy));
	tell("stores through a reader", map(PROT_READ | PROT_WRITE, MAP_SHARED, PAGE, 0) ==
						MAP_FAILED ? -1 : 0);
	tell("stores beyond the end", map(PROT_READ | PROT_WRITE, MAP_SHARED, PAGE, 1 << 30) ==
					      MAP_FAILED ? -1 : 0);
}

int main(void)
{
	open_device();
	bytes();
	copies();
	calls();
	return 0;
}
