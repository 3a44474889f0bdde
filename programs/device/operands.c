/* Adds 1 to words of memory: with one instruction whose operand is in memory (CISC), or with a load,
 * an addition in a register and a store (RISC).
 *   operands cisc|risc COUNT */
#include <stdlib.h>
#include <string.h>

static volatile long words[64];

int main(int count, char **args)
{
	long rounds = count > 2 ? atol(args[2]) : 0;
	int is_cisc = count > 1 && !strcmp(args[1], "cisc");

	for (long i = 0; i < rounds; i++) {
		volatile long *word = &words[i % 64];
		if (is_cisc)
			__asm__ volatile("addl $1, (%0)" : : "r"(word) : "memory", "cc");
		else
			__asm__ volatile("movl (%0), %%edx\n\taddl $1, %%edx\n\tmovl %%edx, (%0)"
					 : : "r"(word) : "memory", "cc", "edx");
	}
	return 0;
}
