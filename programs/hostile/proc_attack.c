/* Files through which a process could reach what is not its own. Not compared; ours must refuse. */
#include "hostile.h"

static void probe(const char *path, int flags)
{
	int fd = open(path, flags | O_NOCTTY | O_NONBLOCK);
	char bytes[64] = "";
	long got = fd < 0 ? -1 : read(fd, bytes, sizeof bytes - 1);

	printf("%s: %s\n", path, fd < 0 ? "refused" : got < 0 ? "opened" : "read");
	if (fd >= 0 && flags != O_RDONLY) {
		lseek(fd, (off_t)(uintptr_t)probe & ~0xfffl, SEEK_SET);
		(void)!write(fd, "\xcc\xcc\xcc\xcc", 4);
	}
}

int main(void)
{
	probe("/proc/self/mem", O_RDWR);
	probe("/proc/1/mem", O_RDWR);
	probe("/proc/1/environ", O_RDONLY);
	probe("/proc/1/root/etc/shadow", O_RDONLY);
	probe("/proc/self/root/proc/1/environ", O_RDONLY);
	probe("/proc/self/fd/3", O_RDWR);
	probe("/proc/self/fd/5", O_RDWR);
	probe("/proc/self/map_files", O_RDONLY);
	probe("/proc/kcore", O_RDONLY);
	probe("/proc/sys/kernel/core_pattern", O_RDWR);
	probe("/proc/sysrq-trigger", O_WRONLY);
	probe("/sys/kernel/uevent_helper", O_RDWR);
	probe("/dev/mem", O_RDWR);
	probe("/dev/kmsg", O_RDWR);
	probe("/dev/kvm", O_RDWR);
	probe("/dev/vda", O_RDWR);
	probe("/dev/sda", O_RDWR);
	probe("/dev/shm/../mem", O_RDWR);
	probe("/dev/fd/0", O_RDONLY);
	return 0;
}
