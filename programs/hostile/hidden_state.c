/* What must not show the host: time stamps, processor numbers, addresses. Two runs must be equal. */
#include "hostile.h"
#include <cpuid.h>
#include <time.h>

int main(void)
{
	unsigned a, b, c, d;

	for (unsigned leaf = 0; leaf < 32; leaf++) {
		__cpuid_count(leaf, 0, a, b, c, d);
		printf("%#x: %x %x %x %x\n", leaf, a, b, c, d);
	}
	for (unsigned leaf = 0x80000000; leaf < 0x80000020; leaf++) {
		__cpuid_count(leaf, 0, a, b, c, d);
		printf("%#x: %x %x %x %x\n", leaf, a, b, c, d);
	}
	__cpuid_count(0xffffffff, 0xffffffff, a, b, c, d);
	for (int i = 0; i < 5; i++)
		printf("tsc %llu\n", (unsigned long long)__builtin_ia32_rdtsc());
	printf("main %p stack %p heap %p\n", (void *)main, (void *)&a, malloc(10));
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	printf("monotonic %ld.%09ld\n", now.tv_sec, now.tv_nsec);
	clock_gettime(CLOCK_REALTIME, &now);
	printf("real %ld.%09ld\n", now.tv_sec, now.tv_nsec);
	unsigned char random[16];
	syscall(SYS_getrandom, random, sizeof random, 0);
	for (int i = 0; i < 16; i++)
		printf("%02x", random[i]);
	printf("\npid %d ppid %d\n", getpid(), getppid());
	return 0;
}
