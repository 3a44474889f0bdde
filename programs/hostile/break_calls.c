/* brk to every extreme: on failure the break stays where it was. */
#include "hostile.h"

int main(void)
{
	unsigned long start = syscall(SYS_brk, 0);
	static const unsigned long wanted[] = { 0, 1, 4096, 0x10000, 0x7fffffffffff, 0x800000000000,
						0xffffffff81000000, -1ul, -4096ul };

	for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
		printf("%#lx: %s\n", wanted[i], (unsigned long)syscall(SYS_brk, wanted[i]) == start ? "unchanged" : "moved");
	printf("+1: %ld\n", (long)(syscall(SYS_brk, start + 1) - start));
	*(volatile char *)start = 1;
	printf("+1 MB: %ld\n", (long)(syscall(SYS_brk, start + (1 << 20)) - start));
	*(volatile char *)(start + (1 << 20) - 1) = 1;
	printf("back: %ld\n", (long)(syscall(SYS_brk, start) - start));
	printf("below: %ld\n", (long)(syscall(SYS_brk, start - PAGE) - start));
	printf("1 TB: %ld\n", (long)(syscall(SYS_brk, start + (1l << 40)) - start) >> 46);
	return 0;
}
