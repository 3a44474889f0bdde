/* Instructions that insist on alignment, and EFLAGS.AC. */
#include "hostile.h"

static char area[8192] __attribute__((aligned(4096)));

#define AT(text, offset) \
	TRY(text, __asm__ volatile(text ::"r"(area + (offset)) : "rax", "rbx", "rcx", "rdx", "memory", "cc", "xmm0"))

int main(void)
{
	catch_signals();
	AT("movaps (%0), %%xmm0", 8);
	AT("movaps %%xmm0, (%0)", 1);
	AT("movdqa (%0), %%xmm0", 4088);
	AT("movntdq %%xmm0, (%0)", 4);
	AT("addps (%0), %%xmm0", 4);
	AT("pshufd $0, (%0), %%xmm0", 12);
	AT("lock cmpxchg16b (%0)", 8);
	AT("cmpxchg16b (%0)", 4090);
	AT("fxsave (%0)", 8);
	AT("fxrstor (%0)", 24);
	AT("vmovaps (%0), %%xmm0", 8);
	AT("vmovdqa (%0), %%ymm0", 16);
	AT("vaddps (%0), %%xmm0, %%xmm0", 4);
	AT("lddqu (%0), %%xmm0", 3);
	AT("movups (%0), %%xmm0", 4090);
	AT("lock incl (%0)", 4094);
	return 0;
}
