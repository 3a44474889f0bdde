/* The test device as the kernel of the machine offers it: its memory, then its buffer. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

struct testmem_info {
	uint64_t memory, memory_bytes, buffer, buffer_bytes;
};
struct testmem_copy {
	uint64_t from, to, bytes;
};
#define TESTMEM_INFO _IOR('F', 0, struct testmem_info)
#define TESTMEM_COPY _IOW('F', 1, struct testmem_copy)

enum { PAGE = 4096 };

static int device;
static struct testmem_info info;

static void open_device(void)
{
	device = open("/dev/testmem", O_RDWR);
	if (device < 0 || ioctl(device, TESTMEM_INFO, &info)) {
		perror("/dev/testmem");
		exit(1);
	}
}

static char *map(int rights, int flags, long bytes, long offset)
{
	return mmap(0, bytes, rights, flags, device, offset);
}
