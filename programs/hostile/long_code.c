/* A megabyte of code without a jump, each page ending in the middle of an instruction: a run of more
 * accesses than are counted between two looks at the clock must still be counted and interrupted. */
#include "hostile.h"

#define BYTES (300 * PAGE)

static long cell = 7;

int main(void)
{
	unsigned char *code =
		mmap(0, BYTES + PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	/* push (%rax); pop (%rax): two accesses in two bytes; the odd start makes them straddle. */
	for (unsigned long at = 1; at < BYTES; at += 4)
		memcpy(code + at, "\xff\x30\x8f\x00", 4);
	code[BYTES + 1] = 0xc3;
	for (int round = 0; round < 2; round++) {
		__asm__ volatile("call *%1" ::"a"(&cell), "r"(code + 1) : "memory", "cc");
		printf("round %d: %ld\n", round, cell);
	}
	return 0;
}
