/* Doors of other ABIs: int 0x80, sysenter, the vsyscall page. Not compared; nothing may crash. */
#include "hostile.h"

int main(void)
{
	catch_signals();
	long (*vsyscall_time)(long *) = (void *)0xffffffffff600400;

	TRY("int80", __asm__ volatile("int $0x80" ::"a"(20) : "memory"));
	TRY("int80 wild", __asm__ volatile("int $0x80" ::"a"(0x7fffffff), "b"(-1) : "memory"));
	TRY("sysenter", __asm__ volatile("sysenter" ::"a"(20) : "memory"));
	TRY("vsyscall", vsyscall_time(0));
	TRY("vsyscall odd", ((void (*)(void))0xffffffffff600401)());
	TRY("vsyscall read", (void)*(volatile char *)0xffffffffff600000);
	return 0;
}
