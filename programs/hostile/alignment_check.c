/* EFLAGS.AC: misaligned accesses become SIGBUS. */
#include "hostile.h"

static char area[64] __attribute__((aligned(64)));

int main(void)
{
	catch_signals();
	TRY("aligned with AC", __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq; movl (%0), %%eax;"
						"pushfq; andl $~0x40000, (%%rsp); popfq" ::"r"(area)
						: "rax", "memory", "cc"));
	TRY("misaligned with AC", __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq; movl (%0), %%eax"
						   ::"r"(area + 1) : "rax", "memory", "cc"));
	return 0;
}
