/* rt_sigreturn without any signal: the stack is taken as the frame. */
#include "hostile.h"

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "stack";
	uintptr_t rsp = 0;

	if (!strcmp(how, "null"))
		rsp = 8;
	else if (!strcmp(how, "noncanonical"))
		rsp = 0x8000000000000008;
	else if (!strcmp(how, "kernel"))
		rsp = 0xffffffff81000008;
	else if (!strcmp(how, "zeros"))
		rsp = (uintptr_t)pages(4, PROT_READ | PROT_WRITE) + PAGE;
	else if (!strcmp(how, "ones"))
		rsp = (uintptr_t)memset(pages(4, PROT_READ | PROT_WRITE), 0xff, 4 * PAGE) + PAGE;
	else if (!strcmp(how, "edge"))
		rsp = (uintptr_t)lone_page(PROT_READ | PROT_WRITE) + PAGE - 16;
	puts("before");
	fflush(stdout);
	if (rsp)
		__asm__ volatile("mov %0, %%rsp; mov $15, %%eax; syscall; hlt" ::"r"(rsp) : "memory");
	else
		__asm__ volatile("mov $15, %%eax; syscall; hlt" ::: "memory");
	return 0;
}
