/* Instructions that look at descriptor tables. What they give depends on the processor: not compared. */
#include "hostile.h"

static char scratch[64];

int main(void)
{
	catch_signals();
	TRY("sgdt", __asm__ volatile("sgdt %0" : "=m"(scratch)));
	TRY("sidt", __asm__ volatile("sidt %0" : "=m"(scratch)));
	TRY_ASM("sldt %%eax");
	TRY_ASM("str %%eax");
	TRY_ASM("smsw %%eax");
	TRY_ASM("mov $0x33, %%ecx; lar %%ecx, %%eax");
	TRY_ASM("mov $0x33, %%ecx; lsl %%ecx, %%eax");
	TRY_ASM("mov $0xfff8, %%ecx; lar %%ecx, %%eax");
	TRY_ASM("mov $0x2b, %%eax; verr %%ax");
	TRY_ASM("mov $0x2b, %%eax; verw %%ax");
	return 0;
}
