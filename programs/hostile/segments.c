/* Segment registers and selectors. */
#include "hostile.h"

#define LOAD(register, selector)                                                               \
	TRY("mov " #selector ", " #register, __asm__ volatile("mov %0, %%" #register ::"r"(selector)))

int main(void)
{
	catch_signals();
	LOAD(ds, 0);
	LOAD(es, 0);
	LOAD(ds, 3);
	LOAD(es, 0x2b);
	LOAD(ds, 0x2b);
	LOAD(ds, 0x10);
	LOAD(es, 0x33);
	LOAD(ds, 0x1234);
	LOAD(es, 0xffff);
	LOAD(ss, 0);
	LOAD(ss, 0x33);
	LOAD(ss, 0x2b);
	LOAD(es, 0);
	LOAD(ds, 0);
	TRY("gs 0x1234", __asm__ volatile("mov %0, %%gs" ::"r"(0x1234)));
	TRY_ASM("push %%fs; pop %%rax");
	TRY_ASM("push %%gs; pop %%rax");
	TRY_ASM("mov %%cs, %%eax");
	TRY_ASM("mov %%ss, %%eax");
	return 0;
}
