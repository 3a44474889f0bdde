/* Integer division errors of every width. */
#include "hostile.h"

#define DIVIDE(text, high, low, by)                                                     \
	TRY(text, __asm__ volatile(text ::"a"((uint64_t)(low)), "d"((uint64_t)(high)), \
				   "c"((uint64_t)(by)) : "cc"))

int main(void)
{
	catch_signals();
	DIVIDE("divb %%cl", 0, 5, 0);
	DIVIDE("divw %%cx", 0, 5, 0);
	DIVIDE("divl %%ecx", 0, 5, 0);
	DIVIDE("divq %%rcx", 0, 5, 0);
	DIVIDE("idivl %%ecx", -1, 0x80000000, -1);
	DIVIDE("idivq %%rcx", -1, 0x8000000000000000, -1);
	DIVIDE("divb %%cl", 0, 0xffff, 1);
	DIVIDE("divq %%rcx", 7, 0, 7);
	DIVIDE("divq %%rcx", 6, -1, 7);
	DIVIDE("idivb %%cl", 0, 0x7f, 1);
	return 0;
}
