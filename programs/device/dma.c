/* A device that copies by itself, between physical addresses: its memory and the one page of RAM
 * that is kept for it. Code that it overwrites is new code. */
#define _GNU_SOURCE
#include "testmem.h"
#include <errno.h>
#include <string.h>

static void copy(const char *what, uint64_t from, uint64_t to, uint64_t bytes)
{
	struct testmem_copy copy = { from, to, bytes };

	printf("%s: %s\n", what, ioctl(device, TESTMEM_COPY, &copy) ? strerror(errno) : "done");
}

int main(void)
{
	/* mov eax, 1; ret: the same in 32 and in 64 bits. */
	static const unsigned char one[] = { 0xb8, 1, 0, 0, 0, 0xc3 };
	int all = PROT_READ | PROT_WRITE | PROT_EXEC;

	open_device();
	uint64_t memory = info.memory, buffer = info.buffer, size = info.memory_bytes;
	char *near = map(all, MAP_SHARED, PAGE, 0);
	char *ram = map(PROT_READ | PROT_WRITE, MAP_SHARED, PAGE, size);

	printf("above RAM: %d\n", memory > buffer);
	memcpy(near, one, sizeof one);
	int first = ((int (*)(void))near)();
	memcpy(ram, one, sizeof one);
	ram[1] = 2;
	copy("from RAM", buffer, memory, sizeof one);
	printf("code of the device: %d, then %d\n", first, ((int (*)(void))near)());
	strcpy(near + 100, "by physical address");
	copy("to RAM", memory + 100, buffer + 1000, 32);
	printf("in RAM: %s\n", ram + 1000);
	copy("inside the device", memory + 100, memory + 200, 32);
	printf("in the device: %s\n", near + 200);
	copy("nothing", memory, buffer, 0);
	/* Frames that are not the device's, and ranges that leave its own. */
	copy("a foreign frame", 0x1000, memory, 16);
	copy("into a foreign frame", memory, buffer + PAGE, 16);
	copy("beyond the buffer", memory, buffer + PAGE - 8, 16);
	copy("beyond the device", memory + size - 8, buffer, 16);
	copy("around the end", -8ull, memory, 16);
	copy("too much", memory, buffer, -1ull);
	printf("no structure: %d\n", ioctl(device, TESTMEM_COPY, (void *)8) < 0 && errno == EFAULT);
	printf("no such request: %d\n", ioctl(device, _IO('F', 9)) < 0 && errno == ENOTTY);
	printf("still: %s\n", near + 200);
	return 0;
}
