/* Jumps to where no code is. */
#include "hostile.h"

static void jump(uintptr_t address)
{
	try_base = address;
	TRY("jump", ((void (*)(void))address)());
}

int main(void)
{
	static char data[64] = { 0x90, 0xc3 };
	volatile char stack_code[64];

	catch_signals();
	stack_code[0] = (char)0xc3;
	jump(0);
	jump(1);
	jump(0x10000);
	jump(0x7ffffffff000);
	jump(0x7fffffffffff);
	jump(0x800000000000);
	jump(0x8000000000001234);
	jump(0xffff800000000000);
	jump(0xffffffff81000000);
	jump((uintptr_t)data);
	jump((uintptr_t)stack_code);
	jump((uintptr_t)pages(1, PROT_NONE));
	jump((uintptr_t)pages(1, PROT_READ | PROT_WRITE));
	char *gone = pages(1, PROT_READ | PROT_EXEC);
	munmap(gone, PAGE);
	jump((uintptr_t)gone);
	TRY("ret to 0", __asm__ volatile("push $0; ret"));
	TRY("ret to non-canonical", __asm__ volatile("movabs $0x8000000000000000, %%rax; push %%rax; ret" ::: "rax"));
	TRY("jmp through NULL", __asm__ volatile("xor %%eax, %%eax; jmp *(%%rax)" ::: "rax"));
	TRY("call through NULL", __asm__ volatile("xor %%eax, %%eax; call *(%%rax)" ::: "rax"));
	return 0;
}
