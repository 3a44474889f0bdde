/* What files of /proc say of this process, reduced to what does not depend on the host. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* The lines of a file that start with one of the names. */
static void lines(const char *path, const char *const *names)
{
	char line[4096];
	FILE *file = fopen(path, "r");

	if (!file) {
		printf("%s: absent\n", path);
		return;
	}
	while (fgets(line, sizeof line, file))
		for (const char *const *name = names; *name; name++)
			if (!strncmp(line, *name, strlen(*name)))
				printf("%s: %s", path, line);
	fclose(file);
}

static void size(const char *path)
{
	char bytes[8192];
	FILE *file = fopen(path, "r");

	printf("%s: %zu bytes\n", path, file ? fread(bytes, 1, sizeof bytes, file) : 0);
	if (file)
		fclose(file);
}

int main(void)
{
	static const char *const status[] = { "Name:",	  "State:",  "Threads:", "VmLck:", "VmStk:",
					      "VmSwap:", "SigBlk:",	"RssShmem:", 0 };
	char *p = mmap(0, 8 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	memset(p, 1, 3 << 20);
	lines("/proc/self/status", status);
	size("/proc/self/cmdline");
	size("/proc/self/environ");
	return 0;
}
