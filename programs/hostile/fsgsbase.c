/* The bases of fs and gs, by instruction and by system call; the engine's own must stay its own. */
#include "hostile.h"

enum { ARCH_SET_GS = 0x1001, ARCH_SET_FS, ARCH_GET_FS };

static uint64_t cell = 77;

int main(void)
{
	uint64_t own, value = 0;

	catch_signals();
	syscall(SYS_arch_prctl, ARCH_GET_FS, &own);
	CALL("gs kernel half", syscall(SYS_arch_prctl, ARCH_SET_GS, 0xffff800000000000));
	CALL("fs kernel half", syscall(SYS_arch_prctl, ARCH_SET_FS, 0xffff800000000000));
	CALL("gs top", syscall(SYS_arch_prctl, ARCH_SET_GS, 0x7fffffffffff));
	CALL("unknown", syscall(SYS_arch_prctl, 0x9999, 0));
	CALL("bad pointer", syscall(SYS_arch_prctl, ARCH_GET_FS, 8));
	CALL("gs", syscall(SYS_arch_prctl, ARCH_SET_GS, &cell));
	__asm__ volatile("mov %%gs:0, %0" : "=r"(value));
	printf("through gs: %lu\n", (unsigned long)value);
	/* fs points elsewhere for a while: no library call may happen in between. */
	__asm__ volatile("syscall; mov %%fs:0, %0; mov %3, %%rsi; mov %4, %%edi; mov %5, %%eax; syscall"
			 : "=&r"(value)
			 : "a"((long)SYS_arch_prctl), "D"((long)ARCH_SET_FS), "r"(own), "i"(ARCH_SET_FS), "i"(SYS_arch_prctl),
			   "S"(&cell)
			 : "rcx", "r11", "memory");
	printf("through fs: %lu\n", (unsigned long)value);
	return 0;
}
