/* POPF with every bit, and the direction flag across a signal. */
#include "hostile.h"

static uint64_t popf(uint64_t flags)
{
	__asm__ volatile("push %0; popfq; pushfq; pop %0; cld" : "+r"(flags)::"cc", "memory");
	return flags;
}

static volatile uint64_t flags_in_handler;

static void handler(int number)
{
	(void)number;
	uint64_t flags;
	__asm__ volatile("pushfq; pop %0" : "=r"(flags));
	flags_in_handler = flags & 0x400;
}

int main(void)
{
	for (int bit = 0; bit < 22; bit++) {
		if (bit == 8 || bit == 18)
			continue;
		printf("bit %d: %#lx\n", bit, (unsigned long)popf(1ul << bit));
	}
	signal(SIGUSR1, handler);
	long self = getpid(), result;
	__asm__ volatile("std; syscall; cld" : "=a"(result) : "a"(SYS_kill), "D"(self), "S"(SIGUSR1)
			 : "rcx", "r11", "memory", "cc");
	printf("direction flag in handler: %lu\n", (unsigned long)flags_in_handler);
	return 0;
}
