/* Misaligned accesses with EFLAGS.AC set: SIGBUS, BUS_ADRALN, and nothing done. */
#include "hostile.h"

static char room[128] __attribute__((aligned(64)));

#define CHECKED(text)                                                                     \
	TRY(text, __asm__ volatile("pushfq; orl $0x40000, (%%rsp); popfq; " text          \
				   "; pushfq; andl $~0x40000, (%%rsp); popfq"             \
				   : "+D"(to), "+S"(from), "+c"(count)                    \
				   : : "rax", "rdx", "xmm0", "memory", "cc"))

int main(void)
{
	char *to, *from;
	long count;

	catch_signals();
	for (int offset = 0; offset < 9; offset++) {
		to = room + offset, from = room + 64, count = 2;
		printf("offset %d\n", offset);
		CHECKED("movq $1, (%%rdi)");
		CHECKED("movl (%%rdi), %%eax");
		CHECKED("movw %%ax, (%%rdi)");
		CHECKED("movb %%al, (%%rdi)");
		CHECKED("lock; addl $1, (%%rdi)");
		CHECKED("pushq (%%rdi); popq %%rax");
		CHECKED("fldl (%%rdi); fstp %%st(0)");
		CHECKED("cpuid; movq (%%rdi), %%rax");
		to = room + offset, from = room + 64, count = 2;
		CHECKED("rep movsq");
		printf("moved %d %d, left %ld\n", (int)(to - room), (int)(from - room), count);
	}
	return 0;
}
