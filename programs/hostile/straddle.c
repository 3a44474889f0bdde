/* Accesses of every size that cross into a page without the right: nothing may change before. */
#include "hostile.h"

static char *edge;

static void fill(void) { memset(edge - 64, 0x11, 64); }

static void check(void)
{
	for (int i = -64; i < 0; i++)
		if (edge[i] != 0x11)
			printf("changed at %d\n", i);
}

#define CROSS(text, back)                                                                       \
	do {                                                                                    \
		fill();                                                                         \
		TRY(text, __asm__ volatile(text ::"r"(edge - (back)) : "rax", "rdx", "memory",  \
					   "cc", "xmm0"));                                       \
		check();                                                                        \
	} while (0)

static void cross_all(void)
{
	CROSS("movw (%0), %%ax", 1);
	CROSS("movl (%0), %%eax", 3);
	CROSS("movq (%0), %%rax", 7);
	CROSS("movups (%0), %%xmm0", 15);
	CROSS("movw %%ax, (%0)", 1);
	CROSS("movl %%eax, (%0)", 2);
	CROSS("movq %%rax, (%0)", 4);
	CROSS("movups %%xmm0, (%0)", 8);
	CROSS("addl $1, (%0)", 2);
	CROSS("addq %%rax, (%0)", 5);
	CROSS("xchgq %%rax, (%0)", 4);
	CROSS("lock xaddl %%eax, (%0)", 1);
	CROSS("lock cmpxchgq %%rdx, (%0)", 3);
	CROSS("fstpt (%0)", 4);
	CROSS("notl (%0)", 3);
	CROSS("shlq $3, (%0)", 6);
	CROSS("btsq $63, (%0)", 1);
	CROSS("mov %0, %%rax; xchg %%rax, %%rsp; push %%rdx; mov %%rax, %%rsp", -4);
}

int main(void)
{
	catch_signals();
	char *p = pages(3, PROT_READ | PROT_WRITE);
	edge = p + PAGE;
	try_base = (uintptr_t)p;
	mprotect(edge, PAGE, PROT_NONE);
	puts("no rights");
	cross_all();
	mprotect(edge, PAGE, PROT_READ);
	puts("read only");
	cross_all();
	munmap(edge, PAGE);
	puts("unmapped");
	cross_all();
	return 0;
}
