/* Descriptors beyond the standard ones: nothing of the engine's may be among them. Only inside. */
#include "hostile.h"
#include <sys/stat.h>

int main(void)
{
	struct stat info;
	int open_count = 0;

	for (int fd = 3; fd < 70000; fd++)
		if (!fstat(fd, &info) || errno != EBADF)
			open_count++;
	printf("open beyond 2: %d\n", open_count);
	return 0;
}
