/* Every privileged instruction: natively each is a signal. */
#include "hostile.h"

static char scratch[512] __attribute__((aligned(64)));

int main(void)
{
	catch_signals();
	TRY_ASM("hlt");
	TRY_ASM("cli");
	TRY_ASM("sti");
	TRY_ASM("in $0x60, %%al");
	TRY_ASM("mov $0x60, %%edx; in %%dx, %%eax");
	TRY_ASM("out %%al, $0x60");
	TRY_ASM("mov $0x60, %%edx; out %%eax, %%dx");
	TRY_ASM("mov $1, %%ecx; mov $0x60, %%edx; insb");
	TRY_ASM("mov $1, %%ecx; mov $0x60, %%edx; rep outsb");
	TRY_ASM("clts");
	TRY_ASM("invd");
	TRY_ASM("wbinvd");
	TRY_ASM("mov %%cr0, %%rax");
	TRY_ASM("mov %%rax, %%cr0");
	TRY_ASM("mov %%cr2, %%rax");
	TRY_ASM("mov %%cr3, %%rax");
	TRY_ASM("mov %%rax, %%cr3");
	TRY_ASM("mov %%cr4, %%rax");
	TRY_ASM("mov %%rax, %%cr8");
	TRY_ASM("mov %%db7, %%rax");
	TRY_ASM("mov %%rax, %%db7");
	TRY_ASM("mov $0x10, %%ecx; rdmsr");
	TRY_ASM("mov $0xc0000080, %%ecx; wrmsr");
	TRY_ASM("swapgs");
	TRY_ASM("sysretq");
	TRY_ASM("xor %%ecx, %%ecx; xor %%edx, %%edx; xor %%eax, %%eax; xsetbv");
	TRY_ASM("mov $3, %%ecx; rdpmc");
	TRY_ASM("ltr %%ax");
	TRY_ASM("lldt %%ax");
	TRY_ASM("lmsw %%ax");
	TRY("lgdt", __asm__ volatile("lgdt %0" ::"m"(scratch)));
	TRY("lidt", __asm__ volatile("lidt %0" ::"m"(scratch)));
	TRY("invlpg", __asm__ volatile("invlpg %0" ::"m"(scratch)));
	return 0;
}
